//! The shipped circuits, ready to be evaluated on random inputs: for a test and a bench.

use std::fs;
use std::io;
use std::path::Path;

use hecc_ckks::{Ciphertext, Context, EvaluationKeys, Options, Randomness, SecretKey};
use hecc_ir::program::Program;
use hecc_lang::{FileSystem, Limits, load_program};
use hecc_passes::{CompileOptions, compile};
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, EncryptWith, EncryptedInput, Execution, Fusion, Plains,
    Schedule, Tensor64, Wanted, bind, decrypt, encrypt, evaluation_keys_needed, execute,
    max_abs_error, reference, resolve_plains, unpack,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

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

/// A circuit with keys and encrypted inputs.
pub(crate) struct Ready {
    pub(crate) program: Program,
    bindings: Bindings,
    plains: Plains,
    schedule: Schedule,
    pub(crate) context: Context,
    secret: SecretKey,
    keys: EvaluationKeys,
    pub(crate) inputs: Vec<EncryptedInput>,
    /// Bytes of the inputs.
    encrypted: usize,
}

impl Ready {
    /// A circuit of a file in `circuits/`, for so many instances of a batch.
    pub(crate) fn new(file: &str, circuit: &str, instances: Option<usize>) -> Ready {
        let program = program(file, circuit);
        let bindings = random(&program, instances);
        let plains = resolve_plains(&program, &bindings).expect("plaintexts");
        let schedule = Schedule::new(&program.circuit, Fusion::On);
        let context =
            Context::with_options(program.parameters.clone(), Options::from_environment())
                .expect("a context");
        let mut randomness = Randomness::deterministic([1; 32]);
        let secret = context.secret_key(&mut randomness);
        let request = evaluation_keys_needed(&program.circuit, program.parameters.log_n());
        let keys = context
            .evaluation_keys(&secret, &request, &mut randomness)
            .expect("keys");
        let before = context.memory().live;
        let with = EncryptWith::Secret(&secret);
        let inputs =
            encrypt(&context, &program.circuit, &bindings, with, &mut randomness).expect("inputs");
        let encrypted = context.memory().live - before;
        Ready {
            program,
            bindings,
            plains,
            schedule,
            context,
            secret,
            keys,
            inputs,
            encrypted,
        }
    }

    pub(crate) fn backend(&self, inputs: Vec<EncryptedInput>) -> CkksBackend<'_> {
        CkksBackend::new(
            &self.context,
            &self.program.circuit,
            &self.plains,
            &self.keys,
            inputs,
        )
        .expect("a back-end")
    }

    pub(crate) fn execute(&self, backend: &CkksBackend<'_>) -> Execution<CkksValue> {
        execute(&self.program.circuit, &self.schedule, backend, &|_, _| {}).expect("a result")
    }

    /// Evaluates once, with the inputs handed over. Beside the results the bytes that cannot be avoided, of the
    /// ciphertexts that are alive at once and the evaluation keys, and the most bytes of polynomials and keys
    /// that there were, but for what is there whatever is evaluated.
    pub(crate) fn memory(&mut self) -> (Execution<CkksValue>, usize, usize) {
        let inputs = std::mem::take(&mut self.inputs);
        let rest = self.context.memory().live - self.encrypted;
        let backend = self.backend(inputs);
        self.context.release_memory();
        let execution = self.execute(&backend);
        drop(backend);
        let keys = self.keys.memory();
        let peak = self.context.memory().peak - rest + keys;
        let degree = self.program.parameters.log_n().degree();
        let live = self.schedule.peak_bytes(degree).max(self.encrypted) + keys;
        (execution, live, peak)
    }

    /// Decrypts results, and holds them against the program as written and what the compiler promised: the largest
    /// error, and the one that is promised.
    pub(crate) fn check(&self, execution: &Execution<CkksValue>) -> (f64, f64) {
        let outputs: Vec<&Ciphertext> = execution
            .outputs
            .iter()
            .filter_map(|value| match &**value {
                CkksValue::Cipher(c) => Some(c),
                CkksValue::Plain(_) => None,
            })
            .collect();
        let (program, plains) = (&self.program, self.plains.public());
        let circuit = &program.circuit;
        let slots = decrypt(&self.context, circuit, &outputs, &self.secret).expect("decrypted");
        let got = unpack(&circuit.meta, &slots, plains, self.bindings.instances());
        let expected = reference(program, &self.bindings).expect("a value");
        let error = max_abs_error(&got.expect("unpacked"), &expected.outputs);
        let promised = 2f64.powf(-program.precision_bits);
        assert!(error <= promised, "error {error:e}, promised {promised:e}");
        (error, promised)
    }
}
