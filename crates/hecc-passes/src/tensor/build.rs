//! A builder of flat circuits that simplifies what it is given.
//!
//! Every rule here is local, exact and never makes the circuit costlier: neutral and absorbing
//! elements, folding of constants where f64 holds the result exactly, public factors gathered
//! (public arithmetic is free), signs moved outward, structure on structure merged.

use hecc_ir::graph::{Builder, Circuit, Graph, Node, NodeId, Operands};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Affine, ConstTensor, Param, Shape, Tensor, TensorOp, TensorType, elements};
use rustc_hash::FxHashMap;

use super::cost::{self, Fact};
use super::exact;

/// Constants with more elements than this are not copied by structural folding.
const FOLD_LIMIT: usize = 1 << 16;

/// How much a builder simplifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simplify {
    /// Nodes are only shared.
    Nothing,
    /// Data movement is resolved (slices of what was written, reshapes of reshapes); arithmetic stays.
    Structure,
    /// Everything.
    All,
}

/// A circuit under construction, with the facts of every node.
pub struct Build {
    inner: Builder<Tensor>,
    facts: Vec<Fact>,
    simplify: Simplify,
    writes: FxHashMap<NodeId, Write>,
    chains: Vec<Chain>,
}

/// Where an `Update` stands in its chain.
#[derive(Clone, Copy, Debug)]
struct Write {
    chain: u32,
    place: u32,
}

/// Updates of one value, one after the other, with blocks of one size on the grid of that size.
#[derive(Debug)]
struct Chain {
    base: NodeId,
    block: Shape,
    /// For each cell, which updates wrote it and what, oldest first.
    cells: FxHashMap<u32, Vec<(u32, NodeId)>>,
    length: u32,
}

impl Build {
    /// A builder for a circuit with the interface of `like`.
    pub fn like(like: &Circuit<Tensor>, simplify: Simplify) -> Build {
        let nodes = like.graph.len();
        Build {
            inner: Builder::with_capacity(
                like.name.clone(),
                like.inputs.clone(),
                like.meta.clone(),
                nodes,
            ),
            facts: Vec::with_capacity(nodes),
            simplify,
            writes: FxHashMap::default(),
            chains: Vec::new(),
        }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph<Tensor> {
        self.inner.graph()
    }

    /// The parameters.
    pub fn inputs(&self) -> &[Param] {
        &self.inner.circuit().inputs
    }

    /// What is known of a node.
    pub fn fact(&self, id: NodeId) -> Fact {
        self.facts[id.index()]
    }

    /// The facts of every node so far.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// A node's shape.
    pub fn shape(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.graph().ty(id).shape())
    }

    /// Carries what the program says of a value over to the node that now stands for it.
    pub fn inherit(&mut self, id: NodeId, from: &Node<Tensor>) {
        self.inner.inherit(id, from);
    }

    /// Marks a value `@keep`.
    pub fn set_keep(&mut self, id: NodeId) {
        self.inner.set_keep(id);
    }

    /// The circuit with these results, what none of them needs included: nodes keep their ids.
    pub fn finish_whole(
        mut self,
        outputs: impl IntoIterator<Item = (NodeId, hecc_ir::tensor::ResultDecl)>,
    ) -> Circuit<Tensor> {
        for (id, decl) in outputs {
            self.inner.output(id, decl);
        }
        self.inner.finish()
    }

    /// The circuit, with these results.
    pub fn finish(
        mut self,
        outputs: impl IntoIterator<Item = (NodeId, hecc_ir::tensor::ResultDecl)>,
    ) -> Circuit<Tensor> {
        for (id, decl) in outputs {
            self.inner.output(id, decl);
        }
        compact(self.inner.finish())
    }

    /// Appends or finds a node as it is.
    ///
    /// # Errors
    /// When the dialect refuses the operands.
    pub fn try_raw(
        &mut self,
        op: TensorOp,
        operands: &[NodeId],
        span: Span,
    ) -> Result<NodeId, hecc_ir::graph::TypeError> {
        let id = self.inner.push(op, operands, span)?;
        if id.index() == self.facts.len() {
            let circuit = self.inner.circuit();
            let f = cost::fact(circuit, &self.facts, id);
            self.facts.push(f);
        }
        Ok(id)
    }

    /// Appends or finds a node that is known to be well typed.
    fn raw(&mut self, op: TensorOp, operands: &[NodeId], span: Span) -> NodeId {
        self.try_raw(op, operands, span)
            .expect("passes put operands of fitting shapes together")
    }

    /// The node for an operation, simplified.
    ///
    /// # Errors
    /// When the dialect refuses the operands.
    pub fn try_push(
        &mut self,
        op: TensorOp,
        operands: &[NodeId],
        span: Span,
    ) -> Result<NodeId, hecc_ir::graph::TypeError> {
        if self.simplify == Simplify::Nothing {
            return self.try_raw(op, operands, span);
        }
        let types: smallvec::SmallVec<[&TensorType; 4]> =
            operands.iter().map(|&o| self.graph().ty(o)).collect();
        let cheap = matches!(op, TensorOp::Add | TensorOp::Sub | TensorOp::Mul)
            && types.len() == 2
            && types[0] == types[1];
        if !cheap {
            <Tensor as hecc_ir::graph::Dialect>::infer(&op, &types, self.inputs()).map_err(
                |reason| hecc_ir::graph::TypeError {
                    op: <Tensor as hecc_ir::graph::Dialect>::mnemonic(&op),
                    reason,
                    span,
                },
            )?;
        }
        drop(types);
        Ok(self.push(op, operands, span))
    }

