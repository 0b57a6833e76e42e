//! Where the axes of a tensor lie in slots.

use smallvec::SmallVec;

use crate::layout::linear::{JUNK, Label, ZERO};

/// Bits of an index below `n`.
pub(super) fn bits_of(n: usize) -> u8 {
    n.max(1).next_power_of_two().ilog2() as u8
}

/// Where one axis lies: its low `inner` index bits are the slot bits from `offset` on; the others
/// number vectors.
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
            let low = (t >> place.offset) & ((1 << place.inner) - 1);
            let index = (part[axis] << place.inner) + low;
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
/// A first mask keeps the diagonal on which the bits that can go straight to their new places
/// already agree with them; sums over the old places then leave the old places empty. What could
/// not go, since its new place was taken, is cut into as many pieces as it has values, and every
/// piece is rotated by its own distance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    /// Index bits.
    pub(super) bits: u8,
    pub(super) from: u8,
    pub(super) to: u8,
    /// Index bits that go straight, by index bit.
    pub(super) straight: u32,
    /// Whether the sums come out everywhere, and nothing else is to be done.
    pub(super) cyclic: bool,
}

/// Pieces that a relay may take.
const PIECES_MAX: u32 = 5;

impl Relay {
    pub(super) fn new(bits: u8, from: u8, to: u8, slot_bits: u8) -> Option<Relay> {
        if from == to || bits == 0 || from + bits > slot_bits || to + bits > slot_bits {
            return None;
        }
        let taken = |b: u8| b >= from && b < from + bits;
        let mut straight = 0u32;
        for i in 0..bits {
            if !taken(to + i) {
                straight |= 1 << i;
            }
        }
        let pieces = u32::from(bits) - straight.count_ones();
        if pieces > PIECES_MAX {
            return None;
        }
        // no slot bit above the old places may carry anything
        let cyclic = pieces == 0 && to < from;
        Some(Relay {
            bits,
            from,
            to,
            straight,
            cyclic,
        })
    }

    /// Slot bits that are summed over.
    pub(super) fn summed(&self) -> u32 {
        self.straight << self.from
    }

    /// Index bits that go in pieces.
    pub(super) fn pieces(&self) -> u32 {
        ((1u32 << self.bits) - 1) & !self.straight
    }

    /// Slot bits that are empty at the end and take copies.
    pub(super) fn emptied(&self) -> u32 {
        let old = ((1u32 << self.bits) - 1) << self.from;
        let new = ((1u32 << self.bits) - 1) << self.to;
        old & !new
    }

    pub(super) fn levels(&self) -> u32 {
        if self.cyclic { 1 } else { 2 }
    }

    pub(super) fn masks(&self) -> u32 {
        if self.cyclic {
            1
        } else {
            1 + (1 << self.pieces().count_ones())
        }
    }

    pub(super) fn rotations(&self) -> u32 {
        let sums = self.straight.count_ones();
        if self.cyclic {
            sums
        } else {
            sums + (1 << self.pieces().count_ones()) - 1 + self.emptied().count_ones()
        }
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
