//! Parameter selection: the smallest ring that is secure and precise enough.

use hecc_ir::ckks::{Ckks, CkksOp, CkksType};
use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Interval, NodeId};
use hecc_ir::slots::Slots;
use hecc_ir::span::Span;
use hecc_ir::tensor::CkksOverrides;
use hecc_params::{
    CostModel, FAST_BITS, LogN, MAX_LOG_N, MIN_LOG_N, Parameters, ParametersLiteral, RingCost,
    Scale, Security, Switch, max_log_qp, ntt_prime_nearest, ntt_primes_below,
};

use super::emit::{Chain, emit};
use super::estimate::Model;
use super::plan::Plan;
use super::ranges::{ckks_ranges, slots_ranges};
use super::sink::sink_rescales;
use super::trials::{Point, precision_bits};
use crate::pipeline::Objective;

/// The scale that is tried first, in bits.
pub(crate) const USUAL_SCALE: u32 = 40;
/// Most bits of any prime that is chosen here.
const MOST_BITS: u32 = 60;

/// Part of the best time so far that a choice of more special primes must stay below: the model of
/// times does not tell smaller differences.
const FEWER_PRIMES_WORTH: f64 = 0.9;
/// Least scale that is tried.
const LEAST_SCALE: u32 = 22;

/// What parameter selection is asked for.
#[derive(Clone, Debug)]
pub struct ScaleOptions {
    /// `@ckks(…)`.
    pub overrides: CkksOverrides,
    /// Bits of precision that the outputs should have.
    pub target_bits: f64,
    /// Whether the author named that precision: then the smallest scale that reaches it is taken.
    pub asked: bool,
    /// Where the precision is tried; empty for anywhere within the ranges of the inputs.
    pub points: Vec<Point>,
    /// The circuit's place, for messages.
    pub span: Span,
    /// Work and time take the ring in which evaluation is quickest; all else takes the smallest.
    pub objective: Objective,
    /// The times that rings and special primes are compared by.
    pub cost: CostModel,
}

impl Default for ScaleOptions {
    fn default() -> Self {
        ScaleOptions {
            overrides: CkksOverrides::default(),
            target_bits: 20.0,
            asked: false,
            points: Vec::new(),
            span: Span::default(),
            objective: Objective::default(),
            cost: CostModel::default(),
        }
    }
}

/// A circuit on a chain of real primes.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// The circuit.
    pub circuit: Circuit<Ckks>,
    /// Its parameters.
    pub parameters: Parameters,
    /// −log2 of the bound on the largest absolute error of the outputs.
    pub precision_bits: f64,
    /// Bits of the scale.
    pub scale_bits: u32,
    /// What the author should know.
    pub warnings: Vec<Diagnostic>,
}

/// Sizes in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    log_n: LogN,
    scale: u32,
    first: u32,
    /// Levels below the outputs, where one prime does not have the room.
    bottom: u32,
    special: u32,
    special_bits: u32,
}

impl Sizes {
    /// Whether a prime is too wide for the engine's fast kernels.
    fn is_wide(&self) -> bool {
        self.first.max(self.scale).max(self.special_bits) > FAST_BITS
    }
}

/// Facts of a planned circuit that do not depend on primes.
struct Needs {
    /// log2 of the largest encoded |w| = |v|/f by rank − level, from 1 downwards; −∞ where none.
    encoded: Vec<f64>,
    depth: u32,
    /// By level: key switches. Empty when there are none.
    switches: Vec<u32>,
    /// Whether a prime more is too much for the sake of time.
    fewest: bool,
}

