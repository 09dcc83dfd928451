//! A judge that finds nothing is a defect.

use std::time::Duration;

use super::*;

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
