//! Chains of affine steps as trees of maps: recurrences, prefixes, and late operands moved outward.
//!
//! **What.** From a critical value the operand that arrives last is followed through sums and
//! products: each step is affine in a few earlier values (one for `r = r·a + b`, two for a
//! second-order recurrence), with coefficients that arrive earlier. Such a chain
//! x_t = M_t(… M_1(x_0)) is re-associated: maps are composed among themselves while the value is
//! not there yet, and the value is met by maps of length 1, 2, 4, …, so that 2^d − 1 steps take d
//! levels (Kogge and Stone, *A parallel algorithm for the efficient solution of a general class of
//! recurrence equations*, IEEE Trans. Comput. 1973; for late operands this is Kuck's and Muraoka's
//! distribution, `(a·b + c)·d → a·(b·d) + c·d`). Values that are used elsewhere, all prefixes for
//! example, share the composed maps (Ladner and Fischer, *Parallel prefix computation*, JACM 1980),
//! or are computed one from the other where there is time.
//!
//! **Why.** No balancing within one operation helps where sums and products alternate.
//!
//! **Cost.** A chain of n first-order steps takes less than 2n products in place of n. Only chains
//! on the critical path are touched, and only where the estimate gets better.
//!
//! **Assumes** a simplified circuit. Nothing is moved across `@keep`.

use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{ConstTensor, Shape, Tensor, TensorOp};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};

use super::balance::Key;
use super::build::{Build, Simplify, sweep_some};
use super::cost::{self, Fact};

/// Most values that a step may depend on.
const WIDTH: usize = 3;
/// Keys further apart than this are not put into one tree.
const SPREAD: u32 = 2000;
/// How often a value is walked over in vain, by each of the [`REACHES`].
const VAIN: u8 = 4;
/// How much earlier than the latest operand of a sum another may arrive to be followed, too.
const REACHES: [u32; 4] = [0, 1, 2, 4];

/// One step: a value in terms of earlier ones.
#[derive(Clone, Copy, Debug)]
struct Step {
    value: NodeId,
    kind: StepKind,
    /// How many values the chain has just before the step.
    width: usize,
}

#[derive(Clone, Copy, Debug)]
enum StepKind {
    /// ± first ± second; each either a value of the chain or a constant.
    Sum {
        first: (NodeId, bool, bool),
        second: (NodeId, bool, bool),
    },
    /// −value.
    Negate(NodeId),
    /// value · coefficient.
    Scale(NodeId, NodeId),
    /// matrix @ vector, or vector @ matrix when it is turned.
    Apply {
        vector: NodeId,
        matrix: NodeId,
        turned: bool,
    },
}

impl StepKind {
    /// The values of the chain that the step takes.
    fn follows(self) -> SmallVec<[NodeId; 2]> {
        match self {
            StepKind::Negate(o) | StepKind::Scale(o, _) | StepKind::Apply { vector: o, .. } => {
                smallvec![o]
            }
            StepKind::Sum { first, second } => [first, second]
                .iter()
                .filter(|p| p.2)
                .map(|p| p.0)
                .collect(),
        }
    }

    /// The values from outside that the step takes.
    fn takes(self) -> SmallVec<[NodeId; 2]> {
        match self {
            StepKind::Negate(_) => SmallVec::new(),
            StepKind::Scale(_, c) | StepKind::Apply { matrix: c, .. } => smallvec![c],
            StepKind::Sum { first, second } => [first, second]
                .iter()
                .filter(|p| !p.2)
                .map(|p| p.0)
                .collect(),
        }
    }

    /// Whether coefficients are multiplied when such steps follow one another.
    fn multiplies(self) -> bool {
        matches!(self, StepKind::Scale(..) | StepKind::Apply { .. })
    }
}

/// A chain, steps in ascending order.
#[derive(Clone, Debug)]
struct Chain {
    steps: Vec<Step>,
    /// In which group of steps a value is computed; 0 for what the chain starts from.
    group: FxHashMap<NodeId, usize>,
    /// First step of each group, and the count of steps.
    starts: Vec<usize>,
    /// Values that are used outside.
    external: FxHashSet<NodeId>,
    /// When they must be there, so that they do not become critical.
    deadlines: FxHashMap<NodeId, u32>,
    end: NodeId,
}

/// Rewrites the critical chains once, within a limit of work: where the least depth is too dear,
/// values may come later than they could. `None` when there is nothing to gain.
pub fn scan(circuit: &Circuit<Tensor>, key: Key, work_limit: f64) -> Option<Circuit<Tensor>> {
    if circuit.meta.keep {
        return None;
    }
    let facts = cost::facts(circuit);
    let chains = find(circuit, &facts, key);
    if chains.is_empty() {
        return None;
    }
    [0, 1, 2, 4, 8]
        .into_iter()
        .map(|late| rebuild(circuit, &chains, key, late))
        .find(|out| cost::cost(out).work <= work_limit)
}

