//! Whole requests to sources of every preset. Without the secret nothing gets a success, with it nothing is
//! refused for its signature, and one changed bit is noticed. Messages and answers stay within their bounds;
//! `source-check` says the same as the server, and shows no secret.
//!
//! The input: a byte for the preset, one for how the request is made, one for what is changed in it. Then text:
//! a line with the query, a line for each header field, an empty line, the body.

use std::fmt::Write as _;
use std::sync::OnceLock;

use hookcast::limits::{CHALLENGE_BYTES_MAX, HEADERS_MAX};
use hookcast::sources::explain::{Trial, check, path_of};
use hookcast::sources::{
    Fields, Incoming, Origin, Preset, Refusal, Reply, Source, Sources, Step, Unpublished, Verdict,
};

use crate::draft;
use crate::signer::{NOW_S, Signed, basic, sends_its_secret, sign};
use crate::sources_at_hand::{OWN_BODY_BYTES_MAX, STANDARD_SECRET_BASE64, TEXT_SECRET, sources};

const NOW_MS: u64 = NOW_S * 1000 + 250;

/// How a request is made of the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Making {
    /// As it is.
    Bare,
    /// With a right proof.
    Signed,
    /// With the proof of another body, or another secret.
    Forged,
}

pub fn run(bytes: &[u8]) {
    static SOURCES: OnceLock<Sources> = OnceLock::new();
    let sources = SOURCES.get_or_init(sources);
    let Some((&[preset, kind, place], text)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let preset = &Preset::all()[usize::from(preset) % Preset::all().len()];
    let making =
        [Making::Bare, Making::Signed, Making::Signed, Making::Forged][usize::from(kind & 3)];
    let suffix = ["", "-own", "-open", "-own"][usize::from((kind >> 2) & 3)];
    let source = sources.get(&format!("{}{suffix}", preset.name));
    let source = source.expect("all presets have three sources");
    // The fuzzer sees what is compared, and would find the secret.
    let has = |secret: &str| memchr::memmem::find(text, secret.as_bytes()).is_some();
    if has(TEXT_SECRET) || has(STANDARD_SECRET_BASE64) {
        return;
    }
    let Some((mut query, head, body)) = parts(text) else {
        return;
    };
    let mut lines: Vec<Vec<u8>> = head
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    lines.retain(|line| !line.is_empty());
    let mut body = body.to_vec();
    let proof = (making != Making::Bare).then(|| sign(preset.name, &mut lines, &mut query, &body));
    if making == Making::Forged {
        forge(preset.name, &mut lines, &mut query, &mut body, place);
    }

    let head = head_of(source, &lines);
    let Some(fields) = Fields::parse(&head) else {
        return;
    };
    let incoming = Incoming {
        query: query.as_deref(),
        fields: &fields,
        body: &body,
    };
    check_verdicts(source, &incoming, making);
    if let Some(reply) = source.preflight(&fields) {
        check_reply(&reply);
    }
    check_report(sources, source, &lines, &incoming, proof.as_ref());
}

/// The query, the header fields and the body.
fn parts(text: &[u8]) -> Option<(Option<String>, &[u8], &[u8])> {
    let line = text.iter().position(|&byte| byte == b'\n')?;
    let query = str::from_utf8(&text[..line]).ok()?;
    let is_visible = query.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = &text[line + 1..];
    let (head, body) = match rest.strip_prefix(b"\n") {
        Some(body) => (&rest[..0], body),
        None => {
            let end = memchr::memmem::find(rest, b"\n\n").unwrap_or(rest.len());
            (&rest[..end], rest.get(end + 2..).unwrap_or_default())
        }
    };
    is_visible.then(|| ((!query.is_empty()).then(|| query.to_owned()), head, body))
}

fn head_of(source: &Source, lines: &[Vec<u8>]) -> Vec<u8> {
    let mut head = format!("POST {} HTTP/1.1\r\n", path_of(source)).into_bytes();
    for line in lines {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Changes a bit of what is signed, or of a secret that is sent.
fn forge(
    preset: &str,
    lines: &mut [Vec<u8>],
    query: &mut Option<String>,
    body: &mut Vec<u8>,
    place: u8,
) {
    if !sends_its_secret(preset) {
        match body.len() {
            0 => body.push(place),
            bytes => body[usize::from(place) % bytes] ^= 1 << (place & 7),
        }
        return;
    }
    let other = TEXT_SECRET.to_uppercase();
    for line in lines {
        if let Ok(text) = str::from_utf8(line) {
            let text = text.replace(&basic(TEXT_SECRET), &basic(&other));
            *line = text.replace(TEXT_SECRET, &other).into_bytes();
        }
    }
    if let Some(query) = query {
        *query = query.replace(TEXT_SECRET, &other);
    }
}

fn check_verdicts(source: &Source, incoming: &Incoming<'_>, making: Making) {
    let verdict = source.receive(incoming, NOW_MS);
    let mut rendered = None;
    let explained = source.explain(incoming, NOW_MS, &mut |step| {
        if let Step::Rendered(text, origin) = step {
            rendered = Some((text.to_owned(), origin.clone()));
        }
    });
    assert_eq!(
        in_full(&verdict),
        in_full(&explained),
        "two verdicts on one request"
    );
    if source.name().ends_with("-own") && incoming.body.len() > OWN_BODY_BYTES_MAX {
        assert!(matches!(
            verdict,
            Verdict::Refuse(Refusal::BodyTooLarge { .. })
        ));
    }
    if !source.is_open() {
        match (making, &verdict) {
            (Making::Bare | Making::Forged, Verdict::Refuse(_)) => {}
            (Making::Bare | Making::Forged, _) => panic!("no right signature, but a success"),
            (Making::Signed, Verdict::Refuse(refusal)) => check_refusal_of_signed(source, refusal),
            (Making::Signed, _) => {}
        }
    }
    match &verdict {
        Verdict::Publish { draft, success } => {
            draft::check(source, draft);
            assert_eq!(
                draft.session.is_some(),
                source.name().ends_with("-own"),
                "another session than the file's"
            );
            check_reply(&success.reply());
            let (text, origin) = rendered.expect("a message has a text");
            assert_eq!(text, draft.content);
            if matches!(origin, Origin::File(_) | Origin::Preset(_)) {
                let is_plain = |c: char| c == '\n' || !c.is_control();
                assert!(text.chars().all(is_plain), "control characters: {text:?}");
            }
        }
        Verdict::Reply { reply, why } => {
            check_reply(reply);
            let has_session_of_body = source.name().ends_with("-own");
            assert!(*why != Unpublished::Unroutable || has_session_of_body);
        }
        Verdict::Refuse(refusal) => {
            assert!(Refusal::NAMES.contains(&refusal.name()));
            assert!([400, 401, 413, 415].contains(&refusal.status()));
        }
    }
}

/// A right proof is refused only for what it does not prove.
fn check_refusal_of_signed(source: &Source, refusal: &Refusal) {
    let is_in_body = match refusal {
        // Linear's time is a member of the body.
        Refusal::TimeMissing(_) | Refusal::TimeOutside { .. } => source.preset().name == "linear",
        Refusal::IdMalformed(_) => true,
        _ => refusal.status() != 401,
    };
    assert!(is_in_body, "a right request is refused: {refusal}");
}

fn check_reply(reply: &Reply) {
    assert!([200, 204].contains(&reply.status));
    assert!(reply.status != 204 || reply.body.is_empty());
    // JSON writes a byte of a challenge as six at most.
    assert!(reply.body.len() <= 6 * CHALLENGE_BYTES_MAX + 200);
    for (name, value) in &reply.fields {
        assert!(
            value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "{name}"
        );
    }
}

/// What `source-check` prints about the same request.
fn check_report(
    sources: &Sources,
    source: &Source,
    lines: &[Vec<u8>],
    incoming: &Incoming<'_>,
    proof: Option<&Signed>,
) {
    let texts = lines
        .iter()
        .map(|line| String::from_utf8(line.clone()).ok());
    let Some(headers) = texts.collect::<Option<Vec<String>>>() else {
        return;
    };
    let trial = Trial {
        query: incoming.query,
        headers: &headers,
        body: incoming.body,
    };
    let report = check(sources, source.name(), &trial, NOW_MS);
    let is_plain = |c: char| c == '\n' || !c.is_control();
    assert!(report.text.chars().all(is_plain), "{:?}", report.text);
    let has_controls = headers
        .iter()
        .any(|line| line.chars().any(char::is_control));
    if !has_controls && headers.len() <= HEADERS_MAX {
        let is_taken = match source.receive(incoming, NOW_MS) {
            Verdict::Refuse(_) => false,
            Verdict::Reply { why, .. } => why != Unpublished::Unroutable,
            Verdict::Publish { .. } => true,
        };
        assert_eq!(report.is_taken, is_taken, "{}", report.text);
    }
    let shown_body = without_controls(incoming.body);
    let is_in_request =
        |secret: &str| memchr::memmem::find(&shown_body, secret.as_bytes()).is_some();
    let tags = proof
        .iter()
        .flat_map(|proof| &proof.tags)
        .map(String::as_str);
    for secret in [TEXT_SECRET, STANDARD_SECRET_BASE64]
        .into_iter()
        .chain(tags)
    {
        let is_shown = report.text.contains(secret) && !is_in_request(secret);
        assert!(!is_shown, "shown: {secret}\n{}", report.text);
    }
    assert!(!source.expects().contains(TEXT_SECRET));
}

/// What a report can show of a body: forms are decoded, and control characters are left out.
fn without_controls(body: &[u8]) -> Vec<u8> {
    let decoded = percent_encoding::percent_decode(body).collect::<Vec<u8>>();
    let both = [body, &decoded].join(&b' ');
    // U+0080 to U+009F are control characters, too.
    let shown = String::from_utf8_lossy(&both);
    shown
        .chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .into_bytes()
}

/// A verdict with everything in it.
fn in_full(verdict: &Verdict) -> String {
    let mut text = format!("{verdict:?}");
    if let Verdict::Publish { draft, .. } = verdict {
        let identity = draft.identity.as_deref();
        let prints = identity.map(|it| (it.id, it.tag, it.body, it.window_s));
        let _ = write!(text, " {prints:?} {}", draft.content);
    }
    text
}
