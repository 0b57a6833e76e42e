//! The `hecc` binary as a library: arguments, files, rendering, progress and exit codes.
//!
//! Only [`main`] is meant for use; [`container`] and [`values`] are public for fuzz targets.

mod args;
mod calibrate;
mod classify;
mod commands;
pub mod container;
mod diagnostics;
mod exit;
mod idx;
mod output;
mod plot;
mod point;
mod progress;
mod project;
pub mod values;

pub use exit::main;
