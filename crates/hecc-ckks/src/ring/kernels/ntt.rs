//! The negacyclic NTT for AVX-512 IFMA and primes below 2^50: the transform of tfhe-ntt, same roots, same
//! order of values, canonical in and out, with fewer instructions.
//!
//! A butterfly multiplies y by w with Shoup's quotient: ⌊y·w'/2^52⌋ with w' = ⌊w·2^52/p⌋, so that
//! y·w − quotient·p lies in [0, 2p) for every y below 2^52. The multipliers read the low 52 bits of
//! their operands only. So numbers are kept right modulo 2^52 and nothing is masked, as long as what
//! they stand for stays below 2^52; the comments below count that bound in units of p. The only corrections
//! are Barrett steps ([`shrink`]), two instructions each, and one at the end: every three stages for primes
//! below 2^49 (`MIDDLE`), which have room for 8p; at every stage for those above (`STRICT`), which have
//! room for 4p; and next to none for those below 2^46 (`LAZY`), whose numbers grow up to 32p and stay below
//! 2^51.
//!
//! The roots of the last three stages are more than the coefficients, and every prime has its own: a key
//! switch reads them from memory. Of `LAZY` primes their quotients are not stored but computed, one or two
//! too low, which leaves products of numbers below 2^51 below 2p all the same.
//!
//! Two or three stages at a time are done in registers; the last three, whose distance is below a
//! register, between two transpositions of 8×8 blocks. A large ring takes one pass over the second cache,
//! after which blocks that fit the first cache are finished one by one in a buffer of their own.
//!
//! What stands before or behind a transform is done in its first or last pass, while the numbers are in
//! registers: base conversion ([`Source`]); division by the primes that were converted, and packing for
//! a conversion ([`Sink`]).
#![expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::ring::modulus::Modulus;

/// Primes below this take this transform.
pub(crate) const LIMIT: u64 = 1 << 50;

/// How often numbers are shrunk.
const LAZY: u8 = 0;
const MIDDLE: u8 = 1;
const STRICT: u8 = 2;

/// A call of a function that is compiled for each of them.
macro_rules! by_mode {
    ($tables:expr, $f:ident::<_ $(, $g:ty)*>($($a:expr),* $(,)?)) => {
        match $tables.mode {
            LAZY => $f::<LAZY $(, $g)*>($($a),*),
            MIDDLE => $f::<MIDDLE $(, $g)*>($($a),*),
            _ => $f::<STRICT $(, $g)*>($($a),*),
        }
    };
}

/// Coefficients of a block that is finished before the next one is begun: 32 KiB.
const BLOCK: usize = 4096;

/// Roots of one prime.
pub(crate) struct Tables {
    q: u64,
    /// q^-1 modulo 2^52.
    q_inv: u64,
    /// 2^104 modulo q.
    r2: u64,
    /// ⌊2^52/q⌋.
    reciprocal: u64,
    /// Bits of q, and ⌊2^(52 + bits)/q⌋ less 2^52.
    bits: u32,
    long_reciprocal: u64,
    mode: u8,
    forward: Roots,
    inverse: Roots,
}

/// Residues of a few primes below [`LIMIT`], packed for a base conversion: for every eight coefficients, eight
/// residues of each prime, `width` bytes each, and then, unless there is but one prime, eight bytes of
/// quotients v (see [`basis`](crate::ring::basis)).
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) primes: usize,
    pub(crate) width: usize,
}

impl Layout {
    /// Bytes of eight coefficients.
    fn stride(self) -> usize {
        8 * (self.primes * self.width + usize::from(self.primes > 1))
    }

    /// Bytes of a polynomial; the loads of the last eight coefficients reach 64 bytes further than they are.
    fn bytes(self, n: usize) -> usize {
        n / 8 * self.stride() + 64
    }

    /// The same in words.
    pub(crate) fn words(self, n: usize) -> usize {
        self.bytes(n).div_ceil(8)
    }
}

/// What a base conversion computes from packed residues, modulo the prime of the transform.
#[derive(Clone, Copy)]
pub(crate) enum Conversion<'a> {
    /// The residue of this one odd prime that is nearest to zero, in Montgomery form.
    Centre(u64),
    /// Σ y_i·weights_i/R, with one more weight, for the quotient.
    Combine(&'a [u64]),
}

/// How a limb is divided: out = (x − values)·factor/R, `targets` telling where the blocks of eight go and how
/// each is permuted.
pub(crate) struct Division<'a> {
    /// The coefficients of the block that is divided.
    pub(crate) x: &'a [u64],
    pub(crate) factor: u64,
    pub(crate) targets: Option<(&'a [u32], &'a [u64])>,
}

/// Powers of ψ (or ψ^-1) in bit-reversed order, each with Shoup's quotient: group g of the stage
/// with m groups takes place m + g, for the stages with fewer than N/8 groups. The last three stages have their roots again, in the order of
/// lanes after transposition: for each 64 coefficients, eight of the stage at distance 4, twice eight at distance 2,
/// four times eight at distance 1.
struct Roots {
    w: Vec<u64>,
    shoup: Vec<u64>,
    /// Per 64 coefficients: seven times (w, shoup) of eight lanes, or only w for `LAZY` primes.
    last: Vec<u64>,
}

