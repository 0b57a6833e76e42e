//! Arithmetic on ciphertexts that needs no keys.

use hecc_params::{Level, Scale};
use num_complex::Complex64;

use crate::context::Context;
use crate::encoder::enter_float;
use crate::ring::modulus::{MAX_TERMS, Modulus};
use crate::ring::{Eval, Poly};
use crate::{Ciphertext, Error, Plaintext, Result};

impl Context {
    pub(crate) fn check_ciphertext(&self, ct: &Ciphertext) -> Result<()> {
        self.check_tag("the ciphertext", ct.tag)?;
        self.check_scale(ct.scale)?;
        self.check_slots(ct.slots)
    }

    pub(crate) fn check_degree(
        &self,
        operation: &'static str,
        ct: &Ciphertext,
        needed: usize,
        help: &'static str,
    ) -> Result<()> {
        if ct.degree() == needed {
            Ok(())
        } else {
            Err(Error::Degree {
                operation,
                needed,
                found: ct.degree(),
                help,
            })
        }
    }

    fn check_plaintext(
        &self,
        operation: &'static str,
        ct: &Ciphertext,
        pt: &Plaintext,
    ) -> Result<()> {
        self.check_ciphertext(ct)?;
        self.check_tag("the plaintext", pt.tag)?;
        self.check_scale(pt.scale)?;
        if pt.level < ct.level {
            return Err(Error::Level {
                operation,
                needed: ct.level,
                found: pt.level,
                help: "encode the plaintext at the level of the ciphertext or above",
            });
        }
        Ok(())
    }

    pub(crate) fn check_same_level(
        &self,
        operation: &'static str,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<()> {
        self.check_ciphertext(a)?;
        self.check_ciphertext(b)?;
        if a.level != b.level {
            return Err(Error::Level {
                operation,
                needed: a.level,
                found: b.level,
                help: "drop the higher one to the level of the lower",
            });
        }
        Ok(())
    }

    pub(crate) fn check_same_scale(
        &self,
        operation: &'static str,
        left: Scale,
        right: Scale,
    ) -> Result<()> {
        if left.matches(right) {
            Ok(())
        } else {
            Err(Error::ScaleMismatch {
                operation,
                left,
                right,
            })
        }
    }

    /// A ciphertext of the same level, scale and slots with anything in it.
    pub(crate) fn like(&self, a: &Ciphertext, polys: usize) -> Ciphertext {
        Ciphertext {
            polys: (0..polys).map(|_| self.uninit(a.level.limbs())).collect(),
            ..self.shape_of(a)
        }
    }

    /// The same without polynomials.
    pub(crate) fn shape_of(&self, a: &Ciphertext) -> Ciphertext {
        Ciphertext {
            polys: Vec::new(),
            level: a.level,
            scale: a.scale,
            slots: a.slots,
            tag: self.tag(),
        }
    }

    /// A transparent encryption of zero: (0, 0). It hides nothing; it is the neutral element of a sum.
    ///
    /// # Errors
    /// [`Error::Level`], [`Error::BadScale`], [`Error::Slots`].
    pub fn zero(&self, level: Level, scale: Scale, slots: usize) -> Result<Ciphertext> {
        self.check_level("zero", level)?;
        self.check_scale(scale)?;
        self.check_slots(slots)?;
        Ok(Ciphertext {
            polys: vec![self.zeros(level.limbs()), self.zeros(level.limbs())],
            level,
            scale,
            slots,
            tag: self.tag(),
        })
    }

