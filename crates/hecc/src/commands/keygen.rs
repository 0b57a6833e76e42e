//! `hecc keygen`: a secret key, and the public keys that the circuit needs.

use std::path::Path;

use hecc_ckks::Randomness;
use hecc_runtime::evaluation_keys_needed;
use zeroize::Zeroizing;

use super::keys::{self, PUBLIC, SECRET_KEY, Scope};
use crate::args::{Format, KeygenArgs};
use crate::container::{Kind, make_directory};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::Spinner;
use crate::project::{Project, context, digest, insecure};

pub(crate) fn run(args: &KeygenArgs) -> Outcome {
    let secret_path = keys::secret_key_path(&args.out);
    refuse_overwriting(&secret_path, args.force)?;
    let project = Project::load(&args.file, Format::Human)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let spinner = Spinner::new("generating keys");
    let context = context(&program)?.parallel(true);
    let mut randomness = Randomness::from_os().map_err(Failure::internal)?;
    let secret = context.secret_key(&mut randomness);
    let encryption = context
        .public_key(&secret, &mut randomness)
        .map_err(Failure::internal)?;
    let request = evaluation_keys_needed(&program.circuit, program.parameters.log_n());
    let evaluation = context
        .evaluation_keys(&secret, &request, &mut randomness)
        .map_err(Failure::internal)?;
    drop(spinner);

    let public = args.out.join(PUBLIC);
    make_directory(&public).map_err(Failure::Input)?;
    let secret = Zeroizing::new(secret.to_bytes(&context).map_err(Failure::internal)?);
    let encryption = Zeroizing::new(encryption.to_bytes(&context).map_err(Failure::internal)?);
    let id = keys::key_id(&encryption);
    // Again, as time has passed; and the secret key first, as the others are worth nothing without it.
    refuse_overwriting(&secret_path, args.force)?;
    let secret_bytes = scope.write(Kind::SecretKey, id, secret, &secret_path)?;
    let encryption_path = keys::encryption_key_path(&public);
    let encryption_bytes = scope.write(Kind::EncryptionKey, id, encryption, &encryption_path)?;
    let evaluation_path = keys::evaluation_keys_path(&public);
    let evaluation_bytes = scope.write(
        Kind::EvaluationKeys,
        id,
        Zeroizing::new(evaluation.to_bytes(&context).map_err(Failure::internal)?),
        &evaluation_path,
    )?;
    let what = format!(
        "evaluation keys: {} for relinearization, {} for rotations",
        usize::from(evaluation.relinearization().is_some()),
        evaluation.galois().len()
    );
    let row = |path: &Path, bytes: u64, what: &str| {
        vec![
            path.display().to_string(),
            output::bytes(bytes),
            what.to_owned(),
        ]
    };
    output::print(&output::table(
        &["wrote", "size", "what"],
        vec![
            row(
                &secret_path,
                secret_bytes,
                "secret key: keep it to yourself",
            ),
            row(&encryption_path, encryption_bytes, "encryption key"),
            row(&evaluation_path, evaluation_bytes, &what),
        ],
        &[1],
    ))?;
    Ok(Status::Success)
}

fn refuse_overwriting(path: &Path, force: bool) -> Outcome<()> {
    if force || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "{} exists: without that {SECRET_KEY}, what was encrypted for it cannot be decrypted any more; \
         choose another --out, or overwrite it with --force",
        path.display()
    )))
}
