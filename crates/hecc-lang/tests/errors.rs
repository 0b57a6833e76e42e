//! Every class of error, as its author sees it: `tests/errors/NAME.hec` beside `NAME.txt`.
//! `BLESS=1 cargo test -p hecc-lang --test errors` rewrites the texts.

use std::path::Path;

use hecc_lang::{FileSystem, Limits, load_program};

/// The files of `tests/errors`, under short names.
struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(folder().join(path)).map_err(|e| {
            // The wording differs between systems.
            match e.kind() {
                std::io::ErrorKind::NotFound => std::io::Error::new(e.kind(), "no such file"),
                _ => e,
            }
        })
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/errors")
}

#[test]
fn diagnostics_are_as_blessed() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .filter_map(|e| e.expect("an entry").file_name().into_string().ok())
        .filter(|n| n.ends_with(".hec"))
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    for name in names {
        let limits = Limits {
            steps: 1_000_000,
            ..Limits::default()
        };
        let (diagnostics, sources) = match load_program(Path::new(&name), &Disk, limits) {
            Ok(checked) => (checked.warnings, checked.sources),
            Err(failure) => (failure.diagnostics, failure.sources),
        };
        let parts: Vec<String> = diagnostics
            .iter()
            .map(|d| d.render_plain(&sources))
            .collect();
        let text = parts.join("\n");
        let code = name.split('_').next().unwrap_or_default();
        assert!(
            diagnostics.iter().any(|d| d.code.starts_with(code)),
            "{name} shows no {code}:\n{text}"
        );
        let path = folder().join(name.replace(".hec", ".txt"));
        if bless {
            std::fs::write(&path, &text).expect("written");
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            wrong.push(format!("{name} now gives\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
