//! Between tensors and vectors of slots.

use std::sync::Arc;

use hecc_ir::algebra::Clear;
use hecc_ir::interp::{TensorValue, eval_circuit};
use hecc_ir::program::Program;
use hecc_ir::slots::{PackedInput, PlainId, PlainSource, SlotMap, SlotSource, SlotsMeta, Unpack};
use hecc_ir::tensor::{Secrecy, elements};
use rayon::prelude::*;

use crate::bind::{Bindings, Tensor64};
use crate::error::RuntimeError;

/// The value of a plaintext.
#[derive(Clone, Debug, PartialEq)]
pub enum PlainValue {
    /// The same in every slot.
    Uniform(f64),
    /// One value a slot.
    Vector(Arc<[f64]>),
}

/// The values of all plaintexts of a program, and the results that depend on nothing secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plains {
    values: Vec<PlainValue>,
    /// By result of the public program, then by instance: elements, row-major.
    public: Vec<Vec<Vec<f64>>>,
}

impl Plains {
    /// The value of a plaintext.
    ///
    /// # Errors
    /// [`RuntimeError::Mismatch`] when the program has no such plaintext.
    pub fn get(&self, id: PlainId) -> Result<&PlainValue, RuntimeError> {
        self.values
            .get(id.0 as usize)
            .ok_or_else(|| RuntimeError::Mismatch(format!("there is no plaintext {}", id.0)))
    }

    /// The value of a plaintext that is the same in every slot.
    ///
    /// # Errors
    /// [`RuntimeError::Mismatch`] when it is not, or is not there.
    pub fn scalar(&self, id: PlainId) -> Result<f64, RuntimeError> {
        match self.get(id)? {
            PlainValue::Uniform(v) => Ok(*v),
            PlainValue::Vector(v) => match v.first() {
                Some(first) if v.iter().all(|x| x == first) => Ok(*first),
                _ => Err(RuntimeError::Mismatch(format!(
                    "plaintext {} is used as a scalar and is a vector",
                    id.0
                ))),
            },
        }
    }

    /// The values of a plaintext, as many as a vector has ([`SlotsMeta::values`]).
    ///
    /// # Errors
    /// [`RuntimeError::Mismatch`] when the program has no such plaintext.
    pub fn slots(&self, id: PlainId, slots: usize) -> Result<Arc<[f64]>, RuntimeError> {
        Ok(match self.get(id)? {
            PlainValue::Uniform(v) => vec![*v; slots].into(),
            PlainValue::Vector(v) => Arc::clone(v),
        })
    }

    /// The results of the public program, by result and instance.
    pub fn public(&self) -> &[Vec<Vec<f64>>] {
        &self.public
    }
}

/// The values of one encrypted input: one a slot, or in a complex circuit all real parts and then all
/// imaginary ones.
///
/// Slots of a batch that no instance uses repeat the last instance, so that they stay in range.
///
/// # Errors
/// [`RuntimeError::Mismatch`] when the input names a parameter or an element that is not there.
pub fn pack(
    meta: &SlotsMeta,
    input: &PackedInput,
    bindings: &Bindings,
) -> Result<Vec<f64>, RuntimeError> {
    let instance = |i: usize| {
        bindings
            .instance(input.param as usize, i)
            .ok_or_else(|| RuntimeError::Mismatch(format!("no value for input {}", input.label)))
    };
    spread(&input.source, meta.values(), bindings.count(), &instance)
        .map(|v| match v {
            PlainValue::Uniform(x) => vec![x; meta.values()],
            PlainValue::Vector(v) => v.to_vec(),
        })
        .map_err(|e| match e {
            RuntimeError::Mismatch(why) => {
                RuntimeError::Mismatch(format!("input {}: {why}", input.label))
            }
            other => other,
        })
}

fn spread<'a>(
    source: &SlotSource,
    slots: usize,
    count: usize,
    instance: &dyn Fn(usize) -> Result<&'a [f64], RuntimeError>,
) -> Result<PlainValue, RuntimeError> {
    let element = |values: &[f64], e: u32| {
        values.get(e as usize).copied().ok_or_else(|| {
            RuntimeError::Mismatch(format!("there is no element {e} of {}", values.len()))
        })
    };
    match source {
        SlotSource::Map(SlotMap(map)) => {
            if map.len() != slots {
                return Err(RuntimeError::Mismatch(format!(
                    "a map of {} for {slots} slots",
                    map.len()
                )));
            }
            let values = instance(0)?;
            let vector: Result<Vec<f64>, _> = map
                .iter()
                .map(|&e| match e {
                    SlotMap::EMPTY => Ok(0.0),
                    e => element(values, e),
                })
                .collect();
            Ok(PlainValue::Vector(vector?.into()))
        }
        SlotSource::Element(e) => Ok(PlainValue::Uniform(element(instance(0)?, *e)?)),
        SlotSource::Instances(e) => {
            if count > slots {
                return Err(RuntimeError::Mismatch(format!(
                    "{count} instances for {slots} slots"
                )));
            }
            let mut vector = Vec::with_capacity(slots);
            for i in 0..count {
                vector.push(element(instance(i)?, *e)?);
            }
            let last = vector[count - 1];
            vector.resize(slots, last);
            Ok(PlainValue::Vector(vector.into()))
        }
    }
}

