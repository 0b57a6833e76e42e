//! One file a command.

mod boolean;
mod calibrate;
mod check;
mod compile;
mod decrypt;
mod encrypt;
mod eval;
mod explore;
mod fmt;
mod import;
mod keygen;
mod keys;
mod run;
mod wire;

use crate::args::{Cli, Command};
use crate::exit::Outcome;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Compile(args) => compile::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Encrypt(args) => encrypt::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Decrypt(args) => decrypt::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Explore(args) => explore::run(&args),
        Command::Fmt(args) => fmt::run(&args),
    }
}
