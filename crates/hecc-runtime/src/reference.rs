//! The program as written, in the clear: what a run is compared with.

use hecc_ir::graph::Interval;
use hecc_ir::interp::{RangeViolation, TensorValue, check_ranges};
use hecc_ir::program::Program;
use hecc_ir::span::Span;
use rayon::prelude::*;

use crate::bind::{Bindings, Tensor64, place};
use crate::error::RuntimeError;
use crate::pack::Unpacked;

/// How far a value may exceed its declared range, relative to the range: rounding alone.
const SLACK: f64 = 1e-9;

/// The results in the clear.
#[derive(Clone, Debug)]
pub struct Reference {
    /// By result, as a run gives them.
    pub outputs: Vec<Unpacked>,
    /// Values outside the ranges that the program declares, the first instance's first.
    pub faults: Vec<RangeFault>,
}

/// A value outside the range that the program declares for it.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeFault {
    /// Where it stands.
    pub span: Span,
    /// Which instance, in a batch.
    pub instance: Option<usize>,
    /// Which element, as `[i, j]`; empty when it is unknown or a scalar.
    pub element: String,
    /// Its value.
    pub value: f64,
    /// The declared range.
    pub range: Interval,
}

/// Evaluates the program as written and checks every declared range.
///
/// # Errors
/// [`RuntimeError::Reference`] when the program has no value on these inputs.
pub fn reference(program: &Program, bindings: &Bindings) -> Result<Reference, RuntimeError> {
    let runs: Result<Vec<_>, RuntimeError> = (0..bindings.count())
        .into_par_iter()
        .map(|i| {
            let inputs: Result<Vec<TensorValue<f64>>, RuntimeError> = program
                .params
                .iter()
                .enumerate()
                .map(|(p, param)| {
                    bindings
                        .instance(p, i)
                        .and_then(|v| TensorValue::new(param.shape.clone(), v.to_vec()))
                        .ok_or_else(|| {
                            RuntimeError::Mismatch(format!("no value for `{}`", param.name))
                        })
                })
                .collect();
            check_ranges(&program.reference, &inputs?, SLACK).map_err(RuntimeError::Reference)
        })
        .collect();
    let runs = runs?;
    let decls = &program.reference.entry().outputs;
    let outputs = decls
        .iter()
        .enumerate()
        .map(|(o, (_, decl))| {
            let one = runs
                .first()
                .map_or(&[][..], |(outputs, _)| outputs[o].shape());
            Unpacked {
                name: decl.name.clone(),
                value: Tensor64 {
                    shape: bindings
                        .instances()
                        .into_iter()
                        .chain(one.iter().copied())
                        .collect(),
                    data: runs
                        .iter()
                        .flat_map(|(outputs, _)| outputs[o].data().iter().copied())
                        .collect(),
                },
            }
        })
        .collect();
    let faults = runs
        .iter()
        .enumerate()
        .flat_map(|(i, (_, violations))| {
            violations
                .iter()
                .map(move |v| fault(program, v, bindings.instances().map(|_| i)))
        })
        .collect();
    Ok(Reference { outputs, faults })
}

fn fault(program: &Program, v: &RangeViolation, instance: Option<usize>) -> RangeFault {
    let shape = v.node.map_or(&[][..], |node| {
        program.reference.circuit(v.circuit).graph.ty(node).shape()
    });
    RangeFault {
        span: v.span,
        instance,
        element: place(shape, v.element),
        value: v.value,
        range: v.range,
    }
}

/// Largest absolute difference between two lists of results; infinite when they do not match in
/// shape or a value is NaN.
pub fn max_abs_error(left: &[Unpacked], right: &[Unpacked]) -> f64 {
    if left.len() != right.len() {
        return f64::INFINITY;
    }
    let mut worst = 0.0f64;
    for (a, b) in left.iter().zip(right) {
        if a.name != b.name || a.value.shape != b.value.shape {
            return f64::INFINITY;
        }
        for (x, y) in a.value.data.iter().zip(&b.value.data) {
            let d = (x - y).abs();
            worst = worst.max(if d.is_nan() { f64::INFINITY } else { d });
        }
    }
    worst
}
