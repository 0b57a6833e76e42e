//! Polynomials that stand in for functions on an interval: best approximation in the maximum norm
//! (the exchange algorithm of Remez), Chebyshev interpolation, and least squares.
//!
//! Everything is kept in the Chebyshev basis of the interval, where degrees of a hundred are as well
//! conditioned as degree three. E. W. Cheney, "Introduction to Approximation Theory", chapter 3, is the
//! source for the exchange; R. Pachón and L. N. Trefethen, "Barycentric-Remez algorithms for best
//! polynomial approximation in the chebfun system" (2009), for what makes it robust.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, PI, SQRT_2};

use thiserror::Error;

/// Largest degree of an approximation.
pub const MAX_DEGREE: usize = 127;

/// A function that hecc knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// e^x
    Exp,
    /// Natural logarithm.
    Log,
    /// 1 / x
    Inv,
    /// Square root.
    Sqrt,
    /// 1 / √x
    InvSqrt,
    /// max(x, 0)
    Relu,
    /// x Φ(x), Φ the normal distribution function
    Gelu,
    /// ln(1 + e^x)
    Softplus,
    /// -1, 0 or 1
    Sign,
    /// Absolute value.
    Abs,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
}

/// Symmetry about zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// f(-x) = f(x)
    Even,
    /// f(-x) = -f(x)
    Odd,
}

impl Function {
    /// All of them with their names in the language.
    pub const ALL: [(&'static str, Function); 14] = [
        ("sigmoid", Function::Sigmoid),
        ("tanh", Function::Tanh),
        ("exp", Function::Exp),
        ("log", Function::Log),
        ("inv", Function::Inv),
        ("sqrt", Function::Sqrt),
        ("inv_sqrt", Function::InvSqrt),
        ("relu", Function::Relu),
        ("gelu", Function::Gelu),
        ("softplus", Function::Softplus),
        ("sign", Function::Sign),
        ("abs", Function::Abs),
        ("sin", Function::Sin),
        ("cos", Function::Cos),
    ];

    /// The function of this name.
    pub fn by_name(name: &str) -> Option<Function> {
        Function::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, f)| *f)
    }

    /// The name in the language.
    pub fn name(self) -> &'static str {
        Function::ALL
            .iter()
            .find(|(_, f)| *f == self)
            .map_or("", |(name, _)| name)
    }

    /// The value at `x`; not finite outside the domain.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Function::Sigmoid if x >= 0.0 => 1.0 / (1.0 + (-x).exp()),
            Function::Sigmoid => x.exp() / (1.0 + x.exp()),
            Function::Tanh => x.tanh(),
            Function::Exp => x.exp(),
            Function::Log => x.ln(),
            Function::Inv => 1.0 / x,
            Function::Sqrt => x.sqrt(),
            Function::InvSqrt => 1.0 / x.sqrt(),
            Function::Relu => x.max(0.0),
            Function::Gelu => 0.5 * x * erfc(-x / SQRT_2),
            Function::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Function::Sign if x == 0.0 => 0.0,
            Function::Sign => x.signum(),
            Function::Abs => x.abs(),
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
        }
    }

    /// Whether the function jumps at zero, so that no polynomial comes near it there.
    fn jumps_at_zero(self) -> bool {
        matches!(self, Function::Sign)
    }
}

/// The complementary error function, to a few units in the last place of 1.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.5 {
        // erf x = 2/√π e^{-x²} Σ 2^k x^{2k+1} / (2k+1)!!, all terms positive.
        let mut term = x;
        let mut sum = x;
        for k in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * k + 1);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return 1.0 - FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    // The continued fraction x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …))), from its tail.
    let mut fraction = x;
    for k in (1..=80).rev() {
        fraction = x + 0.5 * f64::from(k) / fraction;
    }
    (-x * x).exp() / (fraction * PI.sqrt())
}

