//! Statements and circuits. A loop is lowered as a loop where its body is uniform, else unrolled.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{CircuitId, Module};
use hecc_ir::span::Span;
use hecc_ir::tensor::{
    Affine, IvId, Param, ResultDecl, Secrecy, Shape, Tensor, TensorMeta, TensorOp, TensorType,
    Unroll, broadcast, shape_name,
};

use super::attributes::LoopAttributes;
use super::expr::{Block, Checker, Context, Flow, Local, Stop};
use super::frames::{Frame, Induction};
use super::value::{Run, Value};
use crate::ast::{self, StmtKind};

/// What is undone when a loop turns out not to be uniform.
struct Snapshot {
    frames: usize,
    bodies: usize,
    next_iv: u32,
    nodes: usize,
    diagnostics: usize,
    warnings: usize,
    notes: usize,
    depth: usize,
    context: usize,
    locals: usize,
    scope: (usize, usize, Option<usize>, bool),
}

impl<'a> Checker<'a> {
    /// Lowers one circuit.
    pub(crate) fn circuit(&mut self, c: &'a ast::Circuit) -> Flow<Module<Tensor>> {
        match self.circuit_body(c) {
            Err(Stop::Unroll(span, why)) => {
                self.report(Diagnostic::error(
                    "E1021",
                    span,
                    "this must be known at compile time",
                    why,
                ));
                Err(Stop::Fatal)
            }
            other => other,
        }
    }

    fn circuit_body(&mut self, c: &'a ast::Circuit) -> Flow<Module<Tensor>> {
        self.compile_time = true;
        self.notes.clear();
        let mut meta = self.circuit_attributes(c)?;
        meta.span = c.span;
        let mut params = Vec::new();
        for p in &c.params {
            let shape = self.shape_of_type(&p.ty)?;
            let range = self.interval(p.range.as_ref())?;
            params.push((p, shape, range));
        }
        let mut outputs = Vec::new();
        for o in &c.outputs {
            let shape = self.shape_of_type(&o.ty)?;
            let range = self.interval(o.range.as_ref())?;
            outputs.push((o, shape, range));
        }
        self.compile_time = false;
        let mut notes = Vec::new();
        self.open_circuit(&c.name.name, meta);
        for (p, shape, range) in params {
            let secrecy = match p.secrecy {
                ast::Secrecy::Secret => Secrecy::Secret,
                ast::Secrecy::Public => Secrecy::Public,
            };
            if p.range.is_none() {
                let text = format!(
                    "`{}` has no declared range: [-1, 1] is assumed",
                    p.name.name
                );
                notes.push((p.span, text.clone()));
                let mut note =
                    Diagnostic::warning("W1002", p.span, text, "no range is declared here")
                        .with_help(format!(
                            "declare what its elements may be: `{}: … in [-1, 1]`",
                            p.name.name
                        ));
                note.severity = hecc_ir::diag::Severity::Note;
                self.warnings.push(note);
            }
            let value = match shape {
                Some(shape) => {
                    let param = Param {
                        name: p.name.name.clone(),
                        secrecy,
                        shape: shape.clone(),
                        range,
                        span: p.span,
                    };
                    let id = self.frames[0].parameter(param);
                    Value::Run(Run {
                        frame: 0,
                        id,
                        shape,
                        secrecy,
                        uniform_only: false,
                    })
                }
                None => Value::Error,
            };
            self.locals.push(Local {
                name: &p.name.name,
                value,
            });
        }
        self.statements(&c.body)?;
        let values = self.returned.take().unwrap_or_default();
        if self.abandoned || values.iter().any(|(v, _)| v.is_error()) {
            // Whatever was wrong has been said.
            return Err(Stop::Fatal);
        }
        if values.len() != outputs.len() {
            let (is, wanted) = (values.len(), outputs.len());
            let span = match values.as_slice() {
                [] => c.name.span,
                [(_, first), .., (_, last)] => first.to(*last),
                [(_, only)] => *only,
            };
            let names: Vec<&str> = outputs.iter().map(|(o, ..)| o.name.name.as_str()).collect();
            let help = match names.as_slice() {
                [one] => format!("write `return {one};`"),
                several => format!("write `return ({});`", several.join(", ")),
            };
            self.report(
                Diagnostic::error(
                    "E1032",
                    span,
                    format!(
                        "`{}` has {}, but {is} returned",
                        c.name.name,
                        if wanted == 1 {
                            "1 output".to_owned()
                        } else {
                            format!("{wanted} outputs")
                        },
                        is = if is == 1 {
                            "1 value is".to_owned()
                        } else {
                            format!("{is} values are")
                        },
                    ),
                    format!("{is} here"),
                )
                .with_label(
                    outputs.first().map_or(c.span, |(o, ..)| o.span),
                    "the outputs are declared here",
                )
                .with_help(help),
            );
            return Err(Stop::Fatal);
        }
        for ((value, span), (o, shape, range)) in values.into_iter().zip(outputs) {
            let Some(shape) = shape else {
                continue;
            };
            if value.is_error() {
                continue;
            }
            if matches!(value, Value::Bool(_)) {
                self.expected("a number or a tensor", &value, span);
                continue;
            }
            if value.shape() != shape {
                let (is, wanted) = (shape_name(&value.shape()), shape_name(&shape));
                self.report(
                    Diagnostic::error(
                        "E1012",
                        span,
                        format!(
                            "the output `{}` is declared as {wanted}, but {is} is returned",
                            o.name.name
                        ),
                        format!("this is {is}"),
                    )
                    .with_label(o.ty.span, format!("declared as {wanted} here"))
                    .with_help(format!("write `{}: {is}`", o.name.name)),
                );
                continue;
            }
            let id = self.node(&value, span)?;
            self.frames[0].circuit.outputs.push((
                id,
                ResultDecl {
                    name: o.name.name.clone(),
                    range,
                    span: o.span,
                },
            ));
        }
        notes.append(&mut self.notes);
        notes.sort_by_key(|(span, _)| (span.file, span.start));
        notes.dedup();
        let Some(mut frame) = self.frames.pop() else {
            return Err(Stop::Fatal);
        };
        frame.circuit.meta.notes = notes;
        let fixed = frame.circuit.inputs.len();
        let (circuit, _) = frame.finish(fixed);
        let mut circuits = std::mem::take(&mut self.bodies);
        circuits.push(circuit);
        let entry = CircuitId(circuits.len() as u32 - 1);
        Ok(Module { circuits, entry })
    }

