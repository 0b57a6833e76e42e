//! `hecc decrypt`: the results, as `hecc run` prints them.

use hecc_runtime::{Unpacked, decrypt, unpack};
use serde_json::{Value, json};

use super::keys::{self, Scope};
use super::wire::Outputs;
use crate::args::{DecryptArgs, Format};
use crate::classify::classify;
use crate::container::Kind;
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
    let file = scope.read(Kind::Outputs, &args.encrypted)?;
    scope.same_key(file.key, id, &args.encrypted)?;
    let unusable =
        |e: String| Failure::input(format!("{} is not usable: {e}", args.encrypted.display()));
    let outputs = Outputs::from_bytes(&context, &file.payload).map_err(unusable)?;
    drop(file);
    let targets = output::targets(&args.output, &result_ranks(&program, outputs.instances))?;
    let ciphertexts: Vec<_> = outputs.ciphertexts.iter().collect();
    let slots = decrypt(&context, &ciphertexts, &key).map_err(|e| project.failed(&e))?;
    let results = unpack(
        &program.circuit.meta,
        &slots,
        &outputs.public,
        outputs.instances,
    )
    .map_err(|e| project.failed(&e))?;
    let classification = args
        .labels
        .as_deref()
        .map(|labels| classify(&results, outputs.instances, &values::labels(labels)?))
        .transpose()
        .map_err(Failure::Input)?;
    let rest = output::deliver(&results, &targets)?;
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
            output::print(&table(&results, &targets))?;
        }
    }
    Ok(Status::Success)
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
