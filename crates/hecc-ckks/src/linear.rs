//! Linear maps of slots: a matrix times a vector by its diagonals (Halevi, Shoup, eprint 2014/106 and
//! 2018/244), with baby steps and giant steps.
//!
//! out[i] = Σ_k d_k[i]·x[i + k], and with k = giant + baby
//! out = Σ_giant rotate(Σ_baby rotate(d_k, −giant)·rotate(x, baby), giant). All rotations by baby steps share
//! one decomposition, their weighted sums are formed modulo QP, and each sum is divided once, by P and
//! the last prime together (double hoisting, Bossuat et al., eprint 2020/1203). The giant steps then run
//! one level lower, and share the division by P at the end.

use std::collections::{BTreeMap, BTreeSet};

use hecc_params::{GaloisElement, Level, RotationStep, Scale};

use crate::context::Context;
use crate::encoder::enter_float;
use crate::keyswitch::{Term, TermWeight};
use crate::ring::automorphism::Factor;
use crate::ring::modulus::{MAX_TERMS, Modulus};
use crate::ring::{Eval, Poly};
use crate::{
    Ciphertext, Error, EvaluationKeyRequest, EvaluationKeys, ExtendedPlaintext, Result, Weight,
};

/// Places that all sums pass over before the next: the operands of as many stay in the first cache.
const CHUNK: usize = 256;

/// A linear map of S slots as its non-zero diagonals: out\[i\] = Σ_k d_k\[i\]·x\[(i + k) mod S\].
#[derive(Clone, Debug, PartialEq)]
pub struct Diagonals {
    slots: usize,
    /// By k, from 0 to S − 1.
    diagonals: BTreeMap<usize, Vec<f64>>,
}

impl Diagonals {
    /// From pairs of k and d_k, each d_k of `slots` numbers. Diagonals of one k are added.
    ///
    /// # Errors
    /// [`Error::Slots`] unless `slots` is a power of two; [`Error::Lengths`] where a diagonal has another length.
    pub fn new(
        slots: usize,
        diagonals: impl IntoIterator<Item = (RotationStep, Vec<f64>)>,
    ) -> Result<Diagonals> {
        if !slots.is_power_of_two() || slots > 1 << 30 {
            return Err(Error::Slots {
                given: slots,
                most: 1 << 30,
            });
        }
        let mut out = Diagonals {
            slots,
            diagonals: BTreeMap::new(),
        };
        for (k, values) in diagonals {
            if values.len() != slots {
                return Err(Error::Lengths {
                    operation: "a diagonal",
                    left: slots,
                    right: values.len(),
                });
            }
            let sum = out
                .diagonals
                .entry(k.0.rem_euclid(slots as i32) as usize)
                .or_insert_with(|| vec![0.0; slots]);
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        }
        Ok(out)
    }

    /// Of a matrix, row after row. It maps the first `columns` slots of a vector to the first `rows` of the
    /// result, whose other slots are zero; S is the least power of two with room for both.
    ///
    /// # Errors
    /// [`Error::Lengths`] unless there are rows·columns numbers; [`Error::Empty`] when there are none.
    pub fn from_matrix(matrix: &[f64], rows: usize, columns: usize) -> Result<Diagonals> {
        if matrix.is_empty() {
            return Err(Error::Empty("a matrix"));
        }
        if rows.checked_mul(columns) != Some(matrix.len()) {
            return Err(Error::Lengths {
                operation: "a matrix",
                left: rows.saturating_mul(columns),
                right: matrix.len(),
            });
        }
        let slots = rows.max(columns).next_power_of_two();
        let mut diagonals: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (i, row) in matrix.chunks_exact(columns).enumerate() {
            for (j, &value) in row.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                let k = (j + slots - i) % slots;
                diagonals.entry(k).or_insert_with(|| vec![0.0; slots])[i] = value;
            }
        }
        Ok(Diagonals { slots, diagonals })
    }

    /// S.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many diagonals there are.
    pub fn len(&self) -> usize {
        self.diagonals.len()
    }

    /// Whether the map is zero.
    pub fn is_empty(&self) -> bool {
        self.diagonals.is_empty()
    }

    /// The baby and giant steps when baby steps are below `width`.
    fn steps(&self, width: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let keys = || self.diagonals.keys();
        (
            keys().map(|k| k % width).collect(),
            keys().map(|k| k - k % width).collect(),
        )
    }
}

