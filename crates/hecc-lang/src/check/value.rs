//! Values of the checker: what is known while compiling, and what is not before the circuit runs.

use std::cell::OnceCell;
use std::rc::Rc;

use hecc_ir::graph::NodeId;
use hecc_ir::tensor::{Affine, Basis, ConstTensor, Polynomial, Secrecy, Shape, TensorOp, elements};

/// Integers up to here are exact as f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A dense tensor known at compile time.
#[derive(Clone)]
pub(crate) struct Const(Rc<Inner>);

struct Inner {
    shape: Shape,
    data: Vec<f64>,
    /// Whether every element came from integers, so that an element can be an index.
    whole: bool,
    /// The same as a node's constant, made once.
    lowered: OnceCell<ConstTensor>,
}

impl Const {
    /// `data` has as many values as `shape` has elements.
    pub fn new(shape: Shape, data: Vec<f64>, whole: bool) -> Const {
        debug_assert_eq!(elements(&shape), data.len());
        Const(Rc::new(Inner {
            shape,
            data,
            whole,
            lowered: OnceCell::new(),
        }))
    }

    pub fn scalar(value: f64, whole: bool) -> Const {
        Const::new(Shape::new(), vec![value], whole)
    }

    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    pub fn data(&self) -> &[f64] {
        &self.0.data
    }

    pub fn whole(&self) -> bool {
        self.0.whole
    }

    /// As the constant of a node.
    pub fn lowered(&self) -> ConstTensor {
        self.0
            .lowered
            .get_or_init(|| {
                ConstTensor::new(self.0.shape.clone(), self.0.data.as_slice())
                    .expect("as many values as elements")
            })
            .clone()
    }

    /// With a block replaced; in place when nobody else holds the tensor.
    pub fn updated(mut self, starts: &[usize], block: &Const) -> Const {
        if Rc::get_mut(&mut self.0).is_none() {
            self = Const::new(self.0.shape.clone(), self.0.data.clone(), self.0.whole);
        }
        if let Some(inner) = Rc::get_mut(&mut self.0) {
            inner.lowered = OnceCell::new();
            inner.whole &= block.whole();
            let strides = strides(&inner.shape);
            let base = offset(&strides, starts);
            scatter(&mut inner.data, base, &strides, block.shape(), block.data());
        }
        self
    }
}

/// A value that is known only when the circuit runs.
#[derive(Clone)]
pub(crate) struct Run {
    /// Which circuit under construction it belongs to: 0 is the circuit itself, then the loop bodies inwards.
    pub frame: usize,
    pub id: NodeId,
    pub shape: Shape,
    pub secrecy: Secrecy,
    /// Whether it would be known at compile time if the loops around were unrolled.
    pub uniform_only: bool,
}

/// What an expression yields.
#[derive(Clone)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Real(f64),
    /// Known at compile time, of rank 1 or more.
    Tensor(Const),
    /// An integer that depends on the variables of loops that are lowered as loops.
    Index(Affine),
    /// Known at run time.
    Run(Run),
    /// Stands where an error was reported; whatever uses it keeps silent.
    Error,
}

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error)
    }

    /// The extents; a truth value has none.
    pub fn shape(&self) -> Shape {
        match self {
            Value::Tensor(t) => t.shape().clone(),
            Value::Run(r) => r.shape.clone(),
            Value::Bool(_) | Value::Int(_) | Value::Real(_) | Value::Index(_) | Value::Error => {
                Shape::new()
            }
        }
    }

    pub fn secrecy(&self) -> Secrecy {
        match self {
            Value::Run(r) => r.secrecy,
            _ => Secrecy::Public,
        }
    }

    /// Whether it is known at compile time, or would be if the loops around were unrolled.
    pub fn known_when_unrolled(&self) -> bool {
        match self {
            Value::Run(r) => r.uniform_only,
            _ => true,
        }
    }

    /// As a compile-time tensor of any rank.
    pub fn as_const(&self) -> Option<Const> {
        match self {
            Value::Int(i) => Some(Const::scalar(*i as f64, (*i as f64).abs() <= EXACT)),
            Value::Real(x) => Some(Const::scalar(*x, false)),
            Value::Tensor(t) => Some(t.clone()),
            Value::Bool(_) | Value::Index(_) | Value::Run(_) | Value::Error => None,
        }
    }

    /// A compile-time tensor of any rank as a value.
    pub fn from_const(t: Const) -> Value {
        if !t.shape().is_empty() {
            return Value::Tensor(t);
        }
        let x = t.data()[0];
        if t.whole() {
            Value::Int(x as i64)
        } else {
            Value::Real(x)
        }
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Value::Bool(b) => format!("the truth value {b}"),
            Value::Int(i) => format!("the integer {i}"),
            Value::Real(x) => format!("the number {x:?}"),
            Value::Tensor(t) => format!("a constant {}", hecc_ir::tensor::shape_name(t.shape())),
            Value::Index(_) => "an integer of the loop".to_owned(),
            Value::Run(r) => {
                let who = match r.secrecy {
                    Secrecy::Secret => "secret",
                    Secrecy::Public => "public",
                };
                format!("a {who} {}", hecc_ir::tensor::shape_name(&r.shape))
            }
            Value::Error => "an erroneous value".to_owned(),
        }
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