    /// a + b. Degrees may differ.
    ///
    /// # Errors
    /// [`Error::Level`] and [`Error::ScaleMismatch`] unless level and scale are the same,
    /// [`Error::Foreign`].
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.check_same_level("add", a, b)?;
        self.check_same_scale("add", a.scale, b.scale)?;
        let (long, short) = if a.polys.len() >= b.polys.len() {
            (a, b)
        } else {
            (b, a)
        };
        let mut polys = Vec::with_capacity(3);
        for (i, x) in long.polys.iter().enumerate() {
            polys.push(match short.polys.get(i) {
                Some(y) => {
                    let mut sum = self.uninit(a.level.limbs());
                    self.each_limb(&mut sum, |j, out| {
                        self.modulus(j).add_to(out, x.limb(j), y.limb(j));
                    });
                    sum
                }
                None => x.clone(),
            });
        }
        Ok(Ciphertext {
            polys,
            slots: a.slots.max(b.slots),
            ..self.shape_of(a)
        })
    }

    /// a += b. Degrees may differ.
    ///
    /// # Errors
    /// As [`Context::add`]; a is then as it was.
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check_same_level("add", a, b)?;
        self.check_same_scale("add", a.scale, b.scale)?;
        for (i, y) in b.polys.iter().enumerate() {
            match a.polys.get_mut(i) {
                Some(x) => self.each_limb(x, |j, limb| {
                    self.modulus(j).add_assign(limb, y.limb(j));
                }),
                None => a.polys.push(y.clone()),
            }
        }
        a.slots = a.slots.max(b.slots);
        Ok(())
    }

    /// a − b. Degrees may differ.
    ///
    /// # Errors
    /// As [`Context::add`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.check_same_level("subtract", a, b)?;
        self.check_same_scale("subtract", a.scale, b.scale)?;
        let mut polys = Vec::with_capacity(3);
        for i in 0..a.polys.len().max(b.polys.len()) {
            let mut out = self.uninit(a.level.limbs());
            match (a.polys.get(i), b.polys.get(i)) {
                (Some(x), Some(y)) => self.each_limb(&mut out, |j, out| {
                    self.modulus(j).sub_to(out, x.limb(j), y.limb(j));
                }),
                (Some(x), None) => out.words_mut().copy_from_slice(x.words()),
                (None, Some(y)) => self.each_limb(&mut out, |j, out| {
                    self.modulus(j).neg_to(out, y.limb(j));
                }),
                (None, None) => {}
            }
            polys.push(out);
        }
        Ok(Ciphertext {
            polys,
            slots: a.slots.max(b.slots),
            ..self.shape_of(a)
        })
    }

    /// a −= b. Degrees may differ.
    ///
    /// # Errors
    /// As [`Context::add`]; a is then as it was.
    pub fn sub_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check_same_level("subtract", a, b)?;
        self.check_same_scale("subtract", a.scale, b.scale)?;
        for (i, y) in b.polys.iter().enumerate() {
            match a.polys.get_mut(i) {
                Some(x) => self.each_limb(x, |j, limb| {
                    self.modulus(j).sub_assign(limb, y.limb(j));
                }),
                None => {
                    let mut out = self.uninit(a.level.limbs());
                    self.each_limb(&mut out, |j, out| self.modulus(j).neg_to(out, y.limb(j)));
                    a.polys.push(out);
                }
            }
        }
        a.slots = a.slots.max(b.slots);
        Ok(())
    }

    /// −a.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn negate(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        let mut out = self.like(a, a.polys.len());
        for (x, out) in a.polys.iter().zip(&mut out.polys) {
            self.each_limb(out, |j, out| self.modulus(j).neg_to(out, x.limb(j)));
        }
        Ok(out)
    }

    /// a = −a.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn negate_assign(&self, a: &mut Ciphertext) -> Result<()> {
        self.check_ciphertext(a)?;
        for x in &mut a.polys {
            self.each_limb(x, |j, limb| self.modulus(j).neg_assign(limb));
        }
        Ok(())
    }

    /// a + b with b a plaintext at the level of a or above.
    ///
    /// # Errors
    /// [`Error::Level`], [`Error::ScaleMismatch`], [`Error::Foreign`].
    pub fn add_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plaintext("add a plaintext", a, b)?;
        self.check_same_scale("add a plaintext", a.scale, b.scale)?;
        let mut out = a.clone();
        self.add_plain_assign(&mut out, b)?;
        Ok(out)
    }

    /// a += b with b a plaintext at the level of a or above.
    ///
    /// # Errors
    /// As [`Context::add_plain`].
    pub fn add_plain_assign(&self, a: &mut Ciphertext, b: &Plaintext) -> Result<()> {
        self.check_plaintext("add a plaintext", a, b)?;
        self.check_same_scale("add a plaintext", a.scale, b.scale)?;
        self.each_limb(&mut a.polys[0], |j, limb| {
            self.modulus(j).add_assign(limb, b.poly.limb(j));
        });
        a.slots = a.slots.max(b.slots);
        Ok(())
    }

    /// a − b with b a plaintext at the level of a or above.
    ///
    /// # Errors
    /// As [`Context::add_plain`].
    pub fn sub_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plaintext("subtract a plaintext", a, b)?;
        self.check_same_scale("subtract a plaintext", a.scale, b.scale)?;
        let mut out = a.clone();
        self.sub_plain_assign(&mut out, b)?;
        Ok(out)
    }

    /// a −= b with b a plaintext at the level of a or above.
    ///
    /// # Errors
    /// As [`Context::add_plain`].
    pub fn sub_plain_assign(&self, a: &mut Ciphertext, b: &Plaintext) -> Result<()> {
        self.check_plaintext("subtract a plaintext", a, b)?;
        self.check_same_scale("subtract a plaintext", a.scale, b.scale)?;
        self.each_limb(&mut a.polys[0], |j, limb| {
            self.modulus(j).sub_assign(limb, b.poly.limb(j));
        });
        a.slots = a.slots.max(b.slots);
        Ok(())
    }

    /// a·b with b a plaintext at the level of a or above; scales multiply.
    ///
    /// # Errors
    /// [`Error::Level`], [`Error::Foreign`].
    pub fn mul_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plaintext("multiply by a plaintext", a, b)?;
        let mut out = self.like(a, a.polys.len());
        for (x, out) in a.polys.iter().zip(&mut out.polys) {
            self.each_limb(out, |j, out| {
                self.modulus(j).mul_to(out, x.limb(j), b.poly.limb(j));
            });
        }
        out.scale = a.scale * b.scale;
        out.slots = a.slots.max(b.slots);
        Ok(out)
    }

    /// a ·= b with b a plaintext at the level of a or above; scales multiply.
    ///
    /// # Errors
    /// As [`Context::mul_plain`].
    pub fn mul_plain_assign(&self, a: &mut Ciphertext, b: &Plaintext) -> Result<()> {
        self.check_plaintext("multiply by a plaintext", a, b)?;
        for x in &mut a.polys {
            self.each_limb(x, |j, limb| {
                self.modulus(j).mul_assign(limb, b.poly.limb(j));
            });
        }
        a.scale = a.scale * b.scale;
        a.slots = a.slots.max(b.slots);
        Ok(())
    }

    /// The integer round(value·scale).
    fn scaled(&self, value: f64, scale: Scale) -> Result<f64> {
        self.check_scale(scale)?;
        let scaled = (value * scale.0).round_ties_even();
        if scaled.is_finite() {
            Ok(scaled)
        } else {
            Err(Error::NotFinite {
                index: 0,
                value: if value.is_finite() { scaled } else { value },
            })
        }
    }

    /// [`Self::scaled`], refused where it does not fit the modulus of the level.
    fn scaled_below(&self, value: f64, scale: Scale, level: Level) -> Result<f64> {
        let scaled = self.scaled(value, scale)?;
        let needed = (2.0 * scaled.abs()).max(1.0).log2();
        let available = self.parameters().log_q(level);
        if needed < available {
            Ok(scaled)
        } else {
            Err(Error::Overflow {
                needed,
                available,
                level,
                scale,
            })
        }
    }

    /// a + value in every slot, at the scale of a.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Overflow`], [`Error::Foreign`].
    pub fn add_scalar(&self, a: &Ciphertext, value: f64) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        self.scaled_below(value, a.scale, a.level)?;
        let mut out = a.clone();
        self.add_scalar_assign(&mut out, value)?;
        Ok(out)
    }

    /// a += value in every slot, at the scale of a.
    ///
    /// # Errors
    /// As [`Context::add_scalar`].
    pub fn add_scalar_assign(&self, a: &mut Ciphertext, value: f64) -> Result<()> {
        self.check_ciphertext(a)?;
        let scaled = self.scaled_below(value, a.scale, a.level)?;
        // A constant polynomial has the same value everywhere.
        self.each_limb(&mut a.polys[0], |j, limb| {
            let m = self.modulus(j);
            m.add_const_assign(limb, enter_float(m, scaled));
        });
        Ok(())
    }

    /// a += value in every slot, at the scale of a; the value may be complex.
    ///
    /// # Errors
    /// As [`Context::add_scalar`].
    pub fn add_complex_scalar_assign(&self, a: &mut Ciphertext, value: Complex64) -> Result<()> {
        self.check_ciphertext(a)?;
        let re = self.scaled_below(value.re, a.scale, a.level)?;
        let im = self.scaled_below(value.im, a.scale, a.level)?;
        let half = self.n() / 2;
        self.each_limb(&mut a.polys[0], |j, limb| {
            let m = self.modulus(j);
            let re = enter_float(m, re);
            let im = m.mul(enter_float(m, im), self.primes()[j].iota);
            let (first, second) = limb.split_at_mut(half);
            m.add_const_assign(first, m.add(re, im));
            m.add_const_assign(second, m.sub(re, im));
        });
        Ok(())
    }

    /// a times the imaginary unit in every slot: its polynomials times X^(N/2). Exact, and the scale stays.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn mul_i_assign(&self, a: &mut Ciphertext) -> Result<()> {
        self.check_ciphertext(a)?;
        let half = self.n() / 2;
        for x in &mut a.polys {
            self.each_limb(x, |j, limb| {
                let m = self.modulus(j);
                let iota = self.primes()[j].iota;
                let (first, second) = limb.split_at_mut(half);
                m.mul_const_assign(first, iota);
                m.mul_const_assign(second, m.neg(iota));
            });
        }
        Ok(())
    }

    /// a times the integer round(value·scale); the scale is multiplied by `scale`. With
    /// [`Scale::ONE`] an integer costs no precision and no level. No NTT.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Overflow`], [`Error::BadScale`], [`Error::Foreign`].
    pub fn mul_scalar(&self, a: &Ciphertext, value: f64, scale: Scale) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        let scaled = self.scaled_below(value, scale, a.level)?;
        let mut out = self.like(a, a.polys.len());
        for (x, out) in a.polys.iter().zip(&mut out.polys) {
            self.each_limb(out, |j, out| {
                let m = self.modulus(j);
                m.mul_const_to(out, x.limb(j), enter_float(m, scaled));
            });
        }
        out.scale = a.scale * scale;
        Ok(out)
    }

    /// [`Context::mul_scalar`] in place.
    ///
    /// # Errors
    /// As [`Context::mul_scalar`].
    pub fn mul_scalar_assign(&self, a: &mut Ciphertext, value: f64, scale: Scale) -> Result<()> {
        self.check_ciphertext(a)?;
        let scaled = self.scaled_below(value, scale, a.level)?;
        for x in &mut a.polys {
            self.each_limb(x, |j, limb| {
                let m = self.modulus(j);
                m.mul_const_assign(limb, enter_float(m, scaled));
            });
        }
        a.scale = a.scale * scale;
        Ok(())
    }

    /// a·b, of degree 2; scales multiply.
    ///
    /// # Errors
    /// [`Error::Degree`] unless both have degree 1, [`Error::Level`] unless the levels are the same,
    /// [`Error::Foreign`].
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        self.mul_sum(&[(a, b)])
    }

    /// a², of degree 2, cheaper than [`Context::mul`].
    ///
    /// # Errors
    /// As [`Context::mul`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        self.check_degree("square", a, 1, "relinearize it first")?;
        let mut out = self.like(a, 3);
        self.each_triple(&mut out, |j, d0, d1, d2| {
            let (a0, a1) = (a.polys[0].limb(j), a.polys[1].limb(j));
            self.modulus(j).tensor_square(d0, d1, d2, a0, a1);
        });
        out.scale = a.scale * a.scale;
        Ok(out)
    }

    /// Σ a_i·b_i, of degree 2, with one reduction per residue for the whole sum: what a single
    /// relinearization then finishes.
    ///
    /// # Errors
    /// As [`Context::mul`]; [`Error::ScaleMismatch`] unless the products have one scale,
    /// [`Error::Empty`].
    pub fn mul_sum(&self, pairs: &[(&Ciphertext, &Ciphertext)]) -> Result<Ciphertext> {
        let &[(first, second), ..] = pairs else {
            return Err(Error::Empty("a sum of products"));
        };
        let scale = first.scale * second.scale;
        let mut slots = 1;
        for (a, b) in pairs {
            self.check_same_level("multiply", a, b)?;
            self.check_same_level("multiply", first, a)?;
            self.check_degree("multiply", a, 1, "relinearize it first")?;
            self.check_degree("multiply", b, 1, "relinearize it first")?;
            self.check_same_scale("a sum of products", scale, a.scale * b.scale)?;
            slots = slots.max(a.slots).max(b.slots);
        }
        let mut out = self.like(first, 3);
        self.each_triple(&mut out, |j, d0, d1, d2| {
            let m = self.modulus(j);
            if let [(a, b)] = pairs {
                m.tensor(d0, d1, d2, &[limbs_of(a, b, j)]);
                return;
            }
            let mut chunks = pairs.chunks(MAX_TERMS / 2);
            if let Some(chunk) = chunks.next() {
                let terms: Vec<[&[u64]; 4]> =
                    chunk.iter().map(|(a, b)| limbs_of(a, b, j)).collect();
                m.tensor(d0, d1, d2, &terms);
            }
            for chunk in chunks {
                let terms: Vec<[&[u64]; 4]> =
                    chunk.iter().map(|(a, b)| limbs_of(a, b, j)).collect();
                let mut more: Poly<Eval> = self.uninit(3);
                let n = self.n();
                let (e0, rest) = more.words_mut().split_at_mut(n);
                let (e1, e2) = rest.split_at_mut(n);
                m.tensor(e0, e1, e2, &terms);
                m.add_assign(d0, e0);
                m.add_assign(d1, e1);
                m.add_assign(d2, e2);
            }
        });
        out.scale = scale;
        out.slots = slots;
        Ok(out)
    }

    /// Σ a_i·p_i with plaintexts p_i, with one reduction per residue for the whole sum.
    ///
    /// # Errors
    /// [`Error::Level`] unless the ciphertexts have one level and every plaintext that or more,
    /// [`Error::Degree`] unless they have one degree, [`Error::ScaleMismatch`] unless the products have
    /// one scale, [`Error::Empty`], [`Error::Foreign`].
    pub fn mul_plain_sum(&self, pairs: &[(&Ciphertext, &Plaintext)]) -> Result<Ciphertext> {
        let &[(first, plain), ..] = pairs else {
            return Err(Error::Empty("a sum of products with plaintexts"));
        };
        let scale = first.scale * plain.scale;
        let mut slots = 1;
        for (a, p) in pairs {
            self.check_plaintext("multiply by a plaintext", a, p)?;
            self.check_same_level("a sum of products with plaintexts", first, a)?;
            self.check_degree(
                "a sum of products with plaintexts",
                a,
                first.degree(),
                "relinearize first",
            )?;
            self.check_same_scale(
                "a sum of products with plaintexts",
                scale,
                a.scale * p.scale,
            )?;
            slots = slots.max(a.slots).max(p.slots);
        }
        let mut out = self.like(first, first.polys.len());
        for (part, poly) in out.polys.iter_mut().enumerate() {
            self.each_limb(poly, |j, limb| {
                let m = self.modulus(j);
                for (number, chunk) in pairs.chunks(MAX_TERMS).enumerate() {
                    let terms: Vec<(&[u64], &[u64])> = chunk
                        .iter()
                        .map(|(a, p)| (a.polys[part].limb(j), p.poly.limb(j)))
                        .collect();
                    if number == 0 {
                        m.dot(limb, &terms);
                    } else {
                        let mut more: Poly<Eval> = self.uninit(1);
                        m.dot(more.words_mut(), &terms);
                        m.add_assign(limb, more.words());
                    }
                }
            });
        }
        out.scale = scale;
        out.slots = slots;
        Ok(out)
    }

    /// Σ w_i·a_i with real weights, each taken as the integer round(w_i·scale); the result's scale is
    /// multiplied by `scale`. One reduction per residue for the whole sum.
    ///
    /// # Errors
    /// As [`Context::linear_combinations`].
    pub fn linear_combination(
        &self,
        operands: &[&Ciphertext],
        weights: &[f64],
        scale: Scale,
    ) -> Result<Ciphertext> {
        let mut all = self.linear_combinations(operands, &[weights], scale)?;
        all.pop().ok_or(Error::Empty("a linear combination"))
    }

    /// For each row of `weights`, Σ w_i·a_i as in [`Context::linear_combination`]: a modular matrix
    /// product, blocked so that each operand is read from memory once.
    ///
    /// # Errors
    /// [`Error::Lengths`] unless every row is as long as `operands`; [`Error::Empty`];
    /// [`Error::Level`], [`Error::ScaleMismatch`] unless the operands agree (degrees may differ);
    /// [`Error::NotFinite`], [`Error::Overflow`], [`Error::BadScale`], [`Error::Foreign`].
    pub fn linear_combinations(
        &self,
        operands: &[&Ciphertext],
        weights: &[&[f64]],
        scale: Scale,
    ) -> Result<Vec<Ciphertext>> {
        const WHAT: &str = "a linear combination";
        let &[first, ..] = operands else {
            return Err(Error::Empty(WHAT));
        };
        let mut slots = 1;
        for a in operands {
            self.check_same_level(WHAT, first, a)?;
            self.check_same_scale(WHAT, first.scale, a.scale)?;
            slots = slots.max(a.slots);
        }
        let mut integers = Vec::with_capacity(weights.len() * operands.len());
        for row in weights {
            if row.len() != operands.len() {
                return Err(Error::Lengths {
                    operation: WHAT,
                    left: operands.len(),
                    right: row.len(),
                });
            }
            for &w in *row {
                integers.push(self.scaled_below(w, scale, first.level)?);
            }
        }
        // Degrees may differ: where an operand has no polynomial, it is zero.
        let parts = operands.iter().map(|a| a.polys.len()).max().unwrap_or(0);
        let limbs = first.level.limbs();
        let mut outs: Vec<Ciphertext> = weights
            .iter()
            .map(|_| Ciphertext {
                scale: first.scale * scale,
                slots,
                ..self.like(first, parts)
            })
            .collect();
        let n = self.n();
        let residues: Vec<Vec<u64>> = (0..limbs)
            .map(|j| {
                let m = self.modulus(j);
                integers.iter().map(|&w| enter_float(m, w)).collect()
            })
            .collect();
        let columns = operands.len();
        let holders: Vec<Vec<usize>> = (0..parts)
            .map(|part| {
                let has = |&k: &usize| operands[k].polys.len() > part;
                (0..columns).filter(has).collect()
            })
            .collect();
        // A task has one block of coefficients of one limb and part, of every output.
        let block = n.min(COMBINATION_BLOCK);
        let blocks = n / block;
        let mut tasks: Vec<Vec<&mut [u64]>> = (0..limbs * parts * blocks)
            .map(|_| Vec::with_capacity(outs.len()))
            .collect();
        for out in &mut outs {
            for (part, poly) in out.polys.iter_mut().enumerate() {
                for (i, words) in poly.words_mut().chunks_mut(block).enumerate() {
                    tasks[part * limbs * blocks + i].push(words);
                }
            }
        }
        self.each(tasks, |i, mut outs| {
            let (part, i) = (i / (limbs * blocks), i % (limbs * blocks));
            let (j, start) = (i / blocks, i % blocks * block);
            let x: Vec<&[u64]> = holders[part]
                .iter()
                .map(|&k| &operands[k].polys[part].limb(j)[start..start + block])
                .collect();
            if x.len() == columns {
                combine_chunked(self.modulus(j), &mut outs, &x, &residues[j]);
            } else {
                let weights: Vec<u64> = residues[j]
                    .chunks(columns)
                    .flat_map(|row| holders[part].iter().map(|&k| row[k]))
                    .collect();
                combine_chunked(self.modulus(j), &mut outs, &x, &weights);
            }
        });
        Ok(outs)
    }

    /// Divides by the last prime of the chain and rounds: level and scale go down.
    ///
    /// Cost: one inverse NTT and one NTT per remaining limb, for each polynomial.
    ///
    /// # Errors
    /// [`Error::Level`] at level 0, [`Error::Foreign`].
    pub fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.check_ciphertext(a)?;
        let Some(below) = a.level.0.checked_sub(1).map(Level) else {
            return Err(Error::Level {
                operation: "rescale",
                needed: Level(1),
                found: a.level,
                help: "start at a higher level",
            });
        };
        let converter = self.rescale_converter(a.level);
        let parts: Vec<&Poly<Eval>> = a.polys.iter().collect();
        let limbs = below.limbs();
        Ok(Ciphertext {
            polys: self.divide(&parts, converter, limbs, limbs),
            level: below,
            scale: Scale(a.scale.0 / self.modulus(a.level.0 as usize).q as f64),
            ..self.shape_of(a)
        })
    }

    /// The same ciphertext at a lower level. Free but for the copy.
    ///
    /// # Errors
    /// [`Error::Level`] for a level above that of a, [`Error::Foreign`].
    pub fn drop_level(&self, a: &Ciphertext, level: Level) -> Result<Ciphertext> {
        self.check_drop(a, level)?;
        let mut out = Ciphertext {
            level,
            ..self.shape_of(a)
        };
        for x in &a.polys {
            let mut copy = self.uninit(level.limbs());
            let len = copy.words().len();
            copy.words_mut().copy_from_slice(&x.words()[..len]);
            out.polys.push(copy);
        }
        Ok(out)
    }

    /// [`Context::drop_level`] in place: no copy; the memory is kept until the ciphertext is dropped.
    ///
    /// # Errors
    /// As [`Context::drop_level`].
    pub fn drop_level_assign(&self, a: &mut Ciphertext, level: Level) -> Result<()> {
        self.check_drop(a, level)?;
        for x in &mut a.polys {
            x.truncate(level.limbs());
        }
        a.level = level;
        Ok(())
    }

    fn check_drop(&self, a: &Ciphertext, level: Level) -> Result<()> {
        self.check_ciphertext(a)?;
        if level > a.level {
            return Err(Error::Level {
                operation: "drop level",
                needed: level,
                found: a.level,
                help: "levels only go down",
            });
        }
        Ok(())
    }

    /// Runs `f(limb number, limb of each of the three polynomials)` on a ciphertext of degree 2.
    fn each_triple(
        &self,
        out: &mut Ciphertext,
        f: impl Fn(usize, &mut [u64], &mut [u64], &mut [u64]) + Send + Sync,
    ) {
        let n = self.n();
        if let [d0, d1, d2] = out.polys.as_mut_slice() {
            let rows = d0
                .words_mut()
                .chunks_mut(n)
                .zip(d1.words_mut().chunks_mut(n))
                .zip(d2.words_mut().chunks_mut(n))
                .collect();
            self.each(rows, |j, ((d0, d1), d2)| f(j, d0, d1, d2));
        }
    }
}

