//! Dense tensors of reals, some of them secret: what a program says, before any layout.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::graph::{CircuitId, Dialect, Interval, NodeId, Real};
use crate::span::Span;

/// Extents of a dense row-major tensor; empty for a scalar.
pub type Shape = SmallVec<[usize; 4]>;

/// How many elements a shape has.
pub fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// `real`, `real[3]`, `real[2, 3]`, as the language writes it.
pub fn shape_name(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "real".to_owned();
    }
    let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("real[{}]", extents.join(", "))
}

/// What a tensor node yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// One tensor.
    Tensor(Shape),
    /// The results of a loop; only `Proj` takes it.
    Tuple(Vec<Shape>),
}

impl TensorType {
    /// The shape of a tensor; of a tuple, that of nothing.
    pub fn shape(&self) -> &[usize] {
        match self {
            TensorType::Tensor(shape) => shape,
            TensorType::Tuple(_) => &[],
        }
    }
}

/// A constant tensor. Cheap to clone; equal when shape and bits are equal.
#[derive(Clone)]
pub struct ConstTensor {
    shape: Shape,
    data: Arc<[f64]>,
    hash: u64,
}

impl ConstTensor {
    /// A constant of this shape; `None` when the count of values is not the shape's.
    pub fn new(shape: impl Into<Shape>, data: impl Into<Arc<[f64]>>) -> Option<ConstTensor> {
        let (shape, data) = (shape.into(), data.into());
        if elements(&shape) != data.len() {
            return None;
        }
        let mut hasher = rustc_hash::FxHasher::default();
        shape.hash(&mut hasher);
        for x in data.iter() {
            x.to_bits().hash(&mut hasher);
        }
        Some(ConstTensor {
            shape,
            data,
            hash: hasher.finish(),
        })
    }

    /// A scalar constant.
    pub fn scalar(value: f64) -> ConstTensor {
        ConstTensor::filled(Shape::new(), value)
    }

    /// A constant with the same value everywhere.
    pub fn filled(shape: impl Into<Shape>, value: f64) -> ConstTensor {
        let shape = shape.into();
        let data: Arc<[f64]> = vec![value; elements(&shape)].into();
        ConstTensor::new(shape, data).expect("as many values as elements")
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values, row-major.
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// The values, shared.
    pub fn shared(&self) -> Arc<[f64]> {
        Arc::clone(&self.data)
    }

    /// The value that every element has, if there is one (an empty tensor has none).
    pub fn uniform(&self) -> Option<f64> {
        let first = *self.data.first()?;
        self.data
            .iter()
            .all(|x| x.to_bits() == first.to_bits())
            .then_some(first)
    }
}

impl PartialEq for ConstTensor {
    fn eq(&self, other: &ConstTensor) -> bool {
        self.hash == other.hash
            && self.shape == other.shape
            && (Arc::ptr_eq(&self.data, &other.data)
                || self
                    .data
                    .iter()
                    .zip(other.data.iter())
                    .all(|(a, b)| a.to_bits() == b.to_bits()))
    }
}
impl Eq for ConstTensor {}
impl Hash for ConstTensor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
impl fmt::Debug for ConstTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?}",
            shape_name(&self.shape),
            &self.data[..self.data.len().min(8)]
        )
    }
}

/// A loop's induction variable; unique in its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IvId(pub u32);

/// An integer known once the loops around are unrolled: constant + Σ coefficient · induction variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// The constant part.
    pub constant: i64,
    /// Variables in ascending order, no coefficient zero.
    pub terms: SmallVec<[(IvId, i64); 1]>,
}

impl Affine {
    /// A constant.
    pub fn constant(value: i64) -> Affine {
        Affine {
            constant: value,
            terms: SmallVec::new(),
        }
    }

    /// An induction variable.
    pub fn variable(iv: IvId) -> Affine {
        Affine {
            constant: 0,
            terms: SmallVec::from_slice(&[(iv, 1)]),
        }
    }

    /// Its value, when no variable is left.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// self + factor · other; `None` when it leaves i64.
    pub fn add_scaled(&self, other: &Affine, factor: i64) -> Option<Affine> {
        let mut terms: std::collections::BTreeMap<IvId, i64> = self.terms.iter().copied().collect();
        for &(iv, c) in &other.terms {
            let slot = terms.entry(iv).or_insert(0);
            *slot = slot.checked_add(c.checked_mul(factor)?)?;
        }
        Some(Affine {
            constant: self
                .constant
                .checked_add(other.constant.checked_mul(factor)?)?,
            terms: terms.into_iter().filter(|(_, c)| *c != 0).collect(),
        })
    }

