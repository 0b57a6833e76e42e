//! Expressions: evaluated at compile time as far as they can be, else lowered to nodes.

use std::path::PathBuf;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Interval, Module};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Affine, Secrecy, Shape, Tensor, TensorOp, broadcast, elements, shape_name};
use rustc_hash::FxHashMap;

use super::Limits;
use super::frames::Frame;
use super::program::{Item, Names, Unit};
use super::resolve::{Facts, Target, target};
use super::value::{Const, Run, Value, power};
use crate::ast::{self, BinaryOp, Expr, ExprKind, Index, UnaryOp};
use crate::fs::FileSystem;

/// Why a walk ends early.
pub(crate) enum Stop {
    /// The innermost loop that is being lowered as a loop has to be unrolled, because of this place.
    Unroll(Span, &'static str),
    /// An error that ends the circuit was reported.
    Fatal,
}

pub(crate) type Flow<T> = Result<T, Stop>;

/// A name bound in a function or a circuit.
#[derive(Clone)]
pub(crate) struct Local<'a> {
    pub name: &'a str,
    pub value: Value,
}

/// Where the walk is, for messages.
#[derive(Clone)]
pub(crate) enum Context<'a> {
    Iteration(&'a str, i64, Span),
    Call(&'a str, Span),
    /// A value at which a function is approximated.
    Point(f64, Span),
}

#[derive(Clone)]
enum Memo {
    Busy,
    Done(Value),
}

/// The state of the walk.
pub(crate) struct Checker<'a> {
    pub units: &'a [Unit],
    pub names: &'a Names<'a>,
    pub facts: &'a Facts,
    pub fs: &'a dyn FileSystem,
    pub limits: Limits,
    /// Errors.
    pub diagnostics: Vec<Diagnostic>,
    /// Warnings and notes.
    pub warnings: Vec<Diagnostic>,
    /// Names in scope are those from `base` on.
    pub locals: Vec<Local<'a>>,
    pub base: usize,
    pub unit: usize,
    /// The function whose body is being walked.
    pub inside: Option<usize>,
    pub frames: Vec<Frame<'a>>,
    /// Bodies of loops so far.
    pub bodies: Vec<Circuit<Tensor>>,
    pub next_iv: u32,
    pub nodes: usize,
    pub steps: u64,
    pub depth: usize,
    pub context: Vec<Context<'a>>,
    /// Whether only compile-time values are in reach, so that loops simply run.
    pub compile_time: bool,
    pub returned: Option<Vec<(Value, Span)>>,
    /// Set where the rest of the body is not worth walking.
    pub abandoned: bool,
    /// Facts for the report.
    pub notes: Vec<(Span, String)>,
    consts: FxHashMap<usize, Memo>,
    const_path: Vec<usize>,
    pub approximations: super::builtins::Approximations,
    pub files: FxHashMap<(PathBuf, Option<String>), Const>,
}

