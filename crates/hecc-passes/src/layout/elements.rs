//! One element per ciphertext, also with a batch of instances in the slots.
//!
//! Moving data costs nothing, every scalar product is one product of ciphertexts, and a weighted
//! sum of any width is one node. Nothing rotates.

use std::rc::Rc;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, NodeId, Real};
use hecc_ir::slots::{Coefficient, PackedOutput, SlotSource, Slots, Unpack};
use hecc_ir::tensor::{Affine, ConstTensor, Secrecy, Tensor, TensorOp, elements};

use super::emit::Emitter;
use super::expand::{Algebra, expand, fixed, for_each_index, strides};
use super::public::{Known, PublicPart};

/// One element of a tensor that may be secret.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Elem {
    /// Known at compile time.
    Const(f64),
    /// Known at run time: this element of this node of the public circuit.
    Public(NodeId, u32),
    /// Encrypted.
    Cipher(NodeId),
}

/// Encrypted scalars.
struct Scalars {
    emit: Emitter,
    public: PublicPart,
    batch: Option<u32>,
    error: Option<Diagnostic>,
}

impl Scalars {
    fn known(&mut self, e: Elem) -> Option<Known> {
        match e {
            Elem::Const(v) => Some(Known::Const(ConstTensor::scalar(v))),
            Elem::Public(node, index) => {
                let span = self.emit.span;
                Some(Known::Runtime(self.public.element(node, index, span)))
            }
            Elem::Cipher(_) => None,
        }
    }

    /// An operation on two known elements.
    fn fold(&mut self, op: &TensorOp, a: Elem, b: Elem) -> Option<Elem> {
        if let (Elem::Const(a), Elem::Const(b)) = (a, b) {
            let folded = match op {
                TensorOp::Add => Some(a + b),
                TensorOp::Sub => Some(a - b),
                TensorOp::Mul => Some(a * b),
                _ => None,
            };
            if let Some(v) = folded {
                return Some(Elem::Const(v));
            }
        }
        let (a, b) = (self.known(a)?, self.known(b)?);
        let span = self.emit.span;
        match self.public.apply(op, &[a, b], span) {
            Ok(Known::Const(c)) => Some(Elem::Const(c.data()[0])),
            Ok(Known::Runtime(id)) => Some(Elem::Public(id, 0)),
            Err(d) => {
                self.error.get_or_insert(d);
                Some(Elem::Const(1.0))
            }
        }
    }

    fn plain(&mut self, node: NodeId, index: u32) -> hecc_ir::slots::PlainId {
        let output = self.public.output(node);
        let range = self.public.range(node);
        let source = if self.batch.is_some() {
            SlotSource::Instances(index)
        } else {
            SlotSource::Element(index)
        };
        self.emit.public(output, source, range)
    }
}

impl Algebra for Scalars {
    type Elem = Elem;

    fn constant(&mut self, value: f64) -> Elem {
        Elem::Const(value)
    }

    fn add(&mut self, a: &Elem, b: &Elem) -> Elem {
        match (*a, *b) {
            (Elem::Cipher(a), Elem::Cipher(b)) => Elem::Cipher(self.emit.add(a, b)),
            (Elem::Cipher(a), Elem::Const(v)) | (Elem::Const(v), Elem::Cipher(a)) => {
                let p = self.emit.uniform(v);
                Elem::Cipher(self.emit.add_plain(a, p))
            }
            (Elem::Cipher(a), Elem::Public(n, i)) | (Elem::Public(n, i), Elem::Cipher(a)) => {
                let p = self.plain(n, i);
                Elem::Cipher(self.emit.add_plain(a, p))
            }
            (a, b) => self.fold(&TensorOp::Add, a, b).expect("both are known"),
        }
    }

    fn sub(&mut self, a: &Elem, b: &Elem) -> Elem {
        match (*a, *b) {
            (Elem::Cipher(a), Elem::Cipher(b)) => Elem::Cipher(self.emit.sub(a, b)),
            (Elem::Cipher(a), Elem::Const(v)) => {
                let p = self.emit.uniform(-v);
                Elem::Cipher(self.emit.add_plain(a, p))
            }
            (Elem::Cipher(a), Elem::Public(n, i)) => {
                let p = self.plain(n, i);
                Elem::Cipher(self.emit.sub_plain(a, p))
            }
            (a, Elem::Cipher(b)) => {
                let minus = Elem::Cipher(self.emit.neg(b));
                self.add(&a, &minus)
            }
            (a, b) => self.fold(&TensorOp::Sub, a, b).expect("both are known"),
        }
    }