    /// The node for an operation on fitting operands, simplified when the builder simplifies.
    ///
    /// # Panics
    /// When the dialect refuses the operands: that is the pass's mistake.
    pub fn push(&mut self, op: TensorOp, operands: &[NodeId], span: Span) -> NodeId {
        let arithmetic = matches!(
            op,
            TensorOp::Add
                | TensorOp::Sub
                | TensorOp::Mul
                | TensorOp::Div
                | TensorOp::Neg
                | TensorOp::Pow(_)
                | TensorOp::Poly(_)
                | TensorOp::MatMul
                | TensorOp::Sum(_)
        );
        match self.simplify {
            Simplify::Nothing => return self.raw(op, operands, span),
            Simplify::Structure if arithmetic => return self.raw(op, operands, span),
            Simplify::Structure | Simplify::All => {}
        }
        match op {
            TensorOp::Add => self.add(operands[0], operands[1], span),
            TensorOp::Sub => self.sub(operands[0], operands[1], span),
            TensorOp::Mul => self.mul(operands[0], operands[1], span),
            TensorOp::Div => self.div(operands[0], operands[1], span),
            TensorOp::Neg => self.neg(operands[0], span),
            TensorOp::Pow(n) => self.pow(operands[0], n, span),
            TensorOp::Poly(p) => self.poly(operands[0], p, span),
            TensorOp::MatMul => self.matmul(operands[0], operands[1], span),
            TensorOp::Sum(axes) => self.sum(operands[0], &axes, span),
            TensorOp::Broadcast(to) => self.broadcast(operands[0], &to, span),
            TensorOp::Reshape(to) => self.reshape(operands[0], &to, span),
            TensorOp::Transpose(perm) => self.transpose(operands[0], &perm, span),
            TensorOp::Slice { starts, sizes } => self.slice(operands[0], starts, &sizes, span),
            TensorOp::Update { starts } => self.update(operands[0], operands[1], starts, span),
            TensorOp::Concat(axis) => self.concat(operands, axis, span),
            TensorOp::Roll(by) => self.roll(operands[0], by, span),
            TensorOp::Index(ref at) => match at.as_constant() {
                Some(v) if v.unsigned_abs() <= 1 << 53 => self.scalar(v as f64, span),
                _ => self.raw(op, operands, span),
            },
            TensorOp::Const(c) => self.constant(c, span),
            TensorOp::Pad { before, after } => {
                if before.iter().chain(&after).all(|n| *n == 0) {
                    operands[0]
                } else {
                    self.raw(TensorOp::Pad { before, after }, operands, span)
                }
            }
            TensorOp::SumPool(1) => operands[0],
            TensorOp::Input(_)
            | TensorOp::Diag
            | TensorOp::Conv2d { .. }
            | TensorOp::SumPool(_)
            | TensorOp::Loop { .. }
            | TensorOp::Proj(_) => self.raw(op, operands, span),
        }
    }

    // ---- constants ----

    /// A scalar constant.
    pub fn scalar(&mut self, value: f64, span: Span) -> NodeId {
        let value = exact::positive_zero(value);
        self.raw(TensorOp::Const(ConstTensor::scalar(value)), &[], span)
    }

    /// A constant of this shape with one value everywhere.
    pub fn uniform(&mut self, value: f64, shape: &[usize], span: Span) -> NodeId {
        let scalar = self.scalar(value, span);
        self.broadcast(scalar, shape, span)
    }

    /// A constant; one value everywhere becomes a broadcast scalar.
    pub fn constant(&mut self, c: ConstTensor, span: Span) -> NodeId {
        match c.uniform() {
            Some(v) if !c.shape().is_empty() => {
                self.uniform(v, &Shape::from_slice(c.shape()), span)
            }
            Some(v) => self.scalar(v, span),
            None => self.raw(TensorOp::Const(c), &[], span),
        }
    }

    /// The value that a node has everywhere, when it is a constant.
    pub fn uniform_value(&self, id: NodeId) -> Option<f64> {
        let mut at = id;
        loop {
            match self.graph().op(at) {
                TensorOp::Const(c) => return c.uniform(),
                TensorOp::Broadcast(_) | TensorOp::Reshape(_) => {
                    at = self.graph().operands(at)[0];
                }
                _ => return None,
            }
        }
    }

    /// The public scalar that a node holds everywhere, when it is one that is broadcast.
    pub fn uniform_node(&self, id: NodeId) -> Option<NodeId> {
        if self.facts[id.index()].secret {
            return None;
        }
        let mut at = id;
        loop {
            if elements(self.graph().ty(at).shape()) == 1 && self.graph().ty(at).shape().is_empty()
            {
                return Some(at);
            }
            match self.graph().op(at) {
                TensorOp::Broadcast(_) | TensorOp::Reshape(_) => {
                    at = self.graph().operands(at)[0];
                }
                _ => return None,
            }
        }
    }

