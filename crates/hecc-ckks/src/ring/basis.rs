//! Base conversion: from residues modulo some primes to residues modulo others.
//!
//! With D the product of the source primes and y_i = x·(D/p_i)^-1 mod p_i, the number
//! x = Σ y_i·D/p_i − v·D with v = round(Σ y_i/p_i) is the representative in [−D/2, D/2] (Halevi, Polyakov,
//! Shoup, eprint 2018/117). v is found in f64; a tie broken the wrong way adds ±D to a number at ±D/2,
//! which no user of this module minds.

use super::automorphism::Permutation;
#[cfg(target_arch = "x86_64")]
use super::kernels::ntt::{Conversion, Division, Layout, quotient_packed};
use super::kernels::{self, Path};
use super::modulus::SMALL;
use super::ntt::Ntt;

/// Constants to convert from the primes `sources` to every other prime.
pub(crate) struct Converter {
    /// Indices of the source primes.
    pub(crate) sources: Vec<usize>,
    /// N^-1·(D/p_i)^-1 mod p_i, plain: times an unscaled inverse NTT it gives y_i, plain.
    factor: Vec<u64>,
    /// 1/p_i.
    reciprocal: Vec<f64>,
    /// Per prime j: D/p_i mod q_j for each i and −D mod q_j, times R².
    weights: Vec<Vec<u64>>,
    /// Per prime: D in Montgomery form.
    pub(crate) product: Vec<u64>,
    /// Per prime: D^-1 in Montgomery form.
    pub(crate) inverse: Vec<u64>,
    /// Whether a source prime is too large for the 52-bit path.
    wide: bool,
    /// How prepared numbers are packed, where all primes have the transform for it.
    #[cfg(target_arch = "x86_64")]
    packed: Option<Layout>,
}

impl Converter {
    pub(crate) fn new(primes: &[Ntt], sources: Vec<usize>) -> Converter {
        let mut factor = Vec::new();
        for &i in &sources {
            let m = &primes[i].modulus;
            let others = sources
                .iter()
                .filter(|&&o| o != i)
                .fold(m.enter(1), |acc, &o| {
                    m.mul(acc, m.enter(primes[o].modulus.q))
                });
            factor.push(m.leave(m.mul(m.inverse(others), primes[i].n_inv_mont)));
        }
        let mut weights = Vec::new();
        let mut product = Vec::new();
        let mut inverse = Vec::new();
        for (j, prime) in primes.iter().enumerate() {
            let m = &prime.modulus;
            if sources.contains(&j) {
                weights.push(Vec::new());
                product.push(0);
                inverse.push(0);
                continue;
            }
            let d = sources.iter().fold(m.enter(1), |acc, &o| {
                m.mul(acc, m.enter(primes[o].modulus.q))
            });
            let d_inverse = m.inverse(d);
            let mut row: Vec<u64> = sources
                .iter()
                .map(|&o| m.enter(m.mul(d, m.inverse(m.enter(primes[o].modulus.q)))))
                .collect();
            row.push(m.enter(m.neg(d)));
            weights.push(row);
            product.push(d);
            inverse.push(d_inverse);
        }
        Converter {
            factor,
            reciprocal: sources
                .iter()
                .map(|&i| 1.0 / primes[i].modulus.q as f64)
                .collect(),
            #[cfg(target_arch = "x86_64")]
            packed: layout(primes, &sources),
            wide: sources.iter().any(|&i| primes[i].modulus.q >= SMALL),
            weights,
            product,
            inverse,
            sources,
        }
    }

    /// How many limbs of N words the prepared number takes: one per source, and one for v unless there is
    /// but one source, whose residues are centred as they are. Fewer when they are packed.
    pub(crate) fn prepared_limbs(&self, n: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(layout) = self.packed {
            return layout.words(n).div_ceil(n);
        }
        let _ = n;
        match self.sources.len() {
            1 => 1,
            k => k + 1,
        }
    }

