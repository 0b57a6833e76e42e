//! The laws of the three dialects, and who breaks them.

use std::collections::BTreeSet;
use std::fmt;

use hecc_params::Parameters;

use crate::ckks::{Ckks, CkksOp, CkksType};
use crate::graph::{Circuit, CircuitId, Dialect, Module, NodeId};
use crate::slots::{
    Coefficient, PackedInput, PlainId, PlainSource, SlotMap, SlotSource, Slots, SlotsMeta, SlotsOp,
    SlotsType, Unpack,
};
use crate::span::Span;
use crate::tensor::{Affine, IvId, Tensor, TensorOp, TensorType, elements, shape_name};

/// A law that a circuit breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The circuit.
    pub circuit: CircuitId,
    /// The node, where it is a node's fault.
    pub node: Option<NodeId>,
    /// The source it came from.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{} {node}: {}", self.circuit, self.message),
            None => write!(f, "{}: {}", self.circuit, self.message),
        }
    }
}

/// The law of tensor modules; all violations.
///
/// * The entry is a circuit of the module, and a loop's body stands before its loop.
/// * Operands are all there and stand before their users; each type is what the dialect infers.
/// * `Input(i)` names a parameter. Constants are finite; a declared range has `lo <= hi`, both finite.
/// * A loop's body takes the carried and the captured values, in that order and of those shapes, and
///   yields the carried ones. Every induction variable belongs to one loop, and an index mentions
///   variables of loops around it alone. The entry is no loop's body.
/// * At every trip, blocks and slices lie within their tensors (checked at the ends of the variables'
///   ranges: indices are affine).
/// * Only `Proj` takes a loop's tuple. Outputs are tensors.
pub fn verify_tensor(module: &Module<Tensor>) -> Vec<Violation> {
    let mut out = Vec::new();
    if module.entry.0 as usize >= module.circuits.len() {
        out.push(Violation {
            circuit: module.entry,
            node: None,
            span: Span::default(),
            message: "the entry is no circuit of the module".to_owned(),
        });
        return out;
    }
    // The variables around each circuit with their ranges: bodies come first, so walk backwards.
    let mut around: Vec<Option<Vec<(IvId, i64, i64)>>> = vec![None; module.circuits.len()];
    let mut owned: BTreeSet<IvId> = BTreeSet::new();
    for index in (0..module.circuits.len()).rev() {
        let id = CircuitId(index as u32);
        let circuit = &module.circuits[index];
        let variables = around[index].clone().unwrap_or_default();
        let mut v = Checker::new(id, circuit, &mut out);
        v.graph();
        for node in circuit.graph.ids() {
            let operands = circuit.graph.operands(node);
            match circuit.graph.op(node) {
                TensorOp::Const(c) if c.data().iter().any(|x| !x.is_finite()) => {
                    v.at(node, "the constant has a value that is not finite");
                }
                TensorOp::Loop {
                    body,
                    iv,
                    first,
                    trips,
                    carried,
                    ..
                } => {
                    if *body >= id {
                        v.at(node, format!("its body {body} does not stand before it"));
                        continue;
                    }
                    if *body == module.entry {
                        v.at(node, "its body is the entry");
                    }
                    if !owned.insert(*iv) {
                        v.at(node, format!("variable i{} belongs to another loop", iv.0));
                    }
                    let last = i64::try_from(trips.saturating_sub(1))
                        .ok()
                        .and_then(|t| first.checked_add(t));
                    let Some(last) = last else {
                        v.at(node, "its variable leaves the integers of 64 bits");
                        continue;
                    };
                    let b = module.circuit(*body);
                    let given: Vec<TensorType> = operands
                        .iter()
                        .filter(|o| o.index() < circuit.graph.len())
                        .map(|o| circuit.graph.ty(*o).clone())
                        .collect();
                    if b.inputs.len() != given.len() {
                        v.at(
                            node,
                            format!(
                                "its body takes {} values and it gives {}",
                                b.inputs.len(),
                                given.len()
                            ),
                        );
                    }
                    for (i, (p, g)) in b.inputs.iter().zip(&given).enumerate() {
                        if TensorType::Tensor(p.shape.clone()) != *g {
                            v.at(
                                node,
                                format!(
                                    "its body takes {} as value {i} and it gives {}",
                                    shape_name(&p.shape),
                                    shape_name(g.shape())
                                ),
                            );
                        }
                    }
                    let yields: Vec<&[usize]> = b
                        .outputs
                        .iter()
                        .filter(|(o, _)| o.index() < b.graph.len())
                        .map(|(o, _)| b.graph.ty(*o).shape())
                        .collect();
                    if yields.len() != carried.len()
                        || yields.iter().zip(carried).any(|(y, c)| *y != c.as_slice())
                    {
                        v.at(node, "its body does not yield the carried values");
                    }
                    let mut inside = variables.clone();
                    // A body that never runs has no trip at which an index could be wrong.
                    if *trips > 0 {
                        inside.push((*iv, *first, last));
                        if around[body.0 as usize].replace(inside).is_some() {
                            v.at(node, format!("its body {body} is another loop's too"));
                        }
                    } else {
                        inside.push((*iv, *first, *first));
                        around[body.0 as usize] = Some(inside);
                    }
                }
                TensorOp::Index(affine) => v.affine(node, affine, &variables, None),
                TensorOp::Roll(affine) => v.affine(node, affine, &variables, None),
                TensorOp::Slice { starts, sizes } => {
                    if let Some(&o) = operands.first().filter(|o| **o < node) {
                        let whole = circuit.graph.ty(o).shape();
                        for (axis, start) in starts.iter().enumerate() {
                            let room = whole.get(axis).zip(sizes.get(axis));
                            v.affine(node, start, &variables, room.map(|(w, s)| (*w, *s)));
                        }
                    }
                }
                TensorOp::Update { starts } => {
                    if let [whole, block] = operands[..]
                        && whole < node
                        && block < node
                    {
                        let whole = circuit.graph.ty(whole).shape();
                        let block = circuit.graph.ty(block).shape();
                        for (axis, start) in starts.iter().enumerate() {
                            let room = whole.get(axis).zip(block.get(axis));
                            v.affine(node, start, &variables, room.map(|(w, s)| (*w, *s)));
                        }
                    }
                }
                TensorOp::Input(_)
                | TensorOp::Const(_)
                | TensorOp::Add
                | TensorOp::Sub
                | TensorOp::Mul
                | TensorOp::Div
                | TensorOp::Neg
                | TensorOp::Pow(_)
                | TensorOp::Poly(_)
                | TensorOp::MatMul
                | TensorOp::Sum(_)
                | TensorOp::Broadcast(_)
                | TensorOp::Reshape(_)
                | TensorOp::Transpose(_)
                | TensorOp::Concat(_)
                | TensorOp::Pad { .. }
                | TensorOp::Diag
                | TensorOp::Conv2d { .. }
                | TensorOp::SumPool(_)
                | TensorOp::Proj(_) => {}
            }
        }
        for (output, decl) in &circuit.outputs {
            if output.index() < circuit.graph.len()
                && matches!(circuit.graph.ty(*output), TensorType::Tuple(_))
            {
                v.at(*output, format!("output {} is a tuple", decl.name));
            }
        }
    }
    out
}

