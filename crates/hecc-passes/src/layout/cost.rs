//! What a slot-vector circuit will cost, before levels and parameters are chosen.
//!
//! The smallest ring that has room for the levels is taken, every value has as many limbs as there
//! are levels below it, and operations take what the [`CostModel`] says there. Rotations of one
//! vector share their decomposition, and those that end in a sum the division too, as at run time.
//! It is an estimate: it orders layouts.

use hecc_ir::graph::{Circuit, Graph, NodeId};
use hecc_ir::slots::{Coefficient, Slots, SlotsOp, SlotsType};
use hecc_params::{CostModel, LogN, Switch};

use super::tidy::is_integer;
use crate::pipeline::Objective;

/// What to compare layouts by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Products of two secrets on the longest path.
    pub depth: u32,
    /// Rescalings on the longest path.
    pub levels: u32,
    /// Rotations and products of ciphertexts.
    pub key_switches: usize,
    /// Encrypted inputs.
    pub inputs: usize,
    /// Microseconds of evaluation and of encrypting inputs on one thread.
    pub work: f64,
    /// The same on the threads of the model's machine.
    pub time: f64,
    /// Bytes of encrypted inputs and outputs.
    pub bytes: f64,
}

/// log2 of a ring's degree, bits of QP at 128-bit security, and most levels at 40 bits each.
const RINGS: [(u8, u32, u32); 6] = [
    (12, 109, 1),
    (13, 218, 3),
    (14, 438, 8),
    (15, 881, 19),
    (16, 1761, 40),
    (17, 3523, 80),
];

/// The smallest ring that has room for so many levels, with or without key switches, and how many
/// special primes there is room for beside them.
pub fn ring_for(levels: u32, switches: bool) -> (LogN, usize) {
    let fits = RINGS
        .iter()
        // the smallest ring has no room for the prime that switching keys takes
        .find(|(n, _, most)| levels <= *most && (*n > 12 || !switches));
    let (log_n, bits, _) = *fits.unwrap_or(&RINGS[RINGS.len() - 1]);
    // errors add up, so that scales grow with the levels
    let scale = 40 + levels / 3;
    let room = bits.saturating_sub(scale * levels + 50) / 50;
    let special = (room as usize).clamp(1, (levels as usize + 1).div_ceil(2));
    (LogN(log_n), special)
}

/// Estimates a circuit by the times that ship.
pub fn estimate(circuit: &Circuit<Slots>) -> Estimate {
    Estimate::of(circuit, CostModel::shipped())
}

/// Fewer levels win unless they cost this many times the work; then the less work wins.
const LEVEL_WORTH: f64 = 8.0;

/// A circuit that switches no keys has none to make, to send and to keep, and room for a smaller
/// ring: with as many levels it wins unless it costs this many times the work.
const KEYLESS_WORTH: f64 = 2.0;

impl Estimate {
    /// Estimates a circuit.
    pub fn of(circuit: &Circuit<Slots>, model: &CostModel) -> Estimate {
        Estimator::new(circuit).estimate(model)
    }

    /// The same where the levels are known.
    pub(super) fn with_levels(
        circuit: &Circuit<Slots>,
        levels: u32,
        model: &CostModel,
    ) -> Estimate {
        let mut estimator = Estimator::new(circuit);
        estimator.levels = levels;
        estimator.estimate(model)
    }

    /// Whether this layout is as good as another or better.
    pub fn better(&self, other: &Estimate, objective: Objective) -> bool {
        match objective {
            Objective::Depth if self.depth != other.depth => self.depth < other.depth,
            Objective::Depth | Objective::Levels => {
                if self.levels != other.levels {
                    let (fewer, more) = if self.levels < other.levels {
                        (self, other)
                    } else {
                        (other, self)
                    };
                    if fewer.work <= LEVEL_WORTH * more.work {
                        return self.levels < other.levels;
                    }
                }
                match (self.key_switches, other.key_switches) {
                    (0, 1..) => self.work <= KEYLESS_WORTH * other.work,
                    (1.., 0) => KEYLESS_WORTH * self.work < other.work,
                    _ => self.work <= other.work,
                }
            }
            Objective::Work => (self.work, self.levels) <= (other.work, other.levels),
            Objective::Time => (self.time, self.work) <= (other.time, other.work),
            Objective::Bandwidth => (self.bytes, self.work) <= (other.bytes, other.work),
        }
    }
}

