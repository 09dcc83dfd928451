//! Secrets in the output of commands, and of starts that fail.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{
    PASSWORD, TOKEN, WEBHOOK_SECRET, broken, kv, kv_that_quotes, percent, shows_nothing,
    shows_nothing_of, spellings,
};
use crate::support::peer::{Peer, respond};
use crate::support::tls::Authority;

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
