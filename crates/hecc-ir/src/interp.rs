//! Evaluates tensor circuits in any [`Algebra`].
//!
//! Loops run; they are not unrolled. A value is freed after its last use, and an update of a
//! value that nobody else holds happens in place, so that n updates of single elements cost O(n).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::algebra::{Algebra, Clear};
use crate::graph::{Circuit, CircuitId, Interval, Module, NodeId, Operands};
use crate::span::Span;
use crate::tensor::{Affine, IvId, Shape, Tensor, TensorOp, elements, shape_name};

/// A dense row-major tensor of values of some algebra. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorValue<V> {
    shape: Shape,
    data: Arc<Vec<V>>,
}

impl<V> TensorValue<V> {
    /// A tensor of this shape; `None` when the count of values is not the shape's.
    pub fn new(shape: impl Into<Shape>, data: Vec<V>) -> Option<TensorValue<V>> {
        let shape = shape.into();
        (elements(&shape) == data.len()).then(|| TensorValue {
            shape,
            data: Arc::new(data),
        })
    }

    /// A tensor of rank 0.
    pub fn scalar(value: V) -> TensorValue<V> {
        TensorValue {
            shape: Shape::new(),
            data: Arc::new(vec![value]),
        }
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values, row-major.
    pub fn data(&self) -> &[V] {
        &self.data
    }

    /// Values, to be changed in place; copied first when they are shared.
    pub fn data_mut(&mut self) -> &mut [V]
    where
        V: Clone,
    {
        Arc::<Vec<V>>::make_mut(&mut self.data)
    }

    /// The same shape with every value mapped.
    pub fn map<W>(&self, f: impl FnMut(&V) -> W) -> TensorValue<W> {
        TensorValue {
            shape: self.shape.clone(),
            data: Arc::new(self.data.iter().map(f).collect()),
        }
    }

    fn build(shape: Shape, data: Vec<V>) -> TensorValue<V> {
        debug_assert_eq!(elements(&shape), data.len());
        TensorValue {
            shape,
            data: Arc::new(data),
        }
    }

    fn into_vec(self) -> Vec<V>
    where
        V: Clone,
    {
        Arc::try_unwrap(self.data).unwrap_or_else(|shared| (*shared).clone())
    }
}

/// Why a circuit could not be evaluated.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EvalError {
    /// A divisor is zero, or has no inverse in the algebra.
    #[error("division by zero")]
    DivisionByZero {
        /// The division.
        span: Span,
    },
    /// An index that depends on a loop leaves its tensor.
    #[error("index {index} with extent {extent} leaves axis {axis} of {shape}")]
    OutOfBounds {
        /// The access.
        span: Span,
        /// First index.
        index: i64,
        /// How many elements from there.
        extent: usize,
        /// Along which axis.
        axis: usize,
        /// The tensor's shape.
        shape: String,
    },
    /// A constant has no image in the algebra (NaN, or infinite where that is not possible).
    #[error("a constant is not a finite number")]
    Constant {
        /// The constant.
        span: Span,
    },
    /// The given values do not fit the circuit's parameters.
    #[error("{0}")]
    Inputs(String),
    /// The circuit breaks a law of its dialect; the verifier says more.
    #[error("malformed circuit: {reason}")]
    Malformed {
        /// The node.
        span: Span,
        /// Which law.
        reason: String,
    },
    /// A visitor asked to stop.
    #[error("stopped: {0}")]
    Stopped(String),
}

impl EvalError {
    /// Where in the source, if the error has a place.
    pub fn span(&self) -> Option<Span> {
        match self {
            EvalError::DivisionByZero { span }
            | EvalError::OutOfBounds { span, .. }
            | EvalError::Constant { span }
            | EvalError::Malformed { span, .. } => Some(*span),
            EvalError::Inputs(_) | EvalError::Stopped(_) => None,
        }
    }
}

/// Where evaluation is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The circuit.
    pub circuit: CircuitId,
    /// The node whose value was just computed.
    pub node: NodeId,
    /// Induction variables of the loops around, outermost first.
    pub variables: &'a [(IvId, i64)],
}

/// Evaluates a module's entry.
///
/// # Errors
/// [`EvalError`]: inputs that do not fit, division by zero, an index out of bounds.
pub fn eval_module<A: Algebra>(
    algebra: &A,
    module: &Module<Tensor>,
    inputs: &[TensorValue<A::Value>],
) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
    eval_module_with(algebra, module, inputs, |_, _| Ok(()))
}

/// Evaluates a module's entry and shows every tensor to a visitor as soon as it is computed (not
/// the tuples of loops; their projections). The visitor may change the value (an interval analysis
/// narrows it to what is declared, say) or stop the evaluation.
///
/// # Errors
/// [`EvalError`], the visitor's included.
pub fn eval_module_with<A: Algebra>(
    algebra: &A,
    module: &Module<Tensor>,
    inputs: &[TensorValue<A::Value>],
    visitor: impl FnMut(Place<'_>, &mut TensorValue<A::Value>) -> Result<(), EvalError>,
) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
    let circuits: Vec<&Circuit<Tensor>> = module.circuits.iter().collect();
    run(algebra, &circuits, module.entry, inputs, visitor)
}

/// Evaluates one circuit that has no loops.
///
/// # Errors
/// [`EvalError`]; a loop is [`EvalError::Malformed`].
pub fn eval_circuit<A: Algebra>(
    algebra: &A,
    circuit: &Circuit<Tensor>,
    inputs: &[TensorValue<A::Value>],
) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
    run(algebra, &[circuit], CircuitId(0), inputs, |_, _| Ok(()))
}

