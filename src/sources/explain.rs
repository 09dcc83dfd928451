//! The texts of `source-check` and `source-list`.
//!
//! Called by the command line. A check shows each step of a request, as the server would take it, and
//! publishes nothing. Never shows a secret or a signature.

use std::fmt::Write as _;

use super::escape::escaped;
use super::{
    Fields, Incoming, Refusal, Reply, Source, Sources, Step, Success, Unpublished, Verdict,
    Verified,
};
use crate::limits::{CHECK_TEXT_CHARS_MAX, HEADERS_MAX};
use crate::message::{Draft, Identity};

/// The path of each source, up to its name.
pub const PATH_PREFIX: &str = "/api/webhook/in/";

/// A request to try.
pub struct Trial<'a> {
    /// What follows `?` in the address.
    pub query: Option<&'a str>,
    /// Header fields, `Name: value` each.
    pub headers: &'a [String],
    /// The body.
    pub body: &'a [u8],
}

/// What became of it.
#[derive(Debug)]
pub struct Report {
    /// Lines for the operator.
    pub text: String,
    /// Whether the provider gets a success, and no message is lost.
    pub is_taken: bool,
}

/// How a step went.
#[derive(Clone, Copy)]
enum Mark {
    Ok,
    Note,
    Failed,
}

/// Tries a request.
pub fn check(sources: &Sources, name: &str, trial: &Trial<'_>, now_unix_ms: u64) -> Report {
    let mut lines = Lines(String::new());
    let is_taken = match sources.get(name) {
        Some(source) => check_source(source, trial, now_unix_ms, &mut lines),
        None => {
            lines.add("source", Mark::Failed, &unknown(sources, name));
            false
        }
    };
    Report {
        text: lines.0,
        is_taken,
    }
}

/// The address of each source, and what it expects. `public_url`: how providers reach the server, such as
/// `https://hooks.example`.
pub fn list(sources: &Sources, public_url: Option<&str>) -> String {
    let mut text = String::new();
    let base = public_url.map_or("", |url| url.trim_end_matches('/'));
    for source in sources.iter() {
        let _ = writeln!(
            text,
            "{}\n  address   {base}{}",
            source.name(),
            path_of(source)
        );
        let preset = source.preset();
        let _ = writeln!(text, "  preset    {} ({})", preset.name, preset.title);
        let verified = match (source.is_open(), source.keys.len()) {
            (true, _) => "no: everybody who knows the address may publish".to_owned(),
            (false, 1) => "yes, by one secret".to_owned(),
            (false, many) => format!("yes, by any of {many} secrets"),
        };
        let _ = writeln!(text, "  verified  {verified}");
        if !source.is_open() {
            let _ = writeln!(text, "  expects   {}", escaped(&source.expects()));
        }
    }
    match (sources.is_empty(), public_url) {
        (true, _) => text.push_str("The file has no sources.\n"),
        (false, None) => text.push_str(
            "\nAt the provider, write https:// and the public name of this server before the path.\n",
        ),
        (false, Some(_)) => (),
    }
    text
}

/// The path of a source.
pub fn path_of(source: &Source) -> String {
    format!("{PATH_PREFIX}{}", source.name())
}

fn unknown(sources: &Sources, name: &str) -> String {
    let names: Vec<&str> = sources.iter().map(Source::name).collect();
    match (sources.nearest(name), names.is_empty()) {
        (_, true) => "the file has no sources".to_owned(),
        (Some(nearest), _) => format!("there is no source {name:?}, did you mean {nearest}?"),
        (None, _) => format!(
            "there is no source {name:?}; there are {}",
            names.join(", ")
        ),
    }
}

