//! What a shard tells the thread that shares presence.

use super::*;
use crate::limits::{PRESENCE_CHANGES_MAX, PRESENCE_PAGE_SLOTS};
use crate::shard::census::{CensusTask, Changes, SessionPage};
use crossbeam_channel::bounded;

fn name(name: &str) -> SessionId {
    SessionId::parse(name).unwrap().unwrap()
}

impl Node {
    fn stream_of(&mut self, name: &str) -> (Peer, Token) {
        let peer = Peer::with_room(10_000);
        let line = format!("GET /api/webhook/stream?sessionId={name} HTTP/1.1");
        let token = self.ask(&peer, format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        (peer, token)
    }

    fn end(&mut self, token: Token) {
        let slot = self.shard.connections.slot_of(token).unwrap();
        self.shard.close(slot);
    }

    fn changes(&mut self) -> Changes {
        let (to, from) = bounded(1);
        self.shard.run_census(&CensusTask::Changes(to));
        from.try_recv().unwrap()
    }

    fn changed(&mut self) -> Vec<String> {
        let changes = self.changes();
        assert!(!changes.is_overflown);
        let names = changes.sessions.iter();
        let mut names: Vec<String> = names.map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names
    }

    fn page(&mut self, from: usize) -> SessionPage {
        let (to, page) = bounded(1);
        self.shard.run_census(&CensusTask::Sessions(from, to));
        page.try_recv().unwrap()
    }
}

#[test]
fn sessions_whose_streams_change_are_noted_once_and_only_with_a_bus() {
    let mut node = Node::new();
    node.stream_of("before");
    assert_eq!(node.changed(), [""; 0]);
    node.shard.note_changes();
    let (_peer, token) = node.stream_of("a");
    let others = [node.stream_of("a"), node.stream_of("b")];
    let poll = Peer::with_room(10_000);
    let line = "GET /api/webhook/messages?sessionId=polled&wait=9 HTTP/1.1";
    node.ask(&poll, format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
    node.ask(&Peer::with_room(10_000), STREAM);
    node.publish_to(Some("no stream"), 1, 10);
    assert_eq!(node.changed(), ["a", "b"]);
    assert_eq!(node.changed(), [""; 0]);
    node.end(token);
    assert_eq!(node.changed(), ["a"]);
    // The last stream of a session ends, and with it the session.
    for (_, token) in &others {
        node.end(*token);
    }
    let (to, from) = bounded(1);
    let sessions: Arc<[SessionId]> = [name("a"), name("before"), name("polled")].into();
    node.shard.run_census(&CensusTask::Counts(sessions, to));
    assert_eq!(from.try_recv().unwrap(), [0, 1, 0]);
    assert_eq!(node.changed(), ["a", "b"]);
}

#[test]
fn more_changes_than_are_noted_make_the_node_write_everything() {
    let mut node = Node::with(|settings| settings.shards = 4);
    let most = PRESENCE_CHANGES_MAX / 4;
    node.shard.note_changes();
    for nth in 0..=most {
        let (_, token) = node.stream_of(&format!("s{nth}"));
        node.end(token);
        let noted = node.shard.presence.changes.as_ref().unwrap();
        assert!(noted.sessions.len() <= most);
    }
    let changes = node.changes();
    assert!(changes.is_overflown && changes.sessions.is_empty());
    node.stream_of("after");
    assert_eq!(node.changed(), ["after"]);
}

#[test]
fn all_sessions_with_streams_are_in_some_page() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 24);
    let count = 2 * PRESENCE_PAGE_SLOTS + 10;
    let open: Vec<_> = (0..count)
        .map(|nth| node.stream_of(&format!("s{nth}")))
        .collect();
    for (_, token) in open.iter().step_by(2) {
        node.end(*token);
    }
    node.publish_to(Some("no stream"), 1, 10);
    let (mut from, mut found) = (Some(0), Vec::new());
    while let Some(slot) = from {
        let page = node.page(slot);
        assert!(page.sessions.len() <= PRESENCE_PAGE_SLOTS);
        found.extend(page.sessions);
        from = page.next;
    }
    found.sort();
    let mut expected: Vec<SessionId> = (1..count)
        .step_by(2)
        .map(|nth| name(&format!("s{nth}")))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}
