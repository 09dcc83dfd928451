//! What pages say about the code: tests of promises, the order of imports, names, reasons of dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::links::Page;
use crate::{BUS, OPERATING, files, read, root};

/// The function names in backticks in the last cells of the tables below a heading.
fn functions_below(page: &str, heading: &str) -> Vec<String> {
    let (_, below) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let level = heading.split(' ').next().unwrap();
    let below = below.split(&format!("\n{level} ")).next().unwrap();
    let rows = below.lines().filter(|line| line.starts_with("| "));
    let names = rows.flat_map(|row| {
        let cell = row.trim_end_matches([' ', '|']).rsplit_once('|').unwrap().1;
        cell.split('`').skip(1).step_by(2)
    });
    let is_name = |name: &&str| name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    names.filter(is_name).map(str::to_owned).collect()
}

fn assert_tests_exist(names: &[String]) {
    let paths = files(root(), "rs");
    let code: Vec<String> = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for name in names {
        let declaration = format!("fn {name}(");
        assert!(
            code.iter().any(|text| text.contains(&declaration)),
            "there is no test {name}"
        );
    }
}

#[test]
fn each_bound_of_one_client_has_a_test() {
    let names = functions_below(&read(OPERATING), "### What one client can take");
    assert!(names.len() >= 10, "{} tests", names.len());
    assert_tests_exist(&names);
}

#[test]
fn each_promise_has_a_test() {
    let names = functions_below(&read("tests/README.md"), "## Promises");
    assert!(names.len() >= 20, "{} tests", names.len());
    assert_tests_exist(&names);
}

/// The permissions on the page about the bus are those with which a test runs nodes.
#[test]
fn the_permissions_for_an_engine_are_those_of_the_test() {
    let test = read("tests/bus/security.rs");
    let (_, tested) = test.split_once("const PERMISSIONS: &str = \"").unwrap();
    let (tested, _) = tested.split_once("\";").unwrap();
    let tested = tested.replace('\\', " ").replace("{rig}", "{hooks}");
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let block = block_below(BUS, "### Permissions");
    let page = words(&block);
    let line = ["ACL", "SETUSER", "hookcast", "on", ">PASSWORD"].map(str::to_owned);
    assert_eq!(page, [&line[..], &words(&tested)].concat());
}

/// The code block below a heading of a page.
fn block_below(page: &str, heading: &str) -> String {
    let page = read(page);
    let (_, below) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, block) = below.split_once("```text\n").unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// The modules of a crate, and the other modules that each imports. Tests may import anything.
fn imports(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports = BTreeMap::<String, BTreeSet<String>>::new();
    let source = root().join(source);
    for path in files(&source, "rs") {
        let path = path.strip_prefix(&source).unwrap();
        let is_test = path.components().any(|part| {
            let name = part.as_os_str().to_str().unwrap();
            name.trim_end_matches(".rs").ends_with("tests")
        });
        let first = path.components().next().unwrap().as_os_str();
        let module = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
        if is_test || ["lib", "main"].contains(&&*module) {
            continue;
        }
        let text = std::fs::read_to_string(source.join(path)).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let names = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split("crate::").skip(1))
            .flat_map(|rest| {
                let rest = rest.strip_prefix('{').unwrap_or(rest);
                let rest = rest.split("::").next().unwrap();
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            })
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        imports.entry(module).or_default().extend(names);
    }
    imports
}

