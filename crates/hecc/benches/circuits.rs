//! The shipped circuits, compiled and evaluated under encryption on random inputs, results checked
//! against the program as written. `cargo bench -p hecc --bench circuits`.
//!
//! Beside each circuit stands the most memory that its evaluation took, relative to what cannot be
//! avoided: the ciphertexts that are alive at once and the evaluation keys. Scratch space, plaintexts and idle buffers are
//! the rest.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hecc_ckks::{Ciphertext, Context, Options, Randomness};
use hecc_ir::program::Program;
use hecc_lang::{FileSystem, Limits, load_program};
use hecc_passes::{CompileOptions, compile};
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, EncryptWith, Fusion, Schedule, Tensor64, Wanted, bind,
    decrypt, encrypt, evaluation_keys_needed, execute, max_abs_error, reference, resolve_plains,
    unpack,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// File, circuit, and how many instances of a batch.
const CIRCUITS: [(&str, &str, Option<usize>); 7] = [
    ("quartic", "quartic", None),
    ("dot_product", "dot_product", None),
    ("matrix_vector", "matrix_vector", None),
    ("matmul", "matmul", None),
    ("sobel", "sobel", None),
    ("statistics", "statistics", None),
    ("cryptonets", "batch", Some(64)),
];

struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

fn program(file: &str, circuit: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../circuits")
        .join(file)
        .with_extension("hec");
    let checked = load_program(&path, &Disk, Limits::default())
        .unwrap_or_else(|failure| panic!("{file}: {:?}", failure.diagnostics));
    let module = checked
        .circuits
        .iter()
        .find(|m| m.entry().name == circuit)
        .unwrap_or_else(|| panic!("{file} has no circuit {circuit}"));
    compile(module, &checked.sources, &CompileOptions::default())
        .unwrap_or_else(|found| panic!("{file}: {found:?}"))
        .program
        .expect("parameters that fit")
}

/// Values drawn uniformly from their ranges.
fn random(program: &Program, instances: Option<usize>) -> Bindings {
    let mut generator = StdRng::seed_from_u64(1);
    let values = program
        .params
        .iter()
        .map(|param| {
            let range = param.interval();
            let mut shape: Vec<usize> = param.shape.to_vec();
            shape.splice(0..0, instances);
            let data = (0..shape.iter().product())
                .map(|_| range.lo + (range.hi - range.lo) * generator.random::<f64>())
                .collect();
            (param.name.clone(), Tensor64 { shape, data })
        })
        .collect();
    bind(
        &program.params,
        program.circuit.meta.batch,
        values,
        Wanted::All,
    )
    .expect("values that fit")
}

fn circuits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("circuits");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    for (file, name, instances) in CIRCUITS {
        let program = program(file, name);
        let circuit = &program.circuit;
        let bindings = random(&program, instances);
        let expected = reference(&program, &bindings).expect("a value").outputs;
        let plains = resolve_plains(&program, &bindings).expect("plaintexts");
        let schedule = Schedule::new(circuit, Fusion::On);
        let context =
            Context::with_options(program.parameters.clone(), Options::from_environment())
                .expect("a context");
        let mut randomness = Randomness::deterministic([1; 32]);
        let secret = context.secret_key(&mut randomness);
        let request = evaluation_keys_needed(circuit, program.parameters.log_n());
        let keys = context
            .evaluation_keys(&secret, &request, &mut randomness)
            .expect("keys");
        context.release_memory();
        let before = context.memory().live;
        let key = EncryptWith::Secret(&secret);
        let inputs = encrypt(&context, circuit, &bindings, key, &mut randomness).expect("inputs");

        context.release_memory();
        let encrypted = context.memory().live - before;
        let backend = CkksBackend::new(&context, circuit, &plains, &keys, inputs.clone())
            .expect("a back-end");
        context.release_memory();
        let copies = context.memory().live - before - encrypted;
        let execution = execute(circuit, &schedule, &backend, &|_, _| {}).expect("a result");
        let peak = context.memory().peak - before - copies + keys.memory();
        let live = schedule
            .peak_bytes(program.parameters.log_n().degree())
            .max(encrypted)
            + keys.memory();

        let outputs: Vec<&Ciphertext> = execution
            .outputs
            .iter()
            .filter_map(|value| match &**value {
                CkksValue::Cipher(c) => Some(c),
                CkksValue::Plain(_) => None,
            })
            .collect();
        let slots = decrypt(&context, circuit, &outputs, &secret).expect("decrypted");
        let got =
            unpack(&circuit.meta, &slots, plains.public(), bindings.instances()).expect("unpacked");
        let error = max_abs_error(&got, &expected);
        let promised = 2f64.powf(-program.precision_bits);
        assert!(
            error <= promised,
            "{file}: error {error:e}, promised {promised:e}"
        );
        println!(
            "{file}: N = {}, largest error {error:.1e} (promised {promised:.1e}); {} KiB of ciphertexts and keys, {} KiB of polynomials and keys at most: {:.2}",
            program.parameters.log_n().degree(),
            live >> 10,
            peak >> 10,
            peak as f64 / live as f64
        );
        drop((execution, backend));
        group.bench_function(file, |b| {
            b.iter_batched(
                || {
                    CkksBackend::new(&context, circuit, &plains, &keys, inputs.clone())
                        .expect("a back-end")
                },
                |backend| black_box(execute(circuit, &schedule, &backend, &|_, _| {})),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, circuits);
criterion_main!(benches);
