//! The webhook's body: a JSON object with a `message` and perhaps a `sessionId`.
//!
//! Called by [`route`](super::route()). Reads the text once. Unknown members are skipped without being
//! built and without recursion, at any depth. JSON allows an escape of half a surrogate pair, which a
//! Rust string cannot hold; such a text is read a second time. Never trims or changes the message,
//! except that such halves are replaced.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_text;
use crate::message::{Draft, SessionId};

use super::error::ErrorAnswer;
use super::spelling;

/// Reads a webhook's body (RFC 8259).
///
/// The text must be UTF-8 throughout, and one object with only white space around it. A byte order mark
/// may precede it. A repeated `message` or `sessionId` is refused, because parsers differ in which one
/// counts. A misspelled `sessionId` is refused, because a message for one session would go to everyone.
pub fn parse_draft(body: &[u8]) -> Result<Draft, ErrorAnswer> {
    // The whole text is checked here, because serde_json does not check strings that it skips.
    let text = str::from_utf8(body).map_err(|_| ErrorAnswer::NotUtf8)?;
    let members = read_members(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    if members.is_misspelled {
        return Err(ErrorAnswer::SessionMisspelled);
    }

    let content = match members.message {
        Some(Value::Text(content)) if !is_blank(&content) => content,
        _ => return Err(ErrorAnswer::MessageRequired),
    };
    let session = match members.session_id {
        None | Some(Value::Null) => None,
        Some(Value::Text(id)) => SessionId::parse(&id).map_err(|_| ErrorAnswer::SessionTooLong)?,
        Some(Value::Other) => return Err(ErrorAnswer::SessionNotText),
    };
    Ok(Draft {
        session,
        content,
        label: None,
        identity: None,
    })
}

/// Whether the text has only white space: that of Unicode, and U+FEFF, which is white space in
/// ECMAScript (ECMA-262 section 12.2).
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}

fn read_members(text: &str) -> Result<Members<Value>, ErrorAnswer> {
    let strict: Result<Read<Name, Value>, _> = serde_json::from_str(text);
    if let Ok(read) = strict {
        return Ok(read.members);
    }
    let lenient: Read<LenientName, &RawValue> =
        serde_json::from_str(text).map_err(|_| ErrorAnswer::InvalidJson)?;
    let members = lenient.members;
    Ok(Members {
        message: members.message.map(Value::of),
        session_id: members.session_id.map(Value::of),
        is_misspelled: members.is_misspelled,
    })
}

/// The members that are used, if present.
struct Members<V> {
    message: Option<V>,
    session_id: Option<V>,
    /// The object has a misspelled `sessionId`.
    is_misspelled: bool,
}

/// The members, with names parsed as `N` and values parsed as `V`.
struct Read<N, V> {
    members: Members<V>,
    names: PhantomData<N>,
}

/// A value; only strings and `null` are distinguished.
enum Value {
    Text(String),
    Null,
    Other,
}

impl Value {
    fn of(json: &RawValue) -> Value {
        match json_text::decode(json) {
            Some(text) => Value::Text(text.into_owned()),
            None if json.get() == "null" => Value::Null,
            None => Value::Other,
        }
    }
}

/// A member's name.
enum Name {
    Message,
    SessionId,
    Misspelled,
    Other,
}

impl Name {
    fn of(name: &str) -> Name {
        match name {
            "message" => Name::Message,
            "sessionId" => Name::SessionId,
            _ if spelling::is_nearly(name.as_bytes(), "sessionId") => Name::Misspelled,
            _ => Name::Other,
        }
    }
}

/// A name that may hold half a surrogate pair.
struct LenientName(Name);

impl From<LenientName> for Name {
    fn from(name: LenientName) -> Name {
        name.0
    }
}

impl<'de> Deserialize<'de> for LenientName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LenientName, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        let name = json_text::decode(json).ok_or_else(|| D::Error::custom("no name"))?;
        Ok(LenientName(Name::of(&name)))
    }
}

impl<'de, N: Deserialize<'de> + Into<Name>, V: Deserialize<'de>> Deserialize<'de> for Read<N, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Read<N, V>, D::Error> {
        let names = PhantomData;
        let visitor = MembersVisitor::<N, V>(PhantomData);
        let members = deserializer.deserialize_map(visitor)?;
        Ok(Read { members, names })
    }
}

struct MembersVisitor<N, V>(PhantomData<(N, V)>);

