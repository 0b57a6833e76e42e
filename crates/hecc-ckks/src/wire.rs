//! Objects as bytes.
//!
//! Every object is a header, its numbers, and its residues. All integers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `HECK` |
//! | 1 | format version, 1 |
//! | 1 | kind: 1 ciphertext, 2 seeded ciphertext, 3 public key, 4 evaluation keys, 5 secret key |
//! | 2 | zero |
//! | 16 | digest of ring degree, primes and digit size |
//!
//! Residues are plain (not in Montgomery form), limb by limb, each with as many bits as its prime has,
//! lowest bits first, each limb padded to a whole number of bytes. Reading checks the header, then the length, then
//! every residue, and allocates nothing before the length is known to be right.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hecc_params::{GaloisElement, Level, Scale};

use crate::context::Context;
use crate::ring::kernels::pack::{pack, unpack};
use crate::ring::modulus::Modulus;
use crate::ring::{Eval, Poly};
use crate::{
    Ciphertext, Error, EvaluationKeys, KeySwitchKey, PublicKey, Result, SecretKey, SeededCiphertext,
};

const MAGIC: [u8; 4] = *b"HECK";
const VERSION: u8 = 1;
const HEADER: usize = 24;

#[derive(Clone, Copy)]
enum Kind {
    Ciphertext = 1,
    Seeded = 2,
    Public = 3,
    Evaluation = 4,
    Secret = 5,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Ciphertext => "ciphertext",
            Kind::Seeded => "seeded ciphertext",
            Kind::Public => "public key",
            Kind::Evaluation => "set of evaluation keys",
            Kind::Secret => "secret key",
        }
    }
}

fn bits(m: &Modulus) -> usize {
    (64 - (m.q - 1).leading_zeros()) as usize
}

/// Bytes of one limb modulo `prime`.
fn limb_bytes(context: &Context, prime: usize) -> usize {
    (context.n() * bits(context.modulus(prime))).div_ceil(8)
}

fn write_header(context: &Context, kind: Kind, body: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body);
    out.extend(MAGIC);
    out.extend([VERSION, kind as u8, 0, 0]);
    out.extend(context.digest());
    out
}

/// Appends a limb, out of Montgomery form and packed.
fn write_limb(context: &Context, prime: usize, limb: &[u64], out: &mut Vec<u8>) {
    let m = context.modulus(prime);
    let bits = bits(m);
    let mut plain: Poly<Eval> = context.uninit(1);
    m.mul_const_to(plain.words_mut(), limb, 1);
    let start = out.len();
    out.resize(start + limb_bytes(context, prime), 0);
    pack(
        context.path(),
        &mut out[start..],
        bits,
        bits,
        &[plain.words()],
    );
    plain.wipe();
}

