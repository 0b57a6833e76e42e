//! Helpers of the tests of passes: small programs by hand, and their value modulo a prime.

use hecc_ir::graph::{Circuit, Module, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{ConstTensor, Param, ResultDecl, Secrecy, Shape, Tensor, TensorOp, elements};

use crate::pipeline::{Options, PassReport, optimize};

/// A program under construction.
pub struct Program {
    pub circuit: Circuit<Tensor>,
}

impl Program {
    pub fn new() -> Program {
        Program {
            circuit: Circuit::new("test"),
        }
    }

    pub fn input(&mut self, secrecy: Secrecy, shape: &[usize]) -> NodeId {
        let i = self.circuit.inputs.len() as u32;
        self.circuit.inputs.push(Param {
            name: format!("x{i}"),
            secrecy,
            shape: Shape::from_slice(shape),
            range: None,
            span: Span::default(),
        });
        self.op(TensorOp::Input(i), &[])
    }

    pub fn secret(&mut self) -> NodeId {
        self.input(Secrecy::Secret, &[])
    }

    pub fn public(&mut self) -> NodeId {
        self.input(Secrecy::Public, &[])
    }

    pub fn op(&mut self, op: TensorOp, operands: &[NodeId]) -> NodeId {
        self.circuit
            .push(op, operands, Span::default())
            .expect("well typed")
    }

    pub fn num(&mut self, v: f64) -> NodeId {
        self.op(TensorOp::Const(ConstTensor::scalar(v)), &[])
    }

    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Add, &[a, b])
    }

    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Sub, &[a, b])
    }

    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Mul, &[a, b])
    }

    pub fn output(&mut self, id: NodeId) {
        let name = format!("y{}", self.circuit.outputs.len());
        self.circuit.outputs.push((
            id,
            ResultDecl {
                name,
                range: None,
                span: Span::default(),
            },
        ));
    }

    pub fn done(mut self, result: NodeId) -> Module<Tensor> {
        self.output(result);
        Module::single(self.circuit)
    }
}

/// Optimizes with all checks on.
pub fn run(module: &Module<Tensor>, opt_level: u8) -> (Circuit<Tensor>, Vec<PassReport>) {
    let options = Options {
        opt_level,
        verify: true,
        ..Options::default()
    };
    optimize(module, &options, None).expect("compiles")
}

/// Products of two secrets, live ones.
pub fn products(circuit: &Circuit<Tensor>) -> usize {
    let facts = super::cost::facts(circuit);
    let live = circuit.live();
    circuit
        .graph
        .ids()
        .filter(|id| {
            let o = circuit.graph.operands(*id);
            live[id.index()]
                && matches!(circuit.graph.op(*id), TensorOp::Mul)
                && facts[o[0].index()].secret
                && facts[o[1].index()].secret
                && elements(circuit.graph.ty(*id).shape()) > 0
        })
        .count()
}

/// 2^61 − 1.
const P: u128 = (1 << 61) - 1;

fn modular(v: f64) -> u64 {
    // v = m · 2^e exactly.
    let bits = v.abs().to_bits();
    let (mut m, mut e) = ((bits & ((1 << 52) - 1)) as u128, (bits >> 52) as i64);
    if e > 0 {
        m |= 1 << 52;
    } else {
        e = 1;
    }
    e -= 1075;
    let two = power(2, e.rem_euclid(61) as u64);
    let r = (m % P * u128::from(two) % P) as u64;
    if v < 0.0 {
        (P as u64 - r) % P as u64
    } else {
        r
    }
}

fn power(mut b: u64, mut n: u64) -> u64 {
    let mut r = 1u128;
    while n > 0 {
        if n & 1 == 1 {
            r = r * u128::from(b) % P;
        }
        b = (u128::from(b) * u128::from(b) % P) as u64;
        n >>= 1;
    }
    r as u64
}

