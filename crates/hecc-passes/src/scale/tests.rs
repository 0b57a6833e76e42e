use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::graph::{Builder, Circuit, Interval, NodeId, Real};
use hecc_ir::slots::{
    Coefficient, PackedInput, PlainDef, PlainId, PlainSource, SlotMap, SlotSource, Slots,
    SlotsMeta, SlotsOp,
};
use hecc_ir::span::Span;
use hecc_ir::tensor::CkksOverrides;
use hecc_params::{Level, RotationStep};

use hecc_ir::verify::verify_ckks;

use super::ranges::ckks_ranges;
use super::{ScaleOptions, Scaled, check_headroom, lower, lower_ideal};

const SLOTS: usize = 8;

/// A small language for slots circuits.
struct Make {
    builder: Builder<Slots>,
}

impl Make {
    fn new(inputs: usize, slots: usize, plains: Vec<PlainDef>) -> Make {
        Make::ranged(&vec![Interval::UNIT; inputs], slots, plains)
    }

    fn ranged(ranges: &[Interval], slots: usize, plains: Vec<PlainDef>) -> Make {
        let inputs = ranges
            .iter()
            .enumerate()
            .map(|(i, &range)| PackedInput {
                param: i as u32,
                source: SlotSource::Map(SlotMap((0..slots as u32).collect())),
                range,
                label: format!("x{i}"),
            })
            .collect();
        let meta = SlotsMeta {
            slots,
            plains,
            ..SlotsMeta::default()
        };
        Make {
            builder: Builder::new("test", inputs, meta),
        }
    }

    fn op(&mut self, op: SlotsOp, operands: &[NodeId]) -> NodeId {
        self.builder.push(op, operands, Span::default()).unwrap()
    }
    fn input(&mut self, i: u32) -> NodeId {
        self.op(SlotsOp::Input(i), &[])
    }
    fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.op(SlotsOp::Add, &[a, b])
    }
    fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if a == b {
            return self.op(SlotsOp::Square, &[a]);
        }
        self.op(SlotsOp::Mul, &[a, b])
    }
    fn rotate(&mut self, a: NodeId, k: i32) -> NodeId {
        self.op(SlotsOp::Rotate(RotationStep(k)), &[a])
    }
    fn plain(&mut self, p: u32) -> NodeId {
        self.op(SlotsOp::Plain(PlainId(p)), &[])
    }
    fn comb(&mut self, terms: &[(f64, NodeId)]) -> NodeId {
        let c = terms
            .iter()
            .map(|(c, _)| Coefficient::Const(Real(*c)))
            .collect();
        let operands: Vec<NodeId> = terms.iter().map(|(_, n)| *n).collect();
        self.op(SlotsOp::LinComb(c), &operands)
    }
    fn finish(mut self, outputs: &[NodeId]) -> Circuit<Slots> {
        for &o in outputs {
            self.builder.output(o, ());
        }
        self.builder.finish()
    }
}

fn vector(values: &[f64]) -> PlainDef {
    PlainDef {
        source: PlainSource::Vector(values.into()),
        range: Interval::new(
            values.iter().copied().fold(f64::INFINITY, f64::min),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ),
    }
}

fn uniform(value: f64) -> PlainDef {
    PlainDef {
        source: PlainSource::Uniform(value),
        range: Interval::new(value, value),
    }
}

/// Most rescales on a path.
fn levels(circuit: &Circuit<Ckks>) -> u32 {
    let mut at = vec![0u32; circuit.graph.len()];
    for id in circuit.graph.ids() {
        let deepest = circuit
            .graph
            .operands(id)
            .iter()
            .map(|o| at[o.index()])
            .max()
            .unwrap_or(0);
        let own = matches!(circuit.graph.op(id), CkksOp::Rescale { .. });
        at[id.index()] = deepest + u32::from(own);
    }
    circuit
        .outputs
        .iter()
        .map(|(o, _)| at[o.index()])
        .max()
        .unwrap_or(0)
}

fn count(circuit: &Circuit<Ckks>, which: impl Fn(&CkksOp) -> bool) -> usize {
    circuit
        .graph
        .ids()
        .filter(|&id| which(circuit.graph.op(id)))
        .count()
}

fn coefficient(c: Coefficient, plains: &[PlainDef]) -> f64 {
    match c {
        Coefficient::Const(v) => v.0,
        Coefficient::Plain(p) => match &plains[p.0 as usize].source {
            PlainSource::Uniform(v) => *v,
            PlainSource::Vector(v) => v[0],
            PlainSource::Public { .. } => panic!("no public program here"),
        },
    }
}

fn plain_values(p: PlainId, meta: &SlotsMeta) -> Vec<f64> {
    match &meta.plains[p.0 as usize].source {
        PlainSource::Uniform(v) => vec![*v; meta.slots],
        PlainSource::Vector(v) => v.to_vec(),
        PlainSource::Public { .. } => panic!("no public program here"),
    }
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect()
}