impl Roots {
    fn new(n: usize, q: u64, root: u64, lazy: bool) -> Roots {
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
        let mut last = Vec::with_capacity(n / 64 * if lazy { 56 } else { 112 });
        for block in 0..n / 64 {
            // (groups of the stage per chunk of eight, place within)
            for (per, within) in [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3)] {
                let place = |lane: usize| n / 8 * per + (8 * block + lane) * per + within;
                last.extend((0..8).map(|lane| w[place(lane)]));
                if !lazy {
                    last.extend((0..8).map(|lane| shoup[place(lane)]));
                }
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
    pub(crate) fn new(n: usize, modulus: &Modulus, root: u64, inverse: u64) -> Option<Tables> {
        let q = modulus.q;
        if q >= LIMIT || n < 256 {
            return None;
        }
        let stages = u64::from(n.trailing_zeros());
        // The forward transform adds 2p a stage to a start of 2p; the inverse needs 32p.
        let lazy = (2 * stages + 2).max(32) * q < 1 << 51;
        let bits = 64 - q.leading_zeros();
        Some(Tables {
            q,
            q_inv: modulus.q_inv,
            r2: modulus.r2,
            reciprocal: ((1u128 << 52) / u128::from(q)) as u64,
            bits,
            long_reciprocal: ((1u128 << (52 + bits)) / u128::from(q) - (1 << 52)) as u64,
            mode: match lazy {
                true => LAZY,
                false if q < 1 << 49 => MIDDLE,
                false => STRICT,
            },
            forward: Roots::new(n, q, root, lazy),
            inverse: Roots::new(n, q, inverse, lazy),
        })
    }

    fn n(&self) -> usize {
        8 * self.forward.w.len()
    }

    /// Coefficients to values, canonical to canonical.
    pub(crate) fn forward(&self, x: &mut [u64]) {
        assert!(x.len() == self.n());
        let x = x.as_mut_ptr();
        // SAFETY: tables exist only where the processor was asked for the features; the length is that of
        // the tables, a power of two from 256 on.
        unsafe { transform(self, x, Canonical(x)) }
    }

    /// The stages above blocks of [`Self::forward`]; [`Self::finish_block`] does the rest.
    pub(crate) fn begin(&self, x: &mut [u64]) {
        let n = self.n();
        assert!(x.len() == n);
        let x = x.as_mut_ptr();
        // SAFETY: as in `forward`.
        unsafe {
            if n > BLOCK {
                by_mode!(self, first::<_, _>(self, n, Words(x), x));
            }
        }
    }

    /// The stages above blocks of the transform of what `conversion` makes of packed residues;
    /// [`Self::finish_block`] does the rest.
    pub(crate) fn begin_of(
        &self,
        packed: &[u64],
        layout: Layout,
        conversion: Conversion<'_>,
        out: &mut [u64],
    ) {
        assert!(out.len() == self.n());
        // SAFETY: as in `forward`.
        unsafe { convert_first(self, packed, layout, conversion, out.as_mut_ptr()) }
    }

    /// Coefficients of a block.
    pub(crate) fn block(&self) -> usize {
        block_size(self.n())
    }

    /// The rest of a transform for the block from `start` on; meanwhile `ahead` is fetched to the second
    /// cache.
    pub(crate) fn finish_block(&self, x: &mut [u64], start: usize, ahead: &[u8]) {
        let block = self.block();
        assert!(x.len() == self.n() && start.is_multiple_of(block) && start < x.len());
        let x = x.as_mut_ptr();
        let range = start..start + block;
        // SAFETY: as in `forward`; the range is one block.
        unsafe {
            by_mode!(
                self,
                block_range::<_, _>(self, range, x, Canonical(x), ahead)
            );
        }
    }

    /// [`Self::finish_block`] of what was converted from the primes that a limb is divided by, and the division
    /// of the block: `out` is the whole limb. Meanwhile `ahead` is fetched to the second cache.
    pub(crate) fn finish_division(
        &self,
        work: &mut [u64],
        start: usize,
        division: &Division<'_>,
        out: &mut [u64],
        ahead: &[u8],
    ) {
        let (n, block) = (self.n(), self.block());
        assert!(work.len() == n && out.len() == n && division.x.len() == block);
        assert!(start.is_multiple_of(block) && start < n);
        let work = work.as_mut_ptr();
        let range = start..start + block;
        // SAFETY: as in `forward`; the lengths of all limbs were checked, and the range is one block.
        unsafe {
            let quotient = Divided {
                x: division.x.as_ptr(),
                start,
                factor: _mm512_set1_epi64(division.factor as i64),
                out: out.as_mut_ptr(),
            };
            match division.targets {
                None => by_mode!(
                    self,
                    block_range::<_, _>(self, range, work, quotient, ahead)
                ),
                Some((target, within)) => {
                    assert!(8 * target.len() == n && 8 * within.len() == n);
                    let sink = Permuted {
                        quotient,
                        target: target.as_ptr(),
                        last: target.len() - 1,
                        within: within.as_ptr(),
                    };
                    by_mode!(self, block_range::<_, _>(self, range, work, sink, ahead));
                }
            }
        }
    }

    /// Values to N times the coefficients, canonical to canonical.
    pub(crate) fn inverse(&self, x: &mut [u64]) {
        assert!(x.len() == self.n());
        let x = x.as_mut_ptr();
        // SAFETY: as in `forward`.
        unsafe { invert(self, x, x, Canonical(x)) }
    }

    /// The stages of an inverse transform within the block from `start` on, whose values are x; meanwhile `ahead` is
    /// fetched to the second cache. [`Self::inverse_packed`] does the rest, from `work`.
    pub(crate) fn inverse_block(&self, x: &[u64], start: usize, work: &mut [u64], ahead: &[u8]) {
        let (n, block) = (self.n(), self.block());
        assert!(x.len() == block && work.len() == n);
        assert!(start.is_multiple_of(block) && start < n);
        // SAFETY: as in `forward`; the lengths of both were checked.
        unsafe {
            let (x, work) = (x.as_ptr(), work.as_mut_ptr());
            by_mode!(self, inverse_block::<_>(self, x, start, work, ahead));
        }
    }

    /// What [`Self::inverse_block`] left of all blocks to N·factor/R times the coefficients, packed as those of
    /// prime number `number` of the layout. `work` is overwritten.
    pub(crate) fn inverse_packed(
        &self,
        work: &mut [u64],
        factor: u64,
        packed: &mut [u64],
        layout: Layout,
        number: usize,
    ) {
        let n = self.n();
        assert!(work.len() == n && packed.len() >= layout.words(n));
        assert!(number < layout.primes && self.q >> (8 * layout.width) == 0);
        let width = layout.width;
        let places: [u8; 64] = std::array::from_fn(|i| {
            if i < 8 * width {
                (i / width * 8 + i % width) as u8
            } else {
                0
            }
        });
        // SAFETY: as in `forward`; the packed polynomial has room for every row.
        unsafe {
            let sink = Packed {
                out: packed.as_mut_ptr().cast::<u8>().add(8 * number * width),
                stride: layout.stride(),
                places: _mm512_loadu_si512(places.as_ptr().cast()),
                mask: low_bytes(8 * width),
                factor: _mm512_set1_epi64(factor as i64),
            };
            by_mode!(self, inverse_above::<_, _>(self, work.as_mut_ptr(), sink));
        }
    }
}

/// The first `count` of 64 bytes.
fn low_bytes(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// Fills in the quotients of packed residues: v = ⌊Σ y_i·reciprocal_i + 1/2⌋, the same operations in the same
/// order as in [`super::quotient`].
pub(crate) fn quotient_packed(packed: &mut [u64], n: usize, layout: Layout, reciprocal: &[f64]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    fn compiled(packed: &mut [u64], n: usize, layout: Layout, reciprocal: &[f64]) {
        assert!(packed.len() >= layout.words(n) && reciprocal.len() == layout.primes);
        assert!(layout.primes > 1 && layout.primes < 256);
        let (places, mask) = unpacking(layout.width);
        let step = 8 * layout.width;
        let mut row = packed.as_mut_ptr().cast::<u8>();
        for _ in 0..n / 8 {
            // SAFETY: n/8 rows, and 64 bytes more.
            unsafe {
                let mut sum = _mm512_set1_pd(0.5);
                for (t, &r) in reciprocal.iter().enumerate() {
                    let y = _mm512_loadu_si512(row.add(t * step).cast());
                    let y = _mm512_maskz_permutexvar_epi8(mask, places, y);
                    let term = _mm512_mul_pd(_mm512_cvtepu64_pd(y), _mm512_set1_pd(r));
                    sum = _mm512_add_pd(sum, term);
                }
                let v = _mm512_cvtepi64_epi8(_mm512_cvttpd_epu64(sum));
                _mm_storel_epi64(row.add(layout.primes * step).cast(), v);
                row = row.add(layout.stride());
            }
        }
    }
    // SAFETY: packed residues exist only where the processor was asked for the features.
    unsafe { compiled(packed, n, layout, reciprocal) }
}

/// The places of the bytes of eight residues of `width` bytes, one for each lane, and which there are.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn unpacking(width: usize) -> (__m512i, u64) {
    let places: [u8; 64] = std::array::from_fn(|i| (i / 8 * width + i % 8) as u8);
    let lane = low_bytes(width);
    let mask = (0..8).fold(0, |mask, j| mask | (lane & 0xff) << (8 * j));
    // SAFETY: the array has 64 bytes.
    (unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }, mask)
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
    q_inv: __m512i,
    shift: __m512i,
    long_reciprocal: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn constants(t: &Tables) -> K {
    K {
        zero: _mm512_setzero_si512(),
        q: _mm512_set1_epi64(t.q as i64),
        neg: _mm512_set1_epi64(((1u64 << 52) - t.q) as i64),
        q2: _mm512_set1_epi64(2 * t.q as i64),
        reciprocal: _mm512_set1_epi64(t.reciprocal as i64),
        mask: _mm512_set1_epi64((1 << 52) - 1),
        q_inv: _mm512_set1_epi64(t.q_inv as i64),
        shift: _mm512_set1_epi64(i64::from(52 - t.bits)),
        long_reciprocal: _mm512_set1_epi64(t.long_reciprocal as i64),
    }
}

/// A root with its quotient.
type Root = (__m512i, __m512i);

/// acc + y·w in [0, 2p) more than acc, modulo 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn mul_add(k: K, acc: __m512i, y: __m512i, w: Root) -> __m512i {
    let quotient = _mm512_madd52hi_epu64(k.zero, y, w.1);
    let product = _mm512_madd52lo_epu64(acc, y, w.0);
    _mm512_madd52lo_epu64(product, quotient, k.neg)
}

/// x below 2^52 to x modulo p in [0, 2p), modulo 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn shrink(k: K, x: __m512i) -> __m512i {
    let quotient = _mm512_madd52hi_epu64(k.zero, x, k.reciprocal);
    _mm512_madd52lo_epu64(x, quotient, k.neg)
}