/// The law of slots circuits; all violations.
///
/// * S is a power of two. Operands are all there, stand before their users, and each type is what
///   the dialect infers; declared ranges have `lo <= hi`, both finite.
/// * Inputs, plaintexts and results of the public program that are mentioned exist. A map has S
///   entries; a vector of constants has S finite values. A coefficient's plaintext is uniform.
/// * Outputs are encrypted; what unpacks them stays within them and has as many places as the
///   result has elements. A batch has at most S instances, in a complex circuit 2·S.
/// * Only a complex circuit conjugates or multiplies by the imaginary unit. It does not rotate, all that
///   it packs or unpacks are instances of a batch or the same for all, and no product has a plaintext operand.
/// * The public program and the client's part are lawful tensor circuits without loops.
pub fn verify_slots(circuit: &Circuit<Slots>) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut v = Checker::new(CircuitId(0), circuit, &mut out);
    v.graph();
    v.meta(&circuit.meta, circuit.inputs.iter(), circuit.outputs.len());
    for node in circuit.graph.ids() {
        match circuit.graph.op(node) {
            SlotsOp::Plain(p) => v.plain(node, &circuit.meta, *p),
            SlotsOp::LinComb(coefficients) => {
                for c in coefficients {
                    v.coefficient(node, &circuit.meta, c);
                }
            }
            SlotsOp::Rotate(_) => v.parts(node, &circuit.meta, false),
            SlotsOp::Conjugate | SlotsOp::TimesI => v.parts(node, &circuit.meta, true),
            SlotsOp::Mul => {
                let operands = circuit.graph.operands(node);
                if operands
                    .iter()
                    .any(|&o| o < node && *circuit.graph.ty(o) == SlotsType::Plain)
                {
                    v.parts(node, &circuit.meta, false);
                }
            }
            SlotsOp::Input(_) | SlotsOp::Add | SlotsOp::Sub | SlotsOp::Neg | SlotsOp::Square => {}
        }
    }
    for (output, ()) in &circuit.outputs {
        if output.index() < circuit.graph.len() && *circuit.graph.ty(*output) == SlotsType::Plain {
            v.at(*output, "an output is not encrypted");
        }
    }
    public_program(&circuit.meta, &mut out);
    out
}

