//! The encrypted back-end: hands every task to the engine.

use std::sync::{Arc, Mutex, PoisonError};

use hecc_ckks::{
    Ciphertext, Complex64, Context, EvaluationKeys, ExtendedPlaintext, Plaintext, PublicKey,
    Randomness, SecretKey, SeededCiphertext, Weight,
};
use hecc_ir::ckks::{Ckks, CkksInput, CkksOp, CkksType};
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::slots::SlotsMeta;
use hecc_params::{Level, RotationStep, Scale};
use rayon::prelude::*;
use smallvec::{SmallVec, smallvec};

use crate::backend::{Backend, Operands, coefficient, engine_error, not_a};
use crate::bind::Bindings;
use crate::error::RuntimeError;
use crate::keys::canonical_step;
use crate::pack::{Plains, pack};
use crate::schedule::{Arg, SumTerms, Task, WeightedRotation, Work};

/// Plaintexts that are encoded at once take up to this part of the memory of the keys.
const PLAINTEXTS_OF_KEYS: usize = 8;

/// Plaintexts that are encoded at once for a sum of products take up to this part of the memory of its
/// ciphertexts, if that is more.
const PLAINTEXTS_OF_OPERANDS: usize = 4;

/// What a node yields under encryption.
#[derive(Clone, Debug)]
pub enum CkksValue {
    /// A ciphertext.
    Cipher(Ciphertext),
    /// An encoded plaintext.
    Plain(Plaintext),
}

/// A ciphertext as its maker sends it.
#[derive(Clone, Debug)]
pub enum EncryptedInput {
    /// Made with the secret key: half of it is a seed.
    Seeded(SeededCiphertext),
    /// Made with the public key.
    Full(Ciphertext),
}

/// With what inputs are encrypted.
#[derive(Clone, Copy, Debug)]
pub enum EncryptWith<'a> {
    /// Anyone can.
    Public(&'a PublicKey),
    /// The key's owner, at half the size.
    Secret(&'a SecretKey),
}

/// Packs, encodes and encrypts every input of a circuit, in order, in parallel.
///
/// # Errors
/// [`RuntimeError`] when the bindings are not the circuit's, or the engine refuses.
pub fn encrypt(
    context: &Context,
    circuit: &Circuit<Ckks>,
    bindings: &Bindings,
    key: EncryptWith<'_>,
    randomness: &mut Randomness,
) -> Result<Vec<EncryptedInput>, RuntimeError> {
    // A generator for each input, so that the result does not depend on the number of threads.
    let jobs: Vec<(&CkksInput, Randomness)> = circuit
        .inputs
        .iter()
        .map(|input| (input, randomness.fork()))
        .collect();
    jobs.into_par_iter()
        .map(|(input, mut randomness)| {
            let slots = pack(&circuit.meta, &input.packed, bindings)?;
            let failed = |source| RuntimeError::Edge {
                what: format!("encrypting {}", input.packed.label),
                source,
            };
            let plaintext = encode_values(context, &circuit.meta, &slots, input.level, input.scale)
                .map_err(failed)?;
            match key {
                EncryptWith::Public(key) => context
                    .encrypt(&plaintext, key, &mut randomness)
                    .map(EncryptedInput::Full),
                EncryptWith::Secret(key) => context
                    .encrypt_symmetric(&plaintext, key, &mut randomness)
                    .map(EncryptedInput::Seeded),
            }
            .map_err(failed)
        })
        .collect()
}

fn encode_values(
    context: &Context,
    meta: &SlotsMeta,
    values: &[f64],
    level: Level,
    scale: Scale,
) -> Result<Plaintext, hecc_ckks::Error> {
    if !meta.complex {
        return context.encode(values, level, scale);
    }
    let (re, im) = values.split_at(values.len() / 2);
    let values: Vec<Complex64> = re
        .iter()
        .zip(im)
        .map(|(&re, &im)| Complex64::new(re, im))
        .collect();
    context.encode_complex(&values, level, scale)
}

/// The values of a plaintext, as [`pack`] lays them out.
pub(crate) fn decode_values(
    context: &Context,
    complex: bool,
    plaintext: &Plaintext,
) -> Result<Vec<f64>, hecc_ckks::Error> {
    if !complex {
        return context.decode(plaintext);
    }
    let slots = context.decode_complex(plaintext)?;
    let re = slots.iter().map(|z| z.re);
    Ok(re.chain(slots.iter().map(|z| z.im)).collect())
}

/// Decrypts and decodes the output vectors of a circuit, in order.
///
/// # Errors
/// [`RuntimeError::Edge`] when the engine refuses.
pub fn decrypt(
    context: &Context,
    circuit: &Circuit<Ckks>,
    outputs: &[&Ciphertext],
    key: &SecretKey,
) -> Result<Vec<Vec<f64>>, RuntimeError> {
    outputs
        .par_iter()
        .enumerate()
        .map(|(i, c)| {
            context
                .decrypt(c, key)
                .and_then(|p| decode_values(context, circuit.meta.complex, &p))
                .map_err(|source| RuntimeError::Edge {
                    what: format!("decrypting output vector {i}"),
                    source,
                })
        })
        .collect()
}

/// Computes under encryption.
pub struct CkksBackend<'a> {
    circuit: &'a Circuit<Ckks>,
    plains: &'a Plains,
    keys: &'a EvaluationKeys,
    /// The engine on one thread, and on many.
    narrow: Context,
    wide: Context,
    inputs: Vec<Mutex<Option<EncryptedInput>>>,
    /// By input: how many nodes take it.
    takers: Vec<u32>,
}

