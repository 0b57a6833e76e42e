//! The negacyclic NTT of one prime.

use tfhe_ntt::prime64::Plan;

use super::kernels::Path;
use super::modulus::Modulus;
use super::scalar_ntt::ScalarNtt;
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
    /// ψ^(N/2), a square root of −1, in Montgomery form: what X^(N/2) is at the first N/2 places; at the
    /// others it is the negative.
    pub(crate) iota: u64,
}

/// Transforms with the same results.
enum Transform {
    Library(Plain),
    #[cfg(target_arch = "x86_64")]
    Ifma(super::kernels::ntt::Tables),
}

/// Whole transforms, nothing taken along.
enum Plain {
    Library(Box<Plan>),
    Scalar(ScalarNtt),
}

impl Plain {
    fn fwd(&self, limb: &mut [u64]) {
        match self {
            Plain::Library(plan) => plan.fwd(limb),
            Plain::Scalar(tables) => tables.forward(limb),
        }
    }

    fn inv(&self, limb: &mut [u64]) {
        match self {
            Plain::Library(plan) => plan.inv(limb),
            Plain::Scalar(tables) => tables.inverse(limb),
        }
    }
}

impl Ntt {
    pub(crate) fn new(n: usize, q: u64, path: Path) -> Result<Ntt> {
        let plan = Plan::try_new(n, q).ok_or(Error::NoNtt {
            size: n,
            modulus: q,
        })?;
        let modulus = Modulus::new(q, path);
        let n_inv_mont = modulus.inverse(modulus.enter(n as u64));
        let mut monomial = vec![0; n];
        monomial[n / 2] = 1;
        plan.fwd(&mut monomial);
        Ok(Ntt {
            n_inv: modulus.leave(n_inv_mont),
            n_inv_mont,
            iota: modulus.enter(monomial[0]),
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
        let roots = || {
            // The transform of X has ψ itself at its first place.
            let mut x = vec![0; n];
            x[1] = 1;
            plan.fwd(&mut x);
            let root = x[0];
            (root, modulus.leave(modulus.inverse(modulus.enter(root))))
        };
        #[cfg(target_arch = "x86_64")]
        if modulus.path == Path::Ifma {
            let (root, inverse) = roots();
            if let Some(tables) = super::kernels::ntt::Tables::new(n, modulus, root, inverse) {
                return Transform::Ifma(tables);
            }
        }
        // The library knows no way to switch its instructions off, and takes larger primes.
        if modulus.path == Path::Portable && modulus.q < 1 << 62 {
            let (root, inverse) = roots();
            return Transform::Library(Plain::Scalar(ScalarNtt::new(n, modulus.q, root, inverse)));
        }
        Transform::Library(Plain::Library(Box::new(plan)))
    }
}
