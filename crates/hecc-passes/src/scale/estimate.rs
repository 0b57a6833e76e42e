//! What error each operation adds, and a bound for every value of a lowered circuit.
//!
//! Errors of different sources are independent and add by variance; the formulas are those of
//! [`hecc_params::noise`].

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Circuit, Interval};
use hecc_ir::slots::Coefficient;
use hecc_params::{LogN, noise};

use super::ranges::coefficient_range;

/// What the estimate needs of the parameters; a chain need not be of real primes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model<'a> {
    pub log_n: LogN,
    pub q: &'a [u64],
    pub p: &'a [u64],
    pub digit_limbs: usize,
}

/// The noise that operations add on one chain.
pub(crate) struct Noise<'a> {
    model: Model<'a>,
    slots: usize,
    /// Coefficient variance of a key switch, by level.
    switch: Vec<f64>,
}

impl<'a> Noise<'a> {
    pub fn new(circuit: &Circuit<Ckks>, model: &Model<'a>) -> Noise<'a> {
        let switch = (1..=model.q.len())
            .map(|n| noise::key_switch(model.log_n, &model.q[..n], model.p, model.digit_limbs))
            .collect();
        Noise {
            model: *model,
            slots: circuit.meta.slots.max(1),
            switch,
        }
    }

    /// Standard deviation of what a node adds to each slot by itself, in units of its value; zero
    /// where an operation is exact or its rounding is a number known at compile time.
    pub fn stddev(&self, op: &CkksOp, ty: CkksType) -> f64 {
        let Model { log_n, q, p, .. } = self.model;
        let variance = match op {
            CkksOp::Input(_) => noise::encoding() + noise::fresh_public_at(log_n, ty.level(), q, p),
            CkksOp::Encode { .. } => noise::encoding(),
            CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize => {
                self.switch[ty.level().0 as usize]
            }
            CkksOp::Rescale { .. } => noise::rescale(
                log_n,
                match ty {
                    CkksType::Cipher { degree, .. } => usize::from(degree),
                    CkksType::Plain { .. } => 1,
                },
            ),
            CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::Mul
            | CkksOp::Square
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::LinComb { .. }
            | CkksOp::TimesI
            | CkksOp::DropLevel(_) => return 0.0,
        };
        noise::slot_stddev(self.slots, variance, ty.scale())
    }
}

/// round(c · scale)/scale − c: the error of a factor that is multiplied in as an integer.
pub(crate) fn rounding(c: f64, scale: f64) -> f64 {
    let x = c * scale;
    if x.abs() < (1u64 << 52) as f64 {
        (x.round() - x) / scale
    } else {
        0.0
    }
}

/// By node, a bound on the largest absolute error of any slot, operands taken as independent and
/// every value at the end of its range.
pub(crate) fn error_bounds(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    model: &Model<'_>,
) -> Vec<f64> {
    let slots = circuit.meta.slots.max(1);
    variances(circuit, ranges, model)
        .iter()
        .zip(ranges)
        .map(|(variance, range)| {
            noise::largest(variance.sqrt(), slots) + range.magnitude() * (-46f64).exp2()
        })
        .collect()
}

/// The variance of the error of each node's slots, as if all operands were independent.
fn variances(circuit: &Circuit<Ckks>, ranges: &[Interval], model: &Model<'_>) -> Vec<f64> {
    let graph = &circuit.graph;
    let plains = &circuit.meta.plains;
    let noise = Noise::new(circuit, model);
    let mut all: Vec<f64> = Vec::with_capacity(graph.len());
    // A part of a product of complex slots is a sum of two products.
    let parts = if circuit.meta.complex { 2.0 } else { 1.0 };
    let rounded = |value: Interval, by: f64, c: Coefficient| -> f64 {
        let off = match c {
            Coefficient::Const(v) => rounding(v.0, by),
            Coefficient::Plain(_) => noise::ROUNDING.sqrt() / by,
        };
        (off * value.magnitude()).powi(2)
    };
    for id in graph.ids() {
        let operands = graph.operands(id);
        let range = |i: usize| ranges[operands[i].index()];
        let held = |i: usize| all[operands[i].index()];
        let ty = *graph.ty(id);
        // A matched scale is read as the first operand's: a difference is an error of the value.
        let mismatch = |i: usize| {
            let first = graph.ty(operands[0]).scale().0;
            let off = graph.ty(operands[i]).scale().0 / first - 1.0;
            (off * range(i).magnitude()).powi(2)
        };
        let carried = match graph.op(id) {
            CkksOp::Input(_) | CkksOp::Encode { .. } => 0.0,
            CkksOp::Add | CkksOp::Sub => mismatch(1) + held(0) + held(1),
            CkksOp::Neg
            | CkksOp::DropLevel(_)
            | CkksOp::Rotate(_)
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. } => held(0),
            CkksOp::AddScalar(_) => (0.5 / ty.scale().0).powi(2) + held(0),
            CkksOp::Mul => {
                let (a, b) = (range(0).magnitude(), range(1).magnitude());
                parts * noise::product(a, held(0), b, held(1))
            }
            CkksOp::Square => {
                let a = range(0).magnitude();
                parts * (2.0 * held(0) * held(0) + 4.0 * a * a * held(0))
            }
            CkksOp::MulScalar { value, scale: by } => {
                let c = coefficient_range(*value, plains).magnitude();
                rounded(range(0), by.0, *value) + c * c * held(0)
            }
            CkksOp::LinComb {
                coefficients,
                scale: by,
            } => coefficients
                .iter()
                .enumerate()
                .map(|(i, value)| {
                    let c = coefficient_range(*value, plains).magnitude();
                    rounded(range(i), by.0, *value) + c * c * (mismatch(i) + held(i))
                })
                .sum(),
        };
        all.push(carried + noise.stddev(graph.op(id), ty).powi(2));
    }
    all
}