impl<'a> Checker<'a> {
    pub fn new(
        units: &'a [Unit],
        names: &'a Names<'a>,
        facts: &'a Facts,
        fs: &'a dyn FileSystem,
        limits: Limits,
    ) -> Checker<'a> {
        Checker {
            units,
            names,
            facts,
            fs,
            limits,
            diagnostics: Vec::new(),
            warnings: Vec::new(),
            locals: Vec::new(),
            base: 0,
            unit: 0,
            inside: None,
            frames: Vec::new(),
            bodies: Vec::new(),
            next_iv: 0,
            nodes: 0,
            steps: 0,
            depth: 0,
            context: Vec::new(),
            compile_time: false,
            returned: None,
            abandoned: false,
            notes: Vec::new(),
            consts: FxHashMap::default(),
            const_path: Vec::new(),
            approximations: Default::default(),
            files: FxHashMap::default(),
        }
    }

    /// Evaluates the main file's constants and lowers its circuits. Fit for use when no diagnostic is
    /// an error.
    pub fn run(&mut self) -> Vec<Module<Tensor>> {
        let mains = (0..self.names.consts.len()).filter(|c| self.names.consts[*c].0 == 0);
        for c in mains {
            if self.constant(c).is_err() {
                return Vec::new();
            }
        }
        let mut out = Vec::new();
        for circuit in &self.names.circuits {
            if let Ok(module) = self.circuit(circuit) {
                out.push(module);
            }
            self.leave_circuit();
        }
        out
    }

    fn leave_circuit(&mut self) {
        self.locals.clear();
        self.frames.clear();
        self.bodies.clear();
        self.context.clear();
        self.notes.clear();
        self.returned = None;
        self.abandoned = false;
        (self.base, self.unit, self.nodes, self.depth, self.next_iv) = (0, 0, 0, 0, 0);
        (self.inside, self.compile_time) = (None, false);
        // A constant that was left half evaluated has reported why.
        self.const_path.clear();
        for memo in self.consts.values_mut() {
            if matches!(memo, Memo::Busy) {
                *memo = Memo::Done(Value::Error);
            }
        }
    }

    /// Records a diagnostic, with the calls and iterations that lead to its place.
    pub fn report(&mut self, mut diagnostic: Diagnostic) -> Value {
        for context in self.context.iter().rev().take(4) {
            let (span, text) = match context {
                Context::Iteration(name, i, span) => {
                    (*span, format!("in the iteration {name} = {i}"))
                }
                Context::Call(name, span) => (*span, format!("in this call of `{name}`")),
                Context::Point(x, span) => (*span, format!("at the point {x:?} of this interval")),
            };
            diagnostic = diagnostic.with_label(span, text);
        }
        self.diagnostics.push(diagnostic);
        Value::Error
    }

    /// Counts work.
    pub fn step(&mut self, work: u64, span: Span) -> Flow<()> {
        self.steps = self.steps.saturating_add(work);
        if self.steps <= self.limits.steps {
            return Ok(());
        }
        let limit = self.limits.steps;
        self.report(
            Diagnostic::error(
                "E2013",
                span,
                format!("checking takes more than {limit} steps"),
                "given up here",
            )
            .with_help("use operations on whole tensors instead of loops over elements, or shorten the loops"),
        );
        Err(Stop::Fatal)
    }

    // ---- names ----

    fn lookup(&mut self, name: &str) -> Flow<Value> {
        let found = self.locals[self.base..]
            .iter()
            .rev()
            .find(|l| l.name == name);
        if let Some(local) = found {
            return Ok(local.value.clone());
        }
        match self.names.lookup(self.unit, name) {
            Some(Item::Const(c)) => self.constant(c),
            // Reported by the resolver.
            Some(Item::Fn(_)) | None => Ok(Value::Error),
        }
    }

    /// The value of a constant, evaluated when it is first needed.
    fn constant(&mut self, c: usize) -> Flow<Value> {
        let (unit, item) = self.names.consts[c];
        match self.consts.get(&c) {
            Some(Memo::Done(value)) => return Ok(value.clone()),
            Some(Memo::Busy) => {
                let from = self.const_path.iter().position(|p| *p == c).unwrap_or(0);
                let name = |p: &usize| self.names.consts[*p].1.name.name.clone();
                let mut chain: Vec<String> = self.const_path[from..].iter().map(name).collect();
                chain.push(item.name.name.clone());
                return Ok(self.report(
                    Diagnostic::error(
                        "E2008",
                        item.name.span,
                        format!(
                            "`{}` is defined by itself: {}",
                            item.name.name,
                            chain.join(" -> ")
                        ),
                        "its value depends on itself",
                    )
                    .with_help("give one of these constants a value of its own"),
                ));
            }
            None => {}
        }
        self.consts.insert(c, Memo::Busy);
        self.const_path.push(c);
        let saved = (self.base, self.unit, self.inside, self.compile_time);
        self.base = self.locals.len();
        (self.unit, self.inside, self.compile_time) = (unit, None, true);
        let value = self.constant_value(item);
        self.locals.truncate(self.base);
        (self.base, self.unit, self.inside, self.compile_time) = saved;
        self.const_path.pop();
        let value = value?;
        self.consts.insert(c, Memo::Done(value.clone()));
        Ok(value)
    }

    fn constant_value(&mut self, item: &'a ast::Const) -> Flow<Value> {
        let value = self.eval(&item.value)?;
        let Some(ty) = &item.ty else {
            return Ok(value);
        };
        let Some(shape) = self.shape_of_type(ty)? else {
            return Ok(Value::Error);
        };
        if value.is_error() {
            return Ok(value);
        }
        if matches!(value, Value::Bool(_)) {
            return Ok(self.expected("a real", &value, item.value.span));
        }
        if value.shape() != shape {
            let (is, wanted) = (shape_name(&value.shape()), shape_name(&shape));
            return Ok(self.report(
                Diagnostic::error(
                    "E1012",
                    item.value.span,
                    format!(
                        "`{}` is declared as {wanted}, but its value is {is}",
                        item.name.name
                    ),
                    format!("this is {is}"),
                )
                .with_label(ty.span, format!("declared as {wanted} here"))
                .with_help(format!("write `{}: {is}`", item.name.name)),
            ));
        }
        Ok(match value {
            Value::Int(i) => Value::Real(i as f64),
            other => other,
        })
    }

    /// The extents of a type; None when an error was reported.
    pub fn shape_of_type(&mut self, ty: &'a ast::Type) -> Flow<Option<Shape>> {
        let mut shape = Shape::new();
        let mut good = true;
        for dim in &ty.dims {
            let value = self.eval(dim)?;
            match self.int(&value, dim.span, "an extent")? {
                Some(n) if n >= 1 && usize::try_from(n).is_ok() => shape.push(n as usize),
                Some(n) => {
                    good = false;
                    self.report(
                        Diagnostic::error(
                            "E2014",
                            dim.span,
                            format!("an extent is {n}"),
                            "an extent is at least 1",
                        )
                        .with_help("a tensor has at least one element; leave out what is empty"),
                    );
                }
                None => good = false,
            }
        }
        if !good {
            return Ok(None);
        }
        self.fits(&shape, ty.span)?;
        Ok(Some(shape))
    }

    /// A declared range.
    pub fn interval(&mut self, range: Option<&'a ast::Range>) -> Flow<Option<Interval>> {
        let Some(range) = range else {
            return Ok(None);
        };
        let lo = self.eval(&range.lo)?;
        let lo = self.real(&lo, range.lo.span, "a bound of a range")?;
        let hi = self.eval(&range.hi)?;
        let hi = self.real(&hi, range.hi.span, "a bound of a range")?;
        let (Some(lo), Some(hi)) = (lo, hi) else {
            return Ok(None);
        };
        if lo >= hi {
            let help = if lo > hi {
                format!("write `in [{hi:?}, {lo:?}]`")
            } else {
                format!("write `in [{lo:?}, {:?}]`, say", lo + 1.0)
            };
            self.report(
                Diagnostic::error(
                    "E1030",
                    range.span,
                    format!("the range [{lo:?}, {hi:?}] is empty"),
                    "the lower bound must be below the upper one",
                )
                .with_help(help),
            );
            return Ok(None);
        }
        Ok(Some(Interval::new(lo, hi)))
    }

    // ---- what a value must be ----

    /// Reports that a value is of the wrong kind.
    pub fn expected(&mut self, what: &str, value: &Value, span: Span) -> Value {
        if value.is_error() {
            return Value::Error;
        }
        let is = value.describe();
        self.report(Diagnostic::error(
            "E1018",
            span,
            format!("{what} is expected here"),
            format!("this is {is}"),
        ))
    }

    /// Reports that a value is known only at run time, or asks for unrolling when it need not be.
    pub fn not_known(&mut self, what: &str, run: &Run, span: Span) -> Flow<Value> {
        if run.uniform_only {
            return Err(Stop::Unroll(span, "this has to be known at compile time"));
        }
        let (who, help) = match run.secrecy {
            Secrecy::Secret => (
                "secret",
                "nobody who evaluates the circuit may see it: compute all cases and add them up with weights, or use `approx(sign, …)`",
            ),
            Secrecy::Public => (
                "public, but given only at run time",
                "make it a constant: `const NAME = …;`, or `load(\"FILE\")`",
            ),
        };
        Ok(self.report(
            Diagnostic::error(
                "E1021",
                span,
                format!("{what} must be known at compile time"),
                format!("this value is {who}"),
            )
            .with_help(help),
        ))
    }

    /// A compile-time integer; None when an error was reported.
    pub fn int(&mut self, value: &Value, span: Span, what: &str) -> Flow<Option<i64>> {
        match value {
            Value::Int(i) => Ok(Some(*i)),
            Value::Real(x) if x.fract() == 0.0 && x.abs() < 9e15 => Ok(Some(*x as i64)),
            Value::Real(x) => {
                self.report(
                    Diagnostic::error(
                        "E1018",
                        span,
                        format!("{what} must be an integer"),
                        format!("this is {x:?}"),
                    )
                    .with_help("round it: `floor(…)` or `ceil(…)`"),
                );
                Ok(None)
            }
            Value::Index(_) => Err(Stop::Unroll(span, "this has to be known at compile time")),
            Value::Run(run) => {
                self.not_known(what, run, span)?;
                Ok(None)
            }
            Value::Bool(_) | Value::Tensor(_) => {
                self.expected("an integer", value, span);
                Ok(None)
            }
            Value::Error => Ok(None),
        }
    }

    /// A compile-time number; None when an error was reported.
    pub fn real(&mut self, value: &Value, span: Span, what: &str) -> Flow<Option<f64>> {
        match value {
            Value::Int(i) => Ok(Some(*i as f64)),
            Value::Real(x) => Ok(Some(*x)),
            Value::Index(_) => Err(Stop::Unroll(span, "this has to be known at compile time")),
            Value::Run(run) => {
                self.not_known(what, run, span)?;
                Ok(None)
            }
            Value::Bool(_) | Value::Tensor(_) => {
                self.expected("a number", value, span);
                Ok(None)
            }
            Value::Error => Ok(None),
        }
    }

    /// A compile-time truth value; None when an error was reported.
    pub fn truth(&mut self, value: &Value, span: Span) -> Flow<Option<bool>> {
        match value {
            Value::Bool(b) => Ok(Some(*b)),
            Value::Run(run) => {
                self.not_known("a condition", run, span)?;
                Ok(None)
            }
            other => {
                self.expected("a condition such as `n > 0`", other, span);
                Ok(None)
            }
        }
    }

    /// An index: an integer that may depend on the loops around.
    pub fn place(&mut self, value: &Value, span: Span, what: &str) -> Flow<Option<Affine>> {
        if let Value::Index(affine) = value {
            return Ok(Some(affine.clone()));
        }
        Ok(self.int(value, span, what)?.map(Affine::constant))
    }

    // ---- expressions ----

    pub fn eval(&mut self, e: &'a Expr) -> Flow<Value> {
        self.step(1, e.span)?;
        self.enter(e.span)?;
        let value = self.eval_inner(e);
        self.depth -= 1;
        value
    }

    /// Counts nesting; to be undone with `depth -= 1`.
    pub fn enter(&mut self, span: Span) -> Flow<()> {
        self.depth += 1;
        if self.depth <= self.limits.nesting {
            return Ok(());
        }
        self.depth -= 1;
        let limit = self.limits.nesting;
        self.report(
            Diagnostic::error(
                "E2012",
                span,
                format!("calls and expressions nest more than {limit} deep"),
                "given up here",
            )
            .with_help(
                "split the expression with `let`, or write the chain of functions as a `for`",
            ),
        );
        Err(Stop::Fatal)
    }

    fn eval_inner(&mut self, e: &'a Expr) -> Flow<Value> {
        match &e.kind {
            ExprKind::Int(i) => Ok(Value::Int(*i)),
            ExprKind::Real(x) => Ok(Value::Real(*x)),
            ExprKind::Str(_) => Ok(self.report(
                Diagnostic::error("E1018", e.span, "a text is no value", "a text stands here")
                    .with_help("only `load(\"FILE\")` and `assert(COND, \"text\")` take one"),
            )),
            ExprKind::Name(name) => self.lookup(name),
            ExprKind::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push((self.eval(item)?, item.span));
                }
                self.stack(values, e.span)
            }
            ExprKind::Comprehension {
                element,
                var,
                start,
                end,
            } => self.comprehension(element, var, start, end, e.span),
            ExprKind::Paren(inner) => self.eval(inner),
            ExprKind::Unary { op, operand } => {
                let value = self.eval(operand)?;
                match op {
                    UnaryOp::Neg => self.negate(value, e.span, operand.span),
                    UnaryOp::Not => Ok(match self.truth(&value, operand.span)? {
                        Some(b) => Value::Bool(!b),
                        None => Value::Error,
                    }),
                }
            }
            ExprKind::Chain { first, rest } => {
                let mut left = self.eval(first)?;
                let mut left_span = first.span;
                for link in rest {
                    if matches!(link.op, BinaryOp::And | BinaryOp::Or) {
                        left = self.logic(link.op, left, left_span, &link.operand)?;
                        left_span = left_span.to(link.operand.span);
                        continue;
                    }
                    let right = self.eval(&link.operand)?;
                    let span = left_span.to(link.operand.span);
                    self.step(1, span)?;
                    left = self.binary(
                        link.op,
                        Side(&left, left_span),
                        Side(&right, link.operand.span),
                        span,
                    )?;
                    left_span = span;
                }
                Ok(left)
            }
            ExprKind::Binary { op, lhs, rhs, .. } => {
                let left = self.eval(lhs)?;
                let right = self.eval(rhs)?;
                self.binary(*op, Side(&left, lhs.span), Side(&right, rhs.span), e.span)
            }
            ExprKind::Transpose(inner) => {
                let value = self.eval(inner)?;
                let shape = value.shape();
                if value.is_error() {
                    return Ok(value);
                }
                if shape.len() != 2 {
                    let is = shape_name(&shape);
                    let help = match shape.as_slice() {
                        [n] => format!(
                            "for a row, write `reshape(x, [1, {n}])`; `@` takes vectors as they are"
                        ),
                        _ => "`transpose(x)` turns all axes around".to_owned(),
                    };
                    return Ok(self.report(
                        Diagnostic::error(
                            "E1014",
                            e.span,
                            format!("`'` transposes a matrix, not {is}"),
                            format!("this is {is}"),
                        )
                        .with_help(help),
                    ));
                }
                let perm = [1, 0].into_iter().collect();
                self.apply(TensorOp::Transpose(perm), &[value], e.span)
            }
            ExprKind::Index { base, subscript } => {
                let value = self.eval(base)?;
                self.read(value, subscript, base.span, e.span)
            }
            ExprKind::Call { callee, args } => self.call(callee, args, e.span),
            ExprKind::Error => Ok(Value::Error),
        }
    }

    fn logic(&mut self, op: BinaryOp, left: Value, span: Span, right: &'a Expr) -> Flow<Value> {
        let Some(l) = self.truth(&left, span)? else {
            return Ok(Value::Error);
        };
        if l == (op == BinaryOp::Or) {
            return Ok(Value::Bool(l));
        }
        let value = self.eval(right)?;
        Ok(match self.truth(&value, right.span)? {
            Some(r) => Value::Bool(r),
            None => Value::Error,
        })
    }

    fn negate(&mut self, value: Value, span: Span, operand: Span) -> Flow<Value> {
        Ok(match &value {
            Value::Int(i) => match i.checked_neg() {
                Some(i) => Value::Int(i),
                None => self.overflow(span),
            },
            Value::Real(x) => Value::Real(-x),
            Value::Index(a) => match Affine::default().add_scaled(a, -1) {
                Some(a) => Value::Index(a),
                None => self.overflow(span),
            },
            Value::Bool(_) => self.expected("a number or a tensor", &value, operand),
            Value::Tensor(_) | Value::Run(_) | Value::Error => {
                return self.apply(TensorOp::Neg, &[value], span);
            }
        })
    }

    fn overflow(&mut self, span: Span) -> Value {
        self.report(
            Diagnostic::error(
                "E2004",
                span,
                "an integer leaves the range of 64 bits",
                "this result is too large",
            )
            .with_help(
                "write one operand as a real, `2.0` for `2`, if it is not meant as an index",
            ),
        )
    }

    pub fn binary(&mut self, op: BinaryOp, l: Side, r: Side, span: Span) -> Flow<Value> {
        if l.0.is_error() || r.0.is_error() {
            return Ok(Value::Error);
        }
        match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => {
                self.arithmetic(op, l, r, span)
            }
            BinaryOp::MatMul => self.matmul(l, r, span),
            BinaryOp::Pow => self.power(l, r, span),
            BinaryOp::Rem => self.remainder(l, r, span),
            BinaryOp::Eq
            | BinaryOp::Ne
            | BinaryOp::Lt
            | BinaryOp::Le
            | BinaryOp::Gt
            | BinaryOp::Ge => self.compare(op, l, r, span),
            BinaryOp::And | BinaryOp::Or => {
                let (Some(a), Some(b)) = (self.truth(l.0, l.1)?, self.truth(r.0, r.1)?) else {
                    return Ok(Value::Error);
                };
                Ok(Value::Bool(if op == BinaryOp::And {
                    a && b
                } else {
                    a || b
                }))
            }
        }
    }

    fn arithmetic(&mut self, op: BinaryOp, l: Side, r: Side, span: Span) -> Flow<Value> {
        for side in [l, r] {
            if matches!(side.0, Value::Bool(_)) {
                return Ok(self.expected("a number or a tensor", side.0, side.1));
            }
        }
        if op == BinaryOp::Div
            && let Some(error) = self.bad_divisor(r, span)
        {
            return Ok(error);
        }
        if let (Value::Int(a), Value::Int(b)) = (l.0, r.0) {
            let exact = match op {
                BinaryOp::Add => a.checked_add(*b),
                BinaryOp::Sub => a.checked_sub(*b),
                BinaryOp::Mul => a.checked_mul(*b),
                _ => {
                    // Whole when it comes out whole, else a real.
                    return Ok(match (a.checked_rem(*b), a.checked_div(*b)) {
                        (Some(0), Some(q)) => Value::Int(q),
                        _ => Value::Real(*a as f64 / *b as f64),
                    });
                }
            };
            return Ok(match exact {
                Some(x) => Value::Int(x),
                None => self.overflow(span),
            });
        }
        if let Some((a, b)) = affine(l.0).zip(affine(r.0)) {
            let exact = match op {
                BinaryOp::Add => Some(a.add_scaled(&b, 1)),
                BinaryOp::Sub => Some(a.add_scaled(&b, -1)),
                BinaryOp::Mul => match (a.as_constant(), b.as_constant()) {
                    (Some(k), _) => Some(Affine::default().add_scaled(&b, k)),
                    (_, Some(k)) => Some(Affine::default().add_scaled(&a, k)),
                    _ => None,
                },
                _ => None,
            };
            match exact {
                Some(Some(sum)) => {
                    return Ok(match sum.as_constant() {
                        Some(i) => Value::Int(i),
                        None => Value::Index(sum),
                    });
                }
                Some(None) => return Ok(self.overflow(span)),
                None => {}
            }
        }
        if let (Some(a), Some(b)) = (scalar(l.0), scalar(r.0)) {
            let x = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                _ => a / b,
            };
            return Ok(if x.is_finite() {
                Value::Real(x)
            } else {
                self.not_finite(x, span)
            });
        }
        let (a, b) = (l.0.shape(), r.0.shape());
        let Some(shape) = broadcast(&a, &b) else {
            return Ok(self.unfit(op, (&a, l.1), (&b, r.1), span));
        };
        self.fits(&shape, span)?;
        let run_time = l.0.as_const().is_none() || r.0.as_const().is_none();
        let left = self.spread(l.0, &shape, run_time, l.1)?;
        let right = self.spread(r.0, &shape, run_time, r.1)?;
        let op = match op {
            BinaryOp::Add => TensorOp::Add,
            BinaryOp::Sub => TensorOp::Sub,
            BinaryOp::Mul => TensorOp::Mul,
            _ => TensorOp::Div,
        };
        self.apply(op, &[left, right], span)
    }

    fn bad_divisor(&mut self, r: Side, span: Span) -> Option<Value> {
        if r.0.secrecy() == Secrecy::Secret {
            return Some(self.report(
                Diagnostic::error(
                    "E1020",
                    span,
                    "division by a secret value",
                    "encrypted values can be added and multiplied, not divided by",
                )
                .with_label(r.1, format!("this is {}", r.0.describe()))
                .with_help(
                    "multiply by an approximation of the inverse: `approx(inv, x, on = [0.5, 2], degree = 7)`",
                ),
            ));
        }
        let zero = match r.0 {
            Value::Int(0) => true,
            Value::Real(x) => *x == 0.0,
            Value::Tensor(t) => t.data().contains(&0.0),
            _ => false,
        };
        zero.then(|| {
            self.report(Diagnostic::error(
                "E2005",
                span,
                "division by zero",
                match r.0 {
                    Value::Tensor(_) => "an element of the divisor is 0",
                    _ => "the divisor is 0",
                },
            ))
        })
    }

    /// Reports shapes that do not broadcast, with the nearest thing that would.
    fn unfit(
        &mut self,
        op: BinaryOp,
        (a, a_span): (&Shape, Span),
        (b, b_span): (&Shape, Span),
        span: Span,
    ) -> Value {
        let turned: Shape = b.iter().rev().copied().collect();
        let help = if b.len() == 2 && broadcast(a, &turned).is_some() {
            "transpose the right side: `(…)'`".to_owned()
        } else if a.len() == 2 && b.len() == 1 && a[0] == b[0] {
            format!("make the right side a column: `reshape(…, [{}, 1])`", b[0])
        } else if b.len() == 2 && a.len() == 1 && a[0] == b[0] {
            format!("make the left side a column: `reshape(…, [{}, 1])`", a[0])
        } else if op == BinaryOp::Mul && a.last() == b.first() {
            "`*` works element by element; `@` is the matrix product".to_owned()
        } else {
            "extents are compared from the last one backwards; each pair must be equal, or one of them 1"
                .to_owned()
        };
        let (a, b) = (shape_name(a), shape_name(b));
        self.report(
            Diagnostic::error(
                "E1010",
                span,
                format!("shapes do not fit: {a} {} {b}", op.symbol()),
                "these shapes do not broadcast",
            )
            .with_label(a_span, format!("this is {a}"))
            .with_label(b_span, format!("this is {b}"))
            .with_help(help),
        )
    }

    fn matmul(&mut self, l: Side, r: Side, span: Span) -> Flow<Value> {
        for side in [l, r] {
            if matches!(side.0, Value::Bool(_)) {
                return Ok(self.expected("a matrix or a vector", side.0, side.1));
            }
        }
        let (a, b) = (l.0.shape(), r.0.shape());
        let ranks = matches!(a.len(), 1 | 2) && matches!(b.len(), 1 | 2);
        if ranks && a[a.len() - 1] == b[0] {
            return self.apply(TensorOp::MatMul, &[l.0.clone(), r.0.clone()], span);
        }
        let (left, right) = (shape_name(&a), shape_name(&b));
        let (label, help) = if a.is_empty() || b.is_empty() {
            (
                "`@` takes matrices and vectors".to_owned(),
                "write `*` for the product with a number".to_owned(),
            )
        } else if !ranks {
            (
                "`@` takes matrices and vectors, rank 1 or 2".to_owned(),
                "go over the leading axis: `[x[i] @ y[i] for i in 0..N]`".to_owned(),
            )
        } else {
            let inner = format!(
                "the last extent on the left, {}, is not the first on the right, {}",
                a[a.len() - 1],
                b[0]
            );
            let help = if a.len() == 2 && a[0] == b[0] {
                "transpose the left side: `(…)' @ …`"
            } else if b.len() == 2 && a[a.len() - 1] == b[1] {
                "transpose the right side: `… @ (…)'`"
            } else {
                "[m, k] @ [k, n] is [m, n]; vectors may stand on either side"
            };
            (inner, help.to_owned())
        };
        Ok(self.report(
            Diagnostic::error(
                "E1011",
                span,
                format!("shapes do not fit: {left} @ {right}"),
                label,
            )
            .with_label(l.1, format!("this is {left}"))
            .with_label(r.1, format!("this is {right}"))
            .with_help(help),
        ))
    }

    fn power(&mut self, l: Side, r: Side, span: Span) -> Flow<Value> {
        if matches!(l.0, Value::Bool(_)) {
            return Ok(self.expected("a number or a tensor", l.0, l.1));
        }
        if let Value::Real(x) = r.0
            && x.fract() != 0.0
        {
            return Ok(self.report(
                Diagnostic::error(
                    "E1022",
                    r.1,
                    format!("the exponent is {x:?}"),
                    "an exponent is an integer, 0 or more",
                )
                .with_help("for roots, write `approx(sqrt, x, on = [0.1, 1], degree = 7)`"),
            ));
        }
        let Some(n) = self.int(r.0, r.1, "an exponent")? else {
            return Ok(Value::Error);
        };
        if n < 0 {
            return Ok(self.report(
                Diagnostic::error(
                    "E1022",
                    r.1,
                    format!("the exponent is {n}"),
                    "an exponent is an integer, 0 or more",
                )
                .with_help("divide 1 by the power, or use `approx(inv, x, on = [0.5, 2], degree = 7)` of a secret"),
            ));
        }
        let Ok(n) = u32::try_from(n) else {
            return Ok(self.report(Diagnostic::error(
                "E1022",
                r.1,
                format!("the exponent is {n}"),
                format!("an exponent is at most {}", u32::MAX),
            )));
        };
        match l.0 {
            Value::Int(i) => Ok(match i.checked_pow(n) {
                Some(x) => Value::Int(x),
                None => self.overflow(span),
            }),
            Value::Real(x) => {
                let x = power(*x, n);
                Ok(if x.is_finite() {
                    Value::Real(x)
                } else {
                    self.not_finite(x, span)
                })
            }
            other if n == 1 => Ok(other.clone()),
            other => self.apply(TensorOp::Pow(n), std::slice::from_ref(other), span),
        }
    }

    fn remainder(&mut self, l: Side, r: Side, span: Span) -> Flow<Value> {
        let a = self.int(l.0, l.1, "an operand of `%`")?;
        let b = self.int(r.0, r.1, "an operand of `%`")?;
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(Value::Error);
        };
        if b == 0 {
            return Ok(self.report(Diagnostic::error(
                "E2005",
                span,
                "remainder of a division by zero",
                "the divisor is 0",
            )));
        }
        Ok(match a.checked_rem_euclid(b) {
            Some(x) => Value::Int(x),
            None => Value::Int(0),
        })
    }

    fn compare(&mut self, op: BinaryOp, l: Side, r: Side, span: Span) -> Flow<Value> {
        use std::cmp::Ordering;
        if let (Value::Bool(a), Value::Bool(b)) = (l.0, r.0) {
            match op {
                BinaryOp::Eq => return Ok(Value::Bool(a == b)),
                BinaryOp::Ne => return Ok(Value::Bool(a != b)),
                _ => return Ok(self.expected("a number", l.0, l.1)),
            }
        }
        let order = if let (Value::Int(a), Value::Int(b)) = (l.0, r.0) {
            Some(a.cmp(b))
        } else {
            let a = self.real(l.0, l.1, "an operand of a comparison")?;
            let b = self.real(r.0, r.1, "an operand of a comparison")?;
            match (a, b) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => None,
            }
        };
        let _ = span;
        let Some(order) = order else {
            return Ok(Value::Error);
        };
        Ok(Value::Bool(match op {
            BinaryOp::Eq => order == Ordering::Equal,
            BinaryOp::Ne => order != Ordering::Equal,
            BinaryOp::Lt => order == Ordering::Less,
            BinaryOp::Le => order != Ordering::Greater,
            BinaryOp::Gt => order == Ordering::Greater,
            _ => order != Ordering::Less,
        }))
    }

    // ---- lists ----

    /// `START..END` as compile-time integers with at most the allowed trips; None after an error.
    pub fn range(&mut self, start: &'a Expr, end: &'a Expr) -> Flow<Option<(i64, i64)>> {
        let a = self.eval(start)?;
        let a = self.int(&a, start.span, "a bound of the range")?;
        let b = self.eval(end)?;
        let b = self.int(&b, end.span, "a bound of the range")?;
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(None);
        };
        let trips = (i128::from(b) - i128::from(a)).max(0);
        if trips > i128::from(self.limits.trips) {
            let limit = self.limits.trips;
            self.report(
                Diagnostic::error(
                    "E2011",
                    start.span.to(end.span),
                    format!("{a}..{b} has {trips} iterations, more than {limit}"),
                    "this range is too long",
                )
                .with_help("use operations on whole tensors, or a shorter range"),
            );
            return Err(Stop::Fatal);
        }
        Ok(Some((a, b)))
    }

    fn comprehension(
        &mut self,
        element: &'a Expr,
        var: &'a ast::Ident,
        start: &'a Expr,
        end: &'a Expr,
        span: Span,
    ) -> Flow<Value> {
        let Some((a, b)) = self.range(start, end)? else {
            return Ok(Value::Error);
        };
        if a >= b {
            return Ok(self.report(
                Diagnostic::error(
                    "E2014",
                    start.span.to(end.span),
                    format!("{a}..{b} is empty, and so is this list"),
                    "a list has at least one element",
                )
                .with_help("`A..B` runs from A to B - 1, upwards"),
            ));
        }
        let depth = self.locals.len();
        let said = self.diagnostics.len();
        // Numbers are gathered as such: a value takes many times their room.
        let mut rows = Rows::default();
        for i in a..b {
            self.locals.push(Local {
                name: &var.name,
                value: Value::Int(i),
            });
            self.context
                .push(Context::Iteration(&var.name, i, var.span));
            let value = self.eval(element);
            self.context.pop();
            self.locals.truncate(depth);
            rows.push(value?, element.span);
            if self.diagnostics.len() > said {
                return Ok(Value::Error);
            }
            if rows.data.len() > self.limits.elements {
                self.fits(&[rows.data.len()], span)?;
            }
        }
        if rows.values.is_empty() {
            let mut shape = Shape::from_slice(&[(b - a) as usize]);
            shape.extend_from_slice(&rows.shape);
            self.fits(&shape, span)?;
            return Ok(Value::Tensor(Const::new(shape, rows.data, rows.whole)));
        }
        self.stack(rows.values, span)
    }

    /// Values one above the other, along a new first axis.
    fn stack(&mut self, values: Vec<(Value, Span)>, span: Span) -> Flow<Value> {
        let Some((first, first_span)) = values.first() else {
            return Ok(self.report(
                Diagnostic::error(
                    "E2014",
                    span,
                    "the list is empty",
                    "a list has at least one element",
                )
                .with_help("a list is a tensor, and a tensor has at least one element"),
            ));
        };
        if values.iter().any(|(v, _)| v.is_error()) {
            return Ok(Value::Error);
        }
        let shape = first.shape();
        for (value, at) in &values {
            if matches!(value, Value::Bool(_)) {
                return Ok(self.expected("a number or a tensor", value, *at));
            }
            let other = value.shape();
            if other != shape {
                let (is, wanted) = (shape_name(&other), shape_name(&shape));
                return Ok(self.report(
                    Diagnostic::error(
                        "E1015",
                        *at,
                        format!("the elements of a list differ in shape: {wanted} and {is}"),
                        format!("this is {is}"),
                    )
                    .with_label(*first_span, format!("the first one is {wanted}"))
                    .with_help("all rows of a list need the same extents; `concat` joins pieces of different lengths"),
                ));
            }
        }
        let mut whole_shape = Shape::from_slice(&[values.len()]);
        whole_shape.extend_from_slice(&shape);
        self.fits(&whole_shape, span)?;
        if values.iter().all(|(v, _)| v.as_const().is_some()) {
            self.step(elements(&whole_shape) as u64 / 8, span)?;
            let mut data = Vec::with_capacity(elements(&whole_shape));
            let mut whole = true;
            for (value, _) in &values {
                if let Some(c) = value.as_const() {
                    data.extend_from_slice(c.data());
                    whole &= c.whole();
                }
            }
            return Ok(Value::Tensor(Const::new(whole_shape, data, whole)));
        }
        let mut row = Shape::from_slice(&[1]);
        row.extend_from_slice(&shape);
        let mut rows = Vec::with_capacity(values.len());
        for (value, at) in &values {
            rows.push(self.reshape(value, row.clone(), *at)?);
        }
        if rows.len() == 1 {
            return Ok(rows.swap_remove(0));
        }
        self.apply(TensorOp::Concat(0), &rows, span)
    }

    // ---- indices ----

    /// `base[…]`.
    fn read(
        &mut self,
        base: Value,
        subscript: &'a ast::Subscript,
        base_span: Span,
        span: Span,
    ) -> Flow<Value> {
        if base.is_error() {
            // The indices may hold errors of their own.
            for index in &subscript.indices {
                match index {
                    Index::At(e) => {
                        self.eval(e)?;
                    }
                    Index::Slice { start, end, .. } => {
                        for e in [start, end].into_iter().flatten() {
                            self.eval(e)?;
                        }
                    }
                }
            }
            return Ok(base);
        }
        if matches!(base, Value::Bool(_)) {
            return Ok(self.expected("a tensor", &base, base_span));
        }
        let whole = Block::of(&base.shape());
        let Some(block) = self.refine(whole, subscript, base_span)? else {
            return Ok(Value::Error);
        };
        let shape = block.shape();
        if block.sizes == base.shape() {
            return self.reshape(&base, shape, span);
        }
        if let (Value::Tensor(t), true) = (&base, shape.is_empty()) {
            // An element of a constant: the common case needs no detour.
            let at = block
                .starts
                .iter()
                .zip(t.shape())
                .try_fold(0, |at, (s, n)| {
                    Some(at * n + usize::try_from(s.as_constant()?).ok()?)
                });
            if let Some(x) = at.and_then(|at| t.data().get(at)) {
                return Ok(Value::from_const(Const::scalar(*x, t.whole())));
            }
        }
        let op = TensorOp::Slice {
            starts: block.starts.to_vec(),
            sizes: block.sizes.clone(),
        };
        let value = self.apply(op, &[base], span)?;
        self.reshape(&value, shape, span)
    }

    /// A part of a block: one bracket pair applied to the axes that are left.
    pub fn refine(
        &mut self,
        mut block: Block,
        subscript: &'a ast::Subscript,
        base_span: Span,
    ) -> Flow<Option<Block>> {
        let mut good = true;
        let axes: Vec<usize> = (0..block.kept.len()).filter(|&a| block.kept[a]).collect();
        let shape = block.shape();
        if subscript.indices.len() > axes.len() {
            let is = shape_name(&shape);
            let has = match axes.len() {
                0 => "no axis".to_owned(),
                1 => "one axis".to_owned(),
                n => format!("{n} axes"),
            };
            self.report(
                Diagnostic::error(
                    "E1014",
                    subscript.span,
                    match subscript.indices.len() {
                        1 => format!("an index into {is}"),
                        n => format!("{n} indices into {is}"),
                    },
                    format!("{is} has {has}"),
                )
                .with_label(base_span, format!("this is {is}"))
                .with_help("give one index for each axis, the first axis first"),
            );
            return Ok(None);
        }
        for (index, axis) in subscript.indices.iter().zip(axes) {
            let n = block.sizes[axis] as i64;
            match index {
                Index::At(e) => {
                    let value = self.eval(e)?;
                    let Some(at) = self.place(&value, e.span, "an index")? else {
                        good = false;
                        continue;
                    };
                    if !self.within(&at, 1, n, e.span, &shape, axis) {
                        good = false;
                        continue;
                    }
                    match block.starts[axis].add_scaled(&at, 1) {
                        Some(start) => block.starts[axis] = start,
                        None => {
                            self.overflow(e.span);
                            good = false;
                        }
                    }
                    block.sizes[axis] = 1;
                    block.kept[axis] = false;
                }
                Index::Slice { start, end, span } => {
                    let from = match start {
                        Some(e) => {
                            let v = self.eval(e)?;
                            self.place(&v, e.span, "a bound of a slice")?
                        }
                        None => Some(Affine::constant(0)),
                    };
                    let to = match end {
                        Some(e) => {
                            let v = self.eval(e)?;
                            self.place(&v, e.span, "a bound of a slice")?
                        }
                        None => Some(Affine::constant(n)),
                    };
                    let (Some(from), Some(to)) = (from, to) else {
                        good = false;
                        continue;
                    };
                    let Some(length) = to.add_scaled(&from, -1) else {
                        self.overflow(*span);
                        good = false;
                        continue;
                    };
                    let Some(length) = length.as_constant() else {
                        return Err(Stop::Unroll(
                            *span,
                            "the length of this slice depends on the loop",
                        ));
                    };
                    if length <= 0 {
                        self.report(
                            Diagnostic::error(
                                "E2014",
                                *span,
                                "the slice is empty",
                                format!("it has {} elements", length.min(0)),
                            )
                            .with_help("`a..b` takes the elements a, a + 1, …, b - 1"),
                        );
                        good = false;
                        continue;
                    }
                    if !self.within(&from, length, n, *span, &shape, axis) {
                        good = false;
                        continue;
                    }
                    match block.starts[axis].add_scaled(&from, 1) {
                        Some(start) => block.starts[axis] = start,
                        None => {
                            self.overflow(*span);
                            good = false;
                        }
                    }
                    block.sizes[axis] = length as usize;
                }
            }
        }
        Ok(good.then_some(block))
    }

    /// Whether `length` elements from `at` lie within an axis of `n` in all iterations; reports if not.
    fn within(
        &mut self,
        at: &Affine,
        length: i64,
        n: i64,
        span: Span,
        shape: &Shape,
        axis: usize,
    ) -> bool {
        let (lo, hi) = self.bounds(at);
        let room = i128::from(n) - i128::from(length);
        if lo >= 0 && hi <= room {
            return true;
        }
        let is = shape_name(shape);
        let last = n - 1;
        let elements = if n == 1 {
            "the only index is 0".to_owned()
        } else {
            format!("indices run from 0 to {last}")
        };
        let low = lo < 0;
        let shown = if low { lo } else { hi + i128::from(length) - 1 };
        // The first iteration that leaves, where one loop decides it.
        let (shown, place) = match at.terms.as_slice() {
            [] => (shown, None),
            [(iv, factor)] => match self.induction(*iv) {
                Some(ind) => {
                    let value = |i: i128| i128::from(at.constant) + i128::from(*factor) * i;
                    let leaves = |i: i128| value(i) < 0 || value(i) > room;
                    let first = i128::from(ind.first);
                    let end = first + i128::from(ind.trips) - 1;
                    let i = if leaves(first) {
                        first
                    } else {
                        // Leaving happens once on the way: bisection.
                        let (mut a, mut b) = (first, end);
                        while a + 1 < b {
                            let mid = a + (b - a) / 2;
                            if leaves(mid) { b = mid } else { a = mid }
                        }
                        b
                    };
                    let v = value(i);
                    let v = if v < 0 { v } else { v + i128::from(length) - 1 };
                    (
                        v,
                        Some((ind.span, format!("in the iteration {} = {i}", ind.name))),
                    )
                }
                None => (shown, None),
            },
            terms => {
                let corner: Vec<String> = terms
                    .iter()
                    .filter_map(|(iv, factor)| {
                        let ind = self.induction(*iv)?;
                        // The corner of the iterations where the index is least, or greatest.
                        let i = if (*factor > 0) == low {
                            i128::from(ind.first)
                        } else {
                            i128::from(ind.first) + i128::from(ind.trips) - 1
                        };
                        Some(format!("{} = {i}", ind.name))
                    })
                    .collect();
                let span = terms
                    .last()
                    .and_then(|(iv, _)| self.induction(*iv))
                    .map(|i| i.span);
                (
                    shown,
                    span.map(|s| (s, format!("in the iteration {}", corner.join(", ")))),
                )
            }
        };
        let mut d = Diagnostic::error(
            "E2006",
            span,
            format!("index {shown} is out of bounds"),
            format!("axis {axis} of {is} has {n} elements: {elements}"),
        );
        if let Some((at, text)) = place {
            d = d.with_label(at, text);
        }
        let help = if shown < 0 {
            format!("indices start at 0; the last element is `[{last}]`")
        } else {
            "the end of a range does not belong to it: `for i in 0..len(x)` fits".to_owned()
        };
        self.report(d.with_help(help));
        false
    }

    // ---- calls ----

    fn call(&mut self, callee: &'a ast::Ident, args: &'a [ast::Arg], span: Span) -> Flow<Value> {
        match target(self.names, self.unit, self.inside, &callee.name) {
            Target::BuiltIn => self.builtin(callee, args, span),
            Target::None => {
                for arg in args {
                    self.eval(&arg.value)?;
                }
                Ok(Value::Error)
            }
            Target::Fn(f) => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    if let Some(key) = &arg.key {
                        self.report(
                            Diagnostic::error(
                                "E1006",
                                arg.span,
                                format!("`{}` takes no named arguments", callee.name),
                                "named here",
                            )
                            .with_help(format!("leave out `{} =`", key.name)),
                        );
                    }
                    values.push(self.eval(&arg.value)?);
                }
                self.call_fn(f, values, callee.span, span)
            }
        }
    }

    /// A user's function with these arguments.
    pub fn call_fn(&mut self, f: usize, args: Vec<Value>, callee: Span, span: Span) -> Flow<Value> {
        let (unit, item) = self.names.fns[f];
        let names = |n: usize| {
            if n == 1 {
                "1 argument".to_owned()
            } else {
                format!("{n} arguments")
            }
        };
        if args.len() != item.params.len() {
            let list: Vec<&str> = item.params.iter().map(|p| p.name.as_str()).collect();
            return Ok(self.report(
                Diagnostic::error(
                    "E1006",
                    span,
                    format!(
                        "`{}` takes {}, not {}",
                        item.name.name,
                        names(item.params.len()),
                        args.len()
                    ),
                    format!("{} here", names(args.len())),
                )
                .with_label(item.name.span, "it is defined here")
                .with_help(format!(
                    "write `{}({})`",
                    item.name.name,
                    list.join(", ")
                )),
            ));
        }
        if self.facts.recursive.contains(&f) {
            return Ok(Value::Error);
        }
        self.enter(span)?;
        let saved = (self.base, self.unit, self.inside);
        let returned = self.returned.take();
        self.base = self.locals.len();
        (self.unit, self.inside) = (unit, Some(f));
        self.context.push(Context::Call(&item.name.name, callee));
        for (param, value) in item.params.iter().zip(args) {
            self.locals.push(Local {
                name: &param.name,
                value,
            });
        }
        let said = self.diagnostics.len();
        let result = match &item.body {
            ast::FnBody::Expr(e) => self.eval(e),
            ast::FnBody::Block(b) => self.statements(b).map(|()| {
                let mut values = self.returned.take().unwrap_or_default();
                if values.len() > 1 {
                    self.report(
                        Diagnostic::error(
                            "E1032",
                            values[0].1.to(values[values.len() - 1].1),
                            "a function returns one value",
                            format!("{} values here", values.len()),
                        )
                        .with_help("stack values of one shape with `[a, b]`, or write one function for each"),
                    );
                    return Value::Error;
                }
                match values.pop() {
                    Some((value, _)) => value,
                    None => {
                        if self.diagnostics.len() == said {
                            self.report(
                                Diagnostic::error(
                                    "E1032",
                                    item.name.span,
                                    format!("`{}` returns nothing", item.name.name),
                                    "its body has no `return`",
                                )
                                .with_help("end the body with `return EXPR;`"),
                            );
                        }
                        Value::Error
                    }
                }
            }),
        };
        self.abandoned = false;
        self.context.pop();
        self.locals.truncate(self.base);
        (self.base, self.unit, self.inside) = saved;
        self.returned = returned;
        self.depth -= 1;
        result
    }
}

