//! Arrays that a model holds.

use super::ImportError;
use super::names::shown;
use super::proto::Tensor;

/// Most elements of an array.
const MAX_ELEMENTS: usize = 1 << 25;

/// What the elements of an array were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers that f32 holds.
    Single,
    /// Numbers.
    Double,
    /// Whole numbers.
    Whole,
}

/// A dense array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) values: Vec<f64>,
}

impl Array {
    /// A vector, or a number.
    pub(super) fn of(kind: Kind, shape: Vec<usize>, values: Vec<f64>) -> Array {
        Array {
            shape,
            kind,
            values,
        }
    }

    /// The elements as integers.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        (self.kind == Kind::Whole && self.shape.len() <= 1)
            .then(|| self.values.iter().map(|&v| v as i64).collect())
    }

    /// The only element.
    pub(super) fn scalar(&self) -> Option<f64> {
        match self.values.as_slice() {
            [v] => Some(*v),
            _ => None,
        }
    }
}

/// Reads an array.
///
/// # Errors
/// When it holds no numbers, others than its extents say, or too many.
pub(super) fn read(tensor: &Tensor, name: &str) -> Result<Array, ImportError> {
    let name = shown(name);
    let bad = |reason: String| ImportError::Malformed(format!("tensor `{name}`: {reason}"));
    if tensor.data_location != 0 {
        return Err(ImportError::Model(format!(
            "tensor `{name}` is stored in a file of its own: save the model as one file, as \
             `onnx.save(model, path, save_as_external_data=False)` does"
        )));
    }
    let shape: Vec<usize> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| bad(format!("an extent is {d}"))))
        .collect::<Result<_, _>>()?;
    let count = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS && shape.len() <= hecc_lang::load::MAX_RANK)
        .ok_or_else(|| ImportError::TooLarge {
            what: format!("tensor `{name}` has"),
            found: format!("shape {shape:?}"),
            most: MAX_ELEMENTS,
        })?;
    let raw = &tensor.raw_data;
    let wide = |size: usize, of: fn(&[u8]) -> f64| -> Vec<f64> {
        raw.chunks_exact(size).map(of).collect()
    };
    let ints = || tensor.int32_data.iter().map(|&v| f64::from(v)).collect();
    let (kind, size, values): (Kind, usize, Vec<f64>) = match tensor.data_type {
        1 if raw.is_empty() => (
            Kind::Single,
            4,
            tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
        ),
        1 => (
            Kind::Single,
            4,
            wide(4, |b| f64::from(f32::from_le_bytes(fixed(b)))),
        ),
        11 if raw.is_empty() => (Kind::Double, 8, tensor.double_data.clone()),
        11 => (Kind::Double, 8, wide(8, |b| f64::from_le_bytes(fixed(b)))),
        10 if raw.is_empty() => (Kind::Single, 2, bits(&tensor.int32_data, half)),
        10 => (
            Kind::Single,
            2,
            wide(2, |b| half(u16::from_le_bytes(fixed(b)))),
        ),
        16 if raw.is_empty() => (Kind::Single, 2, bits(&tensor.int32_data, brain)),
        16 => (
            Kind::Single,
            2,
            wide(2, |b| brain(u16::from_le_bytes(fixed(b)))),
        ),
        2..=6 | 9 if raw.is_empty() => (Kind::Whole, 4, ints()),
        2 | 9 => (Kind::Whole, 1, wide(1, |b| f64::from(b[0]))),
        3 => (Kind::Whole, 1, wide(1, |b| f64::from(b[0] as i8))),
        4 => (
            Kind::Whole,
            2,
            wide(2, |b| f64::from(u16::from_le_bytes(fixed(b)))),
        ),
        5 => (
            Kind::Whole,
            2,
            wide(2, |b| f64::from(i16::from_le_bytes(fixed(b)))),
        ),
        6 => (
            Kind::Whole,
            4,
            wide(4, |b| f64::from(i32::from_le_bytes(fixed(b)))),
        ),
        7 if raw.is_empty() => (
            Kind::Whole,
            8,
            tensor.int64_data.iter().map(|&v| v as f64).collect(),
        ),
        7 => (
            Kind::Whole,
            8,
            wide(8, |b| i64::from_le_bytes(fixed(b)) as f64),
        ),
        12 | 13 if raw.is_empty() => (
            Kind::Whole,
            8,
            tensor.uint64_data.iter().map(|&v| v as f64).collect(),
        ),
        12 => (
            Kind::Whole,
            4,
            wide(4, |b| f64::from(u32::from_le_bytes(fixed(b)))),
        ),
        13 => (
            Kind::Whole,
            8,
            wide(8, |b| u64::from_le_bytes(fixed(b)) as f64),
        ),
        other => {
            return Err(ImportError::Model(format!(
                "tensor `{name}` has elements of type {}: store real or whole numbers",
                element_type(other)
            )));
        }
    };
    if values.len() != count || (!raw.is_empty() && raw.len() != count * size) {
        return Err(bad(format!(
            "shape {shape:?} takes {count} elements, and it has {}",
            values.len()
        )));
    }
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(ImportError::Model(format!(
            "tensor `{name}` holds {value}: only finite numbers can be used"
        )));
    }
    Ok(Array {
        shape,
        kind,
        values,
    })
}