    fn const_of(&self, id: NodeId) -> Option<&ConstTensor> {
        match self.graph().op(id) {
            TensorOp::Const(c) => Some(c),
            _ => None,
        }
    }

    fn is_public(&self, id: NodeId) -> bool {
        !self.facts[id.index()].secret
    }

    /// Folds an elementwise operation on two constants, when every element is exact.
    fn fold2(
        &mut self,
        a: NodeId,
        b: NodeId,
        f: impl Fn(f64, f64) -> Option<f64>,
        span: Span,
    ) -> Option<NodeId> {
        if let (Some(x), Some(y)) = (self.uniform_value(a), self.uniform_value(b)) {
            let value = f(x, y)?;
            let shape = self.shape(a);
            return Some(self.uniform(value, &shape, span));
        }
        let (x, y) = (self.values(a)?, self.values(b)?);
        let data: Option<Vec<f64>> = (0..x.len().max(y.len()))
            .map(|i| f(x.at(i), y.at(i)))
            .collect();
        let c = ConstTensor::new(self.shape(a), data?)?;
        Some(self.constant(c, span))
    }

    fn values(&self, id: NodeId) -> Option<Values> {
        if let Some(v) = self.uniform_value(id) {
            return Some(Values::Uniform(v));
        }
        let c = self.const_of(id)?;
        (c.data().len() <= FOLD_LIMIT).then(|| Values::Each(c.shared()))
    }

    /// An elementwise operation on two public uniform values, done on scalars.
    fn on_scalars(&mut self, op: TensorOp, a: NodeId, b: NodeId, span: Span) -> Option<NodeId> {
        let shape = self.shape(a);
        if shape.is_empty() {
            return None;
        }
        let (x, y) = (self.uniform_node(a)?, self.uniform_node(b)?);
        let value = self.push(op, &[x, y], span);
        Some(self.broadcast(value, &shape, span))
    }

    // ---- arithmetic ----

    /// a + b.
    pub fn add(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        if self.uniform_value(a) == Some(0.0) {
            return b;
        }
        if self.uniform_value(b) == Some(0.0) {
            return a;
        }
        if self.is_public(a) && self.is_public(b) {
            if let Some(id) = self.fold2(a, b, exact::add, span) {
                return id;
            }
            if let Some(id) = self.on_scalars(TensorOp::Add, a, b, span) {
                return id;
            }
        }
        if let Some(x) = self.negated(b) {
            return self.sub(a, x, span);
        }
        if let Some(x) = self.negated(a) {
            return self.sub(b, x, span);
        }
        self.raw(TensorOp::Add, &[a.min(b), a.max(b)], span)
    }

    /// a − b.
    pub fn sub(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        if a == b {
            let shape = self.shape(a);
            return self.uniform(0.0, &shape, span);
        }
        if self.uniform_value(b) == Some(0.0) {
            return a;
        }
        if self.uniform_value(a) == Some(0.0) {
            return self.neg(b, span);
        }
        if self.is_public(a) && self.is_public(b) {
            if let Some(id) = self.fold2(a, b, exact::sub, span) {
                return id;
            }
            if let Some(id) = self.on_scalars(TensorOp::Sub, a, b, span) {
                return id;
            }
        }
        if let Some(x) = self.negated(b) {
            return self.add(a, x, span);
        }
        self.raw(TensorOp::Sub, &[a, b], span)
    }

    /// What a node is the negation of.
    fn negated(&self, id: NodeId) -> Option<NodeId> {
        match self.graph().op(id) {
            TensorOp::Neg => Some(self.graph().operands(id)[0]),
            _ => None,
        }
    }

    /// −a.
    pub fn neg(&mut self, a: NodeId, span: Span) -> NodeId {
        if let Some(x) = self.negated(a) {
            return x;
        }
        if let Some(v) = self.uniform_value(a) {
            let shape = self.shape(a);
            return self.uniform(-v, &shape, span);
        }
        if let Some(Values::Each(data)) = self.values(a) {
            let data: Vec<f64> = data.iter().map(|v| exact::positive_zero(-v)).collect();
            if let Some(c) = ConstTensor::new(self.shape(a), data) {
                return self.constant(c, span);
            }
        }
        let operands = self.graph().operands(a);
        match self.graph().op(a) {
            TensorOp::Sub => {
                let (x, y) = (operands[0], operands[1]);
                return self.sub(y, x, span);
            }
            TensorOp::Mul => {
                // A public factor takes the sign for nothing.
                let (x, y) = (operands[0], operands[1]);
                if self.is_public(x) && !self.is_public(y) {
                    let x = self.neg(x, span);
                    return self.mul(x, y, span);
                }
                if self.is_public(y) && !self.is_public(x) {
                    let y = self.neg(y, span);
                    return self.mul(x, y, span);
                }
            }
            TensorOp::Broadcast(to) if self.is_public(a) => {
                let to = to.clone();
                let x = self.neg(operands[0], span);
                return self.broadcast(x, &to, span);
            }
            _ => {}
        }
        self.raw(TensorOp::Neg, &[a], span)
    }

