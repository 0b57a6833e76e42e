//! From a file name to a compiled circuit.

use std::fs;
use std::io;
use std::path::Path;

use hecc_ckks::Context;
use hecc_ir::ckks::Ckks;
use hecc_ir::diag::{Diagnostic, Severity};
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::program::Program;
use hecc_ir::span::{SourceMap, Span};
use hecc_ir::tensor::{Param, Tensor, TensorMeta};
use hecc_ir::text::{canonicalize, print_circuit};
use hecc_lang::FileSystem;
use hecc_params::{CostModel, Security};
use hecc_passes::compile::{CompileOptions, Compiled, Report, Stage};
use hecc_runtime::{
    BindError, Bindings, Prediction, RuntimeError, Schedule, Tensor64, Wanted, bind, derive,
    predict,
};
use serde_json::{Value, json};

use crate::args::{Choice, Format};
use crate::container::Digest;
use crate::diagnostics;
use crate::exit::{Failure, Outcome};
use crate::point::Point;
use crate::progress::Spinner;
use crate::values;

/// The files of this machine.
pub(crate) struct DiskFiles;

impl FileSystem for DiskFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

/// A checked file.
pub(crate) struct Project {
    pub(crate) circuits: Vec<Module<Tensor>>,
    pub(crate) sources: SourceMap,
    pub(crate) format: Format,
}

impl Project {
    /// Reads and checks a file; what is wrong with it goes to stderr.
    pub(crate) fn load(path: &Path, format: Format) -> Outcome<Project> {
        let _spinner = Spinner::new("checking");
        match hecc_lang::load_program(path, &DiskFiles, hecc_lang::Limits::default()) {
            Ok(checked) => {
                diagnostics::report(&checked.warnings, &checked.sources, format);
                Ok(Project {
                    circuits: checked.circuits,
                    sources: checked.sources,
                    format,
                })
            }
            Err(failure) => {
                diagnostics::report(&failure.diagnostics, &failure.sources, format);
                Err(Failure::Reported)
            }
        }
    }

