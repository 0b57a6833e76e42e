//! `hecc encrypt`: the secret inputs, one file.

use hecc_ckks::Randomness;
use hecc_runtime::{EncryptWith, Wanted, encrypt};
use zeroize::Zeroizing;

use super::keys::{self, Scope};
use super::wire::Inputs;
use crate::args::{EncryptArgs, Format};
use crate::container::Kind;
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::Spinner;
use crate::project::{self, Project, context, digest, insecure};

pub(crate) fn run(args: &EncryptArgs) -> Outcome {
    let project = Project::load(&args.file, Format::Human)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let bindings = project::inputs(&program, &args.input, Wanted::Secret, None)?;
    let context = context(&program)?;
    let mut randomness = Randomness::from_os().map_err(Failure::internal)?;
    let failed = |e| project.failed(&e);
    let spinner = Spinner::new("encrypting");
    let (ciphertexts, id) = match (&args.keys, &args.secret_key) {
        (_, Some(path)) => {
            let (key, id) = keys::secret_key(&scope, &context, path)?;
            let with = EncryptWith::Secret(&key);
            let made = encrypt(&context, &program.circuit, &bindings, with, &mut randomness);
            (made.map_err(failed)?, id)
        }
        (Some(public), None) => {
            let (key, id) = keys::encryption_key(&scope, &context, public)?;
            let with = EncryptWith::Public(&key);
            let made = encrypt(&context, &program.circuit, &bindings, with, &mut randomness);
            (made.map_err(failed)?, id)
        }
        (None, None) => {
            return Err(Failure::input(
                "give --keys DIR/public, or --secret-key FILE",
            ));
        }
    };
    let count = ciphertexts.len();
    let payload = Inputs {
        instances: bindings.instances(),
        ciphertexts,
    }
    .to_bytes(&context)
    .map_err(Failure::internal)?;
    drop(spinner);
    let bytes = scope.write(Kind::Inputs, id, Zeroizing::new(payload), &args.out)?;
    output::print(&format!(
        "wrote {}: {count} ciphertexts, {}\n",
        args.out.display(),
        output::bytes_of_instances(bytes, bindings.instances())
    ))?;
    Ok(Status::Success)
}
