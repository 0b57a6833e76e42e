//! Values of inputs as the command line gives them: JSON literals and files.

use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use hecc_ir::tensor::Param;
use hecc_lang::load::{Array, Format, Limits, LoadError, json_value, read};
use hecc_runtime::Tensor64;

use crate::idx;

/// Reads `NAME=VALUE`, VALUE being a JSON literal or `@FILE`.
///
/// A file of several arrays (.npz, .safetensors, a JSON object) is asked for the one that has the
/// input's name; `@FILE:KEY` asks for another. `@FILE[A..B]` takes rows A to B - 1, and `@FILE/N` divides
/// every element by N. IDX files are known by their first bytes; `.gz` is unpacked.
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
            Some(param)
                if value.starts_with('@') && value.to_ascii_lowercase().contains(".csv") =>
            {
                as_declared(tensor, param, batch)
            }
            // A slice of one row of a file; a literal has to have the declared shape.
            Some(param) if batch.is_none() && sliced(value) && is_one_of(&tensor, param) => {
                Tensor64 {
                    shape: param.shape.to_vec(),
                    ..tensor
                }
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

fn file(name: &str, text: &str) -> Result<Tensor64, String> {
    let source = Source::parse(text, |path| Path::new(path).exists())
        .map_err(|e| format!("--input {name}=@{text}: {e}"))?;
    source
        .read(Some(name))
        .map_err(|e| format!("--input {name}=@{}: {e}", source.path))
}

/// Reads the labels of instances: whole numbers, one each.
///
/// # Errors
/// A sentence that names the file.
pub fn labels(text: &str) -> Result<Vec<usize>, String> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let failed = |e: String| format!("--labels {text}: {e}");
    let source = Source::parse(text, |path| Path::new(path).exists()).map_err(failed)?;
    let tensor = source.read(None).map_err(failed)?;
    if tensor.shape.len() > 1 && tensor.shape.iter().filter(|n| **n > 1).count() > 1 {
        return Err(failed(format!(
            "it has shape {:?}: give one label an instance",
            tensor.shape
        )));
    }
    tensor
        .data
        .iter()
        .map(|&v| {
            if v >= 0.0 && v.fract() == 0.0 && v < MOST_CLASSES {
                Ok(v as usize)
            } else {
                Err(failed(format!("{v} is no label: labels are 0, 1, 2, …")))
            }
        })
        .collect()
}

/// Labels are below this.
const MOST_CLASSES: f64 = 65536.0;

/// A file, and what of it is wanted: `PATH[:KEY][[A..B]][/NUMBER]`.
#[derive(Debug, PartialEq)]
struct Source<'a> {
    path: &'a str,
    /// Which array of several.
    key: Option<&'a str>,
    /// Which rows; to the end where there is no second number.
    rows: Option<(usize, Option<usize>)>,
    /// By what every element is divided.
    divisor: f64,
}