/// A linear map with its diagonals encoded for one level, from [`Context::encode_linear`].
#[derive(Clone, Debug)]
pub struct LinearTransform {
    groups: Vec<Group>,
    level: Level,
    scale: Scale,
    slots: usize,
    tag: u64,
}

/// What one giant step moves.
#[derive(Clone, Debug)]
struct Group {
    giant: RotationStep,
    /// Baby steps with their weights.
    terms: Vec<(RotationStep, ExtendedPlaintext)>,
}

impl LinearTransform {
    /// The level of the ciphertexts that it is applied to; the result is one lower.
    pub fn level(&self) -> Level {
        self.level
    }
    /// The scale of the encoded diagonals.
    pub fn scale(&self) -> Scale {
        self.scale
    }
    /// How many slots the map has.
    pub fn slots(&self) -> usize {
        self.slots
    }
    /// Asks for the Galois keys that it needs: of the baby steps at its level, of the giant steps one
    /// lower.
    pub fn request_keys(&self, context: &Context, request: &mut EvaluationKeyRequest) {
        let log_n = context.parameters().log_n();
        let below = Level(self.level.0.saturating_sub(1));
        for group in &self.groups {
            request.apply_at(GaloisElement::rotation(group.giant, log_n), below);
            for (step, _) in &group.terms {
                request.apply_at(GaloisElement::rotation(*step, log_n), self.level);
            }
        }
    }
    /// Bytes of the encoded diagonals in memory.
    pub fn memory(&self) -> usize {
        let terms = self.groups.iter().flat_map(|g| &g.terms);
        terms.map(|(_, plain)| plain.memory()).sum()
    }
}

impl Context {
    /// Encodes the diagonals of a linear map, for ciphertexts at `level`. Baby and giant steps are
    /// chosen for the fewest NTTs. At the scale q_level the result has the scale of what is mapped.
    ///
    /// Cost: [`Context::encode_extended`] for each diagonal.
    ///
    /// # Errors
    /// As [`Context::encode_extended`]; [`Error::Level`] at level 0; [`Error::Empty`] for the map that is zero.
    pub fn encode_linear(
        &self,
        map: &Diagonals,
        level: Level,
        scale: Scale,
    ) -> Result<LinearTransform> {
        const WHAT: &str = "a linear transform";
        if map.is_empty() {
            return Err(Error::Empty(WHAT));
        }
        self.check_level(WHAT, level)?;
        if level.0 == 0 {
            return Err(Error::Level {
                operation: WHAT,
                needed: Level(1),
                found: level,
                help: "encode it for a higher level: it ends with a rescale",
            });
        }
        let width = self.baby_width(map, level);
        let mut groups: BTreeMap<usize, Vec<(RotationStep, ExtendedPlaintext)>> = BTreeMap::new();
        let mut turned = vec![0.0; map.slots];
        for (&k, values) in &map.diagonals {
            let (baby, giant) = (k % width, k - k % width);
            turned.copy_from_slice(values);
            turned.rotate_right(giant);
            groups.entry(giant).or_default().push((
                RotationStep(baby as i32),
                self.encode_extended(&turned, level, scale)?,
            ));
        }
        let groups = groups.into_iter().map(|(giant, terms)| Group {
            giant: RotationStep(giant as i32),
            terms,
        });
        Ok(LinearTransform {
            groups: groups.collect(),
            level,
            scale,
            slots: map.slots,
            tag: self.tag(),
        })
    }

    /// The width of the baby steps, a power of two, that needs the fewest NTTs.
    fn baby_width(&self, map: &Diagonals, level: Level) -> usize {
        let special = self.special();
        // Of one product with a key, in NTTs, with the permutation after it.
        let product =
            |limbs: usize, digits: usize| (limbs + special) as f64 * (0.5 * digits as f64 + 0.5);
        let (limbs, digits) = (level.limbs(), self.digits(level));
        let (lower, lower_digits) = (limbs - 1, self.digits(Level(level.0.saturating_sub(1))));
        let baby = product(limbs, digits);
        let divide = 2.0 * (special + 1 + lower) as f64;
        let giant = (lower_digits * (lower + special)) as f64 + product(lower, lower_digits);
        let cost = |width: usize| {
            let (babies, giants) = map.steps(width);
            let turned = |steps: &BTreeSet<usize>| steps.len() - usize::from(steps.contains(&0));
            turned(&babies) as f64 * baby
                + giants.len() as f64 * divide
                + turned(&giants) as f64 * giant
        };
        let mut best = (map.slots, cost(map.slots));
        let mut width = map.slots / 2;
        while width >= 1 {
            let cost = cost(width);
            if cost < best.1 {
                best = (width, cost);
            }
            width /= 2;
        }
        best.0
    }

