//! The kernels for AVX-512 with IFMA: eight residues at a time, 52-bit products.
//!
//! A product a·b is the pair (lo, hi) of its halves at 2^52, and sums of products are sums of
//! pairs: 2^12 of them fit before anything has to be carried. One Montgomery reduction then takes
//! seven instructions ([`reduce`]).
#![expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]

use std::arch::x86_64::*;

use super::KeyRow;
use crate::ring::automorphism::Factor;
use crate::ring::modulus::{MAX_TERMS, Modulus};

/// Whether this processor has what [`Path::Ifma`](super::Path::Ifma) needs.
pub(crate) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512ifma")
        && std::arch::is_x86_feature_detected!("avx512vbmi")
        && std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("adx")
}

const LANES: usize = 8;

/// The constants of a modulus in registers.
#[derive(Clone, Copy)]
struct Q {
    q: __m512i,
    q_inv: __m512i,
    zero: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn constants(m: &Modulus) -> Q {
    Q {
        q: _mm512_set1_epi64(m.q as i64),
        q_inv: _mm512_set1_epi64(m.q_inv as i64),
        zero: _mm512_setzero_si512(),
    }
}

/// (lo + hi·2^52)/2^52 mod q in (−q, …), made non-negative: canonical when the sum is below q·2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn reduce(k: Q, lo: __m512i, hi: __m512i) -> __m512i {
    let hi = _mm512_add_epi64(hi, _mm512_srli_epi64::<52>(lo));
    reduce_no_carry(k, lo, hi)
}

