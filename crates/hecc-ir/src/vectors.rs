//! Evaluates circuits on slot vectors in any [`Algebra`], and moves values between tensors and slots.
//!
//! Both lowered dialects are meant here by their values alone: scales, levels, noise and rounding
//! do not show. A vector has S values; a rotation acts modulo S. In a complex circuit it has 2·S, the real
//! parts and then the imaginary ones: no algebra needs a square root of −1.

use crate::algebra::Algebra;
use crate::ckks::{Ckks, CkksOp};
use crate::graph::{Circuit, Dialect, NodeId};
use crate::interp::{EvalError, TensorValue};
use crate::slots::{
    Coefficient, PackedInput, PlainSource, SlotMap, SlotSource, Slots, SlotsMeta, SlotsOp, Unpack,
};
use crate::span::Span;

/// Fills a vector of `slots` values from one tensor, given as one value an instance of the batch
/// (one alone outside a batch, which then fills every slot of [`SlotSource::Instances`]; slots past the
/// last instance hold zero).
///
/// # Errors
/// [`EvalError::Inputs`] when the source names an element that is not there.
pub fn pack<A: Algebra>(
    algebra: &A,
    source: &SlotSource,
    slots: usize,
    instances: &[&TensorValue<A::Value>],
) -> Result<Vec<A::Value>, EvalError> {
    let missing = |e: u32| EvalError::Inputs(format!("there is no element {e} to pack"));
    let first = *instances
        .first()
        .ok_or_else(|| EvalError::Inputs("there is no instance to pack".to_owned()))?;
    let element = |v: &TensorValue<A::Value>, e: u32| {
        v.data().get(e as usize).cloned().ok_or_else(|| missing(e))
    };
    match source {
        SlotSource::Map(SlotMap(map)) => map
            .iter()
            .map(|&e| {
                if e == SlotMap::EMPTY {
                    Ok(algebra.zero())
                } else {
                    element(first, e)
                }
            })
            .collect(),
        SlotSource::Element(e) => Ok(vec![element(first, *e)?; slots]),
        SlotSource::Instances(e) => (0..slots)
            .map(|i| match instances {
                [only] => element(only, *e),
                _ => match instances.get(i) {
                    Some(v) => element(v, *e),
                    None => Ok(algebra.zero()),
                },
            })
            .collect(),
    }
}

/// The values of every encrypted input vector, from the values of the source circuit's parameters:
/// `params[i][k]` is parameter i of instance k.
///
/// # Errors
/// [`EvalError::Inputs`] when a parameter or an element is not there.
pub fn pack_inputs<'a, A: Algebra>(
    algebra: &A,
    inputs: impl IntoIterator<Item = &'a PackedInput>,
    slots: usize,
    params: &[Vec<TensorValue<A::Value>>],
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    inputs
        .into_iter()
        .map(|input| {
            let instances: Vec<_> = params
                .get(input.param as usize)
                .ok_or_else(|| EvalError::Inputs(format!("there is no parameter {}", input.param)))?
                .iter()
                .collect();
            pack(algebra, &input.source, slots, &instances)
        })
        .collect()
}

/// The values of every plaintext: `public[k][j]` is result j of the public program for instance k
/// of the batch (empty when there is no public program).
///
/// # Errors
/// [`EvalError::Inputs`] when a result or an element is not there, [`EvalError::Constant`] when a
/// value is not in the algebra.
pub fn resolve_plains<A: Algebra>(
    algebra: &A,
    meta: &SlotsMeta,
    public: &[Vec<TensorValue<A::Value>>],
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    let lift = |x: f64| {
        algebra.lift(x).ok_or(EvalError::Constant {
            span: Span::default(),
        })
    };
    meta.plains
        .iter()
        .map(|plain| match &plain.source {
            PlainSource::Uniform(x) => Ok(vec![lift(*x)?; meta.values()]),
            PlainSource::Vector(v) => v.iter().map(|&x| lift(x)).collect(),
            PlainSource::Public { output, source } => {
                let instances: Option<Vec<_>> = public
                    .iter()
                    .map(|results| results.get(*output as usize))
                    .collect();
                let instances = instances.ok_or_else(|| {
                    EvalError::Inputs(format!("the public program has no result {output}"))
                })?;
                pack(algebra, source, meta.values(), &instances)
            }
        })
        .collect()
}

