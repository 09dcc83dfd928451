//! No text shows a secret: marked secrets are used in every place, and all output is searched for them.
//!
//! The secrets are those of webhooks and of KV, the passwords of a proxy and in a URL, and the bytes of a TLS
//! key. Contents of requests are in `logs`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::peer::{Peer, respond};
use crate::support::tls::Authority;
use crate::support::{Connection, PATIENCE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Part of every secret here. Its letters occur in no other text of the program.
const MARK: &str = "qZxJw";

const WEBHOOK_SECRET: &str = "wh-qZxJw/4711+\"abc\\def&g";
const TOKEN: &str = "qZxJwTokenOfFortyCharacters_0123456789-x";
const PASSWORD: &str = "pw-qZxJw@0815";

fn percent(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    bytes.concat()
}

/// Every form in which a server may echo a secret.
fn spellings(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    vec![
        secret.to_owned(),
        secret.to_lowercase(),
        percent(secret),
        percent(secret).to_lowercase(),
        json[1..json.len() - 1].to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("user:{secret}")),
        STANDARD.encode(format!("x:{secret}")),
        secret.replace('&', "&amp;").replace('"', "&quot;"),
    ]
}

/// Checks that a text shows no part of a secret, or of the places where it was.
#[track_caller]
fn shows_nothing(text: &str) {
    let lower = text.to_lowercase();
    for secret in [WEBHOOK_SECRET, TOKEN, PASSWORD] {
        for spelling in spellings(secret) {
            for part in [&spelling[..6], &spelling[spelling.len() - 8..]] {
                assert!(!lower.contains(&part.to_lowercase()), "{part} in {text}");
            }
        }
    }
    assert!(!lower.contains(&MARK.to_lowercase()), "{text}");
    let is_plain =
        |c: char| c == '\n' || !(c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c));
    assert!(text.chars().all(is_plain), "{text:?}");
}

/// Checks that a text shows no part of a PEM file, as characters or as numbers.
#[track_caller]
fn shows_nothing_of(pem: &str, text: &str) {
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for line in body {
        for at in 0..line.len().saturating_sub(8) {
            let part = &line[at..at + 8];
            assert!(!text.contains(part), "{part} in {text}");
            let numbers: Vec<String> = part.bytes().map(|byte| byte.to_string()).collect();
            assert!(
                !text.contains(&numbers[..3].join(", ")),
                "{numbers:?} in {text}"
            );
        }
    }
    assert!(!text.contains("45, 45, 45"), "hyphens as numbers in {text}");
}

/// Runs the binary in an environment of exactly `variables`; returns all output.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

fn kv<'a>(token: &'a str, endpoint: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("CLOUDFLARE_ACCOUNT_ID", ACCOUNT),
        ("CLOUDFLARE_API_TOKEN", token),
        ("WEBHOOK_KV", ACCOUNT),
        ("HOOKCAST_KV_ENDPOINT", endpoint),
    ]
}

/// A KV whose error message quotes a text.
fn kv_that_quotes(text: &str) -> Peer {
    let message = serde_json::to_string(text).unwrap();
    let body = format!(r#"{{"success":false,"errors":[{{"code":10000,"message":{message}}}]}}"#);
    Peer::start(move |_, connection| respond(connection, "403 Forbidden", "", &body))
}

#[test]
fn quotes_in_errors_of_kv_are_redacted_before_they_are_cut() {
    for before in [
        0, 1, 60, 100, 115, 119, 120, 127, 128, 135, 145, 155, 159, 160, 161,
    ] {
        let kv_server = kv_that_quotes(&format!("{}{TOKEN} is no token", "y".repeat(before)));
        let (code, text) = run(&["kv-check"], &kv(TOKEN, &kv_server.url()));
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("yy") || before < 2,
            "the message is quoted: {text}"
        );
        shows_nothing(&text);
    }
    for spelling in spellings(TOKEN) {
        let kv_server = kv_that_quotes(&format!("\u{202e}\u{2028}\u{1b}[2J got {spelling}, sorry"));
        let (_, text) = run(&["kv-check"], &kv(TOKEN, &kv_server.url()));
        assert!(text.contains("got ") && text.contains("sorry"), "{text}");
        shows_nothing(&text);
    }
}

