//! Circuits under construction: the circuit itself, and inside it the bodies of loops that stay loops.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Dialect, Node, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{
    Affine, ConstTensor, IvId, Param, Secrecy, Shape, Tensor, TensorMeta, TensorOp, TensorType,
    elements, shape_name,
};
use rustc_hash::FxHashMap;

use super::expr::{Checker, Flow, Stop};
use super::value::{self, Const, Run, Value};

/// The variable of a loop that is lowered as a loop.
#[derive(Clone)]
pub(crate) struct Induction<'a> {
    pub iv: IvId,
    pub name: &'a str,
    pub span: Span,
    pub first: i64,
    pub trips: u64,
}

/// One circuit under construction.
pub(crate) struct Frame<'a> {
    pub circuit: Circuit<Tensor>,
    /// Absent for the circuit itself.
    pub induction: Option<Induction<'a>>,
    consts: FxHashMap<ConstTensor, NodeId>,
    captures: FxHashMap<(usize, NodeId), NodeId>,
    /// For each parameter of a body after the carried ones, what it is in the frame outside.
    pub captured: Vec<NodeId>,
}

impl<'a> Frame<'a> {
    pub fn new(name: &str, induction: Option<Induction<'a>>) -> Frame<'a> {
        Frame {
            circuit: Circuit::new(name),
            induction,
            consts: FxHashMap::default(),
            captures: FxHashMap::default(),
            captured: Vec::new(),
        }
    }

    /// Adds a parameter and its node. The type is the parameter's.
    pub fn parameter(&mut self, param: Param) -> NodeId {
        let node = Node {
            op: TensorOp::Input(self.circuit.inputs.len() as u32),
            ty: TensorType::Tensor(param.shape.clone()),
            span: param.span,
            declared: None,
            keep: false,
        };
        self.circuit.inputs.push(param);
        self.circuit.graph.push_node(node, &[])
    }

    /// The circuit without nodes that nothing depends on, and without captured parameters that
    /// nothing reads; with them what is still captured. The first `fixed` parameters stay.
    pub fn finish(self, fixed: usize) -> (Circuit<Tensor>, Vec<NodeId>) {
        let live = self.circuit.live();
        let mut out: Circuit<Tensor> = Circuit::new(self.circuit.name.clone());
        out.meta = self.circuit.meta.clone();
        let mut renumbered: Vec<Option<u32>> = vec![None; self.circuit.inputs.len()];
        let mut captured = Vec::new();
        for (i, number) in renumbered.iter_mut().enumerate().take(fixed) {
            *number = Some(i as u32);
        }
        out.inputs
            .extend(self.circuit.inputs[..fixed].iter().cloned());
        let mut moved = vec![NodeId(0); self.circuit.graph.len()];
        for id in self.circuit.graph.ids() {
            if !live[id.index()] {
                continue;
            }
            let mut node = self.circuit.graph.node(id).clone();
            if let TensorOp::Input(i) = &mut node.op {
                let at = *i as usize;
                *i = *renumbered[at].get_or_insert_with(|| {
                    out.inputs.push(self.circuit.inputs[at].clone());
                    captured.push(self.captured[at - fixed]);
                    out.inputs.len() as u32 - 1
                });
            }
            let operands: Vec<NodeId> = self
                .circuit
                .graph
                .operands(id)
                .iter()
                .map(|o| moved[o.index()])
                .collect();
            moved[id.index()] = out.graph.push_node(node, &operands);
        }
        out.outputs = self
            .circuit
            .outputs
            .into_iter()
            .map(|(id, o)| (moved[id.index()], o))
            .collect();
        (out, captured)
    }
}

impl<'a> Checker<'a> {
    /// Refuses tensors that are too large. The error ends the circuit: what follows would be as large.
    pub(crate) fn fits(&mut self, shape: &[usize], span: Span) -> Flow<()> {
        let count = shape
            .iter()
            .try_fold(1usize, |n, extent| n.checked_mul(*extent))
            .unwrap_or(usize::MAX);
        if count <= self.limits.elements {
            return Ok(());
        }
        let limit = self.limits.elements;
        self.report(
            Diagnostic::error(
                "E2010",
                span,
                format!("a tensor has more than {limit} elements"),
                format!("this is a {}", shape_name(shape)),
            )
            .with_help("work on blocks of it, one after the other, in a `for`"),
        );
        Err(Stop::Fatal)
    }

