//! Circuits as pictures (SVG): small ones, for documents.
//!
//! A node's column is its ASAP layer (inputs and constants in column 0, any other operation one past
//! its deepest operand), so that the width of the picture is the length of the longest path. Rows
//! follow the mean row of the operands (one barycentre sweep; Sugiyama, Tagawa, Toda, IEEE Trans.
//! SMC 11, 1981). Products of two secrets are filled. The text is the same on every run.

use std::fmt::Write as _;

use crate::graph::{Circuit, NodeId};
use crate::text::Text;

const COLUMN: f64 = 96.0;
const ROW: f64 = 44.0;
const BOX: (f64, f64) = (72.0, 28.0);
const MARGIN: f64 = 16.0;
const HEAD: f64 = 28.0;

/// A circuit with a title, and how its nodes are shown.
pub struct Picture<'a, D: Text> {
    /// Above the picture.
    pub title: String,
    /// What is drawn.
    pub circuit: &'a Circuit<D>,
    /// What stands in a node's box.
    pub label: &'a dyn Fn(NodeId) -> String,
    /// Nodes that are filled.
    pub marked: &'a dyn Fn(NodeId) -> bool,
}

/// The pictures one below the other.
pub fn print_svg<D: Text>(pictures: &[Picture<'_, D>]) -> String {
    let mut body = String::new();
    let (mut width, mut top) = (0.0f64, MARGIN);
    for p in pictures {
        let (w, h) = draw(p, top, &mut body);
        width = width.max(w);
        top += h + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" viewBox=\"0 0 {width} {top}\" font-family=\"monospace\" font-size=\"12\">\n<defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n<rect width=\"{width}\" height=\"{top}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Appends one picture; its width and height.
fn draw<D: Text>(p: &Picture<'_, D>, top: f64, out: &mut String) -> (f64, f64) {
    let graph = &p.circuit.graph;
    let live = p.circuit.live();
    let mut column = vec![0usize; graph.len()];
    let mut columns: Vec<Vec<NodeId>> = Vec::new();
    for id in graph.ids().filter(|id| live[id.index()]) {
        let deepest = graph
            .operands(id)
            .iter()
            .map(|o| column[o.index()] + 1)
            .max();
        let at = deepest.unwrap_or(0);
        column[id.index()] = at;
        if columns.len() <= at {
            columns.resize(at + 1, Vec::new());
        }
        columns[at].push(id);
    }
    let tallest = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut row = vec![0.0f64; graph.len()];
    for ids in &mut columns {
        let mean = |id: NodeId, row: &[f64]| {
            let operands = graph.operands(id);
            let sum: f64 = operands.iter().map(|o| row[o.index()]).sum();
            sum / operands.len().max(1) as f64
        };
        // ids break ties, so that inputs keep their order
        ids.sort_by(|a, b| mean(*a, &row).total_cmp(&mean(*b, &row)).then(a.cmp(b)));
        let first = (tallest - ids.len()) as f64 / 2.0;
        for (i, id) in ids.iter().enumerate() {
            row[id.index()] = first + i as f64;
        }
    }
    let x = |id: NodeId| MARGIN + COLUMN * column[id.index()] as f64;
    let y = |id: NodeId| top + HEAD + ROW * row[id.index()];
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top + 14.0,
        escaped(&p.title)
    );
    let results: Vec<NodeId> = p.circuit.outputs.iter().map(|(id, _)| *id).collect();
    for ids in &columns {
        for &id in ids {
            for o in graph.operands(id) {
                let (x1, y1) = (x(o) + BOX.0, y(o) + BOX.1 / 2.0);
                let (x2, y2) = (x(id), y(id) + BOX.1 / 2.0);
                let bend = (x2 - x1) / 2.0;
                let _ = writeln!(
                    out,
                    "<path d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\" fill=\"none\" stroke=\"#777\" marker-end=\"url(#end)\"/>",
                    x1 + bend,
                    x2 - bend
                );
            }
        }
    }
    for ids in &columns {
        for &id in ids {
            let fill = if (p.marked)(id) { "#cfe0f5" } else { "white" };
            let stroke = if results.contains(&id) { 2.5 } else { 1.0 };
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\" stroke=\"#333\" stroke-width=\"{stroke}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(id),
                y(id),
                BOX.0,
                BOX.1,
                x(id) + BOX.0 / 2.0,
                y(id) + BOX.1 / 2.0 + 4.0,
                escaped(&(p.label)(id))
            );
        }
    }
    (
        2.0 * MARGIN + COLUMN * columns.len() as f64,
        HEAD + ROW * tallest as f64,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::text::parse_circuit;

    #[test]
    fn a_column_for_each_layer() {
        let text = "circuit tensor \"f\" { param \"x\" secret real
            %0 = input 0 : real at 0:0:1
            %1 = mul %0 %0 : real at 0:4:9
            %2 = add %1 %0 : real at 0:4:9
            result %2 \"y\" }";
        let circuit = parse_circuit::<Tensor>(text).expect("parses");
        let picture = print_svg(&[Picture {
            title: "a < b".to_owned(),
            circuit: &circuit,
            label: &|id| id.to_string(),
            marked: &|id| id.0 == 1,
        }]);
        assert_eq!(picture.matches("<path d=\"M").count() - 1, 4);
        assert!(picture.contains("a &lt; b") && picture.contains("#cfe0f5"));
        assert!(picture.contains(&format!("width=\"{}\"", 2.0 * MARGIN + 3.0 * COLUMN)));
        for column in 0..3 {
            let x = MARGIN + COLUMN * f64::from(column);
            assert!(picture.contains(&format!("<rect x=\"{x:.1}\"")));
        }
    }
}
