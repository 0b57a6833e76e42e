//! The text form of circuits, printed and parsed.
//!
//! ```text
//! circuit tensor "square" at 0:0:40 {
//!   param "x" secret real[3] in [-1.0, 1.0] at 0:14:20
//!   %0 = input 0 : real[3] at 0:14:20
//!   %1 = mul %0 %0 : real[3] in [0.0, 1.0] keep at 0:30:35
//!   result %1 "y"
//! }
//! ```
//!
//! Parsing what was printed gives the same circuit, spans, declared ranges and all else included;
//! printing what was parsed gives the same text, white space and commas aside. Numbers are in
//! the shortest form that reads back to the same bits. `at FILE:START:END` is a span in bytes, left
//! out where it is empty. [`canonicalize`] renumbers, so that equal graphs print equal.

use std::fmt::Write as _;

use hecc_params::{Level, RotationStep, Scale};
use smallvec::SmallVec;
use thiserror::Error;

use crate::ckks::{Ckks, CkksInput, CkksOp, CkksType};
use crate::graph::{Circuit, CircuitId, Dialect, Graph, Interval, Module, NodeId, Operands, Real};
use crate::slots::{
    Coefficient, PackedInput, PackedOutput, PlainDef, PlainId, PlainSource, SlotMap, SlotSource,
    Slots, SlotsMeta, SlotsOp, SlotsType, Unpack,
};
use crate::span::{FileId, Span};
use crate::tensor::{
    Affine, Basis, Budget, CkksOverrides, ConstTensor, IvId, Param, Polynomial, Precompute,
    ResultDecl, Secrecy, Shape, Tensor, TensorMeta, TensorOp, TensorType, Unroll, elements,
    shape_name,
};

/// Text that is no circuit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct TextError {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub message: String,
}

/// A dialect with a text form.
pub trait Text: Dialect {
    /// Its name at the head of a circuit.
    const NAME: &'static str;
    /// What follows the mnemonic, operands excluded; each item after a space.
    fn print_op(op: &Self::Op, out: &mut String);
    /// Reads what [`Text::print_op`] printed for this mnemonic.
    ///
    /// # Errors
    /// [`TextError`] where the text is something else.
    fn parse_op(mnemonic: &str, p: &mut Parser) -> Result<Self::Op, TextError>;
    /// A type.
    fn print_type(ty: &Self::Type) -> String;
    /// The shapes that a type holds, whose sizes are checked.
    fn extents(ty: &Self::Type) -> Vec<&[usize]>;
    /// One parameter, after `param`; each item after a space.
    fn print_input(input: &Self::Input, out: &mut String);
    /// Reads a parameter.
    ///
    /// # Errors
    /// [`TextError`] where the text is something else.
    fn parse_input(p: &mut Parser) -> Result<Self::Input, TextError>;
    /// One result beside its value; each item after a space.
    fn print_output(output: &Self::Output, out: &mut String);
    /// Reads a result.
    ///
    /// # Errors
    /// [`TextError`] where the text is something else.
    fn parse_output(p: &mut Parser) -> Result<Self::Output, TextError>;
    /// The lines of what else a circuit carries.
    fn print_meta(meta: &Self::Meta, out: &mut String);
    /// Reads one entry of what else a circuit carries; false when the word is none of it.
    ///
    /// # Errors
    /// [`TextError`] where the text is something else.
    fn parse_meta(word: &str, meta: &mut Self::Meta, p: &mut Parser) -> Result<bool, TextError>;
    /// Where the circuit stands.
    fn span_mut(meta: &mut Self::Meta) -> Option<&mut Span>;
}

/// The text of a circuit.
pub fn print_circuit<D: Text>(circuit: &Circuit<D>) -> String {
    let mut out = String::new();
    print_into(circuit, &mut out);
    out
}

/// The text of a module: its entry, then its circuits, bodies before their loops.
pub fn print_module<D: Text>(module: &Module<D>) -> String {
    let mut out = format!("module entry {}\n", module.entry);
    for circuit in &module.circuits {
        out.push('\n');
        print_into(circuit, &mut out);
    }
    out
}

/// Reads a circuit.
///
/// # Errors
/// [`TextError`] at the first place where the text is none.
pub fn parse_circuit<D: Text>(text: &str) -> Result<Circuit<D>, TextError> {
    let mut p = Parser::new(text)?;
    let circuit = p.circuit()?;
    p.end()?;
    Ok(circuit)
}

/// Reads a module.
///
/// # Errors
/// [`TextError`] at the first place where the text is none.
pub fn parse_module<D: Text>(text: &str) -> Result<Module<D>, TextError> {
    let mut p = Parser::new(text)?;
    p.word_is("module")?;
    p.word_is("entry")?;
    p.punct('@')?;
    let entry = CircuitId(p.number()?);
    let mut circuits = Vec::new();
    while !p.done() {
        circuits.push(p.circuit()?);
    }
    if entry.0 as usize >= circuits.len() {
        return Err(p.error(format!("there is no circuit {entry}")));
    }
    Ok(Module { circuits, entry })
}

/// [`canonicalize`] for every circuit of a module.
pub fn canonicalize_module<D: Dialect>(module: &Module<D>) -> Module<D> {
    Module {
        circuits: module.circuits.iter().map(canonicalize).collect(),
        entry: module.entry,
    }
}

/// The same circuit without dead nodes, numbered in the order of a depth-first walk from the
/// outputs (operands first, in order): equal graphs become equal whatever their numbers were.
pub fn canonicalize<D: Dialect>(circuit: &Circuit<D>) -> Circuit<D> {
    let graph = &circuit.graph;
    let mut map: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut new = Graph::with_capacity(graph.len());
    let mut stack: Vec<(NodeId, Operands, usize)> = Vec::new();
    for (root, _) in &circuit.outputs {
        if map[root.index()].is_none() {
            stack.push((*root, graph.operands(*root), 0));
        }
        while let Some((id, operands, next)) = stack.last_mut() {
            if let Some(&o) = operands.get(*next) {
                *next += 1;
                if map[o.index()].is_none() {
                    stack.push((o, graph.operands(o), 0));
                }
                continue;
            }
            let id = *id;
            let moved: Operands = operands.iter().filter_map(|o| map[o.index()]).collect();
            stack.pop();
            if map[id.index()].is_none() {
                map[id.index()] = Some(new.push_node(graph.node(id).clone(), &moved));
            }
        }
    }
    Circuit {
        name: circuit.name.clone(),
        inputs: circuit.inputs.clone(),
        outputs: circuit
            .outputs
            .iter()
            .filter_map(|(id, o)| map[id.index()].map(|id| (id, o.clone())))
            .collect(),
        graph: new,
        meta: circuit.meta.clone(),
    }
}

