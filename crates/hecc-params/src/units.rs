//! Newtypes with units.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Base-2 logarithm of the ring degree N of Z\[X\]/(X^N + 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogN(pub u8);

impl LogN {
    /// The ring degree N.
    pub fn degree(self) -> usize {
        1 << self.0
    }

    /// How many complex slots a ciphertext has: N/2.
    pub fn slots(self) -> usize {
        1 << (self.0 - 1)
    }
}

/// A place in the modulus chain: a ciphertext at level l has the limbs q_0, …, q_l.
/// `Level(0)` is the bottom; a rescale goes one level down.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Level(pub u32);

impl Level {
    /// How many limbs a polynomial at this level has.
    pub fn limbs(self) -> usize {
        self.0 as usize + 1
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The factor between a slot's value and what the ciphertext or plaintext polynomial encodes.
///
/// Kept as f64: products and quotients by primes below 2^53 are each right to 2^-53 relative, so a
/// chain of 15 squarings, which doubles a relative error at each step, stays right to 2^-37.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Scale(pub f64);

impl Scale {
    /// The scale of an integer constant that is multiplied in as it is.
    pub const ONE: Scale = Scale(1.0);

    /// Base-2 logarithm.
    pub fn bits(self) -> f64 {
        self.0.log2()
    }

    /// Whether two scales differ by no more than a relative 2^-32, so that values carrying them
    /// may be added (the difference costs less than the rounding of any scale up to 2^32 would).
    pub fn matches(self, other: Scale) -> bool {
        (self.0 / other.0 - 1.0).abs() <= 1.0 / (1u64 << 32) as f64
    }
}

impl std::ops::Mul for Scale {
    type Output = Scale;
    fn mul(self, rhs: Scale) -> Scale {
        Scale(self.0 * rhs.0)
    }
}

impl std::ops::Div for Scale {
    type Output = Scale;
    fn div(self, rhs: Scale) -> Scale {
        Scale(self.0 / rhs.0)
    }
}

/// A number of bits, possibly fractional.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Bits(pub f64);

/// How far slots are rotated; positive is to the left: slot i of the result is slot i + k of the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RotationStep(pub i32);

/// The odd exponent g, modulo 2N, of the automorphism X → X^g.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GaloisElement(pub u64);

impl GaloisElement {
    /// The element that rotates N/2 slots by `step` to the left: 5^step modulo 2N.
    pub fn rotation(step: RotationStep, log_n: LogN) -> GaloisElement {
        let two_n = 2 * log_n.degree() as u64;
        let k = step.0.rem_euclid(log_n.slots() as i32) as u64;
        let (mut result, mut base, mut e) = (1u64, 5u64, k);
        while e > 0 {
            if e & 1 == 1 {
                result = result * base % two_n;
            }
            base = base * base % two_n;
            e >>= 1;
        }
        GaloisElement(result)
    }

    /// The element that conjugates every slot: 2N − 1.
    pub fn conjugation(log_n: LogN) -> GaloisElement {
        GaloisElement(2 * log_n.degree() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_compose() {
        let log_n = LogN(12);
        let two_n = 2 * log_n.degree() as u64;
        for (a, b) in [(1, 2), (3, -3), (100, 1947), (-1, 1)] {
            let ga = GaloisElement::rotation(RotationStep(a), log_n).0;
            let gb = GaloisElement::rotation(RotationStep(b), log_n).0;
            let gab = GaloisElement::rotation(RotationStep(a + b), log_n).0;
            assert_eq!(ga * gb % two_n, gab, "steps {a} and {b}");
        }
    }
}