impl<'de, N: Deserialize<'de> + Into<Name>, V: Deserialize<'de>> Visitor<'de>
    for MembersVisitor<N, V>
{
    type Value = Members<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
        let mut members = Members {
            message: None,
            session_id: None,
            is_misspelled: false,
        };
        while let Some(name) = map.next_key::<N>()? {
            let name = name.into();
            let member = match name {
                Name::Message => &mut members.message,
                Name::SessionId => &mut members.session_id,
                Name::Misspelled | Name::Other => {
                    members.is_misspelled |= matches!(name, Name::Misspelled);
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if member.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name::of(name))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(body: &str) -> Result<String, ErrorAnswer> {
        parse_draft(body.as_bytes()).map(|draft| draft.content)
    }

    #[test]
    fn a_message_is_not_changed() {
        for (body, expected) in [
            (r#"{"message":"hi"}"#, "hi"),
            (" \t\r\n{ \"message\" : \" hi\\n\" } \n", " hi\n"),
            (r#"{"message":"\u00e9\ud83d\ude00\u0000"}"#, "é😀\0"),
            (r#"{"m\u0065ssage":"hi"}"#, "hi"),
            (
                r#"{"a":1e999,"b":[{"message":"no"}],"message":"hi","c":"\ud800"}"#,
                "hi",
            ),
            (
                r#"{"Message":"no","message":"hi","session":"x","messagE":null}"#,
                "hi",
            ),
            (r#"{"\ud800":1,"message":"hi"}"#, "hi"),
            ("\u{feff}{\"message\":\"\u{feff}hi\"}", "\u{feff}hi"),
            (r#"{"a":1,"a":2,"message":"hi"}"#, "hi"),
        ] {
            assert_eq!(content(body).as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_text_that_is_not_one_object_is_invalid() {
        for body in [
            "",
            " ",
            "null",
            "[]",
            "\"message\"",
            "1",
            "{",
            "{}}",
            "{} {}",
            "{}x",
            "{,}",
            "hi",
            r#"{"message":"hi"}x"#,
            r#"{"message":"hi"},"#,
            r#"{"message":"hi",}"#,
            r#"{"message":"hi""#,
            r#"{"message":"hi"#,
            r"{'message':'hi'}",
            r#"{message:"hi"}"#,
            r#"[{"message":"hi"}]"#,
            "{\"message\":\"h\ni\"}",
            r#"{"message":"\x"}"#,
            "\u{feff}",
            "\u{feff}\u{feff}{\"message\":\"hi\"}",
            " \u{feff}{\"message\":\"hi\"}",
            "{\"message\":\"hi\"}\u{feff}",
            r#"{"message":"\ud800","message":"hi"}"#,
            "{\"a\nb\":1,\"message\":\"hi\"}",
            "{\"a\nb\":1,\"message\":\"\\ud800\"}",
            "{\"\\ud800\n\":1,\"message\":\"hi\"}",
            r#"{"message":"\ud800"} x"#,
            r#"{"message":"\ud800","a":01}"#,
            r#"{"message":"\ud80"}"#,
            r#"{"message":"\ud800\x"}"#,
            r#"{"message":"hi","a":[1,]}"#,
            r#"{"message":"hi","a":01}"#,
            r#"{"message":"hi","a":NaN}"#,
            r#"{"message":"hi","a"}"#,
            r#"{"message":"hi","message":"hi"}"#,
            r#"{"message":"hi","m\u0065ssage":"no"}"#,
            r#"{"message":1,"message":"hi"}"#,
            r#"{"message":"hi","sessionId":"a","sessionId":"b"}"#,
            r#"{"message":"hi","sessionId":null,"sessionId":"b"}"#,
            "{\"message\":\"hi\"}\0",
        ] {
            assert_eq!(content(body), Err(ErrorAnswer::InvalidJson), "{body}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let both = |body: &str| {
            parse_draft(body.as_bytes()).map(|draft| {
                let session = draft.session.map(|session| session.as_str().to_owned());
                (draft.content, session)
            })
        };
        let of = |content: &str, session: &str| {
            let session = (!session.is_empty()).then(|| session.to_owned());
            Ok((content.to_owned(), session))
        };
        for (body, expected) in [
            (r#"{"message":"\ud83d"}"#, of("\u{fffd}", "")),
            (
                r#" {"message":"a\ud83d\ud83d\ude00\n","sessionId":"\ude00b"} "#,
                of("a\u{fffd}😀\n", "\u{fffd}b"),
            ),
            (
                r#"{"sessionId":null,"message":"\udc00"}"#,
                of("\u{fffd}", ""),
            ),
            (
                r#"{"message":"x","sessionId":"\ud800","a":[{}]}"#,
                of("x", "\u{fffd}"),
            ),
            (r#"{"message":"\ud800","sessionId":""}"#, of("\u{fffd}", "")),
        ] {
            assert_eq!(both(body), expected, "{body}");
        }
        let long = format!(
            r#"{{"message":"x","sessionId":"\ud800{}"}}"#,
            "x".repeat(254)
        );
        for (body, error) in [
            (
                r#"{"message":"\ud800","sessionId":1}"#,
                ErrorAnswer::SessionNotText,
            ),
            (
                r#"{"message":1,"sessionId":"\ud800"}"#,
                ErrorAnswer::MessageRequired,
            ),
            (
                r#"{"message":"\ud800","session_id":"a"}"#,
                ErrorAnswer::SessionMisspelled,
            ),
            (&long, ErrorAnswer::SessionTooLong),
        ] {
            assert_eq!(both(body), Err(error), "{body}");
        }
    }

    #[test]
    fn a_misspelled_session_id_is_refused_with_any_value() {
        for name in [
            "session_id",
            "sessionID",
            "SessionId",
            "session-id",
            "sessionid",
            "sesionId",
            r"\u0073ession_id",
        ] {
            for value in [r#""a""#, "null", r#""""#, "1", r#"{"b":[]}"#] {
                for body in [
                    format!(r#"{{"message":"hi","{name}":{value}}}"#),
                    format!(r#"{{"{name}":{value},"message":"hi","sessionId":"a"}}"#),
                    format!(r#"{{"{name}":{value}}}"#),
                ] {
                    assert_eq!(
                        content(&body),
                        Err(ErrorAnswer::SessionMisspelled),
                        "{body}"
                    );
                }
            }
        }
        for body in [
            r#"{"message":"hi","a":{"session_id":"b"}}"#,
            r#"{"message":"hi","a":["session_id"]}"#,
            r#"{"message":"hi","session":"b"}"#,
        ] {
            assert_eq!(content(body).as_deref(), Ok("hi"), "{body}");
        }
    }

    #[test]
    fn invalid_utf8_is_an_error_anywhere_in_the_body() {
        for body in [
            &b"{\"message\":\"\xff\"}"[..],
            b"{\"message\":\"hi\",\"a\":\"\xff\"}",
            b"{\"message\":\"hi\",\"\xc3\":1}",
            b"{\"message\":\"\xed\xa0\x80\"}",
            b"{\"message\":\"\xc0\x80\"}",
            b"\xff\xfe{\0}\0",
            b"\xef\xbb{\"message\":\"hi\"}",
            b"\xff",
        ] {
            assert_eq!(parse_draft(body), Err(ErrorAnswer::NotUtf8), "{body:?}");
        }
    }

    #[test]
    fn a_message_is_required_and_not_blank() {
        for body in [
            "{}",
            r#"{"message":null}"#,
            r#"{"message":1}"#,
            r#"{"message":-1.5}"#,
            r#"{"message":true}"#,
            r#"{"message":["hi"]}"#,
            r#"{"message":{"a":["hi"]}}"#,
            r#"{"message":""}"#,
            r#"{"message":" \t\r\n"}"#,
            r#"{"message":"\u00a0\u2003\u3000"}"#,
            r#"{"message":"\ufeff"}"#,
            r#"{"message":"\u2028\u0085"}"#,
            r#"{"sessionId":1}"#,
        ] {
            assert_eq!(content(body), Err(ErrorAnswer::MessageRequired), "{body}");
        }
        assert_eq!(
            content(r#"{"message":"\u200b"}"#).as_deref(),
            Ok("\u{200b}"),
            "not white space"
        );
    }

    #[test]
    fn a_session_is_a_string_or_absent() {
        let session = |value: &str| {
            let body = format!(r#"{{"message":"hi","sessionId":{value}}}"#);
            parse_draft(body.as_bytes())
                .map(|draft| draft.session.map(|session| session.as_str().to_owned()))
        };
        let longest = "x".repeat(256);
        assert_eq!(session("null"), Ok(None));
        assert_eq!(session(r#""""#), Ok(None));
        assert_eq!(session(r#""a b""#), Ok(Some("a b".into())));
        assert_eq!(session(&format!("{longest:?}")), Ok(Some(longest.clone())));
        assert_eq!(
            session(&format!("\"{longest}x\"")),
            Err(ErrorAnswer::SessionTooLong)
        );
        assert_eq!(
            session(&format!("{:?}", "é".repeat(129))),
            Err(ErrorAnswer::SessionTooLong)
        );
        for value in [
            "1",
            "0.5",
            "-3",
            "true",
            "false",
            "[]",
            "{}",
            r#"["a"]"#,
            r#"{"a":"b"}"#,
        ] {
            assert_eq!(session(value), Err(ErrorAnswer::SessionNotText), "{value}");
        }
    }

    /// The deepest nesting that fits a body, in a skipped member and in one that is used.
    #[test]
    fn deep_nesting_takes_no_stack() {
        let depth = crate::limits::BODY_BYTES_MAX_LIMIT / 2 - 32;
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let body = format!(r#"{{"message":"hi","a":{open}{close}}}"#);
        assert_eq!(content(&body).as_deref(), Ok("hi"));
        let body = format!(r#"{{"message":{open}{close}}}"#);
        assert_eq!(content(&body), Err(ErrorAnswer::MessageRequired));
        let open = r#"{"a":"#.repeat(depth / 4);
        let body = format!(
            r#"{{"message":"hi","sessionId":{open}1{}}}"#,
            "}".repeat(depth / 4)
        );
        assert_eq!(content(&body), Err(ErrorAnswer::SessionNotText));
        assert_eq!(content(&open), Err(ErrorAnswer::InvalidJson));
    }

    #[test]
    fn debug_output_shows_no_content() {
        let draft = parse_draft(br#"{"message":"private","sessionId":"topsecret"}"#).unwrap();
        let text = format!("{draft:?}");
        assert!(
            !text.contains("private") && !text.contains("topsecret"),
            "{text}"
        );
    }
}
