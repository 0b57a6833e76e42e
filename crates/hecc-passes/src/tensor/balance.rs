//! Balancing of sums and products, with powers and like terms.
//!
//! **What.** A tree of products whose inner values have no other use becomes a multiset of factors
//! with exponents and one public factor. Factors with equal exponents are multiplied first, a power
//! is split into repeated squares, and the parts are joined cheapest first, which gives the least
//! possible depth for operands that arrive at different depths (Huffman's algorithm with
//! max(a, b) + 1 in place of a + b: Golumbic, *Combinatorial merging*, IEEE Trans. Comput. 1976).
//! xⁿ is reached at depth ⌈log₂ n⌉ with ⌊log₂ n⌋ + popcount(n) − 1 products. A tree of sums
//! becomes a linear combination: like terms are merged, a factor that all terms share is applied
//! once, and early operands are added first.
//!
//! **Why.** Programs are written as chains; a chain of n products has depth n − 1, a tree ⌈log₂ n⌉.
//!
//! **Cost.** n log n. Never more operations: a tree is rebuilt only where its depth, its levels or
//! its operations become fewer.
//!
//! **Assumes** a simplified circuit. Nothing is moved across `@keep`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hecc_ir::graph::{Circuit, NodeId, Operands};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Tensor, TensorOp};
use rustc_hash::FxHashMap;

use super::build::{Build, Simplify, sweep_some};
use super::cost::{self, Fact};

/// What the optimizer looks at first in a value.
pub type Key = fn(Fact) -> (u32, u32);

/// Levels before depth.
pub fn by_levels(f: Fact) -> (u32, u32) {
    (f.level, f.depth)
}

/// Depth before levels.
pub fn by_depth(f: Fact) -> (u32, u32) {
    (f.depth, f.level)
}

/// Where a node stands in a tree of one kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It is built, as the root of a tree or by itself.
    Root,
    /// It is dissolved into the sum that uses it.
    InSum,
    /// It is dissolved into the product that uses it.
    InProduct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sum,
    Product,
    /// A secret times a public value.
    Scaled,
    Negated,
    Other,
}

/// Rebuilds every tree of sums and of products. `None` when nothing may be moved.
pub fn balance(circuit: &Circuit<Tensor>, key: Key) -> Option<Circuit<Tensor>> {
    if circuit.meta.keep {
        return None;
    }
    let facts = cost::facts(circuit);
    let roles = roles(circuit, &facts);
    let out = sweep_some(circuit, Simplify::All, |build, id, node, operands, map| {
        if roles[id.index()] != Role::Root {
            return None;
        }
        let tree = Tree {
            circuit,
            roles: &roles,
            map,
            key,
            span: node.span,
        };
        Some(match kind(circuit, &facts, id) {
            _ if node.keep => build.push(node.op.clone(), operands, node.span),
            Kind::Sum => tree.sum(build, id),
            Kind::Product | Kind::Scaled => tree.product(build, id),
            Kind::Negated | Kind::Other => build.push(node.op.clone(), operands, node.span),
        })
    });
    Some(out)
}

fn kind(circuit: &Circuit<Tensor>, facts: &[Fact], id: NodeId) -> Kind {
    if !facts[id.index()].secret {
        return Kind::Other;
    }
    match circuit.graph.op(id) {
        TensorOp::Add | TensorOp::Sub => Kind::Sum,
        TensorOp::Mul => {
            if circuit
                .graph
                .operands(id)
                .iter()
                .all(|o| facts[o.index()].secret)
            {
                Kind::Product
            } else {
                Kind::Scaled
            }
        }
        TensorOp::Pow(_) => Kind::Product,
        TensorOp::Neg => Kind::Negated,
        _ => Kind::Other,
    }
}

