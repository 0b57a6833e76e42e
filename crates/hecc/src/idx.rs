//! IDX, the format of MNIST and its kin: two zero bytes, a type, the number of axes, the extents as
//! big-endian u32, then the elements, big-endian.

use std::ops::Range;

use hecc_runtime::Tensor64;

/// Most axes.
const MOST_AXES: usize = 8;

/// Whether bytes start as an IDX file does.
pub(crate) fn is_idx(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, kind, axes, ..]
        if element_size(*kind).is_some() && (1..=MOST_AXES).contains(&usize::from(*axes)))
}

fn element_size(kind: u8) -> Option<usize> {
    match kind {
        0x08 | 0x09 => Some(1),
        0x0B => Some(2),
        0x0C | 0x0D => Some(4),
        0x0E => Some(8),
        _ => None,
    }
}

/// Reads an array, or the rows of it that `rows` picks from how many there are.
///
/// # Errors
/// A sentence that says what is wrong with the file; whatever `rows` says.
pub(crate) fn read(
    bytes: &[u8],
    rows: impl FnOnce(usize) -> Result<Range<usize>, String>,
) -> Result<Tensor64, String> {
    let &[0, 0, kind, axes, ref rest @ ..] = bytes else {
        return Err("it does not start as IDX files do".to_owned());
    };
    let size = element_size(kind)
        .ok_or_else(|| format!("element type {kind:#04x} is not one of the IDX format"))?;
    let axes = usize::from(axes);
    if !(1..=MOST_AXES).contains(&axes) {
        return Err(format!(
            "it has {axes} axes, and 1 to {MOST_AXES} can be read"
        ));
    }
    let (header, data) = rest
        .split_at_checked(4 * axes)
        .ok_or("it ends inside the header")?;
    let mut shape: Vec<usize> = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| u32::from_be_bytes(*b) as usize)
        .collect();
    let elements = shape
        .iter()
        .try_fold(size, |n, &d| n.checked_mul(d))
        .ok_or("its extents overflow")?;
    if elements == 0 {
        return Err("the array is empty".to_owned());
    }
    if data.len() != elements {
        return Err(format!(
            "shape {shape:?} needs {elements} bytes, and there are {}",
            data.len()
        ));
    }
    let rows = rows(shape[0])?;
    let row = elements / shape[0];
    let data = data
        .get(rows.start * row..rows.end * row)
        .ok_or("there are no such rows")?;
    shape[0] = rows.len();
    let value = |b: &[u8]| -> f64 {
        match (kind, b) {
            (0x08, [a]) => f64::from(*a),
            (0x09, [a]) => f64::from(*a as i8),
            (0x0B, &[a, b]) => f64::from(i16::from_be_bytes([a, b])),
            (0x0C, &[a, b, c, d]) => f64::from(i32::from_be_bytes([a, b, c, d])),
            (0x0D, &[a, b, c, d]) => f64::from(f32::from_be_bytes([a, b, c, d])),
            (_, &[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => f64::NAN,
        }
    };
    Ok(Tensor64 {
        shape,
        data: data.chunks_exact(size).map(value).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(n: usize) -> Result<Range<usize>, String> {
        Ok(0..n)
    }

    #[test]
    fn reads_what_the_format_says() {
        let bytes = [0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 3, 4, 5, 255];
        assert!(is_idx(&bytes));
        let whole = read(&bytes, all).unwrap();
        assert_eq!((whole.shape, whole.data[5]), (vec![3, 2], 255.0));
        let part = read(&bytes, |_| Ok(1..2)).unwrap();
        assert_eq!((part.shape, part.data), (vec![1, 2], vec![3.0, 4.0]));
        let shorts = [0, 0, 11, 1, 0, 0, 0, 1, 255, 254];
        assert_eq!(read(&shorts, all).unwrap().data, [-2.0]);
        let doubles = [&[0, 0, 14, 1, 0, 0, 0, 1][..], &0.5f64.to_be_bytes()].concat();
        assert_eq!(read(&doubles, all).unwrap().data, [0.5]);
    }

    #[test]
    fn refuses_what_is_damaged() {
        let good = [0, 0, 8, 1, 0, 0, 0, 2, 1, 2];
        for end in 0..good.len() {
            assert!(read(&good[..end], all).is_err(), "{end}");
        }
        assert!(read(&[0, 0, 8, 1, 0, 0, 0, 2, 1, 2, 3], all).is_err());
        assert!(read(&[0, 0, 7, 1, 0, 0, 0, 1, 1], all).is_err());
        assert!(read(&[0, 0, 8, 1, 0, 0, 0, 0], all).is_err());
        let huge = [&[0, 0, 14, 3][..], &[255; 12]].concat();
        assert!(read(&huge, all).is_err());
        assert!(read(&good, |_| Ok(1..3)).is_err());
    }
}
