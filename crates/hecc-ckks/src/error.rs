//! What can go wrong, with the way out in the text.

use hecc_params::{GaloisElement, Level, Scale};
use thiserror::Error;

/// Why an operation of the engine was refused. No operation panics on its operands.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is NaN or infinite.
    #[error("value number {index} is {value}: only finite numbers can be encoded")]
    NotFinite {
        /// Position in the input.
        index: usize,
        /// The value.
        value: f64,
    },
    /// value × scale does not fit the modulus of the level.
    #[error(
        "values need {needed:.1} bits at scale 2^{:.2} and level {level} has {available:.1}: use a higher level, a smaller scale or smaller values",
        scale.bits()
    )]
    Overflow {
        /// log2 of twice the largest coefficient.
        needed: f64,
        /// log2 of the modulus.
        available: f64,
        /// The level.
        level: Level,
        /// The scale.
        scale: Scale,
    },
    /// A vector whose length is not a power of two up to N/2.
    #[error("{given} slots: the number of slots is a power of two from 1 to {most}")]
    Slots {
        /// Length given.
        given: usize,
        /// N/2.
        most: usize,
    },
    /// A scale that is not finite and positive.
    #[error("scale {0} is not a finite positive number")]
    BadScale(f64),
    /// A level above the chain or above what the operand has.
    #[error("{operation} needs level {needed} and the operand is at level {found}: {help}")]
    Level {
        /// Operation that refused.
        operation: &'static str,
        /// Level needed.
        needed: Level,
        /// Level found.
        found: Level,
        /// The way out.
        help: &'static str,
    },
    /// Two scales that do not match.
    #[error(
        "{operation}: scales 2^{:.6} and 2^{:.6} differ: rescale, or multiply one side by 1 at the missing scale",
        left.bits(), right.bits()
    )]
    ScaleMismatch {
        /// Operation that refused.
        operation: &'static str,
        /// Scale of the left operand.
        left: Scale,
        /// Scale of the right operand.
        right: Scale,
    },
    /// An operation that needs a ciphertext of another degree.
    #[error("{operation} needs a ciphertext of degree {needed} and got degree {found}: {help}")]
    Degree {
        /// Operation that refused.
        operation: &'static str,
        /// Degree needed.
        needed: usize,
        /// Degree found.
        found: usize,
        /// The way out.
        help: &'static str,
    },
    /// The relinearization key was not generated.
    #[error("no relinearization key for level {0}: generate evaluation keys with one")]
    NoRelinearizationKey(Level),
    /// A Galois key was not generated, or only for lower levels.
    #[error("no Galois key for element {} at level {level}: generate evaluation keys with it", element.0)]
    NoGaloisKey {
        /// The automorphism.
        element: GaloisElement,
        /// The level.
        level: Level,
    },
    /// A Galois element that is not odd and below 2N.
    #[error("Galois element {} is not odd and below 2N = {two_n}", element.0)]
    BadGaloisElement {
        /// The element.
        element: GaloisElement,
        /// 2N.
        two_n: u64,
    },
    /// Key switching without special primes.
    #[error("the parameters have no special primes, so that no key can be switched: choose some")]
    NoSpecialPrimes,
    /// An operand that belongs to other parameters.
    #[error("{0} belongs to other parameters than this context")]
    Foreign(&'static str),
    /// An operation over an empty list.
    #[error("{0} over nothing: give at least one operand")]
    Empty(&'static str),
    /// Lists that ought to be of one length.
    #[error("{operation}: {left} operands and {right} weights")]
    Lengths {
        /// Operation that refused.
        operation: &'static str,
        /// Length of the first list.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// The ring or the primes have no NTT.
    #[error("no NTT of size {size} modulo {modulus}")]
    NoNtt {
        /// N.
        size: usize,
        /// The prime.
        modulus: u64,
    },
    /// More primes than the engine takes.
    #[error("more than {0} primes: use a shorter chain")]
    TooManyPrimes(usize),
    /// The operating system gave no randomness.
    #[error("the operating system gave no random seed: {0}")]
    NoRandomness(String),
    /// Bytes that are no object of this kind and these parameters.
    #[error("not a valid {what}: {why}")]
    Malformed {
        /// Which object was read.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, Error>;
