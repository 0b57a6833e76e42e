//! The back-end in the clear: the lowered circuit on plain slots, operation by operation.

use std::sync::Arc;

use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::graph::{Circuit, NodeId};
use hecc_params::RotationStep;
use smallvec::{SmallVec, smallvec};

use crate::backend::{Backend, Operands, coefficient, not_a};
use crate::error::RuntimeError;
use crate::keys::canonical_step;
use crate::pack::Plains;
use crate::schedule::{Arg, SumTerms, Task, Work};

/// One value a slot; in a complex circuit all real parts and then all imaginary ones.
pub type ClearValue = Arc<[f64]>;

/// Computes in the clear.
#[derive(Debug)]
pub struct ClearBackend<'a> {
    circuit: &'a Circuit<Ckks>,
    plains: &'a Plains,
    inputs: Vec<ClearValue>,
}

impl<'a> ClearBackend<'a> {
    /// A back-end for one run, on the slots of every encrypted input.
    pub fn new(
        circuit: &'a Circuit<Ckks>,
        plains: &'a Plains,
        inputs: Vec<Vec<f64>>,
    ) -> ClearBackend<'a> {
        ClearBackend {
            circuit,
            plains,
            inputs: inputs.into_iter().map(Into::into).collect(),
        }
    }

    fn encode(&self, node: NodeId) -> Result<ClearValue, RuntimeError> {
        match self.circuit.graph.op(node) {
            CkksOp::Encode { plain, .. } => self.plains.slots(*plain, self.circuit.meta.values()),
            _ => Err(not_a(self.circuit, node, "a plaintext")),
        }
    }

    fn arg(&self, arg: Arg, operands: &[Arc<ClearValue>]) -> Result<ClearValue, RuntimeError> {
        match arg {
            Arg::Read(place) => read(operands, place),
            Arg::Encode(node) => self.encode(node),
        }
    }

    fn node(&self, id: NodeId, values: &[ClearValue]) -> Result<ClearValue, RuntimeError> {
        let value = |i: usize| {
            values
                .get(i)
                .ok_or_else(|| not_a(self.circuit, id, "an operation with so few operands"))
        };
        let unary = |f: &dyn Fn(f64) -> f64| Ok(value(0)?.iter().map(|x| f(*x)).collect());
        let binary = |f: &dyn Fn(f64, f64) -> f64| {
            let (a, b) = (value(0)?, value(1)?);
            Ok(a.iter().zip(b.iter()).map(|(x, y)| f(*x, *y)).collect())
        };
        match self.circuit.graph.op(id) {
            CkksOp::Input(i) => {
                self.inputs.get(*i as usize).cloned().ok_or_else(|| {
                    RuntimeError::Mismatch(format!("there is no encrypted input {i}"))
                })
            }
            CkksOp::Encode { .. } => self.encode(id),
            CkksOp::Add => binary(&|x, y| x + y),
            CkksOp::Sub => binary(&|x, y| x - y),
            CkksOp::Neg => unary(&|x| -x),
            CkksOp::Mul => Ok(self.product(value(0)?, value(1)?)),
            CkksOp::Square => Ok(self.product(value(0)?, value(0)?)),
            CkksOp::AddScalar(c) => {
                let c = coefficient(c, self.plains)?;
                unary(&|x| x + c)
            }
            CkksOp::MulScalar { value: c, .. } => {
                let c = coefficient(c, self.plains)?;
                unary(&|x| x * c)
            }
            CkksOp::LinComb { coefficients, .. } => {
                let mut sum = vec![0.0; self.circuit.meta.values()];
                for (i, c) in coefficients.iter().enumerate() {
                    let c = coefficient(c, self.plains)?;
                    accumulate(&mut sum, value(i)?, |x| c * x);
                }
                Ok(sum.into())
            }
            CkksOp::Rotate(step) => Ok(rotate(value(0)?, *step)),
            CkksOp::Conjugate => {
                let (re, im) = halves(value(0)?);
                Ok(re.iter().copied().chain(im.iter().map(|y| -y)).collect())
            }
            CkksOp::TimesI => {
                let (re, im) = halves(value(0)?);
                Ok(im.iter().map(|y| -y).chain(re.iter().copied()).collect())
            }
            CkksOp::Relinearize | CkksOp::Rescale { .. } | CkksOp::DropLevel(_) => {
                Ok(Arc::clone(value(0)?))
            }
        }
    }

    /// Slot by slot.
    fn product(&self, a: &[f64], b: &[f64]) -> ClearValue {
        if !self.circuit.meta.complex {
            return a.iter().zip(b).map(|(x, y)| x * y).collect();
        }
        let ((ar, ai), (br, bi)) = (halves(a), halves(b));
        let re = (0..ar.len()).map(|s| ar[s] * br[s] - ai[s] * bi[s]);
        let im = (0..ar.len()).map(|s| ar[s] * bi[s] + ai[s] * br[s]);
        re.chain(im).collect()
    }

    fn sum(
        &self,
        terms: &SumTerms,
        operands: &[Arc<ClearValue>],
    ) -> Result<ClearValue, RuntimeError> {
        let mut sum = vec![0.0; self.circuit.meta.values()];
        for &(a, b) in &terms.products {
            let (a, b) = (read(operands, a)?, read(operands, b)?);
            accumulate(&mut sum, &self.product(&a, &b), |x| x);
        }
        for &(a, plain) in &terms.plain_products {
            let (a, plain) = (read(operands, a)?, self.arg(plain, operands)?);
            add_product(&mut sum, &a, &plain);
        }
        for (of, rotations) in &terms.rotations {
            let of = read(operands, *of)?;
            for r in rotations {
                let turned = rotate(&of, r.step);
                match r.plain {
                    Some(plain) => add_product(&mut sum, &turned, &self.encode(plain)?),
                    None => accumulate(&mut sum, &turned, |x| x),
                }
            }
        }
        for &(of, step) in &terms.turned {
            accumulate(&mut sum, &rotate(&read(operands, of)?, step), |x| x);
        }
        for &a in &terms.rest {
            accumulate(&mut sum, &read(operands, a)?, |x| x);
        }
        Ok(sum.into())
    }
}