    /// An operation: at compile time when all operands are known and the place is, else a node.
    pub(crate) fn apply(&mut self, op: TensorOp, args: &[Value], span: Span) -> Flow<Value> {
        if args.iter().any(Value::is_error) {
            return Ok(Value::Error);
        }
        let types: Vec<TensorType> = args.iter().map(|a| TensorType::Tensor(a.shape())).collect();
        let shape = match Tensor::infer(&op, &types.iter().collect::<Vec<_>>(), &[]) {
            Ok(ty) => Shape::from_slice(ty.shape()),
            Err(reason) => {
                return Ok(self.report(Diagnostic::error(
                    "E1017",
                    span,
                    format!("{} does not fit: {reason}", Tensor::mnemonic(&op)),
                    "in this operation",
                )));
            }
        };
        self.fits(&shape, span)?;
        if !depends_on_loops(&op) {
            let consts: Option<Vec<Const>> = args.iter().map(Value::as_const).collect();
            if let Some(consts) = consts {
                let shapes: Vec<Shape> = consts.iter().map(|c| c.shape().clone()).collect();
                self.step(value::cost(&op, &shapes, &shape) / 8, span)?;
                if let Some(out) = value::evaluate(&op, shape, &consts) {
                    return Ok(self.finite(out, span));
                }
                return Ok(self.report(Diagnostic::error(
                    "E1017",
                    span,
                    format!(
                        "{} cannot be evaluated at compile time",
                        Tensor::mnemonic(&op)
                    ),
                    "in this operation",
                )));
            }
        }
        let mut operands = Vec::with_capacity(args.len());
        for arg in args {
            operands.push(self.node(arg, span)?);
        }
        let secrecy = args
            .iter()
            .map(Value::secrecy)
            .max()
            .unwrap_or(Secrecy::Public);
        let uniform_only = args.iter().all(Value::known_when_unrolled);
        self.push(op, shape, &operands, secrecy, uniform_only, span)
    }

    /// Appends a node to the innermost circuit.
    pub(crate) fn push(
        &mut self,
        op: TensorOp,
        shape: Shape,
        operands: &[NodeId],
        secrecy: Secrecy,
        uniform_only: bool,
        span: Span,
    ) -> Flow<Value> {
        let id = self.push_node(op, TensorType::Tensor(shape.clone()), operands, span)?;
        Ok(Value::Run(Run {
            frame: self.frames.len() - 1,
            id,
            shape,
            secrecy,
            uniform_only,
        }))
    }