/// [`reduce`] for a single product, whose lo is below 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn reduce_no_carry(k: Q, lo: __m512i, hi: __m512i) -> __m512i {
    // The multipliers read the low 52 bits only, so that lo needs no mask.
    let m = _mm512_madd52lo_epu64(k.zero, lo, k.q_inv);
    let t = _mm512_madd52hi_epu64(k.zero, m, k.q);
    let r = _mm512_sub_epi64(hi, t);
    _mm512_min_epu64(r, _mm512_add_epi64(r, k.q))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn mul1(k: Q, a: __m512i, b: __m512i) -> __m512i {
    let lo = _mm512_madd52lo_epu64(k.zero, a, b);
    let hi = _mm512_madd52hi_epu64(k.zero, a, b);
    reduce_no_carry(k, lo, hi)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn add1(k: Q, a: __m512i, b: __m512i) -> __m512i {
    let s = _mm512_add_epi64(a, b);
    _mm512_min_epu64(s, _mm512_sub_epi64(s, k.q))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn sub1(k: Q, a: __m512i, b: __m512i) -> __m512i {
    let d = _mm512_sub_epi64(a, b);
    _mm512_min_epu64(d, _mm512_add_epi64(d, k.q))
}

/// Takes a number below q·2^steps below q.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn fold(k: Q, mut r: __m512i, steps: u32) -> __m512i {
    for s in (0..steps).rev() {
        let multiple = _mm512_sll_epi64(k.q, _mm_cvtsi64_si128(i64::from(s)));
        r = _mm512_min_epu64(r, _mm512_sub_epi64(r, multiple));
    }
    r
}

/// A sum of `terms` products of numbers below 2^50 and below q is below terms·q·2^50, so that its
/// Montgomery quotient is below terms/4·q: how many conditional subtractions that leaves.
fn fold_steps(terms: usize) -> u32 {
    if terms <= 4 {
        0
    } else {
        terms.div_ceil(4).next_power_of_two().trailing_zeros()
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(p: *const u64, i: usize) -> __m512i {
    // SAFETY: the caller passes i + 8 ≤ length of the slice that p points into.
    unsafe { _mm512_loadu_si512(p.add(i).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(p: *mut u64, i: usize, v: __m512i) {
    // SAFETY: the caller passes i + 8 ≤ length of the slice that p points into.
    unsafe { _mm512_storeu_si512(p.add(i).cast(), v) }
}

/// Checks once that every slice of a call is as long as the first and whole registers long.
macro_rules! same_length {
    ($n:expr $(, $len:expr)*) => {
        assert!($n % LANES == 0 $(&& $len == $n)*, "kernel operands of unequal length")
    };
}

macro_rules! define {
    ($(fn $name:ident($m:ident, $($arg:ident : $ty:ty),*) $body:block)*) => {
        mod compiled {
            use super::*;
            $(
                #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
                pub(super) fn $name($m: &Modulus, $($arg: $ty),*) $body
            )*
        }
        $(
            pub(crate) fn $name($m: &Modulus, $($arg: $ty),*) {
                // SAFETY: `Path::Ifma` is only chosen after `available`.
                unsafe { compiled::$name($m, $($arg),*) }
            }
        )*
    };
}

/// One loop: `out[i] = expression(loads at i)`. The macro has checked the lengths.
macro_rules! map {
    ($m:ident, $k:ident, $out:ident = |$($v:ident = $src:ident),*| $e:expr) => {{
        same_length!($out.len() $(, $src.len())*);
        let $k = constants($m);
        let n = $out.len();
        let out = $out.as_mut_ptr();
        $(let $src = $src.as_ptr();)*
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of every slice.
            unsafe {
                $(let $v = load($src, i);)*
                store(out, i, $e);
            }
            i += LANES;
        }
    }};
    // In place: $v0 is the old value.
    ($m:ident, $k:ident, $out:ident = |$v0:ident; $($v:ident = $src:ident),*| $e:expr) => {{
        same_length!($out.len() $(, $src.len())*);
        let $k = constants($m);
        let n = $out.len();
        let out = $out.as_mut_ptr();
        $(let $src = $src.as_ptr();)*
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of every slice.
            unsafe {
                let $v0 = load(out, i);
                $(let $v = load($src, i);)*
                store(out, i, $e);
            }
            i += LANES;
        }
    }};
}

define! {
    fn add_assign(m, a: &mut [u64], b: &[u64]) { map!(m, k, a = |x; y = b| add1(k, x, y)) }
    fn add_to(m, out: &mut [u64], a: &[u64], b: &[u64]) { map!(m, k, out = |x = a, y = b| add1(k, x, y)) }
    fn sub_assign(m, a: &mut [u64], b: &[u64]) { map!(m, k, a = |x; y = b| sub1(k, x, y)) }
    fn sub_to(m, out: &mut [u64], a: &[u64], b: &[u64]) { map!(m, k, out = |x = a, y = b| sub1(k, x, y)) }
    fn neg_to(m, out: &mut [u64], a: &[u64]) { map!(m, k, out = |x = a| sub1(k, k.zero, x)) }
    fn neg_assign(m, a: &mut [u64]) { map!(m, k, a = |x; | sub1(k, k.zero, x)) }
    fn add_const_assign(m, a: &mut [u64], c: u64) {
        let c = _mm512_set1_epi64(c as i64);
        map!(m, k, a = |x; | add1(k, x, c))
    }
    fn mul_to(m, out: &mut [u64], a: &[u64], b: &[u64]) { map!(m, k, out = |x = a, y = b| mul1(k, x, y)) }
    fn mul_assign(m, a: &mut [u64], b: &[u64]) { map!(m, k, a = |x; y = b| mul1(k, x, y)) }
    fn mul_const_to(m, out: &mut [u64], a: &[u64], c: u64) {
        let c = _mm512_set1_epi64(c as i64);
        map!(m, k, out = |x = a| mul1(k, x, c))
    }
    fn mul_const_assign(m, a: &mut [u64], c: u64) {
        let c = _mm512_set1_epi64(c as i64);
        map!(m, k, a = |x; | mul1(k, x, c))
    }
    fn mul_add_assign(m, acc: &mut [u64], a: &[u64], b: &[u64]) {
        map!(m, k, acc = |s; x = a, y = b| add1(k, s, mul1(k, x, y)))
    }
    fn mul_sub_assign(m, acc: &mut [u64], a: &[u64], b: &[u64]) {
        map!(m, k, acc = |s; x = a, y = b| sub1(k, s, mul1(k, x, y)))
    }
    fn reduce_assign(m, a: &mut [u64]) {
        // ⌊x/2^52⌋ is below 2^12, and every prime is above: x/R, and then times R²/R.
        assert!(m.q > 1 << 12);
        let r2 = _mm512_set1_epi64(m.r2 as i64);
        map!(m, k, a = |x; | mul1(k, reduce_no_carry(k, x, _mm512_srli_epi64::<52>(x)), r2))
    }
    fn mul_const_add_assign(m, acc: &mut [u64], a: &[u64], c: u64) {
        let c = _mm512_set1_epi64(c as i64);
        map!(m, k, acc = |s; x = a| add1(k, s, mul1(k, x, c)))
    }
    fn sub_mul_const_to(m, out: &mut [u64], x: &[u64], t: &[u64], c: u64) {
        let c = _mm512_set1_epi64(c as i64);
        map!(m, k, out = |a = x, b = t| mul1(k, sub1(k, a, b), c))
    }
    fn tensor(m, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], terms: &[[&[u64]; 4]]) {
        let n = d0.len();
        same_length!(n, d1.len(), d2.len());
        for [a, b, c, d] in terms {
            same_length!(n, a.len(), b.len(), c.len(), d.len());
        }
        assert!(terms.len() <= MAX_TERMS);
        let k = constants(m);
        let (steps, steps2) = (fold_steps(terms.len()), fold_steps(2 * terms.len()));
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of every slice.
            unsafe {
                let (mut l0, mut h0, mut l1, mut h1, mut l2, mut h2) =
                    (k.zero, k.zero, k.zero, k.zero, k.zero, k.zero);
                for [a0, a1, b0, b1] in terms {
                    let a0 = load(a0.as_ptr(), i);
                    let a1 = load(a1.as_ptr(), i);
                    let b0 = load(b0.as_ptr(), i);
                    let b1 = load(b1.as_ptr(), i);
                    l0 = _mm512_madd52lo_epu64(l0, a0, b0);
                    h0 = _mm512_madd52hi_epu64(h0, a0, b0);
                    l1 = _mm512_madd52lo_epu64(l1, a0, b1);
                    h1 = _mm512_madd52hi_epu64(h1, a0, b1);
                    l2 = _mm512_madd52lo_epu64(l2, a1, b1);
                    h2 = _mm512_madd52hi_epu64(h2, a1, b1);
                    l1 = _mm512_madd52lo_epu64(l1, a1, b0);
                    h1 = _mm512_madd52hi_epu64(h1, a1, b0);
                }
                store(d0.as_mut_ptr(), i, fold(k, reduce(k, l0, h0), steps));
                store(d1.as_mut_ptr(), i, fold(k, reduce(k, l1, h1), steps2));
                store(d2.as_mut_ptr(), i, fold(k, reduce(k, l2, h2), steps));
            }
            i += LANES;
        }
    }
    fn tensor_square(m, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64], a0: &[u64], a1: &[u64]) {
        let n = d0.len();
        same_length!(n, d1.len(), d2.len(), a0.len(), a1.len());
        let k = constants(m);
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of every slice.
            unsafe {
                let x = load(a0.as_ptr(), i);
                let y = load(a1.as_ptr(), i);
                let cross = mul1(k, x, y);
                store(d0.as_mut_ptr(), i, mul1(k, x, x));
                store(d1.as_mut_ptr(), i, add1(k, cross, cross));
                store(d2.as_mut_ptr(), i, mul1(k, y, y));
            }
            i += LANES;
        }
    }
    fn key_dot(m, out0: &mut [u64], out1: &mut [u64], x: &[&[u64]], key: &KeyRow<'_>, c: &[&[u64]], p: u64) {
        let n = out0.len();
        same_length!(n, out1.len());
        let to = Halves(out0.as_mut_ptr(), out1.as_mut_ptr());
        // SAFETY: both halves take n values.
        unsafe { key_dot_to(m, n, x, key, c, p, to) }
    }
    fn dot(m, out: &mut [u64], terms: &[(&[u64], &[u64])]) {
        let n = out.len();
        for (a, b) in terms {
            same_length!(n, a.len(), b.len());
        }
        assert!(terms.len() <= MAX_TERMS);
        let k = constants(m);
        let steps = fold_steps(terms.len());
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of every slice.
            unsafe {
                let (mut lo, mut hi) = (k.zero, k.zero);
                for (a, b) in terms {
                    let a = load(a.as_ptr(), i);
                    let b = load(b.as_ptr(), i);
                    lo = _mm512_madd52lo_epu64(lo, a, b);
                    hi = _mm512_madd52hi_epu64(hi, a, b);
                }
                store(out.as_mut_ptr(), i, fold(k, reduce(k, lo, hi), steps));
            }
            i += LANES;
        }
    }
    fn dot_repeated(m, out: &mut [u64], terms: &[(&[u64], &[u64])], repeat: usize) {
        let n = out.len();
        assert!(repeat.is_multiple_of(LANES) && repeat > 0);
        for (a, b) in terms {
            same_length!(n, a.len(), b.len() * repeat);
        }
        assert!(terms.len() <= MAX_TERMS);
        let k = constants(m);
        let steps = fold_steps(terms.len());
        for (block, i) in (0..n).step_by(repeat).enumerate() {
            let mut i = i;
            let end = i + repeat;
            while i < end {
                // SAFETY: i + 8 ≤ n, the length of out and of every a; every b has a value for each
                // block.
                unsafe {
                    let (mut lo, mut hi) = (k.zero, k.zero);
                    for (a, b) in terms {
                        let a = load(a.as_ptr(), i);
                        let b = _mm512_set1_epi64(*b.get_unchecked(block) as i64);
                        lo = _mm512_madd52lo_epu64(lo, a, b);
                        hi = _mm512_madd52hi_epu64(hi, a, b);
                    }
                    store(out.as_mut_ptr(), i, fold(k, reduce(k, lo, hi), steps));
                }
                i += LANES;
            }
        }
    }
    fn combine(m, outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]) {
        let Some(n) = outs.first().map(|o| o.len()) else { return };
        for out in outs.iter() {
            same_length!(n, out.len());
        }
        for x in x {
            same_length!(n, x.len());
        }
        assert!(weights.len() == outs.len() * x.len() && x.len() <= MAX_TERMS);
        if let [out] = outs {
            match x.len() {
                2 => return combine_few::<2>(m, out, x, weights),
                3 => return combine_few::<3>(m, out, x, weights),
                4 => return combine_few::<4>(m, out, x, weights),
                5 => return combine_few::<5>(m, out, x, weights),
                6 => return combine_few::<6>(m, out, x, weights),
                7 => return combine_few::<7>(m, out, x, weights),
                _ => {}
            }
        }
        let k = constants(m);
        let steps = fold_steps(x.len());
        let terms = x.len();
        // Blocks of coefficients that stay in the first cache while the outputs pass over them, four
        // at a time.
        const BLOCK: usize = 64;
        let mut start = 0;
        while start < n {
            let end = (start + BLOCK).min(n);
            let mut first = 0;
            while first < outs.len() {
                let group = (outs.len() - first).min(4);
                let mut i = start;
                while i < end {
                    // SAFETY: i + 8 ≤ n, the length of every slice; the weights' length was checked.
                    unsafe {
                        let w = weights.as_ptr().add(first * terms);
                        if group == 4 {
                            let mut lo = [k.zero; 4];
                            let mut hi = [k.zero; 4];
                            for (t, x) in x.iter().enumerate() {
                                let x = load(x.as_ptr(), i);
                                for o in 0..4 {
                                    let w = _mm512_set1_epi64(*w.add(o * terms + t) as i64);
                                    lo[o] = _mm512_madd52lo_epu64(lo[o], x, w);
                                    hi[o] = _mm512_madd52hi_epu64(hi[o], x, w);
                                }
                            }
                            for o in 0..4 {
                                let r = fold(k, reduce(k, lo[o], hi[o]), steps);
                                store(outs[first + o].as_mut_ptr(), i, r);
                            }
                        } else {
                            for o in 0..group {
                                let (mut lo, mut hi) = (k.zero, k.zero);
                                for (t, x) in x.iter().enumerate() {
                                    let x = load(x.as_ptr(), i);
                                    let w = _mm512_set1_epi64(*w.add(o * terms + t) as i64);
                                    lo = _mm512_madd52lo_epu64(lo, x, w);
                                    hi = _mm512_madd52hi_epu64(hi, x, w);
                                }
                                let r = fold(k, reduce(k, lo, hi), steps);
                                store(outs[first + o].as_mut_ptr(), i, r);
                            }
                        }
                    }
                    i += LANES;
                }
                first += group;
            }
            start = end;
        }
    }
    fn centre_to(m, out: &mut [u64], y: &[u64], p: u64) {
        let offset = _mm512_set1_epi64(((1u64 << 50).div_ceil(m.q) * m.q) as i64);
        let half = _mm512_set1_epi64((p / 2) as i64);
        let p = _mm512_set1_epi64(p as i64);
        let r2 = _mm512_set1_epi64(m.r2 as i64);
        map!(m, k, out = |v = y| {
            let above = _mm512_cmpgt_epu64_mask(v, half);
            let v = _mm512_add_epi64(v, offset);
            mul1(k, _mm512_mask_sub_epi64(v, above, v, p), r2)
        })
    }
    fn matrix(m, outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]) {
        let Some(n) = outs.first().map(|o| o.len()) else { return };
        for out in outs.iter() {
            same_length!(n, out.len());
        }
        for x in x {
            same_length!(n, x.len());
        }
        assert!(weights.len() == outs.len() * x.len() && x.len() <= MAX_TERMS);
        if m.q <= NARROW {
            multiply_blocks::<true, 4>(m, outs, x, weights);
        } else {
            multiply_blocks::<false, 2>(m, outs, x, weights);
        }
    }
    fn enter_signed_to(m, out: &mut [u64], x: &[i64]) {
        let n = out.len();
        same_length!(n, x.len());
        let k = constants(m);
        // x + o with o the least multiple of q from 2^50 on lies in [0, 2^52) for |x| < 2^50.
        let offset = _mm512_set1_epi64(((1u64 << 50).div_ceil(m.q) * m.q) as i64);
        let limit = _mm512_set1_epi64(1 << 50);
        let r2 = _mm512_set1_epi64(m.r2 as i64);
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of both slices.
            unsafe {
                let v = load(x.as_ptr().cast(), i);
                let wide = _mm512_cmpge_epu64_mask(_mm512_abs_epi64(v), limit);
                if wide == 0 {
                    store(out.as_mut_ptr(), i, mul1(k, _mm512_add_epi64(v, offset), r2));
                } else {
                    for j in i..i + LANES {
                        *out.as_mut_ptr().add(j) = m.enter_signed(*x.as_ptr().add(j));
                    }
                }
            }
            i += LANES;
        }
    }
}

