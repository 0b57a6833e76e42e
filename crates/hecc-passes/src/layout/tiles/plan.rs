//! Which layouts every value takes: technology mapping on the tensor graph.
//!
//! A value has candidate layouts. Every way of computing it in one of them is a *choice* that takes
//! its operands in certain states and costs levels and work. Forwards, the least level at which
//! each state can arrive is found, exactly, since a value may be computed in several layouts.
//! Backwards from the results, the states that are needed get the level by which they are needed
//! at the latest, and the cheapest choice in time is taken: what has slack is moved, masked or
//! shared instead of computed or packed twice.

use std::collections::BTreeMap;
use std::rc::Rc;

use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::tensor::{Secrecy, Tensor, TensorOp, elements};
use smallvec::SmallVec;

use super::Style;
use super::place::{Layout, Place, Relay, State, bits_of, carried, vectors};
use crate::layout::expand::{Source, movement};
use crate::layout::public::{Known, PublicPart, intervals, range_of};

/// Candidate layouts of one value.
const CANDIDATES_MAX: usize = 32;

/// States of one value.
const STATES_MAX: usize = 48;

/// Work of one operation on a vector, in rotations.
pub(super) mod work {
    pub(in super::super) const PRODUCT: f64 = 1.2;
    pub(in super::super) const MASK: f64 = 0.15;
    pub(in super::super) const ADD: f64 = 0.02;
    pub(in super::super) const INPUT: f64 = 2.0;
}

/// What nobody reads may be this much larger than what is read where products are formed.
const FAR_OUTSIDE: f64 = 4.0;

/// A secret value of the program.
pub(super) struct Value {
    pub(super) id: NodeId,
    pub(super) kind: Kind,
    pub(super) operands: SmallVec<[usize; 2]>,
    pub(super) shape: Vec<usize>,
    pub(super) range: Interval,
    /// Whether slots past the ends of the axes hold zero.
    pub(super) clean: bool,
    /// How many values use it.
    fan: usize,
}

/// What computes a value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Elements of an encrypted parameter, `u32::MAX` for zero: the client packs them as it is told.
    Leaf {
        param: u32,
        elements: Rc<[u32]>,
    },
    Add,
    Sub,
    Mul,
    Neg,
    /// Times one public number.
    Scale(Known),
    /// Times a public tensor.
    Weigh(Known),
    /// Plus a public tensor, or minus it.
    Shift(Known, bool),
    /// A sum over axes.
    Sum(SmallVec<[usize; 2]>),
    /// Axis i is axis `[i]` of the operand, or one along which the operand is repeated.
    Axes(Vec<Option<usize>>),
}

/// How a state comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// The operation, on operands in the states given.
    Direct,
    /// Masked and copied into its holes.
    Cover,
    /// Moved to other slot bits.
    Relay,
}

#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) via: Via,
    /// Value and state.
    pub(super) from: SmallVec<[(usize, usize); 2]>,
    levels: u32,
    cost: f64,
}

struct Info {
    state: State,
    choices: Vec<Choice>,
    arrival: u32,
    /// Work, shared among users.
    flow: f64,
    /// Largest magnitude in slots that nobody reads.
    junk: f64,
}

/// What is to be written for one value: states, in an order in which they can be computed.
pub(super) struct Plan {
    pub(super) values: Vec<Value>,
    pub(super) chosen: Vec<Vec<(usize, Choice)>>,
    /// Levels that it was made for, with scalar factors taken as free.
    pub(super) levels: u32,
    states: Vec<Vec<Info>>,
    /// By result of the circuit: the value and its state, `None` for public results.
    pub(super) results: Vec<Option<(usize, usize)>>,
}

impl Plan {
    pub(super) fn state(&self, value: usize, state: usize) -> &State {
        &self.states[value][state].state
    }
}

