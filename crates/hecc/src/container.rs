//! The one container of everything that hecc writes for itself; docs/file-format.md is its reference.
//!
//! A container is a header of [`HEADER_BYTES`] bytes and a payload; files of keys hold one, files of encrypted
//! values one for each batch (`Sequence`). Loading checks, in this order: magic, version, kind, flags,
//! length, checksum of everything. Only then is anything else looked at.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// First bytes of each file. As in PNG, a byte that is no text and both line ends show a file that was mangled on its way.
pub const MAGIC: [u8; 8] = *b"\x89hecc\r\n\x1a";
/// The version this hecc writes, and the only one it reads.
pub const VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 104;
/// Bytes before the checksum, all of which it covers.
const CHECKED_BYTES: usize = 72;
/// Flag of artefacts made under parameters that promise no security.
const FLAG_INSECURE: u32 = 1;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A secret key.
    SecretKey,
    /// An encryption key.
    EncryptionKey,
    /// Evaluation keys.
    EvaluationKeys,
    /// Encrypted inputs.
    Inputs,
    /// Encrypted outputs.
    Outputs,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::SecretKey,
        Kind::EncryptionKey,
        Kind::EvaluationKeys,
        Kind::Inputs,
        Kind::Outputs,
    ];

    fn article(self) -> &'static str {
        match self {
            Kind::EncryptionKey => "an",
            Kind::SecretKey | Kind::EvaluationKeys | Kind::Inputs | Kind::Outputs => "a",
        }
    }

    fn code(self) -> u16 {
        match self {
            Kind::SecretKey => 1,
            Kind::EncryptionKey => 2,
            Kind::EvaluationKeys => 3,
            Kind::Inputs => 4,
            Kind::Outputs => 5,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::SecretKey => "secret key",
            Kind::EncryptionKey => "encryption key",
            Kind::EvaluationKeys => "file of evaluation keys",
            Kind::Inputs => "file of encrypted inputs",
            Kind::Outputs => "file of encrypted outputs",
        })
    }
}

/// blake3 of a compiled circuit with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// As hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Tells one key generation from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub [u8; 16]);

/// A file's contents, or what is to become one. The payload is wiped when dropped: it may be a secret key.
pub struct Container {
    /// What it holds.
    pub kind: Kind,
    /// For which compiled circuit.
    pub digest: Digest,
    /// Of which key generation.
    pub key: KeyId,
    /// Made under parameters that promise no security.
    pub insecure: bool,
    /// The contents.
    pub payload: Zeroizing<Vec<u8>>,
}

/// Shows the header only.
impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("kind", &self.kind)
            .field("digest", &self.digest)
            .field("key", &self.key)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// Why bytes are no intact file of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Fewer bytes than a header.
    #[error("it has {0} bytes, fewer than a header: it was cut short, or is no file of hecc")]
    Short(u64),
    /// The magic is another.
    #[error("it is no file of hecc, or was changed on its way")]
    Magic,
    /// Another version.
    #[error(
        "it has format version {0} and this hecc reads version {VERSION}: write it again with this hecc, or use the hecc that wrote it"
    )]
    Version(u16),
    /// No kind that there is.
    #[error("its header is damaged: copy it again from where it was made")]
    Header,
    /// Another kind.
    #[error("it is {} {found}, and {} {wanted} is needed here", found.article(), wanted.article())]
    Kind {
        /// What it is.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// The length is not what the header says.
    #[error(
        "it has {found} bytes and its header says {wanted}: it was cut short or added to; copy it again from where it was made"
    )]
    Length {
        /// Bytes that are there.
        found: u64,
        /// Bytes that ought to be.
        wanted: u64,
    },
    /// Two containers of one file differ in kind, circuit or key.
    #[error(
        "part {0} of it does not belong to the first: it was put together from several files; give one as it was written"
    )]
    Mixed(usize),
    /// The checksum does not hold.
    #[error(
        "its checksum does not hold: it was damaged or tampered with; copy it again from where it was made"
    )]
    Checksum,
}

