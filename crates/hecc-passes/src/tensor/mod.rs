//! Passes on tensor programs, one file each.
//!
//! [`unroll`] comes first and leaves one flat circuit; every other pass takes and yields such a
//! circuit. All of them keep the meaning of the program exactly, as a polynomial with rational
//! coefficients: constants are folded only where f64 holds the result exactly.

pub mod balance;
pub mod build;
pub mod check;
pub mod cost;
pub mod exact;
pub mod expand;
pub mod matrix;
pub mod poly;
pub mod precompute;
pub mod scan;
pub mod simplify;
pub mod unroll;

#[cfg(test)]
mod table;
#[cfg(test)]
pub(crate) mod testing;
