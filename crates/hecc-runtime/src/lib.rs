//! Executes compiled circuits: in the clear, encrypted, or both in lockstep.
//!
//! The way of a value: [`bind()`] checks what the caller gives against the circuit's parameters,
//! [`pack`] turns it into slot vectors, a [`Backend`] computes on them in the order of a
//! [`Schedule`] ([`execute()`]), and [`unpack`] puts the results together. This is the only crate
//! where compiler and engine meet. It does no IO; progress is told to a callback.

mod backend;
mod bind;
mod ckks;
mod clear;
mod error;
mod execute;
mod keys;
mod lockstep;
mod pack;
mod predict;
mod reference;
mod schedule;

pub use backend::{Backend, Operands};
pub use bind::{BindError, Bindings, Tensor64, Wanted, bind, derive};
pub use ckks::{CkksBackend, CkksValue, EncryptWith, EncryptedInput, decrypt, encrypt};
pub use clear::{ClearBackend, ClearValue};
pub use error::RuntimeError;
pub use execute::{Execution, Progress, execute};
pub use keys::evaluation_keys_needed;
pub use lockstep::{Divergence, LockstepBackend, LockstepValue, Tolerance};
pub use pack::{PlainValue, Plains, Unpacked, pack, resolve_plains, unpack};
pub use predict::{Memory, Prediction, predict, threads, times};
pub use reference::{RangeFault, Reference, max_abs_error, reference};
pub use schedule::{Arg, Fusion, Schedule, SumTerms, Task, WeightedRotation, Work};
