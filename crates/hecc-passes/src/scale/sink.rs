//! Rescaling after a weighted sum instead of before it.
//!
//! Σ cᵢ · rescale(xᵢ) = rescale(Σ cᵢ · xᵢ). Where the xᵢ are products that are not relinearized, and
//! there are fewer sums than products (a dense layer on squares), the right side is cheaper: one
//! rescale of two polynomials for each sum in place of one of three for each product. It is also much
//! more precise: the rounding of the quadratic part, which the square of the secret enlarges (see
//! [`hecc_params::noise::rescale`]), falls away, for the sum is relinearized first. Levels stay as they
//! are; the sum and its key switch have one limb more.

use std::collections::BTreeMap;

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Builder, Circuit, NodeId, Operands};
use hecc_params::Level;

/// Moves rescales of products below the weighted sums of them, on the levels where there are no more
/// sums than products.
pub(crate) fn sink_rescales(circuit: Circuit<Ckks>) -> Circuit<Ckks> {
    let changed = sums_to_change(&circuit);
    if !changed.contains(&true) {
        return circuit;
    }
    let graph = &circuit.graph;
    // A changed sum reads the products themselves.
    let operands_of = |id: NodeId| -> Operands {
        let operands = graph.operands(id);
        if changed[id.index()] {
            operands.iter().map(|r| graph.operands(*r)[0]).collect()
        } else {
            operands
        }
    };
    let mut live = vec![false; graph.len()];
    for (id, ()) in &circuit.outputs {
        live[id.index()] = true;
    }
    for id in graph.ids().rev() {
        if live[id.index()] {
            for o in operands_of(id) {
                live[o.index()] = true;
            }
        }
    }
    let mut builder: Builder<Ckks> = Builder::new(
        circuit.name.clone(),
        circuit.inputs.clone(),
        circuit.meta.clone(),
    );
    let mut of = vec![NodeId(u32::MAX); graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let operands: Operands = operands_of(id).iter().map(|o| of[o.index()]).collect();
        let linear =
            matches!(node.op, CkksOp::Relinearize) && degree(builder.graph().ty(operands[0])) == 1;
        // The laws that made the old node well-typed make the new one so.
        let mut push = |op: CkksOp, operands: &[NodeId]| {
            builder
                .push(op, operands, node.span)
                .unwrap_or_else(|e| panic!("sinking a rescale built an ill-typed node: {e}"))
        };
        let new = if changed[id.index()] {
            let sum = push(node.op.clone(), &operands);
            let linear = push(CkksOp::Relinearize, &[sum]);
            let rescale = graph.op(graph.operands(id)[0]).clone();
            push(rescale, &[linear])
        } else if linear {
            operands[0]
        } else {
            push(node.op.clone(), &operands)
        };
        builder.inherit(new, node);
        of[id.index()] = new;
    }
    for (id, ()) in &circuit.outputs {
        builder.output(of[id.index()], ());
    }
    builder.finish()
}

fn degree(ty: &CkksType) -> u8 {
    match ty {
        CkksType::Cipher { degree, .. } => *degree,
        CkksType::Plain { .. } => 0,
    }
}

/// By node: whether it is a weighted sum whose operands' rescales are to come after it.
fn sums_to_change(circuit: &Circuit<Ckks>) -> Vec<bool> {
    let graph = &circuit.graph;
    // Rescales of products that nothing but such sums uses.
    let mut movable: Vec<bool> = graph
        .ids()
        .map(|id| {
            let node = graph.node(id);
            matches!(node.op, CkksOp::Rescale { .. })
                && degree(&node.ty) == 2
                && node.declared.is_none()
                && !node.keep
        })
        .collect();
    for (id, ()) in &circuit.outputs {
        movable[id.index()] = false;
    }
    let sum = |id: NodeId, movable: &[bool]| {
        matches!(graph.op(id), CkksOp::LinComb { .. })
            && graph.operands(id).iter().all(|o| movable[o.index()])
    };
    // A sum that also reads something else holds its products back, and with them other sums.
    let live = circuit.live();
    loop {
        let mut held = false;
        for id in graph.ids().filter(|id| live[id.index()]) {
            if sum(id, &movable) {
                continue;
            }
            for o in graph.operands(id) {
                held |= std::mem::replace(&mut movable[o.index()], false);
            }
        }
        if !held {
            break;
        }
    }
    let mut counts: BTreeMap<Level, (usize, usize)> = BTreeMap::new();
    for id in graph.ids().filter(|id| live[id.index()]) {
        let level = graph.ty(id).level();
        if movable[id.index()] {
            counts.entry(level).or_default().0 += 1;
        } else if sum(id, &movable) {
            counts.entry(level).or_default().1 += 1;
        }
    }
    graph
        .ids()
        .map(|id| {
            live[id.index()]
                && sum(id, &movable)
                && counts
                    .get(&graph.ty(id).level())
                    .is_some_and(|(products, sums)| sums <= products)
        })
        .collect()
}
