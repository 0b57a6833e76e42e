//! AIGER, ASCII (`aag`) and binary (`aig`), combinational: <https://fmv.jku.at/aiger/FORMAT.aiger>.

use super::{FormatError, error, room, shown};
use crate::network::{Lit, MAX_NODES, Network, Node};

/// Reads either form; it is the first word that says which.
///
/// # Errors
/// [`FormatError`] with the line, 0 within the binary part.
pub fn read(bytes: &[u8]) -> Result<Network, FormatError> {
    let mut reader = Reader { bytes, line: 0 };
    let header = reader.line()?;
    let mut words = header.split(' ');
    let binary = match words.next() {
        Some("aig") => true,
        Some("aag") => false,
        _ => return error(1, "an AIGER file starts with aag or aig"),
    };
    let counts: Vec<usize> = words
        .map(|w| w.parse().ok().filter(|n| *n <= MAX_NODES))
        .collect::<Option<_>>()
        .map_or_else(
            || error(1, format!("the header is `{}`", shown(&header))),
            Ok,
        )?;
    let (most, inputs, latches, outputs, ands) = match *counts.as_slice() {
        [m, i, l, o, a, ref more @ ..] if more.iter().all(|n| *n == 0) => (m, i, l, o, a),
        [_, _, _, _, _, ..] => {
            return error(
                1,
                "the file has properties: only combinational circuits are read",
            );
        }
        _ => return error(1, format!("the header is `{}`", shown(&header))),
    };
    if latches > 0 {
        return error(1, "there are latches: only combinational circuits are read");
    }
    if inputs + ands > most || (binary && inputs + ands != most) {
        return error(1, "the header's counts do not fit together");
    }
    // Each gate and each output takes two bytes at least, so that nothing is reserved by a count alone.
    if (ands + outputs).saturating_mul(2) > bytes.len() || (!binary && inputs * 2 > bytes.len()) {
        return error(1, "the file is shorter than its header says");
    }
    let mut network = Network::new((0..inputs).map(|i| format!("i{i}")).collect(), false);
    // By variable.
    let mut lits: Vec<Option<Lit>> = vec![None; most + 1];
    lits[0] = Some(Lit::FALSE);
    let mut input_variables = Vec::with_capacity(inputs.min(bytes.len()));
    for i in 0..inputs {
        let variable = if binary {
            i + 1
        } else {
            let line = reader.numbers::<1>()?[0];
            if line % 2 == 1 || line == 0 || line / 2 > most || lits[line / 2].is_some() {
                return error(reader.line, format!("{line} cannot be an input"));
            }
            line / 2
        };
        lits[variable] = Some(network.input(i));
        input_variables.push(variable);
    }
    let mut output_literals = Vec::with_capacity(outputs);
    for _ in 0..outputs {
        output_literals.push(reader.numbers::<1>()?[0]);
    }
    let mut gates = Vec::with_capacity(ands);
    for k in 0..ands {
        gates.push(if binary {
            let lhs = 2 * (inputs + k + 1);
            let first = reader.delta()?;
            let second = reader.delta()?;
            match lhs
                .checked_sub(first)
                .and_then(|a| Some((a, a.checked_sub(second)?)))
            {
                Some((a, b)) if first > 0 => [lhs, a, b],
                _ => return error(0, format!("gate {} refers to what comes later", k + 1)),
            }
        } else {
            reader.numbers::<3>()?
        });
    }
    make(&mut network, &mut lits, &gates)?;
    for literal in output_literals {
        let lit = of(&lits, literal).map_or_else(
            || error(0, format!("the output {literal} is not defined")),
            Ok,
        )?;
        network
            .outputs
            .push((format!("o{}", network.outputs.len()), lit));
    }
    if network.outputs.is_empty() {
        return error(0, "there are no outputs");
    }
    symbols(&mut reader, &mut network)?;
    Ok(network)
}

/// Gates, which the ASCII form has in any order.
fn make(
    network: &mut Network,
    lits: &mut [Option<Lit>],
    gates: &[[usize; 3]],
) -> Result<(), FormatError> {
    let mut by_variable = vec![usize::MAX; lits.len()];
    for (k, &[lhs, ..]) in gates.iter().enumerate() {
        let variable = lhs / 2;
        if lhs % 2 == 1 || variable == 0 || variable >= lits.len() || lits[variable].is_some() {
            return error(0, format!("{lhs} cannot be a gate"));
        }
        if std::mem::replace(&mut by_variable[variable], k) != usize::MAX {
            return error(0, format!("{lhs} is defined twice"));
        }
    }
    let mut started = vec![false; gates.len()];
    for k in 0..gates.len() {
        let mut open = vec![k];
        while let Some(&at) = open.last() {
            let [lhs, a, b] = gates[at];
            if lits[lhs / 2].is_some() {
                open.pop();
                continue;
            }
            if let (Some(x), Some(y)) = (of(lits, a), of(lits, b)) {
                lits[lhs / 2] = Some(network.and(x, y));
                room(network, 0)?;
                open.pop();
                continue;
            }
            if std::mem::replace(&mut started[at], true) {
                return error(0, format!("the gate {lhs} needs itself"));
            }
            for l in [a, b] {
                if of(lits, l).is_none() {
                    match by_variable.get(l / 2) {
                        Some(&other) if other != usize::MAX && !started[other] => open.push(other),
                        Some(&other) if other != usize::MAX => {
                            return error(0, format!("the gate {lhs} needs itself"));
                        }
                        _ => return error(0, format!("{l} is not defined")),
                    }
                }
            }
        }
    }
    Ok(())
}