/// The law of CKKS circuits; all violations.
///
/// * All of the law of slots circuits that concerns inputs, plaintexts and results.
/// * Levels of inputs and plaintexts lie within the chain, and each `Rescale` names the prime at its
///   operand's level (both checked when `parameters` are given).
/// * Scales are finite and at least 1; degrees are 1 or 2; outputs are ciphertexts of degree 1.
/// * `Relinearize` takes degree 2. The scale of `MulScalar` and `LinComb` is finite and positive.
/// * S is at most the ring's count of slots (checked when `parameters` are given).
pub fn verify_ckks(circuit: &Circuit<Ckks>, parameters: Option<&Parameters>) -> Vec<Violation> {
    let mut out = Vec::new();
    let graph = &circuit.graph;
    let mut v = Checker::new(CircuitId(0), circuit, &mut out);
    v.graph();
    v.meta(
        &circuit.meta,
        circuit.inputs.iter().map(|i| &i.packed),
        circuit.outputs.len(),
    );
    if let Some(p) = parameters
        && circuit.meta.slots > p.log_n().slots()
    {
        v.whole(format!(
            "{} slots do not fit a ring with {}",
            circuit.meta.slots,
            p.log_n().slots()
        ));
    }
    for node in graph.ids() {
        let ty = *graph.ty(node);
        let scale = ty.scale().0;
        if !(scale.is_finite() && scale >= 1.0) {
            v.at(node, format!("its scale {scale} is not finite or below 1"));
        }
        if let Some(p) = parameters
            && ty.level() > p.max_level()
        {
            v.at(
                node,
                format!(
                    "its level {} is above the chain's top {}",
                    ty.level(),
                    p.max_level()
                ),
            );
        }
        let operand = graph
            .operands(node)
            .first()
            .filter(|o| **o < node)
            .map(|o| *graph.ty(*o));
        let mut factor = |scale: f64| {
            if !(scale.is_finite() && scale > 0.0) {
                v.at(node, format!("the factor's scale {scale} is not positive"));
            }
        };
        match graph.op(node) {
            CkksOp::Encode { plain, .. } => v.plain(node, &circuit.meta, *plain),
            CkksOp::AddScalar(c) => v.coefficient(node, &circuit.meta, c),
            CkksOp::MulScalar { value, scale } => {
                factor(scale.0);
                v.coefficient(node, &circuit.meta, value);
            }
            CkksOp::LinComb {
                coefficients,
                scale,
            } => {
                factor(scale.0);
                for c in coefficients {
                    v.coefficient(node, &circuit.meta, c);
                }
            }
            CkksOp::Relinearize => {
                if matches!(operand, Some(CkksType::Cipher { degree: 1, .. })) {
                    v.at(node, "its operand has degree 1 already");
                }
            }
            CkksOp::Rescale { prime } => {
                if let (Some(p), Some(ty)) = (parameters, operand)
                    && p.q().get(ty.level().0 as usize) != Some(prime)
                {
                    v.at(
                        node,
                        format!("{prime} is not the prime at level {}", ty.level()),
                    );
                }
            }
            CkksOp::Rotate(_) => v.parts(node, &circuit.meta, false),
            CkksOp::Conjugate | CkksOp::TimesI => v.parts(node, &circuit.meta, true),
            CkksOp::Mul => {
                let plain = |o: &NodeId| matches!(graph.ty(*o), CkksType::Plain { .. });
                if graph.operands(node).iter().any(|o| *o < node && plain(o)) {
                    v.parts(node, &circuit.meta, false);
                }
            }
            CkksOp::Input(_)
            | CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::Square
            | CkksOp::DropLevel(_) => {}
        }
    }
    for (output, ()) in &circuit.outputs {
        if output.index() < graph.len()
            && !matches!(graph.ty(*output), CkksType::Cipher { degree: 1, .. })
        {
            v.at(*output, "an output is no ciphertext of degree 1");
        }
    }
    public_program(&circuit.meta, &mut out);
    out
}