/// What is left to read of an object.
struct Reader<'a> {
    kind: Kind,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(context: &Context, kind: Kind, bytes: &'a [u8]) -> Result<Reader<'a>> {
        let reader = Reader { kind, bytes };
        let fail = |why: &str| Err(reader.malformed(why));
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return fail("it ends within its header");
        };
        if header[..4] != MAGIC {
            return fail("it does not begin with HECK");
        }
        if header[4] != VERSION {
            return Err(reader.malformed(&format!("format version {} is not {VERSION}", header[4])));
        }
        if header[5] != kind as u8 || header[6..8] != [0, 0] {
            return fail("the header names another kind of object");
        }
        if header[8..] != context.digest() {
            return fail("it was made for other parameters");
        }
        Ok(Reader { kind, bytes: rest })
    }

    fn malformed(&self, why: &str) -> Error {
        Error::Malformed {
            what: self.kind.name(),
            why: why.to_string(),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(count) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(self.malformed("it ends too early")),
        }
    }

    fn array<const K: usize>(&mut self) -> Result<[u8; K]> {
        let taken = self.take(K)?;
        <[u8; K]>::try_from(taken).map_err(|_| self.malformed("it ends too early"))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn expect_left(&self, count: usize) -> Result<()> {
        if self.bytes.len() == count {
            Ok(())
        } else {
            Err(self.malformed(&format!(
                "{} bytes of residues where {count} belong",
                self.bytes.len()
            )))
        }
    }

    fn level(&mut self, context: &Context) -> Result<Level> {
        let level = Level(self.u32()?);
        if level <= context.parameters().max_level() {
            Ok(level)
        } else {
            Err(self.malformed(&format!("level {level} is above the chain")))
        }
    }

    /// Level, slots, scale.
    fn shape(&mut self, context: &Context) -> Result<(Level, usize, Scale)> {
        let level = self.level(context)?;
        let slots = self.u32()? as usize;
        let scale = Scale(f64::from_bits(u64::from_le_bytes(self.array()?)));
        context
            .check_slots(slots)
            .and_then(|()| context.check_scale(scale))
            .map_err(|e| self.malformed(&e.to_string()))?;
        Ok((level, slots, scale))
    }

    /// Unpacks a limb and takes it to Montgomery form.
    fn limb(&mut self, context: &Context, prime: usize, out: &mut [u64]) -> Result<()> {
        let bytes = self.take(limb_bytes(context, prime))?;
        self.unpack(context, prime, bytes, out)
    }

    fn unpack(&self, context: &Context, prime: usize, bytes: &[u8], out: &mut [u64]) -> Result<()> {
        let m = context.modulus(prime);
        let bits = bits(m);
        let mask = (1u64 << bits) - 1;
        let mut buffer = 0u128;
        let mut held = 0;
        let mut words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let mut above = false;
        for x in out.iter_mut() {
            if held < bits {
                buffer |= u128::from(words.next().unwrap_or(0)) << held;
                held += 64;
            }
            *x = buffer as u64 & mask;
            above |= *x >= m.q;
            buffer >>= bits;
            held -= bits;
        }
        if above {
            return Err(self.malformed("a residue is not below its prime"));
        }
        if buffer != 0 {
            return Err(self.malformed("padding bits are set"));
        }
        m.mul_const_assign(out, m.r2);
        Ok(())
    }

    fn poly(&mut self, context: &Context, limbs: usize) -> Result<Poly<Eval>> {
        let mut poly: Poly<Eval> = context.uninit(limbs);
        for j in 0..limbs {
            self.limb(context, j, poly.limb_mut(j))?;
        }
        Ok(poly)
    }
}

fn poly_bytes(context: &Context, limbs: usize) -> usize {
    (0..limbs).map(|j| limb_bytes(context, j)).sum()
}

fn write_poly(context: &Context, poly: &Poly<Eval>, out: &mut Vec<u8>) {
    for j in 0..poly.limbs() {
        write_limb(context, j, poly.limb(j), out);
    }
}

fn write_shape(level: Level, slots: usize, scale: Scale, out: &mut Vec<u8>) {
    out.extend(level.0.to_le_bytes());
    out.extend((slots as u32).to_le_bytes());
    out.extend(scale.0.to_bits().to_le_bytes());
}

impl Ciphertext {
    /// The bytes of this ciphertext: header, level, slots, scale, number of polynomials, residues.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to other parameters.
    pub fn to_bytes(&self, context: &Context) -> Result<Vec<u8>> {
        context.check_tag("the ciphertext", self.tag)?;
        let size = poly_bytes(context, self.level.limbs()) * self.polys.len();
        let mut out = write_header(context, Kind::Ciphertext, 20 + size);
        write_shape(self.level, self.slots, self.scale, &mut out);
        out.extend((self.polys.len() as u32).to_le_bytes());
        for poly in &self.polys {
            write_poly(context, poly, &mut out);
        }
        Ok(out)
    }

