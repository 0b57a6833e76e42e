//! Schedules and back-ends against a plain evaluation of the same circuits, node by node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hecc_ckks::{Context, Options, Randomness};
use hecc_ir::ckks::{Ckks, CkksInput, CkksOp, CkksType};
use hecc_ir::graph::Module;
use hecc_ir::graph::{Circuit, Interval, NodeId, Real};
use hecc_ir::program::Program;
use hecc_ir::slots::{
    Coefficient, PackedInput, PackedOutput, PlainDef, PlainId, PlainSource, SlotMap, SlotSource,
    SlotsMeta, Unpack,
};
use hecc_ir::span::Span;
use hecc_params::{
    Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security, ntt_primes_below,
};
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, ClearBackend, EncryptWith, Fusion, LockstepBackend, Plains,
    Schedule, Tensor64, Tolerance, Wanted, Work, bind, decrypt, encrypt, evaluation_keys_needed,
    execute, pack, resolve_plains, unpack,
};
use proptest::prelude::*;

const SLOTS: usize = 8;
const SCALE: f64 = (1u64 << 40) as f64;

fn parameters() -> Parameters {
    let mut q = ntt_primes_below(LogN(10), 1 << 45, 4, &[]);
    let p = q.split_off(3);
    Parameters::new(ParametersLiteral {
        log_n: LogN(10),
        q,
        p,
        digit_limbs: 1,
        scale: Scale(SCALE),
        security: Security::Insecure,
    })
    .unwrap()
}

/// Builds circuits at level 2 and scale 2^40.
struct Build(Circuit<Ckks>);

impl Build {
    fn new(inputs: u32) -> Build {
        let mut circuit = Circuit::new("test");
        for i in 0..inputs {
            circuit.inputs.push(CkksInput {
                packed: PackedInput {
                    param: i,
                    source: SlotSource::Map(SlotMap((0..SLOTS as u32).collect())),
                    range: Interval::UNIT,
                    label: format!("x{i}"),
                },
                level: Level(2),
                scale: Scale(SCALE),
            });
        }
        circuit.meta = SlotsMeta {
            slots: SLOTS,
            ..SlotsMeta::default()
        };
        Build(circuit)
    }

    fn push(&mut self, op: CkksOp, operands: &[NodeId]) -> NodeId {
        self.0.push(op, operands, Span::default()).unwrap()
    }

    fn input(&mut self, i: u32) -> NodeId {
        self.push(CkksOp::Input(i), &[])
    }

    fn plain(&mut self, values: [f64; SLOTS]) -> NodeId {
        let plain = PlainId(self.0.meta.plains.len() as u32);
        self.0.meta.plains.push(PlainDef {
            source: PlainSource::Vector(Arc::new(values)),
            range: Interval::UNIT,
        });
        self.push(
            CkksOp::Encode {
                plain,
                level: Level(2),
                scale: Real(SCALE),
            },
            &[],
        )
    }

    fn rotate(&mut self, a: NodeId, step: i32) -> NodeId {
        self.push(CkksOp::Rotate(RotationStep(step)), &[a])
    }

    fn output(&mut self, id: NodeId) {
        let vector = self.0.outputs.len() as u32;
        self.0.outputs.push((id, ()));
        self.0.meta.results.push(PackedOutput {
            name: format!("y{vector}"),
            shape: vec![SLOTS],
            unpack: Unpack::Slots((0..SLOTS as u32).map(|s| (vector, s)).collect()),
        });
    }

    fn program(self) -> Program {
        let inputs = self.0.inputs.len();
        let reference = Circuit::new("test");
        Program {
            name: "test".to_owned(),
            params: (0..inputs)
                .map(|i| hecc_ir::tensor::Param {
                    name: format!("x{i}"),
                    secrecy: hecc_ir::tensor::Secrecy::Secret,
                    shape: [SLOTS].as_slice().into(),
                    range: None,
                    span: Span::default(),
                })
                .collect(),
            reference: Module::single(reference),
            circuit: self.0,
            parameters: parameters(),
            precision_bits: 20.0,
        }
    }
}

fn bindings(program: &Program) -> Bindings {
    let given = program
        .params
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let value = Tensor64 {
                shape: vec![SLOTS],
                data: (0..SLOTS)
                    .map(|s| ((3 * i + s) as f64 * 0.7).sin())
                    .collect(),
            };
            (p.name.clone(), value)
        })
        .collect();
    bind(&program.params, None, given, Wanted::All).unwrap()
}

