//! From a plan and a modulus chain to the CKKS circuit.

use hecc_ir::ckks::{Ckks, CkksInput, CkksOp, CkksType};
use hecc_ir::graph::{Builder, Circuit, NodeId, Real};
use hecc_ir::slots::{Coefficient, PlainId, Slots};
use hecc_ir::span::Span;
use hecc_params::{Level, Scale};
use rustc_hash::FxHashMap;

use super::cut::Cut;
use super::plan::{Plan, PlanStep, Step, StepOp, Term, uniform_plain};

/// A modulus chain with the canonical scale of each level.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// q_0 … q_L.
    pub primes: Vec<u64>,
    /// S_0 … S_L.
    pub scales: Vec<f64>,
}

impl Chain {
    /// A chain without primes: every q_l is Δ, as far as measures care.
    pub fn ideal(bits: u32, depth: u32) -> Chain {
        let delta = 1u64 << bits;
        Chain {
            primes: vec![delta; depth as usize + 1],
            scales: vec![delta as f64; depth as usize + 1],
        }
    }
}

struct Emitter<'a> {
    slots: &'a Circuit<Slots>,
    plan: &'a Plan,
    chain: &'a Chain,
    /// Level of the outputs: 0, or more when the bottom of the chain needs room.
    bottom: u32,
    builder: Builder<Ckks>,
    /// The node of each step, in its own rank.
    nodes: Vec<NodeId>,
    /// The rank of each emitted node.
    ranks: Vec<u8>,
    /// Which steps must have their canonical scale.
    exact: Vec<bool>,
    inputs: Vec<u32>,
}

/// Emits the circuit of a plan; with the rank of every node (0 for plaintexts).
pub(crate) fn emit(
    slots: &Circuit<Slots>,
    plan: &Plan,
    chain: &Chain,
    bottom: u32,
) -> (Circuit<Ckks>, Vec<u8>) {
    let linear = linear_steps(plan);
    let mut inputs = Vec::new();
    let mut input_of = vec![u32::MAX; slots.inputs.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        if let StepOp::Input(n) = step.op
            && input_of[n as usize] == u32::MAX
        {
            let level = plan.levels[i] + bottom;
            input_of[n as usize] = inputs.len() as u32;
            inputs.push(CkksInput {
                packed: slots.inputs[n as usize].clone(),
                level: Level(level),
                scale: Scale(chain.scales[level as usize] / step.factor),
            });
        }
    }
    let mut emitter = Emitter {
        slots,
        plan,
        chain,
        bottom,
        builder: Builder::new(slots.name.clone(), inputs, slots.meta.clone()),
        nodes: Vec::with_capacity(plan.steps.len()),
        ranks: Vec::with_capacity(2 * plan.steps.len()),
        exact: exact_steps(plan),
        inputs: input_of,
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let mut node = emitter.step(i, step);
        let span = slots.graph.span(step.node);
        if linear[i] && emitter.degree(node) == 2 {
            node = emitter.push(CkksOp::Relinearize, &[node], span);
        }
        if step.main {
            emitter.builder.inherit(node, slots.graph.node(step.node));
        }
        emitter.nodes.push(node);
    }
    for &o in &plan.outputs {
        let span = slots.graph.span(plan.steps[o.index()].node);
        let node = emitter.first(o, span);
        let node = emitter.drop_to(node, bottom, span);
        emitter.builder.output(node, ());
    }
    (emitter.builder.finish(), emitter.ranks)
}

/// Below this level a product may keep the drift of a dropped operand: it doubles at each level.
const LOOSE_LEVELS: u32 = 6;

/// Which steps must have exactly their canonical scale: terms that are added to another of the same
/// rank, and what they are made of. All others may keep the small difference between the scales of two
/// levels when an operand is dropped; that saves a multiplication and a rescale.
fn exact_steps(plan: &Plan) -> Vec<bool> {
    let mut exact: Vec<bool> = plan.levels.iter().map(|&l| l > LOOSE_LEVELS).collect();
    for (i, step) in plan.steps.iter().enumerate().rev() {
        match &step.op {
            StepOp::Input(_) | StepOp::MulPlain(..) => {}
            StepOp::Mul(a, b) => {
                exact[a.index()] |= exact[i];
                exact[b.index()] |= exact[i];
            }
            StepOp::Square(a) | StepOp::Map(a, _) | StepOp::AddPlain { step: a, .. } => {
                exact[a.index()] |= exact[i];
            }
            StepOp::Sum(terms) => {
                let all = exact[i] || lone(terms).is_none();
                for t in terms.iter().filter(|t| !t.up) {
                    exact[t.step.index()] |= all;
                }
            }
        }
    }
    exact
}

