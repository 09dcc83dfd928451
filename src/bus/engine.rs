//! The seam between the bus and an engine: what a node needs of it, as a writer, a reader and a census.
//!
//! Implemented by `redis` for Redis and Valkey, and by tests with an engine in memory. Called by the
//! publisher and by the follower, each with a connection of its own. An implementation connects when it is
//! called, and drops its connection after every [`Fault`] that leaves a call unanswered. It never repeats a
//! call: only the caller knows whether that is safe.
//!
//! An engine keeps one log of entries. Their [`EventId`]s increase: an entry with a smaller epoch than the
//! last one's is refused. Beside the log it keeps a record: the epoch, the lineage, the identity of its own
//! history, the largest body, and of each producer the number of the last message that was appended. It also keeps
//! the identities of the newest messages, and appends no repeat.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::hub::{Outgoing, Repeat};
use crate::message::{Epoch, Fingerprint, Message};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The random number of a process that appends. Its messages have numbers that increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Producer(pub u64);

/// One append call.
#[derive(Debug)]
pub struct Append<'a> {
    /// The epoch that the node believes to be current.
    pub epoch: Epoch,
    /// The process that appends.
    pub producer: Producer,
    /// The number of the first message. The others have those that follow.
    pub first_number: u64,
    /// Up to [`BUS_APPEND_MESSAGES_MAX`](crate::limits::BUS_APPEND_MESSAGES_MAX) messages, or none: then the call is
    /// only a probe.
    pub messages: &'a [Outgoing],
    /// The number of the probe to write beside the log. Readers get it once all earlier entries
    /// are in the log.
    pub probe: Option<u64>,
    /// Which entries may be dropped.
    pub keep: Keep,
    /// How many replicas are to confirm the messages, if any.
    pub replicas: u32,
}

/// The entries that an engine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All.
    All,
    /// This one, which is of the current epoch, and those after it.
    From(EventId),
    /// About so many of the newest.
    Newest(u64),
}

/// The result of an append call that the engine has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The first `messages` of the call are in the log, now or from an earlier call with the same
    /// numbers. All of them, unless there is a fault, which then concerns the next one.
    Stored {
        /// How many.
        messages: usize,
        /// How many replicas have confirmed them.
        replicas: u32,
        /// Those of them that repeat another message: they are not in the log.
        repeats: Vec<Repeat>,
        /// Why the rest is not in the log; certain.
        fault: Option<Fault>,
    },
    /// Nothing was appended: the engine may have forgotten something. A node has to begin an epoch.
    Broken,
    /// Nothing was appended: another node has begun this epoch.
    OtherEpoch(Epoch),
}

/// The result of a fence: no call before it can append anything any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// The producer's messages up to this number are in the log; those after it are not.
    At(u64),
    /// See [`Appended::Broken`].
    Broken,
    /// See [`Appended::OtherEpoch`].
    OtherEpoch(Epoch),
}

/// The beginning of an epoch: compare and set.
#[derive(Debug)]
pub struct Begin<'a> {
    /// What the node has seen. If that is no longer so, nothing is changed.
    pub seen: &'a Snapshot,
    /// The lineage from now on.
    pub lineage: &'a Lineage,
    /// Messages that the engine has lost, with their seqs. The last is [`Lineage::begun_after`].
    pub put_back: &'a [(u64, Arc<Message>)],
    /// The largest body that every node takes.
    pub body_bytes_max: u64,
}

/// What an engine holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The record's lineage; `None` if there is no record.
    pub lineage: Option<Lineage>,
    /// The identity of the engine's history that the record has.
    pub recorded_history: Option<String>,
    /// The identity of the engine's history now. It changes at every restart and promotion.
    pub history: String,
    /// The first entry of the log; `None` if there is no log, or it is empty.
    pub first: Option<EventId>,
    /// The id after which the next entry is appended; `None` if there is no log.
    pub last: Option<EventId>,
    /// The record's largest body.
    pub body_bytes_max: Option<u64>,
    /// How the engine removes keys when its memory is full, if it does: then entries may be lost.
    pub eviction: Option<String>,
    /// The engine's clock, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Snapshot {
    /// Whether the engine has forgotten nothing since its epoch began.
    pub fn is_unbroken(&self) -> bool {
        self.last.is_some()
            && self.lineage.is_some()
            && self.recorded_history.as_ref() == Some(&self.history)
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place. A beginning has the seq 0.
    pub id: EventId,
    /// What it holds.
    pub content: Content,
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A message.
    Message(Arc<Message>),
    /// The beginning of an epoch. The messages that were put back follow.
    Begin(Lineage),
    /// Another program's entry, or one of a later version; says what is wrong.
    Foreign(String),
}

/// What a read has returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The entries after the given id, in order. Not more than
    /// [`BUS_READ_ENTRIES_MAX`](crate::limits::BUS_READ_ENTRIES_MAX).
    pub entries: Vec<Entry>,
    /// Probes of all nodes since the last read, in order. They may be ahead of `entries`.
    pub probes: Vec<(Producer, u64)>,
}