/// Evaluates one circuit that has no loops and returns the value of every node.
///
/// # Errors
/// [`EvalError`]; a loop is [`EvalError::Malformed`].
pub fn eval_nodes<A: Algebra>(
    algebra: &A,
    circuit: &Circuit<Tensor>,
    inputs: &[TensorValue<A::Value>],
) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
    let mut values = Vec::with_capacity(circuit.graph.len());
    run(algebra, &[circuit], CircuitId(0), inputs, |_, value| {
        values.push(value.clone());
        Ok(())
    })?;
    Ok(values)
}

/// A value outside the range that the program declares for it.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeViolation {
    /// The circuit.
    pub circuit: CircuitId,
    /// The node, where it is a node's declaration or an output.
    pub node: Option<NodeId>,
    /// Where the value stands in the source.
    pub span: Span,
    /// The name of the parameter or output, where it is one's declaration.
    pub name: Option<String>,
    /// Row-major index of the first element that is out of range.
    pub element: usize,
    /// Its value.
    pub value: f64,
    /// The declared range.
    pub range: Interval,
    /// Induction variables of the loops around, outermost first.
    pub variables: Vec<(IvId, i64)>,
}

/// Evaluates a module in the clear and collects values outside declared ranges: of parameters
/// (the assumed \[-1, 1\] for secret ones without a declaration), of `let … in` and of outputs. At
/// most one violation a node, its first. A value may exceed its range by `slack` times the range's
/// magnitude, for rounding.
///
/// # Errors
/// [`EvalError`] as [`eval_module`].
pub fn check_ranges(
    module: &Module<Tensor>,
    inputs: &[TensorValue<f64>],
    slack: f64,
) -> Result<(Vec<TensorValue<f64>>, Vec<RangeViolation>), EvalError> {
    let mut found: Vec<RangeViolation> = Vec::new();
    let outside = |value: &TensorValue<f64>, range: Interval| {
        let slack = slack * range.magnitude().max(f64::MIN_POSITIVE);
        value
            .data()
            .iter()
            .position(|&v| !range.contains(v, slack))
            .map(|i| (i, value.data()[i]))
    };
    let entry = module.entry();
    for (param, value) in entry.inputs.iter().zip(inputs) {
        let range = match param.secrecy {
            crate::tensor::Secrecy::Secret => Some(param.interval()),
            crate::tensor::Secrecy::Public => param.range,
        };
        if let Some(range) = range
            && let Some((element, v)) = outside(value, range)
        {
            found.push(RangeViolation {
                circuit: module.entry,
                node: None,
                span: param.span,
                name: Some(param.name.clone()),
                element,
                value: v,
                range,
                variables: Vec::new(),
            });
        }
    }
    let mut seen: std::collections::BTreeSet<(CircuitId, NodeId)> = Default::default();
    let outputs = eval_module_with(&Clear, module, inputs, |place, value| {
        let node = module.circuit(place.circuit).graph.node(place.node);
        if let Some(range) = node.declared
            && let Some((element, v)) = outside(value, range)
            && seen.insert((place.circuit, place.node))
        {
            found.push(RangeViolation {
                circuit: place.circuit,
                node: Some(place.node),
                span: node.span,
                name: None,
                element,
                value: v,
                range,
                variables: place.variables.to_vec(),
            });
        }
        Ok(())
    })?;
    for ((id, decl), value) in entry.outputs.iter().zip(&outputs) {
        if let Some(range) = decl.range
            && let Some((element, v)) = outside(value, range)
        {
            found.push(RangeViolation {
                circuit: module.entry,
                node: Some(*id),
                span: decl.span,
                name: Some(decl.name.clone()),
                element,
                value: v,
                range,
                variables: Vec::new(),
            });
        }
    }
    Ok((outputs, found))
}

fn run<A: Algebra>(
    algebra: &A,
    circuits: &[&Circuit<Tensor>],
    entry: CircuitId,
    inputs: &[TensorValue<A::Value>],
    visitor: impl FnMut(Place<'_>, &mut TensorValue<A::Value>) -> Result<(), EvalError>,
) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
    let circuit = circuits
        .get(entry.0 as usize)
        .ok_or_else(|| EvalError::Inputs(format!("there is no circuit {entry}")))?;
    if inputs.len() != circuit.inputs.len() {
        return Err(EvalError::Inputs(format!(
            "{} takes {} inputs and was given {}",
            circuit.name,
            circuit.inputs.len(),
            inputs.len()
        )));
    }
    for (param, value) in circuit.inputs.iter().zip(inputs) {
        if param.shape != value.shape {
            return Err(EvalError::Inputs(format!(
                "{} is {} and was given {}",
                param.name,
                shape_name(&param.shape),
                shape_name(&value.shape)
            )));
        }
    }
    let mut machine = Machine {
        algebra,
        circuits,
        plans: circuits.iter().map(|_| None).collect(),
        variables: Vec::new(),
        visitor,
    };
    let inputs = inputs.iter().cloned().map(Some).collect();
    machine.circuit(entry, inputs)
}

/// What is known of a circuit before it runs.
struct Plan<V> {
    uses: Vec<u32>,
    /// How many projections each component of a tuple has.
    projections: FxHashMap<NodeId, Vec<u32>>,
    /// How many `Input` nodes each parameter has.
    reads: Vec<u32>,
    /// Constants of a loop's body, made once.
    constants: FxHashMap<NodeId, TensorValue<V>>,
}

enum Slot<V> {
    Free,
    Tensor(TensorValue<V>),
    Tuple(Vec<(Option<TensorValue<V>>, u32)>),
}

struct Machine<'a, A: Algebra, F> {
    algebra: &'a A,
    circuits: &'a [&'a Circuit<Tensor>],
    plans: Vec<Option<Arc<Plan<A::Value>>>>,
    variables: Vec<(IvId, i64)>,
    visitor: F,
}

