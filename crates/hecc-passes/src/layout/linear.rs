//! Linear maps on slot vectors: out\[t\] = Σ weight · in\[t + distance\], by diagonals.
//!
//! All entries of one distance are a diagonal: a rotation times a vector of weights (Halevi and
//! Shoup, CRYPTO 2014). A diagonal whose weights agree wherever they matter needs no vector and no
//! mask: the scalar goes into a weighted sum. Distances are split into giant and baby steps; when
//! all diagonals carry the same scalar and the set of distances is a sum of arithmetic
//! progressions, each progression is summed by doubling.

use hecc_ir::graph::{Interval, NodeId, Real};
use hecc_ir::slots::{Coefficient, SlotMap, SlotSource};
use std::sync::Arc;

use super::emit::Emitter;
use super::public::intervals;

/// What a slot holds: an element's number, or one of the two below.
pub(crate) type Label = u32;
/// The slot holds zero.
pub(crate) const ZERO: Label = u32::MAX - 1;
/// The slot holds something that nobody reads.
pub(crate) const JUNK: Label = u32::MAX;

/// A known factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weight {
    /// A number.
    Const(f64),
    /// This element of the public result at hand.
    Public(u32),
}

/// One term: out\[slot\] += weight · vector\[slot + distance\].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) vector: u32,
    pub(crate) distance: u32,
    pub(crate) slot: u32,
    pub(crate) weight: Weight,
}

#[derive(Clone, Debug)]
enum Factors {
    Uniform(Weight),
    Vector(Vec<(u32, Weight)>),
}

#[derive(Clone, Debug)]
struct Diagonal {
    vector: u32,
    distance: u32,
    factors: Factors,
}

/// Estimated effort.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Effort {
    /// Levels.
    pub(crate) levels: u32,
    /// Rotations.
    pub(crate) rotations: usize,
    /// Products with vectors of weights.
    pub(crate) plain: usize,
    /// Additional encrypted inputs.
    pub(crate) inputs: usize,
}

impl Effort {
    /// A level is dear: all that stands below it grows with it.
    pub(crate) fn cost(self) -> f64 {
        f64::from(self.levels) * 40.0
            + self.rotations as f64
            + self.plain as f64 * 0.1
            + self.inputs as f64 * 3.0
    }

    /// Both, one beside the other.
    pub(crate) fn beside(self, other: Effort) -> Effort {
        Effort {
            levels: self.levels.max(other.levels),
            rotations: self.rotations + other.rotations,
            plain: self.plain + other.plain,
            inputs: self.inputs + other.inputs,
        }
    }
}

/// How the rotations are shared.
#[derive(Clone, Debug)]
enum Sharing {
    /// distance = giant + baby with baby = distance mod `giant`.
    Steps { giant: u32 },
    /// The distances are `offset` plus all sums of one multiple i·step, i < count, of each run.
    Runs { offset: u32, runs: Vec<(u32, u32)> },
}

/// How to compute one output vector.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    diagonals: Vec<Diagonal>,
    sharing: Sharing,
    /// What it takes.
    pub(crate) effort: Effort,
}

fn whole(w: Weight) -> bool {
    match w {
        Weight::Const(v) => v == v.round(),
        Weight::Public(_) => false,
    }
}

/// Rotations that a run of `n` takes by doubling.
fn run_rotations(n: u32) -> usize {
    (n.ilog2() + n.count_ones() - 1) as usize
}

/// Plans one output vector. `wanted` says what each slot must hold: slots that are `JUNK` there may hold anything.
pub(crate) fn plan(
    slots: usize,
    sources: &[&[Label]],
    wanted: &[Label],
    mut entries: Vec<Entry>,
) -> Plan {
    entries.sort_unstable_by_key(|e| (e.vector, e.distance, e.slot));
    let specified = wanted.iter().filter(|w| **w != JUNK).count();
    let mut occupied: Vec<Option<Vec<u32>>> = vec![None; sources.len()];
    let mut diagonals: Vec<Diagonal> = Vec::new();
    for group in entries.chunk_by(|a, b| (a.vector, a.distance) == (b.vector, b.distance)) {
        let (vector, distance) = (group[0].vector, group[0].distance);
        let first = group[0].weight;
        let mut uniform = group.iter().all(|e| e.weight == first);
        if uniform && group.len() < specified {
            // wherever a slot is read and gets nothing from here, the source must be zero: no more
            // slots that are not zero may meet slots that are read than the group has
            let full = occupied[vector as usize].get_or_insert_with(|| {
                let source = sources[vector as usize];
                (0..slots as u32)
                    .filter(|s| source[*s as usize] != ZERO)
                    .collect::<Vec<u32>>()
            });
            let mut meetings = 0;
            for s in full.iter() {
                let t = (*s as usize + slots - distance as usize) % slots;
                meetings += usize::from(wanted[t] != JUNK);
                if meetings > group.len() {
                    uniform = false;
                    break;
                }
            }
        }
        let factors = if uniform {
            Factors::Uniform(first)
        } else {
            Factors::Vector(group.iter().map(|e| (e.slot, e.weight)).collect())
        };
        diagonals.push(Diagonal {
            vector,
            distance,
            factors,
        });
    }
    let (sharing, rotations) = share(slots, sources.len(), &diagonals);
    let vectors = diagonals
        .iter()
        .filter(|d| matches!(d.factors, Factors::Vector(_)))
        .count();
    let costs_level = diagonals.iter().any(|d| match d.factors {
        Factors::Uniform(w) => !whole(w),
        Factors::Vector(_) => true,
    });
    Plan {
        diagonals,
        sharing,
        effort: Effort {
            levels: u32::from(costs_level),
            rotations,
            plain: vectors,
            inputs: 0,
        },
    }
}

