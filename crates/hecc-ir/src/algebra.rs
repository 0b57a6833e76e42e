//! What a circuit can be evaluated in: reals, a prime field, intervals.
//!
//! Every interpreter of this crate is generic over an [`Algebra`], so that a pass can be checked
//! exactly (in [`F61`]), a program run in the clear ([`Clear`]) and its values bounded
//! ([`Intervals`]) by one and the same code.

use std::fmt;

use crate::graph::Interval;
use crate::tensor::{Basis, Polynomial};

/// Arithmetic that circuits can be evaluated in.
pub trait Algebra {
    /// An element.
    type Value: Clone + fmt::Debug;

    /// The element that stands for a constant of the program; `None` when there is none (NaN, infinity).
    fn lift(&self, x: f64) -> Option<Self::Value>;
    /// The neutral element of addition.
    fn zero(&self) -> Self::Value;
    /// The neutral element of multiplication.
    fn one(&self) -> Self::Value;
    /// a + b.
    fn add(&self, a: &Self::Value, b: &Self::Value) -> Self::Value;
    /// a − b.
    fn sub(&self, a: &Self::Value, b: &Self::Value) -> Self::Value;
    /// a · b.
    fn mul(&self, a: &Self::Value, b: &Self::Value) -> Self::Value;
    /// −a.
    fn neg(&self, a: &Self::Value) -> Self::Value;
    /// a / b; `None` when b has no inverse.
    fn div(&self, a: &Self::Value, b: &Self::Value) -> Option<Self::Value>;

    /// a², of one and the same value.
    fn square(&self, a: &Self::Value) -> Self::Value {
        self.mul(a, a)
    }

    /// acc += a · b.
    fn mul_add(&self, acc: &mut Self::Value, a: &Self::Value, b: &Self::Value) {
        *acc = self.add(acc, &self.mul(a, b));
    }

    /// aⁿ, by squaring; 1 for n = 0.
    fn pow(&self, a: &Self::Value, n: u32) -> Self::Value {
        if n == 0 {
            return self.one();
        }
        let mut out = a.clone();
        for bit in (0..n.ilog2()).rev() {
            out = self.square(&out);
            if n >> bit & 1 == 1 {
                out = self.mul(&out, a);
            }
        }
        out
    }

    /// p(x): Horner's rule for monomials, Clenshaw's recurrence for Chebyshev polynomials; `None`
    /// when a coefficient is no element or a Chebyshev interval is empty.
    fn poly(&self, p: &Polynomial, x: &Self::Value) -> Option<Self::Value> {
        match p.basis {
            Basis::Monomial => {
                let mut terms = p.coefficients.iter().rev();
                let mut acc = match terms.next() {
                    Some(c) => self.lift(c.0)?,
                    None => self.zero(),
                };
                for c in terms {
                    acc = self.add(&self.mul(&acc, x), &self.lift(c.0)?);
                }
                Some(acc)
            }
            Basis::Chebyshev { lo, hi } => {
                let (lo, hi) = (self.lift(lo.0)?, self.lift(hi.0)?);
                let ends = self.add(&lo, &hi);
                let numerator = self.sub(&self.add(x, x), &ends);
                let u = self.div(&numerator, &self.sub(&hi, &lo))?;
                let twice = self.add(&u, &u);
                let (mut b1, mut b2) = (self.zero(), self.zero());
                for c in p.coefficients.iter().skip(1).rev() {
                    let b0 = self.sub(&self.mul(&twice, &b1), &b2);
                    b2 = b1;
                    b1 = self.add(&b0, &self.lift(c.0)?);
                }
                let first = match p.coefficients.first() {
                    Some(c) => self.lift(c.0)?,
                    None => self.zero(),
                };
                Some(self.add(&first, &self.sub(&self.mul(&u, &b1), &b2)))
            }
        }
    }
}

/// Double precision: the reference in the clear. Division by zero is `None`; overflow is infinite.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clear;

impl Algebra for Clear {
    type Value = f64;

