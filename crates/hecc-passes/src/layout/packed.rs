//! Dense vectors: many elements of a tensor in the slots of one ciphertext.
//!
//! A tensor is a *view*: for each element, which element of which *source* it is. A source is an
//! encrypted parameter or a computed value; its *placement* says what every slot of its vectors
//! holds: an element, zero, or something that nobody reads. So slicing, transposing, reshaping and
//! the like cost nothing by themselves; elements are moved (by [`super::linear`]) only where an
//! operation needs two operands in the same slots, and a linear operation reads a view as it lies.
//! A parameter is packed when it is first needed, as it is needed, since packing is free for the
//! client; a second packing is weighed against moving the first.
//!
//! What nobody reads is tracked with its own range: a declared range is claimed for a vector only
//! when every slot obeys, and what would leave it far behind is masked.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Interval, Node, NodeId, Real};
use hecc_ir::slots::{Coefficient, PackedOutput, PlainId, SlotMap, SlotSource, Slots, Unpack};
use hecc_ir::tensor::{Basis, ConstTensor, Polynomial, Secrecy, Shape, Tensor, TensorOp, elements};
use rustc_hash::{FxHashMap, FxHashSet};

use super::emit::Emitter;
use super::expand::{Algebra, Source as Moved, matmul_extents, movement, strides, sum_targets};
use super::known;
use super::linear::{self, Effort, Entry, JUNK, Label, Plan, PublicWeights, Weight, ZERO};
use super::public::{Known, PublicPart, intervals, range_of};

/// What every slot of some vectors holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    vectors: Vec<Rc<[Label]>>,
}

/// Vectors with what they hold.
#[derive(Clone, Debug)]
struct Packed {
    vectors: Vec<NodeId>,
    placement: Rc<Placement>,
    /// Of the elements.
    range: Interval,
    /// Of the slots that nobody reads.
    junk: Interval,
}

impl Packed {
    /// The range of every slot.
    fn whole(&self) -> Interval {
        intervals::hull(
            intervals::hull(self.range, self.junk),
            Interval::new(0.0, 0.0),
        )
    }
}

/// Where each element of a source lies in its first packing: (vector, slot), ascending.
struct Index {
    starts: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl Index {
    fn new(placement: &Placement, elements: usize) -> Index {
        let mut starts = vec![0u32; elements + 1];
        for l in placement.vectors.iter().flat_map(|v| v.iter()) {
            if *l < ZERO {
                starts[*l as usize + 1] += 1;
            }
        }
        for e in 0..elements {
            starts[e + 1] += starts[e];
        }
        let mut next = starts.clone();
        let mut places = vec![(0, 0); starts[elements] as usize];
        for (v, labels) in placement.vectors.iter().enumerate() {
            for (t, l) in labels.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                let at = &mut next[*l as usize];
                places[*at as usize] = (v as u32, t as u32);
                *at += 1;
            }
        }
        Index { starts, places }
    }

    fn of(&self, element: u32) -> &[(u32, u32)] {
        let e = element as usize;
        &self.places[self.starts[e] as usize..self.starts[e + 1] as usize]
    }
}

/// An encrypted tensor from which views take elements.
struct Source {
    /// Made when it is first needed.
    index: OnceCell<Index>,
    /// Its ways of lying in slots; the first is the one that views refer to.
    packed: Vec<Packed>,
    /// Which parameter it is.
    input: Option<u32>,
    shape: Vec<usize>,
    range: Interval,
}

/// An element of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ref {
    source: u32,
    element: u32,
}

/// An element that is zero.
const NOTHING: Ref = Ref {
    source: u32::MAX,
    element: 0,
};

/// A secret tensor.
#[derive(Clone, Debug)]
struct View {
    refs: Rc<[Ref]>,
    shape: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Value {
    Known(Known),
    Secret(View),
}

/// How a view comes to lie as wanted.
enum Route {
    /// Inputs are packed so; one list of labels for each source, zero elsewhere.
    Pack,
    /// Elements are moved by rotations, or only read where they lie.
    Move,
}

/// The vectors of all sources of a view.
struct Gathered {
    nodes: Vec<NodeId>,
    labels: Vec<Rc<[Label]>>,
    ranges: Vec<Interval>,
    /// Which source each is of.
    owners: Vec<u32>,
    /// For each source, the place here of each of its vectors that the view needs.
    numbers: BTreeMap<u32, Vec<u32>>,
}

/// One output of ladders: the vectors that are added up, the runs, what the slots then hold.
type Ladder = (Vec<usize>, Vec<Run>, Vec<Label>);

/// A step and how many of it.
type Run = (u32, u32);

struct Packer<'a> {
    circuit: &'a Circuit<Tensor>,
    emit: Emitter,
    public: PublicPart,
    sources: Vec<Source>,
    slots: usize,
    /// Ciphertexts that all parameters take, each packed once.
    least_inputs: usize,
    inputs: usize,
}

/// The slots that a tensor takes when each axis is padded to a power of two.
pub(crate) fn padded(shape: &[usize]) -> usize {
    shape.iter().map(|n| n.next_power_of_two()).product()
}

/// Row-major with each axis padded to a power of two; repeated when there is room, over several
/// vectors when there is not.
fn canonical(shape: &[usize], slots: usize, axes: &[usize]) -> Placement {
    let total = padded(shape);
    let mut labels = vec![JUNK; total.max(slots)];
    let s = strides(shape);
    // slot strides, the last of `axes` fastest
    let mut slot_stride = vec![0; shape.len()];
    let mut step = 1;
    for &a in axes.iter().rev() {
        slot_stride[a] = step;
        step *= shape[a].next_power_of_two();
    }
    super::expand::for_each_index(shape, |at| {
        let e: usize = at.iter().zip(&s).map(|(a, s)| a * s).sum();
        let t: usize = at.iter().zip(&slot_stride).map(|(a, s)| a * s).sum();
        labels[t] = e as Label;
    });
    for t in total..slots {
        labels[t] = labels[t - total];
    }
    Placement {
        vectors: labels
            .chunks(slots)
            .filter(|v| v.iter().any(|l| *l != JUNK))
            .map(Rc::from)
            .collect(),
    }
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).collect()
}

/// Lowers a flat circuit to dense vectors of `slots` slots.
///
/// # Errors
/// E3201 for a division by a public value that may be zero.
pub(crate) fn lower(
    circuit: &Circuit<Tensor>,
    public: PublicPart,
    slots: usize,
) -> Result<Circuit<Slots>, Diagnostic> {
    let least_inputs = circuit
        .inputs
        .iter()
        .filter(|p| p.secrecy == Secrecy::Secret)
        .map(|p| padded(&p.shape).div_ceil(slots))
        .sum();
    let mut packer = Packer {
        circuit,
        emit: Emitter::new(&circuit.name, slots),
        public,
        sources: Vec::new(),
        slots,
        least_inputs,
        inputs: 0,
    };
    let live = circuit.live();
    let graph = &circuit.graph;
    let mut values: Vec<Option<Value>> = vec![None; graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        if packer.public.secrecy[id.index()] == Secrecy::Public {
            values[id.index()] = packer.public.known[id.index()].clone().map(Value::Known);
            continue;
        }
        let node = graph.node(id);
        packer.emit.span = node.span;
        let ids = graph.operands(id);
        let operands: Vec<Value> = ids
            .iter()
            .map(|o| values[o.index()].clone().expect("operands come first"))
            .collect();
        let shapes: Vec<&[usize]> = ids.iter().map(|o| graph.ty(*o).shape()).collect();
        let view = packer.node(node, &operands, &shapes)?;
        let read = graph.users(id).iter().any(|(u, _)| live[u.index()]);
        packer.declare(&view, node, read);
        values[id.index()] = Some(Value::Secret(view));
    }
    packer.finish(&values)
}