    fn mul(&mut self, a: &Elem, b: &Elem) -> Elem {
        match (*a, *b) {
            (Elem::Cipher(a), Elem::Cipher(b)) => Elem::Cipher(self.emit.mul(a, b)),
            (Elem::Cipher(_), Elem::Const(0.0)) | (Elem::Const(0.0), Elem::Cipher(_)) => {
                Elem::Const(0.0)
            }
            (Elem::Cipher(a), Elem::Const(v)) | (Elem::Const(v), Elem::Cipher(a)) => {
                Elem::Cipher(self.emit.scale(a, v))
            }
            (Elem::Cipher(a), Elem::Public(n, i)) | (Elem::Public(n, i), Elem::Cipher(a)) => {
                let p = self.plain(n, i);
                Elem::Cipher(if self.batch.is_some() {
                    self.emit.mul_plain(a, p)
                } else {
                    self.emit.linear(vec![(Coefficient::Plain(p), a)])
                })
            }
            (a, b) => self.fold(&TensorOp::Mul, a, b).expect("both are known"),
        }
    }

    fn div(&mut self, a: &Elem, b: &Elem) -> Elem {
        // a division is a multiplication by a reciprocal before it comes here, unless all is known
        self.fold(&TensorOp::Div, *a, *b).unwrap_or(*a)
    }

    fn neg(&mut self, a: &Elem) -> Elem {
        match *a {
            Elem::Cipher(a) => Elem::Cipher(self.emit.neg(a)),
            Elem::Const(v) => Elem::Const(-v),
            Elem::Public(..) => self.sub(&Elem::Const(0.0), a),
        }
    }

    fn dot(&mut self, terms: &[(Elem, Option<Elem>)]) -> Elem {
        let one = Coefficient::Const(Real(1.0));
        let mut sum: Vec<(Coefficient, NodeId)> = Vec::with_capacity(terms.len());
        let mut known = Elem::Const(0.0);
        for (a, b) in terms {
            let (coefficient, factor) = match (*a, *b) {
                (Elem::Cipher(a), None) => (one, a),
                (Elem::Cipher(a), Some(Elem::Const(c)))
                | (Elem::Const(c), Some(Elem::Cipher(a))) => {
                    if c == 0.0 {
                        continue;
                    }
                    (Coefficient::Const(Real(c)), a)
                }
                (Elem::Cipher(a), Some(Elem::Public(n, i)))
                | (Elem::Public(n, i), Some(Elem::Cipher(a)))
                    if self.batch.is_none() =>
                {
                    (Coefficient::Plain(self.plain(n, i)), a)
                }
                (a, b) => {
                    let product = match b {
                        Some(b) => self.mul(&a, &b),
                        None => a,
                    };
                    match product {
                        Elem::Cipher(p) => (one, p),
                        _ => {
                            known = self.add(&known, &product);
                            continue;
                        }
                    }
                }
            };
            sum.push((coefficient, factor));
        }
        if sum.is_empty() {
            return known;
        }
        let sum = Elem::Cipher(self.emit.linear(sum));
        self.add(&sum, &known)
    }
}

/// Lowers a flat circuit with one element per ciphertext.
///
/// # Errors
/// E3201 for a division by a public value that may be zero.
pub(crate) fn lower(
    circuit: &Circuit<Tensor>,
    public: PublicPart,
) -> Result<Circuit<Slots>, Diagnostic> {
    let graph = &circuit.graph;
    let batch = circuit.meta.batch;
    let slots = batch.map_or(1, |b| (b as usize).next_power_of_two());
    let mut scalars = Scalars {
        emit: Emitter::new(&circuit.name, slots),
        public,
        batch,
        error: None,
    };
    let live = circuit.live();
    let mut uses = vec![0u32; graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        for o in graph.operands(id) {
            uses[o.index()] += 1;
        }
    }
    for (id, _) in &circuit.outputs {
        uses[id.index()] += 1;
    }
    let mut values: Vec<Option<Rc<Vec<Elem>>>> = vec![None; graph.len()];
    for id in graph.ids() {
        if !live[id.index()] || scalars.public.secrecy[id.index()] == Secrecy::Public {
            continue;
        }
        let node = graph.node(id);
        scalars.emit.span = node.span;
        let result = if let TensorOp::Input(i) = node.op {
            let param = &circuit.inputs[i as usize];
            let range = match batch {
                // slots past the last instance hold zero
                Some(_) => super::public::intervals::hull(
                    param.interval(),
                    hecc_ir::graph::Interval::new(0.0, 0.0),
                ),
                None => param.interval(),
            };
            let mut inputs = Vec::with_capacity(elements(&param.shape));
            for_each_index(&param.shape, |at| {
                let e = inputs.len() as u32;
                let source = match batch {
                    Some(_) => SlotSource::Instances(e),
                    None => SlotSource::Element(e),
                };
                let label = || super::label(&param.name, at);
                inputs.push(Elem::Cipher(scalars.emit.input(i, source, range, label)));
            });
            Rc::new(inputs)
        } else {
            let ids = graph.operands(id);
            let mut op = &node.op;
            let mut operands: Vec<Rc<Vec<Elem>>> = Vec::with_capacity(ids.len());
            for (place, o) in ids.iter().enumerate() {
                if scalars.public.secrecy[o.index()] == Secrecy::Public {
                    let mut known = scalars.public.known[o.index()]
                        .clone()
                        .expect("public operands were computed");
                    if place == 1 && matches!(op, TensorOp::Div) {
                        known = scalars.public.reciprocal(&known, node.span)?;
                        op = &TensorOp::Mul;
                    }
                    operands.push(Rc::new(known_elements(
                        &known,
                        elements(graph.ty(*o).shape()),
                    )));
                } else {
                    uses[o.index()] -= 1;
                    let value = &mut values[o.index()];
                    operands.push(
                        if uses[o.index()] == 0 {
                            value.take()
                        } else {
                            value.clone()
                        }
                        .expect("operands come first"),
                    );
                }
            }
            let shapes: Vec<&[usize]> = ids.iter().map(|o| graph.ty(*o).shape()).collect();
            compute(&mut scalars, op, operands, &shapes, node.ty.shape())
        };
        if let Some(error) = scalars.error.take() {
            return Err(error);
        }
        if node.declared.is_some() || node.keep {
            for e in result.iter() {
                if let Elem::Cipher(c) = e {
                    scalars.emit.inherit(*c, node);
                }
            }
        }
        values[id.index()] = Some(result);
    }
    finish(circuit, scalars, &values)
}

