//! Circuits as Graphviz text.

use std::fmt::Write as _;

use crate::graph::Circuit;
use crate::span::{SourceMap, Span};
use crate::text::Text;

/// A circuit in Graphviz's language: a box for each live operation with its mnemonic, its type and
/// its source line where `sources` knows it, an edge for each operand, and a house for each result.
pub fn print_dot<D: Text>(circuit: &Circuit<D>, sources: Option<&SourceMap>) -> String {
    let graph = &circuit.graph;
    let live = circuit.live();
    let mut out = format!("digraph {} {{\n", quote(&circuit.name));
    out.push_str("  node [shape=box, fontname=\"monospace\"];\n");
    for id in graph.ids().filter(|id| live[id.index()]) {
        let mut op = D::mnemonic(graph.op(id)).to_owned();
        D::print_op(graph.op(id), &mut op);
        let mut label = format!("{id} = {}\n{}", shortened(&op), D::print_type(graph.ty(id)));
        if let Some(sources) = sources
            && graph.span(id) != Span::default()
        {
            let _ = write!(label, "\n{}", sources.locate(graph.span(id)));
        }
        let _ = writeln!(out, "  n{} [label={}];", id.0, quote(&label));
        let operands = graph.operands(id);
        for (place, o) in operands.iter().enumerate() {
            let _ = write!(out, "  n{} -> n{}", o.0, id.0);
            if operands.len() > 1 {
                let _ = write!(out, " [label=\"{place}\"]");
            }
            out.push_str(";\n");
        }
    }
    for (i, (id, output)) in circuit.outputs.iter().enumerate() {
        let mut label = format!("result {i}");
        D::print_output(output, &mut label);
        let _ = writeln!(
            out,
            "  r{i} [shape=invhouse, label={}];\n  n{} -> r{i};",
            quote(&label),
            id.0
        );
    }
    out.push_str("}\n");
    out
}

/// Long lists of constants are cut: this form is for people.
fn shortened(op: &str) -> String {
    const MOST: usize = 48;
    if op.chars().count() <= MOST {
        return op.to_owned();
    }
    let start: String = op.chars().take(MOST).collect();
    format!("{start} …")
}

fn quote(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::text::parse_circuit;

    #[test]
    fn labels_name_the_source() {
        let text = "circuit tensor \"sq\" { param \"x\" secret real
            %0 = input 0 : real at 0:0:1
            %1 = mul %0 %0 : real at 0:4:9
            result %1 \"y\" }";
        let circuit = parse_circuit::<Tensor>(text).expect("parses");
        let mut sources = SourceMap::default();
        sources.add("a.hec", "x\n  x * x\n");
        let expected = r#"digraph "sq" {
  node [shape=box, fontname="monospace"];
  n0 [label="%0 = input 0\nreal\na.hec:1:1"];
  n1 [label="%1 = mul\nreal\na.hec:2:3"];
  n0 -> n1 [label="0"];
  n0 -> n1 [label="1"];
  r0 [shape=invhouse, label="result 0 \"y\""];
  n1 -> r0;
}
"#;
        assert_eq!(print_dot(&circuit, Some(&sources)), expected);
    }
}
