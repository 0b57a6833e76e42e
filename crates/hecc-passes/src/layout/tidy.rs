//! Clean-up of slot-vector circuits.
//!
//! * Trees of additions, negations and scalar multiples become one `LinComb`, unless an inner value
//!   is used twice, is marked `@keep` or has a declared range, or joining would lengthen the
//!   longest chain of rescalings.
//! * A rotation of a rotation is one rotation; equal rotations of the terms of a sum are one
//!   rotation of their sum, and where the sum holds the same terms unturned, it takes these from there:
//!   ladders of rotations that end alike become one.
//! * A scalar factor goes into a vector of weights that is multiplied anyway.
//! * What no result needs is dropped; inputs and plaintexts are numbered by first use.
//!
//! Never more products or rotations than before, never more levels; a second run changes nothing.

use std::sync::Arc;

use hecc_ir::graph::{Builder, Circuit, Interval, NodeId, Operands, Real};
use hecc_ir::slots::{Coefficient, PlainDef, PlainId, PlainSource, Slots, SlotsMeta, SlotsOp};
use hecc_ir::span::Span;
use hecc_params::RotationStep;
use rustc_hash::FxHashMap;

use super::public::intervals;

/// A sum that may yet be joined with its user.
#[derive(Clone, Debug)]
struct Form {
    terms: Vec<(Coefficient, NodeId)>,
    /// Plaintexts that are added, each times a number.
    plains: Vec<(f64, PlainId)>,
    /// Most levels of a term.
    level: u32,
    /// Whether a coefficient costs a level.
    fractional: bool,
    span: Span,
}

impl Form {
    fn empty(span: Span) -> Form {
        Form {
            terms: Vec::new(),
            plains: Vec::new(),
            level: 0,
            fractional: false,
            span,
        }
    }

    fn levels(&self) -> u32 {
        self.level + u32::from(self.fractional)
    }
}

/// A term c · (a + rotate(a, k)): c, a, and the range that the sum is declared to have.
type Rung = (f64, NodeId, Interval);

/// A longer form than this is not multiplied by a scalar again and again.
const SCALED_FORM_MAX: usize = 1024;

/// Whether multiplying by a coefficient is free of levels.
pub(crate) fn is_integer(c: Coefficient) -> bool {
    match c {
        Coefficient::Const(Real(v)) => v == v.round() && v.abs() <= 65536.0,
        Coefficient::Plain(_) => false,
    }
}

fn value(c: Coefficient) -> Option<f64> {
    match c {
        Coefficient::Const(Real(v)) => Some(v),
        Coefficient::Plain(_) => None,
    }
}

struct Tidy<'a> {
    old: &'a Circuit<Slots>,
    new: Builder<Slots>,
    /// Levels by new node.
    levels: Vec<u32>,
    /// Uses by old node.
    uses: Vec<u32>,
    /// The new node of an old one, where it was written.
    map: Vec<Option<NodeId>>,
    /// The form of an old node that waits for its only user.
    waiting: Vec<Option<Form>>,
    plains: Vec<PlainDef>,
    known_plains: FxHashMap<Vec<u64>, PlainId>,
    /// By new node: how often it is used, counted as far as two.
    owners: Vec<u32>,
}

/// Cleans up a circuit, again until nothing changes: what became equal may now be joined.
pub fn tidy(circuit: &Circuit<Slots>) -> Circuit<Slots> {
    let mut now = sweep(circuit);
    for _ in 0..SWEEPS_MAX {
        let next = sweep(&now);
        if next == now {
            break;
        }
        now = next;
    }
    now
}

/// More sweeps than this are not worth their time.
const SWEEPS_MAX: usize = 16;

