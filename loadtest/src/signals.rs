//! SIGINT, SIGTERM and SIGHUP. The first signal ends a run in order, with the figures up to then. The second
//! ends the program and its servers at once.
//!
//! Set up by `main`. Measurements read the flag; this module knows none of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::console;
use crate::exit::Status;
use crate::servers::process;

/// Whether the first signal acts as the second: there is no figure to show yet.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Sets `interrupted` at the first signal; with `is_verbose` it also prints a note to stderr.
pub fn watch(interrupted: &Arc<AtomicBool>, is_verbose: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // With nohup SIGHUP is ignored: the program outlives its terminal.
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP)?;
    }
    let interrupted = Arc::clone(interrupted);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if interrupted.swap(true, Relaxed) || AT_ONCE.load(Relaxed) {
                    process::kill_all();
                    std::process::exit(i32::from(Status::CutOff as u8));
                }
                if is_verbose {
                    console::note(
                        "hookcast-load: ending with the figures so far; a second signal ends at once",
                    );
                }
            }
        })?;
    Ok(())
}

/// While `wait` runs, the first signal ends the program.
pub fn ending_at_once<T>(wait: impl FnOnce() -> T) -> T {
    AT_ONCE.store(true, Relaxed);
    let result = wait();
    AT_ONCE.store(false, Relaxed);
    result
}

/// Whether this process was started with a signal ignored: its bit of `SigIgn` in `proc(5)`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
