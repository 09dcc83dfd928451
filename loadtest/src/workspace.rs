//! Builds the programs of this workspace that a run starts, so that one command is enough on a
//! clean checkout.
//!
//! Does nothing for an installed `hookcast-load`: then programs are looked for beside it.

use std::path::Path;
use std::process::Command;

/// Builds `packages` with the profile that this program was built with, if its workspace is still
/// where it was built.
pub fn build(packages: &[&str]) -> Result<(), String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    if !manifest.exists() || packages.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("build")
        .arg("--quiet")
        .arg("--manifest-path")
        .arg(&manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    eprintln!("building {}", packages.join(", "));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "cargo build of {} failed: {status}",
            packages.join(", ")
        )),
        // Without cargo there may still be programs beside this one.
        Err(_) => Ok(()),
    }
}
