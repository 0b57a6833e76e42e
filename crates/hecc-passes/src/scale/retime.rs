//! Rescaling as seldom as possible: rescales are moved across sums.
//!
//! rescale(x) + rescale(y) = rescale(x + y), in both directions: three products that are added to a value
//! which is rescaled already need one rescale, not three; three products of which six differences are
//! multiplied need three, not six. Every value that comes from products through sums on one level is
//! x = R + Q with R not yet rescaled (rank 2) and Q rescaled (rank 1), and where x is wanted in rank 1 by what
//! is no sum, R must have been rescaled on the way. So the fewest rescales are a minimum vertex cut
//! ([`Cut`]) between products and such users; all of one cut are on one level. Of all minimum cuts the latest
//! is taken, and relinearizations, which are placed afterwards, come to stand beside it.
//!
//! Where only a part of a sum is rescaled, both parts are added up apart. The new plan is taken where that
//! saves more than it costs, rescales, additions and relinearizations weighed as they take time, and never
//! where it has more levels. A value with a declared range, or that is kept, stays whole.
//!
//! Cost: that of the cut. Source: retiming (Leiserson, Saxe, *Retiming synchronous circuitry*,
//! Algorithmica 6, 1991) with rescales in place of registers.

use hecc_ir::graph::{Circuit, Real};
use hecc_ir::slots::{Coefficient, PlainId, Slots};

use super::cut::Cut;
use super::emit::linear_steps;
use super::plan::{Plan, PlanStep, Step, StepOp, Term, near_integer, place};

/// What a rescale takes, in additions.
const RESCALE: usize = 3;
/// What a relinearization takes, in additions.
const RELINEARIZE: usize = 20;

/// The same plan with rescales where the fewest are needed, if that is cheaper.
pub(super) fn retime(circuit: &Circuit<Slots>, plan: Plan) -> Plan {
    let Some(found) = fewest(circuit, &plan) else {
        return plan;
    };
    if found.depth <= plan.depth && cost(&found) < cost(&plan) {
        found
    } else {
        plan
    }
}

/// The same plan with the fewest rescales; `None` where none can be moved.
pub(super) fn fewest(circuit: &Circuit<Slots>, plan: &Plan) -> Option<Plan> {
    Retiming::new(circuit, plan)?.rebuild()
}

/// Rescales, relinearizations and additions, in additions.
fn cost(plan: &Plan) -> usize {
    let linear = linear_steps(plan).iter().filter(|l| **l).count();
    let additions = plan.steps.iter().map(|s| match &s.op {
        StepOp::Sum(terms) => terms.len().saturating_sub(1),
        _ => 0,
    });
    additions.sum::<usize>() + RESCALE * rescales(plan) + RELINEARIZE * linear
}

/// Steps of rank 2 that somebody wants in rank 1.
pub(super) fn rescales(plan: &Plan) -> usize {
    let mut wanted = vec![false; plan.steps.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        for (from, stays) in reads(plan, i, step) {
            wanted[from.index()] |= !stays;
        }
    }
    for o in &plan.outputs {
        wanted[o.index()] = true;
    }
    let steps = plan.steps.iter().zip(wanted);
    steps.filter(|(s, wanted)| s.rank == 2 && *wanted).count()
}

/// What a step reads, and whether in rank 2.
fn reads(plan: &Plan, i: usize, step: &PlanStep) -> Vec<(Step, bool)> {
    let stays = |s: Step| step.rank == 2 && plan.levels[s.index()] == plan.levels[i];
    match &step.op {
        StepOp::Input(_) => Vec::new(),
        StepOp::Mul(a, b) => vec![(*a, false), (*b, false)],
        StepOp::Square(a) | StepOp::MulPlain(a, _) | StepOp::Map(a, _) => vec![(*a, false)],
        StepOp::AddPlain { step: a, .. } => vec![(*a, stays(*a))],
        StepOp::Sum(terms) => terms
            .iter()
            .map(|t| (t.step, !t.up && stays(t.step)))
            .collect(),
    }
}

