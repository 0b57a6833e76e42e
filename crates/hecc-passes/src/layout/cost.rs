//! What a slot-vector circuit will cost, before levels and parameters are chosen.
//!
//! Units: one is a key switch at ring 8192 with one level. The work of a key switch grows with the
//! ring and with the square of the limbs; all else grows with the limbs. The weights are ratios of
//! operation counts (transforms and products of limbs), rough on purpose: they order layouts.

use hecc_ir::graph::Circuit;
use hecc_ir::slots::{Coefficient, Slots, SlotsOp, SlotsType};

use super::tidy::is_integer;

/// What to compare layouts by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Rescalings on the longest path.
    pub levels: u32,
    /// Rotations and products of ciphertexts.
    pub key_switches: usize,
    /// Encrypted inputs.
    pub inputs: usize,
    /// Predicted time of evaluation and of moving inputs, in units of the module.
    pub time: f64,
}

/// Most levels that 128-bit parameters of a ring allow, roughly, at 40 bits each.
const RINGS: [(usize, u32); 5] = [(4096, 1), (8192, 3), (16384, 8), (32768, 19), (65536, 40)];

/// Estimates a circuit.
pub fn estimate(circuit: &Circuit<Slots>) -> Estimate {
    reckon(circuit, None)
}

/// The same where the levels are known.
pub(super) fn with_levels(circuit: &Circuit<Slots>, levels: u32) -> Estimate {
    reckon(circuit, Some(levels))
}

fn reckon(circuit: &Circuit<Slots>, known_levels: Option<u32>) -> Estimate {
    let graph = &circuit.graph;
    let live = circuit.live();
    let mut levels = vec![0u32; graph.len()];
    let (mut switches, mut light, mut inputs) = (0usize, 0.0, 0usize);
    for id in graph.ids().filter(|id| live[id.index()]) {
        let operands = graph.operands(id);
        let deepest = operands
            .iter()
            .map(|o| levels[o.index()])
            .max()
            .unwrap_or(0);
        let own = match graph.op(id) {
            SlotsOp::Input(_) => {
                inputs += 1;
                0
            }
            SlotsOp::Plain(_) => 0,
            SlotsOp::Add | SlotsOp::Sub | SlotsOp::Neg => {
                light += 0.01;
                0
            }
            SlotsOp::Mul => {
                if operands.iter().all(|o| *graph.ty(*o) == SlotsType::Cipher) {
                    switches += 1;
                    light += 0.1;
                } else {
                    light += 0.06;
                }
                1
            }
            SlotsOp::Square => {
                switches += 1;
                light += 0.06;
                1
            }
            SlotsOp::LinComb(c) => {
                light += 0.015 * c.len() as f64;
                let free = |c: &Coefficient| is_integer(*c);
                u32::from(!c.iter().all(free))
            }
            SlotsOp::Rotate(_) => {
                switches += 1;
                0
            }
        };
        levels[id.index()] = deepest + own;
    }
    let depth = known_levels.unwrap_or_else(|| levels.iter().copied().max().unwrap_or(0));
    let by_levels = RINGS
        .iter()
        // the smallest ring has no room for the prime that switching keys takes
        .find(|(n, most)| depth <= *most && (*n > 4096 || switches == 0))
        .map_or(131_072, |(n, _)| *n);
    let ring = by_levels.max(2 * circuit.meta.slots) as f64 / 8192.0;
    let limbs = f64::from(depth + 1) / 2.0;
    let time = ring * (switches as f64 * limbs * limbs + (light + 0.3 * inputs as f64) * limbs);
    Estimate {
        levels: depth,
        key_switches: switches,
        inputs,
        time,
    }
}
