//! Algebraic normal forms: polynomials over GF(2) in which no variable has an exponent.

/// Most variables.
pub const MAX_VARIABLES: usize = 16;

/// A polynomial: its monomials in ascending order, each the set of its variables, bit i for variable i.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Anf(pub(crate) Vec<u16>);

impl Anf {
    /// Of a truth table of 2^n bits, n at most [`MAX_VARIABLES`], by the Möbius transform: n·2^n / 64 operations
    /// on words.
    pub fn of_table(table: &[u64], variables: usize) -> Anf {
        assert!(variables <= MAX_VARIABLES);
        let mut words = table.to_vec();
        for (step, mask) in [
            (1, 0x5555_5555_5555_5555u64),
            (2, 0x3333_3333_3333_3333),
            (4, 0x0f0f_0f0f_0f0f_0f0f),
            (8, 0x00ff_00ff_00ff_00ff),
            (16, 0x0000_ffff_0000_ffff),
            (32, 0x0000_0000_ffff_ffff),
        ]
        .into_iter()
        .take(variables)
        {
            for w in &mut words {
                *w ^= (*w & mask) << step;
            }
        }
        let mut step = 1;
        while step < words.len() {
            for start in (0..words.len()).step_by(2 * step) {
                for i in start..start + step {
                    words[i + step] ^= words[i];
                }
            }
            step *= 2;
        }
        let size = 1usize << variables;
        let mut monomials = Vec::new();
        for (at, w) in words.iter().enumerate() {
            let mut rest = *w;
            while rest != 0 {
                let m = at * 64 + rest.trailing_zeros() as usize;
                if m < size {
                    monomials.push(m as u16);
                }
                rest &= rest - 1;
            }
        }
        Anf(monomials)
    }

    /// The number of variables in its largest monomial; 0 for constants.
    pub fn degree(&self) -> u32 {
        self.0.iter().map(|m| m.count_ones()).max().unwrap_or(0)
    }

    /// How many monomials it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is 0.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The variables that occur.
    pub(crate) fn support(&self) -> u16 {
        self.0.iter().fold(0, |s, m| s | m)
    }

    /// From monomials in any order, those that occur an even number of times cancelling.
    pub(crate) fn of_monomials(mut monomials: Vec<u16>) -> Anf {
        monomials.sort_unstable();
        let mut out: Vec<u16> = Vec::with_capacity(monomials.len());
        for m in monomials {
            if out.last() == Some(&m) {
                out.pop();
            } else {
                out.push(m);
            }
        }
        Anf(out)
    }

    /// The sum of two.
    pub(crate) fn plus(&self, other: &Anf) -> Anf {
        let (a, b) = (&self.0, &other.0);
        let mut out = Vec::with_capacity(a.len() + b.len());
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            match a[i].cmp(&b[j]) {
                std::cmp::Ordering::Less => {
                    out.push(a[i]);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    out.push(b[j]);
                    j += 1;
                }
                std::cmp::Ordering::Equal => {
                    i += 1;
                    j += 1;
                }
            }
        }
        out.extend_from_slice(&a[i..]);
        out.extend_from_slice(&b[j..]);
        Anf(out)
    }
}

/// ⌈log2 d⌉, and 0 for degrees 0 and 1: the least AND-depth of a function of degree d.
pub(crate) fn least_depth(degree: u64) -> u32 {
    match degree {
        0 | 1 => 0,
        d => (d - 1).ilog2() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{random, variable};

    #[test]
    fn known_forms() {
        // a OR b = a + b + ab.
        assert_eq!(Anf::of_table(&[0b1110], 2), Anf(vec![0b01, 0b10, 0b11]));
        assert_eq!(Anf::of_table(&[0b0110], 2), Anf(vec![0b01, 0b10]));
        assert_eq!(Anf::of_table(&[u64::MAX], 0), Anf(vec![0]));
        // All sixteen: one monomial.
        let mut and = vec![0u64; 1024];
        and[1023] = 1 << 63;
        assert_eq!(Anf::of_table(&and, 16), Anf(vec![u16::MAX]));
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 16, 17].map(least_depth),
            [0, 0, 1, 2, 2, 3, 4, 5]
        );
    }

    #[test]
    fn the_form_evaluates_to_the_table() {
        let mut state = 5;
        for n in 0..9usize {
            let words = 1usize << n.saturating_sub(6);
            let table: Vec<u64> = (0..words).map(|_| random(&mut state)).collect();
            let anf = Anf::of_table(&table, n);
            for (word, expected) in table.iter().enumerate() {
                let mut sum = 0;
                for m in &anf.0 {
                    sum ^= (0..n)
                        .filter(|i| m >> i & 1 == 1)
                        .fold(u64::MAX, |all, i| all & variable(i, word));
                }
                let mask = if n < 6 {
                    (1u64 << (1 << n)) - 1
                } else {
                    u64::MAX
                };
                assert_eq!(sum & mask, expected & mask, "{n} variables");
            }
        }
    }
}