/// Which polynomial is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The one of least maximal error.
    Minimax,
    /// The interpolation in the Chebyshev points.
    Chebyshev,
    /// The one of least squared error, integrated over the interval.
    LeastSquares,
}

impl Method {
    /// All of them with their names in the language.
    pub const ALL: [(&'static str, Method); 3] = [
        ("minimax", Method::Minimax),
        ("chebyshev", Method::Chebyshev),
        ("least_squares", Method::LeastSquares),
    ];

    /// The method of this name.
    pub fn by_name(name: &str) -> Option<Method> {
        Method::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, m)| *m)
    }

    /// The name in the language.
    pub fn name(self) -> &'static str {
        Method::ALL
            .iter()
            .find(|(_, m)| *m == self)
            .map_or("", |(name, _)| name)
    }
}

/// What decides the degree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this degree.
    Degree(usize),
    /// The least degree whose maximal error is at most this.
    Error(f64),
}

/// A polynomial in the Chebyshev basis of an interval, and how well it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Approximation {
    /// `coefficients[k]` multiplies T_k(t), with t = (2x - a - b) / (b - a). Never empty; the last is
    /// not zero unless it is the only one. Exact zeros where the function's parity forces them.
    pub coefficients: Vec<f64>,
    /// The interval [a, b].
    pub domain: (f64, f64),
    /// Largest |f(x) - p(x)| over a dense grid of the interval, its local maxima refined.
    pub error: f64,
    /// How it was found.
    pub method: Method,
}

impl Approximation {
    /// The degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The value at `x`, by Clenshaw's recurrence.
    pub fn eval(&self, x: f64) -> f64 {
        let (a, b) = self.domain;
        clenshaw(&self.coefficients, ((x - a) - (b - x)) / (b - a))
    }

    /// The coefficients of 1, x, x², …: exact for low degrees, useless numerically beyond about 30.
    pub fn power_basis(&self) -> Vec<f64> {
        let (a, b) = self.domain;
        let (scale, shift) = (2.0 / (b - a), -(a + b) / (b - a));
        let n = self.coefficients.len();
        let mut sum = vec![0.0; n];
        let mut last = vec![0.0; n];
        let mut current = vec![0.0; n];
        current[0] = 1.0;
        for (k, c) in self.coefficients.iter().enumerate() {
            for (s, v) in sum.iter_mut().zip(&current) {
                *s += c * v;
            }
            let factor = if k == 0 { 1.0 } else { 2.0 };
            let mut next = vec![0.0; n];
            for i in 0..n {
                let below = if i > 0 { scale * current[i - 1] } else { 0.0 };
                next[i] = factor * (below + shift * current[i]) - last[i];
            }
            last = std::mem::replace(&mut current, next);
        }
        sum
    }
}

/// Why there is no approximation.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ApproxError {
    /// a ≥ b, or a bound is not finite.
    #[error("the interval [{0}, {1}] is empty or not finite: write on = [a, b] with a < b")]
    Interval(f64, f64),
    /// The function has no finite value somewhere.
    #[error(
        "the function is not finite at x = {x}, which lies in [{a}, {b}]: choose an interval where it is defined"
    )]
    NotFinite {
        /// Where.
        x: f64,
        /// Lower bound of the interval.
        a: f64,
        /// Upper bound of the interval.
        b: f64,
    },
    /// Degree above [`MAX_DEGREE`].
    #[error(
        "degree {0} is above {MAX_DEGREE}, the largest that is fitted: compose polynomials of lower degree, or narrow the interval"
    )]
    Degree(usize),
    /// The asked error is no positive number.
    #[error("the error {0} is not a positive number")]
    BadError(f64),
    /// No degree up to the largest is good enough.
    #[error(
        "an error of {wanted:e} is not attained: degree {degree} comes to {best:.3e}; allow a larger error or narrow the interval"
    )]
    NotAttained {
        /// The asked error.
        wanted: f64,
        /// The best that was found.
        best: f64,
        /// The degree of the best.
        degree: usize,
    },
    /// The function jumps inside the interval.
    #[error(
        "the function jumps at x = {0}: its minimax error is no smaller than half the jump at any degree; use method = least_squares or chebyshev, or an interval beside the jump"
    )]
    Jump(f64),
}

