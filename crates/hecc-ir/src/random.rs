//! Random circuits and values from a seed, for the tests of passes.

use smallvec::SmallVec;

use crate::algebra::M61;
use crate::graph::{Circuit, Interval, NodeId, Real};
use crate::interp::TensorValue;
use crate::span::{FileId, Span};
use crate::tensor::{
    Affine, Basis, ConstTensor, Param, Polynomial, ResultDecl, Secrecy, Shape, Tensor, TensorOp,
    broadcast, elements,
};

/// Steele, Lea and Flood's SplitMix64: small, deterministic, not for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that the seed determines.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// An integer below n (0 for n = 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// True once in n times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A multiple of 2^-20 within [lo, hi], so that short sums and products of such are exact.
    pub fn real(&mut self, lo: f64, hi: f64) -> f64 {
        let unit = (self.next_u64() >> 44) as f64 / (1u64 << 20) as f64;
        let grid = (1u64 << 20) as f64;
        (((lo + (hi - lo) * unit) * grid).round() / grid).clamp(lo, hi)
    }

    /// An element of the field, not zero.
    pub fn field_nonzero(&mut self) -> M61 {
        loop {
            let x = M61::new(self.next_u64() >> 3);
            if !x.is_zero() {
                return x;
            }
        }
    }
}

/// What random circuits look like.
#[derive(Clone, Copy, Debug)]
pub struct Shapes {
    /// Operations that are tried, inputs aside.
    pub operations: usize,
    /// Most elements of a tensor.
    pub elements: usize,
    /// Largest total degree of a value in the secret inputs, hence at most log2 of that in depth
    /// when products are balanced.
    pub degree: u64,
    /// Whether there are public parameters and divisions by them.
    pub public: bool,
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes {
            operations: 24,
            elements: 24,
            degree: 12,
            public: true,
        }
    }
}

/// A random flat circuit: well typed, with every operation but loops and projections, secret and
/// public parameters in \[-1, 1\], and every value within \[-64, 64\] for inputs in range, by
/// interval arithmetic (divisors stay away from zero, and what would grow is scaled down).
/// The same seed gives the same circuit.
pub fn circuit(seed: u64, shapes: &Shapes) -> Circuit<Tensor> {
    Generator::new(seed, shapes).circuit()
}

/// Random values in range for a circuit's parameters, exact in f64.
pub fn inputs(seed: u64, circuit: &Circuit<Tensor>) -> Vec<TensorValue<f64>> {
    let mut random = SplitMix64::new(seed ^ 0x1f2e_3d4c);
    circuit
        .inputs
        .iter()
        .map(|p| {
            let range = p.interval();
            let data = (0..elements(&p.shape))
                .map(|_| random.real(range.lo, range.hi))
                .collect();
            TensorValue::new(p.shape.clone(), data).expect("as many values as elements")
        })
        .collect()
}

/// Random field elements for a circuit's parameters, for exact comparison of two circuits.
pub fn field_inputs(seed: u64, circuit: &Circuit<Tensor>) -> Vec<TensorValue<M61>> {
    let mut random = SplitMix64::new(seed ^ 0x5a5a_1234);
    circuit
        .inputs
        .iter()
        .map(|p| {
            let data = (0..elements(&p.shape))
                .map(|_| random.field_nonzero())
                .collect();
            TensorValue::new(p.shape.clone(), data).expect("as many values as elements")
        })
        .collect()
}

struct Generator<'a> {
    random: SplitMix64,
    shapes: &'a Shapes,
    circuit: Circuit<Tensor>,
    /// Magnitude, degree and secrecy of every node.
    facts: Vec<(f64, u64, Secrecy)>,
    place: u32,
}

const LARGEST: f64 = 64.0;

impl<'a> Generator<'a> {
    fn new(seed: u64, shapes: &'a Shapes) -> Self {
        Generator {
            random: SplitMix64::new(seed),
            shapes,
            circuit: Circuit::new(format!("random{seed}")),
            facts: Vec::new(),
            place: 0,
        }
    }

