//! The `.safetensors` file of a program's weights.

use std::collections::HashSet;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::ImportError;
use super::tensor::{Array, Kind};

/// Arrays under names, written in one file.
#[derive(Default)]
pub(super) struct Weights {
    arrays: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    taken: HashSet<String>,
    pub(super) elements: usize,
}

impl Weights {
    /// Adds an array, and returns the key that it is loaded by: its name in the model where that can
    /// stand between quotes.
    pub(super) fn add(&mut self, name: &str, constant: &str, array: &Array) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/:".contains(c);
        let fits = (1..=128).contains(&name.len()) && name.chars().all(plain);
        let mut key = if fits && name != "__metadata__" {
            name.to_owned()
        } else {
            constant.to_ascii_lowercase()
        };
        while !self.taken.insert(key.clone()) {
            key.push('_');
        }
        self.elements += array.values.len();
        let (dtype, bytes) = match array.kind {
            Kind::Single => (
                Dtype::F32,
                array
                    .values
                    .iter()
                    .flat_map(|&v| (v as f32).to_le_bytes())
                    .collect(),
            ),
            Kind::Double | Kind::Whole => (
                Dtype::F64,
                array.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
        };
        self.arrays
            .push((key.clone(), dtype, array.shape.clone(), bytes));
        key
    }

    /// The file; none when there is nothing in it.
    pub(super) fn to_bytes(&self) -> Result<Option<Vec<u8>>, ImportError> {
        if self.arrays.is_empty() {
            return Ok(None);
        }
        let failed = |e: safetensors::SafeTensorError| {
            ImportError::Model(format!("the weights cannot be written: {e}"))
        };
        let views = self
            .arrays
            .iter()
            .map(|(key, dtype, shape, bytes)| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (key.as_str(), view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        serialize(views, None).map(Some).map_err(failed)
    }
}
