//! In which order a circuit is computed, what is computed together, and when a value is freed.
//!
//! A circuit's nodes become tasks. With [`Fusion::On`] one task may stand for several nodes where
//! the engine does them better together: the rotations of one ciphertext (one decomposition, Halevi
//! and Shoup, eprint 2018/244), weighted sums of rotations, several from the same rotated copies, and sums
//! of rotations of several ciphertexts (one division by P for all, Bossuat,
//! Mouchet, Troncoso-Pastoriza and Hubaux, eprint 2020/1203), sums of products (one reduction),
//! linear combinations of the same operands (a matrix product), and relinearization with the
//! rescale after it. [`Fusion::Off`] keeps a task for each node, so that each can be looked at.
//!
//! Of two orders, that of the ids and depth-first from the results, the one that keeps less alive is
//! taken. Everything here is deterministic and near-linear in the size of the circuit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Circuit, Dialect, Graph, NodeId, Operands as Ids, Real};
use hecc_ir::slots::Coefficient;
use hecc_params::RotationStep;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::keys::canonical_step;

/// Most terms of one fused sum: all their operands are alive at once.
const MOST_TERMS: usize = 256;
/// Most rotations of one ciphertext that are computed at once: all results are alive at once.
const MOST_ROTATIONS: usize = 32;
/// Most linear combinations that are computed at once.
const MOST_COMBINATIONS: usize = 128;

/// Whether tasks may stand for several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// Where the engine is faster so.
    On,
    /// A task for each node.
    Off,
}

/// An operand of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The value at this place of [`Task::reads`].
    Read(u32),
    /// This `Encode` node, encoded by the task itself as nobody else needs it.
    Encode(NodeId),
}

/// A rotation as a term of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightedRotation {
    /// How far.
    pub step: RotationStep,
    /// Times this `Encode` node; as it is when there is none.
    pub plain: Option<NodeId>,
}

/// The terms of a fused sum. Numbers are places in [`Task::reads`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SumTerms {
    /// Products of two ciphertexts.
    pub products: Vec<(u32, u32)>,
    /// Products of a ciphertext and a plaintext.
    pub plain_products: Vec<(u32, Arg)>,
    /// Weighted rotations, a list for each ciphertext.
    pub rotations: Vec<(u32, Vec<WeightedRotation>)>,
    /// Rotations of ciphertexts that nothing else needs, one each.
    pub turned: Vec<(u32, RotationStep)>,
    /// Anything else.
    pub rest: Vec<u32>,
}

impl SumTerms {
    fn len(&self) -> usize {
        let rotated: usize = self.rotations.iter().map(|(_, t)| t.len()).sum();
        let alone = self.turned.len() + self.rest.len();
        self.products.len() + self.plain_products.len() + rotated + alone
    }
}

/// What a task does. Numbers are places in [`Task::reads`].
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// One node.
    Node(SmallVec<[Arg; 2]>),
    /// A sum with all its terms.
    Sum(SumTerms),
    /// Rotations of the one operand, a result each.
    Rotations(Vec<RotationStep>),
    /// Weighted sums of rotations of the one operand, each with a rescale after it: a result each. Every
    /// rotation has a plaintext.
    RotatedSums(Vec<Vec<WeightedRotation>>),
    /// Relinearization of the one operand, then a rescale.
    RelinearizeRescale,
    /// Linear combinations of all operands, in the order of [`Task::reads`]; a result for each node
    /// in [`Task::writes`].
    Combinations,
}

/// A unit of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What it does.
    pub work: Work,
    /// Values that it needs, each once.
    pub reads: Vec<NodeId>,
    /// Values that it yields. The first names the task.
    pub writes: SmallVec<[NodeId; 1]>,
    /// Roughly how long it takes, in limbs times passes over a limb.
    pub weight: u64,
}

/// Tasks in order, with who waits for whom.
#[derive(Clone, Debug)]
pub struct Schedule {
    tasks: Vec<Task>,
    /// By node: how many tasks read it, and one more for a result.
    readers: Vec<u32>,
    /// By task: the tasks that wait for it.
    dependents: Vec<Vec<u32>>,
    /// By task: how many tasks it waits for.
    dependencies: Vec<u32>,
    peak_ciphertexts: usize,
    peak_limbs: usize,
}