/// The results of the source circuit for `instances` instances, from output vectors and the
/// results of the public program: `[k][j]` is result j of instance k.
///
/// # Errors
/// [`EvalError::Inputs`] when an output vector, a slot or a public result is not there.
pub fn unpack<V: Clone>(
    meta: &SlotsMeta,
    outputs: &[Vec<V>],
    public: &[Vec<TensorValue<V>>],
    instances: usize,
) -> Result<Vec<Vec<TensorValue<V>>>, EvalError> {
    let slot = |vector: u32, slot: usize| {
        outputs
            .get(vector as usize)
            .and_then(|v| v.get(slot))
            .cloned()
            .ok_or_else(|| EvalError::Inputs(format!("there is no slot {slot} of output {vector}")))
    };
    (0..instances)
        .map(|k| {
            meta.results
                .iter()
                .map(|result| {
                    let data = match &result.unpack {
                        Unpack::Slots(places) => places
                            .iter()
                            .map(|&(v, s)| slot(v, s as usize))
                            .collect::<Result<Vec<_>, _>>()?,
                        Unpack::Instances(vectors) => vectors
                            .iter()
                            .map(|&v| slot(v, k))
                            .collect::<Result<Vec<_>, _>>()?,
                        Unpack::Public(j) => {
                            return public
                                .get(if public.len() == 1 { 0 } else { k })
                                .and_then(|r| r.get(*j as usize))
                                .cloned()
                                .ok_or_else(|| {
                                    EvalError::Inputs(format!(
                                        "the public program has no result {j}"
                                    ))
                                });
                        }
                    };
                    TensorValue::new(result.shape.as_slice(), data).ok_or_else(|| {
                        EvalError::Inputs(format!(
                            "{} has another count of elements than its shape",
                            result.name
                        ))
                    })
                })
                .collect()
        })
        .collect()
}

/// What one operation of [`Slots`] yields. `inputs` are the encrypted inputs, `plains` the plaintexts;
/// `complex` says of what circuit.
///
/// # Errors
/// [`EvalError`] when the operation and what it refers to do not fit.
pub fn slots_op<A: Algebra>(
    algebra: &A,
    op: &SlotsOp,
    operands: &[&[A::Value]],
    inputs: &[Vec<A::Value>],
    plains: &[Vec<A::Value>],
    complex: bool,
) -> Result<Vec<A::Value>, EvalError> {
    let v = Vectors {
        algebra,
        operands,
        plains,
        complex,
    };
    match op {
        SlotsOp::Input(i) => listed(inputs, *i, "input"),
        SlotsOp::Plain(p) => listed(plains, p.0, "plaintext"),
        SlotsOp::Add => v.zip(|x, y| algebra.add(x, y)),
        SlotsOp::Sub => v.zip(|x, y| algebra.sub(x, y)),
        SlotsOp::Mul => v.product(),
        SlotsOp::Neg => v.map(|x| algebra.neg(x)),
        SlotsOp::Square => v.square(),
        SlotsOp::LinComb(coefficients) => v.combine(coefficients),
        SlotsOp::Rotate(k) => v.rotate(k.0),
        SlotsOp::Conjugate => v.conjugate(),
        SlotsOp::TimesI => v.times_i(),
    }
}