fn needs(
    ideal: &Circuit<Ckks>,
    ranks: &[u8],
    ranges: &[Interval],
    depth: u32,
    objective: Objective,
) -> Needs {
    let graph = &ideal.graph;
    let mut encoded = vec![f64::NEG_INFINITY; depth as usize + 2];
    let mut switches: Vec<u32> = Vec::new();
    for id in graph.ids() {
        let CkksType::Cipher { level, scale, .. } = *graph.ty(id) else {
            continue;
        };
        let rank = u32::from(ranks[id.index()]);
        let place = (level.0 + 1).saturating_sub(rank) as usize;
        let bits = magnitude_bits(ideal, ranges[id.index()]) + scale.bits()
            - f64::from(rank * USUAL_SCALE);
        encoded[place] = encoded[place].max(bits);
        match graph.op(id) {
            CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize => {
                if switches.len() <= level.0 as usize {
                    switches.resize(level.0 as usize + 1, 0);
                }
                switches[level.0 as usize] += 1;
            }
            _ => {}
        }
    }
    Needs {
        encoded,
        depth,
        switches,
        fewest: fewest(objective),
    }
}

/// log2 of the largest magnitude of a slot, both parts at the end of their range.
fn magnitude_bits(circuit: &Circuit<Ckks>, range: Interval) -> f64 {
    let parts = if circuit.meta.complex { 0.5 } else { 0.0 };
    range.magnitude().log2() + parts
}

impl Needs {
    /// Least bits of the first prime.
    fn first(&self, scale: u32, bottom: u32) -> f64 {
        let s = f64::from(scale);
        self.encoded
            .iter()
            .enumerate()
            .map(|(i, bits)| bits + 1.0 + s * (1.0 - i as f64 - f64::from(bottom)))
            .fold(0.0, f64::max)
    }

    /// Sizes for a ring and a scale; `None` when they do not fit the budget.
    fn sizes(&self, ring: &RingCost, scale: u32, budget: f64) -> Option<Sizes> {
        let fits = |most: u32| (0..8).find(|&b| self.first(scale, b) + 0.2 <= f64::from(most));
        let least = fits(MOST_BITS)?;
        let usual = self.sizes_above(ring, scale, budget, least);
        // A prime more, and none that is too wide for the fast kernels.
        let fast = fits(FAST_BITS)
            .filter(|b| *b > least && !self.fewest)
            .and_then(|b| self.sizes_above(ring, scale, budget, b));
        match (usual, fast) {
            (Some((slow, _)), Some((quick, sizes))) if quick < slow => Some(sizes),
            (usual, fast) => usual.or(fast).map(|(_, sizes)| sizes),
        }
    }

    /// Sizes with so many levels below the outputs, and what key switches then take.
    fn sizes_above(
        &self,
        ring: &RingCost,
        scale: u32,
        budget: f64,
        bottom: u32,
    ) -> Option<(f64, Sizes)> {
        let log_n = ring.log_n;
        // One bit more than needed, and never a prime so small that hardly any is NTT-friendly.
        let wanted = self.first(scale, bottom);
        let most = if wanted + 0.2 <= f64::from(FAST_BITS) {
            FAST_BITS
        } else {
            MOST_BITS
        };
        let first = ((wanted + 1.2).ceil().max(24.0) as u32).min(most);
        let levels = self.depth + bottom;
        // Primes lie beside the powers of two that are reckoned with.
        let budget = budget - 0.05 - 0.001 * f64::from(levels);
        let chain = f64::from(first) + f64::from(levels * scale);
        if self.switches.is_empty() {
            let wide = first > FAST_BITS;
            let sizes = Sizes {
                log_n,
                scale,
                first,
                bottom,
                special: 0,
                special_bits: 0,
            };
            let limbs = levels as usize + 1;
            let cost = ring.add.at(limbs) * ring.widened(usize::from(wide), limbs);
            return (chain <= budget).then_some((cost, sizes));
        }
        let mut best: Option<(f64, Sizes)> = None;
        for special in 1..=levels + 1 {
            let digit = first.max(scale) + (special - 1) * scale;
            let least = digit.div_ceil(special);
            if least > MOST_BITS {
                continue;
            }
            let room = (budget - chain) / f64::from(special);
            let bits = (room.floor().max(0.0) as u32).min(FAST_BITS.max(least));
            if bits < least {
                continue;
            }
            let slow = |bits: u32| usize::from(bits > FAST_BITS);
            let wide = slow(first) + slow(scale) * levels as usize + slow(bits) * special as usize;
            let cost = self.switching_cost(ring, special, bottom, wide);
            // more special primes leave less room, hence more noise: only for a clear gain
            let enough = |best: &f64| cost < FEWER_PRIMES_WORTH * best;
            if best.as_ref().is_none_or(|(best, _)| enough(best)) {
                let sizes = Sizes {
                    log_n,
                    scale,
                    first,
                    bottom,
                    special,
                    special_bits: bits,
                };
                best = Some((cost, sizes));
            }
        }
        best
    }

