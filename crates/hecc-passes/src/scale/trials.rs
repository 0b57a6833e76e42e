//! How precise the results will be, by trial: the lowered circuit is evaluated in the clear on
//! sampled inputs, and every value carries the error that it would have.
//!
//! **What.** A trial draws all parameters within their ranges, some trials at the ends, or nearer to
//! zero where values would otherwise leave a range that the program declares ([`points`]); it computes for
//! every slot of every node a pair (value, error). An operation carries the errors of its operands
//! with their signs, products of errors included, and adds its own: a known one where a factor is
//! rounded to an integer or scales differ by a little, and a random one, of the standard deviation that
//! the noise formulas give, where something is encrypted, rescaled or key-switched. A value that
//! leaves its declared range all the same is clipped to it, for declared ranges are trusted. The largest error of
//! a slot that is read, over all trials, is then extrapolated to a bound.
//!
//! **Why.** Worst cases of ranges multiply: a deep circuit, or one with wide sums, would be
//! promised nothing at all. Inputs of trials are typical ones and extreme ones of simple kinds; that
//! no input whatsoever does worse is not proved.
//!
//! **Distribution.** Nearly all of a random error is a rounding times the secret: in each slot a
//! Gaussian times the magnitude that the secret's embedding has there, which is drawn once a trial
//! for each slot. So the tail is Laplace's (P(|e| > tσ) = exp(−√2·t)), as it is in ciphertexts. A vector of
//! fewer slots than the ring's is decoded as a mean over its copies, which evens that out.
//!
//! **Cost.** A clear evaluation in f64 for each trial, a few dozen of small circuits and two of huge ones; a
//! batch is tried with a few of its instances, since they are independent. Everything is drawn from fixed seeds:
//! the same circuit gives the same bound.

use std::borrow::Cow;

use hecc_ir::algebra::Clear;
use hecc_ir::ckks::{Ckks, CkksOp};
use hecc_ir::graph::{Circuit, Interval, Module, NodeId};
use hecc_ir::interp::{TensorValue, check_ranges, eval_circuit};
use hecc_ir::random::SplitMix64;
use hecc_ir::slots::{Coefficient, PlainSource, SlotMap, SlotSource, Unpack};
use hecc_ir::tensor::{Param, Tensor, TensorOp, elements};
use hecc_ir::vectors::pack;
use rayon::prelude::*;

use super::estimate::{Model, Noise, rounding};

/// Slot operations that all trials together may take.
const WORK: usize = 1 << 22;
/// Most trials.
const MOST: usize = 40;
/// Instances of a batch in one trial.
const INSTANCES: usize = 16;
/// What the largest error of the trials is multiplied by, beside the extrapolation.
const MARGIN: f64 = 2.0;

/// How the parameters of a trial are drawn from their ranges, those first that matter most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every element at one of the two ends.
    Ends,
    /// Every element at the upper end.
    High,
    /// Uniform.
    Uniform,
    /// Every element at the lower end.
    Low,
    /// All elements of a parameter at the same end.
    Sides,
}

const KINDS: [Kind; 5] = [
    Kind::Ends,
    Kind::High,
    Kind::Uniform,
    Kind::Low,
    Kind::Sides,
];

/// Where in the ranges of its parameters a trial stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How the parameters are drawn, and the seed.
    index: usize,
    /// What is drawn is multiplied by this, as seen from the point of the range that is next to zero.
    shrink: f64,
}

/// Points at which a program keeps within the ranges that it declares; empty where none was found.
///
/// Cost: clear evaluations of the program, up to 40 of small ones.
pub fn points(program: &Circuit<Tensor>) -> Vec<Point> {
    let graph = &program.graph;
    let work: usize = graph
        .ids()
        .map(|id| {
            let inner = match graph.op(id) {
                TensorOp::MatMul => graph
                    .operands(id)
                    .first()
                    .map_or(1, |&x| graph.ty(x).shape().last().copied().unwrap_or(1)),
                TensorOp::Conv2d { .. } => graph
                    .operands(id)
                    .get(1)
                    .map_or(1, |&k| graph.ty(k).shape().iter().skip(1).product()),
                _ => 1,
            };
            elements(graph.ty(id).shape()) * inner
        })
        .sum();
    let declares = graph.ids().any(|id| graph.node(id).declared.is_some())
        || program.outputs.iter().any(|(_, o)| o.range.is_some());
    if !declares {
        return Vec::new();
    }
    let count = (WORK / work.max(1)).clamp(2, MOST);
    let module = Module::single(program.clone());
    let keeps = |point: &Point| {
        let draw = Draw::new(*point);
        let inputs: Option<Vec<TensorValue<f64>>> = (0u32..)
            .zip(&program.inputs)
            .map(|(i, param)| draw.tensor(i, param, 0))
            .collect();
        inputs.is_some_and(|inputs| {
            check_ranges(&module, &inputs, 1e-9).is_ok_and(|(_, outside)| outside.is_empty())
        })
    };
    (0..count)
        .into_par_iter()
        .filter_map(|index| {
            SHRINK
                .iter()
                .map(|&shrink| Point { index, shrink })
                .find(keeps)
        })
        .collect()
}

