//! The negacyclic NTT for AVX-512 IFMA and primes below 2^49: the transform of tfhe-ntt, same roots, same
//! order of values, canonical in and out, with fewer instructions.
//!
//! A butterfly multiplies y by w with Shoup's quotient: ⌊y·w'/2^52⌋ with w' = ⌊w·2^52/p⌋, so that
//! y·w − quotient·p lies in [0, 2p) for every y below 2^52. The multipliers read the low 52 bits of
//! their operands only. So numbers are kept right modulo 2^52 and nothing is masked, as long as what
//! they stand for stays below 2^52; the comments below count that bound in units of p. It is 32p and
//! more for primes below 2^47 (`LAZY`), and 8p for those below 2^49. The only corrections are a few
//! Barrett steps ([`shrink`]), two instructions each, and one at the end.
//!
//! Two stages at a time are done in registers; the last three, whose distance is below a register,
//! between two transpositions of 8×8 blocks. Blocks that fit the first cache are finished depth first.
#![expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]

use std::arch::x86_64::*;

/// Primes below this take this transform.
pub(crate) const LIMIT: u64 = 1 << 49;

/// Coefficients of a block that is finished before the next one is begun: 32 KiB.
const BLOCK: usize = 4096;

/// Roots of one prime.
pub(crate) struct Tables {
    q: u64,
    /// ⌊2^52/q⌋.
    reciprocal: u64,
    lazy: bool,
    forward: Roots,
    inverse: Roots,
}

/// Powers of ψ (or ψ^-1) in bit-reversed order, each with Shoup's quotient: group g of the stage
/// with m groups takes place m + g, for the stages with fewer than N/8 groups. The last three stages have their roots again, in the order of
/// lanes after transposition: for each 64 coefficients, eight of the stage at distance 4, twice eight at distance 2,
/// four times eight at distance 1.
struct Roots {
    w: Vec<u64>,
    shoup: Vec<u64>,
    /// Per 64 coefficients: seven times (w, shoup) of eight lanes.
    last: Vec<u64>,
}

impl Roots {
    fn new(n: usize, q: u64, root: u64) -> Roots {
        let bits = n.trailing_zeros();
        let mut w = vec![0; n];
        let mut power = 1u64;
        for k in 0..n {
            w[k.reverse_bits() >> (usize::BITS - bits)] = power;
            power = (u128::from(power) * u128::from(root) % u128::from(q)) as u64;
        }
        let shoup: Vec<u64> = w
            .iter()
            .map(|&w| ((u128::from(w) << 52) / u128::from(q)) as u64)
            .collect();
        let mut last = Vec::with_capacity(n / 64 * 112);
        for block in 0..n / 64 {
            // (groups of the stage per chunk of eight, place within)
            for (per, within) in [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3)] {
                let place = |lane: usize| n / 8 * per + (8 * block + lane) * per + within;
                last.extend((0..8).map(|lane| w[place(lane)]));
                last.extend((0..8).map(|lane| shoup[place(lane)]));
            }
        }
        // The stages above distance 4 have fewer than N/8 groups.
        let head = |v: Vec<u64>| v[..n / 8].to_vec();
        Roots {
            w: head(w),
            shoup: head(shoup),
            last,
        }
    }
}

impl Tables {
    /// Tables for a prime below [`LIMIT`], from ψ and ψ^-1, plain; `None` for rings that are too small.
    pub(crate) fn new(n: usize, q: u64, root: u64, inverse: u64) -> Option<Tables> {
        if q >= LIMIT || n < 256 {
            return None;
        }
        let stages = u64::from(n.trailing_zeros());
        Some(Tables {
            q,
            reciprocal: ((1u128 << 52) / u128::from(q)) as u64,
            // The forward transform adds 2p a stage to a start of p; the inverse needs 32p.
            lazy: (2 * stages + 2).max(32) * q < 1 << 52,
            forward: Roots::new(n, q, root),
            inverse: Roots::new(n, q, inverse),
        })
    }

