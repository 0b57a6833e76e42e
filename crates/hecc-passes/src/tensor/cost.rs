//! Depth, levels and work of tensor programs, estimated before any layout is known.
//!
//! * **Depth** counts products of two secrets, as the language defines it.
//! * **Levels** adds products with public values: a uniform constant that is no integer is carried
//!   as a pending factor of the scale and costs a level only where it meets a sum; a public vector
//!   or a value known at run time costs a level at once; an integer costs none.
//! * **Work** is in units of one addition of two ciphertexts, with weights in the proportion of a
//!   hybrid key switch to an addition; a tensor counts as one ciphertext per 4096 elements. With `@batch`
//!   every element is a ciphertext: nothing is rotated, and a weighted sum takes a little for each term.

use hecc_ir::graph::{Circuit, Graph, NodeId};
use hecc_ir::tensor::{Secrecy, Tensor, TensorOp, TensorType, elements};

/// Elements that are taken to share a ciphertext.
const SLOTS: usize = 4096;
/// Weight of a product of two ciphertexts, relinearization and rescaling included.
const MUL: f64 = 24.0;
/// Weight of a product with a public value, rescaling included.
const MUL_PUBLIC: f64 = 4.0;
/// Weight of a rotation.
const ROTATE: f64 = 20.0;
/// Weight of one term of a weighted sum, where every element is a ciphertext.
const TERM: f64 = 0.2;
/// Weight of a rescale.
const RESCALE: f64 = 3.0;
/// Weight of one more product in a sum of products of ciphertexts.
const PRODUCT_TERM: f64 = 0.75;

/// What is known of one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Whether it is encrypted.
    pub secret: bool,
    /// Most products of two secrets on a path to it.
    pub depth: u32,
    /// Most levels on a path to it, when factors that are pending may stay so.
    pub level: u32,
    /// The same when no factor is left pending: what a sum needs.
    pub settled: u32,
    /// Its degree in the client's inputs, where the client may compute it (`@precompute`); 0 elsewhere.
    pub client: u32,
}

/// How a public factor affects levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    Integer,
    Uniform,
    Other,
}

fn factor(graph: &Graph<Tensor>, id: NodeId) -> Factor {
    let mut at = id;
    loop {
        match graph.op(at) {
            TensorOp::Const(c) => {
                return match c.uniform() {
                    Some(v) if v.fract() == 0.0 && v.abs() < 1048576.0 => Factor::Integer,
                    Some(_) => Factor::Uniform,
                    None => Factor::Other,
                };
            }
            TensorOp::Broadcast(_) | TensorOp::Reshape(_) => at = graph.operands(at)[0],
            _ if uniform_constant(graph, at) => return Factor::Uniform,
            _ => return Factor::Other,
        }
    }
}

fn integers(graph: &Graph<Tensor>, id: NodeId) -> bool {
    match graph.op(id) {
        TensorOp::Const(c) => c
            .data()
            .iter()
            .all(|v| v.fract() == 0.0 && v.abs() < 1048576.0),
        TensorOp::Reshape(_) | TensorOp::Transpose(_) | TensorOp::Broadcast(_) => {
            integers(graph, graph.operands(id)[0])
        }
        _ => false,
    }
}

/// Whether a value is known at compile time and the same everywhere, although it is not folded.
pub(super) fn uniform_constant(graph: &Graph<Tensor>, id: NodeId) -> bool {
    let mut budget = 32;
    let mut stack = vec![id];
    while let Some(at) = stack.pop() {
        budget -= 1;
        if budget == 0 {
            return false;
        }
        match graph.op(at) {
            TensorOp::Const(c) => {
                if c.uniform().is_none() {
                    return false;
                }
            }
            TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Mul
            | TensorOp::Div
            | TensorOp::Neg
            | TensorOp::Pow(_)
            | TensorOp::Broadcast(_)
            | TensorOp::Reshape(_) => stack.extend(graph.operands(at)),
            _ => return false,
        }
    }
    true
}

/// The fact of a node whose operands' facts are known. What the client may compute by
/// `@precompute` is there before the circuit begins.
pub fn fact(circuit: &Circuit<Tensor>, facts: &[Fact], id: NodeId) -> Fact {
    let evaluated = evaluated(&circuit.graph, &circuit.inputs, facts, id);
    let Some(precompute) = circuit.meta.precompute else {
        return evaluated;
    };
    let client = client(circuit, facts, id, precompute.degree);
    if client > 0 && evaluated.secret {
        return Fact {
            secret: true,
            client,
            ..Fact::default()
        };
    }
    Fact {
        client,
        ..evaluated
    }
}

