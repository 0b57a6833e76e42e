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
    fn prefers(&self, found: &Estimate, other: &Estimate) -> bool {
        match (self.fits(found), self.fits(other)) {
            (true, false) => true,
            (false, true) => false,
            _ => found.better(other, self.objective),
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
        return Ok(tidy(&elements::lower(circuit, public)?));
    }
    let most = options.max_slots.next_power_of_two();
    let too_large = size.nodes > PACKED_WORK_MAX / size.largest;
    let tiled = match options.strategy {
        Strategy::Auto if too_large && size.nodes > TILED_NODES_MAX => None,
        Strategy::Auto | Strategy::Tiles => lower_in_tiles(circuit, options)?,
        Strategy::Elements | Strategy::Packed => None,
    };
    if tiled.is_none() && too_large && options.strategy == Strategy::Auto {
        return Ok(tidy(&elements::lower(circuit, public)?));
    }
    if let (Some((_, lowered)), Strategy::Tiles) = (&tiled, options.strategy) {
        return Ok(lowered.clone());
    }
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
    if tiled.is_some() && work > PACKED_BESIDE_MAX {
        choices.clear();
    }
    let mut best = tiled;
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
        if best
            .as_ref()
            .is_none_or(|(b, _)| options.prefers(&found, b))
        {
            best = Some((found, lowered));
        } else if slots < size.largest.min(most) && !fewer {
            // smaller parts yet will hardly be better
            break;
        }
    }
    if options.strategy == Strategy::Auto && size.elements <= ELEMENTS_MAX {
        let lowered = tidy(&elements::lower(circuit, public)?);
        // both by the rough estimate, in which a scalar factor has its price
        let found = Estimate::of(&lowered, &options.cost);
        if best
            .as_ref()
            .is_none_or(|(_, b)| options.prefers(&found, &Estimate::of(b, &options.cost)))
        {
            return Ok(lowered);
        }
    }
    Ok(best.expect("there is a packed choice").1)
}

/// The best of the tiled forms; `None` when the program has operations that are not laid out so.
fn lower_in_tiles(
    circuit: &Circuit<Tensor>,
    options: &LayoutOptions,
) -> Result<Option<(Estimate, Circuit<Slots>)>, Diagnostic> {
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
    let Some(mut best) = lower_in_tiles_of(&forms, most, options)? else {
        return Ok(None);
    };
    // vectors that fill the smallest ring with room for the levels, where larger ones alone ask for more
    let (ring, _) = ring_for(best.0.levels, best.0.key_switches > 0);
    let slots = best.1.meta.slots.next_power_of_two();
    if ring.slots() < slots
        && let Some(narrower) = lower_in_tiles_of(&forms, ring.slots(), options)?
        && (options.fits(&narrower.0) || !options.fits(&best.0))
        && narrower.0.better(&best.0, options.objective)
        && (narrower.0.bytes <= best.0.bytes || NARROW_WORTH * narrower.0.work <= best.0.work)
    {
        best = narrower;
    }
    Ok(Some(best))
}

/// The same in vectors of at most so many slots.
fn lower_in_tiles_of(
    forms: &[tiles::Prepared],
    most: usize,
    options: &LayoutOptions,
) -> Result<Option<(Estimate, Circuit<Slots>)>, Diagnostic> {
    let mut best: Option<(Estimate, Circuit<Slots>)> = None;
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
                let taken = best.as_ref().is_none_or(|(b, _)| {
                    // for as many levels rather more work than more inputs
                    let fewer = found.inputs < b.inputs && found.work <= INPUTS_WORTH * b.work;
                    let more = found.inputs > b.inputs && b.work <= INPUTS_WORTH * found.work;
                    if options.fits(&found) != options.fits(b) {
                        return options.fits(&found);
                    }
                    found.better(b, options.objective) && !(more && found.levels == b.levels)
                        || fewer && found.levels == b.levels
                });
                if taken {
                    best = Some((found, lowered));
                }
            }
        }
        let done = |b: &Estimate| options.fits(b) && b.levels <= least.saturating_add(slack + 1);
        if best.as_ref().is_some_and(|(b, _)| done(b)) {
            break;
        }
    }
    Ok(best)
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
