//! Loops over one limb: portable ones, and the same for AVX-512 IFMA.
//!
//! Every kernel gives canonical residues from canonical residues, so that all paths agree bit for
//! bit. All slices of a call have one length, a multiple of 8.

#[cfg(target_arch = "x86_64")]
pub(crate) mod ifma;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ntt;
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
        {
            if ifma::available() {
                return Path::Ifma;
            }
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
