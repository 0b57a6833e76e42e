//! The order of the passes on tensor programs, and what each of them is held to.
//!
//! After every pass, when it is asked for, the circuit is verified and compared with the one before
//! at random points modulo a prime; a pass that would make the objective worse is not taken.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::{Circuit, Module};
use hecc_ir::tensor::Tensor;
use hecc_ir::verify::verify_tensor;
use hecc_params::{CostModel, Switch};
use rustc_hash::FxHashMap;
use serde::Serialize;
use thiserror::Error;

use crate::layout;
use crate::tensor::build::Simplify;
use crate::tensor::check::Reference;
use crate::tensor::cost::{self, Cost};
use crate::tensor::{balance, expand, matrix, poly, scan, simplify, unroll};

/// What the optimizer minimises first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Products of two secrets on a path.
    Depth,
    /// Levels on a path, then depth.
    #[default]
    Levels,
    /// Predicted time on one thread.
    Work,
    /// Predicted time on several threads.
    Time,
    /// Bytes of encrypted inputs and results.
    Bandwidth,
}

impl Objective {
    /// All of them.
    pub const ALL: [Objective; 5] = [
        Objective::Depth,
        Objective::Levels,
        Objective::Work,
        Objective::Time,
        Objective::Bandwidth,
    ];
}

/// What the caller wants of the tensor passes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// 0 as written, 1 without growth, 2 least levels with at most twice the work of 1, 3 with at most eight times.
    pub opt_level: u8,
    /// Whether every pass is checked (`--verify-passes`).
    pub verify: bool,
    /// What is minimised.
    pub objective: Objective,
    /// Whether what is second in the objective, depth where levels are first, is worth work, too.
    pub shallow: bool,
    /// Most nodes of the unrolled program.
    pub node_limit: usize,
    /// What work takes, for the objectives that weigh it against levels.
    pub prices: Prices,
}

/// Levels beyond which a price is not looked up but that of the last is taken.
const PRICED_LEVELS: usize = 64;

/// What a cost model says of an operation on a path of so many levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    threads: f64,
    /// Microseconds of a key switch halfway up, by levels.
    key_switch: [f64; PRICED_LEVELS],
}

impl Prices {
    /// The prices of a model.
    pub fn of(model: &CostModel) -> Prices {
        let mut key_switch = [0.0; PRICED_LEVELS];
        for (levels, price) in key_switch.iter_mut().enumerate() {
            let (ring, special) = layout::ring_for(levels as u32, true);
            let size = Switch {
                // half of the levels are used up where an operation is, on average
                limbs: (levels + 1).div_ceil(2),
                special,
                digit_limbs: special,
            };
            *price = model.ring(ring).key_switch(size);
        }
        Prices {
            threads: f64::from(model.threads),
            key_switch,
        }
    }

    fn key_switch(&self, levels: u32) -> f64 {
        self.key_switch[(levels as usize).min(PRICED_LEVELS - 1)]
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            opt_level: 2,
            verify: false,
            objective: Objective::Levels,
            shallow: true,
            node_limit: 1_000_000,
            prices: Prices::of(CostModel::shipped()),
        }
    }
}

impl Options {
    /// What is looked at first in a value.
    pub fn key(&self) -> balance::Key {
        match self.objective {
            Objective::Depth => balance::by_depth,
            Objective::Levels | Objective::Bandwidth | Objective::Work | Objective::Time => {
                balance::by_levels
            }
        }
    }

    /// How much the work may grow over that of `-O 1`.
    pub fn growth(&self) -> f64 {
        match self.opt_level {
            0 | 1 => 1.0,
            2 => 2.0,
            _ => 8.0,
        }
    }
}

/// What one pass did.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
    /// Live nodes on secrets before and after.
    pub nodes: (usize, usize),
    /// Estimated depth before and after.
    pub depth: (u32, u32),
    /// Estimated levels before and after.
    pub levels: (u32, u32),
    /// Estimated work before and after.
    pub work: (f64, f64),
    /// False when its result was not taken, because the objective would be worse.
    pub kept: bool,
}

