//! Rescaling after a weighted sum instead of before it.
//!
//! Σ cᵢ · rescale(relinearize(xᵢ)) = rescale(relinearize(Σ cᵢ · xᵢ)). Where there are no more sums than
//! products xᵢ (a dense layer on squares), the right side is much cheaper: one key switch and one
//! rescale for each sum in place of one for each product. Levels stay as they are; the sum has one limb and
//! one polynomial more.

use std::collections::BTreeMap;

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Builder, Circuit, Graph, NodeId, Operands};
use hecc_params::Level;

/// Moves relinearizations and rescales of products behind the weighted sums of them, on the levels where there are no more
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
            operands.iter().map(|r| product(graph, *r)).collect()
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

/// What a rescale divides, before relinearization.
fn product(graph: &Graph<Ckks>, rescale: NodeId) -> NodeId {
    let operand = graph.operands(rescale)[0];
    match graph.op(operand) {
        CkksOp::Relinearize => graph.operands(operand)[0],
        _ => operand,
    }
}

fn degree(ty: &CkksType) -> u8 {
    match ty {
        CkksType::Cipher { degree, .. } => *degree,
        CkksType::Plain { .. } => 0,
    }
}

/// By node: whether it is a weighted sum that the rescales of its operands are to follow.
fn sums_to_change(circuit: &Circuit<Ckks>) -> Vec<bool> {
    let graph = &circuit.graph;
    let uses = graph.use_counts();
    let free = |id: NodeId| {
        let node = graph.node(id);
        node.declared.is_none() && !node.keep
    };
    // Rescales of products that nothing but such sums uses.
    let mut movable: Vec<bool> = graph
        .ids()
        .map(|id| {
            if !matches!(graph.op(id), CkksOp::Rescale { .. }) || !free(id) {
                return false;
            }
            let (operand, product) = (graph.operands(id)[0], product(graph, id));
            degree(graph.ty(product)) == 2
                && (operand == product || uses[operand.index()] == 1 && free(operand))
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
