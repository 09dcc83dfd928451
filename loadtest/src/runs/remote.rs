//! Makes targets of the flags that name running servers: a preset's protocol, changed by what is given.
//!
//! Called by `single`. Reads the files that flags name, and nothing else: so each error is a fault of the command
//! line.

use std::path::Path;

use crate::cli::RemoteArgs;
use crate::engine::payload::PayloadFormat;
use crate::engine::proc_stats;
use crate::engine::protocol::{Header, Preset, Protocol, Route, blank, set_header};
use crate::engine::target::{Place, Target};
use crate::engine::template::{self, Field};
use crate::exit::Failure;

/// The running servers of the command line. Without a publisher of this run, requests that publish are not
/// described.
pub fn targets(args: &RemoteArgs, publishes: bool) -> Result<Vec<Target>, Failure> {
    described(args, publishes).map_err(Failure::usage)
}

fn described(args: &RemoteArgs, publishes: bool) -> Result<Vec<Target>, String> {
    let count = args.url.len().max(args.stream_url.len());
    for (flag, urls) in [
        ("--url", &args.url),
        ("--stream-url", &args.stream_url),
        ("--publish-url", &args.publish_url),
    ] {
        if !urls.is_empty() && urls.len() != count {
            return Err(format!(
                "{flag} is given {} times for {count} servers",
                urls.len()
            ));
        }
    }
    if !args.pid.is_empty() && args.pid.len() != count {
        return Err(format!(
            "--pid is given {} times for {count} servers",
            args.pid.len()
        ));
    }
    let protocol = protocol(args, publishes)?;
    (0..count).map(|at| target(args, &protocol, at)).collect()
}

fn preset(args: &RemoteArgs) -> Option<Preset> {
    args.preset
        .or((!args.url.is_empty()).then_some(Preset::Hookcast))
}

/// The protocol without the URLs.
fn protocol(args: &RemoteArgs, publishes: bool) -> Result<Protocol, String> {
    let preset = preset(args);
    let mut protocol = preset.map_or_else(blank, |preset| preset.protocol(&args.channel));
    if let Some(body) = &args.publish_body {
        let body = text_or_file("--publish-body", body)?;
        add_content_type(&mut protocol.publish_headers, &body);
        if let Some(message) = template::message_of(&body) {
            protocol.message = message;
        }
        protocol.to_all.body.clone_from(&body);
        if let Some(route) = &mut protocol.to_session {
            route.body = body;
        }
    } else if preset.is_none() && publishes {
        return Err(
            "--publish-body is missing: what to post, such as '{\"text\":\"{message}\"}'".into(),
        );
    }
    if preset.is_none() && publishes && args.publish_url.is_empty() {
        return Err(
            "--publish-url is missing; `watch` needs none: it reads what others publish".into(),
        );
    }
    if let Some(message) = &args.message_in {
        protocol.message.clone_from(message);
    }
    if matches!(preset, Some(Preset::Hookcast | Preset::Pages)) {
        add_secrets(&mut protocol, args)?;
    }
    add_headers(
        &mut protocol.stream_headers,
        "--stream-header",
        &args.stream_header,
    )?;
    add_headers(
        &mut protocol.publish_headers,
        "--publish-header",
        &args.publish_header,
    )?;
    if let Some(method) = &args.publish_method {
        protocol.publish_method.clone_from(method);
    }
    protocol.pipelining |= args.publish_pipelining;
    Ok(protocol)
}

fn target(args: &RemoteArgs, protocol: &Protocol, at: usize) -> Result<Target, String> {
    let any_host = args.i_own_this_host;
    let mut protocol = protocol.clone();
    let base = args
        .url
        .get(at)
        .map(|url| place("--url", url, any_host))
        .transpose()?;
    let base = base.map(|(place, path)| (place, path.trim_end_matches('/')));
    let mut streams = base.as_ref().map(|(place, _)| place.clone());
    let mut publish = streams.clone();
    if let Some((_, base)) = &base {
        for route in routes(&mut protocol) {
            route.stream.insert_str(0, base);
            route.publish.insert_str(0, base);
        }
    }
    if let Some(url) = args.stream_url.get(at) {
        let (place, path) = place("--stream-url", url, any_host)?;
        let path = slashed(path);
        routes(&mut protocol).for_each(|route| route.stream.clone_from(&path));
        publish.get_or_insert_with(|| place.clone());
        streams = Some(place);
    }
    if let Some(url) = args.publish_url.get(at) {
        let (place, path) = place("--publish-url", url, any_host)?;
        let path = slashed(path);
        routes(&mut protocol).for_each(|route| route.publish.clone_from(&path));
        publish = Some(place);
    } else if let Some(port) = preset(args).and_then(Preset::publish_port) {
        publish = publish.map(|place| with_port(&place, port));
    }
    let (Some(streams), Some(publish)) = (streams, publish) else {
        return Err("name the server by --url or --stream-url".into());
    };
    check(&mut protocol)?;
    let pids = match args.pid.get(at) {
        Some(pid) if !proc_stats::is_running(*pid) => {
            return Err(format!("--pid {pid}: there is no such process"));
        }
        Some(pid) => proc_stats::family(*pid),
        None => Vec::new(),
    };
    Ok(Target {
        name: name(args),
        streams,
        publish,
        protocol,
        tls: None,
        gzip: false,
        pids,
    })
}

