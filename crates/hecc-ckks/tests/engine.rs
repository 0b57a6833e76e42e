//! Homomorphic operations against the plain computation.

use hecc_ckks::params::{
    GaloisElement, Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security,
    ntt_prime_nearest, ntt_primes_below,
};
use hecc_ckks::{
    Ciphertext, Complex64, Context, Error, EvaluationKeyRequest, EvaluationKeys, Options,
    PublicKey, Randomness, SecretKey, Weight,
};

const SCALE: Scale = Scale((1u64 << 40) as f64);

/// Parameters with a first prime of `first` bits, scale primes nearest 2^40, and special primes of 49 bits.
fn parameters(log_n: u8, first: u32, limbs: usize, special: usize) -> Parameters {
    let log_n = LogN(log_n);
    let mut q = ntt_primes_below(log_n, 1 << first, 1, &[]);
    while q.len() < limbs {
        q.push(ntt_prime_nearest(log_n, SCALE.0, 1 << 50, &q).unwrap());
    }
    let p = ntt_primes_below(log_n, 1 << 49, special, &q);
    Parameters::new(ParametersLiteral {
        log_n,
        q,
        p,
        digit_limbs: special.max(1),
        scale: SCALE,
        security: Security::Insecure,
    })
    .unwrap()
}

struct Bench {
    context: Context,
    secret: SecretKey,
    public: PublicKey,
    keys: EvaluationKeys,
    randomness: Randomness,
}

fn bench(parameters: Parameters, steps: &[i32], options: Options) -> Bench {
    let context = Context::with_options(parameters, options).unwrap();
    let mut randomness = Randomness::deterministic([7; 32]);
    let secret = context.secret_key(&mut randomness);
    let public = context.public_key(&secret, &mut randomness).unwrap();
    let mut request = EvaluationKeyRequest::default();
    let keys = if context.parameters().p().is_empty() {
        EvaluationKeys::none()
    } else {
        let top = context.parameters().max_level();
        let log_n = context.parameters().log_n();
        request.relinearize_at(top);
        request.apply_at(GaloisElement::conjugation(log_n), top);
        for &s in steps {
            request.apply_at(GaloisElement::rotation(RotationStep(s), log_n), top);
        }
        context
            .evaluation_keys(&secret, &request, &mut randomness)
            .unwrap()
    };
    Bench {
        context,
        secret,
        public,
        keys,
        randomness,
    }
}

impl Bench {
    fn encrypt(&mut self, values: &[f64], level: u32) -> Ciphertext {
        let plaintext = self.context.encode(values, Level(level), SCALE).unwrap();
        self.context
            .encrypt(&plaintext, &self.public, &mut self.randomness)
            .unwrap()
    }

    #[track_caller]
    fn check(&self, what: &str, ct: &Ciphertext, expected: &[f64], bound: f64) {
        let plaintext = self.context.decrypt(ct, &self.secret).unwrap();
        let got = self.context.decode(&plaintext).unwrap();
        assert_eq!(got.len(), expected.len(), "{what}");
        let worst = got
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < bound, "{what}: error {worst:e} above {bound:e}");
    }
}

/// Numbers in [−1, 1] from a fixed recurrence.
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

fn rotated(x: &[f64], step: i32) -> Vec<f64> {
    (0..x.len() as i32)
        .map(|i| x[(i + step).rem_euclid(x.len() as i32) as usize])
        .collect()
}

