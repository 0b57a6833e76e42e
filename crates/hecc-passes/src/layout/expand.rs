//! What every tensor operation means for single elements, written once.
//!
//! [`movement`] says where the elements of a result come from when an operation only moves them;
//! [`expand`] computes any operation over an [`Algebra`] of elements: real numbers give a constant
//! folder, encrypted scalars give the layout of one element per ciphertext.

use hecc_ir::tensor::{Affine, Basis, Polynomial, TensorOp, elements};

/// A term of a sum of products: a · b, or a alone.
pub(crate) type Term<E> = (E, Option<E>);

/// Arithmetic on single elements.
pub(crate) trait Algebra {
    /// An element.
    type Elem: Clone;
    /// A known number.
    fn constant(&mut self, value: f64) -> Self::Elem;
    /// a + b.
    fn add(&mut self, a: &Self::Elem, b: &Self::Elem) -> Self::Elem;
    /// a − b.
    fn sub(&mut self, a: &Self::Elem, b: &Self::Elem) -> Self::Elem;
    /// a · b.
    fn mul(&mut self, a: &Self::Elem, b: &Self::Elem) -> Self::Elem;
    /// a / b.
    fn div(&mut self, a: &Self::Elem, b: &Self::Elem) -> Self::Elem;
    /// −a.
    fn neg(&mut self, a: &Self::Elem) -> Self::Elem;
    /// Σ aᵢ · bᵢ, and Σ aᵢ where there is no bᵢ.
    fn dot(&mut self, terms: &[Term<Self::Elem>]) -> Self::Elem;

    /// a^n with the least multiplicative depth.
    fn pow(&mut self, a: &Self::Elem, n: u32) -> Self::Elem {
        if n == 0 {
            return self.constant(1.0);
        }
        Powers::new(a.clone()).get(self, n)
    }

    /// A polynomial with the least multiplicative depth: all the powers that it needs, each a
    /// product of two halves, and one weighted sum.
    fn poly(&mut self, a: &Self::Elem, p: &Polynomial) -> Self::Elem {
        let mut terms = Vec::new();
        match p.basis {
            Basis::Monomial => {
                let mut powers = Powers::new(a.clone());
                for (k, c) in p.coefficients.iter().enumerate() {
                    if c.0 != 0.0 {
                        let c = self.constant(c.0);
                        let power = match k {
                            0 => None,
                            _ => Some(powers.get(self, k as u32)),
                        };
                        terms.push((c, power));
                    }
                }
            }
            Basis::Chebyshev { lo, hi } => {
                let (slope, shift) = affine_to_unit(lo.0, hi.0);
                let (slope, shift) = (self.constant(slope), self.constant(shift));
                let scaled = self.mul(a, &slope);
                let u = self.add(&scaled, &shift);
                let mut basis = Chebyshev {
                    known: vec![None, Some(u)],
                };
                for (k, c) in p.coefficients.iter().enumerate() {
                    if c.0 != 0.0 {
                        let c = self.constant(c.0);
                        let value = match k {
                            0 => None,
                            _ => Some(basis.get(self, k)),
                        };
                        terms.push((c, value));
                    }
                }
            }
        }
        self.dot(&terms)
    }
}

/// u = slope · x + shift maps \[lo, hi\] to \[-1, 1\].
pub(crate) fn affine_to_unit(lo: f64, hi: f64) -> (f64, f64) {
    (2.0 / (hi - lo), -(lo + hi) / (hi - lo))
}

/// Powers of one element, each built once from two halves.
struct Powers<E> {
    known: Vec<Option<E>>,
}

impl<E: Clone> Powers<E> {
    fn new(a: E) -> Self {
        Powers {
            known: vec![None, Some(a)],
        }
    }

    fn get<A: Algebra<Elem = E> + ?Sized>(&mut self, algebra: &mut A, n: u32) -> E {
        let n = n as usize;
        if let Some(Some(e)) = self.known.get(n) {
            return e.clone();
        }
        // the largest power of two below keeps the depth at ceil(log2 n) and shares squares
        let high = if n.is_power_of_two() {
            n / 2
        } else {
            1 << n.ilog2()
        };
        let a = self.get(algebra, high as u32);
        let b = self.get(algebra, (n - high) as u32);
        let e = algebra.mul(&a, &b);
        if self.known.len() <= n {
            self.known.resize(n + 1, None);
        }
        self.known[n] = Some(e.clone());
        e
    }
}