fn turned(a: &[f64], k: i32) -> Vec<f64> {
    let n = a.len();
    (0..n)
        .map(|i| a[(i as i64 + i64::from(k)).rem_euclid(n as i64) as usize])
        .collect()
}

fn eval_slots(circuit: &Circuit<Slots>, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let meta = &circuit.meta;
    let mut at: Vec<Vec<f64>> = Vec::new();
    for id in circuit.graph.ids() {
        let o = circuit.graph.operands(id);
        let v = |i: usize| &at[o[i].index()];
        let value = match circuit.graph.op(id) {
            SlotsOp::Input(i) => inputs[*i as usize].clone(),
            SlotsOp::Plain(p) => plain_values(*p, meta),
            SlotsOp::Add => zip(v(0), v(1), |x, y| x + y),
            SlotsOp::Sub => zip(v(0), v(1), |x, y| x - y),
            SlotsOp::Neg => v(0).iter().map(|x| -x).collect(),
            SlotsOp::Mul => zip(v(0), v(1), |x, y| x * y),
            SlotsOp::Square => v(0).iter().map(|x| x * x).collect(),
            SlotsOp::LinComb(c) => (0..meta.slots)
                .map(|s| {
                    c.iter()
                        .enumerate()
                        .map(|(i, c)| coefficient(*c, &meta.plains) * v(i)[s])
                        .sum()
                })
                .collect(),
            SlotsOp::Rotate(k) => turned(v(0), k.0),
            SlotsOp::Conjugate | SlotsOp::TimesI => panic!("these circuits are real"),
        };
        at.push(value);
    }
    circuit
        .outputs
        .iter()
        .map(|(o, _)| at[o.index()].clone())
        .collect()
}

/// Evaluates with integers where the engine multiplies by integers: a wrong scale shows.
fn eval_ckks(circuit: &Circuit<Ckks>, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let meta = &circuit.meta;
    // What a ciphertext encodes: value · scale, in f64; additions take it as it is.
    let mut at: Vec<Vec<f64>> = Vec::new();
    for id in circuit.graph.ids() {
        let o = circuit.graph.operands(id);
        let v = |i: usize| &at[o[i].index()];
        let scale = circuit.graph.ty(id).scale().0;
        let round = |c: Coefficient, by: f64| {
            let x = coefficient(c, &meta.plains) * by;
            if x.abs() < 2f64.powi(52) {
                x.round()
            } else {
                x
            }
        };
        let value = match circuit.graph.op(id) {
            CkksOp::Input(i) => {
                let param = circuit.inputs[*i as usize].packed.param as usize;
                inputs[param].iter().map(|x| x * scale).collect()
            }
            CkksOp::Encode { plain, .. } => plain_values(*plain, meta)
                .iter()
                .map(|x| x * scale)
                .collect(),
            CkksOp::Add => zip(v(0), v(1), |x, y| x + y),
            CkksOp::Sub => zip(v(0), v(1), |x, y| x - y),
            CkksOp::Neg => v(0).iter().map(|x| -x).collect(),
            CkksOp::Mul => zip(v(0), v(1), |x, y| x * y),
            CkksOp::Square => v(0).iter().map(|x| x * x).collect(),
            CkksOp::AddScalar(c) => {
                let c = coefficient(*c, &meta.plains) * scale;
                v(0).iter().map(|x| x + c).collect()
            }
            CkksOp::MulScalar { value, scale: by } => {
                let c = round(*value, by.0);
                v(0).iter().map(|x| x * c).collect()
            }
            CkksOp::LinComb {
                coefficients,
                scale: by,
            } => (0..meta.slots)
                .map(|s| {
                    coefficients
                        .iter()
                        .enumerate()
                        .map(|(i, c)| round(*c, by.0) * v(i)[s])
                        .sum()
                })
                .collect(),
            CkksOp::Rotate(k) => turned(v(0), k.0),
            CkksOp::Conjugate | CkksOp::TimesI => panic!("these circuits are real"),
            CkksOp::Relinearize | CkksOp::DropLevel(_) => v(0).clone(),
            CkksOp::Rescale { prime } => v(0).iter().map(|x| x / *prime as f64).collect(),
        };
        at.push(value);
    }
    circuit
        .outputs
        .iter()
        .map(|(o, _)| {
            let scale = circuit.graph.ty(*o).scale().0;
            at[o.index()].iter().map(|x| x / scale).collect()
        })
        .collect()
}