    /// Coefficients to values, canonical to canonical.
    pub(crate) fn forward(&self, x: &mut [u64]) {
        assert!(x.len() == 8 * self.forward.w.len());
        // SAFETY: tables exist only where the processor was asked for the features; the length is
        // that of the tables, a power of two from 256 on.
        unsafe {
            if self.lazy {
                forward::<true>(self, x.as_mut_ptr(), x.len(), 1, 0);
            } else {
                forward::<false>(self, x.as_mut_ptr(), x.len(), 1, 0);
            }
        }
    }

    /// Values to N times the coefficients, canonical to canonical.
    pub(crate) fn inverse(&self, x: &mut [u64]) {
        assert!(x.len() == 8 * self.inverse.w.len());
        // SAFETY: as in `forward`.
        unsafe {
            if self.lazy {
                inverse::<true>(self, x.as_mut_ptr(), x.len(), 1, 0);
            } else {
                inverse::<false>(self, x.as_mut_ptr(), x.len(), 1, 0);
            }
        }
    }
}

/// Constants in registers.
#[derive(Clone, Copy)]
struct K {
    zero: __m512i,
    q: __m512i,
    neg: __m512i,
    q2: __m512i,
    reciprocal: __m512i,
    mask: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn constants(t: &Tables) -> K {
    K {
        zero: _mm512_setzero_si512(),
        q: _mm512_set1_epi64(t.q as i64),
        neg: _mm512_set1_epi64(((1u64 << 52) - t.q) as i64),
        q2: _mm512_set1_epi64(2 * t.q as i64),
        reciprocal: _mm512_set1_epi64(t.reciprocal as i64),
        mask: _mm512_set1_epi64((1 << 52) - 1),
    }
}

/// A root with its quotient.
type Root = (__m512i, __m512i);

/// acc + y·w in [0, 2p) more than acc, modulo 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn mul_add(k: K, acc: __m512i, y: __m512i, w: Root) -> __m512i {
    let quotient = _mm512_madd52hi_epu64(k.zero, y, w.1);
    let product = _mm512_madd52lo_epu64(acc, y, w.0);
    _mm512_madd52lo_epu64(product, quotient, k.neg)
}

/// x below 2^52 to x modulo p in [0, 2p), modulo 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn shrink(k: K, x: __m512i) -> __m512i {
    let quotient = _mm512_madd52hi_epu64(k.zero, x, k.reciprocal);
    _mm512_madd52lo_epu64(x, quotient, k.neg)
}

/// x below 2^52 modulo 2^52 to the residue below p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn canonical(k: K, x: __m512i) -> __m512i {
    let x = _mm512_and_si512(shrink(k, x), k.mask);
    _mm512_min_epu64(x, _mm512_sub_epi64(x, k.q))
}

/// (x + w·y, x − w·y + 2p): a bound B of x becomes B + 2p for both.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn butterfly(k: K, x: __m512i, y: __m512i, w: Root) -> (__m512i, __m512i) {
    let t = mul_add(k, k.zero, y, w);
    (
        _mm512_add_epi64(x, t),
        _mm512_sub_epi64(_mm512_add_epi64(x, k.q2), t),
    )
}

/// (x + y, (x − y)·w) for y below `bound`, a multiple of p: bounds B of x, y become 2B and 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_butterfly(k: K, x: __m512i, y: __m512i, w: Root, bound: __m512i) -> (__m512i, __m512i) {
    let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
    (_mm512_add_epi64(x, y), mul_add(k, k.zero, difference, w))
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(p: *const u64) -> __m512i {
    // SAFETY: the caller has eight words at p.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(p: *mut u64, v: __m512i) {
    // SAFETY: the caller has eight words at p.
    unsafe { _mm512_storeu_si512(p.cast(), v) }
}

