//! Builds the workspace programs that a run starts, so that one command is enough on a clean checkout.
//!
//! Does nothing for an installed `hookcast-load`: its programs are beside it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::console;

/// Builds `packages` with the profile of this program, if its workspace still exists.
pub fn build(packages: &[&str]) -> Result<(), String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    if !manifest.exists() || packages.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove_own_crate(&mut command, std::env::vars_os().map(|(name, _)| name));
    command.arg("build").arg("--manifest-path").arg(&manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    console::note(format!(
        "building {} (the first build takes some minutes)",
        packages.join(", ")
    ));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "cargo build of {} failed: {status}",
            packages.join(", ")
        )),
        // Without cargo, programs may still exist beside this one.
        Err(_) => Ok(()),
    }
}

/// Removes the variables that `cargo run` has set for this program's own crate.
///
/// Build scripts name some of them (`cargo:rerun-if-env-changed=CARGO_MANIFEST_DIR`). If a build inherits one,
/// their crates and all dependants are built again each time. The variables are those of the Cargo book,
/// "Environment variables Cargo sets for crates". Variables that configure cargo, such as `CARGO_TARGET_DIR`,
/// stay.
fn remove_own_crate(command: &mut Command, names: impl Iterator<Item = OsString>) {
    for name in names {
        if name.to_str().is_some_and(is_about_a_crate) {
            command.env_remove(name);
        }
    }
}

fn is_about_a_crate(name: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CFG_"];
    let names = [
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_inherits_what_configures_cargo_and_nothing_of_this_crate() {
        let names = [
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_VERSION",
            "CARGO_BIN_NAME",
            "OUT_DIR",
            "CARGO_TARGET_DIR",
            "CARGO_HOME",
            "CARGO_PROFILE_RELEASE_LTO",
            "PATH",
        ];
        let mut command = Command::new("cargo");
        remove_own_crate(&mut command, names.iter().map(OsString::from));
        let removed: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .filter_map(|(name, _)| name.to_str())
            .collect();
        assert_eq!(
            removed,
            [
                "CARGO_BIN_NAME",
                "CARGO_MANIFEST_DIR",
                "CARGO_MANIFEST_PATH",
                "CARGO_PKG_VERSION",
                "OUT_DIR"
            ]
        );
    }
}
