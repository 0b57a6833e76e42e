//! Programs of the shapes that rewriting goes wrong on, with an evaluator of their own.
//!
//! Shared subterms, sums that cancel, factors 0 and 1, operands of very different depth, deep loops,
//! factors that come equally late, chains of public values with one secret at the end, sums of products
//! and of what is no product. The numbers are computed beside the text, in plain f64.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::generate::{Program, T};

/// A value that has a name: its elements, how large they may be, and products on a path to it.
#[derive(Clone)]
struct Value {
    name: String,
    data: Vec<f64>,
    size: f64,
    depth: u32,
}

struct Writer {
    rng: ChaCha8Rng,
    /// Elements of each value; 0 for scalars.
    length: usize,
    body: String,
    count: usize,
    inputs: Vec<(String, T)>,
    params: Vec<String>,
}

/// Values are kept below this, as ranges that grow without bound have no parameters.
const SIZE: f64 = 64.0;

impl Writer {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn pick<'a>(&mut self, values: &'a [Value]) -> &'a Value {
        &values[self.below(values.len())]
    }

    fn coefficient(&mut self) -> f64 {
        [0.0, 1.0, -1.0, 0.5, 2.0, 0.3, 0.0, 1.0][self.below(8)]
    }

    fn shape(&self, leading: Option<usize>) -> Vec<usize> {
        let own = (self.length > 0).then_some(self.length);
        leading.into_iter().chain(own).collect()
    }

    fn input(&mut self, name: &str, kind: &str, leading: Option<usize>) -> Value {
        let shape = self.shape(leading);
        let count = shape.iter().product();
        let data: Vec<f64> = (0..count)
            .map(|_| self.rng.random_range(-1.0..=1.0))
            .collect();
        let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let axes = if axes.is_empty() {
            String::new()
        } else {
            format!("[{}]", axes.join(", "))
        };
        self.params.push(format!("{name}: {kind} real{axes}"));
        self.inputs.push((
            name.to_owned(),
            T {
                shape,
                data: data.clone(),
            },
        ));
        Value {
            name: name.to_owned(),
            data,
            size: 1.0,
            depth: 0,
        }
    }

    fn secrets(&mut self, count: usize) -> Vec<Value> {
        (0..count)
            .map(|i| self.input(&format!("x{i}"), "secret", None))
            .collect()
    }

    /// Names an expression; what might have become large is scaled down.
    fn bind(&mut self, text: &str, data: Vec<f64>, size: f64, depth: u32) -> Value {
        self.count += 1;
        let name = format!("v{}", self.count);
        let (mut text, mut data, mut size) = (text.to_owned(), data, size);
        if size > SIZE {
            let by = (SIZE / size).log2().floor().exp2();
            text = format!("({text}) * {by:?}");
            data.iter_mut().for_each(|x| *x *= by);
            size *= by;
        }
        self.body += &format!("    let {name} = {text};\n");
        Value {
            name,
            data,
            size,
            depth,
        }
    }

    fn mul(&mut self, a: &Value, b: &Value) -> Value {
        let data = zip(a, b, |x, y| x * y);
        let text = format!("{} * {}", a.name, b.name);
        self.bind(&text, data, a.size * b.size, a.depth.max(b.depth) + 1)
    }

    /// p·a + q·b
    fn sum(&mut self, p: f64, a: &Value, q: f64, b: &Value) -> Value {
        let data = zip(a, b, |x, y| p * x + q * y);
        let text = format!("{p:?} * {} + {q:?} * {}", a.name, b.name);
        let size = (p * a.size).abs() + (q * b.size).abs();
        self.bind(&text, data, size.max(0.125), a.depth.max(b.depth))
    }

    /// a·b + c and the like, written in one expression.
    fn product_sum(&mut self, a: &Value, b: &Value, c: &Value) -> Value {
        let minus = self.below(2) == 0;
        let sign = if minus { -1.0 } else { 1.0 };
        let data = a.data.iter().zip(&b.data).zip(&c.data);
        let data = data.map(|((x, y), z)| x * y + sign * z).collect();
        let op = if minus { "-" } else { "+" };
        let text = format!("{} * {} {op} {}", a.name, b.name, c.name);
        let depth = (a.depth.max(b.depth) + 1).max(c.depth);
        self.bind(&text, data, a.size * b.size + c.size, depth)
    }

    /// The same values are used again and again.
    fn shared(&mut self) -> Vec<Value> {
        let mut values = self.secrets(2);
        for _ in 0..4 {
            let (a, b) = (
                values[values.len() - 1].clone(),
                values[values.len() - 2].clone(),
            );
            let next = match self.below(4) {
                0 => self.mul(&a, &b),
                1 => self.product_sum(&a, &a, &a),
                2 => self.product_sum(&a, &b, &b),
                _ => {
                    let (p, q) = (self.coefficient(), self.coefficient());
                    let sum = self.sum(p, &a, q, &b);
                    self.mul(&sum, &a)
                }
            };
            values.push(next);
        }
        values.split_off(values.len() - 2)
    }

    /// What cancels, in part or whole, in several spellings.
    fn cancelling(&mut self) -> Vec<Value> {
        let x = self.secrets(3);
        let deep = self.mul(&x[0], &x[1]);
        let deep = self.product_sum(&deep, &deep, &x[2]);
        let (a, b) = (x[0].clone(), deep);
        let n = (&a.name, &b.name);
        let (text, rest): (String, fn(f64, f64) -> f64) = match self.below(6) {
            0 => (format!("{0} - {0} + {1}", n.1, n.0), |a, _| a),
            1 => (format!("{0} * {1} - {1} * {0}", n.0, n.1), |_, _| 0.0),
            2 => (
                format!("({0} + {1}) * ({0} - {1}) - ({0}^2 - {1}^2)", n.0, n.1),
                |_, _| 0.0,
            ),
            3 => (
                format!("({0} + {1})^2 - 2 * {0} * {1} - {1} * {1}", n.0, n.1),
                |a, _| a * a,
            ),
            4 => (format!("0 * {1} + {0} - 0 * {0}", n.0, n.1), |a, _| a),
            _ => (
                format!("({0} * {0}) * {1} - {0} * ({0} * {1}) + {1}", n.0, n.1),
                |_, b| b,
            ),
        };
        let data = zip(&a, &b, rest);
        let size = 4.0 * (a.size + b.size).powi(2) * a.size;
        let left = self.bind(&text, data, size, b.depth + 2);
        let kept = self.product_sum(&left, &x[1], &x[2]);
        vec![left, kept]
    }

    /// Recurrences and polynomials whose coefficients are 0, 1 and −1 more often than not.
    fn trivial_coefficients(&mut self) -> Vec<Value> {
        let x = self.secrets(2);
        let n = 3 + self.below(5);
        let (c, d): (Vec<f64>, Vec<f64>) = (0..n)
            .map(|_| (self.coefficient(), self.coefficient()))
            .unzip();
        let mut data = x[1].data.clone();
        let mut size = 1.0;
        for (c, d) in c.iter().zip(&d) {
            for (r, x) in data.iter_mut().zip(&x[0].data) {
                *r = 0.5 * (*r * *x * *d + *c);
            }
            size = 0.5 * (size * d.abs() + c.abs());
        }
        self.body += &format!("    let c = {c:?};\n    let d = {d:?};\n    var r = x1;\n");
        self.body +=
            &format!("    for i in 0..{n} {{\n        r = 0.5 * (r * x0 * d[i] + c[i]);\n    }}\n");
        let r = self.bind("r", data, size.max(1.0), n as u32);
        let p: Vec<f64> = (0..4).map(|_| self.coefficient()).collect();
        let horner = |x: f64| p.iter().rev().fold(0.0, |sum, c| sum * x + c);
        let size: f64 = p.iter().map(|c| c.abs()).sum();
        let data = x[0].data.iter().map(|x| horner(*x)).collect();
        let p = self.bind(&format!("poly(x0, {p:?})"), data, size.max(1.0), 2);
        let (a, b) = (self.coefficient(), self.coefficient());
        vec![self.sum(a, &r, b, &p)]
    }

    /// One operand is deep, the others are not.
    fn skewed(&mut self) -> Vec<Value> {
        let x = self.secrets(4);
        let mut deep = x[0].clone();
        let mut prefixes = Vec::new();
        for i in 0..5 + self.below(4) {
            deep = match self.below(3) {
                0 => self.product_sum(&deep, &x[i % 4], &x[(i + 1) % 4]),
                1 => self.mul(&x[i % 4], &deep),
                _ => {
                    let half = self.sum(0.5, &deep, 0.5, &x[i % 4]);
                    self.mul(&half, &x[(i + 2) % 4])
                }
            };
            prefixes.push(deep.clone());
        }
        let early = prefixes[1].clone();
        let (p, q) = (self.coefficient(), self.coefficient());
        let mixed = self.sum(p, &deep, q, &early);
        vec![mixed, self.mul(&early, &x[3])]
    }

    /// A loop in a loop over rows of inputs.
    fn deep_loops(&mut self) -> Vec<Value> {
        let (outer, inner) = (2 + self.below(2), 2 + self.below(4));
        let rows = outer * inner;
        let a = self.input("a", "secret", Some(rows));
        let b = self.input("b", "secret", Some(rows));
        let width = self.length.max(1);
        let attribute = ["", "@unroll(2)", "@unroll(full)", "@pipeline(off)"][self.below(4)];
        let both = ["", "@pipeline(off)"][self.below(2)];
        let step = self.below(3);
        let text = [
            "r * a[K] + b[K]",
            "0.5 * r * a[K] + 0.5 * b[K] * s",
            "r * a[K] - r + b[K]",
        ][step]
            .replace('K', &format!("i * {inner} + j"));
        let mut data = vec![1.0; width];
        let mut size = 1.0;
        for i in 0..outer {
            let start = data.clone();
            for j in 0..inner {
                for (k, r) in data.iter_mut().enumerate() {
                    let at = (i * inner + j) * width + k;
                    let (a, b) = (a.data[at], b.data[at]);
                    *r = match step {
                        0 => *r * a + b,
                        1 => 0.5 * *r * a + 0.5 * b * start[k],
                        _ => *r * a - *r + b,
                    };
                }
            }
        }
        for _ in 0..rows {
            size = match step {
                0 => size + 1.0,
                1 => size,
                _ => 2.0 * size + 1.0,
            };
        }
        let one = if self.length == 0 {
            "1".to_owned()
        } else {
            format!("ones([{}])", self.length)
        };
        self.body += &format!(
            "    var r = {one};\n    {attribute} for i in 0..{outer} {{\n        let s = r;\n        {both} for j in 0..{inner} {{\n            r = {text};\n        }}\n    }}\n"
        );
        vec![self.bind("r", data, size, rows as u32)]
    }

    /// Two operands of products and sums come equally late.
    fn equally_late(&mut self) -> Vec<Value> {
        let x = self.secrets(4);
        let late = |w: &mut Writer, a: &Value, b: &Value| {
            let p = w.mul(a, b);
            let q = w.product_sum(&p, a, b);
            w.mul(&q, &p)
        };
        let first = late(self, &x[0], &x[1]);
        let second = if self.below(2) == 0 {
            first.clone()
        } else {
            late(self, &x[2], &x[3])
        };
        let (a, b) = (self.pick(&x).clone(), self.pick(&x).clone());
        let inner = self.product_sum(&second, &a, &b);
        let outer = self.product_sum(&first, &inner, &a);
        let left = self.mul(&first, &a);
        let right = self.mul(&second, &b);
        let product = self.mul(&left, &right);
        vec![outer, product]
    }

    /// Public values alone, and a secret at the end.
    fn secret_tail(&mut self) -> Vec<Value> {
        let public: Vec<Value> = (0..3)
            .map(|i| self.input(&format!("p{i}"), "public", None))
            .collect();
        let x = self.secrets(2);
        let mut chain = public[0].clone();
        for i in 0..6 + self.below(10) {
            let p = &public[i % 3];
            chain = match self.below(3) {
                0 => self.mul(&chain, p),
                1 => self.product_sum(&chain, p, &public[(i + 1) % 3]),
                _ => {
                    let (c, d) = (self.coefficient(), self.coefficient());
                    self.sum(c, &chain, d, p)
                }
            };
        }
        chain.depth = 0;
        let tail = self.product_sum(&x[0], &chain, &x[1]);
        // and a chain on a secret whose factors are all public
        let mut scaled = tail.clone();
        for p in &public {
            scaled = self.mul(p, &scaled);
            let c = self.coefficient();
            scaled = self.sum(1.0, &scaled, c, &x[1]);
        }
        vec![tail, scaled]
    }

    /// Sums of products, of one another and of values that are no products, several of each.
    fn mixed_sums(&mut self) -> Vec<Value> {
        let x = self.secrets(4);
        let mut products = Vec::new();
        for _ in 0..3 + self.below(3) {
            let (a, b) = (self.pick(&x).clone(), self.pick(&x).clone());
            products.push(self.mul(&a, &b));
        }
        let mut level = products.clone();
        for _ in 0..2 {
            let mut sums = Vec::new();
            for _ in 0..2 + self.below(4) {
                let (a, b) = (self.pick(&level).clone(), self.pick(&products).clone());
                let (p, q) = (self.coefficient(), 1.0);
                let sum = self.sum(p, &a, q, &b);
                sums.push(match self.below(3) {
                    0 => {
                        let c = self.pick(&x).clone();
                        self.sum(1.0, &sum, -1.0, &c)
                    }
                    _ => sum,
                });
            }
            let (a, b) = (self.pick(&sums).clone(), self.pick(&sums).clone());
            sums.push(self.mul(&a, &b));
            level = sums;
        }
        level.split_off(level.len() - 2)
    }
}

