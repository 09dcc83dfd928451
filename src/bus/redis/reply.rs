//! Answers of the engine as values of the seam.
//!
//! Used by `writer`, and by others for single values. Pure. Any other answer than the expected one becomes a fault.

use super::fault::{fault, of_caught, unexpected, wrong_type};
use super::wire::Value;
use crate::bus::engine::{Appended, Fault, FaultKind, Fenced, Producer, Repeat, Snapshot};
use crate::foreign_text::Secrets;
use crate::identities::First;
use crate::message::{Epoch, Fingerprint, MessageId};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The oldest engine that has all commands: entry ids such as `5-*` are from 7.0.
const VERSION_MIN: u32 = 7;

/// The bytes of a text.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) | Value::SimpleString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    str::from_utf8(bytes(value)?).ok()
}

pub(super) fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// The id of an entry: two decimal numbers.
pub(super) fn entry_id(text: &str) -> Option<EventId> {
    let (epoch, seq) = text.split_once('-')?;
    let number = |digits: &str| {
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    Some(EventId {
        epoch: Epoch(number(epoch)?),
        seq: number(seq)?,
    })
}

/// The result of the append script; `replicas` are those that confirmed it.
pub(super) fn appended(value: &Value, secrets: &Secrets) -> Result<Appended, Fault> {
    let unknown = || unexpected("the result of an append");
    let parts = array(value).ok_or_else(unknown)?;
    if let Some(refused) = refused(parts)? {
        return Ok(match refused {
            None => Appended::Broken,
            Some(epoch) => Appended::OtherEpoch(epoch),
        });
    }
    match parts {
        [word, Value::Integer(messages), failed, repeats] if text(word) == Some("stored") => {
            let failed = bytes(failed).ok_or_else(unknown)?;
            Ok(Appended::Stored {
                messages: usize::try_from(*messages).map_err(|_| unknown())?,
                replicas: 0,
                repeats: read_repeats(repeats).ok_or_else(unknown)?,
                fault: match &*String::from_utf8_lossy(failed) {
                    "" => None,
                    "PROBES" => Some(wrong_type(":p")),
                    failed => Some(of_caught(failed, secrets)),
                },
            })
        }
        [word, failed] if text(word) == Some("unrecorded") => {
            let failed = String::from_utf8_lossy(bytes(failed).unwrap_or_default());
            let text = of_caught(&failed, secrets).text;
            Err(fault(FaultKind::Lost, text))
        }
        _ => Err(unknown()),
    }
}

/// The messages that repeat others: four texts of each.
fn read_repeats(value: &Value) -> Option<Vec<Repeat>> {
    let texts = array(value)?;
    let repeats = texts.chunks(4).map(|texts| {
        let [number, id, body, time] = texts else {
            return None;
        };
        let body: Fingerprint = bytes(body)?.try_into().ok()?;
        Some(Repeat {
            number: text(number)?.parse().ok()?,
            first: First {
                id: MessageId::from_slice(bytes(id)?).ok()?,
                timestamp_ms: text(time)?.parse().ok()?,
            },
            body: (body != [0; 16]).then_some(body),
        })
    });
    repeats.collect()
}

/// The result of the fence script.
pub(super) fn fenced(value: &Value) -> Result<Fenced, Fault> {
    let unknown = || unexpected("the result of a fence");
    let parts = array(value).ok_or_else(unknown)?;
    if let Some(refused) = refused(parts)? {
        return Ok(refused.map_or(Fenced::Broken, Fenced::OtherEpoch));
    }
    match parts {
        [word, number] if text(word) == Some("at") => {
            let number = text(number).and_then(|number| number.parse().ok());
            number.map(Fenced::At).ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}

/// Whether a script changed nothing because of the epoch: `Some(None)` if it is broken.
#[expect(clippy::option_option, reason = "the inner one is the other epoch")]
fn refused(parts: &[Value]) -> Result<Option<Option<Epoch>>, Fault> {
    match (parts.first().and_then(text), parts.get(1)) {
        (Some("broken"), _) => Ok(Some(None)),
        (Some("other"), epoch) => {
            let epoch = epoch.and_then(text).and_then(|epoch| epoch.parse().ok());
            let epoch = epoch.ok_or_else(|| unexpected("the epoch of the record"))?;
            Ok(Some(Some(Epoch(epoch))))
        }
        _ => Ok(None),
    }
}

/// The result of the snapshot script.
pub(super) fn snapshot(value: &Value, secrets: &Secrets) -> Result<Snapshot, Fault> {
    let unknown = || unexpected("what it holds");
    let parts = array(value).ok_or_else(unknown)?;
    let parts: Option<Vec<&str>> = parts.iter().map(text).collect();
    let parts = parts.ok_or_else(unknown)?;
    let [
        now,
        server,
        replication,
        record_failed,
        lineage,
        recorded,
        body,
        log_failed,
        first,
        last,
    ] = parts[..]
    else {
        return Err(unknown());
    };
    check_version(server)?;
    if record_failed == "failed" {
        let fault = of_caught(lineage, secrets);
        return Err(if lineage.starts_with("WRONGTYPE") {
            wrong_type(":m")
        } else {
            fault
        });
    }
    if !log_failed.is_empty() {
        return Err(wrong_type(":s"));
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = |text: &str| match text {
        "" => Ok(None),
        id => entry_id(id).map(Some).ok_or_else(unknown),
    };
    let unreadable = || {
        let text = "the record of the bus is not readable: a later version or another program has written it; \
                    use this version on all nodes, or delete the key that ends in :m";
        fault(FaultKind::Unusable, text)
    };
    Ok(Snapshot {
        lineage: match lineage {
            "" => None,
            lineage => Some(Lineage::parse(lineage).ok_or_else(unreadable)?),
        },
        recorded_history: some(recorded),
        history: info_field(replication, "master_replid")
            .filter(|history| !history.is_empty())
            .ok_or_else(unknown)?
            .to_owned(),
        first: id(first)?,
        last: id(last)?,
        body_bytes_max: match body {
            "" => None,
            body => Some(body.parse().map_err(|_| unreadable())?),
        },
        eviction: eviction(server),
        unix_ms: now.parse().map_err(|_| unknown())?,
    })
}

/// The policy by which the engine removes keys when it reaches its memory limit, if it has a limit and removes
/// keys.
fn eviction(memory: &str) -> Option<String> {
    let limit = info_field(memory, "maxmemory")?;
    let policy = info_field(memory, "maxmemory_policy")?;
    let is_word =
        |text: &str| text.len() < 32 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let evicts = limit != "0" && policy != "noeviction" && is_word(policy);
    evicts.then(|| policy.to_owned())
}

/// A field of the answer to INFO.
pub(super) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim_end)
}

/// Refuses an engine that is too old. Valkey has the version of Redis from which it was made.
pub(super) fn check_version(server: &str) -> Result<(), Fault> {
    let version = info_field(server, "redis_version").unwrap_or("unknown");
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if major.is_some_and(|major: u32| major >= VERSION_MIN) {
        return Ok(());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let version: String = version.chars().filter(|c| is_plain(*c)).take(32).collect();
    let text =
        format!("the engine has version {version}; the bus needs Redis 7.0, Valkey 7.2 or later");
    Err(fault(FaultKind::Unusable, text))
}

/// The text of a probe.
pub(super) fn probe_text(producer: Producer, number: u64) -> String {
    format!("{:016x} {number}", producer.0)
}
