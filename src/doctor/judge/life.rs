//! Whether a stream lives as long as it is watched, and its heartbeats come one by one.

use std::time::Duration;

use super::Context;
use crate::doctor::finding::{CUT, Fault, Finding, HEARTBEAT, Party, ms};
use crate::doctor::hop::Trouble;
use crate::doctor::watch::{End, StreamSeen};
use crate::limits::DOCTOR_HELD_BACK_MS;

/// The rhythm of the heartbeats.
pub(in crate::doctor) fn heartbeat(stream: &StreamSeen, context: &Context<'_>) -> Finding {
    let gaps: Vec<Duration> = stream
        .heartbeats
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let seen = stream.heartbeats.len();
    let (Some(shortest), Some(longest)) = (gaps.iter().min(), gaps.iter().max()) else {
        return without_rhythm(stream, context);
    };
    let seen = format!("{seen} seen, {} to {} apart", ms(*shortest), ms(*longest));
    // A heartbeat rides along with a message where it can, so some come early.
    if *longest > 3 * median(&gaps) + Duration::from_millis(DOCTOR_HELD_BACK_MS) {
        let seen = format!("{seen}: they come in bursts, so a hop collects them");
        let remedy = context.hops.remedy(Trouble::Buffering);
        return Finding::failed(HEARTBEAT, Fault::new(Party::Proxy, seen, remedy));
    }
    Finding::passed(HEARTBEAT, seen)
}

fn without_rhythm(stream: &StreamSeen, context: &Context<'_>) -> Finding {
    let lasted = stream.end.as_ref().map_or(stream.watched, |(at, _)| *at);
    let seen = format!(
        "{} seen in {}: too few for a rhythm",
        stream.heartbeats.len(),
        ms(lasted)
    );
    let remedy = format!(
        "watch longer (--watch) if --heartbeat is long; else a hop holds them back: {}",
        context.hops.remedy(Trouble::Buffering)
    );
    let fault = Fault::new(Party::Unknown, seen, remedy);
    if stream.end.is_some() {
        Finding::noted(HEARTBEAT, fault)
    } else {
        Finding::failed(HEARTBEAT, fault)
    }
}

/// Whether the stream was ended.
pub(in crate::doctor) fn cut(stream: &StreamSeen, context: &Context<'_>) -> Finding {
    let Some((at, end)) = &stream.end else {
        let seen = format!(
            "the stream was open all the {} that it was watched",
            ms(stream.watched)
        );
        return Finding::passed(CUT, seen);
    };
    let last = stream.heartbeats.last().filter(|last| *last < at);
    let silence = last.map_or(*at, |last| at.saturating_sub(*last));
    let seen = format!(
        "the stream ended after {}, {} after the last heartbeat",
        ms(*at),
        ms(silence)
    );
    match end {
        End::Whole if stream.has_farewell() => Finding::noted(
            CUT,
            Fault::new(
                Party::Hookcast,
                format!("{seen}. hookcast ended it itself: it said before when to come back"),
                "a restart does this, and is no fault; else look at hookcast's log, and examine again",
            ),
        ),
        End::Whole => Finding::failed(CUT, cut_by_hop(format!("{seen}, in good order"), context)),
        End::Cut(error) => Finding::failed(
            CUT,
            cut_by_hop(format!("{seen}: it broke off ({error})"), context),
        ),
        End::Unanswered(fault) => Finding::failed(CUT, fault.clone()),
    }
}

/// hookcast says goodbye before it ends a stream, unless it was killed.
fn cut_by_hop(seen: String, context: &Context<'_>) -> Fault {
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

    type Judge = fn(&StreamSeen, &Context<'_>) -> Finding;

    fn found(judge: Judge, change: impl FnOnce(&mut StreamSeen)) -> Finding {
        let mut stream = fixture::stream();
        change(&mut stream);
        judge(
            &stream,
            &context("https://hooks.example", &Secrets::default()),
        )
    }

    #[test]
    fn heartbeats_without_rhythm_are_noticed() {
        assert_eq!(found(heartbeat, |_| {}).verdict, Verdict::Passed);
        let few = found(heartbeat, |stream| stream.heartbeats.truncate(1));
        assert_eq!(few.verdict, Verdict::Failed);
        blames(&few, Party::Unknown, "too few", "--watch");
        let bursts = found(heartbeat, |stream| {
            stream.heartbeats.push(Duration::from_secs(40))
        });
        blames(&bursts, Party::Proxy, "bursts", "proxy_buffering off");
        let few = found(heartbeat, |stream| {
            stream.heartbeats.clear();
            stream.end = Some((Duration::from_secs(1), End::Whole));
        });
        assert_eq!(few.verdict, Verdict::Noted);
    }

    /// hookcast says before it ends a stream when to come back; a proxy does not.
    #[test]
    fn an_end_names_who_ended_it() {
        let at = Duration::from_secs(13);
        assert_eq!(found(cut, |_| {}).verdict, Verdict::Passed);
        let broken = found(cut, |stream| {
            stream.end = Some((at, End::Cut("eof".into())))
        });
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
        let whole = found(cut, |stream| stream.end = Some((at, End::Whole)));
        assert_eq!(whole.verdict, Verdict::Failed);
        blames(&whole, Party::Proxy, "in good order", "proxy_read_timeout");
        let farewell = found(cut, |stream| {
            stream.retry = Some(at);
            stream.end = Some((at, End::Whole));
        });
        assert_eq!(farewell.verdict, Verdict::Noted);
        blames(&farewell, Party::Hookcast, "ended it itself", "restart");
    }
}