/// The only step of a sum that comes with a scale of its own, if there is only one.
fn lone(terms: &[Term]) -> Option<Step> {
    let mut own = terms.iter().filter(|t| !t.up).map(|t| t.step);
    let first = own.next()?;
    own.all(|s| s == first).then_some(first)
}

/// Which steps are relinearized where they stand: the fewest for which everyone who multiplies, rotates,
/// rescales or is sent back gets two polynomials. Products are the sources of a third one, sums pass it on
/// within a level, and the fewest relinearizations are a minimum vertex cut ([`Cut`]); all of one cut are on
/// one level, and each costs a key switch there. Of all minimum cuts it is the latest.
///
/// A rescale could do without, but the rounding of a third polynomial is multiplied by the square of the
/// secret, which costs six or seven bits of precision; and the engine merges a relinearization
/// with the rescale after it.
pub(super) fn linear_steps(plan: &Plan) -> Vec<bool> {
    let n = plan.steps.len();
    let mut cut = Cut::new(n);
    let mut wanted = vec![false; n];
    // Whether a third polynomial can come here: what is not reached need not be looked at.
    let mut quadratic = vec![false; n];
    for (i, step) in plan.steps.iter().enumerate() {
        let mut passes = |from: Step, stays: bool| {
            if !stays {
                wanted[from.index()] = true;
            } else if quadratic[from.index()] {
                quadratic[i] = true;
                cut.edge(from.index(), i);
            }
        };
        let level = |s: Step| plan.levels[s.index()];
        match &step.op {
            StepOp::Mul(a, b) => {
                passes(*a, false);
                passes(*b, false);
                quadratic[i] = true;
                cut.source(i);
            }
            StepOp::Square(a) => {
                passes(*a, false);
                quadratic[i] = true;
                cut.source(i);
            }
            StepOp::Map(a, _) | StepOp::MulPlain(a, _) => passes(*a, false),
            // In rank 1, or where a term comes from a higher level, rank 2 is rescaled first.
            StepOp::Sum(terms) => {
                for t in terms {
                    let stays = step.rank == 2 && !t.up && level(t.step) == plan.levels[i];
                    passes(t.step, stays);
                }
            }
            StepOp::AddPlain { step: a, .. } => {
                passes(*a, step.rank == 2 && level(*a) == plan.levels[i]);
            }
            StepOp::Input(_) => {}
        }
    }
    for o in &plan.outputs {
        wanted[o.index()] = true;
    }
    for i in (0..n).filter(|i| wanted[*i] && quadratic[*i]) {
        cut.sink(i);
    }
    cut.minimum()
}