    /// The statements of a block, in the scope of the caller.
    pub(crate) fn statements(&mut self, block: &'a ast::Block) -> Flow<()> {
        for s in &block.stmts {
            self.step(1, s.span)?;
            self.statement(s)?;
            if self.abandoned {
                break;
            }
        }
        Ok(())
    }

    /// The statements of a block in a scope of their own.
    fn block(&mut self, block: &'a ast::Block) -> Flow<()> {
        let depth = self.locals.len();
        self.enter(block.span)?;
        let result = self.statements(block);
        self.depth -= 1;
        self.locals.truncate(depth);
        result
    }

    fn statement(&mut self, s: &'a ast::Stmt) -> Flow<()> {
        match &s.kind {
            StmtKind::Let { name, range, value } => {
                let declared = self.interval(range.as_ref())?;
                let mut bound = self.eval(value)?;
                if let (Some(declared), Some(range)) = (declared, range) {
                    bound = self.declare(bound, declared, range.span, name, value.span)?;
                }
                if s.attributes.iter().any(|a| a.name.name == "keep")
                    && matches!(bound, Value::Run(_))
                {
                    let id = self.node(&bound, value.span)?;
                    if let Some(frame) = self.frames.last_mut() {
                        frame.circuit.graph.set_keep(id);
                    }
                }
                self.locals.push(Local {
                    name: &name.name,
                    value: bound,
                });
            }
            StmtKind::Var { name, value } => {
                let value = self.eval(value)?;
                self.locals.push(Local {
                    name: &name.name,
                    value,
                });
            }
            StmtKind::Assign {
                name,
                subscripts,
                value,
            } => self.assign(name, subscripts, value)?,
            StmtKind::For(f) => {
                let attributes = self.loop_attributes(s)?;
                self.for_loop(f, attributes)?;
            }
            StmtKind::If(i) => {
                for (cond, block) in &i.branches {
                    let value = self.eval(cond)?;
                    match self.truth(&value, cond.span)? {
                        Some(true) => return self.block(block),
                        Some(false) => {}
                        None => {
                            for (_, block) in &i.branches {
                                self.spoil(block);
                            }
                            i.otherwise.iter().for_each(|b| self.spoil(b));
                            return Ok(());
                        }
                    }
                }
                if let Some(block) = &i.otherwise {
                    self.block(block)?;
                }
            }
            StmtKind::Return { values } => {
                let mut out = Vec::with_capacity(values.len());
                for value in values {
                    out.push((self.eval(value)?, value.span));
                }
                self.returned = Some(out);
            }
            StmtKind::Assert { cond, message } => {
                let value = self.eval(cond)?;
                if self.truth(&value, cond.span)? == Some(false) {
                    let text = match message {
                        Some(m) => format!("assertion failed: {}", m.value),
                        None => "assertion failed".to_owned(),
                    };
                    self.report(Diagnostic::error(
                        "E2007",
                        cond.span,
                        text,
                        "this does not hold",
                    ));
                    // What follows relies on it.
                    self.abandoned = true;
                }
            }
        }
        Ok(())
    }

