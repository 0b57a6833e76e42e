//! Polynomials in one variable: recognised however they are written, evaluated at the least depth.
//!
//! **What.** Sums, products, powers and public factors of one value x (Horner's rule, power sums,
//! nested forms, plain products) are collected into dense coefficients. A polynomial of degree d is
//! evaluated by splitting p = q·xᵐ + r at m = k·2ʲ down to blocks of degree below k that are linear
//! combinations of known powers (baby steps and giant steps: Paterson and Stockmeyer, *On the number
//! of nonscalar multiplications necessary to evaluate polynomials*, SIAM J. Comput. 1973). For each
//! k the plan with the fewest products of two secrets is found by dynamic programming under a
//! deadline in levels and in depth: the left part of a split has one level less than the right
//! part, which may therefore use wider blocks. A coefficient costs a level only in the first block,
//! so that degree d takes ⌈log₂(d + 1)⌉ levels. In the Chebyshev basis the split is
//! p = q·T_m + r by T_i = 2·T_m·T_{i−m} − T_{|2m−i|}.
//!
//! **Why.** Horner's rule of degree 15 has 15 levels, the least is 4.
//!
//! **Cost.** Degree × nodes to recognise, degree² × log degree to plan; degrees up to
//! [`DEGREE_LIMIT`] are recognised, `Poly` operations have no limit.
//!
//! **Numbers.** A product is expanded only while Σ|cᵢ|·Rⁱ, with R the magnitude of x, stays within
//! [`CANCELLATION`] of the largest value, so that (x − 1)³² is not. A polynomial that is given in the
//! Chebyshev basis stays there unless the same holds.
//!
//! **Assumes** a simplified circuit. `@keep` and declared ranges are boundaries.

use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Basis, Polynomial, Tensor, TensorOp, elements};
use rustc_hash::{FxHashMap, FxHashSet};

use super::balance::{Key, add_all};
use super::build::{Build, Simplify, sweep};
use super::cost::{self, Fact};
use super::expand::{chebyshev_map, chebyshev_variable};

/// Highest degree that is recognised in sums and products.
pub const DEGREE_LIMIT: usize = 64;
/// Most cancellation that expanding a product may bring.
pub const CANCELLATION: f64 = 16.0;
/// How much the other coefficients may exceed the leading one when that is taken out.
const MONIC: f64 = 64.0;
/// Most nodes of one recognised polynomial.
const CONE_LIMIT: usize = 4096;

/// What a node is a polynomial in, and of which degree, in the old circuit.
#[derive(Clone, Copy, Debug)]
struct Shape1 {
    base: NodeId,
    degree: usize,
    /// Whether a product of two sums was expanded.
    expanded: bool,
    /// Whether it has more than one term.
    sum: bool,
}

/// Coefficients, constant first; `None` is zero.
type Dense = Vec<Option<NodeId>>;

/// Recognises and re-emits every polynomial. `None` when there is none.
pub fn polynomials(circuit: &Circuit<Tensor>, key: Key) -> Option<Circuit<Tensor>> {
    let facts = cost::facts(circuit);
    let shapes = recognise(circuit, &facts);
    let magnitude = magnitudes(circuit);
    let live = circuit.live();
    let graph = &circuit.graph;
    let mut root = vec![false; graph.len()];
    let mut uses = vec![0u32; graph.len()];
    let mut wanted = vec![false; graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        for o in graph.operands(id) {
            uses[o.index()] += 1;
            let (mine, theirs) = (shapes[o.index()], shapes[id.index()]);
            root[o.index()] |= mine.is_some_and(|m| {
                m.degree >= 2 && theirs.is_none_or(|t| t.base != m.base || t.base == id)
            });
        }
    }
    for (id, _) in &circuit.outputs {
        uses[id.index()] += 1;
        root[id.index()] |= shapes[id.index()].is_some_and(|s| s.degree >= 2);
    }
    let given = |id: NodeId| matches!(graph.op(id), TensorOp::Poly(_));
    if circuit.meta.keep || !graph.ids().any(|id| root[id.index()] || given(id)) {
        return None;
    }
    for id in graph.ids().rev() {
        wanted[id.index()] |= root[id.index()];
        if !wanted[id.index()] {
            continue;
        }
        if let Some(s) = shapes[id.index()] {
            for o in graph.operands(id) {
                wanted[o.index()] |=
                    o != s.base && shapes[o.index()].is_some_and(|t| t.base == s.base);
            }
        }
    }
    let mut dense: FxHashMap<NodeId, Dense> = FxHashMap::default();
    let mut map: Vec<NodeId> = vec![NodeId(u32::MAX); graph.len()];
    let out = sweep(circuit, Simplify::All, |build, id, node, operands| {
        let plain = match &node.op {
            TensorOp::Poly(p) if !node.keep => emit_poly(
                build,
                operands[0],
                p,
                magnitude[graph.operands(id)[0].index()],
                key,
                node.span,
            ),
            op => build.push(op.clone(), operands, node.span),
        };
        map[id.index()] = plain;
        if !wanted[id.index()] {
            return plain;
        }
        let Some(shape) = shapes[id.index()] else {
            return plain;
        };
        let x = map[shape.base.index()];
        let coefficients = collect(build, circuit, &facts, &dense, shape.base, &map, id);
        let mut result = plain;
        if root[id.index()] && coefficients.iter().flatten().count() > 1 {
            let r = magnitude[shape.base.index()];
            let fine = !shape.expanded || cancellation(build, &coefficients, r) <= CANCELLATION;
            if fine && let Some(new) = emit(build, x, &coefficients, key, node.span) {
                let old = products_in(circuit, &facts, &shapes, &uses, id);
                if rank(build, new.0, new.1, key) < rank(build, plain, old, key) {
                    result = new.0;
                }
            }
        }
        dense.insert(id, coefficients);
        map[id.index()] = result;
        result
    });
    Some(out)
}