/// Tried in turn until a point keeps within all declared ranges.
const SHRINK: [f64; 6] = [1.0, 0.7, 0.5, 0.25, 0.125, 0.0625];

/// Bits of precision of the outputs: −log2 of a bound on the largest absolute error of any slot of
/// any output, which inputs like those of the trials exceed about once in a thousand runs.
pub(crate) fn precision_bits(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    model: &Model<'_>,
    points: &[Point],
) -> f64 {
    let graph = &circuit.graph;
    let live = circuit.live();
    let batch = circuit.meta.batch.is_some()
        && !graph
            .ids()
            .any(|id| matches!(graph.op(id), CkksOp::Rotate(_)));
    let slots = circuit.meta.slots.max(1);
    // Real numbers in a vector of a trial: in a complex circuit the imaginary parts follow the real ones.
    let tried = if batch { slots.min(INSTANCES) } else { slots };
    let tried = if circuit.meta.complex {
        2 * tried
    } else {
        tried
    };
    let work: usize = graph
        .ids()
        .filter(|id| live[id.index()])
        .map(|id| graph.operands(id).len() + 4)
        .sum();
    let fair = WORK / (work * tried).max(1) / KINDS.len() * KINDS.len();
    let count = if fair == 0 { 2 } else { fair.min(MOST) };

    let read = read_slots(circuit, tried);
    let copies = model.log_n.slots() / slots;
    let trial = Trial {
        circuit,
        ranges,
        noise: Noise::new(circuit, model),
        live: &live,
        tried,
        copies,
        read: &read,
    };
    let (error, size) = (0..count)
        .into_par_iter()
        .map(|i| match points.len() {
            0 => trial.run(
                i,
                Point {
                    index: i,
                    shrink: 1.0,
                },
            ),
            n => trial.run(i, points[i % n]),
        })
        .reduce(|| (0.0, 1.0), |a, b| (larger(a.0, b.0), larger(a.1, b.1)));

    // The largest of `n` errors by their common law, up to a factor: Laplace's, or Gauss's for means.
    let tail = |n: usize| {
        let l = (n.max(4) as f64).ln();
        if copies < 8 { l } else { l.sqrt() }
    };
    let seen: usize = read.iter().map(|(_, s)| s.len()).sum();
    let all = seen
        * if batch {
            circuit.meta.values() / tried
        } else {
            1
        };
    let bound =
        error * MARGIN * tail(all.max(1) * 1000) / tail(seen.max(1) * count.div_ceil(KINDS.len()));
    // What f64 itself leaves, at the client and in the reference.
    -(bound + size * (-46f64).exp2()).min(f64::MAX).log2()
}

/// The larger of two, infinite where one is no number.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::INFINITY
    } else {
        a.max(b)
    }
}

/// The slots of output vectors that somebody reads, among the first `tried`.
fn read_slots(circuit: &Circuit<Ckks>, tried: usize) -> Vec<(NodeId, Vec<u32>)> {
    let mut of: Vec<Vec<u32>> = vec![Vec::new(); circuit.outputs.len()];
    let every = || (0..tried as u32).collect::<Vec<u32>>();
    for result in &circuit.meta.results {
        match &result.unpack {
            Unpack::Slots(places) => {
                for &(vector, slot) in places {
                    of[vector as usize].push(slot);
                }
            }
            Unpack::Instances(vectors) => {
                for &vector in vectors {
                    of[vector as usize] = every();
                }
            }
            Unpack::Public(_) => {}
        }
    }
    if circuit.meta.results.is_empty() {
        of.fill_with(every);
    }
    for slots in &mut of {
        slots.sort_unstable();
        slots.dedup();
    }
    circuit.outputs.iter().map(|(o, _)| *o).zip(of).collect()
}

