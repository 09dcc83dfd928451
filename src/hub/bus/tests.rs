use std::thread;
use std::time::Instant;

use super::*;
use crate::hub::{Receipt, SenderId};
use crate::message::Draft;
use crate::ring::Ring;
use crate::testkit::{INBOX_BATCHES, MemoryMedium, draft, now_at, outlet};

const SETTINGS: BusSettings = BusSettings {
    timeout_ms: 2_000,
    needs_replicas: false,
    syncs: false,
};
const RUN: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    hub: Arc<Hub>,
    inbox: crossbeam_channel::Receiver<Arc<Batch>>,
    sender: SenderId,
    _store: BusStore,
}

impl Rig {
    fn new() -> Rig {
        let (ring, _) = Ring::open_on(Box::new(MemoryMedium::default()), 1_000).unwrap();
        let (outlet, inbox) = outlet(INBOX_BATCHES);
        let lineage = Arc::new(Lineage::new(ring.epoch()));
        let (hub, store) = Hub::with_bus(ring, lineage, Vec::new(), vec![outlet], None, SETTINGS);
        Rig {
            sender: hub.new_sender(),
            hub: Arc::new(hub),
            inbox,
            _store: store,
        }
    }

    fn publish(&self, draft: Draft, at_ms: u64) {
        let mut drafts = VecDeque::from([draft]);
        let mut outcomes = Vec::new();
        self.hub
            .publish(self.sender, &mut drafts, now_at(at_ms), &mut outcomes);
        assert!(drafts.is_empty() && outcomes.is_empty());
    }

    /// The deadline thread, as it sleeps after it has found this deadline. Returns when it is woken, and whether
    /// that was before its time.
    fn deadline_thread(&self, deadline_ms: Option<u64>) -> thread::JoinHandle<bool> {
        let hub = Arc::clone(&self.hub);
        thread::spawn(move || {
            let since = Instant::now();
            hub.await_deadline(RUN, deadline_ms, 0);
            since.elapsed() < PATIENCE
        })
    }

    /// Waits until the thread sleeps.
    fn await_watch(&self, until_ms: u64) {
        let watches = |state: &mut State| state.bus().unwrap().watched_ms == until_ms;
        while !watches(&mut self.hub.lock()) {
            thread::yield_now();
        }
    }

    fn outcome(&self) -> Result<Receipt, NotStored> {
        let batch = self.inbox.recv_timeout(PATIENCE).unwrap();
        let mut outcomes = batch.outcomes_for(self.sender);
        outcomes.next().unwrap().clone()
    }
}

#[test]
fn a_message_wakes_the_appender_only_if_it_waits() {
    let rig = Rig::new();
    let hub = Arc::clone(&rig.hub);
    let waits = || rig.hub.lock().bus().unwrap().is_awaited;
    assert!(!waits());
    let appender = thread::spawn(move || hub.await_demand(RUN, 3 * PATIENCE));
    while !waits() {
        thread::yield_now();
    }
    let since = Instant::now();
    rig.publish(draft("a"), 1);
    assert!(appender.join().unwrap().has_queued);
    assert!(since.elapsed() < PATIENCE && !waits());
    // It finds a message that was queued while it was at work.
    assert!(rig.hub.await_demand(RUN, 3 * PATIENCE).has_queued);
    assert!(since.elapsed() < PATIENCE && !waits());
}

#[test]
fn the_deadline_thread_is_woken_for_an_earlier_deadline_only() {
    let rig = Rig::new();
    let thread = rig.deadline_thread(None);
    rig.await_watch(u64::MAX);
    rig.publish(draft("a"), 1_000);
    assert!(thread.join().unwrap());
    // A later deadline does not change for how long it sleeps.
    let thread = rig.deadline_thread(Some(3_000));
    rig.await_watch(3_000);
    rig.publish(draft("b"), 1_500);
    assert_eq!(rig.hub.lock().bus().unwrap().watched_ms, 3_000);
    assert!(!thread.is_finished());
    // Messages of the mirror may have an earlier one.
    rig.publish(draft("c"), 500);
    assert!(thread.join().unwrap());
    // One that was queued after the thread has looked is not overlooked.
    assert!(rig.deadline_thread(Some(100_000)).join().unwrap());
}

#[test]
fn a_message_that_cannot_be_sent_has_its_outcome_at_once() {
    let rig = Rig::new();
    // The thread sleeps for a message that was acknowledged meanwhile.
    let thread = rig.deadline_thread(Some(60_000));
    rig.await_watch(60_000);
    rig.publish(draft("\u{1}".repeat(900)), 61_000);
    assert!(thread.join().unwrap());
    rig.hub.expire_outgoing(RUN, 61_000);
    assert!(matches!(rig.outcome(), Err(NotStored::FrameTooLarge(_))));
}

/// The appender of a run that is over may return from a call after the next run has sent messages.
#[test]
fn a_call_of_another_run_changes_nothing() {
    const OTHER: u64 = RUN + 1;
    let rig = Rig::new();
    rig.publish(draft("a"), 1);
    let (hub, epoch) = (&rig.hub, Epoch(1));
    assert!(hub.take_outgoing(OTHER, epoch).is_none());
    assert_eq!(hub.last_number(OTHER), None);
    let batch = hub.take_outgoing(RUN, epoch).unwrap();
    assert_eq!((batch.first_number, batch.messages.len()), (1, 1));
    hub.requeue_after(OTHER, 0);
    hub.requeue_before(OTHER, Epoch(2));
    assert!(!hub.demand(RUN).has_queued, "it is not sent twice");
    hub.requeue_after(RUN, 0);
    assert!(hub.demand(RUN).has_queued);
    hub.refuse_outgoing(OTHER);
    assert_eq!(hub.outgoing(), 1);
}
