//! `hecc run`: everything in one process, compared with the plain result.

use std::sync::Arc;
use std::time::Instant;

use hecc_ckks::{Context, EvaluationKeys, PublicKey, Randomness, SecretKey};
use hecc_ir::diag::Diagnostic;
use hecc_ir::program::Program;
use hecc_ir::tensor::{Param, elements};
use hecc_passes::compile::{Report, ReportedMeasures};
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, ClearBackend, Divergence, EncryptWith, Execution, Fusion,
    LockstepBackend, LockstepValue, Plains, Prediction, Reference, RuntimeError, Schedule,
    Tensor64, Tolerance, Unpacked, Wanted, decrypt, encrypt, evaluation_keys_needed, execute,
    max_abs_error, pack, reference, resolve_plains, unpack,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use super::compile::parameters;
use crate::args::{Backend, Format, RunArgs};
use crate::classify::{Classification, classify, scores};
use crate::exit::{Failure, Outcome, Status};
use crate::output::join;
use crate::output::{self, Target};
use crate::progress::{Bar, Spinner, batch_label};
use crate::project::{self, Batches, Project, context, result_ranks};
use crate::values;

/// How many elements of a result the table shows.
const SHOWN: usize = 8;
/// What f64 itself has: the precision of a run without any error.
const MOST_BITS: f64 = 53.0;
/// By how much an error may exceed the noise estimate of its node in lockstep: errors of one source
/// that meet again add up, which the estimate leaves out; a wrong operation is off by far more.
const MARGIN: f64 = 64.0;
/// By how many bits the measured precision may fall short of the promised one: noise has a tail.
const TAIL_BITS: f64 = 1.0;
/// How many range faults are shown.
const MOST_FAULTS: usize = 10;

/// Milliseconds by phase.
#[derive(Clone, Copy, Debug, Default)]
struct Timings {
    compile: f64,
    keygen: f64,
    encrypt: f64,
    evaluate: f64,
    decrypt: f64,
}

/// What a back-end made of the inputs.
struct Computed {
    results: Vec<Unpacked>,
    timings: Timings,
    peak_ciphertexts: usize,
    lockstep: Option<Lockstep>,
}

/// What lockstep saw.
struct Lockstep {
    first: Option<Divergence>,
    compared: usize,
    worst: f64,
    /// As given; by the noise estimate of each node otherwise.
    tolerance: Option<f64>,
}

/// What was predicted once the program was compiled.
#[derive(Clone, Copy, Debug)]
struct Predicted {
    all: Prediction,
    /// Bytes of this process at most, what compiling took included.
    memory: u64,
}

/// All that is known at the end.
struct Summary<'a> {
    project: &'a Project,
    program: &'a Program,
    report: &'a Report,
    schedule: &'a Schedule,
    /// Of an encrypted run.
    predicted: Option<Predicted>,
    backend: Backend,
    instances: Option<usize>,
    batches: usize,
    labels: Option<Classification>,
    computed: &'a Computed,
    plain: &'a Reference,
    error: f64,
}