/// What is compared: the key, the level with nothing pending, products.
type Rank = ((u32, u32), u32, usize);

fn rank(build: &Build, id: NodeId, products: usize, key: Key) -> Rank {
    let f = build.fact(id);
    (key(f), f.settled, products)
}

fn recognise(circuit: &Circuit<Tensor>, facts: &[Fact]) -> Vec<Option<Shape1>> {
    let graph = &circuit.graph;
    let mut out: Vec<Option<Shape1>> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        if !facts[id.index()].secret {
            out.push(None);
            continue;
        }
        let itself = Shape1 {
            base: id,
            degree: 1,
            expanded: false,
            sum: false,
        };
        let node = graph.node(id);
        let operands = graph.operands(id);
        let of = |i: usize| out[operands[i].index()];
        let found = if node.keep || node.declared.is_some() {
            None
        } else {
            match &node.op {
                TensorOp::Add | TensorOp::Sub => match (of(0), of(1)) {
                    (Some(a), Some(b)) => (a.base == b.base).then(|| Shape1 {
                        degree: a.degree.max(b.degree),
                        expanded: a.expanded || b.expanded,
                        sum: true,
                        ..a
                    }),
                    (a, b) => a.or(b).map(|a| Shape1 { sum: true, ..a }),
                },
                TensorOp::Mul => match (of(0), of(1)) {
                    (Some(a), Some(b)) => (a.base == b.base && a.degree + b.degree <= DEGREE_LIMIT)
                        .then(|| Shape1 {
                            base: a.base,
                            degree: a.degree + b.degree,
                            expanded: a.expanded || b.expanded || (a.sum && b.sum),
                            sum: a.sum || b.sum,
                        }),
                    (a, b) => a.or(b),
                },
                TensorOp::Neg => of(0),
                TensorOp::Pow(n) => of(0).and_then(|a| {
                    let degree = a.degree.checked_mul(*n as usize)?;
                    (degree <= DEGREE_LIMIT && *n > 0).then_some(Shape1 {
                        degree,
                        expanded: a.expanded || a.sum,
                        ..a
                    })
                }),
                _ => None,
            }
        };
        out.push(Some(found.unwrap_or(itself)));
    }
    out
}

/// The coefficients of a node whose operands' are known.
fn collect(
    build: &mut Build,
    circuit: &Circuit<Tensor>,
    facts: &[Fact],
    dense: &FxHashMap<NodeId, Dense>,
    base: NodeId,
    map: &[NodeId],
    id: NodeId,
) -> Dense {
    let graph = &circuit.graph;
    let span = graph.span(id);
    let shape = hecc_ir::tensor::Shape::from_slice(graph.ty(id).shape());
    let operands = graph.operands(id);
    let of = |build: &mut Build, i: usize| -> Dense {
        let o = operands[i];
        if !facts[o.index()].secret {
            return vec![Some(map[o.index()])];
        }
        match dense.get(&o) {
            Some(d) if o != base => d.clone(),
            _ => {
                let one = build.uniform(1.0, &shape, span);
                vec![None, Some(one)]
            }
        }
    };
    match graph.op(id) {
        TensorOp::Add | TensorOp::Sub => {
            let minus = matches!(graph.op(id), TensorOp::Sub);
            let (a, b) = (of(build, 0), of(build, 1));
            (0..a.len().max(b.len()))
                .map(|i| {
                    let (x, y) = (a.get(i).copied().flatten(), b.get(i).copied().flatten());
                    let sum = match (x, y) {
                        (x, None) => return x,
                        (None, Some(y)) if minus => build.neg(y, span),
                        (None, Some(y)) => y,
                        (Some(x), Some(y)) if minus => build.sub(x, y, span),
                        (Some(x), Some(y)) => build.add(x, y, span),
                    };
                    nonzero(build, sum)
                })
                .collect()
        }
        TensorOp::Mul => {
            let (a, b) = (of(build, 0), of(build, 1));
            multiply(build, &a, &b, span)
        }
        TensorOp::Neg => of(build, 0)
            .into_iter()
            .map(|c| c.map(|c| build.neg(c, span)))
            .collect(),
        TensorOp::Pow(n) => {
            let a = of(build, 0);
            let mut p = a.clone();
            for _ in 1..*n {
                p = multiply(build, &p, &a, span);
            }
            p
        }
        _ => Vec::new(),
    }
}

fn nonzero(build: &Build, c: NodeId) -> Option<NodeId> {
    (build.uniform_value(c) != Some(0.0)).then_some(c)
}

fn multiply(build: &mut Build, a: &[Option<NodeId>], b: &[Option<NodeId>], span: Span) -> Dense {
    let mut out: Dense = vec![None; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            if let (Some(x), Some(y)) = (x, y) {
                let p = build.mul(*x, *y, span);
                out[i + j] = match out[i + j] {
                    Some(s) => {
                        let s = build.add(s, p, span);
                        nonzero(build, s)
                    }
                    None => nonzero(build, p),
                };
            }
        }
    }
    out
}