    /// a · b.
    pub fn mul(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        for (x, y) in [(a, b), (b, a)] {
            match self.uniform_value(x) {
                Some(0.0) => return x,
                Some(1.0) => return y,
                Some(-1.0) => return self.neg(y, span),
                _ => {}
            }
        }
        let (pa, pb) = (self.is_public(a), self.is_public(b));
        if pa && pb {
            if let Some(id) = self.fold2(a, b, exact::mul, span) {
                return id;
            }
            if let Some(id) = self.on_scalars(TensorOp::Mul, a, b, span) {
                return id;
            }
        }
        match (self.negated(a), self.negated(b)) {
            (Some(x), Some(y)) => return self.mul(x, y, span),
            (Some(x), None) if !pa => {
                if pb {
                    let b = self.neg(b, span);
                    return self.mul(x, b, span);
                }
                let p = self.mul(x, b, span);
                return self.neg(p, span);
            }
            (None, Some(y)) if !pb => {
                if pa {
                    let a = self.neg(a, span);
                    return self.mul(a, y, span);
                }
                let p = self.mul(a, y, span);
                return self.neg(p, span);
            }
            _ => {}
        }
        if pa != pb {
            let (p, x) = if pa { (a, b) } else { (b, a) };
            if matches!(self.graph().op(x), TensorOp::Mul) && !self.graph().node(x).keep {
                let o = self.graph().operands(x);
                for (q, y) in [(o[0], o[1]), (o[1], o[0])] {
                    if self.is_public(q) && !self.is_public(y) {
                        let pq = self.mul(p, q, span);
                        return self.mul(pq, y, span);
                    }
                }
            }
            return self.raw(TensorOp::Mul, &[p, x], span);
        }
        self.raw(TensorOp::Mul, &[a.min(b), a.max(b)], span)
    }

    /// a / b; a secret is multiplied by the reciprocal, which is public and free.
    pub fn div(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        if self.uniform_value(b) == Some(1.0) {
            return a;
        }
        if self.is_public(a) {
            if let Some(id) = self.fold2(a, b, exact::div, span) {
                return id;
            }
            if let Some(id) = self.on_scalars(TensorOp::Div, a, b, span) {
                return id;
            }
            return self.raw(TensorOp::Div, &[a, b], span);
        }
        let shape = self.shape(b);
        let one = self.uniform(1.0, &shape, span);
        let r = self.div(one, b, span);
        self.mul(r, a, span)
    }

    /// aⁿ, folded; a higher power of a value stays one node.
    pub fn pow(&mut self, a: NodeId, n: u32, span: Span) -> NodeId {
        match n {
            0 => {
                let shape = self.shape(a);
                return self.uniform(1.0, &shape, span);
            }
            1 => return a,
            _ => {}
        }
        if self.is_public(a) {
            if let Some(v) = self.uniform_value(a)
                && let Some(v) = exact::pow(v, n)
            {
                let shape = self.shape(a);
                return self.uniform(v, &shape, span);
            }
            let shape = self.shape(a);
            if !shape.is_empty()
                && let Some(x) = self.uniform_node(a)
            {
                let p = self.pow(x, n, span);
                return self.broadcast(p, &shape, span);
            }
        }
        self.raw(TensorOp::Pow(n), &[a], span)
    }

    fn poly(&mut self, x: NodeId, mut p: hecc_ir::tensor::Polynomial, span: Span) -> NodeId {
        while p.coefficients.len() > 1 && p.coefficients.last().is_some_and(|c| c.0 == 0.0) {
            p.coefficients.pop();
        }
        if p.coefficients.len() == 1 {
            let shape = self.shape(x);
            return self.uniform(p.coefficients[0].0, &shape, span);
        }
        self.raw(TensorOp::Poly(p), &[x], span)
    }

    /// a @ b.
    pub fn matmul(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        if self.uniform_value(a) == Some(0.0) || self.uniform_value(b) == Some(0.0) {
            let (sa, sb) = (self.shape(a), self.shape(b));
            let shape: Shape = sa[..sa.len() - 1].iter().chain(&sb[1..]).copied().collect();
            return self.uniform(0.0, &shape, span);
        }
        if self.is_identity(a) {
            return b;
        }
        if self.is_identity(b) {
            return a;
        }
        if let (Some(x), Some(y)) = (self.negated(a), self.negated(b)) {
            return self.matmul(x, y, span);
        }
        self.raw(TensorOp::MatMul, &[a, b], span)
    }

    fn is_identity(&self, id: NodeId) -> bool {
        let Some(c) = self.const_of(id) else {
            return false;
        };
        let &[m, n] = c.shape() else {
            return false;
        };
        m == n
            && c.data()
                .iter()
                .enumerate()
                .all(|(i, v)| *v == if i / n == i % n { 1.0 } else { 0.0 })
    }

