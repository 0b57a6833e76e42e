//! The command line from outside: every command, exit code and kind of file, by running the binary.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

const SMALL: &str = "\
@budget(depth = 1)
circuit small(x: secret real[4] in [-1, 1], k: public real in [0, 2]) -> (y: real[4], s: real) {
    return (k * x * x, sum(x));
}
";

const BATCH: &str = "\
@batch(8)
circuit product(a: secret real in [-1, 1], b: secret real in [-1, 1]) -> c: real {
    return a * b + 0.5;
}
";

/// A directory with a circuit in it.
struct Place(TempDir);

impl Place {
    fn new(circuit: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.hec"), circuit).unwrap();
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `hecc` in the directory.
    fn hecc(&self, args: &[&str]) -> Ran {
        Ran(command(self.0.path()).args(args).output().unwrap())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hecc"));
    command.current_dir(dir).stdin(Stdio::null());
    command
}

struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Expects success and returns stdout.
    #[track_caller]
    fn ok(&self) -> String {
        assert_eq!(
            self.code(),
            0,
            "stdout:\n{}\nstderr:\n{}",
            self.out(),
            self.err()
        );
        self.out()
    }

    /// Expects success and JSON.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Expects an exit code and a text on stderr.
    #[track_caller]
    fn fails(&self, code: i32, text: &str) {
        assert_eq!(
            self.code(),
            code,
            "stdout:\n{}\nstderr:\n{}",
            self.out(),
            self.err()
        );
        assert!(self.err().contains(text), "no {text:?} in:\n{}", self.err());
        assert!(!self.err().contains("internal error"), "{}", self.err());
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

#[track_caller]
fn close(found: &Value, wanted: &[f64], tolerance: f64) {
    let found = numbers(found);
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(wanted) {
        assert!((a - b).abs() < tolerance, "{found:?} and {wanted:?}");
    }
}

const X: &str = "x=[0.5, -0.25, 1, 0]";

#[test]
fn run_prints_results_beside_the_plain_ones() {
    let place = Place::new(SMALL);
    let ran = place.hecc(&["run", "c.hec", "--input", X, "--input", "k=2"]);
    let text = ran.ok();
    for word in [
        "small",
        "depth",
        "N = ",
        "keygen",
        "precision",
        "y[0]",
        "0.50000",
        "s",
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !ran.err().contains('\u{1b}'));
    assert_eq!(ran.err(), "");
}

#[test]
fn run_has_the_keys_that_scripts_rely_on() {
    let place = Place::new(SMALL);
    for backend in ["ckks", "clear", "lockstep"] {
        let args = [
            "run", "c.hec", "-i", X, "-i", "k=2", "--format", "json", "--seed", "7",
        ];
        let json = place
            .hecc(&[&args[..], &["--backend", backend]].concat())
            .json();
        close(&json["outputs"]["y"], &[0.5, 0.125, 2.0, 0.0], 1e-4);
        close(&json["outputs"]["s"], &[1.25], 1e-4);
        assert!(json["max_abs_error"].as_f64().unwrap() < 1e-4);
        let bits = json["precision_bits"].as_f64().unwrap();
        assert!(bits >= json["promised_precision_bits"].as_f64().unwrap());
        for phase in ["compile", "keygen", "encrypt", "evaluate", "decrypt"] {
            assert!(json["timings_ms"][phase].is_number(), "{phase}");
        }
        if backend == "lockstep" {
            assert_eq!(json["lockstep"]["first_divergence"], Value::Null);
            assert!(json["lockstep"]["compared"].as_u64().unwrap() > 3);
        }
    }
}

#[test]
fn a_seed_repeats_a_run() {
    let place = Place::new(SMALL);
    let run = |seed| {
        let json = place
            .hecc(&[
                "run", "c.hec", "--random", "--seed", seed, "--format", "json",
            ])
            .json();
        json["outputs"].clone()
    };
    assert_eq!(run("5"), run("5"));
    assert_ne!(run("5"), run("6"));
}

#[test]
fn compile_has_the_keys_that_scripts_rely_on() {
    let place = Place::new(SMALL);
    let json = place.hecc(&["compile", "c.hec", "--format", "json"]).json();
    let measures = ["depth", "levels", "width", "mult_width", "degree"];
    let ops = [
        "add",
        "sub",
        "neg",
        "mul",
        "square",
        "mul_plain",
        "rotate",
        "relinearize",
        "rescale",
    ];
    for at in [&json, &json["unoptimized"]] {
        for key in measures {
            assert!(at[key].is_u64(), "{key}");
        }
        for key in ops {
            assert!(at["ops"][key].is_u64(), "{key}");
        }
    }
    assert_eq!(json["circuit"], "small");
    assert!(json["depth_lower_bound"].is_u64());
    for key in [
        "ring_degree",
        "slots",
        "log_q",
        "log_qp",
        "scale_bits",
        "security_bits",
    ] {
        assert!(json["params"][key].is_number(), "{key}");
    }
    assert!(!json["keys"]["rotations"].is_null());
    assert!(json["encrypted_inputs"]["count"].is_u64());
    assert!(json["encrypted_inputs"]["bytes"].is_u64());
    assert!(json["precision_bits"].is_number());
    assert!(json["passes"].is_array());
    assert!(json["critical_path"].is_array());
}

#[test]
fn compile_emits_its_forms() {
    let place = Place::new(SMALL);
    let emit = |form| place.hecc(&["compile", "c.hec", "--emit", form]).ok();
    assert!(emit("ir").starts_with("circuit ckks"));
    assert!(emit("plan").contains("ciphertexts alive"));
    assert!(emit("dot").starts_with("digraph"));
    let ran = place.hecc(&["compile", "c.hec", "--print-after", "all", "--time-passes"]);
    ran.ok();
    assert!(ran.err().contains("// after"), "{}", ran.err());
    assert!(ran.err().contains("time"), "{}", ran.err());
    place
        .hecc(&["compile", "c.hec", "--print-after", "nothing"])
        .fails(2, "no such pass");
    place
        .hecc(&["compile", "c.hec", "-O", "3", "--verify-passes"])
        .ok();
}

#[test]
fn wrong_inputs_are_refused_with_the_way_out() {
    let place = Place::new(SMALL);
    fs::write(place.path("ragged.csv"), "1,2\n3\n").unwrap();
    fs::write(place.path("nan.csv"), "0\nNaN\n0\n0\n").unwrap();
    fs::write(place.path("bad.npy"), b"\x93NUMPY").unwrap();
    let cases: [(&[&str], &str); 14] = [
        (&[], "missing input: `x` (secret real[4] in [-1, 1]), `k`"),
        (
            &["x=[1,2]", "k=1"],
            "declared real[4] and the value is real[2]",
        ),
        (&["x=[[0,0,0,0]]", "k=1"], "the value is real[1, 4]"),
        (&["x=[0,0,0,1.5]", "k=1"], "`x`[3] is 1.5, outside [-1, 1]"),
        (&[X, "k=-1"], "`k` is -1, outside [0, 2]"),
        (&[X, X, "k=1"], "`x` is given twice"),
        (
            &[X, "k=1", "z=1"],
            "there is no parameter `z`: the circuit's are `x`, `k`",
        ),
        (&["x", "k=1"], "write NAME=VALUE"),
        (&["x=[0,0", "k=1"], "is no JSON literal"),
        (&["x=@nothing.npy", "k=1"], "cannot read it"),
        (&["x=@c.hec", "k=1"], "extension is unknown"),
        (&["x=@bad.npy", "k=1"], "npy"),
        (&["x=@ragged.csv", "k=1"], "x=@ragged.csv"),
        (&["x=@nan.csv", "k=1"], "NaN"),
    ];
    for (inputs, text) in cases {
        let mut args = vec!["run", "c.hec"];
        for input in inputs {
            args.extend(["--input", input]);
        }
        place.hecc(&args).fails(2, text);
    }
}

#[test]
fn wrong_flags_and_files_exit_with_2() {
    let place = Place::new(SMALL);
    fs::write(
        place.path("bad.hec"),
        "circuit f(x: secret real) -> y: real {\n    return z;\n}\n",
    )
    .unwrap();
    fs::write(place.path("two.hec"), format!("{SMALL}{BATCH}")).unwrap();
    fs::write(place.path("none.hec"), "const A = 1;\n").unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&[], "Usage"),
        (&["run"], "FILE"),
        (&["compile", "c.hec", "-O", "4"], "0..=3"),
        (&["compile", "c.hec", "--format", "xml"], "xml"),
        (&["compile", "nothing.hec"], "nothing.hec"),
        (&["compile", "bad.hec"], "bad.hec:2:12"),
        (
            &["compile", "two.hec"],
            "pick one with --circuit NAME, of small, product",
        ),
        (&["compile", "c.hec", "--circuit", "g"], "it holds small"),
        (&["compile", "none.hec"], "no circuit"),
        (
            &["run", "c.hec", "--random", "--output", "q=@q.npy"],
            "`y`, `s`",
        ),
        (
            &["run", "c.hec", "--random", "--tolerance", "1e-3"],
            "lockstep",
        ),
        (&["encrypt", "c.hec", "--out", "in"], "--keys"),
    ];
    for (args, text) in cases {
        let ran = place.hecc(args);
        ran.fails(2, text);
        assert_eq!(ran.out(), "", "{args:?}");
    }
    place
        .hecc(&["compile", "two.hec", "--circuit", "product"])
        .ok();
    assert!(
        place
            .hecc(&["--help"])
            .ok()
            .contains("hecc run circuits/quartic.hec")
    );
    assert!(place.hecc(&["run", "--help"]).ok().starts_with("Example:"));
}

#[test]
fn diagnostics_show_place_and_source_line() {
    let place = Place::new("circuit f(x: secret real) -> y: real {\n    return x + zebra;\n}\n");
    let ran = place.hecc(&["compile", "c.hec"]);
    ran.fails(2, "c.hec:2:16");
    assert!(ran.err().contains("return x + zebra;"), "{}", ran.err());
    let ran = place.hecc(&["compile", "c.hec", "--format", "json"]);
    assert_eq!(ran.code(), 2);
    let line: Value = serde_json::from_str(ran.err().lines().next().unwrap()).unwrap();
    assert_eq!(line["severity"], "error");
    assert_eq!(line["at"]["line"], 2);
    assert_eq!(line["at"]["column"], 16);
    assert!(line["rendered"].as_str().unwrap().contains("c.hec:2:16"));
}

#[test]
fn budgets_are_held() {
    let place = Place::new(SMALL);
    let json = place.hecc(&["check", "c.hec", "--format", "json"]).json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["circuits"][0]["measures"]["depth"]["allowed"], 1);
    place
        .hecc(&["check", "c.hec", "--max-depth", "0"])
        .fails(1, "depth is 1 and 0 is allowed");
    for flag in [
        "--max-levels",
        "--max-width",
        "--max-mult-width",
        "--max-muls",
    ] {
        place
            .hecc(&["check", "c.hec", flag, "0"])
            .fails(1, "0 is allowed");
        place.hecc(&["check", "c.hec", flag, "1000"]).ok();
    }
    place
        .hecc(&["check", "c.hec", "--max-rotations", "1000"])
        .ok();
    fs::write(
        place.path("tight.hec"),
        SMALL.replace("depth = 1", "depth = 0"),
    )
    .unwrap();
    let ran = place.hecc(&["check", "c.hec", "tight.hec"]);
    ran.fails(1, "tight.hec: circuit small: depth is 1 and 0 is allowed");
    assert!(ran.out().contains("EXCEEDED"), "{}", ran.out());
    fs::write(place.path("bad.hec"), "circuit").unwrap();
    place
        .hecc(&["check", "bad.hec", "tight.hec"])
        .fails(2, "bad.hec:1");
}

