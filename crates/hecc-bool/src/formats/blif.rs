//! The Berkeley logic interchange format: one combinational model of `.names`.

use std::fmt::Write as _;

use rustc_hash::FxHashSet;

use super::{Definition, FormatError, assemble, error, shown};
use crate::network::{Lit, Network, Node};

/// The cover of a signal: rows of literals, and whether they say where it is 1.
struct Cover {
    rows: Vec<Vec<(usize, bool)>>,
    on: bool,
}

/// Reads a model; the products and the sum of a cover are balanced trees, since a cover has no order, and a cover
/// of two inputs that differ is a XOR.
///
/// # Errors
/// [`FormatError`] with the line.
pub fn read(text: &str) -> Result<Network, FormatError> {
    let mut inputs: Vec<String> = Vec::new();
    let mut outputs: Vec<String> = Vec::new();
    let mut definitions: Vec<Definition<Cover>> = Vec::new();
    let mut open = false;
    let mut models = 0;
    for (line, words) in lines(text) {
        let Some(first) = words.first() else {
            continue;
        };
        let names = || words[1..].iter().map(|w| (*w).to_owned());
        match *first {
            ".model" => {
                models += 1;
                if models > 1 {
                    return error(
                        line,
                        "there is more than one model: flatten the hierarchy first",
                    );
                }
            }
            ".inputs" => inputs.extend(names()),
            ".outputs" => outputs.extend(names()),
            ".names" => {
                let mut needs: Vec<String> = names().collect();
                let Some(name) = needs.pop() else {
                    return error(line, ".names takes the names of its inputs and its output");
                };
                definitions.push(Definition {
                    line,
                    name,
                    needs,
                    body: Cover {
                        rows: Vec::new(),
                        on: true,
                    },
                });
                open = true;
                continue;
            }
            ".end" => break,
            ".default_input_arrival" | ".area" | ".delay" | ".wire_load_slope" => {}
            ".latch" => {
                return error(
                    line,
                    "there is a latch: only combinational circuits are read",
                );
            }
            word if word.starts_with('.') => {
                return error(
                    line,
                    format!(
                        "{} has no counterpart: write the circuit as .names",
                        shown(word)
                    ),
                );
            }
            _ => {
                let Some(d) = definitions.last_mut().filter(|_| open) else {
                    return error(line, format!("`{}` belongs to no .names", shown(first)));
                };
                row(line, &words, d)?;
                continue;
            }
        }
        open = false;
    }
    assemble(inputs, outputs, definitions, |network, d, needs| {
        if let Some(lit) = exclusive(network, &d.body, needs) {
            return Ok(lit);
        }
        let products = d
            .body
            .rows
            .iter()
            .map(|row| {
                let factors = row.iter().map(|&(i, on)| needs[i].invert_if(!on)).collect();
                tree(network, factors, Network::and, Lit::TRUE)
            })
            .collect::<Vec<_>>();
        let sum = tree(network, products, Network::or, Lit::FALSE);
        Ok(sum.invert_if(!d.body.on))
    })
}

/// Writes a model, `.names` for each gate.
pub fn write(network: &Network) -> String {
    let network = &super::with_plain_names(network);
    let names = signal_names(network);
    let mut out = String::from(".model circuit\n");
    let _ = writeln!(out, ".inputs {}", network.inputs.join(" "));
    let outputs: Vec<&str> = network.outputs.iter().map(|(n, _)| n.as_str()).collect();
    let _ = writeln!(out, ".outputs {}", outputs.join(" "));
    let live = network.live();
    let bit = |on: bool| if on { '1' } else { '0' };
    for (i, node) in network.nodes().iter().enumerate() {
        match *node {
            Node::Zero if live[i] => {
                let _ = writeln!(out, ".names {}", names[i]);
            }
            Node::And(a, b) if live[i] => {
                let _ = writeln!(
                    out,
                    ".names {} {} {}\n{}{} 1",
                    names[a.node()],
                    names[b.node()],
                    names[i],
                    bit(!a.inverted()),
                    bit(!b.inverted())
                );
            }
            Node::Xor(a, b) if live[i] => {
                let odd = a.inverted() != b.inverted();
                let rows = if odd { "00 1\n11 1" } else { "01 1\n10 1" };
                let _ = writeln!(
                    out,
                    ".names {} {} {}\n{rows}",
                    names[a.node()],
                    names[b.node()],
                    names[i]
                );
            }
            Node::Zero | Node::Input(_) | Node::And(..) | Node::Xor(..) => {}
        }
    }
    for (name, l) in &network.outputs {
        if network.inputs.contains(name) {
            continue;
        }
        let _ = writeln!(
            out,
            ".names {} {name}\n{} 1",
            names[l.node()],
            bit(!l.inverted())
        );
    }
    out.push_str(".end\n");
    out
}

