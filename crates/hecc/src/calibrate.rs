//! Measures the engine on this machine and fits the cost model to it.
//!
//! Every time is the least of several runs, on operands that do not all fit the second cache, as in
//! a circuit. What one thread does is timed by the processor time of that thread, so that other
//! processes disturb little. What a key switch consists of cannot be timed part by part; its coefficients are those
//! that, none of them negative, come closest to the times of whole operations of several sizes
//! (least squares of relative errors, by coordinate descent).

use std::hint::black_box;
use std::time::{Duration, Instant};

use hecc_ckks::{
    Ciphertext, Context, Error, EvaluationKeyRequest, EvaluationKeys, ExtendedPlaintext, Plaintext,
    Randomness, Weight,
};
use hecc_params::{
    CostModel, FAST_BITS, GaloisElement, Level, Line, LogN, Parameters, ParametersLiteral,
    RingCost, RotationStep, Scale, Security, Switch, ntt_prime_nearest, ntt_primes_below,
};

use crate::exit::{Failure, Outcome};

/// Ring, and for each context that is measured in it: limbs, special primes.
type Plan = (u8, &'static [(usize, usize)]);

const FULL: [Plan; 6] = [
    (12, &[(3, 1)]),
    (13, &[(4, 1), (4, 2)]),
    (14, &[(9, 1), (9, 3)]),
    (15, &[(12, 1), (18, 4)]),
    (16, &[(12, 2), (18, 6)]),
    (17, &[(12, 4)]),
];
const QUICK: [Plan; 3] = [
    (12, &[(3, 1)]),
    (13, &[(4, 1), (4, 2)]),
    (14, &[(9, 1), (9, 3)]),
];

/// Bits of primes that do not take the fast kernels.
const WIDE_BITS: u32 = 57;
/// Rotations of one ciphertext in a measurement.
const ROTATIONS: usize = 6;
/// New keys in a measurement.
const KEYS: usize = 3;
/// Vectors that are encoded in turn.
const VECTORS: usize = 8;
/// Bytes that the operands of an operation come from, in turn.
const OPERANDS: usize = 12 << 20;

/// Times of this machine; `told` hears how many of how many rings are done.
pub(crate) fn calibrate(
    quick: bool,
    threads: usize,
    machine: String,
    told: &dyn Fn(u64, u64),
) -> Outcome<CostModel> {
    let plans: &[Plan] = if quick { &QUICK } else { &FULL };
    let patience = Duration::from_millis(if quick { 12 } else { 60 });
    let mut rings = Vec::with_capacity(plans.len());
    for (i, (log_n, contexts)) in plans.iter().enumerate() {
        told(i as u64, plans.len() as u64);
        let mut samples = Samples::default();
        let failed = |e: Error| Failure::internal(format!("measuring the engine: {e}"));
        for (number, &(limbs, special)) in contexts.iter().enumerate() {
            let bench = |bits| Bench::new(LogN(*log_n), limbs, special, bits, threads, patience);
            let fast = bench(FAST_BITS).map_err(failed)?;
            fast.sample(&mut samples).map_err(failed)?;
            if number == 0 {
                let wide = bench(WIDE_BITS).map_err(failed)?;
                let ratio = wide.rotation().and_then(|w| Ok(w / fast.rotation()?));
                samples.wide.push(ratio.map_err(failed)?.clamp(1.0, 64.0));
            }
        }
        rings.push(samples.fit(LogN(*log_n)));
    }
    CostModel::new(machine, threads as u32, fresh(), rings).map_err(Failure::internal)
}

/// What was measured in one ring, in microseconds.
#[derive(Default)]
struct Samples {
    /// By name of the line: limbs and time.
    lines: Vec<(&'static str, usize, f64)>,
    /// What the operation consists of, and its time.
    switches: Vec<([f64; 5], f64)>,
    /// Digits, limbs of digits, and the time of a new key.
    keys: Vec<([f64; 2], f64)>,
    spread: Vec<f64>,
    crowd: Vec<f64>,
    wide: Vec<f64>,
}

impl Samples {
    fn line(&self, name: &str) -> Line {
        let points = self.lines.iter().filter(|(n, ..)| *n == name);
        let points: Vec<([f64; 2], f64)> = points
            .map(|(_, limbs, time)| ([1.0, *limbs as f64], *time))
            .collect();
        let [base, limb] = least_squares(&points);
        Line { base, limb }
    }

    fn fit(&self, log_n: LogN) -> RingCost {
        let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len().max(1) as f64;
        let [switch_base, transform, convert, key_product, weighted] =
            least_squares(&self.switches);
        let [key_digit, key_limb] = least_squares(&self.keys);
        RingCost {
            log_n,
            add: self.line("add"),
            scale: self.line("scale"),
            mul: self.line("mul"),
            square: self.line("square"),
            mul_plain: self.line("mul_plain"),
            product_term: self.line("product_term"),
            plain_term: self.line("plain_term"),
            combination_operand: self.line("combination_operand"),
            combination_term: self.line("combination_term"),
            rescale: self.line("rescale"),
            encode: self.line("encode"),
            encrypt: self.line("encrypt"),
            decrypt: self.line("decrypt"),
            decode: self.line("decode"),
            switch_base,
            // nothing is free: a fit may put all of one part into another
            transform: transform.max(1e-3),
            convert,
            key_product,
            weighted,
            key_digit,
            key_limb,
            spread: mean(&self.spread),
            crowd: mean(&self.crowd),
            wide: mean(&self.wide),
        }
    }
}

/// Coefficients, none negative, for which the sum of the squares of relative errors is least.
fn least_squares<const K: usize>(points: &[([f64; K], f64)]) -> [f64; K] {
    let mut x = [0.0; K];
    let rows: Vec<[f64; K]> = points.iter().map(|(f, t)| f.map(|f| f / t)).collect();
    let norms: [f64; K] = std::array::from_fn(|k| rows.iter().map(|r| r[k] * r[k]).sum());
    for _ in 0..20_000 {
        let mut moved = 0.0f64;
        for k in 0..K {
            if norms[k] == 0.0 {
                continue;
            }
            let gradient: f64 = rows
                .iter()
                .map(|r| r[k] * (1.0 - r.iter().zip(&x).map(|(r, x)| r * x).sum::<f64>()))
                .sum();
            let next = (x[k] + gradient / norms[k]).max(0.0);
            moved = moved.max((next - x[k]).abs() * norms[k].sqrt());
            x[k] = next;
        }
        if moved < 1e-9 {
            break;
        }
    }
    x
}

/// One context with operands at every level.
struct Bench {
    context: Context,
    threads: usize,
    patience: Duration,
    keys: EvaluationKeys,
    special: usize,
    top: usize,
    scale: Scale,
    /// Vectors to encode, in turn.
    values: Vec<Vec<f64>>,
    secret: hecc_ckks::SecretKey,
    public: hecc_ckks::PublicKey,
}

impl Bench {
    fn new(
        log_n: LogN,
        limbs: usize,
        special: usize,
        bits: u32,
        threads: usize,
        patience: Duration,
    ) -> Result<Bench, Error> {
        // a chain as circuits have it; with wide primes all are
        let scale = Scale(2f64.powi(if bits > FAST_BITS {
            bits as i32 - 1
        } else {
            40
        }));
        let none = || Error::Empty("primes for measuring");
        let p = ntt_primes_below(log_n, 1 << bits, special + 1, &[]);
        let (first, p) = p.split_first().ok_or_else(none)?;
        let mut q = vec![*first];
        while q.len() < limbs {
            let taken: Vec<u64> = q.iter().chain(p).copied().collect();
            q.push(ntt_prime_nearest(log_n, scale.0, 1 << bits, &taken).ok_or_else(none)?);
        }
        let parameters = Parameters::new(ParametersLiteral {
            log_n,
            q,
            p: p.to_vec(),
            digit_limbs: special,
            scale,
            security: Security::Insecure,
        })
        .map_err(|_| none())?;
        let context = Context::new(parameters)?;
        // The values do not matter, and nothing of this is kept.
        let mut randomness = Randomness::deterministic([7; 32]);
        let secret = context.secret_key(&mut randomness);
        let public = context.public_key(&secret, &mut randomness)?;
        let mut request = EvaluationKeyRequest::default();
        let top = Level(limbs as u32 - 1);
        request.relinearize_at(top);
        for i in 0..ROTATIONS {
            request.apply_at(GaloisElement::rotation(RotationStep(1 << i), log_n), top);
        }
        let keys = context.evaluation_keys(&secret, &request, &mut randomness)?;
        let values = (0..VECTORS)
            .map(|v| {
                let value = |i| ((i * 37 + v * 11) % 1000) as f64;
                let slots = 0..log_n.slots();
                slots.map(|i| (value(i) - 500.0) / 500.0).collect()
            })
            .collect();
        Ok(Bench {
            context,
            threads,
            patience,
            keys,
            special,
            top: limbs,
            scale,
            values,
            secret,
            public,
        })
    }

    fn sample(&self, out: &mut Samples) -> Result<(), Error> {
        let mut sizes = vec![1, 2.min(self.top), self.top.div_ceil(2), self.top];
        sizes.dedup();
        for limbs in sizes {
            self.sample_at(limbs, out)?;
            self.sample_key(limbs, out)?;
        }
        self.sample_threads(out)
    }

    /// A new key, in memory that is touched for the first time: those made before are kept.
    fn sample_key(&self, limbs: usize, out: &mut Samples) -> Result<(), Error> {
        let mut request = EvaluationKeyRequest::default();
        request.relinearize_at(Level(limbs as u32 - 1));
        let mut randomness = Randomness::deterministic([10; 32]);
        let mut kept = Vec::new();
        let mut best = f64::INFINITY;
        for _ in 0..KEYS {
            let started = processor_time();
            kept.push(
                self.context
                    .evaluation_keys(&self.secret, &request, &mut randomness)?,
            );
            best = best.min(processor_time() - started);
        }
        let size = Switch {
            limbs,
            special: self.special,
            digit_limbs: self.special,
        };
        out.keys.push((size.key_parts(), best));
        Ok(())
    }

    fn encrypted(&self, limbs: usize, count: usize) -> Result<Vec<Ciphertext>, Error> {
        let level = Level(limbs as u32 - 1);
        let plain = self.context.encode(&self.values[0], level, self.scale)?;
        let mut randomness = Randomness::deterministic([8; 32]);
        let one = self
            .context
            .encrypt(&plain, &self.public, &mut randomness)?;
        Ok(vec![one; count])
    }

    fn sample_at(&self, limbs: usize, out: &mut Samples) -> Result<(), Error> {
        let c = &self.context;
        let level = Level(limbs as u32 - 1);
        let bytes = 16 * limbs * c.parameters().log_n().degree();
        let count = (OPERANDS / bytes).clamp(2, 32);
        let mut x = self.encrypted(limbs, count)?;
        let y = self.encrypted(limbs, count)?;
        let plain: Plaintext = c.encode(&self.values[0], level, self.scale)?;
        let mut time = |name: &'static str, f: &mut dyn FnMut(usize) -> Result<(), Error>| {
            let t = self.least(count, f)?;
            out.lines.push((name, limbs, t));
            Ok::<f64, Error>(t)
        };
        time("add", &mut |i| c.add_assign(&mut x[i], &y[i]))?;
        time("scale", &mut |i| {
            c.mul_scalar_assign(&mut x[i], 1.0, Scale::ONE)?;
            c.mul_scalar_assign(&mut x[i], 3.0, Scale::ONE)
        })?;
        let product = time("mul", &mut |i| c.mul(&x[i], &y[i]).map(drop))?;
        time("square", &mut |i| c.square(&x[i]).map(drop))?;
        let by_plain = time("mul_plain", &mut |i| c.mul_plain(&x[i], &plain).map(drop))?;
        let terms = count.min(8);
        let pairs: Vec<_> = x.iter().zip(&y).take(terms).collect();
        let t = self.least(1, &mut |_| c.mul_sum(&pairs).map(drop))?;
        out.lines.push((
            "product_term",
            limbs,
            positive((t - product) / (terms - 1) as f64),
        ));
        // a plaintext each, as in a circuit: reading them is what takes time
        let plains = vec![plain.clone(); terms];
        let pairs: Vec<_> = x.iter().zip(&plains).collect();
        let t = self.least(1, &mut |_| c.mul_plain_sum(&pairs).map(drop))?;
        out.lines.push((
            "plain_term",
            limbs,
            positive((t - by_plain) / (terms - 1) as f64),
        ));

        let operands: Vec<&Ciphertext> = x.iter().collect();
        let row: Vec<f64> = (0..count).map(|i| i as f64 + 2.0).collect();
        let few = self.least(1, &mut |_| {
            c.linear_combinations(&operands, &[&row], Scale::ONE)
                .map(drop)
        })?;
        let rows = [row.as_slice(); 9];
        let many = self.least(1, &mut |_| {
            c.linear_combinations(&operands, &rows, Scale::ONE)
                .map(drop)
        })?;
        let term = positive((many - few) / (8 * count) as f64);
        out.lines.push(("combination_term", limbs, term));
        let operand = positive(few / count as f64 - term);
        out.lines.push(("combination_operand", limbs, operand));

        if limbs > 1 {
            let t = self.least(count, &mut |i| c.rescale(&x[i]).map(drop))?;
            out.lines.push(("rescale", limbs, t));
            let (from, to) = (2.0, 2.0 * (limbs - 1) as f64);
            out.switches.push(([1.0, from + to, to, 0.0, 0.0], t));
        }
        // one vector after the other, each to where its plaintext waits until it is used
        let mut waiting = vec![plain.clone(); 2 * count];
        let t = self.least(waiting.len(), &mut |i| {
            waiting[i] = c.encode(&self.values[i % VECTORS], level, self.scale)?;
            Ok(())
        })?;
        drop(waiting);
        out.lines.push(("encode", limbs, t));
        let mut randomness = Randomness::deterministic([9; 32]);
        let t = self.least(1, &mut |_| {
            c.encrypt(&plain, &self.public, &mut randomness).map(drop)
        })?;
        out.lines.push(("encrypt", limbs, t));
        let t = self.least(count, &mut |i| c.decrypt(&y[i], &self.secret).map(drop))?;
        out.lines.push(("decrypt", limbs, t));
        // circuits end at the bottom, where decoding takes no long numbers
        if limbs <= 2 {
            let t = self.least(1, &mut |_| c.decode(&plain).map(drop))?;
            out.lines.push(("decode", limbs, t));
        }
        self.sample_switches(limbs, &y, out)
    }

    fn sample_switches(
        &self,
        limbs: usize,
        y: &[Ciphertext],
        out: &mut Samples,
    ) -> Result<(), Error> {
        let c = &self.context;
        let level = Level(limbs as u32 - 1);
        let size = Switch {
            limbs,
            special: self.special,
            digit_limbs: self.special,
        };
        let products: Result<Vec<Ciphertext>, Error> =
            y.iter().take(4).map(|y| c.square(y)).collect();
        let products = products?;
        let t = self.least(products.len(), &mut |i| {
            c.relinearize(&products[i], &self.keys).map(drop)
        })?;
        out.switches.push((size.parts(1, 0, 1, false), t));
        if limbs > 1 {
            let t = self.least(products.len(), &mut |i| {
                c.relinearize_rescale(&products[i], &self.keys).map(drop)
            })?;
            out.switches.push((size.parts(1, 0, 1, true), t));
        }
        let steps: Vec<RotationStep> = (0..ROTATIONS).map(|i| RotationStep(1 << i)).collect();
        let some = y.len().min(4);
        // each by another step: circuits read another key, too
        let t = self.least(ROTATIONS, &mut |i| {
            c.rotate(&y[i % some], steps[i], &self.keys).map(drop)
        })?;
        out.switches.push((size.parts(1, 0, 1, false), t));
        let t = self.least(some, &mut |i| {
            c.rotate_hoisted(&y[i], &steps, &self.keys).map(drop)
        })?;
        out.switches
            .push((size.parts(ROTATIONS, 0, ROTATIONS, false), t));
        let weights: Result<Vec<ExtendedPlaintext>, Error> = (0..ROTATIONS)
            .map(|i| c.encode_extended(&self.values[i % VECTORS], level, self.scale))
            .collect();
        let weights = weights?;
        let terms: Vec<(RotationStep, Weight<'_>)> = steps
            .iter()
            .zip(&weights)
            .map(|(s, w)| (*s, Weight::Plain(w)))
            .collect();
        let t = self.least(some, &mut |i| {
            c.rotate_sum(&y[i], &terms, self.scale, &self.keys)
                .map(drop)
        })?;
        out.switches
            .push((size.parts(ROTATIONS, ROTATIONS, 1, false), t));
        Ok(())
    }

    /// Microseconds of a rotation at the top level.
    fn rotation(&self) -> Result<f64, Error> {
        let x = self.encrypted(self.top, 2)?;
        self.least(x.len(), &mut |i| {
            let step = RotationStep(1);
            self.context.rotate(&x[i], step, &self.keys).map(drop)
        })
    }

    /// How well one operation spreads over all threads, and how much slower it is when every
    /// thread has one.
    fn sample_threads(&self, out: &mut Samples) -> Result<(), Error> {
        if self.threads < 2 {
            out.spread.push(0.0);
            out.crowd.push(1.0);
            return Ok(());
        }
        let x = self.encrypted(self.top, self.threads)?;
        let step = RotationStep(1);
        let rotate =
            |context: &Context, x: &Ciphertext| context.rotate(x, step, &self.keys).map(drop);
        let wide = self.context.parallel(true);
        let wall = |context: &Context| {
            let mut best = f64::INFINITY;
            let begun = Instant::now();
            let mut rounds = 0;
            while rounds < 5 || (begun.elapsed() < 2 * self.patience && rounds < 1000) {
                let started = Instant::now();
                rotate(context, &x[0])?;
                best = best.min(microseconds(started.elapsed()));
                rounds += 1;
            }
            Ok::<f64, Error>(best)
        };
        let (alone, spread) = (wall(&self.context)?, wall(&wide)?);
        let share = (1.0 - spread / alone) / (1.0 - 1.0 / self.threads as f64);
        out.spread.push(share.clamp(0.0, 1.0));
        let alone = self.least(1, &mut |_| rotate(&self.context, &x[0]))?;
        // All at once, for as long as a few runs take.
        let runs = (microseconds(self.patience) / alone)
            .ceil()
            .clamp(2.0, 200.0) as usize;
        let mut crowd = f64::INFINITY;
        for _ in 0..4 {
            let times = std::thread::scope(|scope| {
                let threads: Vec<_> = x
                    .iter()
                    .map(|x| {
                        scope.spawn(|| {
                            let started = processor_time();
                            for _ in 0..runs {
                                rotate(&self.context, x)?;
                            }
                            Ok::<f64, Error>((processor_time() - started) / runs as f64)
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|t| t.join().unwrap_or(Err(Error::Empty("a thread's work"))))
                    .collect::<Result<Vec<f64>, Error>>()
            })?;
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            crowd = crowd.min(mean / alone);
        }
        out.crowd.push(crowd.clamp(1.0, self.threads as f64));
        Ok(())
    }

    /// Microseconds of the quickest round over `count` operands, each.
    fn least(
        &self,
        count: usize,
        f: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<f64, Error> {
        let begun = Instant::now();
        let mut best = f64::INFINITY;
        let mut rounds = 0;
        while rounds < 3 || (begun.elapsed() < self.patience && rounds < 1000) {
            let started = processor_time();
            for i in 0..count {
                black_box(f(i)?);
            }
            best = best.min((processor_time() - started) / count as f64);
            rounds += 1;
        }
        Ok(best)
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Microseconds that this thread has run.
#[cfg(unix)]
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 * 1e-3
}

/// Microseconds since the first call.
#[cfg(not(unix))]
fn processor_time() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    microseconds(START.get_or_init(Instant::now).elapsed())
}

/// Microseconds for each MiB of memory that is touched for the first time.
fn fresh() -> f64 {
    const MIB: usize = 64;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = processor_time();
        black_box(vec![1u64; MIB << 17]);
        best = best.min((processor_time() - started) / MIB as f64);
    }
    best
}

/// A difference of two times that noise has not made negative.
fn positive(time: f64) -> f64 {
    time.max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_what_is_exact_and_stays_positive() {
        let points: Vec<([f64; 2], f64)> = (1..6)
            .map(|i| ([1.0, f64::from(i)], 3.0 + 2.0 * f64::from(i)))
            .collect();
        let [base, limb] = least_squares(&points);
        assert!((base - 3.0).abs() < 1e-6 && (limb - 2.0).abs() < 1e-6);
        // A line through these would begin below zero.
        let points: Vec<([f64; 2], f64)> = (1..6)
            .map(|i| ([1.0, f64::from(i)], 2.0 * f64::from(i) - 1.0))
            .collect();
        let [base, limb] = least_squares(&points);
        assert!(base == 0.0 && limb > 1.0 && limb < 2.0);
    }
}