#[test]
fn doctor_prints_no_secret_that_a_server_echoes() {
    for spelling in spellings(WEBHOOK_SECRET) {
        let echo = spelling.clone();
        let field = |name: &str| format!("{name}: {}\u{202e}{echo}\r\n", "x".repeat(100));
        let fields = [
            "Server",
            "Via",
            "X-Cache",
            "CF-Ray",
            "X-Served-By",
            "Cache-Control",
            "Content-Encoding",
            "Set-Cookie",
            "Location",
        ]
        .map(field)
        .concat();
        let headers = field("Content-Type") + &fields;
        // By these two the doctor recognizes hookcast and goes on.
        let own = "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n";
        let own_headers = own.to_owned() + &fields;
        let echo = echo.clone();
        let peer = Peer::start(move |request, connection| {
            if request.starts_with("GET /api/webhook HTTP") {
                return respond(connection, "200 OK", &own_headers, r#"{"status":"ok"}"#);
            }
            if !request.starts_with("GET /api/webhook/stream") {
                return respond(connection, "200 OK", &headers, &echo);
            }
            let event = format!(
                "{}id: {echo}\ndata: {{\"type\":\"connected\",\"content\":\"{echo}\"}}\n\n{echo}\n",
                ": heartbeat\n\n".repeat(5)
            );
            respond(connection, &format!("200 {echo}"), &headers, &event)
        });
        let variables = [("WEBHOOK_SECRET", WEBHOOK_SECRET)];
        let (code, text) = run(&["doctor", &peer.url(), "--watch", "5s"], &variables);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("server: xxx") && text.contains("Content-Type is \"xxx"),
            "{text}"
        );
        shows_nothing(&text);
    }
}

/// The proxy's password is in its variable, in `Proxy-Authorization`, and perhaps in its answers.
#[test]
fn a_proxys_password_is_not_printed() {
    let basic = STANDARD.encode(format!("user:{PASSWORD}"));
    let proxy = Peer::start(move |request, connection| {
        assert!(request.starts_with("CONNECT "), "{request}");
        assert!(request.contains(&basic), "{request}");
        let status = format!("407 no {PASSWORD} {basic} {}", percent(PASSWORD));
        respond(
            connection,
            &status,
            &format!("Via: {PASSWORD}\r\n"),
            PASSWORD,
        )
    });
    let url = format!("http://user:{}@{}", percent(PASSWORD), proxy.address);
    for name in ["ALL_PROXY", "https_proxy"] {
        let mut variables = kv(TOKEN, "https://kv.invalid");
        variables.extend([(name, url.as_str()), ("WEBHOOK_SECRET", WEBHOOK_SECRET)]);
        let (code, text) = run(&["kv-check"], &variables);
        assert!(code == 1 && text.contains("407"), "{text}");
        shows_nothing(&text);
        let (code, text) = run(&["doctor", "https://doctor.invalid"], &variables);
        assert!(code == 1 && text.contains("407"), "{text}");
        shows_nothing(&text);
        let (code, text) = run(&["--check-config"], &variables);
        assert_eq!(code, 0, "{text}");
        shows_nothing(&text);
    }
}

/// Arguments and variables.
type Case<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>);

