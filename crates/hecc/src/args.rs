//! The command line's grammar.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::point::Point;

const EXAMPLE: &str = "Example:
  hecc run circuits/quartic.hec --input x=@circuits/data/x1024.json
";

/// Compiler, optimizer and runtime for circuits over encrypted data.
#[derive(Debug, Parser)]
#[command(
    name = "hecc",
    version,
    before_help = EXAMPLE,
    after_help = "Exit status: 0 success; 1 the answer is no (a budget is exceeded, a verification failed); \
                  2 the input is wrong; 3 hecc itself failed.",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Report depth, levels, width, parameters and keys of a circuit.
    #[command(before_help = "Example:\n  hecc compile circuits/quartic.hec --format json\n")]
    Compile(CompileArgs),
    /// Hold circuits to their budgets: exit 1 when one is exceeded.
    #[command(before_help = "Example:\n  hecc check circuits/*.hec --max-depth 10\n")]
    Check(CheckArgs),
    /// Generate keys, encrypt, evaluate, decrypt, and compare with the plain result.
    #[command(
        before_help = "Example:\n  hecc run circuits/quartic.hec --input 'x=[0.5, -0.25, 1]'\n"
    )]
    Run(RunArgs),
    /// Write a secret key, and the public keys that the circuit needs.
    #[command(before_help = "Example:\n  hecc keygen circuits/quartic.hec --out keys\n")]
    Keygen(KeygenArgs),
    /// Encrypt inputs.
    #[command(
        before_help = "Example:\n  hecc encrypt circuits/quartic.hec --keys keys/public --input x=@x.npy --out in.hecc\n"
    )]
    Encrypt(EncryptArgs),
    /// Evaluate a circuit on encrypted inputs; no secret key anywhere.
    #[command(
        before_help = "Example:\n  hecc eval circuits/quartic.hec --keys keys/public --in in.hecc --out out.hecc\n"
    )]
    Eval(EvalArgs),
    /// Decrypt the outputs.
    #[command(
        before_help = "Example:\n  hecc decrypt circuits/quartic.hec --secret-key keys/secret.key --in out.hecc\n"
    )]
    Decrypt(DecryptArgs),
    /// Turn a network from ONNX into a .hec file, or find the least depth of a boolean circuit.
    #[command(
        before_help = "Examples:\n  hecc import model.onnx --out circuits --batch 4096 --range image=0,1\n  \
                       hecc import circuits/boolean/priority16.eqn --out best.eqn\n"
    )]
    Import(ImportArgs),
    /// List what a circuit can be compiled to: levels against time, width, inputs and parameters.
    #[command(before_help = "Example:\n  hecc explore circuits/sobel.hec --plot sobel.svg\n")]
    Explore(ExploreArgs),
    /// Measure this machine for predictions of time.
    #[command(before_help = "Example:\n  hecc calibrate --out machine.json\n")]
    Calibrate(CalibrateArgs),
    /// Print circuits in their canonical form.
    #[command(before_help = "Example:\n  hecc fmt --check circuits/*.hec\n")]
    Fmt(FmtArgs),
}

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables.
    #[default]
    Human,
    /// One JSON value on stdout; diagnostics are JSON lines on stderr.
    Json,
}

/// How tensors lie in slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// As the cost model finds best.
    #[default]
    Auto,
    /// One element per ciphertext.
    Elements,
    /// Many elements per ciphertext.
    Packed,
    /// Many elements per ciphertext, the axes of tensors on the bits of the slot number.
    Tiles,
}

/// What a slot holds with `@batch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Packing {
    /// Two instances where that is better, one otherwise.
    #[default]
    Auto,
    /// One instance.
    Real,
    /// Two instances, in the real and the imaginary part, wherever the circuit allows it.
    Complex,
}

/// What is minimised first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Objective {
    /// Products of two secrets on a path.
    Depth,
    /// Rescalings on a path.
    #[default]
    Levels,
    /// Predicted time on one thread.
    Work,
    /// Predicted time on the threads of the cost model's machine.
    Time,
    /// Bytes of encrypted inputs and outputs.
    Bandwidth,
}

