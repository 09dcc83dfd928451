//! Slows down guessing: refuses a client that has sent too many wrong secrets or tokens.
//!
//! One value for all shards. `requests` asks before a secret is compared, and notes each guess; `judging` does so for
//! secrets of sources. Each kind of guess has a count of its own: a wrong token refuses no secret, and a wrong secret
//! of one source refuses none of another. A client that is refused for secrets gets 429 for each, right or wrong. One
//! that is refused for tokens gets 429 in place of 401: a valid token passes. Clients that a limit could not tell
//! apart are never refused: processes on a Unix socket, and those behind a proxy that names no client. Never sees a
//! secret.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Now;
use crate::http::Guess;
use crate::limits::{GUESS_WINDOW_MS, GUESSING_CLIENTS_MAX};
use crate::shard::client::{Client, ClientKey};

/// See the module's description.
pub struct Guesses {
    /// Guesses of one kind and client in a window of [`GUESS_WINDOW_MS`]; 0: no limit.
    per_window_max: u32,
    /// A guess through a proxy that is not a trusted one was noted.
    has_unnamed: AtomicBool,
    /// Entries of the table that are refused, perhaps with some whose window is over: without any, no
    /// request takes the lock.
    refused: AtomicUsize,
    table: Mutex<Table>,
}

/// What a guess is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The secret of the webhooks, or a token.
    Server(Guess),
    /// The secret of the source with this name.
    Source(&'a str),
}

impl Target<'_> {
    pub(super) fn guess(self) -> Guess {
        match self {
            Target::Server(guess) => guess,
            Target::Source(_) => Guess::Secret,
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Server(Guess::Secret) => f.write_str("secrets"),
            Target::Server(Guess::Token) => f.write_str("tokens"),
            Target::Source(name) => write!(f, "secrets of the source {name}"),
        }
    }
}

/// The client of a request, as far as guesses are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guesser {
    /// The client that a guess counts for.
    pub client: Client,
    /// Whether a proxy has sent the request.
    pub is_forwarded: bool,
}

#[derive(Default)]
struct Table {
    windows: HashMap<Key, Window>,
    /// The keys in the order in which their windows began, and so end.
    order: VecDeque<Key>,
}

/// A client, and what it guesses: a number of the kind, or a hash of the source.
type Key = (ClientKey, u32);

#[derive(Clone, Copy)]
struct Window {
    /// Monotonic milliseconds.
    ends_ms: u64,
    guesses: u32,
}

impl Guesses {
    /// Refuses a client after this many guesses of a kind in a minute; 0 refuses none.
    pub fn new(per_window_max: u32) -> Guesses {
        Guesses {
            per_window_max,
            has_unnamed: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            table: Mutex::default(),
        }
    }

    /// Whether any client may be refused now.
    pub(super) fn refuses_any(&self) -> bool {
        self.refused.load(Ordering::Relaxed) > 0
    }

    /// For how many seconds a client is still refused; `None` if it is not.
    pub(super) fn refused_s(&self, target: Target<'_>, client: Client, now: Now) -> Option<u32> {
        if !self.refuses_any() {
            return None;
        }
        let key = key_of(target, client)?;
        let mut table = self.lock();
        self.forget_past(&mut table, now.mono_ms);
        let window = table.windows.get(&key)?;
        let left_ms = window.ends_ms.saturating_sub(now.mono_ms);
        (window.guesses >= self.per_window_max).then_some(left_ms.div_ceil(1000).max(1) as u32)
    }

