//! Vectors of slots, encrypted or known to the evaluator: layout is chosen, scheme internals are not.
//!
//! Every value is a vector of S slots, S a power of two that the [`SlotsMeta`] holds. S is a
//! matter of the program, not of the ring: a ring with more slots repeats the vector cyclically,
//! so that a rotation acts modulo S either way.
//!
//! A slot holds a real number or, in a *complex* circuit, a complex one: two instances of a batch, one in
//! its real part and one in its imaginary part. Weights are real all the same, so that whatever is linear
//! does both at once. A complex vector is written as its S real parts and then its S imaginary parts.

use std::sync::Arc;

use hecc_params::RotationStep;
use serde::{Deserialize, Serialize};

use crate::graph::{Dialect, Interval, Real};

/// Which plaintext of the program: an index into [`SlotsMeta::plains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlainId(pub u32);

/// For every slot the row-major index of an element, or [`SlotMap::EMPTY`] where the slot holds zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotMap(pub Arc<[u32]>);

impl SlotMap {
    /// A slot that holds zero.
    pub const EMPTY: u32 = u32::MAX;
}

/// Where the values of one encrypted input vector come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedInput {
    /// Which secret parameter of the source circuit.
    pub param: u32,
    /// Which of its elements lies where.
    pub source: SlotSource,
    /// The range of every slot.
    pub range: Interval,
    /// A name for people: `x`, `x[3]`, `Z[2] tile 1`.
    pub label: String,
}

/// Which elements of one tensor fill a vector of slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SlotSource {
    /// Slot i holds the element that the map names.
    Map(SlotMap),
    /// Every slot holds this element.
    Element(u32),
    /// Slot i holds this element of instance i of the batch; its imaginary part, in a complex circuit, that
    /// of instance S + i.
    Instances(u32),
}

/// A vector or scalar that the evaluator knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlainDef {
    /// Where its values come from.
    pub source: PlainSource,
    /// The range of every slot.
    pub range: Interval,
}

/// Where the values of a plaintext come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlainSource {
    /// Known at compile time, the same in every slot (in both parts of it, in a complex circuit).
    Uniform(f64),
    /// Known at compile time, S values.
    Vector(Arc<[f64]>),
    /// Elements of a result of the public program, known once public parameters are given.
    Public {
        /// Which result of the public program.
        output: u32,
        /// Which of its elements lies where.
        source: SlotSource,
    },
}

/// Where one result's elements are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unpack {
    /// Element e (row-major) is slot `1` of output vector `0`.
    Slots(Vec<(u32, u32)>),
    /// Element e of instance i is slot i of output vector `[e]`.
    Instances(Vec<u32>),
    /// The result depends on nothing secret: it is this result of the public program.
    Public(u32),
}

/// A result of the source circuit, put together from output vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedOutput {
    /// Its name.
    pub name: String,
    /// Its shape, one instance.
    pub shape: Vec<usize>,
    /// Where its elements are.
    pub unpack: Unpack,
}

/// What a lowered circuit carries beside its graph; the CKKS form shares it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotsMeta {
    /// S, a power of two.
    pub slots: usize,
    /// Instances evaluated at once, with `@batch`.
    pub batch: Option<u32>,
    /// Whether slots are complex, each with two instances of the batch.
    pub complex: bool,
    /// Plaintexts.
    pub plains: Vec<PlainDef>,
    /// Results.
    pub results: Vec<PackedOutput>,
    /// What the evaluator computes in the clear from the public parameters: its `Input(i)` is
    /// parameter i of the source circuit, and [`PlainSource::Public`] and [`Unpack::Public`] name its results.
    pub public: Option<crate::graph::Circuit<crate::tensor::Tensor>>,
    /// What the client computes from its parameters before encryption, with `@precompute`: its
    /// `Input(i)` is parameter i of the source circuit, and parameter n + i that a [`PackedInput`]
    /// names is its result i, with n the count of the source circuit's parameters.
    pub client: Option<crate::graph::Circuit<crate::tensor::Tensor>>,
}

impl SlotsMeta {
    /// Real numbers in a vector: S, or 2·S in a complex circuit.
    pub fn values(&self) -> usize {
        if self.complex {
            2 * self.slots
        } else {
            self.slots
        }
    }
}

/// Encrypted, or known to the evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotsType {
    /// Encrypted.
    Cipher,
    /// Known to the evaluator.
    Plain,
}

/// A public scalar factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coefficient {
    /// Known at compile time.
    Const(Real),
    /// Known at run time: a uniform plaintext.
    Plain(PlainId),
}

/// An operation on slot vectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SlotsOp {
    /// An encrypted input.
    Input(u32),
    /// A plaintext.
    Plain(PlainId),
    /// Cipher + cipher, or cipher + plain.
    Add,
    /// Cipher − cipher, or cipher − plain.
    Sub,
    /// −cipher.
    Neg,
    /// Cipher × cipher, or cipher × plain (a mask or a vector of weights; a uniform factor is a `LinComb`).
    Mul,
    /// Cipher².
    Square,
    /// Σ coefficient · cipher, one coefficient an operand: one node for a neuron of any width.
    LinComb(Vec<Coefficient>),
    /// Slot i of the result is slot i + k modulo S.
    Rotate(RotationStep),
    /// The complex conjugate of every slot.
    Conjugate,
    /// Every slot times the imaginary unit.
    TimesI,
}

/// The dialect of slot vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots;

impl Dialect for Slots {
    type Op = SlotsOp;
    type Type = SlotsType;
    type Input = PackedInput;
    type Output = ();
    type Meta = SlotsMeta;

    fn mnemonic(op: &SlotsOp) -> &'static str {
        match op {
            SlotsOp::Input(_) => "input",
            SlotsOp::Plain(_) => "plain",
            SlotsOp::Add => "add",
            SlotsOp::Sub => "sub",
            SlotsOp::Neg => "neg",
            SlotsOp::Mul => "mul",
            SlotsOp::Square => "square",
            SlotsOp::LinComb(_) => "lincomb",
            SlotsOp::Rotate(_) => "rotate",
            SlotsOp::Conjugate => "conjugate",
            SlotsOp::TimesI => "times_i",
        }
    }

    fn infer(
        op: &SlotsOp,
        operands: &[&SlotsType],
        inputs: &[PackedInput],
    ) -> Result<SlotsType, String> {
        let (least, most, second_plain) = match op {
            SlotsOp::Input(i) => {
                if *i as usize >= inputs.len() {
                    return Err("there is no such input".to_owned());
                }
                (0, 0, false)
            }
            SlotsOp::Plain(_) => (0, 0, false),
            SlotsOp::Add | SlotsOp::Sub | SlotsOp::Mul => (2, 2, true),
            SlotsOp::Neg
            | SlotsOp::Square
            | SlotsOp::Rotate(_)
            | SlotsOp::Conjugate
            | SlotsOp::TimesI => (1, 1, false),
            SlotsOp::LinComb(c) if c.is_empty() => return Err("has no terms".to_owned()),
            SlotsOp::LinComb(c) => (c.len(), c.len(), false),
        };
        if !(least..=most).contains(&operands.len()) {
            return Err(format!("takes {least} operands and has {}", operands.len()));
        }
        for (place, ty) in operands.iter().enumerate() {
            if **ty == SlotsType::Plain && !(second_plain && place == 1) {
                return Err(format!("operand {place} is not encrypted"));
            }
        }
        Ok(match op {
            SlotsOp::Plain(_) => SlotsType::Plain,
            _ => SlotsType::Cipher,
        })
    }
}