fn of(lits: &[Option<Lit>], literal: usize) -> Option<Lit> {
    let lit = lits.get(literal / 2).copied().flatten()?;
    Some(lit.invert_if(literal % 2 == 1))
}

/// Names of inputs and outputs, `i0 NAME`, up to a comment.
fn symbols(reader: &mut Reader<'_>, network: &mut Network) -> Result<(), FormatError> {
    while !reader.bytes.is_empty() {
        let line = reader.line()?;
        let Some((place, name)) = line.split_once(' ') else {
            break;
        };
        let mut letters = place.chars();
        let kind = letters.next();
        let Ok(at) = letters.as_str().parse::<usize>() else {
            break;
        };
        // A name is a word in the other formats.
        let name = name.replace(char::is_whitespace, "_");
        let taken = |n: &Network| match kind {
            Some('i') => n.inputs.contains(&name),
            _ => n.outputs.iter().any(|(o, _)| *o == name),
        };
        if name.is_empty() || taken(network) {
            continue;
        }
        match kind {
            Some('i') if at < network.inputs.len() => network.inputs[at] = name,
            Some('o') if at < network.outputs.len() => network.outputs[at].0 = name,
            _ => return error(reader.line, format!("there is no `{}`", shown(place))),
        }
    }
    Ok(())
}

/// Writes the ASCII form. It has no XOR: one becomes three ANDs, two of them on its path, so that what is read
/// back is deeper as written.
pub fn write(network: &Network) -> String {
    let live = network.live();
    let mut next = network.inputs.len() + 1;
    let mut literal = vec![0usize; network.nodes().len()];
    let mut gates: Vec<[usize; 3]> = Vec::new();
    for (i, node) in network.nodes().iter().enumerate() {
        let of = |literal: &[usize], l: Lit| literal[l.node()] ^ usize::from(l.inverted());
        let mut and = |a: usize, b: usize| {
            let lhs = 2 * next;
            next += 1;
            gates.push([lhs, a.max(b), a.min(b)]);
            lhs
        };
        literal[i] = match *node {
            Node::Zero => 0,
            Node::Input(k) => 2 * (k as usize + 1),
            _ if !live[i] => 0,
            Node::And(a, b) => and(of(&literal, a), of(&literal, b)),
            Node::Xor(a, b) => {
                let (a, b) = (of(&literal, a), of(&literal, b));
                let neither = and(a ^ 1, b ^ 1);
                let both = and(a, b);
                and(neither ^ 1, both ^ 1)
            }
        };
    }
    let mut out = format!(
        "aag {} {} 0 {} {}\n",
        next - 1,
        network.inputs.len(),
        network.outputs.len(),
        gates.len()
    );
    for i in 0..network.inputs.len() {
        out += &format!("{}\n", 2 * (i + 1));
    }
    for (_, l) in &network.outputs {
        out += &format!("{}\n", literal[l.node()] ^ usize::from(l.inverted()));
    }
    for [lhs, a, b] in gates {
        out += &format!("{lhs} {a} {b}\n");
    }
    for (i, name) in network.inputs.iter().enumerate() {
        out += &format!("i{i} {name}\n");
    }
    for (i, (name, _)) in network.outputs.iter().enumerate() {
        out += &format!("o{i} {name}\n");
    }
    out
}

struct Reader<'a> {
    bytes: &'a [u8],
    line: usize,
}

impl Reader<'_> {
    fn line(&mut self) -> Result<String, FormatError> {
        self.line += 1;
        if self.bytes.is_empty() {
            return error(self.line, "the file ends too early");
        }
        let end = self.bytes.iter().position(|b| *b == b'\n');
        let (line, rest) = match end {
            Some(end) => (&self.bytes[..end], &self.bytes[end + 1..]),
            None => (self.bytes, &self.bytes[self.bytes.len()..]),
        };
        self.bytes = rest;
        match std::str::from_utf8(line) {
            Ok(text) => Ok(text.trim_end_matches('\r').to_owned()),
            Err(_) => error(self.line, "it is no text"),
        }
    }

    fn numbers<const N: usize>(&mut self) -> Result<[usize; N], FormatError> {
        let line = self.line()?;
        let numbers: Option<Vec<usize>> = line
            .split(' ')
            .map(|w| w.parse().ok().filter(|n| *n <= 2 * MAX_NODES + 1))
            .collect();
        numbers
            .and_then(|n| <[usize; N]>::try_from(n).ok())
            .map_or_else(
                || error(self.line, format!("`{}` is not {N} literals", shown(&line))),
                Ok,
            )
    }

    /// Seven bits a byte, low ones first.
    fn delta(&mut self) -> Result<usize, FormatError> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let Some((byte, rest)) = self.bytes.split_first() else {
                return error(0, "the file ends within a gate");
            };
            self.bytes = rest;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        error(0, "a gate's difference is too large")
    }
}