fn share(slots: usize, sources: usize, diagonals: &[Diagonal]) -> (Sharing, usize) {
    let mut best = (
        Sharing::Steps {
            giant: slots as u32,
        },
        usize::MAX,
    );
    let mut giant = 1u32;
    while giant as usize <= slots {
        let mut babies: Vec<(u32, u32)> = diagonals
            .iter()
            .map(|d| (d.vector, d.distance % giant))
            .filter(|(_, b)| *b != 0)
            .collect();
        babies.sort_unstable();
        babies.dedup();
        let mut giants: Vec<u32> = diagonals
            .iter()
            .map(|d| d.distance - d.distance % giant)
            .filter(|g| *g != 0)
            .collect();
        giants.sort_unstable();
        giants.dedup();
        let rotations = babies.len() + giants.len();
        // on a tie more baby steps: rotations of one vector share their first half
        if rotations <= best.1 {
            best = (Sharing::Steps { giant }, rotations);
        }
        giant *= 2;
    }
    if let Some((sharing, rotations)) = runs(sources, diagonals)
        && rotations <= best.1
    {
        return (sharing, rotations);
    }
    best
}

/// Runs, when every source has the same distances and one scalar is common to all.
fn runs(sources: usize, diagonals: &[Diagonal]) -> Option<(Sharing, usize)> {
    let Factors::Uniform(first) = diagonals.first()?.factors else {
        return None;
    };
    let mut distances: Vec<Vec<u32>> = vec![Vec::new(); sources];
    for d in diagonals {
        match d.factors {
            Factors::Uniform(w) if w == first => distances[d.vector as usize].push(d.distance),
            Factors::Uniform(_) | Factors::Vector(_) => return None,
        }
    }
    distances.retain(|d| !d.is_empty());
    if distances.windows(2).any(|w| w[0] != w[1]) {
        return None;
    }
    let mut set = distances.swap_remove(0);
    let mut runs = Vec::new();
    while set.len() > 1 {
        let step = set[1] - set[0];
        let mut count = 1;
        while set.binary_search(&(set[0] + count * step)).is_ok() {
            count += 1;
        }
        let mut left: std::collections::BTreeSet<u32> = set.iter().copied().collect();
        let mut starts = Vec::new();
        while let Some(start) = left.first().copied() {
            for i in 0..count {
                if !left.remove(&(start + i * step)) {
                    return None;
                }
            }
            starts.push(start);
        }
        runs.push((step, count));
        set = starts;
    }
    let offset = set[0];
    let rotations =
        usize::from(offset != 0) + runs.iter().map(|(_, n)| run_rotations(*n)).sum::<usize>();
    Some((Sharing::Runs { offset, runs }, rotations))
}

/// The public result that `Weight::Public` refers to, with its range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicWeights {
    /// Its number.
    pub(crate) output: u32,
    /// Its range.
    pub(crate) range: Interval,
}

fn coefficient(emit: &mut Emitter, w: Weight, public: Option<PublicWeights>) -> Coefficient {
    match (w, public) {
        (Weight::Const(v), _) => Coefficient::Const(Real(v)),
        (Weight::Public(e), Some(p)) => {
            Coefficient::Plain(emit.public(p.output, SlotSource::Element(e), p.range))
        }
        // a plan with public weights is always written with its public result
        (Weight::Public(_), None) => Coefficient::Const(Real(0.0)),
    }
}

