//! The HTTP corpus against the real server.
//!
//! Each case is sent whole, byte by byte, and cut at random positions. `expect` lists the statuses in order
//! (`400|501` is either, `100?` is optional, `200*3` is three times 200) and the fate of the connection:
//!
//! - `keep`: it continues. A canary request on it must get its own answer and nothing else.
//! - `close`: the last answer says so, and the server closes it. Nothing follows.
//! - `any`: one of the two, as the last answer says.
//! - `wait`: no answer, because the request is incomplete. It is dropped when the client closes its side.
//!
//! `message` lists the contents that a stream must show, in order. Any other content is a smuggled request.
//! `methods` are the methods of the requests, if their answers differ from those to a GET. `finish: yes` closes the
//! client's side behind the bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::corpus::{self, Case};
use crate::seed;
use crate::support::{Connection, EventStream, Response, Server};

const FIELDS: [&str; 5] = ["source", "expect", "message", "methods", "finish"];

/// Random cuts of each case, besides whole and byte by byte. `JUDGE_CUTS` changes the number.
const CUTS: usize = 3;

/// The fate of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Close,
    Any,
    Wait,
}

/// The statuses that one answer may have.
struct Expected {
    statuses: Vec<u16>,
    is_optional: bool,
}

/// The expectation of a case.
struct Verdict {
    answers: Vec<Expected>,
    fate: Fate,
}

impl Verdict {
    fn parse(text: &str) -> Verdict {
        let (answers, fate) = text.rsplit_once(' ').unwrap_or(("", text));
        Verdict {
            answers: answers
                .split_whitespace()
                .flat_map(Expected::parse)
                .collect(),
            fate: match fate {
                "keep" => Fate::Keep,
                "close" => Fate::Close,
                "any" => Fate::Any,
                "wait" => Fate::Wait,
                other => panic!("unknown fate: {other}"),
            },
        }
    }
}

impl Expected {
    fn parse(text: &str) -> Vec<Expected> {
        let (text, count) = text.split_once('*').unwrap_or((text, "1"));
        let (text, is_optional) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let statuses = || text.split('|').map(|status| status.parse().unwrap());
        (0..count.parse().unwrap())
            .map(|_| Expected {
                statuses: statuses().collect(),
                is_optional,
            })
            .collect()
    }

    fn is_interim(&self) -> bool {
        self.statuses.iter().all(|status| *status < 200)
    }
}

/// How the bytes are split into writes.
#[derive(Debug, Clone)]
enum Delivery {
    Whole,
    Bytes,
    Cut(Vec<usize>),
}

impl Delivery {
    /// The pieces of some bytes, in order.
    fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Delivery::Whole => vec![bytes],
            Delivery::Bytes => bytes.chunks(1).collect(),
            Delivery::Cut(points) => {
                let mut pieces = Vec::new();
                let mut start = 0;
                for &point in points.iter().filter(|point| **point < bytes.len()) {
                    pieces.push(&bytes[start..point]);
                    start = point;
                }
                pieces.push(&bytes[start..]);
                pieces
            }
        }
    }

    /// Up to seven cuts at random positions.
    fn random(rng: &mut fastrand::Rng, length: usize) -> Delivery {
        let count = rng.usize(1..8);
        let mut points: Vec<usize> = (0..count).map(|_| rng.usize(..=length)).collect();
        points.sort_unstable();
        Delivery::Cut(points)
    }
}

/// A server, and a stream of all its messages.
struct Court {
    server: Server,
    stream: EventStream,
    /// Deliveries so far, each of which ends with a message.
    ends: usize,
}

impl Court {
    fn open() -> Court {
        let server = Server::start(&[]);
        let mut stream = server.stream("", "");
        stream.connected();
        Court {
            server,
            stream,
            ends: 0,
        }
    }

    /// Delivers a case in one way; panics if the server's reaction is wrong.
    fn judge(&mut self, case: &Case, verdict: &Verdict, delivery: &Delivery) {
        let mut connection = self.server.connect();
        let mut methods = case.field("methods").unwrap_or("").split_whitespace();
        let mut expected = verdict.answers.iter();
        let mut last = None;
        let parts = case.parts();
        for (index, part) in parts.iter().enumerate() {
            for piece in delivery.pieces(part) {
                connection.send_if_open(piece);
            }
            if index + 1 < parts.len() {
                let awaited = expected.next().expect("an answer to wait for");
                last = Some(read_answer(&mut connection, awaited, &mut methods));
            }
        }
        if case.field("finish").is_some() || verdict.fate == Fate::Wait {
            connection.finish_if_open();
        }
        let mut pushed_back = None;
        for awaited in expected {
            let answer = match pushed_back.take() {
                Some(answer) => answer,
                None => read_answer(&mut connection, awaited, &mut methods),
            };
            if awaited.is_optional && !awaited.statuses.contains(&answer.status) {
                pushed_back = Some(answer);
                continue;
            }
            assert!(
                awaited.statuses.contains(&answer.status),
                "expected {:?}: {answer:?}",
                awaited.statuses
            );
            last = Some(answer);
        }
        expect_fate(connection, verdict.fate, last.as_ref(), case);
        self.expect_messages(case);
    }