impl Schedule {
    /// Schedules everything that a result depends on.
    pub fn new(circuit: &Circuit<Ckks>, fusion: Fusion) -> Schedule {
        let tasks = Grouper::new(circuit, fusion).tasks();
        let producer = producers(circuit, &tasks);
        let (dependents, dependencies) = edges(&tasks, &producer);
        let by_id = by_id(&tasks, &dependents, &dependencies);
        let depth_first = depth_first(circuit, &tasks, &producer);
        let (a, b) = (
            peak(circuit, &tasks, &by_id),
            peak(circuit, &tasks, &depth_first),
        );
        let (order, (peak_limbs, peak_ciphertexts)) =
            if b < a { (depth_first, b) } else { (by_id, a) };
        let mut taken: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
        let tasks: Vec<Task> = order
            .iter()
            .filter_map(|&t| taken[t as usize].take())
            .collect();
        let producer = producers(circuit, &tasks);
        let (dependents, dependencies) = edges(&tasks, &producer);
        Schedule {
            readers: readers(circuit, &tasks),
            tasks,
            dependents,
            dependencies,
            peak_ciphertexts,
            peak_limbs,
        }
    }

    /// The tasks, each after those that it waits for.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// By node: how many tasks read it, and one more for a result.
    pub fn readers(&self) -> &[u32] {
        &self.readers
    }

    /// The tasks that wait for this one.
    pub fn dependents(&self, task: usize) -> &[u32] {
        &self.dependents[task]
    }

    /// By task: how many tasks it waits for.
    pub fn dependencies(&self) -> &[u32] {
        &self.dependencies
    }

    /// Most ciphertexts alive at once when tasks run one after the other in this order.
    pub fn peak_ciphertexts(&self) -> usize {
        self.peak_ciphertexts
    }

    /// Most bytes of ciphertexts alive at once in this order, in a ring of degree `n`.
    pub fn peak_bytes(&self, n: usize) -> usize {
        self.peak_limbs * n * 8
    }

    /// The sum of all weights.
    pub fn weight(&self) -> u64 {
        self.tasks.iter().map(|t| t.weight).sum()
    }

    /// One line a task: what it yields, what it does on what, and what is freed after it.
    pub fn to_text(&self, circuit: &Circuit<Ckks>) -> String {
        let mut left = self.readers.clone();
        let mut out = String::new();
        for task in &self.tasks {
            let list = |ids: &[NodeId]| {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                ids.join(", ")
            };
            let what = match &task.work {
                Work::Node(_) => Ckks::mnemonic(circuit.graph.op(task.writes[0])).to_owned(),
                Work::Sum(terms) => {
                    let rotated: usize = terms.rotations.iter().map(|(_, t)| t.len()).sum();
                    let parts = [
                        (terms.products.len(), "products"),
                        (terms.plain_products.len(), "plain products"),
                        (rotated + terms.turned.len(), "rotations"),
                        (terms.rest.len(), "values"),
                    ];
                    let parts: Vec<String> = parts
                        .iter()
                        .filter(|(n, _)| *n > 0)
                        .map(|(n, what)| format!("{n} {what}"))
                        .collect();
                    format!("sum of {}", parts.join(" and "))
                }
                Work::Rotations(steps) => {
                    let steps: Vec<String> = steps.iter().map(|s| s.0.to_string()).collect();
                    format!("rotations by {}", steps.join(" "))
                }
                Work::RotatedSums(sums) => {
                    let terms: usize = sums.iter().map(Vec::len).sum();
                    format!("{} sums of {terms} rotations+rescale", sums.len())
                }
                Work::RelinearizeRescale => "relinearize+rescale".to_owned(),
                Work::Combinations => "linear combinations".to_owned(),
            };
            let level = circuit.graph.ty(task.writes[0]).level();
            let _ = write!(out, "{} = {what}", list(&task.writes));
            if !task.reads.is_empty() {
                let _ = write!(out, " of {}", list(&task.reads));
            }
            let _ = write!(out, "  // level {level}");
            let mut freed = Vec::new();
            for &id in &task.reads {
                left[id.index()] -= 1;
                if left[id.index()] == 0 {
                    freed.push(id);
                }
            }
            if !freed.is_empty() {
                let _ = write!(out, ", frees {}", list(&freed));
            }
            out.push('\n');
        }
        let _ = writeln!(
            out,
            "// {} tasks, at most {} ciphertexts alive",
            self.tasks.len(),
            self.peak_ciphertexts
        );
        out
    }
}

