//! Memory of polynomials, used again without a gap, so that a steady state allocates nothing.

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

/// Asks the system for huge pages.
fn advise<T>(start: *mut T, size: usize) {
    const MADV_HUGEPAGE: i32 = 14;
    madvise(start.cast(), size, MADV_HUGEPAGE);
}

/// Gives the pages of words `from` to `to` back to the system; whoever reads them next finds zeros or what was
/// there. Whether it did.
fn forget(start: *mut u64, from: usize, to: usize) -> bool {
    const MADV_DONTNEED: i32 = 4;
    // Words of a page of this system or a multiple of it.
    const PAGE: usize = 1 << 13;
    let from = from.next_multiple_of(PAGE);
    let size = 8 * to.saturating_sub(from);
    size == 0 || madvise(start.wrapping_add(from).cast(), size, MADV_DONTNEED)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no word for it")]
fn madvise(start: *mut std::ffi::c_void, size: usize, advice: i32) -> bool {
    unsafe extern "C" {
        fn madvise(
            start: *mut std::ffi::c_void,
            size: usize,
            advice: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
    // SAFETY: both callers pass memory that they own; the advice changes how it is backed, and what it holds only
    // where the caller of `forget` says that nobody reads it. A refusal is no error.
    unsafe { madvise(start, size, advice) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn madvise(_start: *mut std::ffi::c_void, _size: usize, _advice: i32) -> bool {
    false
}

/// Words of a chunk at least: 64 MiB, of which the system backs what was written.
const CHUNK: usize = 1 << 23;

/// All ranges are multiples of so many words: a cache line.
const LINE: usize = ALIGN / 8;

/// Memory of which disjoint ranges are lent out.
struct Chunk {
    /// Holds the memory, and is not looked at again.
    _memory: Buffer<u64>,
    start: *mut u64,
}

#[expect(
    unsafe_code,
    reason = "a raw pointer into memory that the same value owns"
)]
// SAFETY: the pointer is dereferenced by the owners of disjoint ranges alone, see `Words`.
unsafe impl Send for Chunk {}
#[expect(
    unsafe_code,
    reason = "a raw pointer into memory that the same value owns"
)]
// SAFETY: as above; the chunk itself offers no access.
unsafe impl Sync for Chunk {}

/// A range of a chunk, with one owner: what [`Pool::take`] lends until [`Pool::give`] takes it back.
/// Not `Clone`.
pub(crate) struct Words {
    chunk: Option<Arc<Chunk>>,
    start: usize,
    len: usize,
}

impl Words {
    /// No words, of no pool.
    pub(crate) fn none() -> Words {
        Words {
            chunk: None,
            start: 0,
            len: 0,
        }
    }
}

#[expect(unsafe_code, reason = "ranges of a chunk are found by address")]
impl Deref for Words {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        match &self.chunk {
            // SAFETY: the range lies in the chunk, which lives as long as `self`; it is initialised; and nobody
            // else has a part of it, since the pool lends a range once and gets it back by value.
            Some(chunk) => unsafe {
                std::slice::from_raw_parts(chunk.start.add(self.start), self.len)
            },
            None => &[],
        }
    }
}

#[expect(unsafe_code, reason = "ranges of a chunk are found by address")]
impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match &self.chunk {
            // SAFETY: as for `deref`, and `self` is borrowed mutably.
            Some(chunk) => unsafe {
                std::slice::from_raw_parts_mut(chunk.start.add(self.start), self.len)
            },
            None => &mut [],
        }
    }
}

/// Lends ranges of memory. Clones share it.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    /// Most words kept idle in chunks of which nothing is lent; more than that is given back.
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// Words lent.
    lent: usize,
    /// Most words that had been written at once.
    peak: usize,
    chunks: Vec<Ranges>,
}

/// What is free of a chunk.
struct Ranges {
    chunk: Arc<Chunk>,
    len: usize,
    /// Where what was never written begins.
    fresh: usize,
    /// Begin and end of each free range, by address, no two adjacent. The last reaches the end of the chunk, if
    /// only with no words.
    free: Vec<(usize, usize)>,
}

impl Ranges {
    fn new(words: usize) -> Ranges {
        let len = words.max(CHUNK);
        let mut memory = zeros(len);
        let start = memory.as_mut_ptr();
        Ranges {
            chunk: Arc::new(Chunk {
                _memory: memory,
                start,
            }),
            len,
            fresh: 0,
            free: vec![(0, len)],
        }
    }