pub(crate) fn run(args: &RunArgs) -> Outcome {
    if args.tolerance.is_some() && args.backend != Backend::Lockstep {
        return Err(Failure::input(
            "--tolerance is for --backend lockstep: give both, or neither",
        ));
    }
    if let Some(t) = args.tolerance
        && !(t.is_finite() && t > 0.0)
    {
        return Err(Failure::input(format!(
            "--tolerance {t}: give a positive number, as in 1e-6"
        )));
    }
    let started = Instant::now();
    let project = Project::load(&args.file, args.format)?;
    let (program, report) = project.program(&args.choice)?;
    let program = &program;
    let compile = milliseconds(started);

    let mut generator = match args.seed {
        Some(seed) => StdRng::seed_from_u64(seed),
        None => rand::make_rng(),
    };
    let mut draw = |param: &Param| random_tensor(param, &mut generator);
    let random = args
        .random
        .then_some(&mut draw as &mut dyn FnMut(&Param) -> Tensor64);
    let batches = Batches::read(program, &args.input, Wanted::All, random)?;
    let instances = batches.instances;
    let labels = args.labels.as_deref().map(values::labels).transpose();
    let labels = labels.map_err(Failure::Input)?;
    if let Some(labels) = &labels {
        let results = program.circuit.meta.results.iter();
        let shapes = results.map(|r| (r.name.as_str(), &r.shape[..]));
        scores(shapes, instances, labels).map_err(Failure::Input)?;
    }
    let targets = output::targets(&args.output, &result_ranks(program, instances))?;

    let fusion = match args.backend {
        Backend::Ckks | Backend::Clear => Fusion::On,
        Backend::Lockstep => Fusion::Off,
    };
    let schedule = Schedule::new(&program.circuit, fusion);
    let predicted = match args.backend {
        Backend::Ckks => {
            let all = project::predicted(program, &schedule, &args.choice)?;
            let now = output::memory_now().unwrap_or(project::PROCESS_BYTES);
            let memory = (now + all.memory.total()).max(output::peak_memory().unwrap_or(0));
            Some(Predicted { all, memory })
        }
        Backend::Clear | Backend::Lockstep => None,
    };
    let mut party = match args.backend {
        Backend::Clear => None,
        Backend::Ckks | Backend::Lockstep => Some(Party::new(args, &project, program)?),
    };
    let mut whole: Option<(Computed, Reference)> = None;
    let count = batches.len();
    for number in 0..count {
        let bindings = &batches.get(number)?;
        let failed = |e: RuntimeError| project.failed(&e);
        let plain = reference(program, bindings).map_err(failed)?;
        let plains = resolve_plains(program, bindings).map_err(failed)?;
        let bar = Bar::new(batch_label("evaluating", number, count));
        let computed = match &mut party {
            None => clear(program, &plains, bindings, &schedule, &bar),
            Some(party) => party.compute(args, program, &plains, bindings, &schedule, &bar),
        }
        .map_err(failed)?;
        match &mut whole {
            None => whole = Some((computed, plain)),
            Some((all, all_plain)) => {
                let before = batches.range(number).map_or(0, |(first, _)| first);
                join(&mut all_plain.outputs, plain.outputs);
                all_plain
                    .faults
                    .extend(plain.faults.into_iter().map(|mut fault| {
                        fault.instance = fault.instance.map(|i| i + before);
                        fault
                    }));
                all.append(computed);
            }
        }
    }
    let Some((mut computed, plain)) = whole else {
        return Err(Failure::internal("there is no batch to compute"));
    };
    computed.timings.compile = compile;
    if let Some(party) = &party {
        computed.timings.keygen = party.keygen;
    }

    let error = max_abs_error(&computed.results, &plain.outputs);
    let labels = labels
        .map(|labels| classify(&computed.results, instances, &labels))
        .transpose()
        .map_err(Failure::Input)?;
    let rest = output::deliver(&computed.results, &targets)?;
    let summary = Summary {
        project: &project,
        program,
        report: &report,
        schedule: &schedule,
        predicted,
        backend: args.backend,
        instances,
        batches: count,
        labels,
        computed: &computed,
        plain: &plain,
        error,
    };
    match args.format {
        Format::Json => output::print_json(&summary.json(rest))?,
        Format::Human => output::print(&summary.human(&targets))?,
    }
    Ok(summary.verdict())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Uniform in the parameter's range.
fn random_tensor(param: &Param, generator: &mut StdRng) -> Tensor64 {
    let range = param.interval();
    Tensor64 {
        shape: param.shape.to_vec(),
        data: (0..elements(&param.shape))
            .map(|_| {
                let u: f64 = generator.random();
                (range.lo + (range.hi - range.lo) * u).clamp(range.lo, range.hi)
            })
            .collect(),
    }
}

fn clear(
    program: &Program,
    plains: &Plains,
    bindings: &Bindings,
    schedule: &Schedule,
    bar: &Bar,
) -> Result<Computed, RuntimeError> {
    let circuit = &program.circuit;
    let backend = ClearBackend::new(circuit, plains, packed(program, bindings)?);
    let started = Instant::now();
    let execution = execute(circuit, schedule, &backend, &|done, total| {
        bar.at(done, total)
    })?;
    let slots: Vec<Vec<f64>> = execution.outputs.iter().map(|v| v.to_vec()).collect();
    Ok(Computed {
        results: unpack(&circuit.meta, &slots, plains.public(), bindings.instances())?,
        timings: Timings {
            evaluate: milliseconds(started),
            ..Timings::default()
        },
        peak_ciphertexts: execution.peak_ciphertexts,
        lockstep: None,
    })
}

fn packed(program: &Program, bindings: &Bindings) -> Result<Vec<Vec<f64>>, RuntimeError> {
    let circuit = &program.circuit;
    circuit
        .inputs
        .iter()
        .map(|input| pack(&circuit.meta, &input.packed, bindings))
        .collect()
}

/// Who holds all keys, for the whole run.
struct Party {
    context: Context,
    randomness: Randomness,
    secret: SecretKey,
    public: PublicKey,
    keys: EvaluationKeys,
    /// Milliseconds that making the keys took.
    keygen: f64,
}

impl Party {
    fn new(args: &RunArgs, project: &Project, program: &Program) -> Outcome<Party> {
        let context = context(program)?;
        let mut randomness = match args.seed {
            None => Randomness::from_os().map_err(Failure::internal)?,
            Some(seed) => {
                anstream::eprintln!(
                    "hecc: warning: keys and noise are drawn from --seed {seed}: whoever knows it can decrypt"
                );
                let seed = blake3::derive_key("hecc 1 run --seed", &seed.to_le_bytes());
                Randomness::deterministic(seed)
            }
        };
        let started = Instant::now();
        let spinner = Spinner::new("generating keys");
        let edge = |source| {
            project.failed(&RuntimeError::Edge {
                what: "generating keys".to_owned(),
                source,
            })
        };
        let wide = context.parallel(true);
        let secret = wide.secret_key(&mut randomness);
        let public = wide.public_key(&secret, &mut randomness).map_err(edge)?;
        let request = evaluation_keys_needed(&program.circuit, program.parameters.log_n());
        let keys = wide
            .evaluation_keys(&secret, &request, &mut randomness)
            .map_err(edge)?;
        drop(spinner);
        Ok(Party {
            context,
            randomness,
            secret,
            public,
            keys,
            keygen: milliseconds(started),
        })
    }

    fn compute(
        &mut self,
        args: &RunArgs,
        program: &Program,
        plains: &Plains,
        bindings: &Bindings,
        schedule: &Schedule,
        bar: &Bar,
    ) -> Result<Computed, RuntimeError> {
        let circuit = &program.circuit;
        let Party {
            context,
            randomness,
            secret,
            public,
            keys,
            ..
        } = self;
        let (context, secret, keys): (&Context, &SecretKey, &EvaluationKeys) =
            (context, secret, keys);
        let mut timings = Timings::default();

        let started = Instant::now();
        let spinner = Spinner::new("encrypting");
        let with = EncryptWith::Public(public);
        let inputs = encrypt(context, circuit, bindings, with, randomness)?;
        drop(spinner);
        timings.encrypt = milliseconds(started);

        let started = Instant::now();
        let backend = CkksBackend::new(context, circuit, plains, keys, inputs)?;
        let progress = |done, total| bar.at(done, total);
        let (execution, lockstep) = if args.backend == Backend::Lockstep {
            let tolerance = match args.tolerance {
                Some(t) => Tolerance::Relative(t),
                None => Tolerance::ByNode(
                    hecc_passes::scale::error_bounds(circuit, &program.parameters)
                        .into_iter()
                        .map(|bound| bound * MARGIN)
                        .collect(),
                ),
            };
            let clear = ClearBackend::new(circuit, plains, packed(program, bindings)?);
            let both = LockstepBackend::new(circuit, backend, clear, context, secret, tolerance);
            let execution = execute(circuit, schedule, &both, &progress)?;
            let seen = Lockstep {
                first: both.first_divergence(),
                compared: both.compared(),
                worst: both.worst_error(),
                tolerance: args.tolerance,
            };
            (encrypted_half(execution), Some(seen))
        } else {
            (execute(circuit, schedule, &backend, &progress)?, None)
        };
        timings.evaluate = milliseconds(started);

        let started = Instant::now();
        let ciphertexts: Vec<_> = execution
            .outputs
            .iter()
            .filter_map(|value| match &**value {
                CkksValue::Cipher(c) => Some(c),
                CkksValue::Plain(_) => None,
            })
            .collect();
        let slots = decrypt(context, circuit, &ciphertexts, secret)?;
        let results = unpack(&circuit.meta, &slots, plains.public(), bindings.instances())?;
        timings.decrypt = milliseconds(started);
        Ok(Computed {
            results,
            timings,
            peak_ciphertexts: execution.peak_ciphertexts,
            lockstep,
        })
    }
}

impl Computed {
    /// Adds the next batch.
    fn append(&mut self, next: Computed) {
        join(&mut self.results, next.results);
        self.timings.encrypt += next.timings.encrypt;
        self.timings.evaluate += next.timings.evaluate;
        self.timings.decrypt += next.timings.decrypt;
        self.peak_ciphertexts = self.peak_ciphertexts.max(next.peak_ciphertexts);
        if let (Some(seen), Some(next)) = (&mut self.lockstep, next.lockstep) {
            seen.first = seen.first.take().or(next.first);
            seen.compared += next.compared;
            seen.worst = seen.worst.max(next.worst);
        }
    }
}

fn encrypted_half(execution: Execution<LockstepValue>) -> Execution<CkksValue> {
    Execution {
        outputs: execution
            .outputs
            .iter()
            .map(|v| Arc::clone(&v.encrypted))
            .collect(),
        peak_ciphertexts: execution.peak_ciphertexts,
    }
}

impl Summary<'_> {
    fn bits(&self) -> f64 {
        if self.error > 0.0 {
            (-self.error.log2()).min(MOST_BITS)
        } else {
            MOST_BITS
        }
    }

    /// Bytes of the encrypted inputs, public-key encryption, and of the encrypted results, all batches.
    fn messages(&self) -> (u64, u64) {
        let circuit = &self.program.circuit;
        let bytes = |level| 2 * self.program.parameters.polynomial_bytes(level);
        let inputs: u64 = circuit.inputs.iter().map(|i| bytes(i.level)).sum();
        let outputs = circuit.outputs.iter();
        let outputs: u64 = outputs
            .map(|(id, ())| bytes(circuit.graph.ty(*id).level()))
            .sum();
        let batches = self.batches as u64;
        (batches * inputs, batches * outputs)
    }

    fn json(&self, outputs: Map<String, Value>) -> Value {
        let t = &self.computed.timings;
        let mut value = json!({
            "circuit": self.program.name,
            "backend": backend_name(self.backend),
            "digest": project::digest(self.program).hex(),
            "instances": self.instances,
            "batches": self.batches,
            "outputs": outputs,
            "max_abs_error": finite(self.error),
            "precision_bits": finite(self.bits()),
            "promised_precision_bits": finite(self.program.precision_bits),
            "timings_ms": {
                "compile": t.compile,
                "keygen": t.keygen,
                "encrypt": t.encrypt,
                "evaluate": t.evaluate,
                "decrypt": t.decrypt,
            },
            "depth": self.report.measures.depth,
            "levels": self.report.measures.levels,
            "width": self.report.measures.width,
            "params": self.report.params,
            "peak_ciphertexts": self.computed.peak_ciphertexts,
            "range_faults": self.plain.faults.len(),
        });
        if let Some(map) = value.as_object_mut() {
            if let Some(labels) = &self.labels {
                map.insert("labels".to_owned(), labels.json());
            }
            if let (Some(n), true) = (self.instances, t.evaluate > 0.0) {
                map.insert(
                    "instances_per_second".to_owned(),
                    finite(n as f64 * 1e3 / t.evaluate),
                );
            }
            if self.backend == Backend::Ckks {
                let (sent, answered) = self.messages();
                map.insert(
                    "message_bytes".to_owned(),
                    json!({ "inputs": sent, "outputs": answered }),
                );
            }
            if let Some(p) = &self.predicted {
                let mut value = project::predicted_json(&p.all);
                value["memory_bytes"] = p.memory.into();
                let process = p.memory.saturating_sub(p.all.memory.total());
                value["memory"]["process"] = process.into();
                map.insert("predicted".to_owned(), value);
            }
            if let Some(bytes) = output::peak_memory() {
                map.insert("peak_memory_bytes".to_owned(), bytes.into());
            }
        }
        if let (Some(seen), Some(map)) = (&self.computed.lockstep, value.as_object_mut()) {
            let first = seen.first.as_ref().map(|d| {
                json!({
                    "node": d.node.to_string(),
                    "op": d.op,
                    "at": self.project.sources.locate(d.span),
                    "slot": d.slot,
                    "expected": finite(d.expected),
                    "found": finite(d.found),
                    "error": finite(d.error()),
                    "bound": d.bound,
                })
            });
            map.insert(
                "lockstep".to_owned(),
                json!({
                    "compared": seen.compared,
                    "tolerance": seen.tolerance,
                    "worst_error": finite(seen.worst),
                    "first_divergence": first,
                }),
            );
        }
        value
    }

    fn human(&self, targets: &[Target]) -> String {
        let mut out = String::new();
        let now = &self.report.measures;
        let written = self.report.unoptimized.as_ref();
        let change = |of: fn(&ReportedMeasures) -> u64| match written {
            Some(before) => format!("{} as written → {}", of(before), of(now)),
            None => of(now).to_string(),
        };
        let mut facts = vec![
            ("circuit", self.program.name.clone()),
            ("depth", change(|m| m.depth)),
            ("levels", change(|m| m.levels)),
            ("width", change(|m| m.width)),
            ("parameters", parameters(self.report)),
        ];
        if self.backend != Backend::Ckks {
            facts.push(("back-end", backend_name(self.backend).to_owned()));
        }
        let t = &self.computed.timings;
        if let Some(n) = self.instances {
            let rate = n as f64 * 1e3 / t.evaluate.max(1e-3);
            facts.push((
                "instances",
                match self.batches {
                    1 => format!("{n}; {rate:.0} evaluated a second"),
                    batches => format!("{n} in {batches} batches; {rate:.0} evaluated a second"),
                },
            ));
        }
        if let Some(labels) = &self.labels {
            facts.push(("accuracy", labels.summary()));
        }
        let phases = [
            ("compile", t.compile),
            ("keygen", t.keygen),
            ("encrypt", t.encrypt),
            ("evaluate", t.evaluate),
            ("decrypt", t.decrypt),
        ];
        let times: Vec<String> = phases
            .iter()
            .filter(|(_, ms)| *ms > 0.0)
            .map(|(name, ms)| format!("{name} {}", output::duration(ms / 1e3)))
            .collect();
        facts.push(("time", times.join(", ")));
        if let Some(p) = &self.predicted {
            // of one batch; each takes as long, but that the first makes the buffers for all
            let batches = self.batches as f64;
            let phases = [
                ("keygen", p.all.keygen),
                ("encrypt", p.all.encrypt * batches),
                (
                    "evaluate",
                    p.all.evaluate * batches - p.all.touched * (batches - 1.0),
                ),
                ("decrypt", p.all.decrypt * batches),
            ];
            let times: Vec<String> = phases
                .iter()
                .map(|(name, ms)| format!("{name} {}", output::duration(ms / 1e3)))
                .collect();
            facts.push((
                "predicted",
                format!(
                    "{}; {} of memory",
                    times.join(", "),
                    output::bytes(p.memory)
                ),
            ));
        }
        if self.backend == Backend::Ckks {
            let (sent, answered) = self.messages();
            let of = |bytes| output::bytes_of_instances(bytes, self.instances, 1);
            facts.push(("sent", format!("{} in", of(sent))));
            facts.push(("", format!("{} out", of(answered))));
        }
        facts.push((
            "memory",
            format!(
                "at most {} ciphertexts at once, {}",
                self.computed.peak_ciphertexts,
                output::bytes(
                    self.schedule
                        .peak_bytes(self.program.parameters.log_n().degree())
                        as u64
                )
            ) + &output::peak_memory().map_or_else(String::new, |b| {
                format!("; {} of memory in all", output::bytes(b))
            }),
        ));
        let measured = if self.error > 0.0 {
            format!(
                "{:.1} bits measured (largest error {:.1e}), {:.1} promised",
                self.bits(),
                self.error,
                self.program.precision_bits
            )
        } else {
            format!("exact; {:.1} bits promised", self.program.precision_bits)
        };
        facts.push(("precision", measured));
        if let Some(seen) = &self.computed.lockstep {
            facts.push((
                "lockstep",
                format!(
                    "{} ciphertexts compared, worst error {:.1e}, tolerance {}",
                    seen.compared,
                    seen.worst,
                    match seen.tolerance {
                        Some(t) => format!("{t:.1e}"),
                        None => format!("{MARGIN} times the noise estimate of each"),
                    }
                ),
            ));
        }
        let rows = facts
            .into_iter()
            .map(|(k, v)| vec![k.to_owned(), v])
            .collect();
        out.push_str(&output::table(&[], rows, &[]));
        out.push('\n');
        if let Some(labels) = &self.labels {
            out.push_str(&labels.table());
            out.push('\n');
        }
        out.push_str(&self.values(targets));
        out
    }

    /// The first elements of each result beside the plain result.
    fn values(&self, targets: &[Target]) -> String {
        let mut rows = Vec::new();
        for (result, plain) in self.computed.results.iter().zip(&self.plain.outputs) {
            if let Some(target) = targets.iter().find(|t| t.name == result.name) {
                rows.push(vec![
                    result.name.clone(),
                    format!("written to {}", target.path().display()),
                ]);
            }
            let pairs = result.value.data.iter().zip(&plain.value.data);
            for (i, (a, b)) in pairs.take(SHOWN).enumerate() {
                rows.push(vec![
                    output::element(&result.name, &result.value.shape, i),
                    format!("{a:.9}"),
                    format!("{b:.9}"),
                    format!("{:.1e}", (a - b).abs()),
                ]);
            }
            let more = result.value.data.len().saturating_sub(SHOWN);
            if more > 0 {
                rows.push(vec![result.name.clone(), format!("… {more} more")]);
            }
        }
        let computed = match self.backend {
            Backend::Clear => "lowered",
            Backend::Ckks | Backend::Lockstep => "decrypted",
        };
        output::table(&["output", computed, "plain", "error"], rows, &[1, 2, 3])
    }

    /// Says on stderr what failed, and whether anything did.
    fn verdict(&self) -> Status {
        let mut status = Status::Success;
        for fault in self.plain.faults.iter().take(MOST_FAULTS) {
            status = Status::No;
            let instance = fault
                .instance
                .map(|i| format!(" in instance {i}"))
                .unwrap_or_default();
            self.project.say(
                Diagnostic::error(
                    "E3101",
                    fault.span,
                    format!(
                        "a value leaves its declared range: element {} is {}{instance}",
                        if fault.element.is_empty() {
                            "itself"
                        } else {
                            &fault.element
                        },
                        fault.value
                    ),
                    format!("[{}, {}] is declared here", fault.range.lo, fault.range.hi),
                )
                .with_help("the encrypted result cannot be trusted: declare a wider range, or give smaller inputs"),
            );
        }
        let more = self.plain.faults.len().saturating_sub(MOST_FAULTS);
        if more > 0 {
            anstream::eprintln!("hecc: {more} more values leave their declared ranges");
        }
        if let Some(d) = self
            .computed
            .lockstep
            .as_ref()
            .and_then(|s| s.first.as_ref())
        {
            status = Status::No;
            self.project.say(
                Diagnostic::error(
                    "E3102",
                    d.span,
                    format!(
                        "the encrypted value of {} {} differs by {:.1e} from the clear one",
                        d.op,
                        d.node,
                        d.error()
                    ),
                    format!(
                        "slot {} is {:e} and decrypts to {:e}; up to {:.1e} passes",
                        d.slot, d.expected, d.found, d.bound
                    ),
                )
                .with_help("everything before it agrees: look at this line, or raise --tolerance"),
            );
        }
        // the promise is for values in their ranges
        if self.backend != Backend::Clear && self.plain.faults.is_empty() {
            let short = self.program.precision_bits - self.bits();
            if short > TAIL_BITS {
                status = Status::No;
                anstream::eprintln!(
                    "hecc: error: {:.1} bits of precision were promised and {:.1} measured: do not trust these results, and please report the circuit",
                    self.program.precision_bits,
                    self.bits()
                );
            } else if short > 0.0 {
                anstream::eprintln!(
                    "hecc: warning: {:.1} bits of precision were promised and {:.1} measured: the promise is statistical, and this is its tail",
                    self.program.precision_bits,
                    self.bits()
                );
            }
        }
        if self.backend == Backend::Clear && self.error > 1e-6 * largest(&self.plain.outputs) {
            status = Status::No;
            anstream::eprintln!(
                "hecc: error: the lowered circuit gives another result than the program, by {:.1e}: this is a bug in hecc; please report the circuit",
                self.error
            );
        }
        status
    }
}

fn largest(results: &[Unpacked]) -> f64 {
    results
        .iter()
        .flat_map(|r| &r.value.data)
        .fold(1.0, |m, v| m.max(v.abs()))
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Ckks => "ckks",
        Backend::Clear => "clear",
        Backend::Lockstep => "lockstep",
    }
}

/// JSON has no infinity.
fn finite(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}
