//! What a program can be compiled to, and which of it is taken.
//!
//! The objective does not decide what is looked at: every form of the program that some objective
//! leads the tensor passes to, the program as it is written, every layout that is best by some
//! objective and every choice of parameters are made whatever is minimised, and the objective selects
//! among the finished circuits by what it stands for: depth and levels as measured, time and work as
//! predicted, bytes as sent. So no objective does better than another by the other's measure. Levels
//! and depth have a price: a circuit that takes [`WORTH`] times the work of the cheapest is not taken,
//! nor one that is not precise enough where another is.
//!
//! Cost: a few compilations instead of one; large programs ([`FORMS_MAX`], [`COMPARED_MAX`]) have
//! fewer forms.

use std::panic::resume_unwind;
use std::thread;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::measure::{self, Measures};
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Precompute, Tensor};

use crate::compile::{CompileOptions, layout_options, refusal};
use crate::layout::{self, Estimate, Packing};
use crate::pipeline::{self, Objective, PassReport};
use crate::precompute::{self, Sent};
use crate::scale::{self, ScaleOptions, Scaled};

/// Programs of more operations have the forms of the given objective only.
const FORMS_MAX: usize = 1 << 11;

/// Programs of more operations are lowered in one form only.
const COMPARED_MAX: usize = 1 << 14;

/// How many times the least work a circuit may take for fewer levels or less depth.
const WORTH: f64 = 8.0;

/// Bits that a circuit may be less precise than the most precise one where none is as it should be.
const IMPRECISE: f64 = 1.0;

/// Bytes of stack of the second thread: as many as a main thread usually has.
const STACK: usize = 8 << 20;

/// The program after the tensor passes.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) flat: Circuit<Tensor>,
    /// What the passes were told.
    pub(crate) options: pipeline::Options,
    pub(crate) reports: Vec<PassReport>,
}

/// One way to compile a program.
pub(crate) struct Candidate {
    pub(crate) form: Form,
    pub(crate) slots: Circuit<Slots>,
    /// What the client computes, with `@precompute`.
    pub(crate) sent: Option<Sent>,
    /// With parameters, or why there are none.
    pub(crate) scaled: Result<Scaled, Diagnostic>,
    estimate: Estimate,
}

/// The best of all candidates by the objective, and the measures of the program as it is written where
/// they are asked for and it can be lowered so.
///
/// # Errors
/// Diagnostics of the passes and of the layout.
pub(crate) fn best(
    module: &Module<Tensor>,
    options: &CompileOptions,
    scaling: &ScaleOptions,
) -> Result<(Candidate, Option<Measures>), Vec<Diagnostic>> {
    let span = module.entry().meta.span;
    let form = |passes: pipeline::Options| {
        pipeline::optimize(module, &passes, None)
            .map(|(flat, reports)| Form {
                flat,
                options: passes,
                reports,
            })
            .map_err(|e| vec![refusal(e, span)])
    };
    let own = pipeline::Options {
        verify: false,
        ..options.passes
    };
    let plain = pipeline::Options {
        opt_level: 0,
        ..own
    };
    let first = form(own)?;
    let nodes = first.flat.graph.len();
    let compared = nodes <= COMPARED_MAX && own.opt_level > 0;
    let laid_out = |forms: Vec<Form>| lay_out(module, forms, options);
    let (all, written) = thread::scope(|scope| {
        // The program as it is written, beside the others. Parameters are chosen later: trials share
        // threads with whoever may wait here.
        let as_written = || {
            if own.opt_level == 0 || !(compared || options.unoptimized) {
                return None;
            }
            let mut plain = form(plain).ok()?;
            plain.flat.meta.precompute = None;
            if compared {
                return laid_out(vec![plain]).ok().map(Written::LaidOut);
            }
            let slots = layout::lower(&plain.flat, &layout_options(options)).ok()?;
            let measures = measure::measure(&scale::lower_ideal(&slots));
            Some(Written::Measured(measures))
        };
        let beside = thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, as_written);
        let mut forms = vec![first];
        let objectives: &[Objective] = if nodes <= FORMS_MAX {
            &Objective::ALL
        } else {
            &[own.objective]
        };
        // With `@precompute` each form is laid out many times: one has to do.
        if compared && forms[0].flat.meta.precompute.is_none() {
            for (objective, shallow) in objectives.iter().flat_map(|o| [(*o, true), (*o, false)]) {
                let made = form(pipeline::Options {
                    objective,
                    shallow,
                    ..own
                })?;
                if forms.iter().all(|f| f.flat != made.flat) {
                    forms.push(made);
                }
            }
        }
        let all = scale_all(laid_out(forms)?, options, scaling);
        let written = match beside {
            Ok(thread) => thread.join().unwrap_or_else(|e| resume_unwind(e)),
            Err(_) => as_written(),
        };
        Ok::<_, Vec<Diagnostic>>((all, written))
    })?;
    let mut all = all;
    let mut measures = None;
    match written {
        Some(Written::LaidOut(written)) => {
            let written = scale_all(written, options, scaling);
            measures = select(&written, options, scaling).map(|at| written[at].measures());
            // as many forms of the same circuit are one
            for candidate in written {
                if all.iter().all(|c| c.slots != candidate.slots) {
                    all.push(candidate);
                }
            }
        }
        Some(Written::Measured(m)) => measures = Some(m),
        None => {}
    }
    let at = select(&all, options, scaling).unwrap_or(0);
    Ok((all.swap_remove(at), measures))
}