    /// Microseconds of all key switches with digits of `special` limbs.
    fn switching_cost(&self, ring: &RingCost, special: u32, bottom: u32, wide: usize) -> f64 {
        self.switches
            .iter()
            .enumerate()
            .map(|(level, count)| {
                let size = Switch {
                    limbs: level + bottom as usize + 1,
                    special: special as usize,
                    digit_limbs: special as usize,
                };
                let all = size.limbs + size.special;
                *count as f64 * ring.key_switch(size) * ring.widened(wide.min(all), all)
            })
            .sum()
    }

    /// Bits of QP that nothing smaller than this can do with, for messages.
    fn least_bits(&self, scale: u32) -> f64 {
        let first = self.first(scale, 0).max(f64::from(scale));
        let special = if self.switches.is_empty() { 0.0 } else { first };
        first + f64::from(self.depth * scale) + special
    }
}

fn security_of(overrides: &CkksOverrides, span: Span) -> Result<Security, Diagnostic> {
    match overrides.security {
        None => Ok(Security::Bits128),
        Some(0) => Ok(Security::Insecure),
        Some(128) => Ok(Security::Bits128),
        Some(192) => Ok(Security::Bits192),
        Some(256) => Ok(Security::Bits256),
        Some(bits) => Err(Diagnostic::error(
            "E3003",
            span,
            format!("the security table has no row for {bits} bits"),
            "it has 128, 192 and 256",
        )
        .with_help("`@ckks(security = 128)`, 192 or 256; 0 switches the check off")),
    }
}

/// Most bits of QP.
fn budget_of(log_n: LogN, security: Security) -> f64 {
    match security {
        Security::Insecure => f64::INFINITY,
        s => max_log_qp(log_n, s).map_or(0.0, f64::from),
    }
}

/// Chooses parameters for a plan by each of some objectives, and emits it; what is chosen for several
/// is listed once.
pub(crate) fn select(
    slots: &Circuit<Slots>,
    plan: &Plan,
    options: &ScaleOptions,
    objectives: &[Objective],
) -> Vec<Result<Scaled, Diagnostic>> {
    let mut known = Known::default();
    let mut chosen: Vec<(Option<Sizes>, Result<Scaled, Diagnostic>)> = Vec::new();
    // these are all that make a difference here
    let kind = |o: &Objective| (fewest(*o), any_ring(*o));
    for (i, objective) in objectives.iter().enumerate() {
        if objectives[..i].iter().any(|o| kind(o) == kind(objective)) {
            continue;
        }
        let scaled = select_for(slots, plan, options, *objective, &mut known);
        let sizes = scaled.as_ref().ok().map(|(sizes, _)| *sizes);
        if chosen.iter().all(|(other, _)| *other != sizes) {
            chosen.push((sizes, scaled.map(|(_, scaled)| scaled)));
        }
    }
    chosen.into_iter().map(|(_, scaled)| scaled).collect()
}

/// Whether a prime more is too much for the sake of time.
fn fewest(objective: Objective) -> bool {
    objective == Objective::Bandwidth
}

/// Whether a larger ring than necessary is taken where evaluation is quicker there.
fn any_ring(objective: Objective) -> bool {
    matches!(objective, Objective::Work | Objective::Time)
}