impl<A, F> Machine<'_, A, F>
where
    A: Algebra,
    F: FnMut(Place<'_>, &mut TensorValue<A::Value>) -> Result<(), EvalError>,
{
    fn plan(&mut self, id: CircuitId) -> Result<Arc<Plan<A::Value>>, EvalError> {
        if let Some(plan) = &self.plans[id.0 as usize] {
            return Ok(Arc::clone(plan));
        }
        let circuit = self.circuits[id.0 as usize];
        let graph = &circuit.graph;
        let mut uses = graph.use_counts();
        for (out, _) in &circuit.outputs {
            let slot = uses
                .get_mut(out.index())
                .ok_or_else(|| EvalError::Malformed {
                    span: Span::default(),
                    reason: format!("output {out} is no node"),
                })?;
            *slot += 1;
        }
        let mut projections: FxHashMap<NodeId, Vec<u32>> = FxHashMap::default();
        let mut reads = vec![0; circuit.inputs.len()];
        let mut constants = FxHashMap::default();
        for node in graph.ids() {
            match graph.op(node) {
                TensorOp::Proj(i) => {
                    if let Some(&tuple) = graph.operands(node).first() {
                        let counts = projections.entry(tuple).or_default();
                        if counts.len() <= *i as usize {
                            counts.resize(*i as usize + 1, 0);
                        }
                        counts[*i as usize] += 1;
                    }
                }
                TensorOp::Input(i) => {
                    if let Some(n) = reads.get_mut(*i as usize) {
                        *n += 1;
                    }
                }
                TensorOp::Const(_) if !self.variables.is_empty() => {
                    constants.insert(node, self.constant(circuit, node)?);
                }
                _ => {}
            }
        }
        let plan = Arc::new(Plan {
            uses,
            projections,
            reads,
            constants,
        });
        self.plans[id.0 as usize] = Some(Arc::clone(&plan));
        Ok(plan)
    }

    fn constant(
        &self,
        circuit: &Circuit<Tensor>,
        node: NodeId,
    ) -> Result<TensorValue<A::Value>, EvalError> {
        let TensorOp::Const(c) = circuit.graph.op(node) else {
            return Err(malformed(circuit, node, "is no constant"));
        };
        let data: Option<Vec<A::Value>> = c.data().iter().map(|&x| self.algebra.lift(x)).collect();
        let data = data.ok_or(EvalError::Constant {
            span: circuit.graph.span(node),
        })?;
        Ok(TensorValue::build(Shape::from_slice(c.shape()), data))
    }

    fn circuit(
        &mut self,
        id: CircuitId,
        mut inputs: Vec<Option<TensorValue<A::Value>>>,
    ) -> Result<Vec<TensorValue<A::Value>>, EvalError> {
        let plan = self.plan(id)?;
        let circuit = self.circuits[id.0 as usize];
        let graph = &circuit.graph;
        let mut left = plan.uses.clone();
        let mut reads = plan.reads.clone();
        let mut slots: Vec<Slot<A::Value>> = Vec::with_capacity(graph.len());
        for node in graph.ids() {
            let operands = graph.operands(node);
            let value = match graph.op(node) {
                TensorOp::Input(i) => {
                    let i = *i as usize;
                    let missing = || malformed(circuit, node, "there is no such parameter");
                    let slot = inputs.get_mut(i).ok_or_else(missing)?;
                    reads[i] -= 1;
                    let value = if reads[i] == 0 {
                        slot.take()
                    } else {
                        slot.clone()
                    };
                    value.ok_or_else(missing)?
                }
                TensorOp::Const(_) => match plan.constants.get(&node) {
                    Some(value) => value.clone(),
                    None => self.constant(circuit, node)?,
                },
                TensorOp::Index(affine) => {
                    let i = self.affine(affine, circuit, node)?;
                    let value = self
                        .algebra
                        .lift(i as f64)
                        .ok_or_else(|| EvalError::Constant {
                            span: graph.span(node),
                        })?;
                    TensorValue::scalar(value)
                }
                TensorOp::Loop {
                    body,
                    iv,
                    first,
                    trips,
                    carried,
                    ..
                } => {
                    if *body >= id {
                        return Err(malformed(
                            circuit,
                            node,
                            "a body stands before its loop in a module",
                        ));
                    }
                    let mut values = Vec::with_capacity(operands.len());
                    for place in 0..operands.len() {
                        values.push(take(
                            &mut slots, &mut left, &operands, place, circuit, node,
                        )?);
                    }
                    let captured = values.split_off(carried.len().min(values.len()));
                    let n = values.len();
                    for trip in 0..*trips {
                        let at = i64::try_from(trip)
                            .ok()
                            .and_then(|t| first.checked_add(t))
                            .ok_or_else(|| malformed(circuit, node, "the loop leaves i64"))?;
                        self.variables.push((*iv, at));
                        let inputs = values
                            .drain(..)
                            .chain(captured.iter().cloned())
                            .map(Some)
                            .collect();
                        values = self.circuit(*body, inputs)?;
                        self.variables.pop();
                        if values.len() != n {
                            return Err(malformed(
                                circuit,
                                node,
                                "the body yields another count of values",
                            ));
                        }
                    }
                    let counts = plan.projections.get(&node);
                    slots.push(Slot::Tuple(
                        values
                            .into_iter()
                            .enumerate()
                            .map(|(i, v)| {
                                let n = counts.and_then(|c| c.get(i)).copied().unwrap_or(0);
                                ((n > 0).then_some(v), n)
                            })
                            .collect(),
                    ));
                    continue;
                }
                TensorOp::Proj(i) => {
                    let missing = || malformed(circuit, node, "takes the results of a loop");
                    let tuple = operands.first().copied().ok_or_else(missing)?;
                    left[tuple.index()] -= 1;
                    match slots.get_mut(tuple.index()) {
                        Some(Slot::Tuple(parts)) => {
                            let (value, n) = parts.get_mut(*i as usize).ok_or_else(missing)?;
                            *n = n.saturating_sub(1);
                            if *n == 0 { value.take() } else { value.clone() }
                                .ok_or_else(missing)?
                        }
                        _ => return Err(missing()),
                    }
                }
                op => {
                    let mut values = smallvec::SmallVec::<[TensorValue<A::Value>; 2]>::new();
                    for place in 0..operands.len() {
                        values.push(take(
                            &mut slots, &mut left, &operands, place, circuit, node,
                        )?);
                    }
                    let same = operands.len() == 2 && operands[0] == operands[1];
                    self.simple(op, &mut values, same, circuit, node)?
                }
            };
            let mut value = value;
            (self.visitor)(
                Place {
                    circuit: id,
                    node,
                    variables: &self.variables,
                },
                &mut value,
            )?;
            slots.push(if left[node.index()] == 0 {
                Slot::Free
            } else {
                Slot::Tensor(value)
            });
        }
        let ids: Operands = circuit.outputs.iter().map(|(id, _)| *id).collect();
        (0..ids.len())
            .map(|place| take(&mut slots, &mut left, &ids, place, circuit, ids[place]))
            .collect()
    }

    fn affine(
        &self,
        affine: &Affine,
        circuit: &Circuit<Tensor>,
        node: NodeId,
    ) -> Result<i64, EvalError> {
        let mut out = affine.constant;
        for &(iv, c) in &affine.terms {
            let value = self
                .variables
                .iter()
                .rev()
                .find(|(v, _)| *v == iv)
                .map(|(_, value)| *value)
                .ok_or_else(|| malformed(circuit, node, "an index depends on no loop around"))?;
            out = c
                .checked_mul(value)
                .and_then(|t| out.checked_add(t))
                .ok_or_else(|| malformed(circuit, node, "an index leaves i64"))?;
        }
        Ok(out)
    }

    /// First indices of a block, checked against the tensor that it lies in.
    fn block(
        &self,
        starts: &[Affine],
        whole: &[usize],
        sizes: &[usize],
        circuit: &Circuit<Tensor>,
        node: NodeId,
    ) -> Result<Shape, EvalError> {
        let mut out = Shape::new();
        for (axis, start) in starts.iter().enumerate() {
            let index = self.affine(start, circuit, node)?;
            let fits = usize::try_from(index)
                .ok()
                .filter(|i| i.checked_add(sizes[axis]).is_some_and(|e| e <= whole[axis]));
            out.push(fits.ok_or_else(|| EvalError::OutOfBounds {
                span: circuit.graph.span(node),
                index,
                extent: sizes[axis],
                axis,
                shape: shape_name(whole),
            })?);
        }
        Ok(out)
    }

    /// Everything but parameters, constants, loops and projections.
    fn simple(
        &self,
        op: &TensorOp,
        values: &mut [TensorValue<A::Value>],
        same: bool,
        circuit: &Circuit<Tensor>,
        node: NodeId,
    ) -> Result<TensorValue<A::Value>, EvalError> {
        let a = self.algebra;
        let span = circuit.graph.span(node);
        let shape = Shape::from_slice(circuit.graph.ty(node).shape());
        let take = |v: &mut TensorValue<A::Value>| {
            std::mem::replace(v, TensorValue::build(Shape::from_slice(&[0]), Vec::new()))
        };
        let data = match op {
            TensorOp::Add => zip(values, |x, y| a.add(x, y)),
            TensorOp::Sub => zip(values, |x, y| a.sub(x, y)),
            TensorOp::Mul if same => values[0].data().iter().map(|x| a.square(x)).collect(),
            TensorOp::Mul => zip(values, |x, y| a.mul(x, y)),
            TensorOp::Div => {
                let quotients: Option<Vec<_>> = values[0]
                    .data()
                    .iter()
                    .zip(values[1].data())
                    .map(|(x, y)| a.div(x, y))
                    .collect();
                quotients.ok_or(EvalError::DivisionByZero { span })?
            }
            TensorOp::Neg => values[0].data().iter().map(|x| a.neg(x)).collect(),
            TensorOp::Pow(n) => values[0].data().iter().map(|x| a.pow(x, *n)).collect(),
            TensorOp::Poly(p) => {
                let images: Option<Vec<_>> =
                    values[0].data().iter().map(|x| a.poly(p, x)).collect();
                images.ok_or(EvalError::Constant { span })?
            }
            TensorOp::MatMul => matmul(a, &values[0], &values[1]),
            TensorOp::Sum(axes) => sum(a, &values[0], axes),
            TensorOp::Broadcast(to) => gather(&values[0], to, &broadcast_strides(&values[0], to)),
            TensorOp::Reshape(_) => {
                let mut value = take(&mut values[0]);
                value.shape = shape;
                return Ok(value);
            }
            TensorOp::Transpose(perm) => {
                let strides = strides(&values[0].shape);
                let along: Shape = perm.iter().map(|&p| strides[p]).collect();
                gather(&values[0], &shape, &along)
            }
            TensorOp::Slice { starts, sizes } => {
                let at = self.block(starts, &values[0].shape, sizes, circuit, node)?;
                if *sizes == values[0].shape {
                    return Ok(take(&mut values[0]));
                }
                let mut out = Vec::with_capacity(elements(sizes));
                for_rows(&values[0].shape, &at, sizes, |from, _, n| {
                    out.extend_from_slice(&values[0].data[from..from + n]);
                });
                out
            }
            TensorOp::Update { starts } => {
                let block = take(&mut values[1]);
                let at = self.block(starts, &values[0].shape, &block.shape, circuit, node)?;
                let mut whole = take(&mut values[0]);
                let shape = whole.shape.clone();
                let data = Arc::make_mut(&mut whole.data);
                for_rows(&shape, &at, &block.shape, |to, from, n| {
                    data[to..to + n].clone_from_slice(&block.data[from..from + n]);
                });
                return Ok(whole);
            }
            TensorOp::Concat(axis) => {
                let outer: usize = shape[..*axis].iter().product();
                let mut out = Vec::with_capacity(elements(&shape));
                for o in 0..outer {
                    for v in values.iter() {
                        let run: usize = v.shape[*axis..].iter().product();
                        out.extend_from_slice(&v.data[o * run..(o + 1) * run]);
                    }
                }
                out
            }
            TensorOp::Pad { before, .. } => {
                let mut out = vec![a.zero(); elements(&shape)];
                for_rows(&shape, before, &values[0].shape, |to, from, n| {
                    out[to..to + n].clone_from_slice(&values[0].data[from..from + n]);
                });
                out
            }
            TensorOp::Roll(by) => {
                let by = self.affine(by, circuit, node)?;
                let mut value = take(&mut values[0]);
                if !value.data.is_empty() {
                    let k = by.rem_euclid(value.data.len() as i64) as usize;
                    if k != 0 {
                        Arc::make_mut(&mut value.data).rotate_left(k);
                    }
                }
                return Ok(value);
            }
            TensorOp::Diag => {
                let from = &values[0];
                match from.shape[..] {
                    [n] => {
                        let mut out = vec![a.zero(); n * n];
                        for i in 0..n {
                            out[i * n + i] = from.data[i].clone();
                        }
                        out
                    }
                    [_, n] => (0..shape[0])
                        .map(|i| from.data[i * n + i].clone())
                        .collect(),
                    _ => return Err(malformed(circuit, node, "is neither vector nor matrix")),
                }
            }
            TensorOp::Conv2d { stride } => conv2d(a, &values[0], &values[1], *stride, &shape),
            TensorOp::SumPool(n) => sum_pool(a, &values[0], *n, &shape),
            TensorOp::Input(_)
            | TensorOp::Const(_)
            | TensorOp::Index(_)
            | TensorOp::Loop { .. }
            | TensorOp::Proj(_) => return Err(malformed(circuit, node, "is handled elsewhere")),
        };
        if data.len() != elements(&shape) {
            return Err(malformed(circuit, node, "its type is not its value's"));
        }
        Ok(TensorValue::build(shape, data))
    }
}

fn malformed(circuit: &Circuit<Tensor>, node: NodeId, reason: &str) -> EvalError {
    EvalError::Malformed {
        span: circuit.graph.span(node),
        reason: format!("{node}: {reason}"),
    }
}

/// An operand; the last user gets it for its own.
fn take<V: Clone>(
    slots: &mut [Slot<V>],
    left: &mut [u32],
    operands: &[NodeId],
    place: usize,
    circuit: &Circuit<Tensor>,
    node: NodeId,
) -> Result<TensorValue<V>, EvalError> {
    let i = operands[place].index();
    left[i] -= 1;
    match &mut slots[i] {
        Slot::Tensor(value) if left[i] > 0 => Ok(value.clone()),
        slot @ Slot::Tensor(_) => match std::mem::replace(slot, Slot::Free) {
            Slot::Tensor(value) => Ok(value),
            Slot::Tuple(_) | Slot::Free => unreachable!("just seen"),
        },
        Slot::Tuple(_) | Slot::Free => Err(malformed(circuit, node, "an operand is no tensor")),
    }
}

fn zip<V>(values: &[TensorValue<V>], f: impl Fn(&V, &V) -> V) -> Vec<V> {
    let (x, y) = (values[0].data(), values[1].data());
    x.iter().zip(y).map(|(x, y)| f(x, y)).collect()
}

fn strides(shape: &[usize]) -> Shape {
    let mut out = Shape::from_elem(1, shape.len());
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1] * shape[i + 1];
    }
    out
}