struct Trial<'a> {
    circuit: &'a Circuit<Ckks>,
    ranges: &'a [Interval],
    noise: Noise<'a>,
    live: &'a [bool],
    tried: usize,
    copies: usize,
    read: &'a [(NodeId, Vec<u32>)],
}

/// What a node holds, slot by slot.
#[derive(Clone)]
struct Held<'a> {
    value: Cow<'a, [f64]>,
    error: Vec<f64>,
}

impl<'a> Trial<'a> {
    /// Slots of a vector; in a complex circuit half its real numbers.
    fn slots(&self) -> usize {
        if self.circuit.meta.complex {
            self.tried / 2
        } else {
            self.tried
        }
    }

    /// The largest error and the largest magnitude of all slots that are read.
    fn run(&self, seed: usize, point: Point) -> (f64, f64) {
        let graph = &self.circuit.graph;
        let draw = Draw::new(point);
        let plains = Plains::new(self.circuit, draw, self.tried);
        let client = Client::new(self.circuit, draw, self.tried);
        let mut random = SplitMix64::new(0x5eed_0000 + seed as u64);
        let secret = secret_magnitudes(&mut random, self.slots(), self.copies);
        let mut left = graph.use_counts();
        for (out, _) in &self.circuit.outputs {
            left[out.index()] += 1;
        }
        let mut at: Vec<Option<Held<'a>>> = Vec::with_capacity(graph.len());
        for id in graph.ids() {
            if !self.live[id.index()] {
                at.push(None);
                continue;
            }
            let operands = graph.operands(id);
            for o in &operands {
                left[o.index()] -= 1;
            }
            let mut held = self.apply(id, &plains, &client, &mut at, &left);
            for o in &operands {
                if left[o.index()] == 0 {
                    at[o.index()] = None;
                }
            }
            let op = graph.op(id);
            let stddev = self.noise.stddev(op, *graph.ty(id));
            if stddev > 0.0 {
                let plain = matches!(op, CkksOp::Encode { .. });
                for (e, s) in held.error.iter_mut().zip(secret.iter().cycle()) {
                    *e += stddev * normal(&mut random) * if plain { 1.0 } else { *s };
                }
            }
            if let Some(range) = graph.node(id).declared {
                for v in held.value.to_mut() {
                    *v = v.clamp(range.lo, range.hi);
                }
            }
            at.push(Some(held));
        }
        let mut worst = (0.0, 1.0);
        for (node, slots) in self.read {
            let Some(held) = &at[node.index()] else {
                continue;
            };
            for &s in slots {
                worst.0 = larger(worst.0, held.error[s as usize].abs());
                worst.1 = larger(worst.1, held.value[s as usize].abs());
            }
        }
        worst
    }