    /// With a variable replaced by a value; `None` when it leaves i64.
    pub fn substitute(&self, iv: IvId, value: i64) -> Option<Affine> {
        let mut out = Affine::constant(self.constant);
        for &(v, c) in &self.terms {
            if v == iv {
                out.constant = out.constant.checked_add(c.checked_mul(value)?)?;
            } else {
                out.terms.push((v, c));
            }
        }
        Some(out)
    }
}

/// In which polynomials the coefficients of a [`Polynomial`] are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// 1, x, x², …
    Monomial,
    /// T_0(u), T_1(u), … with u = (2x − a − b)/(b − a).
    Chebyshev {
        /// a.
        lo: Real,
        /// b.
        hi: Real,
    },
}

/// A polynomial in one variable with public coefficients known at compile time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Polynomial {
    /// The basis.
    pub basis: Basis,
    /// Coefficients, constant term first; at least one.
    pub coefficients: Vec<Real>,
}

/// How a loop is to be unrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unroll {
    /// As the optimizer finds best.
    #[default]
    Auto,
    /// Wholly.
    Full,
    /// By this factor.
    By(u32),
}

/// An operation on tensors. Elementwise binary operations take equal shapes: broadcasting is a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TensorOp {
    /// A parameter of the circuit.
    Input(u32),
    /// A constant.
    Const(ConstTensor),
    /// An integer of the loops around, as a real scalar.
    Index(Affine),
    /// Elementwise sum.
    Add,
    /// Elementwise difference.
    Sub,
    /// Elementwise product.
    Mul,
    /// Elementwise quotient; the divisor is public.
    Div,
    /// Elementwise negation.
    Neg,
    /// Elementwise power; `Pow(0)` is one.
    Pow(u32),
    /// Elementwise polynomial.
    Poly(Polynomial),
    /// Matrix product; operands of rank 1 or 2, as numpy's `@`.
    MatMul,
    /// Sum over these axes (ascending, distinct), which vanish.
    Sum(SmallVec<[usize; 2]>),
    /// numpy broadcasting to this shape.
    Broadcast(Shape),
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// Axis i of the result is axis `perm[i]` of the operand.
    Transpose(SmallVec<[usize; 4]>),
    /// The block of this size at this place.
    Slice {
        /// First index along each axis.
        starts: Vec<Affine>,
        /// Extents of the result, same rank as the operand.
        sizes: Shape,
    },
    /// The first operand with the block at this place replaced by the second (same rank).
    Update {
        /// First index along each axis.
        starts: Vec<Affine>,
    },
    /// All operands one after the other along this axis.
    Concat(usize),
    /// Zeros around.
    Pad {
        /// Zeros before, along each axis.
        before: Shape,
        /// Zeros after, along each axis.
        after: Shape,
    },
    /// A vector turned left by this many places, cyclic: element i of the result is i + k of the operand.
    Roll(Affine),
    /// Vector → diagonal matrix; matrix → its diagonal.
    Diag,
    /// Valid cross-correlation: image [c, h, w], kernel [o, c, kh, kw] → [o, (h−kh)/s+1, (w−kw)/s+1].
    Conv2d {
        /// s.
        stride: usize,
    },
    /// Sums of disjoint n×n blocks of the last two axes (what is left over at the far edges is dropped).
    SumPool(usize),
    /// A counted loop. Operands: the carried values, then the captured ones. The body has the same
    /// parameters and yields the next carried values. Yields the tuple of the last carried values.
    Loop {
        /// The body.
        body: CircuitId,
        /// Its induction variable, which runs from `first` upwards by one.
        iv: IvId,
        /// First value of the induction variable.
        first: i64,
        /// How many times the body runs.
        trips: u64,
        /// Shapes of the carried values.
        carried: Vec<Shape>,
        /// `@unroll`.
        unroll: Unroll,
        /// False with `@pipeline(off)`.
        pipeline: bool,
    },
    /// One result of a loop.
    Proj(u32),
}