/// Approximates one of the known functions on `[domain.0, domain.1]`.
///
/// Without a method this is the minimax polynomial; only where the function jumps inside the interval
/// (`sign`), and so has none worth the name, it is the least squares one ([`Approximation::method`] tells).
///
/// # Errors
/// See [`ApproxError`].
pub fn approximate(
    function: Function,
    domain: (f64, f64),
    target: Target,
    method: Option<Method>,
) -> Result<Approximation, ApproxError> {
    let (a, b) = domain;
    let jumps = function.jumps_at_zero() && a <= 0.0 && b >= 0.0;
    if jumps && (method == Some(Method::Minimax) || matches!(target, Target::Error(_))) {
        return Err(ApproxError::Jump(0.0));
    }
    let default = if jumps {
        Method::LeastSquares
    } else {
        Method::Minimax
    };
    fit(
        &|x| function.eval(x),
        domain,
        target,
        method.unwrap_or(default),
    )
}

/// Approximates any function on `[domain.0, domain.1]`. Kinks and poles are expected at zero if anywhere.
///
/// On an interval symmetric about zero an even or odd function gives an even or odd polynomial.
///
/// # Errors
/// See [`ApproxError`].
pub fn fit(
    f: &dyn Fn(f64) -> f64,
    domain: (f64, f64),
    target: Target,
    method: Method,
) -> Result<Approximation, ApproxError> {
    let (a, b) = domain;
    if !(a.is_finite() && b.is_finite() && a < b && (b - a).is_finite()) {
        return Err(ApproxError::Interval(a, b));
    }
    let problem = Problem::new(f, a, b)?;
    match target {
        Target::Degree(degree) if degree > MAX_DEGREE => Err(ApproxError::Degree(degree)),
        Target::Degree(degree) => Ok(problem.solve(degree, method)),
        Target::Error(wanted) => least_degree(&problem, wanted, method),
    }
}

fn least_degree(
    problem: &Problem<'_>,
    wanted: f64,
    method: Method,
) -> Result<Approximation, ApproxError> {
    if !(wanted.is_finite() && wanted > 0.0) {
        return Err(ApproxError::BadError(wanted));
    }
    // Double until it is good enough, then halve the gap: the error falls as the degree grows.
    let mut best: Option<Approximation> = None;
    let mut bad = None;
    let mut degree = 1;
    let mut good = loop {
        let found = problem.solve(degree, method);
        if found.error <= wanted {
            break (degree, found);
        }
        if best.as_ref().is_none_or(|b| found.error < b.error) {
            best = Some(found);
        }
        bad = Some(degree);
        if degree == MAX_DEGREE {
            let (best, degree) = best.map_or((f64::NAN, degree), |b| (b.error, b.degree()));
            return Err(ApproxError::NotAttained {
                wanted,
                best,
                degree,
            });
        }
        degree = (2 * degree + 1).min(MAX_DEGREE);
    };
    let mut low = bad.map_or(0, |bad| bad + 1);
    while low < good.0 {
        let middle = (low + good.0) / 2;
        let found = problem.solve(middle, method);
        if found.error <= wanted {
            good = (middle, found);
        } else {
            low = middle + 1;
        }
    }
    Ok(good.1)
}

/// The function carried to [-1, 1].
struct Problem<'a> {
    f: &'a dyn Fn(f64) -> f64,
    a: f64,
    b: f64,
    parity: Option<Parity>,
    /// Where zero lies when it is inside: kinks of the usual functions are there.
    kink: Option<f64>,
    /// Largest |f| seen.
    size: f64,
}

