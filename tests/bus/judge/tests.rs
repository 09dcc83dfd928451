//! A judge that finds nothing is a defect.

use std::time::Duration;

use super::*;
use crate::watcher::TokenUse;

fn shown(epoch: u64, seq: u64, name: &str) -> Seen {
    Seen::Message(Shown {
        id: Id { epoch, seq },
        message_id: format!("id of {name}"),
        content: name.to_owned(),
        session: None,
        timestamp: 1_000 + seq,
    })
}

fn record(resumed: Option<Id>, seen: &[Seen]) -> Record {
    let visit = Visit {
        resumed,
        replay: Some(0),
        continues: resumed.is_some(),
        seen: seen.to_vec(),
        ..Visit::default()
    };
    let known = visit
        .messages()
        .map(|shown| shown.message_id.clone())
        .collect();
    Record {
        visits: vec![visit],
        known,
        ..Record::default()
    }
}

fn posted(content: &str, outcome: Outcome) -> Posted {
    Posted {
        content: content.to_owned(),
        session: None,
        node: 0,
        outcome,
        error: String::new(),
        took: Duration::ZERO,
    }
}

fn stored(content: &str) -> Posted {
    let message_id = format!("id of {content}");
    posted(
        content,
        Outcome::Stored {
            message_id,
            timestamp: 0,
        },
    )
}

#[test]
fn a_judge_accepts_what_holds() {
    let whole = [shown(1, 1, "a"), shown(1, 2, "b"), shown(2, 3, "c")];
    let gap = [shown(1, 1, "a"), Seen::Gap(1), shown(2, 3, "c")];
    let resumed = Some(Id { epoch: 1, seq: 1 });
    let records = [
        record(None, &whole),
        record(None, &gap),
        record(resumed, &whole[1..]),
    ];
    let verdict = judge(&[stored("c"), posted("x", Outcome::Refused)], &records);
    assert!(verdict.violations.is_empty(), "{verdict:?}");
    assert_eq!(
        (
            verdict.stored,
            verdict.refused,
            verdict.gaps,
            verdict.replays
        ),
        (1, 1, 1, 0)
    );
    let mut replayed = record(resumed, &whole);
    replayed.visits[0].continues = false;
    assert_eq!(judge(&[], &[replayed]).replays, 1);
}

#[test]
fn a_judge_finds_every_violation() {
    let (a, b, c) = (shown(1, 1, "a"), shown(1, 2, "b"), shown(1, 3, "c"));
    let resumed = Some(Id { epoch: 1, seq: 1 });
    let one_id = |seen: &[Seen]| vec![record(None, seen)];
    let cases = [
        ("twice", one_id(&[a.clone(), b.clone(), shown(1, 3, "b")])),
        ("out of order", one_id(&[b.clone(), a.clone()])),
        ("an earlier epoch", one_id(&[shown(2, 1, "a"), b.clone()])),
        ("a hole", one_id(&[a.clone(), c.clone()])),
        (
            "a gap too large",
            one_id(&[a.clone(), Seen::Gap(2), c.clone()]),
        ),
        (
            "a hole after a resumption",
            vec![record(resumed, std::slice::from_ref(&c))],
        ),
        (
            "two orders",
            vec![
                record(None, &[a.clone(), b.clone()]),
                record(None, &[shown(1, 1, "b"), shown(1, 2, "a")]),
            ],
        ),
        (
            "two places",
            vec![
                record(None, &[a.clone(), b.clone()]),
                record(None, &[shown(1, 3, "b")]),
            ],
        ),
    ];
    for (what, records) in cases {
        assert!(!judge(&[], &records).violations.is_empty(), "{what}");
    }
    let seen = one_id(&[a, b]);
    let outcomes = [
        ("lost", stored("c")),
        ("refused, but seen", posted("b", Outcome::Refused)),
    ];
    for (what, posted) in outcomes {
        assert_eq!(judge(&[posted], &seen).violations.len(), 1, "{what}");
    }
}

/// A message for a session.
fn shown_to(session: &str, seq: u64, name: &str) -> Seen {
    match shown(1, seq, name) {
        Seen::Message(message) => Seen::Message(Shown {
            session: Some(session.to_owned()),
            ..message
        }),
        gap @ Seen::Gap(_) => gap,
    }
}

