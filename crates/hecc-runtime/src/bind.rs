//! From values that a caller names to the parameters of a circuit, checked.

use std::fmt;
use std::sync::Arc;

use hecc_ir::algebra::Clear;
use hecc_ir::graph::Interval;
use hecc_ir::interp::{TensorValue, eval_circuit};
use hecc_ir::program::Program;
use hecc_ir::tensor::{Param, Secrecy, elements, shape_name};
use thiserror::Error;

/// A dense row-major tensor of numbers, of no promised shape or range.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor64 {
    /// Extents; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, row-major, as many as the extents say.
    pub data: Vec<f64>,
}

/// Which parameters the caller has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// The secret ones: what is encrypted.
    Secret,
    /// The public ones: what the evaluator knows.
    Public,
}

impl Wanted {
    fn covers(self, secrecy: Secrecy) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Secret => secrecy == Secrecy::Secret,
            Wanted::Public => secrecy == Secrecy::Public,
        }
    }
}

/// What is wrong with the values given.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum BindError {
    /// No parameter has this name.
    #[error("there is no parameter `{name}`: the circuit's are {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A name was given twice.
    #[error("`{0}` is given twice: give it once")]
    Duplicate(String),
    /// Parameters that were not given.
    #[error("missing: {0}")]
    Missing(String),
    /// A parameter that does not belong here.
    #[error("`{name}` is {}: {help}", if *.secret { "secret" } else { "public" })]
    Elsewhere {
        /// Its name.
        name: String,
        /// Whether it is secret.
        secret: bool,
        /// Where it is to be given.
        help: &'static str,
    },
    /// Another shape than declared.
    #[error("`{name}` is declared {declared} and the value is {}{}", shape_name(found), Batch(*batch))]
    Shape {
        /// Its name.
        name: String,
        /// As the program declares it.
        declared: String,
        /// What was given.
        found: Vec<usize>,
        /// With `@batch`, how many instances there may be.
        batch: Option<u32>,
    },
    /// As many values as the shape says are not there.
    #[error("`{name}` has {found} values and its shape {shape:?} wants {wanted}")]
    Count {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
        /// Values wanted.
        wanted: usize,
    },
    /// Parameters with different counts of instances.
    #[error(
        "`{name}` has {found} instances and `{other}` has {wanted}: give as many of each, or one"
    )]
    Instances {
        /// Its name.
        name: String,
        /// How many it has.
        found: usize,
        /// The other parameter.
        other: String,
        /// How many that one has.
        wanted: usize,
    },
    /// What the client computes from its parameters has no value.
    #[error("what is computed from the inputs before encryption has no value: {0}")]
    Client(String),
    /// NaN or infinity.
    #[error("`{name}`{place} is {value}: only finite numbers can be used")]
    NotFinite {
        /// Its name.
        name: String,
        /// Which element, as `[i, j]`.
        place: String,
        /// Its value.
        value: f64,
    },
    /// A value outside the declared range.
    #[error(
        "`{name}`{place} is {value}, outside [{}, {}], the range {}: scale the input, or declare `in [LO, HI]` wide enough",
        range.lo, range.hi, if *.declared { "that the circuit declares" } else { "that is assumed where none is declared" }
    )]
    Range {
        /// Its name.
        name: String,
        /// Which element, as `[i, j]`.
        place: String,
        /// Its value.
        value: f64,
        /// The range.
        range: Interval,
        /// Whether the program declares it.
        declared: bool,
    },
}

struct Batch(Option<u32>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(_) => f.write_str(": give that shape, or one more leading axis for instances"),
            None => f.write_str(": give exactly that shape"),
        }
    }
}

/// Checked values of a circuit's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Bindings {
    instances: Option<usize>,
    values: Vec<Option<Bound>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bound {
    /// Elements of one instance.
    size: usize,
    /// How many instances; a single one stands for all.
    count: usize,
    data: Arc<[f64]>,
}

impl Bindings {
    /// How many instances were given along a leading axis; `None` when values have the declared shapes.
    pub fn instances(&self) -> Option<usize> {
        self.instances
    }

    /// How many instances there are to compute, at least 1.
    pub fn count(&self) -> usize {
        self.instances.unwrap_or(1)
    }

    /// The values of a parameter in one instance, row-major; past the last instance, those of the
    /// last one. `None` when the parameter was not given.
    pub fn instance(&self, param: usize, instance: usize) -> Option<&[f64]> {
        let bound = self.values.get(param)?.as_ref()?;
        let at = instance.min(bound.count - 1) * bound.size;
        bound.data.get(at..at + bound.size)
    }

    /// Takes over the count of instances that another party's values have.
    ///
    /// # Errors
    /// [`BindError::Instances`] when these values come in another count.
    pub fn with_instances(mut self, other: Option<usize>) -> Result<Bindings, BindError> {
        self.instances = match (self.instances, other) {
            (Some(found), Some(wanted)) if found != wanted => {
                return Err(BindError::Instances {
                    name: "public input".to_owned(),
                    found,
                    other: "the encrypted input".to_owned(),
                    wanted,
                });
            }
            (here, there) => here.or(there),
        };
        Ok(self)
    }
}

