//! What may happen to a node: drawn from a seed, and each by itself, so that a list of operations
//! with some left out is still a list of operations.

use fastrand::Rng;

/// What a run is like. Each seed has its own, so that what is rare in one is common in another.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that have nothing to do with each other"
)]
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
    /// What a system call takes, and a step of a turn, in microseconds.
    pub call_us: u64,
    pub step_us: u64,
    /// Other nodes send so much that logs evict.
    pub is_flood: bool,
    /// Clients come and go in crowds.
    pub is_crowd: bool,
    /// Up to how large messages mostly are.
    pub message_bytes_usual: usize,
    /// Bounds of the buffers of a connection.
    pub buffer_bytes_max: usize,
    /// In so many of 256 system calls the network moves meanwhile.
    pub mischief: u8,
    /// In so many of 256 turns it is that of the first shard, the rest is for any.
    pub first_shard_bias: u8,
    /// Most milliseconds from one operation to the next.
    pub step_ms_max: u64,
    /// Of how many messages a commit is at most, where messages wait for the disk.
    pub commit_messages_max: Option<usize>,
    /// How long a stream lives that a cache gives to many clients.
    pub fanout_life_ms: Option<u64>,
    /// There is a history that several nodes share.
    pub has_shared_history: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client connects, and asks for something.
    Connect,
    /// Many clients connect for streams.
    Crowd,
    /// Many clients leave at once.
    Scatter,
    /// The server cannot poll a connection's socket that it has accepted.
    Abandon,
    /// A client asks for something more.
    Ask,
    /// A client sends many requests at once.
    Pipeline,
    /// Many clients connect and ask for the history.
    Poll,
    /// The network brings some bytes of one client.
    Deliver,
    /// A client takes some bytes.
    Take,
    /// A client reads no more, or again.
    Pause,
    /// A client ends its side.
    HalfClose,
    Close,
    Reset,
    /// Readiness without a reason, now and then of all connections.
    Nudge,
    /// A shard runs, if it is awake.
    Turn,
    /// What is queued is committed to disk.
    Commit,
    /// The mirror says what new streams are shown.
    Share,
    /// Everybody goes on until nobody has anything to do.
    Settle,
    /// The same for some time.
    Rest,
    /// Time passes and nobody runs.
    Freeze,
    /// Somebody sets the wall clock.
    SetClock,
    /// Messages of other nodes arrive.
    Admit,
    /// The ring's storage fails after some writes.
    FailRing,
    HealRing,
    /// Somebody cuts or removes the ring's file.
    CutRing,
    /// The process is killed in the middle of a turn, and started again.
    Kill,
    /// The machine loses its power.
    LosePower,
    /// The node is drained, and started again.
    Restart,
    /// The shards read no further requests, and then go on, or hand over to a new process.
    Hold,
}

pub const WEIGHTS: &[(Action, u32)] = &[
    (Action::Connect, 60),
    (Action::Crowd, 2),
    (Action::Scatter, 1),
    (Action::Abandon, 1),
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
];

/// One thing that happens. All its choices follow from `salt`.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub action: Action,
    pub salt: u64,
}

/// What a run is mostly about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A bit of everything.
    Plain,
    /// More streams than a slice of the sweep serves.
    Crowd,
    /// So many messages of other nodes that logs evict.
    Flood,
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Profile {
        let style = match rng.u8(..16) {
            0 => Style::Crowd,
            1..=3 => Style::Flood,
            _ => Style::Plain,
        };
        let (buffers, messages): (&[usize], &[usize]) = match style {
            Style::Plain => (&[64, 1000, 6000, 60_000], &[100, 400, 2000]),
            Style::Crowd => (&[6000, 60_000], &[100]),
            Style::Flood => (&[6000, 60_000], &[3500]),
        };
        let clients_max = match style {
            Style::Crowd => 150,
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
            body_bytes_max: *pick(rng, &[1024, 2000, 4032]),
            log_bytes_min: *pick(rng, &[0, 0, 600_000]),
            heartbeat_ms: *pick(rng, &[100, 500, 2000]),
            keep_alive_ms: *pick(rng, &[3000, 20_000]),
            drain_ms: *pick(rng, &[0, 700, 5000]),
            clients_max,
            is_flood: style == Style::Flood,
            is_crowd: style == Style::Crowd,
            message_bytes_usual: *pick(rng, messages),
            buffer_bytes_max: *pick(rng, buffers),
            mischief: *pick(rng, &[0, 4, 60]),
            first_shard_bias: *pick(rng, &[0, 230]),
            step_ms_max: *pick(rng, &[0, 1, 20]),
            commit_messages_max: *pick(rng, &[None, None, None, Some(4), Some(16), Some(128)]),
            fanout_life_ms: *pick(rng, &[None, None, None, Some(5_000), Some(60_000)]),
            has_shared_history: rng.u8(..4) == 0,
        }
    }
}

/// What a seed stands for.
pub fn draw(seed: u64) -> (Profile, Vec<Operation>) {
    let mut rng = Rng::with_seed(seed);
    let profile = Profile::draw(&mut rng);
    // Leaving some kinds out and having others often finds what an even mixture never does.
    let weights: Vec<u32> = WEIGHTS
        .iter()
        .map(|(action, weight)| match action {
            Action::Admit | Action::Poll if profile.is_flood => weight * 8,
            Action::Admit | Action::Crowd | Action::Scatter if profile.is_crowd => weight * 8,
            Action::Kill | Action::LosePower | Action::Restart | Action::Hold
                if profile.is_flood =>
            {
                0
            }
            Action::Commit if profile.commit_messages_max.is_none() => 0,
            Action::Share if !profile.has_shared_history => 0,
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
