//! Hybrid key switching (Han, Ki, eprint 2019/688) and what is built on it: relinearization, rotation,
//! conjugation, hoisting and double hoisting (Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux, eprint
//! 2020/1203).
//!
//! Everything runs limb by limb of the result: all digits are brought to one prime, transformed, and
//! multiplied with the keys there, so that one limb of each digit is all that is in flight and each
//! residue is reduced once.

use std::ops::Range;
use std::sync::Arc;

use hecc_params::{GaloisElement, Level, RotationStep, Scale};

use crate::context::Context;
use crate::encoder::enter_float;
use crate::ring::automorphism::{Factor, Permutation};
use crate::ring::basis::Converter;
use crate::ring::kernels::KeyRow;
use crate::ring::modulus::Modulus;
use crate::ring::{Coeff, Domain, Eval, Poly};
use crate::tasks::{Failed, Slot};
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
    /// For each digit its y_i and its v, ready for conversion.
    prepared: Vec<Slot<'a, Poly<Coeff>>>,
}

/// All digits modulo one prime, in NTT form once their blocks are finished.
pub(crate) struct DigitRow<'a> {
    context: &'a Context,
    digits: &'a Digits<'a>,
    prime: usize,
    /// A limb for each digit; the digit that the prime belongs to is taken from the polynomial.
    work: Poly<Eval>,
}

impl DigitRow<'_> {
    fn foreign(&self) -> impl Iterator<Item = usize> + use<> {
        let (own, count) = (self.context.own_digit(self.prime), self.work.limbs());
        (0..count).filter(move |&d| Some(d) != own)
    }

    /// Finishes the block of coefficients from `start` on, while the memory at `ahead` is fetched.
    fn finish(&mut self, start: usize, ahead: &[u8]) {
        let ntt = &self.context.primes()[self.prime];
        let share = ahead.len().div_ceil(self.foreign().count().max(1));
        let mut ahead = ahead.chunks(share.max(1));
        for d in self.foreign() {
            ntt.finish_block(
                self.work.limb_mut(d),
                start,
                ahead.next().unwrap_or_default(),
            );
        }
    }

    /// The finished block.
    fn at(&self, block: Range<usize>) -> Vec<&[u64]> {
        let own = self.context.own_digit(self.prime);
        (0..self.work.limbs())
            .map(|d| {
                let limb = if Some(d) == own {
                    self.digits.poly.limb(self.prime)
                } else {
                    self.work.limb(d)
                };
                &limb[block.clone()]
            })
            .collect()
    }
}

/// A key that digits are switched with.
pub(crate) struct Switch<'a> {
    key: &'a KeySwitchKey,
    /// The automorphism that the result is taken through.
    permutation: Option<Arc<Permutation>>,
}

/// What is added, times P, to products of digits with a key.
struct Added<'a> {
    polys: &'a [&'a Poly<Eval>],
    /// P modulo each prime.
    p: &'a [u64],
    level: Level,
}

/// What [`Context::switch`] does.
struct Switching<'a> {
    add: Added<'a>,
    switches: &'a [Switch<'a>],
    /// From the primes that are divided by.
    converter: &'a Converter,
    /// Limbs of a result; the next ones are divided by.
    targets: usize,
}

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

impl<'a> TermWeight<'a> {
    /// The weight modulo the prime of extended limb `j` of a polynomial at `level`.
    fn factor(&self, m: &Modulus, level: Level, j: usize) -> Factor<'a> {
        match *self {
            TermWeight::One => Factor::Number(m.enter(1)),
            TermWeight::Integer(w) => Factor::Number(enter_float(m, w)),
            TermWeight::Plain(p) if p.repeat == 1 => Factor::Limb(p.limb(level, j)),
            TermWeight::Plain(p) => Factor::Runs(p.limb(level, j), p.repeat),
        }
    }
}

