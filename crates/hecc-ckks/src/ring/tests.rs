//! The ring against oracles: schoolbook products, integer arithmetic, and the portable kernels.

use hecc_params::{GaloisElement, LogN, ntt_prime_nearest, ntt_primes_below};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::automorphism::{Factor, Permutation};
use super::basis::Converter;
use super::kernels::chacha::{BATCH, BLOCK, Stream};
use super::kernels::{self, KeyRow, Path, pack};
use super::modulus::{MAX_TERMS, Modulus};
use super::ntt::Ntt;
use super::pool::{Pool, Words};
use super::sampling;
use super::{Coeff, Poly};

fn primes() -> Vec<u64> {
    let log_n = LogN(10);
    let mut primes = ntt_primes_below(log_n, 1 << 50, 2, &[]);
    primes.extend(ntt_primes_below(log_n, 1 << 49, 1, &[]));
    primes.extend(ntt_primes_below(log_n, 1 << 47, 1, &[]));
    primes.push(ntt_prime_nearest(log_n, 2f64.powi(40), 1 << 50, &[]).unwrap());
    primes.push(ntt_prime_nearest(log_n, 2f64.powi(25), 1 << 50, &[]).unwrap());
    primes.extend(ntt_primes_below(log_n, 1 << 26, 1, &[]));
    primes.extend(ntt_primes_below(log_n, 1 << 61, 1, &[]));
    primes
}

/// Random residues with the extreme ones among them.
fn limb(q: u64, n: usize, generator: &mut ChaCha20Rng) -> Vec<u64> {
    (0..n)
        .map(|_| {
            let word = generator.next_u64();
            match word % 7 {
                0 => 0,
                1 => 1,
                2 => q - 1,
                3 => q - 2,
                _ => (word >> 3) % q,
            }
        })
        .collect()
}

