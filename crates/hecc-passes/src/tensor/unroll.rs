//! Unrolling: loops become straight-line code.
//!
//! **What.** Every `Loop` of the entry circuit, nested ones included, is replaced by its body as
//! often as it runs, with the induction variables replaced by their values; `Index`, `Slice`,
//! `Update` and `Roll` then have constant places. What does not depend on the induction variable or
//! the carried values is built once, because equal nodes are shared.
//!
//! A loop with `@unroll(n)` or `@pipeline(off)` is laid out in blocks of n iterations, or of one. The
//! last operations on what a block hands on, and a later one computes with, are kept as they are
//! written, so that no pass looks past them: within a block everything may be rewritten, and nothing
//! across blocks.
//!
//! **Why.** Depth is a property of the unrolled program: everything that follows works on one flat graph.
//!
//! **Cost.** Linear in trips × body, amortised constant time a node.
//!
//! **Assumes** that a body stands before the circuit that loops over it.

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, CircuitId, Module, NodeId, Operands};
use hecc_ir::span::Span;
use hecc_ir::tensor::{Affine, IvId, Tensor, TensorOp, Unroll as How};
use rustc_hash::{FxHashMap, FxHashSet};

use super::build::{Build, Simplify};

/// Inlines every loop, simplifying on the way as much as `simplify` says.
///
/// # Errors
/// E3101 when more than `limit` nodes would be built (the loop is named); E3102 when an operation
/// does not fit its operands once the indices are known.
pub fn unroll(
    module: &Module<Tensor>,
    simplify: Simplify,
    limit: usize,
) -> Result<Circuit<Tensor>, Box<Diagnostic>> {
    let entry = module.entry();
    let mut work = Unroll {
        module,
        build: Build::like(entry, simplify),
        limit,
        steps: 0,
        values: FxHashMap::default(),
        loops: Vec::new(),
        live: FxHashMap::default(),
    };
    let results = work.inline(module.entry, None)?;
    let outputs = results
        .into_iter()
        .zip(&entry.outputs)
        .map(|(id, (_, decl))| (id, decl.clone()))
        .collect::<Vec<_>>();
    Ok(work.build.finish(outputs))
}

struct Unroll<'a> {
    module: &'a Module<Tensor>,
    build: Build,
    limit: usize,
    steps: usize,
    /// The induction variables around, by value.
    values: FxHashMap<IvId, i64>,
    /// The loops around, outermost first.
    loops: Vec<(Span, u64)>,
    live: FxHashMap<CircuitId, Vec<bool>>,
}

