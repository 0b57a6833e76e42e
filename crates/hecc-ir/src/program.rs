//! A compiled circuit: all that an evaluator, and whoever encrypts and decrypts for it, needs.

use hecc_params::Parameters;

use crate::ckks::Ckks;
use crate::graph::{Circuit, Module};
use crate::tensor::{Param, Tensor};

/// A circuit lowered to CKKS with its parameters and the program it came from.
#[derive(Clone, Debug)]
pub struct Program {
    /// The circuit's name.
    pub name: String,
    /// The source circuit's parameters, public ones included, in order.
    pub params: Vec<Param>,
    /// The program as written, for the reference in the clear.
    pub reference: Module<Tensor>,
    /// The lowered circuit; its meta says how inputs are packed and results unpacked.
    pub circuit: Circuit<Ckks>,
    /// The parameters that were chosen for it.
    pub parameters: Parameters,
    /// Bits of precision of the results that the noise estimate promises: −log2 of the largest absolute error.
    pub precision_bits: f64,
}
