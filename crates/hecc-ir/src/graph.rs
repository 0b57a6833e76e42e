//! The graph under every dialect.
//!
//! # Laws
//! * A graph only grows, and operands exist before their users: **the order of ids is a
//!   topological order**. A pass is a forward sweep that builds a new graph.
//! * petgraph is private here: it lists incoming edges newest first, so each edge carries the
//!   operand's place.
//! * A node's type is inferred by the dialect when it is pushed; the verifier infers it again.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

use crate::span::Span;

/// A node of one graph. Its `Display`, `%7`, is the textual form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// For side tables indexed by node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// A circuit of one module. Its `Display`, `@2`, is the textual form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CircuitId(pub u32);

impl fmt::Display for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// The operands of a node, in order.
pub type Operands = SmallVec<[NodeId; 4]>;

/// An f64 that can be a key: compared and hashed by its bits.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A closed interval of reals; `lo <= hi`, both finite, when it was declared by a person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Least value.
    pub lo: f64,
    /// Greatest value.
    pub hi: f64,
}

impl Interval {
    /// The interval \[lo, hi\].
    pub fn new(lo: f64, hi: f64) -> Interval {
        Interval { lo, hi }
    }

    /// The interval that is assumed where none is declared: \[-1, 1\].
    pub const UNIT: Interval = Interval { lo: -1.0, hi: 1.0 };

    /// Largest absolute value.
    pub fn magnitude(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    /// Values in both. When the two do not meet, the nearest single point of `other`.
    pub fn meet(self, other: Interval) -> Interval {
        let lo = self.lo.max(other.lo).min(other.hi);
        let hi = self.hi.min(other.hi).max(other.lo);
        Interval {
            lo: lo.min(hi),
            hi: hi.max(lo),
        }
    }

    /// Whether a value lies inside, with `slack` to both sides.
    pub fn contains(self, value: f64, slack: f64) -> bool {
        value >= self.lo - slack && value <= self.hi + slack
    }
}

/// The vocabulary of one layer: its operations, its types, and what a circuit's interface holds.
pub trait Dialect: Sized + Clone + fmt::Debug + PartialEq {
    /// An operation, operands excluded.
    type Op: Clone + fmt::Debug + PartialEq + Eq + Hash;
    /// What a node yields.
    type Type: Clone + fmt::Debug + PartialEq;
    /// One entry of a circuit's parameter list.
    type Input: Clone + fmt::Debug + PartialEq;
    /// One entry of a circuit's result list, its value excluded.
    type Output: Clone + fmt::Debug + PartialEq;
    /// What a circuit carries beside its graph.
    type Meta: Clone + fmt::Debug + PartialEq + Default;

    /// The type of a node, or why there cannot be such a node.
    ///
    /// # Errors
    /// A sentence that names the operation and both sides.
    fn infer(
        op: &Self::Op,
        operands: &[&Self::Type],
        inputs: &[Self::Input],
    ) -> Result<Self::Type, String>;

    /// The operation's mnemonic in the text form.
    fn mnemonic(op: &Self::Op) -> &'static str;
}

/// A node refused by its dialect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{op}: {reason}")]
pub struct TypeError {
    /// The operation's mnemonic.
    pub op: &'static str,
    /// Why.
    pub reason: String,
    /// The source it came from.
    pub span: Span,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<D: Dialect> {
    /// What it does.
    pub op: D::Op,
    /// What it yields.
    pub ty: D::Type,
    /// The source it came from; a made-up node has the span of what it replaces.
    pub span: Span,
    /// The range that the program declares for every element (`let x in [lo, hi]`): a fact of the
    /// program that follows the value through rewrites, not an analysis result.
    pub declared: Option<Interval>,
    /// `@keep`: passes do not re-associate across this value.
    pub keep: bool,
}

/// A directed acyclic graph of operations.
#[derive(Clone, Debug)]
pub struct Graph<D: Dialect> {
    inner: DiGraph<Node<D>, u32, u32>,
    /// The operands of all nodes, one node after the other: they are read far more often than
    /// anything else, and edges are five times as large.
    operands: Vec<NodeId>,
    /// By node, where its operands begin.
    first: Vec<u32>,
}

impl<D: Dialect> Default for Graph<D> {
    fn default() -> Self {
        Graph {
            inner: DiGraph::default(),
            operands: Vec::new(),
            first: Vec::new(),
        }
    }
}

impl<D: Dialect> PartialEq for Graph<D> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.ids().all(|id| {
                self.node(id) == other.node(id) && self.operand_slice(id) == other.operand_slice(id)
            })
    }
}