/// What decides the compiled circuit. Whoever generates keys, encrypts, evaluates and decrypts gives the same.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// Which circuit of the file; the only one needs no picking.
    #[arg(long, value_name = "NAME")]
    pub(crate) circuit: Option<String>,
    /// Optimization: 0 as written, 1 no growth, 2 least levels with at most twice the work, 3 with at most eight times.
    #[arg(
        short = 'O',
        long = "opt-level",
        value_name = "LEVEL",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(0..=3)
    )]
    pub(crate) opt_level: u8,
    /// What is minimised first.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) objective: Objective,
    /// How tensors lie in slots.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) layout: Layout,
    /// Most slots of a vector, a power of two: larger tensors take several vectors.
    #[arg(long, value_name = "SLOTS", value_parser = slots)]
    pub(crate) max_slots: Option<usize>,
    /// What a slot holds with `@batch`.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) packing: Packing,
    /// Take this ring degree; goes before `@ckks(ring = …)`.
    #[arg(long, value_name = "N")]
    pub(crate) ring: Option<u64>,
    /// Take this scale; goes before `@ckks(scale_bits = …)`.
    #[arg(long, value_name = "BITS")]
    pub(crate) scale_bits: Option<u32>,
    /// With `@precompute`: let the inputs grow this many times at most, where the attribute allows more.
    #[arg(long, value_name = "TIMES", value_parser = percent)]
    pub(crate) precompute: Option<u32>,
    /// Compile as this point of `hecc explore`, in place of the flags above.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["opt_level", "objective", "layout", "max_slots", "packing", "ring", "scale_bits", "precompute"]
    )]
    pub(crate) point: Option<Point>,
    /// Choose by the times in this file, from `hecc calibrate`, and predict by them; without it circuits are
    /// chosen by the times that ship, and predicted by the file that HECC_COST_MODEL names.
    #[arg(long, value_name = "FILE")]
    pub(crate) cost_model: Option<PathBuf>,
    /// Compare the program before and after each pass in exact arithmetic.
    #[arg(long)]
    pub(crate) verify_passes: bool,
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n.is_power_of_two() && n <= 1 << 16 => Ok(n),
        _ => Err("give a power of two up to 65536".to_owned()),
    }
}

/// A factor of at least 1, in percent.
fn percent(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(times) if (1.0..=1e6).contains(&times) => Ok((times * 100.0).round() as u32),
        _ => Err("give a number from 1 up".to_owned()),
    }
}

/// What can be printed in place of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    /// The lowered circuit in the text form.
    Ir,
    /// What is executed, in order.
    Plan,
    /// The lowered circuit for Graphviz.
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print this instead of the report.
    #[arg(long, value_enum)]
    pub(crate) emit: Option<Emit>,
    /// Print the circuit as it is after this pass (on stderr); may be repeated, `all` for every pass.
    #[arg(long, value_name = "PASS")]
    pub(crate) print_after: Vec<String>,
    /// Print the time that each pass takes (on stderr).
    #[arg(long)]
    pub(crate) time_passes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The .hec files; every circuit of each is checked.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Most secret×secret multiplications on a path.
    #[arg(long, value_name = "N")]
    pub(crate) max_depth: Option<u64>,
    /// Most rescalings on a path.
    #[arg(long, value_name = "N")]
    pub(crate) max_levels: Option<u64>,
    /// Most operations in one layer.
    #[arg(long, value_name = "N")]
    pub(crate) max_width: Option<u64>,
    /// Most secret×secret multiplications of one multiplicative depth.
    #[arg(long, value_name = "N")]
    pub(crate) max_mult_width: Option<u64>,
    /// Most secret×secret multiplications, squares included.
    #[arg(long, value_name = "N")]
    pub(crate) max_muls: Option<u64>,
    /// Most rotations.
    #[arg(long, value_name = "N")]
    pub(crate) max_rotations: Option<u64>,
}