/// The secret values of a circuit; `None` when it holds an operation that is not planned here.
pub(super) fn values(circuit: &Circuit<Tensor>, public: &mut PublicPart) -> Option<Vec<Value>> {
    let live = circuit.live();
    let graph = &circuit.graph;
    let mut number: Vec<Option<usize>> = vec![None; graph.len()];
    let mut out: Vec<Value> = Vec::new();
    for id in graph.ids().filter(|id| live[id.index()]) {
        if public.secrecy[id.index()] == Secrecy::Public {
            continue;
        }
        let node = graph.node(id);
        let shape = node.ty.shape().to_vec();
        if elements(&shape) == 0 {
            return None;
        }
        let ids = graph.operands(id);
        let shapes: Vec<&[usize]> = ids.iter().map(|o| graph.ty(*o).shape()).collect();
        let secret: SmallVec<[usize; 2]> = ids.iter().filter_map(|o| number[o.index()]).collect();
        let known = |i: usize| public.known[ids[i].index()].clone();
        let ranges: Vec<Interval> = ids
            .iter()
            .map(|o| match (number[o.index()], &public.known[o.index()]) {
                (Some(v), _) => out[v].range,
                (None, Some(Known::Const(c))) => intervals::of_values(c.data()),
                (None, Some(Known::Runtime(id))) => public.range(*id),
                (None, None) => Interval::new(0.0, 0.0),
            })
            .collect();
        let mut range = range_of(&node.op, &ranges, &shapes, &|i| {
            circuit.inputs[i as usize].interval()
        });
        if ids.len() == 2 && ids[0] == ids[1] && node.op == TensorOp::Mul {
            range = intervals::pow(ranges[0], 2);
        }
        if let Some(declared) = node.declared {
            range = range.meet(declared);
        }
        let clean_of = |k: usize| out[secret[k]].clean;
        let (kind, clean) = match &node.op {
            TensorOp::Input(i) => (
                Kind::Leaf {
                    param: *i,
                    elements: (0..elements(&shape) as u32).collect(),
                },
                true,
            ),
            TensorOp::Neg => (Kind::Neg, clean_of(0)),
            TensorOp::Add | TensorOp::Sub if secret.len() == 2 => (
                if node.op == TensorOp::Add {
                    Kind::Add
                } else {
                    Kind::Sub
                },
                clean_of(0) && clean_of(1),
            ),
            TensorOp::Mul if secret.len() == 2 => (Kind::Mul, clean_of(0) || clean_of(1)),
            TensorOp::Add => {
                let k = usize::from(number[ids[0].index()].is_some());
                (Kind::Shift(known(k)?, false), clean_of(0))
            }
            TensorOp::Sub if number[ids[0].index()].is_some() => {
                (Kind::Shift(known(1)?, true), clean_of(0))
            }
            // known − secret is written by `prepare` as a sum
            TensorOp::Sub => return None,
            TensorOp::Mul | TensorOp::Div => {
                let factor = if node.op == TensorOp::Div {
                    let k = known(1)?;
                    public.reciprocal(&k, node.span).ok()?
                } else {
                    known(usize::from(number[ids[0].index()].is_some()))?
                };
                let uniform = match &factor {
                    Known::Const(c) => c.uniform().is_some(),
                    Known::Runtime(id) => public.scalar_of(*id).is_some(),
                };
                if uniform {
                    (Kind::Scale(factor), clean_of(0))
                } else {
                    (Kind::Weigh(factor), true)
                }
            }
            TensorOp::Sum(axes) => {
                let masked = axes.iter().any(|a| !shapes[0][*a].is_power_of_two());
                (Kind::Sum(axes.clone()), clean_of(0) || masked)
            }
            TensorOp::Broadcast(_) => {
                let lead = shape.len() - shapes[0].len();
                let axes: Vec<Option<usize>> = (0..shape.len())
                    .map(|i| (i >= lead && shapes[0][i - lead] == shape[i]).then(|| i - lead))
                    .collect();
                let padded = axes
                    .iter()
                    .zip(&shape)
                    .any(|(a, n)| a.is_none() && !n.is_power_of_two());
                (Kind::Axes(axes), clean_of(0) && !padded)
            }
            op if secret.len() == 1 && ids.len() == 1 => {
                // a transposed parameter is the same vectors under other names
                if let Some(axes) = renamed(op, shapes[0], &shape) {
                    (Kind::Axes(axes), clean_of(0))
                } else if let Kind::Leaf { param, elements } = &out[secret[0]].kind {
                    let map = movement(op, &shapes, &shape)?;
                    let elements = map
                        .iter()
                        .map(|m| match m {
                            Source::Zero => u32::MAX,
                            Source::From { index, .. } => elements[*index as usize],
                        })
                        .collect();
                    (
                        Kind::Leaf {
                            param: *param,
                            elements,
                        },
                        true,
                    )
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        number[id.index()] = Some(out.len());
        out.push(Value {
            id,
            kind,
            operands: secret,
            shape,
            range,
            clean,
            fan: 0,
        });
    }
    for i in 0..out.len() {
        if matches!(out[i].kind, Kind::Leaf { .. }) {
            out[i].operands.clear();
            continue;
        }
        for o in out[i].operands.clone() {
            out[o].fan += 1;
        }
    }
    Some(out)
}

/// A transposition, or a reshape that only adds or drops axes of one element.
fn renamed(op: &TensorOp, from: &[usize], to: &[usize]) -> Option<Vec<Option<usize>>> {
    match op {
        TensorOp::Transpose(perm) => Some(perm.iter().map(|p| Some(*p)).collect()),
        TensorOp::Reshape(_) => {
            let mut rest = (0..from.len()).filter(|i| from[*i] > 1);
            let axes: Option<Vec<Option<usize>>> = to
                .iter()
                .map(|n| {
                    if *n == 1 {
                        return Some(None);
                    }
                    let i = rest.next()?;
                    (from[i] == *n).then_some(Some(i))
                })
                .collect();
            let axes = axes?;
            rest.next().is_none().then_some(axes)
        }
        _ => None,
    }
}

/// The slots of the largest value that is computed or read, each axis padded.
pub(super) fn largest(values: &[Value]) -> usize {
    values
        .iter()
        .filter(|v| v.fan > 0 || !matches!(v.kind, Kind::Leaf { .. }))
        .map(|v| crate::layout::packed::padded(&v.shape))
        .max()
        .unwrap_or(1)
}

/// What the planner prefers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// Work that a second packing of an input counts as, beside its transport.
    pub(super) repack: f64,
    /// Vectors of inputs that are worth time, within the levels that there are.
    pub(super) most_inputs: Option<usize>,
    /// Levels beyond the least that results may take.
    pub(super) slack: u32,
    pub(super) style: Style,
}

/// Chooses layouts for vectors of 2^`slot_bits` slots. `outputs` are the results, by value.
pub(super) fn plan(
    values: Vec<Value>,
    outputs: &[Option<usize>],
    slot_bits: u8,
    wishes: &Wishes,
) -> Option<Plan> {
    let candidates = candidates(&values, slot_bits);
    let mut planner = Planner {
        only: vec![None; values.len()],
        values,
        candidates,
        states: Vec::new(),
        slot_bits,
        wishes: *wishes,
    };
    planner.forwards()?;
    let levels = planner.least(outputs).saturating_add(wishes.slack);
    let mut best = planner.cover(outputs, levels)?;
    if let Some(most) = wishes.most_inputs {
        planner.pack_once(outputs, levels, most, &mut best);
    }
    Some(Plan {
        values: planner.values,
        states: planner.states,
        chosen: best.chosen,
        levels,
        results: best.results,
    })
}

fn add_candidate(list: &mut Vec<Layout>, layout: Layout) -> bool {
    if list.contains(&layout) || list.len() >= CANDIDATES_MAX {
        return false;
    }
    list.push(layout);
    true
}

/// Layouts in which values may lie: every order of the axes of the largest ones, and what follows
/// from these for what they are computed from and what is computed from them.
fn candidates(values: &[Value], slot_bits: u8) -> Vec<Vec<Layout>> {
    let mut out: Vec<Vec<Layout>> = vec![Vec::new(); values.len()];
    // values of most axes first: the others follow them
    let mut ranked: Vec<usize> = (0..values.len()).collect();
    let axes = |v: &Value| v.shape.iter().filter(|n| **n > 1).count();
    ranked.sort_by_key(|v| std::cmp::Reverse(axes(&values[*v])));
    for v in ranked {
        if !out[v].is_empty() && axes(&values[v]) > 1 {
            continue;
        }
        for l in seeds(&values[v].shape, slot_bits) {
            add_candidate(&mut out[v], l);
        }
        spread(values, &mut out);
    }
    out
}

fn spread(values: &[Value], out: &mut [Vec<Layout>]) {
    for _ in 0..8 {
        let mut changed = false;
        for v in (0..values.len()).rev() {
            changed |= propagate(values, out, v);
        }
        for v in 0..values.len() {
            changed |= propagate(values, out, v);
        }
        if !changed {
            break;
        }
    }
}

/// Hands candidates between a value and its operands.
fn propagate(values: &[Value], out: &mut [Vec<Layout>], v: usize) -> bool {
    let value = &values[v];
    let mut changed = false;
    match &value.kind {
        Kind::Leaf { .. } => {}
        Kind::Add
        | Kind::Sub
        | Kind::Mul
        | Kind::Neg
        | Kind::Scale(_)
        | Kind::Weigh(_)
        | Kind::Shift(..) => {
            for &o in &value.operands {
                for l in out[v].clone() {
                    changed |= add_candidate(&mut out[o], l);
                }
                for l in out[o].clone() {
                    changed |= add_candidate(&mut out[v], l);
                }
            }
        }
        Kind::Axes(axes) => {
            let o = value.operands[0];
            for l in out[v].clone() {
                changed |= add_candidate(&mut out[o], behind(axes, &l, &values[o].shape));
            }
            if axes
                .iter()
                .zip(&value.shape)
                .all(|(a, n)| a.is_some() || *n == 1)
            {
                for l in out[o].clone() {
                    let through: Layout = axes
                        .iter()
                        .map(|a| a.map_or(Place::default(), |a| l[a]))
                        .collect();
                    changed |= add_candidate(&mut out[v], through);
                }
            }
        }
        Kind::Sum(axes) => {
            let o = value.operands[0];
            for l in out[o].clone() {
                changed |= add_candidate(&mut out[v], without(axes, &l));
            }
        }
    }
    changed
}

/// The layout of an operand whose axes are those of a result, some of them repeated.
pub(super) fn behind(axes: &[Option<usize>], layout: &[Place], shape: &[usize]) -> Layout {
    let mut out: Layout = SmallVec::from_elem(Place::default(), shape.len());
    for (i, a) in axes.iter().enumerate() {
        if let Some(a) = a {
            out[*a] = layout[i];
        }
    }
    out
}

/// The layout of what is left of a sum over some axes.
pub(super) fn without(axes: &[usize], layout: &[Place]) -> Layout {
    layout
        .iter()
        .enumerate()
        .filter(|(i, _)| !axes.contains(i))
        .map(|(_, p)| *p)
        .collect()
}

/// Orders of the axes, the slowest at the top of the slots; too large a tensor leaves bits of one
/// axis to the numbers of its vectors.
fn seeds(shape: &[usize], slot_bits: u8) -> Vec<Layout> {
    let real: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] > 1).collect();
    let bits: Vec<u8> = shape.iter().map(|n| bits_of(*n)).collect();
    let total: u32 = bits.iter().map(|b| u32::from(*b)).sum();
    let excess = total.saturating_sub(u32::from(slot_bits)) as u8;
    let mut out = Vec::new();
    // which axis gives up bits
    let mut cuts: Vec<Vec<u8>> = Vec::new();
    if excess == 0 {
        cuts.push(bits.clone());
    } else {
        for &a in &real {
            let mut cut = bits.clone();
            let mut rest = excess;
            let taken = rest.min(cut[a]);
            cut[a] -= taken;
            rest -= taken;
            for &b in &real {
                let taken = rest.min(cut[b]);
                cut[b] -= taken;
                rest -= taken;
            }
            cuts.push(cut);
        }
    }
    for cut in cuts {
        for order in orders(&real) {
            let mut layout: Layout = SmallVec::from_elem(Place::default(), shape.len());
            let mut offset = 0;
            for (k, &axis) in order.iter().rev().enumerate() {
                let slowest = k + 1 == order.len();
                let at = if slowest && order.len() > 1 {
                    slot_bits - cut[axis]
                } else {
                    offset
                };
                layout[axis] = Place {
                    offset: if cut[axis] == 0 { 0 } else { at },
                    inner: cut[axis],
                };
                offset += cut[axis];
            }
            if !out.contains(&layout) {
                out.push(layout);
            }
        }
        if let [axis] = real[..] {
            let mut layout: Layout = SmallVec::from_elem(Place::default(), shape.len());
            layout[axis] = Place {
                offset: slot_bits - cut[axis],
                inner: cut[axis],
            };
            if !out.contains(&layout) {
                out.push(layout);
            }
        }
    }
    if out.is_empty() {
        out.push(SmallVec::from_elem(Place::default(), shape.len()));
    }
    out
}

