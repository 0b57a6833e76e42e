//! Where the axes of a tensor lie in slots.

use smallvec::SmallVec;

use crate::layout::linear::{JUNK, Label, ZERO};

/// Bits of an index below `n`.
pub(super) fn bits_of(n: usize) -> u8 {
    n.max(1).next_power_of_two().ilog2() as u8
}

/// Where one axis lies: its low `inner` index bits are the slot bits from `offset` on; the others
/// number vectors. Slot bit b carries index bit b mod `inner`, so that two places of an axis agree on
/// the slot bits that they share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: u8,
    pub(super) inner: u8,
}

impl Place {
    /// Its slot bits.
    pub(super) fn mask(self) -> u32 {
        ((1u64 << self.inner) as u32).wrapping_sub(1) << self.offset
    }

    /// The index bits that a slot carries.
    pub(super) fn index(self, slot: usize) -> usize {
        let inner = usize::from(self.inner);
        if inner == 0 {
            return 0;
        }
        let low = (slot >> self.offset) & ((1 << inner) - 1);
        let turn = usize::from(self.offset) % inner;
        ((low << turn) | (low >> (inner - turn))) & ((1 << inner) - 1)
    }

    /// How many vectors an axis of this extent is cut into.
    pub(super) fn parts(self, extent: usize) -> usize {
        extent.div_ceil(1 << self.inner).max(1)
    }
}

/// A place for every axis. Slot bits of no axis hold copies.
pub(super) type Layout = SmallVec<[Place; 4]>;

/// The slot bits that carry an index.
pub(super) fn carried(layout: &[Place]) -> u32 {
    layout.iter().fold(0, |m, p| m | p.mask())
}

/// How many vectors.
pub(super) fn vectors(layout: &[Place], shape: &[usize]) -> usize {
    layout.iter().zip(shape).map(|(p, n)| p.parts(*n)).product()
}

/// How a value lies: a slot whose `holes` bits are not all zero holds something that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) layout: Layout,
    pub(super) holes: u32,
}

/// The element in every slot of one vector, `ZERO` (or `JUNK`) where none is read.
pub(super) fn labels(
    shape: &[usize],
    state: &State,
    part: &[usize],
    slots: usize,
    clean: bool,
) -> Vec<Label> {
    let empty = if clean { ZERO } else { JUNK };
    let strides = crate::layout::expand::strides(shape);
    let mut out = vec![0; slots];
    for (t, label) in out.iter_mut().enumerate() {
        if t as u32 & state.holes != 0 {
            *label = empty;
            continue;
        }
        let mut element = 0;
        for (axis, place) in state.layout.iter().enumerate() {
            let index = (part[axis] << place.inner) + place.index(t);
            if index >= shape[axis] {
                element = usize::MAX;
                break;
            }
            element += index * strides[axis];
        }
        *label = if element == usize::MAX {
            empty
        } else {
            element as Label
        };
    }
    out
}

/// The vectors of a layout, as one index for every axis.
pub(super) fn parts(layout: &[Place], shape: &[usize]) -> Vec<Vec<usize>> {
    let counts: Vec<usize> = layout.iter().zip(shape).map(|(p, n)| p.parts(*n)).collect();
    let mut out = Vec::new();
    crate::layout::expand::for_each_index(&counts, |at| out.push(at.to_vec()));
    out
}

/// The number of a vector among those of a layout.
pub(super) fn number(layout: &[Place], shape: &[usize], part: &[usize]) -> usize {
    layout
        .iter()
        .zip(shape)
        .zip(part)
        .fold(0, |n, ((p, extent), at)| n * p.parts(*extent) + at)
}

/// How a vector of numbers whose index lies in some slot bits, with copies in all others, is moved
/// to other slot bits.
///
/// Index bits in slot bits that both places share stay. A mask keeps the diagonal on which every
/// other index bit agrees with the slot bit where it is to go; sums over the slot bits that it
/// leaves then put copies there: everywhere when these lie above all others, else the slots where
/// they are not zero are holes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    from: Place,
    to: Place,
}

impl Relay {
    pub(super) fn new(from: Place, to: Place, slot_bits: u8) -> Option<Relay> {
        let fits = |p: Place| p.inner > 0 && p.offset + p.inner <= slot_bits;
        (from != to && from.inner == to.inner && fits(from) && fits(to))
            .then_some(Relay { from, to })
    }

    /// Slot bits that are summed over.
    pub(super) fn summed(&self) -> u32 {
        self.from.mask() & !self.to.mask()
    }

    /// Slot bits that hold partial sums.
    pub(super) fn holes(&self) -> u32 {
        if self.to.offset < self.from.offset {
            0
        } else {
            self.summed()
        }
    }

    /// Whether the mask keeps a slot of an axis of `n` elements.
    pub(super) fn keeps(&self, slot: usize, n: usize) -> bool {
        let index = self.from.index(slot);
        index < n && self.to.index(slot) == index
    }
}

/// The vector of an operand whose axes are those of a result, some of them repeated.
pub(super) fn behind_part(axes: &[Option<usize>], part: &[usize], rank: usize) -> Vec<usize> {
    let mut out = vec![0; rank];
    for (i, a) in axes.iter().enumerate() {
        if let Some(a) = a {
            out[*a] = part[i];
        }
    }
    out
}
