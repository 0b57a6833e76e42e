//! Which values are rescaled, which stay products, and which rational factor waits in a scale.
//!
//! Here no prime and no level is known yet. Every encrypted value v is held as w = v / f at a
//! *canonical* scale, so that its scale is S/f: f is its pending *factor*. A value is of *rank* 1
//! (canonical scale S) or 2 (S², a product that is not rescaled). Its *height* is the number of
//! rescales between the inputs and its form of rank 1: the least levels that it can have.
//!
//! The whole matter is one rule. The terms of a sum whose height is the greatest are *critical*.
//! All other terms can be brought to any scale at no level: from rank 1 to rank 2 they are
//! multiplied by an integer of the size of S; where they are dropped to a lower level they are
//! multiplied by one and rescaled. So **a sum costs a level only if its critical terms have
//! factors without a common unit**, and then only when nothing below them is free to take another
//! factor: a plaintext vector, a scalar known at run time, or the operand of a product that is not
//! the deeper one.

use hecc_ir::ckks::CkksOp;
use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::slots::{Coefficient, PlainId, PlainSource, SlotSource, Slots, SlotsOp, SlotsType};

use super::retime::retime;

/// A node of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Step(pub u32);

impl Step {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One term of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Term {
    pub step: Step,
    pub coefficient: Coefficient,
    /// In a sum of rank 2: take the form of rank 1 and multiply it up.
    pub up: bool,
}

/// What a step computes. Operands are in their form of rank 1 unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StepOp {
    Input(u32),
    Mul(Step, Step),
    Square(Step),
    MulPlain(Step, PlainId),
    /// Rank 1: all terms of rank 1. Rank 2: terms in rank 2, or multiplied up.
    Sum(Vec<Term>),
    /// A rotation, a conjugation or a multiplication by the imaginary unit, in rank 1.
    Map(Step, CkksOp),
    /// In the operand's own rank.
    AddPlain {
        step: Step,
        plain: PlainId,
        negate: bool,
    },
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanStep {
    pub op: StepOp,
    pub rank: u8,
    /// f of v = f · w.
    pub factor: f64,
    /// The slots node that it is, or is made for.
    pub node: NodeId,
    /// Whether it *is* the value of that node.
    pub main: bool,
}

/// A circuit whose rescales are decided but not yet placed on a chain.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub steps: Vec<PlanStep>,
    pub outputs: Vec<Step>,
    /// For every step the level at which it is computed, in its own rank.
    pub levels: Vec<u32>,
    /// Levels above the outputs.
    pub depth: u32,
}

/// What is known of a slots node before factors are settled.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Info {
    height: u32,
    rank: u8,
    /// The factor it has when nobody asks for another.
    factor: f64,
    /// Whether any other factor up to `most` can be had at no level.
    free: bool,
    /// The largest such factor: beyond it what is multiplied up would be held at too small a scale.
    most: f64,
    /// Only for sums: all terms are multiplied up, because no unit was found.
    general: bool,
}

/// A unit may enlarge what is encoded by this much, beyond what is there anyway.
const MOST_GROWTH: f64 = 16384.0;
/// Largest denominator that is tried when looking for a unit.
const MOST_DENOMINATOR: u32 = 1024;
/// A free value is held at most this much smaller than one.
const SMALL_FACTOR: f64 = 1.0 / 256.0;
/// A factor may exceed the magnitude of what is brought to it by this much: its scale is so much
/// smaller than usual, and so are the bits that it keeps.
const MOST_FACTOR: f64 = 4096.0;
/// A factor that could stay small is made larger by this much at once, at most.
const MOST_RAISE: f64 = 64.0;
/// Where all terms of a sum wait in one factor, and products follow, what is encoded may be larger
/// than the value by this much; beyond, the sum takes a level and is rid of it. Powers of a factor
/// that is carried on may take more of the modulus than that level, or less: all are tried.
const MOST_WAITING: [f64; 2] = [f64::INFINITY, 8192.0];
/// A sum is not rid of a factor smaller than this: what multiplies it up would have too few bits.
const LEAST_RID: f64 = 1.0 / 1_048_576.0;
/// Bits of the scale that plans are compared at.
const COMPARED_AT: f64 = 40.0;
/// Bits of the modulus that a level more must save in all.
const ROOM_WORTH: f64 = 3.0 * COMPARED_AT;
/// Two reals this near, relatively, are taken for the same: far below any scale's rounding.
const NEAR: f64 = 1.0 / (1u64 << 40) as f64;

