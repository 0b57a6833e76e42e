//! Every operation at three sizes, least of many runs, in milliseconds (of the thread's processor time; by the
//! wall where two threads work) and in units of one forward NTT of that size (tfhe-ntt, a prime of 49 bits).
//! The operations and the unit take turns, a few runs each, so that all of them see the same machine.
//!
//! `cargo bench -p hecc-ckks --bench table [-- [ring degrees] [words of operation names]]`; `HECC_PORTABLE=1` for the
//! portable kernels. Results are checked. The parameters of N = 8192 are four bits above what the
//! security table allows, as in the libraries that they are compared with: they are for measuring only.

use std::hint::black_box;
use std::time::Instant;

use hecc_ckks::params::{
    GaloisElement, Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security,
    ntt_prime_nearest, ntt_primes_below,
};
use hecc_ckks::{Context, Diagonals, EvaluationKeyRequest, Options, Randomness, Weight, measure};

/// Ring, limbs, special primes, digit size, and the units asked for per operation.
const SIZES: [(u8, usize, usize); 3] = [(13, 4, 1), (14, 8, 2), (15, 16, 4)];

/// Seconds that this thread has computed: other processes on the machine do not count.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the standard library has no clock of processor time"
)]
fn processor_time() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the struct is that of the C library on 64-bit Linux, and lives through the call.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn processor_time() -> f64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Milliseconds of the quickest of many runs; of this thread's processor time, or by the wall.
fn least(runs: u32, wall: bool, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let elapsed = if wall {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        } else {
            let start = processor_time();
            f();
            processor_time() - start
        };
        best = best.min(elapsed);
    }
    best * 1e3
}

/// An operation that is measured.
struct Row<'a> {
    name: &'static str,
    /// Units, or multiples of another row.
    asked: &'static str,
    run: Box<dyn FnMut() + 'a>,
    /// Milliseconds.
    best: f64,
}

/// Measures all rows by turns, and returns the milliseconds of the unit.
fn measure_all(rows: &mut [Row<'_>], rounds: usize, mut unit: impl FnMut()) -> f64 {
    // Runs of one turn: the first ones find their operands in no cache.
    const BURST: u32 = 3;
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        best = best.min(least(20, false, &mut unit));
        for row in rows.iter_mut() {
            let wall = row.name.ends_with("threads");
            row.best = row.best.min(least(BURST, wall, &mut row.run));
        }
    }
    best
}

