//! `hecc check`: measures against budgets.

use hecc_ir::graph::Module;
use hecc_ir::tensor::{Budget, Tensor};
use hecc_passes::compile::ReportedMeasures;
use serde_json::{Map, Value, json};

use crate::args::{CheckArgs, Format};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::project::{self, Project};

/// A measure that can be bounded.
struct Measure {
    name: &'static str,
    measured: u64,
    allowed: Option<u64>,
}

impl Measure {
    fn holds(&self) -> bool {
        self.allowed.is_none_or(|most| self.measured <= most)
    }
}

/// One circuit, checked.
struct Checked {
    file: String,
    circuit: String,
    measures: Vec<Measure>,
}

pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let mut checked = Vec::new();
    let mut reported = false;
    for path in &args.files {
        let project = match Project::load(path, args.format) {
            Ok(project) => project,
            // The other files are still worth a look.
            Err(Failure::Reported) => {
                reported = true;
                continue;
            }
            Err(other) => return Err(other),
        };
        let modules: Vec<&Module<Tensor>> = match &args.choice.circuit {
            Some(_) => vec![project.pick(args.choice.circuit.as_deref())?],
            None => project.circuits.iter().collect(),
        };
        for module in modules {
            let options = project::options(&args.choice)?;
            match project.measured(module, &options, &mut |_, _| {}) {
                Ok(compiled) => {
                    let entry = module.entry();
                    let budget = entry.meta.budget.map(|(b, _)| b).unwrap_or_default();
                    checked.push(Checked {
                        file: path.display().to_string(),
                        circuit: entry.name.clone(),
                        measures: measures(&compiled.report.measures, &budget, args),
                    });
                }
                Err(Failure::Reported) => reported = true,
                Err(other) => return Err(other),
            }
        }
    }
    match args.format {
        Format::Json => output::print_json(&to_json(&checked))?,
        Format::Human => output::print(&table(&checked))?,
    }
    if reported {
        return Err(Failure::Reported);
    }
    let mut status = Status::Success;
    for c in &checked {
        for m in c.measures.iter().filter(|m| !m.holds()) {
            status = Status::No;
            anstream::eprintln!(
                "hecc: {}: circuit {}: {} is {} and {} is allowed",
                c.file,
                c.circuit,
                m.name,
                m.measured,
                m.allowed.unwrap_or(0)
            );
        }
    }
    Ok(status)
}

fn measures(now: &ReportedMeasures, budget: &Budget, args: &CheckArgs) -> Vec<Measure> {
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    [
        ("depth", now.depth, budget.depth, args.max_depth),
        ("levels", now.levels, budget.levels, args.max_levels),
        ("width", now.width, budget.width, args.max_width),
        (
            "mult_width",
            now.mult_width,
            budget.mult_width,
            args.max_mult_width,
        ),
        (
            "muls",
            now.ops.mul + now.ops.square,
            budget.muls,
            args.max_muls,
        ),
        (
            "rotations",
            now.ops.rotate,
            budget.rotations,
            args.max_rotations,
        ),
    ]
    .into_iter()
    .map(|(name, measured, declared, flag)| Measure {
        name,
        measured,
        allowed: least(declared, flag),
    })
    .collect()
}

fn table(checked: &[Checked]) -> String {
    let mut rows = Vec::new();
    for c in checked {
        for m in &c.measures {
            rows.push(vec![
                c.file.clone(),
                c.circuit.clone(),
                m.name.to_owned(),
                m.measured.to_string(),
                m.allowed.map_or_else(|| "–".to_owned(), |n| n.to_string()),
                match (m.allowed, m.holds()) {
                    (None, _) => "",
                    (Some(_), true) => "ok",
                    (Some(_), false) => "EXCEEDED",
                }
                .to_owned(),
            ]);
        }
    }
    output::table(
        &["file", "circuit", "measure", "measured", "allowed", ""],
        rows,
        &[3, 4],
    )
}

fn to_json(checked: &[Checked]) -> Value {
    let circuits: Vec<Value> = checked
        .iter()
        .map(|c| {
            let measures: Map<String, Value> = c
                .measures
                .iter()
                .map(|m| {
                    let value = json!({
                        "measured": m.measured,
                        "allowed": m.allowed,
                        "ok": m.holds(),
                    });
                    (m.name.to_owned(), value)
                })
                .collect();
            json!({
                "file": c.file,
                "circuit": c.circuit,
                "measures": measures,
                "ok": c.measures.iter().all(Measure::holds),
            })
        })
        .collect();
    let ok = checked
        .iter()
        .all(|c| c.measures.iter().all(Measure::holds));
    json!({ "circuits": circuits, "ok": ok })
}