pub(super) fn near_integer(x: f64) -> bool {
    x.is_finite() && (x - x.round()).abs() <= x.abs() * NEAR
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * NEAR
}

/// The largest u of which all `values` (positive) are integer multiples, made at most about one by
/// taking whole parts out; `None` when there is none above `least`.
fn common_unit(values: &[f64], least: f64) -> Option<f64> {
    let mut distinct: Vec<f64> = values.to_vec();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let smallest = *distinct.first()?;
    if distinct.len() > 1 && distinct.iter().all(|&v| near_integer(v)) {
        return Some(1.0);
    }
    for d in 1..=MOST_DENOMINATOR {
        let unit = smallest / f64::from(d);
        if unit < least {
            return None;
        }
        if distinct.iter().all(|&v| near_integer(v / unit)) {
            return Some(unit / unit.round().max(1.0));
        }
    }
    None
}

/// A slots node as a sum of scaled values, if it is one.
enum Shape {
    Sum(Vec<(NodeId, Coefficient)>),
    AddPlain(NodeId, PlainId, bool),
    MulPlain(NodeId, PlainId),
    Other,
}

fn shape(circuit: &Circuit<Slots>, id: NodeId) -> Shape {
    use hecc_ir::graph::Real;
    let graph = &circuit.graph;
    let operands = graph.operands(id);
    let constant = |v: f64| Coefficient::Const(Real(v));
    let plain = |i: usize| match (graph.op(operands[i]), graph.ty(operands[i])) {
        (SlotsOp::Plain(p), SlotsType::Plain) => Some(*p),
        _ => None,
    };
    match graph.op(id) {
        SlotsOp::Add | SlotsOp::Sub => {
            let minus = matches!(graph.op(id), SlotsOp::Sub);
            match plain(1) {
                Some(p) => Shape::AddPlain(operands[0], p, minus),
                None => Shape::Sum(vec![
                    (operands[0], constant(1.0)),
                    (operands[1], constant(if minus { -1.0 } else { 1.0 })),
                ]),
            }
        }
        SlotsOp::Neg => Shape::Sum(vec![(operands[0], constant(-1.0))]),
        SlotsOp::LinComb(c) => Shape::Sum(
            operands
                .iter()
                .copied()
                .zip(c.iter().map(|&c| uniform(circuit, c)))
                .collect(),
        ),
        SlotsOp::Mul => match plain(1) {
            Some(p) => match uniform_plain(circuit, p) {
                Some(c) => Shape::Sum(vec![(operands[0], c)]),
                None => Shape::MulPlain(operands[0], p),
            },
            None => Shape::Other,
        },
        SlotsOp::Input(_)
        | SlotsOp::Plain(_)
        | SlotsOp::Square
        | SlotsOp::Rotate(_)
        | SlotsOp::Conjugate
        | SlotsOp::TimesI => Shape::Other,
    }
}

/// A plaintext that is the same in every slot, as a factor.
pub(crate) fn uniform_plain(circuit: &Circuit<Slots>, id: PlainId) -> Option<Coefficient> {
    use hecc_ir::graph::Real;
    match &circuit.meta.plains[id.0 as usize].source {
        PlainSource::Uniform(v) => Some(Coefficient::Const(Real(*v))),
        PlainSource::Public {
            source: SlotSource::Element(_),
            ..
        } => Some(Coefficient::Plain(id)),
        PlainSource::Vector(v) => {
            let first = *v.first()?;
            v.iter()
                .all(|x| x.to_bits() == first.to_bits())
                .then_some(Coefficient::Const(Real(first)))
        }
        PlainSource::Public { .. } => None,
    }
}

fn uniform(circuit: &Circuit<Slots>, c: Coefficient) -> Coefficient {
    match c {
        Coefficient::Const(_) => c,
        Coefficient::Plain(p) => uniform_plain(circuit, p).unwrap_or(c),
    }
}

