//! `hecc check`: measures against budgets.

use hecc_ir::graph::Module;
use hecc_ir::tensor::{Budget, Tensor};
use serde_json::{Map, Value, json};

use crate::args::{CheckArgs, Format};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::project::Project;

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
            match project.compile(module, &args.choice) {
                Ok(compiled) => {
                    let report =
                        serde_json::to_value(&compiled.report).map_err(Failure::internal)?;
                    let entry = module.entry();
                    let budget = entry.meta.budget.map(|(b, _)| b).unwrap_or_default();
                    checked.push(Checked {
                        file: path.display().to_string(),
                        circuit: entry.name.clone(),
                        measures: measures(&report, &budget, args)?,
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

fn measures(report: &Value, budget: &Budget, args: &CheckArgs) -> Outcome<Vec<Measure>> {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_u64)
            .ok_or_else(|| Failure::internal(format!("the report has no {pointer}")))
    };
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    let measure = |name, measured, declared, flag| Measure {
        name,
        measured,
        allowed: least(declared, flag),
    };
    Ok(vec![
        measure("depth", number("/depth")?, budget.depth, args.max_depth),
        measure("levels", number("/levels")?, budget.levels, args.max_levels),
        measure("width", number("/width")?, budget.width, args.max_width),
        measure(
            "mult_width",
            number("/mult_width")?,
            budget.mult_width,
            args.max_mult_width,
        ),
        measure(
            "muls",
            number("/ops/mul")? + number("/ops/square")?,
            budget.muls,
            args.max_muls,
        ),
        measure(
            "rotations",
            number("/ops/rotate")?,
            budget.rotations,
            args.max_rotations,
        ),
    ])
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
    let ok = checked.iter().all(|c| c.measures.iter().all(Measure::holds));
    json!({ "circuits": circuits, "ok": ok })
}
