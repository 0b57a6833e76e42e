//! Hybrid key switching (Han, Ki, eprint 2019/688) and what is built on it: relinearization, rotation,
//! conjugation, hoisting and double hoisting (Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux, eprint
//! 2020/1203).
//!
//! Everything runs limb by limb of the result: all digits are brought to one prime, transformed, and
//! multiplied with the keys there, so that one limb of each digit is all that is in flight and each
//! residue is reduced once.

use hecc_params::{GaloisElement, Level, RotationStep, Scale};

use crate::context::Context;
use crate::encoder::enter_float;
use crate::ring::automorphism::{Factor, Permutation};
use crate::ring::basis::Converter;
use crate::ring::kernels::KeyRow;
use crate::ring::{Coeff, Eval, Poly};
use crate::{Ciphertext, Error, EvaluationKeys, ExtendedPlaintext, KeySwitchKey, Result};

/// Weight of one rotated copy in [`Context::rotate_sum`].
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// 1. The scale of the sum's weights must then be 1 too.
    One,
    /// A real number, taken as the integer round(w·scale).
    Scalar(f64),
    /// A vector, from [`Context::encode_extended`] at the scale of the sum.
    Plain(&'a ExtendedPlaintext),
}

/// The digits of a polynomial.
pub(crate) struct Digits<'a> {
    poly: &'a Poly<Eval>,
    level: Level,
    form: DigitForm,
}

enum DigitForm {
    /// Ready for conversion: for each digit its y_i and its v. Each prime converts when it is its
    /// turn.
    Prepared(Vec<Poly<Coeff>>),
    /// Converted to all primes, digit after digit; a digit's own limbs hold anything. For polynomials
    /// whose prepared digits do not stay in the second cache from one prime to the next.
    Extended(Vec<Poly<Eval>>),
}

/// Most bytes of prepared digits that are read again for every prime.
const PREPARED_BYTES: usize = 7 << 18;

/// What happens to one copy in a sum of rotated copies.
pub(crate) struct Term<'a> {
    /// None for the identity.
    pub(crate) rotation: Option<(&'a KeySwitchKey, GaloisElement)>,
    pub(crate) weight: TermWeight<'a>,
}

pub(crate) enum TermWeight<'a> {
    One,
    Integer(f64),
    Plain(&'a ExtendedPlaintext),
}

impl Context {
    /// Divides by the product of some limbs of `x` and rounds. `x` has limbs of primes 0, 1, …, and
    /// those of `converter` at the places `sources`; the result has `targets` limbs, permuted if so asked.
    pub(crate) fn divide(
        &self,
        x: &Poly<Eval>,
        converter: &Converter,
        sources: &[usize],
        targets: usize,
        permutation: Option<&Permutation>,
    ) -> Poly<Eval> {
        let prepared = self.prepare(x, converter, sources);
        let mut out: Poly<Eval> = self.uninit(targets);
        self.each_limb(&mut out, |j, out| {
            let ntt = &self.primes()[j];
            let mut work: Poly<Eval> = self.uninit(1);
            converter.convert(self.primes(), j, prepared.words(), work.words_mut());
            ntt.forward(work.words_mut());
            let (m, c) = (&ntt.modulus, converter.inverse[j]);
            match permutation {
                None => m.sub_mul_const_to(out, x.limb(j), work.words(), c),
                Some(p) => p.sub_mul_const_to(m, out, x.limb(j), work.words(), c),
            }
        });
        out
    }

    /// Inverse transforms of the limbs at `sources`, as `converter` wants them.
    fn prepare(&self, x: &Poly<Eval>, converter: &Converter, sources: &[usize]) -> Poly<Coeff> {
        let mut prepared: Poly<Coeff> = self.uninit(converter.prepared_limbs());
        let n = self.n();
        let limbs: Vec<&mut [u64]> = prepared
            .words_mut()
            .chunks_mut(n)
            .take(sources.len())
            .collect();
        self.each(limbs, |i, limb| {
            limb.copy_from_slice(x.limb(sources[i]));
            converter.prepare_limb(self.primes(), i, limb);
        });
        converter.prepare_quotient(self.path(), prepared.words_mut());
        prepared
    }

