//! Writing slot-vector circuits: a hash-consing builder with a table of plaintexts.

use std::sync::Arc;

use hecc_ir::graph::{Builder, Circuit, Interval, Node, NodeId, Operands, Real};
use hecc_ir::slots::{
    Coefficient, PackedInput, PackedOutput, PlainDef, PlainId, PlainSource, SlotSource, Slots,
    SlotsMeta, SlotsOp,
};
use hecc_ir::span::Span;
use hecc_ir::tensor::Tensor;
use hecc_params::RotationStep;
use rustc_hash::FxHashMap;

use super::public::intervals;

/// What makes two plaintexts the same.
#[derive(Clone, PartialEq, Eq, Hash)]
enum PlainKey {
    Uniform(Real),
    Vector(Arc<[u64]>),
    Public(u32, SlotSource),
}

/// Writes one circuit of slot vectors.
pub(crate) struct Emitter {
    builder: Builder<Slots>,
    known_inputs: FxHashMap<(u32, SlotSource), NodeId>,
    plains: Vec<PlainDef>,
    known_plains: FxHashMap<PlainKey, PlainId>,
    /// Slots of a vector.
    pub(crate) slots: usize,
    /// The source of what is being written.
    pub(crate) span: Span,
}

impl Emitter {
    /// An empty circuit of vectors of this many slots.
    pub(crate) fn new(name: &str, slots: usize) -> Emitter {
        Emitter {
            builder: Builder::new(name, Vec::new(), SlotsMeta::default()),
            known_inputs: FxHashMap::default(),
            plains: Vec::new(),
            known_plains: FxHashMap::default(),
            slots,
            span: Span::default(),
        }
    }

    fn push(&mut self, op: SlotsOp, operands: &[NodeId]) -> NodeId {
        self.builder
            .push(op, operands, self.span)
            .expect("operands are encrypted where they must be")
    }

    /// An encrypted input, new or known; the label is made only for a new one.
    pub(crate) fn input(
        &mut self,
        param: u32,
        source: SlotSource,
        range: Interval,
        label: impl FnOnce() -> String,
    ) -> NodeId {
        let key = (param, source);
        if let Some(&id) = self.known_inputs.get(&key) {
            return id;
        }
        let number = self.builder.add_input(PackedInput {
            param,
            source: key.1.clone(),
            range,
            label: label(),
        });
        let id = self.push(SlotsOp::Input(number), &[]);
        self.known_inputs.insert(key, id);
        id
    }

    fn plain_def(&mut self, key: PlainKey, def: impl FnOnce() -> PlainDef) -> PlainId {
        if let Some(&id) = self.known_plains.get(&key) {
            return id;
        }
        let id = PlainId(self.plains.len() as u32);
        self.plains.push(def());
        self.known_plains.insert(key, id);
        id
    }

    /// The plaintext with this value in every slot.
    pub(crate) fn uniform(&mut self, value: f64) -> PlainId {
        let value = if value == 0.0 { 0.0 } else { value };
        self.plain_def(PlainKey::Uniform(Real(value)), || PlainDef {
            source: PlainSource::Uniform(value),
            range: Interval::new(value, value),
        })
    }

    /// The plaintext with these values; a uniform one when they are all equal.
    pub(crate) fn vector(&mut self, values: &[f64]) -> PlainId {
        debug_assert_eq!(values.len(), self.slots);
        if values.iter().all(|v| *v == values[0]) {
            return self.uniform(values[0]);
        }
        let bits: Arc<[u64]> = values
            .iter()
            .map(|v| if *v == 0.0 { 0 } else { v.to_bits() })
            .collect();
        self.plain_def(PlainKey::Vector(bits), || PlainDef {
            source: PlainSource::Vector(values.into()),
            range: intervals::of_values(values),
        })
    }

    /// The plaintext with elements of a result of the public circuit.
    pub(crate) fn public(&mut self, output: u32, source: SlotSource, range: Interval) -> PlainId {
        self.plain_def(PlainKey::Public(output, source.clone()), || PlainDef {
            source: PlainSource::Public { output, source },
            range,
        })
    }

    /// The value that every slot of a plaintext has, when it is known at compile time.
    pub(crate) fn uniform_value(&self, plain: PlainId) -> Option<f64> {
        match self.plains[plain.0 as usize].source {
            PlainSource::Uniform(v) => Some(v),
            PlainSource::Vector(_) | PlainSource::Public { .. } => None,
        }
    }

    fn plain_node(&mut self, plain: PlainId) -> NodeId {
        self.push(SlotsOp::Plain(plain), &[])
    }