/// Real and imaginary parts.
fn halves(values: &[f64]) -> (&[f64], &[f64]) {
    values.split_at(values.len() / 2)
}

fn read(operands: &[Arc<ClearValue>], place: u32) -> Result<ClearValue, RuntimeError> {
    operands
        .get(place as usize)
        .map(|v| ClearValue::clone(v))
        .ok_or_else(|| RuntimeError::Mismatch(format!("there is no operand {place}")))
}

fn accumulate(sum: &mut [f64], values: &[f64], f: impl Fn(f64) -> f64) {
    for (s, x) in sum.iter_mut().zip(values) {
        *s += f(*x);
    }
}

fn add_product(sum: &mut [f64], a: &[f64], b: &[f64]) {
    for (s, (x, y)) in sum.iter_mut().zip(a.iter().zip(b)) {
        *s += x * y;
    }
}

fn rotate(value: &[f64], step: RotationStep) -> ClearValue {
    let k = canonical_step(step, value.len()).0 as usize;
    value[k..].iter().chain(&value[..k]).copied().collect()
}

impl Backend for ClearBackend<'_> {
    type Value = ClearValue;

    fn perform(
        &self,
        task: &Task,
        operands: Operands<ClearValue>,
        _parallel: bool,
    ) -> Result<SmallVec<[ClearValue; 1]>, RuntimeError> {
        let id = task.writes[0];
        match &task.work {
            Work::Node(args) => {
                let values: Result<Vec<ClearValue>, RuntimeError> =
                    args.iter().map(|a| self.arg(*a, &operands)).collect();
                Ok(smallvec![self.node(id, &values?)?])
            }
            Work::Sum(terms) => Ok(smallvec![self.sum(terms, &operands)?]),
            Work::Rotations(steps) => {
                let of = read(&operands, 0)?;
                Ok(steps.iter().map(|step| rotate(&of, *step)).collect())
            }
            Work::RotatedSums(sums) => sums
                .iter()
                .map(|rotations| {
                    let terms = SumTerms {
                        rotations: vec![(0, rotations.clone())],
                        ..SumTerms::default()
                    };
                    self.sum(&terms, &operands)
                })
                .collect(),
            Work::RelinearizeRescale => Ok(smallvec![read(&operands, 0)?]),
            Work::Combinations => {
                let values: Vec<ClearValue> =
                    operands.iter().map(|v| ClearValue::clone(v)).collect();
                task.writes
                    .iter()
                    .map(|id| self.node(*id, &values))
                    .collect()
            }
        }
    }
}