/// Rewrites chains; values may come `late` levels after the least.
fn rebuild(circuit: &Circuit<Tensor>, chains: &[Chain], key: Key, late: u32) -> Circuit<Tensor> {
    let mut of: FxHashMap<NodeId, usize> = FxHashMap::default();
    for (i, chain) in chains.iter().enumerate() {
        for step in &chain.steps {
            of.insert(step.value, i);
        }
    }
    let mut built: Vec<Built> = chains.iter().map(|_| Built::default()).collect();
    sweep_some(circuit, Simplify::All, |build, id, node, operands, map| {
        let Some(&i) = of.get(&id) else {
            return Some(build.push(node.op.clone(), operands, node.span));
        };
        let chain = &chains[i];
        if id != chain.end && !chain.external.contains(&id) {
            return None;
        }
        let mut tree = Tree {
            circuit,
            chain,
            build,
            map,
            key,
            span: node.span,
            built: &mut built[i],
        };
        if id != chain.end || late > 0 {
            let by = chain.deadlines.get(&id).map_or(0, |d| d + late);
            if let Some(value) = tree.next(id, by) {
                return Some(value);
            }
        }
        Some(tree.value(id))
    })
}

/// One number to compare by; the first part of a key.
fn rank(key: Key, f: Fact) -> u32 {
    key(f).0
}

// ---- finding chains ----

struct Finder<'a> {
    circuit: &'a Circuit<Tensor>,
    facts: &'a [Fact],
    key: Key,
    assigned: Vec<bool>,
    /// From how many values each was walked over and not taken into a chain: so that the walks
    /// together stay linear.
    vain: Vec<u8>,
}

fn find(circuit: &Circuit<Tensor>, facts: &[Fact], key: Key) -> Vec<Chain> {
    let graph = &circuit.graph;
    let rank_of = |id: NodeId| rank(key, facts[id.index()]);
    let total = circuit.outputs.iter().map(|(id, _)| rank_of(*id)).max();
    let Some(total) = total else {
        return Vec::new();
    };
    let live = circuit.live();
    let mut height = vec![0u32; graph.len()];
    let mut reaches = vec![false; graph.len()];
    for (id, _) in &circuit.outputs {
        reaches[id.index()] = true;
    }
    let mut users: Vec<SmallVec<[NodeId; 2]>> = vec![Default::default(); graph.len()];
    for id in graph.ids().rev().filter(|id| live[id.index()]) {
        let operands = graph.operands(id);
        let below = operands.iter().map(|o| rank_of(*o)).max().unwrap_or(0);
        let up = rank_of(id).saturating_sub(below);
        for o in operands {
            height[o.index()] = height[o.index()].max(height[id.index()] + up);
            users[o.index()].push(id);
        }
    }
    let mut finder = Finder {
        circuit,
        facts,
        key,
        assigned: vec![false; graph.len()],
        vain: vec![0; graph.len()],
    };
    let mut chains: Vec<Chain> = Vec::new();
    let mut goal = 0;
    for id in graph.ids().rev() {
        let critical = live[id.index()]
            && facts[id.index()].secret
            && rank_of(id) >= 2
            && rank_of(id) + height[id.index()] >= total;
        if !critical || finder.assigned[id.index()] {
            continue;
        }
        let mut walks: Vec<Vec<Step>> = Vec::new();
        for reach in REACHES {
            let steps = finder.walk(id, reach);
            // The same values may be walked over with more operands of a sum followed.
            let way = |s: &Step| (s.value, s.kind.follows());
            let known = |w: &Vec<Step>| w.iter().map(way).eq(steps.iter().map(way));
            if !walks.iter().any(known) {
                walks.push(steps);
            }
        }
        let mut best: Option<(u32, Chain)> = None;
        for steps in walks.iter().filter(|steps| finder.hopeful(steps)) {
            let even = steps.iter().all(|s| s.width == steps[0].width);
            for narrow in [true, false] {
                if even && !narrow {
                    continue;
                }
                let chain = finder.group(steps.clone(), id, &users, narrow);
                let arrival = finder.estimate(&chain);
                if arrival < best.as_ref().map_or(rank_of(id), |b| b.0) {
                    best = Some((arrival, chain));
                }
            }
        }
        if let Some((arrival, chain)) = best {
            goal = goal.max(arrival + height[id.index()]);
            for step in &chain.steps {
                finder.assigned[step.value.index()] = true;
            }
            chains.push(chain);
        }
        let mut walked: Vec<NodeId> = walks.iter().flatten().map(|s| s.value).collect();
        walked.sort_unstable();
        walked.dedup();
        for v in walked {
            finder.vain[v.index()] =
                finder.vain[v.index()].saturating_add(u8::from(!finder.assigned[v.index()]));
        }
    }
    for chain in &mut chains {
        let mut wanted = chain.external.clone();
        wanted.insert(chain.end);
        for id in wanted {
            let above = users[id.index()]
                .iter()
                .filter(|u| !chain.group.contains_key(u))
                .map(|u| {
                    let below = graph.operands(*u).iter().map(|o| rank_of(*o)).max();
                    height[u.index()] + rank_of(*u).saturating_sub(below.unwrap_or(0))
                })
                .max()
                .unwrap_or(0);
            chain.deadlines.insert(id, goal.saturating_sub(above));
        }
    }
    chains
}