    /// Σ over axes.
    pub fn sum(&mut self, a: NodeId, axes: &[usize], span: Span) -> NodeId {
        if axes.is_empty() {
            return a;
        }
        let shape = self.shape(a);
        let rest: Shape = (0..shape.len())
            .filter(|i| !axes.contains(i))
            .map(|i| shape[i])
            .collect();
        if elements(&shape) == elements(&rest) {
            return self.reshape(a, &rest, span);
        }
        if let Some(x) = self.uniform_node(a) {
            let count: usize = axes.iter().map(|&i| shape[i]).product();
            if count <= 1 << 53 {
                let n = self.scalar(count as f64, span);
                let total = self.mul(n, x, span);
                return self.broadcast(total, &rest, span);
            }
        }
        self.raw(TensorOp::Sum(axes.iter().copied().collect()), &[a], span)
    }

    // ---- structure ----

    /// numpy broadcasting to a shape.
    pub fn broadcast(&mut self, a: NodeId, to: &[usize], span: Span) -> NodeId {
        if self.graph().ty(a).shape() == to {
            return a;
        }
        let mut from = a;
        while let TensorOp::Broadcast(_) = self.graph().op(from) {
            if self.graph().node(from).keep {
                break;
            }
            from = self.graph().operands(from)[0];
        }
        if self.graph().ty(from).shape() == to {
            return from;
        }
        if elements(self.graph().ty(from).shape()) == 1 && !self.graph().ty(from).shape().is_empty()
        {
            from = self.reshape(from, &[], span);
        }
        self.raw(TensorOp::Broadcast(Shape::from_slice(to)), &[from], span)
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, a: NodeId, to: &[usize], span: Span) -> NodeId {
        let mut from = a;
        while let TensorOp::Reshape(_) = self.graph().op(from) {
            from = self.graph().operands(from)[0];
        }
        if self.graph().ty(from).shape() == to {
            return from;
        }
        if let TensorOp::Broadcast(_) = self.graph().op(from) {
            let x = self.graph().operands(from)[0];
            if self.graph().ty(x).shape().is_empty() {
                return self.broadcast(x, to, span);
            }
        }
        if let Some(c) = self.const_of(from)
            && let Some(c) = ConstTensor::new(Shape::from_slice(to), c.shared())
        {
            return self.raw(TensorOp::Const(c), &[], span);
        }
        self.raw(TensorOp::Reshape(Shape::from_slice(to)), &[from], span)
    }

