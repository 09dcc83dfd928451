//! The bare loop of `ingest`: one writer that appends the largest batches to the engine by the same calls as a
//! node, while readers read everything.
//!
//! Called by `ingest`. Uses the halves of hookcast's own library, with a name of its own in the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hookcast::bus::engine::{
    Append, Appended, Begin, Fault, FaultKind, Keep, Outgoing, Producer, Reader, Writer,
};
use hookcast::bus::redis::halves;
use hookcast::config::{BusAddress, BusConfig, HostPort};
use hookcast::limits::BUS_APPEND_MESSAGES_MAX;
use hookcast::message::{Epoch, Message, MessageId};
use hookcast::sse::event_id::EventId;
use hookcast::sse::lineage::Lineage;

/// The name of the bus in the engine.
const NAME: &str = "bare";

/// Messages that the engine keeps: the default of `--bus-history`.
const HISTORY_MESSAGES: u64 = 10_000;

/// The largest body of a webhook: the default of `--max-body-bytes`.
const BODY_BYTES_MAX: u64 = 65_536;

/// The longest time for one call.
const CALL_PATIENCE: Duration = Duration::from_secs(2);

/// Messages a second of one writer, with this many readers, for a time.
pub fn run(
    engine: SocketAddr,
    readers: usize,
    message_bytes: usize,
    time: Duration,
) -> Result<f64, String> {
    let config = config(engine);
    let (mut writer, _) = halves(&config).map_err(|error| error.to_string())?;
    let (epoch, first) = begin(writer.as_mut()).map_err(|fault| fault.to_string())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..readers {
            let (_, reader) = halves(&config).map_err(|error| error.to_string())?;
            let stop = &stop;
            scope.spawn(move || read(reader, EventId { epoch, seq: first }, stop));
        }
        let start = Instant::now();
        let count = write(writer.as_mut(), epoch, first, message_bytes, time);
        let elapsed = start.elapsed();
        stop.store(true, Relaxed);
        let count = count.map_err(|fault| fault.to_string())?;
        Ok(count as f64 / elapsed.as_secs_f64())
    })
}

fn config(engine: SocketAddr) -> BusConfig {
    BusConfig {
        address: BusAddress {
            tls: false,
            hosts: vec![HostPort {
                host: engine.ip().to_string(),
                port: engine.port(),
            }],
            master: None,
            user: None,
            name: NAME.to_owned(),
        },
        password: None,
        ca_pem: None,
        identity: None,
        timeout: CALL_PATIENCE,
        replicas: 0,
        history_messages: HISTORY_MESSAGES as usize,
        body_bytes_max: BODY_BYTES_MAX as usize,
    }
}

/// Begins an epoch in the first round; returns it and its last seq.
fn begin(writer: &mut dyn Writer) -> Result<(Epoch, u64), Fault> {
    let seen = writer.snapshot()?;
    if let (Some(lineage), Some(last)) = (&seen.lineage, seen.last) {
        return Ok((lineage.epoch(), last.seq));
    }
    let epoch = Epoch(1);
    writer.begin(&Begin {
        seen: &seen,
        lineage: &Lineage::new(epoch),
        put_back: &[],
        body_bytes_max: BODY_BYTES_MAX,
    })?;
    Ok((epoch, 0))
}

fn write(
    writer: &mut dyn Writer,
    epoch: Epoch,
    first: u64,
    message_bytes: usize,
    time: Duration,
) -> Result<u64, Fault> {
    let deadline = Instant::now() + time;
    let message = Outgoing {
        message: Arc::new(Message {
            id: MessageId::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91),
            timestamp_ms: 0,
            session: None,
            content: "x".repeat(message_bytes),
        }),
        keeps_time: false,
    };
    let batch = vec![message; BUS_APPEND_MESSAGES_MAX];
    let producer = Producer(std::process::id().into());
    let mut count = 0;
    while Instant::now() < deadline {
        let seq = (first + count).checked_sub(HISTORY_MESSAGES);
        let append = Append {
            epoch,
            producer,
            first_number: first + count + 1,
            messages: &batch,
            probe: None,
            keep: seq.map_or(Keep::All, |seq| Keep::From(EventId { epoch, seq })),
            replicas: 0,
        };
        match writer.append(&append)? {
            Appended::Stored {
                messages,
                fault: None,
                ..
            } => count += messages as u64,
            other => {
                return Err(Fault {
                    kind: FaultKind::Unusable,
                    text: format!("the bare loop was not stored: {other:?}"),
                });
            }
        }
    }
    Ok(count)
}

fn read(mut reader: Box<dyn Reader>, mut after: EventId, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        // A fault of a reader shows in no figure: the writer does not wait for it.
        let Ok(news) = reader.read(after, Duration::from_millis(100)) else {
            continue;
        };
        if let Some(last) = news.entries.last() {
            after = last.id;
        }
    }
}