    /// Declares the range of a value's elements.
    fn declare(
        &mut self,
        value: Value,
        range: hecc_ir::graph::Interval,
        span: Span,
        name: &ast::Ident,
        at: Span,
    ) -> Flow<Value> {
        if let Some(c) = value.as_const() {
            if let Some(x) = c.data().iter().find(|x| !range.contains(**x, 0.0)) {
                let (x, lo, hi) = (*x, range.lo, range.hi);
                return Ok(self.report(
                    Diagnostic::error(
                        "E1030",
                        at,
                        format!("`{}` has the element {x:?}, outside its range", name.name),
                        format!("{x:?} is not in [{lo:?}, {hi:?}]"),
                    )
                    .with_label(span, "the range is declared here")
                    .with_help(format!(
                        "write `in [{:?}, {:?}]`",
                        lo.min(x),
                        hi.max(x)
                    )),
                ));
            }
            return Ok(value);
        }
        match &value {
            Value::Run(run) => {
                let id = self.node(&value, at)?;
                let here = self.frames.len() - 1;
                if let Some(frame) = self.frames.last_mut() {
                    frame.circuit.graph.declare(id, range);
                }
                Ok(Value::Run(Run {
                    frame: here,
                    id,
                    ..run.clone()
                }))
            }
            Value::Bool(_) => Ok(self.expected("a number or a tensor", &value, at)),
            _ => Ok(value),
        }
    }

    fn find_local(&self, name: &str) -> Option<usize> {
        self.locals[self.base..]
            .iter()
            .rposition(|l| l.name == name)
            .map(|i| i + self.base)
    }

