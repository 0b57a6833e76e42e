//! The noise formulas of hecc-params against measured errors: within a factor of two.

use hecc_ckks::params::{
    GaloisElement, Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security,
    noise, ntt_prime_nearest, ntt_primes_below,
};
use hecc_ckks::{
    Ciphertext, Complex64, Context, EvaluationKeyRequest, Options, Randomness, SecretKey,
};

const SCALE: Scale = Scale((1u64 << 40) as f64);

/// Standard deviation of the real and imaginary parts of the error of all slots.
fn deviation(
    context: &Context,
    secret: &SecretKey,
    ct: &Ciphertext,
    expected: impl Fn(usize) -> f64,
) -> f64 {
    let plaintext = context.decrypt(ct, secret).unwrap();
    let got = context.decode_complex(&plaintext).unwrap();
    let total: f64 = got
        .iter()
        .enumerate()
        .map(|(i, z)| (z - Complex64::new(expected(i), 0.0)).norm_sqr())
        .sum();
    (total / (2 * got.len()) as f64).sqrt()
}

#[track_caller]
fn check(what: &str, measured: f64, estimated: f64) {
    let ratio = measured / estimated;
    assert!(
        (0.5..2.0).contains(&ratio),
        "{what}: measured {measured:e}, estimated {estimated:e}"
    );
}

fn measure(special: usize, slots: usize) {
    let log_n = LogN(12);
    let mut q = ntt_primes_below(log_n, 1 << 49, 1, &[]);
    while q.len() < 4 {
        q.push(ntt_prime_nearest(log_n, SCALE.0, 1 << 50, &q).unwrap());
    }
    let p = ntt_primes_below(log_n, 1 << 45, special, &q);
    let digit_limbs = special;
    let context = Context::with_options(
        Parameters::new(ParametersLiteral {
            log_n,
            q: q.clone(),
            p: p.clone(),
            digit_limbs,
            scale: SCALE,
            security: Security::Insecure,
        })
        .unwrap(),
        Options::from_environment(),
    )
    .unwrap();
    let mut randomness = Randomness::deterministic([9; 32]);
    let secret = context.secret_key(&mut randomness);
    let public = context.public_key(&secret, &mut randomness).unwrap();
    let mut request = EvaluationKeyRequest::default();
    request.relinearize_at(Level(3));
    request.apply_at(GaloisElement::rotation(RotationStep(1), log_n), Level(3));
    let keys = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .unwrap();
    let values: Vec<f64> = (0..slots)
        .map(|i| ((i * 7919) % 1009) as f64 / 1009.0)
        .collect();
    let at = |i: usize| values[i % slots];
    let plaintext = context.encode(&values, Level(3), SCALE).unwrap();

    let symmetric = context
        .encrypt_symmetric(&plaintext, &secret, &mut randomness)
        .unwrap();
    let symmetric = context.expand(&symmetric).unwrap();
    let variance = noise::fresh_symmetric() + noise::encoding();
    check(
        "symmetric",
        deviation(&context, &secret, &symmetric, at),
        noise::slot_stddev(slots, variance, SCALE),
    );

    let fresh = context
        .encrypt(&plaintext, &public, &mut randomness)
        .unwrap();
    let variance = noise::fresh_public_at(log_n, Level(3), &q, &p) + noise::encoding();
    let fresh_deviation = noise::slot_stddev(slots, variance, SCALE);
    check(
        "public",
        deviation(&context, &secret, &fresh, at),
        fresh_deviation,
    );

    let rotated = context.rotate(&fresh, RotationStep(1), &keys).unwrap();
    let switched = variance + noise::key_switch(log_n, &q, &p, digit_limbs);
    check(
        "rotation",
        deviation(&context, &secret, &rotated, |i| at(i + 1)),
        noise::slot_stddev(slots, switched, SCALE),
    );

    // A product of one at scale 2^40 adds no error of its own: what is left is the rounding.
    let scaled = context.mul_scalar(&fresh, 1.0, SCALE).unwrap();
    let rescaled = context.rescale(&scaled).unwrap();
    let last = q[3] as f64;
    let after = variance * (SCALE.0 / last).powi(2) + noise::rescale(log_n, 1);
    check(
        "rescale",
        deviation(&context, &secret, &rescaled, at),
        noise::slot_stddev(slots, after, rescaled.scale()),
    );

    let square = context.square(&fresh).unwrap();
    let slot_variance = fresh_deviation * fresh_deviation;
    let rms = (values.iter().map(|v| v * v).sum::<f64>() / slots as f64).sqrt();
    // The two factors of a square err alike: twice the deviation, not √2 times.
    let squared = (2.0 * noise::product(rms, slot_variance, rms, slot_variance)).sqrt();
    check(
        "square",
        deviation(&context, &secret, &square, |i| at(i) * at(i)),
        squared,
    );
    let coefficient = noise::coefficient_variance(slots, squared, square.scale());
    let rescaled = context.rescale(&square).unwrap();
    check(
        "square, rescaled at degree 2",
        deviation(&context, &secret, &rescaled, |i| at(i) * at(i)),
        noise::slot_stddev(
            slots,
            coefficient / (last * last) + noise::rescale(log_n, 2),
            rescaled.scale(),
        ),
    );
    let merged = context.relinearize_rescale(&square, &keys).unwrap();
    check(
        "square, relinearized and rescaled",
        deviation(&context, &secret, &merged, |i| at(i) * at(i)),
        noise::slot_stddev(
            slots,
            noise::relinearize_rescale(log_n, coefficient, &q, &p, digit_limbs),
            merged.scale(),
        ),
    );
    let separate = context.relinearize(&square, &keys).unwrap();
    check(
        "square, relinearized",
        deviation(&context, &secret, &separate, |i| at(i) * at(i)),
        noise::slot_stddev(
            slots,
            coefficient + noise::key_switch(log_n, &q, &p, digit_limbs),
            separate.scale(),
        ),
    );
}

#[test]
fn estimates_are_within_a_factor_of_two() {
    measure(1, 2048);
    measure(2, 2048);
    measure(2, 512);
}
