//! `hookcast bus-check`: tries the engine of the bus step by step, and reports each step as a sentence.
//!
//! Called by `main`, which prints the result. Never changes the keys of a bus: commands are tried on a key of its
//! own, which is then deleted. An engine that forbids `CONFIG GET` is checked as far as it can be.

use std::time::{Duration, Instant};

use super::connection::Engine;
use super::reply::{array, check_version, info_field, text};
use super::scripts::Scripts;
use super::wire::{Command, Value};
use super::writer::take_snapshot;
use crate::bus::engine::{Fault, FaultKind, Snapshot};
use crate::check::{Check, Verdict};
use crate::config::{BusConfig, is_loopback_host};
use crate::limits::BUS_ANSWER_OVERHEAD_BYTES;

const SETTINGS: &str = "settings";
const CONNECTION: &str = "connection";
const USER: &str = "user";
const PRIMARY: &str = "primary";
const VERSION: &str = "version";
const PERMISSIONS: &str = "permissions";
const WRITE: &str = "write";
const KEYS: &str = "keys";
const MEMORY: &str = "memory";
const PERSISTENCE: &str = "persistence";
const REPLICAS: &str = "replicas";

/// All subjects, in the order in which they are checked.
const SUBJECTS: [&str; 11] = [
    SETTINGS,
    CONNECTION,
    USER,
    PRIMARY,
    VERSION,
    PERMISSIONS,
    WRITE,
    KEYS,
    MEMORY,
    PERSISTENCE,
    REPLICAS,
];

/// Tries each step. The bus works if no check is [`Verdict::Failed`].
pub fn bus_check(config: &BusConfig) -> Vec<Check> {
    let mut engine = match Engine::new(config) {
        Ok(engine) => engine,
        Err(error) => {
            return with_skipped(vec![check(SETTINGS, Verdict::Failed, error.to_string())]);
        }
    };
    let mut checks = vec![passed(SETTINGS, &config.address.to_string())];
    let mut visit = Visit {
        engine: &mut engine,
        timeout: config.timeout,
    };
    if let Err(fault) = visit.info("server") {
        checks.extend(unconnected(&fault));
        return with_skipped(checks);
    }
    checks.push(passed(CONNECTION, "the engine answers"));
    checks.push(user(config));
    checks.push(passed(
        PRIMARY,
        "the engine is the primary and has the keys",
    ));
    checks.push(visit.version());
    if checks.iter().any(|check| check.verdict == Verdict::Failed) {
        return with_skipped(checks);
    }
    checks.extend(visit.permissions());
    checks.push(visit.keys(config));
    checks.push(visit.memory());
    checks.push(visit.persistence());
    checks.push(visit.replicas(config));
    checks
}

/// The checks for a failed connection: those before the failed one work.
fn unconnected(fault: &Fault) -> Vec<Check> {
    let (culprit, advice) = match fault.kind {
        FaultKind::Unreachable | FaultKind::Lost | FaultKind::Unusable => (
            CONNECTION,
            "check host and port in --bus, redis:// or rediss:// as the engine has it, --bus-ca-file, the \
             engine's bind and the firewall",
        ),
        FaultKind::Denied => (
            USER,
            "check USER in --bus and --bus-password-file against the engine's ACL LIST or requirepass",
        ),
        FaultKind::NotPrimary | FaultKind::Full => (
            PRIMARY,
            "give the primary's address, or let Sentinel name it: redis+sentinel://",
        ),
    };
    let before = SUBJECTS[1..]
        .iter()
        .take_while(|subject| **subject != culprit);
    let mut checks: Vec<Check> = before
        .map(|subject| match *subject {
            CONNECTION => passed(CONNECTION, "the engine answers"),
            subject => passed(subject, "the engine takes the user and the password"),
        })
        .collect();
    checks.push(check(
        culprit,
        Verdict::Failed,
        format!("{fault}; {advice}"),
    ));
    checks
}

