//! Which evaluation keys a circuit needs: these, and no more.

use hecc_ckks::EvaluationKeyRequest;
use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::graph::Circuit;
use hecc_params::{GaloisElement, LogN, RotationStep};

/// The keys for every relinearization, rotation and conjugation that a result depends on, each up to the
/// highest level at which it is used.
pub fn evaluation_keys_needed(circuit: &Circuit<Ckks>, log_n: LogN) -> EvaluationKeyRequest {
    let mut request = EvaluationKeyRequest::default();
    let live = circuit.live();
    for id in circuit.graph.ids().filter(|id| live[id.index()]) {
        let level = circuit.graph.ty(id).level();
        match circuit.graph.op(id) {
            CkksOp::Relinearize => request.relinearize_at(level),
            CkksOp::Rotate(step) => {
                let step = canonical_step(*step, circuit.meta.slots);
                request.apply_at(GaloisElement::rotation(step, log_n), level);
            }
            CkksOp::Conjugate => request.apply_at(GaloisElement::conjugation(log_n), level),
            CkksOp::Input(_)
            | CkksOp::Encode { .. }
            | CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::Mul
            | CkksOp::Square
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::LinComb { .. }
            | CkksOp::TimesI
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => {}
        }
    }
    request
}

/// The same rotation as a step from 0 to S − 1: rotations that differ by a multiple of S share a key.
pub(crate) fn canonical_step(step: RotationStep, slots: usize) -> RotationStep {
    RotationStep(step.0.rem_euclid(slots.max(1) as i32))
}
