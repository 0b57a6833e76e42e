//! The negacyclic NTT of one prime.

use tfhe_ntt::prime64::Plan;

use super::kernels::Path;
use super::modulus::Modulus;
use crate::{Error, Result};

/// A prime with its NTT. Values come out in bit-reversed order: place i holds the value at
/// ψ^(2·bitrev(i)+1).
pub(crate) struct Ntt {
    pub(crate) modulus: Modulus,
    plan: Plan,
    /// N^-1 as a plain number: multiplying by it takes an unscaled inverse transform out of
    /// Montgomery form.
    pub(crate) n_inv: u64,
    /// N^-1 in Montgomery form.
    pub(crate) n_inv_mont: u64,
}

impl Ntt {
    pub(crate) fn new(n: usize, q: u64, path: Path) -> Result<Ntt> {
        let plan = Plan::try_new(n, q).ok_or(Error::NoNtt {
            size: n,
            modulus: q,
        })?;
        let modulus = Modulus::new(q, path);
        let n_inv_mont = modulus.inverse(modulus.enter(n as u64));
        Ok(Ntt {
            n_inv: modulus.leave(n_inv_mont),
            n_inv_mont,
            modulus,
            plan,
        })
    }

    /// Coefficients to values, in place.
    pub(crate) fn forward(&self, limb: &mut [u64]) {
        self.plan.fwd(limb);
    }

    /// Values to N times the coefficients, in place.
    pub(crate) fn inverse_unscaled(&self, limb: &mut [u64]) {
        self.plan.inv(limb);
    }
}
