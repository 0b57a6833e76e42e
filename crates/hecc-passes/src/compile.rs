//! The whole way: a checked program in, a circuit with parameters and a report out.

use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::degree;
use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Dialect, Module};
use hecc_ir::interp::EvalError;
use hecc_ir::measure::{self, Measures, OpCounts};
use hecc_ir::program::Program;
use hecc_ir::slots::Slots;
use hecc_ir::span::{SourceMap, Span};
use hecc_ir::tensor::{Budget, CkksOverrides, Tensor};
use hecc_ir::verify;
use hecc_params::{CostModel, Parameters};
use serde::Serialize;

use crate::candidates::{self, Candidate};
use crate::layout::LayoutOptions;
use crate::pipeline::{self, CompileError, Objective, PassReport};
use crate::scale::{self, ScaleOptions};

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The tensor passes, `-O` among them.
    pub passes: pipeline::Options,
    /// The layout.
    pub layout: LayoutOptions,
    /// Bits of precision that parameter selection aims at without `@precision`, relative to the
    /// declared range of the results where that is larger than \[-1, 1\].
    pub target_bits: f64,
    /// Whether the measures at -O 0 are wanted, too.
    pub unoptimized: bool,
    /// Parameters that go before what `@ckks(…)` says.
    pub overrides: CkksOverrides,
    /// With `@precompute`: most growth of the count of encrypted inputs, where the attribute allows more.
    pub precompute: Option<f64>,
    /// The times that layouts and parameters are chosen by. Whoever is to get the same circuit
    /// gives the same.
    pub cost: CostModel,
    /// What circuits with parameters are compared by where time or work is minimised. Whoever is to
    /// get the same circuit gives the same.
    pub timing: Timing,
}

/// Predicts encryption and evaluation of a circuit: on one thread, and on those of the model's machine,
/// in one unit.
pub type Timing = fn(&Circuit<Ckks>, &Parameters, &CostModel) -> (f64, f64);

impl Default for CompileOptions {
    fn default() -> Self {
        CompileOptions {
            passes: pipeline::Options::default(),
            layout: LayoutOptions::default(),
            target_bits: ScaleOptions::default().target_bits,
            unoptimized: true,
            overrides: CkksOverrides::default(),
            precompute: None,
            cost: CostModel::default(),
            timing: scale::times,
        }
    }
}

/// What [`compile`] yields.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What can be run; `None` when no secure parameters exist: `diagnostics` say why.
    pub program: Option<Program>,
    /// The lowered circuit, on an ideal chain when there is no program.
    pub circuit: Circuit<Ckks>,
    /// What the author wants to know.
    pub report: Report,
    /// Warnings, and the error when there is no program.
    pub diagnostics: Vec<Diagnostic>,
}

