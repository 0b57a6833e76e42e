//! `hecc explore`: what a circuit can be compiled to, and which of it nothing else beats.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hecc_ir::graph::Module;
use hecc_ir::tensor::{Tensor, TensorMeta};
use hecc_params::CostModel;
use hecc_passes::compile::{CompileOptions, Report, compile};
use hecc_runtime::{Fusion, Prediction, Schedule, predict};
use serde_json::{Value, json};

use crate::args::{ExploreArgs, Format, Layout, Objective, Packing};
use crate::container::{Digest, write_atomically};
use crate::exit::{Failure, Outcome, STACK_BYTES, Status};
use crate::output;
use crate::plot::{self, Mark};
use crate::point::Point;
use crate::progress::Bar;
use crate::project::{self, Project, digest};

/// What is compiled when nothing is said.
const USUAL: Point = Point {
    opt_level: 2,
    objective: Objective::Levels,
    layout: Layout::Auto,
    max_slots: None,
    ring: None,
    scale_bits: None,
    packing: Packing::Auto,
    precompute: None,
};

/// A circuit that a point compiles to.
struct Found {
    point: Point,
    /// Other points that give the same circuit.
    same: Vec<Point>,
    report: Report,
    prediction: Prediction,
    digest: Digest,
}

pub(crate) fn run(args: &ExploreArgs) -> Outcome {
    if let Some(path) = &args.plot
        && path
            .extension()
            .is_none_or(|e| !e.eq_ignore_ascii_case("svg"))
    {
        return Err(Failure::input(format!(
            "--plot {}: use a file name that ends in .svg",
            path.display()
        )));
    }
    let project = Project::load(&args.file, args.format)?;
    let module = project.pick(args.circuit.as_deref())?;
    let cost = args
        .cost_model
        .as_deref()
        .map(|path| project::read_model(path, "--cost-model"))
        .transpose()?;
    let model = project::prediction_model(args.cost_model.as_deref())?;
    let explorer = Explorer {
        project: &project,
        module,
        cost,
        model,
    };
    let (found, refused) = explorer.explore()?;
    if found.is_empty() {
        // The usual way says why.
        project.program_of(module, &USUAL.options())?;
        return Err(Failure::internal("no point could be compiled"));
    }
    let front = front(&found);
    let shown: Vec<(&Found, bool)> = found
        .iter()
        .zip(&front)
        .map(|(f, best)| (f, *best))
        .filter(|(_, best)| *best || args.all)
        .collect();
    if let Some(path) = &args.plot {
        let text = picture(&module.entry().name, &shown);
        write_atomically(path, false, |out| out.write_all(text.as_bytes()))
            .map_err(Failure::Input)?;
    }
    match args.format {
        Format::Json => output::print_json(&to_json(&args.file, module, &shown, refused))?,
        Format::Human => output::print(&table(&args.file, module, &found, &shown, refused))?,
    }
    Ok(Status::Success)
}

struct Explorer<'a> {
    project: &'a Project,
    module: &'a Module<Tensor>,
    /// What circuits are chosen by, if not what ships.
    cost: Option<CostModel>,
    /// What they are predicted by.
    model: CostModel,
}

