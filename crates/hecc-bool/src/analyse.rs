//! What is known about the depth of each output, and what no circuit can do better.

use crate::anf::{Anf, MAX_VARIABLES, least_depth};
use crate::network::{Network, Node};
use crate::simulate::{evaluate, random, table, variable};

/// What is known about an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputAnalysis {
    /// Its name.
    pub name: String,
    /// The inputs that it depends on.
    pub inputs: usize,
    /// ANDs on its deepest path.
    pub depth: u32,
    /// An upper bound of its degree, from the circuit.
    pub formal_degree: u64,
    /// Its degree, where it has at most 16 inputs; otherwise a lower bound of it: the degree that is
    /// left when all inputs but 16 are given values.
    pub degree: u64,
    /// Whether `degree` is the degree.
    pub exact: bool,
    /// ⌈log2 degree⌉: no circuit for this output has less depth.
    pub bound: u32,
}

impl OutputAnalysis {
    /// Whether no circuit for this output has less depth.
    pub fn optimal(&self) -> bool {
        self.depth == self.bound
    }
}

/// What is known about a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// In order.
    pub outputs: Vec<OutputAnalysis>,
    /// The greatest bound of any output.
    pub bound: u32,
}

/// How many random choices of values are tried for an output of more than 16 inputs.
const RESTRICTIONS: usize = 12;

/// Finds degrees and bounds of all outputs.
pub fn analyse(network: &Network) -> Analysis {
    let depths = network.depths();
    let formal = network.formal_degrees();
    let supports = supports(network);
    let mut outputs = Vec::with_capacity(network.outputs.len());
    let mut state = 0x5eed;
    for (at, (name, lit)) in network.outputs.iter().enumerate() {
        let inputs = &supports[at];
        let exact = inputs.len() <= MAX_VARIABLES;
        let degree = if exact {
            degree(network, at, inputs)
        } else {
            let tries = RESTRICTIONS;
            (0..tries)
                .map(|_| restricted(network, at, inputs, &mut state))
                .max()
                .unwrap_or(0)
        };
        outputs.push(OutputAnalysis {
            name: name.clone(),
            inputs: inputs.len(),
            depth: depths[lit.node()],
            formal_degree: formal[lit.node()],
            degree: degree.into(),
            exact,
            bound: least_depth(degree.into()),
        });
    }
    let bound = outputs.iter().map(|o| o.bound).max().unwrap_or(0);
    Analysis { outputs, bound }
}

/// The inputs that each output depends on by the circuit's structure.
pub(crate) fn supports(network: &Network) -> Vec<Vec<usize>> {
    let nodes = network.nodes();
    let mut seen = vec![0u32; nodes.len()];
    network
        .outputs
        .iter()
        .enumerate()
        .map(|(at, (_, lit))| {
            let mark = at as u32 + 1;
            let mut inputs = Vec::new();
            let mut open = vec![lit.node()];
            while let Some(n) = open.pop() {
                if std::mem::replace(&mut seen[n], mark) == mark {
                    continue;
                }
                match nodes[n] {
                    Node::Zero => {}
                    Node::Input(k) => inputs.push(k as usize),
                    Node::And(a, b) | Node::Xor(a, b) => open.extend([a.node(), b.node()]),
                }
            }
            inputs.sort_unstable();
            inputs
        })
        .collect()
}

/// The circuit of one output alone.
fn cone(network: &Network, at: usize) -> Network {
    let mut alone = network.clone();
    alone.outputs = vec![network.outputs[at].clone()];
    alone.shared()
}

fn degree(network: &Network, at: usize, inputs: &[usize]) -> u32 {
    Anf::of_table(&table(&cone(network, at), inputs)[0], inputs.len()).degree()
}

/// The degree that is left when all but 16 inputs have random values.
fn restricted(network: &Network, at: usize, inputs: &[usize], state: &mut u64) -> u32 {
    let mut order = inputs.to_vec();
    for i in (1..order.len()).rev() {
        order.swap(i, random(state) as usize % (i + 1));
    }
    let free = &order[..MAX_VARIABLES];
    let fixed = random(state);
    let kind = random(state) % 3;
    let mut place = vec![None; network.inputs.len()];
    let mut value = vec![0; network.inputs.len()];
    for (i, &k) in free.iter().enumerate() {
        place[k] = Some(i);
    }
    for (i, &k) in order[MAX_VARIABLES..].iter().enumerate() {
        // All 0, all 1, or mixed: wide ANDs and ORs keep their degree under one of these.
        let bit = match kind {
            0 => false,
            1 => true,
            _ => fixed.rotate_left(i as u32) & 1 == 1,
        };
        value[k] = if bit { u64::MAX } else { 0 };
    }
    let alone = cone(network, at);
    let mut values = Vec::new();
    let mut table = Vec::with_capacity(1 << (MAX_VARIABLES - 6));
    for word in 0..1usize << (MAX_VARIABLES - 6) {
        let input = |k: usize| place[k].map_or(value[k], |i: usize| variable(i, word));
        evaluate(&alone, input, &mut values);
        let lit = alone.outputs[0].1;
        let v = values[lit.node()];
        table.push(if lit.inverted() { !v } else { v });
    }
    Anf::of_table(&table, MAX_VARIABLES).degree()
}
