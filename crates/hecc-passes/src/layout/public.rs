//! The public part of a program: constants are folded, what depends on public parameters becomes
//! a tensor circuit of its own that is evaluated in the clear.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Builder, Circuit, Interval, Node, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{
    Affine, ConstTensor, ResultDecl, Secrecy, Shape, Tensor, TensorOp, TensorType, elements,
    secrecy,
};
use rustc_hash::FxHashMap;

use super::expand::{Reals, expand, matmul_extents};

/// A tensor that the evaluator knows.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// At compile time.
    Const(ConstTensor),
    /// Once public parameters are given: a node of the public circuit.
    Runtime(NodeId),
}

/// The public circuit while it grows, and the known value of every public node of the source.
pub(crate) struct PublicPart {
    builder: Builder<Tensor>,
    ranges: Vec<Interval>,
    outputs: FxHashMap<NodeId, u32>,
    /// By source node; `None` for secret nodes and those that nothing needs.
    pub(crate) known: Vec<Option<Known>>,
    /// By source node.
    pub(crate) secrecy: Vec<Secrecy>,
}

impl PublicPart {
    /// Splits a flat circuit.
    ///
    /// # Errors
    /// E3201 where a public divisor's range holds zero.
    pub(crate) fn new(circuit: &Circuit<Tensor>) -> Result<PublicPart, Diagnostic> {
        let graph = &circuit.graph;
        let secrecy = secrecy(circuit);
        let live = circuit.live();
        let mut part = PublicPart {
            builder: Builder::new(
                format!("{}.public", circuit.name),
                circuit.inputs.clone(),
                circuit.meta.clone(),
            ),
            ranges: Vec::new(),
            outputs: FxHashMap::default(),
            known: vec![None; graph.len()],
            secrecy,
        };
        for id in graph.ids() {
            if !live[id.index()] || part.secrecy[id.index()] == Secrecy::Secret {
                continue;
            }
            let node = graph.node(id);
            let operands: Vec<Known> = graph
                .operands(id)
                .iter()
                .filter_map(|o| part.known[o.index()].clone())
                .collect();
            let known = part.compute(&node.op, &operands, node.ty.shape(), node)?;
            part.known[id.index()] = Some(known);
        }
        Ok(part)
    }

    /// The known value of an operation on known values: folded when all are constants.
    fn compute(
        &mut self,
        op: &TensorOp,
        operands: &[Known],
        shape: &[usize],
        from: &Node<Tensor>,
    ) -> Result<Known, Diagnostic> {
        let constants: Option<Vec<&ConstTensor>> = operands
            .iter()
            .map(|k| match k {
                Known::Const(c) => Some(c),
                Known::Runtime(_) => None,
            })
            .collect();
        match (op, constants) {
            (TensorOp::Const(c), _) => Ok(Known::Const(c.clone())),
            (TensorOp::Index(a), _) => Ok(Known::Const(ConstTensor::scalar(
                super::expand::fixed(a) as f64,
            ))),
            (TensorOp::Input(_), _) | (_, None) => {
                let nodes: Vec<NodeId> = operands
                    .iter()
                    .map(|k| self.node_of(k, from.span))
                    .collect();
                if matches!(op, TensorOp::Div) {
                    let divisor = self.ranges[nodes[1].index()];
                    check_divisor(divisor, from.span)?;
                }
                let id = self.push(op.clone(), &nodes, from.span);
                self.builder.inherit(id, from);
                if let Some(range) = from.declared {
                    self.ranges[id.index()] = self.ranges[id.index()].meet(range);
                }
                Ok(Known::Runtime(id))
            }
            (_, Some(constants)) => {
                let data: Vec<&[f64]> = constants.iter().map(|c| c.data()).collect();
                let shapes: Vec<&[usize]> = constants.iter().map(|c| c.shape()).collect();
                let values = expand(&mut Reals, op, &data, &shapes, shape);
                if let (TensorOp::Div, Some(_)) = (op, values.iter().find(|v| !v.is_finite())) {
                    return Err(division_by_zero(from.span));
                }
                Ok(Known::Const(constant(shape, values)))
            }
        }
    }