/// The meaning of a circuit, told without schedule or back-end.
fn meaning(program: &Program, plains: &Plains, bindings: &Bindings) -> Vec<Vec<f64>> {
    let circuit = &program.circuit;
    let mut values: Vec<Vec<f64>> = Vec::new();
    let scalar = |c: &Coefficient| match c {
        Coefficient::Const(v) => v.0,
        Coefficient::Plain(id) => plains.scalar(*id).unwrap(),
    };
    for id in circuit.graph.ids() {
        let at = circuit.graph.operands(id);
        let v = |i: usize| &values[at[i].index()];
        let zip = |f: fn(f64, f64) -> f64| v(0).iter().zip(v(1)).map(|(a, b)| f(*a, *b)).collect();
        let value: Vec<f64> = match circuit.graph.op(id) {
            CkksOp::Input(i) => {
                pack(&circuit.meta, &circuit.inputs[*i as usize].packed, bindings).unwrap()
            }
            CkksOp::Encode { plain, .. } => plains.slots(*plain, SLOTS).unwrap().to_vec(),
            CkksOp::Add => zip(|a, b| a + b),
            CkksOp::Sub => zip(|a, b| a - b),
            CkksOp::Mul => zip(|a, b| a * b),
            CkksOp::Neg => v(0).iter().map(|a| -a).collect(),
            CkksOp::Square => v(0).iter().map(|a| a * a).collect(),
            CkksOp::AddScalar(c) => v(0).iter().map(|a| a + scalar(c)).collect(),
            CkksOp::MulScalar { value, .. } => v(0).iter().map(|a| a * scalar(value)).collect(),
            CkksOp::LinComb { coefficients, .. } => (0..SLOTS)
                .map(|s| {
                    let terms = coefficients.iter().enumerate();
                    terms.map(|(i, c)| scalar(c) * v(i)[s]).sum()
                })
                .collect(),
            CkksOp::Rotate(step) => (0..SLOTS)
                .map(|s| v(0)[(s as i32 + step.0).rem_euclid(SLOTS as i32) as usize])
                .collect(),
            CkksOp::Conjugate | CkksOp::TimesI => panic!("these circuits are real"),
            CkksOp::Relinearize | CkksOp::Rescale { .. } | CkksOp::DropLevel(_) => v(0).clone(),
        };
        values.push(value);
    }
    circuit
        .outputs
        .iter()
        .map(|(id, ())| values[id.index()].clone())
        .collect()
}

/// Runs a program on every back-end, fused and not, and compares with its meaning.
fn check(program: &Program) {
    let bindings = bindings(program);
    let plains = resolve_plains(program, &bindings).unwrap();
    let wanted = meaning(program, &plains, &bindings);
    let circuit = &program.circuit;
    let close = |found: &[Vec<f64>], tolerance: f64, what: &str| {
        for (a, b) in found.iter().flatten().zip(wanted.iter().flatten()) {
            assert!(
                (a - b).abs() < tolerance,
                "{what}: {found:?} and {wanted:?}"
            );
        }
    };
    let packed = || -> Vec<Vec<f64>> {
        let inputs = circuit.inputs.iter();
        inputs
            .map(|i| pack(&circuit.meta, &i.packed, &bindings).unwrap())
            .collect()
    };
    let context =
        Context::with_options(program.parameters.clone(), Options::from_environment()).unwrap();
    let mut randomness = Randomness::deterministic([5; 32]);
    let secret = context.secret_key(&mut randomness);
    let request = evaluation_keys_needed(circuit, LogN(10));
    let keys = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .unwrap();
    for fusion in [Fusion::On, Fusion::Off] {
        let schedule = Schedule::new(circuit, fusion);
        let told = AtomicU64::new(0);
        let progress = |done: u64, total: u64| {
            assert!(done <= total);
            told.fetch_max(done, Ordering::Relaxed);
        };
        let clear = ClearBackend::new(circuit, &plains, packed());
        let ran = execute(circuit, &schedule, &clear, &progress).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), schedule.weight());
        let found: Vec<Vec<f64>> = ran.outputs.iter().map(|v| v.to_vec()).collect();
        close(&found, 1e-12, "clear");
        let results = unpack(&circuit.meta, &found, &[], None).unwrap();
        assert_eq!(results.len(), circuit.outputs.len());

        let with = EncryptWith::Secret(&secret);
        let inputs = encrypt(&context, circuit, &bindings, with, &mut randomness).unwrap();
        let ckks = CkksBackend::new(&context, circuit, &plains, &keys, inputs.clone()).unwrap();
        let ran = execute(circuit, &schedule, &ckks, &|_, _| {}).unwrap();
        let ciphertexts: Vec<_> = ran
            .outputs
            .iter()
            .map(|v| match &**v {
                CkksValue::Cipher(c) => c,
                CkksValue::Plain(_) => panic!("a plaintext as a result"),
            })
            .collect();
        let found = decrypt(&context, &program.circuit, &ciphertexts, &secret).unwrap();
        close(&found, 1e-4, "encrypted");

        let ckks = CkksBackend::new(&context, circuit, &plains, &keys, inputs).unwrap();
        let clear = ClearBackend::new(circuit, &plains, packed());
        let tolerance = Tolerance::Relative(1e-4);
        let both = LockstepBackend::new(circuit, ckks, clear, &context, &secret, tolerance);
        execute(circuit, &schedule, &both, &|_, _| {}).unwrap();
        assert_eq!(both.first_divergence(), None);
        assert!(both.compared() > 0);
    }
}

