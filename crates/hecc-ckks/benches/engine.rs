//! What a circuit is made of, at N = 8192 with secure parameters: one product, one rotation, an
//! encryption, a decryption. `cargo bench -p hecc-ckks --bench engine`; the whole list, in units of an
//! NTT and at three sizes, is the bench `table`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hecc_ckks::params::{
    GaloisElement, Level, LogN, Parameters, ParametersLiteral, RotationStep, Scale, Security,
    ntt_prime_nearest, ntt_primes_below,
};
use hecc_ckks::{Context, EvaluationKeyRequest, Options, Randomness};

fn operations(criterion: &mut Criterion) {
    let log_n = LogN(13);
    let scale = Scale(2f64.powi(40));
    let mut q = ntt_primes_below(log_n, 1 << 48, 2, &[]);
    let p = q.split_off(1);
    while q.len() < 3 {
        q.push(ntt_prime_nearest(log_n, scale.0, 1 << 50, &q).expect("there is such a prime"));
    }
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
    let mut randomness = Randomness::deterministic([1; 32]);
    let secret = c.secret_key(&mut randomness);
    let public = c.public_key(&secret, &mut randomness).expect("a key");
    let top = c.parameters().max_level();
    let mut request = EvaluationKeyRequest::default();
    request.relinearize_at(top);
    request.apply_at(GaloisElement::rotation(RotationStep(1), log_n), top);
    let keys = c
        .evaluation_keys(&secret, &request, &mut randomness)
        .expect("keys");
    let values: Vec<f64> = (0..log_n.slots()).map(|i| (i % 19) as f64 / 19.0).collect();
    let plain = c.encode(&values, top, scale).expect("encoded");
    let x = c
        .encrypt(&plain, &public, &mut randomness)
        .expect("encrypted");

    // Results first.
    let square = c.square(&x).expect("squared");
    let square = c.relinearize_rescale(&square, &keys).expect("relinearized");
    let turned = c.rotate(&x, RotationStep(1), &keys).expect("rotated");
    let open = |ct| {
        let plain = c.decrypt(ct, &secret).expect("decrypted");
        c.decode(&plain).expect("decoded")
    };
    for (i, (s, t)) in open(&square).iter().zip(open(&turned)).enumerate() {
        assert!((s - values[i] * values[i]).abs() < 1e-5, "square, slot {i}");
        let next = values[(i + 1) % values.len()];
        assert!((t - next).abs() < 1e-5, "rotation, slot {i}");
    }

    let mut group = criterion.benchmark_group("engine, N = 8192, 3 limbs");
    group.sample_size(20);
    group.bench_function("encode", |b| {
        b.iter(|| black_box(c.encode(&values, top, scale)));
    });
    group.bench_function("encrypt", |b| {
        b.iter(|| black_box(c.encrypt(&plain, &public, &mut randomness)));
    });
    group.bench_function("multiply, relinearize, rescale", |b| {
        b.iter(|| {
            let product = c.mul(&x, &turned).expect("multiplied");
            black_box(c.relinearize_rescale(&product, &keys))
        });
    });
    group.bench_function("rotate", |b| {
        b.iter(|| black_box(c.rotate(&x, RotationStep(1), &keys)));
    });
    let bottom = c.drop_level(&x, Level(0)).expect("dropped");
    group.bench_function("decrypt and decode, 1 limb", |b| {
        b.iter(|| {
            let plain = c.decrypt(&bottom, &secret).expect("decrypted");
            black_box(c.decode(&plain))
        });
    });
    group.finish();
}

criterion_group!(benches, operations);
criterion_main!(benches);
