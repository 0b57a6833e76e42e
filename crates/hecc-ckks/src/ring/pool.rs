//! Buffers that are used again, so that a steady state allocates nothing.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Alignment of every polynomial: a cache line, which is also an AVX-512 register.
const ALIGN: usize = 64;

/// Size of a huge page.
const HUGE: usize = 1 << 21;

/// Numbers that begin at a multiple of [`ALIGN`] bytes. From 2 MiB on they begin at a huge page, which the
/// system is asked to use: the polynomials and keys of a large ring are more memory than the processor's
/// address caches cover in small pages.
pub(crate) struct Buffer<T> {
    /// Memory that the system has just given is not written to make it zero.
    memory: Vec<T>,
    start: usize,
    len: usize,
}

pub(crate) type Words = Buffer<u64>;

/// `len` zeros.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Buffer<T> {
    let size = len * size_of::<T>();
    let align = if size >= HUGE { HUGE } else { ALIGN };
    let slack = if len == 0 { 0 } else { align / size_of::<T>() };
    let memory = vec![T::default(); len + slack];
    let before = memory.as_ptr().addr().wrapping_neg() % align / size_of::<T>();
    let start = before.min(slack);
    let mut buffer = Buffer { memory, start, len };
    if size >= HUGE {
        advise(buffer.as_mut_ptr(), size);
    }
    buffer
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[self.start..][..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl<T: Clone + Default> Clone for Buffer<T> {
    fn clone(&self) -> Buffer<T> {
        let mut copy = zeros(self.len);
        copy.clone_from_slice(self);
        copy
    }
}

impl<T> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({})", self.len)
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library cannot ask for huge pages")]
fn advise<T>(start: *mut T, size: usize) {
    unsafe extern "C" {
        fn madvise(
            start: *mut std::ffi::c_void,
            size: usize,
            advice: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
    const MADV_HUGEPAGE: std::ffi::c_int = 14;
    // SAFETY: the range is one allocation of this process, aligned to a page; this advice changes
    // how it is backed, never what it holds. A refusal is no error: the pages are then small.
    unsafe { madvise(start.cast(), size, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_start: *mut T, _size: usize) {}

/// Buffers given back, by their number of limbs. Clones share the buffers.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    n: usize,
    /// Most limbs kept in all; more than that is given back to the allocator.
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// Words in use.
    out: usize,
    /// Limbs kept for use again.
    kept: usize,
    /// Most words in use and kept at once.
    peak: usize,
    free: Vec<Vec<Words>>,
}

impl State {
    fn add(&mut self, n: usize, words: usize) {
        self.out += words;
        self.peak = self.peak.max(self.out + self.kept * n);
    }
}

impl Pool {
    pub(crate) fn new(n: usize, most_limbs: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                n,
                most: most_limbs,
                state: Mutex::new(State {
                    out: 0,
                    kept: 0,
                    peak: 0,
                    free: Vec::new(),
                }),
            }),
        }
    }

    /// The ring degree N.
    pub(crate) fn degree(&self) -> usize {
        self.shared.n
    }

    /// A buffer of `limbs`·N words with anything in it.
    pub(crate) fn take(&self, limbs: usize) -> Words {
        let found = {
            let mut state = lock(&self.shared.state);
            // One of this size, or one that is at most a quarter larger: levels sink during a
            // computation, and the buffers of the levels above would lie idle.
            let found = (limbs..=limbs + limbs / 4)
                .find_map(|size| state.free.get_mut(size).and_then(Vec::pop));
            if let Some(words) = &found {
                state.kept -= words.len() / self.shared.n;
            }
            let size = found.as_ref().map_or(limbs * self.shared.n, |w| w.len());
            state.add(self.shared.n, size);
            found
        };
        found.unwrap_or_else(|| zeros(limbs * self.shared.n))
    }

    /// Takes a buffer from [`Self::take`] back.
    pub(crate) fn give(&self, words: Words) {
        let limbs = words.len() / self.shared.n;
        let mut state = lock(&self.shared.state);
        state.out -= words.len();
        if limbs > 0 && state.kept + limbs <= self.shared.most {
            if state.free.len() <= limbs {
                state.free.resize_with(limbs + 1, Vec::new);
            }
            state.kept += limbs;
            state.free[limbs].push(words);
        }
    }

    /// `len` zeros in a buffer of their own, for [`Self::discard`].
    pub(crate) fn apart(&self, len: usize) -> Words {
        lock(&self.shared.state).add(self.shared.n, len);
        zeros(len)
    }

    /// Gives a buffer from [`Self::apart`] back to the allocator.
    pub(crate) fn discard(&self, words: Words) {
        lock(&self.shared.state).out -= words.len();
    }

    /// Gives idle buffers back to the allocator.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.shared.state);
        state.kept = 0;
        let idle = std::mem::take(&mut state.free);
        drop(state);
        drop(idle);
    }

    /// Words in use, kept, and most of both at once since [`Self::forget_peak`].
    pub(crate) fn words(&self) -> [usize; 3] {
        let state = lock(&self.shared.state);
        [state.out, state.kept * self.shared.n, state.peak]
    }

    pub(crate) fn forget_peak(&self) {
        let mut state = lock(&self.shared.state);
        state.peak = state.out + state.kept * self.shared.n;
    }
}

/// A poisoned lock only says that another thread panicked between two consistent states.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