/// What does not depend on the objective and is found only once.
#[derive(Default)]
struct Known {
    guess: Option<Guess>,
    realised: Vec<(Sizes, Result<Scaled, Diagnostic>)>,
}

fn select_for(
    slots: &Circuit<Slots>,
    plan: &Plan,
    options: &ScaleOptions,
    objective: Objective,
    known: &mut Known,
) -> Result<(Sizes, Scaled), Diagnostic> {
    let span = options.span;
    let overrides = &options.overrides;
    let security = security_of(overrides, span)?;
    let (ideal, ranks) = emit(slots, plan, &Chain::ideal(USUAL_SCALE, plan.depth), 0);
    let ranges = ckks_ranges(&ideal);
    let needs = needs(&ideal, &ranks, &ranges, plan.depth, objective);
    let ideal = sink_rescales(ideal);
    let ranges = ckks_ranges(&ideal);

    let least = MIN_LOG_N
        .0
        .max(slots.meta.slots.max(1).next_power_of_two().trailing_zeros() as u8 + 1);
    let rings: Vec<LogN> = match overrides.ring {
        Some(n) => {
            let log_n = LogN(n.checked_ilog2().unwrap_or(0) as u8);
            if !n.is_power_of_two() || log_n < MIN_LOG_N || log_n > MAX_LOG_N {
                return Err(Diagnostic::error(
                    "E3003",
                    span,
                    format!("{n} is no ring degree"),
                    "a ring degree is a power of two from 1024 to 131072",
                ));
            }
            if log_n.0 < least {
                return Err(Diagnostic::error(
                    "E3003",
                    span,
                    format!(
                        "a ring of degree {n} has {} slots, and the circuit needs {}",
                        n / 2,
                        slots.meta.slots
                    ),
                    "the ring is too small",
                )
                .with_help(format!("`@ckks(ring = {})`", 1u64 << least)));
            }
            vec![log_n]
        }
        None => (least..=MAX_LOG_N.0).map(LogN).collect(),
    };
    if rings.is_empty() {
        return Err(Diagnostic::error(
            "E3003",
            span,
            format!(
                "the circuit packs {} values into one vector",
                slots.meta.slots
            ),
            format!("the largest ring has {} slots", MAX_LOG_N.slots()),
        ));
    }
    if let Some(bits) = overrides.scale_bits
        && !(LEAST_SCALE - 2..=MOST_BITS).contains(&bits)
    {
        return Err(Diagnostic::error(
            "E3003",
            span,
            format!("a scale of {bits} bits cannot be had"),
            format!("a scale has from {} to {MOST_BITS} bits", LEAST_SCALE - 2),
        ));
    }

    let Known {
        guess,
        realised: made,
    } = known;
    let mut realised = |sizes: Sizes| {
        if let Some((_, scaled)) = made.iter().find(|(s, _)| *s == sizes) {
            return scaled.clone();
        }
        let scaled = realise(slots, plan, sizes, security, options);
        made.push((sizes, scaled.clone()));
        scaled
    };
    let mut best: Option<Best> = None;
    let mut chosen: Option<(Sizes, Scaled)> = None;
    for log_n in rings.iter().copied() {
        let budget = budget_of(log_n, security);
        let ring = options.cost.ring(log_n);
        let fits = |scale: u32| needs.sizes(&ring, scale, budget);
        if let Some(scale) = overrides.scale_bits {
            if let Some(sizes) = fits(scale) {
                chosen = Some((sizes, realised(sizes)?));
                break;
            }
            continue;
        }
        if fits(LEAST_SCALE).is_none() {
            continue;
        }
        let guess = guess
            .get_or_insert_with(|| Guess::new(&ideal, &ranges, log_n, &needs, &options.points));
        let least = if options.asked {
            LEAST_SCALE
        } else {
            USUAL_SCALE
        };
        let wanted = (least..FAST_BITS - 1)
            .find(|&s| guess.bits(log_n, s) >= options.target_bits)
            .unwrap_or(FAST_BITS - 1);
        let Some(mut sizes) = (LEAST_SCALE..=wanted).rev().find_map(fits) else {
            continue;
        };
        if sizes.is_wide() {
            // A bit less of scale, where precision allows it, may make do without wide primes.
            sizes = (LEAST_SCALE..sizes.scale)
                .rev()
                .take_while(|&s| guess.bits(log_n, s) >= options.target_bits)
                .filter_map(fits)
                .find(|s| !s.is_wide())
                .unwrap_or(sizes);
        }
        let in_ring = |log_n: LogN, scale: u32| {
            needs.sizes(&options.cost.ring(log_n), scale, budget_of(log_n, security))
        };
        if any_ring(objective)
            && let Some(next) = rings.iter().find(|r| **r > log_n)
            && let Some(larger) = in_ring(*next, sizes.scale)
            && modelled(&ideal, &larger, &options.cost) < modelled(&ideal, &sizes, &options.cost)
        {
            // A larger ring has room for more special primes, hence fewer digits.
            sizes = larger;
        }
        let expected = guess.bits(sizes.log_n, sizes.scale);
        if expected + GUESS < options.target_bits {
            note_best(&mut best, expected, sizes, None);
            continue;
        }
        let mut scaled = realised(sizes)?;
        for _ in 0..2 {
            let short = (options.target_bits - scaled.precision_bits)
                .ceil()
                .max(0.0) as u32;
            let scale = sizes.scale + short;
            if short == 0 || scale >= FAST_BITS {
                break;
            }
            let Some(larger) = in_ring(sizes.log_n, scale) else {
                break;
            };
            sizes = larger;
            scaled = realised(sizes)?;
        }
        if scaled.precision_bits >= options.target_bits {
            chosen = Some((sizes, scaled));
            break;
        }
        let bits = scaled.precision_bits;
        note_best(&mut best, bits, sizes, Some(scaled));
    }
    let (sizes, mut scaled) = match (chosen, best) {
        (Some(chosen), _) => chosen,
        (None, Some(best)) => match best.scaled {
            Some(scaled) => (best.sizes, scaled),
            None => (best.sizes, realised(best.sizes)?),
        },
        (None, None) => {
            let refusal = does_not_fit(&needs, &rings, security, overrides, span);
            return Err(where_ranges_grow(slots, refusal));
        }
    };
    if security == Security::Insecure {
        scaled.warnings.push(Diagnostic::warning(
            "W3001",
            span,
            "these parameters promise no security at all",
            "`security = 0` switches the check off",
        ));
    }
    if scaled.precision_bits < options.target_bits
        && (options.asked || overrides.scale_bits.is_none())
    {
        scaled.warnings.push(where_ranges_grow(
            slots,
            Diagnostic::warning(
                "W3002",
                span,
                format!(
                    "results are promised to {:.1} bits after the binary point, not to {:.1}",
                    scaled.precision_bits, options.target_bits
                ),
                match overrides.scale_bits {
                    None => "no ring and scale that are secure do better",
                    Some(_) => "the scale that `@ckks` fixes is too small",
                },
            )
            .with_help("declare tighter ranges (`let x in [lo, hi] = …;`), or reduce the depth"),
        ));
    }
    Ok((sizes, scaled))
}

