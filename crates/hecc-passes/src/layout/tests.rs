use hecc_ir::graph::Real;
use hecc_ir::graph::{Builder, Circuit, NodeId};
use hecc_ir::slots::{Coefficient, PlainSource, SlotMap, SlotSource, Slots, SlotsOp, Unpack};
use hecc_ir::span::Span;
use hecc_ir::tensor::{
    Affine, Basis, Param, Polynomial, ResultDecl, Secrecy, Shape, Tensor, TensorMeta, TensorOp,
    elements,
};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::expand::{Reals, expand};
use super::*;

/// Every node's value by the meaning of single elements.
fn reference(circuit: &Circuit<Tensor>, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let graph = &circuit.graph;
    let mut values: Vec<Vec<f64>> = Vec::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let operands = graph.operands(id);
        let v = match &node.op {
            TensorOp::Input(i) => inputs[*i as usize].clone(),
            TensorOp::Const(c) => c.data().to_vec(),
            TensorOp::Index(a) => vec![expand::fixed(a) as f64],
            op => {
                let data: Vec<&[f64]> = operands
                    .iter()
                    .map(|o| values[o.index()].as_slice())
                    .collect();
                let shapes: Vec<&[usize]> = operands.iter().map(|o| graph.ty(*o).shape()).collect();
                expand(&mut Reals, op, &data, &shapes, node.ty.shape())
            }
        };
        values.push(v);
    }
    circuit
        .outputs
        .iter()
        .map(|(id, _)| values[id.index()].clone())
        .collect()
}

/// The outputs of a lowered circuit for one instance, or for each instance of a batch.
fn evaluate(lowered: &Circuit<Slots>, instances: &[Vec<Vec<f64>>]) -> Vec<Vec<Vec<f64>>> {
    let s = lowered.meta.slots;
    let public: Vec<Vec<Vec<f64>>> = instances
        .iter()
        .map(|inputs| {
            lowered
                .meta
                .public
                .as_ref()
                .map_or(Vec::new(), |p| reference(p, inputs))
        })
        .collect();
    let place = |source: &SlotSource, of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
        match source {
            SlotSource::Map(SlotMap(map)) => {
                assert_eq!(map.len(), s);
                let data = of(0);
                map.iter()
                    .map(|e| {
                        if *e == SlotMap::EMPTY {
                            0.0
                        } else {
                            data[*e as usize]
                        }
                    })
                    .collect()
            }
            SlotSource::Element(e) => vec![of(0)[*e as usize]; s],
            SlotSource::Instances(e) => (0..s)
                .map(|i| {
                    if i < instances.len() {
                        of(i)[*e as usize]
                    } else {
                        0.0
                    }
                })
                .collect(),
        }
    };
    let plains: Vec<Vec<f64>> = lowered
        .meta
        .plains
        .iter()
        .map(|def| {
            let v = match &def.source {
                PlainSource::Uniform(v) => vec![*v; s],
                PlainSource::Vector(v) => v.to_vec(),
                PlainSource::Public { output, source } => {
                    place(source, &|i| public[i][*output as usize].clone())
                }
            };
            assert!(v.iter().all(|x| def.range.contains(*x, 1e-9)), "{def:?}");
            v
        })
        .collect();
    let graph = &lowered.graph;
    let mut values: Vec<Vec<f64>> = Vec::new();
    for id in graph.ids() {
        let ops = graph.operands(id);
        let get = |i: usize| &values[ops[i].index()];
        let zip = |f: fn(f64, f64) -> f64| -> Vec<f64> {
            get(0).iter().zip(get(1)).map(|(a, b)| f(*a, *b)).collect()
        };
        let v: Vec<f64> = match graph.op(id) {
            SlotsOp::Input(i) => {
                let input = &lowered.inputs[*i as usize];
                let v = place(&input.source, &|k| {
                    instances[k][input.param as usize].clone()
                });
                assert!(
                    v.iter().all(|x| input.range.contains(*x, 1e-9)),
                    "{input:?}"
                );
                v
            }
            SlotsOp::Plain(p) => plains[p.0 as usize].clone(),
            SlotsOp::Add => zip(|a, b| a + b),
            SlotsOp::Sub => zip(|a, b| a - b),
            SlotsOp::Mul => zip(|a, b| a * b),
            SlotsOp::Neg => get(0).iter().map(|a| -a).collect(),
            SlotsOp::Square => get(0).iter().map(|a| a * a).collect(),
            SlotsOp::LinComb(c) => (0..s)
                .map(|k| {
                    c.iter()
                        .enumerate()
                        .map(|(i, c)| {
                            let c = match c {
                                Coefficient::Const(v) => v.0,
                                Coefficient::Plain(p) => plains[p.0 as usize][k],
                            };
                            c * get(i)[k]
                        })
                        .sum()
                })
                .collect(),
            SlotsOp::Rotate(k) => {
                assert!(k.0 > 0 && (k.0 as usize) < s);
                (0..s).map(|i| get(0)[(i + k.0 as usize) % s]).collect()
            }
            SlotsOp::Conjugate | SlotsOp::TimesI => panic!("layouts are real"),
        };
        if let Some(range) = graph.node(id).declared {
            let ok = v.iter().all(|x| range.contains(*x, 1e-6));
            assert!(
                ok,
                "{id} {:?} leaves the declared {range:?}: {v:?}",
                graph.op(id)
            );
        }
        values.push(v);
    }
    let out = |o: usize, slot: usize| values[lowered.outputs[o].0.index()][slot];
    (0..instances.len())
        .map(|i| {
            lowered
                .meta
                .results
                .iter()
                .map(|r| match &r.unpack {
                    Unpack::Slots(places) => places
                        .iter()
                        .map(|(o, s)| out(*o as usize, *s as usize))
                        .collect(),
                    Unpack::Instances(o) => o.iter().map(|o| out(*o as usize, i)).collect(),
                    Unpack::Public(k) => public[i][*k as usize].clone(),
                })
                .collect()
        })
        .collect()
}