fn roles(circuit: &Circuit<Tensor>, facts: &[Fact]) -> Vec<Role> {
    let graph = &circuit.graph;
    let live = circuit.live();
    let mut uses = vec![0u32; graph.len()];
    let mut user: Vec<NodeId> = vec![NodeId(u32::MAX); graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        for o in graph.operands(id) {
            uses[o.index()] += 1;
            user[o.index()] = id;
        }
    }
    for (id, _) in &circuit.outputs {
        uses[id.index()] += 2;
    }
    let mut roles = vec![Role::Root; graph.len()];
    let mut kept = vec![false; graph.len()];
    for id in graph.ids().rev().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        kept[id.index()] |= node.keep;
        // A square uses its operand twice, and is still its only user.
        let square = uses[id.index()] == 2
            && user[id.index()].index() < graph.len()
            && graph.operands(user[id.index()]).iter().all(|o| *o == id)
            && graph.operands(user[id.index()]).len() == 2;
        if uses[id.index()] != 1 && !square {
            continue;
        }
        let above = user[id.index()];
        let (mine, theirs) = (kind(circuit, facts, id), kind(circuit, facts, above));
        if kept[above.index()] {
            kept[id.index()] |= mine == theirs;
            continue;
        }
        if node.keep {
            continue;
        }
        roles[id.index()] = match (mine, theirs) {
            (Kind::Sum | Kind::Scaled | Kind::Negated, Kind::Sum)
                if node.declared.is_none() && !square =>
            {
                Role::InSum
            }
            (Kind::Product | Kind::Scaled | Kind::Negated, Kind::Product) => Role::InProduct,
            (Kind::Product | Kind::Scaled | Kind::Negated, Kind::Scaled)
                if roles[above.index()] != Role::InSum =>
            {
                Role::InProduct
            }
            _ => Role::Root,
        };
    }
    // What a kept value is made of stays as it is.
    for id in graph.ids() {
        if kept[id.index()] {
            roles[id.index()] = Role::Root;
        }
    }
    roles
}

struct Tree<'a> {
    circuit: &'a Circuit<Tensor>,
    roles: &'a [Role],
    map: &'a [NodeId],
    key: Key,
    span: Span,
}