/// Decides which nodes are computed together.
struct Grouper<'a> {
    circuit: &'a Circuit<Ckks>,
    graph: &'a Graph<Ckks>,
    fusion: Fusion,
    live: Vec<bool>,
    /// By node: operand places of live users, and one for each result.
    uses: Vec<u32>,
    /// Computed inside the task of its user.
    absorbed: Vec<bool>,
    tasks: Vec<Task>,
}

/// A rotation while it is still a node.
#[derive(Clone, Copy)]
struct Rotated {
    of: NodeId,
    /// The rotation; the ciphertext itself when it is not rotated.
    rotation: NodeId,
    /// Its product with a plaintext, and that plaintext.
    product: Option<(NodeId, NodeId)>,
}

/// A weighted sum of rotations of one ciphertext.
struct BabySum {
    /// Its place among the tasks.
    task: usize,
    /// The rescale after it.
    rescale: NodeId,
    /// The rotations that are tasks of their own as yet.
    rotations: Vec<NodeId>,
    terms: Vec<WeightedRotation>,
}

/// A sum while its terms are still nodes.
#[derive(Default)]
struct Terms {
    products: Vec<(NodeId, NodeId, NodeId)>,
    plain_products: Vec<(NodeId, NodeId, NodeId)>,
    rotated: Vec<Rotated>,
    turned: Vec<NodeId>,
    rest: Vec<NodeId>,
    inner: Vec<NodeId>,
}

impl<'a> Grouper<'a> {
    fn new(circuit: &'a Circuit<Ckks>, fusion: Fusion) -> Self {
        let graph = &circuit.graph;
        let live = circuit.live();
        let mut uses = vec![0; graph.len()];
        for id in graph.ids().filter(|id| live[id.index()]) {
            for o in graph.operands(id) {
                uses[o.index()] += 1;
            }
        }
        for (id, ()) in &circuit.outputs {
            uses[id.index()] += 1;
        }
        Grouper {
            circuit,
            graph,
            fusion,
            live,
            uses,
            absorbed: vec![false; graph.len()],
            tasks: Vec::new(),
        }
    }

    fn tasks(mut self) -> Vec<Task> {
        if self.fusion == Fusion::On {
            for id in self.graph.ids().rev() {
                if self.live[id.index()] && !self.absorbed[id.index()] {
                    self.fuse(id);
                }
            }
            self.merge_sums();
            self.group_rotations();
            self.group_combinations();
        }
        for id in self.graph.ids() {
            let encode = matches!(self.graph.op(id), CkksOp::Encode { .. });
            if self.live[id.index()] && !self.absorbed[id.index()] && !encode {
                self.single(id);
            }
        }
        let mut read = vec![false; self.graph.len()];
        for task in &self.tasks {
            for id in &task.reads {
                read[id.index()] = true;
            }
        }
        for (id, ()) in &self.circuit.outputs {
            read[id.index()] = true;
        }
        for id in self.graph.ids() {
            let encode = matches!(self.graph.op(id), CkksOp::Encode { .. });
            if encode && read[id.index()] {
                self.single(id);
            }
        }
        self.tasks
    }

    fn once(&self, id: NodeId) -> bool {
        self.uses[id.index()] == 1
    }

    fn is_plain(&self, id: NodeId) -> bool {
        matches!(self.graph.ty(id), CkksType::Plain { .. })
    }

    /// An addition of ciphertexts, of two or of many.
    fn is_sum(&self, id: NodeId) -> bool {
        match self.graph.op(id) {
            CkksOp::Add => !self.is_plain(self.graph.operands(id)[1]),
            CkksOp::LinComb {
                coefficients,
                scale,
            } => {
                scale.0 == 1.0
                    && coefficients.len() > 1
                    && coefficients
                        .iter()
                        .all(|c| *c == Coefficient::Const(Real(1.0)))
            }
            CkksOp::Input(_)
            | CkksOp::Encode { .. }
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::Mul
            | CkksOp::Square
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::Rotate(_)
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => false,
        }
    }

