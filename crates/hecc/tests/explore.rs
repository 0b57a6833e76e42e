//! Predictions, objectives and `hecc explore`, by running the binary.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const CIRCUIT: &str = "\
circuit f(x: secret real[8] in [-1, 1], w: secret real[8] in [-1, 1]) -> y: real {
    let s = sum(x * w);
    return s * s * s + s;
}
";

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.hec"), CIRCUIT).unwrap();
        Place(dir)
    }

    fn run(&self, args: &[&str], model: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hecc"));
        command.current_dir(self.0.path()).args(args);
        match model {
            Some(path) => command.env("HECC_COST_MODEL", path),
            None => command.env_remove("HECC_COST_MODEL"),
        };
        command.output().unwrap()
    }

    #[track_caller]
    fn json(&self, args: &[&str], model: Option<&str>) -> Value {
        let out = self.run(args, model);
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{err}");
        serde_json::from_slice(&out.stdout).unwrap()
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], text: &str) {
        let out = self.run(args, None);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{err}");
        assert!(err.contains(text), "no {text:?} in {err}");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }
}

/// The model that ships with every time made `by` times as long.
fn slower(by: f64) -> String {
    let mut model = hecc_params::CostModel::default();
    model.fresh *= by;
    for ring in &mut model.rings {
        let mut value = serde_json::to_value(*ring).unwrap();
        for (name, entry) in value.as_object_mut().unwrap() {
            if ["log_n", "spread", "crowd", "wide"].contains(&name.as_str()) {
                continue;
            }
            if let Some(line) = entry.as_object_mut() {
                for v in line.values_mut() {
                    *v = Value::from(v.as_f64().unwrap() * by);
                }
            } else {
                *entry = Value::from(entry.as_f64().unwrap() * by);
            }
        }
        *ring = serde_json::from_value(value).unwrap();
    }
    model.to_json()
}

#[test]
fn predictions_follow_the_cost_model_and_circuits_do_not() {
    let place = Place::new();
    place.write("slow.json", &slower(3.0));
    let compile = ["compile", "c.hec", "--format", "json"];
    let here = place.json(&compile, None);
    let slow = place.json(&compile, Some("slow.json"));
    for phase in ["keygen", "encrypt", "evaluate", "decrypt"] {
        let of = |v: &Value| v["predicted"]["timings_ms"][phase].as_f64().unwrap();
        assert!(of(&here) > 0.0, "{phase}");
        assert!((of(&slow) / of(&here) - 3.0).abs() < 1e-6, "{phase}");
    }
    assert_eq!(here["digest"], slow["digest"]);
    assert_eq!(
        here["predicted"]["memory_bytes"],
        slow["predicted"]["memory_bytes"]
    );
    let total = here["predicted"]["memory_bytes"].as_u64().unwrap();
    let parts = here["predicted"]["memory"].as_object().unwrap();
    assert_eq!(
        parts.values().map(|v| v.as_u64().unwrap()).sum::<u64>(),
        total
    );
    let ran = place.json(
        &[
            "run", "c.hec", "--random", "--seed", "1", "--format", "json",
        ],
        None,
    );
    assert_eq!(ran["digest"], here["digest"]);
    assert_eq!(
        ran["predicted"]["timings_ms"],
        here["predicted"]["timings_ms"]
    );
}

#[test]
fn a_bad_cost_model_is_refused() {
    let place = Place::new();
    place.write("bad.json", "{\"format\": 1}");
    let compile = ["compile", "c.hec", "--cost-model"];
    place.refuses(&[&compile[..], &["bad.json"]].concat(), "bad.json");
    place.refuses(&[&compile[..], &["none.json"]].concat(), "none.json");
    let out = place.run(&["compile", "c.hec"], Some("bad.json"));
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("HECC_COST_MODEL"));
}