impl<D: Dialect> Graph<D> {
    /// An empty graph with room for `nodes`.
    pub fn with_capacity(nodes: usize) -> Self {
        Graph {
            inner: DiGraph::with_capacity(nodes, 2 * nodes),
            operands: Vec::with_capacity(2 * nodes),
            first: Vec::with_capacity(nodes),
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.inner.node_count()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All ids, operands before users.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<D> {
        (0..self.len() as u32).map(NodeId)
    }

    /// A node. The id must be of this graph.
    pub fn node(&self, id: NodeId) -> &Node<D> {
        &self.inner[NodeIndex::new(id.index())]
    }

    /// A node's operation.
    pub fn op(&self, id: NodeId) -> &D::Op {
        &self.node(id).op
    }

    /// A node's type.
    pub fn ty(&self, id: NodeId) -> &D::Type {
        &self.node(id).ty
    }

    /// A node's source.
    pub fn span(&self, id: NodeId) -> Span {
        self.node(id).span
    }

    /// A node's operands, in order.
    pub fn operands(&self, id: NodeId) -> Operands {
        Operands::from_slice(self.operand_slice(id))
    }

    fn operand_slice(&self, id: NodeId) -> &[NodeId] {
        let at = |i: usize| {
            self.first
                .get(i)
                .map_or(self.operands.len(), |&e| e as usize)
        };
        &self.operands[at(id.index())..at(id.index() + 1)]
    }

    /// Who uses a node, with the operand's place, in ascending order.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, u32)> {
        let mut out: Vec<_> = self
            .inner
            .edges_directed(NodeIndex::new(id.index()), Direction::Outgoing)
            .map(|e| (NodeId(e.target().index() as u32), *e.weight()))
            .collect();
        out.sort_unstable();
        out
    }

    /// For every node, how many operand places it fills.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.len()];
        for operand in &self.operands {
            counts[operand.index()] += 1;
        }
        counts
    }

    /// Appends a node whose type the dialect infers.
    ///
    /// # Errors
    /// [`TypeError`] when the dialect refuses the operands.
    ///
    /// # Panics
    /// When an operand is not yet in the graph: that is the caller's mistake.
    pub fn push(
        &mut self,
        op: D::Op,
        operands: &[NodeId],
        inputs: &[D::Input],
        span: Span,
    ) -> Result<NodeId, TypeError> {
        let types: SmallVec<[&D::Type; 4]> = operands.iter().map(|&o| self.ty(o)).collect();
        let ty = D::infer(&op, &types, inputs).map_err(|reason| TypeError {
            op: D::mnemonic(&op),
            reason,
            span,
        })?;
        drop(types);
        Ok(self.push_node(
            Node {
                op,
                ty,
                span,
                declared: None,
                keep: false,
            },
            operands,
        ))
    }

    /// Appends a node as it is; its type is trusted.
    ///
    /// # Panics
    /// When an operand is not yet in the graph.
    pub fn push_node(&mut self, node: Node<D>, operands: &[NodeId]) -> NodeId {
        let id = NodeId(self.len() as u32);
        assert!(
            operands.iter().all(|o| *o < id),
            "operands come before their users"
        );
        let index = self.inner.add_node(node);
        self.first.push(self.operands.len() as u32);
        self.operands.extend_from_slice(operands);
        for (place, operand) in operands.iter().enumerate() {
            self.inner
                .add_edge(NodeIndex::new(operand.index()), index, place as u32);
        }
        id
    }

    /// Declares a range for a node, beside what was declared before.
    pub fn declare(&mut self, id: NodeId, range: Interval) {
        let node = &mut self.inner[NodeIndex::new(id.index())];
        node.declared = Some(node.declared.map_or(range, |old| old.meet(range)));
    }

    /// Marks a node `@keep`.
    pub fn set_keep(&mut self, id: NodeId) {
        self.inner[NodeIndex::new(id.index())].keep = true;
    }

    /// Gives a node another source place.
    pub fn set_span(&mut self, id: NodeId, span: Span) {
        self.inner[NodeIndex::new(id.index())].span = span;
    }
}

/// A graph with its interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit<D: Dialect> {
    /// Its name.
    pub name: String,
    /// Its parameters, in order; `Input(i)` operations refer to them.
    pub inputs: Vec<D::Input>,
    /// Its results, in order.
    pub outputs: Vec<(NodeId, D::Output)>,
    /// Its operations.
    pub graph: Graph<D>,
    /// What else it carries.
    pub meta: D::Meta,
}

impl<D: Dialect> Circuit<D> {
    /// An empty circuit.
    pub fn new(name: impl Into<String>) -> Self {
        Circuit {
            name: name.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            graph: Graph::default(),
            meta: D::Meta::default(),
        }
    }

    /// Appends a node; see [`Graph::push`].
    ///
    /// # Errors
    /// [`TypeError`] when the dialect refuses the operands.
    pub fn push(
        &mut self,
        op: D::Op,
        operands: &[NodeId],
        span: Span,
    ) -> Result<NodeId, TypeError> {
        self.graph.push(op, operands, &self.inputs, span)
    }

    /// Which nodes an output depends on.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.graph.len()];
        for (id, _) in &self.outputs {
            live[id.index()] = true;
        }
        for id in self.graph.ids().rev() {
            if live[id.index()] {
                for o in self.graph.operand_slice(id) {
                    live[o.index()] = true;
                }
            }
        }
        live
    }
}

