//! Which template makes the text of an event: the operator's, or the preset's.
//!
//! Called by a source for each event, and by `file` when a source is made. Never fails for an event: an
//! unknown one gets the default text.

use std::fmt;

use minijinja::value::Value;

use super::defaults;
use super::pattern::Pattern;
use super::template::{RenderFault, TemplateError, Templates};

/// The name of the template for events without one.
pub const DEFAULT: &str = "default";

/// The templates of one source.
pub struct Texts {
    templates: Templates,
    /// The operator's, then the preset's.
    groups: [Group; 2],
}

/// Templates of one author.
#[derive(Default)]
struct Group {
    /// Names in `templates`, by the events that they are for.
    by_event: Vec<(Pattern, String)>,
    /// The name of the one for events without a template.
    default: Option<String>,
}

/// Where a text is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A template of the operator's file, by its name there.
    File(String),
    /// A template of the preset, by its name there.
    Preset(String),
    /// The body as it came.
    Body,
    /// The source's name and the event's type.
    Plain,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(name) => write!(f, "the file's template {name:?}"),
            Origin::Preset(name) => write!(f, "the preset's template {name:?}"),
            Origin::Body => write!(f, "the body as it came"),
            Origin::Plain => write!(f, "the source and the event's type"),
        }
    }
}

impl Texts {
    /// The default templates of a preset.
    pub fn of_preset(preset: &str) -> Texts {
        let mut texts = Texts {
            templates: Templates::new(),
            groups: [Group::default(), Group::default()],
        };
        for (name, text) in defaults::of(preset) {
            let added = texts.add_to(1, name, text);
            debug_assert_eq!(added, Ok(()), "{preset} {name}");
        }
        texts
    }

    /// Adds a template of the operator's file, by the pattern of its events or `default`.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        self.add_to(0, name, text)
    }

    fn add_to(&mut self, index: usize, name: &str, text: &str) -> Result<(), TemplateError> {
        let Some(pattern) = Pattern::parse(name) else {
            let what =
                "is no name of an event: write push, pull_request.*, * or default".to_owned();
            return Err(TemplateError { line: 1, what });
        };
        let key = key_of(index, name);
        self.templates.add(&key, text)?;
        let group = &mut self.groups[index];
        if name == DEFAULT {
            group.default = Some(key);
        } else {
            group.by_event.push((pattern, key));
        }
        Ok(())
    }

    /// Whether there are none, so that a message is the body as it came.
    pub fn is_empty(&self) -> bool {
        self.groups
            .iter()
            .all(|group| group.by_event.is_empty() && group.default.is_none())
    }

    /// The text of an event with its origin, and the fault of each template that gave none. `None`: no
    /// template gives one.
    pub fn render(
        &self,
        event: &str,
        context: &Value,
        bytes_max: usize,
        on_fault: &mut dyn FnMut(Origin, RenderFault),
    ) -> Option<(String, Origin)> {
        let by_event = self.groups.iter().find_map(|group| group.best(event));
        let default = self
            .groups
            .iter()
            .find_map(|group| group.default.as_deref());
        let names = by_event.into_iter().chain(default);
        for name in names {
            match self.templates.render(name, context, bytes_max) {
                Ok(text) => return Some((text, origin_of(name))),
                Err(fault) => on_fault(origin_of(name), fault),
            }
        }
        None
    }
}

impl Group {
    /// The template that says most about an event.
    fn best(&self, event: &str) -> Option<&str> {
        let matching = self
            .by_event
            .iter()
            .filter(|(pattern, _)| pattern.matches(event));
        let best = matching.max_by_key(|(pattern, _)| pattern.weight());
        best.map(|(_, name)| name.as_str())
    }
}

fn key_of(index: usize, name: &str) -> String {
    let group = ["file", "preset"][index];
    format!("{group}:{name}")
}

fn origin_of(key: &str) -> Origin {
    match key.split_once(':') {
        Some(("file", name)) => Origin::File(name.to_owned()),
        Some((_, name)) => Origin::Preset(name.to_owned()),
        None => Origin::Plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::template::context;
    use super::*;

    fn origin(texts: &Texts, event: &str) -> (Option<Origin>, Vec<Origin>) {
        let mut faults = Vec::new();
        let context = context("hub", event, json!({"a": 1}));
        let text = texts.render(event, &context, 1000, &mut |origin, _| faults.push(origin));
        (text.map(|(_, origin)| origin), faults)
    }

    fn file(name: &str) -> Origin {
        Origin::File(name.to_owned())
    }

    #[test]
    fn the_template_that_says_most_is_taken() {
        let mut texts = Texts::of_preset("hmac");
        assert!(texts.is_empty());
        for name in [
            "push",
            "pull_request.*",
            "pull_request.opened",
            "p*",
            "default",
        ] {
            texts.add(name, name).unwrap();
        }
        let cases = [
            ("push", "push"),
            ("pull_request.opened", "pull_request.opened"),
            ("pull_request.closed", "pull_request.*"),
            ("ping", "p*"),
            ("other", "default"),
            ("", "default"),
        ];
        for (event, name) in cases {
            assert_eq!(origin(&texts, event), (Some(file(name)), vec![]), "{event}");
        }
    }

    #[test]
    fn a_failing_template_gives_way_to_the_default() {
        let mut texts = Texts::of_preset("hmac");
        texts.add("push", "{{ 1 / 0 }}").unwrap();
        assert_eq!(origin(&texts, "push"), (None, vec![file("push")]));
        texts.add("default", "text").unwrap();
        assert_eq!(
            origin(&texts, "push"),
            (Some(file("default")), vec![file("push")])
        );
        texts.add("default", "{{ missing }}").unwrap();
        assert_eq!(
            origin(&texts, "push"),
            (None, vec![file("push"), file("default")])
        );
        assert_eq!(origin(&texts, "other"), (None, vec![file("default")]));
    }

    #[test]
    fn templates_of_the_file_come_before_those_of_the_preset() {
        let mut texts = Texts::of_preset("github");
        let (of_preset, _) = origin(&texts, "push");
        assert!(
            matches!(of_preset, Some(Origin::Preset(_))),
            "{of_preset:?}"
        );
        texts.add("default", "d").unwrap();
        // The preset knows this event, so the file's default is not for it.
        assert_eq!(origin(&texts, "push").0, of_preset);
        assert_eq!(origin(&texts, "unheard_of").0, Some(file("default")));
        texts.add("*", "all").unwrap();
        assert_eq!(origin(&texts, "push").0, Some(file("*")));
    }
}
