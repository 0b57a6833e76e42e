//! How large the error of an encrypted slot gets: pure formulas, average case.
//!
//! Every error is described by the variance of one coefficient of its polynomial, in units of the
//! integer lattice (before division by the scale). [`slot_stddev`] turns it into the standard
//! deviation of the real part of one decoded slot. Independent errors add by variance; a product
//! of slots scales errors by the other factor ([`product`]).
//!
//! The model is the usual one (Cheon, Kim, Kim, Song, eprint 2016/421, with the average-case
//! treatment of Costache, Curtis, Hales, Murphy, Ogilvie, Player, eprint 2020/1469): coefficients are independent,
//! roundings uniform on an interval of length 1, the secret uniform ternary with h = 2N/3 nonzero
//! coefficients, errors of standard deviation [`ERROR_STDDEV`]. The engine's tests hold it against
//! measured errors.

use crate::{ERROR_STDDEV, Level, LogN, Scale};

/// Variance of the rounding of a number to an integer.
pub const ROUNDING: f64 = 1.0 / 12.0;

/// Expected number of nonzero coefficients of the secret: 2N/3.
pub fn secret_weight(log_n: LogN) -> f64 {
    log_n.degree() as f64 * 2.0 / 3.0
}

/// Coefficient variance of the rounding when a vector is encoded.
pub fn encoding() -> f64 {
    ROUNDING
}

/// Coefficient variance of a fresh symmetric encryption (rounding of the encoding not included).
pub fn fresh_symmetric() -> f64 {
    ERROR_STDDEV * ERROR_STDDEV
}

/// Coefficient variance of a fresh public-key encryption that is divided by one more prime, `divisor`
/// (rounding of the encoding not included): a rounding, and next to nothing of [`fresh_public`]. This is
/// what the engine does except at the top level of parameters without special primes; `divisor` is
/// the prime above the plaintext's level, or the first special prime at the top.
pub fn fresh_public_divided(log_n: LogN, divisor: u64) -> f64 {
    let divisor = divisor as f64;
    fresh_public(log_n) / (divisor * divisor) + rescale(log_n, 1)
}

/// Coefficient variance of a public-key encryption at `level` of a chain `q` with special primes `p`, as the
/// engine makes it (rounding of the encoding not included).
pub fn fresh_public_at(log_n: LogN, level: Level, q: &[u64], p: &[u64]) -> f64 {
    match q.get(level.limbs()).or(p.first()) {
        Some(&divisor) => fresh_public_divided(log_n, divisor),
        None => fresh_public(log_n),
    }
}

/// Coefficient variance of a public-key encryption without division, e_0 + u·e + e_1·s (rounding of the
/// encoding not included).
pub fn fresh_public(log_n: LogN) -> f64 {
    fresh_symmetric() * (1.0 + 2.0 * secret_weight(log_n))
}

/// Coefficient variance that the rounding of a division (rescale, ModDown) adds to a ciphertext of
/// `degree` 1 or 2: r_0 + r_1·s (+ r_2·s²). What was there before is divided by the square of the divisor.
pub fn rescale(log_n: LogN, degree: usize) -> f64 {
    let h = secret_weight(log_n);
    let s2 = if degree >= 2 { 2.0 * h * h } else { 0.0 };
    ROUNDING * (1.0 + h + s2)
}

/// Coefficient variance that a key switch adds before the rounding of its ModDown, already divided
/// by P: Σ over digits of N·σ²·D²/12 / P², where D is the product of a digit's primes. `q` are the
/// limbs of the operand's level, bottom first. Zero when there are no special primes.
pub fn key_switch_products(log_n: LogN, q: &[u64], p: &[u64], digit_limbs: usize) -> f64 {
    if p.is_empty() {
        return 0.0;
    }
    let log_p: f64 = p.iter().map(|&m| (m as f64).log2()).sum();
    let digits: f64 = q
        .chunks(digit_limbs.max(1))
        .map(|digit| {
            let log_d: f64 = digit.iter().map(|&m| (m as f64).log2()).sum();
            (2.0 * (log_d - log_p)).exp2()
        })
        .sum();
    log_n.degree() as f64 * fresh_symmetric() * ROUNDING * digits
}

/// Coefficient variance that a relinearization, rotation or conjugation adds:
/// [`key_switch_products`] and the rounding of ModDown.
pub fn key_switch(log_n: LogN, q: &[u64], p: &[u64], digit_limbs: usize) -> f64 {
    key_switch_products(log_n, q, p, digit_limbs) + rescale(log_n, 1)
}

/// Coefficient variance after a merged relinearization and rescale of an operand of degree 2 with
/// coefficient variance `before` at the limbs `q`, whose last one is divided away: there is one
/// rounding, not two.
pub fn relinearize_rescale(
    log_n: LogN,
    before: f64,
    q: &[u64],
    p: &[u64],
    digit_limbs: usize,
) -> f64 {
    let last = q.last().map_or(1.0, |&m| m as f64);
    (before + key_switch_products(log_n, q, p, digit_limbs)) / (last * last) + rescale(log_n, 1)
}

/// Standard deviation of the real part of a decoded slot, when one coefficient of the error has
/// variance `coefficient_variance`. With fewer than N/2 slots decoding keeps 2·slots of the N
/// coefficients, which averages the rest away.
pub fn slot_stddev(slots: usize, coefficient_variance: f64, scale: Scale) -> f64 {
    (slots as f64 * coefficient_variance).sqrt() / scale.0
}

/// The coefficient variance, at `scale`, of an error whose slots have standard deviation `stddev`:
/// the inverse of [`slot_stddev`].
pub fn coefficient_variance(slots: usize, stddev: f64, scale: Scale) -> f64 {
    let coefficient = stddev * scale.0;
    coefficient * coefficient / slots as f64
}

/// Variance of the slot error of x·y, from the largest magnitudes of x and y and the variances of
/// their slot errors.
pub fn product(x: f64, x_variance: f64, y: f64, y_variance: f64) -> f64 {
    x * x * y_variance + y * y * x_variance + x_variance * y_variance
}

/// The magnitude that the largest of `count` independent Gaussian errors of standard deviation
/// `stddev` exceeds about once in a thousand times.
pub fn largest(stddev: f64, count: usize) -> f64 {
    // P(|e| > tσ) ≤ exp(−t²/2): a union bound over `count`, at 1/1000.
    stddev * (2.0 * (count.max(1) as f64 * 1000.0).ln()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_have_the_known_orders_of_magnitude() {
        let log_n = LogN(13);
        let slots = log_n.slots();
        let scale = Scale(2f64.powi(40));
        let public = slot_stddev(slots, fresh_public(log_n), scale);
        // σ·√(4N/3)·√(N/2)/2^40 = 3.2 · 104.5 · 64 / 2^40
        assert!((public * scale.0 / (3.2 * 104.5 * 64.0) - 1.0).abs() < 0.01);
        assert!(slot_stddev(slots, fresh_symmetric(), scale) < public / 50.0);
        let round_trip = coefficient_variance(slots, public, scale);
        assert!((round_trip / fresh_public(log_n) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_key_switch_needs_special_primes_as_large_as_a_digit() {
        let q = [(1u64 << 49) + 1, 1 << 40, 1 << 40, 1 << 40];
        let good = key_switch(LogN(13), &q, &[1 << 49], 1);
        let bad = key_switch(LogN(13), &q, &[1 << 30], 1);
        assert!(
            good < 30.0 * rescale(LogN(13), 1) && bad > 1e6 * good,
            "{good} {bad}"
        );
        assert_eq!(key_switch_products(LogN(13), &q, &[], 1), 0.0);
    }
}