/// Writes a plan.
pub(crate) fn write(
    emit: &mut Emitter,
    plan: &Plan,
    sources: &[NodeId],
    public: Option<PublicWeights>,
) -> Option<NodeId> {
    let slots = emit.slots;
    match &plan.sharing {
        Sharing::Runs { offset, runs } => {
            let mut used: Vec<u32> = plan.diagonals.iter().map(|d| d.vector).collect();
            used.dedup();
            let factor = match &plan.diagonals.first()?.factors {
                Factors::Uniform(w) => coefficient(emit, *w, public),
                Factors::Vector(_) => return None,
            };
            let one = Coefficient::Const(Real(1.0));
            let mut sum = emit.linear(used.iter().map(|v| (one, sources[*v as usize])).collect());
            for (step, count) in runs {
                sum = run(emit, sum, i64::from(*step), *count);
            }
            sum = emit.rotate(sum, i64::from(*offset));
            Some(emit.linear(vec![(factor, sum)]))
        }
        Sharing::Steps { giant } => {
            let mut by_giant: std::collections::BTreeMap<u32, Vec<(Coefficient, NodeId)>> =
                std::collections::BTreeMap::new();
            for d in &plan.diagonals {
                let baby = d.distance % giant;
                let big = d.distance - baby;
                let turned = emit.rotate(sources[d.vector as usize], i64::from(baby));
                let term = match &d.factors {
                    Factors::Uniform(w) => (coefficient(emit, *w, public), turned),
                    Factors::Vector(weights) => {
                        let plain = weight_vector(emit, weights, big as usize, slots, public);
                        let product = emit.mul_plain(turned, plain);
                        (Coefficient::Const(Real(1.0)), product)
                    }
                };
                by_giant.entry(big).or_default().push(term);
            }
            let mut terms = Vec::with_capacity(by_giant.len());
            for (big, inner) in by_giant {
                let sum = emit.linear(inner);
                let turned = emit.rotate(sum, i64::from(big));
                terms.push((Coefficient::Const(Real(1.0)), turned));
            }
            if terms.is_empty() {
                return None;
            }
            Some(emit.linear(terms))
        }
    }
}

/// The weights as a plaintext, turned right by `back`.
fn weight_vector(
    emit: &mut Emitter,
    weights: &[(u32, Weight)],
    back: usize,
    slots: usize,
    public: Option<PublicWeights>,
) -> hecc_ir::slots::PlainId {
    let zero = Interval::new(0.0, 0.0);
    match public {
        None => {
            let mut values = vec![0.0; slots];
            for (t, w) in weights {
                if let Weight::Const(v) = w {
                    values[(*t as usize + back) % slots] = *v;
                }
            }
            // a vector stays a vector here: the slots that are not listed must become zero
            emit.vector(&values)
        }
        Some(p) => {
            let mut map = vec![SlotMap::EMPTY; slots];
            for (t, w) in weights {
                if let Weight::Public(e) = w {
                    map[(*t as usize + back) % slots] = *e;
                }
            }
            let source = SlotSource::Map(SlotMap(Arc::from(map)));
            emit.public(p.output, source, intervals::hull(p.range, zero))
        }
    }
}

/// Σ_{i < count} rotate(a, i · step) by doubling.
pub(crate) fn run(emit: &mut Emitter, a: NodeId, step: i64, count: u32) -> NodeId {
    let mut power = a;
    let mut sum: Option<NodeId> = None;
    let mut covered = 0i64;
    let bits = count.ilog2();
    for bit in 0..=bits {
        if count >> bit & 1 == 1 {
            let turned = emit.rotate(power, covered * step);
            sum = Some(match sum {
                None => turned,
                Some(s) => emit.add(s, turned),
            });
            covered += 1 << bit;
        }
        if bit < bits {
            let turned = emit.rotate(power, step << bit);
            power = emit.add(power, turned);
        }
    }
    sum.unwrap_or(a)
}

impl Plan {
    /// Whether the plan hands one source vector on as it is.
    pub(crate) fn passes(&self) -> Option<u32> {
        match self.diagonals.as_slice() {
            [
                Diagonal {
                    vector,
                    distance: 0,
                    factors: Factors::Uniform(Weight::Const(1.0)),
                },
            ] => Some(*vector),
            _ => None,
        }
    }

    /// What the slots hold afterwards, and the range of what nobody reads.
    pub(crate) fn labels(
        &self,
        sources: &[&[Label]],
        wanted: &[Label],
        ranges: &[Interval],
        public: Option<PublicWeights>,
    ) -> (Vec<Label>, Interval) {
        let slots = wanted.len();
        let mut dirty = vec![false; slots];
        let mut junk = Interval::new(0.0, 0.0);
        for d in &self.diagonals {
            match &d.factors {
                Factors::Uniform(w) => {
                    let source = sources[d.vector as usize];
                    for (t, flag) in dirty.iter_mut().enumerate() {
                        *flag |= source[(t + d.distance as usize) % slots] != ZERO;
                    }
                    let w = match (w, public) {
                        (Weight::Const(v), _) => Interval::new(*v, *v),
                        (Weight::Public(_), Some(p)) => p.range,
                        (Weight::Public(_), None) => Interval::new(0.0, 0.0),
                    };
                    let zero = Interval::new(0.0, 0.0);
                    let product = intervals::mul(ranges[d.vector as usize], w);
                    junk = intervals::add(junk, intervals::hull(product, zero));
                }
                Factors::Vector(weights) => {
                    for (t, _) in weights {
                        dirty[*t as usize] = true;
                    }
                }
            }
        }
        let labels = wanted
            .iter()
            .zip(&dirty)
            .map(|(w, dirty)| match *w {
                JUNK if !dirty => ZERO,
                w => w,
            })
            .collect();
        (labels, junk)
    }
}