    /// Takes the limbs of the sources (NTT form, `limb(i)` of source number i) to y_i and v, ready for
    /// conversion. `work` is a limb that is overwritten.
    pub(crate) fn prepare<'a>(
        &self,
        primes: &[Ntt],
        path: Path,
        limb: impl Fn(usize) -> &'a [u64],
        work: &mut [u64],
        prepared: &mut [u64],
    ) {
        for (i, &source) in self.sources.iter().enumerate() {
            let block = primes[source].block(work.len());
            for (number, x) in limb(i).chunks_exact(block).enumerate() {
                self.begin_source(primes, i, number * block, x, work, &[]);
            }
            self.finish_source(primes, i, work, prepared);
        }
        self.finish_sources(path, work.len(), prepared);
    }

    /// First step of [`Self::prepare`] for source number `i`: takes the block x of its limb, from `start` on, to
    /// `work`, while the memory at `ahead` is fetched.
    pub(crate) fn begin_source(
        &self,
        primes: &[Ntt],
        i: usize,
        start: usize,
        x: &[u64],
        work: &mut [u64],
        ahead: &[u8],
    ) {
        #[cfg(target_arch = "x86_64")]
        if self.packed.is_some()
            && let Some(tables) = primes[self.sources[i]].tables()
        {
            tables.inverse_block(x, start, work, ahead);
            return;
        }
        let _ = (primes, i, ahead);
        work[start..start + x.len()].copy_from_slice(x);
    }

    /// Second step, after all blocks: to y_i.
    pub(crate) fn finish_source(
        &self,
        primes: &[Ntt],
        i: usize,
        work: &mut [u64],
        prepared: &mut [u64],
    ) {
        let prime = &primes[self.sources[i]];
        #[cfg(target_arch = "x86_64")]
        if let (Some(layout), Some(tables)) = (self.packed, prime.tables()) {
            tables.inverse_packed(work, self.factor[i], prepared, layout, i);
            return;
        }
        prime.inverse_unscaled(work);
        let n = work.len();
        let y = &mut prepared[i * n..][..n];
        prime.modulus.mul_const_to(y, work, self.factor[i]);
    }

    /// Last step, after all sources: v of `n` coefficients.
    pub(crate) fn finish_sources(&self, path: Path, n: usize, prepared: &mut [u64]) {
        if self.sources.len() == 1 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(layout) = self.packed {
            quotient_packed(prepared, n, layout, &self.reciprocal);
            return;
        }
        let (y, v) = prepared.split_at_mut(self.sources.len() * n);
        kernels::quotient(path, &mut v[..n], y, &self.reciprocal);
    }

    /// The prepared number modulo prime `j`, on the way to NTT form: [`Ntt::finish_block`] does the rest, block by
    /// block.
    pub(crate) fn begin(&self, primes: &[Ntt], j: usize, prepared: &[u64], out: &mut [u64]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tables) = primes[j].tables() {
            match self.packed {
                Some(layout) => {
                    tables.begin_of(prepared, layout, self.conversion(primes, j), out);
                }
                None => {
                    self.convert(primes, j, prepared, out);
                    tables.begin(out);
                }
            }
            return;
        }
        self.convert(primes, j, prepared, out);
    }

    /// out = (x less the prepared number)·D^-1 modulo prime `j`, in NTT form, permuted if so asked. `work` is a
    /// limb that is overwritten.
    #[expect(clippy::too_many_arguments, reason = "the operands of one kernel")]
    pub(crate) fn divide(
        &self,
        primes: &[Ntt],
        j: usize,
        prepared: &[u64],
        x: &[u64],
        permutation: Option<&Permutation>,
        work: &mut [u64],
        out: &mut [u64],
    ) {
        self.begin(primes, j, prepared, work);
        let block = primes[j].block(x.len());
        for (number, x) in x.chunks_exact(block).enumerate() {
            let start = number * block;
            self.finish_division(primes, j, start, x, permutation, work, out, &[]);
        }
    }

    /// [`Self::divide`] for the block of coefficients from `start` on, after [`Self::begin`] on `work`: `x` is the
    /// block alone, `out` the whole limb. Meanwhile the memory at `ahead` is fetched.
    #[expect(clippy::too_many_arguments, reason = "the operands of one kernel")]
    pub(crate) fn finish_division(
        &self,
        primes: &[Ntt],
        j: usize,
        start: usize,
        x: &[u64],
        permutation: Option<&Permutation>,
        work: &mut [u64],
        out: &mut [u64],
        ahead: &[u8],
    ) {
        let factor = self.inverse[j];
        #[cfg(target_arch = "x86_64")]
        if let Some(tables) = primes[j].tables() {
            let targets = permutation.map(Permutation::targets);
            let division = Division { x, factor, targets };
            tables.finish_division(work, start, &division, out, ahead);
            return;
        }
        // The block is the limb.
        let _ = ahead;
        primes[j].finish_block(work, start, &[]);
        let m = &primes[j].modulus;
        match permutation {
            None => m.sub_mul_const_to(out, x, work, factor),
            Some(p) => p.sub_mul_const_to(m, out, x, work, factor),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn conversion(&self, primes: &[Ntt], j: usize) -> Conversion<'_> {
        match &self.sources[..] {
            &[source] => Conversion::Centre(primes[source].modulus.q),
            _ => Conversion::Combine(&self.weights[j]),
        }
    }

    /// Residues modulo prime `j`, canonical, in Montgomery form, of the prepared number.
    fn convert(&self, primes: &[Ntt], j: usize, prepared: &[u64], out: &mut [u64]) {
        let m = &primes[j].modulus;
        let n = out.len();
        if let &[source] = &self.sources[..] {
            let p = primes[source].modulus.q;
            if self.wide {
                kernels::portable::centre_to(m, out, prepared, p);
            } else {
                m.centre_to(out, prepared, p);
            }
            return;
        }
        let mut x: [&[u64]; 16] = [&[]; 16];
        let k = self.sources.len() + 1;
        let many: Vec<&[u64]>;
        let x: &[&[u64]] = if k <= x.len() {
            for (x, limb) in x.iter_mut().zip(prepared.chunks_exact(n)) {
                *x = limb;
            }
            &x[..k]
        } else {
            many = prepared.chunks_exact(n).collect();
            &many
        };
        if self.wide {
            kernels::portable::combine(m, &mut [out], x, &self.weights[j]);
        } else {
            m.combine(&mut [out], x, &self.weights[j]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn layout(primes: &[Ntt], sources: &[usize]) -> Option<Layout> {
    let width = |&i: &usize| (64 - primes[i].modulus.q.leading_zeros()).div_ceil(8) as usize;
    (sources.len() < 256 && primes.iter().all(|p| p.tables().is_some())).then(|| Layout {
        primes: sources.len(),
        width: sources.iter().map(width).max().unwrap_or(8),
    })
}