impl Emitter<'_> {
    // The emitter builds only what the dialect admits: a refusal is a mistake of this module.
    fn push(&mut self, op: CkksOp, operands: &[NodeId], span: Span) -> NodeId {
        let of = |i: usize| self.ranks[operands[i].index()];
        let rank = match op {
            CkksOp::Input(_) => 1,
            CkksOp::Encode { .. } => 0,
            CkksOp::Mul | CkksOp::Square => 2,
            CkksOp::Rescale { .. } => 1,
            CkksOp::Add
            | CkksOp::Sub
            | CkksOp::Neg
            | CkksOp::AddScalar(_)
            | CkksOp::MulScalar { .. }
            | CkksOp::LinComb { .. }
            | CkksOp::Rotate(_)
            | CkksOp::Conjugate
            | CkksOp::TimesI
            | CkksOp::Relinearize
            | CkksOp::DropLevel(_) => of(0),
        };
        self.push_ranked(op, operands, rank, span)
    }

    fn push_ranked(&mut self, op: CkksOp, operands: &[NodeId], rank: u8, span: Span) -> NodeId {
        match self.builder.push(op, operands, span) {
            Ok(id) => {
                if id.index() == self.ranks.len() {
                    self.ranks.push(rank);
                }
                id
            }
            Err(e) => panic!("scale management built an ill-typed node: {e}"),
        }
    }

    fn cipher(&self, id: NodeId) -> (u32, f64, u8) {
        match *self.builder.graph().ty(id) {
            CkksType::Cipher {
                level,
                scale,
                degree,
            } => (level.0, scale.0, degree),
            CkksType::Plain { .. } => panic!("a plaintext stands where a ciphertext is meant"),
        }
    }

    fn degree(&self, id: NodeId) -> u8 {
        self.cipher(id).2
    }

    fn level_of(&self, step: Step) -> u32 {
        self.plan.levels[step.index()] + self.bottom
    }

    /// S_level^rank / factor.
    fn canonical(&self, level: u32, rank: u8, factor: f64) -> f64 {
        let s = self.chain.scales[level as usize];
        if rank == 1 {
            s / factor
        } else {
            s * s / factor
        }
    }

    fn rescale(&mut self, id: NodeId, span: Span) -> NodeId {
        let (level, ..) = self.cipher(id);
        let prime = self.chain.primes[level as usize];
        self.push(CkksOp::Rescale { prime }, &[id], span)
    }

    fn drop_to(&mut self, id: NodeId, level: u32, span: Span) -> NodeId {
        if self.cipher(id).0 == level {
            id
        } else {
            self.push(CkksOp::DropLevel(Level(level)), &[id], span)
        }
    }

    /// The form of rank 1, at whatever level it has.
    fn first(&mut self, step: Step, span: Span) -> NodeId {
        let id = self.nodes[step.index()];
        if self.plan.steps[step.index()].rank == 1 {
            id
        } else {
            self.rescale(id, span)
        }
    }

    /// The form of rank 1 at this level with the canonical scale of its factor.
    fn exact(&mut self, step: Step, level: u32, span: Span) -> NodeId {
        let id = self.first(step, span);
        if self.cipher(id).0 == level {
            return id;
        }
        let factor = self.plan.steps[step.index()].factor;
        let want = self.canonical(level, 1, factor);
        let id = self.drop_to(id, level + 1, span);
        let prime = self.chain.primes[level as usize + 1] as f64;
        let by = want * prime / self.cipher(id).1;
        let id = self.push_ranked(
            CkksOp::MulScalar {
                value: Coefficient::Const(Real(1.0)),
                scale: Real(by),
            },
            &[id],
            2,
            span,
        );
        self.rescale(id, span)
    }

    fn operand(&mut self, step: Step, level: u32, exact: bool, span: Span) -> NodeId {
        if exact {
            self.exact(step, level, span)
        } else {
            self.loose(step, level, span)
        }
    }

    /// The form of rank 1 at this level, its scale as it comes.
    fn loose(&mut self, step: Step, level: u32, span: Span) -> NodeId {
        let id = self.first(step, span);
        self.drop_to(id, level, span)
    }

    fn step(&mut self, i: usize, step: &PlanStep) -> NodeId {
        let level = self.level_of(Step(i as u32));
        let span = self.slots.graph.span(step.node);
        match &step.op {
            StepOp::Input(n) => self.push(CkksOp::Input(self.inputs[*n as usize]), &[], span),
            StepOp::Mul(a, b) => {
                let a = self.operand(*a, level, self.exact[i], span);
                let b = self.operand(*b, level, self.exact[i], span);
                self.push(CkksOp::Mul, &[a, b], span)
            }
            StepOp::Square(a) => {
                let a = self.operand(*a, level, self.exact[i], span);
                self.push(CkksOp::Square, &[a], span)
            }
            StepOp::MulPlain(a, plain) => {
                let a = self.loose(*a, level, span);
                let scale = self.canonical(level, 2, step.factor) / self.cipher(a).1;
                let p = self.encode(*plain, level, scale, span);
                self.push(CkksOp::Mul, &[a, p], span)
            }
            StepOp::Map(a, map) => {
                let a = self.operand(*a, level, self.exact[i], span);
                self.push(map.clone(), &[a], span)
            }
            StepOp::Sum(terms) => self.sum(i, terms, level, span),
            StepOp::AddPlain {
                step: a,
                plain,
                negate,
            } => {
                let one = Term {
                    step: *a,
                    coefficient: Coefficient::Const(Real(1.0)),
                    up: false,
                };
                let id = self.sum(i, &[one], level, span);
                self.add_plain(id, *plain, *negate, span)
            }
        }
    }

    fn encode(&mut self, plain: PlainId, level: u32, scale: f64, span: Span) -> NodeId {
        let op = CkksOp::Encode {
            plain,
            level: Level(level),
            scale: Real(scale),
        };
        self.push(op, &[], span)
    }

    fn add_plain(&mut self, id: NodeId, plain: PlainId, negate: bool, span: Span) -> NodeId {
        match (uniform_plain(self.slots, plain), negate) {
            (Some(Coefficient::Const(v)), _) => {
                let v = if negate { -v.0 } else { v.0 };
                self.push(CkksOp::AddScalar(Coefficient::Const(Real(v))), &[id], span)
            }
            (Some(c @ Coefficient::Plain(_)), false) => {
                self.push(CkksOp::AddScalar(c), &[id], span)
            }
            _ => {
                let (level, scale, _) = self.cipher(id);
                let p = self.encode(plain, level, scale, span);
                let op = if negate { CkksOp::Sub } else { CkksOp::Add };
                self.push(op, &[id, p], span)
            }
        }
    }

    /// Σ coefficient · term at `level`, of the rank and factor of step `i`: terms of one scale
    /// together, then the groups. The scale is canonical, or follows the only term that has one.
    fn sum(&mut self, i: usize, terms: &[Term], level: u32, span: Span) -> NodeId {
        struct Group {
            scale: f64,
            operands: Vec<NodeId>,
            coefficients: Vec<Coefficient>,
        }
        let PlanStep { rank, factor, .. } = self.plan.steps[i];
        let follow = if self.exact[i] { None } else { lone(terms) };
        let mut target = self.canonical(level, rank, factor);
        let mut groups: Vec<Group> = Vec::new();
        let mut cells: FxHashMap<i64, usize> = FxHashMap::default();
        for t in terms {
            let id = if rank == 1 {
                self.operand(t.step, level, follow.is_none(), span)
            } else if t.up
                || self.plan.steps[t.step.index()].rank == 1
                || self.level_of(t.step) != level
            {
                self.loose(t.step, level, span)
            } else {
                self.nodes[t.step.index()]
            };
            let scale = self.cipher(id).1;
            if follow == Some(t.step) && !t.up && self.ranks[id.index()] == rank {
                let own = self.plan.steps[t.step.index()].factor;
                target = scale * (own / factor);
            }
            // Scales that agree but for f64 rounding fall into one cell, or into two side by side.
            let cell = (scale.log2() * (1u64 << 38) as f64).round() as i64;
            let alike = [cell, cell - 1, cell + 1]
                .iter()
                .find_map(|c| cells.get(c).copied());
            match alike {
                Some(g) => {
                    groups[g].operands.push(id);
                    groups[g].coefficients.push(t.coefficient);
                }
                None => {
                    cells.insert(cell, groups.len());
                    groups.push(Group {
                        scale,
                        operands: vec![id],
                        coefficients: vec![t.coefficient],
                    });
                }
            }
        }
        let sign = |c: &Coefficient| match c {
            Coefficient::Const(v) if v.0.abs() == 1.0 => Some(v.0 < 0.0),
            Coefficient::Const(_) | Coefficient::Plain(_) => None,
        };
        let mut sum: Option<NodeId> = None;
        for g in groups {
            let by = target / g.scale;
            let plain_signs = (by - 1.0).abs() < 1e-9;
            let signs: Option<Vec<bool>> = g.coefficients.iter().map(sign).collect();
            match signs {
                Some(signs) if plain_signs && signs.len() <= 2 => {
                    for (id, minus) in g.operands.into_iter().zip(signs) {
                        sum = Some(match (sum, minus) {
                            (None, false) => id,
                            (None, true) => self.push(CkksOp::Neg, &[id], span),
                            (Some(s), false) => self.push(CkksOp::Add, &[s, id], span),
                            (Some(s), true) => self.push(CkksOp::Sub, &[s, id], span),
                        });
                    }
                }
                _ => {
                    // Integers as they are, when nothing needs another scale.
                    let by = if plain_signs { 1.0 } else { by };
                    let id = if let [value] = g.coefficients[..] {
                        let scale = Real(by);
                        let op = CkksOp::MulScalar { value, scale };
                        self.push_ranked(op, &g.operands, rank, span)
                    } else {
                        let op = CkksOp::LinComb {
                            coefficients: g.coefficients,
                            scale: Real(by),
                        };
                        self.push_ranked(op, &g.operands, rank, span)
                    };
                    sum = Some(match sum {
                        None => id,
                        Some(s) => self.push(CkksOp::Add, &[s, id], span),
                    });
                }
            }
        }
        // A sum of the dialect has a term.
        sum.unwrap_or_else(|| panic!("a sum without terms"))
    }
}