/// The degree of what the client may compute, at least 1 and at most `most`; 0 of all else, and of
/// what depends on parameters that the client need not know.
fn client(circuit: &Circuit<Tensor>, facts: &[Fact], id: NodeId, most: u32) -> u32 {
    let graph = &circuit.graph;
    let operands = graph.operands(id);
    if operands.iter().any(|o| facts[o.index()].client == 0) {
        return 0;
    }
    let of = |o: &NodeId| {
        let f = facts[o.index()];
        if f.secret { f.client } else { 0 }
    };
    let degree = match graph.op(id) {
        TensorOp::Input(i) => match circuit.inputs[*i as usize].secrecy {
            Secrecy::Secret => 1,
            Secrecy::Public => return 0,
        },
        TensorOp::Mul | TensorOp::MatMul | TensorOp::Conv2d { .. } => operands
            .iter()
            .map(of)
            .fold(0u32, |a, b| a.saturating_add(b)),
        TensorOp::Pow(n) => of(&operands[0]).saturating_mul(*n),
        TensorOp::Poly(p) => of(&operands[0]).saturating_mul(p.coefficients.len() as u32 - 1),
        TensorOp::Loop { .. } | TensorOp::Proj(_) => return 0,
        _ => operands.iter().map(of).max().unwrap_or(0),
    };
    if degree <= most { degree.max(1) } else { 0 }
}

/// The degree of a product of two values that the client may compute; 0 when it may not.
pub fn client_product(a: Fact, b: Fact, most: u32) -> u32 {
    let of = |f: Fact| if f.secret { f.client } else { 0 };
    let degree = of(a).saturating_add(of(b));
    if a.client > 0 && b.client > 0 && degree <= most {
        degree.max(1)
    } else {
        0
    }
}

/// The fact of a node that the evaluator computes.
fn evaluated(
    graph: &Graph<Tensor>,
    inputs: &[hecc_ir::tensor::Param],
    facts: &[Fact],
    id: NodeId,
) -> Fact {
    let op = graph.op(id);
    if let TensorOp::Input(i) = op {
        return Fact {
            secret: inputs[*i as usize].secrecy == Secrecy::Secret,
            ..Fact::default()
        };
    }
    let operands = graph.operands(id);
    let of = |i: usize| facts[operands[i].index()];
    if !operands.iter().any(|o| facts[o.index()].secret) {
        return Fact::default();
    }
    match op {
        TensorOp::Input(_) | TensorOp::Const(_) | TensorOp::Index(_) => Fact::default(),
        TensorOp::Add | TensorOp::Sub => sum_of(of(0), of(1)),
        TensorOp::Update { .. } => sum_of(of(0), of(1)),
        TensorOp::Concat(_) => operands
            .iter()
            .map(|o| facts[o.index()])
            .reduce(sum_of)
            .unwrap_or_default(),
        TensorOp::Mul | TensorOp::MatMul | TensorOp::Conv2d { .. } => {
            let (a, b) = (of(0), of(1));
            if a.secret && b.secret {
                return Fact {
                    secret: true,
                    depth: a.depth.max(b.depth) + 1,
                    level: a.level.max(b.level) + 1,
                    settled: a.settled.max(b.settled) + 1,
                    client: 0,
                };
            }
            let (x, public) = if a.secret {
                (a, operands[1])
            } else {
                (b, operands[0])
            };
            let kind = match op {
                TensorOp::Mul => factor(graph, public),
                // A kernel's entries are factors of whole rotated images.
                TensorOp::Conv2d { .. } if integers(graph, public) => Factor::Integer,
                _ => Factor::Other,
            };
            by_public(x, kind)
        }
        TensorOp::Div => by_public(
            of(0),
            match factor(graph, operands[1]) {
                Factor::Integer => Factor::Uniform,
                other => other,
            },
        ),
        TensorOp::Pow(n) => {
            let a = of(0);
            let up = 32 - n.saturating_sub(1).leading_zeros();
            Fact {
                depth: a.depth + up,
                level: a.level + up,
                settled: a.settled + up,
                ..a
            }
        }
        TensorOp::Poly(p) => {
            let a = of(0);
            let d = p.coefficients.len() as u32 - 1;
            let up = 32 - d.leading_zeros();
            Fact {
                secret: true,
                depth: a.depth + up.min(d),
                level: a.settled + up + 1,
                settled: a.settled + up + 1,
                client: 0,
            }
        }
        TensorOp::Neg
        | TensorOp::Sum(_)
        | TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Slice { .. }
        | TensorOp::Pad { .. }
        | TensorOp::Roll(_)
        | TensorOp::Diag
        | TensorOp::SumPool(_)
        | TensorOp::Loop { .. }
        | TensorOp::Proj(_) => of(0),
    }
}