/// x below 2^52 modulo 2^52 to the residue below p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn canonical(k: K, x: __m512i) -> __m512i {
    let x = _mm512_and_si512(shrink(k, x), k.mask);
    _mm512_min_epu64(x, _mm512_sub_epi64(x, k.q))
}

/// (lo + hi·2^52)/2^52 modulo p, below p if the sum is below p·2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn reduce(k: K, lo: __m512i, hi: __m512i) -> __m512i {
    let m = _mm512_madd52lo_epu64(k.zero, lo, k.q_inv);
    let r = _mm512_sub_epi64(hi, _mm512_madd52hi_epu64(k.zero, m, k.q));
    _mm512_min_epu64(r, _mm512_add_epi64(r, k.q))
}

/// a·b/2^52, canonical, for a below 2^52, modulo that, and b below p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn montgomery(k: K, a: __m512i, b: __m512i) -> __m512i {
    let lo = _mm512_madd52lo_epu64(k.zero, a, b);
    reduce(k, lo, _mm512_madd52hi_epu64(k.zero, a, b))
}

/// (x + w·y, x − w·y + 2p): a bound B of x becomes B + 2p for both.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn butterfly(k: K, x: __m512i, y: __m512i, w: Root) -> (__m512i, __m512i) {
    let t = mul_add(k, k.zero, y, w);
    (
        _mm512_add_epi64(x, t),
        _mm512_sub_epi64(_mm512_add_epi64(x, k.q2), t),
    )
}

/// A butterfly of the forward transform.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn step<const MODE: u8>(k: K, x: __m512i, y: __m512i, w: Root) -> (__m512i, __m512i) {
    butterfly(k, if MODE == STRICT { shrink(k, x) } else { x }, y, w)
}

/// A butterfly of the inverse transform; for `STRICT` primes, from below 2p to below 2p, whatever `bound` is.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn back<const MODE: u8>(
    k: K,
    x: __m512i,
    y: __m512i,
    w: Root,
    bound: __m512i,
) -> (__m512i, __m512i) {
    if MODE == STRICT {
        let (sum, product) = inverse_butterfly(k, x, y, w, k.q2);
        (shrink(k, sum), product)
    } else {
        inverse_butterfly(k, x, y, w, bound)
    }
}

/// (x + y, (x − y)·w) for y below `bound`, a multiple of p: bounds B of x, y become 2B and 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn inverse_butterfly(k: K, x: __m512i, y: __m512i, w: Root, bound: __m512i) -> (__m512i, __m512i) {
    let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
    (_mm512_add_epi64(x, y), mul_add(k, k.zero, difference, w))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn load(p: *const u64) -> __m512i {
    // SAFETY: the caller has eight words at p.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn store(p: *mut u64, v: __m512i) {
    // SAFETY: the caller has eight words at p.
    unsafe { _mm512_storeu_si512(p.cast(), v) }
}

