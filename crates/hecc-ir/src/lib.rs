//! The circuit graph: dialects, verifier, text form, interpreter and measures.
//!
//! Three dialects share one graph: [`tensor::Tensor`] (what a program says), [`slots::Slots`]
//! (layout chosen) and [`ckks::Ckks`] (levels, scales and degrees chosen).

pub mod algebra;
pub mod ckks;
pub mod degree;
pub mod diag;
pub mod dot;
pub mod graph;
pub mod interp;
pub mod measure;
pub mod program;
pub mod random;
pub mod secrecy;
pub mod slots;
pub mod span;
pub mod svg;
pub mod tensor;
pub mod text;
pub mod vectors;
pub mod verify;
