//! Evaluation of many assignments at once, 64 in a word.

use crate::network::{Network, Node};

/// Words of each input in the order of assignments of [`table`]: variable i is bit i of the assignment.
const PATTERNS: [u64; 6] = [
    0xaaaa_aaaa_aaaa_aaaa,
    0xcccc_cccc_cccc_cccc,
    0xf0f0_f0f0_f0f0_f0f0,
    0xff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000,
    0xffff_ffff_0000_0000,
];

/// One word of variable `at` in a table: the assignments 64·word and on.
pub(crate) fn variable(at: usize, word: usize) -> u64 {
    match PATTERNS.get(at) {
        Some(p) => *p,
        None if word >> (at - 6) & 1 == 1 => u64::MAX,
        None => 0,
    }
}

/// A small generator (splitmix64), so that results are the same everywhere.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Evaluates 64 assignments; `values` has a word for each node afterwards.
pub(crate) fn evaluate(network: &Network, input: impl Fn(usize) -> u64, values: &mut Vec<u64>) {
    values.clear();
    for node in network.nodes() {
        let word = |l: crate::Lit| {
            let v: u64 = values[l.node()];
            if l.inverted() { !v } else { v }
        };
        values.push(match *node {
            Node::Zero => 0,
            Node::Input(i) => input(i as usize),
            Node::And(a, b) => word(a) & word(b),
            Node::Xor(a, b) => word(a) ^ word(b),
        });
    }
}

/// The truth tables of the outputs in these inputs, all others being 0: bit x of a table is the value where
/// input `inputs[i]` is bit i of x. Up to 64 inputs are told apart; a table has 2^n bits, at least 64.
pub fn table(network: &Network, inputs: &[usize]) -> Vec<Vec<u64>> {
    let words = 1usize << inputs.len().saturating_sub(6);
    let place: Vec<Option<usize>> = (0..network.inputs.len())
        .map(|i| inputs.iter().position(|k| *k == i))
        .collect();
    let mut tables = vec![Vec::with_capacity(words); network.outputs.len()];
    let mut values = Vec::new();
    for word in 0..words {
        let input = |i: usize| place[i].map_or(0, |at| variable(at, word));
        evaluate(network, input, &mut values);
        for (table, (_, lit)) in tables.iter_mut().zip(&network.outputs) {
            let v = values[lit.node()];
            table.push(if lit.inverted() { !v } else { v });
        }
    }
    tables
}

/// Most inputs for which all assignments are tried.
const EXHAUSTIVE: usize = 16;
/// How many assignments are tried where there are more, in words of 64.
const RANDOM_WORDS: usize = 4096;

/// The first output found to differ between two circuits with the same inputs and outputs: all
/// assignments of up to 16 inputs are tried, 262,144 random ones of more.
pub fn differ(a: &Network, b: &Network) -> Option<usize> {
    if a.inputs != b.inputs || a.outputs.len() != b.outputs.len() {
        return Some(0);
    }
    let count = a.inputs.len();
    let words = if count <= EXHAUSTIVE {
        1usize << count.saturating_sub(6)
    } else {
        RANDOM_WORDS
    };
    let mut state = 0x1234_5678_9abc_def0;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for word in 0..words {
        let inputs: Vec<u64> = (0..count)
            .map(|i| {
                if count <= EXHAUSTIVE {
                    variable(i, word)
                } else {
                    // Biased as well as even bits: wide ANDs would otherwise hardly ever be 1.
                    match word % 4 {
                        0 | 1 => random(&mut state),
                        2 => random(&mut state) | random(&mut state) | random(&mut state),
                        _ => random(&mut state) & random(&mut state) & random(&mut state),
                    }
                }
            })
            .collect();
        evaluate(a, |i| inputs[i], &mut left);
        evaluate(b, |i| inputs[i], &mut right);
        for (at, ((_, x), (_, y))) in a.outputs.iter().zip(&b.outputs).enumerate() {
            let of = |values: &[u64], l: crate::Lit| {
                let v = values[l.node()];
                if l.inverted() { !v } else { v }
            };
            if of(&left, *x) != of(&right, *y) {
                return Some(at);
            }
        }
    }
    None
}