impl Unroll<'_> {
    /// Builds a circuit's nodes; `arguments` stand for its inputs, or the entry's inputs are kept.
    fn inline(
        &mut self,
        id: CircuitId,
        arguments: Option<&[NodeId]>,
    ) -> Result<Vec<NodeId>, Box<Diagnostic>> {
        let module = self.module;
        let circuit = module.circuit(id);
        let live = match self.live.remove(&id) {
            Some(live) => live,
            None => circuit.live(),
        };
        let result = self.nodes(circuit, arguments, &live);
        self.live.insert(id, live);
        result
    }

    fn nodes(
        &mut self,
        circuit: &Circuit<Tensor>,
        arguments: Option<&[NodeId]>,
        live: &[bool],
    ) -> Result<Vec<NodeId>, Box<Diagnostic>> {
        let graph = &circuit.graph;
        let mut map: Vec<NodeId> = vec![NodeId(u32::MAX); graph.len()];
        let mut tuples: FxHashMap<NodeId, Vec<NodeId>> = FxHashMap::default();
        for id in graph.ids() {
            if !live[id.index()] {
                continue;
            }
            let node = graph.node(id);
            self.steps += 1;
            if self.build.graph().len() > self.limit || self.steps > self.limit.saturating_mul(8) {
                return Err(self.too_large(node.span));
            }
            let old = graph.operands(id);
            let new = match &node.op {
                TensorOp::Input(i) => match arguments {
                    Some(arguments) => arguments[*i as usize],
                    None => self.push(node.op.clone(), &[], node.span)?,
                },
                TensorOp::Loop { .. } => {
                    let operands: Vec<NodeId> = old.iter().map(|o| map[o.index()]).collect();
                    let results = self.run_loop(&node.op, operands, node.span)?;
                    tuples.insert(id, results);
                    continue;
                }
                TensorOp::Proj(i) => tuples
                    .get(&old[0])
                    .and_then(|t| t.get(*i as usize))
                    .copied()
                    .ok_or_else(|| {
                        misfit(node.span, "a projection does not take a result of a loop")
                    })?,
                op => {
                    let operands: Operands = old.iter().map(|o| map[o.index()]).collect();
                    let op = self.substitute(op, node.span)?;
                    self.push(op, &operands, node.span)?
                }
            };
            self.build.inherit(new, node);
            map[id.index()] = new;
        }
        Ok(circuit
            .outputs
            .iter()
            .map(|(id, _)| map[id.index()])
            .collect())
    }

    fn run_loop(
        &mut self,
        op: &TensorOp,
        operands: Vec<NodeId>,
        span: Span,
    ) -> Result<Vec<NodeId>, Box<Diagnostic>> {
        let TensorOp::Loop {
            body,
            iv,
            first,
            trips,
            carried,
            unroll,
            pipeline,
        } = op
        else {
            return Ok(Vec::new());
        };
        // How many iterations may be rewritten together.
        let block = match (unroll, pipeline) {
            (How::By(n), _) => u64::from(*n).max(1),
            (How::Auto | How::Full, false) => 1,
            (How::Auto | How::Full, true) => u64::MAX,
        };
        let start = self.build.graph().len();
        let mut begun = start;
        let mut arguments = operands;
        self.loops.push((span, *trips));
        for trip in 0..*trips {
            let value = i64::try_from(trip)
                .ok()
                .and_then(|t| first.checked_add(t))
                .ok_or_else(|| misfit(span, "the induction variable leaves 64 bits"))?;
            self.values.insert(*iv, value);
            self.steps += 1;
            if self.steps > self.limit.saturating_mul(8) {
                return Err(self.too_large(span));
            }
            let results = self.inline(*body, Some(&arguments))?;
            arguments[..carried.len()].copy_from_slice(&results);
            let done = trip + 1;
            if block < *trips && (done % block == 0 || done == *trips) {
                self.keep(start, begun);
                begun = self.build.graph().len();
            }
        }
        self.values.remove(iv);
        self.loops.pop();
        arguments.truncate(carried.len());
        Ok(arguments)
    }

    /// Keeps as they are written the operations between `start` and `begun` whose results are
    /// computed with since, through data movement.
    fn keep(&mut self, start: usize, begun: usize) {
        let mut stack: Vec<NodeId> = Vec::new();
        for i in begun..self.build.graph().len() {
            let id = NodeId(i as u32);
            if !moves(self.build.graph().op(id)) {
                stack.extend(self.build.graph().operands(id));
            }
        }
        let mut seen: FxHashSet<NodeId> = FxHashSet::default();
        while let Some(id) = stack.pop() {
            if id.index() < start || !seen.insert(id) {
                continue;
            }
            let op = self.build.graph().op(id);
            if moves(op) {
                stack.extend(self.build.graph().operands(id));
                continue;
            }
            // Kept, a power or a polynomial would be evaluated as written.
            let whole = matches!(op, TensorOp::Pow(_) | TensorOp::Poly(_));
            if id.index() < begun && !whole && self.build.fact(id).secret {
                self.build.set_keep(id);
            }
        }
    }

    fn push(
        &mut self,
        op: TensorOp,
        operands: &[NodeId],
        span: Span,
    ) -> Result<NodeId, Box<Diagnostic>> {
        self.build
            .try_push(op, operands, span)
            .map_err(|e| misfit(span, &format!("{}: {}", e.op, e.reason)))
    }

    /// The operation with the values of the induction variables around.
    fn substitute(&self, op: &TensorOp, span: Span) -> Result<TensorOp, Box<Diagnostic>> {
        let one = |a: &Affine| self.value(a, span);
        let all = |v: &[Affine]| v.iter().map(one).collect::<Result<Vec<_>, _>>();
        Ok(match op {
            TensorOp::Index(a) => TensorOp::Index(one(a)?),
            TensorOp::Roll(a) => TensorOp::Roll(one(a)?),
            TensorOp::Slice { starts, sizes } => TensorOp::Slice {
                starts: all(starts)?,
                sizes: sizes.clone(),
            },
            TensorOp::Update { starts } => TensorOp::Update {
                starts: all(starts)?,
            },
            other => other.clone(),
        })
    }

    fn value(&self, a: &Affine, span: Span) -> Result<Affine, Box<Diagnostic>> {
        let mut total = i128::from(a.constant);
        for (iv, c) in &a.terms {
            let v = self
                .values
                .get(iv)
                .ok_or_else(|| misfit(span, "an index depends on a loop that is not around it"))?;
            total += i128::from(*c) * i128::from(*v);
        }
        i64::try_from(total)
            .map(Affine::constant)
            .map_err(|_| misfit(span, "an index leaves 64 bits"))
    }

    fn too_large(&self, at: Span) -> Box<Diagnostic> {
        let (span, total) = match self.loops.first() {
            Some((span, _)) => (
                *span,
                self.loops
                    .iter()
                    .fold(1u64, |n, (_, trips)| n.saturating_mul(*trips)),
            ),
            None => (at, 1),
        };
        let mut d = Diagnostic::error(
            "E3101",
            span,
            format!("the unrolled program has more than {} operations", self.limit),
            match self.loops.len() {
                0 => "while this is expanded".to_owned(),
                1 => format!("this loop runs {total} times"),
                n => format!("this loop and the {} inside it run {total} times", n - 1),
            },
        )
        .with_help("make the loop shorter, or write it as tensor operations (`@`, `sum`, elementwise arithmetic), which are one operation each");
        if self.loops.len() > 1
            && let Some((inner, _)) = self.loops.last()
        {
            d = d.with_label(*inner, "the innermost loop");
        }
        Box::new(d)
    }
}

