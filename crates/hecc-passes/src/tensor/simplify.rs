//! Algebraic simplification, sharing and dead code.
//!
//! **What.** Rebuilds the live part of the program with the simplifying builder: neutral elements,
//! exact folding of constants, public factors gathered, signs moved outward, slices of what was
//! written resolved, equal nodes shared. A value that was written element by element and is then
//! used as a whole becomes one assembly of its elements.
//!
//! **Why.** Every other pass sees one form of a thing, and public arithmetic is free.
//!
//! **Cost.** Near linear.

use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Shape, Tensor, TensorOp};
use rustc_hash::FxHashMap;

use super::build::{Build, Simplify, sweep};

/// One sweep.
pub fn simplify(circuit: &Circuit<Tensor>, how: Simplify) -> Circuit<Tensor> {
    // So that a value that is used whole after each of many writes is not assembled each time.
    let mut budget = 4 * circuit.graph.len() + 64;
    let whole = used_whole(circuit);
    let mut made: FxHashMap<NodeId, NodeId> = FxHashMap::default();
    sweep(circuit, how, |build, id, node, operands| {
        let mut new = build.push(node.op.clone(), operands, node.span);
        if whole[id.index()] {
            if let Some(&known) = made.get(&new) {
                new = known;
            } else if let Some(value) = assemble(build, new, &mut budget, node.span) {
                made.insert(new, value);
                new = value;
            }
        }
        new
    })
}

/// Updates whose result is used other than by a further update or a slice.
fn used_whole(circuit: &Circuit<Tensor>) -> Vec<bool> {
    let mut out = vec![false; circuit.graph.len()];
    let live = circuit.live();
    let is_update = |id: NodeId| matches!(circuit.graph.op(id), TensorOp::Update { .. });
    for id in circuit.graph.ids() {
        if !live[id.index()] {
            continue;
        }
        for (place, o) in circuit.graph.operands(id).iter().enumerate() {
            let partial = match circuit.graph.op(id) {
                TensorOp::Update { .. } => place == 0,
                TensorOp::Slice { .. } => true,
                _ => false,
            };
            out[o.index()] |= !partial && is_update(*o);
        }
    }
    for (id, _) in &circuit.outputs {
        out[id.index()] |= is_update(*id);
    }
    out
}

/// A wholly written value as nested concatenations of what was written.
fn assemble(build: &mut Build, id: NodeId, budget: &mut usize, span: Span) -> Option<NodeId> {
    let (mut pieces, grid): (Vec<NodeId>, Shape) = build.assembled(id, *budget)?;
    *budget = budget.saturating_sub(pieces.len());
    for axis in (0..grid.len()).rev() {
        let n = grid[axis];
        if n == 1 {
            continue;
        }
        pieces = pieces
            .chunks(n)
            .map(|row| build.concat(row, axis, span))
            .collect();
    }
    pieces.first().copied()
}

/// Only what an output depends on, equal nodes shared; nothing else changes.
pub fn dead_code(circuit: &Circuit<Tensor>) -> Circuit<Tensor> {
    sweep(circuit, Simplify::Nothing, |build, _, node, operands| {
        build.push(node.op.clone(), operands, node.span)
    })
}
