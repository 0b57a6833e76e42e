//! Loops over one limb: portable ones, and the same for AVX-512 IFMA.
//!
//! Every kernel gives canonical residues from canonical residues, so that all paths agree bit for
//! bit. All slices of a call have one length, a multiple of 8.

pub(crate) mod chacha;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ifma;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ntt;
pub(crate) mod pack;
pub(crate) mod portable;

/// Which kernels a modulus takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Portable,
    /// The portable kernels compiled for AVX2.
    Avx2,
    /// AVX-512 with IFMA; primes below 2^50 only.
    Ifma,
}

impl Path {
    /// The fastest that this processor has.
    pub(crate) fn detect(portable: bool) -> Path {
        if portable {
            return Path::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        if ifma::available() {
            return Path::Ifma;
        }
        Path::without_avx512()
    }

    /// The fastest that this processor has beside AVX-512.
    pub(crate) fn without_avx512() -> Path {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("bmi2")
                && std::arch::is_x86_feature_detected!("adx")
            {
                return Path::Avx2;
            }
        }
        Path::Portable
    }

    pub(crate) fn without_ifma(self) -> Path {
        match self {
            Path::Ifma => Path::Avx2,
            other => other,
        }
    }
}

/// One limb of a switching key, packed: for every eight coefficients, for each digit, eight values of
/// its first half and eight of its second, each value `bits` bits wide, lowest bits first. Reading
/// keys is what a key switch spends its memory bandwidth on.
#[derive(Clone, Copy)]
pub(crate) struct KeyRow<'a> {
    /// The packed values, and at least 64 bytes more.
    pub(crate) bytes: &'a [u8],
    /// Bits of a value, and bytes of eight.
    pub(crate) bits: usize,
    /// Bytes from one eight of coefficients to the next.
    pub(crate) stride: usize,
}

impl<'a> KeyRow<'a> {
    /// The row of the coefficients from `start` on, a multiple of 8.
    pub(crate) fn from(self, start: usize) -> KeyRow<'a> {
        KeyRow {
            bytes: &self.bytes[start / 8 * self.stride..],
            ..self
        }
    }

    /// The bytes of the first `count` coefficients, a multiple of 8.
    pub(crate) fn first(&self, count: usize) -> &'a [u8] {
        &self.bytes[..count / 8 * self.stride]
    }

    /// The width for residues of `m`: as narrow as they are, or 64 where a value with its shift would
    /// not fit a word.
    pub(crate) fn bits(m: &super::modulus::Modulus) -> usize {
        match (64 - (m.q - 1).leading_zeros()) as usize {
            bits if bits <= 57 => bits,
            _ => 64,
        }
    }

    /// Value `i` of half number `half`, counted through the digits.
    #[inline(always)]
    pub(crate) fn value(&self, i: usize, half: usize) -> u64 {
        let bit = i % 8 * self.bits;
        let at = i / 8 * self.stride + half * self.bits + bit / 8;
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[at..at + 8]);
        let word = u64::from_le_bytes(word) >> (bit % 8);
        if self.bits == 64 {
            word
        } else {
            word & ((1 << self.bits) - 1)
        }
    }
}

macro_rules! dispatch {
    ($path:expr, $name:ident($($arg:expr),*)) => {{
        use $crate::ring::kernels::Path;
        match $path {
            #[cfg(target_arch = "x86_64")]
            Path::Ifma => $crate::ring::kernels::ifma::$name($($arg),*),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => $crate::ring::kernels::portable::avx2::$name($($arg),*),
            _ => $crate::ring::kernels::portable::$name($($arg),*),
        }
    }};
}
pub(crate) use dispatch;

/// v = ⌊Σ y_i·reciprocal_i + 1/2⌋, `y` being as many limbs as there are reciprocals.
pub(crate) fn quotient(path: Path, v: &mut [u64], y: &[u64], reciprocal: &[f64]) {
    #[cfg(target_arch = "x86_64")]
    if path == Path::Ifma {
        ifma::quotient(v, y, reciprocal);
        return;
    }
    let _ = path;
    let n = v.len();
    for (i, v) in v.iter_mut().enumerate() {
        let mut sum = 0.5;
        for (y, r) in y.chunks_exact(n).zip(reciprocal) {
            sum += y[i] as f64 * r;
        }
        *v = sum as u64;
    }
}
