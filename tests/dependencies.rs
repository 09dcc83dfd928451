//! The README's table of dependencies: every crate that the server is built from by name, and why.
//!
//! The reasons are the comments in `Cargo.toml`; `UPDATE_README=1 cargo test --test dependencies`
//! writes the table instead of comparing it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The dependencies in a section of `Cargo.toml`, in order, each with the comment above it; a comment
/// stands for all lines that follow it.
fn dependencies(manifest: &str, section: &str) -> Vec<(String, String)> {
    let start = format!("[{section}]\n");
    let (_, rest) = manifest.split_once(&start).expect("the section is there");
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let (mut found, mut why, mut in_comment) = (Vec::new(), String::new(), false);
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            if !in_comment {
                why.clear();
            }
            why.push_str(if in_comment { " " } else { "" });
            why.push_str(comment);
            in_comment = true;
        } else if let Some((name, _)) = line.split_once(" = ") {
            assert!(!why.is_empty(), "{name} has no reason in Cargo.toml");
            found.push((name.to_owned(), why.clone()));
            in_comment = false;
        }
    }
    found
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The ids of what a package is built from; build scripts and macros count, tests do not.
fn built_from<'a>(nodes: &HashMap<&'a str, &'a Value>, id: &'a str) -> Vec<&'a str> {
    let dependencies = nodes[id]["deps"].as_array().unwrap().iter();
    let is_built = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().unwrap();
        kinds.iter().any(|kind| kind["kind"] != "dev")
    };
    dependencies
        .filter(is_built)
        .map(|dependency| dependency["pkg"].as_str().unwrap())
        .collect()
}

/// The names of what the server depends on directly, and how many crates all of it is.
fn resolved() -> (BTreeSet<String>, usize) {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |id: &str| {
        let package = packages.iter().find(|package| package["id"] == id).unwrap();
        package["name"].as_str().unwrap().to_owned()
    };
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: HashMap<&str, &Value> = nodes
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let server = *nodes.keys().find(|id| name(id) == "hookcast").unwrap();
    let direct = built_from(&nodes, server);
    let mut all = BTreeSet::new();
    let mut to_visit = direct.clone();
    while let Some(id) = to_visit.pop() {
        if all.insert(id) {
            to_visit.extend(built_from(&nodes, id));
        }
    }
    (direct.iter().map(|id| name(id)).collect(), all.len())
}

#[test]
fn the_table_in_the_readme_is_that_of_the_manifest() {
    const BEGIN: &str = "<!-- dependencies:begin -->\n";
    const END: &str = "<!-- dependencies:end -->";
    let manifest = std::fs::read_to_string(format!("{ROOT}/Cargo.toml")).unwrap();
    let listed = dependencies(&manifest, "dependencies");
    let (direct, crates) = resolved();
    let names: BTreeSet<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(
        names, direct,
        "what the manifest lists is what cargo builds"
    );

    let mut expected = String::from("| crate | why |\n|---|---|\n");
    for (name, why) in &listed {
        writeln!(expected, "| [{name}](https://docs.rs/{name}) | {why} |").unwrap();
    }
    let direct = direct.len();
    writeln!(
        expected,
        "\nThese {direct} bring {} more: {crates} crates in all on Linux, macros and build scripts included.",
        crates - direct
    )
    .unwrap();

    let path = format!("{ROOT}/README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme
        .split_once(BEGIN)
        .expect("README.md has the begin marker");
    let (table, after) = rest.split_once(END).expect("README.md has the end marker");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            table, expected,
            "run UPDATE_README=1 cargo test --test dependencies"
        );
    }
}

#[test]
fn tests_and_benchmarks_give_their_reasons_too() {
    let manifest = std::fs::read_to_string(format!("{ROOT}/Cargo.toml")).unwrap();
    assert!(!dependencies(&manifest, "dev-dependencies").is_empty());
}
