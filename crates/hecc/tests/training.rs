//! Logistic regression trained under encryption, by running the binary: weights and accuracy are held
//! against plain training that is written out here.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::hecc;
use serde_json::{Value, json};

/// (1 − a_t) / a_{t+1} with a_0 = 1.
fn momentum(steps: usize) -> Vec<f64> {
    let mut a = 1.0f64;
    (0..steps)
        .map(|_| {
            let next = (1.0 + (1.0 + 4.0 * a * a).sqrt()) / 2.0;
            let eta = (1.0 - a) / next;
            a = next;
            eta
        })
        .collect()
}

/// The plain loop over minibatches.
fn program(steps: usize, batch: usize, features: usize, rate: f64, attribute: &str) -> String {
    format!(
        "\
const ETA: real[{steps}] = {eta:?};
{attribute}
circuit train(
    Z: secret real[{steps}, {batch}, {features}] in [-1, 1],
    w0: secret real[{features}] in [-1, 1],
    v0: secret real[{features}] in [-1, 1],
) -> w: real[{features}] in [-4, 4] {{
    var w = w0;
    var v = v0;
    for t in 0..{steps} {{
        let p in [-12, 12] = Z[t] @ v;
        let next in [-4, 4] = v + {rate:?} / {batch} * (Z[t]' @ (0.5 - 0.15012 * p + 0.00159 * p^3));
        v = (1 - ETA[t]) * next + ETA[t] * w;
        w = next;
    }}
    return w;
}}
",
        eta = momentum(steps)
    )
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Nesterov's accelerated gradient with the same cubic, in f64, from zero.
fn plain(batches: &[Vec<Vec<f64>>], rate: f64) -> Vec<f64> {
    let features = batches[0][0].len();
    let (mut w, mut v) = (vec![0.0; features], vec![0.0; features]);
    for (batch, eta) in batches.iter().zip(momentum(batches.len())) {
        let mut next = v.clone();
        for z in batch {
            let p = dot(z, &v);
            let s = 0.5 - 0.15012 * p + 0.00159 * p.powi(3);
            for (n, z) in next.iter_mut().zip(z) {
                *n += rate / batch.len() as f64 * s * z;
            }
        }
        v = next
            .iter()
            .zip(&w)
            .map(|(n, w)| (1.0 - eta) * n + eta * w)
            .collect();
        w = next;
    }
    w
}

fn run(dir: &Path, args: &[&str]) -> Value {
    let (code, out, err) = hecc(dir, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// Trains under encryption and returns the report and the largest difference to plain training.
fn train(dir: &Path, batches: &[Vec<Vec<f64>>], rate: f64, attribute: &str) -> (Value, f64) {
    let (steps, batch, features) = (batches.len(), batches[0].len(), batches[0][0].len());
    fs::write(
        dir.join("train.hec"),
        program(steps, batch, features, rate, attribute),
    )
    .unwrap();
    fs::write(dir.join("Z.json"), json!(batches).to_string()).unwrap();
    fs::write(
        dir.join("zero.json"),
        json!(vec![0.0; features]).to_string(),
    )
    .unwrap();
    let report = run(
        dir,
        &[
            "run",
            "train.hec",
            "--input",
            "Z=@Z.json",
            "--input",
            "w0=@zero.json",
            "--input",
            "v0=@zero.json",
            "--format",
            "json",
        ],
    );
    let found = numbers(&report["outputs"]["w"]);
    let error = found
        .iter()
        .zip(plain(batches, rate))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    (report, error)
}

/// Samples of two classes, reproducibly scattered.
fn samples(steps: usize, batch: usize, features: usize) -> Vec<Vec<Vec<f64>>> {
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as f64 / 2f64.powi(31) - 0.5
    };
    let sample = |next: &mut dyn FnMut() -> f64| {
        let label = if next() > 0.0 { 1.0 } else { -1.0 };
        let mut z = vec![label];
        z.extend((1..features).map(|i| {
            let shift = if i % 3 == 0 { 0.3 } else { 0.0 };
            label * (shift * label + next())
        }));
        z
    };
    (0..steps)
        .map(|_| (0..batch).map(|_| sample(&mut next)).collect())
        .collect()
}

#[test]
fn encrypted_training_gives_the_weights_of_plain_training() {
    let batches = samples(3, 24, 11);
    for attribute in ["", "@precompute(degree = 2, inputs = 2.0)"] {
        let dir = tempfile::tempdir().unwrap();
        let (report, error) = train(dir.path(), &batches, 2.0, attribute);
        assert!(error < 1e-3, "{attribute}: {error}");
        let promised = report["promised_precision_bits"].as_f64().unwrap();
        let measured = report["precision_bits"].as_f64().unwrap();
        assert!(measured >= promised, "{attribute}: {measured} {promised}");
    }
}

#[test]
fn precomputed_products_halve_the_levels_of_training() {
    let dir = tempfile::tempdir().unwrap();
    for steps in [2u64, 4] {
        let compile = |attribute: &str| {
            let text = program(steps as usize, 16, 13, 2.0, attribute);
            fs::write(dir.path().join("train.hec"), text).unwrap();
            run(dir.path(), &["compile", "train.hec", "--format", "json"])
        };
        let plain = compile("");
        assert!(plain["levels"].as_u64().unwrap() < 4 * steps);
        for (inputs, levels) in [(2, 5 * steps / 2 + 1), (4, 2 * steps + 2)] {
            let low = compile(&format!(
                "@precompute(degree = 2, inputs = {inputs}.0) @precision(12)"
            ));
            let number = |path: &str| low.pointer(path).unwrap().as_u64().unwrap();
            assert!(number("/levels") <= levels, "{steps}: {low}");
            assert!(number("/depth") <= 2 * steps + 1, "{steps}: {low}");
            let most = inputs * number("/precompute/inputs_without");
            assert!(number("/encrypted_inputs/count") <= most, "{steps}: {low}");
            assert!(low["precision_bits"].as_f64().unwrap() >= 12.0, "{low}");
            let sent = low["precompute"]["sent"].as_array().unwrap();
            let gram = |s: &Value| s["value"].as_str().unwrap().contains("Z[1] @ Z[0]'");
            assert!(sent.iter().any(gram), "{steps}: {low}");
        }
    }
}

#[test]
fn minibatches_of_a_thousand_samples_take_few_ciphertexts() {
    let dir = tempfile::tempdir().unwrap();
    let text = program(4, 1024, 197, 8.0, "");
    fs::write(dir.path().join("train.hec"), text).unwrap();
    let report = run(dir.path(), &["compile", "train.hec", "--format", "json"]);
    // 16 tiles of 64 × 256 for each batch, and the weights
    let count = report["encrypted_inputs"]["count"].as_u64().unwrap();
    assert!(count <= 4 * 16 + 2, "{count}");
    assert_eq!(report["params"]["ring_degree"], 32768);
    assert!(report["levels"].as_u64().unwrap() <= 15);
}

#[test]
fn handwritten_threes_and_eights_are_told_apart() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/lr");
    let Ok(data) = data.canonicalize() else {
        eprintln!("skipped: there is no {}", data.display());
        return;
    };
    const STEPS: usize = 6;
    const BATCH: usize = 64;
    const RATE: f64 = 6.0;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { data.join(format!("mnist38-{name}.gz")) };
    // The client centres the features and folds the labels in, with the language itself.
    let fold = |rows: usize, part: &str| -> Vec<Vec<f64>> {
        let text = format!(
            "\
circuit fold(
    x: secret real[{rows}, 14, 14] in [0, 1],
    centre: secret real[196] in [0, 1],
    digit: secret real[{rows}] in [0, 9],
) -> Z: real[{rows}, 197] in [-1, 1] {{
    let label = (2 * digit - 11) / 5;
    let centred = reshape(x, [{rows}, 196])' - reshape(centre, [196, 1]);
    return (label * concat(ones([1, {rows}]), centred))';
}}

circuit centre(x: secret real[{rows}, 14, 14] in [0, 1]) -> m: real[196] in [0, 1] {{
    return mean(reshape(x, [{rows}, 196]), 0);
}}
"
        );
        fs::write(dir.path().join("fold.hec"), text).unwrap();
        let images = file(&format!("{part}-images14-idx3-short"));
        let labels = file(&format!("{part}-labels-idx1-ubyte"));
        let x = format!("x=@{}[0..{rows}]/1020", images.display());
        let digit = format!("digit=@{}[0..{rows}]", labels.display());
        let clear = [
            "run",
            "fold.hec",
            "--backend",
            "clear",
            "--format",
            "json",
            "--input",
            &x,
        ];
        let centre = if part == "train" {
            let report = run(dir.path(), &[&clear[..], &["--circuit", "centre"]].concat());
            fs::write(
                dir.path().join("m.json"),
                report["outputs"]["m"].to_string(),
            )
            .unwrap();
            "centre=@m.json"
        } else {
            "centre=@m.json"
        };
        let more = ["--circuit", "fold", "--input", centre, "--input", &digit];
        let report = run(dir.path(), &[&clear[..], &more].concat());
        let rows = report["outputs"]["Z"].as_array().unwrap();
        rows.iter().map(numbers).collect()
    };
    let rows = fold(STEPS * BATCH, "train");
    let test = fold(1984, "t10k");
    let batches: Vec<Vec<Vec<f64>>> = rows.chunks(BATCH).map(<[_]>::to_vec).collect();
    let (report, error) = train(
        dir.path(),
        &batches,
        RATE,
        "@precompute(degree = 2, inputs = 2.0)",
    );
    assert!(error < 1e-3, "{error}");
    assert!(report["levels"].as_u64().unwrap() <= 16);
    let accuracy = |w: &[f64]| {
        let right = test.iter().filter(|z| dot(z, w) > 0.0).count();
        100.0 * right as f64 / test.len() as f64
    };
    let (found, wanted) = (
        accuracy(&numbers(&report["outputs"]["w"])),
        accuracy(&plain(&batches, RATE)),
    );
    assert!((found - wanted).abs() <= 0.2, "{found} instead of {wanted}");
    assert!(wanted > 92.0, "{wanted}");
}
