//! What can be told of names without evaluating anything, also in code that is never reached:
//! undefined and duplicate names, recursion, assignments to what is no variable, unused bindings.

use hecc_ir::diag::Diagnostic;
use hecc_ir::span::Span;
use rustc_hash::FxHashSet;

use super::builtins;
use super::program::{Item, Names, Unit, find_cycles};
use crate::ast::{self, ExprKind, Ident, Index, StmtKind};
use crate::suggest::nearest;

/// What the evaluation needs to know beforehand.
pub(crate) struct Facts {
    /// Functions that call themselves; they are never called.
    pub recursive: FxHashSet<usize>,
}

pub(crate) fn resolve(units: &[Unit], names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Facts {
    let mut calls = Vec::new();
    for (at, (unit, f)) in names.fns.iter().enumerate() {
        let mut r = Resolver::new(*unit, names, diagnostics);
        r.inside = Some(at);
        for p in &f.params {
            r.bind(p, Kind::Param);
        }
        match &f.body {
            ast::FnBody::Expr(e) => r.expr(e),
            // The body's own block: it may not bind a parameter's name again.
            ast::FnBody::Block(b) => r.statements(b),
        }
        r.close(0);
        calls.push(r.calls);
    }
    for (unit, c) in &names.consts {
        let mut r = Resolver::new(*unit, names, diagnostics);
        c.ty.iter().for_each(|t| r.ty(t));
        r.expr(&c.value);
    }
    for (unit, u) in units.iter().enumerate() {
        for item in &u.ast.items {
            if let ast::Item::Circuit(c) = item {
                let mut r = Resolver::new(unit, names, diagnostics);
                r.circuit(c);
            }
        }
    }
    let edges: Vec<Vec<usize>> = calls
        .iter()
        .map(|c| c.iter().map(|(to, _)| *to).collect())
        .collect();
    let mut recursive = FxHashSet::default();
    for cycle in find_cycles(&edges) {
        let name = |f: usize| names.fns[f].1.name.name.as_str();
        let mut chain: Vec<&str> = cycle.iter().map(|&f| name(f)).collect();
        chain.push(name(cycle[0]));
        let call = |from: usize, to: usize| {
            calls[from]
                .iter()
                .find(|(f, _)| *f == to)
                .map_or(names.fns[from].1.name.span, |(_, span)| *span)
        };
        let last = cycle[cycle.len() - 1];
        let mut d = Diagnostic::error(
            "E1004",
            call(last, cycle[0]),
            format!("`{}` calls itself: {}", name(cycle[0]), chain.join(" -> ")),
            "functions are inlined, so this would never end",
        )
        .with_help("write the repetition as `for i in A..B { … }`");
        for pair in cycle.windows(2) {
            d = d.with_label(
                call(pair[0], pair[1]),
                format!("`{}` calls `{}` here", name(pair[0]), name(pair[1])),
            );
        }
        diagnostics.push(d);
        recursive.extend(cycle);
    }
    Facts { recursive }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Param,
    Let,
    Var,
    Loop,
}

struct Local<'a> {
    name: &'a Ident,
    kind: Kind,
    used: bool,
    depth: usize,
}

struct Resolver<'a, 'd> {
    unit: usize,
    names: &'a Names<'a>,
    diagnostics: &'d mut Vec<Diagnostic>,
    locals: Vec<Local<'a>>,
    depth: usize,
    /// The function whose body this is.
    inside: Option<usize>,
    calls: Vec<(usize, Span)>,
}

impl<'a, 'd> Resolver<'a, 'd> {
    fn new(unit: usize, names: &'a Names<'a>, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        Resolver {
            unit,
            names,
            diagnostics,
            locals: Vec::new(),
            depth: 0,
            inside: None,
            calls: Vec::new(),
        }
    }

    fn circuit(&mut self, c: &'a ast::Circuit) {
        for a in &c.attributes {
            self.attribute(a);
        }
        for p in &c.params {
            self.ty(&p.ty);
            self.range(p.range.as_ref());
        }
        let mut seen: Vec<&Ident> = Vec::new();
        for o in &c.outputs {
            self.ty(&o.ty);
            self.range(o.range.as_ref());
            if let Some(first) = seen.iter().find(|s| s.name == o.name.name) {
                self.diagnostics
                    .push(duplicate(&o.name, first.span, "output"));
            }
            seen.push(&o.name);
        }
        for p in &c.params {
            self.bind(&p.name, Kind::Param);
        }
        self.statements(&c.body);
        self.close(0);
    }

    fn attribute(&mut self, a: &'a ast::Attribute) {
        for arg in &a.args {
            // Bare words such as `full` and `off` are no names.
            let word = arg.key.is_none() && matches!(a.name.name.as_str(), "unroll" | "pipeline");
            if !(word && matches!(&arg.value.kind, ExprKind::Name(n) if n == "full" || n == "off"))
            {
                self.expr(&arg.value);
            }
        }
    }

    fn ty(&mut self, t: &'a ast::Type) {
        t.dims.iter().for_each(|d| self.expr(d));
    }

