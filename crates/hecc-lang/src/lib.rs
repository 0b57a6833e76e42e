//! The .hec language: parser, checker, compile-time evaluation, formatter

pub mod ast;