impl<'a> CkksBackend<'a> {
    /// A back-end for one run.
    ///
    /// # Errors
    /// [`RuntimeError::Mismatch`] when there are not as many inputs as the circuit takes, or one has
    /// another level, scale or number of slots than the circuit says.
    pub fn new(
        context: &Context,
        circuit: &'a Circuit<Ckks>,
        plains: &'a Plains,
        keys: &'a EvaluationKeys,
        inputs: Vec<EncryptedInput>,
    ) -> Result<CkksBackend<'a>, RuntimeError> {
        if inputs.len() != circuit.inputs.len() {
            return Err(RuntimeError::Mismatch(format!(
                "{} encrypted inputs where the circuit takes {}",
                inputs.len(),
                circuit.inputs.len()
            )));
        }
        for (input, wanted) in inputs.iter().zip(&circuit.inputs) {
            let (level, scale, slots, degree) = match input {
                EncryptedInput::Seeded(c) => (c.level(), c.scale(), c.slots(), 1),
                EncryptedInput::Full(c) => (c.level(), c.scale(), c.slots(), c.degree()),
            };
            let fits = level == wanted.level
                && scale == wanted.scale
                && slots == circuit.meta.slots
                && degree == 1;
            if !fits {
                return Err(RuntimeError::Mismatch(format!(
                    "encrypted input {} is not as the circuit takes it: encrypt it again for this circuit",
                    wanted.packed.label
                )));
            }
        }
        let mut takers = vec![0; inputs.len()];
        for id in circuit.graph.ids() {
            if let CkksOp::Input(i) = circuit.graph.op(id)
                && let Some(n) = takers.get_mut(*i as usize)
            {
                *n += 1;
            }
        }
        Ok(CkksBackend {
            circuit,
            plains,
            keys,
            narrow: context.parallel(false),
            wide: context.parallel(true),
            inputs: inputs.into_iter().map(|i| Mutex::new(Some(i))).collect(),
            takers,
        })
    }

    fn input(&self, context: &Context, id: NodeId, i: u32) -> Result<Ciphertext, RuntimeError> {
        let missing = || RuntimeError::Mismatch(format!("there is no encrypted input {i}"));
        let slot = self.inputs.get(i as usize).ok_or_else(missing)?;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let input = if self.takers[i as usize] == 1 {
            slot.take()
        } else {
            slot.clone()
        };
        drop(slot);
        match input.ok_or_else(missing)? {
            EncryptedInput::Full(c) => Ok(c),
            EncryptedInput::Seeded(c) => context.expand(&c).map_err(engine_error(self.circuit, id)),
        }
    }

    /// Encodes a plaintext: `with(its values, its level, its scale)`.
    fn encode_with<T>(
        &self,
        node: NodeId,
        with: impl FnOnce(&[f64], Level, Scale) -> Result<T, hecc_ckks::Error>,
    ) -> Result<T, RuntimeError> {
        match self.circuit.graph.op(node) {
            CkksOp::Encode {
                plain,
                level,
                scale,
            } => {
                let values = self.plains.slots(*plain, self.circuit.meta.values())?;
                with(&values, *level, Scale(scale.0)).map_err(engine_error(self.circuit, node))
            }
            _ => Err(not_a(self.circuit, node, "a plaintext")),
        }
    }

    fn encode(&self, context: &Context, node: NodeId) -> Result<Plaintext, RuntimeError> {
        self.encode_with(node, |values, level, scale| {
            encode_values(context, &self.circuit.meta, values, level, scale)
        })
    }

    fn encode_extended(
        &self,
        context: &Context,
        node: NodeId,
    ) -> Result<ExtendedPlaintext, RuntimeError> {
        self.encode_with(node, |values, level, scale| {
            context.encode_extended(values, level, scale)
        })
    }

    fn node(
        &self,
        context: &Context,
        id: NodeId,
        args: &[Arg],
        held: &mut Held,
    ) -> Result<CkksValue, RuntimeError> {
        let failed = engine_error(self.circuit, id);
        let place = |i: usize| match args.get(i) {
            Some(Arg::Read(place)) => Ok(*place),
            Some(Arg::Encode(_)) | None => {
                Err(not_a(self.circuit, id, "an operation on ciphertexts"))
            }
        };
        // The second operand, where it is a plaintext.
        let mut fresh = None;
        if let Some(Arg::Encode(node)) = args.get(1) {
            fresh = Some(self.encode(context, *node)?);
        }
        let second_is_plain =
            fresh.is_some() || matches!(args.get(1), Some(Arg::Read(p)) if held.plain(*p).is_ok());
        let plain = |held: &Held| match fresh {
            Some(p) => Ok(p),
            None => held.plain(place(1)?).cloned(),
        };
        let ciphertext = match self.circuit.graph.op(id) {
            CkksOp::Input(i) => self.input(context, id, *i)?,
            CkksOp::Encode { .. } => return self.encode(context, id).map(CkksValue::Plain),
            CkksOp::Add if second_is_plain => {
                let plain = plain(held)?;
                let mut a = held.take(place(0)?)?;
                context.add_plain_assign(&mut a, &plain).map_err(failed)?;
                a
            }
            CkksOp::Sub if second_is_plain => {
                let plain = plain(held)?;
                let mut a = held.take(place(0)?)?;
                context.sub_plain_assign(&mut a, &plain).map_err(failed)?;
                a
            }
            CkksOp::Mul if second_is_plain => {
                let plain = plain(held)?;
                let mut a = held.take(place(0)?)?;
                context.mul_plain_assign(&mut a, &plain).map_err(failed)?;
                a
            }
            CkksOp::Add => {
                let (a, b) = (place(0)?, place(1)?);
                // In place on whichever nobody else needs; degrees may differ.
                if a != b && held.is_only(a) {
                    let mut sum = held.take(a)?;
                    context
                        .add_assign(&mut sum, held.cipher(b)?)
                        .map_err(failed)?;
                    sum
                } else if a != b && held.is_only(b) {
                    let mut sum = held.take(b)?;
                    context
                        .add_assign(&mut sum, held.cipher(a)?)
                        .map_err(failed)?;
                    sum
                } else {
                    context
                        .add(held.cipher(a)?, held.cipher(b)?)
                        .map_err(failed)?
                }
            }
            CkksOp::Sub => {
                let (a, b) = (place(0)?, place(1)?);
                if a != b && held.is_only(a) {
                    let mut difference = held.take(a)?;
                    context
                        .sub_assign(&mut difference, held.cipher(b)?)
                        .map_err(failed)?;
                    difference
                } else {
                    context
                        .sub(held.cipher(a)?, held.cipher(b)?)
                        .map_err(failed)?
                }
            }
            CkksOp::Mul => context
                .mul(held.cipher(place(0)?)?, held.cipher(place(1)?)?)
                .map_err(failed)?,
            CkksOp::Square => context.square(held.cipher(place(0)?)?).map_err(failed)?,
            CkksOp::Neg => {
                let mut a = held.take(place(0)?)?;
                context.negate_assign(&mut a).map_err(failed)?;
                a
            }
            CkksOp::AddScalar(c) => {
                let value = coefficient(c, self.plains)?;
                let mut a = held.take(place(0)?)?;
                if self.circuit.meta.complex {
                    let both = Complex64::new(value, value);
                    context
                        .add_complex_scalar_assign(&mut a, both)
                        .map_err(failed)?;
                } else {
                    context.add_scalar_assign(&mut a, value).map_err(failed)?;
                }
                a
            }
            CkksOp::MulScalar { value, scale } => {
                let value = coefficient(value, self.plains)?;
                let mut a = held.take(place(0)?)?;
                let integer = (value * scale.0).round();
                if integer.abs() == 1.0 {
                    // The same ciphertext at another scale: how a rational factor is absorbed.
                    a.set_scale(Scale(a.scale().0 * scale.0));
                    if integer < 0.0 {
                        context.negate_assign(&mut a).map_err(failed)?;
                    }
                } else {
                    context
                        .mul_scalar_assign(&mut a, value, Scale(scale.0))
                        .map_err(failed)?;
                }
                a
            }
            CkksOp::LinComb {
                coefficients,
                scale,
            } => {
                let weights: Result<Vec<f64>, RuntimeError> = coefficients
                    .iter()
                    .map(|c| coefficient(c, self.plains))
                    .collect();
                let operands: Result<Vec<&Ciphertext>, RuntimeError> = (0..coefficients.len())
                    .map(|i| held.cipher(place(i)?))
                    .collect();
                context
                    .linear_combination(&operands?, &weights?, Scale(scale.0))
                    .map_err(failed)?
            }
            CkksOp::Rotate(step) => {
                let step = canonical_step(*step, self.circuit.meta.slots);
                if step.0 == 0 {
                    held.take(place(0)?)?
                } else {
                    context
                        .rotate(held.cipher(place(0)?)?, step, self.keys)
                        .map_err(failed)?
                }
            }
            CkksOp::Conjugate => context
                .conjugate(held.cipher(place(0)?)?, self.keys)
                .map_err(failed)?,
            CkksOp::TimesI => {
                let mut a = held.take(place(0)?)?;
                context.mul_i_assign(&mut a).map_err(failed)?;
                a
            }
            CkksOp::Relinearize => {
                let a = held.cipher(place(0)?)?;
                if a.degree() == 1 {
                    held.take(place(0)?)?
                } else {
                    context.relinearize(a, self.keys).map_err(failed)?
                }
            }
            CkksOp::Rescale { .. } => context.rescale(held.cipher(place(0)?)?).map_err(failed)?,
            CkksOp::DropLevel(level) => {
                let mut a = held.take(place(0)?)?;
                context.drop_level_assign(&mut a, *level).map_err(failed)?;
                a
            }
        };
        Ok(CkksValue::Cipher(ciphertext))
    }

    fn sum(
        &self,
        context: &Context,
        id: NodeId,
        terms: &SumTerms,
        held: &mut Held,
    ) -> Result<CkksValue, RuntimeError> {
        let failed = || engine_error(self.circuit, id);
        let mut parts: Vec<Ciphertext> = Vec::new();
        if !terms.products.is_empty() {
            let pairs: Result<Vec<_>, RuntimeError> = terms
                .products
                .iter()
                .map(|&(a, b)| Ok((held.cipher(a)?, held.cipher(b)?)))
                .collect();
            parts.push(context.mul_sum(&pairs?).map_err(failed())?);
        }
        self.plain_products(context, id, &terms.plain_products, held, &mut parts)?;
        for (of, rotations) in &terms.rotations {
            parts.push(self.rotation_sum(context, id, held.cipher(*of)?, rotations)?);
        }
        if !terms.turned.is_empty() {
            let turned: Result<Vec<_>, RuntimeError> = terms
                .turned
                .iter()
                .map(|&(of, step)| Ok((held.cipher(of)?, step)))
                .collect();
            parts.push(context.sum_rotated(&turned?, self.keys).map_err(failed())?);
        }
        for &a in &terms.rest {
            let mut left = parts.pop();
            match &mut left {
                None => left = Some(held.take(a)?),
                Some(sum) => context.add_assign(sum, held.cipher(a)?).map_err(failed())?,
            }
            parts.extend(left);
        }
        let mut parts = parts.into_iter();
        let mut sum = parts
            .next()
            .ok_or_else(|| not_a(self.circuit, id, "a sum of something"))?;
        for part in parts {
            context.add_assign(&mut sum, &part).map_err(failed())?;
        }
        Ok(CkksValue::Cipher(sum))
    }

    /// Σ of ciphertexts times plaintexts, in as many parts as keep the plaintexts that are encoded for it small.
    fn plain_products(
        &self,
        context: &Context,
        id: NodeId,
        terms: &[(u32, Arg)],
        held: &Held,
        parts: &mut Vec<Ciphertext>,
    ) -> Result<(), RuntimeError> {
        let operands = terms.iter().map(|&(a, _)| Ok(held.cipher(a)?.memory()));
        let operands: usize = operands.sum::<Result<usize, RuntimeError>>()?;
        let most = (operands / PLAINTEXTS_OF_OPERANDS).max(self.keys.memory() / PLAINTEXTS_OF_KEYS);
        let mut rest = terms;
        while !rest.is_empty() {
            let mut fresh: Vec<Option<Plaintext>> = Vec::new();
            let mut memory = 0;
            for (a, plain) in rest {
                if memory > most {
                    break;
                }
                fresh.push(match plain {
                    Arg::Encode(node) => {
                        // Half as large as a ciphertext of two polynomials.
                        memory += held.cipher(*a)?.memory() / 2;
                        Some(self.encode(context, *node)?)
                    }
                    Arg::Read(_) => None,
                });
            }
            let (now, later) = rest.split_at(fresh.len());
            rest = later;
            let pairs: Result<Vec<_>, RuntimeError> = now
                .iter()
                .zip(&fresh)
                .map(|(&(a, plain), fresh)| {
                    let plain = match (fresh, plain) {
                        (Some(p), _) => p,
                        (None, Arg::Read(place)) => held.plain(place)?,
                        (None, Arg::Encode(node)) => {
                            return Err(not_a(self.circuit, node, "encoded"));
                        }
                    };
                    Ok((held.cipher(a)?, plain))
                })
                .collect();
            let failed = engine_error(self.circuit, id);
            let sum = context.mul_plain_sum(&pairs?).map_err(failed)?;
            match parts.last_mut() {
                Some(total) => context
                    .add_assign(total, &sum)
                    .map_err(engine_error(self.circuit, id))?,
                None => parts.push(sum),
            }
        }
        Ok(())
    }

    /// Weighted sums of rotations of `of`, with a rescale after each.
    fn rotated_sums(
        &self,
        context: &Context,
        id: NodeId,
        of: &Ciphertext,
        sums: &[Vec<WeightedRotation>],
    ) -> Result<SmallVec<[CkksValue; 1]>, RuntimeError> {
        let failed = || engine_error(self.circuit, id);
        let mut out = SmallVec::with_capacity(sums.len());
        let mut sums = sums.iter().peekable();
        while sums.peek().is_some() {
            // As many sums at once as their plaintexts leave memory for.
            let mut encoded: Vec<Vec<(RotationStep, ExtendedPlaintext)>> = Vec::new();
            let mut memory = 0;
            while memory <= self.keys.memory() / PLAINTEXTS_OF_KEYS
                && let Some(sum) = sums.next()
            {
                let terms: Result<Vec<_>, RuntimeError> = sum
                    .iter()
                    .map(|term| {
                        let plain = term
                            .plain
                            .ok_or_else(|| not_a(self.circuit, id, "a sum with weights"))?;
                        Ok((term.step, self.encode_extended(context, plain)?))
                    })
                    .collect();
                let terms = terms?;
                memory += terms.iter().map(|(_, p)| p.memory()).sum::<usize>();
                encoded.push(terms);
            }
            let scale = encoded
                .iter()
                .flatten()
                .next()
                .map_or(Scale::ONE, |(_, p)| p.scale());
            let weighted: Vec<Vec<(RotationStep, Weight<'_>)>> = encoded
                .iter()
                .map(|terms| {
                    let terms = terms.iter();
                    terms.map(|(step, p)| (*step, Weight::Plain(p))).collect()
                })
                .collect();
            let weighted: Vec<&[_]> = weighted.iter().map(Vec::as_slice).collect();
            let done = context
                .rotate_sums_rescale(of, &weighted, scale, self.keys)
                .map_err(failed())?;
            out.extend(done.into_iter().map(CkksValue::Cipher));
        }
        Ok(out)
    }

    fn rotation_sum(
        &self,
        context: &Context,
        id: NodeId,
        of: &Ciphertext,
        rotations: &[WeightedRotation],
    ) -> Result<Ciphertext, RuntimeError> {
        let encoded: Result<Vec<Option<ExtendedPlaintext>>, RuntimeError> = rotations
            .iter()
            .map(|r| {
                r.plain
                    .map(|node| self.encode_extended(context, node))
                    .transpose()
            })
            .collect();
        let encoded = encoded?;
        let scale = encoded
            .iter()
            .flatten()
            .next()
            .map_or(Scale::ONE, ExtendedPlaintext::scale);
        let terms: Vec<(RotationStep, Weight<'_>)> = rotations
            .iter()
            .zip(&encoded)
            .map(|(r, plain)| (r.step, plain.as_ref().map_or(Weight::One, Weight::Plain)))
            .collect();
        context
            .rotate_sum(of, &terms, scale, self.keys)
            .map_err(engine_error(self.circuit, id))
    }
}

/// The operands of a task while it runs.
struct Held(Vec<Option<Arc<CkksValue>>>);

impl Held {
    fn get(&self, place: u32) -> Result<&CkksValue, RuntimeError> {
        self.0
            .get(place as usize)
            .and_then(|v| v.as_deref())
            .ok_or_else(|| RuntimeError::Mismatch(format!("there is no operand {place}")))
    }

    fn cipher(&self, place: u32) -> Result<&Ciphertext, RuntimeError> {
        match self.get(place)? {
            CkksValue::Cipher(c) => Ok(c),
            CkksValue::Plain(_) => Err(RuntimeError::Mismatch(format!(
                "operand {place} is not a ciphertext"
            ))),
        }
    }

    fn plain(&self, place: u32) -> Result<&Plaintext, RuntimeError> {
        match self.get(place)? {
            CkksValue::Plain(p) => Ok(p),
            CkksValue::Cipher(_) => Err(RuntimeError::Mismatch(format!(
                "operand {place} is not a plaintext"
            ))),
        }
    }

    /// Whether nobody else needs this operand.
    fn is_only(&self, place: u32) -> bool {
        self.0
            .get(place as usize)
            .and_then(|v| v.as_ref())
            .is_some_and(|v| Arc::strong_count(v) == 1)
    }

    /// The operand to be changed: itself when nobody else needs it, a copy otherwise.
    fn take(&mut self, place: u32) -> Result<Ciphertext, RuntimeError> {
        if self.is_only(place)
            && let Some(value) = self.0[place as usize].take()
        {
            return match Arc::try_unwrap(value) {
                Ok(CkksValue::Cipher(c)) => Ok(c),
                Ok(CkksValue::Plain(_)) => Err(RuntimeError::Mismatch(format!(
                    "operand {place} is not a ciphertext"
                ))),
                Err(shared) => {
                    self.0[place as usize] = Some(shared);
                    self.cipher(place).cloned()
                }
            };
        }
        self.cipher(place).cloned()
    }
}

impl Backend for CkksBackend<'_> {
    type Value = CkksValue;

    fn perform(
        &self,
        task: &Task,
        operands: Operands<CkksValue>,
        parallel: bool,
    ) -> Result<SmallVec<[CkksValue; 1]>, RuntimeError> {
        let context = if parallel { &self.wide } else { &self.narrow };
        let id = task.writes[0];
        let mut held = Held(operands.into_iter().map(Some).collect());
        match &task.work {
            Work::Node(args) => Ok(smallvec![self.node(context, id, args, &mut held)?]),
            Work::Sum(terms) => Ok(smallvec![self.sum(context, id, terms, &mut held)?]),
            Work::Rotations(steps) => Ok(context
                .rotate_hoisted(held.cipher(0)?, steps, self.keys)
                .map_err(engine_error(self.circuit, id))?
                .into_iter()
                .map(CkksValue::Cipher)
                .collect()),
            Work::RotatedSums(sums) => self.rotated_sums(context, id, held.cipher(0)?, sums),
            Work::RelinearizeRescale => Ok(smallvec![CkksValue::Cipher(
                context
                    .relinearize_rescale(held.cipher(0)?, self.keys)
                    .map_err(engine_error(self.circuit, id))?
            )]),
            Work::Combinations => {
                let mut rows: Vec<Vec<f64>> = Vec::with_capacity(task.writes.len());
                let mut weights_scale = Scale::ONE;
                for id in &task.writes {
                    match self.circuit.graph.op(*id) {
                        CkksOp::LinComb {
                            coefficients,
                            scale,
                        } => {
                            weights_scale = Scale(scale.0);
                            let row: Result<Vec<f64>, RuntimeError> = coefficients
                                .iter()
                                .map(|c| coefficient(c, self.plains))
                                .collect();
                            rows.push(row?);
                        }
                        _ => return Err(not_a(self.circuit, *id, "a linear combination")),
                    }
                }
                let weights: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
                let operands: Result<Vec<&Ciphertext>, RuntimeError> = (0..task.reads.len() as u32)
                    .map(|i| held.cipher(i))
                    .collect();
                Ok(context
                    .linear_combinations(&operands?, &weights, weights_scale)
                    .map_err(engine_error(self.circuit, id))?
                    .into_iter()
                    .map(CkksValue::Cipher)
                    .collect())
            }
        }
    }
}

/// Checks that a ciphertext is what the compiler said it would be.
pub(crate) fn check_type(
    circuit: &Circuit<Ckks>,
    id: NodeId,
    value: &Ciphertext,
) -> Result<(), RuntimeError> {
    match circuit.graph.ty(id) {
        CkksType::Cipher {
            level,
            scale,
            degree,
        } if *level == value.level()
            && scale.matches(value.scale())
            && usize::from(*degree) == value.degree() =>
        {
            Ok(())
        }
        ty => Err(RuntimeError::Mismatch(format!(
            "node {id} ought to be {ty:?} and is of level {}, scale 2^{:.4} and degree {}",
            value.level(),
            value.scale().bits(),
            value.degree()
        ))),
    }
}
