//! Writing planned values as vectors of slots.

use std::rc::Rc;
use std::sync::Arc;

use hecc_ir::graph::{Circuit, Interval, NodeId, Real};
use hecc_ir::slots::{Coefficient, PackedOutput, SlotMap, SlotSource, Slots, Unpack};
use hecc_ir::tensor::Tensor;
use rustc_hash::FxHashMap;

use super::place::{Relay, State, behind_part, labels, number, parts};
use super::plan::{Choice, Kind, Plan, Value, Via, behind};
use crate::layout::emit::Emitter;
use crate::layout::known;
use crate::layout::linear::{Label, ZERO};
use crate::layout::public::{Known, PublicPart, intervals};

/// A value in one state.
#[derive(Clone)]
struct Held {
    vectors: Vec<NodeId>,
    /// Of the elements.
    range: Interval,
    /// Of all other slots.
    rest: Interval,
    /// Whether all other slots hold zero.
    clean: bool,
}

impl Held {
    fn whole(&self) -> Interval {
        intervals::hull(self.range, self.rest)
    }
}

type LabelKey = (Vec<usize>, State, Vec<usize>);

struct Writer<'a> {
    circuit: &'a Circuit<Tensor>,
    emit: Emitter,
    public: PublicPart,
    plan: &'a Plan,
    slots: usize,
    held: FxHashMap<(usize, usize), Held>,
    known_labels: FxHashMap<LabelKey, Rc<[Label]>>,
    /// Packings of each parameter so far.
    packings: FxHashMap<u32, u32>,
}

const ZERO_RANGE: Interval = Interval { lo: 0.0, hi: 0.0 };

/// Writes a plan.
pub(super) fn write(
    circuit: &Circuit<Tensor>,
    public: PublicPart,
    plan: &Plan,
    known_results: &[Option<Known>],
    slots: usize,
) -> Circuit<Slots> {
    let mut w = Writer {
        circuit,
        emit: Emitter::new(&circuit.name, slots),
        public,
        plan,
        slots,
        held: FxHashMap::default(),
        known_labels: FxHashMap::default(),
        packings: FxHashMap::default(),
    };
    for (v, states) in plan.chosen.iter().enumerate() {
        for (s, choice) in states {
            w.emit.span = circuit.graph.span(plan.values[v].id);
            let held = w.state(v, *s, choice);
            w.held.insert((v, *s), held);
        }
    }
    w.finish(known_results)
}