fn sweep(circuit: &Circuit<Slots>) -> Circuit<Slots> {
    let graph = &circuit.graph;
    let live = circuit.live();
    let mut uses = vec![0u32; graph.len()];
    let mut only_user: Vec<Option<NodeId>> = vec![None; graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        for o in graph.operands(id) {
            uses[o.index()] += 1;
            only_user[o.index()] = Some(id);
        }
    }
    for (id, ()) in &circuit.outputs {
        // a result is read as it stands
        uses[id.index()] += 2;
    }
    let mut t = Tidy {
        old: circuit,
        new: Builder::new(circuit.name.clone(), Vec::new(), SlotsMeta::default()),
        levels: Vec::new(),
        uses,
        map: vec![None; graph.len()],
        waiting: vec![None; graph.len()],
        plains: circuit.meta.plains.clone(),
        known_plains: FxHashMap::default(),
        owners: Vec::new(),
    };
    for (i, def) in circuit.meta.plains.iter().enumerate() {
        let key: Vec<u64> = match &def.source {
            PlainSource::Uniform(v) => vec![v.to_bits()],
            PlainSource::Vector(values) => values.iter().map(|v| v.to_bits()).collect(),
            PlainSource::Public { .. } => continue,
        };
        t.known_plains.entry(key).or_insert(PlainId(i as u32));
    }
    // inputs keep their numbers until the end
    for input in &circuit.inputs {
        t.new.add_input(input.clone());
    }
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let joinable = t.uses[id.index()] == 1
            && !node.keep
            && node.declared.is_none()
            && only_user[id.index()].is_some_and(|u| takes_forms(graph.op(u)));
        t.visit(id, joinable);
    }
    let outputs: Vec<NodeId> = circuit
        .outputs
        .iter()
        .map(|(id, ())| t.map[id.index()].expect("results are written"))
        .collect();
    let mut done = t.new.finish();
    done.outputs = outputs.into_iter().map(|o| (o, ())).collect();
    done.meta = SlotsMeta {
        plains: t.plains,
        ..circuit.meta.clone()
    };
    compact(&done)
}

fn takes_forms(op: &SlotsOp) -> bool {
    match op {
        SlotsOp::Add | SlotsOp::Sub | SlotsOp::Neg | SlotsOp::LinComb(_) | SlotsOp::Mul => true,
        SlotsOp::Input(_)
        | SlotsOp::Plain(_)
        | SlotsOp::Square
        | SlotsOp::Rotate(_)
        | SlotsOp::Conjugate
        | SlotsOp::TimesI => false,
    }
}

