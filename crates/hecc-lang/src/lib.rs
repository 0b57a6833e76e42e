//! The .hec language: parser, checker, compile-time evaluation, formatter

pub mod approx;
pub mod ast;
mod check;
mod format;
mod fs;
mod lexer;
pub mod load;
mod parser;
mod suggest;

pub use check::{Checked, Failure, Limits, has_meaning, load_program};
pub use format::format;
pub use fs::FileSystem;
pub use lexer::MAX_SOURCE_BYTES;
pub use parser::{MAX_ERRORS, decode, parse};