impl Tree<'_> {
    /// The dissolved nodes below a root, operands first, the root last.
    fn inner(&self, root: NodeId, role: Role) -> Vec<NodeId> {
        let mut out = vec![root];
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let mut last = None;
            for o in self.circuit.graph.operands(id) {
                if self.roles[o.index()] == role && last != Some(o) {
                    out.push(o);
                    stack.push(o);
                }
                last = Some(o);
            }
        }
        out.sort_unstable();
        out
    }

    /// The tree as it stands.
    fn plain(&self, build: &mut Build, inner: &[NodeId]) -> NodeId {
        let mut made: FxHashMap<NodeId, NodeId> = FxHashMap::default();
        let mut last = NodeId(u32::MAX);
        for &id in inner {
            let operands: Operands = self
                .circuit
                .graph
                .operands(id)
                .iter()
                .map(|o| made.get(o).copied().unwrap_or(self.map[o.index()]))
                .collect();
            let op = self.circuit.graph.op(id).clone();
            last = build.push(op, &operands, self.circuit.graph.span(id));
            made.insert(id, last);
        }
        last
    }

    // ---- products ----

    fn product(&self, build: &mut Build, root: NodeId) -> NodeId {
        let inner = self.inner(root, Role::InProduct);
        let plain = self.plain(build, &inner);
        let Some(factors) = self.factors(build, root, &inner) else {
            return plain;
        };
        let mut best = factors.emit(build, self.key, self.span, false);
        let several = factors.powers.len() > 1 || factors.powers.iter().any(|p| p.1 > 1);
        if factors.public.is_some() && several {
            let within = factors.emit(build, self.key, self.span, true);
            let (a, b) = (build.fact(within), build.fact(best));
            if a.settled < b.settled && a.level <= b.level && a.depth <= b.depth {
                best = within;
            }
        }
        let rank = |id: NodeId, products: usize, build: &Build| {
            let f = build.fact(id);
            ((self.key)(f), f.settled, products)
        };
        let powers = inner
            .iter()
            .any(|id| matches!(self.circuit.graph.op(*id), TensorOp::Pow(_)));
        let new = rank(best, factors.products(), build);
        if powers || new < rank(plain, inner_products(self, &inner), build) {
            best
        } else {
            plain
        }
    }

    /// The factors of a tree of products; `None` when an exponent is out of reach.
    fn factors(&self, build: &mut Build, root: NodeId, inner: &[NodeId]) -> Option<Factors> {
        let graph = &self.circuit.graph;
        // Exponents flow from the root to the leaves.
        let mut exponent: FxHashMap<NodeId, u64> = FxHashMap::default();
        let mut order: Vec<NodeId> = Vec::new();
        let mut powers: FxHashMap<NodeId, u64> = FxHashMap::default();
        let mut public: Option<NodeId> = None;
        let mut negative = false;
        exponent.insert(root, 1);
        let mut publics: Vec<(NodeId, u64)> = Vec::new();
        for &id in inner.iter().rev() {
            let e = exponent[&id];
            let times = match graph.op(id) {
                TensorOp::Pow(n) => e.checked_mul(u64::from(*n))?,
                TensorOp::Neg => {
                    negative ^= e % 2 == 1;
                    e
                }
                _ => e,
            };
            if times > 1 << 40 {
                return None;
            }
            for o in graph.operands(id) {
                if self.roles[o.index()] == Role::InProduct {
                    let slot = exponent.entry(o).or_insert(0);
                    *slot = slot.checked_add(times)?;
                    continue;
                }
                let new = self.map[o.index()];
                if build.fact(new).secret {
                    let slot = powers.entry(new).or_insert_with(|| {
                        order.push(new);
                        0
                    });
                    *slot = slot.checked_add(times)?;
                } else {
                    publics.push((new, times));
                }
            }
        }
        for (p, times) in publics {
            let n = u32::try_from(times).ok()?;
            let p = build.pow(p, n, self.span);
            public = Some(match public {
                Some(q) => build.mul(q, p, self.span),
                None => p,
            });
        }
        // Found from the root downwards; the first written comes first.
        order.reverse();
        order.retain(|id| powers[id] > 0);
        if order.is_empty() {
            // What was secret has been simplified to something public: nothing to balance.
            return None;
        }
        Some(Factors {
            powers: order.iter().map(|id| (*id, powers[id])).collect(),
            public,
            negative,
        })
    }

    // ---- sums ----

    fn sum(&self, build: &mut Build, root: NodeId) -> NodeId {
        let inner = self.inner(root, Role::InSum);
        let plain = self.plain(build, &inner);
        let mut terms = Terms::default();
        self.terms(build, root, &inner, &mut terms);
        let size = terms.order.len();
        let (best, height) = terms.emit(build, self.span);
        let rank = |id: NodeId, n: usize, height: u32, build: &Build| {
            let f = build.fact(id);
            ((self.key)(f), f.settled, n, height)
        };
        let graph = &self.circuit.graph;
        let mut heights: FxHashMap<NodeId, u32> = FxHashMap::default();
        for &id in &inner {
            let h = graph
                .operands(id)
                .iter()
                .filter_map(|o| heights.get(o))
                .max()
                .copied()
                .unwrap_or(0);
            let up = u32::from(matches!(graph.op(id), TensorOp::Add | TensorOp::Sub));
            heights.insert(id, h + up);
        }
        let leaves = inner
            .iter()
            .map(|id| {
                graph
                    .operands(*id)
                    .iter()
                    .filter(|o| self.roles[o.index()] != Role::InSum)
                    .count()
            })
            .sum::<usize>()
            - inner
                .iter()
                .filter(|id| matches!(graph.op(**id), TensorOp::Mul))
                .count();
        let new = rank(best, size, height, build);
        let old = rank(plain, leaves, heights[&root], build);
        if new < old { best } else { plain }
    }

    fn terms(&self, build: &mut Build, root: NodeId, inner: &[NodeId], terms: &mut Terms) {
        let graph = &self.circuit.graph;
        // Sign and coefficient flow from the root to the leaves.
        let mut weight: FxHashMap<NodeId, (bool, Option<NodeId>)> = FxHashMap::default();
        weight.insert(root, (false, None));
        let mut found: Vec<(NodeId, bool, Option<NodeId>)> = Vec::new();
        for &id in inner.iter().rev() {
            let (negative, by) = weight[&id];
            let operands = graph.operands(id);
            let mut give = |o: NodeId, flip: bool, by: Option<NodeId>| {
                if self.roles[o.index()] == Role::InSum {
                    weight.insert(o, (flip, by));
                } else {
                    found.push((self.map[o.index()], flip, by));
                }
            };
            match graph.op(id) {
                TensorOp::Add => {
                    give(operands[0], negative, by);
                    give(operands[1], negative, by);
                }
                TensorOp::Sub => {
                    give(operands[0], negative, by);
                    give(operands[1], !negative, by);
                }
                TensorOp::Neg => give(operands[0], !negative, by),
                _ => {
                    // A scaled value: the public operand joins the coefficient.
                    let public = |o: NodeId| {
                        self.roles[o.index()] == Role::Root
                            && !build.fact(self.map[o.index()]).secret
                    };
                    let (p, x) = if public(operands[0]) {
                        (operands[0], operands[1])
                    } else {
                        (operands[1], operands[0])
                    };
                    let p = self.map[p.index()];
                    let by = match by {
                        Some(q) => build.mul(q, p, self.span),
                        None => p,
                    };
                    give(x, negative, Some(by));
                }
            }
        }
        for (leaf, negative, by) in found.into_iter().rev() {
            terms.add(build, leaf, negative, by, self.span);
        }
    }
}

