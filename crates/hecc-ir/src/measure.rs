//! Depth, levels, width and counts of operations, as the language reference defines them.
//!
//! All of it is linear in the graph and counts live nodes alone (those that a result depends on).
//!
//! What counts as an operation: everything but inputs, plaintexts and two things that only change
//! how a ciphertext is read, `drop_level` and a scalar multiplication by exactly 1 (a change of
//! scale); those pass their operand's layer on. A linear combination of n terms is one operation of a
//! layer; among the counts it stands for n − 1 `add` and one `mul_plain` for each coefficient other
//! than ±1. `mul_scalar` by −1 is a `neg`, by any other value a `mul_plain`; `add_scalar` is an `add`. The
//! multiplication of complex slots by the imaginary unit is a `mul_plain`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ckks::{Ckks, CkksOp, CkksType};
use crate::graph::{Circuit, Dialect, NodeId};
use crate::slots::{Coefficient, Slots, SlotsOp, SlotsType};
use crate::span::Span;
use crate::tensor::{Basis, Secrecy, Tensor, TensorOp};

/// How many operations of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field counts the operation of its name")]
pub struct OpCounts {
    pub add: u64,
    pub sub: u64,
    pub neg: u64,
    pub mul: u64,
    pub square: u64,
    pub mul_plain: u64,
    pub rotate: u64,
    pub conjugate: u64,
    pub relinearize: u64,
    pub rescale: u64,
}

/// A node of the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStep {
    /// The node.
    pub node: NodeId,
    /// Its source.
    pub span: Span,
    /// Secret × secret multiplications up to here, itself included.
    pub depth: u64,
    /// Rescalings up to here, itself included.
    pub levels: u64,
}

/// The measures of a lowered circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Most secret × secret multiplications on any path from an input to an output.
    pub depth: u64,
    /// Most rescalings on any such path. On the slots dialect, where nothing rescales yet: most
    /// multiplications that will need one (secret × secret, masks, non-integer factors), an upper bound.
    pub levels: u64,
    /// Most operations in one ASAP layer.
    pub width: u64,
    /// Most secret × secret multiplications of one multiplicative depth.
    pub mult_width: u64,
    /// Operations by kind.
    pub ops: OpCounts,
    /// A deepest path, by depth, then levels, from an input to an output.
    pub critical_path: Vec<PathStep>,
    /// The distinct rotation steps, ascending, each within 1 … S − 1.
    pub rotations: Vec<u32>,
}

/// Measures of a CKKS circuit.
pub fn measure(circuit: &Circuit<Ckks>) -> Measures {
    let slots = circuit.meta.slots;
    sweep(circuit, |id, counts, rotations| {
        let operands = circuit.graph.operands(id);
        let is_cipher = |o: NodeId| matches!(circuit.graph.ty(o), CkksType::Cipher { .. });
        match circuit.graph.op(id) {
            CkksOp::Input(_) | CkksOp::Encode { .. } => Kind::Source,
            CkksOp::DropLevel(_) => Kind::View,
            CkksOp::Add | CkksOp::AddScalar(_) => {
                counts.add += 1;
                Kind::Op
            }
            CkksOp::Sub => {
                counts.sub += 1;
                Kind::Op
            }
            CkksOp::Neg => {
                counts.neg += 1;
                Kind::Op
            }
            CkksOp::Mul if operands.iter().all(|o| is_cipher(*o)) => {
                counts.mul += 1;
                Kind::Mul
            }
            CkksOp::Mul => {
                counts.mul_plain += 1;
                Kind::Op
            }
            CkksOp::Square => {
                counts.square += 1;
                Kind::Mul
            }
            CkksOp::MulScalar { value, scale } => match unit(value, scale.0) {
                Some(1) => Kind::View,
                Some(_) => {
                    counts.neg += 1;
                    Kind::Op
                }
                None => {
                    counts.mul_plain += 1;
                    Kind::Op
                }
            },
            CkksOp::LinComb {
                coefficients,
                scale,
            } => {
                linear_combination(counts, coefficients, scale.0);
                Kind::Op
            }
            CkksOp::Rotate(k) => rotation(counts, rotations, k.0, slots),
            CkksOp::Conjugate => {
                counts.conjugate += 1;
                Kind::Op
            }
            CkksOp::TimesI => {
                counts.mul_plain += 1;
                Kind::Op
            }
            CkksOp::Relinearize => {
                counts.relinearize += 1;
                Kind::Op
            }
            CkksOp::Rescale { .. } => {
                counts.rescale += 1;
                Kind::Rescale
            }
        }
    })
}

