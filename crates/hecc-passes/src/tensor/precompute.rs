//! `@precompute`: products of the client's own inputs, computed before encryption.
//!
//! **What.** What depends on secret parameters and constants alone, with products of at most the
//! declared degree, may be computed by the client (the cost model takes it to be there before the
//! circuit begins). Of all such values that the rest of the program needs, those are sent that are
//! worth it: what saves neither a level nor a product is left to the evaluator, and so is what is
//! worth least while more ciphertexts would be sent than the program allows, as long as the
//! evaluator's work stays within its limit. Of several multiples of one value one is sent, the one
//! that is needed first; the others are its multiples. The circuit is split into the client's part,
//! from the parameters to the values that are sent, and the evaluator's part, which has a parameter
//! for each of them.
//!
//! **Why.** A product of two inputs costs the client next to nothing, and the evaluator a level.
//!
//! **Cost.** The square of the count of such values, times the size of the program, bounded.
//!
//! **Assumes** a flat circuit. Slices, transposes and other arrangements of a parameter are no
//! values of their own: the client arranges what it sends anyway.

use hecc_ir::graph::{Circuit, Interval, NodeId, Operands};
use hecc_ir::tensor::{Param, ResultDecl, Secrecy, Tensor, TensorOp};
use rustc_hash::FxHashMap;

use super::balance::Key;
use super::build::{Build, Simplify};
use super::cost::{self, Fact};
use crate::layout::range_of;

/// Slots that a ciphertext is taken to have.
const SLOTS: usize = 1 << 15;
/// Most nodes that are looked at to choose what is sent.
const WORK: usize = 40_000_000;
/// Work in additions of ciphertexts that a ciphertext sent has to save when it saves no level.
const WORTH: f64 = 64.0;

/// A program in two parts.
#[derive(Clone, Debug)]
pub struct Split {
    /// From the parameters to what is sent beside them.
    pub client: Circuit<Tensor>,
    /// The rest; its parameters are those of the program, then what is sent.
    pub server: Circuit<Tensor>,
}

/// Whether a value is a parameter in another arrangement.
fn arranged(circuit: &Circuit<Tensor>) -> Vec<bool> {
    let graph = &circuit.graph;
    let mut out: Vec<bool> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let here = match graph.op(id) {
            TensorOp::Input(_) => true,
            TensorOp::Slice { .. }
            | TensorOp::Reshape(_)
            | TensorOp::Transpose(_)
            | TensorOp::Broadcast(_)
            | TensorOp::Neg => out[graph.operands(id)[0].index()],
            _ => false,
        };
        out.push(here);
    }
    out
}

struct Chooser<'a> {
    circuit: &'a Circuit<Tensor>,
    facts: Vec<Fact>,
    arranged: Vec<bool>,
    key: Key,
    /// Work beyond which a choice is taken only where there is no other.
    limit: f64,
    work: usize,
}

/// How good a choice is.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Value {
    /// Whether it takes more work than is allowed.
    heavy: bool,
    /// What is minimised first.
    key: (u32, u32),
    work: f64,
    /// Of encrypted inputs.
    ciphertexts: usize,
}

