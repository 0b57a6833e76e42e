//! One prime: Montgomery arithmetic on numbers and on whole limbs.
//!
//! R is 2^52 for primes below 2^50, so that the 52-bit multipliers of AVX-512 IFMA fit, and 2^64 for
//! larger ones. It depends on the prime alone, never on the processor: the stored residues, and with
//! them every result, are the same on every machine.

use super::kernels::{self, KeyRow, Path};

/// Primes below this take the 52-bit path.
pub(crate) const SMALL: u64 = 1 << 50;

/// Most terms of one lazily reduced sum; longer sums are split.
pub(crate) const MAX_TERMS: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Modulus {
    pub(crate) q: u64,
    /// log2 R: 52 or 64.
    pub(crate) r_bits: u32,
    /// q^-1 mod R.
    pub(crate) q_inv: u64,
    /// R² mod q, which takes a number to Montgomery form.
    pub(crate) r2: u64,
    /// ⌊2^64 / q⌋.
    pub(crate) barrett: u64,
    /// q·2^s just below 2^114 or 2^126: sums are kept below it.
    pub(crate) lazy_limit: u128,
    pub(crate) path: Path,
}

impl Modulus {
    pub(crate) fn new(q: u64, path: Path) -> Modulus {
        let small = q < SMALL;
        let r_bits = if small { 52 } else { 64 };
        // Newton: five steps double the 5 correct bits of q·q ≡ 1 (mod 2^3) beyond 64.
        let mut q_inv = q;
        for _ in 0..5 {
            q_inv = q_inv.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(q_inv)));
        }
        if small {
            q_inv &= (1 << 52) - 1;
        }
        let r = ((1u128 << r_bits) % u128::from(q)) as u64;
        let r2 = (u128::from(r) * u128::from(r) % u128::from(q)) as u64;
        let bits = 64 - q.leading_zeros();
        let limit_bits = if small { 114 } else { 126 };
        Modulus {
            q,
            r_bits,
            q_inv,
            r2,
            barrett: ((1u128 << 64) / u128::from(q)) as u64,
            lazy_limit: u128::from(q) << (limit_bits - bits),
            path: if small { path } else { path.without_ifma() },
        }
    }

    /// a·b·R^-1, canonical; a·b must be below q·R.
    #[inline(always)]
    pub(crate) fn mul(&self, a: u64, b: u64) -> u64 {
        self.reduce_one(u128::from(a) * u128::from(b))
    }

    /// v·R^-1, canonical, for v below q·R.
    #[inline(always)]
    pub(crate) fn reduce_one(&self, v: u128) -> u64 {
        let (hi, t) = self.halves(v);
        let (r, borrow) = hi.overflowing_sub(t);
        if borrow { r.wrapping_add(self.q) } else { r }
    }

    /// v·R^-1, canonical, for v below [`Self::lazy_limit`].
    #[inline(always)]
    pub(crate) fn reduce_sum(&self, v: u128) -> u64 {
        let (hi, t) = self.halves(v);
        let hi = self.reduce(hi);
        let (r, borrow) = hi.overflowing_sub(t);
        if borrow { r.wrapping_add(self.q) } else { r }
    }

    /// ⌊v/R⌋ and the number below q that is to be subtracted from it.
    #[inline(always)]
    fn halves(&self, v: u128) -> (u64, u64) {
        if self.r_bits == 52 {
            const MASK: u64 = (1 << 52) - 1;
            let m = (v as u64).wrapping_mul(self.q_inv) & MASK;
            let t = ((u128::from(m) * u128::from(self.q)) >> 52) as u64;
            ((v >> 52) as u64, t)
        } else {
            let m = (v as u64).wrapping_mul(self.q_inv);
            let t = ((u128::from(m) * u128::from(self.q)) >> 64) as u64;
            ((v >> 64) as u64, t)
        }
    }

    /// Adds a product to a lazily reduced sum.
    #[inline(always)]
    pub(crate) fn accumulate(&self, sum: u128, a: u64, b: u64) -> u128 {
        let sum = sum + u128::from(a) * u128::from(b);
        if sum >= self.lazy_limit {
            sum - self.lazy_limit
        } else {
            sum
        }
    }

    /// x mod q for any x (Barrett).
    #[inline(always)]
    pub(crate) fn reduce(&self, x: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.barrett)) >> 64) as u64;
        let r = x.wrapping_sub(quotient.wrapping_mul(self.q));
        if r >= self.q { r - self.q } else { r }
    }

    #[inline(always)]
    pub(crate) fn add(&self, a: u64, b: u64) -> u64 {
        let s = a + b;
        if s >= self.q { s - self.q } else { s }
    }

    #[inline(always)]
    pub(crate) fn sub(&self, a: u64, b: u64) -> u64 {
        if a >= b { a - b } else { a + self.q - b }
    }

    #[inline(always)]
    pub(crate) fn neg(&self, a: u64) -> u64 {
        if a == 0 { 0 } else { self.q - a }
    }

    /// A number in Montgomery form.
    pub(crate) fn enter(&self, x: u64) -> u64 {
        self.mul(self.reduce(x), self.r2)
    }

    /// A signed number in Montgomery form.
    pub(crate) fn enter_signed(&self, x: i64) -> u64 {
        let magnitude = self.enter(x.unsigned_abs());
        if x < 0 {
            self.neg(magnitude)
        } else {
            magnitude
        }
    }

    /// The integer m·2^e in Montgomery form.
    pub(crate) fn enter_scaled(&self, m: i64, e: u32) -> u64 {
        let two = self.enter(2);
        self.mul(self.enter_signed(m), self.pow(two, u64::from(e)))
    }

    /// Out of Montgomery form.
    pub(crate) fn leave(&self, x: u64) -> u64 {
        self.mul(x, 1)
    }

    /// x^e, both sides in Montgomery form.
    pub(crate) fn pow(&self, x: u64, mut e: u64) -> u64 {
        let mut base = x;
        let mut result = self.enter(1);
        while e > 0 {
            if e & 1 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            e >>= 1;
        }
        result
    }

    /// x^-1, both sides in Montgomery form; 0 for 0.
    pub(crate) fn inverse(&self, x: u64) -> u64 {
        self.pow(x, self.q - 2)
    }
}

macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident : $ty:ty),*);)*) => {
        impl Modulus {
            $(
                $(#[$doc])*
                #[inline]
                pub(crate) fn $name(&self, $($arg: $ty),*) {
                    kernels::dispatch!(self.path, $name(self, $($arg),*))
                }
            )*
        }
    };
}

kernels! {
    /// a += b
    fn add_assign(a: &mut [u64], b: &[u64]);
    /// out = a + b
    fn add_to(out: &mut [u64], a: &[u64], b: &[u64]);
    /// a -= b
    fn sub_assign(a: &mut [u64], b: &[u64]);
    /// out = a − b
    fn sub_to(out: &mut [u64], a: &[u64], b: &[u64]);
    /// out = −a
    fn neg_to(out: &mut [u64], a: &[u64]);
    /// a = −a
    fn neg_assign(a: &mut [u64]);
    /// a += c
    fn add_const_assign(a: &mut [u64], c: u64);
    /// out = a·b/R
    fn mul_to(out: &mut [u64], a: &[u64], b: &[u64]);
    /// a = a·b/R
    fn mul_assign(a: &mut [u64], b: &[u64]);
    /// out = a·c/R
    fn mul_const_to(out: &mut [u64], a: &[u64], c: u64);
    /// a = a·c/R
    fn mul_const_assign(a: &mut [u64], c: u64);
    /// acc += a·b/R
    fn mul_add_assign(acc: &mut [u64], a: &[u64], b: &[u64]);
    /// acc −= a·b/R
    fn mul_sub_assign(acc: &mut [u64], a: &[u64], b: &[u64]);
    /// a mod q, for any words
    fn reduce_assign(a: &mut [u64]);
    /// out = (x − t)·c/R
    fn sub_mul_const_to(out: &mut [u64], x: &[u64], t: &[u64], c: u64);
    /// acc += a·c/R
    fn mul_const_add_assign(acc: &mut [u64], a: &[u64], c: u64);
    /// (d0, d1, d2) = Σ over terms (a0, a1)⊗(b0, b1)/R
    fn tensor(d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], terms: &[[&[u64]; 4]]);
    /// (d0, d1, d2) = (a0, a1)⊗(a0, a1)/R
    fn tensor_square(d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], a0: &[u64], a1: &[u64]);
    /// (out0, out1) = (Σ over d of x_d·key_d + p·c)/R for the two halves of each digit of the key. `c`
    /// are up to two limbs, for the two results.
    fn key_dot(out0: &mut [u64], out1: &mut [u64], x: &[&[u64]], key: &KeyRow<'_>, c: &[&[u64]], p: u64);
    /// out = Σ a·b/R
    fn dot(out: &mut [u64], terms: &[(&[u64], &[u64])]);
    /// out = Σ a·b/R, each value of b standing for `repeat` neighbours, a multiple of 8
    fn dot_repeated(out: &mut [u64], terms: &[(&[u64], &[u64])], repeat: usize);
    /// outs[o] = Σ over i of x_i·weights[o·|x| + i]/R; the x_i may be residues of other primes
    fn combine(outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]);
    /// out = (y or y − p, whichever is nearer to zero)·R²/R for residues y of the odd number p
    fn centre_to(out: &mut [u64], y: &[u64], p: u64);
    /// The same for many outputs; the x_i are residues of this prime.
    fn matrix(outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]);
    /// out = x·R²/R for signed x below 2^62 in magnitude
    fn enter_signed_to(out: &mut [u64], x: &[i64]);
}