    pub(crate) fn digits_of<'a>(&self, poly: &'a Poly<Eval>, level: Level) -> Digits<'a> {
        let alpha = self.parameters().digit_limbs();
        let limbs = level.limbs();
        let prepare = |d: usize| {
            let first = d * alpha;
            let count = alpha.min(limbs - first);
            let sources: Vec<usize> = (first..first + count).collect();
            let converter = self.up(d, count);
            (self.prepare(poly, converter, &sources), converter)
        };
        let digits = self.digits(level);
        let form = if (limbs + digits) * self.n() * 8 <= PREPARED_BYTES {
            DigitForm::Prepared((0..digits).map(|d| prepare(d).0).collect())
        } else {
            let extend = |d: usize| {
                let (prepared, converter) = prepare(d);
                let mut extended: Poly<Eval> = self.uninit(limbs + self.special());
                self.each_limb(&mut extended, |j, limb| {
                    let prime = self.extended_prime(level, j);
                    if !self.own_limb(prime, d) {
                        converter.convert(self.primes(), prime, prepared.words(), limb);
                        self.primes()[prime].forward(limb);
                    }
                });
                extended
            };
            DigitForm::Extended((0..digits).map(extend).collect())
        };
        Digits { poly, level, form }
    }

    /// Whether a prime belongs to a digit.
    fn own_limb(&self, prime: usize, digit: usize) -> bool {
        prime < self.chain() && prime / self.parameters().digit_limbs() == digit
    }

    /// Calls `f(all digits modulo the prime of extended limb j, in NTT form)`.
    pub(crate) fn with_digits<T>(
        &self,
        digits: &Digits<'_>,
        j: usize,
        f: impl FnOnce(&[&[u64]]) -> T,
    ) -> T {
        let n = self.n();
        let alpha = self.parameters().digit_limbs();
        let limbs = digits.level.limbs();
        let prime = self.extended_prime(digits.level, j);
        let count = self.digits(digits.level);
        let mut slices: Vec<&[u64]> = Vec::with_capacity(count);
        match &digits.form {
            DigitForm::Extended(extended) => {
                for (d, extended) in extended.iter().enumerate() {
                    slices.push(if self.own_limb(prime, d) {
                        digits.poly.limb(prime)
                    } else {
                        extended.limb(j)
                    });
                }
                f(&slices)
            }
            DigitForm::Prepared(prepared) => {
                let mut work: Poly<Eval> = self.uninit(count);
                for (d, limb) in work.words_mut().chunks_mut(n).enumerate() {
                    if self.own_limb(prime, d) {
                        slices.push(digits.poly.limb(prime));
                        continue;
                    }
                    let converter = self.up(d, alpha.min(limbs - d * alpha));
                    converter.convert(self.primes(), prime, prepared[d].words(), limb);
                    self.primes()[prime].forward(limb);
                    slices.push(limb);
                }
                f(&slices)
            }
        }
    }

    /// The row of a key for extended limb j of a polynomial at `level`.
    pub(crate) fn key_row<'a>(&self, key: &'a KeySwitchKey, level: Level, j: usize) -> KeyRow<'a> {
        key.row(if j < level.limbs() {
            j
        } else {
            j - level.limbs() + key.level.limbs()
        })
    }

    /// For each key, the pair (b, a)·digits + P·add modulo QP; `add` are up to two polynomials.
    fn key_products(
        &self,
        digits: &Digits<'_>,
        keys: &[&KeySwitchKey],
        add: &[&Poly<Eval>],
        p: &[u64],
    ) -> Vec<[Poly<Eval>; 2]> {
        let n = self.n();
        let limbs = digits.level.limbs() + self.special();
        let mut out: Vec<[Poly<Eval>; 2]> = keys
            .iter()
            .map(|_| [self.uninit(limbs), self.uninit(limbs)])
            .collect();
        let mut rows: Vec<Vec<(&mut [u64], &mut [u64])>> =
            (0..limbs).map(|_| Vec::with_capacity(keys.len())).collect();
        for [o0, o1] in &mut out {
            let pairs = o0
                .words_mut()
                .chunks_mut(n)
                .zip(o1.words_mut().chunks_mut(n));
            for (row, pair) in rows.iter_mut().zip(pairs) {
                row.push(pair);
            }
        }
        self.each(rows, |j, row| {
            let m = self.modulus(self.extended_prime(digits.level, j));
            self.with_digits(digits, j, |x| {
                let mut limbs: [&[u64]; 2] = [&[]; 2];
                let mut added = 0;
                if j < digits.level.limbs() {
                    for (limb, c) in limbs.iter_mut().zip(add) {
                        *limb = c.limb(j);
                        added += 1;
                    }
                }
                let (c, p) = (&limbs[..added], p.get(j).copied().unwrap_or(0));
                for ((o0, o1), key) in row.into_iter().zip(keys) {
                    let row = self.key_row(key, digits.level, j);
                    m.key_dot(o0, o1, x, &row, c, p);
                }
            });
        });
        out
    }

    /// Divides by P.
    pub(crate) fn mod_down(
        &self,
        x: &Poly<Eval>,
        level: Level,
        permutation: Option<&Permutation>,
    ) -> Result<Poly<Eval>> {
        let sources: Vec<usize> = (level.limbs()..level.limbs() + self.special()).collect();
        Ok(self.divide(x, self.down()?, &sources, level.limbs(), permutation))
    }

    /// Divides by P and the last prime of the level.
    pub(crate) fn mod_down_rescale(&self, x: &Poly<Eval>, level: Level) -> Poly<Eval> {
        let last = level.limbs() - 1;
        let sources: Vec<usize> = (last..level.limbs() + self.special()).collect();
        self.divide(x, self.down_rescale(level), &sources, last, None)
    }

    fn relinearization_key<'a>(
        &self,
        keys: &'a EvaluationKeys,
        level: Level,
    ) -> Result<&'a KeySwitchKey> {
        match &keys.relinearization {
            Some(key) if key.level >= level => {
                self.check_tag("the evaluation keys", keys.tag)?;
                Ok(key)
            }
            _ => Err(Error::NoRelinearizationKey(level)),
        }
    }

    fn galois_key<'a>(
        &self,
        keys: &'a EvaluationKeys,
        element: GaloisElement,
        level: Level,
    ) -> Result<&'a KeySwitchKey> {
        match keys.galois.get(&element) {
            Some(key) if key.level >= level => {
                self.check_tag("the evaluation keys", keys.tag)?;
                Ok(key)
            }
            _ => Err(Error::NoGaloisKey { element, level }),
        }
    }

    /// Brings a product back to degree 1.
    ///
    /// Cost, at l+1 limbs with d digits and k special primes: l+1 inverse NTTs, d·(l+1+k) − (l+1) NTTs,
    /// then 2k inverse NTTs and 2(l+1) NTTs.
    ///
    /// # Errors
    /// [`Error::Degree`] unless a has degree 2, [`Error::NoRelinearizationKey`],
    /// [`Error::NoSpecialPrimes`], [`Error::Foreign`].
    pub fn relinearize(&self, a: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext> {
        let products = self.relinearization_products(a, keys)?;
        let mut polys = Vec::with_capacity(2);
        for x in &products {
            polys.push(self.mod_down(x, a.level, None)?);
        }
        Ok(Ciphertext {
            polys,
            ..self.shape_of(a)
        })
    }

    /// Relinearizes and rescales with one rounding and one division: cheaper and more precise than
    /// one after the other.
    ///
    /// Cost: as [`Context::relinearize`], but 2(k+1) inverse NTTs and 2l NTTs at the end.
    ///
    /// # Errors
    /// As [`Context::relinearize`], and [`Error::Level`] at level 0.
    pub fn relinearize_rescale(&self, a: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        let below = self.level_below(a)?;
        let products = self.relinearization_products(a, keys)?;
        let polys = products
            .iter()
            .map(|x| self.mod_down_rescale(x, a.level))
            .collect();
        Ok(Ciphertext {
            polys,
            level: below,
            scale: self.rescaled(a.scale, a.level),
            ..self.shape_of(a)
        })
    }

    /// P·(c_0, c_1) + c_2·key modulo QP.
    fn relinearization_products(
        &self,
        a: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<[Poly<Eval>; 2]> {
        self.check_ciphertext(a)?;
        self.check_degree(
            "relinearize",
            a,
            2,
            "only a product without relinearization needs it",
        )?;
        let p = &self.down()?.product;
        let key = self.relinearization_key(keys, a.level)?;
        let digits = self.digits_of(&a.polys[2], a.level);
        self.key_products(&digits, &[key], &[&a.polys[0], &a.polys[1]], p)
            .pop()
            .ok_or(Error::NoRelinearizationKey(a.level))
    }

    pub(crate) fn level_below(&self, a: &Ciphertext) -> Result<Level> {
        a.level.0.checked_sub(1).map(Level).ok_or(Error::Level {
            operation: "rescale",
            needed: Level(1),
            found: a.level,
            help: "start at a higher level",
        })
    }

    pub(crate) fn rescaled(&self, scale: Scale, level: Level) -> Scale {
        Scale(scale.0 / self.modulus(level.0 as usize).q as f64)
    }

    /// The element that rotates `slots` slots by `step`, and its key; `None` for the identity.
    /// A vector that repeats can be rotated by any step that is the same modulo its length.
    pub(crate) fn rotation<'a>(
        &self,
        a: &Ciphertext,
        step: RotationStep,
        keys: &'a EvaluationKeys,
    ) -> Result<Option<(&'a KeySwitchKey, GaloisElement)>> {
        let slots = a.slots as i32;
        let short = step.0.rem_euclid(slots);
        if short == 0 {
            return Ok(None);
        }
        self.down()?;
        let log_n = self.parameters().log_n();
        let mut refused = None;
        for k in [step.0, short, short - slots] {
            let element = GaloisElement::rotation(RotationStep(k), log_n);
            match self.galois_key(keys, element, a.level) {
                Ok(key) => return Ok(Some((key, element))),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        Err(refused.unwrap_or(Error::NoSpecialPrimes))
    }

    /// Rotates slots to the left by `step`, modulo the number of slots: slot i of the result is slot
    /// i + step of a. By 0 it is a copy.
    ///
    /// Cost: as [`Context::relinearize`].
    ///
    /// # Errors
    /// [`Error::Degree`] unless a has degree 1, [`Error::NoGaloisKey`], [`Error::NoSpecialPrimes`],
    /// [`Error::Foreign`].
    pub fn rotate(
        &self,
        a: &Ciphertext,
        step: RotationStep,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        let mut all = self.rotate_hoisted(a, &[step], keys)?;
        all.pop().ok_or(Error::Empty("a rotation"))
    }

    /// Rotates one ciphertext by many steps, decomposing it once: the transforms of ModUp are shared.
    ///
    /// # Errors
    /// As [`Context::rotate`].
    pub fn rotate_hoisted(
        &self,
        a: &Ciphertext,
        steps: &[RotationStep],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>> {
        self.check_ciphertext(a)?;
        self.check_degree("rotate", a, 1, "relinearize it first")?;
        let rotations = steps
            .iter()
            .map(|&step| self.rotation(a, step, keys))
            .collect::<Result<Vec<_>>>()?;
        self.automorphisms(a, &rotations)
    }

    /// Conjugates every slot.
    ///
    /// Cost: as [`Context::relinearize`].
    ///
    /// # Errors
    /// As [`Context::rotate`].
    pub fn conjugate(&self, a: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        self.check_degree("conjugate", a, 1, "relinearize it first")?;
        self.down()?;
        let element = GaloisElement::conjugation(self.parameters().log_n());
        let key = self.galois_key(keys, element, a.level)?;
        let mut all = self.automorphisms(a, &[Some((key, element))])?;
        all.pop().ok_or(Error::Empty("a conjugation"))
    }

    fn automorphisms(
        &self,
        a: &Ciphertext,
        maps: &[Option<(&KeySwitchKey, GaloisElement)>],
    ) -> Result<Vec<Ciphertext>> {
        let active: Vec<&KeySwitchKey> = maps.iter().flatten().map(|(key, _)| *key).collect();
        let mut products = if active.is_empty() {
            Vec::new()
        } else {
            let digits = self.digits_of(&a.polys[1], a.level);
            self.key_products(&digits, &active, &[&a.polys[0]], &self.down()?.product)
        }
        .into_iter();
        let mut out = Vec::with_capacity(maps.len());
        for map in maps {
            let (Some((_, element)), Some([x0, x1])) =
                (map, if map.is_some() { products.next() } else { None })
            else {
                out.push(a.clone());
                continue;
            };
            let permutation = self.permutation(*element);
            let mut polys = Vec::with_capacity(2);
            for x in [x0, x1] {
                polys.push(self.mod_down(&x, a.level, Some(&permutation))?);
            }
            out.push(Ciphertext {
                polys,
                ..self.shape_of(a)
            });
        }
        Ok(out)
    }

    /// Σ w_t·rotate(a, step_t): the copies share one decomposition and one division by P (double
    /// hoisting). The scale of the result is that of a times `scale`.
    ///
    /// Cost: one ModUp and one ModDown as in [`Context::relinearize`], and per term the products with
    /// its key and its weight; no NTT per term.
    ///
    /// # Errors
    /// As [`Context::rotate`]; [`Error::ScaleMismatch`] when a weight has another scale;
    /// [`Error::Level`] when a weight's level is below that of a; [`Error::Empty`];
    /// [`Error::NotFinite`].
    pub fn rotate_sum(
        &self,
        a: &Ciphertext,
        terms: &[(RotationStep, Weight<'_>)],
        scale: Scale,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        let (sums, slots) = self.rotated_products(a, terms, scale, keys)?;
        let mut polys = Vec::with_capacity(2);
        for x in &sums {
            polys.push(self.mod_down(x, a.level, None)?);
        }
        Ok(Ciphertext {
            polys,
            scale: a.scale * scale,
            slots,
            ..self.shape_of(a)
        })
    }

    /// [`Context::rotate_sum`] and a rescale, with one rounding and one division.
    ///
    /// # Errors
    /// As [`Context::rotate_sum`], and [`Error::Level`] at level 0.
    pub fn rotate_sum_rescale(
        &self,
        a: &Ciphertext,
        terms: &[(RotationStep, Weight<'_>)],
        scale: Scale,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        let below = self.level_below(a)?;
        let (sums, slots) = self.rotated_products(a, terms, scale, keys)?;
        Ok(Ciphertext {
            polys: sums
                .iter()
                .map(|x| self.mod_down_rescale(x, a.level))
                .collect(),
            level: below,
            scale: self.rescaled(a.scale * scale, a.level),
            slots,
            ..self.shape_of(a)
        })
    }

    /// The terms of a sum of rotations with their keys, and the slots of the sum.
    pub(crate) fn checked_terms<'a>(
        &self,
        a: &Ciphertext,
        terms: &[(RotationStep, Weight<'a>)],
        scale: Scale,
        keys: &'a EvaluationKeys,
    ) -> Result<(Vec<Term<'a>>, usize)> {
        const WHAT: &str = "a sum of rotations";
        self.check_ciphertext(a)?;
        self.check_degree(WHAT, a, 1, "relinearize it first")?;
        self.check_scale(scale)?;
        self.down()?;
        if terms.is_empty() {
            return Err(Error::Empty(WHAT));
        }
        let mut slots = a.slots;
        let mut checked = Vec::with_capacity(terms.len());
        for &(step, weight) in terms {
            let mismatch = |right| Error::ScaleMismatch {
                operation: WHAT,
                left: scale,
                right,
            };
            let weight = match weight {
                Weight::One if scale.matches(Scale::ONE) => TermWeight::One,
                Weight::One => return Err(mismatch(Scale::ONE)),
                Weight::Scalar(w) => {
                    let scaled = (w * scale.0).round_ties_even();
                    if !scaled.is_finite() {
                        return Err(Error::NotFinite { index: 0, value: w });
                    }
                    TermWeight::Integer(scaled)
                }
                Weight::Plain(p) => {
                    self.check_tag("the weight", p.tag)?;
                    if !scale.matches(p.scale) {
                        return Err(mismatch(p.scale));
                    }
                    if p.level < a.level {
                        return Err(Error::Level {
                            operation: WHAT,
                            needed: a.level,
                            found: p.level,
                            help: "encode the weight at the level of the ciphertext or above",
                        });
                    }
                    slots = slots.max(p.slots);
                    TermWeight::Plain(p)
                }
            };
            checked.push(Term {
                rotation: self.rotation(a, step, keys)?,
                weight,
            });
        }
        Ok((checked, slots))
    }

    /// Σ w·rotation modulo QP, times P.
    fn rotated_products(
        &self,
        a: &Ciphertext,
        terms: &[(RotationStep, Weight<'_>)],
        scale: Scale,
        keys: &EvaluationKeys,
    ) -> Result<([Poly<Eval>; 2], usize)> {
        let down = self.down()?;
        let (checked, slots) = self.checked_terms(a, terms, scale, keys)?;
        let permutations: Vec<_> = checked
            .iter()
            .map(|t| t.rotation.map(|(_, element)| self.permutation(element)))
            .collect();
        let n = self.n();
        let limbs = a.level.limbs();
        let extended = limbs + self.special();
        let digits = self.digits_of(&a.polys[1], a.level);
        let mut sums = [self.uninit::<Eval>(extended), self.uninit(extended)];
        let [s0, s1] = &mut sums;
        let rows: Vec<_> = s0
            .words_mut()
            .chunks_mut(n)
            .zip(s1.words_mut().chunks_mut(n))
            .collect();
        self.each(rows, |j, (s0, s1)| {
            let prime = self.extended_prime(a.level, j);
            let m = self.modulus(prime);
            s0.fill(0);
            s1.fill(0);
            let mut work: Poly<Eval> = self.uninit(3);
            let (t0, rest) = work.words_mut().split_at_mut(n);
            let (t1, spread) = rest.split_at_mut(n);
            self.with_digits(&digits, j, |x| {
                for (term, permutation) in checked.iter().zip(&permutations) {
                    match (term.rotation, permutation) {
                        (Some((key, _)), Some(_)) => {
                            let row = self.key_row(key, a.level, j);
                            if j < limbs {
                                let c = [a.polys[0].limb(j)];
                                m.key_dot(t0, t1, x, &row, &c, down.product[j]);
                            } else {
                                m.key_dot(t0, t1, x, &row, &[], 0);
                            }
                        }
                        _ if j < limbs => {
                            m.mul_const_to(t0, a.polys[0].limb(j), down.product[j]);
                            m.mul_const_to(t1, a.polys[1].limb(j), down.product[j]);
                        }
                        _ => continue,
                    }
                    let weight = match &term.weight {
                        TermWeight::One => Factor::Number(m.enter(1)),
                        TermWeight::Integer(w) => Factor::Number(enter_float(m, *w)),
                        TermWeight::Plain(p) => Factor::Limb(p.spread(a.level, j, spread)),
                    };
                    for (s, t) in [(&mut *s0, &*t0), (&mut *s1, &*t1)] {
                        match (permutation, weight) {
                            (Some(p), weight) => p.mul_add_assign(m, s, t, weight),
                            (None, Factor::Limb(w)) => m.mul_add_assign(s, t, w),
                            (None, Factor::Number(w)) => m.mul_const_add_assign(s, t, w),
                        }
                    }
                }
            });
        });
        Ok((sums, slots))
    }
}