impl Container {
    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut h = [0u8; HEADER_BYTES];
        h[0..8].copy_from_slice(&MAGIC);
        h[8..10].copy_from_slice(&VERSION.to_le_bytes());
        h[10..12].copy_from_slice(&self.kind.code().to_le_bytes());
        let flags = if self.insecure { FLAG_INSECURE } else { 0 };
        h[12..16].copy_from_slice(&flags.to_le_bytes());
        h[16..48].copy_from_slice(&self.digest.0);
        h[48..64].copy_from_slice(&self.key.0);
        h[64..72].copy_from_slice(&(self.payload.len() as u64).to_le_bytes());
        let sum = checksum(&h[..CHECKED_BYTES], &self.payload);
        h[CHECKED_BYTES..].copy_from_slice(&sum);
        h
    }

    /// The file as bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + self.payload.len()));
        out.extend_from_slice(&self.header());
        out.extend_from_slice(&self.payload);
        out
    }

    /// Reads a file of this kind and checks all of it.
    ///
    /// # Errors
    /// [`ContainerError`] on anything but an intact file of this kind; never panics.
    pub fn from_bytes(wanted: Kind, bytes: &[u8]) -> Result<Container, ContainerError> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(ContainerError::Short(bytes.len() as u64));
        };
        Container::checked(wanted, header, Zeroizing::new(payload.to_vec()))
    }

    fn checked(
        wanted: Kind,
        header: &[u8; HEADER_BYTES],
        payload: Zeroizing<Vec<u8>>,
    ) -> Result<Container, ContainerError> {
        let Header {
            kind,
            insecure,
            length,
        } = checked_header(header)?;
        if length != payload.len() as u64 {
            return Err(ContainerError::Length {
                found: payload.len() as u64 + HEADER_BYTES as u64,
                wanted: length.saturating_add(HEADER_BYTES as u64),
            });
        }
        if header[CHECKED_BYTES..] != checksum(&header[..CHECKED_BYTES], &payload) {
            return Err(ContainerError::Checksum);
        }
        // Last, so that a damaged kind is not taken for another file's.
        if kind != wanted {
            return Err(ContainerError::Kind {
                found: kind,
                wanted,
            });
        }
        Ok(Container {
            kind,
            digest: Digest(part(header, 16)),
            key: KeyId(part(header, 48)),
            insecure,
            payload,
        })
    }

    /// Reads a file and checks all of it.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(wanted: Kind, path: &Path) -> Result<Container, String> {
        let shown = path.display();
        let unreadable = |e: io::Error| format!("cannot read the {wanted} {shown}: {e}");
        let mut file = File::open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?.len();
        let unusable = |e: ContainerError| format!("{shown} is not usable: {e}");
        let mut header = [0u8; HEADER_BYTES];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(unusable(ContainerError::Short(found)));
            }
            Err(e) => return Err(unreadable(e)),
        }
        // Reserved by what is there, not by what the header says.
        let mut payload = Zeroizing::new(Vec::with_capacity(
            (found as usize).saturating_sub(HEADER_BYTES) + 1,
        ));
        file.read_to_end(&mut payload).map_err(unreadable)?;
        Container::checked(wanted, &header, payload).map_err(unusable)
    }

    /// Writes the file under a temporary name and renames it; readable by its owner alone if it is a secret key.
    ///
    /// # Errors
    /// A sentence that names the file; the old file, or none, is then left.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let secret = self.kind == Kind::SecretKey;
        write_atomically(path, secret, |out| self.write_to(out))
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header())?;
        out.write_all(&self.payload)
    }
}

/// A file of containers one after the other, of one kind, circuit and key, read one at a time.
pub(crate) struct Sequence {
    file: File,
    path: PathBuf,
    wanted: Kind,
    /// Bytes of each payload.
    lengths: Vec<u64>,
    next: usize,
}

