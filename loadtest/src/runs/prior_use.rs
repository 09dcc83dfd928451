//! Asks before a run disturbs a server that was not started for it: the run's messages flood its streams and
//! replace its kept messages.
//!
//! Called by `single` for running servers, before any load. A stream shows the number of kept messages. The number of
//! open streams is only in the metrics of hookcast's `--admin` address.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

use crate::cli::RunArgs;
use crate::console;
use crate::engine::load::{Load, Rate};
use crate::engine::target::{Place, Target};
use crate::exit::Failure;
use crate::signals;

/// Timeout of a read from the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest head and first event of a stream.
const STREAM_BYTES_MAX: usize = 64 * 1024;

/// Longest metrics; hookcast's are about 30 KiB.
const METRICS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The use of a server, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PriorUse {
    /// Messages of the replay; `None` if the server announces none.
    kept: Option<u64>,
    /// Open streams; `None` if unknown.
    viewers: Option<u64>,
}

/// Returns once loading the server is confirmed.
pub fn agree(targets: &[Target], loads: &[Load], args: &RunArgs) -> Result<(), Failure> {
    let reads_only = |load: &Load| matches!(load.rate, Rate::Idle | Rate::Elsewhere);
    let publishes = |load: &Load| !reads_only(load) || load.published_before > 0;
    let publishes = loads.iter().any(publishes);
    let viewers = match &args.remote.admin {
        Some(url) => {
            let admin = Place::parse(url, args.remote.i_own_this_host);
            let admin = admin.map_err(|error| Failure::usage(format!("--admin {error}")))?;
            Some(viewers(url, admin)?)
        }
        None => None,
    };
    let mut texts = Vec::new();
    for target in targets {
        let kept = kept(target).map_err(|error| format!("{}: {error}", target.streams.address))?;
        let found = PriorUse { kept, viewers };
        if publishes && (found.kept, found.viewers) != (Some(0), Some(0)) {
            texts.push(describe(&found, &target.streams.host));
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    texts.push(
        "The run sends its messages to every stream there, and they replace the kept ones.".into(),
    );
    let text = texts.join("\n");
    if args.remote.yes {
        console::note(&text);
        return Ok(());
    }
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !can_ask {
        return Err(Failure::usage(format!(
            "{text}\n--yes loads it without asking; nothing was loaded"
        )));
    }
    let agreed = signals::ending_at_once(|| ask(&text, io::stdin().lock(), io::stderr().lock()));
    match agreed {
        Ok(true) => Ok(()),
        _ => Err(Failure::usage("nothing was loaded")),
    }
}

fn describe(found: &PriorUse, host: &str) -> String {
    let count =
        |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let viewers = match found.viewers {
        Some(viewers) => format!("{} open", count(viewers, "stream")),
        None => "an unknown number of streams open (--admin URL reads it)".into(),
    };
    let kept = match found.kept {
        Some(kept) => count(kept, "kept message"),
        None => "an unknown number of kept messages".into(),
    };
    format!("{host} has {kept} and {viewers}.")
}

fn ask(text: &str, mut input: impl BufRead, mut output: impl Write) -> io::Result<bool> {
    write!(output, "{text}\nLoad it? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Kept messages, from the first event of a stream with this run's secret. If the server has a secret and the
/// run lacks it, messages for sessions are not counted.
fn kept(target: &Target) -> Result<Option<u64>, String> {
    let announces = target.protocol.announces_history;
    let text = exchange(
        target.streams.address,
        &target.stream_request(0, [], None),
        STREAM_BYTES_MAX,
        |bytes| {
            let head = memmem::find(bytes, b"\r\n\r\n");
            let event = memmem::find(bytes, b"\"connected\"");
            let event = event.is_some_and(|at| bytes[at..].contains(&b'\n'));
            event || (head.is_some() && !announces)
        },
    )?;
    let head = text.lines().next().unwrap_or_default();
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!(
            "a stream request was answered with {head:?}; --secret, --token-file or --stream-header may be missing"
        ));
    }
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .find(|event| event["type"] == "connected")
        .and_then(|event| event["replay"].as_u64()))
}

/// Open streams, from the metrics of the admin address.
fn viewers(url: &str, (admin, base): (Place, &str)) -> Result<u64, String> {
    let request = format!(
        "GET {}/metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        base.trim_end_matches('/'),
        admin.host
    );
    let text = exchange(admin.address, request.as_bytes(), METRICS_BYTES_MAX, |_| {
        false
    });
    let text = text.map_err(|error| format!("--admin {url}: {error}"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("hookcast_streams "))
        .and_then(|value| value.trim().parse().ok());
    value.ok_or_else(|| format!("--admin {url}: its metrics lack hookcast_streams"))
}

/// Sends a request and reads until `is_enough`, the end, or a timeout.
fn exchange(
    address: SocketAddr,
    request: &[u8],
    bytes_max: usize,
    is_enough: impl Fn(&[u8]) -> bool,
) -> Result<String, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(request)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while bytes.len() < bytes_max && !is_enough(&bytes) {
            match connection.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                // The error of a timeout on a blocking socket (socket(7)).
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.is_empty() => Err("it takes a connection and sends nothing".into()),
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_consent() {
        for (answer, agreed) in [
            ("y\n", true),
            ("yes\n", true),
            ("n\n", false),
            ("\n", false),
            ("", false),
        ] {
            let mut output = Vec::new();
            let said = ask("100 kept messages", answer.as_bytes(), &mut output).unwrap();
            assert_eq!(said, agreed, "{answer:?}");
            let output = String::from_utf8(output).unwrap();
            assert!(output.starts_with("100 kept messages\n") && output.ends_with("[y/N] "));
        }
    }

    #[test]
    fn unknown_numbers_are_reported_as_unknown() {
        let text = |kept, viewers| describe(&PriorUse { kept, viewers }, "h:1");
        assert_eq!(
            text(Some(1), Some(2)),
            "h:1 has 1 kept message and 2 streams open."
        );
        assert!(text(Some(0), None).contains("an unknown number of streams open (--admin"));
        assert!(text(None, Some(0)).contains("an unknown number of kept messages and 0 streams"));
    }
}
