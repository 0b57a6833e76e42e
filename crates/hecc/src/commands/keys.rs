//! Keys on disk: `DIR/secret.key`, `DIR/public/encryption.key`, `DIR/public/evaluation.key`.

use std::path::{Path, PathBuf};

use hecc_ckks::{Context, EvaluationKeys, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::container::{Container, Digest, KeyId, Kind, key_of};
use crate::exit::{Failure, Outcome};

/// Of the secret key, in a key directory.
pub(crate) const SECRET_KEY: &str = "secret.key";
/// The directory of public keys, in a key directory.
pub(crate) const PUBLIC: &str = "public";
const ENCRYPTION_KEY: &str = "encryption.key";
const EVALUATION_KEYS: &str = "evaluation.key";

/// For which circuit and parameters files are read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) digest: Digest,
    pub(crate) insecure: bool,
}

impl Scope {
    /// Reads a file, all of it checked, and refuses one that belongs to another circuit.
    pub(crate) fn read(&self, kind: Kind, path: &Path) -> Outcome<Container> {
        let container = Container::read(kind, path).map_err(Failure::Input)?;
        self.check(&container, path)?;
        Ok(container)
    }

    /// Refuses what belongs to another circuit.
    pub(crate) fn check(&self, container: &Container, path: &Path) -> Outcome<()> {
        if container.digest != self.digest {
            return Err(Failure::input(format!(
                "{} belongs to another circuit, other parameters or another -O or --layout than the ones given: \
                 give the FILE, --circuit, -O and --layout that it was made with, or make it again for these",
                path.display()
            )));
        }
        if container.insecure != self.insecure {
            return Err(Failure::input(format!(
                "{} was made under other security than this circuit has: make it again",
                path.display()
            )));
        }
        Ok(())
    }

    /// Wraps a payload for this circuit.
    pub(crate) fn container(
        &self,
        kind: Kind,
        key: KeyId,
        payload: Zeroizing<Vec<u8>>,
    ) -> Container {
        Container {
            kind,
            digest: self.digest,
            key,
            insecure: self.insecure,
            payload,
        }
    }

    /// Writes a file for this circuit.
    pub(crate) fn write(
        &self,
        kind: Kind,
        key: KeyId,
        payload: Zeroizing<Vec<u8>>,
        path: &Path,
    ) -> Outcome<u64> {
        let container = self.container(kind, key, payload);
        container.write(path).map_err(Failure::Input)?;
        Ok(container.payload.len() as u64 + crate::container::HEADER_BYTES as u64)
    }

    /// Refuses a file of another key generation.
    pub(crate) fn same_key(&self, found: KeyId, wanted: KeyId, path: &Path) -> Outcome<()> {
        if found == wanted {
            return Ok(());
        }
        Err(Failure::input(format!(
            "{} belongs to another key generation: use the keys that `hecc keygen` wrote together, \
             and encrypt the inputs again for them",
            path.display()
        )))
    }
}

/// The id of a key generation: a hash of its encryption key.
pub(crate) fn key_id(encryption_key: &[u8]) -> KeyId {
    let mut hasher = blake3::Hasher::new_derive_key("hecc 1 key id");
    hasher.update(encryption_key);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    KeyId(id)
}

/// Where the secret key of a directory is.
pub(crate) fn secret_key_path(dir: &Path) -> PathBuf {
    dir.join(SECRET_KEY)
}

/// Where the encryption key of a directory of public keys is.
pub(crate) fn encryption_key_path(public: &Path) -> PathBuf {
    public.join(ENCRYPTION_KEY)
}

/// Where the evaluation keys of a directory of public keys are.
pub(crate) fn evaluation_keys_path(public: &Path) -> PathBuf {
    public.join(EVALUATION_KEYS)
}

/// The directory of public keys that is meant: that of `hecc keygen --out DIR` is `DIR/public`.
fn public_directory(given: &Path) -> PathBuf {
    let holds_keys = |dir: &Path| {
        [encryption_key_path(dir), evaluation_keys_path(dir)]
            .iter()
            .any(|key| key.exists())
    };
    let inner = given.join(PUBLIC);
    if !holds_keys(given) && holds_keys(&inner) {
        return inner;
    }
    given.to_path_buf()
}

/// Refuses a directory whose keys were not generated together; what of them is missing or damaged is told
/// when it is needed.
fn same_generation(public: &Path) -> Outcome<()> {
    let ids = [encryption_key_path(public), evaluation_keys_path(public)].map(|p| key_of(&p));
    if let [Some(a), Some(b)] = ids
        && a != b
    {
        return Err(Failure::input(format!(
            "the keys in {} do not belong together: {ENCRYPTION_KEY} and {EVALUATION_KEYS} are of different key generations; \
             take both from one run of `hecc keygen`",
            public.display()
        )));
    }
    Ok(())
}

fn unusable(path: &Path) -> impl Fn(hecc_ckks::Error) -> Failure + '_ {
    move |e| Failure::input(format!("{} is not usable: {e}", path.display()))
}

/// Reads a secret key.
pub(crate) fn secret_key(
    scope: &Scope,
    context: &Context,
    path: &Path,
) -> Outcome<(SecretKey, KeyId)> {
    let file = scope.read(Kind::SecretKey, path)?;
    let key = SecretKey::from_bytes(context, &file.payload).map_err(unusable(path))?;
    Ok((key, file.key))
}

/// Reads the encryption key of a directory of public keys.
pub(crate) fn encryption_key(
    scope: &Scope,
    context: &Context,
    public: &Path,
) -> Outcome<(PublicKey, KeyId)> {
    let public = &public_directory(public);
    same_generation(public)?;
    let path = encryption_key_path(public);
    let file = scope.read(Kind::EncryptionKey, &path)?;
    scope.same_key(file.key, key_id(&file.payload), &path)?;
    let key = PublicKey::from_bytes(context, &file.payload).map_err(unusable(&path))?;
    Ok((key, file.key))
}

/// Reads the evaluation keys of a directory of public keys.
pub(crate) fn evaluation_keys(
    scope: &Scope,
    context: &Context,
    public: &Path,
) -> Outcome<(EvaluationKeys, KeyId)> {
    let public = &public_directory(public);
    same_generation(public)?;
    let path = evaluation_keys_path(public);
    let file = scope.read(Kind::EvaluationKeys, &path)?;
    let keys = EvaluationKeys::from_bytes(context, &file.payload).map_err(unusable(&path))?;
    Ok((keys, file.key))
}