#[test]
fn a_declared_range_that_does_not_hold_is_reported() {
    let place = Place::new(
        "circuit f(x: secret real[2] in [-1, 1]) -> y: real[2] {\n    let d in [-0.5, 0.5] = x + x;\n    return d * x;\n}\n",
    );
    place.hecc(&["run", "c.hec", "-i", "x=[0.1, 0.2]"]).ok();
    for backend in ["ckks", "clear", "lockstep"] {
        let args = ["run", "c.hec", "-i", "x=[0.1, 0.9]", "--backend", backend];
        place.hecc(&args).fails(1, "c.hec:2");
    }
}

#[test]
fn batches_have_one_more_axis() {
    let place = Place::new(BATCH);
    let run = |inputs: [&str; 2]| {
        place.hecc(&[
            "run", "c.hec", "-i", inputs[0], "-i", inputs[1], "--format", "json",
        ])
    };
    close(
        &run(["a=0.5", "b=0.5"]).json()["outputs"]["c"],
        &[0.75],
        1e-4,
    );
    let three = run(["a=[0.5, -1, 1]", "b=[0.5, 1, 1]"]).json();
    assert_eq!(three["instances"], 3);
    close(&three["outputs"]["c"], &[0.75, -0.5, 1.5], 1e-4);
    let one_for_all = run(["a=[0.5, -1, 1]", "b=0.5"]).json();
    close(&one_for_all["outputs"]["c"], &[0.75, 0.0, 1.0], 1e-4);
    run(["a=[0,0]", "b=[0,0,0]"]).fails(2, "3 instances");
    // More than a batch: batch after batch.
    let nine = run(["a=[1,0,0,0,0,0,0,0,-1]", "b=0.5"]).json();
    assert_eq!(
        (&nine["instances"], &nine["batches"]),
        (&9.into(), &2.into())
    );
    close(
        &nine["outputs"]["c"],
        &[1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0],
        1e-4,
    );
    run(["a=[0,0,0,0,0,0,0,0,0]", "b=[0,0]"]).fails(2, "instances");
}

