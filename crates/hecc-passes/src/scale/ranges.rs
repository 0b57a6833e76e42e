//! Interval analysis: in which range every slot of every value lies.
//!
//! Declared ranges are trusted and met with what the operands say; a square is never negative.
//! The analysis is worst-case on purpose: headroom depends on it.

use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::slots::{
    Coefficient, PackedInput, PlainDef, SlotMap, SlotSource, Slots, SlotsMeta, SlotsOp,
};

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

/// The ranges of the real and of the imaginary part of every slot; the latter are zero unless the circuit
/// is complex.
#[derive(Clone, Copy)]
struct Parts {
    re: Interval,
    im: Interval,
}

impl Parts {
    fn each(self, f: impl Fn(Interval) -> Interval) -> Parts {
        Parts {
            re: f(self.re),
            im: f(self.im),
        }
    }

    fn both(self, other: Parts, f: impl Fn(Interval, Interval) -> Interval) -> Parts {
        Parts {
            re: f(self.re, other.re),
            im: f(self.im, other.im),
        }
    }

    fn product(self, other: Parts) -> Parts {
        Parts {
            re: sub(product(self.re, other.re), product(self.im, other.im)),
            im: add(product(self.re, other.im), product(self.im, other.re)),
        }
    }

    fn square(self) -> Parts {
        let half = product(self.re, self.im);
        Parts {
            re: sub(square(self.re), square(self.im)),
            im: add(half, half),
        }
    }

    fn hull(self) -> Interval {
        Interval::new(self.re.lo.min(self.im.lo), self.re.hi.max(self.im.hi))
    }
}

/// The parts of all nodes so far.
struct Known<'a> {
    parts: Vec<Parts>,
    plains: &'a [PlainDef],
    complex: bool,
}

const ZERO: Interval = Interval { lo: 0.0, hi: 0.0 };