    fn circuit(mut self) -> Circuit<Tensor> {
        let count = 1 + self.random.below(4);
        for i in 0..count {
            let secrecy = if self.shapes.public && i > 0 && self.random.one_in(3) {
                Secrecy::Public
            } else {
                Secrecy::Secret
            };
            let shape = self.shape();
            let span = self.span();
            self.circuit.inputs.push(Param {
                name: format!("x{i}"),
                secrecy,
                shape,
                range: self.random.one_in(2).then_some(Interval::UNIT),
                span,
            });
        }
        for i in 0..count {
            let secrecy = self.circuit.inputs[i].secrecy;
            let degree = u64::from(secrecy == Secrecy::Secret);
            self.push(TensorOp::Input(i as u32), &[], 1.0, degree, secrecy);
        }
        for _ in 0..self.shapes.operations {
            self.operation();
        }
        let outputs = 1 + self.random.below(3);
        for i in 0..outputs {
            // The first output is the last value, so that most of the graph is alive.
            let n = self.circuit.graph.len();
            let id = if i == 0 { n - 1 } else { self.random.below(n) };
            let span = self.span();
            self.circuit.outputs.push((
                NodeId(id as u32),
                ResultDecl {
                    name: format!("y{i}"),
                    range: None,
                    span,
                },
            ));
        }
        self.circuit
    }

    fn span(&mut self) -> Span {
        self.place += 8;
        Span::new(FileId(0), self.place as usize, self.place as usize + 5)
    }

    fn shape(&mut self) -> Shape {
        let rank = self.random.below(4);
        let mut shape: Shape = (0..rank).map(|_| 1 + self.random.below(5)).collect();
        while elements(&shape) > self.shapes.elements {
            shape.pop();
        }
        shape
    }

    fn any(&mut self) -> NodeId {
        // Recent values are chosen more often, so that circuits get deep.
        let n = self.circuit.graph.len();
        let back = self.random.below(n).min(self.random.below(n));
        NodeId((n - 1 - back) as u32)
    }

    fn any_where(&mut self, good: impl Fn(&[usize]) -> bool) -> Option<NodeId> {
        for _ in 0..8 {
            let id = self.any();
            if good(self.shape_of(id)) {
                return Some(id);
            }
        }
        None
    }

    fn any_public(&mut self) -> Option<NodeId> {
        for _ in 0..8 {
            let id = self.any();
            if self.fact(id).2 == Secrecy::Public {
                return Some(id);
            }
        }
        None
    }

    fn shape_of(&self, id: NodeId) -> &[usize] {
        self.circuit.graph.ty(id).shape()
    }