    fn lift(&self, x: f64) -> Option<f64> {
        Some(x)
    }
    fn zero(&self) -> f64 {
        0.0
    }
    fn one(&self) -> f64 {
        1.0
    }
    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }
    fn sub(&self, a: &f64, b: &f64) -> f64 {
        a - b
    }
    fn mul(&self, a: &f64, b: &f64) -> f64 {
        a * b
    }
    fn neg(&self, a: &f64) -> f64 {
        -a
    }
    fn div(&self, a: &f64, b: &f64) -> Option<f64> {
        (*b != 0.0).then(|| a / b)
    }
    fn mul_add(&self, acc: &mut f64, a: &f64, b: &f64) {
        *acc += a * b;
    }
}

/// An element of the field of integers modulo the prime 2^61 − 1, reduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct M61(u64);

impl M61 {
    /// The prime 2^61 − 1.
    pub const MODULUS: u64 = (1 << 61) - 1;
    /// Zero.
    pub const ZERO: M61 = M61(0);
    /// One.
    pub const ONE: M61 = M61(1);

    /// The residue of an integer.
    pub fn new(x: u64) -> M61 {
        let folded = (x & Self::MODULUS) + (x >> 61);
        M61(if folded >= Self::MODULUS {
            folded - Self::MODULUS
        } else {
            folded
        })
    }

    /// The residue, below 2^61 − 1.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The image of a dyadic rational, exact; `None` for NaN and infinities.
    ///
    /// 2^61 is 1 here, so a power of two is a rotation of bits.
    pub fn from_f64(x: f64) -> Option<M61> {
        if !x.is_finite() {
            return None;
        }
        let bits = x.to_bits();
        let field = (bits >> 52 & 0x7ff) as i64;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) = match field {
            0 => (fraction, -1074),
            e => (fraction | 1 << 52, e - 1075),
        };
        let magnitude = M61::new(mantissa) * M61(1 << exponent.rem_euclid(61));
        Some(if x.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        })
    }

    /// x^e.
    pub fn pow(self, mut e: u64) -> M61 {
        let (mut out, mut base) = (M61::ONE, self);
        while e > 0 {
            if e & 1 == 1 {
                out = out * base;
            }
            base = base * base;
            e >>= 1;
        }
        out
    }

    /// 1/x; `None` for zero.
    pub fn inverse(self) -> Option<M61> {
        (!self.is_zero()).then(|| self.pow(Self::MODULUS - 2))
    }
}

impl std::ops::Add for M61 {
    type Output = M61;
    fn add(self, rhs: M61) -> M61 {
        let s = self.0 + rhs.0;
        M61(if s >= Self::MODULUS {
            s - Self::MODULUS
        } else {
            s
        })
    }
}
impl std::ops::Sub for M61 {
    type Output = M61;
    fn sub(self, rhs: M61) -> M61 {
        self + -rhs
    }
}
impl std::ops::Neg for M61 {
    type Output = M61;
    fn neg(self) -> M61 {
        M61(if self.0 == 0 {
            0
        } else {
            Self::MODULUS - self.0
        })
    }
}
impl std::ops::Mul for M61 {
    type Output = M61;
    fn mul(self, rhs: M61) -> M61 {
        let wide = u128::from(self.0) * u128::from(rhs.0);
        let s = (wide as u64 & Self::MODULUS) + (wide >> 61) as u64;
        M61(if s >= Self::MODULUS {
            s - Self::MODULUS
        } else {
            s
        })
    }
}

/// The field of [`M61`]: two programs that are equal as polynomials with dyadic coefficients agree
/// here at every point, and two that differ disagree at a random point but for a chance of degree / 2^61.
#[derive(Clone, Copy, Debug, Default)]
pub struct F61;

impl Algebra for F61 {
    type Value = M61;

    fn lift(&self, x: f64) -> Option<M61> {
        M61::from_f64(x)
    }
    fn zero(&self) -> M61 {
        M61::ZERO
    }
    fn one(&self) -> M61 {
        M61::ONE
    }
    fn add(&self, a: &M61, b: &M61) -> M61 {
        *a + *b
    }
    fn sub(&self, a: &M61, b: &M61) -> M61 {
        *a - *b
    }
    fn mul(&self, a: &M61, b: &M61) -> M61 {
        *a * *b
    }
    fn neg(&self, a: &M61) -> M61 {
        -*a
    }
    fn div(&self, a: &M61, b: &M61) -> Option<M61> {
        b.inverse().map(|i| *a * i)
    }
}