/// Block `block` of eight of a permuted limb.
///
/// # Safety
/// The limb has 8·(source + 1) words for every entry of `source`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
unsafe fn load_permuted(x: *const u64, source: &[u32], within: &[u64], block: usize) -> __m512i {
    let index = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(within[block] as i64));
    // SAFETY: passed on to the caller.
    let v = unsafe { load(x, 8 * source[block] as usize) };
    _mm512_permutexvar_epi64(index, v)
}

/// See [`Permutation::sub_mul_const_to`](crate::ring::automorphism::Permutation::sub_mul_const_to), which
/// checks the lengths.
pub(crate) fn permuted_sub_mul_const(
    m: &Modulus,
    out: &mut [u64],
    x: &[u64],
    t: &[u64],
    c: u64,
    source: &[u32],
    within: &[u64],
) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    fn compiled(
        m: &Modulus,
        out: &mut [u64],
        (x, t): (&[u64], &[u64]),
        c: u64,
        (source, within): (&[u32], &[u64]),
    ) {
        let n = out.len();
        same_length!(n, x.len(), t.len(), 8 * source.len(), 8 * within.len());
        let k = constants(m);
        let c = _mm512_set1_epi64(c as i64);
        for block in 0..n / LANES {
            // SAFETY: a permutation's sources are blocks of a limb; all limbs have n words.
            unsafe {
                let x = load_permuted(x.as_ptr(), source, within, block);
                let t = load_permuted(t.as_ptr(), source, within, block);
                store(out.as_mut_ptr(), block * LANES, mul1(k, sub1(k, x, t), c));
            }
        }
    }
    // SAFETY: `Path::Ifma` is only chosen after `available`.
    unsafe { compiled(m, out, (x, t), c, (source, within)) }
}

