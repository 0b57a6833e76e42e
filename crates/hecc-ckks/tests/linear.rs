//! Linear transforms against the plain product.

use hecc_ckks::params::{
    Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security, ntt_prime_nearest,
    ntt_primes_below,
};
use hecc_ckks::{
    Context, Diagonals, Error, EvaluationKeyRequest, EvaluationKeys, Options, Randomness, Weight,
};

const SCALE: Scale = Scale((1u64 << 40) as f64);

fn context(limbs: usize, special: usize, options: Options) -> Context {
    let log_n = LogN(11);
    let mut q = ntt_primes_below(log_n, 1 << 49, 1, &[]);
    while q.len() < limbs {
        q.push(ntt_prime_nearest(log_n, SCALE.0, 1 << 50, &q).unwrap());
    }
    let p = ntt_primes_below(log_n, 1 << 49, special, &q);
    let literal = ParametersLiteral {
        log_n,
        q,
        p,
        digit_limbs: special,
        scale: SCALE,
        security: Security::Insecure,
    };
    Context::with_options(Parameters::new(literal).unwrap(), options).unwrap()
}

/// Numbers in [−1, 1] without a pattern.
fn sample(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// Maps an encrypted vector, decrypts, and compares with out[i] = Σ_k d_k[i]·x[i + k].
fn check(context: &Context, map: &Diagonals, level: u32, x: &[f64], expected: &[f64]) {
    let mut randomness = Randomness::deterministic([3; 32]);
    let secret = context.secret_key(&mut randomness);
    let level = Level(level);
    let weights = Scale(context.parameters().q()[level.0 as usize] as f64);
    let transform = context.encode_linear(map, level, weights).unwrap();
    let mut request = EvaluationKeyRequest::default();
    transform.request_keys(context, &mut request);
    let keys = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .unwrap();
    let plain = context.encode(x, level, SCALE).unwrap();
    let ct = context
        .encrypt_symmetric(&plain, &secret, &mut randomness)
        .unwrap();
    let ct = context.expand(&ct).unwrap();
    let out = context.linear_transform(&ct, &transform, &keys).unwrap();
    assert_eq!(out.level(), Level(level.0 - 1));
    assert!(out.scale().matches(SCALE));
    let got = context
        .decode(&context.decrypt(&out, &secret).unwrap())
        .unwrap();
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < 1e-6, "slot {i}: {got}, {expected}");
    }
    if request.galois.is_empty() {
        return;
    }
    assert!(matches!(
        context.linear_transform(&ct, &transform, &EvaluationKeys::none()),
        Err(Error::NoGaloisKey { .. } | Error::Foreign(_))
    ));
}

fn matrix(context: &Context, rows: usize, columns: usize, level: u32) {
    let weights = sample(rows * columns, (rows + columns) as u64);
    let map = Diagonals::from_matrix(&weights, rows, columns).unwrap();
    let mut x = sample(columns, 5);
    x.resize(map.slots(), 0.0);
    let mut expected: Vec<f64> = weights
        .chunks(columns)
        .map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum())
        .collect();
    expected.resize(map.slots(), 0.0);
    check(context, &map, level, &x, &expected);
}

#[test]
fn matrices_of_many_shapes() {
    let context = context(3, 1, Options::from_environment());
    for (rows, columns) in [(32, 32), (5, 64), (33, 7), (1, 16), (16, 1), (1, 1)] {
        matrix(&context, rows, columns, 2);
    }
    matrix(&context, 24, 24, 1);
}

#[test]
fn digits_of_two_limbs_in_parallel_and_portable() {
    let options = Options {
        parallel: true,
        portable: true,
        avx2: false,
    };
    matrix(&context(4, 2, options), 40, 40, 3);
}

/// Full vectors, where nothing repeats, and two and four copies, which are too few to keep one of.
#[test]
fn few_diagonals_of_long_vectors() {
    let context = context(2, 1, Options::from_environment());
    for slots in [1024, 512, 256, 128, 8] {
        let steps = [0, 1, -1, slots as i32 / 2 + 3, 7];
        let diagonals: Vec<(RotationStep, Vec<f64>)> = steps
            .iter()
            .map(|&k| (RotationStep(k), sample(slots, 77 + k.unsigned_abs() as u64)))
            .collect();
        let map = Diagonals::new(slots, diagonals.clone()).unwrap();
        let x = sample(slots, 9);
        let expected: Vec<f64> = (0..slots)
            .map(|i| {
                let at = |k: i32| x[(i as i32 + k).rem_euclid(slots as i32) as usize];
                diagonals.iter().map(|(k, d)| d[i] * at(k.0)).sum()
            })
            .collect();
        check(&context, &map, 1, &x, &expected);
    }
}