/// The root of one group for all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
fn broadcast(roots: &Roots, place: usize) -> Root {
    (
        _mm512_set1_epi64(roots.w[place] as i64),
        _mm512_set1_epi64(roots.shoup[place] as i64),
    )
}

/// Words of the roots of the last three stages, per 64 coefficients.
const fn last_words(lazy: bool) -> usize {
    if lazy { 56 } else { 112 }
}

/// Root number `i` of the last three stages, for eight lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn last_root<const MODE: u8>(k: K, roots: *const u64, i: usize) -> Root {
    // SAFETY: the caller has `last_words` words at `roots`.
    unsafe {
        if MODE == LAZY {
            // w·2^(52 − bits)·(2^52 + long_reciprocal)/2^52 is w·2^52/q.
            let w = load(roots.add(8 * i));
            let shifted = _mm512_sllv_epi64(w, k.shift);
            let quotient = _mm512_madd52hi_epu64(shifted, shifted, k.long_reciprocal);
            (w, quotient)
        } else {
            (load(roots.add(16 * i)), load(roots.add(16 * i + 8)))
        }
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
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

/// Where a pass takes its numbers from.
trait Source: Copy {
    /// Eight numbers from place `i` on, modulo 2^52.
    ///
    /// # Safety
    /// i + 8 is at most the number of places; the processor has the features.
    unsafe fn load(self, k: K, i: usize) -> __m512i;
}

/// Where a pass leaves its numbers.
trait Sink: Copy {
    /// Takes eight numbers below 2^52, modulo that, for the places from `i` on.
    ///
    /// # Safety
    /// As [`Source::load`].
    unsafe fn store(self, k: K, i: usize, v: __m512i);
}

/// Numbers as they are.
#[derive(Clone, Copy)]
struct Words(*mut u64);

impl Source for Words {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn load(self, _k: K, i: usize) -> __m512i {
        // SAFETY: passed on to the caller.
        unsafe { load(self.0.add(i)) }
    }
}

impl Sink for Words {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn store(self, _k: K, i: usize, v: __m512i) {
        // SAFETY: passed on to the caller.
        unsafe { store(self.0.add(i), v) }
    }
}

/// Canonical residues.
#[derive(Clone, Copy)]
struct Canonical(*mut u64);

impl Sink for Canonical {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn store(self, k: K, i: usize, v: __m512i) {
        // SAFETY: passed on to the caller.
        unsafe { store(self.0.add(i), canonical(k, v)) }
    }
}

/// See [`Tables::finish_division`].
#[derive(Clone, Copy)]
struct Divided {
    /// Of the places from `start` on.
    x: *const u64,
    start: usize,
    factor: __m512i,
    out: *mut u64,
}

impl Divided {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn value(self, k: K, i: usize, v: __m512i) -> __m512i {
        // SAFETY: passed on to the caller.
        let x = unsafe { load(self.x.add(i - self.start)) };
        // x − v + 2p is in (0, 3p).
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, k.q2), shrink(k, v));
        montgomery(k, difference, self.factor)
    }
}

impl Sink for Divided {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn store(self, k: K, i: usize, v: __m512i) {
        // SAFETY: passed on to the caller.
        unsafe { store(self.out.add(i), self.value(k, i, v)) }
    }
}

/// The same, each block of eight to the place where an automorphism takes it.
#[derive(Clone, Copy)]
struct Permuted {
    quotient: Divided,
    target: *const u32,
    /// The last place of `target`.
    last: usize,
    within: *const u64,
}

impl Sink for Permuted {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn store(self, k: K, i: usize, v: __m512i) {
        // SAFETY: the tables have an entry for every eight places, and targets are blocks of the limb.
        unsafe {
            let far = *self.target.add((i / 8 + 16).min(self.last)) as usize;
            _mm_prefetch::<_MM_HINT_T0>(self.quotient.out.add(8 * far).cast());
            let value = self.quotient.value(k, i, v);
            let within = _mm_cvtsi64_si128(*self.within.add(i / 8) as i64);
            let value = _mm512_permutexvar_epi64(_mm512_cvtepu8_epi64(within), value);
            let target = *self.target.add(i / 8) as usize;
            store(self.quotient.out.add(8 * target), value);
        }
    }
}

/// See [`Tables::inverse_packed`].
#[derive(Clone, Copy)]
struct Packed {
    out: *mut u8,
    stride: usize,
    places: __m512i,
    mask: u64,
    factor: __m512i,
}

impl Sink for Packed {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn store(self, k: K, i: usize, v: __m512i) {
        let bytes = _mm512_permutexvar_epi8(self.places, montgomery(k, v, self.factor));
        // SAFETY: row i/8 of the packed polynomial.
        unsafe {
            let row = self.out.add(i / 8 * self.stride);
            _mm512_mask_storeu_epi8(row.cast(), self.mask, bytes);
        }
    }
}

/// [`Conversion::Centre`].
#[derive(Clone, Copy)]
struct Centred {
    packed: *const u8,
    stride: usize,
    places: __m512i,
    mask: u64,
    half: __m512i,
    p: __m512i,
    offset: __m512i,
    r2: __m512i,
}

impl Source for Centred {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn load(self, k: K, i: usize) -> __m512i {
        // SAFETY: row i/8 of the packed polynomial, behind which there are 64 bytes.
        let y = unsafe { _mm512_loadu_si512(self.packed.add(i / 8 * self.stride).cast()) };
        let y = _mm512_maskz_permutexvar_epi8(self.mask, self.places, y);
        let above = _mm512_cmpgt_epu64_mask(y, self.half);
        let y = _mm512_add_epi64(y, self.offset);
        montgomery(k, _mm512_mask_sub_epi64(y, above, y, self.p), self.r2)
    }
}

/// How far ahead of a conversion packed residues are fetched, in bytes: several places are read in turn, too
/// many for the processor to see the pattern.
const AHEAD: usize = 1024;

/// [`Conversion::Combine`] from T primes, or any number when T is 0.
#[derive(Clone, Copy)]
struct Combined<'a, const T: usize> {
    packed: *const u8,
    stride: usize,
    step: usize,
    places: __m512i,
    mask: u64,
    weights: &'a [u64],
}

