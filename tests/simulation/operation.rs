//! The operations on a node, drawn from a seed. Operations are independent: a list remains valid if
//! some are left out.

use fastrand::Rng;

/// The settings of a run. They differ between seeds, so an event that is rare in one run is common
/// in another.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings")]
pub struct Profile {
    pub shards: usize,
    pub inbox_batches_max: usize,
    pub has_secret: bool,
    pub body_bytes_max: usize,
    pub log_bytes_min: usize,
    pub heartbeat_ms: u64,
    pub keep_alive_ms: u64,
    pub drain_ms: u64,
    pub clients_max: usize,
    pub listeners: usize,
    /// The limit of connections.
    pub connections_max: usize,
    /// The time of a system call, and of a step of a turn.
    pub call_us: u64,
    pub step_us: u64,
    /// Other nodes send so many messages that logs evict.
    pub is_flood: bool,
    /// Many clients connect and disconnect at once.
    pub has_many_streams: bool,
    /// The size of most messages, at most.
    pub message_bytes_usual: usize,
    /// The largest buffers of a connection.
    pub buffer_bytes_max: usize,
    /// Of 256 system calls, the number during which the network moves bytes.
    pub mischief: u8,
    /// Of 256 turns, the number of the first shard. The others are of any shard.
    pub first_shard_bias: u8,
    /// The longest time between two operations.
    pub step_ms_max: u64,
    /// Most messages of a commit, if messages wait for the disk.
    pub commit_messages_max: Option<usize>,
    /// The longest life of shared streams, if there are any.
    pub fanout_life_ms: Option<u64>,
    /// There is a shared history.
    pub has_shared_history: bool,
    /// There are sources. The queue of requests to them has room for so many bytes, and one more request.
    pub judging_bytes_max: Option<usize>,
    /// There are keys of tokens, and half of the streams have a token.
    pub has_tokens: bool,
    /// Streams are compressed for clients that accept gzip: a third of them.
    pub compresses: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client connects and sends a request.
    Connect,
    /// Many clients connect and open streams.
    ConnectMany,
    /// Many clients disconnect at once.
    CloseMany,
    /// The server accepts a connection, and adding it to epoll fails.
    FailAdd,
    /// A client sends another request.
    Ask,
    /// A client sends many requests at once.
    Pipeline,
    /// Many clients connect and request the history.
    Poll,
    /// The network delivers some bytes of a client.
    Deliver,
    /// A client takes some bytes.
    Take,
    /// A client stops reading, or reads again.
    Pause,
    /// A client closes its side.
    HalfClose,
    Close,
    Reset,
    /// A spurious event, sometimes of all connections.
    Nudge,
    /// A shard runs, if it is awake.
    Turn,
    /// Queued messages are committed to disk.
    Commit,
    /// The mirror sets the shared history.
    Share,
    /// A request to a source gets its verdict: any of those that wait.
    Judge,
    /// Clients and shards run until none has anything to do.
    Settle,
    /// As `Settle`, over some time.
    Rest,
    /// Time passes, and nothing runs.
    Freeze,
    /// The wall clock is set.
    SetClock,
    /// Messages of other nodes arrive.
    Admit,
    /// The ring's storage begins to fail after some writes.
    FailRing,
    HealRing,
    /// The ring's file is truncated or removed.
    CutRing,
    /// The process is killed in the middle of a turn, and started again.
    Kill,
    /// The power fails.
    LosePower,
    /// The node is drained, and started again.
    Restart,
    /// The key of tokens is replaced by another one.
    ReplaceKey,
    /// The shards are held, then resume or hand over to a new process.
    Hold,
}

pub const WEIGHTS: &[(Action, u32)] = &[
    (Action::Connect, 60),
    (Action::ConnectMany, 2),
    (Action::CloseMany, 1),
    (Action::FailAdd, 1),
    (Action::Ask, 90),
    (Action::Pipeline, 10),
    (Action::Poll, 4),
    (Action::Deliver, 120),
    (Action::Take, 120),
    (Action::Pause, 15),
    (Action::HalfClose, 8),
    (Action::Close, 8),
    (Action::Reset, 8),
    (Action::Nudge, 10),
    (Action::Turn, 250),
    (Action::Commit, 60),
    (Action::Share, 20),
    (Action::Settle, 30),
    (Action::Rest, 4),
    (Action::Freeze, 4),
    (Action::SetClock, 4),
    (Action::Admit, 12),
    (Action::FailRing, 5),
    (Action::HealRing, 8),
    (Action::CutRing, 2),
    (Action::Kill, 3),
    (Action::LosePower, 1),
    (Action::Restart, 2),
    (Action::Hold, 3),
    (Action::Judge, 60),
    (Action::ReplaceKey, 4),
];

/// An operation. `salt` determines all its choices.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub action: Action,
    pub salt: u64,
}

