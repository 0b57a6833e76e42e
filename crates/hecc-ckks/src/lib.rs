//! A full-RNS CKKS engine: approximate arithmetic on encrypted vectors of real and complex numbers.
//!
//! # Example
//!
//! ```
//! use hecc_ckks::{Context, EvaluationKeyRequest, Randomness};
//! use hecc_ckks::params::{Level, LogN, Parameters, ParametersLiteral, Scale, Security, ntt_primes_below};
//!
//! // Two primes near 2^40 to compute with on top of one of 49 bits, and one special prime.
//! let log_n = LogN(13);
//! let mut q = ntt_primes_below(log_n, 1 << 49, 2, &[]);
//! let p = vec![q.remove(0)];
//! q.extend(ntt_primes_below(log_n, 1 << 40, 2, &[]));
//! let scale = Scale(2f64.powi(40));
//! let context = Context::new(Parameters::new(ParametersLiteral {
//!     log_n, q, p, digit_limbs: 1, scale, security: Security::Bits128,
//! })?)?;
//!
//! let mut randomness = Randomness::from_os()?;
//! let secret = context.secret_key(&mut randomness);
//! let public = context.public_key(&secret, &mut randomness)?;
//! let mut request = EvaluationKeyRequest::default();
//! request.relinearize_at(Level(2));
//! let keys = context.evaluation_keys(&secret, &request, &mut randomness)?;
//!
//! let x = context.encode(&[0.5, -0.25, 1.0, 3.0], Level(2), scale)?;
//! let x = context.encrypt(&x, &public, &mut randomness)?;
//! let squares = context.relinearize_rescale(&context.square(&x)?, &keys)?;
//! let y = context.decode(&context.decrypt(&squares, &secret)?)?;
//! assert!((y[3] - 9.0).abs() < 1e-4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! [`Context`] has every operation: it encodes, makes keys, encrypts and computes. Data are
//! [`Plaintext`], [`Ciphertext`] and [`EvaluationKeys`]; sizes, levels and scales come from
//! [`params`]. The chain of modules is strict: `ring` knows no keys, keys know no ciphertext.
//!
//! # What is promised
//! Against someone who sees ciphertexts and public keys: IND-CPA at the security level of the
//! parameters. Not promised: anything once decrypted results are handed on, since the error in a
//! CKKS result depends on the secret key (Li, Micciancio, eprint 2020/1533); integrity of
//! ciphertexts; freedom from timing leaks of decoding.

/// Parts of the ring, reachable for benchmarks only.
#[doc(hidden)]
pub mod measure {
    use crate::Context;

    /// A forward transform modulo prime `prime` (q_0, …, p_0, …), in place.
    pub fn forward(context: &Context, prime: usize, limb: &mut [u64]) {
        context.primes()[prime].forward(limb);
    }

    /// An inverse transform, unscaled.
    pub fn inverse(context: &Context, prime: usize, limb: &mut [u64]) {
        context.primes()[prime].inverse_unscaled(limb);
    }
}

mod ciphertext;
mod context;
mod encoder;
mod error;
mod evaluator;
mod keygen;
mod keys;
mod keyswitch;
mod linear;
mod randomness;
mod ring;
mod tasks;
mod wire;

pub use ciphertext::{Ciphertext, ExtendedPlaintext, Plaintext, SeededCiphertext};
pub use context::{Context, Memory, Options};
pub use error::{Error, Result};
pub use keys::{EvaluationKeyRequest, EvaluationKeys, KeySwitchKey, PublicKey, SecretKey};
pub use keyswitch::Weight;
pub use linear::{Diagonals, LinearTransform};
pub use randomness::Randomness;
pub use ring::{Coeff, Domain, Eval, Poly};

pub use hecc_params as params;
pub use num_complex::Complex64;
