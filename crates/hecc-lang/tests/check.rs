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
    let program = load(&[("main.hec", source)]).unwrap_or_else(|f| panic!("{}", rendered(&f)));
    for module in &program.circuits {
        let violations = hecc_ir::verify::verify_tensor(module);
        assert!(violations.is_empty(), "{source}\n{violations:?}");
    }
    program
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
        let program = load_program(&path, &Disk, Limits::default())
            .unwrap_or_else(|f| panic!("{}", rendered(&f)));
        assert!(!program.circuits.is_empty(), "{}", path.display());
        let warnings: Vec<String> = program
            .warnings
            .iter()
            .map(|d| d.render_plain(&program.sources))
            .collect();
        assert!(warnings.is_empty(), "{}", warnings.join("\n"));
        let text = std::fs::read_to_string(&path).expect("a text");
        let canonical = hecc_lang::format(&text).expect("no syntax error");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &canonical).expect("written");
        } else {
            assert_eq!(canonical, text, "{}", path.display());
        }
        for module in &program.circuits {
            assert_eq!(
                module.circuits.len() > 1,
                text.contains("for t in 0..STEPS {"),
                "{}",
                path.display()
            );
        }
    }
}

const DATA: &str = "
const A = [[1, -2, 3, 0.5], [4, 5, -6, 0.25], [0.125, 8, 9, -1]];
const V = [2, -1, 0.5, 3];
const IMAGE = [[[(3 * c + 5 * i - 2 * j + i * j) % 7 - 3 for j in 0..6] for i in 0..5] for c in 0..2];
const KERNEL = [[[[(o + 2 * c + 3 * a - b) % 5 - 2 for b in 0..2] for a in 0..3] for c in 0..2] for o in 0..3];
";

/// Expressions in A (3×4), V (4), IMAGE (2×5×6), KERNEL (3×2×3×2), with the shape of the result.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("sum(A)", "real"),
    ("sum(A, 0)", "real[4]"),
    ("sum(A, -1)", "real[3]"),
    ("mean(A, 1)", "real[3]"),
    ("mean(V)", "real"),
    ("dot(V, V)", "real"),
    ("A @ V", "real[3]"),
    ("A' @ A", "real[4, 4]"),
    ("[1, 2, 3] @ A", "real[4]"),
    ("rotate(V, 1) - rotate(V, -6)", "real[4]"),
    ("concat(V, 1, A[0])", "real[9]"),
    ("concat(A, A[.., 1..3], axis = 1)", "real[3, 6]"),
    ("reshape(A, [2, 6])", "real[2, 6]"),
    ("transpose(IMAGE)", "real[6, 5, 2]"),
    ("transpose(IMAGE, [1, 0, 2])", "real[5, 2, 6]"),
    ("pad(A, [[1, 0], [0, 2]])", "real[4, 6]"),
    ("pad(V, [2, 1])", "real[7]"),
    ("diag(V) + diag(diag(V))[0]", "real[4, 4]"),
    ("conv2d(IMAGE, KERNEL)", "real[3, 3, 5]"),
    ("conv2d(IMAGE, KERNEL, stride = 2)", "real[3, 2, 3]"),
    ("conv2d(IMAGE[0], KERNEL[0, 0])", "real[3, 5]"),
    ("conv2d(IMAGE, KERNEL[0, 0])", "real[2, 3, 5]"),
    ("conv2d(IMAGE[1], KERNEL[.., 1])", "real[3, 3, 5]"),
    ("sum_pool(IMAGE, 2)", "real[2, 2, 3]"),
    ("mean_pool(A, 3)", "real[1, 1]"),
    ("poly(V, [1, 0, -2, 3])", "real[4]"),
    ("poly(A, V)", "real[3, 4]"),
    ("A * V + A / 4 - V^3 + A^0", "real[3, 4]"),
    ("-A^2", "real[3, 4]"),
    ("A[1]", "real[4]"),
    ("A[1, 2] + A[1][2]", "real"),
    ("A[1..3, ..2]", "real[2, 2]"),
    ("A[.., 3]", "real[3]"),
    ("[V[i] * A[i % 3] for i in 0..4]", "real[4, 4]"),
    ("[V, 2 * V]", "real[2, 4]"),
    ("approx(sigmoid, V, on = [-4, 4], degree = 5)", "real[4]"),
    ("approx(bell, V / 3, on = [-1, 1], error = 1e-3)", "real[4]"),
    ("rows(A)", "real[3, 4]"),
    ("len(A) * V[len(V) - 1]", "real"),
    ("zeros([2, 4]) + V", "real[2, 4]"),
];