/// Builds small test circuits.
struct Maker {
    builder: Builder<Tensor>,
}

impl Maker {
    fn new(params: &[(&str, Secrecy, &[usize])]) -> Maker {
        let inputs = params
            .iter()
            .map(|(name, secrecy, shape)| Param {
                name: (*name).to_owned(),
                secrecy: *secrecy,
                shape: Shape::from_slice(shape),
                range: None,
                span: Span::default(),
            })
            .collect();
        Maker {
            builder: Builder::new("test", inputs, TensorMeta::default()),
        }
    }

    fn op(&mut self, op: TensorOp, operands: &[NodeId]) -> NodeId {
        self.builder.push(op, operands, Span::default()).unwrap()
    }

    fn shape(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.builder.graph().ty(id).shape())
    }

    fn done(mut self, outputs: &[NodeId]) -> Circuit<Tensor> {
        for (i, id) in outputs.iter().enumerate() {
            let decl = ResultDecl {
                name: format!("y{i}"),
                range: None,
                span: Span::default(),
            };
            self.builder.output(*id, decl);
        }
        self.builder.finish()
    }
}

const SECRET: Secrecy = Secrecy::Secret;
const PUBLIC: Secrecy = Secrecy::Public;

fn draw(rng: &mut impl Rng, n: usize) -> Vec<f64> {
    (0..n)
        .map(|_| f64::from(rng.random_range(-8i32..=8)) / 8.0)
        .collect()
}

fn options() -> Vec<LayoutOptions> {
    let all = [
        (Strategy::Auto, 1 << 15, None),
        (Strategy::Elements, 1, None),
        (Strategy::Packed, 1 << 15, None),
        (Strategy::Packed, 4, None),
        (Strategy::Tiles, 1 << 15, None),
        (Strategy::Tiles, 16, None),
        (Strategy::Tiles, 16, Some(3)),
        (Strategy::Tiles, 4, None),
    ];
    all.map(|(strategy, max_slots, max_inputs)| LayoutOptions {
        strategy,
        max_slots,
        max_inputs,
        ..LayoutOptions::default()
    })
    .to_vec()
}

/// Lowers by every layout and compares with the meaning of the tensors.
fn agree(circuit: &Circuit<Tensor>, seed: u64, note: &str) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = circuit
        .meta
        .batch
        .map_or(1, |b| rng.random_range(1..=b as usize));
    let instances: Vec<Vec<Vec<f64>>> = (0..n)
        .map(|_| {
            circuit
                .inputs
                .iter()
                .map(|p| draw(&mut rng, elements(&p.shape)))
                .collect()
        })
        .collect();
    let want: Vec<Vec<Vec<f64>>> = instances.iter().map(|i| reference(circuit, i)).collect();
    for o in options() {
        let lowered = lower(circuit, &o).unwrap_or_else(|d| panic!("{note}: {d:?}"));
        assert!(
            lowered == lower(circuit, &o).unwrap(),
            "{note} {o:?}: not deterministic"
        );
        assert!(
            lowered == tidy(&lowered),
            "{note} {o:?}: tidying twice changes something"
        );
        let got = evaluate(&lowered, &instances);
        for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
            assert_eq!(g.len(), w.len(), "{note} {o:?}");
            for (i, (g, w)) in g.iter().zip(w).enumerate() {
                assert!(
                    (g - w).abs() <= 1e-9 * (1.0 + w.abs()),
                    "{note} {o:?}: element {i} is {g}, not {w}"
                );
            }
        }
    }
}