    fn range(&mut self, r: Option<&'a ast::Range>) {
        if let Some(r) = r {
            self.expr(&r.lo);
            self.expr(&r.hi);
        }
    }

    fn bind(&mut self, name: &'a Ident, kind: Kind) {
        if let Some(first) = self
            .locals
            .iter()
            .find(|l| l.depth == self.depth && l.name.name == name.name)
        {
            let span = first.name.span;
            self.diagnostics.push(duplicate(name, span, "name"));
        }
        self.locals.push(Local {
            name,
            kind,
            used: false,
            depth: self.depth,
        });
    }

    /// Forgets the locals from `from` on; says which of them nobody used.
    fn close(&mut self, from: usize) {
        for local in self.locals.drain(from..) {
            let what = match local.kind {
                Kind::Param => "parameter",
                Kind::Let => "value",
                Kind::Var => "variable",
                Kind::Loop => continue,
            };
            if !local.used && !local.name.name.starts_with('_') {
                self.diagnostics.push(
                    Diagnostic::warning(
                        "W1001",
                        local.name.span,
                        format!("the {what} `{}` is never used", local.name.name),
                        "nothing reads it",
                    )
                    .with_help(format!(
                        "remove it, or call it _{} if that is meant",
                        local.name.name
                    )),
                );
            }
        }
    }

    fn block(&mut self, b: &'a ast::Block) {
        let from = self.locals.len();
        self.depth += 1;
        self.statements(b);
        self.depth -= 1;
        self.close(from);
    }

    fn statements(&mut self, b: &'a ast::Block) {
        for s in &b.stmts {
            for a in &s.attributes {
                self.attribute(a);
            }
            match &s.kind {
                StmtKind::Let { name, range, value } => {
                    self.range(range.as_ref());
                    self.expr(value);
                    self.bind(name, Kind::Let);
                }
                StmtKind::Var { name, value } => {
                    self.expr(value);
                    self.bind(name, Kind::Var);
                }
                StmtKind::Assign {
                    name,
                    subscripts,
                    value,
                } => {
                    self.assigned(name);
                    subscripts.iter().for_each(|s| self.subscript(s));
                    self.expr(value);
                }
                StmtKind::For(f) => {
                    self.expr(&f.start);
                    self.expr(&f.end);
                    let from = self.locals.len();
                    self.depth += 1;
                    self.bind(&f.var, Kind::Loop);
                    self.depth -= 1;
                    self.block(&f.body);
                    self.close(from);
                }
                StmtKind::If(i) => {
                    for (cond, block) in &i.branches {
                        self.expr(cond);
                        self.block(block);
                    }
                    i.otherwise.iter().for_each(|b| self.block(b));
                }
                StmtKind::Return { values } => values.iter().for_each(|v| self.expr(v)),
                StmtKind::Assert { cond, .. } => self.expr(cond),
            }
        }
    }

    fn assigned(&mut self, name: &'a Ident) {
        let local = self.locals.iter().rev().find(|l| l.name.name == name.name);
        let (what, first) = match local {
            Some(l) if l.kind == Kind::Var => return,
            Some(l) => (
                match l.kind {
                    Kind::Param => "a parameter",
                    Kind::Loop => "a loop variable",
                    Kind::Let | Kind::Var => "bound by `let`",
                },
                l.name.span,
            ),
            None => match self.names.lookup(self.unit, &name.name) {
                Some(Item::Const(c)) => ("a constant", self.names.consts[c].1.name.span),
                Some(Item::Fn(f)) => ("a function", self.names.fns[f].1.name.span),
                None => {
                    self.undefined(&name.name, name.span);
                    return;
                }
            },
        };
        let bound_by_let = what == "bound by `let`";
        let help = if bound_by_let {
            format!("declare it with `var {} = …;`", name.name)
        } else {
            format!("copy it into a variable: `var v = {};`", name.name)
        };
        self.diagnostics.push(
            Diagnostic::error(
                "E1005",
                name.span,
                format!("cannot assign to `{}`", name.name),
                format!("it is {what}; only a `var` can be assigned"),
            )
            .with_label(first, "it is defined here")
            .with_help(help),
        );
    }

    fn subscript(&mut self, s: &'a ast::Subscript) {
        for index in &s.indices {
            match index {
                Index::At(e) => self.expr(e),
                Index::Slice { start, end, .. } => {
                    start.iter().for_each(|e| self.expr(e));
                    end.iter().for_each(|e| self.expr(e));
                }
            }
        }
    }

