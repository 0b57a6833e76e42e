//! Equations as ABC writes them: `INORDER = a b; OUTORDER = y; y = a * !b + c;`, also with `^` for XOR.

use std::fmt::Write as _;

use super::{Definition, FormatError, assemble, error, shown};
use crate::network::{Lit, Network, Node};

/// How deep parentheses and inversions may nest.
const NESTING: usize = 2000;

/// A product, sum or name, in the order of evaluation: a stack machine's program.
#[derive(Clone, Copy)]
enum Step {
    Need(usize),
    Zero,
    One,
    Not,
    And,
    Or,
    Xor,
}

/// Reads equations; gates are as written, operators of one kind from left to right.
///
/// # Errors
/// [`FormatError`] with the line.
pub fn read(text: &str) -> Result<Network, FormatError> {
    let mut inputs = None;
    let mut outputs = None;
    let mut definitions = Vec::new();
    let mut tokens = Tokens::of(text)?;
    while let Some((name, line)) = tokens.next() {
        if !is_name(name) {
            return error(
                line,
                format!("`{}` stands where a name has to", shown(name)),
            );
        }
        tokens.expect("=")?;
        if name == "INORDER" || name == "OUTORDER" {
            let mut names = Vec::new();
            while let Some((t, line)) = tokens.next() {
                match t {
                    ";" => break,
                    t if is_name(t) => names.push(t.to_owned()),
                    t => return error(line, format!("`{}` is no name", shown(t))),
                }
            }
            if name == "INORDER" {
                inputs = Some(names);
            } else {
                outputs = Some(names);
            }
            continue;
        }
        let mut parser = Parser {
            tokens: &mut tokens,
            needs: Vec::new(),
            steps: Vec::new(),
        };
        parser.sum(0)?;
        let (needs, steps) = (parser.needs, parser.steps);
        tokens.expect(";")?;
        definitions.push(Definition {
            line,
            name: name.to_owned(),
            needs,
            body: steps,
        });
    }
    let Some(inputs) = inputs else {
        return error(0, "there is no INORDER: write `INORDER = a b c;` first");
    };
    let Some(outputs) = outputs else {
        return error(
            0,
            "there is no OUTORDER: write `OUTORDER = y;` after the inputs",
        );
    };
    assemble(inputs, outputs, definitions, |network, d, needs| {
        let mut stack: Vec<Lit> = Vec::new();
        for step in &d.body {
            let lit = match *step {
                Step::Need(i) => needs[i],
                Step::Zero => Lit::FALSE,
                Step::One => Lit::TRUE,
                Step::Not => !stack.pop().unwrap_or(Lit::FALSE),
                Step::And | Step::Or | Step::Xor => {
                    let b = stack.pop().unwrap_or(Lit::FALSE);
                    let a = stack.pop().unwrap_or(Lit::FALSE);
                    match step {
                        Step::And => network.and(a, b),
                        Step::Or => network.or(a, b),
                        _ => network.xor(a, b),
                    }
                }
            };
            stack.push(lit);
        }
        Ok(stack.pop().unwrap_or(Lit::FALSE))
    })
}

/// Writes equations, a line for each gate.
pub fn write(network: &Network) -> String {
    let network = &super::with_plain_names(network);
    let names = super::blif::signal_names(network);
    let of = |l: Lit| match (l.node(), l.inverted()) {
        (0, false) => "0".to_owned(),
        (0, true) => "1".to_owned(),
        (n, false) => names[n].clone(),
        (n, true) => format!("!{}", names[n]),
    };
    let mut out = format!("INORDER = {};\n", network.inputs.join(" "));
    let outputs: Vec<&str> = network.outputs.iter().map(|(n, _)| n.as_str()).collect();
    let _ = writeln!(out, "OUTORDER = {};", outputs.join(" "));
    let live = network.live();
    for (i, node) in network.nodes().iter().enumerate() {
        let _ = match *node {
            Node::And(a, b) if live[i] => writeln!(out, "{} = {} * {};", names[i], of(a), of(b)),
            Node::Xor(a, b) if live[i] => writeln!(out, "{} = {} ^ {};", names[i], of(a), of(b)),
            Node::Zero | Node::Input(_) | Node::And(..) | Node::Xor(..) => Ok(()),
        };
    }
    for (name, l) in &network.outputs {
        if network.inputs.contains(name) {
            continue;
        }
        let _ = writeln!(out, "{name} = {};", of(*l));
    }
    out
}