/// A random circuit in which every operation can occur.
fn random_circuit(rng: &mut ChaCha8Rng) -> Circuit<Tensor> {
    let extent = |rng: &mut ChaCha8Rng| *[1usize, 2, 3, 4, 5, 7].choose(rng).unwrap();
    let shape = |rng: &mut ChaCha8Rng| -> Vec<usize> {
        (0..rng.random_range(0..=3)).map(|_| extent(rng)).collect()
    };
    let shapes: Vec<Vec<usize>> = (0..3).map(|_| shape(rng)).collect();
    let mut m = Maker::new(&[
        ("x", SECRET, &shapes[0]),
        ("y", SECRET, &shapes[1]),
        ("p", PUBLIC, &shapes[2]),
    ]);
    let mut pool: Vec<(NodeId, u32)> = (0..3).map(|i| (m.op(TensorOp::Input(i), &[]), 1)).collect();
    let c = shape(rng);
    let values = draw(rng, elements(&c));
    pool.push((m.op(TensorOp::Const(public::constant(&c, values)), &[]), 0));
    let steps = rng.random_range(3..14);
    for _ in 0..steps {
        let (a, da) = *pool[rng.random_range(0..pool.len())..].first().unwrap();
        let (b, db) = *pool.choose(rng).unwrap();
        let (sa, sb) = (m.shape(a), m.shape(b));
        let made = random_op(rng, &mut m, (a, &sa, da), (b, &sb, db));
        if let Some((id, degree)) = made
            && degree <= 6
            && elements(&m.shape(id)) <= 400
        {
            pool.push((id, degree));
        }
    }
    let last = pool.len() - 1;
    let outputs: Vec<NodeId> = (0..rng.random_range(1..=2))
        .map(|i| pool[last - i].0)
        .collect();
    m.done(&outputs)
}

type Picked<'a> = (NodeId, &'a [usize], u32);

fn random_op(
    rng: &mut ChaCha8Rng,
    m: &mut Maker,
    (a, sa, da): Picked,
    (b, sb, db): Picked,
) -> Option<(NodeId, u32)> {
    let constant = |rng: &mut ChaCha8Rng, m: &mut Maker, s: &[usize]| {
        let values = draw(rng, elements(s));
        m.op(TensorOp::Const(public::constant(s, values)), &[])
    };
    Some(match rng.random_range(0..22) {
        k @ 0..=4 => {
            // numpy broadcasting of both to a common shape
            let to = hecc_ir::tensor::broadcast(sa, sb)?;
            let a = if sa == to.as_slice() {
                a
            } else {
                m.op(TensorOp::Broadcast(to.clone()), &[a])
            };
            let b = if sb == to.as_slice() {
                b
            } else {
                m.op(TensorOp::Broadcast(to), &[b])
            };
            match k {
                0 | 1 => (m.op(TensorOp::Add, &[a, b]), da.max(db)),
                2 => (m.op(TensorOp::Sub, &[a, b]), da.max(db)),
                _ => (m.op(TensorOp::Mul, &[a, b]), da + db),
            }
        }
        5 => (m.op(TensorOp::Neg, &[a]), da),
        6 => {
            let n = rng.random_range(0..=3);
            (m.op(TensorOp::Pow(n), &[a]), da * n)
        }
        7 => {
            let coefficients = draw(rng, 4).into_iter().map(Real).collect();
            let basis = if rng.random() {
                Basis::Monomial
            } else {
                Basis::Chebyshev {
                    lo: Real(-3.0),
                    hi: Real(1.0),
                }
            };
            (
                m.op(
                    TensorOp::Poly(Polynomial {
                        basis,
                        coefficients,
                    }),
                    &[a],
                ),
                da * 3,
            )
        }
        8 | 9 => {
            let fits = (1..=2).contains(&sa.len())
                && (1..=2).contains(&sb.len())
                && sa[sa.len() - 1] == sb[0];
            if fits {
                (m.op(TensorOp::MatMul, &[a, b]), da + db)
            } else if (1..=2).contains(&sa.len()) {
                let n = rng.random_range(1..=5);
                let w = constant(rng, m, &[sa[sa.len() - 1], n]);
                (m.op(TensorOp::MatMul, &[a, w]), da)
            } else {
                return None;
            }
        }
        10 | 11 => {
            let axes = (0..sa.len()).filter(|_| rng.random()).collect();
            (m.op(TensorOp::Sum(axes), &[a]), da)
        }
        12 => {
            let to = Shape::from_slice(&[elements(sa)]);
            (m.op(TensorOp::Reshape(to), &[a]), da)
        }
        13 => {
            let perm = (0..sa.len()).rev().collect();
            (m.op(TensorOp::Transpose(perm), &[a]), da)
        }
        14 => {
            let sizes: Shape = sa.iter().map(|n| rng.random_range(1..=*n)).collect();
            let starts = sa
                .iter()
                .zip(&sizes)
                .map(|(n, s)| Affine::constant(rng.random_range(0..=n - s) as i64))
                .collect();
            (m.op(TensorOp::Slice { starts, sizes }, &[a]), da)
        }
        15 => {
            let fits = sa.len() == sb.len() && sa.iter().zip(sb).all(|(x, y)| y <= x);
            if !fits {
                return None;
            }
            let starts = sa
                .iter()
                .zip(sb)
                .map(|(n, s)| Affine::constant(rng.random_range(0..=n - s) as i64))
                .collect();
            (m.op(TensorOp::Update { starts }, &[a, b]), da.max(db))
        }
        16 => {
            if sa.is_empty() || sa.len() != sb.len() {
                return None;
            }
            let axis = rng.random_range(0..sa.len());
            let alike = (0..sa.len()).all(|i| i == axis || sa[i] == sb[i]);
            let b = if alike { b } else { a };
            (m.op(TensorOp::Concat(axis), &[a, b]), da.max(db))
        }
        17 => {
            let side = |rng: &mut ChaCha8Rng| sa.iter().map(|_| rng.random_range(0..=2)).collect();
            let (before, after) = (side(rng), side(rng));
            (m.op(TensorOp::Pad { before, after }, &[a]), da)
        }
        18 => {
            if sa.len() != 1 {
                return None;
            }
            let k = Affine::constant(rng.random_range(-9..=9));
            (m.op(TensorOp::Roll(k), &[a]), da)
        }
        19 => {
            if sa.len() != 1 && sa.len() != 2 {
                return None;
            }
            (m.op(TensorOp::Diag, &[a]), da)
        }
        20 => {
            if sa.len() != 3 {
                return None;
            }
            let (kh, kw) = (rng.random_range(1..=sa[1]), rng.random_range(1..=sa[2]));
            let k = constant(rng, m, &[2, sa[0], kh, kw]);
            let stride = rng.random_range(1..=2);
            (m.op(TensorOp::Conv2d { stride }, &[a, k]), da)
        }
        _ => {
            if sa.len() < 2 {
                return None;
            }
            let n = rng.random_range(1..=2);
            if sa[sa.len() - 1] < n || sa[sa.len() - 2] < n {
                return None;
            }
            (m.op(TensorOp::SumPool(n), &[a]), da)
        }
    })
}