/// Where a circuit is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Encrypted.
    #[default]
    Ckks,
    /// In the clear, operation by operation as lowered.
    Clear,
    /// Both side by side, compared after each operation.
    Lockstep,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// An input: a JSON literal, or @file.json, .csv, .npy, .npz or IDX, also as .gz; @file[0..100]/256 takes
    /// rows 0 to 99 and divides them by 256. More instances than the circuit's @batch are computed batch by
    /// batch. May be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// Draw every input that is not given uniformly from its range.
    #[arg(long)]
    pub(crate) random: bool,
    /// Write an output to @file.npy, .csv or .json instead of printing it; may be repeated.
    #[arg(long, value_name = "NAME=@FILE")]
    pub(crate) output: Vec<String>,
    /// Hold the largest element of the one result that is a vector against these labels, one an instance:
    /// a file as for --input.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Draw keys, noise and random inputs from this seed, so that the run can be repeated; the keys are then no secret.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,
    /// Largest error that lockstep lets pass, relative to the largest slot of a value where that is above 1
    /// [default: by the noise estimate of each value].
    #[arg(long, value_name = "ERROR")]
    pub(crate) tolerance: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Directory for secret.key and public/.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Overwrite an existing secret key: what was encrypted for it cannot be decrypted any more.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The directory of public keys; this or --secret-key is needed.
    #[arg(long, value_name = "DIR", conflicts_with = "secret_key")]
    pub(crate) keys: Option<PathBuf>,
    /// Encrypt with the secret key: half the size.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_key: Option<PathBuf>,
    /// A secret input: a JSON literal, or @file.json, .csv, .npy, .npz or IDX, also as .gz; @file[0..100]/256
    /// takes rows 0 to 99 and divides them by 256. More instances than the circuit's @batch are encrypted batch by
    /// batch. May be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// The file of encrypted inputs to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The directory of public keys.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// The file of encrypted inputs.
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) encrypted: PathBuf,
    /// The file of encrypted outputs to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// A public parameter: a JSON literal, or @file.json, .csv, .npy or .npz; may be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DecryptArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The secret key.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_key: PathBuf,
    /// The file of encrypted outputs.
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) encrypted: PathBuf,
    /// Write an output to @file.npy, .csv or .json instead of printing it; may be repeated.
    #[arg(long, value_name = "NAME=@FILE")]
    pub(crate) output: Vec<String>,
    /// Hold the largest element of the one result that is a vector against these labels, one an instance:
    /// a file as for --input.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The .onnx file, or a boolean circuit: .eqn, .blif, .aig or .aag.
    pub(crate) file: PathBuf,
    /// For a network the .hec file to write, or a directory for it; weights go beside it, as .safetensors.
    /// For a boolean circuit where to write the optimized one: .eqn, .blif or .aag; only the report without it.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The circuit's name [default: that of the file].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Compute up to N instances at once: @batch(N).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Option<u32>,
    /// The range of an input, a result or a value between them, by its name in the model or in the program:
    /// ONNX knows none. May be repeated.
    #[arg(long, value_name = "NAME=LO,HI", allow_hyphen_values = true)]
    pub(crate) range: Vec<String>,
    /// The extent that a symbolic dimension of the model stands for; may be repeated.
    #[arg(long, value_name = "NAME=N")]
    pub(crate) dim: Vec<String>,
    /// Degree of the polynomials that stand in for Relu, Sigmoid, Tanh and the like.
    #[arg(long, value_name = "N")]
    pub(crate) degree: Option<u32>,
    /// Overwrite existing files.
    #[arg(long)]
    pub(crate) force: bool,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ExploreArgs {
    /// The .hec file.
    pub(crate) file: PathBuf,
    /// Which circuit of the file; the only one needs no picking.
    #[arg(long, value_name = "NAME")]
    pub(crate) circuit: Option<String>,
    /// Show circuits that another beats in everything, too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Draw them in this .svg file.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Choose and predict by the times in this file, from `hecc calibrate`; it then belongs to every point.
    #[arg(long, value_name = "FILE")]
    pub(crate) cost_model: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// Write the times to this file, for --cost-model and HECC_COST_MODEL.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Small rings only, and fewer runs; larger rings are then scaled from them.
    #[arg(long)]
    pub(crate) quick: bool,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// The .hec files, rewritten in place; `-` reads stdin and writes stdout.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing; exit 1 when a file is not in its canonical form.
    #[arg(long)]
    pub(crate) check: bool,
}
