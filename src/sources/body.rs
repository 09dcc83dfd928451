//! The body of a request to a source, decoded: gzip, then JSON, a form, or text.
//!
//! Called by `source` after the request is verified. Never fails for a body that is not what its content
//! type says: that body is text. Bounded: an inflated body by size and ratio, JSON by its number of
//! values and its depth, a form by its number of fields.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::GzDecoder;
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use crate::limits::{BODY_FORM_FIELDS_MAX, BODY_JSON_VALUES_MAX, GZIP_MEMBERS_MAX, GZIP_RATIO_MAX};

/// The field of a form whose value is the JSON event: GitHub, Gitea, and interactions of Slack.
const FORM_PAYLOAD: &str = "payload";

/// A decoded body.
#[derive(Debug)]
pub struct Body<'a> {
    /// The bytes, inflated.
    pub bytes: Cow<'a, [u8]>,
    /// What they hold. Null for bytes that are no text.
    pub value: Value,
    /// How they were understood.
    pub form: BodyForm,
}

/// How the bytes of a body were understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// JSON.
    Json,
    /// Fields, as a browser sends a form.
    Form,
    /// A form whose field `payload` is JSON.
    FormPayload,
    /// Text; also JSON that is damaged or has too many values.
    Text,
    /// Bytes that are not UTF-8.
    Binary,
}

impl BodyForm {
    /// The form in words, for `source-check`.
    pub fn name(self) -> &'static str {
        match self {
            BodyForm::Json => "JSON",
            BodyForm::Form => "a form",
            BodyForm::FormPayload => "a form with JSON in its field payload",
            BodyForm::Text => "text",
            BodyForm::Binary => "bytes that are not UTF-8",
        }
    }
}

/// A body that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// A content coding other than gzip, or gzip where the source does not allow it.
    Encoding,
    /// Not a whole gzip stream.
    Gzip,
    /// Inflated, the body is over the source's bound.
    TooLarge,
    /// Inflated, the body is over [`GZIP_RATIO_MAX`] times its size.
    Ratio,
}

/// The bounds of a source.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    /// Largest body in bytes, inflated.
    pub bytes_max: usize,
    /// Whether the body may be compressed with gzip.
    pub allows_gzip: bool,
}

/// Decodes a body with the given `Content-Encoding` and `Content-Type`.
pub fn decode<'a>(
    bytes: &'a [u8],
    encoding: Option<&[u8]>,
    content_type: Option<&[u8]>,
    bounds: BodyBounds,
) -> Result<Body<'a>, BodyFault> {
    let bytes = inflate(bytes, encoding, bounds)?;
    let (value, form) = match std::str::from_utf8(&bytes) {
        Ok(text) => understand(text, is_form(content_type)),
        Err(_) => (Value::Null, BodyForm::Binary),
    };
    Ok(Body { bytes, value, form })
}

fn inflate<'a>(
    bytes: &'a [u8],
    encoding: Option<&[u8]>,
    bounds: BodyBounds,
) -> Result<Cow<'a, [u8]>, BodyFault> {
    let encoding = encoding.unwrap_or_default().trim_ascii();
    let is_gzip = [b"gzip".as_slice(), b"x-gzip"]
        .iter()
        .any(|name| encoding.eq_ignore_ascii_case(name));
    if encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity") {
        return Ok(Cow::Borrowed(bytes));
    }
    if !is_gzip || !bounds.allows_gzip {
        return Err(BodyFault::Encoding);
    }
    let bytes_max = bounds
        .bytes_max
        .min(bytes.len().saturating_mul(GZIP_RATIO_MAX));
    match inflated(bytes, bytes_max) {
        None => Err(BodyFault::Gzip),
        Some(inflated) if inflated.len() > bounds.bytes_max => Err(BodyFault::TooLarge),
        Some(inflated) if inflated.len() > bytes_max => Err(BodyFault::Ratio),
        Some(inflated) => Ok(Cow::Owned(inflated)),
    }
}

