//! From syntax trees to the tensor graph: files, names, types, shapes, secrecy, compile-time evaluation.
//!
//! One walk does it all: expressions are evaluated to a [`value::Value`], which is either known at
//! compile time or a node of the circuit under construction. Functions are inlined by walking their
//! bodies with the arguments bound. What can be told without values (names, recursion, unused
//! bindings) is told beforehand, also of code that is never reached, by [`resolve`].
//!
//! Invariants: nothing here reads a file but through [`FileSystem`]; all work is bounded by
//! [`Limits`]; an error is reported once, and what depends on it keeps silent.

mod attributes;
mod builtins;
mod expr;
mod frames;
mod program;
mod resolve;
mod stmt;
mod value;

use std::path::Path;

use hecc_ir::diag::{Diagnostic, Severity};
use hecc_ir::graph::Module;
use hecc_ir::span::{SourceMap, Span};
use hecc_ir::tensor::Tensor;

use crate::fs::FileSystem;
use crate::lexer::KEYWORDS;

/// Bounds on the work of the checker. Passing one is an error that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most elements of one tensor.
    pub elements: usize,
    /// Most nodes of one circuit, loop bodies counted once.
    pub nodes: usize,
    /// Most iterations of one loop or comprehension.
    pub trips: u64,
    /// Most work while compiling: expressions and statements evaluated, and elements of compile-time
    /// tensors touched, eight of them a step.
    pub steps: u64,
    /// How deep calls, blocks and expressions may nest while they are evaluated.
    pub nesting: usize,
    /// Most files that `use` may bring in.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            elements: 1 << 26,
            nodes: 4_000_000,
            trips: 1 << 24,
            steps: 50_000_000,
            nesting: 4096,
            files: 1000,
        }
    }
}

/// A program that holds what the language demands.
#[derive(Clone, Debug)]
pub struct Checked {
    /// One module per circuit of the main file, in source order; the circuit's name is `module.entry().name`.
    pub circuits: Vec<Module<Tensor>>,
    /// All files that were read.
    pub sources: SourceMap,
    /// Warnings and notes, in source order.
    pub warnings: Vec<Diagnostic>,
}

/// Why there is no program.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Everything that was found, at least one error.
    pub diagnostics: Vec<Diagnostic>,
    /// All files that were read.
    pub sources: SourceMap,
}

/// Reads, parses and checks a program, and lowers each circuit of its main file to the tensor graph.
///
/// # Errors
/// [`Failure`] with every error that was found; codes E0xxx are of syntax, E1xxx of names, shapes and
/// secrecy, E2xxx of compile-time evaluation, files and limits.
pub fn load_program(path: &Path, fs: &dyn FileSystem, limits: Limits) -> Result<Checked, Failure> {
    let mut sources = SourceMap::default();
    let mut diagnostics = Vec::new();
    let units = program::read(path, fs, &limits, &mut sources, &mut diagnostics);
    let failed = |d: &[Diagnostic]| d.iter().any(|d| d.severity == Severity::Error);
    let mut circuits = Vec::new();
    if !failed(&diagnostics) {
        // Evaluation recurses with the program's nesting, which `Limits::nesting` bounds; a frame
        // takes a few kilobytes at most.
        let stack = (limits.nesting.min(1 << 16) + 64) * (64 << 10);
        let (found, said) = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("check".to_owned())
                .stack_size(stack)
                .spawn_scoped(scope, || check(&units, fs, limits))
                .map(|handle| match handle.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
        .unwrap_or_else(|error| {
            let message = format!("cannot start the checker: {error}");
            let error = Diagnostic::error("E2016", Span::default(), message, "")
                .with_help("free some memory, or lower the limit on nesting");
            (Vec::new(), vec![error])
        });
        circuits = found;
        diagnostics.extend(said);
    }
    let mut seen = rustc_hash::FxHashSet::default();
    diagnostics.retain(|d| seen.insert((d.code, d.primary.span, d.message.clone())));
    diagnostics.sort_by_key(|d| {
        (
            d.primary.span.file,
            d.primary.span.start,
            d.primary.span.end,
        )
    });
    if failed(&diagnostics) {
        // A warning may well be the echo of an error.
        diagnostics.retain(|d| d.severity == Severity::Error);
        return Err(Failure {
            diagnostics,
            sources,
        });
    }
    Ok(Checked {
        circuits,
        sources,
        warnings: diagnostics,
    })
}

/// Whether a word means something by itself: a keyword, or the name of a built-in function. Others are
/// free to be names.
pub fn has_meaning(word: &str) -> bool {
    KEYWORDS.iter().any(|(keyword, _)| *keyword == word) || builtins::is_builtin(word)
}

fn check(
    units: &[program::Unit],
    fs: &dyn FileSystem,
    limits: Limits,
) -> (Vec<Module<Tensor>>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let names = program::Names::of(units, &mut diagnostics);
    let facts = resolve::resolve(units, &names, &mut diagnostics);
    if diagnostics.iter().any(|d| d.code == "E1003") {
        // Which of two definitions is meant is anybody's guess.
        return (Vec::new(), diagnostics);
    }
    let mut checker = expr::Checker::new(units, &names, &facts, fs, limits);
    let circuits = checker.run();
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.append(&mut checker.warnings);
    (circuits, diagnostics)
}