impl Problem<'_> {
    fn new<'a>(f: &'a dyn Fn(f64) -> f64, a: f64, b: f64) -> Result<Problem<'a>, ApproxError> {
        let mut problem = Problem {
            f,
            a,
            b,
            parity: None,
            kink: None,
            size: 0.0,
        };
        if a < 0.0 && b > 0.0 {
            problem.kink = Some(-(a + b) / (b - a));
        }
        let mut grid = problem.grid(1000, false);
        grid.push(-1.0);
        let mut even = a == -b;
        let mut odd = even;
        for &t in &grid {
            let value = problem.value(t)?;
            problem.size = problem.size.max(value.abs());
        }
        // What is left of a symmetric function's other half is rounding.
        let slack = 16.0 * f64::EPSILON * problem.size;
        if a == -b {
            for &t in &grid {
                let (left, right) = (problem.value(-t)?, problem.value(t)?);
                even &= (left - right).abs() <= slack;
                odd &= (left + right).abs() <= slack;
            }
        }
        problem.parity = match (even, odd) {
            (true, _) => Some(Parity::Even),
            (false, true) => Some(Parity::Odd),
            (false, false) => None,
        };
        Ok(problem)
    }

    fn x(&self, t: f64) -> f64 {
        if t == 1.0 {
            return self.b;
        }
        if t == -1.0 {
            return self.a;
        }
        if Some(t) == self.kink {
            return 0.0;
        }
        (0.5 * (self.a * (1.0 - t) + self.b * (1.0 + t))).clamp(self.a, self.b)
    }

    fn value(&self, t: f64) -> Result<f64, ApproxError> {
        let x = self.x(t);
        let value = (self.f)(x);
        if value.is_finite() {
            Ok(value)
        } else {
            Err(ApproxError::NotFinite {
                x,
                a: self.a,
                b: self.b,
            })
        }
    }

    /// The value where `new` saw only finite ones; a function that is not finite elsewhere after all
    /// shows as an infinite error.
    fn f(&self, t: f64) -> f64 {
        let value = (self.f)(self.x(t));
        if value.is_finite() { value } else { f64::MAX }
    }

    /// `n` points, dense towards the ends, rising; on [0, 1] for `half`.
    fn grid(&self, n: usize, half: bool) -> Vec<f64> {
        let mut grid: Vec<f64> = (0..=n)
            .map(|i| {
                let u = i as f64 / n as f64;
                if half {
                    (FRAC_PI_2 * u).sin()
                } else {
                    (PI * (u - 0.5)).sin()
                }
            })
            .collect();
        if let Some(kink) = self.kink
            && !half
        {
            grid.push(kink);
            grid.sort_by(f64::total_cmp);
            grid.dedup();
        }
        grid
    }

    fn solve(&self, degree: usize, method: Method) -> Approximation {
        let coefficients = match method {
            Method::Minimax => self.minimax(degree),
            Method::Chebyshev => self.interpolate(degree),
            Method::LeastSquares => self.least_squares(degree),
        };
        self.finish(coefficients, method)
    }

    fn finish(&self, mut coefficients: Vec<f64>, method: Method) -> Approximation {
        for (k, c) in coefficients.iter_mut().enumerate() {
            let wrong = match self.parity {
                Some(Parity::Even) => k % 2 == 1,
                Some(Parity::Odd) => k % 2 == 0,
                None => false,
            };
            if wrong {
                *c = 0.0;
            }
        }
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        let error = self.error(&coefficients);
        Approximation {
            coefficients,
            domain: (self.a, self.b),
            error,
            method,
        }
    }

    /// The largest deviation of a polynomial from the function.
    fn error(&self, coefficients: &[f64]) -> f64 {
        let e = |t: f64| self.f(t) - clenshaw(coefficients, t);
        let half = self.parity.is_some();
        let grid = self.grid(32 * (coefficients.len() + 32), half);
        extrema(&grid, &e)
            .into_iter()
            .map(|(_, e)| e.abs())
            .fold(0.0, f64::max)
    }

    /// Interpolation in the zeros of T_{degree+1}.
    fn interpolate(&self, degree: usize) -> Vec<f64> {
        let n = degree + 1;
        let values: Vec<f64> = (0..n).map(|i| self.f(chebyshev_zero(i, n))).collect();
        chebyshev_transform(&values)
    }

    /// The L² projection: Legendre coefficients by Gauss quadrature on panels that end at the kink.
    fn least_squares(&self, degree: usize) -> Vec<f64> {
        const PANELS: usize = 64;
        let (nodes, weights) = gauss_legendre(40);
        let mut legendre = vec![0.0; degree + 1];
        let ends: Vec<f64> = match self.kink {
            Some(kink) => vec![-1.0, kink, 1.0],
            None => vec![-1.0, 1.0],
        };
        for pair in ends.windows(2) {
            // Cosine spacing: singular derivatives at an end (a square root) are resolved.
            let edge = |i: usize| {
                let u = 0.5 - 0.5 * (PI * i as f64 / PANELS as f64).cos();
                pair[0] + (pair[1] - pair[0]) * u
            };
            for panel in 0..PANELS {
                let (lo, hi) = (edge(panel), edge(panel + 1));
                for (node, weight) in nodes.iter().zip(&weights) {
                    let t = 0.5 * (lo + hi) + 0.5 * (hi - lo) * node;
                    let w = 0.5 * (hi - lo) * weight * self.f(t);
                    let (mut last, mut current) = (0.0, 1.0);
                    for (k, c) in legendre.iter_mut().enumerate() {
                        let k = k as f64;
                        *c += w * current * (k + 0.5);
                        let next = ((2.0 * k + 1.0) * t * current - k * last) / (k + 1.0);
                        last = std::mem::replace(&mut current, next);
                    }
                }
            }
        }
        let n = degree + 1;
        let values: Vec<f64> = (0..n)
            .map(|i| {
                let t = chebyshev_zero(i, n);
                let (mut last, mut current, mut sum) = (0.0, 1.0, 0.0);
                for (k, c) in legendre.iter().enumerate() {
                    let k = k as f64;
                    sum += c * current;
                    let next = ((2.0 * k + 1.0) * t * current - k * last) / (k + 1.0);
                    last = std::mem::replace(&mut current, next);
                }
                sum
            })
            .collect();
        chebyshev_transform(&values)
    }

    /// The exchange algorithm. For an even or odd function it works on [0, 1] with the Chebyshev
    /// polynomials of that parity, which satisfy Haar's condition there (Cheney, chapter 3).
    fn minimax(&self, degree: usize) -> Vec<f64> {
        let basis: Vec<usize> = match self.parity {
            Some(Parity::Even) => (0..=degree).step_by(2).collect(),
            Some(Parity::Odd) => (1..=degree).step_by(2).collect(),
            None => (0..=degree).collect(),
        };
        if basis.is_empty() {
            return vec![0.0];
        }
        let half = self.parity.is_some();
        let n = basis.len();
        let grid = self.grid(24 * (degree + 32), half);
        let mut best = self.interpolate(degree);
        let mut least = {
            let best = &best;
            largest(&extrema(&grid, &|t| self.f(t) - clenshaw(best, t)))
        };
        let floor = 4.0 * f64::EPSILON * self.size;
        // The extrema of the first polynomial left out, as many as there are unknowns.
        let first: Vec<f64> = match self.parity {
            None => (0..=n).map(|i| -(PI * i as f64 / n as f64).cos()).collect(),
            Some(parity) => {
                let order = match parity {
                    Parity::Even => 2 * n,
                    Parity::Odd => 2 * n + 1,
                } as f64;
                (0..=n)
                    .rev()
                    .map(|i| (PI * i as f64 / order).cos().max(0.0))
                    .collect()
            }
        };
        // A start may be unlucky: on a symmetric reference the level of a function that is nearly even
        // or odd vanishes. Another, bent to one side, is then tried.
        'starts: for bend in [0.0, 0.07, -0.13] {
            let mut reference: Vec<f64> = first
                .iter()
                .map(|&t| {
                    if half {
                        t.powf(1.0 + bend)
                    } else {
                        (t + bend) / (1.0 + bend * t)
                    }
                })
                .collect();
            for _ in 0..100 {
                let Some((coefficients, level)) = self.levelled(&basis, &reference, degree) else {
                    break;
                };
                let e = |t: f64| self.f(t) - clenshaw(&coefficients, t);
                let found = extrema(&grid, &e);
                let error = largest(&found);
                if error < least {
                    least = error;
                    best.clone_from(&coefficients);
                }
                // Best possible by de la Vallée Poussin's bound, or lost in rounding.
                if error <= level.abs() * (1.0 + 1e-9) + floor {
                    break 'starts;
                }
                match exchange(&found, n + 1) {
                    Some(next) if next != reference => reference = next,
                    _ => break,
                }
            }
            if least <= 64.0 * floor {
                break;
            }
        }
        best
    }

    /// The polynomial whose error alternates with equal size over the reference, and that size.
    fn levelled(
        &self,
        basis: &[usize],
        reference: &[f64],
        degree: usize,
    ) -> Option<(Vec<f64>, f64)> {
        let n = reference.len();
        let mut matrix = Vec::with_capacity(n);
        for (i, &t) in reference.iter().enumerate() {
            let mut row = Vec::with_capacity(n + 1);
            let angle = t.clamp(-1.0, 1.0).acos();
            row.extend(basis.iter().map(|&k| (k as f64 * angle).cos()));
            row.push(if i % 2 == 0 { 1.0 } else { -1.0 });
            row.push(self.f(t));
            matrix.push(row);
        }
        let solution = solve_linear(matrix)?;
        let mut coefficients = vec![0.0; degree + 1];
        for (&k, &c) in basis.iter().zip(&solution) {
            coefficients[k] = c;
        }
        Some((coefficients, *solution.last()?))
    }
}