    /// Counts a guess of a client. Returns whether the client is refused from now on, and no other one is.
    pub(super) fn note(&self, target: Target<'_>, client: Client, now: Now) -> bool {
        let Some(key) = key_of(target, client).filter(|_| self.per_window_max > 0) else {
            return false;
        };
        let mut table = self.lock();
        self.forget_past(&mut table, now.mono_ms);
        if !table.windows.contains_key(&key) {
            if table.windows.len() >= GUESSING_CLIENTS_MAX {
                self.forget_oldest(&mut table);
            }
            table.order.push_back(key);
        }
        let window = table.windows.entry(key).or_insert(Window {
            ends_ms: now.mono_ms + GUESS_WINDOW_MS,
            guesses: 0,
        });
        window.guesses += 1;
        window.guesses == self.per_window_max && self.refused.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Notes a guess that counts for no client. Returns whether it is the first, and others would be limited.
    pub(super) fn note_unnamed(&self) -> bool {
        self.per_window_max > 0 && !self.has_unnamed.swap(true, Ordering::Relaxed)
    }

    fn forget_past(&self, table: &mut Table, now_ms: u64) {
        while let Some(key) = table.order.front()
            && table
                .windows
                .get(key)
                .is_none_or(|window| window.ends_ms <= now_ms)
        {
            self.forget_oldest(table);
        }
    }

    fn forget_oldest(&self, table: &mut Table) {
        let key = table.order.pop_front();
        let window = key.and_then(|key| table.windows.remove(&key));
        if window.is_some_and(|window| window.guesses >= self.per_window_max) {
            self.refused.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a client that a limit can tell apart from others.
fn key_of(target: Target<'_>, client: Client) -> Option<Key> {
    let Client::Address(address) = client else {
        return None;
    };
    let kind = match target {
        Target::Server(Guess::Secret) => 0,
        Target::Server(Guess::Token) => 1,
        // The names of sources are the operator's, so no client can choose one with the same hash.
        Target::Source(name) => {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            (hasher.finish() as u32).max(2)
        }
    };
    Some((ClientKey::of_address(address), kind))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const MAX: u32 = 10;
    const SECRET: Target<'static> = Target::Server(Guess::Secret);
    const TOKEN: Target<'static> = Target::Server(Guess::Token);

    /// The entries that are refused.
    fn refused(guesses: &Guesses, now: Now) -> usize {
        guesses.forget_past(&mut guesses.lock(), now.mono_ms);
        guesses.refused.load(Ordering::Relaxed)
    }

    fn at(mono_ms: u64) -> Now {
        Now {
            mono_ms,
            mono_us: mono_ms * 1000,
            unix_ms: mono_ms,
        }
    }

    fn client(number: u32) -> Client {
        Client::Address(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn a_client_is_refused_after_ten_guesses_until_its_minute_is_over() {
        let guesses = Guesses::new(MAX);
        for nth in 0..MAX {
            assert_eq!(guesses.refused_s(SECRET, client(1), at(0)), None, "{nth}");
            guesses.note(SECRET, client(1), at(u64::from(nth) * 1000));
        }
        assert_eq!(guesses.refused_s(SECRET, client(1), at(9_001)), Some(51));
        assert_eq!(guesses.refused_s(SECRET, client(2), at(9_001)), None);
        assert_eq!(refused(&guesses, at(9_001)), 1);
        assert_eq!(guesses.refused_s(SECRET, client(1), at(59_999)), Some(1));
        assert_eq!(guesses.refused_s(SECRET, client(1), at(60_000)), None);
        assert!(!guesses.refuses_any());
        guesses.note(SECRET, client(1), at(60_001));
        assert_eq!(guesses.refused_s(SECRET, client(1), at(60_002)), None);
    }

    #[test]
    fn guesses_of_more_than_a_minute_ago_do_not_count() {
        let guesses = Guesses::new(MAX);
        for nth in 0..10 * u64::from(MAX) {
            guesses.note(SECRET, client(1), at(nth * 7_000));
            assert!(!guesses.refuses_any());
        }
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_proxy_without_a_name_is_none() {
        let guesses = Guesses::new(MAX);
        let of = |host: u128| Client::Address(IpAddr::V6(Ipv6Addr::from_bits((7 << 64) | host)));
        for host in 0..MAX {
            guesses.note(SECRET, of(host.into()), at(0));
            guesses.note(SECRET, Client::Local, at(0));
            guesses.note(SECRET, Client::Unknown, at(0));
        }
        assert!(guesses.refused_s(SECRET, of(12_345), at(1)).is_some());
        assert_eq!(guesses.refused_s(SECRET, Client::Local, at(1)), None);
        assert_eq!(guesses.refused_s(SECRET, Client::Unknown, at(1)), None);
    }

    #[test]
    fn a_botnet_takes_bounded_memory_and_locks_out_nobody_else() {
        let guesses = Guesses::new(MAX);
        let bots = 4 * GUESSING_CLIENTS_MAX as u32;
        for bot in 0..bots {
            for _ in 0..MAX {
                guesses.note(SECRET, client(bot), at(1));
            }
        }
        assert_eq!(refused(&guesses, at(2)), GUESSING_CLIENTS_MAX);
        let table = guesses.lock();
        assert_eq!(table.windows.len(), GUESSING_CLIENTS_MAX);
        assert_eq!(table.order.len(), GUESSING_CLIENTS_MAX);
        drop(table);
        assert_eq!(guesses.refused_s(SECRET, client(bots), at(2)), None);
        assert!(guesses.refused_s(SECRET, client(bots - 1), at(2)).is_some());
        assert_eq!(refused(&guesses, at(60_001)), 0);
        assert_eq!(guesses.lock().order.len(), 0);
    }

    #[test]
    fn each_kind_of_guess_has_a_count_of_its_own() {
        let kinds = [SECRET, TOKEN, Target::Source("a"), Target::Source("b")];
        for guessed in kinds {
            let guesses = Guesses::new(MAX);
            for _ in 0..MAX {
                guesses.note(guessed, client(1), at(0));
            }
            for kind in kinds {
                let refused = guesses.refused_s(kind, client(1), at(1));
                assert_eq!(refused.is_some(), kind == guessed, "{kind:?} {guessed:?}");
            }
        }
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let guesses = Guesses::new(0);
        for _ in 0..100 {
            guesses.note(SECRET, client(1), at(0));
        }
        assert_eq!(guesses.refused_s(SECRET, client(1), at(0)), None);
    }
}
