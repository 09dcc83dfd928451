//! The half that appends, for Redis and Valkey.
//!
//! Made by [`halves`](super::halves), owned by the appender. One script call for each method, so that each is atomic in the
//! engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Engine, is_unknown_script};
use super::fault::of_waiting;
use super::reply::{appended, fenced, probe_text, snapshot};
use super::scripts::{Scripts, add_message, entry_id, number_text, producer_field};
use super::tls::BusTlsError;
use super::wire::{Command, Value};
use crate::bus::engine::{
    Append, Appended, Begin, Fault, FaultKind, Fenced, Keep, Producer, Snapshot, Writer,
};
use crate::config::BusConfig;
use crate::limits::{BUS_ANSWER_OVERHEAD_BYTES, BUS_BEGIN_MS_MIN, BUS_REPLICAS_WAIT_MS};
use crate::message::Epoch;

/// Bytes of a message in an append call beside its text: its number, its id, its time, and the lengths of its six
/// arguments.
const MESSAGE_OVERHEAD_BYTES: usize = 96;

/// The writer of one node.
pub(super) struct RedisWriter {
    engine: Engine,
    scripts: Arc<Scripts>,
    timeout: Duration,
}

impl RedisWriter {
    pub(super) fn new(
        config: &BusConfig,
        scripts: Arc<Scripts>,
    ) -> Result<RedisWriter, BusTlsError> {
        Ok(RedisWriter {
            engine: Engine::new(config)?,
            scripts,
            timeout: config.timeout,
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The append script, followed by the wait for replicas in the same round trip if there is one. Returns what
    /// the script says, and how many replicas have confirmed.
    fn append_once(
        &mut self,
        append: &Append<'_>,
        with_text: bool,
        deadline: Instant,
    ) -> Result<(Value, u32), Fault> {
        let mut connection = self.engine.connected(deadline)?;
        let waits = append.replicas > 0;
        let mut request = self.append_request(append, with_text);
        if waits {
            // Short, because the next messages wait behind it. The caller asks again.
            Command::new("WAIT")
                .number(append.replicas.into())
                .number(BUS_REPLICAS_WAIT_MS)
                .write_to(&mut request);
        }
        let secrets = &self.engine.secrets;
        connection
            .send(&request, deadline)
            .map_err(|error| of_waiting(&error, secrets))?;
        let answer = connection
            .receive(deadline, BUS_ANSWER_OVERHEAD_BYTES, secrets)
            .map_err(uncertain)?;
        if !waits {
            self.engine.keep(connection);
            return Ok((answer, 0));
        }
        if !append.messages.is_empty() && !has_stored(&answer) {
            // The wait for nothing may take all of the time, so it is left behind with its connection.
            return Ok((answer, 0));
        }
        match connection.receive(deadline, BUS_ANSWER_OVERHEAD_BYTES, secrets) {
            Ok(replicas) => {
                self.engine.keep(connection);
                let Value::Integer(replicas) = replicas else {
                    return Ok((answer, 0));
                };
                Ok((answer, u32::try_from(replicas).unwrap_or(0)))
            }
            Err(_) => Ok((answer, 0)),
        }
    }

    fn append_request(&self, append: &Append<'_>, with_text: bool) -> Vec<u8> {
        let keys = &self.engine.keys;
        let mut command = self.scripts.append.command(&keys.of_append(), with_text);
        let probe = append
            .probe
            .map(|number| probe_text(append.producer, number));
        let texts = append
            .messages
            .iter()
            .map(|outgoing| outgoing.message.text_bytes());
        let bytes = texts.sum::<usize>() + append.messages.len() * MESSAGE_OVERHEAD_BYTES;
        command
            .reserve(bytes)
            .number(append.epoch.0)
            .arg(producer_field(append.producer))
            .arg(probe.unwrap_or_default())
            .arg(match append.keep {
                Keep::All => String::new(),
                Keep::From(id) => entry_id(id),
                Keep::Newest(entries) => entries.to_string(),
            });
        for (number, outgoing) in (append.first_number..).zip(append.messages) {
            command.arg(number_text(number));
            add_message(&mut command, &outgoing.message, outgoing.keeps_time);
        }
        command.to_request()
    }
}

impl Writer for RedisWriter {
    fn append(&mut self, append: &Append<'_>) -> Result<Appended, Fault> {
        let deadline = self.deadline();
        let (mut answer, mut confirmed) = self.append_once(append, false, deadline)?;
        if is_unknown_script(&answer) {
            (answer, confirmed) = self.append_once(append, true, deadline)?;
        }
        let answer = self.engine.accept(answer)?;
        match appended(&answer, &self.engine.secrets).map_err(uncertain)? {
            // A probe alone has no message that a fault could concern.
            Appended::Stored {
                fault: Some(fault), ..
            } if append.messages.is_empty() => Err(fault),
            Appended::Stored {
                messages,
                fault,
                repeats,
                ..
            } => Ok(Appended::Stored {
                // A fault of the probe concerns no message.
                fault: fault.filter(|_| messages < append.messages.len()),
                messages,
                replicas: confirmed,
                repeats,
            }),
            other => Ok(other),
        }
    }

    fn fence(&mut self, epoch: Epoch, producer: Producer, number: u64) -> Result<Fenced, Fault> {
        let deadline = self.deadline();
        let keys = self.engine.keys.clone();
        let answer = self.engine.run(
            &self.scripts.fence,
            &[&keys.log, &keys.record, &keys.probes],
            |command| {
                command
                    .number(epoch.0)
                    .arg(producer_field(producer))
                    .arg(number_text(number));
            },
            deadline,
        )?;
        fenced(&answer).map_err(uncertain)
    }

    fn snapshot(&mut self) -> Result<Snapshot, Fault> {
        let deadline = self.deadline();
        take_snapshot(&mut self.engine, &self.scripts, deadline)
    }

    fn begin(&mut self, begin: &Begin<'_>) -> Result<bool, Fault> {
        let longest = self.timeout.max(Duration::from_millis(BUS_BEGIN_MS_MIN));
        let keys = self.engine.keys.clone();
        // Rare and perhaps large, so it is sent with its text at once.
        let mut command = self.scripts.begin.command(&keys.of_append(), true);
        let seen = begin.seen;
        let lineage = seen.lineage.as_ref().map(ToString::to_string);
        let newest = begin
            .put_back
            .iter()
            .map(|(_, message)| message.timestamp_ms);
        command
            .arg(lineage.unwrap_or_default())
            .arg(seen.recorded_history.as_deref().unwrap_or_default())
            .arg(seen.last.map(entry_id).unwrap_or_default())
            .number(begin.lineage.epoch().0)
            .arg(begin.lineage.to_string())
            .number(begin.lineage.begun_after())
            .number(begin.body_bytes_max)
            .number(newest.max().unwrap_or(0));
        for (seq, message) in begin.put_back {
            command.number(*seq);
            add_message(&mut command, message, true);
        }
        let deadline = Instant::now() + longest;
        let answer = self
            .engine
            .ask(&command, deadline, BUS_ANSWER_OVERHEAD_BYTES)?;
        flag(&answer)
    }

    fn raise_body_bytes_max(&mut self, bytes: u64) -> Result<(), Fault> {
        let deadline = self.deadline();
        let key = self.engine.keys.record.clone();
        let raise = |command: &mut Command| {
            command.number(bytes);
        };
        self.engine
            .run(&self.scripts.raise_body, &[&key], raise, deadline)
            .map(drop)
    }

    fn lease(&mut self, producer: Producer, time: Duration) -> Result<bool, Fault> {
        let deadline = self.deadline();
        let key = self.engine.keys.lease.clone();
        let time_ms = time.as_millis().max(1) as u64;
        let answer = self.engine.run(
            &self.scripts.lease,
            &[&key],
            |command| {
                command.arg(producer_field(producer)).number(time_ms);
            },
            deadline,
        )?;
        flag(&answer)
    }

    fn end_lease(&mut self, producer: Producer) -> Result<(), Fault> {
        let deadline = self.deadline();
        let key = self.engine.keys.lease.clone();
        let end = |command: &mut Command| {
            command.arg(producer_field(producer));
        };
        self.engine
            .run(&self.scripts.end_lease, &[&key], end, deadline)
            .map(drop)
    }

    fn reconnect(&mut self) {
        self.engine.disconnect();
    }
}

/// What the engine holds.
pub(super) fn take_snapshot(
    engine: &mut Engine,
    scripts: &Scripts,
    deadline: Instant,
) -> Result<Snapshot, Fault> {
    let keys = engine.keys.clone();
    let keys = [&*keys.log, &keys.record];
    let answer = engine.run(&scripts.snapshot, &keys, |_| {}, deadline)?;
    snapshot(&answer, &engine.secrets)
}

/// Whether the answer says that at least one message is in the log.
fn has_stored(answer: &Value) -> bool {
    matches!(answer, Value::Array(parts) if matches!(parts[..], [_, Value::Integer(1..), _, _]))
}

/// A fault of an answer that cannot be read: the call may have been executed.
fn uncertain(fault: Fault) -> Fault {
    Fault {
        kind: FaultKind::Lost,
        ..fault
    }
}

fn flag(answer: &Value) -> Result<bool, Fault> {
    match answer {
        Value::Integer(flag) => Ok(*flag == 1),
        _ => Err(uncertain(super::fault::unexpected(
            "the result of a change",
        ))),
    }
}
