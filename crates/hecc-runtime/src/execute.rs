//! Runs a schedule on a back-end, independent tasks in parallel.
//!
//! A task is ready when all that it reads is there. Of the ready tasks the earliest in the schedule
//! runs first, so that memory stays near what the schedule promises; tasks that wait for nothing
//! (inputs, plaintexts) run only when nothing else could. A value is dropped after its last reader,
//! who gets it as its only owner.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hecc_ir::ckks::{Ckks, CkksType};
use hecc_ir::graph::{Circuit, NodeId};
use rayon::Scope;

use crate::backend::{Backend, Operands};
use crate::error::RuntimeError;
use crate::schedule::Schedule;

/// Told after each task how much is done, and of how much.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// What a run yields.
#[derive(Debug)]
pub struct Execution<V> {
    /// The circuit's results, in order.
    pub outputs: Vec<Arc<V>>,
    /// Most ciphertexts that were alive at once.
    pub peak_ciphertexts: usize,
}

/// Computes a circuit's results on rayon's current thread pool.
///
/// # Errors
/// The first [`RuntimeError`] of a task; nothing new is started after it.
pub fn execute<B: Backend>(
    circuit: &Circuit<Ckks>,
    schedule: &Schedule,
    backend: &B,
    progress: &Progress<'_>,
) -> Result<Execution<B::Value>, RuntimeError> {
    let run = Run::new(circuit, schedule, backend, progress);
    rayon::scope(|scope| run.start(scope));
    run.finish()
}

struct Run<'a, B: Backend> {
    circuit: &'a Circuit<Ckks>,
    schedule: &'a Schedule,
    backend: &'a B,
    progress: &'a Progress<'a>,
    threads: usize,
    total: u64,
    /// By node.
    values: Vec<Mutex<Option<Arc<B::Value>>>>,
    /// By node: readers that have not started.
    readers: Vec<AtomicU32>,
    /// By task: dependencies that have not ended.
    waits: Vec<AtomicU32>,
    state: Mutex<State>,
}

struct State {
    ready: BinaryHeap<Reverse<u32>>,
    /// Tasks that wait for nothing, last first.
    sources: Vec<u32>,
    running: usize,
    done: u64,
    alive: usize,
    peak: usize,
    error: Option<RuntimeError>,
}

impl State {
    fn next(&mut self) -> Option<u32> {
        if self.error.is_some() {
            return None;
        }
        let task = self
            .ready
            .pop()
            .map(|Reverse(t)| t)
            .or_else(|| self.sources.pop())?;
        self.running += 1;
        Some(task)
    }

    fn waiting(&self) -> usize {
        self.ready.len() + self.sources.len()
    }
}

/// A panic elsewhere ends the run anyway; what it left is not looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, B: Backend> Run<'a, B> {
    fn new(
        circuit: &'a Circuit<Ckks>,
        schedule: &'a Schedule,
        backend: &'a B,
        progress: &'a Progress<'a>,
    ) -> Self {
        let count = |n: &u32| AtomicU32::new(*n);
        let waits: Vec<AtomicU32> = schedule.dependencies().iter().map(count).collect();
        let sources = (0..waits.len() as u32)
            .rev()
            .filter(|t| schedule.dependencies()[*t as usize] == 0)
            .collect();
        Run {
            circuit,
            schedule,
            backend,
            progress,
            threads: rayon::current_num_threads().max(1),
            total: schedule.weight(),
            values: (0..circuit.graph.len()).map(|_| Mutex::new(None)).collect(),
            readers: schedule.readers().iter().map(count).collect(),
            waits,
            state: Mutex::new(State {
                ready: BinaryHeap::new(),
                sources,
                running: 0,
                done: 0,
                alive: 0,
                peak: 0,
                error: None,
            }),
        }
    }

    /// Starts as many tasks as there are threads for. Each job runs one task, and then starts more:
    /// no job ever waits for another, so that the engine's own parallel loops may take them up.
    fn start<'s>(&'s self, scope: &Scope<'s>) {
        loop {
            let mut state = lock(&self.state);
            if state.running >= self.threads {
                return;
            }
            let Some(task) = state.next() else { return };
            let narrow = state.running + state.waiting() < self.threads;
            drop(state);
            scope.spawn(move |scope| {
                self.perform(task as usize, narrow);
                self.start(scope);
            });
        }
    }

    fn perform(&self, index: usize, parallel: bool) {
        let task = &self.schedule.tasks()[index];
        let mut freed = 0;
        let operands: Option<Operands<B::Value>> = task
            .reads
            .iter()
            .map(|&id| {
                let (value, last) = self.read(id);
                freed += usize::from(last && self.is_cipher(id));
                value
            })
            .collect();
        let result = match operands {
            Some(operands) => self.backend.perform(task, operands, parallel),
            None => Err(RuntimeError::Mismatch(format!(
                "a value that {} reads is not there",
                task.writes[0]
            ))),
        };
        let result = result.and_then(|values| {
            if values.len() == task.writes.len() {
                Ok(values)
            } else {
                Err(RuntimeError::Mismatch(format!(
                    "{} values where {} are expected",
                    values.len(),
                    task.writes.len()
                )))
            }
        });
        let mut ready = Vec::new();
        let failed = match result {
            Ok(values) => {
                for (&id, value) in task.writes.iter().zip(values) {
                    if self.readers[id.index()].load(Ordering::Acquire) > 0 {
                        *lock(&self.values[id.index()]) = Some(Arc::new(value));
                    }
                }
                for &d in self.schedule.dependents(index) {
                    if self.waits[d as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                        ready.push(Reverse(d));
                    }
                }
                None
            }
            Err(error) => Some(error),
        };
        let made = task.writes.iter().filter(|id| self.is_cipher(**id)).count();
        let mut state = lock(&self.state);
        state.running -= 1;
        state.ready.extend(ready);
        state.alive += made;
        state.peak = state.peak.max(state.alive);
        state.alive = state.alive.saturating_sub(freed);
        state.done += task.weight;
        let done = state.done;
        // The first in the schedule's order would be nicer, and is not always known when a run stops.
        if state.error.is_none() {
            state.error = failed;
        }
        drop(state);
        (self.progress)(done, self.total);
    }

    /// A value, and whether this is its last reader, who gets the only reference.
    fn read(&self, id: NodeId) -> (Option<Arc<B::Value>>, bool) {
        let mut slot = lock(&self.values[id.index()]);
        if self.readers[id.index()].fetch_sub(1, Ordering::AcqRel) == 1 {
            (slot.take(), true)
        } else {
            (slot.clone(), false)
        }
    }

    fn is_cipher(&self, id: NodeId) -> bool {
        matches!(self.circuit.graph.ty(id), CkksType::Cipher { .. })
    }

    fn finish(self) -> Result<Execution<B::Value>, RuntimeError> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error {
            return Err(error);
        }
        let outputs: Option<Vec<Arc<B::Value>>> = self
            .circuit
            .outputs
            .iter()
            .map(|(id, ())| lock(&self.values[id.index()]).clone())
            .collect();
        Ok(Execution {
            outputs: outputs
                .ok_or_else(|| RuntimeError::Mismatch("a result was not computed".to_owned()))?,
            peak_ciphertexts: state.peak,
        })
    }
}