impl Packer<'_> {
    fn node(
        &mut self,
        node: &Node<Tensor>,
        operands: &[Value],
        shapes: &[&[usize]],
    ) -> Result<View, Diagnostic> {
        let out = node.ty.shape();
        let span = node.span;
        Ok(match (&node.op, operands) {
            (TensorOp::Input(i), _) => {
                let param = &self.circuit.inputs[*i as usize];
                let source = self.sources.len() as u32;
                self.sources.push(Source {
                    index: OnceCell::new(),
                    packed: Vec::new(),
                    input: Some(*i),
                    shape: param.shape.to_vec(),
                    range: param.interval(),
                });
                self.whole_view(source)
            }
            (TensorOp::Neg, [Value::Secret(a)]) => self.unary(a, &node.op, |emit, v| emit.neg(v)),
            (TensorOp::Pow(n), [Value::Secret(a)]) => {
                let n = *n;
                self.unary(a, &node.op, |emit, v| {
                    let power = Uniform { emit, of: v }.pow(&Lane::Cipher(v), n);
                    Uniform { emit, of: v }.cipher(power)
                })
            }
            (TensorOp::Poly(p), [Value::Secret(a)]) => self.polynomial(a, p),
            (TensorOp::Div, [Value::Secret(a), Value::Known(b)]) => {
                let inverse = self.public.reciprocal(b, span)?;
                self.times_known(a, &inverse)
            }
            (TensorOp::Mul, [Value::Secret(a), Value::Known(b)])
            | (TensorOp::Mul, [Value::Known(b), Value::Secret(a)]) => self.times_known(a, b),
            (TensorOp::Add, [Value::Secret(a), Value::Known(b)])
            | (TensorOp::Add, [Value::Known(b), Value::Secret(a)]) => self.plus_known(a, b, false),
            (TensorOp::Sub, [Value::Secret(a), Value::Known(b)]) => self.plus_known(a, b, true),
            (TensorOp::Sub, [Value::Known(b), Value::Secret(a)]) => {
                let minus = self.unary(a, &TensorOp::Neg, |emit, v| emit.neg(v));
                self.plus_known(&minus, b, false)
            }
            (
                TensorOp::Add | TensorOp::Sub | TensorOp::Mul,
                [Value::Secret(a), Value::Secret(b)],
            ) => self.binary(&node.op, a, b),
            (TensorOp::MatMul, [Value::Secret(a), Value::Secret(b)]) => {
                self.product(a, b, shapes, out)
            }
            (TensorOp::MatMul, [Value::Secret(a), Value::Known(w)]) => {
                let (rows, inner, columns) = matmul_extents(shapes[0], shapes[1]);
                // yᵀ = wᵀ xᵀ
                let x = transposed(a, rows, inner);
                let index = |i: usize, j: usize| (j * columns + i) as u32;
                let w = Matrix {
                    known: w,
                    rows: columns,
                    inner,
                    index: &index,
                };
                let y = self.matrix(&w, &x, rows);
                reshaped(&transposed(&y, columns, rows), out)
            }
            (TensorOp::MatMul, [Value::Known(w), Value::Secret(b)]) => {
                let (rows, inner, columns) = matmul_extents(shapes[0], shapes[1]);
                let index = |i: usize, j: usize| (i * inner + j) as u32;
                let w = Matrix {
                    known: w,
                    rows,
                    inner,
                    index: &index,
                };
                let y = self.matrix(&w, b, columns);
                reshaped(&y, out)
            }
            (TensorOp::Sum(axes), [Value::Secret(a)]) => self.sum(a, axes, out),
            (TensorOp::Conv2d { stride }, [Value::Secret(x), Value::Known(k)]) => {
                self.convolve(x, k, *stride, shapes, out)
            }
            (TensorOp::Conv2d { stride }, _) => {
                self.convolve_secret(operands, *stride, shapes, out)
            }
            (TensorOp::SumPool(n), [Value::Secret(a)]) => self.pool(a, *n, shapes[0], out),
            (op, _) => self.moved(op, operands, shapes, out, span)?,
        })
    }

    // ---- views -------------------------------------------------------------------------------

    fn whole_view(&self, source: u32) -> View {
        let shape = self.sources[source as usize].shape.clone();
        View {
            refs: (0..elements(&shape) as u32)
                .map(|element| Ref { source, element })
                .collect(),
            shape,
        }
    }

    fn new_source(&mut self, packed: Packed, shape: &[usize]) -> View {
        let range = packed.range;
        self.sources.push(Source {
            index: OnceCell::new(),
            packed: vec![packed],
            input: None,
            shape: shape.to_vec(),
            range,
        });
        self.whole_view(self.sources.len() as u32 - 1)
    }

    /// An operation that only moves elements.
    fn moved(
        &mut self,
        op: &TensorOp,
        operands: &[Value],
        shapes: &[&[usize]],
        out: &[usize],
        span: hecc_ir::span::Span,
    ) -> Result<View, Diagnostic> {
        // the operations that compute were dealt with one by one
        let map = movement(op, shapes, out).unwrap_or_default();
        let refs = map
            .iter()
            .map(|m| match m {
                Moved::Zero => NOTHING,
                Moved::From { operand, index } => match &operands[*operand as usize] {
                    Value::Secret(v) => v.refs[*index as usize],
                    Value::Known(_) => NOTHING,
                },
            })
            .collect();
        let view = View {
            refs,
            shape: out.to_vec(),
        };
        if operands.iter().all(|o| matches!(o, Value::Secret(_))) {
            return Ok(view);
        }
        // what is known of the result is added
        let zeros: Vec<Known> = operands
            .iter()
            .zip(shapes)
            .map(|(o, s)| match o {
                Value::Known(k) => k.clone(),
                Value::Secret(_) => Known::Const(ConstTensor::filled(Shape::from_slice(s), 0.0)),
            })
            .collect();
        let known = self.public.apply(op, &zeros, span)?;
        Ok(self.plus_known(&view, &known, false))
    }

    /// The only source of a view, if there is one and no element is zero.
    fn single(&self, view: &View) -> Option<u32> {
        let first = view.refs.first()?.source;
        (first != NOTHING.source && view.refs.iter().all(|r| r.source == first)).then_some(first)
    }

    /// Packs a parameter as a whole unless it lies somewhere already.
    fn ensure(&mut self, source: u32) {
        if self.sources[source as usize].packed.is_empty() {
            let shape = self.sources[source as usize].shape.clone();
            let placement = canonical(&shape, self.slots, &row_major(&shape));
            self.pack(source, placement);
        }
    }

    /// Packs a parameter so.
    fn pack(&mut self, source: u32, placement: Placement) -> Packed {
        let param_number = self.sources[source as usize].input.expect("a parameter");
        let param = &self.circuit.inputs[param_number as usize];
        let span = self.emit.span;
        self.emit.span = param.span;
        let mut vectors = Vec::with_capacity(placement.vectors.len());
        let mut held = Vec::with_capacity(placement.vectors.len());
        let earlier = self.sources[source as usize].packed.len();
        let count = placement.vectors.len();
        for (k, labels) in placement.vectors.iter().enumerate() {
            let labels: Rc<[Label]> = labels
                .iter()
                .map(|l| if *l == JUNK { ZERO } else { *l })
                .collect();
            let empty = labels.contains(&ZERO);
            let range = if empty {
                intervals::hull(param.interval(), Interval::new(0.0, 0.0))
            } else {
                param.interval()
            };
            let map: Arc<[u32]> = labels
                .iter()
                .map(|l| if *l == ZERO { SlotMap::EMPTY } else { *l })
                .collect();
            let first = map.first().copied().unwrap_or(SlotMap::EMPTY);
            let place = if first != SlotMap::EMPTY && map.iter().all(|e| *e == first) {
                SlotSource::Element(first)
            } else {
                SlotSource::Map(SlotMap(map))
            };
            let label = || {
                let mut name = param.name.clone();
                if earlier > 0 {
                    name.push_str(&format!(" packing {}", earlier + 1));
                }
                if count > 1 {
                    name.push_str(&format!(" part {}", k + 1));
                }
                name
            };
            vectors.push(self.emit.input(param_number, place, range, label));
            held.push(labels);
        }
        self.inputs += vectors.len();
        self.emit.span = span;
        let packed = Packed {
            vectors,
            placement: Rc::new(Placement { vectors: held }),
            range: param.interval(),
            junk: Interval::new(0.0, 0.0),
        };
        self.sources[source as usize].packed.push(packed.clone());
        packed
    }

    /// Where the elements of a view lie now, if every one lies somewhere in one source and no slot
    /// would have to hold two.
    fn natural(&self, view: &View) -> Option<Placement> {
        let source = self.single(view)?;
        let packed = self.sources[source as usize].packed.first()?;
        // the names of each element in the view: a chain through `more`
        let count = self.sources[source as usize].refs_len();
        let mut name = vec![u32::MAX; count];
        let mut more = vec![u32::MAX; view.refs.len()];
        for (i, r) in view.refs.iter().enumerate().rev() {
            more[i] = name[r.element as usize];
            name[r.element as usize] = i as u32;
        }
        let first = name.clone();
        let mut covered = vec![false; view.refs.len()];
        let mut vectors = Vec::new();
        for labels in &packed.placement.vectors {
            let mut used = false;
            let mine: Rc<[Label]> = labels
                .iter()
                .map(|l| {
                    if *l >= ZERO || first[*l as usize] == u32::MAX {
                        return JUNK;
                    }
                    // copies take the names in turn
                    let e = *l as usize;
                    let mine = name[e];
                    name[e] = match more[mine as usize] {
                        u32::MAX => first[e],
                        next => next,
                    };
                    covered[mine as usize] = true;
                    used = true;
                    mine
                })
                .collect();
            if used {
                vectors.push(mine);
            }
        }
        covered.iter().all(|c| *c).then_some(Placement { vectors })
    }

    /// How a view would come to lie as wanted, and at what price.
    fn route(&self, view: &View, wanted: &Placement) -> (Route, Effort) {
        let named = named(view);
        let inputs_only = !named.is_empty()
            && named
                .iter()
                .all(|s| self.sources[*s as usize].input.is_some());
        let fresh = named
            .iter()
            .all(|s| self.sources[*s as usize].packed.is_empty());
        if inputs_only && fresh {
            return (Route::Pack, Effort::default());
        }
        let moved = self.plans(view, wanted);
        let by_moving = match &moved {
            Some((_, effort, _)) => *effort,
            None => Effort {
                levels: 1,
                rotations: usize::MAX / 4,
                ..Effort::default()
            },
        };
        let more = wanted.vectors.len() * named.len();
        if inputs_only && self.inputs + more <= 4 * self.least_inputs {
            let packing = Effort {
                inputs: more,
                ..Effort::default()
            };
            if packing.cost() < by_moving.cost() {
                return (Route::Pack, packing);
            }
        }
        match moved {
            Some((_, effort, _)) => (Route::Move, effort),
            // some parameter of several lies nowhere yet
            None => (Route::Move, by_moving),
        }
    }

    fn index(&self, source: u32) -> Option<&Index> {
        let source = &self.sources[source as usize];
        let packed = source.packed.first()?;
        Some(
            source
                .index
                .get_or_init(|| Index::new(&packed.placement, elements(&source.shape))),
        )
    }

    /// The vectors in which elements of a view lie, in order; `None` while a parameter lies nowhere.
    fn gathered(&self, view: &View) -> Option<Gathered> {
        let mut used: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
        for source in named(view) {
            let packed = self.sources[source as usize].packed.first()?;
            used.insert(source, vec![false; packed.vectors.len()]);
        }
        let mut last: Option<(u32, &Index)> = None;
        for r in view.refs.iter().filter(|r| **r != NOTHING) {
            let index = match last {
                Some((source, index)) if source == r.source => index,
                _ => self.index(r.source)?,
            };
            last = Some((r.source, index));
            let flags = used.get_mut(&r.source)?;
            for (v, _) in index.of(r.element) {
                flags[*v as usize] = true;
            }
        }
        let mut all = Gathered {
            nodes: Vec::new(),
            labels: Vec::new(),
            ranges: Vec::new(),
            owners: Vec::new(),
            numbers: BTreeMap::new(),
        };
        for (source, flags) in used {
            let packed = &self.sources[source as usize].packed[0];
            let whole = packed.whole();
            let mut numbers = Vec::with_capacity(flags.len());
            for (v, flag) in flags.into_iter().enumerate() {
                numbers.push(all.nodes.len() as u32);
                if flag {
                    all.nodes.push(packed.vectors[v]);
                    all.labels.push(Rc::clone(&packed.placement.vectors[v]));
                    all.ranges.push(whole);
                    all.owners.push(source);
                }
            }
            all.numbers.insert(source, numbers);
        }
        Some(all)
    }

    /// The same with one copy of each element that the view needs, and zero elsewhere: what a mask
    /// would leave.
    fn thinned(&self, view: &View, all: &Gathered) -> Gathered {
        let mut needed: FxHashSet<Ref> = view.refs.iter().copied().collect();
        let labels = all
            .labels
            .iter()
            .zip(&all.owners)
            .map(|(labels, source)| {
                labels
                    .iter()
                    .map(|l| {
                        let me = Ref {
                            source: *source,
                            element: *l,
                        };
                        if *l < ZERO && needed.remove(&me) {
                            *l
                        } else {
                            ZERO
                        }
                    })
                    .collect()
            })
            .collect();
        Gathered {
            nodes: all.nodes.clone(),
            labels,
            ranges: all.ranges.clone(),
            owners: all.owners.clone(),
            numbers: all.numbers.clone(),
        }
    }

    /// Plans for moving, and whether the sources are to be masked first.
    fn plans(&self, view: &View, wanted: &Placement) -> Option<(Vec<Plan>, Effort, bool)> {
        let entry = |e: u32| vec![(e, Weight::Const(1.0))];
        let all = self.gathered(view)?;
        let (plans, effort) = self.plans_from(view, &all, None, wanted, &entry)?;
        if effort.levels > 0 {
            let thin = self.thinned(view, &all);
            let mut places: FxHashMap<Ref, Vec<(u32, u32)>> = FxHashMap::default();
            for (v, (labels, source)) in thin.labels.iter().zip(&thin.owners).enumerate() {
                for (t, l) in labels.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                    let me = Ref {
                        source: *source,
                        element: *l,
                    };
                    places.entry(me).or_default().push((v as u32, t as u32));
                }
            }
            let (spread, mut other) =
                self.plans_from(view, &thin, Some(&places), wanted, &entry)?;
            let masks = thin
                .labels
                .iter()
                .zip(&all.labels)
                .filter(|(a, b)| a != b)
                .count();
            other.plain += masks;
            other.levels += 1;
            if other.cost() < effort.cost() {
                return Some((spread, other, true));
            }
        }
        Some((plans, effort, false))
    }

    /// Plans for a linear map: `terms` gives the elements of the view, with weights, for each element wanted.
    fn linear_plans(
        &self,
        view: &View,
        wanted: &Placement,
        terms: &dyn Fn(u32) -> Vec<(u32, Weight)>,
    ) -> Option<(Vec<Plan>, Effort)> {
        self.plans_from(view, &self.gathered(view)?, None, wanted, terms)
    }

    /// `thin`: the places of the elements, where they are not those of the sources.
    fn plans_from(
        &self,
        view: &View,
        all: &Gathered,
        thin: Option<&FxHashMap<Ref, Vec<(u32, u32)>>>,
        wanted: &Placement,
        terms: &dyn Fn(u32) -> Vec<(u32, Weight)>,
    ) -> Option<(Vec<Plan>, Effort)> {
        let slots = self.slots;
        let held: Vec<&[Label]> = all.labels.iter().map(|l| &**l).collect();
        let mut plans = Vec::with_capacity(wanted.vectors.len());
        let mut effort = Effort::default();
        for vector in &wanted.vectors {
            let mut entries = Vec::new();
            let mut known: FxHashMap<u32, Vec<(u32, Weight)>> = FxHashMap::default();
            let mut last: Option<(u32, &Index)> = None;
            for (t, l) in vector.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                let list = known.entry(*l).or_insert_with(|| terms(*l));
                for (e, weight) in list.iter() {
                    let r = view.refs[*e as usize];
                    if r == NOTHING || *weight == Weight::Const(0.0) {
                        continue;
                    }
                    // the nearest copy to the right, cyclically
                    let (vector, distance) = match thin {
                        Some(places) => nearest(places.get(&r)?, t as u32, slots as u32)?,
                        None => {
                            let index = match last {
                                Some((source, index)) if source == r.source => index,
                                _ => self.index(r.source)?,
                            };
                            last = Some((r.source, index));
                            let (v, d) = nearest(index.of(r.element), t as u32, slots as u32)?;
                            (all.numbers.get(&r.source)?[v as usize], d)
                        }
                    };
                    entries.push(Entry {
                        vector,
                        distance,
                        slot: t as u32,
                        weight: *weight,
                    });
                }
            }
            let plan = linear::plan(slots, &held, vector, merge(entries));
            effort = effort.beside(plan.effort);
            plans.push(plan);
        }
        Some((plans, effort))
    }

    fn write_plans(
        &mut self,
        view: &View,
        wanted: &Placement,
        plans: &[Plan],
        range: Interval,
        public: Option<PublicWeights>,
    ) -> Packed {
        let all = self.gathered(view).expect("planned from there");
        self.write_from(&all, wanted, plans, range, public)
    }

    fn write_from(
        &mut self,
        all: &Gathered,
        wanted: &Placement,
        plans: &[Plan],
        range: Interval,
        public: Option<PublicWeights>,
    ) -> Packed {
        let Gathered {
            nodes,
            labels,
            ranges,
            ..
        } = all;
        let held: Vec<&[Label]> = labels.iter().map(|l| &**l).collect();
        let mut vectors = Vec::new();
        let mut placed = Vec::new();
        let mut junk = Interval::new(0.0, 0.0);
        for (plan, want) in plans.iter().zip(&wanted.vectors) {
            let node = match plan.passes() {
                Some(v) => nodes[v as usize],
                None => match linear::write(&mut self.emit, plan, nodes, public) {
                    Some(node) => node,
                    None => {
                        let of = self.some_cipher();
                        self.emit.zero(of)
                    }
                },
            };
            let (labels, rest) = plan.labels(&held, want, ranges, public);
            if labels.contains(&JUNK) {
                junk = intervals::hull(junk, rest);
            }
            vectors.push(node);
            placed.push(Rc::from(labels));
        }
        Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range,
            junk,
        }
    }

    fn range_of_view(&self, view: &View) -> Interval {
        let mut named: Vec<u32> = view.refs.iter().map(|r| r.source).collect();
        named.sort_unstable();
        named.dedup();
        let mut range: Option<Interval> = None;
        for s in named {
            let r = match self.sources.get(s as usize) {
                Some(source) => source.range,
                None => Interval::new(0.0, 0.0),
            };
            range = Some(range.map_or(r, |h| intervals::hull(h, r)));
        }
        range.unwrap_or(Interval::new(0.0, 0.0))
    }

    /// Brings a view to lie as wanted.
    fn bring(&mut self, view: &View, wanted: &Placement) -> Packed {
        let range = self.range_of_view(view);
        let (route, _) = self.route(view, wanted);
        match route {
            Route::Pack => self.pack_view(view, wanted, range),
            Route::Move => {
                self.ensure_all(view);
                let (plans, _, masked) =
                    self.plans(view, wanted).expect("all sources lie somewhere");
                let mut all = self.gathered(view).expect("all sources lie somewhere");
                if masked {
                    let thin = self.thinned(view, &all);
                    for (k, labels) in thin.labels.iter().enumerate() {
                        if *labels != all.labels[k] {
                            all.nodes[k] = self.mask(all.nodes[k], labels);
                        }
                    }
                    all.labels = thin.labels;
                }
                self.write_from(&all, wanted, &plans, range, None)
            }
        }
    }

    /// A vector with zero where no element lies.
    fn mask(&mut self, node: NodeId, labels: &[Label]) -> NodeId {
        let mask: Vec<f64> = labels
            .iter()
            .map(|l| if *l < ZERO { 1.0 } else { 0.0 })
            .collect();
        let mask = self.emit.vector(&mask);
        self.emit.mul_plain(node, mask)
    }

    /// Every element of a view lies somewhere: parameters of which only other parts were packed
    /// are packed whole.
    fn ensure_all(&mut self, view: &View) {
        for s in named(view) {
            self.ensure(s);
            if self.sources[s as usize].input.is_none() {
                continue;
            }
            let lies = {
                let index = self.index(s).expect("it was just packed");
                view.refs
                    .iter()
                    .filter(|r| r.source == s)
                    .all(|r| !index.of(r.element).is_empty())
            };
            if !lies {
                let shape = self.sources[s as usize].shape.clone();
                let placement = canonical(&shape, self.slots, &row_major(&shape));
                self.pack(s, placement);
                let source = &mut self.sources[s as usize];
                let last = source.packed.len() - 1;
                source.packed.swap(0, last);
                source.index = OnceCell::new();
            }
        }
    }

    /// Packs the parameters that a view takes elements of just as it wants them.
    fn pack_view(&mut self, view: &View, wanted: &Placement, range: Interval) -> Packed {
        let named = named(view);
        let mut sums: Vec<Vec<NodeId>> = vec![Vec::new(); wanted.vectors.len()];
        for s in named {
            // vectors without an element of this source are not sent
            let mut vectors = Vec::new();
            let mut used = Vec::new();
            for (k, want) in wanted.vectors.iter().enumerate() {
                let labels: Rc<[Label]> = want
                    .iter()
                    .map(|l| match view.refs.get(*l as usize) {
                        Some(r) if *l < ZERO && r.source == s => r.element,
                        _ => JUNK,
                    })
                    .collect();
                if labels.iter().any(|l| *l != JUNK) {
                    vectors.push(labels);
                    used.push(k);
                }
            }
            let packed = self.pack(s, Placement { vectors });
            for (k, node) in used.into_iter().zip(&packed.vectors) {
                sums[k].push(*node);
            }
        }
        let one = Coefficient::Const(Real(1.0));
        let mut nodes = Vec::new();
        let mut placed = Vec::new();
        for (parts, want) in sums.into_iter().zip(&wanted.vectors) {
            let node = if parts.is_empty() {
                let of = self.some_cipher();
                self.emit.zero(of)
            } else {
                self.emit
                    .linear(parts.into_iter().map(|p| (one, p)).collect())
            };
            nodes.push(node);
            let labels: Rc<[Label]> = want
                .iter()
                .map(|l| if *l == JUNK { ZERO } else { *l })
                .collect();
            placed.push(labels);
        }
        Packed {
            vectors: nodes,
            placement: Rc::new(Placement { vectors: placed }),
            range,
            junk: Interval::new(0.0, 0.0),
        }
    }

    /// Any encrypted vector.
    fn some_cipher(&mut self) -> NodeId {
        if let Some(id) = self.emit.any_input() {
            return id;
        }
        let secret = self
            .sources
            .iter()
            .position(|s| s.input.is_some())
            .expect("a secret value has a secret parameter");
        self.ensure(secret as u32);
        self.emit.any_input().expect("it was just packed")
    }

    /// A view as vectors, wherever it is cheapest.
    fn settle(&mut self, view: &View) -> (Packed, Rc<Placement>) {
        if let Some(s) = self.single(view)
            && self.sources[s as usize].packed.is_empty()
            && view.refs.len() <= self.sources[s as usize].refs_len()
        {
            self.ensure(s);
        }
        let wanted = match self.natural(view) {
            Some(p) => p,
            None => canonical(&view.shape, self.slots, &row_major(&view.shape)),
        };
        (self.bring(view, &wanted), Rc::new(wanted))
    }

    // ---- elementwise -------------------------------------------------------------------------

    /// The same function in every slot of a source; a view of it stays a view.
    fn unary(
        &mut self,
        view: &View,
        op: &TensorOp,
        mut f: impl FnMut(&mut Emitter, NodeId) -> NodeId,
    ) -> View {
        let zero_stays = {
            let point = Interval::new(0.0, 0.0);
            let at_zero = range_of(op, &[point], &[&[]], &|_| point);
            at_zero.lo == 0.0 && at_zero.hi == 0.0
        };
        self.unary_with(
            view,
            zero_stays,
            &|r| range_of(op, &[r], &[&[]], &|_| r),
            &mut f,
        )
    }

    fn polynomial(&mut self, view: &View, p: &Polynomial) -> View {
        // the constant term is added where elements lie, so that zeros stay zeros
        let constant = match p.basis {
            Basis::Monomial => p.coefficients.first().map_or(0.0, |c| c.0),
            Basis::Chebyshev { .. } => 0.0,
        };
        let mut rest = p.clone();
        if constant != 0.0 {
            rest.coefficients[0] = Real(0.0);
        }
        let powers = self.unary(view, &TensorOp::Poly(rest.clone()), |emit, v| {
            let value = Uniform { emit, of: v }.poly(&Lane::Cipher(v), &rest);
            Uniform { emit, of: v }.cipher(value)
        });
        let constant = ConstTensor::filled(Shape::from_slice(&view.shape), constant);
        self.plus_known(&powers, &Known::Const(constant), false)
    }

    fn unary_with(
        &mut self,
        view: &View,
        zero_stays: bool,
        image: &dyn Fn(Interval) -> Interval,
        f: &mut dyn FnMut(&mut Emitter, NodeId) -> NodeId,
    ) -> View {
        let has_zero = view.refs.contains(&NOTHING);
        let mut named: Vec<u32> = view.refs.iter().map(|r| r.source).collect();
        named.sort_unstable();
        named.dedup();
        named.retain(|s| *s != NOTHING.source);
        if (has_zero && !zero_stays) || named.len() != 1 {
            let wanted = canonical(&view.shape, self.slots, &row_major(&view.shape));
            let packed = self.bring(view, &wanted);
            let packed = Packed {
                placement: Rc::new(read_as(&packed, &wanted)),
                ..packed
            };
            let image = self.map_packed(&packed, None, zero_stays, image, f);
            return self.new_source(image, &view.shape);
        }
        let source = named[0];
        self.ensure_all(view);
        let packed = self.sources[source as usize].packed[0].clone();
        let mut used = vec![false; self.sources[source as usize].refs_len()];
        for r in view.refs.iter().filter(|r| **r != NOTHING) {
            used[r.element as usize] = true;
        }
        let range = self.sources[source as usize].range;
        let packed = Packed { range, ..packed };
        let image = self.map_packed(&packed, Some(&used), zero_stays, image, f);
        let shape = self.sources[source as usize].shape.clone();
        let mapped = self.new_source(image, &shape);
        let new = mapped.refs.first().map_or(0, |r| r.source);
        View {
            refs: view
                .refs
                .iter()
                .map(|r| match *r {
                    NOTHING => NOTHING,
                    r => Ref { source: new, ..r },
                })
                .collect(),
            shape: view.shape.clone(),
        }
    }

    fn map_packed(
        &mut self,
        packed: &Packed,
        used: Option<&[bool]>,
        zero_stays: bool,
        image: &dyn Fn(Interval) -> Interval,
        f: &mut dyn FnMut(&mut Emitter, NodeId) -> NodeId,
    ) -> Packed {
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        let mut zeros = false;
        for (node, labels) in packed.vectors.iter().zip(&packed.placement.vectors) {
            let needed = labels
                .iter()
                .any(|l| *l < ZERO && used.is_none_or(|u| u[*l as usize]));
            if !needed {
                continue;
            }
            zeros |= labels.contains(&ZERO);
            vectors.push(f(&mut self.emit, *node));
            placed.push(if zero_stays {
                Rc::clone(labels)
            } else {
                labels
                    .iter()
                    .map(|l| if *l == ZERO { JUNK } else { *l })
                    .collect()
            });
        }
        let mut junk = image(packed.junk);
        if zeros && !zero_stays {
            junk = intervals::hull(junk, image(Interval::new(0.0, 0.0)));
        }
        Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range: image(packed.range),
            junk,
        }
    }

    /// Two secret operands, slot by slot.
    fn binary(&mut self, op: &TensorOp, a: &View, b: &View) -> View {
        let shape = a.shape.clone();
        let mut candidates: Vec<Placement> = Vec::new();
        candidates.extend(self.natural(a));
        candidates.extend(self.natural(b));
        candidates.push(canonical(&shape, self.slots, &row_major(&shape)));
        let wanted = self.cheapest(candidates, &[a, b]);
        let (x, y) = (self.bring(a, &wanted), self.bring(b, &wanted));
        let packed = self.combine(op, &x, &y, &wanted);
        self.new_source(packed, &shape)
    }

    /// The candidate to which all views come at the least cost; the first of equals.
    fn cheapest(&self, candidates: Vec<Placement>, views: &[&View]) -> Placement {
        let mut best: Option<(f64, Placement)> = None;
        for c in candidates {
            let effort = views
                .iter()
                .map(|v| self.route(v, &c).1)
                .fold(Effort::default(), Effort::beside);
            let cost = effort.cost() + c.vectors.len() as f64 * 1.5;
            if best.as_ref().is_none_or(|(b, _)| cost < *b) {
                best = Some((cost, c));
            }
        }
        best.expect("there is always a canonical placement").1
    }

    fn combine(&mut self, op: &TensorOp, x: &Packed, y: &Packed, wanted: &Placement) -> Packed {
        let product = matches!(op, TensorOp::Mul);
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        let mut zero_meets = false;
        for (k, want) in wanted.vectors.iter().enumerate() {
            let (a, b) = (x.vectors[k], y.vectors[k]);
            vectors.push(match op {
                TensorOp::Mul => self.emit.mul(a, b),
                TensorOp::Sub => self.emit.sub(a, b),
                _ => self.emit.add(a, b),
            });
            let (la, lb) = (&x.placement.vectors[k], &y.placement.vectors[k]);
            placed.push(
                (0..self.slots)
                    .map(|t| {
                        let (za, zb) = (la[t] == ZERO, lb[t] == ZERO);
                        zero_meets |= za != zb;
                        if want[t] < ZERO {
                            want[t]
                        } else if (za && zb) || (product && (za || zb)) {
                            ZERO
                        } else {
                            JUNK
                        }
                    })
                    .collect(),
            );
        }
        let apply = |a: Interval, b: Interval| match op {
            TensorOp::Mul => intervals::mul(a, b),
            TensorOp::Sub => intervals::sub(a, b),
            _ => intervals::add(a, b),
        };
        // a slot that nobody reads may meet anything
        let junk = apply(x.whole(), y.whole());
        let range = if product && x.vectors == y.vectors {
            intervals::pow(x.range, 2)
        } else {
            apply(x.range, y.range)
        };
        Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range,
            junk,
        }
    }

    fn scalar(&mut self, known: &Known) -> Option<Coefficient> {
        known::scalar(&mut self.emit, &mut self.public, known)
    }

    fn known_range(&self, known: &Known) -> Interval {
        known::range(&self.public, known)
    }

    fn plain_at(&mut self, known: &Known, labels: &[Label]) -> PlainId {
        known::plain_at(&mut self.emit, &mut self.public, known, labels)
    }

    fn times_known(&mut self, a: &View, known: &Known) -> View {
        if let Some(c) = self.scalar(known) {
            if c == Coefficient::Const(Real(0.0)) {
                return View {
                    refs: a.refs.iter().map(|_| NOTHING).collect(),
                    shape: a.shape.clone(),
                };
            }
            let range = self.known_range(known);
            return self.unary_with(a, true, &|r| intervals::mul(r, range), &mut |emit, v| {
                emit.linear(vec![(c, v)])
            });
        }
        let (packed, wanted) = self.settle(a);
        let range = intervals::mul(packed.range, self.known_range(known));
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        for (node, want) in packed.vectors.iter().zip(&wanted.vectors) {
            let plain = self.plain_at(known, want);
            vectors.push(self.emit.mul_plain(*node, plain));
            placed.push(
                want.iter()
                    .map(|l| if *l == JUNK { ZERO } else { *l })
                    .collect(),
            );
        }
        let image = Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range,
            junk: Interval::new(0.0, 0.0),
        };
        self.new_source(image, &a.shape)
    }

    fn plus_known(&mut self, a: &View, known: &Known, minus: bool) -> View {
        if let Known::Const(c) = known
            && c.uniform() == Some(0.0)
        {
            return a.clone();
        }
        let addend = if minus {
            intervals::neg(self.known_range(known))
        } else {
            self.known_range(known)
        };
        let (packed, wanted) = self.settle(a);
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        for ((node, want), held) in packed
            .vectors
            .iter()
            .zip(&wanted.vectors)
            .zip(&packed.placement.vectors)
        {
            let plain = self.plain_at(known, want);
            vectors.push(if minus {
                self.emit.sub_plain(*node, plain)
            } else {
                self.emit.add_plain(*node, plain)
            });
            placed.push(
                want.iter()
                    .zip(held.iter())
                    .map(|(w, h)| {
                        if *w < ZERO {
                            *w
                        } else if *h == ZERO {
                            ZERO
                        } else {
                            JUNK
                        }
                    })
                    .collect(),
            );
        }
        let image = Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range: intervals::add(packed.range, addend),
            // other elements of the source lie there too
            junk: packed.whole(),
        };
        self.new_source(image, &a.shape)
    }
}