fn main() {
    let (sizes, filter): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .partition(|a| a.parse::<usize>().is_ok());
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    for (log_n, limbs, special) in SIZES {
        let scale = Scale(2f64.powi(40));
        let log_n = LogN(log_n);
        let n = log_n.degree();
        if !(sizes.is_empty() || sizes.contains(&n.to_string())) {
            continue;
        }
        let p = ntt_primes_below(log_n, 1 << 49, special + 1, &[]);
        let (first, p) = p.split_first().expect("there are such primes");
        let mut q = vec![*first];
        while q.len() < limbs {
            q.push(ntt_prime_nearest(log_n, scale.0, 1 << 50, &q).expect("there are such primes"));
        }
        let unit_prime = *first;
        let parameters = Parameters::new(ParametersLiteral {
            log_n,
            q,
            p: p.to_vec(),
            digit_limbs: special,
            scale,
            security: Security::Insecure,
        })
        .expect("valid parameters");
        let log_qp = parameters.log_qp();
        let bits = parameters.security_bits();
        let c = Context::with_options(parameters, Options::from_environment()).expect("a context");
        let top = Level(limbs as u32 - 1);
        let mut randomness = Randomness::deterministic([1; 32]);
        let secret = c.secret_key(&mut randomness);
        let public = c.public_key(&secret, &mut randomness).expect("a key");
        let mut request = EvaluationKeyRequest::default();
        request.relinearize_at(top);
        for step in 0..8 {
            request.apply_at(GaloisElement::rotation(RotationStep(1 << step), log_n), top);
        }
        let keys = c
            .evaluation_keys(&secret, &request, &mut randomness)
            .expect("keys");

        let plan = tfhe_ntt::prime64::Plan::try_new(n, unit_prime).expect("a plan");
        let mut buffer: Vec<u64> = (0..n as u64).map(|i| i * 12345 % unit_prime).collect();
        let unit = least(400, false, || plan.fwd(black_box(&mut buffer)));

        let own = |prime: usize, forward: bool| {
            let mut x: Vec<u64> = (0..n as u64).collect();
            least(400, false, || {
                if forward {
                    measure::forward(&c, prime, black_box(&mut x));
                } else {
                    measure::inverse(&c, prime, black_box(&mut x));
                }
            }) / unit
        };
        println!(
            "own transforms in units: {:.2} forward and {:.2} inverse at 49 bits, {:.2} and {:.2} at 40",
            own(0, true),
            own(0, false),
            own(1, true),
            own(1, false)
        );

        let rounds = 6_000_000 / (n * limbs) + 20;
        println!(
            "\nN = {n}, {limbs} limbs, {special} special primes, log2 QP = {log_qp:.0}{}, {} kernels; one NTT {:.1} µs",
            if bits == 0 {
                " (NOT SECURE: for measuring only)"
            } else {
                ""
            },
            if c.accelerated() { "IFMA" } else { "portable" },
            unit * 1e3
        );
        let values: Vec<f64> = (0..n / 2)
            .map(|i| ((i * 37 % 1000) as f64 - 500.0) / 500.0)
            .collect();
        let plain = c.encode(&values, top, scale).expect("encoded");
        let x = c
            .encrypt(&plain, &public, &mut randomness)
            .expect("encrypted");
        let shifted: Vec<f64> = (0..n / 2).map(|i| values[(i + 1) % (n / 2)]).collect();
        let y = c.encode(&shifted, top, scale).expect("encoded");
        let y = c.encrypt(&y, &public, &mut randomness).expect("encrypted");
        let product = c.mul(&x, &y).expect("multiplied");
        let bottom = c.drop_level(&x, Level(0)).expect("dropped");
        let bottom_plain = c.decrypt(&bottom, &secret).expect("decrypted");
        let steps: Vec<RotationStep> = (0..8).map(|i| RotationStep(1 << i)).collect();
        let weights: Vec<_> = (0..8)
            .map(|i| {
                let w: Vec<f64> = values.iter().map(|v| v * (i as f64 + 1.0) / 8.0).collect();
                c.encode_extended(&w, top, scale).expect("encoded")
            })
            .collect();
        let terms: Vec<_> = steps
            .iter()
            .zip(&weights)
            .map(|(&s, w)| (s, Weight::Plain(w)))
            .collect();

        // Results first.
        let check = |name: &str, ct: &hecc_ckks::Ciphertext, f: &dyn Fn(usize) -> f64| {
            let got = c
                .decode(&c.decrypt(ct, &secret).expect("decrypted"))
                .expect("decoded");
            let worst = got
                .iter()
                .enumerate()
                .map(|(i, g)| (g - f(i)).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-4, "{name}: wrong by {worst:e}");
            worst
        };
        let at = |i: usize| values[i % (n / 2)];
        let fresh = check("encrypt", &x, &at);
        let once = c.relinearize_rescale(&product, &keys).expect("done");
        let once = check("multiply", &once, &|i| at(i) * at(i + 1));
        let sum = c.rotate_sum(&x, &terms, scale, &keys).expect("done");
        check("rotate_sum", &sum, &|i| {
            (0..8)
                .map(|t| at(i + (1 << t)) * at(i) * (t as f64 + 1.0) / 8.0)
                .sum()
        });
        println!(
            "precision: fresh {:.1} bits, after one product {:.1} bits",
            -fresh.log2(),
            -once.log2()
        );

        let parallel = c.parallel(true);
        let mut one_key = EvaluationKeyRequest::default();
        one_key.apply_at(GaloisElement::rotation(RotationStep(1), log_n), top);
        let mut key_randomness = Randomness::deterministic([4; 32]);
        let mut more_randomness = Randomness::deterministic([3; 32]);
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut row = |name, asked: [&'static str; 3], run| {
            if wanted(name) {
                rows.push(Row {
                    name,
                    asked: asked[(log_n.0 - 13) as usize],
                    run,
                    best: f64::INFINITY,
                });
            }
        };
        row("add in place", ["1", "5", "9"], {
            let mut t = x.clone();
            let (c, y) = (&c, &y);
            Box::new(move || c.add_assign(&mut t, y).expect("done"))
        });
        row(
            "multiply",
            ["5", "15", "27"],
            Box::new(|| {
                black_box(c.mul(&x, &y).expect("done"));
            }),
        );
        row(
            "square",
            ["", "", ""],
            Box::new(|| {
                black_box(c.square(&x).expect("done"));
            }),
        );
        row(
            "multiply by plaintext",
            ["2", "10", "18"],
            Box::new(|| {
                black_box(c.mul_plain(&x, &plain).expect("done"));
            }),
        );
        row(
            "relinearize",
            ["48", "130", "340"],
            Box::new(|| {
                black_box(c.relinearize(&product, &keys).expect("done"));
            }),
        );
        row(
            "rescale",
            ["10", "22", "45"],
            Box::new(|| {
                black_box(c.rescale(&x).expect("done"));
            }),
        );
        row(
            "multiply+relinearize+rescale",
            ["56", "125", "270"],
            Box::new(|| {
                let product = c.mul(&x, &y).expect("done");
                black_box(c.relinearize_rescale(&product, &keys).expect("done"));
            }),
        );
        row(
            "rotate by 1",
            ["48", "95", "215"],
            Box::new(|| {
                black_box(c.rotate(&x, RotationStep(1), &keys).expect("done"));
            }),
        );
        row(
            "8 rotations, hoisted",
            ["5 rot", "4.5 rot", "4.5 rot"],
            Box::new(|| {
                black_box(c.rotate_hoisted(&x, &steps, &keys).expect("done"));
            }),
        );
        row(
            "sum of 8 rotated and scaled",
            ["3.5 rot", "3 rot", "3 rot"],
            Box::new(|| {
                black_box(c.rotate_sum(&x, &terms, scale, &keys).expect("done"));
            }),
        );
        row(
            "encode",
            ["15", "22", "40"],
            Box::new(|| {
                black_box(c.encode(&values, top, scale).expect("done"));
            }),
        );
        row(
            "encrypt, public key",
            ["55", "85", "150"],
            Box::new(|| {
                black_box(c.encrypt(&plain, &public, &mut randomness).expect("done"));
            }),
        );
        row(
            "encode+encrypt, symmetric",
            ["71", "116", "194"],
            Box::new(|| {
                let plain = c.encode(&values, top, scale).expect("done");
                black_box(
                    c.encrypt_symmetric(&plain, &secret, &mut more_randomness)
                        .expect("done"),
                );
            }),
        );
        row(
            "a key for rotations",
            ["", "", ""],
            Box::new(|| {
                let made = c.evaluation_keys(&secret, &one_key, &mut key_randomness);
                black_box(made.expect("done"));
            }),
        );
        row(
            "decrypt, top level",
            ["3", "9", "15"],
            Box::new(|| {
                black_box(c.decrypt(&x, &secret).expect("done"));
            }),
        );
        row(
            "decode, top level",
            ["68", "160", "388"],
            Box::new(|| {
                black_box(c.decode(&plain).expect("done"));
            }),
        );
        row(
            "decode, 1 limb",
            ["", "", ""],
            Box::new(|| {
                black_box(c.decode(&bottom_plain).expect("done"));
            }),
        );
        row(
            "decrypt+decode, 1 limb",
            ["8", "9", "10"],
            Box::new(|| {
                let plain = c.decrypt(&bottom, &secret).expect("done");
                black_box(c.decode(&plain).expect("done"));
            }),
        );
        row(
            "multiply+relin+rescale, 2 threads",
            ["0.6 of 1", "0.58 of 1", "0.55 of 1"],
            Box::new(|| {
                rayon::scope(|_| {
                    let product = parallel.mul(&x, &y).expect("done");
                    black_box(parallel.relinearize_rescale(&product, &keys).expect("done"));
                });
            }),
        );
        let unit = unit.min(measure_all(&mut rows, rounds, || {
            plan.fwd(black_box(&mut buffer));
        }));
        let best = |name| rows.iter().find(|r| r.name == name).map(|r| r.best);
        let rotation = best("rotate by 1");
        let product = best("multiply+relinearize+rescale");
        println!("one NTT {:.2} µs", unit * 1e3);
        println!(
            "{:36} {:>9} {:>8} {:>10}",
            "operation", "ms", "units", "asked"
        );
        for Row {
            name, asked, best, ..
        } in &rows
        {
            let of =
                |whole: Option<f64>, unit| whole.map(|w| format!("  = {:.2} {unit}", best / w));
            let relative = match asked.split_once(' ') {
                Some((_, "rot")) => of(rotation, "rot"),
                Some(_) => of(product, "of 1"),
                None => None,
            };
            let (units, relative) = (best / unit, relative.unwrap_or_default());
            println!("{name:36} {best:9.4} {units:8.1} {asked:>10}{relative}");
        }
    }
    if wanted("matrix-vector") && (sizes.is_empty() || sizes.iter().any(|s| s == "8192")) {
        linear();
    }
}

