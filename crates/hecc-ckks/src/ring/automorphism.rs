//! X → X^g on polynomials in NTT form: a permutation of values.
//!
//! Place i holds the value at ψ^e with e = 2·bitrev(i)+1, so that the result's place i takes the
//! value of the place of e·g. Eight neighbours differ in the top three bits of e only, and so do their
//! sources: the permutation moves whole blocks of eight and permutes within each.

use hecc_params::GaloisElement;

#[cfg(target_arch = "x86_64")]
use super::kernels::ifma;
use super::kernels::{KeyRow, Path};
use super::modulus::Modulus;

pub(crate) struct Permutation {
    /// For each block of the result, the block it comes from.
    source: Vec<u32>,
    /// For each block, the place within the source block of each of its eight values, a byte each.
    within: Vec<u64>,
    /// For each block of the input, the block of the result it goes to.
    target: Vec<u32>,
    /// `within` of that block.
    within_target: Vec<u64>,
}

fn reverse(x: usize, bits: u32) -> usize {
    x.reverse_bits() >> (usize::BITS - bits)
}

impl Permutation {
    pub(crate) fn new(n: usize, element: GaloisElement) -> Permutation {
        let bits = n.trailing_zeros();
        let mask = 2 * n - 1;
        let g = element.0 as usize & mask;
        let source_of = |i: usize| {
            let e = (2 * reverse(i, bits) + 1).wrapping_mul(g) & mask;
            reverse(e / 2, bits)
        };
        let mut source = Vec::with_capacity(n / 8);
        let mut within = Vec::with_capacity(n / 8);
        for block in 0..n / 8 {
            source.push((source_of(8 * block) / 8) as u32);
            let bytes = std::array::from_fn(|r| (source_of(8 * block + r) % 8) as u8);
            within.push(u64::from_le_bytes(bytes));
        }
        let mut target = vec![0; n / 8];
        let mut within_target = vec![0; n / 8];
        for (block, (&s, &w)) in source.iter().zip(&within).enumerate() {
            target[s as usize] = block as u32;
            within_target[s as usize] = w;
        }
        Permutation {
            source,
            within,
            target,
            within_target,
        }
    }

    /// For each block of eight of the input, the block of the result it goes to and the place of each of
    /// the latter's values in it, a byte each.
    pub(crate) fn targets(&self) -> (&[u32], &[u64]) {
        (&self.target, &self.within_target)
    }

    /// out = the permuted `input`.
    pub(crate) fn apply(&self, path: Path, out: &mut [u64], input: &[u64]) {
        assert!(out.len() == 8 * self.source.len() && input.len() == out.len());
        #[cfg(target_arch = "x86_64")]
        if path == Path::Ifma {
            simd::apply(self, out, input);
            return;
        }
        let _ = path;
        for ((out, &s), &w) in out.chunks_exact_mut(8).zip(&self.source).zip(&self.within) {
            let block = &input[8 * s as usize..8 * s as usize + 8];
            for (out, place) in out.iter_mut().zip(w.to_le_bytes()) {
                *out = block[place as usize & 7];
            }
        }
    }

    /// out = the permuted (x − t)·c/R.
    pub(crate) fn sub_mul_const_to(
        &self,
        m: &Modulus,
        out: &mut [u64],
        x: &[u64],
        t: &[u64],
        c: u64,
    ) {
        assert!(x.len() == 8 * self.source.len() && t.len() == x.len() && out.len() == x.len());
        #[cfg(target_arch = "x86_64")]
        if m.path == Path::Ifma {
            ifma::permuted_sub_mul_const(m, out, x, t, c, &self.source, &self.within);
            return;
        }
        for (i, out) in out.iter_mut().enumerate() {
            let from = self.source_of(i);
            *out = m.mul(m.sub(x[from], t[from]), c);
        }
    }

    /// acc += the permuted `input` times `weight`/R.
    pub(crate) fn mul_add_assign(
        &self,
        m: &Modulus,
        acc: &mut [u64],
        input: &[u64],
        weight: Factor<'_>,
    ) {
        assert!(input.len() == 8 * self.source.len() && acc.len() == input.len());
        weight.check(input.len());
        #[cfg(target_arch = "x86_64")]
        if m.path == Path::Ifma {
            ifma::permuted_mul_add(m, acc, input, weight, &self.source, &self.within);
            return;
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            *acc = m.add(*acc, m.mul(input[self.source_of(i)], weight.at(i)));
        }
    }

