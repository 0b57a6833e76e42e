//! Where random bits come from.

use rand::{SeedableRng, TryRng, rngs::SysRng};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroize;

use crate::{Error, Result};

/// A cryptographically strong generator: ChaCha20 under a 256-bit seed.
///
/// Not `Clone`, and no `Debug` of the state: two copies of one generator would give two ciphertexts
/// with the same noise, whose difference is the difference of the messages.
pub struct Randomness(pub(crate) ChaCha20Rng);

impl Randomness {
    /// A generator seeded by the operating system.
    ///
    /// # Errors
    /// [`Error::NoRandomness`] when the system has none to give.
    pub fn from_os() -> Result<Randomness> {
        let mut seed = [0u8; 32];
        SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|e| Error::NoRandomness(e.to_string()))?;
        let generator = Randomness(ChaCha20Rng::from_seed(seed));
        seed.zeroize();
        Ok(generator)
    }

    /// A generator with a given seed, for tests that have to be repeatable. **Whoever knows the seed
    /// knows every key and every noise drawn from it.**
    pub fn deterministic(seed: [u8; 32]) -> Randomness {
        Randomness(ChaCha20Rng::from_seed(seed))
    }

    /// An independent generator, seeded by this one: for work that is spread over threads and has
    /// to come out the same however many there are.
    pub fn fork(&mut self) -> Randomness {
        Randomness(ChaCha20Rng::from_rng(&mut self.0))
    }
}

impl std::fmt::Debug for Randomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Randomness(..)")
    }
}