    fn push(&mut self, op: TensorOp, operands: &[NodeId], span: Span) -> NodeId {
        let id = self
            .builder
            .push(op, operands, span)
            .expect("the operation was well typed in the source");
        if id.index() == self.ranges.len() {
            let range = self.infer_range(id);
            self.ranges.push(range);
        }
        id
    }

    /// The node of the public circuit that holds a known value.
    fn node_of(&mut self, known: &Known, span: Span) -> NodeId {
        match known {
            Known::Const(c) => self.push(TensorOp::Const(c.clone()), &[], span),
            Known::Runtime(id) => *id,
        }
    }

    fn infer_range(&self, id: NodeId) -> Interval {
        let graph = self.builder.graph();
        let operands = graph.operands(id);
        let ranges: Vec<Interval> = operands.iter().map(|o| self.ranges[o.index()]).collect();
        let shapes: Vec<&[usize]> = operands.iter().map(|o| graph.ty(*o).shape()).collect();
        range_of(graph.op(id), &ranges, &shapes, &|i| {
            self.builder.circuit().inputs[i as usize].interval()
        })
    }

    /// The range of a node of the public circuit.
    pub(crate) fn range(&self, id: NodeId) -> Interval {
        self.ranges[id.index()]
    }

    /// The scalar that a node of the public circuit repeats, if it does.
    pub(crate) fn scalar_of(&self, id: NodeId) -> Option<NodeId> {
        let graph = self.builder.graph();
        let mut id = id;
        while elements(graph.ty(id).shape()) > 1 {
            match graph.op(id) {
                TensorOp::Broadcast(_) | TensorOp::Reshape(_) => id = graph.operands(id)[0],
                _ => return None,
            }
        }
        Some(id)
    }

    /// The shape of a node of the public circuit.
    pub(crate) fn shape(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.builder.graph().ty(id).shape())
    }

    /// An operation on known values.
    ///
    /// # Errors
    /// E3201 for a division by a range that holds zero.
    pub(crate) fn apply(
        &mut self,
        op: &TensorOp,
        operands: &[Known],
        span: Span,
    ) -> Result<Known, Diagnostic> {
        let shapes: Vec<TensorType> = operands
            .iter()
            .map(|k| TensorType::Tensor(self.shape_of(k)))
            .collect();
        let types: Vec<&TensorType> = shapes.iter().collect();
        let ty = <Tensor as hecc_ir::graph::Dialect>::infer(op, &types, &[])
            .expect("a well-typed operation on known values");
        let from = Node {
            op: op.clone(),
            ty: ty.clone(),
            span,
            declared: None,
            keep: false,
        };
        self.compute(op, operands, ty.shape(), &from)
    }

    fn shape_of(&self, known: &Known) -> Shape {
        match known {
            Known::Const(c) => Shape::from_slice(c.shape()),
            Known::Runtime(id) => self.shape(*id),
        }
    }

    /// 1 / x for every element.
    ///
    /// # Errors
    /// E3201 when x may be zero.
    pub(crate) fn reciprocal(&mut self, known: &Known, span: Span) -> Result<Known, Diagnostic> {
        let shape = self.shape_of(known);
        let ones = Known::Const(ConstTensor::filled(shape, 1.0));
        self.apply(&TensorOp::Div, &[ones, known.clone()], span)
    }

    /// One element of a runtime value, as a scalar of the public circuit.
    pub(crate) fn element(&mut self, id: NodeId, index: u32, span: Span) -> NodeId {
        let shape = self.shape(id);
        if shape.is_empty() {
            return id;
        }
        let strides = super::expand::strides(&shape);
        let mut rest = index as usize;
        let starts = strides
            .iter()
            .map(|s| {
                let at = rest / s;
                rest %= s;
                Affine::constant(at as i64)
            })
            .collect();
        let sizes = Shape::from_elem(1, shape.len());
        let cut = self.push(TensorOp::Slice { starts, sizes }, &[id], span);
        self.push(TensorOp::Reshape(Shape::new()), &[cut], span)
    }

    /// The result number under which a node of the public circuit is found.
    pub(crate) fn output(&mut self, id: NodeId) -> u32 {
        if let Some(&k) = self.outputs.get(&id) {
            return k;
        }
        let k = self.outputs.len() as u32;
        self.outputs.insert(id, k);
        let span = self.builder.graph().span(id);
        self.builder.output(
            id,
            ResultDecl {
                name: format!("p{k}"),
                range: None,
                span,
            },
        );
        k
    }

    /// The result number of a known tensor, constants included.
    pub(crate) fn output_of(&mut self, known: &Known, span: Span) -> u32 {
        let id = self.node_of(known, span);
        self.output(id)
    }

    /// The public circuit without what no result needs; `None` when nothing is asked of it.
    pub(crate) fn finish(self) -> Option<Circuit<Tensor>> {
        if self.outputs.is_empty() {
            return None;
        }
        let old = self.builder.finish();
        let live = old.live();
        let mut new = Builder::new(old.name.clone(), old.inputs.clone(), old.meta.clone());
        let mut map = vec![NodeId(0); old.graph.len()];
        for id in old.graph.ids().filter(|id| live[id.index()]) {
            let operands: Vec<NodeId> = old
                .graph
                .operands(id)
                .iter()
                .map(|o| map[o.index()])
                .collect();
            let node = old.graph.node(id);
            map[id.index()] = new
                .push(node.op.clone(), &operands, node.span)
                .expect("the same node as before");
            new.inherit(map[id.index()], node);
        }
        for (id, decl) in old.outputs {
            new.output(map[id.index()], decl);
        }
        Some(new.finish())
    }
}