/// See [`Permutation::mul_add_assign`](crate::ring::automorphism::Permutation::mul_add_assign), which
/// checks the lengths.
pub(crate) fn permuted_mul_add(
    m: &Modulus,
    acc: &mut [u64],
    input: &[u64],
    weight: Factor<'_>,
    source: &[u32],
    within: &[u64],
) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    fn compiled(
        m: &Modulus,
        acc: &mut [u64],
        input: &[u64],
        weight: Factor<'_>,
        source: &[u32],
        within: &[u64],
    ) {
        let n = acc.len();
        same_length!(n, input.len(), 8 * source.len(), 8 * within.len());
        let k = constants(m);
        for block in 0..n / LANES {
            let i = block * LANES;
            // SAFETY: a permutation's sources are blocks of a limb; all limbs have n words.
            unsafe {
                let x = load_permuted(input.as_ptr(), source, within, block);
                let w = weight_at(weight, i);
                let sum = add1(k, load(acc.as_ptr(), i), mul1(k, x, w));
                store(acc.as_mut_ptr(), i, sum);
            }
        }
    }
    // SAFETY: `Path::Ifma` is only chosen after `available`.
    unsafe { compiled(m, acc, input, weight, source, within) }
}

/// Where a product with a key goes.
trait KeySink: Copy {
    /// Takes the canonical values of both halves for the eight coefficients from `i` on.
    ///
    /// # Safety
    /// i + 8 is at most the number of coefficients.
    unsafe fn store(self, k: Q, i: usize, v0: __m512i, v1: __m512i);
}