/// The root of one group for all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(roots: &Roots, place: usize) -> Root {
    (
        _mm512_set1_epi64(roots.w[place] as i64),
        _mm512_set1_epi64(roots.shoup[place] as i64),
    )
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(v: [__m512i; 8]) -> [__m512i; 8] {
    let lo = |a, b| _mm512_unpacklo_epi64(a, b);
    let hi = |a, b| _mm512_unpackhi_epi64(a, b);
    // Pairs of rows: within each 128-bit lane, (row 2i, row 2i+1) of an even or odd column.
    let a = [
        lo(v[0], v[1]),
        hi(v[0], v[1]),
        lo(v[2], v[3]),
        hi(v[2], v[3]),
        lo(v[4], v[5]),
        hi(v[4], v[5]),
        lo(v[6], v[7]),
        hi(v[6], v[7]),
    ];
    let even = |x, y| _mm512_shuffle_i64x2::<0b10_00_10_00>(x, y);
    let odd = |x, y| _mm512_shuffle_i64x2::<0b11_01_11_01>(x, y);
    // 128-bit lanes 0 and 2, or 1 and 3, of rows 0–3 and of rows 4–7.
    let b = [
        even(a[0], a[2]),
        even(a[1], a[3]),
        odd(a[0], a[2]),
        odd(a[1], a[3]),
        even(a[4], a[6]),
        even(a[5], a[7]),
        odd(a[4], a[6]),
        odd(a[5], a[7]),
    ];
    [
        even(b[0], b[4]),
        even(b[1], b[5]),
        even(b[2], b[6]),
        even(b[3], b[7]),
        odd(b[0], b[4]),
        odd(b[1], b[5]),
        odd(b[2], b[6]),
        odd(b[3], b[7]),
    ]
}

/// Transforms `n` coefficients from x on: group `group` of a stage with `groups` groups and all below it.
///
/// # Safety
/// n words at x; the processor has the features.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn forward<const LAZY: bool>(
    t: &Tables,
    x: *mut u64,
    n: usize,
    groups: usize,
    group: usize,
) {
    let k = constants(t);
    // SAFETY: all places are below n.
    unsafe {
        if n > BLOCK {
            forward_two::<LAZY>(k, &t.forward, x, n, groups, group);
            for part in 0..4 {
                let x = x.add(part * (n / 4));
                forward::<LAZY>(t, x, n / 4, 4 * groups, 4 * group + part);
            }
            return;
        }
        // Breadth first within a block: pairs of stages while the distance is at least 16, one more
        // if it is 8, and the last three.
        let mut size = n;
        let mut groups = groups;
        let mut group = group;
        while size >= 32 {
            for part in 0..n / size {
                let x = x.add(part * size);
                forward_two::<LAZY>(k, &t.forward, x, size, groups, group + part);
            }
            size /= 4;
            groups *= 4;
            group *= 4;
        }
        if size == 16 {
            for part in 0..n / 16 {
                let x = x.add(part * 16);
                let w = broadcast(&t.forward, groups + group + part);
                let mut x0 = load(x);
                if !LAZY {
                    x0 = shrink(k, x0);
                }
                let (x0, x1) = butterfly(k, x0, load(x.add(8)), w);
                store(x, x0);
                store(x.add(8), x1);
            }
            group *= 2;
        }
        // `group` is now that of the first chunk of eight.
        for block in 0..n / 64 {
            let roots = t.forward.last.as_ptr().add((group / 8 + block) * 112);
            forward_last::<LAZY>(k, x.add(64 * block), roots);
        }
    }
}