/// ONNX's name of an element type.
pub(super) fn element_type(code: i32) -> String {
    match code {
        8 => "string".to_owned(),
        14 => "complex64".to_owned(),
        15 => "complex128".to_owned(),
        other => format!("number {other}"),
    }
}

/// Exactly N bytes, as `chunks_exact(N)` gives them.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

fn bits(stored: &[i32], of: fn(u16) -> f64) -> Vec<f64> {
    stored.iter().map(|&v| of(v as u16)).collect()
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction) * 2f64.powi(e - 15),
    }
}

/// bfloat16: the upper half of an f32.
fn brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: i32, dims: &[i64], raw: Vec<u8>) -> Tensor {
        Tensor {
            dims: dims.to_vec(),
            data_type,
            raw_data: raw,
            ..Tensor::default()
        }
    }

    #[test]
    fn element_types() {
        let cases: [(i32, Vec<u8>, f64); 8] = [
            (1, 1.5f32.to_le_bytes().to_vec(), 1.5),
            (11, (-0.1f64).to_le_bytes().to_vec(), -0.1),
            (10, 0xc100u16.to_le_bytes().to_vec(), -2.5),
            (16, 0x3fc0u16.to_le_bytes().to_vec(), 1.5),
            (3, vec![0xff], -1.0),
            (6, (-70000i32).to_le_bytes().to_vec(), -70000.0),
            (7, (-7i64).to_le_bytes().to_vec(), -7.0),
            (13, 9u64.to_le_bytes().to_vec(), 9.0),
        ];
        for (data_type, raw, expected) in cases {
            let found = read(&tensor(data_type, &[1], raw), "t").unwrap();
            assert_eq!(found.values, [expected], "type {data_type}");
        }
        let stored = Tensor {
            data_type: 10,
            int32_data: vec![0x3c00],
            ..Tensor::default()
        };
        assert_eq!(read(&stored, "t").unwrap().values, [1.0]);
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        for (data_type, dims, raw, text) in [
            (1, vec![2], vec![0; 4], "takes 2 elements, and it has 1"),
            (1, vec![1], vec![0; 5], "takes 1 elements"),
            (1, vec![-1], vec![], "an extent is -1"),
            (1, vec![1 << 40, 1 << 40], vec![], "more than the"),
            (8, vec![1], vec![0; 4], "type string"),
            (1, vec![1], f32::NAN.to_le_bytes().to_vec(), "holds NaN"),
        ] {
            let error = read(&tensor(data_type, &dims, raw), "w").unwrap_err();
            let error = error.to_string();
            assert!(error.contains(text) && error.contains("`w`"), "{error}");
        }
        let outside = Tensor {
            data_location: 1,
            ..Tensor::default()
        };
        let error = read(&outside, "w").unwrap_err().to_string();
        assert!(error.contains("save_as_external_data=False"), "{error}");
    }
}
