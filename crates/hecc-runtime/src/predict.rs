//! How long a program takes, and how much memory, before it is run.
//!
//! Time: every task of the [`Schedule`] has a duration by the [`CostModel`], and the executor is
//! played through: as many tasks at once as there are threads, the earliest ready one first, a lone
//! task spread over all threads. Memory: what is alive while that happens, and what does not change:
//! keys, tables, plaintext slots. Linear in the circuit, but for the heap of ready tasks.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::slots::Coefficient;
use hecc_params::{CostModel, FAST_BITS, Level, Parameters, RingCost, Switch};

use crate::keys::evaluation_keys_needed;
use crate::schedule::{Arg, Fusion, Schedule, SumTerms, Task, WeightedRotation, Work};

/// What a run is predicted to need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Milliseconds of key generation.
    pub keygen: f64,
    /// Milliseconds of packing and encrypting, with the public key.
    pub encrypt: f64,
    /// Milliseconds of evaluation.
    pub evaluate: f64,
    /// Milliseconds of it that go to memory that is touched for the first time: when another batch is
    /// evaluated after the first, it uses the same again.
    pub touched: f64,
    /// Milliseconds of evaluation if one thread did everything.
    pub work: f64,
    /// Milliseconds of the longest chain of operations, each on one thread.
    pub critical_path: f64,
    /// Milliseconds of decrypting and decoding.
    pub decrypt: f64,
    /// Bytes.
    pub memory: Memory,
}

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Evaluation keys.
    pub keys: u64,
    /// Ciphertexts and encoded plaintexts, at most at once, encrypted inputs included.
    pub values: u64,
    /// Buffers of operations while they run.
    pub scratch: u64,
    /// Tables of the engine, the secret and the public key.
    pub tables: u64,
    /// Values known to the evaluator, before encoding.
    pub plain: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.keys + self.values + self.scratch + self.tables + self.plain
    }
}

/// Threads that [`execute`](crate::execute()) uses when nobody says otherwise.
pub fn threads() -> usize {
    rayon::current_num_threads().max(1)
}

/// Predicts a run of `circuit` in the order of `schedule` on so many threads.
pub fn predict(
    circuit: &Circuit<Ckks>,
    parameters: &Parameters,
    schedule: &Schedule,
    model: &CostModel,
    threads: usize,
) -> Prediction {
    let threads = threads.max(1);
    let costs = Costs {
        circuit,
        ring: model.ring(parameters.log_n()),
        special: parameters.p().len(),
        digit_limbs: parameters.digit_limbs(),
        wide: wide_limbs(parameters.q()),
        wide_special: wide_limbs(parameters.p()).last().copied().unwrap_or(0),
    };
    let durations: Vec<f64> = schedule.tasks().iter().map(|t| costs.task(t)).collect();
    let played = Played::new(circuit, schedule, &costs, &durations, threads);
    let n = parameters.log_n().degree() as u64;
    let request = evaluation_keys_needed(circuit, parameters.log_n());
    let levels = request
        .relinearization
        .iter()
        .chain(request.galois.values());
    let (mut key_time, mut key_bytes) = (0.0, 0);
    for &level in levels {
        let size = costs.switch(level.limbs());
        key_time += costs.ring.key(size) * costs.switch_width(level.limbs());
        key_bytes += key_size(parameters, level, size);
    }
    let primes = (parameters.q().len() + parameters.p().len()) as u64;
    let top = parameters.q().len();
    let ring = &costs.ring;
    let slots = circuit.meta.slots;
    let many = |count: usize, one: f64| {
        let rounds = count.div_ceil(threads) as f64;
        let crowd = if count > 1 { ring.crowd } else { 1.0 };
        if threads == 1 {
            count as f64 * one
        } else {
            rounds * one * crowd
        }
    };
    let inputs: f64 = circuit
        .inputs
        .iter()
        .map(|i| {
            let limbs = i.level.limbs();
            let fresh = model.fresh * (16 * limbs as u64 * n) as f64 / MIB;
            (ring.encode(limbs, slots) + ring.encrypt.at(limbs)) * costs.width(limbs) + fresh
        })
        .sum();
    let each = inputs / circuit.inputs.len().max(1) as f64;
    let outputs: f64 = circuit
        .outputs
        .iter()
        .map(|(id, ())| {
            let limbs = circuit.graph.ty(*id).level().limbs();
            (ring.decrypt.at(limbs) + ring.decode.at(limbs)) * costs.width(limbs)
        })
        .sum();
    let each_output = outputs / circuit.outputs.len().max(1) as f64;
    // encrypted inputs are there before
    let kept: usize = circuit.inputs.iter().map(|i| 2 * i.level.limbs()).sum();
    let new = (8 * n * (played.values + played.scratch)).saturating_sub(8 * n * kept as u64);
    let touched = FRESH_PART * model.fresh * new as f64 / MIB;
    let own_keys = ring.own_keys(top, parameters.p().len());
    Prediction {
        keygen: (ring.spread_over(key_time, threads) + own_keys) / 1e3,
        encrypt: many(circuit.inputs.len(), each) / 1e3,
        evaluate: (played.time + touched) / 1e3,
        touched: touched / 1e3,
        work: durations.iter().sum::<f64>() / 1e3,
        critical_path: played.critical_path / 1e3,
        decrypt: many(circuit.outputs.len(), each_output) / 1e3,
        memory: Memory {
            keys: key_bytes,
            values: played.values * 8 * n,
            scratch: played.scratch * 8 * n,
            // roots and their quotients both ways, rounding tables, a permutation for each rotation
            tables: primes * n * 8 * TABLES_PER_PRIME
                + request.galois.len() as u64 * n * 4
                + 3 * 8 * n * primes,
            plain: circuit.meta.plains.len() as u64 * 8 * slots as u64,
        },
    }
}