/// What one operation of [`Ckks`] yields, noise and rounding aside. `inputs` are the encrypted
/// inputs, `plains` the plaintexts; `complex` says of what circuit.
///
/// # Errors
/// [`EvalError`] when the operation and what it refers to do not fit.
pub fn ckks_op<A: Algebra>(
    algebra: &A,
    op: &CkksOp,
    operands: &[&[A::Value]],
    inputs: &[Vec<A::Value>],
    plains: &[Vec<A::Value>],
    complex: bool,
) -> Result<Vec<A::Value>, EvalError> {
    let v = Vectors {
        algebra,
        operands,
        plains,
        complex,
    };
    match op {
        CkksOp::Input(i) => listed(inputs, *i, "input"),
        CkksOp::Encode { plain, .. } => listed(plains, plain.0, "plaintext"),
        CkksOp::Add => v.zip(|x, y| algebra.add(x, y)),
        CkksOp::Sub => v.zip(|x, y| algebra.sub(x, y)),
        CkksOp::Mul => v.product(),
        CkksOp::Neg => v.map(|x| algebra.neg(x)),
        CkksOp::Square => v.square(),
        CkksOp::AddScalar(c) => {
            let c = v.coefficient(c)?;
            v.map(|x| algebra.add(x, &c))
        }
        CkksOp::MulScalar { value, .. } => {
            let c = v.coefficient(value)?;
            v.map(|x| algebra.mul(x, &c))
        }
        CkksOp::LinComb { coefficients, .. } => v.combine(coefficients),
        CkksOp::Rotate(k) => v.rotate(k.0),
        CkksOp::Conjugate => v.conjugate(),
        CkksOp::TimesI => v.times_i(),
        CkksOp::Relinearize | CkksOp::Rescale { .. } | CkksOp::DropLevel(_) => v.map(|x| x.clone()),
    }
}

/// The values of every output vector of a slots circuit.
///
/// # Errors
/// [`EvalError`] when inputs or plaintexts do not fit the circuit.
pub fn eval_slots<A: Algebra>(
    algebra: &A,
    circuit: &Circuit<Slots>,
    inputs: &[Vec<A::Value>],
    plains: &[Vec<A::Value>],
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    check_inputs::<A, Slots>(circuit, circuit.meta.values(), inputs)?;
    eval_flat::<A, Slots>(
        circuit,
        |op, operands| slots_op(algebra, op, operands, inputs, plains, circuit.meta.complex),
        |_, _| Ok(()),
    )
}

/// The values of every output vector of a CKKS circuit, noise aside.
///
/// # Errors
/// [`EvalError`] when inputs or plaintexts do not fit the circuit.
pub fn eval_ckks<A: Algebra>(
    algebra: &A,
    circuit: &Circuit<Ckks>,
    inputs: &[Vec<A::Value>],
    plains: &[Vec<A::Value>],
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    eval_ckks_with(algebra, circuit, inputs, plains, |_, _| Ok(()))
}

/// [`eval_ckks`] that shows each node's values to a visitor as soon as they are computed.
///
/// # Errors
/// [`EvalError`], the visitor's included.
pub fn eval_ckks_with<A: Algebra>(
    algebra: &A,
    circuit: &Circuit<Ckks>,
    inputs: &[Vec<A::Value>],
    plains: &[Vec<A::Value>],
    visitor: impl FnMut(NodeId, &[A::Value]) -> Result<(), EvalError>,
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    check_inputs::<A, Ckks>(circuit, circuit.meta.values(), inputs)?;
    eval_flat::<A, Ckks>(
        circuit,
        |op, operands| ckks_op(algebra, op, operands, inputs, plains, circuit.meta.complex),
        visitor,
    )
}

fn check_inputs<A: Algebra, D: Dialect>(
    circuit: &Circuit<D>,
    slots: usize,
    inputs: &[Vec<A::Value>],
) -> Result<(), EvalError> {
    if inputs.len() != circuit.inputs.len() || inputs.iter().any(|v| v.len() != slots) {
        return Err(EvalError::Inputs(format!(
            "{} takes {} vectors of {slots} slots",
            circuit.name,
            circuit.inputs.len()
        )));
    }
    Ok(())
}

/// A forward sweep that frees each vector after its last use.
fn eval_flat<A: Algebra, D: Dialect>(
    circuit: &Circuit<D>,
    op: impl Fn(&D::Op, &[&[A::Value]]) -> Result<Vec<A::Value>, EvalError>,
    mut visitor: impl FnMut(NodeId, &[A::Value]) -> Result<(), EvalError>,
) -> Result<Vec<Vec<A::Value>>, EvalError> {
    let graph = &circuit.graph;
    let mut left = graph.use_counts();
    for (id, _) in &circuit.outputs {
        if let Some(n) = left.get_mut(id.index()) {
            *n += 1;
        }
    }
    let mut values: Vec<Vec<A::Value>> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let operands = graph.operands(id);
        let value = {
            let slices: smallvec::SmallVec<[&[A::Value]; 4]> = operands
                .iter()
                .map(|o| values[o.index()].as_slice())
                .collect();
            op(graph.op(id), &slices)?
        };
        visitor(id, &value)?;
        for o in operands {
            left[o.index()] -= 1;
            if left[o.index()] == 0 {
                values[o.index()] = Vec::new();
            }
        }
        values.push(if left[id.index()] == 0 {
            Vec::new()
        } else {
            value
        });
    }
    circuit
        .outputs
        .iter()
        .map(|(id, _)| {
            values
                .get(id.index())
                .cloned()
                .ok_or_else(|| mismatch(&format!("output {id} is no node")))
        })
        .collect()
}

