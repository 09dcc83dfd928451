//! Judges whether a stream stays open while it is watched, and whether its heartbeats are regular.

use std::time::Duration;

use super::Context;
use crate::doctor::finding::{CUT, Fault, Finding, HEARTBEAT, Party, ms};
use crate::doctor::hop::Trouble;
use crate::doctor::watch::{End, StreamSeen};
use crate::limits::DOCTOR_HELD_BACK_MS;

/// Judges the rhythm of the heartbeats. `events_come`: whether events arrived, if that is known.
pub(in crate::doctor) fn heartbeat(
    stream: &StreamSeen,
    events_come: Option<bool>,
    context: &Context<'_>,
) -> Finding {
    let gaps: Vec<Duration> = stream
        .heartbeats
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let seen = stream.heartbeats.len();
    let (Some(shortest), Some(longest)) = (gaps.iter().min(), gaps.iter().max()) else {
        return without_rhythm(stream, events_come, context);
    };
    let seen = format!("{seen} seen, {} to {} apart", ms(*shortest), ms(*longest));
    // A heartbeat is sent with a message where possible, so some are early.
    if *longest > 3 * median(&gaps) + Duration::from_millis(DOCTOR_HELD_BACK_MS) {
        let seen = format!("{seen}: they come in bursts, so a hop collects them");
        let remedy = context.hops.remedy(Trouble::Buffering);
        return Finding::failed(HEARTBEAT, Fault::new(Party::Proxy, seen, remedy));
    }
    Finding::passed(HEARTBEAT, seen)
}

/// Judges a stream with fewer than two heartbeats. A hop that delivers events does not hold heartbeats
/// back.
fn without_rhythm(
    stream: &StreamSeen,
    events_come: Option<bool>,
    context: &Context<'_>,
) -> Finding {
    let count = stream.heartbeats.len();
    if let Some((at, _)) = &stream.end {
        let why = format!("{count} seen before the stream ended after {}", ms(*at));
        return Finding::skipped(HEARTBEAT, &why);
    }
    let seen = format!(
        "{count} seen in {}: too few for a rhythm",
        ms(stream.watched)
    );
    let head = stream.head.as_ref().map(|(_, head)| head);
    let trouble = match head.and_then(|head| head.field("content-encoding")) {
        Some(_) => Trouble::Compression,
        None => Trouble::Buffering,
    };
    let hops = context.hops.remedy(trouble);
    match events_come {
        Some(true) => {
            let seen = format!("{seen}, though events come: --heartbeat is long");
            let remedy = "lower --heartbeat below the idle timeouts of the proxies, or watch longer (--watch)";
            Finding::noted(HEARTBEAT, Fault::new(Party::Hookcast, seen, remedy))
        }
        Some(false) => {
            let seen = format!("{seen}, and events do not come: a hop holds both back");
            Finding::failed(HEARTBEAT, Fault::new(Party::Proxy, seen, hops))
        }
        None => {
            let remedy = format!(
                "if --heartbeat is long, watch longer (--watch); else a hop holds them back: {hops}"
            );
            Finding::failed(HEARTBEAT, Fault::new(Party::Unknown, seen, remedy))
        }
    }
}

/// Judges whether the stream was ended while it was watched.
pub(in crate::doctor) fn cut(stream: &StreamSeen, context: &Context<'_>) -> Finding {
    let Some((at, end)) = &stream.end else {
        let seen = format!(
            "the stream was open all the {} that it was watched",
            ms(stream.watched)
        );
        return Finding::passed(CUT, seen);
    };
    let silence = match stream.heartbeats.last().filter(|last| *last < at) {
        Some(last) => format!("{} after the last heartbeat", ms(at.saturating_sub(*last))),
        None => "before the first heartbeat".into(),
    };
    let seen = format!("the stream ended after {}, {silence}", ms(*at));
    match end {
        End::Whole if stream.was_ended_by_hookcast() => Finding::noted(
            CUT,
            Fault::new(
                Party::Hookcast,
                format!("{seen}. hookcast ended it itself: it said before when to come back"),
                "a restart does this, and is no fault; else look at hookcast's log, and examine again",
            ),
        ),
        End::Whole => Finding::failed(CUT, cut_by_hop(&format!("{seen}, in good order"), context)),
        End::Cut(error) => Finding::failed(
            CUT,
            cut_by_hop(&format!("{seen}: it broke off ({error})"), context),
        ),
        End::Unanswered(fault) => Finding::failed(CUT, fault.clone()),
    }
}