/// Milliseconds that encryption with the public key and evaluation are predicted to take together: on one
/// thread, and on the threads of the model's machine. What a compiler compares circuits by.
pub fn times(circuit: &Circuit<Ckks>, parameters: &Parameters, model: &CostModel) -> (f64, f64) {
    let schedule = Schedule::new(circuit, Fusion::On);
    let on = |threads: usize| {
        let p = predict(circuit, parameters, &schedule, model, threads);
        p.encrypt + p.evaluate
    };
    (on(1), on(model.threads.max(1) as usize))
}

/// How much of the memory of evaluation is touched there for the first time: what encryption gave
/// back is used again.
const FRESH_PART: f64 = 0.5;

/// Most bytes of digits that the engine converts limb by limb; it converts larger ones at once.
const PREPARED_BYTES: usize = 7 << 18;

/// Bytes.
const MIB: f64 = 1048576.0;

/// By number of limbs, how many of them are too wide for the fast kernels.
fn wide_limbs(primes: &[u64]) -> Vec<usize> {
    let wide = |q: &u64| usize::from(64 - q.leading_zeros() > FAST_BITS);
    let mut out = vec![0];
    for q in primes {
        out.push(out.last().copied().unwrap_or(0) + wide(q));
    }
    out
}

/// Words of tables for each prime and coefficient.
const TABLES_PER_PRIME: u64 = 4;

/// Bytes of a key in memory: residues packed to the bits of their primes.
fn key_size(parameters: &Parameters, level: Level, size: Switch) -> u64 {
    let n = parameters.log_n().degree() as u64;
    let primes = parameters.q()[..level.limbs()].iter().chain(parameters.p());
    let bits: u64 = primes.map(|q| u64::from(64 - q.leading_zeros())).sum();
    2 * size.digits() as u64 * bits * n / 8
}

/// What tasks cost.
struct Costs<'a> {
    circuit: &'a Circuit<Ckks>,
    ring: RingCost,
    special: usize,
    digit_limbs: usize,
    /// By number of limbs, how many are wide.
    wide: Vec<usize>,
    wide_special: usize,
}

