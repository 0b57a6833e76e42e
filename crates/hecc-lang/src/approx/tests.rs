use super::*;

fn minimax(f: Function, domain: (f64, f64), degree: usize) -> Approximation {
    approximate(f, domain, Target::Degree(degree), Some(Method::Minimax))
        .unwrap_or_else(|e| panic!("{f:?}: {e}"))
}

/// How often the error comes within 1 % of its largest with alternating sign.
fn alternations(f: Function, p: &Approximation) -> usize {
    let (a, b) = p.domain;
    let mut count = 0;
    let mut last = 0.0;
    for i in 0..=200_000 {
        let x = 0.5 * (a + b) - 0.5 * (b - a) * (PI * f64::from(i) / 200_000.0).cos();
        let e = f.eval(x) - p.eval(x);
        if e.abs() > 0.99 * p.error && e.signum() != last {
            last = e.signum();
            count += 1;
        }
    }
    count
}

#[test]
fn minimax_alternates_as_chebyshev_demands() {
    let cases = [
        (Function::Sigmoid, (-8.0, 8.0)),
        (Function::Tanh, (-3.0, 3.0)),
        (Function::Exp, (-1.0, 1.0)),
        (Function::Exp, (0.0, 4.0)),
        (Function::Log, (0.1, 2.0)),
        (Function::Inv, (1.0, 10.0)),
        (Function::Sqrt, (0.0, 1.0)),
        (Function::InvSqrt, (0.1, 3.0)),
        (Function::Relu, (-1.0, 1.0)),
        (Function::Relu, (-2.0, 1.0)),
        (Function::Gelu, (-4.0, 4.0)),
        (Function::Softplus, (-5.0, 5.0)),
        (Function::Abs, (-1.0, 1.0)),
        (Function::Sin, (-3.0, 3.0)),
        (Function::Cos, (-3.0, 3.0)),
        (Function::Sin, (0.0, 3.0)),
        (Function::Sign, (0.5, 3.0)),
    ];
    for (f, domain) in cases {
        for degree in [1, 2, 3, 5, 7, 10] {
            let p = minimax(f, domain, degree);
            assert!(p.degree() <= degree);
            if p.error < 1e-11 {
                continue;
            }
            let alternations = alternations(f, &p);
            assert!(
                alternations >= degree + 2,
                "{f:?} on {domain:?}, degree {degree}: error {:e} alternates {alternations} times",
                p.error
            );
        }
    }
}

#[test]
fn known_minimax_errors() {
    // |x| on [-1, 1]: 1/8 at degree 2 (x² + 1/8); x^n loses its Chebyshev polynomial.
    let p = minimax(Function::Abs, (-1.0, 1.0), 2);
    assert!((p.error - 0.125).abs() < 1e-9);
    let p = minimax(Function::Abs, (-1.0, 1.0), 3);
    assert!((p.error - 0.125).abs() < 1e-9 && p.degree() == 2);
    for n in 2..12 {
        let p = fit(
            &|x| x.powi(n),
            (-1.0, 1.0),
            Target::Degree(n as usize - 1),
            Method::Minimax,
        )
        .expect("fits");
        assert!(
            (p.error * 2f64.powi(n - 1) - 1.0).abs() < 1e-7,
            "{n}: {:e}",
            p.error
        );
    }
    // 1/(x - c) for c > 1: error (c - √(c²-1))^n / (c² - 1), Chebyshev 1892.
    let c = 1.5f64;
    let root = (c * c - 1.0).sqrt();
    for n in [1, 4, 9, 20] {
        let p = fit(
            &|x| 1.0 / (x - c),
            (-1.0, 1.0),
            Target::Degree(n),
            Method::Minimax,
        )
        .expect("fits");
        let exact = (c - root).powi(n as i32) / (c * c - 1.0);
        assert!(
            (p.error / exact - 1.0).abs() < 1e-6,
            "{n}: {:e} {exact:e}",
            p.error
        );
    }
}

#[test]
fn high_degrees_hold() {
    for (f, domain) in [
        (Function::Sigmoid, (-30.0, 30.0)),
        (Function::Tanh, (-20.0, 20.0)),
        (Function::Abs, (-1.0, 1.0)),
        (Function::Relu, (-1.0, 3.0)),
        (Function::Inv, (0.01, 1.0)),
        (Function::Sqrt, (0.0, 1.0)),
        (Function::Exp, (-8.0, 8.0)),
        (Function::Sin, (-20.0, 20.0)),
    ] {
        let mut last = f64::INFINITY;
        for degree in [15, 31, 63, 127] {
            let p = minimax(f, domain, degree);
            let q = approximate(f, domain, Target::Degree(degree), Some(Method::Chebyshev))
                .expect("fits");
            let floor =
                1e-13 * (1.0 + f.eval(domain.1).abs().max(f.eval(domain.0.max(1e-3)).abs()));
            assert!(
                p.error <= q.error * (1.0 + 1e-9) + floor,
                "{f:?} {degree}: {:e} > {:e}",
                p.error,
                q.error
            );
            assert!(
                p.error <= last + floor,
                "{f:?} {degree}: {:e} > {last:e}",
                p.error
            );
            last = p.error;
        }
    }
    // Bernstein's constant: n E_n(|x|) tends to 0.2801694990….
    let p = minimax(Function::Abs, (-1.0, 1.0), 62);
    assert!(
        (p.error * 62.0 - 0.28017).abs() < 1e-3,
        "{}",
        p.error * 62.0
    );
}