struct Retiming<'a> {
    plan: &'a Plan,
    /// What may have a part in rank 2: products, and sums that some come to.
    carries: Vec<bool>,
    /// By step and term (one, for what adds a plaintext): whether its part in rank 2 goes on in rank 2.
    passes: Vec<Vec<bool>>,
    /// What is rescaled.
    cut: Vec<bool>,
}

impl<'a> Retiming<'a> {
    /// `None` where there is nothing to move.
    fn new(circuit: &Circuit<Slots>, plan: &'a Plan) -> Option<Self> {
        let n = plan.steps.len();
        // the level of a form of rank 2
        let level = |i: usize| plan.levels[i] + u32::from(plan.steps[i].rank == 1);
        let mut cut = Cut::new(n);
        let mut carries = vec![false; n];
        let mut wanted = vec![false; n];
        let mut passes: Vec<Vec<bool>> = vec![Vec::new(); n];
        let mut movable = false;
        for (i, step) in plan.steps.iter().enumerate() {
            let one;
            let terms: &[Term] = match &step.op {
                StepOp::Sum(terms) => terms,
                StepOp::AddPlain { step: a, .. } => {
                    one = [as_it_is(*a)];
                    &one
                }
                StepOp::Mul(..) | StepOp::Square(_) | StepOp::MulPlain(..) => {
                    carries[i] = true;
                    cut.source(i);
                    for (from, _) in reads(plan, i, step) {
                        wanted[from.index()] = true;
                    }
                    continue;
                }
                StepOp::Input(_) | StepOp::Map(..) => {
                    for (from, _) in reads(plan, i, step) {
                        wanted[from.index()] = true;
                    }
                    continue;
                }
            };
            for t in terms {
                let from = t.step.index();
                let stays = !t.up
                    && carries[from]
                    && level(from) == level(i)
                    && integral(t, plan.steps[from].factor, step.factor);
                passes[i].push(stays);
                if stays {
                    cut.edge(from, i);
                    carries[i] = true;
                } else {
                    wanted[from] = true;
                }
            }
            let all = passes[i].iter().all(|p| *p);
            movable |= carries[i];
            if step.rank == 2 && !all {
                // what is multiplied up is in rank 2 here
                carries[i] = true;
                cut.source(i);
            }
            let node = circuit.graph.node(step.node);
            if step.main && (node.declared.is_some() || node.keep) {
                wanted[i] = true;
            }
        }
        if !movable {
            return None;
        }
        for o in &plan.outputs {
            wanted[o.index()] = true;
        }
        for i in (0..n).filter(|i| wanted[*i] && carries[*i]) {
            cut.sink(i);
        }
        Some(Retiming {
            plan,
            carries,
            passes,
            cut: cut.minimum(),
        })
    }

    /// The plan with rescales at the cut; `None` if a value that is wanted whole would have no such form, which
    /// no cut leaves.
    fn rebuild(&self) -> Option<Plan> {
        let n = self.plan.steps.len();
        let mut new = Rebuilt {
            steps: Vec::with_capacity(n),
            parts: vec![Parts::default(); n],
        };
        for (i, step) in self.plan.steps.iter().enumerate() {
            let whole = |new: &Rebuilt, s: Step| new.parts[s.index()].whole;
            let op = match &step.op {
                StepOp::Sum(terms) => {
                    self.sum(&mut new, i, terms, None)?;
                    continue;
                }
                StepOp::AddPlain {
                    step: a,
                    plain,
                    negate,
                } => {
                    self.sum(&mut new, i, &[as_it_is(*a)], Some((*plain, *negate)))?;
                    continue;
                }
                StepOp::Input(k) => StepOp::Input(*k),
                StepOp::Mul(a, b) => StepOp::Mul(whole(&new, *a)?, whole(&new, *b)?),
                StepOp::Square(a) => StepOp::Square(whole(&new, *a)?),
                StepOp::MulPlain(a, p) => StepOp::MulPlain(whole(&new, *a)?, *p),
                StepOp::Map(a, map) => StepOp::Map(whole(&new, *a)?, map.clone()),
            };
            let at = new.push(step, op, step.rank, step.main);
            new.parts[i] = Parts {
                second: (step.rank == 2).then_some(at),
                first: None,
                whole: Some(at),
            };
        }
        let outputs: Option<Vec<Step>> = self
            .plan
            .outputs
            .iter()
            .map(|o| new.parts[o.index()].whole)
            .collect();
        let outputs = outputs?;
        let (levels, depth) = place(&new.steps, &outputs);
        Some(Plan {
            steps: new.steps,
            outputs,
            levels,
            depth,
        })
    }

