//! What tests of the binary share.

use std::path::Path;
use std::process::Command;

/// Runs the binary in a directory: its exit status, stdout and stderr.
pub(crate) fn hecc(dir: &Path, args: &[&str]) -> (i32, String, String) {
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