    fn fuse(&mut self, id: NodeId) {
        if let CkksOp::Rescale { .. } = self.graph.op(id) {
            let product = self.graph.operands(id)[0];
            if matches!(self.graph.op(product), CkksOp::Relinearize) && self.once(product) {
                self.absorbed[product.index()] = true;
                self.absorbed[id.index()] = true;
                let reads = self.graph.operands(product).to_vec();
                let weight = self.weight(product) + self.weight(id);
                self.tasks.push(Task {
                    work: Work::RelinearizeRescale,
                    reads,
                    writes: SmallVec::from_slice(&[id]),
                    weight,
                });
            }
        } else if self.is_sum(id) {
            self.fuse_sum(id);
        }
    }

    fn fuse_sum(&mut self, id: NodeId) {
        let mut terms = self.terms(id);
        self.settle(&mut terms);
        if terms.products.is_empty()
            && terms.plain_products.is_empty()
            && terms.rotated.is_empty()
            && terms.turned.is_empty()
        {
            return;
        }
        let mut reads = Reads::default();
        let mut sum = SumTerms::default();
        let mut weight = self.weight(id);
        let mut absorb: Vec<NodeId> = terms.inner.clone();
        for &(node, a, b) in &terms.products {
            absorb.push(node);
            sum.products.push((reads.place(a), reads.place(b)));
        }
        for &(node, a, plain) in &terms.plain_products {
            absorb.push(node);
            let arg = self.plain_arg(plain, &mut reads);
            sum.plain_products.push((reads.place(a), arg));
        }
        let mut groups: FxHashMap<NodeId, usize> = FxHashMap::default();
        for &Rotated {
            of,
            rotation,
            product,
        } in &terms.rotated
        {
            let step = match self.graph.op(rotation) {
                CkksOp::Rotate(step) if rotation != of => {
                    absorb.push(rotation);
                    canonical_step(*step, self.circuit.meta.slots)
                }
                _ => RotationStep(0),
            };
            absorb.extend(product.map(|(node, _)| node));
            let place = reads.place(of);
            let group = *groups.entry(of).or_insert_with(|| {
                sum.rotations.push((place, Vec::new()));
                sum.rotations.len() - 1
            });
            sum.rotations[group].1.push(WeightedRotation {
                step,
                plain: product.map(|(_, plain)| plain),
            });
        }
        for &node in &terms.turned {
            if let CkksOp::Rotate(step) = self.graph.op(node) {
                let step = canonical_step(*step, self.circuit.meta.slots);
                let place = reads.place(self.graph.operands(node)[0]);
                sum.turned.push((place, step));
                absorb.push(node);
            }
        }
        for &node in &terms.rest {
            sum.rest.push(reads.place(node));
        }
        for node in absorb {
            weight += self.weight(node);
            self.absorbed[node.index()] = true;
        }
        self.absorbed[id.index()] = true;
        debug_assert!(sum.len() > 1);
        self.tasks.push(Task {
            work: Work::Sum(sum),
            reads: reads.list,
            writes: SmallVec::from_slice(&[id]),
            weight,
        });
    }

    /// The terms of a tree of additions whose inner sums nobody else uses.
    fn terms(&self, root: NodeId) -> Terms {
        let mut terms = Terms::default();
        let mut stack: Vec<NodeId> = self.graph.operands(root).into_iter().rev().collect();
        let mut found = stack.len();
        while let Some(id) = stack.pop() {
            let operands = self.graph.operands(id);
            if !self.once(id) {
                terms.rest.push(id);
            } else if self.is_sum(id) && found + operands.len() <= MOST_TERMS {
                terms.inner.push(id);
                found += operands.len() - 1;
                stack.extend(operands.into_iter().rev());
            } else {
                self.term(id, &operands, &mut terms);
            }
        }
        terms
    }

