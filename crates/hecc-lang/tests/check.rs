//! The checker on whole programs: what they compute, through the interpreter of the graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hecc_ir::algebra::Clear;
use hecc_ir::graph::Module;
use hecc_ir::interp::{TensorValue, eval_module};
use hecc_ir::tensor::{Shape, Tensor, TensorOp};
use hecc_lang::load::MemoryFiles;
use hecc_lang::{Checked, Failure, Limits, load_program};

fn files(all: &[(&str, &str)]) -> MemoryFiles {
    MemoryFiles(
        all.iter()
            .map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec()))
            .collect::<BTreeMap<_, _>>(),
    )
}

fn load(all: &[(&str, &str)]) -> Result<Checked, Failure> {
    load_program(Path::new(all[0].0), &files(all), Limits::default())
}

fn checked(source: &str) -> Checked {
    load(&[("main.hec", source)]).unwrap_or_else(|f| panic!("{}", rendered(&f)))
}

fn rendered(f: &Failure) -> String {
    let parts: Vec<String> = f
        .diagnostics
        .iter()
        .map(|d| d.render_plain(&f.sources))
        .collect();
    parts.join("\n")
}

fn value(shape: &[usize], data: &[f64]) -> TensorValue<f64> {
    TensorValue::new(Shape::from_slice(shape), data.to_vec()).expect("data of this shape")
}

fn eval(module: &Module<Tensor>, inputs: &[TensorValue<f64>]) -> Vec<Vec<f64>> {
    eval_module(&Clear, module, inputs)
        .unwrap_or_else(|e| panic!("{e}"))
        .iter()
        .map(|v| v.data().to_vec())
        .collect()
}

/// Evaluates the only circuit of a program.
fn run(source: &str, inputs: &[TensorValue<f64>]) -> Vec<Vec<f64>> {
    let program = checked(source);
    assert_eq!(program.circuits.len(), 1);
    eval(&program.circuits[0], inputs)
}

fn loops(module: &Module<Tensor>) -> usize {
    module
        .circuits
        .iter()
        .flat_map(|c| c.graph.ids().map(|id| c.graph.op(id)))
        .filter(|op| matches!(op, TensorOp::Loop { .. }))
        .count()
}

#[track_caller]
fn near(is: &[f64], wanted: &[f64]) {
    assert_eq!(is.len(), wanted.len(), "{is:?} for {wanted:?}");
    for (a, b) in is.iter().zip(wanted) {
        assert!(
            (a - b).abs() <= 1e-9 * b.abs().max(1.0),
            "{is:?} for {wanted:?}"
        );
    }
}

#[test]
fn elementwise_arithmetic_broadcasts() {
    let out = run(
        "circuit f(x: secret real[2, 3] in [-9, 9], y: public real[3] in [1, 9]) -> z: real[2, 3] {
            return -x^2 + 2 * x / y - reshape([10, 20], [2, 1]);
        }",
        &[
            value(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            value(&[3], &[1.0, 2.0, 4.0]),
        ],
    );
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0f64];
    let y = [1.0, 2.0, 4.0];
    let wanted: Vec<f64> = (0..6)
        .map(|i| -x[i].powi(2) + 2.0 * x[i] / y[i % 3] - [10.0, 20.0][i / 3])
        .collect();
    near(&out[0], &wanted);
}

#[test]
fn loops_stay_loops() {
    let start = std::time::Instant::now();
    let program = checked(
        "circuit f(x: secret real[65536], y: secret real[65536]) -> s: real {
            var s = 0;
            for i in 0..65536 { s = s + x[i] * y[i]; }
            return s;
        }",
    );
    let module = &program.circuits[0];
    assert_eq!(loops(module), 1);
    assert!(module.circuits.iter().map(|c| c.graph.len()).sum::<usize>() < 30);
    let data: Vec<f64> = (0..65536).map(|i| f64::from(i % 7)).collect();
    let x = value(&[65536], &data);
    let wanted: f64 = data.iter().map(|x| x * x).sum();
    near(&eval(module, &[x.clone(), x])[0], &[wanted]);
    eprintln!("{:?}", start.elapsed());
}

/// Files of this checkout.
struct Disk;

impl hecc_lang::FileSystem for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

#[test]
fn shipped_circuits_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../circuits");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of circuits")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "hec"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 9, "{paths:?}");
    for path in paths {
        let program =
            load_program(&path, &Disk, Limits::default()).unwrap_or_else(|f| panic!("{}", rendered(&f)));
        assert!(!program.circuits.is_empty(), "{}", path.display());
        for d in &program.warnings {
            panic!("{}", d.render_plain(&program.sources));
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        for module in &program.circuits {
            assert_eq!(module.circuits.len() > 1, text.contains("for t in 0..STEPS {"), "{}", path.display());
        }
    }
}