/// Limb after limb of all of `polys`, which have equally many.
fn limbs_of_all<D: Domain>(polys: &mut [Poly<D>]) -> Vec<Vec<&mut [u64]>> {
    let mut limbs: Vec<Vec<&mut [u64]>> = Vec::new();
    let count = polys.len();
    for poly in polys {
        let n = poly.degree();
        limbs.resize_with(poly.limbs(), || Vec::with_capacity(count));
        for (all, limb) in limbs.iter_mut().zip(poly.words_mut().chunks_exact_mut(n)) {
            all.push(limb);
        }
    }
    limbs
}

/// Bytes of digits modulo one prime that stay in the second cache through a whole switch; larger ones are read
/// from the third, by two switches at a time.
const DIGITS_STAY: usize = 1 << 18;

/// Fewest limbs of a result of which each is computed from beginning to end by one thread.
const LONG: usize = 8;

impl Context {
    /// Divides by the product of some limbs of each of `x` and rounds. All have limbs of primes 0, 1, …, and
    /// those of `converter` at the places from `source` on; the results have `targets` limbs.
    pub(crate) fn divide(
        &self,
        x: &[&Poly<Eval>],
        converter: &Converter,
        source: usize,
        targets: usize,
    ) -> Vec<Poly<Eval>> {
        enum Task<'a> {
            Prepare(usize),
            Divide(usize, usize, &'a mut [u64]),
        }
        let failed = Failed::default();
        let prepared: Vec<Slot<'_, Poly<Coeff>>> = x.iter().map(|_| Slot::empty(&failed)).collect();
        let mut out: Vec<Poly<Eval>> = x.iter().map(|_| self.uninit(targets)).collect();
        let n = self.n();
        let mut tasks: Vec<Task<'_>> = (0..x.len()).map(Task::Prepare).collect();
        for (part, out) in out.iter_mut().enumerate() {
            let limbs = out.words_mut().chunks_mut(n).enumerate();
            tasks.extend(limbs.map(|(j, out)| Task::Divide(part, j, out)));
        }
        self.in_order(&failed, tasks, |task| match task {
            Task::Prepare(part) => {
                prepared[part].fill(self.prepare(converter, |i| x[part].limb(source + i)));
            }
            Task::Divide(part, j, out) => {
                let x = x[part].limb(j);
                self.divide_limb(converter, prepared[part].get(), x, None, j, out);
            }
        });
        out
    }

    /// Limb `j` of a quotient.
    fn divide_limb(
        &self,
        converter: &Converter,
        prepared: &Poly<Coeff>,
        x: &[u64],
        permutation: Option<&Permutation>,
        j: usize,
        out: &mut [u64],
    ) {
        let mut work: Poly<Eval> = self.uninit(1);
        let (prepared, work) = (prepared.words(), work.words_mut());
        converter.divide(self.primes(), j, prepared, x, permutation, work, out);
    }