/// Plans a slots circuit. `ranges` are those of its nodes.
pub(crate) fn plan(circuit: &Circuit<Slots>, ranges: &[Interval]) -> Plan {
    retime(circuit, lazy_plan(circuit, ranges))
}

/// A plan that rescales each value at its first user that needs it.
pub(super) fn lazy_plan(circuit: &Circuit<Slots>, ranges: &[Interval]) -> Plan {
    let mut best: Option<(f64, Plan)> = None;
    let mut last: Option<Vec<Info>> = None;
    for waiting in MOST_WAITING {
        let infos = heights(circuit, ranges, waiting);
        if last.as_ref() == Some(&infos) {
            continue;
        }
        last = Some(infos.clone());
        let factors = settle(circuit, &infos, ranges);
        let (steps, outputs) = build(circuit, &infos, &factors);
        let (levels, depth) = place(&steps, &outputs);
        let plan = Plan {
            steps,
            outputs,
            levels,
            depth,
        };
        let bits = modulus_bits(&plan, ranges);
        // The fewest levels, unless carrying factors on takes the room of several.
        if best
            .as_ref()
            .is_none_or(|(least, _)| bits + ROOM_WORTH <= *least)
        {
            best = Some((bits, plan));
        }
    }
    best.expect("one plan at least").1
}

/// Bits of the modulus that a plan needs, special primes aside.
fn modulus_bits(plan: &Plan, ranges: &[Interval]) -> f64 {
    let steps = plan.steps.iter().zip(&plan.levels);
    let first = steps
        .map(|(step, level)| {
            let size = ranges[step.node.index()].magnitude() / step.factor;
            size.log2() + COMPARED_AT * (f64::from(step.rank) - f64::from(*level))
        })
        .fold(COMPARED_AT, f64::max);
    first + COMPARED_AT * f64::from(plan.depth)
}

/// Forward: the least height of every node, and whether its factor is free.
fn heights(circuit: &Circuit<Slots>, ranges: &[Interval], waiting: f64) -> Vec<Info> {
    let graph = &circuit.graph;
    let multiplied = multiplied(circuit);
    let mut uses = graph.use_counts();
    for (o, _) in &circuit.outputs {
        uses[o.index()] += 1;
    }
    let rungs = rungs(circuit, &uses);
    let mut infos: Vec<Info> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let of = |o: NodeId| infos[o.index()];
        let size = ranges[id.index()].magnitude();
        let mut info = match shape(circuit, id) {
            Shape::Sum(terms) => {
                let waiting = if multiplied[id.index()] {
                    waiting
                } else {
                    f64::INFINITY
                };
                sum_info(&terms, &infos, ranges, ranges[id.index()], waiting)
            }
            Shape::AddPlain(o, ..) => of(o),
            Shape::MulPlain(o, p) => Info {
                height: of(o).height + 1,
                rank: 2,
                factor: of(o).factor,
                free: true,
                most: of(o).factor
                    * most_factor(circuit.meta.plains[p.0 as usize].range.magnitude(), 1.0),
                general: false,
            },
            Shape::Other => match graph.op(id) {
                SlotsOp::Mul => {
                    let (a, b) = (of(operands[0]), of(operands[1]));
                    let ways = ways(operands[0], operands[1], &infos, ranges);
                    let ways = if operands[0] == operands[1] {
                        [None; 3]
                    } else {
                        ways
                    };
                    let most = ways.iter().flatten().map(|w| w.most);
                    Info {
                        height: a.height.max(b.height) + 1,
                        rank: 2,
                        factor: a.factor * b.factor,
                        free: ways.iter().any(Option::is_some),
                        most: most.fold(a.factor * b.factor, f64::max),
                        general: false,
                    }
                }
                SlotsOp::Square => {
                    let a = of(operands[0]);
                    Info {
                        height: a.height + 1,
                        rank: 2,
                        factor: a.factor * a.factor,
                        free: a.free,
                        most: a.most * a.most,
                        general: false,
                    }
                }
                SlotsOp::Rotate(_) | SlotsOp::Conjugate | SlotsOp::TimesI => Info {
                    rank: 1,
                    ..of(operands[0])
                },
                SlotsOp::Input(i) => {
                    let range = super::ranges::input_range(&circuit.inputs[*i as usize]);
                    known(0, 1, input_factor(range))
                }
                SlotsOp::Plain(_)
                | SlotsOp::Add
                | SlotsOp::Sub
                | SlotsOp::Neg
                | SlotsOp::LinComb(_) => known(0, 1, 1.0),
            },
        };
        // What is multiplied up anyhow may be brought to any scale.
        if info.general {
            info.most = most_factor(size, info.factor);
        }
        // One version of a value only: who shares it takes it as it is.
        info.free &= uses[id.index()] == 1 || rungs[id.index()];
        infos.push(info);
    }
    infos
}