    /// A sum in its parts, and a plaintext that is added to it.
    fn sum(
        &self,
        new: &mut Rebuilt,
        i: usize,
        terms: &[Term],
        plain: Option<(PlainId, bool)>,
    ) -> Option<()> {
        let step = &self.plan.steps[i];
        let (mut second, mut first) = (Vec::new(), Vec::new());
        for (t, passes) in terms.iter().zip(&self.passes[i]) {
            let from = new.parts[t.step.index()];
            let term = |step: Step| Term { step, ..*t };
            if *passes && !self.cut[t.step.index()] {
                second.extend(from.second.map(term));
                first.extend(from.first.map(term));
            } else if step.rank == 2 && !passes {
                second.push(term(from.whole?));
            } else {
                first.push(term(from.whole?));
            }
        }
        let split = !first.is_empty() && !second.is_empty();
        let mut parts = Parts::default();
        let add = |new: &mut Rebuilt, terms: Vec<Term>, rank: u8, main: bool, last: bool| {
            let Some((plain, negate)) = plain.filter(|_| last) else {
                return new.push(step, StepOp::Sum(terms), rank, main);
            };
            let of = match terms.as_slice() {
                [one] if *one == as_it_is(one.step) => one.step,
                _ => new.push(step, StepOp::Sum(terms), rank, false),
            };
            let op = StepOp::AddPlain {
                step: of,
                plain,
                negate,
            };
            new.push(step, op, rank, main)
        };
        if !split {
            let rank = if first.is_empty() { 2 } else { 1 };
            let terms = if first.is_empty() { second } else { first };
            let at = add(new, terms, rank, step.main, true);
            parts.whole = Some(at);
            if rank == 2 {
                parts.second = Some(at);
            } else {
                parts.first = Some(at);
            }
        } else {
            let part = add(new, second, 2, false, false);
            if self.cut[i] {
                first.push(as_it_is(part));
                parts.whole = Some(add(new, first, 1, step.main, true));
            } else {
                parts.second = Some(part);
                parts.first = Some(add(new, first, 1, false, true));
            }
        }
        debug_assert!(parts.second.is_none() || self.carries[i]);
        new.parts[i] = parts;
        Some(())
    }
}

/// The value of a step as it is.
fn as_it_is(step: Step) -> Term {
    Term {
        step,
        coefficient: Coefficient::Const(Real(1.0)),
        up: false,
    }
}

/// Whether a term is an integer multiple of the unit of its sum.
fn integral(t: &Term, factor: f64, unit: f64) -> bool {
    match t.coefficient {
        Coefficient::Const(v) => {
            let multiple = v.0.abs() * factor / unit;
            near_integer(multiple) && multiple.round() >= 1.0
        }
        Coefficient::Plain(_) => false,
    }
}

/// Where the parts of a value are.
#[derive(Clone, Copy, Default)]
struct Parts {
    /// Not rescaled yet.
    second: Option<Step>,
    /// Rescaled.
    first: Option<Step>,
    /// Both in one.
    whole: Option<Step>,
}

struct Rebuilt {
    steps: Vec<PlanStep>,
    parts: Vec<Parts>,
}

impl Rebuilt {
    fn push(&mut self, like: &PlanStep, op: StepOp, rank: u8, main: bool) -> Step {
        self.steps.push(PlanStep {
            op,
            rank,
            main,
            ..like.clone()
        });
        Step(self.steps.len() as u32 - 1)
    }
}