enum Written {
    LaidOut(Vec<LaidOut>),
    Measured(Measures),
}

/// A form in a layout.
struct LaidOut {
    form: Form,
    slots: Circuit<Slots>,
    sent: Option<Sent>,
}

/// The given objective first: of equals the first is taken.
fn objectives(options: &CompileOptions) -> Vec<Objective> {
    let own = options.passes.objective;
    let mut objectives = vec![own];
    objectives.extend(Objective::ALL.iter().filter(|o| **o != own));
    objectives
}

/// Every layout of every form; at least one.
fn lay_out(
    module: &Module<Tensor>,
    forms: Vec<Form>,
    options: &CompileOptions,
) -> Result<Vec<LaidOut>, Vec<Diagnostic>> {
    let objectives = objectives(options);
    let mut out: Vec<LaidOut> = Vec::new();
    for form in forms {
        let layouts: Vec<(Circuit<Slots>, Option<Sent>)> = match form.flat.meta.precompute {
            None => layout::lower_for(&form.flat, &layout_options(options), &objectives)
                .map_err(|d| vec![d])?
                .into_iter()
                .map(|slots| (slots, None))
                .collect(),
            Some(allowed) => precompute::lower_for(
                module,
                &form.flat,
                Precompute {
                    inputs: options
                        .precompute
                        .map_or(allowed.inputs, |most| allowed.inputs.min(most)),
                    ..allowed
                },
                &form.options,
                options,
                &objectives,
            )?
            .into_iter()
            .map(|(slots, sent)| (slots, Some(sent)))
            .collect(),
        };
        for (slots, sent) in layouts {
            if out.iter().all(|l| l.slots != slots) {
                out.push(LaidOut {
                    form: form.clone(),
                    slots,
                    sent,
                });
            }
        }
    }
    Ok(out)
}

/// Each of them with every choice of parameters.
fn scale_all(
    layouts: Vec<LaidOut>,
    options: &CompileOptions,
    scaling: &ScaleOptions,
) -> Vec<Candidate> {
    let objectives = objectives(options);
    let mut out = Vec::new();
    for LaidOut { form, slots, sent } in layouts {
        let scaling = ScaleOptions {
            points: scale::points(&form.flat),
            ..scaling.clone()
        };
        for (slots, scaled) in pack_instances(&slots, options.layout.packing, &scaling, &objectives)
        {
            let estimate = judged(&slots, &scaled, options);
            out.push(Candidate {
                form: form.clone(),
                slots,
                sent: sent.clone(),
                scaled,
                estimate,
            });
        }
    }
    out
}