/// A client that sees these sessions.
fn record_of(sessions: &[&str], resumed: Option<Id>, seen: &[Seen]) -> Record {
    let sessions: Vec<String> = sessions.iter().map(ToString::to_string).collect();
    Record {
        view: View::of(&sessions),
        ..record(resumed, seen)
    }
}

/// Those with these numbers of five messages: for everyone, `s`, `t`, `s`, everyone.
fn some_of_five(numbers: &[usize]) -> Vec<Seen> {
    let all = [
        shown(1, 1, "a"),
        shown_to("s", 2, "b"),
        shown_to("t", 3, "c"),
        shown_to("s", 4, "d"),
        shown(1, 5, "e"),
    ];
    let chosen = numbers.iter().map(|number| all[number - 1].clone());
    chosen.collect()
}

#[test]
fn a_judge_accepts_what_views_include() {
    let whole = some_of_five(&[1, 2, 3, 4, 5]);
    let public = Record {
        view: View::Public,
        ..record(None, &some_of_five(&[1, 5]))
    };
    let resumed = Some(Id { epoch: 1, seq: 1 });
    let with_gap = |missed| {
        let mut seen = some_of_five(&[1, 5]);
        seen.insert(1, Seen::Gap(missed));
        record_of(&["t"], None, &seen)
    };
    let records = [
        record(None, &whole),
        record_of(&["s", "t"], None, &whole),
        record_of(&["s"], None, &some_of_five(&[1, 2, 4, 5])),
        record_of(&["t"], resumed, &some_of_five(&[3, 5])),
        public,
        // A gap may count messages outside the view.
        with_gap(1),
        with_gap(3),
    ];
    let for_s = Posted {
        session: Some("s".to_owned()),
        ..stored("b")
    };
    let verdict = judge(&[for_s, stored("e")], &records);
    assert!(verdict.violations.is_empty(), "{verdict:?}");
    // Two lack "c", behind a gap.
    assert_eq!((verdict.gaps, verdict.unseen), (2, 2));
}

#[test]
fn a_judge_finds_what_a_view_lacks_or_should_not_have() {
    let whole = record(None, &some_of_five(&[1, 2, 3, 4, 5]));
    let of_s = |numbers: &[usize]| record_of(&["s"], None, &some_of_five(numbers));
    let resumed_at = |seq, numbers: &[usize]| {
        record_of(&["s"], Some(Id { epoch: 1, seq }), &some_of_five(numbers))
    };
    let with_gap = |missed| {
        let mut seen = some_of_five(&[1, 5]);
        seen.insert(1, Seen::Gap(missed));
        record_of(&["s"], None, &seen)
    };
    let for_all_and = |numbers: &[usize]| Record {
        view: View::Public,
        ..record(None, &some_of_five(numbers))
    };
    let mut unknown = some_of_five(&[1, 2, 4, 5]);
    unknown.push(shown(1, 7, "g"));
    let cases = [
        ("of another session", of_s(&[1, 2, 3, 4, 5])),
        ("of a session, not for everyone", for_all_and(&[1, 2, 5])),
        ("a hole with a message of the view", of_s(&[1, 2, 5])),
        ("the same after a resumption", resumed_at(2, &[5])),
        ("a hole with a message for everyone", resumed_at(0, &[2, 4])),
        (
            "a hole with a message that nobody has seen",
            record_of(&["s"], None, &unknown),
        ),
        ("a gap too small", with_gap(1)),
        ("a gap too large", with_gap(4)),
        ("out of order", of_s(&[1, 4, 2])),
        ("twice", of_s(&[1, 2, 2, 4])),
    ];
    for (what, record) in cases {
        let verdict = judge(&[], &[whole.clone(), record]);
        assert!(!verdict.violations.is_empty(), "{what}");
    }
    // A client that has resumed too far has no hole on any connection.
    let mut records = [whole.clone(), of_s(&[1, 2])];
    let mut next = resumed_at(4, &[5]);
    records[1].visits.append(&mut next.visits);
    records[1].known.extend(next.known);
    let verdict = judge(&[], &records);
    assert_eq!((verdict.violations.len(), verdict.unseen), (0, 1));
    // If the message was stored, its sender complains.
    let for_session = |session: &str| Posted {
        session: Some(session.to_owned()),
        ..stored("d")
    };
    assert_eq!(judge(&[for_session("s")], &records).violations.len(), 1);
    // A message is shown for the session that its sender has named.
    for posted in [for_session("t"), stored("d")] {
        let text = &judge(&[posted], std::slice::from_ref(&whole)).violations[0];
        assert!(text.starts_with("shown for Some(\"s\")"), "{text}");
    }
}