impl Finder<'_> {
    fn rank_of(&self, id: NodeId) -> u32 {
        rank(self.key, self.facts[id.index()])
    }

    fn expandable(&self, id: NodeId) -> bool {
        let node = self.circuit.graph.node(id);
        !node.keep
            && !self.assigned[id.index()]
            && self.vain[id.index()] < VAIN
            && self.facts[id.index()].secret
            && matches!(
                node.op,
                TensorOp::Add | TensorOp::Sub | TensorOp::Neg | TensorOp::Mul | TensorOp::MatMul
            )
    }

    /// Follows what arrives last, from the end downwards. Operands of sums that arrive at most
    /// `reach` earlier than the latest are followed too, up to [`WIDTH`] values.
    fn walk(&self, end: NodeId, reach: u32) -> Vec<Step> {
        let graph = &self.circuit.graph;
        let mut steps: Vec<Step> = Vec::new();
        let mut front: Vec<NodeId> = vec![end];
        // The front is small and kept sorted; the last value is the newest.
        while let Some(&value) = front.last() {
            if !self.expandable(value) {
                break;
            }
            let operands = graph.operands(value);
            let rank_at = |i: usize| self.rank_of(operands[i]);
            let secret = |i: usize| self.facts[operands[i].index()].secret;
            let mut next = front.clone();
            next.pop();
            let follow = |next: &mut Vec<NodeId>, o: NodeId| {
                if let Err(at) = next.binary_search(&o) {
                    next.insert(at, o);
                }
            };
            let kind = match graph.op(value) {
                TensorOp::Neg => {
                    follow(&mut next, operands[0]);
                    StepKind::Negate(operands[0])
                }
                TensorOp::Mul => {
                    let late = match (secret(0), secret(1)) {
                        (true, false) => 0,
                        (false, true) => 1,
                        _ if rank_at(0) > rank_at(1) => 0,
                        _ if rank_at(1) > rank_at(0) => 1,
                        _ if rank_at(0) == 0 => 0,
                        _ => break,
                    };
                    follow(&mut next, operands[late]);
                    StepKind::Scale(operands[late], operands[1 - late])
                }
                TensorOp::MatMul => {
                    let rank_is = |i: usize, n: usize| graph.ty(operands[i]).shape().len() == n;
                    let later = |i: usize| {
                        secret(i)
                            && (!secret(1 - i)
                                || rank_at(i) > rank_at(1 - i)
                                || rank_at(i) == 0 && rank_at(1 - i) == 0)
                    };
                    let late = if rank_is(1, 1) && rank_is(0, 2) && later(1) {
                        1
                    } else if rank_is(0, 1) && rank_is(1, 2) && later(0) {
                        0
                    } else {
                        break;
                    };
                    follow(&mut next, operands[late]);
                    StepKind::Apply {
                        vector: operands[late],
                        matrix: operands[1 - late],
                        turned: late == 0,
                    }
                }
                TensorOp::Add | TensorOp::Sub => {
                    let most = rank_at(0).max(rank_at(1));
                    let minus = matches!(graph.op(value), TensorOp::Sub);
                    let mut part = |i: usize, negative: bool| {
                        let o = operands[i];
                        let known = next.binary_search(&o).is_ok();
                        let within =
                            secret(i) && (known || (rank_at(i) + reach >= most && rank_at(i) > 0));
                        if within {
                            follow(&mut next, o);
                        }
                        (o, negative, within)
                    };
                    let first = part(0, false);
                    let second = part(1, minus);
                    if !first.2 && !second.2 {
                        break;
                    }
                    StepKind::Sum { first, second }
                }
                _ => break,
            };
            if next.len() > WIDTH {
                break;
            }
            steps.push(Step {
                value,
                kind,
                width: next.len(),
            });
            front = next;
        }
        // Sums before the first product gain nothing: their result is what the chain starts from.
        while steps.last().is_some_and(|s| !s.kind.multiplies()) {
            steps.pop();
        }
        steps.reverse();
        steps
    }

    /// Whether steps could arrive earlier than they do: a chain takes a level at least after what
    /// it starts from.
    fn hopeful(&self, steps: &[Step]) -> bool {
        let (Some(last), true) = (steps.last(), steps.len() > 1) else {
            return false;
        };
        let inside: FxHashSet<NodeId> = steps.iter().map(|s| s.value).collect();
        let start = steps
            .iter()
            .flat_map(|s| s.kind.follows())
            .filter(|o| !inside.contains(o));
        let base = start.map(|o| self.rank_of(o)).max().unwrap_or(0);
        self.rank_of(last.value) > base + 1
    }

    /// Cuts a chain into groups in which no two coefficients are multiplied; with `narrow` only
    /// where it has the fewest values.
    fn group(
        &self,
        steps: Vec<Step>,
        end: NodeId,
        users: &[SmallVec<[NodeId; 2]>],
        narrow: bool,
    ) -> Chain {
        let inside: FxHashSet<NodeId> = steps.iter().map(|s| s.value).collect();
        let mut late: FxHashMap<NodeId, Vec<NodeId>> = FxHashMap::default();
        for step in &steps {
            for o in step.kind.follows() {
                late.entry(o).or_default().push(step.value);
            }
        }
        let mut external: FxHashSet<NodeId> = FxHashSet::default();
        for step in &steps {
            let v = step.value;
            // Used outside, or as a coefficient inside.
            let within = late.get(&v).map_or(0, |l| l.len());
            let distinct = users[v.index()]
                .iter()
                .filter(|u| inside.contains(u))
                .count();
            if users[v.index()].len() != distinct || distinct != within {
                external.insert(v);
            }
        }
        for (id, _) in &self.circuit.outputs {
            if inside.contains(id) {
                external.insert(*id);
            }
        }
        let mut group: FxHashMap<NodeId, usize> = FxHashMap::default();
        let mut starts: Vec<usize> = vec![0];
        let least = steps.iter().map(|s| s.width).min().unwrap_or(1);
        // Values of the open group that have a coefficient or a constant.
        let mut loaded: FxHashSet<NodeId> = FxHashSet::default();
        let mut i = 0;
        let mut cut = false;
        while i < steps.len() {
            // The steps that stay together.
            let mut end = i + 1;
            if narrow {
                while end < steps.len()
                    && steps[end].width > least
                    && !external.contains(&steps[end - 1].value)
                {
                    end += 1;
                }
            }
            let heavy = steps[i..end].iter().any(|s| {
                s.kind.multiplies() && s.kind.follows().iter().any(|o| loaded.contains(o))
            });
            if (heavy || cut) && i > 0 {
                starts.push(i);
                loaded.clear();
            }
            for step in &steps[i..end] {
                let load = !step.kind.takes().is_empty()
                    || step.kind.follows().iter().any(|o| loaded.contains(o));
                if load {
                    loaded.insert(step.value);
                }
                group.insert(step.value, starts.len());
            }
            cut = external.contains(&steps[end - 1].value);
            i = end;
        }
        starts.push(steps.len());
        Chain {
            steps,
            group,
            starts,
            external,
            deadlines: FxHashMap::default(),
            end,
        }
    }

    /// When the end of a chain would arrive.
    fn estimate(&self, chain: &Chain) -> u32 {
        let mut ready: Vec<u32> = vec![0; chain.starts.len() - 1];
        let mut base = 0;
        // When a value's coefficients within its group are there.
        let mut loads: FxHashMap<NodeId, Option<u32>> = FxHashMap::default();
        for step in &chain.steps {
            let g = chain.group[&step.value] - 1;
            for o in step.kind.follows() {
                if !chain.group.contains_key(&o) {
                    base = base.max(self.rank_of(o));
                }
            }
            let mut rank = step.kind.takes().iter().map(|o| self.rank_of(*o)).max();
            for o in step.kind.follows() {
                let inner = chain
                    .group
                    .get(&o)
                    .filter(|h| **h == g + 1)
                    .and_then(|_| loads.get(&o).copied().flatten());
                rank = match (rank, inner) {
                    (Some(a), Some(b)) if step.kind.multiplies() => Some(a.max(b) + 1),
                    (a, b) => a.max(b),
                };
            }
            loads.insert(step.value, rank);
            ready[g] = ready[g].max(rank.unwrap_or(0));
        }
        let spread = ready.iter().max().copied().unwrap_or(0);
        if spread > SPREAD + ready.iter().min().copied().unwrap_or(0) {
            return u32::MAX;
        }
        let mut timing = Timing {
            base,
            ready: &ready,
            memo: &mut FxHashMap::default(),
        };
        timing.arrival(ready.len())
    }
}

