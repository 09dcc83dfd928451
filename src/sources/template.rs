//! Templates: the text of a message, and its session, from the values of a body.
//!
//! Called by `source` for each event, and by `file` when templates are read. A render is bounded by fuel
//! and by the size of its text. Templates read no file and include no other template. A missing member
//! prints nothing. A fault is a value, which the caller turns into a default text.

mod filters;
mod names;
mod slack;

use std::fmt;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, escape_formatter};

pub use self::names::unknown_name;
use crate::limits::{SESSION_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL};

/// What stands for the rest of a text that is cut.
const CUT: char = '…';

/// Compiled templates of one source, by name.
pub struct Templates {
    environment: Environment<'static>,
}

/// A template that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The line in the template, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Why a template gave no text. Never contains a value of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderFault {
    /// It took more than [`TEMPLATE_FUEL`].
    TooLong,
    /// It does something that its values do not allow, in this line of it.
    Failed {
        /// The kind of the fault.
        kind: ErrorKind,
        /// The line in the template, from 1; 0 if unknown.
        line: usize,
    },
    /// It printed nothing but white space.
    Blank,
}

impl fmt::Display for RenderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderFault::TooLong => {
                write!(f, "it takes too long, or makes too much text")
            }
            RenderFault::Failed { kind, line: 0 } => write!(f, "{kind}"),
            RenderFault::Failed { kind, line } => write!(f, "line {line} of it: {kind}"),
            RenderFault::Blank => write!(f, "it prints nothing"),
        }
    }
}

impl Templates {
    /// No templates yet. In their text a missing member prints nothing.
    pub fn new() -> Templates {
        Templates::with(UndefinedBehavior::Chainable)
    }

    /// No templates yet. A missing member is a fault: for a text that must not be made of less than its
    /// parts.
    pub fn strict() -> Templates {
        Templates::with(UndefinedBehavior::Strict)
    }

    fn with(undefined: UndefinedBehavior) -> Templates {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(undefined);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(TEMPLATE_FUEL));
        environment.set_formatter(|out, state, value| {
            if value.is_none() || value.is_undefined() {
                return Ok(());
            }
            escape_formatter(out, state, value)
        });
        filters::add(&mut environment);
        Templates { environment }
    }

    /// Compiles a template. Replaces one of the same name.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let what = format!("is longer than {TEMPLATE_BYTES_MAX} bytes");
            return Err(TemplateError { line: 1, what });
        }
        let added = self
            .environment
            .add_template_owned(name.to_owned(), text.to_owned());
        added.map_err(|error| TemplateError {
            line: error.line().unwrap_or(1),
            what: error
                .detail()
                .map_or_else(|| error.kind().to_string(), str::to_owned),
        })?;
        match unknown_name(&self.environment, text) {
            Some((line, what)) => Err(TemplateError { line, what }),
            None => Ok(()),
        }
    }

    /// Renders a template to a text of at most `bytes_max` bytes without control characters but newline.
    pub fn render(
        &self,
        name: &str,
        context: &Value,
        bytes_max: usize,
    ) -> Result<String, RenderFault> {
        let template = self.environment.get_template(name);
        let text = template
            .and_then(|template| template.render(context.clone()))
            .map_err(|error| match error.kind() {
                ErrorKind::OutOfFuel => RenderFault::TooLong,
                kind => RenderFault::Failed {
                    kind,
                    line: error.line().unwrap_or(0),
                },
            })?;
        let text = without_controls(&text);
        let text = text.trim();
        if text.is_empty() {
            return Err(RenderFault::Blank);
        }
        Ok(cut(text, bytes_max).into_owned())
    }
}

/// The values of a template: the members of the body, the whole body, and the message's label. The names
/// `source`, `event` and `body` are always these, also if the body has such members.
pub fn context(source: &str, event: &str, body: serde_json::Value) -> Value {
    let body = value_of(body);
    let members = body
        .as_object()
        .filter(|object| object.repr() == minijinja::value::ObjectRepr::Map);
    let mut pairs: Vec<(Value, Value)> = members
        .and_then(minijinja::value::DynObject::try_iter_pairs)
        .into_iter()
        .flatten()
        .collect();
    pairs.push((Value::from("source"), Value::from(source)));
    pairs.push((Value::from("event"), Value::from(event)));
    pairs.push((Value::from("body"), body));
    Value::from_pairs(pairs)
}

/// A value of JSON for templates. Null is undefined, so that a null member and a missing one are alike.
fn value_of(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::UNDEFINED,
        serde_json::Value::Bool(is) => Value::from(is),
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(values) => {
            Value::from(values.into_iter().map(value_of).collect::<Vec<_>>())
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::from_pairs(members.map(|(name, value)| (name, value_of(value))))
        }
        serde_json::Value::Number(number) => {
            match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => Value::from(number),
                (None, Some(number), _) => Value::from(number),
                (None, None, number) => Value::from(number.unwrap_or(f64::NAN)),
            }
        }
    }
}

/// Bytes up to which a session is rendered. A longer text is cut at a character of up to four bytes, and is
/// still too long then, so that it is noticed.
pub const SESSION_RENDER_BYTES_MAX: usize = SESSION_BYTES_MAX + 4;

/// The text without control characters. Newline stays, and a tab becomes a space.
fn without_controls(text: &str) -> String {
    let spaced = text.chars().map(|c| if c == '\t' { ' ' } else { c });
    spaced.filter(|&c| c == '\n' || !c.is_control()).collect()
}

/// The text, cut at a character to at most `bytes_max` bytes, with `…` at its end if it was cut.
pub fn cut(text: &str, bytes_max: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = boundary_below(text, bytes_max.saturating_sub(CUT.len_utf8()));
    format!("{}{CUT}", &text[..end]).into()
}

/// The last end of a character at or before an offset.
fn boundary_below(text: &str, offset: usize) -> usize {
    let ends = (0..=offset.min(text.len())).rev();
    ends.into_iter()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
