//! Matrix products written out as elementwise products and sums, and products of a matrix with a
//! polynomial of a vector re-associated.
//!
//! A Σⱼ Xᵢⱼ·s(p)ⱼ whose s(p) = c₀ + c₁p + c₃p·p² is deeper than X is Σⱼ ((X∘p)∘(c₃p² + c₁) + c₀X)ᵢⱼ:
//! X is multiplied with the shallow factor of the deepest term while the deep one is computed. In
//! a tile of slots X∘p takes no more products than p∘p², since p is replicated anyway.

use hecc_ir::graph::{Builder, Circuit, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{ConstTensor, Secrecy, Shape, Tensor, TensorOp, elements, secrecy};

use crate::layout::expand::matmul_extents;

/// Products of matrices with more scalar products than this are not written out.
const VOLUME_MAX: usize = 1 << 22;

/// Terms of a sum that a matrix is multiplied with one by one.
const TERMS_MAX: usize = 16;

/// The circuit without matrix products; `None` when one is too large to be written out.
pub(super) fn prepare(circuit: &Circuit<Tensor>, distribute: bool) -> Option<Circuit<Tensor>> {
    let live = circuit.live();
    let secrecy = secrecy(circuit);
    let graph = &circuit.graph;
    let mut p = Prepare {
        builder: Builder::new(
            circuit.name.clone(),
            circuit.inputs.clone(),
            circuit.meta.clone(),
        ),
        depth: Vec::new(),
        secret: Vec::new(),
        secret_inputs: circuit
            .inputs
            .iter()
            .map(|i| i.secrecy == Secrecy::Secret)
            .collect(),
        distribute,
    };
    let mut map: Vec<Option<NodeId>> = vec![None; graph.len()];
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let operands: Vec<NodeId> = graph
            .operands(id)
            .iter()
            .map(|o| map[o.index()].expect("operands come first"))
            .collect();
        let secret = secrecy[id.index()] == Secrecy::Secret;
        let new = match &node.op {
            TensorOp::MatMul if secret => p.matmul(operands[0], operands[1], node.span)?,
            TensorOp::Mul if secret && distribute && !node.keep => {
                p.product(operands[0], operands[1], node.span)
            }
            // so that public − secret is a sum
            TensorOp::Sub if secret && !p.secret[operands[0].index()] => {
                let minus = p.push(TensorOp::Neg, &[operands[1]], node.span);
                p.push(TensorOp::Add, &[minus, operands[0]], node.span)
            }
            op => p.push(op.clone(), &operands, node.span),
        };
        p.builder.inherit(new, node);
        map[id.index()] = Some(new);
    }
    let mut done = p.builder.finish();
    done.outputs = circuit
        .outputs
        .iter()
        .map(|(id, decl)| (map[id.index()].expect("results are live"), decl.clone()))
        .collect();
    Some(done)
}

struct Prepare {
    builder: Builder<Tensor>,
    /// By new node: products of two secret values on a path.
    depth: Vec<u32>,
    secret: Vec<bool>,
    secret_inputs: Vec<bool>,
    distribute: bool,
}

/// How a value comes to have the shape of a larger one.
#[derive(Clone)]
struct Lift {
    /// The shape with axes of one element where it is repeated.
    aligned: Shape,
    full: Shape,
}

/// A term of a sum: coefficient (a public scalar in the shape of the sum) times value; no value is one.
type Term = (Option<NodeId>, Option<NodeId>, bool);

impl Prepare {
    fn push(&mut self, op: TensorOp, operands: &[NodeId], span: Span) -> NodeId {
        let own_secret = match &op {
            TensorOp::Input(i) => self.secret_inputs[*i as usize],
            _ => operands.iter().any(|o| self.secret[o.index()]),
        };
        let both = operands.len() > 1 && operands.iter().all(|o| self.secret[o.index()]);
        let product = match &op {
            TensorOp::Mul | TensorOp::MatMul | TensorOp::Conv2d { .. } => both,
            TensorOp::Pow(n) => *n > 1 && own_secret,
            _ => false,
        };
        let deepest = operands
            .iter()
            .map(|o| self.depth[o.index()])
            .max()
            .unwrap_or(0);
        let id = self
            .builder
            .push(op, operands, span)
            .expect("well typed as before");
        if id.index() == self.depth.len() {
            self.depth.push(deepest + u32::from(product));
            self.secret.push(own_secret);
        }
        id
    }

    fn shape(&self, id: NodeId) -> Shape {
        Shape::from_slice(self.builder.graph().ty(id).shape())
    }

    fn lift(&mut self, id: NodeId, lift: &Lift, span: Span) -> NodeId {
        let mut id = id;
        if self.shape(id) != lift.aligned {
            id = self.push(TensorOp::Reshape(lift.aligned.clone()), &[id], span);
        }
        if lift.aligned != lift.full {
            id = self.push(TensorOp::Broadcast(lift.full.clone()), &[id], span);
        }
        id
    }