fn ones(n: usize) -> CkksOp {
    CkksOp::LinComb {
        coefficients: vec![Coefficient::Const(Real(1.0)); n],
        scale: Real(1.0),
    }
}

fn works(program: &Program) -> Vec<&'static str> {
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    let names = schedule.tasks().iter().filter_map(|t| match &t.work {
        Work::Node(_) => None,
        Work::Sum(_) => Some("sum"),
        Work::Rotations(_) => Some("rotations"),
        Work::RotatedSums(_) => Some("rotated sums"),
        Work::RelinearizeRescale => Some("relinearize+rescale"),
        Work::Combinations => Some("combinations"),
    });
    names.collect()
}

#[test]
fn sums_of_products_are_fused() {
    let mut b = Build::new(3);
    let x: Vec<NodeId> = (0..3).map(|i| b.input(i)).collect();
    let p = b.push(CkksOp::Mul, &[x[0], x[1]]);
    let q = b.push(CkksOp::Square, &[x[2]]);
    let r = b.push(CkksOp::Mul, &[x[1], x[2]]);
    let s = b.push(ones(3), &[p, q, r]);
    let s = b.push(CkksOp::Relinearize, &[s]);
    let prime = parameters().q()[2];
    let s = b.push(CkksOp::Rescale { prime }, &[s]);
    b.output(s);
    let program = b.program();
    assert_eq!(works(&program), ["sum", "relinearize+rescale"]);
    check(&program);
}

#[test]
fn weighted_rotations_are_fused() {
    let mut b = Build::new(2);
    let (x, y) = (b.input(0), b.input(1));
    let mut sum = None;
    for step in 0..4 {
        let plain = b.plain(std::array::from_fn(|s| (s as f64 + f64::from(step)).cos()));
        let turned = if step == 0 { x } else { b.rotate(x, step) };
        let term = b.push(CkksOp::Mul, &[turned, plain]);
        sum = Some(match sum {
            None => term,
            Some(sum) => b.push(CkksOp::Add, &[sum, term]),
        });
    }
    // A lone product, another ciphertext.
    let plain = b.plain([0.25; SLOTS]);
    let other = b.push(CkksOp::Mul, &[y, plain]);
    let sum = b.push(CkksOp::Add, &[sum.unwrap(), other]);
    b.output(sum);
    // Rotations that are not weighted.
    let (u, v) = (b.rotate(y, 1), b.rotate(y, -2));
    let w = b.push(CkksOp::Add, &[u, v]);
    b.output(w);
    let program = b.program();
    assert_eq!(works(&program), ["sum", "sum"]);
    check(&program);
}

