//! How files come in: hecc-lang itself opens none.

use std::io;
use std::path::Path;

/// Where source files and the files of `load(…)` are read from.
///
/// Shared between threads, because checking runs on one with a larger stack.
pub trait FileSystem: Sync {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Whatever keeps it from being read; the message is shown to the user.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}