impl Packer<'_> {
    // ---- sums --------------------------------------------------------------------------------

    fn sum(&mut self, a: &View, axes: &[usize], out: &[usize]) -> View {
        if axes.iter().all(|x| a.shape[*x] == 1) {
            return reshaped(a, out);
        }
        let (packed, wanted) = self.settle(a);
        if let Some(done) = self.sum_ladders(&packed, &wanted, &a.shape, axes, out) {
            return done;
        }
        // as it lies, element by element, or after moving it to where ladders work
        let source = Packed {
            placement: Rc::new(read_as(&packed, &wanted)),
            ..packed
        };
        let lying = self.new_source(source, &a.shape);
        let targets = sum_targets(&a.shape, axes);
        let mut terms: Vec<Vec<(u32, Weight)>> = vec![Vec::new(); elements(out)];
        for (e, target) in targets.iter().enumerate() {
            terms[*target as usize].push((e as u32, Weight::Const(1.0)));
        }
        let anchors: Vec<u32> = terms.iter().map(|t| t[0].0).collect();
        let direct = self.anchored(&lying, &anchors);
        let here = self
            .linear_plans(&lying, &direct, &|e| terms[e as usize].clone())
            .expect("it lies somewhere");
        let dense = canonical(&a.shape, self.slots, &row_major(&a.shape));
        let moving = self.route(&lying, &dense).1;
        let ladder: usize = axes
            .iter()
            .map(|x| a.shape[*x].next_power_of_two().ilog2() as usize)
            .sum();
        if moving.cost() + (ladder as f64) < here.1.cost() + direct.vectors.len() as f64 {
            let packed = self.bring(&lying, &dense);
            if let Some(done) = self.sum_ladders(&packed, &dense, &a.shape, axes, out) {
                return done;
            }
        }
        let range = intervals::scale(self.range_of_view(&lying), terms[0].len() as f64);
        let packed = self.write_plans(&lying, &direct, &here.0, range, None);
        self.new_source(packed, out)
    }

    /// Sums by doubling along each axis. What every slot then holds is found by following random
    /// numbers in place of the elements: a slot holds a sum when its number is the sum's.
    fn sum_ladders(
        &mut self,
        packed: &Packed,
        wanted: &Placement,
        shape: &[usize],
        axes: &[usize],
        out: &[usize],
    ) -> Option<View> {
        let slots = self.slots;
        let targets = sum_targets(shape, axes);
        let mut totals = vec![0u64; elements(out)];
        for (e, t) in targets.iter().enumerate() {
            totals[*t as usize] = totals[*t as usize].wrapping_add(number(e as u32));
        }
        let names: FxHashMap<u64, u32> = totals
            .iter()
            .enumerate()
            .map(|(i, h)| (*h, i as u32))
            .collect();
        // vectors that serve the same results are added up first
        let labels = read_as(packed, wanted).vectors;
        let mut groups: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
        for (v, l) in labels.iter().enumerate() {
            let mut served: Vec<u32> = l
                .iter()
                .filter(|l| **l < ZERO)
                .map(|l| targets[*l as usize])
                .collect();
            served.sort_unstable();
            served.dedup();
            groups.entry(served).or_default().push(v);
        }
        let s = strides(shape);
        let mut covered = vec![false; elements(out)];
        let mut planned: Vec<Ladder> = Vec::new();
        for members in groups.into_values() {
            let mut start = vec![(0u64, false); slots];
            for &v in &members {
                for (slot, l) in start.iter_mut().zip(labels[v].iter()) {
                    match *l {
                        JUNK => slot.1 = true,
                        ZERO => {}
                        e => slot.0 = slot.0.wrapping_add(number(e)),
                    }
                }
            }
            // the distance of neighbours along each axis, and how many there are
            let first = &labels[members[0]];
            let mut at: FxHashMap<Label, u32> = FxHashMap::default();
            for (t, l) in first.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                at.entry(*l).or_insert(t as u32);
            }
            let mut ladders: Vec<(u32, u32)> = Vec::new();
            for &axis in axes.iter().filter(|x| shape[**x] > 1) {
                let mut indices: Vec<usize> = at
                    .keys()
                    .map(|e| *e as usize / s[axis] % shape[axis])
                    .collect();
                indices.sort_unstable();
                indices.dedup();
                if indices.len() < 2 {
                    continue;
                }
                let low = at
                    .iter()
                    .filter(|(e, _)| **e as usize / s[axis] % shape[axis] == indices[0])
                    .map(|(e, t)| (*e, *t))
                    .min()?;
                let next = at.get(&(low.0 + s[axis] as u32))?;
                let step = (*next + slots as u32 - low.1) % slots as u32;
                ladders.push((step, indices.len() as u32));
            }
            let mut best: Option<(usize, usize, Vec<Run>, Vec<Label>)> = None;
            for choice in 0..1u32 << ladders.len().min(4) {
                let runs: Vec<(u32, u32)> = ladders
                    .iter()
                    .enumerate()
                    .map(|(i, (step, n))| {
                        let exact = choice >> i & 1 == 1;
                        (*step, if exact { *n } else { n.next_power_of_two() })
                    })
                    .collect();
                let held = follow(&start, &runs, &names);
                let mut hit: Vec<u32> = held.iter().copied().filter(|l| *l < ZERO).collect();
                let good = hit.len();
                hit.sort_unstable();
                hit.dedup();
                let mut served: Vec<u32> = Vec::new();
                for &v in &members {
                    served.extend(
                        labels[v]
                            .iter()
                            .filter(|l| **l < ZERO)
                            .map(|l| targets[*l as usize]),
                    );
                }
                served.sort_unstable();
                served.dedup();
                if hit != served {
                    continue;
                }
                let rotations: usize = runs
                    .iter()
                    .map(|(_, n)| (n.ilog2() + n.count_ones() - 1) as usize)
                    .sum();
                let better = best
                    .as_ref()
                    .is_none_or(|b| (rotations, slots - good) < (b.0, slots - b.1));
                if better {
                    best = Some((rotations, good, runs, held));
                }
            }
            let (_, _, runs, held) = best?;
            for l in held.iter().filter(|l| **l < ZERO) {
                covered[*l as usize] = true;
            }
            planned.push((members, runs, held));
        }
        if covered.iter().any(|c| !c) {
            return None;
        }
        let one = Coefficient::Const(Real(1.0));
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        for (members, runs, held) in planned {
            let mut node = self
                .emit
                .linear(members.iter().map(|v| (one, packed.vectors[*v])).collect());
            for (step, count) in runs {
                node = linear::run(&mut self.emit, node, i64::from(step), count);
            }
            vectors.push(node);
            placed.push(held.into());
        }
        let count = (elements(shape) / elements(out).max(1)) as f64;
        let image = Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range: intervals::scale(packed.range, count),
            junk: intervals::scale(packed.whole(), 2.0 * count),
        };
        Some(self.new_source(image, out))
    }

    /// Every result at the slots of the element that is its anchor; results that meet go to vectors of their own.
    fn anchored(&self, view: &View, anchors: &[u32]) -> Placement {
        let mut by_anchor: FxHashMap<(u32, u32), Vec<u32>> = FxHashMap::default();
        for (i, a) in anchors.iter().enumerate() {
            let r = view.refs[*a as usize];
            by_anchor
                .entry((r.source, r.element))
                .or_default()
                .push(i as u32);
        }
        let mut layers: Vec<Vec<Rc<[Label]>>> = Vec::new();
        let most = by_anchor.values().map(Vec::len).max().unwrap_or(0);
        let mut named: Vec<u32> = view.refs.iter().map(|r| r.source).collect();
        named.sort_unstable();
        named.dedup();
        for k in 0..most {
            let mut layer = Vec::new();
            for s in named.iter().filter(|s| **s != NOTHING.source) {
                for labels in &self.sources[*s as usize].packed[0].placement.vectors {
                    let mine: Rc<[Label]> = labels
                        .iter()
                        .map(|l| {
                            by_anchor
                                .get(&(*s, *l))
                                .and_then(|n| n.get(k))
                                .copied()
                                .unwrap_or(JUNK)
                        })
                        .collect();
                    if mine.iter().any(|l| *l != JUNK) {
                        layer.push(mine);
                    }
                }
            }
            layers.push(layer);
        }
        Placement {
            vectors: layers.into_iter().flatten().collect(),
        }
    }

    /// Sums of blocks.
    fn pool(&mut self, a: &View, n: usize, shape: &[usize], out: &[usize]) -> View {
        let s = strides(shape);
        let rank = shape.len();
        let mut terms: Vec<Vec<(u32, Weight)>> = Vec::with_capacity(elements(out));
        super::expand::for_each_index(out, |at| {
            let base: usize = (0..rank)
                .map(|i| at[i] * s[i] * if i + 2 >= rank { n } else { 1 })
                .sum();
            let mut list = Vec::with_capacity(n * n);
            for y in 0..n {
                for x in 0..n {
                    list.push(((base + y * s[rank - 2] + x) as u32, Weight::Const(1.0)));
                }
            }
            terms.push(list);
        });
        if terms.is_empty() {
            return View {
                refs: Rc::from([]),
                shape: out.to_vec(),
            };
        }
        let lying = self.lying(a);
        let anchors: Vec<u32> = terms.iter().map(|t| t[0].0).collect();
        let wanted = self.anchored(&lying, &anchors);
        let (plans, _) = self
            .linear_plans(&lying, &wanted, &|e| terms[e as usize].clone())
            .expect("it lies somewhere");
        let range = intervals::scale(self.range_of_view(&lying), (n * n) as f64);
        let packed = self.write_plans(&lying, &wanted, &plans, range, None);
        self.new_source(packed, out)
    }

    /// A view as one source of its own that lies somewhere, each element once in the list.
    fn lying(&mut self, a: &View) -> View {
        let (packed, wanted) = self.settle(a);
        let source = Packed {
            placement: Rc::new(read_as(&packed, &wanted)),
            ..packed
        };
        self.new_source(source, &a.shape)
    }

    // ---- products ----------------------------------------------------------------------------

    /// A product of two secret matrices: all scalar products at once, then sums over the inner axis.
    fn product(&mut self, a: &View, b: &View, shapes: &[&[usize]], out: &[usize]) -> View {
        let (rows, inner, columns) = matmul_extents(shapes[0], shapes[1]);
        self.contract(
            [rows, inner, columns],
            &|i, k, _| a.refs[i * inner + k],
            Some(&|_, k, j| b.refs[k * columns + j]),
            out,
        )
    }

    /// Σ_k a(i, k, j) · b(i, k, j) for all i, j, in the best order of the three axes.
    fn contract(
        &mut self,
        extents: [usize; 3],
        a: &dyn Fn(usize, usize, usize) -> Ref,
        b: Option<&dyn Fn(usize, usize, usize) -> Ref>,
        out: &[usize],
    ) -> View {
        // the inner axis slowest: its sums then come out everywhere
        const ORDERS: [[usize; 3]; 6] = [
            [1, 0, 2],
            [1, 2, 0],
            [0, 1, 2],
            [2, 1, 0],
            [0, 2, 1],
            [2, 0, 1],
        ];
        let view = |order: [usize; 3], f: &dyn Fn(usize, usize, usize) -> Ref| {
            let shape: Vec<usize> = order.iter().map(|o| extents[*o]).collect();
            let mut refs = Vec::with_capacity(elements(&shape));
            super::expand::for_each_index(&shape, |at| {
                let mut index = [0; 3];
                for (place, axis) in order.iter().enumerate() {
                    index[*axis] = at[place];
                }
                refs.push(f(index[0], index[1], index[2]));
            });
            View {
                refs: refs.into(),
                shape,
            }
        };
        let volume: usize = extents.iter().product();
        let orders = if volume > 1 << 20 {
            &ORDERS[..1]
        } else {
            &ORDERS[..]
        };
        let mut best: Option<(f64, [usize; 3], Placement)> = None;
        let mut tried: Vec<Vec<usize>> = Vec::new();
        for &order in orders {
            // an axis of one element has no place of its own
            let real: Vec<usize> = order.into_iter().filter(|a| extents[*a] > 1).collect();
            if tried.contains(&real) {
                continue;
            }
            tried.push(real);
            let x = view(order, a);
            let y = b.map(|b| view(order, b));
            let mut candidates = vec![canonical(&x.shape, self.slots, &row_major(&x.shape))];
            candidates.extend(self.natural(&x));
            if let Some(y) = &y {
                candidates.extend(self.natural(y));
            }
            for c in candidates {
                let mut effort = self.route(&x, &c).1;
                if best.as_ref().is_some_and(|(b, ..)| effort.cost() >= *b) {
                    continue;
                }
                if let Some(y) = &y {
                    effort = effort.beside(self.route(y, &c).1);
                }
                let ladder = extents[1].next_power_of_two().ilog2();
                // sums over a slow axis come out everywhere, over a fast one only in places
                let slow = order[0] == 1;
                let cost = effort.cost()
                    + c.vectors.len() as f64 * 1.5
                    + f64::from(ladder)
                    + if slow { 0.0 } else { 0.5 };
                if best.as_ref().is_none_or(|(b, ..)| cost < *b) {
                    best = Some((cost, order, c));
                }
            }
        }
        let (_, order, wanted) = best.expect("there is always a dense placement");
        let x = view(order, a);
        let shape = x.shape.clone();
        let product = match b {
            Some(b) => {
                let y = view(order, b);
                let (x, y) = (self.bring(&x, &wanted), self.bring(&y, &wanted));
                let packed = self.combine(&TensorOp::Mul, &x, &y, &wanted);
                self.new_source(packed, &shape)
            }
            None => x,
        };
        let axis = order.iter().position(|o| *o == 1).unwrap_or(0);
        let kept: Vec<usize> = order.iter().copied().filter(|o| *o != 1).collect();
        let summed: Vec<usize> = kept.iter().map(|o| extents[*o]).collect();
        let sum = self.sum(&product, &[axis], &summed);
        let sum = if kept == [2, 0] {
            transposed(&sum, extents[2], extents[0])
        } else {
            sum
        };
        reshaped(&sum, out)
    }

    /// A known matrix times a secret one of `n` columns: hybrid diagonals. The slots are taken as
    /// rows of the result, over and over; the matrix is laid along the diagonals of these blocks,
    /// and the blocks are added up by doubling, which leaves the result in all of them.
    fn matrix(&mut self, w: &Matrix<'_>, x: &View, n: usize) -> View {
        if n > self.slots {
            // as many columns at once as a vector has slots
            let mut refs = vec![NOTHING; w.rows * n];
            for start in (0..n).step_by(self.slots) {
                let count = self.slots.min(n - start);
                let part = View {
                    refs: (0..w.inner * count)
                        .map(|e| x.refs[e / count * n + start + e % count])
                        .collect(),
                    shape: vec![w.inner, count],
                };
                let y = self.matrix(w, &part, count);
                for (e, r) in y.refs.iter().enumerate() {
                    refs[e / count * n + start + e % count] = *r;
                }
            }
            return View {
                refs: refs.into(),
                shape: vec![w.rows, n],
            };
        }
        let shape = vec![w.inner, n];
        let x = reshaped(x, &shape);
        let (packed, wanted) = self.columns_regular(&x, n);
        let labels = read_as(&packed, &wanted);
        let lying = Packed {
            placement: Rc::new(labels.clone()),
            ..packed.clone()
        };
        let column = n.next_power_of_two();
        let range = {
            let r = intervals::mul(packed.range, self.known_range(w.known));
            intervals::scale(r, w.inner as f64)
        };
        let few = w.rows * w.inner <= FEW_WEIGHTS && matches!(w.known, Known::Const(_));
        let rows_at_once = w.rows.next_power_of_two().min(self.slots / column);
        // the least period, in rows
        let mut period = self.slots / column;
        while period > 1
            && labels.vectors.iter().all(|l| {
                let half = period / 2 * column;
                (0..self.slots).all(|t| l[t] == l[(t + half) % self.slots])
            })
        {
            period /= 2;
        }
        let mut vectors = Vec::new();
        let mut placed: Vec<Rc<[Label]>> = Vec::new();
        let weight = |i: usize, j: usize| match w.known {
            Known::Const(c) => Weight::Const(c.data()[(w.index)(i, j) as usize]),
            Known::Runtime(_) => Weight::Public((w.index)(i, j)),
        };
        // one copy of each element within a period
        let mut seen = vec![false; w.inner * n];
        let mut primary: Vec<Vec<Label>> = Vec::new();
        for l in &labels.vectors {
            let mut mine = vec![JUNK; self.slots];
            for t in 0..period * column {
                if l[t] < ZERO && !std::mem::replace(&mut seen[l[t] as usize], true) {
                    mine[t] = l[t];
                }
            }
            for t in period * column..self.slots {
                mine[t] = mine[t - period * column];
            }
            primary.push(mine);
        }
        let held: Vec<&[Label]> = labels.vectors.iter().map(|l| &**l).collect();
        let mut chunks = Vec::new();
        let mut effort = Effort::default();
        for chunk in (0..w.rows).step_by(rows_at_once) {
            let block = rows_at_once;
            let mut entries = Vec::new();
            for (v, mine) in primary.iter().enumerate() {
                for (s, l) in mine.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                    let j = *l as usize / n;
                    for d in 0..block.min(period) {
                        let t = (s + self.slots - d * column) % self.slots;
                        let i = chunk + t / column % block;
                        if i < w.rows {
                            let weight = weight(i, j);
                            if weight != Weight::Const(0.0) {
                                entries.push(Entry {
                                    vector: v as u32,
                                    distance: (d * column) as u32,
                                    slot: t as u32,
                                    weight,
                                });
                            }
                        }
                    }
                }
            }
            let everything = vec![0; self.slots];
            let plan = linear::plan(self.slots, &held, &everything, entries);
            let blocks = (period / block.min(period)) as u32;
            effort = effort.beside(plan.effort);
            effort.rotations += blocks.ilog2() as usize;
            let row_labels: Rc<[Label]> = (0..self.slots)
                .map(|t| {
                    let (i, c) = (chunk + t / column % block, t % column);
                    if i < w.rows && i < chunk + block && c < n {
                        (i * n + c) as Label
                    } else {
                        ZERO
                    }
                })
                .collect();
            chunks.push((plan, blocks, row_labels));
        }
        if few {
            let view = self.new_source(lying.clone(), &shape);
            let anchors: Vec<u32> = (0..w.rows * n).map(|e| (e % n) as u32).collect();
            let apart = self.anchored(&view, &anchors);
            let terms = |e: u32| -> Vec<(u32, Weight)> {
                let (i, c) = (e as usize / n, e as usize % n);
                (0..w.inner)
                    .map(|j| ((j * n + c) as u32, weight(i, j)))
                    .collect()
            };
            if let Some((plans, other)) = self.linear_plans(&view, &apart, &terms)
                && other.cost() + apart.vectors.len() as f64 * 1.5
                    < effort.cost() + chunks.len() as f64 * 1.5
            {
                let packed = self.write_plans(&view, &apart, &plans, range, None);
                return self.new_source(packed, &[w.rows, n]);
            }
        }
        let public = self.weights_of(w.known);
        for (plan, blocks, row_labels) in chunks {
            let node = match linear::write(&mut self.emit, &plan, &packed.vectors, public) {
                Some(z) => {
                    let step = rows_at_once.min(period) * column;
                    linear::run(&mut self.emit, z, step as i64, blocks)
                }
                None => {
                    let of = self.some_cipher();
                    self.emit.zero(of)
                }
            };
            vectors.push(node);
            placed.push(row_labels);
        }
        let image = Packed {
            vectors,
            placement: Rc::new(Placement { vectors: placed }),
            range,
            junk: Interval::new(0.0, 0.0),
        };
        self.new_source(image, &[w.rows, n])
    }

    fn weights_of(&mut self, known: &Known) -> Option<PublicWeights> {
        match known {
            Known::Const(_) => None,
            Known::Runtime(id) => Some(PublicWeights {
                output: self.public.output(*id),
                range: self.public.range(*id),
            }),
        }
    }

    /// A matrix whose columns each have their own residue of the slot number.
    fn columns_regular(&mut self, x: &View, n: usize) -> (Packed, Rc<Placement>) {
        let column = n.next_power_of_two();
        if let Some(s) = self.single(x)
            && self.sources[s as usize].packed.is_empty()
        {
            let wanted = canonical(&x.shape, self.slots, &row_major(&x.shape));
            return (self.bring(x, &wanted), Rc::new(wanted));
        }
        if let Some(natural) = self.natural(x) {
            let regular = natural.vectors.iter().all(|l| {
                l.iter()
                    .enumerate()
                    .all(|(t, l)| *l >= ZERO || t % column == *l as usize % n)
            });
            if regular {
                return (self.bring(x, &natural), Rc::new(natural));
            }
        }
        let wanted = canonical(&x.shape, self.slots, &row_major(&x.shape));
        (self.bring(x, &wanted), Rc::new(wanted))
    }

    // ---- convolution -------------------------------------------------------------------------

    fn convolve(
        &mut self,
        x: &View,
        kernel: &Known,
        stride: usize,
        shapes: &[&[usize]],
        out: &[usize],
    ) -> View {
        let (h, w) = (shapes[0][1], shapes[0][2]);
        let (channels, kh, kw) = (shapes[1][1], shapes[1][2], shapes[1][3]);
        let lying = self.lying(x);
        let weight = |i: usize| match kernel {
            Known::Const(c) => Weight::Const(c.data()[i]),
            Known::Runtime(_) => Weight::Public(i as u32),
        };
        let (oh, ow) = (out[1], out[2]);
        let terms = |e: u32| -> Vec<(u32, Weight)> {
            let e = e as usize;
            let (o, oy, ox) = (e / (oh * ow), e / ow % oh, e % ow);
            let mut list = Vec::with_capacity(channels * kh * kw);
            super::expand::for_each_index(&[channels, kh, kw], |k| {
                let (y, x) = (oy * stride + k[1], ox * stride + k[2]);
                let at = ((o * channels + k[0]) * kh + k[1]) * kw + k[2];
                list.push((((k[0] * h + y) * w + x) as u32, weight(at)));
            });
            list
        };
        let anchors: Vec<u32> = (0..elements(out))
            .map(|e| ((e / ow % oh * stride) * w + e % ow * stride) as u32)
            .collect();
        let apart = self.anchored(&lying, &anchors);
        let mut candidates = Vec::new();
        if let Some(together) = self.stacked(&apart, out[0]) {
            candidates.push(together);
        }
        candidates.push(apart);
        let mut best: Option<(f64, Placement, Vec<Plan>)> = None;
        for c in candidates {
            let (plans, effort) = self
                .linear_plans(&lying, &c, &terms)
                .expect("it lies somewhere");
            let cost = effort.cost() + c.vectors.len() as f64 * 1.5;
            if best.as_ref().is_none_or(|(b, ..)| cost < *b) {
                best = Some((cost, c, plans));
            }
        }
        let (_, wanted, plans) = best.expect("there is a candidate");
        let range = range_of(
            &TensorOp::Conv2d { stride },
            &[self.range_of_view(&lying), self.known_range(kernel)],
            shapes,
            &|_| Interval::UNIT,
        );
        let public = self.weights_of(kernel);
        let packed = self.write_plans(&lying, &wanted, &plans, range, public);
        self.new_source(packed, out)
    }

    /// Maps that lie in vectors of their own, again and again, put into one vector, a copy each.
    fn stacked(&self, apart: &Placement, maps: usize) -> Option<Placement> {
        let first = apart.vectors.first()?;
        if apart.vectors.len() != maps || maps < 2 {
            return None;
        }
        let mut period = self.slots;
        while period > 1
            && (0..self.slots).all(|t| first[t] == first[(t + period / 2) % self.slots])
        {
            period /= 2;
        }
        let copies = self.slots / period;
        if copies < 2 {
            return None;
        }
        let vectors = apart
            .vectors
            .chunks(copies)
            .map(|group| {
                (0..self.slots)
                    .map(|t| group.get(t / period).map_or(JUNK, |l| l[t]))
                    .collect()
            })
            .collect();
        Some(Placement { vectors })
    }

    /// A convolution with a secret kernel.
    fn convolve_secret(
        &mut self,
        operands: &[Value],
        stride: usize,
        shapes: &[&[usize]],
        out: &[usize],
    ) -> View {
        let (h, w) = (shapes[0][1], shapes[0][2]);
        let (maps, channels, kh, kw) = (shapes[1][0], shapes[1][1], shapes[1][2], shapes[1][3]);
        let (taps, places, ow) = (channels * kh * kw, out[1] * out[2], out[2]);
        let pixel = |k: usize, p: usize| {
            let (c, ky, kx) = (k / (kh * kw), k / kw % kh, k % kw);
            (c * h + p / ow * stride + ky) * w + p % ow * stride + kx
        };
        match (&operands[0], &operands[1]) {
            (Value::Secret(x), Value::Secret(k)) => self.contract(
                [maps, taps, places],
                &|_, t, p| x.refs[pixel(t, p)],
                Some(&|o, t, _| k.refs[o * taps + t]),
                out,
            ),
            (Value::Known(x), Value::Secret(k)) => {
                let index = |p: usize, t: usize| pixel(t, p) as u32;
                let m = Matrix {
                    known: x,
                    rows: places,
                    inner: taps,
                    index: &index,
                };
                let y = self.matrix(&m, &transposed(k, maps, taps), maps);
                reshaped(&transposed(&y, places, maps), out)
            }
            // a kernel that is known was dealt with before; nothing here is secret then
            (_, Value::Known(_)) => View {
                refs: vec![NOTHING; elements(out)].into(),
                shape: out.to_vec(),
            },
        }
    }

    // ---- facts and results -------------------------------------------------------------------

    /// A declared range is claimed for a vector when every slot obeys; slots that nobody reads are
    /// cleared when they would lie far outside.
    fn declare(&mut self, view: &View, node: &Node<Tensor>, read: bool) {
        let Some(source) = self.single(view) else {
            return;
        };
        let s = source as usize;
        let mut seen = vec![false; self.sources[s].refs_len()];
        for r in view.refs.iter() {
            seen[r.element as usize] = true;
        }
        if seen.iter().any(|x| !x) || self.sources[s].packed.is_empty() {
            return;
        }
        if node.keep {
            for k in 0..self.sources[s].packed[0].vectors.len() {
                let id = self.sources[s].packed[0].vectors[k];
                self.emit.keep(id);
            }
        }
        let Some(range) = node.declared else {
            return;
        };
        self.sources[s].range = self.sources[s].range.meet(range);
        let mut packed = self.sources[s].packed[0].clone();
        packed.range = packed.range.meet(range);
        let (mut vectors, mut placed) = (Vec::new(), Vec::new());
        for (id, labels) in packed.vectors.iter().zip(&packed.placement.vectors) {
            let dirty = labels.contains(&JUNK);
            let outside = dirty && (packed.junk.lo < range.lo || packed.junk.hi > range.hi);
            let far = packed.junk.magnitude() > FAR_OUTSIDE * range.magnitude();
            let mut id = *id;
            let mut labels = Rc::clone(labels);
            if outside && far && read {
                id = self.mask(id, &labels);
                labels = labels
                    .iter()
                    .map(|l| if *l == JUNK { ZERO } else { *l })
                    .collect();
            }
            let clean = !labels.contains(&JUNK) || !outside;
            let zero_fits = !labels.contains(&ZERO) || range.contains(0.0, 0.0);
            if clean && zero_fits {
                self.emit.declare(id, range);
            }
            vectors.push(id);
            placed.push(labels);
        }
        packed.vectors = vectors;
        packed.placement = Rc::new(Placement { vectors: placed });
        self.sources[s].packed[0] = packed;
    }

    fn finish(mut self, values: &[Option<Value>]) -> Result<Circuit<Slots>, Diagnostic> {
        let mut outputs: Vec<NodeId> = Vec::new();
        let mut numbers: FxHashMap<NodeId, u32> = FxHashMap::default();
        let mut results = Vec::new();
        let circuit = self.circuit;
        for (id, decl) in &circuit.outputs {
            let node = circuit.graph.node(*id);
            self.emit.span = node.span;
            let unpack = match values[id.index()].as_ref().expect("results are live") {
                Value::Known(known) => Unpack::Public(self.public.output_of(known, node.span)),
                Value::Secret(view) => {
                    self.ensure_all(view);
                    let mut number = |node: NodeId, outputs: &mut Vec<NodeId>| {
                        *numbers.entry(node).or_insert_with(|| {
                            outputs.push(node);
                            outputs.len() as u32 - 1
                        })
                    };
                    let mut first: FxHashMap<Ref, (NodeId, u32)> = FxHashMap::default();
                    let mut named: Vec<u32> = view.refs.iter().map(|r| r.source).collect();
                    named.sort_unstable();
                    named.dedup();
                    for s in named.into_iter().filter(|s| *s != NOTHING.source) {
                        let packed = &self.sources[s as usize].packed[0];
                        for (node, labels) in packed.vectors.iter().zip(&packed.placement.vectors) {
                            for (t, l) in labels.iter().enumerate().filter(|(_, l)| **l < ZERO) {
                                first
                                    .entry(Ref {
                                        source: s,
                                        element: *l,
                                    })
                                    .or_insert((*node, t as u32));
                            }
                        }
                    }
                    let mut places = Vec::with_capacity(view.refs.len());
                    for r in view.refs.iter() {
                        let (node, slot) = if *r == NOTHING {
                            let of = self.some_cipher();
                            (self.emit.zero(of), 0)
                        } else {
                            first[r]
                        };
                        places.push((number(node, &mut outputs), slot));
                    }
                    if let Some(range) = decl.range {
                        self.declare_result(view, range);
                    }
                    Unpack::Slots(places)
                }
            };
            results.push(PackedOutput {
                name: decl.name.clone(),
                shape: node.ty.shape().to_vec(),
                unpack,
            });
        }
        let mut lowered = self.emit.finish(&outputs, results);
        lowered.meta.public = self.public.finish();
        Ok(lowered)
    }

    /// The declared range of a result holds for vectors that hold nothing else.
    fn declare_result(&mut self, view: &View, range: Interval) {
        let Some(s) = self.single(view) else {
            return;
        };
        let mut seen = vec![false; self.sources[s as usize].refs_len()];
        for r in view.refs.iter() {
            seen[r.element as usize] = true;
        }
        let packed = self.sources[s as usize].packed[0].clone();
        for (node, labels) in packed.vectors.iter().zip(&packed.placement.vectors) {
            let obeys = labels.iter().all(|l| match *l {
                JUNK => packed.junk.lo >= range.lo && packed.junk.hi <= range.hi,
                ZERO => range.contains(0.0, 0.0),
                e => seen[e as usize],
            });
            if obeys {
                self.emit.declare(*node, range);
            }
        }
    }
}

