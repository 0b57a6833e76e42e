//! Values of inputs as the command line gives them: JSON literals and files.

use std::fs;
use std::path::Path;

use hecc_ir::tensor::Param;
use hecc_lang::load::{Array, Format, Limits, LoadError, json_value, read};
use hecc_runtime::Tensor64;

/// Reads `NAME=VALUE`, VALUE being a JSON literal or `@FILE`.
///
/// A file of several arrays (.npz, .safetensors, a JSON object) is asked for the one that has the
/// input's name; `@FILE:KEY` asks for another.
///
/// # Errors
/// A sentence that names the input and says what to write instead.
pub fn input(
    text: &str,
    params: &[Param],
    batch: Option<u32>,
) -> Result<(String, Tensor64), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!(
            "--input {text}: write NAME=VALUE, as in x=0.5, 'x=[1, 2]' or x=@x.npy"
        ));
    };
    let name = name.trim();
    let tensor = match value.strip_prefix('@') {
        Some(path) => file(name, path)?,
        None => literal(name, value)?,
    };
    let param = params.iter().find(|p| p.name == name);
    Ok((
        name.to_owned(),
        match param {
            Some(param) if value.starts_with('@') && is_csv(value) => {
                as_declared(tensor, param, batch)
            }
            _ => tensor,
        },
    ))
}

/// Nested lists of numbers.
///
/// # Errors
/// A sentence that names the input.
pub fn literal(name: &str, text: &str) -> Result<Tensor64, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| {
        let hint = if Path::new(text).extension().is_some() {
            format!("; to read a file, write {name}=@{text}")
        } else {
            String::new()
        };
        format!(
            "--input {name}: {} is no JSON literal ({e}){hint}",
            shortened(text)
        )
    })?;
    json_value(&value, &Limits::default())
        .map(tensor)
        .map_err(|e| format!("--input {name}: {e}"))
}

fn file(name: &str, path: &str) -> Result<Tensor64, String> {
    let (path, key) = match path.rsplit_once(':') {
        Some((file, key)) if !key.is_empty() && !Path::new(path).exists() => (file, Some(key)),
        _ => (path, None),
    };
    let failed = |why: &dyn std::fmt::Display| format!("--input {name}=@{path}: {why}");
    let format = Format::of_path(Path::new(path)).ok_or_else(|| {
        failed(&"the extension is unknown: use .json, .csv, .npy, .npz or .safetensors")
    })?;
    let bytes = fs::read(path).map_err(|e| failed(&format!("cannot read it: {e}")))?;
    let limits = Limits::default();
    let array = match read(format, &bytes, key, &limits) {
        // Several arrays: the one of that name.
        Err(several @ LoadError::KeyNeeded(_)) => {
            read(format, &bytes, Some(name), &limits).map_err(|_| several)
        }
        other => other,
    };
    array.map(tensor).map_err(|e| failed(&e))
}

fn tensor(array: Array) -> Tensor64 {
    Tensor64 {
        shape: array.shape,
        data: array.values,
    }
}

fn is_csv(value: &str) -> bool {
    value.to_ascii_lowercase().ends_with(".csv")
}

/// A .csv knows rows and columns only: one row or column may stand for a matrix of that shape, and
/// rows for tensors.
fn as_declared(value: Tensor64, param: &Param, batch: Option<u32>) -> Tensor64 {
    let declared = param.shape.as_slice();
    let size: usize = declared.iter().product();
    if value.shape == declared {
        return value;
    }
    let rows = value.shape.first().copied().unwrap_or(1);
    let shape = if value.data.len() == size {
        declared.to_vec()
    } else if batch.is_some() && rows.checked_mul(size) == Some(value.data.len()) {
        std::iter::once(rows)
            .chain(declared.iter().copied())
            .collect()
    } else {
        value.shape
    };
    Tensor64 {
        shape,
        data: value.data,
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return format!("`{text}`");
    }
    let start: String = text.chars().take(MOST).collect();
    format!("`{start}…`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal("x", "0.5").unwrap().shape, [0; 0]);
        let m = literal("x", "[[1, 2, 3], [4, 5, 6]]").unwrap();
        assert_eq!(m.shape, [2, 3]);
        assert_eq!(m.data[4], 5.0);
        for bad in ["", "x.npy", "[1, [2]]", "[1, \"a\"]", "NaN", "{", "1e999"] {
            let why = literal("x", bad).unwrap_err();
            assert!(why.starts_with("--input x: "), "{why}");
        }
        assert!(literal("x", "x.npy").unwrap_err().contains("x=@x.npy"));
    }
}
