//! Random programs mean the same everywhere.
//!
//! Each program is generated from its seed together with inputs and with what it yields by the
//! generator's own evaluator. The clear interpreter must agree with that; so must the lowered
//! circuit at every -O and in every layout, with every pass verified exactly; and an encrypted
//! evaluation, within the precision that the compiler promised for it.
//!
//! `HECC_SEEDS=1000..3000 cargo test -p hecc --test random_programs --release` tries others.

mod adversarial;
mod generate;

use std::fs;
use std::io;
use std::ops::Range;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use generate::{Program, Size};
use hecc_ckks::{Context, Options as Engine, Randomness};
use hecc_ir::algebra::Clear;
use hecc_ir::graph::Module;
use hecc_ir::interp::{TensorValue, eval_module};
use hecc_ir::tensor::Tensor;
use hecc_lang::{Checked, FileSystem, Limits, load_program};
use hecc_passes::compile::{CompileOptions, compile};
use hecc_passes::layout::{LayoutOptions, Packing, Strategy};
use hecc_passes::pipeline::{Objective, Options};
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, ClearBackend, EncryptWith, Fusion, Schedule, Tensor64,
    Unpacked, Wanted, bind, decrypt, derive, encrypt, evaluation_keys_needed, execute, pack,
    resolve_plains, times, unpack,
};
use rayon::prelude::*;

struct OneFile(String);

impl FileSystem for OneFile {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }
}

struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

fn check(program: &Program) -> Checked {
    let fs = OneFile(program.source.clone());
    load_program(Path::new("random.hec"), &fs, Limits::default()).unwrap_or_else(|failure| {
        let said: String = failure
            .diagnostics
            .iter()
            .map(|d| d.render_plain(&failure.sources))
            .collect();
        panic!("seed {}:\n{said}\n{}", program.seed, program.source)
    })
}

fn interpret(program: &Program, module: &Module<Tensor>) {
    let entry = module.entry();
    let inputs: Vec<_> = entry
        .inputs
        .iter()
        .map(|param| {
            let (_, t) = program
                .inputs
                .iter()
                .find(|(name, _)| *name == param.name)
                .expect("the circuit has the parameters that were generated");
            TensorValue::new(t.shape.clone(), t.data.clone()).expect("shape and data agree")
        })
        .collect();
    let values = eval_module(&Clear, module, &inputs)
        .unwrap_or_else(|e| panic!("seed {}: {e}\n{}", program.seed, program.source));
    for ((name, expected), found) in program.outputs.iter().zip(&values) {
        assert_eq!(
            found.shape(),
            expected.shape,
            "seed {}: {name}",
            program.seed
        );
        compare(
            program,
            "the interpreter",
            name,
            &expected.data,
            found.data(),
            1e-9,
        );
    }
}

fn compare(program: &Program, who: &str, name: &str, expected: &[f64], found: &[f64], bound: f64) {
    assert_eq!(
        expected.len(),
        found.len(),
        "seed {}: {who}: {name}",
        program.seed
    );
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        assert!(
            (e - f).abs() <= bound,
            "seed {}: {who}: {name}[{i}] is {f}, not {e}\n{}",
            program.seed,
            program.source
        );
    }
}

/// A lowered circuit run in the clear: what the optimizer, the layout and scale management made of it.
fn run_clear(program: &Program, lowered: &hecc_ir::program::Program, who: &str) {
    let bindings = bindings(program, lowered);
    let plains = resolve_plains(lowered, &bindings).expect("the public part evaluates");
    let circuit = &lowered.circuit;
    let packed: Vec<Vec<f64>> = circuit
        .inputs
        .iter()
        .map(|input| pack(&circuit.meta, &input.packed, &bindings).expect("inputs fit"))
        .collect();
    let backend = ClearBackend::new(circuit, &plains, packed);
    let schedule = Schedule::new(circuit, Fusion::On);
    let execution = execute(circuit, &schedule, &backend, &|_, _| {}).expect("a clear run");
    let slots: Vec<Vec<f64>> = execution.outputs.iter().map(|v| v.to_vec()).collect();
    let results =
        unpack(&circuit.meta, &slots, plains.public(), bindings.instances()).expect("results fit");
    agree(program, who, &results, 1e-6);
}

