//! How precise the results will be: every source of error, carried to the outputs.
//!
//! Errors of different sources are independent and add by variance; the same source that reaches an
//! output on several paths adds with its signs. So the estimate runs backwards: the sensitivity of an
//! output to every node, an interval from the ranges of the other factors, and then the sum over the
//! sources of (sensitivity · standard deviation)². Slots of one error are independent of one
//! another (the canonical embedding of independent coefficients), so that what comes through a
//! rotation adds to the rest by squares: a sum over 2^k slots multiplies an error by 2^(k/2).

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::slots::Coefficient;
use hecc_params::{LogN, noise};

use super::ranges::{coefficient_range, product};

/// What the estimate needs of the parameters; a chain need not be of real primes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model<'a> {
    pub log_n: LogN,
    pub q: &'a [u64],
    pub p: &'a [u64],
    pub digit_limbs: usize,
}

/// How many outputs are followed back one by one; the rest are compared by a forward estimate.
const FOLLOWED: usize = 16;

/// Bits of precision of the outputs: −log2 of a bound on the largest absolute error of any slot of
/// any output that fails about once in a thousand runs.
pub(crate) fn precision_bits(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    model: &Model<'_>,
) -> f64 {
    let (sources, forward) = sources(circuit, ranges, model);
    let mut outputs: Vec<NodeId> = circuit.outputs.iter().map(|(o, _)| *o).collect();
    outputs.sort_unstable();
    outputs.dedup();
    let count = outputs.len() * circuit.meta.slots.max(1);
    outputs.sort_by(|a, b| {
        forward[b.index()]
            .total_cmp(&forward[a.index()])
            .then(a.cmp(b))
    });
    let worst = outputs
        .iter()
        .take(FOLLOWED)
        .map(|&o| variance_at(circuit, ranges, &sources, o))
        .fold(0.0, f64::max);
    let error = largest(
        worst.sqrt(),
        count,
        model.log_n.slots() / circuit.meta.slots.max(1),
    );
    // What f64 itself leaves, at the client and in the reference.
    let size = circuit
        .outputs
        .iter()
        .map(|(o, _)| ranges[o.index()].magnitude())
        .fold(1.0, f64::max);
    -(error + size * (-46f64).exp2()).log2()
}

/// The magnitude that the largest of `count` slots' errors exceeds about once in a thousand times.
///
/// Nearly all of an error is a rounding times the secret, in each slot a product of two complex
/// Gaussians: its real part is distributed by Laplace's law, P(|e| > tσ) = exp(−√2·t), whose tail is
/// much heavier than a Gaussian's. A vector of fewer slots than the ring is decoded as the mean over
/// its `copies`, which is nearly Gaussian where there are more than a few.
fn largest(stddev: f64, count: usize, copies: usize) -> f64 {
    let gaussian = noise::largest(stddev, count);
    let l = (count.max(1) as f64 * 1000.0).ln();
    gaussian.max(stddev * l / (2.0 * copies.max(1) as f64).sqrt())
}

/// By node, a bound on the largest absolute error of any slot, operands taken as independent.
pub(crate) fn error_bounds(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    model: &Model<'_>,
) -> Vec<f64> {
    let (_, held) = sources(circuit, ranges, model);
    let slots = circuit.meta.slots.max(1);
    held.iter()
        .zip(ranges)
        .map(|(variance, range)| {
            noise::largest(variance.sqrt(), slots) + range.magnitude() * (-46f64).exp2()
        })
        .collect()
}

