//! Uniform, ternary and Gaussian polynomials.

use std::sync::LazyLock;

use hecc_params::ERROR_STDDEV;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroize;

use super::kernels::Path;
use super::kernels::chacha::{BATCH, BLOCK, Stream};
use super::modulus::Modulus;

/// Largest error: P(|e| > 30) < 2^-64 at σ = 3.2.
const TAIL: usize = 30;

/// 2^63·P(|e| ≥ k) for k = 1 … 30, e a discrete Gaussian. The tail is summed from its far end, so that
/// each entry is right to about 2^-50 of itself.
static THRESHOLDS: LazyLock<[u64; TAIL]> = LazyLock::new(|| {
    let density = |k: usize| (-((k * k) as f64) / (2.0 * ERROR_STDDEV * ERROR_STDDEV)).exp();
    let mut tail = [0.0; TAIL];
    let mut sum = 0.0;
    for k in (1..=TAIL).rev() {
        sum += 2.0 * density(k);
        tail[k - 1] = sum;
    }
    let total = sum + density(0);
    tail.map(|t| (t / total * 2f64.powi(63)) as u64)
});

/// Discrete Gaussian errors of standard deviation 3.2, cut at ±30. Every sample takes the same
/// comparisons with the whole table, whatever its value.
pub(crate) fn gaussian(path: Path, mut stream: Stream, out: &mut [i64]) {
    let thresholds = &*THRESHOLDS;
    for chunk in out.chunks_mut(BATCH) {
        stream.fill(bytemuck::cast_slice_mut(chunk));
        for chunk in chunk.chunks_mut(CHUNK) {
            #[cfg(target_arch = "x86_64")]
            if path == Path::Ifma {
                simd::gaussian_chunk(chunk, thresholds);
                continue;
            }
            let _ = path;
            gaussian_chunk(chunk, thresholds);
        }
    }
}

const CHUNK: usize = 64;

/// Up to [`CHUNK`] random words to samples.
#[inline(always)]
fn gaussian_chunk(out: &mut [i64], thresholds: &[u64; TAIL]) {
    let mut uniform = [0u64; CHUNK];
    let mut magnitude = [0i64; CHUNK];
    for (uniform, x) in uniform.iter_mut().zip(out.iter()) {
        *uniform = *x as u64 >> 1;
    }
    for &t in thresholds {
        for (magnitude, &uniform) in magnitude.iter_mut().zip(&uniform) {
            *magnitude += i64::from(uniform < t);
        }
    }
    for (x, magnitude) in out.iter_mut().zip(magnitude) {
        let sign = -(*x & 1);
        *x = (magnitude ^ sign) - sign;
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a call of a function with target features")]
mod simd {
    use super::TAIL;

    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn compiled(out: &mut [i64], thresholds: &[u64; TAIL]) {
        super::gaussian_chunk(out, thresholds);
    }

    pub(super) fn gaussian_chunk(out: &mut [i64], thresholds: &[u64; TAIL]) {
        // SAFETY: `Path::Ifma` is only chosen after the processor was asked for these features.
        unsafe { compiled(out, thresholds) }
    }
}

/// Uniform −1, 0, 1. Bytes from 255 on are drawn again: what is rejected says nothing of what is kept.
pub(crate) fn ternary(generator: &mut ChaCha20Rng, out: &mut [i64]) {
    let mut bytes = [0u8; 1024];
    let mut at = bytes.len();
    for x in out.iter_mut() {
        *x = loop {
            if at == bytes.len() {
                generator.fill_bytes(&mut bytes);
                at = 0;
            }
            let byte = bytes[at];
            at += 1;
            if byte < 255 {
                break i64::from(byte % 3) - 1;
            }
        };
    }
    bytes.zeroize();
}

/// The uniform residues that a seed stands for: word i of ChaCha20 stream `stream`, or, where it is
/// not below the largest multiple of q below 2^64, the next word after the first N that is; modulo q.
/// The result is a residue in Montgomery form.
pub(crate) fn uniform(path: Path, seed: &[u8; 32], stream: u64, m: &Modulus, out: &mut [u64]) {
    let mut residues = Uniform::new(path, seed, stream, m, out.len());
    for part in out.chunks_mut(BATCH) {
        residues.fill(part);
    }
}

/// The residues of [`uniform`], part by part.
pub(crate) struct Uniform<'a> {
    m: &'a Modulus,
    stream: Stream,
    /// The words after the first N.
    rest: Stream,
    more: [u64; BLOCK],
    at: usize,
    limit: u64,
}

impl<'a> Uniform<'a> {
    pub(crate) fn new(
        path: Path,
        seed: &[u8; 32],
        stream: u64,
        m: &'a Modulus,
        n: usize,
    ) -> Uniform<'a> {
        let mut rest = Stream::new(path, seed, stream);
        rest.skip(n);
        Uniform {
            m,
            stream: Stream::new(path, seed, stream),
            rest,
            more: [0; BLOCK],
            at: BLOCK,
            limit: (u64::MAX / m.q) * m.q,
        }
    }

    /// The next residues; as many as a multiple of [`BLOCK`].
    pub(crate) fn fill(&mut self, out: &mut [u64]) {
        self.stream.fill(out);
        let limit = self.limit;
        // Without a branch: rarely is one of them rejected.
        if out.iter().fold(false, |any, &word| any | (word >= limit)) {
            for word in out.iter_mut() {
                while *word >= limit {
                    *word = self.more();
                }
            }
        }
        self.m.reduce_assign(out);
    }

    fn more(&mut self) -> u64 {
        if self.at == BLOCK {
            self.rest.fill(&mut self.more);
            self.at = 0;
        }
        self.at += 1;
        self.more[self.at - 1]
    }
}
