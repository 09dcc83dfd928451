//! The `hookcast` binary: reads the configuration, starts the log, and runs the server or a command.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hookcast::bus::redis::bus_check;
use hookcast::check::{Check, Verdict};
use hookcast::config::{self, Action, Config, NoConfig, SourceCommand};
use hookcast::doctor;
use hookcast::foreign_text::escape;
use hookcast::handover::predecessor;
use hookcast::health;
use hookcast::inherit::{self, InheritError};
use hookcast::logging::{self, Log};
use hookcast::metrics::Metrics;
use hookcast::mirror;
use hookcast::server::{self, Inherited};
use hookcast::service;
use tracing::Level;

/// The time in which a panicking process can write its last log line.
const PANIC_LOG_TIME: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let (action, config) = match config::from_command_line() {
        Ok(parsed) => parsed,
        Err(NoConfig::Printed(Ok(()))) => return ExitCode::SUCCESS,
        Err(NoConfig::Printed(Err(error))) => {
            return fail(1, &format!("cannot write to standard output: {error}"));
        }
        Err(NoConfig::Wrong(error)) => return fail(2, &error.to_string()),
    };
    // Before a second thread is started, because this changes the environment.
    let inherited = match inherited() {
        Ok(inherited) => inherited,
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Action::CheckConfig { of_server } = action {
        return check_config(&config, of_server.then_some(inherited));
    }
    if let Some(command) = &config.source_command {
        return print_about_sources(&config, command);
    }
    if matches!(action, Action::KvCheck | Action::BusCheck | Action::Doctor) {
        print_warnings(&config.warnings());
    }
    let log = match Log::start(config.log_format, config.log_level) {
        Ok(log) => log,
        Err(error) => return fail(1, &format!("cannot start the log: {error}")),
    };
    end_on_panic();
    match (action, &config.kv, &config.doctor) {
        (Action::KvCheck, Some(kv), _) => return report(&mirror::kv_check(kv)),
        (Action::BusCheck, ..) => {
            let checks: Vec<Check> = config.bus.iter().flat_map(bus_check).collect();
            return report(&checks);
        }
        (Action::Health, ..) => {
            let checks: Vec<Check> = config.health.iter().map(|url| health::check(url)).collect();
            return report(&checks);
        }
        (Action::Doctor, _, Some(target)) => return doctor::run(target, config.secret.as_ref()),
        _ => {}
    }
    let metrics = Arc::new(Metrics::new(log.lines_dropped()));
    match server::run(&config, &metrics, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                tracing::error!("{line}");
            }
            service::failed(&error.to_string());
            ExitCode::from(error.exit_status())
        }
    }
}

/// Reports why the process ends, on standard error and to a service manager.
fn fail(exit_status: u8, reason: &str) -> ExitCode {
    logging::print(Level::ERROR, reason);
    service::failed(reason);
    ExitCode::from(exit_status)
}

/// Checks the configuration and prints a summary. For a server, tries the steps of a start.
fn check_config(config: &Config, inherited: Option<Inherited>) -> ExitCode {
    let warnings = match inherited.map(|inherited| server::rehearse(config, &inherited.sockets)) {
        None => config.warnings(),
        Some(Ok(warnings)) => warnings,
        Some(Err(error)) => {
            return fail_in_lines(&error.to_string());
        }
    };
    print_warnings(&warnings);
    // A closed standard output does not make the configuration wrong.
    let _ = writeln!(
        std::io::stdout(),
        "hookcast: configuration OK: {}",
        escape(&config.summary())
    );
    ExitCode::SUCCESS
}

/// Runs a command about sources.
fn print_about_sources(config: &Config, command: &SourceCommand) -> ExitCode {
    match server::run_source_command(config, command) {
        Ok(printout) => {
            print_warnings(&printout.notes);
            // A closed standard output does not change the result.
            let _ = std::io::stdout().write_all(printout.text.as_bytes());
            if printout.is_ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => fail_in_lines(&error.to_string()),
    }
}

/// Reports faults of the configuration, a line each.
fn fail_in_lines(reasons: &str) -> ExitCode {
    for line in reasons.lines() {
        logging::print(Level::ERROR, line);
    }
    service::failed(reasons.lines().next().unwrap_or_default());
    ExitCode::from(2)
}

/// Prints the warnings about the configuration. A server logs them instead.
fn print_warnings<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    for warning in warnings {
        logging::print(Level::WARN, &format!("warning: {warning}"));
    }
}

/// The sockets from a predecessor, or else from a service manager.
fn inherited() -> Result<Inherited, InheritError> {
    Ok(match predecessor::find()? {
        Some((predecessor, sockets)) => Inherited {
            sockets,
            predecessor: Some(predecessor),
        },
        None => Inherited {
            sockets: inherit::from_environment()?,
            predecessor: None,
        },
    })
}

/// Prints the results of checks, a line for each.
fn report(checks: &[Check]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    for check in checks {
        // If standard output is closed, the exit code still gives the result.
        let _ = writeln!(out, "{check}");
    }
    if checks.iter().any(|check| check.verdict == Verdict::Failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Makes a panic on any thread end the process. A restart is better than a server that has lost a thread,
/// and the ring survives the end.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        service::failed("a thread panicked; the log says where");
        // The log's thread needs a moment to write the panic.
        std::thread::sleep(PANIC_LOG_TIME);
        std::process::abort();
    }));
}