#[test]
fn a_short_vector_is_repeated() {
    let context = context(2, 1, Options::from_environment());
    let x = sample(4, 1);
    let shift = Diagonals::new(16, [(RotationStep(5), vec![0.5; 16])]).unwrap();
    let expected: Vec<f64> = (0..16).map(|i| 0.5 * x[(i + 5) % 4]).collect();
    check(&context, &shift, 1, &x, &expected);
}

/// Each kind of weight in one sum, and two sums from the same copies.
#[test]
fn sums_with_weights_of_every_kind() {
    let context = context(3, 1, Options::from_environment());
    let log_n = context.parameters().log_n();
    let mut randomness = Randomness::deterministic([4; 32]);
    let secret = context.secret_key(&mut randomness);
    let mut request = EvaluationKeyRequest::default();
    for step in [1, 2, 3] {
        let element = hecc_ckks::params::GaloisElement::rotation(RotationStep(step), log_n);
        request.apply_at(element, Level(2));
    }
    let keys = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .unwrap();
    let x = sample(1024, 2);
    let plain = context.encode(&x, Level(2), SCALE).unwrap();
    let ct = context
        .encrypt_symmetric(&plain, &secret, &mut randomness)
        .unwrap();
    let ct = context.expand(&ct).unwrap();
    let scale = Scale(context.parameters().q()[2] as f64);
    let (long, short) = (sample(1024, 6), sample(16, 7));
    let w_long = context.encode_extended(&long, Level(2), scale).unwrap();
    let w_short = context.encode_extended(&short, Level(2), scale).unwrap();
    assert!(w_short.memory() * 64 == w_long.memory());
    let all = [
        (RotationStep(0), Weight::Scalar(0.25)),
        (RotationStep(1), Weight::Plain(&w_long)),
        (RotationStep(2), Weight::Plain(&w_short)),
        (RotationStep(3), Weight::Plain(&w_short)),
    ];
    let expected = |terms: std::ops::Range<usize>, i: usize| -> f64 {
        let weights = [0.25, long[i], short[i % 16], short[i % 16]];
        terms.map(|t| weights[t] * x[(i + t) % 1024]).sum()
    };
    let sums = context
        .rotate_sums_rescale(&ct, &[&all, &all[1..2]], scale, &keys)
        .unwrap();
    let alone = context.rotate_sum_rescale(&ct, &all, scale, &keys).unwrap();
    for (sum, terms) in [(&sums[0], 0..4), (&sums[1], 1..2), (&alone, 0..4)] {
        let got = context
            .decode(&context.decrypt(sum, &secret).unwrap())
            .unwrap();
        for (i, got) in got.iter().enumerate() {
            let expected = expected(terms.clone(), i);
            assert!((got - expected).abs() < 1e-6, "slot {i}: {got}, {expected}");
        }
    }
    let unit = context
        .rotate_sums_rescale(&ct, &[&[(RotationStep(1), Weight::One)]], scale, &keys)
        .unwrap_err();
    assert!(matches!(unit, Error::ScaleMismatch { .. }));
    assert!(matches!(
        context.sum_rotated(&[], &keys),
        Err(Error::Empty(_))
    ));
    assert!(matches!(
        context.sum_rotated(
            &[(&sums[0], RotationStep(0)), (&ct, RotationStep(1))],
            &keys
        ),
        Err(Error::Level { .. })
    ));
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let context = context(2, 1, Options::from_environment());
    assert!(matches!(
        Diagonals::from_matrix(&[1.0; 5], 2, 3),
        Err(Error::Lengths { .. })
    ));
    assert!(matches!(
        Diagonals::from_matrix(&[], 0, 0),
        Err(Error::Empty(_))
    ));
    assert!(matches!(
        Diagonals::new(12, []),
        Err(Error::Slots { given: 12, .. })
    ));
    let zero = Diagonals::from_matrix(&[0.0; 4], 2, 2).unwrap();
    assert!(matches!(
        context.encode_linear(&zero, Level(1), SCALE),
        Err(Error::Empty(_))
    ));
    let one = Diagonals::from_matrix(&[1.0], 1, 1).unwrap();
    assert!(matches!(
        context.encode_linear(&one, Level(0), SCALE),
        Err(Error::Level { .. })
    ));
    let one = context.encode_linear(&one, Level(1), SCALE).unwrap();
    let keys = EvaluationKeys::none();
    let ct = context.zero(Level(1), SCALE, 2).unwrap();
    assert!(matches!(
        context.linear_transform(&ct, &one, &keys),
        Err(Error::Lengths { .. })
    ));
    let ct = context.zero(Level(0), SCALE, 1).unwrap();
    assert!(matches!(
        context.linear_transform(&ct, &one, &keys),
        Err(Error::Level { .. })
    ));
}