/// Products of two secrets that would go if a root were built another way.
fn products_in(
    circuit: &Circuit<Tensor>,
    facts: &[Fact],
    shapes: &[Option<Shape1>],
    uses: &[u32],
    root: NodeId,
) -> usize {
    let graph = &circuit.graph;
    let Some(shape) = shapes[root.index()] else {
        return 0;
    };
    // Users come before operands in descending order of ids.
    let mut queue = std::collections::BinaryHeap::from([root]);
    let mut seen: FxHashMap<NodeId, u32> = FxHashMap::default();
    let mut count = 0;
    let mut visited = 0;
    while let Some(id) = queue.pop() {
        visited += 1;
        if visited > CONE_LIMIT {
            return usize::MAX;
        }
        if id != root && seen.get(&id).copied().unwrap_or(0) < uses[id.index()] {
            continue;
        }
        let operands = graph.operands(id);
        if operands.iter().all(|o| facts[o.index()].secret) {
            count += match graph.op(id) {
                TensorOp::Mul => 1,
                TensorOp::Pow(n) => *n as usize - 1,
                _ => 0,
            };
        }
        for o in operands {
            if o != shape.base && shapes[o.index()].is_some_and(|t| t.base == shape.base) {
                let n = seen.entry(o).or_insert(0);
                *n += 1;
                if *n == 1 {
                    queue.push(o);
                }
            }
        }
    }
    count
}

// ---- numbers ----

/// A bound of the magnitude of every value, from declared ranges; 1 where nothing is known.
fn magnitudes(circuit: &Circuit<Tensor>) -> Vec<f64> {
    let graph = &circuit.graph;
    let mut out: Vec<f64> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let at = |i: usize| out[operands[i].index()];
        let m = match graph.op(id) {
            TensorOp::Input(i) => circuit.inputs[*i as usize].interval().magnitude(),
            TensorOp::Const(c) => c.data().iter().fold(0.0, |m: f64, v| m.max(v.abs())),
            TensorOp::Add | TensorOp::Sub => at(0) + at(1),
            TensorOp::Mul => at(0) * at(1),
            TensorOp::Pow(n) => at(0).powi((*n).min(1 << 20) as i32),
            TensorOp::MatMul => {
                let inner = graph.ty(operands[0]).shape().last().copied().unwrap_or(1);
                at(0) * at(1) * inner as f64
            }
            TensorOp::Sum(_) => {
                let n =
                    elements(graph.ty(operands[0]).shape()) / elements(graph.ty(id).shape()).max(1);
                at(0) * n as f64
            }
            TensorOp::Concat(_) | TensorOp::Update { .. } => {
                operands.iter().fold(0.0, |m: f64, o| m.max(out[o.index()]))
            }
            TensorOp::Neg
            | TensorOp::Broadcast(_)
            | TensorOp::Reshape(_)
            | TensorOp::Transpose(_)
            | TensorOp::Slice { .. }
            | TensorOp::Pad { .. }
            | TensorOp::Roll(_)
            | TensorOp::Diag => at(0),
            TensorOp::SumPool(n) => at(0) * (n * n) as f64,
            TensorOp::Conv2d { .. } => {
                let k: usize = graph.ty(operands[1]).shape()[1..].iter().product();
                at(0) * at(1) * k as f64
            }
            TensorOp::Div
            | TensorOp::Poly(_)
            | TensorOp::Index(_)
            | TensorOp::Loop { .. }
            | TensorOp::Proj(_) => 1.0,
        };
        let m = match graph.node(id).declared {
            Some(range) => range.magnitude(),
            None => m,
        };
        out.push(if m.is_finite() {
            m.clamp(1e-6, 1e6)
        } else {
            1.0
        });
    }
    out
}

/// A public value in f64, when it is known and the same everywhere.
pub fn known(build: &Build, id: NodeId) -> Option<f64> {
    approximate(build, id, &mut FxHashMap::default())
}

fn approximate(
    build: &Build,
    id: NodeId,
    known: &mut FxHashMap<NodeId, Option<f64>>,
) -> Option<f64> {
    let mut stack = vec![id];
    while let Some(&at) = stack.last() {
        if known.contains_key(&at) {
            stack.pop();
            continue;
        }
        let operands = build.graph().operands(at);
        let mut waiting = false;
        let takes = !matches!(
            build.graph().op(at),
            TensorOp::Const(_) | TensorOp::Input(_)
        );
        if takes {
            for o in &operands {
                if !known.contains_key(o) {
                    stack.push(*o);
                    waiting = true;
                }
            }
        }
        if waiting {
            continue;
        }
        let of = |i: usize| {
            operands
                .get(i)
                .and_then(|o| known.get(o).copied().flatten())
        };
        let value = match build.graph().op(at) {
            TensorOp::Const(c) => c.uniform(),
            TensorOp::Add => of(0).zip(of(1)).map(|(a, b)| a + b),
            TensorOp::Sub => of(0).zip(of(1)).map(|(a, b)| a - b),
            TensorOp::Mul => of(0).zip(of(1)).map(|(a, b)| a * b),
            TensorOp::Div => of(0).zip(of(1)).map(|(a, b)| a / b),
            TensorOp::Neg => of(0).map(|a| -a),
            TensorOp::Pow(n) => of(0).map(|a| a.powi(*n as i32)),
            TensorOp::Broadcast(_) | TensorOp::Reshape(_) => of(0),
            _ => None,
        };
        known.insert(at, value);
        stack.pop();
    }
    known.get(&id).copied().flatten()
}

