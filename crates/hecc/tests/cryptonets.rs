//! Networks on batches of encrypted images, by running the binary.

mod common;

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use common::hecc;
use hecc_import::onnx::proto;
use hecc_lang::load;
use prost::Message as _;
use serde_json::{Value, json};

/// CryptoNets with small extents: a convolution with stride on a padded image, a square, a dense layer, a
/// square, a dense layer.
const TINY: &str = "\
const K: real[2, 3, 3] = [[[0.5, -0.25, 0.125], [0.3, 0.2, -0.1], [0, 0.7, -0.6]],
                          [[-0.5, 0.3, 0.11], [0.25, -0.2, 0.4], [0.9, 0, 0.33]]];
const W1: real[4, 8] = [[0.1 * i - 0.05 * j * j + 0.2 for j in 0..8] for i in 0..4];
const W2: real[3, 4] = [[0.3 * i - 0.2 * j + 0.013 for j in 0..4] for i in 0..3];

@batch(4)
@ckks(scale_bits = SCALE, security = 0, ring = 1024)
circuit tiny(image: secret real[4, 4] in [0, 1]) -> y: real[3] in [-64, 64] {
    let maps in [-4, 4] = conv2d(pad(image, [[0, 1], [0, 1]]), K, stride = 2) + 0.1;
    let hidden in [-16, 16] = W1 @ reshape(maps * maps, [8]) - 0.2;
    return W2 @ (hidden * hidden) + [0.5, -0.5, 0.25];
}
";

fn pixel(image: usize, at: usize) -> usize {
    (image * 37 + at * at * 11 + at * 3) % 256
}

/// The network on one image.
fn tiny(image: usize) -> Vec<f64> {
    let k = [
        [[0.5, -0.25, 0.125], [0.3, 0.2, -0.1], [0.0, 0.7, -0.6]],
        [[-0.5, 0.3, 0.11], [0.25, -0.2, 0.4], [0.9, 0.0, 0.33]],
    ];
    let at = |r: usize, c: usize| {
        if r < 4 && c < 4 {
            pixel(image, 4 * r + c) as f64 / 256.0
        } else {
            0.0
        }
    };
    let mut maps = Vec::new();
    for k in &k {
        for i in 0..2 {
            for j in 0..2 {
                let mut sum = 0.1;
                for (r, row) in k.iter().enumerate() {
                    for (c, w) in row.iter().enumerate() {
                        sum += w * at(2 * i + r, 2 * j + c);
                    }
                }
                maps.push(sum);
            }
        }
    }
    let hidden: Vec<f64> = (0..4)
        .map(|i| {
            let w = |j: usize| 0.1 * i as f64 - 0.05 * (j * j) as f64 + 0.2;
            maps.iter()
                .enumerate()
                .map(|(j, m)| w(j) * m * m)
                .sum::<f64>()
                - 0.2
        })
        .collect();
    [0.5, -0.5, 0.25]
        .iter()
        .enumerate()
        .map(|(i, b)| {
            let w = |j: usize| 0.3 * i as f64 - 0.2 * j as f64 + 0.013;
            hidden
                .iter()
                .enumerate()
                .map(|(j, h)| w(j) * h * h)
                .sum::<f64>()
                + b
        })
        .collect()
}