    fn term(&self, id: NodeId, operands: &Ids, terms: &mut Terms) {
        match self.graph.op(id) {
            CkksOp::Square => terms.products.push((id, operands[0], operands[0])),
            CkksOp::Mul if self.is_plain(operands[1]) => {
                let (a, plain) = (operands[0], operands[1]);
                match self.graph.op(a) {
                    CkksOp::Rotate(_) if self.once(a) => {
                        let of = self.graph.operands(a)[0];
                        terms.rotated.push(Rotated {
                            of,
                            rotation: a,
                            product: Some((id, plain)),
                        });
                    }
                    _ => terms.plain_products.push((id, a, plain)),
                }
            }
            CkksOp::Mul => terms.products.push((id, operands[0], operands[1])),
            CkksOp::Rotate(_) => terms.rotated.push(Rotated {
                of: operands[0],
                rotation: id,
                product: None,
            }),
            CkksOp::Input(_)
            | CkksOp::Encode { .. }
            | CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::LinComb { .. }
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => terms.rest.push(id),
        }
    }

    /// Gives back what gains nothing by being computed inside the sum: a lone rotation or product.
    fn settle(&self, terms: &mut Terms) {
        let mut rotations: FxHashMap<NodeId, usize> = FxHashMap::default();
        for r in &terms.rotated {
            *rotations.entry(r.of).or_insert(0) += 1;
        }
        // The unrotated ciphertext of a group is its rotation by nothing.
        let (with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut terms.plain_products)
            .into_iter()
            .partition(|(_, a, _)| {
                rotations.contains_key(a)
                    && terms
                        .rotated
                        .iter()
                        .any(|r| r.of == *a && r.product.is_some())
            });
        terms.plain_products = without;
        for (node, a, plain) in with {
            *rotations.entry(a).or_insert(0) += 1;
            terms.rotated.push(Rotated {
                of: a,
                rotation: a,
                product: Some((node, plain)),
            });
        }
        let (kept, lone): (Vec<_>, Vec<_>) = std::mem::take(&mut terms.rotated)
            .into_iter()
            .partition(|r: &Rotated| rotations.get(&r.of).is_some_and(|n| *n > 1));
        terms.rotated = kept;
        for r in lone {
            match r.product {
                Some((node, plain)) => terms.plain_products.push((node, r.rotation, plain)),
                None if self.once(r.of) => terms.turned.push(r.rotation),
                None => terms.rest.push(r.rotation),
            }
        }
        if terms.turned.len() == 1 {
            terms.rest.append(&mut terms.turned);
        }
        if terms.products.len() == 1 {
            terms.rest.extend(terms.products.drain(..).map(|p| p.0));
        }
        if terms.plain_products.len() == 1 {
            terms
                .rest
                .extend(terms.plain_products.drain(..).map(|p| p.0));
        }
    }

    /// Joins weighted sums of rotations of one ciphertext that share rotations, when a rescale follows each: the
    /// baby steps of a linear map. The rotated copies are then never written out as ciphertexts.
    fn merge_sums(&mut self) {
        let mut user: Vec<Option<NodeId>> = vec![None; self.graph.len()];
        for id in self.graph.ids().filter(|id| self.live[id.index()]) {
            for o in self.graph.operands(id) {
                user[o.index()] = Some(id);
            }
        }
        // By ciphertext, level and scale of the weights: the sums, in order.
        let mut groups: FxHashMap<(NodeId, Real), usize> = FxHashMap::default();
        let mut lists: Vec<(NodeId, Vec<BabySum>)> = Vec::new();
        for (place, task) in self.tasks.iter().enumerate() {
            let Some((of, scale, mut sum)) = self.baby_sum(task) else {
                continue;
            };
            let id = task.writes[0];
            match user[id.index()] {
                Some(next)
                    if self.once(id)
                        && matches!(self.graph.op(next), CkksOp::Rescale { .. })
                        && !self.absorbed[next.index()] =>
                {
                    sum.rescale = next;
                }
                _ => continue,
            }
            sum.task = place;
            let group = *groups.entry((of, scale)).or_insert_with(|| {
                lists.push((of, Vec::new()));
                lists.len() - 1
            });
            lists[group].1.push(sum);
        }
        let mut merged = vec![false; self.tasks.len()];
        for (of, list) in lists {
            // Rotations that something else needs too are better computed once, for all.
            let mut found: FxHashMap<NodeId, u32> = FxHashMap::default();
            for rotation in list.iter().flat_map(|sum| &sum.rotations) {
                *found.entry(*rotation).or_insert(0) += 1;
            }
            let all = found.iter().all(|(id, n)| self.uses[id.index()] == *n);
            let shared = found.values().any(|n| *n > 1);
            if !(all && shared) {
                continue;
            }
            let mut weight = 0;
            for rotation in found.keys() {
                weight += self.weight(*rotation);
                self.absorbed[rotation.index()] = true;
            }
            let mut writes = SmallVec::new();
            let mut sums = Vec::with_capacity(list.len());
            for sum in list {
                merged[sum.task] = true;
                weight += self.tasks[sum.task].weight + self.weight(sum.rescale);
                self.absorbed[sum.rescale.index()] = true;
                writes.push(sum.rescale);
                sums.push(sum.terms);
            }
            self.tasks.push(Task {
                work: Work::RotatedSums(sums),
                reads: vec![of],
                writes,
                weight,
            });
        }
        let mut place = 0;
        self.tasks.retain(|_| {
            place += 1;
            !merged.get(place - 1).copied().unwrap_or(false)
        });
    }