/// Whether a program with `found` goes before one with `other`: as layouts are compared, but at as many
/// levels less depth is worth `growth` times the work.
pub(crate) fn program_better(
    found: &Estimate,
    other: &Estimate,
    objective: Objective,
    growth: f64,
) -> bool {
    if objective == Objective::Levels && found.levels == other.levels && found.depth != other.depth
    {
        let (less, more) = if found.depth < other.depth {
            (found, other)
        } else {
            (other, found)
        };
        return if less.work <= growth * more.work {
            found.depth < other.depth
        } else {
            found.work <= other.work
        };
    }
    found.better(other, objective)
}

struct Estimator<'a> {
    graph: &'a Graph<Slots>,
    circuit: &'a Circuit<Slots>,
    live: Vec<bool>,
    /// Levels that a node costs itself.
    own: Vec<u32>,
    /// Levels between a node and the results.
    below: Vec<u32>,
    depth: u32,
    levels: u32,
    switches: usize,
    /// Rotations of a node, and how many of them end in a sum.
    rotations: Vec<(usize, usize)>,
}

impl<'a> Estimator<'a> {
    fn new(circuit: &'a Circuit<Slots>) -> Self {
        let graph = &circuit.graph;
        let live = circuit.live();
        let n = graph.len();
        let (mut own, mut levels, mut depth) = (vec![0u32; n], vec![0u32; n], vec![0u32; n]);
        let (mut switches, mut summed) = (0, vec![false; n]);
        let secret = |o: &NodeId| *graph.ty(*o) == SlotsType::Cipher;
        for id in graph.ids().filter(|id| live[id.index()]) {
            let operands = graph.operands(id);
            let i = id.index();
            let mut product = false;
            match graph.op(id) {
                SlotsOp::Input(_) | SlotsOp::Plain(_) | SlotsOp::Sub | SlotsOp::Neg => {}
                SlotsOp::Add => {
                    for o in &operands {
                        summed[o.index()] = true;
                    }
                }
                SlotsOp::Mul => {
                    product = operands.iter().all(secret);
                    own[i] = 1;
                }
                SlotsOp::Square => {
                    product = true;
                    own[i] = 1;
                }
                SlotsOp::LinComb(c) => {
                    let free = c.iter().all(|c| is_integer(*c));
                    own[i] = u32::from(!free);
                    let ones = c
                        .iter()
                        .all(|c| matches!(c, Coefficient::Const(v) if v.0 == 1.0));
                    for o in operands.iter().filter(|_| ones) {
                        summed[o.index()] = true;
                    }
                }
                SlotsOp::Rotate(_) | SlotsOp::Conjugate => switches += 1,
                SlotsOp::TimesI => {}
            }
            switches += usize::from(product);
            for o in &operands {
                levels[i] = levels[i].max(levels[o.index()]);
                depth[i] = depth[i].max(depth[o.index()]);
            }
            levels[i] += own[i];
            depth[i] += u32::from(product);
        }
        let mut below = vec![0u32; n];
        let mut rotations = vec![(0, 0); n];
        for id in graph.ids().rev().filter(|id| live[id.index()]) {
            let i = id.index();
            let operands = graph.operands(id);
            // a mask between a rotation and a sum belongs to the sum
            let masked = matches!(graph.op(id), SlotsOp::Mul) && !operands.iter().all(secret);
            for o in &operands {
                below[o.index()] = below[o.index()].max(below[i] + own[i]);
                if masked && summed[i] {
                    summed[o.index()] = true;
                }
            }
            if let (SlotsOp::Rotate(_), [of]) = (graph.op(id), operands.as_slice()) {
                let (all, fused) = &mut rotations[of.index()];
                *all += 1;
                *fused += usize::from(summed[i]);
            }
        }
        Estimator {
            circuit,
            depth: depth.iter().copied().max().unwrap_or(0),
            levels: levels.iter().copied().max().unwrap_or(0),
            graph,
            live,
            own,
            below,
            switches,
            rotations,
        }
    }

