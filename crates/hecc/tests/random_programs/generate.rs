//! Random well-typed programs, as text, with an evaluator of their own.
//!
//! The evaluator shares no code with hecc: it walks the generator's tree in f64 with naive loops,
//! so that a misreading of the language cannot hide on both sides.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub type Shape = Vec<usize>;

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct T {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl T {
    fn scalar(x: f64) -> T {
        T {
            shape: vec![],
            data: vec![x],
        }
    }

    fn filled(shape: &[usize], x: f64) -> T {
        T {
            shape: shape.to_vec(),
            data: vec![x; shape.iter().product()],
        }
    }

    fn at(&self, index: &[usize]) -> f64 {
        let mut k = 0;
        for (i, n) in index.iter().zip(&self.shape) {
            k = k * n + i;
        }
        self.data[k]
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
    MatMul,
}

#[derive(Clone, Debug)]
enum Index {
    At(usize),
    Iv(String, i64),
    Range(usize, usize),
}

#[derive(Clone, Debug)]
enum E {
    Var(String),
    Num(f64),
    /// The induction variable as a number.
    Iv(String),
    Neg(Box<E>),
    Bin(Op, Box<E>, Box<E>),
    Pow(Box<E>, u32),
    Sum(Box<E>, Option<usize>),
    Mean(Box<E>),
    Dot(Box<E>, Box<E>),
    Rotate(Box<E>, i64),
    Concat(Vec<E>),
    Reshape(Box<E>, Shape),
    Transpose(Box<E>),
    Pad(Box<E>, Vec<(usize, usize)>),
    Fill(bool, Shape),
    Diag(Box<E>),
    Conv(Box<E>, Box<E>, usize),
    Pool(bool, Box<E>, usize),
    Poly(Box<E>, Vec<f64>),
    Index(Box<E>, Vec<Index>),
    List(Vec<E>),
    Comprehension(Box<E>, String, usize),
    Call(String, Vec<E>),
}

#[derive(Clone, Debug)]
enum Cond {
    Parity(String, u64),
    Less(u32, u32),
}

#[derive(Clone, Debug)]
enum S {
    Let(String, E, Option<f64>),
    Var(String, E),
    Assign(String, E),
    AssignAt(String, Vec<Index>, E),
    For(String, usize, usize, &'static str, Vec<S>),
    If(Cond, Vec<S>, Vec<S>),
}

struct Function {
    name: String,
    params: Vec<String>,
    body: Vec<S>,
    result: E,
}

#[derive(Default, Clone)]
struct Env {
    vars: BTreeMap<String, T>,
    ivs: BTreeMap<String, i64>,
}

fn unravel(mut k: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for i in (0..shape.len()).rev() {
        out[i] = k % shape[i];
        k /= shape[i];
    }
    out
}

fn build(shape: &[usize], f: impl Fn(&[usize]) -> f64) -> T {
    let n: usize = shape.iter().product();
    T {
        shape: shape.to_vec(),
        data: (0..n).map(|k| f(&unravel(k, shape))).collect(),
    }
}

fn broadcast_shape(a: &[usize], b: &[usize]) -> Shape {
    let rank = a.len().max(b.len());
    let get = |s: &[usize], i: usize| {
        if i + s.len() >= rank {
            s[i + s.len() - rank]
        } else {
            1
        }
    };
    (0..rank).map(|i| get(a, i).max(get(b, i))).collect()
}

fn zip(a: &T, b: &T, f: impl Fn(f64, f64) -> f64) -> T {
    let shape = broadcast_shape(&a.shape, &b.shape);
    let pick = |t: &T, index: &[usize]| {
        let skip = index.len() - t.shape.len();
        let inner: Vec<usize> = index[skip..]
            .iter()
            .zip(&t.shape)
            .map(|(i, n)| if *n == 1 { 0 } else { *i })
            .collect();
        t.at(&inner)
    };
    build(&shape, |i| f(pick(a, i), pick(b, i)))
}

struct Machine<'a> {
    functions: &'a [Function],
}

impl Machine<'_> {
    fn eval(&self, e: &E, env: &Env) -> T {
        let ev = |e: &E| self.eval(e, env);
        match e {
            E::Var(name) => env.vars[name].clone(),
            E::Num(x) => T::scalar(*x),
            E::Iv(name) => T::scalar(env.ivs[name] as f64),
            E::Neg(a) => {
                let a = ev(a);
                T {
                    data: a.data.iter().map(|x| -x).collect(),
                    shape: a.shape,
                }
            }
            E::Bin(Op::MatMul, a, b) => {
                let (a, b) = (ev(a), ev(b));
                let k = b.shape[0];
                let shape: Shape = a.shape[..a.shape.len() - 1]
                    .iter()
                    .chain(&b.shape[1..])
                    .copied()
                    .collect();
                let rows = a.shape.len() - 1;
                build(&shape, |i| {
                    (0..k)
                        .map(|j| {
                            let ia: Vec<usize> = i[..rows].iter().copied().chain([j]).collect();
                            let ib: Vec<usize> =
                                [j].into_iter().chain(i[rows..].iter().copied()).collect();
                            a.at(&ia) * b.at(&ib)
                        })
                        .sum()
                })
            }
            E::Bin(op, a, b) => zip(&ev(a), &ev(b), |x, y| match op {
                Op::Add => x + y,
                Op::Sub => x - y,
                Op::Mul => x * y,
                Op::Div => x / y,
                Op::MatMul => unreachable!("handled above"),
            }),
            E::Pow(a, n) => {
                let a = ev(a);
                T {
                    data: a.data.iter().map(|x| x.powi(*n as i32)).collect(),
                    shape: a.shape,
                }
            }
            E::Sum(a, None) => T::scalar(ev(a).data.iter().sum()),
            E::Sum(a, Some(axis)) => {
                let a = ev(a);
                let mut shape = a.shape.clone();
                let n = shape.remove(*axis);
                build(&shape, |i| {
                    (0..n)
                        .map(|j| {
                            let mut full = i.to_vec();
                            full.insert(*axis, j);
                            a.at(&full)
                        })
                        .sum()
                })
            }
            E::Mean(a) => {
                let a = ev(a);
                T::scalar(a.data.iter().sum::<f64>() / a.data.len() as f64)
            }
            E::Dot(a, b) => T::scalar(ev(a).data.iter().zip(&ev(b).data).map(|(x, y)| x * y).sum()),
            E::Rotate(a, k) => {
                let a = ev(a);
                let n = a.data.len() as i64;
                build(&a.shape, |i| {
                    a.data[(i[0] as i64 + k).rem_euclid(n) as usize]
                })
            }
            E::Concat(parts) => {
                let parts: Vec<T> = parts.iter().map(ev).collect();
                let mut shape = parts[0].shape.clone();
                shape[0] = parts.iter().map(|p| p.shape[0]).sum();
                T {
                    shape,
                    data: parts.into_iter().flat_map(|p| p.data).collect(),
                }
            }
            E::Reshape(a, shape) => T {
                shape: shape.clone(),
                data: ev(a).data,
            },
            E::Transpose(a) => {
                let a = ev(a);
                build(&[a.shape[1], a.shape[0]], |i| a.at(&[i[1], i[0]]))
            }
            E::Pad(a, around) => {
                let a = ev(a);
                let shape: Shape = a
                    .shape
                    .iter()
                    .zip(around)
                    .map(|(n, (lo, hi))| lo + n + hi)
                    .collect();
                build(&shape, |i| {
                    let inner: Option<Vec<usize>> = i
                        .iter()
                        .zip(around)
                        .zip(&a.shape)
                        .map(|((i, (lo, _)), n)| i.checked_sub(*lo).filter(|k| k < n))
                        .collect();
                    inner.map_or(0.0, |k| a.at(&k))
                })
            }
            E::Fill(one, shape) => T::filled(shape, if *one { 1.0 } else { 0.0 }),
            E::Diag(a) => {
                let a = ev(a);
                if a.shape.len() == 1 {
                    let n = a.shape[0];
                    build(&[n, n], |i| if i[0] == i[1] { a.data[i[0]] } else { 0.0 })
                } else {
                    build(&[a.shape[0].min(a.shape[1])], |i| a.at(&[i[0], i[0]]))
                }
            }
            E::Conv(x, k, s) => {
                let (x, k) = (ev(x), ev(k));
                let out = |axis: usize| (x.shape[axis] - k.shape[axis]) / s + 1;
                build(&[out(0), out(1)], |i| {
                    let mut total = 0.0;
                    for r in 0..k.shape[0] {
                        for c in 0..k.shape[1] {
                            total += x.at(&[i[0] * s + r, i[1] * s + c]) * k.at(&[r, c]);
                        }
                    }
                    total
                })
            }
            E::Pool(mean, x, n) => {
                let x = ev(x);
                build(&[x.shape[0] / n, x.shape[1] / n], |i| {
                    let mut total = 0.0;
                    for r in 0..*n {
                        for c in 0..*n {
                            total += x.at(&[i[0] * n + r, i[1] * n + c]);
                        }
                    }
                    if *mean { total / (n * n) as f64 } else { total }
                })
            }
            E::Poly(a, c) => {
                let a = ev(a);
                let p = |x: f64| c.iter().rev().fold(0.0, |acc, c| acc * x + c);
                T {
                    data: a.data.iter().map(|x| p(*x)).collect(),
                    shape: a.shape,
                }
            }
            E::Index(a, places) => {
                let a = ev(a);
                let starts = self.starts(places, env);
                let mut shape: Shape = Vec::new();
                for (axis, n) in a.shape.iter().enumerate() {
                    match places.get(axis) {
                        Some(Index::Range(lo, hi)) => shape.push(hi - lo),
                        Some(Index::At(_) | Index::Iv(..)) => {}
                        None => shape.push(*n),
                    }
                }
                build(&shape, |i| {
                    let mut rest = i.iter();
                    let full: Vec<usize> = (0..a.shape.len())
                        .map(|axis| match places.get(axis) {
                            Some(Index::At(_) | Index::Iv(..)) => starts[axis],
                            Some(Index::Range(lo, _)) => lo + rest.next().expect("an index"),
                            None => *rest.next().expect("an index"),
                        })
                        .collect();
                    a.at(&full)
                })
            }
            E::List(items) => {
                let items: Vec<T> = items.iter().map(ev).collect();
                let shape = [items.len()]
                    .into_iter()
                    .chain(items[0].shape.clone())
                    .collect();
                T {
                    shape,
                    data: items.into_iter().flat_map(|t| t.data).collect(),
                }
            }
            E::Comprehension(body, iv, n) => {
                let items: Vec<T> = (0..*n)
                    .map(|i| {
                        let mut inner = env.clone();
                        inner.ivs.insert(iv.clone(), i as i64);
                        self.eval(body, &inner)
                    })
                    .collect();
                let shape = [items.len()]
                    .into_iter()
                    .chain(items[0].shape.clone())
                    .collect();
                T {
                    shape,
                    data: items.into_iter().flat_map(|t| t.data).collect(),
                }
            }
            E::Call(name, args) => {
                let f = self
                    .functions
                    .iter()
                    .find(|f| f.name == *name)
                    .expect("a function");
                let mut inner = Env::default();
                for (p, a) in f.params.iter().zip(args) {
                    inner.vars.insert(p.clone(), ev(a));
                }
                self.run(&f.body, &mut inner);
                self.eval(&f.result, &inner)
            }
        }
    }

    fn starts(&self, places: &[Index], env: &Env) -> Vec<usize> {
        places
            .iter()
            .map(|p| match p {
                Index::At(i) => *i,
                Index::Iv(name, offset) => (env.ivs[name] + offset) as usize,
                Index::Range(lo, _) => *lo,
            })
            .collect()
    }

    fn run(&self, body: &[S], env: &mut Env) {
        for s in body {
            match s {
                S::Let(name, e, _) | S::Var(name, e) | S::Assign(name, e) => {
                    let value = self.eval(e, env);
                    env.vars.insert(name.clone(), value);
                }
                S::AssignAt(name, places, e) => {
                    let value = self.eval(e, env);
                    let starts = self.starts(places, env);
                    let target = env.vars.get_mut(name).expect("a variable");
                    let inner: usize = target.shape[starts.len()..].iter().product();
                    let mut k = 0;
                    for (i, n) in starts.iter().zip(&target.shape) {
                        k = k * n + i;
                    }
                    target.data[k * inner..(k + 1) * inner].copy_from_slice(&value.data);
                }
                S::For(iv, lo, hi, _, inner) => {
                    for i in *lo..*hi {
                        env.ivs.insert(iv.clone(), i as i64);
                        self.run(inner, env);
                    }
                }
                S::If(cond, yes, no) => {
                    let holds = match cond {
                        Cond::Parity(iv, r) => env.ivs[iv].rem_euclid(2) as u64 == *r,
                        Cond::Less(a, b) => a < b,
                    };
                    self.run(if holds { yes } else { no }, env);
                }
            }
        }
    }
}

fn number(x: f64) -> String {
    if x < 0.0 {
        format!("({x})")
    } else {
        format!("{x}")
    }
}

fn list<X>(items: &[X], f: impl Fn(&X) -> String) -> String {
    items.iter().map(f).collect::<Vec<_>>().join(", ")
}

fn shape_text(shape: &[usize]) -> String {
    format!("[{}]", list(shape, |n| n.to_string()))
}

fn places_text(places: &[Index]) -> String {
    list(places, |p| match p {
        Index::At(i) => i.to_string(),
        Index::Iv(name, 0) => name.clone(),
        Index::Iv(name, k) if *k < 0 => format!("{name} - {}", -k),
        Index::Iv(name, k) => format!("{name} + {k}"),
        Index::Range(a, b) => format!("{a}..{b}"),
    })
}

fn text(e: &E) -> String {
    let t = |e: &E| text(e);
    match e {
        E::Var(name) | E::Iv(name) => name.clone(),
        E::Num(x) => number(*x),
        E::Neg(a) => format!("(-{})", t(a)),
        E::Bin(op, a, b) => {
            let sign = match op {
                Op::Add => "+",
                Op::Sub => "-",
                Op::Mul => "*",
                Op::Div => "/",
                Op::MatMul => "@",
            };
            format!("({} {sign} {})", t(a), t(b))
        }
        E::Pow(a, n) => format!("{}^{n}", t(a)),
        E::Sum(a, None) => format!("sum({})", t(a)),
        E::Sum(a, Some(axis)) => format!("sum({}, {axis})", t(a)),
        E::Mean(a) => format!("mean({})", t(a)),
        E::Dot(a, b) => format!("dot({}, {})", t(a), t(b)),
        E::Rotate(a, k) => format!("rotate({}, {k})", t(a)),
        E::Concat(parts) => format!("concat({})", list(parts, text)),
        E::Reshape(a, shape) => format!("reshape({}, {})", t(a), shape_text(shape)),
        E::Transpose(a) => format!("{}'", t(a)),
        E::Pad(a, around) => {
            format!(
                "pad({}, [{}])",
                t(a),
                list(around, |(lo, hi)| format!("[{lo}, {hi}]"))
            )
        }
        E::Fill(one, shape) => {
            format!(
                "{}({})",
                if *one { "ones" } else { "zeros" },
                shape_text(shape)
            )
        }
        E::Diag(a) => format!("diag({})", t(a)),
        E::Conv(x, k, s) => format!("conv2d({}, {}, stride = {s})", t(x), t(k)),
        E::Pool(mean, x, n) => {
            format!(
                "{}({}, {n})",
                if *mean { "mean_pool" } else { "sum_pool" },
                t(x)
            )
        }
        E::Poly(a, c) => format!("poly({}, [{}])", t(a), list(c, |x| format!("{x}"))),
        E::Index(a, places) => format!("{}[{}]", t(a), places_text(places)),
        E::List(items) => format!("[{}]", list(items, text)),
        E::Comprehension(body, iv, n) => format!("[{} for {iv} in 0..{n}]", t(body)),
        E::Call(name, args) => format!("{name}({})", list(args, text)),
    }
}

fn block(out: &mut String, body: &[S], indent: usize) {
    let pad = "    ".repeat(indent);
    for s in body {
        match s {
            S::Let(name, e, None) => writeln!(out, "{pad}let {name} = {};", text(e)),
            S::Let(name, e, Some(m)) => {
                writeln!(out, "{pad}let {name} in [-{m}, {m}] = {};", text(e))
            }
            S::Var(name, e) => writeln!(out, "{pad}var {name} = {};", text(e)),
            S::Assign(name, e) => writeln!(out, "{pad}{name} = {};", text(e)),
            S::AssignAt(name, places, e) => {
                writeln!(out, "{pad}{name}[{}] = {};", places_text(places), text(e))
            }
            S::For(iv, lo, hi, attribute, inner) => {
                if !attribute.is_empty() {
                    let _ = writeln!(out, "{pad}{attribute}");
                }
                let _ = writeln!(out, "{pad}for {iv} in {lo}..{hi} {{");
                block(out, inner, indent + 1);
                writeln!(out, "{pad}}}")
            }
            S::If(cond, yes, no) => {
                let cond = match cond {
                    Cond::Parity(iv, r) => format!("{iv} % 2 == {r}"),
                    Cond::Less(a, b) => format!("{a} < {b}"),
                };
                let _ = writeln!(out, "{pad}if {cond} {{");
                block(out, yes, indent + 1);
                let _ = writeln!(out, "{pad}}} else {{");
                block(out, no, indent + 1);
                writeln!(out, "{pad}}}")
            }
        }
        .expect("writing to a string");
    }
}

/// What the generator knows of a value: enough to keep programs bounded in size and depth.
#[derive(Clone, Debug)]
struct Info {
    shape: Shape,
    secret: bool,
    /// No element is larger in absolute value.
    mag: f64,
    /// At most this many levels as written.
    levels: u32,
}

type Typed = (E, Info);

/// How large programs may become.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub statements: usize,
    pub levels: u32,
    pub extent: usize,
}