    /// A task that sums products of plaintexts with rotations of one ciphertext, and nothing else; with
    /// that ciphertext and the scale of the plaintexts.
    fn baby_sum(&self, task: &Task) -> Option<(NodeId, Real, BabySum)> {
        let Work::Sum(terms) = &task.work else {
            return None;
        };
        if !(terms.products.is_empty() && terms.turned.is_empty() && terms.rest.is_empty()) {
            return None;
        }
        let mut base = None;
        let mut of_scale = None;
        let mut agrees = |of: NodeId, plain: NodeId| match self.graph.op(plain) {
            CkksOp::Encode { scale, .. } => {
                *base.get_or_insert(of) == of && *of_scale.get_or_insert(*scale) == *scale
            }
            _ => false,
        };
        let mut sum = BabySum {
            task: 0,
            rescale: task.writes[0],
            rotations: Vec::new(),
            terms: Vec::new(),
        };
        for &(place, plain) in &terms.plain_products {
            let Arg::Encode(plain) = plain else {
                return None;
            };
            let id = task.reads[place as usize];
            let (of, step) = match self.graph.op(id) {
                CkksOp::Rotate(step) => {
                    sum.rotations.push(id);
                    let step = canonical_step(*step, self.circuit.meta.slots);
                    (self.graph.operands(id)[0], step)
                }
                _ => (id, RotationStep(0)),
            };
            if !agrees(of, plain) {
                return None;
            }
            sum.terms.push(WeightedRotation {
                step,
                plain: Some(plain),
            });
        }
        for (place, rotations) in &terms.rotations {
            for rotation in rotations {
                if !agrees(task.reads[*place as usize], rotation.plain?) {
                    return None;
                }
                sum.terms.push(*rotation);
            }
        }
        Some((base?, of_scale?, sum))
    }

    fn plain_arg(&self, plain: NodeId, reads: &mut Reads) -> Arg {
        if self.once(plain) && matches!(self.graph.op(plain), CkksOp::Encode { .. }) {
            Arg::Encode(plain)
        } else {
            Arg::Read(reads.place(plain))
        }
    }

    fn group_rotations(&mut self) {
        let mut groups: FxHashMap<NodeId, usize> = FxHashMap::default();
        let mut lists: Vec<(NodeId, Vec<NodeId>)> = Vec::new();
        for id in self.graph.ids() {
            let rotation = matches!(self.graph.op(id), CkksOp::Rotate(_));
            if rotation && self.live[id.index()] && !self.absorbed[id.index()] {
                let of = self.graph.operands(id)[0];
                let group = *groups.entry(of).or_insert_with(|| {
                    lists.push((of, Vec::new()));
                    lists.len() - 1
                });
                lists[group].1.push(id);
            }
        }
        for (of, list) in lists {
            for part in list.chunks(MOST_ROTATIONS).filter(|p| p.len() > 1) {
                let steps = part.iter().filter_map(|id| match self.graph.op(*id) {
                    CkksOp::Rotate(step) => Some(canonical_step(*step, self.circuit.meta.slots)),
                    _ => None,
                });
                self.together(Work::Rotations(steps.collect()), vec![of], part);
            }
        }
    }

