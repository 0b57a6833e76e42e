//! Products of matrices of shapes that fit no tile evenly, by running the binary.

mod common;

use std::fs;

use common::hecc;
use serde_json::{Value, json};

type Matrix = Vec<Vec<f64>>;

/// Numbers from −1 to 1, reproducibly scattered.
fn matrix(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as f64 / 2f64.powi(30) - 1.0
    };
    (0..rows)
        .map(|_| (0..columns).map(|_| next()).collect())
        .collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len())
        .map(|j| a.iter().map(|row| row[j]).collect())
        .collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = transposed(b);
    a.iter()
        .map(|row| {
            columns
                .iter()
                .map(|c| row.iter().zip(c).map(|(x, y)| x * y).sum())
                .collect()
        })
        .collect()
}

/// The largest difference between `expression` of `a` and `b` and the product, and the report.
fn check(expression: &str, b_is: &str, a: &Matrix, b: &Matrix, flags: &[&str]) -> (f64, Value) {
    let dir = tempfile::tempdir().unwrap();
    let operand = |name: &str, m: &Matrix| {
        if expression.contains(&format!("{name}'")) {
            transposed(m)
        } else {
            m.clone()
        }
    };
    let wanted = product(a, b);
    let (a, b) = (operand("a", a), operand("b", b));
    let shape = |m: &Matrix| format!("real[{}, {}]", m.len(), m[0].len());
    let text = format!(
        "circuit c(a: secret {}, b: {b_is} {}) -> y: {} in [-512, 512] {{ return {expression}; }}\n",
        shape(&a),
        shape(&b),
        shape(&wanted),
    );
    fs::write(dir.path().join("c.hec"), text).unwrap();
    fs::write(dir.path().join("a.json"), json!(a).to_string()).unwrap();
    fs::write(dir.path().join("b.json"), json!(b).to_string()).unwrap();
    let mut args = vec![
        "run",
        "c.hec",
        "--input",
        "a=@a.json",
        "--input",
        "b=@b.json",
    ];
    args.extend(["--format", "json"]);
    args.extend(flags);
    let (code, out, err) = hecc(dir.path(), &args);
    assert_eq!(code, 0, "{expression}: {err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let found: Matrix = serde_json::from_value(report["outputs"]["y"].clone()).unwrap();
    assert_eq!(
        (found.len(), found[0].len()),
        (wanted.len(), wanted[0].len())
    );
    let error = found
        .iter()
        .flatten()
        .zip(wanted.iter().flatten())
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f64::max);
    (error, report)
}

#[test]
fn products_of_any_shape_are_right() {
    for (m, k, n) in [(13, 78, 141), (67, 17, 312), (134, 134, 134), (300, 27, 29)] {
        let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
        for (expression, b_is) in [("a @ b", "secret"), ("a' @ b'", "public")] {
            let (error, report) = check(expression, b_is, &a, &b, &["--backend", "clear"]);
            assert!(error < 1e-11, "{m}×{k}×{n}, {expression}: {error}");
            let levels = if b_is == "secret" { 2 } else { 1 };
            let found = report["levels"].as_u64().unwrap();
            assert!(found <= levels, "{m}×{k}×{n}, {expression}: {found} levels");
        }
    }
}

#[test]
fn encrypted_products_of_odd_shapes_are_right() {
    let (a, b) = (matrix(7, 39, 3), matrix(39, 21, 4));
    for expression in ["a @ b", "a' @ b", "a @ b'", "a' @ b'"] {
        for b_is in ["secret", "public"] {
            let (error, _) = check(expression, b_is, &a, &b, &[]);
            assert!(error < 1e-4, "{expression}, {b_is}: {error}");
        }
    }
}