fn place<'a>(flag: &str, url: &'a str, any_host: bool) -> Result<(Place, &'a str), String> {
    Place::parse(url, any_host).map_err(|error| format!("{flag} {error}"))
}

fn name(args: &RemoteArgs) -> String {
    use clap::ValueEnum;
    let name = args.preset.and_then(|preset| preset.to_possible_value());
    name.map_or("server".into(), |name| name.get_name().to_owned())
}

fn routes(protocol: &mut Protocol) -> impl Iterator<Item = &mut Route> {
    std::iter::once(&mut protocol.to_all).chain(&mut protocol.to_session)
}

/// A path, or a query alone, as a request has it.
fn slashed(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn with_port(place: &Place, port: u16) -> Place {
    let mut place = place.clone();
    let name = place
        .host
        .rsplit_once(':')
        .filter(|(name, _)| !name.ends_with(':'));
    let name = name.map_or(place.host.clone(), |(name, _)| name.to_owned());
    place.host = format!("{name}:{port}");
    place.address.set_port(port);
    place
}

/// Refuses templates that make no request, and finds out whether there are sessions.
fn check(protocol: &mut Protocol) -> Result<(), String> {
    PayloadFormat::of(0, 0, &protocol.message).map_err(|error| format!("--message-in: {error}"))?;
    for route in routes(protocol) {
        let fields =
            template::parts(&route.stream).map_err(|error| format!("--stream-url: {error}"))?;
        let other = fields
            .iter()
            .any(|part| matches!(part, template::Part::Field(field) if *field != Field::Session));
        if other {
            return Err("--stream-url: {session} is the only field that it may have".into());
        }
        template::parts(&route.publish).map_err(|error| format!("--publish-url: {error}"))?;
        template::parts(&route.body).map_err(|error| format!("--publish-body: {error}"))?;
        let sent =
            |field| template::has(&route.body, field) || template::has(&route.publish, field);
        let has_message = sent(Field::Message) || (sent(Field::Id) && sent(Field::Time));
        if !has_message && !route.body.is_empty() {
            return Err("--publish-body lacks {message}, or {id} and {time} apart".into());
        }
    }
    let is_for_session = |route: &Route| {
        template::has(&route.stream, Field::Session)
            && (template::has(&route.body, Field::Session)
                || template::has(&route.publish, Field::Session))
    };
    if is_for_session(&protocol.to_all) {
        protocol.to_session = Some(protocol.to_all.clone());
    }
    protocol.to_session = protocol.to_session.take().filter(is_for_session);
    Ok(())
}

/// A body's media type, unless a header names it: servers refuse JSON without one.
fn add_content_type(headers: &mut Vec<Header>, body: &str) {
    let media = if body.starts_with(['{', '[']) {
        "application/json"
    } else {
        "text/plain"
    };
    if !headers
        .iter()
        .any(|header| header.name.eq_ignore_ascii_case("content-type"))
    {
        set_header(headers, Header::new("Content-Type", media));
    }
}

fn add_secrets(protocol: &mut Protocol, args: &RemoteArgs) -> Result<(), String> {
    if let Some(secret) = &args.secret {
        let header = Header::parse(&format!("X-Webhook-Secret: {secret}"))?;
        set_header(&mut protocol.publish_headers, header.clone());
        set_header(&mut protocol.stream_headers, header);
    }
    match &args.token_file {
        Some(path) => add_token(protocol, path),
        None => Ok(()),
    }
}

/// Opens streams with the token in a file, and without the secret.
pub fn add_token(protocol: &mut Protocol, path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("--token-file {}: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "--token-file {}: this is no token, which is one line without spaces",
            path.display()
        ));
    }
    protocol
        .stream_headers
        .retain(|header| header.name != "X-Webhook-Secret");
    set_header(
        &mut protocol.stream_headers,
        Header::new("Authorization", &format!("Bearer {token}")),
    );
    Ok(())
}

fn add_headers(headers: &mut Vec<Header>, flag: &str, given: &[String]) -> Result<(), String> {
    for given in given {
        let text = text_or_file(flag, given)?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let header = Header::parse(line).map_err(|error| format!("{flag}: {error}"))?;
            set_header(headers, header);
        }
    }
    Ok(())
}