    fn group_combinations(&mut self) {
        let mut groups: FxHashMap<(Ids, Real), usize> = FxHashMap::default();
        let mut lists: Vec<Vec<NodeId>> = Vec::new();
        for id in self.graph.ids() {
            if !self.live[id.index()] || self.absorbed[id.index()] {
                continue;
            }
            if let CkksOp::LinComb { scale, .. } = self.graph.op(id) {
                let operands = self.graph.operands(id);
                let mut distinct = operands.clone();
                distinct.sort_unstable();
                if distinct.windows(2).any(|w| w[0] == w[1]) {
                    continue;
                }
                let group = *groups.entry((operands, *scale)).or_insert_with(|| {
                    lists.push(Vec::new());
                    lists.len() - 1
                });
                lists[group].push(id);
            }
        }
        for list in lists {
            for part in list.chunks(MOST_COMBINATIONS).filter(|p| p.len() > 1) {
                let reads = self.graph.operands(part[0]).to_vec();
                self.together(Work::Combinations, reads, part);
            }
        }
    }

    fn together(&mut self, work: Work, reads: Vec<NodeId>, nodes: &[NodeId]) {
        let mut weight = 0;
        for id in nodes {
            weight += self.weight(*id);
            self.absorbed[id.index()] = true;
        }
        self.tasks.push(Task {
            work,
            reads,
            writes: SmallVec::from_slice(nodes),
            weight,
        });
    }

    fn single(&mut self, id: NodeId) {
        let mut reads = Reads::default();
        let args = self
            .graph
            .operands(id)
            .into_iter()
            .map(|o| {
                if self.fusion == Fusion::On && self.is_plain(o) {
                    self.plain_arg(o, &mut reads)
                } else {
                    Arg::Read(reads.place(o))
                }
            })
            .collect();
        self.tasks.push(Task {
            work: Work::Node(args),
            reads: reads.list,
            writes: SmallVec::from_slice(&[id]),
            weight: self.weight(id),
        });
    }

    /// Passes over a limb: what makes a progress bar run evenly, not what the cost model says.
    fn weight(&self, id: NodeId) -> u64 {
        let limbs = self.graph.ty(id).level().limbs() as u64;
        match self.graph.op(id) {
            CkksOp::Input(_) | CkksOp::DropLevel(_) => 1,
            CkksOp::Add | CkksOp::Sub | CkksOp::Neg => 2 * limbs,
            CkksOp::AddScalar(_) | CkksOp::MulScalar { .. } | CkksOp::TimesI => 2 * limbs,
            CkksOp::Mul | CkksOp::Square => 5 * limbs,
            CkksOp::LinComb { coefficients, .. } => 2 * limbs * coefficients.len() as u64,
            CkksOp::Encode { .. } => 20 + 10 * limbs,
            CkksOp::Rescale { .. } => 20 * (limbs + 1),
            CkksOp::Relinearize | CkksOp::Rotate(_) | CkksOp::Conjugate => 10 * limbs * (limbs + 4),
        }
    }
}

/// Operands in order of their first mention, each once.
#[derive(Default)]
struct Reads {
    list: Vec<NodeId>,
    places: FxHashMap<NodeId, u32>,
}

impl Reads {
    fn place(&mut self, id: NodeId) -> u32 {
        *self.places.entry(id).or_insert_with(|| {
            self.list.push(id);
            self.list.len() as u32 - 1
        })
    }
}

/// By node: the task that yields it; `u32::MAX` when none does.
fn producers(circuit: &Circuit<Ckks>, tasks: &[Task]) -> Vec<u32> {
    let mut out = vec![u32::MAX; circuit.graph.len()];
    for (t, task) in tasks.iter().enumerate() {
        for id in &task.writes {
            out[id.index()] = t as u32;
        }
    }
    out
}

fn readers(circuit: &Circuit<Ckks>, tasks: &[Task]) -> Vec<u32> {
    let mut out = vec![0; circuit.graph.len()];
    for task in tasks {
        for id in &task.reads {
            out[id.index()] += 1;
        }
    }
    for (id, ()) in &circuit.outputs {
        out[id.index()] += 1;
    }
    out
}

/// By task: who waits for it, and for how many it waits.
fn edges(tasks: &[Task], producer: &[u32]) -> (Vec<Vec<u32>>, Vec<u32>) {
    let mut dependents = vec![Vec::new(); tasks.len()];
    let mut dependencies = vec![0; tasks.len()];
    for (t, task) in tasks.iter().enumerate() {
        let mut before: Vec<u32> = task.reads.iter().map(|id| producer[id.index()]).collect();
        before.sort_unstable();
        before.dedup();
        dependencies[t] = before.len() as u32;
        for b in before {
            dependents[b as usize].push(t as u32);
        }
    }
    (dependents, dependencies)
}