impl<const T: usize> Source for Combined<'_, T> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
    unsafe fn load(self, k: K, i: usize) -> __m512i {
        let count = if T == 0 { self.weights.len() - 1 } else { T };
        // SAFETY: row i/8 of the packed polynomial, behind which there are 64 bytes; one weight more than
        // there are primes.
        unsafe {
            let row = self.packed.add(i / 8 * self.stride);
            let weights = self.weights.as_ptr();
            let quotient = _mm_loadl_epi64(row.add(count * self.step).cast());
            let quotient = _mm512_cvtepu8_epi64(quotient);
            let w = _mm512_set1_epi64(*weights.add(count) as i64);
            let mut lo = _mm512_madd52lo_epu64(k.zero, quotient, w);
            let mut hi = _mm512_madd52hi_epu64(k.zero, quotient, w);
            for t in 0..count {
                let at = row.add(t * self.step);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                let y = _mm512_loadu_si512(at.cast());
                let y = _mm512_maskz_permutexvar_epi8(self.mask, self.places, y);
                let w = _mm512_set1_epi64(*weights.add(t) as i64);
                lo = _mm512_madd52lo_epu64(lo, y, w);
                hi = _mm512_madd52hi_epu64(hi, y, w);
            }
            // Up to six terms below 2^50·p and one below 2^8·p: their sum by 2^52 is below 2p.
            let r = reduce(k, lo, _mm512_add_epi64(hi, _mm512_srli_epi64::<52>(lo)));
            if T == 0 { shrink(k, r) } else { r }
        }
    }
}

/// The stages above blocks of what a conversion makes of packed residues.
///
/// # Safety
/// n words at `work`.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn convert_first(
    t: &Tables,
    packed: &[u64],
    layout: Layout,
    conversion: Conversion<'_>,
    work: *mut u64,
) {
    let n = t.n();
    assert!(packed.len() >= layout.words(n));
    let packed = packed.as_ptr().cast::<u8>();
    let stride = layout.stride();
    let (places, mask) = unpacking(layout.width);
    // SAFETY: the lengths were checked here and by the caller.
    unsafe {
        match conversion {
            Conversion::Centre(p) => {
                assert!(layout.primes == 1 && p < LIMIT);
                let source = Centred {
                    packed,
                    stride,
                    places,
                    mask,
                    half: _mm512_set1_epi64((p / 2) as i64),
                    p: _mm512_set1_epi64(p as i64),
                    // The least multiple of q above p: y + offset − p lies in [0, 2^52).
                    offset: _mm512_set1_epi64((p.div_ceil(t.q) * t.q) as i64),
                    r2: _mm512_set1_epi64(t.r2 as i64),
                };
                by_mode!(t, first::<_, _>(t, n, source, work));
            }
            Conversion::Combine(weights) => {
                assert!(layout.primes > 1 && weights.len() == layout.primes + 1);
                macro_rules! combined {
                    ($($t:literal)*) => {
                        match layout.primes {
                            $($t => combined!(of $t),)*
                            _ => combined!(of 0),
                        }
                    };
                    (of $t:literal) => {{
                        let source = Combined::<$t> {
                            packed,
                            stride,
                            step: 8 * layout.width,
                            places,
                            mask,
                            weights,
                        };
                        by_mode!(t, first::<_, _>(t, n, source, work));
                    }};
                }
                combined!(2 3 4 5 6);
            }
        }
    }
}

/// A forward transform of the numbers at `work`, where the sink may be.
///
/// # Safety
/// n words at `work`; the sink takes n places.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn transform<D: Sink>(t: &Tables, work: *mut u64, sink: D) {
    let n = t.n();
    // SAFETY: passed on to the caller.
    unsafe {
        if n > BLOCK {
            by_mode!(t, first::<_, _>(t, n, Words(work), work));
        }
        by_mode!(t, block_range::<_, _>(t, 0..n, work, sink, &[]));
    }
}

/// The stages above blocks, from numbers below 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn first<const MODE: u8, S: Source>(t: &Tables, n: usize, source: S, work: *mut u64) {
    let k = constants(t);
    let roots = &t.forward;
    // SAFETY: all places are below n.
    unsafe {
        if n <= BLOCK {
            let mut i = 0;
            while i < n {
                store(work.add(i), source.load(k, i));
                i += 8;
            }
            return;
        }
        let mut size = if stages(n) == 3 {
            forward_three::<MODE, true, _, _, _>(k, roots, 1, n, source, Words(work), &mut Nothing);
            n / 8
        } else {
            forward_two::<MODE, true, _, _, _>(k, roots, 1, n, source, Words(work), &mut Nothing);
            n / 4
        };
        while size > BLOCK {
            for part in 0..n / size {
                let x = Words(work.add(part * size));
                let place = n / size + part;
                if stages(size) == 3 {
                    forward_three::<MODE, false, _, _, _>(
                        k,
                        roots,
                        place,
                        size,
                        x,
                        x,
                        &mut Nothing,
                    );
                } else {
                    forward_two::<MODE, false, _, _, _>(k, roots, place, size, x, x, &mut Nothing);
                }
            }
            size >>= stages(size);
        }
    }
}

/// Stages of the next pass over `size` coefficients, more than a block: so many that the last pass ends with
/// a whole block or half of one.
fn stages(size: usize) -> u32 {
    let above = size.trailing_zeros() - BLOCK.trailing_zeros();
    if above >= 3 && above % 2 == 1 { 3 } else { 2 }
}

/// Coefficients of a block of a ring of degree n.
fn block_size(n: usize) -> usize {
    let mut size = n;
    while size > BLOCK {
        size >>= stages(size);
    }
    size
}

/// Stages of the next pass within a block, of `left` ≥ 2 besides the last three.
fn inner_stages(left: u32) -> u32 {
    if left == 3 || left >= 5 { 3 } else { 2 }
}

/// A buffer for one block.
#[repr(C, align(64))]
struct Scratch(MaybeUninit<[u64; BLOCK]>);

/// Bytes of a cache line.
const LINE: usize = 64;

/// What is done beside the passes over a block.
trait Beside {
    /// A part of it.
    fn step(&mut self);
}

struct Nothing;

impl Beside for Nothing {
    #[inline(always)]
    fn step(&mut self) {}
}

/// Memory on its way to the second cache while something else is computed: a few lines at a time, as many in all
/// passes, since what is asked for in one go keeps other loads waiting.
struct Ahead<'a> {
    rest: &'a [u8],
    /// Bytes of one step.
    share: usize,
}

