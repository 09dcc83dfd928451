//! The pages of the repository: links lead somewhere, tables and figures are those of the program.
//!
//! `UPDATE_PAGES=1 cargo test --test pages` writes the table of settings instead of comparing it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use hookcast::limits;
use serde_json::Value;

const README_LINES_MAX: usize = 250;
const OPERATING: &str = "src/packaging/OPERATING.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below `directory` with the extension, without what builds and tools make.
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

/// A page: its text without blocks of code, in which `#` and `](` mean nothing.
struct Page {
    prose: String,
}

impl Page {
    fn new(text: &str) -> Self {
        let mut prose = String::new();
        let mut is_code = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        assert!(!is_code, "a block of code does not end");
        Self { prose }
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let heading = line.trim_start_matches('#').trim().to_lowercase();
                let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
                let kept: String = heading.chars().filter(kept).collect();
                kept.replace(' ', "-")
            })
            .collect()
    }

    /// The targets of its links and pictures.
    fn links(&self) -> Vec<&str> {
        let targets = self.prose.split("](").skip(1);
        targets
            .map(|rest| rest.split_once(')').expect("a link ends").0)
            .collect()
    }

    /// What stands between backticks and looks like a file of the repository.
    fn paths(&self) -> Vec<&str> {
        let quoted = self.prose.split('`').skip(1).step_by(2);
        let is_path = |text: &&str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let directories = ["src/", "tests/", "loadtest/", "benches/"];
            directories.iter().any(|start| text.starts_with(start)) && text.chars().all(plain)
        };
        quoted.filter(is_path).collect()
    }
}

/// `path` without `..`, relative to the root.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the root", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// All pages by their paths from the root.
fn pages() -> BTreeMap<PathBuf, Page> {
    let paths = files(root(), "md");
    let page = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (
            path.strip_prefix(root()).unwrap().to_owned(),
            Page::new(&text),
        )
    };
    paths.into_iter().map(page).collect()
}

/// The page that a link on the page `from` leads to, and its anchor; a directory means its README.
fn target(from: &Path, link: &str) -> (PathBuf, Option<String>) {
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor.to_owned())),
        None => (link, None),
    };
    let mut path = from.to_owned();
    if !file.is_empty() {
        path = normal(&from.parent().unwrap().join(file));
    }
    if root().join(&path).join("README.md").is_file() {
        path.push("README.md");
    }
    (path, anchor)
}

