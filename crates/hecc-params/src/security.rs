//! The security table.

use serde::{Deserialize, Serialize};

use crate::LogN;

/// Smallest ring degree hecc uses, as its logarithm.
pub const MIN_LOG_N: LogN = LogN(10);
/// Largest ring degree hecc uses, as its logarithm.
pub const MAX_LOG_N: LogN = LogN(17);

/// How hard breaking a key must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Security {
    /// No promise at all; only after a loud opt-out, for research and for tests on small rings.
    Insecure,
    /// At least 2^128 classical operations.
    Bits128,
    /// At least 2^192 classical operations.
    Bits192,
    /// At least 2^256 classical operations.
    Bits256,
}

/// Most bits of log2(QP), by log2 N from 10 to 17, for a uniform ternary secret, error of standard
/// deviation 3.19 and classical attacks: "Security Guidelines for Implementing Homomorphic
/// Encryption", eprint 2024/463. The row for 128 bits was checked against a public recomputation with that paper's
/// script; for 192 and 256 bits and N from 2^14 on the recomputation allows up to 1 % more than the
/// numbers here, and the smaller ones are kept.
const MAX_LOG_QP: [(Security, [u32; 8]); 3] = [
    (Security::Bits128, [26, 53, 106, 214, 430, 868, 1747, 3523]),
    (Security::Bits192, [17, 36, 73, 147, 296, 597, 1199, 2411]),
    (Security::Bits256, [13, 27, 56, 114, 227, 458, 919, 1848]),
];

/// Most bits that the product of all primes, special primes included, may have.
/// `None` when the ring is outside the table or nothing is promised.
pub fn max_log_qp(log_n: LogN, security: Security) -> Option<u32> {
    let column = log_n.0.checked_sub(MIN_LOG_N.0)? as usize;
    MAX_LOG_QP
        .iter()
        .find(|(s, _)| *s == security)
        .and_then(|(_, row)| row.get(column).copied())
}

/// The highest security level of the table that holds: 128, 192, 256, or 0 when none does.
pub fn security_bits(log_n: LogN, log_qp: f64) -> u32 {
    let holds = |s: Security| max_log_qp(log_n, s).is_some_and(|most| log_qp <= f64::from(most));
    if holds(Security::Bits256) {
        256
    } else if holds(Security::Bits192) {
        192
    } else if holds(Security::Bits128) {
        128
    } else {
        0
    }
}