    pub(crate) fn push_node(
        &mut self,
        op: TensorOp,
        ty: TensorType,
        operands: &[NodeId],
        span: Span,
    ) -> Flow<NodeId> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            let limit = self.limits.nodes;
            self.report(
                Diagnostic::error(
                    "E2011",
                    span,
                    format!("the circuit has more than {limit} operations"),
                    "this one is too many",
                )
                .with_help("use operations on whole tensors, or keep loops uniform so that they need not be unrolled"),
            );
            return Err(Stop::Fatal);
        }
        let Some(frame) = self.frames.last_mut() else {
            return Err(Stop::Fatal);
        };
        let node = Node {
            op,
            ty,
            span,
            declared: None,
            keep: false,
        };
        Ok(frame.circuit.graph.push_node(node, operands))
    }

    /// The node of a value in the innermost circuit.
    pub(crate) fn node(&mut self, value: &Value, span: Span) -> Flow<NodeId> {
        match value {
            Value::Run(run) => {
                let (run, frame) = (run.clone(), self.frames.len() - 1);
                Ok(self.capture(&run, frame))
            }
            Value::Index(affine) => self.push_node(
                TensorOp::Index(affine.clone()),
                TensorType::Tensor(Shape::new()),
                &[],
                span,
            ),
            other => {
                let constant = match other.as_const() {
                    Some(c) => c.lowered(),
                    // A truth value: the callers have refused it before.
                    None => ConstTensor::scalar(0.0),
                };
                let known = self.frames.last().and_then(|f| f.consts.get(&constant));
                if let Some(id) = known {
                    return Ok(*id);
                }
                let ty = TensorType::Tensor(Shape::from_slice(constant.shape()));
                let id = self.push_node(TensorOp::Const(constant.clone()), ty, &[], span)?;
                if let Some(frame) = self.frames.last_mut() {
                    frame.consts.insert(constant, id);
                }
                Ok(id)
            }
        }
    }

    /// A value of this or an outer frame as a node of the frame.
    fn capture(&mut self, run: &Run, frame: usize) -> NodeId {
        if run.frame >= frame {
            return run.id;
        }
        if let Some(&id) = self.frames[frame].captures.get(&(run.frame, run.id)) {
            return id;
        }
        let outside = self.capture(run, frame - 1);
        let span = self.frames[run.frame].circuit.graph.span(run.id);
        let inner = &mut self.frames[frame];
        let number = inner.captured.len();
        let mut name = format!("outer{number}");
        while inner.circuit.inputs.iter().any(|p| p.name == name) {
            name.push('_');
        }
        let id = inner.parameter(Param {
            name,
            secrecy: run.secrecy,
            shape: run.shape.clone(),
            range: None,
            span,
        });
        inner.captured.push(outside);
        inner.captures.insert((run.frame, run.id), id);
        id
    }

    /// A compile-time result, unless it holds an infinity or no number.
    pub(crate) fn finite(&mut self, out: Const, span: Span) -> Value {
        match out.data().iter().find(|x| !x.is_finite()) {
            None => Value::from_const(out),
            Some(x) => {
                let x = *x;
                self.not_finite(x, span)
            }
        }
    }

    pub(crate) fn not_finite(&mut self, x: f64, span: Span) -> Value {
        self.report(
            Diagnostic::error(
                "E2005",
                span,
                format!("the value is {x}, which is not a finite number"),
                "computed at compile time here",
            )
            .with_help("scale the operands down, or keep divisors away from 0"),
        )
    }

    /// Least and greatest value that an index takes in the loops around.
    pub(crate) fn bounds(&self, affine: &Affine) -> (i128, i128) {
        let (mut lo, mut hi) = (i128::from(affine.constant), i128::from(affine.constant));
        for (iv, factor) in &affine.terms {
            let Some(ind) = self.induction(*iv) else {
                continue;
            };
            let a = i128::from(*factor) * i128::from(ind.first);
            let last = i128::from(ind.first) + i128::from(ind.trips) - 1;
            let b = i128::from(*factor) * last;
            lo += a.min(b);
            hi += a.max(b);
        }
        (lo, hi)
    }

    pub(crate) fn induction(&self, iv: IvId) -> Option<&Induction<'a>> {
        self.frames
            .iter()
            .filter_map(|f| f.induction.as_ref())
            .find(|i| i.iv == iv)
    }

    /// A compile-time or run-time value with this shape, to which its own broadcasts.
    pub(crate) fn spread(
        &mut self,
        value: &Value,
        shape: &Shape,
        run_time: bool,
        span: Span,
    ) -> Flow<Value> {
        if value.is_error() || value.shape() == *shape {
            return Ok(value.clone());
        }
        if run_time && value.as_const().is_some() {
            // One constant and a broadcast, not a large constant.
            let id = self.node(value, span)?;
            self.fits(shape, span)?;
            let op = TensorOp::Broadcast(shape.clone());
            return self.push(op, shape.clone(), &[id], Secrecy::Public, true, span);
        }
        self.apply(
            TensorOp::Broadcast(shape.clone()),
            std::slice::from_ref(value),
            span,
        )
    }

    pub(crate) fn reshape(&mut self, value: &Value, shape: Shape, span: Span) -> Flow<Value> {
        if value.is_error() || value.shape() == shape {
            return Ok(value.clone());
        }
        debug_assert_eq!(elements(&value.shape()), elements(&shape));
        self.apply(TensorOp::Reshape(shape), std::slice::from_ref(value), span)
    }

    /// The frame that stands for the circuit itself.
    pub(crate) fn open_circuit(&mut self, name: &str, meta: TensorMeta) {
        let mut frame = Frame::new(name, None);
        frame.circuit.meta = meta;
        self.frames.push(frame);
    }
}

fn depends_on_loops(op: &TensorOp) -> bool {
    let symbolic = |a: &[Affine]| a.iter().any(|a| a.as_constant().is_none());
    match op {
        TensorOp::Slice { starts, .. } | TensorOp::Update { starts } => symbolic(starts),
        TensorOp::Roll(by) => by.as_constant().is_none(),
        TensorOp::Index(_) => true,
        _ => false,
    }
}
