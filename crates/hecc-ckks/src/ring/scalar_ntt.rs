//! A negacyclic NTT without SIMD: the reference for the others, and what runs where the fast paths are
//! switched off (the NTT library chooses its own instructions).
//!
//! Butterflies of Cooley, Tukey and Gentleman, Sande with ψ folded into the roots (Longa, Naehrig, eprint
//! 2016/504), products by Shoup's quotients, values below 4q between stages (Harvey, arXiv 1205.2926).

/// Powers of ψ and ψ^-1 in bit-reversed order, each with ⌊w·2^64/q⌋.
pub(crate) struct ScalarNtt {
    q: u64,
    forward: Vec<(u64, u64)>,
    inverse: Vec<(u64, u64)>,
}

impl ScalarNtt {
    /// For a prime below 2^62, from ψ and ψ^-1, plain.
    pub(crate) fn new(n: usize, q: u64, root: u64, inverse: u64) -> ScalarNtt {
        let bits = n.trailing_zeros();
        let powers = |root: u64| {
            let mut out = vec![(0, 0); n];
            let mut w = 1u64;
            for k in 0..n {
                let quotient = ((u128::from(w) << 64) / u128::from(q)) as u64;
                out[k.reverse_bits() >> (usize::BITS - bits)] = (w, quotient);
                w = (u128::from(w) * u128::from(root) % u128::from(q)) as u64;
            }
            out
        };
        ScalarNtt {
            q,
            forward: powers(root),
            inverse: powers(inverse),
        }
    }

    /// x·w mod q, below 2q, for any x.
    fn times(&self, x: u64, (w, quotient): (u64, u64)) -> u64 {
        let estimate = ((u128::from(x) * u128::from(quotient)) >> 64) as u64;
        x.wrapping_mul(w)
            .wrapping_sub(estimate.wrapping_mul(self.q))
    }

    /// x below 4q, brought below 2q.
    fn halve(&self, x: u64) -> u64 {
        if x >= 2 * self.q { x - 2 * self.q } else { x }
    }

    fn canonical(&self, x: &mut [u64]) {
        for x in x {
            let below = self.halve(*x);
            *x = if below >= self.q {
                below - self.q
            } else {
                below
            };
        }
    }

    /// Coefficients to values in bit-reversed order, canonical to canonical.
    pub(crate) fn forward(&self, x: &mut [u64]) {
        let n = x.len();
        let mut groups = 1;
        while groups < n {
            let half = n / groups / 2;
            for (x, &root) in x.chunks_exact_mut(2 * half).zip(&self.forward[groups..]) {
                let (a, b) = x.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    let (u, v) = (self.halve(*a), self.times(*b, root));
                    *a = u + v;
                    *b = u + 2 * self.q - v;
                }
            }
            groups *= 2;
        }
        self.canonical(x);
    }

    /// Values to N times the coefficients, canonical to canonical.
    pub(crate) fn inverse(&self, x: &mut [u64]) {
        let n = x.len();
        let mut groups = n / 2;
        while groups >= 1 {
            let half = n / groups / 2;
            for (x, &root) in x.chunks_exact_mut(2 * half).zip(&self.inverse[groups..]) {
                let (a, b) = x.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    let (u, v) = (*a, *b);
                    *a = self.halve(u + v);
                    *b = self.times(u + 2 * self.q - v, root);
                }
            }
            groups /= 2;
        }
        self.canonical(x);
    }
}