/// The same with real ciphertexts, within the precision that was promised.
fn run_encrypted(program: &Program, lowered: &hecc_ir::program::Program, who: &str) {
    let bindings = bindings(program, lowered);
    let plains = resolve_plains(lowered, &bindings).expect("the public part evaluates");
    let circuit = &lowered.circuit;
    let context = Context::with_options(lowered.parameters.clone(), Engine::from_environment())
        .expect("parameters are checked");
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&program.seed.to_le_bytes());
    let mut randomness = Randomness::deterministic(seed);
    let secret = context.secret_key(&mut randomness);
    let request = evaluation_keys_needed(circuit, lowered.parameters.log_n());
    let keys = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .expect("keys");
    let with = EncryptWith::Secret(&secret);
    let inputs = encrypt(&context, circuit, &bindings, with, &mut randomness).expect("inputs fit");
    let backend = CkksBackend::new(&context, circuit, &plains, &keys, inputs).expect("a backend");
    let schedule = Schedule::new(circuit, Fusion::On);
    let execution = execute(circuit, &schedule, &backend, &|_, _| {})
        .unwrap_or_else(|e| panic!("seed {}: {e}\n{}", program.seed, program.source));
    let outputs: Vec<_> = execution
        .outputs
        .iter()
        .map(|v| match &**v {
            CkksValue::Cipher(c) => c,
            CkksValue::Plain(_) => panic!("seed {}: an output is a plaintext", program.seed),
        })
        .collect();
    let slots = decrypt(&context, circuit, &outputs, &secret).expect("outputs decrypt");
    let results =
        unpack(&circuit.meta, &slots, plains.public(), bindings.instances()).expect("results fit");
    agree(
        program,
        who,
        &results,
        (-lowered.precision_bits).exp2().max(1e-9),
    );
}

fn bindings(program: &Program, lowered: &hecc_ir::program::Program) -> Bindings {
    let given = program
        .inputs
        .iter()
        .map(|(name, t)| {
            (
                name.clone(),
                Tensor64 {
                    shape: t.shape.clone(),
                    data: t.data.clone(),
                },
            )
        })
        .collect();
    let batch = lowered.circuit.meta.batch;
    bind(&lowered.params, batch, given, Wanted::All)
        .and_then(|b| derive(lowered, b))
        .unwrap_or_else(|e| panic!("seed {}: {e:?}", program.seed))
}

fn agree(program: &Program, who: &str, results: &[Unpacked], bound: f64) {
    assert_eq!(
        results.len(),
        program.outputs.len(),
        "seed {}: {who}",
        program.seed
    );
    for ((name, expected), found) in program.outputs.iter().zip(results) {
        assert_eq!(*name, found.name, "seed {}: {who}", program.seed);
        assert_eq!(
            expected.shape, found.value.shape,
            "seed {}: {who}: {name}",
            program.seed
        );
        compare(program, who, name, &expected.data, &found.value.data, bound);
    }
}

fn compile_at(
    program: &Program,
    checked: &Checked,
    opt_level: u8,
    strategy: Strategy,
    packing: Packing,
    verify: bool,
) -> Option<hecc_ir::program::Program> {
    let options = CompileOptions {
        passes: Options {
            opt_level,
            verify,
            ..Options::default()
        },
        layout: LayoutOptions {
            strategy,
            packing,
            ..LayoutOptions::default()
        },
        unoptimized: false,
        ..CompileOptions::default()
    };
    let module = &checked.circuits[0];
    let compiled = compile(module, &checked.sources, &options).unwrap_or_else(|diagnostics| {
        let said: String = diagnostics
            .iter()
            .map(|d| d.render_plain(&checked.sources))
            .collect();
        panic!(
            "seed {} at -O {opt_level}, {strategy:?}:\n{said}\n{}",
            program.seed, program.source
        )
    });
    if compiled.program.is_none() {
        let said: String = compiled
            .diagnostics
            .iter()
            .map(|d| d.render_plain(&checked.sources))
            .collect();
        // As written a program may need more levels than any secure ring has; never by default.
        assert!(
            opt_level == 0 && said.contains("E3"),
            "seed {} at -O {opt_level}, {strategy:?}: no parameters:\n{said}\n{}",
            program.seed,
            program.source
        );
    }
    compiled.program
}