/// Orders of axes, slowest first, the given one first.
fn orders(axes: &[usize]) -> Vec<Vec<usize>> {
    if axes.len() <= 1 || axes.len() > 4 {
        return vec![axes.to_vec()];
    }
    let mut out = Vec::new();
    for (i, a) in axes.iter().enumerate() {
        let mut rest = axes.to_vec();
        rest.remove(i);
        for mut tail in orders(&rest) {
            tail.insert(0, *a);
            out.push(tail);
        }
    }
    out
}

/// What a sum over axes leaves: the layout and the slot bits that then hold partial sums.
pub(super) fn summed(axes: &[usize], state: &State) -> State {
    let mut left = carried(&state.layout) | state.holes;
    let mut holes = state.holes;
    let mut places: Vec<Place> = axes.iter().map(|a| state.layout[*a]).collect();
    places.sort_unstable_by_key(|p| std::cmp::Reverse(p.offset));
    for p in places.into_iter().filter(|p| p.inner > 0) {
        let above = u32::MAX
            .checked_shl(u32::from(p.offset + p.inner))
            .unwrap_or(0);
        left &= !p.mask();
        if left & above != 0 {
            holes |= p.mask();
            left |= p.mask();
        }
    }
    State {
        layout: without(axes, &state.layout),
        holes,
    }
}