/// The half that appends.
pub trait Writer: Send {
    /// Appends messages, and writes a probe.
    fn append(&mut self, append: &Append<'_>) -> Result<Appended, Fault>;

    /// Refuses every earlier call up to this number. Returns the number of the last message that was appended,
    /// also when the fence is repeated.
    fn fence(&mut self, epoch: Epoch, producer: Producer, number: u64) -> Result<Fenced, Fault>;

    /// What the engine holds.
    fn snapshot(&mut self) -> Result<Snapshot, Fault>;

    /// Begins an epoch. False if the engine is no longer as it was seen, or it was unbroken.
    fn begin(&mut self, begin: &Begin<'_>) -> Result<bool, Fault>;

    /// Raises the largest body of the record to this, if it is smaller.
    fn raise_body_bytes_max(&mut self, bytes: u64) -> Result<(), Fault>;

    /// Takes or keeps a lease for a node for a time. False if another node has it.
    fn lease(&mut self, producer: Producer, time: Duration) -> Result<bool, Fault>;

    /// Returns a lease, if the node has it.
    fn end_lease(&mut self, producer: Producer) -> Result<(), Fault>;

    /// Drops the connection: the next call finds the primary anew.
    fn reconnect(&mut self);
}

/// The half that reads.
pub trait Reader: Send {
    /// What the engine holds.
    fn snapshot(&mut self) -> Result<Snapshot, Fault>;

    /// The next entries after an id. Waits for up to `wait` until there is an entry or a probe.
    fn read(&mut self, after: EventId, wait: Duration) -> Result<News, Fault>;

    /// The last entries before an id, or of the log; the newest first, up to `entries_max`.
    fn read_back(
        &mut self,
        before: Option<EventId>,
        entries_max: usize,
    ) -> Result<Vec<Entry>, Fault>;

    /// Drops the connection: the next call finds the primary anew.
    fn reconnect(&mut self);
}

/// A write to the table of a node's counts of streams.
#[derive(Debug)]
pub struct CensusWrite<'a> {
    /// The node.
    pub node: Producer,
    /// The number of its table. A later table has a greater one.
    pub table: u64,
    /// The number of this write to the table: 1, and so on without holes.
    pub number: u64,
    /// What it is for.
    pub step: CensusStep,
    /// Fingerprints of sessions with their numbers of streams, at most
    /// [`PRESENCE_CALL_SESSIONS_MAX`](crate::limits::PRESENCE_CALL_SESSIONS_MAX).
    pub counts: &'a [(Fingerprint, u64)],
}

/// What a write of counts is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CensusStep {
    /// A part of a table that does not count yet.
    Build,
    /// The table counts from now on, in place of the node's earlier one.
    Publish,
    /// A change of the table that counts, and a sign of life.
    Change,
}

/// The part of an engine that knows how many streams see a session on each node. It drops the table of a node that has
/// written nothing for [`PRESENCE_LIFE_MS`](crate::limits::PRESENCE_LIFE_MS).
pub trait CensusTable: Send {
    /// Writes counts. False, and nothing is changed, if the engine lacks an earlier write to the table.
    fn write(&mut self, write: &CensusWrite<'_>) -> Result<bool, Fault>;

    /// The sums of all nodes but this one. `None` if the engine lacks the table of this node, or may lack those of
    /// others.
    fn read(&mut self, node: Producer, sessions: &[Fingerprint])
    -> Result<Option<Vec<u64>>, Fault>;

    /// Removes the table of a node.
    fn end(&mut self, node: Producer, table: u64) -> Result<(), Fault>;
}

/// Why a call has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it means.
    pub kind: FaultKind,
    /// The engine's words, without addresses, names or secrets.
    pub text: String,
}

/// What a fault means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There is no connection: the call was certainly not executed.
    Unreachable,
    /// The connection broke, or the time was over, after the call was sent: it may have been executed, and
    /// may yet be.
    Lost,
    /// The engine does not take messages now: no memory, no disk, too few replicas. Reading goes on.
    Full,
    /// The engine is not the primary, or not yet.
    NotPrimary,
    /// The credentials are wrong, or lack a permission.
    Denied,
    /// A key has another type, the engine is too old, or its answer is none of the expected ones.
    Unusable,
}

impl FaultKind {
    /// Whether the call was certainly not executed, and will not be.
    pub fn is_certain(self) -> bool {
        self != FaultKind::Lost
    }

    /// Whether it is certain and lasts: there is no point in a wait.
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            FaultKind::Full | FaultKind::Denied | FaultKind::Unusable
        )
    }

    /// The kind as metrics and log lines name it.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Unreachable => "unreachable",
            FaultKind::Lost => "lost",
            FaultKind::Full => "full",
            FaultKind::NotPrimary => "not_primary",
            FaultKind::Denied => "denied",
            FaultKind::Unusable => "unusable",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