/// A generated program, its inputs and what it yields.
pub struct Program {
    pub seed: u64,
    pub source: String,
    pub inputs: Vec<(String, T)>,
    pub outputs: Vec<(String, T)>,
}

struct Generator {
    rng: ChaCha8Rng,
    size: Size,
    scope: Vec<(String, Info)>,
    ivs: Vec<(String, usize, usize)>,
    functions: Vec<Function>,
    fresh: usize,
}

const MAG: f64 = 3.0;

/// The program of a seed: the same text and values on every machine.
pub fn program(seed: u64, size: Size) -> Program {
    batched(seed, size, 0)
}

/// A program with `@batch`, and values of this many instances; without, for none.
pub fn batched(seed: u64, size: Size, instances: usize) -> Program {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let mut g = Generator {
        rng,
        size,
        scope: Vec::new(),
        ivs: Vec::new(),
        functions: Vec::new(),
        fresh: 0,
    };
    g.program(seed, instances)
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn name(&mut self, stem: &str) -> String {
        self.fresh += 1;
        format!("{stem}{}", self.fresh)
    }

    fn shape(&mut self) -> Shape {
        let n = self.size.extent;
        match self.below(6) {
            0 | 1 => vec![],
            2 | 3 => vec![1 + self.below(n)],
            _ => vec![1 + self.below(n), 1 + self.below(n)],
        }
    }

    /// A constant of few digits: integer, dyadic, decimal, zero or one.
    fn constant(&mut self) -> f64 {
        match self.below(8) {
            0 => 1.0,
            1 => (self.below(7) as f64) - 3.0,
            2 => (self.below(17) as f64 - 8.0) / 8.0,
            3 => 0.0,
            _ => (self.below(401) as f64 - 200.0) / 100.0,
        }
    }

    fn public(&self, e: E, value: f64) -> Typed {
        (
            e,
            Info {
                shape: vec![],
                secret: false,
                mag: value.abs(),
                levels: 0,
            },
        )
    }

    fn number(&mut self) -> Typed {
        let c = self.constant();
        self.public(E::Num(c), c)
    }

    /// Scales a value down when it might have become large.
    fn cap(&mut self, (e, info): Typed) -> Typed {
        if info.mag <= MAG {
            return (e, info);
        }
        let c = (1000.0 * MAG / info.mag).floor().max(1.0) / 1000.0;
        let levels = info.levels + u32::from(info.secret);
        let mag = info.mag * c;
        (
            E::Bin(Op::Mul, Box::new(E::Num(c)), Box::new(e)),
            Info {
                mag,
                levels,
                ..info
            },
        )
    }

    /// An expression of this shape with at most this many levels.
    fn expr(&mut self, shape: &[usize], levels: u32, fuel: u32) -> Typed {
        let typed = self.expr_uncapped(shape, levels.saturating_sub(1), fuel);
        debug_assert_eq!(typed.1.shape, shape);
        self.cap(typed)
    }

    fn leaf(&mut self, shape: &[usize], levels: u32) -> Typed {
        let fitting: Vec<(String, Info)> = self
            .scope
            .iter()
            .filter(|(_, i)| i.shape == shape && i.levels <= levels)
            .cloned()
            .collect();
        if !fitting.is_empty() && self.below(8) > 0 {
            // Later names are likelier: they make programs deep.
            let k = fitting.len() - 1 - self.below(fitting.len()).min(self.below(fitting.len()));
            let (name, info) = fitting[k].clone();
            return (E::Var(name), info);
        }
        self.project(shape, levels)
    }

    /// An expression of this shape out of a variable of any shape.
    fn project(&mut self, shape: &[usize], levels: u32) -> Typed {
        let budget = levels.saturating_sub(1);
        let all: Vec<(String, Info)> = self
            .scope
            .iter()
            .filter(|(_, i)| i.levels <= budget)
            .cloned()
            .collect();
        if levels > 0 && !all.is_empty() {
            for _ in 0..8 {
                let (name, info) = all[self.below(all.len())].clone();
                if let Some(found) = self.project_from(name, info, shape) {
                    return found;
                }
            }
        }
        self.literal(shape)
    }

    fn project_from(&mut self, name: String, info: Info, shape: &[usize]) -> Option<Typed> {
        let from = info.shape.clone();
        let e = Box::new(E::Var(name));
        let moved = Info {
            shape: shape.to_vec(),
            levels: info.levels + 1,
            ..info
        };
        Some(match (from.as_slice(), shape) {
            (&[n], []) => (E::Index(e, vec![self.place(n)]), moved),
            (&[m, n], []) => {
                let places = vec![self.place(m), self.place(n)];
                (E::Index(e, places), moved)
            }
            (&[m, n], &[k]) if n == k => (E::Index(e, vec![self.place(m)]), moved),
            (&[n], &[k]) if n >= k => {
                let lo = self.below(n - k + 1);
                (E::Index(e, vec![Index::Range(lo, lo + k)]), moved)
            }
            (&[m, n], &[k, l]) if m >= k && n >= l => {
                let (a, b) = (self.below(m - k + 1), self.below(n - l + 1));
                (
                    E::Index(e, vec![Index::Range(a, a + k), Index::Range(b, b + l)]),
                    moved,
                )
            }
            (&[n], &[k]) => {
                let lo = self.below(k - n + 1);
                (E::Pad(e, vec![(lo, k - n - lo)]), moved)
            }
            (&[n], &[k, l]) if n == l => {
                let column = E::Fill(true, vec![k, 1]);
                (E::Bin(Op::Mul, Box::new(column), e), moved)
            }
            ([], &[_] | &[_, _]) => (
                E::Bin(Op::Mul, e, Box::new(E::Fill(true, shape.to_vec()))),
                moved,
            ),
            (&[m, n], _) if m * n == shape.iter().product::<usize>() => {
                (E::Reshape(e, shape.to_vec()), moved)
            }
            _ => return None,
        })
    }

    fn place(&mut self, n: usize) -> Index {
        let fitting: Vec<(String, usize, usize)> = self
            .ivs
            .iter()
            .filter(|(_, lo, hi)| hi - lo <= n)
            .cloned()
            .collect();
        if !fitting.is_empty() && self.below(4) > 0 {
            let (name, lo, hi) = fitting[self.below(fitting.len())].clone();
            let offset = self.below(n - (hi - lo) + 1) as i64 - lo as i64;
            return Index::Iv(name, offset);
        }
        Index::At(self.below(n))
    }

    fn literal(&mut self, shape: &[usize]) -> Typed {
        if shape.is_empty() {
            if let Some((name, _, hi)) = self.ivs.last().cloned()
                && self.below(3) == 0
            {
                return self.public(E::Iv(name), hi as f64);
            }
            return self.number();
        }
        if self.below(4) == 0 {
            let one = self.below(2) == 0;
            let info = Info {
                shape: shape.to_vec(),
                secret: false,
                mag: 1.0,
                levels: 0,
            };
            return (E::Fill(one, shape.to_vec()), info);
        }
        let mut mag = 0f64;
        let items = (0..shape[0])
            .map(|_| {
                let (e, info) = self.literal_plain(&shape[1..]);
                mag = mag.max(info.mag);
                e
            })
            .collect();
        (
            E::List(items),
            Info {
                shape: shape.to_vec(),
                secret: false,
                mag,
                levels: 0,
            },
        )
    }

    fn literal_plain(&mut self, shape: &[usize]) -> Typed {
        if shape.is_empty() {
            return self.number();
        }
        let mut mag = 0f64;
        let items = (0..shape[0])
            .map(|_| {
                let (e, info) = self.literal_plain(&shape[1..]);
                mag = mag.max(info.mag);
                e
            })
            .collect();
        (
            E::List(items),
            Info {
                shape: shape.to_vec(),
                secret: false,
                mag,
                levels: 0,
            },
        )
    }

    /// A shape that broadcasts to `shape`.
    fn narrower(&mut self, shape: &[usize]) -> Shape {
        let mut s = shape.to_vec();
        match self.below(6) {
            0 => s.clear(),
            1 if !s.is_empty() => {
                s.remove(0);
            }
            2 if !s.is_empty() => {
                let i = self.below(s.len());
                s[i] = 1;
            }
            _ => {}
        }
        s
    }

    fn product(&self, a: &Info, b: &Info, mag: f64, shape: Shape) -> Info {
        let secret = a.secret || b.secret;
        Info {
            shape,
            secret,
            mag,
            levels: a.levels.max(b.levels) + u32::from(secret),
        }
    }

    fn expr_uncapped(&mut self, shape: &[usize], levels: u32, fuel: u32) -> Typed {
        if fuel == 0 || levels == 0 {
            return self.leaf(shape, levels);
        }
        let fuel = fuel - 1;
        let down = levels - 1;
        let n = self.size.extent;
        let roll = self.below(30);
        match (roll, shape) {
            (0..=5, _) => {
                let op = if roll < 3 { Op::Add } else { Op::Sub };
                let small = self.narrower(shape);
                let (a, b) = (
                    self.expr(shape, levels, fuel),
                    self.expr(&small, levels, fuel),
                );
                let (a, b) = if self.below(2) == 0 { (a, b) } else { (b, a) };
                let info = Info {
                    shape: shape.to_vec(),
                    secret: a.1.secret || b.1.secret,
                    mag: a.1.mag + b.1.mag,
                    levels: a.1.levels.max(b.1.levels),
                };
                (E::Bin(op, Box::new(a.0), Box::new(b.0)), info)
            }
            (6..=10, _) => {
                let small = self.narrower(shape);
                let (a, b) = (self.expr(shape, down, fuel), self.expr(&small, down, fuel));
                let (a, b) = if self.below(2) == 0 { (a, b) } else { (b, a) };
                let info = self.product(&a.1, &b.1, a.1.mag * b.1.mag, shape.to_vec());
                (E::Bin(Op::Mul, Box::new(a.0), Box::new(b.0)), info)
            }
            (11, _) => {
                let (a, info) = self.expr(shape, levels, fuel);
                (E::Neg(Box::new(a)), info)
            }
            (12, _) => {
                let (a, info) = self.expr(shape, down, fuel);
                let c = 0.5 + self.below(30) as f64 / 10.0;
                let levels = info.levels + u32::from(info.secret);
                let mag = info.mag / c;
                (
                    E::Bin(Op::Div, Box::new(a), Box::new(E::Num(c))),
                    Info {
                        mag,
                        levels,
                        ..info
                    },
                )
            }
            (13 | 14, _) => {
                let power = 1 + self.below(levels.min(4) as usize + 1) as u32;
                let inner = levels.saturating_sub(power - 1);
                let (a, info) = self.expr(shape, inner, fuel.min(1));
                let levels = info.levels + (power - 1) * u32::from(info.secret);
                let a = match a {
                    E::Var(_) | E::Index(..) | E::Call(..) => a,
                    other => E::Call("id".to_owned(), vec![other]),
                };
                (
                    E::Pow(Box::new(a), power),
                    Info {
                        mag: info.mag.powi(power as i32),
                        levels,
                        ..info
                    },
                )
            }
            (15, _) => {
                let degree = 1 + self.below(levels.min(4) as usize);
                let (a, info) = self.expr(shape, levels - degree as u32, fuel.min(1));
                let c: Vec<f64> = (0..=degree).map(|_| self.constant()).collect();
                let mag = c
                    .iter()
                    .enumerate()
                    .map(|(i, c)| c.abs() * info.mag.powi(i as i32))
                    .sum();
                let levels = info.levels + degree as u32 * u32::from(info.secret);
                (
                    E::Poly(Box::new(a), c),
                    Info {
                        mag,
                        levels,
                        ..info
                    },
                )
            }
            (16 | 17, _) if !self.functions.is_empty() && self.functions.len() > 1 => {
                // Functions of two arguments of one shape; bounds are theirs to keep.
                let k = 1 + self.below(self.functions.len() - 1);
                let name = self.functions[k].name.clone();
                let inner = levels.saturating_sub(3);
                let (a, b) = (self.expr(shape, inner, fuel), self.expr(shape, inner, fuel));
                let secret = a.1.secret || b.1.secret;
                let info = Info {
                    shape: shape.to_vec(),
                    secret,
                    mag: 2.0 * (a.1.mag * b.1.mag + a.1.mag + b.1.mag + 1.0),
                    levels: a.1.levels.max(b.1.levels) + 3 * u32::from(secret),
                };
                (E::Call(name, vec![a.0, b.0]), info)
            }
            (18 | 19, []) => {
                let from = vec![1 + self.below(n); 1 + self.below(2)];
                let (a, info) = self.expr(&from, down, fuel);
                let count = from.iter().product::<usize>() as f64;
                let secret = u32::from(info.secret);
                let sum = self.below(2) == 0;
                let e = if sum {
                    E::Sum(Box::new(a), None)
                } else {
                    E::Mean(Box::new(a))
                };
                let mag = if sum { info.mag * count } else { info.mag };
                (
                    e,
                    Info {
                        shape: vec![],
                        mag,
                        levels: info.levels + secret,
                        ..info
                    },
                )
            }
            (20 | 21, []) => {
                let k = 1 + self.below(n);
                let (a, b) = (self.expr(&[k], down, fuel), self.expr(&[k], down, fuel));
                let info = self.product(&a.1, &b.1, a.1.mag * b.1.mag * k as f64, vec![]);
                let (x, y) = (Box::new(a.0), Box::new(b.0));
                if self.below(2) == 0 {
                    (E::Dot(x, y), info)
                } else {
                    (E::Bin(Op::MatMul, x, y), info)
                }
            }
            (18..=20, &[k]) => {
                let j = 1 + self.below(n);
                let left = self.below(2) == 0;
                let m = if left { [k, j] } else { [j, k] };
                let (a, b) = (self.expr(&m, down, fuel), self.expr(&[j], down, fuel));
                let info = self.product(&a.1, &b.1, a.1.mag * b.1.mag * j as f64, vec![k]);
                let (a, b) = if left { (a.0, b.0) } else { (b.0, a.0) };
                (E::Bin(Op::MatMul, Box::new(a), Box::new(b)), info)
            }
            (21, &[_]) => {
                let (a, info) = self.expr(shape, down, fuel);
                let turn = self.below(7) as i64 - 3;
                let levels = info.levels + u32::from(info.secret);
                (E::Rotate(Box::new(a), turn), Info { levels, ..info })
            }
            (22, &[k]) if k >= 2 => {
                let cut = 1 + self.below(k - 1);
                let (a, b) = (
                    self.expr(&[cut], down, fuel),
                    self.expr(&[k - cut], down, fuel),
                );
                let info = self.product(&a.1, &b.1, a.1.mag.max(b.1.mag), shape.to_vec());
                (E::Concat(vec![a.0, b.0]), info)
            }
            (23, &[k]) => {
                let j = 1 + self.below(n);
                let axis = self.below(2);
                let from = if axis == 0 { [j, k] } else { [k, j] };
                let (a, info) = self.expr(&from, down, fuel);
                let levels = info.levels + u32::from(info.secret);
                let mag = info.mag * j as f64;
                (
                    E::Sum(Box::new(a), Some(axis)),
                    Info {
                        shape: vec![k],
                        mag,
                        levels,
                        ..info
                    },
                )
            }
            (24, &[k]) => {
                let (a, info) = self.expr(&[k, k], down, fuel);
                let levels = info.levels + u32::from(info.secret);
                (
                    E::Diag(Box::new(a)),
                    Info {
                        shape: vec![k],
                        levels,
                        ..info
                    },
                )
            }
            (25 | 26, &[k]) if k <= 4 => {
                let iv = self.name("i");
                self.ivs.push((iv.clone(), 0, k));
                let (a, info) = self.expr(&[], down, fuel.min(2));
                self.ivs.pop();
                let levels = info.levels + u32::from(info.secret);
                (
                    E::Comprehension(Box::new(a), iv, k),
                    Info {
                        shape: vec![k],
                        levels,
                        ..info
                    },
                )
            }
            (18..=20, &[k, l]) => {
                let j = 1 + self.below(n);
                let (a, b) = (
                    self.expr(&[k, j], down, fuel),
                    self.expr(&[j, l], down, fuel),
                );
                let info = self.product(&a.1, &b.1, a.1.mag * b.1.mag * j as f64, shape.to_vec());
                (E::Bin(Op::MatMul, Box::new(a.0), Box::new(b.0)), info)
            }
            (21, &[k, l]) => {
                let (a, info) = self.expr(&[l, k], down, fuel);
                let levels = info.levels + u32::from(info.secret);
                let a = match a {
                    E::Var(_) | E::Index(..) | E::Call(..) => a,
                    other => E::Call("id".to_owned(), vec![other]),
                };
                (
                    E::Transpose(Box::new(a)),
                    Info {
                        shape: vec![k, l],
                        levels,
                        ..info
                    },
                )
            }
            (22, &[k, l]) if k == l => {
                let (a, info) = self.expr(&[k], down, fuel);
                let levels = info.levels + u32::from(info.secret);
                (
                    E::Diag(Box::new(a)),
                    Info {
                        shape: vec![k, l],
                        levels,
                        ..info
                    },
                )
            }
            (23, &[k, l]) => {
                let (kh, kw) = (1 + self.below(2), 1 + self.below(3));
                let stride = 1 + self.below(2);
                let from = [(k - 1) * stride + kh, (l - 1) * stride + kw];
                let (a, b) = (self.expr(&from, down, fuel), self.literal_plain(&[kh, kw]));
                let mag = a.1.mag * b.1.mag * (kh * kw) as f64;
                let info = self.product(&a.1, &b.1, mag, shape.to_vec());
                (E::Conv(Box::new(a.0), Box::new(b.0), stride), info)
            }
            (24, &[k, l]) => {
                let (a, info) = self.expr(&[2 * k, 2 * l], down, fuel);
                let mean = self.below(2) == 0;
                let levels = info.levels + u32::from(info.secret);
                let mag = if mean { info.mag } else { 4.0 * info.mag };
                (
                    E::Pool(mean, Box::new(a), 2),
                    Info {
                        shape: shape.to_vec(),
                        mag,
                        levels,
                        ..info
                    },
                )
            }
            (25, &[k, l]) => {
                let mut secret = false;
                let (mut mag, mut top) = (0f64, 0);
                let rows = (0..k)
                    .map(|_| {
                        let (e, info) = self.expr(&[l], down, fuel.min(1));
                        secret |= info.secret;
                        mag = mag.max(info.mag);
                        top = top.max(info.levels);
                        e
                    })
                    .collect();
                let levels = top + u32::from(secret);
                (
                    E::List(rows),
                    Info {
                        shape: shape.to_vec(),
                        secret,
                        mag,
                        levels,
                    },
                )
            }
            (26, &[k, l]) if k > 1 || l > 1 => {
                let (a, info) = self.expr(&[k * l], down, fuel);
                let levels = info.levels + u32::from(info.secret);
                (
                    E::Reshape(Box::new(a), shape.to_vec()),
                    Info {
                        shape: shape.to_vec(),
                        levels,
                        ..info
                    },
                )
            }
            _ => self.leaf(shape, levels),
        }
    }

    fn bind(&mut self, out: &mut Vec<S>) {
        let shape = self.shape();
        let (e, info) = self.expr(&shape, self.size.levels, 4);
        let name = self.name("v");
        let declared = (self.below(6) == 0).then(|| (info.mag + 0.5).ceil());
        out.push(S::Let(name.clone(), e, declared));
        self.scope.push((name, info));
    }

    /// A loop with one or two carried values whose bound the body keeps.
    fn repeat(&mut self, out: &mut Vec<S>) {
        let trips = 1 + self.below(3);
        let lo = self.below(2);
        let carried = 1 + self.below(2);
        let per_trip = (self.size.levels / 2 / trips as u32).max(1);
        let mut names = Vec::new();
        for _ in 0..carried {
            let shape = self.shape();
            let (e, info) = self.expr(&shape, 1, 2);
            let name = self.name("s");
            out.push(S::Var(name.clone(), e));
            // Carried values are taken for secret and as large as allowed; the body keeps that.
            self.scope.push((
                name.clone(),
                Info {
                    shape,
                    secret: true,
                    mag: MAG,
                    ..info
                },
            ));
            names.push(name);
        }
        let before = self.scope.len();
        let iv = self.name("t");
        self.ivs.push((iv.clone(), lo, lo + trips));
        let mut body = Vec::new();
        let start = self.scope.iter().map(|(_, i)| i.levels).max().unwrap_or(0);
        for i in &mut self.scope {
            i.1.levels = start.min(i.1.levels);
        }
        if self.below(2) == 0 {
            let shape = self.shape();
            let (e, info) = self.expr(&shape, start + per_trip, 2);
            let name = self.name("u");
            body.push(S::Let(name.clone(), e, None));
            self.scope.push((name, info));
        }
        let mut deepest = 0;
        for name in &names {
            let k = self
                .scope
                .iter()
                .position(|(n, _)| n == name)
                .expect("a carried value");
            let info = self.scope[k].1.clone();
            if !info.shape.is_empty() && self.below(2) == 0 {
                let place = self.place(info.shape[0]);
                let (e, new) = self.expr(&info.shape[1..], start + per_trip, 3);
                deepest = deepest.max(new.levels);
                body.push(S::AssignAt(name.clone(), vec![place], e));
            } else {
                let (e, new) = self.expr(&info.shape, start + per_trip, 3);
                deepest = deepest.max(new.levels);
                let assign = S::Assign(name.clone(), e);
                if self.below(4) == 0 {
                    let (other, new) = self.expr(&info.shape, start + per_trip, 2);
                    deepest = deepest.max(new.levels);
                    let cond = if self.below(2) == 0 {
                        Cond::Parity(iv.clone(), self.below(2) as u64)
                    } else {
                        Cond::Less(self.below(3) as u32, self.below(3) as u32)
                    };
                    body.push(S::If(
                        cond,
                        vec![assign],
                        vec![S::Assign(name.clone(), other)],
                    ));
                } else {
                    body.push(assign);
                }
            }
        }
        self.ivs.pop();
        self.scope.truncate(before);
        let growth = deepest.saturating_sub(start) + 1;
        for name in &names {
            let k = self
                .scope
                .iter()
                .position(|(n, _)| n == name)
                .expect("a carried value");
            self.scope[k].1.levels = start + growth * trips as u32;
        }
        let attribute = ["", "", "@unroll(2)", "@unroll(full)", "@pipeline(off)"][self.below(5)];
        out.push(S::For(iv, lo, lo + trips, attribute, body));
    }

    fn define_functions(&mut self) {
        // `id` gives postfix operators a simple operand.
        let x = || Box::new(E::Var("a".to_owned()));
        let y = || Box::new(E::Var("b".to_owned()));
        self.functions.push(Function {
            name: "id".to_owned(),
            params: vec!["a".to_owned()],
            body: vec![],
            result: *x(),
        });
        for k in 0..self.below(3) {
            let c = 1.0 + self.below(10) as f64 / 10.0;
            let product = E::Bin(Op::Mul, x(), y());
            let (body, result) = match self.below(3) {
                0 => (
                    vec![],
                    E::Bin(Op::Sub, Box::new(product), Box::new(E::Num(c))),
                ),
                1 => {
                    let bind = S::Let("c".to_owned(), product, None);
                    (
                        vec![bind],
                        E::Bin(Op::Add, Box::new(E::Var("c".to_owned())), x()),
                    )
                }
                _ => {
                    let start = S::Var("c".to_owned(), *x());
                    let turn = E::Bin(Op::Add, Box::new(E::Var("c".to_owned())), y());
                    let step = S::Assign(
                        "c".to_owned(),
                        E::Bin(Op::Mul, Box::new(E::Num(0.5)), Box::new(turn)),
                    );
                    (
                        vec![start, S::For("i".to_owned(), 0, 2, "", vec![step])],
                        E::Var("c".to_owned()),
                    )
                }
            };
            self.functions.push(Function {
                name: format!("f{k}"),
                params: vec!["a".to_owned(), "b".to_owned()],
                body,
                result,
            });
        }
    }

    /// `instances` is 0 for a program without a batch.
    fn program(&mut self, seed: u64, instances: usize) -> Program {
        self.define_functions();
        let mut source = format!("// seed {seed}\n");
        let mut params = String::new();
        let mut env = Env::default();
        let mut inputs = Vec::new();
        for k in 0..1 + self.below(4) {
            let shape = self.shape();
            let secret = k == 0 || self.below(4) > 0;
            let name = format!("x{k}");
            let hi = if self.below(3) == 0 { 2.0 } else { 1.0 };
            let range = if hi == 2.0 { " in [-2, 2]" } else { "" };
            let kind = if secret { "secret" } else { "public" };
            let ty = if shape.is_empty() {
                String::new()
            } else {
                shape_text(&shape)
            };
            let _ = write!(params, "{name}: {kind} real{ty}{range}, ");
            let value = build(&shape, |_| 0.0);
            let data = value
                .data
                .iter()
                .map(|_| self.rng.random_range(-hi..=hi))
                .collect();
            let value = T { data, ..value };
            env.vars.insert(name.clone(), value.clone());
            self.scope.push((
                name.clone(),
                Info {
                    shape,
                    secret,
                    mag: hi,
                    levels: 0,
                },
            ));
            inputs.push((name, value));
        }
        let mut body = Vec::new();
        for _ in 0..1 + self.below(self.size.statements) {
            if self.below(3) == 0 {
                self.repeat(&mut body);
            } else {
                self.bind(&mut body);
            }
        }
        let mut results = Vec::new();
        for k in 0..1 + self.below(2) {
            let shape = self.shape();
            let (e, _) = self.expr(&shape, self.size.levels + 2, 3);
            results.push((format!("y{k}"), shape, e));
        }
        for f in &self.functions {
            let _ = writeln!(source, "fn {}({}) {{", f.name, f.params.join(", "));
            block(&mut source, &f.body, 1);
            let _ = writeln!(source, "    return {};\n}}", text(&f.result));
        }
        let out_type = |(name, shape, _): &(String, Shape, E)| {
            let ty = if shape.is_empty() {
                String::new()
            } else {
                shape_text(shape)
            };
            format!("{name}: real{ty}")
        };
        let one = results.len() == 1;
        let (outs, ret) = if one {
            (out_type(&results[0]), text(&results[0].2))
        } else {
            (
                format!("({})", list(&results, out_type)),
                format!("({})", list(&results, |r| text(&r.2))),
            )
        };
        // The client may compute products in one program of three.
        if seed % 3 == 1 && instances == 0 {
            let _ = writeln!(
                source,
                "@precompute(degree = {}, inputs = {}.5)",
                2 + seed / 3 % 2,
                1 + seed / 6 % 3
            );
        }
        if instances > 0 {
            let _ = writeln!(source, "@batch({})", instances + self.below(4));
        }
        let _ = writeln!(
            source,
            "circuit main({}) -> {outs} {{",
            params.trim_end_matches(", ")
        );
        block(&mut source, &body, 1);
        let _ = writeln!(source, "    return {ret};\n}}");
        let machine = Machine {
            functions: &self.functions,
        };
        let parameters = env.vars.clone();
        machine.run(&body, &mut env);
        let mut outputs: Vec<(String, T)> = results
            .iter()
            .map(|(name, _, e)| (name.clone(), machine.eval(e, &env)))
            .collect();
        for k in 0..instances {
            // The first instance is there already; each gets an axis in front.
            if k > 0 {
                let mut env = Env::default();
                for (name, value) in &parameters {
                    let mut value = value.clone();
                    let hi = self
                        .scope
                        .iter()
                        .find(|(n, _)| n == name)
                        .map_or(1.0, |s| s.1.mag);
                    for x in &mut value.data {
                        *x = self.rng.random_range(-hi..=hi);
                    }
                    env.vars.insert(name.clone(), value);
                }
                for (name, all) in &mut inputs {
                    all.data.extend_from_slice(&env.vars[name].data);
                }
                machine.run(&body, &mut env);
                for ((_, all), (_, _, e)) in outputs.iter_mut().zip(&results) {
                    all.data.extend_from_slice(&machine.eval(e, &env).data);
                }
            }
            if k + 1 == instances {
                for (_, all) in inputs.iter_mut().chain(&mut outputs) {
                    all.shape.insert(0, instances);
                }
            }
        }
        Program {
            seed,
            source,
            inputs,
            outputs,
        }
    }
}