/// Two stages on n ≥ 32 coefficients.
///
/// Bounds: for `LAZY` primes 2p more a stage. Otherwise in below 8p; x-operands are shrunk to 2p, so that
/// the first stage leaves 4p, the second 6p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn forward_two<const LAZY: bool>(
    k: K,
    roots: &Roots,
    x: *mut u64,
    n: usize,
    groups: usize,
    group: usize,
) {
    let w = broadcast(roots, groups + group);
    let w0 = broadcast(roots, 2 * (groups + group));
    let w1 = broadcast(roots, 2 * (groups + group) + 1);
    let quarter = n / 4;
    let mut i = 0;
    while i < quarter {
        // SAFETY: i + 8 ≤ n/4, which is a multiple of 8.
        unsafe {
            let p = x.add(i);
            let (mut a, mut b) = (load(p), load(p.add(quarter)));
            let (c, d) = (load(p.add(2 * quarter)), load(p.add(3 * quarter)));
            if !LAZY {
                a = shrink(k, a);
                b = shrink(k, b);
            }
            let (a, c) = butterfly(k, a, c, w);
            let (b, d) = butterfly(k, b, d, w);
            let (a, b) = butterfly(k, a, b, w0);
            let (c, d) = butterfly(k, c, d, w1);
            store(p, a);
            store(p.add(quarter), b);
            store(p.add(2 * quarter), c);
            store(p.add(3 * quarter), d);
        }
        i += 8;
    }
}

/// The last three stages on 64 coefficients, and the final reduction.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn forward_last<const LAZY: bool>(k: K, x: *mut u64, roots: *const u64) {
    // SAFETY: the caller has 64 words at x and 112 at roots.
    unsafe {
        let root = |i: usize| (load(roots.add(16 * i)), load(roots.add(16 * i + 8)));
        let mut v = [k.zero; 8];
        for (i, v) in v.iter_mut().enumerate() {
            *v = load(x.add(8 * i));
        }
        let mut v = transpose(v);
        if !LAZY {
            // In below 8p: 2p here, 4p after one stage, 6p after two, 8p after three.
            for v in &mut v[..4] {
                *v = shrink(k, *v);
            }
        }
        let w = root(0);
        for i in 0..4 {
            (v[i], v[i + 4]) = butterfly(k, v[i], v[i + 4], w);
        }
        for half in 0..2 {
            let w = root(1 + half);
            for i in 4 * half..4 * half + 2 {
                (v[i], v[i + 2]) = butterfly(k, v[i], v[i + 2], w);
            }
        }
        for pair in 0..4 {
            let (a, b) = butterfly(k, v[2 * pair], v[2 * pair + 1], root(3 + pair));
            v[2 * pair] = canonical(k, a);
            v[2 * pair + 1] = canonical(k, b);
        }
        for (i, v) in transpose(v).into_iter().enumerate() {
            store(x.add(8 * i), v);
        }
    }
}

/// The inverse of [`forward`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn inverse<const LAZY: bool>(
    t: &Tables,
    x: *mut u64,
    n: usize,
    groups: usize,
    group: usize,
) {
    let k = constants(t);
    // SAFETY: all places are below n.
    unsafe {
        if n > BLOCK {
            for part in 0..4 {
                let x = x.add(part * (n / 4));
                inverse::<LAZY>(t, x, n / 4, 4 * groups, 4 * group + part);
            }
            inverse_two::<LAZY>(k, &t.inverse, x, n, groups, group);
        } else {
            // The stages of `forward` in reverse: how many pairs fit above distance 8?
            let single = n.trailing_zeros().is_multiple_of(2);
            let first = group * (n / 8);
            for block in 0..n / 64 {
                let roots = t.inverse.last.as_ptr().add((first / 8 + block) * 112);
                inverse_last(k, x.add(64 * block), roots);
            }
            let mut size = 16;
            if single {
                let places = groups * (n / 16) + group * (n / 16);
                for part in 0..n / 16 {
                    let x = x.add(part * 16);
                    let w = broadcast(&t.inverse, places + part);
                    let bound = _mm512_add_epi64(k.q2, k.q2);
                    let (x0, x1) = inverse_butterfly(k, load(x), load(x.add(8)), w, bound);
                    // 4p: back to 2p.
                    store(x, shrink(k, x0));
                    store(x.add(8), x1);
                }
                size = 32;
            }
            size *= 2;
            while size <= n {
                let count = n / size;
                for part in 0..count {
                    let x = x.add(part * size);
                    let (groups, group) = (groups * count, group * count + part);
                    inverse_two::<LAZY>(k, &t.inverse, x, size, groups, group);
                }
                size *= 4;
            }
        }
        if groups == 1 {
            let mut i = 0;
            while i < n {
                store(x.add(i), canonical(k, load(x.add(i))));
                i += 8;
            }
        }
    }
}