/// A program between two stages, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// After a tensor pass.
    Tensor(&'a Module<Tensor>),
    /// After the layout.
    Slots(&'a Circuit<Slots>),
    /// After scale management.
    Ckks(&'a Circuit<Ckks>),
}

/// What is known of a compiled circuit; its JSON form is part of the language reference.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The circuit's name.
    pub circuit: String,
    /// The measures.
    #[serde(flatten)]
    pub measures: ReportedMeasures,
    /// `ceil(log2(degree))`: no rewriting needs less depth.
    pub depth_lower_bound: u64,
    /// Whether the degree is attained for certain, not a bound alone.
    pub degree_certified: bool,
    /// Whether the depth is the lower bound, and that is certain.
    pub optimal: bool,
    /// What was minimised first.
    pub objective: Objective,
    /// Estimated work of the tensor passes' result over that before what may grow it.
    pub work_growth: ReportedGrowth,
    /// The measures at -O 0; absent when they were not asked for.
    pub unoptimized: Option<ReportedMeasures>,
    /// The parameters; absent when none that are secure have room.
    pub params: Option<ReportedParams>,
    /// What the evaluator needs beside the circuit.
    pub keys: ReportedKeys,
    /// What the client sends.
    pub encrypted_inputs: ReportedInputs,
    /// What the client computes before encryption, with `@precompute`; absent without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precompute: Option<ReportedPrecompute>,
    /// −log2 of the bound on the largest absolute error; absent without parameters.
    pub precision_bits: Option<f64>,
    /// The passes in order.
    pub passes: Vec<ReportedPass>,
    /// A deepest path from an input to an output.
    pub critical_path: Vec<ReportedStep>,
    /// The circuit's `@budget`, held against the measures.
    pub budget: Vec<ReportedBudget>,
    /// Parameters of the circuit whose range is taken to be \[-1, 1\], for none is declared.
    pub assumed_ranges: Vec<String>,
    /// Approximations and the errors they attain, and the like.
    pub notes: Vec<String>,
    /// Texts of all warnings.
    pub warnings: Vec<String>,
}

/// The measures, as the language reference names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedMeasures {
    /// Most secret × secret multiplications on a path.
    pub depth: u64,
    /// Most rescalings on a path.
    pub levels: u64,
    /// Most operations in one layer.
    pub width: u64,
    /// Most multiplications of one depth.
    pub mult_width: u64,
    /// Formal total degree of the outputs in the secret inputs, at most.
    pub degree: u64,
    /// Operations by kind.
    pub ops: OpCounts,
}

/// Parameters, as the report shows them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReportedParams {
    /// N.
    pub ring_degree: u64,
    /// Slots that the circuit uses; the ring has N/2.
    pub slots: u64,
    /// Whether each slot is complex and carries two instances of a batch.
    pub complex: bool,
    /// log2 of the modulus chain.
    pub log_q: f64,
    /// log2 of all primes, special ones included: what security counts.
    pub log_qp: f64,
    /// log2 of the scale.
    pub scale_bits: u32,
    /// 128, 192, 256, or 0.
    pub security_bits: u32,
    /// Limbs of the modulus chain.
    pub limbs: u32,
    /// Special primes.
    pub special_primes: u32,
}

/// How much larger the optimizer made the program, as the report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReportedGrowth {
    /// Estimated work after all passes over that after those that never grow it.
    pub ratio: f64,
    /// Most that the optimization level allows.
    pub limit: f64,
}

/// Evaluation keys, as the report shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedKeys {
    /// The rotation steps, ascending; one key each.
    pub rotations: Vec<u32>,
    /// Whether a relinearization key is needed.
    pub relinearization: bool,
    /// Whether a conjugation key is needed.
    pub conjugation: bool,
}

/// Encrypted inputs, as the report shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedInputs {
    /// Ciphertexts.
    pub count: u64,
    /// Their bytes as they are sent, public-key encryption; 0 without parameters.
    pub bytes: u64,
}

/// What `@precompute` brought, as the report shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportedPrecompute {
    /// What the client computes from its inputs and sends beside them.
    pub sent: Vec<ReportedSent>,
    /// Ciphertexts that the client would send without.
    pub inputs_without: u64,
    /// Levels that the circuit would have more without.
    pub levels_saved: u64,
}

/// A value that the client computes and sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportedSent {
    /// About as the language would write it.
    pub value: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its elements lie.
    pub range: (f64, f64),
}

/// A pass, as the report shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportedPass {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds. Not in the JSON form, which is the same on every run.
    #[serde(skip)]
    pub milliseconds: f64,
    /// Nodes before and after.
    pub nodes: (usize, usize),
    /// Estimated depth before and after.
    pub depth: (u32, u32),
    /// Estimated levels before and after.
    pub levels: (u32, u32),
    /// Estimated work before and after, in additions of two ciphertexts.
    pub work: (f64, f64),
    /// Whether its result was taken.
    pub kept: bool,
}

