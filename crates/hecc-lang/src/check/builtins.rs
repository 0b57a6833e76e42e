//! The functions of the language.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use hecc_ir::diag::Diagnostic;
use hecc_ir::graph::Real;
use hecc_ir::span::Span;
use hecc_ir::tensor::{Affine, Basis, Polynomial, Shape, TensorOp, elements, shape_name};
use rustc_hash::FxHashMap;

use super::expr::{Checker, Context, Flow, Side, Stop};
use super::resolve::{Target as Callee, target};
use super::value::{Const, Value};
use crate::approx::{ApproxError, Approximation, Function, Method, Target, approximate, fit};
use crate::ast::{self, BinaryOp, Expr, ExprKind};
use crate::suggest::nearest;

/// Functions whose names nobody else may take, each with its parameters as messages show them.
const RESERVED: [(&str, &str); 23] = [
    ("sum", "sum(x)` or `sum(x, axis)"),
    ("mean", "mean(x)` or `mean(x, axis)"),
    ("dot", "dot(a, b)"),
    ("rotate", "rotate(x, k)"),
    ("concat", "concat(a, b, …)` or `concat(a, b, axis = 1)"),
    ("reshape", "reshape(x, [m, n])"),
    ("transpose", "transpose(x)` or `transpose(x, [1, 0, 2])"),
    ("pad", "pad(x, [[1, 1], [1, 1]])"),
    ("zeros", "zeros([m, n])"),
    ("ones", "ones([m, n])"),
    ("diag", "diag(x)"),
    ("conv2d", "conv2d(x, k)` or `conv2d(x, k, stride = 2)"),
    ("sum_pool", "sum_pool(x, 2)"),
    ("mean_pool", "mean_pool(x, 2)"),
    ("poly", "poly(x, [c0, c1, c2])"),
    ("len", "len(x)"),
    ("min", "min(a, b)"),
    ("max", "max(a, b)"),
    ("floor", "floor(a)"),
    ("ceil", "ceil(a)"),
    ("log2", "log2(a)"),
    ("approx", "approx(sigmoid, x, on = [-8, 8], degree = 7)"),
    (
        "load",
        "load(\"weights.npy\")` or `load(\"w.npz\", \"key\")",
    ),
];

/// Whether a user's function must not be called so.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|(n, _)| *n == name)
}

/// Whether it can be called without being defined. The mathematical functions work on compile-time
/// values, and a user's function of the same name replaces them.
pub(crate) fn is_builtin(name: &str) -> bool {
    is_reserved(name) || Function::by_name(name).is_some()
}

pub(crate) fn all_names<'n>() -> impl Iterator<Item = &'n str> {
    let reserved = RESERVED.iter().map(|(n, _)| *n);
    reserved.chain(Function::ALL.iter().map(|(n, _)| *n))
}

fn usage(name: &str) -> &'static str {
    RESERVED
        .iter()
        .find(|(n, _)| *n == name)
        .map_or("f(x)", |(_, u)| u)
}

/// What an approximation was asked for: function, interval, degree or error, method.
type Request = (Result<Function, usize>, u64, u64, (u8, u64), Option<u8>);

/// Approximations found so far.
pub(crate) type Approximations = FxHashMap<Request, Rc<Approximation>>;

/// An argument, evaluated.
struct Given {
    value: Value,
    span: Span,
}