impl Chooser<'_> {
    /// The value behind arrangements of it.
    fn behind(&self, mut id: NodeId) -> NodeId {
        let graph = &self.circuit.graph;
        while let TensorOp::Slice { .. }
        | TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Broadcast(_)
        | TensorOp::Neg = graph.op(id)
        {
            id = graph.operands(id)[0];
        }
        id
    }

    /// Whether a value is had from those that are sent: it is one of them, or one of them is a
    /// multiple of it.
    fn had(&self, sent: &[NodeId], id: NodeId) -> bool {
        sent.iter()
            .any(|s| *s == id || multiple(self.circuit, *s).is_some_and(|(_, of)| of == id))
    }

    fn computed(&self, id: NodeId) -> bool {
        let f = self.facts[id.index()];
        f.secret && f.client > 0 && !self.arranged[id.index()]
    }

    /// What the client may compute and something else needs.
    fn frontier(&self) -> Vec<NodeId> {
        let graph = &self.circuit.graph;
        let live = self.circuit.live();
        let mut out: Vec<NodeId> = Vec::new();
        let mut needs = |id: NodeId| {
            let source = self.behind(id);
            if self.computed(source) && !out.contains(&source) {
                out.push(source);
            }
        };
        for id in graph.ids().filter(|id| live[id.index()]) {
            let f = self.facts[id.index()];
            if f.secret && f.client == 0 {
                graph.operands(id).into_iter().for_each(&mut needs);
            }
        }
        for (id, _) in &self.circuit.outputs {
            needs(*id);
        }
        out.sort_unstable();
        out
    }

    /// The same without one: what it is made of is sent in its place.
    fn without(&self, sent: &[NodeId], at: usize) -> Vec<NodeId> {
        let mut out = sent.to_vec();
        let id = out.remove(at);
        let mut stack: Vec<NodeId> = self.circuit.graph.operands(id).to_vec();
        while let Some(o) = stack.pop() {
            let source = self.behind(o);
            if self.computed(source) && !self.had(&out, source) {
                out.push(source);
            }
        }
        out.sort_unstable();
        out
    }

    /// The same, and without all others that what is newly sent suffices for: many scalar multiples
    /// of one value give way to the value.
    fn joined(&self, sent: &[NodeId], at: usize) -> Vec<NodeId> {
        let mut out = self.without(sent, at);
        let new: Vec<NodeId> = out.iter().copied().filter(|o| !sent.contains(o)).collect();
        let here = out.clone();
        out.retain(|id| {
            let sources: Vec<NodeId> = self.circuit.graph.operands(*id).to_vec();
            let mut sources = sources
                .into_iter()
                .map(|o| self.behind(o))
                .filter(|o| self.computed(*o))
                .peekable();
            let made = sources.peek().is_some_and(|first| new.contains(first))
                && sources.all(|o| here.contains(&o));
            !made
        });
        out
    }

    fn value(&mut self, sent: &[NodeId]) -> Value {
        self.work = self.work.saturating_sub(self.circuit.graph.len());
        let server = server(self.circuit, sent, &[]);
        let cost = cost::cost(&server);
        let fact = Fact {
            depth: cost.depth,
            level: cost.levels,
            ..Fact::default()
        };
        Value {
            heavy: cost.work > self.limit,
            key: (self.key)(fact),
            work: cost.work,
            ciphertexts: ciphertexts(&server),
        }
    }
}

/// A factor known at compile time, the same everywhere, and the secret value that it is multiplied
/// with, where a value is such a product.
fn multiple(circuit: &Circuit<Tensor>, id: NodeId) -> Option<(NodeId, NodeId)> {
    let graph = &circuit.graph;
    if *graph.op(id) != TensorOp::Mul {
        return None;
    }
    let operands = graph.operands(id);
    [(0, 1), (1, 0)]
        .map(|(c, x)| (operands[c], operands[x]))
        .into_iter()
        .find(|(c, x)| {
            cost::uniform_constant(graph, *c)
                && !cost::uniform_constant(graph, *x)
                && graph.ty(*x).shape() == graph.ty(id).shape()
        })
}

/// About how many ciphertexts of inputs a flat circuit takes.
pub fn ciphertexts(circuit: &Circuit<Tensor>) -> usize {
    let graph = &circuit.graph;
    let live = circuit.live();
    let facts = cost::facts(circuit);
    let count = |id: NodeId| {
        let padded = graph
            .ty(id)
            .shape()
            .iter()
            .fold(1usize, |n, e| n.saturating_mul(e.next_power_of_two()));
        padded.div_ceil(SLOTS).max(1)
    };
    let mut whole = vec![false; graph.len()];
    let mut total = 0;
    for (id, _) in &circuit.outputs {
        whole[id.index()] = true;
    }
    for id in graph.ids().filter(|id| live[id.index()]) {
        let slice = matches!(graph.op(id), TensorOp::Slice { .. });
        for o in graph.operands(id) {
            let input = matches!(graph.op(o), TensorOp::Input(_)) && facts[o.index()].secret;
            if input && slice {
                total += count(id);
            }
            whole[o.index()] |= !slice;
        }
    }
    for id in graph
        .ids()
        .filter(|id| live[id.index()] && whole[id.index()])
    {
        if matches!(graph.op(id), TensorOp::Input(_)) && facts[id.index()].secret {
            total += count(id);
        }
    }
    total
}