/// The variance that each node adds by itself, in units of its value, and a forward estimate of
/// what it holds in all, as if all operands were independent.
fn sources(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    model: &Model<'_>,
) -> (Vec<f64>, Vec<f64>) {
    let graph = &circuit.graph;
    let plains = &circuit.meta.plains;
    let slots = circuit.meta.slots.max(1);
    let log_n = model.log_n;
    let mut own = Vec::with_capacity(graph.len());
    let mut all: Vec<f64> = Vec::with_capacity(graph.len());
    // Key switches per level: the same formula for each.
    let switch: Vec<f64> = (1..=model.q.len())
        .map(|n| noise::key_switch(log_n, &model.q[..n], model.p, model.digit_limbs))
        .collect();
    let rounding = |value: Interval, by: f64, c: Coefficient| -> f64 {
        // round(c · by)/by instead of c, times the value.
        let off = match c {
            Coefficient::Const(v) => {
                let x = v.0 * by;
                if x.abs() < (1u64 << 52) as f64 {
                    (x - x.round()).abs() / by
                } else {
                    0.0
                }
            }
            Coefficient::Plain(_) => noise::ROUNDING.sqrt() / by,
        };
        (off * value.magnitude()).powi(2)
    };
    for id in graph.ids() {
        let operands = graph.operands(id);
        let range = |i: usize| ranges[operands[i].index()];
        let held = |i: usize| all[operands[i].index()];
        let ty = *graph.ty(id);
        let scale = ty.scale();
        let slot = |variance: f64| noise::slot_stddev(slots, variance, scale).powi(2);
        // A matched scale is read as the first operand's: a difference is an error of the value.
        let mismatch = |i: usize| {
            let first = graph.ty(operands[0]).scale().0;
            let off = graph.ty(operands[i]).scale().0 / first - 1.0;
            (off * range(i).magnitude()).powi(2)
        };
        let (mine, carried) = match graph.op(id) {
            CkksOp::Input(_) => {
                let fresh = noise::fresh_public_at(log_n, ty.level(), model.q, model.p);
                (slot(noise::encoding() + fresh), 0.0)
            }
            CkksOp::Encode { .. } => (slot(noise::encoding()), 0.0),
            CkksOp::Add | CkksOp::Sub => (mismatch(1), held(0) + held(1)),
            CkksOp::Neg | CkksOp::DropLevel(_) => (0.0, held(0)),
            CkksOp::AddScalar(_) => ((0.5 / scale.0).powi(2), held(0)),
            CkksOp::Mul => {
                let (a, b) = (range(0).magnitude(), range(1).magnitude());
                let (va, vb) = (held(0), held(1));
                (va * vb, a * a * vb + b * b * va)
            }
            CkksOp::Square => {
                let a = range(0).magnitude();
                (2.0 * held(0) * held(0), 4.0 * a * a * held(0))
            }
            CkksOp::MulScalar { value, scale: by } => {
                let c = coefficient_range(*value, plains).magnitude();
                (rounding(range(0), by.0, *value), c * c * held(0))
            }
            CkksOp::LinComb {
                coefficients,
                scale: by,
            } => {
                let mut mine = 0.0;
                let mut carried = 0.0;
                for (i, value) in coefficients.iter().enumerate() {
                    let c = coefficient_range(*value, plains).magnitude();
                    mine += rounding(range(i), by.0, *value) + c * c * mismatch(i);
                    carried += c * c * held(i);
                }
                (mine, carried)
            }
            CkksOp::Rotate(_) | CkksOp::Relinearize => {
                (slot(switch[ty.level().0 as usize]), held(0))
            }
            CkksOp::Rescale { .. } => {
                let degree = match ty {
                    CkksType::Cipher { degree, .. } => usize::from(degree),
                    CkksType::Plain { .. } => 1,
                };
                (slot(noise::rescale(log_n, degree)), held(0))
            }
        };
        own.push(mine);
        all.push(mine + carried);
    }
    (own, all)
}

/// How an output depends on a node.
#[derive(Clone, Copy, Debug)]
struct Sensitivity {
    /// On paths without rotations: all paths together, with their signs.
    direct: Interval,
    /// On paths with rotations, amplitudes of the edges that do not rotate themselves.
    turned: f64,
    /// Squares of the amplitudes that come over rotations.
    rotated: f64,
}

impl Sensitivity {
    const NONE: Sensitivity = Sensitivity {
        direct: Interval { lo: 0.0, hi: 0.0 },
        turned: 0.0,
        rotated: 0.0,
    };

    /// Adds what comes from a user, itself multiplied by a factor from this range.
    fn take(&mut self, user: &Sensitivity, factor: Interval) {
        let d = product(user.direct, factor);
        self.direct = Interval::new(self.direct.lo + d.lo, self.direct.hi + d.hi);
        self.turned += user.turned_square().sqrt() * factor.magnitude();
    }

    fn turned_square(&self) -> f64 {
        self.turned * self.turned + self.rotated
    }

    fn square(&self) -> f64 {
        let d = self.direct.magnitude();
        d * d + self.turned_square()
    }
}

/// The variance of one output.
fn variance_at(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    sources: &[f64],
    output: NodeId,
) -> f64 {
    const ONE: Interval = Interval { lo: 1.0, hi: 1.0 };
    const MINUS: Interval = Interval { lo: -1.0, hi: -1.0 };
    let graph = &circuit.graph;
    let plains = &circuit.meta.plains;
    let mut at = vec![Sensitivity::NONE; output.index() + 1];
    at[output.index()].direct = ONE;
    let mut total = 0.0;
    for i in (0..=output.index()).rev() {
        let here = at[i];
        let square = here.square();
        if square == 0.0 {
            continue;
        }
        total += square * sources[i];
        let id = NodeId(i as u32);
        let operands = graph.operands(id);
        let range = |k: usize| ranges[operands[k].index()];
        let mut take = |k: usize, factor: Interval| at[operands[k].index()].take(&here, factor);
        match graph.op(id) {
            CkksOp::Input(_) | CkksOp::Encode { .. } => {}
            CkksOp::Add => {
                take(0, ONE);
                take(1, ONE);
            }
            CkksOp::Sub => {
                take(0, ONE);
                take(1, MINUS);
            }
            CkksOp::Neg => take(0, MINUS),
            CkksOp::AddScalar(_)
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => take(0, ONE),
            CkksOp::Mul => {
                take(0, range(1));
                take(1, range(0));
            }
            CkksOp::Square => {
                let x = range(0);
                take(0, Interval::new(2.0 * x.lo, 2.0 * x.hi));
            }
            CkksOp::MulScalar { value, .. } => take(0, coefficient_range(*value, plains)),
            CkksOp::LinComb { coefficients, .. } => {
                for (k, value) in coefficients.iter().enumerate() {
                    take(k, coefficient_range(*value, plains));
                }
            }
            CkksOp::Rotate(_) => at[operands[0].index()].rotated += square,
        }
    }
    total
}
