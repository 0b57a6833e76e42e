//! Interval analysis: in which range every slot of every value lies.
//!
//! Declared ranges are trusted and met with what the operands say; a square is never negative.
//! The analysis is worst-case on purpose: headroom depends on it.

use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::slots::{Coefficient, PackedInput, PlainDef, SlotMap, SlotSource, Slots, SlotsOp};

/// Largest magnitude that any choice of parameters is tried for: 2^60.
pub const MOST_MAGNITUDE: f64 = (1u64 << 60) as f64;

fn with_zero(range: Interval) -> Interval {
    Interval::new(range.lo.min(0.0), range.hi.max(0.0))
}

fn add(a: Interval, b: Interval) -> Interval {
    Interval::new(a.lo + b.lo, a.hi + b.hi)
}

fn sub(a: Interval, b: Interval) -> Interval {
    Interval::new(a.lo - b.hi, a.hi - b.lo)
}

fn neg(a: Interval) -> Interval {
    Interval::new(-a.hi, -a.lo)
}

// 0 · ∞ is 0 here: an exact zero annihilates whatever a value may be.
fn times(x: f64, y: f64) -> f64 {
    if x == 0.0 || y == 0.0 { 0.0 } else { x * y }
}

/// The range of a product.
pub(crate) fn product(a: Interval, b: Interval) -> Interval {
    let ends = [
        times(a.lo, b.lo),
        times(a.lo, b.hi),
        times(a.hi, b.lo),
        times(a.hi, b.hi),
    ];
    Interval::new(
        ends.iter().copied().fold(f64::INFINITY, f64::min),
        ends.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
}

fn square(a: Interval) -> Interval {
    let hi = a.magnitude() * a.magnitude();
    let lo = if a.lo <= 0.0 && a.hi >= 0.0 {
        0.0
    } else {
        a.lo.abs().min(a.hi.abs()).powi(2)
    };
    Interval::new(lo, hi)
}

/// The range of every slot of a packed input, empty slots included.
pub fn input_range(packed: &PackedInput) -> Interval {
    match &packed.source {
        SlotSource::Map(SlotMap(map)) if !map.contains(&SlotMap::EMPTY) => packed.range,
        SlotSource::Element(_) => packed.range,
        // A batch may hold fewer instances than slots: the rest are zero.
        SlotSource::Map(_) | SlotSource::Instances(_) => with_zero(packed.range),
    }
}

/// The range of every slot of a plaintext, empty slots included.
pub fn plain_range(plain: &PlainDef) -> Interval {
    use hecc_ir::slots::PlainSource;
    match &plain.source {
        PlainSource::Uniform(v) => Interval::new(*v, *v),
        PlainSource::Vector(v) => Interval::new(
            v.iter().copied().fold(f64::INFINITY, f64::min),
            v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
        PlainSource::Public { source, .. } => match source {
            SlotSource::Element(_) => plain.range,
            SlotSource::Map(SlotMap(map)) if !map.contains(&SlotMap::EMPTY) => plain.range,
            SlotSource::Map(_) | SlotSource::Instances(_) => with_zero(plain.range),
        },
    }
}

/// The range of a public factor.
pub fn coefficient_range(c: Coefficient, plains: &[PlainDef]) -> Interval {
    match c {
        Coefficient::Const(v) => Interval::new(v.0, v.0),
        Coefficient::Plain(id) => plain_range(&plains[id.0 as usize]),
    }
}

fn combination(
    coefficients: &[Coefficient],
    operands: &[NodeId],
    out: &[Interval],
    plains: &[PlainDef],
) -> Interval {
    coefficients
        .iter()
        .zip(operands)
        .fold(Interval::new(0.0, 0.0), |sum, (c, o)| {
            add(sum, product(coefficient_range(*c, plains), out[o.index()]))
        })
}

/// Refuses ranges that no choice of parameters can hold.
///
/// # Errors
/// `E3001` at the first value whose range grows past what any modulus can hold: its range must be
/// declared.
pub fn check_slots_ranges(circuit: &Circuit<Slots>, ranges: &[Interval]) -> Result<(), Diagnostic> {
    let live = circuit.live();
    for id in circuit.graph.ids().filter(|id| live[id.index()]) {
        let range = ranges[id.index()];
        // NaN must be caught, too.
        let holds = range.magnitude() <= MOST_MAGNITUDE;
        if !holds {
            return Err(too_large(circuit.graph.span(id), range));
        }
    }
    Ok(())
}

/// The range of every node of a slots circuit; without declared ranges it may grow to infinity.
pub fn slots_ranges(circuit: &Circuit<Slots>) -> Vec<Interval> {
    let graph = &circuit.graph;
    let plains = &circuit.meta.plains;
    let mut out: Vec<Interval> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let of = |i: usize| out[operands[i].index()];
        let range = match graph.op(id) {
            SlotsOp::Input(i) => input_range(&circuit.inputs[*i as usize]),
            SlotsOp::Plain(p) => plain_range(&plains[p.0 as usize]),
            SlotsOp::Add => add(of(0), of(1)),
            SlotsOp::Sub if operands[0] == operands[1] => Interval::new(0.0, 0.0),
            SlotsOp::Sub => sub(of(0), of(1)),
            SlotsOp::Neg => neg(of(0)),
            SlotsOp::Mul if operands[0] == operands[1] => square(of(0)),
            SlotsOp::Mul => product(of(0), of(1)),
            SlotsOp::Square => square(of(0)),
            SlotsOp::LinComb(c) => combination(c, &operands, &out, plains),
            SlotsOp::Rotate(_) => of(0),
        };
        out.push(graph.node(id).declared.map_or(range, |d| range.meet(d)));
    }
    out
}

fn too_large(span: hecc_ir::span::Span, range: Interval) -> Diagnostic {
    let size = range.magnitude();
    let text = if size.is_finite() {
        format!(
            "intervals alone allow magnitudes up to 2^{:.0} here",
            size.log2().ceil()
        )
    } else {
        "intervals alone give no bound here".to_owned()
    };
    Diagnostic::error(
        "E3001",
        span,
        "the range of this value grows past what any modulus can hold",
        text,
    )
    .with_help("declare the range that the value really has: `let x in [lo, hi] = …;`")
}

/// The range of every node of a CKKS circuit.
pub fn ckks_ranges(circuit: &Circuit<Ckks>) -> Vec<Interval> {
    let graph = &circuit.graph;
    let plains = &circuit.meta.plains;
    let mut out: Vec<Interval> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let of = |i: usize| out[operands[i].index()];
        let range = match graph.op(id) {
            CkksOp::Input(i) => input_range(&circuit.inputs[*i as usize].packed),
            CkksOp::Encode { plain, .. } => plain_range(&plains[plain.0 as usize]),
            CkksOp::Add => add(of(0), of(1)),
            CkksOp::Sub if operands[0] == operands[1] => Interval::new(0.0, 0.0),
            CkksOp::Sub => sub(of(0), of(1)),
            CkksOp::Neg => neg(of(0)),
            CkksOp::Mul if operands[0] == operands[1] => square(of(0)),
            CkksOp::Mul => product(of(0), of(1)),
            CkksOp::Square => square(of(0)),
            CkksOp::AddScalar(c) => add(of(0), coefficient_range(*c, plains)),
            CkksOp::MulScalar { value, .. } => product(of(0), coefficient_range(*value, plains)),
            CkksOp::LinComb { coefficients, .. } => {
                combination(coefficients, &operands, &out, plains)
            }
            CkksOp::Rotate(_)
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => of(0),
        };
        out.push(graph.node(id).declared.map_or(range, |d| range.meet(d)));
    }
    out
}