#[test]
fn random_circuits_mean_the_same() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut circuit = random_circuit(&mut rng);
        if seed % 5 == 0 {
            circuit.meta.batch = Some(rng.random_range(1..=9));
        }
        agree(&circuit, seed, &format!("seed {seed}"));
    }
}

#[test]
fn long_chains_are_near_linear() {
    let n = 32768;
    let mut m = Maker::new(&[("x", SECRET, &[n])]);
    let x = m.op(TensorOp::Input(0), &[]);
    let mut p = None;
    for i in 0..n {
        let starts = vec![Affine::constant(i as i64)];
        let cut = m.op(
            TensorOp::Slice {
                starts,
                sizes: Shape::from_slice(&[1]),
            },
            &[x],
        );
        let e = m.op(TensorOp::Reshape(Shape::new()), &[cut]);
        p = Some(match p {
            None => e,
            Some(p) => m.op(TensorOp::Mul, &[p, e]),
        });
    }
    let circuit = m.done(&[p.unwrap()]);
    let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
    assert_eq!(lowered.graph.len(), 2 * n - 1);

    let n = 65536;
    let mut m = Maker::new(&[("x", SECRET, &[n]), ("y", SECRET, &[n])]);
    let (x, y) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
    let mut sum = None;
    for i in 0..n {
        let mut at = |v| {
            let starts = vec![Affine::constant(i as i64)];
            let cut = m.op(
                TensorOp::Slice {
                    starts,
                    sizes: Shape::from_slice(&[1]),
                },
                &[v],
            );
            m.op(TensorOp::Reshape(Shape::new()), &[cut])
        };
        let (a, b) = (at(x), at(y));
        let product = m.op(TensorOp::Mul, &[a, b]);
        sum = Some(match sum {
            None => product,
            Some(s) => m.op(TensorOp::Add, &[s, product]),
        });
    }
    let circuit = m.done(&[sum.unwrap()]);
    let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
    assert_eq!(lowered.graph.len(), 3 * n + 1);
}
/// How often each operation occurs: products of ciphertexts, rotations, products with vectors.
fn counts(lowered: &Circuit<Slots>) -> (usize, usize, usize) {
    let graph = &lowered.graph;
    let (mut muls, mut rotations, mut plain) = (0, 0, 0);
    for id in graph.ids() {
        match graph.op(id) {
            SlotsOp::Square => muls += 1,
            SlotsOp::Rotate(_) => rotations += 1,
            SlotsOp::Mul => {
                let second = graph.operands(id)[1];
                match graph.op(second) {
                    SlotsOp::Plain(_) => plain += 1,
                    _ => muls += 1,
                }
            }
            _ => {}
        }
    }
    (muls, rotations, plain)
}

fn constant(m: &mut Maker, shape: &[usize], seed: u64) -> NodeId {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = draw(&mut rng, elements(shape));
    m.op(TensorOp::Const(public::constant(shape, values)), &[])
}