// ---- the shape of the tree ----

/// When maps and values are there, given when coefficients are.
struct Timing<'a> {
    base: u32,
    /// For each group, when its coefficients are there.
    ready: &'a [u32],
    memo: &'a mut FxHashMap<(usize, u32), usize>,
}

impl Timing<'_> {
    /// As [`Timing::far`], for deadlines of any size: 64 levels after the last coefficient all is done.
    fn reach(&mut self, i: usize, by: u32, limit: usize, last: u32) -> usize {
        if by >= last + 64 {
            return limit;
        }
        self.far(i, by, limit)
    }

    /// How far from group `i` (exclusive) maps can be composed by a deadline, at most to `limit`.
    fn far(&mut self, i: usize, by: u32, limit: usize) -> usize {
        if i >= limit || self.ready[i] > by {
            return i;
        }
        if by == 0 {
            return i + 1;
        }
        if let Some(&known) = self.memo.get(&(i, by)) {
            return known.min(limit);
        }
        let m = self.far(i, by - 1, limit);
        let r = if m == i {
            i + 1
        } else {
            self.far(m, by - 1, limit)
        };
        if r < limit {
            self.memo.insert((i, by), r);
        }
        r
    }

    /// Where the value is met by a map: the group after which it is known, ascending, `limit` last.
    fn meetings(&mut self, limit: usize) -> Vec<usize> {
        let mut out = vec![0];
        let last = self.ready[..limit].iter().max().copied().unwrap_or(0);
        let (mut at, mut by) = (0, self.base);
        while at < limit {
            by = by.max(self.ready[at]);
            at = self.reach(at, by, limit, last);
            out.push(at);
            by += 1;
        }
        out
    }

    fn arrival(&mut self, limit: usize) -> u32 {
        let last = self.ready[..limit].iter().max().copied().unwrap_or(0);
        let (mut at, mut by) = (0, self.base);
        while at < limit {
            by = by.max(self.ready[at]);
            at = self.reach(at, by, limit, last);
            by += 1;
        }
        by
    }

    /// Where a range of maps is cut in two.
    fn middle(&mut self, i: usize, j: usize) -> usize {
        let mut by = self.ready[i];
        loop {
            by += 1;
            if self.far(i, by, j) >= j {
                let m = self.far(i, by - 1, j);
                return m.clamp(i + 1, j - 1);
            }
            if by > self.ready[i] + 64 {
                // A coefficient arrives late: it is split off.
                let (at, _) = (i..j)
                    .map(|k| (k, self.ready[k]))
                    .max_by_key(|(k, r)| (*r, std::cmp::Reverse(*k)))
                    .unwrap_or((i + 1, 0));
                return at.clamp(i + 1, j - 1);
            }
        }
    }
}

