//! Matrix algebra: re-association and distribution of products with matrices, by levels, then work.
//!
//! **What.** A critical value is written as a sum of terms. A term is a sign, a public scalar and a
//! product of tensors whose axes are named, summed over the names that the value does not have
//! (Einstein's convention): matrix products, dot products, outer and elementwise products,
//! transposes, sums over axes and broadcasts are one thing. Operands that arrive too late are taken
//! apart, the others stay whole: `Z @ (late + early)` becomes `Z @ late + Z @ early`, scalars leave
//! products and sums, and in `Z @ (Y' @ (p * q))` with a late q the factors Z, Y and p are
//! multiplied before q is there. A value is taken apart only as far as its terms need to be there
//! by the level that is aimed at, one level less each time; a linear recurrence of vectors is so
//! expressed by those of its older values that are there in time. Then terms are put together
//! again where no level is lost: equal products, products that differ in one factor
//! (`Z @ u + Z @ w → Z @ (u + w)`) or by one factor (`c₃ X p p² + c₁ X p → c₃ X p (p² + c₁/c₃)`), and
//! sums over the same axis. The order of the products of a term is that of arrival, then of size;
//! a scalar is applied as late as it costs no level, so that unscaled products are shared.
//!
//! **Why.** Balancing within one operation cannot move a product across a sum over an axis: a step
//! of gradient descent, `v + c * (Z' @ s(Z @ v))`, costs two matrix products after the last v as
//! it is written, and one when Z @ Z' is there before.
//!
//! **Cost.** Each critical value takes at most `FUEL` steps for each level it gains. Products of
//! matrices with matrices are formed only if the limit of work allows it.
//!
//! **Source.** The order of products: Golumbic, *Combinatorial merging*, IEEE Trans. Comput. 25
//! (1976); distribution over sums by arrival: Kuck, Muraoka and Chen, *On the number of operations
//! simultaneously executable in Fortran-like programs and their resulting speedup*, IEEE Trans.
//! Comput. 21 (1972).
//!
//! **Assumes** a simplified circuit without powers and polynomials. Nothing is moved across `@keep`.

use std::cell::Cell;

use hecc_ir::graph::{Circuit, NodeId, Operands};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Shape, Tensor, TensorOp};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::balance::{Key, add_all};
use super::build::{Build, Simplify, sweep_some};
use super::cost::{self, Fact};

/// Most steps of taking a value apart, for each level aimed at.
const FUEL: usize = 128;
/// Most parts of a sum that let it take more steps.
const PARTS: usize = 15;
/// Most terms that a value is taken apart into.
const TERMS: usize = 64;
/// Most steps in a program, for each of its nodes.
const STEPS: usize = 64;
/// Most nodes that are looked at to choose between two forms of values.
const SETTLE: usize = 400_000;
/// Most levels that a value is brought forward at once.
const GAIN: u32 = 8;
/// Most factors of a term.
const FACTORS: usize = 12;
/// How many times the vectors of its factors a product may have.
const WIDER: usize = 16;
/// Most scalar products of one product of tensors.
const VOLUME: usize = 1 << 26;
/// Elements that are taken to share a ciphertext.
const SLOTS: usize = 4096;
/// How much a constant may exceed the leading coefficient when that is taken out.
const MONIC: f64 = 1024.0;

/// Rewrites critical values once: with products of matrices if the work stays within the limit,
/// else without. `None` when there is nothing to do.
pub fn matrix(
    circuit: &Circuit<Tensor>,
    key: Key,
    shallow: bool,
    work_limit: f64,
) -> Option<Circuit<Tensor>> {
    let graph = &circuit.graph;
    if circuit.meta.keep || !graph.ids().any(|id| across(graph.op(id))) {
        return None;
    }
    let sunk = sink(circuit);
    let circuit = sunk.as_ref().unwrap_or(circuit);
    let value = |c: &Circuit<Tensor>| {
        let cost = cost::cost(c);
        let fact = Fact {
            depth: cost.depth,
            level: cost.levels,
            ..Fact::default()
        };
        (key(fact), cost.work)
    };
    let affordable = |grow: Growth, both: bool| {
        let (out, refused) = rewrite(circuit, key, grow, both)?;
        let (rank, work) = value(&out);
        (work <= work_limit).then_some((out, rank, refused))
    };
    for grow in [Growth::Sums, Growth::None] {
        for both in [true, false] {
            if both && !shallow {
                continue;
            }
            let Some((out, rank, refused)) = affordable(grow, both) else {
                continue;
            };
            // Larger products are worth a try where there were some.
            let wide = (refused && grow == Growth::Sums)
                .then(|| affordable(Growth::Products, both))
                .flatten();
            return match wide {
                Some((wide, better, _)) if better < rank => Some(wide),
                _ => Some(out),
            };
        }
    }
    sunk
}

/// Whether an operation sums over an axis or repeats along one.
fn across(op: &TensorOp) -> bool {
    matches!(
        op,
        TensorOp::MatMul | TensorOp::Sum(_) | TensorOp::Broadcast(_)
    )
}

/// How large a product may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// As many vectors as its factors.
    None,
    /// More on the way to a sum over an axis.
    Sums,
    /// More, up to [`WIDER`] times as many.
    Products,
}

/// Slices of sums and elementwise products as sums and products of slices, where nothing else uses
/// the whole. `None` when there is nothing to do.
fn sink(circuit: &Circuit<Tensor>) -> Option<Circuit<Tensor>> {
    let graph = &circuit.graph;
    let live = circuit.live();
    let facts = cost::facts(circuit);
    let mut sliced = vec![false; graph.len()];
    let mut whole = vec![false; graph.len()];
    for (id, _) in &circuit.outputs {
        whole[id.index()] = true;
    }
    let elementwise = |id: NodeId| {
        facts[id.index()].secret
            && !graph.node(id).keep
            && matches!(
                graph.op(id),
                TensorOp::Add | TensorOp::Sub | TensorOp::Mul | TensorOp::Neg
            )
    };
    let mut any = false;
    for id in graph.ids().rev().filter(|id| live[id.index()]) {
        let through = elementwise(id) && sliced[id.index()] && !whole[id.index()];
        for o in graph.operands(id) {
            if matches!(graph.op(id), TensorOp::Slice { .. }) || through {
                sliced[o.index()] = true;
            } else {
                whole[o.index()] = true;
            }
        }
        any |= through;
    }
    if !any {
        return None;
    }
    let mut inner: FxHashMap<NodeId, ()> = FxHashMap::default();
    Some(sweep_some(
        circuit,
        Simplify::All,
        |build, id, node, operands, _| {
            let new = match &node.op {
                TensorOp::Slice { starts, sizes } => match super::build::places(starts) {
                    Some(at) => slice(build, &inner, operands[0], &at, sizes, node.span),
                    None => build.push(node.op.clone(), operands, node.span),
                },
                op => build.push(op.clone(), operands, node.span),
            };
            if elementwise(id) && sliced[id.index()] && !whole[id.index()] {
                inner.insert(new, ());
            }
            Some(new)
        },
    ))
}

fn slice(
    build: &mut Build,
    inner: &FxHashMap<NodeId, ()>,
    x: NodeId,
    at: &[usize],
    sizes: &[usize],
    span: Span,
) -> NodeId {
    if !inner.contains_key(&x) {
        return build.slice_at(x, at, sizes, span);
    }
    let op = build.graph().op(x).clone();
    let declared = build.graph().node(x).declared;
    let operands: SmallVec<[NodeId; 2]> = build
        .graph()
        .operands(x)
        .iter()
        .copied()
        .collect::<SmallVec<[NodeId; 2]>>()
        .into_iter()
        .map(|o| slice(build, inner, o, at, sizes, span))
        .collect();
    let new = build.push(op, &operands, span);
    if declared.is_some() {
        let node = build.graph().node(x).clone();
        build.inherit(new, &node);
    }
    new
}