    fn matmul(&mut self, a: NodeId, b: NodeId, span: Span) -> Option<NodeId> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let (m, k, n) = matmul_extents(&sa, &sb);
        if m.saturating_mul(k).saturating_mul(n) > VOLUME_MAX {
            return None;
        }
        // axes of one element are left out
        let rows = sa.len() == 2;
        let columns = sb.len() == 2;
        let mut full = Shape::new();
        let (mut of_a, mut of_b) = (Shape::new(), Shape::new());
        if rows {
            full.push(m);
            of_a.push(m);
            of_b.push(1);
        }
        let axis = full.len();
        full.push(k);
        of_a.push(k);
        of_b.push(k);
        if columns {
            full.push(n);
            of_a.push(1);
            of_b.push(n);
        }
        let lift_a = Lift {
            aligned: of_a,
            full: full.clone(),
        };
        let lift_b = Lift {
            aligned: of_b,
            full: full.clone(),
        };
        let volume = elements(&full);
        let whole = |s: &Shape| elements(s) == volume;
        let product = if self.distribute && whole(&sa) && !whole(&sb) {
            let x = self.lift(a, &lift_a, span);
            self.times(x, b, &lift_b, span)
        } else if self.distribute && whole(&sb) && !whole(&sa) {
            let x = self.lift(b, &lift_b, span);
            self.times(x, a, &lift_a, span)
        } else {
            let x = self.lift(a, &lift_a, span);
            let y = self.lift(b, &lift_b, span);
            self.push(TensorOp::Mul, &[x, y], span)
        };
        Some(self.push(
            TensorOp::Sum([axis].into_iter().collect()),
            &[product],
            span,
        ))
    }

    /// A product that may be one of a tensor with a smaller one that is repeated.
    fn product(&mut self, a: NodeId, b: NodeId, span: Span) -> NodeId {
        for (x, y) in [(a, b), (b, a)] {
            let graph = self.builder.graph();
            if !self.secret[x.index()] || !self.secret[y.index()] {
                break;
            }
            if let TensorOp::Broadcast(full) = graph.op(y) {
                let full = full.clone();
                let mut inner = graph.operands(y)[0];
                let mut aligned = self.shape(inner);
                while aligned.len() < full.len() {
                    aligned.insert(0, 1);
                }
                let graph = self.builder.graph();
                if let TensorOp::Reshape(_) = graph.op(inner) {
                    inner = graph.operands(inner)[0];
                }
                if elements(&aligned) < elements(&full)
                    && !matches!(self.builder.graph().op(x), TensorOp::Broadcast(_))
                {
                    return self.times(x, inner, &Lift { aligned, full }, span);
                }
            }
        }
        self.push(TensorOp::Mul, &[a, b], span)
    }

    /// x ∘ lift(y), shallower where y is a sum whose deepest terms are products of unequal depths.
    fn times(&mut self, x: NodeId, y: NodeId, lift: &Lift, span: Span) -> NodeId {
        let plain = |p: &mut Self| {
            let y = p.lift(y, lift, span);
            p.push(TensorOp::Mul, &[x, y], span)
        };
        if !self.secret[x.index()] || !self.secret[y.index()] {
            return plain(self);
        }
        let depth = |p: &Self, id: NodeId| p.depth[id.index()];
        let as_is = depth(self, x).max(depth(self, y)) + 1;
        let mut terms: Vec<Term> = Vec::new();
        if depth(self, y) <= depth(self, x) || !self.flatten(y, None, false, &mut terms) {
            return plain(self);
        }
        let most = depth(self, y);
        let mut critical: Vec<(usize, NodeId, NodeId)> = Vec::new();
        for (i, (_, value, _)) in terms.iter().enumerate() {
            let Some(v) = value.filter(|v| depth(self, *v) == most) else {
                continue;
            };
            let graph = self.builder.graph();
            let node = graph.node(v);
            let operands = graph.operands(v);
            if node.op != TensorOp::Mul || node.keep || node.declared.is_some() {
                return plain(self);
            }
            let (a, b) = if depth(self, operands[0]) <= depth(self, operands[1]) {
                (operands[0], operands[1])
            } else {
                (operands[1], operands[0])
            };
            let inner = depth(self, x).max(depth(self, a)) + 1;
            let both = self.secret[a.index()] && self.secret[b.index()];
            if !both || inner.max(depth(self, b)) + 1 >= as_is {
                return plain(self);
            }
            critical.push((i, a, b));
        }
        // x∘a once for all terms that have a as a factor: its one user is then free to scale it
        let mut sum: Option<NodeId> = None;
        let mut done = vec![false; terms.len()];
        for i in 0..terms.len() {
            if done[i] {
                continue;
            }
            let first = critical.iter().find(|c| c.0 == i).map(|c| c.1);
            let Some(a) = first else {
                continue;
            };
            let mut inner: Option<NodeId> = None;
            for (j, (factor, value, minus)) in terms.iter().enumerate() {
                let other = match critical.iter().find(|c| c.0 == j) {
                    Some((_, b, rest)) if *b == a => Some(*rest),
                    Some(_) => continue,
                    None if *value == Some(a) => None,
                    None => continue,
                };
                done[j] = true;
                let term = match (other, factor) {
                    (Some(r), Some(c)) => self.push(TensorOp::Mul, &[r, *c], span),
                    (Some(r), None) => r,
                    (None, Some(c)) => *c,
                    (None, None) => {
                        let shape = self.shape(a);
                        let one = ConstTensor::filled(shape, 1.0);
                        self.push(TensorOp::Const(one), &[], span)
                    }
                };
                inner = Some(self.plus(inner, term, *minus, span));
            }
            let inner = inner.expect("the critical term is one of them");
            let left = self.times(x, a, lift, span);
            let right = self.lift(inner, lift, span);
            let product = self.push(TensorOp::Mul, &[left, right], span);
            sum = Some(self.plus(sum, product, false, span));
        }
        for (i, (factor, value, minus)) in terms.iter().enumerate() {
            if done[i] {
                continue;
            }
            let mut term = match value {
                Some(v) => self.times(x, *v, lift, span),
                None => x,
            };
            if let Some(c) = factor {
                let c = self.lift(*c, lift, span);
                term = self.push(TensorOp::Mul, &[term, c], span);
            }
            sum = Some(self.plus(sum, term, *minus, span));
        }
        sum.expect("a sum has terms")
    }

    fn plus(&mut self, sum: Option<NodeId>, term: NodeId, minus: bool, span: Span) -> NodeId {
        let (sum, op) = match (sum, minus) {
            (None, false) => return term,
            (None, true) => return self.push(TensorOp::Neg, &[term], span),
            (Some(s), false) => (s, TensorOp::Add),
            (Some(s), true) => (s, TensorOp::Sub),
        };
        // so that public − secret is a sum
        if minus && self.secret[term.index()] && !self.secret[sum.index()] {
            let term = self.push(TensorOp::Neg, &[term], span);
            return self.push(TensorOp::Add, &[term, sum], span);
        }
        self.push(op, &[sum, term], span)
    }

    /// y as a sum of terms with public scalar factors; false when it is none, or a long one.
    fn flatten(
        &mut self,
        y: NodeId,
        factor: Option<NodeId>,
        minus: bool,
        out: &mut Vec<Term>,
    ) -> bool {
        if out.len() >= TERMS_MAX {
            return false;
        }
        let graph = self.builder.graph();
        let node = graph.node(y).clone();
        let operands = graph.operands(y);
        let span = node.span;
        if !self.secret[y.index()] {
            if !self.uniform(y) {
                return false;
            }
            let c = match factor {
                Some(f) => self.push(TensorOp::Mul, &[f, y], span),
                None => y,
            };
            out.push((Some(c), None, minus));
            return true;
        }
        let free = !node.keep && node.declared.is_none();
        match &node.op {
            TensorOp::Add if free => {
                self.flatten(operands[0], factor, minus, out)
                    && self.flatten(operands[1], factor, minus, out)
            }
            TensorOp::Sub if free => {
                self.flatten(operands[0], factor, minus, out)
                    && self.flatten(operands[1], factor, !minus, out)
            }
            TensorOp::Neg if free => self.flatten(operands[0], factor, !minus, out),
            TensorOp::Mul if free && operands.iter().any(|o| !self.secret[o.index()]) => {
                let (c, v) = if self.secret[operands[0].index()] {
                    (operands[1], operands[0])
                } else {
                    (operands[0], operands[1])
                };
                if !self.uniform(c) {
                    out.push((factor, Some(y), minus));
                    return true;
                }
                let c = match factor {
                    Some(f) => self.push(TensorOp::Mul, &[f, c], span),
                    None => c,
                };
                self.flatten(v, Some(c), minus, out)
            }
            _ => {
                out.push((factor, Some(y), minus));
                true
            }
        }
    }

    /// Whether a public value is one number for all elements.
    fn uniform(&self, id: NodeId) -> bool {
        let graph = self.builder.graph();
        match graph.op(id) {
            TensorOp::Const(c) => c.uniform().is_some(),
            TensorOp::Broadcast(_) | TensorOp::Reshape(_) => self.uniform(graph.operands(id)[0]),
            TensorOp::Mul | TensorOp::Add | TensorOp::Sub | TensorOp::Neg => {
                graph.operands(id).iter().all(|o| self.uniform(*o))
            }
            _ => elements(graph.ty(id).shape()) == 1,
        }
    }
}
