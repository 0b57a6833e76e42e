//! The context: parameters with everything that is computed from them once.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use hecc_params::{GaloisElement, Level, Parameters, Scale};

use crate::encoder::Embedding;
use crate::ring::automorphism::Permutation;
use crate::ring::basis::Converter;
use crate::ring::kernels::Path;
use crate::ring::modulus::Modulus;
use crate::ring::ntt::Ntt;
use crate::ring::{Domain, Eval, Poly, Pool};
use crate::tasks::Failed;
use crate::{Error, Result};

/// Most primes of a context: far beyond what any ring can use securely.
const MAX_PRIMES: usize = 256;

/// Most words that idle buffers may hold: 512 MiB.
const POOL_WORDS: usize = 1 << 26;

/// How a context computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Spread single operations over limbs with rayon. Off by default: a caller that runs many
    /// independent operations parallelises better over those.
    pub parallel: bool,
    /// Use portable code alone, transforms included, even where the processor has faster instructions.
    /// Results are the same bit for bit.
    pub portable: bool,
    /// Use AVX2 at most, as on a processor without AVX-512. Results are the same bit for bit.
    pub avx2: bool,
}

impl Options {
    /// The defaults, with portable code alone if the environment variable `HECC_PORTABLE` is `1`, and with
    /// AVX2 at most if `HECC_SIMD` is `avx2`. For binaries, benches and tests; nothing else in this
    /// crate looks at the environment.
    pub fn from_environment() -> Options {
        let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|v| v == value);
        Options {
            portable: is("HECC_PORTABLE", "1"),
            avx2: is("HECC_SIMD", "avx2"),
            ..Options::default()
        }
    }
}

/// Bytes of polynomials: of plaintexts, ciphertexts, keys but those that switch, and of what an operation
/// needs while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In use.
    pub live: usize,
    /// Kept for use again.
    pub idle: usize,
    /// The most that both were at once.
    pub peak: usize,
}

/// Checked parameters with their NTT tables and constants. Cheap to clone, shared between threads.
///
/// All operations on plaintexts, ciphertexts and keys are methods of the context. They check what
/// they are given and return an [`Error`]; none panics.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    parallel: bool,
}

struct Inner {
    parameters: Parameters,
    path: Path,
    /// q_0 … q_L, then p_0 ….
    primes: Vec<Ntt>,
    pool: Pool,
    embedding: Embedding,
    /// `up[d][c−1]`: from the first c limbs of digit d.
    up: Vec<Vec<Converter>>,
    /// From the special primes.
    down: Option<Converter>,
    /// `down_rescale[l]`: from the special primes and q_l.
    down_rescale: Vec<Converter>,
    /// `rescale[l]`: from q_l; one more from p_0 if there is one.
    rescale: Vec<Converter>,
    /// See [`Context::mixed_radix`].
    mixed_radix: Vec<Vec<u64>>,
    permutations: RwLock<BTreeMap<GaloisElement, Arc<Permutation>>>,
    /// By prime and length: transforms of polynomials in a power of X; none where the library has none.
    short: RwLock<BTreeMap<(usize, usize), ShortNtt>>,
    tag: u64,
    digest: [u8; 16],
}