    /// Axes permuted.
    pub fn transpose(&mut self, a: NodeId, perm: &[usize], span: Span) -> NodeId {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return a;
        }
        let shape = self.shape(a);
        let to: Shape = perm.iter().map(|&p| shape[p]).collect();
        match self.graph().op(a) {
            TensorOp::Transpose(inner) => {
                let merged: Vec<usize> = perm.iter().map(|&p| inner[p]).collect();
                let x = self.graph().operands(a)[0];
                return self.transpose(x, &merged, span);
            }
            TensorOp::Const(c) if c.data().len() <= FOLD_LIMIT => {
                let data = permute(c.shape(), c.data(), perm);
                if let Some(c) = ConstTensor::new(to.clone(), data) {
                    return self.raw(TensorOp::Const(c), &[], span);
                }
            }
            TensorOp::Broadcast(_) => {
                let x = self.graph().operands(a)[0];
                if self.graph().ty(x).shape().is_empty() {
                    return self.broadcast(x, &to, span);
                }
            }
            _ => {}
        }
        // Axes of extent 1 may move freely.
        let long: Vec<usize> = perm.iter().copied().filter(|&p| shape[p] != 1).collect();
        if long.windows(2).all(|w| w[0] < w[1]) {
            return self.reshape(a, &to, span);
        }
        self.raw(
            TensorOp::Transpose(perm.iter().copied().collect()),
            &[a],
            span,
        )
    }

    /// A vector turned left.
    fn roll(&mut self, a: NodeId, by: Affine, span: Span) -> NodeId {
        let Some(k) = by.as_constant() else {
            return self.raw(TensorOp::Roll(by), &[a], span);
        };
        let n = self.graph().ty(a).shape()[0] as i64;
        if n == 0 {
            return a;
        }
        let mut k = k.rem_euclid(n);
        let mut from = a;
        if let TensorOp::Roll(inner) = self.graph().op(a)
            && let Some(j) = inner.as_constant()
        {
            k = (k + j.rem_euclid(n)) % n;
            from = self.graph().operands(a)[0];
        }
        if k == 0 || self.uniform_value(from).is_some() {
            return from;
        }
        if let Some(Values::Each(data)) = self.values(from) {
            let mut data = data.to_vec();
            data.rotate_left(k as usize);
            if let Some(c) = ConstTensor::new(self.shape(from), data) {
                return self.raw(TensorOp::Const(c), &[], span);
            }
        }
        self.raw(TensorOp::Roll(Affine::constant(k)), &[from], span)
    }

    /// The block of this size at this place.
    pub fn slice(&mut self, a: NodeId, starts: Vec<Affine>, sizes: &[usize], span: Span) -> NodeId {
        let Some(at) = places(&starts) else {
            return self.raw(
                TensorOp::Slice {
                    starts,
                    sizes: Shape::from_slice(sizes),
                },
                &[a],
                span,
            );
        };
        self.slice_at(a, &at, sizes, span)
    }

    /// The block of this size at this constant place.
    pub fn slice_at(&mut self, a: NodeId, at: &[usize], sizes: &[usize], span: Span) -> NodeId {
        let mut a = a;
        let mut at: Shape = Shape::from_slice(at);
        loop {
            let shape = self.shape(a);
            if shape.as_slice() == sizes {
                return a;
            }
            let operands = self.graph().operands(a);
            match self.graph().op(a) {
                TensorOp::Slice { starts, .. } => {
                    let Some(inner) = places(starts) else { break };
                    for (x, y) in at.iter_mut().zip(&inner) {
                        *x += y;
                    }
                    a = operands[0];
                }
                TensorOp::Update { starts } => {
                    match self.read(a, &at, sizes) {
                        Read::Value(value, inner) => {
                            a = value;
                            at = inner;
                            continue;
                        }
                        Read::Base(base) => {
                            a = base;
                            continue;
                        }
                        Read::Unknown => {}
                    }
                    let Some(start) = places(starts) else { break };
                    let block = self.shape(operands[1]);
                    let inside = (0..at.len())
                        .all(|i| at[i] >= start[i] && at[i] + sizes[i] <= start[i] + block[i]);
                    let apart = (0..at.len())
                        .any(|i| at[i] + sizes[i] <= start[i] || start[i] + block[i] <= at[i]);
                    if inside {
                        for (x, y) in at.iter_mut().zip(&start) {
                            *x -= y;
                        }
                        a = operands[1];
                    } else if apart {
                        a = operands[0];
                    } else {
                        break;
                    }
                }
                TensorOp::Concat(axis) => {
                    let axis = *axis;
                    let unit = self.graph().ty(operands[0]).shape()[axis];
                    let even = unit > 0 && operands.len() * unit == shape[axis];
                    let mut index = 0;
                    let mut offset = 0;
                    if even
                        && operands
                            .iter()
                            .all(|o| self.graph().ty(*o).shape()[axis] == unit)
                    {
                        index = at[axis] / unit;
                        offset = index * unit;
                    } else {
                        while index < operands.len() {
                            let n = self.graph().ty(operands[index]).shape()[axis];
                            if at[axis] < offset + n {
                                break;
                            }
                            offset += n;
                            index += 1;
                        }
                    }
                    let Some(&piece) = operands.get(index) else {
                        break;
                    };
                    if at[axis] + sizes[axis] > offset + self.graph().ty(piece).shape()[axis] {
                        break;
                    }
                    at[axis] -= offset;
                    a = piece;
                }
                TensorOp::Broadcast(_) => {
                    let x = operands[0];
                    let inner = self.shape(x);
                    let skip = shape.len() - inner.len();
                    let mut place = Shape::new();
                    let mut extent = Shape::new();
                    for i in 0..inner.len() {
                        let repeated = inner[i] == 1 && shape[i + skip] != 1;
                        place.push(if repeated { 0 } else { at[i + skip] });
                        extent.push(if repeated { 1 } else { sizes[i + skip] });
                    }
                    let x = self.slice_at(x, &place, &extent, span);
                    return self.broadcast(x, sizes, span);
                }
                TensorOp::Pad { before, .. } => {
                    let before = before.clone();
                    let inner = self.shape(operands[0]);
                    let inside = (0..at.len())
                        .all(|i| at[i] >= before[i] && at[i] + sizes[i] <= before[i] + inner[i]);
                    let apart = (0..at.len())
                        .any(|i| at[i] + sizes[i] <= before[i] || before[i] + inner[i] <= at[i]);
                    if inside {
                        for (x, y) in at.iter_mut().zip(&before) {
                            *x -= y;
                        }
                        a = operands[0];
                    } else if apart {
                        return self.uniform(0.0, sizes, span);
                    } else {
                        break;
                    }
                }
                TensorOp::Const(c) if elements(sizes) <= FOLD_LIMIT => {
                    let data = block(c.shape(), c.data(), &at, sizes);
                    if let Some(c) = ConstTensor::new(Shape::from_slice(sizes), data) {
                        return self.constant(c, span);
                    }
                    break;
                }
                TensorOp::Transpose(perm) => {
                    let perm = perm.clone();
                    let mut place = at.clone();
                    let mut extent = Shape::from_slice(sizes);
                    for (i, &p) in perm.iter().enumerate() {
                        place[p] = at[i];
                        extent[p] = sizes[i];
                    }
                    let x = self.slice_at(operands[0], &place, &extent, span);
                    return self.transpose(x, &perm, span);
                }
                _ => break,
            }
        }
        let starts = at.iter().map(|&x| Affine::constant(x as i64)).collect();
        self.raw(
            TensorOp::Slice {
                starts,
                sizes: Shape::from_slice(sizes),
            },
            &[a],
            span,
        )
    }

    /// `a` with a block replaced. Chains of such updates are remembered, so that a read finds what
    /// was written without walking them.
    fn update(&mut self, a: NodeId, b: NodeId, starts: Vec<Affine>, span: Span) -> NodeId {
        if self.graph().ty(a) == self.graph().ty(b) {
            return b;
        }
        let at = places(&starts);
        let before = self.graph().len();
        let id = self.raw(TensorOp::Update { starts }, &[a, b], span);
        if id.index() < before {
            return id;
        }
        let (Some(at), shape, size) = (at, self.shape(a), self.shape(b)) else {
            return id;
        };
        let Some(cell) = cell(&shape, &size, &at) else {
            return id;
        };
        let extends = self.writes.get(&a).copied().filter(|w| {
            let chain = &self.chains[w.chain as usize];
            chain.block == size && chain.length == w.place + 1
        });
        let (chain, place) = match extends {
            Some(w) => (w.chain, w.place + 1),
            None => {
                self.chains.push(Chain {
                    base: a,
                    block: size,
                    cells: FxHashMap::default(),
                    length: 0,
                });
                (self.chains.len() as u32 - 1, 0)
            }
        };
        let c = &mut self.chains[chain as usize];
        c.length = place + 1;
        c.cells.entry(cell).or_default().push((place, b));
        self.writes.insert(id, Write { chain, place });
        id
    }

    /// What a block of an updated value is, when it lies in one cell of the chain.
    fn read(&self, id: NodeId, at: &[usize], sizes: &[usize]) -> Read {
        let Some(w) = self.writes.get(&id) else {
            return Read::Unknown;
        };
        let chain = &self.chains[w.chain as usize];
        let shape = self.graph().ty(id).shape();
        let mut corner = Shape::new();
        for i in 0..at.len() {
            let b = chain.block[i];
            let first = at[i] / b * b;
            if at[i] + sizes[i] > first + b {
                return Read::Unknown;
            }
            corner.push(first);
        }
        let Some(cell) = cell(shape, &chain.block, &corner) else {
            return Read::Unknown;
        };
        let last = chain.cells.get(&cell).and_then(|writes| {
            let n = writes.partition_point(|(place, _)| *place <= w.place);
            n.checked_sub(1).map(|i| writes[i].1)
        });
        match last {
            Some(value) => Read::Value(value, at.iter().zip(&corner).map(|(x, c)| x - c).collect()),
            None => Read::Base(chain.base),
        }
    }

    /// All values that make up an updated value, when every cell of its chain was written: the cells
    /// in row-major order, and how many there are along each axis; `None` also for more than `most` cells.
    pub fn assembled(&self, id: NodeId, most: usize) -> Option<(Vec<NodeId>, Shape)> {
        let w = self.writes.get(&id)?;
        let chain = &self.chains[w.chain as usize];
        let shape = self.graph().ty(id).shape();
        let grid: Shape = shape.iter().zip(&chain.block).map(|(n, b)| n / b).collect();
        let count = elements(&grid);
        if count > most || chain.cells.len() < count || (w.place as usize) + 1 < count {
            return None;
        }
        let values: Option<Vec<NodeId>> = (0..count as u32)
            .map(|cell| {
                let writes = chain.cells.get(&cell)?;
                let n = writes.partition_point(|(place, _)| *place <= w.place);
                n.checked_sub(1).map(|i| writes[i].1)
            })
            .collect();
        Some((values?, grid))
    }

    /// Operands one after the other; neighbours cut from one tensor are joined again.
    pub fn concat(&mut self, operands: &[NodeId], axis: usize, span: Span) -> NodeId {
        let mut pieces: Vec<NodeId> = Vec::with_capacity(operands.len());
        let mut cut: Option<(NodeId, Shape, Shape)> = None;
        for &o in operands {
            let shape = self.shape(o);
            if shape[axis] == 0 && operands.len() > 1 {
                continue;
            }
            let here = match self.graph().op(o) {
                TensorOp::Slice { starts, sizes } => {
                    places(starts).map(|at| (self.graph().operands(o)[0], at, sizes.clone()))
                }
                _ => None,
            };
            if let (Some((x, at, size)), Some((y, to, more))) = (&mut cut, &here) {
                let next = x == y
                    && (0..at.len()).all(|i| {
                        if i == axis {
                            to[i] == at[i] + size[i]
                        } else {
                            to[i] == at[i] && more[i] == size[i]
                        }
                    });
                if next {
                    size[axis] += more[axis];
                    continue;
                }
            }
            if let Some((x, at, size)) = cut.take() {
                let piece = self.slice_at(x, &at, &size, span);
                pieces.push(piece);
            }
            match here {
                Some(here) => cut = Some(here),
                None => pieces.push(o),
            }
        }
        if let Some((x, at, size)) = cut.take() {
            let piece = self.slice_at(x, &at, &size, span);
            pieces.push(piece);
        }
        if pieces.is_empty() {
            return operands[0];
        }
        if pieces.len() == 1 {
            return pieces[0];
        }
        if let Some(x) = self.uniform_node(pieces[0])
            && pieces.iter().all(|p| self.uniform_node(*p) == Some(x))
        {
            let mut shape = self.shape(pieces[0]);
            shape[axis] = pieces
                .iter()
                .map(|p| self.graph().ty(*p).shape()[axis])
                .sum();
            return self.broadcast(x, &shape, span);
        }
        self.raw(TensorOp::Concat(axis), &pieces, span)
    }
}

