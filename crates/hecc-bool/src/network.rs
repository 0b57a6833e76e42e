//! Circuits of AND and XOR with free inversion: XOR-AND graphs.

use rustc_hash::FxHashMap;

/// A node, or its complement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lit(u32);

impl Lit {
    /// The constant 0.
    pub const FALSE: Lit = Lit(0);
    /// The constant 1.
    pub const TRUE: Lit = Lit(1);

    /// The value of a node.
    pub(crate) fn of(node: usize) -> Lit {
        Lit((node as u32) << 1)
    }

    /// Which node.
    pub fn node(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// Whether it is the node's complement.
    pub fn inverted(self) -> bool {
        self.0 & 1 == 1
    }

    /// The complement, if so.
    #[must_use]
    pub fn invert_if(self, invert: bool) -> Lit {
        Lit(self.0 ^ u32::from(invert))
    }
}

impl std::ops::Not for Lit {
    type Output = Lit;

    fn not(self) -> Lit {
        Lit(self.0 ^ 1)
    }
}

/// A gate. Operands come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The constant 0: node 0, and no other.
    Zero,
    /// An input, by its place.
    Input(u32),
    /// Both.
    And(Lit, Lit),
    /// Either, not both.
    Xor(Lit, Lit),
}

/// Most nodes of a circuit.
pub const MAX_NODES: usize = 1 << 24;

/// A combinational circuit.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names and values of the outputs.
    pub outputs: Vec<(String, Lit)>,
    nodes: Vec<Node>,
    /// Gates by operands; none in a circuit that is kept as written.
    known: Option<FxHashMap<Node, Lit>>,
}

/// Sizes of what the outputs depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measures {
    /// Most ANDs on a path from an input to an output.
    pub depth: u32,
    /// ANDs.
    pub ands: usize,
    /// XORs.
    pub xors: usize,
}

impl Network {
    /// An empty circuit with these inputs; with `share`, equal gates are one and constants are folded.
    pub fn new(inputs: Vec<String>, share: bool) -> Network {
        let mut nodes = vec![Node::Zero];
        nodes.extend((0..inputs.len()).map(|i| Node::Input(i as u32)));
        Network {
            inputs,
            outputs: Vec::new(),
            nodes,
            known: share.then(FxHashMap::default),
        }
    }

    /// The value of an input.
    pub fn input(&self, at: usize) -> Lit {
        Lit::of(at + 1)
    }

    /// All nodes, operands first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn push(&mut self, node: Node) -> Lit {
        if let Some(known) = &self.known
            && let Some(&lit) = known.get(&node)
        {
            return lit;
        }
        let lit = Lit::of(self.nodes.len());
        self.nodes.push(node);
        if let Some(known) = &mut self.known {
            known.insert(node, lit);
        }
        lit
    }

    /// Both.
    pub fn and(&mut self, a: Lit, b: Lit) -> Lit {
        let (a, b) = (a.min(b), a.max(b));
        if self.known.is_some() {
            if a == Lit::FALSE || a == !b {
                return Lit::FALSE;
            }
            if a == Lit::TRUE || a == b {
                return b;
            }
        }
        self.push(Node::And(a, b))
    }

    /// Either or both: one AND.
    pub fn or(&mut self, a: Lit, b: Lit) -> Lit {
        !self.and(!a, !b)
    }

    /// Either, not both.
    pub fn xor(&mut self, a: Lit, b: Lit) -> Lit {
        if self.known.is_none() {
            return self.push(Node::Xor(a, b));
        }
        let invert = a.inverted() != b.inverted();
        let (a, b) = (a.invert_if(a.inverted()), b.invert_if(b.inverted()));
        let (a, b) = (a.min(b), a.max(b));
        let lit = if a == b {
            Lit::FALSE
        } else if a == Lit::FALSE {
            b
        } else {
            self.push(Node::Xor(a, b))
        };
        lit.invert_if(invert)
    }

    /// The number of ANDs on the deepest path to each node.
    pub fn depths(&self) -> Vec<u32> {
        let mut depth = vec![0u32; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            depth[i] = match *node {
                Node::Zero | Node::Input(_) => 0,
                Node::And(a, b) => 1 + depth[a.node()].max(depth[b.node()]),
                Node::Xor(a, b) => depth[a.node()].max(depth[b.node()]),
            };
        }
        depth
    }

    /// An upper bound of each node's degree as a polynomial: products add, sums take the larger.
    pub fn formal_degrees(&self) -> Vec<u64> {
        let mut degree = vec![0u64; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            degree[i] = match *node {
                Node::Zero => 0,
                Node::Input(_) => 1,
                Node::And(a, b) => degree[a.node()].saturating_add(degree[b.node()]),
                Node::Xor(a, b) => degree[a.node()].max(degree[b.node()]),
            };
        }
        degree
    }

    /// Which nodes the outputs depend on.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for (_, lit) in &self.outputs {
            live[lit.node()] = true;
        }
        for (i, node) in self.nodes.iter().enumerate().rev() {
            if live[i]
                && let Node::And(a, b) | Node::Xor(a, b) = *node
            {
                live[a.node()] = true;
                live[b.node()] = true;
            }
        }
        live
    }

    /// Depth and gates of what the outputs depend on.
    pub fn measures(&self) -> Measures {
        let depths = self.depths();
        let live = self.live();
        let count = |of: fn(&Node) -> bool| {
            let live = self.nodes.iter().zip(&live);
            live.filter(|(node, live)| **live && of(node)).count()
        };
        Measures {
            depth: self
                .outputs
                .iter()
                .map(|(_, lit)| depths[lit.node()])
                .max()
                .unwrap_or(0),
            ands: count(|n| matches!(n, Node::And(..))),
            xors: count(|n| matches!(n, Node::Xor(..))),
        }
    }

    /// The same circuit with equal gates shared, constants folded, and nothing that no output needs.
    #[must_use]
    pub fn shared(&self) -> Network {
        let live = self.live();
        let mut out = Network::new(self.inputs.clone(), true);
        let mut at = vec![Lit::FALSE; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            let of = |at: &[Lit], l: Lit| at[l.node()].invert_if(l.inverted());
            at[i] = match *node {
                Node::Zero => Lit::FALSE,
                Node::Input(k) => out.input(k as usize),
                _ if !live[i] => Lit::FALSE,
                Node::And(a, b) => {
                    let (a, b) = (of(&at, a), of(&at, b));
                    out.and(a, b)
                }
                Node::Xor(a, b) => {
                    let (a, b) = (of(&at, a), of(&at, b));
                    out.xor(a, b)
                }
            };
        }
        out.outputs = self
            .outputs
            .iter()
            .map(|(name, l)| (name.clone(), at[l.node()].invert_if(l.inverted())))
            .collect();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_shared_and_folded() {
        let mut n = Network::new(vec!["a".into(), "b".into()], true);
        let (a, b) = (n.input(0), n.input(1));
        assert_eq!(n.and(a, b), n.and(b, a));
        assert_eq!(n.and(a, !a), Lit::FALSE);
        assert_eq!(n.xor(a, !a), Lit::TRUE);
        assert_eq!(n.xor(!a, b), !n.xor(a, b));
        assert_eq!(n.or(a, Lit::TRUE), Lit::TRUE);
        let ab = n.and(a, b);
        let unused = n.and(ab, !a);
        n.outputs.push(("y".into(), ab));
        assert_ne!(unused, ab);
        assert_eq!(
            n.measures(),
            Measures {
                depth: 1,
                ands: 1,
                xors: 0
            }
        );
    }
}
