//! Large programs go through the whole compiler; nothing here measures time.

use hecc_ir::graph::{Circuit, Interval, Module, NodeId};
use hecc_ir::span::{SourceMap, Span};
use hecc_ir::tensor::{Affine, Param, ResultDecl, Secrecy, Shape, Tensor, TensorMeta, TensorOp};
use hecc_passes::layout::{LayoutOptions, Strategy};
use hecc_passes::{CompileOptions, Compiled, compile};

fn vector_param(name: &str, n: usize) -> Param {
    Param {
        name: name.to_owned(),
        secrecy: Secrecy::Secret,
        shape: Shape::from_slice(&[n]),
        range: Some(Interval::UNIT),
        span: Span::default(),
    }
}

fn element(c: &mut Circuit<Tensor>, x: NodeId, i: usize) -> NodeId {
    let op = TensorOp::Slice {
        starts: vec![Affine::constant(i as i64)],
        sizes: Shape::from_slice(&[1]),
    };
    let s = c.push(op, &[x], Span::default()).unwrap();
    c.push(TensorOp::Reshape(Shape::new()), &[s], Span::default())
        .unwrap()
}

fn finish(mut c: Circuit<Tensor>, out: NodeId) -> Compiled {
    c.outputs.push((
        out,
        ResultDecl {
            name: "y".to_owned(),
            range: None,
            span: Span::default(),
        },
    ));
    c.meta = TensorMeta::default();
    // The choice of a layout depends on the size; what is asked here is how one operation for each
    // element fares.
    let options = CompileOptions {
        layout: LayoutOptions {
            strategy: Strategy::Elements,
            ..LayoutOptions::default()
        },
        ..CompileOptions::default()
    };
    compile(&Module::single(c), &SourceMap::default(), &options).unwrap()
}

fn product(n: usize) -> Compiled {
    let mut c = Circuit::new("product");
    c.inputs.push(vector_param("x", n));
    let x = c.push(TensorOp::Input(0), &[], Span::default()).unwrap();
    let mut p = element(&mut c, x, 0);
    for i in 1..n {
        let e = element(&mut c, x, i);
        p = c.push(TensorOp::Mul, &[p, e], Span::default()).unwrap();
    }
    finish(c, p)
}

fn products(n: usize) -> Compiled {
    let mut c = Circuit::new("products");
    c.inputs.push(vector_param("x", n));
    c.inputs.push(vector_param("z", n));
    let x = c.push(TensorOp::Input(0), &[], Span::default()).unwrap();
    let z = c.push(TensorOp::Input(1), &[], Span::default()).unwrap();
    let mut sum = None;
    for i in 0..n {
        let (a, b) = (element(&mut c, x, i), element(&mut c, z, i));
        let p = c.push(TensorOp::Mul, &[a, b], Span::default()).unwrap();
        sum = Some(match sum {
            None => p,
            Some(s) => c.push(TensorOp::Add, &[s, p], Span::default()).unwrap(),
        });
    }
    finish(c, sum.unwrap())
}

fn size(small: usize, full: usize) -> usize {
    if cfg!(debug_assertions) { small } else { full }
}

#[test]
fn a_long_product_is_balanced_and_its_chain_measured() {
    let n = size(2048, 32768);
    let c = product(n);
    let r = &c.report;
    assert_eq!(r.measures.depth, u64::from(n.ilog2()));
    assert_eq!(r.measures.levels, u64::from(n.ilog2()));
    assert_eq!(r.unoptimized.unwrap().depth, n as u64 - 1);
    assert_eq!(r.unoptimized.unwrap().levels, n as u64 - 1);
    assert_eq!(r.depth_lower_bound, u64::from(n.ilog2()));
    assert!(c.program.is_some());
}

#[test]
fn a_long_sum_of_products_is_relinearized_once() {
    let n = size(2048, 65536);
    let c = products(n);
    let r = &c.report;
    assert_eq!((r.measures.depth, r.measures.levels), (1, 1));
    assert_eq!(r.measures.ops.relinearize, 1);
    assert_eq!(r.measures.ops.rescale, 1);
    assert!(c.program.is_some());
}