impl Sequence {
    /// Opens a file and walks over its headers: all are there, of full length, and belong together.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn open(wanted: Kind, path: &Path) -> Result<Sequence, String> {
        let shown = path.display();
        let unreadable = |e: io::Error| format!("cannot read the {wanted} {shown}: {e}");
        let unusable = |e: ContainerError| format!("{shown} is not usable: {e}");
        let mut file = File::open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?.len();
        let mut lengths = Vec::new();
        let mut at = 0;
        let mut first = None;
        while at < found || at == 0 {
            let left = found - at;
            if left < HEADER_BYTES as u64 {
                return Err(unusable(match at {
                    0 => ContainerError::Short(found),
                    wanted => ContainerError::Length { found, wanted },
                }));
            }
            let mut header = [0u8; HEADER_BYTES];
            file.seek(SeekFrom::Start(at))
                .and_then(|_| file.read_exact(&mut header))
                .map_err(unreadable)?;
            if at > 0 && header[0..8] != MAGIC {
                return Err(unusable(ContainerError::Length { found, wanted: at }));
            }
            let length = checked_header(&header).map_err(unusable)?.length;
            let end = (at + HEADER_BYTES as u64).saturating_add(length);
            if end > found {
                return Err(unusable(ContainerError::Length { found, wanted: end }));
            }
            // Kind, flags, digest and key.
            let same: [u8; 54] = part(&header, 10);
            if *first.get_or_insert(same) != same {
                return Err(unusable(ContainerError::Mixed(lengths.len() + 1)));
            }
            lengths.push(length);
            at = end;
        }
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        Ok(Sequence {
            file,
            path: path.to_path_buf(),
            wanted,
            lengths,
            next: 0,
        })
    }

    /// How many containers there are, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Reads the next container and checks all of it; none after the last one.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn next(&mut self) -> Result<Option<Container>, String> {
        let Some(&length) = self.lengths.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let shown = self.path.display();
        let unreadable = |e: io::Error| format!("cannot read the {} {shown}: {e}", self.wanted);
        let mut header = [0u8; HEADER_BYTES];
        self.file.read_exact(&mut header).map_err(unreadable)?;
        // No more than the file had when its headers were walked over.
        let mut payload = Zeroizing::new(Vec::with_capacity(length as usize));
        (&self.file)
            .take(length)
            .read_to_end(&mut payload)
            .map_err(unreadable)?;
        Container::checked(self.wanted, &header, payload)
            .map(Some)
            .map_err(|e| format!("{shown} is not usable: {e}"))
    }
}

/// Of which key generation a file says it is; none if it is no file of hecc.
pub(crate) fn key_of(path: &Path) -> Option<KeyId> {
    let mut header = [0u8; HEADER_BYTES];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    checked_header(&header).ok()?;
    Some(KeyId(part(&header, 48)))
}

/// What a header says, as far as it makes sense by itself.
struct Header {
    kind: Kind,
    insecure: bool,
    length: u64,
}

fn checked_header(header: &[u8; HEADER_BYTES]) -> Result<Header, ContainerError> {
    if header[0..8] != MAGIC {
        return Err(ContainerError::Magic);
    }
    let version = u16::from_le_bytes(part(header, 8));
    if version != VERSION {
        return Err(ContainerError::Version(version));
    }
    let code = u16::from_le_bytes(part(header, 10));
    let kind = Kind::ALL
        .into_iter()
        .find(|k| k.code() == code)
        .ok_or(ContainerError::Header)?;
    let flags = u32::from_le_bytes(part(header, 12));
    if flags & !FLAG_INSECURE != 0 {
        return Err(ContainerError::Header);
    }
    Ok(Header {
        kind,
        insecure: flags & FLAG_INSECURE != 0,
        length: u64::from_le_bytes(part(header, 64)),
    })
}

fn part<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// A file in the making: under a temporary name until it is complete, so that a killed process leaves the
/// old file or none.
pub(crate) struct AtomicFile {
    file: io::BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
    written: u64,
}

impl AtomicFile {
    /// Starts a file; `secret` makes it unreadable for others from its first byte.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn create(path: &Path, secret: bool) -> Result<AtomicFile, String> {
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        if path.is_dir() {
            return Err(format!(
                "cannot write {}: it is a directory",
                path.display()
            ));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".hecc-").suffix(".part");
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt;
            // Restricted by the umask, as any new file.
            builder.permissions(fs::Permissions::from_mode(if secret {
                0o600
            } else {
                0o666
            }))
        };
        #[cfg(not(unix))]
        let _ = secret;
        let file = builder.tempfile_in(folder).map_err(|e| {
            // The error's own text names the temporary file.
            if folder.is_dir() {
                failed(path, &e)
            } else {
                format!(
                    "cannot write {}: there is no directory {}: make it first",
                    path.display(),
                    folder.display()
                )
            }
        })?;
        Ok(AtomicFile {
            file: io::BufWriter::with_capacity(1 << 20, file),
            path: path.to_path_buf(),
            written: 0,
        })
    }

    /// Adds a container.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn add(&mut self, container: &Container) -> Result<(), String> {
        self.fill(|out| container.write_to(out))?;
        self.written += (HEADER_BYTES + container.payload.len()) as u64;
        Ok(())
    }

    /// Bytes of all containers so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    fn fill(
        &mut self,
        contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), String> {
        contents(&mut self.file).map_err(|e| failed(&self.path, &e))
    }

    /// Gives the file its name, once it is on disk.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn finish(self) -> Result<(), String> {
        let AtomicFile { file, path, .. } = self;
        let file = file.into_inner().map_err(|e| failed(&path, e.error()))?;
        file.as_file().sync_all().map_err(|e| failed(&path, &e))?;
        file.persist(&path).map_err(|e| failed(&path, &e.error))?;
        Ok(())
    }
}