    /// The circuit that is meant: the named one, or the only one.
    pub(crate) fn pick(&self, name: Option<&str>) -> Outcome<&Module<Tensor>> {
        let known = || {
            let names: Vec<&str> = self
                .circuits
                .iter()
                .map(|m| m.entry().name.as_str())
                .collect();
            names.join(", ")
        };
        match (name, self.circuits.as_slice()) {
            (_, []) => Err(Failure::input(
                "the file holds no circuit: write `circuit NAME(x: secret real) -> y: real { … }`",
            )),
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::input(format!(
                "the file holds several circuits: pick one with --circuit NAME, of {}",
                known()
            ))),
            (Some(name), circuits) => {
                circuits
                    .iter()
                    .find(|m| m.entry().name == name)
                    .ok_or_else(|| {
                        Failure::input(format!(
                            "there is no circuit `{name}` in the file: it holds {}",
                            known()
                        ))
                    })
            }
        }
    }

    /// Compiles a circuit to something that can be run; what is wrong with it goes to stderr.
    pub(crate) fn program(&self, choice: &Choice) -> Outcome<(Program, Report)> {
        let module = self.pick(choice.circuit.as_deref())?;
        self.program_of(module, &options(choice)?)
    }

    /// Compiles this circuit to something that can be run.
    pub(crate) fn program_of(
        &self,
        module: &Module<Tensor>,
        options: &CompileOptions,
    ) -> Outcome<(Program, Report)> {
        let compiled = self.compile(module, options, &mut |_, _| {})?;
        diagnostics::report(&compiled.diagnostics, &self.sources, self.format);
        let program = compiled.program.ok_or(Failure::Reported)?;
        if insecure(&program) {
            warn_insecure();
        }
        Ok((program, compiled.report))
    }

    /// Compiles a circuit whose measures are of interest even if no secure parameters have room for
    /// it: that is then a warning.
    pub(crate) fn measured(
        &self,
        module: &Module<Tensor>,
        options: &CompileOptions,
        observer: &mut dyn FnMut(&str, Stage<'_>),
    ) -> Outcome<Compiled> {
        let mut compiled = self.compile(module, options, observer)?;
        for diagnostic in &mut compiled.diagnostics {
            diagnostic.severity = diagnostic.severity.max(Severity::Warning);
        }
        diagnostics::report(&compiled.diagnostics, &self.sources, self.format);
        if compiled.program.as_ref().is_some_and(insecure) {
            warn_insecure();
        }
        Ok(compiled)
    }

    fn compile(
        &self,
        module: &Module<Tensor>,
        options: &CompileOptions,
        observer: &mut dyn FnMut(&str, Stage<'_>),
    ) -> Outcome<Compiled> {
        let spinner = Spinner::new("compiling");
        let compiled =
            hecc_passes::compile::compile_observed(module, &self.sources, options, observer);
        drop(spinner);
        compiled.map_err(|found| {
            diagnostics::report(&found, &self.sources, self.format);
            if found.iter().any(|d| d.code.starts_with("E9")) {
                Failure::Internal("a pass broke the program".to_owned())
            } else {
                Failure::Reported
            }
        })
    }

    /// Says what went wrong while a circuit ran, with its place in the source.
    pub(crate) fn failed(&self, error: &RuntimeError) -> Failure {
        let at = error
            .span()
            .map(|span| format!("{}: ", self.sources.locate(span)))
            .unwrap_or_default();
        match error {
            RuntimeError::Public(_) | RuntimeError::Reference(_) => match error.span() {
                Some(span) => {
                    self.say(
                        Diagnostic::error("E3100", span, error.to_string(), "here").with_help(
                            "check the public inputs and the constants that this line uses",
                        ),
                    );
                    Failure::Reported
                }
                None => Failure::input(error),
            },
            // What a caller can get wrong is checked before anything runs.
            RuntimeError::Engine { .. } | RuntimeError::Edge { .. } => {
                Failure::internal(format!("{at}{error}"))
            }
            RuntimeError::Mismatch(_) => Failure::input(format!("{at}{error}")),
        }
    }

    /// Puts one diagnostic on stderr.
    pub(crate) fn say(&self, diagnostic: Diagnostic) {
        diagnostics::report(&[diagnostic], &self.sources, self.format);
    }
}

/// What the flags ask of the compiler.
pub(crate) fn options(choice: &Choice) -> Outcome<CompileOptions> {
    let mut options = Point::of(choice).options();
    options.passes.verify = choice.verify_passes;
    if let Some(path) = &choice.cost_model {
        options.cost = read_model(path, "--cost-model")?;
    }
    Ok(options)
}

/// Where a cost model for predictions is looked for when no flag names one.
const COST_MODEL_VARIABLE: &str = "HECC_COST_MODEL";

/// The times that predictions go by: those of `--cost-model`, of the file that the environment
/// names, or those that ship. The environment never decides which circuit is compiled: parties
/// would disagree.
pub(crate) fn prediction_model(given: Option<&Path>) -> Outcome<CostModel> {
    match (given, std::env::var_os(COST_MODEL_VARIABLE)) {
        (Some(path), _) => read_model(path, "--cost-model"),
        (None, Some(path)) if !path.is_empty() => read_model(Path::new(&path), COST_MODEL_VARIABLE),
        (None, _) => Ok(CostModel::default()),
    }
}

/// What a compiled program is predicted to need on this machine's threads.
pub(crate) fn predicted(
    program: &Program,
    schedule: &Schedule,
    choice: &Choice,
) -> Outcome<Prediction> {
    let model = prediction_model(choice.cost_model.as_deref())?;
    Ok(predict(
        &program.circuit,
        &program.parameters,
        schedule,
        &model,
        hecc_runtime::threads(),
    ))
}

/// A prediction in the JSON form.
pub(crate) fn predicted_json(p: &Prediction) -> Value {
    json!({
        "threads": hecc_runtime::threads(),
        "timings_ms": {
            "keygen": p.keygen,
            "encrypt": p.encrypt,
            "evaluate": p.evaluate,
            "decrypt": p.decrypt,
        },
        "work_ms": p.work,
        "critical_path_ms": p.critical_path,
        "memory_bytes": p.memory.total() + PROCESS_BYTES,
        "memory": {
            "keys": p.memory.keys,
            "values": p.memory.values,
            "scratch": p.memory.scratch,
            "tables": p.memory.tables,
            "plain": p.memory.plain,
            "process": PROCESS_BYTES,
        },
    })
}

/// Bytes of memory that the program itself takes, before anything is loaded.
pub(crate) const PROCESS_BYTES: u64 = 12 << 20;

pub(crate) fn read_model(path: &Path, whence: &str) -> Outcome<CostModel> {
    let refuse =
        |why: &dyn std::fmt::Display| Failure::input(format!("{whence} {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| refuse(&e))?;
    CostModel::from_json(&text).map_err(|e| refuse(&e))
}

fn warn_insecure() {
    anstream::eprintln!(
        "hecc: warning: THESE PARAMETERS PROMISE NO SECURITY: the circuit asks for `@ckks(security = 0)`, and anyone can decrypt"
    );
}

/// The engine for a program's parameters.
pub(crate) fn context(program: &Program) -> Outcome<Context> {
    Context::with_options(
        program.parameters.clone(),
        hecc_ckks::Options::from_environment(),
    )
    .map_err(Failure::internal)
}

/// Whether a program's parameters promise no security.
pub(crate) fn insecure(program: &Program) -> bool {
    program.parameters.security() == Security::Insecure
}

/// Values of parameters, cut into batches where there are more instances than a batch takes.
pub(crate) struct Batches<'p> {
    program: &'p Program,
    wanted: Wanted,
    values: Vec<(String, Tensor64)>,
    /// Instances of all, where values have an axis for them.
    pub(crate) instances: Option<usize>,
}

impl<'p> Batches<'p> {
    /// Reads `--input` values, with `random` draws those that are missing, and checks them all.
    pub(crate) fn read(
        program: &'p Program,
        given: &[String],
        wanted: Wanted,
        random: Option<&mut dyn FnMut(&Param) -> Tensor64>,
    ) -> Outcome<Batches<'p>> {
        let values = read_values(program, given, random)?;
        let mut batches = Batches {
            program,
            wanted,
            values,
            instances: None,
        };
        let more = batches
            .values
            .iter()
            .filter_map(|(name, value)| batches.count_of(name, value))
            .find(|n| *n > batches.most());
        batches.instances = more;
        for at in 0..batches.len() {
            let found = batches.get(at)?.instances();
            batches.instances = more.or(found);
        }
        Ok(batches)
    }

    /// Most instances of a batch.
    pub(crate) fn most(&self) -> usize {
        let batch = self.program.circuit.meta.batch;
        batch.map_or(usize::MAX, |b| b.max(1) as usize)
    }

    /// How many batches there are, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.instances.map_or(1, |n| n.div_ceil(self.most()).max(1))
    }

    /// The first instance of a batch, and how many it has; none where values have no axis for them.
    pub(crate) fn range(&self, at: usize) -> Option<(usize, usize)> {
        let total = self.instances?;
        let first = at * self.most().min(total);
        Some((first, (total - first).min(self.most())))
    }

    /// The values of a batch.
    pub(crate) fn get(&self, at: usize) -> Outcome<Bindings> {
        self.cut(self.range(at))
    }

    /// The values of some instances: the first, and how many.
    pub(crate) fn cut(&self, range: Option<(usize, usize)>) -> Outcome<Bindings> {
        let part = self.values.iter().map(|(name, value)| {
            let own = self.count_of(name, value);
            let value = match (range, own, self.instances) {
                (Some((first, here)), Some(n), Some(total))
                    if n == total
                        && value.data.len().is_multiple_of(n.max(1))
                        && first + here <= n =>
                {
                    let size = value.data.len() / n.max(1);
                    Tensor64 {
                        shape: std::iter::once(here)
                            .chain(value.shape[1..].iter().copied())
                            .collect(),
                        data: value.data[first * size..(first + here) * size].to_vec(),
                    }
                }
                // One instance for all, or what `bind` has to refuse.
                _ => value.clone(),
            };
            (name.clone(), value)
        });
        let batch = self.program.circuit.meta.batch;
        let bindings = bind(&self.program.params, batch, part.collect(), self.wanted);
        let bindings = match self.wanted {
            Wanted::All | Wanted::Secret => bindings.and_then(|b| derive(self.program, b)),
            Wanted::Public => bindings,
        };
        bindings.map_err(|errors| bind_failure(&errors))
    }

    /// The instances that a value has along a leading axis.
    fn count_of(&self, name: &str, value: &Tensor64) -> Option<usize> {
        let param = self.program.params.iter().find(|p| p.name == name)?;
        let (n, rest) = value.shape.split_first()?;
        (self.program.circuit.meta.batch.is_some() && rest == param.shape.as_slice()).then_some(*n)
    }
}

