//! What a back-end does: one task at a time, on values of its own kind.

use std::sync::Arc;

use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::slots::Coefficient;
use smallvec::SmallVec;

use crate::error::RuntimeError;
use crate::pack::Plains;
use crate::schedule::Task;

/// The values that a task reads, in the order of [`Task::reads`].
pub type Operands<V> = Vec<Arc<V>>;

/// Computes the tasks of a schedule. Called from several threads at once.
pub trait Backend: Sync {
    /// What a node yields.
    type Value: Send + Sync;

    /// The values of the task's [`writes`](Task::writes), in that order. An operand that nobody
    /// else needs any more is handed over as the only reference, so that it can be changed in place.
    /// `parallel` asks to spread the work inside over threads.
    ///
    /// # Errors
    /// [`RuntimeError`]; the run then stops.
    fn perform(
        &self,
        task: &Task,
        operands: Operands<Self::Value>,
        parallel: bool,
    ) -> Result<SmallVec<[Self::Value; 1]>, RuntimeError>;
}

/// The scalar that a coefficient stands for.
pub(crate) fn coefficient(value: &Coefficient, plains: &Plains) -> Result<f64, RuntimeError> {
    match value {
        Coefficient::Const(c) => Ok(c.0),
        Coefficient::Plain(id) => plains.scalar(*id),
    }
}

/// Names a node in an error of the engine.
pub(crate) fn engine_error(
    circuit: &Circuit<Ckks>,
    node: NodeId,
) -> impl Fn(hecc_ckks::Error) -> RuntimeError + '_ {
    move |source| RuntimeError::Engine {
        node,
        op: <Ckks as hecc_ir::graph::Dialect>::mnemonic(circuit.graph.op(node)),
        span: circuit.graph.span(node),
        source,
    }
}

/// An operation that a fused task was promised to be.
pub(crate) fn not_a(circuit: &Circuit<Ckks>, node: NodeId, wanted: &str) -> RuntimeError {
    let op: &CkksOp = circuit.graph.op(node);
    RuntimeError::Mismatch(format!("node {node} is {op:?} and not {wanted}"))
}