/// A step of the critical path, as the report shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedStep {
    /// The operation.
    pub op: String,
    /// `file:line:column`.
    pub at: String,
    /// The source line.
    pub source: String,
    /// Multiplications up to here.
    pub depth: u64,
    /// Rescalings up to here.
    pub levels: u64,
    /// How many steps of the same operation in the same place follow one another.
    pub times: u64,
}

/// A bound of `@budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedBudget {
    /// The measure.
    pub measure: &'static str,
    /// At most this.
    pub limit: u64,
    /// It is this.
    pub value: u64,
    /// Whether the bound holds.
    pub holds: bool,
}

/// Holds measures against a budget, in the order in which the language lists them.
pub fn hold_budget(budget: &Budget, m: &ReportedMeasures) -> Vec<ReportedBudget> {
    [
        ("depth", budget.depth, m.depth),
        ("levels", budget.levels, m.levels),
        ("width", budget.width, m.width),
        ("mult_width", budget.mult_width, m.mult_width),
        ("muls", budget.muls, m.ops.mul + m.ops.square),
        ("rotations", budget.rotations, m.ops.rotate),
    ]
    .into_iter()
    .filter_map(|(measure, limit, value)| {
        limit.map(|limit| ReportedBudget {
            measure,
            limit,
            value,
            holds: value <= limit,
        })
    })
    .collect()
}

/// Compiles the entry of a module.
///
/// # Errors
/// Diagnostics of whatever stage refuses the program. Codes E9… are mistakes of hecc itself.
pub fn compile(
    module: &Module<Tensor>,
    sources: &SourceMap,
    options: &CompileOptions,
) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(module, sources, options, None)
}

/// The same; `observer` sees the program after each pass, with the pass's name.
///
/// # Errors
/// As [`compile`].
pub fn compile_observed(
    module: &Module<Tensor>,
    sources: &SourceMap,
    options: &CompileOptions,
    observer: &mut dyn FnMut(&str, Stage<'_>),
) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(module, sources, options, Some(observer))
}