/// The cause alone: the text of the error itself may name the temporary file.
fn failed(path: &Path, error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code).to_string(),
        None => error.kind().to_string(),
    };
    format!("cannot write {}: {cause}", path.display())
}

/// Writes a file so that a killed process leaves the old file or none; `secret` makes it unreadable for others from its first byte.
///
/// # Errors
/// A sentence that names the file.
pub(crate) fn write_atomically(
    path: &Path,
    secret: bool,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), String> {
    let mut file = AtomicFile::create(path, secret)?;
    file.fill(contents)?;
    file.finish()
}

/// Makes a directory and those above it.
///
/// # Errors
/// A sentence that names it.
pub(crate) fn make_directory(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path)
        .map_err(|e| format!("cannot make the directory {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Container {
        Container {
            kind: Kind::Inputs,
            digest: Digest([7; 32]),
            key: KeyId([9; 16]),
            insecure: false,
            payload: Zeroizing::new((0..200u8).collect()),
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let bytes = sample().to_bytes();
        let back = Container::from_bytes(Kind::Inputs, &bytes).unwrap();
        assert_eq!(back.to_bytes(), bytes);
        assert_eq!(
            Container::from_bytes(Kind::Outputs, &bytes).unwrap_err(),
            ContainerError::Kind {
                found: Kind::Inputs,
                wanted: Kind::Outputs
            }
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(
                    Container::from_bytes(Kind::Inputs, &bad).is_err(),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn every_truncation_and_addition_is_noticed() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(Container::from_bytes(Kind::Inputs, &bytes[..length]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(
            Container::from_bytes(Kind::Inputs, &longer),
            Err(ContainerError::Length { .. })
        ));
    }

    #[test]
    fn sequences_are_read_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        let part = |n: u8| Container {
            payload: Zeroizing::new(vec![n; 10 + n as usize]),
            ..sample()
        };
        let write = |parts: &[Container]| {
            let mut file = AtomicFile::create(&path, false).unwrap();
            for p in parts {
                file.add(p).unwrap();
            }
            assert_eq!(
                file.written(),
                parts.iter().map(|p| p.to_bytes().len() as u64).sum::<u64>()
            );
            file.finish().unwrap();
            fs::read(&path).unwrap()
        };
        let bytes = write(&[part(1), part(2), part(3)]);
        let mut found = Sequence::open(Kind::Inputs, &path).unwrap();
        assert_eq!(found.len(), 3);
        for n in 1..4 {
            assert_eq!(found.next().unwrap().unwrap().payload, part(n).payload);
        }
        assert!(found.next().unwrap().is_none());
        // Cut within a part or a header, or added to.
        for length in [0, 50, 114, 150, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                Sequence::open(Kind::Inputs, &path).is_err(),
                "{length} bytes"
            );
        }
        for added in [vec![0; 8], vec![7; 200]] {
            fs::write(&path, [bytes.clone().to_vec(), added].concat()).unwrap();
            assert!(Sequence::open(Kind::Inputs, &path).is_err());
        }
        // A damaged payload is noticed when its part is read.
        let mut bad = bytes.clone();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        fs::write(&path, &bad).unwrap();
        let mut found = Sequence::open(Kind::Inputs, &path).unwrap();
        assert!(found.next().is_ok() && found.next().is_ok() && found.next().is_err());
        // Parts for another key.
        let other = Container {
            key: KeyId([1; 16]),
            ..part(2)
        };
        write(&[part(1), other]);
        let error = Sequence::open(Kind::Inputs, &path).err().unwrap();
        assert!(error.contains("part 2"), "{error}");
    }

    #[test]
    fn secret_keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let key = Container {
            kind: Kind::SecretKey,
            ..sample()
        };
        key.write(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Container::read(Kind::SecretKey, &path).is_ok());
    }
}
