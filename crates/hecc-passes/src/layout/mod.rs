//! Layout: how tensors lie in vectors of slots. Lowers `Circuit<Tensor>` to `Circuit<Slots>`.
//!
//! What is public is split off first (`public`). Two layouts are known: one element per
//! ciphertext (`elements`) and dense vectors (`packed`, on the linear maps of `linear`). Each
//! yields a whole circuit; [`lower`] takes the better one by the objective (`cost`): by
//! estimated levels, then by estimated time, unless another is asked for. What they write is plain and is then made tidy ([`tidy()`]).
//!
//! Assumption: the circuit is flat (no loops, constant indices) and passed the verifier.

mod complex;
mod cost;
mod elements;
mod emit;
mod expand;
mod known;
mod linear;
mod packed;
mod public;
mod tidy;
mod tiles;

use std::rc::Rc;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::measure;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Secrecy, Tensor, TensorOp, elements as count};
use hecc_params::CostModel;

use crate::pipeline::Objective;

pub use complex::complex;
pub use cost::{Estimate, estimate};
pub(crate) use cost::{program_better, ring_for};
pub(crate) use public::range_of;
pub use tidy::tidy;

/// Which layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The better one by levels, then by cost.
    #[default]
    Auto,
    /// One element per ciphertext.
    Elements,
    /// Dense vectors.
    Packed,
    /// Tiles; dense vectors where a program has operations that are not laid out in tiles.
    Tiles,
}

/// What a slot holds with `@batch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Two instances where that is quicker, one otherwise.
    #[default]
    Auto,
    /// One instance.
    Real,
    /// Two instances wherever the circuit allows it.
    Complex,
}

/// How to lay out a circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutOptions {
    /// Which layout.
    pub strategy: Strategy,
    /// Most slots of a vector, a power of two: larger tensors take several vectors.
    pub max_slots: usize,
    /// Ciphertexts of inputs beyond which a layout is taken only where there is no other.
    pub max_inputs: Option<usize>,
    /// What is minimised first.
    pub objective: Objective,
    /// The times that layouts are compared by.
    pub cost: CostModel,
    /// What a slot holds with `@batch`.
    pub packing: Packing,
}

impl LayoutOptions {
    fn fits(&self, estimate: &Estimate) -> bool {
        self.max_inputs.is_none_or(|most| estimate.inputs <= most)
    }

    /// Whether a layout is to be taken before another.
    fn prefers(&self, found: &Estimate, other: &Estimate, objective: Objective) -> bool {
        match (self.fits(found), self.fits(other)) {
            (true, false) => true,
            (false, true) => false,
            _ => found.better(other, objective),
        }
    }
}

impl Default for LayoutOptions {
    fn default() -> Self {
        LayoutOptions {
            strategy: Strategy::Auto,
            max_slots: 1 << 15,
            max_inputs: None,
            objective: Objective::default(),
            cost: CostModel::default(),
            packing: Packing::Auto,
        }
    }
}

/// Lowers a flat circuit to vectors of slots. With `@batch` every scalar is a ciphertext of its own.
///
/// # Errors
/// * E3200 when the circuit has a loop or an index that is not a constant: unroll it first.
/// * E3201 for a division by a public value whose range holds zero.
pub fn lower(
    circuit: &Circuit<Tensor>,
    options: &LayoutOptions,
) -> Result<Circuit<Slots>, Diagnostic> {
    let mut best = lower_for(circuit, options, &[options.objective])?;
    Ok(best.swap_remove(0))
}

