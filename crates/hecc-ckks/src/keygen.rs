//! Generation of keys.

use hecc_params::{GaloisElement, Level};
use rand::Rng;
use zeroize::Zeroize;

use crate::context::Context;
use crate::ring::kernels::{self, KeyRow};
use crate::ring::{Coeff, Eval, Poly, sampling};
use crate::{
    Error, EvaluationKeyRequest, EvaluationKeys, KeySwitchKey, PublicKey, Randomness, Result,
    SecretKey,
};

impl Context {
    /// Draws a uniform ternary secret.
    pub fn secret_key(&self, randomness: &mut Randomness) -> SecretKey {
        let mut sample: Poly<Coeff> = self.uninit(1);
        let signed: &mut [i64] = bytemuck::cast_slice_mut(sample.words_mut());
        sampling::ternary(&mut randomness.0, signed);
        let coefficients = signed.iter().map(|&x| x as i8).collect();
        sample.wipe();
        self.secret_from_coefficients(coefficients)
    }

    pub(crate) fn secret_from_coefficients(&self, coefficients: Vec<i8>) -> SecretKey {
        let mut sample: Poly<Coeff> = self.uninit(1);
        let signed: &mut [i64] = bytemuck::cast_slice_mut(sample.words_mut());
        for (out, &c) in signed.iter_mut().zip(&coefficients) {
            *out = i64::from(c);
        }
        let poly = self.enter_small(&sample, self.primes().len(), |j| j);
        sample.wipe();
        SecretKey {
            coefficients,
            poly,
            tag: self.tag(),
        }
    }

    /// Small signed coefficients (one limb of i64) modulo the primes `prime(0)`, …, in NTT form.
    pub(crate) fn enter_small(
        &self,
        signed: &Poly<Coeff>,
        limbs: usize,
        prime: impl Fn(usize) -> usize + Send + Sync,
    ) -> Poly<Eval> {
        let signed: &[i64] = bytemuck::cast_slice(signed.words());
        let mut poly = self.uninit(limbs);
        self.each_limb(&mut poly, |j, limb| {
            let ntt = &self.primes()[prime(j)];
            ntt.modulus.enter_signed_to(limb, signed);
            ntt.forward(limb);
        });
        poly
    }

    /// Gaussian errors, one limb of i64.
    pub(crate) fn errors(&self, randomness: &mut Randomness) -> Poly<Coeff> {
        let mut sample: Poly<Coeff> = self.uninit(1);
        sampling::gaussian(
            self.path(),
            &mut randomness.0,
            bytemuck::cast_slice_mut(sample.words_mut()),
        );
        sample
    }

    /// The polynomial that a public seed stands for: limb j is ChaCha20 stream j.
    pub(crate) fn expand_seed(&self, seed: &[u8; 32], limbs: usize) -> Poly<Eval> {
        let mut poly = self.uninit(limbs);
        self.each_limb(&mut poly, |j, limb| {
            sampling::uniform(seed, j as u64, self.modulus(j), limb);
        });
        poly
    }

    /// How many primes the public key covers: the chain, and one special prime if there is one.
    pub(crate) fn public_limbs(&self) -> usize {
        self.chain() + self.special().min(1)
    }

    /// Makes the public key: one encryption of zero modulo the chain and one special prime.
    ///
    /// # Errors
    /// [`Error::Foreign`] when the secret belongs to other parameters.
    pub fn public_key(&self, secret: &SecretKey, randomness: &mut Randomness) -> Result<PublicKey> {
        self.check_tag("the secret key", secret.tag)?;
        let seed = new_seed(randomness);
        let a = self.expand_seed(&seed, self.public_limbs());
        let b = self.mask(&a, secret, randomness);
        Ok(PublicKey {
            b,
            a,
            seed,
            tag: self.tag(),
        })
    }

    /// −a·s + e.
    pub(crate) fn mask(
        &self,
        a: &Poly<Eval>,
        secret: &SecretKey,
        randomness: &mut Randomness,
    ) -> Poly<Eval> {
        let mut e = self.errors(randomness);
        let mut b = self.enter_small(&e, a.limbs(), |j| j);
        e.wipe();
        let mut product = self.uninit::<Eval>(1);
        for j in 0..a.limbs() {
            let m = self.modulus(j);
            m.mul_to(product.words_mut(), a.limb(j), secret.poly.limb(j));
            m.sub_assign(b.limb_mut(j), product.words());
        }
        product.wipe();
        b
    }