/// A value that has one factor only.
fn known(height: u32, rank: u8, factor: f64) -> Info {
    Info {
        height,
        rank,
        factor,
        free: false,
        most: factor,
        general: false,
    }
}

/// The largest factor to which a value of this magnitude is brought.
fn most_factor(size: f64, factor: f64) -> f64 {
    if size.is_finite() {
        factor.max(MOST_FACTOR * size)
    } else {
        factor
    }
}

/// A way to give a product another factor.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Which operand takes it.
    operand: u8,
    /// By being multiplied up before; else it is free itself.
    adjust: bool,
    /// The largest factor of the product.
    most: f64,
}

/// The ways of a product, those that cost nothing first.
fn ways(a: NodeId, b: NodeId, infos: &[Info], ranges: &[Interval]) -> [Option<Way>; 3] {
    let (x, y) = (infos[a.index()], infos[b.index()]);
    let free = |operand: u8, own: Info, other: Info| {
        own.free.then_some(Way {
            operand,
            adjust: false,
            most: own.most * other.factor,
        })
    };
    let adjusted = |operand: u8, own: (NodeId, Info), other: Info| Way {
        operand,
        adjust: true,
        most: most_factor(ranges[own.0.index()].magnitude(), own.1.factor) * other.factor,
    };
    let slack = match x.height.cmp(&y.height) {
        std::cmp::Ordering::Less => Some(adjusted(0, (a, x), y)),
        std::cmp::Ordering::Greater => Some(adjusted(1, (b, y), x)),
        std::cmp::Ordering::Equal => None,
    };
    [free(0, x, y), free(1, y, x), slack]
}

/// Values that a product of ciphertexts depends on.
fn multiplied(circuit: &Circuit<Slots>) -> Vec<bool> {
    let graph = &circuit.graph;
    let mut out = vec![false; graph.len()];
    for id in graph.ids().rev() {
        let operands = graph.operands(id);
        let cipher = |o: &NodeId| *graph.ty(*o) == SlotsType::Cipher;
        let product = match graph.op(id) {
            SlotsOp::Mul => operands.iter().all(cipher),
            SlotsOp::Square => true,
            _ => false,
        };
        for o in operands {
            out[o.index()] |= product || out[id.index()];
        }
    }
    out
}

/// Values with two users that want the same of them: a sum, and a rotation for that sum alone.
fn rungs(circuit: &Circuit<Slots>, uses: &[u32]) -> Vec<bool> {
    let graph = &circuit.graph;
    let mut out = vec![false; graph.len()];
    for id in graph.ids() {
        let Shape::Sum(terms) = shape(circuit, id) else {
            continue;
        };
        for (o, c) in &terms {
            if !matches!(graph.op(*o), SlotsOp::Rotate(_)) || uses[o.index()] != 1 {
                continue;
            }
            let base = graph.operands(*o)[0];
            let beside = |(b, d): &(NodeId, Coefficient)| *b == base && d == c;
            out[base.index()] |= uses[base.index()] == 2 && terms.iter().any(beside);
        }
    }
    out
}

/// Values of inputs beyond 2^16 are encoded at a smaller scale: their precision is relative.
fn input_factor(range: Interval) -> f64 {
    let size = range.magnitude();
    if size > 65536.0 {
        (size.log2().ceil() - 16.0).exp2()
    } else {
        1.0
    }
}