/// The verifier's law, headroom, and what is meant beyond both.
fn check_laws(scaled: &Scaled) {
    let c = &scaled.circuit;
    let violations: Vec<String> = verify_ckks(c, Some(&scaled.parameters))
        .iter()
        // These circuits have no results to unpack.
        .map(ToString::to_string)
        .collect();
    assert!(violations.is_empty(), "{violations:?}");
    check_headroom(c, &ckks_ranges(c), &scaled.parameters).unwrap();
    for id in c.graph.ids() {
        if let CkksOp::Rescale { prime } = c.graph.op(id) {
            let from = c.graph.ty(c.graph.operands(id)[0]).level();
            assert_eq!(*prime, scaled.parameters.q()[from.0 as usize], "{id}");
        }
        assert!(c.graph.ty(id).level() <= scaled.parameters.max_level());
    }
    for (o, _) in &c.outputs {
        match *c.graph.ty(*o) {
            CkksType::Cipher { degree, .. } => assert_eq!(degree, 1),
            CkksType::Plain { .. } => panic!("a plaintext is sent back"),
        }
    }
    let tops = c
        .graph
        .ids()
        .map(|id| c.graph.ty(id).level())
        .max()
        .unwrap_or(Level(0));
    assert_eq!(tops, scaled.parameters.max_level(), "no limb is idle");
}

fn some_inputs(n: usize, slots: usize, seed: u64) -> Vec<Vec<f64>> {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| (0..slots).map(|_| rng.random_range(-1.0..=1.0)).collect())
        .collect()
}

fn check(circuit: &Circuit<Slots>) -> Scaled {
    let scaled = lower(circuit, &ScaleOptions::default()).unwrap();
    check_against(circuit, &scaled);
    scaled
}

fn check_against(circuit: &Circuit<Slots>, scaled: &Scaled) {
    check_laws(scaled);
    let inputs = some_inputs(circuit.inputs.len(), circuit.meta.slots, 7);
    let want = eval_slots(circuit, &inputs);
    let got = eval_ckks(&scaled.circuit, &inputs);
    let bound = (-scaled.precision_bits).exp2();
    for (w, g) in want.iter().zip(&got) {
        for (x, y) in w.iter().zip(g) {
            assert!((x - y).abs() <= bound, "{x} {y}, bound {bound:e}");
        }
    }
    assert_eq!(levels(&lower_ideal(circuit)), levels(&scaled.circuit));
}

#[test]
fn a_quartic_takes_two_levels_and_a_small_ring() {
    let mut m = Make::new(1, 1024, vec![uniform(2.0)]);
    let x = m.input(0);
    let x2 = m.mul(x, x);
    let x4 = m.mul(x2, x2);
    let two = m.plain(0);
    let y = m.add(x4, two);
    let s = check(&m.finish(&[y]));
    assert_eq!(levels(&s.circuit), 2);
    assert_eq!(s.parameters.log_n().0, 13);
    assert!(s.parameters.log_qp() <= 214.0);
    assert!(s.precision_bits > 17.0, "{}", s.precision_bits);
    assert!(
        s.parameters
            .q()
            .iter()
            .chain(s.parameters.p())
            .all(|q| *q < 1 << 50)
    );
}

#[test]
fn fifteen_squarings_keep_their_scale() {
    let mut m = Make::new(1, 8, vec![]);
    let mut x = m.input(0);
    for _ in 0..15 {
        x = m.mul(x, x);
    }
    let s = check(&m.finish(&[x]));
    assert_eq!(levels(&s.circuit), 15);
    for id in s.circuit.graph.ids() {
        if let CkksOp::Rescale { .. } = s.circuit.graph.op(id) {
            let scale = s.circuit.graph.ty(id).scale().0;
            let drift = scale / f64::from(s.scale_bits).exp2() - 1.0;
            assert!(drift.abs() < 1e-4, "{drift:e}");
        }
    }
}

#[test]
fn constants_that_can_be_absorbed_cost_no_level() {
    // 0.04 t²
    let mut m = Make::new(1, SLOTS, vec![]);
    let x = m.input(0);
    let x2 = m.mul(x, x);
    let y = m.comb(&[(0.04, x2)]);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 1);
    // 3x² + 5x − 2
    let mut m = Make::new(1, SLOTS, vec![uniform(-2.0)]);
    let x = m.input(0);
    let x2 = m.mul(x, x);
    let y = m.comb(&[(3.0, x2), (5.0, x)]);
    let c = m.plain(0);
    let y = m.add(y, c);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 1);
    // mean
    let mut m = Make::new(5, SLOTS, vec![]);
    let xs: Vec<_> = (0..5).map(|i| (0.2, m.input(i))).collect();
    let y = m.comb(&xs);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 0);
    // 0.5 + 0.15012 x − 0.001593 x³: depth 2.
    let mut m = Make::new(1, SLOTS, vec![uniform(0.5)]);
    let x = m.input(0);
    let x2 = m.mul(x, x);
    let x3 = m.mul(x2, x);
    let y = m.comb(&[(0.15012, x), (-0.001593, x3)]);
    let c = m.plain(0);
    let y = m.add(y, c);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 2);
    // 2.2138 d − 1.0984 d² + 0.1725 d³
    let mut m = Make::new(1, SLOTS, vec![]);
    let x = m.input(0);
    let x2 = m.mul(x, x);
    let x3 = m.mul(x2, x);
    let y = m.comb(&[(2.2138, x), (-1.0984, x2), (0.1725, x3)]);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 2);
    // 0.3 x² + 0.7 xy has no unit beyond a tenth, 0.31415 x² + 0.27183 xy has none at all.
    let mut m = Make::new(2, SLOTS, vec![]);
    let x = m.input(0);
    let z = m.input(1);
    let x2 = m.mul(x, x);
    let xz = m.mul(x, z);
    let y = m.comb(&[(0.3, x2), (0.7, xz)]);
    let w = m.comb(&[(0.314159265, x2), (0.271828182, xz)]);
    let circuit = m.finish(&[y, w]);
    let s = check(&circuit);
    assert_eq!(levels(&s.circuit), 2);
}

