//! stdout is the result: what goes there, and in which form.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use hecc_runtime::{Tensor64, Unpacked};
use serde_json::{Map, Value};

use crate::container::write_atomically;
use crate::exit::{Failure, Outcome};

/// Prints to stdout. A reader that went away is no error.
pub(crate) fn print(text: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::input(format!("cannot write to stdout: {e}"))),
    }
}

/// Prints JSON to stdout, indented for a terminal.
pub(crate) fn print_json(value: &Value) -> Outcome<()> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    match text {
        Ok(text) => print(&format!("{text}\n")),
        Err(e) => Err(Failure::internal(format!("writing JSON: {e}"))),
    }
}

/// A table without borders; the columns in `right` are aligned to the right.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
    if !header.is_empty() {
        lines.push(header.iter().map(ToString::to_string).collect());
    }
    lines.extend(rows);
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            // The last cell of a line is not padded, so that a long one does not widen the others.
            let cells = lines
                .iter()
                .filter(|l| c + 1 < l.len() || right.contains(&c));
            let widths = cells
                .filter_map(|l| l.get(c))
                .map(|cell| cell.chars().count());
            widths.max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (c, cell) in line.iter().enumerate() {
            if c > 0 {
                text.push_str("  ");
            }
            let pad = " ".repeat(widths[c].saturating_sub(cell.chars().count()));
            if right.contains(&c) {
                text.push_str(&pad);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&pad);
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Seconds as people read them.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else {
        format!(
            "{:.0} min {:.0} s",
            (seconds / 60.0).floor(),
            seconds % 60.0
        )
    }
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" {
                format!("{count} bytes")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Bytes of a file of batches, and how many that is for each instance.
pub(crate) fn bytes_of_instances(count: u64, instances: Option<usize>, batches: usize) -> String {
    match instances {
        Some(n) if n > 0 => format!(
            "{}, {} for each of {n} instances{}",
            bytes(count),
            bytes(count / n as u64),
            match batches {
                1 => String::new(),
                b => format!(" in {b} batches"),
            }
        ),
        _ => bytes(count),
    }
}

/// The most memory that this process had at once, where the system tells (Linux).
pub(crate) fn peak_memory() -> Option<u64> {
    memory("VmHWM:")
}

/// The memory that this process has now, where the system tells (Linux).
pub(crate) fn memory_now() -> Option<u64> {
    memory("VmRSS:")
}

fn memory(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(what))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The processor's name, where the system tells (Linux).
pub(crate) fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name"));
    line.and_then(|l| l.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// A tensor as nested lists; `null` for what is no finite number.
pub(crate) fn nested(tensor: &Tensor64) -> Value {
    fn list(shape: &[usize], data: &[f64]) -> Value {
        match shape {
            [] => data.first().map_or(Value::Null, |v| Value::from(*v)),
            [n, rest @ ..] => {
                let size = data.len().checked_div(*n).unwrap_or(0);
                Value::Array(
                    (0..*n)
                        .map(|i| list(rest, &data[i * size..(i + 1) * size]))
                        .collect(),
                )
            }
        }
    }
    list(&tensor.shape, &tensor.data)
}

/// `y[1, 2]` for a row-major index.
pub(crate) fn element(name: &str, shape: &[usize], mut index: usize) -> String {
    let mut indices = Vec::with_capacity(shape.len());
    for &extent in shape.iter().rev() {
        indices.push((index % extent.max(1)).to_string());
        index /= extent.max(1);
    }
    if indices.is_empty() {
        return name.to_owned();
    }
    indices.reverse();
    format!("{name}[{}]", indices.join(", "))
}

/// Where a result is to be written instead of stdout.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    path: PathBuf,
    kind: TargetKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    Npy,
    Csv,
    Json,
}

/// Reads `NAME=@FILE` for each `--output` and checks that there are such results, and that they fit
/// the files' formats.
pub(crate) fn targets(given: &[String], results: &[(String, usize)]) -> Outcome<Vec<Target>> {
    let mut out: Vec<Target> = Vec::new();
    for text in given {
        let Some((name, path)) = text.split_once("=@") else {
            return Err(Failure::input(format!(
                "--output {text}: write NAME=@FILE, as in y=@y.npy"
            )));
        };
        let Some((_, rank)) = results.iter().find(|(n, _)| n == name) else {
            let known: Vec<String> = results.iter().map(|(n, _)| format!("`{n}`")).collect();
            return Err(Failure::input(format!(
                "--output {text}: there is no result `{name}`: the circuit's are {}",
                known.join(", ")
            )));
        };
        if out.iter().any(|t| t.name == name) {
            return Err(Failure::input(format!("--output {name} is given twice")));
        }
        let path = PathBuf::from(path);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let kind = match extension.to_ascii_lowercase().as_str() {
            "npy" => TargetKind::Npy,
            "csv" => TargetKind::Csv,
            "json" => TargetKind::Json,
            _ => {
                return Err(Failure::input(format!(
                    "--output {text}: use a file name that ends in .npy, .csv or .json"
                )));
            }
        };
        if kind == TargetKind::Csv && *rank > 2 {
            return Err(Failure::input(format!(
                "--output {text}: `{name}` has {rank} dimensions and a .csv two: use .npy or .json"
            )));
        }
        out.push(Target {
            name: name.to_owned(),
            path,
            kind,
        });
    }
    Ok(out)
}

/// Puts the results of the next instances after those of the first.
pub(crate) fn join(all: &mut [Unpacked], next: Vec<Unpacked>) {
    for (all, next) in all.iter_mut().zip(next) {
        if let (Some(n), Some(more)) = (all.value.shape.first_mut(), next.value.shape.first()) {
            *n += more;
        }
        all.value.data.extend(next.value.data);
    }
}

/// Writes the results that have a target and returns the others, as a JSON object.
pub(crate) fn deliver(results: &[Unpacked], targets: &[Target]) -> Outcome<Map<String, Value>> {
    let mut rest = Map::new();
    for result in results {
        match targets.iter().find(|t| t.name == result.name) {
            Some(target) => target.write(&result.value).map_err(Failure::Input)?,
            None => {
                rest.insert(result.name.clone(), nested(&result.value));
            }
        }
    }
    Ok(rest)
}

impl Target {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, tensor: &Tensor64) -> Result<(), String> {
        write_atomically(&self.path, false, |out| match self.kind {
            TargetKind::Npy => npy(tensor, out),
            TargetKind::Csv => csv(tensor, out),
            TargetKind::Json => {
                serde_json::to_writer(&mut *out, &nested(tensor))?;
                out.write_all(b"\n")
            }
        })
    }
}