/// One sweep; `None` when nothing was found.
fn rewrite(
    circuit: &Circuit<Tensor>,
    key: Key,
    grow: Growth,
    both: bool,
) -> Option<(Circuit<Tensor>, bool)> {
    let graph = &circuit.graph;
    let facts = cost::facts(circuit);
    let late_first = critical(circuit, &facts, |f| key(f).0);
    let late_second = if both {
        critical(circuit, &facts, |f| key(f).1)
    } else {
        vec![false; graph.len()]
    };
    let critical = |id: NodeId| late_first[id.index()] || late_second[id.index()];
    let crosses = |id: NodeId| facts[id.index()].secret && across(graph.op(id));
    if !graph.ids().any(|id| critical(id) && crosses(id)) {
        return None;
    }
    let by_levels = key(Fact {
        level: 1,
        ..Fact::default()
    }) > key(Fact {
        depth: 1,
        ..Fact::default()
    });
    let live = circuit.live();
    let mut rewriter = Rewriter {
        circuit,
        build: Build::like(circuit, Simplify::All),
        plain: vec![NodeId(u32::MAX); graph.len()],
        map: vec![NodeId(u32::MAX); graph.len()],
        late: (late_first, late_second),
        grow,
        by_levels,
        steps: STEPS * graph.len() + 16 * FUEL,
        refused: Cell::new(false),
        pairs: Vec::new(),
    };
    let part = parts_of_sums(circuit, &live);
    // Parts of sums, which are left to the sum at first.
    let mut waiting: Vec<Vec<NodeId>> = vec![Vec::new(); graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        rewriter.take(id);
        let mut parts = Vec::new();
        for o in graph.operands(id) {
            parts.append(&mut waiting[o.index()]);
        }
        if part[id.index()] {
            parts.push(id);
            waiting[id.index()] = parts;
            continue;
        }
        if rewriter.improve(id, parts.len()) || parts.is_empty() {
            continue;
        }
        // The sum as a whole is too much, or cannot be better than its parts.
        for p in parts {
            rewriter.take(p);
            rewriter.improve(p, 0);
        }
        rewriter.take(id);
        rewriter.improve(id, 0);
    }
    let Rewriter {
        build,
        map,
        refused,
        pairs,
        ..
    } = rewriter;
    if pairs.is_empty() {
        return None;
    }
    let outputs: Vec<_> = circuit
        .outputs
        .iter()
        .map(|(id, decl)| (map[id.index()], decl.clone()))
        .collect();
    let settled = settle(build.finish_whole(outputs), &pairs, key);
    Some((settled, refused.get()))
}

/// Values with one user, a sum that is not kept: they are looked at with the sum.
fn parts_of_sums(circuit: &Circuit<Tensor>, live: &[bool]) -> Vec<bool> {
    let graph = &circuit.graph;
    let mut users: Vec<(u32, bool)> = vec![(0, true); graph.len()];
    for (id, _) in &circuit.outputs {
        users[id.index()].1 = false;
    }
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let sum = !node.keep && matches!(node.op, TensorOp::Add | TensorOp::Sub);
        for o in graph.operands(id) {
            let user = &mut users[o.index()];
            *user = (user.0 + 1, user.1 && sum);
        }
    }
    users.iter().map(|u| *u == (1, true)).collect()
}

/// One sweep over a circuit.
struct Rewriter<'a> {
    circuit: &'a Circuit<Tensor>,
    build: Build,
    /// What old values became, taken by themselves.
    plain: Vec<NodeId>,
    /// What old values became.
    map: Vec<NodeId>,
    /// Critical values, by the first and by the second measure.
    late: (Vec<bool>, Vec<bool>),
    grow: Growth,
    by_levels: bool,
    /// Steps that are left for the whole program.
    steps: usize,
    /// Whether a product was too large.
    refused: Cell<bool>,
    /// What improved values would be by themselves, and what they are.
    pairs: Vec<(NodeId, NodeId)>,
}

impl Rewriter<'_> {
    /// Takes a value over as it is.
    fn take(&mut self, id: NodeId) {
        let node = self.circuit.graph.node(id);
        let operands = self.circuit.graph.operands(id);
        let operands: Operands = operands.iter().map(|o| self.map[o.index()]).collect();
        let as_is = self.build.push(node.op.clone(), &operands, node.span);
        self.build.inherit(as_is, node);
        self.plain[id.index()] = as_is;
        self.map[id.index()] = as_is;
    }

    /// Whether a value that was just taken over could be had earlier; it is then. `parts` values
    /// are taken apart with it.
    fn improve(&mut self, id: NodeId, parts: usize) -> bool {
        let node = self.circuit.graph.node(id);
        let late = (self.late.0[id.index()], self.late.1[id.index()]);
        // A scalar factor waits for the sum that it meets.
        let linear = match node.op {
            TensorOp::Add | TensorOp::Sub | TensorOp::MatMul | TensorOp::Sum(_) => true,
            TensorOp::Mul => {
                let operands = self.circuit.graph.operands(id);
                let scalar = |o: &NodeId| self.build.uniform_node(self.map[o.index()]).is_some();
                !operands.iter().any(scalar)
            }
            _ => false,
        };
        let as_is = self.plain[id.index()];
        let wanted = (late.0 || late.1) && linear && !node.keep && self.build.fact(as_is).secret;
        if !wanted || self.steps < FUEL {
            return false;
        }
        let mut former = Former {
            circuit: self.circuit,
            build: &mut self.build,
            plain: &self.plain,
            map: &self.map,
            grow: self.grow,
            by_levels: self.by_levels,
            extents: Vec::new(),
            out: Axes::new(),
            most: FUEL * (1 + parts.min(PARTS)),
            fuel: 0,
            steps: &mut self.steps,
            refused: &self.refused,
            shared: Vec::new(),
            crossed: false,
            span: node.span,
        };
        let Some(new) = former.improve(id, as_is, late) else {
            return false;
        };
        self.build.inherit(new, node);
        self.map[id.index()] = new;
        self.pairs.push((as_is, new));
        true
    }
}

/// Where a value is there in two forms, and one would do, takes the one.
fn settle(circuit: Circuit<Tensor>, pairs: &[(NodeId, NodeId)], key: Key) -> Circuit<Tensor> {
    let mut instead: FxHashMap<NodeId, NodeId> = FxHashMap::default();
    let mut budget = SETTLE;
    let value = |c: &Circuit<Tensor>| {
        let cost = cost::cost(c);
        let fact = Fact {
            depth: cost.depth,
            level: cost.levels,
            ..Fact::default()
        };
        (key(fact), cost.work)
    };
    let mut best = resolved(&circuit, &instead).unwrap_or_else(|| circuit.clone());
    let mut least = value(&best);
    for &(plain, new) in pairs.iter().rev() {
        for (from, to) in [(plain, new), (new, plain)] {
            if budget < circuit.graph.len() {
                return best;
            }
            budget -= circuit.graph.len();
            if instead.contains_key(&from) || instead.contains_key(&to) {
                continue;
            }
            instead.insert(from, to);
            let other = resolved(&circuit, &instead).map(|c| (value(&c), c));
            match other {
                Some((v, c)) if v.0 <= least.0 && v.1 < least.1 => {
                    (best, least) = (c, v);
                }
                _ => {
                    instead.remove(&from);
                }
            }
        }
    }
    best
}

/// The live part of a circuit with values put in place of others; `None` if one needed itself.
fn resolved(
    circuit: &Circuit<Tensor>,
    instead: &FxHashMap<NodeId, NodeId>,
) -> Option<Circuit<Tensor>> {
    let graph = &circuit.graph;
    let target = |id: NodeId| instead.get(&id).copied().unwrap_or(id);
    let mut build = Build::like(circuit, Simplify::Nothing);
    let mut made: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut open = vec![false; graph.len()];
    for (root, _) in &circuit.outputs {
        let mut stack = vec![target(*root)];
        while let Some(&id) = stack.last() {
            if made[id.index()].is_some() {
                stack.pop();
                continue;
            }
            let operands: Operands = graph.operands(id).iter().map(|o| target(*o)).collect();
            if std::mem::replace(&mut open[id.index()], true) {
                let new: Option<Operands> = operands.iter().map(|o| made[o.index()]).collect();
                let node = graph.node(id);
                let new = build.push(node.op.clone(), &new?, node.span);
                build.inherit(new, node);
                made[id.index()] = Some(new);
                stack.pop();
                continue;
            }
            for o in operands {
                if made[o.index()].is_none() {
                    if open[o.index()] {
                        return None;
                    }
                    stack.push(o);
                }
            }
        }
    }
    let outputs: Option<Vec<_>> = circuit
        .outputs
        .iter()
        .map(|(id, decl)| made[target(*id).index()].map(|new| (new, decl.clone())))
        .collect();
    Some(build.finish(outputs?))
}