/// A constant of this shape.
pub(crate) fn constant(shape: &[usize], values: Vec<f64>) -> ConstTensor {
    ConstTensor::new(Shape::from_slice(shape), values).expect("one value for each element")
}

fn division_by_zero(span: Span) -> Diagnostic {
    Diagnostic::error(
        "E3201",
        span,
        "division by a constant zero",
        "this divisor has an element that is zero",
    )
    .with_help("divide by a constant that has no zero")
}

fn check_divisor(range: Interval, span: Span) -> Result<(), Diagnostic> {
    if range.lo <= 0.0 && range.hi >= 0.0 {
        return Err(Diagnostic::error(
            "E3201",
            span,
            format!(
                "division by a public value whose range [{}, {}] holds zero",
                range.lo, range.hi
            ),
            "the quotient has no bound",
        )
        .with_help("declare a range without zero for the divisor, `p: public real in [1, 100]`"));
    }
    Ok(())
}

/// Interval arithmetic.
pub(crate) mod intervals {
    use hecc_ir::graph::Interval;

    pub(crate) fn hull(a: Interval, b: Interval) -> Interval {
        Interval::new(a.lo.min(b.lo), a.hi.max(b.hi))
    }
    pub(crate) fn add(a: Interval, b: Interval) -> Interval {
        Interval::new(a.lo + b.lo, a.hi + b.hi)
    }
    pub(crate) fn neg(a: Interval) -> Interval {
        Interval::new(-a.hi, -a.lo)
    }
    pub(crate) fn sub(a: Interval, b: Interval) -> Interval {
        add(a, neg(b))
    }
    pub(crate) fn mul(a: Interval, b: Interval) -> Interval {
        let p = [a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi];
        // 0 · ∞ has no meaning of its own; a bound that is zero keeps the product zero
        let p = p.map(|x| if x.is_nan() { 0.0 } else { x });
        Interval::new(
            p.iter().copied().fold(f64::INFINITY, f64::min),
            p.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
    pub(crate) fn scale(a: Interval, c: f64) -> Interval {
        mul(a, Interval::new(c, c))
    }
    pub(crate) fn pow(a: Interval, n: u32) -> Interval {
        let (l, h) = (a.lo.powi(n as i32), a.hi.powi(n as i32));
        if n == 0 {
            Interval::new(1.0, 1.0)
        } else if n % 2 == 1 {
            Interval::new(l, h)
        } else if a.lo <= 0.0 && a.hi >= 0.0 {
            Interval::new(0.0, l.max(h))
        } else {
            Interval::new(l.min(h), l.max(h))
        }
    }
    /// The values of a slice.
    pub(crate) fn of_values(values: &[f64]) -> Interval {
        if values.is_empty() {
            return Interval::new(0.0, 0.0);
        }
        Interval::new(
            values.iter().copied().fold(f64::INFINITY, f64::min),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

/// The range of a result from the ranges of the operands, the same for all elements.
pub(crate) fn range_of(
    op: &TensorOp,
    r: &[Interval],
    shapes: &[&[usize]],
    input: &dyn Fn(u32) -> Interval,
) -> Interval {
    use hecc_ir::tensor::Basis;
    use intervals::{add, hull, mul, neg, of_values, pow, scale, sub};
    let zero = Interval::new(0.0, 0.0);
    match op {
        TensorOp::Input(i) => input(*i),
        TensorOp::Const(c) => of_values(c.data()),
        TensorOp::Index(a) => {
            let v = super::expand::fixed(a) as f64;
            Interval::new(v, v)
        }
        TensorOp::Add => add(r[0], r[1]),
        TensorOp::Sub => sub(r[0], r[1]),
        TensorOp::Mul => mul(r[0], r[1]),
        TensorOp::Div => mul(r[0], Interval::new(1.0 / r[1].hi, 1.0 / r[1].lo)),
        TensorOp::Neg => neg(r[0]),
        TensorOp::Pow(n) => pow(r[0], *n),
        TensorOp::Poly(p) => match p.basis {
            Basis::Monomial => p.coefficients.iter().enumerate().fold(zero, |sum, (k, c)| {
                add(sum, scale(pow(r[0], k as u32), c.0))
            }),
            Basis::Chebyshev { lo, hi } => {
                let (slope, shift) = super::expand::affine_to_unit(lo.0, hi.0);
                let u = add(scale(r[0], slope), Interval::new(shift, shift)).magnitude();
                // |T_k(u)| ≤ 1 inside, cosh(k · arcosh |u|) outside
                let bound: f64 = p
                    .coefficients
                    .iter()
                    .enumerate()
                    .map(|(k, c)| {
                        let t = if u <= 1.0 {
                            1.0
                        } else {
                            (k as f64 * u.acosh()).cosh()
                        };
                        c.0.abs() * t
                    })
                    .sum();
                Interval::new(-bound, bound)
            }
        },
        TensorOp::MatMul => {
            let (_, inner, _) = matmul_extents(shapes[0], shapes[1]);
            scale(mul(r[0], r[1]), inner as f64)
        }
        TensorOp::Sum(axes) => {
            let n: usize = axes.iter().map(|&a| shapes[0][a]).product();
            scale(r[0], n as f64)
        }
        TensorOp::Conv2d { .. } => scale(mul(r[0], r[1]), elements(&shapes[1][1..]) as f64),
        TensorOp::SumPool(n) => scale(r[0], (n * n) as f64),
        TensorOp::Pad { .. } => hull(r[0], zero),
        TensorOp::Diag => {
            if shapes[0].len() == 1 {
                hull(r[0], zero)
            } else {
                r[0]
            }
        }
        TensorOp::Update { .. } | TensorOp::Concat(_) => {
            r.iter().skip(1).fold(r[0], |h, x| hull(h, *x))
        }
        TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Slice { .. }
        | TensorOp::Roll(_) => r[0],
        TensorOp::Loop { .. } | TensorOp::Proj(_) => {
            Interval::new(f64::NEG_INFINITY, f64::INFINITY)
        }
    }
}