fn broadcast_strides<V>(value: &TensorValue<V>, to: &[usize]) -> Shape {
    let own = strides(&value.shape);
    let lead = to.len() - value.shape.len();
    (0..to.len())
        .map(|i| {
            if i < lead || value.shape[i - lead] == 1 {
                0
            } else {
                own[i - lead]
            }
        })
        .collect()
}

/// All elements of `shape` in row-major order, each read at Σ index · stride.
fn gather<V: Clone>(value: &TensorValue<V>, shape: &[usize], along: &[usize]) -> Vec<V> {
    let n = elements(shape);
    let mut out = Vec::with_capacity(n);
    if n == 0 {
        return out;
    }
    let Some((&inner, outer)) = shape.split_last() else {
        return vec![value.data[0].clone()];
    };
    let step = along[outer.len()];
    let mut index = Shape::from_elem(0, outer.len());
    let mut base = 0;
    loop {
        if step == 1 {
            out.extend_from_slice(&value.data[base..base + inner]);
        } else {
            out.extend((0..inner).map(|i| value.data[base + i * step].clone()));
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            index[axis] += 1;
            base += along[axis];
            if index[axis] < outer[axis] {
                break;
            }
            base -= along[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

/// For each row of a block: where it starts in the whole, where in the block, and how long it is.
fn for_rows(
    whole: &[usize],
    at: &[usize],
    block: &[usize],
    mut f: impl FnMut(usize, usize, usize),
) {
    let n = elements(block);
    if n == 0 {
        return;
    }
    let Some((&inner, outer)) = block.split_last() else {
        f(0, 0, 1);
        return;
    };
    let along = strides(whole);
    let mut base: usize = at.iter().zip(&along).map(|(i, s)| i * s).sum();
    let mut index = Shape::from_elem(0, outer.len());
    let mut in_block = 0;
    loop {
        f(base, in_block, inner);
        in_block += inner;
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            base += along[axis];
            if index[axis] < outer[axis] {
                break;
            }
            base -= along[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

fn matmul<A: Algebra>(
    a: &A,
    x: &TensorValue<A::Value>,
    y: &TensorValue<A::Value>,
) -> Vec<A::Value> {
    let inner = *x.shape.last().unwrap_or(&1);
    let rows = if x.shape.len() == 2 { x.shape[0] } else { 1 };
    let columns = if y.shape.len() == 2 { y.shape[1] } else { 1 };
    let mut out = vec![a.zero(); rows * columns];
    for i in 0..rows {
        let row = &x.data[i * inner..(i + 1) * inner];
        if columns == 1 {
            let acc = &mut out[i];
            for (p, q) in row.iter().zip(y.data()) {
                a.mul_add(acc, p, q);
            }
            continue;
        }
        let accs = &mut out[i * columns..(i + 1) * columns];
        for (k, p) in row.iter().enumerate() {
            let line = &y.data[k * columns..(k + 1) * columns];
            for (acc, q) in accs.iter_mut().zip(line) {
                a.mul_add(acc, p, q);
            }
        }
    }
    out
}

fn sum<A: Algebra>(a: &A, x: &TensorValue<A::Value>, axes: &[usize]) -> Vec<A::Value> {
    // Result stride of each axis of the operand: 0 along the axes that vanish.
    let kept: Shape = (0..x.shape.len())
        .filter(|i| !axes.contains(i))
        .map(|i| x.shape[i])
        .collect();
    let kept_strides = strides(&kept);
    let mut place = 0;
    let to: Shape = (0..x.shape.len())
        .map(|i| {
            if axes.contains(&i) {
                0
            } else {
                place += 1;
                kept_strides[place - 1]
            }
        })
        .collect();
    let mut out = vec![a.zero(); elements(&kept)];
    if x.data.is_empty() {
        return out;
    }
    let Some((&inner, outer)) = x.shape.split_last() else {
        return x.data.to_vec();
    };
    let step = to[outer.len()];
    let mut index = Shape::from_elem(0, outer.len());
    let mut base = 0;
    for row in x.data.chunks_exact(inner) {
        if step == 0 {
            let acc = &mut out[base];
            for v in row {
                *acc = a.add(acc, v);
            }
        } else {
            for (i, v) in row.iter().enumerate() {
                let acc = &mut out[base + i * step];
                *acc = a.add(acc, v);
            }
        }
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            base += to[axis];
            if index[axis] < outer[axis] {
                break;
            }
            base -= to[axis] * outer[axis];
            index[axis] = 0;
        }
    }
    out
}

fn conv2d<A: Algebra>(
    a: &A,
    image: &TensorValue<A::Value>,
    kernel: &TensorValue<A::Value>,
    stride: usize,
    out_shape: &[usize],
) -> Vec<A::Value> {
    let (channels, height, width) = (image.shape[0], image.shape[1], image.shape[2]);
    let (kh, kw) = (kernel.shape[2], kernel.shape[3]);
    let (filters, oh, ow) = (out_shape[0], out_shape[1], out_shape[2]);
    let mut out = vec![a.zero(); filters * oh * ow];
    for f in 0..filters {
        for c in 0..channels {
            for ky in 0..kh {
                for kx in 0..kw {
                    let w = &kernel.data[((f * channels + c) * kh + ky) * kw + kx];
                    for y in 0..oh {
                        let row = (c * height + y * stride + ky) * width + kx;
                        let accs = &mut out[(f * oh + y) * ow..(f * oh + y + 1) * ow];
                        let from = image.data[row..].iter().step_by(stride);
                        for (acc, v) in accs.iter_mut().zip(from) {
                            a.mul_add(acc, w, v);
                        }
                    }
                }
            }
        }
    }
    out
}

fn sum_pool<A: Algebra>(
    a: &A,
    x: &TensorValue<A::Value>,
    n: usize,
    out_shape: &[usize],
) -> Vec<A::Value> {
    let rank = x.shape.len();
    let (height, width) = (x.shape[rank - 2], x.shape[rank - 1]);
    let (oh, ow) = (out_shape[rank - 2], out_shape[rank - 1]);
    let planes: usize = x.shape[..rank - 2].iter().product();
    let mut out = vec![a.zero(); elements(out_shape)];
    for p in 0..planes {
        for y in 0..oh * n {
            for c in 0..ow * n {
                let acc = &mut out[(p * oh + y / n) * ow + c / n];
                *acc = a.add(acc, &x.data[(p * height + y) * width + c]);
            }
        }
    }
    out
}

/// Values out of a vector, in row-major order of a shape, without a copy where it is the only holder.
impl<V: Clone> From<TensorValue<V>> for Vec<V> {
    fn from(value: TensorValue<V>) -> Vec<V> {
        value.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::F61;
    use crate::tensor::{ConstTensor, Param, ResultDecl, Secrecy, TensorMeta, Unroll};
    use smallvec::smallvec;

    fn param(name: &str, shape: &[usize]) -> Param {
        Param {
            name: name.to_owned(),
            secrecy: Secrecy::Secret,
            shape: Shape::from_slice(shape),
            range: None,
            span: Span::default(),
        }
    }

    fn decl(name: &str) -> ResultDecl {
        ResultDecl {
            name: name.to_owned(),
            range: None,
            span: Span::default(),
        }
    }

    fn value(shape: &[usize], data: &[f64]) -> TensorValue<f64> {
        TensorValue::new(Shape::from_slice(shape), data.to_vec()).expect("as many as elements")
    }

    /// One operation on inputs of the shapes given.
    fn one(op: TensorOp, inputs: &[TensorValue<f64>]) -> TensorValue<f64> {
        let mut c: Circuit<Tensor> = Circuit::new("one");
        c.inputs = inputs.iter().map(|v| param("x", v.shape())).collect();
        let ids: Vec<NodeId> = (0..inputs.len())
            .map(|i| {
                c.push(TensorOp::Input(i as u32), &[], Span::default())
                    .expect("an input")
            })
            .collect();
        let out = c.push(op, &ids, Span::default()).expect("well typed");
        c.outputs.push((out, decl("y")));
        eval_circuit(&Clear, &c, inputs)
            .expect("evaluates")
            .remove(0)
    }

    fn ramp(shape: &[usize]) -> TensorValue<f64> {
        let n = elements(shape);
        value(shape, &(0..n).map(|i| i as f64 + 1.0).collect::<Vec<_>>())
    }

    #[test]
    fn shapes_move() {
        let m = ramp(&[2, 3]);
        let t = one(
            TensorOp::Transpose(smallvec![1, 0]),
            std::slice::from_ref(&m),
        );
        assert_eq!(t.data(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let b = one(TensorOp::Broadcast(smallvec![2, 2, 3]), &[ramp(&[2, 1])]);
        assert_eq!(
            b.data(),
            [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        );
        let b = one(TensorOp::Broadcast(smallvec![2]), &[ramp(&[])]);
        assert_eq!(b.data(), [1.0, 1.0]);
        let s = one(
            TensorOp::Slice {
                starts: vec![Affine::constant(1), Affine::constant(0)],
                sizes: smallvec![1, 2],
            },
            std::slice::from_ref(&m),
        );
        assert_eq!(s.data(), [4.0, 5.0]);
        let u = one(
            TensorOp::Update {
                starts: vec![Affine::constant(0), Affine::constant(1)],
            },
            &[m.clone(), value(&[2, 1], &[-1.0, -2.0])],
        );
        assert_eq!(u.data(), [1.0, -1.0, 3.0, 4.0, -2.0, 6.0]);
        let c = one(
            TensorOp::Concat(1),
            &[m.clone(), value(&[2, 1], &[8.0, 9.0])],
        );
        assert_eq!(c.data(), [1.0, 2.0, 3.0, 8.0, 4.0, 5.0, 6.0, 9.0]);
        let p = one(
            TensorOp::Pad {
                before: smallvec![1, 0],
                after: smallvec![0, 1],
            },
            &[ramp(&[1, 2])],
        );
        assert_eq!(
            (p.shape(), p.data()),
            (&[2, 3][..], &[0.0, 0.0, 0.0, 1.0, 2.0, 0.0][..])
        );
        let r = one(TensorOp::Roll(Affine::constant(-1)), &[ramp(&[3])]);
        assert_eq!(r.data(), [3.0, 1.0, 2.0]);
        let d = one(TensorOp::Diag, &[ramp(&[2])]);
        assert_eq!(d.data(), [1.0, 0.0, 0.0, 2.0]);
        let d = one(TensorOp::Diag, &[m]);
        assert_eq!(d.data(), [1.0, 5.0]);
    }

    #[test]
    fn reductions_match_naive_loops() {
        let m = ramp(&[2, 3, 4]);
        for axes in [&[][..], &[0], &[1], &[2], &[0, 2], &[0, 1, 2]] {
            let s = one(TensorOp::Sum(axes.into()), std::slice::from_ref(&m));
            let mut expected = vec![0.0; s.data().len()];
            for i in 0..2 {
                for j in 0..3 {
                    for k in 0..4 {
                        let index = [i, j, k];
                        let mut at = 0;
                        for (axis, i) in index.into_iter().enumerate() {
                            if !axes.contains(&axis) {
                                at = at * m.shape()[axis] + i;
                            }
                        }
                        expected[at] += m.data()[(i * 3 + j) * 4 + k];
                    }
                }
            }
            assert_eq!(s.data(), expected, "axes {axes:?}");
        }
        let (x, y) = (ramp(&[2, 3]), ramp(&[3, 2]));
        let p = one(TensorOp::MatMul, &[x.clone(), y]);
        assert_eq!(p.data(), [22.0, 28.0, 49.0, 64.0]);
        let p = one(TensorOp::MatMul, &[x.clone(), ramp(&[3])]);
        assert_eq!(p.data(), [14.0, 32.0]);
        let p = one(TensorOp::MatMul, &[ramp(&[2]), x]);
        assert_eq!(p.data(), [9.0, 12.0, 15.0]);
        let p = one(TensorOp::MatMul, &[ramp(&[3]), ramp(&[3])]);
        assert_eq!((p.shape(), p.data()), (&[][..], &[14.0][..]));

        let (image, kernel) = (ramp(&[2, 5, 6]), ramp(&[3, 2, 2, 3]));
        for stride in [1, 2] {
            let out = one(
                TensorOp::Conv2d { stride },
                &[image.clone(), kernel.clone()],
            );
            let (oh, ow) = (out.shape()[1], out.shape()[2]);
            for f in 0..3 {
                for y in 0..oh {
                    for x in 0..ow {
                        let mut expected = 0.0;
                        for c in 0..2 {
                            for ky in 0..2 {
                                for kx in 0..3 {
                                    expected += image.data()
                                        [(c * 5 + y * stride + ky) * 6 + x * stride + kx]
                                        * kernel.data()[((f * 2 + c) * 2 + ky) * 3 + kx];
                                }
                            }
                        }
                        assert_eq!(out.data()[(f * oh + y) * ow + x], expected);
                    }
                }
            }
        }
        let pooled = one(TensorOp::SumPool(2), &[ramp(&[3, 5])]);
        assert_eq!(
            (pooled.shape(), pooled.data()),
            (&[1, 2][..], &[16.0, 24.0][..])
        );
        let empty = one(TensorOp::Sum(smallvec![0]), &[ramp(&[0, 2])]);
        assert_eq!(empty.data(), [0.0, 0.0]);
    }

    /// var x = x0; for i in 2..2+n { x[i-2] = i * x[i-2] }, and a running sum of the old elements.
    fn loop_module(n: usize) -> Module<Tensor> {
        let s = Span::default();
        let iv = IvId(0);
        let mut body: Circuit<Tensor> = Circuit::new("body");
        body.inputs = vec![param("x", &[n]), param("acc", &[])];
        let x = body.push(TensorOp::Input(0), &[], s).expect("typed");
        let acc = body.push(TensorOp::Input(1), &[], s).expect("typed");
        let at = vec![Affine {
            constant: -2,
            terms: smallvec![(iv, 1)],
        }];
        let slice = TensorOp::Slice {
            starts: at.clone(),
            sizes: smallvec![1],
        };
        let old = body.push(slice, &[x], s).expect("typed");
        let old0 = body
            .push(TensorOp::Reshape(smallvec![]), &[old], s)
            .expect("typed");
        let i = body
            .push(TensorOp::Index(Affine::variable(iv)), &[], s)
            .expect("typed");
        let new = body.push(TensorOp::Mul, &[i, old0], s).expect("typed");
        let new = body
            .push(TensorOp::Reshape(smallvec![1]), &[new], s)
            .expect("typed");
        let x = body
            .push(TensorOp::Update { starts: at }, &[x, new], s)
            .expect("typed");
        let acc = body.push(TensorOp::Add, &[acc, old0], s).expect("typed");
        body.outputs = vec![(x, decl("x")), (acc, decl("acc"))];

        let mut main: Circuit<Tensor> = Circuit::new("main");
        main.meta = TensorMeta::default();
        main.inputs = vec![param("x", &[n])];
        let x = main.push(TensorOp::Input(0), &[], s).expect("typed");
        let zero = main
            .push(TensorOp::Const(ConstTensor::scalar(0.0)), &[], s)
            .expect("typed");
        let l = main
            .push(
                TensorOp::Loop {
                    body: CircuitId(0),
                    iv,
                    first: 2,
                    trips: n as u64,
                    carried: vec![smallvec![n], smallvec![]],
                    unroll: Unroll::Auto,
                    pipeline: true,
                },
                &[x, zero],
                s,
            )
            .expect("typed");
        let x = main.push(TensorOp::Proj(0), &[l], s).expect("typed");
        let acc = main.push(TensorOp::Proj(1), &[l], s).expect("typed");
        main.outputs = vec![(x, decl("x")), (acc, decl("acc"))];
        Module {
            circuits: vec![body, main],
            entry: CircuitId(1),
        }
    }

    #[test]
    fn loops_run_and_update_in_place() {
        let n = 20_000; // at O(n²) this would copy 3 GB
        let module = loop_module(n);
        let out = eval_module(&Clear, &module, &[value(&[n], &vec![1.0; n])]).expect("evaluates");
        assert!(
            out[0]
                .data()
                .iter()
                .enumerate()
                .all(|(i, &v)| v == i as f64 + 2.0)
        );
        assert_eq!(out[1].data(), [n as f64]);
    }

    #[test]
    fn ranges_are_checked() {
        let mut module = loop_module(4);
        module.circuits[0]
            .graph
            .declare(NodeId(5), Interval::new(-3.0, 3.0));
        module.circuits[1].outputs[1].1.range = Some(Interval::new(0.0, 2.0));
        let (_, found) =
            check_ranges(&module, &[value(&[4], &[1.0, 1.0, 1.5, 1.0])], 1e-9).expect("evaluates");
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!((found[0].name.as_deref(), found[0].element), (Some("x"), 2));
        assert_eq!(found[1].value, 6.0);
        assert_eq!(found[1].variables, [(IvId(0), 4)]);
        assert_eq!(found[2].value, 4.5);
    }

    #[test]
    fn errors_have_a_place() {
        let mut c: Circuit<Tensor> = Circuit::new("div");
        c.inputs = vec![param("x", &[]), param("y", &[])];
        let span = Span::new(crate::span::FileId(0), 4, 9);
        let x = c.push(TensorOp::Input(0), &[], span).expect("typed");
        let y = c.push(TensorOp::Input(1), &[], span).expect("typed");
        let q = c.push(TensorOp::Div, &[x, y], span).expect("typed");
        c.outputs.push((q, decl("q")));
        let inputs = [TensorValue::scalar(1.0), TensorValue::scalar(0.0)];
        let error = eval_circuit(&Clear, &c, &inputs).expect_err("divides by zero");
        assert_eq!(error, EvalError::DivisionByZero { span });
        let field = inputs.map(|v| v.map(|x| F61.lift(*x).expect("finite")));
        assert!(eval_circuit(&F61, &c, &field).is_err());
        assert!(matches!(
            eval_circuit(&Clear, &c, &[]),
            Err(EvalError::Inputs(_))
        ));

        let mut module = loop_module(3);
        let TensorOp::Loop { .. } = module.circuits[1].graph.op(NodeId(2)) else {
            panic!("the loop moved");
        };
        module.circuits[1] = {
            let mut m = loop_module(5).circuits.remove(1);
            m.inputs[0].shape = smallvec![3];
            let mut g = crate::graph::Graph::default();
            for id in m.graph.ids() {
                let mut node = m.graph.node(id).clone();
                if let TensorOp::Loop { carried, .. } = &mut node.op {
                    carried[0] = smallvec![3];
                }
                g.push_node(node, &m.graph.operands(id));
            }
            m.graph = g;
            m
        };
        let error = eval_module(&Clear, &module, &[value(&[3], &[1.0; 3])]);
        assert!(
            matches!(error, Err(EvalError::OutOfBounds { index: 3, .. })),
            "{error:?}"
        );
    }
}
