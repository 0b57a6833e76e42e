//! Text and binary forms of combinational circuits.

pub mod aiger;
pub mod blif;
pub mod eqn;

use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

use crate::network::{Lit, MAX_NODES, Network};

/// Most bytes of a file.
pub const MAX_BYTES: usize = 256 << 20;

/// Why a text is no combinational circuit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct FormatError {
    /// From 1; 0 where there are no lines.
    pub line: usize,
    /// What is wrong, and the way out.
    pub what: String,
}

pub(crate) fn error<T>(line: usize, what: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError {
        line,
        what: what.into(),
    })
}

/// A name in a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(60).filter(|c| !c.is_control()).collect()
}

pub(crate) fn room(network: &Network, line: usize) -> Result<(), FormatError> {
    if network.nodes().len() > MAX_NODES {
        return error(line, format!("there are more than {MAX_NODES} gates"));
    }
    Ok(())
}

/// A signal that a file defines: what it needs, and how it is made of that.
pub(crate) struct Definition<B> {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) needs: Vec<String>,
    pub(crate) body: B,
}

/// Makes the outputs of a circuit from definitions in any order.
pub(crate) fn assemble<B>(
    inputs: Vec<String>,
    outputs: Vec<String>,
    definitions: Vec<Definition<B>>,
    build: impl Fn(&mut Network, &Definition<B>, &[Lit]) -> Result<Lit, FormatError>,
) -> Result<Network, FormatError> {
    let mut lits: FxHashMap<String, Lit> = FxHashMap::default();
    let mut network = Network::new(inputs.clone(), false);
    for (i, name) in inputs.into_iter().enumerate() {
        if lits.insert(name.clone(), network.input(i)).is_some() {
            return error(0, format!("the input `{}` is there twice", shown(&name)));
        }
    }
    let mut by_name: FxHashMap<&str, usize> = FxHashMap::default();
    for (at, d) in definitions.iter().enumerate() {
        if lits.contains_key(&d.name) || by_name.insert(&d.name, at).is_some() {
            return error(d.line, format!("`{}` is defined twice", shown(&d.name)));
        }
    }
    // Depth first: a signal after all that it needs. 1 is being made, 2 is made.
    let mut state = vec![0u8; definitions.len()];
    for start in 0..definitions.len() {
        let mut open = vec![start];
        while let Some(&at) = open.last() {
            let d = &definitions[at];
            if state[at] == 2 {
                open.pop();
                continue;
            }
            let first = state[at] == 0;
            state[at] = 1;
            let before = open.len();
            for need in &d.needs {
                if lits.contains_key(need) {
                    continue;
                }
                match by_name.get(need.as_str()) {
                    None => {
                        return error(
                            d.line,
                            format!("`{}` is neither an input nor defined", shown(need)),
                        );
                    }
                    Some(&other) if first && state[other] == 0 => open.push(other),
                    Some(_) => {
                        return error(
                            d.line,
                            format!(
                                "`{}` needs `{}`, which needs it: the circuit has a cycle",
                                shown(&d.name),
                                shown(need)
                            ),
                        );
                    }
                }
            }
            if open.len() > before {
                continue;
            }
            let needs: Vec<Lit> = d
                .needs
                .iter()
                .map(|n| lits.get(n).copied().unwrap_or(Lit::FALSE))
                .collect();
            let lit = build(&mut network, d, &needs)?;
            room(&network, d.line)?;
            lits.insert(d.name.clone(), lit);
            state[at] = 2;
            open.pop();
        }
    }
    if outputs.is_empty() {
        return error(0, "there are no outputs");
    }
    for name in outputs {
        match lits.get(&name) {
            Some(&lit) => network.outputs.push((name, lit)),
            None => return error(0, format!("the output `{}` is not defined", shown(&name))),
        }
    }
    Ok(network)
}

/// The same circuit with names that are words in every format.
pub(crate) fn with_plain_names(network: &Network) -> Network {
    let mut out = network.clone();
    let mut taken: FxHashSet<String> = FxHashSet::default();
    let mut plain = |name: &str, letter: char| {
        let mut word: String = name
            .chars()
            .map(|c| match c {
                c if c.is_whitespace() || c.is_control() => '_',
                '=' | ';' | '(' | ')' | '*' | '+' | '!' | '^' | '#' | '&' | '|' | '~' | '\''
                | '\\' => '_',
                c => c,
            })
            .collect();
        if word.is_empty() || word == "0" || word == "1" || word.starts_with('.') {
            word.insert(0, letter);
        }
        while !taken.insert(word.clone()) {
            word.push('_');
        }
        word
    };
    let before = out.inputs.clone();
    for name in &mut out.inputs {
        *name = plain(name, 'i');
    }
    for (name, lit) in &mut out.outputs {
        // An input that is an output as well has one name.
        let same = (1..=before.len()).contains(&lit.node())
            && !lit.inverted()
            && before[lit.node() - 1] == *name;
        *name = if same {
            out.inputs[lit.node() - 1].clone()
        } else {
            plain(name, 'o')
        };
    }
    out
}