#[derive(Clone, Copy)]
struct Halves(*mut u64, *mut u64);

impl KeySink for Halves {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    unsafe fn store(self, _k: Q, i: usize, v0: __m512i, v1: __m512i) {
        // SAFETY: passed on to the caller.
        unsafe {
            store(self.0, i, v0);
            store(self.1, i, v1);
        }
    }
}

/// How many blocks of eight ahead the targets of a permutation are fetched.
const FAR: usize = 16;

/// Permuted, times a weight, added to two sums.
#[derive(Clone, Copy)]
struct Scattered<'a> {
    sums: [*mut u64; 2],
    target: *const u32,
    /// The last place of `target`.
    last: usize,
    within: *const u64,
    weight: Factor<'a>,
}

impl KeySink for Scattered<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    unsafe fn store(self, k: Q, i: usize, v0: __m512i, v1: __m512i) {
        // SAFETY: the tables have an entry for every eight coefficients; targets are blocks of a limb, as long as
        // which the sums and the weight are.
        unsafe {
            // Targets lie in an order that the processor does not foresee.
            let far = LANES * *self.target.add((i / LANES + FAR).min(self.last)) as usize;
            if let Factor::Limb(w) = self.weight {
                _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().add(far).cast());
            }
            _mm_prefetch::<_MM_HINT_T0>(self.sums[0].add(far).cast());
            _mm_prefetch::<_MM_HINT_T0>(self.sums[1].add(far).cast());
            let to = LANES * *self.target.add(i / LANES) as usize;
            let within = _mm_cvtsi64_si128(*self.within.add(i / LANES) as i64);
            let within = _mm512_cvtepu8_epi64(within);
            let w = weight_at(self.weight, to);
            for (sum, v) in self.sums.into_iter().zip([v0, v1]) {
                let v = mul1(k, _mm512_permutexvar_epi64(within, v), w);
                store(sum, to, add1(k, load(sum, to), v));
            }
        }
    }
}