#[test]
fn the_report_says_what_was_gained_and_at_what_price() {
    let place = Place::new();
    let json = place.json(&["compile", "c.hec", "--format", "json"], None);
    assert_eq!(json["objective"], "levels");
    let optimal = json["depth"] == json["depth_lower_bound"] && json["degree_certified"] == true;
    assert_eq!(json["optimal"], optimal);
    let growth = &json["work_growth"];
    assert!(growth["ratio"].as_f64().unwrap() <= growth["limit"].as_f64().unwrap());
    assert_eq!(growth["limit"], 2.0);
    let out = place.run(&["compile", "c.hec"], None);
    let text = String::from_utf8_lossy(&out.stdout);
    for word in ["work growth", "predicted", "gained", "optimal"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
}

#[test]
fn every_point_of_explore_is_what_compile_makes_of_its_name() {
    let place = Place::new();
    let found = place.json(
        &[
            "explore", "c.hec", "--all", "--format", "json", "--plot", "p.svg",
        ],
        None,
    );
    let points = found["points"].as_array().unwrap();
    let front: Vec<&Value> = points.iter().filter(|p| p["front"] == true).collect();
    assert!(points.len() > front.len() && front.len() > 1, "{found}");
    for point in &front {
        let name = point["name"].as_str().unwrap();
        let compiled = place.json(
            &["compile", "c.hec", "--format", "json", "--point", name],
            None,
        );
        assert_eq!(compiled["digest"], point["digest"], "{name}");
        assert_eq!(compiled["predicted"], point["predicted"], "{name}");
        let mut flags = vec!["compile", "c.hec", "--format", "json"];
        flags.extend(point["flags"].as_str().unwrap().split(' '));
        assert_eq!(
            place.json(&flags, None)["digest"],
            point["digest"],
            "{name}"
        );
    }
    // Nothing beats a point of the front, and something beats each of the others.
    let costs = |p: &Value| -> Vec<f64> {
        let params = &p["params"];
        let size = params["ring_degree"].as_f64().unwrap() * params["log_qp"].as_f64().unwrap();
        [
            &p["levels"],
            &p["predicted"]["timings_ms"]["evaluate"],
            &p["width"],
            &p["encrypted_inputs"]["bytes"],
        ]
        .into_iter()
        .map(|v| v.as_f64().unwrap())
        .chain([size])
        .collect()
    };
    for p in points {
        let p_costs = costs(p);
        let beaten = points.iter().any(|q| {
            let q_costs = costs(q);
            q_costs != p_costs && q_costs.iter().zip(&p_costs).all(|(a, b)| a <= b)
        });
        // Of equals one is enough.
        let twin = front.iter().any(|q| *q != p && costs(q) == p_costs);
        if p["front"] == true {
            assert!(!beaten, "{p}");
        } else {
            assert!(beaten || twin, "{p}");
        }
    }
    let picture = fs::read_to_string(place.0.path().join("p.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("evaluation time"));
    for p in points {
        assert!(picture.contains(p["name"].as_str().unwrap()));
    }
}

#[test]
fn attributes_open_further_points() {
    let place = Place::new();
    place.write(
        "more.hec",
        "@precompute(degree = 2, inputs = 4.0)
         circuit sent(x: secret real, y: secret real) -> r: real[2] { return [x * x * y * y + x, x * y * y * y + y]; }
         @batch(64)
         circuit many(x: secret real[3]) -> r: real[2] { return [x[0] + 0.5 * x[1], x[1] - 0.25 * x[2]]; }
        ",
    );
    for (circuit, wanted) in [("sent", ["p100", "p200"]), ("many", ["real", "complex"])] {
        let mut all = vec!["explore", "more.hec", "--circuit", circuit, "--all"];
        all.extend(["--format", "json"]);
        let found = place.json(&all, None);
        let points = found["points"].as_array().unwrap();
        for part in wanted {
            let name = format!("O2.levels.auto.{part}");
            let has = |p: &&Value| {
                let same = p["same"].as_array().unwrap().iter();
                p["name"] == name.as_str() || same.into_iter().any(|s| *s == name.as_str())
            };
            let point = points.iter().find(has);
            let point = point.unwrap_or_else(|| panic!("no {name} in {found}"));
            let mut flags = vec!["compile", "more.hec", "--circuit", circuit];
            flags.extend(["--format", "json", "--point", &name]);
            assert_eq!(
                place.json(&flags, None)["digest"],
                point["digest"],
                "{name}"
            );
        }
    }
    // without a ciphertext more the client sends nothing beside its inputs, with twice as many it does
    let depth = |times: &str| {
        let flags = [
            "compile",
            "more.hec",
            "--circuit",
            "sent",
            "--format",
            "json",
        ];
        place.json(&[&flags[..], &["--precompute", times]].concat(), None)["depth"].clone()
    };
    assert!(depth("1").as_u64() > depth("2").as_u64());
    place.refuses(&["compile", "more.hec", "--precompute", "0.5"], "from 1 up");
}

#[test]
fn what_cannot_be_explored_is_said() {
    let place = Place::new();
    place.refuses(&["explore", "c.hec", "--plot", "p.png"], ".svg");
    place.refuses(
        &["explore", "c.hec", "--circuit", "g"],
        "there is no circuit `g`",
    );
    place.refuses(&["compile", "c.hec", "--point", "O2.fast"], "hecc explore");
    place.refuses(
        &["compile", "c.hec", "--point", "O2.levels.auto", "-O", "1"],
        "cannot be used",
    );
    place.refuses(&["compile", "c.hec", "--max-slots", "100"], "power of two");
}