fn user(config: &BusConfig) -> Check {
    let is_here = config
        .address
        .hosts
        .iter()
        .all(|host| is_loopback_host(&host.host));
    if config.password.is_some() {
        passed(USER, "the engine takes the user and the password")
    } else if is_here {
        passed(USER, "the engine asks for no password")
    } else {
        let words = "the engine asks for no password: every client that reaches it can read all messages and delete \
                     them; set requirepass or users, and --bus-password-file";
        noted(USER, words)
    }
}

/// The connection of one check.
struct Visit<'a> {
    engine: &'a mut Engine,
    timeout: Duration,
}

impl Visit<'_> {
    fn ask(&mut self, command: &Command) -> Result<Value, Fault> {
        let deadline = Instant::now() + self.timeout;
        self.engine
            .ask(command, deadline, BUS_ANSWER_OVERHEAD_BYTES)
    }

    fn info(&mut self, section: &str) -> Result<String, Fault> {
        let info = self.ask(Command::new("INFO").arg(section))?;
        Ok(text(&info).unwrap_or_default().to_owned())
    }

    /// A setting of the engine; `None` if the user may not read it.
    fn setting(&mut self, name: &str) -> Option<String> {
        let answer = self.ask(Command::new("CONFIG").arg("GET").arg(name)).ok()?;
        let value = array(&answer)?.get(1)?;
        text(value).map(str::to_owned)
    }

    fn version(&mut self) -> Check {
        let info = match self.info("server") {
            Ok(info) => info,
            Err(fault) => return failed(VERSION, &fault),
        };
        if let Err(fault) = check_version(&info) {
            return failed(VERSION, &fault);
        }
        let field = |name| info_field(&info, name).unwrap_or("unknown");
        match info_field(&info, "valkey_version") {
            Some(version) => passed(VERSION, &format!("Valkey {version}")),
            None => passed(VERSION, &format!("Redis {}", field("redis_version"))),
        }
    }

    /// Tries each command that the bus uses, and the key itself.
    fn permissions(&mut self) -> [Check; 2] {
        let key = self.engine.keys.check.clone();
        let mut lacking = Vec::new();
        let mut refusal = None;
        for words in commands(&key) {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            match self.ask(&command) {
                Err(fault) if fault.kind == FaultKind::Denied => {
                    let name = words[0].to_lowercase();
                    if !lacking.contains(&name) {
                        lacking.push(name);
                    }
                }
                // Other errors follow from a command that was refused, or are about a script that is unknown.
                Err(fault) if fault.kind == FaultKind::Full => {
                    refusal.get_or_insert(fault);
                }
                Err(fault) if fault.kind == FaultKind::Lost => {
                    refusal.get_or_insert(fault);
                    break;
                }
                _ => {}
            }
        }
        let permissions = if lacking.is_empty() {
            passed(PERMISSIONS, "the user may execute every command of the bus")
        } else {
            let words = format!(
                "the user may not execute {}, or not on the key {key}; the engine's command is ACL SETUSER \
                 with +{} and ~{}*",
                lacking.join(", "),
                lacking.join(" +"),
                key.trim_end_matches("check"),
            );
            check(PERMISSIONS, Verdict::Failed, words)
        };
        let write = match refusal {
            Some(fault) => {
                let words = format!("{fault}; until that is over webhooks are answered with 503");
                check(WRITE, Verdict::Failed, words)
            }
            None if !lacking.is_empty() => check(WRITE, Verdict::Skipped, "not known".into()),
            None => passed(
                WRITE,
                &format!("the engine takes messages (tried on the key {key})"),
            ),
        };
        [permissions, write]
    }

    fn keys(&mut self, config: &BusConfig) -> Check {
        let deadline = Instant::now() + self.timeout;
        let probes = self.ask(Command::new("TYPE").arg(self.engine.keys.probes.clone()));
        let lease = self.ask(Command::new("TYPE").arg(self.engine.keys.lease.clone()));
        let census = self.ask(Command::new("TYPE").arg(self.engine.keys.census.clone()));
        let has_type = |answer: &Result<Value, Fault>, good: &str| match answer {
            Ok(kind) => [Some("none"), Some(good)].contains(&text(kind)),
            Err(_) => true,
        };
        for (key, is_good) in [
            (":p", has_type(&probes, "stream")),
            (":l", has_type(&lease, "string")),
            (":c", has_type(&census, "hash")),
        ] {
            if !is_good {
                return failed(KEYS, &super::fault::wrong_type(key));
            }
        }
        match take_snapshot(self.engine, &Scripts::new(), deadline) {
            Err(fault) => failed(KEYS, &fault),
            Ok(snapshot) => record(&snapshot, config),
        }
    }

    fn memory(&mut self) -> Check {
        let info = match self.info("memory") {
            Ok(info) => info,
            Err(fault) => return failed(MEMORY, &fault),
        };
        let field = |name| info_field(&info, name).unwrap_or_default();
        let (policy, most, used) = (
            field("maxmemory_policy"),
            field("maxmemory"),
            field("used_memory_human"),
        );
        if policy.is_empty() {
            return check(
                MEMORY,
                Verdict::Skipped,
                "the engine does not show its maxmemory-policy".into(),
            );
        }
        if policy != "noeviction" {
            let words = format!(
                "maxmemory-policy {policy} lets the engine delete the keys of the bus at any time; set noeviction"
            );
            return check(MEMORY, Verdict::Failed, words);
        }
        if most == "0" {
            let words = format!(
                "no maxmemory: nothing keeps the engine ({used} in use) from taking all memory of its machine; set \
                 maxmemory"
            );
            return noted(MEMORY, &words);
        }
        let most = field("maxmemory_human");
        passed(
            MEMORY,
            &format!("{used} of {most} in use, and nothing is evicted"),
        )
    }

    fn persistence(&mut self) -> Check {
        let info = match self.info("persistence") {
            Ok(info) => info,
            Err(fault) => return failed(PERSISTENCE, &fault),
        };
        let field = |name| info_field(&info, name).unwrap_or_default();
        for (name, what) in [
            ("aof_last_write_status", "append-only file"),
            ("rdb_last_bgsave_status", "snapshot"),
        ] {
            if field(name) == "err" {
                let words = format!("the engine's last {what} failed; see its log and its disk");
                return check(PERSISTENCE, Verdict::Failed, words);
            }
        }
        if field("aof_enabled") != "1" {
            return match self.setting("save").as_deref() {
                Some("") => noted(
                    PERSISTENCE,
                    "none: a restart of the engine loses everything but what running nodes hold and put back; set \
                     appendonly yes",
                ),
                Some(save) => noted(
                    PERSISTENCE,
                    &format!(
                        "snapshots only (save {save}): a restart of the engine loses what came after the last one, but \
                     what running nodes hold and put back; set appendonly yes"
                    ),
                ),
                None => noted(
                    PERSISTENCE,
                    "no append-only file: a restart of the engine loses what came after the last snapshot; whether \
                     there are snapshots could not be checked, because CONFIG GET is not allowed",
                ),
            };
        }
        match self.setting("appendfsync").as_deref() {
            Some("always") => passed(PERSISTENCE, "append-only file, synced before each answer"),
            Some("everysec") => passed(
                PERSISTENCE,
                "append-only file, synced each second: a power failure takes about the last second",
            ),
            Some(other) => noted(
                PERSISTENCE,
                &format!(
                    "append-only file with appendfsync {other}: a power failure takes about half a minute; set everysec"
                ),
            ),
            None => passed(
                PERSISTENCE,
                "append-only file; how often it is synced could not be checked, because CONFIG GET is not allowed",
            ),
        }
    }

    fn replicas(&mut self, config: &BusConfig) -> Check {
        let info = match self.info("replication") {
            Ok(info) => info,
            Err(fault) => return failed(REPLICAS, &fault),
        };
        let connected = info_field(&info, "connected_slaves");
        let connected: u32 = connected.and_then(|count| count.parse().ok()).unwrap_or(0);
        if connected < config.replicas {
            let words = format!(
                "{connected} are connected, and --bus-replicas asks for {}: no webhook would be acknowledged",
                config.replicas
            );
            return check(REPLICAS, Verdict::Failed, words);
        }
        if connected == 0 {
            return noted(
                REPLICAS,
                "none: if the engine's machine is lost, only what running nodes hold remains",
            );
        }
        match self.setting("min-replicas-to-write").as_deref() {
            Some("0") => noted(
                REPLICAS,
                &format!(
                    "{connected} connected; with min-replicas-to-write 0, a primary that is cut off from them goes on \
                 taking messages, which are lost at a fail-over; set 1"
                ),
            ),
            Some(least) => passed(
                REPLICAS,
                &format!("{connected} connected, min-replicas-to-write {least}"),
            ),
            None => passed(
                REPLICAS,
                &format!(
                    "{connected} connected; min-replicas-to-write could not be checked, because CONFIG GET is not allowed"
                ),
            ),
        }
    }
}

