//! Passes over circuit graphs: optimisation, layout, scale and level management

pub mod layout;
pub mod pipeline;
pub mod scale;
pub mod tensor;