/// Σ|cᵢ|·Rⁱ over the largest |p| on [−R, R]; infinite when a coefficient is not known.
fn cancellation(build: &Build, coefficients: &[Option<NodeId>], r: f64) -> f64 {
    let mut known = FxHashMap::default();
    let mut values = Vec::with_capacity(coefficients.len());
    for c in coefficients {
        match c {
            None => values.push(0.0),
            Some(c) => match approximate(build, *c, &mut known) {
                Some(v) => values.push(v),
                None => return f64::INFINITY,
            },
        }
    }
    cancellation_of(&values, r)
}

fn cancellation_of(c: &[f64], r: f64) -> f64 {
    let sum: f64 = c
        .iter()
        .enumerate()
        .map(|(i, c)| c.abs() * r.powi(i as i32))
        .sum();
    let n = 4 * c.len();
    let most = (0..=n)
        .map(|i| {
            let x = r * (std::f64::consts::PI * i as f64 / n as f64).cos();
            c.iter().rev().fold(0.0, |s, c| s * x + c).abs()
        })
        .fold(0.0, f64::max);
    if sum == 0.0 { 1.0 } else { sum / most }
}

// ---- planning ----

/// ⌈log₂ n⌉ for n ≥ 1.
fn clog(n: usize) -> u32 {
    usize::BITS - (n - 1).leading_zeros()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Task {
    lo: usize,
    hi: usize,
    levels: u32,
    depth: u32,
    /// Whether a public factor may stay pending: what is only multiplied on needs it no sooner.
    pending: bool,
}

/// How a range of coefficients is evaluated; `None` when there is no way within the deadline.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Direct,
    /// At this power; whether a factor of the left part may stay pending.
    Split(usize, bool),
}

struct Planner<'a> {
    /// Which coefficients are there.
    present: &'a [bool],
    /// Which of them cost no level.
    integer: &'a [bool],
    k: usize,
    chebyshev: bool,
    memo: FxHashMap<Task, Option<(usize, Choice)>>,
}

impl Planner<'_> {
    /// Fewest products, powers not counted.
    fn plan(&mut self, task: Task) -> Option<(usize, Choice)> {
        if let Some(known) = self.memo.get(&task) {
            return *known;
        }
        let best = self.search(task);
        self.memo.insert(task, best);
        best
    }

    /// The degree of a range, its upper zeros left off; in the Chebyshev basis splitting fills zeros.
    fn degree(&self, task: Task) -> Option<usize> {
        if self.chebyshev {
            return Some(task.hi - task.lo);
        }
        (task.lo..=task.hi)
            .rev()
            .find(|&i| self.present[i])
            .map(|i| i - task.lo)
    }

    fn search(&mut self, task: Task) -> Option<(usize, Choice)> {
        let Some(degree) = self.degree(task) else {
            return Some((0, Choice::Direct));
        };
        if degree == 0 {
            return Some((0, Choice::Direct));
        }
        let mut best: Option<(usize, Choice)> = None;
        if task.pending {
            best = self.pending(task, degree);
            let settled = self.plan(Task {
                pending: false,
                ..task
            });
            return match (best, settled) {
                (Some(a), Some(b)) if b.0 < a.0 => Some(b),
                (None, b) => b,
                (a, _) => a,
            };
        }
        if degree < self.k.max(2) {
            let fits = (1..=degree).all(|i| {
                let there = self.chebyshev || self.present[task.lo + i];
                let free = !self.chebyshev && self.integer[task.lo + i];
                !there || (clog(i) + u32::from(!free) <= task.levels && clog(i) <= task.depth)
            });
            if fits {
                best = Some((0, Choice::Direct));
            }
        }
        let mut m = self.k.max(1);
        while m.is_multiple_of(2) && m > 2 {
            m /= 2;
        }
        while m <= degree {
            let whole = !self.chebyshev || 2 * m >= degree;
            if whole
                && clog(m) <= task.depth
                && let Some(n) = self.split(task, degree, m)
                && best.is_none_or(|b| n < b.0)
            {
                best = Some((n, Choice::Split(m, false)));
            }
            m *= 2;
        }
        best
    }

    /// One power of x and a constant, or such a thing times a power of x plus a constant.
    fn pending(&mut self, task: Task, degree: usize) -> Option<(usize, Choice)> {
        if self.chebyshev {
            return None;
        }
        let least = (1..=degree).find(|i| self.present[task.lo + i])?;
        if least == degree {
            let fits = clog(degree) <= task.levels.min(task.depth);
            return fits.then_some((0, Choice::Direct));
        }
        let m = least;
        let left = Task {
            lo: task.lo + m,
            hi: task.lo + degree,
            levels: task.levels.checked_sub(1)?,
            depth: task.depth.checked_sub(1)?,
            pending: true,
        };
        if clog(m) > left.levels.min(left.depth) {
            return None;
        }
        Some((self.plan(left)?.0 + 1, Choice::Split(m, true)))
    }

    /// What is left of a split, and what is right of it.
    fn parts(task: Task, degree: usize, m: usize, pending: bool) -> (Option<Task>, Task) {
        let right = Task {
            hi: task.lo + m - 1,
            pending: false,
            ..task
        };
        let left = (degree > m).then(|| Task {
            lo: task.lo + m,
            hi: task.lo + degree,
            levels: task.levels - 1,
            depth: task.depth - 1,
            pending,
        });
        (left, right)
    }

    fn split(&mut self, task: Task, degree: usize, m: usize) -> Option<usize> {
        let right = Task {
            hi: task.lo + m - 1,
            ..task
        };
        let r = self.plan(right)?.0;
        if degree == m {
            return (clog(m) < task.levels).then_some(r);
        }
        let left = Task {
            lo: task.lo + m,
            hi: task.lo + degree,
            levels: task.levels.checked_sub(1)?,
            depth: task.depth.checked_sub(1)?,
            pending: false,
        };
        if clog(m) > left.levels || clog(m) > left.depth {
            return None;
        }
        Some(self.plan(left)?.0 + r + 1)
    }

    /// The powers that a plan needs.
    fn powers(&mut self, task: Task, out: &mut FxHashSet<usize>) {
        let Some((_, choice)) = self.plan(task) else {
            return;
        };
        let Some(degree) = self.degree(task) else {
            return;
        };
        match choice {
            Choice::Direct => {
                for i in 1..=degree {
                    if self.chebyshev || self.present[task.lo + i] {
                        need(i, self.chebyshev, out);
                    }
                }
            }
            Choice::Split(m, pending) => {
                need(m, self.chebyshev, out);
                let (left, right) = Planner::parts(task, degree, m, pending);
                self.powers(right, out);
                if let Some(left) = left {
                    self.powers(left, out);
                }
            }
        }
    }
}

