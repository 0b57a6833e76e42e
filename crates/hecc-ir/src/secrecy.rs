//! Which values are secret, through loops.

use rustc_hash::FxHashMap;

use crate::graph::{CircuitId, Module, NodeId};
use crate::tensor::{Secrecy, Tensor, TensorOp};

/// Secrecy of every node of a circuit of a module, given that of its parameters.
///
/// Finer than [`crate::tensor::secrecy`]: a result of a loop is secret only if its own carried
/// value is, by a least fixpoint over the body. The node of the loop itself, a tuple, is secret if any
/// of its results is.
#[derive(Debug, Default)]
pub struct SecrecyAnalysis {
    outputs: FxHashMap<(CircuitId, Vec<Secrecy>), Vec<Secrecy>>,
}

impl SecrecyAnalysis {
    /// Secrecy of each node of `circuit` when its parameters have this secrecy.
    pub fn nodes(
        &mut self,
        module: &Module<Tensor>,
        circuit: CircuitId,
        inputs: &[Secrecy],
    ) -> Vec<Secrecy> {
        let graph = &module.circuit(circuit).graph;
        let mut tuples: FxHashMap<NodeId, Vec<Secrecy>> = FxHashMap::default();
        let mut out: Vec<Secrecy> = Vec::with_capacity(graph.len());
        for id in graph.ids() {
            let operands = graph.operands(id);
            let secrecy = match graph.op(id) {
                TensorOp::Input(i) => inputs.get(*i as usize).copied().unwrap_or(Secrecy::Secret),
                TensorOp::Loop {
                    body,
                    carried,
                    trips,
                    ..
                } if *body < circuit => {
                    let mut state: Vec<Secrecy> = operands.iter().map(|o| out[o.index()]).collect();
                    let n = carried.len().min(state.len());
                    // Each round but the last makes at least one carried value secret.
                    for _ in 0..(*trips).min(n as u64 + 1) {
                        let next = self.outputs(module, *body, &state);
                        let mut changed = false;
                        for (old, new) in state[..n].iter_mut().zip(next) {
                            changed |= new > *old;
                            *old = (*old).max(new);
                        }
                        if !changed {
                            break;
                        }
                    }
                    state.truncate(n);
                    let any = state.iter().copied().max().unwrap_or(Secrecy::Public);
                    tuples.insert(id, state);
                    any
                }
                TensorOp::Proj(i) => operands
                    .first()
                    .map(|tuple| {
                        tuples
                            .get(tuple)
                            .and_then(|t| t.get(*i as usize))
                            .copied()
                            .unwrap_or(out[tuple.index()])
                    })
                    .unwrap_or(Secrecy::Public),
                _ => operands
                    .iter()
                    .map(|o| out[o.index()])
                    .max()
                    .unwrap_or(Secrecy::Public),
            };
            out.push(secrecy);
        }
        out
    }

    /// Secrecy of each result of `circuit` when its parameters have this secrecy.
    pub fn outputs(
        &mut self,
        module: &Module<Tensor>,
        circuit: CircuitId,
        inputs: &[Secrecy],
    ) -> Vec<Secrecy> {
        let key = (circuit, inputs.to_vec());
        if let Some(known) = self.outputs.get(&key) {
            return known.clone();
        }
        let nodes = self.nodes(module, circuit, inputs);
        let results: Vec<Secrecy> = module
            .circuit(circuit)
            .outputs
            .iter()
            .map(|(id, _)| nodes[id.index()])
            .collect();
        self.outputs.insert(key, results.clone());
        results
    }
}

/// Secrecy of every node of a module's entry, by the declarations of its parameters.
pub fn module_secrecy(module: &Module<Tensor>) -> Vec<Secrecy> {
    let inputs: Vec<Secrecy> = module.entry().inputs.iter().map(|p| p.secrecy).collect();
    SecrecyAnalysis::default().nodes(module, module.entry, &inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Circuit;
    use crate::span::Span;
    use crate::tensor::{IvId, Param, ResultDecl, Shape, Unroll};

    #[test]
    fn a_loop_keeps_its_public_values_public() {
        let s = Span::default();
        let param = |name: &str, secrecy| Param {
            name: name.to_owned(),
            secrecy,
            shape: Shape::new(),
            range: None,
            span: s,
        };
        let decl = || ResultDecl {
            name: "r".to_owned(),
            range: None,
            span: s,
        };
        use Secrecy::{Public, Secret};
        // (a, b, c) -> (a + 1·captured public, a + b, b): b turns secret only from c's side.
        let mut body: Circuit<Tensor> = Circuit::new("body");
        body.inputs = ["a", "b", "c"].map(|n| param(n, Public)).to_vec();
        let ids: Vec<NodeId> = (0..3)
            .map(|i| body.push(TensorOp::Input(i), &[], s).expect("typed"))
            .collect();
        let aa = body
            .push(TensorOp::Add, &[ids[0], ids[0]], s)
            .expect("typed");
        let bc = body
            .push(TensorOp::Mul, &[ids[1], ids[2]], s)
            .expect("typed");
        body.outputs = vec![(aa, decl()), (bc, decl()), (ids[2], decl())];
        let mut main: Circuit<Tensor> = Circuit::new("main");
        main.inputs = vec![param("p", Public), param("s", Secret)];
        let p = main.push(TensorOp::Input(0), &[], s).expect("typed");
        let x = main.push(TensorOp::Input(1), &[], s).expect("typed");
        let l = main
            .push(
                TensorOp::Loop {
                    body: CircuitId(0),
                    iv: IvId(0),
                    first: 0,
                    trips: 3,
                    carried: vec![Shape::new(); 3],
                    unroll: Unroll::Auto,
                    pipeline: true,
                },
                &[p, p, x],
                s,
            )
            .expect("typed");
        for i in 0..3 {
            let r = main.push(TensorOp::Proj(i), &[l], s).expect("typed");
            main.outputs.push((r, decl()));
        }
        let module = Module {
            circuits: vec![body, main],
            entry: CircuitId(1),
        };
        let all = module_secrecy(&module);
        assert_eq!(all, [Public, Secret, Secret, Public, Secret, Secret]);
    }
}