/// The weights of eight values from `i` on.
///
/// # Safety
/// The weight has one for each.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
unsafe fn weight_at(weight: Factor<'_>, i: usize) -> __m512i {
    // SAFETY: passed on to the caller.
    unsafe {
        match weight {
            Factor::Number(w) => _mm512_set1_epi64(w as i64),
            Factor::Limb(w) => load(w.as_ptr(), i),
            Factor::Runs(w, length) => _mm512_set1_epi64(*w.get_unchecked(i / length) as i64),
        }
    }
}

/// See [`Permutation::key_dot_add`](crate::ring::automorphism::Permutation::key_dot_add), which checks the
/// lengths.
#[expect(clippy::too_many_arguments, reason = "the operands of one kernel")]
pub(crate) fn permuted_key_dot_add(
    m: &Modulus,
    sums: [&mut [u64]; 2],
    x: &[&[u64]],
    key: &KeyRow<'_>,
    c: &[&[u64]],
    p: u64,
    weight: Factor<'_>,
    target: &[u32],
    within: &[u64],
) {
    let to = Scattered {
        sums: sums.map(<[u64]>::as_mut_ptr),
        target: target.as_ptr(),
        last: target.len().saturating_sub(1),
        within: within.as_ptr(),
        weight,
    };
    // SAFETY: `Path::Ifma` is only chosen after `available`.
    unsafe { key_dot_to(m, LANES * target.len(), x, key, c, p, to) }
}

/// [`Modulus::key_dot`] of `n` coefficients.
///
/// # Safety
/// `to` takes n values.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
unsafe fn key_dot_to<S: KeySink>(
    m: &Modulus,
    n: usize,
    x: &[&[u64]],
    key: &KeyRow<'_>,
    c: &[&[u64]],
    p: u64,
    to: S,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match x.len() {
            1 => key_dot_few::<1, S>(m, n, x, key, c, p, to),
            2 => key_dot_few::<2, S>(m, n, x, key, c, p, to),
            3 => key_dot_few::<3, S>(m, n, x, key, c, p, to),
            4 => key_dot_few::<4, S>(m, n, x, key, c, p, to),
            5 => key_dot_few::<5, S>(m, n, x, key, c, p, to),
            6 => key_dot_few::<6, S>(m, n, x, key, c, p, to),
            _ => key_dot_few::<0, S>(m, n, x, key, c, p, to),
        }
    }
}

/// How far ahead of its use a key is fetched, in bytes.
const AHEAD: usize = 2048;