    /// The stream must show exactly the messages that the case names.
    fn expect_messages(&mut self, case: &Case) {
        self.ends += 1;
        let end = format!("end of delivery {}", self.ends);
        self.server.publish(&end);
        let mut seen = Vec::new();
        loop {
            let content = self.stream.next().content();
            if content == end {
                break;
            }
            seen.push(content);
        }
        assert_eq!(seen, case.fields("message"), "on the stream");
    }
}

fn read_answer<'a>(
    connection: &mut Connection,
    expected: &Expected,
    methods: &mut impl Iterator<Item = &'a str>,
) -> Response {
    if !expected.is_interim() {
        let answer = connection.read_response_to(methods.next().unwrap_or("GET"));
        expect_sound(&answer);
        return answer;
    }
    let head = connection.read_head();
    if expected.is_optional && head.status >= 200 {
        return connection.read_rest(head, methods.next().unwrap_or("GET"));
    }
    head
}

/// The headers of every answer (RFC 9110 sections 6.6.1, 8.6, 10.2.1, and the API's own rules).
fn expect_sound(answer: &Response) {
    let date = answer.header("date").expect("Date");
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    if answer.status >= 400 && !answer.body.is_empty() {
        answer.error();
    }
    if answer.status == 405 {
        assert!(answer.header("allow").is_some(), "{answer:?}");
    }
}

fn expect_fate(mut connection: Connection, fate: Fate, last: Option<&Response>, case: &Case) {
    let says_close = last.is_some_and(|answer| {
        let header = answer.header("connection");
        header.is_some_and(|value| value.eq_ignore_ascii_case("close"))
    });
    let is_kept = match fate {
        Fate::Keep => true,
        Fate::Any => !says_close,
        Fate::Close | Fate::Wait => false,
    };
    if is_kept {
        assert!(!says_close, "the answer says close: {last:?}");
        connection.send(
            b"OPTIONS /api/webhook/stream HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n",
        );
        let answer = connection.read_response_to("OPTIONS");
        assert_eq!(answer.status, 204, "the canary got {answer:?}");
    } else if fate == Fate::Close && case.field("finish").is_none() {
        let is_old = last.is_some_and(|answer| answer.version == "HTTP/1.0");
        assert!(
            says_close || is_old,
            "it closes without saying so: {last:?}"
        );
    }
    connection.expect_close();
}

/// Runs all cases of a file; fails with the names of those that failed.
fn judge_file(name: &str) {
    let mut rng = fastrand::Rng::with_seed(seed());
    let cuts = std::env::var("JUDGE_CUTS").map_or(CUTS, |count| count.parse().unwrap());
    let mut court = Court::open();
    let cases = corpus::read(&path(name), &FIELDS);
    let mut failed = Vec::new();
    for case in &cases {
        assert!(case.required("source").len() > 5, "{}", case.name);
        let verdict = Verdict::parse(case.required("expect"));
        let length = case.parts().iter().map(Vec::len).max().unwrap();
        let cut = (0..cuts).map(|_| Delivery::random(&mut rng, length));
        let deliveries = [Delivery::Whole, Delivery::Bytes].into_iter().chain(cut);
        for delivery in deliveries.collect::<Vec<_>>() {
            let judged = catch_unwind(AssertUnwindSafe(|| {
                court.judge(case, &verdict, &delivery);
            }));
            if judged.is_err() {
                eprintln!("^ {name}: {} ({delivery:?})", case.name);
                failed.push(case.name.clone());
                court = Court::open();
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{name}: failed cases: {failed:#?}");
    println!(
        "{name}: {} cases, {} deliveries each",
        cases.len(),
        cuts + 2
    );
}

fn path(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/judges/http");
    directory.join(format!("{name}.case"))
}

#[test]
fn request_lines() {
    judge_file("1-request-line");
}

#[test]
fn fields() {
    judge_file("2-fields");
}

#[test]
fn framing() {
    judge_file("3-framing");
}

#[test]
fn chunked() {
    judge_file("4-chunked");
}

#[test]
fn connections() {
    judge_file("5-connection");
}