    /// Values, and the errors that come from operands and known roundings.
    fn apply(
        &self,
        id: NodeId,
        plains: &Plains,
        client: &Client,
        at: &mut [Option<Held<'a>>],
        left: &[u32],
    ) -> Held<'a> {
        let graph = &self.circuit.graph;
        let operands = graph.operands(id);
        let n = self.tried;
        let scale = |i: usize| graph.ty(operands[i]).scale().0;
        // A matched scale is read as the first operand's: a difference is an error of the value.
        let mismatch = |i: usize| scale(i) / scale(0) - 1.0;
        match graph.op(id) {
            CkksOp::Input(i) => {
                let packed = &self.circuit.inputs[*i as usize].packed;
                let range = self.ranges[id.index()].meet(packed.range);
                let element = |e: u32, slot: usize| client.value(packed.param, e, slot, range);
                let value: Vec<f64> = match &packed.source {
                    SlotSource::Map(SlotMap(map)) => (0..n)
                        .map(|s| match map.get(s) {
                            None | Some(&SlotMap::EMPTY) => 0.0,
                            Some(&e) => element(e, 0),
                        })
                        .collect(),
                    SlotSource::Element(e) => vec![element(*e, 0); n],
                    SlotSource::Instances(e) => (0..n).map(|s| element(*e, s)).collect(),
                };
                Held {
                    value: value.into(),
                    error: vec![0.0; n],
                }
            }
            CkksOp::Encode { plain, .. } => Held {
                value: plains.vector(self.circuit, plain.0, n),
                error: vec![0.0; n],
            },
            CkksOp::Neg => {
                let mut held = take(at, left, operands[0]);
                held.value.to_mut().iter_mut().for_each(|v| *v = -*v);
                held.error.iter_mut().for_each(|e| *e = -*e);
                held
            }
            CkksOp::DropLevel(_) | CkksOp::Relinearize | CkksOp::Rescale { .. } => {
                take(at, left, operands[0])
            }
            CkksOp::Rotate(k) => {
                let mut held = take(at, left, operands[0]);
                let k = k.0.rem_euclid(n as i32) as usize;
                held.value.to_mut().rotate_left(k);
                held.error.rotate_left(k);
                held
            }
            CkksOp::Conjugate => {
                let mut held = take(at, left, operands[0]);
                let half = n / 2;
                for x in &mut held.value.to_mut()[half..] {
                    *x = -*x;
                }
                for e in &mut held.error[half..] {
                    *e = -*e;
                }
                held
            }
            CkksOp::TimesI => {
                let mut held = take(at, left, operands[0]);
                let half = n / 2;
                // (re, im) → (−im, re)
                held.value.to_mut().rotate_left(half);
                held.error.rotate_left(half);
                for x in &mut held.value.to_mut()[..half] {
                    *x = -*x;
                }
                for e in &mut held.error[..half] {
                    *e = -*e;
                }
                held
            }
            CkksOp::Mul | CkksOp::Square if self.circuit.meta.complex => {
                let a = peek(at, operands[0]);
                let b = peek(at, *operands.get(1).unwrap_or(&operands[0]));
                complex_product(a, b)
            }
            CkksOp::AddScalar(c) => {
                let mut held = take(at, left, operands[0]);
                let c = plains.coefficient(*c);
                let off = rounding(c, scale(0));
                held.value.to_mut().iter_mut().for_each(|v| *v += c);
                held.error.iter_mut().for_each(|e| *e += off);
                held
            }
            CkksOp::MulScalar { value, scale: by } => {
                let mut held = take(at, left, operands[0]);
                let c = plains.coefficient(*value);
                let off = rounding(c, by.0);
                for (v, e) in held.value.to_mut().iter_mut().zip(&mut held.error) {
                    *e = off * (*v + *e) + c * *e;
                    *v *= c;
                }
                held
            }
            CkksOp::Square => {
                let mut held = take(at, left, operands[0]);
                for (v, e) in held.value.to_mut().iter_mut().zip(&mut held.error) {
                    *e *= 2.0 * *v + *e;
                    *v *= *v;
                }
                held
            }
            op @ (CkksOp::Add | CkksOp::Sub | CkksOp::Mul) => {
                let mut held = match operands[0] == operands[1] {
                    true => peek(at, operands[0]).clone(),
                    false => take(at, left, operands[0]),
                };
                let other = peek(at, operands[1]);
                let off = mismatch(1);
                let both = held.value.to_mut().iter_mut().zip(&mut held.error);
                let others = other.value.iter().zip(&other.error);
                for ((v, e), (&w, &f)) in both.zip(others) {
                    match op {
                        CkksOp::Mul => {
                            *e = *v * f + w * *e + *e * f;
                            *v *= w;
                        }
                        CkksOp::Sub => {
                            *e -= f + off * (w + f);
                            *v -= w;
                        }
                        _ => {
                            *e += f + off * (w + f);
                            *v += w;
                        }
                    }
                }
                held
            }
            CkksOp::LinComb {
                coefficients,
                scale: by,
            } => {
                let mut value = vec![0.0; n];
                let mut error = vec![0.0; n];
                for (i, c) in coefficients.iter().enumerate() {
                    let c = plains.coefficient(*c);
                    let held = peek(at, operands[i]);
                    // (1 + mismatch) · (c + rounding) for c.
                    let rounded = c + rounding(c, by.0);
                    let off = rounded - c + rounded * mismatch(i);
                    let sums = value.iter_mut().zip(&mut error);
                    for ((v, e), (&w, &f)) in sums.zip(held.value.iter().zip(&held.error)) {
                        *v += c * w;
                        *e += c * f + off * (w + f);
                    }
                }
                Held {
                    value: value.into(),
                    error,
                }
            }
        }
    }
}