#[test]
fn a_dot_product_is_one_product_and_a_ladder() {
    let mut m = Maker::new(&[("x", SECRET, &[1024]), ("y", SECRET, &[1024])]);
    let (x, y) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
    let dot = m.op(TensorOp::MatMul, &[x, y]);
    let circuit = m.done(&[dot]);
    agree(&circuit, 1, "dot");
    let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
    assert_eq!(counts(&lowered), (1, 10, 0));
    assert_eq!((lowered.inputs.len(), estimate(&lowered).levels), (2, 1));
}

#[test]
fn a_known_matrix_takes_baby_and_giant_steps() {
    for (rows, inner, rotations) in [(128, 128, 22), (96, 200, 23)] {
        let mut m = Maker::new(&[("x", SECRET, &[inner])]);
        let x = m.op(TensorOp::Input(0), &[]);
        let w = constant(&mut m, &[rows, inner], 7);
        let y = m.op(TensorOp::MatMul, &[w, x]);
        let circuit = m.done(&[y]);
        agree(&circuit, 2, "matrix times vector");
        let lowered = lower(
            &circuit,
            &LayoutOptions {
                strategy: Strategy::Packed,
                ..LayoutOptions::default()
            },
        )
        .unwrap();
        assert_eq!(counts(&lowered), (0, rotations, 128));
        assert_eq!(estimate(&lowered).levels, 1);
    }
}

#[test]
fn a_matrix_may_be_a_public_parameter() {
    let shapes: [&[usize]; 2] = [&[6, 11], &[11]];
    let mut m = Maker::new(&[("w", PUBLIC, shapes[0]), ("x", SECRET, shapes[1])]);
    let (w, x) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
    let y = m.op(TensorOp::MatMul, &[w, x]);
    let circuit = m.done(&[y]);
    agree(&circuit, 3, "public matrix");
}

#[test]
fn secret_matrices_take_one_level() {
    let mut m = Maker::new(&[("a", SECRET, &[13, 7]), ("b", SECRET, &[7, 11])]);
    let (a, b) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
    let y = m.op(TensorOp::MatMul, &[a, b]);
    let circuit = m.done(&[y]);
    agree(&circuit, 4, "matrix times matrix");
    let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
    assert_eq!(estimate(&lowered).levels, 1);
    assert_eq!(counts(&lowered), (1, 3, 0));
}

#[test]
fn sobel_needs_no_mask() {
    let mut m = Maker::new(&[("x", SECRET, &[1, 64, 64])]);
    let x = m.op(TensorOp::Input(0), &[]);
    let kernel = vec![
        1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 1.0, 0.0, -1.0, //
        1.0, 2.0, 1.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0,
    ];
    let k = m.op(
        TensorOp::Const(public::constant(&[2, 1, 3, 3], kernel)),
        &[],
    );
    let g = m.op(TensorOp::Conv2d { stride: 1 }, &[x, k]);
    let g = m.op(TensorOp::Mul, &[g, g]);
    let y = m.op(TensorOp::Sum([0].into_iter().collect()), &[g]);
    let circuit = m.done(&[y]);
    agree(&circuit, 5, "sobel");
    let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
    let (muls, rotations, plain) = counts(&lowered);
    assert_eq!((muls, plain, estimate(&lowered).levels), (2, 0, 1));
    assert!(rotations <= 8, "{rotations}");
}

/// The training loop of circuits/logreg_train.hec, unrolled.
fn training(steps: usize, rows: usize, features: usize) -> Circuit<Tensor> {
    let mut m = Maker::new(&[
        ("Z", SECRET, &[steps, rows, features]),
        ("w0", SECRET, &[features]),
    ]);
    let (z, w0) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
    let (mut w, mut v) = (w0, w0);
    let scaled = |m: &mut Maker, x: NodeId, c: f64| {
        let s = m.shape(x);
        let c = m.op(
            TensorOp::Const(hecc_ir::tensor::ConstTensor::filled(s, c)),
            &[],
        );
        m.op(TensorOp::Mul, &[x, c])
    };
    for t in 0..steps {
        let starts = [t, 0, 0].map(|i| Affine::constant(i as i64)).to_vec();
        let sizes = Shape::from_slice(&[1, rows, features]);
        let zt = m.op(TensorOp::Slice { starts, sizes }, &[z]);
        let zt = m.op(
            TensorOp::Reshape(Shape::from_slice(&[rows, features])),
            &[zt],
        );
        let margin = m.op(TensorOp::MatMul, &[zt, v]);
        m.builder
            .declare(margin, hecc_ir::graph::Interval::new(-1e6, 1e6));
        let margin = m.op(TensorOp::Neg, &[margin]);
        let coefficients = [0.5, 0.125, 0.0, -0.0625].map(Real).to_vec();
        let p = Polynomial {
            basis: Basis::Monomial,
            coefficients,
        };
        let s = m.op(TensorOp::Poly(p), &[margin]);
        let back = m.op(TensorOp::Transpose(Shape::from_slice(&[1, 0])), &[zt]);
        let g = m.op(TensorOp::MatMul, &[back, s]);
        let g = scaled(&mut m, g, 0.25);
        let next = m.op(TensorOp::Add, &[v, g]);
        let (a, b) = (scaled(&mut m, next, 1.5), scaled(&mut m, w, -0.5));
        v = m.op(TensorOp::Add, &[a, b]);
        w = next;
    }
    m.done(&[w])
}

