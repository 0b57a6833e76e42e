//! What can go wrong while a circuit runs.

use hecc_ir::graph::NodeId;
use hecc_ir::interp::EvalError;
use hecc_ir::span::Span;
use thiserror::Error;

/// Why a circuit could not be run. Nothing here panics on data from outside.
#[derive(Clone, Debug, Error)]
pub enum RuntimeError {
    /// The engine refused an operation.
    #[error("{op} {node}: {source}")]
    Engine {
        /// Which node.
        node: NodeId,
        /// Its operation.
        op: &'static str,
        /// Where it comes from.
        span: Span,
        /// Why.
        source: hecc_ckks::Error,
    },
    /// The engine refused to encode, encrypt or decrypt.
    #[error("{what}: {source}")]
    Edge {
        /// What was done.
        what: String,
        /// Why.
        source: hecc_ckks::Error,
    },
    /// The public part of the program has no value on these inputs.
    #[error("the part of the program on public values: {0}")]
    Public(EvalError),
    /// The program as written has no value on these inputs.
    #[error("the program in the clear: {0}")]
    Reference(EvalError),
    /// The program and what it is run with do not belong together.
    #[error("{0}")]
    Mismatch(String),
}

impl RuntimeError {
    /// Where in the source, if the error has a place.
    pub fn span(&self) -> Option<Span> {
        match self {
            RuntimeError::Engine { span, .. } => Some(*span),
            RuntimeError::Public(e) | RuntimeError::Reference(e) => e.span(),
            RuntimeError::Edge { .. } | RuntimeError::Mismatch(_) => None,
        }
    }
}