#[test]
fn montgomery_agrees_with_integers() {
    for q in primes() {
        let m = Modulus::new(q, Path::Portable);
        let big = u128::from(q);
        let r = (1u128 << m.r_bits) % big;
        let mut generator = ChaCha20Rng::seed_from_u64(q);
        for pair in limb(q, 400, &mut generator).chunks(2) {
            let (a, b) = (pair[0], pair[1]);
            // mul(a, b)·R = a·b
            let product = u128::from(m.mul(a, b)) * r % big;
            assert_eq!(
                product,
                u128::from(a) * u128::from(b) % big,
                "{a} {b} mod {q}"
            );
            assert_eq!(m.leave(m.enter(a)), a);
            assert_eq!(u128::from(m.enter(a)), u128::from(a) * r % big);
            assert_eq!(
                u128::from(m.add(a, b)),
                (u128::from(a) + u128::from(b)) % big
            );
            assert_eq!(m.add(m.sub(a, b), b), a);
            assert_eq!(m.add(a, m.neg(a)), 0);
            if a != 0 {
                assert_eq!(m.leave(m.mul(m.enter(a), m.inverse(m.enter(a)))), 1);
            }
            let word = a.wrapping_mul(b | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            assert_eq!(m.reduce(word), word % q);
        }
        assert_eq!(m.leave(m.enter_signed(-5)), q - 5);
        let scaled = m.leave(m.enter_scaled(-3, 77));
        assert_eq!(u128::from(scaled), (3 * big - (3 << 77) % big) % big);
    }
}

/// Every kernel on every path, on random and extreme residues.
#[test]
fn kernels_agree_on_all_paths() {
    let fast = Path::detect(false);
    let n = 64;
    for q in primes() {
        let slow = Modulus::new(q, Path::Portable);
        for path in [fast, fast.without_ifma()] {
            let quick = Modulus::new(q, path);
            let mut generator = ChaCha20Rng::seed_from_u64(q ^ 1);
            for _ in 0..8 {
                let mut next = || limb(q, n, &mut generator);
                let (a, b, t, d) = (next(), next(), next(), next());
                let c = a[0];
                let all = |m: &Modulus| {
                    let mut outs: Vec<Vec<u64>> = Vec::new();
                    let mut with = |f: &dyn Fn(&mut [u64])| {
                        let mut out = d.clone();
                        f(&mut out);
                        outs.push(out);
                    };
                    with(&|o| m.add_assign(o, &a));
                    with(&|o| m.add_to(o, &a, &b));
                    with(&|o| m.sub_assign(o, &a));
                    with(&|o| m.sub_to(o, &a, &b));
                    with(&|o| m.neg_to(o, &a));
                    with(&|o| m.neg_assign(o));
                    with(&|o| m.add_const_assign(o, c));
                    with(&|o| m.mul_to(o, &a, &b));
                    with(&|o| m.mul_assign(o, &b));
                    with(&|o| m.mul_const_to(o, &a, c));
                    with(&|o| m.mul_const_assign(o, c));
                    with(&|o| m.mul_add_assign(o, &a, &b));
                    with(&|o| m.mul_sub_assign(o, &a, &b));
                    with(&|o| m.mul_const_add_assign(o, &a, c));
                    with(&|o| {
                        for (o, (&a, &b)) in o.iter_mut().zip(a.iter().zip(&b)) {
                            *o = a.wrapping_mul(b).wrapping_sub(c);
                        }
                        m.reduce_assign(o);
                    });
                    with(&|o| m.sub_mul_const_to(o, &a, &t, c));
                    with(&|o| {
                        let (mut d1, mut d2) = (d.clone(), d.clone());
                        m.tensor_square(o, &mut d1, &mut d2, &a, &b);
                        m.add_assign(o, &d1);
                        m.mul_assign(o, &d2);
                    });
                    for terms in [1, 2, 4, 5, 9, 33] {
                        let quads = vec![[&a[..], &b[..], &t[..], &d[..]]; terms];
                        with(&|o| {
                            let (mut d1, mut d2) = (d.clone(), d.clone());
                            m.tensor(o, &mut d1, &mut d2, &quads);
                            m.mul_assign(o, &d1);
                            m.add_assign(o, &d2);
                        });
                        let pairs = vec![(&a[..], &b[..]); terms];
                        with(&|o| m.dot(o, &pairs));
                        for repeat in [8, 32] {
                            let pairs = vec![(&a[..], &b[..n / repeat]); terms];
                            with(&|o| m.dot_repeated(o, &pairs, repeat));
                        }
                        let x = vec![&a[..]; terms];
                        let weights: Vec<u64> = (0..6 * terms).map(|i| t[i % n]).collect();
                        with(&|o| {
                            let mut rest = vec![vec![0; n]; 5];
                            let mut outs: Vec<&mut [u64]> = vec![&mut *o];
                            outs.extend(rest.iter_mut().map(|r| &mut r[..]));
                            m.combine(&mut outs, &x, &weights);
                            for r in rest {
                                m.mul_assign(o, &r);
                            }
                        });
                        let many: Vec<&[u64]> = (0..5 * terms)
                            .map(|i| if i % 2 == 0 { &a[..] } else { &b[..] })
                            .collect();
                        let weights: Vec<u64> = (0..7 * many.len()).map(|i| t[i % n]).collect();
                        with(&|o| {
                            let mut rest = vec![vec![0; n]; 6];
                            let mut outs: Vec<&mut [u64]> = vec![&mut *o];
                            outs.extend(rest.iter_mut().map(|r| &mut r[..]));
                            m.matrix(&mut outs, &many, &weights);
                            for r in rest {
                                m.mul_assign(o, &r);
                            }
                        });
                        let bits = KeyRow::bits(m);
                        let stride = 2 * terms * bits;
                        let mut bytes = vec![0; n / 8 * stride + 64];
                        for half in 0..2 * terms {
                            let x = if half % 3 == 0 { &b } else { &t };
                            let path = Path::detect(false);
                            pack::pack(path, &mut bytes[half * bits..], bits, stride, &[x]);
                        }
                        let key = KeyRow {
                            bytes: &bytes,
                            bits,
                            stride,
                        };
                        let mut back = vec![0; n];
                        pack::unpack(&key, 2 * terms - 1, &mut back);
                        assert_eq!(&back, if (2 * terms - 1) % 3 == 0 { &b } else { &t });
                        for c in [&[][..], &[&b[..]], &[&b[..], &t[..]]] {
                            with(&|o| {
                                let mut o1 = d.clone();
                                m.key_dot(o, &mut o1, &x, &key, c, q - 1);
                                m.mul_assign(o, &o1);
                            });
                            let permutation = Permutation::new(n, GaloisElement(25));
                            for weight in [
                                Factor::Limb(&t),
                                Factor::Number(q - 1),
                                Factor::Runs(&t[..n / 8], 8),
                            ] {
                                let (mut t0, mut t1) = (d.clone(), d.clone());
                                m.key_dot(&mut t0, &mut t1, &x, &key, c, q - 1);
                                let (mut s0, mut s1) = (d.clone(), d.clone());
                                permutation.mul_add_assign(m, &mut s0, &t0, weight);
                                permutation.mul_add_assign(m, &mut s1, &t1, weight);
                                let (mut r0, mut r1) = (d.clone(), d.clone());
                                for start in [0, n / 2] {
                                    let part = start..start + n / 2;
                                    let x: Vec<&[u64]> =
                                        x.iter().map(|x| &x[part.clone()]).collect();
                                    let c: Vec<&[u64]> =
                                        c.iter().map(|c| &c[part.clone()]).collect();
                                    let (key, sums) = (key.from(start), [&mut r0[..], &mut r1]);
                                    permutation.key_dot_add(
                                        m,
                                        sums,
                                        start,
                                        &x,
                                        &key,
                                        &c,
                                        q - 1,
                                        weight,
                                    );
                                }
                                assert!(r0 == s0 && r1 == s1);
                                with(&|o| o.copy_from_slice(&r0));
                                with(&|o| o.copy_from_slice(&r1));
                            }
                        }
                    }
                    let signed: Vec<i64> = a
                        .iter()
                        .enumerate()
                        .map(|(i, &x)| (x << 12 >> (i % 40)) as i64)
                        .map(|x| x.clamp(-(1 << 61), 1 << 61))
                        .map(|x| if x & 4 == 0 { x } else { -x })
                        .collect();
                    with(&|o| m.enter_signed_to(o, &signed));
                    let permutation = Permutation::new(n, GaloisElement(25));
                    with(&|o| permutation.sub_mul_const_to(m, o, &a, &t, c));
                    with(&|o| permutation.mul_add_assign(m, o, &a, Factor::Limb(&b)));
                    with(&|o| permutation.mul_add_assign(m, o, &a, Factor::Number(c)));
                    with(&|o| permutation.mul_add_assign(m, o, &a, Factor::Runs(&b[..n / 16], 16)));
                    for p in [q, (1 << 50) - 27, (1 << 25) + 1] {
                        let y: Vec<u64> = a.iter().map(|x| x % p.min(1 << 50)).collect();
                        with(&|o| m.centre_to(o, &y, p.min((1 << 50) - 1)));
                    }
                    outs
                };
                for (number, (fast, slow)) in all(&quick).iter().zip(all(&slow)).enumerate() {
                    assert_eq!(*fast, slow, "kernel {number}, q = {q}, {path:?}");
                }
            }
        }
    }
}

#[test]
fn the_longest_sums_do_not_overflow() {
    for q in primes() {
        let m = Modulus::new(q, Path::detect(false));
        let top = [q - 1; 16];
        let expected = {
            let term = m.mul(q - 1, q - 1);
            (0..MAX_TERMS).fold(0, |sum, _| m.add(sum, term))
        };
        let mut out = vec![0; 16];
        m.dot(&mut out, &vec![(&top[..], &top[..]); MAX_TERMS]);
        assert_eq!(out, vec![expected; 16], "{q}");
        out.fill(0);
        m.dot_repeated(&mut out, &vec![(&top[..], &top[..2]); MAX_TERMS], 8);
        assert_eq!(out, vec![expected; 16], "{q}");
        m.combine(
            &mut [&mut out],
            &vec![&top[..]; MAX_TERMS],
            &vec![q - 1; MAX_TERMS],
        );
        assert_eq!(out, vec![expected; 16], "{q}");
        out.fill(0);
        m.matrix(
            &mut [&mut out],
            &vec![&top[..]; MAX_TERMS],
            &vec![q - 1; MAX_TERMS],
        );
        assert_eq!(out, vec![expected; 16], "{q}");
    }
}

#[test]
fn products_of_values_are_negacyclic_products_of_coefficients() {
    let n = 1024;
    for path in [Path::Portable, Path::detect(false)] {
        for q in primes() {
            let ntt = Ntt::new(n, q, path).unwrap();
            let m = &ntt.modulus;
            let mut generator = ChaCha20Rng::seed_from_u64(q ^ 2);
            // A dense operand and one with few terms keep the schoolbook short.
            let a = limb(q, n, &mut generator);
            let terms: Vec<(usize, u64)> = (0..20)
                .map(|_| (generator.next_u64() as usize % n, generator.next_u64() % q))
                .collect();
            let mut b = vec![0; n];
            for &(i, c) in &terms {
                b[i] = m.add(b[i], c);
            }
            let mut expected = vec![0; n];
            for (i, &c) in b.iter().enumerate().filter(|(_, c)| **c != 0) {
                for (j, &x) in a.iter().enumerate() {
                    let product = m.mul(c, x);
                    let place = (i + j) % n;
                    expected[place] = if i + j < n {
                        m.add(expected[place], product)
                    } else {
                        m.sub(expected[place], product)
                    };
                }
            }
            let mut c = a.clone();
            ntt.forward(&mut c);
            ntt.forward(&mut b);
            m.mul_assign(&mut c, &b);
            ntt.inverse_unscaled(&mut c);
            m.mul_const_assign(&mut c, ntt.n_inv_mont);
            assert_eq!(c, expected, "{q}");
        }
    }
}

#[test]
fn transforms_agree_on_all_paths() {
    for log_n in 8..=17 {
        let n = 1 << log_n;
        let mut primes = ntt_primes_below(LogN(log_n), 1 << 49, 1, &[]);
        primes.extend(ntt_primes_below(LogN(log_n), 1 << 50, 1, &[]));
        primes.extend(ntt_primes_below(LogN(log_n), 1 << 47, 1, &[]));
        primes.extend(ntt_primes_below(LogN(log_n), 1 << 46, 1, &[]));
        primes.extend(ntt_primes_below(LogN(log_n), 1 << 61, 1, &[]));
        primes.extend(ntt_prime_nearest(LogN(log_n), 2f64.powi(40), 1 << 50, &[]));
        primes.extend(ntt_prime_nearest(LogN(log_n), 2f64.powi(26), 1 << 50, &[]));
        for q in primes {
            let slow = Ntt::new(n, q, Path::Portable).unwrap();
            // The library's, and our own.
            for path in [Path::without_avx512(), Path::detect(false)] {
                let fast = Ntt::new(n, q, path).unwrap();
                let mut generator = ChaCha20Rng::seed_from_u64(q);
                for case in 0..4 {
                    let a = match case {
                        0 => vec![q - 1; n],
                        1 => (0..n).map(|i| if i % 2 == 0 { q - 1 } else { 0 }).collect(),
                        _ => limb(q, n, &mut generator),
                    };
                    let (mut x, mut y) = (a.clone(), a.clone());
                    slow.forward(&mut x);
                    fast.forward(&mut y);
                    assert!(x == y, "forward, N = {n}, q = {q}");
                    slow.inverse_unscaled(&mut x);
                    fast.inverse_unscaled(&mut y);
                    assert!(x == y, "inverse, N = {n}, q = {q}");
                    slow.inverse_unscaled(&mut x);
                    let mut y = a.clone();
                    fast.inverse_unscaled(&mut y);
                    let mut z = a.clone();
                    slow.inverse_unscaled(&mut z);
                    assert!(z == y, "inverse of anything, N = {n}, q = {q}");
                }
            }
        }
    }
}

#[test]
fn automorphisms_in_ntt_form_are_those_of_coefficients() {
    let n = 1024;
    let q = ntt_prime_nearest(LogN(10), 2f64.powi(40), 1 << 50, &[]).unwrap();
    for path in [Path::Portable, Path::detect(false)] {
        for prime in [q, ntt_primes_below(LogN(10), 1 << 61, 1, &[])[0]] {
            let ntt = Ntt::new(n, prime, path).unwrap();
            let mut generator = ChaCha20Rng::seed_from_u64(3);
            let a = limb(prime, n, &mut generator);
            for g in [3usize, 5, 25, 2047, 1025, 1999] {
                let mut expected = vec![0; n];
                for (i, &x) in a.iter().enumerate() {
                    let place = i * g % (2 * n);
                    expected[place % n] = if place < n { x } else { ntt.modulus.neg(x) };
                }
                ntt.forward(&mut expected);
                let mut values = a.clone();
                ntt.forward(&mut values);
                let mut out = vec![0; n];
                Permutation::new(n, GaloisElement(g as u64)).apply(path, &mut out, &values);
                assert_eq!(out, expected, "X^{g} modulo {prime}");
            }
        }
    }
}

#[test]
fn base_conversion_gives_the_centred_representative() {
    // With primes that are too large for the packed form, and without.
    let small: Vec<u64> = primes().into_iter().filter(|q| *q < 1 << 50).collect();
    let mut small = small;
    small.extend(ntt_primes_below(LogN(10), 1 << 48, 3, &[]));
    assert!(small.len() > 8);
    for path in [Path::Portable, Path::detect(false)] {
        for (n, moduli) in [
            (1024, primes()),
            (1024, small.clone()),
            (1 << 13, large_ring_primes()),
            (
                1 << 13,
                [large_ring_primes(), large_ring_primes_above()].concat(),
            ),
            (1 << 15, large_ring_primes()),
        ] {
            let ntts: Vec<Ntt> = moduli
                .iter()
                .map(|&q| Ntt::new(n, q, path).unwrap())
                .collect();
            let last = moduli.len() - 1;
            for sources in [
                vec![0],
                vec![last],
                vec![last - 1, last],
                vec![0, 1, last],
                (0..last).collect(),
            ] {
                check_base_conversion(path, n, &ntts, sources);
            }
        }
    }
}

/// Primes of the largest ring here, one of each kind that the transforms tell apart.
fn large_ring_primes() -> Vec<u64> {
    let log_n = LogN(15);
    let mut primes = ntt_primes_below(log_n, 1 << 50, 1, &[]);
    primes.extend(ntt_primes_below(log_n, 1 << 49, 1, &[]));
    primes.push(ntt_prime_nearest(log_n, 2f64.powi(40), 1 << 50, &[]).unwrap());
    primes
}

/// Those that have only the transform of the library.
fn large_ring_primes_above() -> Vec<u64> {
    ntt_primes_below(LogN(15), 1 << 61, 1, &[])
}

fn check_base_conversion(path: Path, n: usize, ntts: &[Ntt], sources: Vec<usize>) {
    let converter = Converter::new(ntts, sources.clone());
    let big = |x: u64| i128::from(x);
    // Integers of all sizes up to ±product/2, where the constant term of a ciphertext may lie; of many primes
    // only those that fit here.
    let (bits, product) = sources.iter().fold((0, 1i128), |(bits, product), &i| {
        let more = 64 - ntts[i].modulus.q.leading_zeros();
        match bits + more <= 122 {
            true => (bits + more, product * big(ntts[i].modulus.q)),
            false => (bits + more, product),
        }
    });
    let whole = bits <= 122;
    let mut generator = ChaCha20Rng::seed_from_u64(8);
    let integers: Vec<i128> = (0..n)
        .map(|i| {
            let word = (big(generator.next_u64()) << 60) ^ big(generator.next_u64());
            match i % 4 {
                0 => i as i128 - 512,
                1 if whole => product / 2 - 3 - i as i128 * (product >> 45).max(1),
                2 if whole => 3 + i as i128 * (product >> 45).max(1) - product / 2,
                _ => word.rem_euclid(product) - product / 2,
            }
        })
        .collect();
    let values = |ntt: &Ntt| {
        let m = &ntt.modulus;
        let mut limb: Vec<u64> = integers
            .iter()
            .map(|x| m.enter(x.rem_euclid(big(m.q)) as u64))
            .collect();
        ntt.forward(&mut limb);
        limb
    };
    let limbs: Vec<Vec<u64>> = sources.iter().map(|&s| values(&ntts[s])).collect();
    let mut prepared = vec![0; converter.prepared_limbs(n) * n];
    let mut work = vec![1; n];
    converter.prepare(ntts, path, |i| &limbs[i], &mut work, &mut prepared);
    let permutation = Permutation::new(n, GaloisElement(25));
    for (j, ntt) in ntts
        .iter()
        .enumerate()
        .filter(|(j, _)| !sources.contains(j))
    {
        let expected = values(ntt);
        let mut out = vec![0; n];
        converter.begin(ntts, j, &prepared, &mut out);
        let ahead = vec![0; 1000];
        for start in (0..n).step_by(ntt.block(n)) {
            ntt.finish_block(&mut out, start, &ahead);
        }
        assert!(out == expected, "from {sources:?} to {j}, N = {n}");
        let m = &ntt.modulus;
        for x in [limb(m.q, n, &mut generator), vec![0; n], vec![m.q - 1; n]] {
            let mut divided = vec![0; n];
            m.sub_mul_const_to(&mut divided, &x, &expected, converter.inverse[j]);
            converter.divide(ntts, j, &prepared, &x, None, &mut work, &mut out);
            assert!(out == divided, "from {sources:?} divided modulo {j}");
            let mut permuted = vec![0; n];
            permutation.apply(path, &mut permuted, &divided);
            let p = Some(&permutation);
            converter.divide(ntts, j, &prepared, &x, p, &mut work, &mut out);
            assert!(out == permuted, "from {sources:?} permuted modulo {j}");
        }
    }
}

#[test]
fn quotients_agree_on_all_paths() {
    let mut generator = ChaCha20Rng::seed_from_u64(5);
    let y: Vec<u64> = (0..192).map(|_| generator.next_u64() >> 14).collect();
    let reciprocal = [2f64.powi(-50), 1.1 * 2f64.powi(-50), 1.7 * 2f64.powi(-50)];
    let (mut a, mut b) = (vec![0; 64], vec![0; 64]);
    kernels::quotient(Path::Portable, &mut a, &y, &reciprocal);
    kernels::quotient(Path::detect(false), &mut b, &y, &reciprocal);
    assert_eq!(a, b);
}

#[test]
fn samplers_have_their_moments() {
    let mut generator = ChaCha20Rng::seed_from_u64(11);
    let mut x = vec![0i64; 1 << 17];
    let moments = |x: &[i64]| {
        let n = x.len() as f64;
        let mean = x.iter().sum::<i64>() as f64 / n;
        let square = x.iter().map(|x| (x * x) as f64).sum::<f64>() / n;
        let fourth = x.iter().map(|x| (x * x * x * x) as f64).sum::<f64>() / n;
        (mean, square, fourth)
    };
    let mut same = vec![0i64; 1 << 17];
    let stream = |path| Stream::new(path, &[11; 32], 3);
    sampling::gaussian(Path::Portable, stream(Path::Portable), &mut same);
    let path = Path::detect(false);
    sampling::gaussian(path, stream(path), &mut x);
    assert!(x == same);
    let (mean, square, fourth) = moments(&x);
    assert!(mean.abs() < 0.05, "{mean}");
    assert!((square / 10.24 - 1.0).abs() < 0.02, "{square}");
    assert!(
        (fourth / (3.0 * 10.24 * 10.24) - 1.0).abs() < 0.05,
        "{fourth}"
    );
    assert!(x.iter().all(|x| x.abs() <= 30));
    sampling::ternary(&mut generator, &mut x);
    let (mean, square, _) = moments(&x);
    assert!(mean.abs() < 0.01 && (square - 2.0 / 3.0).abs() < 0.01);
    for q in primes() {
        let uniform = |path, stream| {
            let mut u = vec![0; 1 << 14];
            sampling::uniform(path, &[4; 32], stream, &Modulus::new(q, path), &mut u);
            u
        };
        let u = uniform(Path::Portable, 9);
        assert!(u.iter().all(|&x| x < q));
        let mean = u.iter().map(|&x| x as f64 / q as f64).sum::<f64>() / u.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean} modulo {q}");
        assert!(u == uniform(path, 9));
        assert!(u != uniform(path, 10));
        // As documented, word by word.
        let mut generator = ChaCha20Rng::from_seed([4; 32]);
        generator.set_stream(9);
        let mut words: Vec<u64> = (0..1 << 14).map(|_| generator.next_u64()).collect();
        let limit = u64::MAX / q * q;
        for word in &mut words {
            while *word >= limit {
                *word = generator.next_u64();
            }
            *word %= q;
        }
        assert!(u == words, "modulo {q}");
    }
}

