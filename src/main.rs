//! The `hookcast` binary: reads the configuration, starts the log, runs the server.

use std::process::ExitCode;

use hookcast::config::{self, Action};
use hookcast::server;

fn main() -> ExitCode {
    let (action, config) = match config::from_command_line() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    end_on_panic();
    match action {
        Action::Serve => {}
        Action::KvCheck => return ExitCode::FAILURE,
    }
    match server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A panic on any thread ends the process: a server that has lost a thread is worse than one that
/// is started anew, and the ring outlives it.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