/// Points out the first value whose range is much larger than any input's: a bound that intervals
/// alone give is often far from what the value ever is.
fn where_ranges_grow(slots: &Circuit<Slots>, diagnostic: Diagnostic) -> Diagnostic {
    let ranges = slots_ranges(slots);
    let inputs = slots
        .inputs
        .iter()
        .map(|i| i.range.magnitude())
        .fold(1.0, f64::max);
    let live = slots.live();
    let found = slots
        .graph
        .ids()
        .find(|id| live[id.index()] && ranges[id.index()].magnitude() > 256.0 * inputs);
    match found {
        Some(id) => {
            let size = ranges[id.index()].magnitude().log2().ceil();
            diagnostic.with_label(
                slots.graph.span(id),
                format!("intervals alone allow magnitudes up to 2^{size} here"),
            )
        }
        None => diagnostic,
    }
}

/// The most precise of the parameters that fell short.
struct Best {
    bits: f64,
    sizes: Sizes,
    scaled: Option<Scaled>,
}

fn note_best(best: &mut Option<Best>, bits: f64, sizes: Sizes, scaled: Option<Scaled>) {
    if best.as_ref().is_none_or(|b| bits > b.bits) {
        *best = Some(Best {
            bits,
            sizes,
            scaled,
        });
    }
}

