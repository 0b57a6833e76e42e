//! The formal total degree of a program's outputs in its secret inputs.
//!
//! The program is evaluated at t·r in place of its secret inputs, with r random modulo the prime
//! 2^61 − 1: each value is then a polynomial in t whose degree is, but for a chance of about
//! degree / 2^61, the total degree of the value. Only the leading coefficients are kept, one at first;
//! where all of those cancel, the evaluation is done again with more of them. A leading coefficient
//! that is not zero proves that the degree is at least that (so `depth_lower_bound` never errs); that
//! the degree is no larger holds always.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::algebra::{Algebra, M61};
use crate::graph::Module;
use crate::interp::{EvalError, TensorValue, eval_module_with};
use crate::measure::degree_depth;
use crate::random::SplitMix64;
use crate::tensor::{Secrecy, Tensor};

/// What is known of the degree of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degree {
    /// The largest total degree of an output in the secret inputs; an upper bound when it is not certified.
    pub degree: u64,
    /// Whether the degree is attained: no cancellation is left unresolved.
    pub certified: bool,
    /// `ceil(log2(d))` for the largest degree d that is attained for certain: no rewriting has less depth.
    pub depth_lower_bound: u64,
}

/// Products of coefficients that [`degree`] spends before it settles for an upper bound.
pub const DEFAULT_WORK: u64 = 400_000_000;

/// The degree of a module's entry, with [`DEFAULT_WORK`].
///
/// # Errors
/// [`EvalError`] when the program cannot be evaluated: a divisor that is zero or secret, an index out of bounds.
pub fn degree(module: &Module<Tensor>) -> Result<Degree, EvalError> {
    degree_within(module, DEFAULT_WORK)
}

/// The degree of a module's entry with a bound on the products of coefficients that are spent on
/// resolving cancellation (the first sweep, with one coefficient, is always finished). Costs one
/// interpretation where no leading form cancels.
///
/// # Errors
/// As [`degree`].
pub fn degree_within(module: &Module<Tensor>, work: u64) -> Result<Degree, EvalError> {
    let algebra = Leading;
    let inputs = points(module, |secret, x| Lead::monomial(u64::from(secret), x));
    let outputs = eval_module_with(&algebra, module, &inputs, |_, _| Ok(()))?;
    let mut found = Found::default();
    for v in outputs.iter().flat_map(|o| o.data()) {
        found.see(v.top, !v.c.is_zero() || v.exact);
    }
    let spent = Cell::new(0);
    let mut keep = 2;
    while !found.certified() {
        let algebra = SeriesAlgebra {
            keep,
            spent: &spent,
        };
        let inputs = points(module, |secret, x| Series::monomial(u64::from(secret), x));
        let swept = eval_module_with(&algebra, module, &inputs, |_, _| {
            if spent.get() > work {
                Err(EvalError::Stopped("the work bound is reached".to_owned()))
            } else {
                Ok(())
            }
        });
        let outputs = match swept {
            Ok(outputs) => outputs,
            Err(EvalError::Stopped(_)) => break,
            Err(error) => return Err(error),
        };
        let before = found;
        found = Found::default();
        for v in outputs.iter().flat_map(|o| o.data()) {
            found.see(v.top, !v.c.is_empty() || v.exact);
        }
        found.attained = found.attained.max(before.attained);
        found.possible = found.possible.min(before.possible);
        keep *= 2;
    }
    Ok(Degree {
        degree: found.possible,
        certified: found.certified(),
        depth_lower_bound: degree_depth(found.attained),
    })
}

/// A random point for every parameter, by a fixed seed.
fn points<V>(
    module: &Module<Tensor>,
    mut value: impl FnMut(bool, M61) -> V,
) -> Vec<TensorValue<V>> {
    let mut random = SplitMix64::new(0x6865_6363_6465_6772);
    module
        .entry()
        .inputs
        .iter()
        .map(|p| {
            let n = crate::tensor::elements(&p.shape);
            let data = (0..n)
                .map(|_| value(p.secrecy == Secrecy::Secret, random.field_nonzero()))
                .collect();
            TensorValue::new(p.shape.clone(), data).expect("as many values as elements")
        })
        .collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Largest degree attained for certain.
    attained: u64,
    /// Largest degree possible.
    possible: u64,
}

impl Found {
    fn see(&mut self, top: u64, certain: bool) {
        if certain {
            self.attained = self.attained.max(top);
        }
        self.possible = self.possible.max(top);
    }

