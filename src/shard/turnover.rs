//! The beginning of an epoch, and what it does to the connections of a shard.
//!
//! Part of the shard. Called with a batch of the hub that has a turnover, before its frames are logged. Where
//! the history goes on, only the lineage changes. Where another history replaces it, the log begins anew, all
//! streams end, and long polls are answered. Marks connections only: the sweeps act on the marks. Loops over
//! all connections, because it happens only after the engine of a bus has lost messages.

use crate::hub::Turnover;
use crate::limits::RETRY_MS;
use crate::shard::Shard;
use crate::shard::connection::State;
use crate::shard::sweep::RoundKind;
use crate::shard::transport::Transport;
use crate::shard::waiting::Awaited;

impl<S: Transport> Shard<S> {
    /// Acts on the beginning of an epoch.
    #[cold]
    pub(super) fn turn_over(&mut self, turnover: &Turnover) {
        self.resumption.lineage = turnover.lineage.clone();
        if let Some(first_seq) = turnover.replaced_from {
            self.log.restart(first_seq);
            for slot in 0..self.connections.slots() {
                self.note_reset(slot);
            }
        }
        // Requests that wait for an id are checked again: it may be known now, or unknown for good.
        self.sweeps.waits.restart(RoundKind::Everything);
    }

    /// Marks a connection whose cursor the log has forgotten. The delays until clients reconnect are those
    /// of a drain. They spread 20,000 clients over two seconds.
    fn note_reset(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        match &mut connection.state {
            State::Streaming(stream) => {
                stream.reset(self.rng.u64(RETRY_MS) as u16);
                self.enqueue(slot);
            }
            State::Exchange(exchange) => {
                let waiting = exchange.waiting_mut().map(|waiting| &waiting.awaited);
                if let Some(Awaited::News { .. }) = waiting {
                    self.wake(slot);
                }
            }
            State::Idle | State::Lingering { .. } => {}
        }
    }
}