fn largest(extrema: &[(f64, f64)]) -> f64 {
    extrema.iter().map(|(_, e)| e.abs()).fold(0.0, f64::max)
}

/// One extremum of `e` for each run of equal sign over the grid, refined between its neighbours.
fn extrema(grid: &[f64], e: &dyn Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let values: Vec<f64> = grid.iter().map(|&t| e(t)).collect();
    let mut found: Vec<(f64, f64)> = Vec::new();
    for i in 0..grid.len() {
        let size = values[i].abs();
        let rises = i > 0 && values[i - 1].abs() > size && same_sign(values[i - 1], values[i]);
        let falls =
            i + 1 < grid.len() && values[i + 1].abs() > size && same_sign(values[i + 1], values[i]);
        if rises || falls {
            continue;
        }
        let lo = grid[i.saturating_sub(1)];
        let hi = grid[(i + 1).min(grid.len() - 1)];
        let (t, value) = refine(lo, grid[i], hi, values[i], e);
        match found.last_mut() {
            Some(last) if same_sign(last.1, value) => {
                if value.abs() > last.1.abs() {
                    *last = (t, value);
                }
            }
            _ => found.push((t, value)),
        }
    }
    found
}

fn same_sign(a: f64, b: f64) -> bool {
    (a >= 0.0) == (b >= 0.0)
}