    fn certified(&self) -> bool {
        self.attained == self.possible
    }
}

/// A polynomial in t by its leading coefficient. `exact`: there is nothing below. A zero `c` that
/// is not exact: all that is known is that the degree is at most `top`; exact: the value is zero.
#[derive(Clone, Copy, Debug)]
struct Lead {
    top: u64,
    c: M61,
    exact: bool,
}

impl Lead {
    const ZERO: Lead = Lead {
        top: 0,
        c: M61::ZERO,
        exact: true,
    };

    fn monomial(top: u64, c: M61) -> Lead {
        if c.is_zero() {
            Lead::ZERO
        } else {
            Lead {
                top,
                c,
                exact: true,
            }
        }
    }

    fn is_zero(&self) -> bool {
        self.exact && self.c.is_zero()
    }

    fn add(&self, b: &Lead) -> Lead {
        if self.is_zero() {
            return *b;
        }
        if b.is_zero() {
            return *self;
        }
        if self.top != b.top {
            let high = if self.top > b.top { self } else { b };
            return Lead {
                exact: false,
                ..*high
            };
        }
        let unknown = Lead {
            top: self.top,
            c: M61::ZERO,
            exact: false,
        };
        if self.c.is_zero() || b.c.is_zero() {
            return unknown;
        }
        let c = self.c + b.c;
        // Of degree 0 there is nothing below the leading coefficient.
        let exact = self.exact && b.exact || self.top == 0;
        match (c.is_zero(), exact) {
            (true, true) => Lead::ZERO,
            (true, false) => Lead {
                top: self.top - 1,
                ..unknown
            },
            (false, _) => Lead {
                top: self.top,
                c,
                exact,
            },
        }
    }
}

/// Leading coefficients alone.
struct Leading;

impl Algebra for Leading {
    type Value = Lead;

    fn lift(&self, x: f64) -> Option<Lead> {
        M61::from_f64(x).map(|c| Lead::monomial(0, c))
    }
    fn zero(&self) -> Lead {
        Lead::ZERO
    }
    fn one(&self) -> Lead {
        Lead::monomial(0, M61::ONE)
    }
    fn add(&self, a: &Lead, b: &Lead) -> Lead {
        a.add(b)
    }
    fn sub(&self, a: &Lead, b: &Lead) -> Lead {
        a.add(&self.neg(b))
    }
    fn mul(&self, a: &Lead, b: &Lead) -> Lead {
        if a.is_zero() || b.is_zero() {
            return Lead::ZERO;
        }
        let c = a.c * b.c;
        Lead {
            top: a.top.saturating_add(b.top),
            c,
            exact: a.exact && b.exact,
        }
    }
    fn neg(&self, a: &Lead) -> Lead {
        Lead { c: -a.c, ..*a }
    }
    fn div(&self, a: &Lead, b: &Lead) -> Option<Lead> {
        if b.top != 0 {
            return None;
        }
        let inverse = b.c.inverse()?;
        Some(Lead {
            c: a.c * inverse,
            ..*a
        })
    }
}

/// A polynomial in t by its leading coefficients, from that of t^top downwards. `exact`: what is
/// below them is zero. Without coefficients: zero when exact, else of degree at most `top`.
/// The first coefficient is never zero, and neither is the last when exact.
#[derive(Clone, Debug)]
struct Series {
    top: u64,
    c: SmallVec<[M61; 2]>,
    exact: bool,
}

impl Series {
    fn monomial(top: u64, c: M61) -> Series {
        Series::normal(top, SmallVec::from_slice(&[c]), true, usize::MAX)
    }

    /// The least degree whose coefficient is known, `None` when all are.
    fn known_to(&self) -> Option<u64> {
        // Not exact means something is unknown below, so there is room for it.
        (!self.exact).then(|| self.top.saturating_add(1) - self.c.len() as u64)
    }

    fn normal(top: u64, mut c: SmallVec<[M61; 2]>, exact: bool, keep: usize) -> Series {
        let lead = c.iter().take_while(|x| x.is_zero()).count();
        // All coefficients down to t^0 are there: nothing is below.
        let mut exact = exact || c.len() as u64 > top;
        if lead == c.len() {
            return Series {
                top: if exact { 0 } else { top - lead as u64 },
                c: SmallVec::new(),
                exact,
            };
        }
        c.drain(..lead);
        let top = top - lead as u64;
        if c.len() > keep {
            exact = exact && c[keep..].iter().all(|x| x.is_zero());
            c.truncate(keep);
        }
        if exact {
            while c.last().is_some_and(|x| x.is_zero()) {
                c.pop();
            }
        }
        Series { top, c, exact }
    }

