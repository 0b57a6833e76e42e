//! `hecc eval`: the circuit on encrypted inputs, a batch at a time, without any secret key.

use std::sync::Arc;

use hecc_ckks::{Ciphertext, Context, EvaluationKeys};
use hecc_ir::program::Program;
use hecc_runtime::{
    Bindings, CkksBackend, CkksValue, Fusion, Schedule, Wanted, evaluation_keys_needed, execute,
    resolve_plains,
};
use zeroize::Zeroizing;

use super::keys::{self, Scope};
use super::wire::{Inputs, Outputs, Share, Shares};
use crate::args::{EvalArgs, Format};
use crate::container::{AtomicFile, Kind, Sequence};
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::{Bar, batch_label};
use crate::project::{Batches, Project, context, digest, insecure};

pub(crate) fn run(args: &EvalArgs) -> Outcome {
    let project = Project::load(&args.file, Format::Human)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let public = Batches::read(&program, &args.input, Wanted::Public, None)?;
    let context = context(&program)?;
    let (evaluation, id) = keys::evaluation_keys(&scope, &context, &args.keys)?;
    let needed = evaluation_keys_needed(&program.circuit, program.parameters.log_n());
    refuse_missing_keys(&evaluation, &needed)?;
    let unusable =
        |e: String| Failure::input(format!("{} is not usable: {e}", args.encrypted.display()));
    let mut input = Sequence::open(Kind::Inputs, &args.encrypted).map_err(Failure::Input)?;
    let mut file = AtomicFile::create(&args.out, false).map_err(Failure::Input)?;
    let schedule = Schedule::new(&program.circuit, Fusion::On);
    let most = program.circuit.meta.batch.map_or(0, |b| b as usize);
    let mut shares = Shares::default();
    let mut ciphertexts = 0;
    let count = input.len();
    for number in 0..count {
        let Some(part) = input.next().map_err(Failure::Input)? else {
            return Err(Failure::internal("a batch is gone"));
        };
        scope.check(&part, &args.encrypted)?;
        scope.same_key(part.key, id, &args.encrypted)?;
        let inputs = Inputs::from_bytes(&context, &part.payload).map_err(unusable)?;
        drop(part);
        shares.take(inputs.share, most).map_err(unusable)?;
        let bindings = values(&public, inputs.share)?;
        let bar = Bar::new(batch_label("evaluating", number, count));
        let outputs = evaluate(
            &project,
            &program,
            &context,
            &evaluation,
            &schedule,
            &bindings,
            inputs,
            &bar,
        )?;
        drop(bar);
        ciphertexts += outputs.ciphertexts.len();
        let payload = Zeroizing::new(outputs.to_bytes(&context).map_err(Failure::internal)?);
        file.add(&scope.container(Kind::Outputs, id, payload))
            .map_err(Failure::Input)?;
    }
    let instances = shares.end().map_err(unusable)?;
    let bytes = file.written();
    file.finish().map_err(Failure::Input)?;
    output::print(&format!(
        "wrote {}: {ciphertexts} ciphertexts, {}\n",
        args.out.display(),
        output::bytes_of_instances(bytes, instances, count)
    ))?;
    Ok(Status::Success)
}

/// The public values that go with a batch of encrypted ones.
fn values(public: &Batches<'_>, share: Option<Share>) -> Outcome<Bindings> {
    match (public.instances, share) {
        (Some(here), Some(there)) if here != there.total => Err(Failure::input(format!(
            "the public inputs have {here} instances and the encrypted ones {}: give as many, or one that goes with all",
            there.total
        ))),
        (Some(_), Some(share)) => public.cut(Some((share.first, share.count))),
        (None, share) => public
            .cut(None)?
            .with_instances(share.map(|s| s.count))
            .map_err(Failure::input),
        (Some(here), None) => Err(Failure::input(format!(
            "the public inputs have {here} instances, and the encrypted ones are one without an axis for them"
        ))),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "all that a batch is evaluated with"
)]
fn evaluate(
    project: &Project,
    program: &Program,
    context: &Context,
    keys: &EvaluationKeys,
    schedule: &Schedule,
    bindings: &Bindings,
    inputs: Inputs,
    bar: &Bar,
) -> Outcome<Outputs> {
    let failed = |e| project.failed(&e);
    let circuit = &program.circuit;
    let plains = resolve_plains(program, bindings).map_err(failed)?;
    let share = inputs.share;
    let backend =
        CkksBackend::new(context, circuit, &plains, keys, inputs.ciphertexts).map_err(failed)?;
    let progress = |done, total| bar.at(done, total);
    let execution = execute(circuit, schedule, &backend, &progress).map_err(failed)?;
    let ciphertexts: Outcome<Vec<Ciphertext>> = execution
        .outputs
        .into_iter()
        .map(|value| match Arc::unwrap_or_clone(value) {
            CkksValue::Cipher(c) => Ok(c),
            CkksValue::Plain(_) => Err(Failure::internal("a result is a plaintext")),
        })
        .collect();
    Ok(Outputs {
        share,
        ciphertexts: ciphertexts?,
        public: plains.public().to_vec(),
    })
}

fn refuse_missing_keys(
    keys: &EvaluationKeys,
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
