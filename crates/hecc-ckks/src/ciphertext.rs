//! Plaintexts and ciphertexts: polynomials with level, scale and slots.

use hecc_params::{Level, Scale};

use crate::ring::{Eval, Poly};

/// What all of them tell of themselves.
macro_rules! shape {
    ($($of:ident),*) => {
        $(
            impl $of {
                /// Its level.
                pub fn level(&self) -> Level {
                    self.level
                }
                /// Its scale.
                pub fn scale(&self) -> Scale {
                    self.scale
                }
                /// How many slots the vector has; the ring repeats it cyclically.
                pub fn slots(&self) -> usize {
                    self.slots
                }
            }
        )*
    };
}

shape!(Plaintext, ExtendedPlaintext, Ciphertext, SeededCiphertext);

/// An encoded vector of slots.
#[derive(Clone, Debug)]
pub struct Plaintext {
    pub(crate) poly: Poly<Eval>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
    pub(crate) slots: usize,
    pub(crate) tag: u64,
}

/// A plaintext with residues modulo the special primes too, for
/// [`Context::rotate_sum`](crate::Context::rotate_sum) and linear transforms.
///
/// S slots in a ring with many more are a polynomial in X^(N/2S), whose NTT form has runs of N/2S equal
/// values; one of each is kept where a run fills a register: 2S words a limb, not N.
#[derive(Clone, Debug)]
pub struct ExtendedPlaintext {
    /// Limbs q_0 … q_level, p_0 …. Value i stands for the places from i·repeat on.
    pub(crate) poly: Poly<Eval>,
    pub(crate) repeat: usize,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
    pub(crate) slots: usize,
    pub(crate) tag: u64,
}

impl ExtendedPlaintext {
    /// Bytes of the residues in memory.
    pub fn memory(&self) -> usize {
        self.poly.words().len() * 8
    }

    /// The values modulo the prime of extended limb `j` of a polynomial at `level`.
    pub(crate) fn limb(&self, level: Level, j: usize) -> &[u64] {
        self.poly.limb(if j < level.limbs() {
            j
        } else {
            j - level.limbs() + self.level.limbs()
        })
    }

    /// [`Self::limb`] with every value written out, in `room` where it is not already.
    pub(crate) fn spread<'a>(&'a self, level: Level, j: usize, room: &'a mut [u64]) -> &'a [u64] {
        let limb = self.limb(level, j);
        if self.repeat == 1 {
            return limb;
        }
        for (run, &x) in room.chunks_exact_mut(self.repeat).zip(limb) {
            run.fill(x);
        }
        room
    }
}

/// An encrypted vector of slots: two polynomials, or three after a multiplication without
/// relinearization.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    /// c_0 + c_1·s (+ c_2·s²) ≈ scale · message.
    pub(crate) polys: Vec<Poly<Eval>>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
    pub(crate) slots: usize,
    pub(crate) tag: u64,
}

impl Ciphertext {
    /// 1, or 2 after a multiplication without relinearization.
    pub fn degree(&self) -> usize {
        self.polys.len() - 1
    }
    /// The same ciphertext read at another scale: the message is multiplied by old/new, for free.
    /// This is how a rational constant is absorbed. The next operation refuses a scale that is not
    /// finite and positive.
    pub fn set_scale(&mut self, scale: Scale) {
        self.scale = scale;
    }
    /// The same ciphertext read as another number of slots: fewer only when the message is known to
    /// repeat, more always. The next operation refuses what is not a power of two up to N/2.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }
    /// Bytes of the residues in memory.
    pub fn memory(&self) -> usize {
        self.polys.iter().map(|p| p.words().len() * 8).sum()
    }
}

/// A fresh symmetric encryption whose second half is a seed: half the size of a [`Ciphertext`].
#[derive(Clone, Debug)]
pub struct SeededCiphertext {
    pub(crate) c0: Poly<Eval>,
    pub(crate) seed: [u8; 32],
    pub(crate) level: Level,
    pub(crate) scale: Scale,
    pub(crate) slots: usize,
    pub(crate) tag: u64,
}
