//! The ring Z\[X\]/(X^N + 1) modulo a chain of primes.

mod poly;
mod pool;

pub use poly::{Coeff, Domain, Eval, Poly};
pub(crate) use pool::Pool;
