//! The most memory that evaluations take, relative to what cannot be avoided.

use std::fs;
use std::io;
use std::path::Path;

use hecc_ckks::{Context, Options, Randomness};
use hecc_ir::program::Program;
use hecc_lang::{FileSystem, Limits, load_program};
use hecc_passes::{CompileOptions, compile};
use hecc_runtime::{
    Backend, Bindings, CkksBackend, EncryptWith, Fusion, Operands, RuntimeError, Schedule, Task,
    Tensor64, Wanted, bind, encrypt, evaluation_keys_needed, execute, resolve_plains,
};

struct Disk;

impl FileSystem for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

fn program(file: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../circuits")
        .join(file)
        .with_extension("hec");
    let checked = load_program(&path, &Disk, Limits::default()).unwrap_or_else(|failure| panic!("{:?}", failure.diagnostics));
    let module = checked.circuits.iter().find(|m| m.entry().name == file).unwrap();
    compile(module, &checked.sources, &CompileOptions::default())
        .unwrap_or_else(|found| panic!("{found:?}"))
        .program
        .expect("parameters that fit")
}

struct Spy<'a>(CkksBackend<'a>, &'a Context, usize);
impl<'a> Backend for Spy<'a> {
    type Value = <CkksBackend<'a> as Backend>::Value;
    fn perform(&self, task: &Task, operands: Operands<Self::Value>, parallel: bool) -> Result<smallvec::SmallVec<[Self::Value; 1]>, RuntimeError> {
        let m = self.1.memory();
        let r = self.0.perform(task, operands, parallel);
        let e = self.1.memory();
        let u = self.2 as f64;
        if std::env::var_os("SPY").is_some() { println!("{:?} par {parallel} live {:.1}->{:.1} idle {:.1}->{:.1} peak {:.1}->{:.1}", task.work, m.live as f64/u, e.live as f64/u, m.idle as f64/u, e.idle as f64/u, m.peak as f64/u, e.peak as f64/u); }
        r
    }
}

#[test]
fn ratio() {
    for file in ["quartic", "matrix_vector", "matmul", "sobel", "dot_product", "statistics"] {
        let program = program(file);
        let circuit = &program.circuit;
        let values = program.params.iter().map(|p| (p.name.clone(), Tensor64 { shape: p.shape.to_vec(), data: vec![0.5 * (p.interval().lo + p.interval().hi); p.shape.iter().product()] })).collect();
        let bindings: Bindings = bind(&program.params, circuit.meta.batch, values, Wanted::All).unwrap();
        let plains = resolve_plains(&program, &bindings).unwrap();
        let schedule = Schedule::new(circuit, Fusion::On);
        let context = Context::with_options(program.parameters.clone(), Options::from_environment()).unwrap();
        let mut randomness = Randomness::deterministic([1; 32]);
        let secret = context.secret_key(&mut randomness);
        let request = evaluation_keys_needed(circuit, program.parameters.log_n());
        let keys = context.evaluation_keys(&secret, &request, &mut randomness).unwrap();
        context.release_memory();
        let before = context.memory().live;
        let inputs = encrypt(&context, circuit, &bindings, EncryptWith::Secret(&secret), &mut randomness).unwrap();
        context.release_memory();
        let encrypted = context.memory().live - before;
        let unit = program.parameters.log_n().degree() * 8;
        println!("{file} N {} limbs {} special {} before {} encrypted {} keys {:.1} schedule peak {}", program.parameters.log_n().degree(), program.parameters.q().len(), program.parameters.p().len(), before / unit, encrypted / unit, keys.memory() as f64 / unit as f64, schedule.peak_bytes(unit / 8) / unit);
        let backend = CkksBackend::new(&context, circuit, &plains, &keys, inputs).unwrap();
        context.release_memory();
        let backend = Spy(backend, &context, unit);
        let execution = execute(circuit, &schedule, &backend, &|_, _| {}).unwrap();
        let peak = context.memory().peak - before + keys.memory();
        let live = schedule.peak_bytes(unit / 8).max(encrypted) + keys.memory();
        println!("{file}: {:.2} ({} / {})", peak as f64 / live as f64, peak / unit, live / unit);
        drop(execution);
    }
}