/// Golden section search for the largest value of `e` times its sign, near `middle`.
fn refine(lo: f64, middle: f64, hi: f64, value: f64, e: &dyn Fn(f64) -> f64) -> (f64, f64) {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let sign = if value >= 0.0 { 1.0 } else { -1.0 };
    let (mut a, mut b) = (lo, hi);
    let mut best = (middle, value);
    let (mut c, mut d) = (b - RATIO * (b - a), a + RATIO * (b - a));
    let (mut at_c, mut at_d) = (e(c), e(d));
    for _ in 0..30 {
        for (t, v) in [(c, at_c), (d, at_d)] {
            if sign * v > sign * best.1 {
                best = (t, v);
            }
        }
        if sign * at_c > sign * at_d {
            b = d;
            d = c;
            at_d = at_c;
            c = b - RATIO * (b - a);
            at_c = e(c);
        } else {
            a = c;
            c = d;
            at_c = at_d;
            d = a + RATIO * (b - a);
            at_d = e(d);
        }
    }
    best
}

/// `count` consecutive ones of the alternating extrema, the smaller end dropped first.
fn exchange(found: &[(f64, f64)], count: usize) -> Option<Vec<f64>> {
    if found.len() < count {
        return None;
    }
    let mut from = 0;
    let mut to = found.len();
    while to - from > count {
        // An odd surplus loses one end; the largest deviation is never at the smaller one unless alone.
        if found[from].1.abs() < found[to - 1].1.abs() {
            from += 1;
        } else {
            to -= 1;
        }
    }
    Some(found[from..to].iter().map(|(t, _)| *t).collect())
}