/// [`key_dot_to`] for D digits, or any number when D is 0.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
unsafe fn key_dot_few<const D: usize, S: KeySink>(
    m: &Modulus,
    n: usize,
    x: &[&[u64]],
    key: &KeyRow<'_>,
    c: &[&[u64]],
    p: u64,
    to: S,
) {
    assert!(n.is_multiple_of(LANES));
    for x in x.iter().chain(c) {
        same_length!(n, x.len());
    }
    let digits = if D == 0 { x.len() } else { D };
    assert!(x.len() == digits && digits < MAX_TERMS && c.len() <= 2);
    let (bits, stride) = (key.bits, key.stride);
    assert!(bits <= 52 && stride >= 2 * bits * digits);
    // The last load begins within the row and reads 64 bytes.
    assert!(key.bytes.len() >= n / 8 * stride + 64);
    let k = constants(m);
    let steps = fold_steps(digits + usize::from(!c.is_empty()));
    let p = _mm512_set1_epi64(p as i64);
    let mut few = [std::ptr::null::<u64>(); 8];
    for (few, x) in few.iter_mut().zip(x) {
        *few = x.as_ptr();
    }
    // Lane j is bits j·bits on: eight bytes from byte ⌊j·bits/8⌋, then a shift by j·bits mod 8.
    let places: [u8; 64] = std::array::from_fn(|i| (i / 8 * bits / 8 + i % 8) as u8);
    let shifts: [u64; 8] = std::array::from_fn(|j| (j * bits % 8) as u64);
    // SAFETY: both arrays are 64 bytes long.
    let (places, shifts) = unsafe {
        (
            _mm512_loadu_si512(places.as_ptr().cast()),
            _mm512_loadu_si512(shifts.as_ptr().cast()),
        )
    };
    let mask = _mm512_set1_epi64((1i64 << bits) - 1);
    let mut i = 0;
    let mut row = key.bytes.as_ptr();
    while i < n {
        // SAFETY: i + 8 ≤ n, the length of every slice; `row` begins a stride of the key, of which
        // there are n/8, with 64 bytes after the last.
        unsafe {
            let (mut l0, mut h0, mut l1, mut h1) = (k.zero, k.zero, k.zero, k.zero);
            if let Some(c) = c.first() {
                let c = load(c.as_ptr(), i);
                l0 = _mm512_madd52lo_epu64(l0, c, p);
                h0 = _mm512_madd52hi_epu64(h0, c, p);
            }
            if let Some(c) = c.get(1) {
                let c = load(c.as_ptr(), i);
                l1 = _mm512_madd52lo_epu64(l1, c, p);
                h1 = _mm512_madd52hi_epu64(h1, c, p);
            }
            let unpack = |at: *const u8| {
                let packed = _mm512_loadu_si512(at.cast());
                let lanes = _mm512_permutexvar_epi8(places, packed);
                _mm512_and_si512(_mm512_srlv_epi64(lanes, shifts), mask)
            };
            for d in 0..digits {
                let x = if D == 0 {
                    load(x[d].as_ptr(), i)
                } else {
                    load(few[d], i)
                };
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(2 * bits * d + AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(2 * bits * d + bits + AHEAD).cast());
                let b = unpack(row.add(2 * bits * d));
                let a = unpack(row.add(2 * bits * d + bits));
                l0 = _mm512_madd52lo_epu64(l0, x, b);
                h0 = _mm512_madd52hi_epu64(h0, x, b);
                l1 = _mm512_madd52lo_epu64(l1, x, a);
                h1 = _mm512_madd52hi_epu64(h1, x, a);
            }
            let v0 = fold(k, reduce(k, l0, h0), steps);
            let v1 = fold(k, reduce(k, l1, h1), steps);
            to.store(k, i, v0, v1);
            row = row.add(stride);
        }
        i += LANES;
    }
}

/// [`Modulus::combine`] for one output and T terms.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn combine_few<const T: usize>(m: &Modulus, out: &mut [u64], x: &[&[u64]], weights: &[u64]) {
    let n = out.len();
    assert!(n.is_multiple_of(LANES) && x.len() == T && weights.len() == T);
    for x in x {
        same_length!(n, x.len());
    }
    let k = constants(m);
    let steps = fold_steps(T);
    let w: [__m512i; T] = std::array::from_fn(|t| _mm512_set1_epi64(weights[t] as i64));
    let x: [*const u64; T] = std::array::from_fn(|t| x[t].as_ptr());
    let mut i = 0;
    while i < n {
        // SAFETY: i + 8 ≤ n, the length of every slice.
        unsafe {
            let (mut lo, mut hi) = (k.zero, k.zero);
            for t in 0..T {
                let x = load(x[t], i);
                lo = _mm512_madd52lo_epu64(lo, x, w[t]);
                hi = _mm512_madd52hi_epu64(hi, x, w[t]);
            }
            store(out.as_mut_ptr(), i, fold(k, reduce(k, lo, hi), steps));
        }
        i += LANES;
    }
}

/// Products of residues of primes up to here fit in 52 bits: their upper halves are zero.
const NARROW: u64 = 1 << 26;

/// Terms whose block of coefficients stays in the first cache.
const TERMS: usize = 128;

/// Outputs whose sums are in registers at once.
const GROUP: usize = 5;