    fn assign(
        &mut self,
        name: &'a ast::Ident,
        subscripts: &'a [ast::Subscript],
        value: &'a ast::Expr,
    ) -> Flow<()> {
        let new = self.eval(value)?;
        // A name that is no variable has been reported by the resolver.
        let Some(local) = self.find_local(&name.name) else {
            return Ok(());
        };
        if subscripts.is_empty() {
            self.locals[local].value = new;
            return Ok(());
        }
        let old = self.locals[local].value.clone();
        if old.is_error() {
            return Ok(());
        }
        if matches!(old, Value::Bool(_)) {
            self.locals[local].value = self.expected("a tensor", &old, name.span);
            return Ok(());
        }
        let mut block = Block::of(&old.shape());
        let mut span = name.span;
        for subscript in subscripts {
            match self.refine(block, subscript, span)? {
                Some(part) => block = part,
                None => {
                    self.locals[local].value = Value::Error;
                    return Ok(());
                }
            }
            span = span.to(subscript.span);
        }
        if new.is_error() {
            self.locals[local].value = Value::Error;
            return Ok(());
        }
        if matches!(new, Value::Bool(_)) {
            self.locals[local].value = self.expected("a number or a tensor", &new, value.span);
            return Ok(());
        }
        let (wanted, is) = (block.shape(), new.shape());
        if broadcast(&is, &wanted).as_ref() != Some(&wanted) {
            let (wanted, is) = (shape_name(&wanted), shape_name(&is));
            let whole = shape_name(&old.shape());
            self.locals[local].value = self.report(
                Diagnostic::error(
                    "E1013",
                    value.span,
                    format!("{is} is assigned to a place for {wanted}"),
                    format!("this is {is}"),
                )
                .with_label(span, format!("`{}` is {whole}, so this place is {wanted}", name.name))
                .with_help("index all axes for an element, the leading ones for a row: `x[i, j] = …`, `x[i] = …`"),
            );
            return Ok(());
        }
        let run_time = new.as_const().is_none();
        let part = self.spread(&new, &wanted, run_time, value.span)?;
        let part = self.reshape(&part, block.sizes.clone(), value.span)?;
        let fixed: Option<Vec<usize>> = block
            .starts
            .iter()
            .map(|s| s.as_constant().and_then(|s| usize::try_from(s).ok()))
            .collect();
        if let (Some(starts), Value::Tensor(_), Some(part)) = (fixed, &old, part.as_const()) {
            // In place: nobody else holds the tensor while the variable is empty.
            drop(old);
            if let Value::Tensor(t) = std::mem::replace(&mut self.locals[local].value, Value::Error)
            {
                self.step(part.data().len() as u64 / 8, value.span)?;
                self.locals[local].value = Value::Tensor(t.updated(&starts, &part));
            }
            return Ok(());
        }
        let op = TensorOp::Update {
            starts: block.starts,
        };
        self.locals[local].value = self.apply(op, &[old, part], value.span)?;
        Ok(())
    }

    /// Gives up on the variables that a block assigns, after an error that keeps it from being walked.
    fn spoil(&mut self, block: &'a ast::Block) {
        for name in assigned(block) {
            if let Some(local) = self.find_local(name) {
                self.locals[local].value = Value::Error;
            }
        }
    }