/// Whether a value may be known to whoever evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Secrecy {
    /// Known to the evaluator.
    Public,
    /// Encrypted.
    Secret,
}

/// A parameter of a circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Who may know it.
    pub secrecy: Secrecy,
    /// Its shape (one instance, in a batch).
    pub shape: Shape,
    /// The declared range of every element; \[-1, 1\] is assumed where there is none.
    pub range: Option<Interval>,
    /// Where it is declared.
    pub span: Span,
}

impl Param {
    /// The declared range, or the assumed one.
    pub fn interval(&self) -> Interval {
        self.range.unwrap_or(Interval::UNIT)
    }
}

/// A result of a circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultDecl {
    /// Its name.
    pub name: String,
    /// The declared range of every element.
    pub range: Option<Interval>,
    /// Where it is declared.
    pub span: Span,
}

/// `@budget(…)`: upper bounds; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the measure of the same name")]
pub struct Budget {
    pub depth: Option<u64>,
    pub levels: Option<u64>,
    pub width: Option<u64>,
    pub mult_width: Option<u64>,
    pub muls: Option<u64>,
    pub rotations: Option<u64>,
}

/// `@precompute(degree = d, inputs = r)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Precompute {
    /// Most factors in a product that the client forms.
    pub degree: u32,
    /// Most growth of the count of encrypted input ciphertexts.
    pub inputs: f64,
}

/// `@ckks(…)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CkksOverrides {
    /// Bits of the scale.
    pub scale_bits: Option<u32>,
    /// Bits of security; 0 is the loud opt-out.
    pub security: Option<u32>,
    /// Ring degree N.
    pub ring: Option<u64>,
}

/// What a source circuit carries beside its graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorMeta {
    /// `@budget`, with its place.
    pub budget: Option<(Budget, Span)>,
    /// `@batch(B)`.
    pub batch: Option<u32>,
    /// `@precompute`.
    pub precompute: Option<Precompute>,
    /// `@precision(b)`: results are wanted with errors of at most 2^−b.
    pub precision: Option<f64>,
    /// `@ckks`.
    pub ckks: CkksOverrides,
    /// `@keep` on the whole circuit.
    pub keep: bool,
    /// Facts for the report, in source order: polynomial approximations and the errors they attain, …
    pub notes: Vec<(Span, String)>,
    /// Where the circuit stands.
    pub span: Span,
}

/// The dialect of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor;

/// numpy broadcasting of two shapes.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| {
        if i + s.len() >= rank {
            s[i + s.len() - rank]
        } else {
            1
        }
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

impl Dialect for Tensor {
    type Op = TensorOp;
    type Type = TensorType;
    type Input = Param;
    type Output = ResultDecl;
    type Meta = TensorMeta;