    /// Makes exactly the keys that are asked for, each with the limbs and digits of its level.
    ///
    /// # Errors
    /// [`Error::NoSpecialPrimes`] when keys are asked for and there are none, [`Error::Level`] for a
    /// level above the chain, [`Error::BadGaloisElement`], [`Error::Foreign`] when the secret belongs to other parameters.
    pub fn evaluation_keys(
        &self,
        secret: &SecretKey,
        request: &EvaluationKeyRequest,
        randomness: &mut Randomness,
    ) -> Result<EvaluationKeys> {
        self.check_tag("the secret key", secret.tag)?;
        let levels = request
            .relinearization
            .iter()
            .chain(request.galois.values());
        for &level in levels {
            self.check_level("key generation", level)?;
            self.down()?;
        }
        let n = self.n();
        let two_n = 2 * n as u64;
        for &element in request.galois.keys() {
            if element.0 % 2 == 0 || element.0 >= two_n {
                return Err(Error::BadGaloisElement { element, two_n });
            }
        }
        let all = self.primes().len();
        let relinearization = request.relinearization.map(|level| {
            let mut square: Poly<Eval> = self.uninit(all);
            self.each_limb(&mut square, |j, limb| {
                let s = secret.poly.limb(j);
                self.modulus(j).mul_to(limb, s, s);
            });
            let key = self.switch_key(&secret.poly, &square, level, randomness);
            square.wipe();
            key
        });
        let mut galois = std::collections::BTreeMap::new();
        for (&element, &level) in &request.galois {
            let inverse = inverse_element(element, n);
            let permutation = self.permutation(inverse);
            let mut under: Poly<Eval> = self.uninit(all);
            self.each_limb(&mut under, |j, limb| {
                permutation.apply(self.path(), limb, secret.poly.limb(j));
            });
            let key = self.switch_key(&under, &secret.poly, level, randomness);
            under.wipe();
            galois.insert(element, key);
        }
        Ok(EvaluationKeys {
            relinearization,
            galois,
            tag: self.tag(),
        })
    }

    /// The key that takes a product with `from` to a ciphertext under `under`.
    fn switch_key(
        &self,
        under: &Poly<Eval>,
        from: &Poly<Eval>,
        level: Level,
        randomness: &mut Randomness,
    ) -> KeySwitchKey {
        let seed = new_seed(randomness);
        let digits = self.digits(level);
        let mut key = self.blank_key(level, seed);
        // One error per digit, the same integers modulo every prime.
        let mut errors: Vec<Poly<Coeff>> = (0..digits).map(|_| self.errors(randomness)).collect();
        let n = self.n();
        let alpha = self.parameters().digit_limbs();
        let rows = rows_mut(&mut key);
        self.each(rows, |j, (row, bits)| {
            let stride = 2 * digits * bits;
            let prime = self.extended_prime(level, j);
            let ntt = &self.primes()[prime];
            let m = &ntt.modulus;
            let mut work: Poly<Eval> = self.uninit(2);
            let (a, b) = work.words_mut().split_at_mut(n);
            for (d, e) in errors.iter().enumerate() {
                m.enter_signed_to(b, bytemuck::cast_slice(e.words()));
                ntt.forward(b);
                self.expand_half(&seed, d, prime, a);
                m.mul_assign(a, under.limb(prime));
                m.sub_assign(b, a);
                if prime < self.chain() && prime / alpha == d {
                    // P·g_d is P modulo the primes of digit d and 0 modulo all others.
                    let p = self
                        .parameters()
                        .p()
                        .iter()
                        .fold(m.enter(1), |acc, &p| m.mul(acc, m.enter(p)));
                    m.mul_const_add_assign(b, from.limb(prime), p);
                }
                kernels::pack_half(row, bits, stride, 2 * d, b);
            }
            work.wipe();
        });
        for e in &mut errors {
            e.wipe();
        }
        key
    }

    /// How many digits a polynomial at `level` has.
    pub(crate) fn digits(&self, level: Level) -> usize {
        level.limbs().div_ceil(self.parameters().digit_limbs())
    }

    /// The uniform half of digit `digit` modulo prime `prime`.
    fn expand_half(&self, seed: &[u8; 32], digit: usize, prime: usize, out: &mut [u64]) {
        let stream = (digit * self.primes().len() + prime) as u64;
        sampling::uniform(seed, stream, self.modulus(prime), out);
    }

