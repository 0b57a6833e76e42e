//! Both back-ends side by side: after every node the ciphertext is decrypted and compared.

use std::sync::{Arc, Mutex, PoisonError};

use hecc_ckks::{Context, SecretKey};
use hecc_ir::ckks::{Ckks, CkksType};
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::span::Span;
use smallvec::SmallVec;

use crate::backend::{Backend, Operands, engine_error};
use crate::ckks::{CkksBackend, CkksValue, check_type, decode_values};
use crate::clear::{ClearBackend, ClearValue};
use crate::error::RuntimeError;
use crate::schedule::Task;

/// A value twice.
#[derive(Clone, Debug)]
pub struct LockstepValue {
    /// Encrypted.
    pub encrypted: Arc<CkksValue>,
    /// In the clear.
    pub clear: Arc<ClearValue>,
}

/// A node whose encrypted value is not what it ought to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Which node.
    pub node: NodeId,
    /// Its operation.
    pub op: &'static str,
    /// Where it comes from.
    pub span: Span,
    /// In which slot the difference is largest.
    pub slot: usize,
    /// The value in the clear.
    pub expected: f64,
    /// The decrypted value.
    pub found: f64,
    /// The largest difference that would have passed.
    pub bound: f64,
}

impl Divergence {
    /// The absolute difference.
    pub fn error(&self) -> f64 {
        (self.expected - self.found).abs()
    }
}

/// Which errors pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Tolerance {
    /// Of a node whose largest slot is v, an error of up to this times max(1, |v|).
    Relative(f64),
    /// Of each node, by its id, an error of up to this.
    ByNode(Vec<f64>),
}

/// Computes encrypted and in the clear, and compares. It holds the secret key: for development
/// only, never where ciphertexts of others are evaluated. Run it with
/// [`Fusion::Off`](crate::Fusion::Off), so that every node is seen.
pub struct LockstepBackend<'a> {
    circuit: &'a Circuit<Ckks>,
    encrypted: CkksBackend<'a>,
    clear: ClearBackend<'a>,
    context: Context,
    secret: &'a SecretKey,
    tolerance: Tolerance,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The divergence of the node with the least id.
    first: Option<Divergence>,
    nodes: usize,
    worst: f64,
}

impl<'a> LockstepBackend<'a> {
    /// Compares every ciphertext with its value in the clear.
    pub fn new(
        circuit: &'a Circuit<Ckks>,
        encrypted: CkksBackend<'a>,
        clear: ClearBackend<'a>,
        context: &Context,
        secret: &'a SecretKey,
        tolerance: Tolerance,
    ) -> LockstepBackend<'a> {
        LockstepBackend {
            circuit,
            encrypted,
            clear,
            context: context.clone(),
            secret,
            tolerance,
            seen: Mutex::new(Seen::default()),
        }
    }

    /// The first node, in the order of ids, that diverged; those before it, its operands included, did not.
    pub fn first_divergence(&self) -> Option<Divergence> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .first
            .clone()
    }

    /// How many ciphertexts were compared.
    pub fn compared(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .nodes
    }

    /// The largest error of any node, relative to max(1, its largest slot).
    pub fn worst_error(&self) -> f64 {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .worst
    }

    fn compare(&self, id: NodeId, value: &LockstepValue) -> Result<(), RuntimeError> {
        let CkksValue::Cipher(ciphertext) = &*value.encrypted else {
            return Ok(());
        };
        if let CkksType::Cipher { .. } = self.circuit.graph.ty(id) {
            check_type(self.circuit, id, ciphertext)?;
        }
        let found = self
            .context
            .decrypt(ciphertext, self.secret)
            .and_then(|p| decode_values(&self.context, self.circuit.meta.complex, &p))
            .map_err(engine_error(self.circuit, id))?;
        let largest = value.clear.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        let bound = match &self.tolerance {
            Tolerance::Relative(t) => t * largest,
            Tolerance::ByNode(bounds) => bounds.get(id.index()).copied().unwrap_or(0.0),
        };
        let mut worst = (0, 0.0f64);
        for (slot, (a, b)) in value.clear.iter().zip(&found).enumerate() {
            let d = (a - b).abs();
            let d = if d.is_nan() { f64::INFINITY } else { d };
            if d > worst.1 {
                worst = (slot, d);
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.nodes += 1;
        seen.worst = seen.worst.max(worst.1 / largest);
        let earlier = seen.first.as_ref().is_none_or(|d| id < d.node);
        if worst.1 > bound && earlier {
            seen.first = Some(Divergence {
                node: id,
                op: <Ckks as hecc_ir::graph::Dialect>::mnemonic(self.circuit.graph.op(id)),
                span: self.circuit.graph.span(id),
                slot: worst.0,
                expected: value.clear[worst.0],
                found: found[worst.0],
                bound,
            });
        }
        Ok(())
    }
}

impl Backend for LockstepBackend<'_> {
    type Value = LockstepValue;

    fn perform(
        &self,
        task: &Task,
        operands: Operands<LockstepValue>,
        parallel: bool,
    ) -> Result<SmallVec<[LockstepValue; 1]>, RuntimeError> {
        let clear = operands.iter().map(|v| Arc::clone(&v.clear)).collect();
        let encrypted = operands.iter().map(|v| Arc::clone(&v.encrypted)).collect();
        drop(operands);
        let clear = self.clear.perform(task, clear, parallel)?;
        let encrypted = self.encrypted.perform(task, encrypted, parallel)?;
        let values: SmallVec<[LockstepValue; 1]> = encrypted
            .into_iter()
            .zip(clear)
            .map(|(encrypted, clear)| LockstepValue {
                encrypted: Arc::new(encrypted),
                clear: Arc::new(clear),
            })
            .collect();
        for (id, value) in task.writes.iter().zip(&values) {
            self.compare(*id, value)?;
        }
        Ok(values)
    }
}
