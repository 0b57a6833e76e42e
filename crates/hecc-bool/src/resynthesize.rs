//! Depth of large circuits, cut by cut: a node is the polynomial of at most six others, and the deepest of its
//! monomials, leaves weighted by their own depth, says how deep it has to be.
//!
//! As in depth-optimal mapping (Cong and Ding, FlowMap, 1994) a first sweep finds the least depth of every
//! node over all its cuts, and a second one, from the outputs, takes for each needed node the cheapest way
//! that is still in time.

use crate::balance::{conjunction, grow};
use crate::network::{Lit, Network, Node};
use crate::simulate::variable;

/// Most leaves of a cut: its table fits in a word.
const LEAVES: usize = 6;
/// Most cuts kept for a node.
const CUTS: usize = 10;

/// Nodes that another one is a function of.
#[derive(Clone, PartialEq)]
struct Cut {
    /// In ascending order.
    leaves: Vec<u32>,
    /// The truth table; the first leaf is the fastest variable.
    table: u64,
}

/// How a node is made.
#[derive(Clone, Copy)]
enum Way {
    Gate,
    Cut(usize),
}

/// The same circuit at less depth, if cuts of six leaves show one; ANDs off the critical paths stay.
pub(crate) fn resynthesize(network: &Network) -> Network {
    let nodes = network.nodes();
    let live = network.live();
    let mut cuts: Vec<Vec<Cut>> = Vec::with_capacity(nodes.len());
    let mut arrival = vec![0u32; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let trivial = Cut {
            leaves: vec![i as u32],
            table: variable(0, 0),
        };
        let (a, b, and) = match *node {
            Node::Zero | Node::Input(_) => {
                cuts.push(vec![trivial]);
                continue;
            }
            _ if !live[i] => {
                cuts.push(Vec::new());
                continue;
            }
            Node::And(a, b) => (a, b, true),
            Node::Xor(a, b) => (a, b, false),
        };
        let mut found: Vec<(u32, usize, Cut)> = Vec::new();
        for x in &cuts[a.node()] {
            for y in &cuts[b.node()] {
                let Some(cut) = merge((x, a), (y, b), and) else {
                    continue;
                };
                if found.iter().any(|(.., c)| c.leaves == cut.leaves) {
                    continue;
                }
                let depth = deepest(polynomial(&cut), &leaves_at(&cut, &arrival));
                found.push((depth, cut.leaves.len(), cut));
            }
        }
        found.sort_by(|a, b| (a.0, a.1, &a.2.leaves).cmp(&(b.0, b.1, &b.2.leaves)));
        found.truncate(CUTS);
        let gate = arrival[a.node()].max(arrival[b.node()]) + u32::from(and);
        arrival[i] = found.first().map_or(gate, |(d, ..)| gate.min(*d));
        let mut kept: Vec<Cut> = found.into_iter().map(|(.., c)| c).collect();
        kept.push(trivial);
        cuts.push(kept);
    }

    let needed = network.outputs.iter().map(|(_, l)| arrival[l.node()]).max();
    let needed = needed.unwrap_or(0);
    let mut required: Vec<Option<u32>> = vec![None; nodes.len()];
    for (_, l) in &network.outputs {
        required[l.node()] = Some(needed);
    }
    let mut ways: Vec<Option<Way>> = vec![None; nodes.len()];
    for i in (0..nodes.len()).rev() {
        let Some(by) = required[i] else {
            continue;
        };
        let mut want = |n: usize, by: u32| {
            required[n] = Some(required[n].map_or(by, |r| r.min(by)));
        };
        let (a, b, and) = match nodes[i] {
            Node::Zero | Node::Input(_) => continue,
            Node::And(a, b) => (a, b, true),
            Node::Xor(a, b) => (a, b, false),
        };
        let gate = arrival[a.node()].max(arrival[b.node()]) + u32::from(and);
        if gate <= by {
            ways[i] = Some(Way::Gate);
            for l in [a, b] {
                want(l.node(), by - u32::from(and));
            }
            continue;
        }
        let cheapest = cuts[i]
            .iter()
            .enumerate()
            .filter(|(_, c)| c.leaves != [i as u32])
            .filter_map(|(at, c)| {
                let f = polynomial(c);
                let times = leaves_at(c, &arrival);
                let depth = deepest(f, &times);
                let slack = by.checked_sub(depth)?;
                let times: Vec<u32> = times.iter().map(|t| t + slack).collect();
                Some((factored(f, &times, by).ands, at, depth))
            })
            .min();
        // The sweep before found one.
        let Some((_, at, depth)) = cheapest else {
            continue;
        };
        ways[i] = Some(Way::Cut(at));
        for &leaf in &cuts[i][at].leaves {
            want(leaf as usize, arrival[leaf as usize] + (by - depth));
        }
    }

    let mut out = Network::new(network.inputs.clone(), true);
    let mut depth: Vec<u32> = Vec::new();
    let mut at = vec![Lit::FALSE; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let of = |at: &[Lit], l: Lit| at[l.node()].invert_if(l.inverted());
        at[i] = match (*node, ways[i]) {
            (Node::Input(k), _) => out.input(k as usize),
            (Node::And(a, b), Some(Way::Gate)) => {
                let (a, b) = (of(&at, a), of(&at, b));
                out.and(a, b)
            }
            (Node::Xor(a, b), Some(Way::Gate)) => {
                let (a, b) = (of(&at, a), of(&at, b));
                out.xor(a, b)
            }
            (_, Some(Way::Cut(which))) => {
                let cut = &cuts[i][which];
                let leaves: Vec<Lit> = cut.leaves.iter().map(|l| at[*l as usize]).collect();
                let times: Vec<u32> = leaves.iter().map(|l| depth[l.node()]).collect();
                let by = required[i].unwrap_or(needed);
                factored(polynomial(cut), &times, by).build(&mut out, &mut depth, &leaves)
            }
            (Node::Zero | Node::And(..) | Node::Xor(..), None | Some(Way::Gate)) => Lit::FALSE,
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

/// The cut of a gate by the leaves of cuts of both operands.
fn merge((x, a): (&Cut, Lit), (y, b): (&Cut, Lit), and: bool) -> Option<Cut> {
    let mut leaves: Vec<u32> = x.leaves.iter().chain(&y.leaves).copied().collect();
    leaves.sort_unstable();
    leaves.dedup();
    if leaves.len() > LEAVES {
        return None;
    }
    let part = |cut: &Cut, l: Lit| {
        let t = widen(cut, &leaves);
        if l.inverted() { !t } else { t }
    };
    let (p, q) = (part(x, a), part(y, b));
    let table = if and { p & q } else { p ^ q };
    Some(Cut { leaves, table })
}

/// A table in more variables.
fn widen(cut: &Cut, leaves: &[u32]) -> u64 {
    if cut.leaves == leaves {
        return cut.table;
    }
    let places: Vec<usize> = cut
        .leaves
        .iter()
        .map(|l| leaves.iter().position(|k| k == l).unwrap_or(0))
        .collect();
    let mut table = 0;
    for x in 0..64u32 {
        let y = places
            .iter()
            .enumerate()
            .fold(0, |y, (i, at)| y | (x >> at & 1) << i);
        table |= (cut.table >> y & 1) << x;
    }
    table
}

/// The algebraic normal form: bit m for the monomial m.
fn polynomial(cut: &Cut) -> u64 {
    let mut f = cut.table;
    for (step, mask) in [
        (1, 0x5555_5555_5555_5555u64),
        (2, 0x3333_3333_3333_3333),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (8, 0x00ff_00ff_00ff_00ff),
        (16, 0x0000_ffff_0000_ffff),
        (32, 0x0000_0000_ffff_ffff),
    ] {
        f ^= (f & mask) << step;
    }
    f & if cut.leaves.len() == LEAVES {
        u64::MAX
    } else {
        (1 << (1 << cut.leaves.len())) - 1
    }
}

fn leaves_at(cut: &Cut, arrival: &[u32]) -> Vec<u32> {
    cut.leaves.iter().map(|l| arrival[*l as usize]).collect()
}

/// The least depth of the deepest monomial: ⌈log2 Σ 2^depth⌉ over its leaves.
fn deepest(f: u64, times: &[u32]) -> u32 {
    monomials(f)
        .map(|m| {
            tree(
                (0..times.len())
                    .filter(|k| m >> k & 1 == 1)
                    .map(|k| times[k]),
            )
        })
        .max()
        .unwrap_or(0)
}

fn monomials(mut f: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let m = (f != 0).then(|| f.trailing_zeros())?;
        f &= f - 1;
        Some(m)
    })
}

/// A polynomial as v·q + r, a leaf v taken out where that leaves enough time; by monomials where nothing can be.
struct Factored {
    form: Form,
    ands: u32,
}

enum Form {
    Monomials(u64),
    Product(usize, Box<Factored>, Box<Factored>),
}

/// Leaves that come late are taken out first, so that they pass few ANDs and only one here.
fn factored(f: u64, times: &[u32], by: u32) -> Factored {
    let flat = Factored {
        form: Form::Monomials(f),
        ands: monomials(f).map(|m| m.count_ones().saturating_sub(1)).sum(),
    };
    if flat.ands == 0 || by == 0 {
        return flat;
    }
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|&k| std::cmp::Reverse(times[k]));
    for v in order {
        let (mut with, mut without) = (0u64, 0u64);
        for m in monomials(f) {
            if m >> v & 1 == 1 {
                with |= 1 << (m & !(1 << v));
            } else {
                without |= 1 << m;
            }
        }
        if with & !1 == 0 || times[v] >= by || deepest(with, times) >= by {
            continue;
        }
        let q = factored(with, times, by - 1);
        let r = factored(without, times, by);
        let ands = 1 + q.ands + r.ands;
        if ands <= flat.ands {
            return Factored {
                form: Form::Product(v, Box::new(q), Box::new(r)),
                ands,
            };
        }
    }
    flat
}

