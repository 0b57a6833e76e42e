//! Transforms of the ring, beside those of tfhe-ntt. `cargo bench -p hecc-ckks --bench ring`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hecc_ckks::params::{
    LogN, Parameters, ParametersLiteral, Scale, Security, ntt_prime_nearest, ntt_primes_below,
};
use hecc_ckks::{Context, Options, measure};

fn transforms(c: &mut Criterion) {
    let mut group = c.benchmark_group("ntt");
    for log_n in [LogN(13), LogN(14), LogN(15)] {
        let n = log_n.degree();
        let scale = Scale(2f64.powi(40));
        let mut q = ntt_primes_below(log_n, 1 << 49, 1, &[]);
        q.push(ntt_prime_nearest(log_n, scale.0, 1 << 50, &q).expect("there is such a prime"));
        let literal = ParametersLiteral {
            log_n,
            q: q.clone(),
            p: Vec::new(),
            digit_limbs: 1,
            scale,
            security: Security::Bits128,
        };
        let parameters = Parameters::new(literal).expect("valid parameters");
        let context =
            Context::with_options(parameters, Options::from_environment()).expect("a context");
        for (prime, &modulus) in q.iter().enumerate() {
            let bits = 64 - modulus.leading_zeros();
            let plan = tfhe_ntt::prime64::Plan::try_new(n, modulus).expect("a plan");
            let mut x: Vec<u64> = (0..n as u64).map(|i| i * i % modulus).collect();
            // Results first: the same values as the library's.
            let mut expected = x.clone();
            plan.fwd(&mut expected);
            let mut got = x.clone();
            measure::forward(&context, prime, &mut got);
            assert!(got == expected, "forward transforms differ");
            plan.inv(&mut expected);
            measure::inverse(&context, prime, &mut got);
            assert!(got == expected, "inverse transforms differ");
            let name = |what: &str| BenchmarkId::new(what.to_string(), format!("{n}, {bits} bits"));
            group.bench_function(name("forward"), |b| {
                b.iter(|| measure::forward(&context, prime, black_box(&mut x)));
            });
            group.bench_function(name("inverse"), |b| {
                b.iter(|| measure::inverse(&context, prime, black_box(&mut x)));
            });
            group.bench_function(name("tfhe-ntt forward"), |b| {
                b.iter(|| plan.fwd(black_box(&mut x)));
            });
            group.bench_function(name("tfhe-ntt inverse"), |b| {
                b.iter(|| plan.inv(black_box(&mut x)));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = transforms
}
criterion_main!(benches);