fn mismatch(reason: &str) -> EvalError {
    EvalError::Malformed {
        span: Span::default(),
        reason: reason.to_owned(),
    }
}

fn listed<V: Clone>(list: &[Vec<V>], i: u32, what: &str) -> Result<Vec<V>, EvalError> {
    list.get(i as usize)
        .cloned()
        .ok_or_else(|| mismatch(&format!("there is no {what} {i}")))
}

/// Real and imaginary parts of a vector.
type Halves<'a, V> = (&'a [V], &'a [V]);

struct Vectors<'a, A: Algebra> {
    algebra: &'a A,
    operands: &'a [&'a [A::Value]],
    plains: &'a [Vec<A::Value>],
    complex: bool,
}

impl<'a, A: Algebra> Vectors<'a, A> {
    fn operand(&self, i: usize) -> Result<&'a [A::Value], EvalError> {
        self.operands
            .get(i)
            .copied()
            .ok_or_else(|| mismatch(&format!("there is no operand {i}")))
    }

    fn map(&self, f: impl Fn(&A::Value) -> A::Value) -> Result<Vec<A::Value>, EvalError> {
        Ok(self.operand(0)?.iter().map(f).collect())
    }

    fn zip(
        &self,
        f: impl Fn(&A::Value, &A::Value) -> A::Value,
    ) -> Result<Vec<A::Value>, EvalError> {
        let (x, y) = (self.operand(0)?, self.operand(1)?);
        if x.len() != y.len() {
            return Err(mismatch("operands of different length"));
        }
        Ok(x.iter().zip(y).map(|(x, y)| f(x, y)).collect())
    }

    /// The real and the imaginary parts of an operand.
    fn parts(&self, i: usize) -> Result<Halves<'a, A::Value>, EvalError> {
        let v = self.operand(i)?;
        if self.complex && v.len() % 2 == 0 {
            Ok(v.split_at(v.len() / 2))
        } else {
            Err(mismatch("a vector without imaginary parts"))
        }
    }

    fn product(&self) -> Result<Vec<A::Value>, EvalError> {
        let a = self.algebra;
        if !self.complex {
            return self.zip(|x, y| a.mul(x, y));
        }
        let ((xr, xi), (yr, yi)) = (self.parts(0)?, self.parts(1)?);
        if xr.len() != yr.len() {
            return Err(mismatch("operands of different length"));
        }
        let n = xr.len();
        let re = (0..n).map(|s| a.sub(&a.mul(&xr[s], &yr[s]), &a.mul(&xi[s], &yi[s])));
        let im = (0..n).map(|s| a.add(&a.mul(&xr[s], &yi[s]), &a.mul(&xi[s], &yr[s])));
        Ok(re.chain(im).collect())
    }

    fn square(&self) -> Result<Vec<A::Value>, EvalError> {
        let a = self.algebra;
        if !self.complex {
            return self.map(|x| a.square(x));
        }
        let (re, im) = self.parts(0)?;
        let both = || re.iter().zip(im);
        let real = both().map(|(x, y)| a.sub(&a.square(x), &a.square(y)));
        let imaginary = both().map(|(x, y)| {
            let half = a.mul(x, y);
            a.add(&half, &half)
        });
        Ok(real.chain(imaginary).collect())
    }

    fn conjugate(&self) -> Result<Vec<A::Value>, EvalError> {
        let (re, im) = self.parts(0)?;
        let minus = im.iter().map(|y| self.algebra.neg(y));
        Ok(re.iter().cloned().chain(minus).collect())
    }

    fn times_i(&self) -> Result<Vec<A::Value>, EvalError> {
        let (re, im) = self.parts(0)?;
        let minus = im.iter().map(|y| self.algebra.neg(y));
        Ok(minus.chain(re.iter().cloned()).collect())
    }

    fn coefficient(&self, c: &Coefficient) -> Result<A::Value, EvalError> {
        match c {
            Coefficient::Const(x) => self.algebra.lift(x.0).ok_or(EvalError::Constant {
                span: Span::default(),
            }),
            Coefficient::Plain(p) => self
                .plains
                .get(p.0 as usize)
                .and_then(|v| v.first())
                .cloned()
                .ok_or_else(|| mismatch(&format!("there is no plaintext {}", p.0))),
        }
    }

    fn combine(&self, coefficients: &[Coefficient]) -> Result<Vec<A::Value>, EvalError> {
        let mut out = vec![self.algebra.zero(); self.operand(0)?.len()];
        for (i, c) in coefficients.iter().enumerate() {
            let c = self.coefficient(c)?;
            for (acc, x) in out.iter_mut().zip(self.operand(i)?) {
                self.algebra.mul_add(acc, &c, x);
            }
        }
        Ok(out)
    }

    fn rotate(&self, k: i32) -> Result<Vec<A::Value>, EvalError> {
        let mut out = self.operand(0)?.to_vec();
        if !out.is_empty() {
            let k = i64::from(k).rem_euclid(out.len() as i64) as usize;
            out.rotate_left(k);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::{Clear, F61};
    use crate::graph::{Interval, Real};
    use crate::slots::{PlainDef, PlainId};
    use hecc_params::RotationStep;

    #[test]
    fn vectors_follow_their_operations() {
        let s = Span::default();
        let mut c: Circuit<Slots> = Circuit::new("c");
        c.meta.slots = 4;
        c.meta.plains = vec![
            PlainDef {
                source: PlainSource::Vector(vec![1.0, 0.0, 1.0, 0.0].into()),
                range: Interval::UNIT,
            },
            PlainDef {
                source: PlainSource::Uniform(3.0),
                range: Interval::new(3.0, 3.0),
            },
        ];
        c.inputs = vec![PackedInput {
            param: 0,
            source: SlotSource::Map(SlotMap(vec![2, 1, 0, SlotMap::EMPTY].into())),
            range: Interval::UNIT,
            label: "x".to_owned(),
        }];
        let x = c.push(SlotsOp::Input(0), &[], s).expect("typed");
        let m = c.push(SlotsOp::Plain(PlainId(0)), &[], s).expect("typed");
        let r = c
            .push(SlotsOp::Rotate(RotationStep(-1)), &[x], s)
            .expect("typed");
        let q = c.push(SlotsOp::Square, &[r], s).expect("typed");
        let masked = c.push(SlotsOp::Mul, &[q, m], s).expect("typed");
        let l = c
            .push(
                SlotsOp::LinComb(vec![
                    Coefficient::Const(Real(0.5)),
                    Coefficient::Plain(PlainId(1)),
                ]),
                &[masked, x],
                s,
            )
            .expect("typed");
        c.outputs.push((l, ()));
        let tensor = TensorValue::new(crate::tensor::Shape::from_slice(&[3]), vec![1.0, 2.0, 4.0])
            .expect("three elements");
        let inputs = pack_inputs(&Clear, &c.inputs, 4, &[vec![tensor.clone()]]).expect("packs");
        assert_eq!(inputs, [vec![4.0, 2.0, 1.0, 0.0]]);
        let plains = resolve_plains(&Clear, &c.meta, &[]).expect("resolves");
        let out = eval_slots(&Clear, &c, &inputs, &plains).expect("evaluates");
        // rotated right: 0 4 2 1; squared and masked: 0 0 4 0; halved plus 3x.
        assert_eq!(out, [vec![12.0, 6.0, 5.0, 0.0]]);
        let f = |x: &f64| F61.lift(*x).expect("finite");
        let inputs = pack_inputs(&F61, &c.inputs, 4, &[vec![tensor.map(f)]]).expect("packs");
        let plains = resolve_plains(&F61, &c.meta, &[]).expect("resolves");
        let exact = eval_slots(&F61, &c, &inputs, &plains).expect("evaluates");
        assert_eq!(exact[0], out[0].iter().map(f).collect::<Vec<_>>());
    }
}