#[test]
fn training_alternates_rows_and_columns() {
    let circuit = training(2, 4, 6);
    agree(&circuit, 6, "training");
    let packed = LayoutOptions {
        strategy: Strategy::Packed,
        max_slots: 32,
        ..LayoutOptions::default()
    };
    // one mask a minibatch at most, where a sum over the fast axis is turned into a replicated vector
    for k in 1..=3 {
        let lowered = lower(&training(k, 4, 6), &packed).unwrap();
        let (muls, _, masks) = counts(&lowered);
        assert_eq!((muls, masks), (4 * k, k - 1), "{k} minibatches");
    }
}

fn weighted(m: &mut Maker, x: NodeId, c: f64) -> NodeId {
    let c = hecc_ir::tensor::ConstTensor::filled(m.shape(x), c);
    let c = m.op(TensorOp::Const(c), &[]);
    m.op(TensorOp::Mul, &[x, c])
}

/// Logistic regression on minibatches: as it is written, or with the next margins computed from
/// products of minibatches that are parameters, too.
fn minibatches(steps: usize, rows: usize, features: usize, reassociated: bool) -> Circuit<Tensor> {
    let cube: &[usize] = &[steps, rows, features];
    let products: &[usize] = &[steps, rows, rows];
    let mut m = Maker::new(&[
        ("Z", SECRET, cube),
        ("w0", SECRET, &[features]),
        ("v0", SECRET, &[features]),
        ("G", SECRET, products),
    ]);
    let cut = |m: &mut Maker, of: u32, t: usize, rows: usize, columns: usize| {
        let all = m.op(TensorOp::Input(of), &[]);
        let starts = [t, 0, 0].map(|i| Affine::constant(i as i64)).to_vec();
        let sizes = Shape::from_slice(&[1, rows, columns]);
        let one = m.op(TensorOp::Slice { starts, sizes }, &[all]);
        m.op(
            TensorOp::Reshape(Shape::from_slice(&[rows, columns])),
            &[one],
        )
    };
    let narrow = |m: &mut Maker, id: NodeId, by: f64| {
        m.builder
            .declare(id, hecc_ir::graph::Interval::new(-by, by));
    };
    let mut w = m.op(TensorOp::Input(1), &[]);
    let mut v = m.op(TensorOp::Input(2), &[]);
    let mut before: Option<(NodeId, NodeId, f64)> = None;
    for t in 0..steps {
        let z = cut(&mut m, 0, t, rows, features);
        let p = match before {
            Some((u, s, rate)) if reassociated => {
                let g = cut(&mut m, 3, t, rows, rows);
                let old = m.op(TensorOp::MatMul, &[z, u]);
                let new = m.op(TensorOp::MatMul, &[g, s]);
                let new = weighted(&mut m, new, rate);
                m.op(TensorOp::Add, &[old, new])
            }
            _ => m.op(TensorOp::MatMul, &[z, v]),
        };
        narrow(&mut m, p, 8.0);
        let square = m.op(TensorOp::Mul, &[p, p]);
        let cube = m.op(TensorOp::Mul, &[square, p]);
        let (a, b) = (weighted(&mut m, p, -0.15), weighted(&mut m, cube, 0.0016));
        let sum = m.op(TensorOp::Add, &[a, b]);
        let half = hecc_ir::tensor::ConstTensor::filled(m.shape(sum), 0.5);
        let half = m.op(TensorOp::Const(half), &[]);
        let s = m.op(TensorOp::Add, &[sum, half]);
        let back = m.op(TensorOp::Transpose(Shape::from_slice(&[1, 0])), &[z]);
        let g = m.op(TensorOp::MatMul, &[back, s]);
        let g = weighted(&mut m, g, 0.3);
        let next = m.op(TensorOp::Add, &[v, g]);
        narrow(&mut m, next, 4.0);
        let eta = -0.28 - 0.1 * t as f64;
        let mix = |m: &mut Maker, x: NodeId| {
            let (a, b) = (weighted(m, x, 1.0 - eta), weighted(m, w, eta));
            m.op(TensorOp::Add, &[a, b])
        };
        // the next margins are Z (u + rate · Zᵀ s) with u of older weights alone
        let u = mix(&mut m, v);
        v = mix(&mut m, next);
        before = Some((u, s, 0.3 * (1.0 - eta)));
        w = next;
    }
    m.done(&[w])
}

