//! Finds names of filters, tests and functions that do not exist. minijinja notices them only when a
//! render reaches them, which for an operator is too late.
//!
//! Called when a template is added. Never decides what a template may do: it only looks for spelling.

use minijinja::{Environment, ErrorKind};

/// Words that may stand before a parenthesis without being a function.
const KEYWORDS: [&str; 10] = [
    "and", "elif", "else", "if", "in", "is", "loop", "not", "or", "set",
];

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Filter,
    Test,
    Function,
}

/// The line and the name of the first filter, test or function that does not exist.
pub fn unknown_name(environment: &Environment<'_>, text: &str) -> Option<(usize, String)> {
    let unknown = names(text)
        .into_iter()
        .find(|(_, kind, name)| !exists(environment, *kind, name));
    unknown.map(|(line, kind, name)| {
        let kind = match kind {
            Kind::Filter => "filter",
            Kind::Test => "test",
            Kind::Function => "function",
        };
        (line, format!("there is no {kind} {name}"))
    })
}

/// Tries the name in a template of its own. Missing arguments are another kind of error.
fn exists(environment: &Environment<'_>, kind: Kind, name: &str) -> bool {
    let (text, missing) = match kind {
        Kind::Filter => (format!("{{{{ ''|{name} }}}}"), ErrorKind::UnknownFilter),
        Kind::Test => (format!("{{{{ '' is {name} }}}}"), ErrorKind::UnknownTest),
        Kind::Function => (format!("{{{{ {name}() }}}}"), ErrorKind::UnknownFunction),
    };
    let error = environment.render_str(&text, ()).err();
    error.is_none_or(|error| error.kind() != missing)
}

/// The names in the tags of a template, outside of quotes, with their lines.
fn names(text: &str) -> Vec<(usize, Kind, &str)> {
    let mut names = Vec::new();
    let (mut line, mut in_tag, mut quote) = (1, false, None);
    // What stands before a word: the last visible character, and the last word if that ends it.
    let (mut before, mut word_before) = (' ', "");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut step = c.len_utf8();
        line += usize::from(c == '\n');
        match (in_tag, quote) {
            (false, _) => in_tag = rest.starts_with("{{") || rest.starts_with("{%"),
            (true, Some(_)) if c == '\\' => {
                step += rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            (true, Some(mark)) => quote = quote.filter(|_| c != mark),
            (true, None) if rest.starts_with("}}") || rest.starts_with("%}") => in_tag = false,
            (true, None) if c == '"' || c == '\'' => quote = Some(c),
            (true, None) if is_of_name(c) => {
                let word = word_at(rest);
                let behind = rest[word.len()..].trim_start();
                let kind = kind_of(word, before, word_before, behind);
                names.extend(kind.map(|kind| (line, kind, word)));
                (before, word_before, step) = (c, word, word.len());
            }
            (true, None) => (),
        }
        if !c.is_whitespace() && !is_of_name(c) {
            (before, word_before) = (c, "");
        }
        rest = &rest[step..];
    }
    names
}

fn kind_of(word: &str, before: char, word_before: &str, behind: &str) -> Option<Kind> {
    let is_word = word.starts_with(|c: char| !c.is_ascii_digit());
    match (before, word_before) {
        _ if !is_word => None,
        ('|', _) => Some(Kind::Filter),
        (_, word_before) if word_before == "is" || word_before.ends_with(" not") => {
            Some(Kind::Test)
        }
        ('.', _) => None,
        _ if KEYWORDS.contains(&word) => None,
        _ => behind.starts_with('(').then_some(Kind::Function),
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn word_at(text: &str) -> &str {
    let end = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
    // `is not` is one word: what follows is the name of a test.
    let rest = text[end..].trim_start();
    if &text[..end] == "is" && rest.starts_with("not") && !rest[3..].starts_with(is_of_name) {
        return &text[..text.len() - rest.len() + 3];
    }
    &text[..end]
}
