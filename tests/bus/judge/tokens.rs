//! What must hold for a stream with a token.
//!
//! - `token_expiring` comes once, states the end, and no more than half of the time is left.
//! - `token_expired` comes no earlier than the end. Behind it is only the last chunk.
//! - A stream goes on for at most [`LATE_MS`] after the end. A busy machine delays clients, so the clock of the nodes
//!   judges this: the times of messages, and the number of heartbeats.

use crate::cluster::HEARTBEAT_MS;
use crate::judge::Verdict;
use crate::record::{Record, TokenUse, Visit};
use crate::support::PATIENCE;

/// How long a stream may go on after the end of its token.
const LATE_MS: u64 = 1_000;

pub fn judge(verdict: &mut Verdict, nth: usize, record: &Record) {
    for (at, visit) in record.visits.iter().enumerate() {
        let Some(token) = &visit.token else {
            continue;
        };
        let place = format!("client {nth} at node {}", visit.node);
        // The client itself ends its last connection, perhaps between the event and the last chunk.
        let is_last = at + 1 == record.visits.len();
        let faults = faults(visit, token, is_last);
        verdict.token_ends += usize::from(token.ended_ms.is_some());
        let violations = faults
            .iter()
            .map(|fault| format!("{place}: {fault}, {token:?}"));
        verdict.violations.extend(violations);
    }
}

fn faults(visit: &Visit, token: &TokenUse, is_last: bool) -> Vec<&'static str> {
    let TokenUse {
        expires_ms,
        sent_ms,
        warnings,
        ended_ms,
        after_end,
    } = token;
    let life_ms = expires_ms.saturating_sub(*sent_ms);
    let is_early = |end_ms: &u64| end_ms < expires_ms;
    let is_late = |end_ms: &u64| *end_ms > expires_ms + PATIENCE.as_millis() as u64;
    // The stream has begun later than the request was sent.
    let is_hasty = |&(_, came_ms): &(u64, u64)| came_ms + life_ms / 2 < *expires_ms;
    let heartbeats_max = (life_ms + LATE_MS) / HEARTBEAT_MS + 2;
    let newest_ms = visit.messages().map(|shown| shown.timestamp).max();
    let rules = [
        ("opened by a token that had ended", sent_ms >= expires_ms),
        ("ended before its token", ended_ms.iter().any(is_early)),
        ("ended too late", ended_ms.iter().any(is_late)),
        ("not warned", ended_ms.is_some() && warnings.is_empty()),
        ("warned again", warnings.len() > 1),
        ("warned too early", warnings.iter().any(is_hasty)),
        (
            "warned of another end",
            warnings
                .iter()
                .any(|(stated_ms, _)| stated_ms != expires_ms),
        ),
        ("bytes after the end of its token", *after_end > 0),
        (
            "no last chunk after the end of its token",
            ended_ms.is_some() && !visit.ended_well && !is_last,
        ),
        (
            "heartbeats long after the end of its token",
            visit.heartbeats > heartbeats_max,
        ),
        (
            "messages long after the end of its token",
            newest_ms.is_some_and(|newest_ms| newest_ms > expires_ms + LATE_MS),
        ),
    ];
    let broken = rules.into_iter().filter(|(_, is_broken)| *is_broken);
    broken.map(|(rule, _)| rule).collect()
}