impl Costs<'_> {
    fn switch(&self, limbs: usize) -> Switch {
        Switch {
            limbs,
            special: self.special,
            digit_limbs: self.digit_limbs,
        }
    }

    /// By how much wide primes slow down what has so many limbs.
    fn width(&self, limbs: usize) -> f64 {
        let wide = self.wide.get(limbs).copied().unwrap_or(0);
        self.ring.widened(wide, limbs)
    }

    /// The same of a key switch.
    fn switch_width(&self, limbs: usize) -> f64 {
        let wide = self.wide.get(limbs).copied().unwrap_or(0);
        self.ring
            .widened(wide + self.wide_special, limbs + self.special)
    }

    fn limbs(&self, id: NodeId) -> usize {
        self.circuit.graph.ty(id).level().limbs()
    }

    /// Polynomials of a value, over those of an ordinary ciphertext.
    fn parts(&self, id: NodeId) -> f64 {
        match self.circuit.graph.ty(id) {
            CkksType::Cipher { degree, .. } => (f64::from(*degree) + 1.0) / 2.0,
            CkksType::Plain { .. } => 0.5,
        }
    }

    fn is_plain(&self, id: NodeId) -> bool {
        matches!(self.circuit.graph.ty(id), CkksType::Plain { .. })
    }

    fn encode(&self, limbs: usize) -> f64 {
        self.ring.encode(limbs, self.circuit.meta.slots)
    }

    /// Microseconds on one thread.
    fn task(&self, task: &Task) -> f64 {
        let id = task.writes[0];
        let limbs = self.limbs(id);
        let time = match &task.work {
            Work::Node(args) => {
                let fresh = args.iter().filter(|a| matches!(a, Arg::Encode(_))).count();
                self.node(id, task) + fresh as f64 * self.encode(limbs)
            }
            Work::Sum(terms) => self.sum(id, task, terms),
            Work::Rotations(steps) => self.ring.rotations(self.switch(limbs), steps.len()),
            Work::RotatedSums(sums) => self.rotated_sums(task, sums),
            Work::RelinearizeRescale => self
                .ring
                .relinearize_rescale(self.switch(self.limbs(task.reads[0]))),
            Work::Combinations => {
                self.ring
                    .combinations(limbs, task.reads.len(), task.writes.len())
                    * self.parts(id)
            }
        };
        let switches = match &task.work {
            Work::Node(_) => matches!(
                self.circuit.graph.op(id),
                CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize
            ),
            Work::Sum(terms) => !terms.rotations.is_empty() || !terms.turned.is_empty(),
            Work::Rotations(_) | Work::RotatedSums(_) | Work::RelinearizeRescale => true,
            Work::Combinations => false,
        };
        let from = task.reads.first().map_or(limbs, |o| self.limbs(*o));
        time * if switches {
            self.switch_width(from)
        } else {
            self.width(from)
        }
    }

    fn node(&self, id: NodeId, task: &Task) -> f64 {
        let (ring, limbs, parts) = (&self.ring, self.limbs(id), self.parts(id));
        let operands = self.circuit.graph.operands(id);
        let plain = operands.get(1).is_some_and(|o| self.is_plain(*o));
        match self.circuit.graph.op(id) {
            CkksOp::Input(_) => 0.0,
            CkksOp::Encode { .. } => self.encode(limbs),
            CkksOp::Add | CkksOp::Sub if plain => 0.5 * ring.add.at(limbs),
            CkksOp::Add | CkksOp::Sub => parts * ring.add.at(limbs),
            CkksOp::Neg | CkksOp::TimesI | CkksOp::AddScalar(_) => parts * ring.scale.at(limbs),
            CkksOp::MulScalar { value, scale } => match value {
                Coefficient::Const(c) if (c.0 * scale.0).round() == 1.0 => 0.0,
                _ => parts * ring.scale.at(limbs),
            },
            CkksOp::Mul if plain => parts * ring.mul_plain.at(limbs),
            CkksOp::Mul => ring.mul.at(limbs),
            CkksOp::Square => ring.square.at(limbs),
            CkksOp::LinComb { .. } => parts * ring.combinations(limbs, operands.len(), 1),
            CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize => {
                ring.key_switch(self.switch(limbs))
            }
            CkksOp::Rescale { .. } => parts * ring.rescale.at(self.limbs(task.reads[0])),
            CkksOp::DropLevel(_) => 0.5 * parts * ring.add.at(limbs),
        }
    }

    fn sum(&self, id: NodeId, task: &Task, terms: &SumTerms) -> f64 {
        let ring = &self.ring;
        let limbs = self.limbs(id);
        let mut time = 0.0;
        let mut added = terms.rest.len() as f64;
        if !terms.products.is_empty() {
            time += ring.product_sum(limbs, terms.products.len());
            added += 1.0;
        }
        if let Some((place, _)) = terms.plain_products.first() {
            let fresh = terms.plain_products.iter();
            let fresh = fresh.filter(|(_, a)| matches!(a, Arg::Encode(_))).count();
            time += self.parts(task.reads[*place as usize])
                * ring.plain_sum(limbs, terms.plain_products.len())
                + fresh as f64 * self.encode(limbs);
            added += 1.0;
        }
        for (_, rotations) in &terms.rotations {
            let switched = rotations.iter().filter(|r| r.step.0 != 0).count();
            time += ring.rotation_sum(self.switch(limbs), rotations.len(), switched);
            let fresh = rotations.iter().filter(|r| r.plain.is_some()).count();
            time += fresh as f64 * self.encode(limbs + self.special);
            added += 1.0;
        }
        let switch = self.switch(limbs);
        for at in 0..terms.turned.len() {
            // they share one division by P
            time += ring.switch(switch.parts(1, 0, usize::from(at == 0), false));
            added += 1.0;
        }
        time + (added - 1.0).max(0.0) * self.parts(id) * ring.add.at(limbs)
    }

    fn rotated_sums(&self, task: &Task, sums: &[Vec<WeightedRotation>]) -> f64 {
        let limbs = self.limbs(task.reads[0]);
        let terms = sums.iter().map(Vec::len).sum();
        let keys = copies(sums);
        let fresh = sums.iter().flatten().filter(|r| r.plain.is_some()).count();
        let parts = self.switch(limbs).parts(keys, terms, sums.len(), true);
        self.ring.switch(parts) + fresh as f64 * self.encode(limbs + self.special)
    }

    /// Limbs of the digits of a decomposition.
    fn digits(&self, limbs: usize) -> usize {
        let digits = self.switch(limbs).digits();
        let bytes = 8 * self.ring.log_n.degree();
        if (limbs + digits) * bytes <= PREPARED_BYTES {
            limbs + 2 * digits
        } else {
            digits * (limbs + self.special)
        }
    }

    /// Limbs of buffers that a task takes while it runs, without what it yields.
    fn scratch(&self, task: &Task) -> usize {
        let limbs = self.limbs(task.writes[0]);
        let extended = limbs + self.special;
        match &task.work {
            Work::Node(args) => {
                let fresh = args.iter().filter(|a| matches!(a, Arg::Encode(_))).count() * limbs;
                match self.circuit.graph.op(task.writes[0]) {
                    CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize => {
                        self.digits(limbs) + 2 * extended
                    }
                    CkksOp::Encode { .. } => 4,
                    _ => fresh + 4,
                }
            }
            Work::Sum(terms) => {
                let fresh = terms.plain_products.iter();
                let fresh = fresh.filter(|(_, a)| matches!(a, Arg::Encode(_))).count() * limbs;
                let rotated = terms.rotations.iter().map(|(_, r)| {
                    let plains = r.iter().filter(|r| r.plain.is_some()).count();
                    plains * extended + self.digits(limbs) + 2 * extended
                });
                fresh + rotated.max().unwrap_or(0) + 2 * limbs * terms.rotations.len()
            }
            Work::Rotations(steps) => self.digits(limbs) + 2 * steps.len() * extended,
            Work::RotatedSums(sums) => {
                let (limbs, extended) = (limbs + 1, extended + 1);
                let plains = sums.iter().flatten().filter(|r| r.plain.is_some());
                let turned = 2 * (copies(sums) + sums.len());
                self.digits(limbs) + (plains.count() + turned) * extended
            }
            Work::RelinearizeRescale => self.digits(limbs + 1) + 2 * (extended + 1),
            Work::Combinations => 0,
        }
    }

    /// Limbs of a value.
    fn size(&self, id: NodeId) -> usize {
        match self.circuit.graph.ty(id) {
            CkksType::Cipher { level, degree, .. } => level.limbs() * (*degree as usize + 1),
            CkksType::Plain { level, .. } => level.limbs(),
        }
    }
}