fn sum_of(a: Fact, b: Fact) -> Fact {
    match (a.secret, b.secret) {
        (true, true) => Fact {
            secret: true,
            depth: a.depth.max(b.depth),
            level: a.settled.max(b.settled),
            settled: a.settled.max(b.settled),
            client: 0,
        },
        (true, false) => a,
        (false, _) => b,
    }
}

fn by_public(x: Fact, kind: Factor) -> Fact {
    match kind {
        Factor::Integer => x,
        Factor::Uniform => Fact {
            settled: x.settled.max(x.level + 1),
            ..x
        },
        Factor::Other => Fact {
            level: x.level + 1,
            settled: x.settled.max(x.level + 1),
            ..x
        },
    }
}

/// The facts of every node of a flat circuit.
pub fn facts(circuit: &Circuit<Tensor>) -> Vec<Fact> {
    let mut out = Vec::with_capacity(circuit.graph.len());
    for id in circuit.graph.ids() {
        let f = fact(circuit, &out, id);
        out.push(f);
    }
    out
}

/// The measures of a flat circuit that the optimizer minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Most products of two secrets on a path.
    pub depth: u32,
    /// Most levels on a path.
    pub levels: u32,
    /// In additions of two ciphertexts.
    pub work: f64,
    /// The same on the path where it is most: what no number of threads shortens.
    pub span: f64,
    /// Vectors of encrypted inputs.
    pub inputs: f64,
    /// Live nodes on secrets.
    pub nodes: usize,
}

/// The measures of a flat circuit.
pub fn cost(circuit: &Circuit<Tensor>) -> Cost {
    let facts = facts(circuit);
    let live = circuit.live();
    let mut out = Cost::default();
    for (id, _) in &circuit.outputs {
        let f = facts[id.index()];
        out.depth = out.depth.max(f.depth);
        out.levels = out.levels.max(f.level);
    }
    let mut span = vec![0.0f64; circuit.graph.len()];
    for id in circuit.graph.ids() {
        let f = facts[id.index()];
        if live[id.index()] && f.secret && f.client == 0 {
            out.nodes += 1;
            let work = if circuit.meta.batch.is_some() {
                work_by_element(&circuit.graph, &facts, id)
            } else {
                work(&circuit.graph, &facts, id)
            };
            out.work += work;
            let before = circuit.graph.operands(id).into_iter();
            let before = before.map(|o| span[o.index()]).fold(0.0, f64::max);
            span[id.index()] = before + work;
            out.span = out.span.max(before + work);
            if let (TensorOp::Input(_), TensorType::Tensor(shape)) =
                (circuit.graph.op(id), circuit.graph.ty(id))
            {
                out.inputs += match circuit.meta.batch {
                    Some(_) => elements(shape) as f64,
                    None => elements(shape).div_ceil(SLOTS).max(1) as f64,
                };
            }
        }
    }
    out
}