    /// A key with its uniform halves in place and zeros in the others.
    pub(crate) fn blank_key(&self, level: Level, seed: [u8; 32]) -> KeySwitchKey {
        let n = self.n();
        let digits = self.digits(level);
        let limbs = level.limbs() + self.special();
        let mut offsets = Vec::with_capacity(limbs);
        let mut bits = Vec::with_capacity(limbs);
        let mut size = 0;
        for j in 0..limbs {
            let width = KeyRow::bits(self.modulus(self.extended_prime(level, j)));
            offsets.push(size);
            bits.push(width);
            size += n / 8 * 2 * digits * width;
        }
        // A register may be read from where the last value begins.
        let bytes = crate::ring::zeros(size + 64);
        let mut key = KeySwitchKey {
            bytes,
            offsets,
            bits,
            seed,
            level,
            digits,
        };
        self.each(rows_mut(&mut key), |j, (row, bits)| {
            let prime = self.extended_prime(level, j);
            let mut work: Poly<Eval> = self.uninit(1);
            for d in 0..digits {
                self.expand_half(&seed, d, prime, work.words_mut());
                kernels::pack_half(row, bits, 2 * digits * bits, 2 * d + 1, work.words());
            }
        });
        key
    }
}

/// The limbs of a key, with the bits of their values.
pub(crate) fn rows_mut(key: &mut KeySwitchKey) -> Vec<(&mut [u8], usize)> {
    let mut rest = &mut key.bytes[..];
    let mut rows = Vec::with_capacity(key.bits.len());
    for (j, &bits) in key.bits.iter().enumerate() {
        let end = match key.offsets.get(j + 1) {
            Some(next) => next - key.offsets[j],
            None => rest.len() - 64,
        };
        let (row, after) = rest.split_at_mut(end);
        rows.push((row, bits));
        rest = after;
    }
    rows
}

fn new_seed(randomness: &mut Randomness) -> [u8; 32] {
    let mut seed = [0; 32];
    randomness.0.fill_bytes(&mut seed);
    seed
}

/// g^-1 modulo 2N.
pub(crate) fn inverse_element(element: GaloisElement, n: usize) -> GaloisElement {
    let mask = 2 * n as u64 - 1;
    let g = element.0 & mask;
    // Newton modulo 2^64: every odd number has an inverse, right to 3 bits at the start.
    let mut inverse = g;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(inverse)));
    }
    GaloisElement(inverse & mask)
}

/// Encryption and decryption.
mod encryption {
    use super::*;
    use crate::{Ciphertext, Plaintext, SeededCiphertext};

    impl Context {
        /// Encrypts under a public key, at the level of the plaintext.
        ///
        /// Where the key has one more prime than that level (always, but at the top level of
        /// parameters without special primes), zero is encrypted modulo that one too and divided by it, which leaves
        /// a rounding in place of the noise u·e + e_1·s: four more bits of precision.
        ///
        /// Cost: three NTTs per limb of level + 1, and the sampling of 3·N small numbers.
        ///
        /// # Errors
        /// [`Error::Foreign`].
        pub fn encrypt(
            &self,
            plaintext: &Plaintext,
            key: &PublicKey,
            randomness: &mut Randomness,
        ) -> Result<Ciphertext> {
            self.check_tag("the plaintext", plaintext.tag)?;
            self.check_tag("the public key", key.tag)?;
            let limbs = plaintext.level.limbs();
            let divided = limbs < key.b.limbs();
            let mut sample: Poly<Coeff> = self.uninit(1);
            sampling::ternary(
                &mut randomness.0,
                bytemuck::cast_slice_mut(sample.words_mut()),
            );
            let mut u = self.enter_small(&sample, limbs + usize::from(divided), |j| j);
            sample.wipe();
            let mut halves = Vec::with_capacity(2);
            for part in [&key.b, &key.a] {
                let mut e = self.errors(randomness);
                if divided {
                    self.subtract_remainder(&mut e, part.limb(limbs), u.limb(limbs), limbs);
                }
                let mut c = self.enter_small(&e, limbs, |j| j);
                e.wipe();
                self.each_limb(&mut c, |j, limb| {
                    let m = self.modulus(j);
                    m.mul_add_assign(limb, part.limb(j), u.limb(j));
                    if divided {
                        m.mul_const_assign(limb, self.division(limbs).inverse[j]);
                    }
                });
                halves.push(c);
            }
            u.wipe();
            self.each_limb(&mut halves[0], |j, limb| {
                self.modulus(j).add_assign(limb, plaintext.poly.limb(j));
            });
            Ok(Ciphertext {
                polys: halves,
                level: plaintext.level,
                scale: plaintext.scale,
                slots: plaintext.slots,
                tag: self.tag(),
            })
        }

