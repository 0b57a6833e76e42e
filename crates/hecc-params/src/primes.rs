//! Primes that admit a negacyclic NTT: p ≡ 1 (mod 2N).

use crate::LogN;

fn mul_mod(a: u64, b: u64, m: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(m)) as u64
}

fn pow_mod(mut base: u64, mut exponent: u64, m: u64) -> u64 {
    let mut result = 1;
    base %= m;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul_mod(result, base, m);
        }
        base = mul_mod(base, base, m);
        exponent >>= 1;
    }
    result
}

/// Whether `n` is prime: Miller–Rabin with the bases that are deterministic below 2^64
/// (Sorenson and Webster, 2015).
pub fn is_prime(n: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    for p in BASES {
        if n.is_multiple_of(p) {
            return n == p;
        }
    }
    let s = (n - 1).trailing_zeros();
    let d = (n - 1) >> s;
    BASES.iter().all(|&a| {
        let mut x = pow_mod(a, d, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        for _ in 1..s {
            x = mul_mod(x, x, n);
            if x == n - 1 {
                return true;
            }
        }
        false
    })
}

/// The NTT prime for `log_n` nearest to `target` that is not in `taken` and lies strictly below
/// `limit`. `None` when there is none above 2N.
pub fn ntt_prime_nearest(log_n: LogN, target: f64, limit: u64, taken: &[u64]) -> Option<u64> {
    let step = 2 * log_n.degree() as u64;
    if !(target >= 1.0 && target < (1u64 << 62) as f64) {
        return None;
    }
    let centre = (target as u64) / step;
    // Primes have density 1/ln: a few hundred candidates hold one with certainty in practice;
    // the bound keeps the search finite where the class has run dry.
    for distance in 0..100_000u64 {
        let up = centre.checked_add(distance);
        let down = centre.checked_sub(distance);
        let mut best: Option<u64> = None;
        for k in [down, up].into_iter().flatten() {
            let p = k * step + 1;
            if p > step && p < limit && !taken.contains(&p) && is_prime(p) {
                let nearer =
                    best.is_none_or(|b: u64| (p as f64 - target).abs() < (b as f64 - target).abs());
                if nearer {
                    best = Some(p);
                }
            }
        }
        if best.is_some() {
            return best;
        }
    }
    None
}

/// The `count` largest NTT primes for `log_n` strictly below `limit` and not in `taken`, in
/// decreasing order; fewer when the class runs dry.
pub fn ntt_primes_below(log_n: LogN, limit: u64, count: usize, taken: &[u64]) -> Vec<u64> {
    let step = 2 * log_n.degree() as u64;
    let mut found = Vec::with_capacity(count);
    let mut k = limit.saturating_sub(2) / step;
    while k > 0 && found.len() < count {
        let p = k * step + 1;
        if p < limit && !taken.contains(&p) && is_prime(p) {
            found.push(p);
        }
        k -= 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primality_agrees_with_trial_division() {
        for n in 0..5000u64 {
            let slow = n >= 2 && (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0);
            assert_eq!(is_prime(n), slow, "{n}");
        }
        assert!(is_prime((1 << 61) - 1));
        assert!(!is_prime(((1 << 31) - 1) * ((1 << 19) - 1)));
    }

    #[test]
    fn ntt_primes_have_roots_of_unity() {
        let primes = ntt_primes_below(LogN(13), 1 << 50, 5, &[]);
        assert_eq!(primes.len(), 5);
        for p in primes {
            assert!(is_prime(p) && p % (1 << 14) == 1 && p < 1 << 50);
        }
        let near = ntt_prime_nearest(LogN(13), (1u64 << 40) as f64, 1 << 50, &[]).unwrap();
        assert!((near as f64 / (1u64 << 40) as f64 - 1.0).abs() < 1e-5);
    }
}