// ---- building ----

/// A public or secret factor.
#[derive(Clone, Copy, Debug)]
enum Factor {
    /// Elementwise, of the shape of what it is multiplied with.
    Each(NodeId),
    /// A matrix, from the left, of a vector.
    Matrix(NodeId),
}

/// A coefficient: a sign, and a factor that is not one.
#[derive(Clone, Copy, Debug)]
struct Entry {
    negative: bool,
    by: Option<Factor>,
}

const ONE: Entry = Entry {
    negative: false,
    by: None,
};

/// A value as an affine form in earlier values.
#[derive(Clone, Debug, Default)]
struct Form {
    terms: Vec<(NodeId, Entry)>,
    constant: Option<(NodeId, bool)>,
}

/// What is built of a chain so far.
#[derive(Debug, Default)]
struct Built {
    forms: FxHashMap<(usize, usize, NodeId), Form>,
    /// Values at the least depth.
    values: FxHashMap<NodeId, NodeId>,
    /// Values that may be later.
    relaxed: FxHashMap<NodeId, NodeId>,
    ready: Vec<u32>,
    memo: FxHashMap<(usize, u32), usize>,
    /// The group of the last value used outside that is built.
    last: usize,
}

struct Tree<'a> {
    circuit: &'a Circuit<Tensor>,
    chain: &'a Chain,
    build: &'a mut Build,
    /// What nodes outside became.
    map: &'a [NodeId],
    key: Key,
    span: Span,
    built: &'a mut Built,
}