const CLEAR: Size = Size {
    statements: 5,
    levels: 7,
    extent: 4,
};
const ENCRYPTED: Size = Size {
    statements: 3,
    levels: 4,
    extent: 4,
};
const STRATEGIES: [Strategy; 4] = [
    Strategy::Auto,
    Strategy::Elements,
    Strategy::Packed,
    Strategy::Tiles,
];

/// Tries each seed and tells of all that fail.
fn each(seeds: Range<u64>, check_seed: impl Fn(u64) + Sync + RefUnwindSafe) {
    let failed: Vec<u64> = seeds
        .into_par_iter()
        .filter(|&seed| catch_unwind(|| check_seed(seed)).is_err())
        .collect();
    assert!(
        failed.is_empty(),
        "seeds that fail, what they say stands above: {failed:?}"
    );
}

fn clear(seed: u64) {
    clear_program(&generate::program(seed, CLEAR), seed);
}

fn training(seed: u64) {
    clear_program(&generate::training(seed), seed);
}

fn clear_program(program: &Program, seed: u64) {
    let checked = check(program);
    interpret(program, &checked.circuits[0]);
    for opt_level in 0..=3 {
        // Every layout is tried at every level, in turn: three programs see all twelve pairs.
        let strategy = STRATEGIES[(seed as usize + usize::from(opt_level)) % STRATEGIES.len()];
        if let Some(lowered) =
            compile_at(program, &checked, opt_level, strategy, Packing::Auto, true)
        {
            run_clear(program, &lowered, &format!("-O {opt_level}, {strategy:?}"));
        }
    }
}

fn encrypted(seed: u64) {
    encrypted_program(&generate::program(seed, ENCRYPTED), seed);
}

fn encrypted_program(program: &Program, seed: u64) {
    let checked = check(program);
    let strategy = STRATEGIES[seed as usize % STRATEGIES.len()];
    if let Some(lowered) = compile_at(program, &checked, 2, strategy, Packing::Auto, false) {
        run_encrypted(program, &lowered, "the encrypted run");
    }
}

/// What an objective stands for: depth, levels, work, time, bytes of messages. Without parameters the
/// last three are not known.
type Costs = [Option<f64>; 5];

fn costs(checked: &Checked, objective: Objective, opt_level: u8) -> Costs {
    let options = CompileOptions {
        passes: Options {
            opt_level,
            objective,
            ..Options::default()
        },
        unoptimized: false,
        timing: times,
        ..CompileOptions::default()
    };
    let compiled = compile(&checked.circuits[0], &checked.sources, &options)
        .unwrap_or_else(|d| panic!("{objective:?}: {}", d[0].message));
    let measures = &compiled.report.measures;
    let program = compiled.program.as_ref();
    let taken = program.map(|p| times(&p.circuit, &p.parameters, &options.cost));
    let bytes = program.map(|p| {
        let inputs = p.circuit.inputs.iter().map(|i| i.level);
        let outputs = p.circuit.outputs.iter();
        let outputs = outputs.map(|(id, ())| p.circuit.graph.ty(*id).level());
        let sizes = inputs
            .chain(outputs)
            .map(|l| p.parameters.polynomial_bytes(l));
        2.0 * sizes.sum::<u64>() as f64
    });
    [
        Some(measures.depth as f64),
        Some(measures.levels as f64),
        taken.map(|t| t.0),
        taken.map(|t| t.1),
        bytes,
    ]
}

/// No objective gives less of what another stands for.
fn each_objective_wins(checked: &Checked, opt_level: u8, what: &str) {
    let all = Objective::ALL.map(|objective| costs(checked, objective, opt_level));
    for (i, own) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            if let (Some(own), Some(other)) = (own[i], other[i]) {
                assert!(
                    own <= other,
                    "{what} at -O {opt_level}: --objective {:?} gives {own} of what it minimises, and {:?} {other}",
                    Objective::ALL[i],
                    Objective::ALL[j]
                );
            }
        }
    }
}