fn npy(tensor: &Tensor64, out: &mut dyn Write) -> io::Result<()> {
    use npyz::WriterBuilder;
    let shape: Vec<u64> = tensor.shape.iter().map(|n| *n as u64).collect();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(out)
        .begin_nd()?;
    writer.extend(tensor.data.iter().copied())?;
    writer.finish()
}

fn csv(tensor: &Tensor64, out: &mut dyn Write) -> io::Result<()> {
    let columns = match tensor.shape.as_slice() {
        [_, columns] => (*columns).max(1),
        _ => 1,
    };
    for row in tensor.data.chunks(columns) {
        let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nests_by_shape() {
        let t = |shape: &[usize], n: usize| Tensor64 {
            shape: shape.to_vec(),
            data: (0..n).map(|i| i as f64).collect(),
        };
        assert_eq!(nested(&t(&[], 1)).to_string(), "0.0");
        assert_eq!(
            nested(&t(&[2, 3], 6)).to_string(),
            "[[0.0,1.0,2.0],[3.0,4.0,5.0]]"
        );
        assert_eq!(nested(&t(&[0], 0)).to_string(), "[]");
    }

    #[test]
    fn targets_are_checked_before_anything_is_computed() {
        let results = [("y".to_owned(), 1), ("z".to_owned(), 3)];
        let check = |text: &str| match targets(&[text.to_owned()], &results) {
            Ok(_) => String::new(),
            Err(Failure::Input(text)) => text,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(check("y=@out.npy"), "");
        assert!(check("y=out.npy").contains("NAME=@FILE"));
        assert!(check("q=@out.npy").contains("`y`, `z`"));
        assert!(check("y=@out.txt").contains(".npy, .csv or .json"));
        assert!(check("z=@out.csv").contains("3 dimensions"));
    }
}
