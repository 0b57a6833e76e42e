//! `@precompute` from the optimised program to the layout: how much is sent is known only there.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::measure;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Precompute, Tensor};

use crate::compile::{CompileOptions, ReportedSent, blame, layout_options, refusal};
use crate::layout::{self, Estimate};
use crate::pipeline::{self, CompileError};
use crate::scale;
use crate::tensor::build::Simplify;
use crate::tensor::check::Reference;
use crate::tensor::precompute::{choose, ciphertexts, split};
use crate::tensor::simplify::simplify;

/// Most layouts that are tried until few enough ciphertexts are sent.
const TRIES: usize = 8;

/// What is sent beside the inputs, and what the circuit would be without.
pub(crate) struct Sent {
    pub(crate) params: Vec<ReportedSent>,
    /// Ciphertexts of inputs without.
    pub(crate) inputs: u64,
    /// Levels without.
    pub(crate) levels: u64,
}

/// Splits the optimised program and lowers the evaluator's part.
///
/// # Errors
/// As those of the layout; with checks on, when the two parts are not the program.
pub(crate) fn lower(
    module: &Module<Tensor>,
    flat: &Circuit<Tensor>,
    allowed: Precompute,
    options: &CompileOptions,
) -> Result<(Circuit<Slots>, Sent), Vec<Diagnostic>> {
    let span = module.entry().meta.span;
    let layout = layout_options(options);
    let mut alone = module.clone();
    for circuit in &mut alone.circuits {
        circuit.meta.precompute = None;
    }
    let (plain, _) =
        pipeline::optimize(&alone, &options.passes, None).map_err(|e| vec![refusal(e, span)])?;
    let without = layout::lower(&plain, &layout).map_err(|d| vec![d])?;
    let mut sent = Sent {
        params: Vec::new(),
        inputs: without.inputs.len() as u64,
        levels: measure::measure(&scale::lower_ideal(&without)).levels,
    };
    let growth = |n: usize| (n as f64 * allowed.inputs).floor() as usize;
    let most = growth(without.inputs.len());
    let mut budget = growth(ciphertexts(&plain)).max(most);
    for _ in 0..TRIES {
        let chosen = choose(flat, budget, options.passes.key());
        if chosen.is_empty() {
            break;
        }
        let parts = split(flat, &chosen);
        if options.passes.verify {
            Reference::new(module)
                .compare_split(&parts.client, &parts.server)
                .map_err(|why| {
                    let pass = "precompute";
                    vec![refusal(CompileError::Pass { pass, why }, span)]
                })?;
        }
        let server = simplify(&parts.server, Simplify::All);
        let mut slots = layout::lower(&server, &layout).map_err(|d| vec![d])?;
        let count = slots.inputs.len();
        if count > most {
            // As many fewer as there are too many, one at least.
            let now = ciphertexts(&server).min(budget);
            let Some(fewer) = now.checked_sub((count - most).div_ceil(2).max(1)) else {
                break;
            };
            budget = fewer;
            continue;
        }
        let estimate = |circuit| Estimate::of(circuit, &layout.cost);
        if !estimate(&slots).better(&estimate(&without), layout.objective) {
            break;
        }
        sent.params = parts
            .client
            .outputs
            .iter()
            .map(|(id, decl)| ReportedSent {
                value: decl.name.clone(),
                shape: parts.client.graph.ty(*id).shape().to_vec(),
                range: decl.range.map_or((-1.0, 1.0), |r| (r.lo, r.hi)),
            })
            .collect();
        slots.meta.client = Some(parts.client);
        if options.passes.verify {
            blame("precompute", &hecc_ir::verify::verify_slots(&slots), span)?;
        }
        return Ok((slots, sent));
    }
    Ok((without, sent))
}