fn inner_products(tree: &Tree<'_>, inner: &[NodeId]) -> usize {
    inner
        .iter()
        .filter(|id| {
            matches!(
                tree.circuit.graph.op(**id),
                TensorOp::Mul | TensorOp::Pow(_)
            )
        })
        .map(|id| match tree.circuit.graph.op(*id) {
            TensorOp::Pow(n) => *n as usize,
            _ => 1,
        })
        .sum()
}

/// A product: secret factors with exponents, a public one, a sign.
#[derive(Clone, Debug)]
pub struct Factors {
    /// Secret factors, each with its exponent, in the order in which they were written.
    pub powers: Vec<(NodeId, u64)>,
    /// The public factor.
    pub public: Option<NodeId>,
    /// Whether the sign is turned.
    pub negative: bool,
}

impl Factors {
    /// How many products of two secrets, and with the public factor, it takes.
    fn products(&self) -> usize {
        let mut exponents: Vec<u64> = self.powers.iter().map(|p| p.1).collect();
        exponents.sort_unstable();
        exponents.dedup();
        let ladder: usize = exponents
            .iter()
            .map(|e| (63 - e.leading_zeros()) as usize + e.count_ones() as usize)
            .sum();
        // Every group costs one less than it has members, and joining the groups one less than there are.
        let members = self.powers.len() - exponents.len();
        ladder + members - 1.min(exponents.len()) + usize::from(self.public.is_some())
    }

    /// The product at the least depth. With `within` the public factor goes into the factor that
    /// arrives first, where it costs no level if there is slack.
    pub fn emit(&self, build: &mut Build, key: Key, span: Span, within: bool) -> NodeId {
        let mut powers = self.powers.clone();
        let mut public = self.public;
        if within
            && let (Some(p), Some(at)) = (
                public,
                (0..powers.len())
                    .filter(|&i| powers[i].1 == 1 || powers.len() == 1)
                    .min_by_key(|&i| (key(build.fact(powers[i].0)), i)),
            )
        {
            let (x, n) = powers[at];
            let scaled = build.mul(p, x, span);
            if n > 1 {
                powers[at].1 -= 1;
                powers.push((scaled, 1));
            } else {
                powers[at].0 = scaled;
            }
            public = None;
        }
        let grouped = self.join(build, &powers, key, span, true);
        let mut product = grouped;
        let mut distinct: Vec<u64> = powers.iter().map(|p| p.1).filter(|n| *n > 1).collect();
        let all = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < all {
            let apart = self.join(build, &powers, key, span, false);
            if key(build.fact(apart)) < key(build.fact(grouped)) {
                product = apart;
            }
        }
        if let Some(p) = public {
            product = build.mul(p, product, span);
        }
        if self.negative {
            product = build.neg(product, span);
        }
        product
    }

