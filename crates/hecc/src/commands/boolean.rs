//! `hecc import` of a boolean circuit: what its depth over GF(2) is, and what it can be.

use std::path::Path;

use hecc_bool::formats::{self, FormatError, aiger, blif, eqn};
use hecc_bool::{Analysis, Measures, Network, Optimized, analyse, optimize};
use serde_json::{Value, json};

use crate::args::{Format, ImportArgs};
use crate::container::write_atomically;
use crate::exit::{Failure, Outcome, Status};
use crate::output;

/// How many outputs the table shows.
const SHOWN: usize = 40;

pub(crate) fn run(args: &ImportArgs) -> Outcome {
    refuse_flags_of_networks(args)?;
    let write: Option<fn(&Network) -> String> = match &args.out {
        None => None,
        Some(out) => Some(writer(out, args.force)?),
    };
    let network = read(&args.file)?;
    let optimized = optimize(&network)
        .map_err(|step| Failure::internal(format!("the step `{step}` changed the circuit")))?;
    let before = analyse(&network);
    let after = analyse(&optimized.network);
    if let (Some(write), Some(out)) = (write, &args.out) {
        let text = write(&optimized.network);
        write_atomically(out, false, |file| file.write_all(text.as_bytes()))
            .map_err(Failure::Input)?;
    }
    match args.format {
        Format::Json => output::print_json(&report(&network, &optimized, &before, &after))?,
        Format::Human => output::print(&table(&network, &optimized, &before, &after))?,
    }
    Ok(Status::Success)
}

/// A flag that would have no effect is a mistake.
fn refuse_flags_of_networks(args: &ImportArgs) -> Outcome<()> {
    for (given, flag) in [
        (args.name.is_some(), "--name"),
        (args.batch.is_some(), "--batch"),
        (!args.range.is_empty(), "--range"),
        (!args.dim.is_empty(), "--dim"),
        (args.degree.is_some(), "--degree"),
    ] {
        if given {
            return Err(Failure::input(format!(
                "{flag} is for networks; {} is a boolean circuit",
                args.file.display()
            )));
        }
    }
    Ok(())
}

fn writer(out: &Path, force: bool) -> Outcome<fn(&Network) -> String> {
    let extension = out.extension().and_then(|e| e.to_str());
    let write: fn(&Network) -> String = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("eqn") => eqn::write,
        Some("blif") => blif::write,
        Some("aag") => aiger::write,
        _ => {
            return Err(Failure::input(format!(
                "--out {}: circuits are written as .eqn, .blif or .aag",
                out.display()
            )));
        }
    };
    if !force && out.symlink_metadata().is_ok() {
        return Err(Failure::input(format!(
            "{} exists: choose another --out, or overwrite it with --force",
            out.display()
        )));
    }
    Ok(write)
}

fn read(path: &Path) -> Outcome<Network> {
    let bytes = super::import::read(path, formats::MAX_BYTES)?;
    let failed = |e: FormatError| Failure::input(format!("{}: {e}", path.display()));
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    if extension.eq_ignore_ascii_case("aig") || extension.eq_ignore_ascii_case("aag") {
        return aiger::read(&bytes).map_err(failed);
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        Failure::input(format!(
            "{}: byte {} is no UTF-8 text",
            path.display(),
            e.utf8_error().valid_up_to()
        ))
    })?;
    if extension.eq_ignore_ascii_case("eqn") {
        eqn::read(&text).map_err(failed)
    } else {
        blif::read(&text).map_err(failed)
    }
}

fn report(network: &Network, optimized: &Optimized, before: &Analysis, after: &Analysis) -> Value {
    let sizes = |m: Measures| json!({ "depth": m.depth, "ands": m.ands, "xors": m.xors });
    let bound = before.bound.max(after.bound);
    let outputs: Vec<Value> = before
        .outputs
        .iter()
        .zip(&after.outputs)
        .map(|(old, new)| {
            let bound = old.bound.max(new.bound);
            json!({
                "name": old.name,
                "inputs": new.inputs,
                "depth_as_written": old.depth,
                "depth": new.depth,
                "formal_degree": old.formal_degree,
                "degree": old.degree.max(new.degree),
                "degree_is_exact": new.exact,
                "depth_lower_bound": bound,
                "optimal": new.depth == bound,
            })
        })
        .collect();
    let steps: Vec<Value> = optimized
        .steps
        .iter()
        .map(|(step, m)| json!({ "step": step, "after": sizes(*m) }))
        .collect();
    let found = optimized.network.measures();
    json!({
        "inputs": network.inputs.len(),
        "unoptimized": sizes(network.measures()),
        "optimized": sizes(found),
        "depth_lower_bound": bound,
        "optimal": found.depth == bound,
        "steps": steps,
        "outputs": outputs,
    })
}

fn table(network: &Network, optimized: &Optimized, before: &Analysis, after: &Analysis) -> String {
    let (old, new) = (network.measures(), optimized.network.measures());
    let bound = before.bound.max(after.bound);
    let verdict = if new.depth == bound { ": optimal" } else { "" };
    let row = |name: &str, of: fn(&Measures) -> String, note: String| {
        vec![name.to_owned(), of(&old), of(&new), note]
    };
    let sizes = output::table(
        &["", "as written", "now", ""],
        vec![
            row(
                "depth",
                |m| m.depth.to_string(),
                format!("lower bound {bound}{verdict}"),
            ),
            row("ands", |m| m.ands.to_string(), String::new()),
            row("xors", |m| m.xors.to_string(), "free".to_owned()),
        ],
        &[1, 2],
    );
    let mut rows: Vec<Vec<String>> = before
        .outputs
        .iter()
        .zip(&after.outputs)
        .take(SHOWN)
        .map(|(old, new)| {
            let bound = old.bound.max(new.bound);
            let degree = old.degree.max(new.degree);
            vec![
                old.name.clone(),
                new.inputs.to_string(),
                old.depth.to_string(),
                new.depth.to_string(),
                bound.to_string(),
                if new.exact {
                    degree.to_string()
                } else {
                    format!("≥ {degree}")
                },
                old.formal_degree.to_string(),
                if new.depth == bound { "optimal" } else { "" }.to_owned(),
            ]
        })
        .collect();
    let more = before.outputs.len().saturating_sub(SHOWN);
    if more > 0 {
        rows.push(vec![format!("… {more} more: --format json")]);
    }
    let header = [
        "output", "inputs", "written", "now", "bound", "degree", "formal", "",
    ];
    let outputs = output::table(&header, rows, &[1, 2, 3, 4, 5, 6]);
    format!("{sizes}\n{outputs}")
}