/// The same for several objectives: the best layout by each of them, all from the same choices.
/// Layouts that are best by more than one are listed once, in the order of the objectives.
///
/// # Errors
/// As [`lower`].
pub(crate) fn lower_for(
    circuit: &Circuit<Tensor>,
    options: &LayoutOptions,
    objectives: &[Objective],
) -> Result<Vec<Circuit<Slots>>, Diagnostic> {
    check_flat(circuit)?;
    let public = public::PublicPart::new(circuit)?;
    let size = Size::of(circuit, &public);
    // with a batch the slots hold the instances
    let by_element = circuit.meta.batch.is_some()
        || match options.strategy {
            Strategy::Auto => size.scalars_only,
            Strategy::Elements => true,
            Strategy::Packed | Strategy::Tiles => false,
        };
    if by_element {
        return Ok(vec![tidy(&elements::lower(circuit, public)?)]);
    }
    let most = options.max_slots.next_power_of_two();
    let too_large = size.nodes > PACKED_WORK_MAX / size.largest;
    let tiled = match options.strategy {
        Strategy::Auto if too_large && size.nodes > TILED_NODES_MAX => None,
        Strategy::Auto | Strategy::Tiles => lower_in_tiles(circuit, options, objectives)?,
        Strategy::Elements | Strategy::Packed => None,
    };
    if tiled.is_none() && too_large && options.strategy == Strategy::Auto {
        return Ok(vec![tidy(&elements::lower(circuit, public)?)]);
    }
    let in_tiles = tiled.is_some();
    let mut best = match tiled {
        Some(tiled) if options.strategy == Strategy::Tiles => return Ok(tiled.distinct()),
        Some(tiled) => tiled,
        None => Bests::new(objectives),
    };
    // vectors that hold the largest tensor whole, or all scalar products of matrices at once, or
    // parts of it: a smaller ring may do then
    let mut choices = vec![size.largest.min(most)];
    if size.largest_product > size.largest && size.largest < most {
        choices.push(size.largest_product.min(most));
    }
    let mut part = choices[0] / 2;
    while part >= SMALLEST_PART {
        choices.push(part);
        part /= 2;
    }
    let work = size
        .nodes
        .saturating_mul(choices[0])
        .saturating_add(size.elements);
    choices.truncate((TRIED_WORK_MAX / work.max(1)).clamp(1, choices.len()));
    if in_tiles && work > PACKED_BESIDE_MAX {
        choices.clear();
    }
    let mut switches = usize::MAX;
    for slots in choices {
        let lowered = tidy(&packed::lower(
            circuit,
            public::PublicPart::new(circuit)?,
            slots,
        )?);
        let found = judged(&lowered, options);
        let fewer = found.key_switches < switches;
        switches = found.key_switches;
        let taken = best.offer(found, lowered, |found, best, objective| {
            options.prefers(found, best, objective)
        });
        if !taken && slots < size.largest.min(most) && !fewer {
            // smaller parts yet will hardly be better
            break;
        }
    }
    if options.strategy == Strategy::Auto && size.elements <= ELEMENTS_MAX {
        let lowered = tidy(&elements::lower(circuit, public)?);
        // both by the rough estimate, in which a scalar factor has its price
        let found = Estimate::of(&lowered, &options.cost);
        best.estimate_again(|circuit| Estimate::of(circuit, &options.cost));
        best.offer(found, lowered, |found, best, objective| {
            options.prefers(found, best, objective)
        });
    }
    Ok(best.distinct())
}

/// A layout, and what it is compared by.
type Judged = (Estimate, Circuit<Slots>);

/// The best layouts so far, one for each objective.
#[derive(Clone)]
struct Bests {
    best: Vec<(Objective, Option<Rc<Judged>>)>,
}

impl Bests {
    fn new(objectives: &[Objective]) -> Bests {
        Bests {
            best: objectives.iter().map(|o| (*o, None)).collect(),
        }
    }

    /// Takes a layout wherever there is none yet or it is to be taken before what is there; whether it
    /// was taken anywhere.
    fn offer(
        &mut self,
        found: Estimate,
        lowered: Circuit<Slots>,
        before: impl Fn(&Estimate, &Estimate, Objective) -> bool,
    ) -> bool {
        let offered = Rc::new((found, lowered));
        let mut taken = false;
        for (objective, best) in &mut self.best {
            let takes = best
                .as_ref()
                .is_none_or(|b| before(&offered.0, &b.0, *objective));
            if takes {
                *best = Some(Rc::clone(&offered));
                taken = true;
            }
        }
        taken
    }

    /// Judges all of them in another way.
    fn estimate_again(&mut self, estimate: impl Fn(&Circuit<Slots>) -> Estimate) {
        let mut known: Vec<(Rc<Judged>, Rc<Judged>)> = Vec::new();
        for best in self.best.iter_mut().filter_map(|(_, best)| best.as_mut()) {
            let again = match known.iter().find(|(old, _)| Rc::ptr_eq(old, best)) {
                Some((_, new)) => Rc::clone(new),
                None => {
                    let new = Rc::new((estimate(&best.1), best.1.clone()));
                    known.push((Rc::clone(best), Rc::clone(&new)));
                    new
                }
            };
            *best = again;
        }
    }

    fn all(&self, holds: impl Fn(&Estimate) -> bool) -> bool {
        self.best
            .iter()
            .all(|(_, best)| best.as_ref().is_some_and(|b| holds(&b.0)))
    }

    fn any(&self, holds: impl Fn(&Estimate) -> bool) -> bool {
        self.best.iter().flat_map(|(_, b)| b).any(|b| holds(&b.0))
    }

    fn is_empty(&self) -> bool {
        self.best.iter().all(|(_, best)| best.is_none())
    }

    /// Each of them once.
    fn distinct(self) -> Vec<Circuit<Slots>> {
        let mut out: Vec<Circuit<Slots>> = Vec::new();
        for (_, best) in self.best {
            let Some(best) = best else { continue };
            if !out.contains(&best.1) {
                out.push(best.1.clone());
            }
        }
        out
    }
}