/// A program that cannot be compiled, or a pass that broke one.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The program is at fault.
    #[error("{}", .0.message)]
    Program(Box<Diagnostic>),
    /// A pass is at fault: an error in hecc itself.
    #[error("pass {pass} broke the program: {why}")]
    Pass {
        /// The guilty pass.
        pass: &'static str,
        /// How.
        why: String,
    },
}

impl From<Box<Diagnostic>> for CompileError {
    fn from(d: Box<Diagnostic>) -> Self {
        CompileError::Program(d)
    }
}

/// What a pass may know of the run that it is part of.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// What the caller wants.
    pub options: Options,
    /// Most work that the result may need.
    pub work_limit: f64,
}

/// A rewrite of a flat tensor circuit that keeps its meaning exactly.
pub trait Pass {
    /// A short name, as `--print-after` and the report show it.
    fn name(&self) -> &'static str;

    /// The circuit rewritten; `None` when there is nothing to do.
    fn run(&self, circuit: &Circuit<Tensor>, context: &Context) -> Option<Circuit<Tensor>>;

    /// Whether the result is taken even when the estimate does not improve: normal forms that later
    /// passes need.
    fn normalizes(&self) -> bool {
        false
    }
}

macro_rules! pass {
    ($(#[$doc:meta])* $type:ident, $name:literal, $normalizes:literal, $run:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $type;

        impl Pass for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn run(
                &self,
                circuit: &Circuit<Tensor>,
                context: &Context,
            ) -> Option<Circuit<Tensor>> {
                let run: fn(&Circuit<Tensor>, &Context) -> Option<Circuit<Tensor>> = $run;
                run(circuit, context)
            }

            fn normalizes(&self) -> bool {
                $normalizes
            }
        }
    };
}

pass!(
    /// [`simplify::simplify`] of data movement alone.
    Forward, "forward", true, |c, _| Some(simplify::simplify(c, Simplify::Structure))
);
pass!(
    /// [`simplify::simplify`].
    SimplifyAll, "simplify", true, |c, _| Some(simplify::simplify(c, Simplify::All))
);
pass!(
    /// [`expand::expand_as_written`].
    AsWritten, "expand", true, |c, _| expand::expand_as_written(c)
);
pass!(
    /// [`simplify::dead_code`].
    DeadCode, "dead-code", true, |c, _| Some(simplify::dead_code(c))
);

pass!(
    /// [`balance::balance`].
    Balance, "balance", false, |c, context| balance::balance(c, context.options.key())
);
pass!(
    /// [`poly::polynomials`].
    Polynomials, "polynomials", true, |c, context| poly::polynomials(c, context.options.key())
);

pass!(
    /// [`matrix::matrix`].
    Matrix, "matrix", false, |c, context| {
        let options = &context.options;
        matrix::matrix(c, options.key(), options.shallow, context.work_limit)
    }
);

pass!(
    /// [`scan::scan`].
    Scan, "scan", false, |c, context| scan::scan(c, context.options.key(), context.work_limit)
);

/// Passes in order.
pub type Passes = Vec<Box<dyn Pass>>;

/// The passes of an optimization level, in order. Unrolling comes before them.
#[derive(Default)]
pub struct Plan {
    /// What any work is measured from.
    pub base: Passes,
    /// Forms that later passes look for.
    pub forms: Passes,
    /// What is tried beside going on without: it may take away what later passes would find.
    pub tried: Passes,
    /// The rest.
    pub rest: Passes,
}

/// The passes of an optimization level.
pub fn passes(opt_level: u8) -> Plan {
    if opt_level == 0 {
        return Plan {
            base: vec![Box::new(Forward), Box::new(AsWritten), Box::new(DeadCode)],
            ..Plan::default()
        };
    }
    let mut plan = Plan {
        base: vec![Box::new(SimplifyAll), Box::new(Balance)],
        forms: vec![Box::new(Polynomials), Box::new(Balance)],
        ..Plan::default()
    };
    if opt_level >= 2 {
        for _ in 0..SCANS {
            plan.tried.push(Box::new(Matrix));
            plan.rest.push(Box::new(Scan));
        }
        plan.rest.push(Box::new(Balance));
    }
    plan.rest.push(Box::new(AsWritten));
    plan.rest.push(Box::new(SimplifyAll));
    plan
}

/// How often critical chains are looked for: what was not critical before may be so afterwards.
const SCANS: usize = 4;