fn known_elements(known: &Known, count: usize) -> Vec<Elem> {
    match known {
        Known::Const(c) => c.data().iter().map(|v| Elem::Const(*v)).collect(),
        Known::Runtime(id) => (0..count as u32).map(|i| Elem::Public(*id, i)).collect(),
    }
}

/// One operation; what is written into a tensor that nothing else reads is written in place.
fn compute(
    scalars: &mut Scalars,
    op: &TensorOp,
    mut operands: Vec<Rc<Vec<Elem>>>,
    shapes: &[&[usize]],
    out: &[usize],
) -> Rc<Vec<Elem>> {
    match op {
        TensorOp::Reshape(_) => operands.swap_remove(0),
        TensorOp::Update { starts } => {
            let block = operands.swap_remove(1);
            let mut whole = operands.swap_remove(0);
            let s = strides(out);
            let base: usize = starts
                .iter()
                .map(fixed_place)
                .zip(&s)
                .map(|(a, s)| a * s)
                .sum();
            let target = Rc::make_mut(&mut whole);
            let mut index = 0;
            for_each_index(shapes[1], |at| {
                let place = base + at.iter().zip(&s).map(|(a, s)| a * s).sum::<usize>();
                target[place] = block[index];
                index += 1;
            });
            whole
        }
        TensorOp::Concat(axis) if out[..*axis].iter().all(|n| *n == 1) => {
            let mut rest = operands.split_off(1);
            let mut whole = operands.swap_remove(0);
            let target = Rc::make_mut(&mut whole);
            for part in rest.drain(..) {
                target.extend_from_slice(&part);
            }
            whole
        }
        _ => {
            let slices: Vec<&[Elem]> = operands.iter().map(|o| o.as_slice()).collect();
            Rc::new(expand(scalars, op, &slices, shapes, out))
        }
    }
}

fn fixed_place(a: &Affine) -> usize {
    fixed(a) as usize
}

fn finish(
    circuit: &Circuit<Tensor>,
    mut scalars: Scalars,
    values: &[Option<Rc<Vec<Elem>>>],
) -> Result<Circuit<Slots>, Diagnostic> {
    let mut outputs: Vec<NodeId> = Vec::new();
    let mut results = Vec::new();
    for (id, decl) in &circuit.outputs {
        let node = circuit.graph.node(*id);
        scalars.emit.span = node.span;
        let unpack = match &values[id.index()] {
            None => {
                let known = scalars.public.known[id.index()]
                    .clone()
                    .expect("a result is secret or known");
                Unpack::Public(scalars.public.output_of(&known, node.span))
            }
            Some(elems) => {
                let mut places = Vec::with_capacity(elems.len());
                for e in elems.iter() {
                    let cipher = encrypted(&mut scalars, *e);
                    if let Some(range) = decl.range {
                        scalars.emit.declare(cipher, range);
                    }
                    places.push(outputs.len() as u32);
                    outputs.push(cipher);
                }
                match circuit.meta.batch {
                    Some(_) => Unpack::Instances(places),
                    None => Unpack::Slots(places.into_iter().map(|o| (o, 0)).collect()),
                }
            }
        };
        results.push(PackedOutput {
            name: decl.name.clone(),
            shape: node.ty.shape().to_vec(),
            unpack,
        });
    }
    let mut lowered = scalars.emit.finish(&outputs, results);
    lowered.meta.batch = circuit.meta.batch;
    lowered.meta.public = scalars.public.finish();
    Ok(lowered)
}

/// A ciphertext for an element that a result must hold encrypted although it is known.
fn encrypted(scalars: &mut Scalars, e: Elem) -> NodeId {
    match e {
        Elem::Cipher(c) => c,
        Elem::Const(_) | Elem::Public(..) => {
            let of = scalars
                .emit
                .any_input()
                .expect("a secret result has a secret input");
            let zero = Elem::Cipher(scalars.emit.zero(of));
            match scalars.add(&zero, &e) {
                Elem::Cipher(c) => c,
                Elem::Const(_) | Elem::Public(..) => of,
            }
        }
    }
}