    fn mnemonic(op: &TensorOp) -> &'static str {
        match op {
            TensorOp::Input(_) => "input",
            TensorOp::Const(_) => "const",
            TensorOp::Index(_) => "index",
            TensorOp::Add => "add",
            TensorOp::Sub => "sub",
            TensorOp::Mul => "mul",
            TensorOp::Div => "div",
            TensorOp::Neg => "neg",
            TensorOp::Pow(_) => "pow",
            TensorOp::Poly(_) => "poly",
            TensorOp::MatMul => "matmul",
            TensorOp::Sum(_) => "sum",
            TensorOp::Broadcast(_) => "broadcast",
            TensorOp::Reshape(_) => "reshape",
            TensorOp::Transpose(_) => "transpose",
            TensorOp::Slice { .. } => "slice",
            TensorOp::Update { .. } => "update",
            TensorOp::Concat(_) => "concat",
            TensorOp::Pad { .. } => "pad",
            TensorOp::Roll(_) => "roll",
            TensorOp::Diag => "diag",
            TensorOp::Conv2d { .. } => "conv2d",
            TensorOp::SumPool(_) => "sum_pool",
            TensorOp::Loop { .. } => "loop",
            TensorOp::Proj(_) => "proj",
        }
    }

    fn infer(
        op: &TensorOp,
        operands: &[&TensorType],
        inputs: &[Param],
    ) -> Result<TensorType, String> {
        let arity = |n: usize| {
            (operands.len() == n)
                .then_some(())
                .ok_or_else(|| format!("takes {n} operands and has {}", operands.len()))
        };
        let tensor = |i: usize| match operands[i] {
            TensorType::Tensor(s) => Ok(s.clone()),
            TensorType::Tuple(_) => Err("takes tensors, not the results of a loop".to_owned()),
        };
        let shape = match op {
            TensorOp::Input(i) => {
                arity(0)?;
                let p = inputs
                    .get(*i as usize)
                    .ok_or("there is no such parameter")?;
                p.shape.clone()
            }
            TensorOp::Const(c) => {
                arity(0)?;
                Shape::from_slice(c.shape())
            }
            TensorOp::Index(_) => {
                arity(0)?;
                Shape::new()
            }
            TensorOp::Add | TensorOp::Sub | TensorOp::Mul | TensorOp::Div => {
                arity(2)?;
                let (a, b) = (tensor(0)?, tensor(1)?);
                if a != b {
                    return Err(format!(
                        "shapes {} and {} differ",
                        shape_name(&a),
                        shape_name(&b)
                    ));
                }
                a
            }
            TensorOp::Neg | TensorOp::Pow(_) => {
                arity(1)?;
                tensor(0)?
            }
            TensorOp::Poly(p) => {
                arity(1)?;
                if p.coefficients.is_empty() {
                    return Err("a polynomial has at least one coefficient".to_owned());
                }
                tensor(0)?
            }
            TensorOp::MatMul => {
                arity(2)?;
                let (a, b) = (tensor(0)?, tensor(1)?);
                let fits =
                    matches!(a.len(), 1 | 2) && matches!(b.len(), 1 | 2) && a[a.len() - 1] == b[0];
                if !fits {
                    return Err(format!(
                        "{} @ {}: the inner extents differ, or a rank is not 1 or 2",
                        shape_name(&a),
                        shape_name(&b)
                    ));
                }
                a[..a.len() - 1].iter().chain(&b[1..]).copied().collect()
            }
            TensorOp::Sum(axes) => {
                arity(1)?;
                let a = tensor(0)?;
                if axes.windows(2).any(|w| w[0] >= w[1]) || axes.iter().any(|x| *x >= a.len()) {
                    return Err(format!("axes {axes:?} of {}", shape_name(&a)));
                }
                a.iter()
                    .enumerate()
                    .filter(|(i, _)| !axes.contains(i))
                    .map(|(_, n)| *n)
                    .collect()
            }
            TensorOp::Broadcast(to) => {
                arity(1)?;
                let a = tensor(0)?;
                if broadcast(&a, to).as_ref() != Some(to) {
                    return Err(format!("{} to {}", shape_name(&a), shape_name(to)));
                }
                to.clone()
            }
            TensorOp::Reshape(to) => {
                arity(1)?;
                let a = tensor(0)?;
                if elements(&a) != elements(to) {
                    return Err(format!("{} to {}", shape_name(&a), shape_name(to)));
                }
                to.clone()
            }
            TensorOp::Transpose(perm) => {
                arity(1)?;
                let a = tensor(0)?;
                let mut seen = vec![false; a.len()];
                for &p in perm {
                    if p >= a.len() || std::mem::replace(&mut seen[p], true) {
                        return Err(format!("{perm:?} is no permutation of {} axes", a.len()));
                    }
                }
                if perm.len() != a.len() {
                    return Err(format!("{perm:?} is no permutation of {} axes", a.len()));
                }
                perm.iter().map(|&p| a[p]).collect()
            }
            TensorOp::Slice { starts, sizes } => {
                arity(1)?;
                let a = tensor(0)?;
                block_fits(&a, starts, sizes)?;
                sizes.clone()
            }
            TensorOp::Update { starts } => {
                arity(2)?;
                let (a, b) = (tensor(0)?, tensor(1)?);
                block_fits(&a, starts, &b)?;
                a
            }
            TensorOp::Concat(axis) => {
                if operands.is_empty() {
                    return Err("takes at least one operand".to_owned());
                }
                let mut out = tensor(0)?;
                if *axis >= out.len() {
                    return Err(format!("axis {axis} of {}", shape_name(&out)));
                }
                for i in 1..operands.len() {
                    let s = tensor(i)?;
                    let alike = s.len() == out.len()
                        && s.iter()
                            .zip(&out)
                            .enumerate()
                            .all(|(k, (x, y))| k == *axis || x == y);
                    if !alike {
                        return Err(format!("{} and {}", shape_name(&out), shape_name(&s)));
                    }
                    out[*axis] += s[*axis];
                }
                out
            }
            TensorOp::Pad { before, after } => {
                arity(1)?;
                let a = tensor(0)?;
                if before.len() != a.len() || after.len() != a.len() {
                    return Err(format!("{} needs a pair for each axis", shape_name(&a)));
                }
                (0..a.len()).map(|i| before[i] + a[i] + after[i]).collect()
            }
            TensorOp::Roll(_) => {
                arity(1)?;
                let a = tensor(0)?;
                if a.len() != 1 {
                    return Err(format!("{} is not a vector", shape_name(&a)));
                }
                a
            }
            TensorOp::Diag => {
                arity(1)?;
                let a = tensor(0)?;
                match a.as_slice() {
                    [n] => Shape::from_slice(&[*n, *n]),
                    [m, n] => Shape::from_slice(&[*m.min(n)]),
                    _ => return Err(format!("{} is neither vector nor matrix", shape_name(&a))),
                }
            }
            TensorOp::Conv2d { stride } => {
                arity(2)?;
                let (x, k) = (tensor(0)?, tensor(1)?);
                match (x.as_slice(), k.as_slice()) {
                    (&[c, h, w], &[o, kc, kh, kw])
                        if c == kc && kh >= 1 && kw >= 1 && kh <= h && kw <= w && *stride >= 1 =>
                    {
                        Shape::from_slice(&[o, (h - kh) / stride + 1, (w - kw) / stride + 1])
                    }
                    _ => {
                        return Err(format!(
                            "image {} by kernel {}",
                            shape_name(&x),
                            shape_name(&k)
                        ));
                    }
                }
            }
            TensorOp::SumPool(n) => {
                arity(1)?;
                let mut a = tensor(0)?;
                let rank = a.len();
                if rank < 2 || *n == 0 {
                    return Err(format!("blocks of {n} in {}", shape_name(&a)));
                }
                a[rank - 1] /= n;
                a[rank - 2] /= n;
                a
            }
            TensorOp::Loop { carried, .. } => {
                if operands.len() < carried.len() {
                    return Err("has fewer operands than carried values".to_owned());
                }
                for (i, c) in carried.iter().enumerate() {
                    if tensor(i)? != *c {
                        return Err(format!("carried value {i} is not {}", shape_name(c)));
                    }
                }
                return Ok(TensorType::Tuple(carried.clone()));
            }
            TensorOp::Proj(i) => {
                arity(1)?;
                match operands[0] {
                    TensorType::Tuple(shapes) => shapes
                        .get(*i as usize)
                        .ok_or("the loop has no such result")?
                        .clone(),
                    TensorType::Tensor(_) => return Err("takes the results of a loop".to_owned()),
                }
            }
        };
        Ok(TensorType::Tensor(shape))
    }
}