#[test]
fn least_squares_of_the_sigmoid() {
    let p = approximate(
        Function::Sigmoid,
        (-8.0, 8.0),
        Target::Degree(3),
        Some(Method::LeastSquares),
    )
    .expect("fits");
    let c = p.power_basis();
    let expected = [0.5, 0.150_120_4, 0.0, -0.001_593_02];
    for (found, wanted) in c.iter().zip(expected) {
        assert!((found - wanted).abs() < 5e-8, "{c:?}");
    }
}

#[test]
fn least_squares_is_orthogonal_to_the_space() {
    let p = fit(
        &|x| x.abs(),
        (-1.0, 2.0),
        Target::Degree(6),
        Method::LeastSquares,
    )
    .expect("fits");
    for k in 0..=6 {
        let n = 300_000;
        let sum: f64 = (0..n)
            .map(|i| {
                let x = -1.0 + 3.0 * (f64::from(i) + 0.5) / f64::from(n);
                (x.abs() - p.eval(x)) * x.powi(k) * 3.0 / f64::from(n)
            })
            .sum();
        assert!(sum.abs() < 1e-8, "x^{k}: {sum:e}");
    }
}

#[test]
fn parity_gives_exact_zeros() {
    for method in [Method::Minimax, Method::Chebyshev, Method::LeastSquares] {
        for (f, first_zero) in [
            (Function::Tanh, 0),
            (Function::Sin, 0),
            (Function::Cos, 1),
            (Function::Abs, 1),
        ] {
            let p = approximate(f, (-4.0, 4.0), Target::Degree(9), Some(method)).expect("fits");
            for k in (first_zero..p.coefficients.len()).step_by(2) {
                assert_eq!(p.coefficients[k], 0.0, "{f:?} {method:?} {k}");
            }
        }
    }
}

#[test]
fn polynomials_are_found_again() {
    let p = fit(
        &|x| 3.0 - 2.0 * x + x.powi(3),
        (-2.0, 5.0),
        Target::Error(1e-10),
        Method::Minimax,
    )
    .expect("fits");
    assert_eq!(p.degree(), 3);
    for (found, wanted) in p.power_basis().iter().zip([3.0, -2.0, 0.0, 1.0]) {
        assert!((found - wanted).abs() < 1e-11);
    }
}

#[test]
fn the_least_degree_for_an_error() {
    for (f, domain, error) in [
        (Function::Sigmoid, (-8.0, 8.0), 1e-3),
        (Function::Exp, (-1.0, 1.0), 1e-6),
        (Function::Inv, (1.0, 4.0), 1e-4),
        (Function::Cos, (-3.0, 3.0), 1e-5),
        (Function::Exp, (0.0, 0.1), 0.5),
    ] {
        let p = approximate(f, domain, Target::Error(error), None).expect("fits");
        assert!(p.error <= error);
        if p.degree() > 0 {
            let less = minimax(f, domain, p.degree() - 1);
            assert!(
                less.error > error,
                "{f:?}: degree {} is not least",
                p.degree()
            );
        }
    }
}

#[test]
fn what_cannot_be_is_said() {
    let degree = Target::Degree(3);
    let error = |f, domain, target| approximate(f, domain, target, None).expect_err("refused");
    assert!(matches!(
        error(Function::Log, (-1.0, 1.0), degree),
        ApproxError::NotFinite { .. }
    ));
    assert!(matches!(
        error(Function::Log, (0.0, 1.0), degree),
        ApproxError::NotFinite { x: 0.0, .. }
    ));
    assert!(matches!(
        error(Function::Inv, (-1.0, 2.0), degree),
        ApproxError::NotFinite { x: 0.0, .. }
    ));
    assert!(matches!(
        error(Function::Exp, (0.0, 1e4), degree),
        ApproxError::NotFinite { .. }
    ));
    assert!(matches!(
        error(Function::Exp, (1.0, 1.0), degree),
        ApproxError::Interval(..)
    ));
    assert!(matches!(
        error(Function::Exp, (2.0, 1.0), degree),
        ApproxError::Interval(..)
    ));
    assert!(matches!(
        error(Function::Exp, (0.0, f64::NAN), degree),
        ApproxError::Interval(..)
    ));
    assert!(matches!(
        error(Function::Exp, (0.0, 1.0), Target::Degree(500)),
        ApproxError::Degree(500)
    ));
    assert!(matches!(
        error(Function::Exp, (0.0, 1.0), Target::Error(-1.0)),
        ApproxError::BadError(_)
    ));
    assert!(matches!(
        error(Function::Abs, (-1.0, 1.0), Target::Error(1e-6)),
        ApproxError::NotAttained { .. }
    ));
    assert!(matches!(
        error(Function::Sign, (-1.0, 1.0), Target::Error(0.1)),
        ApproxError::Jump(_)
    ));
    let p = approximate(Function::Sign, (-1.0, 1.0), Target::Degree(7), None).expect("fits");
    assert_eq!(p.method, Method::LeastSquares);
}

#[test]
fn the_error_function() {
    // Reference values of erfc: A&S table 7.1 and DLMF 7.
    for (x, wanted) in [
        (0.0, 1.0),
        (0.5, 0.479_500_122_186_953_5),
        (1.0, 0.157_299_207_050_285_13),
        (2.0, 0.004_677_734_981_047_266),
        (3.0, 2.209_049_699_858_544e-5),
        (-1.0, 1.842_700_792_949_715),
    ] {
        let found = erfc(x);
        assert!(
            (found - wanted).abs() < 1e-15 * wanted.max(1.0),
            "{x}: {found:e}"
        );
    }
}
