//! Passes over circuit graphs: optimisation, layout, scale and level management, and the whole of
//! [`compile`](compile::compile).

mod candidates;
pub mod compile;
pub mod layout;
pub mod pipeline;
mod precompute;
pub mod scale;
pub mod tensor;

pub use compile::{CompileOptions, Compiled, Report, Stage, compile, compile_observed};
