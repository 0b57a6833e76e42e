//! Programs of other formats as `.hec` text: [`onnx`].
//!
//! Bytes in, text and bytes out: no file is opened here. What is read may be hostile: sizes are checked
//! before anything is reserved by them, and no content panics. What comes out has been checked by
//! `hecc-lang`, and is in the canonical form of its formatter.

pub mod onnx;
