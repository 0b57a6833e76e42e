use proptest::prelude::*;

use super::*;

fn npy_bytes(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn ok(format: Format, bytes: &[u8], key: Option<&str>) -> Array {
    read(format, bytes, key, &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn message(format: Format, bytes: &[u8], key: Option<&str>) -> String {
    match read(format, bytes, key, &Limits::default()) {
        Ok(array) => panic!("read {array:?}"),
        Err(error) => error.to_string(),
    }
}

fn array(shape: &[usize], values: &[f64]) -> Array {
    Array {
        shape: shape.to_vec(),
        values: values.to_vec(),
    }
}

#[test]
fn npy_dtypes_and_orders() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "<f8",
            [1.0f64, -2.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        (
            ">f8",
            [1.0f64, -2.0]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
        ),
        (
            "<f4",
            [1.0f32, -2.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        (
            ">f4",
            [1.0f32, -2.0]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
        ),
        ("<f2", vec![0x00, 0x3C, 0x00, 0xC0]),
        (">f2", vec![0x3C, 0x00, 0xC0, 0x00]),
        ("|i1", vec![1, 0xFE]),
        (">i2", vec![0, 1, 0xFF, 0xFE]),
        (
            "<i4",
            [1i32, -2].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        (
            ">i8",
            [1i64, -2].iter().flat_map(|v| v.to_be_bytes()).collect(),
        ),
    ];
    for (descr, data) in cases {
        let bytes = npy_bytes(descr, false, "(2,)", &data);
        assert_eq!(
            ok(Format::Npy, &bytes, None),
            array(&[2], &[1.0, -2.0]),
            "{descr}"
        );
    }
    let bytes = npy_bytes("<u2", false, "(1, 2)", &[1, 0, 0xFF, 0xFF]);
    assert_eq!(
        ok(Format::Npy, &bytes, None),
        array(&[1, 2], &[1.0, 65535.0])
    );
    let bytes = npy_bytes("|b1", false, "(2,)", &[1, 0]);
    assert_eq!(ok(Format::Npy, &bytes, None), array(&[2], &[1.0, 0.0]));
    let bytes = npy_bytes("|u1", true, "(2, 3)", &[0, 10, 1, 11, 2, 12]);
    assert_eq!(
        ok(Format::Npy, &bytes, None),
        array(&[2, 3], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    );
    let bytes = npy_bytes("|u1", false, "()", &[7]);
    assert_eq!(ok(Format::Npy, &bytes, None), array(&[], &[7.0]));
}

#[test]
fn fortran_order_against_the_definition() {
    let shape = [2, 3, 4];
    let stored: Vec<f64> = (0..24).map(f64::from).collect();
    let values = from_fortran(&stored, &shape);
    for i in 0..2 {
        for j in 0..3 {
            for k in 0..4 {
                assert_eq!(values[(i * 3 + j) * 4 + k], stored[i + 2 * (j + 3 * k)]);
            }
        }
    }
}

#[test]
fn half_floats() {
    assert_eq!(half(0x3555), 1365.0 / 4096.0);
    assert_eq!(half(0x0001), 2f64.powi(-24));
    assert_eq!(half(0x7BFF), 65504.0);
    assert!(half(0x7C01).is_nan());
    assert_eq!(half(0xFC00), f64::NEG_INFINITY);
}

#[test]
fn npy_errors() {
    let npy =
        |d: &str, s: &str, data: &[u8]| message(Format::Npy, &npy_bytes(d, false, s, data), None);
    assert!(npy("<c16", "(1,)", &[0; 16]).contains("<c16"));
    assert!(npy("<U3", "(1,)", &[0; 12]).contains("real numbers"));
    assert!(npy("<f8", "(3,)", &[0; 8]).contains("needs 24 bytes, and there are 8"));
    assert!(npy("<f8", "(0,)", &[]).contains("empty"));
    assert!(npy("<f8", "(99999999999999999999,)", &[]).contains("bad shape"));
    assert!(npy("<f8", "(9999999999, 9999999999)", &[]).contains("more than"));
    assert!(
        npy(
            "<f8",
            "(2,)",
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F]
        )
        .contains("element [1] is NaN")
    );
    assert!(message(Format::Npy, b"PK\x03\x04", None).contains("does not start"));
    assert!(
        message(
            Format::Npy,
            &npy_bytes("|u1", false, "(1,)", &[1]),
            Some("a")
        )
        .contains("leave out")
    );
    assert!(message(Format::Npy, b"\x93NUMPY\x01\x00\xFF\xFF{", None).contains("ends inside"));
}

#[test]
fn npz_by_key() {
    let mut bytes = Vec::new();
    {
        use npyz::WriterBuilder as _;
        let mut writer = npyz::npz::NpzWriter::new(io::Cursor::new(&mut bytes));
        for (name, value) in [("w", 1.5f64), ("b", 2.5)] {
            let mut array = writer
                .array(name, Default::default())
                .expect("starts")
                .default_dtype()
                .shape(&[2])
                .begin_nd()
                .expect("begins");
            array.push(&value).expect("writes");
            array.push(&-value).expect("writes");
            array.finish().expect("ends");
        }
    }
    assert_eq!(
        ok(Format::Npz, &bytes, Some("w")),
        array(&[2], &[1.5, -1.5])
    );
    assert_eq!(
        ok(Format::Npz, &bytes, Some("b")),
        array(&[2], &[2.5, -2.5])
    );
    assert!(message(Format::Npz, &bytes, Some("c")).contains(r#"it holds "b", "w""#));
    assert!(message(Format::Npz, &bytes, None).contains("choose one by name"));
    let tight = Limits {
        bytes: bytes.len(),
        elements: 1,
    };
    assert!(read(Format::Npz, &bytes, Some("w"), &tight).is_err());
}

#[test]
fn csv_shapes_and_errors() {
    assert_eq!(
        ok(Format::Csv, b"1,2\n3,4\n", None),
        array(&[2, 2], &[1.0, 2.0, 3.0, 4.0])
    );
    assert_eq!(
        ok(Format::Csv, b"a, b\r\n1, 2\r\n\r\n3, -4e1", None),
        array(&[2, 2], &[1.0, 2.0, 3.0, -40.0])
    );
    assert_eq!(
        ok(Format::Csv, b"# c\n1\n2\n3\n", None),
        array(&[3], &[1.0, 2.0, 3.0])
    );
    assert_eq!(
        ok(Format::Csv, b"\xEF\xBB\xBF1,2,3", None),
        array(&[3], &[1.0, 2.0, 3.0])
    );
    assert_eq!(
        message(Format::Csv, b"1,2\n3\n", None),
        "row 2 (line 2) has 1 elements where the first has 2"
    );
    assert_eq!(
        message(Format::Csv, b"1,2\n3,x\n", None),
        "row 2, column 2 (line 2) is \"x\", not a number"
    );
    assert_eq!(
        message(Format::Csv, b"1,2\n3,\n", None),
        "row 2, column 2 (line 2) is empty, not a number"
    );
    assert!(message(Format::Csv, b"1,nan\n", None).contains("row 1, column 2 (line 1) is NaN"));
    assert!(message(Format::Csv, b"1,1e999\n", None).contains("is inf"));
    assert!(message(Format::Csv, b"a,b\n", None).contains("empty"));
    assert!(message(Format::Csv, b"1;2\n3;4\n", None).contains("separated by `,`"));
}

#[test]
fn json_shapes_and_errors() {
    assert_eq!(
        ok(Format::Json, b"[[1, 2], [3, 4.5]]", None),
        array(&[2, 2], &[1.0, 2.0, 3.0, 4.5])
    );
    assert_eq!(ok(Format::Json, b"3", None), array(&[], &[3.0]));
    assert_eq!(
        ok(Format::Json, br#"{"w": [1], "b": 2}"#, Some("w")),
        array(&[1], &[1.0])
    );
    assert!(
        message(Format::Json, br#"{"w": [1], "b": 2}"#, Some("c")).contains(r#"it holds "w", "b""#)
    );
    assert_eq!(
        message(Format::Json, b"[[1, 2], [3]]", None),
        "the list at [1] has 1 elements where the first has 2"
    );
    assert!(message(Format::Json, b"[[1], 2]", None).contains("element [1]"));
    assert!(message(Format::Json, b"[1, [2]]", None).contains("element [1] is a list"));
    assert!(message(Format::Json, b"[1, null]", None).contains("element [1] is null"));
    assert!(message(Format::Json, b"[1, \"2\"]", None).contains("\"2\""));
    assert!(message(Format::Json, b"[]", None).contains("empty"));
    assert!(message(Format::Json, b"[1, 2", None).contains("valid .json"));
    assert!(message(Format::Json, b"[1e999]", None).contains("valid .json"));
    assert!(message(Format::Json, "[".repeat(100_000).as_bytes(), None).contains("recursion"));
}

#[test]
fn safetensors_by_key() {
    let header = r#"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend([0x80, 0x3F, 0x00, 0xC0]);
    bytes.extend(0.25f32.to_le_bytes());
    assert_eq!(
        ok(Format::Safetensors, &bytes, Some("a")),
        array(&[2], &[1.0, -2.0])
    );
    assert_eq!(
        ok(Format::Safetensors, &bytes, Some("b")),
        array(&[1, 1], &[0.25])
    );
    assert!(message(Format::Safetensors, &bytes, None).contains(r#""a", "b""#));
    assert!(message(Format::Safetensors, &bytes, Some("x")).contains("no array \"x\""));
    assert!(message(Format::Safetensors, &bytes[..40], Some("a")).contains("valid .safetensors"));
    let huge = [0xFF; 16];
    assert!(message(Format::Safetensors, &huge, None).contains("valid .safetensors"));
}

#[test]
fn files_come_from_the_caller() {
    let mut files = MemoryFiles::default();
    files.0.insert("d/w.csv".into(), b"1,2\n".to_vec());
    let limits = Limits::default();
    assert_eq!(
        load(&files, Path::new("d/w.csv"), None, &limits).expect("is there"),
        array(&[2], &[1.0, 2.0])
    );
    assert!(load(&files, Path::new("d/x.csv"), None, &limits).is_err());
    let error = load(&files, Path::new("d/w.txt"), None, &limits).expect_err("unknown");
    assert!(error.to_string().contains(".npy, .npz"));
    let tight = Limits {
        bytes: 3,
        elements: 9,
    };
    let error = load(&files, Path::new("d/w.csv"), None, &tight).expect_err("too large");
    assert!(error.to_string().contains("more than the 3 allowed"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let limits = Limits { bytes: 1 << 16, elements: 1 << 10 };
        for format in [Format::Npy, Format::Npz, Format::Csv, Format::Json, Format::Safetensors] {
            if let Ok(array) = read(format, &bytes, None, &limits) {
                prop_assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
            }
        }
    }
}