    fn join(
        &self,
        build: &mut Build,
        powers: &[(NodeId, u64)],
        key: Key,
        span: Span,
        group: bool,
    ) -> NodeId {
        let mut parts: Vec<NodeId> = Vec::new();
        let mut groups: Vec<(u64, Vec<NodeId>)> = Vec::new();
        let mut place: FxHashMap<u64, usize> = FxHashMap::default();
        for &(x, n) in powers {
            if group && n > 1 {
                let at = *place.entry(n).or_insert_with(|| {
                    groups.push((n, Vec::new()));
                    groups.len() - 1
                });
                groups[at].1.push(x);
            } else {
                ladder(build, x, n, &mut parts, span);
            }
        }
        for (n, members) in groups {
            let base = merge(build, &members, key, span);
            ladder(build, base, n, &mut parts, span);
        }
        merge(build, &parts, key, span)
    }
}

/// The repeated squares of x whose product is xⁿ.
fn ladder(build: &mut Build, x: NodeId, n: u64, parts: &mut Vec<NodeId>, span: Span) {
    let (mut square, mut left) = (x, n);
    while left > 0 {
        if left & 1 == 1 {
            parts.push(square);
        }
        left >>= 1;
        if left > 0 {
            square = build.mul(square, square, span);
        }
    }
}

/// The product of values, the earliest first (Golumbic). `parts` is not empty.
pub fn merge(build: &mut Build, parts: &[NodeId], key: Key, span: Span) -> NodeId {
    type Part = ((u32, u32), usize, NodeId);
    let mut heap: BinaryHeap<Reverse<Part>> = parts
        .iter()
        .enumerate()
        .map(|(i, &id)| Reverse((key(build.fact(id)), i, id)))
        .collect();
    let mut next = parts.len();
    loop {
        let Some(Reverse((_, _, a))) = heap.pop() else {
            return parts[0];
        };
        let Some(Reverse((_, _, b))) = heap.pop() else {
            return a;
        };
        let product = build.mul(a, b, span);
        heap.push(Reverse((key(build.fact(product)), next, product)));
        next += 1;
    }
}

/// A linear combination of secret values with public coefficients, plus a public value.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    order: Vec<NodeId>,
    weights: FxHashMap<NodeId, Weight>,
    public: Option<NodeId>,
}

/// A coefficient: a sign, and a public factor that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight {
    negative: bool,
    by: Option<NodeId>,
}

impl Terms {
    /// Adds ±(by ·) leaf.
    pub fn add(
        &mut self,
        build: &mut Build,
        leaf: NodeId,
        negative: bool,
        by: Option<NodeId>,
        span: Span,
    ) {
        if !build.fact(leaf).secret {
            let mut value = leaf;
            if let Some(by) = by {
                value = build.mul(by, value, span);
            }
            if negative {
                value = build.neg(value, span);
            }
            self.public = Some(match self.public {
                Some(p) => build.add(p, value, span),
                None => value,
            });
            return;
        }
        let weight = match self.weights.get(&leaf) {
            None => {
                self.order.push(leaf);
                Weight { negative, by }
            }
            Some(&old) => {
                let a = coefficient(build, old, leaf, span);
                let b = coefficient(build, Weight { negative, by }, leaf, span);
                Weight {
                    negative: false,
                    by: Some(build.add(a, b, span)),
                }
            }
        };
        self.weights.insert(leaf, weight);
    }

