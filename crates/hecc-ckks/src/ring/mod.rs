//! The ring Z\[X\]/(X^N + 1) modulo a chain of primes.

pub(crate) mod automorphism;
pub(crate) mod basis;
pub(crate) mod kernels;
pub(crate) mod modulus;
pub(crate) mod ntt;
mod poly;
mod pool;
pub(crate) mod sampling;
mod scalar_ntt;
#[cfg(test)]
mod tests;

pub use poly::{Coeff, Domain, Eval, Poly};
pub(crate) use pool::{Buffer, Pool, zeros};
