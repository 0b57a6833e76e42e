//! Circuits of polynomials at the least AND-depth, with few ANDs.
//!
//! A set of functions of degree at most 2^k is brought to functions of degree at most h = 2^(k-1), one
//! layer of ANDs above them: the variables are cut in two, A and B, and the coefficients of f form a
//! matrix over GF(2), a row for each monomial in A and a column for each in B. Its rank r is how many
//! products f = Σ pᵢ(A)·qᵢ(B) + f(A, 0) + f(0, B) + f(0, 0) takes, and no factor has a degree above h: a monomial
//! with more than h of its variables on one side lends some to the other. Which cut is best is searched
//! for. All factors of all functions are then one set again, reduced to a basis, as sums are free. Where it is
//! cheaper, all monomials that occur are computed instead: for 2^n random coefficients that is about
//! 3·2^(n/2) ANDs in all, against the 2^(n/2) or so that any circuit needs (Boyar, Peralta, Pochuev, "On the
//! multiplicative complexity of Boolean functions over the basis (∧, ⊕, 1)", 2000).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::anf::{Anf, least_depth};
use crate::network::{Lit, Network};
use crate::simulate::random;

/// How much work the search for cuts may take, in monomials and words touched.
const SEARCH: u64 = 1 << 26;

/// Adds the functions to a circuit; variable i is `leaves[i]`, and each function gets depth ⌈log2 degree⌉ above them.
pub(crate) fn synthesize(network: &mut Network, leaves: &[Lit], functions: &[Anf]) -> Vec<Lit> {
    let depth = functions
        .iter()
        .map(|f| least_depth(f.degree().into()))
        .max()
        .unwrap_or(0);
    let mut search = Search {
        left: SEARCH,
        state: 1,
    };
    let plan = Plan::of(functions, depth, &mut search);
    plan.build(network, leaves)
}

/// How a set of functions is computed.
struct Plan {
    /// The functions asked for, each as a sum of functions of the basis.
    sums: Vec<Vec<usize>>,
    basis: Vec<Anf>,
    how: How,
    ands: usize,
}

enum How {
    /// Every monomial that occurs.
    Monomials,
    /// Functions of less degree, and for each function of the basis what of them is added and which pairs
    /// are multiplied and added.
    Products {
        lower: Box<Plan>,
        terms: Vec<(usize, Vec<(usize, usize)>)>,
    },
}

impl Plan {
    fn of(functions: &[Anf], depth: u32, search: &mut Search) -> Plan {
        let (basis, sums) = basis(functions);
        let monomials = closure(&basis);
        let by_monomials = monomials.len();
        let high: Vec<bool> = basis
            .iter()
            .map(|f| depth > 0 && least_depth(f.degree().into()) == depth)
            .collect();
        let at_least = high.iter().filter(|h| **h).count();
        let mut plan = Plan {
            sums,
            basis,
            how: How::Monomials,
            ands: by_monomials,
        };
        if depth == 0 || at_least >= by_monomials {
            return plan;
        }
        let half = 1u32 << (depth - 1);
        let mut wanted: Vec<Anf> = Vec::new();
        let mut terms = Vec::with_capacity(plan.basis.len());
        let mut ands = 0;
        for (f, high) in plan.basis.iter().zip(high) {
            if !high {
                wanted.push(f.clone());
                terms.push((wanted.len() - 1, Vec::new()));
                continue;
            }
            let (rest, products) = search.split(f, half);
            wanted.push(rest);
            let added = wanted.len() - 1;
            let mut pairs = Vec::with_capacity(products.len());
            for (p, q) in products {
                wanted.extend([p, q]);
                pairs.push((wanted.len() - 2, wanted.len() - 1));
            }
            ands += pairs.len();
            terms.push((added, pairs));
            if ands >= by_monomials {
                return plan;
            }
        }
        let lower = Plan::of(&wanted, depth - 1, search);
        if ands + lower.ands < by_monomials {
            plan.ands = ands + lower.ands;
            plan.how = How::Products {
                lower: Box::new(lower),
                terms,
            };
        }
        plan
    }