struct Planner {
    values: Vec<Value>,
    candidates: Vec<Vec<Layout>>,
    /// The one packing that a parameter may have.
    only: Vec<Option<Layout>>,
    states: Vec<Vec<Info>>,
    slot_bits: u8,
    wishes: Wishes,
}

/// What is to be computed, and in which states.
struct Cover {
    chosen: Vec<Vec<(usize, Choice)>>,
    results: Vec<Option<(usize, usize)>>,
    /// By value: the packings of a parameter.
    packed: Vec<Vec<Layout>>,
    /// Vectors of parameters.
    inputs: usize,
}

impl Planner {
    /// The states of the values that have none yet.
    fn forwards(&mut self) -> Option<()> {
        for v in self.states.len()..self.values.len() {
            self.states.push(Vec::new());
            self.arrive(v)?;
        }
        Some(())
    }

    /// The least levels of all results.
    fn least(&self, outputs: &[Option<usize>]) -> u32 {
        outputs
            .iter()
            .flatten()
            .filter_map(|v| self.states[*v].iter().map(|i| i.arrival).min())
            .max()
            .unwrap_or(0)
    }

    /// Leaves parameters with one packing each, as long as there are more than `most` vectors of
    /// inputs and all results are there in time.
    fn pack_once(&mut self, outputs: &[Option<usize>], levels: u32, most: usize, best: &mut Cover) {
        let count = |p: &Self, v: usize, l: &Layout| vectors(l, &p.values[v].shape);
        for v in (0..self.values.len()).rev() {
            if best.inputs <= most {
                return;
            }
            let now: usize = best.packed[v].iter().map(|l| count(self, v, l)).sum();
            let mut choices: Vec<Layout> = best.packed[v].clone();
            for l in &self.candidates[v] {
                if !choices.contains(l) {
                    choices.push(l.clone());
                }
            }
            choices.retain(|l| count(self, v, l) < now);
            choices.sort_by_key(|l| count(self, v, l));
            for l in choices {
                let before = self.states.split_off(v);
                self.only[v] = Some(l);
                let found = match self.forwards() {
                    Some(()) if self.least(outputs) <= levels => self.cover(outputs, levels),
                    _ => None,
                };
                match found.filter(|f| f.inputs < best.inputs) {
                    Some(found) => {
                        *best = found;
                        break;
                    }
                    None => {
                        self.only[v] = None;
                        self.states.truncate(v);
                        self.states.extend(before);
                    }
                }
            }
        }
    }

