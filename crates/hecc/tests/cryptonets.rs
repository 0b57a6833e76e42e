//! Networks on batches of encrypted images, by running the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

fn hecc(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_hecc"))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap();
    (
        out.status.code().unwrap_or(-1),
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
    )
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

/// The first images of MNIST's test set, in the lowered circuit on plain slots.
#[test]
fn predictions_on_mnist_are_those_of_the_network_in_the_clear() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = root.join("../shared/data");
    let images = data.join("mnist/t10k-images-idx3-ubyte.gz");
    let labels = data.join("mnist/t10k-labels-idx1-ubyte.gz");
    if !images.exists() {
        println!("skipped: {} is not there", images.display());
        return;
    }
    let image = format!("image=@{}[0..64]/256", images.display());
    let labels = format!("{}[0..64]", labels.display());
    let args = [
        "run",
        "circuits/cryptonets.hec",
        "--circuit",
        "batch",
        "--backend",
        "clear",
    ];
    let more = ["--format", "json", "--input", &image, "--labels", &labels];
    let (code, out, err) = hecc(&root, &[&args[..], &more].concat());
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let predictions = fs::read(data.join("cryptonets/predictions_t10k.u8")).unwrap();
    for (i, row) in report["outputs"]["logits"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let row: Vec<f64> = row
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect();
        let best = (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        assert_eq!(best, usize::from(predictions[i]), "image {i}");
    }
}