/// Baby steps and giant steps: a matrix times a vector.
#[test]
fn linear_maps_are_fused() {
    let linear = |rescaled: bool, also: bool| {
        let mut b = Build::new(1);
        let x = b.input(0);
        let babies = [x, b.rotate(x, 1), b.rotate(x, 2)];
        let prime = parameters().q()[2];
        let mut turned = Vec::new();
        for giant in [0, 3, 6] {
            let terms: Vec<NodeId> = (0..3)
                .map(|i| {
                    let plain = b.plain(std::array::from_fn(|s| {
                        (s as f64 + f64::from(giant) * 1.7 + i as f64).sin()
                    }));
                    b.push(CkksOp::Mul, &[babies[i], plain])
                })
                .collect();
            let mut sum = b.push(ones(3), &terms);
            if rescaled {
                sum = b.push(CkksOp::Rescale { prime }, &[sum]);
            }
            turned.push(if giant == 0 {
                sum
            } else {
                b.rotate(sum, giant)
            });
        }
        let y = b.push(ones(3), &turned);
        b.output(y);
        if also {
            b.output(babies[1]);
        }
        b.program()
    };
    let map = linear(true, false);
    assert_eq!(works(&map), ["rotated sums", "sum"]);
    check(&map);
    // A rotation that is a result too is computed once; without a rescale there is nothing to merge with.
    for (rescaled, also) in [(true, true), (false, false)] {
        let map = linear(rescaled, also);
        assert!(!works(&map).contains(&"rotated sums"));
        check(&map);
    }
}

#[test]
fn rotations_and_combinations_are_grouped() {
    let mut b = Build::new(2);
    let (x, y) = (b.input(0), b.input(1));
    let turned: Vec<NodeId> = [1, 2, 9].iter().map(|k| b.rotate(x, *k)).collect();
    for (i, t) in turned.iter().enumerate() {
        let product = b.push(CkksOp::Mul, &[*t, y]);
        b.output(product);
        let coefficients = vec![
            Coefficient::Const(Real(0.5 * i as f64)),
            Coefficient::Const(Real(-1.25)),
        ];
        let combination = CkksOp::LinComb {
            coefficients,
            scale: Real(SCALE),
        };
        let c = b.push(combination, &[x, y]);
        b.output(c);
    }
    let program = b.program();
    let mut found = works(&program);
    found.sort_unstable();
    assert_eq!(found, ["combinations", "rotations"]);
    // Steps 1 and 9 are the same modulo 8 slots: one key.
    assert_eq!(
        evaluation_keys_needed(&program.circuit, LogN(10))
            .galois
            .len(),
        2
    );
    check(&program);
}

#[test]
fn a_value_is_freed_after_its_last_use() {
    let mut b = Build::new(1);
    let mut x = b.input(0);
    for _ in 0..50 {
        x = b.push(CkksOp::AddScalar(Coefficient::Const(Real(0.01))), &[x]);
    }
    b.output(x);
    let program = b.program();
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    assert_eq!(schedule.peak_ciphertexts(), 2);
    assert!(schedule.to_text(&program.circuit).contains("frees %0"));
    check(&program);
}

#[test]
fn many_chains_do_not_pile_up() {
    // 30 products that a sum takes one after the other: depth first keeps few of them alive.
    let mut b = Build::new(1);
    let x = b.input(0);
    let leaves: Vec<NodeId> = (0..30)
        .map(|i| {
            let c = Coefficient::Const(Real(f64::from(i)));
            let a = b.push(CkksOp::AddScalar(c), &[x]);
            b.push(CkksOp::Neg, &[a])
        })
        .collect();
    let mut sum = leaves[0];
    for leaf in &leaves[1..] {
        sum = b.push(CkksOp::Add, &[sum, *leaf]);
    }
    b.output(sum);
    let program = b.program();
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    assert!(
        schedule.peak_ciphertexts() <= 5,
        "{}",
        schedule.peak_ciphertexts()
    );
    check(&program);
}