/// Measures of a slots circuit, where nothing relinearizes or rescales yet.
pub fn measure_slots(circuit: &Circuit<Slots>) -> Measures {
    let slots = circuit.meta.slots;
    sweep(circuit, |id, counts, rotations| {
        let operands = circuit.graph.operands(id);
        match circuit.graph.op(id) {
            SlotsOp::Input(_) | SlotsOp::Plain(_) => Kind::Source,
            SlotsOp::Add => {
                counts.add += 1;
                Kind::Op
            }
            SlotsOp::Sub => {
                counts.sub += 1;
                Kind::Op
            }
            SlotsOp::Neg => {
                counts.neg += 1;
                Kind::Op
            }
            SlotsOp::Mul
                if operands
                    .iter()
                    .all(|o| *circuit.graph.ty(*o) == SlotsType::Cipher) =>
            {
                counts.mul += 1;
                Kind::LevelMul
            }
            SlotsOp::Mul => {
                counts.mul_plain += 1;
                Kind::Rescale
            }
            SlotsOp::Square => {
                counts.square += 1;
                Kind::LevelMul
            }
            SlotsOp::LinComb(coefficients) => {
                linear_combination(counts, coefficients, 1.0);
                let whole = |c: &Coefficient| match c {
                    Coefficient::Const(x) => x.0.fract() == 0.0,
                    Coefficient::Plain(_) => false,
                };
                if coefficients.iter().all(whole) {
                    Kind::Op
                } else {
                    Kind::Rescale
                }
            }
            SlotsOp::Rotate(k) => rotation(counts, rotations, k.0, slots),
            SlotsOp::Conjugate => {
                counts.conjugate += 1;
                Kind::Op
            }
            SlotsOp::TimesI => {
                counts.mul_plain += 1;
                Kind::Op
            }
        }
    })
}

/// Multiplicative depth of every node of a flat tensor circuit as it will be lowered: powers and
/// polynomials by the best known schedule (`ceil(log2 degree)`), everything else as written;
/// products with a public operand cost nothing. A loop costs its trips times the depth of nothing:
/// unroll first; it passes its operands' depth on.
pub fn tensor_depths(circuit: &Circuit<Tensor>, secrecy: &[Secrecy]) -> Vec<u64> {
    let graph = &circuit.graph;
    let mut out: Vec<u64> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let secret = |o: &NodeId| secrecy.get(o.index()) == Some(&Secrecy::Secret);
        let deepest = operands.iter().map(|o| out[o.index()]).max().unwrap_or(0);
        let all_secret = operands.iter().all(secret);
        let own = match graph.op(id) {
            TensorOp::Mul | TensorOp::MatMul | TensorOp::Conv2d { .. } if all_secret => 1,
            TensorOp::Pow(n) if all_secret => degree_depth(u64::from(*n)),
            TensorOp::Poly(p) if all_secret => match p.basis {
                Basis::Monomial | Basis::Chebyshev { .. } => {
                    let degree = p.coefficients.iter().rposition(|c| c.0 != 0.0);
                    degree_depth(degree.unwrap_or(0) as u64)
                }
            },
            TensorOp::Mul
            | TensorOp::MatMul
            | TensorOp::Conv2d { .. }
            | TensorOp::Pow(_)
            | TensorOp::Poly(_)
            | TensorOp::Input(_)
            | TensorOp::Const(_)
            | TensorOp::Index(_)
            | TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Div
            | TensorOp::Neg
            | TensorOp::Sum(_)
            | TensorOp::Broadcast(_)
            | TensorOp::Reshape(_)
            | TensorOp::Transpose(_)
            | TensorOp::Slice { .. }
            | TensorOp::Update { .. }
            | TensorOp::Concat(_)
            | TensorOp::Pad { .. }
            | TensorOp::Roll(_)
            | TensorOp::Diag
            | TensorOp::SumPool(_)
            | TensorOp::Loop { .. }
            | TensorOp::Proj(_) => 0,
        };
        out.push(deepest + own);
    }
    out
}

