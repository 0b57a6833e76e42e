//! A full-RNS CKKS engine.
#![allow(dead_code, reason = "signatures first")]

mod api;
mod ciphertext;
mod context;
mod error;
mod keys;
mod randomness;
mod ring;

pub use api::Weight;
pub use ciphertext::{Ciphertext, ExtendedPlaintext, Plaintext, SeededCiphertext};
pub use context::{Context, Options};
pub use error::{Error, Result};
pub use keys::{EvaluationKeyRequest, EvaluationKeys, KeySwitchKey, PublicKey, SecretKey};
pub use randomness::Randomness;
pub use ring::{Coeff, Domain, Eval, Poly};

pub use hecc_params as params;
pub use num_complex::Complex64;
