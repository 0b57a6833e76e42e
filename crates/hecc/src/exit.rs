//! Exit codes: 0 success; 1 the answer is no; 2 the input is wrong; 3 hecc itself failed.

use std::fmt::Display;
use std::panic;
use std::process::ExitCode;
use std::thread;

use clap::Parser;

use crate::args::Cli;
use crate::commands;

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Exit 0.
    Success,
    /// Exit 1: a budget is exceeded, a verification failed.
    No,
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit 2: what is wrong with the input, and the way out.
    Input(String),
    /// Exit 2: the diagnostics are already on stderr.
    Reported,
    /// Exit 3: an invariant of hecc's own broke.
    Internal(String),
}

/// The result of a command.
pub(crate) type Outcome<T = Status> = Result<T, Failure>;

impl Failure {
    /// An input error.
    pub(crate) fn input(text: impl Display) -> Failure {
        Failure::Input(text.to_string())
    }

    /// An error of hecc's own.
    pub(crate) fn internal(text: impl Display) -> Failure {
        Failure::Internal(text.to_string())
    }
}

/// Names nest and trees are walked recursively up to the limits of the language; this is room enough for both.
pub(crate) const STACK_BYTES: usize = 256 << 20;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|l| format!(" ({}:{})", l.file(), l.line()))
            .unwrap_or_default();
        anstream::eprintln!(
            "hecc: internal error{place}: this is a bug in hecc, not in your input; please report it with the command that you ran"
        );
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // A closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let worker = thread::Builder::new()
        .name("hecc".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || commands::run(cli));
    let outcome = match worker.map(thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => return ExitCode::from(3),
        Err(error) => Err(Failure::internal(format!("no thread to work in: {error}"))),
    };
    match outcome {
        Ok(Status::Success) => ExitCode::SUCCESS,
        Ok(Status::No) => ExitCode::from(1),
        Err(Failure::Reported) => ExitCode::from(2),
        Err(Failure::Input(text)) => {
            anstream::eprintln!("hecc: error: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Internal(text)) => {
            anstream::eprintln!(
                "hecc: internal error: {text}: this is a bug in hecc; please report it with the command that you ran"
            );
            ExitCode::from(3)
        }
    }
}
