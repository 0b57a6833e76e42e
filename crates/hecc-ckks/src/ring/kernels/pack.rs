//! Residues packed to the bits of their prime, lowest bits first: eight of b bits are b bytes.

use super::{KeyRow, Path};

/// Fewest bits that the fast path packs; no prime has fewer.
#[cfg(target_arch = "x86_64")]
const MIN_BITS: usize = 9;

/// Packs limbs of equal length side by side: of every eight coefficients those of the first, those of the
/// second, …, each `bits` bytes, and `stride` bytes further the next eight of each.
pub(crate) fn pack(path: Path, out: &mut [u8], bits: usize, stride: usize, limbs: &[&[u64]]) {
    let n = limbs.first().map_or(0, |x| x.len());
    assert!(n.is_multiple_of(8) && limbs.iter().all(|x| x.len() == n));
    assert!((1..=64).contains(&bits) && stride >= limbs.len() * bits);
    assert!(n == 0 || out.len() >= (n / 8 - 1) * stride + limbs.len() * bits);
    #[cfg(target_arch = "x86_64")]
    if path == Path::Ifma && bits >= MIN_BITS {
        // SAFETY: `Path::Ifma` is only chosen after the processor was asked for its features; lengths are
        // as checked above.
        #[expect(unsafe_code, reason = "a call of a function with target features")]
        unsafe {
            avx512::pack(out.as_mut_ptr(), bits, stride, limbs, n);
        }
        return;
    }
    let _ = path;
    for eight in 0..n / 8 {
        for (number, x) in limbs.iter().enumerate() {
            let at = eight * stride + number * bits;
            pack_eight(&mut out[at..at + bits], bits, &x[8 * eight..8 * eight + 8]);
        }
    }
}

fn pack_eight(out: &mut [u8], bits: usize, x: &[u64]) {
    let (mut buffer, mut held) = (0u128, 0);
    let mut place = 0;
    for &x in x {
        buffer |= u128::from(x) << held;
        held += bits;
        while held >= 8 {
            out[place] = buffer as u8;
            place += 1;
            buffer >>= 8;
            held -= 8;
        }
    }
}

/// Takes limb number `number` of what [`pack`] put.
pub(crate) fn unpack(row: &KeyRow<'_>, number: usize, x: &mut [u64]) {
    for (i, x) in x.iter_mut().enumerate() {
        *x = row.value(i, number);
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]
mod avx512 {
    use std::arch::x86_64::*;

    /// See [`super::pack`].
    ///
    /// # Safety
    /// The limbs have n values, `out` has room for n/8 strides, the last up to its last limb, and bits is from
    /// [`MIN_BITS`](super::MIN_BITS) to 64.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn pack(
        out: *mut u8,
        bits: usize,
        stride: usize,
        limbs: &[&[u64]],
        n: usize,
    ) {
        // SAFETY: passed on to the caller. A word has bits of at most ⌈(63 + bits)/bits⌉ values.
        unsafe {
            if bits >= 32 {
                compiled::<3>(out, bits, stride, limbs, n);
            } else {
                compiled::<8>(out, bits, stride, limbs, n);
            }
        }
    }

    /// For words that have bits of at most `PARTS` values.
    ///
    /// # Safety
    /// As for [`pack`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn compiled<const PARTS: usize>(
        out: *mut u8,
        bits: usize,
        stride: usize,
        limbs: &[&[u64]],
        n: usize,
    ) {
        // Word w of the eight packed values has bits 64w to 64w + 63: the end of value 64w/bits, and the values
        // after it. What lies behind the eighth is not stored.
        let first = |w: usize| 64 * w / bits;
        let vector = |f: &dyn Fn(usize) -> usize| {
            let [a, b, c, d, e, g, h, i] = std::array::from_fn(|w| f(w) as i64);
            _mm512_setr_epi64(a, b, c, d, e, g, h, i)
        };
        let from: [__m512i; PARTS] = std::array::from_fn(|part| vector(&|w| (first(w) + part) % 8));
        let right = vector(&|w| 64 * w - first(w) * bits);
        // The first part has none; a shift by 64 or more leaves nothing.
        let left: [__m512i; PARTS] = std::array::from_fn(|part| {
            vector(&|w| ((first(w) + part) * bits).saturating_sub(64 * w))
        });
        let mask = u64::MAX >> (64 - bits);
        for eight in 0..n / 8 {
            for (number, x) in limbs.iter().enumerate() {
                // SAFETY: 8·eight + 8 ≤ n; the mask admits the `bits` bytes of this limb.
                unsafe {
                    let x = _mm512_loadu_si512(x.as_ptr().add(8 * eight).cast());
                    let mut packed = _mm512_srlv_epi64(_mm512_permutexvar_epi64(from[0], x), right);
                    for part in 1..PARTS {
                        let x = _mm512_permutexvar_epi64(from[part], x);
                        packed = _mm512_or_si512(packed, _mm512_sllv_epi64(x, left[part]));
                    }
                    let at = out.add(eight * stride + number * bits);
                    _mm512_mask_storeu_epi8(at.cast(), mask, packed);
                }
            }
        }
    }
}