#[test]
fn variance_takes_two_levels_at_most() {
    let mut m = Make::new(1, SLOTS, vec![]);
    let x = m.input(0);
    let ladder = |m: &mut Make, mut v: NodeId| {
        for k in [4, 2, 1] {
            let r = m.rotate(v, k);
            v = m.add(v, r);
        }
        v
    };
    let x2 = m.mul(x, x);
    let s2 = ladder(&mut m, x2);
    let s1 = ladder(&mut m, x);
    let mean = m.comb(&[(1.0 / 8.0, s1)]);
    let mean2 = m.mul(mean, mean);
    let y = m.comb(&[(1.0 / 8.0, s2), (-1.0, mean2)]);
    assert_eq!(levels(&check(&m.finish(&[y])).circuit), 1);
}

#[test]
fn a_sum_of_products_is_relinearized_once() {
    let mut m = Make::new(16, SLOTS, vec![]);
    let mut sum = None;
    for i in 0..8 {
        let (a, b) = (m.input(2 * i), m.input(2 * i + 1));
        let p = m.mul(a, b);
        sum = Some(match sum {
            None => p,
            Some(s) => m.add(s, p),
        });
    }
    let s = check(&m.finish(&[sum.unwrap()]));
    assert_eq!(count(&s.circuit, |o| matches!(o, CkksOp::Relinearize)), 1);
    assert_eq!(
        count(&s.circuit, |o| matches!(o, CkksOp::Rescale { .. })),
        1
    );
    assert_eq!(levels(&s.circuit), 1);
}

#[test]
fn public_weights_need_no_special_primes() {
    let mut m = Make::new(4, SLOTS, vec![uniform(0.25)]);
    let xs: Vec<_> = [0.123_456_789, -0.777_111_111, 0.314_159_265, 0.999_333_777]
        .iter()
        .enumerate()
        .map(|(i, w)| (*w, m.input(i as u32)))
        .collect();
    let y = m.comb(&xs);
    let b = m.plain(0);
    let y = m.add(y, b);
    let s = check(&m.finish(&[y]));
    assert_eq!(levels(&s.circuit), 1);
    assert!(s.parameters.p().is_empty());
    assert_eq!(s.parameters.log_n().0, 12);
}

#[test]
fn ranges_that_explode_are_reported() {
    let mut m = Make::ranged(&[Interval::new(-10.0, 10.0)], SLOTS, vec![]);
    let mut x = m.input(0);
    for _ in 0..7 {
        x = m.mul(x, x);
    }
    let e = lower(&m.finish(&[x]), &ScaleOptions::default()).unwrap_err();
    assert_eq!(e.code, "E3001");
}

#[test]
fn large_ranges_get_room() {
    for hi in [100.0, 30000.0, 1e6, 1e9] {
        let mut m = Make::ranged(&[Interval::new(0.0, hi)], SLOTS, vec![vector(&[0.5; 8])]);
        let x = m.input(0);
        let x2 = m.mul(x, x);
        let y = m.add(x2, x);
        let circuit = m.finish(&[y]);
        let s = lower(&circuit, &ScaleOptions::default()).unwrap();
        check_laws(&s);
    }
}

#[test]
fn what_is_too_deep_is_said_to_be() {
    let mut m = Make::new(1, SLOTS, vec![]);
    let mut x = m.input(0);
    for _ in 0..200 {
        x = m.mul(x, x);
    }
    let circuit = m.finish(&[x]);
    let e = lower(&circuit, &ScaleOptions::default()).unwrap_err();
    assert_eq!(e.code, "E3002");
    assert_eq!(levels(&lower_ideal(&circuit)), 200);
}