/// What is to be sent, at about `most` ciphertexts in all; what is computed from it should not take
/// more than `limit` of work.
pub fn choose(circuit: &Circuit<Tensor>, most: usize, limit: f64, key: Key) -> Vec<NodeId> {
    let mut chooser = Chooser {
        circuit,
        facts: cost::facts(circuit),
        arranged: arranged(circuit),
        key,
        limit,
        work: WORK,
    };
    let mut sent = chooser.frontier();
    let mut best = chooser.value(&sent);
    // What is not worth it.
    let mut at = 0;
    while at < sent.len() && chooser.work > 0 {
        let other = chooser.without(&sent, at);
        let value = chooser.value(&other);
        let saved = best.ciphertexts as f64 - value.ciphertexts as f64;
        let worse = value.work - best.work;
        let as_good = (value.heavy, value.key) <= (best.heavy, best.key);
        if other.len() <= sent.len() && as_good && worse <= WORTH * saved.max(0.0) {
            sent = other;
            best = value;
        } else {
            at += 1;
        }
    }
    // What is too much.
    while best.ciphertexts > most && !sent.is_empty() {
        if chooser.work == 0 {
            return Vec::new();
        }
        let mut least: Option<(Value, Vec<NodeId>)> = None;
        for at in 0..sent.len() {
            for other in [chooser.without(&sent, at), chooser.joined(&sent, at)] {
                let value = chooser.value(&other);
                let fewer = (value.ciphertexts, other.len()) < (best.ciphertexts, sent.len());
                if fewer && least.as_ref().is_none_or(|l| value < l.0) {
                    least = Some((value, other));
                }
            }
        }
        match least {
            Some((value, other)) => (best, sent) = (value, other),
            None => return Vec::new(),
        }
    }
    sent
}

/// Splits a flat circuit at the values that are sent.
pub fn split(circuit: &Circuit<Tensor>, sent: &[NodeId]) -> Split {
    let graph = &circuit.graph;
    let mut ranges: FxHashMap<NodeId, Interval> = FxHashMap::default();
    let mut client = Build::like(circuit, Simplify::Nothing);
    let mut map: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut needed = vec![false; graph.len()];
    for id in sent {
        needed[id.index()] = true;
    }
    for id in graph.ids().rev() {
        if needed[id.index()] {
            for o in graph.operands(id) {
                needed[o.index()] = true;
            }
        }
    }
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = graph.node(id);
        let operands: Operands = graph
            .operands(id)
            .iter()
            .filter_map(|o| map[o.index()])
            .collect();
        let new = client.push(node.op.clone(), &operands, node.span);
        client.inherit(new, node);
        map[id.index()] = Some(new);
        let below: Vec<Interval> = graph.operands(id).iter().map(|o| ranges[o]).collect();
        let inner = graph.operands(id);
        let shapes: Vec<&[usize]> = inner.iter().map(|o| graph.ty(*o).shape()).collect();
        let mut range = range_of(&node.op, &below, &shapes, &|i| {
            circuit.inputs[i as usize].interval()
        });
        if let Some(declared) = node.declared {
            range = range.meet(declared);
        }
        ranges.insert(id, range);
    }
    let mut params: Vec<Param> = Vec::new();
    for id in sent {
        let mut name = describe(circuit, *id, 0);
        let known = |name: &str, params: &[Param]| {
            params.iter().chain(&circuit.inputs).any(|p| p.name == name)
        };
        if known(&name, &params) {
            let next = (2..).find(|n| !known(&format!("{name} #{n}"), &params));
            name = format!("{name} #{}", next.unwrap_or(0));
        }
        params.push(Param {
            name,
            secrecy: Secrecy::Secret,
            shape: hecc_ir::tensor::Shape::from_slice(graph.ty(*id).shape()),
            range: ranges.get(id).copied(),
            span: graph.span(*id),
        });
    }
    let outputs: Vec<(NodeId, ResultDecl)> = sent
        .iter()
        .zip(&params)
        .filter_map(|(id, p)| {
            let decl = ResultDecl {
                name: p.name.clone(),
                range: p.range,
                span: p.span,
            };
            map[id.index()].map(|new| (new, decl))
        })
        .collect();
    let mut client = client.finish(outputs);
    client.name = format!("{}.client", circuit.name);
    client.meta = hecc_ir::tensor::TensorMeta {
        span: circuit.meta.span,
        ..Default::default()
    };
    Split {
        client,
        server: server(circuit, sent, &params),
    }
}