/// The whole repertoire on one set of parameters.
fn repertoire(parameters: Parameters, options: Options, slots: usize) {
    let steps = [1, -1, 3, 100, -37];
    let mut b = bench(parameters, &steps, options);
    let top = b.context.parameters().max_level().0;
    let bound = 1e-6;
    let (x, y) = (sample(slots, 1), sample(slots, 2));
    let ct_x = b.encrypt(&x, top);
    let ct_y = b.encrypt(&y, top);
    b.check("encryption", &ct_x, &x, bound);
    let zip =
        |f: fn(f64, f64) -> f64| -> Vec<f64> { x.iter().zip(&y).map(|(&a, &b)| f(a, b)).collect() };
    let c = b.context.clone();

    b.check(
        "add",
        &c.add(&ct_x, &ct_y).unwrap(),
        &zip(|a, b| a + b),
        bound,
    );
    b.check(
        "sub",
        &c.sub(&ct_x, &ct_y).unwrap(),
        &zip(|a, b| a - b),
        bound,
    );
    b.check("neg", &c.negate(&ct_x).unwrap(), &zip(|a, _| -a), bound);
    let plain = c.encode(&y, Level(top), SCALE).unwrap();
    b.check(
        "add_plain",
        &c.add_plain(&ct_x, &plain).unwrap(),
        &zip(|a, b| a + b),
        bound,
    );
    b.check(
        "sub_plain",
        &c.sub_plain(&ct_x, &plain).unwrap(),
        &zip(|a, b| a - b),
        bound,
    );
    b.check(
        "mul_plain",
        &c.mul_plain(&ct_x, &plain).unwrap(),
        &zip(|a, b| a * b),
        bound,
    );
    b.check(
        "add_scalar",
        &c.add_scalar(&ct_x, -2.5).unwrap(),
        &zip(|a, _| a - 2.5),
        bound,
    );
    let scalar = c.mul_scalar(&ct_x, -2.5, SCALE).unwrap();
    b.check("mul_scalar", &scalar, &zip(|a, _| a * -2.5), bound);
    b.check(
        "mul_scalar, rescale",
        &c.rescale(&scalar).unwrap(),
        &zip(|a, _| a * -2.5),
        bound,
    );
    let integer = c.mul_scalar(&ct_x, 3.0, Scale::ONE).unwrap();
    assert_eq!(integer.scale(), ct_x.scale());
    b.check("integer scalar", &integer, &zip(|a, _| a * 3.0), bound);

    // In place forms do the same.
    let mut t = ct_x.clone();
    c.add_assign(&mut t, &ct_y).unwrap();
    c.negate_assign(&mut t).unwrap();
    c.sub_assign(&mut t, &ct_x).unwrap();
    c.add_plain_assign(&mut t, &plain).unwrap();
    c.sub_plain_assign(&mut t, &plain).unwrap();
    c.add_scalar_assign(&mut t, 0.5).unwrap();
    b.check("in place", &t, &zip(|a, b| -(a + b) - a + 0.5), bound);
    c.mul_scalar_assign(&mut t, 2.0, Scale::ONE).unwrap();
    c.mul_plain_assign(&mut t, &plain).unwrap();
    b.check(
        "in place products",
        &t,
        &zip(|a, b| 2.0 * b * (-(a + b) - a + 0.5)),
        4.0 * bound,
    );

    // Products, of degree 2 and after.
    let product = c.mul(&ct_x, &ct_y).unwrap();
    assert_eq!(product.degree(), 2);
    b.check("mul", &product, &zip(|a, b| a * b), bound);
    b.check(
        "square",
        &c.square(&ct_x).unwrap(),
        &zip(|a, _| a * a),
        bound,
    );
    b.check(
        "rescale of degree 2",
        &c.rescale(&product).unwrap(),
        &zip(|a, b| a * b),
        8.0 * bound,
    );
    // Mixed degrees.
    let lifted = c.mul_scalar(&ct_x, 1.0, SCALE).unwrap();
    b.check(
        "add degrees 2 and 1",
        &c.add(&product, &lifted).unwrap(),
        &zip(|a, b| a * b + a),
        bound,
    );
    b.check(
        "sub degrees 1 and 2",
        &c.sub(&lifted, &product).unwrap(),
        &zip(|a, b| a - a * b),
        bound,
    );
    let mut t = lifted.clone();
    c.sub_assign(&mut t, &product).unwrap();
    b.check("sub in place, 1 and 2", &t, &zip(|a, b| a - a * b), bound);
    let sum = c
        .mul_sum(&[(&ct_x, &ct_y), (&ct_x, &ct_x), (&ct_y, &ct_y)])
        .unwrap();
    b.check(
        "mul_sum",
        &sum,
        &zip(|a, b| a * b + a * a + b * b),
        2.0 * bound,
    );
    let sum = c
        .mul_plain_sum(&[(&ct_x, &plain), (&ct_y, &plain)])
        .unwrap();
    b.check("mul_plain_sum", &sum, &zip(|a, b| (a + b) * b), 2.0 * bound);
    let combined = c
        .linear_combinations(
            &[&ct_x, &ct_y],
            &[
                &[0.5, -1.5],
                &[1.0, 0.0],
                &[0.0, 2.0],
                &[-1.0, 1.0],
                &[3.0, 3.0],
            ],
            SCALE,
        )
        .unwrap();
    for (ct, f) in combined.iter().zip([
        (|a, b| 0.5 * a - 1.5 * b) as fn(f64, f64) -> f64,
        |a, _| a,
        |_, b| 2.0 * b,
        |a, b| b - a,
        |a, b| 3.0 * a + 3.0 * b,
    ]) {
        b.check("linear combination", ct, &zip(f), 4.0 * bound);
    }
    let turned = |f: &dyn Fn(f64, f64) -> (f64, f64)| -> Vec<Complex64> {
        x.iter()
            .zip(&y)
            .map(|(a, b)| {
                let (re, im) = f(*a, *b);
                Complex64::new(re, im)
            })
            .collect()
    };
    // (x + iy)·i and + (2 − 3i), on all limbs and both polynomials.
    let pair = c
        .encode_complex(&turned(&|a, b| (a, b)), ct_x.level(), SCALE)
        .unwrap();
    let mut z = c
        .encrypt_symmetric(&pair, &b.secret, &mut b.randomness)
        .and_then(|s| c.expand(&s))
        .unwrap();
    c.mul_i_assign(&mut z).unwrap();
    c.add_complex_scalar_assign(&mut z, Complex64::new(2.0, -3.0))
        .unwrap();
    let found = c
        .decode_complex(&c.decrypt(&z, &b.secret).unwrap())
        .unwrap();
    for (f, e) in found.iter().zip(turned(&|a, b| (2.0 - b, a - 3.0))) {
        assert!((f - e).norm() < 1e-6, "{f} {e}");
    }
    // Rank and degree of the product beside one of degree 1, in either order.
    for (pair, weights) in [
        ([&lifted, &product], [2.0, -3.0]),
        ([&product, &lifted], [-3.0, 2.0]),
    ] {
        let mixed = c.linear_combination(&pair, &weights, Scale::ONE).unwrap();
        let f = |a, b| 2.0 * a - 3.0 * a * b;
        b.check("linear combination, 1 and 2", &mixed, &zip(f), 8.0 * bound);
    }

    if !b.context.parameters().p().is_empty() {
        b.check(
            "relinearize",
            &c.relinearize(&product, &b.keys).unwrap(),
            &zip(|a, b| a * b),
            bound,
        );
        let both = c.relinearize_rescale(&product, &b.keys).unwrap();
        b.check("relinearize_rescale", &both, &zip(|a, b| a * b), bound);
        assert_eq!(both.level(), Level(top - 1));
        if top >= 2 {
            let fourth = c
                .relinearize_rescale(&c.square(&both).unwrap(), &b.keys)
                .unwrap();
            b.check("second product", &fourth, &zip(|a, b| a * b * a * b), bound);
        }
        for step in steps {
            let rotation = c.rotate(&ct_x, RotationStep(step), &b.keys).unwrap();
            b.check(
                &format!("rotate by {step}"),
                &rotation,
                &rotated(&x, step),
                bound,
            );
        }
        let lower = c.drop_level(&ct_x, Level(0)).unwrap();
        b.check(
            "rotate at the bottom",
            &c.rotate(&lower, RotationStep(3), &b.keys).unwrap(),
            &rotated(&x, 3),
            bound,
        );
        let hoisted = c
            .rotate_hoisted(&ct_x, &steps.map(RotationStep), &b.keys)
            .unwrap();
        for (ct, step) in hoisted.iter().zip(steps) {
            b.check("hoisted", ct, &rotated(&x, step), bound);
        }
        b.check(
            "conjugate",
            &c.conjugate(&ct_x, &b.keys).unwrap(),
            &x,
            bound,
        );
        // Double hoisting.
        let weights: Vec<Vec<f64>> = (0..3).map(|i| sample(slots, 10 + i)).collect();
        let encoded: Vec<_> = weights
            .iter()
            .map(|w| c.encode_extended(w, Level(top), SCALE).unwrap())
            .collect();
        let terms = [
            (RotationStep(0), Weight::Plain(&encoded[0])),
            (RotationStep(1), Weight::Plain(&encoded[1])),
            (RotationStep(-37), Weight::Plain(&encoded[2])),
            (RotationStep(3), Weight::Scalar(-0.75)),
        ];
        let expected: Vec<f64> = (0..slots)
            .map(|i| {
                weights[0][i] * x[i]
                    + weights[1][i] * rotated(&x, 1)[i]
                    + weights[2][i] * rotated(&x, -37)[i]
                    - 0.75 * rotated(&x, 3)[i]
            })
            .collect();
        let sum = c.rotate_sum(&ct_x, &terms, SCALE, &b.keys).unwrap();
        b.check("rotate_sum", &sum, &expected, 4.0 * bound);
        let sum = c.rotate_sum_rescale(&ct_x, &terms, SCALE, &b.keys).unwrap();
        b.check("rotate_sum_rescale", &sum, &expected, 4.0 * bound);
        let low = c.drop_level(&ct_x, Level(top - 1)).unwrap();
        let sum = c.rotate_sum(&low, &terms, SCALE, &b.keys).unwrap();
        b.check("rotate_sum lower down", &sum, &expected, 4.0 * bound);
        let ones = [
            (RotationStep(0), Weight::One),
            (RotationStep(1), Weight::One),
        ];
        let sum = c.rotate_sum(&ct_x, &ones, Scale::ONE, &b.keys).unwrap();
        let expected: Vec<f64> = (0..slots).map(|i| x[i] + x[(i + 1) % slots]).collect();
        b.check("rotate_sum of ones", &sum, &expected, 2.0 * bound);
    }

    let seeded = c
        .encrypt_symmetric(&plain, &b.secret, &mut b.randomness)
        .unwrap();
    b.check("symmetric", &c.expand(&seeded).unwrap(), &y, bound / 10.0);
}