/// What looks at the program after every pass.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Module<Tensor>);

/// Runs the passes of `options.opt_level`. The result has no loops and no powers or polynomials left.
///
/// # Errors
/// [`CompileError::Program`] when the unrolled program is too large or an index leaves its tensor;
/// [`CompileError::Pass`] when a check finds that a pass is wrong.
pub fn optimize(
    module: &Module<Tensor>,
    options: &Options,
    observer: Option<Observer<'_>>,
) -> Result<(Circuit<Tensor>, Vec<PassReport>), CompileError> {
    let mut run = Run {
        options: *options,
        observer,
        reports: Vec::new(),
        reference: options.verify.then(|| Reference::new(module)),
        changes: 0,
        settled: FxHashMap::default(),
    };
    let start = Instant::now();
    let how = match options.opt_level {
        0 => Simplify::Structure,
        _ => Simplify::All,
    };
    let circuit = unroll::unroll(module, how, options.node_limit)?;
    expand::within(&circuit, options.node_limit)?;
    let mut cost = cost::cost(&circuit);
    let mut circuit = Rc::new(circuit);
    run.note("unroll", start, (cost, cost), true, &mut circuit)?;
    let mut context = Context {
        options: *options,
        work_limit: f64::INFINITY,
    };
    let plan = passes(options.opt_level);
    (circuit, cost) = run.all(&plan.base, circuit, cost, &context)?;
    context.work_limit = cost.work * options.growth();
    (circuit, cost) = run.all(&plan.forms, circuit, cost, &context)?;
    let before = (Rc::clone(&circuit), cost, run.changes);
    let first = run.reports.len();
    (circuit, cost) = run.all(&plan.tried, circuit, cost, &context)?;
    let tried = run.reports.len();
    let changed = run.changes != before.2;
    (circuit, cost) = run.all(&plan.rest, circuit, cost, &context)?;
    if changed {
        let mut without = Run {
            options: *options,
            observer: None,
            reports: Vec::new(),
            reference: run.reference.clone(),
            changes: 0,
            settled: FxHashMap::default(),
        };
        let (other, other_cost) = without.all(&plan.rest, before.0, before.1, &context)?;
        if !better(options, &context, cost, other_cost) {
            run.reports.truncate(tried);
            for report in &mut run.reports[first..] {
                report.kept = false;
            }
            run.reports.extend(without.reports);
            circuit = other;
        }
    }
    Ok((Rc::unwrap_or_clone(circuit), run.reports))
}

/// The work of the program before what may let it grow: that of the last of the first passes.
pub fn base_work(opt_level: u8, reports: &[PassReport]) -> Option<f64> {
    let base = passes(opt_level).base;
    // unrolling comes before them
    reports.get(base.len()).map(|r| r.work.1)
}

struct Run<'a> {
    options: Options,
    observer: Option<Observer<'a>>,
    reports: Vec<PassReport>,
    reference: Option<Reference>,
    /// How often a pass has changed the circuit.
    changes: u32,
    /// By pass, how many changes there were when it had run: it changes nothing until there are more.
    settled: FxHashMap<&'static str, u32>,
}