        /// Takes the signed representative of part·u + e modulo prime `prime` from e, so that what is
        /// left of part·u + e is a multiple of that prime.
        fn subtract_remainder(&self, e: &mut Poly<Coeff>, part: &[u64], u: &[u64], prime: usize) {
            let ntt = &self.primes()[prime];
            let m = &ntt.modulus;
            let mut x: Poly<Eval> = self.uninit(2);
            let n = self.n();
            let (x, small) = x.words_mut().split_at_mut(n);
            m.mul_to(x, part, u);
            ntt.inverse_unscaled(x);
            m.mul_const_assign(x, ntt.n_inv_mont);
            let e: &mut [i64] = bytemuck::cast_slice_mut(e.words_mut());
            m.enter_signed_to(small, e);
            m.add_assign(x, small);
            m.mul_const_assign(x, 1);
            let half = m.q / 2;
            for (e, &x) in e.iter_mut().zip(x.iter()) {
                let centred = x as i64 - if x > half { m.q as i64 } else { 0 };
                *e -= centred;
            }
            small.zeroize();
            x.zeroize();
        }

        /// Encrypts under the secret key, at the level of the plaintext: less noise, and half the size
        /// until it is [expanded](Context::expand).
        ///
        /// # Errors
        /// [`Error::Foreign`].
        pub fn encrypt_symmetric(
            &self,
            plaintext: &Plaintext,
            key: &SecretKey,
            randomness: &mut Randomness,
        ) -> Result<SeededCiphertext> {
            self.check_tag("the plaintext", plaintext.tag)?;
            self.check_tag("the secret key", key.tag)?;
            let seed = new_seed(randomness);
            let a = self.expand_seed(&seed, plaintext.level.limbs());
            let mut c0 = self.mask(&a, key, randomness);
            self.each_limb(&mut c0, |j, limb| {
                self.modulus(j).add_assign(limb, plaintext.poly.limb(j));
            });
            Ok(SeededCiphertext {
                c0,
                seed,
                level: plaintext.level,
                scale: plaintext.scale,
                slots: plaintext.slots,
                tag: self.tag(),
            })
        }

        /// Writes out the half of a symmetric encryption that is a seed.
        ///
        /// # Errors
        /// [`Error::Foreign`].
        pub fn expand(&self, seeded: &SeededCiphertext) -> Result<Ciphertext> {
            self.check_tag("the ciphertext", seeded.tag)?;
            Ok(Ciphertext {
                polys: vec![
                    seeded.c0.clone(),
                    self.expand_seed(&seeded.seed, seeded.level.limbs()),
                ],
                level: seeded.level,
                scale: seeded.scale,
                slots: seeded.slots,
                tag: self.tag(),
            })
        }

        /// Decrypts a ciphertext of degree 1 or 2. No NTT: the result is in NTT form.
        ///
        /// # Errors
        /// [`Error::Foreign`].
        pub fn decrypt(&self, ciphertext: &Ciphertext, key: &SecretKey) -> Result<Plaintext> {
            self.check_tag("the ciphertext", ciphertext.tag)?;
            self.check_tag("the secret key", key.tag)?;
            let mut poly = self.uninit(ciphertext.level.limbs());
            let [first @ .., last] = ciphertext.polys.as_slice() else {
                return Err(Error::Empty("decrypt"));
            };
            self.each_limb(&mut poly, |j, limb| {
                let m = self.modulus(j);
                // Horner: ((c_2·s) + c_1)·s + c_0.
                limb.copy_from_slice(last.limb(j));
                for c in first.iter().rev() {
                    m.mul_assign(limb, key.poly.limb(j));
                    m.add_assign(limb, c.limb(j));
                }
            });
            Ok(Plaintext {
                poly,
                level: ciphertext.level,
                scale: ciphertext.scale,
                slots: ciphertext.slots,
                tag: self.tag(),
            })
        }
    }

    /// Seeds are drawn from the generator; nothing of them outlives the key but what it stores.
    impl Drop for Randomness {
        fn drop(&mut self) {
            // ChaCha20's state is not reachable for wiping through its public interface; jumping to a
            // fresh state overwrites it.
            let mut zero = [0u8; 32];
            self.0 = rand::SeedableRng::from_seed(zero);
            zero.zeroize();
        }
    }
}
