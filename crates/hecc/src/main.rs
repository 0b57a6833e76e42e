//! The hecc command line.
fn main() {}