#[test]
fn lockstep_finds_the_first_wrong_node() {
    let mut b = Build::new(1);
    let x = b.input(0);
    let a = b.push(CkksOp::AddScalar(Coefficient::Const(Real(0.5))), &[x]);
    let n = b.push(CkksOp::Neg, &[a]);
    b.output(n);
    let program = b.program();
    let circuit = &program.circuit;
    let bindings = bindings(&program);
    let plains = resolve_plains(&program, &bindings).unwrap();
    let context =
        Context::with_options(program.parameters.clone(), Options::from_environment()).unwrap();
    let mut randomness = Randomness::deterministic([6; 32]);
    let secret = context.secret_key(&mut randomness);
    let keys = hecc_ckks::EvaluationKeys::none();
    let with = EncryptWith::Secret(&secret);
    let inputs = encrypt(&context, circuit, &bindings, with, &mut randomness).unwrap();
    let ckks = CkksBackend::new(&context, circuit, &plains, &keys, inputs).unwrap();
    // In the clear another input: everything differs, the input first.
    let clear = ClearBackend::new(circuit, &plains, vec![vec![0.25; SLOTS]]);
    let tolerance = Tolerance::Relative(1e-6);
    let both = LockstepBackend::new(circuit, ckks, clear, &context, &secret, tolerance);
    let schedule = Schedule::new(circuit, Fusion::Off);
    execute(circuit, &schedule, &both, &|_, _| {}).unwrap();
    let first = both.first_divergence().unwrap();
    assert_eq!(first.node, x);
    assert!(first.error() > 0.1);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut b = Build::new(2);
    let (x, y) = (b.input(0), b.input(1));
    let s = b.push(CkksOp::Mul, &[x, y]);
    let s = b.push(CkksOp::Relinearize, &[s]);
    b.output(s);
    let program = b.program();
    let bindings = bindings(&program);
    let plains = resolve_plains(&program, &bindings).unwrap();
    let context =
        Context::with_options(program.parameters.clone(), Options::from_environment()).unwrap();
    let mut randomness = Randomness::deterministic([7; 32]);
    let secret = context.secret_key(&mut randomness);
    let with = EncryptWith::Secret(&secret);
    let inputs = encrypt(&context, &program.circuit, &bindings, with, &mut randomness).unwrap();
    let keys = hecc_ckks::EvaluationKeys::none();
    let too_few = inputs[..1].to_vec();
    assert!(CkksBackend::new(&context, &program.circuit, &plains, &keys, too_few).is_err());
    // The relinearization key is missing: an error with the node's place, not a panic.
    let backend = CkksBackend::new(&context, &program.circuit, &plains, &keys, inputs).unwrap();
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    let error = execute(&program.circuit, &schedule, &backend, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("relinearization"), "{error}");
    assert!(unpack(&program.circuit.meta, &[], &[], None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random circuits of level-preserving operations, with much sharing.
    #[test]
    fn random_circuits_keep_their_meaning(ops in prop::collection::vec((0..9u8, any::<u16>(), any::<u16>()), 1..40)) {
        let mut b = Build::new(2);
        let mut nodes = vec![b.input(0), b.input(1)];
        let mut products = Vec::new();
        for (op, i, j) in ops {
            let x = nodes[i as usize % nodes.len()];
            let y = nodes[j as usize % nodes.len()];
            let node = match op {
                0 => b.push(CkksOp::Add, &[x, y]),
                1 => b.push(CkksOp::Sub, &[x, y]),
                2 => b.push(CkksOp::Neg, &[x]),
                3 | 4 => b.rotate(x, i32::from(j) - 30_000),
                5 => b.push(CkksOp::AddScalar(Coefficient::Const(Real(0.125))), &[x]),
                6 => {
                    let c = |v: f64| Coefficient::Const(Real(v));
                    let op = CkksOp::LinComb { coefficients: vec![c(1.0), c(-1.0), c(2.0)], scale: Real(1.0) };
                    b.push(op, &[x, y, x])
                }
                7 => { products.push(b.push(CkksOp::Mul, &[nodes[0], nodes[1]])); continue; }
                _ => {
                    let plain = b.plain(std::array::from_fn(|s| (s as f64 * f64::from(i)).sin()));
                    products.push(b.push(CkksOp::Mul, &[x, plain]));
                    continue;
                }
            };
            // Values stay small enough for the modulus.
            if let CkksType::Cipher { .. } = b.0.graph.ty(node) && b.0.graph.len() < 60 {
                nodes.push(node);
            }
        }
        if let [first, rest @ ..] = products.as_slice() {
            let mut sum = *first;
            for p in rest {
                sum = b.push(CkksOp::Add, &[sum, *p]);
            }
            b.output(sum);
        }
        let last = nodes[nodes.len() - 1];
        b.output(last);
        let program = b.program();
        let bindings = bindings(&program);
        let plains = resolve_plains(&program, &bindings).unwrap();
        // Doubling chains may outgrow the scale; they are another test's matter.
        prop_assume!(meaning(&program, &plains, &bindings).iter().flatten().all(|v| v.abs() < 100.0));
        check(&program);
    }
}
