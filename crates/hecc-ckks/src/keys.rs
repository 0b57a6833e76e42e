//! Secret, public and evaluation keys.

use std::collections::BTreeMap;

use hecc_params::{GaloisElement, Level};

use crate::ring::kernels::KeyRow;
use crate::ring::{Buffer, Eval, Poly};

/// A uniformly random ternary secret. Wiped when dropped; `Debug` shows nothing of it.
pub struct SecretKey {
    /// The coefficients, −1, 0 or 1: what is stored.
    pub(crate) coefficients: Vec<i8>,
    /// s modulo every q and every p, wiped when dropped.
    pub(crate) poly: Poly<Eval>,
    pub(crate) tag: u64,
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.coefficients);
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// An encryption of zero modulo the chain and p_0: (−a·s + e, a), with a expanded from a seed.
#[derive(Clone, Debug)]
pub struct PublicKey {
    pub(crate) b: Poly<Eval>,
    pub(crate) a: Poly<Eval>,
    pub(crate) seed: [u8; 32],
    pub(crate) tag: u64,
}

/// What turns c·s' into a ciphertext under s: for each digit (−a·s + e + P·g·s', a) modulo q_0 …
/// q_level and the special primes.
#[derive(Clone, Debug)]
pub struct KeySwitchKey {
    /// Limbs q_0 … q_level, p_0 …, one after the other, each packed as in [`KeyRow`].
    pub(crate) bytes: Buffer<u8>,
    /// Where each limb begins.
    pub(crate) offsets: Vec<usize>,
    /// Bits of a value of each limb.
    pub(crate) bits: Vec<usize>,
    pub(crate) seed: [u8; 32],
    pub(crate) level: Level,
    pub(crate) digits: usize,
}

impl KeySwitchKey {
    /// The packed limb number `j`.
    pub(crate) fn row(&self, j: usize) -> KeyRow<'_> {
        KeyRow {
            bytes: &self.bytes[self.offsets[j]..],
            bits: self.bits[j],
            stride: 2 * self.digits * self.bits[j],
        }
    }

    /// The highest level at which it can be used.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes.len()
    }
}

/// Which keys a computation needs, each up to which level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluationKeyRequest {
    /// The highest level at which a product is relinearized; `None` when none is.
    pub relinearization: Option<Level>,
    /// For each automorphism, the highest level at which it is applied.
    pub galois: BTreeMap<GaloisElement, Level>,
}

impl EvaluationKeyRequest {
    /// Asks for the relinearization key up to `level` (the higher of this and what was asked).
    pub fn relinearize_at(&mut self, level: Level) {
        self.relinearization = self.relinearization.max(Some(level));
    }
    /// Asks for a Galois key up to `level` (the higher of this and what was asked). The identity
    /// needs no key and is left out.
    pub fn apply_at(&mut self, element: GaloisElement, level: Level) {
        if element.0 != 1 {
            let asked = self.galois.entry(element).or_insert(level);
            *asked = level.max(*asked);
        }
    }
}

/// The public keys of an evaluator.
#[derive(Clone, Debug, Default)]
pub struct EvaluationKeys {
    /// Switches s² to s.
    pub(crate) relinearization: Option<KeySwitchKey>,
    /// For each g: switches s to s(X^(1/g)), so that the automorphism comes last.
    pub(crate) galois: BTreeMap<GaloisElement, KeySwitchKey>,
    pub(crate) tag: u64,
}

impl EvaluationKeys {
    /// No keys: enough for a computation that never switches keys.
    pub fn none() -> EvaluationKeys {
        EvaluationKeys::default()
    }
    /// The key that relinearizes products, if there is one.
    pub fn relinearization(&self) -> Option<&KeySwitchKey> {
        self.relinearization.as_ref()
    }
    /// The Galois keys, by element.
    pub fn galois(&self) -> &BTreeMap<GaloisElement, KeySwitchKey> {
        &self.galois
    }
    /// Bytes of the residues in memory.
    pub fn memory(&self) -> usize {
        self.relinearization
            .iter()
            .chain(self.galois.values())
            .map(KeySwitchKey::memory)
            .sum()
    }
}
