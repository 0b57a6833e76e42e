//! Known tensors as factors and plaintexts of slot vectors.

use std::sync::Arc;

use hecc_ir::graph::{Interval, Real};
use hecc_ir::slots::{Coefficient, PlainId, SlotMap, SlotSource};

use super::emit::Emitter;
use super::linear::{Label, ZERO};
use super::public::{Known, PublicPart, intervals};

/// A known value that is the same for every element, as a coefficient.
pub(crate) fn scalar(
    emit: &mut Emitter,
    public: &mut PublicPart,
    known: &Known,
) -> Option<Coefficient> {
    match known {
        Known::Const(c) => c.uniform().map(|v| Coefficient::Const(Real(v))),
        Known::Runtime(id) => {
            let scalar = public.scalar_of(*id)?;
            let range = public.range(scalar);
            let output = public.output(scalar);
            Some(Coefficient::Plain(emit.public(
                output,
                SlotSource::Element(0),
                range,
            )))
        }
    }
}

/// The range of all elements.
pub(crate) fn range(public: &PublicPart, known: &Known) -> Interval {
    match known {
        Known::Const(c) => intervals::of_values(c.data()),
        Known::Runtime(id) => public.range(*id),
    }
}

/// A known tensor in slots, zero where no element lies.
pub(crate) fn plain_at(
    emit: &mut Emitter,
    public: &mut PublicPart,
    known: &Known,
    labels: &[Label],
) -> PlainId {
    match known {
        Known::Const(c) => {
            let values: Vec<f64> = labels
                .iter()
                .map(|l| {
                    if *l < ZERO {
                        c.data()[*l as usize]
                    } else {
                        0.0
                    }
                })
                .collect();
            emit.vector(&values)
        }
        Known::Runtime(id) => {
            let range = intervals::hull(public.range(*id), Interval::new(0.0, 0.0));
            let output = public.output(*id);
            let map: Arc<[u32]> = labels
                .iter()
                .map(|l| if *l < ZERO { *l } else { SlotMap::EMPTY })
                .collect();
            emit.public(output, SlotSource::Map(SlotMap(map)), range)
        }
    }
}