impl Run<'_> {
    fn settled(&self, pass: &dyn Pass) -> bool {
        self.settled.get(pass.name()) == Some(&self.changes)
    }

    /// Passes one after the other.
    fn all(
        &mut self,
        passes: &Passes,
        mut circuit: Rc<Circuit<Tensor>>,
        mut cost: Cost,
        context: &Context,
    ) -> Result<(Rc<Circuit<Tensor>>, Cost), CompileError> {
        for pass in passes {
            // A pass that is tried again and again stops when it gains nothing.
            let idle = self.reports.last().is_some_and(|r| {
                r.name == pass.name()
                    && (!r.kept
                        || (r.levels.0, r.depth.0, r.work.0) == (r.levels.1, r.depth.1, r.work.1))
            });
            if !idle && !self.settled(&**pass) {
                (circuit, cost) = self.step(&**pass, circuit, cost, context)?;
            }
        }
        Ok((circuit, cost))
    }

    fn step(
        &mut self,
        pass: &dyn Pass,
        before: Rc<Circuit<Tensor>>,
        cost: Cost,
        context: &Context,
    ) -> Result<(Rc<Circuit<Tensor>>, Cost), CompileError> {
        let start = Instant::now();
        let new = pass.run(&before, context).map(|c| (cost::cost(&c), c));
        let kept = new
            .as_ref()
            .is_none_or(|(new, _)| pass.normalizes() || better(&self.options, context, *new, cost));
        let new = new.filter(|(_, after)| kept && *after != *before);
        self.changes += u32::from(new.is_some());
        self.settled.insert(pass.name(), self.changes);
        let (new_cost, mut after) = new.map_or((cost, before), |(cost, c)| (cost, Rc::new(c)));
        self.note(pass.name(), start, (cost, new_cost), kept, &mut after)?;
        Ok((after, new_cost))
    }

    /// Reports a pass, shows its result and checks it.
    fn note(
        &mut self,
        name: &'static str,
        start: Instant,
        (before, after): (Cost, Cost),
        kept: bool,
        circuit: &mut Rc<Circuit<Tensor>>,
    ) -> Result<(), CompileError> {
        self.reports.push(PassReport {
            name,
            time: start.elapsed(),
            nodes: (before.nodes, after.nodes),
            depth: (before.depth, after.depth),
            levels: (before.levels, after.levels),
            work: (before.work, after.work),
            kept,
        });
        if self.observer.is_none() && self.reference.is_none() {
            return Ok(());
        }
        let name_only = Circuit::new(circuit.name.clone());
        let whole = Rc::unwrap_or_clone(std::mem::replace(circuit, Rc::new(name_only)));
        let mut module = Module::single(whole);
        if let Some(observer) = &mut self.observer {
            observer(name, &module);
        }
        if let Some(reference) = &self.reference {
            let violations = verify_tensor(&module);
            let why = match violations.first() {
                Some(v) => Err(v.to_string()),
                None => reference.compare(module.entry()),
            };
            why.map_err(|why| CompileError::Pass { pass: name, why })?;
        }
        *circuit = Rc::new(module.circuits.swap_remove(0));
        Ok(())
    }
}

/// Whether `new` is no worse than `old` by the objective, and within the limit of work.
fn better(options: &Options, context: &Context, new: Cost, old: Cost) -> bool {
    let prices = &options.prices;
    let key = |c: Cost| {
        let (d, l) = (f64::from(c.depth), f64::from(c.levels));
        match options.objective {
            Objective::Depth => [d, l, c.work],
            Objective::Levels => [l, d, c.work],
            Objective::Work => [c.work * prices.key_switch(c.levels), l, d],
            Objective::Time => [
                c.span.max(c.work / prices.threads) * prices.key_switch(c.levels),
                c.work,
                l,
            ],
            Objective::Bandwidth => [
                c.inputs * input_bytes(c.levels),
                c.work * prices.key_switch(c.levels),
                d,
            ],
        }
    };
    let (a, b) = (key(new), key(old));
    a <= b && (new.work <= context.work_limit || new.work <= old.work)
}