impl Explorer<'_> {
    /// Every circuit that some point gives, once, and how many points give none.
    fn explore(&self) -> Outcome<(Vec<Found>, usize)> {
        let bar = Bar::new("exploring".to_owned());
        let mut points = first_points(&self.module.entry().meta);
        let mut results = self.compile_all(&points, &bar, 0)?;
        // The rings and scales around what is chosen by itself.
        let around = results
            .iter()
            .flatten()
            .find(|f| f.point == USUAL)
            .map(|f| parameter_points(&f.report))
            .unwrap_or_default();
        results.extend(self.compile_all(&around, &bar, points.len())?);
        points.extend(around);
        drop(bar);
        let refused = results.iter().filter(|r| r.is_none()).count();
        // Less precision than the usual way gives, or aims at, is no saving.
        let precision = |f: &Found| f.report.precision_bits.unwrap_or(0.0);
        let usual = results.iter().flatten().find(|f| f.point == USUAL);
        let least = usual
            .map_or(0.0, precision)
            .min(CompileOptions::default().target_bits);
        results.retain(|r| r.as_ref().is_some_and(|f| precision(f) >= least));
        let mut found: Vec<Found> = Vec::new();
        for f in results.into_iter().flatten() {
            match found.iter_mut().find(|g| g.digest == f.digest) {
                Some(g) => g.same.push(f.point),
                None => found.push(f),
            }
        }
        Ok((found, refused))
    }

    /// Compiles points on all threads; `None` for those that cannot be compiled.
    fn compile_all(
        &self,
        points: &[Point],
        bar: &Bar,
        before: usize,
    ) -> Outcome<Vec<Option<Found>>> {
        let next = AtomicUsize::new(0);
        let slots: Vec<Mutex<Option<Found>>> = points.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(point) = points.get(i) else { return };
                let found = self.compile(*point);
                if let (Some(slot), Some(found)) = (slots.get(i), found) {
                    *slot
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(found);
                }
                bar.at((before + i) as u64, (before + points.len()) as u64);
            }
        };
        let threads = hecc_runtime::threads().min(points.len());
        std::thread::scope(|scope| {
            let spawned: Result<Vec<_>, _> = (0..threads)
                .map(|_| {
                    std::thread::Builder::new()
                        .stack_size(STACK_BYTES)
                        .spawn_scoped(scope, work)
                })
                .collect();
            spawned.map(drop).map_err(Failure::internal)
        })?;
        Ok(slots
            .into_iter()
            .map(|s| {
                s.into_inner()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            })
            .collect())
    }

    fn compile(&self, point: Point) -> Option<Found> {
        let mut options = point.options();
        options.unoptimized = false;
        if let Some(cost) = &self.cost {
            options.cost = cost.clone();
        }
        let compiled = compile(self.module, &self.project.sources, &options).ok()?;
        let program = compiled.program?;
        let schedule = Schedule::new(&program.circuit, Fusion::On);
        let prediction = predict(
            &program.circuit,
            &program.parameters,
            &schedule,
            &self.model,
            hecc_runtime::threads(),
        );
        Some(Found {
            point,
            same: Vec::new(),
            report: compiled.report,
            prediction,
            digest: digest(&program),
        })
    }
}

/// Optimization levels, objectives, layouts, sizes of vectors, and what the program's attributes leave
/// open: how much the client may compute, and how many instances a slot holds.
fn first_points(meta: &TensorMeta) -> Vec<Point> {
    let usual = USUAL;
    let mut points = vec![usual];
    let mut add = |p: Point| {
        if !points.contains(&p) {
            points.push(p);
        }
    };
    add(Point {
        opt_level: 0,
        ..usual
    });
    for opt_level in 1..=3 {
        for objective in [
            Objective::Levels,
            Objective::Depth,
            Objective::Work,
            Objective::Time,
            Objective::Bandwidth,
        ] {
            add(Point {
                opt_level,
                objective,
                ..usual
            });
        }
    }
    for objective in [Objective::Levels, Objective::Time] {
        add(Point {
            objective,
            layout: Layout::Elements,
            ..usual
        });
        add(Point {
            objective,
            layout: Layout::Tiles,
            ..usual
        });
        for log in 10..=15 {
            add(Point {
                objective,
                layout: Layout::Packed,
                max_slots: Some(1 << log),
                ..usual
            });
        }
    }
    if let Some(allowed) = meta.precompute {
        let factors = (0..).map(|k| 100 << k);
        for percent in factors.take_while(|p| f64::from(*p) < 100.0 * allowed.inputs) {
            for objective in [Objective::Levels, Objective::Time] {
                add(Point {
                    objective,
                    precompute: Some(percent),
                    ..usual
                });
            }
        }
    }
    if meta.batch.is_some() {
        for packing in [Packing::Real, Packing::Complex] {
            for objective in [Objective::Levels, Objective::Bandwidth] {
                add(Point {
                    objective,
                    packing,
                    ..usual
                });
            }
        }
    }
    points
}

/// Rings and scales around those of the usual point.
fn parameter_points(report: &Report) -> Vec<Point> {
    let usual = USUAL;
    let Some(p) = &report.params else {
        return Vec::new();
    };
    let mut points: Vec<Point> = [p.ring_degree / 2, p.ring_degree * 2]
        .into_iter()
        .map(|ring| Point {
            ring: Some(ring),
            ..usual
        })
        .collect();
    for less in [3, 6, 9] {
        points.push(Point {
            scale_bits: Some(p.scale_bits.saturating_sub(less)),
            ..usual
        });
    }
    points
}