fn limbs_of<'a>(a: &'a Ciphertext, b: &'a Ciphertext, j: usize) -> [&'a [u64]; 4] {
    [
        a.polys[0].limb(j),
        a.polys[1].limb(j),
        b.polys[0].limb(j),
        b.polys[1].limb(j),
    ]
}

/// Coefficients of one task of a matrix product.
const COMBINATION_BLOCK: usize = 4096;

/// [`Modulus::matrix`] for any number of terms.
fn combine_chunked(m: &Modulus, outs: &mut [&mut [u64]], x: &[&[u64]], weights: &[u64]) {
    if x.len() <= MAX_TERMS {
        if outs.len() == 1 {
            m.combine(outs, x, weights);
        } else {
            m.matrix(outs, x, weights);
        }
        return;
    }
    let n = outs.first().map_or(0, |o| o.len());
    for (number, start) in (0..x.len()).step_by(MAX_TERMS).enumerate() {
        let end = (start + MAX_TERMS).min(x.len());
        let part: Vec<u64> = weights
            .chunks(x.len())
            .flat_map(|row| &row[start..end])
            .copied()
            .collect();
        if number == 0 {
            m.matrix(outs, &x[start..end], &part);
            continue;
        }
        let mut more = vec![0; n * outs.len()];
        let mut rows: Vec<&mut [u64]> = more.chunks_mut(n).collect();
        m.matrix(&mut rows, &x[start..end], &part);
        for (out, row) in outs.iter_mut().zip(rows) {
            m.add_assign(out, row);
        }
    }
}