#[test]
fn everything_with_single_digits() {
    repertoire(parameters(11, 49, 4, 1), Options::from_environment(), 1024);
}

#[test]
fn everything_with_large_digits_and_few_slots() {
    repertoire(parameters(11, 49, 5, 2), Options::from_environment(), 64);
    repertoire(parameters(10, 49, 7, 3), Options::from_environment(), 256);
}

#[test]
fn everything_with_a_large_first_prime() {
    repertoire(parameters(10, 60, 4, 2), Options::from_environment(), 512);
    repertoire(parameters(10, 60, 3, 1), Options::from_environment(), 8);
}

#[test]
fn everything_without_special_primes() {
    repertoire(parameters(12, 49, 3, 0), Options::from_environment(), 2048);
}

/// Large enough that the digits of a key switch are converted digit by digit.
#[test]
fn everything_with_a_long_chain() {
    repertoire(parameters(13, 49, 20, 2), Options::from_environment(), 4096);
}

#[test]
fn everything_in_parallel_and_portable() {
    let parallel = Options {
        parallel: true,
        ..Options::from_environment()
    };
    repertoire(parameters(11, 49, 5, 2), parallel, 512);
    let portable = Options {
        portable: true,
        ..Options::default()
    };
    repertoire(parameters(11, 49, 4, 2), portable, 512);
    let avx2 = Options {
        avx2: true,
        ..Options::default()
    };
    repertoire(parameters(11, 49, 4, 2), avx2, 512);
}