/// Images and their labels as IDX files, batch after batch, with both kinds of primes: those whose products
/// fit in one word of the multiplier and those whose do not.
#[test]
fn a_network_classifies_batch_after_batch() {
    const IMAGES: usize = 11;
    let dir = tempfile::tempdir().unwrap();
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, IMAGES as u8, 0, 0, 0, 4, 0, 0, 0, 4];
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, IMAGES as u8];
    let mut expected = Vec::new();
    for image in 0..IMAGES {
        images.extend((0..16).map(|at| pixel(image, at) as u8));
        let y = tiny(image);
        let best = (0..3).max_by(|a, b| y[*a].total_cmp(&y[*b])).unwrap();
        // One label in the last batch is wrong on purpose.
        labels.push(if image == 10 { (best + 1) % 3 } else { best } as u8);
        expected.push(y);
    }
    fs::write(dir.path().join("images-idx3-ubyte"), images).unwrap();
    fs::write(dir.path().join("labels-idx1-ubyte"), labels).unwrap();
    for scale in [25, 35] {
        let text = TINY.replace("SCALE", &scale.to_string());
        fs::write(dir.path().join("tiny.hec"), text).unwrap();
        let run = |slice: &str| {
            let image = format!("image=@images-idx3-ubyte{slice}/256");
            let labels = format!("labels-idx1-ubyte{slice}");
            let args = [
                "run", "tiny.hec", "--seed", "1", "--format", "json", "--input",
            ];
            let args = [&args[..], &[&image, "--labels", &labels]].concat();
            let (code, out, err) = hecc(dir.path(), &args);
            assert_eq!(code, 0, "{err}");
            serde_json::from_str::<Value>(&out).unwrap()
        };
        let all = run("");
        assert_eq!(all["instances"], IMAGES);
        assert_eq!(all["batches"], 3);
        assert_eq!(all["depth"], 2);
        assert_eq!(all["labels"]["correct"], IMAGES - 1);
        assert_eq!(all["labels"]["confusion"].as_array().unwrap().len(), 3);
        let worst = if scale == 25 { 0.05 } else { 1e-4 };
        for (found, wanted) in all["outputs"]["y"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&expected)
        {
            for (y, w) in found.as_array().unwrap().iter().zip(wanted) {
                assert!((y.as_f64().unwrap() - w).abs() < worst, "{y} is not {w}");
            }
        }
        let some = run("[4..7]");
        assert_eq!(
            (&some["instances"], &some["batches"]),
            (&3.into(), &1.into())
        );
        assert_eq!(some["labels"]["correct"], 3);
    }
}

/// A drawing in the repository, classified from end to end by the parties' own commands.
#[test]
fn the_shipped_network_reads_a_drawn_digit() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = Command::new("bash")
        .arg(root.join("examples/07_encrypted_digit.sh"))
        .arg(root.join("examples/digits/seven.txt"))
        .env("HECC", env!("CARGO_BIN_EXE_hecc"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("This is a 7."), "{text}\n{errors}");
}