/// [`Modulus::matrix`], V registers of coefficients at a time. A block of coefficients of all operands is
/// copied together first: the operands lie pages apart, and every group of outputs reads them again.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn multiply_blocks<const SMALL: bool, const V: usize>(
    m: &Modulus,
    outs: &mut [&mut [u64]],
    x: &[&[u64]],
    weights: &[u64],
) {
    let n = outs[0].len();
    let terms = x.len();
    let k = constants(m);
    let steps = fold_steps(terms);
    let width = V * LANES;
    // Two registers a sum: the halves at 2^52. The upper one stays zero for small primes.
    let mut sums = vec![[k.zero; 2]; outs.len() * V];
    let mut packed = vec![k.zero; terms * V];
    let mut start = 0;
    while start < n {
        let here = (n - start).min(width) / LANES;
        for (x, packed) in x.iter().zip(packed.chunks_exact_mut(V)) {
            for (v, p) in packed.iter_mut().take(here).enumerate() {
                // SAFETY: start + 8·here ≤ n, the length of every slice.
                *p = unsafe { load(x.as_ptr(), start + v * LANES) };
            }
        }
        sums.fill([k.zero; 2]);
        let mut first_term = 0;
        while first_term < terms {
            let count = (terms - first_term).min(TERMS);
            let x = &packed[first_term * V..(first_term + count) * V];
            let mut first = 0;
            while first < outs.len() {
                let group = (outs.len() - first).min(GROUP);
                let sums = &mut sums[first * V..(first + group) * V];
                let w = &weights[first * terms + first_term..];
                match group {
                    1 => multiply_group::<SMALL, V, 1>(sums, x, w, terms),
                    2 => multiply_group::<SMALL, V, 2>(sums, x, w, terms),
                    3 => multiply_group::<SMALL, V, 3>(sums, x, w, terms),
                    4 => multiply_group::<SMALL, V, 4>(sums, x, w, terms),
                    _ => multiply_group::<SMALL, V, GROUP>(sums, x, w, terms),
                }
                first += group;
            }
            first_term += count;
        }
        for (out, sums) in outs.iter_mut().zip(sums.chunks_exact(V)) {
            for (v, &[lo, hi]) in sums.iter().take(here).enumerate() {
                // Of small primes the sum is below 2^62, and its quotient by 2^52 below q.
                let r = reduce(k, lo, hi);
                let r = if SMALL { r } else { fold(k, r, steps) };
                // SAFETY: start + 8·here ≤ n, the length of every slice.
                unsafe { store(out.as_mut_ptr(), start + v * LANES, r) };
            }
        }
        start += width;
    }
}

/// Adds Σ over t of x_t·w_{g,t} to G·V sums; `x` has V registers a term, and the weights of output g start at
/// g·stride.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn multiply_group<const SMALL: bool, const V: usize, const G: usize>(
    sums: &mut [[__m512i; 2]],
    x: &[__m512i],
    weights: &[u64],
    stride: usize,
) {
    let terms = x.len() / V;
    let rows: [&[u64]; G] = std::array::from_fn(|g| &weights[g * stride..g * stride + terms]);
    let mut lo: [[__m512i; V]; G] =
        std::array::from_fn(|g| std::array::from_fn(|v| sums[g * V + v][0]));
    let mut hi: [[__m512i; V]; G] =
        std::array::from_fn(|g| std::array::from_fn(|v| sums[g * V + v][1]));
    for (t, x) in x.chunks_exact(V).enumerate() {
        for g in 0..G {
            let w = _mm512_set1_epi64(rows[g][t] as i64);
            for v in 0..V {
                lo[g][v] = _mm512_madd52lo_epu64(lo[g][v], x[v], w);
                if !SMALL {
                    hi[g][v] = _mm512_madd52hi_epu64(hi[g][v], x[v], w);
                }
            }
        }
    }
    for g in 0..G {
        for v in 0..V {
            sums[g * V + v] = [lo[g][v], hi[g][v]];
        }
    }
}

/// See [`super::quotient`]: the same operations in the same order.
pub(crate) fn quotient(v: &mut [u64], y: &[u64], reciprocal: &[f64]) {
    #[target_feature(enable = "avx512f,avx512dq")]
    fn compiled(v: &mut [u64], y: &[u64], reciprocal: &[f64]) {
        let n = v.len();
        assert!(n.is_multiple_of(LANES) && y.len() == n * reciprocal.len());
        let mut i = 0;
        while i < n {
            // SAFETY: i + 8 ≤ n, the length of v and of each limb of y.
            unsafe {
                let mut sum = _mm512_set1_pd(0.5);
                for (limb, &r) in reciprocal.iter().enumerate() {
                    let y = _mm512_cvtepu64_pd(load(y.as_ptr(), limb * n + i));
                    sum = _mm512_add_pd(sum, _mm512_mul_pd(y, _mm512_set1_pd(r)));
                }
                store(v.as_mut_ptr(), i, _mm512_cvttpd_epu64(sum));
            }
            i += LANES;
        }
    }
    // SAFETY: `Path::Ifma` is only chosen after `available`.
    unsafe { compiled(v, y, reciprocal) }
}
