//! Judges whether a stream begins, delivers events at once, and resumes.
//!
//! hookcast sends the head and the first event of a stream in one write, and an event before or with the
//! answer to its post. A hop has held back whatever arrives later.

use std::time::Duration;

use super::{Context, refusal};
use crate::doctor::answer::Answer;
use crate::doctor::finding::{BUFFERING, DELAY, Fault, Finding, Party, RESUME, STREAM, ms};
use crate::doctor::hop::Trouble;
use crate::doctor::probe::{Post, Resumed};
use crate::doctor::watch::{End, StreamSeen};
use crate::limits::{DOCTOR_DELAYED_MS, DOCTOR_HELD_BACK_MS, DOCTOR_PATIENCE_MS};

/// Judges whether a stream was opened.
pub(in crate::doctor) fn stream(stream: &StreamSeen, context: &Context<'_>) -> Finding {
    let Some((after, head)) = &stream.head else {
        return Finding::failed(STREAM, not_begun(stream, context));
    };
    if head.status != 200 {
        let answer = Answer {
            head: head.clone(),
            body: stream.refusal.clone(),
        };
        let fault = refusal::fault("GET /api/webhook/stream", &answer, context);
        return Finding::failed(STREAM, fault);
    }
    if stream.is_refused_for_room() {
        let seen =
            "hookcast ended the stream at once and said when to come back: it has no room for more";
        let remedy = "raise --max-connections and the hard limit of open files (LimitNOFILE in systemd); with \
                      --max-connections-per-ip behind a proxy set --trusted-proxy, else all clients count as one";
        return Finding::failed(STREAM, Fault::new(Party::Hookcast, seen, remedy));
    }
    Finding::passed(STREAM, format!("its head came after {}", ms(*after)))
}

fn not_begun(stream: &StreamSeen, context: &Context<'_>) -> Fault {
    let seen = match &stream.end {
        Some((_, End::Unanswered(fault))) if fault.party != Party::Network => return fault.clone(),
        Some((_, End::Unanswered(fault))) => format!("it does not begin: {}", fault.seen),
        _ => format!("it does not begin within {DOCTOR_PATIENCE_MS} ms"),
    };
    Fault::new(
        Party::Proxy,
        format!("{seen}, though GET /api/webhook is answered: a hop holds the answer back"),
        format!(
            "{}. Until then GET /api/webhook/messages?wait=25 gets through",
            context.hops.remedy(Trouble::Buffering)
        ),
    )
}

/// Judges whether events arrive when they are sent.
pub(in crate::doctor) fn buffering(
    stream: &StreamSeen,
    posts: &[Post],
    context: &Context<'_>,
) -> Finding {
    let Some((began, head)) = &stream.head else {
        return Finding::failed(BUFFERING, not_begun(stream, context));
    };
    let hops = context.hops_of_stream(head);
    let trouble = match head.field("content-encoding") {
        Some(_) => Trouble::Compression,
        None => Trouble::Buffering,
    };
    let held_back = |seen: String| {
        let seen = format!("{seen}: a hop holds events back");
        Finding::failed(
            BUFFERING,
            Fault::new(Party::Proxy, seen, hops.remedy(trouble)),
        )
    };
    let Some((connected, _)) = stream.connected else {
        return held_back("the head of the stream came, and its first event did not".into());
    };
    let pause = connected.saturating_sub(*began);
    if pause.as_millis() > u128::from(DOCTOR_HELD_BACK_MS) {
        return held_back(format!(
            "the first event came {} after the head of the stream",
            ms(pause)
        ));
    }
    let arrivals = posts.iter().filter(|post| post.is_accepted());
    let arrivals = arrivals.map(|post| post.arrived);
    let slowest =
        arrivals.max_by_key(|arrived| arrived.map_or(u128::MAX, |after| after.as_millis()));
    match slowest {
        Some(None) => held_back("a message was accepted, and its event did not come".into()),
        Some(Some(after)) if after.as_millis() > u128::from(DOCTOR_HELD_BACK_MS) => held_back(
            format!("an event came {} after its post was answered", ms(after)),
        ),
        Some(Some(after)) => {
            let seen = format!("events come within {} of their posts' answers", ms(after));
            Finding::passed(BUFFERING, seen)
        }
        None => Finding::passed(
            BUFFERING,
            "the first event came with the head; no other was posted",
        ),
    }
}

/// Judges the median delay of events. Delays over [`DOCTOR_HELD_BACK_MS`] are judged by [`buffering`].
pub(in crate::doctor) fn delay(posts: &[Post], context: &Context<'_>) -> Option<Finding> {
    let mut delays: Vec<Duration> = posts.iter().filter_map(|post| post.arrived).collect();
    delays.sort_unstable();
    let median = *delays.get(delays.len() / 2)?;
    let seen = format!(
        "events come {} later than the answers to their posts",
        ms(median)
    );
    let is_delayed = (u128::from(DOCTOR_DELAYED_MS)..=u128::from(DOCTOR_HELD_BACK_MS))
        .contains(&median.as_millis());
    Some(if is_delayed {
        let seen = format!("{seen}: a hop waits for more to send");
        let remedy = format!(
            "{}; others: TCP_NODELAY",
            context.hops.remedy(Trouble::Delay)
        );
        Finding::noted(DELAY, Fault::new(Party::Proxy, seen, remedy))
    } else {
        Finding::passed(DELAY, seen)
    })
}