/// Whoever sees the program after each pass.
type Observer<'a> = &'a mut dyn FnMut(&str, Stage<'_>);

fn compile_with(
    module: &Module<Tensor>,
    sources: &SourceMap,
    options: &CompileOptions,
    mut observer: Option<Observer<'_>>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut options = options.clone();
    options.passes.prices = pipeline::Prices::of(&options.cost);
    let options = &options;
    let source = module.entry();
    let span = source.meta.span;
    let declared = source.meta.ckks;
    let overrides = CkksOverrides {
        scale_bits: options.overrides.scale_bits.or(declared.scale_bits),
        security: options.overrides.security.or(declared.security),
        ring: options.overrides.ring.or(declared.ring),
    };
    let scale_options = ScaleOptions {
        overrides,
        target_bits: source
            .meta
            .precision
            .unwrap_or_else(|| options.target_bits - declared_size(source).log2()),
        asked: source.meta.precision.is_some(),
        points: Vec::new(),
        span,
        objective: options.passes.objective,
        cost: options.cost.clone(),
    };
    let (chosen, written) = candidates::best(module, options, &scale_options)?;
    let Candidate {
        form,
        slots,
        sent,
        scaled,
        ..
    } = chosen;
    let watched = observer.is_some();
    let mut observer = |name: &str, stage: Stage<'_>| {
        if let Some(observer) = &mut observer {
            observer(name, stage);
        }
    };
    // Forms are made in silence: what was chosen is shown and checked.
    if watched || options.passes.verify {
        let passes = pipeline::Options {
            verify: options.passes.verify,
            ..form.options
        };
        pipeline::optimize(
            module,
            &passes,
            Some(&mut |name: &str, m: &Module<Tensor>| observer(name, Stage::Tensor(m))),
        )
        .map_err(|e| vec![refusal(e, span)])?;
    }
    observer("layout", Stage::Slots(&slots));
    if options.passes.verify {
        blame("layout", &verify::verify_slots(&slots), span)?;
    }
    let mut diagnostics = Vec::new();
    let (circuit, chosen) = match scaled {
        Ok(scaled) => {
            diagnostics.extend(scaled.warnings);
            let facts = (scaled.parameters, scaled.precision_bits, scaled.scale_bits);
            (scaled.circuit, Some(facts))
        }
        // The circuit is sound, and no parameters have room for it: its measures are still of use.
        // Parameters that the program itself asks for have to fit.
        Err(d) if d.code == scale::NO_ROOM && overrides == CkksOverrides::default() => {
            diagnostics.push(d);
            (scale::lower_ideal(&slots), None)
        }
        Err(d) => return Err(vec![d]),
    };
    observer("scale", Stage::Ckks(&circuit));
    if options.passes.verify {
        let parameters = chosen.as_ref().map(|c| &c.0);
        blame("scale", &verify::verify_ckks(&circuit, parameters), span)?;
    }

    // Of the optimised program, which has no loops left: the same polynomial in fewer steps.
    let (passes, reports) = (form.options, form.reports);
    let flat = Module::single(form.flat);
    let degree = degree::degree(&flat).map_err(|e| vec![undefined(&e, span)])?;
    let measured = measure::measure(&circuit);
    let measures = reported(&measured, degree.degree);
    let unoptimized = if !options.unoptimized {
        None
    } else if options.passes.opt_level == 0 {
        Some(measures)
    } else {
        written.map(|m| reported(&m, degree.degree))
    };
    let report = Report {
        circuit: source.name.clone(),
        measures,
        depth_lower_bound: degree.depth_lower_bound,
        degree_certified: degree.certified,
        optimal: degree.certified && measured.depth == degree.depth_lower_bound,
        objective: options.passes.objective,
        work_growth: growth(passes.opt_level, options.passes.growth(), &reports),
        unoptimized,
        params: chosen.as_ref().map(|(p, _, scale_bits)| ReportedParams {
            ring_degree: p.log_n().degree() as u64,
            slots: circuit.meta.slots as u64,
            complex: circuit.meta.complex,
            log_q: p.log_q(p.max_level()),
            log_qp: p.log_qp(),
            scale_bits: *scale_bits,
            security_bits: p.security_bits(),
            limbs: p.q().len() as u32,
            special_primes: p.p().len() as u32,
        }),
        keys: ReportedKeys {
            rotations: measured.rotations.clone(),
            relinearization: measured.ops.relinearize > 0,
            conjugation: measured.ops.conjugate > 0,
        },
        encrypted_inputs: ReportedInputs {
            count: circuit.inputs.len() as u64,
            bytes: chosen.as_ref().map_or(0, |(p, ..)| {
                let inputs = circuit.inputs.iter();
                inputs.map(|i| 2 * p.polynomial_bytes(i.level)).sum()
            }),
        },
        precompute: sent.map(|sent| ReportedPrecompute {
            levels_saved: sent.levels.saturating_sub(measures.levels),
            inputs_without: sent.inputs,
            sent: sent.params,
        }),
        precision_bits: chosen.as_ref().map(|c| c.1),
        passes: reports.iter().map(reported_pass).collect(),
        critical_path: critical_path(&circuit, &measured, sources),
        budget: source
            .meta
            .budget
            .as_ref()
            .map(|(b, _)| hold_budget(b, &measures))
            .unwrap_or_default(),
        assumed_ranges: source
            .inputs
            .iter()
            .filter(|p| p.range.is_none())
            .map(|p| p.name.clone())
            .collect(),
        notes: source
            .meta
            .notes
            .iter()
            .map(|(at, text)| format!("{}: {text}", sources.locate(*at)))
            .collect(),
        warnings: diagnostics.iter().map(|d| d.message.clone()).collect(),
    };
    let program = chosen.map(|(parameters, precision_bits, _)| Program {
        name: source.name.clone(),
        params: source.inputs.clone(),
        reference: module.clone(),
        circuit: circuit.clone(),
        parameters,
        precision_bits,
    });
    Ok(Compiled {
        program,
        circuit,
        report,
        diagnostics,
    })
}