const BATCH_CLEAR: Size = Size {
    statements: 3,
    levels: 5,
    extent: 4,
};
const BATCH_ENCRYPTED: Size = Size {
    statements: 2,
    levels: 3,
    extent: 3,
};

/// One and two instances in a slot; yields how many of the two programs are complex.
fn batch(seed: u64, size: Size, run: fn(&Program, &hecc_ir::program::Program, &str)) -> usize {
    let program = generate::batched(seed, size, 1 + seed as usize % 5);
    let checked = check(&program);
    let opt_level = if seed.is_multiple_of(3) { 1 } else { 2 };
    [Packing::Real, Packing::Complex]
        .into_iter()
        .filter_map(|packing| {
            compile_at(&program, &checked, opt_level, Strategy::Auto, packing, true)
                .inspect(|lowered| run(&program, lowered, &format!("-O {opt_level}, {packing:?}")))
        })
        .filter(|lowered| lowered.circuit.meta.complex)
        .count()
}

/// Seeds from the environment in place of those of the suite.
fn seeds(default: Range<u64>) -> Range<u64> {
    std::env::var("HECC_SEEDS").ok().map_or(default, |text| {
        let (a, b) = text.split_once("..").expect("HECC_SEEDS is FIRST..END");
        a.parse().expect("a number")..b.parse().expect("a number")
    })
}

#[test]
fn clear_seeds_0_to_512() {
    each(seeds(0..512), clear);
}

#[test]
fn adversarial_seeds_0_to_128() {
    each(seeds(0..128), |seed| {
        clear_program(&adversarial::program(seed), seed);
    });
}

#[test]
fn encrypted_adversarial_seeds_40000_to_40016() {
    each(seeds(40_000..40_016), |seed| {
        encrypted_program(&adversarial::program(seed), seed);
    });
}

#[test]
fn every_objective_wins_by_its_own_measure() {
    each(seeds(50_000..50_024), |seed| {
        let program = match seed % 3 {
            0 => generate::program(seed, ENCRYPTED),
            _ => adversarial::program(seed),
        };
        let checked = check(&program);
        let what = format!("seed {seed}\n{}", program.source);
        each_objective_wins(&checked, 1 + seed as u8 % 3, &what);
    });
}

#[test]
fn every_objective_wins_on_shipped_circuits() {
    let circuits = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../circuits"));
    for name in [
        "quartic",
        "polynomial",
        "matmul",
        "dot_product",
        "statistics",
    ] {
        let path = circuits.join(format!("{name}.hec"));
        let checked = load_program(&path, &Disk, Limits::default()).expect("it is shipped");
        each_objective_wins(&checked, 2, name);
    }
    // a chain whose depth is less where something else was minimised
    let steps = "        r = (c * r + a) * a;\n";
    let source = format!(
        "circuit f(a: secret real, c: secret real) -> r: real {{\n    var r = a;\n    for i in 0..6 {{\n{steps}    }}\n    return r;\n}}\n"
    );
    let checked = load_program(Path::new("chain.hec"), &OneFile(source), Limits::default());
    each_objective_wins(&checked.expect("it is right"), 2, "a chain of six");
}

#[test]
fn training_seeds_0_to_48() {
    each(seeds(0..48), training);
}

#[test]
fn encrypted_seeds_10000_to_10024() {
    each(seeds(10_000..10_024), encrypted);
}

#[test]
fn batches_seeds_20000_to_20096() {
    let complex = AtomicUsize::new(0);
    let seeds = seeds(20_000..20_096);
    let count = seeds.clone().count();
    each(seeds, |seed| {
        complex.fetch_add(batch(seed, BATCH_CLEAR, run_clear), Ordering::Relaxed);
    });
    // Products with a public parameter keep a program to one instance in a slot.
    let complex = complex.into_inner();
    assert!(complex * 4 >= count, "{complex} of {count} are complex");
}

#[test]
fn encrypted_batches_seeds_30000_to_30012() {
    each(seeds(30_000..30_012), |seed| {
        batch(seed, BATCH_ENCRYPTED, run_encrypted);
    });
}
