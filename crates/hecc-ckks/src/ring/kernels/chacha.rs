//! ChaCha20 as a stream of words: for AVX-512 sixteen blocks at a time, by the library otherwise.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroize;

use super::Path;

/// Words that the fast path makes at once: sixteen blocks of 64 bytes.
pub(crate) const BATCH: usize = 128;
/// Words of a block.
pub(crate) const BLOCK: usize = 8;

/// A stream of ChaCha20 under a key, from its beginning: 64-bit counter, then the 64-bit number of the
/// stream, as in Bernstein's paper. Wiped when dropped.
pub(crate) struct Stream {
    path: Path,
    key: [u8; 32],
    number: u64,
    /// The next block.
    block: u32,
}

impl Stream {
    pub(crate) fn new(path: Path, key: &[u8; 32], number: u64) -> Stream {
        Stream {
            path,
            key: *key,
            number,
            block: 0,
        }
    }

    /// Leaves out `words` of the words that are next, whole blocks.
    pub(crate) fn skip(&mut self, words: usize) {
        self.block = self.after(words);
    }

    /// The block after the next so many words.
    fn after(&self, words: usize) -> u32 {
        assert!(words.is_multiple_of(BLOCK), "blocks are not divided");
        u32::try_from(words / BLOCK)
            .ok()
            .and_then(|blocks| self.block.checked_add(blocks))
            .expect("streams are shorter than 2^32 blocks")
    }

    /// The next words: whole blocks of [`BLOCK`], of which a stream has 2^32.
    pub(crate) fn fill(&mut self, out: &mut [u64]) {
        let end = self.after(out.len());
        #[cfg(target_arch = "x86_64")]
        if self.path == Path::Ifma {
            let mut batches = out.chunks_exact_mut(BATCH);
            for batch in &mut batches {
                avx512::blocks(&self.key, self.number, self.block, batch);
                self.block += (BATCH / BLOCK) as u32;
            }
            let rest = batches.into_remainder();
            if !rest.is_empty() {
                let mut batch = [0; BATCH];
                avx512::blocks(&self.key, self.number, self.block, &mut batch);
                rest.copy_from_slice(&batch[..rest.len()]);
                batch.zeroize();
            }
            self.block = end;
            return;
        }
        let mut generator = ChaCha20Rng::from_seed(self.key);
        generator.set_stream(self.number);
        generator.set_word_pos(16 * u128::from(self.block));
        generator.fill_bytes(bytemuck::cast_slice_mut(out));
        for word in out.iter_mut() {
            *word = u64::from_le(*word);
        }
        self.block = end;
        // Its state cannot be reached for wiping; that of another seed overwrites it.
        generator = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&generator);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::BATCH;

    /// "expand 32-byte k"
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

    /// The sixteen blocks from `block` on.
    pub(super) fn blocks(key: &[u8; 32], stream: u64, block: u32, out: &mut [u64]) {
        assert!(out.len() == BATCH);
        let mut state = [0; 16];
        state[..4].copy_from_slice(&CONSTANTS);
        for (word, bytes) in state[4..12].iter_mut().zip(key.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        state[12] = block;
        state[14] = stream as u32;
        state[15] = (stream >> 32) as u32;
        // SAFETY: `Path::Ifma` is only chosen after the processor was asked for AVX-512; there is room
        // for sixteen blocks.
        unsafe { compiled(&state, out.as_mut_ptr()) }
        zeroize::Zeroize::zeroize(&mut state);
    }

    /// Four quarter rounds, on four quadruples of rows. A macro, so that all rows stay in registers.
    macro_rules! quarters {
        ($v:ident, $([$a:literal $b:literal $c:literal $d:literal])*) => {
            $(
                $v[$a] = _mm512_add_epi32($v[$a], $v[$b]);
                $v[$d] = _mm512_rol_epi32::<16>(_mm512_xor_si512($v[$d], $v[$a]));
            )*
            $(
                $v[$c] = _mm512_add_epi32($v[$c], $v[$d]);
                $v[$b] = _mm512_rol_epi32::<12>(_mm512_xor_si512($v[$b], $v[$c]));
            )*
            $(
                $v[$a] = _mm512_add_epi32($v[$a], $v[$b]);
                $v[$d] = _mm512_rol_epi32::<8>(_mm512_xor_si512($v[$d], $v[$a]));
            )*
            $(
                $v[$c] = _mm512_add_epi32($v[$c], $v[$d]);
                $v[$b] = _mm512_rol_epi32::<7>(_mm512_xor_si512($v[$b], $v[$c]));
            )*
        };
    }

    /// # Safety
    /// `out` has room for 1024 bytes. The counter may not pass 2^32.
    #[target_feature(enable = "avx512f")]
    unsafe fn compiled(state: &[u32; 16], out: *mut u64) {
        // Row i holds word i of all blocks.
        let first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let start = |i: usize| {
            let word = _mm512_set1_epi32(state[i] as i32);
            if i == 12 {
                _mm512_add_epi32(word, first)
            } else {
                word
            }
        };
        let mut v: [__m512i; 16] = std::array::from_fn(start);
        for _ in 0..10 {
            quarters!(v, [0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]);
            quarters!(v, [0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]);
        }
        for (i, v) in v.iter_mut().enumerate() {
            *v = _mm512_add_epi32(*v, start(i));
        }
        // Lane L of four[k][m] is words 4k to 4k + 3 of block 4L + m.
        let four: [[__m512i; 4]; 4] = std::array::from_fn(|k| {
            let [a, b, c, d] = [v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]];
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab2, cd2) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab2, cd2),
                _mm512_unpackhi_epi64(ab2, cd2),
            ]
        });
        for m in 0..4 {
            let [a, b, c, d] = four.map(|of| of[m]);
            let even = (
                _mm512_shuffle_i32x4::<0x88>(a, b),
                _mm512_shuffle_i32x4::<0x88>(c, d),
            );
            let odd = (
                _mm512_shuffle_i32x4::<0xdd>(a, b),
                _mm512_shuffle_i32x4::<0xdd>(c, d),
            );
            let blocks = [
                _mm512_shuffle_i32x4::<0x88>(even.0, even.1),
                _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1),
                _mm512_shuffle_i32x4::<0xdd>(even.0, even.1),
                _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1),
            ];
            for (l, block) in blocks.into_iter().enumerate() {
                // SAFETY: block 4l + m is one of sixteen, of eight words each.
                unsafe { _mm512_storeu_si512(out.add(8 * (4 * l + m)).cast(), block) };
            }
        }
    }
}