    fn lend(&mut self, place: usize, len: usize) -> Words {
        let (start, _) = self.free[place];
        self.free[place].0 += len;
        if self.free[place].0 == self.free[place].1 && place + 1 < self.free.len() {
            self.free.remove(place);
        }
        self.fresh = self.fresh.max(start + len);
        Words {
            chunk: Some(self.chunk.clone()),
            start,
            len,
        }
    }

    fn take_back(&mut self, start: usize, end: usize) {
        let place = self.free.partition_point(|&(from, _)| from < start);
        let before = place > 0 && self.free[place - 1].1 == start;
        let after = place < self.free.len() && self.free[place].0 == end;
        match (before, after) {
            (true, true) => {
                self.free[place - 1].1 = self.free[place].1;
                self.free.remove(place);
            }
            (true, false) => self.free[place - 1].1 = end,
            (false, true) => self.free[place].0 = start,
            (false, false) => self.free.insert(place, (start, end)),
        }
    }

    fn is_idle(&self) -> bool {
        self.free[0] == (0, self.len)
    }

    /// Gives what was written in the last free range back to the system.
    fn forget_end(&mut self) {
        if let Some((from, _)) = self.free.last()
            && *from < self.fresh
            && forget(self.chunk.start, *from, self.fresh)
        {
            self.fresh = *from;
        }
    }
}

impl State {
    fn written(&self) -> usize {
        self.chunks.iter().map(|c| c.fresh).sum()
    }

    /// Words written before and lent no more.
    fn idle(&self) -> usize {
        self.written() - self.lent
    }
}

impl Pool {
    pub(crate) fn new(most: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                most,
                state: Mutex::new(State {
                    lent: 0,
                    peak: 0,
                    chunks: Vec::new(),
                }),
            }),
        }
    }

    /// `len` words with anything in them, aligned to [`ALIGN`].
    pub(crate) fn take(&self, len: usize) -> Words {
        let whole = len.next_multiple_of(LINE);
        let mut state = lock(&self.shared.state);
        let state = &mut *state;
        state.lent += whole;
        // The tightest range that was used before; else the beginning of what never was.
        let mut best: Option<(usize, usize, usize)> = None;
        for (number, chunk) in state.chunks.iter().enumerate() {
            for (place, (from, to)) in chunk.free.iter().enumerate() {
                let room = to - from;
                let last = place + 1 == chunk.free.len();
                let room = if last { usize::MAX - 1 } else { room };
                if to - from >= whole && best.is_none_or(|(r, ..)| room < r) {
                    best = Some((room, number, place));
                }
            }
        }
        let (number, place) = match best {
            Some((_, number, place)) => (number, place),
            None => {
                state.chunks.push(Ranges::new(whole));
                (state.chunks.len() - 1, 0)
            }
        };
        let mut words = state.chunks[number].lend(place, whole);
        words.len = len;
        state.peak = state.peak.max(state.written());
        words
    }

    /// Takes words from [`Self::take`] back.
    pub(crate) fn give(&self, mut words: Words) {
        self.cut(&mut words, 0);
    }

    /// Takes all but the first `len` of words from [`Self::take`] back.
    pub(crate) fn cut(&self, words: &mut Words, len: usize) {
        let start = words.start + len.next_multiple_of(LINE);
        let end = words.start + words.len.next_multiple_of(LINE);
        words.len = words.len.min(len);
        let Some(chunk) = &words.chunk else { return };
        if start >= end {
            return;
        }
        let mut state = lock(&self.shared.state);
        state.lent -= end - start;
        let mut given_up = None;
        if let Some(number) = (state.chunks.iter()).position(|c| Arc::ptr_eq(&c.chunk, chunk)) {
            let ranges = &mut state.chunks[number];
            ranges.take_back(start, end);
            if ranges.is_idle() && state.idle() > self.shared.most {
                given_up = Some(state.chunks.swap_remove(number));
            }
        }
        drop(state);
        drop(given_up);
    }

    /// Gives idle memory back to the system, as far as nothing behind it in its chunk is lent.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.shared.state);
        let idle: Vec<Ranges> = state.chunks.extract_if(.., |c| c.is_idle()).collect();
        state.chunks.iter_mut().for_each(Ranges::forget_end);
        drop(state);
        drop(idle);
    }

    /// Words in use, kept, and most of both at once since [`Self::forget_peak`].
    pub(crate) fn words(&self) -> [usize; 3] {
        let state = lock(&self.shared.state);
        [state.lent, state.idle(), state.peak]
    }

    pub(crate) fn forget_peak(&self) {
        let mut state = lock(&self.shared.state);
        state.peak = state.written();
    }
}

/// A poisoned lock only says that another thread panicked between two consistent states.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