/// `ceil(log2(degree))`: the least depth at which a polynomial of this degree can be had.
pub fn degree_depth(degree: u64) -> u64 {
    if degree <= 1 {
        0
    } else {
        u64::from(64 - (degree - 1).leading_zeros())
    }
}

enum Kind {
    /// An input or plaintext: layer 0.
    Source,
    /// No operation: its operand seen otherwise.
    View,
    Op,
    /// Secret × secret.
    Mul,
    /// Secret × secret, counted as a level too.
    LevelMul,
    /// Costs a level.
    Rescale,
}

fn sweep<D: Dialect>(
    circuit: &Circuit<D>,
    mut classify: impl FnMut(NodeId, &mut OpCounts, &mut BTreeSet<u32>) -> Kind,
) -> Measures {
    let graph = &circuit.graph;
    let live = circuit.live();
    let n = graph.len();
    let mut counts = OpCounts::default();
    let mut rotations = BTreeSet::new();
    let mut layer = vec![0u64; n];
    let mut levels = vec![0u64; n];
    // Depth, then levels along one and the same path, and whence it comes.
    let mut path: Vec<((u64, u64), Option<NodeId>)> = vec![((0, 0), None); n];
    let mut layers: BTreeMap<u64, u64> = BTreeMap::new();
    let mut mult_layers: BTreeMap<u64, u64> = BTreeMap::new();
    for id in graph.ids().filter(|id| live[id.index()]) {
        let i = id.index();
        let kind = classify(id, &mut counts, &mut rotations);
        let mut best: Option<NodeId> = None;
        for o in graph.operands(id) {
            layer[i] = layer[i].max(layer[o.index()]);
            levels[i] = levels[i].max(levels[o.index()]);
            if best.is_none_or(|b| path[o.index()].0 > path[b.index()].0) {
                best = Some(o);
            }
        }
        let (mul, level) = match kind {
            Kind::Source | Kind::View | Kind::Op => (0, 0),
            Kind::Mul => (1, 0),
            Kind::LevelMul => (1, 1),
            Kind::Rescale => (0, 1),
        };
        let (depth, along) = best.map_or((0, 0), |b| path[b.index()].0);
        path[i] = ((depth + mul, along + level), best);
        levels[i] += level;
        if !matches!(kind, Kind::Source | Kind::View) {
            layer[i] += 1;
            *layers.entry(layer[i]).or_default() += 1;
        }
        if mul > 0 {
            *mult_layers.entry(depth + mul).or_default() += 1;
        }
    }
    let mut critical_path = Vec::new();
    let deepest = circuit.outputs.iter().map(|(id, _)| *id).fold(
        None,
        |best: Option<NodeId>, id| match best {
            Some(b) if path[b.index()].0 >= path[id.index()].0 => Some(b),
            Some(_) | None => Some(id),
        },
    );
    let mut at = deepest;
    while let Some(id) = at {
        let ((depth, levels), from) = path[id.index()];
        critical_path.push(PathStep {
            node: id,
            span: graph.span(id),
            depth,
            levels,
        });
        at = from;
    }
    critical_path.reverse();
    Measures {
        depth: deepest.map_or(0, |id| path[id.index()].0.0),
        levels: circuit
            .outputs
            .iter()
            .map(|(id, _)| levels[id.index()])
            .max()
            .unwrap_or(0),
        width: layers.values().copied().max().unwrap_or(0),
        mult_width: mult_layers.values().copied().max().unwrap_or(0),
        ops: counts,
        critical_path,
        rotations: rotations.into_iter().collect(),
    }
}

/// The integer ±1 that is multiplied in, if it is that.
fn unit(c: &Coefficient, scale: f64) -> Option<i32> {
    match c {
        Coefficient::Const(x) => match x.0 * scale {
            y if y.round() == 1.0 && (y - 1.0).abs() < 1e-9 => Some(1),
            y if y.round() == -1.0 && (y + 1.0).abs() < 1e-9 => Some(-1),
            _ => None,
        },
        Coefficient::Plain(_) => None,
    }
}