/// The fault of a hop that ended a stream. hookcast itself sends `retry` first, unless it is killed.
fn cut_by_hop(seen: &str, context: &Context<'_>) -> Fault {
    Fault::new(
        Party::Proxy,
        format!(
            "{seen}. hookcast says before when to come back, and did not: unless it was killed just now, a hop \
             has an idle timeout below the heartbeat's interval, or a longest duration of answers"
        ),
        format!(
            "raise it: {}; or lower --heartbeat",
            context.hops.remedy(Trouble::Timeout)
        ),
    )
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, blames, context};
    use super::*;
    use crate::check::Verdict;
    use crate::foreign_text::Secrets;

    fn found(change: impl FnOnce(&mut StreamSeen)) -> Finding {
        let mut stream = fixture::stream();
        change(&mut stream);
        cut(
            &stream,
            &context("https://hooks.example", &Secrets::default()),
        )
    }

    #[test]
    fn irregular_heartbeats_are_noticed() {
        let rhythm = |events_come, change: fn(&mut StreamSeen)| {
            let mut stream = fixture::stream();
            change(&mut stream);
            let secrets = Secrets::default();
            heartbeat(
                &stream,
                events_come,
                &context("https://hooks.example", &secrets),
            )
        };
        assert_eq!(rhythm(Some(true), |_| {}).verdict, Verdict::Passed);
        let few = |stream: &mut StreamSeen| stream.heartbeats.truncate(1);
        let finding = rhythm(None, few);
        assert_eq!(finding.verdict, Verdict::Failed);
        blames(&finding, Party::Unknown, "too few", "--watch");
        let finding = rhythm(Some(true), few);
        assert_eq!(finding.verdict, Verdict::Noted);
        blames(
            &finding,
            Party::Hookcast,
            "though events come",
            "lower --heartbeat",
        );
        let finding = rhythm(Some(false), few);
        assert_eq!(finding.verdict, Verdict::Failed);
        blames(
            &finding,
            Party::Proxy,
            "holds both back",
            "proxy_buffering off",
        );
        let bursts = rhythm(None, |stream| {
            stream.heartbeats.push(Duration::from_secs(40));
        });
        blames(&bursts, Party::Proxy, "bursts", "proxy_buffering off");
        let ended = rhythm(Some(true), |stream| {
            stream.heartbeats.clear();
            stream.end = Some((Duration::from_secs(1), End::Whole));
        });
        assert_eq!((ended.verdict, ended.blame), (Verdict::Skipped, None));
    }

    /// hookcast sends `retry` before it ends a stream; a proxy does not.
    #[test]
    fn the_end_of_a_stream_names_the_party_that_ended_it() {
        let at = Duration::from_secs(13);
        assert_eq!(found(|_| {}).verdict, Verdict::Passed);
        let broken = found(|stream| stream.end = Some((at, End::Cut("eof".into()))));
        blames(
            &broken,
            Party::Proxy,
            "1000 ms after the last heartbeat",
            "proxy_read_timeout",
        );
        blames(
            &broken,
            Party::Proxy,
            "broke off (eof)",
            "lower --heartbeat",
        );
        let early = found(|stream| {
            stream.heartbeats.clear();
            stream.end = Some((at, End::Cut("eof".into())));
        });
        blames(
            &early,
            Party::Proxy,
            "before the first heartbeat",
            "proxy_read_timeout",
        );
        let whole = found(|stream| stream.end = Some((at, End::Whole)));
        assert_eq!(whole.verdict, Verdict::Failed);
        blames(&whole, Party::Proxy, "in good order", "proxy_read_timeout");
        let announced = found(|stream| {
            stream.retry = Some(at);
            stream.end = Some((at, End::Whole));
        });
        assert_eq!(announced.verdict, Verdict::Noted);
        blames(&announced, Party::Hookcast, "ended it itself", "restart");
    }
}
