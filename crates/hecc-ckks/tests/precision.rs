//! Precision at scale 2^40, in bits of the largest error over all slots of values in [−1, 1]: the median of some runs.
//!
//! `cargo test -p hecc-ckks --test precision -- --ignored --nocapture` prints it for three sizes.

use hecc_ckks::params::{
    Level, LogN, Parameters, ParametersLiteral, Scale, Security, ntt_prime_nearest,
    ntt_primes_below,
};
use hecc_ckks::{Ciphertext, Context, EvaluationKeyRequest, Options, Randomness, SecretKey};

const SCALE: Scale = Scale((1u64 << 40) as f64);

/// Bits after encryption, after one product, after a product with a fresh ciphertext at each level down
/// to 0, and after some squarings of ±1.
type Bits = [f64; 4];

fn context(log_n: u8, limbs: usize, special: usize) -> Context {
    let log_n = LogN(log_n);
    let p = ntt_primes_below(log_n, 1 << 49, special + 1, &[]);
    let mut q = vec![p[0]];
    while q.len() < limbs {
        q.push(ntt_prime_nearest(log_n, SCALE.0, 1 << 50, &q).unwrap());
    }
    let literal = ParametersLiteral {
        log_n,
        q,
        p: p[1..].to_vec(),
        digit_limbs: special,
        scale: SCALE,
        security: Security::Insecure,
    };
    Context::with_options(
        Parameters::new(literal).unwrap(),
        Options::from_environment(),
    )
    .unwrap()
}

fn bits(c: &Context, secret: &SecretKey, ct: &Ciphertext, expected: &[f64]) -> f64 {
    let got = c.decode(&c.decrypt(ct, secret).unwrap()).unwrap();
    let worst = got.iter().zip(expected).map(|(g, e)| (g - e).abs());
    -worst.fold(0.0, f64::max).log2()
}

fn run(c: &Context, squarings: u32, seed: u8) -> Bits {
    let mut randomness = Randomness::deterministic([seed; 32]);
    let top = c.parameters().max_level();
    let slots = c.parameters().log_n().slots();
    let secret = c.secret_key(&mut randomness);
    let public = c.public_key(&secret, &mut randomness).unwrap();
    let mut request = EvaluationKeyRequest::default();
    request.relinearize_at(top);
    let keys = c
        .evaluation_keys(&secret, &request, &mut randomness)
        .unwrap();
    // Numbers without a pattern, uniform in [−1, 1].
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ u64::from(seed);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let mut vector = || -> Vec<f64> { (0..slots).map(|_| next()).collect() };
    let (x, y) = (vector(), vector());
    let mut encrypt = |values: &[f64], level: Level| {
        let plain = c.encode(values, level, SCALE).unwrap();
        c.encrypt(&plain, &public, &mut randomness).unwrap()
    };
    let multiply = |a: &Ciphertext, b: &Ciphertext| {
        let product = c.mul(a, b).unwrap();
        c.relinearize_rescale(&product, &keys).unwrap()
    };

    let ct_x = encrypt(&x, top);
    let fresh = bits(c, &secret, &ct_x, &x);
    let product: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    let once = multiply(&ct_x, &encrypt(&y, top));
    let once = bits(c, &secret, &once, &product);

    let (mut chain, mut expected) = (ct_x, x.clone());
    while chain.level() > Level(0) {
        let factor = vector();
        chain = multiply(&chain, &encrypt(&factor, chain.level()));
        for (e, f) in expected.iter_mut().zip(&factor) {
            *e *= f;
        }
    }
    let chain = bits(c, &secret, &chain, &expected);

    let signs: Vec<f64> = x.iter().map(|x| x.signum()).collect();
    let mut square = encrypt(&signs, top);
    for _ in 0..squarings {
        let product = c.square(&square).unwrap();
        square = c.relinearize_rescale(&product, &keys).unwrap();
    }
    let square = bits(c, &secret, &square, &vec![1.0; slots]);
    [fresh, once, chain, square]
}

fn medians(c: &Context, squarings: u32, runs: u8) -> Bits {
    let all: Vec<Bits> = (1..=runs).map(|seed| run(c, squarings, seed)).collect();
    std::array::from_fn(|i| {
        let mut column: Vec<f64> = all.iter().map(|b| b[i]).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    })
}

#[test]
fn precision_at_8192() {
    let [fresh, once, chain, square] = medians(&context(13, 4, 1), 3, 5);
    let found = format!("{fresh:.2} {once:.2} {chain:.2} {square:.2}");
    assert!(fresh >= 26.0 && once >= 26.0, "{found}");
    assert!(chain >= fresh - 3.0, "{found}");
    assert!(square >= 23.5, "{found}");
}

/// What SEAL and Lattigo attain on the same tasks.
#[test]
#[ignore = "takes a minute; prints the precision at three sizes"]
fn precision_at_three_sizes() {
    println!(
        "{:>6} {:>6} {:>8} {:>8} {:>8} {:>8}",
        "N", "limbs", "fresh", "product", "chain", "squares"
    );
    for (log_n, limbs, special, squarings, peers) in [
        (13, 4, 1, 3, [27.0, 26.7, 26.4, 23.8]),
        (14, 8, 2, 7, [26.0, 25.3, 25.6, 18.7]),
        (15, 16, 4, 14, [24.6, 24.4, 24.3, 10.5]),
    ] {
        let ours = medians(&context(log_n, limbs, special), squarings, 15);
        let row = |b: Bits| b.map(|b| format!("{b:8.2}")).join(" ");
        println!("{:>6} {limbs:>6} {}", 1 << log_n, row(ours));
        println!("{:>13} {}", "peers", row(peers));
    }
}