impl Tidy<'_> {
    fn push(&mut self, op: SlotsOp, operands: &[NodeId], span: Span) -> NodeId {
        let cost = match &op {
            SlotsOp::LinComb(c) => u32::from(!c.iter().all(|c| is_integer(*c))),
            SlotsOp::Mul | SlotsOp::Square => 1,
            SlotsOp::Input(_)
            | SlotsOp::Plain(_)
            | SlotsOp::Add
            | SlotsOp::Sub
            | SlotsOp::Neg
            | SlotsOp::Rotate(_)
            | SlotsOp::Conjugate
            | SlotsOp::TimesI => 0,
        };
        let level = operands
            .iter()
            .map(|o| self.levels[o.index()])
            .max()
            .unwrap_or(0)
            + cost;
        let id = self
            .new
            .push(op, operands, span)
            .expect("the same types as before");
        if id.index() == self.levels.len() {
            self.levels.push(level);
            self.owners.push(0);
        }
        id
    }

    /// The new node of an old operand; a form that waits is written.
    fn node(&mut self, old: NodeId) -> NodeId {
        if let Some(id) = self.map[old.index()] {
            return id;
        }
        let form = self.waiting[old.index()]
            .take()
            .expect("operands come first");
        let id = self.write(form);
        self.owners[id.index()] += 1;
        self.map[old.index()] = Some(id);
        id
    }

    fn visit(&mut self, id: NodeId, joinable: bool) {
        let node = self.old.graph.node(id);
        let operands = self.old.graph.operands(id);
        let one = Coefficient::Const(Real(1.0));
        let minus = Coefficient::Const(Real(-1.0));
        let plain_operand = operands.get(1).and_then(|o| match self.old.graph.op(*o) {
            SlotsOp::Plain(p) => Some(*p),
            _ => None,
        });
        let form = match (&node.op, plain_operand) {
            (SlotsOp::Add, None) => self.join(&[one, one], &operands, node.span),
            (SlotsOp::Sub, None) => self.join(&[one, minus], &operands, node.span),
            (SlotsOp::Neg, _) => self.join(&[minus], &operands, node.span),
            (SlotsOp::LinComb(c), _) => self.join(c, &operands, node.span),
            (SlotsOp::Add, Some(p)) => {
                let mut form = self.join(&[one], &operands[..1], node.span);
                form.plains.push((1.0, p));
                form
            }
            (SlotsOp::Sub, Some(p)) => {
                let mut form = self.join(&[one], &operands[..1], node.span);
                form.plains.push((-1.0, p));
                form
            }
            (SlotsOp::Mul, Some(p)) => {
                let new = self.mul_plain(operands[0], p, node.span);
                self.done(id, new);
                return;
            }
            (SlotsOp::Mul, None) | (SlotsOp::Square, _) => {
                let new: Operands = operands.iter().map(|o| self.node(*o)).collect();
                let new = match *new.as_slice() {
                    [a, b] if a == b => self.push(SlotsOp::Square, &[a], node.span),
                    [a, b] => self.push(SlotsOp::Mul, &[a.min(b), a.max(b)], node.span),
                    _ => self.push(node.op.clone(), &new, node.span),
                };
                self.done(id, new);
                return;
            }
            (SlotsOp::Conjugate | SlotsOp::TimesI, _) => {
                let inner = self.node(operands[0]);
                let new = self.push(node.op.clone(), &[inner], node.span);
                self.done(id, new);
                return;
            }
            (SlotsOp::Rotate(k), _) => {
                let inner = self.node(operands[0]);
                let new = self.rotate(inner, i64::from(k.0), node.span);
                self.done(id, new);
                return;
            }
            (SlotsOp::Input(_) | SlotsOp::Plain(_), _) => {
                let new = self.push(node.op.clone(), &[], node.span);
                self.done(id, new);
                return;
            }
        };
        if joinable {
            self.waiting[id.index()] = Some(form);
        } else {
            let new = self.write(form);
            self.done(id, new);
        }
    }

    fn done(&mut self, old: NodeId, new: NodeId) {
        let node = self.old.graph.node(old);
        self.new.inherit(new, node);
        self.map[old.index()] = Some(new);
        let free = self.uses[old.index()] == 1 && !node.keep;
        self.owners[new.index()] += if free { 1 } else { 2 };
    }

    /// Σ coefficient · operand, with the operands that wait joined where it costs no level.
    fn join(&mut self, coefficients: &[Coefficient], operands: &[NodeId], span: Span) -> Form {
        let mut sum = Form::empty(span);
        let mut forms: Vec<(Coefficient, NodeId, Form)> = Vec::new();
        for (c, o) in coefficients.iter().zip(operands) {
            match self.waiting[o.index()].take() {
                Some(form) if fits(*c, &form, self) => forms.push((*c, *o, form)),
                Some(form) => {
                    self.waiting[o.index()] = Some(form);
                    let new = self.node(*o);
                    self.term(&mut sum, *c, new);
                }
                None => {
                    let new = self.node(*o);
                    self.term(&mut sum, *c, new);
                }
            }
        }
        // first those that cost no level, then the others from the deepest on
        forms.sort_by_key(|(c, _, f)| {
            let fractional = f.fractional || !is_integer(*c);
            (fractional, std::cmp::Reverse(f.level))
        });
        for (c, o, form) in forms {
            let own = !is_integer(c);
            let joined =
                sum.level.max(form.level) + u32::from(sum.fractional || form.fractional || own);
            let apart = sum.level.max(form.levels()) + u32::from(sum.fractional || own);
            if joined <= apart {
                self.absorb(&mut sum, value(c), form);
            } else {
                let new = self.write(form);
                self.map[o.index()] = Some(new);
                self.owners[new.index()] += 1;
                self.term(&mut sum, c, new);
            }
        }
        sum
    }

    fn term(&mut self, sum: &mut Form, c: Coefficient, node: NodeId) {
        let (c, node) = self.fold_factor(c, node, sum.span);
        sum.level = sum.level.max(self.levels[node.index()]);
        sum.fractional |= !is_integer(c);
        sum.terms.push((c, node));
    }

    /// c · (a · plaintext) = a · (c · plaintext), where the factor would cost a level.
    fn fold_factor(&mut self, c: Coefficient, node: NodeId, span: Span) -> (Coefficient, NodeId) {
        let graph = self.new.graph();
        let Some(factor) = value(c).filter(|_| !is_integer(c)) else {
            return (c, node);
        };
        if *graph.op(node) != SlotsOp::Mul
            || self.owners[node.index()] > 1
            || pinned(graph.node(node))
        {
            return (c, node);
        }
        let operands = graph.operands(node);
        let SlotsOp::Plain(plain) = *graph.op(operands[1]) else {
            return (c, node);
        };
        let Some(scaled) = self.scaled(plain, factor) else {
            return (c, node);
        };
        let p = self.push(SlotsOp::Plain(scaled), &[], span);
        let product = self.push(SlotsOp::Mul, &[operands[0], p], span);
        self.owners[product.index()] += 1;
        (Coefficient::Const(Real(1.0)), product)
    }

    /// sum += c · form. The longer list of terms is kept in place.
    fn absorb(&mut self, sum: &mut Form, c: Option<f64>, mut form: Form) {
        let c = c.unwrap_or(1.0);
        if c != 1.0 {
            for (f, _) in &mut form.terms {
                if let Coefficient::Const(v) = f {
                    v.0 *= c;
                }
            }
            for (f, _) in &mut form.plains {
                *f *= c;
            }
            form.fractional = !form.terms.iter().all(|(c, _)| is_integer(*c));
        }
        sum.level = sum.level.max(form.level);
        sum.fractional |= form.fractional;
        if form.terms.len() > sum.terms.len() {
            std::mem::swap(&mut sum.terms, &mut form.terms);
        }
        sum.terms.append(&mut form.terms);
        if form.plains.len() > sum.plains.len() {
            std::mem::swap(&mut sum.plains, &mut form.plains);
        }
        sum.plains.append(&mut form.plains);
    }

    fn rotate(&mut self, a: NodeId, steps: i64, span: Span) -> NodeId {
        let slots = self.old.meta.slots as i64;
        let steps = steps.rem_euclid(slots);
        if steps == 0 {
            return a;
        }
        let graph = self.new.graph();
        if let (SlotsOp::Rotate(k), false) = (graph.op(a), pinned(graph.node(a))) {
            let (inner, k) = (graph.operands(a)[0], i64::from(k.0));
            return self.rotate(inner, k + steps, span);
        }
        self.push(SlotsOp::Rotate(RotationStep(steps as i32)), &[a], span)
    }

    /// operand · plaintext; a scalar factor that waits goes into a vector known at compile time.
    fn mul_plain(&mut self, operand: NodeId, plain: PlainId, span: Span) -> NodeId {
        let mut plain = plain;
        let mut base = None;
        if let Some(form) = self.waiting[operand.index()].take() {
            let factor = match (form.terms.as_slice(), form.plains.is_empty()) {
                ([(Coefficient::Const(Real(c)), node)], true) => Some((*c, *node)),
                _ => None,
            };
            match factor.and_then(|(c, node)| Some((self.scaled(plain, c)?, node))) {
                Some((scaled, node)) => {
                    plain = scaled;
                    base = Some(node);
                }
                None => self.waiting[operand.index()] = Some(form),
            }
        }
        let base = match base {
            Some(base) => base,
            None => self.node(operand),
        };
        let p = self.push(SlotsOp::Plain(plain), &[], span);
        self.push(SlotsOp::Mul, &[base, p], span)
    }

    /// c · plaintext, when it is known at compile time.
    fn scaled(&mut self, plain: PlainId, c: f64) -> Option<PlainId> {
        if c == 1.0 {
            return Some(plain);
        }
        match &self.plains[plain.0 as usize].source {
            PlainSource::Uniform(v) => {
                let v = v * c;
                Some(self.plain(vec![v; 1], true))
            }
            PlainSource::Vector(values) => {
                let values: Vec<f64> = values.iter().map(|v| v * c).collect();
                Some(self.plain(values, false))
            }
            PlainSource::Public { .. } => None,
        }
    }

    fn plain(&mut self, values: Vec<f64>, uniform: bool) -> PlainId {
        let key: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        if let Some(&id) = self.known_plains.get(&key) {
            return id;
        }
        let id = PlainId(self.plains.len() as u32);
        self.plains.push(PlainDef {
            range: intervals::of_values(&values),
            source: if uniform {
                PlainSource::Uniform(values[0])
            } else {
                PlainSource::Vector(Arc::from(values))
            },
        });
        self.known_plains.insert(key, id);
        id
    }

    /// Writes a sum in its shortest form.
    fn write(&mut self, mut form: Form) -> NodeId {
        let span = form.span;
        form.terms.sort_by_key(|(_, node)| *node);
        let mut terms: Vec<(Coefficient, NodeId)> = Vec::with_capacity(form.terms.len());
        for (c, node) in form.terms.iter().copied() {
            if let (Some((Coefficient::Const(have), last)), Coefficient::Const(more)) =
                (terms.last_mut(), c)
                && *last == node
            {
                have.0 += more.0;
                continue;
            }
            terms.push((c, node));
        }
        terms.retain(|(c, _)| value(*c) != Some(0.0));
        let terms = self.share_ladders(terms, span);
        let terms = self.share_rotations(terms, span);
        let mut sum = match terms.as_slice() {
            [] => {
                let any = form.terms[0].1;
                self.push(SlotsOp::Sub, &[any, any], span)
            }
            [(c, a)] if value(*c) == Some(1.0) => *a,
            [(c, a)] if value(*c) == Some(-1.0) => self.push(SlotsOp::Neg, &[*a], span),
            [(c, a), (d, b)] if (value(*c), value(*d)) == (Some(1.0), Some(1.0)) => {
                self.push(SlotsOp::Add, &[*a, *b], span)
            }
            [(c, a), (d, b)] if (value(*c), value(*d)) == (Some(1.0), Some(-1.0)) => {
                self.push(SlotsOp::Sub, &[*a, *b], span)
            }
            [(c, a), (d, b)] if (value(*c), value(*d)) == (Some(-1.0), Some(1.0)) => {
                self.push(SlotsOp::Sub, &[*b, *a], span)
            }
            _ => {
                let coefficients = terms.iter().map(|(c, _)| *c).collect();
                let operands: Operands = terms.iter().map(|(_, a)| *a).collect();
                self.push(SlotsOp::LinComb(coefficients), &operands, span)
            }
        };
        // plaintexts: all numbers in one, the others one by one
        let mut number = 0.0;
        let mut vectors: Vec<(f64, PlainId)> = Vec::new();
        for (c, p) in form.plains {
            if let PlainSource::Uniform(v) = self.plains[p.0 as usize].source {
                number += c * v;
            } else {
                vectors.push((c, p));
            }
        }
        vectors.sort_by_key(|(_, p)| *p);
        for (c, p) in vectors {
            let (op, p) = match (c, self.scaled(p, c)) {
                (_, Some(scaled)) => (SlotsOp::Add, scaled),
                (c, None) if c < 0.0 => (SlotsOp::Sub, p),
                (_, None) => (SlotsOp::Add, p),
            };
            let p = self.push(SlotsOp::Plain(p), &[], span);
            sum = self.push(op, &[sum, p], span);
        }
        if number != 0.0 {
            let p = self.plain(vec![number], true);
            let p = self.push(SlotsOp::Plain(p), &[], span);
            sum = self.push(SlotsOp::Add, &[sum, p], span);
        }
        sum
    }

    /// A sum of terms aᵢ + rotate(aᵢ, k) whose ranges are declared is a + rotate(a, k), a = Σ aᵢ: its
    /// range is the sum of theirs.
    fn share_ladders(
        &mut self,
        terms: Vec<(Coefficient, NodeId)>,
        span: Span,
    ) -> Vec<(Coefficient, NodeId)> {
        let graph = self.new.graph();
        let rung = |c: Coefficient, node: NodeId| -> Option<(i32, Rung)> {
            let range = graph.node(node).declared?;
            if self.owners[node.index()] != 1 || *graph.op(node) != SlotsOp::Add {
                return None;
            }
            let operands = graph.operands(node);
            let (below, turned) = (operands[0], operands[1]);
            match graph.op(turned) {
                SlotsOp::Rotate(k) if graph.operands(turned)[0] == below => {
                    Some((k.0, (value(c)?, below, range)))
                }
                _ => None,
            }
        };
        let mut groups: FxHashMap<i32, Vec<Rung>> = FxHashMap::default();
        for (c, node) in &terms {
            if let Some((k, term)) = rung(*c, *node) {
                groups.entry(k).or_default().push(term);
            }
        }
        groups.retain(|_, g| g.len() > 1);
        let mut rest = terms.clone();
        rest.retain(|(c, node)| rung(*c, *node).is_none_or(|(k, _)| !groups.contains_key(&k)));
        // the factors move inside: another one would cost a second level
        if groups.is_empty() || !rest.iter().all(|(c, _)| is_integer(*c)) {
            return terms;
        }
        let one = Coefficient::Const(Real(1.0));
        let mut groups: Vec<(i32, Vec<Rung>)> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|(k, _)| *k);
        let mut out = Vec::with_capacity(rest.len() + groups.len());
        for (k, group) in groups {
            let mut inner = Form::empty(span);
            let mut range = Interval::new(0.0, 0.0);
            for (c, below, declared) in group {
                self.term(&mut inner, Coefficient::Const(Real(c)), below);
                range = intervals::add(range, intervals::scale(declared, c));
            }
            let inner = self.write(inner);
            let turned = self.rotate(inner, i64::from(k), span);
            let sum = self.push(SlotsOp::Add, &[inner, turned], span);
            self.owners[sum.index()] += 1;
            self.new.declare(sum, range);
            out.push((one, sum));
        }
        out.append(&mut rest);
        out
    }

    /// Σ rotate(aᵢ, k) = rotate(Σ aᵢ, k), for rotations that nothing else uses. A sum that holds the
    /// terms aᵢ too, with the same factors, takes Σ aᵢ for them.
    fn share_rotations(
        &mut self,
        terms: Vec<(Coefficient, NodeId)>,
        span: Span,
    ) -> Vec<(Coefficient, NodeId)> {
        let step = |t: &Self, node: NodeId| match t.new.graph().op(node) {
            SlotsOp::Rotate(k)
                if t.owners[node.index()] == 1 && !pinned(t.new.graph().node(node)) =>
            {
                Some(k.0)
            }
            _ => None,
        };
        let mut groups: FxHashMap<i32, Vec<(Coefficient, NodeId)>> = FxHashMap::default();
        for (c, node) in &terms {
            if let Some(k) = step(self, *node) {
                let inner = self.new.graph().operands(*node)[0];
                groups.entry(k).or_default().push((*c, inner));
            }
        }
        groups.retain(|_, g| g.len() > 1);
        if groups.is_empty() {
            return terms;
        }
        let whole = |c: &Coefficient| is_integer(*c);
        let one = Coefficient::Const(Real(1.0));
        // the steps of rotations that are taken together, with their terms and common factor
        let mut written: FxHashMap<i32, Option<Coefficient>> = FxHashMap::default();
        let mut out: Vec<(Coefficient, NodeId)> = Vec::with_capacity(terms.len());
        let straight: FxHashMap<NodeId, Coefficient> =
            terms.iter().map(|(c, a)| (*a, *c)).collect();
        let mut unturned = Vec::new();
        for (c, node) in &terms {
            let Some((k, group)) =
                step(self, *node).and_then(|k| groups.get(&k).map(|g| (k, g.clone())))
            else {
                out.push((*c, *node));
                continue;
            };
            if let Some(common) = written.get(&k) {
                if common.is_none() {
                    out.push((*c, *node));
                }
                continue;
            }
            let paired = group.iter().all(|(d, a)| straight.get(a) == Some(d));
            let inside = || {
                let grouped = |c: &Coefficient, node: &NodeId| {
                    step(self, *node) == Some(k) || group.contains(&(*c, *node))
                };
                paired && terms.iter().all(|(c, node)| whole(c) || grouped(c, node))
            };
            let common = if group.iter().all(|(d, _)| d == c) {
                Some(*c)
            } else if group.iter().all(|(d, _)| whole(d)) || inside() {
                Some(one)
            } else {
                // a factor that costs a level must be common to all or the only one, else it would cost
                // a second one
                None
            };
            written.insert(k, common);
            let Some(common) = common else {
                out.push((*c, *node));
                continue;
            };
            let mut inner = Form::empty(span);
            for &(d, node) in &group {
                let d = if common == one { d } else { one };
                self.term(&mut inner, d, node);
            }
            let inner = self.write(inner);
            let turned = self.rotate(inner, i64::from(k), span);
            out.push((common, turned));
            if paired {
                unturned.push((common, inner, group));
            }
        }
        for (common, inner, group) in unturned {
            if group.iter().all(|term| out.contains(term)) {
                out.retain(|term| !group.contains(term));
                out.push((common, inner));
            }
        }
        out
    }
}