/// Inflates the members of a gzip stream, up to one byte more than `bytes_max`: it tells a body of the largest
/// size from a larger one. `None` for a damaged stream, or one of too many members.
fn inflated(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let mut rest = bytes;
    for _ in 0..GZIP_MEMBERS_MAX {
        let room = bytes_max + 1 - inflated.len();
        let mut member = GzDecoder::new(rest).take(room as u64);
        member.read_to_end(&mut inflated).ok()?;
        rest = member.into_inner().into_inner();
        if rest.is_empty() || inflated.len() > bytes_max {
            return Some(inflated);
        }
    }
    None
}

/// The value of a text. `curl -d` sends JSON under a form's content type, and some providers send it as
/// `text/plain`: an object or an array is JSON whatever its content type is.
fn understand(text: &str, is_form: bool) -> (Value, BodyForm) {
    let may_be_json = !is_form || text.trim_start().starts_with(['{', '[']);
    if may_be_json && let Some(value) = json(text) {
        return (value, BodyForm::Json);
    }
    if is_form && let Some(fields) = form(text) {
        let payload = fields.get(FORM_PAYLOAD).and_then(Value::as_str);
        return match payload.and_then(json).filter(is_container) {
            Some(value) => (value, BodyForm::FormPayload),
            None => (Value::Object(fields), BodyForm::Form),
        };
    }
    (Value::String(text.to_owned()), BodyForm::Text)
}

/// Parses JSON, if it has at most [`BODY_JSON_VALUES_MAX`] values. `serde_json` bounds the depth: 128.
pub fn json(text: &str) -> Option<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if json_values(text.as_bytes()) > BODY_JSON_VALUES_MAX {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// An upper bound of the number of values: every value but the first follows one of these characters.
fn json_values(bytes: &[u8]) -> usize {
    let mut in_string = false;
    let mut is_escaped = false;
    let mut count = 1;
    for &byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => (),
        }
    }
    count
}