fn public_program(meta: &SlotsMeta, out: &mut Vec<Violation>) {
    for (name, part) in [
        ("public program", &meta.public),
        ("client's part", &meta.client),
    ] {
        let Some(part) = part else {
            continue;
        };
        let module = Module::single(part.clone());
        out.extend(verify_tensor(&module).into_iter().map(|v| Violation {
            message: format!("in the {name}: {}", v.message),
            ..v
        }));
    }
}

struct Checker<'a, D: Dialect> {
    id: CircuitId,
    circuit: &'a Circuit<D>,
    out: &'a mut Vec<Violation>,
}

impl<'a, D: Dialect> Checker<'a, D> {
    fn new(id: CircuitId, circuit: &'a Circuit<D>, out: &'a mut Vec<Violation>) -> Self {
        Checker { id, circuit, out }
    }

    fn at(&mut self, node: NodeId, message: impl Into<String>) {
        let span = if node.index() < self.circuit.graph.len() {
            self.circuit.graph.span(node)
        } else {
            Span::default()
        };
        self.out.push(Violation {
            circuit: self.id,
            node: Some(node),
            span,
            message: message.into(),
        });
    }

    fn whole(&mut self, message: impl Into<String>) {
        self.out.push(Violation {
            circuit: self.id,
            node: None,
            span: Span::default(),
            message: message.into(),
        });
    }

    /// What holds in every dialect: operands, types, declared ranges, outputs.
    fn graph(&mut self) {
        let graph = &self.circuit.graph;
        for node in graph.ids() {
            let operands = graph.operands(node);
            if let Some(bad) = operands.iter().find(|o| **o >= node) {
                self.at(node, format!("operand {bad} does not stand before it"));
                continue;
            }
            let types: Vec<&D::Type> = operands.iter().map(|o| graph.ty(*o)).collect();
            match D::infer(graph.op(node), &types, &self.circuit.inputs) {
                Err(reason) => {
                    let name = D::mnemonic(graph.op(node));
                    self.at(node, format!("{name}: {reason}"));
                }
                Ok(ty) if ty != *graph.ty(node) => {
                    let message = format!("its type is {:?} and should be {ty:?}", graph.ty(node));
                    self.at(node, message);
                }
                Ok(_) => {}
            }
            if let Some(range) = graph.node(node).declared {
                let good = range.lo.is_finite() && range.hi.is_finite() && range.lo <= range.hi;
                if !good {
                    self.at(node, format!("no range: [{}, {}]", range.lo, range.hi));
                }
            }
        }
        for (output, _) in &self.circuit.outputs {
            if output.index() >= graph.len() {
                self.at(*output, "an output is no node");
            }
        }
    }

    fn affine(
        &mut self,
        node: NodeId,
        affine: &Affine,
        variables: &[(IvId, i64, i64)],
        room: Option<(usize, usize)>,
    ) {
        let (mut lo, mut hi) = (i128::from(affine.constant), i128::from(affine.constant));
        for &(iv, c) in &affine.terms {
            let Some(&(_, first, last)) = variables.iter().find(|(v, ..)| *v == iv) else {
                self.at(node, format!("i{} is no variable of a loop around", iv.0));
                return;
            };
            let ends = [
                i128::from(c) * i128::from(first),
                i128::from(c) * i128::from(last),
            ];
            lo = lo.saturating_add(ends[0].min(ends[1]));
            hi = hi.saturating_add(ends[0].max(ends[1]));
        }
        if let Some((whole, size)) = room
            && (lo < 0 || hi + size as i128 > whole as i128)
        {
            self.at(
                node,
                format!("{size} elements from {lo}..={hi} leave an axis of {whole}"),
            );
        }
        if lo < i128::from(i64::MIN) || hi > i128::from(i64::MAX) {
            self.at(node, "an index leaves the integers of 64 bits");
        }
    }