/// (a + da)·(b + db) − a·b beside a·b.
fn complex_product<'a>(a: &Held<'a>, b: &Held<'a>) -> Held<'a> {
    let half = a.error.len() / 2;
    let z = |h: &Held<'a>, s: usize| {
        (
            (h.value[s], h.value[s + half]),
            (h.error[s], h.error[s + half]),
        )
    };
    let times = |x: (f64, f64), y: (f64, f64)| (x.0 * y.0 - x.1 * y.1, x.0 * y.1 + x.1 * y.0);
    let mut value = vec![0.0; 2 * half];
    let mut error = vec![0.0; 2 * half];
    for s in 0..half {
        let ((x, dx), (y, dy)) = (z(a, s), z(b, s));
        (value[s], value[s + half]) = times(x, y);
        let parts = [times(x, dy), times(dx, y), times(dx, dy)];
        error[s] = parts.iter().map(|p| p.0).sum();
        error[s + half] = parts.iter().map(|p| p.1).sum();
    }
    Held {
        value: value.into(),
        error,
    }
}

fn peek<'h, 'a>(at: &'h [Option<Held<'a>>], id: NodeId) -> &'h Held<'a> {
    at[id.index()]
        .as_ref()
        .expect("operands come first and stay until their last use")
}

/// An operand; its last user gets it for its own.
fn take<'a>(at: &mut [Option<Held<'a>>], left: &[u32], id: NodeId) -> Held<'a> {
    if left[id.index()] == 0
        && let Some(held) = at[id.index()].take()
    {
        return held;
    }
    peek(at, id).clone()
}

/// How one trial draws its parameters: a value is a function of the parameter, the element and the instance.
#[derive(Clone, Copy)]
struct Draw {
    kind: Kind,
    seed: u64,
    shrink: f64,
}

impl Draw {
    fn new(point: Point) -> Draw {
        Draw {
            kind: KINDS[point.index % KINDS.len()],
            seed: point.index as u64,
            shrink: point.shrink,
        }
    }

    /// The results of a program without loops for one instance; `None` where it has no value at this point (a
    /// division by zero).
    fn results(self, program: &Circuit<Tensor>, instance: usize) -> Option<Vec<TensorValue<f64>>> {
        let inputs: Option<Vec<TensorValue<f64>>> = (0u32..)
            .zip(&program.inputs)
            .map(|(i, param)| self.tensor(i, param, instance))
            .collect();
        eval_circuit(&Clear, program, &inputs?).ok()
    }

    /// A parameter of a program, one instance.
    fn tensor(self, index: u32, param: &Param, instance: usize) -> Option<TensorValue<f64>> {
        let value = |e: usize| self.value(index, e as u32, instance, param.interval());
        let data = (0..elements(&param.shape)).map(value).collect();
        TensorValue::new(param.shape.clone(), data)
    }

    fn value(self, param: u32, element: u32, instance: usize, range: Interval) -> f64 {
        let (element, instance) = match self.kind {
            Kind::Sides => (0, 0),
            _ => (u64::from(element), instance as u64),
        };
        let key = element << 32 ^ instance;
        let trial = (self.seed << 32 ^ u64::from(param)).wrapping_mul(MIX);
        let mut random = SplitMix64::new(key.wrapping_mul(MIX) ^ trial);
        let unit = (random.next_u64() >> 11) as f64 * (-53f64).exp2();
        let (lo, hi) = (range.lo, range.hi);
        let drawn = match self.kind {
            Kind::High => hi,
            Kind::Low => lo,
            Kind::Uniform => (lo + (hi - lo) * unit).clamp(lo, hi),
            Kind::Ends | Kind::Sides if unit < 0.5 => lo,
            Kind::Ends | Kind::Sides => hi,
        };
        let center = 0f64.clamp(lo, hi);
        center + self.shrink * (drawn - center)
    }
}

/// An odd multiplier that keeps the seeds of neighbours apart.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is encrypted in one trial: parameters, and what the client computes from them.
struct Client {
    draw: Draw,
    /// How many parameters the source circuit has; those beyond are results of the client's program.
    params: usize,
    /// By instance, where the instances of a batch differ.
    results: Vec<Option<Vec<TensorValue<f64>>>>,
}