/// The rotated copies that sums have between them, without the one that is not rotated.
fn copies(sums: &[Vec<WeightedRotation>]) -> usize {
    let steps = sums.iter().flatten().map(|r| r.step.0);
    let steps: BTreeSet<_> = steps.filter(|s| *s != 0).collect();
    steps.len()
}

/// Microseconds and limbs of a run.
struct Played {
    time: f64,
    critical_path: f64,
    /// Most limbs of values at once.
    values: u64,
    /// Most limbs of buffers at once.
    scratch: u64,
}

/// When a task ends; the earliest first.
#[derive(Clone, Copy, PartialEq)]
struct Ends(f64, u32);

impl Eq for Ends {}

impl PartialOrd for Ends {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ends {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.total_cmp(&self.0).then(other.1.cmp(&self.1))
    }
}

impl Played {
    fn new(
        circuit: &Circuit<Ckks>,
        schedule: &Schedule,
        costs: &Costs<'_>,
        durations: &[f64],
        threads: usize,
    ) -> Played {
        let count = durations.len();
        let mut waits = schedule.dependencies().to_vec();
        let mut left = schedule.readers().to_vec();
        let mut ready: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
        let mut sources: Vec<u32> = (0..count as u32)
            .rev()
            .filter(|t| waits[*t as usize] == 0)
            .collect();
        let mut running: BinaryHeap<Ends> = BinaryHeap::new();
        // Encrypted inputs are there from the beginning.
        let mut alive: usize = circuit.inputs.iter().map(|i| 2 * i.level.limbs()).sum();
        let mut scratch = 0;
        let mut path = vec![0.0f64; count];
        let (mut most, mut most_scratch, mut now, mut critical_path) = (alive, 0, 0.0, 0.0f64);
        loop {
            while running.len() < threads {
                let next = ready.pop().map(|Reverse(t)| t).or_else(|| sources.pop());
                let Some(t) = next else { break };
                let task = &schedule.tasks()[t as usize];
                let alone = durations[t as usize];
                let busy = running.len() + 1 + ready.len() + sources.len();
                let takes = if busy < threads || threads == 1 {
                    match task.work {
                        // blocks of coefficients, none of which waits for another
                        Work::Combinations => alone / threads as f64,
                        _ => costs.ring.spread_over(alone, threads),
                    }
                } else {
                    alone * costs.ring.crowd
                };
                running.push(Ends(now + takes, t));
                scratch += costs.scratch(task);
                most_scratch = most_scratch.max(scratch);
                let input = matches!(circuit.graph.op(task.writes[0]), CkksOp::Input(_));
                if !input {
                    alive += task.writes.iter().map(|id| costs.size(*id)).sum::<usize>();
                    most = most.max(alive);
                }
            }
            let Some(Ends(end, t)) = running.pop() else {
                break;
            };
            now = end;
            let task = &schedule.tasks()[t as usize];
            scratch -= costs.scratch(task);
            let ends = path[t as usize] + durations[t as usize];
            critical_path = critical_path.max(ends);
            for id in &task.reads {
                left[id.index()] -= 1;
                if left[id.index()] == 0 {
                    alive = alive.saturating_sub(costs.size(*id));
                }
            }
            for &d in schedule.dependents(t as usize) {
                path[d as usize] = path[d as usize].max(ends);
                waits[d as usize] -= 1;
                if waits[d as usize] == 0 {
                    ready.push(Reverse(d));
                }
            }
        }
        Played {
            time: now,
            critical_path,
            values: most as u64,
            scratch: most_scratch as u64,
        }
    }
}