fn read_values(
    program: &Program,
    given: &[String],
    random: Option<&mut dyn FnMut(&Param) -> Tensor64>,
) -> Outcome<Vec<(String, Tensor64)>> {
    let batch = program.circuit.meta.batch;
    let mut values = Vec::with_capacity(given.len());
    for text in given {
        values.push(values::input(text, &program.params, batch).map_err(Failure::Input)?);
    }
    if let Some(draw) = random {
        for param in &program.params {
            if !values.iter().any(|(name, _)| *name == param.name) {
                values.push((param.name.clone(), draw(param)));
            }
        }
    }
    Ok(values)
}

fn bind_failure(errors: &[BindError]) -> Failure {
    let lines: Vec<String> = errors
        .iter()
        .map(|e| match e {
            BindError::Missing(names) => {
                format!("missing input: {names}: give each with --input NAME=VALUE")
            }
            BindError::Unknown { .. } => e.to_string(),
            other => format!("input {other}"),
        })
        .collect();
    Failure::Input(lines.join("\nhecc: error: "))
}

/// Names and ranks of a program's results, the axis of instances included.
pub(crate) fn result_ranks(program: &Program, instances: Option<usize>) -> Vec<(String, usize)> {
    program
        .circuit
        .meta
        .results
        .iter()
        .map(|r| {
            (
                r.name.clone(),
                r.shape.len() + usize::from(instances.is_some()),
            )
        })
        .collect()
}

/// blake3 over all that two parties have to agree on: the canonical text of the lowered circuit,
/// which holds plaintexts, packing and results, the interface, and the parameters. Comments and
/// white space do not matter.
pub(crate) fn digest(program: &Program) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("hecc 1 compiled circuit");
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(&program.name);
    for p in &program.params {
        add(&p.name);
        add(&format!("{:?} {:?} {:?}", p.secrecy, p.shape, p.interval()));
    }
    add(&format!("{:?}", program.parameters.literal()));
    add(&print_circuit(&canonicalize(&without_places(program))));
    Digest(*hasher.finalize().as_bytes())
}

/// The lowered circuit without places in the source.
fn without_places(program: &Program) -> Circuit<Ckks> {
    let mut circuit = program.circuit.clone();
    for id in circuit.graph.ids() {
        circuit.graph.set_span(id, Span::default());
    }
    if let Some(public) = &mut circuit.meta.public {
        for id in public.graph.ids() {
            public.graph.set_span(id, Span::default());
        }
        for param in &mut public.inputs {
            param.span = Span::default();
        }
        for (_, result) in &mut public.outputs {
            result.span = Span::default();
        }
        public.meta = TensorMeta::default();
    }
    circuit
}