fn sum_info(
    terms: &[(NodeId, Coefficient)],
    infos: &[Info],
    ranges: &[Interval],
    range: Interval,
    waiting: f64,
) -> Info {
    let mut height = 0;
    for (o, c) in terms {
        let up = u32::from(matches!(c, Coefficient::Plain(_)));
        height = height.max(infos[o.index()].height + up);
    }
    let mut rank = 2;
    let mut fixed = Vec::new();
    let mut defaults = Vec::new();
    // The largest unit that all free terms can be brought to.
    let mut most = f64::INFINITY;
    let mut encoded: f64 = 1.0;
    for (o, c) in terms {
        let info = infos[o.index()];
        let Coefficient::Const(value) = c else {
            continue;
        };
        encoded = encoded.max(ranges[o.index()].magnitude() / info.factor);
        if info.height < height {
            continue;
        }
        if info.rank == 1 {
            rank = 1;
        }
        if value.0 != 0.0 {
            let a = value.0.abs() * info.factor;
            defaults.push(a);
            if info.free {
                most = most.min(value.0.abs() * info.most);
            } else {
                fixed.push(a);
            }
        }
    }
    let size = range.magnitude();
    // Beyond this the unit would make what is encoded much larger than it is now.
    let least = if size.is_finite() && size > 0.0 {
        size / (MOST_GROWTH.max(4.0 * encoded).max(4.0 * size))
    } else {
        f64::MIN_POSITIVE
    };
    // One factor that is common to all makes nothing larger.
    let single = defaults.windows(2).all(|w| near(w[0], w[1]));
    let waiting = if size.is_finite() && defaults.iter().all(|f| *f >= LEAST_RID) {
        (size / waiting).max(f64::MIN_POSITIVE)
    } else {
        f64::MIN_POSITIVE
    };
    let least = if single { waiting } else { least };
    let known = |unit: f64, free: bool| Info {
        height,
        rank,
        factor: unit,
        free,
        most: if free { most.max(unit) } else { unit },
        general: false,
    };
    if defaults.is_empty() {
        // Nothing but zeros and run-time factors is critical.
        let runtime = terms.iter().any(|(o, c)| {
            matches!(c, Coefficient::Plain(_)) && infos[o.index()].height + 1 == height
        });
        return Info {
            most: most_factor(size, 1.0),
            ..known(1.0, runtime)
        };
    }
    if let Some(unit) = common_unit(&defaults, least) {
        // What is free need not wait in a small factor, which powers would make smaller yet.
        let usual = if size.is_finite() && size > 0.0 {
            (size.log2().floor().exp2() * SMALL_FACTOR).min(1.0)
        } else {
            SMALL_FACTOR
        };
        let usual = usual.min(most).min(MOST_RAISE * unit);
        let small = fixed.is_empty() && unit < usual;
        return known(if small { usual } else { unit }, fixed.is_empty());
    }
    let unit = if fixed.is_empty() {
        Some(most.min(1.0)).filter(|unit| *unit >= waiting)
    } else {
        // A part of the unit where a free term cannot take the whole.
        common_unit(&fixed, least)
            .map(|unit| unit / (unit / most).ceil().max(1.0))
            .filter(|unit| *unit >= least)
    };
    match unit {
        Some(unit) => known(unit, fixed.is_empty()),
        None => Info {
            height: height + 1,
            rank: 2,
            factor: 1.0,
            free: true,
            most: 1.0,
            general: true,
        },
    }
}

/// What is decided for a node, beside its rank.
#[derive(Clone, Copy, Debug)]
struct Settled {
    factor: f64,
    /// A product whose operand 0 or 1 is first multiplied up to this factor.
    adjust: Option<(u8, f64)>,
}