/// Circuits that refer to one another (a loop's body is a circuit), and the one that is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Module<D: Dialect> {
    /// The circuits; a body stands before the circuit that loops over it.
    pub circuits: Vec<Circuit<D>>,
    /// The circuit that is compiled.
    pub entry: CircuitId,
}

impl<D: Dialect> Module<D> {
    /// A module of one circuit.
    pub fn single(circuit: Circuit<D>) -> Self {
        Module {
            circuits: vec![circuit],
            entry: CircuitId(0),
        }
    }

    /// A circuit. The id must be of this module.
    pub fn circuit(&self, id: CircuitId) -> &Circuit<D> {
        &self.circuits[id.0 as usize]
    }

    /// The circuit that is compiled.
    pub fn entry(&self) -> &Circuit<D> {
        self.circuit(self.entry)
    }

    /// Appends a circuit.
    pub fn push(&mut self, circuit: Circuit<D>) -> CircuitId {
        self.circuits.push(circuit);
        CircuitId(self.circuits.len() as u32 - 1)
    }
}

/// Builds a circuit with hash-consing: the same operation on the same operands is one node.
#[derive(Clone, Debug)]
pub struct Builder<D: Dialect> {
    circuit: Circuit<D>,
    /// By the hash of operation and operands, half of which is kept; the graph itself holds the keys.
    known: HashTable<(u32, NodeId)>,
}

/// Half of the hash of an operation on operands.
fn half_hash<O: Hash>(op: &O, operands: &[NodeId]) -> u32 {
    let hash = FxBuildHasher.hash_one((op, operands));
    (hash ^ hash >> 32) as u32
}

/// A whole hash from its half: the table wants the upper bits as well.
fn whole_hash(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<D: Dialect> Builder<D> {
    /// A builder for a circuit with this interface and no nodes yet.
    pub fn new(name: impl Into<String>, inputs: Vec<D::Input>, meta: D::Meta) -> Self {
        Builder::with_capacity(name, inputs, meta, 0)
    }

    /// As [`Builder::new`], with room for so many nodes.
    pub fn with_capacity(
        name: impl Into<String>,
        inputs: Vec<D::Input>,
        meta: D::Meta,
        nodes: usize,
    ) -> Self {
        let circuit = Circuit {
            inputs,
            meta,
            graph: Graph::with_capacity(nodes),
            ..Circuit::new(name)
        };
        Builder {
            circuit,
            known: HashTable::with_capacity(nodes),
        }
    }

    /// The node for this operation on these operands, new or known.
    ///
    /// # Errors
    /// [`TypeError`] when the dialect refuses the operands.
    pub fn push(
        &mut self,
        op: D::Op,
        operands: &[NodeId],
        span: Span,
    ) -> Result<NodeId, TypeError> {
        let half = half_hash(&op, operands);
        let graph = &self.circuit.graph;
        let same = |(other, id): &(u32, NodeId)| {
            *other == half && *graph.op(*id) == op && graph.operand_slice(*id) == operands
        };
        if let Some(&(_, id)) = self.known.find(whole_hash(half), same) {
            return Ok(id);
        }
        let id = self.circuit.push(op, operands, span)?;
        self.known
            .insert_unique(whole_hash(half), (half, id), |(half, _)| whole_hash(*half));
        Ok(id)
    }

    /// Carries what the program says of a value (declared range, `@keep`) over to the node that now stands for it.
    /// `from` may be of another dialect, when a value is lowered.
    pub fn inherit<E: Dialect>(&mut self, id: NodeId, from: &Node<E>) {
        if let Some(range) = from.declared {
            self.circuit.graph.declare(id, range);
        }
        if from.keep {
            self.circuit.graph.set_keep(id);
        }
    }

    /// Appends a parameter and returns its number, for `Input` operations that are pushed later.
    pub fn add_input(&mut self, input: D::Input) -> u32 {
        self.circuit.inputs.push(input);
        self.circuit.inputs.len() as u32 - 1
    }

    /// Declares a range for a value; see [`Graph::declare`].
    pub fn declare(&mut self, id: NodeId, range: Interval) {
        self.circuit.graph.declare(id, range);
    }

    /// Marks a value `@keep`.
    pub fn set_keep(&mut self, id: NodeId) {
        self.circuit.graph.set_keep(id);
    }

    /// What the circuit carries beside its graph.
    pub fn meta_mut(&mut self) -> &mut D::Meta {
        &mut self.circuit.meta
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph<D> {
        &self.circuit.graph
    }

    /// The circuit so far.
    pub fn circuit(&self) -> &Circuit<D> {
        &self.circuit
    }

    /// Appends a result.
    pub fn output(&mut self, id: NodeId, output: D::Output) {
        self.circuit.outputs.push((id, output));
    }

    /// The circuit as built.
    pub fn finish(self) -> Circuit<D> {
        self.circuit
    }
}
