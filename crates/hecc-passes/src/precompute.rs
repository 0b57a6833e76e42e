//! `@precompute` from the optimised program to the layout: how much is sent is known only there.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::measure;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Precompute, Tensor};

use crate::compile::{CompileOptions, ReportedSent, blame, layout_options, refusal};
use crate::layout::{self, LayoutOptions};
use crate::pipeline::{self, CompileError, Objective};
use crate::scale;
use crate::tensor::build::Simplify;
use crate::tensor::check::Reference;
use crate::tensor::cost;
use crate::tensor::precompute::{choose, ciphertexts, split};
use crate::tensor::simplify::simplify;

/// Most layouts that are tried until few enough ciphertexts are sent.
const TRIES: usize = 8;

/// What is sent beside the inputs, and what the circuit would be without.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) params: Vec<ReportedSent>,
    /// Ciphertexts of inputs without.
    pub(crate) inputs: u64,
    /// Levels without.
    pub(crate) levels: u64,
}

/// Splits the optimised program and lowers the evaluator's part: the best by each of some objectives,
/// listed once. `passes` are those that made the program.
///
/// # Errors
/// As those of the layout; with checks on, when the two parts are not the program.
pub(crate) fn lower_for(
    module: &Module<Tensor>,
    flat: &Circuit<Tensor>,
    allowed: Precompute,
    passes: &pipeline::Options,
    options: &CompileOptions,
    objectives: &[Objective],
) -> Result<Vec<(Circuit<Slots>, Sent)>, Vec<Diagnostic>> {
    let span = module.entry().meta.span;
    let layout = layout_options(options);
    let mut alone = module.clone();
    for circuit in &mut alone.circuits {
        circuit.meta.precompute = None;
    }
    let (plain, reports) =
        pipeline::optimize(&alone, passes, None).map_err(|e| vec![refusal(e, span)])?;
    let usual = LayoutOptions {
        objective: Objective::default(),
        ..layout.clone()
    };
    // what is sent is held against the usual layout, whatever is minimised
    let without = layout::lower(&plain, &usual).map_err(|d| vec![d])?;
    let sent = Sent {
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
    let mut tried: Vec<(Circuit<Slots>, Option<usize>)> = vec![(without, None)];
    let first = layout::judged(&tried[0].0, &layout);
    let mut best = vec![(first, 0); objectives.len()];
    let mut offer = |slots: Circuit<Slots>, parts: Option<usize>| {
        let found = layout::judged(&slots, &layout);
        for (objective, best) in objectives.iter().zip(&mut best) {
            if found.better(&best.0, *objective) {
                *best = (found, tried.len());
            }
        }
        tried.push((slots, parts));
    };
    for slots in layout::lower_for(&plain, &layout, objectives).map_err(|d| vec![d])? {
        offer(slots, None);
    }
    let mut splits = Vec::new();
    for _ in 0..TRIES {
        let chosen = choose(flat, budget, limit, passes.key());
        if chosen.is_empty() {
            break;
        }
        let parts = split(flat, &chosen);
        let server = simplify(&parts.server, Simplify::All);
        if !splits.is_empty() && cost::cost(&server).work > limit {
            break;
        }
        let lowered = layout::lower_for(&server, &bounded, objectives).map_err(|d| vec![d])?;
        // the next time fewer
        budget = ciphertexts(&server).min(budget).saturating_sub(1);
        for slots in lowered {
            if slots.inputs.len() <= most {
                offer(slots, Some(splits.len()));
            }
        }
        splits.push(parts);
    }
    let mut taken: Vec<usize> = best.iter().map(|(_, at)| *at).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut out = Vec::new();
    for at in taken {
        let (slots, parts) = &tried[at];
        let (mut slots, mut sent) = (slots.clone(), sent.clone());
        if let Some(parts) = parts.and_then(|i| splits.get(i)) {
            if options.passes.verify {
                Reference::new(module)
                    .compare_split(&parts.client, &parts.server)
                    .map_err(|why| {
                        let pass = "precompute";
                        vec![refusal(CompileError::Pass { pass, why }, span)]
                    })?;
            }
            sent.params = reported(&parts.client);
            slots.meta.client = Some(parts.client.clone());
            if options.passes.verify {
                blame("precompute", &hecc_ir::verify::verify_slots(&slots), span)?;
            }
        }
        out.push((slots, sent));
    }
    Ok(out)
}

fn reported(client: &Circuit<Tensor>) -> Vec<ReportedSent> {
    client
        .outputs
        .iter()
        .map(|(id, decl)| ReportedSent {
            value: decl.name.clone(),
            shape: client.graph.ty(*id).shape().to_vec(),
            range: decl.range.map_or((-1.0, 1.0), |r| (r.lo, r.hi)),
        })
        .collect()
}