type ShortNtt = Option<Arc<Ntt>>;

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("parameters", &self.inner.parameters)
            .field("path", &self.inner.path)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Builds the tables, with [`Options::default`].
    ///
    /// # Errors
    /// [`Error::TooManyPrimes`] above 256 primes; [`Error::NoNtt`], which checked parameters never give.
    pub fn new(parameters: Parameters) -> Result<Context> {
        Context::with_options(parameters, Options::default())
    }

    /// Builds the tables.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn with_options(parameters: Parameters, options: Options) -> Result<Context> {
        if parameters.q().len() + parameters.p().len() > MAX_PRIMES {
            return Err(Error::TooManyPrimes(MAX_PRIMES));
        }
        let n = parameters.log_n().degree();
        let path = match options {
            Options {
                avx2: true,
                portable: false,
                ..
            } => Path::without_avx512(),
            _ => Path::detect(options.portable),
        };
        let primes = parameters
            .q()
            .iter()
            .chain(parameters.p())
            .map(|&q| Ntt::new(n, q, path))
            .collect::<Result<Vec<_>>>()?;
        let chain = parameters.q().len();
        let special: Vec<usize> = (chain..primes.len()).collect();
        let converter = |sources: Vec<usize>| Converter::new(&primes, sources);
        let mut up = Vec::new();
        let mut down = None;
        let mut down_rescale = Vec::new();
        if !special.is_empty() {
            let alpha = parameters.digit_limbs();
            for first in (0..chain).step_by(alpha) {
                let limbs = alpha.min(chain - first);
                up.push(
                    (1..=limbs)
                        .map(|c| converter((first..first + c).collect()))
                        .collect(),
                );
            }
            down = Some(converter(special.clone()));
            down_rescale = (0..chain)
                .map(|l| {
                    let mut sources = vec![l];
                    sources.extend(&special);
                    converter(sources)
                })
                .collect();
        }
        let rescale = (0..(chain + 1).min(primes.len()))
            .map(|l| converter(vec![l]))
            .collect();
        let mixed_radix = (0..chain)
            .map(|i| {
                let m = &primes[i].modulus;
                let mut weight = m.enter(1);
                let mut row = vec![0; i];
                for j in (0..i).rev() {
                    weight = m.mul(weight, m.inverse(m.enter(primes[j].modulus.q)));
                    row[j] = m.neg(weight);
                }
                row.push(weight);
                row
            })
            .collect();
        let digest = digest(&parameters);
        let tag = u64::from_le_bytes(std::array::from_fn(|i| digest[i]));
        // Idle buffers were live before, so that keeping them does not raise the peak; the bound is for
        // processes that do something else afterwards.
        let pool = Pool::new(POOL_WORDS);
        let embedding = Embedding::new(parameters.log_n());
        Ok(Context {
            parallel: options.parallel,
            inner: Arc::new(Inner {
                parameters,
                path,
                primes,
                pool,
                embedding,
                up,
                down,
                down_rescale,
                rescale,
                mixed_radix,
                permutations: RwLock::new(BTreeMap::new()),
                short: RwLock::new(BTreeMap::new()),
                tag,
                digest,
            }),
        })
    }

    /// The same context with single operations spread over threads, or not.
    pub fn parallel(&self, on: bool) -> Context {
        Context {
            inner: self.inner.clone(),
            parallel: on,
        }
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.inner.parameters
    }

    /// Whether the AVX-512 IFMA kernels are in use.
    pub fn accelerated(&self) -> bool {
        self.inner.path == Path::Ifma
    }

    /// The memory of this context's polynomials, those of its clones included. Switching keys are counted by
    /// [`EvaluationKeys::memory`](crate::EvaluationKeys::memory).
    pub fn memory(&self) -> Memory {
        let [live, idle, peak] = self.inner.pool.words().map(|words| 8 * words);
        Memory { live, idle, peak }
    }

    /// Gives idle buffers back to the system, and forgets the peak of [`Context::memory`].
    pub fn release_memory(&self) {
        self.inner.pool.release();
        self.inner.pool.forget_peak();
    }

    pub(crate) fn n(&self) -> usize {
        self.inner.parameters.log_n().degree()
    }

    pub(crate) fn path(&self) -> Path {
        self.inner.path
    }

    /// All primes: q_0 … q_L, p_0 ….
    pub(crate) fn primes(&self) -> &[Ntt] {
        &self.inner.primes
    }

    pub(crate) fn modulus(&self, prime: usize) -> &Modulus {
        &self.inner.primes[prime].modulus
    }

    /// How many primes the chain has.
    pub(crate) fn chain(&self) -> usize {
        self.inner.parameters.q().len()
    }

    /// How many special primes there are.
    pub(crate) fn special(&self) -> usize {
        self.inner.parameters.p().len()
    }

    /// The prime of limb `j` of a polynomial with the limbs q_0 … q_level, p_0 ….
    pub(crate) fn extended_prime(&self, level: Level, j: usize) -> usize {
        if j < level.limbs() {
            j
        } else {
            self.chain() + j - level.limbs()
        }
    }

    pub(crate) fn embedding(&self) -> &Embedding {
        &self.inner.embedding
    }

    pub(crate) fn up(&self, digit: usize, limbs: usize) -> &Converter {
        &self.inner.up[digit][limbs - 1]
    }

    pub(crate) fn down(&self) -> Result<&Converter> {
        self.inner.down.as_ref().ok_or(Error::NoSpecialPrimes)
    }

    pub(crate) fn down_rescale(&self, level: Level) -> &Converter {
        &self.inner.down_rescale[level.0 as usize]
    }

    /// The constants of a division by prime `prime`, of the chain or p_0.
    pub(crate) fn division(&self, prime: usize) -> &Converter {
        &self.inner.rescale[prime]
    }

    pub(crate) fn rescale_converter(&self, level: Level) -> &Converter {
        &self.inner.rescale[level.0 as usize]
    }

    /// In Montgomery form modulo q_i: what digits 0 to i − 1 of a number in mixed radix (q_0, q_1, …) are
    /// multiplied by, and then the number itself, so that the sum is digit i: −(q_j⋯q_{i−1})^-1 for each j, and
    /// (q_0⋯q_{i−1})^-1.
    pub(crate) fn mixed_radix(&self, i: usize) -> &[u64] {
        &self.inner.mixed_radix[i]
    }

    pub(crate) fn tag(&self) -> u64 {
        self.inner.tag
    }

    pub(crate) fn digest(&self) -> [u8; 16] {
        self.inner.digest
    }

    pub(crate) fn uninit<D: Domain>(&self, limbs: usize) -> Poly<D> {
        Poly::uninit(&self.inner.pool, self.n(), limbs)
    }

    /// A polynomial of `n` values a limb, fewer than the ring has.
    pub(crate) fn short<D: Domain>(&self, n: usize, limbs: usize) -> Poly<D> {
        Poly::uninit(&self.inner.pool, n, limbs)
    }

    pub(crate) fn zeros(&self, limbs: usize) -> Poly<Eval> {
        let mut poly = self.uninit(limbs);
        poly.words_mut().fill(0);
        poly
    }

    pub(crate) fn permutation(&self, element: GaloisElement) -> Arc<Permutation> {
        let cached = self
            .inner
            .permutations
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&element)
            .cloned();
        cached.unwrap_or_else(|| {
            let made = Arc::new(Permutation::new(self.n(), element));
            self.inner
                .permutations
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .entry(element)
                .or_insert(made)
                .clone()
        })
    }

    /// The transform of polynomials in X^(N/n) modulo a prime: its place i is place i·N/n, and all up to
    /// the next, of the transform of length N. `None` where there is none.
    pub(crate) fn short_ntt(&self, prime: usize, n: usize) -> ShortNtt {
        let key = (prime, n);
        let cached = self
            .inner
            .short
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&key)
            .cloned();
        cached.unwrap_or_else(|| {
            let long = &self.inner.primes[prime];
            let made = Ntt::new(n, long.modulus.q, self.inner.path)
                .ok()
                .filter(|short| {
                    // The roots of unity that belong to them: X and X^(N/n) at the first place.
                    let mut x: Poly<Eval> = self.zeros(1);
                    x.words_mut()[self.n() / n] = 1;
                    long.forward(x.words_mut());
                    let root = x.words()[0];
                    let x = &mut x.words_mut()[..n];
                    x.fill(0);
                    x[1] = 1;
                    short.forward(x);
                    x[0] == root
                })
                .map(Arc::new);
            self.inner
                .short
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .entry(key)
                .or_insert(made)
                .clone()
        })
    }

    pub(crate) fn check_tag(&self, what: &'static str, tag: u64) -> Result<()> {
        if tag == self.inner.tag {
            Ok(())
        } else {
            Err(Error::Foreign(what))
        }
    }

    pub(crate) fn check_scale(&self, scale: Scale) -> Result<()> {
        if scale.0.is_finite() && scale.0 > 0.0 {
            Ok(())
        } else {
            Err(Error::BadScale(scale.0))
        }
    }

    pub(crate) fn check_level(&self, operation: &'static str, level: Level) -> Result<()> {
        let most = self.inner.parameters.max_level();
        if level <= most {
            Ok(())
        } else {
            Err(Error::Level {
                operation,
                needed: level,
                found: most,
                help: "choose a level of the chain, or parameters with a longer one",
            })
        }
    }

    /// Whether single operations are spread over threads.
    pub(crate) fn is_parallel(&self) -> bool {
        self.parallel
    }

    /// Runs `f` on every item, over threads if this context says so.
    pub(crate) fn each<T: Send>(&self, items: Vec<T>, f: impl Fn(usize, T) + Sync) {
        let items = items.into_iter().enumerate();
        self.in_order(&Failed::default(), items, |(i, item)| f(i, item));
    }

    /// Runs `f(limb number, limb)` on every limb.
    pub(crate) fn each_limb<D: Domain>(
        &self,
        poly: &mut Poly<D>,
        f: impl Fn(usize, &mut [u64]) + Sync,
    ) {
        let n = poly.degree();
        self.each(poly.words_mut().chunks_mut(n).collect(), f);
    }
}

/// A digest of everything that the meaning of stored residues depends on.
fn digest(parameters: &Parameters) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"hecc-ckks parameters v1");
    hasher.update(&[parameters.log_n().0]);
    for list in [parameters.q(), parameters.p()] {
        hasher.update(&(list.len() as u64).to_le_bytes());
        for &m in list {
            hasher.update(&m.to_le_bytes());
        }
    }
    hasher.update(&(parameters.digit_limbs() as u64).to_le_bytes());
    let hash = hasher.finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}