impl<'a> Checker<'a> {
    pub(crate) fn builtin(
        &mut self,
        callee: &'a ast::Ident,
        args: &'a [ast::Arg],
        span: Span,
    ) -> Flow<Value> {
        let name = callee.name.as_str();
        match name {
            "approx" => return self.approx(args, span),
            "load" => return self.load(args, span),
            _ => {}
        }
        // Names of the parameters, how many are required, how many may be given by place.
        let (params, required, placed): (&[&str], usize, usize) = match name {
            "sum" | "mean" => (&["x", "axis"], 1, 2),
            "dot" => (&["a", "b"], 2, 2),
            "rotate" => (&["x", "k"], 2, 2),
            "concat" => (&["axis"], 0, 0),
            "reshape" => (&["x", "shape"], 2, 2),
            "transpose" => (&["x", "axes"], 1, 2),
            "pad" => (&["x", "widths"], 2, 2),
            "zeros" | "ones" => (&["shape"], 1, 1),
            "conv2d" => (&["x", "k", "stride"], 2, 2),
            "sum_pool" | "mean_pool" => (&["x", "n"], 2, 2),
            "poly" => (&["x", "coefficients"], 2, 2),
            "min" | "max" => (&[], 0, 0),
            _ => (&["x"], 1, 1),
        };
        let variadic = matches!(name, "concat" | "min" | "max");
        let Some((bound, rest)) =
            self.bind(callee, args, params, required, placed, variadic, span)?
        else {
            return Ok(Value::Error);
        };
        let values = bound.iter().flatten().chain(&rest);
        if values.clone().any(|g| g.value.is_error()) {
            return Ok(Value::Error);
        }
        for given in values {
            if matches!(given.value, Value::Bool(_)) {
                return Ok(self.expected("a number or a tensor", &given.value, given.span));
            }
        }
        let second = bound.get(1).and_then(Option::as_ref);
        if variadic {
            let axis = bound.first().and_then(Option::as_ref);
            return match name {
                "concat" => self.concat(&rest, axis, span),
                _ => self.extreme(name == "min", &rest, span),
            };
        }
        let Some(Some(x)) = bound.first() else {
            return Ok(Value::Error);
        };
        match (name, second) {
            ("sum", axis) => self.sum(x, axis, span),
            ("mean", axis) => {
                let total = self.sum(x, axis, span)?;
                let count = elements(&x.value.shape()) / elements(&total.shape()).max(1);
                self.divide(total, count as i64, span)
            }
            ("dot", Some(b)) => self.dot(x, b, span),
            ("rotate", Some(k)) => self.rotate(x, k, span),
            ("reshape", Some(shape)) => self.reshape_to(x, shape, span),
            ("transpose", axes) => self.transpose(x, axes, span),
            ("pad", Some(widths)) => self.pad(x, widths, span),
            ("zeros" | "ones", _) => {
                let Some(shape) = self.extents(x)? else {
                    return Ok(Value::Error);
                };
                self.fits(&shape, span)?;
                let n = elements(&shape);
                self.step(n as u64 / 8, span)?;
                let value = if name == "ones" { 1.0 } else { 0.0 };
                Ok(Value::from_const(Const::new(shape, vec![value; n], true)))
            }
            ("diag", _) => {
                let shape = x.value.shape();
                if !matches!(shape.len(), 1 | 2) {
                    return Ok(self.unsuitable(x, "a vector or a matrix", "`diag` makes a diagonal matrix of a vector, and takes the diagonal of a matrix"));
                }
                self.apply(TensorOp::Diag, std::slice::from_ref(&x.value), span)
            }
            ("conv2d", Some(k)) => {
                let stride = bound.get(2).and_then(Option::as_ref);
                self.conv2d(x, k, stride, span)
            }
            ("sum_pool" | "mean_pool", Some(n)) => self.pool(name == "mean_pool", x, n, span),
            ("poly", Some(c)) => self.poly(x, c, span),
            ("len", _) => match x.value.shape().first() {
                Some(&n) => Ok(Value::Int(n as i64)),
                None => Ok(self.unsuitable(
                    x,
                    "a tensor",
                    "`len` is the first extent, and a scalar has none",
                )),
            },
            ("floor" | "ceil", _) => {
                if let Value::Int(i) = x.value {
                    return Ok(Value::Int(i));
                }
                let Some(v) = self.real(&x.value, x.span, "what is rounded")? else {
                    return Ok(Value::Error);
                };
                let v = if name == "floor" { v.floor() } else { v.ceil() };
                if v.abs() < 9e18 {
                    Ok(Value::Int(v as i64))
                } else {
                    Ok(self.report(Diagnostic::error(
                        "E2004",
                        span,
                        format!("{v:e} leaves the range of 64 bit integers"),
                        "rounded here",
                    )))
                }
            }
            ("log2", _) => {
                let Some(v) = self.real(&x.value, x.span, "what a logarithm is taken of")? else {
                    return Ok(Value::Error);
                };
                if v <= 0.0 {
                    return Ok(self.report(
                        Diagnostic::error(
                            "E2005",
                            span,
                            format!("there is no logarithm of {v:?}"),
                            "a logarithm needs a positive number",
                        )
                        .with_help(
                            "add a small positive number first, or take another branch with `if`",
                        ),
                    ));
                }
                Ok(match x.value {
                    Value::Int(i) if i.count_ones() == 1 => {
                        Value::Int(i64::from(i.trailing_zeros()))
                    }
                    _ => Value::Real(v.log2()),
                })
            }
            (other, _) => match Function::by_name(other) {
                Some(f) => self.mathematical(f, x, span),
                None => Ok(Value::Error),
            },
        }
    }