#[test]
fn outputs_go_to_files_and_come_back() {
    let place = Place::new(SMALL);
    for file in ["y.npy", "y.csv", "y.json"] {
        let target = format!("y=@{file}");
        let args = [
            "run", "c.hec", "-i", X, "-i", "k=1", "--format", "json", "--output", &target,
        ];
        let json = place.hecc(&args).json();
        assert!(json["outputs"].get("y").is_none());
        assert!(json["outputs"].get("s").is_some());
        let back = format!("x=@{file}");
        // What was computed is in range but for noise: a scaled circuit is not needed to see that it reads.
        let ran = place.hecc(&["run", "c.hec", "-i", &back, "-i", "k=1", "--format", "json"]);
        if ran.code() == 0 {
            close(
                &ran.json()["outputs"]["y"],
                &[0.0625, 0.00390625, 1.0, 0.0],
                1e-4,
            );
        } else {
            ran.fails(2, "outside [-1, 1]");
        }
    }
    place
        .hecc(&["run", "c.hec", "--random", "--output", "y=@y.txt"])
        .fails(2, ".npy, .csv or .json");
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let place = Place::new(SMALL);
    let mut child = command(place.0.path())
        .args(["compile", "c.hec", "--emit", "ir"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn fmt_is_idempotent_and_checks() {
    let place = Place::new("circuit f(x:secret real)->y:real{return x*x+1;}");
    let ran = place.hecc(&["fmt", "--check", "c.hec"]);
    assert_eq!(ran.code(), 1);
    assert_eq!(ran.out(), "c.hec\n");
    place.hecc(&["fmt", "c.hec"]).ok();
    let once = fs::read_to_string(place.path("c.hec")).unwrap();
    place.hecc(&["fmt", "c.hec"]).ok();
    assert_eq!(fs::read_to_string(place.path("c.hec")).unwrap(), once);
    place.hecc(&["fmt", "--check", "c.hec"]).ok();
    let mut child = command(place.0.path())
        .args(["fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"circuit f(x:secret real)->y:real{return x*x+1;}")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), once);
    fs::write(place.path("bad.hec"), "circuit f(").unwrap();
    place.hecc(&["fmt", "bad.hec"]).fails(2, "bad.hec:1");
    assert_eq!(
        fs::read_to_string(place.path("bad.hec")).unwrap(),
        "circuit f("
    );
}

/// Keys and encrypted files of [`SMALL`], made once; tests copy what they change.
fn parties() -> &'static Place {
    static MADE: OnceLock<Place> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = Place::new(SMALL);
        fs::write(place.path("other.hec"), SMALL.replace("sum(x)", "x[0]")).unwrap();
        fs::write(
            place.path("same.hec"),
            format!("// A comment and white space change nothing.\n\n{SMALL}"),
        )
        .unwrap();
        place.hecc(&["keygen", "c.hec", "--out", "keys"]).ok();
        place.hecc(&["keygen", "c.hec", "--out", "strange"]).ok();
        let encrypt = ["encrypt", "c.hec", "--input", X];
        let public = ["--keys", "keys/public", "--out", "in"];
        place.hecc(&[&encrypt[..], &public].concat()).ok();
        let secret = ["--secret-key", "keys/secret.key", "--out", "in.half"];
        place.hecc(&[&encrypt[..], &secret].concat()).ok();
        let eval = [
            "eval",
            "c.hec",
            "--keys",
            "keys/public",
            "--input",
            "k=2",
            "--in",
            "in",
            "--out",
            "out",
        ];
        place.hecc(&eval).ok();
        place
    })
}

#[test]
fn separate_parties_get_what_run_gets() {
    let place = parties();
    let run = place
        .hecc(&["run", "c.hec", "-i", X, "-i", "k=2", "--format", "json"])
        .json();
    let wanted = [numbers(&run["outputs"]["y"]), numbers(&run["outputs"]["s"])];
    for (input, file) in [("in", "same.hec"), ("in.half", "c.hec")] {
        let out = format!("{input}.result");
        let eval = [
            "eval",
            file,
            "--keys",
            "keys/public",
            "--input",
            "k=2",
            "--in",
            input,
        ];
        place.hecc(&[&eval[..], &["--out", &out]].concat()).ok();
        let decrypt = [
            "decrypt",
            file,
            "--secret-key",
            "keys/secret.key",
            "--in",
            &out,
        ];
        let json = place
            .hecc(&[&decrypt[..], &["--format", "json"]].concat())
            .json();
        close(&json["outputs"]["y"], &wanted[0], 1e-4);
        close(&json["outputs"]["s"], &wanted[1], 1e-4);
        assert!(place.hecc(&decrypt).ok().contains("y[2]"));
    }
    let size = |name: &str| fs::metadata(place.path(name)).unwrap().len() as f64;
    assert!(size("in.half") < 0.6 * size("in"));
    // What `run` says is what the files hold, but for their headers.
    for (name, key) in [("in", "inputs"), ("out", "outputs")] {
        let said = run["message_bytes"][key].as_f64().unwrap();
        assert!(
            (said..said + 4096.0).contains(&size(name)),
            "{name}: {} bytes, {said} are said",
            size(name)
        );
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(place.path("keys/secret.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Temporary names are gone.
    assert!(
        !place.names().iter().any(|n| n.starts_with(".hecc-")),
        "{:?}",
        place.names()
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let place = parties();
    let eval = |file: &str, keys: &str, input: &str, k: &str| {
        place.hecc(&[
            "eval", file, "--keys", keys, "--input", k, "--in", input, "--out", "no",
        ])
    };
    eval("other.hec", "keys/public", "in", "k=2").fails(2, "belongs to another circuit");
    eval("c.hec", "strange/public", "in", "k=2").fails(2, "another key generation");
    eval("c.hec", "keys/public", "out", "k=2").fails(2, "is a file of encrypted outputs");
    eval("c.hec", "keys/public", "in", "x=[0,0,0,0]").fails(2, "`x` is secret");
    eval("c.hec", "keys/public", "in", "k=3").fails(2, "outside [0, 2]");
    eval("c.hec", "nowhere", "in", "k=2").fails(2, "cannot read");
    let deeper = [
        "eval",
        "c.hec",
        "-O",
        "0",
        "--layout",
        "elements",
        "--keys",
        "keys/public",
    ];
    place
        .hecc(
            &[
                &deeper[..],
                &["--input", "k=2", "--in", "in", "--out", "no"],
            ]
            .concat(),
        )
        .fails(2, "another -O or --layout");
    place
        .hecc(&[
            "decrypt",
            "c.hec",
            "--secret-key",
            "strange/secret.key",
            "--in",
            "out",
        ])
        .fails(2, "another key generation");
    place
        .hecc(&[
            "decrypt",
            "c.hec",
            "--secret-key",
            "keys/public/encryption.key",
            "--in",
            "out",
        ])
        .fails(2, "is an encryption key");
    place
        .hecc(&[
            "encrypt",
            "c.hec",
            "--keys",
            "keys/public",
            "--input",
            "k=1",
            "--out",
            "no",
        ])
        .fails(2, "`k` is public");
    place
        .hecc(&[
            "encrypt",
            "c.hec",
            "--keys",
            "keys/public",
            "--input",
            X,
            "--out",
            "no/where/in",
        ])
        .fails(
            2,
            "cannot write no/where/in: there is no directory no/where",
        );
    assert!(!place.path("no").exists());
}

#[test]
fn keys_are_found_and_told_apart() {
    let place = parties();
    // The directory that `keygen --out` was given does as well.
    let args = [
        "eval", "c.hec", "--keys", "keys", "--input", "k=2", "--in", "in", "--out", "again",
    ];
    place.hecc(&args).ok();
    let encrypt = ["encrypt", "c.hec", "--input", X, "--out", "x"];
    place
        .hecc(&[&encrypt[..], &["--keys", "keys"]].concat())
        .ok();
    place.hecc(&encrypt).fails(2, "--secret-key");
    // Keys of two generations in one directory: it is they that are wrong, not the inputs.
    fs::create_dir(place.path("mixed")).unwrap();
    for (from, key) in [("keys", "encryption.key"), ("strange", "evaluation.key")] {
        let from = place.path(from).join("public").join(key);
        fs::copy(from, place.path("mixed").join(key)).unwrap();
    }
    for args in [
        &[
            "eval", "c.hec", "--keys", "mixed", "--input", "k=2", "--in", "in", "--out", "no",
        ][..],
        &[&encrypt[..4], &["--keys", "mixed", "--out", "no"]].concat(),
    ] {
        place
            .hecc(args)
            .fails(2, "the keys in mixed do not belong together");
    }
    assert!(!place.path("no").exists());
}

/// The containers of a file, by the lengths that their headers say.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[64..72].try_into().unwrap()) as usize;
        let (part, more) = rest.split_at(104 + length);
        out.push(part.to_vec());
        rest = more;
    }
    out
}

#[test]
fn parties_stream_batch_after_batch() {
    let weighted = "\
@batch(8)
circuit weighted(a: secret real in [-1, 1], b: secret real in [-1, 1], w: public real in [-1, 1])
    -> (c: real, d: real) {
    return (a * b + w, 2 * w);
}
";
    let place = Place::new(weighted);
    place.hecc(&["keygen", "c.hec", "--out", "keys"]).ok();
    let values = |scale: f64| -> Vec<f64> {
        (0..19)
            .map(|i| scale * (f64::from(i) / 10.0 - 0.9))
            .collect()
    };
    let list = |name: &str, v: &[f64]| format!("{name}={v:?}");
    let (a, w) = (values(1.0), values(-0.5));
    let encrypt = place.hecc(&[
        "encrypt",
        "c.hec",
        "--secret-key",
        "keys/secret.key",
        "--out",
        "in",
        "--input",
        &list("a", &a),
        "--input",
        "b=0.5",
    ]);
    let said = encrypt.ok();
    assert!(
        said.contains("for each of 19 instances in 3 batches"),
        "{said}"
    );
    let eval = |input: &str, w: &str, out: &str| {
        place.hecc(&[
            "eval",
            "c.hec",
            "--keys",
            "keys/public",
            "--in",
            input,
            "--out",
            out,
            "--input",
            w,
        ])
    };
    let said = eval("in", &list("w", &w), "out").ok();
    assert!(
        said.contains("for each of 19 instances in 3 batches"),
        "{said}"
    );
    let decrypt = [
        "decrypt",
        "c.hec",
        "--secret-key",
        "keys/secret.key",
        "--in",
    ];
    let found = place
        .hecc(&[&decrypt[..], &["out", "--format", "json"]].concat())
        .json();
    let c: Vec<f64> = a.iter().zip(&w).map(|(a, w)| 0.5 * a + w).collect();
    let d: Vec<f64> = w.iter().map(|w| 2.0 * w).collect();
    close(&found["outputs"]["c"], &c, 1e-4);
    close(&found["outputs"]["d"], &d, 1e-9);
    // One public value for all instances.
    eval("in", "w=0.25", "one").ok();
    let found = place
        .hecc(&[&decrypt[..], &["one", "--format", "json"]].concat())
        .json();
    let c: Vec<f64> = a.iter().map(|a| 0.5 * a + 0.25).collect();
    close(&found["outputs"]["c"], &c, 1e-4);
    // Public values of another count, and batches that are missing, doubled or out of order.
    eval("in", &list("w", &w[..7]), "no").fails(2, "have 7 instances and the encrypted ones 19");
    let bytes = fs::read(place.path("in")).unwrap();
    let parts = parts(&bytes);
    assert_eq!(parts.len(), 3);
    for (order, text) in [
        (vec![0, 1], "it holds 16 of 19 instances"),
        (vec![0, 2], "in their order"),
        (vec![1, 0, 2], "in their order"),
        (vec![0, 0, 1, 2], "in their order"),
    ] {
        let some: Vec<u8> = order.iter().flat_map(|i| parts[*i].clone()).collect();
        fs::write(place.path("bad"), some).unwrap();
        eval("bad", "w=0", "no").fails(2, text);
    }
    fs::write(place.path("bad"), &bytes[..bytes.len() - 1]).unwrap();
    eval("bad", "w=0", "no").fails(2, "cut short");
    assert!(!place.path("no").exists());
}

#[test]
fn an_existing_secret_key_stays() {
    let place = Place::new(SMALL);
    place.hecc(&["keygen", "c.hec", "--out", "k"]).ok();
    let before = fs::read(place.path("k/secret.key")).unwrap();
    place
        .hecc(&["keygen", "c.hec", "--out", "k"])
        .fails(2, "--force");
    assert_eq!(fs::read(place.path("k/secret.key")).unwrap(), before);
    place
        .hecc(&["keygen", "c.hec", "--out", "k", "--force"])
        .ok();
    assert_ne!(fs::read(place.path("k/secret.key")).unwrap(), before);
}

/// Changes a copy of a file and expects that the command that reads it notices.
fn tampered(name: &str, changed: &[u8]) {
    let place = parties();
    let file = tempfile::Builder::new()
        .prefix("bad")
        .tempdir_in(place.0.path())
        .unwrap();
    let bad = file.path().join("public");
    fs::create_dir(&bad).unwrap();
    let out = file.path().join("out");
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let put = |to: &Path| fs::write(to, changed).unwrap();
    let args: Vec<String> = match name {
        "in" => {
            put(&bad.join("in"));
            let input = path(&bad.join("in"));
            [
                "eval",
                "c.hec",
                "--keys",
                "keys/public",
                "--input",
                "k=2",
                "--in",
                &input,
                "--out",
                &path(&out),
            ]
            .map(str::to_owned)
            .to_vec()
        }
        "out" => {
            put(&bad.join("out"));
            [
                "decrypt",
                "c.hec",
                "--secret-key",
                "keys/secret.key",
                "--in",
                &path(&bad.join("out")),
            ]
            .map(str::to_owned)
            .to_vec()
        }
        "keys/public/evaluation.key" => {
            put(&bad.join("evaluation.key"));
            [
                "eval",
                "c.hec",
                "--keys",
                &path(&bad),
                "--input",
                "k=2",
                "--in",
                "in",
                "--out",
                &path(&out),
            ]
            .map(str::to_owned)
            .to_vec()
        }
        "keys/public/encryption.key" => {
            put(&bad.join("encryption.key"));
            [
                "encrypt",
                "c.hec",
                "--keys",
                &path(&bad),
                "--input",
                X,
                "--out",
                &path(&out),
            ]
            .map(str::to_owned)
            .to_vec()
        }
        "keys/secret.key" => {
            put(&bad.join("secret.key"));
            [
                "decrypt",
                "c.hec",
                "--secret-key",
                &path(&bad.join("secret.key")),
                "--in",
                "out",
            ]
            .map(str::to_owned)
            .to_vec()
        }
        other => panic!("{other}"),
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = place.hecc(&args);
    ran.fails(2, "is not usable");
    assert_eq!(ran.out(), "");
    assert!(!out.exists());
}

#[test]
fn tampered_and_truncated_files_are_noticed() {
    let place = parties();
    let names = [
        "in",
        "out",
        "keys/secret.key",
        "keys/public/encryption.key",
        "keys/public/evaluation.key",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let bytes = fs::read(place.path(name)).unwrap();
        // Every bit is a matter of the unit tests of the container; here the way to the message.
        let header = (n..104).step_by(13);
        let payload = [104, bytes.len() / 2 + n, bytes.len() - 1];
        for at in header.chain(payload) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            tampered(name, &bad);
        }
        for length in [0, 50, 104, bytes.len() - 1] {
            tampered(name, &bytes[..length]);
        }
        let mut longer = bytes.clone();
        longer.push(0);
        tampered(name, &longer);
    }
}

#[test]
fn no_security_is_loud_and_marked() {
    let place = Place::new(
        "@ckks(security = 0)\ncircuit f(x: secret real[4] in [-1, 1]) -> y: real[4] {\n    return x * x;\n}\n",
    );
    let ran = place.hecc(&["run", "c.hec", "--random"]);
    ran.ok();
    assert!(ran.err().contains("NO SECURITY"), "{}", ran.err());
    let ran = place.hecc(&["keygen", "c.hec", "--out", "k"]);
    ran.ok();
    assert!(ran.err().contains("NO SECURITY"), "{}", ran.err());
    assert_eq!(fs::read(place.path("k/secret.key")).unwrap()[12], 1);
}

/// x @ y is a product of two inputs: the client computes it, and its square is left.
const SENT: &str = "@precompute(degree = 2, inputs = 2.0)\n@ckks(security = 0, ring = 2048)\n\
circuit main(x: secret real[4] in [-1, 1], y: secret real[4] in [-1, 1]) -> z: real {\n    \
let p in [-3, 3] = x @ y;\n    return p * p;\n}\n";

#[test]
fn the_client_computes_products_of_its_inputs() {
    let place = Place::new(SENT);
    let report = place.hecc(&["compile", "c.hec", "--format", "json"]).json();
    assert_eq!(report["depth"], 1, "{report}");
    assert_eq!(report["precompute"]["sent"][0]["value"], "x @ y");
    assert!(report["precompute"]["levels_saved"].as_u64() >= Some(1));
    place.hecc(&["keygen", "c.hec", "--out", "keys"]).ok();
    let x = ["encrypt", "c.hec", "--keys", "keys/public", "--out", "in"];
    let small = ["-i", "x=[0.5,0.5,0,1]", "-i", "y=[1,1,0,0.5]"];
    place.hecc(&[&x[..], &small].concat()).ok();
    let eval = ["eval", "c.hec", "--keys", "keys/public", "--in", "in"];
    place.hecc(&[&eval[..], &["--out", "out"]].concat()).ok();
    let decrypt = ["decrypt", "c.hec", "--secret-key", "keys/secret.key"];
    let json = place
        .hecc(&[&decrypt[..], &["--in", "out", "--format", "json"]].concat())
        .json();
    close(&json["outputs"]["z"], &[2.25], 1e-3);
    // The product lies outside the range that the program declares for it.
    let large = ["-i", "x=[1,1,1,1]", "-i", "y=[1,1,1,1]"];
    place
        .hecc(&[&x[..], &large].concat())
        .fails(2, "`x @ y` is 4");
}