impl Factored {
    fn build(&self, out: &mut Network, depth: &mut Vec<u32>, leaves: &[Lit]) -> Lit {
        match &self.form {
            Form::Monomials(f) => {
                let mut sum = Lit::FALSE;
                for m in monomials(*f) {
                    let factors = (0..leaves.len())
                        .filter(|k| m >> k & 1 == 1)
                        .map(|k| leaves[k])
                        .collect();
                    let product = conjunction(out, depth, factors);
                    sum = out.xor(sum, product);
                }
                grow(out, depth);
                sum
            }
            Form::Product(v, q, r) => {
                let q = q.build(out, depth, leaves);
                let r = r.build(out, depth, leaves);
                let product = out.and(leaves[*v], q);
                let sum = out.xor(product, r);
                grow(out, depth);
                sum
            }
        }
    }
}

/// The depth of an AND of operands with these depths.
fn tree(depths: impl Iterator<Item = u32>) -> u32 {
    let mut sorted: [u32; LEAVES] = [0; LEAVES];
    let mut count = 0;
    for d in depths {
        sorted[count] = d;
        count += 1;
    }
    let left = &mut sorted[..count];
    left.sort_unstable();
    // Σ 2^d, rounded up at each step to what the next operand can tell.
    let Some((&first, others)) = left.split_first() else {
        return 0;
    };
    let (mut unit, mut sum) = (first, 1u64);
    for &d in others {
        let shift = (d - unit).min(63);
        sum = sum.div_ceil(1 << shift) + 1;
        unit = d;
    }
    unit + match sum {
        1 => 0,
        n => (n - 1).ilog2() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_of_trees() {
        assert_eq!(tree([0, 0, 0, 0].into_iter()), 2);
        assert_eq!(tree([3, 0, 0].into_iter()), 4);
        assert_eq!(tree([3, 2, 2].into_iter()), 4);
        assert_eq!(tree([3, 3, 0].into_iter()), 5);
        assert_eq!(tree([5].into_iter()), 5);
        assert_eq!(tree([].into_iter()), 0);
    }
}
