//! CKKS with nothing left implicit: every ciphertext has a level, a scale and a degree.

use hecc_params::{Level, RotationStep, Scale};

use crate::graph::{Dialect, Real};
use crate::slots::{Coefficient, PackedInput, PlainId, SlotsMeta};

/// What a CKKS node yields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CkksType {
    /// A ciphertext of `degree` + 1 polynomials with the limbs 0 … `level`.
    Cipher {
        /// Place in the modulus chain.
        level: Level,
        /// Factor between slot values and encoded ones.
        scale: Scale,
        /// 1, or 2 after a multiplication that is not relinearized yet.
        degree: u8,
    },
    /// A plaintext polynomial.
    Plain {
        /// Place in the modulus chain.
        level: Level,
        /// Factor between slot values and encoded ones.
        scale: Scale,
    },
}

impl CkksType {
    /// Place in the modulus chain.
    pub fn level(self) -> Level {
        match self {
            CkksType::Cipher { level, .. } | CkksType::Plain { level, .. } => level,
        }
    }

    /// Factor between slot values and encoded ones.
    pub fn scale(self) -> Scale {
        match self {
            CkksType::Cipher { scale, .. } | CkksType::Plain { scale, .. } => scale,
        }
    }
}

/// An encrypted input of a CKKS circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct CkksInput {
    /// What it holds.
    pub packed: PackedInput,
    /// The level at which it is encrypted.
    pub level: Level,
    /// The scale at which it is encoded.
    pub scale: Scale,
}

/// An operation on ciphertexts. Binary operations take equal levels; `Add` and `Sub` take matching scales.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CkksOp {
    /// An encrypted input.
    Input(u32),
    /// A plaintext, encoded at this level and scale.
    Encode {
        /// Which plaintext.
        plain: PlainId,
        /// Place in the modulus chain.
        level: Level,
        /// Factor between slot values and encoded ones.
        scale: Real,
    },
    /// Cipher + cipher (degrees may differ), or cipher + plain.
    Add,
    /// Cipher − cipher (degrees may differ), or cipher − plain.
    Sub,
    /// −cipher.
    Neg,
    /// Cipher × cipher, both of degree 1, yields degree 2; or cipher × plain.
    Mul,
    /// Cipher² of degree 2.
    Square,
    /// Cipher + the same public value in every slot, at the cipher's scale; no encoding.
    AddScalar(Coefficient),
    /// Cipher × round(value · scale): an integer, so no encoding; the result's scale is multiplied by `scale`.
    MulScalar {
        /// The value.
        value: Coefficient,
        /// Its scale; 1 for an integer that is multiplied in as it is.
        scale: Real,
    },
    /// Σ round(coefficient_i · scale) · cipher_i, operands of one level and matching scales; the
    /// result's scale is multiplied by `scale`.
    LinComb {
        /// One coefficient an operand.
        coefficients: Vec<Coefficient>,
        /// Their scale; 1 for integers.
        scale: Real,
    },
    /// Slot i of the result is slot i + k modulo S; degree 1.
    Rotate(RotationStep),
    /// The complex conjugate of every slot; degree 1.
    Conjugate,
    /// Every slot times the imaginary unit: the polynomials times X^(N/2). No error, no scale.
    TimesI,
    /// Degree 2 → 1.
    Relinearize,
    /// Divides by the top prime, which is this one: one level down, scale divided by it.
    Rescale {
        /// The prime that goes.
        prime: u64,
    },
    /// Forgets limbs down to this level; the scale stays.
    DropLevel(Level),
}

/// The dialect of CKKS ciphertexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ckks;

impl Dialect for Ckks {
    type Op = CkksOp;
    type Type = CkksType;
    type Input = CkksInput;
    type Output = ();
    type Meta = SlotsMeta;