/// The work of one node on secrets when every element is a ciphertext of its own.
fn work_by_element(graph: &Graph<Tensor>, facts: &[Fact], id: NodeId) -> f64 {
    let operands = graph.operands(id);
    let secret = |i: usize| facts[operands[i].index()].secret;
    let count = |i: usize| elements(graph.ty(operands[i]).shape()) as f64;
    let here = match graph.ty(id) {
        TensorType::Tensor(s) => elements(s) as f64,
        TensorType::Tuple(_) => 1.0,
    };
    match graph.op(id) {
        TensorOp::Add | TensorOp::Sub => here,
        TensorOp::Neg => 0.5 * here,
        TensorOp::Mul => {
            if secret(0) && secret(1) {
                MUL * here
            } else if matches!(
                factor(graph, operands[usize::from(secret(0))]),
                Factor::Integer
            ) {
                here
            } else {
                MUL_PUBLIC * here
            }
        }
        TensorOp::Div => MUL_PUBLIC * here,
        TensorOp::Pow(n) => MUL * here * f64::from(n.saturating_sub(1)),
        TensorOp::Poly(p) => {
            let n = (p.coefficients.len() - 1) as f64;
            here * (MUL * (2.0 * n.sqrt()).min(n) + MUL_PUBLIC * n)
        }
        op @ (TensorOp::MatMul | TensorOp::Conv2d { .. }) => {
            let shape = |i: usize| graph.ty(operands[i]).shape();
            let inner = match op {
                TensorOp::MatMul => shape(0).last().copied().unwrap_or(1),
                _ => shape(1)[1..].iter().product(),
            };
            let terms = here * inner as f64;
            if secret(0) && secret(1) {
                MUL * here + PRODUCT_TERM * terms
            } else {
                RESCALE * here + TERM * terms
            }
        }
        TensorOp::Sum(_) => TERM * count(0),
        TensorOp::SumPool(n) => TERM * here * (n * n) as f64,
        // which ciphertext is which element costs nothing
        TensorOp::Input(_)
        | TensorOp::Const(_)
        | TensorOp::Index(_)
        | TensorOp::Proj(_)
        | TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Slice { .. }
        | TensorOp::Concat(_)
        | TensorOp::Update { .. }
        | TensorOp::Pad { .. }
        | TensorOp::Transpose(_)
        | TensorOp::Roll(_)
        | TensorOp::Diag
        | TensorOp::Loop { .. } => 0.0,
    }
}

/// The work of one node on secrets.
pub fn work(graph: &Graph<Tensor>, facts: &[Fact], id: NodeId) -> f64 {
    let operands = graph.operands(id);
    let secret = |i: usize| facts[operands[i].index()].secret;
    let vectors = |shape: &[usize]| elements(shape).div_ceil(SLOTS).max(1) as f64;
    let shape_of = |i: usize| graph.ty(operands[i]).shape();
    let here = match graph.ty(id) {
        TensorType::Tensor(s) => vectors(s),
        TensorType::Tuple(_) => 1.0,
    };
    let log2 = |n: usize| f64::from(usize::BITS - n.saturating_sub(1).leading_zeros());
    match graph.op(id) {
        TensorOp::Input(_) | TensorOp::Const(_) | TensorOp::Index(_) | TensorOp::Proj(_) => 0.0,
        TensorOp::Add | TensorOp::Sub => here,
        TensorOp::Neg => 0.5 * here,
        TensorOp::Mul => {
            if secret(0) && secret(1) {
                MUL * here
            } else if matches!(
                factor(graph, operands[usize::from(secret(0))]),
                Factor::Integer
            ) {
                here
            } else {
                MUL_PUBLIC * here
            }
        }
        TensorOp::Div => MUL_PUBLIC * here,
        TensorOp::Pow(n) => MUL * here * f64::from(n.saturating_sub(1)),
        TensorOp::Poly(p) => {
            let n = (p.coefficients.len() - 1) as f64;
            here * (MUL * (2.0 * n.sqrt()).min(n) + MUL_PUBLIC * n)
        }
        TensorOp::MatMul | TensorOp::Conv2d { .. } => {
            let (a, b) = (shape_of(0), shape_of(1));
            let inner = match graph.op(id) {
                TensorOp::MatMul => a.last().copied().unwrap_or(1),
                _ => b[1..].iter().product(),
            };
            let products = (elements(graph.ty(id).shape()) * inner).div_ceil(SLOTS) as f64;
            let weight = if secret(0) && secret(1) {
                MUL
            } else {
                MUL_PUBLIC
            };
            products * weight + here * log2(inner) * (ROTATE + 1.0)
        }
        TensorOp::Sum(_) => {
            let n = elements(shape_of(0)) / elements(graph.ty(id).shape()).max(1);
            vectors(shape_of(0)) + here * log2(n) * (ROTATE + 1.0)
        }
        TensorOp::SumPool(n) => here * log2(n * n) * (ROTATE + 1.0),
        TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Slice { .. }
        | TensorOp::Concat(_)
        | TensorOp::Update { .. }
        | TensorOp::Pad { .. } => here,
        TensorOp::Transpose(_) | TensorOp::Roll(_) | TensorOp::Diag => ROTATE * here,
        TensorOp::Loop { .. } => 0.0,
    }
}