    /// The map applied to a ciphertext, and a rescale. A vector shorter than the map is repeated.
    ///
    /// Cost, with b baby and g giant steps: one ModUp, b products with keys, as many products with plaintexts
    /// as there are diagonals, g merged ModDowns with rescale, and g − 1 ModUps and one ModDown a
    /// level lower.
    ///
    /// # Errors
    /// [`Error::Level`] unless the ciphertext is at the level of the map, [`Error::Lengths`] when it has more slots
    /// than the map, [`Error::Degree`] unless it has degree 1, [`Error::NoGaloisKey`], [`Error::Foreign`].
    pub fn linear_transform(
        &self,
        a: &Ciphertext,
        map: &LinearTransform,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        const WHAT: &str = "a linear transform";
        self.check_tag("the linear transform", map.tag)?;
        if a.level != map.level {
            return Err(Error::Level {
                operation: WHAT,
                needed: map.level,
                found: a.level,
                help: "drop the ciphertext to the level that the map was encoded for",
            });
        }
        if a.slots > map.slots {
            return Err(Error::Lengths {
                operation: "a linear transform of slots",
                left: a.slots,
                right: map.slots,
            });
        }
        let groups: Vec<Vec<(RotationStep, Weight<'_>)>> = map
            .groups
            .iter()
            .map(|group| {
                let terms = group.terms.iter();
                terms.map(|(step, p)| (*step, Weight::Plain(p))).collect()
            })
            .collect();
        let groups: Vec<&[_]> = groups.iter().map(Vec::as_slice).collect();
        let sums = self.rotate_sums_rescale(a, &groups, map.scale, keys)?;
        let turned: Vec<(&Ciphertext, RotationStep)> = sums
            .iter()
            .zip(&map.groups)
            .map(|(sum, group)| (sum, group.giant))
            .collect();
        self.sum_rotated(&turned, keys)
    }

    /// Many sums as [`Context::rotate_sum_rescale`] forms one, from the same rotated copies: each copy is
    /// computed once.
    ///
    /// # Errors
    /// As [`Context::rotate_sum_rescale`], for each sum.
    pub fn rotate_sums_rescale(
        &self,
        a: &Ciphertext,
        sums: &[&[(RotationStep, Weight<'_>)]],
        scale: Scale,
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>> {
        self.check_ciphertext(a)?;
        let below = self.level_below(a)?;
        let products = self.many_rotated_products(a, sums, scale, keys)?;
        Ok(products
            .into_iter()
            .map(|(sums, slots)| Ciphertext {
                polys: self.mod_down_rescale(&[&sums[0], &sums[1]], a.level),
                level: below,
                scale: self.rescaled(a.scale * scale, a.level),
                slots,
                ..self.shape_of(a)
            })
            .collect())
    }

    /// For each sum Σ w·rotation modulo QP, times P.
    fn many_rotated_products(
        &self,
        a: &Ciphertext,
        sums: &[&[(RotationStep, Weight<'_>)]],
        scale: Scale,
        keys: &EvaluationKeys,
    ) -> Result<Vec<([Poly<Eval>; 2], usize)>> {
        let down = self.down()?;
        let mut slots = Vec::with_capacity(sums.len());
        // Each copy once, by its element, with the place of its first half.
        let mut copies: Vec<Term<'_>> = Vec::new();
        let mut places: BTreeMap<Option<GaloisElement>, usize> = BTreeMap::new();
        let mut checked: Vec<Vec<(usize, TermWeight<'_>)>> = Vec::with_capacity(sums.len());
        for terms in sums {
            let (terms, wide) = self.checked_terms(a, terms, scale, keys)?;
            slots.push(wide);
            let mut row = Vec::with_capacity(terms.len());
            for Term { rotation, weight } in terms {
                let place = *places
                    .entry(rotation.map(|(_, element)| element))
                    .or_insert_with(|| {
                        copies.push(Term {
                            rotation,
                            weight: TermWeight::One,
                        });
                        copies.len() - 1
                    });
                row.push((place, weight));
            }
            checked.push(row);
        }
        let permutations: Vec<_> = copies
            .iter()
            .map(|copy| copy.rotation.map(|(_, element)| self.permutation(element)))
            .collect();
        let n = self.n();
        let limbs = a.level.limbs();
        let extended = limbs + self.special();
        let digits = permutations
            .iter()
            .any(Option::is_some)
            .then(|| self.digits_of(&a.polys[1], a.level));
        let mut out: Vec<[Poly<Eval>; 2]> = sums
            .iter()
            .map(|_| [self.uninit(extended), self.uninit(extended)])
            .collect();
        let mut rows: Vec<Vec<[&mut [u64]; 2]>> = (0..extended)
            .map(|_| Vec::with_capacity(sums.len()))
            .collect();
        for [s0, s1] in &mut out {
            let pairs = s0
                .words_mut()
                .chunks_mut(n)
                .zip(s1.words_mut().chunks_mut(n));
            for (row, (s0, s1)) in rows.iter_mut().zip(pairs) {
                row.push([s0, s1]);
            }
        }
        self.each(rows, |j, mut row| {
            let m = self.modulus(self.extended_prime(a.level, j));
            // The copies modulo this prime, times P: both halves of each.
            let mut work: Poly<Eval> = self.uninit(2 * copies.len() + 2);
            let (turned, work) = work.words_mut().split_at_mut(2 * copies.len() * n);
            let (t0, t1) = work.split_at_mut(n);
            let mut make = |x: &[&[u64]]| {
                let halves = turned.chunks_exact_mut(2 * n);
                for ((copy, permutation), halves) in copies.iter().zip(&permutations).zip(halves) {
                    let (c0, c1) = halves.split_at_mut(n);
                    if let (Some((key, _)), Some(permutation)) = (copy.rotation, permutation) {
                        let key = self.key_row(key, a.level, j);
                        if j < limbs {
                            let c = [a.polys[0].limb(j)];
                            m.key_dot(t0, t1, x, &key, &c, down.product[j]);
                        } else {
                            m.key_dot(t0, t1, x, &key, &[], 0);
                        }
                        permutation.apply(self.path(), c0, t0);
                        permutation.apply(self.path(), c1, t1);
                    } else if j < limbs {
                        m.mul_const_to(c0, a.polys[0].limb(j), down.product[j]);
                        m.mul_const_to(c1, a.polys[1].limb(j), down.product[j]);
                    } else {
                        halves.fill(0);
                    }
                }
            };
            match &digits {
                Some(digits) => self.with_digits(digits, j, make),
                None => make(&[]),
            }
            self.weighted_sums(m, a.level, j, turned, &checked, &mut row);
        });
        Ok(out.into_iter().zip(slots).collect())
    }

    /// outs\[s\] = Σ over (c, w) in sums\[s\] of w·copy c, modulo the prime of extended limb `j`.
    fn weighted_sums(
        &self,
        m: &Modulus,
        level: Level,
        j: usize,
        copies: &[u64],
        sums: &[Vec<(usize, TermWeight<'_>)>],
        outs: &mut [[&mut [u64]; 2]],
    ) {
        let n = self.n();
        // Scalars as vectors of one value.
        let numbers: Vec<Vec<[u64; 1]>> = sums
            .iter()
            .map(|terms| {
                let number = |weight: &TermWeight<'_>| match weight {
                    TermWeight::One => m.enter(1),
                    TermWeight::Integer(w) => enter_float(m, *w),
                    TermWeight::Plain(_) => 0,
                };
                terms.iter().map(|(_, w)| [number(w)]).collect()
            })
            .collect();
        // Each sum by the lengths of runs in its weights, which one kernel call takes together.
        type Part<'a> = (usize, Vec<(usize, &'a [u64])>);
        let parts: Vec<Vec<Part<'_>>> = sums
            .iter()
            .zip(&numbers)
            .map(|(terms, numbers)| {
                let mut by_run: BTreeMap<usize, Vec<(usize, &[u64])>> = BTreeMap::new();
                for ((copy, weight), number) in terms.iter().zip(numbers) {
                    let (run, values) = match weight {
                        TermWeight::Plain(p) => (p.repeat, p.limb(level, j)),
                        TermWeight::One | TermWeight::Integer(_) => (n, &number[..]),
                    };
                    by_run.entry(run).or_default().push((*copy, values));
                }
                by_run
                    .into_iter()
                    .flat_map(|(run, terms)| {
                        let chunks: Vec<_> = terms.chunks(MAX_TERMS).map(<[_]>::to_vec).collect();
                        chunks.into_iter().map(move |chunk| (run, chunk))
                    })
                    .collect()
            })
            .collect();
        let chunk = CHUNK.min(n);
        let mut more: Poly<Eval> = self.uninit(1);
        let more = &mut more.words_mut()[..chunk];
        let mut terms: Vec<(&[u64], &[u64])> = Vec::new();
        for start in (0..n).step_by(chunk) {
            let end = start + chunk;
            for (parts, outs) in parts.iter().zip(outs.iter_mut()) {
                for (half, out) in outs.iter_mut().enumerate() {
                    let out = &mut out[start..end];
                    for (number, (run, part)) in parts.iter().enumerate() {
                        terms.clear();
                        terms.extend(part.iter().map(|&(copy, values)| {
                            let copy = &copies[(2 * copy + half) * n..][start..end];
                            (copy, &values[start / run..end.div_ceil(*run)])
                        }));
                        let to = if number == 0 { &mut *out } else { &mut *more };
                        if *run == 1 {
                            m.dot(to, &terms);
                        } else {
                            m.dot_repeated(to, &terms, (*run).min(chunk));
                        }
                        if number > 0 {
                            m.add_assign(out, more);
                        }
                    }
                }
            }
        }
    }

    /// Σ rotate(a_i, step_i): the copies share one division by P. Slots are rotated modulo the
    /// largest number of slots among the a_i.
    ///
    /// Cost: a ModUp for each that is rotated, and one ModDown for all.
    ///
    /// # Errors
    /// As [`Context::rotate`] for each; [`Error::Level`] and [`Error::ScaleMismatch`] unless level and scale are
    /// the same; [`Error::Empty`].
    pub fn sum_rotated(
        &self,
        terms: &[(&Ciphertext, RotationStep)],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        const WHAT: &str = "a sum of rotated ciphertexts";
        let &[(first, _), ..] = terms else {
            return Err(Error::Empty(WHAT));
        };
        let level = first.level;
        let mut slots = 1;
        for (a, _) in terms {
            self.check_same_level(WHAT, first, a)?;
            self.check_same_scale(WHAT, first.scale, a.scale)?;
            self.check_degree(WHAT, a, 1, "relinearize it first")?;
            slots = slots.max(a.slots);
        }
        let mut turned = Vec::new();
        let mut still = Vec::new();
        for &(a, step) in terms {
            match self.rotation(a, step, keys)? {
                Some((key, element)) => turned.push((a, key, self.permutation(element))),
                None => still.push(a),
            }
        }
        let n = self.n();
        let limbs = level.limbs();
        let mut polys = Vec::with_capacity(2);
        if !turned.is_empty() {
            let down = self.down()?;
            let mut sums = [
                self.zeros(limbs + self.special()),
                self.zeros(limbs + self.special()),
            ];
            for (a, key, permutation) in &turned {
                let digits = self.digits_of(&a.polys[1], level);
                let [s0, s1] = &mut sums;
                let rows = s0
                    .words_mut()
                    .chunks_mut(n)
                    .zip(s1.words_mut().chunks_mut(n))
                    .collect();
                self.each(rows, |j, (s0, s1)| {
                    let m = self.modulus(self.extended_prime(level, j));
                    let mut work: Poly<Eval> = self.uninit(2);
                    let (t0, t1) = work.words_mut().split_at_mut(n);
                    self.with_digits(&digits, j, |x| {
                        let key = self.key_row(key, level, j);
                        if j < limbs {
                            let c = [a.polys[0].limb(j)];
                            m.key_dot(t0, t1, x, &key, &c, down.product[j]);
                        } else {
                            m.key_dot(t0, t1, x, &key, &[], 0);
                        }
                    });
                    let one = Factor::Number(m.enter(1));
                    permutation.mul_add_assign(m, s0, t0, one);
                    permutation.mul_add_assign(m, s1, t1, one);
                });
            }
            polys = self.mod_down(&[&sums[0], &sums[1]], level)?;
        }
        let mut still = still.into_iter();
        if polys.is_empty() {
            polys.extend(still.next().into_iter().flat_map(|a| a.polys.clone()));
        }
        for a in still {
            for (sum, x) in polys.iter_mut().zip(&a.polys) {
                self.each_limb(sum, |j, limb| self.modulus(j).add_assign(limb, x.limb(j)));
            }
        }
        Ok(Ciphertext {
            polys,
            slots,
            ..self.shape_of(first)
        })
    }
}