const FUNCTIONS: &str = "
fn bell(x) = exp(-x^2);
fn rows(a) {
    var out = 0 * a;
    for i in 0..len(a) {
        out[i] = a[len(a) - 1 - i];
        for j in 0..len(a[0]) { out[i, j] = out[i, j] * (j + 1); }
    }
    return out;
}
";

/// Every expression gives the same at compile time, by the checker itself, as through the graph.
#[test]
fn compile_time_and_run_time_agree() {
    let mut constant = String::from(DATA);
    constant.push_str(FUNCTIONS);
    let mut symbolic = String::from(FUNCTIONS);
    for (i, (e, ty)) in EXPRESSIONS.iter().enumerate() {
        constant.push_str(&format!(
            "circuit e{i}(_x: secret real in [-1, 1]) -> y: {ty} {{ return {e}; }}\n"
        ));
        symbolic.push_str(&format!(
            "circuit e{i}(A: secret real[3, 4] in [-9, 9], V: public real[4] in [-9, 9],
                IMAGE: secret real[2, 5, 6] in [-9, 9], KERNEL: secret real[3, 2, 3, 2] in [-9, 9]) -> y: {ty} {{ return {e}; }}\n"
        ));
    }
    let inputs: Vec<TensorValue<f64>> = [
        ("A", "3, 4"),
        ("V", "4"),
        ("IMAGE", "2, 5, 6"),
        ("KERNEL", "3, 2, 3, 2"),
    ]
    .iter()
    .map(|(name, shape)| {
        let text = format!(
            "{DATA} circuit f(_x: secret real in [-1, 1]) -> y: real[{shape}] {{ return {name}; }}"
        );
        let extents: Vec<usize> = shape
            .split(", ")
            .map(|n| n.parse().expect("a number"))
            .collect();
        value(&extents, &run(&text, &[value(&[], &[0.0])])[0])
    })
    .collect();
    let (constant, symbolic) = (checked(&constant), checked(&symbolic));
    for (i, (e, _)) in EXPRESSIONS.iter().enumerate() {
        let folded = &constant.circuits[i];
        let entry = folded.entry();
        assert_eq!(entry.graph.len(), 1, "{e} is folded");
        let a = eval(folded, &[value(&[], &[0.0])]);
        let b = eval(&symbolic.circuits[i], &inputs);
        for (x, y) in a[0].iter().zip(&b[0]) {
            assert!(
                (x - y).abs() <= 1e-9 * y.abs().max(1.0),
                "{e}: {a:?} and {b:?}"
            );
        }
    }
}

#[test]
fn built_ins_by_hand() {
    let out = |e: &str, ty: &str| {
        run(
            &format!("{DATA} circuit f(x: secret real[4] in [-9, 9]) -> y: {ty} {{ return {e}; }}"),
            &[value(&[4], &[1.0, 2.0, 3.0, 4.0])],
        )[0]
        .clone()
    };
    near(&out("rotate(x, 1)", "real[4]"), &[2.0, 3.0, 4.0, 1.0]);
    near(&out("sum(diag(x))", "real"), &[10.0]);
    near(&out("concat(x[1..3], 7)", "real[3]"), &[2.0, 3.0, 7.0]);
    near(
        &out("poly(x, [1, 2, 3])", "real[4]"),
        &[6.0, 17.0, 34.0, 57.0],
    );
    near(
        &out("reshape(x, [2, 2]) @ [1, 10]", "real[2]"),
        &[21.0, 43.0],
    );
    near(
        &out("reshape(x, [2, 2])'", "real[2, 2]"),
        &[1.0, 3.0, 2.0, 4.0],
    );
    near(
        &out("conv2d(reshape(x, [2, 2]), [[1, 10]])", "real[2, 1]"),
        &[21.0, 43.0],
    );
    near(
        &out("mean_pool(reshape(x, [2, 2]), 2)", "real[1, 1]"),
        &[2.5],
    );
    near(&out("pad(x, [1, 0])[0..3]", "real[3]"), &[0.0, 1.0, 2.0]);
    near(&out("-x^2 + x^0", "real[4]"), &[0.0, -3.0, -8.0, -15.0]);
    near(&out("2^3^2 * x[0]", "real"), &[512.0]);
    near(
        &out(
            "7 % 4 + -1 % 4 + 6 / 4 + log2(8) + floor(-1.5) + ceil(1.2) + x[0]",
            "real",
        ),
        &[11.5],
    );
    near(
        &out("min(3, 1, 2) + max([4, 9, 5]) + x[3]", "real"),
        &[14.0],
    );
    assert!(
        (out("approx(exp, x, on = [0, 5], error = 1e-6)[1]", "real")[0] - 2f64.exp()).abs() < 2e-6
    );
}