fn check_source(source: &Source, trial: &Trial<'_>, now_unix_ms: u64, lines: &mut Lines) -> bool {
    let preset = source.preset();
    let words = format!(
        "{} ({}), POST {}",
        source.name(),
        preset.title,
        path_of(source)
    );
    lines.add("source", Mark::Ok, &words);
    let mut pairs = Vec::new();
    for (index, header) in trial.headers.iter().enumerate() {
        match header_of(header) {
            Some(pair) => pairs.push(pair),
            None => {
                // Not shown: without its colon it is still a secret or a signature.
                let (number, count) = (index + 1, trial.headers.len());
                let words = format!("--header {number} of {count} is not \"Name: value\"");
                lines.add("headers", Mark::Failed, &words);
                return false;
            }
        }
    }
    if pairs.len() > HEADERS_MAX {
        lines.add(
            "headers",
            Mark::Failed,
            &format!("there are over {HEADERS_MAX}"),
        );
        return false;
    }
    let fields = Fields::from_pairs(pairs);
    let incoming = Incoming {
        query: trial.query,
        fields: &fields,
        body: trial.body,
    };
    let verdict = source.explain(&incoming, now_unix_ms, &mut |step| lines.step(&step));
    if let Verdict::Refuse(refusal) = &verdict {
        hints(source, &incoming, now_unix_ms, refusal, lines);
    }
    lines.verdict(&verdict);
    match verdict {
        Verdict::Refuse(_) => false,
        Verdict::Reply { why, .. } => why != Unpublished::Unroutable,
        Verdict::Publish { .. } => true,
    }
}

/// A field of `--header`. Its value is any visible text, as in HTTP.
fn header_of(text: &str) -> Option<(&str, &[u8])> {
    let (name, value) = text.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    let is_value = !value.chars().any(|c| c.is_control() && c != '\t');
    (is_name && is_value).then(|| (name, value.as_bytes().trim_ascii()))
}

/// What would have to be different for a refused request.
fn hints(
    source: &Source,
    incoming: &Incoming<'_>,
    now_unix_ms: u64,
    refusal: &Refusal,
    lines: &mut Lines,
) {
    let step = if refusal.status() == 401 || refusal.name() == "repeated_field" {
        "verification"
    } else {
        "body"
    };
    lines.add(step, Mark::Failed, &refusal.to_string());
    if refusal.status() == 401 {
        lines.add("", Mark::Note, &format!("expected is {}", source.expects()));
    }
    if let Refusal::TimeOutside { skew_s, .. } = refusal {
        let then_ms = now_unix_ms.saturating_add_signed(skew_s.saturating_mul(1000));
        let verdict = source.explain(incoming, then_ms, &mut |_| ());
        let words = match verdict {
            Verdict::Refuse(other) => format!("at its own time, it would be refused, too: {other}"),
            _ => "at its own time, it would be taken: is it a recorded request?".to_owned(),
        };
        lines.add("", Mark::Note, &words);
    }
    if matches!(refusal, Refusal::TagMismatch(_)) {
        let fits = |body: &[u8]| {
            let other = Incoming { body, ..*incoming };
            let verdict = source.explain(&other, now_unix_ms, &mut |_| ());
            body.len() < incoming.body.len() && !matches!(verdict, Verdict::Refuse(_))
        };
        if fits(incoming.body.trim_ascii_end()) {
            let words = "without the newline at the end of the body it fits: did an editor add it?";
            lines.add("", Mark::Note, words);
        } else if fits(&compact(incoming.body)) {
            let words = "without the spaces and line ends between its JSON values it fits: the file is \
                         formatted, and the provider sent it compact";
            lines.add("", Mark::Note, words);
        }
    }
}

/// JSON without the white space outside its texts. Everything else stays as it is, since a signature counts
/// each byte.
fn compact(body: &[u8]) -> Vec<u8> {
    let mut in_text = false;
    let mut is_escaped = false;
    let mut kept = body.to_vec();
    kept.retain(|&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\n' | b'\r' => return in_text,
            _ => (),
        }
        true
    });
    kept
}

/// The lines of a report.
struct Lines(String);