/// Asserts that imports between the modules of a chain, such as `a → b, c → d`, run from left to right.
/// A module outside the chain may import only those named in `open` from it.
fn assert_one_way(chain: &str, imports: &BTreeMap<String, BTreeSet<String>>, open: &[&str]) {
    let levels = chain.trim().split(" → ").enumerate();
    let levels: BTreeMap<&str, usize> = levels
        .flat_map(|(level, names)| names.split(", ").map(move |name| (name, level)))
        .collect();
    let unknown = levels.keys().find(|name| !imports.contains_key(**name));
    assert!(unknown.is_none(), "no module {unknown:?}");
    let mut upward = Vec::new();
    let mut count = 0;
    for (module, imported) in imports {
        for name in imported {
            let Some(&to) = levels.get(&**name) else {
                continue;
            };
            count += 1;
            let may = match levels.get(&**module) {
                Some(&from) => from <= to,
                None => open.contains(&&**name),
            };
            if !may {
                upward.push(format!("{module} imports {name}"));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    assert!(
        count > 2 * levels.len(),
        "{count} imports: the sources are parsed wrongly"
    );
}

#[test]
fn imports_run_one_way() {
    let chain = block_below("src/README.md", "## Layers");
    assert_one_way(&chain, &imports("src"), &["limits"]);
}

#[test]
fn imports_of_the_load_tester_run_one_way() {
    let chain = block_below("loadtest/README.md", "## Source");
    let all = ["engine", "servers", "scenarios", "report", "runs"];
    assert_one_way(&chain, &imports("loadtest/src"), &all);
}

/// The testkit injects faults. `src/packaging/build` builds the server by its package, as here.
#[test]
fn a_server_is_built_without_the_testkit() {
    let features = |edges: &str| {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--package", "hookcast"])
            .args(["--depth", "0", "--format", "{f}", "--edges", edges])
            .current_dir(root())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&tree.stderr).into_owned();
        assert!(tree.status.success(), "{errors}");
        let tree = String::from_utf8(tree.stdout).unwrap();
        tree.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(features("normal,build"), "");
    assert_eq!(features("all"), "testkit", "the tests' own build has it");
}

/// A benchmark, a simulation and a fuzzer drive the shard with their own sockets and times.
#[test]
fn the_shard_knows_neither_mio_nor_a_clock() {
    let source = root().join("src");
    let mut with_mio = BTreeSet::new();
    for path in files(&source, "rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path
            .strip_prefix(&source)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let has = |words: &str| {
            text.lines()
                .filter(is_code)
                .any(|line| line.contains(words))
        };
        if has("mio::") {
            with_mio.insert(path.split(['/', '.']).next().unwrap().to_owned());
        }
        if path.starts_with("shard/") && !path.contains("tests") {
            for clock in ["Instant::now", "SystemTime::now", "Clock"] {
                assert!(!has(clock), "{path} has {clock}");
            }
        }
    }
    let expected = ["admin", "net"].map(str::to_owned);
    assert_eq!(with_mio, BTreeSet::from(expected));
}

/// Names in code style on the contributors' page exist in the code: `Type`, `Type::method`, `CONSTANT`.
#[test]
fn names_on_the_contributors_page_exist() {
    let page = read("src/README.md");
    let paths = files(&root().join("src"), "rs");
    let code: String = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let words: BTreeSet<&str> = code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let is_name = |text: &&str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || "_:".contains(c))
    };
    let prose = Page::new(&page).prose;
    let names = prose.split('`').skip(1).step_by(2).filter(is_name);
    let mut count = 0;
    for name in names {
        count += 1;
        for part in name.split("::") {
            assert!(words.contains(part), "{name} is not in the code");
        }
    }
    assert!(count > 20, "{count} names: the page is parsed wrongly");
}

/// The dependencies in a section of `Cargo.toml`, in order. The comment above a line gives its reason, and
/// that of the lines below it.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let start = format!("[{section}]\n");
    let (_, rest) = manifest.split_once(&start).expect("the section exists");
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let (mut found, mut has_reason) = (BTreeSet::new(), false);
    for line in lines {
        if line.starts_with("# ") {
            has_reason = true;
        } else if let Some((name, _)) = line.split_once(" = ") {
            assert!(has_reason, "{name} has no reason in Cargo.toml");
            found.insert(name.to_owned());
        } else {
            has_reason = false;
        }
    }
    found
}

/// The direct dependencies of the server, as resolved by cargo.
fn resolved() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .arg("--no-deps")
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let server = packages
        .iter()
        .find(|package| package["name"] == "hookcast");
    let all = server.unwrap()["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn each_dependency_of_the_server_has_a_reason() {
    let listed = dependencies(&read("Cargo.toml"), "dependencies");
    assert_eq!(listed, resolved(), "the manifest is parsed wrongly");
}

#[test]
fn each_dependency_of_tests_and_benchmarks_has_a_reason() {
    assert!(!dependencies(&read("Cargo.toml"), "dev-dependencies").is_empty());
}