/// Loops in all their forms give what the same loop in Rust gives, and those that are uniform stay loops.
#[test]
fn loops_compute_what_they_say() {
    let x: Vec<f64> = (0..8).map(|i| f64::from(i) * 0.5 - 1.0).collect();
    let case = |body: &str, kept: usize, wanted: &[f64]| {
        let source = format!(
            "const W = [[(3 * i + j) % 5 - 2 for j in 0..8] for i in 0..8];
            fn step(a, i) = a + W[i, 0];
            circuit f(x: secret real[8] in [-9, 9], p: public real[8] in [-9, 9]) -> y: real[{}] {{ {body} }}",
            wanted.len()
        );
        let program = checked(&source);
        assert_eq!(loops(&program.circuits[0]), kept, "{body}");
        let p: Vec<f64> = x.iter().map(|x| x * x).collect();
        let out = eval(&program.circuits[0], &[value(&[8], &x), value(&[8], &p)]);
        near(&out[0], wanted);
    };
    let w = |i: usize, j: usize| ((3 * i + j) % 5) as f64 - 2.0;
    // Carried values, a constant indexed by the loop, a function.
    let mut s = 0.0;
    for (i, x) in x.iter().enumerate() {
        s = s * 0.5 + x * w(i, 3) + w(i, 0);
    }
    case(
        "var s = 0; for i in 0..8 { s = step(0.5 * s + x[i] * W[i][3], i); } return [s];",
        1,
        &[s],
    );
    // Indexed assignment, affine places, the loop variable as a number.
    let mut y = x.clone();
    for i in 1..7 {
        y[i + 1] = y[i - 1] + (2 * i + 1) as f64;
    }
    case(
        "var y = x; for i in 1..7 { y[i + 1] = y[i - 1] + (2 * i + 1); } return y;",
        1,
        &y,
    );
    // Nests, with captured values from outside both.
    let mut y = vec![0.0; 8];
    for i in 0..8 {
        for j in 0..8 {
            y[i] += w(i, j) * x[j] * x[7 - i];
        }
    }
    case(
        "var y = zeros([8]); let r = [x[7 - i] for i in 0..8];
        for i in 0..8 { for j in 0..8 { y[i] = y[i] + W[i, j] * x[j] * r[i]; } } return y;",
        2,
        &y,
    );
    // The inner bound depends on the outer variable: the outer loop is unrolled, the inner ones stay.
    let mut s = 0.0;
    for i in 0..4 {
        for j in 0..=i {
            s += x[i] * x[j];
        }
    }
    case(
        "var s = 0; for i in 0..4 { for j in 0..i + 1 { s = s + x[i] * x[j]; } } return [s];",
        4,
        &[s],
    );
    // A counter that is used as an index.
    let mut s = 0.0;
    for k in 0..4 {
        s += x[2 * k] * x[2 * k];
    }
    case(
        "var s = 0; var k = 0; for i in 0..4 { s = s + x[k] * x[k]; k = k + 2; } assert(k == 8); return [s];",
        0,
        &[s],
    );
    // Conditions, exponents and slices that depend on the iteration.
    let s: f64 = (0..4)
        .map(|i| {
            if i % 2 == 0 {
                x[i].powi(i as i32)
            } else {
                x[..i].iter().sum()
            }
        })
        .sum();
    case(
        "var s = 0; for i in 0..4 { if i % 2 == 0 { s = s + x[i]^i; } else { s = s + sum(x[0..i]); } } return [s];",
        0,
        &[s],
    );
    // A variable that becomes a vector, and secrecy that arrives through another variable.
    let t = x[0] + x[1] + x[2];
    case(
        "var s = 0; for i in 0..3 { s = s + x[i] * ones([2]); } return s;",
        0,
        &[t, t],
    );
    case(
        "var a = 0; var b = 0; for i in 0..3 { a = b; b = b + x[i]; } return [a, b];",
        1,
        &[x[0] + x[1], t],
    );
    // A public running sum, slices that move, rotations by the loop variable.
    let mut s = 0.0;
    for i in 0..4 {
        s += (x[i] + x[i + 1]) * x[(i + 3) % 8] * x[i].powi(2);
    }
    case(
        "var s = 0; for i in 0..4 { s = s + sum(x[i..i + 2]) * rotate(x, i + 3)[0] * p[i]; } return [s];",
        1,
        &[s],
    );
    // A loop of compile-time values alone.
    case(
        "var n = 0; var z = ones([3]); for i in 1..5 { n = n + i; z[i % 3] = n; } return z + 0 * x[0..3];",
        0,
        &[6.0, 10.0, 3.0],
    );
}

