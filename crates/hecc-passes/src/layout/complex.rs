//! Two instances of a batch in each slot: one in its real part, one in its imaginary part.
//!
//! **What.** Rewrites a circuit whose slots are instances to one of half as many, complex slots. Weights are
//! real, so that all that is linear stays as it is and does both instances at once. A product of
//! x = a + ib and y = c + id, meant as ac + i·bd, is (x + x̄)(y + ȳ)/4 + (x − x̄)·i(ȳ − y)/4: one
//! conjugation for each value that is multiplied, and two products that are relinearized as one. The factor
//! 1/4 waits in the scale; there is no level more.
//!
//! **Why.** A ring of N carries N instances in place of N/2, at the cost of linear layers and
//! encryptions for half of them. It does not pay where a ring has slots to spare anyway, nor where there is
//! little beside products: whoever calls compares.
//!
//! **Cost.** Linear in the circuit. Nothing here where a product has a public vector (its weights
//! may differ between the instances of a slot), where something rotates, or without a batch.

use hecc_ir::graph::{Builder, Circuit, NodeId, Operands, Real};
use hecc_ir::slots::{
    Coefficient, PlainSource, SlotSource, Slots, SlotsMeta, SlotsOp, SlotsType, Unpack,
};

/// The same circuit with two instances in each slot; `None` where that cannot be.
pub fn complex(circuit: &Circuit<Slots>) -> Option<Circuit<Slots>> {
    let meta = &circuit.meta;
    if meta.batch.is_none() || meta.complex || meta.slots < 2 || !packs_instances(circuit) {
        return None;
    }
    let graph = &circuit.graph;
    let halved = SlotsMeta {
        slots: meta.slots / 2,
        complex: true,
        ..meta.clone()
    };
    let mut builder: Builder<Slots> =
        Builder::new(circuit.name.clone(), circuit.inputs.clone(), halved);
    let mut of: Vec<NodeId> = Vec::with_capacity(graph.len());
    for id in graph.ids() {
        let node = graph.node(id);
        let operands: Operands = graph.operands(id).iter().map(|o| of[o.index()]).collect();
        // Types are those of the old nodes, which were lawful.
        let mut push = |op: SlotsOp, operands: &[NodeId]| {
            builder
                .push(op, operands, node.span)
                .expect("operands are encrypted where they must be")
        };
        let new = match &node.op {
            SlotsOp::Mul | SlotsOp::Square => {
                let x = operands[0];
                let y = *operands.get(1).unwrap_or(&x);
                let (x_bar, y_bar) = (
                    push(SlotsOp::Conjugate, &[x]),
                    push(SlotsOp::Conjugate, &[y]),
                );
                // 2a, 2c, 2ib and 2d.
                let a = push(SlotsOp::Add, &[x, x_bar]);
                let c = push(SlotsOp::Add, &[y, y_bar]);
                let ib = push(SlotsOp::Sub, &[x, x_bar]);
                let minus_id = push(SlotsOp::Sub, &[y_bar, y]);
                let d = push(SlotsOp::TimesI, &[minus_id]);
                let first = if a == c {
                    push(SlotsOp::Square, &[a])
                } else {
                    push(SlotsOp::Mul, &[a, c])
                };
                let second = push(SlotsOp::Mul, &[ib, d]);
                let four = push(SlotsOp::Add, &[first, second]);
                let quarter = vec![Coefficient::Const(Real(0.25))];
                push(SlotsOp::LinComb(quarter), &[four])
            }
            op @ (SlotsOp::Input(_)
            | SlotsOp::Plain(_)
            | SlotsOp::Add
            | SlotsOp::Sub
            | SlotsOp::Neg
            | SlotsOp::LinComb(_)
            | SlotsOp::Rotate(_)
            | SlotsOp::Conjugate
            | SlotsOp::TimesI) => push(op.clone(), &operands),
        };
        builder.inherit(new, node);
        of.push(new);
    }
    for (id, ()) in &circuit.outputs {
        builder.output(of[id.index()], ());
    }
    Some(builder.finish())
}

/// Whether everything is an instance of a batch, or the same for all, and products are of encrypted values.
fn packs_instances(circuit: &Circuit<Slots>) -> bool {
    let graph = &circuit.graph;
    let meta = &circuit.meta;
    let inputs = circuit
        .inputs
        .iter()
        .all(|i| matches!(i.source, SlotSource::Instances(_)));
    let plains = meta.plains.iter().all(|p| match &p.source {
        PlainSource::Uniform(_) => true,
        PlainSource::Vector(_) => false,
        PlainSource::Public { source, .. } => !matches!(source, SlotSource::Map(_)),
    });
    let results = meta
        .results
        .iter()
        .all(|r| !matches!(r.unpack, Unpack::Slots(_)));
    let operations = graph.ids().all(|id| match graph.op(id) {
        SlotsOp::Mul => graph
            .operands(id)
            .iter()
            .all(|o| *graph.ty(*o) == SlotsType::Cipher),
        SlotsOp::Rotate(_) | SlotsOp::Conjugate | SlotsOp::TimesI => false,
        SlotsOp::Input(_)
        | SlotsOp::Plain(_)
        | SlotsOp::Add
        | SlotsOp::Sub
        | SlotsOp::Neg
        | SlotsOp::Square
        | SlotsOp::LinComb(_) => true,
    });
    inputs && plains && results && operations
}
