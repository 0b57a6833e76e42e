//! The most memory that evaluations take, relative to what cannot be avoided: the ciphertexts that are alive at
//! once and the evaluation keys.

#[path = "common/circuits.rs"]
mod circuits;

use circuits::Ready;

/// Circuits, and the most that they may take. The digits and products of a key switch weigh more, the fewer
/// ciphertexts a circuit has.
const CIRCUITS: [(&str, f64); 6] = [
    ("dot_product", 1.3),
    ("matmul", 1.3),
    ("matrix_vector", 1.3),
    ("quartic", 1.5),
    ("sobel", 1.3),
    ("statistics", 1.3),
];

#[test]
fn evaluations_take_little_more_than_what_is_alive() {
    // On one, so that it is the same every time: on more it depends on which operations run at once.
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    for (name, most) in CIRCUITS {
        let (live, peak, most) = threads.install(|| {
            let mut ready = Ready::new(name, name, None);
            let (execution, live, peak) = ready.memory();
            ready.check(&execution);
            // Without AVX-512 residues are not packed while they wait for conversion.
            let most = most
                + if ready.context.accelerated() {
                    0.0
                } else {
                    0.1
                };
            (live, peak, most)
        });
        let ratio = peak as f64 / live as f64;
        println!(
            "{name}: {} KiB of {} KiB, {ratio:.2}",
            peak >> 10,
            live >> 10
        );
        assert!(ratio <= most, "{name}: {peak} bytes where {live} are alive");
    }
}