/// Backward: who is free takes the factor that its one user wants.
fn settle(circuit: &Circuit<Slots>, infos: &[Info], ranges: &[Interval]) -> Vec<Settled> {
    let graph = &circuit.graph;
    let mut out: Vec<Settled> = infos
        .iter()
        .map(|i| Settled {
            factor: i.factor,
            adjust: None,
        })
        .collect();
    for id in graph.ids().rev() {
        let factor = out[id.index()].factor;
        let info = infos[id.index()];
        let operands = graph.operands(id);
        match shape(circuit, id) {
            Shape::Sum(terms) => {
                if info.general {
                    continue;
                }
                for (o, c) in terms {
                    let t = infos[o.index()];
                    let Coefficient::Const(value) = c else {
                        continue;
                    };
                    let value = value.0.abs();
                    if !t.free || t.height < info.height || value == 0.0 {
                        continue;
                    }
                    let multiple = value * t.factor / factor;
                    if !(near_integer(multiple) && multiple.round() >= 1.0) {
                        out[o.index()].factor = factor * multiple.round().max(1.0) / value;
                    }
                }
            }
            Shape::AddPlain(o, ..) => out[o.index()].factor = factor,
            // The plaintext's scale makes up for whatever the operand has.
            Shape::MulPlain(..) => {}
            Shape::Other => match graph.op(id) {
                SlotsOp::Mul => {
                    let (a, b) = (operands[0], operands[1]);
                    let (ia, ib) = (infos[a.index()], infos[b.index()]);
                    if near(factor, ia.factor * ib.factor) {
                        continue;
                    }
                    let ways = ways(a, b, infos, ranges);
                    // The first that can, else the one that comes nearest.
                    let enough = ways
                        .iter()
                        .flatten()
                        .find(|w| w.most * (1.0 + NEAR) >= factor);
                    let largest = || {
                        let ways = ways.iter().flatten();
                        ways.max_by(|v, w| v.most.total_cmp(&w.most))
                    };
                    let Some(way) = enough.or_else(largest) else {
                        continue;
                    };
                    let (own, to) = match way.operand {
                        0 => (a, factor / ib.factor),
                        _ => (b, factor / ia.factor),
                    };
                    if way.adjust {
                        out[id.index()].adjust = Some((way.operand, to));
                    } else {
                        out[own.index()].factor = to;
                    }
                }
                SlotsOp::Square => {
                    if !near(factor, info.factor) {
                        out[operands[0].index()].factor = factor.sqrt();
                    }
                }
                SlotsOp::Rotate(_) | SlotsOp::Conjugate | SlotsOp::TimesI => {
                    out[operands[0].index()].factor = factor;
                }
                SlotsOp::Input(_)
                | SlotsOp::Plain(_)
                | SlotsOp::Add
                | SlotsOp::Sub
                | SlotsOp::Neg
                | SlotsOp::LinComb(_) => {}
            },
        }
    }
    out
}