impl<'a> Ahead<'a> {
    /// In so many steps.
    fn new(bytes: &'a [u8], steps: usize) -> Ahead<'a> {
        Ahead {
            rest: bytes,
            share: bytes.len().div_ceil(steps.max(1)).next_multiple_of(LINE),
        }
    }
}

impl Beside for Ahead<'_> {
    #[inline(always)]
    fn step(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        let (now, rest) = self.rest.split_at(self.share.min(self.rest.len()));
        for line in now.chunks(LINE) {
            // SAFETY: asking for a line reads nothing, and every x86-64 processor can do it.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
        }
        self.rest = rest;
    }
}

/// How often the passes over a block call [`Ahead::step`]: once for every 64 or, in passes of two stages, 32
/// coefficients.
fn block_steps(block: usize) -> usize {
    let mut steps = block / 64;
    let mut left = block.trailing_zeros() - 3;
    while left > 0 {
        let inner = inner_stages(left);
        steps += block >> (3 + inner);
        left -= inner;
    }
    steps
}

/// The stages of the blocks of a range, while `ahead` is fetched to the second cache.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn block_range<const MODE: u8, D: Sink>(
    t: &Tables,
    range: Range<usize>,
    work: *mut u64,
    sink: D,
    ahead: &[u8],
) {
    // SAFETY: passed on to the caller.
    unsafe {
        if ahead.is_empty() {
            blocks::<MODE, _, _>(t, range, work, sink, Nothing);
        } else {
            let block = block_size(t.n());
            let ahead = Ahead::new(ahead, range.len() / block * block_steps(block));
            blocks::<MODE, _, _>(t, range, work, sink, ahead);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn blocks<const MODE: u8, D: Sink, B: Beside>(
    t: &Tables,
    range: Range<usize>,
    work: *mut u64,
    sink: D,
    mut beside: B,
) {
    let k = constants(t);
    let n = t.n();
    let roots = &t.forward;
    let block = block_size(n);
    let mut scratch = Scratch(MaybeUninit::uninit());
    let scratch: *mut u64 = scratch.0.as_mut_ptr().cast();
    // SAFETY: all places are below n, those in the buffer below `block`.
    unsafe {
        for start in range.step_by(block) {
            let mut from = Words(work.add(start));
            let to = Words(scratch);
            let mut size = block;
            while size > 8 {
                let inner = inner_stages(size.trailing_zeros() - 3);
                for part in 0..block / size {
                    let place = n / size + start / size + part;
                    let (from, to) = (Words(from.0.add(part * size)), Words(to.0.add(part * size)));
                    if inner == 3 {
                        forward_three::<MODE, false, _, _, _>(
                            k,
                            roots,
                            place,
                            size,
                            from,
                            to,
                            &mut beside,
                        );
                    } else {
                        forward_two::<MODE, false, _, _, _>(
                            k,
                            roots,
                            place,
                            size,
                            from,
                            to,
                            &mut beside,
                        );
                    }
                }
                from = to;
                size >>= inner;
            }
            for i in 0..block / 64 {
                beside.step();
                let at = (start / 64 + i) * last_words(MODE == LAZY);
                let roots = roots.last.as_ptr().add(at);
                forward_last::<MODE, D>(k, scratch.add(64 * i), roots, start + 64 * i, sink);
            }
        }
    }
}

/// Two stages on `size` ≥ 32 coefficients; `place` is that of the root of the first.
///
/// Bounds: for `LAZY` primes 2p more a stage. For `MIDDLE` ones in below 8p; x-operands are shrunk to 2p,
/// unless all are below that (`FIRST`), so that the first stage leaves 4p, the second 6p. For `STRICT` ones
/// in and out below 4p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn forward_two<const MODE: u8, const FIRST: bool, S: Source, D: Sink, B: Beside>(
    k: K,
    roots: &Roots,
    place: usize,
    size: usize,
    from: S,
    to: D,
    beside: &mut B,
) {
    let w = broadcast(roots, place);
    let w0 = broadcast(roots, 2 * place);
    let w1 = broadcast(roots, 2 * place + 1);
    let quarter = size / 4;
    let mut i = 0;
    while i < quarter {
        // SAFETY: i + 8 ≤ size/4, which is a multiple of 8.
        unsafe {
            let (mut a, mut b) = (from.load(k, i), from.load(k, i + quarter));
            let (c, d) = (from.load(k, i + 2 * quarter), from.load(k, i + 3 * quarter));
            if MODE == MIDDLE && !FIRST {
                a = shrink(k, a);
                b = shrink(k, b);
            }
            let (a, c) = step::<MODE>(k, a, c, w);
            let (b, d) = step::<MODE>(k, b, d, w);
            let (a, b) = step::<MODE>(k, a, b, w0);
            let (c, d) = step::<MODE>(k, c, d, w1);
            to.store(k, i, a);
            to.store(k, i + quarter, b);
            to.store(k, i + 2 * quarter, c);
            to.store(k, i + 3 * quarter, d);
        }
        beside.step();
        i += 8;
    }
}

/// Three stages on `size` ≥ 64 coefficients. Bounds as for [`forward_two`], and 8p after the third.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn forward_three<const MODE: u8, const FIRST: bool, S: Source, D: Sink, B: Beside>(
    k: K,
    roots: &Roots,
    place: usize,
    size: usize,
    from: S,
    to: D,
    beside: &mut B,
) {
    let w = broadcast(roots, place);
    let w2 = [broadcast(roots, 2 * place), broadcast(roots, 2 * place + 1)];
    let w4: [Root; 4] = [
        broadcast(roots, 4 * place),
        broadcast(roots, 4 * place + 1),
        broadcast(roots, 4 * place + 2),
        broadcast(roots, 4 * place + 3),
    ];
    let eighth = size / 8;
    let mut i = 0;
    while i < eighth {
        // SAFETY: i + 8 ≤ size/8, which is a multiple of 8.
        unsafe {
            let mut v = [k.zero; 8];
            for (t, v) in v.iter_mut().enumerate() {
                *v = from.load(k, i + t * eighth);
            }
            if MODE == MIDDLE && !FIRST {
                for v in &mut v[..4] {
                    *v = shrink(k, *v);
                }
            }
            for t in 0..4 {
                (v[t], v[t + 4]) = step::<MODE>(k, v[t], v[t + 4], w);
            }
            for (half, &w) in w2.iter().enumerate() {
                for t in 4 * half..4 * half + 2 {
                    (v[t], v[t + 2]) = step::<MODE>(k, v[t], v[t + 2], w);
                }
            }
            for pair in 0..4 {
                let (a, b) = step::<MODE>(k, v[2 * pair], v[2 * pair + 1], w4[pair]);
                to.store(k, i + 2 * pair * eighth, a);
                to.store(k, i + (2 * pair + 1) * eighth, b);
            }
        }
        beside.step();
        i += 8;
    }
}

/// The last three stages on 64 coefficients.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn forward_last<const MODE: u8, D: Sink>(
    k: K,
    x: *const u64,
    roots: *const u64,
    start: usize,
    sink: D,
) {
    // SAFETY: the caller has 64 words at x and `last_words` at roots; the sink takes 64 places from `start` on.
    unsafe {
        let root = |i: usize| last_root::<MODE>(k, roots, i);
        let mut v = [k.zero; 8];
        for (i, v) in v.iter_mut().enumerate() {
            *v = load(x.add(8 * i));
        }
        let mut v = transpose(v);
        if MODE == MIDDLE {
            // In below 8p: 2p here, 4p after one stage, 6p after two, 8p after three.
            for v in &mut v[..4] {
                *v = shrink(k, *v);
            }
        }
        let w = root(0);
        for i in 0..4 {
            (v[i], v[i + 4]) = step::<MODE>(k, v[i], v[i + 4], w);
        }
        for half in 0..2 {
            let w = root(1 + half);
            for i in 4 * half..4 * half + 2 {
                (v[i], v[i + 2]) = step::<MODE>(k, v[i], v[i + 2], w);
            }
        }
        for pair in 0..4 {
            let w = root(3 + pair);
            (v[2 * pair], v[2 * pair + 1]) = step::<MODE>(k, v[2 * pair], v[2 * pair + 1], w);
        }
        for (i, v) in transpose(v).into_iter().enumerate() {
            sink.store(k, start + 8 * i, v);
        }
    }
}