    /// a + b.
    pub(crate) fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.push(SlotsOp::Add, &[a.min(b), a.max(b)])
    }

    /// a − b.
    pub(crate) fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.push(SlotsOp::Sub, &[a, b])
    }

    /// −a.
    pub(crate) fn neg(&mut self, a: NodeId) -> NodeId {
        if *self.builder.graph().op(a) == SlotsOp::Neg {
            return self.builder.graph().operands(a)[0];
        }
        self.push(SlotsOp::Neg, &[a])
    }

    /// a · b, a square when both are the same.
    pub(crate) fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if a == b {
            return self.push(SlotsOp::Square, &[a]);
        }
        self.push(SlotsOp::Mul, &[a.min(b), a.max(b)])
    }

    /// a + plaintext.
    pub(crate) fn add_plain(&mut self, a: NodeId, plain: PlainId) -> NodeId {
        if self.uniform_value(plain) == Some(0.0) {
            return a;
        }
        let p = self.plain_node(plain);
        self.push(SlotsOp::Add, &[a, p])
    }

    /// a − plaintext.
    pub(crate) fn sub_plain(&mut self, a: NodeId, plain: PlainId) -> NodeId {
        if let Some(v) = self.uniform_value(plain) {
            let negative = self.uniform(-v);
            return self.add_plain(a, negative);
        }
        let p = self.plain_node(plain);
        self.push(SlotsOp::Sub, &[a, p])
    }

    /// a · plaintext, slot by slot; a scalar multiple when the plaintext is uniform.
    pub(crate) fn mul_plain(&mut self, a: NodeId, plain: PlainId) -> NodeId {
        if let Some(v) = self.uniform_value(plain) {
            return self.scale(a, v);
        }
        let p = self.plain_node(plain);
        self.push(SlotsOp::Mul, &[a, p])
    }

    /// c · a.
    pub(crate) fn scale(&mut self, a: NodeId, c: f64) -> NodeId {
        self.linear(vec![(Coefficient::Const(Real(c)), a)])
    }

    /// Σ cᵢ · aᵢ in its shortest form; at least one term.
    pub(crate) fn linear(&mut self, terms: Vec<(Coefficient, NodeId)>) -> NodeId {
        let one = Coefficient::Const(Real(1.0));
        let minus = Coefficient::Const(Real(-1.0));
        match terms.as_slice() {
            [(c, a)] if *c == one => *a,
            [(c, a)] if *c == minus => self.neg(*a),
            [(c, a), (d, b)] if *c == one && *d == one => self.add(*a, *b),
            [(c, a), (d, b)] if *c == one && *d == minus => self.sub(*a, *b),
            [(c, a), (d, b)] if *c == minus && *d == one => self.sub(*b, *a),
            _ => {
                let mut coefficients = Vec::with_capacity(terms.len());
                let mut operands = Operands::with_capacity(terms.len());
                for (c, a) in terms {
                    coefficients.push(c);
                    operands.push(a);
                }
                self.push(SlotsOp::LinComb(coefficients), &operands)
            }
        }
    }

    /// a rotated left by `steps` modulo S.
    pub(crate) fn rotate(&mut self, a: NodeId, steps: i64) -> NodeId {
        let steps = steps.rem_euclid(self.slots as i64);
        if steps == 0 {
            return a;
        }
        self.push(SlotsOp::Rotate(RotationStep(steps as i32)), &[a])
    }

    /// A vector that is zero because it is a difference of equals.
    pub(crate) fn zero(&mut self, of: NodeId) -> NodeId {
        self.push(SlotsOp::Sub, &[of, of])
    }

    /// Any encrypted value.
    pub(crate) fn any_input(&self) -> Option<NodeId> {
        self.known_inputs.values().min().copied()
    }

    /// Carries what the program says of a value over to the vector that holds it in every slot.
    pub(crate) fn inherit(&mut self, id: NodeId, from: &Node<Tensor>) {
        if let Some(range) = from.declared {
            self.builder.declare(id, range);
        }
        if from.keep {
            self.builder.set_keep(id);
        }
    }

    /// Declares a range for every slot of a vector.
    pub(crate) fn declare(&mut self, id: NodeId, range: Interval) {
        self.builder.declare(id, range);
    }

    /// Marks a vector `@keep`.
    pub(crate) fn keep(&mut self, id: NodeId) {
        self.builder.set_keep(id);
    }

    /// The circuit, with these result vectors.
    pub(crate) fn finish(self, outputs: &[NodeId], results: Vec<PackedOutput>) -> Circuit<Slots> {
        let mut circuit = self.builder.finish();
        circuit.outputs = outputs.iter().map(|o| (*o, ())).collect();
        circuit.meta = SlotsMeta {
            slots: self.slots,
            batch: None,
            complex: false,
            plains: self.plains,
            results,
            public: None,
            client: None,
        };
        circuit
    }
}