    /// The states in which a value can be had, with all ways to get there.
    fn arrive(&mut self, v: usize) -> Option<()> {
        let value = &self.values[v];
        let candidates = &self.candidates[v];
        let shape = value.shape.clone();
        let operands = value.operands.clone();
        let range = value.range.magnitude().max(1e-12);
        let mut infos: Vec<Info> = Vec::new();
        let mut offer = |state: State, choice: Choice, junk: f64| {
            let at = match infos.iter().position(|i| i.state == state) {
                Some(at) => at,
                None if infos.len() < STATES_MAX => {
                    infos.push(Info {
                        state,
                        choices: Vec::new(),
                        arrival: u32::MAX,
                        flow: f64::INFINITY,
                        junk: 0.0,
                    });
                    infos.len() - 1
                }
                None => return,
            };
            infos[at].junk = infos[at].junk.max(junk);
            infos[at].choices.push(choice);
        };
        let full = |layout: &Layout| State {
            layout: layout.clone(),
            holes: 0,
        };
        let direct = |from: SmallVec<[(usize, usize); 2]>, levels: u32, cost: f64| Choice {
            via: Via::Direct,
            from,
            levels,
            cost,
        };
        match &value.kind {
            Kind::Leaf { .. } => {
                for l in candidates {
                    if self.only[v].as_ref().is_some_and(|only| only != l) {
                        continue;
                    }
                    let n = vectors(l, &shape) as f64;
                    offer(full(l), direct(SmallVec::new(), 0, n * work::INPUT), 0.0);
                }
            }
            Kind::Neg | Kind::Scale(_) | Kind::Shift(..) => {
                let o = operands[0];
                let grown = match &value.kind {
                    Kind::Scale(Known::Const(c)) => c.uniform().map_or(1.0, f64::abs),
                    Kind::Scale(Known::Runtime(_)) => {
                        range / self.values[o].range.magnitude().max(1e-12)
                    }
                    _ => 1.0,
                };
                for (i, info) in self.states[o].iter().enumerate() {
                    let n = vectors(&info.state.layout, &shape) as f64;
                    let from = SmallVec::from_slice(&[(o, i)]);
                    offer(
                        info.state.clone(),
                        direct(from, 0, n * work::ADD),
                        (info.junk * grown).max(range),
                    );
                }
            }
            Kind::Weigh(_) => {
                let o = operands[0];
                for (i, info) in self.states[o].iter().enumerate() {
                    let n = vectors(&info.state.layout, &shape) as f64;
                    let copies = n * f64::from(info.state.holes.count_ones());
                    let from = SmallVec::from_slice(&[(o, i)]);
                    let cost = n * work::MASK + copies;
                    offer(full(&info.state.layout), direct(from, 1, cost), 0.0);
                }
            }
            Kind::Add | Kind::Sub | Kind::Mul => {
                let (a, b) = (operands[0], operands[1]);
                let product = matches!(value.kind, Kind::Mul);
                for (i, x) in self.states[a].iter().enumerate() {
                    for (j, y) in self.states[b].iter().enumerate() {
                        if x.state.layout != y.state.layout || (a == b && i != j) {
                            continue;
                        }
                        let holes = x.state.holes | y.state.holes;
                        let far = |k: usize, info: &Info| {
                            info.junk > FAR_OUTSIDE * self.values[k].range.magnitude()
                        };
                        if product && holes != 0 && (far(a, x) || far(b, y)) {
                            continue;
                        }
                        let n = vectors(&x.state.layout, &shape) as f64;
                        let (levels, cost) = if product {
                            (1, work::PRODUCT)
                        } else {
                            (0, work::ADD)
                        };
                        let outer =
                            |k: usize, info: &Info| info.junk.max(self.values[k].range.magnitude());
                        let junk = if holes == 0 {
                            0.0
                        } else if product {
                            outer(a, x) * outer(b, y)
                        } else {
                            outer(a, x) + outer(b, y)
                        };
                        let mut from = SmallVec::from_slice(&[(a, i)]);
                        from.push((b, j));
                        let state = State {
                            layout: x.state.layout.clone(),
                            holes,
                        };
                        offer(state, direct(from, levels, n * cost), junk);
                    }
                }
            }
            Kind::Axes(axes) => {
                let o = operands[0];
                let repeats = axes.iter().zip(&shape).any(|(a, n)| a.is_none() && *n > 1);
                for l in candidates {
                    let under = behind(axes, l, &self.values[o].shape);
                    for (i, info) in self.states[o].iter().enumerate() {
                        if info.state.layout != under || (repeats && info.state.holes != 0) {
                            continue;
                        }
                        let state = State {
                            layout: l.clone(),
                            holes: info.state.holes,
                        };
                        let from = SmallVec::from_slice(&[(o, i)]);
                        offer(state, direct(from, 0, 0.0), info.junk);
                    }
                }
            }
            Kind::Sum(axes) => {
                let o = operands[0];
                let operand = &self.values[o];
                let terms: usize = axes.iter().map(|a| operand.shape[*a]).product();
                // what lies past the ends must not be added
                let padded = axes.iter().any(|a| !operand.shape[*a].is_power_of_two());
                let mask = u32::from(padded && !operand.clean);
                for (i, info) in self.states[o].iter().enumerate() {
                    if mask > 0 && info.state.holes != 0 {
                        continue;
                    }
                    let state = summed(axes, &info.state);
                    let before = vectors(&info.state.layout, &operand.shape) as f64;
                    let after = vectors(&state.layout, &shape) as f64;
                    let steps: u32 = axes
                        .iter()
                        .map(|a| u32::from(info.state.layout[*a].inner))
                        .sum();
                    let cost = (before - after) * work::ADD
                        + after * f64::from(steps)
                        + f64::from(mask) * before * work::MASK;
                    let reach = operand.range.magnitude().max(info.junk) * terms as f64 * 2.0;
                    let from = SmallVec::from_slice(&[(o, i)]);
                    offer(state, direct(from, mask, cost), reach);
                }
            }
        }
        self.settle(v, &mut infos);
        self.fill(v, &mut infos);
        self.relay(v, &mut infos);
        self.fill(v, &mut infos);
        self.states[v] = infos;
        (!self.states[v].is_empty()).then_some(())
    }

