//! Links and paths of all pages, and the length of the README.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::{files, read, root};

const README_LINES_MAX: usize = 250;

/// The text of a page without code blocks, in which `#` and `](` mean nothing.
pub struct Page {
    pub prose: String,
}

impl Page {
    pub fn new(text: &str) -> Self {
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

    /// The anchors of the headings, as GitHub makes them.
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

    /// The targets of links and pictures.
    fn links(&self) -> Vec<&str> {
        let targets = self.prose.split("](").skip(1);
        targets
            .map(|rest| rest.split_once(')').expect("a link ends").0)
            .collect()
    }

    /// Texts in backticks that look like paths of the repository.
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

/// All pages by their path from the root.
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

/// The page and the anchor of a link on the page `from`; a directory stands for its README.
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
fn every_link_has_a_file_and_a_heading() {
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
    assert!(count > 50, "{count} links: the pages are parsed wrongly");
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
fn every_page_is_linked_from_the_readme() {
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
