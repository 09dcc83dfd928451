//! Versions, defaults, bounds and measurements on pages.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hookcast::limits;

use crate::{BUS, OPERATING, files, read, root};

#[test]
fn the_readme_states_the_minimum_rust_version() {
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
fn the_table_of_settings_matches_the_flags() {
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
fn defaults_in_the_readme_match_the_flags() {
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
fn the_operators_page_states_the_memory_bound() {
    let bound = limits::memory_bytes_max(2, 20_000, 0, limits::BODY_BYTES_MAX_DEFAULT);
    let bus = limits::bus_memory_bytes_max(
        limits::BUS_HISTORY_MESSAGES_DEFAULT,
        limits::BODY_BYTES_MAX_DEFAULT,
    );
    let sources = limits::sources_memory_bytes_max(2, limits::SOURCE_BODY_BYTES_MAX_DEFAULT);
    let compression =
        limits::compression_memory_bytes_max(2, 20_000, limits::BODY_BYTES_MAX_DEFAULT);
    let bounds = [
        bound,
        limits::KV_MEMORY_BYTES_MAX,
        bus,
        sources,
        compression,
    ];
    let page = read(OPERATING);
    for bound in bounds {
        let figure = format!("**{} MiB**", bound.div_ceil(1024 * 1024));
        assert!(page.contains(&figure), "{OPERATING} lacks {figure}");
    }
    let figure = format!("**{} MiB**", bus.div_ceil(1024 * 1024));
    assert!(read(BUS).contains(&figure), "{BUS} lacks {figure}");
}

/// The rows of the README's benchmarks: the beginning of each, its case, and the column of that case.
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

/// A figure such as `11.0 M`, `5.5 s` or `20,116 B`, converted to the unit of a column of `comparison.md`.
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
fn benchmarks_in_the_readme_match_the_results() {
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
            // Rounded to two digits.
            let is_rounded = (stated / measured - 1.0).abs() < 0.03;
            assert!(is_rounded, "{begin}, {server}: {stated}, not {measured}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared} figures");
}

#[test]
fn the_size_of_the_chat_window_matches_its_page() {
    let chat = root().join("src/chat");
    let (mut plain, mut compressed) = (0, 0);
    for extension in ["html", "css", "js", "svg"] {
        for path in files(&chat, extension) {
            let bytes = std::fs::read(path).unwrap();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&bytes).unwrap();
            plain += bytes.len();
            compressed += encoder.finish().unwrap().len();
        }
    }
    let page = read("src/chat/README.md");
    for (bytes, unit) in [(plain, " KiB of HTML"), (compressed, " KiB compressed")] {
        let (before, _) = page.split_once(unit).expect(unit);
        let stated: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
        let is_near = (stated * 1024).abs_diff(bytes) < bytes / 10;
        assert!(is_near, "{stated}{unit}, not {}", bytes / 1024);
    }
}