/// The best of the tiled forms; `None` when the program has operations that are not laid out so.
fn lower_in_tiles(
    circuit: &Circuit<Tensor>,
    options: &LayoutOptions,
    objectives: &[Objective],
) -> Result<Option<Bests>, Diagnostic> {
    let most = options.max_slots.next_power_of_two();
    let mut forms: Vec<tiles::Prepared> = Vec::new();
    for distribute in [false, true] {
        let Some(prepared) = tiles::Prepared::new(circuit, distribute)? else {
            return Ok(None);
        };
        if !forms.contains(&prepared) {
            forms.push(prepared);
        }
    }
    let mut bests = lower_in_tiles_of(&forms, most, options, objectives)?;
    if bests.is_empty() {
        return Ok(None);
    }
    // vectors that fill the smallest ring with room for the levels, where larger ones alone ask for more
    let mut narrow: Vec<usize> = Vec::new();
    for best in bests.best.iter().filter_map(|(_, best)| best.as_ref()) {
        let (ring, _) = ring_for(best.0.levels, best.0.key_switches > 0);
        let slots = best.1.meta.slots.next_power_of_two();
        if ring.slots() < slots && !narrow.contains(&ring.slots()) {
            narrow.push(ring.slots());
        }
    }
    for slots in narrow {
        let narrower = lower_in_tiles_of(&forms, slots, options, objectives)?;
        for (_, narrower) in narrower.best {
            let Some(narrower) = narrower else { continue };
            let (found, lowered) = (narrower.0, narrower.1.clone());
            bests.offer(found, lowered, |narrower, best, objective| {
                (options.fits(narrower) || !options.fits(best))
                    && narrower.better(best, objective)
                    && (narrower.bytes <= best.bytes || NARROW_WORTH * narrower.work <= best.work)
            });
        }
    }
    Ok(Some(bests))
}

/// The same in vectors of at most so many slots.
fn lower_in_tiles_of(
    forms: &[tiles::Prepared],
    most: usize,
    options: &LayoutOptions,
    objectives: &[Objective],
) -> Result<Bests, Diagnostic> {
    let mut bests = Bests::new(objectives);
    // more levels only where few enough inputs take them
    let slacks = if options.max_inputs.is_some() {
        SLACK_MAX
    } else {
        0
    };
    let mut least = u32::MAX;
    for slack in 0..=slacks {
        for prepared in forms {
            let slots = prepared.largest()?.min(most);
            let mut more = false;
            for (style, repack) in [
                (tiles::Style::Tight, 0.0),
                (tiles::Style::Tight, 20.0),
                (tiles::Style::Early, 0.0),
                (tiles::Style::Early, 20.0),
                (tiles::Style::Filled, 0.0),
            ] {
                if style != tiles::Style::Tight && !more {
                    break;
                }
                let wishes = tiles::Options {
                    repack,
                    most_inputs: options.max_inputs,
                    slack,
                    style,
                };
                let Some((lowered, planned)) = prepared.lower(slots, &wishes)? else {
                    continue;
                };
                let lowered = tidy(&lowered);
                let found = judged(&lowered, options);
                more |= found.levels > planned;
                least = least.min(planned - slack);
                bests.offer(found, lowered, |found, b, objective| {
                    // for as many levels rather more work than more inputs
                    let fewer = found.inputs < b.inputs && found.work <= INPUTS_WORTH * b.work;
                    let more = found.inputs > b.inputs && b.work <= INPUTS_WORTH * found.work;
                    if options.fits(found) != options.fits(b) {
                        return options.fits(found);
                    }
                    found.better(b, objective) && !(more && found.levels == b.levels)
                        || fewer && found.levels == b.levels
                });
            }
        }
        let few = |b: &Estimate| b.levels <= least.saturating_add(slack + 1);
        if bests.all(|b| options.fits(b)) && bests.any(few) {
            break;
        }
    }
    Ok(bests)
}

/// Levels beyond the least that tiles may take for fewer inputs.
const SLACK_MAX: u32 = 2;

/// An estimate with the levels that the circuit will really take.
pub(crate) fn judged(lowered: &Circuit<Slots>, options: &LayoutOptions) -> Estimate {
    if lowered.graph.len() > JUDGED_MAX {
        return Estimate::of(lowered, &options.cost);
    }
    let levels = measure::measure(&crate::scale::lower_ideal(lowered)).levels;
    Estimate::with_levels(lowered, levels as u32, &options.cost)
}

/// Circuits of more operations are judged by a rough estimate of their levels.
const JUDGED_MAX: usize = 1 << 14;