#[test]
fn overrides_hold_or_are_refused() {
    let circuit = || {
        let mut m = Make::new(1, SLOTS, vec![]);
        let x = m.input(0);
        let y = m.mul(x, x);
        m.finish(&[y])
    };
    let with = |o: CkksOverrides| {
        lower(
            &circuit(),
            &ScaleOptions {
                overrides: o,
                ..ScaleOptions::default()
            },
        )
    };
    let s = with(CkksOverrides {
        scale_bits: Some(30),
        security: Some(0),
        ring: Some(1024),
    })
    .unwrap();
    assert_eq!(s.parameters.log_n().0, 10);
    assert_eq!(s.warnings[0].code, "W3001");
    let small = CkksOverrides {
        ring: Some(2048),
        ..CkksOverrides::default()
    };
    assert_eq!(with(small).unwrap_err().code, "E3002");
    let odd = CkksOverrides {
        ring: Some(3000),
        ..CkksOverrides::default()
    };
    assert_eq!(with(odd).unwrap_err().code, "E3003");
}

/// A random circuit over a few inputs, its magnitudes kept in hand by declared ranges.
fn random(seed: u64) -> Circuit<Slots> {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mask: Vec<f64> = (0..SLOTS).map(|i| f64::from(i as u32 % 3) * 0.5).collect();
    let mut m = Make::new(3, SLOTS, vec![vector(&mask), uniform(0.375)]);
    let mut pool: Vec<(NodeId, u32)> = (0..3).map(|i| (m.input(i), 0)).collect();
    for _ in 0..rng.random_range(3..25) {
        let a = pool[rng.random_range(0..pool.len())];
        let b = pool[rng.random_range(0..pool.len())];
        let c = [0.04, 3.0, -1.0, 0.25, 1.37, -0.625, 1.0, 0.0][rng.random_range(0..8)];
        let d = [0.3, -2.0, 1.0, 0.1234567][rng.random_range(0..4)];
        let (node, depth) = match rng.random_range(0..9) {
            0 | 1 if a.1.max(b.1) < 5 => (m.mul(a.0, b.0), a.1.max(b.1) + 1),
            2 => (m.add(a.0, b.0), a.1.max(b.1)),
            3 => (m.op(SlotsOp::Sub, &[a.0, b.0]), a.1.max(b.1)),
            4 => (m.comb(&[(c, a.0), (d, b.0)]), a.1.max(b.1) + 1),
            5 => (m.comb(&[(c, a.0)]), a.1),
            6 => (m.rotate(a.0, rng.random_range(-7..8)), a.1),
            7 if a.1 < 5 => {
                let p = m.plain(0);
                (m.op(SlotsOp::Mul, &[a.0, p]), a.1 + 1)
            }
            _ => {
                let p = m.plain(rng.random_range(0..2));
                let op = if rng.random_bool(0.5) {
                    SlotsOp::Add
                } else {
                    SlotsOp::Sub
                };
                (m.op(op, &[a.0, p]), a.1)
            }
        };
        // A tame coefficient keeps values in range without a declaration.
        pool.push((node, depth));
    }
    let outputs: Vec<NodeId> = pool.iter().rev().take(2).map(|p| p.0).collect();
    m.finish(&outputs)
}

/// Most multiplications that must rescale on a path, and that plus those by rational constants.
fn level_bounds(circuit: &Circuit<Slots>) -> (u32, u32) {
    let graph = &circuit.graph;
    let mut at: Vec<(u32, u32)> = Vec::new();
    for id in graph.ids() {
        let operands = graph.operands(id);
        let (low, high) = operands.iter().fold((0, 0), |a, o| {
            let b: (u32, u32) = at[o.index()];
            (a.0.max(b.0), a.1.max(b.1))
        });
        let whole = |c: &Coefficient| coefficient(*c, &circuit.meta.plains).fract() == 0.0;
        at.push(match graph.op(id) {
            SlotsOp::Mul | SlotsOp::Square => (low + 1, high + 1),
            SlotsOp::LinComb(c) if !c.iter().all(whole) => (low, high + 1),
            _ => (low, high),
        });
    }
    let of = |f: fn(&(u32, u32)) -> u32| {
        circuit
            .outputs
            .iter()
            .map(|(o, _)| f(&at[o.index()]))
            .max()
            .unwrap_or(0)
    };
    (of(|x| x.0), of(|x| x.1))
}

#[test]
fn levels_are_the_least_there_can_be() {
    let mut whole = 0;
    for seed in 0..400 {
        let circuit = random(seed);
        let (low, high) = level_bounds(&circuit);
        let got = levels(&lower_ideal(&circuit));
        assert!(got <= high, "seed {seed}: {got} levels, at most {high}");
        if low == high {
            whole += 1;
            // A factor of zero may cut a path off.
            assert!(got <= low, "seed {seed}: {got} levels, not {low}");
        }
    }
    assert!(whole > 50, "{whole}");
}

#[test]
fn random_circuits_mean_the_same_before_and_after() {
    let mut compiled = 0;
    for seed in 0..300 {
        let circuit = random(seed);
        match lower(&circuit, &ScaleOptions::default()) {
            Ok(s) => {
                println!("seed {seed}");
                check_against(&circuit, &s);
                compiled += 1;
            }
            Err(e) => assert!(
                matches!(e.code, "E3001" | "E3002"),
                "seed {seed}: {} {}",
                e.code,
                e.message
            ),
        }
    }
    assert!(compiled > 250, "{compiled}");
}