fn print_into<D: Text>(circuit: &Circuit<D>, out: &mut String) {
    let _ = write!(out, "circuit {} {:?}", D::NAME, circuit.name);
    let mut meta = circuit.meta.clone();
    if let Some(span) = D::span_mut(&mut meta) {
        print_span(*span, out);
    }
    out.push_str(" {\n");
    D::print_meta(&circuit.meta, out);
    for input in &circuit.inputs {
        out.push_str("  param");
        D::print_input(input, out);
        out.push('\n');
    }
    for id in circuit.graph.ids() {
        let node = circuit.graph.node(id);
        let _ = write!(out, "  {id} = {}", D::mnemonic(&node.op));
        D::print_op(&node.op, out);
        for o in circuit.graph.operands(id) {
            let _ = write!(out, " {o}");
        }
        let _ = write!(out, " : {}", D::print_type(&node.ty));
        print_range(node.declared, out);
        if node.keep {
            out.push_str(" keep");
        }
        print_span(node.span, out);
        out.push('\n');
    }
    for (id, output) in &circuit.outputs {
        let _ = write!(out, "  result {id}");
        D::print_output(output, out);
        out.push('\n');
    }
    out.push_str("}\n");
}

fn print_span(span: Span, out: &mut String) {
    if span != Span::default() {
        let _ = write!(out, " at {}:{}:{}", span.file.0, span.start, span.end);
    }
}

fn print_range(range: Option<Interval>, out: &mut String) {
    if let Some(r) = range {
        let _ = write!(out, " in [{:?}, {:?}]", r.lo, r.hi);
    }
}

fn print_list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>, out: &mut String) {
    out.push_str(" [");
    for (i, item) in items.into_iter().enumerate() {
        let _ = write!(out, "{}{item}", if i == 0 { "" } else { " " });
    }
    out.push(']');
}

fn affine(a: &Affine) -> String {
    if a.terms.is_empty() {
        return a.constant.to_string();
    }
    let mut out = format!("({}", a.constant);
    for (iv, c) in &a.terms {
        let _ = write!(out, " {c}*i{}", iv.0);
    }
    out.push(')');
    out
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// Letters, digits and `_ . + -`.
    Word(String),
    Text(String),
    Punct(char),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(w) => write!(f, "{w}"),
            Token::Text(t) => write!(f, "{t:?}"),
            Token::Punct(c) => write!(f, "{c}"),
        }
    }
}

/// Reads the text form token by token.
#[derive(Debug)]
pub struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
}

/// Extents and counts of elements beyond this are refused, so that no product overflows.
const MOST_ELEMENTS: u128 = 1 << 40;
/// Constants that are written as one value are not made larger than this.
const MOST_FILLED: usize = 1 << 26;

impl Parser {
    fn new(text: &str) -> Result<Parser, TextError> {
        let mut tokens = Vec::new();
        let mut line = 1;
        let mut chars = text.chars().peekable();
        while let Some(&c) = chars.peek() {
            match c {
                '\n' => {
                    line += 1;
                    chars.next();
                }
                ',' => {
                    chars.next();
                }
                c if c.is_whitespace() => {
                    chars.next();
                }
                '"' => {
                    chars.next();
                    let start = line;
                    tokens.push((Token::Text(string(&mut chars, &mut line)?), start));
                }
                c if is_word(c) => {
                    let mut word = String::new();
                    while let Some(&c) = chars.peek().filter(|c| is_word(**c)) {
                        word.push(c);
                        chars.next();
                    }
                    tokens.push((Token::Word(word), line));
                }
                c => {
                    chars.next();
                    tokens.push((Token::Punct(c), line));
                }
            }
        }
        Ok(Parser { tokens, at: 0 })
    }

