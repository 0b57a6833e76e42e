//! Polynomials in RNS form, with the domain in the type.

use std::marker::PhantomData;

use super::pool::{Pool, Words};

/// Coefficients, in rising order.
#[derive(Clone, Copy, Debug)]
pub enum Coeff {}

/// Values at the odd powers of a 2N-th root of unity, in bit-reversed order: the NTT form.
#[derive(Clone, Copy, Debug)]
pub enum Eval {}

/// The two forms of a polynomial. Sealed.
pub trait Domain: private::Sealed + Send + Sync + 'static {
    /// Its name, for `Debug`.
    const NAME: &'static str;
}

impl Domain for Coeff {
    const NAME: &'static str = "Coeff";
}
impl Domain for Eval {
    const NAME: &'static str = "Eval";
}

mod private {
    pub trait Sealed {}
    impl Sealed for super::Coeff {}
    impl Sealed for super::Eval {}
}

/// A polynomial of Z\[X\]/(X^N + 1) modulo a product of primes: `values[limb][coefficient]` in one
/// buffer aligned to a cache line.
///
/// Every residue is below its prime and in Montgomery form (x·R mod q, R = 2^52 for primes below
/// 2^50 and 2^64 for others), which the NTT and all sums leave alone. Buffers come from a pool of
/// their [`Context`](crate::Context) and go back to it.
pub struct Poly<D: Domain> {
    words: Words,
    n: usize,
    limbs: usize,
    /// Whether it is wiped when dropped.
    secret: bool,
    pool: Pool,
    domain: PhantomData<D>,
}

impl<D: Domain> Poly<D> {
    /// A polynomial of `n` values a limb, the ring's degree or fewer, with anything in it.
    pub(crate) fn uninit(pool: &Pool, n: usize, limbs: usize) -> Poly<D> {
        Poly {
            words: pool.take(n * limbs),
            n,
            limbs,
            secret: false,
            pool: pool.clone(),
            domain: PhantomData,
        }
    }

    /// The same, to be wiped when it is dropped; and so are its clones.
    pub(crate) fn secret(mut self) -> Poly<D> {
        self.secret = true;
        self
    }

    /// How many limbs.
    pub fn limbs(&self) -> usize {
        self.limbs
    }

    /// The ring degree N.
    pub fn degree(&self) -> usize {
        self.n
    }

    /// The residues of one limb, in Montgomery form.
    pub(crate) fn limb(&self, i: usize) -> &[u64] {
        &self.words[i * self.n..(i + 1) * self.n]
    }

    pub(crate) fn limb_mut(&mut self, i: usize) -> &mut [u64] {
        &mut self.words[i * self.n..(i + 1) * self.n]
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Forgets the limbs from `limbs` on.
    pub(crate) fn truncate(&mut self, limbs: usize) {
        if limbs < self.limbs {
            self.limbs = limbs;
            if self.secret {
                wipe(&mut self.words[limbs * self.n..]);
            }
            self.pool.cut(&mut self.words, limbs * self.n);
        }
    }

    /// Overwrites everything with zeros in a way that is not optimised away.
    pub(crate) fn wipe(&mut self) {
        wipe(&mut self.words);
    }
}

/// Zeros that are written whether anyone reads them or not.
fn wipe(words: &mut [u64]) {
    words.fill(0);
    zeroize::optimization_barrier(words);
}

impl<D: Domain> Drop for Poly<D> {
    fn drop(&mut self) {
        if self.secret {
            self.wipe();
        }
        self.pool
            .give(std::mem::replace(&mut self.words, Words::none()));
    }
}

impl<D: Domain> Clone for Poly<D> {
    fn clone(&self) -> Self {
        let mut copy = Poly::uninit(&self.pool, self.n, self.limbs);
        copy.secret = self.secret;
        copy.words_mut().copy_from_slice(self.words());
        copy
    }
}

/// Shape only: the residues may be secret.
impl<D: Domain> std::fmt::Debug for Poly<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poly<{}>({} limbs of {})", D::NAME, self.limbs, self.n)
    }
}