/// Forward: the steps.
fn build(
    circuit: &Circuit<Slots>,
    infos: &[Info],
    settled: &[Settled],
) -> (Vec<PlanStep>, Vec<Step>) {
    use hecc_ir::graph::Real;
    const NONE: Step = Step(u32::MAX);
    let graph = &circuit.graph;
    let live = circuit.live();
    let mut steps: Vec<PlanStep> = Vec::with_capacity(graph.len());
    let mut of: Vec<Step> = vec![NONE; graph.len()];
    for id in graph.ids() {
        if !live[id.index()] || *graph.ty(id) == SlotsType::Plain {
            continue;
        }
        let info = infos[id.index()];
        let factor = settled[id.index()].factor;
        let operands = graph.operands(id);
        let mut push = |op: StepOp, rank: u8, factor: f64, main: bool| {
            steps.push(PlanStep {
                op,
                rank,
                factor,
                node: id,
                main,
            });
            Step(steps.len() as u32 - 1)
        };
        let step = match shape(circuit, id) {
            Shape::Sum(terms) => {
                let mut same = Vec::new();
                let mut general = Vec::new();
                for (o, coefficient) in terms {
                    let t = infos[o.index()];
                    let step = of[o.index()];
                    let term = |up: bool| Term {
                        step,
                        coefficient,
                        up,
                    };
                    let critical = t.height == info.height && !info.general;
                    let integral = match coefficient {
                        Coefficient::Const(v) => {
                            let multiple = v.0.abs() * settled[o.index()].factor / factor;
                            near_integer(multiple)
                        }
                        Coefficient::Plain(_) => false,
                    };
                    if info.rank == 2 {
                        same.push(term(!critical));
                    } else if critical || integral {
                        same.push(term(false));
                    } else {
                        general.push(term(true));
                    }
                }
                if !general.is_empty() {
                    let step = push(StepOp::Sum(general), 2, factor, false);
                    same.push(Term {
                        step,
                        coefficient: Coefficient::Const(Real(1.0)),
                        up: false,
                    });
                }
                push(StepOp::Sum(same), info.rank, factor, true)
            }
            Shape::AddPlain(o, plain, negate) => push(
                StepOp::AddPlain {
                    step: of[o.index()],
                    plain,
                    negate,
                },
                info.rank,
                factor,
                true,
            ),
            Shape::MulPlain(o, plain) => {
                push(StepOp::MulPlain(of[o.index()], plain), 2, factor, true)
            }
            Shape::Other => match graph.op(id) {
                SlotsOp::Input(i) => push(StepOp::Input(*i), 1, factor, true),
                SlotsOp::Mul if operands[0] == operands[1] => {
                    push(StepOp::Square(of[operands[0].index()]), 2, factor, true)
                }
                SlotsOp::Mul => {
                    let mut ab = [of[operands[0].index()], of[operands[1].index()]];
                    if let Some((which, to)) = settled[id.index()].adjust {
                        let up = Term {
                            step: ab[which as usize],
                            coefficient: Coefficient::Const(Real(1.0)),
                            up: true,
                        };
                        ab[which as usize] = push(StepOp::Sum(vec![up]), 2, to, false);
                    }
                    push(StepOp::Mul(ab[0], ab[1]), 2, factor, true)
                }
                SlotsOp::Square => push(StepOp::Square(of[operands[0].index()]), 2, factor, true),
                op @ (SlotsOp::Rotate(_) | SlotsOp::Conjugate | SlotsOp::TimesI) => {
                    let map = match op {
                        SlotsOp::Rotate(k) => CkksOp::Rotate(*k),
                        SlotsOp::TimesI => CkksOp::TimesI,
                        _ => CkksOp::Conjugate,
                    };
                    push(StepOp::Map(of[operands[0].index()], map), 1, factor, true)
                }
                SlotsOp::Plain(_)
                | SlotsOp::Add
                | SlotsOp::Sub
                | SlotsOp::Neg
                | SlotsOp::LinComb(_) => continue,
            },
        };
        of[id.index()] = step;
    }
    let outputs = circuit.outputs.iter().map(|(o, _)| of[o.index()]).collect();
    (steps, outputs)
}

/// Backward: the level of every step, at its neediest user's; outputs at 0.
pub(super) fn place(steps: &[PlanStep], outputs: &[Step]) -> (Vec<u32>, u32) {
    // The level at which the form of rank 1, or of rank 2, is wanted.
    let mut first: Vec<Option<u32>> = vec![None; steps.len()];
    let mut second: Vec<Option<u32>> = vec![None; steps.len()];
    let mut levels = vec![0; steps.len()];
    let raise = |slot: &mut Option<u32>, level: u32| *slot = (*slot).max(Some(level));
    for o in outputs {
        raise(&mut first[o.index()], 0);
    }
    for i in (0..steps.len()).rev() {
        let step = &steps[i];
        let level = match step.rank {
            1 => first[i].unwrap_or(0),
            _ => first[i].map_or(0, |l| l + 1).max(second[i].unwrap_or(1)),
        };
        levels[i] = level;
        match &step.op {
            StepOp::Input(_) => {}
            StepOp::Mul(a, b) => {
                raise(&mut first[a.index()], level);
                raise(&mut first[b.index()], level);
            }
            StepOp::Square(a) | StepOp::MulPlain(a, _) | StepOp::Map(a, _) => {
                raise(&mut first[a.index()], level);
            }
            StepOp::AddPlain { step: a, .. } => {
                let want = if step.rank == 1 {
                    &mut first
                } else {
                    &mut second
                };
                raise(&mut want[a.index()], level);
            }
            StepOp::Sum(terms) => {
                for t in terms {
                    let want = if step.rank == 1 || t.up {
                        &mut first
                    } else {
                        &mut second
                    };
                    raise(&mut want[t.step.index()], level);
                }
            }
        }
    }
    let depth = levels.iter().copied().max().unwrap_or(0);
    (levels, depth)
}
