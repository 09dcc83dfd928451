//! From what was seen at an address to words, each fault with the setting that mends it.
//!
//! Used by the doctor. Pure: looks at a [`Visit`] and at nothing else, so every fault can be tested
//! without a network. Prints what a server sent as a quote alone.

use std::time::Duration;

use super::visit::{Head, Post, Resumed, StreamSeen, Visit};
use crate::check::{Check, Verdict};
use crate::foreign_text::{ForeignText, Secrets};
use crate::limits::{DOCTOR_DELAYED_MS, DOCTOR_HELD_BACK_MS, DOCTOR_PATIENCE_MS};

const ADDRESS: &str = "address";
const HTTP: &str = "http";
const POST: &str = "post";
const BUFFERING: &str = "buffering";
const DELAY: &str = "delay";
const COMPRESSION: &str = "compression";
const HEADERS: &str = "headers";
const HEARTBEAT: &str = "heartbeat";
const CUT: &str = "cut";
const RESUME: &str = "resume";
const HISTORY: &str = "history";

const UNBUFFER: &str = "nginx: proxy_http_version 1.1 and proxy_buffering off, and do not ignore X-Accel-Buffering; \
     Varnish: set beresp.do_stream = true; a CDN: streaming on, or exempt this path from transformation and \
     inspection of bodies";
const UNCOMPRESS: &str = "nginx: gzip off; Apache: SetEnvIf Request_URI \"^/api/webhook\" no-gzip, where SetOutputFilter \
     or AddOutputFilterByType DEFLATE is on; Varnish: set beresp.do_gzip = false; a CDN: no compression for \
     text/event-stream";
const FORWARD: &str =
    "forward all request headers and the query string of /api/webhook to the server";

/// Says what was found, in the order in which it is best mended.
pub fn diagnose(visit: &Visit, secrets: &Secrets) -> Vec<Check> {
    let Some(stream) = &visit.stream else {
        let failed = check(ADDRESS, Verdict::Failed, unreachable(visit));
        return with_skipped(vec![failed], &[HTTP, POST, BUFFERING, HEARTBEAT, CUT]);
    };
    let mut checks = vec![passed(ADDRESS, "the server answers".into())];
    checks.extend(
        visit
            .status
            .as_ref()
            .ok()
            .map(|answer| http(&answer.head, secrets)),
    );
    checks.push(post(&visit.posts, visit.has_secret));
    checks.push(buffering(stream, &visit.posts));
    checks.extend(delay(&visit.posts));
    if let Some((_, head)) = &stream.head {
        checks.push(compression(head, secrets));
        checks.push(headers(head, secrets));
        checks.push(heartbeat(stream));
        checks.push(cut(stream));
    }
    checks.extend(visit.resumed.map(resume));
    checks.extend(history(visit));
    checks
}

fn unreachable(visit: &Visit) -> String {
    match &visit.status {
        Err(error) => {
            format!("no answer: {error}. Look at the address, its DNS, and the certificate.")
        }
        Ok(answer) => format!(
            "GET /api/webhook is answered with {}, not by hookcast. Look whether the proxy passes the path on \
             as it is, without a log-in, a challenge or a redirect.",
            answer.head.status
        ),
    }
}

