//! Encoding: the canonical embedding, by a special FFT.
//!
//! Slot j of m(X) is m(ζ^(5^j)), ζ = exp(iπ/N). With w_k = m_k + i·m_(k+N/2) that is Σ_k w_k·ζ^(5^j·k), a
//! transform of length N/2 with the butterflies of Cheon, Kim, Kim, Song (eprint 2016/421) as in
//! their library. A vector of S < N/2 slots is encoded in X^(N/2S), by a transform of length S: the
//! ring then holds the vector repeated N/2S times.

use hecc_params::{Level, LogN, Scale};
use num_complex::Complex64;
use zeroize::Zeroize;

use crate::context::Context;
use crate::ring::kernels::{self, Path};
use crate::ring::modulus::SMALL;
use crate::ring::{Coeff, Eval, Poly};
use crate::{Error, ExtendedPlaintext, Plaintext, Result};

/// Runs of equal values in NTT form that are kept as one value are at least as long as a register.
const SHORTEST_RUN: usize = 8;

/// The shortest limb of which only one value of each run is kept: kernels take eight at a time.
const SHORTEST_LIMB: usize = 16;

/// Twiddle factors of the special FFT.
pub(crate) struct Embedding {
    /// exp(2πi·5^j/(8h)) at place h + j, for every half length h < N/2 and j < h.
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Embedding {
    pub(crate) fn new(log_n: LogN) -> Embedding {
        let slots = log_n.slots();
        let mut cos = vec![0.0; slots];
        let mut sin = vec![0.0; slots];
        let mut h = 1;
        while h < slots {
            let order = 8 * h;
            let mut power = 1usize;
            for j in 0..h {
                let (s, c) = unit(power, order);
                cos[h + j] = c;
                sin[h + j] = s;
                power = power * 5 % order;
            }
            h *= 2;
        }
        Embedding { cos, sin }
    }

    /// Slots to coefficients, unscaled: S times w, in place.
    pub(crate) fn inverse(&self, path: Path, re: &mut [f64], im: &mut [f64]) {
        fft::inverse(path, re, im, &self.cos, &self.sin);
    }

    /// Coefficients to slots, in place.
    pub(crate) fn forward(&self, path: Path, re: &mut [f64], im: &mut [f64]) {
        fft::forward(path, re, im, &self.cos, &self.sin);
    }
}

/// The transforms and the conversions around them, in plain Rust; compiled again for AVX-512, where the compiler
/// vectorises them. The operations and their order are the same, and so are the results.
mod fft {
    use super::Path;

    /// Below this the last stages are done one by one.
    const SMALL: usize = 64;

