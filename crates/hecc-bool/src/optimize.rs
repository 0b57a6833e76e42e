//! From a circuit to the best one known.

use crate::analyse::supports;
use crate::anf::{Anf, MAX_VARIABLES, least_depth};
use crate::balance::balance;
use crate::network::{Lit, Measures, Network};
use crate::resynthesize::resynthesize;
use crate::simulate::{differ, table};
use crate::synthesize::synthesize;

/// A circuit, and what each step towards it gained.
#[derive(Clone, Debug)]
pub struct Optimized {
    /// The best circuit found: of least depth, then of least depths of all outputs, then of fewest ANDs.
    pub network: Network,
    /// The steps that gained something, in order.
    pub steps: Vec<(&'static str, Measures)>,
}

/// Most rounds of balancing and cutting.
const ROUNDS: usize = 24;

/// Rebuilds a circuit at less depth. Outputs of at most 16 inputs reach ⌈log2 degree⌉ by their algebraic
/// normal form; others are balanced and rebuilt cut by cut as long as that helps. Every step is compared with
/// the circuit as it was: on all assignments of up to 16 inputs, on random ones of more.
///
/// # Errors
/// The name of a step that changed the circuit's meaning: a bug.
pub fn optimize(network: &Network) -> Result<Optimized, &'static str> {
    let mut best = network.shared();
    check(network, &best, "share")?;
    let mut steps = vec![("share", best.measures())];
    let mut accept = |best: &mut Network, next: Network, step: &'static str| {
        check(network, &next, step)?;
        let better = value(&next) < value(best);
        if better {
            steps.push((step, next.measures()));
            *best = next;
        }
        Ok::<bool, &'static str>(better)
    };
    let balanced = balance(&best);
    accept(&mut best, balanced, "balance")?;
    let by_form = normal_forms(&best);
    if let Some(next) = by_form {
        accept(&mut best, next, "normal forms")?;
    }
    let large = supports(&best).iter().any(|s| s.len() > MAX_VARIABLES);
    for _ in 0..ROUNDS {
        if !large {
            break;
        }
        let next = balance(&resynthesize(&best));
        if !accept(&mut best, next, "cuts")? {
            break;
        }
    }
    Ok(Optimized {
        network: best,
        steps,
    })
}

fn check(before: &Network, after: &Network, step: &'static str) -> Result<(), &'static str> {
    match differ(before, after) {
        None => Ok(()),
        Some(_) => Err(step),
    }
}

/// What is to be small, first things first.
fn value(network: &Network) -> (u32, u64, usize) {
    let depths = network.depths();
    let all = network
        .outputs
        .iter()
        .map(|(_, l)| u64::from(depths[l.node()]))
        .sum();
    let measures = network.measures();
    (measures.depth, all, measures.ands)
}

/// The circuit with every output of at most 16 inputs rebuilt from its polynomial, as many together as have at
/// most 16 inputs among them; none when there is no such output.
fn normal_forms(network: &Network) -> Option<Network> {
    let supports = supports(network);
    let depths = network.depths();
    // Groups of outputs, each with its inputs.
    let mut groups: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for (at, support) in supports.iter().enumerate() {
        if support.len() > MAX_VARIABLES {
            continue;
        }
        let joined = |inputs: &[usize]| {
            let mut all: Vec<usize> = inputs.iter().chain(support).copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let fits = groups
            .iter()
            .rposition(|(_, inputs)| joined(inputs).len() <= MAX_VARIABLES);
        match fits {
            Some(g) => {
                groups[g].1 = joined(&groups[g].1);
                groups[g].0.push(at);
            }
            None => groups.push((vec![at], support.clone())),
        }
    }
    if groups.is_empty() {
        return None;
    }
    let mut out = network.shared();
    for (members, inputs) in groups {
        let mut part = network.clone();
        part.outputs = members
            .iter()
            .map(|&at| network.outputs[at].clone())
            .collect();
        let part = part.shared();
        let forms: Vec<Anf> = table(&part, &inputs)
            .iter()
            .map(|t| Anf::of_table(t, inputs.len()))
            .collect();
        let leaves: Vec<Lit> = inputs.iter().map(|&i| out.input(i)).collect();
        // What is as shallow as can be stays, if all of the group is.
        let done = members.iter().zip(&forms).all(|(&at, form)| {
            depths[network.outputs[at].1.node()] == least_depth(form.degree().into())
        });
        let made = synthesize(&mut out, &leaves, &forms);
        if done {
            let mut alone = Network::new(network.inputs.clone(), true);
            let leaves: Vec<Lit> = inputs.iter().map(|&i| alone.input(i)).collect();
            let lits = synthesize(&mut alone, &leaves, &forms);
            alone.outputs = part
                .outputs
                .iter()
                .map(|(n, _)| n.clone())
                .zip(lits)
                .collect();
            if alone.measures().ands >= part.measures().ands {
                continue;
            }
        }
        for (&at, lit) in members.iter().zip(made) {
            out.outputs[at].1 = lit;
        }
    }
    Some(out.shared())
}
