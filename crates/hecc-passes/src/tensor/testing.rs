//! Helpers of the tests of passes: small programs by hand, and their value modulo a prime.

use hecc_ir::graph::{Circuit, Module, NodeId};
use hecc_ir::span::Span;
use hecc_ir::tensor::{ConstTensor, Param, ResultDecl, Secrecy, Shape, Tensor, TensorOp, elements};

use super::check::Reference;
use crate::pipeline::{Options, PassReport, optimize};

/// A program under construction.
pub struct Program {
    pub circuit: Circuit<Tensor>,
}

impl Program {
    pub fn new() -> Program {
        Program {
            circuit: Circuit::new("test"),
        }
    }

    pub fn input(&mut self, secrecy: Secrecy, shape: &[usize]) -> NodeId {
        let i = self.circuit.inputs.len() as u32;
        self.circuit.inputs.push(Param {
            name: format!("x{i}"),
            secrecy,
            shape: Shape::from_slice(shape),
            range: None,
            span: Span::default(),
        });
        self.op(TensorOp::Input(i), &[])
    }

    pub fn secret(&mut self) -> NodeId {
        self.input(Secrecy::Secret, &[])
    }

    pub fn public(&mut self) -> NodeId {
        self.input(Secrecy::Public, &[])
    }

    pub fn op(&mut self, op: TensorOp, operands: &[NodeId]) -> NodeId {
        self.circuit
            .push(op, operands, Span::default())
            .expect("well typed")
    }

    pub fn num(&mut self, v: f64) -> NodeId {
        self.op(TensorOp::Const(ConstTensor::scalar(v)), &[])
    }

    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Add, &[a, b])
    }

    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Sub, &[a, b])
    }

    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(TensorOp::Mul, &[a, b])
    }

    pub fn output(&mut self, id: NodeId) {
        let name = format!("y{}", self.circuit.outputs.len());
        self.circuit.outputs.push((
            id,
            ResultDecl {
                name,
                range: None,
                span: Span::default(),
            },
        ));
    }

    pub fn done(mut self, result: NodeId) -> Module<Tensor> {
        self.output(result);
        Module::single(self.circuit)
    }
}

/// Optimizes with all checks on.
pub fn run(module: &Module<Tensor>, opt_level: u8) -> (Circuit<Tensor>, Vec<PassReport>) {
    let options = Options {
        opt_level,
        verify: true,
        ..Options::default()
    };
    match optimize(module, &options, None) {
        Ok(result) => result,
        Err(e) => panic!("-O {opt_level}: {e}\n{}", show(module)),
    }
}

/// Products of two secrets, live ones.
pub fn products(circuit: &Circuit<Tensor>) -> usize {
    let facts = super::cost::facts(circuit);
    let live = circuit.live();
    circuit
        .graph
        .ids()
        .filter(|id| {
            let o = circuit.graph.operands(*id);
            live[id.index()]
                && matches!(circuit.graph.op(*id), TensorOp::Mul)
                && facts[o[0].index()].secret
                && facts[o[1].index()].secret
                && elements(circuit.graph.ty(*id).shape()) > 0
        })
        .count()
}

/// Asserts that two programs agree at random points modulo a prime.
pub fn assert_same(a: &Circuit<Tensor>, b: &Circuit<Tensor>) {
    let reference = Reference::new(&Module::single(a.clone()));
    assert!(!reference.is_empty(), "the program cannot be evaluated");
    reference.compare(b).expect("means the same");
}

/// Equal for circuits that differ in the numbers of nodes and the order of commuting operands alone.
pub fn fingerprint(circuit: &Circuit<Tensor>) -> (usize, Vec<u64>) {
    use std::hash::{Hash, Hasher};
    let mut of: Vec<u64> = Vec::new();
    for id in circuit.graph.ids() {
        let mut operands: Vec<u64> = circuit
            .graph
            .operands(id)
            .iter()
            .map(|o| of[o.index()])
            .collect();
        if matches!(circuit.graph.op(id), TensorOp::Add | TensorOp::Mul) {
            operands.sort_unstable();
        }
        let mut hasher = rustc_hash::FxHasher::default();
        circuit.graph.op(id).hash(&mut hasher);
        operands.hash(&mut hasher);
        of.push(hasher.finish());
    }
    let outputs = circuit.outputs.iter().map(|(id, _)| of[id.index()]);
    (
        circuit.live().iter().filter(|l| **l).count(),
        outputs.collect(),
    )
}

/// One line a node.
pub fn show(module: &Module<Tensor>) -> String {
    let circuit = module.entry();
    let mut out = String::new();
    for id in circuit.graph.ids() {
        let node = circuit.graph.node(id);
        out += &format!(
            "{id} = {:?} {:?} : {:?}{}\n",
            node.op,
            circuit.graph.operands(id),
            node.ty.shape(),
            if node.keep { " keep" } else { "" }
        );
    }
    for (id, decl) in &circuit.outputs {
        out += &format!("{} = {id}\n", decl.name);
    }
    out
}
