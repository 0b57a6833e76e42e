//! `hecc decrypt`: the results, as `hecc run` prints them, a batch at a time.

use hecc_runtime::{Unpacked, decrypt, unpack};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::keys::{self, Scope};
use super::wire::{Outputs, Shares};
use crate::args::{DecryptArgs, Format};
use crate::classify::classify;
use crate::container::{Kind, Sequence};
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, Target};
use crate::project::{Project, context, digest, insecure, result_ranks};
use crate::values;

/// How many elements of a result a table shows.
const SHOWN: usize = 16;

pub(crate) fn run(args: &DecryptArgs) -> Outcome {
    let project = Project::load(&args.file, args.format)?;
    let (program, _) = project.program(&args.choice)?;
    let scope = Scope {
        digest: digest(&program),
        insecure: insecure(&program),
    };
    let context = context(&program)?;
    let (key, id) = keys::secret_key(&scope, &context, &args.secret_key)?;
    let unusable =
        |e: String| Failure::input(format!("{} is not usable: {e}", args.encrypted.display()));
    let mut file = Sequence::open(Kind::Outputs, &args.encrypted).map_err(Failure::Input)?;
    let most = program.circuit.meta.batch.map_or(0, |b| b as usize);
    let mut shares = Shares::default();
    let mut all: Option<(Wiped, Vec<Target>)> = None;
    while let Some(part) = file.next().map_err(Failure::Input)? {
        scope.check(&part, &args.encrypted)?;
        scope.same_key(part.key, id, &args.encrypted)?;
        let outputs = Outputs::from_bytes(&context, &part.payload).map_err(unusable)?;
        shares.take(outputs.share, most).map_err(unusable)?;
        let instances = outputs.share.map(|s| s.count);
        if all.is_none() {
            let targets = output::targets(&args.output, &result_ranks(&program, instances))?;
            all = Some((Wiped::default(), targets));
        }
        let ciphertexts: Vec<_> = outputs.ciphertexts.iter().collect();
        let slots = decrypt(&context, &program.circuit, &ciphertexts, &key)
            .map_err(|e| project.failed(&e))?;
        let slots = Zeroizing::new(slots);
        let meta = &program.circuit.meta;
        let results =
            unpack(meta, &slots, &outputs.public, instances).map_err(|e| project.failed(&e))?;
        match &mut all {
            Some((all, _)) if !all.0.is_empty() => output::join(&mut all.0, results),
            Some((all, _)) => all.0 = results,
            None => {}
        }
    }
    let Some((results, targets)) = all else {
        return Err(Failure::internal("the file holds no batch"));
    };
    let instances = shares.end().map_err(unusable)?;
    let results = &results.0;
    let classification = args
        .labels
        .as_deref()
        .map(|labels| classify(results, instances, &values::labels(labels)?))
        .transpose()
        .map_err(Failure::Input)?;
    let rest = output::deliver(results, &targets)?;
    match args.format {
        Format::Json => {
            let mut value = json!({ "outputs": Value::Object(rest) });
            if let Some(found) = &classification {
                value["labels"] = found.json();
            }
            output::print_json(&value)?;
        }
        Format::Human => {
            if let Some(found) = &classification {
                output::print(&format!("{}\n\n{}\n", found.summary(), found.table()))?;
            }
            output::print(&table(results, &targets))?;
        }
    }
    Ok(Status::Success)
}

/// Decrypted results, overwritten when they are no longer needed.
#[derive(Default)]
struct Wiped(Vec<Unpacked>);

impl Drop for Wiped {
    fn drop(&mut self) {
        for result in &mut self.0 {
            result.value.data.zeroize();
        }
    }
}

fn table(results: &[Unpacked], targets: &[Target]) -> String {
    let mut rows = Vec::new();
    for result in results {
        if let Some(target) = targets.iter().find(|t| t.name == result.name) {
            rows.push(vec![
                result.name.clone(),
                format!("written to {}", target.path().display()),
            ]);
            continue;
        }
        for (i, value) in result.value.data.iter().take(SHOWN).enumerate() {
            rows.push(vec![
                output::element(&result.name, &result.value.shape, i),
                format!("{value:.9}"),
            ]);
        }
        let more = result.value.data.len().saturating_sub(SHOWN);
        if more > 0 {
            rows.push(vec![
                result.name.clone(),
                format!(
                    "… {more} more: --format json or --output {}=@FILE",
                    result.name
                ),
            ]);
        }
    }
    output::table(&["output", "value"], rows, &[])
}