/// A 128×128 matrix times an encrypted vector at N = 8192, 2 limbs and one special prime.
fn linear() {
    const SIZE: usize = 128;
    let log_n = LogN(13);
    let n = log_n.degree();
    let scale = Scale(2f64.powi(40));
    let mut q = ntt_primes_below(log_n, 1 << 49, 2, &[]);
    let p = q.split_off(1);
    let unit_prime = q[0];
    q.push(ntt_prime_nearest(log_n, scale.0, 1 << 50, &q).expect("there is such a prime"));
    let last = Scale(q[1] as f64);
    let parameters = Parameters::new(ParametersLiteral {
        log_n,
        q,
        p,
        digit_limbs: 1,
        scale,
        security: Security::Bits128,
    })
    .expect("valid parameters");
    let c = Context::with_options(parameters, Options::from_environment()).expect("a context");
    let top = Level(1);
    let mut randomness = Randomness::deterministic([2; 32]);
    let secret = c.secret_key(&mut randomness);
    let matrix: Vec<f64> = (0..SIZE * SIZE)
        .map(|i| ((i * 7919 % 1009) as f64 - 504.0) / 504.0)
        .collect();
    let vector: Vec<f64> = (0..SIZE)
        .map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0)
        .collect();
    let map = Diagonals::from_matrix(&matrix, SIZE, SIZE).expect("a matrix");
    let transform = c.encode_linear(&map, top, last).expect("encoded");
    let mut request = EvaluationKeyRequest::default();
    transform.request_keys(&c, &mut request);
    let keys = c
        .evaluation_keys(&secret, &request, &mut randomness)
        .expect("keys");
    let plain = c.encode(&vector, top, scale).expect("encoded");
    let x = c
        .encrypt_symmetric(&plain, &secret, &mut randomness)
        .and_then(|x| c.expand(&x))
        .expect("encrypted");
    let y = c.linear_transform(&x, &transform, &keys).expect("done");
    let y = c
        .decrypt(&y, &secret)
        .and_then(|y| c.decode(&y))
        .expect("decrypted");
    let worst = matrix
        .chunks(SIZE)
        .zip(&y)
        .map(|(row, y)| (row.iter().zip(&vector).map(|(m, v)| m * v).sum::<f64>() - y).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-4, "matrix-vector: wrong by {worst:e}");

    let plan = tfhe_ntt::prime64::Plan::try_new(n, unit_prime).expect("a plan");
    let mut buffer: Vec<u64> = (0..n as u64).map(|i| i * 12345 % unit_prime).collect();
    let mut unit = least(400, false, || plan.fwd(black_box(&mut buffer)));
    let before = least(200, false, || {
        black_box(c.linear_transform(&x, &transform, &keys).expect("done"));
    });
    let inside = least(200, false, || {
        let transform = c.encode_linear(&map, top, last).expect("encoded");
        black_box(c.linear_transform(&x, &transform, &keys).expect("done"));
    });
    unit = unit.min(least(400, false, || plan.fwd(black_box(&mut buffer))));
    println!(
        "\nN = {n}, 2 limbs, 1 special prime: {SIZE}×{SIZE} matrix times vector, {} Galois keys of {} KiB, diagonals of {} KiB; largest error {worst:.1e}; one NTT {:.2} µs",
        request.galois.len(),
        keys.memory() >> 10,
        transform.memory() >> 10,
        unit * 1e3
    );
    for (name, ms, asked) in [
        ("matrix-vector, encoded before", before, "720"),
        ("matrix-vector, encoded inside", inside, ""),
    ] {
        println!("{name:36} {ms:9.4} {:8.1} {asked:>10}", ms / unit);
    }
}
