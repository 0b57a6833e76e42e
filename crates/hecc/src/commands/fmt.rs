//! `hecc fmt`: the canonical form.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use hecc_ir::span::SourceMap;

use crate::args::{FmtArgs, Format};
use crate::container::write_atomically;
use crate::diagnostics;
use crate::exit::{Failure, Outcome, Status};
use crate::output;

pub(crate) fn run(args: &FmtArgs) -> Outcome {
    let mut status = Status::Success;
    let mut reported = false;
    for path in &args.files {
        match one(path, args.check) {
            Ok(Status::Success) => {}
            Ok(Status::No) => status = Status::No,
            // The other files are still worth a look.
            Err(Failure::Reported) => reported = true,
            Err(other) => return Err(other),
        }
    }
    if reported {
        return Err(Failure::Reported);
    }
    Ok(status)
}

fn one(path: &Path, check: bool) -> Outcome {
    let stdin = path == Path::new("-");
    let (name, bytes) = if stdin {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::input(format!("cannot read stdin: {e}")))?;
        ("<stdin>".to_owned(), bytes)
    } else {
        let bytes = fs::read(path)
            .map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
        (path.display().to_string(), bytes)
    };
    let mut sources = SourceMap::default();
    // The file's id is known before its text, which decoding makes.
    let id = hecc_ir::span::FileId(0);
    let (source, undecodable) = hecc_lang::decode(bytes, id);
    sources.add(name.clone(), source.as_str());
    if let Some(diagnostic) = undecodable {
        diagnostics::report(&[diagnostic], &sources, Format::Human);
        return Err(Failure::Reported);
    }
    let formatted = match hecc_lang::format(&source) {
        Ok(text) => text,
        Err(found) => {
            diagnostics::report(&found, &sources, Format::Human);
            return Err(Failure::Reported);
        }
    };
    match (check, stdin) {
        (true, _) if formatted == source => Ok(Status::Success),
        (true, _) => {
            output::print(&format!("{name}\n"))?;
            Ok(Status::No)
        }
        (false, true) => output::print(&formatted).map(|()| Status::Success),
        (false, false) => {
            if formatted != source {
                write_atomically(path, false, |out: &mut dyn Write| {
                    out.write_all(formatted.as_bytes())
                })
                .map_err(Failure::Input)?;
            }
            Ok(Status::Success)
        }
    }
}