/// Who answered, and by which version.
fn http(head: &Head, secrets: &Secrets) -> Check {
    let by: Vec<String> = ["server", "via", "x-cache", "cf-ray", "x-served-by"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", head.field(name)?.quote(secrets))))
        .collect();
    let by = match by.len() {
        0 => "no proxy names itself".into(),
        _ => by.join(", "),
    };
    let words = format!("{}; {by}", head.version);
    if head.version == "HTTP/1.0" {
        let words =
            format!("{words}. In HTTP/1.0 every answer ends its connection; switch it to 1.1.");
        return check(HTTP, Verdict::Noted, words);
    }
    if head.field("age").is_some_and(|age| age.as_str() != "0") {
        let words = format!(
            "{words}. The answer comes from a cache though it says no-store: let the cache respect the \
             origin's Cache-Control."
        );
        return check(HTTP, Verdict::Failed, words);
    }
    passed(HTTP, words)
}

fn post(posts: &[Post], has_secret: bool) -> Check {
    let Some(post) = posts.last() else {
        return check(POST, Verdict::Skipped, String::new());
    };
    match &post.answer {
        Err(error) => check(
            POST,
            Verdict::Failed,
            format!("a webhook is not answered: {error}. Let POST through to /api/webhook."),
        ),
        Ok((took, answer)) => match (answer.head.status, has_secret) {
            (200, _) => passed(POST, format!("answered after {}", ms(*took))),
            (401, false) => check(
                POST,
                Verdict::Failed,
                "the server wants a secret: put it into WEBHOOK_SECRET or give --secret-file"
                    .into(),
            ),
            (401, true) => check(
                POST,
                Verdict::Failed,
                format!(
                    "the secret is wrong, or X-Webhook-Secret does not reach the server: {FORWARD}"
                ),
            ),
            (status, _) => check(
                POST,
                Verdict::Failed,
                format!("a webhook is answered with {status}. Let POST through to /api/webhook."),
            ),
        },
    }
}

fn buffering(stream: &StreamSeen, posts: &[Post]) -> Check {
    let Some((headers_after, head)) = &stream.head else {
        let how = match &stream.end {
            Some((_, Err(error))) => format!("no stream: {error}"),
            _ => format!("a stream does not begin within {DOCTOR_PATIENCE_MS} ms"),
        };
        let words = format!(
            "{how}. If the rest works, the proxy collects the answer before it passes it on: {UNBUFFER}."
        );
        return check(BUFFERING, Verdict::Failed, words);
    };
    if head.status != 200 {
        let status = head.status;
        let words = format!("the stream is answered with {status}: {FORWARD}");
        return check(BUFFERING, Verdict::Failed, words);
    }
    let held_back_ms = u128::from(DOCTOR_HELD_BACK_MS);
    let accepted =
        |post: &&Post| matches!(&post.answer, Ok((_, answer)) if answer.head.status == 200);
    let slowest = posts.iter().filter(accepted).map(|post| post.arrived);
    let late = slowest.max_by_key(|arrived| arrived.map_or(u128::MAX, |after| after.as_millis()));
    let remedy = if head.field("content-encoding").is_some() {
        UNCOMPRESS
    } else {
        UNBUFFER
    };
    match late {
        Some(None) => {
            let words = format!(
                "a message was accepted, and its event did not come. Events are held back: {remedy}; and {FORWARD}."
            );
            check(BUFFERING, Verdict::Failed, words)
        }
        Some(Some(after)) if after.as_millis() > held_back_ms => {
            let words = format!(
                "an event came {} after its post was answered. Events are held back: {remedy}.",
                ms(after)
            );
            check(BUFFERING, Verdict::Failed, words)
        }
        Some(Some(after)) => passed(
            BUFFERING,
            format!(
                "the stream began after {}; events come within {} of their posts' answers",
                ms(*headers_after),
                ms(after)
            ),
        ),
        None => passed(
            BUFFERING,
            format!("the stream began after {}", ms(*headers_after)),
        ),
    }
}

/// A delay that every event has, below what counts as held back.
fn delay(posts: &[Post]) -> Option<Check> {
    let mut delays: Vec<Duration> = posts.iter().filter_map(|post| post.arrived).collect();
    delays.sort_unstable();
    let median = *delays.get(delays.len() / 2)?;
    let is_delayed = (u128::from(DOCTOR_DELAYED_MS)..=u128::from(DOCTOR_HELD_BACK_MS))
        .contains(&median.as_millis());
    is_delayed.then(|| {
        let words = format!(
            "events come {} later than the answers to their posts. Something waits for more to send: HAProxy: \
             option http-no-delay; others: TCP_NODELAY.",
            ms(median)
        );
        check(DELAY, Verdict::Noted, words)
    })
}

fn compression(head: &Head, secrets: &Secrets) -> Check {
    match head
        .field("content-encoding")
        .filter(|coding| coding.as_str() != "identity")
    {
        None => passed(COMPRESSION, "none, as asked by no-transform".into()),
        Some(coding) => check(
            COMPRESSION,
            Verdict::Failed,
            format!(
                "the stream is compressed ({}), which holds events back until a block is full: {UNCOMPRESS}.",
                coding.quote(secrets)
            ),
        ),
    }
}

fn headers(head: &Head, secrets: &Secrets) -> Check {
    let mut faults = Vec::new();
    faults.extend(content_type(head.field("content-type"), secrets));
    let cache_control = head.field("cache-control").cloned().unwrap_or_default();
    let is_missing = |directive: &&str| {
        let mut given = cache_control.as_str().split(',').map(str::trim);
        !given.any(|given| given == *directive)
    };
    let missing: Vec<&str> = ["no-store", "no-transform"]
        .into_iter()
        .filter(is_missing)
        .collect();
    if !missing.is_empty() {
        faults.push(format!(
            "Cache-Control is \"{}\" and lacks {}: caches between may keep or change the stream; let \
             the origin's Cache-Control through (nginx: no proxy_hide_header, no expires; a CDN: respect origin \
             headers)",
            cache_control.quote(secrets),
            missing.join(" and ")
        ));
    }
    if head.field("content-length").is_some() {
        faults.push("there is a Content-Length: the stream was collected first".into());
    }
    if head.field("access-control-allow-origin").is_none() {
        faults.push(
            "Access-Control-Allow-Origin is missing: pages of other origins cannot read the stream; let it through, \
             unless --allow-origin is meant to shut them out"
                .into(),
        );
    }
    match faults.len() {
        0 => passed(HEADERS, "as the server sends them".into()),
        _ => check(HEADERS, Verdict::Failed, faults.join(". Also: ")),
    }
}

/// What is wrong with the type of a stream. Its parameters may be written in several ways.
fn content_type(value: Option<&ForeignText>, secrets: &Secrets) -> Option<String> {
    let Some(value) = value else {
        return Some("Content-Type is missing: browsers refuse the stream".into());
    };
    let mut parts = value.as_str().split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let quoted = value.quote(secrets);
    if !media_type.eq_ignore_ascii_case("text/event-stream") {
        return Some(format!(
            "Content-Type is \"{quoted}\" instead of text/event-stream: browsers may refuse it; do not rewrite it"
        ));
    }
    let is_utf_8 = |parameter: &str| {
        let (name, charset) = parameter.split_once('=').unwrap_or_default();
        name.eq_ignore_ascii_case("charset")
            && charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    (!parts.any(is_utf_8)).then(|| {
        format!(
            "Content-Type is \"{quoted}\" and lacks charset=utf-8: clients on Python's requests read Latin-1; do not \
             rewrite it"
        )
    })
}

fn heartbeat(stream: &StreamSeen) -> Check {
    let gaps: Vec<Duration> = stream
        .heartbeats
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let seen = stream.heartbeats.len();
    let (Some(shortest), Some(longest)) = (gaps.iter().min(), gaps.iter().max()) else {
        let words = format!(
            "{seen} seen in {}: too few for a rhythm. Comments are held back, or --heartbeat is long: idle timeouts \
             on the way may end streams. Try a longer --watch.",
            ms(stream.end.as_ref().map_or(stream.watched, |(at, _)| *at))
        );
        let verdict = if stream.end.is_some() {
            Verdict::Noted
        } else {
            Verdict::Failed
        };
        return check(HEARTBEAT, verdict, words);
    };
    let words = format!("{seen} seen, {} to {} apart", ms(*shortest), ms(*longest));
    // A heartbeat rides along with a message where it can, so some come early.
    if *longest > 3 * median(&gaps) + Duration::from_millis(DOCTOR_HELD_BACK_MS) {
        let words =
            format!("{words}: they come in bursts, so something collects them: {UNBUFFER}.");
        return check(HEARTBEAT, Verdict::Failed, words);
    }
    passed(HEARTBEAT, words)
}

fn cut(stream: &StreamSeen) -> Check {
    let Some((at, how)) = &stream.end else {
        let words = format!(
            "the stream was open all the {} that it was watched",
            ms(stream.watched)
        );
        return passed(CUT, words);
    };
    let last = stream.heartbeats.last().filter(|last| *last < at);
    let silence = last.map_or(*at, |last| at.saturating_sub(*last));
    let how = match how {
        Ok(()) => "in good order".to_owned(),
        Err(error) => format!("by a cut ({error})"),
    };
    let words = format!(
        "the stream ended after {} {how}, {} after the last heartbeat. If the server was not restarted just now, an \
         idle timeout is below the heartbeat's interval, or answers have a longest duration: nginx: proxy_read_timeout; \
         HAProxy: timeout client and timeout server; Varnish: between_bytes_timeout, send_timeout; a CDN: its idle or \
         response timeout. Raise it, or lower --heartbeat.",
        ms(*at),
        ms(silence)
    );
    check(CUT, Verdict::Failed, words)
}

fn resume(resumed: Resumed) -> Check {
    match resumed {
        Resumed::Behind => passed(RESUME, "Last-Event-ID reaches the server".into()),
        Resumed::FromStart => check(
            RESUME,
            Verdict::Failed,
            format!(
                "a stream with Last-Event-ID began from the start: the header does not reach the server, so clients \
                 get everything again and may miss what is older than the history: {FORWARD}."
            ),
        ),
        Resumed::Nothing => check(
            RESUME,
            Verdict::Failed,
            format!("a second stream, with Last-Event-ID, brought nothing: {UNBUFFER}."),
        ),
    }
}

/// The way that is left where streams do not pass.
fn history(visit: &Visit) -> Option<Check> {
    let accepted =
        |post: &&Post| matches!(&post.answer, Ok((_, answer)) if answer.head.status == 200);
    let posted = visit.posts.iter().filter(accepted).count();
    let history = visit.history.as_ref()?;
    Some(match history {
        Ok(answer) if answer.head.status == 200 => {
            let shown = answer
                .body
                .as_str()
                .matches("hookcast doctor, message")
                .count();
            let is_private = answer
                .head
                .field("cache-control")
                .is_some_and(|value| value.as_str().contains("no-store"));
            if !is_private {
                let words = "a session's history came without no-store: a cache may show it to others; let the \
                             origin's Cache-Control through";
                check(HISTORY, Verdict::Failed, words.into())
            } else if shown < posted {
                let words =
                    format!("{shown} of {posted} messages: it comes from a cache, or {FORWARD}");
                check(HISTORY, Verdict::Failed, words)
            } else {
                passed(
                    HISTORY,
                    "GET /api/webhook/messages works, where streams do not pass".into(),
                )
            }
        }
        Ok(answer) => check(
            HISTORY,
            Verdict::Failed,
            format!(
                "GET /api/webhook/messages is answered with {}: {FORWARD}",
                answer.head.status
            ),
        ),
        Err(error) => check(HISTORY, Verdict::Failed, format!("no answer: {error}")),
    })
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..10_000 => format!("{ms} ms"),
        ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

fn passed(subject: &'static str, words: String) -> Check {
    check(subject, Verdict::Passed, words)
}

fn check(subject: &'static str, verdict: Verdict, words: String) -> Check {
    Check {
        subject,
        verdict,
        words,
    }
}

fn with_skipped(mut checks: Vec<Check>, subjects: &[&'static str]) -> Vec<Check> {
    let skipped = subjects.iter();
    checks.extend(skipped.map(|subject| check(subject, Verdict::Skipped, String::new())));
    checks
}

#[cfg(test)]
mod tests {
    use super::super::visit::Answer;
    use super::*;
    use crate::foreign_text::{ForeignText, is_plain};

    fn text(text: &str) -> ForeignText {
        text.to_owned().into()
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter();
        Head {
            status: 200,
            version: "HTTP/1.1".into(),
            fields: fields
                .map(|(name, value)| ((*name).into(), text(value)))
                .collect(),
        }
    }

    fn answer(status: u16, fields: &[(&str, &str)]) -> Answer {
        Answer {
            head: Head {
                status,
                ..head(fields)
            },
            body: text("hookcast doctor, message 1"),
        }
    }

    fn post_with(status: u16, arrived_ms: Option<u64>) -> Post {
        Post {
            answer: Ok((Duration::from_millis(3), answer(status, &[]))),
            arrived: arrived_ms.map(Duration::from_millis),
            event_id: None,
        }
    }

    const STREAM_FIELDS: [(&str, &str); 3] = [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-transform"),
        ("access-control-allow-origin", "*"),
    ];

    /// A visit where all is well.
    fn healthy() -> Visit {
        Visit {
            status: Ok(answer(200, &[("via", "1.1 varnish")])),
            stream: Some(StreamSeen {
                head: Some((Duration::from_millis(5), head(&STREAM_FIELDS))),
                connected: Some(Duration::from_millis(5)),
                heartbeats: (1..7).map(|n| Duration::from_millis(2000 * n)).collect(),
                end: None,
                watched: Duration::from_secs(15),
            }),
            posts: vec![post_with(200, Some(2))],
            resumed: Some(Resumed::Behind),
            history: Some(Ok(answer(200, &[("cache-control", "private, no-store")]))),
            has_secret: false,
        }
    }

    /// The verdicts that are not "passed", and the words of them.
    fn faults(visit: &Visit) -> Vec<(&'static str, Verdict, String)> {
        diagnose(visit, &Secrets::default())
            .into_iter()
            .filter(|check| check.verdict != Verdict::Passed)
            .map(|check| (check.subject, check.verdict, check.words))
            .collect()
    }

    /// The one fault of a healthy visit that was changed, whose words hold `expected`.
    fn one_fault(change: impl FnOnce(&mut Visit), subject: &str, verdict: Verdict, expected: &str) {
        let mut visit = healthy();
        change(&mut visit);
        let faults = faults(&visit);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].0, faults[0].1), (subject, verdict), "{faults:?}");
        assert!(faults[0].2.contains(expected), "{faults:?}");
    }

    fn stream(visit: &mut Visit) -> &mut StreamSeen {
        visit.stream.as_mut().unwrap()
    }

    fn fields(visit: &mut Visit) -> &mut Vec<(String, ForeignText)> {
        &mut stream(visit).head.as_mut().unwrap().1.fields
    }

    #[test]
    fn a_good_address_has_no_fault() {
        assert_eq!(faults(&healthy()), []);
        assert!(diagnose(&healthy(), &Secrets::default()).len() >= 9);
    }

    #[test]
    fn every_fault_is_named_with_its_remedy() {
        use Verdict::{Failed, Noted};
        one_fault(
            |visit| visit.posts = vec![post_with(200, Some(1500))],
            BUFFERING,
            Failed,
            "proxy_buffering off",
        );
        one_fault(
            |visit| visit.posts = vec![post_with(200, Some(207))],
            DELAY,
            Noted,
            "option http-no-delay",
        );
        one_fault(
            |visit| fields(visit).push(("content-encoding".into(), text("gzip"))),
            COMPRESSION,
            Failed,
            "gzip off",
        );
        one_fault(
            |visit| fields(visit).push(("content-encoding".into(), text("gzip"))),
            COMPRESSION,
            Failed,
            "Apache: SetEnvIf",
        );
        one_fault(
            |visit| fields(visit)[1].1 = text("public"),
            HEADERS,
            Failed,
            "lacks no-store",
        );
        one_fault(
            |visit| fields(visit)[0].1 = text("text/plain"),
            HEADERS,
            Failed,
            "text/event-stream",
        );
        one_fault(
            |visit| stream(visit).end = Some((Duration::from_secs(13), Err("cut".into()))),
            CUT,
            Failed,
            "1000 ms after the last heartbeat",
        );
        one_fault(
            |visit| stream(visit).heartbeats.truncate(1),
            HEARTBEAT,
            Failed,
            "too few",
        );
        one_fault(
            |visit| stream(visit).heartbeats.push(Duration::from_secs(40)),
            HEARTBEAT,
            Failed,
            "bursts",
        );
        one_fault(
            |visit| visit.resumed = Some(Resumed::FromStart),
            RESUME,
            Failed,
            "Last-Event-ID",
        );
        one_fault(
            |visit| visit.history = Some(Ok(answer(200, &[]))),
            HISTORY,
            Failed,
            "no-store",
        );
        one_fault(
            |visit| visit.status = Ok(answer(200, &[("age", "3")])),
            HTTP,
            Failed,
            "cache",
        );
    }

    /// Every header that is printed, and what it is printed for.
    #[test]
    fn a_secret_that_a_server_sends_back_is_not_printed() {
        let evil = format!(
            "{}\u{202e}\u{1b}[2Js3cret-4711 czNjcmV0LTQ3MTE= s3cret%2D4711",
            "x".repeat(150)
        );
        let names = [
            "server",
            "via",
            "x-cache",
            "cf-ray",
            "x-served-by",
            "age",
            "content-type",
            "content-encoding",
            "cache-control",
        ];
        for evil in [&evil, &evil[150..]] {
            let fields = names.map(|name| (name, evil));
            let mut visit = healthy();
            visit.status = Ok(answer(200, &fields));
            stream(&mut visit).head = Some((Duration::ZERO, head(&fields)));
            visit.history = Some(Ok(answer(200, &fields)));
            for check in diagnose(&visit, &Secrets::default().with("s3cret-4711")) {
                let words = &check.words;
                assert!(!words.contains("s3c") && !words.contains("czN"), "{words}");
                assert!(words.chars().all(is_plain), "{words}");
            }
        }
    }

    #[test]
    fn a_type_is_compared_as_a_type() {
        let none = Secrets::default();
        for good in [
            "text/event-stream; charset=utf-8",
            "text/event-stream;charset=UTF-8",
            "Text/Event-Stream; x=y ; Charset=\"utf-8\"",
        ] {
            assert_eq!(content_type(Some(&text(good)), &none), None, "{good}");
        }
        for (bad, expected) in [
            (None, "missing"),
            (Some(""), "instead of"),
            (Some("text/event-streams"), "instead of"),
            (Some("text/event-stream"), "Latin-1"),
            (Some("text/event-stream; charset=iso-8859-1"), "Latin-1"),
            (Some("text/event-stream; charset"), "Latin-1"),
        ] {
            let fault = content_type(bad.map(text).as_ref(), &none).unwrap_or_default();
            assert!(fault.contains(expected), "{bad:?}: {fault}");
        }
    }

    #[test]
    fn a_stream_that_does_not_begin_is_held_back() {
        let mut visit = healthy();
        *stream(&mut visit) = StreamSeen::default();
        visit.posts = vec![post_with(200, None)];
        visit.resumed = None;
        let faults = faults(&visit);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].2.contains("proxy_buffering off"), "{faults:?}");
    }

    #[test]
    fn a_secret_that_is_missing_is_told_from_one_that_is_lost() {
        for (has_secret, expected) in [(false, "WEBHOOK_SECRET"), (true, "X-Webhook-Secret")] {
            let change = |visit: &mut Visit| {
                visit.posts = vec![post_with(401, None)];
                visit.has_secret = has_secret;
            };
            one_fault(change, POST, Verdict::Failed, expected);
        }
    }

    #[test]
    fn an_address_without_a_server_is_said_and_the_rest_skipped() {
        let mut visit = healthy();
        visit.stream = None;
        visit.status = Err("refused".into());
        let faults = faults(&visit);
        assert_eq!((faults[0].0, faults[0].1), (ADDRESS, Verdict::Failed));
        assert!(faults[1..].iter().all(|fault| fault.1 == Verdict::Skipped));
    }
}
