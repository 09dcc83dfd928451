//! Any bytes on a connection of a complete shard. The answers do not depend on how the bytes are cut, nor on
//! how much the socket takes at a time. After the peer has closed, nothing is kept.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use arbitrary::Unstructured;
use crossbeam_channel::Receiver;
use hookcast::clock::Now;
use hookcast::http::Access;
use hookcast::hub::{Batch, Hub};
use hookcast::shard::{Holdings, Readiness, Role, Settings, Shard, Token, Transport};
use hookcast::testkit::{hub_in_memory, now_at, settings};
use memchr::memmem;

const BODY_BYTES_MAX: usize = 600;

/// More turns than any input needs. A turn reads or writes at least a byte.
const TURNS_MAX: usize = 300_000;

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let (Ok(has_secret), Ok(cuts)) = (input.arbitrary::<bool>(), input.arbitrary::<[u8; 4]>())
    else {
        return;
    };
    let bytes = input.take_rest();
    let whole = Node::new(has_secret).converse(bytes, [0; 4]);
    let parts = Node::new(has_secret).converse(bytes, cuts);
    // `Expect: 100-continue` gets an interim answer only if the body has not arrived.
    let waits = bytes.to_ascii_lowercase();
    if memmem::find(&waits, b"expect").is_none() {
        assert!(
            whole == parts,
            "cut by {cuts:?}: {}\n\ninstead of: {}",
            parts.escape_ascii(),
            whole.escape_ascii()
        );
    }
}

/// Both ends of a connection.
#[derive(Default)]
struct Pipe {
    sent: Vec<u8>,
    has_ended: bool,
    room: usize,
    /// Set when a write found no room.
    is_short: bool,
    written: Vec<u8>,
}

#[derive(Clone, Default)]
struct Peer(Rc<RefCell<Pipe>>);

impl Transport for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.sent.is_empty() && !pipe.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(pipe.sent.len());
        buffer[..count].copy_from_slice(&pipe.sent[..count]);
        pipe.sent.drain(..count);
        Ok(count)
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        let before = pipe.room;
        for extent in extents {
            let count = extent.len().min(pipe.room);
            pipe.written.extend_from_slice(&extent[..count]);
            pipe.room -= count;
            pipe.is_short |= count < extent.len();
        }
        match before - pipe.room {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One shard with its hub, ring and peers.
struct Node {
    hub: Hub,
    inbox: Receiver<Arc<Batch>>,
    shard: Shard<Peer>,
    now: Now,
}

impl Node {
    fn new(has_secret: bool) -> Node {
        let (hub, inbox) = hub_in_memory(BODY_BYTES_MAX);
        let now = now_at(0);
        let settings = Settings {
            body_bytes_max: BODY_BYTES_MAX,
            shards: 1,
            held_bytes_max: hookcast::limits::HELD_BYTES_MAX,
            access: Access::new(has_secret.then_some(b"open sesame")),
            ..settings()
        };
        let shard = Shard::new(Arc::new(settings), &hub, 1, now);
        Node {
            hub,
            inbox,
            shard,
            now,
        }
    }

    /// Sends the bytes in pieces of these sizes (0: all at once), with as much room for answers each time.
    /// Returns all answers, without their random parts.
    fn converse(mut self, bytes: &[u8], cuts: [u8; 4]) -> Vec<u8> {
        let peer = Peer::default();
        let token = self.shard.open(peer.clone(), Role::Standard, self.now);
        let mut sizes = cuts.iter().cycle();
        let mut rest = bytes;
        for _ in 0..TURNS_MAX {
            let size = match sizes.next() {
                Some(0) | None => usize::MAX,
                Some(size) => usize::from(*size),
            };
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let readiness = {
                let mut pipe = peer.0.borrow_mut();
                pipe.sent.extend_from_slice(piece);
                let was_short = std::mem::take(&mut pipe.is_short);
                pipe.room = size.clamp(16, usize::MAX / 2);
                Readiness {
                    readable: !piece.is_empty(),
                    writable: was_short,
                    hung_up: false,
                }
            };
            self.turn(token, readiness);
            let is_quiet = self.shard.idle_ms(self.now) != Some(0) && !self.shard.has_drafts();
            if rest.is_empty() && is_quiet && !peer.0.borrow().is_short {
                self.leave(token, &peer);
                return without_ids(&peer.0.borrow().written);
            }
        }
        panic!("the connection makes no progress");
    }

    /// Closes the peer's side, and checks that nothing is kept.
    fn leave(&mut self, token: Token, peer: &Peer) {
        let written = peer.0.borrow().written.clone();
        peer.0.borrow_mut().has_ended = true;
        let readiness = Readiness {
            readable: true,
            writable: true,
            hung_up: true,
        };
        self.turn(token, readiness);
        assert_eq!(self.shard.connections(), 0, "the connection is closed");
        assert_eq!(self.shard.streams(), 0);
        assert_eq!(self.shard.holdings(), Holdings::default());
        assert_eq!(
            peer.0.borrow().written,
            written,
            "nothing is sent to a closed connection"
        );
    }

    /// A turn, as the reactor runs it.
    fn turn(&mut self, token: Token, readiness: Readiness) {
        self.take_batches();
        self.shard.ready(token, readiness, self.now);
        for _ in 0..self.shard.unfinished() {
            self.shard.resume_next(self.now);
        }
        // One connection cannot request so much that it must be divided over turns.
        while self.shard.answer_next_history(self.now).is_some() {}
        self.shard.publish(&self.hub, self.now);
        self.take_batches();
        self.shard.answer_webhooks(self.now);
        self.shard.tick(self.now);
        self.shard.sweep(self.now);
        self.shard.end_sweep(self.now);
        self.shard.end_turn();
    }

    fn take_batches(&mut self) {
        while let Ok(batch) = self.inbox.try_recv() {
            self.shard.deliver(&batch);
        }
    }
}

/// Replaces everything that has the form of a message id.
fn without_ids(bytes: &[u8]) -> Vec<u8> {
    const LENGTH: usize = 36;
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(LENGTH - 1) {
        let is_id = bytes[at..at + LENGTH]
            .iter()
            .enumerate()
            .all(|(place, b)| match place {
                8 | 13 | 18 | 23 => *b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        if is_id {
            bytes[at..at + LENGTH].fill(b'#');
        }
    }
    bytes
}
