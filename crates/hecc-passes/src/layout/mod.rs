//! Layout: how tensors lie in vectors of slots. Lowers `Circuit<Tensor>` to `Circuit<Slots>`.
//!
//! What is public is split off first ([`public`]). Two layouts are known: one element per
//! ciphertext ([`elements`]) and dense vectors. Each yields a whole
//! circuit; [`lower`] takes the better one by estimated levels, then by estimated cost.
//! What they write is plain and is then made tidy ([`tidy`]).
//!
//! Assumption: the circuit is flat (no loops, constant indices) and passed the verifier.

mod elements;
mod emit;
mod expand;
mod public;
mod tidy;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::Circuit;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Tensor, TensorOp};

pub use tidy::tidy;

/// Which layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The better one by levels, then by cost.
    #[default]
    Auto,
    /// One element per ciphertext.
    Elements,
}

/// How to lay out a circuit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayoutOptions {
    /// Which layout.
    pub strategy: Strategy,
}

/// Lowers a flat circuit to vectors of slots. With `@batch` every scalar is a ciphertext of its own.
///
/// # Errors
/// * E3200 when the circuit has a loop or an index that is not a constant: unroll it first.
/// * E3201 for a division by a public value whose range holds zero.
pub fn lower(
    circuit: &Circuit<Tensor>,
    options: &LayoutOptions,
) -> Result<Circuit<Slots>, Diagnostic> {
    check_flat(circuit)?;
    let public = public::PublicPart::new(circuit)?;
    match options.strategy {
        Strategy::Auto | Strategy::Elements => Ok(tidy(&elements::lower(circuit, public)?)),
    }
}

fn check_flat(circuit: &Circuit<Tensor>) -> Result<(), Diagnostic> {
    for id in circuit.graph.ids() {
        let node = circuit.graph.node(id);
        let loose = match &node.op {
            TensorOp::Loop { .. } | TensorOp::Proj(_) => true,
            TensorOp::Index(a) | TensorOp::Roll(a) => a.as_constant().is_none(),
            TensorOp::Slice { starts, .. } | TensorOp::Update { starts } => {
                starts.iter().any(|a| a.as_constant().is_none())
            }
            TensorOp::Input(_)
            | TensorOp::Const(_)
            | TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Mul
            | TensorOp::Div
            | TensorOp::Neg
            | TensorOp::Pow(_)
            | TensorOp::Poly(_)
            | TensorOp::MatMul
            | TensorOp::Sum(_)
            | TensorOp::Broadcast(_)
            | TensorOp::Reshape(_)
            | TensorOp::Transpose(_)
            | TensorOp::Concat(_)
            | TensorOp::Pad { .. }
            | TensorOp::Diag
            | TensorOp::Conv2d { .. }
            | TensorOp::SumPool(_) => false,
        };
        if loose {
            return Err(Diagnostic::error(
                "E3200",
                node.span,
                "a loop reached the layout",
                "this depends on a loop that is still there",
            )
            .with_help("unroll all loops before the layout is chosen"));
        }
    }
    Ok(())
}

/// `x`, `x[3]`, `x[1, 2]`.
fn label(name: &str, at: &[usize]) -> String {
    if at.is_empty() {
        return name.to_owned();
    }
    let at: Vec<String> = at.iter().map(ToString::to_string).collect();
    format!("{name}[{}]", at.join(", "))
}

#[cfg(test)]
mod tests;