/// Bit for bit, with more blocks than one, rotations in groups and alone, and limbs shared among threads in both
/// ways.
#[test]
fn hoisted_rotations_are_rotations_on_any_threads() {
    let steps = [1, 2, 5].map(RotationStep);
    let options = Options::from_environment();
    let mut b = bench(parameters(13, 49, 9, 2), &[1, 2, 5], options);
    let x = b.encrypt(&sample(4096, 6), 8);
    let alone = b.context.parallel(false);
    for level in [8, 3] {
        let x = alone.drop_level(&x, Level(level)).unwrap();
        let expected = steps.map(|s| alone.rotate(&x, s, &b.keys).unwrap());
        let square = alone.square(&x).unwrap();
        let rescaled = alone.relinearize_rescale(&square, &b.keys).unwrap();
        for c in [&alone, &b.context.parallel(true)] {
            let again = c.relinearize_rescale(&square, &b.keys).unwrap();
            assert!(again.to_bytes(c).unwrap() == rescaled.to_bytes(c).unwrap());
            let hoisted = c.rotate_hoisted(&x, &steps, &b.keys).unwrap();
            for (hoisted, expected) in hoisted.iter().zip(&expected) {
                assert!(hoisted.to_bytes(c).unwrap() == expected.to_bytes(c).unwrap());
            }
        }
    }
}

