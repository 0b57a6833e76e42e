//! `hecc compile`: the report, or the circuit in one of its forms.

use hecc_ir::dot::print_dot;
use hecc_ir::text::{print_circuit, print_module};
use hecc_passes::compile::{Compiled, Report, ReportedMeasures, ReportedPass, Stage};
use hecc_runtime::{Fusion, Prediction, Schedule};
use serde_json::Value;

use crate::args::{Choice, CompileArgs, Emit, Format};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::project::{self, Project};

pub(crate) fn run(args: &CompileArgs) -> Outcome {
    let project = Project::load(&args.file, args.format)?;
    let module = project.pick(args.choice.circuit.as_deref())?;
    let options = project::options(&args.choice)?;
    let mut seen: Vec<String> = Vec::new();
    let mut printed: Vec<String> = Vec::new();
    let mut observer = |pass: &str, stage: Stage<'_>| {
        seen.push(pass.to_owned());
        if args.print_after.iter().any(|p| p == pass || p == "all") {
            printed.push(format!("// after {pass}\n{}", stage_text(stage)));
        }
    };
    let compiled = project.measured(module, &options, &mut observer)?;
    for pass in &args.print_after {
        if pass != "all" && !seen.contains(pass) {
            seen.dedup();
            return Err(Failure::input(format!(
                "--print-after {pass}: no such pass ran: these did: {}",
                seen.join(", ")
            )));
        }
    }
    for text in &printed {
        anstream::eprint!("{text}");
    }
    if args.time_passes {
        anstream::eprint!("{}", times(&compiled.report));
    }
    let circuit = &compiled.circuit;
    match (args.emit, args.format) {
        (Some(Emit::Ir), _) => output::print(&print_circuit(circuit))?,
        (Some(Emit::Plan), _) => {
            output::print(&Schedule::new(circuit, Fusion::On).to_text(circuit))?;
        }
        (Some(Emit::Dot), _) => output::print(&print_dot(circuit, Some(&project.sources)))?,
        (None, Format::Json) => {
            let mut value = serde_json::to_value(&compiled.report).map_err(Failure::internal)?;
            value["predicted"] = match &predicted(&compiled, &args.choice)? {
                Some(p) => project::predicted_json(p),
                None => Value::Null,
            };
            value["digest"] = match &compiled.program {
                Some(program) => project::digest(program).hex().into(),
                None => Value::Null,
            };
            output::print_json(&value)?;
        }
        (None, Format::Human) => {
            let predicted = predicted(&compiled, &args.choice)?;
            output::print(&human(&compiled.report, predicted.as_ref()))?;
        }
    }
    Ok(Status::Success)
}

/// What a run is predicted to need, when there is a program that can be run.
fn predicted(compiled: &Compiled, choice: &Choice) -> Outcome<Option<Prediction>> {
    let schedule = |c| Schedule::new(c, Fusion::On);
    compiled
        .program
        .as_ref()
        .map(|p| project::predicted(p, &schedule(&p.circuit), choice))
        .transpose()
}

fn stage_text(stage: Stage<'_>) -> String {
    match stage {
        Stage::Tensor(module) => print_module(module),
        Stage::Slots(circuit) => print_circuit(circuit),
        Stage::Ckks(circuit) => print_circuit(circuit),
    }
}

/// Ring, modulus, scale and security in one line.
pub(crate) fn parameters(report: &Report) -> String {
    match &report.params {
        Some(p) => format!(
            "N = {}, log2 QP = {:.1} ({} + {} primes), scale 2^{}, {}",
            p.ring_degree,
            p.log_qp,
            p.limbs,
            p.special_primes,
            p.scale_bits,
            match p.security_bits {
                0 => "NO SECURITY".to_owned(),
                bits => format!("{bits}-bit security"),
            }
        ),
        None => "none: no secure parameters have room for this circuit".to_owned(),
    }
}

