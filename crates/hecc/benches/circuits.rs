//! The shipped circuits, compiled and evaluated under encryption on random inputs, results checked
//! against the program as written. `cargo bench -p hecc --bench circuits`.
//!
//! Beside each circuit stands the most memory that its evaluation took, relative to what cannot be
//! avoided: the ciphertexts that are alive at once and the evaluation keys. Scratch space, plaintexts and idle buffers are
//! the rest.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

#[path = "../tests/common/circuits.rs"]
mod common;

use common::Ready;

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

fn circuits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("circuits");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    for (file, name, instances) in CIRCUITS {
        let mut ready = Ready::new(file, name, instances);
        let inputs = ready.inputs.clone();
        let (execution, live, peak) = ready.memory();
        let (error, promised) = ready.check(&execution);
        println!(
            "{file}: N = {}, largest error {error:.1e} (promised {promised:.1e}); {} KiB of ciphertexts and keys, {} KiB of polynomials and keys at most: {:.2}",
            ready.program.parameters.log_n().degree(),
            live >> 10,
            peak >> 10,
            peak as f64 / live as f64
        );
        drop(execution);
        group.bench_function(file, |b| {
            b.iter_batched(
                || ready.backend(inputs.clone()),
                |backend| black_box(ready.execute(&backend)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, circuits);
criterion_main!(benches);