    fn for_loop(&mut self, f: &'a ast::For, attributes: LoopAttributes) -> Flow<()> {
        let Some((first, end)) = self.range(&f.start, &f.end)? else {
            self.spoil(&f.body);
            return Ok(());
        };
        if first >= end {
            return Ok(());
        }
        if !self.compile_time && !self.frames.is_empty() {
            let reason = match self.uniform_loop(f, first, (end - first) as u64, &attributes)? {
                None => return Ok(()),
                Some(reason) => reason,
            };
            if let Some(at) = attributes.span {
                let (span, why) = reason;
                self.warnings.push(
                    Diagnostic::warning(
                        "W1003",
                        at,
                        "the attribute has no effect: the loop is unrolled wholly",
                        "asked for here",
                    )
                    .with_label(span, why)
                    .with_help(
                        "remove it, or make the body the same in all iterations but for indices",
                    ),
                );
            }
        }
        let depth = self.locals.len();
        let said = self.diagnostics.len();
        for i in first..end {
            self.step(1, f.var.span)?;
            self.locals.push(Local {
                name: &f.var.name,
                value: Value::Int(i),
            });
            self.context
                .push(Context::Iteration(&f.var.name, i, f.var.span));
            let result = self.block(&f.body);
            self.context.pop();
            self.locals.truncate(depth);
            result?;
            if self.diagnostics.len() > said {
                // One iteration's errors are enough.
                self.spoil(&f.body);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lowers a loop as a loop; or says what keeps it from being one, with all traces removed.
    fn uniform_loop(
        &mut self,
        f: &'a ast::For,
        first: i64,
        trips: u64,
        attributes: &LoopAttributes,
    ) -> Flow<Option<(Span, &'static str)>> {
        let mut carried: Vec<usize> = Vec::new();
        for name in assigned(&f.body) {
            if let Some(local) = self.find_local(name)
                && !carried.contains(&local)
                && !self.locals[local].value.is_error()
            {
                carried.push(local);
            }
        }
        let before: Vec<Value> = carried
            .iter()
            .map(|&l| self.locals[l].value.clone())
            .collect();
        if before.iter().any(|v| matches!(v, Value::Bool(_))) {
            return Ok(Some((f.var.span, "the body assigns a truth value")));
        }
        let mut state: Vec<(Secrecy, bool)> = before
            .iter()
            .map(|v| (v.secrecy(), v.known_when_unrolled()))
            .collect();
        let snapshot = self.snapshot();
        loop {
            let attempt = self.body(f, first, trips, &carried, &before, &state);
            let restore = |this: &mut Self| {
                this.restore(&snapshot);
                for (&l, v) in carried.iter().zip(&before) {
                    this.locals[l].value = v.clone();
                }
            };
            match attempt {
                Err(Stop::Unroll(span, why)) => {
                    restore(self);
                    return Ok(Some((span, why)));
                }
                Err(Stop::Fatal) => return Err(Stop::Fatal),
                Ok(()) => {}
            }
            let after: Vec<Value> = carried
                .iter()
                .map(|&l| self.locals[l].value.clone())
                .collect();
            let failed =
                self.diagnostics.len() > snapshot.diagnostics || after.iter().any(Value::is_error);
            if failed {
                self.frames.truncate(snapshot.frames);
                self.bodies.truncate(snapshot.bodies);
                for &l in &carried {
                    self.locals[l].value = Value::Error;
                }
                return Ok(None);
            }
            let changed = after
                .iter()
                .zip(&before)
                .any(|(a, b)| a.shape() != b.shape() || matches!(a, Value::Bool(_)));
            if changed {
                restore(self);
                return Ok(Some((
                    f.var.span,
                    "a variable changes its shape in the loop",
                )));
            }
            let next: Vec<(Secrecy, bool)> = state
                .iter()
                .zip(&after)
                .map(|((s, c), v)| ((*s).max(v.secrecy()), *c && v.known_when_unrolled()))
                .collect();
            if next != state {
                restore(self);
                state = next;
                continue;
            }
            let counts = before
                .iter()
                .zip(&state)
                .any(|(v, (_, known))| *known && !matches!(v, Value::Run(_)));
            if counts {
                restore(self);
                return Ok(Some((
                    f.var.span,
                    "a variable stays known at compile time through the loop",
                )));
            }
            self.close_loop(
                f, first, trips, attributes, &carried, &before, &after, &state,
            )?;
            return Ok(None);
        }
    }

    /// Walks the body once in a frame of its own, which stays open.
    fn body(
        &mut self,
        f: &'a ast::For,
        first: i64,
        trips: u64,
        carried: &[usize],
        before: &[Value],
        state: &[(Secrecy, bool)],
    ) -> Flow<()> {
        let iv = IvId(self.next_iv);
        self.next_iv += 1;
        let circuit = self.frames[0].circuit.name.clone();
        let keep = self.frames[0].circuit.meta.keep;
        let name = format!("{circuit}_{}{}", f.var.name, iv.0);
        let mut frame = Frame::new(
            &name,
            Some(Induction {
                iv,
                name: &f.var.name,
                span: f.var.span,
                first,
                trips,
            }),
        );
        frame.circuit.meta = TensorMeta {
            keep,
            span: f.body.span,
            ..TensorMeta::default()
        };
        let here = self.frames.len();
        for ((&local, value), &(secrecy, known)) in carried.iter().zip(before).zip(state) {
            let shape = value.shape();
            let id = frame.parameter(Param {
                name: self.locals[local].name.to_owned(),
                secrecy,
                shape: shape.clone(),
                range: None,
                span: f.var.span,
            });
            self.locals[local].value = Value::Run(Run {
                frame: here,
                id,
                shape,
                secrecy,
                uniform_only: known,
            });
        }
        self.nodes += carried.len();
        self.frames.push(frame);
        let depth = self.locals.len();
        self.locals.push(Local {
            name: &f.var.name,
            value: Value::Index(Affine::variable(iv)),
        });
        let result = self.block(&f.body);
        self.locals.truncate(depth);
        result
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one loop, used here once"
    )]
    fn close_loop(
        &mut self,
        f: &'a ast::For,
        first: i64,
        trips: u64,
        attributes: &LoopAttributes,
        carried: &[usize],
        before: &[Value],
        after: &[Value],
        state: &[(Secrecy, bool)],
    ) -> Flow<()> {
        let span = f.var.span.to(f.body.span);
        for (&local, value) in carried.iter().zip(after) {
            let id = self.node(value, f.var.span)?;
            let name = self.locals[local].name.to_owned();
            if let Some(frame) = self.frames.last_mut() {
                frame.circuit.outputs.push((
                    id,
                    ResultDecl {
                        name,
                        range: None,
                        span: f.var.span,
                    },
                ));
            }
        }
        let Some(frame) = self.frames.pop() else {
            return Err(Stop::Fatal);
        };
        let Some(iv) = frame.induction.as_ref().map(|i| i.iv) else {
            return Err(Stop::Fatal);
        };
        if carried.is_empty() {
            return Ok(());
        }
        let (circuit, captured) = frame.finish(carried.len());
        let mut operands = Vec::with_capacity(before.len() + captured.len());
        for value in before {
            operands.push(self.node(value, f.var.span)?);
        }
        operands.extend(captured);
        self.bodies.push(circuit);
        let shapes: Vec<Shape> = before.iter().map(Value::shape).collect();
        let op = TensorOp::Loop {
            body: CircuitId(self.bodies.len() as u32 - 1),
            iv,
            first,
            trips,
            carried: shapes.clone(),
            unroll: attributes.unroll.unwrap_or(Unroll::Auto),
            pipeline: attributes.pipeline,
        };
        let id = self.push_node(op, TensorType::Tuple(shapes.clone()), &operands, span)?;
        for (i, (&local, shape)) in carried.iter().zip(shapes).enumerate() {
            let (secrecy, known) = state[i];
            self.locals[local].value =
                self.push(TensorOp::Proj(i as u32), shape, &[id], secrecy, known, span)?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            frames: self.frames.len(),
            bodies: self.bodies.len(),
            next_iv: self.next_iv,
            nodes: self.nodes,
            diagnostics: self.diagnostics.len(),
            warnings: self.warnings.len(),
            notes: self.notes.len(),
            depth: self.depth,
            context: self.context.len(),
            locals: self.locals.len(),
            scope: (self.base, self.unit, self.inside, self.compile_time),
        }
    }

    fn restore(&mut self, s: &Snapshot) {
        self.frames.truncate(s.frames);
        self.bodies.truncate(s.bodies);
        self.diagnostics.truncate(s.diagnostics);
        self.warnings.truncate(s.warnings);
        self.notes.truncate(s.notes);
        self.context.truncate(s.context);
        self.locals.truncate(s.locals);
        (self.next_iv, self.nodes, self.depth) = (s.next_iv, s.nodes, s.depth);
        (self.base, self.unit, self.inside, self.compile_time) = s.scope;
        self.returned = None;
        self.abandoned = false;
    }
}

/// The outer names that a block assigns, in order of their first assignment.
fn assigned(block: &ast::Block) -> Vec<&str> {
    let mut out = Vec::new();
    let mut own = Vec::new();
    collect(block, &mut own, &mut out);
    out
}

fn collect<'a>(block: &'a ast::Block, own: &mut Vec<&'a str>, out: &mut Vec<&'a str>) {
    let depth = own.len();
    for s in &block.stmts {
        match &s.kind {
            StmtKind::Let { name, .. } | StmtKind::Var { name, .. } => own.push(&name.name),
            StmtKind::Assign { name, .. } => {
                let name = name.name.as_str();
                if !own.contains(&name) && !out.contains(&name) {
                    out.push(name);
                }
            }
            StmtKind::For(f) => {
                own.push(&f.var.name);
                collect(&f.body, own, out);
                own.pop();
            }
            StmtKind::If(i) => {
                for (_, block) in &i.branches {
                    collect(block, own, out);
                }
                if let Some(block) = &i.otherwise {
                    collect(block, own, out);
                }
            }
            StmtKind::Return { .. } | StmtKind::Assert { .. } => {}
        }
    }
    own.truncate(depth);
}
