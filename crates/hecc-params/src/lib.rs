//! Checked CKKS parameters, levels, scales, modulus chains and the security table.
//!
//! These are the words that the compiler half and the engine half share. A [`ParametersLiteral`]
//! is what a person or a pass writes down; [`Parameters`] is the same after every check, immutable,
//! and the only form the engine accepts.

mod cost;
pub mod noise;
mod parameters;
mod primes;
mod security;
mod units;

pub use cost::{CostModel, CostModelError, FAST_BITS, Line, RingCost, Switch};
pub use parameters::{
    ERROR_STDDEV, MAX_MODULUS_BITS, Parameters, ParametersError, ParametersLiteral,
};
pub use primes::{is_prime, ntt_prime_nearest, ntt_primes_below};
pub use security::{MAX_LOG_N, MIN_LOG_N, Security, max_log_qp, security_bits};
pub use units::{Bits, GaloisElement, Level, LogN, RotationStep, Scale};
