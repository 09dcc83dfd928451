//! Starts the processes of this tool that read streams.
//!
//! Used by `single`. Each is this program with a hidden command; it ends with its stdin.

use std::path::Path;
use std::process::Command;

use crate::engine::reading::ReaderProcess;
use crate::servers::cluster::member::Member;

/// The hidden command of a reading process.
const COMMAND: &str = "streams";

/// Starts one. Its stderr is appended to `log`.
pub fn start(log: &Path) -> Result<ReaderProcess, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(COMMAND);
    let mut member = Member::start(command, log, true)?;
    Ok(ReaderProcess {
        stdin: member.child.stdin.take().ok_or("no stdin")?,
        stdout: member.child.stdout.take().ok_or("no stdout")?,
        keeper: Box::new(member),
    })
}
