//! Generation of keys.

use hecc_params::{GaloisElement, Level};
use std::collections::BTreeMap;
use std::ops::Range;

use rand::Rng;
use zeroize::{Zeroize, Zeroizing};

use crate::context::Context;
use crate::ring::automorphism::Permutation;
use crate::ring::kernels::KeyRow;
use crate::ring::kernels::chacha::{BATCH, Stream};
use crate::ring::kernels::pack::pack;
use crate::ring::sampling::{self, Uniform};
use crate::ring::{Coeff, Eval, Poly};
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
            poly: poly.secret(),
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
        self.errors_to(&Zeroizing::new(new_seed(randomness)), 0, &mut sample);
        sample
    }

    /// The Gaussian errors that stream number `number` of a secret seed stands for.
    fn errors_to(&self, seed: &[u8; 32], number: usize, out: &mut Poly<Coeff>) {
        let stream = Stream::new(self.path(), seed, number as u64);
        let out = bytemuck::cast_slice_mut(out.words_mut());
        sampling::gaussian(self.path(), stream, out);
    }

    /// The polynomial that a public seed stands for: limb j is ChaCha20 stream j.
    pub(crate) fn expand_seed(&self, seed: &[u8; 32], limbs: usize) -> Poly<Eval> {
        let mut poly = self.uninit(limbs);
        self.each_limb(&mut poly, |j, limb| {
            sampling::uniform(self.path(), seed, j as u64, self.modulus(j), limb);
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
        self.each_limb(&mut b, |j, limb| {
            self.modulus(j)
                .mul_sub_assign(limb, a.limb(j), secret.poly.limb(j));
        });
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
        let elements = request.galois.iter().map(|(&e, &level)| (Some(e), level));
        let mut jobs: Vec<Job> = request
            .relinearization
            .iter()
            .map(|&level| (None, level))
            .chain(elements)
            .map(|(element, level)| Job {
                element,
                level,
                seed: new_seed(randomness),
                errors: Zeroizing::new(new_seed(randomness)),
                key: None,
            })
            .collect();
        self.each(jobs.iter_mut().collect(), |_, job| {
            job.key = Some(self.switch_key(secret, job));
        });
        let mut keys = EvaluationKeys {
            relinearization: None,
            galois: BTreeMap::new(),
            tag: self.tag(),
        };
        for job in jobs {
            match (job.element, job.key) {
                (Some(element), Some(key)) => drop(keys.galois.insert(element, key)),
                (None, key) => keys.relinearization = key,
                (Some(_), None) => {}
            }
        }
        Ok(keys)
    }

    /// The key that takes c·s² to a ciphertext under s, or c·s to one under s(X^(1/g)).
    fn switch_key(&self, secret: &SecretKey, job: &Job) -> KeySwitchKey {
        let level = job.level;
        // One error per digit, the same integers modulo every prime.
        let mut errors: Vec<Poly<Coeff>> =
            (0..self.digits(level)).map(|_| self.uninit(1)).collect();
        self.each(errors.iter_mut().collect(), |d, e| {
            self.errors_to(&job.errors, d, e);
        });
        let permutation = job
            .element
            .map(|g| Permutation::new(self.n(), inverse_element(g, self.n())));
        let alpha = self.parameters().digit_limbs();
        let key = self.key_from(level, job.seed, |limb| {
            let prime = limb.prime;
            let ntt = &self.primes()[prime];
            let m = &ntt.modulus;
            let mut work: Poly<Eval> = self.uninit(errors.len() + 1);
            let (other, halves) = work.words_mut().split_at_mut(self.n());
            for (e, b) in errors.iter().zip(halves.chunks_exact_mut(self.n())) {
                m.enter_signed_to(b, bytemuck::cast_slice(e.words()));
                ntt.forward(b);
            }
            let s = secret.poly.limb(prime);
            let (under, from) = match &permutation {
                Some(permutation) => {
                    permutation.apply(self.path(), other, s);
                    (&*other, s)
                }
                None => {
                    m.mul_to(other, s, s);
                    (s, &*other)
                }
            };
            // P·g_d is P modulo the primes of digit d and 0 modulo all others.
            let special = self.parameters().p().iter();
            let p = special.fold(m.enter(1), |acc, &p| m.mul(acc, m.enter(p)));
            let own = (prime < self.chain()).then_some(prime / alpha);
            limb.write(halves, |d, block, b, a| {
                m.mul_sub_assign(b, a, &under[block.clone()]);
                if own == Some(d) {
                    m.mul_const_add_assign(b, &from[block], p);
                }
            });
            // What is left of the halves is public.
            other.zeroize();
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

    /// A key whose limbs are written by `fill`.
    pub(crate) fn key_from(
        &self,
        level: Level,
        seed: [u8; 32],
        fill: impl Fn(KeyLimb<'_>) + Send + Sync,
    ) -> KeySwitchKey {
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
        let mut bytes = crate::ring::zeros(size + 64);
        let mut rest = &mut bytes[..];
        let mut all = Vec::with_capacity(limbs);
        for (j, &bits) in bits.iter().enumerate() {
            let (bytes, after) = rest.split_at_mut(n / 8 * 2 * digits * bits);
            rest = after;
            all.push(KeyLimb {
                context: self,
                seed: &seed,
                number: j,
                prime: self.extended_prime(level, j),
                digits,
                bits,
                bytes,
            });
        }
        self.each(all, |_, limb| fill(limb));
        KeySwitchKey {
            bytes,
            offsets,
            bits,
            seed,
            level,
            digits,
        }
    }
}

/// A switching key that is to be made.
struct Job {
    /// None for relinearization.
    element: Option<GaloisElement>,
    level: Level,
    /// Of the uniform halves; it is stored.
    seed: [u8; 32],
    /// Of the errors.
    errors: Zeroizing<[u8; 32]>,
    key: Option<KeySwitchKey>,
}

/// A limb of a switching key that is being written.
pub(crate) struct KeyLimb<'a> {
    context: &'a Context,
    seed: &'a [u8; 32],
    /// Which limb of the key.
    pub(crate) number: usize,
    pub(crate) prime: usize,
    pub(crate) digits: usize,
    bits: usize,
    bytes: &'a mut [u8],
}

/// Coefficients of which all digits are written before the next: a part of a limb that stays in the first
/// cache.
const PART: usize = 2 * BATCH;

impl KeyLimb<'_> {
    /// Writes both halves of every digit, block after block of coefficients: `halves` are the first ones as they
    /// are before `mask(digit, block, first half there, uniform half there)`.
    pub(crate) fn write(
        self,
        halves: &mut [u64],
        mask: impl Fn(usize, Range<usize>, &mut [u64], &[u64]),
    ) {
        let (path, n) = (self.context.path(), self.context.n());
        let m = self.context.modulus(self.prime);
        let primes = self.context.primes().len();
        let stride = 2 * self.digits * self.bits;
        let mut uniform: Vec<Uniform<'_>> = (0..self.digits)
            .map(|d| Uniform::new(path, self.seed, (d * primes + self.prime) as u64, m, n))
            .collect();
        let mut a = [0; PART];
        for start in (0..n).step_by(PART) {
            let block = start..(start + PART).min(n);
            let bytes = &mut self.bytes[start / 8 * stride..];
            let a = &mut a[..block.len()];
            for (d, (uniform, b)) in uniform.iter_mut().zip(halves.chunks_mut(n)).enumerate() {
                let b = &mut b[block.clone()];
                uniform.fill(a);
                mask(d, block.clone(), b, a);
                let at = 2 * d * self.bits;
                pack(path, &mut bytes[at..], self.bits, stride, &[b, a]);
            }
        }
    }
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

        /// Decrypts a ciphertext of degree 1 or 2. No NTT: the result is in NTT form. It is wiped when it is
        /// dropped.
        ///
        /// # Errors
        /// [`Error::Foreign`].
        pub fn decrypt(&self, ciphertext: &Ciphertext, key: &SecretKey) -> Result<Plaintext> {
            self.check_tag("the ciphertext", ciphertext.tag)?;
            self.check_tag("the secret key", key.tag)?;
            let mut poly = self.uninit(ciphertext.level.limbs()).secret();
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