    fn is_zero(&self) -> bool {
        self.exact && self.c.is_empty()
    }

    fn at(&self, power: u64) -> M61 {
        if power > self.top {
            return M61::ZERO;
        }
        usize::try_from(self.top - power)
            .ok()
            .and_then(|i| self.c.get(i))
            .copied()
            .unwrap_or(M61::ZERO)
    }
}

struct SeriesAlgebra<'a> {
    keep: usize,
    spent: &'a Cell<u64>,
}

impl SeriesAlgebra<'_> {
    fn spend(&self, n: usize) {
        self.spent.set(self.spent.get().saturating_add(n as u64));
    }
}

impl Algebra for SeriesAlgebra<'_> {
    type Value = Series;

    fn lift(&self, x: f64) -> Option<Series> {
        M61::from_f64(x).map(|c| Series::monomial(0, c))
    }
    fn zero(&self) -> Series {
        Series::monomial(0, M61::ZERO)
    }
    fn one(&self) -> Series {
        Series::monomial(0, M61::ONE)
    }
    fn add(&self, a: &Series, b: &Series) -> Series {
        if a.is_zero() {
            return b.clone();
        }
        if b.is_zero() {
            return a.clone();
        }
        let top = a.top.max(b.top);
        let known = match (a.known_to(), b.known_to()) {
            (None, None) => None,
            (x, y) => Some(x.unwrap_or(0).max(y.unwrap_or(0))),
        };
        // The lowest degree that matters: what is known of both, and what fits.
        let lowest = |s: &Series| s.top.saturating_add(1) - s.c.len() as u64;
        let floor = known.unwrap_or_else(|| lowest(a).min(lowest(b)));
        if floor > top {
            return Series {
                top,
                c: SmallVec::new(),
                exact: false,
            };
        }
        // One more than the kept ones tells whether anything was cut off; leading zeros after
        // cancellation leave fewer, which the next sweep mends.
        let wanted = (top - floor)
            .saturating_add(1)
            .min(2 * self.keep as u64 + 1);
        self.spend(wanted as usize);
        let c = (0..wanted).map(|i| a.at(top - i) + b.at(top - i)).collect();
        let all = known.is_none() && wanted == (top - floor).saturating_add(1);
        Series::normal(top, c, all, self.keep)
    }
    fn sub(&self, a: &Series, b: &Series) -> Series {
        self.add(a, &self.neg(b))
    }
    fn mul(&self, a: &Series, b: &Series) -> Series {
        if a.is_zero() || b.is_zero() {
            return self.zero();
        }
        let top = a.top.saturating_add(b.top);
        // How many leading coefficients of the product are known.
        let known = match (a.exact, b.exact) {
            (true, true) => a.c.len() + b.c.len() - 1,
            (true, false) => b.c.len(),
            (false, true) => a.c.len(),
            (false, false) => a.c.len().min(b.c.len()),
        };
        let exact = a.exact && b.exact;
        let wanted = known.min(self.keep.saturating_add(1));
        self.spend(1 + wanted * a.c.len().min(b.c.len()));
        let mut c: SmallVec<[M61; 2]> = SmallVec::from_elem(M61::ZERO, wanted);
        for (i, x) in a.c.iter().enumerate().take(wanted) {
            for (j, y) in b.c.iter().enumerate().take(wanted - i) {
                c[i + j] = c[i + j] + *x * *y;
            }
        }
        Series::normal(top, c, exact && wanted == known, self.keep)
    }
    fn neg(&self, a: &Series) -> Series {
        Series {
            c: a.c.iter().map(|x| -*x).collect(),
            ..*a
        }
    }
    fn div(&self, a: &Series, b: &Series) -> Option<Series> {
        if b.top != 0 {
            return None;
        }
        let inverse = b.c.first()?.inverse()?;
        Some(Series {
            c: a.c.iter().map(|x| *x * inverse).collect(),
            ..*a
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Circuit, NodeId};
    use crate::interp::eval_circuit;
    use crate::random::{Shapes, circuit};
    use crate::span::Span;
    use crate::tensor::{Basis, Param, Polynomial, ResultDecl, Shape, TensorOp};
    use std::collections::BTreeMap;

    /// Polynomials in the secret inputs (public ones at a random point), exactly: exponents → coefficient.
    struct Expanded;

    type Poly = BTreeMap<Vec<u8>, M61>;

    fn plus(a: &Poly, b: &Poly, sign: M61) -> Poly {
        let mut out = a.clone();
        for (e, c) in b {
            let slot = out.entry(e.clone()).or_default();
            *slot = *slot + *c * sign;
        }
        out.retain(|_, c| !c.is_zero());
        out
    }

    impl Algebra for Expanded {
        type Value = Poly;
        fn lift(&self, x: f64) -> Option<Poly> {
            Some(plus(
                &Poly::new(),
                &Poly::from([(Vec::new(), M61::from_f64(x)?)]),
                M61::ONE,
            ))
        }
        fn zero(&self) -> Poly {
            Poly::new()
        }
        fn one(&self) -> Poly {
            Poly::from([(Vec::new(), M61::ONE)])
        }
        fn add(&self, a: &Poly, b: &Poly) -> Poly {
            plus(a, b, M61::ONE)
        }
        fn sub(&self, a: &Poly, b: &Poly) -> Poly {
            plus(a, b, -M61::ONE)
        }
        fn neg(&self, a: &Poly) -> Poly {
            plus(&Poly::new(), a, -M61::ONE)
        }
        fn mul(&self, a: &Poly, b: &Poly) -> Poly {
            let mut out = Poly::new();
            for (e, c) in a {
                for (f, d) in b {
                    let n = e.len().max(f.len());
                    let at = |v: &Vec<u8>, i: usize| v.get(i).copied().unwrap_or(0);
                    let sum = (0..n).map(|i| at(e, i) + at(f, i)).collect();
                    let slot: &mut M61 = out.entry(sum).or_default();
                    *slot = *slot + *c * *d;
                }
            }
            out.retain(|_, c| !c.is_zero());
            out
        }
        fn div(&self, a: &Poly, b: &Poly) -> Option<Poly> {
            let c = b.get(&Vec::new() as &Vec<u8>)?;
            if b.len() != 1 {
                return None;
            }
            let inverse = c.inverse()?;
            Some(a.iter().map(|(e, c)| (e.clone(), *c * inverse)).collect())
        }
    }

    fn brute_force(c: &Circuit<Tensor>) -> Option<u64> {
        let mut random = SplitMix64::new(77);
        let mut variable = 0;
        let inputs: Vec<TensorValue<Poly>> = c
            .inputs
            .iter()
            .map(|p| {
                let data = (0..crate::tensor::elements(&p.shape))
                    .map(|_| {
                        if p.secrecy == Secrecy::Public {
                            return Poly::from([(Vec::new(), random.field_nonzero())]);
                        }
                        let mut e = vec![0; variable];
                        e.push(1);
                        variable += 1;
                        Poly::from([(e, M61::ONE)])
                    })
                    .collect();
                TensorValue::new(p.shape.clone(), data).expect("as many as elements")
            })
            .collect();
        if variable > 6 {
            return None;
        }
        let outputs = eval_circuit(&Expanded, c, &inputs).expect("evaluates");
        outputs
            .iter()
            .flat_map(|o| o.data())
            .flat_map(|p| p.keys())
            .map(|e| e.iter().map(|x| u64::from(*x)).sum())
            .max()
            .or(Some(0))
    }

    #[test]
    fn agrees_with_expansion() {
        let shapes = Shapes {
            operations: 14,
            elements: 4,
            degree: 6,
            public: true,
        };
        let mut compared = 0;
        for seed in 0..600 {
            let c = circuit(seed, &shapes);
            let Some(expected) = brute_force(&c) else {
                continue;
            };
            compared += 1;
            let got = degree(&Module::single(c)).expect("evaluates");
            assert!(got.certified, "seed {seed}");
            assert_eq!(got.degree, expected, "seed {seed}");
        }
        assert!(compared > 200, "{compared}");
    }

    fn build(
        inputs: usize,
        f: impl FnOnce(&mut dyn FnMut(TensorOp, &[NodeId]) -> NodeId, &[NodeId]) -> NodeId,
    ) -> Module<Tensor> {
        let s = Span::default();
        let mut c: Circuit<Tensor> = Circuit::new("c");
        c.inputs = (0..inputs)
            .map(|i| Param {
                name: format!("x{i}"),
                secrecy: Secrecy::Secret,
                shape: Shape::new(),
                range: None,
                span: s,
            })
            .collect();
        let x: Vec<NodeId> = (0..inputs)
            .map(|i| c.push(TensorOp::Input(i as u32), &[], s).expect("typed"))
            .collect();
        let out = f(&mut |op, o| c.push(op, o, s).expect("typed"), &x);
        c.outputs.push((
            out,
            ResultDecl {
                name: "y".to_owned(),
                range: None,
                span: s,
            },
        ));
        Module::single(c)
    }

    fn check(module: &Module<Tensor>, degree: u64, depth_lower_bound: u64) {
        let expected = Degree {
            degree,
            certified: true,
            depth_lower_bound,
        };
        assert_eq!(super::degree(module), Ok(expected));
    }

    #[test]
    fn cancellation_is_seen_through() {
        use TensorOp::{Add, Mul, Pow, Sub};
        // (a + b)(a − b) − a² + b² = 0.
        let m = build(2, |p, x| {
            let (s, d) = (p(Add, &[x[0], x[1]]), p(Sub, &[x[0], x[1]]));
            let product = p(Mul, &[s, d]);
            let (a, b) = (p(Pow(2), &[x[0]]), p(Pow(2), &[x[1]]));
            let out = p(Sub, &[product, a]);
            p(Add, &[out, b])
        });
        check(&m, 0, 0);
        // (x + 1)^9 − x^9 − 9x^8, of degree 7: two leading coefficients cancel.
        let m = build(1, |p, x| {
            let one = p(
                TensorOp::Const(crate::tensor::ConstTensor::scalar(1.0)),
                &[],
            );
            let nine = p(
                TensorOp::Const(crate::tensor::ConstTensor::scalar(9.0)),
                &[],
            );
            let s = p(Add, &[x[0], one]);
            let s = p(Pow(9), &[s]);
            let s9 = p(Pow(9), &[x[0]]);
            let s = p(Sub, &[s, s9]);
            let x8 = p(Pow(8), &[x[0]]);
            let x8 = p(Mul, &[x8, nine]);
            p(Sub, &[s, x8])
        });
        check(&m, 7, 3);
        // T_5 through a Chebyshev polynomial whose leading coefficient is zero.
        let m = build(1, |p, x| {
            let polynomial = Polynomial {
                basis: Basis::Chebyshev {
                    lo: crate::graph::Real(-2.0),
                    hi: crate::graph::Real(1.0),
                },
                coefficients: [0.5, 1.0, 0.0, 0.0, 0.0, 0.25, 0.0]
                    .map(crate::graph::Real)
                    .to_vec(),
            };
            p(TensorOp::Poly(polynomial), &[x[0]])
        });
        check(&m, 5, 3);
    }

    #[test]
    fn large_programs_are_quick() {
        let m = build(32_768, |p, x| {
            let mut acc = x[0];
            for &y in &x[1..] {
                acc = p(TensorOp::Mul, &[acc, y]);
            }
            acc
        });
        check(&m, 32_768, 15);
        let m = build(2, |p, x| {
            let mut acc = x[0];
            for _ in 0..65_536 {
                let t = p(TensorOp::Mul, &[x[0], x[1]]);
                acc = p(TensorOp::Add, &[acc, t]);
            }
            acc
        });
        check(&m, 2, 1);
    }

    #[test]
    fn a_spent_bound_gives_an_upper_bound_and_a_true_lower_one() {
        use TensorOp::{Add, Pow, Sub};
        // (x + y)^n − (x + y + 1)^n + x, with n too large to expand in the work allowed.
        let m = build(2, |p, x| {
            let one = p(
                TensorOp::Const(crate::tensor::ConstTensor::scalar(1.0)),
                &[],
            );
            let s = p(Add, &[x[0], x[1]]);
            let t = p(Add, &[s, one]);
            let a = p(Pow(4096), &[s]);
            let b = p(Pow(4096), &[t]);
            let c = p(Pow(4096), &[s]);
            let d = p(Sub, &[a, c]);
            let e = p(Sub, &[b, c]);
            let e = p(Sub, &[e, b]);
            let e = p(Add, &[e, a]);
            p(Add, &[d, e])
        });
        let got = degree_within(&m, 100).expect("evaluates");
        assert!(
            !got.certified && got.degree == 4095 && got.depth_lower_bound == 0,
            "{got:?}"
        );
    }
}