#[test]
fn one_slot_behaves() {
    let mut b = bench(parameters(10, 49, 3, 1), &[], Options::default());
    let ct = b.encrypt(&[0.75], 2);
    let square = b.context.square(&ct).unwrap();
    let square = b.context.relinearize_rescale(&square, &b.keys).unwrap();
    b.check("one slot", &square, &[0.5625], 1e-6);
    let same = b.context.rotate(&square, RotationStep(5), &b.keys).unwrap();
    b.check("one slot, rotated", &same, &[0.5625], 1e-6);
}

#[test]
fn portable_and_fast_give_the_same_bytes() {
    let bytes = |portable: bool, avx2: bool| {
        let options = Options {
            portable,
            avx2,
            parallel: !portable,
        };
        let mut b = bench(parameters(11, 49, 6, 2), &[1, 5], options);
        let x = b.encrypt(&sample(1024, 3), 5);
        let y = b.encrypt(&sample(1024, 4), 5);
        let c = &b.context;
        let mut all = Vec::new();
        let product = c.mul(&x, &y).unwrap();
        let weight = c
            .encode_extended(&sample(1024, 5), Level(5), SCALE)
            .unwrap();
        let terms = [
            (RotationStep(1), Weight::Plain(&weight)),
            (RotationStep(5), Weight::Scalar(0.3)),
        ];
        for ct in [
            c.relinearize_rescale(&product, &b.keys).unwrap(),
            c.relinearize(&product, &b.keys).unwrap(),
            c.rotate(&x, RotationStep(1), &b.keys).unwrap(),
            c.rotate_sum(&x, &terms, SCALE, &b.keys).unwrap(),
            c.linear_combination(&[&x, &y], &[0.1, -7.0], SCALE)
                .unwrap(),
            c.rescale(&c.square(&x).unwrap()).unwrap(),
            product,
        ] {
            all.push(ct.to_bytes(c).unwrap());
        }
        all.push(b.keys.to_bytes(c).unwrap());
        // Coefficients of one and of many words, and of short vectors.
        for values in [sample(1024, 7), sample(4, 8)] {
            for scale in [SCALE, Scale(2f64.powi(200))] {
                let plain = c.encode(&values, Level(5), scale).unwrap();
                let back = c.decode(&plain).unwrap();
                all.push(back.iter().flat_map(|x| x.to_le_bytes()).collect());
            }
        }
        all
    };
    let portable = bytes(true, false);
    assert!(portable == bytes(false, false));
    assert!(portable == bytes(false, true));
}

#[test]
fn complex_slots_and_conjugation() {
    let b = bench(parameters(10, 49, 2, 1), &[2], Options::default());
    let c = &b.context;
    let values: Vec<Complex64> = sample(128, 1)
        .into_iter()
        .zip(sample(128, 2))
        .map(|(re, im)| Complex64::new(re, im))
        .collect();
    let plaintext = c.encode_complex(&values, Level(1), SCALE).unwrap();
    let mut randomness = Randomness::deterministic([1; 32]);
    let ct = c.encrypt(&plaintext, &b.public, &mut randomness).unwrap();
    let conjugate = c.conjugate(&ct, &b.keys).unwrap();
    let rotation = c.rotate(&ct, RotationStep(2), &b.keys).unwrap();
    let open = |ct| {
        c.decode_complex(&c.decrypt(ct, &b.secret).unwrap())
            .unwrap()
    };
    for (i, (a, b)) in open(&conjugate).iter().zip(open(&rotation)).enumerate() {
        assert!((a - values[i].conj()).norm() < 1e-6, "conjugate {i}");
        assert!((b - values[(i + 2) % 128]).norm() < 1e-6, "rotation {i}");
    }
}

#[test]
fn repeated_squaring_keeps_its_precision() {
    let mut b = bench(parameters(12, 49, 8, 2), &[], Options::default());
    let mut x = sample(2048, 9);
    let mut ct = b.encrypt(&x, 7);
    for _ in 0..7 {
        ct = b
            .context
            .relinearize_rescale(&b.context.square(&ct).unwrap(), &b.keys)
            .unwrap();
        x.iter_mut().for_each(|x| *x *= *x);
    }
    assert_eq!(ct.level(), Level(0));
    b.check("2^7-th power", &ct, &x, 1e-4);
}

