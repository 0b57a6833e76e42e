//! What holds for the repository as a whole: who depends on whom, and that what the README and the
//! examples show is so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each may depend on, tests included; docs/architecture.md has the picture.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("hecc-params", &[]),
    ("hecc-ir", &["hecc-params"]),
    ("hecc-lang", &["hecc-ir"]),
    ("hecc-bool", &[]),
    ("hecc-import", &["hecc-lang"]),
    ("hecc-passes", &["hecc-ir", "hecc-params"]),
    ("hecc-ckks", &["hecc-params"]),
    ("hecc-runtime", &["hecc-ir", "hecc-params", "hecc-ckks"]),
    (
        "hecc",
        &[
            "hecc-ir",
            "hecc-params",
            "hecc-lang",
            "hecc-bool",
            "hecc-import",
            "hecc-passes",
            "hecc-ckks",
            "hecc-runtime",
        ],
    ),
];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_path_buf()
}

#[test]
fn crates_depend_only_as_the_architecture_says() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            panic!("crate {name} is not in the table: say what it may depend on");
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(
                !on.starts_with("hecc") || allowed.contains(&on),
                "{name} depends on {on}, which the architecture does not allow"
            );
        }
    }
    assert_eq!(seen, ALLOWED.len());
}

#[test]
fn only_the_engine_may_be_unsafe() {
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        if name != "hecc-ckks" {
            assert!(
                manifest.contains("[lints]\nworkspace = true"),
                "{name} does not take the workspace's lints, which forbid unsafe code"
            );
        }
    }
}

/// The commands of a document's `console` blocks: lines that start with `$ `.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            out.push(command.to_owned());
        }
    }
    out
}

#[test]
fn the_first_command_of_the_readme_works() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands = commands(&readme);
    let first = commands
        .iter()
        .find_map(|c| c.strip_prefix("cargo run --release -- "))
        .expect("the README runs a circuit");
    let args: Vec<&str> = first.split(' ').collect();
    let output = Command::new(env!("CARGO_BIN_EXE_hecc"))
        .args(&args)
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What does not depend on keys and clock stands in the README as it is printed.
    for line in text.lines().filter(|l| {
        ["circuit", "depth", "levels", "width", "parameters"]
            .iter()
            .any(|w| l.starts_with(w))
    }) {
        assert!(readme.contains(line), "the README does not show {line:?}");
    }
    assert!(commands.iter().any(|c| c == "cargo test --workspace"));
}

#[test]
fn every_example_runs() {
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "sh"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 5);
    for (i, script) in scripts.iter().enumerate() {
        let name = script.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with(&format!("{:02}_", i + 1)),
            "{name}: examples are numbered without gaps"
        );
        let output = Command::new("bash")
            .arg(script)
            .env("HECC", env!("CARGO_BIN_EXE_hecc"))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}:\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_shipped_circuits_stay_as_small_as_they_are() {
    // secret×secret depth, levels, ring degree: at most these
    const MOST: [(&str, &str, u64, u64, u64); 13] = [
        ("quartic", "quartic", 2, 2, 8192),
        ("polynomial", "polynomial", 3, 3, 8192),
        ("dot_product", "dot_product", 1, 1, 8192),
        // one row is one feature of all samples: no rotation, no special prime
        ("linear_regression", "predict", 0, 1, 4096),
        ("matmul", "matmul", 1, 1, 8192),
        ("matrix_vector", "matrix_vector", 0, 1, 8192),
        ("sobel", "sobel", 3, 3, 8192),
        ("statistics", "statistics", 1, 1, 8192),
        ("logreg_predict", "predict", 3, 3, 8192),
        ("logreg_train", "train", 12, 15, 65536),
        ("cryptonets", "batch", 2, 5, 8192),
        // twice as many instances in the same ring
        ("cryptonets", "pairs", 2, 5, 8192),
        ("cryptonets", "single", 2, 5, 16384),
    ];
    for (file, circuit, depth, levels, degree) in MOST {
        let output = Command::new(env!("CARGO_BIN_EXE_hecc"))
            .args(["compile", &format!("circuits/{file}.hec")])
            .args(["--circuit", circuit, "--format", "json"])
            .current_dir(root())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{file}: {e}: {}", String::from_utf8_lossy(&output.stderr)));
        let found = [
            &report["depth"],
            &report["levels"],
            &report["params"]["ring_degree"],
        ];
        for (found, most) in found.iter().zip([depth, levels, degree]) {
            let found = found.as_u64().expect("a count");
            assert!(
                found <= most,
                "{file}, {circuit}: {found} instead of {most}"
            );
        }
        let security = report["params"]["security_bits"].as_u64();
        assert!(security >= Some(128), "{file}, {circuit}: {security:?}");
    }
}