const ENDS_MS: u64 = 5_000;

/// A stream that began 2 s before its token has ended, and ended with it.
fn ended_by_token(adjust: impl Fn(&mut Visit, &mut TokenUse)) -> Record {
    let mut record = record(None, &[shown(1, 1, "a"), shown(1, 2, "b")]);
    let mut token = TokenUse {
        expires_ms: ENDS_MS,
        sent_ms: ENDS_MS - 2_000,
        warnings: vec![(ENDS_MS, ENDS_MS - 1_000)],
        ended_ms: Some(ENDS_MS),
        after_end: 0,
    };
    let visit = &mut record.visits[0];
    visit.heartbeats = 8;
    visit.ended_well = true;
    adjust(visit, &mut token);
    visit.token = Some(token);
    let next = Visit {
        resumed: visit.last,
        ..Visit::default()
    };
    record.visits.push(next);
    record
}

#[test]
fn a_judge_accepts_a_stream_that_ends_with_its_token() {
    let right = [
        ended_by_token(|_, _| {}),
        // A client may be slow.
        ended_by_token(|_, token| token.ended_ms = Some(ENDS_MS + 5_000)),
        // A node was killed before the end.
        ended_by_token(|visit, token| (visit.ended_well, token.ended_ms) = (false, None)),
        // A node was handed over before the warning.
        ended_by_token(|_, token| (token.ended_ms, token.warnings) = (None, Vec::new())),
    ];
    let verdict = judge(&[], &right);
    assert!(verdict.violations.is_empty(), "{verdict:?}");
    assert_eq!(verdict.token_ends, 2);
}

#[test]
fn a_judge_finds_a_stream_that_does_not_end_with_its_token() {
    let wrong = [
        (
            "opened by a token that had ended",
            ended_by_token(|visit, token| {
                token.sent_ms = ENDS_MS;
                token.warnings[0].1 = ENDS_MS;
                visit.heartbeats = 0;
            }),
        ),
        (
            "ended before its token",
            ended_by_token(|_, token| token.ended_ms = Some(ENDS_MS - 1)),
        ),
        (
            "ended too late",
            ended_by_token(|_, token| token.ended_ms = Some(ENDS_MS + 60_000)),
        ),
        (
            "not warned",
            ended_by_token(|_, token| token.warnings.clear()),
        ),
        (
            "warned again",
            ended_by_token(|_, token| token.warnings.push((ENDS_MS, ENDS_MS - 1))),
        ),
        (
            "warned too early",
            ended_by_token(|_, token| token.warnings[0].1 -= 1),
        ),
        (
            "warned of another end",
            ended_by_token(|_, token| token.warnings[0].0 += 1_000),
        ),
        (
            "bytes after the end of its token",
            ended_by_token(|_, token| token.after_end = 1),
        ),
        (
            "no last chunk after the end of its token",
            ended_by_token(|visit, _| visit.ended_well = false),
        ),
        (
            "heartbeats long after the end of its token",
            ended_by_token(|visit, _| visit.heartbeats = 20),
        ),
        // The end never comes.
        (
            "heartbeats long after the end of its token",
            ended_by_token(|visit, token| (visit.heartbeats, token.ended_ms) = (20, None)),
        ),
        (
            "messages long after the end of its token",
            ended_by_token(|visit, _| {
                if let Some(Seen::Message(shown)) = visit.seen.last_mut() {
                    shown.timestamp = ENDS_MS + 2_000;
                }
            }),
        ),
    ];
    for (fault, record) in wrong {
        let verdict = judge(&[], &[record]);
        let [violation] = &*verdict.violations else {
            panic!("{fault}: {verdict:?}");
        };
        assert!(violation.contains(fault), "{fault}: {violation}");
    }
}