/// How a power is made of two lower ones at the least depth.
fn halves(n: usize, chebyshev: bool) -> (usize, usize) {
    if n.is_multiple_of(2) {
        (n / 2, n / 2)
    } else if chebyshev {
        (n / 2 + 1, n / 2)
    } else {
        let a = 1 << (clog(n) - 1);
        (a, n - a)
    }
}

fn need(n: usize, chebyshev: bool, out: &mut FxHashSet<usize>) {
    if n > 1 && out.insert(n) {
        let (a, b) = halves(n, chebyshev);
        need(a, chebyshev, out);
        need(b, chebyshev, out);
    }
}

/// The sizes of blocks that are tried for a degree.
fn blocks(degree: usize) -> Vec<usize> {
    let mut out = vec![2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128];
    out.retain(|k| *k <= degree);
    out.push(degree + 1);
    out
}

/// The best plans for each deadline that can be the best: block size, deadline, products.
fn plans(present: &[bool], integer: &[bool], chebyshev: bool) -> Vec<(usize, Task, usize)> {
    let degree = present.len() - 1;
    let least = clog(degree).max(1);
    let mut out = Vec::new();
    for levels in least..=least + 2 {
        for depth in least..=levels {
            let mut best: Option<(usize, Task, usize)> = None;
            for k in blocks(degree) {
                let mut planner = Planner {
                    present,
                    integer,
                    k,
                    chebyshev,
                    memo: FxHashMap::default(),
                };
                let task = Task {
                    lo: 0,
                    hi: degree,
                    levels,
                    depth,
                    pending: true,
                };
                let Some((n, _)) = planner.plan(task) else {
                    continue;
                };
                let mut powers = FxHashSet::default();
                planner.powers(task, &mut powers);
                let total = n + powers.len();
                if best.is_none_or(|b| total < b.2) {
                    best = Some((k, task, total));
                }
            }
            out.extend(best);
        }
        if out.iter().any(|(_, t, _)| t.depth == least) && levels > least {
            break;
        }
    }
    out
}

// ---- emission ----

struct Emitter<'a> {
    build: &'a mut Build,
    x: NodeId,
    span: Span,
    chebyshev: bool,
    powers: FxHashMap<usize, NodeId>,
}