/// The elements of a list while they come in.
#[derive(Default)]
struct Rows {
    /// Compile-time elements of one shape, while there are no others.
    data: Vec<f64>,
    shape: Shape,
    whole: bool,
    /// All elements, from the first one that is not of that kind on.
    values: Vec<(Value, Span)>,
}

impl Rows {
    fn push(&mut self, value: Value, span: Span) {
        if self.values.is_empty() {
            let constant = value.as_const();
            if self.data.is_empty()
                && let Some(c) = &constant
            {
                (self.shape, self.whole) = (c.shape().clone(), true);
            }
            if let Some(c) = constant.filter(|c| *c.shape() == self.shape) {
                self.data.extend_from_slice(c.data());
                self.whole &= c.whole();
                return;
            }
            for row in self.data.chunks(elements(&self.shape).max(1)) {
                let row = Const::new(self.shape.clone(), row.to_vec(), self.whole);
                self.values.push((Value::from_const(row), span));
            }
            self.data = Vec::new();
        }
        self.values.push((value, span));
    }
}

/// An operand with its place.
#[derive(Clone, Copy)]
pub(crate) struct Side<'v>(pub &'v Value, pub Span);

/// A rectangular part of a tensor.
#[derive(Clone)]
pub(crate) struct Block {
    pub starts: Vec<Affine>,
    pub sizes: Shape,
    /// Which axes are left; the others were indexed with one number.
    pub kept: Vec<bool>,
}

impl Block {
    pub fn of(shape: &Shape) -> Block {
        Block {
            starts: vec![Affine::constant(0); shape.len()],
            sizes: shape.clone(),
            kept: vec![true; shape.len()],
        }
    }

    /// The extents of the axes that are left.
    pub fn shape(&self) -> Shape {
        self.sizes
            .iter()
            .zip(&self.kept)
            .filter(|(_, kept)| **kept)
            .map(|(n, _)| *n)
            .collect()
    }
}

fn affine(value: &Value) -> Option<Affine> {
    match value {
        Value::Int(i) => Some(Affine::constant(*i)),
        Value::Index(a) => Some(a.clone()),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Real(x) => Some(*x),
        _ => None,
    }
}