#[test]
fn wrong_operands_are_refused() {
    let mut b = bench(parameters(10, 49, 3, 1), &[1], Options::default());
    let c = b.context.clone();
    let x = b.encrypt(&[1.0, 2.0], 2);
    let low = c.drop_level(&x, Level(1)).unwrap();
    assert!(matches!(c.add(&x, &low), Err(Error::Level { .. })));
    assert!(matches!(c.mul(&x, &low), Err(Error::Level { .. })));
    let squared = c.square(&x).unwrap();
    assert!(matches!(
        c.add(&x, &squared),
        Err(Error::ScaleMismatch { .. })
    ));
    assert!(matches!(c.square(&squared), Err(Error::Degree { .. })));
    assert!(matches!(
        c.rotate(&squared, RotationStep(1), &b.keys),
        Err(Error::Degree { .. })
    ));
    assert!(matches!(
        c.relinearize(&x, &b.keys),
        Err(Error::Degree { .. })
    ));
    assert!(matches!(
        c.relinearize(&squared, &EvaluationKeys::none()),
        Err(Error::NoRelinearizationKey(_))
    ));
    let wide = b.encrypt(&sample(512, 1), 2);
    assert!(matches!(
        c.rotate(&wide, RotationStep(7), &b.keys),
        Err(Error::NoGaloisKey { .. })
    ));
    let bottom = c.drop_level(&x, Level(0)).unwrap();
    assert!(matches!(c.rescale(&bottom), Err(Error::Level { .. })));
    assert!(matches!(
        c.relinearize_rescale(&c.square(&bottom).unwrap(), &b.keys),
        Err(Error::Level { .. })
    ));
    assert!(matches!(
        c.drop_level(&bottom, Level(1)),
        Err(Error::Level { .. })
    ));
    let encode = |values: &[f64], level, scale| c.encode(values, Level(level), Scale(scale));
    assert!(matches!(
        encode(&[f64::NAN], 2, SCALE.0),
        Err(Error::NotFinite { .. })
    ));
    assert!(matches!(
        encode(&[1e4], 0, SCALE.0),
        Err(Error::Overflow { .. })
    ));
    assert!(matches!(
        encode(&[1.0; 3], 2, SCALE.0),
        Err(Error::Slots { .. })
    ));
    assert!(matches!(encode(&[], 2, SCALE.0), Err(Error::Slots { .. })));
    assert!(matches!(
        encode(&[1.0], 9, SCALE.0),
        Err(Error::Level { .. })
    ));
    assert!(matches!(encode(&[1.0], 0, -1.0), Err(Error::BadScale(_))));
    assert!(matches!(
        c.mul_scalar(&x, f64::INFINITY, SCALE),
        Err(Error::NotFinite { .. })
    ));
    assert!(matches!(c.mul_sum(&[]), Err(Error::Empty(_))));
    assert!(matches!(
        c.linear_combination(&[&x], &[1.0, 2.0], SCALE),
        Err(Error::Lengths { .. })
    ));
    let other = bench(parameters(10, 49, 4, 1), &[], Options::default());
    assert!(matches!(other.context.negate(&x), Err(Error::Foreign(_))));
    assert!(matches!(
        other.context.decrypt(&x, &other.secret),
        Err(Error::Foreign(_))
    ));
    let bare = bench(parameters(10, 49, 3, 0), &[], Options::default());
    let mut request = EvaluationKeyRequest::default();
    request.relinearize_at(Level(1));
    let mut randomness = Randomness::deterministic([3; 32]);
    assert!(matches!(
        bare.context
            .evaluation_keys(&bare.secret, &request, &mut randomness),
        Err(Error::NoSpecialPrimes)
    ));
    let mut request = EvaluationKeyRequest::default();
    request.apply_at(GaloisElement(4), Level(1));
    assert!(matches!(
        c.evaluation_keys(&b.secret, &request, &mut randomness),
        Err(Error::BadGaloisElement { .. })
    ));
}