/// What there is of this bus, and whether this node fits it.
fn record(snapshot: &Snapshot, config: &BusConfig) -> Check {
    let Some(lineage) = &snapshot.lineage else {
        return passed(
            KEYS,
            "there is no bus of this name yet; the first node begins it",
        );
    };
    let body = snapshot.body_bytes_max.unwrap_or(0);
    let epoch = lineage.epoch();
    if body > config.body_bytes_max as u64 {
        let words = format!(
            "the nodes of this bus take bodies of {body} bytes, and this one would take {}; set --max-body-bytes \
             {body}, as on all its nodes",
            config.body_bytes_max
        );
        return check(KEYS, Verdict::Failed, words);
    }
    if body < config.body_bytes_max as u64 {
        let words = format!(
            "the nodes of this bus take bodies of {body} bytes, and this one would take more; set --max-body-bytes \
             {body}, as on all its nodes"
        );
        return noted(KEYS, &words);
    }
    if !snapshot.is_unbroken() {
        return passed(
            KEYS,
            &format!(
                "the bus is there (epoch {epoch}); the engine was restarted or promoted since, so the next node begins an \
             epoch"
            ),
        );
    }
    passed(
        KEYS,
        &format!("the bus is there (epoch {epoch}, bodies up to {body} bytes)"),
    )
}

