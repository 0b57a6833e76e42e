//! Tiles: the axes of every tensor lie on the bits of the slot number.
//!
//! A slot number of s bits is cut among the axes of a tensor; bits that no axis takes hold copies,
//! and an axis that finds no room continues over several vectors. So row-major and column-major
//! tiles, vectors along the rows or down the columns of a tile, repeated in the other direction,
//! and one feature a ciphertext with the samples in its slots are all of one kind, and two values
//! meet slot by slot when their axes lie on the same bits.
//!
//! A sum over an axis rotates by its bits. Where nothing lies on the bits above, the sum is cyclic
//! and comes out everywhere; elsewhere only the slots with zeros in these bits hold it, the others
//! are *holes* until a mask, which costs a level, and rotations back put copies there. Sums and
//! scalar factors pass through holes, so that one mask serves many terms; a product with a public
//! vector is a mask as well, and what only the client reads needs none.
//!
//! [`prepare`] writes matrix products as products and sums, [`plan`] chooses the layout of every
//! value, [`write`] writes the vectors. A program with other operations is left to the packer.

mod place;
mod plan;
mod prepare;
mod write;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::Circuit;
use hecc_ir::slots::Slots;
use hecc_ir::tensor::{Secrecy, Tensor};

use super::public::PublicPart;

/// Where scalar factors, which plans take as free, are to find a mask or a scale to go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing is done for them.
    Tight,
    /// Terms of a sum that can come before the last one do.
    Early,
    /// The same, and what was moved to other slot bits is masked and copied into its holes at once.
    Filled,
}

/// What a plan may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Work that a second packing of an input counts as.
    pub(super) repack: f64,
    /// Vectors of inputs that are worth time, within the levels that there are.
    pub(super) most_inputs: Option<usize>,
    /// Levels beyond the least that results may take.
    pub(super) slack: u32,
    pub(super) style: Style,
}

/// A program made ready for planning.
#[derive(PartialEq)]
pub(super) struct Prepared {
    circuit: Circuit<Tensor>,
}

impl Prepared {
    /// `None` when it holds an operation that is not planned here.
    ///
    /// # Errors
    /// E3201 for a division by a public value that may be zero.
    pub(super) fn new(
        circuit: &Circuit<Tensor>,
        distribute: bool,
    ) -> Result<Option<Prepared>, Diagnostic> {
        let Some(circuit) = prepare::prepare(circuit, distribute) else {
            return Ok(None);
        };
        let mut public = PublicPart::new(&circuit)?;
        Ok(plan::values(&circuit, &mut public).map(|_| Prepared { circuit }))
    }

    /// Slots of the largest tensor.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub(super) fn largest(&self) -> Result<usize, Diagnostic> {
        let mut public = PublicPart::new(&self.circuit)?;
        Ok(plan::values(&self.circuit, &mut public).map_or(1, |v| plan::largest(&v)))
    }

    /// Lowers to vectors of `slots` slots, with the levels that are expected, scalar factors taken as
    /// free; `None` where no layouts fit together.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub(super) fn lower(
        &self,
        slots: usize,
        options: &Options,
    ) -> Result<Option<(Circuit<Slots>, u32)>, Diagnostic> {
        let circuit = &self.circuit;
        let mut public = PublicPart::new(circuit)?;
        let Some(values) = plan::values(circuit, &mut public) else {
            return Ok(None);
        };
        let outputs: Vec<Option<usize>> = circuit
            .outputs
            .iter()
            .map(|(id, _)| values.iter().position(|v| v.id == *id))
            .collect();
        let known: Vec<_> = circuit
            .outputs
            .iter()
            .map(|(id, _)| {
                (public.secrecy[id.index()] == Secrecy::Public)
                    .then(|| public.known[id.index()].clone())
                    .flatten()
            })
            .collect();
        let wishes = plan::Wishes {
            repack: options.repack,
            most_inputs: options.most_inputs,
            slack: options.slack,
            style: options.style,
        };
        let Some(plan) = plan::plan(values, &outputs, slots.ilog2() as u8, &wishes) else {
            return Ok(None);
        };
        let lowered = write::write(circuit, public, &plan, &known, slots);
        Ok(Some((lowered, plan.levels)))
    }
}