/// Where tiles fit, dense vectors are tried beside them up to this many nodes times slots.
const PACKED_BESIDE_MAX: usize = 1 << 17;

/// Vectors are not made smaller than this: a smaller ring is hardly ever secure with a level.
const SMALLEST_PART: usize = 1024;

/// Slots and scalar operations handled in all tries; a large circuit is tried with fewer sizes.
const TRIED_WORK_MAX: usize = 1 << 24;

/// More nodes times slots than this are not tried as dense vectors.
const PACKED_WORK_MAX: usize = 1 << 27;

/// Where dense vectors are not tried, tiles are up to this many nodes.
const TILED_NODES_MAX: usize = 1 << 12;

/// More scalar operations than this are not tried one by one.
const ELEMENTS_MAX: usize = 1 << 20;

/// Narrower vectors that take more bytes are worth this much less work.
const NARROW_WORTH: f64 = 2.0;

/// Packing parameters twice is worth this much less work.
const INPUTS_WORTH: f64 = 1.25;

/// How large a circuit is.
struct Size {
    /// Nothing secret has more than one element.
    scalars_only: bool,
    /// Secret nodes.
    nodes: usize,
    /// Scalar operations.
    elements: usize,
    /// Slots of the largest secret tensor, each axis padded.
    largest: usize,
    /// The same with all scalar products of secret matrices at once.
    largest_product: usize,
}

impl Size {
    fn of(circuit: &Circuit<Tensor>, public: &public::PublicPart) -> Size {
        let live = circuit.live();
        let graph = &circuit.graph;
        let mut size = Size {
            scalars_only: true,
            nodes: 0,
            elements: 0,
            largest: 1,
            largest_product: 1,
        };
        let secret = |id: NodeId| public.secrecy[id.index()] == Secrecy::Secret;
        for id in graph.ids().filter(|id| live[id.index()] && secret(*id)) {
            let shape = graph.ty(id).shape();
            size.nodes += 1;
            size.scalars_only &= count(shape) <= 1;
            size.largest = size.largest.max(packed::padded(shape));
            let operands = graph.operands(id);
            let mut work = count(shape);
            match graph.op(id) {
                TensorOp::MatMul => {
                    let (a, b) = (graph.ty(operands[0]).shape(), graph.ty(operands[1]).shape());
                    let (m, k, n) = expand::matmul_extents(a, b);
                    work = m.saturating_mul(k).saturating_mul(n);
                    if secret(operands[0]) && secret(operands[1]) {
                        size.largest_product = size.largest_product.max(packed::padded(&[m, k, n]));
                    }
                }
                TensorOp::Conv2d { .. } => {
                    work = work.saturating_mul(count(&graph.ty(operands[1]).shape()[1..]));
                }
                TensorOp::Sum(_) => work = count(graph.ty(operands[0]).shape()),
                TensorOp::SumPool(n) => work = work.saturating_mul(n * n),
                _ => {}
            }
            size.elements = size.elements.saturating_add(work);
        }
        size.largest_product = size.largest_product.max(size.largest);
        size
    }
}

fn check_flat(circuit: &Circuit<Tensor>) -> Result<(), Diagnostic> {
    for id in circuit.graph.ids() {
        let node = circuit.graph.node(id);
        let loose = match &node.op {
            TensorOp::Loop { .. } | TensorOp::Proj(_) => true,
            TensorOp::Index(a) | TensorOp::Roll(a) => a.as_constant().is_none(),
            TensorOp::Slice { starts, .. } | TensorOp::Update { starts } => {
                starts.iter().any(|a| a.as_constant().is_none())
            }
            TensorOp::Input(_)
            | TensorOp::Const(_)
            | TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Mul
            | TensorOp::Div
            | TensorOp::Neg
            | TensorOp::Pow(_)
            | TensorOp::Poly(_)
            | TensorOp::MatMul
            | TensorOp::Sum(_)
            | TensorOp::Broadcast(_)
            | TensorOp::Reshape(_)
            | TensorOp::Transpose(_)
            | TensorOp::Concat(_)
            | TensorOp::Pad { .. }
            | TensorOp::Diag
            | TensorOp::Conv2d { .. }
            | TensorOp::SumPool(_) => false,
        };
        if loose {
            return Err(Diagnostic::error(
                "E3200",
                node.span,
                "a loop reached the layout",
                "this depends on a loop that is still there",
            )
            .with_help("unroll all loops before the layout is chosen"));
        }
    }
    Ok(())
}

/// `x`, `x[3]`, `x[1, 2]`.
fn label(name: &str, at: &[usize]) -> String {
    if at.is_empty() {
        return name.to_owned();
    }
    let at: Vec<String> = at.iter().map(ToString::to_string).collect();
    format!("{name}[{}]", at.join(", "))
}

#[cfg(test)]
mod tests;
