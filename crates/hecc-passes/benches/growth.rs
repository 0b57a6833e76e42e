//! How long the tensor passes take on large programs, and how that grows with them.
//!
//! Without arguments every program is optimised with a quarter of the operations and with all,
//! alternately, and the least times of several runs and their quotient are printed. With a name and
//! a count, one program is optimised once, and every pass reported: for `perf` and `callgrind`.
//!
//! ```text
//! cargo bench -p hecc-passes --bench growth
//! cargo bench -p hecc-passes --bench growth -- product 100000
//! ```

use std::time::{Duration, Instant};

use hecc_ir::graph::{Circuit, Module, NodeId};
use hecc_ir::random::SplitMix64;
use hecc_ir::span::Span;
use hecc_ir::tensor::{ConstTensor, Param, ResultDecl, Secrecy, Shape, Tensor, TensorOp};
use hecc_passes::pipeline::{Options, PassReport, optimize};

/// Operations of a large program, as written.
const LARGE: usize = 100_000;
/// How often each is measured.
const RUNS: usize = 5;

type Make = fn(usize) -> Module<Tensor>;

const PROGRAMS: [(&str, Make); 4] = [
    ("recurrence", recurrence),
    ("product", product),
    ("horner", horner),
    ("graph", graph),
];

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    if let [name, count] = &args[..] {
        let count = count.parse().expect("a count of operations");
        let (_, make) = PROGRAMS
            .iter()
            .find(|p| p.0 == name)
            .expect("recurrence, product, horner or graph");
        for report in time(*make, count).1 {
            println!("{report}");
        }
        return;
    }
    println!("program      {:>8}  {LARGE:>8}  quotient", LARGE / 4);
    for (name, make) in PROGRAMS {
        let mut least = [Duration::MAX; 2];
        for _ in 0..RUNS {
            for (size, least) in [LARGE / 4, LARGE].into_iter().zip(&mut least) {
                *least = (*least).min(time(make, size).0);
            }
        }
        let [small, large] = least.map(|t| t.as_secs_f64());
        println!(
            "{name:<12} {small:>6.3} s  {large:>6.3} s  {:.1}",
            large / small
        );
    }
}

fn time(make: Make, size: usize) -> (Duration, Vec<PassReport>) {
    let module = make(size);
    let start = Instant::now();
    let (_, reports) = optimize(&module, &Options::default(), None).expect("compiles");
    (start.elapsed(), reports)
}

/// A circuit on scalars under construction.
struct Program(Circuit<Tensor>);

impl Program {
    fn new() -> Program {
        Program(Circuit::new("growth"))
    }

    fn op(&mut self, op: TensorOp, operands: &[NodeId]) -> NodeId {
        self.0
            .push(op, operands, Span::default())
            .expect("well typed")
    }

    fn secret(&mut self) -> NodeId {
        let number = self.0.inputs.len() as u32;
        self.0.inputs.push(Param {
            name: format!("x{number}"),
            secrecy: Secrecy::Secret,
            shape: Shape::new(),
            range: None,
            span: Span::default(),
        });
        self.op(TensorOp::Input(number), &[])
    }

    fn num(&mut self, value: f64) -> NodeId {
        self.op(TensorOp::Const(ConstTensor::scalar(value)), &[])
    }

    fn output(&mut self, id: NodeId) {
        let decl = ResultDecl {
            name: format!("y{}", self.0.outputs.len()),
            range: None,
            span: Span::default(),
        };
        self.0.outputs.push((id, decl));
    }

    fn done(mut self, id: NodeId) -> Module<Tensor> {
        self.output(id);
        Module::single(self.0)
    }
}

/// r = r·a + b, alternately.
fn recurrence(n: usize) -> Module<Tensor> {
    let mut p = Program::new();
    let mut r = p.secret();
    for _ in 0..n / 4 {
        let (a, b) = (p.secret(), p.secret());
        r = p.op(TensorOp::Mul, &[r, a]);
        r = p.op(TensorOp::Add, &[r, b]);
    }
    p.done(r)
}

fn product(n: usize) -> Module<Tensor> {
    let mut p = Program::new();
    let mut r = p.secret();
    for _ in 1..n {
        let x = p.secret();
        r = p.op(TensorOp::Mul, &[r, x]);
    }
    p.done(r)
}

/// A sum of polynomials of degree 7 by Horner's rule, each of a parameter of its own.
fn horner(n: usize) -> Module<Tensor> {
    let mut p = Program::new();
    let mut r = p.num(0.0);
    for _ in 0..n / 20 {
        let x = p.secret();
        let mut y = p.num(0.3);
        for k in 0..8 {
            y = p.op(TensorOp::Mul, &[y, x]);
            let c = p.num(0.1 * f64::from(k));
            y = p.op(TensorOp::Add, &[y, c]);
        }
        r = p.op(TensorOp::Add, &[r, y]);
    }
    p.done(r)
}

/// A random graph whose depth grows with its size.
fn graph(n: usize) -> Module<Tensor> {
    let mut random = SplitMix64::new(12345);
    let mut p = Program::new();
    let mut pool: Vec<_> = (0..64).map(|_| p.secret()).collect();
    for i in 0..n {
        let mut pick = || pool[pool.len() - 1 - random.below(pool.len().min(200))];
        let (a, b) = (pick(), pick());
        let v = match random.below(4) {
            0 if i % 7 == 0 => p.op(TensorOp::Mul, &[a, b]),
            1 => p.op(TensorOp::Sub, &[a, b]),
            2 => {
                let c = p.num((i % 100) as f64 * 0.1);
                p.op(TensorOp::Mul, &[c, a])
            }
            _ => p.op(TensorOp::Add, &[a, b]),
        };
        pool.push(v);
    }
    for v in pool.iter().rev().take(50) {
        p.output(*v);
    }
    Module::single(p.0)
}