/// Checks values against a circuit's parameters: names, shapes, counts, NaN and ranges.
///
/// With `batch`, a value may have one more leading axis of up to that many instances.
///
/// # Errors
/// Everything that is wrong, at most one [`BindError`] a parameter, never empty.
pub fn bind(
    params: &[Param],
    batch: Option<u32>,
    given: Vec<(String, Tensor64)>,
    wanted: Wanted,
) -> Result<Bindings, Vec<BindError>> {
    let mut errors = Vec::new();
    let mut values: Vec<Option<Bound>> = vec![None; params.len()];
    let mut seen = vec![false; params.len()];
    let mut instances: Option<(usize, &str)> = None;
    for (name, value) in given {
        let Some(index) = params.iter().position(|p| p.name == name) else {
            let known: Vec<String> = params.iter().map(|p| format!("`{}`", p.name)).collect();
            errors.push(BindError::Unknown {
                name,
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            });
            continue;
        };
        let param = &params[index];
        if std::mem::replace(&mut seen[index], true) {
            errors.push(BindError::Duplicate(name));
            continue;
        }
        if !wanted.covers(param.secrecy) {
            let secret = param.secrecy == Secrecy::Secret;
            errors.push(BindError::Elsewhere {
                name,
                secret,
                help: if secret {
                    "encrypt it, and give it in the file of encrypted inputs"
                } else {
                    "give it to whoever evaluates"
                },
            });
            continue;
        }
        match check(param, batch, value) {
            Err(error) => errors.push(error),
            Ok((bound, one_more_axis)) => {
                if one_more_axis {
                    match instances {
                        Some((wanted, other)) if wanted != bound.count => {
                            errors.push(BindError::Instances {
                                name,
                                found: bound.count,
                                other: other.to_owned(),
                                wanted,
                            });
                        }
                        Some(_) => {}
                        None => instances = Some((bound.count, &param.name)),
                    }
                }
                values[index] = Some(bound);
            }
        }
    }
    let missing: Vec<String> = params
        .iter()
        .zip(&seen)
        .filter(|(p, seen)| wanted.covers(p.secrecy) && !**seen)
        .map(|(p, _)| {
            let secrecy = match p.secrecy {
                Secrecy::Public => "public",
                Secrecy::Secret => "secret",
            };
            format!(
                "`{}` ({secrecy} {} in [{}, {}])",
                p.name,
                shape_name(&p.shape),
                p.interval().lo,
                p.interval().hi
            )
        })
        .collect();
    if !missing.is_empty() {
        errors.push(BindError::Missing(missing.join(", ")));
    }
    if errors.is_empty() {
        Ok(Bindings {
            instances: instances.map(|(n, _)| n),
            values,
        })
    } else {
        Err(errors)
    }
}

/// Adds what the client computes from its parameters before encryption, with `@precompute`: as
/// parameters after those of the program.
///
/// # Errors
/// [`BindError::Range`] when such a value lies outside the range that follows from the ranges of
/// the parameters, or that the program declares for it; [`BindError::Client`] when it has none.
pub fn derive(program: &Program, mut bindings: Bindings) -> Result<Bindings, Vec<BindError>> {
    let Some(client) = &program.circuit.meta.client else {
        return Ok(bindings);
    };
    let instances: Result<Vec<_>, BindError> = (0..bindings.count())
        .map(|i| {
            let inputs: Option<Vec<TensorValue<f64>>> = client
                .inputs
                .iter()
                .enumerate()
                .map(|(p, param)| {
                    // It reads no public parameter.
                    let data = match bindings.instance(p, i) {
                        Some(v) => v.to_vec(),
                        None => vec![0.0; elements(&param.shape)],
                    };
                    TensorValue::new(param.shape.clone(), data)
                })
                .collect();
            let inputs =
                inputs.ok_or_else(|| BindError::Client("a shape is not right".to_owned()))?;
            eval_circuit(&Clear, client, &inputs).map_err(|e| BindError::Client(e.to_string()))
        })
        .collect();
    let instances = instances.map_err(|e| vec![e])?;
    let mut errors = Vec::new();
    for (o, (_, decl)) in client.outputs.iter().enumerate() {
        let mut data = Vec::new();
        let mut size = 0;
        for outputs in &instances {
            let value = &outputs[o];
            size = value.data().len();
            if let Some(range) = decl.range
                && let Some((at, v)) = value
                    .data()
                    .iter()
                    .enumerate()
                    .find(|(_, v)| !range.contains(**v, 1e-9 * range.magnitude()))
            {
                errors.push(BindError::Range {
                    name: decl.name.clone(),
                    place: place(value.shape(), at),
                    value: *v,
                    range,
                    declared: true,
                });
                break;
            }
            data.extend_from_slice(value.data());
        }
        bindings.values.push(Some(Bound {
            size,
            count: instances.len(),
            data: data.into(),
        }));
    }
    if errors.is_empty() {
        Ok(bindings)
    } else {
        Err(errors)
    }
}

