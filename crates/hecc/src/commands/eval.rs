//! `hecc eval`: the circuit on encrypted inputs, without any secret key.

use std::sync::Arc;

use hecc_ckks::Ciphertext;
use hecc_runtime::{
    CkksBackend, CkksValue, Fusion, Schedule, Wanted, evaluation_keys_needed, execute,
    resolve_plains,
};
use zeroize::Zeroizing;

use super::keys::{self, Scope};
use super::wire::{Inputs, Outputs};
use crate::args::{EvalArgs, Format};
use crate::container::Kind;
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::Bar;
use crate::project::{self, Project, context, digest, insecure};

pub(crate) fn run(args: &EvalArgs) -> Outcome {
    let project = Project::load(&args.file, Format::Human)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let public = project::inputs(&program, &args.input, Wanted::Public, None)?;
    let context = context(&program)?;
    let (evaluation, id) = keys::evaluation_keys(&scope, &context, &args.keys)?;
    let needed = evaluation_keys_needed(&program.circuit, program.parameters.log_n());
    refuse_missing_keys(&evaluation, &needed)?;
    let file = scope.read(Kind::Inputs, &args.encrypted)?;
    scope.same_key(file.key, id, &args.encrypted)?;
    let inputs = Inputs::from_bytes(&context, &file.payload)
        .map_err(|e| Failure::input(format!("{} is not usable: {e}", args.encrypted.display())))?;
    drop(file);
    let most = program.circuit.meta.batch.map_or(0, |b| b as usize);
    if inputs.instances.is_some_and(|n| n > most) {
        return Err(Failure::input(format!(
            "{} holds more instances than the circuit takes: encrypt the inputs again",
            args.encrypted.display()
        )));
    }
    let bindings = public
        .with_instances(inputs.instances)
        .map_err(Failure::input)?;
    let failed = |e| project.failed(&e);
    let plains = resolve_plains(&program, &bindings).map_err(failed)?;
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    let backend = CkksBackend::new(
        &context,
        &program.circuit,
        &plains,
        &evaluation,
        inputs.ciphertexts,
    )
    .map_err(failed)?;
    let bar = Bar::new("evaluating");
    let execution = execute(&program.circuit, &schedule, &backend, &|done, total| {
        bar.at(done, total);
    })
    .map_err(failed)?;
    drop(bar);
    let ciphertexts: Outcome<Vec<Ciphertext>> = execution
        .outputs
        .into_iter()
        .map(|value| match Arc::unwrap_or_clone(value) {
            CkksValue::Cipher(c) => Ok(c),
            CkksValue::Plain(_) => Err(Failure::internal("a result is a plaintext")),
        })
        .collect();
    let outputs = Outputs {
        instances: bindings.instances(),
        ciphertexts: ciphertexts?,
        public: plains.public().to_vec(),
    };
    let payload = Zeroizing::new(outputs.to_bytes(&context).map_err(Failure::internal)?);
    let bytes = scope.write(Kind::Outputs, id, payload, &args.out)?;
    output::print(&format!(
        "wrote {}: {} ciphertexts, {}\n",
        args.out.display(),
        outputs.ciphertexts.len(),
        output::bytes_of_instances(bytes, outputs.instances)
    ))?;
    Ok(Status::Success)
}

fn refuse_missing_keys(
    keys: &hecc_ckks::EvaluationKeys,
    needed: &hecc_ckks::EvaluationKeyRequest,
) -> Outcome<()> {
    let relinearization = needed
        .relinearization
        .is_none_or(|level| keys.relinearization().is_some_and(|k| k.level() >= level));
    let galois = needed.galois.iter().all(|(element, level)| {
        keys.galois()
            .get(element)
            .is_some_and(|k| k.level() >= *level)
    });
    if relinearization && galois {
        Ok(())
    } else {
        Err(Failure::input(
            "the evaluation keys lack a key that the circuit needs: generate keys for this circuit with `hecc keygen`",
        ))
    }
}