fn is_external(link: &str) -> bool {
    link.starts_with("https://")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut broken = Vec::new();
    let mut count = 0;
    for (from, page) in &pages {
        for link in page.links().into_iter().filter(|link| !is_external(link)) {
            count += 1;
            let (path, anchor) = target(from, link);
            let has_anchor = anchor.is_none_or(|anchor| {
                let page = pages.get(&path);
                page.is_some_and(|page| page.anchors().contains(&anchor))
            });
            if !has_anchor || !root().join(&path).exists() {
                broken.push(format!("{}: {link}", from.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 50, "{count} links: the pages are read wrongly");
}

#[test]
fn every_path_on_a_page_exists() {
    let mut missing = Vec::new();
    for (from, page) in &pages() {
        for path in page.paths() {
            if !root().join(path).exists() {
                missing.push(format!("{}: {path}", from.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let pages = pages();
    let mut reached = BTreeSet::new();
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(path) = next.pop() {
        let Some(page) = pages.get(&path) else {
            continue;
        };
        if reached.insert(path.clone()) {
            let links = page.links().into_iter().filter(|link| !is_external(link));
            next.extend(links.map(|link| target(&path, link).0));
        }
    }
    let lost: Vec<_> = pages
        .keys()
        .filter(|path| !reached.contains(*path))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

#[test]
fn the_readme_names_the_least_version_of_rust() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("\nrust-version = \"").unwrap();
    let (version, _) = rest.split_once('"').unwrap();
    let sentence = format!("**Rust {version}** or later");
    assert!(
        read("README.md").contains(&sentence),
        "README.md lacks: {sentence}"
    );
}

/// A row of the table of settings: the flag and its default.
fn flag_and_default(row: &str, default_at: usize) -> Option<(String, String)> {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    cells[1]
        .starts_with("`--")
        .then(|| (cells[1].to_owned(), cells[default_at].to_owned()))
}

#[test]
fn the_table_of_settings_is_that_of_the_flags() {
    const BEGIN: &str = "<!-- config:begin -->\n";
    const END: &str = "<!-- config:end -->";
    let page = read(OPERATING);
    let (before, rest) = page.split_once(BEGIN).expect("the begin marker");
    let (table, after) = rest.split_once(END).expect("the end marker");
    let expected = hookcast::config::markdown_table();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        let page = format!("{before}{BEGIN}{expected}{END}{after}");
        std::fs::write(root().join(OPERATING), page).unwrap();
    } else {
        assert_eq!(
            table, expected,
            "run UPDATE_PAGES=1 cargo test --test pages"
        );
    }
}

#[test]
fn the_readme_gives_flags_the_defaults_they_have() {
    let all = hookcast::config::markdown_table();
    let all: BTreeMap<_, _> = all
        .lines()
        .filter_map(|row| flag_and_default(row, 3))
        .collect();
    let readme = read("README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `--"));
    let mut count = 0;
    for (flag, default) in rows.filter_map(|row| flag_and_default(row, 2)) {
        let is_set = default.starts_with('`');
        let actual = all.get(&flag).unwrap_or_else(|| panic!("{flag}"));
        let expected = if is_set { &default } else { "" };
        assert_eq!(actual, expected, "{flag}");
        count += 1;
    }
    assert!(count >= 8, "{count} settings");
}

#[test]
fn the_operators_page_states_the_bound_of_memory() {
    let bound = limits::memory_bytes_max(2, 20_000, 0, limits::BODY_BYTES_MAX_DEFAULT);
    let bounds = [bound, limits::KV_MEMORY_BYTES_MAX];
    let page = read(OPERATING);
    for bound in bounds {
        let figure = format!("**{} MiB**", bound.div_ceil(1024 * 1024));
        assert!(page.contains(&figure), "{OPERATING} lacks {figure}");
    }
}

/// The rows of the README's benchmarks: how each begins, its case, and the column of that case.
const BENCHMARKS: [(&str, &str, &str); 9] = [
    ("**saturate**", "saturate", "deliveries/s"),
    ("its acknowledgements", "saturate", "ack p99 (ms)"),
    ("**fanout**", "fanout", "CPU per delivery (us)"),
    ("its latency", "fanout", "delivery p99 (ms)"),
    ("**fanout at 500/s**", "fanout-500", "delivery p99 (ms)"),
    ("**ingest**", "ingest", "acks/s"),
    ("**idle**", "idle", "bytes per stream"),
    ("its CPU per heartbeat", "idle", "CPU per heartbeat (us)"),
    ("**storm**", "storm", "all served after (s)"),
];

/// The cells of a row of a table.
fn cells(row: &str) -> Vec<&str> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split('|').map(str::trim).collect()
}

/// A figure such as `11.0 M`, `5.5 s` or `20,116 B`, in the unit of a column of `comparison.md`.
fn figure(text: &str, column: &str) -> f64 {
    let text = text.replace(['*', ','], "");
    let mut parts = text.split(' ');
    let number: f64 = parts.next().unwrap().parse().expect(&text);
    let factor = match parts.next().unwrap_or_default() {
        "M" => 1e6,
        "k" => 1e3,
        "s" if column.ends_with("(ms)") => 1e3,
        "s" | "ms" | "µs" | "B" | "" => 1.0,
        unit => panic!("{unit} of {text}"),
    };
    number * factor
}

#[test]
fn the_benchmarks_of_the_readme_are_those_of_the_results() {
    let (readme, results) = (read("README.md"), read("loadtest/results/comparison.md"));
    let (_, benchmarks) = readme.split_once("\n## Benchmarks\n").unwrap();
    let (_, commit) = benchmarks.split_once("commit ").unwrap();
    let commit = commit.split('.').next().unwrap();
    assert!(results.contains(&format!("commit {commit}")), "{commit}");
    let mut compared = 0;
    for (begin, case, column) in BENCHMARKS {
        let row = benchmarks
            .lines()
            .find(|line| line.starts_with(&format!("| {begin}")))
            .unwrap_or_else(|| panic!("no row {begin}"));
        let (_, table) = results.split_once(&format!("**{case}**:")).unwrap();
        let mut rows = table.lines().filter(|line| line.starts_with('|'));
        let columns = cells(rows.next().unwrap());
        let at = columns.iter().position(|name| *name == column).unwrap();
        let measured: BTreeMap<&str, &str> = rows
            .skip(1)
            .take_while(|line| !line.starts_with("| server"))
            .map(|line| (cells(line)[0], cells(line)[at]))
            .collect();
        let servers = ["hookcast", "floor", "axum", "nchan", "pushpin"];
        let stated = cells(row).into_iter().skip(1);
        for (server, stated) in servers.into_iter().zip(stated) {
            if stated.is_empty() {
                continue;
            }
            let (stated, measured) = (figure(stated, column), figure(measured[server], column));
            // Two digits, rounded.
            let is_rounded = (stated / measured - 1.0).abs() < 0.03;
            assert!(is_rounded, "{begin}, {server}: {stated}, not {measured}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared} figures");
}

#[test]
fn the_chat_window_is_as_large_as_its_page_says() {
    let window = root().join("src/window");
    let (mut plain, mut compressed) = (0, 0);
    for extension in ["html", "css", "js", "svg"] {
        for path in files(&window, extension) {
            let bytes = std::fs::read(path).unwrap();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&bytes).unwrap();
            plain += bytes.len();
            compressed += encoder.finish().unwrap().len();
        }
    }
    let page = read("src/window/README.md");
    for (bytes, unit) in [(plain, " KiB of HTML"), (compressed, " KiB compressed")] {
        let (before, _) = page.split_once(unit).expect(unit);
        let stated: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
        let is_near = (stated * 1024).abs_diff(bytes) < bytes / 10;
        assert!(is_near, "{stated}{unit}, not {}", bytes / 1024);
    }
}

/// The names of functions, in backticks, in the last cells of the tables below a heading.
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
            "{name} is no test"
        );
    }
}

#[test]
fn each_row_of_what_one_client_can_take_has_its_test() {
    let names = functions_below(&read(OPERATING), "### What one client can take");
    assert!(names.len() >= 10, "{} tests", names.len());
    assert_tests_exist(&names);
}

#[test]
fn each_promise_has_its_test() {
    let names = functions_below(&read("tests/README.md"), "## Promises");
    assert!(names.len() >= 20, "{} tests", names.len());
    assert_tests_exist(&names);
}

/// The text of the block of code below a heading of the page of contributors.
fn block_below(heading: &str) -> String {
    let page = read("src/README.md");
    let (_, below) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, block) = below.split_once("```text\n").unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// The modules of the crate and what each imports of the others; tests may import anything.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports = BTreeMap::<String, BTreeSet<String>>::new();
    let source = root().join("src");
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

#[test]
fn imports_run_one_way() {
    let chain = block_below("## Layers");
    let levels = chain.trim().split(" → ").enumerate();
    let levels: BTreeMap<&str, usize> = levels
        .flat_map(|(level, names)| names.split(", ").map(move |name| (name, level)))
        .collect();
    let imports = imports();
    let mut upward = Vec::new();
    let mut count = 0;
    for (module, imported) in &imports {
        for name in imported {
            let Some(&to) = levels.get(&**name) else {
                continue;
            };
            count += 1;
            let may = match levels.get(&**module) {
                Some(&from) => from <= to,
                None => name == "limits",
            };
            if !may {
                upward.push(format!("{module} imports {name}"));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    let unknown = levels.keys().find(|name| !imports.contains_key(**name));
    assert!(unknown.is_none(), "no module {unknown:?}");
    assert!(count > 40, "{count} imports: the sources are read wrongly");
}

/// What the page of contributors calls a name in the code is one: `Type`, `Type::method`, `CONSTANT`.
#[test]
fn names_on_the_page_of_contributors_are_in_the_code() {
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
    assert!(count > 20, "{count} names: the page is read wrongly");
}

/// The dependencies in a section of `Cargo.toml`, in order. A comment above a line is its reason, and
/// that of the lines that follow it.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let start = format!("[{section}]\n");
    let (_, rest) = manifest.split_once(&start).expect("the section is there");
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

/// The names of what the server depends on directly, as cargo has resolved it.
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
fn each_dependency_of_the_server_has_its_reason() {
    let listed = dependencies(&read("Cargo.toml"), "dependencies");
    assert_eq!(listed, resolved(), "the manifest is read wrongly");
}

#[test]
fn tests_and_benchmarks_give_their_reasons_too() {
    assert!(!dependencies(&read("Cargo.toml"), "dev-dependencies").is_empty());
}
