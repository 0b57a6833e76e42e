//! From a parameter literal to checked parameters.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Level, LogN, MAX_LOG_N, MIN_LOG_N, Scale, Security, is_prime, max_log_qp, security_bits,
};

/// Most bits of one prime.
pub const MAX_MODULUS_BITS: u32 = 61;

/// Standard deviation of the discrete Gaussian error.
pub const ERROR_STDDEV: f64 = 3.2;

/// Parameters as written down, unchecked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParametersLiteral {
    /// Ring degree.
    pub log_n: LogN,
    /// The modulus chain q_0, …, q_L, bottom first.
    pub q: Vec<u64>,
    /// The special primes P of hybrid key switching; empty when nothing switches keys.
    pub p: Vec<u64>,
    /// How many limbs of q one digit of the key-switching decomposition holds (dnum = ⌈(L+1)/digit_limbs⌉).
    /// Any value from 1 to the number of special primes keeps the noise of a key switch small.
    pub digit_limbs: usize,
    /// The scale at which inputs are encoded when nothing else is said.
    pub scale: Scale,
    /// The promise that the parameters have to keep.
    pub security: Security,
}

/// Why a literal was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ParametersError {
    /// N outside 2^10 … 2^17.
    #[error("ring degree 2^{0} is outside 2^10 to 2^17")]
    RingDegree(u8),
    /// The chain is empty.
    #[error("the modulus chain is empty: at least one prime is needed")]
    EmptyChain,
    /// A modulus is not a prime ≡ 1 (mod 2N) of at most 61 bits.
    #[error(
        "modulus {0} is not a prime of at most {MAX_MODULUS_BITS} bits that is 1 modulo 2N = {1}"
    )]
    BadModulus(u64, u64),
    /// A modulus occurs twice.
    #[error("modulus {0} occurs twice")]
    RepeatedModulus(u64),
    /// Digits do not fit the special primes.
    #[error("a digit of {digit_limbs} limbs needs as many special primes, and there are {special}")]
    Digits {
        /// Limbs of one digit.
        digit_limbs: usize,
        /// Number of special primes.
        special: usize,
    },
    /// The scale is not a finite number of at least 1.
    #[error("scale {0} is not a finite number of at least 1")]
    BadScale(f64),
    /// log2(QP) is above what the security table allows.
    #[error(
        "log2(QP) = {log_qp:.1} bits is more than the {most} that ring degree 2^{log_n} allows at this security: use a larger ring or fewer levels"
    )]
    NotSecure {
        /// log2 of the product of all primes.
        log_qp: f64,
        /// What the table allows.
        most: u32,
        /// log2 N.
        log_n: u8,
    },
}

/// Checked parameters. Immutable; the only way in is [`Parameters::new`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameters(ParametersLiteral);

impl Parameters {
    /// Checks a literal.
    ///
    /// # Errors
    /// Any [`ParametersError`]; nothing is adjusted silently.
    pub fn new(literal: ParametersLiteral) -> Result<Parameters, ParametersError> {
        let log_n = literal.log_n;
        if log_n < MIN_LOG_N || log_n > MAX_LOG_N {
            return Err(ParametersError::RingDegree(log_n.0));
        }
        if literal.q.is_empty() {
            return Err(ParametersError::EmptyChain);
        }
        let two_n = 2 * log_n.degree() as u64;
        let mut seen = std::collections::BTreeSet::new();
        for &m in literal.q.iter().chain(&literal.p) {
            if m >> MAX_MODULUS_BITS != 0 || m % two_n != 1 || !is_prime(m) {
                return Err(ParametersError::BadModulus(m, two_n));
            }
            if !seen.insert(m) {
                return Err(ParametersError::RepeatedModulus(m));
            }
        }
        let special = literal.p.len();
        if special > 0 && !(1..=special).contains(&literal.digit_limbs) {
            return Err(ParametersError::Digits {
                digit_limbs: literal.digit_limbs,
                special,
            });
        }
        if !(literal.scale.0.is_finite() && literal.scale.0 >= 1.0) {
            return Err(ParametersError::BadScale(literal.scale.0));
        }
        let parameters = Parameters(literal);
        if parameters.0.security > Security::Insecure {
            let most = max_log_qp(log_n, parameters.0.security).unwrap_or(0);
            if parameters.log_qp() > f64::from(most) {
                return Err(ParametersError::NotSecure {
                    log_qp: parameters.log_qp(),
                    most,
                    log_n: log_n.0,
                });
            }
        }
        Ok(parameters)
    }