    /// Sorts arguments to parameters. None when an error was reported.
    #[expect(
        clippy::type_complexity,
        reason = "by parameter, then the variadic rest"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "one row of the table of built-ins"
    )]
    fn bind(
        &mut self,
        callee: &'a ast::Ident,
        args: &'a [ast::Arg],
        params: &[&str],
        required: usize,
        placed: usize,
        variadic: bool,
        span: Span,
    ) -> Flow<Option<(Vec<Option<Given>>, Vec<Given>)>> {
        let mut bound: Vec<Option<Given>> = params.iter().map(|_| None).collect();
        let mut rest = Vec::new();
        let mut good = true;
        let mut next = 0;
        let name = callee.name.as_str();
        let help = format!("write `{}`", usage_of(name));
        for arg in args {
            let value = self.eval(&arg.value)?;
            let given = Given {
                value,
                span: arg.value.span,
            };
            let wrong = match &arg.key {
                Some(key) => match params.iter().position(|p| *p == key.name) {
                    Some(at) if bound[at].is_none() => {
                        bound[at] = Some(given);
                        None
                    }
                    Some(_) => Some((arg.span, format!("`{}` is given twice", key.name))),
                    None => Some((
                        key.span,
                        format!("`{name}` has no parameter `{}`", key.name),
                    )),
                },
                None if variadic => {
                    rest.push(given);
                    None
                }
                None if next < placed => {
                    bound[next] = Some(given);
                    next += 1;
                    None
                }
                None => Some((arg.span, format!("`{name}` takes no further argument"))),
            };
            if let Some((at, message)) = wrong {
                good = false;
                self.report(
                    Diagnostic::error("E1006", at, message, "given here").with_help(&*help),
                );
            }
        }
        let missing = bound.iter().take(required).position(Option::is_none);
        if good && (missing.is_some() || (variadic && rest.is_empty())) {
            good = false;
            let message = match missing {
                Some(at) => format!("`{name}` lacks its argument `{}`", params[at]),
                None => format!("`{name}` takes at least one argument"),
            };
            self.report(Diagnostic::error("E1006", span, message, "called here").with_help(help));
        }
        Ok(good.then_some((bound, rest)))
    }

    fn unsuitable(&mut self, x: &Given, wanted: &str, help: &str) -> Value {
        let is = x.value.describe();
        self.report(
            Diagnostic::error(
                "E1017",
                x.span,
                format!("{wanted} is expected here"),
                format!("this is {is}"),
            )
            .with_help(help),
        )
    }

    fn divide(&mut self, value: Value, by: i64, span: Span) -> Flow<Value> {
        if value.is_error() {
            return Ok(value);
        }
        self.binary(
            BinaryOp::Div,
            Side(&value, span),
            Side(&Value::Int(by), span),
            span,
        )
    }

    /// An axis of a tensor, counted from the end when negative.
    fn axis(&mut self, x: &[usize], axis: &Given) -> Flow<Option<usize>> {
        let Some(i) = self.int(&axis.value, axis.span, "an axis")? else {
            return Ok(None);
        };
        let rank = x.len() as i64;
        let at = if i < 0 { i + rank } else { i };
        if (0..rank).contains(&at) {
            return Ok(Some(at as usize));
        }
        let is = shape_name(x);
        let label = match rank {
            0 => format!("{is} has no axes"),
            1 => format!("{is} has the axis 0 alone"),
            _ => format!("{is} has the axes 0 to {}", rank - 1),
        };
        self.report(
            Diagnostic::error("E1016", axis.span, format!("there is no axis {i}"), label)
                .with_help("axes are counted from 0, the outermost; -1 is the last"),
        );
        Ok(None)
    }

    fn sum(&mut self, x: &Given, axis: Option<&Given>, span: Span) -> Flow<Value> {
        let shape = x.value.shape();
        let axes = match axis {
            None => (0..shape.len()).collect(),
            Some(axis) => match self.axis(&shape, axis)? {
                Some(axis) => [axis].into_iter().collect(),
                None => return Ok(Value::Error),
            },
        };
        if shape.is_empty() {
            return Ok(x.value.clone());
        }
        self.apply(TensorOp::Sum(axes), std::slice::from_ref(&x.value), span)
    }

    fn dot(&mut self, a: &Given, b: &Given, span: Span) -> Flow<Value> {
        let (l, r) = (a.value.shape(), b.value.shape());
        if l.len() != 1 || r.len() != 1 || l != r {
            let (l, r) = (shape_name(&l), shape_name(&r));
            return Ok(self.report(
                Diagnostic::error(
                    "E1011",
                    span,
                    format!("shapes do not fit: dot({l}, {r})"),
                    "`dot` takes two vectors of one length",
                )
                .with_label(a.span, format!("this is {l}"))
                .with_label(b.span, format!("this is {r}"))
                .with_help("`@` is the product of matrices and vectors"),
            ));
        }
        self.apply(TensorOp::MatMul, &[a.value.clone(), b.value.clone()], span)
    }

    fn rotate(&mut self, x: &Given, k: &Given, span: Span) -> Flow<Value> {
        if x.value.shape().len() != 1 {
            return Ok(self.unsuitable(
                x,
                "a vector",
                "rotate the rows one by one: `[rotate(x[i], k) for i in 0..len(x)]`",
            ));
        }
        let Some(by) = self.place(&k.value, k.span, "a rotation step")? else {
            return Ok(Value::Error);
        };
        self.apply(TensorOp::Roll(by), std::slice::from_ref(&x.value), span)
    }

    fn concat(&mut self, parts: &[Given], axis: Option<&Given>, span: Span) -> Flow<Value> {
        let mut values = Vec::with_capacity(parts.len());
        for part in parts {
            // A scalar joins as a vector of one element.
            let value = if part.value.shape().is_empty() {
                self.reshape(&part.value, Shape::from_slice(&[1]), part.span)?
            } else {
                part.value.clone()
            };
            values.push(value);
        }
        if values.iter().any(Value::is_error) {
            return Ok(Value::Error);
        }
        let first = values[0].shape();
        let axis = match axis {
            Some(axis) => match self.axis(&first, axis)? {
                Some(axis) => axis,
                None => return Ok(Value::Error),
            },
            None => 0,
        };
        for (value, part) in values.iter().zip(parts) {
            let shape = value.shape();
            let alike = shape.len() == first.len()
                && (0..first.len()).all(|i| i == axis || shape[i] == first[i]);
            if !alike {
                let (a, b) = (shape_name(&first), shape_name(&shape));
                return Ok(self.report(
                    Diagnostic::error(
                        "E1017",
                        part.span,
                        format!("{a} and {b} cannot be joined along axis {axis}"),
                        format!("this is {b}"),
                    )
                    .with_label(parts[0].span, format!("the first one is {a}"))
                    .with_help("all extents but the one along which they are joined must be equal"),
                ));
            }
        }
        if values.len() == 1 {
            return Ok(values.swap_remove(0));
        }
        self.apply(TensorOp::Concat(axis), &values, span)
    }

    /// Extents: a list of positive integers, or one of them.
    fn extents(&mut self, given: &Given) -> Flow<Option<Shape>> {
        let numbers = match &given.value {
            Value::Tensor(t) if t.shape().len() == 1 => t.data().to_vec(),
            Value::Tensor(_) => {
                self.unsuitable(given, "a list of extents", "write `[m, n]`");
                return Ok(None);
            }
            other => match self.int(other, given.span, "an extent")? {
                Some(n) => vec![n as f64],
                None => return Ok(None),
            },
        };
        let mut shape = Shape::new();
        for x in numbers {
            if x.fract() != 0.0 || !(1.0..9e15).contains(&x) {
                self.report(
                    Diagnostic::error(
                        "E1017",
                        given.span,
                        format!("{x:?} is no extent"),
                        "an extent is an integer, 1 or more",
                    )
                    .with_help("write `[m, n]` with the extents, outermost first"),
                );
                return Ok(None);
            }
            shape.push(x as usize);
        }
        Ok(Some(shape))
    }

    fn reshape_to(&mut self, x: &Given, to: &Given, span: Span) -> Flow<Value> {
        let Some(shape) = self.extents(to)? else {
            return Ok(Value::Error);
        };
        let from = x.value.shape();
        self.fits(&shape, to.span)?;
        if elements(&from) != elements(&shape) {
            let (a, b) = (shape_name(&from), shape_name(&shape));
            return Ok(self.report(
                Diagnostic::error(
                    "E1017",
                    span,
                    format!("{a} cannot be reshaped to {b}"),
                    format!(
                        "{} elements, but {} are asked for",
                        elements(&from),
                        elements(&shape)
                    ),
                )
                .with_label(x.span, format!("this is {a}"))
                .with_help("the product of the extents must stay the same"),
            ));
        }
        self.reshape(&x.value, shape, span)
    }

    fn transpose(&mut self, x: &Given, axes: Option<&Given>, span: Span) -> Flow<Value> {
        let shape = x.value.shape();
        let rank = shape.len();
        if rank < 2 {
            return Ok(self.unsuitable(
                x,
                "a matrix, or a tensor of higher rank,",
                "a vector has no second axis; `reshape(x, [1, n])` makes it a row",
            ));
        }
        let Some(axes) = axes else {
            let perm = (0..rank).rev().collect();
            return self.apply(
                TensorOp::Transpose(perm),
                std::slice::from_ref(&x.value),
                span,
            );
        };
        let perm: Option<Vec<usize>> = match &axes.value {
            Value::Tensor(t) if t.shape().as_slice() == [rank] => t
                .data()
                .iter()
                .map(|x| (x.fract() == 0.0 && *x >= 0.0 && *x < rank as f64).then_some(*x as usize))
                .collect(),
            Value::Run(run) => return self.not_known("the order of the axes", run, axes.span),
            _ => None,
        };
        let sorted = perm.clone().map(|mut p| {
            p.sort_unstable();
            p
        });
        match perm {
            Some(perm) if sorted == Some((0..rank).collect()) => {
                let perm = perm.into_iter().collect();
                self.apply(
                    TensorOp::Transpose(perm),
                    std::slice::from_ref(&x.value),
                    span,
                )
            }
            _ => {
                let order: Vec<String> = (0..rank).rev().map(|i| i.to_string()).collect();
                let is = shape_name(&shape);
                Ok(self.report(
                    Diagnostic::error(
                        "E1016",
                        axes.span,
                        format!("this is no order of the {rank} axes of {is}"),
                        format!("each of 0 to {} must stand here once", rank - 1),
                    )
                    .with_help(format!("write `[{}]`, say", order.join(", "))),
                ))
            }
        }
    }

    fn pad(&mut self, x: &Given, widths: &Given, span: Span) -> Flow<Value> {
        let shape = x.value.shape();
        let rank = shape.len();
        if let Value::Run(run) = &widths.value {
            return self.not_known("the width of the padding", run, widths.span);
        }
        let pairs = match &widths.value {
            Value::Tensor(t) if t.shape().as_slice() == [rank, 2] => Some(t.data()),
            Value::Tensor(t) if rank == 1 && t.shape().as_slice() == [2] => Some(t.data()),
            _ => None,
        };
        let good = |x: &f64| x.fract() == 0.0 && (0.0..9e15).contains(x);
        let Some(pairs) = pairs.filter(|p| rank > 0 && p.iter().all(good)) else {
            let pairs: Vec<&str> = vec!["[1, 1]"; rank.max(1)];
            let is = shape_name(&shape);
            return Ok(self.report(
                Diagnostic::error(
                    "E1017",
                    widths.span,
                    format!("the padding of {is} is a pair [before, after] for each axis"),
                    format!("this is {}", widths.value.describe()),
                )
                .with_label(x.span, format!("this is {is}"))
                .with_help(format!("write `[{}]`, say", pairs.join(", "))),
            ));
        };
        let before: Shape = pairs.iter().step_by(2).map(|x| *x as usize).collect();
        let after: Shape = pairs
            .iter()
            .skip(1)
            .step_by(2)
            .map(|x| *x as usize)
            .collect();
        let padded: Vec<usize> = (0..rank)
            .map(|i| before[i].saturating_add(shape[i]).saturating_add(after[i]))
            .collect();
        self.fits(&padded, span)?;
        self.apply(
            TensorOp::Pad { before, after },
            std::slice::from_ref(&x.value),
            span,
        )
    }

    fn conv2d(&mut self, x: &Given, k: &Given, stride: Option<&Given>, span: Span) -> Flow<Value> {
        let (image, kernel) = (x.value.shape(), k.value.shape());
        let stride = match stride {
            None => 1,
            Some(s) => match self.int(&s.value, s.span, "a stride")? {
                Some(n) if n >= 1 => n as usize,
                Some(n) => {
                    return Ok(self.report(Diagnostic::error(
                        "E1017",
                        s.span,
                        format!("the stride is {n}"),
                        "a stride is at least 1",
                    )));
                }
                None => return Ok(Value::Error),
            },
        };
        let unfit = |this: &mut Self, why: &str| {
            let (a, b) = (shape_name(&image), shape_name(&kernel));
            this.report(
                Diagnostic::error(
                    "E1017",
                    span,
                    format!("shapes do not fit: conv2d({a}, {b})"),
                    why.to_owned(),
                )
                .with_label(x.span, format!("the image is {a}"))
                .with_label(k.span, format!("the kernel is {b}"))
                .with_help("an image is [h, w] or [c, h, w]; a kernel is [kh, kw], [o, kh, kw] for an image of one channel, or [o, c, kh, kw]"),
            )
        };
        if !matches!(image.len(), 2 | 3) || !matches!(kernel.len(), 2..=4) {
            return Ok(unfit(self, "the ranks do not fit"));
        }
        let (h, w) = (image[image.len() - 2], image[image.len() - 1]);
        let (kh, kw) = (kernel[kernel.len() - 2], kernel[kernel.len() - 1]);
        if kh > h || kw > w {
            return Ok(unfit(self, "the kernel is larger than the image"));
        }
        let channels = if image.len() == 3 { image[0] } else { 1 };
        let op = TensorOp::Conv2d { stride };
        if kernel.len() == 2 {
            // One kernel for every channel by itself.
            let k4 = self.reshape(&k.value, Shape::from_slice(&[1, 1, kh, kw]), k.span)?;
            let mut out = Vec::with_capacity(channels);
            for c in 0..channels {
                let plane = if image.len() == 3 {
                    let slice = TensorOp::Slice {
                        starts: vec![
                            Affine::constant(c as i64),
                            Affine::constant(0),
                            Affine::constant(0),
                        ],
                        sizes: Shape::from_slice(&[1, h, w]),
                    };
                    if channels == 1 {
                        x.value.clone()
                    } else {
                        self.apply(slice, std::slice::from_ref(&x.value), span)?
                    }
                } else {
                    self.reshape(&x.value, Shape::from_slice(&[1, h, w]), x.span)?
                };
                out.push(self.apply(op.clone(), &[plane, k4.clone()], span)?);
            }
            if image.len() == 3 {
                if out.len() == 1 {
                    return Ok(out.swap_remove(0));
                }
                return self.apply(TensorOp::Concat(0), &out, span);
            }
            let shape = out[0].shape();
            return self.reshape(&out[0], Shape::from_slice(&shape[1..]), span);
        }
        let kernel4 = match *kernel.as_slice() {
            [o, kh, kw] if channels == 1 => Shape::from_slice(&[o, 1, kh, kw]),
            [_, _, _] => {
                return Ok(unfit(
                    self,
                    "a kernel for an image of several channels is [o, c, kh, kw]",
                ));
            }
            _ => kernel.clone(),
        };
        if kernel4[1] != channels {
            let why = format!(
                "the image has {channels} channels, the kernel {}",
                kernel4[1]
            );
            return Ok(unfit(self, &why));
        }
        let x3 = self.reshape(&x.value, Shape::from_slice(&[channels, h, w]), x.span)?;
        let k4 = self.reshape(&k.value, kernel4, k.span)?;
        self.apply(op, &[x3, k4], span)
    }

    fn pool(&mut self, mean: bool, x: &Given, n: &Given, span: Span) -> Flow<Value> {
        let shape = x.value.shape();
        let rank = shape.len();
        let Some(size) = self.int(&n.value, n.span, "the size of a pool")? else {
            return Ok(Value::Error);
        };
        if rank < 2 {
            return Ok(self.unsuitable(
                x,
                "an image, of rank 2 or more,",
                "pooling takes blocks of the last two axes",
            ));
        }
        let room = shape[rank - 1].min(shape[rank - 2]) as i64;
        if size < 1 || size > room {
            return Ok(self.report(
                Diagnostic::error(
                    "E1017",
                    n.span,
                    format!("blocks of {size} by {size} in {}", shape_name(&shape)),
                    format!("1 to {room} is expected"),
                )
                .with_label(x.span, format!("this is {}", shape_name(&shape))),
            ));
        }
        let op = TensorOp::SumPool(size as usize);
        let total = self.apply(op, std::slice::from_ref(&x.value), span)?;
        if mean {
            self.divide(total, size.saturating_mul(size), span)
        } else {
            Ok(total)
        }
    }

    fn poly(&mut self, x: &Given, c: &Given, span: Span) -> Flow<Value> {
        let shape = c.value.shape();
        if shape.len() != 1 {
            return Ok(self.unsuitable(
                c,
                "a list of coefficients",
                "write `poly(x, [c0, c1, c2])` for c0 + c1 x + c2 x^2",
            ));
        }
        if let Value::Tensor(t) = &c.value {
            let coefficients = t.data().iter().map(|x| Real(*x)).collect();
            let op = TensorOp::Poly(Polynomial {
                basis: Basis::Monomial,
                coefficients,
            });
            return self.apply(op, std::slice::from_ref(&x.value), span);
        }
        // Coefficients of the run time: Horner's rule.
        let mut sum: Option<Value> = None;
        for i in (0..shape[0]).rev() {
            let slice = TensorOp::Slice {
                starts: vec![Affine::constant(i as i64)],
                sizes: Shape::from_slice(&[1]),
            };
            let one = self.apply(slice, std::slice::from_ref(&c.value), c.span)?;
            let one = self.reshape(&one, Shape::new(), c.span)?;
            sum = Some(match sum {
                None => one,
                Some(sum) => {
                    let product = self.binary(
                        BinaryOp::Mul,
                        Side(&sum, span),
                        Side(&x.value, x.span),
                        span,
                    )?;
                    self.binary(
                        BinaryOp::Add,
                        Side(&product, span),
                        Side(&one, c.span),
                        span,
                    )?
                }
            });
        }
        let sum = sum.unwrap_or(Value::Error);
        let full = x.value.shape();
        self.spread(&sum, &full, true, span)
    }

    fn extreme(&mut self, least: bool, rest: &[Given], span: Span) -> Flow<Value> {
        let mut best: Option<(f64, Value)> = None;
        for given in rest {
            let numbers: Vec<Value> = match &given.value {
                Value::Tensor(t) => {
                    self.step(t.data().len() as u64 / 8, span)?;
                    let whole = t.whole();
                    t.data()
                        .iter()
                        .map(|x| Value::from_const(Const::scalar(*x, whole)))
                        .collect()
                }
                other => vec![other.clone()],
            };
            for number in numbers {
                let what = if least {
                    "an operand of `min`"
                } else {
                    "an operand of `max`"
                };
                let Some(x) = self.real(&number, given.span, what)? else {
                    return Ok(Value::Error);
                };
                let better = match &best {
                    None => true,
                    Some((y, _)) => {
                        if least {
                            x < *y
                        } else {
                            x > *y
                        }
                    }
                };
                if better {
                    best = Some((x, number));
                }
            }
        }
        Ok(best.map_or(Value::Error, |(_, value)| value))
    }

    /// A mathematical function of a compile-time value.
    fn mathematical(&mut self, f: Function, x: &Given, span: Span) -> Flow<Value> {
        if let Value::Run(run) = &x.value {
            if run.uniform_only {
                return Err(Stop::Unroll(x.span, "this has to be known at compile time"));
            }
            let is = x.value.describe();
            let on = match f {
                Function::Log | Function::Inv | Function::Sqrt | Function::InvSqrt => "[0.5, 2]",
                _ => "[-1, 1]",
            };
            return Ok(self.report(
                Diagnostic::error(
                    "E1021",
                    span,
                    format!("`{}` works on compile-time values", f.name()),
                    format!("its argument is {is}"),
                )
                .with_help(format!(
                    "write `approx({}, …, on = {on}, degree = 7)`",
                    f.name()
                )),
            ));
        }
        if let Value::Tensor(t) = &x.value {
            self.step(t.data().len() as u64, span)?;
            let data = t.data().iter().map(|x| f.eval(*x)).collect();
            let out = Const::new(t.shape().clone(), data, false);
            return Ok(self.finite(out, span));
        }
        let Some(v) = self.real(&x.value, x.span, "the argument")? else {
            return Ok(Value::Error);
        };
        let y = f.eval(v);
        Ok(if y.is_finite() {
            Value::Real(y)
        } else {
            self.not_finite(y, span)
        })
    }

    // ---- approx ----

    fn approx(&mut self, args: &'a [ast::Arg], span: Span) -> Flow<Value> {
        let help = format!("write `{}`", usage("approx"));
        let wrong = |this: &mut Self, at: Span, message: String| {
            this.report(Diagnostic::error("E1006", at, message, "here").with_help(&*help))
        };
        let [f, x, named @ ..] = args else {
            return Ok(wrong(
                self,
                span,
                "`approx` takes a function, a value, `on`, and `degree` or `error`".to_owned(),
            ));
        };
        let ExprKind::Name(name) = &f.value.kind else {
            return Ok(wrong(
                self,
                f.span,
                "the first argument of `approx` is the name of a function".to_owned(),
            ));
        };
        let function = match target(self.names, self.unit, self.inside, name) {
            Callee::Fn(f) => Err(f),
            _ => match Function::by_name(name) {
                Some(f) => Ok(f),
                None => {
                    // An unknown name has been reported by the resolver.
                    if !is_builtin(name) {
                        return Ok(Value::Error);
                    }
                    let known = Function::ALL.map(|(n, _)| n).join(" ");
                    return Ok(self.report(
                        Diagnostic::error(
                            "E1006",
                            f.span,
                            format!("`approx` does not know `{name}`"),
                            "no function of one real number",
                        )
                        .with_help(format!("one of {known}, or a `fn` of one argument")),
                    ));
                }
            },
        };
        if x.key.is_some() {
            return Ok(wrong(
                self,
                x.span,
                "the second argument of `approx` is the value".to_owned(),
            ));
        }
        let value = self.eval(&x.value)?;
        let (mut on, mut goal, mut method) = (None, None, None);
        let mut on_span = span;
        for arg in named {
            let Some(key) = &arg.key else {
                return Ok(wrong(
                    self,
                    arg.span,
                    "further arguments of `approx` are named".to_owned(),
                ));
            };
            match key.name.as_str() {
                "on" => {
                    on_span = arg.span;
                    let bounds = self.eval(&arg.value)?;
                    match &bounds {
                        Value::Tensor(t) if t.shape().as_slice() == [2] => {
                            on = Some((t.data()[0], t.data()[1]));
                        }
                        Value::Run(run) => {
                            self.not_known("an interval", run, arg.value.span)?;
                            return Ok(Value::Error);
                        }
                        Value::Error => return Ok(Value::Error),
                        other => {
                            let is = other.describe();
                            return Ok(wrong(
                                self,
                                arg.value.span,
                                format!("`on` takes an interval [a, b], not {is}"),
                            ));
                        }
                    }
                }
                "degree" | "error" if goal.is_some() => {
                    return Ok(wrong(
                        self,
                        arg.span,
                        "`approx` takes `degree` or `error`, once".to_owned(),
                    ));
                }
                "degree" => {
                    let degree = self.eval(&arg.value)?;
                    match self.int(&degree, arg.value.span, "a degree")? {
                        Some(d) if d >= 0 => goal = Some(Target::Degree(d as usize)),
                        Some(d) => {
                            return Ok(wrong(self, arg.value.span, format!("the degree is {d}")));
                        }
                        None => return Ok(Value::Error),
                    }
                }
                "error" => {
                    let error = self.eval(&arg.value)?;
                    match self.real(&error, arg.value.span, "an error")? {
                        Some(e) => goal = Some(Target::Error(e)),
                        None => return Ok(Value::Error),
                    }
                }
                "method" => {
                    let word = match &arg.value.kind {
                        ExprKind::Name(n) => n.as_str(),
                        _ => "",
                    };
                    method = Method::by_name(word);
                    if method.is_none() {
                        let known = Method::ALL.map(|(n, _)| n);
                        let help = match nearest(word, known) {
                            Some(n) => format!("did you mean `{n}`?"),
                            None => format!("one of {}", known.join(", ")),
                        };
                        return Ok(self.report(
                            Diagnostic::error(
                                "E1006",
                                arg.value.span,
                                "there is no such method of approximation",
                                "given here",
                            )
                            .with_help(help),
                        ));
                    }
                }
                other => {
                    let message = format!("`approx` has no parameter `{other}`");
                    return Ok(wrong(self, key.span, message));
                }
            }
        }
        let Some(on) = on else {
            return Ok(wrong(
                self,
                span,
                "`approx` lacks the interval `on = [a, b]`".to_owned(),
            ));
        };
        let Some(goal) = goal else {
            return Ok(wrong(
                self,
                span,
                "`approx` lacks `degree` or `error`".to_owned(),
            ));
        };
        if value.is_error() {
            return Ok(value);
        }
        if matches!(value, Value::Bool(_)) {
            return Ok(self.expected("a number or a tensor", &value, x.span));
        }
        let request: Request = (
            function,
            on.0.to_bits(),
            on.1.to_bits(),
            match goal {
                Target::Degree(d) => (0, d as u64),
                Target::Error(e) => (1, e.to_bits()),
            },
            method.map(|m| m as u8),
        );
        let found = match self.approximations.get(&request) {
            Some(found) => Rc::clone(found),
            None => match self.fit(function, (on, on_span), goal, method, &f.value, span)? {
                Some(found) => {
                    let found = Rc::new(found);
                    self.approximations.insert(request, Rc::clone(&found));
                    found
                }
                None => return Ok(Value::Error),
            },
        };
        self.notes.push((
            span,
            format!(
                "approx({name}) on [{:?}, {:?}]: degree {}, error at most {:.3e} ({})",
                on.0,
                on.1,
                found.degree(),
                found.error,
                found.method.name()
            ),
        ));
        let op = TensorOp::Poly(Polynomial {
            basis: Basis::Chebyshev {
                lo: Real(found.domain.0),
                hi: Real(found.domain.1),
            },
            coefficients: found.coefficients.iter().map(|c| Real(*c)).collect(),
        });
        self.apply(op, &[value], span)
    }

    /// The polynomial; None when an error was reported.
    fn fit(
        &mut self,
        function: Result<Function, usize>,
        (on, on_span): ((f64, f64), Span),
        goal: Target,
        method: Option<Method>,
        at: &'a Expr,
        span: Span,
    ) -> Flow<Option<Approximation>> {
        let said = self.diagnostics.len();
        let found: Result<Approximation, ApproxError> = match function {
            Ok(f) => {
                self.step(10_000, span)?;
                approximate(f, on, goal, method)
            }
            Err(f) => {
                // The fit asks for values one by one; what goes wrong meanwhile is kept for after.
                let compile_time = std::mem::replace(&mut self.compile_time, true);
                let state = RefCell::new((&mut *self, None::<Stop>));
                let found = fit(
                    &|x| {
                        let (this, stop) = &mut *state.borrow_mut();
                        if stop.is_some() || this.diagnostics.len() > said {
                            return f64::NAN;
                        }
                        let depth = this.context.len();
                        this.context.push(Context::Point(x, on_span));
                        let value = this.call_fn(f, vec![Value::Real(x)], at.span, span);
                        this.context.truncate(depth);
                        match value
                            .and_then(|v| this.real(&v, at.span, "the value of the function"))
                        {
                            Ok(Some(y)) => y,
                            Ok(None) => f64::NAN,
                            Err(reason) => {
                                *stop = Some(reason);
                                f64::NAN
                            }
                        }
                    },
                    on,
                    goal,
                    method.unwrap_or(Method::Minimax),
                );
                let (this, stop) = state.into_inner();
                this.compile_time = compile_time;
                if let Some(stop) = stop {
                    return Err(stop);
                }
                found
            }
        };
        if self.diagnostics.len() > said {
            return Ok(None);
        }
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                let text = error.to_string();
                let (message, help) = match text.split_once(": ") {
                    Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                    None => (text, None),
                };
                let mut d =
                    Diagnostic::error("E2009", span, message, "no approximation is found here");
                d.help = help;
                self.report(d);
                Ok(None)
            }
        }
    }

    // ---- load ----

    fn load(&mut self, args: &'a [ast::Arg], span: Span) -> Flow<Value> {
        let text = |arg: &'a ast::Arg| match &arg.value.kind {
            ExprKind::Str(s) if arg.key.is_none() => Some(s.as_str()),
            _ => None,
        };
        let asked = match args {
            [path] => text(path).map(|p| (p, None)),
            [path, key] => text(path).zip(text(key)).map(|(p, k)| (p, Some(k))),
            _ => None,
        };
        let Some((path, key)) = asked else {
            return Ok(self.report(
                Diagnostic::error(
                    "E1006",
                    span,
                    "`load` takes a path, and a key within the file where needed, both as texts",
                    "called here",
                )
                .with_help(format!("write `{}`", usage("load"))),
            ));
        };
        let folder = self.units[self.unit].path.parent().unwrap_or(Path::new(""));
        let full = folder.join(path);
        let memo = (full.clone(), key.map(str::to_owned));
        if let Some(known) = self.files.get(&memo) {
            return Ok(Value::from_const(known.clone()));
        }
        let limits = crate::load::Limits {
            elements: self.limits.elements,
            ..crate::load::Limits::default()
        };
        let array = match crate::load::load(self.fs, &full, key, &limits) {
            Ok(array) => array,
            Err(error) => {
                let refusal = Diagnostic::error(
                    "E2003",
                    span,
                    format!("cannot load {}: {error}", full.display()),
                    "loaded here",
                );
                return Ok(self.report(match error {
                    crate::load::LoadError::Io(_) => {
                        refusal.with_help("the path is relative to the file that holds the `load`")
                    }
                    _ => refusal,
                }));
            }
        };
        self.step(array.values.len() as u64 / 8, span)?;
        let shape = Shape::from_slice(&array.shape);
        self.fits(&shape, span)?;
        let whole = array
            .values
            .iter()
            .all(|x| x.fract() == 0.0 && x.abs() < 2_147_483_648.0);
        let loaded = Const::new(shape, array.values, whole);
        self.files.insert(memo, loaded.clone());
        Ok(Value::from_const(loaded))
    }
}

fn usage_of(name: &str) -> String {
    if is_reserved(name) {
        usage(name).to_owned()
    } else {
        format!("{name}(x)")
    }
}
