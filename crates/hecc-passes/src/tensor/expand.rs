//! Lowering as written: powers and polynomials become products and sums.
//!
//! **What.** xⁿ becomes n − 1 products from left to right, a polynomial becomes Horner's rule, also
//! in the Chebyshev basis (Clenshaw's recurrence, 1955). Nothing is re-associated.
//!
//! **Why.** This is what `-O 0` means, and what every other level is compared with.
//!
//! **Cost.** Linear in the sum of exponents and degrees.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Basis, Polynomial, Tensor, TensorOp};

use super::build::{Build, Simplify, sweep};
use super::exact;

/// Whether the circuit as written has no more than `limit` operations, powers and polynomials expanded.
///
/// # Errors
/// E3101, at the operation with the largest share.
pub fn within(circuit: &Circuit<Tensor>, limit: usize) -> Result<(), Box<Diagnostic>> {
    let graph = &circuit.graph;
    let written = |id: NodeId| match graph.op(id) {
        TensorOp::Pow(n) => *n as usize,
        TensorOp::Poly(p) => 2 * p.coefficients.len(),
        _ => 1,
    };
    let total = graph
        .ids()
        .fold(0usize, |sum, id| sum.saturating_add(written(id)));
    let Some(largest) = graph.ids().max_by_key(|id| (written(*id), id.0)) else {
        return Ok(());
    };
    if total <= limit {
        return Ok(());
    }
    Err(Box::new(
        Diagnostic::error(
            "E3101",
            graph.span(largest),
            format!("the program has {total} operations as written, and at most {limit} are taken"),
            format!("{} of them are here", written(largest)),
        )
        .with_help("use a smaller exponent or degree, or fewer of them"),
    ))
}

/// Expands every power and polynomial as written. `None` when there is none.
pub fn expand_as_written(circuit: &Circuit<Tensor>) -> Option<Circuit<Tensor>> {
    let graph = &circuit.graph;
    let any = graph
        .ids()
        .any(|id| matches!(graph.op(id), TensorOp::Pow(_) | TensorOp::Poly(_)));
    any.then(|| {
        sweep(
            circuit,
            Simplify::Structure,
            |build, _, node, operands| match &node.op {
                TensorOp::Pow(n) => power_chain(build, operands[0], *n, node.span),
                TensorOp::Poly(p) => horner(build, operands[0], p, node.span),
                op => build.push(op.clone(), operands, node.span),
            },
        )
    })
}

/// x·x·…·x from left to right.
fn power_chain(build: &mut Build, x: NodeId, n: u32, span: Span) -> NodeId {
    if n == 0 {
        let shape = build.shape(x);
        return build.uniform(1.0, &shape, span);
    }
    (1..n).fold(x, |p, _| build.push(TensorOp::Mul, &[p, x], span))
}

/// Horner's rule, or Clenshaw's.
fn horner(build: &mut Build, x: NodeId, p: &Polynomial, span: Span) -> NodeId {
    let shape = build.shape(x);
    let c: Vec<f64> = p.coefficients.iter().map(|c| c.0).collect();
    match p.basis {
        Basis::Monomial => {
            let Some((last, rest)) = c.split_last() else {
                return x;
            };
            let mut sum = build.uniform(*last, &shape, span);
            for c in rest.iter().rev() {
                let product = build.push(TensorOp::Mul, &[sum, x], span);
                let c = build.uniform(*c, &shape, span);
                sum = build.push(TensorOp::Add, &[product, c], span);
            }
            sum
        }
        Basis::Chebyshev { lo, hi } => {
            let u = chebyshev_variable(build, x, lo.0, hi.0, span);
            // b_k = c_k + 2u·b_{k+1} − b_{k+2}; the value is c_0 + u·b_1 − b_2.
            let mut next: Option<NodeId> = None;
            let mut after: Option<NodeId> = None;
            let double = build.push(TensorOp::Add, &[u, u], span);
            for (k, c) in c.iter().enumerate().rev() {
                let mut here = build.uniform(*c, &shape, span);
                if let Some(b) = next {
                    let by = if k == 0 { u } else { double };
                    let product = build.push(TensorOp::Mul, &[by, b], span);
                    here = build.push(TensorOp::Add, &[product, here], span);
                }
                if let Some(b) = after {
                    here = build.push(TensorOp::Sub, &[here, b], span);
                }
                after = next;
                next = Some(here);
            }
            next.unwrap_or(x)
        }
    }
}

/// u = (2x − lo − hi)/(hi − lo) as x·α + β with public α and β, folded only where that is exact.
pub fn chebyshev_variable(build: &mut Build, x: NodeId, lo: f64, hi: f64, span: Span) -> NodeId {
    let (alpha, beta) = chebyshev_map(build, lo, hi, span);
    let shape = build.shape(x);
    let mut u = x;
    if build.uniform_value(alpha) != Some(1.0) {
        let alpha = build.broadcast(alpha, &shape, span);
        u = build.push(TensorOp::Mul, &[alpha, u], span);
    }
    if build.uniform_value(beta) != Some(0.0) {
        let beta = build.broadcast(beta, &shape, span);
        u = build.push(TensorOp::Sub, &[u, beta], span);
    }
    u
}

/// The public scalars α = 2/(hi − lo) and β = (lo + hi)/(hi − lo) with u = αx − β.
pub fn chebyshev_map(build: &mut Build, lo: f64, hi: f64, span: Span) -> (NodeId, NodeId) {
    let width = public2(build, TensorOp::Sub, hi, lo, span);
    let sum = public2(build, TensorOp::Add, hi, lo, span);
    let two = build.scalar(2.0, span);
    let alpha = public(build, TensorOp::Div, two, width, span);
    let beta = public(build, TensorOp::Div, sum, width, span);
    (alpha, beta)
}

fn public2(build: &mut Build, op: TensorOp, a: f64, b: f64, span: Span) -> NodeId {
    let (a, b) = (build.scalar(a, span), build.scalar(b, span));
    public(build, op, a, b, span)
}

/// A public scalar operation, folded where that is exact, whether the builder simplifies or not.
pub fn public(build: &mut Build, op: TensorOp, a: NodeId, b: NodeId, span: Span) -> NodeId {
    let folded = match (build.uniform_value(a), build.uniform_value(b)) {
        (Some(x), Some(y)) => match op {
            TensorOp::Add => exact::add(x, y),
            TensorOp::Sub => exact::sub(x, y),
            TensorOp::Mul => exact::mul(x, y),
            TensorOp::Div => exact::div(x, y),
            _ => None,
        },
        _ => None,
    };
    match folded {
        Some(v) => build.scalar(v, span),
        None => build.push(op, &[a, b], span),
    }
}
