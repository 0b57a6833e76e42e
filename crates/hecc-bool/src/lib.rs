//! Boolean circuits over GF(2), where XOR is free and the depth counts ANDs: for research on depth.
//!
//! [`formats`] reads and writes EQN, BLIF and AIGER; [`Network`] is the circuit; [`Anf`] the exact
//! polynomial of a cone; [`optimize`] rebuilds circuits at less depth, and [`analyse`] says what is
//! known about the least: a function of degree d has no circuit of AND-depth below ⌈log2 d⌉.
//!
//! Nothing here knows of ciphertexts, files or the other crates. Input may be hostile: sizes are
//! checked before anything is reserved by them, and no content panics.

mod analyse;
mod anf;
mod balance;
pub mod formats;
mod network;
mod optimize;
mod resynthesize;
mod simulate;
mod synthesize;

pub use analyse::{Analysis, OutputAnalysis, analyse};
pub use anf::{Anf, MAX_VARIABLES};
pub use network::{Lit, Measures, Network, Node};
pub use optimize::{Optimized, optimize};
pub use simulate::{differ, table};
