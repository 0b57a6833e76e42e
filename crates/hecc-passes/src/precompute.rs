//! `@precompute` from the optimised program to the layout: how much is sent is known only there.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::measure;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Precompute, Tensor};

use crate::compile::{CompileOptions, ReportedSent, blame, layout_options, refusal};
use crate::layout::{self, LayoutOptions};
use crate::pipeline::{self, CompileError};
use crate::scale;
use crate::tensor::build::Simplify;
use crate::tensor::check::Reference;
use crate::tensor::cost;
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
    let (plain, reports) =
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
    let least = reports.iter().map(|r| r.work.1).fold(f64::MAX, f64::min);
    let limit = options.passes.growth() * least;
    let bounded = LayoutOptions {
        max_inputs: Some(most),
        ..layout.clone()
    };
    let mut best = (layout::judged(&without, &layout), without, None);
    for _ in 0..TRIES {
        let chosen = choose(flat, budget, limit, options.passes.key());
        if chosen.is_empty() {
            break;
        }
        let parts = split(flat, &chosen);
        let server = simplify(&parts.server, Simplify::All);
        if best.2.is_some() && cost::cost(&server).work > limit {
            break;
        }
        let slots = layout::lower(&server, &bounded).map_err(|d| vec![d])?;
        // the next time fewer
        budget = ciphertexts(&server).min(budget).saturating_sub(1);
        let found = layout::judged(&slots, &layout);
        if slots.inputs.len() <= most && found.better(&best.0, layout.objective) {
            best = (found, slots, Some(parts));
        }
    }
    let (_, mut slots, parts) = best;
    if let Some(parts) = parts {
        if options.passes.verify {
            Reference::new(module)
                .compare_split(&parts.client, &parts.server)
                .map_err(|why| {
                    let pass = "precompute";
                    vec![refusal(CompileError::Pass { pass, why }, span)]
                })?;
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
    }
    Ok((slots, sent))
}