    macro_rules! define {
        ($($(#[$doc:meta])* fn $name:ident($($arg:ident : $ty:ty),*) $(-> $out:ty)? $body:block)*) => {
            mod portable {
                use super::*;
                $(
                    #[inline(always)]
                    pub(super) fn $name($($arg: $ty),*) $(-> $out)? $body
                )*
            }
            #[cfg(target_arch = "x86_64")]
            mod avx512 {
                $(
                    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
                    pub(super) fn $name($($arg: $ty),*) $(-> $out)? {
                        super::portable::$name($($arg),*)
                    }
                )*
            }
            $(
                $(#[$doc])*
                #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a call of a function with target features"))]
                pub(super) fn $name(path: Path, $($arg: $ty),*) $(-> $out)? {
                    #[cfg(target_arch = "x86_64")]
                    if path == Path::Ifma {
                        // SAFETY: `Path::Ifma` is only chosen after the processor was asked for these features.
                        return unsafe { avx512::$name($($arg),*) };
                    }
                    let _ = path;
                    portable::$name($($arg),*)
                }
            )*
        };
    }

    define! {
        /// Stages from the longest down, then into natural order. The last three stages, whose
        /// distances are short, come after the bit reversal, which makes them long.
        fn inverse(re: &mut [f64], im: &mut [f64], cos: &[f64], sin: &[f64]) {
            let n = re.len();
            let last = if n < SMALL { 1 } else { 8 };
            let mut h = n / 2;
            while h >= last {
                for (re, im) in re.chunks_exact_mut(2 * h).zip(im.chunks_exact_mut(2 * h)) {
                    let (ar, br) = re.split_at_mut(h);
                    let (ai, bi) = im.split_at_mut(h);
                    inverse_stage(ar, ai, br, bi, &cos[h..2 * h], &sin[h..2 * h]);
                }
                h /= 2;
            }
            bit_reverse(re, im);
            if n >= SMALL {
                // In bit-reversed order an eighth of the places has the low bits b0 b1 b2 of its old
                // place as its number.
                for (distance, h) in [(1, 4), (2, 2), (4, 1)] {
                    for t in (0..8).filter(|t| t & distance == 0) {
                        let (ar, br) = eighths(re, t, t + distance);
                        let (ai, bi) = eighths(im, t, t + distance);
                        let root = h + low(t, h);
                        inverse_run(ar, ai, br, bi, cos[root], sin[root]);
                    }
                }
            }
        }
        /// The inverse of `inverse`.
        fn forward(re: &mut [f64], im: &mut [f64], cos: &[f64], sin: &[f64]) {
            let n = re.len();
            let mut h = 1;
            if n >= SMALL {
                for (distance, h) in [(4, 1), (2, 2), (1, 4)] {
                    for t in (0..8).filter(|t| t & distance == 0) {
                        let (ar, br) = eighths(re, t, t + distance);
                        let (ai, bi) = eighths(im, t, t + distance);
                        let root = h + low(t, h);
                        forward_run(ar, ai, br, bi, cos[root], sin[root]);
                    }
                }
                h = 8;
            }
            bit_reverse(re, im);
            while h < n {
                for (re, im) in re.chunks_exact_mut(2 * h).zip(im.chunks_exact_mut(2 * h)) {
                    let (ar, br) = re.split_at_mut(h);
                    let (ai, bi) = im.split_at_mut(h);
                    forward_stage(ar, ai, br, bi, &cos[h..2 * h], &sin[h..2 * h]);
                }
                h *= 2;
            }
        }
        /// x ·= factor, and the largest magnitude then.
        fn scale(x: &mut [f64], factor: f64) -> f64 {
            // Magnitudes are ordered like their bits, and integer maxima vectorise.
            let mut largest = 0u64;
            for x in x.iter_mut() {
                *x *= factor;
                largest = largest.max(x.to_bits() & !(1 << 63));
            }
            f64::from_bits(largest)
        }
        /// The largest magnitude; infinite or NaN if one is.
        fn largest(x: &[f64]) -> f64 {
            let mut largest = 0u64;
            for x in x {
                largest = largest.max(x.to_bits() & !(1 << 63));
            }
            f64::from_bits(largest)
        }
        /// Nearest integers.
        fn round(x: &[f64], out: &mut [i64]) {
            for (x, out) in x.iter().zip(out) {
                *out = x.round_ties_even() as i64;
            }
        }
        /// (x or x − q, whichever is nearer to zero) · factor.
        fn centre(x: &[u64], q: u64, factor: f64, out: &mut [f64]) {
            let half = (q / 2) as i64;
            for (&x, out) in x.iter().zip(out) {
                let x = x as i64;
                let centred = if x > half { x - q as i64 } else { x };
                *out = centred as f64 * factor;
            }
        }
    }

    /// The low bits of the old place of eighth `t` that choose the root of the stage at distance h.
    fn low(t: usize, h: usize) -> usize {
        // t is b0 b1 b2 with b0 on top; the root number is b1 b0 for h = 4, b0 for h = 2.
        match h {
            4 => (t >> 1 & 1) << 1 | t >> 2,
            2 => t >> 2,
            _ => 0,
        }
    }

    /// Two different eighths, `a` below `b`.
    fn eighths(x: &mut [f64], a: usize, b: usize) -> (&mut [f64], &mut [f64]) {
        let e = x.len() / 8;
        let (left, right) = x.split_at_mut(b * e);
        (&mut left[a * e..(a + 1) * e], &mut right[..e])
    }

    #[inline(always)]
    fn inverse_stage(
        ar: &mut [f64],
        ai: &mut [f64],
        br: &mut [f64],
        bi: &mut [f64],
        c: &[f64],
        s: &[f64],
    ) {
        let h = c.len();
        let (ar, ai, br, bi, s) = (
            &mut ar[..h],
            &mut ai[..h],
            &mut br[..h],
            &mut bi[..h],
            &s[..h],
        );
        for j in 0..h {
            let (dr, di) = (ar[j] - br[j], ai[j] - bi[j]);
            ar[j] += br[j];
            ai[j] += bi[j];
            br[j] = dr * c[j] + di * s[j];
            bi[j] = di * c[j] - dr * s[j];
        }
    }

    #[inline(always)]
    fn inverse_run(ar: &mut [f64], ai: &mut [f64], br: &mut [f64], bi: &mut [f64], c: f64, s: f64) {
        let n = ar.len();
        let (ai, br, bi) = (&mut ai[..n], &mut br[..n], &mut bi[..n]);
        for j in 0..n {
            let (dr, di) = (ar[j] - br[j], ai[j] - bi[j]);
            ar[j] += br[j];
            ai[j] += bi[j];
            br[j] = dr * c + di * s;
            bi[j] = di * c - dr * s;
        }
    }

    #[inline(always)]
    fn forward_stage(
        ar: &mut [f64],
        ai: &mut [f64],
        br: &mut [f64],
        bi: &mut [f64],
        c: &[f64],
        s: &[f64],
    ) {
        let h = c.len();
        let (ar, ai, br, bi, s) = (
            &mut ar[..h],
            &mut ai[..h],
            &mut br[..h],
            &mut bi[..h],
            &s[..h],
        );
        for j in 0..h {
            let vr = br[j] * c[j] - bi[j] * s[j];
            let vi = bi[j] * c[j] + br[j] * s[j];
            br[j] = ar[j] - vr;
            bi[j] = ai[j] - vi;
            ar[j] += vr;
            ai[j] += vi;
        }
    }

    #[inline(always)]
    fn forward_run(ar: &mut [f64], ai: &mut [f64], br: &mut [f64], bi: &mut [f64], c: f64, s: f64) {
        let n = ar.len();
        let (ai, br, bi) = (&mut ai[..n], &mut br[..n], &mut bi[..n]);
        for j in 0..n {
            let vr = br[j] * c - bi[j] * s;
            let vi = bi[j] * c + br[j] * s;
            br[j] = ar[j] - vr;
            bi[j] = ai[j] - vi;
            ar[j] += vr;
            ai[j] += vi;
        }
    }

    fn bit_reverse(re: &mut [f64], im: &mut [f64]) {
        let n = re.len();
        if n < 4 {
            return;
        }
        let shift = usize::BITS - n.trailing_zeros();
        for i in 0..n {
            let j = i.reverse_bits() >> shift;
            if i < j {
                re.swap(i, j);
                im.swap(i, j);
            }
        }
    }
}

/// (sin, cos) of 2π·k/order, reduced to the first octant so that symmetric values are exact negatives.
fn unit(k: usize, order: usize) -> (f64, f64) {
    let k = k % order;
    let eighth = order / 8;
    let angle = |k: usize| 2.0 * std::f64::consts::PI * k as f64 / order as f64;
    match k / eighth {
        0 => angle(k).sin_cos(),
        1 | 2 => {
            // cos(π/2 + t) = −sin t, sin(π/2 + t) = cos t, with t in [−π/4, π/4)
            let t = angle(k) - std::f64::consts::FRAC_PI_2;
            let (s, c) = t.sin_cos();
            (c, -s)
        }
        3 | 4 => {
            let (s, c) = (angle(k) - std::f64::consts::PI).sin_cos();
            (-s, -c)
        }
        5 | 6 => {
            let t = angle(k) - 1.5 * std::f64::consts::PI;
            let (s, c) = t.sin_cos();
            (-c, s)
        }
        _ => {
            let (s, c) = angle(order - k).sin_cos();
            (-s, c)
        }
    }
}

impl Context {
    /// Encodes a real vector, one number per slot; see [`Context::encode_complex`].
    ///
    /// # Errors
    /// As [`Context::encode_complex`].
    pub fn encode(&self, values: &[f64], level: Level, scale: Scale) -> Result<Plaintext> {
        let coefficients = self.embed(values.len(), self.n(), level, scale, |re, im| {
            re.copy_from_slice(values);
            im.fill(0.0);
        })?;
        self.encoded(coefficients, values.len(), level, scale)
    }

    /// Encodes a complex vector. Its length is a power of two up to N/2; a shorter one is repeated
    /// cyclically, so that rotating by k rotates it modulo its length.
    ///
    /// Cost: an FFT of that length and one NTT per limb.
    ///
    /// # Errors
    /// [`Error::Slots`], [`Error::NotFinite`], [`Error::BadScale`], [`Error::Level`]; and
    /// [`Error::Overflow`] when values × scale do not fit the modulus of the level.
    pub fn encode_complex(
        &self,
        values: &[Complex64],
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext> {
        let coefficients = self.embed(values.len(), self.n(), level, scale, |re, im| {
            for ((re, im), v) in re.iter_mut().zip(im).zip(values) {
                *re = v.re;
                *im = v.im;
            }
        })?;
        self.encoded(coefficients, values.len(), level, scale)
    }

    /// Encodes a real vector modulo the special primes too, as a weight of
    /// [`Context::rotate_sum`].
    ///
    /// Cost: an FFT of its length S, and per limb and special prime an NTT of length 2S where N/2S is 8 or
    /// more, of length N otherwise.
    ///
    /// # Errors
    /// As [`Context::encode_complex`], and [`Error::NoSpecialPrimes`].
    pub fn encode_extended(
        &self,
        values: &[f64],
        level: Level,
        scale: Scale,
    ) -> Result<ExtendedPlaintext> {
        self.down()?;
        let slots = values.len();
        self.check_slots(slots)?;
        let n = self.n();
        let limbs = level.limbs() + self.special();
        let repeat = match (n / 2 / slots).min(n / SHORTEST_LIMB) {
            run if run >= SHORTEST_RUN => run,
            _ => 1,
        };
        let fill = |re: &mut [f64], im: &mut [f64]| {
            re.copy_from_slice(values);
            im.fill(0.0);
        };
        let coefficients = self.embed(slots, n / repeat, level, scale, fill)?;
        let mut poly = if repeat == 1 {
            self.uninit(limbs)
        } else {
            self.short(n / repeat, limbs)
        };
        self.each_limb(&mut poly, |j, limb| {
            coefficients.reduce(self, self.extended_prime(level, j), limb);
        });
        Ok(ExtendedPlaintext {
            poly,
            repeat,
            level,
            scale,
            slots,
            tag: self.tag(),
        })
    }

    fn encoded(
        &self,
        coefficients: Rounded,
        slots: usize,
        level: Level,
        scale: Scale,
    ) -> Result<Plaintext> {
        let mut poly = self.uninit(level.limbs());
        self.each_limb(&mut poly, |j, limb| coefficients.reduce(self, j, limb));
        Ok(Plaintext {
            poly,
            level,
            scale,
            slots,
            tag: self.tag(),
        })
    }

    /// The rounded coefficients of a vector that `fill` writes as real and imaginary parts, as a
    /// polynomial in X^(N/n).
    fn embed(
        &self,
        slots: usize,
        n: usize,
        level: Level,
        scale: Scale,
        fill: impl FnOnce(&mut [f64], &mut [f64]),
    ) -> Result<Rounded> {
        self.check_level("encode", level)?;
        self.check_scale(scale)?;
        self.check_slots(slots)?;
        // n/2 slots have as many real numbers as n words.
        let mut work: Poly<Coeff> = self.uninit(1);
        let (re, im) =
            bytemuck::cast_slice_mut::<u64, f64>(&mut work.words_mut()[..n]).split_at_mut(n / 2);
        let (re, im) = (&mut re[..slots], &mut im[..slots]);
        fill(re, im);
        let path = self.path();
        if !(fft::largest(path, re).is_finite() && fft::largest(path, im).is_finite()) {
            for (index, (&re, &im)) in re.iter().zip(im.iter()).enumerate() {
                for value in [re, im] {
                    if !value.is_finite() {
                        return Err(Error::NotFinite { index, value });
                    }
                }
            }
        }
        self.embedding().inverse(path, re, im);
        let factor = scale.0 / slots as f64;
        let (a, b) = (fft::scale(path, re, factor), fft::scale(path, im, factor));
        // A NaN, from infinities that met, is not below anything.
        let largest = if a < b { b } else { a };
        let finite = a.is_finite() && b.is_finite();
        let needed = if largest < 1.0 {
            1.0
        } else {
            (2.0 * largest).log2()
        };
        let available = self.parameters().log_q(level);
        if !(finite && needed < available) {
            return Err(Error::Overflow {
                needed,
                available,
                level,
                scale,
            });
        }
        let gap = n / 2 / slots;
        let mut coefficients: Poly<Coeff> = self.uninit(1);
        if largest < (1u64 << 62) as f64 {
            let out: &mut [i64] = bytemuck::cast_slice_mut(&mut coefficients.words_mut()[..n]);
            if gap > 1 {
                out.fill(0);
            }
            for (part, out) in [re, im].into_iter().zip(out.chunks_exact_mut(n / 2)) {
                if gap == 1 {
                    fft::round(path, part, out);
                } else {
                    for (x, out) in part.iter().zip(out.iter_mut().step_by(gap)) {
                        *out = x.round_ties_even() as i64;
                    }
                }
            }
            Ok(Rounded::Narrow(coefficients))
        } else {
            let out: &mut [f64] = bytemuck::cast_slice_mut(&mut coefficients.words_mut()[..n]);
            out.fill(0.0);
            for (part, out) in [re, im].into_iter().zip(out.chunks_exact_mut(n / 2)) {
                for (x, out) in part.iter().zip(out.iter_mut().step_by(gap)) {
                    *out = x.round_ties_even();
                }
            }
            Ok(Rounded::Wide(coefficients))
        }
    }

    pub(crate) fn check_slots(&self, slots: usize) -> Result<()> {
        let most = self.n() / 2;
        if slots.is_power_of_two() && slots <= most {
            Ok(())
        } else {
            Err(Error::Slots { given: slots, most })
        }
    }

    /// The real parts of the slots of a plaintext.
    ///
    /// # Errors
    /// As [`Context::decode_complex`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<f64>> {
        self.extract(plaintext, |re, _| re.to_vec())
    }

    /// The slots of a plaintext.
    ///
    /// # Errors
    /// [`Error::Foreign`] when it belongs to other parameters.
    pub fn decode_complex(&self, plaintext: &Plaintext) -> Result<Vec<Complex64>> {
        self.extract(plaintext, |re, im| {
            re.iter()
                .zip(im)
                .map(|(&re, &im)| Complex64::new(re, im))
                .collect()
        })
    }

    fn extract<T>(
        &self,
        plaintext: &Plaintext,
        collect: impl FnOnce(&[f64], &[f64]) -> T,
    ) -> Result<T> {
        self.check_tag("the plaintext", plaintext.tag)?;
        self.check_slots(plaintext.slots)?;
        self.check_scale(plaintext.scale)?;
        let n = self.n();
        let slots = plaintext.slots;
        let gap = n / 2 / slots;
        let mut residues: Poly<Eval> = self.uninit(plaintext.level.limbs());
        self.each_limb(&mut residues, |j, limb| {
            limb.copy_from_slice(plaintext.poly.limb(j));
            let prime = &self.primes()[j];
            prime.inverse_unscaled(limb);
            prime.modulus.mul_const_assign(limb, prime.n_inv);
        });
        let mut work: Poly<Coeff> = self.uninit(1);
        let (re, im) = bytemuck::cast_slice_mut::<u64, f64>(work.words_mut()).split_at_mut(n / 2);
        let (re, im) = (&mut re[..slots], &mut im[..slots]);
        let factor = 1.0 / plaintext.scale.0;
        let path = self.path();
        if residues.limbs() == 1 && gap == 1 {
            let (x, y) = residues.words().split_at(n / 2);
            let q = self.modulus(0).q;
            fft::centre(path, x, q, factor, re);
            fft::centre(path, y, q, factor, im);
        } else {
            self.signed(&residues, 0, gap, factor, re);
            self.signed(&residues, n / 2, gap, factor, im);
        }
        residues.wipe();
        self.embedding().forward(path, re, im);
        let out = collect(re, im);
        work.wipe();
        Ok(out)
    }

    /// The coefficients at `first`, `first` + `gap`, … of plain residues, as the representatives nearest to zero,
    /// times `factor`.
    ///
    /// Mixed radix (Garner): the digits of x + (Q−1)/2, less those of (Q−1)/2, which are (q_i−1)/2 each. So a
    /// small x has zeros at the top, whatever its sign, and Horner's rule loses nothing.
    fn signed(
        &self,
        residues: &Poly<Eval>,
        first: usize,
        gap: usize,
        factor: f64,
        out: &mut [f64],
    ) {
        // Coefficients whose digits stay in the first cache; kernels take eight at least.
        const CHUNK: usize = 256;
        let limbs = residues.limbs();
        let width = out.len().clamp(8, CHUNK);
        let mut shifted = vec![0; width];
        let mut digits = vec![0; limbs * width];
        for (number, out) in out.chunks_mut(width).enumerate() {
            let first = first + number * width * gap;
            for i in 0..limbs {
                let m = self.modulus(i);
                let from = residues.limb(i)[first..].iter().step_by(gap);
                for (shifted, &x) in shifted.iter_mut().zip(from.take(out.len())) {
                    *shifted = m.add(x, m.q / 2);
                }
                let (below, rest) = digits.split_at_mut(i * width);
                let mut x: Vec<&[u64]> = below.chunks_exact(width).collect();
                x.push(&shifted);
                let digit = &mut rest[..width];
                if (0..=i).all(|j| self.modulus(j).q < SMALL) {
                    m.combine(&mut [digit], &x, self.mixed_radix(i));
                } else {
                    kernels::portable::combine(m, &mut [digit], &x, self.mixed_radix(i));
                }
            }
            for (k, out) in out.iter_mut().enumerate() {
                let mut exact = 0i128;
                let mut float = None;
                for (i, digits) in digits.chunks_exact(width).enumerate().rev() {
                    let q = self.modulus(i).q;
                    let digit = digits[k] as i64 - (q / 2) as i64;
                    match float {
                        Some(f) => float = Some(f * q as f64 + digit as f64),
                        None => {
                            exact = exact * i128::from(q) + i128::from(digit);
                            if exact.unsigned_abs() >> 62 != 0 {
                                float = Some(exact as f64);
                            }
                        }
                    }
                }
                *out = float.unwrap_or(exact as f64) * factor;
            }
        }
        shifted.zeroize();
        digits.zeroize();
    }
}

/// Rounded coefficients in one limb. Wiped when dropped: they are the message.
enum Rounded {
    /// i64, below 2^62 in magnitude.
    Narrow(Poly<Coeff>),
    /// f64, integral.
    Wide(Poly<Coeff>),
}

impl Rounded {
    /// Residues modulo one prime, in NTT form; where `out` has fewer words than the ring, of the
    /// polynomial in a power of X.
    fn reduce(&self, context: &Context, prime: usize, out: &mut [u64]) {
        let ntt = &context.primes()[prime];
        let m = &ntt.modulus;
        match self {
            Rounded::Narrow(x) => {
                m.enter_signed_to(out, bytemuck::cast_slice(&x.words()[..out.len()]));
            }
            Rounded::Wide(x) => {
                let x: &[f64] = bytemuck::cast_slice(x.words());
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = enter_float(m, x);
                }
            }
        }
        let run = context.n() / out.len();
        if run == 1 {
            ntt.forward(out);
        } else if let Some(short) = context.short_ntt(prime, out.len()) {
            short.forward(out);
        } else {
            let mut long = context.zeros(1);
            let words = long.words_mut();
            for (i, &x) in out.iter().enumerate() {
                words[i * run] = x;
            }
            ntt.forward(words);
            for (i, x) in out.iter_mut().enumerate() {
                *x = words[i * run];
            }
            long.wipe();
        }
    }
}

impl Drop for Rounded {
    fn drop(&mut self) {
        let (Rounded::Narrow(x) | Rounded::Wide(x)) = self;
        x.wipe();
    }
}

/// An integral f64 of any size in Montgomery form.
pub(crate) fn enter_float(m: &crate::ring::modulus::Modulus, x: f64) -> u64 {
    if x.abs() < (1u64 << 62) as f64 {
        return m.enter_signed(x as i64);
    }
    let bits = x.abs().to_bits();
    let exponent = (bits >> 52) as u32;
    let mantissa = ((bits & ((1 << 52) - 1)) | 1 << 52) as i64;
    m.enter_scaled(if x < 0.0 { -mantissa } else { mantissa }, exponent - 1075)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot j is Σ m_k·ζ^(5^j·k), straight from the definition.
    #[test]
    fn the_special_fft_is_the_canonical_embedding() {
        for log_slots in [0, 1, 2, 3, 5, 7] {
            let slots = 1usize << log_slots;
            let n = 2 * slots;
            let embedding = Embedding::new(LogN(11));
            let coefficient = |k: usize| ((k * k * 31 + 7 * k) % 97) as f64 / 97.0 - 0.4;
            let mut re: Vec<f64> = (0..slots).map(coefficient).collect();
            let mut im: Vec<f64> = (slots..n).map(coefficient).collect();
            let (mut re2, mut im2) = (re.clone(), im.clone());
            embedding.forward(Path::detect(false), &mut re2, &mut im2);
            embedding.forward(Path::Portable, &mut re, &mut im);
            assert!(re == re2 && im == im2);
            let mut power = 1;
            for j in 0..slots {
                let expected: Complex64 = (0..n)
                    .map(|k| {
                        let angle = std::f64::consts::PI * (power * k % (2 * n)) as f64 / n as f64;
                        Complex64::from_polar(coefficient(k), angle)
                    })
                    .sum();
                let got = Complex64::new(re[j], im[j]);
                assert!((got - expected).norm() < 1e-11, "slot {j} of {slots}");
                power = power * 5 % (2 * n);
            }
            embedding.inverse(Path::detect(false), &mut re2, &mut im2);
            embedding.inverse(Path::Portable, &mut re, &mut im);
            assert!(re == re2 && im == im2);
            for k in 0..slots {
                let scale = slots as f64;
                assert!((re[k] / scale - coefficient(k)).abs() < 1e-12);
                assert!((im[k] / scale - coefficient(slots + k)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn unit_roots_are_exact_in_every_octant() {
        for order in [8, 16, 64, 1 << 17] {
            for k in 0..order.min(4096) {
                let angle = 2.0 * std::f64::consts::PI * k as f64 / order as f64;
                let (s, c) = unit(k, order);
                assert!(
                    (s - angle.sin()).abs() < 1e-14 && (c - angle.cos()).abs() < 1e-14,
                    "{k}/{order}"
                );
            }
        }
    }
}