/// Bytes of an encrypted input of a circuit of so many levels.
fn input_bytes(levels: u32) -> f64 {
    let (ring, _) = layout::ring_for(levels, true);
    (16 * (levels as usize + 1) * ring.degree()) as f64
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.1} ms, nodes {} → {}, depth {} → {}, levels {} → {}",
            self.name,
            self.time.as_secs_f64() * 1e3,
            self.nodes.0,
            self.nodes.1,
            self.depth.0,
            self.depth.1,
            self.levels.0,
            self.levels.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::testing::{Program, products, run};
    use hecc_ir::random::{Shapes, SplitMix64};
    use hecc_ir::tensor::{Basis, ConstTensor, Polynomial, TensorOp};

    #[test]
    fn an_exponent_that_is_too_large_is_an_error() {
        let mut p = Program::new();
        let x = p.secret();
        let y = p.op(TensorOp::Pow(1_000_000_000), &[x]);
        let module = p.done(y);
        match optimize(&module, &Options::default(), None) {
            Err(CompileError::Program(d)) => assert_eq!(d.code, "E3101"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fourth_power_plus_two() {
        let mut p = Program::new();
        let x = p.secret();
        let mut y = x;
        for _ in 0..3 {
            y = p.mul(y, x);
        }
        let two = p.num(2.0);
        let y = p.add(y, two);
        let module = p.done(y);
        assert_eq!(cost::cost(&run(&module, 0).0).depth, 3);
        for level in 1..4 {
            let (after, _) = run(&module, level);
            assert_eq!(cost::cost(&after).depth, 2);
            assert_eq!(products(&after), 2);
        }
    }

    /// W2·(W1·x + b1) + b2 with public weights that are no integers, in a batch or alone.
    fn two_layers(sizes: [usize; 3], batch: Option<u32>) -> Module<Tensor> {
        let mut random = SplitMix64::new(5);
        let mut p = Program::new();
        p.circuit.meta.batch = batch;
        let mut x = p.input(hecc_ir::tensor::Secrecy::Secret, &[sizes[0]]);
        for (from, to) in [(sizes[0], sizes[1]), (sizes[1], sizes[2])] {
            let mut weights = |shape: &[usize]| {
                let count = shape.iter().product();
                let data = (0..count).map(|_| random.below(1 << 20) as f64 / 2f64.powi(19) - 1.0);
                ConstTensor::new(shape, data.collect::<Vec<f64>>())
                    .expect("as many as the shape says")
            };
            let (w, b) = (weights(&[to, from]), weights(&[to]));
            let (w, b) = (p.op(TensorOp::Const(w), &[]), p.op(TensorOp::Const(b), &[]));
            let product = p.op(TensorOp::MatMul, &[w, x]);
            x = p.add(product, b);
        }
        p.done(x)
    }

    #[test]
    fn adjacent_linear_layers_are_one_where_that_is_cheaper() {
        let layers = |sizes, batch, opt_level| {
            let (after, _) = run(&two_layers(sizes, batch), opt_level);
            cost::cost(&after).levels
        };
        // A product of matrices has fewer entries than the two, or not many more.
        for opt_level in 2..4 {
            for batch in [None, Some(4096)] {
                assert_eq!(layers([16, 8, 4], batch, opt_level), 1);
            }
        }
        // Through a bottleneck it has many more: as vectors that is no matter, as 4096 ciphertexts of a batch
        // it is more than twice the work, and less than eight times.
        assert_eq!(layers([64, 2, 64], None, 2), 1);
        assert_eq!(layers([64, 2, 64], Some(4096), 2), 2);
        assert_eq!(layers([64, 2, 64], Some(4096), 3), 1);
        assert_eq!(layers([256, 1, 256], Some(4096), 3), 2);
        // Where work comes first, a level is not worth it either.
        let options = Options {
            opt_level: 3,
            objective: Objective::Work,
            ..Options::default()
        };
        let (after, _) = optimize(&two_layers([64, 2, 64], Some(4096)), &options, None).unwrap();
        assert_eq!(cost::cost(&after).levels, 2);
    }

    #[test]
    fn nothing_to_be_expanded_is_left() {
        let mut p = Program::new();
        let x = p.secret();
        let y = p.op(TensorOp::Pow(5), &[x]);
        p.circuit.graph.set_keep(y);
        let z = p.op(
            TensorOp::Poly(Polynomial {
                basis: Basis::Monomial,
                coefficients: [0.1, 0.0, 0.3, 0.7].map(hecc_ir::graph::Real).to_vec(),
            }),
            &[y],
        );
        p.circuit.graph.set_keep(z);
        let module = p.done(z);
        for level in 0..4 {
            let (after, _) = run(&module, level);
            assert!(
                after
                    .graph
                    .ids()
                    .all(|id| !matches!(after.graph.op(id), TensorOp::Pow(_) | TensorOp::Poly(_)))
            );
        }
    }

    #[test]
    fn random_programs_keep_their_meaning_and_never_get_worse() {
        for seed in 0..400 {
            let shapes = Shapes {
                operations: 12 + (seed as usize % 40),
                degree: 12 + seed % 30,
                ..Shapes::default()
            };
            let circuit = hecc_ir::random::circuit(seed, &shapes);
            let module = Module::single(circuit);
            let written = cost::cost(&run(&module, 0).0);
            for level in 1..4 {
                let (after, reports) = run(&module, level);
                let cost = cost::cost(&after);
                assert!(
                    (cost.levels, cost.depth) <= (written.levels, written.depth),
                    "seed {seed}, -O {level}: {written:?} → {cost:?}\n{reports:#?}"
                );
                let (again, _) = run(&Module::single(after.clone()), level);
                let second = cost::cost(&again);
                assert!(
                    (second.levels, second.depth) <= (cost.levels, cost.depth),
                    "seed {seed}, -O {level}: a second run is worse"
                );
            }
        }
    }

    /// Deep programs on scalars with shared subterms, cancellation, trivial and public factors.
    fn deep(seed: u64) -> Module<Tensor> {
        let mut random = SplitMix64::new(seed);
        let mut p = Program::new();
        let mut pool: Vec<_> = (0..2 + random.below(6)).map(|_| p.secret()).collect();
        pool.push(p.public());
        for c in [0.0, 1.0, -1.0, 2.0, 0.1, 0.75] {
            pool.push(p.num(c));
        }
        let near = 1 + random.below(12);
        for _ in 0..10 + random.below(70) {
            let n = pool.len();
            // Mostly the newest values: long chains.
            let mut pick = || {
                let at = if random.one_in(3) {
                    random.below(n)
                } else {
                    n - 1 - random.below(near.min(n))
                };
                (pool[at], random.below(9))
            };
            let ((a, what), (b, _)) = (pick(), pick());
            let new = match what {
                0..=3 => p.mul(a, b),
                4..=5 => p.add(a, b),
                6 => p.sub(a, b),
                7 => p.op(TensorOp::Neg, &[a]),
                _ => p.op(TensorOp::Pow(3), &[a]),
            };
            pool.push(new);
        }
        for _ in 0..random.below(4) {
            let at = random.below(pool.len());
            p.output(pool[at]);
        }
        let last = pool[pool.len() - 1];
        p.done(last)
    }

    #[test]
    fn deep_random_programs_keep_their_meaning() {
        let mut gained = 0;
        for seed in 0..600 {
            let module = deep(seed);
            let written = cost::cost(&run(&module, 0).0);
            for level in 1..4 {
                let (after, reports) = run(&module, level);
                let cost = cost::cost(&after);
                assert!(
                    (cost.levels, cost.depth) <= (written.levels, written.depth),
                    "seed {seed}, -O {level}: {written:?} → {cost:?}\n{reports:#?}"
                );
                let scans = reports.iter().filter(|r| r.name == "scan");
                gained += scans.filter(|r| r.levels.1 < r.levels.0).count();
            }
        }
        assert!(gained > 50, "scans gained {gained} times");
    }

    #[test]
    fn work_and_time_are_weighed_by_the_model_that_is_given() {
        let circuit = |levels: u32, work: f64| Cost {
            depth: levels,
            levels,
            work,
            span: work / 2.0,
            ..Cost::default()
        };
        // Fewer levels with more work against more levels with less.
        let (few, many) = (circuit(3, 200.0), circuit(9, 100.0));
        let context = Context {
            options: Options::default(),
            work_limit: f64::INFINITY,
        };
        let flat = Prices {
            threads: 2.0,
            key_switch: [1.0; PRICED_LEVELS],
        };
        let mut steep = flat;
        for (levels, price) in steep.key_switch.iter_mut().enumerate() {
            *price = levels as f64;
        }
        for objective in [Objective::Work, Objective::Time] {
            let prefers_few = |prices: Prices| {
                let options = Options {
                    objective,
                    prices,
                    ..Options::default()
                };
                !better(&options, &context, many, few)
            };
            assert!(!prefers_few(flat), "{objective:?}");
            assert!(prefers_few(steep), "{objective:?}");
        }
        // What ships is between, and its larger rings are dearer.
        let shipped = Options::default().prices;
        assert!(shipped.key_switch(20) > shipped.key_switch(3));
        assert_eq!(shipped.key_switch(1000), shipped.key_switch(63));
    }

    #[test]
    fn a_wrong_pass_is_named() {
        let mut p = Program::new();
        let x = p.secret();
        let y = p.mul(x, x);
        let module = p.done(y);
        let reference = Reference::new(&module);
        let mut q = Program::new();
        let x = q.secret();
        let y = q.add(x, x);
        let other = q.done(y);
        assert!(reference.compare(other.entry()).is_err());
        assert!(reference.compare(module.entry()).is_ok());
    }
}