impl Lines {
    fn add(&mut self, subject: &str, mark: Mark, words: &str) {
        let mark = match mark {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Failed => "FAILED",
        };
        let _ = writeln!(self.0, "{subject:<12} {mark:<8} {}", escaped(words));
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Verified { is_open: true, .. } => {
                let words = "nothing is verified: everybody who knows the address may publish";
                self.add("verification", Mark::Note, words);
            }
            Step::Verified { verified, .. } => {
                self.add("verification", Mark::Ok, &verified_words(verified));
            }
            Step::Decoded { form, bytes } => {
                self.add("body", Mark::Ok, &format!("{}, {bytes} bytes", form.name()));
            }
            Step::Handshake => self.add(
                "handshake",
                Mark::Ok,
                "it proves the address, and is no event",
            ),
            Step::Event { event, wanted, of } => self.event(event, *wanted, *of),
            Step::Identified(identity) => self.identity(*identity),
            Step::Routed(None) => self.add("session", Mark::Ok, "none: for all streams"),
            Step::Routed(Some(session)) => {
                self.add("session", Mark::Ok, &format!("{:?}", session.as_str()));
            }
            Step::Unroutable(fault) => {
                let words = format!("the template gives none: {fault}. Nothing is published");
                self.add("session", Mark::Failed, &words);
            }
            Step::TemplateFault(origin, fault) => {
                self.add(
                    "template",
                    Mark::Note,
                    &format!("{origin} gives no text: {fault}"),
                );
            }
            Step::Rendered(content, origin) => {
                self.add("template", Mark::Ok, &origin.to_string());
                self.content(content);
            }
        }
    }

    fn event(&mut self, event: &str, wanted: usize, of: usize) {
        let name = if event.is_empty() {
            "none is named"
        } else {
            event
        };
        let words = match (wanted, of) {
            (1, 1) => name.to_owned(),
            (0, 1) => format!("{name}: not one of the source's events, so it is not published"),
            (0, _) => format!("{of}, none of them is one of the source's events: not published"),
            _ if wanted == of => format!("{name}, the first of {of}"),
            _ => {
                format!("{name}; {wanted} of {of} are among the source's events, and are published")
            }
        };
        let mark = if wanted > 0 { Mark::Ok } else { Mark::Note };
        self.add("event", mark, &words);
    }

    fn identity(&mut self, identity: Option<&Identity>) {
        let by = match identity.map(|identity| (identity.id.is_some(), identity.tag.is_some())) {
            Some((true, true)) => "its id or its signed bytes",
            Some((true, false)) => "its id",
            Some((false, true)) => "its signed bytes",
            Some((false, false)) | None => {
                self.add(
                    "repeats",
                    Mark::Note,
                    "a repeat is not recognised, and would be published",
                );
                return;
            }
        };
        let window = duration(identity.map_or(0, |identity| identity.window_s));
        self.add(
            "repeats",
            Mark::Ok,
            &format!("recognised by {by} for {window}"),
        );
    }

    fn content(&mut self, content: &str) {
        let mut text: String = content.chars().take(CHECK_TEXT_CHARS_MAX).collect();
        let more = content.len() - text.len();
        if more > 0 {
            let _ = write!(text, "… and {more} bytes more");
        }
        for line in text.lines() {
            let _ = writeln!(self.0, "{:<12} {:<8} {}", "", "|", escaped(line));
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        let (mark, words) = match verdict {
            Verdict::Publish { draft, success } => (Mark::Ok, published_words(draft, *success)),
            Verdict::Reply { reply, why } => {
                let mark = match why {
                    Unpublished::Unroutable => Mark::Failed,
                    Unpublished::Handshake | Unpublished::Unwanted => Mark::Ok,
                };
                (
                    mark,
                    format!("{}; nothing is published", reply_words(reply)),
                )
            }
            Verdict::Refuse(refusal) => (
                Mark::Failed,
                format!("{}; nothing is published", refusal.status()),
            ),
        };
        self.add("answer", mark, &words);
    }
}

/// A duration as the file of sources has it, such as `72h`.
fn duration(seconds: u32) -> String {
    match seconds {
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn verified_words(verified: &Verified) -> String {
    let mut words = match verified.key {
        Some(index) => format!("secret {} of the file fits", index + 1),
        None => "it fits".to_owned(),
    };
    match verified.skew_s {
        None => (),
        Some(0) => words.push_str("; the clocks agree"),
        Some(skew_s) => {
            let side = if skew_s < 0 { "behind" } else { "ahead of" };
            let skew = skew_s.unsigned_abs();
            let _ = write!(words, "; the sender's clock is {skew} s {side} this one");
        }
    }
    words
}

fn published_words(draft: &Draft, success: Success) -> String {
    let answer = match success {
        Success::Receipt => "200 with the message's id".to_owned(),
        _ => reply_words(&success.reply()),
    };
    let audience = match draft.session {
        None => "all streams",
        Some(_) => "the streams of its session",
    };
    format!("{answer}, after the message is stored for {audience}")
}

fn reply_words(reply: &Reply) -> String {
    if reply.body.is_empty() {
        return format!("{} without a body", reply.status);
    }
    format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body))
}

#[cfg(test)]
mod tests;