/// Evaluates what the evaluator knows: the public program, and from it every plaintext.
///
/// # Errors
/// [`RuntimeError::Public`] when the public program has no value (division by zero, say) or one
/// that is not finite.
pub fn resolve_plains(program: &Program, bindings: &Bindings) -> Result<Plains, RuntimeError> {
    let meta = &program.circuit.meta;
    let public = match &meta.public {
        None => Vec::new(),
        Some(circuit) => {
            let per_instance: Result<Vec<Vec<TensorValue<f64>>>, RuntimeError> = (0..bindings
                .count())
                .into_par_iter()
                .map(|i| {
                    let inputs: Result<Vec<TensorValue<f64>>, RuntimeError> = circuit
                        .inputs
                        .iter()
                        .enumerate()
                        .map(|(p, param)| {
                            let data = match (param.secrecy, bindings.instance(p, i)) {
                                // The public program reads no secret.
                                (Secrecy::Secret, _) => vec![0.0; elements(&param.shape)],
                                (Secrecy::Public, Some(v)) => v.to_vec(),
                                (Secrecy::Public, None) => {
                                    return Err(RuntimeError::Mismatch(format!(
                                        "no value for the public parameter `{}`",
                                        param.name
                                    )));
                                }
                            };
                            TensorValue::new(param.shape.clone(), data).ok_or_else(|| {
                                RuntimeError::Mismatch(format!("shape of `{}`", param.name))
                            })
                        })
                        .collect();
                    eval_circuit(&Clear, circuit, &inputs?).map_err(RuntimeError::Public)
                })
                .collect();
            let per_instance = per_instance?;
            (0..circuit.outputs.len())
                .map(|o| {
                    per_instance
                        .iter()
                        .map(|outputs| outputs[o].data().to_vec())
                        .collect()
                })
                .collect()
        }
    };
    let values: Result<Vec<PlainValue>, RuntimeError> = meta
        .plains
        .par_iter()
        .enumerate()
        .map(|(id, plain)| {
            let value = match &plain.source {
                PlainSource::Uniform(v) => PlainValue::Uniform(*v),
                PlainSource::Vector(v) => PlainValue::Vector(Arc::clone(v)),
                PlainSource::Public { output, source } => {
                    let results: &Vec<Vec<f64>> =
                        public.get(*output as usize).ok_or_else(|| {
                            RuntimeError::Mismatch(format!(
                                "plaintext {id} is result {output} of the public program, which has {}",
                                public.len()
                            ))
                        })?;
                    spread(source, meta.values(), results.len(), &|i| {
                        Ok(&results[i.min(results.len() - 1)])
                    })?
                }
            };
            check_plain(id, &value, meta.values())?;
            Ok(value)
        })
        .collect();
    Ok(Plains {
        values: values?,
        public,
    })
}

fn check_plain(id: usize, value: &PlainValue, slots: usize) -> Result<(), RuntimeError> {
    let bad = match value {
        PlainValue::Uniform(v) => !v.is_finite(),
        PlainValue::Vector(v) if v.len() != slots => {
            return Err(RuntimeError::Mismatch(format!(
                "plaintext {id} has {} values for {slots} slots",
                v.len()
            )));
        }
        PlainValue::Vector(v) => v.iter().any(|x| !x.is_finite()),
    };
    if bad {
        return Err(RuntimeError::Mismatch(
            "an operation on public values gives a number that is not finite: check the public inputs and constants".to_owned(),
        ));
    }
    Ok(())
}

/// A result by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Its name.
    pub name: String,
    /// Its value; with a leading axis of instances when the inputs had one.
    pub value: Tensor64,
}

/// Puts results together from the slots of the output vectors and the results of the public program.
///
/// # Errors
/// [`RuntimeError::Mismatch`] when vectors or slots are missing.
pub fn unpack(
    meta: &SlotsMeta,
    outputs: &[Vec<f64>],
    public: &[Vec<Vec<f64>>],
    instances: Option<usize>,
) -> Result<Vec<Unpacked>, RuntimeError> {
    let slot = |vector: u32, slot: usize| {
        outputs
            .get(vector as usize)
            .and_then(|v| v.get(slot))
            .copied()
            .ok_or_else(|| {
                RuntimeError::Mismatch(format!("there is no slot {slot} of output vector {vector}"))
            })
    };
    let count = instances.unwrap_or(1);
    meta.results
        .iter()
        .map(|result| {
            let size = elements(&result.shape);
            let mut data = Vec::with_capacity(size * count);
            for i in 0..count {
                match &result.unpack {
                    Unpack::Slots(places) => {
                        for (vector, s) in places {
                            data.push(slot(*vector, *s as usize)?);
                        }
                    }
                    Unpack::Instances(vectors) => {
                        for vector in vectors {
                            data.push(slot(*vector, i)?);
                        }
                    }
                    Unpack::Public(output) => {
                        let per_instance = public.get(*output as usize);
                        let values = per_instance.and_then(|v| v.get(i).or(v.last()));
                        data.extend_from_slice(values.ok_or_else(|| {
                            RuntimeError::Mismatch(format!("there is no public result {output}"))
                        })?);
                    }
                }
            }
            let shape: Vec<usize> = instances
                .into_iter()
                .chain(result.shape.iter().copied())
                .collect();
            if data.len() != elements(&shape) {
                return Err(RuntimeError::Mismatch(format!(
                    "result `{}` has {} values and its shape {shape:?} wants {}",
                    result.name,
                    data.len(),
                    elements(&shape)
                )));
            }
            Ok(Unpacked {
                name: result.name.clone(),
                value: Tensor64 { shape, data },
            })
        })
        .collect()
}