    fn build(&self, network: &mut Network, leaves: &[Lit]) -> Vec<Lit> {
        let basis: Vec<Lit> = match &self.how {
            How::Monomials => {
                let mut known = FxHashMap::default();
                self.basis
                    .iter()
                    .map(|f| {
                        let terms: Vec<Lit> =
                            f.0.iter()
                                .map(|&m| monomial(network, leaves, &mut known, m))
                                .collect();
                        sum(network, terms)
                    })
                    .collect()
            }
            How::Products { lower, terms } => {
                let lower = lower.build(network, leaves);
                terms
                    .iter()
                    .map(|(added, pairs)| {
                        let mut parts = vec![lower[*added]];
                        for &(p, q) in pairs {
                            parts.push(network.and(lower[p], lower[q]));
                        }
                        sum(network, parts)
                    })
                    .collect()
            }
        };
        self.sums
            .iter()
            .map(|of| {
                let parts = of.iter().map(|&i| basis[i]).collect();
                sum(network, parts)
            })
            .collect()
    }
}

/// The sum of values: XORs in a balanced tree.
fn sum(network: &mut Network, mut parts: Vec<Lit>) -> Lit {
    if parts.is_empty() {
        return Lit::FALSE;
    }
    while parts.len() > 1 {
        let mut next = Vec::with_capacity(parts.len().div_ceil(2));
        for pair in parts.chunks(2) {
            next.push(match *pair {
                [a, b] => network.xor(a, b),
                _ => pair[0],
            });
        }
        parts = next;
    }
    parts[0]
}

/// A product of variables at depth ⌈log2 n⌉.
fn monomial(network: &mut Network, leaves: &[Lit], known: &mut FxHashMap<u16, Lit>, m: u16) -> Lit {
    if let Some(&lit) = known.get(&m) {
        return lit;
    }
    let lit = match m.count_ones() {
        0 => Lit::TRUE,
        1 => leaves[m.trailing_zeros() as usize],
        _ => {
            let (a, b) = halves(m);
            let a = monomial(network, leaves, known, a);
            let b = monomial(network, leaves, known, b);
            network.and(a, b)
        }
    };
    known.insert(m, lit);
    lit
}

/// Two parts of a monomial, of which neither needs as much depth as the whole.
fn halves(m: u16) -> (u16, u16) {
    let half = 1 << (least_depth(m.count_ones().into()) - 1);
    let a = lowest(m, half);
    (a, m & !a)
}

/// The lowest variables of a monomial, so many of them.
fn lowest(m: u16, count: u32) -> u16 {
    let mut rest = m;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    m & !rest
}

/// All monomials of degree 2 and more that computing these takes.
fn closure(functions: &[Anf]) -> FxHashSet<u16> {
    let mut found = FxHashSet::default();
    let mut open: Vec<u16> = functions.iter().flat_map(|f| f.0.iter().copied()).collect();
    while let Some(m) = open.pop() {
        if m.count_ones() >= 2 && found.insert(m) {
            let (a, b) = halves(m);
            open.extend([a, b]);
        }
    }
    found
}

/// Functions whose sums these are, and which sums. A function stays as it is unless its rest after
/// elimination has fewer monomials.
fn basis(functions: &[Anf]) -> (Vec<Anf>, Vec<Vec<usize>>) {
    let mut chosen: Vec<Anf> = Vec::new();
    // By leading monomial: a reduced function, and of which of the chosen ones it is the sum.
    let mut reduced: FxHashMap<u16, (Anf, Vec<usize>)> = FxHashMap::default();
    let mut seen: FxHashMap<&Anf, usize> = FxHashMap::default();
    let mut sums: Vec<Vec<usize>> = Vec::with_capacity(functions.len());
    for f in functions {
        if let Some(&at) = seen.get(f) {
            sums.push(sums[at].clone());
            continue;
        }
        seen.insert(f, sums.len());
        let mut rest = f.clone();
        let mut used: Vec<usize> = Vec::new();
        while let Some(lead) = leading(&rest) {
            let Some((other, of)) = reduced.get(&lead) else {
                break;
            };
            rest = rest.plus(other);
            used = either(&used, of);
        }
        let Some(lead) = leading(&rest) else {
            sums.push(used);
            continue;
        };
        let at = chosen.len();
        // Of less degree, too: a sum must not be deeper than its own degree asks for.
        let class = |f: &Anf| least_depth(f.degree().into());
        if rest.len() < f.len() || class(&rest) < class(f) {
            chosen.push(rest.clone());
            reduced.insert(lead, (rest, vec![at]));
            sums.push(either(&used, &[at]));
        } else {
            chosen.push(f.clone());
            reduced.insert(lead, (rest, either(&used, &[at])));
            sums.push(vec![at]);
        }
    }
    (chosen, sums)
}

