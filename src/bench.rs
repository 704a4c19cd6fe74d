//! `longshore bench`: load on a running broker, and figures of how it bears that.

use crate::Outcome;
use crate::cli::BenchCommand;

mod fleet;

/// Does what was asked for.
pub(crate) fn bench(command: &BenchCommand) -> Outcome {
    let done = match command {
        BenchCommand::Fleet(options) => fleet::fleet(options),
    };
    done.map_err(|problem| vec![problem])
}