/// Two inverse stages on n ≥ 32 coefficients.
///
/// Bounds: in below 4p, or 2p for primes that are not `LAZY`; out the same, as sums of sums (four
/// times the bound) and, for the others, sums of products (4p) are shrunk.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn inverse_two<const LAZY: bool>(
    k: K,
    roots: &Roots,
    x: *mut u64,
    n: usize,
    groups: usize,
    group: usize,
) {
    let w = broadcast(roots, groups + group);
    let w0 = broadcast(roots, 2 * (groups + group));
    let w1 = broadcast(roots, 2 * (groups + group) + 1);
    let q4 = _mm512_add_epi64(k.q2, k.q2);
    let (bound, twice) = if LAZY {
        (q4, _mm512_add_epi64(q4, q4))
    } else {
        (k.q2, q4)
    };
    let quarter = n / 4;
    let mut i = 0;
    while i < quarter {
        // SAFETY: i + 8 ≤ n/4, which is a multiple of 8.
        unsafe {
            let p = x.add(i);
            let (a, b) = (load(p), load(p.add(quarter)));
            let (c, d) = (load(p.add(2 * quarter)), load(p.add(3 * quarter)));
            let (a, b) = inverse_butterfly(k, a, b, w0, bound);
            let (c, d) = inverse_butterfly(k, c, d, w1, bound);
            let (a, c) = inverse_butterfly(k, a, c, w, twice);
            let (b, d) = inverse_butterfly(k, b, d, w, k.q2);
            store(p, shrink(k, a));
            store(p.add(quarter), if LAZY { b } else { shrink(k, b) });
            store(p.add(2 * quarter), c);
            store(p.add(3 * quarter), d);
        }
        i += 8;
    }
}

/// The first three inverse stages on 64 canonical values. Out below 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn inverse_last(k: K, x: *mut u64, roots: *const u64) {
    // SAFETY: the caller has 64 words at x and 112 at roots.
    unsafe {
        let root = |i: usize| (load(roots.add(16 * i)), load(roots.add(16 * i + 8)));
        let mut v = [k.zero; 8];
        for (i, v) in v.iter_mut().enumerate() {
            *v = load(x.add(8 * i));
        }
        let mut v = transpose(v);
        let q4 = _mm512_add_epi64(k.q2, k.q2);
        // From p: sums 2p, products 2p.
        for pair in 0..4 {
            let (a, b) = (v[2 * pair], v[2 * pair + 1]);
            (v[2 * pair], v[2 * pair + 1]) = inverse_butterfly(k, a, b, root(3 + pair), k.q);
        }
        // Sums 4p, products 2p.
        for half in 0..2 {
            let w = root(1 + half);
            for i in 4 * half..4 * half + 2 {
                (v[i], v[i + 2]) = inverse_butterfly(k, v[i], v[i + 2], w, k.q2);
            }
        }
        // Sums of sums 8p, sums of products 4p, products 2p.
        let w = root(0);
        for i in 0..4 {
            (v[i], v[i + 4]) = inverse_butterfly(k, v[i], v[i + 4], w, q4);
        }
        for v in &mut v[..4] {
            *v = shrink(k, *v);
        }
        for (i, v) in transpose(v).into_iter().enumerate() {
            store(x.add(8 * i), v);
        }
    }
}
