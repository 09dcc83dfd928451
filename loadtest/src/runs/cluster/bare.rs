//! The bare loops of `ingest`: writers that append batches to the engine by the same calls as a node, while readers
//! read everything.
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

/// What a loop does.
#[derive(Debug, Clone, Copy)]
pub struct BarePlan {
    /// Writers, each with one call under way.
    pub writers: usize,
    /// Messages of each call.
    pub batch: usize,
    /// Connections that read everything.
    pub readers: usize,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// How long it appends.
    pub time: Duration,
}

impl BarePlan {
    /// The largest batches that a node appends, by one writer.
    pub fn full(readers: usize, message_bytes: usize, time: Duration) -> BarePlan {
        BarePlan {
            writers: 1,
            batch: BUS_APPEND_MESSAGES_MAX,
            readers,
            message_bytes,
            time,
        }
    }

    /// As many writers as nodes, with as many messages under way as there are publishers.
    pub fn of_nodes(
        nodes: usize,
        publishers: usize,
        message_bytes: usize,
        time: Duration,
    ) -> BarePlan {
        BarePlan {
            writers: nodes,
            batch: (publishers / nodes).clamp(1, BUS_APPEND_MESSAGES_MAX),
            readers: nodes,
            message_bytes,
            time,
        }
    }
}

/// Messages a second of a loop.
pub fn run(engine: SocketAddr, plan: BarePlan) -> Result<f64, String> {
    let config = config(engine);
    let connect = |_| halves(&config).map_err(|error| error.to_string());
    let (mut first_writer, _) = connect(0)?;
    let (epoch, first) = begin(first_writer.as_mut()).map_err(|fault| fault.to_string())?;
    let readers: Vec<_> = (0..plan.readers).map(connect).collect::<Result<_, _>>()?;
    let writers: Vec<_> = (0..plan.writers).map(connect).collect::<Result<_, _>>()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (_, reader) in readers {
            let stop = &stop;
            scope.spawn(move || read(reader, EventId { epoch, seq: first }, stop));
        }
        let start = Instant::now();
        let mut running = Vec::new();
        for (nth, (mut writer, _)) in writers.into_iter().enumerate() {
            let task = move || write(writer.as_mut(), epoch, first, nth as u64, plan);
            running.push(scope.spawn(task));
        }
        let mut counts = Vec::new();
        for writer in running {
            counts.push(writer.join());
        }
        let elapsed = start.elapsed();
        stop.store(true, Relaxed);
        let mut total = 0;
        for count in counts {
            let count = count.map_err(|_| "a writer has failed")?;
            total += count.map_err(|fault| fault.to_string())?;
        }
        Ok(total as f64 / elapsed.as_secs_f64())
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

/// Appends as writer `nth`. Returns how many messages.
fn write(
    writer: &mut dyn Writer,
    epoch: Epoch,
    first: u64,
    nth: u64,
    plan: BarePlan,
) -> Result<u64, Fault> {
    let deadline = Instant::now() + plan.time;
    let message = Outgoing {
        message: Arc::new(Message {
            id: MessageId::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91),
            timestamp_ms: 0,
            session: None,
            content: "x".repeat(plan.message_bytes),
            label: None,
            identity: None,
        }),
        keeps_time: false,
    };
    let batch = vec![message; plan.batch];
    // Its numbers go on over the rounds: they begin after all entries of the log.
    let producer = Producer((u64::from(std::process::id()) << 8) | nth);
    let mut count = 0;
    while Instant::now() < deadline {
        let written = count * plan.writers as u64;
        let seq = (first + written).checked_sub(HISTORY_MESSAGES);
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