/// The layout's options: its objective and its times are those of the compilation.
pub(crate) fn layout_options(options: &CompileOptions) -> LayoutOptions {
    LayoutOptions {
        objective: options.passes.objective,
        cost: options.cost.clone(),
        ..options.layout.clone()
    }
}

/// The least magnitude that all results are declared to have, 1 at least: precision is relative to it.
fn declared_size(source: &Circuit<Tensor>) -> f64 {
    source
        .outputs
        .iter()
        .map(|(_, o)| o.range.map_or(1.0, |r| r.magnitude()))
        .reduce(f64::min)
        .map_or(1.0, |size| size.max(1.0))
}

pub(crate) fn refusal(e: CompileError, span: Span) -> Diagnostic {
    match e {
        CompileError::Program(d) => *d,
        CompileError::Pass { .. } => Diagnostic::error(
            "E9001",
            span,
            e.to_string(),
            "hecc is at fault, not the program",
        )
        .with_help("compile at -O 0, and report this program"),
    }
}

fn undefined(e: &EvalError, span: Span) -> Diagnostic {
    Diagnostic::error(
        "E3006",
        e.span().unwrap_or(span),
        format!("the program has no value: {e}"),
        "here",
    )
}

pub(crate) fn blame(
    stage: &str,
    violations: &[verify::Violation],
    span: Span,
) -> Result<(), Vec<Diagnostic>> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(violations
        .iter()
        .map(|v| {
            let at = if v.span == Span::default() {
                span
            } else {
                v.span
            };
            Diagnostic::error(
                "E9002",
                at,
                format!("{stage} built a circuit that breaks a law: {v}"),
                "hecc is at fault, not the program",
            )
        })
        .collect())
}

fn reported(m: &Measures, degree: u64) -> ReportedMeasures {
    ReportedMeasures {
        depth: m.depth,
        levels: m.levels,
        width: m.width,
        mult_width: m.mult_width,
        degree,
        ops: m.ops,
    }
}

fn growth(opt_level: u8, limit: f64, passes: &[PassReport]) -> ReportedGrowth {
    let base = pipeline::base_work(opt_level, passes);
    let now = passes.last().map(|p| p.work.1);
    ReportedGrowth {
        ratio: match (base, now) {
            (Some(base), Some(now)) if base > 0.0 => now / base,
            _ => 1.0,
        },
        limit,
    }
}

fn reported_pass(p: &PassReport) -> ReportedPass {
    ReportedPass {
        name: p.name.to_owned(),
        milliseconds: p.time.as_secs_f64() * 1e3,
        nodes: p.nodes,
        depth: p.depth,
        levels: p.levels,
        work: p.work,
        kept: p.kept,
    }
}

fn critical_path(
    circuit: &Circuit<Ckks>,
    measured: &Measures,
    sources: &SourceMap,
) -> Vec<ReportedStep> {
    let mut out: Vec<ReportedStep> = Vec::new();
    for step in &measured.critical_path {
        let op = circuit.graph.op(step.node);
        if matches!(op, CkksOp::DropLevel(_)) {
            continue;
        }
        let op = Ckks::mnemonic(op).to_owned();
        let at = sources.locate(step.span);
        if let Some(last) = out.last_mut()
            && last.op == op
            && last.at == at
        {
            last.times += 1;
            last.depth = step.depth;
            last.levels = step.levels;
            continue;
        }
        let source = sources.file(step.span.file).map_or_else(String::new, |f| {
            f.line(f.line_column(step.span.start).line)
                .trim()
                .to_owned()
        });
        out.push(ReportedStep {
            op,
            at,
            source,
            depth: step.depth,
            levels: step.levels,
            times: 1,
        });
    }
    out
}
