//! Arithmetic on f64 that says whether the result is exact.
//!
//! Sums are checked with Knuth's two-sum, products and quotients with a fused multiply-add. Where
//! nothing is exact, nothing is folded: the operation stays in the program and is evaluated in the
//! clear.

/// Below this, the error of a product might itself not be representable.
const SAFE: f64 = 1e-250;

/// a + b, when f64 holds it exactly.
pub fn add(a: f64, b: f64) -> Option<f64> {
    let s = a + b;
    let t = s - a;
    let error = (a - (s - t)) + (b - t);
    (s.is_finite() && error == 0.0).then(|| positive_zero(s))
}

/// a − b, when f64 holds it exactly.
pub fn sub(a: f64, b: f64) -> Option<f64> {
    add(a, -b)
}

/// a · b, when f64 holds it exactly.
pub fn mul(a: f64, b: f64) -> Option<f64> {
    if a == 0.0 || b == 0.0 {
        return (a.is_finite() && b.is_finite()).then_some(0.0);
    }
    let p = a * b;
    (p.is_finite() && p.abs() > SAFE && a.mul_add(b, -p) == 0.0).then_some(p)
}

/// a / b, when f64 holds it exactly.
pub fn div(a: f64, b: f64) -> Option<f64> {
    if b == 0.0 || !b.is_finite() || !a.is_finite() {
        return None;
    }
    if a == 0.0 {
        return Some(0.0);
    }
    let q = a / b;
    (q.is_finite() && q.abs() > SAFE && a.abs() > SAFE && q.mul_add(b, -a) == 0.0).then_some(q)
}

/// aⁿ, when f64 holds it and every power on the way exactly.
pub fn pow(a: f64, n: u32) -> Option<f64> {
    let (mut result, mut square, mut left) = (1.0, a, n);
    while left > 0 {
        if left & 1 == 1 {
            result = mul(result, square)?;
        }
        left >>= 1;
        if left > 0 {
            square = mul(square, square)?;
        }
    }
    Some(result)
}

/// The same value without a sign on zero.
pub fn positive_zero(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_results_are_found_and_inexact_ones_refused() {
        assert_eq!(add(0.5, 0.25), Some(0.75));
        assert_eq!(add(0.1, 0.2), None);
        assert_eq!(add(1e300, 1.0), None);
        assert_eq!(mul(3.0, 0.125), Some(0.375));
        assert_eq!(mul(0.1, 0.1), None);
        assert_eq!(mul(1e-200, 1e-200), None);
        assert_eq!(mul(1e200, 1e200), None);
        assert_eq!(div(1.0, 4.0), Some(0.25));
        assert_eq!(div(1.0, 3.0), None);
        assert_eq!(div(1.0, 0.0), None);
        assert_eq!(pow(3.0, 5), Some(243.0));
        assert_eq!(pow(0.1, 2), None);
        assert_eq!(pow(7.0, 0), Some(1.0));
        assert_eq!(sub(1.0, 1.0).map(f64::to_bits), Some(0));
    }
}