    /// The sum and the height of its tree: like terms merged, a common factor applied once, early
    /// operands first.
    pub fn emit(&self, build: &mut Build, span: Span) -> (NodeId, u32) {
        let mut terms: Vec<(NodeId, Weight)> = Vec::new();
        for leaf in &self.order {
            let mut w = self.weights[leaf];
            if let Some(by) = w.by {
                match build.uniform_value(by) {
                    Some(0.0) => continue,
                    Some(v) if v < 0.0 => {
                        w.negative = !w.negative;
                        w.by = (v != -1.0).then(|| build.neg(by, span));
                    }
                    Some(1.0) => w.by = None,
                    _ => {}
                }
            }
            terms.push((*leaf, w));
        }
        let common = terms
            .first()
            .and_then(|t| t.1.by)
            .filter(|by| terms.len() > 1 && terms.iter().all(|t| t.1.by == Some(*by)));
        let mut items: Vec<(NodeId, bool)> = Vec::with_capacity(terms.len());
        for (leaf, w) in terms {
            let value = match w.by {
                Some(by) if common.is_none() => build.mul(by, leaf, span),
                _ => leaf,
            };
            items.push((value, w.negative));
        }
        let sum = add_all(build, &items, span);
        let (mut value, mut negative, mut height) = match sum {
            Some(sum) => sum,
            None => {
                let value = match (self.public, self.order.first()) {
                    (Some(p), _) => p,
                    (None, Some(leaf)) => {
                        let shape = build.shape(*leaf);
                        build.uniform(0.0, &shape, span)
                    }
                    (None, None) => build.scalar(0.0, span),
                };
                return (value, 0);
            }
        };
        if let Some(by) = common {
            value = build.mul(by, value, span);
        }
        if let Some(p) = self.public {
            value = if negative {
                build.sub(p, value, span)
            } else {
                build.add(value, p, span)
            };
            negative = false;
            height += 1;
        }
        if negative {
            value = build.neg(value, span);
        }
        (value, height)
    }
}

fn coefficient(build: &mut Build, w: Weight, like: NodeId, span: Span) -> NodeId {
    let by = match w.by {
        Some(by) => by,
        None => {
            let shape = build.shape(like);
            build.uniform(1.0, &shape, span)
        }
    };
    if w.negative { build.neg(by, span) } else { by }
}