fn is_container(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn is_form(content_type: Option<&[u8]>) -> bool {
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(|&byte| byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

/// The fields of a form, as a browser understands them: `+` is a space, a bad percent sign stays, and bytes
/// that are not UTF-8 become U+FFFD. The values of a repeated field are an array. `None` for a text
/// without fields, or with over [`BODY_FORM_FIELDS_MAX`].
fn form(text: &str) -> Option<Map<String, Value>> {
    let fields = text.split('&').filter(|field| !field.is_empty());
    let mut form = Map::new();
    for (index, field) in fields.enumerate() {
        if index == BODY_FORM_FIELDS_MAX {
            return None;
        }
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = Value::String(form_text(value));
        match form.get_mut(&form_text(name)) {
            None => drop(form.insert(form_text(name), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    (text.contains('=') && !form.is_empty()).then_some(form)
}

fn form_text(encoded: &str) -> String {
    let spaced = encoded.replace('+', " ");
    percent_decode(spaced.as_bytes())
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    const FORM: Option<&[u8]> = Some(b"application/x-www-form-urlencoded; charset=utf-8");
    const BOUNDS: BodyBounds = BodyBounds {
        bytes_max: 1024 * 1024,
        allows_gzip: true,
    };

    fn decoded(bytes: &[u8], content_type: Option<&[u8]>) -> (Value, BodyForm) {
        let body = decode(bytes, None, content_type, BOUNDS).unwrap();
        (body.value, body.form)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded_gzip(bytes: &[u8], bounds: BodyBounds) -> Result<Vec<u8>, BodyFault> {
        decode(bytes, Some(b"gzip"), None, bounds).map(|body| body.bytes.into_owned())
    }

    #[test]
    fn json_is_recognised_under_any_content_type() {
        for content_type in [
            None,
            Some(b"application/json".as_slice()),
            Some(b"text/plain"),
            FORM,
        ] {
            let (value, form) = decoded(b" {\"a\": [1, null]}", content_type);
            assert_eq!((value, form), (json!({"a": [1, null]}), BodyForm::Json));
        }
        assert_eq!(decoded("\u{feff}{}".as_bytes(), None).1, BodyForm::Json);
        assert_eq!(decoded(b"5", None), (json!(5), BodyForm::Json));
    }

    #[test]
    fn a_body_that_is_not_what_it_says_is_text() {
        for text in ["{\"a\":", "", "hello", "{} {}", "{\"a\":1}}"] {
            assert_eq!(
                decoded(text.as_bytes(), Some(b"application/json")),
                (json!(text), BodyForm::Text)
            );
        }
        assert_eq!(decoded(b"\xff\xfe", None), (Value::Null, BodyForm::Binary));
        assert_eq!(decoded(b"just text", FORM).1, BodyForm::Text);
    }

    #[test]
    fn fields_of_forms_are_decoded() {
        let cases = [
            ("a=1&b=x+y%21", json!({"a": "1", "b": "x y!"})),
            ("a=1&a=2&a=3", json!({"a": ["1", "2", "3"]})),
            ("a&b=&&=c", json!({"a": "", "b": "", "": "c"})),
            // A bad percent sign stays, and bytes that are not UTF-8 are replaced.
            (
                "a=100%&b=%zz&c=%f&d=%ff",
                json!({"a": "100%", "b": "%zz", "c": "%f", "d": "\u{fffd}"}),
            ),
            ("payload=notjson", json!({"payload": "notjson"})),
            ("payload=5", json!({"payload": "5"})),
            (
                "payload=%7B%7D&payload=%7B%7D",
                json!({"payload": ["{}", "{}"]}),
            ),
            ("text=a=b", json!({"text": "a=b"})),
        ];
        for (text, expected) in cases {
            assert_eq!(
                decoded(text.as_bytes(), FORM),
                (expected, BodyForm::Form),
                "{text}"
            );
        }
    }

    #[test]
    fn the_field_payload_is_the_event() {
        let text = "x=1&payload=%7B%22ref%22%3A%22a+b%22%7D";
        let expected = (json!({"ref": "a b"}), BodyForm::FormPayload);
        assert_eq!(decoded(text.as_bytes(), FORM), expected);
    }

    #[test]
    fn forms_of_too_many_fields_are_text() {
        let fields = |count: usize| vec!["a=1"; count].join("&");
        assert_eq!(
            decoded(fields(BODY_FORM_FIELDS_MAX).as_bytes(), FORM).1,
            BodyForm::Form
        );
        assert_eq!(
            decoded(fields(BODY_FORM_FIELDS_MAX + 1).as_bytes(), FORM).1,
            BodyForm::Text
        );
    }

    #[test]
    fn json_is_bounded_in_depth_and_values() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(decoded(nested(100).as_bytes(), None).1, BodyForm::Json);
        assert_eq!(decoded(nested(200).as_bytes(), None).1, BodyForm::Text);
        assert_eq!(decoded(nested(500_000).as_bytes(), None).1, BodyForm::Text);

        let values = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert_eq!(
            decoded(values(BODY_JSON_VALUES_MAX - 1).as_bytes(), None).1,
            BodyForm::Json
        );
        assert_eq!(
            decoded(values(BODY_JSON_VALUES_MAX).as_bytes(), None).1,
            BodyForm::Text
        );
        // Commas in a text are no values.
        let text = format!(
            "{{\"a\":\"{}\\\"{}\"}}",
            ",".repeat(400_000),
            "[{".repeat(100_000)
        );
        assert_eq!(decoded(text.as_bytes(), None).1, BodyForm::Json);
    }

    #[test]
    fn gzip_is_inflated_only_where_it_is_allowed() {
        let body = gzip(b"{\"a\":1}");
        assert_eq!(decoded_gzip(&body, BOUNDS), Ok(b"{\"a\":1}".to_vec()));
        let refuses = BodyBounds {
            allows_gzip: false,
            ..BOUNDS
        };
        assert_eq!(decoded_gzip(&body, refuses), Err(BodyFault::Encoding));
        for encoding in ["br", "gzip, gzip", "deflate", "gzip;q=1"] {
            let fault = decode(&body, Some(encoding.as_bytes()), None, BOUNDS).unwrap_err();
            assert_eq!(fault, BodyFault::Encoding, "{encoding}");
        }
        for encoding in ["", "identity", " Identity "] {
            assert!(decode(b"{}", Some(encoding.as_bytes()), None, refuses).is_ok());
        }
        assert!(decode(&body, Some(b"X-GZip"), None, BOUNDS).is_ok());
    }

    #[test]
    fn gzip_is_bounded_by_size_and_ratio() {
        let bound = |bytes_max| BodyBounds {
            bytes_max,
            ..BOUNDS
        };
        let noise: Vec<u8> = (0..3000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let body = gzip(&noise);
        assert_eq!(decoded_gzip(&body, bound(3000)), Ok(noise));
        assert_eq!(decoded_gzip(&body, bound(2999)), Err(BodyFault::TooLarge));

        let bomb = gzip(&vec![b'a'; 64 * 1024 * 1024]);
        assert_eq!(
            decoded_gzip(&bomb, bound(1024 * 1024)),
            Err(BodyFault::TooLarge)
        );
        let small_bomb = gzip(&vec![b'a'; 100_000]);
        assert!(small_bomb.len() * GZIP_RATIO_MAX < 100_000);
        assert_eq!(decoded_gzip(&small_bomb, BOUNDS), Err(BodyFault::Ratio));
        // A bomb in a bomb stays packed.
        let nested = gzip(&gzip(&vec![b'a'; 1024 * 1024]));
        assert!(decoded_gzip(&nested, BOUNDS).is_ok_and(|inner| inner.starts_with(b"\x1f\x8b")));
    }

    #[test]
    fn damaged_gzip_is_refused() {
        let body = gzip(b"{\"a\": \"some text\"}");
        let mut flipped = body.clone();
        let crc = body.len() - 8;
        flipped[crc] ^= 1;
        let trailed = [body.as_slice(), b"x"].concat();
        for bytes in [
            &body[..body.len() - 1],
            &body[..10],
            b"",
            b"{}",
            &flipped,
            &trailed,
        ] {
            assert_eq!(
                decoded_gzip(bytes, BOUNDS),
                Err(BodyFault::Gzip),
                "{bytes:?}"
            );
        }
        // Two members are one text (RFC 1952 section 2.2).
        let members = [gzip(b"{\"a\""), gzip(b":1}")].concat();
        assert_eq!(decoded_gzip(&members, BOUNDS), Ok(b"{\"a\":1}".to_vec()));
    }

    /// An empty member takes 20 bytes and 5 us, so a body of 16 MiB would keep the thread busy for 4 s.
    #[test]
    fn gzip_has_few_members() {
        let members = |count: usize| [gzip(b"").repeat(count - 1), gzip(b"{}")].concat();
        assert_eq!(decoded_gzip(&members(64), BOUNDS), Ok(b"{}".to_vec()));
        assert_eq!(decoded_gzip(&members(65), BOUNDS), Err(BodyFault::Gzip));
        assert_eq!(decoded_gzip(&members(50_000), BOUNDS), Err(BodyFault::Gzip));
        // The bounds are those of all members together.
        let noise: Vec<u8> = (0..600u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let bounds = BodyBounds {
            bytes_max: 1199,
            ..BOUNDS
        };
        assert_eq!(
            decoded_gzip(&gzip(&noise).repeat(2), bounds),
            Err(BodyFault::TooLarge)
        );
        let bomb = gzip(&vec![b'a'; 30_000]).repeat(20);
        assert_eq!(decoded_gzip(&bomb, BOUNDS), Err(BodyFault::Ratio));
    }
}