/// The focus of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A bit of everything.
    Plain,
    /// More streams than one slice of the sweep serves.
    ManyStreams,
    /// Logs evict because of many messages of other nodes.
    Flood,
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Profile {
        let style = match rng.u8(..16) {
            0 => Style::ManyStreams,
            1..=3 => Style::Flood,
            _ => Style::Plain,
        };
        let (buffers, messages): (&[usize], &[usize]) = match style {
            Style::Plain => (&[64, 1000, 6000, 60_000], &[100, 400, 2000]),
            Style::ManyStreams => (&[6000, 60_000], &[100]),
            Style::Flood => (&[6000, 60_000], &[3500]),
        };
        let clients_max = match style {
            Style::ManyStreams => 150,
            Style::Flood | Style::Plain => rng.usize(2..=12),
        };
        Profile {
            listeners: rng.usize(1..=2),
            connections_max: *pick(rng, &[1000, 1000, 1000, clients_max.div_ceil(2)]),
            call_us: *pick(rng, &[0, 3, 30, 1000]),
            step_us: *pick(rng, &[1, 10, 50]),
            shards: rng.usize(1..=2),
            inbox_batches_max: rng.usize(1..=4),
            has_secret: rng.bool(),
            body_bytes_max: *pick(rng, &[1024, 2000, 3792]),
            log_bytes_min: *pick(rng, &[0, 0, 600_000]),
            heartbeat_ms: *pick(rng, &[100, 500, 2000]),
            keep_alive_ms: *pick(rng, &[3000, 20_000]),
            drain_ms: *pick(rng, &[0, 700, 5000]),
            clients_max,
            is_flood: style == Style::Flood,
            has_many_streams: style == Style::ManyStreams,
            message_bytes_usual: *pick(rng, messages),
            buffer_bytes_max: *pick(rng, buffers),
            mischief: *pick(rng, &[0, 4, 60]),
            first_shard_bias: *pick(rng, &[0, 230]),
            step_ms_max: *pick(rng, &[0, 1, 20]),
            commit_messages_max: *pick(rng, &[None, None, None, Some(4), Some(16), Some(128)]),
            fanout_life_ms: *pick(rng, &[None, None, None, Some(5_000), Some(60_000)]),
            has_shared_history: rng.u8(..4) == 0,
            judging_bytes_max: None,
            has_tokens: false,
            compresses: false,
        }
    }
}

impl Profile {
    /// Adds sources to a third of the seeds, and changes nothing else of a run.
    pub fn draw_sources(&mut self, seed: u64) {
        if seed % 3 == 1 {
            let mut rng = Rng::with_seed(!seed);
            self.judging_bytes_max = Some(*pick(&mut rng, &[1, 1024, 1024 * 1024]));
        }
    }

    /// Adds tokens to a fifth of the seeds with a secret.
    pub fn draw_tokens(&mut self, seed: u64) {
        self.has_tokens = self.has_secret && seed % 5 == 2;
    }

    /// Adds compression to a quarter of the seeds.
    pub fn draw_compression(&mut self, seed: u64) {
        self.compresses = seed % 4 == 3;
    }
}

/// The settings and operations of a seed.
pub fn draw(seed: u64) -> (Profile, Vec<Operation>) {
    let mut rng = Rng::with_seed(seed);
    let mut profile = Profile::draw(&mut rng);
    profile.draw_sources(seed);
    profile.draw_tokens(seed);
    profile.draw_compression(seed);
    // Omitting some kinds and repeating others finds faults that an even mixture never does.
    let weights: Vec<u32> = WEIGHTS
        .iter()
        .map(|(action, weight)| match action {
            Action::Admit | Action::Poll if profile.is_flood => weight * 8,
            Action::Admit | Action::ConnectMany | Action::CloseMany if profile.has_many_streams => {
                weight * 8
            }
            Action::Kill | Action::LosePower | Action::Restart | Action::Hold
                if profile.is_flood =>
            {
                0
            }
            Action::Commit if profile.commit_messages_max.is_none() => 0,
            Action::Share if !profile.has_shared_history => 0,
            Action::Judge if profile.judging_bytes_max.is_none() => 0,
            Action::ReplaceKey if !profile.has_tokens => 0,
            Action::Judge | Action::ReplaceKey => *weight,
            Action::Admit if profile.has_shared_history => weight * 4,
            Action::LosePower if profile.commit_messages_max.is_some() => weight * 4,
            _ => weight * pick(&mut rng, &[0, 1, 1, 1, 4]),
        })
        .collect();
    let total: u32 = weights.iter().sum();
    let count = rng.usize(30..=260);
    let operations = (0..count).map(|_| {
        let mut left = rng.u32(0..total.max(1));
        let place = weights
            .iter()
            .position(|weight| match left.checked_sub(*weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
        Operation {
            action: place.map_or(Action::Turn, |place| WEIGHTS[place].0),
            salt: rng.u64(..),
        }
    });
    let operations = operations.collect();
    (profile, operations)
}

pub fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