/// Microseconds of encryption with the public key and of evaluation, on one thread and on those of the
/// model's machine, by a walk over the circuit: operations that the executor joins are reckoned apart.
pub fn times(circuit: &Circuit<Ckks>, parameters: &Parameters, model: &CostModel) -> (f64, f64) {
    let ring = model.ring(parameters.log_n());
    let slots = circuit.meta.slots;
    let wide = |primes: &[u64]| {
        let bits = |q: &u64| 64 - q.leading_zeros();
        primes.iter().filter(|q| bits(q) > FAST_BITS).count()
    };
    let (q, p) = (parameters.q(), parameters.p());
    let widened = ring.widened(wide(q) + wide(p), q.len() + p.len());
    let encryption: f64 = circuit
        .inputs
        .iter()
        .map(|i| ring.encode(i.level.limbs(), slots) + ring.encrypt.at(i.level.limbs()))
        .sum();
    let work = encryption + evaluation(circuit, &ring, 0, p.len());
    let live = circuit.live();
    let mut path = vec![0.0f64; circuit.graph.len()];
    for id in circuit.graph.ids().filter(|id| live[id.index()]) {
        let before = circuit.graph.operands(id).into_iter();
        let before = before.map(|o| path[o.index()]).fold(0.0, f64::max);
        path[id.index()] = before + operation(circuit, id, &ring, 0, p.len());
    }
    let longest = path.into_iter().fold(0.0, f64::max);
    let threads = model.threads.max(1) as usize;
    let shared = work * ring.crowd / threads as f64;
    let time = ring.spread_over(longest, threads).max(shared);
    (work * widened, time * widened)
}

/// Bytes that the client sends, encrypted with the public key, and gets.
pub(crate) fn message_bytes(circuit: &Circuit<Ckks>, parameters: &Parameters) -> f64 {
    let inputs = circuit.inputs.iter().map(|i| i.level);
    let outputs = circuit.outputs.iter();
    let outputs = outputs.map(|(id, ())| circuit.graph.ty(*id).level());
    let bytes = |level| 2 * parameters.polynomial_bytes(level);
    inputs.chain(outputs).map(bytes).sum::<u64>() as f64
}

/// Microseconds of evaluation on one thread with these sizes.
fn modelled(ideal: &Circuit<Ckks>, sizes: &Sizes, model: &CostModel) -> f64 {
    let ring = model.ring(sizes.log_n);
    let graph = &ideal.graph;
    let count = |bits: u32, of: usize| if bits > FAST_BITS { of } else { 0 };
    let levels = graph.ids().map(|id| graph.ty(id).level().0).max();
    let all = (levels.unwrap_or(0) + sizes.bottom + 1 + sizes.special) as usize;
    let special = sizes.special as usize;
    let wide = count(sizes.first, 1) + count(sizes.special_bits, special);
    evaluation(ideal, &ring, sizes.bottom, special) * ring.widened(wide, all)
}

/// Microseconds of evaluation on one thread, so many levels higher than the circuit says, without what
/// wide primes take.
fn evaluation(circuit: &Circuit<Ckks>, ring: &RingCost, bottom: u32, special: usize) -> f64 {
    let live = circuit.live();
    circuit
        .graph
        .ids()
        .filter(|id| live[id.index()])
        .map(|id| operation(circuit, id, ring, bottom, special))
        .sum()
}