/// Secret values on a path that is longest by this measure.
fn critical(circuit: &Circuit<Tensor>, facts: &[Fact], measure: impl Fn(Fact) -> u32) -> Vec<bool> {
    let graph = &circuit.graph;
    let rank = |id: NodeId| measure(facts[id.index()]);
    let total = circuit.outputs.iter().map(|(id, _)| rank(*id)).max();
    let total = total.unwrap_or(0);
    let live = circuit.live();
    let mut height: Vec<Option<u32>> = vec![None; graph.len()];
    for (id, _) in &circuit.outputs {
        height[id.index()] = Some(0);
    }
    for id in graph.ids().rev().filter(|id| live[id.index()]) {
        let Some(above) = height[id.index()] else {
            continue;
        };
        let operands = graph.operands(id);
        let below = operands.iter().map(|o| rank(*o)).max().unwrap_or(0);
        let up = rank(id).saturating_sub(below);
        for o in operands {
            let h = &mut height[o.index()];
            *h = Some(h.unwrap_or(0).max(above + up));
        }
    }
    graph
        .ids()
        .map(|id| {
            live[id.index()]
                && facts[id.index()].secret
                && total > 0
                && height[id.index()].is_some_and(|h| h + rank(id) >= total)
        })
        .collect()
}

/// The name of an axis; equal names are one index.
type Label = u32;
/// The name of every axis of extent one: it is no index at all.
const ONE: Label = u32::MAX;

type Axes = SmallVec<[Label; 4]>;

/// A name that terms are summed over.
struct Inner {
    label: Label,
    /// Which axes of which values it stands for.
    places: Vec<(NodeId, usize)>,
    /// In which terms.
    terms: Vec<usize>,
}

/// A tensor with named axes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    node: NodeId,
    axes: Axes,
    /// Which value of the old circuit it is.
    old: Option<NodeId>,
}

impl Named {
    fn key(&self) -> (NodeId, &[Label]) {
        (self.node, &self.axes)
    }
}

/// ± coefficient · Π factors · leaf, summed over all names that the value does not have.
#[derive(Clone, Debug, Default)]
struct Term {
    negative: bool,
    /// Public scalars, their product is the coefficient.
    by: Vec<NodeId>,
    /// Values of the new circuit.
    factors: Vec<Named>,
    /// A value of the old circuit that may be taken apart.
    leaf: Option<(NodeId, Axes)>,
}

/// What a value is made of, one step down.
enum Parts {
    /// One of these, a sum.
    Sum(Vec<Term>),
    /// The earlier operand joined the factors, the later one may be taken apart further.
    Product(Term),
    Whole,
}

/// When a product is there and how large it is, of which two items, and what it is.
type Choice = ((When, usize), (usize, usize), Item);

/// When a value is there, by what is minimised first and by what is minimised second: levels and
/// depth, or the other way round. The order is by the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct When {
    first: u32,
    second: u32,
}

impl When {
    /// When two values are both there.
    fn and(self, other: When) -> When {
        When {
            first: self.first.max(other.first),
            second: self.second.max(other.second),
        }
    }

    /// Whether it is there by `target`, by both measures.
    fn within(self, target: When) -> bool {
        self.first <= target.first && self.second <= target.second
    }

    fn plus(self, first: u32, second: u32) -> When {
        When {
            first: self.first.saturating_add(first),
            second: self.second.saturating_add(second),
        }
    }

    /// One product of two secrets before.
    fn before(self) -> Option<When> {
        let less = |n: u32| {
            if n == u32::MAX {
                Some(n)
            } else {
                n.checked_sub(1)
            }
        };
        Some(When {
            first: less(self.first)?,
            second: less(self.second)?,
        })
    }
}

/// One product of a plan.
#[derive(Clone, Debug)]
struct Item {
    axes: Axes,
    when: When,
    fact: Fact,
}

struct Former<'a> {
    circuit: &'a Circuit<Tensor>,
    build: &'a mut Build,
    /// What old values became, taken by themselves.
    plain: &'a [NodeId],
    /// What old values became.
    map: &'a [NodeId],
    /// Whether products may be larger than their factors.
    grow: Growth,
    by_levels: bool,
    /// By name.
    extents: Vec<usize>,
    /// The names of the value's axes.
    out: Axes,
    /// Most steps for one form of the value.
    most: usize,
    fuel: usize,
    /// Steps that are left for the whole program.
    steps: &'a mut usize,
    /// Whether a product was too large.
    refused: &'a Cell<bool>,
    /// Products that were put together in a sum, and such sums.
    shared: Vec<Vec<Named>>,
    /// Whether a product was moved across a sum over an axis or a broadcast.
    crossed: bool,
    span: Span,
}