/// Up to this many weights a known matrix may be written row by row.
const FEW_WEIGHTS: usize = 64;

/// Slots that nobody reads are cleared when they may be this much larger than a declared range.
const FAR_OUTSIDE: f64 = 4.0;

/// A known matrix: row i, column j is element `index(i, j)`.
struct Matrix<'a> {
    known: &'a Known,
    rows: usize,
    inner: usize,
    index: &'a dyn Fn(usize, usize) -> u32,
}

fn transposed(a: &View, rows: usize, columns: usize) -> View {
    let mut refs = Vec::with_capacity(rows * columns);
    for c in 0..columns {
        for r in 0..rows {
            refs.push(a.refs[r * columns + c]);
        }
    }
    View {
        refs: refs.into(),
        shape: vec![columns, rows],
    }
}

fn reshaped(a: &View, shape: &[usize]) -> View {
    View {
        refs: Rc::clone(&a.refs),
        shape: shape.to_vec(),
    }
}

/// A fixed random number for each element (splitmix64).
fn number(e: u32) -> u64 {
    let mut z = (u64::from(e) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What slots hold after the runs: a sum by its name, zero, or something else.
fn follow(start: &[(u64, bool)], runs: &[(u32, u32)], names: &FxHashMap<u64, u32>) -> Vec<Label> {
    let slots = start.len();
    let add = |a: &[(u64, bool)], b: &[(u64, bool)], step: usize| -> Vec<(u64, bool)> {
        (0..slots)
            .map(|t| {
                let other = b[(t + step) % slots];
                (a[t].0.wrapping_add(other.0), a[t].1 | other.1)
            })
            .collect()
    };
    let mut now = start.to_vec();
    for &(step, count) in runs {
        let zero = vec![(0, false); slots];
        let (mut power, mut sum, mut covered) = (now, zero, 0usize);
        let bits = count.ilog2();
        for bit in 0..=bits {
            if count >> bit & 1 == 1 {
                sum = add(&sum, &power, covered * step as usize % slots);
                covered += 1 << bit;
            }
            if bit < bits {
                power = add(&power, &power, ((step as usize) << bit) % slots);
            }
        }
        now = sum;
    }
    now.iter()
        .map(|(h, dirty)| match (dirty, names.get(h)) {
            (true, _) => JUNK,
            (false, Some(name)) => *name,
            (false, None) if *h == 0 => ZERO,
            (false, None) => JUNK,
        })
        .collect()
}

/// An element of a vector operation: the same number in every slot, or a vector.
#[derive(Clone, Copy)]
enum Lane {
    Const(f64),
    Cipher(NodeId),
}

/// Arithmetic on whole vectors.
struct Uniform<'a> {
    emit: &'a mut Emitter,
    of: NodeId,
}

impl Uniform<'_> {
    /// A vector also where the value is a number.
    fn cipher(&mut self, lane: Lane) -> NodeId {
        match lane {
            Lane::Cipher(c) => c,
            Lane::Const(v) => {
                let zero = self.emit.zero(self.of);
                let plain = self.emit.uniform(v);
                self.emit.add_plain(zero, plain)
            }
        }
    }
}