impl Emitter<'_> {
    fn power(&mut self, n: usize) -> NodeId {
        if n == 1 {
            return self.x;
        }
        if let Some(&id) = self.powers.get(&n) {
            return id;
        }
        let (a, b) = halves(n, self.chebyshev);
        let (pa, pb) = (self.power(a), self.power(b));
        let mut p = self.build.mul(pa, pb, self.span);
        if self.chebyshev {
            // T_{a+b} = 2·T_a·T_b − T_{a−b}.
            p = self.build.add(p, p, self.span);
            let shape = self.build.shape(p);
            let lower = match a - b {
                0 => self.build.uniform(1.0, &shape, self.span),
                d => self.power(d),
            };
            p = self.build.sub(p, lower, self.span);
        }
        self.powers.insert(n, p);
        p
    }

    /// Evaluates the coefficients of a task; `None` is zero.
    fn run(
        &mut self,
        planner: &mut Planner<'_>,
        task: Task,
        coefficients: &[Option<NodeId>],
    ) -> Option<NodeId> {
        let (_, choice) = planner.plan(task)?;
        let degree = planner.degree(task)?;
        match choice {
            Choice::Direct => self.direct(&coefficients[..=degree]),
            Choice::Split(m, pending) => {
                let (q, r) = self.divide(&coefficients[..=degree], m);
                let (left, right) = Planner::parts(task, degree, m, pending);
                let right = self.run(planner, right, &r);
                let left = match left {
                    None => q[0],
                    Some(left) => self.run(planner, left, &q),
                };
                let product = left.map(|q| {
                    let p = self.power(m);
                    self.build.mul(q, p, self.span)
                });
                match (product, right) {
                    (Some(p), Some(r)) => Some(self.build.add(p, r, self.span)),
                    (p, r) => p.or(r),
                }
            }
        }
    }

    fn divide(&mut self, c: &[Option<NodeId>], m: usize) -> (Dense, Dense) {
        let mut r: Dense = c[..m].to_vec();
        if !self.chebyshev {
            return (c[m..].to_vec(), r);
        }
        let mut q: Dense = vec![c[m]];
        for (i, c) in c.iter().enumerate().skip(m + 1) {
            q.push(c.map(|c| self.build.add(c, c, self.span)));
            let at = (2 * m).abs_diff(i);
            if let Some(c) = *c {
                r[at] = Some(match r[at] {
                    Some(old) => self.build.sub(old, c, self.span),
                    None => self.build.neg(c, self.span),
                });
            }
        }
        (q, r)
    }

    fn direct(&mut self, c: &[Option<NodeId>]) -> Option<NodeId> {
        let mut items: Vec<(NodeId, bool)> = Vec::new();
        for (i, c) in c.iter().enumerate().skip(1) {
            if let Some(c) = *c {
                let p = self.power(i);
                items.push((self.build.mul(c, p, self.span), false));
            }
        }
        let sum = add_all(self.build, &items, self.span).map(|s| s.0);
        match (sum, c[0]) {
            (Some(s), Some(c)) => Some(self.build.add(s, c, self.span)),
            (s, c) => s.or(c),
        }
    }
}

/// The best evaluation of Σ cᵢ·xⁱ, and its products of two secrets.
fn emit(
    build: &mut Build,
    x: NodeId,
    coefficients: &[Option<NodeId>],
    key: Key,
    span: Span,
) -> Option<(NodeId, usize)> {
    let mut found = best(build, x, coefficients, false, key, span)?;
    let mut consider = |build: &Build, other: Option<(NodeId, usize)>| {
        if let Some(other) = other
            && key(build.fact(other.0)) < key(build.fact(found.0))
        {
            found = other;
        }
    };
    let other = monic(build, x, coefficients, key, span);
    consider(build, other);
    if let Some((y, c)) = unscaled(build, x, coefficients, span) {
        let other = best(build, y, &c, false, key, span);
        consider(build, other);
        let other = monic(build, y, &c, key, span);
        consider(build, other);
    }
    Some(found)
}

/// When x is a uniform public multiple of y, the polynomial in y: the factor joins the coefficients,
/// where it costs no level of its own.
fn unscaled(
    build: &mut Build,
    x: NodeId,
    coefficients: &[Option<NodeId>],
    span: Span,
) -> Option<(NodeId, Dense)> {
    if !matches!(build.graph().op(x), TensorOp::Mul) || build.graph().node(x).keep {
        return None;
    }
    let operands = build.graph().operands(x);
    let (f, y) = (operands[0], operands[1]);
    if build.fact(f).secret || !build.fact(y).secret {
        return None;
    }
    let mut known = FxHashMap::default();
    let size = approximate(build, f, &mut known)?.abs();
    let degree = coefficients.len() as i32 - 1;
    if !(1e-6..1e6).contains(&size.powi(degree)) {
        return None;
    }
    let mut power: Option<NodeId> = None;
    let mut out: Dense = Vec::with_capacity(coefficients.len());
    for c in coefficients {
        out.push(match (*c, power) {
            (Some(c), Some(p)) => Some(build.mul(c, p, span)),
            (c, _) => c,
        });
        power = Some(match power {
            Some(p) => build.mul(p, f, span),
            None => f,
        });
    }
    Some((y, out))
}

/// The leading coefficient taken out and left pending: with 1 in its place, degree 2ᵏ takes k
/// levels. Only where the other coefficients do not grow beyond measure.
fn monic(
    build: &mut Build,
    x: NodeId,
    coefficients: &[Option<NodeId>],
    key: Key,
    span: Span,
) -> Option<(NodeId, usize)> {
    let degree = coefficients.iter().rposition(Option::is_some)?;
    if degree < 2 || !degree.is_power_of_two() {
        return None;
    }
    let lead = coefficients[degree]?;
    let mut known = FxHashMap::default();
    let top = approximate(build, lead, &mut known)?;
    let mut most: f64 = 0.0;
    for c in coefficients.iter().flatten() {
        most = most.max(approximate(build, *c, &mut known)?.abs());
    }
    if most.is_nan() || top.abs() * MONIC <= most || top.fract() == 0.0 {
        return None;
    }
    let mut c: Dense = Vec::with_capacity(degree + 1);
    for k in &coefficients[..degree] {
        c.push(k.map(|k| build.div(k, lead, span)));
    }
    let shape = build.shape(x);
    c.push(Some(build.uniform(1.0, &shape, span)));
    let (p, products) = best(build, x, &c, false, key, span)?;
    Some((build.mul(lead, p, span), products))
}