    fn error(&self, message: impl Into<String>) -> TextError {
        let last = self.tokens.len().saturating_sub(1);
        TextError {
            line: self.tokens.get(self.at.min(last)).map_or(1, |t| t.1),
            message: message.into(),
        }
    }

    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn end(&self) -> Result<(), TextError> {
        match self.peek() {
            None => Ok(()),
            Some(t) => Err(self.error(format!("{t} after the end"))),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    fn expected(&self, what: &str) -> TextError {
        self.error(match self.peek() {
            Some(t) => format!("{what} expected, found {t}"),
            None => format!("{what} expected, found the end"),
        })
    }

    fn word(&mut self) -> Result<String, TextError> {
        match self.peek() {
            Some(Token::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.expected("a word")),
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    fn word_is(&mut self, word: &str) -> Result<(), TextError> {
        if self.take_word(word) {
            Ok(())
        } else {
            Err(self.expected(word))
        }
    }

    fn is_punct(&self, c: char) -> bool {
        self.peek() == Some(&Token::Punct(c))
    }

    fn punct(&mut self, c: char) -> Result<(), TextError> {
        if self.is_punct(c) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.expected(&c.to_string()))
        }
    }

    fn string(&mut self) -> Result<String, TextError> {
        match self.peek() {
            Some(Token::Text(t)) => {
                let t = t.clone();
                self.at += 1;
                Ok(t)
            }
            _ => Err(self.expected("a string")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, TextError> {
        let parsed = match self.peek() {
            Some(Token::Word(w)) => w.parse().ok(),
            _ => None,
        };
        let value = parsed.ok_or_else(|| self.expected("a number"))?;
        self.at += 1;
        Ok(value)
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Parser) -> Result<T, TextError>,
    ) -> Result<Vec<T>, TextError> {
        self.punct('[')?;
        let mut out = Vec::new();
        while !self.is_punct(']') {
            out.push(item(self)?);
        }
        self.punct(']')?;
        Ok(out)
    }

    fn extents(&mut self) -> Result<Shape, TextError> {
        let list = self.list(Parser::number::<usize>)?;
        self.fits(&list)?;
        Ok(Shape::from_vec(list))
    }

    fn fits(&self, shape: &[usize]) -> Result<(), TextError> {
        let product = shape
            .iter()
            .try_fold(1u128, |n, &x| n.checked_mul((x as u128).max(1)))
            .filter(|n| *n <= MOST_ELEMENTS);
        match product {
            Some(_) => Ok(()),
            None => Err(self.error(format!("{shape:?} is too large"))),
        }
    }

    /// `real`, `real[2, 3]`.
    fn shape(&mut self) -> Result<Shape, TextError> {
        self.word_is("real")?;
        if self.is_punct('[') {
            self.extents()
        } else {
            Ok(Shape::new())
        }
    }

    fn span(&mut self) -> Result<Span, TextError> {
        if !self.take_word("at") {
            return Ok(Span::default());
        }
        let file = FileId(self.number()?);
        self.punct(':')?;
        let start = self.number()?;
        self.punct(':')?;
        let end = self.number()?;
        Ok(Span { file, start, end })
    }

    fn range(&mut self) -> Result<Option<Interval>, TextError> {
        if !self.take_word("in") {
            return Ok(None);
        }
        match self.list(Parser::number::<f64>)?[..] {
            [lo, hi] => Ok(Some(Interval { lo, hi })),
            _ => Err(self.error("a range has two ends")),
        }
    }

    fn some_range(&mut self) -> Result<Interval, TextError> {
        self.range()?.ok_or_else(|| self.expected("in"))
    }

    fn affine(&mut self) -> Result<Affine, TextError> {
        if !self.is_punct('(') {
            return Ok(Affine::constant(self.number()?));
        }
        self.punct('(')?;
        let mut out = Affine::constant(self.number()?);
        while !self.is_punct(')') {
            let c = self.number()?;
            self.punct('*')?;
            out.terms.push((self.variable()?, c));
        }
        self.punct(')')?;
        if out.terms.windows(2).any(|w| w[0].0 >= w[1].0) || out.terms.iter().any(|t| t.1 == 0) {
            return Err(self.error("terms ascend and are not zero"));
        }
        Ok(out)
    }

    fn variable(&mut self) -> Result<IvId, TextError> {
        let word = self.word()?;
        word.strip_prefix('i')
            .and_then(|n| n.parse().ok())
            .map(IvId)
            .ok_or_else(|| self.error(format!("{word} is no variable")))
    }

    fn node(&mut self) -> Result<NodeId, TextError> {
        self.punct('%')?;
        Ok(NodeId(self.number()?))
    }

    fn circuit<D: Text>(&mut self) -> Result<Circuit<D>, TextError> {
        self.word_is("circuit")?;
        self.word_is(D::NAME)?;
        let mut circuit: Circuit<D> = Circuit::new(self.string()?);
        let span = self.span()?;
        if let Some(slot) = D::span_mut(&mut circuit.meta) {
            *slot = span;
        }
        self.punct('{')?;
        loop {
            if self.is_punct('}') {
                self.punct('}')?;
                return Ok(circuit);
            }
            if self.is_punct('%') {
                self.statement(&mut circuit)?;
                continue;
            }
            let word = self.word()?;
            match word.as_str() {
                "param" => {
                    let input = D::parse_input(self)?;
                    circuit.inputs.push(input);
                }
                "result" => {
                    let id = self.node()?;
                    if id.index() >= circuit.graph.len() {
                        return Err(self.error(format!("there is no {id}")));
                    }
                    let output = D::parse_output(self)?;
                    circuit.outputs.push((id, output));
                }
                _ => {
                    if !D::parse_meta(&word, &mut circuit.meta, self)? {
                        return Err(self.error(format!("{word} is nothing of a circuit")));
                    }
                }
            }
        }
    }

    fn statement<D: Text>(&mut self, circuit: &mut Circuit<D>) -> Result<(), TextError> {
        let id = self.node()?;
        if id.index() != circuit.graph.len() {
            return Err(self.error(format!("%{} comes next, not {id}", circuit.graph.len())));
        }
        self.punct('=')?;
        let mnemonic = self.word()?;
        let op = D::parse_op(&mnemonic, self)?;
        if D::mnemonic(&op) != mnemonic {
            return Err(self.error(format!("there is no operation {mnemonic}")));
        }
        let mut operands = Operands::new();
        while self.is_punct('%') {
            let o = self.node()?;
            if o >= id {
                return Err(self.error(format!("{o} does not stand before {id}")));
            }
            operands.push(o);
        }
        let pushed = circuit.push(op, &operands, Span::default());
        pushed.map_err(|e| self.error(e.to_string()))?;
        for extents in D::extents(circuit.graph.ty(id)) {
            self.fits(extents)?;
        }
        self.punct(':')?;
        let ty = D::print_type(circuit.graph.ty(id));
        for (token, _) in Parser::new(&ty)?.tokens {
            if self.peek() != Some(&token) {
                return Err(self.error(format!("the type of {id} is {ty}")));
            }
            self.at += 1;
        }
        if let Some(range) = self.range()? {
            circuit.graph.declare(id, range);
        }
        if self.take_word("keep") {
            circuit.graph.set_keep(id);
        }
        let span = self.span()?;
        circuit.graph.set_span(id, span);
        Ok(())
    }

    fn coefficient(&mut self) -> Result<Coefficient, TextError> {
        if self.is_punct('#') {
            self.punct('#')?;
            return Ok(Coefficient::Plain(PlainId(self.number()?)));
        }
        Ok(Coefficient::Const(Real(self.number()?)))
    }

    fn plain(&mut self) -> Result<PlainId, TextError> {
        self.punct('#')?;
        Ok(PlainId(self.number()?))
    }

    fn source(&mut self) -> Result<SlotSource, TextError> {
        let word = self.word()?;
        Ok(match word.as_str() {
            "map" => SlotSource::Map(SlotMap(
                self.list(|p| {
                    if p.take_word("_") {
                        Ok(SlotMap::EMPTY)
                    } else {
                        p.number()
                    }
                })?
                .into(),
            )),
            "element" => SlotSource::Element(self.number()?),
            "instances" => SlotSource::Instances(self.number()?),
            _ => return Err(self.error(format!("{word} is no source of slots"))),
        })
    }

    fn packed(&mut self) -> Result<PackedInput, TextError> {
        Ok(PackedInput {
            label: self.string()?,
            param: self.number()?,
            source: self.source()?,
            range: self.some_range()?,
        })
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')
}

fn string(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    line: &mut u32,
) -> Result<String, TextError> {
    let mut out = String::new();
    let error = |line: &u32, message: &str| TextError {
        line: *line,
        message: message.to_owned(),
    };
    loop {
        match chars.next() {
            None => return Err(error(line, "a string without an end")),
            Some('"') => return Ok(out),
            Some('\n') => {
                *line += 1;
                out.push('\n');
            }
            Some('\\') => out.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('0') => '\0',
                Some(c @ ('"' | '\\' | '\'')) => c,
                Some('u') => {
                    let digits: String = chars
                        .by_ref()
                        .skip_while(|c| *c == '{')
                        .take_while(|c| *c != '}')
                        .collect();
                    u32::from_str_radix(&digits, 16)
                        .ok()
                        .and_then(char::from_u32)
                        .ok_or_else(|| error(line, "no such character"))?
                }
                _ => return Err(error(line, "no such escape")),
            }),
            Some(c) => out.push(c),
        }
    }
}

fn print_coefficient(c: &Coefficient) -> String {
    match c {
        Coefficient::Const(x) => format!("{:?}", x.0),
        Coefficient::Plain(p) => format!("#{}", p.0),
    }
}

fn print_source(source: &SlotSource, out: &mut String) {
    match source {
        SlotSource::Map(SlotMap(map)) => {
            out.push_str(" map");
            print_list(
                map.iter().map(|&e| match e {
                    SlotMap::EMPTY => "_".to_owned(),
                    e => e.to_string(),
                }),
                out,
            );
        }
        SlotSource::Element(e) => {
            let _ = write!(out, " element {e}");
        }
        SlotSource::Instances(e) => {
            let _ = write!(out, " instances {e}");
        }
    }
}

fn print_packed(input: &PackedInput, out: &mut String) {
    let _ = write!(out, " {:?} {}", input.label, input.param);
    print_source(&input.source, out);
    print_range(Some(input.range), out);
}

impl Text for Tensor {
    const NAME: &'static str = "tensor";

    fn print_op(op: &TensorOp, out: &mut String) {
        match op {
            TensorOp::Input(i) | TensorOp::Proj(i) | TensorOp::Pow(i) => {
                let _ = write!(out, " {i}");
            }
            TensorOp::Const(c) => {
                let _ = write!(out, " {}", shape_name(c.shape()));
                match c.uniform() {
                    Some(x) if c.data().len() > 1 && c.data().len() <= MOST_FILLED => {
                        let _ = write!(out, " all {x:?}");
                    }
                    Some(_) | None => {
                        out.push_str(" values");
                        print_list(c.data().iter().map(|x| format!("{x:?}")), out);
                    }
                }
            }
            TensorOp::Index(a) | TensorOp::Roll(a) => {
                let _ = write!(out, " {}", affine(a));
            }
            TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Mul
            | TensorOp::Div
            | TensorOp::Neg
            | TensorOp::MatMul
            | TensorOp::Diag => {}
            TensorOp::Poly(p) => {
                match p.basis {
                    Basis::Monomial => out.push_str(" monomial"),
                    Basis::Chebyshev { lo, hi } => {
                        let _ = write!(out, " chebyshev {:?} {:?}", lo.0, hi.0);
                    }
                }
                print_list(p.coefficients.iter().map(|c| format!("{:?}", c.0)), out);
            }
            TensorOp::Sum(axes) => print_list(axes, out),
            TensorOp::Broadcast(to) | TensorOp::Reshape(to) => print_list(to, out),
            TensorOp::Transpose(perm) => print_list(perm, out),
            TensorOp::Slice { starts, sizes } => {
                print_list(starts.iter().map(affine), out);
                print_list(sizes, out);
            }
            TensorOp::Update { starts } => print_list(starts.iter().map(affine), out),
            TensorOp::Concat(n) | TensorOp::SumPool(n) | TensorOp::Conv2d { stride: n } => {
                let _ = write!(out, " {n}");
            }
            TensorOp::Pad { before, after } => {
                print_list(before, out);
                print_list(after, out);
            }
            TensorOp::Loop {
                body,
                iv,
                first,
                trips,
                carried,
                unroll,
                pipeline,
            } => {
                let _ = write!(out, " {body} i{} from {first} trips {trips}", iv.0);
                print_list(carried.iter().map(|s| shape_name(s)), out);
                match unroll {
                    Unroll::Auto => {}
                    Unroll::Full => out.push_str(" unroll full"),
                    Unroll::By(n) => {
                        let _ = write!(out, " unroll {n}");
                    }
                }
                if !pipeline {
                    out.push_str(" unpipelined");
                }
            }
        }
    }

    fn parse_op(mnemonic: &str, p: &mut Parser) -> Result<TensorOp, TextError> {
        Ok(match mnemonic {
            "input" => TensorOp::Input(p.number()?),
            "const" => {
                let shape = p.shape()?;
                let c = if p.take_word("all") {
                    let x = p.number()?;
                    if elements(&shape) > MOST_FILLED {
                        return Err(p.error("the constant is too large"));
                    }
                    Some(ConstTensor::filled(shape, x))
                } else {
                    p.word_is("values")?;
                    ConstTensor::new(shape, p.list(Parser::number::<f64>)?)
                };
                TensorOp::Const(c.ok_or_else(|| p.error("another count of values than elements"))?)
            }
            "index" => TensorOp::Index(p.affine()?),
            "add" => TensorOp::Add,
            "sub" => TensorOp::Sub,
            "mul" => TensorOp::Mul,
            "div" => TensorOp::Div,
            "neg" => TensorOp::Neg,
            "pow" => TensorOp::Pow(p.number()?),
            "poly" => {
                let basis = if p.take_word("monomial") {
                    Basis::Monomial
                } else {
                    p.word_is("chebyshev")?;
                    Basis::Chebyshev {
                        lo: Real(p.number()?),
                        hi: Real(p.number()?),
                    }
                };
                TensorOp::Poly(Polynomial {
                    basis,
                    coefficients: p.list(|p| p.number().map(Real))?,
                })
            }
            "matmul" => TensorOp::MatMul,
            "sum" => TensorOp::Sum(SmallVec::from_vec(p.list(Parser::number)?)),
            "broadcast" => TensorOp::Broadcast(p.extents()?),
            "reshape" => TensorOp::Reshape(p.extents()?),
            "transpose" => TensorOp::Transpose(SmallVec::from_vec(p.list(Parser::number)?)),
            "slice" => TensorOp::Slice {
                starts: p.list(Parser::affine)?,
                sizes: p.extents()?,
            },
            "update" => TensorOp::Update {
                starts: p.list(Parser::affine)?,
            },
            "concat" => TensorOp::Concat(p.number()?),
            "pad" => TensorOp::Pad {
                before: p.extents()?,
                after: p.extents()?,
            },
            "roll" => TensorOp::Roll(p.affine()?),
            "diag" => TensorOp::Diag,
            "conv2d" => TensorOp::Conv2d {
                stride: p.number()?,
            },
            "sum_pool" => TensorOp::SumPool(p.number()?),
            "loop" => {
                p.punct('@')?;
                let body = CircuitId(p.number()?);
                let iv = p.variable()?;
                p.word_is("from")?;
                let first = p.number()?;
                p.word_is("trips")?;
                let trips = p.number()?;
                let carried = p.list(Parser::shape)?;
                let unroll = if !p.take_word("unroll") {
                    Unroll::Auto
                } else if p.take_word("full") {
                    Unroll::Full
                } else {
                    Unroll::By(p.number()?)
                };
                TensorOp::Loop {
                    body,
                    iv,
                    first,
                    trips,
                    carried,
                    unroll,
                    pipeline: !p.take_word("unpipelined"),
                }
            }
            "proj" => TensorOp::Proj(p.number()?),
            _ => return Err(p.error(format!("there is no operation {mnemonic}"))),
        })
    }

    fn print_type(ty: &TensorType) -> String {
        match ty {
            TensorType::Tensor(shape) => shape_name(shape),
            TensorType::Tuple(shapes) => {
                let names: Vec<String> = shapes.iter().map(|s| shape_name(s)).collect();
                format!("({})", names.join(", "))
            }
        }
    }

    fn extents(ty: &TensorType) -> Vec<&[usize]> {
        match ty {
            TensorType::Tensor(shape) => vec![shape],
            TensorType::Tuple(shapes) => shapes.iter().map(|s| s.as_slice()).collect(),
        }
    }

    fn print_input(input: &Param, out: &mut String) {
        let secrecy = match input.secrecy {
            Secrecy::Public => "public",
            Secrecy::Secret => "secret",
        };
        let _ = write!(
            out,
            " {:?} {secrecy} {}",
            input.name,
            shape_name(&input.shape)
        );
        print_range(input.range, out);
        print_span(input.span, out);
    }

    fn parse_input(p: &mut Parser) -> Result<Param, TextError> {
        let name = p.string()?;
        let secrecy = if p.take_word("public") {
            Secrecy::Public
        } else {
            p.word_is("secret")?;
            Secrecy::Secret
        };
        Ok(Param {
            name,
            secrecy,
            shape: p.shape()?,
            range: p.range()?,
            span: p.span()?,
        })
    }

    fn print_output(output: &ResultDecl, out: &mut String) {
        let _ = write!(out, " {:?}", output.name);
        print_range(output.range, out);
        print_span(output.span, out);
    }

    fn parse_output(p: &mut Parser) -> Result<ResultDecl, TextError> {
        Ok(ResultDecl {
            name: p.string()?,
            range: p.range()?,
            span: p.span()?,
        })
    }

    fn print_meta(meta: &TensorMeta, out: &mut String) {
        let entry = |out: &mut String, name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(out, " {name} {value}");
            }
        };
        if let Some((b, span)) = &meta.budget {
            out.push_str("  budget");
            for (name, bound) in [
                ("depth", b.depth),
                ("levels", b.levels),
                ("width", b.width),
                ("mult_width", b.mult_width),
                ("muls", b.muls),
                ("rotations", b.rotations),
            ] {
                entry(out, name, bound.map(|n| n.to_string()));
            }
            out.push_str(" ;");
            print_span(*span, out);
            out.push('\n');
        }
        if let Some(b) = meta.batch {
            let _ = writeln!(out, "  batch {b}");
        }
        if let Some(p) = meta.precompute {
            let _ = writeln!(out, "  precompute {} {:?}", p.degree, p.inputs);
        }
        if let Some(bits) = meta.precision {
            let _ = writeln!(out, "  precision {bits:?}");
        }
        if meta.ckks != CkksOverrides::default() {
            out.push_str("  ckks");
            entry(
                out,
                "scale_bits",
                meta.ckks.scale_bits.map(|n| n.to_string()),
            );
            entry(out, "security", meta.ckks.security.map(|n| n.to_string()));
            entry(out, "ring", meta.ckks.ring.map(|n| n.to_string()));
            out.push_str(" ;\n");
        }
        if meta.keep {
            out.push_str("  keep\n");
        }
        for (span, text) in &meta.notes {
            let _ = write!(out, "  note {text:?}");
            print_span(*span, out);
            out.push('\n');
        }
    }

    fn parse_meta(word: &str, meta: &mut TensorMeta, p: &mut Parser) -> Result<bool, TextError> {
        match word {
            "budget" => {
                let mut b = Budget::default();
                while !p.is_punct(';') {
                    let name = p.word()?;
                    let slot = match name.as_str() {
                        "depth" => &mut b.depth,
                        "levels" => &mut b.levels,
                        "width" => &mut b.width,
                        "mult_width" => &mut b.mult_width,
                        "muls" => &mut b.muls,
                        "rotations" => &mut b.rotations,
                        _ => return Err(p.error(format!("{name} is no budget"))),
                    };
                    *slot = Some(p.number()?);
                }
                p.punct(';')?;
                meta.budget = Some((b, p.span()?));
            }
            "batch" => meta.batch = Some(p.number()?),
            "precompute" => {
                meta.precompute = Some(Precompute {
                    degree: p.number()?,
                    inputs: p.number()?,
                });
            }
            "precision" => meta.precision = Some(p.number()?),
            "ckks" => {
                while !p.is_punct(';') {
                    let name = p.word()?;
                    match name.as_str() {
                        "scale_bits" => meta.ckks.scale_bits = Some(p.number()?),
                        "security" => meta.ckks.security = Some(p.number()?),
                        "ring" => meta.ckks.ring = Some(p.number()?),
                        _ => return Err(p.error(format!("{name} is no parameter"))),
                    }
                }
                p.punct(';')?;
            }
            "keep" => meta.keep = true,
            "note" => {
                let text = p.string()?;
                meta.notes.push((p.span()?, text));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn span_mut(meta: &mut TensorMeta) -> Option<&mut Span> {
        Some(&mut meta.span)
    }
}

fn print_slots_meta(meta: &SlotsMeta, out: &mut String) {
    let _ = writeln!(out, "  slots {}", meta.slots);
    if let Some(b) = meta.batch {
        let _ = writeln!(out, "  batch {b}");
    }
    if meta.complex {
        out.push_str("  complex\n");
    }
    for plain in &meta.plains {
        out.push_str("  plain");
        match &plain.source {
            PlainSource::Uniform(x) => {
                let _ = write!(out, " uniform {x:?}");
            }
            PlainSource::Vector(v) => {
                out.push_str(" vector");
                print_list(v.iter().map(|x| format!("{x:?}")), out);
            }
            PlainSource::Public { output, source } => {
                let _ = write!(out, " public {output}");
                print_source(source, out);
            }
        }
        print_range(Some(plain.range), out);
        out.push('\n');
    }
    for result in &meta.results {
        let _ = write!(out, "  unpack {:?}", result.name);
        print_list(&result.shape, out);
        match &result.unpack {
            Unpack::Slots(places) => {
                out.push_str(" slots");
                print_list(places.iter().map(|(v, s)| format!("{v}:{s}")), out);
            }
            Unpack::Instances(vectors) => {
                out.push_str(" instances");
                print_list(vectors, out);
            }
            Unpack::Public(j) => {
                let _ = write!(out, " public {j}");
            }
        }
        out.push('\n');
    }
    if let Some(public) = &meta.public {
        out.push_str("  public ");
        print_into(public, out);
    }
    if let Some(client) = &meta.client {
        out.push_str("  client ");
        print_into(client, out);
    }
}

fn parse_slots_meta(word: &str, meta: &mut SlotsMeta, p: &mut Parser) -> Result<bool, TextError> {
    match word {
        "slots" => meta.slots = p.number()?,
        "batch" => meta.batch = Some(p.number()?),
        "complex" => meta.complex = true,
        "plain" => {
            let kind = p.word()?;
            let source = match kind.as_str() {
                "uniform" => PlainSource::Uniform(p.number()?),
                "vector" => PlainSource::Vector(p.list(Parser::number::<f64>)?.into()),
                "public" => PlainSource::Public {
                    output: p.number()?,
                    source: p.source()?,
                },
                _ => return Err(p.error(format!("{kind} is no source of a plaintext"))),
            };
            meta.plains.push(PlainDef {
                source,
                range: p.some_range()?,
            });
        }
        "unpack" => {
            let name = p.string()?;
            let shape = p.extents()?.to_vec();
            let kind = p.word()?;
            let unpack = match kind.as_str() {
                "slots" => Unpack::Slots(p.list(|p| {
                    let v = p.number()?;
                    p.punct(':')?;
                    Ok((v, p.number()?))
                })?),
                "instances" => Unpack::Instances(p.list(Parser::number)?),
                "public" => Unpack::Public(p.number()?),
                _ => return Err(p.error(format!("{kind} is no way to unpack"))),
            };
            meta.results.push(PackedOutput {
                name,
                shape,
                unpack,
            });
        }
        "public" => meta.public = Some(p.circuit()?),
        "client" => meta.client = Some(p.circuit()?),
        _ => return Ok(false),
    }
    Ok(true)
}

impl Text for Slots {
    const NAME: &'static str = "slots";

    fn print_op(op: &SlotsOp, out: &mut String) {
        match op {
            SlotsOp::Input(i) => {
                let _ = write!(out, " {i}");
            }
            SlotsOp::Plain(p) => {
                let _ = write!(out, " #{}", p.0);
            }
            SlotsOp::Add
            | SlotsOp::Sub
            | SlotsOp::Neg
            | SlotsOp::Mul
            | SlotsOp::Square
            | SlotsOp::Conjugate
            | SlotsOp::TimesI => {}
            SlotsOp::LinComb(c) => print_list(c.iter().map(print_coefficient), out),
            SlotsOp::Rotate(k) => {
                let _ = write!(out, " {}", k.0);
            }
        }
    }

    fn parse_op(mnemonic: &str, p: &mut Parser) -> Result<SlotsOp, TextError> {
        Ok(match mnemonic {
            "input" => SlotsOp::Input(p.number()?),
            "plain" => SlotsOp::Plain(p.plain()?),
            "add" => SlotsOp::Add,
            "sub" => SlotsOp::Sub,
            "neg" => SlotsOp::Neg,
            "mul" => SlotsOp::Mul,
            "square" => SlotsOp::Square,
            "lincomb" => SlotsOp::LinComb(p.list(Parser::coefficient)?),
            "rotate" => SlotsOp::Rotate(RotationStep(p.number()?)),
            "conjugate" => SlotsOp::Conjugate,
            "times_i" => SlotsOp::TimesI,
            _ => return Err(p.error(format!("there is no operation {mnemonic}"))),
        })
    }

    fn print_type(ty: &SlotsType) -> String {
        match ty {
            SlotsType::Cipher => "cipher",
            SlotsType::Plain => "plain",
        }
        .to_owned()
    }

    fn extents(_: &SlotsType) -> Vec<&[usize]> {
        Vec::new()
    }

    fn print_input(input: &PackedInput, out: &mut String) {
        print_packed(input, out);
    }

    fn parse_input(p: &mut Parser) -> Result<PackedInput, TextError> {
        p.packed()
    }

    fn print_output(_: &(), _: &mut String) {}

    fn parse_output(_: &mut Parser) -> Result<(), TextError> {
        Ok(())
    }

    fn print_meta(meta: &SlotsMeta, out: &mut String) {
        print_slots_meta(meta, out);
    }

    fn parse_meta(word: &str, meta: &mut SlotsMeta, p: &mut Parser) -> Result<bool, TextError> {
        parse_slots_meta(word, meta, p)
    }

    fn span_mut(_: &mut SlotsMeta) -> Option<&mut Span> {
        None
    }
}

impl Text for Ckks {
    const NAME: &'static str = "ckks";

    fn print_op(op: &CkksOp, out: &mut String) {
        let _ = match op {
            CkksOp::Input(i) => write!(out, " {i}"),
            CkksOp::Encode {
                plain,
                level,
                scale,
            } => write!(out, " #{} level {level} scale {:?}", plain.0, scale.0),
            CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::Mul
            | CkksOp::Square
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize => Ok(()),
            CkksOp::AddScalar(c) => write!(out, " {}", print_coefficient(c)),
            CkksOp::MulScalar { value, scale } => {
                write!(out, " {} scale {:?}", print_coefficient(value), scale.0)
            }
            CkksOp::LinComb {
                coefficients,
                scale,
            } => {
                print_list(coefficients.iter().map(print_coefficient), out);
                write!(out, " scale {:?}", scale.0)
            }
            CkksOp::Rotate(k) => write!(out, " {}", k.0),
            CkksOp::Rescale { prime } => write!(out, " {prime}"),
            CkksOp::DropLevel(level) => write!(out, " {level}"),
        };
    }

    fn parse_op(mnemonic: &str, p: &mut Parser) -> Result<CkksOp, TextError> {
        let scale = |p: &mut Parser| {
            p.word_is("scale")?;
            p.number().map(Real)
        };
        Ok(match mnemonic {
            "input" => CkksOp::Input(p.number()?),
            "encode" => {
                let plain = p.plain()?;
                p.word_is("level")?;
                CkksOp::Encode {
                    plain,
                    level: Level(p.number()?),
                    scale: scale(p)?,
                }
            }
            "add" => CkksOp::Add,
            "sub" => CkksOp::Sub,
            "neg" => CkksOp::Neg,
            "mul" => CkksOp::Mul,
            "square" => CkksOp::Square,
            "add_scalar" => CkksOp::AddScalar(p.coefficient()?),
            "mul_scalar" => CkksOp::MulScalar {
                value: p.coefficient()?,
                scale: scale(p)?,
            },
            "lincomb" => CkksOp::LinComb {
                coefficients: p.list(Parser::coefficient)?,
                scale: scale(p)?,
            },
            "rotate" => CkksOp::Rotate(RotationStep(p.number()?)),
            "conjugate" => CkksOp::Conjugate,
            "times_i" => CkksOp::TimesI,
            "relinearize" => CkksOp::Relinearize,
            "rescale" => CkksOp::Rescale { prime: p.number()? },
            "drop_level" => CkksOp::DropLevel(Level(p.number()?)),
            _ => return Err(p.error(format!("there is no operation {mnemonic}"))),
        })
    }

    fn print_type(ty: &CkksType) -> String {
        match ty {
            CkksType::Cipher {
                level,
                scale,
                degree,
            } => format!("cipher level {level} scale {:?} degree {degree}", scale.0),
            CkksType::Plain { level, scale } => format!("plain level {level} scale {:?}", scale.0),
        }
    }

    fn extents(_: &CkksType) -> Vec<&[usize]> {
        Vec::new()
    }

    fn print_input(input: &CkksInput, out: &mut String) {
        print_packed(&input.packed, out);
        let _ = write!(out, " level {} scale {:?}", input.level, input.scale.0);
    }

    fn parse_input(p: &mut Parser) -> Result<CkksInput, TextError> {
        let packed = p.packed()?;
        p.word_is("level")?;
        let level = Level(p.number()?);
        p.word_is("scale")?;
        Ok(CkksInput {
            packed,
            level,
            scale: Scale(p.number()?),
        })
    }

    fn print_output(_: &(), _: &mut String) {}

    fn parse_output(_: &mut Parser) -> Result<(), TextError> {
        Ok(())
    }

    fn print_meta(meta: &SlotsMeta, out: &mut String) {
        print_slots_meta(meta, out);
    }

    fn parse_meta(word: &str, meta: &mut SlotsMeta, p: &mut Parser) -> Result<bool, TextError> {
        parse_slots_meta(word, meta, p)
    }

    fn span_mut(_: &mut SlotsMeta) -> Option<&mut Span> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Shapes, SplitMix64, circuit};
    use proptest::prelude::*;

    fn round_trip<D: Text>(c: &Circuit<D>) -> String {
        let text = print_circuit(c);
        let parsed = parse_circuit::<D>(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert!(parsed == *c, "parsing changes\n{text}");
        assert_eq!(print_circuit(&parsed), text);
        text
    }

    /// A CKKS circuit with every operation, and its meta.
    fn ckks() -> Circuit<Ckks> {
        let mut c: Circuit<Ckks> = Circuit::new("a \"b\"\n\u{1}ü");
        c.meta = meta();
        c.inputs = vec![CkksInput {
            packed: PackedInput {
                param: 1,
                source: SlotSource::Map(SlotMap(vec![0, SlotMap::EMPTY, 7, 1].into())),
                range: Interval::new(-0.1, 1e300),
                label: "x[3]".to_owned(),
            },
            level: Level(3),
            scale: Scale(1.1e12),
        }];
        let s = |n: usize| Span::new(FileId(1), n, n + 3);
        let x = c.push(CkksOp::Input(0), &[], s(1)).expect("typed");
        let e = CkksOp::Encode {
            plain: PlainId(0),
            level: Level(3),
            scale: Real(1.1e12),
        };
        let e = c.push(e, &[], s(2)).expect("typed");
        let m = c.push(CkksOp::Mul, &[x, e], s(3)).expect("typed");
        let q = c.push(CkksOp::Square, &[x], s(4)).expect("typed");
        let a = c.push(CkksOp::Add, &[q, m], s(5)).expect("typed");
        let b = c.push(CkksOp::Sub, &[a, q], s(6)).expect("typed");
        let r = c.push(CkksOp::Relinearize, &[b], s(7)).expect("typed");
        let r = c
            .push(
                CkksOp::Rescale {
                    prime: 1_099_511_678_977,
                },
                &[r],
                s(8),
            )
            .expect("typed");
        let r = c.push(CkksOp::Neg, &[r], s(9)).expect("typed");
        let r = c
            .push(
                CkksOp::AddScalar(Coefficient::Plain(PlainId(1))),
                &[r],
                s(9),
            )
            .expect("typed");
        let f = CkksOp::MulScalar {
            value: Coefficient::Const(Real(-0.3)),
            scale: Real(1024.0),
        };
        let r = c.push(f, &[r], s(10)).expect("typed");
        let r = c
            .push(CkksOp::DropLevel(Level(0)), &[r], s(11))
            .expect("typed");
        let t = c
            .push(CkksOp::Rotate(RotationStep(-3)), &[r], s(12))
            .expect("typed");
        let t = c.push(CkksOp::Conjugate, &[t], s(12)).expect("typed");
        let t = c.push(CkksOp::TimesI, &[t], s(12)).expect("typed");
        let l = CkksOp::LinComb {
            coefficients: vec![
                Coefficient::Const(Real(2.0)),
                Coefficient::Plain(PlainId(1)),
            ],
            scale: Real(1.0),
        };
        let l = c.push(l, &[t, r], s(13)).expect("typed");
        c.outputs = vec![(l, ()), (r, ())];
        c
    }

    fn meta() -> SlotsMeta {
        let unit = Interval::UNIT;
        let plain = |source| PlainDef {
            source,
            range: unit,
        };
        let result = |unpack| PackedOutput {
            name: "y".to_owned(),
            shape: vec![1, 2],
            unpack,
        };
        SlotsMeta {
            slots: 4,
            batch: Some(3),
            complex: true,
            plains: vec![
                plain(PlainSource::Vector(vec![0.1, -0.0, 1e-300, 3.0].into())),
                plain(PlainSource::Uniform(-2.5)),
                plain(PlainSource::Public {
                    output: 0,
                    source: SlotSource::Instances(2),
                }),
            ],
            results: vec![
                result(Unpack::Slots(vec![(0, 1), (1, 3)])),
                result(Unpack::Instances(vec![0, 1])),
                result(Unpack::Public(0)),
            ],
            public: Some(circuit(5, &Shapes::default())),
            client: Some(circuit(6, &Shapes::default())),
        }
    }

    /// Slots circuits of random operations.
    fn slots(seed: u64) -> Circuit<Slots> {
        let mut random = SplitMix64::new(seed);
        let mut c: Circuit<Slots> = Circuit::new("s");
        c.meta = meta();
        c.inputs = vec![PackedInput {
            param: 0,
            source: SlotSource::Element(3),
            range: Interval::UNIT,
            label: "x".to_owned(),
        }];
        let s = Span::default();
        let mut ids = vec![c.push(SlotsOp::Input(0), &[], s).expect("typed")];
        let plain = c.push(SlotsOp::Plain(PlainId(2)), &[], s).expect("typed");
        for _ in 0..20 {
            let a = ids[random.below(ids.len())];
            let b = ids[random.below(ids.len())];
            let (op, operands) = match random.below(10) {
                0 => (SlotsOp::Add, vec![a, b]),
                1 => (SlotsOp::Sub, vec![a, plain]),
                2 => (SlotsOp::Mul, vec![a, b]),
                3 => (SlotsOp::Neg, vec![a]),
                8 => (SlotsOp::Conjugate, vec![a]),
                9 => (SlotsOp::TimesI, vec![a]),
                4 => (SlotsOp::Square, vec![a]),
                5 => (SlotsOp::Mul, vec![a, plain]),
                6 => {
                    let c = Coefficient::Const(Real(random.real(-1.0, 1.0)));
                    let d = Coefficient::Plain(PlainId(1));
                    (SlotsOp::LinComb(vec![c, d]), vec![a, b])
                }
                _ => {
                    let k = RotationStep(random.below(9) as i32 - 4);
                    (SlotsOp::Rotate(k), vec![a])
                }
            };
            ids.push(c.push(op, &operands, s).expect("typed"));
        }
        c.outputs = vec![(ids[20], ()), (ids[0], ())];
        c
    }

    #[test]
    fn printed_circuits_parse_to_themselves() {
        for seed in 0..200 {
            let c = circuit(seed, &Shapes::default());
            round_trip(&c);
            let canonical = canonicalize(&c);
            assert_eq!(canonicalize(&canonical), canonical, "seed {seed}");
            round_trip(&slots(seed));
        }
        round_trip(&ckks());
    }

    #[test]
    fn modules_and_attributes_round_trip() {
        let text = "module entry @1

circuit tensor \"body\" {
  param \"x\" public real[2]
  %0 = input 0 : real[2]
  %1 = index (1 -2*i4) : real at 0:3:4
  %2 = broadcast [2] %1 : real[2]
  %3 = mul %0 %2 : real[2] in [-1.0, 1.0] keep
  result %3 \"x\"
}

circuit tensor \"main\" at 0:1:99 {
  budget depth 3 rotations 0 ; at 0:5:6
  batch 4
  precompute 2 2.5
  precision 4.5
  ckks scale_bits 40 ring 8192 ;
  keep
  note \"sigmoid: error 1e-3\" at 0:7:8
  param \"x\" secret real[2] in [-2.0, 2.0] at 0:2:3
  %0 = input 0 : real[2]
  %1 = loop @0 i4 from -1 trips 3 [real[2]] unroll 2 unpipelined %0 : (real[2])
  %2 = proj 0 %1 : real[2]
  %3 = const real[2] all 0.5 : real[2]
  %4 = poly chebyshev -1.0 1.0 [0.5 1.0] %2 : real[2]
  result %4 \"y\" in [0.0, 1.0] at 0:9:10
}
";
        let module = parse_module::<Tensor>(text).expect("parses");
        assert_eq!(print_module(&module), text);
        assert_eq!(
            module.entry().meta.budget.expect("has one").0.depth,
            Some(3)
        );
        assert!(crate::verify::verify_tensor(&module).is_empty());
        assert_eq!(canonicalize_module(&module).circuits[1].graph.len(), 4);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &str| {
            parse_circuit::<Tensor>(text)
                .expect_err("is wrong")
                .to_string()
        };
        let head =
            "circuit tensor \"c\" {\n  param \"x\" secret real[2]\n  %0 = input 0 : real[2]\n";
        assert_eq!(
            error(&format!("{head}  %1 = add %0 %1 : real[2]\n}}")),
            "line 4: %1 does not stand before %1"
        );
        assert_eq!(
            error(&format!("{head}  %1 = neg %0 : real[3]\n}}")),
            "line 4: the type of %1 is real[2]"
        );
        assert_eq!(
            error(&format!("{head}  %1 = frob %0 : real[3]\n}}")),
            "line 4: there is no operation frob"
        );
        assert_eq!(
            error(&format!(
                "{head}  %1 = broadcast [99999999 99999999] %0 : real\n}}"
            )),
            "line 4: [99999999, 99999999] is too large"
        );
        assert_eq!(error(head), "line 3: a word expected, found the end");
    }

    #[test]
    fn equal_graphs_print_equal() {
        let a = circuit(3, &Shapes::default());
        // The same graph with nodes in another topological order: dead ones first, then reversed walk.
        let mut shuffled = canonicalize(&a);
        shuffled.outputs.reverse();
        let mut other = canonicalize(&shuffled);
        other.outputs.reverse();
        assert_eq!(
            print_circuit(&canonicalize(&other)),
            print_circuit(&canonicalize(&a))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn garbage_is_an_error(text in "\\PC{0,200}") {
            let _ = parse_circuit::<Tensor>(&text);
            let _ = parse_module::<Ckks>(&text);
        }

        #[test]
        fn mutations_do_not_panic(seed in 0u64..50, at in any::<prop::sample::Index>(), with in "[ -~\n]{0,3}", cut in 0usize..4, kind in 0u8..3) {
            let text = match kind {
                0 => print_circuit(&circuit(seed, &Shapes::default())),
                1 => print_circuit(&slots(seed)),
                _ => print_circuit(&ckks()),
            };
            let chars: Vec<char> = text.chars().collect();
            let i = at.index(chars.len());
            let mutated: String = chars[..i]
                .iter()
                .copied()
                .chain(with.chars())
                .chain(chars[(i + cut).min(chars.len())..].iter().copied())
                .collect();
            match kind {
                0 => {
                    if let Ok(c) = parse_circuit::<Tensor>(&mutated) {
                        let _ = crate::verify::verify_tensor(&Module::single(c));
                    }
                }
                1 => {
                    if let Ok(c) = parse_circuit::<Slots>(&mutated) {
                        let _ = crate::verify::verify_slots(&c);
                        let _ = crate::measure::measure_slots(&c);
                    }
                }
                _ => {
                    if let Ok(c) = parse_circuit::<Ckks>(&mutated) {
                        let _ = crate::verify::verify_ckks(&c, None);
                        let _ = crate::measure::measure(&c);
                    }
                }
            }
        }
    }
}
