//! Programs from other formats, by running the binary.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::hecc;
use serde_json::Value;

#[track_caller]
fn ok((code, out, err): (i32, String, String)) -> String {
    assert_eq!(code, 0, "{out}\n{err}");
    out
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hecc-import/tests/models")
}

fn numbers(value: &Value, into: &mut Vec<f64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| numbers(v, into)),
        other => into.push(other.as_f64().unwrap()),
    }
}

/// Imports a model and computes it; the results have to be those of onnxruntime, which the file beside it holds.
fn imports(name: &str, backend: &str, tolerance: f64) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let record = fs::read_to_string(models().join(format!("{name}.json"))).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let model = models().join(format!("{name}.onnx"));
    let mut args = vec!["import", model.to_str().unwrap(), "--out", "."];
    args.extend(
        record["flags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f.as_str().unwrap()),
    );
    ok(hecc(at, &args));
    let program = format!("{name}.hec");
    ok(hecc(at, &["fmt", "--check", &program]));
    let mut args = vec![
        "run".to_owned(),
        program,
        "--backend".to_owned(),
        backend.to_owned(),
    ];
    args.extend(["--format", "json", "--seed", "1"].map(str::to_owned));
    for (input, value) in record["inputs"].as_object().unwrap() {
        // One instance: its axis is no axis of the program.
        let batched = record["flags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f == "--batch");
        let single = value.as_array().filter(|v| v.len() == 1 && !batched);
        let value = single.map_or(value, |v| &v[0]);
        args.push("--input".to_owned());
        args.push(format!("{input}={value}"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let found: Value = serde_json::from_str(&ok(hecc(at, &args))).unwrap();
    for (output, expected) in record["outputs"].as_object().unwrap() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        numbers(&found["outputs"][output], &mut a);
        numbers(expected, &mut b);
        assert_eq!(a.len(), b.len(), "{name}: {output}");
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < tolerance, "{name}: {output}: {a} and {b}");
        }
    }
}

#[test]
fn a_network_gives_what_onnxruntime_gives() {
    imports("network", "clear", 1e-4);
    imports("network", "ckks", 1e-3);
}

#[test]
fn convolutions_with_pads_and_groups() {
    imports("convolutions", "clear", 1e-5);
}

#[test]
fn pools() {
    imports("pools", "clear", 1e-5);
}

#[test]
fn elementwise_operators_broadcast() {
    imports("elementwise", "clear", 1e-5);
}

#[test]
fn shapes_change() {
    imports("shapes", "clear", 1e-5);
}

#[test]
fn normalization_and_a_polynomial_for_a_sigmoid() {
    imports("normalized", "clear", 1e-3);
}

#[test]
fn matrices_without_instances() {
    imports("matrices", "clear", 1e-9);
}

#[test]
fn files_are_not_overwritten_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let model = models().join("network.onnx");
    let args = ["import", model.to_str().unwrap(), "--out", "new/net.hec"];
    ok(hecc(dir.path(), &args));
    assert!(dir.path().join("new/net.safetensors").exists());
    let text = fs::read_to_string(dir.path().join("new/net.hec")).unwrap();
    assert!(
        text.contains("load(\"net.safetensors\", \"conv.weight\")"),
        "{text}"
    );
    let (code, _, err) = hecc(dir.path(), &args);
    assert!(code == 2 && err.contains("--force"), "{err}");
    ok(hecc(dir.path(), &[&args[..], &["--force"]].concat()));
}

#[test]
fn wrong_flags_and_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("junk.onnx"), b"\x00\x01\x02").unwrap();
    fs::write(at.join("m.tflite"), b"").unwrap();
    let model = models().join("network.onnx");
    let model = model.to_str().unwrap();
    for (args, text) in [
        (vec!["junk.onnx", "--out", "new"], "no valid ONNX model"),
        (vec!["m.tflite", "--out", "."], "the extension is unknown"),
        (vec!["none.onnx", "--out", "."], "cannot read none.onnx"),
        (vec![model, "--out", "x.txt"], "not .txt"),
        (
            vec![model, "--out", ".", "--range", "image=1,0"],
            "LO below HI",
        ),
        (
            vec![model, "--out", ".", "--range", "pixels=0,1"],
            "there is no such value; there are",
        ),
        (
            vec![model, "--out", ".", "--dim", "height=3"],
            "no input has an extent",
        ),
        (
            vec![model, "--out", ".", "--degree", "3"],
            "no polynomial stands in",
        ),
        (
            vec![model, "--out", ".", "--name", "Sum"],
            "cannot be a circuit's name",
        ),
    ] {
        let (code, _, err) = hecc(at, &[&["import"], args.as_slice()].concat());
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: no {text:?} in {err}");
    }
    let names: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

fn boolean(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../circuits/boolean");
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_boolean_circuit_is_measured_and_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let circuit = boolean("comparator8.eqn");
    for out in ["best.eqn", "best.blif", "best.aag"] {
        let args = ["import", &circuit, "--format", "json", "--out", out];
        let found: Value = serde_json::from_str(&ok(hecc(at, &args))).unwrap();
        assert_eq!(found["unoptimized"]["depth"], 15);
        assert_eq!(found["optimized"]["depth"], 4);
        assert_eq!(found["depth_lower_bound"], 4);
        assert_eq!(found["optimal"], true);
        let less = &found["outputs"][0];
        assert_eq!(
            (&less["name"], &less["degree"]),
            (&"less".into(), &9.into())
        );
        assert_eq!(less["degree_is_exact"], true);
        // What was written is as shallow, or gets so again where the format has no XOR.
        let again = ok(hecc(at, &["import", out, "--format", "json"]));
        let again: Value = serde_json::from_str(&again).unwrap();
        assert_eq!(again["optimized"]["depth"], 4);
        assert_eq!(again["unoptimized"]["depth"] == 4, out != "best.aag");
    }
    let table = ok(hecc(at, &["import", &boolean("full_adder.aag")]));
    assert!(table.contains("lower bound 1: optimal"), "{table}");
}

#[test]
fn boolean_circuits_refuse_what_has_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let circuit = boolean("sorter4.eqn");
    fs::write(dir.path().join("there.eqn"), "").unwrap();
    fs::write(
        dir.path().join("bad.blif"),
        ".inputs a\n.outputs y\n.latch a y\n",
    )
    .unwrap();
    for (args, text) in [
        (
            vec![circuit.as_str(), "--batch", "4"],
            "--batch is for networks",
        ),
        (vec![&circuit, "--out", "x.hec"], ".eqn, .blif or .aag"),
        (vec![&circuit, "--out", "there.eqn"], "--force"),
        (vec!["bad.blif"], "line 3: there is a latch"),
    ] {
        let (code, _, err) = hecc(dir.path(), &[&["import"], args.as_slice()].concat());
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: no {text:?} in {err}");
    }
}