/// Chebyshev polynomials of one element by T_{a+b} = 2 T_a T_b − T_{a−b}.
struct Chebyshev<E> {
    known: Vec<Option<E>>,
}

impl<E: Clone> Chebyshev<E> {
    fn get<A: Algebra<Elem = E> + ?Sized>(&mut self, algebra: &mut A, n: usize) -> E {
        if let Some(Some(e)) = self.known.get(n) {
            return e.clone();
        }
        let (high, low) = (n.div_ceil(2), n / 2);
        let a = self.get(algebra, high);
        let b = self.get(algebra, low);
        let product = algebra.mul(&a, &b);
        let rest = if high == low {
            algebra.constant(1.0)
        } else {
            self.get(algebra, high - low)
        };
        let twice = algebra.add(&product, &product);
        let e = algebra.sub(&twice, &rest);
        if self.known.len() <= n {
            self.known.resize(n + 1, None);
        }
        self.known[n] = Some(e.clone());
        e
    }
}

/// Where an element of a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Zero.
    Zero,
    /// Element `index` (row-major) of operand `operand`.
    From {
        /// The operand's place.
        operand: u32,
        /// Row-major index.
        index: u32,
    },
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1] * shape[i + 1];
    }
    out
}

/// Calls `f` with each multi-index of `shape`, row-major.
pub(crate) fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut at = vec![0; shape.len()];
    loop {
        f(&at);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
}

/// The value of an index in a circuit without loops.
pub(crate) fn fixed(a: &Affine) -> i64 {
    // the circuit was checked to be flat before any lowering
    a.as_constant().unwrap_or(a.constant)
}

/// For an operation that only moves elements, where each element of the result comes from;
/// `None` for an operation that computes.
pub(crate) fn movement(op: &TensorOp, shapes: &[&[usize]], out: &[usize]) -> Option<Vec<Source>> {
    let mut map = Vec::with_capacity(elements(out));
    let first = |index: usize| Source::From {
        operand: 0,
        index: index as u32,
    };
    match op {
        TensorOp::Broadcast(_) => {
            let s = strides(shapes[0]);
            let lead = out.len() - shapes[0].len();
            let steps: Vec<usize> = (0..out.len())
                .map(|i| {
                    if i < lead || shapes[0][i - lead] == 1 {
                        0
                    } else {
                        s[i - lead]
                    }
                })
                .collect();
            for_each_index(out, |at| {
                map.push(first(at.iter().zip(&steps).map(|(a, s)| a * s).sum()));
            });
        }
        TensorOp::Reshape(_) => map.extend((0..elements(out)).map(first)),
        TensorOp::Transpose(perm) => {
            let s = strides(shapes[0]);
            for_each_index(out, |at| {
                map.push(first(at.iter().zip(perm).map(|(a, &p)| a * s[p]).sum()));
            });
        }
        TensorOp::Slice { starts, .. } => {
            let s = strides(shapes[0]);
            let base: usize = starts
                .iter()
                .zip(&s)
                .map(|(a, s)| fixed(a) as usize * s)
                .sum();
            for_each_index(out, |at| {
                map.push(first(
                    base + at.iter().zip(&s).map(|(a, s)| a * s).sum::<usize>(),
                ));
            });
        }
        TensorOp::Update { starts } => {
            map.extend((0..elements(out)).map(first));
            let s = strides(out);
            let base: usize = starts
                .iter()
                .zip(&s)
                .map(|(a, s)| fixed(a) as usize * s)
                .sum();
            let mut index = 0;
            for_each_index(shapes[1], |at| {
                let place = base + at.iter().zip(&s).map(|(a, s)| a * s).sum::<usize>();
                map[place] = Source::From { operand: 1, index };
                index += 1;
            });
        }
        TensorOp::Concat(axis) => {
            let outer: usize = out[..*axis].iter().product();
            let inner: usize = out[*axis + 1..].iter().product();
            for o in 0..outer {
                for (k, shape) in shapes.iter().enumerate() {
                    let run = shape[*axis] * inner;
                    map.extend((0..run).map(|i| Source::From {
                        operand: k as u32,
                        index: (o * run + i) as u32,
                    }));
                }
            }
        }
        TensorOp::Pad { before, .. } => {
            let s = strides(shapes[0]);
            for_each_index(out, |at| {
                let inside = at
                    .iter()
                    .zip(before)
                    .zip(shapes[0])
                    .all(|((a, b), n)| a >= b && a - b < *n);
                map.push(if inside {
                    first(
                        at.iter()
                            .zip(before)
                            .zip(&s)
                            .map(|((a, b), s)| (a - b) * s)
                            .sum(),
                    )
                } else {
                    Source::Zero
                });
            });
        }
        TensorOp::Roll(k) => {
            let n = out[0];
            if n > 0 {
                let k = fixed(k).rem_euclid(n as i64) as usize;
                map.extend((0..n).map(|i| first((i + k) % n)));
            }
        }
        TensorOp::Diag => match *shapes[0] {
            [n] => map.extend((0..n * n).map(|i| {
                if i / n == i % n {
                    first(i / n)
                } else {
                    Source::Zero
                }
            })),
            _ => {
                let columns = shapes[0][1];
                map.extend((0..out[0]).map(|i| first(i * columns + i)));
            }
        },
        TensorOp::Input(_)
        | TensorOp::Const(_)
        | TensorOp::Index(_)
        | TensorOp::Add
        | TensorOp::Sub
        | TensorOp::Mul
        | TensorOp::Div
        | TensorOp::Neg
        | TensorOp::Pow(_)
        | TensorOp::Poly(_)
        | TensorOp::MatMul
        | TensorOp::Sum(_)
        | TensorOp::Conv2d { .. }
        | TensorOp::SumPool(_)
        | TensorOp::Loop { .. }
        | TensorOp::Proj(_) => return None,
    }
    Some(map)
}