    fn own(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.shape_of(id))
    }

    fn fact(&self, id: NodeId) -> (f64, u64, Secrecy) {
        self.facts[id.index()]
    }

    /// Appends a node; its value is halved as often as keeps it in bounds.
    fn push(
        &mut self,
        op: TensorOp,
        operands: &[NodeId],
        magnitude: f64,
        degree: u64,
        secrecy: Secrecy,
    ) -> NodeId {
        let span = self.span();
        let id = self
            .circuit
            .push(op, operands, span)
            .expect("the generator makes well-typed operations");
        self.facts.push((magnitude, degree, secrecy));
        if self.random.one_in(16) {
            self.circuit
                .graph
                .declare(id, Interval::new(-magnitude, magnitude));
        }
        if self.random.one_in(24) {
            self.circuit.graph.set_keep(id);
        }
        if magnitude <= LARGEST {
            return id;
        }
        let factor = 2f64.powi(-((magnitude / LARGEST).log2().ceil() as i32));
        let shape = self.own(id);
        let c = self.push(
            TensorOp::Const(ConstTensor::filled(shape, factor)),
            &[],
            factor,
            0,
            Secrecy::Public,
        );
        self.push(TensorOp::Mul, &[id, c], magnitude * factor, degree, secrecy)
    }

    /// A value brought to a shape that it broadcasts to.
    fn broadcast(&mut self, id: NodeId, shape: &[usize]) -> NodeId {
        if self.shape_of(id) == shape {
            return id;
        }
        let (m, d, s) = self.fact(id);
        self.push(TensorOp::Broadcast(shape.into()), &[id], m, d, s)
    }

    fn pair(&mut self) -> Option<(NodeId, NodeId)> {
        let a = self.any();
        let shape = self.own(a);
        let most = self.shapes.elements;
        let b = self.any_where(|s| broadcast(s, &shape).is_some_and(|t| elements(&t) <= most))?;
        let to = broadcast(&shape, self.shape_of(b))?;
        Some((self.broadcast(a, &to), self.broadcast(b, &to)))
    }

    fn operation(&mut self) -> Option<NodeId> {
        let most = self.shapes.elements;
        let top = self.shapes.degree;
        let join = |a: (f64, u64, Secrecy), b: (f64, u64, Secrecy)| (a.1.max(b.1), a.2.max(b.2));
        Some(match self.random.below(22) {
            0 => {
                let shape = self.shape();
                let data: Vec<f64> = (0..elements(&shape))
                    .map(|_| match self.random.below(6) {
                        0 => 0.0,
                        1 => 1.0,
                        2 => -1.0,
                        3 => self.random.below(9) as f64 - 4.0,
                        _ => self.random.real(-2.0, 2.0),
                    })
                    .collect();
                let magnitude = data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                let c = ConstTensor::new(shape, data)?;
                self.push(TensorOp::Const(c), &[], magnitude, 0, Secrecy::Public)
            }
            1 => {
                let i = self.random.below(7) as i64 - 3;
                self.push(
                    TensorOp::Index(Affine::constant(i)),
                    &[],
                    i.abs() as f64,
                    0,
                    Secrecy::Public,
                )
            }
            n @ 2..=5 => {
                let (a, b) = self.pair()?;
                let (x, y) = (self.fact(a), self.fact(b));
                let (degree, secrecy) = join(x, y);
                let op = if n % 2 == 0 {
                    TensorOp::Add
                } else {
                    TensorOp::Sub
                };
                self.push(op, &[a, b], x.0 + y.0, degree, secrecy)
            }
            6..=8 => {
                let (a, b) = self.pair()?;
                let (x, y) = (self.fact(a), self.fact(b));
                if x.1 + y.1 > top {
                    return None;
                }
                self.push(TensorOp::Mul, &[a, b], x.0 * y.0, x.1 + y.1, x.2.max(y.2))
            }
            9 => {
                // x / (p² + 1), with p public: never near zero.
                let a = self.any();
                let p = self.any_public()?;
                let to = broadcast(self.shape_of(a), self.shape_of(p))?;
                if !self.shapes.public || elements(&to) > most {
                    return None;
                }
                let (a, p) = (self.broadcast(a, &to), self.broadcast(p, &to));
                let m = self.fact(p).0;
                let q = self.push(TensorOp::Pow(2), &[p], m * m, 0, Secrecy::Public);
                let one = self.push(
                    TensorOp::Const(ConstTensor::filled(to.clone(), 1.0)),
                    &[],
                    1.0,
                    0,
                    Secrecy::Public,
                );
                let m = self.fact(q).0 + 1.0;
                let q = self.push(TensorOp::Add, &[q, one], m, 0, Secrecy::Public);
                let (m, d, s) = self.fact(a);
                // A sum beyond the largest magnitude was scaled down, by two at most.
                self.push(TensorOp::Div, &[a, q], 2.0 * m, d, s)
            }
            10 => {
                let a = self.any();
                let (m, d, s) = self.fact(a);
                self.push(TensorOp::Neg, &[a], m, d, s)
            }
            11 => {
                let a = self.any();
                let (m, d, s) = self.fact(a);
                let n = self.random.below(5) as u32;
                if d * u64::from(n) > top {
                    return None;
                }
                let bound = if n == 0 { 1.0 } else { m.powi(n as i32) };
                self.push(TensorOp::Pow(n), &[a], bound, d * u64::from(n), s)
            }
            12 => {
                let a = self.any();
                let (m, d, s) = self.fact(a);
                let n = self.random.below(5) as u64;
                if d * n > top {
                    return None;
                }
                let coefficients: Vec<Real> = (0..=n)
                    .map(|_| {
                        Real(if self.random.one_in(3) {
                            0.0
                        } else {
                            self.random.real(-1.0, 1.0)
                        })
                    })
                    .collect();
                let (basis, grown) = if self.random.one_in(2) {
                    (Basis::Monomial, m.max(1.0))
                } else {
                    // |T_k(u)| ≤ (2|u| + 1)^k, with |u| ≤ m/2 + 1/2 on [-1, 3].
                    let basis = Basis::Chebyshev {
                        lo: Real(-1.0),
                        hi: Real(3.0),
                    };
                    (basis, m + 2.0)
                };
                let bound = coefficients.len() as f64 * grown.powi(n as i32);
                let p = Polynomial {
                    basis,
                    coefficients,
                };
                self.push(TensorOp::Poly(p), &[a], bound, d * n, s)
            }
            13 => {
                let a = self.any_where(|s| matches!(s.len(), 1 | 2))?;
                let inner = *self.shape_of(a).last()?;
                let b = self.any_where(|s| matches!(s.len(), 1 | 2) && s[0] == inner)?;
                let (x, y) = (self.fact(a), self.fact(b));
                let rows = elements(self.shape_of(a)) / inner;
                let columns = elements(self.shape_of(b)) / inner;
                if x.1 + y.1 > top || rows * columns > most {
                    return None;
                }
                let bound = inner as f64 * x.0 * y.0;
                self.push(TensorOp::MatMul, &[a, b], bound, x.1 + y.1, x.2.max(y.2))
            }
            14 => {
                let a = self.any_where(|s| !s.is_empty())?;
                let shape = self.own(a);
                let mut axes: SmallVec<[usize; 2]> = SmallVec::new();
                for axis in 0..shape.len() {
                    if self.random.one_in(2) {
                        axes.push(axis);
                    }
                }
                let n: usize = axes.iter().map(|x| shape[*x]).product();
                let (m, d, s) = self.fact(a);
                self.push(TensorOp::Sum(axes), &[a], m * n as f64, d, s)
            }
            15 => {
                let a = self.any();
                let (m, d, s) = self.fact(a);
                let shape = self.own(a);
                if self.random.one_in(2) && !shape.is_empty() {
                    let mut perm: SmallVec<[usize; 4]> = (0..shape.len()).collect();
                    for i in (1..perm.len()).rev() {
                        let j = self.random.below(i + 1);
                        perm.swap(i, j);
                    }
                    self.push(TensorOp::Transpose(perm), &[a], m, d, s)
                } else {
                    let n = elements(&shape);
                    let divisors: Vec<usize> = (1..=n).filter(|k| n.is_multiple_of(*k)).collect();
                    let k = divisors[self.random.below(divisors.len())];
                    let to = Shape::from_slice(&[k, n / k]);
                    self.push(TensorOp::Reshape(to), &[a], m, d, s)
                }
            }
            16 => {
                let a = self.any_where(|s| !s.is_empty())?;
                let (m, d, s) = self.fact(a);
                let (starts, sizes) = self.block(a);
                self.push(TensorOp::Slice { starts, sizes }, &[a], m, d, s)
            }
            17 => {
                let a = self.any_where(|s| !s.is_empty())?;
                let (starts, sizes) = self.block(a);
                let scalar = Shape::new();
                let b = self.any_where(|s| s == sizes.as_slice() || s == scalar.as_slice())?;
                let b = self.broadcast(b, &sizes);
                let (x, y) = (self.fact(a), self.fact(b));
                let (degree, secrecy) = join(x, y);
                let bound = x.0.max(y.0);
                self.push(TensorOp::Update { starts }, &[a, b], bound, degree, secrecy)
            }
            18 => {
                let a = self.any_where(|s| !s.is_empty())?;
                let shape = self.own(a);
                let axis = self.random.below(shape.len());
                let b = self.any_where(|s| {
                    s.len() == shape.len()
                        && (0..s.len()).all(|i| i == axis || s[i] == shape[i])
                        && elements(s) + elements(&shape) <= most
                })?;
                let (x, y) = (self.fact(a), self.fact(b));
                let (degree, secrecy) = join(x, y);
                self.push(
                    TensorOp::Concat(axis),
                    &[a, b],
                    x.0.max(y.0),
                    degree,
                    secrecy,
                )
            }
            19 => {
                let a = self.any();
                let (m, d, s) = self.fact(a);
                let shape = self.own(a);
                let before: Shape = shape.iter().map(|_| self.random.below(2)).collect();
                let after: Shape = shape.iter().map(|_| self.random.below(2)).collect();
                let n: usize = (0..shape.len())
                    .map(|i| before[i] + shape[i] + after[i])
                    .product();
                if n > most {
                    return None;
                }
                self.push(TensorOp::Pad { before, after }, &[a], m, d, s)
            }
            20 => {
                let a = self.any_where(|s| s.len() == 1 || s.len() == 2 && s[0] > 1)?;
                let (m, d, s) = self.fact(a);
                let shape = self.own(a);
                if shape.len() == 1 && self.random.one_in(2) {
                    let k = self.random.below(9) as i64 - 4;
                    return Some(self.push(TensorOp::Roll(Affine::constant(k)), &[a], m, d, s));
                }
                if shape.len() == 1 && shape[0] * shape[0] > most {
                    return None;
                }
                self.push(TensorOp::Diag, &[a], m, d, s)
            }
            _ => {
                let a = self.any_where(|s| s.len() >= 2 && s.iter().all(|n| *n >= 2))?;
                let (m, d, s) = self.fact(a);
                let shape = self.own(a);
                if self.random.one_in(2) {
                    return Some(self.push(TensorOp::SumPool(2), &[a], 4.0 * m, d, s));
                }
                // An image of all leading axes as channels, and a kernel of 2×2 from a vector or constant.
                let (h, w) = (shape[shape.len() - 2], shape[shape.len() - 1]);
                let channels = elements(&shape) / (h * w);
                let image = self.push(
                    TensorOp::Reshape(Shape::from_slice(&[channels, h, w])),
                    &[a],
                    m,
                    d,
                    s,
                );
                let filters = 1 + self.random.below(2);
                let n = filters * channels * 4;
                let scalar = self.any_where(|s| s.is_empty())?;
                let k = self.broadcast(scalar, &[filters, channels, 2, 2]);
                let (km, kd, ks) = self.fact(k);
                if d + kd > top {
                    return None;
                }
                let stride = 1 + self.random.below(2);
                self.push(
                    TensorOp::Conv2d { stride },
                    &[image, k],
                    m * km * n as f64,
                    d + kd,
                    s.max(ks),
                )
            }
        })
    }

    fn block(&mut self, id: NodeId) -> (Vec<Affine>, Shape) {
        let shape = self.own(id);
        let sizes: Shape = shape.iter().map(|n| 1 + self.random.below(*n)).collect();
        let starts = shape
            .iter()
            .zip(&sizes)
            .map(|(n, s)| Affine::constant(self.random.below(n - s + 1) as i64))
            .collect();
        (starts, sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::Clear;
    use crate::graph::Module;
    use crate::interp::check_ranges;
    use crate::verify::verify_tensor;
    use std::collections::BTreeSet;

    #[test]
    fn circuits_are_lawful_bounded_and_cover_all_operations() {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for seed in 0..400 {
            let c = circuit(seed, &Shapes::default());
            assert_eq!(c, circuit(seed, &Shapes::default()), "seed {seed}");
            let values = inputs(seed, &c);
            let all = crate::interp::eval_nodes(&Clear, &c, &values).expect("evaluates");
            let largest = all
                .iter()
                .flat_map(|v| v.data())
                .fold(0.0, |m: f64, x| m.max(x.abs()));
            assert!(largest.is_finite(), "seed {seed}: {largest}");
            for id in c.graph.ids() {
                seen.insert(<Tensor as crate::graph::Dialect>::mnemonic(c.graph.op(id)));
            }
            let module = Module::single(c);
            let broken = verify_tensor(&module);
            assert!(broken.is_empty(), "seed {seed}: {broken:?}");
            let (_, out) = check_ranges(&module, &values, 1e-9).expect("evaluates");
            assert!(out.is_empty(), "seed {seed}: {out:?}");
        }
        assert_eq!(seen.len(), 23, "{seen:?}");
    }
}