    /// sums += weight/R times the permuted pair that [`Modulus::key_dot`] makes of a block of coefficients from
    /// `start` on: `x`, `key` and `c` are those of the block, sums and weight whole limbs.
    #[expect(clippy::too_many_arguments, reason = "the operands of one kernel")]
    pub(crate) fn key_dot_add(
        &self,
        m: &Modulus,
        sums: [&mut [u64]; 2],
        start: usize,
        x: &[&[u64]],
        key: &KeyRow<'_>,
        c: &[&[u64]],
        p: u64,
        weight: Factor<'_>,
    ) {
        let n = 8 * self.target.len();
        let count = x.first().map_or(0, |x| x.len());
        assert!(sums.iter().all(|s| s.len() == n) && start.is_multiple_of(8) && start + count <= n);
        weight.check(n);
        let blocks = start / 8..(start + count) / 8;
        let (target, within) = (&self.target[blocks.clone()], &self.within_target[blocks]);
        #[cfg(target_arch = "x86_64")]
        if m.path == Path::Ifma {
            ifma::permuted_key_dot_add(m, sums, x, key, c, p, weight, target, within);
            return;
        }
        let [s0, s1] = sums;
        let (mut t0, mut t1) = ([0; 8], [0; 8]);
        for (i, (&target, within)) in target.iter().zip(within).enumerate() {
            let part = 8 * i..8 * i + 8;
            let x: Vec<&[u64]> = x.iter().map(|x| &x[part.clone()]).collect();
            let c: Vec<&[u64]> = c.iter().map(|c| &c[part.clone()]).collect();
            m.key_dot(&mut t0, &mut t1, &x, &key.from(8 * i), &c, p);
            for (lane, from) in within.to_le_bytes().into_iter().enumerate() {
                let to = 8 * target as usize + lane;
                let w = weight.at(to);
                s0[to] = m.add(s0[to], m.mul(t0[from as usize & 7], w));
                s1[to] = m.add(s1[to], m.mul(t1[from as usize & 7], w));
            }
        }
    }

    fn source_of(&self, i: usize) -> usize {
        8 * self.source[i / 8] as usize + (self.within[i / 8] >> (8 * (i % 8)) & 7) as usize
    }
}

/// What a permuted limb is multiplied by.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    /// The same number everywhere.
    Number(u64),
    /// A number for each value.
    Limb(&'a [u64]),
    /// A number for so many neighbours each, a multiple of 8.
    Runs(&'a [u64], usize),
}

impl Factor<'_> {
    fn at(&self, i: usize) -> u64 {
        match *self {
            Factor::Number(w) => w,
            Factor::Limb(w) => w[i],
            Factor::Runs(w, length) => w[i / length],
        }
    }

    fn check(&self, n: usize) {
        match *self {
            Factor::Number(_) => {}
            Factor::Limb(w) => assert!(w.len() == n),
            Factor::Runs(w, length) => assert!(length % 8 == 0 && w.len() * length == n),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "std::arch intrinsics on raw pointers")]
mod simd {
    use std::arch::x86_64::*;

    use super::Permutation;

    pub(super) fn apply(permutation: &Permutation, out: &mut [u64], input: &[u64]) {
        // SAFETY: the caller has checked the path, which implies AVX-512F, and both lengths.
        unsafe { permute(permutation, out, input) }
    }

    #[target_feature(enable = "avx512f")]
    fn permute(permutation: &Permutation, out: &mut [u64], input: &[u64]) {
        let blocks = permutation.source.len();
        assert!(out.len() == 8 * blocks && input.len() == 8 * blocks);
        for (i, (&s, &w)) in permutation
            .source
            .iter()
            .zip(&permutation.within)
            .enumerate()
        {
            debug_assert!((s as usize) < blocks);
            let index = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(w as i64));
            // SAFETY: i < blocks by the loop, s < blocks by construction in `Permutation::new`.
            unsafe {
                let block = _mm512_loadu_si512(input.as_ptr().add(8 * s as usize).cast());
                let permuted = _mm512_permutexvar_epi64(index, block);
                _mm512_storeu_si512(out.as_mut_ptr().add(8 * i).cast(), permuted);
            }
        }
    }
}