fn pinned(node: &hecc_ir::graph::Node<Slots>) -> bool {
    node.keep || node.declared.is_some()
}

/// Whether c · form can be written with coefficients alone.
fn fits(c: Coefficient, form: &Form, t: &Tidy<'_>) -> bool {
    let Some(c) = value(c) else {
        return false;
    };
    c == 1.0
        || (form.terms.len() <= SCALED_FORM_MAX
            && form.terms.iter().all(|(f, _)| value(*f).is_some())
            && form.plains.iter().all(|(_, p)| {
                c == -1.0 || !matches!(t.plains[p.0 as usize].source, PlainSource::Public { .. })
            }))
}

/// Drops what no result needs; numbers inputs and plaintexts by first use.
pub(crate) fn compact(circuit: &Circuit<Slots>) -> Circuit<Slots> {
    let live = circuit.live();
    let graph = &circuit.graph;
    let mut new = Builder::<Slots>::new(circuit.name.clone(), Vec::new(), SlotsMeta::default());
    let mut map = vec![NodeId(u32::MAX); graph.len()];
    let mut inputs: Vec<Option<u32>> = vec![None; circuit.inputs.len()];
    let mut plains: Vec<Option<PlainId>> = vec![None; circuit.meta.plains.len()];
    let mut defs: Vec<PlainDef> = Vec::new();
    let mut plain = |p: PlainId| {
        *plains[p.0 as usize].get_or_insert_with(|| {
            defs.push(circuit.meta.plains[p.0 as usize].clone());
            PlainId(defs.len() as u32 - 1)
        })
    };
    // inputs in the order of the program, whatever uses them first
    for id in graph.ids().filter(|id| live[id.index()]) {
        if let SlotsOp::Input(i) = graph.op(id) {
            inputs[*i as usize] = Some(0);
        }
    }
    for (i, number) in inputs.iter_mut().enumerate() {
        if number.is_some() {
            *number = Some(new.add_input(circuit.inputs[i].clone()));
        }
    }
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let op = match &node.op {
            SlotsOp::Input(i) => SlotsOp::Input(inputs[*i as usize].expect("numbered above")),
            SlotsOp::Plain(p) => SlotsOp::Plain(plain(*p)),
            SlotsOp::LinComb(c) => SlotsOp::LinComb(
                c.iter()
                    .map(|c| match c {
                        Coefficient::Const(v) => Coefficient::Const(*v),
                        Coefficient::Plain(p) => Coefficient::Plain(plain(*p)),
                    })
                    .collect(),
            ),
            SlotsOp::Add
            | SlotsOp::Sub
            | SlotsOp::Neg
            | SlotsOp::Mul
            | SlotsOp::Square
            | SlotsOp::Rotate(_)
            | SlotsOp::Conjugate
            | SlotsOp::TimesI => node.op.clone(),
        };
        let operands: Operands = graph.operands(id).iter().map(|o| map[o.index()]).collect();
        map[id.index()] = new
            .push(op, &operands, node.span)
            .expect("the same node as before");
        new.inherit(map[id.index()], node);
    }
    for (id, ()) in &circuit.outputs {
        new.output(map[id.index()], ());
    }
    *new.meta_mut() = SlotsMeta {
        plains: defs,
        ..circuit.meta.clone()
    };
    new.finish()
}
