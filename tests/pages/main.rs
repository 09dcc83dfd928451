//! The pages of the repository: links have targets, tables and figures match the program, and statements about
//! the code are true.
//!
//! `UPDATE_PAGES=1 cargo test --test pages` writes the table of settings instead of comparing it.

mod code;
mod figures;
mod links;
mod sources;

use std::path::{Path, PathBuf};

const OPERATING: &str = "src/packaging/OPERATING.md";

const BUS: &str = "src/bus/README.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below `directory` with the extension, without build outputs and installed modules.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    const MADE: [&str; 3] = ["target", "node_modules", "artefacts"];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !MADE.contains(&name) {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}
