//! Whether a program still means the same: equality at random points modulo 2⁶¹ − 1.
//!
//! Programs are polynomials with dyadic coefficients (and public divisors), so exact arithmetic
//! modulo a prime tells two of them apart with probability at least 1 − degree/2⁶¹ a point (Schwartz,
//! Zippel): a wrong rewrite cannot hide in rounding.

use hecc_ir::algebra::{F61, M61};
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::interp::{TensorValue, eval_circuit, eval_module};
use hecc_ir::tensor::{Param, Tensor, elements};

/// How many points are compared.
const POINTS: u64 = 2;

/// A program's results at fixed pseudo-random points.
#[derive(Clone, Debug)]
pub struct Reference {
    inputs: Vec<Param>,
    /// One entry a point where the program has a value (no divisor is zero there).
    points: Vec<(u64, Vec<TensorValue<M61>>)>,
}

impl Reference {
    /// Evaluates a program.
    pub fn new(module: &Module<Tensor>) -> Reference {
        let inputs = module.entry().inputs.clone();
        let points = (1..=POINTS)
            .filter_map(|seed| {
                let at = point(&inputs, seed);
                eval_module(&F61, module, &at).ok().map(|v| (seed, v))
            })
            .collect();
        Reference { inputs, points }
    }

    /// Whether the program had a value nowhere.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Evaluates a rewritten program at the same points.
    ///
    /// # Errors
    /// Why it is not the same: parameters, evaluation, or the result that differs.
    pub fn compare(&self, circuit: &Circuit<Tensor>) -> Result<(), String> {
        if circuit.inputs != self.inputs {
            return Err("the parameters changed".to_owned());
        }
        self.compare_with(circuit, Ok)
    }

    /// Evaluates a program in two parts: the parameters of the second are those of the program,
    /// then the results of the first.
    ///
    /// # Errors
    /// As [`Reference::compare`].
    pub fn compare_split(
        &self,
        client: &Circuit<Tensor>,
        server: &Circuit<Tensor>,
    ) -> Result<(), String> {
        if client.inputs != self.inputs || !server.inputs.starts_with(&self.inputs) {
            return Err("the parameters changed".to_owned());
        }
        self.compare_with(server, |mut at| {
            let sent = eval_circuit(&F61, client, &at)
                .map_err(|e| format!("the client's part cannot be evaluated: {e}"))?;
            at.extend(sent);
            Ok(at)
        })
    }

    fn compare_with(
        &self,
        circuit: &Circuit<Tensor>,
        inputs: impl Fn(Vec<TensorValue<M61>>) -> Result<Vec<TensorValue<M61>>, String>,
    ) -> Result<(), String> {
        for (seed, wanted) in &self.points {
            let got = eval_circuit(&F61, circuit, &inputs(point(&self.inputs, *seed))?)
                .map_err(|e| format!("it cannot be evaluated: {e}"))?;
            if got.len() != wanted.len() {
                return Err(format!("{} results became {}", wanted.len(), got.len()));
            }
            for (i, (a, b)) in wanted.iter().zip(&got).enumerate() {
                if a != b {
                    let name = circuit.outputs.get(i).map_or("?", |(_, d)| d.name.as_str());
                    return Err(format!("result `{name}` differs at a random point"));
                }
            }
        }
        Ok(())
    }
}

/// Pseudo-random values for every parameter (the SplitMix64 sequence).
fn point(inputs: &[Param], seed: u64) -> Vec<TensorValue<M61>> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        M61::new(z ^ (z >> 31))
    };
    inputs
        .iter()
        .map(|p| {
            let data: Vec<M61> = (0..elements(&p.shape)).map(|_| next()).collect();
            TensorValue::new(p.shape.clone(), data).expect("as many values as elements")
        })
        .collect()
}
