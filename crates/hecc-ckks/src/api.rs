use crate::*;
use hecc_params::*;
use num_complex::Complex64;
type C = Ciphertext;
/// Weight of one rotated copy.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// As it is; the scale of the sum's weights must be 1.
    One,
    /// A real number, at the scale given to the sum.
    Scalar(f64),
    /// A vector, encoded with [`Context::encode_extended`] at that scale.
    Plain(&'a ExtendedPlaintext),
}
macro_rules! sig { ($($(#[$m:meta])* fn $name:ident(&self $(, $a:ident : $t:ty)* $(,)?) -> $r:ty;)*) => {
 impl Context { $( $(#[$m])* #[allow(unused_variables, missing_docs)] pub fn $name(&self $(, $a: $t)*) -> $r { unimplemented!() } )* } } }
sig! {
 fn encode(&self, values: &[f64], level: Level, scale: Scale) -> Result<Plaintext>;
 fn encode_complex(&self, values: &[Complex64], level: Level, scale: Scale) -> Result<Plaintext>;
 fn encode_extended(&self, values: &[f64], level: Level, scale: Scale) -> Result<ExtendedPlaintext>;
 fn decode(&self, plaintext: &Plaintext) -> Result<Vec<f64>>;
 fn decode_complex(&self, plaintext: &Plaintext) -> Result<Vec<Complex64>>;
 fn secret_key(&self, randomness: &mut Randomness) -> SecretKey;
 fn public_key(&self, secret: &SecretKey, randomness: &mut Randomness) -> Result<PublicKey>;
 fn evaluation_keys(&self, secret: &SecretKey, request: &EvaluationKeyRequest, randomness: &mut Randomness) -> Result<EvaluationKeys>;
 fn encrypt(&self, plaintext: &Plaintext, key: &PublicKey, randomness: &mut Randomness) -> Result<C>;
 fn encrypt_symmetric(&self, plaintext: &Plaintext, key: &SecretKey, randomness: &mut Randomness) -> Result<SeededCiphertext>;
 fn expand(&self, seeded: &SeededCiphertext) -> Result<C>;
 fn decrypt(&self, ciphertext: &C, key: &SecretKey) -> Result<Plaintext>;
 fn zero(&self, level: Level, scale: Scale, slots: usize) -> Result<C>;
 fn add(&self, a: &C, b: &C) -> Result<C>;
 fn add_assign(&self, a: &mut C, b: &C) -> Result<()>;
 fn sub(&self, a: &C, b: &C) -> Result<C>;
 fn sub_assign(&self, a: &mut C, b: &C) -> Result<()>;
 fn negate(&self, a: &C) -> Result<C>;
 fn negate_assign(&self, a: &mut C) -> Result<()>;
 fn add_plain(&self, a: &C, b: &Plaintext) -> Result<C>;
 fn add_plain_assign(&self, a: &mut C, b: &Plaintext) -> Result<()>;
 fn sub_plain(&self, a: &C, b: &Plaintext) -> Result<C>;
 fn sub_plain_assign(&self, a: &mut C, b: &Plaintext) -> Result<()>;
 fn mul_plain(&self, a: &C, b: &Plaintext) -> Result<C>;
 fn mul_plain_assign(&self, a: &mut C, b: &Plaintext) -> Result<()>;
 fn add_scalar(&self, a: &C, value: f64) -> Result<C>;
 fn add_scalar_assign(&self, a: &mut C, value: f64) -> Result<()>;
 fn mul_scalar(&self, a: &C, value: f64, scale: Scale) -> Result<C>;
 fn mul_scalar_assign(&self, a: &mut C, value: f64, scale: Scale) -> Result<()>;
 fn mul(&self, a: &C, b: &C) -> Result<C>;
 fn square(&self, a: &C) -> Result<C>;
 fn mul_sum(&self, pairs: &[(&C, &C)]) -> Result<C>;
 fn mul_plain_sum(&self, pairs: &[(&C, &Plaintext)]) -> Result<C>;
 fn linear_combination(&self, operands: &[&C], weights: &[f64], scale: Scale) -> Result<C>;
 fn linear_combinations(&self, operands: &[&C], weights: &[&[f64]], scale: Scale) -> Result<Vec<C>>;
 fn relinearize(&self, a: &C, keys: &EvaluationKeys) -> Result<C>;
 fn relinearize_rescale(&self, a: &C, keys: &EvaluationKeys) -> Result<C>;
 fn rescale(&self, a: &C) -> Result<C>;
 fn drop_level(&self, a: &C, level: Level) -> Result<C>;
 fn drop_level_assign(&self, a: &mut C, level: Level) -> Result<()>;
 fn rotate(&self, a: &C, step: RotationStep, keys: &EvaluationKeys) -> Result<C>;
 fn rotate_hoisted(&self, a: &C, steps: &[RotationStep], keys: &EvaluationKeys) -> Result<Vec<C>>;
 fn conjugate(&self, a: &C, keys: &EvaluationKeys) -> Result<C>;
 fn rotate_sum(&self, a: &C, terms: &[(RotationStep, Weight<'_>)], scale: Scale, keys: &EvaluationKeys) -> Result<C>;
}
macro_rules! wire { ($($t:ty),*) => { $( impl $t {
 /// The bytes of this object, bound to the context's parameters.
 pub fn to_bytes(&self, context: &Context) -> Vec<u8> { let _ = context; unimplemented!() }
 /// Reads what [`to_bytes`](Self::to_bytes) wrote.
 ///
 /// # Errors
 /// [`Error::Malformed`] on anything else; never panics.
 pub fn from_bytes(context: &Context, bytes: &[u8]) -> Result<Self> { let _ = (context, bytes); unimplemented!() }
 })* } }
wire!(
    Ciphertext,
    SeededCiphertext,
    PublicKey,
    EvaluationKeys,
    SecretKey
);