/// The text of a flag, or of the file that it names: `ps` shows flags.
fn text_or_file(flag: &str, given: &str) -> Result<String, String> {
    let Some(path) = given.strip_prefix('@') else {
        return Ok(given.to_owned());
    };
    let text = std::fs::read_to_string(path);
    text.map_err(|error| format!("{flag} @{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        /// See [`targets`].
        #[command(flatten)]
        args: RemoteArgs,
        #[arg(long)]
        target: Option<String>,
    }

    fn parse(flags: &[&str]) -> Result<Vec<Target>, String> {
        let only = Only::try_parse_from(std::iter::once(&"x").chain(flags));
        let only = only.map_err(|error| error.to_string())?;
        targets(&only.args, true).map_err(|error| error.text)
    }

    #[test]
    fn flags_describe_a_server_of_which_nothing_is_known() {
        let target = &parse(&[
            "--stream-url",
            "http://127.0.0.1:1?s={session}",
            "--publish-url",
            "http://127.0.0.1:2/p",
            "--publish-header",
            "X-Key: k",
            "--publish-body",
            r#"{"to":"{session}","n":"{id}","at":{time}}"#,
        ])
        .unwrap()[0];
        assert_eq!(target.streams.address.port(), 1);
        assert_eq!(target.publish.address.port(), 2);
        assert_eq!(target.protocol.to_all.stream, "/?s={session}");
        assert_eq!(target.protocol.message, r#"{id}","at":{time}"#);
        assert!(target.has_sessions());
        let headers = &target.protocol.publish_headers;
        assert_eq!(headers[0], Header::new("Content-Type", "application/json"));
        assert_eq!(headers[1], Header::new("X-Key", "k"));
    }

    #[test]
    fn flags_change_a_preset() {
        let target = &parse(&["--url", "http://127.0.0.1:1/base/", "--secret", "s"]).unwrap()[0];
        assert_eq!(target.protocol.to_all.stream, "/base/api/webhook/stream");
        assert_eq!(
            target.protocol.stream_headers,
            [Header::new("X-Webhook-Secret", "s")]
        );
        let target = &parse(&["--url", "http://[::1]:7999", "--preset", "pushpin"]).unwrap()[0];
        assert_eq!(target.publish.host, "[::1]:5561");
        assert_eq!(target.publish.address, "[::1]:5561".parse().unwrap());
        let target = &parse(&[
            "--url",
            "http://127.0.0.1:1",
            "--preset",
            "nchan",
            "--secret",
            "s",
            "--stream-url",
            "http://127.0.0.1:1/events",
            "--publish-header",
            "content-type: text/html",
        ])
        .unwrap()[0];
        assert_eq!(target.protocol.to_all.stream, "/events");
        assert!(!target.has_sessions(), "no session in the URL of a stream");
        assert_eq!(
            target.protocol.publish_headers,
            [Header::new("content-type", "text/html")]
        );
        assert!(
            target.protocol.stream_headers.is_empty(),
            "the secret is hookcast's"
        );
    }

    #[test]
    fn what_makes_no_request_is_refused() {
        let stream = ["--stream-url", "http://127.0.0.1:1/s"];
        let publish = ["--publish-url", "http://127.0.0.1:1/p", "--publish-body"];
        for (flags, word) in [
            (&stream[..], "--publish-body"),
            (
                &[&stream[..], &["--publish-body", "{message}"]].concat(),
                "--publish-url",
            ),
            (
                &[&stream[..], &publish, &["{massage}"]].concat(),
                "{massage}",
            ),
            (&[&stream[..], &publish, &["no field"]].concat(), "lacks"),
            (
                &[
                    &stream[..],
                    &publish,
                    &["{message}", "--message-in", "{id}"],
                ]
                .concat(),
                "--message-in",
            ),
            (
                &[
                    &stream[..],
                    &publish,
                    &["{message}", "--publish-header", "Bearer abc"],
                ]
                .concat(),
                "--publish-header",
            ),
            (
                &[
                    "--url",
                    "http://127.0.0.1:1",
                    "--url",
                    "http://127.0.0.1:2",
                    "--pid",
                    "1",
                ],
                "--pid",
            ),
            (&["--preset", "nchan"], "--url"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(
                error.contains(word) && !error.contains("abc"),
                "{flags:?}: {error}"
            );
        }
    }

    #[test]
    fn headers_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Authorization: Bearer t\n\nX-Other: o\n").unwrap();
        let flag = format!("@{}", file.path().display());
        let target =
            &parse(&["--url", "http://127.0.0.1:1", "--publish-header", &flag]).unwrap()[0];
        assert_eq!(
            target.protocol.publish_headers[1],
            Header::new("Authorization", "Bearer t")
        );
        assert_eq!(target.protocol.publish_headers.len(), 3);
    }
}