/// The largest monomial, by degree first. The constant 1 counts: inversion is free, yet sums are exact.
fn leading(f: &Anf) -> Option<u16> {
    f.0.iter().copied().max_by_key(|m| (m.count_ones(), *m))
}

/// What is in one of two ascending lists.
fn either(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut out: Vec<usize> = a.iter().filter(|i| !b.contains(i)).copied().collect();
    out.extend(b.iter().filter(|i| !a.contains(i)));
    out.sort_unstable();
    out
}

/// Looks for cuts of the variables, within bounds.
struct Search {
    left: u64,
    state: u64,
}

/// Functions that are multiplied.
type Products = Vec<(Anf, Anf)>;

impl Search {
    /// A function as a sum of products of functions of degree at most `half`, and one more.
    fn split(&mut self, f: &Anf, half: u32) -> (Anf, Products) {
        let support = f.support();
        let variables: Vec<u16> = (0..16)
            .map(|i| 1u16 << i)
            .filter(|v| support & v != 0)
            .collect();
        let count = variables.len();
        let quarter = count.div_ceil(4).max(1);
        let pick = |of: &dyn Fn(usize, u16) -> bool| {
            variables
                .iter()
                .enumerate()
                .filter(|(at, v)| of(*at, **v))
                .fold(0, |set, (_, v)| set | v)
        };
        let candidates = [
            // By the places of the variables, so that functions of one set are cut alike.
            pick(&|_, v| v.trailing_zeros() & half == 0),
            pick(&|at, _| at < count.div_ceil(2)),
            pick(&|at, _| at % 2 == 0),
            // High and low digits of two numbers one after the other.
            pick(&|at, _| at % count.div_ceil(2) < quarter),
        ];
        let mut best: Option<(usize, u16)> = None;
        for a in candidates {
            if a == 0 || a == support || best.is_some_and(|(rank, _)| rank <= 1) {
                continue;
            }
            let rank = self.rank(f, a, half);
            if best.is_none_or(|(r, _)| rank < r) {
                best = Some((rank, a));
            }
        }
        let (mut rank, mut a) = best.unwrap_or((usize::MAX, lowest(support, half)));
        // Swaps of two variables, as long as they help.
        let mut failures = 0;
        while rank > 2 && self.left > 0 && failures < 48 {
            let i = random(&mut self.state) as usize % count;
            let j = random(&mut self.state) as usize % count;
            let (v, w) = (variables[i], variables[j]);
            if (a & v != 0) == (a & w != 0) {
                failures += usize::from(i == j);
                continue;
            }
            let swapped = a ^ v ^ w;
            let found = self.rank(f, swapped, half);
            if found < rank {
                (rank, a, failures) = (found, swapped, 0);
            } else {
                failures += 1;
            }
        }
        factor(f, a, half)
    }

    /// The rank of a function's matrix.
    fn rank(&mut self, f: &Anf, a: u16, half: u32) -> usize {
        let mut rows: FxHashMap<u16, usize> = FxHashMap::default();
        let mut columns: FxHashMap<u16, usize> = FxHashMap::default();
        let mut cells = Vec::new();
        for &m in &f.0 {
            let (p, q) = cell(m, a, half);
            if p != 0 && q != 0 {
                let (r, c) = (rows.len(), columns.len());
                cells.push((*rows.entry(p).or_insert(r), *columns.entry(q).or_insert(c)));
            }
        }
        let words = columns.len().div_ceil(64).max(1);
        let mut matrix = vec![0u64; rows.len() * words];
        for (r, c) in cells {
            matrix[r * words + c / 64] |= 1 << (c % 64);
        }
        let mut rank = 0;
        let mut work = f.len() as u64;
        for column in 0..columns.len() {
            let (word, bit) = (column / 64, column % 64);
            let set = |matrix: &[u64], r: usize| matrix[r * words + word] >> bit & 1 == 1;
            let Some(pivot) = (rank..rows.len()).find(|r| set(&matrix, *r)) else {
                continue;
            };
            for w in 0..words {
                matrix.swap(pivot * words + w, rank * words + w);
            }
            for r in rank + 1..rows.len() {
                if set(&matrix, r) {
                    for w in word..words {
                        matrix[r * words + w] ^= matrix[rank * words + w];
                    }
                    work += (words - word) as u64;
                }
            }
            rank += 1;
        }
        self.left = self.left.saturating_sub(work);
        rank
    }
}