fn best(
    build: &mut Build,
    x: NodeId,
    coefficients: &[Option<NodeId>],
    chebyshev: bool,
    key: Key,
    span: Span,
) -> Option<(NodeId, usize)> {
    let mut c = coefficients;
    while let [rest @ .., None] = c {
        c = rest;
    }
    if c.len() < 2 {
        return None;
    }
    let present: Vec<bool> = c.iter().map(Option::is_some).collect();
    let integer: Vec<bool> = c
        .iter()
        .map(|c| {
            c.and_then(|c| build.uniform_value(c))
                .is_some_and(|v| v.fract() == 0.0 && v.abs() < 1048576.0)
        })
        .collect();
    let mut found: Option<(Rank, NodeId, usize)> = None;
    for (k, task, products) in plans(&present, &integer, chebyshev) {
        let mut planner = Planner {
            present: &present,
            integer: &integer,
            k,
            chebyshev,
            memo: FxHashMap::default(),
        };
        let mut emitter = Emitter {
            build,
            x,
            span,
            chebyshev,
            powers: FxHashMap::default(),
        };
        let Some(id) = emitter.run(&mut planner, task, c) else {
            continue;
        };
        let r = rank(build, id, products, key);
        if found.is_none_or(|f| r < f.0) {
            found = Some((r, id, products));
        }
    }
    found.map(|f| (f.1, f.2))
}

/// A `Poly` operation at its best.
fn emit_poly(
    build: &mut Build,
    x: NodeId,
    p: &Polynomial,
    magnitude: f64,
    key: Key,
    span: Span,
) -> NodeId {
    let shape = build.shape(x);
    let mut coefficients: Dense = Vec::with_capacity(p.coefficients.len());
    for c in &p.coefficients {
        coefficients.push((c.0 != 0.0).then(|| build.uniform(c.0, &shape, span)));
    }
    let constant = |build: &mut Build, c: &Dense| match c[0] {
        Some(c) => c,
        None => build.uniform(0.0, &shape, span),
    };
    match p.basis {
        Basis::Monomial => match emit(build, x, &coefficients, key, span) {
            Some((id, _)) => id,
            None => constant(build, &coefficients),
        },
        Basis::Chebyshev { lo, hi } => {
            let u = chebyshev_variable(build, x, lo.0, hi.0, span);
            let Some((id, products)) = best(build, u, &coefficients, true, key, span) else {
                return constant(build, &coefficients);
            };
            let r = magnitude.min(lo.0.abs().max(hi.0.abs()));
            let numbers = monomial_numbers(p, lo.0, hi.0);
            if p.coefficients.len() <= DEGREE_LIMIT + 1
                && cancellation_of(&numbers, r) <= CANCELLATION
            {
                let c = monomial(build, p, lo.0, hi.0, &shape, span);
                if let Some((other, n)) = emit(build, x, &c, key, span)
                    && rank(build, other, n, key) < rank(build, id, products, key)
                {
                    return other;
                }
            }
            id
        }
    }
}

/// The coefficients of a Chebyshev series in powers of x, as numbers.
fn monomial_numbers(p: &Polynomial, lo: f64, hi: f64) -> Vec<f64> {
    let (alpha, beta) = (2.0 / (hi - lo), (hi + lo) / (hi - lo));
    let n = p.coefficients.len();
    let mut out = vec![0.0; n];
    let (mut before, mut here) = (vec![0.0; n], vec![0.0; n]);
    before[0] = 1.0;
    out[0] = p.coefficients[0].0;
    if n > 1 {
        here[0] = -beta;
        here[1] = alpha;
    }
    for c in &p.coefficients[1..] {
        for (o, t) in out.iter_mut().zip(&here) {
            *o += c.0 * t;
        }
        let mut next = vec![0.0; n];
        for i in 0..n {
            let lower = if i > 0 { here[i - 1] } else { 0.0 };
            next[i] = 2.0 * (alpha * lower - beta * here[i]) - before[i];
        }
        before = here;
        here = next;
    }
    out
}