/// Interval arithmetic. Rounding is to nearest, not outwards: bounds are right to a few units in
/// the last place. Endpoints may become infinite; a value that may be anything is `[-∞, ∞]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intervals;

const EVERYTHING: Interval = Interval {
    lo: f64::NEG_INFINITY,
    hi: f64::INFINITY,
};

fn interval(lo: f64, hi: f64) -> Interval {
    if lo.is_nan() || hi.is_nan() {
        EVERYTHING
    } else {
        Interval { lo, hi }
    }
}

/// A product in which 0 · ∞ is 0, as bounds need it.
fn bound_product(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

impl Algebra for Intervals {
    type Value = Interval;

    fn lift(&self, x: f64) -> Option<Interval> {
        (!x.is_nan()).then_some(Interval { lo: x, hi: x })
    }
    fn zero(&self) -> Interval {
        Interval { lo: 0.0, hi: 0.0 }
    }
    fn one(&self) -> Interval {
        Interval { lo: 1.0, hi: 1.0 }
    }
    fn add(&self, a: &Interval, b: &Interval) -> Interval {
        interval(a.lo + b.lo, a.hi + b.hi)
    }
    fn sub(&self, a: &Interval, b: &Interval) -> Interval {
        interval(a.lo - b.hi, a.hi - b.lo)
    }
    fn mul(&self, a: &Interval, b: &Interval) -> Interval {
        let p = [
            bound_product(a.lo, b.lo),
            bound_product(a.lo, b.hi),
            bound_product(a.hi, b.lo),
            bound_product(a.hi, b.hi),
        ];
        interval(
            p.iter().copied().fold(f64::INFINITY, f64::min),
            p.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
    fn neg(&self, a: &Interval) -> Interval {
        Interval {
            lo: -a.hi,
            hi: -a.lo,
        }
    }
    fn div(&self, a: &Interval, b: &Interval) -> Option<Interval> {
        if b.lo == 0.0 && b.hi == 0.0 {
            return None;
        }
        if b.lo <= 0.0 && b.hi >= 0.0 {
            return Some(EVERYTHING);
        }
        Some(self.mul(
            a,
            &Interval {
                lo: 1.0 / b.hi,
                hi: 1.0 / b.lo,
            },
        ))
    }
    fn square(&self, a: &Interval) -> Interval {
        self.pow(a, 2)
    }
    fn pow(&self, a: &Interval, n: u32) -> Interval {
        if n == 0 {
            return self.one();
        }
        let power = |x: f64| Clear.pow(&x, n);
        let (lo, hi) = (power(a.lo), power(a.hi));
        if n % 2 == 1 {
            interval(lo, hi)
        } else if a.lo <= 0.0 && a.hi >= 0.0 {
            interval(0.0, lo.max(hi))
        } else {
            interval(lo.min(hi), lo.max(hi))
        }
    }
    fn poly(&self, p: &Polynomial, x: &Interval) -> Option<Interval> {
        poly_range(p, *x)
    }
}

/// The range of a polynomial on an interval, closely from outside.
///
/// The polynomial is interpolated in the Chebyshev basis of the interval, which bounds its second
/// derivative; a grid finer than that bends finds the extrema to within a few percent of its size.
/// O(degree²). `None` when a coefficient is not finite or the basis is empty.
pub fn poly_range(p: &Polynomial, x: Interval) -> Option<Interval> {
    let degree = p.coefficients.len().max(1) - 1;
    let at = |v: f64| Clear.poly(p, &v);
    if degree == 0 {
        let c = at(0.0)?;
        return Some(interval(c, c));
    }
    if !(x.lo.is_finite() && x.hi.is_finite()) {
        return Some(EVERYTHING);
    }
    let (middle, half) = (0.5 * x.lo + 0.5 * x.hi, 0.5 * x.hi - 0.5 * x.lo);
    let n = degree + 1;
    let mut values = Vec::with_capacity(n);
    for j in 0..n {
        let u = (std::f64::consts::PI * (j as f64 + 0.5) / n as f64).cos();
        values.push(at(middle + half * u)?);
    }
    let mut bound = 0.0;
    let mut bend = 0.0;
    let mut constant = 0.0;
    for k in 0..n {
        let mut c = 0.0;
        for (j, v) in values.iter().enumerate() {
            c += v * (std::f64::consts::PI * k as f64 * (j as f64 + 0.5) / n as f64).cos();
        }
        c *= if k == 0 { 1.0 } else { 2.0 } / n as f64;
        if k == 0 {
            constant = c;
        } else {
            bound += c.abs();
        }
        let k2 = (k * k) as f64;
        bend += c.abs() * k2 * (k2 - 1.0).max(0.0) / 3.0;
    }
    let samples = 64 * n;
    let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
    for i in 0..=samples {
        let v = at(middle + half * (2.0 * i as f64 / samples as f64 - 1.0))?;
        lo = lo.min(v);
        hi = hi.max(v);
    }
    let reach = 1.0 / samples as f64;
    let slack = 0.5 * bend * reach * reach + 1e-12 * (bound + constant.abs());
    Some(interval(
        (lo - slack).max(constant - bound * (1.0 + 1e-12) - 1e-12 * constant.abs()),
        (hi + slack).min(constant + bound * (1.0 + 1e-12) + 1e-12 * constant.abs()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Real;

    #[test]
    fn field_holds_dyadic_rationals_exactly() {
        let f = |x: f64| M61::from_f64(x).expect("finite");
        assert_eq!(f(0.1) * f(1024.0), f(102.4));
        assert_eq!(f(-0.75) + f(0.5), f(-0.25));
        assert_eq!(f(f64::MIN_POSITIVE) * f(2f64.powi(1022)), f(1.0));
        assert_eq!(f(5e-324) * f(2f64.powi(1000)) * f(2f64.powi(74)), M61::ONE);
        assert_eq!(f(-0.0), M61::ZERO);
        assert_eq!(M61::new(u64::MAX).get(), u64::MAX % M61::MODULUS);
        assert_eq!(M61::new(M61::MODULUS), M61::ZERO);
        let x = M61::new(123_456_789_123);
        assert_eq!(x * x.inverse().expect("not zero"), M61::ONE);
        assert!(M61::from_f64(f64::NAN).is_none());
        assert!(M61::ZERO.inverse().is_none());
    }

    #[test]
    fn both_bases_agree_in_the_field() {
        // T_3(u) = 4u³ − 3u with u = (2x − 0 − 4)/4 = x/2 − 1.
        let cheb = Polynomial {
            basis: Basis::Chebyshev {
                lo: Real(0.0),
                hi: Real(4.0),
            },
            coefficients: [1.5, -2.0, 0.0, 1.0].map(Real).to_vec(),
        };
        let x = M61::new(987_654_321);
        let u = x * M61::from_f64(0.5).expect("finite") - M61::ONE;
        let f = |v: f64| M61::from_f64(v).expect("finite");
        let expected = f(1.5) - f(2.0) * u + f(4.0) * u * u * u - f(3.0) * u;
        assert_eq!(F61.poly(&cheb, &x), Some(expected));
        let mono = Polynomial {
            basis: Basis::Monomial,
            coefficients: [1.0, 2.0, 3.0].map(Real).to_vec(),
        };
        assert_eq!(Clear.poly(&mono, &2.0), Some(17.0));
        assert_eq!(F61.pow(&x, 5), x.pow(5));
        assert_eq!(F61.pow(&x, 0), M61::ONE);
    }

    #[test]
    fn ranges_of_polynomials_are_close() {
        let p = Polynomial {
            basis: Basis::Monomial,
            coefficients: [0.0, -3.0, 0.0, 4.0].map(Real).to_vec(),
        };
        let r = poly_range(&p, Interval::UNIT).expect("finite");
        assert!(r.lo <= -1.0 && r.hi >= 1.0 && r.magnitude() < 1.02, "{r:?}");
        let square = Intervals.pow(&Interval::new(-2.0, 1.0), 2);
        assert_eq!(square, Interval::new(0.0, 4.0));
    }
}