    /// Masks states with holes and puts copies there.
    fn fill(&self, v: usize, infos: &mut Vec<Info>) {
        let holed: Vec<usize> = (0..infos.len())
            .filter(|i| infos[*i].state.holes != 0)
            .collect();
        for i in holed {
            let state = State {
                layout: infos[i].state.layout.clone(),
                holes: 0,
            };
            let n = vectors(&state.layout, &self.values[v].shape) as f64;
            let copies = f64::from(infos[i].state.holes.count_ones());
            let choice = Choice {
                via: Via::Cover,
                from: SmallVec::from_slice(&[(v, i)]),
                levels: 1,
                cost: n * (work::MASK + copies),
            };
            insert(infos, state, choice, 0.0);
        }
        self.settle(v, infos);
    }

    /// Moves a vector of numbers between slot bits.
    fn relay(&self, v: usize, infos: &mut Vec<Info>) {
        let value = &self.values[v];
        let shape = &value.shape;
        let real: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] > 1).collect();
        let [axis] = real[..] else {
            return;
        };
        let bits = bits_of(shape[axis]);
        let sources: Vec<usize> = (0..infos.len())
            .filter(|i| infos[*i].state.holes == 0)
            .collect();
        for target in &self.candidates[v] {
            for &i in &sources {
                let (from, to) = (infos[i].state.layout[axis], target[axis]);
                if from.inner != bits {
                    continue;
                }
                let Some(relay) = Relay::new(from, to, self.slot_bits) else {
                    continue;
                };
                let fill = self.wishes.style == Style::Filled && relay.holes() != 0;
                let masks = 1 + u32::from(fill);
                let choice = Choice {
                    via: Via::Relay,
                    from: SmallVec::from_slice(&[(v, i)]),
                    levels: masks,
                    cost: f64::from(masks * relay.summed().count_ones())
                        + f64::from(masks) * work::MASK,
                };
                let state = State {
                    layout: target.clone(),
                    holes: if fill { 0 } else { relay.holes() },
                };
                insert(infos, state, choice, 2.0 * value.range.magnitude());
            }
        }
        self.settle(v, infos);
    }

    /// Arrival and work of every state of a value, from those of the operands.
    fn settle(&self, v: usize, infos: &mut [Info]) {
        for _ in 0..3 {
            let mut changed = false;
            for i in 0..infos.len() {
                let mut best = (infos[i].arrival, infos[i].flow);
                for c in &infos[i].choices {
                    let mut arrival = 0;
                    let mut flow = c.cost;
                    for &(o, s) in &c.from {
                        let (info, fan) = if o == v {
                            (&infos[s], 1)
                        } else {
                            (&self.states[o][s], self.values[o].fan.max(1))
                        };
                        arrival = arrival.max(info.arrival);
                        flow += info.flow / fan as f64;
                    }
                    let arrival = arrival.saturating_add(c.levels);
                    if arrival < best.0 || (arrival == best.0 && flow < best.1) {
                        best = (arrival, flow);
                    }
                }
                if best != (infos[i].arrival, infos[i].flow) {
                    (infos[i].arrival, infos[i].flow) = best;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    fn arrival(&self, c: &Choice) -> u32 {
        c.from
            .iter()
            .map(|(o, s)| self.states[*o][*s].arrival)
            .max()
            .unwrap_or(0)
            .saturating_add(c.levels)
    }

    /// Backwards: what is needed, by when, and the cheapest way to have it within so many levels.
    fn cover(&self, outputs: &[Option<usize>], levels: u32) -> Option<Cover> {
        let mut results = Vec::with_capacity(outputs.len());
        for output in outputs {
            let best = output.map(|v| {
                let s = (0..self.states[v].len())
                    .min_by(|a, b| {
                        let key = |i: &usize| (self.states[v][*i].arrival, self.states[v][*i].flow);
                        key(a)
                            .partial_cmp(&key(b))
                            .unwrap_or(std::cmp::Ordering::Equal)
                    })
                    .unwrap_or(0);
                (v, s)
            });
            results.push(best);
        }
        let mut needed: Vec<BTreeMap<usize, u32>> = vec![BTreeMap::new(); self.values.len()];
        for (v, s) in results.iter().flatten() {
            needed[*v].insert(*s, levels);
        }
        let mut chosen: Vec<Vec<(usize, Choice)>> = vec![Vec::new(); self.values.len()];
        // the packings of every parameter that are needed so far
        let mut packed: Vec<Vec<Layout>> = vec![Vec::new(); self.values.len()];
        for v in (0..self.values.len()).rev() {
            let mut taken: BTreeMap<usize, Choice> = BTreeMap::new();
            // the most urgent first: what is needed later may be made from it
            while let Some((s, by)) = needed[v]
                .iter()
                .filter(|(s, _)| !taken.contains_key(s))
                .map(|(s, by)| (*s, *by))
                .min_by_key(|(s, by)| (*by, *s))
            {
                let choice = self.cheapest(v, s, by, &needed, &packed, &taken)?;
                if choice.via != Via::Direct {
                    let (_, from) = choice.from[0];
                    let earlier = by - choice.levels;
                    let before = needed[v].get(&from).copied();
                    if before.is_none_or(|b| b > earlier) {
                        needed[v].insert(from, earlier);
                        if taken.get(&from).is_some_and(|c| self.arrival(c) > earlier) {
                            taken.remove(&from);
                        }
                    }
                }
                taken.insert(s, choice);
            }
            for (s, choice) in &taken {
                if choice.via == Via::Direct {
                    let by = needed[v][s] - choice.levels;
                    let arrival = |&(o, t): &(usize, usize)| self.states[o][t].arrival;
                    let sum = matches!(self.values[v].kind, Kind::Add | Kind::Sub);
                    let last = choice.from.iter().map(arrival).max().unwrap_or(0);
                    for at in &choice.from {
                        let (o, t) = *at;
                        // terms that come earlier than another take on its scale for nothing
                        let early = sum && self.wishes.style != Style::Tight && arrival(at) < last;
                        let by = match early {
                            true => by.saturating_sub(1).max(arrival(at)),
                            false => by,
                        };
                        if let Some((leaf, layout)) = self.packing(o, t)
                            && !packed[leaf].contains(&layout)
                        {
                            packed[leaf].push(layout);
                        }
                        let entry = needed[o].entry(t).or_insert(by);
                        *entry = by.min(*entry);
                    }
                }
            }
            chosen[v] = in_order(v, taken);
        }
        let count = |v: usize, l: &Layout| vectors(l, &self.values[v].shape);
        let inputs = packed
            .iter()
            .enumerate()
            .map(|(v, layouts)| layouts.iter().map(|l| count(v, l)).sum::<usize>())
            .sum();
        Some(Cover {
            chosen,
            results,
            packed,
            inputs,
        })
    }

    fn cheapest(
        &self,
        v: usize,
        s: usize,
        by: u32,
        needed: &[BTreeMap<usize, u32>],
        packed: &[Vec<Layout>],
        taken: &BTreeMap<usize, Choice>,
    ) -> Option<Choice> {
        let mut best: Option<(f64, &Choice)> = None;
        for c in &self.states[v][s].choices {
            if self.arrival(c) > by || leads_back(c, s, taken) {
                continue;
            }
            let mut cost = c.cost;
            for &(o, t) in &c.from {
                if needed[o].contains_key(&t) {
                    continue;
                }
                let fan = if o == v { 1 } else { self.values[o].fan.max(1) };
                let flow = self.states[o][t].flow / fan as f64;
                match self.packing(o, t) {
                    Some((leaf, layout)) if packed[leaf].contains(&layout) => {}
                    Some((leaf, layout)) if !packed[leaf].is_empty() => {
                        let n = vectors(&layout, &self.values[leaf].shape) as f64;
                        cost += flow + self.wishes.repack * n;
                    }
                    _ => cost += flow,
                }
            }
            if best.is_none_or(|(b, _)| cost < b) {
                best = Some((cost, c));
            }
        }
        best.map(|(_, c)| c.clone())
    }

    /// The packing of a parameter that a state is, under other names or repeated.
    fn packing(&self, v: usize, s: usize) -> Option<(usize, Layout)> {
        let mut v = v;
        let mut layout = self.states[v][s].state.layout.clone();
        loop {
            match &self.values[v].kind {
                Kind::Leaf { .. } => return Some((v, layout)),
                Kind::Axes(axes) => {
                    v = self.values[v].operands[0];
                    layout = behind(axes, &layout, &self.values[v].shape);
                }
                Kind::Add
                | Kind::Sub
                | Kind::Mul
                | Kind::Neg
                | Kind::Scale(_)
                | Kind::Weigh(_)
                | Kind::Shift(..)
                | Kind::Sum(_) => return None,
            }
        }
    }
}

/// Adds a way to a state, in which slots that nobody reads are at most `junk` large. A way that is
/// known is not added again.
fn insert(infos: &mut Vec<Info>, state: State, choice: Choice, junk: f64) {
    let junk = if state.holes == 0 { 0.0 } else { junk };
    match infos.iter_mut().find(|i| i.state == state) {
        Some(info) => {
            let known = |c: &Choice| c.via == choice.via && c.from == choice.from;
            if !info.choices.iter().any(known) {
                info.junk = info.junk.max(junk);
                info.choices.push(choice);
            }
        }
        None => infos.push(Info {
            state,
            choices: vec![choice],
            arrival: u32::MAX,
            flow: f64::INFINITY,
            junk,
        }),
    }
}

/// Whether a choice for state `s` is made from a state that is itself, as taken so far, made from `s`.
fn leads_back(choice: &Choice, s: usize, taken: &BTreeMap<usize, Choice>) -> bool {
    let mut choice = choice;
    while choice.via != Via::Direct {
        let (_, from) = choice.from[0];
        if from == s {
            return true;
        }
        match taken.get(&from) {
            Some(next) => choice = next,
            None => break,
        }
    }
    false
}

/// States that are made from others of the same value after these.
fn in_order(v: usize, taken: BTreeMap<usize, Choice>) -> Vec<(usize, Choice)> {
    let mut out: Vec<(usize, Choice)> = Vec::with_capacity(taken.len());
    let mut left: Vec<(usize, Choice)> = taken.into_iter().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(s, c)| {
            let ready = c
                .from
                .iter()
                .all(|(o, t)| *o != v || out.iter().any(|(done, _)| done == t));
            if ready {
                out.push((*s, c.clone()));
            }
            !ready
        });
        if left.len() == before {
            break;
        }
    }
    out
}
