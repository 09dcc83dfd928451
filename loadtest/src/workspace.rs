//! Builds the programs of this workspace that a run starts, so that one command is enough on a
//! clean checkout.
//!
//! Does nothing for an installed `hookcast-load`: then programs are looked for beside it.

use std::ffi::OsString;
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
    remove_own_crate(&mut command, std::env::vars_os().map(|(name, _)| name));
    command.arg("build").arg("--manifest-path").arg(&manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    eprintln!(
        "building {} (the first time that takes some minutes)",
        packages.join(", ")
    );
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

/// Takes from a command's environment what `cargo run` has set about this program's own crate.
///
/// Build scripts name some of these variables (`cargo:rerun-if-env-changed=CARGO_MANIFEST_DIR`), so
/// one that is inherited makes their crates, and all that depend on them, be built again each time.
/// The variables are those of the Cargo book, "Environment variables Cargo sets for crates"; what
/// configures cargo itself, such as `CARGO_TARGET_DIR`, stays.
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