impl Tree<'_> {
    fn group_of(&self, id: NodeId) -> usize {
        self.chain.group.get(&id).copied().unwrap_or(0)
    }

    /// Finds the forms of groups up to `limit`, and when their coefficients are there.
    fn prepare(&mut self, limit: usize) {
        while self.built.ready.len() < limit {
            let g = self.built.ready.len();
            let mut ready = 0;
            for i in self.chain.starts[g]..self.chain.starts[g + 1] {
                let step = self.chain.steps[i];
                let form = match step.kind {
                    StepKind::Negate(o) => {
                        let mut f = self.within(g, o);
                        f.terms.iter_mut().for_each(|t| t.1.negative ^= true);
                        f.constant = f.constant.map(|(c, n)| (c, !n));
                        f
                    }
                    StepKind::Scale(o, c) => {
                        let f = self.within(g, o);
                        let c = Entry {
                            negative: false,
                            by: Some(Factor::Each(self.map[c.index()])),
                        };
                        self.scaled(&f, c)
                    }
                    StepKind::Apply {
                        vector,
                        matrix,
                        turned,
                    } => {
                        let f = self.within(g, vector);
                        let mut matrix = self.map[matrix.index()];
                        if turned {
                            matrix = self.build.transpose(matrix, &[1, 0], self.span);
                        }
                        let c = Entry {
                            negative: false,
                            by: Some(Factor::Matrix(matrix)),
                        };
                        self.scaled(&f, c)
                    }
                    StepKind::Sum { first, second } => {
                        let mut total = Form::default();
                        for (o, negative, inside) in [first, second] {
                            let f = if inside {
                                self.within(g, o)
                            } else {
                                Form {
                                    terms: Vec::new(),
                                    constant: Some((self.map[o.index()], false)),
                                }
                            };
                            let sign = Entry { negative, by: None };
                            let f = self.scaled(&f, sign);
                            self.accumulate(&mut total, f);
                        }
                        total
                    }
                };
                let factors = form.terms.iter().filter_map(|t| match t.1.by {
                    Some(Factor::Each(id) | Factor::Matrix(id)) => Some(id),
                    None => None,
                });
                for id in factors.chain(form.constant.map(|c| c.0)) {
                    ready = ready.max(rank(self.key, self.build.fact(id)));
                }
                self.built.forms.insert((g, g + 1, step.value), form);
            }
            self.built.ready.push(ready);
        }
    }

    /// A value as a form over what is known before group `g` (from 0).
    fn within(&self, g: usize, id: NodeId) -> Form {
        if self.group_of(id) == g + 1
            && let Some(f) = self.built.forms.get(&(g, g + 1, id))
        {
            return f.clone();
        }
        Form {
            terms: vec![(id, ONE)],
            constant: None,
        }
    }

    /// First `inner`, then `outer`.
    fn product(&mut self, outer: Entry, inner: Entry) -> Entry {
        let (build, span) = (&mut *self.build, self.span);
        let by = match (outer.by, inner.by) {
            (Some(Factor::Each(a)), Some(Factor::Each(b))) => {
                Some(Factor::Each(build.mul(a, b, span)))
            }
            (Some(Factor::Matrix(a)), Some(Factor::Matrix(b))) => {
                Some(Factor::Matrix(build.matmul(a, b, span)))
            }
            (Some(Factor::Matrix(a)), Some(Factor::Each(b))) => {
                // Column j times b_j.
                let shape = build.shape(a);
                let b = build.broadcast(b, &shape, span);
                Some(Factor::Matrix(build.mul(a, b, span)))
            }
            (Some(Factor::Each(a)), Some(Factor::Matrix(b))) => {
                // Row i times a_i.
                let shape = build.shape(b);
                let a = match build.uniform_node(a) {
                    Some(a) => a,
                    None => build.reshape(a, &[shape[0], 1], span),
                };
                let a = build.broadcast(a, &shape, span);
                Some(Factor::Matrix(build.mul(a, b, span)))
            }
            (x, y) => x.or(y),
        };
        Entry {
            negative: outer.negative ^ inner.negative,
            by,
        }
    }

    /// A coefficient times a value.
    fn apply(&mut self, e: Entry, value: NodeId) -> (NodeId, bool) {
        let value = match e.by {
            Some(Factor::Each(a)) => self.build.mul(a, value, self.span),
            Some(Factor::Matrix(a)) => self.build.matmul(a, value, self.span),
            None => value,
        };
        (value, e.negative)
    }

    /// The sum of two coefficients of one value of this shape.
    fn sum(&mut self, a: Entry, b: Entry, shape: &[usize]) -> Entry {
        let matrix = [a, b]
            .iter()
            .any(|e| matches!(e.by, Some(Factor::Matrix(_))));
        let mut node = |e: Entry| {
            let by = match e.by {
                Some(Factor::Matrix(m)) => m,
                Some(Factor::Each(d)) if matrix => self.diagonal(d, shape),
                Some(Factor::Each(d)) => d,
                None => {
                    let one = self.build.uniform(1.0, shape, self.span);
                    if matrix {
                        self.diagonal(one, shape)
                    } else {
                        one
                    }
                }
            };
            (by, e.negative)
        };
        let (x, y) = (node(a), node(b));
        let (by, negative) = self.signed(x, y);
        let by = match self.build.uniform_value(by) {
            Some(1.0) if !matrix => None,
            _ if matrix => Some(Factor::Matrix(by)),
            _ => Some(Factor::Each(by)),
        };
        Entry { negative, by }
    }

    /// The diagonal matrix of a vector.
    fn diagonal(&mut self, d: NodeId, shape: &[usize]) -> NodeId {
        let n = shape[0];
        if let Some(v) = self.build.uniform_value(d).filter(|_| n <= 1024) {
            let data: Vec<f64> = (0..n * n)
                .map(|i| if i / n == i % n { v } else { 0.0 })
                .collect();
            if let Some(c) = ConstTensor::new(Shape::from_slice(&[n, n]), data) {
                return self.build.constant(c, self.span);
            }
        }
        self.build.push(TensorOp::Diag, &[d], self.span)
    }

    /// A form times a coefficient.
    fn scaled(&mut self, form: &Form, by: Entry) -> Form {
        let terms = form
            .terms
            .iter()
            .map(|(id, e)| (*id, self.product(by, *e)))
            .collect();
        let constant = form.constant.map(|(c, negative)| {
            let (c, n) = self.apply(by, c);
            (c, n ^ negative)
        });
        Form { terms, constant }
    }

    fn signed(&mut self, a: (NodeId, bool), b: (NodeId, bool)) -> (NodeId, bool) {
        match (a.1, b.1) {
            (false, false) => (self.build.add(a.0, b.0, self.span), false),
            (true, true) => (self.build.add(a.0, b.0, self.span), true),
            (false, true) => (self.build.sub(a.0, b.0, self.span), false),
            (true, false) => (self.build.sub(b.0, a.0, self.span), false),
        }
    }

    fn accumulate(&mut self, total: &mut Form, more: Form) {
        for (id, e) in more.terms {
            match total.terms.iter().position(|t| t.0 == id) {
                None => total.terms.push((id, e)),
                Some(at) => {
                    let shape = self.shape_of(id);
                    total.terms[at].1 = self.sum(total.terms[at].1, e, &shape);
                }
            }
        }
        total.terms.retain(|t| match t.1.by {
            Some(Factor::Each(by) | Factor::Matrix(by)) => {
                self.build.uniform_value(by) != Some(0.0)
            }
            None => true,
        });
        total.constant = match (total.constant, more.constant) {
            (Some(a), Some(b)) => Some(self.signed(a, b)),
            (a, b) => a.or(b),
        };
    }

    /// The shape of a value of the old circuit.
    fn shape_of(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.circuit.graph.ty(id).shape())
    }

    fn timing(&mut self, base: u32) -> Timing<'_> {
        Timing {
            base,
            ready: &self.built.ready,
            memo: &mut self.built.memo,
        }
    }

    /// A value of group j as a form over what is known after group i.
    fn form(&mut self, i: usize, j: usize, id: NodeId) -> Form {
        let g = self.group_of(id);
        if g <= i {
            return Form {
                terms: vec![(id, ONE)],
                constant: None,
            };
        }
        let j = j.min(g);
        if let Some(known) = self.built.forms.get(&(i, j, id)) {
            return known.clone();
        }
        let m = self.timing(0).middle(i, j);
        let upper = self.form(m, j, id);
        let mut total = Form {
            terms: Vec::new(),
            constant: upper.constant,
        };
        for (inner, e) in upper.terms {
            let lower = self.form(i, m, inner);
            let part = self.scaled(&lower, e);
            self.accumulate(&mut total, part);
        }
        self.built.forms.insert((i, j, id), total.clone());
        total
    }

    /// A value made from the last one that was built, if it is there in time: cheaper than at the
    /// least depth.
    fn next(&mut self, id: NodeId, by: u32) -> Option<NodeId> {
        let g = self.group_of(id);
        self.prepare(g);
        let from = self.built.last.min(g - 1);
        let form = self.form(from, g, id);
        let there = |inner: &NodeId| {
            self.built.values.contains_key(inner)
                || self.built.relaxed.contains_key(inner)
                || self.group_of(*inner) == 0
        };
        if !form.terms.iter().all(|t| there(&t.0)) {
            return None;
        }
        let value = self.evaluate(id, &form, true);
        if rank(self.key, self.build.fact(value)) > by {
            return None;
        }
        self.built.relaxed.insert(id, value);
        self.built.last = g;
        Some(value)
    }

    /// A value of the chain at the least depth.
    fn value(&mut self, id: NodeId) -> NodeId {
        let g = self.group_of(id);
        if g == 0 {
            return self.map[id.index()];
        }
        if let Some(&known) = self.built.values.get(&id) {
            return known;
        }
        self.prepare(g);
        let base = self
            .chain
            .steps
            .iter()
            .flat_map(|s| s.kind.follows())
            .take(2 * WIDTH)
            .filter(|o| self.group_of(*o) == 0)
            .map(|o| rank(self.key, self.build.fact(self.map[o.index()])))
            .max()
            .unwrap_or(0);
        let meetings = self.timing(base).meetings(g);
        let from = meetings[meetings.len() - 2];
        let form = self.form(from, g, id);
        let value = self.evaluate(id, &form, false);
        self.built.values.insert(id, value);
        if self.chain.external.contains(&id) {
            self.built.last = self.built.last.max(g);
        }
        value
    }

    /// A form of values at the least depth; where they need not be early, of what there is.
    fn evaluate(&mut self, id: NodeId, form: &Form, relaxed: bool) -> NodeId {
        let mut items: Vec<(NodeId, bool)> = Vec::new();
        for (inner, e) in &form.terms {
            let known = self.built.relaxed.get(inner).copied().filter(|_| relaxed);
            let v = match known {
                Some(v) => v,
                None => self.value(*inner),
            };
            let item = self.apply(*e, v);
            items.push(item);
        }
        items.extend(form.constant);
        match super::balance::add_all(self.build, &items, self.span) {
            Some((v, true, _)) => self.build.neg(v, self.span),
            Some((v, false, _)) => v,
            None => {
                let shape = self.shape_of(id);
                self.build.uniform(0.0, &shape, self.span)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::balance::by_levels;
    use crate::tensor::cost::cost;
    use crate::tensor::simplify::simplify;
    use crate::tensor::testing::{Program, assert_same, products};
    use hecc_ir::tensor::Secrecy;

    fn done(p: &Program) -> Circuit<Tensor> {
        let before = simplify(&p.circuit, Simplify::All);
        let after = scan(&before, by_levels, f64::INFINITY).expect("there is a chain");
        assert_same(&p.circuit, &after);
        after
    }

    #[test]
    fn first_order_recurrences_take_logarithmic_depth() {
        for (terms, depth) in [(4, 2), (8, 3), (16, 4), (100, 7)] {
            let mut p = Program::new();
            let mut r = p.secret();
            for _ in 1..terms {
                let (a, b) = (p.secret(), p.secret());
                let m = p.mul(r, a);
                r = p.add(m, b);
            }
            p.output(r);
            let after = done(&p);
            assert_eq!(cost(&after).depth, depth, "{terms} terms");
            assert!(products(&after) < 2 * terms);
        }
    }

    #[test]
    fn all_prefix_products_take_logarithmic_depth() {
        let mut p = Program::new();
        let mut r = p.secret();
        p.output(r);
        for _ in 1..16 {
            let a = p.secret();
            r = p.mul(r, a);
            p.output(r);
        }
        let after = done(&p);
        assert_eq!(cost(&after).depth, 4);
        assert!(products(&after) <= 32);
    }

    #[test]
    fn second_order_recurrences_take_logarithmic_depth() {
        let mut p = Program::new();
        let (mut x, mut y) = (p.secret(), p.secret());
        for _ in 0..8 {
            let (a, b) = (p.secret(), p.secret());
            let m = p.mul(a, y);
            let n = p.mul(b, x);
            let next = p.add(m, n);
            x = y;
            y = next;
        }
        p.output(y);
        let after = done(&p);
        assert!(cost(&after).depth <= 4, "{}", cost(&after).depth);
        assert!(products(&after) <= 32, "{}", products(&after));
    }

    #[test]
    fn gradient_steps_on_secret_data_become_repeated_squaring() {
        // v ← v − η·X'(X v − y), X secret 4×3.
        for (steps, depth) in [(16, 6), (256, 10)] {
            let mut p = Program::new();
            let x = p.input(Secrecy::Secret, &[4, 3]);
            let y = p.input(Secrecy::Secret, &[4]);
            let mut v = p.input(Secrecy::Secret, &[3]);
            let turned = p.op(TensorOp::Transpose([1, 0].into_iter().collect()), &[x]);
            let rate = p.num(0.03);
            let rate = p.op(TensorOp::Broadcast(Shape::from_slice(&[3])), &[rate]);
            for _ in 0..steps {
                let e = p.op(TensorOp::MatMul, &[x, v]);
                let e = p.sub(e, y);
                let g = p.op(TensorOp::MatMul, &[turned, e]);
                let g = p.mul(rate, g);
                v = p.sub(v, g);
            }
            p.output(v);
            let after = done(&p);
            assert!(cost(&after).depth <= depth, "{}", cost(&after).depth);
            assert!(after.graph.len() < 200);
        }
    }

    #[test]
    fn a_very_late_start_is_no_trouble() {
        let mut p = Program::new();
        let (mut x, c, d) = (p.secret(), p.secret(), p.secret());
        for _ in 0..20_000 {
            let s = p.add(x, c);
            x = p.mul(s, s);
        }
        for _ in 0..6 {
            x = p.mul(x, d);
            x = p.add(x, c);
        }
        p.output(x);
        assert_eq!(cost(&done(&p)).depth, 20_001);
    }

    #[test]
    fn late_operands_move_outward() {
        // (l·b + c)·d with l at depth 3: one level after l.
        let mut p = Program::new();
        let (x, b, c, d) = (p.secret(), p.secret(), p.secret(), p.secret());
        let mut l = x;
        for _ in 0..3 {
            let s = p.add(l, c);
            l = p.mul(s, s);
        }
        let m = p.mul(l, b);
        let m = p.sub(c, m);
        let m = p.mul(m, d);
        p.output(m);
        assert_eq!(cost(&done(&p)).depth, 4);
    }
}