/// For every element of the operand, the element of the result that a sum over `axes` adds it to.
pub(crate) fn sum_targets(shape: &[usize], axes: &[usize]) -> Vec<u32> {
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a)).collect();
    let extents: Vec<usize> = kept.iter().map(|&a| shape[a]).collect();
    let s = strides(&extents);
    let mut out = Vec::with_capacity(elements(shape));
    for_each_index(shape, |at| {
        out.push(kept.iter().zip(&s).map(|(&a, s)| at[a] * s).sum::<usize>() as u32);
    });
    out
}

/// The rows, inner extent and columns of a matrix product.
pub(crate) fn matmul_extents(a: &[usize], b: &[usize]) -> (usize, usize, usize) {
    let inner = a[a.len() - 1];
    let rows = if a.len() == 2 { a[0] } else { 1 };
    let columns = if b.len() == 2 { b[1] } else { 1 };
    (rows, inner, columns)
}

/// The elements of a result from the elements of the operands.
///
/// Inputs, constants, loops and projections have no meaning here and yield nothing.
pub(crate) fn expand<A: Algebra>(
    algebra: &mut A,
    op: &TensorOp,
    operands: &[&[A::Elem]],
    shapes: &[&[usize]],
    out: &[usize],
) -> Vec<A::Elem> {
    if let Some(map) = movement(op, shapes, out) {
        let zero = algebra.constant(0.0);
        return map
            .into_iter()
            .map(|s| match s {
                Source::Zero => zero.clone(),
                Source::From { operand, index } => {
                    operands[operand as usize][index as usize].clone()
                }
            })
            .collect();
    }
    let mut pairwise = |f: fn(&mut A, &A::Elem, &A::Elem) -> A::Elem| -> Vec<A::Elem> {
        operands[0]
            .iter()
            .zip(operands[1])
            .map(|(a, b)| f(algebra, a, b))
            .collect()
    };
    match op {
        TensorOp::Add => pairwise(A::add),
        TensorOp::Sub => pairwise(A::sub),
        TensorOp::Mul => pairwise(A::mul),
        TensorOp::Div => pairwise(A::div),
        TensorOp::Neg => operands[0].iter().map(|a| algebra.neg(a)).collect(),
        TensorOp::Pow(n) => operands[0].iter().map(|a| algebra.pow(a, *n)).collect(),
        TensorOp::Poly(p) => operands[0].iter().map(|a| algebra.poly(a, p)).collect(),
        TensorOp::MatMul => {
            let (rows, inner, columns) = matmul_extents(shapes[0], shapes[1]);
            let mut result = Vec::with_capacity(rows * columns);
            let mut terms = Vec::with_capacity(inner);
            for r in 0..rows {
                for c in 0..columns {
                    terms.clear();
                    for k in 0..inner {
                        terms.push((
                            operands[0][r * inner + k].clone(),
                            Some(operands[1][k * columns + c].clone()),
                        ));
                    }
                    result.push(algebra.dot(&terms));
                }
            }
            result
        }
        TensorOp::Sum(axes) => {
            let mut groups: Vec<Vec<Term<A::Elem>>> = vec![Vec::new(); elements(out)];
            for (e, target) in operands[0].iter().zip(sum_targets(shapes[0], axes)) {
                groups[target as usize].push((e.clone(), None));
            }
            groups.iter().map(|g| algebra.dot(g)).collect()
        }
        TensorOp::Conv2d { stride } => {
            let (h, w) = (shapes[0][1], shapes[0][2]);
            let (channels, kh, kw) = (shapes[1][1], shapes[1][2], shapes[1][3]);
            let mut result = Vec::with_capacity(elements(out));
            let mut terms = Vec::with_capacity(channels * kh * kw);
            for_each_index(out, |at| {
                terms.clear();
                for_each_index(&[channels, kh, kw], |k| {
                    let (y, x) = (at[1] * stride + k[1], at[2] * stride + k[2]);
                    let kernel = ((at[0] * channels + k[0]) * kh + k[1]) * kw + k[2];
                    terms.push((
                        operands[0][(k[0] * h + y) * w + x].clone(),
                        Some(operands[1][kernel].clone()),
                    ));
                });
                result.push(algebra.dot(&terms));
            });
            result
        }
        TensorOp::SumPool(n) => {
            let rank = out.len();
            let s = strides(shapes[0]);
            let mut result = Vec::with_capacity(elements(out));
            let mut terms = Vec::with_capacity(n * n);
            for_each_index(out, |at| {
                terms.clear();
                let base: usize = (0..rank)
                    .map(|i| at[i] * s[i] * if i + 2 >= rank { *n } else { 1 })
                    .sum();
                for y in 0..*n {
                    for x in 0..*n {
                        terms.push((operands[0][base + y * s[rank - 2] + x].clone(), None));
                    }
                }
                result.push(algebra.dot(&terms));
            });
            result
        }
        TensorOp::Input(_)
        | TensorOp::Const(_)
        | TensorOp::Index(_)
        | TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Slice { .. }
        | TensorOp::Update { .. }
        | TensorOp::Concat(_)
        | TensorOp::Pad { .. }
        | TensorOp::Roll(_)
        | TensorOp::Diag
        | TensorOp::Loop { .. }
        | TensorOp::Proj(_) => Vec::new(),
    }
}

/// Real numbers.
pub(crate) struct Reals;

impl Algebra for Reals {
    type Elem = f64;
    fn constant(&mut self, value: f64) -> f64 {
        value
    }
    fn add(&mut self, a: &f64, b: &f64) -> f64 {
        a + b
    }
    fn sub(&mut self, a: &f64, b: &f64) -> f64 {
        a - b
    }
    fn mul(&mut self, a: &f64, b: &f64) -> f64 {
        a * b
    }
    fn div(&mut self, a: &f64, b: &f64) -> f64 {
        a / b
    }
    fn neg(&mut self, a: &f64) -> f64 {
        -a
    }
    fn dot(&mut self, terms: &[(f64, Option<f64>)]) -> f64 {
        terms.iter().map(|(a, b)| b.map_or(*a, |b| a * b)).sum()
    }
}