    fn mnemonic(op: &CkksOp) -> &'static str {
        match op {
            CkksOp::Input(_) => "input",
            CkksOp::Encode { .. } => "encode",
            CkksOp::Add => "add",
            CkksOp::Sub => "sub",
            CkksOp::Neg => "neg",
            CkksOp::Mul => "mul",
            CkksOp::Square => "square",
            CkksOp::AddScalar(_) => "add_scalar",
            CkksOp::MulScalar { .. } => "mul_scalar",
            CkksOp::LinComb { .. } => "lincomb",
            CkksOp::Rotate(_) => "rotate",
            CkksOp::Conjugate => "conjugate",
            CkksOp::TimesI => "times_i",
            CkksOp::Relinearize => "relinearize",
            CkksOp::Rescale { .. } => "rescale",
            CkksOp::DropLevel(_) => "drop_level",
        }
    }

    fn infer(
        op: &CkksOp,
        operands: &[&CkksType],
        inputs: &[CkksInput],
    ) -> Result<CkksType, String> {
        let wanted = match op {
            CkksOp::Input(_) | CkksOp::Encode { .. } => 0,
            CkksOp::Add | CkksOp::Sub | CkksOp::Mul => 2,
            CkksOp::LinComb { coefficients, .. } => coefficients.len(),
            CkksOp::Neg
            | CkksOp::Square
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::Rotate(_)
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => 1,
        };
        if operands.len() != wanted {
            return Err(format!(
                "takes {wanted} operands and has {}",
                operands.len()
            ));
        }
        let cipher = |i: usize| match *operands[i] {
            CkksType::Cipher {
                level,
                scale,
                degree,
            } => Ok((level, scale, degree)),
            CkksType::Plain { .. } => Err(format!("operand {i} is not a ciphertext")),
        };
        let same_level = |a: Level, b: Level| {
            (a == b)
                .then_some(())
                .ok_or_else(|| format!("levels {a} and {b} differ"))
        };
        let same_scale = |a: Scale, b: Scale| {
            a.matches(b)
                .then_some(())
                .ok_or_else(|| format!("scales 2^{:.6} and 2^{:.6} differ", a.bits(), b.bits()))
        };
        let linear = |degree: u8| {
            (degree == 1)
                .then_some(())
                .ok_or_else(|| "an operand is not relinearized".to_owned())
        };
        Ok(match op {
            CkksOp::Input(i) => {
                let input = inputs.get(*i as usize).ok_or("there is no such input")?;
                CkksType::Cipher {
                    level: input.level,
                    scale: input.scale,
                    degree: 1,
                }
            }
            CkksOp::Encode { level, scale, .. } => CkksType::Plain {
                level: *level,
                scale: Scale(scale.0),
            },
            CkksOp::Add | CkksOp::Sub => {
                let (level, scale, degree) = cipher(0)?;
                same_level(level, operands[1].level())?;
                same_scale(scale, operands[1].scale())?;
                let other = match *operands[1] {
                    CkksType::Cipher { degree, .. } => degree,
                    CkksType::Plain { .. } => 1,
                };
                CkksType::Cipher {
                    level,
                    scale,
                    degree: degree.max(other),
                }
            }
            CkksOp::Mul => {
                let (level, scale, degree) = cipher(0)?;
                same_level(level, operands[1].level())?;
                let scale = scale * operands[1].scale();
                match *operands[1] {
                    CkksType::Cipher { degree: other, .. } => {
                        linear(degree)?;
                        linear(other)?;
                        CkksType::Cipher {
                            level,
                            scale,
                            degree: 2,
                        }
                    }
                    CkksType::Plain { .. } => CkksType::Cipher {
                        level,
                        scale,
                        degree,
                    },
                }
            }
            CkksOp::Square => {
                let (level, scale, degree) = cipher(0)?;
                linear(degree)?;
                CkksType::Cipher {
                    level,
                    scale: scale * scale,
                    degree: 2,
                }
            }
            CkksOp::Neg | CkksOp::TimesI | CkksOp::AddScalar(_) => {
                cipher(0)?;
                *operands[0]
            }
            CkksOp::MulScalar { scale: by, .. } => {
                let (level, scale, degree) = cipher(0)?;
                CkksType::Cipher {
                    level,
                    scale: scale * Scale(by.0),
                    degree,
                }
            }
            CkksOp::LinComb { scale: by, .. } => {
                let Some(_) = operands.first() else {
                    return Err("has no terms".to_owned());
                };
                let (level, scale, mut top) = cipher(0)?;
                for i in 1..operands.len() {
                    let (l, s, d) = cipher(i)?;
                    same_level(level, l)?;
                    same_scale(scale, s)?;
                    top = top.max(d);
                }
                CkksType::Cipher {
                    level,
                    scale: scale * Scale(by.0),
                    degree: top,
                }
            }
            CkksOp::Rotate(_) | CkksOp::Conjugate => {
                let (_, _, degree) = cipher(0)?;
                linear(degree)?;
                *operands[0]
            }
            CkksOp::Relinearize => {
                let (level, scale, _) = cipher(0)?;
                CkksType::Cipher {
                    level,
                    scale,
                    degree: 1,
                }
            }
            CkksOp::Rescale { prime } => {
                let (level, scale, degree) = cipher(0)?;
                let down = level.0.checked_sub(1).ok_or("there is no level below 0")?;
                CkksType::Cipher {
                    level: Level(down),
                    scale: scale / Scale(*prime as f64),
                    degree,
                }
            }
            CkksOp::DropLevel(to) => {
                let (level, scale, degree) = cipher(0)?;
                if *to > level {
                    return Err(format!("level {to} is above level {level}"));
                }
                CkksType::Cipher {
                    level: *to,
                    scale,
                    degree,
                }
            }
        })
    }
}