#[test]
fn sums_of_products_are_relinearized_and_rescaled_once_each() {
    let mut m = Make::new(4, SLOTS, vec![]);
    let squares: Vec<NodeId> = (0..4)
        .map(|i| {
            let x = m.input(i);
            m.mul(x, x)
        })
        .collect();
    let weights: [[f64; 4]; 2] = [[0.3, 0.17, -0.41, 0.9], [0.2, -0.71, 0.13, 0.05]];
    let sums: Vec<NodeId> = weights
        .iter()
        .map(|w| {
            let terms: Vec<(f64, NodeId)> = w
                .iter()
                .map(|w| w.sin())
                .zip(squares.iter().copied())
                .collect();
            m.comb(&terms)
        })
        .collect();
    let scaled = check(&m.finish(&sums));
    let relinearizations = count(&scaled.circuit, |op| *op == CkksOp::Relinearize);
    let rescales = count(&scaled.circuit, |op| matches!(op, CkksOp::Rescale { .. }));
    assert_eq!((relinearizations, rescales), (2, 4));
}

#[test]
fn trials_keep_to_declared_ranges() {
    // 64·x is declared to stay within [-1, 1], and is squared three times.
    let make = |declare: bool| {
        let mut m = Make::new(1, SLOTS, vec![]);
        let x = m.input(0);
        let mut y = m.comb(&[(64.0, x)]);
        if declare {
            m.builder.declare(y, Interval::UNIT);
        }
        for _ in 0..3 {
            y = m.mul(y, y);
        }
        m.finish(&[y])
    };
    let kept = lower(&make(true), &ScaleOptions::default()).unwrap();
    let free = lower(&make(false), &ScaleOptions::default()).unwrap();
    // d(64x)^8/dx is 512 times as large at 1 as what the declaration allows at its end.
    assert!(
        kept.precision_bits > 20.0 && kept.precision_bits > free.precision_bits + 20.0,
        "{} {}",
        kept.precision_bits,
        free.precision_bits
    );
    let again = lower(&make(true), &ScaleOptions::default()).unwrap();
    assert_eq!(
        kept.precision_bits.to_bits(),
        again.precision_bits.to_bits()
    );
}

#[test]
fn the_precision_that_is_asked_for_decides_the_scale() {
    let mut m = Make::new(2, SLOTS, vec![]);
    let (x, y) = (m.input(0), m.input(1));
    let mut z = m.mul(x, y);
    z = m.mul(z, z);
    let circuit = m.finish(&[z]);
    let mut before: Option<Scaled> = None;
    for bits in [4.0, 9.5, 18.0, 26.0] {
        let options = ScaleOptions {
            target_bits: bits,
            asked: true,
            ..ScaleOptions::default()
        };
        let scaled = lower(&circuit, &options).unwrap();
        check_against(&circuit, &scaled);
        assert!(scaled.precision_bits >= bits, "{bits}");
        assert!(scaled.warnings.is_empty());
        if let Some(before) = &before {
            assert!(scaled.parameters.log_qp() >= before.parameters.log_qp());
            assert!(scaled.parameters.log_n() >= before.parameters.log_n());
        }
        before = Some(scaled);
    }
    // No ring has so much; what there is comes with a warning.
    let options = ScaleOptions {
        target_bits: 60.0,
        asked: true,
        ..ScaleOptions::default()
    };
    let most = lower(&circuit, &options).unwrap();
    assert_eq!(most.warnings[0].code, "W3002");
    assert!(most.precision_bits > before.unwrap().precision_bits);
}