#[test]
fn files_constants_and_several_outputs() {
    let all = [
        (
            "dir/main.hec",
            "use \"lib/a.hec\";
            const LATE = EARLY * 2;
            const EARLY: real = N;
            const M = load(\"m.json\");
            circuit f(x: secret real[2] in [-1, 1]) -> (y: real[2] in [-9, 9], z: real) {
                let d in [-1, 1] = half(x);
                return (M @ d, LATE + M[0, 1]);
            }
            circuit g(x: secret real in [-1, 1]) -> y: real { return x^N; }",
        ),
        (
            "dir/lib/a.hec",
            "use \"b.hec\"; const N = 3; fn half(x) = quarter(2 * x);",
        ),
        ("dir/lib/b.hec", "fn quarter(x) = x / 4;"),
        ("dir/m.json", "[[1, 2], [3, 4]]"),
    ];
    let program = load(&all).unwrap_or_else(|f| panic!("{}", rendered(&f)));
    let names: Vec<&str> = program
        .circuits
        .iter()
        .map(|m| m.entry().name.as_str())
        .collect();
    assert_eq!(names, ["f", "g"]);
    let entry = program.circuits[0].entry();
    assert!(
        entry
            .graph
            .ids()
            .any(|id| entry.graph.node(id).declared.is_some())
    );
    assert!(entry.outputs[0].1.range.is_some() && entry.outputs[1].1.range.is_none());
    let out = eval(&program.circuits[0], &[value(&[2], &[1.0, -2.0])]);
    near(&out[0], &[0.5 * (1.0 - 4.0), 0.5 * (3.0 - 8.0)]);
    near(&out[1], &[8.0]);
    near(
        &eval(&program.circuits[1], &[value(&[], &[-2.0])])[0],
        &[-8.0],
    );
}

#[test]
fn attributes_reach_the_graph() {
    let program = checked(
        "@budget(depth = 3, rotations = 2 * 5)
        @batch(8)
        @precompute(degree = 2, inputs = 1.5)
        @precision(4 + 0.5)
        @ckks(scale_bits = 40, ring = 16384)
        circuit f(x: secret real[8] in [-1, 1]) -> y: real {
            var s = 0;
            @unroll(2)
            @pipeline(off)
            for i in 0..8 { @keep let t = x[i] * x[i]; s = s + t; }
            return s;
        }",
    );
    let module = &program.circuits[0];
    let meta = &module.entry().meta;
    let (budget, _) = meta.budget.expect("a budget");
    assert_eq!(
        (budget.depth, budget.rotations, budget.levels),
        (Some(3), Some(10), None)
    );
    assert_eq!(
        (meta.batch, meta.ckks.scale_bits, meta.ckks.ring),
        (Some(8), Some(40), Some(16384))
    );
    assert_eq!(
        meta.precompute.map(|p| (p.degree, p.inputs)),
        Some((2, 1.5))
    );
    assert_eq!(meta.precision, Some(4.5));
    let entry = module.entry();
    assert!(entry.graph.ids().any(|id| matches!(
        entry.graph.op(id),
        TensorOp::Loop {
            unroll: hecc_ir::tensor::Unroll::By(2),
            pipeline: false,
            ..
        }
    )));
    let body = &module.circuits[0];
    assert!(body.graph.ids().any(|id| body.graph.node(id).keep));
}

/// A chain of functions, each calling the one before: no stack overflow, but a clear end.
#[test]
fn deep_chains_of_calls_end_in_an_error() {
    let mut source = String::from("fn f0(x) = x;\n");
    for i in 1..3000 {
        source.push_str(&format!("fn f{i}(x) = (1 + (f{}(x)));\n", i - 1));
    }
    source.push_str("circuit c(x: secret real in [-1, 1]) -> y: real { return f2999(x); }");
    let failure = load(&[("main.hec", &source)]).expect_err("nested too deep");
    assert_eq!(
        failure.diagnostics[0].code,
        "E2012",
        "{}",
        rendered(&failure)
    );
}

/// A body of statements repeated by unrolling, 65,536 times, is a matter of a moment.
#[test]
fn large_unrolled_loops_are_bounded_work() {
    let program = checked(
        "circuit f(x: secret real[4] in [-1, 1]) -> y: real {
            var s = x[0];
            for i in 0..65536 { if i % 2 == 0 { s = s + x[i % 4]; } else { s = s - x[i % 4]; } }
            return s;
        }",
    );
    assert!(program.circuits[0].entry().graph.len() > 65536);
}