/// Rescalings on the longest path.
fn levels(lowered: &Circuit<Slots>) -> u64 {
    measure::measure(&crate::scale::lower_ideal(lowered)).levels
}

#[test]
fn training_takes_four_levels_a_minibatch_and_two_and_a_half_reassociated() {
    let tiles = LayoutOptions {
        strategy: Strategy::Tiles,
        ..LayoutOptions::default()
    };
    for k in [1usize, 2, 3, 4, 6] {
        let written = lower(&minibatches(k, 8, 13, false), &tiles).unwrap();
        assert_eq!(
            levels(&written),
            4 * k as u64 - 1,
            "{k} minibatches as written"
        );
        let again = lower(&minibatches(k, 8, 13, true), &tiles).unwrap();
        let most = (5 * k as u64).div_ceil(2) + 1;
        assert!(levels(&again) <= most, "{k}: {} levels", levels(&again));
        let (muls, rotations, plain) = counts(&again);
        assert!(
            muls <= 10 * k && rotations <= 60 * k && plain <= 12 * k,
            "{k}: {muls} products, {rotations} rotations, {plain} masks"
        );
    }
    agree(&minibatches(2, 3, 5, false), 7, "minibatches");
    agree(&minibatches(3, 4, 6, true), 8, "minibatches, re-associated");
}

#[test]
fn inputs_are_packed_once_where_few_are_allowed() {
    for k in [2usize, 3, 4] {
        let circuit = minibatches(k, 8, 13, true);
        let free = lower(&circuit, &LayoutOptions::default()).unwrap();
        // minibatches, their products, and the start
        let least = k + (k - 1) + 2;
        assert!(free.inputs.len() > least + 1, "{k}: nothing to be saved");
        let few = LayoutOptions {
            max_inputs: Some(least + 1),
            ..LayoutOptions::default()
        };
        let bounded = lower(&circuit, &few).unwrap();
        assert!(
            bounded.inputs.len() <= least + 1,
            "{k}: {}",
            bounded.inputs.len()
        );
        assert!(
            levels(&bounded) <= levels(&free) + 2,
            "{k}: {} levels, {} with few inputs",
            levels(&free),
            levels(&bounded)
        );
    }
    // a limit that nothing keeps is no error
    let none = LayoutOptions {
        max_inputs: Some(1),
        ..LayoutOptions::default()
    };
    let circuit = minibatches(2, 3, 5, true);
    assert!(lower(&circuit, &none).unwrap().inputs.len() > 1);
}

/// What AWS HIT takes for its operations on encrypted matrices and vectors (its README: levels).
#[test]
fn linear_algebra_takes_no_more_levels_than_hit() {
    type Make = fn(&mut Maker, NodeId, NodeId) -> NodeId;
    type Row<'a> = (&'a str, &'a [usize], &'a [usize], Make, u64, u64);
    let rows: &[Row<'_>] = &[
        (
            "add",
            &[13, 78],
            &[13, 78],
            |m, a, b| m.op(TensorOp::Add, &[a, b]),
            0,
            0,
        ),
        (
            "Hadamard",
            &[13, 78],
            &[13, 78],
            |m, a, b| m.op(TensorOp::Mul, &[a, b]),
            1,
            1,
        ),
        (
            "sum over rows",
            &[13, 78],
            &[1],
            |m, a, _| m.op(TensorOp::Sum([0].into_iter().collect()), &[a]),
            0,
            0,
        ),
        (
            "sum over columns",
            &[13, 78],
            &[1],
            |m, a, _| m.op(TensorOp::Sum([1].into_iter().collect()), &[a]),
            1,
            0,
        ),
        (
            "row · matrix",
            &[13],
            &[13, 78],
            |m, a, b| m.op(TensorOp::MatMul, &[a, b]),
            1,
            1,
        ),
        (
            "matrix · column",
            &[13, 78],
            &[78],
            |m, a, b| m.op(TensorOp::MatMul, &[a, b]),
            2,
            1,
        ),
        (
            "matrix · matrix",
            &[13, 78],
            &[78, 14],
            |m, a, b| m.op(TensorOp::MatMul, &[a, b]),
            3,
            1,
        ),
    ];
    for (name, a, b, make, theirs, ours) in rows {
        let mut m = Maker::new(&[("a", SECRET, a), ("b", SECRET, b)]);
        let (x, y) = (m.op(TensorOp::Input(0), &[]), m.op(TensorOp::Input(1), &[]));
        let out = make(&mut m, x, y);
        let circuit = m.done(&[out]);
        let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
        let found = levels(&lowered);
        assert!(ours <= theirs);
        assert_eq!(found, *ours, "{name}");
        println!(
            "{name}: {found} levels, {:?} products, rotations, masks",
            counts(&lowered)
        );
    }
}