impl Former<'_> {
    fn arrival(&self, id: NodeId) -> When {
        let f = self.build.fact(id);
        self.when(f.settled, f.depth)
    }

    fn when(&self, levels: u32, depth: u32) -> When {
        let (first, second) = if self.by_levels {
            (levels, depth)
        } else {
            (depth, levels)
        };
        When { first, second }
    }

    /// When a product is there.
    fn product_of(&self, a: &Item, b: &Item, client: u32) -> When {
        let (x, y) = (a.fact.secret, b.fact.secret);
        if client > 0 || !x && !y {
            return When::default();
        }
        let up = self.when(1, u32::from(x && y));
        a.when.and(b.when).plus(up.first, up.second)
    }

    fn name(&mut self, extent: usize) -> Label {
        if extent == 1 {
            return ONE;
        }
        self.extents.push(extent);
        self.extents.len() as Label - 1
    }

    /// The value earlier than `as_is`, by the measures in which it is late.
    fn improve(&mut self, id: NodeId, as_is: NodeId, late: (bool, bool)) -> Option<NodeId> {
        let now = self.arrival(as_is);
        let shape = self.build.shape(as_is);
        self.out = shape.iter().map(|n| self.name(*n)).collect();
        let root = Term {
            leaf: Some((id, self.out.clone())),
            ..Term::default()
        };
        let mut best: Option<(When, Vec<Term>)> = None;
        if late.0 {
            for first in (now.first.saturating_sub(GAIN).max(1)..now.first).rev() {
                let target = When {
                    first,
                    second: u32::MAX,
                };
                let Some(terms) = self.by(&root, target) else {
                    break;
                };
                best = Some((target, terms));
            }
        }
        if late.1 {
            let (first, most) = match &best {
                None => (now.first, now.second),
                Some((target, terms)) => {
                    let second = terms.iter().filter_map(|t| self.level(t)).map(|w| w.second);
                    (target.first, second.max().unwrap_or(0).min(now.second))
                }
            };
            for second in (most.saturating_sub(GAIN).max(1)..=most).rev() {
                let target = When { first, second };
                if best.is_none() && !target.within(now) || target == now {
                    continue;
                }
                let Some(terms) = self.by(&root, target) else {
                    break;
                };
                best = Some((target, terms));
            }
        }
        let (target, terms) = best?;
        let out = self.out.clone();
        let new = self.emit(terms, &out, target)?;
        (self.arrival(new) < now && self.build.fact(new).level <= self.build.fact(as_is).level)
            .then_some(new)
    }

    /// Terms of a value that are all there by `target`, with something moved across a sum.
    fn by(&mut self, root: &Term, target: When) -> Option<Vec<Term>> {
        self.fuel = self.most;
        self.crossed = false;
        let mut terms = Vec::new();
        (self.open(root, target, &mut terms) && self.crossed).then_some(terms)
    }

    // ---- taking apart ----

    /// Terms that are all there by `target`, for one term. Nothing is added when there are none.
    fn reach(&mut self, term: &Term, target: When, into: &mut Vec<Term>) -> bool {
        let Some((leaf, axes)) = term.leaf.clone() else {
            let fits = self.level(term).is_some_and(|l| l.within(target));
            if fits {
                into.push(term.clone());
            }
            return fits;
        };
        if self.fuel == 0 || term.factors.len() > FACTORS || into.len() >= TERMS {
            return false;
        }
        self.fuel -= 1;
        *self.steps = self.steps.saturating_sub(1);
        let whole = |node: NodeId| -> Term {
            let mut whole = term.clone();
            whole.leaf = None;
            whole.factors.push(Named {
                node,
                axes: axes.clone(),
                old: Some(leaf),
            });
            whole
        };
        let as_is = self.plain[leaf.index()];
        let plain = whole(as_is);
        let cheap = self.cheap(leaf);
        if (cheap || as_is == self.map[leaf.index()])
            && self.build.fact(as_is).secret
            && self.level(&plain).is_some_and(|l| l.within(target))
        {
            into.push(plain);
            return true;
        }
        let new = self.map[leaf.index()];
        let ready = (new != as_is).then(|| whole(new));
        let ready = ready.filter(|t| self.level(t).is_some_and(|l| l.within(target)));
        if cheap {
            let count = into.len();
            if self.open(term, target, into) {
                // A product that only this value needs is better not made beside it.
                let apart = ready.is_some()
                    && into[count..]
                        .iter()
                        .filter_map(|t| t.factors.last().and_then(|f| f.old))
                        .any(|old| !self.cheap(old));
                if !apart {
                    return true;
                }
                into.truncate(count);
            }
        }
        if let Some(ready) = ready {
            into.push(ready);
            return true;
        }
        !cheap && self.open(term, target, into)
    }

    /// Whether taking a value apart needs no further product.
    fn cheap(&self, old: NodeId) -> bool {
        let node = self.circuit.graph.node(old);
        match node.op {
            TensorOp::MatMul => false,
            TensorOp::Mul => self
                .circuit
                .graph
                .operands(old)
                .iter()
                .any(|o| self.build.uniform_node(self.map[o.index()]).is_some()),
            _ => true,
        }
    }

    /// The same by taking the leaf apart.
    fn open(&mut self, term: &Term, target: When, into: &mut Vec<Term>) -> bool {
        let count = into.len();
        match self.parts(term) {
            Parts::Whole => false,
            Parts::Sum(terms) => {
                for t in &terms {
                    if !self.reach(t, target, into) {
                        into.truncate(count);
                        return false;
                    }
                }
                true
            }
            // What is multiplied on must be there before.
            Parts::Product(t) => {
                t.factors
                    .last()
                    .is_none_or(|f| self.precedes(f.node, target))
                    && self.reach(&t, target, into)
            }
        }
    }

    /// Whether a product with this factor can be there by a target.
    fn precedes(&self, factor: NodeId, target: When) -> bool {
        let secret = u32::from(self.build.fact(factor).secret);
        let up = self.when(1, secret);
        self.arrival(factor)
            .plus(up.first, up.second)
            .within(target)
    }

    /// One step down from a term's leaf.
    fn parts(&mut self, term: &Term) -> Parts {
        let Some((old, axes)) = term.leaf.clone() else {
            return Parts::Whole;
        };
        let graph = &self.circuit.graph;
        let node = graph.node(old);
        let new = self.plain[old.index()];
        if !self.build.fact(new).secret {
            return self.public(term, new, &axes);
        }
        if node.keep {
            return Parts::Whole;
        }
        let operands = graph.operands(old);
        let with = |leaf: NodeId, axes: Axes, flip: bool| Term {
            negative: term.negative ^ flip,
            leaf: Some((leaf, axes)),
            ..term.clone()
        };
        match &node.op {
            TensorOp::Add => Parts::Sum(vec![
                with(operands[0], axes.clone(), false),
                with(operands[1], axes, false),
            ]),
            TensorOp::Sub => Parts::Sum(vec![
                with(operands[0], axes.clone(), false),
                with(operands[1], axes, true),
            ]),
            TensorOp::Neg => Parts::Sum(vec![with(operands[0], axes, true)]),
            TensorOp::Mul => self.product(term, (operands[0], axes.clone()), (operands[1], axes)),
            TensorOp::MatMul => {
                let shape = |o: NodeId| graph.ty(o).shape();
                let (a, b) = (shape(operands[0]), shape(operands[1]));
                let inner = self.name(a[a.len() - 1]);
                let mut at = axes.iter().copied();
                let mut left: Axes = at.by_ref().take(a.len() - 1).collect();
                left.push(inner);
                let mut right: Axes = SmallVec::from_slice(&[inner]);
                right.extend(at);
                debug_assert_eq!(right.len(), b.len());
                self.crossed = true;
                self.product(term, (operands[0], left), (operands[1], right))
            }
            TensorOp::Sum(over) => {
                let shape = Shape::from_slice(graph.ty(operands[0]).shape());
                let mut at = axes.iter().copied();
                let below: Axes = (0..shape.len())
                    .map(|i| {
                        if over.contains(&i) {
                            self.name(shape[i])
                        } else {
                            at.next().unwrap_or(ONE)
                        }
                    })
                    .collect();
                self.crossed = true;
                Parts::Sum(vec![with(operands[0], below, false)])
            }
            TensorOp::Broadcast(to) => {
                let from = graph.ty(operands[0]).shape();
                let skip = to.len() - from.len();
                let below: Axes = (0..from.len())
                    .map(|i| if from[i] == 1 { ONE } else { axes[i + skip] })
                    .collect();
                let mut out = with(operands[0], below.clone(), false);
                for (i, l) in axes.iter().enumerate() {
                    if i < skip || from[i - skip] == 1 {
                        self.drop_axis(&mut out, *l, &below);
                    }
                }
                self.crossed = true;
                Parts::Sum(vec![out])
            }
            TensorOp::Transpose(perm) => {
                let mut below: Axes = axes.clone();
                for (i, &p) in perm.iter().enumerate() {
                    below[p] = axes[i];
                }
                Parts::Sum(vec![with(operands[0], below, false)])
            }
            TensorOp::Reshape(to) => {
                let from = graph.ty(operands[0]).shape();
                let long =
                    |s: &[usize]| -> Vec<usize> { s.iter().copied().filter(|n| *n != 1).collect() };
                if long(to) != long(from) {
                    return Parts::Whole;
                }
                let mut at = axes
                    .iter()
                    .zip(to)
                    .filter(|(_, n)| **n != 1)
                    .map(|(l, _)| *l);
                let below: Axes = from
                    .iter()
                    .map(|n| {
                        if *n == 1 {
                            ONE
                        } else {
                            at.next().unwrap_or(ONE)
                        }
                    })
                    .collect();
                Parts::Sum(vec![with(operands[0], below, false)])
            }
            TensorOp::Input(_)
            | TensorOp::Const(_)
            | TensorOp::Index(_)
            | TensorOp::Div
            | TensorOp::Pow(_)
            | TensorOp::Poly(_)
            | TensorOp::Slice { .. }
            | TensorOp::Update { .. }
            | TensorOp::Concat(_)
            | TensorOp::Pad { .. }
            | TensorOp::Roll(_)
            | TensorOp::Diag
            | TensorOp::Conv2d { .. }
            | TensorOp::SumPool(_)
            | TensorOp::Loop { .. }
            | TensorOp::Proj(_) => Parts::Whole,
        }
    }

    /// A public leaf joins the coefficient or the factors.
    fn public(&mut self, term: &Term, new: NodeId, axes: &Axes) -> Parts {
        let mut out = term.clone();
        out.leaf = None;
        match self.build.uniform_node(new) {
            Some(scalar) => {
                self.scale(&mut out, scalar);
                let none = Axes::new();
                for l in axes {
                    self.drop_axis(&mut out, *l, &none);
                }
            }
            None => out.factors.push(Named {
                node: new,
                axes: axes.clone(),
                old: None,
            }),
        }
        Parts::Sum(vec![out])
    }

    fn scale(&mut self, term: &mut Term, scalar: NodeId) {
        if self.build.uniform_value(scalar) != Some(1.0) {
            term.by.push(scalar);
        }
    }

    /// The coefficient without its sign, if it is not one.
    fn coefficient(&mut self, by: &[NodeId]) -> Option<NodeId> {
        let mut by = by.to_vec();
        by.sort_unstable();
        let (build, span) = (&mut *self.build, self.span);
        by.into_iter().reduce(|a, b| build.mul(a, b, span))
    }

    /// Forgets an axis of the leaf: what is summed over it is there as often as it is long.
    fn drop_axis(&mut self, term: &mut Term, axis: Label, left: &Axes) {
        let held = axis == ONE
            || left.contains(&axis)
            || self.out.contains(&axis)
            || term.factors.iter().any(|f| f.axes.contains(&axis));
        if !held {
            let n = self
                .build
                .scalar(self.extents[axis as usize] as f64, self.span);
            self.scale(term, n);
        }
    }

    fn product(&mut self, term: &Term, a: (NodeId, Axes), b: (NodeId, Axes)) -> Parts {
        for (x, y) in [(&a, &b), (&b, &a)] {
            let new = self.map[x.0.index()];
            if let Some(scalar) = self.build.uniform_node(new) {
                let mut out = term.clone();
                out.leaf = Some(y.clone());
                self.scale(&mut out, scalar);
                let below = y.1.clone();
                for l in &x.1 {
                    self.drop_axis(&mut out, *l, &below);
                }
                return Parts::Sum(vec![out]);
            }
        }
        let way = |s: &Self, early: &(NodeId, Axes), late: &(NodeId, Axes)| {
            let mut out = term.clone();
            let node = s.map[early.0.index()];
            out.factors.push(Named {
                node,
                axes: early.1.clone(),
                old: Some(early.0),
            });
            out.leaf = Some(late.clone());
            out
        };
        let arrival = |s: &Self, x: &(NodeId, Axes)| {
            let new = s.map[x.0.index()];
            (s.build.fact(new).secret, s.arrival(new))
        };
        let (x, y) = (arrival(self, &a), arrival(self, &b));
        // Of two that arrive together neither can wait for the other.
        match x.cmp(&y) {
            std::cmp::Ordering::Less => Parts::Product(way(self, &a, &b)),
            std::cmp::Ordering::Greater => Parts::Product(way(self, &b, &a)),
            std::cmp::Ordering::Equal => Parts::Whole,
        }
    }

    // ---- order of products ----

    fn size(&self, axes: &[Label]) -> usize {
        axes.iter()
            .filter(|l| **l != ONE)
            .fold(1usize, |n, l| n.saturating_mul(self.extents[*l as usize]))
    }

    fn item(&self, named: &Named) -> Item {
        let fact = self.build.fact(named.node);
        Item {
            axes: named.axes.iter().copied().filter(|l| *l != ONE).collect(),
            when: self.arrival(named.node),
            fact,
        }
    }

    /// Which items are multiplied, one pair after the other (the product takes the place of the
    /// first, the second goes), and when the whole is there.
    fn plan(&self, mut items: Vec<Item>, out: &[Label]) -> Option<(Vec<(usize, usize)>, When)> {
        let degree = self.circuit.meta.precompute.map_or(0, |p| p.degree);
        let mut order = Vec::new();
        loop {
            // What only one item has is summed over at once.
            for i in 0..items.len() {
                let kept: Axes = items[i]
                    .axes
                    .iter()
                    .copied()
                    .filter(|l| {
                        out.contains(l)
                            || items
                                .iter()
                                .enumerate()
                                .any(|(j, other)| j != i && other.axes.contains(l))
                    })
                    .collect();
                items[i].axes = kept;
            }
            if items.len() <= 1 {
                return items.first().map(|i| (order, i.when));
            }
            let mut best: Option<Choice> = None;
            for i in 0..items.len() {
                for j in i + 1..items.len() {
                    let (a, b) = (&items[i], &items[j]);
                    let mut union: Axes = a.axes.clone();
                    union.extend(b.axes.iter().copied().filter(|l| !a.axes.contains(l)));
                    let space = self.size(&union);
                    let client = cost::client_product(a.fact, b.fact, degree);
                    let vectors = |n: usize| n.div_ceil(SLOTS);
                    let larger = vectors(self.size(&a.axes)).max(vectors(self.size(&b.axes)));
                    let left: Axes = union
                        .iter()
                        .copied()
                        .filter(|l| {
                            out.contains(l)
                                || items
                                    .iter()
                                    .enumerate()
                                    .any(|(k, other)| k != i && k != j && other.axes.contains(l))
                        })
                        .collect();
                    let grows = vectors(space) > larger && self.grow == Growth::None && client == 0;
                    let wider = match self.grow {
                        Growth::Products => WIDER,
                        Growth::None | Growth::Sums => 1,
                    };
                    let wide = vectors(self.size(&left)) > wider * larger;
                    if space > VOLUME || grows || wide {
                        self.refused.set(self.refused.get() || wide);
                        continue;
                    }
                    let secret = a.fact.secret || b.fact.secret;
                    let when = self.product_of(a, b, client);
                    if best.as_ref().is_none_or(|b| (when, space) < b.0) {
                        let product = Item {
                            axes: union,
                            when,
                            fact: Fact {
                                secret,
                                client,
                                ..Fact::default()
                            },
                        };
                        best = Some(((when, space), (i, j), product));
                    }
                }
            }
            let (_, (i, j), product) = best?;
            items[i] = product;
            items.remove(j);
            order.push((i, j));
        }
    }

    /// When a term without a leaf is there.
    fn level(&mut self, term: &Term) -> Option<When> {
        let out = self.out.clone();
        self.level_in(term, &out)
    }

    fn level_in(&mut self, term: &Term, out: &Axes) -> Option<When> {
        let factors = self.scaled(term);
        if factors.is_empty() {
            return Some(When::default());
        }
        let items: Vec<Item> = factors.iter().map(|f| self.item(f)).collect();
        self.plan(items, out).map(|p| p.1)
    }

    /// The factors with the coefficient in the one that arrives first.
    fn scaled(&mut self, term: &Term) -> Vec<Named> {
        let mut factors = term.factors.clone();
        if let Some(by) = self.coefficient(&term.by)
            && let Some(at) =
                (0..factors.len()).min_by_key(|i| (self.arrival(factors[*i].node), *i))
        {
            factors[at].node = self.times(by, factors[at].node);
        }
        factors
    }

    /// A public scalar times a value.
    fn times(&mut self, by: NodeId, x: NodeId) -> NodeId {
        let shape = self.build.shape(x);
        let by = self.build.broadcast(by, &shape, self.span);
        self.build.mul(by, x, self.span)
    }

    // ---- putting together ----

    /// The sum of terms, there by `target`, with axes of these names.
    fn emit(&mut self, mut terms: Vec<Term>, out: &Axes, target: When) -> Option<NodeId> {
        self.join(&mut terms, out, target);
        // The largest products first, so that others find what they share.
        terms.sort_by_key(|t| std::cmp::Reverse(t.factors.len()));
        let mut known: Vec<(Vec<Named>, Named)> = Vec::new();
        let mut finals: Vec<(Final, bool)> = Vec::new();
        for term in &terms {
            let f = self.last(term, out, &mut known)?;
            finals.push((f, term.negative));
        }
        self.total(finals, out)
    }

    /// Puts terms together where no level is lost.
    fn join(&mut self, terms: &mut Vec<Term>, out: &Axes, target: When) {
        self.rename(terms, out);
        // Equal products.
        let mut i = 0;
        while i < terms.len() {
            let mut j = i + 1;
            while j < terms.len() {
                if same(&terms[i].factors, &terms[j].factors) {
                    let other = terms.remove(j);
                    let (a, b) = (self.signed(&terms[i]), self.signed(&other));
                    let by = self.build.add(a, b, self.span);
                    terms[i].by = vec![by];
                    terms[i].negative = false;
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
        // Products that one has one factor more than, and products that differ in one factor.
        let mut changed = true;
        while changed {
            changed = false;
            // The largest first.
            terms.sort_by_key(|t| std::cmp::Reverse(t.factors.len()));
            'search: for i in 0..terms.len() {
                for j in 0..terms.len() {
                    if i == j {
                        continue;
                    }
                    let merged = self
                        .one_more(&terms[i], &terms[j], out, target)
                        .or_else(|| self.one_other(terms, i, j, out, target))
                        .or_else(|| self.one_product(&terms[i], &terms[j], out, target));
                    if let Some(new) = merged {
                        terms[i] = new;
                        terms.remove(j);
                        changed = true;
                        break 'search;
                    }
                }
            }
        }
    }

    /// Gives names that are summed over the same name where they stand for the same axis of the
    /// same values, so that what terms share is seen.
    fn rename(&self, terms: &mut [Term], out: &Axes) {
        // By name, in order of appearance: which axes of which values it stands for, and in which terms.
        let mut inner: Vec<Inner> = Vec::new();
        for (t, term) in terms.iter().enumerate() {
            for f in &term.factors {
                for (i, &label) in f.axes.iter().enumerate() {
                    if label == ONE || out.contains(&label) {
                        continue;
                    }
                    let at = inner.iter().position(|n| n.label == label);
                    let at = at.unwrap_or_else(|| {
                        inner.push(Inner {
                            label,
                            places: Vec::new(),
                            terms: Vec::new(),
                        });
                        inner.len() - 1
                    });
                    inner[at].places.push((f.node, i));
                    inner[at].terms.push(t);
                }
            }
        }
        let mut to: FxHashMap<Label, Label> = FxHashMap::default();
        let mut kept: Vec<Inner> = Vec::new();
        for name in inner {
            // The one with most in common; two names of one term never become one.
            let common = |k: &Inner| k.places.iter().filter(|p| name.places.contains(p)).count();
            let found = (0..kept.len())
                .filter(|&k| {
                    let other = &kept[k];
                    self.extent(other.label) == self.extent(name.label)
                        && !other.terms.iter().any(|t| name.terms.contains(t))
                        && common(other) > 0
                })
                .max_by_key(|&k| (common(&kept[k]), std::cmp::Reverse(k)));
            match found {
                Some(k) => {
                    to.insert(name.label, kept[k].label);
                    kept[k].places.extend(name.places);
                    kept[k].terms.extend(name.terms);
                }
                None => kept.push(name),
            }
        }
        for l in terms
            .iter_mut()
            .flat_map(|t| t.factors.iter_mut())
            .flat_map(|f| f.axes.iter_mut())
        {
            if let Some(new) = to.get(l) {
                *l = *new;
            }
        }
    }

    /// K·a·b + K·c·d = K·(a·b + c·d), where each pair is multiplied first anyway.
    fn one_product(&mut self, s: &Term, t: &Term, out: &Axes, target: When) -> Option<Term> {
        let (common, x, y) = split(&s.factors, &t.factors);
        let sizes = (1..=2).contains(&x.len()) && (1..=2).contains(&y.len());
        if !sizes || x.len() + y.len() < 3 {
            return None;
        }
        // By themselves they are put together only where others have their sum already.
        let alone = common.is_empty();
        if alone && ![&x, &y].iter().all(|rest| self.is_shared(rest)) {
            return None;
        }
        let mut own = s.clone();
        let mut other = t.clone();
        let mut by = Vec::new();
        own.by
            .retain(|c| match other.by.iter().position(|d| d == c) {
                Some(at) => {
                    by.push(other.by.remove(at));
                    false
                }
                None => true,
            });
        if alone && !(own.by.is_empty() && other.by.is_empty() && own.negative == other.negative) {
            return None;
        }
        let negative = alone && own.negative;
        (own.negative, other.negative) = (own.negative ^ negative, other.negative ^ negative);
        let pairs = [x.clone(), y.clone()];
        let mut axes: Option<Axes> = None;
        for (term, rest) in [(&mut own, x), (&mut other, y)] {
            if !alone && rest.len() == 2 && !self.first_product(&term.factors, &rest, out) {
                return None;
            }
            // What others need of the pair.
            let mut here = Axes::new();
            for l in rest.iter().flat_map(|f| f.axes.iter().copied()) {
                let held = alone || out.contains(&l) || common.iter().any(|f| f.axes.contains(&l));
                if l != ONE && held && !here.contains(&l) {
                    here.push(l);
                }
            }
            match &axes {
                Some(axes) if here.len() != axes.len() => return None,
                Some(axes) if !here.iter().all(|l| axes.contains(l)) => return None,
                Some(_) => {}
                None => axes = Some(here),
            }
            term.factors = rest;
        }
        let axes = axes?;
        let by_then = if alone { target } else { target.before()? };
        let saved = std::mem::replace(&mut self.out, axes.clone());
        // Within the sum there is nothing to be put together so.
        let shared = std::mem::take(&mut self.shared);
        let node = self.emit(vec![own, other], &axes, by_then);
        self.out = saved;
        self.shared = shared;
        let sum = Named {
            node: node?,
            axes,
            old: None,
        };
        let mut factors = common;
        factors.push(sum.clone());
        let new = Term {
            negative,
            by,
            factors,
            leaf: None,
        };
        if !self.level_in(&new, out)?.within(target) {
            return None;
        }
        if !alone {
            self.shared.extend(pairs);
            self.shared.push(vec![sum]);
        }
        Some(new)
    }

    /// Whether these factors, multiplied, are part of a sum that some product has as a factor.
    fn is_shared(&self, factors: &[Named]) -> bool {
        self.shared.iter().any(|known| same(known, factors))
    }

    /// Whether these two of the factors are the first that are multiplied.
    fn first_product(&self, factors: &[Named], pair: &[Named], out: &Axes) -> bool {
        let items: Vec<Item> = factors.iter().map(|f| self.item(f)).collect();
        let Some((order, _)) = self.plan(items, out) else {
            return false;
        };
        order
            .first()
            .is_some_and(|&(i, j)| same(&[factors[i].clone(), factors[j].clone()], pair))
    }

    /// The coefficient with its sign.
    fn signed(&mut self, term: &Term) -> NodeId {
        let by = match self.coefficient(&term.by) {
            Some(by) => by,
            None => self.build.scalar(1.0, self.span),
        };
        if term.negative {
            self.build.neg(by, self.span)
        } else {
            by
        }
    }

    /// c₁·K·x + c₂·K = c₁·K·(x + c₂/c₁).
    fn one_more(&mut self, more: &Term, less: &Term, out: &Axes, target: When) -> Option<Term> {
        if less.factors.is_empty() || more.factors.len() != less.factors.len() + 1 {
            return None;
        }
        let (common, x, rest) = split(&more.factors, &less.factors);
        let ([x], []) = (&x[..], &rest[..]) else {
            return None;
        };
        // The names of x are held by the others, so that the constant is summed as often as x.
        if !x
            .axes
            .iter()
            .all(|l| *l == ONE || common.iter().any(|f| f.axes.contains(l)))
        {
            return None;
        }
        // What both coefficients have is left out, so that equal quotients look equal.
        let mut own = more.clone();
        let mut other = less.clone();
        other
            .by
            .retain(|c| match own.by.iter().position(|d| d == c) {
                Some(at) => {
                    own.by.remove(at);
                    false
                }
                None => true,
            });
        let (a, b) = (self.signed(&own), self.signed(&other));
        let (known_a, known_b) = (self.value(a)?, self.value(b)?);
        let ratio = (known_b / known_a).abs();
        if !(ratio.is_finite() && ratio <= MONIC) {
            return None;
        }
        let ratio = self.build.div(b, a, self.span);
        let shape = self.build.shape(x.node);
        let ratio = self.build.broadcast(ratio, &shape, self.span);
        let sum = self.build.add(x.node, ratio, self.span);
        let mut factors = common;
        factors.push(Named {
            node: sum,
            axes: x.axes.clone(),
            old: None,
        });
        let new = Term {
            factors,
            leaf: None,
            ..more.clone()
        };
        self.level_in(&new, out)?.within(target).then_some(new)
    }

    /// c₁·K·x + c₂·K·y = K·(c₁·x + c₂·y).
    fn one_other(
        &mut self,
        terms: &[Term],
        i: usize,
        j: usize,
        out: &Axes,
        target: When,
    ) -> Option<Term> {
        let (s, t) = (&terms[i], &terms[j]);
        if s.factors.len() != t.factors.len() || s.factors.len() < 2 {
            return None;
        }
        let (common, x, y) = split(&s.factors, &t.factors);
        let ([x], [y]) = (&x[..], &y[..]) else {
            return None;
        };
        if x.axes != y.axes {
            return None;
        }
        let sum = self.combine(&[(s, x), (t, y)], target.before()?)?;
        let mut factors = common;
        factors.push(Named {
            node: sum,
            axes: x.axes.clone(),
            old: None,
        });
        let new = Term {
            factors,
            ..Term::default()
        };
        self.level_in(&new, out)?.within(target).then_some(new)
    }

    /// Σ coefficient · value, by a target; values are taken apart where they come too late.
    fn combine(&mut self, parts: &[(&Term, &Named)], target: When) -> Option<NodeId> {
        let axes = parts[0].1.axes.clone();
        let saved = (std::mem::replace(&mut self.out, axes.clone()), self.fuel);
        self.fuel = FUEL;
        let mut terms = Vec::new();
        let mut fits = true;
        for (term, value) in parts {
            let mut t = Term {
                negative: term.negative,
                by: term.by.clone(),
                ..Term::default()
            };
            t.factors.push((*value).clone());
            let whole = self.level(&t).is_some_and(|l| l.within(target));
            fits &= if whole {
                terms.push(t);
                true
            } else {
                t.factors.clear();
                match value.old {
                    Some(old) => {
                        t.leaf = Some((old, axes.clone()));
                        self.reach(&t, target, &mut terms)
                    }
                    None => false,
                }
            };
            if !fits {
                break;
            }
        }
        let sum = if fits {
            self.emit(terms, &axes, target)
        } else {
            None
        };
        (self.out, self.fuel) = saved;
        sum.filter(|s| self.arrival(*s).within(target))
    }

    /// A public scalar that is known.
    fn value(&self, id: NodeId) -> Option<f64> {
        super::poly::known(self.build, id).filter(|v| *v != 0.0)
    }

    /// All products of a term but the last sum over names that the value does not have.
    fn last(
        &mut self,
        term: &Term,
        out: &Axes,
        known: &mut Vec<(Vec<Named>, Named)>,
    ) -> Option<Final> {
        let span = self.span;
        if term.factors.is_empty() {
            let mut node = match self.coefficient(&term.by) {
                Some(by) => by,
                None => self.build.scalar(1.0, span),
            };
            let shape: Shape = out.iter().map(|l| self.extent(*l)).collect();
            node = self.build.broadcast(node, &shape, span);
            return Some(Final {
                operands: SmallVec::from_iter([Named {
                    node,
                    axes: out.clone(),
                    old: None,
                }]),
            });
        }
        // What an earlier term multiplied on the way stands for its factors, unless it is needed late.
        let found = known
            .iter()
            .find(|(set, _)| same(set, &term.factors))
            .map(|(_, product)| product.clone());
        let mut items: Vec<(Vec<Named>, Named)> = match found {
            Some(product) => vec![(term.factors.clone(), product)],
            None => term
                .factors
                .iter()
                .map(|f| (vec![f.clone()], f.clone()))
                .collect(),
        };
        let estimates: Vec<Item> = items.iter().map(|i| self.item(&i.1)).collect();
        let (order, _) = self.plan(estimates, out)?;
        let mut by = self.coefficient(&term.by);
        // Where the coefficient goes: the last product with an operand that can take it in time.
        let place = by.and_then(|by| self.place(by, &items, &order, out));
        for (step, &(i, j)) in order.iter().enumerate() {
            if let (Some(c), Some((at, first))) = (by, place)
                && at == step
            {
                let k = if first { i } else { j };
                items[k].1.node = self.times(c, items[k].1.node);
                items[k].0.clear();
                by = None;
            }
            let (set, b) = items.remove(j);
            if step + 1 == order.len() {
                let a = items[i].1.clone();
                let mut operands: SmallVec<[Named; 2]> = SmallVec::from_iter([a, b]);
                if let Some(c) = by {
                    let k = usize::from(
                        self.arrival(operands[1].node) < self.arrival(operands[0].node),
                    );
                    operands[k].node = self.times(c, operands[k].node);
                }
                return Some(Final { operands });
            }
            let keep: Axes = out
                .iter()
                .copied()
                .chain(
                    items
                        .iter()
                        .enumerate()
                        .filter(|(k, _)| *k != i)
                        .flat_map(|(_, it)| it.1.axes.iter().copied()),
                )
                .collect();
            let (left, a) = items[i].clone();
            let product = self.multiply(&a, &b, &keep);
            let mut union = left;
            let whole = !union.is_empty() && !set.is_empty();
            union.extend(set);
            if whole {
                known.push((union.clone(), product.clone()));
            } else {
                union.clear();
            }
            items[i] = (union, product);
        }
        let (_, mut only) = items.pop()?;
        if let Some(c) = by {
            only.node = self.times(c, only.node);
        }
        Some(Final {
            operands: SmallVec::from_iter([only]),
        })
    }

    /// The last product that has an operand which, scaled, is still there in time.
    fn place(
        &mut self,
        by: NodeId,
        items: &[(Vec<Named>, Named)],
        order: &[(usize, usize)],
        out: &Axes,
    ) -> Option<(usize, bool)> {
        let whole = |v: f64| v.fract() == 0.0 && v.abs() < 1048576.0;
        let up = u32::from(!self.value(by).is_some_and(whole));
        let up = self.when(up, 0);
        let mut levels: Vec<Item> = items.iter().map(|i| self.item(&i.1)).collect();
        let degree = self.circuit.meta.precompute.map_or(0, |p| p.degree);
        let _ = out;
        let mut best = None;
        for (step, &(i, j)) in order.iter().enumerate() {
            let b = levels.remove(j);
            let a = levels[i].clone();
            let scaled = |x: &Item| match x.fact.client {
                0 => x.when.plus(up.first, up.second),
                _ => When::default(),
            };
            let most = a.when.and(b.when);
            if scaled(&a).within(most) && a.when <= b.when {
                best = Some((step, true));
            } else if scaled(&b).within(most) {
                best = Some((step, false));
            }
            let client = cost::client_product(a.fact, b.fact, degree);
            levels[i] = Item {
                when: self.product_of(&a, &b, client),
                fact: Fact {
                    secret: a.fact.secret || b.fact.secret,
                    client,
                    ..Fact::default()
                },
                axes: a.axes,
            };
        }
        best.or_else(|| {
            // The factor that arrives first, where it enters.
            let first = (0..items.len()).min_by_key(|k| (self.arrival(items[*k].1.node), *k))?;
            let mut at: Vec<usize> = (0..items.len()).collect();
            for (step, &(i, j)) in order.iter().enumerate() {
                if at[i] == first {
                    return Some((step, true));
                }
                if at[j] == first {
                    return Some((step, false));
                }
                at[i] = usize::MAX;
                at.remove(j);
            }
            None
        })
    }

    fn extent(&self, label: Label) -> usize {
        if label == ONE {
            1
        } else {
            self.extents[label as usize]
        }
    }

    /// A value over exactly these names, in this order, repeated where it does not depend on one;
    /// its other axes are summed over.
    fn aligned(&mut self, x: &Named, order: &[Label]) -> NodeId {
        let x = self.stripped(x, order);
        let span = self.span;
        let mut perm: Vec<usize> = Vec::new();
        let mut with_ones = Shape::new();
        for l in order {
            match x.axes.iter().position(|m| m == l).filter(|_| *l != ONE) {
                Some(at) => {
                    perm.push(at);
                    with_ones.push(self.extent(*l));
                }
                None => with_ones.push(1),
            }
        }
        let mut node = self.build.transpose(x.node, &perm, span);
        node = self.build.reshape(node, &with_ones, span);
        let full: Shape = order.iter().map(|l| self.extent(*l)).collect();
        self.build.broadcast(node, &full, span)
    }

    /// Without axes of one element, summed over names that are not wanted.
    fn stripped(&mut self, x: &Named, wanted: &[Label]) -> Named {
        let span = self.span;
        let shape = self.build.shape(x.node);
        let over: Vec<usize> = (0..shape.len())
            .filter(|i| x.axes[*i] != ONE && !wanted.contains(&x.axes[*i]))
            .collect();
        let mut axes: Axes = (0..shape.len())
            .filter(|i| !over.contains(i))
            .map(|i| x.axes[i])
            .collect();
        let mut node = self.build.sum(x.node, &over, span);
        if axes.contains(&ONE) {
            axes.retain(|l| *l != ONE);
            let to: Shape = axes.iter().map(|l| self.extent(*l)).collect();
            node = self.build.reshape(node, &to, span);
        }
        Named {
            node,
            axes,
            old: x.old,
        }
    }

    /// a·b, summed over all names that are not kept.
    fn multiply(&mut self, a: &Named, b: &Named, keep: &[Label]) -> Named {
        let span = self.span;
        let wanted: Axes = keep.iter().copied().chain(b.axes.iter().copied()).collect();
        let a = self.stripped(a, &wanted);
        let wanted: Axes = keep.iter().copied().chain(a.axes.iter().copied()).collect();
        let b = self.stripped(b, &wanted);
        let shared: Axes = a
            .axes
            .iter()
            .copied()
            .filter(|l| b.axes.contains(l))
            .collect();
        let inner: Axes = shared
            .iter()
            .copied()
            .filter(|l| !keep.contains(l))
            .collect();
        if inner.len() == 1 && shared.len() == 1 && a.axes.len() <= 2 && b.axes.len() <= 2 {
            let c = inner[0];
            // A vector stands where the matrix need not be turned.
            let (x, y) = match (a.axes.len(), b.axes.len()) {
                (2, 1) if a.axes[0] == c => (&b, &a),
                (1, 2) if b.axes[1] == c => (&b, &a),
                _ => (&a, &b),
            };
            let mut left = x.node;
            if x.axes.len() == 2 && x.axes[0] == c {
                left = self.build.transpose(left, &[1, 0], span);
            }
            let mut right = y.node;
            if y.axes.len() == 2 && y.axes[1] == c {
                right = self.build.transpose(right, &[1, 0], span);
            }
            let node = self.build.matmul(left, right, span);
            let axes = x
                .axes
                .iter()
                .chain(&y.axes)
                .copied()
                .filter(|l| *l != c)
                .collect();
            return Named {
                node,
                axes,
                old: None,
            };
        }
        let (big, small) = if self.size(&b.axes) > self.size(&a.axes) {
            (&b, &a)
        } else {
            (&a, &b)
        };
        let mut order: Axes = big.axes.clone();
        order.extend(small.axes.iter().copied().filter(|l| !big.axes.contains(l)));
        let (x, y) = (self.aligned(big, &order), self.aligned(small, &order));
        let node = self.build.mul(x, y, span);
        let product = Named {
            node,
            axes: order,
            old: None,
        };
        self.stripped(&product, keep)
    }

    /// The sum of what is left of all terms.
    fn total(&mut self, finals: Vec<(Final, bool)>, out: &Axes) -> Option<NodeId> {
        let span = self.span;
        let outs: Axes = out.iter().copied().filter(|l| *l != ONE).collect();
        // Terms that are summed over one further name of the same extent, in the order of the first.
        let mut groups: Vec<(Axes, Vec<(Final, bool)>)> = Vec::new();
        let mut items: Vec<(NodeId, bool)> = Vec::new();
        for (f, negative) in finals {
            let order = f.order(self);
            let inner: Axes = order
                .iter()
                .copied()
                .filter(|l| !outs.contains(l))
                .collect();
            let every = outs.iter().all(|l| order.contains(l));
            let largest = f
                .operands
                .iter()
                .map(|o| self.size(&o.axes))
                .max()
                .unwrap_or(1);
            if inner.len() == 1 && every && self.size(&order) <= largest {
                let n = self.extent(inner[0]);
                let group = groups.iter_mut().find(|(axes, _)| {
                    axes.iter()
                        .any(|l| !outs.contains(l) && self.extents[*l as usize] == n)
                });
                match group {
                    Some((axes, members)) => {
                        let to = axes
                            .iter()
                            .copied()
                            .find(|l| !outs.contains(l))
                            .unwrap_or(ONE);
                        members.push((f.renamed(inner[0], to), negative));
                    }
                    None => groups.push((order, vec![(f, negative)])),
                }
                continue;
            }
            let node = self.close(&f, out);
            items.push((node, negative));
        }
        for (order, members) in groups {
            if let [(f, negative)] = &members[..] {
                let node = self.close(f, out);
                items.push((node, *negative));
                continue;
            }
            let parts: Vec<(NodeId, bool)> = members
                .iter()
                .map(|(f, negative)| {
                    let mut product: Option<NodeId> = None;
                    for o in &f.operands {
                        let o = self.aligned(o, &order);
                        product = Some(match product {
                            Some(p) => self.build.mul(p, o, span),
                            None => o,
                        });
                    }
                    (product.unwrap_or(NodeId(0)), *negative)
                })
                .collect();
            let (node, negative, _) = add_all(self.build, &parts, span)?;
            let sum = Final {
                operands: SmallVec::from_iter([Named {
                    node,
                    axes: order,
                    old: None,
                }]),
            };
            let node = self.close(&sum, out);
            items.push((node, negative));
        }
        let (node, negative, _) = add_all(self.build, &items, span)?;
        Some(if negative {
            self.build.neg(node, span)
        } else {
            node
        })
    }

    /// The last product of a term, summed and in the order of the value's axes.
    fn close(&mut self, f: &Final, out: &Axes) -> NodeId {
        let product = match &f.operands[..] {
            [a, b] => self.multiply(a, b, out),
            _ => f.operands[0].clone(),
        };
        self.aligned(&product, out)
    }
}

/// One tensor, or two that are still to be multiplied.
#[derive(Clone, Debug)]
struct Final {
    operands: SmallVec<[Named; 2]>,
}

impl Final {
    /// All names, those of the larger operand first.
    fn order(&self, former: &Former<'_>) -> Axes {
        let mut operands: SmallVec<[&Named; 2]> = self.operands.iter().collect();
        operands.sort_by_key(|o| std::cmp::Reverse(former.size(&o.axes)));
        let mut order = Axes::new();
        for o in operands {
            for l in &o.axes {
                if *l != ONE && !order.contains(l) {
                    order.push(*l);
                }
            }
        }
        order
    }

    fn renamed(mut self, from: Label, to: Label) -> Final {
        for l in self.operands.iter_mut().flat_map(|o| o.axes.iter_mut()) {
            if *l == from {
                *l = to;
            }
        }
        self
    }
}

/// Whether two lists hold the same factors.
fn same(a: &[Named], b: &[Named]) -> bool {
    a.len() == b.len() && {
        let (common, ..) = split(a, b);
        common.len() == a.len()
    }
}

/// What two lists of factors share, and what each has beside it.
fn split(a: &[Named], b: &[Named]) -> (Vec<Named>, Vec<Named>, Vec<Named>) {
    let mut rest: Vec<Named> = b.to_vec();
    let (mut common, mut own) = (Vec::new(), Vec::new());
    for x in a {
        match rest.iter().position(|y| y.key() == x.key()) {
            Some(at) => {
                rest.remove(at);
                common.push(x.clone());
            }
            None => own.push(x.clone()),
        }
    }
    (common, own, rest)
}