/// Microseconds of one operation, as [`evaluation`] has it.
fn operation(
    circuit: &Circuit<Ckks>,
    id: NodeId,
    ring: &RingCost,
    bottom: u32,
    special: usize,
) -> f64 {
    let graph = &circuit.graph;
    let limbs = graph.ty(id).level().limbs() + bottom as usize;
    let size = Switch {
        limbs,
        special,
        digit_limbs: special,
    };
    match graph.op(id) {
        CkksOp::Input(_) | CkksOp::DropLevel(_) => 0.0,
        CkksOp::Encode { .. } => ring.encode(limbs, circuit.meta.slots),
        CkksOp::Add | CkksOp::Sub => ring.add.at(limbs),
        CkksOp::Neg | CkksOp::TimesI | CkksOp::AddScalar(_) | CkksOp::MulScalar { .. } => {
            ring.scale.at(limbs)
        }
        CkksOp::LinComb { coefficients, .. } => ring.combinations(limbs, coefficients.len(), 1),
        CkksOp::Mul => match graph.ty(graph.operands(id)[1]) {
            CkksType::Cipher { .. } => ring.mul.at(limbs),
            CkksType::Plain { .. } => ring.mul_plain.at(limbs),
        },
        CkksOp::Square => ring.square.at(limbs),
        CkksOp::Rescale { .. } => ring.rescale.at(limbs + 1),
        CkksOp::Rotate(_) | CkksOp::Conjugate | CkksOp::Relinearize => ring.key_switch(size),
    }
}

/// Bits by which a guess may lie below what real primes give.
const GUESS: f64 = 1.0;

/// The precision on an ideal chain, for one ring and the usual scale.
struct Guess {
    log_n: LogN,
    usual: f64,
}

impl Guess {
    fn new(
        ideal: &Circuit<Ckks>,
        ranges: &[Interval],
        log_n: LogN,
        needs: &Needs,
        points: &[Point],
    ) -> Guess {
        let q = vec![1u64 << USUAL_SCALE; needs.depth as usize + 1];
        let p = if needs.switches.is_empty() {
            vec![]
        } else {
            vec![1u64 << FAST_BITS]
        };
        let model = Model {
            log_n,
            q: &q,
            p: &p,
            digit_limbs: 1,
        };
        Guess {
            log_n,
            usual: precision_bits(ideal, ranges, &model, points),
        }
    }

    /// The same for another ring and scale: a rounding times the secret grows with the square root of the degree.
    fn bits(&self, log_n: LogN, scale: u32) -> f64 {
        let rings = 0.5 * (f64::from(log_n.0) - f64::from(self.log_n.0));
        self.usual - rings + f64::from(scale) - f64::from(USUAL_SCALE)
    }
}

fn does_not_fit(
    needs: &Needs,
    rings: &[LogN],
    security: Security,
    overrides: &CkksOverrides,
    span: Span,
) -> Diagnostic {
    let largest = rings.last().copied().unwrap_or(MAX_LOG_N);
    let most = max_log_qp(largest, security).unwrap_or(0);
    let scale = overrides.scale_bits.unwrap_or(USUAL_SCALE);
    let bits = needs.least_bits(scale);
    let help = if overrides.ring.is_some() {
        "leave `ring` out of `@ckks(…)`, or take a larger one"
    } else {
        "reduce the multiplicative depth (-O 2 or -O 3, balanced products), or split the circuit"
    };
    Diagnostic::error(
        super::NO_ROOM,
        span,
        format!(
            "no secure parameters: {} levels at scale 2^{scale} need log2(QP) of about {bits:.0} bits",
            needs.depth
        ),
        format!(
            "N = {} holds at most {most} bits at this security",
            largest.degree()
        ),
    )
    .with_help(help)
}