fn zip(a: &Value, b: &Value, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.data.iter().zip(&b.data).map(|(x, y)| f(*x, *y)).collect()
}

/// The program of a seed: its shape is one of eight, in turn.
pub fn program(seed: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xBAD_5EED);
    let length = if rng.random_range(0..2) == 0 {
        0
    } else {
        rng.random_range(1..=4)
    };
    let mut w = Writer {
        rng,
        length,
        body: String::new(),
        count: 0,
        inputs: Vec::new(),
        params: Vec::new(),
    };
    let results = match seed % 8 {
        0 => w.shared(),
        1 => w.cancelling(),
        2 => w.trivial_coefficients(),
        3 => w.skewed(),
        4 => w.deep_loops(),
        5 => w.equally_late(),
        6 => w.secret_tail(),
        _ => w.mixed_sums(),
    };
    let ty = match length {
        0 => "real".to_owned(),
        n => format!("real[{n}]"),
    };
    let outputs: Vec<String> = (0..results.len()).map(|i| format!("y{i}: {ty}")).collect();
    let names: Vec<&str> = results.iter().map(|v| v.name.as_str()).collect();
    let (outs, ret) = match names.as_slice() {
        [one] => (outputs[0].clone(), (*one).to_owned()),
        all => (
            format!("({})", outputs.join(", ")),
            format!("({})", all.join(", ")),
        ),
    };
    let source = format!(
        "// seed {seed}\ncircuit main({}) -> {outs} {{\n{}    return {ret};\n}}\n",
        w.params.join(", "),
        w.body
    );
    let outputs = results.iter().enumerate().map(|(i, v)| {
        let data = v.data.clone();
        (
            format!("y{i}"),
            T {
                shape: w.shape(None),
                data,
            },
        )
    });
    Program {
        seed,
        source,
        outputs: outputs.collect(),
        inputs: w.inputs.clone(),
    }
}
