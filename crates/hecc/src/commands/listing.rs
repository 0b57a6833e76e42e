//! A circuit as a listing, an operation a line, for people.

use std::fmt::Write as _;

use hecc_ir::graph::{Circuit, Dialect};

/// Every node with its operation, operands and type.
pub(crate) fn circuit<D: Dialect>(circuit: &Circuit<D>) -> String {
    let mut out = format!("circuit {} {{\n", circuit.name);
    for (i, input) in circuit.inputs.iter().enumerate() {
        let _ = writeln!(out, "  // input {i}: {input:?}");
    }
    for id in circuit.graph.ids() {
        let node = circuit.graph.node(id);
        let operands: Vec<String> = circuit
            .graph
            .operands(id)
            .iter()
            .map(ToString::to_string)
            .collect();
        let _ = writeln!(
            out,
            "  {id} = {:?} {} : {:?}",
            node.op,
            operands.join(", "),
            node.ty
        );
    }
    let outputs: Vec<String> = circuit
        .outputs
        .iter()
        .map(|(id, _)| id.to_string())
        .collect();
    let _ = writeln!(out, "  return {}\n}}", outputs.join(", "));
    out
}