    fn estimate(&self, model: &CostModel) -> Estimate {
        let (log_n, special) = ring_for(self.levels, self.switches > 0);
        let slots = self.circuit.meta.slots.max(1).next_power_of_two();
        let log_n = LogN(log_n.0.max(slots.trailing_zeros() as u8 + 1));
        let ring = model.ring(log_n);
        let vector = 16.0 * log_n.degree() as f64;
        let mut bytes = 0.0;
        let (mut work, mut inputs) = (0.0, 0);
        let mut path = vec![0.0f64; self.graph.len()];
        let mut longest = 0.0f64;
        for id in self.graph.ids().filter(|id| self.live[id.index()]) {
            let i = id.index();
            let operands = self.graph.operands(id);
            let after = self.below[i] as usize + 1;
            // products are formed before the rescale
            let at = after + self.own[i] as usize;
            let switch = Switch {
                limbs: at,
                special,
                digit_limbs: special,
            };
            let plain = |o: &NodeId| *self.graph.ty(*o) != SlotsType::Cipher;
            let mut own = match self.graph.op(id) {
                SlotsOp::Input(_) => {
                    inputs += 1;
                    bytes += vector * after as f64;
                    ring.encode(after, slots) + ring.encrypt.at(after)
                }
                SlotsOp::Plain(_) => 0.0,
                SlotsOp::Add | SlotsOp::Sub if operands.iter().any(plain) => {
                    ring.encode(after, slots) + 0.5 * ring.add.at(after)
                }
                SlotsOp::Add | SlotsOp::Sub => ring.add.at(after),
                SlotsOp::Neg | SlotsOp::TimesI => ring.scale.at(after),
                SlotsOp::Mul if operands.iter().any(plain) => {
                    ring.encode(at, slots) + ring.mul_plain.at(at) + ring.rescale.at(at)
                }
                SlotsOp::Mul => ring.mul.at(at) + ring.relinearize_rescale(switch),
                SlotsOp::Square => ring.square.at(at) + ring.relinearize_rescale(switch),
                SlotsOp::LinComb(c) => {
                    let rescale = if self.own[i] > 0 {
                        ring.rescale.at(at)
                    } else {
                        0.0
                    };
                    ring.combinations(at, c.len(), 1) + rescale
                }
                SlotsOp::Conjugate => ring.key_switch(switch),
                SlotsOp::Rotate(_) => 0.0,
            };
            if let (SlotsOp::Rotate(_), [of]) = (self.graph.op(id), operands.as_slice()) {
                let (all, fused) = self.rotations[of.index()];
                let downs = all - fused + usize::from(fused > 0);
                let parts = switch.parts(all, fused, downs, false);
                own = ring.switch(parts) / all.max(1) as f64;
            }
            work += own;
            for o in &operands {
                path[i] = path[i].max(path[o.index()]);
            }
            path[i] += own;
            longest = longest.max(path[i]);
        }
        for (id, _) in &self.circuit.outputs {
            bytes += vector * (self.below[id.index()] + 1) as f64;
        }
        let threads = model.threads.max(1) as usize;
        let shared = work * ring.crowd / threads as f64;
        Estimate {
            depth: self.depth,
            levels: self.levels,
            key_switches: self.switches,
            inputs,
            work,
            time: ring.spread_over(longest, threads).max(shared),
            bytes,
        }
    }
}