impl Algebra for Uniform<'_> {
    type Elem = Lane;

    fn constant(&mut self, value: f64) -> Lane {
        Lane::Const(value)
    }

    fn add(&mut self, a: &Lane, b: &Lane) -> Lane {
        match (*a, *b) {
            (Lane::Cipher(a), Lane::Cipher(b)) => Lane::Cipher(self.emit.add(a, b)),
            (Lane::Cipher(a), Lane::Const(v)) | (Lane::Const(v), Lane::Cipher(a)) => {
                let plain = self.emit.uniform(v);
                Lane::Cipher(self.emit.add_plain(a, plain))
            }
            (Lane::Const(a), Lane::Const(b)) => Lane::Const(a + b),
        }
    }

    fn sub(&mut self, a: &Lane, b: &Lane) -> Lane {
        match (*a, *b) {
            (Lane::Cipher(a), Lane::Cipher(b)) => Lane::Cipher(self.emit.sub(a, b)),
            (a, Lane::Const(v)) => self.add(&a, &Lane::Const(-v)),
            (a, b) => {
                let minus = self.neg(&b);
                self.add(&a, &minus)
            }
        }
    }

    fn mul(&mut self, a: &Lane, b: &Lane) -> Lane {
        match (*a, *b) {
            (Lane::Cipher(a), Lane::Cipher(b)) => Lane::Cipher(self.emit.mul(a, b)),
            (Lane::Cipher(_), Lane::Const(0.0)) | (Lane::Const(0.0), Lane::Cipher(_)) => {
                Lane::Const(0.0)
            }
            (Lane::Cipher(a), Lane::Const(v)) | (Lane::Const(v), Lane::Cipher(a)) => {
                Lane::Cipher(self.emit.scale(a, v))
            }
            (Lane::Const(a), Lane::Const(b)) => Lane::Const(a * b),
        }
    }

    fn div(&mut self, a: &Lane, b: &Lane) -> Lane {
        match (*a, *b) {
            (Lane::Const(a), Lane::Const(b)) => Lane::Const(a / b),
            (a, Lane::Const(b)) => self.mul(&a, &Lane::Const(1.0 / b)),
            // no operation in one secret variable divides by it
            (a, Lane::Cipher(_)) => a,
        }
    }

    fn neg(&mut self, a: &Lane) -> Lane {
        match *a {
            Lane::Cipher(a) => Lane::Cipher(self.emit.neg(a)),
            Lane::Const(v) => Lane::Const(-v),
        }
    }

    fn dot(&mut self, terms: &[(Lane, Option<Lane>)]) -> Lane {
        let one = Coefficient::Const(Real(1.0));
        let mut sum = Vec::new();
        let mut number = 0.0;
        for (a, b) in terms {
            match (*a, b.unwrap_or(Lane::Const(1.0))) {
                (Lane::Const(a), Lane::Const(b)) => number += a * b,
                (Lane::Cipher(a), Lane::Const(v)) | (Lane::Const(v), Lane::Cipher(a)) => {
                    sum.push((Coefficient::Const(Real(v)), a));
                }
                (Lane::Cipher(a), Lane::Cipher(b)) => sum.push((one, self.emit.mul(a, b))),
            }
        }
        if sum.is_empty() {
            return Lane::Const(number);
        }
        let sum = Lane::Cipher(self.emit.linear(sum));
        self.add(&sum, &Lane::Const(number))
    }
}

