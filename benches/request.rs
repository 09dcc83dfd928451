//! A typical request from its bytes to its answer: reading, routing, encoding.
//!
//! `cargo bench --bench request`; with `-- --test` each runs once and is only checked.

use std::hint::black_box;
use std::time::SystemTime;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use hookcast::http::{Access, AllowOrigin, Progress, RequestReader, Responder, Route, View, route};
use hookcast::limits::BODY_BYTES_MAX_DEFAULT;
use hookcast::message::{MessageId, SessionId};

/// A webhook as curl sends it, with a secret.
const POST: &[u8] = b"POST /api/webhook HTTP/1.1\r\n\
    Host: localhost:3000\r\n\
    User-Agent: curl/7.88.1\r\n\
    Accept: */*\r\n\
    Content-Type: application/json\r\n\
    X-Webhook-Secret: correct horse battery staple\r\n\
    Content-Length: 53\r\n\
    \r\n\
    {\"message\":\"Deploy finished\",\"sessionId\":\"session-1\"}";

/// The same webhook with a chunked body.
const POST_CHUNKED: &[u8] = b"POST /api/webhook HTTP/1.1\r\n\
    Host: localhost:3000\r\n\
    User-Agent: curl/7.88.1\r\n\
    Accept: */*\r\n\
    Content-Type: application/json\r\n\
    X-Webhook-Secret: correct horse battery staple\r\n\
    Transfer-Encoding: chunked\r\n\
    \r\n\
    1b\r\n{\"message\":\"Deploy finished\r\n\
    1a\r\n\",\"sessionId\":\"session-1\"}\r\n\
    0\r\n\r\n";

/// A subscription as a browser sends it.
const GET: &[u8] = b"GET /api/webhook/stream?sessionId=session-1 HTTP/1.1\r\n\
    Host: localhost:3000\r\n\
    Connection: keep-alive\r\n\
    Accept: text/event-stream\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/120.0.0.0 Safari/537.36\r\n\
    Origin: http://localhost:8080\r\n\
    Sec-Fetch-Site: same-site\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: http://localhost:8080/\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Last-Event-ID: 0123456789abcdef-42\r\n\
    \r\n";

fn access() -> Access {
    Access::new(Some(b"correct horse battery staple"))
}

fn is_asset(path: &str) -> bool {
    path == "/"
}

/// Pushes the bytes in pieces of this size, and routes the request.
fn decide<'a>(reader: &'a mut RequestReader, bytes: &[u8], piece_bytes: usize) -> Route<'a> {
    for piece in bytes.chunks(piece_bytes) {
        reader.push(piece);
        black_box(reader.poll().expect("a valid request"));
    }
    let request = reader.request().expect("a complete request");
    route(&request, &access(), 0, is_asset)
}

fn assert_publish(route: &Route<'_>) {
    let Route::Publish(draft) = route else {
        panic!("{route:?}")
    };
    assert_eq!(draft.content, "Deploy finished");
    assert_eq!(
        draft.session.as_ref().map(SessionId::as_str),
        Some("session-1")
    );
}

fn assert_subscribe(route: &Route<'_>) {
    let Route::Subscribe(subscription) = route else {
        panic!("{route:?}")
    };
    assert!(
        matches!(&subscription.view, View::Session(session) if session.as_str() == "session-1")
    );
    assert_eq!(
        subscription.last_event_id.as_deref(),
        Some("0123456789abcdef-42")
    );
}

/// A name, the bytes, the size of the pieces, and the check of the route.
type Case = (&'static str, &'static [u8], usize, fn(&Route<'_>));

fn read_and_route(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let cases: [Case; 5] = [
        ("post", POST, usize::MAX, assert_publish),
        ("post, chunked", POST_CHUNKED, usize::MAX, assert_publish),
        ("post, a byte at a time", POST, 1, assert_publish),
        ("get stream", GET, usize::MAX, assert_subscribe),
        ("get stream, a byte at a time", GET, 1, assert_subscribe),
    ];
    for (name, bytes, piece_bytes, assert_route) in cases {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX_DEFAULT);
        assert_route(&decide(&mut reader, bytes, piece_bytes));
        reader.consume();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(decide(&mut reader, black_box(bytes), piece_bytes));
                reader.consume();
            });
        });
    }
    group.finish();
}

/// Only parsing the request, without the cost of JSON and allocation.
fn read_only(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for (name, bytes) in [("post", POST), ("get stream", GET)] {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX_DEFAULT);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                reader.push(black_box(bytes));
                assert_eq!(reader.poll(), Ok(Progress::Complete));
                reader.consume();
            });
        });
        assert!(reader.is_between_requests(), "each request is consumed");
    }
    group.finish();
}

fn answer(c: &mut Criterion) {
    let responder = Responder::new(AllowOrigin::Any, SystemTime::UNIX_EPOCH);
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX_DEFAULT);
    reader.push(POST);
    assert_eq!(reader.poll(), Ok(Progress::Complete));
    let to = responder.reply_to(&reader.request().expect("a complete request"));
    let id = MessageId::from_u128(1);
    let mut out = Vec::new();
    c.bench_function("receipt", |b| {
        b.iter(|| {
            out.clear();
            responder.published(to, black_box(id), black_box(1_700_000_000_123), &mut out);
        });
    });
    let text = String::from_utf8(out).expect("ASCII");
    assert!(text.ends_with(
        "\r\n\r\n{\"success\":true,\"messageId\":\"00000000-0000-0000-0000-000000000001\",\
         \"timestamp\":1700000000123}"
    ));
}

criterion_group!(benches, read_only, read_and_route, answer);
criterion_main!(benches);