fn is_name(token: &str) -> bool {
    !token.is_empty() && !token.chars().all(|c| "=;()*+!^".contains(c))
}

struct Tokens<'a> {
    all: Vec<(&'a str, usize)>,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Result<Tokens<'a>, FormatError> {
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut start = None;
            for (i, c) in line.char_indices() {
                let special = "=;()*+!^&|~'".contains(c);
                if special || c.is_whitespace() {
                    if let Some(s) = start.take() {
                        all.push((&line[s..i], number + 1));
                    }
                    match c {
                        '&' | '|' | '~' | '\'' => {
                            return error(
                                number + 1,
                                format!("`{c}` is no operator here: they are * + ^ and !"),
                            );
                        }
                        _ if special => all.push((&line[i..i + 1], number + 1)),
                        _ => {}
                    }
                } else if start.is_none() {
                    start = Some(i);
                }
            }
            if let Some(s) = start {
                all.push((&line[s..], number + 1));
            }
        }
        Ok(Tokens { all, at: 0 })
    }

    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.at).map(|(t, _)| *t)
    }

    fn line(&self) -> usize {
        let last = self.all.len().saturating_sub(1);
        self.all.get(self.at.min(last)).map_or(0, |(_, l)| *l)
    }

    fn next(&mut self) -> Option<(&'a str, usize)> {
        let found = self.all.get(self.at).copied();
        self.at += 1;
        found
    }

    fn expect(&mut self, wanted: &str) -> Result<(), FormatError> {
        let line = self.line();
        match self.next() {
            Some((t, _)) if t == wanted => Ok(()),
            Some((t, _)) => error(
                line,
                format!("`{}` stands where `{wanted}` has to", shown(t)),
            ),
            None => error(line, format!("the text ends where `{wanted}` has to stand")),
        }
    }
}

/// Loosest first: sums (`+`), then `^`, then products.
struct Parser<'p, 'a> {
    tokens: &'p mut Tokens<'a>,
    needs: Vec<String>,
    steps: Vec<Step>,
}

impl Parser<'_, '_> {
    fn sum(&mut self, nesting: usize) -> Result<(), FormatError> {
        self.either(nesting)?;
        while self.tokens.peek() == Some("+") {
            self.tokens.next();
            self.either(nesting)?;
            self.steps.push(Step::Or);
        }
        Ok(())
    }

    fn either(&mut self, nesting: usize) -> Result<(), FormatError> {
        self.product(nesting)?;
        while self.tokens.peek() == Some("^") {
            self.tokens.next();
            self.product(nesting)?;
            self.steps.push(Step::Xor);
        }
        Ok(())
    }

    fn product(&mut self, nesting: usize) -> Result<(), FormatError> {
        self.factor(nesting)?;
        while self.tokens.peek() == Some("*") {
            self.tokens.next();
            self.factor(nesting)?;
            self.steps.push(Step::And);
        }
        Ok(())
    }

    fn factor(&mut self, nesting: usize) -> Result<(), FormatError> {
        let mut inverted = false;
        while self.tokens.peek() == Some("!") {
            self.tokens.next();
            inverted = !inverted;
        }
        let line = self.tokens.line();
        match self.tokens.next() {
            Some(("(", _)) if nesting >= NESTING => {
                return error(line, format!("parentheses nest deeper than {NESTING}"));
            }
            Some(("(", _)) => {
                self.sum(nesting + 1)?;
                self.tokens.expect(")")?;
            }
            Some(("0", _)) => self.steps.push(Step::Zero),
            Some(("1", _)) => self.steps.push(Step::One),
            Some((t, _)) if is_name(t) => {
                self.steps.push(Step::Need(self.needs.len()));
                self.needs.push(t.to_owned());
            }
            Some((t, _)) => {
                return error(line, format!("`{}` stands where a value has to", shown(t)));
            }
            None => return error(line, "the text ends within an equation"),
        }
        if inverted {
            self.steps.push(Step::Not);
        }
        Ok(())
    }
}
