//! The presets of servers that no package of Debian has, against imitations after their documentation. Each takes
//! a request apart as the server does, and writes the event anew.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

const STREAMS: u64 = 5;

/// What an imitation makes of a request.
enum Reply {
    /// Open a stream on a channel, with a first event.
    Stream(String, &'static str),
    /// Send an event to the streams of a channel, and answer.
    Event(String, String, &'static str),
    Refuse,
}

type Imitation = fn(&str, &str) -> Reply;

/// Streams and their channels.
type Streams = Mutex<Vec<(String, TcpStream)>>;

fn start(imitation: Imitation) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let streams = Arc::new(Streams::default());
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let streams = Arc::clone(&streams);
            thread::spawn(move || serve(connection, imitation, &streams));
        }
    });
    address
}

/// Serves the requests of a connection, one after the other, until one of them is a stream.
fn serve(mut connection: TcpStream, imitation: Imitation, streams: &Streams) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(Ok(0), str::parse).ok()?];
        reader.read_exact(&mut body).ok()?;
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match imitation(&head, &String::from_utf8(body).ok()?) {
            Reply::Stream(channel, first) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                connection
                    .write_all(format!("{head}{first}").as_bytes())
                    .ok()?;
                streams.push((channel, connection));
                return Some(());
            }
            Reply::Event(to, event, answer) => {
                for (_, stream) in streams.iter_mut().filter(|(channel, _)| *channel == to) {
                    let _ = stream.write_all(event.as_bytes());
                }
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                )
            }
            Reply::Refuse => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into(),
        };
        drop(streams);
        connection.write_all(answer.as_bytes()).ok()?;
    }
}

/// The path of a request, if it has this method.
fn path<'a>(head: &'a str, method: &str) -> Option<&'a str> {
    head.strip_prefix(method)?
        .strip_prefix(' ')?
        .split(' ')
        .next()
}

/// The value of a name in a query or a form.
fn value_of(form: &str, name: &str) -> Option<String> {
    let pair = form
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let (mut decoded, mut bytes) = (Vec::new(), pair.bytes());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// A hub of Mercure: a form in, an event with an id of the hub out.
fn mercure(head: &str, body: &str) -> Reply {
    const PATH: &str = "/.well-known/mercure";
    let is_form = head.contains("\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let may_publish = is_form && head.contains("\r\nAuthorization: Bearer jwt\r\n");
    if let Some(query) =
        path(head, "GET").and_then(|path| path.strip_prefix(PATH)?.strip_prefix('?'))
        && let Some(topic) = value_of(query, "topic")
    {
        return Reply::Stream(topic, ":\n");
    }
    match (
        path(head, "POST"),
        value_of(body, "topic"),
        value_of(body, "data"),
    ) {
        (Some(PATH), Some(topic), Some(data)) if may_publish => Reply::Event(
            topic,
            format!("id: urn:uuid:1\ndata: {data}\n\n"),
            "urn:uuid:1",
        ),
        _ => Reply::Refuse,
    }
}

/// Centrifugo: JSON in, JSON with the channel and the publication out, beside pushes of other kinds and pings.
fn centrifugo(head: &str, body: &str) -> Reply {
    let connect = path(head, "GET").and_then(|path| path.strip_prefix("/connection/uni_sse?"));
    if let Some(connect) = connect.and_then(|query| value_of(query, "cf_connect")) {
        let connect: Value = serde_json::from_str(&connect).unwrap_or_default();
        let channel = connect["subs"]
            .as_object()
            .and_then(|subs| subs.keys().next().cloned());
        let first = "data: {\"connect\":{\"client\":\"c\",\"ping\":25}}\n\ndata: {}\n\n";
        return channel.map_or(Reply::Refuse, |channel| Reply::Stream(channel, first));
    }
    let may_publish = head.contains("\r\nX-API-Key: key\r\n") && head.contains("application/json");
    let command: Value = serde_json::from_str(body).unwrap_or_default();
    match (path(head, "POST"), command["channel"].as_str()) {
        (Some("/api/publish"), Some(channel)) if may_publish => {
            let push = json!({"channel": channel, "pub": {"data": command["data"], "offset": 1}});
            Reply::Event(
                channel.into(),
                format!("data: {push}\n\ndata: {{}}\n\n"),
                r#"{"result":{}}"#,
            )
        }
        _ => Reply::Refuse,
    }
}

fn run(scenario: &str, preset: &str, address: SocketAddr, header: &str) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(scenario.split(' '))
        .args(["--preset", preset, "--channel", "https://a.b/c?d=e f"])
        .args([
            "--url",
            &format!("http://{address}"),
            "--publish-header",
            header,
        ])
        .args("--yes --json --rate 100 --warmup 50ms --duration 200ms".split(' '))
        .args(["--streams", &STREAMS.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let json = serde_json::from_slice(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    (
        json.unwrap_or_else(|_| panic!("{error}")),
        output.status.code(),
    )
}

#[test]
fn presets_publish_and_read_as_their_servers_document_it() {
    for (preset, imitation, header) in [
        ("mercure", mercure as Imitation, "Authorization: Bearer jwt"),
        ("centrifugo", centrifugo, "X-API-Key: key"),
    ] {
        let address = start(imitation);
        let (json, status) = run("run", preset, address, header);
        assert_eq!(
            (&json["errors"], status),
            (&json!({}), Some(0)),
            "{preset} {json:#}"
        );
        assert_eq!(json["deliveries"], 25 * STREAMS, "{preset}");
        let (json, status) = run("targeted --processes 2", preset, address, header);
        assert_eq!(
            (&json["errors"], status),
            (&json!({}), Some(0)),
            "{preset} {json:#}"
        );
        assert_eq!(
            (&json["deliveries"], &json["misdelivered"]),
            (&json!(25), &json!(0))
        );
        let (json, _) = run("run", preset, address, "X-Other: x");
        assert_eq!(
            json["errors"],
            json!({"a message was answered with 401": 25}),
            "{preset}"
        );
    }
}
