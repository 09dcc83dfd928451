//! Identities: repeats are recognised by the append script.

use super::*;
use crate::bus::engine::{Content, Entry, Repeat};
use crate::identities::First;
use crate::limits::BUS_FINGERPRINTS_MAX;
use crate::message::{Identity, Label};

fn identity(id: u8, tag: u8, window_s: u32) -> Identity {
    let print = |byte: u8| (byte > 0).then_some([byte; 16]);
    Identity {
        id: print(id),
        tag: print(tag),
        body: Some([id + tag; 16]),
        window_s,
    }
}

fn identified(number: u128, identity: impl Into<Option<Identity>>) -> Outgoing {
    Outgoing {
        message: Arc::new(Message {
            id: MessageId::from_u128(number),
            timestamp_ms: 5,
            session: SessionId::parse("s").unwrap(),
            content: format!("message {number}"),
            label: Label::new("github", "push").map(Arc::new),
            identity: identity.into().map(Arc::new),
        }),
        keeps_time: true,
    }
}

fn repeats(node: &mut Node, messages: &[Outgoing]) -> Vec<Repeat> {
    match node.append(messages) {
        Ok(Appended::Stored {
            messages: count,
            fault: None,
            repeats,
            ..
        }) if count == messages.len() => repeats,
        other => panic!("{other:?}"),
    }
}

fn ids(entries: &[Entry]) -> Vec<u128> {
    let ids = entries.iter().filter_map(|entry| match &entry.content {
        Content::Message(message) => Some(message.id.as_u128()),
        _ => None,
    });
    ids.collect()
}

fn repeat(number: u64, first: u128, body: Option<u8>) -> Repeat {
    Repeat {
        number,
        first: First {
            id: MessageId::from_u128(first),
            timestamp_ms: 5,
        },
        body: body.map(|byte| [byte; 16]),
    }
}

#[test]
fn a_repeat_is_not_appended_whichever_node_sends_it() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let (mut node, mut other) = (server.node(), server.node());
    node.begin(9, &[]);
    (other.epoch, other.producer) = (Epoch(9), Producer(8));
    let first = identified(1, identity(1, 2, 60));
    // A repeat in the same call, by the id, with its body; one by the tag alone.
    let found = repeats(
        &mut node,
        &[first.clone(), identified(2, identity(1, 7, 60))],
    );
    assert_eq!(found, [repeat(2, 1, Some(3))]);
    let found = repeats(
        &mut other,
        &[identified(3, identity(4, 2, 60)), identified(4, None)],
    );
    assert_eq!(found, [repeat(1, 1, None)]);
    // The same message is no repeat of itself: it is sent again after a reset.
    assert_eq!(repeats(&mut other, std::slice::from_ref(&first)), []);
    let entries = node.read(id(9, 0));
    assert_eq!(ids(&entries), [1, 4, 1]);
    let Content::Message(message) = &entries[0].content else {
        panic!("{entries:?}");
    };
    assert_eq!(*message, first.message);
}

#[test]
fn an_identity_is_forgotten_after_its_window() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    assert_eq!(repeats(&mut node, &[identified(1, identity(1, 0, 0))]), []);
    assert_eq!(repeats(&mut node, &[identified(2, identity(1, 0, 60))]), []);
    let found = repeats(&mut node, &[identified(3, identity(1, 0, 60))]);
    assert_eq!(found, [repeat(3, 2, Some(1))]);
}

#[test]
fn what_is_put_back_is_recognised() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    let first = identified(1, identity(1, 2, 60));
    repeats(&mut node, std::slice::from_ref(&first));
    server.do_it("FLUSHALL");
    assert!(node.begin(10, &[(1, first.message)]));
    node.producer = Producer(8);
    node.number = 0;
    let found = repeats(&mut node, &[identified(2, identity(1, 2, 60))]);
    assert_eq!(found, [repeat(1, 1, Some(3))]);
    assert_eq!(ids(&node.read(id(10, 0))), [1]);
}

/// The newest are known, and the hashes are bounded.
#[test]
fn the_oldest_identities_are_forgotten() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    repeats(&mut node, &[identified(1, identity(1, 0, 60))]);
    let fill = |hash: &str| {
        let script = "for i = 2, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], i, '') end";
        let count = BUS_FINGERPRINTS_MAX.to_string();
        server.ask(&["EVAL", script, "1", hash, &count]).unwrap();
    };
    let [first, second] = Keys::new(NAME).identities;
    fill(&first);
    // The other hash is written now, and the first one is still read.
    repeats(&mut node, &[identified(2, identity(2, 0, 60))]);
    let found = repeats(&mut node, &[identified(3, identity(1, 0, 60))]);
    assert_eq!(found, [repeat(3, 1, Some(1))]);
    fill(&second);
    repeats(&mut node, &[identified(4, identity(4, 0, 60))]);
    // The first one was emptied.
    assert_eq!(repeats(&mut node, &[identified(5, identity(1, 0, 60))]), []);
    let found = repeats(&mut node, &[identified(6, identity(2, 0, 60))]);
    assert_eq!(found, [repeat(6, 2, Some(2))]);
}

/// A message that the engine does not take leaves no identity: a retry must be appended.
#[test]
fn a_message_that_was_not_appended_is_not_known() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    let [first, _] = Keys::new(NAME).identities;
    server.do_it(&format!("SET {first} foreign"));
    let refused = node.append(&[identified(1, identity(1, 0, 60))]);
    assert!(
        matches!(
            refused,
            Ok(Appended::Stored {
                messages: 0,
                fault: Some(_),
                ..
            })
        ),
        "{refused:?}"
    );
    server.do_it(&format!("DEL {first}"));
    assert_eq!(repeats(&mut node, &[identified(2, identity(1, 0, 60))]), []);
    assert_eq!(ids(&node.read(id(9, 0))), [2]);
}
