//! Each `tests/syntax/NAME.hec` is parsed, and what is reported is compared with `NAME.txt`.
//! `BLESS=1` rewrites the expected texts.

use std::path::{Path, PathBuf};

use hecc_ir::span::SourceMap;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let args = Arguments::from_args();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/syntax");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("tests/syntax is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "hec"))
        .collect();
    files.sort();
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path
                .file_stem()
                .expect("has a name")
                .to_string_lossy()
                .into_owned();
            Trial::test(format!("syntax::{name}"), move || check(&path))
        })
        .collect();
    libtest_mimic::run(&args, trials).exit();
}

fn check(path: &Path) -> Result<(), Failed> {
    let name = path.file_name().expect("has a name").to_string_lossy();
    let mut sources = SourceMap::default();
    let bytes = std::fs::read(path)?;
    let (text, undecodable) = hecc_lang::decode(bytes, Default::default());
    let file = sources.add(name, text.as_str());
    let diagnostics = match undecodable {
        Some(diagnostic) => vec![diagnostic],
        None => hecc_lang::parse(&text, file).1,
    };
    let found: Vec<String> = diagnostics
        .iter()
        .map(|d| d.render_plain(&sources))
        .collect();
    let found = found.join("\n");
    let expected_path = path.with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(expected_path, found)?;
        return Ok(());
    }
    let expected = std::fs::read_to_string(expected_path)
        .map_err(|_| "no expected text: run with BLESS=1 and read what it writes")?;
    if found != expected {
        return Err(format!("expected:\n{expected}\nfound:\n{found}").into());
    }
    Ok(())
}