/// Every command that the bus uses, on a key of its own, in an order in which each can succeed.
fn commands(key: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["DEL", key],
        vec!["EVAL", "return redis.call('INFO', 'replication')", "1", key],
        vec![
            "EVALSHA",
            "0000000000000000000000000000000000000000",
            "1",
            key,
        ],
        vec!["TIME"],
        vec!["TYPE", key],
        vec!["EXISTS", key],
        vec!["XADD", key, "1-1", "c", "written by hookcast bus-check"],
        vec!["XTRIM", key, "MINID", "~", "1-1"],
        vec!["XSETID", key, "1-5"],
        vec!["XINFO", "STREAM", key],
        vec!["XRANGE", key, "-", "+", "COUNT", "1"],
        vec!["XREVRANGE", key, "+", "-", "COUNT", "1"],
        vec!["XREAD", "COUNT", "1", "BLOCK", "1", "STREAMS", key, "0-0"],
        vec!["DEL", key],
        vec!["HSET", key, "a", "1"],
        vec!["HGET", key, "a"],
        vec!["HMGET", key, "a"],
        vec!["HLEN", key],
        vec!["HGETALL", key],
        vec!["HDEL", key, "b"],
        vec!["PEXPIRE", key, "60000"],
        vec!["DEL", key],
        vec!["SET", key, "1", "PX", "60000"],
        vec!["GET", key],
        vec!["WAIT", "0", "1"],
        vec!["DEL", key],
    ]
}

fn check(subject: &'static str, verdict: Verdict, words: String) -> Check {
    Check {
        subject,
        verdict,
        words,
    }
}

fn passed(subject: &'static str, words: &str) -> Check {
    check(subject, Verdict::Passed, words.to_owned())
}

fn noted(subject: &'static str, words: &str) -> Check {
    check(subject, Verdict::Noted, words.to_owned())
}

fn failed(subject: &'static str, fault: &Fault) -> Check {
    check(subject, Verdict::Failed, fault.to_string())
}

/// Adds the subjects that were not tried.
fn with_skipped(mut checks: Vec<Check>) -> Vec<Check> {
    for subject in &SUBJECTS[checks.len()..] {
        checks.push(check(subject, Verdict::Skipped, "not tried".into()));
    }
    checks
}