/// Finds the primes, emits on them, and checks what was promised.
fn realise(
    slots: &Circuit<Slots>,
    plan: &Plan,
    sizes: Sizes,
    security: Security,
    options: &ScaleOptions,
) -> Result<Scaled, Diagnostic> {
    let span = options.span;
    let levels = plan.depth + sizes.bottom;
    let no_primes = || {
        Diagnostic::error(
            "E3004",
            span,
            format!(
                "there are not enough primes of {} bits for a ring of degree {}",
                sizes.scale,
                sizes.log_n.degree()
            ),
            "the modulus chain cannot be built",
        )
        .with_help("take a larger scale: `@ckks(scale_bits = …)`")
    };
    let mut taken = Vec::new();
    let first = *ntt_primes_below(sizes.log_n, 1 << sizes.first, 1, &taken)
        .first()
        .ok_or_else(no_primes)?;
    taken.push(first);
    let limit = if sizes.scale < FAST_BITS {
        1 << FAST_BITS
    } else {
        1 << (MOST_BITS + 1)
    };
    let delta = f64::from(sizes.scale).exp2();
    let mut scales = vec![delta; levels as usize + 1];
    let mut primes = vec![first; levels as usize + 1];
    for l in (1..=levels as usize).rev() {
        let s = scales[l];
        let q =
            ntt_prime_nearest(sizes.log_n, s * s / delta, limit, &taken).ok_or_else(no_primes)?;
        taken.push(q);
        primes[l] = q;
        scales[l - 1] = s * s / q as f64;
    }
    let p = if sizes.special > 0 {
        ntt_primes_below(
            sizes.log_n,
            1 << sizes.special_bits,
            sizes.special as usize,
            &taken,
        )
    } else {
        Vec::new()
    };
    if p.len() != sizes.special as usize {
        return Err(no_primes());
    }
    let chain = Chain { primes, scales };
    let circuit = sink_rescales(emit(slots, plan, &chain, sizes.bottom).0);
    let literal = ParametersLiteral {
        log_n: sizes.log_n,
        q: chain.primes,
        p,
        digit_limbs: sizes.special.max(1) as usize,
        scale: Scale(delta),
        security,
    };
    let parameters = Parameters::new(literal).map_err(|e| {
        Diagnostic::error(
            "E3004",
            span,
            e.to_string(),
            "the chosen parameters were refused",
        )
    })?;
    let ranges = ckks_ranges(&circuit);
    check_headroom(&circuit, &ranges, &parameters)?;
    let model = Model {
        log_n: parameters.log_n(),
        q: parameters.q(),
        p: parameters.p(),
        digit_limbs: parameters.digit_limbs(),
    };
    let precision_bits = precision_bits(&circuit, &ranges, &model, &options.points);
    Ok(Scaled {
        circuit,
        parameters,
        precision_bits,
        scale_bits: sizes.scale,
        warnings: Vec::new(),
    })
}

/// Checks that no value can wrap: |value| · scale < q_0 ⋯ q_level / 2 for every ciphertext.
///
/// # Errors
/// `E3005` at the first value without room.
pub fn check_headroom(
    circuit: &Circuit<Ckks>,
    ranges: &[Interval],
    parameters: &Parameters,
) -> Result<(), Diagnostic> {
    let mut room = Vec::with_capacity(parameters.q().len());
    let mut log_q = -1.0;
    for &q in parameters.q() {
        log_q += (q as f64).log2();
        room.push(log_q);
    }
    let graph = &circuit.graph;
    for id in graph.ids() {
        let CkksType::Cipher { level, scale, .. } = *graph.ty(id) else {
            continue;
        };
        let bits = magnitude_bits(circuit, ranges[id.index()]) + scale.bits();
        let has = room
            .get(level.0 as usize)
            .copied()
            .unwrap_or(f64::NEG_INFINITY);
        if bits > has {
            return Err(Diagnostic::error(
                "E3005",
                graph.span(id),
                format!("this value may need {bits:.1} bits of modulus where {has:.1} are left"),
                "its range is too large for the parameters",
            )
            .with_help("declare a tighter range: `let x in [lo, hi] = …;`"));
        }
    }
    Ok(())
}