/// Minibatch training with momentum in one of the ways in which people write it: products of
/// matrices with vectors, a polynomial, public scalars, a recurrence of two vectors.
pub fn training(seed: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5EED);
    let steps = 1 + seed as usize % 3;
    let (rows, columns) = (rng.random_range(1..=3usize), rng.random_range(1..=4usize));
    let mut number = |lo: f64, hi: f64| (rng.random_range(lo..hi) * 64.0).round() / 64.0;
    let coefficients = [
        number(0.1, 0.9),
        number(-0.4, 0.4) + 0.5,
        if seed.is_multiple_of(5) {
            0.0
        } else {
            number(-0.3, 0.3)
        },
        number(0.05, 0.2),
    ];
    let rate = number(0.1, 0.5);
    let momentum: Vec<f64> = (0..steps).map(|_| number(-0.5, 0.5)).collect();
    let data: Vec<f64> = (0..steps * rows * columns)
        .map(|_| number(-0.5, 0.5))
        .collect();
    let (w0, v0): (Vec<f64>, Vec<f64>) = (0..columns)
        .map(|_| (number(-0.5, 0.5), number(-0.5, 0.5)))
        .unzip();
    let turned = match seed % 4 {
        0 => "Z[t]' @ s(p)",
        1 => "s(p) @ Z[t]",
        2 => "transpose(Z[t]) @ s(p)",
        _ => "(s(p) @ Z[t])[0..N]",
    };
    let next = match seed / 4 % 3 {
        0 => format!("v + RATE * ({turned})"),
        1 => format!("{turned} * RATE + v"),
        _ => format!("v - (0 - RATE) * ({turned})"),
    };
    let step = match seed / 2 % 3 {
        0 => "(1 - M[t]) * next + M[t] * w",
        1 => "next + M[t] * (w - next)",
        _ => "next - M[t] * next + w * M[t]",
    };
    let [a, b, c, d] = coefficients;
    let mut source = String::new();
    if seed % 2 == 1 {
        source += "@precompute(degree = 2, inputs = 2.0)\n";
    }
    let source = format!(
        "const RATE = {rate:?};\nconst N = {columns};\nconst M = {momentum:?};\n\
         fn s(p) = {a:?} - {b:?} * p + {c:?} * p^2 + {d:?} * p^3;\n{source}\
         circuit main(Z: secret real[{steps}, {rows}, {columns}] in [-0.5, 0.5], \
         w0: secret real[{columns}] in [-0.5, 0.5], v0: secret real[{columns}] in [-0.5, 0.5]) \
         -> (y0: real[{columns}], y1: real[{columns}]) {{\n    var w = w0;\n    var v = v0;\n    \
         for t in 0..{steps} {{\n        let p in [-16, 16] = Z[t] @ v;\n        \
         let next in [-16, 16] = {next};\n        v = {step};\n        w = next;\n    }}\n    \
         return (w, v);\n}}\n"
    );
    let (mut w, mut v) = (w0.clone(), v0.clone());
    for t in 0..steps {
        let z = |i: usize, j: usize| data[(t * rows + i) * columns + j];
        let s: Vec<f64> = (0..rows)
            .map(|i| {
                let p: f64 = (0..columns).map(|j| z(i, j) * v[j]).sum();
                a - b * p + c * p * p + d * p * p * p
            })
            .collect();
        let next: Vec<f64> = (0..columns)
            .map(|j| v[j] + rate * (0..rows).map(|i| z(i, j) * s[i]).sum::<f64>())
            .collect();
        v = (0..columns)
            .map(|j| next[j] + momentum[t] * (w[j] - next[j]))
            .collect();
        w = next;
    }
    let tensor = |shape: &[usize], data: Vec<f64>| T {
        shape: shape.to_vec(),
        data,
    };
    Program {
        seed,
        source,
        inputs: vec![
            (
                "Z".to_owned(),
                tensor(&[steps, rows, columns], data.clone()),
            ),
            ("w0".to_owned(), tensor(&[columns], w0)),
            ("v0".to_owned(), tensor(&[columns], v0)),
        ],
        outputs: vec![
            ("y0".to_owned(), tensor(&[columns], w)),
            ("y1".to_owned(), tensor(&[columns], v)),
        ],
    }
}