/// Whether an operation computes nothing.
fn moves(op: &TensorOp) -> bool {
    match op {
        TensorOp::Broadcast(_)
        | TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Slice { .. }
        | TensorOp::Update { .. }
        | TensorOp::Concat(_)
        | TensorOp::Pad { .. }
        | TensorOp::Roll(_)
        | TensorOp::Diag => true,
        TensorOp::Input(_)
        | TensorOp::Const(_)
        | TensorOp::Index(_)
        | TensorOp::Add
        | TensorOp::Sub
        | TensorOp::Mul
        | TensorOp::Div
        | TensorOp::Neg
        | TensorOp::Pow(_)
        | TensorOp::Poly(_)
        | TensorOp::MatMul
        | TensorOp::Sum(_)
        | TensorOp::Conv2d { .. }
        | TensorOp::SumPool(_)
        | TensorOp::Loop { .. }
        | TensorOp::Proj(_) => false,
    }
}

fn misfit(span: Span, why: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(
        "E3102",
        span,
        "an operation does not fit its operands once the loops are unrolled",
        why,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::build::places;
    use crate::tensor::cost::cost;
    use crate::tensor::simplify::simplify;
    use crate::tensor::testing::{Program, run};
    use hecc_ir::tensor::{Secrecy, Shape, Unroll as How};

    /// `var r = x[0]; for i in 1..n { r = r * x[i]; out[i] = r }` with `out` carried.
    fn product_loop(n: usize) -> Module<Tensor> {
        product_loop_by(n, How::Auto, true)
    }

    fn product_loop_by(n: usize, unroll: How, pipeline: bool) -> Module<Tensor> {
        let iv = IvId(0);
        let mut body = Program::new();
        let r = body.input(Secrecy::Secret, &[]);
        let out = body.input(Secrecy::Secret, &[n]);
        let x = body.input(Secrecy::Secret, &[n]);
        let at = TensorOp::Slice {
            starts: vec![Affine::variable(iv)],
            sizes: Shape::from_slice(&[1]),
        };
        let e = body.op(at, &[x]);
        let e = body.op(TensorOp::Reshape(Shape::new()), &[e]);
        let r = body.mul(r, e);
        let one = body.op(TensorOp::Reshape(Shape::from_slice(&[1])), &[r]);
        let out = body.op(
            TensorOp::Update {
                starts: vec![Affine::variable(iv)],
            },
            &[out, one],
        );
        body.output(r);
        body.output(out);
        let mut module = Module::single(body.circuit);
        let mut main = Program::new();
        let x = main.input(Secrecy::Secret, &[n]);
        let one = main.num(1.0);
        let zero = main.num(0.0);
        let zeros = main.op(TensorOp::Broadcast(Shape::from_slice(&[n])), &[zero]);
        let l = main.op(
            TensorOp::Loop {
                body: CircuitId(0),
                iv,
                first: 0,
                trips: n as u64,
                carried: vec![Shape::new(), Shape::from_slice(&[n])],
                unroll,
                pipeline,
            },
            &[one, zeros, x],
        );
        let out = main.op(TensorOp::Proj(1), &[l]);
        main.output(out);
        module.entry = module.push(main.circuit);
        module
    }

    #[test]
    fn a_loop_that_writes_each_element_becomes_one_assembly() {
        let module = product_loop(5);
        let flat = unroll(&module, Simplify::All, 1000).expect("small");
        let flat = simplify(&flat, Simplify::All);
        let (out, _) = &flat.outputs[0];
        assert_eq!(flat.graph.op(*out), &TensorOp::Concat(0));
        assert_eq!(flat.graph.operands(*out).len(), 5);
        assert!(flat.graph.ids().all(|id| !matches!(
            flat.graph.op(id),
            TensorOp::Loop { .. } | TensorOp::Proj(_) | TensorOp::Update { .. }
        )));
    }

    #[test]
    fn many_trips_stay_linear() {
        let module = product_loop(20_000);
        let flat = unroll(&module, Simplify::All, 1_000_000).expect("fits");
        let flat = simplify(&flat, Simplify::All);
        assert!(flat.graph.len() < 20_000 * 6);
    }

    #[test]
    fn too_many_nodes_name_the_loop() {
        let error = unroll(&product_loop(1000), Simplify::All, 500).expect_err("too large");
        assert_eq!(error.code, "E3101");
        assert!(error.primary.text.contains("1000 times"));
    }

    #[test]
    fn blocks_of_iterations_are_not_rewritten_together() {
        let depth = |unroll, pipeline, level| {
            let mut module = product_loop_by(16, unroll, pipeline);
            // The last product alone, not all of them.
            let entry = &mut module.circuits[module.entry.0 as usize];
            let id = entry.outputs[0].0;
            let at = TensorOp::Slice {
                starts: vec![Affine::constant(15)],
                sizes: Shape::from_slice(&[1]),
            };
            let inputs = entry.inputs.clone();
            let last = entry.graph.push(at, &[id], &inputs, Span::default());
            let last = last.expect("fits");
            entry.outputs[0].0 = last;
            cost(&run(&module, level).0).depth
        };
        assert_eq!(depth(How::Auto, true, 0), 15);
        assert_eq!(depth(How::Full, true, 3), 4);
        assert_eq!(depth(How::Auto, false, 3), 15);
        assert_eq!(depth(How::By(1), true, 3), 15);
        let blocks = [2, 4, 8, 16].map(|n| depth(How::By(n), true, 3));
        assert!(blocks.windows(2).all(|w| w[1] < w[0]), "{blocks:?}");
        assert_eq!(blocks[3], 4);
        // together the block says how far rewriting goes
        assert_eq!(depth(How::By(4), false, 3), blocks[1]);
        assert_eq!(depth(How::Full, false, 3), 15);
    }

    #[test]
    fn indices_are_constant_afterwards() {
        let flat = unroll(&product_loop(4), Simplify::Structure, 1000).expect("small");
        for id in flat.graph.ids() {
            if let TensorOp::Slice { starts, .. } | TensorOp::Update { starts } = flat.graph.op(id)
            {
                assert!(places(starts).is_some());
            }
        }
    }
}
