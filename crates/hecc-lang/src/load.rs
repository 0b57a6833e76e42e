//! Arrays from files: `.npy`, `.npz`, `.csv`, `.json` and `.safetensors`, from bytes to numbers.
//!
//! Nothing here touches a disk: whoever calls brings a [`FileSystem`]. Files may be hostile: memory is
//! bounded by [`Limits`] and by the bytes given, and no content panics.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

use crate::fs::FileSystem;

/// Most dimensions of an array.
pub const MAX_RANK: usize = 32;

/// Files in memory, for tests and for text that never was a file.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub BTreeMap<PathBuf, Vec<u8>>);

impl FileSystem for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

/// How much may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a file, and of an array unpacked from one.
    pub bytes: usize,
    /// Most elements of an array.
    pub elements: usize,
}

impl Default for Limits {
    /// 512 MiB and 2^25 elements.
    fn default() -> Limits {
        Limits {
            bytes: 512 << 20,
            elements: 1 << 25,
        }
    }
}

/// A dense array of finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes, outermost first; empty for a scalar. None is zero.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One numpy array.
    Npy,
    /// A zip archive of numpy arrays.
    Npz,
    /// Rows of numbers separated by commas.
    Csv,
    /// Nested lists of numbers.
    Json,
    /// Named tensors.
    Safetensors,
}

impl Format {
    /// The format by a path's extension, in any case.
    pub fn of_path(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "npy" => Format::Npy,
            "npz" => Format::Npz,
            "csv" => Format::Csv,
            "json" => Format::Json,
            "safetensors" => Format::Safetensors,
            _ => return None,
        })
    }
}

