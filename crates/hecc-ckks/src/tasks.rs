//! One operation as a list of tasks, on whatever threads are idle.
//!
//! A task may read what earlier tasks of the list make ([`Slot`]). Threads take tasks in the order of the list, so that
//! whatever a task waits for is done or being computed by a thread that waits for nothing later: one thread
//! alone finishes the list, and no thread that is late holds up more than the tasks it has begun. There is no barrier
//! between the stages of an operation, and the pool of threads is entered once for all of them.
//!
//! A task that fills a slot never runs a list of its own: a thread that waits for the rest of such a list may take up
//! any other work, which must not wait for the task that is suspended below it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::context::Context;

/// Whether a task of the list has panicked.
#[derive(Default)]
pub(crate) struct Failed(AtomicBool);

/// What one task makes and others read.
pub(crate) struct Slot<'a, T> {
    value: OnceLock<T>,
    failed: &'a Failed,
}

impl<'a, T> Slot<'a, T> {
    pub(crate) fn empty(failed: &'a Failed) -> Slot<'a, T> {
        Slot {
            value: OnceLock::new(),
            failed,
        }
    }

    /// The slot by itself, when it is filled.
    pub(crate) fn into_filled<'b>(self) -> Option<Slot<'b, T>> {
        static NONE: Failed = Failed(AtomicBool::new(false));
        self.value.get().is_some().then_some(Slot {
            value: self.value,
            failed: &NONE,
        })
    }

    /// Fills the slot: done once, by one task.
    pub(crate) fn fill(&self, value: T) {
        let filled = self.value.set(value);
        debug_assert!(filled.is_ok(), "a slot is filled by one task");
    }

    /// The value, once it is there.
    ///
    /// # Panics
    /// When a task of the list has: this one can then never be finished.
    pub(crate) fn get(&self) -> &T {
        // Other threads are about to finish a task: a few microseconds of waiting are cheaper than a sleep. On a
        // machine with more threads than processors they may be waiting for this one to step aside.
        const SPINS: u32 = 100;
        const YIELDS: u32 = 200;
        const NAP: Duration = Duration::from_micros(50);
        for turn in 0u32.. {
            if let Some(value) = self.value.get() {
                return value;
            }
            assert!(
                !self.failed.0.load(Ordering::Relaxed),
                "another part of this operation has panicked"
            );
            match turn {
                0..SPINS => std::hint::spin_loop(),
                SPINS..YIELDS => std::thread::yield_now(),
                _ => std::thread::sleep(NAP),
            }
        }
        unreachable!("2^32 naps are days")
    }
}

/// Tells the other threads when this one unwinds.
struct Watch<'a>(&'a Failed);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Context {
    /// Runs `f` on every task; over threads, begun in this order, if this context spreads operations over threads.
    pub(crate) fn in_order<T: Send>(
        &self,
        failed: &Failed,
        tasks: impl IntoIterator<Item = T>,
        f: impl Fn(T) + Sync,
    ) {
        let tasks = tasks.into_iter();
        if !self.is_parallel() {
            tasks.for_each(f);
            return;
        }
        let mut tasks: Vec<Mutex<Option<T>>> = tasks.map(|task| Mutex::new(Some(task))).collect();
        if let [task] = &mut tasks[..] {
            let task = task.get_mut().unwrap_or_else(PoisonError::into_inner);
            task.take().into_iter().for_each(f);
            return;
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let _watch = Watch(failed);
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(task) = task {
                    f(task);
                }
            }
        };
        let helpers = rayon::current_num_threads().min(tasks.len());
        rayon::scope(|scope| {
            for _ in 1..helpers {
                scope.spawn(|_| work());
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context that spreads operations over threads.
    fn context() -> Context {
        use hecc_params::{LogN, Parameters, ParametersLiteral, Scale, Security, ntt_primes_below};
        let log_n = LogN(10);
        Context::new(
            Parameters::new(ParametersLiteral {
                log_n,
                q: ntt_primes_below(log_n, 1 << 30, 1, &[]),
                p: Vec::new(),
                digit_limbs: 1,
                scale: Scale(1024.0),
                security: Security::Insecure,
            })
            .unwrap(),
        )
        .unwrap()
        .parallel(true)
    }

    /// Every task adds up what all before it made.
    fn sums(count: usize) {
        let failed = Failed::default();
        let slots: Vec<Slot<'_, u64>> = (0..count).map(|_| Slot::empty(&failed)).collect();
        context().in_order(&failed, 0..count, |i| {
            let sum: u64 = slots[..i].iter().map(|slot| slot.get()).sum();
            slots[i].fill(sum.max(1));
        });
        for (i, slot) in slots.iter().enumerate() {
            assert_eq!(*slot.get(), 1 << i.saturating_sub(1));
        }
    }

    #[test]
    fn tasks_wait_for_what_they_read() {
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            for count in [0, 1, 2, 30] {
                pool.install(|| sums(count));
            }
        }
    }

    #[test]
    fn all_threads_may_run_lists_at_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
        pool.build().unwrap().scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|_| sums(20));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
        let pool = pool.build().unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| {
                let failed = Failed::default();
                let slot: Slot<'_, u64> = Slot::empty(&failed);
                context().in_order(&failed, 0..9, |i| {
                    if i == 0 {
                        panic!("as it should");
                    }
                    slot.get();
                });
            });
        }));
        assert!(result.is_err());
    }
}