/// The labels that a wanted placement gives to vectors, zeros kept.
fn read_as(packed: &Packed, wanted: &Placement) -> Placement {
    Placement {
        vectors: packed
            .placement
            .vectors
            .iter()
            .zip(&wanted.vectors)
            .map(|(h, w)| {
                h.iter()
                    .zip(w.iter())
                    .map(|(h, w)| {
                        if *w < ZERO {
                            *w
                        } else if *h == ZERO {
                            ZERO
                        } else {
                            JUNK
                        }
                    })
                    .collect()
            })
            .collect(),
    }
}

impl Source {
    fn refs_len(&self) -> usize {
        elements(&self.shape)
    }
}

/// The sources that a view takes elements of, ascending.
fn named(view: &View) -> Vec<u32> {
    let mut out: Vec<u32> = view
        .refs
        .iter()
        .map(|r| r.source)
        .filter(|s| *s != NOTHING.source)
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Of several places (vector, slot), ascending, the vector and distance with the least cyclic distance to the right.
fn nearest(at: &[(u32, u32)], slot: u32, slots: u32) -> Option<(u32, u32)> {
    let first = at.first()?;
    let mut best = (first.0, (first.1 + slots - slot) % slots);
    for group in at.chunk_by(|a, b| a.0 == b.0) {
        // the first place at or after the slot, else the first of all
        let k = group.partition_point(|p| p.1 < slot);
        let p = group.get(k).unwrap_or(&group[0]);
        let distance = (p.1 + slots - slot) % slots;
        if distance < best.1 {
            best = (p.0, distance);
        }
    }
    Some(best)
}

/// Entries of the same place are one.
fn merge(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|e| (e.vector, e.distance, e.slot));
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len());
    for e in entries {
        if let Some(last) = out.last_mut()
            && (last.vector, last.distance, last.slot) == (e.vector, e.distance, e.slot)
            && let (Weight::Const(a), Weight::Const(b)) = (last.weight, e.weight)
        {
            last.weight = Weight::Const(a + b);
            continue;
        }
        out.push(e);
    }
    out.retain(|e| e.weight != Weight::Const(0.0));
    out
}