/// The parts of a monomial on both sides of a cut, neither of a degree above `half`.
fn cell(m: u16, a: u16, half: u32) -> (u16, u16) {
    let (mut p, mut q) = (m & a, m & !a);
    if p.count_ones() > half {
        let keep = lowest(p, half);
        q |= p & !keep;
        p = keep;
    } else if q.count_ones() > half {
        let keep = lowest(q, half);
        p |= q & !keep;
        q = keep;
    }
    (p, q)
}

/// f = rest + Σ p·q by the rows of its matrix, reduced to a basis.
fn factor(f: &Anf, a: u16, half: u32) -> (Anf, Products) {
    let mut rest = Vec::new();
    let mut rows: FxHashMap<u16, Vec<u16>> = FxHashMap::default();
    for &m in &f.0 {
        let (p, q) = cell(m, a, half);
        if p == 0 || q == 0 {
            rest.push(m);
        } else {
            rows.entry(p).or_default().push(q);
        }
    }
    let mut rows: Vec<(u16, Vec<u16>)> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(p, _)| (p.count_ones(), *p));
    let columns: Vec<Anf> = rows
        .iter()
        .map(|(_, q)| Anf::of_monomials(q.clone()))
        .collect();
    let (basis, sums) = basis(&columns);
    let mut left: Vec<Vec<u16>> = vec![Vec::new(); basis.len()];
    for ((p, _), sum) in rows.iter().zip(&sums) {
        for &i in sum {
            left[i].push(*p);
        }
    }
    let products = left
        .into_iter()
        .zip(basis)
        .map(|(p, q)| (Anf::of_monomials(p), q))
        .collect();
    (Anf::of_monomials(rest), products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::table;

    /// The circuit of a random function of some degree, and whether it is the function.
    fn check(n: usize, degree: u32, density: u64, seed: u64) -> usize {
        let mut state = seed;
        let mut monomials: Vec<u16> = (0..1u32 << n)
            .map(|m| m as u16)
            .filter(|m| m.count_ones() <= degree && random(&mut state) % 100 < density)
            .collect();
        monomials.push(((1u32 << degree) - 1) as u16);
        monomials.dedup();
        let f = Anf::of_monomials(monomials);
        let degree = f.degree();
        let mut network = Network::new((0..n).map(|i| format!("x{i}")).collect(), true);
        let leaves: Vec<Lit> = (0..n).map(|i| network.input(i)).collect();
        let lit = synthesize(&mut network, &leaves, std::slice::from_ref(&f))[0];
        network.outputs.push(("y".into(), lit));
        let all: Vec<usize> = (0..n).collect();
        let found = Anf::of_table(&table(&network, &all)[0], n);
        assert_eq!(found, f, "{n} variables, degree {degree}, seed {seed}");
        let measures = network.measures();
        assert_eq!(
            measures.depth,
            least_depth(degree.into()),
            "degree {degree}"
        );
        measures.ands
    }

    #[test]
    fn random_functions_of_every_degree_reach_the_bound() {
        for n in 1..9 {
            for degree in 1..=n as u32 {
                for density in [5, 50] {
                    check(n, degree, density, u64::from(degree) * 17 + density);
                }
            }
        }
        check(12, 5, 10, 3);
        check(13, 13, 2, 4);
    }

    #[test]
    fn a_random_function_takes_few_ands() {
        // 2^8 products of functions of 8 variables each, all of whose monomials are shared.
        let ands = check(16, 16, 50, 9);
        assert!(ands <= 256 + 2 * 247, "{ands} ANDs");
    }

    #[test]
    fn a_product_of_sums_is_found() {
        // (1 + x0)…(1 + x15) has all 65,536 monomials and takes 15 ANDs.
        let f = Anf((0..=u16::MAX).collect());
        let mut network = Network::new((0..16).map(|i| format!("x{i}")).collect(), true);
        let leaves: Vec<Lit> = (0..16).map(|i| network.input(i)).collect();
        let lit = synthesize(&mut network, &leaves, &[f])[0];
        network.outputs.push(("y".into(), lit));
        assert_eq!(network.measures().ands, 15);
        assert_eq!(network.measures().depth, 4);
    }
}
