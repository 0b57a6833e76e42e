//! What compilation says of programs that hold the language's rules and still cannot be, or should
//! not be, run: `tests/compile/NAME.hec` beside `NAME.txt`.
//! `BLESS=1 cargo test -p hecc --test refusals` rewrites the texts.

use std::path::{Path, PathBuf};

use hecc_lang::{FileSystem, Limits, load_program};
use hecc_passes::{CompileOptions, compile};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compile")
}

struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(folder().join(path))
    }
}

#[test]
fn compilation_says_what_is_blessed() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .filter_map(|e| e.expect("an entry").file_name().into_string().ok())
        .filter(|n| n.ends_with(".hec"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut wrong = Vec::new();
    for name in names {
        let checked = load_program(Path::new(&name), &Disk, Limits::default())
            .unwrap_or_else(|f| panic!("{name}: {:?}", f.diagnostics));
        let options = CompileOptions::default();
        let said = match compile(&checked.circuits[0], &checked.sources, &options) {
            Ok(compiled) => compiled.diagnostics,
            Err(diagnostics) => diagnostics,
        };
        let code = name.split('_').next().unwrap_or_default();
        assert!(said.iter().any(|d| d.code == code), "{name}: {said:?}");
        let text: Vec<String> = said
            .iter()
            .map(|d| d.render_plain(&checked.sources))
            .collect();
        let text = text.join("\n");
        let file = folder().join(Path::new(&name).with_extension("txt"));
        if bless {
            std::fs::write(&file, &text).expect("written");
        } else if std::fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            wrong.push(format!("{name}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "not as blessed:\n{}", wrong.join("\n"));
}