/// The evaluator's part; without `params` as a draft whose new parameters have no names.
fn server(circuit: &Circuit<Tensor>, sent: &[NodeId], params: &[Param]) -> Circuit<Tensor> {
    let graph = &circuit.graph;
    let mut like: Circuit<Tensor> = Circuit::new(circuit.name.clone());
    like.inputs = circuit.inputs.clone();
    like.meta = circuit.meta.clone();
    like.meta.precompute = None;
    if params.is_empty() {
        like.inputs.extend(sent.iter().map(|id| Param {
            name: String::new(),
            secrecy: Secrecy::Secret,
            shape: hecc_ir::tensor::Shape::from_slice(graph.ty(*id).shape()),
            range: None,
            span: graph.span(*id),
        }));
    } else {
        like.inputs.extend(params.iter().cloned());
    }
    let place: FxHashMap<NodeId, u32> = sent
        .iter()
        .enumerate()
        .map(|(i, id)| (*id, (circuit.inputs.len() + i) as u32))
        .collect();
    // what a multiple of it is sent of
    let mut from: FxHashMap<NodeId, (NodeId, NodeId)> = FxHashMap::default();
    for id in sent {
        if let Some((factor, of)) = multiple(circuit, *id)
            && !place.contains_key(&of)
            && !matches!(graph.op(of), TensorOp::Input(_))
        {
            from.entry(of).or_insert((*id, factor));
        }
    }
    // Only what is still needed.
    let mut needed = vec![false; graph.len()];
    for (id, _) in &circuit.outputs {
        needed[id.index()] = true;
    }
    for id in graph.ids().rev() {
        if needed[id.index()] && !place.contains_key(&id) && !from.contains_key(&id) {
            for o in graph.operands(id) {
                needed[o.index()] = true;
            }
        }
    }
    let mut build = Build::like(&like, Simplify::Nothing);
    let mut map: Vec<NodeId> = vec![NodeId(u32::MAX); graph.len()];
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = graph.node(id);
        let new = match (place.get(&id), from.get(&id)) {
            (Some(i), _) => build.push(TensorOp::Input(*i), &[], node.span),
            (None, Some((other, factor))) => {
                let whole = build.push(TensorOp::Input(place[other]), &[], node.span);
                let factor = copy(&mut build, graph, *factor, &mut map);
                build.push(TensorOp::Div, &[whole, factor], node.span)
            }
            (None, None) => {
                let operands: Operands =
                    graph.operands(id).iter().map(|o| map[o.index()]).collect();
                build.push(node.op.clone(), &operands, node.span)
            }
        };
        build.inherit(new, node);
        map[id.index()] = new;
    }
    let outputs: Vec<_> = circuit
        .outputs
        .iter()
        .map(|(id, decl)| (map[id.index()], decl.clone()))
        .collect();
    build.finish(outputs)
}

/// A public value and what it is made of, in another graph.
fn copy(
    build: &mut Build,
    graph: &hecc_ir::graph::Graph<Tensor>,
    id: NodeId,
    map: &mut [NodeId],
) -> NodeId {
    if map[id.index()] == NodeId(u32::MAX) {
        let operands: Operands = graph
            .operands(id)
            .iter()
            .map(|o| copy(build, graph, *o, map))
            .collect();
        map[id.index()] = build.push(graph.op(id).clone(), &operands, graph.span(id));
    }
    map[id.index()]
}