#[test]
fn large_values_and_scales_survive() {
    let b = bench(parameters(10, 60, 5, 0), &[], Options::default());
    let c = &b.context;
    let values: Vec<f64> = sample(512, 5).iter().map(|x| x * 1e9).collect();
    // Coefficients beyond 2^62 and beyond 2^53 digits: the wide path of encoding and decoding.
    let scale = Scale(2f64.powi(120));
    let plaintext = c.encode(&values, Level(4), scale).unwrap();
    for (a, b) in c.decode(&plaintext).unwrap().iter().zip(&values) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    // Scalars of 120 bits.
    let mut randomness = Randomness::deterministic([2; 32]);
    let one = c.encode(&[1.0], Level(4), SCALE).unwrap();
    let ct = c.encrypt(&one, &b.public, &mut randomness).unwrap();
    let ct = c.mul_scalar(&ct, 3.25, scale).unwrap();
    b.check("scalar of 122 bits", &ct, &[3.25], 1e-6);
}

#[test]
fn bytes_round_trip_and_tampering_is_noticed() {
    let mut b = bench(parameters(10, 49, 3, 1), &[1], Options::default());
    let c = b.context.clone();
    let x = b.encrypt(&sample(16, 1), 2);
    let bytes = x.to_bytes(&c).unwrap();
    let back = Ciphertext::from_bytes(&c, &bytes).unwrap();
    assert_eq!(back.to_bytes(&c).unwrap(), bytes);
    b.check("ciphertext read back", &back, &sample(16, 1), 1e-6);

    let secret = SecretKey::from_bytes(&c, &b.secret.to_bytes(&c).unwrap()).unwrap();
    assert_eq!(secret.to_bytes(&c).unwrap(), b.secret.to_bytes(&c).unwrap());
    let public = PublicKey::from_bytes(&c, &b.public.to_bytes(&c).unwrap()).unwrap();
    let key_bytes = b.keys.to_bytes(&c).unwrap();
    let keys = EvaluationKeys::from_bytes(&c, &key_bytes).unwrap();
    assert_eq!(keys.to_bytes(&c).unwrap(), key_bytes);
    // Seeds stand for half of the residues, and both files and memory pack the others.
    assert!(key_bytes.len() * 2 < b.keys.memory() + 2000);
    (b.secret, b.public, b.keys) = (secret, public, keys);
    let y = b.encrypt(&sample(16, 2), 2);
    let turned = c.rotate(&y, RotationStep(1), &b.keys).unwrap();
    b.check(
        "after reading keys",
        &turned,
        &rotated(&sample(16, 2), 1),
        1e-6,
    );
    let plaintext = c.encode(&sample(16, 3), Level(1), SCALE).unwrap();
    let seeded = c
        .encrypt_symmetric(&plaintext, &b.secret, &mut b.randomness)
        .unwrap();
    let seeded_bytes = seeded.to_bytes(&c).unwrap();
    let seeded = hecc_ckks::SeededCiphertext::from_bytes(&c, &seeded_bytes).unwrap();
    b.check(
        "seeded read back",
        &c.expand(&seeded).unwrap(),
        &sample(16, 3),
        1e-7,
    );

    // Every truncation, and every change of the header, is refused; nothing panics.
    for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(Ciphertext::from_bytes(&c, &bytes[..cut]).is_err(), "{cut}");
    }
    for cut in (0..key_bytes.len()).step_by(4001) {
        assert!(EvaluationKeys::from_bytes(&c, &key_bytes[..cut]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Ciphertext::from_bytes(&c, &longer).is_err());
    for place in 0..24 {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(Ciphertext::from_bytes(&c, &changed).is_err(), "{place}");
    }
    // Level, slots, scale and number of polynomials at hostile values.
    for place in 24..44 {
        let mut changed = bytes.clone();
        changed[place] = 0xff;
        let _ = Ciphertext::from_bytes(&c, &changed);
    }
    // A residue above its prime.
    let mut changed = bytes.clone();
    changed[44..52].fill(0xff);
    let refused = Ciphertext::from_bytes(&c, &changed).unwrap_err();
    assert!(refused.to_string().contains("below its prime"), "{refused}");
    // Hostile counts in keys.
    let mut changed = key_bytes.clone();
    changed[24..28].fill(0xff);
    assert!(EvaluationKeys::from_bytes(&c, &changed).is_err());
    // Another kind, other parameters.
    assert!(PublicKey::from_bytes(&c, &bytes).is_err());
    let other = bench(parameters(10, 49, 4, 1), &[], Options::default());
    assert!(Ciphertext::from_bytes(&other.context, &bytes).is_err());
}