impl Writer<'_> {
    fn labels(&mut self, shape: &[usize], state: &State, part: &[usize]) -> Rc<[Label]> {
        let key = (shape.to_vec(), state.clone(), part.to_vec());
        if let Some(known) = self.known_labels.get(&key) {
            return Rc::clone(known);
        }
        let made: Rc<[Label]> = labels(shape, state, part, self.slots, true).into();
        self.known_labels.insert(key, Rc::clone(&made));
        made
    }

    fn state(&mut self, v: usize, s: usize, choice: &Choice) -> Held {
        let plan = self.plan;
        let value = &plan.values[v];
        let state = plan.state(v, s).clone();
        match choice.via {
            Via::Direct => {
                let operands: Vec<(Held, State)> = choice
                    .from
                    .iter()
                    .map(|(o, t)| (self.held[&(*o, *t)].clone(), plan.state(*o, *t).clone()))
                    .collect();
                let held = self.compute(value, &state, &operands);
                self.declare(value, &state, held)
            }
            Via::Cover => {
                let (o, t) = choice.from[0];
                let from = self.held[&(o, t)].clone();
                let under = plan.state(o, t).clone();
                let held = self.cover(&value.shape, &under, &from);
                self.declare(value, &state, held)
            }
            Via::Relay => {
                let (o, t) = choice.from[0];
                let from = self.held[&(o, t)].clone();
                let under = plan.state(o, t).clone();
                let held = self.relay(&value.shape, &under, &state, &from);
                self.declare(value, &state, held)
            }
        }
    }

    fn compute(&mut self, value: &Value, state: &State, operands: &[(Held, State)]) -> Held {
        let all = parts(&state.layout, &value.shape);
        match (&value.kind, operands) {
            (Kind::Leaf { param, elements }, _) => self.pack(value, state, *param, elements),
            (Kind::Neg, [(a, _)]) => Held {
                vectors: a.vectors.iter().map(|v| self.emit.neg(*v)).collect(),
                range: intervals::neg(a.range),
                rest: intervals::neg(a.rest),
                clean: a.clean,
            },
            (Kind::Scale(k), [(a, _)]) => {
                let factor = known::scalar(&mut self.emit, &mut self.public, k)
                    .expect("planned as one number");
                let r = known::range(&self.public, k);
                Held {
                    vectors: a
                        .vectors
                        .iter()
                        .map(|v| self.emit.linear(vec![(factor, *v)]))
                        .collect(),
                    range: intervals::mul(a.range, r),
                    rest: intervals::mul(a.rest, r),
                    clean: a.clean,
                }
            }
            (Kind::Weigh(k), [(a, under)]) => {
                let range = intervals::mul(a.range, known::range(&self.public, k));
                let vectors = all
                    .iter()
                    .zip(&a.vectors)
                    .map(|(part, v)| {
                        let at = self.labels(&value.shape, under, part);
                        let plain = known::plain_at(&mut self.emit, &mut self.public, k, &at);
                        let product = self.emit.mul_plain(*v, plain);
                        self.fill(product, under.holes)
                    })
                    .collect();
                Held {
                    vectors,
                    range,
                    rest: ZERO_RANGE,
                    clean: true,
                }
            }
            (Kind::Shift(k, minus), [(a, _)]) => self.shift(value, state, a, k, *minus, &all),
            (Kind::Add | Kind::Sub | Kind::Mul, [(a, _), (b, _)]) => {
                let apply = |x: Interval, y: Interval| match value.kind {
                    Kind::Mul => intervals::mul(x, y),
                    Kind::Sub => intervals::sub(x, y),
                    _ => intervals::add(x, y),
                };
                let product = matches!(value.kind, Kind::Mul);
                let mut vectors = Vec::with_capacity(a.vectors.len());
                for (x, y) in a.vectors.iter().zip(&b.vectors) {
                    vectors.push(match value.kind {
                        Kind::Mul => self.emit.mul(*x, *y),
                        Kind::Sub => self.emit.sub(*x, *y),
                        _ => self.emit.add(*x, *y),
                    });
                }
                let square = product && a.vectors == b.vectors;
                let clean = if product {
                    a.clean || b.clean
                } else {
                    a.clean && b.clean
                };
                Held {
                    vectors,
                    range: if square {
                        intervals::pow(a.range, 2)
                    } else {
                        apply(a.range, b.range)
                    },
                    rest: if clean {
                        ZERO_RANGE
                    } else {
                        apply(a.whole(), b.whole())
                    },
                    clean,
                }
            }
            (Kind::Axes(axes), [(a, under)]) => {
                let of = &self.plan.values[value.operands[0]].shape;
                let layout = behind(axes, &state.layout, of);
                debug_assert_eq!(layout, under.layout);
                let vectors = all
                    .iter()
                    .map(|part| a.vectors[number(&layout, of, &behind_part(axes, part, of.len()))])
                    .collect();
                let padded = axes
                    .iter()
                    .zip(&value.shape)
                    .any(|(x, n)| x.is_none() && !n.is_power_of_two());
                Held {
                    vectors,
                    range: a.range,
                    rest: if padded { a.whole() } else { a.rest },
                    clean: a.clean && !padded,
                }
            }
            (Kind::Sum(axes), [(a, under)]) => self.sum(value, state, axes, a, under),
            _ => unreachable!("values have as many operands as their kind takes"),
        }
    }

    /// Packs elements of a parameter as they are wanted.
    fn pack(&mut self, value: &Value, state: &State, param: u32, elements: &[u32]) -> Held {
        let input = &self.circuit.inputs[param as usize];
        let range = input.interval();
        let mut gaps = false;
        let mut vectors = Vec::new();
        for part in parts(&state.layout, &value.shape) {
            let at = self.labels(&value.shape, state, &part);
            let map: Arc<[u32]> = at
                .iter()
                .map(|l| {
                    if *l < ZERO {
                        elements[*l as usize]
                    } else {
                        SlotMap::EMPTY
                    }
                })
                .collect();
            let empty = map.contains(&SlotMap::EMPTY);
            gaps |= at.contains(&ZERO);
            let first = map[0];
            let source = if !empty && map.iter().all(|e| *e == first) {
                SlotSource::Element(first)
            } else {
                SlotSource::Map(SlotMap(map))
            };
            let held = if empty {
                intervals::hull(range, ZERO_RANGE)
            } else {
                range
            };
            let count = self.packings.entry(param).or_default();
            let before = *count;
            let name = &input.name;
            self.emit.span = input.span;
            vectors.push(self.emit.input(param, source, held, || {
                *count += 1;
                if before == 0 {
                    name.clone()
                } else {
                    format!("{name} part {}", before + 1)
                }
            }));
        }
        let holds_zero = elements.contains(&u32::MAX);
        Held {
            vectors,
            range: if holds_zero {
                intervals::hull(range, ZERO_RANGE)
            } else {
                range
            },
            rest: if gaps { ZERO_RANGE } else { range },
            clean: true,
        }
    }

    fn shift(
        &mut self,
        value: &Value,
        state: &State,
        a: &Held,
        k: &Known,
        minus: bool,
        all: &[Vec<usize>],
    ) -> Held {
        let mut addend = known::range(&self.public, k);
        if minus {
            addend = intervals::neg(addend);
        }
        let dense = value.shape.iter().all(|n| n.is_power_of_two());
        let everywhere = match k {
            // where all other slots hold zero, they stay zero
            Known::Const(c) if !a.clean || (dense && state.holes == 0) => c.uniform(),
            Known::Const(_) | Known::Runtime(_) => None,
        };
        let mut vectors = Vec::with_capacity(a.vectors.len());
        for (part, v) in all.iter().zip(&a.vectors) {
            let plain = match everywhere {
                Some(c) => self.emit.uniform(c),
                None => {
                    let at = self.labels(&value.shape, state, part);
                    known::plain_at(&mut self.emit, &mut self.public, k, &at)
                }
            };
            vectors.push(if minus {
                self.emit.sub_plain(*v, plain)
            } else {
                self.emit.add_plain(*v, plain)
            });
        }
        Held {
            vectors,
            range: intervals::add(a.range, addend),
            rest: if a.clean {
                ZERO_RANGE
            } else {
                intervals::hull(a.rest, intervals::add(a.rest, addend))
            },
            clean: a.clean,
        }
    }

    fn sum(
        &mut self,
        value: &Value,
        state: &State,
        axes: &[usize],
        a: &Held,
        under: &State,
    ) -> Held {
        let operand = &self.plan.values[value.operands[0]];
        let shape = &operand.shape;
        let padded = axes.iter().any(|x| !shape[*x].is_power_of_two());
        let all = parts(&under.layout, shape);
        let mut vectors = a.vectors.clone();
        let mut clean = a.clean;
        if padded && !operand.clean {
            for (part, v) in all.iter().zip(&mut vectors) {
                *v = self.mask(*v, shape, under, part);
            }
            clean = true;
        }
        // vectors that differ along the axes of the sum are added up first
        let one = Coefficient::Const(Real(1.0));
        let kept = |part: &[usize]| -> Vec<usize> {
            part.iter()
                .enumerate()
                .filter(|(i, _)| !axes.contains(i))
                .map(|(_, p)| *p)
                .collect()
        };
        let targets = parts(&state.layout, &value.shape);
        let mut terms: Vec<Vec<(Coefficient, NodeId)>> = vec![Vec::new(); targets.len()];
        for (part, v) in all.iter().zip(&vectors) {
            terms[number(&state.layout, &value.shape, &kept(part))].push((one, *v));
        }
        let steps: u32 = axes.iter().fold(0, |m, x| m | under.layout[*x].mask());
        let vectors = terms
            .into_iter()
            .map(|t| {
                let node = self.emit.linear(t);
                self.ladder(node, steps)
            })
            .collect();
        let count: usize = axes.iter().map(|x| shape[*x]).product();
        let slots: usize = axes.iter().map(|x| shape[*x].next_power_of_two()).product();
        Held {
            vectors,
            range: intervals::scale(a.range, count as f64),
            rest: if clean && state.holes == 0 {
                ZERO_RANGE
            } else {
                intervals::scale(intervals::hull(a.whole(), ZERO_RANGE), slots as f64)
            },
            clean: clean && state.holes == 0,
        }
    }

    /// A vector with zero where no element lies.
    fn mask(&mut self, v: NodeId, shape: &[usize], state: &State, part: &[usize]) -> NodeId {
        let at = self.labels(shape, state, part);
        let mask: Vec<f64> = at
            .iter()
            .map(|l| if *l < ZERO { 1.0 } else { 0.0 })
            .collect();
        let mask = self.emit.vector(&mask);
        self.emit.mul_plain(v, mask)
    }

    /// Copies into slot bits that are empty.
    fn fill(&mut self, v: NodeId, holes: u32) -> NodeId {
        let mut v = v;
        for bit in (0..u32::BITS).filter(|b| holes >> b & 1 == 1) {
            let turned = self.emit.rotate(v, -(1i64 << bit));
            v = self.emit.add(v, turned);
        }
        v
    }

    fn cover(&mut self, shape: &[usize], under: &State, from: &Held) -> Held {
        let vectors: Vec<NodeId> = parts(&under.layout, shape)
            .iter()
            .zip(&from.vectors)
            .map(|(part, v)| {
                let masked = self.mask(*v, shape, under, part);
                self.fill(masked, under.holes)
            })
            .collect();
        self.claim(&vectors, from.range);
        Held {
            vectors,
            range: from.range,
            rest: ZERO_RANGE,
            clean: true,
        }
    }

    fn relay(&mut self, shape: &[usize], under: &State, state: &State, from: &Held) -> Held {
        let axis = (0..shape.len())
            .find(|i| shape[*i] > 1)
            .expect("planned for a vector");
        let relay = Relay::new(
            under.layout[axis],
            state.layout[axis],
            self.slots.ilog2() as u8,
        )
        .expect("planned");
        let kept: Vec<f64> = (0..self.slots)
            .map(|t| f64::from(u8::from(relay.keeps(t, shape[axis]))))
            .collect();
        let mask = self.emit.vector(&kept);
        let masked = self.emit.mul_plain(from.vectors[0], mask);
        let node = self.ladder(masked, relay.summed());
        let clean = relay.holes() == 0;
        if clean {
            self.claim(&[node], from.range);
        }
        let moved = Held {
            vectors: vec![node],
            range: from.range,
            rest: if clean {
                ZERO_RANGE
            } else {
                // a window over the holes meets the elements of two
                intervals::scale(intervals::hull(from.range, ZERO_RANGE), 2.0)
            },
            clean,
        };
        if state.holes == relay.holes() {
            return moved;
        }
        let holed = State {
            layout: state.layout.clone(),
            holes: relay.holes(),
        };
        self.cover(shape, &holed, &moved)
    }

    /// Sums over slot bits. Sums that share their bits at the top, or at the bottom, end with the
    /// same rotations, which a sum of both then takes once.
    fn ladder(&mut self, v: NodeId, bits: u32) -> NodeId {
        let mut steps: Vec<u32> = (0..self.slots.ilog2())
            .filter(|b| bits >> b & 1 == 1)
            .collect();
        if bits & (self.slots >> 1) as u32 == 0 {
            steps.reverse();
        }
        steps.into_iter().fold(v, |v, bit| {
            let turned = self.emit.rotate(v, 1 << bit);
            self.emit.add(v, turned)
        })
    }

    /// Every slot holds an element or zero: the range of the elements holds for all, though what
    /// was masked may have been anything.
    fn claim(&mut self, vectors: &[NodeId], range: Interval) {
        for v in vectors {
            self.emit.declare(*v, intervals::hull(range, ZERO_RANGE));
        }
    }

    /// A declared range is claimed for a vector when every slot obeys.
    fn declare(&mut self, value: &Value, state: &State, mut held: Held) -> Held {
        let node = self.circuit.graph.node(value.id);
        if node.keep {
            for v in &held.vectors {
                self.emit.keep(*v);
            }
        }
        let Some(range) = node.declared else {
            return held;
        };
        held.range = held.range.meet(range);
        let dense = state.holes == 0 && value.shape.iter().all(|n| n.is_power_of_two());
        if dense {
            held.rest = held.range;
        }
        let inside = held.rest.lo >= range.lo && held.rest.hi <= range.hi;
        if dense || inside {
            for v in &held.vectors {
                self.emit.declare(*v, range);
            }
        }
        held
    }

    fn finish(mut self, known_results: &[Option<Known>]) -> Circuit<Slots> {
        let mut outputs: Vec<NodeId> = Vec::new();
        let mut results = Vec::new();
        for (i, (id, decl)) in self.circuit.outputs.iter().enumerate() {
            let node = self.circuit.graph.node(*id);
            let unpack = match (self.plan.results[i], &known_results[i]) {
                (Some((v, s)), _) => {
                    let value = &self.plan.values[v];
                    let state = self.plan.state(v, s).clone();
                    let held = self.held[&(v, s)].clone();
                    let elements: usize = value.shape.iter().product();
                    let mut places = vec![(0, 0); elements];
                    for (part, node) in parts(&state.layout, &value.shape).iter().zip(&held.vectors)
                    {
                        let number = match outputs.iter().position(|o| o == node) {
                            Some(k) => k,
                            None => {
                                outputs.push(*node);
                                outputs.len() - 1
                            }
                        };
                        let at = self.labels(&value.shape, &state, part);
                        for (t, l) in at.iter().enumerate().rev().filter(|(_, l)| **l < ZERO) {
                            places[*l as usize] = (number as u32, t as u32);
                        }
                        if let Some(range) = decl.range {
                            let dense = state.holes == 0 && !at.contains(&ZERO);
                            let rest = if held.clean { ZERO_RANGE } else { held.rest };
                            let inside = rest.lo >= range.lo && rest.hi <= range.hi;
                            if dense || inside {
                                self.emit.declare(*node, range);
                            }
                        }
                    }
                    Unpack::Slots(places)
                }
                (None, Some(k)) => Unpack::Public(self.public.output_of(k, node.span)),
                (None, None) => unreachable!("a result is secret or known"),
            };
            results.push(PackedOutput {
                name: decl.name.clone(),
                shape: node.ty.shape().to_vec(),
                unpack,
            });
        }
        let mut lowered = self.emit.finish(&outputs, results);
        lowered.meta.public = self.public.finish();
        lowered
    }
}