/// The bytes of a `.safetensors` file: the length of a header in JSON, the header, the elements.
fn safetensors(arrays: &[(&str, Vec<usize>, Vec<f64>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in arrays {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(
            (*name).to_owned(),
            json!({"dtype": "F64", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

/// The weights of the small network from a file, and not from the text.
#[test]
fn weights_from_safetensors_make_the_same_network() {
    let dir = tempfile::tempdir().unwrap();
    let k = [
        0.5, -0.25, 0.125, 0.3, 0.2, -0.1, 0.0, 0.7, -0.6, -0.5, 0.3, 0.11, 0.25, -0.2, 0.4, 0.9,
        0.0, 0.33,
    ];
    let grid = |rows: usize, columns: usize, w: fn(f64, f64) -> f64| -> Vec<f64> {
        (0..rows * columns)
            .map(|at| w((at / columns) as f64, (at % columns) as f64))
            .collect()
    };
    let w1 = grid(4, 8, |i, j| 0.1 * i - 0.05 * j * j + 0.2);
    let w2 = grid(3, 4, |i, j| 0.3 * i - 0.2 * j + 0.013);
    let bytes = safetensors(&[
        ("conv.weight", vec![2, 3, 3], k.to_vec()),
        ("fc1.weight", vec![4, 8], w1),
        ("fc2.weight", vec![3, 4], w2),
    ]);
    fs::write(dir.path().join("tiny.safetensors"), bytes).unwrap();
    let body = &TINY[TINY.find("@batch").unwrap()..];
    let text = format!(
        "const K: real[2, 3, 3] = load(\"tiny.safetensors\", \"conv.weight\");\n\
         const W1: real[4, 8] = load(\"tiny.safetensors\", \"fc1.weight\");\n\
         const W2: real[3, 4] = load(\"tiny.safetensors\", \"fc2.weight\");\n\n{}",
        body.replace("SCALE", "35")
    );
    fs::write(dir.path().join("tiny.hec"), text).unwrap();
    let images: Vec<Vec<Vec<f64>>> = (0..3)
        .map(|image| {
            (0..4)
                .map(|r| {
                    (0..4)
                        .map(|c| pixel(image, 4 * r + c) as f64 / 256.0)
                        .collect()
                })
                .collect()
        })
        .collect();
    let image = format!("image={}", json!(images));
    let args = [
        "run", "tiny.hec", "--seed", "2", "--format", "json", "--input", &image,
    ];
    let (code, out, err) = hecc(dir.path(), &args);
    assert_eq!(code, 0, "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    for image in 0..3 {
        for (at, wanted) in tiny(image).into_iter().enumerate() {
            let y = found["outputs"]["y"][image][at].as_f64().unwrap();
            assert!((y - wanted).abs() < 1e-4, "{y} is not {wanted}");
        }
    }
}

/// The first images of MNIST's test set and what the network in the clear says of them, where they are there.
fn mnist() -> Option<(PathBuf, Vec<u8>)> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let images = data.join("mnist/t10k-images-idx3-ubyte.gz");
    if !images.exists() {
        println!("skipped: {} is not there", images.display());
        return None;
    }
    let predictions = fs::read(data.join("cryptonets/predictions_t10k.u8")).unwrap();
    Some((images, predictions))
}

fn largest(row: &Value) -> usize {
    let row: Vec<f64> = row
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    (0..row.len())
        .max_by(|a, b| row[*a].total_cmp(&row[*b]))
        .unwrap()
}

/// Without `@batch`: one image in few ciphertexts, encrypted.
#[test]
fn single_images_are_classified_as_in_the_clear() {
    let Some((images, predictions)) = mnist() else {
        return;
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Digits of different kinds; each takes keys of its own.
    for at in [0, 7, 11] {
        let image = format!("image=@{}[{at}..{}]/256", images.display(), at + 1);
        let args = [
            "run",
            "circuits/cryptonets.hec",
            "--circuit",
            "single",
            "--seed",
            "3",
        ];
        let (code, out, err) = hecc(
            &root,
            &[&args[..], &["--format", "json", "--input", &image]].concat(),
        );
        assert_eq!(code, 0, "{err}");
        let report: Value = serde_json::from_str(&out).unwrap();
        let found = largest(&report["outputs"]["logits"]);
        assert_eq!(found, usize::from(predictions[at]), "image {at}");
    }
}

/// The shipped weights as an ONNX model, imported.
#[test]
fn the_network_from_onnx_predicts_the_same() {
    let Some((images, predictions)) = mnist() else {
        return;
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().unwrap();
    let weights = fs::read(root.join("circuits/cryptonets/weights.npz")).unwrap();
    let tensor = |key: &str, name: &str, dims: &[i64]| {
        let limits = load::Limits::default();
        let array = load::read(load::Format::Npz, &weights, Some(key), &limits).unwrap();
        proto::Tensor {
            dims: dims.to_vec(),
            data_type: 1,
            float_data: array.values.iter().map(|&v| v as f32).collect(),
            name: name.to_owned(),
            ..proto::Tensor::default()
        }
    };
    let ints = |name: &str, ints: &[i64]| proto::Attribute {
        name: name.to_owned(),
        i: ints[0],
        ints: ints.to_vec(),
        ..proto::Attribute::default()
    };
    let node = |op: &str, input: &[&str], output: &str, attribute| proto::Node {
        input: input.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op.to_owned(),
        attribute,
        ..proto::Node::default()
    };
    let dim = [None, Some(1), Some(28), Some(28)]
        .map(|n| proto::Dimension {
            value: n.map(proto::Extent::Value),
        })
        .to_vec();
    let turned = || vec![ints("transB", &[1])];
    let model = proto::Model {
        ir_version: 8,
        graph: Some(proto::Graph {
            node: vec![
                node(
                    "Conv",
                    &["image", "k", "kb"],
                    "maps",
                    vec![ints("strides", &[2, 2]), ints("pads", &[0, 0, 1, 1])],
                ),
                node("Mul", &["maps", "maps"], "m2", vec![]),
                node("Flatten", &["m2"], "flat", vec![]),
                node("Gemm", &["flat", "w1", "b1"], "hidden", turned()),
                node("Mul", &["hidden", "hidden"], "h2", vec![]),
                node("Gemm", &["h2", "w2", "b2"], "logits", turned()),
            ],
            name: "cryptonets".to_owned(),
            initializer: vec![
                tensor("conv_w", "k", &[5, 1, 5, 5]),
                tensor("conv_b", "kb", &[5]),
                tensor("fc1_w", "w1", &[100, 845]),
                tensor("fc1_b", "b1", &[100]),
                tensor("fc2_w", "w2", &[10, 100]),
                tensor("fc2_b", "b2", &[10]),
            ],
            input: vec![proto::ValueInfo {
                name: "image".to_owned(),
                r#type: Some(proto::Type {
                    tensor_type: Some(proto::TensorType {
                        elem_type: 1,
                        shape: Some(proto::Shape { dim }),
                    }),
                }),
            }],
            output: vec![proto::ValueInfo {
                name: "logits".to_owned(),
                r#type: None,
            }],
        }),
        ..proto::Model::default()
    };
    fs::write(dir.path().join("net.onnx"), model.encode_to_vec()).unwrap();
    // IDX has no axis of channels.
    let packed = fs::read(images).unwrap();
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .take(16 + 32 * 784)
        .read_to_end(&mut unpacked)
        .unwrap();
    let mut idx = vec![
        0, 0, 8, 4, 0, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28,
    ];
    idx.extend_from_slice(&unpacked[16..]);
    fs::write(dir.path().join("images"), idx).unwrap();
    let args = ["import", "net.onnx", "--out", ".", "--batch", "32"];
    let ranges = [
        "--range",
        "image=0,1",
        "--range",
        "maps=-8,8",
        "--range",
        "hidden=-8,8",
    ];
    let (code, _, err) = hecc(dir.path(), &[&args[..], &ranges].concat());
    assert_eq!(code, 0, "{err}");
    let args = ["run", "net.hec", "--backend", "clear", "--format", "json"];
    let (code, out, err) = hecc(
        dir.path(),
        &[&args[..], &["-i", "image=@images/256"]].concat(),
    );
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    for (i, row) in report["outputs"]["logits"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(largest(row), usize::from(predictions[i]), "image {i}");
    }
}

/// The first images of MNIST's test set, in the lowered circuit on plain slots.
#[test]
fn predictions_on_mnist_are_those_of_the_network_in_the_clear() {
    let Some((images, predictions)) = mnist() else {
        return;
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let labels = images.with_file_name("t10k-labels-idx1-ubyte.gz");
    let image = format!("image=@{}[0..64]/256", images.display());
    let labels = format!("{}[0..64]", labels.display());
    // one image in a slot, and two
    for (circuit, complex) in [("batch", false), ("pairs", true)] {
        let args = ["run", "circuits/cryptonets.hec", "--circuit", circuit];
        let more = ["--format", "json", "--input", &image, "--labels", &labels];
        let (code, out, err) = hecc(&root, &[&args[..], &["--backend", "clear"], &more].concat());
        assert_eq!(code, 0, "{err}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["params"]["complex"], complex, "{circuit}");
        let rows = report["outputs"]["logits"].as_array().unwrap();
        assert_eq!(rows.len(), 64);
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(largest(row), usize::from(predictions[i]), "image {i}");
        }
    }
}
