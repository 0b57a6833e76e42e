//! The circuit graph: dialects, verifier, text form, interpreter and measures.

pub mod diag;
pub mod span;