/// A circuit with one instance of its batch in a slot, and with two where that may be better, each with
/// every choice of parameters.
fn pack_instances(
    slots: &Circuit<Slots>,
    packing: Packing,
    scaling: &ScaleOptions,
    objectives: &[Objective],
) -> Vec<(Circuit<Slots>, Result<Scaled, Diagnostic>)> {
    let pairs = match packing {
        Packing::Real => None,
        Packing::Auto | Packing::Complex => layout::complex(slots),
    };
    let scaled = |slots: &Circuit<Slots>| -> Vec<_> {
        scale::lower_for(slots, scaling, objectives)
            .into_iter()
            .map(|s| (slots.clone(), s))
            .collect()
    };
    let Some(pairs) = pairs else {
        return scaled(slots);
    };
    if packing == Packing::Complex {
        return scaled(&pairs);
    }
    let mut out = scaled(slots);
    // Where the ring has slots to spare, half as many make it no smaller.
    let tight = out.iter().any(|(slots, scaled)| match scaled {
        Ok(s) => s.parameters.log_n().slots() == slots.meta.slots,
        Err(_) => true,
    });
    if tight {
        out.extend(scaled(&pairs));
    }
    out
}

/// What a circuit is compared by: as it is with its parameters, or roughly where it has none.
fn judged(
    slots: &Circuit<Slots>,
    scaled: &Result<Scaled, Diagnostic>,
    options: &CompileOptions,
) -> Estimate {
    let Ok(scaled) = scaled else {
        return layout::judged(slots, &layout_options(options));
    };
    let measures = measure::measure(&scaled.circuit);
    let (work, time) = (options.timing)(&scaled.circuit, &scaled.parameters, &options.cost);
    let ops = &measures.ops;
    Estimate {
        depth: measures.depth as u32,
        levels: measures.levels as u32,
        key_switches: (ops.rotate + ops.relinearize + ops.conjugate) as usize,
        inputs: scaled.circuit.inputs.len(),
        work,
        time,
        bytes: scale::message_bytes(&scaled.circuit, &scaled.parameters),
    }
}

impl Candidate {
    fn measures(&self) -> Measures {
        match &self.scaled {
            Ok(scaled) => measure::measure(&scaled.circuit),
            Err(_) => measure::measure(&scale::lower_ideal(&self.slots)),
        }
    }
}

/// The best candidate; `None` of none. Which ones come into question does not depend on the objective.
fn select(
    candidates: &[Candidate],
    options: &CompileOptions,
    scaling: &ScaleOptions,
) -> Option<usize> {
    let objective = options.passes.objective;
    let bits = |c: &Candidate| {
        let bits = c.scaled.as_ref().map(|s| s.precision_bits);
        bits.unwrap_or(f64::NEG_INFINITY)
    };
    let most = candidates
        .iter()
        .map(bits)
        .fold(f64::NEG_INFINITY, f64::max);
    // without any parameters all are as precise
    let enough = scaling.target_bits.min(most - IMPRECISE);
    let precise = |c: &&Candidate| bits(c) >= enough;
    let work = candidates.iter().filter(precise).map(|c| c.estimate.work);
    let least = work.fold(f64::INFINITY, f64::min);
    let mut best: Option<(usize, &Candidate)> = None;
    for (i, candidate) in candidates.iter().enumerate() {
        if !precise(&candidate) || candidate.estimate.work > WORTH * least {
            continue;
        }
        let (found, growth) = (&candidate.estimate, options.passes.growth());
        // of equals the first stays
        let stays = best
            .is_some_and(|(_, b)| layout::program_better(&b.estimate, found, objective, growth));
        if !stays {
            best = Some((i, candidate));
        }
    }
    best.map(|(i, _)| i)
}