/// Lowered circuits against the interpreters of the graph crate, in an algebra.
fn compare<A: hecc_ir::algebra::Algebra>(
    algebra: &A,
    circuit: &Circuit<Tensor>,
    inputs: &[hecc_ir::interp::TensorValue<A::Value>],
    equal: impl Fn(&A::Value, &A::Value) -> bool,
) -> Result<(), String> {
    use hecc_ir::{interp, vectors, verify};
    let want = interp::eval_circuit(algebra, circuit, inputs).map_err(|e| e.to_string())?;
    for o in options() {
        let lowered = lower(circuit, &o).map_err(|d| format!("{o:?}: {}", d.message))?;
        let laws = verify::verify_slots(&lowered);
        if !laws.is_empty() {
            return Err(format!("{o:?}: {laws:?}"));
        }
        let meta = &lowered.meta;
        let public = match &meta.public {
            Some(p) => vec![interp::eval_circuit(algebra, p, inputs).map_err(|e| e.to_string())?],
            None => Vec::new(),
        };
        let params: Vec<Vec<_>> = inputs.iter().map(|v| vec![v.clone()]).collect();
        let got = (|| {
            let packed = vectors::pack_inputs(algebra, &lowered.inputs, meta.slots, &params)?;
            let plains = vectors::resolve_plains(algebra, meta, &public)?;
            let outputs = vectors::eval_slots(algebra, &lowered, &packed, &plains)?;
            vectors::unpack(meta, &outputs, &public, 1)
        })()
        .map_err(|e: interp::EvalError| format!("{o:?}: {e}"))?;
        for (g, w) in got[0].iter().zip(&want) {
            let same =
                g.shape() == w.shape() && g.data().iter().zip(w.data()).all(|(a, b)| equal(a, b));
            if !same {
                return Err(format!("{o:?}: {g:?} is not {w:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn layouts_agree_with_the_interpreter() {
    use hecc_ir::algebra::{Clear, F61};
    use hecc_ir::random;
    let mut exact = 0;
    for seed in 0..150 {
        let circuit = random::circuit(seed, &random::Shapes::default());
        let inputs = random::inputs(seed, &circuit);
        let near = |a: &f64, b: &f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
        if let Err(why) = compare(&Clear, &circuit, &inputs, near) {
            panic!("seed {seed}: {why}");
        }
        let inputs = random::field_inputs(seed, &circuit);
        exact += usize::from(compare(&F61, &circuit, &inputs, |a, b| a == b).is_ok());
    }
    // the others divide constants, or take Chebyshev polynomials: their constants are rounded
    assert!(exact >= 120, "only {exact} of 150 are exact");
}

#[test]
fn complex_slots_agree_with_the_interpreter() {
    use hecc_ir::algebra::F61;
    use hecc_ir::{interp, random, vectors, verify};
    let mut exact = 0;
    for seed in 0..200 {
        let mut circuit = random::circuit(seed, &random::Shapes::default());
        let instances = 2 + seed as usize % 6;
        circuit.meta.batch = Some(instances as u32);
        let lowered = lower(&circuit, &LayoutOptions::default()).unwrap();
        let Some(pairs) = complex(&lowered) else {
            continue;
        };
        let laws = verify::verify_slots(&pairs);
        assert!(laws.is_empty(), "seed {seed}: {laws:?}");
        assert_eq!(pairs.meta.values(), lowered.meta.slots);
        let inputs: Vec<Vec<_>> = (0..instances as u64)
            .map(|k| random::field_inputs(1000 * seed + k, &circuit))
            .collect();
        let compared = (|| {
            let want: Result<Vec<_>, _> = inputs
                .iter()
                .map(|i| interp::eval_circuit(&F61, &circuit, i))
                .collect();
            let public: Result<Vec<_>, _> = match &pairs.meta.public {
                Some(p) => inputs
                    .iter()
                    .map(|i| interp::eval_circuit(&F61, p, i))
                    .collect(),
                None => Ok(Vec::new()),
            };
            let public = public?;
            let params: Vec<Vec<_>> = (0..circuit.inputs.len())
                .map(|p| inputs.iter().map(|i| i[p].clone()).collect())
                .collect();
            let values = pairs.meta.values();
            let packed = vectors::pack_inputs(&F61, &pairs.inputs, values, &params)?;
            let plains = vectors::resolve_plains(&F61, &pairs.meta, &public)?;
            let outputs = vectors::eval_slots(&F61, &pairs, &packed, &plains)?;
            let got = vectors::unpack(&pairs.meta, &outputs, &public, instances)?;
            Ok::<_, interp::EvalError>((got, want?))
        })();
        // A division by zero has no value on either side; rounded constants are exact on neither.
        if let Ok((got, want)) = compared {
            let same = lower(&circuit, &LayoutOptions::default()).unwrap() == lowered;
            assert!(same, "seed {seed}");
            exact += usize::from(got == want);
        }
    }
    assert!(exact >= 40, "only {exact} of 200 are exact");
}