/// Judges whether a second stream resumes after a message.
pub(in crate::doctor) fn resume(resumed: Resumed, context: &Context<'_>) -> Finding {
    match resumed {
        Resumed::Behind => Finding::passed(RESUME, "Last-Event-ID reaches the server"),
        Resumed::FromStart => Finding::failed(
            RESUME,
            Fault::new(
                Party::Proxy,
                "a stream with Last-Event-ID began from the start, so a hop drops the field: clients get \
                 everything again, and may miss what is older than the history",
                format!(
                    "forward all request fields: {}",
                    context.hops.remedy(Trouble::RequestFields)
                ),
            ),
        ),
        Resumed::Nothing => Finding::failed(
            RESUME,
            Fault::new(
                Party::Proxy,
                "a second stream, with Last-Event-ID, brought nothing: a hop holds it back",
                context.hops.remedy(Trouble::Buffering),
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, blames, context, head, post, text};
    use super::*;
    use crate::check::Verdict;
    use crate::foreign_text::Secrets;

    const URL: &str = "https://hooks.example";

    fn found(change: impl FnOnce(&mut StreamSeen)) -> Finding {
        let mut seen = fixture::stream();
        change(&mut seen);
        stream(&seen, &context(URL, &Secrets::default()))
    }

    #[test]
    fn a_stream_that_does_not_begin_is_held_back() {
        assert_eq!(found(|_| {}).verdict, Verdict::Passed);
        let unanswered = |party| {
            let fault = Fault::new(party, "no answer within 5000 ms", "look");
            Some((Duration::from_secs(5), End::Unanswered(fault)))
        };
        for end in [None, unanswered(Party::Network)] {
            let nothing = StreamSeen {
                end,
                ..StreamSeen::default()
            };
            let finding = found(|seen| *seen = nothing.clone());
            blames(
                &finding,
                Party::Proxy,
                "holds the answer back",
                "proxy_buffering off",
            );
            blames(&finding, Party::Proxy, "within 5000 ms", "messages?wait=25");
            let secrets = Secrets::default();
            let posts = [post(200, None)];
            let finding = buffering(&nothing, &posts, &context(URL, &secrets));
            blames(
                &finding,
                Party::Proxy,
                "holds the answer back",
                "proxy_buffering off",
            );
        }
        let finding = found(|seen| {
            *seen = StreamSeen {
                end: unanswered(Party::Unknown),
                ..StreamSeen::default()
            };
        });
        blames(&finding, Party::Unknown, "no answer", "look");
    }

    #[test]
    fn a_refused_stream_names_the_server_that_refused_it() {
        let finding = found(|seen| {
            seen.head = Some((Duration::ZERO, head(404, &[("server", "nginx")])));
            seen.refusal = text("<h1>404</h1>");
        });
        blames(
            &finding,
            Party::Proxy,
            "404, not by hookcast (server: nginx): \"404\"",
            "location",
        );
        let finding = found(|seen| {
            seen.connected = None;
            seen.end = Some((Duration::from_millis(6), End::Whole));
        });
        blames(&finding, Party::Hookcast, "no room", "--max-connections");
    }

    #[test]
    fn late_events_are_reported_as_held_back_or_delayed() {
        let secrets = Secrets::default();
        let context = context(URL, &secrets);
        let seen = fixture::stream();
        let found = |arrived| buffering(&seen, &[post(200, arrived)], &context);
        assert_eq!(found(Some(2)).verdict, Verdict::Passed);
        blames(
            &found(Some(1500)),
            Party::Proxy,
            "1500 ms after",
            "proxy_buffering off",
        );
        blames(
            &found(None),
            Party::Proxy,
            "did not come",
            "proxy_buffering off",
        );
        let refused = buffering(&seen, &[post(401, None)], &context);
        assert_eq!(refused.verdict, Verdict::Passed);

        let mut gzip = fixture::stream();
        let coding = ("content-encoding".into(), text("gzip"));
        gzip.head.as_mut().unwrap().1.fields.push(coding);
        let finding = buffering(&gzip, &[post(200, None)], &context);
        blames(&finding, Party::Proxy, "did not come", "gzip off");
        gzip.connected = None;
        let finding = buffering(&gzip, &[], &context);
        blames(
            &finding,
            Party::Proxy,
            "its first event did not",
            "gzip off",
        );

        let mut late = fixture::stream();
        late.connected = Some((Duration::from_millis(1500), 0));
        let finding = buffering(&late, &[], &context);
        blames(
            &finding,
            Party::Proxy,
            "1495 ms after the head",
            "proxy_buffering off",
        );

        let found = |arrived| delay(&[post(200, arrived)], &context);
        blames(
            &found(Some(207)).unwrap(),
            Party::Proxy,
            "207 ms later",
            "option http-no-delay",
        );
        assert_eq!(found(Some(207)).unwrap().verdict, Verdict::Noted);
        assert_eq!(found(Some(9)).unwrap().verdict, Verdict::Passed);
        assert_eq!(found(None), None);
    }

    #[test]
    fn a_stream_that_does_not_resume_says_why() {
        let secrets = Secrets::default();
        let found = |resumed| resume(resumed, &context(URL, &secrets));
        assert_eq!(found(Resumed::Behind).verdict, Verdict::Passed);
        blames(
            &found(Resumed::FromStart),
            Party::Proxy,
            "Last-Event-ID",
            "forward all",
        );
        blames(
            &found(Resumed::Nothing),
            Party::Proxy,
            "nothing",
            "proxy_buffering off",
        );
    }
}