/// The coefficients of a Chebyshev series in powers of x, as public values.
fn monomial(
    build: &mut Build,
    p: &Polynomial,
    lo: f64,
    hi: f64,
    shape: &[usize],
    span: Span,
) -> Dense {
    let (alpha, beta) = chebyshev_map(build, lo, hi, span);
    let minus_beta = build.neg(beta, span);
    let minus_beta = nonzero(build, minus_beta);
    let one = build.scalar(1.0, span);
    let two = build.scalar(2.0, span);
    let u: Dense = vec![minus_beta, Some(alpha)];
    let double: Dense = u
        .iter()
        .map(|c| c.map(|c| build.mul(two, c, span)))
        .collect();
    let plus = |build: &mut Build, a: &mut Dense, b: &Dense, minus: bool| {
        for (i, y) in b.iter().enumerate() {
            if a.len() <= i {
                a.push(None);
            }
            a[i] = match (a[i], *y) {
                (x, None) => x,
                (None, Some(y)) if minus => Some(build.neg(y, span)),
                (None, Some(y)) => Some(y),
                (Some(x), Some(y)) => {
                    let s = if minus {
                        build.sub(x, y, span)
                    } else {
                        build.add(x, y, span)
                    };
                    nonzero(build, s)
                }
            };
        }
    };
    let mut out: Dense = vec![None];
    let mut before: Dense = vec![Some(one)];
    let mut here: Dense = u;
    for (k, c) in p.coefficients.iter().enumerate() {
        let t = if k == 0 { before.clone() } else { here.clone() };
        if c.0 != 0.0 {
            let c = build.scalar(c.0, span);
            let scaled = multiply(build, &[Some(c)], &t, span);
            plus(build, &mut out, &scaled, false);
        }
        if k > 0 {
            let mut next = multiply(build, &double, &here, span);
            plus(build, &mut next, &before, true);
            before = here;
            here = next;
        }
    }
    out.into_iter()
        .map(|c| c.map(|c| build.broadcast(c, shape, span)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::balance::{balance, by_levels};
    use crate::tensor::cost::cost;
    use crate::tensor::simplify::simplify;
    use crate::tensor::testing::{Program, assert_same, fingerprint, products};
    use hecc_ir::graph::Real;

    fn done(p: &Program) -> Circuit<Tensor> {
        let before = simplify(&p.circuit, Simplify::All);
        let before = balance(&before, by_levels).expect("nothing is kept");
        let after = polynomials(&before, by_levels).unwrap_or(before);
        assert_same(&p.circuit, &after);
        let again = polynomials(&after, by_levels).unwrap_or_else(|| after.clone());
        assert_same(&p.circuit, &again);
        assert_eq!(fingerprint(&again), fingerprint(&after));
        after
    }

    fn coefficient(i: usize) -> f64 {
        // Irrational enough, no two alike.
        ((i as f64 + 1.3) * 0.731).sin()
    }

    #[test]
    fn horner_takes_the_least_depth_and_levels() {
        for (degree, depth, most) in [(3, 2, 2), (7, 3, 5), (15, 4, 8), (32, 5, 14)] {
            let mut p = Program::new();
            let x = p.secret();
            let mut y = p.num(coefficient(degree));
            for i in (0..degree).rev() {
                y = p.mul(y, x);
                let c = p.num(coefficient(i));
                y = p.add(y, c);
            }
            p.output(y);
            let after = done(&p);
            let c = cost(&after);
            assert_eq!(c.depth, depth, "degree {degree}");
            assert!(
                c.levels <= depth + 1,
                "degree {degree}: {} levels",
                c.levels
            );
            assert!(
                products(&after) <= most,
                "degree {degree}: {}",
                products(&after)
            );
        }
    }

    #[test]
    fn power_sums_are_found() {
        // Sobel's 2.2138 d − 1.0984 d² + 0.1725 d³.
        let mut p = Program::new();
        let x = p.secret();
        let x2 = p.op(TensorOp::Pow(2), &[x]);
        let x3 = p.op(TensorOp::Pow(3), &[x]);
        let (a, b, c) = (p.num(2.2138), p.num(-1.0984), p.num(0.1725));
        let a = p.mul(a, x);
        let b = p.mul(b, x2);
        let c = p.mul(c, x3);
        let s = p.add(a, b);
        let s = p.add(s, c);
        p.output(s);
        let after = done(&p);
        assert_eq!(cost(&after).depth, 2);
        assert_eq!(cost(&after).levels, 2);
    }

    #[test]
    fn integers_cost_no_level() {
        let mut p = Program::new();
        let x = p.secret();
        let (a, b, c) = (p.num(3.0), p.num(5.0), p.num(-2.0));
        let x2 = p.mul(x, x);
        let a = p.mul(a, x2);
        let b = p.mul(b, x);
        let s = p.add(a, b);
        let s = p.add(s, c);
        p.output(s);
        assert_eq!(cost(&done(&p)).levels, 1);
    }

    #[test]
    fn chebyshev_series_take_the_least_depth() {
        for (n, depth) in [(3usize, 2), (7, 3), (15, 4), (31, 5)] {
            for (lo, hi) in [(-1.0, 1.0), (-8.0, 8.0), (0.5, 3.0)] {
                let mut p = Program::new();
                let x = p.secret();
                let y = p.op(
                    TensorOp::Poly(Polynomial {
                        basis: Basis::Chebyshev {
                            lo: Real(lo),
                            hi: Real(hi),
                        },
                        coefficients: (0..=n)
                            .map(|i| {
                                Real(if lo == -1.0 || i % 2 == 1 {
                                    coefficient(i)
                                } else {
                                    0.0
                                })
                            })
                            .collect(),
                    }),
                    &[x],
                );
                p.output(y);
                let after = done(&p);
                let c = cost(&after);
                assert!(c.depth <= depth, "degree {n}: {}", c.depth);
                assert!(
                    c.levels <= depth + 1,
                    "degree {n} on [{lo}, {hi}]: {}",
                    c.levels
                );
            }
        }
    }

    #[test]
    fn cancelling_products_stay_products() {
        // Π (x² − cᵢ): Σ|cᵢ| grows as 2ⁿ, the values stay below 1.
        let mut p = Program::new();
        let x = p.secret();
        let mut y = x;
        for i in 0..12 {
            let c = p.num(1.0 + 0.001 * f64::from(i));
            let a = p.sub(x, c);
            let b = p.add(x, c);
            y = p.mul(y, a);
            y = p.mul(y, b);
        }
        p.output(y);
        let after = done(&p);
        assert_eq!(cost(&after).depth, 5);
        assert!(products(&after) >= 15);
        // (x² − 1)⁶.
        let binomial = [
            1.0, 0.0, -6.0, 0.0, 15.0, 0.0, -20.0, 0.0, 15.0, 0.0, -6.0, 0.0, 1.0,
        ];
        assert_eq!(cancellation_of(&binomial, 1.0), 64.0);
    }
}
