//! The ids of messages that are published here.

use crate::message::MessageId;

/// Random (version 4) ids, a page of the kernel's random bytes at a time: a system call for each
/// would cost more than the rest of a publish.
pub(super) struct MessageIds {
    bytes: [u8; MessageIds::BYTES],
    used: usize,
}

impl MessageIds {
    const BYTES: usize = 4096;
    const ID_BYTES: usize = 16;

    pub(super) fn new() -> MessageIds {
        MessageIds {
            bytes: [0; Self::BYTES],
            used: Self::BYTES,
        }
    }

    pub(super) fn next(&mut self) -> Result<MessageId, getrandom::Error> {
        if self.used == Self::BYTES {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut random = [0; Self::ID_BYTES];
        random.copy_from_slice(&self.bytes[self.used..self.used + Self::ID_BYTES]);
        self.used += Self::ID_BYTES;
        Ok(uuid::Builder::from_random_bytes(random).into_uuid())
    }
}
