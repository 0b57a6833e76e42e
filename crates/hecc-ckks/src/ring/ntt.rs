//! The negacyclic NTT of one prime.

use tfhe_ntt::prime64::Plan;

use super::kernels::Path;
use super::modulus::Modulus;
use crate::{Error, Result};

/// A prime with its NTT. Values come out in bit-reversed order: place i holds the value at
/// ψ^(2·bitrev(i)+1).
pub(crate) struct Ntt {
    pub(crate) modulus: Modulus,
    transform: Transform,
    /// N^-1 as a plain number: multiplying by it takes an unscaled inverse transform out of
    /// Montgomery form.
    pub(crate) n_inv: u64,
    /// N^-1 in Montgomery form.
    pub(crate) n_inv_mont: u64,
}

/// Two transforms with the same results.
enum Transform {
    Library(Box<Plan>),
    #[cfg(target_arch = "x86_64")]
    Ifma(super::kernels::ntt::Tables),
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
            transform: Transform::new(n, &modulus, plan),
            modulus,
        })
    }

    /// Coefficients to values, in place.
    pub(crate) fn forward(&self, limb: &mut [u64]) {
        match &self.transform {
            Transform::Library(plan) => plan.fwd(limb),
            #[cfg(target_arch = "x86_64")]
            Transform::Ifma(tables) => tables.forward(limb),
        }
    }

    /// Coefficients of the blocks of [`Self::finish_block`].
    pub(crate) fn block(&self, n: usize) -> usize {
        match &self.transform {
            Transform::Library(_) => n,
            #[cfg(target_arch = "x86_64")]
            Transform::Ifma(tables) => tables.block(),
        }
    }

    /// Finishes the block from `start` on of a transform that [`Converter::begin`] has begun, while the
    /// memory at `ahead` is fetched.
    ///
    /// [`Converter::begin`]: super::basis::Converter::begin
    pub(crate) fn finish_block(&self, limb: &mut [u64], start: usize, ahead: &[u8]) {
        match &self.transform {
            Transform::Library(plan) => {
                let _ = (start, ahead);
                plan.fwd(limb);
            }
            #[cfg(target_arch = "x86_64")]
            Transform::Ifma(tables) => tables.finish_block(limb, start, ahead),
        }
    }

    /// Values to N times the coefficients, in place.
    pub(crate) fn inverse_unscaled(&self, limb: &mut [u64]) {
        match &self.transform {
            Transform::Library(plan) => plan.inv(limb),
            #[cfg(target_arch = "x86_64")]
            Transform::Ifma(tables) => tables.inverse(limb),
        }
    }
}

impl Ntt {
    /// The transform that takes conversions and divisions along, if this prime has it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn tables(&self) -> Option<&super::kernels::ntt::Tables> {
        match &self.transform {
            Transform::Library(_) => None,
            Transform::Ifma(tables) => Some(tables),
        }
    }
}

impl Transform {
    fn new(n: usize, modulus: &Modulus, plan: Plan) -> Transform {
        #[cfg(target_arch = "x86_64")]
        if modulus.path == Path::Ifma {
            // The transform of X has ψ itself at its first place.
            let mut x = vec![0; n];
            x[1] = 1;
            plan.fwd(&mut x);
            let root = x[0];
            let inverse = modulus.leave(modulus.inverse(modulus.enter(root)));
            if let Some(tables) = super::kernels::ntt::Tables::new(n, modulus, root, inverse) {
                return Transform::Ifma(tables);
            }
        }
        let _ = (n, modulus);
        Transform::Library(Box::new(plan))
    }
}