fn check(param: &Param, batch: Option<u32>, value: Tensor64) -> Result<(Bound, bool), BindError> {
    let name = || param.name.clone();
    let size = elements(&param.shape);
    let declared: &[usize] = &param.shape;
    let shape = &value.shape[..];
    let (count, one_more_axis) = match (batch, shape) {
        _ if shape == declared => (1, false),
        (Some(most), [n, rest @ ..]) if rest == declared && (1..=most as usize).contains(n) => {
            (*n, true)
        }
        _ => {
            return Err(BindError::Shape {
                name: name(),
                declared: shape_name(declared),
                found: value.shape,
                batch,
            });
        }
    };
    if Some(value.data.len()) != size.checked_mul(count) {
        return Err(BindError::Count {
            name: name(),
            found: value.data.len(),
            wanted: size.saturating_mul(count),
            shape: value.shape,
        });
    }
    let range = param.interval();
    for (i, &v) in value.data.iter().enumerate() {
        if !v.is_finite() {
            return Err(BindError::NotFinite {
                name: name(),
                place: place(shape, i),
                value: v,
            });
        }
        if !range.contains(v, 0.0) {
            return Err(BindError::Range {
                name: name(),
                place: place(shape, i),
                value: v,
                range,
                declared: param.range.is_some(),
            });
        }
    }
    let bound = Bound {
        size,
        count,
        data: value.data.into(),
    };
    Ok((bound, one_more_axis))
}

/// A row-major index as `[i, j]`; nothing for a scalar.
pub(crate) fn place(shape: &[usize], mut index: usize) -> String {
    let mut indices = Vec::with_capacity(shape.len());
    for &extent in shape.iter().rev() {
        indices.push(index % extent.max(1));
        index /= extent.max(1);
    }
    if indices.is_empty() {
        return String::new();
    }
    indices.reverse();
    format!("{indices:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hecc_ir::span::Span;

    fn param(name: &str, secrecy: Secrecy, shape: &[usize]) -> Param {
        Param {
            name: name.to_owned(),
            secrecy,
            shape: shape.into(),
            range: Some(Interval::new(-2.0, 2.0)),
            span: Span::default(),
        }
    }

    fn value(shape: &[usize], data: &[f64]) -> Tensor64 {
        Tensor64 {
            shape: shape.to_vec(),
            data: data.to_vec(),
        }
    }

    fn errors(given: Vec<(&str, Tensor64)>, batch: Option<u32>) -> Vec<String> {
        let params = [
            param("x", Secrecy::Secret, &[2]),
            param("k", Secrecy::Public, &[]),
        ];
        let given = given.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        match bind(&params, batch, given, Wanted::All) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn says_all_that_is_wrong() {
        let found = errors(
            vec![
                ("x", value(&[2], &[0.0, f64::NAN])),
                ("y", value(&[], &[1.0])),
                ("y2", value(&[], &[1.0])),
            ],
            None,
        );
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].contains("`x`[1] is NaN"), "{found:#?}");
        assert!(found[1].contains("`x`, `k`"), "{found:#?}");
        assert!(
            found[3].contains("`k` (public real in [-2, 2])"),
            "{found:#?}"
        );
    }

    #[test]
    fn checks_shape_range_and_repetition() {
        let k = || ("k", value(&[], &[1.0]));
        let one = |v: Tensor64, batch| errors(vec![("x", v), k()], batch).join("\n");
        assert!(
            one(value(&[3], &[0.0; 3]), None).contains("declared real[2] and the value is real[3]")
        );
        assert!(one(value(&[3, 2], &[0.0; 6]), None).contains("exactly that shape"));
        assert_eq!(one(value(&[3, 2], &[0.0; 6]), Some(4)), "");
        assert!(one(value(&[5, 2], &[0.0; 10]), Some(4)).contains("leading axis for instances"));
        assert!(one(value(&[2], &[0.0, 2.5]), None).contains("outside [-2, 2]"));
        assert!(one(value(&[2], &[0.0]), None).contains("1 values"));
        assert!(errors(vec![k(), k(), ("x", value(&[2], &[0.0; 2]))], None)[0].contains("twice"));
    }

    #[test]
    fn instances_agree_or_are_one() {
        let x = |n: usize| ("x", value(&[n, 2], &vec![0.0; 2 * n]));
        let k = |n: usize| ("k", value(&[n], &vec![0.5; n]));
        assert!(errors(vec![x(2), k(3)], Some(4))[0].contains("3 instances"));
        assert!(errors(vec![x(2), k(2)], Some(4)).is_empty());
        assert!(errors(vec![x(2), ("k", value(&[], &[0.5]))], Some(4)).is_empty());
    }
}