#[test]
fn lent_memory_is_disjoint_and_used_again() {
    let pool = Pool::new(1 << 30);
    let mut generator = ChaCha20Rng::seed_from_u64(8);
    let mut held: Vec<(u64, Words)> = Vec::new();
    for round in 0..4000 {
        let random = generator.next_u64() as usize;
        match (random % 5, held.len()) {
            (0 | 1, 1..) | (_, 20) => {
                let (mark, mut words) = held.swap_remove(random / 8 % held.len());
                assert!(words.iter().all(|&w| w == mark), "written by another owner");
                if random & 8 == 0 {
                    let len = words.len() / 2;
                    pool.cut(&mut words, len);
                    held.push((mark, words));
                } else {
                    pool.give(words);
                }
            }
            _ => {
                let mut words = pool.take(random / 8 % 9 * 1024 + random / 128 % 2 * 13);
                assert!(words.is_empty() || words.as_ptr().addr().is_multiple_of(64));
                words.fill(round);
                held.push((round, words));
            }
        }
        let lent: usize = held.iter().map(|(_, w)| w.len().next_multiple_of(8)).sum();
        assert_eq!(pool.words()[0], lent);
    }
    let [.., peak] = pool.words();
    assert!(peak < 20 * 8 * 1024 + 20 * 16, "{peak} words");
    held.drain(..).for_each(|(_, words)| pool.give(words));
    assert_eq!(pool.words(), [0, peak, peak]);
    // One range again, from the beginning.
    let all = pool.take(peak);
    assert_eq!(pool.words(), [peak, 0, peak]);
    pool.give(all);
    pool.release();
    pool.forget_peak();
    assert_eq!(pool.words(), [0; 3]);
    // What is behind the last lent range is given back, what is before it is not.
    let (first, second, third) = (pool.take(1 << 14), pool.take(1 << 14), pool.take(1 << 14));
    pool.give(first);
    pool.give(third);
    pool.release();
    pool.forget_peak();
    let [lent, idle, peak] = pool.words();
    assert!(lent == 1 << 14 && idle >= 1 << 14 && peak == lent + idle);
    #[cfg(target_os = "linux")]
    assert_eq!(idle, 1 << 14);
    pool.give(second);
}

