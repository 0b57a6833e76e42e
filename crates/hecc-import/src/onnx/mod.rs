//! ONNX models as `.hec` programs with their weights in a `.safetensors` file.
//!
//! [`proto`] is the format; each node becomes one statement. The axis of instances, the first of the inputs where its extent is symbolic or 1, is no axis of
//! the program: a circuit is about one instance, and `@batch` computes many.
//!
//! Operators: <https://onnx.ai/onnx/operators/>; format: <https://onnx.ai/onnx/repo-docs/IR.html>.

mod names;
pub mod proto;
mod tensor;
mod translate;
mod weights;

use std::fmt;
use std::path::PathBuf;

use hecc_lang::load::MemoryFiles;
use thiserror::Error;

/// Most bytes of a model.
pub const MAX_BYTES: usize = 512 << 20;

/// What ONNX does not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The circuit's name; made from `file` when there is none.
    pub name: Option<String>,
    /// Instances computed at once, as `@batch(N)`.
    pub batch: Option<u32>,
    /// Ranges of inputs, values and results by their names in the model or in the program.
    pub ranges: Vec<(String, [f64; 2])>,
    /// Extents of symbolic dimensions by name.
    pub dims: Vec<(String, usize)>,
    /// Degree of the polynomials in the place of activations.
    pub degree: Option<u32>,
    /// The model's file name, for the head of the program.
    pub file: String,
    /// The name of the weights file as `load` shall say it, relative to the program.
    pub weights: String,
}

/// A model as a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The text of the `.hec` file, in canonical form.
    pub program: String,
    /// The bytes of the `.safetensors` file; none when nothing is loaded.
    pub weights: Option<Vec<u8>>,
    /// The circuit's name.
    pub circuit: String,
    /// Nodes of the model that the results depend on.
    pub nodes: usize,
    /// Elements of all weights.
    pub parameters: usize,
    /// What to know about the program, a sentence each.
    pub notes: Vec<String>,
}

/// Why a model was not imported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImportError {
    /// The bytes are no ONNX model, or a damaged one.
    #[error("no valid ONNX model: {0}")]
    Malformed(String),
    /// Larger than the limits.
    #[error("{what} {found}, more than the {most} allowed")]
    TooLarge {
        /// What is too large, with its verb.
        what: String,
        /// How large.
        found: String,
        /// The limit.
        most: usize,
    },
    /// A node that has no counterpart.
    #[error("{node}: {reason}; {help}")]
    Unsupported {
        /// The node.
        node: NodeName,
        /// What about it.
        reason: String,
        /// The way out.
        help: String,
    },
    /// The model as a whole, or what the options say about it.
    #[error("{0}")]
    Model(String),
    /// The program that was made does not check.
    #[error("the program that was made does not hold what the language demands:\n{0}")]
    Check(String),
}

/// A node as messages name it: operator and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The operator, with its domain where that is not ONNX's own.
    pub operator: String,
    /// The node's name, or that of its first result.
    pub name: String,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operator {} of node `{}`", self.operator, self.name)
    }
}

/// Turns the bytes of an `.onnx` file into a program and its weights.
///
/// # Errors
/// [`ImportError`], which names the first node without a counterpart and the way out.
pub fn import(model: &[u8], options: &Options) -> Result<Imported, ImportError> {
    let model = proto::decode(model)?;
    let mut imported = translate::translate(&model, options)?;
    imported.program = hecc_lang::format(&imported.program)
        .map_err(|found| ImportError::Check(messages(found.iter().map(|d| d.message.as_str()))))?;
    let program = PathBuf::from("imported.hec");
    let mut files = MemoryFiles::default();
    files
        .0
        .insert(program.clone(), imported.program.clone().into_bytes());
    if let Some(weights) = &imported.weights {
        files
            .0
            .insert(PathBuf::from(&options.weights), weights.clone());
    }
    match hecc_lang::load_program(&program, &files, hecc_lang::Limits::default()) {
        Ok(_) => Ok(imported),
        Err(failure) => Err(ImportError::Check(messages(
            failure.diagnostics.iter().map(|d| d.message.as_str()),
        ))),
    }
}

fn messages<'a>(found: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    found.take(SHOWN).collect::<Vec<_>>().join("\n")
}