/// The fewest relinearizations that a lowered circuit can do with, by trying all sets of places.
fn fewest_relinearizations(circuit: &Circuit<Ckks>) -> Option<usize> {
    let graph = &circuit.graph;
    let live = circuit.live();
    // The degree of every node with relinearizations at `cut` alone; `None` where one is missing.
    let works = |cut: &dyn Fn(NodeId) -> bool| {
        let mut quadratic = vec![false; graph.len()];
        for id in graph.ids().filter(|id| live[id.index()]) {
            let operands = graph.operands(id);
            let any = operands.iter().any(|o| quadratic[o.index()]);
            let mut is = any;
            match graph.op(id) {
                CkksOp::Mul if matches!(graph.ty(operands[1]), CkksType::Cipher { .. }) => {
                    if any {
                        return None;
                    }
                    is = true;
                }
                CkksOp::Square => {
                    if any {
                        return None;
                    }
                    is = true;
                }
                CkksOp::Mul
                | CkksOp::Rotate(_)
                | CkksOp::Conjugate
                | CkksOp::TimesI
                | CkksOp::Rescale { .. }
                | CkksOp::DropLevel(_) => {
                    if any {
                        return None;
                    }
                }
                CkksOp::Input(_)
                | CkksOp::Encode { .. }
                | CkksOp::Add
                | CkksOp::Sub
                | CkksOp::Neg
                | CkksOp::AddScalar(_)
                | CkksOp::MulScalar { .. }
                | CkksOp::LinComb { .. }
                | CkksOp::Relinearize => {}
            }
            quadratic[id.index()] = is && !cut(id);
        }
        let ends = circuit.outputs.iter();
        ends.clone()
            .all(|(id, ())| !quadratic[id.index()])
            .then_some(())
    };
    // Where a third polynomial can be.
    let places: Vec<NodeId> = graph
        .ids()
        .filter(|id| {
            let relinearize = matches!(graph.op(*id), CkksOp::Relinearize);
            let second = matches!(graph.ty(*id), CkksType::Cipher { degree: 2, .. });
            live[id.index()]
                && (second
                    || relinearize
                    || graph
                        .operands(*id)
                        .iter()
                        .any(|o| matches!(graph.op(*o), CkksOp::Relinearize)))
        })
        .collect();
    if places.len() > 13 {
        return None;
    }
    (0..1u32 << places.len())
        .filter(|mask| {
            let cut = |id: NodeId| {
                let at = places.iter().position(|p| *p == id);
                at.is_some_and(|at| mask >> at & 1 == 1)
            };
            works(&cut).is_some()
        })
        .map(|mask| mask.count_ones() as usize)
        .min()
}

#[test]
fn no_placement_has_fewer_relinearizations() {
    let mut tried = 0;
    let mut several = 0;
    for seed in 0..400u64 {
        let mut random = hecc_ir::random::SplitMix64::new(seed);
        let mut m = Make::new(3, SLOTS, vec![]);
        let mut pool: Vec<NodeId> = (0..3).map(|i| m.input(i)).collect();
        let mut products = Vec::new();
        for _ in 0..1 + random.below(3) {
            let (a, b) = (random.below(3), random.below(3));
            products.push(m.mul(pool[a], pool[b]));
        }
        for _ in 0..2 + random.below(4) {
            let a = products[random.below(products.len())];
            let b = match random.one_in(4) {
                true => pool[random.below(pool.len())],
                false => products[random.below(products.len())],
            };
            if a != b {
                let sum = m.comb(&[(1.0, a), ((1 + random.below(3)) as f64, b)]);
                products.push(sum);
            }
        }
        let last = products.len();
        for _ in 0..random.below(3) {
            let at = random.below(last);
            pool.push(m.rotate(products[at], 1));
        }
        let outputs: Vec<NodeId> = products
            .iter()
            .rev()
            .take(3)
            .copied()
            .chain(pool[3..].iter().copied())
            .collect();
        let circuit = m.finish(&outputs);
        let ranges = super::ranges::slots_ranges(&circuit);
        let plan = super::plan::plan(&circuit, &ranges);
        let chain = super::emit::Chain::ideal(40, plan.depth);
        let (emitted, _) = super::emit::emit(&circuit, &plan, &chain, 0);
        let live = emitted.live();
        let found = emitted
            .graph
            .ids()
            .filter(|id| live[id.index()] && *emitted.graph.op(*id) == CkksOp::Relinearize)
            .count();
        if let Some(least) = fewest_relinearizations(&emitted) {
            tried += 1;
            several += usize::from(least > 1);
            assert_eq!(found, least, "seed {seed}");
        }
    }
    assert!(
        tried > 100 && several > 30,
        "{tried} tried, {several} with several"
    );
}

#[test]
fn two_products_of_many_sums_are_relinearized_themselves() {
    let mut m = Make::new(3, SLOTS, vec![]);
    let (x, y, z) = (m.input(0), m.input(1), m.input(2));
    let (p, q) = (m.mul(x, y), m.mul(y, z));
    let outputs: Vec<NodeId> = (1..5)
        .map(|k| {
            let sum = m.comb(&[(1.0, p), (f64::from(k), q)]);
            m.rotate(sum, k)
        })
        .collect();
    let circuit = m.finish(&outputs);
    let ranges = super::ranges::slots_ranges(&circuit);
    let plan = super::plan::plan(&circuit, &ranges);
    let chain = super::emit::Chain::ideal(40, plan.depth);
    let (emitted, _) = super::emit::emit(&circuit, &plan, &chain, 0);
    assert_eq!(count(&emitted, |op| *op == CkksOp::Relinearize), 2);
}

/// Rescales and relinearizations.
fn moved(circuit: &Circuit<Ckks>) -> (usize, usize) {
    let rescales = count(circuit, |op| matches!(op, CkksOp::Rescale { .. }));
    (rescales, count(circuit, |op| *op == CkksOp::Relinearize))
}