/// The sum of signed values, early and low ones first; whether it is negated; the height of its tree.
pub fn add_all(
    build: &mut Build,
    items: &[(NodeId, bool)],
    span: Span,
) -> Option<(NodeId, bool, u32)> {
    type Item = (u32, u32, usize, NodeId, bool);
    let mut heap: BinaryHeap<Reverse<Item>> = items
        .iter()
        .enumerate()
        .map(|(i, &(id, negative))| Reverse((build.fact(id).settled, 0, i, id, negative)))
        .collect();
    let mut next = items.len();
    loop {
        let Reverse((la, ha, _, a, na)) = heap.pop()?;
        let Some(Reverse((lb, hb, _, b, nb))) = heap.pop() else {
            return Some((a, na, ha));
        };
        let (value, negative) = match (na, nb) {
            (false, false) => (build.add(a, b, span), false),
            (true, true) => (build.add(a, b, span), true),
            (false, true) => (build.sub(a, b, span), false),
            (true, false) => (build.sub(b, a, span), false),
        };
        heap.push(Reverse((la.max(lb), ha.max(hb) + 1, next, value, negative)));
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::cost::cost;
    use crate::tensor::simplify::simplify;
    use crate::tensor::testing::{Program, assert_same, fingerprint, products};

    fn balanced(p: Program) -> Circuit<Tensor> {
        let before = simplify(&p.circuit, Simplify::All);
        assert_same(&p.circuit, &before);
        let after = balance(&before, by_levels).expect("nothing is kept");
        assert_same(&p.circuit, &after);
        let again = balance(&after, by_levels).expect("nothing is kept");
        assert_eq!(
            fingerprint(&after),
            fingerprint(&again),
            "a second run changes something"
        );
        after
    }

    #[test]
    fn a_fourth_power_takes_two_squarings() {
        let mut p = Program::new();
        let x = p.secret();
        let mut y = x;
        for _ in 0..3 {
            y = p.mul(y, x);
        }
        let two = p.num(2.0);
        let y = p.add(y, two);
        p.output(y);
        let after = balanced(p);
        assert_eq!(cost(&after).depth, 2);
        assert_eq!(products(&after), 2);
    }

    #[test]
    fn powers_take_the_least_depth() {
        for (n, depth, most) in [(2, 1, 1), (7, 3, 4), (15, 4, 6), (16, 4, 4), (31, 5, 8)] {
            for chain in [false, true] {
                let mut p = Program::new();
                let x = p.secret();
                let y = if chain {
                    (1..n).fold(x, |y, _| p.mul(y, x))
                } else {
                    p.op(TensorOp::Pow(n), &[x])
                };
                p.output(y);
                let after = balanced(p);
                assert_eq!(cost(&after).depth, depth, "x^{n}");
                assert!(products(&after) <= most, "x^{n}");
            }
        }
    }

    #[test]
    fn products_of_many_have_logarithmic_depth() {
        for (n, depth) in [(8, 3), (9, 4), (16, 4), (64, 6), (1024, 10)] {
            let mut p = Program::new();
            let xs: Vec<_> = (0..n).map(|_| p.secret()).collect();
            let y = xs[1..].iter().fold(xs[0], |y, x| p.mul(y, *x));
            p.output(y);
            let after = balanced(p);
            assert_eq!(cost(&after).depth, depth);
            assert_eq!(products(&after), n - 1);
        }
    }

    #[test]
    fn late_factors_come_last() {
        // d = ((x²)²)² at depth 3, times three fresh factors: depth 4, not 5.
        let mut p = Program::new();
        let (x, a, b, c) = (p.secret(), p.secret(), p.secret(), p.secret());
        let mut d = x;
        for _ in 0..3 {
            let s = p.add(d, a);
            d = p.mul(s, s);
        }
        let y = p.mul(d, a);
        let y = p.mul(y, b);
        let y = p.mul(y, c);
        p.output(y);
        assert_eq!(cost(&balanced(p)).depth, 4);
    }

    #[test]
    fn repeated_factors_share_their_squares() {
        // x²y²z: (xy)²z takes three products.
        let mut p = Program::new();
        let (x, y, z) = (p.secret(), p.secret(), p.secret());
        let a = p.mul(x, y);
        let b = p.mul(a, z);
        let c = p.mul(b, y);
        let d = p.mul(c, x);
        p.output(d);
        let after = balanced(p);
        assert_eq!(products(&after), 3);
        assert_eq!(cost(&after).depth, 3);
    }

    #[test]
    fn like_terms_merge_and_common_factors_move_out() {
        let mut p = Program::new();
        let (x, y) = (p.secret(), p.secret());
        let (two, tenth) = (p.num(2.0), p.num(0.1));
        let a = p.mul(two, x);
        let b = p.add(a, y);
        let c = p.sub(b, x);
        let d = p.sub(c, y);
        p.output(d);
        let e = p.mul(tenth, x);
        let f = p.mul(y, tenth);
        let g = p.sub(e, f);
        p.output(g);
        let after = balanced(p);
        assert!(matches!(
            after.graph.op(after.outputs[0].0),
            TensorOp::Input(0)
        ));
        assert_eq!(cost(&after).levels, 0);
        assert_eq!(after.graph.op(after.outputs[1].0), &TensorOp::Mul);
    }

    #[test]
    fn a_sum_of_many_is_a_tree() {
        let mut p = Program::new();
        let xs: Vec<_> = (0..100).map(|_| p.secret()).collect();
        let mut y = p.num(0.5);
        for x in &xs {
            y = p.add(y, *x);
        }
        p.output(y);
        let after = balanced(p);
        let mut height = vec![0; after.graph.len()];
        for id in after.graph.ids() {
            for o in after.graph.operands(id) {
                height[id.index()] = height[id.index()].max(height[o.index()] + 1);
            }
        }
        assert!(height[after.outputs[0].0.index()] <= 8);
    }

    #[test]
    fn nothing_moves_across_keep() {
        let mut p = Program::new();
        let xs: Vec<_> = (0..8).map(|_| p.secret()).collect();
        let mut y = xs[0];
        for (i, x) in xs.iter().enumerate().skip(1) {
            y = p.mul(y, *x);
            if i == 4 {
                p.circuit.graph.set_keep(y);
            }
        }
        p.output(y);
        let after = balanced(p);
        // Four products below the kept value stay a chain; three more factors join it.
        assert_eq!(cost(&after).depth, 5);
    }
}
