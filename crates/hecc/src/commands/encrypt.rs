//! `hecc encrypt`: the secret inputs, one file, a batch at a time.

use hecc_ckks::{PublicKey, Randomness, SecretKey};
use hecc_runtime::{EncryptWith, Wanted, encrypt};
use zeroize::Zeroizing;

use super::keys::{self, Scope};
use super::wire::{Inputs, Share};
use crate::args::{EncryptArgs, Format};
use crate::container::{AtomicFile, Kind};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::{Spinner, batch_label};
use crate::project::{Batches, Project, context, digest, insecure};

/// Either key encrypts.
enum Key {
    Secret(SecretKey),
    Public(PublicKey),
}

pub(crate) fn run(args: &EncryptArgs) -> Outcome {
    if args.keys.is_none() && args.secret_key.is_none() {
        return Err(Failure::input(
            "give a key: --keys DIR/public, or --secret-key DIR/secret.key, which makes the file half the size",
        ));
    }
    let project = Project::load(&args.file, Format::Human)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let batches = Batches::read(&program, &args.input, Wanted::Secret, None)?;
    let context = context(&program)?;
    let mut randomness = Randomness::from_os().map_err(Failure::internal)?;
    let (key, id) = match (&args.secret_key, &args.keys) {
        (Some(path), _) => {
            let (key, id) = keys::secret_key(&scope, &context, path)?;
            (Key::Secret(key), id)
        }
        (None, Some(public)) => {
            let (key, id) = keys::encryption_key(&scope, &context, public)?;
            (Key::Public(key), id)
        }
        (None, None) => return Err(Failure::internal("no key to encrypt with")),
    };
    let mut file = AtomicFile::create(&args.out, false).map_err(Failure::Input)?;
    let mut ciphertexts = 0;
    for at in 0..batches.len() {
        let spinner = Spinner::new(batch_label("encrypting", at, batches.len()));
        let bindings = batches.get(at)?;
        let with = match &key {
            Key::Secret(key) => EncryptWith::Secret(key),
            Key::Public(key) => EncryptWith::Public(key),
        };
        let inputs = Inputs {
            share: batches
                .range(at)
                .zip(batches.instances)
                .map(|((first, count), total)| Share {
                    count,
                    first,
                    total,
                }),
            ciphertexts: encrypt(&context, &program.circuit, &bindings, with, &mut randomness)
                .map_err(|e| project.failed(&e))?,
        };
        ciphertexts += inputs.ciphertexts.len();
        let payload = Zeroizing::new(inputs.to_bytes(&context).map_err(Failure::internal)?);
        file.add(&scope.container(Kind::Inputs, id, payload))
            .map_err(Failure::Input)?;
        drop(spinner);
    }
    let bytes = file.written();
    file.finish().map_err(Failure::Input)?;
    output::print(&format!(
        "wrote {}: {ciphertexts} ciphertexts, {}\n",
        args.out.display(),
        output::bytes_of_instances(bytes, batches.instances, batches.len())
    ))?;
    Ok(Status::Success)
}