enum Values {
    Uniform(f64),
    Each(std::sync::Arc<[f64]>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Uniform(_) => 0,
            Values::Each(data) => data.len(),
        }
    }

    fn at(&self, i: usize) -> f64 {
        match self {
            Values::Uniform(v) => *v,
            Values::Each(data) => data[i],
        }
    }
}

enum Read {
    Value(NodeId, Shape),
    Base(NodeId),
    Unknown,
}

/// Constant places, when all are known and none negative.
pub fn places(starts: &[Affine]) -> Option<Shape> {
    starts
        .iter()
        .map(|s| s.as_constant().and_then(|v| usize::try_from(v).ok()))
        .collect()
}

/// The row-major number of a block on the grid of its size.
fn cell(shape: &[usize], block: &[usize], at: &[usize]) -> Option<u32> {
    let mut number = 0usize;
    for i in 0..shape.len() {
        let b = block[i];
        if b == 0 || !shape[i].is_multiple_of(b) || !at[i].is_multiple_of(b) {
            return None;
        }
        number = number.checked_mul(shape[i] / b)? + at[i] / b;
    }
    u32::try_from(number).ok()
}

fn strides(shape: &[usize]) -> Shape {
    let mut out: Shape = shape.iter().map(|_| 1).collect();
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// A block of row-major data.
fn block(shape: &[usize], data: &[f64], at: &[usize], sizes: &[usize]) -> Vec<f64> {
    let by = strides(shape);
    gather(sizes, |index| {
        data[(0..index.len())
            .map(|i| (at[i] + index[i]) * by[i])
            .sum::<usize>()]
    })
}

fn permute(shape: &[usize], data: &[f64], perm: &[usize]) -> Vec<f64> {
    let by = strides(shape);
    let to: Shape = perm.iter().map(|&p| shape[p]).collect();
    gather(&to, |index| {
        data[(0..index.len())
            .map(|i| index[i] * by[perm[i]])
            .sum::<usize>()]
    })
}

/// One value for each index of a shape, row-major.
fn gather(shape: &[usize], f: impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let count = elements(shape);
    let mut out = Vec::with_capacity(count);
    let mut index: Shape = shape.iter().map(|_| 0).collect();
    for _ in 0..count {
        out.push(f(&index));
        for i in (0..shape.len()).rev() {
            index[i] += 1;
            if index[i] < shape[i] {
                break;
            }
            index[i] = 0;
        }
    }
    out
}

/// Without the nodes that no output depends on.
fn compact(circuit: Circuit<Tensor>) -> Circuit<Tensor> {
    let live = circuit.live();
    if live.iter().all(|l| *l) {
        return circuit;
    }
    let count = live.iter().filter(|l| **l).count();
    let mut graph = Graph::with_capacity(count);
    let mut map: Vec<NodeId> = vec![NodeId(u32::MAX); live.len()];
    for id in circuit.graph.ids().filter(|id| live[id.index()]) {
        let operands: Operands = circuit
            .graph
            .operands(id)
            .iter()
            .map(|o| map[o.index()])
            .collect();
        map[id.index()] = graph.push_node(circuit.graph.node(id).clone(), &operands);
    }
    Circuit {
        graph,
        outputs: circuit
            .outputs
            .into_iter()
            .map(|(id, decl)| (map[id.index()], decl))
            .collect(),
        ..circuit
    }
}

/// Rebuilds the live part of a flat circuit in order; `f` says what each node becomes, given what
/// its operands became. Declared ranges and `@keep` follow.
pub fn sweep(
    circuit: &Circuit<Tensor>,
    simplify: Simplify,
    mut f: impl FnMut(&mut Build, NodeId, &Node<Tensor>, &[NodeId]) -> NodeId,
) -> Circuit<Tensor> {
    sweep_some(circuit, simplify, |build, id, node, operands, _| {
        Some(f(build, id, node, operands))
    })
}

/// As [`sweep`], but `f` may leave a node out when no node that it keeps needs it; it also sees
/// what every earlier node became.
pub fn sweep_some(
    circuit: &Circuit<Tensor>,
    simplify: Simplify,
    mut f: impl FnMut(&mut Build, NodeId, &Node<Tensor>, &[NodeId], &[NodeId]) -> Option<NodeId>,
) -> Circuit<Tensor> {
    let live = circuit.live();
    let mut build = Build::like(circuit, simplify);
    let mut map: Vec<NodeId> = vec![NodeId(u32::MAX); circuit.graph.len()];
    for id in circuit.graph.ids() {
        if !live[id.index()] {
            continue;
        }
        let node = circuit.graph.node(id);
        let operands: Operands = circuit
            .graph
            .operands(id)
            .iter()
            .map(|o| map[o.index()])
            .collect();
        if let Some(new) = f(&mut build, id, node, &operands, &map) {
            build.inherit(new, node);
            map[id.index()] = new;
        }
    }
    let outputs: Vec<_> = circuit
        .outputs
        .iter()
        .map(|(id, decl)| (map[id.index()], decl.clone()))
        .collect();
    build.finish(outputs)
}
