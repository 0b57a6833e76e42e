//! `hecc import`: programs from other formats.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hecc_import::onnx::{self, ImportError, Imported, Options};
use serde_json::json;

use crate::args::{Format, ImportArgs};
use crate::container::{make_directory, write_atomically};
use crate::exit::{Failure, Outcome, Status};
use crate::output;

use super::boolean;

pub(crate) fn run(args: &ImportArgs) -> Outcome {
    let extension = args.file.extension().and_then(|e| e.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("onnx") => network(args),
        Some("eqn" | "blif" | "aig" | "aag") => boolean::run(args),
        _ => Err(Failure::input(format!(
            "{}: the extension is unknown: what can be imported is .onnx, and the boolean circuits .eqn, .blif, .aig and .aag",
            args.file.display()
        ))),
    }
}

fn network(args: &ImportArgs) -> Outcome {
    let Some(out) = &args.out else {
        return Err(Failure::input(
            "give --out DIR or --out FILE.hec: where the program goes, and its weights beside it",
        ));
    };
    let (program, weights) = targets(args, out)?;
    let options = Options {
        name: args.name.clone(),
        batch: args.batch,
        ranges: ranges(&args.range)?,
        dims: dims(&args.dim)?,
        degree: args.degree,
        file: name_of(&args.file)?,
        weights: name_of(&weights)?,
    };
    let model = read(&args.file, onnx::MAX_BYTES)?;
    let imported = onnx::import(&model, &options).map_err(|e| failure(&args.file, &e))?;
    if let Some(folder) = program.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_directory(folder).map_err(Failure::Input)?;
    }
    let mut wrote = Vec::new();
    // The program last: it is of no use without its weights.
    if let Some(bytes) = &imported.weights {
        write(&weights, bytes, args.force)?;
        wrote.push((weights, bytes.len(), "weights".to_owned()));
    }
    write(&program, imported.program.as_bytes(), args.force)?;
    let what = format!("circuit `{}` of {} nodes", imported.circuit, imported.nodes);
    wrote.push((program, imported.program.len(), what));
    report(args.format, &imported, &wrote)?;
    Ok(Status::Success)
}

/// Where the program and its weights go; neither may be there unless it is to be overwritten.
fn targets(args: &ImportArgs, out: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let extension = out.extension().and_then(|e| e.to_str());
    let program = match extension {
        Some(e) if e.eq_ignore_ascii_case("hec") && !out.is_dir() => out.to_path_buf(),
        Some(e) if !out.is_dir() => {
            return Err(Failure::input(format!(
                "--out {}: give a directory or a .hec file, not .{e}",
                out.display()
            )));
        }
        _ => {
            let stem = args.file.file_stem().unwrap_or_default();
            out.join(stem).with_extension("hec")
        }
    };
    let weights = program.with_extension("safetensors");
    for path in [&program, &weights] {
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(Failure::input(format!(
                "{} exists: choose another --out, or overwrite it with --force",
                path.display()
            )));
        }
    }
    Ok((program, weights))
}

fn name_of(path: &Path) -> Outcome<String> {
    let name = path.file_name().and_then(|n| n.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::input(format!(
            "{}: its name is no text that a .hec file can hold: rename it",
            path.display()
        ))
    })
}

/// The bytes of a file, at most so many.
pub(super) fn read(path: &Path, most: usize) -> Outcome<Vec<u8>> {
    let failed = |e: std::io::Error| Failure::input(format!("cannot read {}: {e}", path.display()));
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > most {
        return Err(Failure::input(format!(
            "{} has more than {}",
            path.display(),
            output::bytes(most as u64)
        )));
    }
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8], force: bool) -> Outcome<()> {
    // Again, as time has passed.
    if !force && path.symlink_metadata().is_ok() {
        return Err(Failure::input(format!(
            "{} exists: choose another --out, or overwrite it with --force",
            path.display()
        )));
    }
    write_atomically(path, false, |out| out.write_all(bytes)).map_err(Failure::Input)
}

fn failure(file: &Path, error: &ImportError) -> Failure {
    Failure::input(format!("{}: {error}", file.display()))
}

fn ranges(given: &[String]) -> Outcome<Vec<(String, [f64; 2])>> {
    let mut out: Vec<(String, [f64; 2])> = Vec::new();
    for text in given {
        let wrong = || {
            Failure::input(format!(
                "--range {text}: write NAME=LO,HI with LO below HI, as in image=0,1"
            ))
        };
        let (name, range) = text.rsplit_once('=').ok_or_else(wrong)?;
        let (lo, hi) = range.split_once(',').ok_or_else(wrong)?;
        let bound = |t: &str| t.trim().trim_matches(['[', ']']).parse::<f64>().ok();
        match (bound(lo), bound(hi)) {
            (Some(lo), Some(hi)) if lo.is_finite() && hi.is_finite() && lo < hi => {
                refuse_repeated(out.iter().any(|(n, _)| n == name), "--range", name)?;
                out.push((name.to_owned(), [lo, hi]));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(out)
}

fn dims(given: &[String]) -> Outcome<Vec<(String, usize)>> {
    let mut out: Vec<(String, usize)> = Vec::new();
    for text in given {
        let wrong = || {
            Failure::input(format!(
                "--dim {text}: write NAME=N with N at least 1, as in height=28"
            ))
        };
        let (name, extent) = text.rsplit_once('=').ok_or_else(wrong)?;
        match extent.trim().parse::<u32>() {
            Ok(n) if n > 0 => {
                refuse_repeated(out.iter().any(|(o, _)| o == name), "--dim", name)?;
                out.push((name.to_owned(), n as usize));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(out)
}

fn refuse_repeated(repeated: bool, flag: &str, name: &str) -> Outcome<()> {
    if repeated {
        return Err(Failure::input(format!("{flag} {name} is given twice")));
    }
    Ok(())
}

fn report(format: Format, imported: &Imported, wrote: &[(PathBuf, usize, String)]) -> Outcome<()> {
    match format {
        Format::Json => {
            let paths: Vec<String> = wrote
                .iter()
                .map(|(p, ..)| p.display().to_string())
                .collect();
            output::print_json(&json!({
                "circuit": imported.circuit,
                "nodes": imported.nodes,
                "parameters": imported.parameters,
                "wrote": paths,
                "notes": imported.notes,
            }))
        }
        Format::Human => {
            let rows = wrote
                .iter()
                .map(|(path, bytes, what)| {
                    vec![
                        path.display().to_string(),
                        output::bytes(*bytes as u64),
                        what.clone(),
                    ]
                })
                .collect();
            for note in &imported.notes {
                anstream::eprintln!("hecc: note: {note}");
            }
            output::print(&output::table(&["wrote", "size", "what"], rows, &[1]))
        }
    }
}
