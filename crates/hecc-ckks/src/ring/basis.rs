//! Base conversion: from residues modulo some primes to residues modulo others.
//!
//! With D the product of the source primes and y_i = x·(D/p_i)^-1 mod p_i, the number
//! x = Σ y_i·D/p_i − v·D with v = round(Σ y_i/p_i) is the representative in [−D/2, D/2] (Halevi, Polyakov,
//! Shoup, eprint 2018/117). v is found in f64; a tie broken the wrong way adds ±D to a number at ±D/2,
//! which no user of this module minds.

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
            wide: sources.iter().any(|&i| primes[i].modulus.q >= SMALL),
            weights,
            product,
            inverse,
            sources,
        }
    }

    /// How many limbs are prepared: one per source, and one for v unless there is but one source, whose
    /// residues are centred as they are.
    pub(crate) fn prepared_limbs(&self) -> usize {
        match self.sources.len() {
            1 => 1,
            k => k + 1,
        }
    }

    /// Takes source limb number `i` (NTT form, already copied to `limb`) to y_i.
    pub(crate) fn prepare_limb(&self, primes: &[Ntt], i: usize, limb: &mut [u64]) {
        let prime = &primes[self.sources[i]];
        prime.inverse_unscaled(limb);
        prime.modulus.mul_const_assign(limb, self.factor[i]);
    }

    /// Fills the last limb of `prepared` with v, the others being y_i.
    pub(crate) fn prepare_quotient(&self, path: Path, prepared: &mut [u64]) {
        let k = self.sources.len();
        if k == 1 {
            return;
        }
        let n = prepared.len() / (k + 1);
        let (y, v) = prepared.split_at_mut(k * n);
        kernels::quotient(path, v, y, &self.reciprocal);
    }

    /// Residues modulo prime `j`, canonical, in Montgomery form, of the prepared number.
    pub(crate) fn convert(&self, primes: &[Ntt], j: usize, prepared: &[u64], out: &mut [u64]) {
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