fn offset(strides: &[usize], index: &[usize]) -> usize {
    strides.iter().zip(index).map(|(s, i)| s * i).sum()
}

/// Calls `visit` with Σ index·stride for every index of `shape`, in row-major order.
fn walk(shape: &[usize], base: usize, strides: &[usize], mut visit: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    let mut at = base;
    loop {
        visit(at);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

fn gather(data: &[f64], base: usize, strides: &[usize], shape: &[usize]) -> Vec<f64> {
    let mut out = Vec::with_capacity(elements(shape));
    walk(shape, base, strides, |at| out.push(data[at]));
    out
}

fn scatter(out: &mut [f64], base: usize, strides: &[usize], shape: &[usize], data: &[f64]) {
    let mut next = data.iter();
    walk(shape, base, strides, |at| {
        if let Some(x) = next.next() {
            out[at] = *x;
        }
    });
}

/// x^n by squaring.
pub(crate) fn power(x: f64, mut n: u32) -> f64 {
    let (mut base, mut out) = (x, 1.0);
    while n > 0 {
        if n & 1 == 1 {
            out *= base;
        }
        base *= base;
        n >>= 1;
    }
    out
}

/// A polynomial at a point: Horner's rule, or Clenshaw's.
pub(crate) fn polynomial(p: &Polynomial, x: f64) -> f64 {
    match p.basis {
        Basis::Monomial => p.coefficients.iter().rev().fold(0.0, |s, c| s * x + c.0),
        Basis::Chebyshev { lo, hi } => {
            let u = (2.0 * x - lo.0 - hi.0) / (hi.0 - lo.0);
            let (mut b1, mut b2) = (0.0, 0.0);
            for c in p.coefficients.iter().skip(1).rev() {
                (b1, b2) = (2.0 * u * b1 - b2 + c.0, b1);
            }
            u * b1 - b2 + p.coefficients.first().map_or(0.0, |c| c.0)
        }
    }
}

/// How much work [`evaluate`] is, in elements touched.
pub(crate) fn cost(op: &TensorOp, args: &[Shape], result: &[usize]) -> u64 {
    let out = elements(result) as u64;
    let all: u64 = args.iter().map(|s| elements(s) as u64).sum();
    match op {
        TensorOp::MatMul => out.saturating_mul(args[0].last().copied().unwrap_or(1) as u64) + all,
        TensorOp::Conv2d { .. } => {
            out.saturating_mul(args[1].iter().skip(1).product::<usize>() as u64) + all
        }
        TensorOp::Poly(p) => out.saturating_mul(p.coefficients.len() as u64),
        _ => out + all,
    }
}

/// An operation on compile-time tensors; the dialect has inferred `shape` from them, so they fit.
/// None for operations that never are compile time: parameters, loops, symbolic places.
pub(crate) fn evaluate(op: &TensorOp, shape: Shape, args: &[Const]) -> Option<Const> {
    let fixed = |starts: &[Affine]| -> Option<Vec<usize>> {
        starts
            .iter()
            .map(|s| s.as_constant().and_then(|s| usize::try_from(s).ok()))
            .collect()
    };
    let all_whole = args.iter().all(Const::whole);
    let mut structural = true;
    let map2 = |f: fn(f64, f64) -> f64| -> Vec<f64> {
        let (a, b) = (args[0].data(), args[1].data());
        a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect()
    };
    let map1 =
        |f: &dyn Fn(f64) -> f64| -> Vec<f64> { args[0].data().iter().map(|x| f(*x)).collect() };
    let data = match op {
        TensorOp::Input(_) | TensorOp::Index(_) | TensorOp::Loop { .. } | TensorOp::Proj(_) => {
            return None;
        }
        TensorOp::Const(c) => c.data().to_vec(),
        TensorOp::Add => {
            structural = false;
            map2(|x, y| x + y)
        }
        TensorOp::Sub => {
            structural = false;
            map2(|x, y| x - y)
        }
        TensorOp::Mul => {
            structural = false;
            map2(|x, y| x * y)
        }
        TensorOp::Div => return Some(Const::new(shape, map2(|x, y| x / y), false)),
        TensorOp::Neg => map1(&|x| -x),
        TensorOp::Pow(n) => {
            structural = false;
            map1(&|x| power(x, *n))
        }
        TensorOp::Poly(p) => return Some(Const::new(shape, map1(&|x| polynomial(p, x)), false)),
        TensorOp::MatMul => {
            structural = false;
            matmul(&args[0], &args[1])
        }
        TensorOp::Sum(axes) => {
            structural = false;
            let a = &args[0];
            let kept = strides(&shape);
            let mut k = 0;
            let into: Vec<usize> = (0..a.shape().len())
                .map(|i| {
                    if axes.contains(&i) {
                        0
                    } else {
                        k += 1;
                        kept[k - 1]
                    }
                })
                .collect();
            let mut out = vec![0.0; elements(&shape)];
            let mut next = a.data().iter();
            walk(a.shape(), 0, &into, |at| {
                if let Some(x) = next.next() {
                    out[at] += x;
                }
            });
            out
        }
        TensorOp::Broadcast(to) => {
            let a = &args[0];
            let own = strides(a.shape());
            let skip = to.len() - a.shape().len();
            let from: Vec<usize> = (0..to.len())
                .map(|i| {
                    if i < skip || a.shape()[i - skip] == 1 {
                        0
                    } else {
                        own[i - skip]
                    }
                })
                .collect();
            gather(a.data(), 0, &from, to)
        }
        TensorOp::Reshape(_) => args[0].data().to_vec(),
        TensorOp::Transpose(perm) => {
            let own = strides(args[0].shape());
            let from: Vec<usize> = perm.iter().map(|&p| own[p]).collect();
            gather(args[0].data(), 0, &from, &shape)
        }
        TensorOp::Slice { starts, sizes } => {
            let own = strides(args[0].shape());
            gather(args[0].data(), offset(&own, &fixed(starts)?), &own, sizes)
        }
        TensorOp::Update { starts } => {
            return Some(args[0].clone().updated(&fixed(starts)?, &args[1]));
        }
        TensorOp::Concat(axis) => {
            let own = strides(&shape);
            let mut out = vec![0.0; elements(&shape)];
            let mut at = 0;
            for a in args {
                scatter(&mut out, at * own[*axis], &own, a.shape(), a.data());
                at += a.shape()[*axis];
            }
            out
        }
        TensorOp::Pad { before, .. } => {
            let own = strides(&shape);
            let mut out = vec![0.0; elements(&shape)];
            scatter(
                &mut out,
                offset(&own, before),
                &own,
                args[0].shape(),
                args[0].data(),
            );
            out
        }
        TensorOp::Roll(by) => {
            let mut out = args[0].data().to_vec();
            let n = out.len() as i64;
            if n > 0 {
                out.rotate_left(by.as_constant()?.rem_euclid(n) as usize);
            }
            out
        }
        TensorOp::Diag => match *args[0].shape().as_slice() {
            [n] => {
                let mut out = vec![0.0; n * n];
                for (i, x) in args[0].data().iter().enumerate() {
                    out[i * (n + 1)] = *x;
                }
                out
            }
            [m, n] => (0..m.min(n)).map(|i| args[0].data()[i * (n + 1)]).collect(),
            _ => return None,
        },
        TensorOp::Conv2d { stride } => {
            structural = false;
            conv2d(&args[0], &args[1], *stride, &shape)
        }
        TensorOp::SumPool(n) => {
            structural = false;
            let rank = shape.len();
            let (h, w) = (args[0].shape()[rank - 2], args[0].shape()[rank - 1]);
            let (oh, ow) = (shape[rank - 2], shape[rank - 1]);
            let mut out = vec![0.0; elements(&shape)];
            for (at, x) in args[0].data().iter().enumerate() {
                let (plane, row, column) = (at / (h * w), at / w % h / n, at % w / n);
                if row < oh && column < ow {
                    out[(plane * oh + row) * ow + column] += x;
                }
            }
            out
        }
    };
    let whole = all_whole && (structural || data.iter().all(|x| x.abs() <= EXACT));
    Some(Const::new(shape, data, whole))
}

fn matmul(a: &Const, b: &Const) -> Vec<f64> {
    let inner = b.shape()[0];
    let columns = b.shape().get(1).copied().unwrap_or(1);
    let mut out = Vec::new();
    for row in a.data().chunks(inner.max(1)) {
        let mut sums = vec![0.0; columns];
        for (x, line) in row.iter().zip(b.data().chunks(columns.max(1))) {
            for (s, y) in sums.iter_mut().zip(line) {
                *s += x * y;
            }
        }
        out.extend(sums);
    }
    out
}

fn conv2d(x: &Const, k: &Const, stride: usize, shape: &[usize]) -> Vec<f64> {
    let (h, w) = (x.shape()[1], x.shape()[2]);
    let (c, kh, kw) = (k.shape()[1], k.shape()[2], k.shape()[3]);
    let mut out = Vec::with_capacity(elements(shape));
    for o in 0..shape[0] {
        for i in 0..shape[1] {
            for j in 0..shape[2] {
                let mut sum = 0.0;
                for ch in 0..c {
                    for a in 0..kh {
                        for b in 0..kw {
                            sum += x.data()[(ch * h + i * stride + a) * w + j * stride + b]
                                * k.data()[((o * c + ch) * kh + a) * kw + b];
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}