/// Secrets in wrong places, and invalid secrets.
#[test]
fn configuration_errors_show_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let two_lines = file(
        "two-lines",
        format!("{WEBHOOK_SECRET}\n{WEBHOOK_SECRET}\n").as_bytes(),
    );
    let not_text = file("not-text", &[&[0xff], WEBHOOK_SECRET.as_bytes()].concat());
    let long = file("long", WEBHOOK_SECRET.repeat(1000).as_bytes());
    let token_file = file("token", TOKEN.as_bytes());
    let user_url = format!("https://user:{PASSWORD}@kv.example/x");
    let user_path = format!("https://user:a/{PASSWORD}@kv.example/x\u{1b}[2J");
    let bare_user = format!("user:{PASSWORD}@kv.example");
    let secret = ("WEBHOOK_SECRET", WEBHOOK_SECRET);
    let with_newline = format!("{TOKEN}\n");
    let with_control = format!("{WEBHOOK_SECRET}\u{7}");
    let cases: Vec<Case<'_>> = vec![
        (vec!["--kv-endpoint", &user_url], vec![]),
        (vec!["--kv-endpoint", &user_path], vec![]),
        (vec![], vec![("HOOKCAST_KV_ENDPOINT", &user_url)]),
        (vec![], vec![("HOOKCAST_KV_ENDPOINT", &bare_user)]),
        (vec!["doctor", &user_url], vec![]),
        (vec!["doctor", &bare_user], vec![]),
        (vec!["--allow-origin", &user_url], vec![]),
        (vec!["--heartbeat", WEBHOOK_SECRET], vec![secret]),
        (vec![], vec![("HOOKCAST_HEARTBEAT", WEBHOOK_SECRET), secret]),
        (
            vec![],
            vec![("HOOKCAST_LISTEN", TOKEN), ("CLOUDFLARE_API_TOKEN", TOKEN)],
        ),
        (vec!["--log-level", WEBHOOK_SECRET], vec![secret]),
        (vec!["--secret-file", WEBHOOK_SECRET], vec![]),
        (vec!["--secret-file", TOKEN], vec![]),
        (vec![], vec![("HOOKCAST_SECRET_FILE", WEBHOOK_SECRET)]),
        (vec!["--secret-file", &two_lines], vec![]),
        (vec!["--secret-file", &not_text], vec![]),
        (vec!["--secret-file", &long], vec![]),
        (vec!["--secret-file", &token_file], vec![secret]),
        (vec![WEBHOOK_SECRET], vec![secret]),
        (vec!["--secret", WEBHOOK_SECRET], vec![secret]),
        (vec!["--secret=qZxJw-4711"], vec![]),
        (vec!["--token=qZxJw-4711", "doctor"], vec![]),
        (vec![], vec![("WEBHOOK_SECRET", &with_control)]),
        (vec![], kv(&with_newline, "https://kv.example")),
        (vec![], vec![("CLOUDFLARE_API_TOKEN", TOKEN)]),
        (
            vec![],
            vec![
                ("CLOUDFLARE_ACCOUNT_ID", WEBHOOK_SECRET),
                ("CLOUDFLARE_API_TOKEN", TOKEN),
                ("WEBHOOK_KV", "x"),
            ],
        ),
        (
            vec![],
            vec![
                ("CLOUDFLARE_ACCOUNT_ID", "a"),
                ("CLOUDFLARE_API_TOKEN", TOKEN),
                ("WEBHOOK_KV", WEBHOOK_SECRET),
            ],
        ),
        (vec!["doctor", "http://192.0.2.1"], vec![secret]),
    ];
    for (arguments, variables) in cases {
        for more in [&[][..], &["--check-config"]] {
            let (code, text) = run(&[more, &arguments].concat(), &variables);
            assert_eq!(code, 2, "{arguments:?} {variables:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            shows_nothing(&text);
        }
    }
    // Arguments and variables may be arbitrary bytes.
    let mut bytes = WEBHOOK_SECRET.as_bytes().to_vec();
    bytes.push(0xff);
    let not_text = OsString::from_vec(bytes);
    for name in ["HOOKCAST_LISTEN", "WEBHOOK_SECRET"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
        let command = command
            .arg("--check-config")
            .env_clear()
            .env(name, &not_text);
        let output = command.output().unwrap();
        shows_nothing(&String::from_utf8(output.stderr).unwrap());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
    let command = command
        .arg(&not_text)
        .env_clear()
        .env("WEBHOOK_SECRET", WEBHOOK_SECRET);
    shows_nothing(&String::from_utf8(command.output().unwrap().stderr).unwrap());
}

/// A key in each form that has lost its line breaks.
fn broken(key: &str) -> [String; 6] {
    let lines: Vec<&str> = key.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    [
        key.replace('\n', "\\n"),
        key.replace('\n', " "),
        key.replace('\n', ""),
        key.replacen("-----\n", "-----\\n", 1),
        format!("-----BEGIN {body}-----\n{}", lines[1]),
        STANDARD.encode(key),
    ]
}

#[test]
fn no_part_of_a_broken_key_is_printed_at_the_start() {
    let authority = Authority::new();
    authority.sign("server");
    let key = std::fs::read_to_string(authority.path("server.key")).unwrap();
    let (cert, path) = (authority.path("server.pem"), authority.path("broken.key"));
    let flags = [
        "--listen",
        "127.0.0.1:0+tls",
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        path.to_str().unwrap(),
    ];
    for pem in broken(&key) {
        std::fs::write(&path, &pem).unwrap();
        for (more, expected) in [
            (&["--check-config"][..], 2),
            (&["--log-format", "text", "--log-level", "trace"], 1),
            (&["--log-format", "json", "--log-level", "trace"], 1),
        ] {
            let (code, text) = run(&[&flags, more].concat(), &[]);
            assert_eq!(code, expected, "{text}");
            assert!(text.contains("broken.key"), "{text}");
            shows_nothing_of(&key, &text);
        }
    }
    // The key itself in place of its path.
    for name in [
        "HOOKCAST_TLS_KEY",
        "HOOKCAST_TLS_CERT",
        "HOOKCAST_SECRET_FILE",
    ] {
        for value in [&key, &STANDARD.encode(&key)] {
            let mut variables = vec![("HOOKCAST_LISTEN", "127.0.0.1:0+tls")];
            variables.extend([("HOOKCAST_TLS_KEY", "k"), ("HOOKCAST_TLS_CERT", "c")]);
            variables.retain(|(other, _)| *other != name);
            variables.push((name, value));
            let (code, text) = run(&[], &variables);
            assert_eq!(code, 2, "{text}");
            shows_nothing_of(&key, &text);
            shows_nothing_of(&STANDARD.encode(&key), &text);
        }
    }
}

/// A server, with its output as it is written.
struct Running {
    child: Child,
    output: Output,
}

type Output = Arc<(Mutex<String>, Condvar)>;

impl Running {
    fn start(directory: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookcast"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Output::default();
        keep(child.stdout.take().unwrap(), &output);
        keep(child.stderr.take().unwrap(), &output);
        Running { child, output }
    }

    /// Waits until the output contains this `count` times, and returns all of it.
    fn wait_for(&self, text: &str, count: usize) -> String {
        let (state, changed) = &*self.output;
        let is_missing = |output: &mut String| output.matches(text).count() < count;
        let state = state.lock().unwrap();
        let (output, _) = changed
            .wait_timeout_while(state, PATIENCE, is_missing)
            .unwrap();
        assert!(
            output.matches(text).count() >= count,
            "no {text:?} in {output}"
        );
        output.clone()
    }

    fn signal(&self, signal: Signal) {
        signal_to(self.child.id(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended already, both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn keep(source: impl Read + Send + 'static, output: &Output) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            output.0.lock().unwrap().extend([&line, "\n"]);
            output.1.notify_all();
        }
    });
}

/// The nth address behind this text in a log, in either format.
fn address(log: &str, message: &str, nth: usize) -> SocketAddr {
    let line = log
        .lines()
        .filter(|line| line.contains(message))
        .nth(nth)
        .unwrap();
    let (_, rest) = line.split_once("address").unwrap();
    let rest = rest.trim_start_matches(['"', ':', '=']);
    rest.split([' ', '"']).next().unwrap().parse().unwrap()
}

/// The whole life of a server: start, requests with right and wrong secrets, a KV that quotes the token, the
/// admin address, a reload with a broken key, a handover, the end.
#[test]
fn a_server_never_prints_a_secret() {
    for format in ["text", "json"] {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.sign("server");
        let (cert, key_path) = (authority.path("server.pem"), authority.path("server.key"));
        let key = std::fs::read_to_string(&key_path).unwrap();
        let kv_server = kv_that_quotes(&format!("{}{TOKEN} {TOKEN}", "y".repeat(130)));
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0+tls",
            "--admin",
            "127.0.0.1:0",
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key_path.to_str().unwrap(),
            "--log-format",
            format,
            "--log-level",
            "trace",
            "--drain",
            "0s",
        ];
        let url = kv_server.url();
        let mut variables = kv(TOKEN, &url);
        let proxy = format!("http://user:{}@127.0.0.1:9", percent(PASSWORD));
        variables.extend([("WEBHOOK_SECRET", WEBHOOK_SECRET), ("HTTPS_PROXY", &proxy)]);
        let server = Running::start(&directory, &arguments, &variables);
        server.wait_for("KV fails", 1);
        let log = server.wait_for("listening", 2);
        let (public, admin) = (
            address(&log, "listening", 0),
            address(&log, "metrics and health", 0),
        );

        let body = br#"{"message":"hello"}"#;
        let mut answers = String::new();
        for secret in [WEBHOOK_SECRET, TOKEN, PASSWORD, "qZxJw-wrong"] {
            let headers = format!("X-Webhook-Secret: {secret}\r\n");
            for (method, target) in [
                ("POST", "/api/webhook"),
                ("GET", "/api/webhook/messages"),
                ("GET", "/nowhere"),
                ("DELETE", "/api/webhook"),
            ] {
                let mut connection = Connection::open(public);
                connection.send_request(
                    method,
                    target,
                    &headers,
                    if method == "POST" { body } else { b"" },
                );
                answers.push_str(&format!("{:?}\n", connection.read_response()).replace('\r', ""));
            }
        }
        for target in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
            let mut connection = Connection::open(admin);
            connection.send_request("GET", target, "", b"");
            answers.push_str(&format!("{:?}\n", connection.read_response()).replace('\r', ""));
        }
        assert!(answers.contains("hookcast_kv"), "{answers}");
        shows_nothing(&answers);

        for (nth, pem) in broken(&key).iter().enumerate() {
            std::fs::write(&key_path, pem).unwrap();
            server.signal(Signal::HUP);
            server.wait_for("certificate not reloaded", nth + 1);
        }
        // First a successor that cannot start because of its key, then one that can.
        server.signal(Signal::USR2);
        server.wait_for("the successor failed", 1);
        std::fs::write(&key_path, &key).unwrap();
        server.signal(Signal::USR2);
        let log = server.wait_for("handed over", 1);
        let (_, pid) = log.split_once("pid").unwrap();
        let digits = pid.trim_start_matches(['"', ':', '=']);
        let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        signal_to(digits.parse().unwrap(), Signal::TERM);
        let log = server.wait_for("drained", 2);
        shows_nothing(&log);
        shows_nothing_of(&key, &log);
    }
}