#[test]
fn products_that_are_added_to_what_is_rescaled_are_rescaled_together() {
    let mut m = Make::new(4, SLOTS, vec![]);
    let x: Vec<NodeId> = (0..4).map(|i| m.input(i)).collect();
    let p = m.mul(x[0], x[3]);
    let turned = m.rotate(p, 1);
    let [a, b, c] = [(0, 1), (2, 3), (1, 2)].map(|(i, j)| m.mul(x[i], x[j]));
    let sum = m.comb(&[(1.0, a), (1.0, b), (1.0, c), (1.0, turned)]);
    let scaled = check(&m.finish(&[sum]));
    assert_eq!(moved(&scaled.circuit), (2, 2));
    assert_eq!(levels(&scaled.circuit), 1);
}

#[test]
fn products_of_more_sums_are_rescaled_themselves() {
    let mut m = Make::new(4, SLOTS, vec![]);
    let x: Vec<NodeId> = (0..4).map(|i| m.input(i)).collect();
    let p: [NodeId; 3] = [(0, 1), (2, 3), (0, 3)].map(|(i, j)| m.mul(x[i], x[j]));
    let mut terms = Vec::new();
    for (i, j) in [(0, 1), (1, 2), (0, 2)] {
        let sum = m.comb(&[(1.0, p[i]), (1.0, p[j])]);
        let difference = m.comb(&[(1.0, p[i]), (-1.0, p[j])]);
        terms.push((1.0, m.mul(sum, difference)));
    }
    let sum = m.comb(&terms);
    let scaled = check(&m.finish(&[sum]));
    assert_eq!(moved(&scaled.circuit), (4, 4));
    assert_eq!(levels(&scaled.circuit), 2);
}

/// The fewest values of rank 2 that are to be rescaled, by trying all sets: products come in rank 2, sums
/// take what they are given, rotations and results ask for rank 1.
fn fewest_rescales(circuit: &Circuit<Slots>) -> Option<usize> {
    let graph = &circuit.graph;
    let live = circuit.live();
    let places: Vec<NodeId> = graph
        .ids()
        .filter(|id| {
            let carries = !matches!(graph.op(*id), SlotsOp::Input(_) | SlotsOp::Rotate(_));
            live[id.index()] && carries
        })
        .collect();
    if places.len() > 13 {
        return None;
    }
    let works = |mask: u32| {
        let mut second = vec![false; graph.len()];
        for id in graph.ids().filter(|id| live[id.index()]) {
            let operands = graph.operands(id);
            let any = operands.iter().any(|o| second[o.index()]);
            let here = match graph.op(id) {
                SlotsOp::Input(_) => false,
                SlotsOp::Rotate(_) if any => return false,
                SlotsOp::Rotate(_) => false,
                SlotsOp::LinComb(_) => any,
                _ => true,
            };
            let at = places.iter().position(|p| *p == id);
            second[id.index()] = here && at.is_none_or(|at| mask >> at & 1 == 0);
        }
        circuit.outputs.iter().all(|(o, ())| !second[o.index()])
    };
    (0..1u32 << places.len())
        .filter(|mask| works(*mask))
        .map(u32::count_ones)
        .min()
        .map(|n| n as usize)
}

#[test]
fn no_placement_has_fewer_rescales() {
    let (mut tried, mut fewer) = (0, 0);
    for seed in 0..400u64 {
        let mut random = hecc_ir::random::SplitMix64::new(seed);
        let mut m = Make::new(3, SLOTS, vec![]);
        let inputs: Vec<NodeId> = (0..3).map(|i| m.input(i)).collect();
        let mut pool: Vec<NodeId> = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (a, b) = (random.below(3), random.below(3));
            pool.push(m.mul(inputs[a], inputs[b]));
        }
        for _ in 0..2 + random.below(6) {
            let (a, b) = (random.below(pool.len()), random.below(pool.len()));
            if random.one_in(3) {
                pool.push(m.rotate(pool[a], 1 + b as i32 % 7));
            } else if pool[a] != pool[b] {
                let weight = (1 + random.below(3)) as f64;
                pool.push(m.comb(&[(1.0, pool[a]), (weight, pool[b])]));
            }
        }
        let circuit = m.finish(&pool[pool.len().saturating_sub(4)..]);
        let ranges = super::ranges::slots_ranges(&circuit);
        let before = super::plan::lazy_plan(&circuit, &ranges);
        let after = super::retime::fewest(&circuit, &before).unwrap_or_else(|| before.clone());
        let [was, found] = [&before, &after].map(super::retime::rescales);
        assert_eq!(after.depth, before.depth, "seed {seed}");
        if let Some(least) = fewest_rescales(&circuit) {
            tried += 1;
            fewer += usize::from(found < was);
            assert_eq!(found, least, "seed {seed}, {was} before");
        }
    }
    assert!(
        tried > 200 && fewer > 20,
        "{tried} tried, {fewer} with fewer"
    );
}