fn linear_combination(counts: &mut OpCounts, coefficients: &[Coefficient], scale: f64) {
    counts.add += coefficients.len().saturating_sub(1) as u64;
    counts.mul_plain += coefficients
        .iter()
        .filter(|c| unit(c, scale).is_none())
        .count() as u64;
}

fn rotation(counts: &mut OpCounts, rotations: &mut BTreeSet<u32>, k: i32, slots: usize) -> Kind {
    let step = match slots {
        0 => 0,
        s => i64::from(k).rem_euclid(s as i64) as u32,
    };
    if step == 0 {
        return Kind::View;
    }
    counts.rotate += 1;
    rotations.insert(step);
    Kind::Op
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ckks::CkksInput;
    use crate::graph::{Interval, Real};
    use crate::slots::{PackedInput, PlainId, SlotSource};
    use hecc_params::{Level, RotationStep, Scale};

    fn circuit(inputs: usize) -> (Circuit<Ckks>, Vec<NodeId>) {
        let mut c: Circuit<Ckks> = Circuit::new("c");
        c.meta.slots = 8;
        c.inputs = (0..inputs)
            .map(|i| CkksInput {
                packed: PackedInput {
                    param: i as u32,
                    source: SlotSource::Element(0),
                    range: Interval::UNIT,
                    label: format!("x{i}"),
                },
                level: Level(3),
                scale: Scale(1024.0),
            })
            .collect();
        let ids = (0..inputs)
            .map(|i| {
                c.push(CkksOp::Input(i as u32), &[], Span::default())
                    .expect("typed")
            })
            .collect();
        (c, ids)
    }

    #[test]
    fn a_tree_of_products() {
        let s = Span::default();
        let (mut c, x) = circuit(4);
        let mut step = |op, operands: &[NodeId]| c.push(op, operands, s).expect("typed");
        let down = |step: &mut dyn FnMut(CkksOp, &[NodeId]) -> NodeId, id| {
            let r = step(CkksOp::Relinearize, &[id]);
            step(CkksOp::Rescale { prime: 1024 }, &[r])
        };
        let ab = step(CkksOp::Mul, &[x[0], x[1]]);
        let ab = down(&mut step, ab);
        let cd = step(CkksOp::Mul, &[x[2], x[3]]);
        let cd = down(&mut step, cd);
        let p = step(CkksOp::Mul, &[ab, cd]);
        let p = down(&mut step, p);
        let dead = step(CkksOp::Square, &[p]);
        let r = step(CkksOp::Rotate(RotationStep(-1)), &[p]);
        let plain = step(
            CkksOp::Encode {
                plain: PlainId(0),
                level: Level(1),
                scale: Real(1024.0),
            },
            &[],
        );
        let m = step(CkksOp::Mul, &[r, plain]);
        let m = step(CkksOp::Rescale { prime: 1024 }, &[m]);
        let q = step(CkksOp::DropLevel(Level(0)), &[p]);
        let out = step(
            CkksOp::LinComb {
                coefficients: vec![
                    Coefficient::Const(Real(2.0)),
                    Coefficient::Const(Real(-1.0)),
                ],
                scale: Real(1.0),
            },
            &[m, q],
        );
        c.outputs.push((out, ()));
        let _ = dead;
        let got = measure(&c);
        assert_eq!(
            (got.depth, got.levels, got.width, got.mult_width),
            (2, 3, 2, 2)
        );
        assert_eq!(
            got.ops,
            OpCounts {
                add: 1,
                mul: 3,
                mul_plain: 2,
                rotate: 1,
                relinearize: 3,
                rescale: 4,
                ..OpCounts::default()
            }
        );
        assert_eq!(got.rotations, [7]);
        let path: Vec<u32> = got.critical_path.iter().map(|p| p.node.0).collect();
        assert_eq!(path, [0, 4, 5, 6, 10, 11, 12, 14, 16, 17, 19]);
    }

    #[test]
    fn least_depths() {
        let got: Vec<u64> = [0, 1, 2, 3, 4, 5, 8, 9].map(degree_depth).to_vec();
        assert_eq!(got, [0, 0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(degree_depth(u64::MAX), 64);
    }
}