    /// Reads what [`Ciphertext::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] on anything else.
    pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<Ciphertext> {
        let mut reader = Reader::new(context, Kind::Ciphertext, bytes)?;
        let (level, slots, scale) = reader.shape(context)?;
        let count = reader.u32()? as usize;
        if !(2..=3).contains(&count) {
            return Err(reader.malformed("a ciphertext has two or three polynomials"));
        }
        reader.expect_left(poly_bytes(context, level.limbs()) * count)?;
        let polys = (0..count)
            .map(|_| reader.poly(context, level.limbs()))
            .collect::<Result<_>>()?;
        Ok(Ciphertext {
            polys,
            level,
            scale,
            slots,
            tag: context.tag(),
        })
    }
}

impl SeededCiphertext {
    /// The bytes of this ciphertext: header, level, slots, scale, seed, residues of one half.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to other parameters.
    pub fn to_bytes(&self, context: &Context) -> Result<Vec<u8>> {
        context.check_tag("the ciphertext", self.tag)?;
        let size = poly_bytes(context, self.level.limbs());
        let mut out = write_header(context, Kind::Seeded, 48 + size);
        write_shape(self.level, self.slots, self.scale, &mut out);
        out.extend(self.seed);
        write_poly(context, &self.c0, &mut out);
        Ok(out)
    }

    /// Reads what [`SeededCiphertext::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] on anything else.
    pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<SeededCiphertext> {
        let mut reader = Reader::new(context, Kind::Seeded, bytes)?;
        let (level, slots, scale) = reader.shape(context)?;
        let seed = reader.array()?;
        reader.expect_left(poly_bytes(context, level.limbs()))?;
        Ok(SeededCiphertext {
            c0: reader.poly(context, level.limbs())?,
            seed,
            level,
            scale,
            slots,
            tag: context.tag(),
        })
    }
}

impl PublicKey {
    /// The bytes of this key: header, seed, residues of one half.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to other parameters.
    pub fn to_bytes(&self, context: &Context) -> Result<Vec<u8>> {
        context.check_tag("the public key", self.tag)?;
        let size = poly_bytes(context, context.public_limbs());
        let mut out = write_header(context, Kind::Public, 32 + size);
        out.extend(self.seed);
        write_poly(context, &self.b, &mut out);
        Ok(out)
    }

    /// Reads what [`PublicKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] on anything else.
    pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<PublicKey> {
        let mut reader = Reader::new(context, Kind::Public, bytes)?;
        let seed = reader.array()?;
        reader.expect_left(poly_bytes(context, context.public_limbs()))?;
        let b = reader.poly(context, context.public_limbs())?;
        Ok(PublicKey {
            a: context.expand_seed(&seed, context.public_limbs()),
            b,
            seed,
            tag: context.tag(),
        })
    }
}

/// Bytes of one switching key up to `level`: level, seed, residues.
fn switch_key_bytes(context: &Context, level: Level) -> usize {
    let limbs: usize = (0..level.limbs() + context.special())
        .map(|j| limb_bytes(context, context.extended_prime(level, j)))
        .sum();
    36 + limbs * context.digits(level)
}

fn write_switch_key(context: &Context, key: &KeySwitchKey, out: &mut Vec<u8>) {
    out.extend(key.level.0.to_le_bytes());
    out.extend(key.seed);
    for j in 0..key.bits.len() {
        let prime = context.extended_prime(key.level, j);
        let mut half: Poly<Eval> = context.uninit(1);
        for digit in 0..key.digits {
            unpack(&key.row(j), 2 * digit, half.words_mut());
            write_limb(context, prime, half.words(), out);
        }
    }
}

