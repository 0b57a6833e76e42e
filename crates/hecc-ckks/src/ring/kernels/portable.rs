//! The kernels in plain Rust; compiled a second time for AVX2, where the compiler vectorises sums
//! and uses mulx.

use super::KeyRow;
use crate::ring::modulus::Modulus;

macro_rules! define {
    ($($(#[$doc:meta])* fn $name:ident($m:ident, $($arg:ident : $ty:ty),*) $body:block)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name($m: &Modulus, $($arg: $ty),*) $body
        )*

        /// The same, compiled for AVX2, BMI2 and ADX.
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "a call of a function with target features")]
        pub(crate) mod avx2 {
            use super::{KeyRow, Modulus};
            mod compiled {
                use super::{KeyRow, Modulus};
                $(
                    #[target_feature(enable = "avx2,bmi2,adx")]
                    pub(super) fn $name($m: &Modulus, $($arg: $ty),*) {
                        super::super::$name($m, $($arg),*)
                    }
                )*
            }
            $(
                pub(crate) fn $name($m: &Modulus, $($arg: $ty),*) {
                    // SAFETY: `Path::Avx2` is only chosen after the processor was asked for these features.
                    unsafe { compiled::$name($m, $($arg),*) }
                }
            )*
        }
    };
}

define! {
    fn add_assign(m, a: &mut [u64], b: &[u64]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = m.add(*a, b);
        }
    }
    fn add_to(m, out: &mut [u64], a: &[u64], b: &[u64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = m.add(a, b);
        }
    }
    fn sub_assign(m, a: &mut [u64], b: &[u64]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = m.sub(*a, b);
        }
    }
    fn sub_to(m, out: &mut [u64], a: &[u64], b: &[u64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = m.sub(a, b);
        }
    }
    fn neg_to(m, out: &mut [u64], a: &[u64]) {
        for (out, &a) in out.iter_mut().zip(a) {
            *out = m.neg(a);
        }
    }
    fn neg_assign(m, a: &mut [u64]) {
        for a in a.iter_mut() {
            *a = m.neg(*a);
        }
    }
    fn add_const_assign(m, a: &mut [u64], c: u64) {
        for a in a.iter_mut() {
            *a = m.add(*a, c);
        }
    }
    fn mul_to(m, out: &mut [u64], a: &[u64], b: &[u64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = m.mul(a, b);
        }
    }
    fn mul_assign(m, a: &mut [u64], b: &[u64]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = m.mul(*a, b);
        }
    }
    fn mul_const_to(m, out: &mut [u64], a: &[u64], c: u64) {
        for (out, &a) in out.iter_mut().zip(a) {
            *out = m.mul(a, c);
        }
    }
    fn mul_const_assign(m, a: &mut [u64], c: u64) {
        for a in a.iter_mut() {
            *a = m.mul(*a, c);
        }
    }
    fn mul_add_assign(m, acc: &mut [u64], a: &[u64], b: &[u64]) {
        for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
            *acc = m.add(*acc, m.mul(a, b));
        }
    }
    fn mul_sub_assign(m, acc: &mut [u64], a: &[u64], b: &[u64]) {
        for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
            *acc = m.sub(*acc, m.mul(a, b));
        }
    }
    fn reduce_assign(m, a: &mut [u64]) {
        for a in a.iter_mut() {
            *a = m.reduce(*a);
        }
    }
    fn mul_const_add_assign(m, acc: &mut [u64], a: &[u64], c: u64) {
        for (acc, &a) in acc.iter_mut().zip(a) {
            *acc = m.add(*acc, m.mul(a, c));
        }
    }
    fn sub_mul_const_to(m, out: &mut [u64], x: &[u64], t: &[u64], c: u64) {
        for ((out, &x), &t) in out.iter_mut().zip(x).zip(t) {
            *out = m.mul(m.sub(x, t), c);
        }
    }
    fn tensor(m, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], terms: &[[&[u64]; 4]]) {
        for (i, ((d0, d1), d2)) in d0.iter_mut().zip(d1).zip(d2).enumerate() {
            let (mut s0, mut s1, mut s2) = (0, 0, 0);
            for [a0, a1, b0, b1] in terms {
                let (a0, a1, b0, b1) = (a0[i], a1[i], b0[i], b1[i]);
                s0 = m.accumulate(s0, a0, b0);
                s1 = m.accumulate(s1, a0, b1);
                s1 = m.accumulate(s1, a1, b0);
                s2 = m.accumulate(s2, a1, b1);
            }
            *d0 = m.reduce_sum(s0);
            *d1 = m.reduce_sum(s1);
            *d2 = m.reduce_sum(s2);
        }
    }
    fn tensor_square(m, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], a0: &[u64], a1: &[u64]) {
        for (i, ((d0, d1), d2)) in d0.iter_mut().zip(d1).zip(d2).enumerate() {
            let (a0, a1) = (a0[i], a1[i]);
            *d0 = m.mul(a0, a0);
            let cross = m.mul(a0, a1);
            *d1 = m.add(cross, cross);
            *d2 = m.mul(a1, a1);
        }
    }
    fn key_dot(m, out0: &mut [u64], out1: &mut [u64], x: &[&[u64]], key: &KeyRow<'_>, c: &[&[u64]], p: u64) {
        for (i, (out0, out1)) in out0.iter_mut().zip(out1).enumerate() {
            let mut sums = [0; 2];
            for (sum, c) in sums.iter_mut().zip(c) {
                *sum = m.accumulate(0, c[i], p);
            }
            for (d, x) in x.iter().enumerate() {
                sums[0] = m.accumulate(sums[0], x[i], key.value(i, 2 * d));
                sums[1] = m.accumulate(sums[1], x[i], key.value(i, 2 * d + 1));
            }
            *out0 = m.reduce_sum(sums[0]);
            *out1 = m.reduce_sum(sums[1]);
        }
    }
    fn dot(m, out: &mut [u64], terms: &[(&[u64], &[u64])]) {
        for (i, out) in out.iter_mut().enumerate() {
            let mut sum = 0;
            for (a, b) in terms {
                sum = m.accumulate(sum, a[i], b[i]);
            }
            *out = m.reduce_sum(sum);
        }
    }
    fn dot_repeated(m, out: &mut [u64], terms: &[(&[u64], &[u64])], repeat: usize) {
        for (block, out) in out.chunks_mut(repeat).enumerate() {
            let start = block * repeat;
            for (i, out) in out.iter_mut().enumerate() {
                let mut sum = 0;
                for (a, b) in terms {
                    sum = m.accumulate(sum, a[start + i], b[block]);
                }
                *out = m.reduce_sum(sum);
            }
        }
    }
    fn combine(m, outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]) {
        for (out, weights) in outs.iter_mut().zip(weights.chunks(x.len().max(1))) {
            for (i, out) in out.iter_mut().enumerate() {
                let mut sum = 0;
                for (x, &w) in x.iter().zip(weights) {
                    // A residue of a larger prime may be too wide for R = 2^52.
                    let x = if x[i] < 1 << 50 { x[i] } else { m.reduce(x[i]) };
                    sum = m.accumulate(sum, x, w);
                }
                *out = m.reduce_sum(sum);
            }
        }
    }
    fn centre_to(m, out: &mut [u64], y: &[u64], p: u64) {
        for (out, &y) in out.iter_mut().zip(y) {
            *out = if y > p / 2 {
                m.neg(m.enter(p - y))
            } else {
                m.enter(y)
            };
        }
    }
    fn matrix(m, outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]) {
        for (out, weights) in outs.iter_mut().zip(weights.chunks(x.len().max(1))) {
            for (i, out) in out.iter_mut().enumerate() {
                let mut sum = 0;
                for (x, &w) in x.iter().zip(weights) {
                    sum = m.accumulate(sum, x[i], w);
                }
                *out = m.reduce_sum(sum);
            }
        }
    }
    fn enter_signed_to(m, out: &mut [u64], x: &[i64]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = m.enter_signed(x);
        }
    }
}
