//! `hecc compile`: the report, or the circuit in one of its forms.

use std::fmt::Write as _;

use hecc_ir::ckks::{Ckks, CkksType};
use hecc_ir::graph::{Circuit, Dialect};
use hecc_runtime::{Fusion, Schedule};
use serde_json::Value;

use crate::args::{CompileArgs, Emit, Format};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::project::{self, Project};

pub(crate) fn run(args: &CompileArgs) -> Outcome {
    let project = Project::load(&args.file, args.format)?;
    let module = project.pick(args.choice.circuit.as_deref())?;
    let options = hecc_passes::CompileOptions {
        print_after: args.print_after.clone(),
        ..project::options(&args.choice)
    };
    let compiled = project.compile_with(module, options)?;
    for (pass, text) in &compiled.printed {
        anstream::eprintln!("// after {pass}\n{text}");
    }
    let report = serde_json::to_value(&compiled.report).map_err(Failure::internal)?;
    if args.time_passes {
        anstream::eprint!("{}", passes(&report, true));
    }
    let circuit = &compiled.program.circuit;
    match (args.emit, args.format) {
        (Some(Emit::Ir), _) => output::print(&hecc_ir::text::print_circuit(circuit))?,
        (Some(Emit::Plan), _) => {
            output::print(&Schedule::new(circuit, Fusion::On).to_text(circuit))?;
        }
        (Some(Emit::Dot), _) => output::print(&dot(circuit, &project))?,
        (None, Format::Json) => output::print_json(&report)?,
        (None, Format::Human) => output::print(&human(&report))?,
    }
    Ok(Status::Success)
}

/// A JSON value in a table.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "?".to_owned(),
        Value::Number(n) => match n.as_f64() {
            Some(x) if x.fract() != 0.0 => format!("{x:.1}"),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

fn at(report: &Value, pointer: &str) -> String {
    report.pointer(pointer).map_or_else(|| "?".to_owned(), shown)
}

/// Ring, modulus, scale and security in one line.
pub(crate) fn parameters(report: &Value) -> String {
    format!(
        "N = {}, log2 QP = {}, scale 2^{}, {}-bit security",
        at(report, "/params/ring_degree"),
        at(report, "/params/log_qp"),
        at(report, "/params/scale_bits"),
        at(report, "/params/security_bits"),
    )
}

fn human(report: &Value) -> String {
    let mut out = String::new();
    let row = |name: &str, key: &str, note: String| {
        vec![
            name.to_owned(),
            at(report, &format!("/unoptimized/{key}")),
            at(report, &format!("/{key}")),
            note,
        ]
    };
    let bound = at(report, "/depth_lower_bound");
    let optimal = if bound == at(report, "/depth") {
        format!("lower bound {bound}: optimal")
    } else {
        format!("lower bound {bound}")
    };
    let mut rows = vec![
        row("depth", "depth", optimal),
        row("levels", "levels", String::new()),
        row("width", "width", String::new()),
        row("mult_width", "mult_width", String::new()),
        row("degree", "degree", String::new()),
    ];
    if let Some(ops) = report.get("ops").and_then(Value::as_object) {
        for (name, count) in ops {
            let before = at(report, &format!("/unoptimized/ops/{name}"));
            if shown(count) != "0" || !matches!(before.as_str(), "0" | "?") {
                rows.push(vec![name.clone(), before, shown(count), String::new()]);
            }
        }
    }
    let header = ["", "as written", "now", ""];
    let _ = writeln!(out, "{}", at(report, "/circuit"));
    out.push_str(&output::table(&header, rows, &[1, 2]));
    out.push('\n');
    let mut facts = vec![
        vec!["parameters".to_owned(), parameters(report)],
        vec![
            "slots".to_owned(),
            at(report, "/params/slots"),
        ],
        vec![
            "keys".to_owned(),
            format!("{} for rotations", at(report, "/keys/rotations")),
        ],
        vec![
            "inputs".to_owned(),
            format!(
                "{} ciphertexts, {}",
                at(report, "/encrypted_inputs/count"),
                report
                    .pointer("/encrypted_inputs/bytes")
                    .and_then(Value::as_u64)
                    .map_or_else(|| "?".to_owned(), output::bytes)
            ),
        ],
        vec![
            "precision".to_owned(),
            format!("{} bits promised", at(report, "/precision_bits")),
        ],
    ];
    if let Some(notes) = report.get("notes").and_then(Value::as_array) {
        for note in notes {
            facts.push(vec!["note".to_owned(), place_and_text(note)]);
        }
    }
    out.push_str(&output::table(&[], facts, &[]));
    let list = passes(report, false);
    if !list.is_empty() {
        out.push('\n');
        out.push_str(&list);
    }
    if let Some(path) = report.get("critical_path").and_then(Value::as_array)
        && !path.is_empty()
    {
        out.push('\n');
        let rows = path
            .iter()
            .map(|step| match step {
                Value::Object(map) => map.values().map(shown).collect(),
                other => vec![shown(other)],
            })
            .collect();
        out.push_str("critical path\n");
        out.push_str(&output::table(&[], rows, &[]));
    }
    out
}

fn place_and_text(note: &Value) -> String {
    match note {
        Value::Object(map) => {
            let parts: Vec<String> = map.values().map(shown).collect();
            parts.join(": ")
        }
        other => shown(other),
    }
}

/// What each pass gained, or how long it took.
fn passes(report: &Value, times: bool) -> String {
    let Some(list) = report.get("passes").and_then(Value::as_array) else {
        return String::new();
    };
    let _ = times;
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|pass| match pass {
            Value::Object(map) => map.values().map(shown).collect(),
            other => vec![shown(other)],
        })
        .collect();
    output::table(&["pass"], rows, &[])
}

/// For Graphviz: an operation a node, coloured by level, with its source line.
fn dot(circuit: &Circuit<Ckks>, project: &Project) -> String {
    let mut out = String::from("digraph circuit {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n");
    let live = circuit.live();
    for id in circuit.graph.ids().filter(|id| live[id.index()]) {
        let node = circuit.graph.node(id);
        let (shape, level) = match node.ty {
            CkksType::Cipher { level, .. } => ("box", level),
            CkksType::Plain { level, .. } => ("ellipse", level),
        };
        let _ = writeln!(
            out,
            "  n{} [shape={shape}, label=\"{id} {}\\nlevel {level}\\n{}\"];",
            id.0,
            Ckks::mnemonic(&node.op),
            project.line(node.span).replace('\\', "/").replace('"', "'"),
        );
        for operand in circuit.graph.operands(id) {
            let _ = writeln!(out, "  n{} -> n{};", operand.0, id.0);
        }
    }
    for (i, (id, ())) in circuit.outputs.iter().enumerate() {
        let _ = writeln!(
            out,
            "  out{i} [shape=plaintext, label=\"output {i}\"];\n  n{} -> out{i};",
            id.0
        );
    }
    out.push_str("}\n");
    out
}