/// The outputs of an elementwise program on scalars, modulo 2^61 − 1, at inputs drawn from a seed.
pub fn value(circuit: &Circuit<Tensor>, seed: u64) -> Vec<u64> {
    let p = P as u64;
    let mul = |a: u64, b: u64| (u128::from(a) * u128::from(b) % P) as u64;
    let add = |a: u64, b: u64| ((u128::from(a) + u128::from(b)) % P) as u64;
    let mut v: Vec<u64> = Vec::new();
    for id in circuit.graph.ids() {
        let o = circuit.graph.operands(id);
        let at = |i: usize| v[o[i].index()];
        let new = match circuit.graph.op(id) {
            TensorOp::Input(i) => power(
                seed.wrapping_mul(0x9E37_79B9)
                    .wrapping_add(u64::from(*i) + 7)
                    % p,
                3,
            ),
            TensorOp::Const(c) => modular(c.data()[0]),
            TensorOp::Add => add(at(0), at(1)),
            TensorOp::Sub => add(at(0), p - at(1)),
            TensorOp::Mul => mul(at(0), at(1)),
            TensorOp::Div => mul(at(0), power(at(1), p - 2)),
            TensorOp::Neg => (p - at(0)) % p,
            TensorOp::Pow(n) => power(at(0), u64::from(*n)),
            TensorOp::Poly(q) => {
                let x = match q.basis {
                    hecc_ir::tensor::Basis::Monomial => at(0),
                    hecc_ir::tensor::Basis::Chebyshev { lo, hi } => {
                        let (lo, hi) = (modular(lo.0), modular(hi.0));
                        let top = add(add(at(0), at(0)), p - add(lo, hi));
                        mul(top, power(add(hi, p - lo), p - 2))
                    }
                };
                let mut sum = 0;
                // T_0 = 1, T_1 = x, T_{k+1} = 2x·T_k − T_{k−1}; or the powers.
                let (mut before, mut here) = (1, x);
                for (k, c) in q.coefficients.iter().enumerate() {
                    let t = if k == 0 { 1 } else { here };
                    sum = add(sum, mul(modular(c.0), t));
                    if k > 0 {
                        let next = match q.basis {
                            hecc_ir::tensor::Basis::Monomial => mul(here, x),
                            hecc_ir::tensor::Basis::Chebyshev { .. } => {
                                add(mul(add(x, x), here), p - before)
                            }
                        };
                        before = here;
                        here = next;
                    }
                }
                sum
            }
            TensorOp::Broadcast(_) | TensorOp::Reshape(_) => at(0),
            other => panic!("no scalar operation: {other:?}"),
        };
        v.push(new);
    }
    circuit
        .outputs
        .iter()
        .map(|(id, _)| v[id.index()])
        .collect()
}

/// Asserts that two scalar programs agree at a few points.
pub fn assert_same(a: &Circuit<Tensor>, b: &Circuit<Tensor>) {
    for seed in 1..4 {
        assert_eq!(value(a, seed), value(b, seed), "seed {seed}");
    }
}

/// Equal for circuits that differ in the numbers of nodes and the order of commuting operands alone.
pub fn fingerprint(circuit: &Circuit<Tensor>) -> (usize, Vec<u64>) {
    use std::hash::{Hash, Hasher};
    let mut of: Vec<u64> = Vec::new();
    for id in circuit.graph.ids() {
        let mut operands: Vec<u64> = circuit
            .graph
            .operands(id)
            .iter()
            .map(|o| of[o.index()])
            .collect();
        if matches!(circuit.graph.op(id), TensorOp::Add | TensorOp::Mul) {
            operands.sort_unstable();
        }
        let mut hasher = rustc_hash::FxHasher::default();
        circuit.graph.op(id).hash(&mut hasher);
        operands.hash(&mut hasher);
        of.push(hasher.finish());
    }
    let outputs = circuit.outputs.iter().map(|(id, _)| of[id.index()]);
    (
        circuit.live().iter().filter(|l| **l).count(),
        outputs.collect(),
    )
}