    /// The literal these parameters came from.
    pub fn literal(&self) -> &ParametersLiteral {
        &self.0
    }

    /// Ring degree, as its logarithm.
    pub fn log_n(&self) -> LogN {
        self.0.log_n
    }

    /// The modulus chain, bottom first.
    pub fn q(&self) -> &[u64] {
        &self.0.q
    }

    /// The special primes.
    pub fn p(&self) -> &[u64] {
        &self.0.p
    }

    /// Limbs of one key-switching digit.
    pub fn digit_limbs(&self) -> usize {
        self.0.digit_limbs
    }

    /// The level of a fresh ciphertext with all limbs.
    pub fn max_level(&self) -> Level {
        Level(self.0.q.len() as u32 - 1)
    }

    /// The scale at which inputs are encoded when nothing else is said.
    pub fn scale(&self) -> Scale {
        self.0.scale
    }

    /// Bytes of one polynomial at `level` as it is stored and sent: every residue with as many bits as its
    /// prime has. A ciphertext is two of these, one where a seed stands for the other.
    pub fn polynomial_bytes(&self, level: Level) -> u64 {
        let n = self.log_n().degree() as u64;
        let limb = |q: &u64| (n * u64::from(64 - q.leading_zeros())).div_ceil(8);
        self.0.q[..level.limbs()].iter().map(limb).sum()
    }

    /// log2 of the product of the chain up to `level`.
    pub fn log_q(&self, level: Level) -> f64 {
        self.0.q[..level.limbs()]
            .iter()
            .map(|&m| (m as f64).log2())
            .sum()
    }

    /// log2 of the product of all primes, special primes included: what security counts.
    pub fn log_qp(&self) -> f64 {
        self.0
            .q
            .iter()
            .chain(&self.0.p)
            .map(|&m| (m as f64).log2())
            .sum()
    }

    /// The security that the table grants: 128, 192, 256, or 0.
    pub fn security_bits(&self) -> u32 {
        security_bits(self.0.log_n, self.log_qp())
    }

    /// The promise these parameters were checked against.
    pub fn security(&self) -> Security {
        self.0.security
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntt_primes_below;

    fn literal(count: usize) -> ParametersLiteral {
        let mut q = ntt_primes_below(LogN(13), 1 << 50, count + 1, &[]);
        let p = q.split_off(count);
        ParametersLiteral {
            log_n: LogN(13),
            q,
            p,
            digit_limbs: 1,
            scale: Scale(2f64.powi(40)),
            security: Security::Bits128,
        }
    }

    #[test]
    fn secure_parameters_pass_and_insecure_ones_are_refused() {
        let p = Parameters::new(literal(3)).unwrap();
        assert_eq!(p.max_level(), Level(2));
        assert_eq!(p.security_bits(), 128);
        let refused = Parameters::new(literal(4)).unwrap_err();
        assert!(
            matches!(refused, ParametersError::NotSecure { most: 214, .. }),
            "{refused}"
        );
        let loud = ParametersLiteral {
            security: Security::Insecure,
            ..literal(4)
        };
        assert_eq!(Parameters::new(loud).unwrap().security_bits(), 0);
    }

    #[test]
    fn bad_literals_are_refused() {
        let refused = |change: fn(&mut ParametersLiteral)| {
            let mut l = literal(3);
            change(&mut l);
            Parameters::new(l).unwrap_err()
        };
        assert_eq!(
            refused(|l| l.log_n = LogN(9)),
            ParametersError::RingDegree(9)
        );
        assert_eq!(refused(|l| l.q.clear()), ParametersError::EmptyChain);
        assert!(matches!(
            refused(|l| l.q[0] = 12345),
            ParametersError::BadModulus(12345, _)
        ));
        assert!(matches!(
            refused(|l| l.p[0] = l.q[0]),
            ParametersError::RepeatedModulus(_)
        ));
        assert!(matches!(
            refused(|l| l.digit_limbs = 2),
            ParametersError::Digits { .. }
        ));
        assert!(matches!(
            refused(|l| l.scale = Scale(f64::NAN)),
            ParametersError::BadScale(_)
        ));
    }
}
