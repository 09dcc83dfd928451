//! `src/limits/MEMORY.md`: the list of collections that peers can grow is complete, and its tests exist.

/// The last column of the table names existing tests.
#[test]
fn the_list_of_collections_names_tests_that_exist() {
    let list = include_str!("../../src/limits/MEMORY.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for directory in ["src", "tests"] {
        read_sources(&root.join(directory), &mut sources);
    }
    let cells = list.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut count = 0;
    for line in cells {
        let tests = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in tests.split('`').skip(1).step_by(2) {
            let is_there = sources.contains(&format!("fn {name}("));
            assert!(is_there, "no test {name}: {line}");
            count += 1;
        }
    }
    assert!(count > 20, "{count} tests: the table is parsed wrongly");
}

/// Every collection of `live_log`, shard, hub, identities, mirror and bus that can grow is in the list.
#[test]
fn the_list_of_collections_is_complete() {
    const KINDS: &[&str] = &[
        "Vec<",
        "VecDeque<",
        "HashMap<",
        "HashSet<",
        "BTreeMap<",
        "BTreeSet<",
        "Slab<",
        "String",
        "Box<[",
        "Box<str>",
    ];
    let list = include_str!("../../src/limits/MEMORY.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = String::new();
    let mirror = ["core.rs", "seen.rs", "entry.rs", "value.rs"];
    let mirror = mirror.map(|name| format!("mirror/{name}"));
    let parts = ["live_log", "shard", "hub", "hub.rs", "identities"].map(String::from);
    let bus = [
        "course.rs",
        "recent.rs",
        "log.rs",
        "engine.rs",
        "start.rs",
        "stats.rs",
        "redis/wire.rs",
    ];
    let bus = bus.map(|name| format!("bus/{name}"));
    for part in parts.iter().chain(&mirror).chain(&bus) {
        assert!(root.join(part).exists(), "no {part}");
        read_sources(&root.join(part), &mut sources);
    }
    let mut within = None;
    let mut missing = Vec::new();
    let mut count = 0;
    for line in sources.lines() {
        let code = line
            .trim_start()
            .trim_start_matches("pub(super) ")
            .trim_start_matches("pub ");
        if let Some(rest) = code.strip_prefix("struct ") {
            let is_block = line.ends_with('{');
            within = rest.split([' ', '<', '(']).next().filter(|_| is_block);
        }
        if line.trim() == "}" {
            within = None;
        }
        let (Some(name), Some((field, kind))) = (within, code.split_once(": ")) else {
            continue;
        };
        let grows = KINDS.iter().any(|grown| kind.contains(grown)) && !kind.starts_with('&');
        if grows && !code.starts_with("//") {
            let place = format!("`{name}::{field}`");
            if !list.contains(&place) {
                missing.push(place);
            }
            count += 1;
        }
    }
    assert!(
        missing.is_empty(),
        "{missing:?} are not in src/limits/MEMORY.md"
    );
    assert!(count > 20, "{count} fields: the sources are parsed wrongly");
}

fn read_sources(path: &std::path::Path, sources: &mut String) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            read_sources(&entry.unwrap().path(), sources);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs")
        && !path.components().any(|part| part.as_os_str() == "target")
    {
        let text = std::fs::read_to_string(path).unwrap();
        // Fields of tests are not the server's.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_test =
            name.ends_with("tests.rs") || path.components().any(|p| p.as_os_str() == "tests");
        let replaced = if is_test { "test struct " } else { "struct " };
        sources.push_str(&text.replace("struct ", replaced));
        sources.push('\n');
    }
}
