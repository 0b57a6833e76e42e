//! Trees of ANDs rebuilt by the depth of their operands.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::network::{Lit, Network, Node};

/// The same circuit with every tree of ANDs as shallow as its operands allow: the two shallowest first, as
/// Huffman's codes are built, which is optimal for one tree (Golumbic, "Combinatorial merging", 1976).
pub(crate) fn balance(network: &Network) -> Network {
    let live = network.live();
    let nodes = network.nodes();
    let mut users = vec![0u32; nodes.len()];
    // Nodes that are used otherwise than as a plain operand of an AND.
    let mut root = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        if !live[i] {
            continue;
        }
        let (a, b, and) = match *node {
            Node::And(a, b) => (a, b, true),
            Node::Xor(a, b) => (a, b, false),
            Node::Zero | Node::Input(_) => continue,
        };
        for l in [a, b] {
            users[l.node()] += 1;
            root[l.node()] |= !and || l.inverted();
        }
    }
    for (_, l) in &network.outputs {
        root[l.node()] = true;
    }
    let mut out = Network::new(network.inputs.clone(), true);
    let mut at: Vec<Lit> = vec![Lit::FALSE; nodes.len()];
    let mut depth: Vec<u32> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let of = |at: &[Lit], l: Lit| at[l.node()].invert_if(l.inverted());
        at[i] = match *node {
            Node::Zero => Lit::FALSE,
            Node::Input(k) => out.input(k as usize),
            _ if !live[i] => Lit::FALSE,
            Node::Xor(a, b) => {
                let (a, b) = (of(&at, a), of(&at, b));
                out.xor(a, b)
            }
            // Taken up by the only AND that uses it.
            Node::And(..) if !root[i] && users[i] == 1 => Lit::FALSE,
            Node::And(a, b) => {
                let mut leaves = Vec::new();
                let mut open = vec![a, b];
                while let Some(l) = open.pop() {
                    let n = l.node();
                    match nodes[n] {
                        Node::And(c, d) if !l.inverted() && !root[n] && users[n] == 1 => {
                            open.extend([c, d]);
                        }
                        _ => leaves.push(of(&at, l)),
                    }
                }
                leaves.sort_unstable();
                leaves.dedup();
                conjunction(&mut out, &mut depth, leaves)
            }
        };
        grow(&out, &mut depth);
    }
    out.outputs = network
        .outputs
        .iter()
        .map(|(name, l)| (name.clone(), at[l.node()].invert_if(l.inverted())))
        .collect();
    out.shared()
}

/// The AND of many at the least depth.
pub(crate) fn conjunction(network: &mut Network, depth: &mut Vec<u32>, of: Vec<Lit>) -> Lit {
    grow(network, depth);
    let mut heap: BinaryHeap<Reverse<(u32, Lit)>> = of
        .into_iter()
        .map(|l| Reverse((depth[l.node()], l)))
        .collect();
    loop {
        let Some(Reverse((_, a))) = heap.pop() else {
            return Lit::TRUE;
        };
        let Some(Reverse((_, b))) = heap.pop() else {
            return a;
        };
        let both = network.and(a, b);
        grow(network, depth);
        heap.push(Reverse((depth[both.node()], both)));
    }
}

/// Brings the depths of nodes up to date with a circuit that has grown.
pub(crate) fn grow(network: &Network, depth: &mut Vec<u32>) {
    for node in &network.nodes()[depth.len()..] {
        let d = match *node {
            Node::Zero | Node::Input(_) => 0,
            Node::And(a, b) => 1 + depth[a.node()].max(depth[b.node()]),
            Node::Xor(a, b) => depth[a.node()].max(depth[b.node()]),
        };
        depth.push(d);
    }
}
