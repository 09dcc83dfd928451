//! Templates of requests and messages: text with fields such as `{id}`, all of a fixed width.
//!
//! Used by `payload` for the text of a message and by `target` for requests. Fixed widths let a publisher
//! patch digits in a prepared request. Does no I/O.

/// Bytes of `{id}`: the run and the number, eight hexadecimal digits each, with a hyphen between them.
pub const ID_BYTES: usize = 17;

/// Bytes of `{time}`: microseconds since 1970, in decimal, until the year 2286.
pub const TIME_BYTES: usize = 16;

/// Hexadecimal digits of a session's number.
const SESSION_DIGITS: usize = 8;

/// The start of a session's name.
const SESSION_PREFIX: &str = "session-";

/// Bytes of `{session}`.
pub const SESSION_BYTES: usize = SESSION_PREFIX.len() + SESSION_DIGITS;

/// Where the digits of a session's number begin in its name.
pub const SESSION_DIGITS_AT: usize = SESSION_PREFIX.len();

/// A field of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The whole text of a message, as `--message-in` describes it.
    Message,
    /// The message's id: unique in all runs, the same width for all.
    Id,
    /// The time at which the message is due.
    Time,
    /// The session of a stream or of a message.
    Session,
    /// Bytes that fill the message up to its length.
    Filler,
}

/// The fields by their names.
const FIELDS: [(&str, Field); 5] = [
    ("message", Field::Message),
    ("id", Field::Id),
    ("time", Field::Time),
    ("session", Field::Session),
    ("filler", Field::Filler),
];

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text that stays as it is.
    Text(&'a str),
    /// A field.
    Field(Field),
}

/// Splits a template. Braces around anything but a lower-case word are text: JSON needs no escapes.
pub fn parts(template: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = template[at..].find('{') {
        let open = at + open;
        let name = &template[open + 1..];
        let length = name.bytes().take_while(u8::is_ascii_lowercase).count();
        at = open + 1;
        if length == 0 || name.as_bytes().get(length) != Some(&b'}') {
            continue;
        }
        let name = &name[..length];
        let field = FIELDS.iter().find(|(known, _)| *known == name);
        let (_, field) = field.ok_or_else(|| {
            format!("{{{name}}} is no field; the fields are {{message}}, {{id}}, {{time}}, {{session}} and {{filler}}")
        })?;
        if open > from {
            parts.push(Part::Text(&template[from..open]));
        }
        parts.push(Part::Field(*field));
        from = open + length + 2;
        at = from;
    }
    if from < template.len() {
        parts.push(Part::Text(&template[from..]));
    }
    Ok(parts)
}

/// Whether a template has a field.
pub fn has(template: &str, field: Field) -> bool {
    parts(template).is_ok_and(|parts| parts.contains(&Part::Field(field)))
}

/// The part of a body from its first field of a message to its last: how a message stands in an event, if the
/// server copies the body. `None` if there is no such field, or if the body has the whole message as one.
pub fn message_of(body: &str) -> Option<String> {
    let (mut message, mut between) = (None::<String>, String::new());
    for part in parts(body).ok()? {
        match part {
            Part::Field(Field::Message) => return None,
            Part::Field(field @ (Field::Id | Field::Time | Field::Filler)) => {
                let message = message.get_or_insert_default();
                message.push_str(&std::mem::take(&mut between));
                message.push_str(&named(field));
            }
            _ if message.is_none() => {}
            Part::Field(field) => between.push_str(&named(field)),
            Part::Text(text) => between.push_str(text),
        }
    }
    message
}

/// A field as it is written in a template.
fn named(field: Field) -> String {
    let name = FIELDS.iter().find(|(_, known)| *known == field);
    format!("{{{}}}", name.map_or("", |(name, _)| name))
}

/// The name of session `number`, of constant width.
pub fn session_name(number: u32) -> String {
    format!("{SESSION_PREFIX}{number:08x}")
}

/// Fills in the session, in a template that has no other field.
pub fn with_session(template: &str, session: u32) -> String {
    template.replace(&named(Field::Session), &session_name(session))
}

/// Fills in several sessions: the pair of the query that has the field is repeated. Without such a pair only the
/// first one is filled in; see [`repeats_session`].
pub fn with_sessions(template: &str, sessions: impl IntoIterator<Item = u32>) -> String {
    let mut sessions = sessions.into_iter();
    let first = with_session(template, sessions.next().unwrap_or_default());
    let Some(pair) = session_pair(template) else {
        return first;
    };
    sessions.fold(first, |url, session| {
        format!("{url}&{}", with_session(pair, session))
    })
}

/// Whether the session stands in the query, where it can be repeated.
pub fn repeats_session(template: &str) -> bool {
    session_pair(template).is_some()
}

/// The pair of a query that has the session.
fn session_pair(template: &str) -> Option<&str> {
    let (_, query) = template.split_once('?')?;
    query.split('&').find(|pair| has(pair, Field::Session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_json_stays_text() {
        let found = parts(r#"{"a":{},"b":"{message}{id}","c":{time}}"#).unwrap();
        let expected = [
            Part::Text(r#"{"a":{},"b":""#),
            Part::Field(Field::Message),
            Part::Field(Field::Id),
            Part::Text(r#"","c":"#),
            Part::Field(Field::Time),
            Part::Text("}"),
        ];
        assert_eq!(found, expected);
        assert_eq!(parts("").unwrap(), []);
        assert_eq!(parts("{{id}").unwrap()[1], Part::Field(Field::Id));
        assert!(parts("{sesion}").unwrap_err().contains("{session}"));
    }

    #[test]
    fn a_body_of_single_fields_shows_how_a_message_stands_in_an_event() {
        let of = |body| message_of(body).unwrap_or_default();
        assert_eq!(
            of(r#"{"n":"{id}","at":{time},"x":"{filler}"}"#),
            r#"{id}","at":{time},"x":"{filler}"#
        );
        assert_eq!(of("{id} {time}"), "{id} {time}");
        assert_eq!(message_of("data={message}"), None);
        assert_eq!(message_of("nothing"), None);
    }

    #[test]
    fn a_session_has_its_width() {
        assert_eq!(session_name(0xab), "session-000000ab");
        assert_eq!(session_name(0xab).len(), SESSION_BYTES);
        assert_eq!(with_session("/s?x={session}", 1), "/s?x=session-00000001");
    }

    #[test]
    fn several_sessions_are_pairs_of_the_query() {
        let url = with_sessions("/s?a=b&x={session}&c", [1, 2]);
        assert_eq!(url, "/s?a=b&x=session-00000001&c&x=session-00000002");
        assert_eq!(with_sessions("/s?a", []), "/s?a");
        assert!(repeats_session("/s?x={session}"));
        assert!(!repeats_session("/{session}?x"));
    }
}