/// The language reference: its examples check, without a warning, and are as `hecc fmt` writes them.
#[test]
fn examples_of_the_reference_check() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language.md");
    let text = std::fs::read_to_string(&page).expect("the language reference");
    let mut count = 0;
    for part in text.split("```hec\n").skip(1) {
        let source = part.split("```").next().unwrap_or_default();
        let program = checked(source);
        let notes: Vec<String> = program
            .warnings
            .iter()
            .map(|d| d.render_plain(&program.sources))
            .collect();
        assert!(notes.is_empty(), "{source}\n{}", notes.join("\n"));
        assert!(!program.circuits.is_empty(), "{source}");
        assert_eq!(hecc_lang::format(source).as_deref(), Ok(source));
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}

/// Programs with tokens lost, doubled and swapped: whatever comes of them, it comes with no panic.
#[test]
fn damaged_programs_do_not_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources: Vec<String> = Vec::new();
    for folder in ["../../tests/errors", "../../circuits", "../../circuits/lib"] {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "hec"))
            .collect();
        paths.sort();
        sources.extend(
            paths
                .iter()
                .map(|p| std::fs::read_to_string(p).expect("a text")),
        );
    }
    sources.push(format!("{DATA}{FUNCTIONS}"));
    let limits = Limits {
        elements: 1 << 16,
        nodes: 20_000,
        trips: 1 << 12,
        steps: 20_000,
        nesting: 200,
        files: 4,
    };
    let spare = [
        "0",
        "-1",
        "1",
        "2.5",
        "[1, 2]",
        "x",
        "i",
        "[",
        "]",
        "(",
        ")",
        "..",
        "*",
        "@",
        "^",
        "'",
        "%",
        "/",
        "==",
        "&&",
        "sum",
        "approx",
        "reshape",
        "1e308",
        "9223372036854775807",
        "for i in 0..3",
        "load",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    let mut passed = 0;
    for round in 0..1500 {
        let source = &sources[round % sources.len()];
        let mut tokens: Vec<&str> = Vec::new();
        let mut rest = source.as_str();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let end = if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push(&rest[..end]);
            rest = &rest[end..];
        }
        for _ in 0..1 + next(2) {
            let (a, b) = (next(tokens.len()), next(tokens.len()));
            match next(4) {
                0 => tokens[a] = spare[next(spare.len())],
                1 => tokens.swap(a, b),
                2 => tokens[a] = tokens[b],
                _ => {
                    tokens.remove(a);
                }
            }
        }
        let text = tokens.concat();
        let fs = files(&[("main.hec", &text)]);
        let result = std::panic::catch_unwind(|| load_program(Path::new("main.hec"), &fs, limits));
        match result.unwrap_or_else(|_| panic!("round {round} panics:\n{text}")) {
            Ok(program) => {
                passed += 1;
                for module in &program.circuits {
                    let violations = hecc_ir::verify::verify_tensor(module);
                    assert!(violations.is_empty(), "{text}\n{violations:?}");
                }
            }
            Err(failure) => assert!(!rendered(&failure).is_empty()),
        }
    }
    assert!(passed > 30, "{passed} of them are still programs");
}