/// The order in which ids ascend as far as dependencies allow.
fn by_id(tasks: &[Task], dependents: &[Vec<u32>], dependencies: &[u32]) -> Vec<u32> {
    let mut waits = dependencies.to_vec();
    let key = |t: u32| Reverse((tasks[t as usize].writes[0], t));
    let mut ready: BinaryHeap<_> = (0..tasks.len() as u32)
        .filter(|t| waits[*t as usize] == 0)
        .map(key)
        .collect();
    let mut order = Vec::with_capacity(tasks.len());
    while let Some(Reverse((_, t))) = ready.pop() {
        order.push(t);
        for &d in &dependents[t as usize] {
            waits[d as usize] -= 1;
            if waits[d as usize] == 0 {
                ready.push(key(d));
            }
        }
    }
    order
}

/// Depth-first from the results, needier operands first (Sethi and Ullman).
fn depth_first(circuit: &Circuit<Ckks>, tasks: &[Task], producer: &[u32]) -> Vec<u32> {
    // Needs are computed in the order of a plain depth-first walk, which is topological.
    let roots: Vec<u32> = circuit
        .outputs
        .iter()
        .map(|(id, ())| producer[id.index()])
        .collect();
    let before: Vec<Vec<u32>> = tasks
        .iter()
        .map(|task| {
            let mut list: Vec<u32> = Vec::with_capacity(task.reads.len());
            for id in &task.reads {
                let p = producer[id.index()];
                if list.len() > 64 || !list.contains(&p) {
                    list.push(p);
                }
            }
            list
        })
        .collect();
    let mut need = vec![0u32; tasks.len()];
    for t in post_order(&roots, &before) {
        let mut needs: Vec<u32> = before[t as usize]
            .iter()
            .map(|p| need[*p as usize])
            .collect();
        needs.sort_unstable_by(|a, b| b.cmp(a));
        need[t as usize] = needs
            .iter()
            .enumerate()
            .map(|(held, n)| n.saturating_add(held as u32))
            .max()
            .unwrap_or(0)
            .max(tasks[t as usize].writes.len() as u32);
    }
    let sorted: Vec<Vec<u32>> = before
        .into_iter()
        .map(|mut list| {
            list.sort_by_key(|p| Reverse(need[*p as usize]));
            list
        })
        .collect();
    post_order(&roots, &sorted)
}

fn post_order(roots: &[u32], before: &[Vec<u32>]) -> Vec<u32> {
    let mut order = Vec::with_capacity(before.len());
    let mut seen = vec![false; before.len()];
    let mut stack: Vec<(u32, usize)> = Vec::new();
    for &root in roots {
        if std::mem::replace(&mut seen[root as usize], true) {
            continue;
        }
        stack.push((root, 0));
        while let Some((t, next)) = stack.last_mut() {
            match before[*t as usize].get(*next) {
                Some(&p) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[p as usize], true) {
                        stack.push((p, 0));
                    }
                }
                None => {
                    order.push(*t);
                    stack.pop();
                }
            }
        }
    }
    order
}

/// Most limbs of ciphertexts, and most ciphertexts, alive at once in this order.
fn peak(circuit: &Circuit<Ckks>, tasks: &[Task], order: &[u32]) -> (usize, usize) {
    let mut left = readers(circuit, tasks);
    let size = |id: NodeId| match circuit.graph.ty(id) {
        CkksType::Cipher { level, degree, .. } => (level.limbs() * (*degree as usize + 1), 1),
        CkksType::Plain { level, .. } => (level.limbs(), 0),
    };
    let (mut limbs, mut count) = (0, 0);
    let mut worst = (0, 0);
    for &t in order {
        let task = &tasks[t as usize];
        for &id in &task.writes {
            let (l, c) = size(id);
            limbs += l;
            count += c;
        }
        worst = (worst.0.max(limbs), worst.1.max(count));
        for &id in &task.reads {
            left[id.index()] -= 1;
            if left[id.index()] == 0 {
                let (l, c) = size(id);
                limbs -= l;
                count -= c;
            }
        }
    }
    worst
}