/// An inverse transform. `work` may be where x and the sink are.
///
/// # Safety
/// n words at x and at `work`; the sink takes n places.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn invert<D: Sink>(t: &Tables, x: *const u64, work: *mut u64, sink: D) {
    // SAFETY: passed on to the caller.
    unsafe {
        by_mode!(t, inverse::<_, D>(t, x, work, sink));
    }
}

/// The inverse of [`transform`].
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse<const MODE: u8, D: Sink>(t: &Tables, x: *const u64, work: *mut u64, sink: D) {
    let n = t.n();
    let block = block_size(n);
    // SAFETY: all places are below n.
    unsafe {
        for start in (0..n).step_by(block) {
            inverse_block::<MODE>(t, x.add(start), start, work, &[]);
        }
        inverse_above::<MODE, D>(t, work, sink);
    }
}

/// The inverse stages within the block from `start` on, while `ahead` is fetched to the second cache: from the
/// values at x to the block's place in `work`.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_block<const MODE: u8>(
    t: &Tables,
    x: *const u64,
    start: usize,
    work: *mut u64,
    ahead: &[u8],
) {
    // SAFETY: passed on to the caller.
    unsafe {
        if ahead.is_empty() {
            inverse_within::<MODE, _>(t, x, start, work, Nothing);
        } else {
            let ahead = Ahead::new(ahead, block_steps(block_size(t.n())));
            inverse_within::<MODE, _>(t, x, start, work, ahead);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_within<const MODE: u8, B: Beside>(
    t: &Tables,
    x: *const u64,
    start: usize,
    work: *mut u64,
    mut beside: B,
) {
    let k = constants(t);
    let n = t.n();
    let roots = &t.inverse;
    let block = block_size(n);
    let mut scratch = Scratch(MaybeUninit::uninit());
    let scratch: *mut u64 = scratch.0.as_mut_ptr().cast();
    // SAFETY: all places are below n, those at x and in the buffer below `block`.
    unsafe {
        for i in 0..block / 64 {
            beside.step();
            let at = (start / 64 + i) * last_words(MODE == LAZY);
            let roots = roots.last.as_ptr().add(at);
            inverse_last::<MODE>(k, x.add(64 * i), scratch.add(64 * i), roots);
        }
        let mut size = 8;
        while size < block {
            let inner = inner_stages((block / size).trailing_zeros());
            size <<= inner;
            let to = if size == block {
                work.add(start)
            } else {
                scratch
            };
            for part in 0..block / size {
                let place = n / size + start / size + part;
                let (from, to) = (Words(scratch.add(part * size)), Words(to.add(part * size)));
                if inner == 3 {
                    inverse_three::<MODE, _, _>(k, roots, place, size, from, to, &mut beside);
                } else {
                    inverse_two::<MODE, _, _>(k, roots, place, size, from, to, &mut beside);
                }
            }
        }
    }
}

/// The inverse stages above blocks.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_above<const MODE: u8, D: Sink>(t: &Tables, work: *mut u64, sink: D) {
    let k = constants(t);
    let n = t.n();
    let roots = &t.inverse;
    let block = block_size(n);
    let none = &mut Nothing;
    // SAFETY: all places are below n.
    unsafe {
        if n <= BLOCK {
            let mut i = 0;
            while i < n {
                sink.store(k, i, load(work.add(i)));
                i += 8;
            }
            return;
        }
        // From the smallest: the sizes of `first` the other way round.
        let mut size = block;
        while size < n {
            let mut above = n;
            while above >> stages(above) > size {
                above >>= stages(above);
            }
            let inner = stages(above);
            size = above;
            for part in 0..n / size {
                let x = Words(work.add(part * size));
                let place = n / size + part;
                match (inner, size == n) {
                    (3, true) => inverse_three::<MODE, _, _>(k, roots, place, size, x, sink, none),
                    (3, false) => inverse_three::<MODE, _, _>(k, roots, place, size, x, x, none),
                    (_, true) => inverse_two::<MODE, _, _>(k, roots, place, size, x, sink, none),
                    (_, false) => inverse_two::<MODE, _, _>(k, roots, place, size, x, x, none),
                }
            }
        }
    }
}

/// Two inverse stages on `size` ≥ 32 coefficients.
///
/// Bounds: in below 4p, or 2p for primes that are not `LAZY`; out the same, as sums of sums (four
/// times the bound) and, for `MIDDLE` ones, sums of products (4p) are shrunk; see [`back`] for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_two<const MODE: u8, D: Sink, B: Beside>(
    k: K,
    roots: &Roots,
    place: usize,
    size: usize,
    from: Words,
    to: D,
    beside: &mut B,
) {
    let w = broadcast(roots, place);
    let w0 = broadcast(roots, 2 * place);
    let w1 = broadcast(roots, 2 * place + 1);
    let q4 = _mm512_add_epi64(k.q2, k.q2);
    let (bound, twice) = if MODE == LAZY {
        (q4, _mm512_add_epi64(q4, q4))
    } else {
        (k.q2, q4)
    };
    let quarter = size / 4;
    let mut i = 0;
    while i < quarter {
        // SAFETY: i + 8 ≤ size/4, which is a multiple of 8.
        unsafe {
            let (a, b) = (from.load(k, i), from.load(k, i + quarter));
            let (c, d) = (from.load(k, i + 2 * quarter), from.load(k, i + 3 * quarter));
            let (a, b) = back::<MODE>(k, a, b, w0, bound);
            let (c, d) = back::<MODE>(k, c, d, w1, bound);
            let (a, c) = back::<MODE>(k, a, c, w, twice);
            let (b, d) = back::<MODE>(k, b, d, w, k.q2);
            to.store(k, i, if MODE == STRICT { a } else { shrink(k, a) });
            to.store(
                k,
                i + quarter,
                if MODE == MIDDLE { shrink(k, b) } else { b },
            );
            to.store(k, i + 2 * quarter, c);
            to.store(k, i + 3 * quarter, d);
        }
        beside.step();
        i += 8;
    }
}

/// Three inverse stages on `size` ≥ 64 coefficients.
///
/// Bounds: in and out as for [`inverse_two`]. The sums grow to 8, 16 and 32p for `LAZY` primes; for
/// `MIDDLE` ones the sums of sums are shrunk once on the way.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_three<const MODE: u8, D: Sink, B: Beside>(
    k: K,
    roots: &Roots,
    place: usize,
    size: usize,
    from: Words,
    to: D,
    beside: &mut B,
) {
    let w = broadcast(roots, place);
    let w2 = [broadcast(roots, 2 * place), broadcast(roots, 2 * place + 1)];
    let w4: [Root; 4] = [
        broadcast(roots, 4 * place),
        broadcast(roots, 4 * place + 1),
        broadcast(roots, 4 * place + 2),
        broadcast(roots, 4 * place + 3),
    ];
    let q4 = _mm512_add_epi64(k.q2, k.q2);
    let q8 = _mm512_add_epi64(q4, q4);
    let q16 = _mm512_add_epi64(q8, q8);
    let eighth = size / 8;
    let mut i = 0;
    while i < eighth {
        // SAFETY: i + 8 ≤ size/8, which is a multiple of 8.
        unsafe {
            let mut v = [k.zero; 8];
            for (t, v) in v.iter_mut().enumerate() {
                *v = from.load(k, i + t * eighth);
            }
            let bound = if MODE == LAZY { q4 } else { k.q2 };
            for pair in 0..4 {
                let (a, b) = (v[2 * pair], v[2 * pair + 1]);
                (v[2 * pair], v[2 * pair + 1]) = back::<MODE>(k, a, b, w4[pair], bound);
            }
            // Sums at even places, 8p or 4p; products at odd places, 2p.
            let bound = if MODE == LAZY { q8 } else { q4 };
            for (half, &w) in w2.iter().enumerate() {
                let t = 4 * half;
                (v[t], v[t + 2]) = back::<MODE>(k, v[t], v[t + 2], w, bound);
                (v[t + 1], v[t + 3]) = back::<MODE>(k, v[t + 1], v[t + 3], w, k.q2);
                if MODE == MIDDLE {
                    v[t] = shrink(k, v[t]);
                }
            }
            // In each half: 16p or, shrunk, 2p; sums of products 4p; products 2p.
            let bound = if MODE == LAZY { q16 } else { k.q2 };
            (v[0], v[4]) = back::<MODE>(k, v[0], v[4], w, bound);
            (v[1], v[5]) = back::<MODE>(k, v[1], v[5], w, q4);
            (v[2], v[6]) = back::<MODE>(k, v[2], v[6], w, k.q2);
            (v[3], v[7]) = back::<MODE>(k, v[3], v[7], w, k.q2);
            // 32p or 4p; 8p; 4p; 4p; and products 2p.
            if MODE != STRICT {
                v[0] = shrink(k, v[0]);
                v[1] = shrink(k, v[1]);
            }
            if MODE == MIDDLE {
                v[2] = shrink(k, v[2]);
                v[3] = shrink(k, v[3]);
            }
            for (t, v) in v.into_iter().enumerate() {
                to.store(k, i + t * eighth, v);
            }
        }
        beside.step();
        i += 8;
    }
}