    /// The limbs `limb(i)` of the sources of `converter` as it wants them.
    fn prepare<'a>(&self, converter: &Converter, limb: impl Fn(usize) -> &'a [u64]) -> Poly<Coeff> {
        let mut prepared: Poly<Coeff> = self.uninit(converter.prepared_limbs(self.n()));
        let mut work: Poly<Coeff> = self.uninit(1);
        let (work, words) = (work.words_mut(), prepared.words_mut());
        converter.prepare(self.primes(), self.path(), limb, work, words);
        prepared
    }

    pub(crate) fn digits_of<'a>(&self, poly: &'a Poly<Eval>, level: Level) -> Digits<'a> {
        let failed = Failed::default();
        let slots: Vec<_> = (0..self.digits(level))
            .map(|_| Slot::empty(&failed))
            .collect();
        self.in_order(&failed, 0..slots.len(), |d| {
            slots[d].fill(self.digit(poly, level, d));
        });
        let filled = slots.into_iter().filter_map(Slot::into_filled);
        Digits {
            poly,
            level,
            prepared: filled.collect(),
        }
    }

    /// Digit `d` of a polynomial.
    fn digit(&self, poly: &Poly<Eval>, level: Level, d: usize) -> Poly<Coeff> {
        let first = d * self.parameters().digit_limbs();
        self.prepare(self.digit_converter(level, d), |i| poly.limb(first + i))
    }

    /// The converter from digit `d` of a polynomial at `level`.
    fn digit_converter(&self, level: Level, d: usize) -> &Converter {
        let alpha = self.parameters().digit_limbs();
        self.up(d, alpha.min(level.limbs() - d * alpha))
    }

    /// The digit that a prime belongs to; none for special primes.
    fn own_digit(&self, prime: usize) -> Option<usize> {
        (prime < self.chain()).then(|| prime / self.parameters().digit_limbs())
    }

    /// All digits modulo the prime of extended limb `j`, no block of them finished.
    fn digit_row<'a>(&'a self, digits: &'a Digits<'_>, j: usize) -> DigitRow<'a> {
        let prime = self.extended_prime(digits.level, j);
        let mut row = DigitRow {
            context: self,
            digits,
            prime,
            work: self.uninit(digits.prepared.len()),
        };
        for d in row.foreign() {
            self.digit_converter(digits.level, d).begin(
                self.primes(),
                prime,
                digits.prepared[d].get().words(),
                row.work.limb_mut(d),
            );
        }
        row
    }

    /// Calls `f(block, all digits there modulo the prime of extended limb j, in NTT form)` for every block of
    /// coefficients, right after the block was transformed. Meanwhile `row`, which `f` will read, is fetched.
    pub(crate) fn with_digit_blocks(
        &self,
        digits: &Digits<'_>,
        j: usize,
        row: &KeyRow<'_>,
        mut f: impl FnMut(Range<usize>, &[&[u64]]),
    ) {
        let n = self.n();
        let mut digits = self.digit_row(digits, j);
        let block = self.primes()[digits.prime].block(n);
        for start in (0..n).step_by(block) {
            digits.finish(start, row.from(start).first(block));
            let block = start..start + block;
            f(block.clone(), &digits.at(block));
        }
    }

    /// Calls `f(all digits modulo the prime of extended limb j, in NTT form)`.
    pub(crate) fn with_digits<T>(
        &self,
        digits: &Digits<'_>,
        j: usize,
        f: impl FnOnce(&[&[u64]]) -> T,
    ) -> T {
        let n = self.n();
        let mut digits = self.digit_row(digits, j);
        for start in (0..n).step_by(self.primes()[digits.prime].block(n)) {
            digits.finish(start, &[]);
        }
        f(&digits.at(0..n))
    }

    /// The row of a key for extended limb j of a polynomial at `level`.
    pub(crate) fn key_row<'a>(&self, key: &'a KeySwitchKey, level: Level, j: usize) -> KeyRow<'a> {
        key.row(if j < level.limbs() {
            j
        } else {
            j - level.limbs() + key.level.limbs()
        })
    }

    /// A block of extended limb `j` of the pair (b, a)·digits + P·add modulo QP, from the digits there; `add` are
    /// up to two polynomials.
    fn key_product(
        &self,
        add: &Added<'_>,
        j: usize,
        x: &[&[u64]],
        key: &KeySwitchKey,
        block: Range<usize>,
        [out0, out1]: [&mut [u64]; 2],
    ) {
        let level = add.level;
        let m = self.modulus(self.extended_prime(level, j));
        let row = self.key_row(key, level, j).from(block.start);
        // P is zero modulo the special primes.
        let (add, p) = match j < level.limbs() {
            true => (add.polys, add.p[j]),
            false => (&[][..], 0),
        };
        let mut limbs: [&[u64]; 2] = [&[]; 2];
        for (limb, c) in limbs.iter_mut().zip(add) {
            *limb = &c.limb(j)[block.clone()];
        }
        m.key_dot(out0, out1, x, &row, &limbs[..add.len()], p);
    }

    /// For each of `switches` the two polynomials (b, a)·digits + P·add, divided by P and by the last `dropped` (0
    /// or 1) primes of the level; all one after the other. The digits are those of `poly`.
    ///
    /// The limbs that are divided by come first. After that every limb of the results is computed from beginning
    /// to end, block by block, while its numbers are in the second cache, unless threads are to share fewer limbs
    /// than would keep them all busy.
    fn switch(
        &self,
        poly: &Poly<Eval>,
        level: Level,
        switches: &[Switch<'_>],
        add: &[&Poly<Eval>],
        dropped: usize,
    ) -> Result<Vec<Poly<Eval>>> {
        let down = self.down()?;
        let converter = if dropped == 0 {
            down
        } else {
            self.down_rescale(level)
        };
        let switching = Switching {
            add: Added {
                polys: add,
                p: &down.product,
                level,
            },
            switches,
            converter,
            targets: level.limbs() - dropped,
        };
        Ok(if self.is_parallel() {
            self.switch_on_threads(poly, &switching)
        } else {
            self.switch_alone(poly, &switching)
        })
    }

    fn switch_alone(&self, poly: &Poly<Eval>, switching: &Switching<'_>) -> Vec<Poly<Eval>> {
        let digits = self.digits_of(poly, switching.add.level);
        let converter = switching.converter;
        let parts = 2 * switching.switches.len();
        let mut prepared: Vec<Poly<Coeff>> = (0..parts)
            .map(|_| self.uninit(converter.prepared_limbs(self.n())))
            .collect();
        for i in 0..converter.sources.len() {
            self.switch_divisor(&digits, switching, i, &mut prepared);
        }
        for prepared in &mut prepared {
            converter.finish_sources(self.path(), self.n(), prepared.words_mut());
        }
        let prepared: Vec<&Poly<Coeff>> = prepared.iter().collect();
        let mut out: Vec<Poly<Eval>> = (0..parts).map(|_| self.uninit(switching.targets)).collect();
        for (j, rows) in limbs_of_all(&mut out).into_iter().enumerate() {
            self.switch_limb(&digits, switching, &prepared, j, rows);
        }
        out
    }

    fn switch_on_threads(&self, poly: &Poly<Eval>, switching: &Switching<'_>) -> Vec<Poly<Eval>> {
        enum Task<'a> {
            Digit(usize),
            /// The products that make a limb: first those that are divided by, then others.
            Product(usize),
            Prepare(usize),
            Limb(usize, Vec<&'a mut [u64]>),
            Divide(usize, usize, &'a mut [u64]),
        }
        let &Switching {
            switches,
            converter,
            targets,
            ..
        } = switching;
        let level = switching.add.level;
        let parts = 2 * switches.len();
        let divisors = converter.sources.len();
        // How many limbs are not computed from beginning to end: few are all shared in smaller pieces, and of many
        // so many that all threads have something to do until the divisors are known.
        let threads = rayon::current_num_threads();
        let split = if targets < LONG {
            targets
        } else {
            divisors.next_multiple_of(threads) - divisors
        };
        let failed = Failed::default();
        let digits = Digits {
            poly,
            level,
            prepared: (0..self.digits(level))
                .map(|_| Slot::empty(&failed))
                .collect(),
        };
        // By limb, all parts.
        let products: Vec<Slot<'_, Poly<Eval>>> = (0..divisors + split)
            .map(|_| Slot::empty(&failed))
            .collect();
        let prepared: Vec<Slot<'_, Poly<Coeff>>> =
            (0..parts).map(|_| Slot::empty(&failed)).collect();
        let mut out: Vec<Poly<Eval>> = (0..parts).map(|_| self.uninit(targets)).collect();
        let mut tasks: Vec<Task<'_>> = (0..digits.prepared.len()).map(Task::Digit).collect();
        tasks.extend((0..divisors + split).map(Task::Product));
        tasks.extend((0..parts).map(Task::Prepare));
        let mut last = Vec::new();
        for (j, rows) in limbs_of_all(&mut out).into_iter().enumerate() {
            if j < split {
                let rows = rows.into_iter().enumerate();
                last.extend(rows.map(|(part, out)| Task::Divide(part, j, out)));
            } else {
                tasks.push(Task::Limb(j, rows));
            }
        }
        tasks.extend(last);
        self.in_order(&failed, tasks, |task| match task {
            Task::Digit(d) => digits.prepared[d].fill(self.digit(poly, level, d)),
            Task::Product(i) => {
                let j = if i < divisors {
                    targets + i
                } else {
                    i - divisors
                };
                products[i].fill(self.switch_product(&digits, switching, j));
            }
            Task::Prepare(part) => {
                prepared[part].fill(self.prepare(converter, |i| products[i].get().limb(part)));
            }
            Task::Limb(j, rows) => {
                let prepared: Vec<&Poly<Coeff>> = prepared.iter().map(Slot::get).collect();
                self.switch_limb(&digits, switching, &prepared, j, rows);
            }
            Task::Divide(part, j, out) => {
                let x = products[divisors + j].get().limb(part);
                let permutation = switches[part / 2].permutation.as_deref();
                self.divide_limb(converter, prepared[part].get(), x, permutation, j, out);
            }
        });
        out
    }

    /// Extended limb `j` of all parts, undivided.
    fn switch_product(
        &self,
        digits: &Digits<'_>,
        switching: &Switching<'_>,
        j: usize,
    ) -> Poly<Eval> {
        let Switching { add, switches, .. } = switching;
        let n = self.n();
        let mut products: Poly<Eval> = self.uninit(2 * switches.len());
        let first = self.key_row(switches[0].key, add.level, j);
        self.with_digit_blocks(digits, j, &first, |block, x| {
            let pairs = products.words_mut().chunks_exact_mut(2 * n);
            for (switch, pair) in switches.iter().zip(pairs) {
                let (out0, out1) = pair.split_at_mut(n);
                let out = [&mut out0[block.clone()], &mut out1[block.clone()]];
                self.key_product(add, j, x, switch.key, block.clone(), out);
            }
        });
        products
    }

    /// What source number `i` of the division gives to `prepared`, for all parts.
    fn switch_divisor(
        &self,
        digits: &Digits<'_>,
        switching: &Switching<'_>,
        i: usize,
        prepared: &mut [Poly<Coeff>],
    ) {
        let &Switching {
            ref add,
            switches,
            converter,
            targets,
        } = switching;
        let (n, j) = (self.n(), targets + i);
        let primes = self.primes();
        let mut row = self.digit_row(digits, j);
        let block = primes[row.prime].block(n);
        let key_block = |s: usize, start| {
            let switch = switches.get(s);
            switch.map(|s| self.key_row(s.key, add.level, j).from(start).first(block))
        };
        let mut work: Poly<Eval> = self.uninit(2);
        let (work0, work1) = work.words_mut().split_at_mut(n);
        let mut products: Poly<Eval> = self.uninit(2);
        let (x0, x1) = products.words_mut()[..2 * block].split_at_mut(block);
        for (s, (switch, prepared)) in switches
            .iter()
            .zip(prepared.chunks_exact_mut(2))
            .enumerate()
        {
            for start in (0..n).step_by(block) {
                if s == 0 {
                    row.finish(start, key_block(0, start).unwrap_or_default());
                }
                let range = start..start + block;
                let x = row.at(range.clone());
                self.key_product(add, j, &x, switch.key, range, [&mut *x0, &mut *x1]);
                let ahead = match start + block {
                    next if next == n => key_block(s + 1, 0),
                    next if s > 0 => key_block(s, next),
                    // It is fetched while the digits are finished.
                    _ => None,
                };
                let ahead = ahead.unwrap_or_default();
                let (ahead0, ahead1) = ahead.split_at(ahead.len() / 2);
                converter.begin_source(primes, i, start, x0, work0, ahead0);
                converter.begin_source(primes, i, start, x1, work1, ahead1);
            }
            for (work, prepared) in [&mut *work0, &mut *work1].into_iter().zip(prepared) {
                converter.finish_source(primes, i, work, prepared.words_mut());
            }
        }
    }

    /// Limb `j` of every result of [`Self::switch`], when what they are divided by is prepared.
    fn switch_limb(
        &self,
        digits: &Digits<'_>,
        switching: &Switching<'_>,
        prepared: &[&Poly<Coeff>],
        j: usize,
        mut outs: Vec<&mut [u64]>,
    ) {
        let &Switching {
            ref add,
            switches,
            converter,
            ..
        } = switching;
        let n = self.n();
        let primes = self.primes();
        let block = primes[j].block(n);
        let mut row = self.digit_row(digits, j);
        let fits = size_of_val(row.work.words()) <= DIGITS_STAY;
        let group = switches.len().min(if fits { 1 } else { 2 });
        let key_block = |s: usize, start| {
            let switch = switches.get(s);
            switch.map(|s| self.key_row(s.key, add.level, j).from(start).first(block))
        };
        let mut work: Poly<Eval> = self.uninit(2 * group);
        let mut products: Poly<Eval> = self.uninit(2);
        let (x0, x1) = products.words_mut()[..2 * block].split_at_mut(block);
        for first in (0..switches.len()).step_by(group) {
            let group = first..(first + group).min(switches.len());
            let prepared = &prepared[2 * group.start..2 * group.end];
            for (prepared, work) in prepared.iter().zip(work.words_mut().chunks_mut(n)) {
                converter.begin(primes, j, prepared.words(), work);
            }
            for start in (0..n).step_by(block) {
                if first == 0 {
                    row.finish(start, key_block(0, start).unwrap_or_default());
                }
                let range = start..start + block;
                let x = row.at(range.clone());
                for s in group.clone() {
                    let switch = &switches[s];
                    self.key_product(add, j, &x, switch.key, range.clone(), [&mut *x0, &mut *x1]);
                    let ahead = match start + block {
                        _ if s + 1 < group.end => key_block(s + 1, start),
                        next if next == n => key_block(s + 1, 0),
                        next if first > 0 => key_block(first, next),
                        // It is fetched while the digits are finished.
                        _ => None,
                    };
                    let ahead = ahead.unwrap_or_default();
                    let (ahead0, ahead1) = ahead.split_at(ahead.len() / 2);
                    for (half, x, ahead) in [(0, &*x0, ahead0), (1, &*x1, ahead1)] {
                        let permutation = switch.permutation.as_deref();
                        let work = work.limb_mut(2 * (s - first) + half);
                        let out = &mut *outs[2 * s + half];
                        converter.finish_division(
                            primes,
                            j,
                            start,
                            x,
                            permutation,
                            work,
                            out,
                            ahead,
                        );
                    }
                }
            }
        }
    }

    /// Divides by P.
    pub(crate) fn mod_down(&self, x: &[&Poly<Eval>], level: Level) -> Result<Vec<Poly<Eval>>> {
        let limbs = level.limbs();
        Ok(self.divide(x, self.down()?, limbs, limbs))
    }

    /// Divides by P and the last prime of the level.
    pub(crate) fn mod_down_rescale(&self, x: &[&Poly<Eval>], level: Level) -> Vec<Poly<Eval>> {
        let last = level.limbs() - 1;
        self.divide(x, self.down_rescale(level), last, last)
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
        Ok(Ciphertext {
            polys: self.relinearized(a, keys, 0)?,
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
        Ok(Ciphertext {
            polys: self.relinearized(a, keys, 1)?,
            level: below,
            scale: self.rescaled(a.scale, a.level),
            ..self.shape_of(a)
        })
    }

    /// (P·(c_0, c_1) + c_2·key)/P, divided by the last `dropped` primes too.
    fn relinearized(
        &self,
        a: &Ciphertext,
        keys: &EvaluationKeys,
        dropped: usize,
    ) -> Result<Vec<Poly<Eval>>> {
        self.check_ciphertext(a)?;
        self.check_degree(
            "relinearize",
            a,
            2,
            "only a product without relinearization needs it",
        )?;
        self.down()?;
        let key = self.relinearization_key(keys, a.level)?;
        let switch = Switch {
            key,
            permutation: None,
        };
        let [c0, c1, c2] = [&a.polys[0], &a.polys[1], &a.polys[2]];
        self.switch(c2, a.level, &[switch], &[c0, c1], dropped)
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
        let switches: Vec<Switch<'_>> = maps
            .iter()
            .flatten()
            .map(|&(key, element)| Switch {
                key,
                permutation: Some(self.permutation(element)),
            })
            .collect();
        let mut moved = Vec::new();
        if !switches.is_empty() {
            moved = self.switch(&a.polys[1], a.level, &switches, &[&a.polys[0]], 0)?;
        }
        let mut moved = moved.into_iter();
        let all = maps.iter().map(|map| match map {
            None => a.clone(),
            Some(_) => Ciphertext {
                polys: moved.by_ref().take(2).collect(),
                ..self.shape_of(a)
            },
        });
        Ok(all.collect())
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
        Ok(Ciphertext {
            polys: self.mod_down(&[&sums[0], &sums[1]], a.level)?,
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
            polys: self.mod_down_rescale(&[&sums[0], &sums[1]], a.level),
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
            let p = down.product.get(j).copied().unwrap_or(0);
            let mut turned = Vec::with_capacity(checked.len());
            for (term, permutation) in checked.iter().zip(&permutations) {
                match (term.rotation, permutation) {
                    (Some((key, _)), Some(permutation)) => {
                        let row = self.key_row(key, a.level, j);
                        let weight = term.weight.factor(m, a.level, j);
                        turned.push((row, permutation, weight));
                    }
                    _ if j < limbs => self.add_still(m, [&mut *s0, &mut *s1], a, j, p, term),
                    _ => {}
                }
            }
            let Some((first, ..)) = turned.first() else {
                return;
            };
            self.with_digit_blocks(&digits, j, first, |block, x| {
                let added: &[&[u64]] = if j < limbs {
                    &[&a.polys[0].limb(j)[block.clone()]]
                } else {
                    &[]
                };
                for (row, permutation, weight) in &turned {
                    let row = row.from(block.start);
                    let sums = [&mut *s0, &mut *s1];
                    permutation.key_dot_add(m, sums, block.start, x, &row, added, p, *weight);
                }
            });
        });
        Ok((sums, slots))
    }

    /// Adds a term that is not rotated to limb `j` of the sums, times P.
    fn add_still(
        &self,
        m: &Modulus,
        sums: [&mut [u64]; 2],
        a: &Ciphertext,
        j: usize,
        p: u64,
        term: &Term<'_>,
    ) {
        let n = self.n();
        let mut work: Poly<Eval> = self.uninit(2);
        let (t, spread) = work.words_mut().split_at_mut(n);
        let weight = match &term.weight {
            TermWeight::Plain(p) => Factor::Limb(p.spread(a.level, j, spread)),
            other => other.factor(m, a.level, j),
        };
        for (sum, poly) in sums.into_iter().zip(&a.polys) {
            m.mul_const_to(t, poly.limb(j), p);
            match weight {
                Factor::Number(w) => m.mul_const_add_assign(sum, t, w),
                Factor::Limb(w) | Factor::Runs(w, _) => m.mul_add_assign(sum, t, w),
            }
        }
    }
}