impl Client {
    fn new(circuit: &Circuit<Ckks>, draw: Draw, tried: usize) -> Client {
        let instances = match circuit.meta.batch {
            Some(_) => tried,
            None => 1,
        };
        let program = circuit.meta.client.as_ref();
        Client {
            draw,
            params: program.map_or(usize::MAX, |p| p.inputs.len()),
            results: program.map_or_else(Vec::new, |p| {
                (0..instances).map(|i| draw.results(p, i)).collect()
            }),
        }
    }

    fn value(&self, param: u32, element: u32, instance: usize, range: Interval) -> f64 {
        let computed = (param as usize).checked_sub(self.params).and_then(|i| {
            let results = self.results.get(instance)?.as_ref()?;
            results.get(i)?.data().get(element as usize).copied()
        });
        computed.unwrap_or_else(|| self.draw.value(param, element, instance, range))
    }
}

/// The plaintexts of one trial: public parameters are drawn, too.
struct Plains {
    /// Results of the public program; `None` where it has no value at this point (a division by zero).
    public: Option<Vec<TensorValue<f64>>>,
    /// The first slot of each.
    first: Vec<f64>,
    draw: Draw,
}

/// Parameters of the public program count from here in the seeds of elements without a program.
const WITHOUT_PROGRAM: u32 = 1 << 16;

impl Plains {
    fn new(circuit: &Circuit<Ckks>, draw: Draw, tried: usize) -> Plains {
        let public = circuit
            .meta
            .public
            .as_ref()
            .and_then(|program| draw.results(program, 0));
        let mut plains = Plains {
            public,
            first: Vec::new(),
            draw,
        };
        plains.first = (0..circuit.meta.plains.len() as u32)
            .map(|p| match &circuit.meta.plains[p as usize].source {
                PlainSource::Uniform(x) => *x,
                PlainSource::Vector(v) => v.first().copied().unwrap_or(0.0),
                PlainSource::Public { .. } => plains
                    .vector(circuit, p, tried)
                    .first()
                    .copied()
                    .unwrap_or(0.0),
            })
            .collect();
        plains
    }

    fn vector<'a>(&self, circuit: &'a Circuit<Ckks>, plain: u32, tried: usize) -> Cow<'a, [f64]> {
        let plain = &circuit.meta.plains[plain as usize];
        match &plain.source {
            PlainSource::Uniform(x) => vec![*x; tried].into(),
            PlainSource::Vector(v) => v[..tried.min(v.len())].into(),
            PlainSource::Public { output, source } => {
                let given = self.public.as_ref().and_then(|results| {
                    let result = results.get(*output as usize)?;
                    let mut v = pack(&Clear, source, circuit.meta.values(), &[result]).ok()?;
                    v.truncate(tried);
                    Some(v)
                });
                let drawn = |s: usize| {
                    let param = WITHOUT_PROGRAM + output;
                    self.draw.value(param, s as u32, 0, plain.range)
                };
                given
                    .unwrap_or_else(|| (0..tried).map(drawn).collect())
                    .into()
            }
        }
    }

    fn coefficient(&self, c: Coefficient) -> f64 {
        match c {
            Coefficient::Const(v) => v.0,
            Coefficient::Plain(p) => self.first[p.0 as usize],
        }
    }
}

/// Nearly Gaussian, of mean 0 and variance 1: the bits of a random word, and a fraction that fills the gaps.
fn normal(random: &mut SplitMix64) -> f64 {
    let r = random.next_u64();
    let fraction = (r & 0xf_ffff) as f64 / f64::from(1 << 20);
    (f64::from(r.count_ones()) - 32.5 + fraction) * 0.25
}

/// For every slot the magnitude of the secret there, relative to its mean square.
fn secret_magnitudes(random: &mut SplitMix64, slots: usize, copies: usize) -> Vec<f64> {
    // Beyond a few the mean over the copies is one.
    let copies = copies.max(1);
    if copies >= 64 {
        return vec![1.0; slots];
    }
    (0..slots)
        .map(|_| {
            let squares: f64 = (0..2 * copies).map(|_| normal(random).powi(2)).sum();
            (squares / (2 * copies) as f64).sqrt()
        })
        .collect()
}