/// Gaussian elimination with partial pivoting on an augmented matrix.
fn solve_linear(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()))?;
        rows.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let top = &above[column];
        if top[column].abs() < 1e-300 {
            return None;
        }
        for row in below {
            let factor = row[column] / top[column];
            if factor != 0.0 {
                for (r, t) in row[column..].iter_mut().zip(&top[column..]) {
                    *r -= factor * t;
                }
            }
        }
    }
    let mut solution = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| rows[i][j] * solution[j]).sum();
        solution[i] = (rows[i][n] - known) / rows[i][i];
    }
    solution.iter().all(|v| v.is_finite()).then_some(solution)
}

/// Σ c_k T_k(t).
fn clenshaw(coefficients: &[f64], t: f64) -> f64 {
    let (mut b1, mut b2) = (0.0, 0.0);
    for &c in coefficients.iter().skip(1).rev() {
        let b0 = 2.0 * t * b1 - b2 + c;
        b2 = b1;
        b1 = b0;
    }
    t * b1 - b2 + coefficients.first().copied().unwrap_or(0.0)
}

fn chebyshev_zero(i: usize, n: usize) -> f64 {
    // As a sine, so that opposite zeros are opposite numbers.
    (PI * (2.0 * i as f64 + 1.0 - n as f64) / (2.0 * n as f64)).sin()
}

/// The coefficients of the interpolant through values at the zeros of T_n, in rising order.
fn chebyshev_transform(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    (0..n)
        .map(|k| {
            let sum: f64 = values
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    let angle = PI * (2 * (n - 1 - i) + 1) as f64 / (2 * n) as f64;
                    v * (k as f64 * angle).cos()
                })
                .sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / n as f64
        })
        .collect()
}

/// Nodes and weights of Gauss quadrature on [-1, 1], by Newton's method on the Legendre polynomial.
fn gauss_legendre(n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut nodes = Vec::with_capacity(n);
    let mut weights = Vec::with_capacity(n);
    for i in 0..n {
        let mut t = -(PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..50 {
            let (mut last, mut current) = (0.0, 1.0);
            for k in 0..n {
                let k = k as f64;
                let next = ((2.0 * k + 1.0) * t * current - k * last) / (k + 1.0);
                last = std::mem::replace(&mut current, next);
            }
            slope = n as f64 * (t * current - last) / (t * t - 1.0);
            let step = current / slope;
            t -= step;
            if step.abs() < 1e-16 {
                break;
            }
        }
        nodes.push(t);
        weights.push(2.0 / ((1.0 - t * t) * slope * slope));
    }
    (nodes, weights)
}

#[cfg(test)]
mod tests;
