//! Whole tasks as other libraries are timed on them, one thread, N = 8192: x^4 + 2 over all slots, and a
//! 128×128 matrix times an encrypted vector. Prints a JSON object a task: milliseconds of evaluation and of everything but
//! key generation (least of many runs), and the largest error. examples/compare_with_tenseal.py runs it
//! beside TenSEAL.
//!
//! `cargo run --release -p hecc-ckks --example tasks`

use std::time::Instant;

use hecc_ckks::params::{
    Level, LogN, Parameters, ParametersLiteral, Scale, Security, ntt_prime_nearest,
    ntt_primes_below,
};
use hecc_ckks::{
    Ciphertext, Context, Diagonals, EvaluationKeyRequest, EvaluationKeys, Options, Randomness,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SCALE: Scale = Scale((1u64 << 40) as f64);
const SIZE: usize = 128;
const RUNS: usize = 200;

fn main() -> Result<()> {
    quartic()?;
    matrix_vector()
}

/// N = 8192, a first prime of 49 bits, others of 40, one special prime of 49.
fn context(limbs: usize) -> Result<Context> {
    let log_n = LogN(13);
    let mut q = ntt_primes_below(log_n, 1 << 49, 2, &[]);
    let p = q.split_off(1);
    while q.len() < limbs {
        q.push(ntt_prime_nearest(log_n, SCALE.0, 1 << 50, &q).ok_or("no prime")?);
    }
    let parameters = Parameters::new(ParametersLiteral {
        log_n,
        q,
        p,
        digit_limbs: 1,
        scale: SCALE,
        security: Security::Bits128,
    })?;
    Ok(Context::with_options(
        parameters,
        Options::from_environment(),
    )?)
}

fn least<T>(mut f: impl FnMut() -> Result<T>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

fn report(task: &str, evaluate: f64, all: f64, got: &[f64], expected: &[f64]) -> Result<()> {
    let worst = got
        .iter()
        .zip(expected)
        .map(|(g, e)| (g - e).abs())
        .fold(0.0, f64::max);
    if worst > 1e-5 {
        return Err(format!("{task}: wrong by {worst:e}").into());
    }
    println!(
        r#"{{"task": "{task}", "evaluate_ms": {evaluate:.4}, "all_ms": {all:.4}, "max_error": {worst:e}}}"#
    );
    Ok(())
}

fn quartic() -> Result<()> {
    let c = context(3)?;
    let top = c.parameters().max_level();
    let mut randomness = Randomness::from_os()?;
    let secret = c.secret_key(&mut randomness);
    let public = c.public_key(&secret, &mut randomness)?;
    let mut request = EvaluationKeyRequest::default();
    request.relinearize_at(top);
    let keys = c.evaluation_keys(&secret, &request, &mut randomness)?;
    let values: Vec<f64> = (0..c.parameters().log_n().slots())
        .map(|i| ((i * 37 % 1000) as f64 - 500.0) / 500.0)
        .collect();
    let evaluate = |x: &Ciphertext, keys: &EvaluationKeys| -> Result<Ciphertext> {
        let square = c.relinearize_rescale(&c.square(x)?, keys)?;
        let mut fourth = c.relinearize_rescale(&c.square(&square)?, keys)?;
        c.add_scalar_assign(&mut fourth, 2.0)?;
        Ok(fourth)
    };
    let x = c.encrypt(&c.encode(&values, top, SCALE)?, &public, &mut randomness)?;
    let got = c.decode(&c.decrypt(&evaluate(&x, &keys)?, &secret)?)?;
    let expected: Vec<f64> = values.iter().map(|x| x.powi(4) + 2.0).collect();
    let evaluation = least(|| evaluate(&x, &keys))?;
    let all = least(|| {
        let x = c.encrypt(&c.encode(&values, top, SCALE)?, &public, &mut randomness)?;
        Ok(c.decode(&c.decrypt(&evaluate(&x, &keys)?, &secret)?)?)
    })?;
    report("x^4+2", evaluation, all, &got, &expected)
}

fn matrix_vector() -> Result<()> {
    let c = context(2)?;
    let top = Level(1);
    let mut randomness = Randomness::from_os()?;
    let secret = c.secret_key(&mut randomness);
    let public = c.public_key(&secret, &mut randomness)?;
    let matrix: Vec<f64> = (0..SIZE * SIZE)
        .map(|i| ((i * 7919 % 1009) as f64 - 504.0) / 504.0)
        .collect();
    let vector: Vec<f64> = (0..SIZE)
        .map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0)
        .collect();
    let map = Diagonals::from_matrix(&matrix, SIZE, SIZE)?;
    // At the scale of the prime that the rescale divides by, the result has the scale of the vector.
    let weights = Scale(c.parameters().q()[1] as f64);
    let transform = c.encode_linear(&map, top, weights)?;
    let mut request = EvaluationKeyRequest::default();
    transform.request_keys(&c, &mut request);
    let keys = c.evaluation_keys(&secret, &request, &mut randomness)?;
    let x = c.encrypt(&c.encode(&vector, top, SCALE)?, &public, &mut randomness)?;
    let got = c.decode(&c.decrypt(&c.linear_transform(&x, &transform, &keys)?, &secret)?)?;
    let expected: Vec<f64> = matrix
        .chunks(SIZE)
        .map(|row| row.iter().zip(&vector).map(|(m, v)| m * v).sum())
        .collect();
    let evaluation = least(|| Ok(c.linear_transform(&x, &transform, &keys)?))?;
    let inside = least(|| {
        let transform = c.encode_linear(&map, top, weights)?;
        let x = c.encrypt(&c.encode(&vector, top, SCALE)?, &public, &mut randomness)?;
        let y = c.linear_transform(&x, &transform, &keys)?;
        Ok(c.decode(&c.decrypt(&y, &secret)?)?)
    })?;
    report("matrix-vector", evaluation, inside, &got, &expected)
}