impl<'a> Source<'a> {
    /// Takes `:KEY`, a slice and a divisor off the end of a path, unless the path exists as it is.
    fn parse(text: &'a str, exists: impl Fn(&str) -> bool) -> Result<Source<'a>, String> {
        let mut source = Source {
            path: text,
            key: None,
            rows: None,
            divisor: 1.0,
        };
        if exists(text) {
            return Ok(source);
        }
        if let Some((rest, number)) = source.path.rsplit_once('/')
            && let Ok(divisor) = number.parse::<f64>()
        {
            if !(divisor.is_normal()) {
                return Err(format!("every element is to be divided by {number}"));
            }
            source.divisor = divisor;
            source.path = rest;
        }
        if let Some((rest, slice)) = source
            .path
            .strip_suffix(']')
            .and_then(|t| t.rsplit_once('['))
        {
            let bound = |t: &str| {
                t.trim().parse::<usize>().map_err(|_| {
                    format!("[{slice}] is no slice: write [0..100], [100..] or [..100]")
                })
            };
            let (from, to) = slice
                .split_once("..")
                .ok_or_else(|| format!("[{slice}] is no slice: write [0..100]"))?;
            let first = if from.trim().is_empty() {
                0
            } else {
                bound(from)?
            };
            let end = if to.trim().is_empty() {
                None
            } else {
                Some(bound(to)?)
            };
            if end.is_some_and(|end| end <= first) {
                return Err(format!("the slice [{slice}] is empty"));
            }
            source.rows = Some((first, end));
            source.path = rest;
        }
        if !exists(source.path)
            && let Some((file, key)) = source.path.rsplit_once(':')
            && !key.is_empty()
        {
            source.key = Some(key);
            source.path = file;
        }
        Ok(source)
    }

    fn range(&self, count: usize) -> Result<Range<usize>, String> {
        let (first, end) = self.rows.unwrap_or((0, None));
        let end = end.unwrap_or(count);
        if end > count || first >= end {
            return Err(format!(
                "there are {count} rows, and [{first}..{end}] of them are asked for"
            ));
        }
        Ok(first..end)
    }

    /// The array; of several, that of `key`, or else that called `default`.
    fn read(&self, default: Option<&str>) -> Result<Tensor64, String> {
        let mut bytes = fs::read(self.path).map_err(|e| format!("cannot read it: {e}"))?;
        let limits = Limits::default();
        let mut path = Path::new(self.path);
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
        {
            let mut unpacked = Vec::new();
            let most = limits.bytes as u64;
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .take(most + 1)
                .read_to_end(&mut unpacked)
                .map_err(|e| format!("cannot unpack it: {e}"))?;
            if unpacked.len() > limits.bytes {
                return Err(format!("it unpacks to more than {most} bytes"));
            }
            bytes = unpacked;
            path = Path::new(path.file_stem().unwrap_or_default());
        }
        let mut tensor = match Format::of_path(path) {
            Some(format) => {
                let array = match read(format, &bytes, self.key, &limits) {
                    // Several arrays: the one of that name.
                    Err(several @ LoadError::KeyNeeded(_)) => {
                        read(format, &bytes, default, &limits).map_err(|_| several)
                    }
                    other => other,
                };
                self.slice(tensor(array.map_err(|e| e.to_string())?))?
            }
            None if idx::is_idx(&bytes) => {
                if let Some(key) = self.key {
                    return Err(format!("an IDX file holds one array: leave out `:{key}`"));
                }
                idx::read(&bytes, |count| self.range(count))?
            }
            None => {
                return Err(
                    "the extension is unknown: use .json, .csv, .npy, .npz, .safetensors or IDX, or one of them as .gz".to_owned(),
                );
            }
        };
        if self.divisor != 1.0 {
            for v in &mut tensor.data {
                *v /= self.divisor;
            }
        }
        Ok(tensor)
    }

    fn slice(&self, tensor: Tensor64) -> Result<Tensor64, String> {
        if self.rows.is_none() {
            return Ok(tensor);
        }
        let Some(&count) = tensor.shape.first() else {
            return Err("it holds one number, of which there is no slice".to_owned());
        };
        let rows = self.range(count)?;
        let row = tensor.data.len() / count.max(1);
        let mut shape = tensor.shape;
        shape[0] = rows.len();
        Ok(Tensor64 {
            shape,
            data: tensor.data[rows.start * row..rows.end * row].to_vec(),
        })
    }
}

fn tensor(array: Array) -> Tensor64 {
    Tensor64 {
        shape: array.shape,
        data: array.values,
    }
}

/// Whether a value is written as rows of a file, `@FILE[A..B]`.
fn sliced(value: &str) -> bool {
    value.starts_with('@') && value.contains("..") && value.contains(']')
}

/// Whether the shape is the declared one with one more axis, of extent 1.
fn is_one_of(value: &Tensor64, param: &Param) -> bool {
    matches!(value.shape.split_first(), Some((1, rest)) if rest == param.shape.as_slice())
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

    #[test]
    fn files_with_slices_and_divisors() {
        let no = |_: &str| false;
        let parsed = |text| Source::parse(text, no).unwrap();
        let s = parsed("a/t10k-idx3-ubyte.gz[0..8192]/256");
        assert_eq!(s.path, "a/t10k-idx3-ubyte.gz");
        assert_eq!((s.rows, s.divisor), (Some((0, Some(8192))), 256.0));
        let s = parsed("w.npz:x[5..]");
        assert_eq!(
            (s.path, s.key, s.rows),
            ("w.npz", Some("x"), Some((5, None)))
        );
        assert_eq!(parsed("a/b.npy").path, "a/b.npy");
        assert_eq!(Source::parse("a/7", |p| p == "a/7").unwrap().divisor, 1.0);
        for bad in ["x.npy[3..3]", "x.npy[a..b]", "x.npy[3]", "x.npy/0"] {
            assert!(Source::parse(bad, no).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_of_a_compressed_file() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv.gz");
        let out = fs::File::create(&path).unwrap();
        let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        out.write_all(b"1,2\n3,4\n5,6\n").unwrap();
        out.finish().unwrap();
        let read = |suffix: &str| file("x", &format!("{}{suffix}", path.display()));
        let found = read("[1..3]/2").unwrap();
        assert_eq!(
            (found.shape, found.data),
            (vec![2, 2], vec![1.5, 2.0, 2.5, 3.0])
        );
        assert!(read("[1..4]").unwrap_err().contains("3 rows"));
        assert_eq!(
            labels(&format!("{}[0..1]", path.display())).unwrap(),
            [1, 2]
        );
        assert!(
            labels(&format!("{}", path.display()))
                .unwrap_err()
                .contains("one label")
        );
    }
}