#[test]
fn secrets_are_wiped() {
    let pool = Pool::new(0);
    let keep = pool.take(8);
    let written = |secret: bool, limbs: usize| {
        let mut poly: Poly<Coeff> = Poly::uninit(&pool, 1024, 3);
        if secret {
            poly = poly.secret();
        }
        poly.words_mut().fill(7);
        let mut copy = poly.clone();
        copy.truncate(limbs);
        drop((poly, copy));
        let again = pool.take(6 * 1024);
        let left = again.iter().filter(|&&w| w == 7).count();
        pool.give(again);
        left
    };
    // Without it the same memory still holds what was written.
    assert_eq!(written(false, 3), 6 * 1024);
    assert_eq!(written(true, 3), 0);
    assert_eq!(written(true, 1), 0);
    pool.give(keep);
}

#[test]
fn streams_are_chacha20() {
    for (key, number) in [([0; 32], 0), ([7; 32], u64::MAX - 5)] {
        let mut generator = ChaCha20Rng::from_seed(key);
        generator.set_stream(number);
        for path in [Path::Portable, Path::detect(false)] {
            generator.set_word_pos(0);
            let mut stream = Stream::new(path, &key, number);
            // Whole batches, and blocks that are no whole batch.
            for len in [2 * BATCH, BLOCK, BATCH + 3 * BLOCK, BATCH] {
                let mut words = vec![0; len];
                stream.fill(&mut words);
                assert!(words.iter().all(|&w| w == generator.next_u64()));
            }
        }
    }
}

