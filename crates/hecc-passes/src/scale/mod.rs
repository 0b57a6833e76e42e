//! Scale and level management: `Circuit<Slots>` → `Circuit<Ckks>` with checked parameters.
//!
//! Four steps, each in its file: ranges of all values ([`ranges`]); which values are rescaled and
//! which factor waits in a scale (`plan`); the fewest rescales (`retime`); levels, primes and operations (`emit`), and rescales moved
//! behind weighted sums (`sink`); parameters (`select`), with the precision that trials promise
//! (`estimate`, `trials`).
//!
//! Cost: linear in the circuit, and a number of clear evaluations that falls as the circuit grows.

mod cut;
mod emit;
mod estimate;
mod plan;
pub mod ranges;
mod retime;
mod select;
mod sink;
#[cfg(test)]
mod tests;
mod trials;

use hecc_ir::ckks::Ckks;
use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::Circuit;
use hecc_ir::slots::Slots;
use hecc_params::Parameters;

use crate::pipeline::Objective;

pub(crate) use select::message_bytes;
pub use select::{ScaleOptions, Scaled, check_headroom, times};
pub use trials::{Point, points};

/// The code of the error that no secure parameters have room for a circuit, which is otherwise sound.
pub const NO_ROOM: &str = "E3002";

/// Places levels, scales, rescales and relinearizations, and chooses parameters.
///
/// # Errors
/// `E3001` when a range is unbounded, `E3002` when no secure parameters have room, `E3003` when an
/// override cannot be had, `E3004` when primes run out, `E3005` when a value has no room.
pub fn lower(circuit: &Circuit<Slots>, options: &ScaleOptions) -> Result<Scaled, Diagnostic> {
    lower_for(circuit, options, &[options.objective]).swap_remove(0)
}

/// The same with what is chosen for each of some objectives; what is chosen for several is listed once.
pub(crate) fn lower_for(
    circuit: &Circuit<Slots>,
    options: &ScaleOptions,
    objectives: &[Objective],
) -> Vec<Result<Scaled, Diagnostic>> {
    let ranges = ranges::slots_ranges(circuit);
    if let Err(d) = ranges::check_slots_ranges(circuit, &ranges) {
        return vec![Err(d)];
    }
    let plan = plan::plan(circuit, &ranges);
    select::select(circuit, &plan, options, objectives)
}

/// The same without parameters, for measures alone: every prime is the same power of two, and
/// ranges are not checked. No circuit is too deep for it.
pub fn lower_ideal(circuit: &Circuit<Slots>) -> Circuit<Ckks> {
    let ranges = ranges::slots_ranges(circuit);
    let plan = plan::plan(circuit, &ranges);
    let chain = emit::Chain::ideal(select::USUAL_SCALE, plan.depth);
    sink::sink_rescales(emit::emit(circuit, &plan, &chain, 0).0)
}

/// For every node of a lowered circuit, an error that its slots stay below, as the noise formulas
/// have it with all operands taken as independent. Whoever looks for wrong operations allows a
/// margin above it.
pub fn error_bounds(circuit: &Circuit<Ckks>, parameters: &Parameters) -> Vec<f64> {
    estimate::error_bounds(
        circuit,
        &ranges::ckks_ranges(circuit),
        &estimate::Model {
            log_n: parameters.log_n(),
            q: parameters.q(),
            p: parameters.p(),
            digit_limbs: parameters.digit_limbs(),
        },
    )
}