fn human(report: &Report, predicted: Option<&Prediction>) -> String {
    let mut out = format!("{}\n", report.circuit);
    out.push_str(&measures(report));
    out.push('\n');
    let rotations = report.keys.rotations.len();
    let relinearization = if report.keys.relinearization {
        "one for relinearization"
    } else {
        "none for relinearization"
    };
    let conjugation = if report.keys.conjugation {
        "one for conjugation, "
    } else {
        ""
    };
    let mut facts = vec![
        ("parameters", parameters(report)),
        (
            "keys",
            format!("{relinearization}, {conjugation}{rotations} for rotations"),
        ),
        (
            "inputs",
            format!(
                "{} ciphertexts, {}",
                report.encrypted_inputs.count,
                output::bytes(report.encrypted_inputs.bytes)
            ),
        ),
    ];
    if let Some(p) = &report.params {
        facts.insert(
            1,
            (
                "slots",
                format!(
                    "{} of {}{}",
                    p.slots,
                    p.ring_degree / 2,
                    if p.complex {
                        ", two instances in each"
                    } else {
                        ""
                    }
                ),
            ),
        );
    }
    if let Some(bits) = report.precision_bits {
        facts.push(("precision", format!("{bits:.1} bits promised")));
    }
    if let Some(p) = &report.precompute {
        let sent = p
            .sent
            .iter()
            .map(|s| format!("{} {}", s.value, hecc_ir::tensor::shape_name(&s.shape)))
            .collect::<Vec<_>>()
            .join(", ");
        facts.push((
            "sent beside",
            if p.sent.is_empty() {
                "nothing: no product of inputs within the limits of `@precompute` saves anything"
                    .to_owned()
            } else {
                format!(
                    "{sent}: saves {} levels; {} ciphertexts without",
                    p.levels_saved, p.inputs_without
                )
            },
        ));
    }
    if let Some(p) = predicted {
        let time = |ms: f64| output::duration(ms / 1e3);
        facts.push((
            "predicted",
            format!(
                "evaluate {} on {} threads ({} on one; longest path {}), keygen {}, encrypt {}, decrypt {}",
                time(p.evaluate),
                hecc_runtime::threads(),
                time(p.work),
                time(p.critical_path),
                time(p.keygen),
                time(p.encrypt),
                time(p.decrypt)
            ),
        ));
        facts.push((
            "memory",
            format!(
                "{} predicted: keys {}, ciphertexts and plaintexts {}",
                output::bytes(p.memory.total() + project::PROCESS_BYTES),
                output::bytes(p.memory.keys),
                output::bytes(p.memory.values)
            ),
        ));
    }
    let growth = &report.work_growth;
    facts.push((
        "work growth",
        format!("{:.2}× of at most {}×", growth.ratio, growth.limit),
    ));
    for note in &report.notes {
        facts.push(("note", note.clone()));
    }
    let rows = facts
        .into_iter()
        .map(|(k, v)| vec![k.to_owned(), v])
        .collect();
    out.push_str(&output::table(&[], rows, &[]));
    if !report.budget.is_empty() {
        let rows = report
            .budget
            .iter()
            .map(|b| {
                let verdict = if b.holds { "ok" } else { "EXCEEDED" };
                vec![
                    b.measure.to_owned(),
                    b.value.to_string(),
                    b.limit.to_string(),
                    verdict.to_owned(),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&output::table(
            &["budget", "measured", "allowed", ""],
            rows,
            &[1, 2],
        ));
    }
    out.push('\n');
    out.push_str(&passes(report));
    out.push('\n');
    out.push_str(&critical_path(report));
    out
}

/// Every measure as written and now.
fn measures(report: &Report) -> String {
    let now = &report.measures;
    let written = report.unoptimized.as_ref();
    let mut rows = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&ReportedMeasures) -> u64, note: String| {
        let before = written.map_or_else(|| "?".to_owned(), |m| of(m).to_string());
        rows.push(vec![name.to_owned(), before, of(now).to_string(), note]);
    };
    let bound = report.depth_lower_bound;
    let optimal = if report.optimal { ": optimal" } else { "" };
    row(
        "depth",
        &|m| m.depth,
        format!("lower bound {bound}{optimal}"),
    );
    row("levels", &|m| m.levels, String::new());
    row("width", &|m| m.width, String::new());
    row("mult_width", &|m| m.mult_width, String::new());
    row("degree", &|m| m.degree, String::new());
    type Count = (&'static str, fn(&ReportedMeasures) -> u64);
    let counts: [Count; 9] = [
        ("add", |m| m.ops.add),
        ("sub", |m| m.ops.sub),
        ("neg", |m| m.ops.neg),
        ("mul", |m| m.ops.mul),
        ("square", |m| m.ops.square),
        ("mul_plain", |m| m.ops.mul_plain),
        ("rotate", |m| m.ops.rotate),
        ("relinearize", |m| m.ops.relinearize),
        ("rescale", |m| m.ops.rescale),
    ];
    for (name, of) in counts {
        if of(now) > 0 || written.is_some_and(|m| of(m) > 0) {
            row(name, &of, String::new());
        }
    }
    output::table(&["", "as written", "now", ""], rows, &[1, 2])
}

fn change<T: PartialEq + ToString>(of: (T, T)) -> String {
    if of.0 == of.1 {
        of.0.to_string()
    } else {
        format!("{} → {}", of.0.to_string(), of.1.to_string())
    }
}

/// What each pass changed.
fn passes(report: &Report) -> String {
    let rows = report
        .passes
        .iter()
        .map(|p| {
            vec![
                p.name.clone(),
                change(p.nodes),
                change(p.depth),
                change(p.levels),
                change((round(p.work.0), round(p.work.1))),
                gain(p),
            ]
        })
        .collect();
    output::table(
        &["pass", "nodes", "depth", "levels", "work", "gained"],
        rows,
        &[],
    )
}

fn round(work: f64) -> String {
    format!("{work:.0}")
}

/// What a pass gained, in words.
fn gain(p: &ReportedPass) -> String {
    if !p.kept {
        return "not taken: no gain, or too much work".to_owned();
    }
    let count = |what: &str, (before, after): (u32, u32)| {
        (before != after).then(|| format!("{what} {:+}", i64::from(after) - i64::from(before)))
    };
    let work = (p.work.0 > 0.0 && p.work.0 != p.work.1)
        .then(|| format!("work {:+.0} %", 100.0 * (p.work.1 / p.work.0 - 1.0)));
    let gained: Vec<String> = [count("depth", p.depth), count("levels", p.levels), work]
        .into_iter()
        .flatten()
        .collect();
    gained.join(", ")
}

/// How long each pass took.
fn times(report: &Report) -> String {
    let rows = report
        .passes
        .iter()
        .map(|p| {
            vec![
                p.name.clone(),
                output::duration(p.milliseconds / 1e3),
                gain(p),
            ]
        })
        .collect();
    output::table(&["pass", "time", "gained"], rows, &[1])
}

fn critical_path(report: &Report) -> String {
    let rows = report
        .critical_path
        .iter()
        .map(|step| {
            let op = match step.times {
                1 => step.op.clone(),
                n => format!("{} ×{n}", step.op),
            };
            vec![
                op,
                step.depth.to_string(),
                step.levels.to_string(),
                step.at.clone(),
                step.source.clone(),
            ]
        })
        .collect();
    output::table(
        &["critical path", "depth", "levels", "at", "source"],
        rows,
        &[1, 2],
    )
}
