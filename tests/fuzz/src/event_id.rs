//! Event ids: a written id is read back, and nothing else is accepted.

use hookcast::message::Epoch;
use hookcast::sse::event_id::EventId;

pub fn run(bytes: &[u8]) {
    if let Some(id) = EventId::parse(bytes) {
        assert_eq!(id.to_string().as_bytes(), bytes, "two texts for one id");
    }
    if let Some((numbers, _)) = bytes.split_first_chunk::<16>() {
        let number = u128::from_le_bytes(*numbers);
        let id = EventId {
            epoch: Epoch(number as u64),
            seq: (number >> 64) as u64,
        };
        assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
    }
}