fn read_switch_key(context: &Context, reader: &mut Reader<'_>) -> Result<KeySwitchKey> {
    let level = reader.level(context)?;
    let seed = reader.array()?;
    let limbs = (0..level.limbs() + context.special())
        .map(|j| {
            let bytes = limb_bytes(context, context.extended_prime(level, j));
            reader.take(bytes * context.digits(level))
        })
        .collect::<Result<Vec<_>>>()?;
    let refused = Mutex::new(None);
    let key = context.key_from(level, seed, |limb| {
        let mut halves: Poly<Eval> = context.uninit(limb.digits);
        let bytes = limbs[limb.number].chunks(limb_bytes(context, limb.prime));
        for (bytes, half) in bytes.zip(halves.words_mut().chunks_mut(context.n())) {
            if let Err(error) = reader.unpack(context, limb.prime, bytes, half) {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
        limb.write(halves.words_mut(), |_, _, _, _| {});
    });
    match refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(key),
    }
}

impl EvaluationKeys {
    /// The bytes of these keys: header, whether there is a relinearization key, number of Galois
    /// keys, then per key its element (0 for relinearization), level, seed and the residues of one half.
    ///
    /// # Errors
    /// [`Error::Foreign`] when they belong to other parameters.
    pub fn to_bytes(&self, context: &Context) -> Result<Vec<u8>> {
        let keys: Vec<(u64, &KeySwitchKey)> = self
            .relinearization
            .iter()
            .map(|key| (0, key))
            .chain(self.galois.iter().map(|(element, key)| (element.0, key)))
            .collect();
        if !keys.is_empty() {
            context.check_tag("the evaluation keys", self.tag)?;
        }
        let size: usize = keys
            .iter()
            .map(|(_, key)| 8 + switch_key_bytes(context, key.level))
            .sum();
        let mut out = write_header(context, Kind::Evaluation, 4 + size);
        out.extend((keys.len() as u32).to_le_bytes());
        for (element, key) in keys {
            out.extend(element.to_le_bytes());
            write_switch_key(context, key, &mut out);
        }
        Ok(out)
    }

    /// Reads what [`EvaluationKeys::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] on anything else.
    pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<EvaluationKeys> {
        let mut reader = Reader::new(context, Kind::Evaluation, bytes)?;
        let count = reader.u32()?;
        let mut keys = EvaluationKeys {
            relinearization: None,
            galois: BTreeMap::new(),
            tag: context.tag(),
        };
        let mut previous = None;
        for _ in 0..count {
            let element = u64::from_le_bytes(reader.array()?);
            if previous.is_some_and(|p| p >= element) {
                return Err(reader.malformed("the keys are not in order"));
            }
            previous = Some(element);
            if context.special() == 0 {
                return Err(reader.malformed("the parameters have no special primes"));
            }
            if element != 0 && (element % 2 == 0 || element >= 2 * context.n() as u64) {
                return Err(reader.malformed("a Galois element is not odd and below 2N"));
            }
            let key = read_switch_key(context, &mut reader)?;
            if element == 0 {
                keys.relinearization = Some(key);
            } else {
                keys.galois.insert(GaloisElement(element), key);
            }
        }
        reader.expect_left(0)?;
        Ok(keys)
    }
}

impl SecretKey {
    /// The bytes of this key: header, two bits per coefficient (0, 1, or 3 for −1). **Secret.** Wipe
    /// them after use.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to other parameters.
    pub fn to_bytes(&self, context: &Context) -> Result<Vec<u8>> {
        context.check_tag("the secret key", self.tag)?;
        let mut out = write_header(context, Kind::Secret, context.n() / 4);
        out.extend(
            self.coefficients
                .chunks(4)
                .map(|four| four.iter().rev().fold(0, |b, &c| b << 2 | (c as u8 & 3))),
        );
        Ok(out)
    }

    /// Reads what [`SecretKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] on anything else.
    pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<SecretKey> {
        let mut reader = Reader::new(context, Kind::Secret, bytes)?;
        reader.expect_left(context.n() / 4)?;
        let packed = reader.take(context.n() / 4)?;
        let mut coefficients = Vec::with_capacity(context.n());
        for &byte in packed {
            for shift in [0, 2, 4, 6] {
                coefficients.push(match byte >> shift & 3 {
                    0 => 0,
                    1 => 1,
                    3 => -1,
                    _ => {
                        zeroize::Zeroize::zeroize(&mut coefficients);
                        return Err(reader.malformed("a coefficient is not −1, 0 or 1"));
                    }
                });
            }
        }
        Ok(context.secret_from_coefficients(coefficients))
    }
}
