//! Passes over circuit graphs: optimisation, layout, scale and level management

pub mod pipeline;
pub mod tensor;