    fn expr(&mut self, e: &'a ast::Expr) {
        match &e.kind {
            ExprKind::Int(_) | ExprKind::Real(_) | ExprKind::Str(_) | ExprKind::Error => {}
            ExprKind::Name(name) => self.name(name, e.span),
            ExprKind::List(items) => items.iter().for_each(|i| self.expr(i)),
            ExprKind::Comprehension {
                element,
                var,
                start,
                end,
            } => {
                self.expr(start);
                self.expr(end);
                let from = self.locals.len();
                self.depth += 1;
                self.bind(var, Kind::Loop);
                self.expr(element);
                self.depth -= 1;
                self.close(from);
            }
            ExprKind::Paren(inner) | ExprKind::Transpose(inner) => self.expr(inner),
            ExprKind::Unary { operand, .. } => self.expr(operand),
            ExprKind::Chain { first, rest } => {
                self.expr(first);
                rest.iter().for_each(|l| self.expr(&l.operand));
            }
            ExprKind::Binary { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            ExprKind::Index { base, subscript } => {
                self.expr(base);
                self.subscript(subscript);
            }
            ExprKind::Call { callee, args } => self.call(callee, args),
        }
    }

    fn call(&mut self, callee: &'a Ident, args: &'a [ast::Arg]) {
        self.callee(&callee.name, callee.span);
        let mut args = args.iter();
        if callee.name == "approx" {
            let first = args.as_slice().first();
            if let Some(ast::Expr {
                kind: ExprKind::Name(f),
                span,
            }) = first.filter(|a| a.key.is_none()).map(|a| &a.value)
            {
                args.next();
                self.callee(f, *span);
            }
        }
        for arg in args {
            let method =
                callee.name == "approx" && arg.key.as_ref().is_some_and(|k| k.name == "method");
            if !method {
                self.expr(&arg.value);
            }
        }
    }

    /// A name that is called, or handed to `approx`.
    fn callee(&mut self, name: &'a str, span: Span) {
        match target(self.names, self.unit, self.inside, name) {
            Target::Fn(f) => self.calls.push((f, span)),
            Target::BuiltIn => {}
            Target::None => {
                let is_value = self.locals.iter().any(|l| l.name.name == name)
                    || self.names.lookup(self.unit, name).is_some();
                if is_value {
                    if let Some(l) = self.locals.iter_mut().rev().find(|l| l.name.name == name) {
                        l.used = true;
                    }
                    self.diagnostics.push(
                        Diagnostic::error(
                            "E1007",
                            span,
                            format!("`{name}` is a value, not a function"),
                            "called here",
                        )
                        .with_help(format!(
                            "write `{name} * (…)` for a product, `{name}[…]` for an element"
                        )),
                    );
                    return;
                }
                let mut known = self.names.seen_by(self.unit, true);
                known.extend(builtins::all_names());
                let help = nearest(name, known).map(|n| format!("did you mean `{n}`?"));
                let mut d = Diagnostic::error(
                    "E1002",
                    span,
                    format!("there is no function `{name}`"),
                    "called here",
                );
                d.help = help.or_else(|| Some(format!("define it: `fn {name}(x) = …;`")));
                self.diagnostics.push(d);
            }
        }
    }

    fn name(&mut self, name: &str, span: Span) {
        if let Some(local) = self.locals.iter_mut().rev().find(|l| l.name.name == name) {
            local.used = true;
            return;
        }
        let is_fn = match self.names.lookup(self.unit, name) {
            Some(Item::Const(_)) => return,
            Some(Item::Fn(_)) => true,
            None => builtins::is_builtin(name),
        };
        if is_fn {
            self.diagnostics.push(
                Diagnostic::error(
                    "E1007",
                    span,
                    format!("`{name}` is a function, not a value"),
                    "used as a value here",
                )
                .with_help(format!("call it: `{name}(…)`")),
            );
            return;
        }
        self.undefined(name, span);
    }

    fn undefined(&mut self, name: &str, span: Span) {
        let mut known: Vec<&str> = self
            .locals
            .iter()
            .rev()
            .map(|l| l.name.name.as_str())
            .collect();
        known.extend(self.names.seen_by(self.unit, false));
        let mut d = Diagnostic::error(
            "E1001",
            span,
            format!("`{name}` is not defined"),
            "not found here",
        );
        d.help = match nearest(name, known) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => Some(format!(
                "define it before: `let {name} = …;`, or at the top of the file: `const {name} = …;`"
            )),
        };
        self.diagnostics.push(d);
    }
}

/// What a called name means.
pub(crate) enum Target {
    Fn(usize),
    BuiltIn,
    None,
}

/// What `name(…)` calls inside the function `inside`. A user's function wins over the mathematical
/// functions of the same name, except within itself: there `tanh` is what it wraps.
pub(crate) fn target(names: &Names, unit: usize, inside: Option<usize>, name: &str) -> Target {
    let built_in = builtins::is_builtin(name);
    match names.lookup(unit, name) {
        Some(Item::Fn(f)) if !(built_in && Some(f) == inside) => Target::Fn(f),
        _ if built_in => Target::BuiltIn,
        _ => Target::None,
    }
}

fn duplicate(name: &Ident, first: Span, what: &str) -> Diagnostic {
    Diagnostic::error(
        "E1003",
        name.span,
        format!("the {what} `{}` is defined more than once", name.name),
        "defined again here",
    )
    .with_label(first, "it is first defined here")
    .with_help("choose another name for one of the two")
}