#[test]
fn packed_residues_agree() {
    let mut generator = ChaCha20Rng::seed_from_u64(6);
    for bits in (9..=57).chain([61, 64]) {
        let mask = u64::MAX >> (64 - bits);
        let limbs: [Vec<u64>; 3] =
            std::array::from_fn(|_| (0..64).map(|_| generator.next_u64() & mask).collect());
        let limbs: Vec<&[u64]> = limbs.iter().map(Vec::as_slice).collect();
        let stride = 4 * bits;
        let packed = [Path::Portable, Path::detect(false)].map(|path| {
            let mut out = vec![0xa5; 8 * stride + 64];
            pack::pack(path, &mut out, bits, stride, &limbs);
            out
        });
        assert!(packed[0] == packed[1], "{bits} bits");
        if bits <= 57 || bits == 64 {
            let (bytes, mut x) = (&packed[0][..], vec![0; 64]);
            for (number, limb) in limbs.iter().enumerate() {
                let row = KeyRow {
                    bytes,
                    bits,
                    stride,
                };
                pack::unpack(&row, number, &mut x);
                assert!(x == *limb, "{bits} bits");
            }
        }
        // What lies between the strides is left alone.
        assert!(packed[0][3 * bits..4 * bits].iter().all(|&b| b == 0xa5));
    }
}

proptest! {
    #[test]
    fn reduction_takes_any_word(word: u64, index in 0usize..7) {
        let q = primes()[index];
        let m = Modulus::new(q, Path::Portable);
        prop_assert_eq!(m.reduce(word), word % q);
        prop_assert_eq!(m.leave(m.enter(word)), word % q);
    }
}