    /// An operation that complex circuits alone have, or do not have.
    fn parts(&mut self, node: NodeId, meta: &SlotsMeta, complex: bool) {
        if meta.complex != complex {
            let kind = if meta.complex { "complex" } else { "real" };
            self.at(node, format!("a {kind} circuit has no such operation"));
        }
    }

    fn plain(&mut self, node: NodeId, meta: &SlotsMeta, plain: PlainId) {
        if plain.0 as usize >= meta.plains.len() {
            self.at(node, format!("there is no plaintext {}", plain.0));
        }
    }

    fn coefficient(&mut self, node: NodeId, meta: &SlotsMeta, c: &Coefficient) {
        match c {
            Coefficient::Const(x) if !x.0.is_finite() => {
                self.at(node, "a coefficient is not finite");
            }
            Coefficient::Const(_) => {}
            Coefficient::Plain(p) => match meta.plains.get(p.0 as usize).map(|p| &p.source) {
                None => self.at(node, format!("there is no plaintext {}", p.0)),
                Some(
                    PlainSource::Uniform(_)
                    | PlainSource::Public {
                        source: SlotSource::Element(_),
                        ..
                    },
                ) => {}
                Some(PlainSource::Vector(_) | PlainSource::Public { .. }) => self.at(
                    node,
                    format!("plaintext {} is a coefficient and not uniform", p.0),
                ),
            },
        }
    }

    fn meta<'b>(
        &mut self,
        meta: &SlotsMeta,
        inputs: impl Iterator<Item = &'b PackedInput>,
        outputs: usize,
    ) {
        let slots = meta.slots;
        if !slots.is_power_of_two() {
            self.whole(format!("{slots} slots are no power of two"));
        }
        if meta.batch.is_some_and(|b| b as usize > meta.values()) {
            self.whole(format!("the batch does not fit {slots} slots"));
        }
        let instances = |source: &SlotSource| matches!(source, SlotSource::Instances(_));
        let good = |r: crate::graph::Interval| r.lo.is_finite() && r.hi.is_finite() && r.lo <= r.hi;
        for input in inputs {
            if !good(input.range) {
                self.whole(format!("the range of input {} is none", input.label));
            }
            self.source(&input.source, slots, None, &input.label);
            if meta.complex && !instances(&input.source) {
                self.whole(format!("input {} packs no instances", input.label));
            }
        }
        for (i, plain) in meta.plains.iter().enumerate() {
            let name = format!("plaintext {i}");
            if !good(plain.range) {
                self.whole(format!("the range of {name} is none"));
            }
            match &plain.source {
                PlainSource::Uniform(x) if !x.is_finite() => {
                    self.whole(format!("{name} is not finite"));
                }
                PlainSource::Uniform(_) => {}
                PlainSource::Vector(_) if meta.complex => {
                    self.whole(format!("{name} is a vector in a complex circuit"));
                }
                PlainSource::Vector(v) => {
                    if v.len() != slots || v.iter().any(|x| !x.is_finite()) {
                        self.whole(format!("{name} is no vector of {slots} finite values"));
                    }
                }
                PlainSource::Public { output, source } => match public_elements(meta, *output) {
                    None => self.whole(format!("{name}: there is no public result {output}")),
                    Some(n) => self.source(source, slots, Some(n), &name),
                },
            }
        }
        for result in &meta.results {
            let n = elements(&result.shape);
            let fits = match &result.unpack {
                Unpack::Slots(places) => {
                    !meta.complex
                        && places.len() == n
                        && places
                            .iter()
                            .all(|&(v, s)| (v as usize) < outputs && (s as usize) < slots)
                }
                Unpack::Instances(vectors) => {
                    vectors.len() == n && vectors.iter().all(|&v| (v as usize) < outputs)
                }
                Unpack::Public(output) => public_elements(meta, *output) == Some(n),
            };
            if !fits {
                self.whole(format!(
                    "result {} is not where it unpacks from",
                    result.name
                ));
            }
        }
    }

    fn source(&mut self, source: &SlotSource, slots: usize, elements: Option<usize>, name: &str) {
        let inside = |e: u32| elements.is_none_or(|n| (e as usize) < n);
        let fits = match source {
            SlotSource::Map(SlotMap(map)) => {
                map.len() == slots && map.iter().all(|&e| e == SlotMap::EMPTY || inside(e))
            }
            SlotSource::Element(e) | SlotSource::Instances(e) => inside(*e),
        };
        if !fits {
            self.whole(format!("{name} names slots or elements that are not there"));
        }
    }
}