impl Found {
    /// What nobody wants more of.
    fn costs(&self) -> [f64; 5] {
        let r = &self.report;
        [
            r.measures.levels as f64,
            self.prediction.evaluate,
            r.measures.width as f64,
            r.encrypted_inputs.bytes as f64,
            r.params
                .as_ref()
                .map_or(0.0, |p| p.ring_degree as f64 * p.log_qp),
        ]
    }
}

/// Which of them no other is as good as in everything and better in something.
fn front(found: &[Found]) -> Vec<bool> {
    let costs: Vec<[f64; 5]> = found.iter().map(Found::costs).collect();
    let dominates = |a: &[f64; 5], b: &[f64; 5]| a != b && a.iter().zip(b).all(|(a, b)| a <= b);
    costs
        .iter()
        .enumerate()
        .map(|(i, b)| {
            // of equals the first stays
            !costs.iter().any(|a| dominates(a, b)) && !costs[..i].contains(b)
        })
        .collect()
}

fn table(
    file: &Path,
    module: &Module<Tensor>,
    found: &[Found],
    shown: &[(&Found, bool)],
    refused: usize,
) -> String {
    let rows = shown
        .iter()
        .map(|(f, best)| {
            let r = &f.report;
            vec![
                f.point.to_string(),
                r.measures.levels.to_string(),
                r.measures.depth.to_string(),
                output::duration(f.prediction.evaluate / 1e3),
                r.measures.width.to_string(),
                format!(
                    "{} in {}",
                    output::bytes(r.encrypted_inputs.bytes),
                    r.encrypted_inputs.count
                ),
                r.params.as_ref().map_or_else(String::new, |p| {
                    format!("N = {}, log2 QP = {:.0}", p.ring_degree, p.log_qp)
                }),
                output::bytes(f.prediction.memory.total() + project::PROCESS_BYTES),
                r.precision_bits
                    .map_or_else(String::new, |b| format!("{b:.1}")),
                if *best { "" } else { "dominated" }.to_owned(),
            ]
        })
        .collect();
    let mut out = format!("{}\n", module.entry().name);
    out.push_str(&output::table(
        &[
            "point",
            "levels",
            "depth",
            "time",
            "width",
            "encrypted inputs",
            "parameters",
            "memory",
            "precision",
            "",
        ],
        rows,
        &[1, 2, 3, 4, 5, 8],
    ));
    let best = shown.iter().filter(|(_, best)| *best).count();
    out.push_str(&format!(
        "\n{} circuits, {best} of them on the front of levels, time, width, inputs and parameters",
        found.len()
    ));
    if refused > 0 {
        out.push_str(&format!("; {refused} ways to compile found no parameters"));
    }
    if let Some((first, _)) = shown.first() {
        out.push_str(&format!(
            "\ntake one: hecc compile {} --circuit {} --point {}\nthe same in flags: {}\n",
            file.display(),
            module.entry().name,
            first.point,
            first.point.flags()
        ));
    }
    out
}

fn to_json(
    file: &Path,
    module: &Module<Tensor>,
    shown: &[(&Found, bool)],
    refused: usize,
) -> Value {
    let points: Vec<Value> = shown
        .iter()
        .map(|(f, best)| {
            let r = &f.report;
            json!({
                "name": f.point.to_string(),
                "flags": f.point.flags(),
                "same": f.same.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "front": best,
                "levels": r.measures.levels,
                "depth": r.measures.depth,
                "width": r.measures.width,
                "encrypted_inputs": r.encrypted_inputs,
                "params": r.params,
                "precision_bits": r.precision_bits,
                "predicted": project::predicted_json(&f.prediction),
                "digest": f.digest.hex(),
            })
        })
        .collect();
    json!({
        "file": file.display().to_string(),
        "circuit": module.entry().name,
        "refused": refused,
        "points": points,
    })
}

fn picture(name: &str, shown: &[(&Found, bool)]) -> String {
    let marks: Vec<Mark> = shown
        .iter()
        .map(|(f, best)| Mark {
            name: f.point.to_string(),
            milliseconds: f.prediction.evaluate,
            levels: f.report.measures.levels,
            bytes: f.report.encrypted_inputs.bytes,
            width: f.report.measures.width,
            ring: f.report.params.as_ref().map_or(0, |p| p.ring_degree),
            best: *best,
        })
        .collect();
    plot::svg(name, &marks)
}