/// Names for all nodes that no input or output has.
pub(super) fn signal_names(network: &Network) -> Vec<String> {
    let taken: FxHashSet<&str> = network
        .inputs
        .iter()
        .chain(network.outputs.iter().map(|(n, _)| n))
        .map(String::as_str)
        .collect();
    let mut prefix = "n".to_owned();
    while taken.iter().any(|t| {
        t.strip_prefix(&prefix)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
    }) {
        prefix.push('_');
    }
    network
        .nodes()
        .iter()
        .enumerate()
        .map(|(i, node)| match node {
            Node::Input(k) => network.inputs[*k as usize].clone(),
            Node::Zero | Node::And(..) | Node::Xor(..) => format!("{prefix}{i}"),
        })
        .collect()
}

fn row(line: usize, words: &[&str], d: &mut Definition<Cover>) -> Result<(), FormatError> {
    let (plane, value) = match (words, d.needs.len()) {
        ([value], 0) => ("", *value),
        ([plane, value], n) if plane.len() == n => (*plane, *value),
        _ => {
            return error(
                line,
                format!(
                    "a row of `{}` has {} characters and a value",
                    shown(&d.name),
                    d.needs.len()
                ),
            );
        }
    };
    let on = match value {
        "1" => true,
        "0" => false,
        other => return error(line, format!("`{}` is neither 0 nor 1", shown(other))),
    };
    if !d.body.rows.is_empty() && d.body.on != on {
        return error(line, "rows of one cover have different values");
    }
    d.body.on = on;
    let mut literals = Vec::new();
    for (i, c) in plane.chars().enumerate() {
        match c {
            '1' => literals.push((i, true)),
            '0' => literals.push((i, false)),
            '-' => {}
            other => return error(line, format!("`{other}` is none of 0, 1 and -")),
        }
    }
    d.body.rows.push(literals);
    Ok(())
}

/// A cover of two inputs that says where they differ, or agree, is a XOR.
fn exclusive(network: &mut Network, cover: &Cover, needs: &[Lit]) -> Option<Lit> {
    let [first, second] = cover.rows.as_slice() else {
        return None;
    };
    let (&[(0, a), (1, b)], &[(0, c), (1, d)]) = (first.as_slice(), second.as_slice()) else {
        return None;
    };
    let whole = needs.len() == 2 && a != c && b != d;
    whole.then(|| {
        network
            .xor(needs[0], needs[1])
            .invert_if((a == b) == cover.on)
    })
}

fn tree(
    network: &mut Network,
    mut of: Vec<Lit>,
    join: fn(&mut Network, Lit, Lit) -> Lit,
    none: Lit,
) -> Lit {
    if of.is_empty() {
        return none;
    }
    while of.len() > 1 {
        of = of
            .chunks(2)
            .map(|pair| match *pair {
                [a, b] => join(network, a, b),
                _ => pair[0],
            })
            .collect();
    }
    of[0]
}

/// Words of each line; `\` at the end joins the next one, `#` starts a comment.
fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let mut all = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (number, mut line) = all.next()?;
        let mut words = Vec::new();
        loop {
            let plain = line.split('#').next().unwrap_or_default().trim_end();
            let (part, more) = match plain.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (plain, false),
            };
            words.extend(part.split_whitespace());
            match more.then(|| all.next()).flatten() {
                Some((_, next)) => line = next,
                None => return Some((number + 1, words)),
            }
        }
    })
}