fn block_fits(whole: &[usize], starts: &[Affine], sizes: &[usize]) -> Result<(), String> {
    if starts.len() != whole.len() || sizes.len() != whole.len() {
        return Err(format!(
            "a place in {} needs {} indices",
            shape_name(whole),
            whole.len()
        ));
    }
    for i in 0..whole.len() {
        let fits = match starts[i].as_constant() {
            Some(s) => s >= 0 && (s as u64).saturating_add(sizes[i] as u64) <= whole[i] as u64,
            None => sizes[i] <= whole[i],
        };
        if !fits {
            return Err(format!(
                "{} elements from {:?} leave axis {i} of {}",
                sizes[i],
                starts[i],
                shape_name(whole)
            ));
        }
    }
    Ok(())
}

/// Whether each node is secret: inputs say, operations spread it.
pub fn secrecy(circuit: &crate::graph::Circuit<Tensor>) -> Vec<Secrecy> {
    let graph = &circuit.graph;
    let mut out: Vec<Secrecy> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let s = match graph.op(id) {
            TensorOp::Input(i) => circuit.inputs[*i as usize].secrecy,
            _ => graph
                .operands(id)
                .iter()
                .map(|o: &NodeId| out[o.index()])
                .max()
                .unwrap_or(Secrecy::Public),
        };
        out.push(s);
    }
    out
}