/// Why an array could not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file system said no.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// Unknown extension.
    #[error("the extension of {0} is unknown: use .npy, .npz, .csv, .json or .safetensors")]
    UnknownFormat(String),
    /// Too much.
    #[error("the {what} has {found}, more than the {most} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: String,
        /// The limit.
        most: usize,
    },
    /// Not what the extension says, or damaged.
    #[error("not a valid {format} file: {reason}")]
    Malformed {
        /// The expected format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Elements that are no real numbers.
    #[error("the elements have type {0}: store real numbers, integers or booleans")]
    ElementType(String),
    /// A name is needed to choose among several arrays.
    #[error("the file holds several arrays; choose one by name: {}", list(.0))]
    KeyNeeded(Vec<String>),
    /// No array of that name.
    #[error("there is no array {key:?} in the file; it holds {}", list(.known))]
    UnknownKey {
        /// The name that was asked for.
        key: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// The format has no names.
    #[error("this file format holds one array without a name: leave out {0:?}")]
    KeyNotTaken(String),
    /// Rows of different length.
    #[error("{place} has {found} elements where the first has {wanted}")]
    Ragged {
        /// Which row or list, as people count.
        place: String,
        /// Its length.
        found: usize,
        /// The length of the first.
        wanted: usize,
    },
    /// Something that is no number.
    #[error("{place} is {found}, not a number")]
    NotANumber {
        /// Where.
        place: String,
        /// What is there.
        found: String,
    },
    /// NaN or infinite.
    #[error("{place} is {value}: only finite numbers can be used")]
    NotFinite {
        /// Where.
        place: String,
        /// The value.
        value: f64,
    },
    /// No elements.
    #[error("the array is empty")]
    Empty,
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("{n:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.is_empty() {
        text = "nothing".to_owned();
    }
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

fn malformed(format: &'static str, reason: impl ToString) -> LoadError {
    LoadError::Malformed {
        format,
        reason: reason.to_string(),
    }
}

/// Reads the array `key` of the file at `path`; the extension decides the format.
///
/// # Errors
/// When the file cannot be read or does not hold what is asked for.
pub fn load(
    files: &dyn FileSystem,
    path: &Path,
    key: Option<&str>,
    limits: &Limits,
) -> Result<Array, LoadError> {
    let format = Format::of_path(path)
        .ok_or_else(|| LoadError::UnknownFormat(path.display().to_string()))?;
    read(format, &files.read(path)?, key, limits)
}

/// Reads the array `key` from the bytes of a file.
///
/// `key` chooses an array of `.npz` and `.safetensors`, or a member of a JSON object; it may be left
/// out when there is only one. A `.csv` of one row or one column is a vector, as numpy reads it.
///
/// # Errors
/// When the bytes do not hold what is asked for, or more than `limits` allows.
pub fn read(
    format: Format,
    bytes: &[u8],
    key: Option<&str>,
    limits: &Limits,
) -> Result<Array, LoadError> {
    check_bytes(bytes.len(), limits)?;
    let array = match format {
        Format::Npy => {
            no_key(key)?;
            npy(bytes, limits)?
        }
        Format::Npz => npz(bytes, key, limits)?,
        Format::Csv => {
            no_key(key)?;
            csv(bytes, limits)?
        }
        Format::Json => json(bytes, key, limits)?,
        Format::Safetensors => safetensors(bytes, key, limits)?,
    };
    match array.values.iter().position(|v| !v.is_finite()) {
        None => Ok(array),
        Some(at) => Err(LoadError::NotFinite {
            place: format!("element {:?}", unravel(at, &array.shape)),
            value: array.values[at],
        }),
    }
}

fn check_bytes(found: usize, limits: &Limits) -> Result<(), LoadError> {
    if found > limits.bytes {
        return Err(LoadError::TooLarge {
            what: "file",
            found: format!("{found} bytes"),
            most: limits.bytes,
        });
    }
    Ok(())
}

fn no_key(key: Option<&str>) -> Result<(), LoadError> {
    match key {
        None => Ok(()),
        Some(key) => Err(LoadError::KeyNotTaken(key.to_owned())),
    }
}

/// The number of elements of a shape, when it is neither none nor too many.
fn count(shape: &[usize], limits: &Limits) -> Result<usize, LoadError> {
    if shape.len() > MAX_RANK {
        return Err(LoadError::TooLarge {
            what: "array",
            found: format!("{} dimensions", shape.len()),
            most: MAX_RANK,
        });
    }
    if shape.contains(&0) {
        return Err(LoadError::Empty);
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= limits.elements);
    elements.ok_or_else(|| LoadError::TooLarge {
        what: "array",
        found: format!("shape {shape:?}"),
        most: limits.elements,
    })
}

fn unravel(at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    let mut rest = at;
    for (i, &d) in shape.iter().enumerate().rev() {
        index[i] = rest % d.max(1);
        rest /= d.max(1);
    }
    index
}

/// How one element is stored.
#[derive(Clone, Copy)]
enum Element {
    Bool,
    Int(usize),
    Uint(usize),
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Element::Bool => 1,
            Element::Int(n) | Element::Uint(n) => n,
            Element::F16 | Element::Bf16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    /// The value of `bytes`, least significant first, at most 8 of them.
    fn value(self, bytes: &[u8]) -> f64 {
        let bits = bytes
            .iter()
            .rev()
            .fold(0u64, |bits, &b| bits << 8 | u64::from(b));
        match self {
            Element::Bool => f64::from(bits != 0),
            Element::Uint(_) => bits as f64,
            Element::Int(n) => {
                let unused = 64 - 8 * n as u32;
                (((bits << unused) as i64) >> unused) as f64
            }
            Element::F16 => half(bits as u16),
            Element::Bf16 => f64::from(f32::from_bits((bits as u32) << 16)),
            Element::F32 => f64::from(f32::from_bits(bits as u32)),
            Element::F64 => f64::from_bits(bits),
        }
    }

    fn values(self, bytes: &[u8], big_endian: bool) -> Vec<f64> {
        let size = self.size();
        bytes
            .chunks_exact(size)
            .map(|chunk| {
                if big_endian {
                    let mut reversed = [0u8; 8];
                    for (to, from) in reversed.iter_mut().zip(chunk.iter().rev()) {
                        *to = *from;
                    }
                    self.value(&reversed[..size])
                } else {
                    self.value(chunk)
                }
            })
            .collect()
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1F);
    let fraction = f64::from(bits & 0x3FF);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

// .npy: the format is described in numpy's `numpy.lib.format`.

fn npy(bytes: &[u8], limits: &Limits) -> Result<Array, LoadError> {
    let bad = |reason: &str| malformed(".npy", reason);
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or_else(|| bad("it does not start as numpy arrays do"))?;
    let (version, rest) = rest
        .split_first_chunk::<2>()
        .ok_or_else(|| bad("it ends inside the header"))?;
    let (length, rest) = match version[0] {
        1 => {
            let (n, rest) = rest
                .split_first_chunk::<2>()
                .ok_or_else(|| bad("it ends inside the header"))?;
            (usize::from(u16::from_le_bytes(*n)), rest)
        }
        2 | 3 => {
            let (n, rest) = rest
                .split_first_chunk::<4>()
                .ok_or_else(|| bad("it ends inside the header"))?;
            (u32::from_le_bytes(*n) as usize, rest)
        }
        other => return Err(bad(&format!("version {other} is unknown"))),
    };
    if length > rest.len() {
        return Err(bad("it ends inside the header"));
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| bad("the header is not text"))?;
    let header = NpyHeader::parse(header).map_err(|reason| bad(&reason))?;
    let (element, big_endian) = npy_element(&header.descr)?;
    let elements = count(&header.shape, limits)?;
    let wanted = elements
        .checked_mul(element.size())
        .ok_or_else(|| bad("its size overflows"))?;
    if data.len() != wanted {
        return Err(bad(&format!(
            "shape {:?} of {} needs {wanted} bytes, and there are {}",
            header.shape,
            header.descr,
            data.len()
        )));
    }
    let stored = element.values(data, big_endian);
    let values = if header.fortran && header.shape.len() > 1 {
        from_fortran(&stored, &header.shape)
    } else {
        stored
    };
    Ok(Array {
        shape: header.shape,
        values,
    })
}

/// Row-major from column-major order.
fn from_fortran(stored: &[f64], shape: &[usize]) -> Vec<f64> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &d in shape {
        strides.push(stride);
        stride *= d;
    }
    let mut index = vec![0usize; shape.len()];
    let mut offset = 0;
    let mut values = Vec::with_capacity(stored.len());
    for _ in 0..stored.len() {
        values.push(stored[offset]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    values
}

fn npy_element(descr: &str) -> Result<(Element, bool), LoadError> {
    let unknown = || LoadError::ElementType(descr.to_owned());
    let mut chars = descr.chars();
    let first = chars.next().ok_or_else(unknown)?;
    let (big_endian, kind) = match first {
        '<' | '|' => (false, chars.as_str()),
        '>' => (true, chars.as_str()),
        '=' => (cfg!(target_endian = "big"), chars.as_str()),
        _ => (cfg!(target_endian = "big"), descr),
    };
    let element = match kind {
        "b1" | "?" => Element::Bool,
        "i1" => Element::Int(1),
        "i2" => Element::Int(2),
        "i4" => Element::Int(4),
        "i8" => Element::Int(8),
        "u1" => Element::Uint(1),
        "u2" => Element::Uint(2),
        "u4" => Element::Uint(4),
        "u8" => Element::Uint(8),
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        _ => return Err(unknown()),
    };
    Ok((element, big_endian))
}

/// The dictionary at the start of a `.npy` file, a Python literal.
struct NpyHeader {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl NpyHeader {
    fn parse(text: &str) -> Result<NpyHeader, String> {
        let mut scanner = Scanner(text);
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        scanner.expect('{')?;
        while !scanner.eat('}') {
            let key = scanner.string()?;
            scanner.expect(':')?;
            match key {
                "descr" if scanner.at('[') => {
                    return Err(
                        "it holds records: store a plain array of numbers instead".to_owned()
                    );
                }
                "descr" => descr = Some(scanner.string()?.to_owned()),
                "fortran_order" => fortran = Some(scanner.boolean()?),
                "shape" => shape = Some(scanner.shape()?),
                other => return Err(format!("its header has an unknown key {other:?}")),
            }
            if !scanner.eat(',') {
                scanner.expect('}')?;
                break;
            }
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(NpyHeader {
                descr,
                fortran,
                shape,
            }),
            _ => Err("its header lacks descr, fortran_order or shape".to_owned()),
        }
    }
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn at(&mut self, c: char) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let here = self.at(c);
        if here {
            self.0 = &self.0[c.len_utf8()..];
        }
        here
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(format!("its header lacks a {c:?}"))
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        for quote in ['\'', '"'] {
            if self.eat(quote) {
                let (text, rest) = self
                    .0
                    .split_once(quote)
                    .ok_or("its header has a text without end")?;
                self.0 = rest;
                return Ok(text);
            }
        }
        Err("its header lacks a text".to_owned())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.0 = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err("its header lacks True or False".to_owned())
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.eat(')') {
            self.0 = self.0.trim_start();
            let end = self
                .0
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.0.len());
            let (digits, rest) = self.0.split_at(end);
            // numpy 1 under Python 2 wrote long integers.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            shape.push(
                digits
                    .parse()
                    .map_err(|_| "its header has a bad shape".to_owned())?,
            );
            if shape.len() > MAX_RANK {
                return Err(format!("it has more than {MAX_RANK} dimensions"));
            }
            if !self.eat(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

// .npz

fn npz(bytes: &[u8], key: Option<&str>, limits: &Limits) -> Result<Array, LoadError> {
    let bad = |reason: &dyn std::fmt::Display| malformed(".npz", reason);
    let mut archive =
        npyz::npz::NpzArchive::new(io::Cursor::new(bytes)).map_err(|error| bad(&error))?;
    let mut names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    let name = choose(names, key)?;
    let file_name = npyz::npz::file_name_from_array_name(&name);
    let member = archive
        .zip_archive()
        .by_name(&file_name)
        .map_err(|error| bad(&error))?;
    let mut unpacked = Vec::new();
    member
        .take(limits.bytes as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| bad(&error))?;
    check_bytes(unpacked.len(), limits)?;
    npy(&unpacked, limits)
}

fn choose(names: Vec<String>, key: Option<&str>) -> Result<String, LoadError> {
    match key {
        Some(key) if names.iter().any(|n| n == key) => Ok(key.to_owned()),
        Some(key) => Err(LoadError::UnknownKey {
            key: key.to_owned(),
            known: names,
        }),
        None if names.len() == 1 => names.into_iter().next().ok_or(LoadError::Empty),
        None if names.is_empty() => Err(LoadError::Empty),
        None => Err(LoadError::KeyNeeded(names)),
    }
}

// .csv

fn csv(bytes: &[u8], limits: &Limits) -> Result<Array, LoadError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(::csv::Trim::All)
        .from_reader(bytes);
    let mut values = Vec::new();
    let mut columns = 0;
    let mut rows = 0usize;
    let mut record = ::csv::ByteRecord::new();
    let mut first = true;
    while reader
        .read_byte_record(&mut record)
        .map_err(|error| malformed(".csv", error))?
    {
        let line = record.position().map_or(0, ::csv::Position::line);
        let blank = record.len() == 1 && record.get(0).is_none_or(<[u8]>::is_empty);
        // A first row in which nothing is a number names the columns.
        let heading = first && record.iter().all(|cell| number(cell).is_none());
        first = first && blank;
        if blank {
            continue;
        }
        if heading {
            if record.iter().any(|cell| cell.contains(&b';')) {
                return Err(malformed(
                    ".csv",
                    "columns are separated by `,`, not by `;`",
                ));
            }
            continue;
        }
        if rows == 0 {
            columns = record.len();
        } else if record.len() != columns {
            return Err(LoadError::Ragged {
                place: format!("row {} (line {line})", rows + 1),
                found: record.len(),
                wanted: columns,
            });
        }
        rows += 1;
        for (column, cell) in record.iter().enumerate() {
            let place = || format!("row {rows}, column {} (line {line})", column + 1);
            let value = number(cell).ok_or_else(|| LoadError::NotANumber {
                place: place(),
                found: shown(cell),
            })?;
            if !value.is_finite() {
                return Err(LoadError::NotFinite {
                    place: place(),
                    value,
                });
            }
            if values.len() >= limits.elements {
                return Err(LoadError::TooLarge {
                    what: "array",
                    found: "more elements".to_owned(),
                    most: limits.elements,
                });
            }
            values.push(value);
        }
    }
    let shape = match (rows, columns) {
        (0, _) => return Err(LoadError::Empty),
        (n, 1) | (1, n) => vec![n],
        (m, n) => vec![m, n],
    };
    Ok(Array { shape, values })
}

fn number(cell: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(cell).ok()?;
    text.parse().ok()
}

fn shown(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    if text.is_empty() {
        return "empty".to_owned();
    }
    let mut short: String = text.chars().take(24).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

// .json

fn json(bytes: &[u8], key: Option<&str>, limits: &Limits) -> Result<Array, LoadError> {
    use serde_json::Value;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(".json", error))?;
    let value = match (&value, key) {
        (Value::Object(members), key) => {
            let names = members.keys().cloned().collect();
            let name = choose(names, key)?;
            members.get(&name).ok_or(LoadError::Empty)?
        }
        (_, Some(key)) => return Err(LoadError::KeyNotTaken(key.to_owned())),
        (value, None) => value,
    };
    json_value(value, limits)
}

/// An array from nested JSON lists of numbers, as a command line gives it: a number is a scalar.
///
/// # Errors
/// When the lists are ragged or hold anything but finite numbers.
pub fn json_value(value: &serde_json::Value, limits: &Limits) -> Result<Array, LoadError> {
    use serde_json::Value;
    let mut shape = Vec::new();
    let mut first = value;
    while let Value::Array(items) = first {
        shape.push(items.len());
        match items.first() {
            Some(item) => first = item,
            None => return Err(LoadError::Empty),
        }
    }
    let elements = count(&shape, limits)?;
    // Never more than the text had room for.
    let mut values = Vec::new();
    let mut path = Vec::new();
    collect(value, &shape, &mut path, &mut values)?;
    debug_assert_eq!(values.len(), elements);
    Ok(Array { shape, values })
}

fn collect(
    value: &serde_json::Value,
    shape: &[usize],
    path: &mut Vec<usize>,
    values: &mut Vec<f64>,
) -> Result<(), LoadError> {
    use serde_json::Value;
    let place = |path: &[usize]| {
        if path.is_empty() {
            "the value".to_owned()
        } else {
            format!("element {path:?}")
        }
    };
    match (value, shape.split_first()) {
        (Value::Number(number), None) => {
            let value = number.as_f64().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return Err(LoadError::NotFinite {
                    place: place(path),
                    value,
                });
            }
            values.push(value);
            Ok(())
        }
        (Value::Array(items), Some((&wanted, inner))) => {
            if items.len() != wanted {
                return Err(LoadError::Ragged {
                    place: format!("the list at {path:?}"),
                    found: items.len(),
                    wanted,
                });
            }
            for (i, item) in items.iter().enumerate() {
                path.push(i);
                collect(item, inner, path, values)?;
                path.pop();
            }
            Ok(())
        }
        (Value::Number(_), Some((&wanted, _))) => Err(LoadError::Ragged {
            place: format!("{}, a single number,", place(path)),
            found: 1,
            wanted,
        }),
        (other, _) => Err(LoadError::NotANumber {
            place: place(path),
            found: match other {
                Value::Null => "null".to_owned(),
                Value::Bool(b) => b.to_string(),
                Value::String(s) => shown(s.as_bytes()),
                Value::Array(_) => "a list".to_owned(),
                Value::Object(_) => "an object".to_owned(),
                Value::Number(n) => n.to_string(),
            },
        }),
    }
}

// .safetensors

fn safetensors(bytes: &[u8], key: Option<&str>, limits: &Limits) -> Result<Array, LoadError> {
    let bad = |reason: &dyn std::fmt::Display| malformed(".safetensors", reason);
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| bad(&error))?;
    let mut names: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
    names.sort();
    let name = choose(names, key)?;
    let tensor = tensors.tensor(&name).map_err(|error| bad(&error))?;
    let element = match tensor.dtype() {
        Dtype::BOOL => Element::Bool,
        Dtype::I8 => Element::Int(1),
        Dtype::I16 => Element::Int(2),
        Dtype::I32 => Element::Int(4),
        Dtype::I64 => Element::Int(8),
        Dtype::U8 => Element::Uint(1),
        Dtype::U16 => Element::Uint(2),
        Dtype::U32 => Element::Uint(4),
        Dtype::U64 => Element::Uint(8),
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        other => return Err(LoadError::ElementType(format!("{other:?}"))),
    };
    let shape = tensor.shape().to_vec();
    let elements = count(&shape, limits)?;
    if tensor.data().len() != elements * element.size() {
        return Err(bad(&"a tensor's size does not fit its shape"));
    }
    Ok(Array {
        shape,
        values: element.values(tensor.data(), false),
    })
}

#[cfg(test)]
mod tests;