impl<'a> Known<'a> {
    fn new(nodes: usize, meta: &'a SlotsMeta) -> Known<'a> {
        Known {
            parts: Vec::with_capacity(nodes),
            plains: &meta.plains,
            complex: meta.complex,
        }
    }

    /// The same range for all that a slot holds.
    fn uniform(&self, range: Interval) -> Parts {
        let im = if self.complex { range } else { ZERO };
        Parts { re: range, im }
    }

    fn of(&self, id: NodeId) -> Parts {
        self.parts[id.index()]
    }

    fn push(&mut self, parts: Parts, declared: Option<Interval>) {
        self.parts.push(match declared {
            Some(d) if self.complex => parts.each(|r| r.meet(d)),
            Some(d) => Parts {
                re: parts.re.meet(d),
                im: ZERO,
            },
            None => parts,
        });
    }

    fn combination(&self, coefficients: &[Coefficient], operands: &[NodeId]) -> Parts {
        let none = Parts { re: ZERO, im: ZERO };
        coefficients.iter().zip(operands).fold(none, |sum, (c, o)| {
            let c = coefficient_range(*c, self.plains);
            sum.both(self.of(*o).each(|r| product(c, r)), add)
        })
    }

    fn finish(self) -> Vec<Interval> {
        let complex = self.complex;
        let range = |p: &Parts| if complex { p.hull() } else { p.re };
        self.parts.iter().map(range).collect()
    }
}

/// z + z̄ is twice the real part.
fn twice_real(z: Parts) -> Parts {
    Parts {
        re: add(z.re, z.re),
        im: ZERO,
    }
}

/// z − z̄ is i times twice the imaginary part.
fn twice_imaginary(z: Parts) -> Parts {
    Parts {
        re: ZERO,
        im: add(z.im, z.im),
    }
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

/// The range of every node of a slots circuit, of all parts of its slots; without declared ranges it may
/// grow to infinity.
pub fn slots_ranges(circuit: &Circuit<Slots>) -> Vec<Interval> {
    let graph = &circuit.graph;
    let mut known = Known::new(graph.len(), &circuit.meta);
    for id in graph.ids() {
        let operands = graph.operands(id);
        let of = |i: usize| known.of(operands[i]);
        let conjugates = |i: usize, j: usize| {
            *graph.op(operands[i]) == SlotsOp::Conjugate
                && graph.operands(operands[i])[0] == operands[j]
        };
        let parts = match graph.op(id) {
            SlotsOp::Input(i) => known.uniform(input_range(&circuit.inputs[*i as usize])),
            SlotsOp::Plain(p) => known.uniform(plain_range(&known.plains[p.0 as usize])),
            SlotsOp::Add if conjugates(1, 0) => twice_real(of(0)),
            SlotsOp::Add if conjugates(0, 1) => twice_real(of(1)),
            SlotsOp::Add => of(0).both(of(1), add),
            SlotsOp::Sub if operands[0] == operands[1] => Parts { re: ZERO, im: ZERO },
            SlotsOp::Sub if conjugates(1, 0) => twice_imaginary(of(0)),
            SlotsOp::Sub if conjugates(0, 1) => twice_imaginary(of(1)).each(neg),
            SlotsOp::Sub => of(0).both(of(1), sub),
            SlotsOp::Neg => of(0).each(neg),
            SlotsOp::Mul if operands[0] == operands[1] => of(0).square(),
            SlotsOp::Mul => of(0).product(of(1)),
            SlotsOp::Square => of(0).square(),
            SlotsOp::LinComb(c) => known.combination(c, &operands),
            SlotsOp::Rotate(_) => of(0),
            SlotsOp::Conjugate => Parts {
                im: neg(of(0).im),
                ..of(0)
            },
            SlotsOp::TimesI => Parts {
                re: neg(of(0).im),
                im: of(0).re,
            },
        };
        known.push(parts, graph.node(id).declared);
    }
    known.finish()
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

/// The range of every node of a CKKS circuit, of all parts of its slots.
pub fn ckks_ranges(circuit: &Circuit<Ckks>) -> Vec<Interval> {
    let graph = &circuit.graph;
    let mut known = Known::new(graph.len(), &circuit.meta);
    for id in graph.ids() {
        let operands = graph.operands(id);
        let of = |i: usize| known.of(operands[i]);
        let conjugates = |i: usize, j: usize| {
            *graph.op(operands[i]) == CkksOp::Conjugate
                && graph.operands(operands[i])[0] == operands[j]
        };
        let parts = match graph.op(id) {
            CkksOp::Input(i) => known.uniform(input_range(&circuit.inputs[*i as usize].packed)),
            CkksOp::Encode { plain, .. } => {
                known.uniform(plain_range(&known.plains[plain.0 as usize]))
            }
            CkksOp::Add if conjugates(1, 0) => twice_real(of(0)),
            CkksOp::Add if conjugates(0, 1) => twice_real(of(1)),
            CkksOp::Add => of(0).both(of(1), add),
            CkksOp::Sub if operands[0] == operands[1] => Parts { re: ZERO, im: ZERO },
            CkksOp::Sub if conjugates(1, 0) => twice_imaginary(of(0)),
            CkksOp::Sub if conjugates(0, 1) => twice_imaginary(of(1)).each(neg),
            CkksOp::Sub => of(0).both(of(1), sub),
            CkksOp::Neg => of(0).each(neg),
            CkksOp::Mul if operands[0] == operands[1] => of(0).square(),
            CkksOp::Mul => of(0).product(of(1)),
            CkksOp::Square => of(0).square(),
            CkksOp::AddScalar(c) => {
                let c = known.uniform(coefficient_range(*c, known.plains));
                of(0).both(c, add)
            }
            CkksOp::MulScalar { value, .. } => {
                let c = coefficient_range(*value, known.plains);
                of(0).each(|r| product(r, c))
            }
            CkksOp::LinComb { coefficients, .. } => known.combination(coefficients, &operands),
            CkksOp::Conjugate => Parts {
                im: neg(of(0).im),
                ..of(0)
            },
            CkksOp::TimesI => Parts {
                re: neg(of(0).im),
                im: of(0).re,
            },
            CkksOp::Rotate(_)
            | CkksOp::Relinearize
            | CkksOp::Rescale { .. }
            | CkksOp::DropLevel(_) => of(0),
        };
        known.push(parts, graph.node(id).declared);
    }
    known.finish()
}