/// The first three inverse stages on 64 canonical values. Out below 2p.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512bw,avx512vbmi")]
unsafe fn inverse_last<const MODE: u8>(k: K, x: *const u64, out: *mut u64, roots: *const u64) {
    // SAFETY: the caller has 64 words at x and at out, and `last_words` at roots.
    unsafe {
        let root = |i: usize| last_root::<MODE>(k, roots, i);
        let mut v = [k.zero; 8];
        for (i, v) in v.iter_mut().enumerate() {
            *v = load(x.add(8 * i));
        }
        let mut v = transpose(v);
        let q4 = _mm512_add_epi64(k.q2, k.q2);
        // From p: sums 2p, products 2p.
        for pair in 0..4 {
            let (a, b) = (v[2 * pair], v[2 * pair + 1]);
            (v[2 * pair], v[2 * pair + 1]) = back::<MODE>(k, a, b, root(3 + pair), k.q);
        }
        // Sums 4p, products 2p.
        for half in 0..2 {
            let w = root(1 + half);
            for i in 4 * half..4 * half + 2 {
                (v[i], v[i + 2]) = back::<MODE>(k, v[i], v[i + 2], w, k.q2);
            }
        }
        // Sums of sums 8p, sums of products 4p, products 2p.
        let w = root(0);
        for i in 0..4 {
            (v[i], v[i + 4]) = back::<MODE>(k, v[i], v[i + 4], w, q4);
        }
        if MODE != STRICT {
            for v in &mut v[..4] {
                *v = shrink(k, *v);
            }
        }
        for (i, v) in transpose(v).into_iter().enumerate() {
            store(out.add(8 * i), v);
        }
    }
}