fn public_elements(meta: &SlotsMeta, output: u32) -> Option<usize> {
    let public = meta.public.as_ref()?;
    let (id, _) = public.outputs.get(output as usize)?;
    (id.index() < public.graph.len()).then(|| elements(public.graph.ty(*id).shape()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ckks::CkksInput;
    use crate::graph::{Graph, Interval, Node, Real};
    use crate::tensor::{ConstTensor, Param, ResultDecl, Secrecy, Shape};
    use hecc_params::{Level, Scale};

    fn text(v: &[Violation]) -> String {
        v.iter().map(|v| format!("{v}\n")).collect()
    }

    #[test]
    fn all_violations_of_a_tensor_circuit_are_found() {
        let s = Span::default();
        let mut c: Circuit<Tensor> = Circuit::new("c");
        c.inputs = vec![Param {
            name: "x".to_owned(),
            secrecy: Secrecy::Secret,
            shape: Shape::from_slice(&[2]),
            range: None,
            span: s,
        }];
        let x = c.push(TensorOp::Input(0), &[], s).expect("typed");
        c.push(TensorOp::Const(ConstTensor::scalar(f64::NAN)), &[], s)
            .expect("typed");
        let mut g: Graph<Tensor> = c.graph.clone();
        let scalar = TensorType::Tensor(Shape::new());
        let node = |op, ty: &TensorType| Node {
            op,
            ty: ty.clone(),
            span: s,
            declared: None,
            keep: false,
        };
        g.push_node(node(TensorOp::Neg, &scalar), &[x]);
        g.push_node(node(TensorOp::Input(7), &scalar), &[]);
        let i = g.push_node(
            node(TensorOp::Index(Affine::variable(IvId(3))), &scalar),
            &[],
        );
        g.declare(
            i,
            Interval {
                lo: 2.0,
                hi: f64::INFINITY,
            },
        );
        c.graph = g;
        c.outputs.push((
            NodeId(99),
            ResultDecl {
                name: "y".to_owned(),
                range: None,
                span: s,
            },
        ));
        let found = verify_tensor(&Module::single(c));
        let nodes: Vec<u32> = found.iter().map(|v| v.node.map_or(0, |n| n.0)).collect();
        assert_eq!(nodes, [2, 3, 4, 99, 1, 4], "{}", text(&found));
    }

    #[test]
    fn ckks_outputs_are_relinearized() {
        let s = Span::default();
        let mut c: Circuit<Ckks> = Circuit::new("c");
        c.meta.slots = 4;
        c.inputs = vec![CkksInput {
            packed: PackedInput {
                param: 0,
                source: SlotSource::Map(SlotMap(vec![0, 1, 2].into())),
                range: Interval::UNIT,
                label: "x".to_owned(),
            },
            level: Level(1),
            scale: Scale(1024.0),
        }];
        let x = c.push(CkksOp::Input(0), &[], s).expect("typed");
        let q = c.push(CkksOp::Square, &[x], s).expect("typed");
        let m = c
            .push(
                CkksOp::MulScalar {
                    value: Coefficient::Plain(PlainId(4)),
                    scale: Real(0.0),
                },
                &[q],
                s,
            )
            .expect("typed");
        c.outputs.push((m, ()));
        let found = verify_ckks(&c, None);
        let text = text(&found);
        for what in [
            "slots or elements",
            "not positive",
            "no plaintext 4",
            "degree 1",
            "below 1",
        ] {
            assert!(text.contains(what), "{what} in\n{text}");
        }
        assert_eq!(found.len(), 5, "{text}");
    }
}
