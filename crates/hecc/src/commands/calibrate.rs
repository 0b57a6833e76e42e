//! `hecc calibrate`: the times of this machine, beside those that ship.

use hecc_params::{CostModel, RingCost, Switch};
use serde_json::{Value, json};

use crate::args::{CalibrateArgs, Format};
use crate::calibrate::calibrate;
use crate::container::write_atomically;
use crate::exit::{Failure, Outcome, Status};
use crate::output;
use crate::progress::Bar;

pub(crate) fn run(args: &CalibrateArgs) -> Outcome {
    let bar = Bar::new("measuring the engine".to_owned());
    let model = calibrate(
        args.quick,
        hecc_runtime::threads(),
        output::processor(),
        &|done, total| bar.at(done, total),
    )?;
    drop(bar);
    if let Some(path) = &args.out {
        write_atomically(path, false, |out| out.write_all(model.to_json().as_bytes()))
            .map_err(Failure::Input)?;
    }
    let shipped = CostModel::shipped();
    match args.format {
        Format::Human => {
            output::print(&table(&model, shipped))?;
            match &args.out {
                Some(path) => anstream::eprintln!(
                    "hecc: wrote {}: give it with --cost-model, or set HECC_COST_MODEL to it",
                    path.display()
                ),
                None => anstream::eprintln!("hecc: nothing is kept: --out FILE writes the model"),
            }
        }
        Format::Json => {
            let written = serde_json::to_value(&model).map_err(Failure::internal)?;
            let rings: Vec<Value> = model
                .rings
                .iter()
                .map(|ring| {
                    let typical: Vec<Value> = typical(ring)
                        .into_iter()
                        .zip(typical(&shipped.ring(ring.log_n)))
                        .map(|((name, here), (_, there))| {
                            json!({ "operation": name, "microseconds": here, "shipped": there, "ratio": here / there })
                        })
                        .collect();
                    json!({ "ring_degree": ring.log_n.degree(), "operations": typical })
                })
                .collect();
            output::print_json(&json!({ "model": written, "compared": rings }))?;
        }
    }
    Ok(Status::Success)
}

/// Limbs and special primes of a key switch that is typical of a ring.
fn size(ring: &RingCost) -> Switch {
    let special = match ring.log_n.0 {
        ..=13 => 1,
        14 => 2,
        15 => 4,
        _ => 6,
    };
    let limbs = match ring.log_n.0 {
        ..=12 => 2,
        13 => 4,
        14 => 7,
        15 => 14,
        _ => 24,
    };
    Switch {
        limbs,
        special,
        digit_limbs: special,
    }
}

/// Whole operations, in microseconds.
fn typical(ring: &RingCost) -> Vec<(&'static str, f64)> {
    let s = size(ring);
    vec![
        ("add", ring.add.at(s.limbs)),
        ("multiply", ring.mul.at(s.limbs)),
        ("multiply by plaintext", ring.mul_plain.at(s.limbs)),
        ("rescale", ring.rescale.at(s.limbs)),
        ("relinearize and rescale", ring.relinearize_rescale(s)),
        ("rotate", ring.key_switch(s)),
        ("8 rotations", ring.rotations(s, 8)),
        ("sum of 8 rotations", ring.rotation_sum(s, 8, 8)),
        ("encode", ring.encode(s.limbs, ring.log_n.slots())),
        ("encrypt", ring.encrypt.at(s.limbs)),
        ("decrypt and decode", ring.decrypt.at(1) + ring.decode.at(1)),
        ("one key", ring.key(s)),
    ]
}

fn table(model: &CostModel, shipped: &CostModel) -> String {
    let mut out = format!("{}, {} threads\n", model.machine, model.threads);
    for ring in &model.rings {
        let there = shipped.ring(ring.log_n);
        let s = size(ring);
        out.push_str(&format!(
            "\nN = {}, {} limbs, {} special primes; all threads on one operation: {:.2} of its time, one each: {:.2}\n",
            ring.log_n.degree(),
            s.limbs,
            s.special,
            ring.spread_over(1.0, model.threads as usize),
            ring.crowd
        ));
        let rows = typical(ring)
            .into_iter()
            .zip(typical(&there))
            .map(|((name, here), (_, there))| {
                vec![
                    name.to_owned(),
                    output::duration(here * 1e-6),
                    output::duration(there * 1e-6),
                    format!("{:.2}", here / there),
                ]
            })
            .collect();
        out.push_str(&output::table(
            &["operation", "here", "shipped", "ratio"],
            rows,
            &[1, 2, 3],
        ));
    }
    out
}