/// How the language would write a value, about.
fn describe(circuit: &Circuit<Tensor>, id: NodeId, deep: usize) -> String {
    let graph = &circuit.graph;
    if deep > 8 {
        return "…".to_owned();
    }
    let operands = graph.operands(id);
    let of = |i: usize| describe(circuit, operands[i], deep + 1);
    let inner = |i: usize| match graph.op(operands[i]) {
        TensorOp::Add | TensorOp::Sub | TensorOp::Mul | TensorOp::MatMul | TensorOp::Div => {
            format!("({})", of(i))
        }
        _ => of(i),
    };
    match graph.op(id) {
        TensorOp::Input(i) => circuit
            .inputs
            .get(*i as usize)
            .map_or_else(String::new, |p| p.name.clone()),
        TensorOp::Const(c) => c
            .uniform()
            .map_or_else(|| "constant".to_owned(), |v| format!("{v}")),
        TensorOp::Add => format!("{} + {}", of(0), of(1)),
        TensorOp::Sub => format!("{} - {}", of(0), inner(1)),
        TensorOp::Mul => format!("{} * {}", inner(0), inner(1)),
        TensorOp::Div => format!("{} / {}", inner(0), inner(1)),
        TensorOp::MatMul => format!("{} @ {}", inner(0), inner(1)),
        TensorOp::Neg => format!("-{}", inner(0)),
        TensorOp::Pow(n) => format!("{}^{n}", inner(0)),
        TensorOp::Transpose(_) => format!("{}'", inner(0)),
        TensorOp::Broadcast(_) | TensorOp::Reshape(_) => of(0),
        TensorOp::Slice { starts, sizes } => {
            let from = graph.ty(operands[0]).shape();
            let mut parts: Vec<String> = Vec::new();
            for ((start, size), extent) in starts.iter().zip(sizes).zip(from) {
                let a = start.as_constant().unwrap_or(0);
                parts.push(match *size {
                    1 => format!("{a}"),
                    n if n == *extent => String::new(),
                    n => format!("{a}..{}", a + n as i64),
                });
            }
            while parts.last().is_some_and(String::is_empty) {
                parts.pop();
            }
            format!("{}[{}]", inner(0), parts.join(", "))
        }
        TensorOp::Sum(_) => format!("sum({})", of(0)),
        TensorOp::Poly(_) => format!("poly({})", of(0)),
        TensorOp::Concat(_) => format!("concat({}, …)", of(0)),
        _ => "value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hecc_ir::graph::Module;
    use hecc_ir::tensor::{Precompute, Shape};

    use super::*;
    use crate::tensor::balance::by_levels;
    use crate::tensor::check::Reference;
    use crate::tensor::testing::Program;

    /// Sums over j of (0.3 G ∘ s)ᵢⱼ s ⱼ + 0.7 Gᵢⱼ with G = A Bᵀ.
    fn multiples() -> Circuit<Tensor> {
        let mut p = Program::new();
        let (a, b) = (
            p.input(Secrecy::Secret, &[4, 6]),
            p.input(Secrecy::Secret, &[4, 6]),
        );
        let s = p.input(Secrecy::Secret, &[4]);
        let square = p.mul(s, s);
        let back = p.op(TensorOp::Transpose([1, 0].into_iter().collect()), &[b]);
        let g = p.op(TensorOp::MatMul, &[a, back]);
        let spread = |p: &mut Program, id: NodeId| {
            p.op(TensorOp::Broadcast(Shape::from_slice(&[4, 4])), &[id])
        };
        let scaled = |p: &mut Program, c: f64| {
            let c = p.num(c);
            let c = spread(p, c);
            p.mul(c, g)
        };
        let (first, second) = (scaled(&mut p, 0.3), scaled(&mut p, 0.7));
        let (s, square) = (spread(&mut p, s), spread(&mut p, square));
        let x = p.mul(first, s);
        let x = p.mul(x, square);
        let x = p.add(x, second);
        let x = p.op(TensorOp::Sum([1].into_iter().collect()), &[x]);
        p.output(x);
        let mut circuit = p.circuit;
        circuit.meta.precompute = Some(Precompute {
            degree: 2,
            inputs: 2.0,
        });
        circuit
    }

    #[test]
    fn of_several_multiples_one_is_sent() {
        let circuit = multiples();
        let alone = ciphertexts(&without_attribute(&circuit));
        for most in [alone + 1, alone + 4] {
            let sent = choose(&circuit, most, f64::INFINITY, by_levels);
            let names: Vec<String> = sent.iter().map(|s| describe(&circuit, *s, 0)).collect();
            let products = names.iter().filter(|n| n.contains('@')).count();
            assert_eq!(products, 1, "{names:?}");
            let parts = split(&circuit, &sent);
            Reference::new(&Module::single(circuit.clone()))
                .compare_split(&parts.client, &parts.server)
                .expect("means the same");
            let left = cost::cost(&parts.server);
            assert!(left.levels < cost::cost(&without_attribute(&circuit)).levels);
        }
    }

    fn without_attribute(circuit: &Circuit<Tensor>) -> Circuit<Tensor> {
        let mut plain = circuit.clone();
        plain.meta.precompute = None;
        plain
    }

    #[test]
    fn the_evaluator_gets_no_more_work_than_is_allowed() {
        let circuit = multiples();
        let heavy = cost::cost(&without_attribute(&circuit)).work;
        let sent = choose(&circuit, usize::MAX, heavy - 1.0, by_levels);
        let left = cost::cost(&split(&circuit, &sent).server);
        assert!(!sent.is_empty() && left.work < heavy, "{}", left.work);
    }

    #[test]
    fn every_multiple_stands_for_the_others() {
        let circuit = multiples();
        let ids: Vec<NodeId> = circuit
            .graph
            .ids()
            .filter(|id| {
                multiple(&circuit, *id)
                    .is_some_and(|(_, of)| *circuit.graph.op(of) == TensorOp::MatMul)
            })
            .collect();
        assert_eq!(ids.len(), 2);
        for id in ids {
            let parts = split(&circuit, &[id]);
            Reference::new(&Module::single(circuit.clone()))
                .compare_split(&parts.client, &parts.server)
                .expect("means the same");
            let server = &parts.server.graph;
            assert!(server.ids().all(|id| *server.op(id) != TensorOp::MatMul));
        }
    }
}
