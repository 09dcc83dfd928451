//! A byte ring addressed by offsets that only increase, until the ring is cleared.
//!
//! Called by the live log, which knows where frames begin. Never interprets the bytes.

/// At most the last `capacity` bytes of all that were pushed.
pub(super) struct ByteRing {
    bytes: Box<[u8]>,
    tail: u64,
    head: u64,
}

impl ByteRing {
    /// A ring of `capacity` bytes. The allocator returns zeroed pages, which take no memory until they
    /// are written.
    pub(super) fn new(capacity: usize) -> ByteRing {
        assert!(capacity > 0);
        ByteRing {
            bytes: vec![0; capacity].into_boxed_slice(),
            tail: 0,
            head: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// One more than the offset of the newest byte.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn free(&self) -> usize {
        self.capacity() - (self.head - self.tail) as usize
    }

    /// Appends `bytes`. The caller has made room for them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.free(), "the caller makes room first");
        let at = self.position(self.head);
        let before_wrap = bytes.len().min(self.capacity() - at);
        let (first, rest) = bytes.split_at(before_wrap);
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.head += bytes.len() as u64;
    }

    /// Frees all bytes before `offset`.
    pub(super) fn forget_before(&mut self, offset: u64) {
        assert!(self.tail <= offset && offset <= self.head);
        self.tail = offset;
    }

    /// Frees all bytes. Offsets begin anew.
    pub(super) fn clear(&mut self) {
        self.tail = 0;
        self.head = 0;
    }

    /// The bytes from `start` to `end`, as two pieces. The second is empty unless they wrap.
    pub(super) fn pieces(&self, start: u64, end: u64) -> (&[u8], &[u8]) {
        assert!(self.tail <= start && start <= end && end <= self.head);
        let at = self.position(start);
        let length = (end - start) as usize;
        let before_wrap = length.min(self.capacity() - at);
        (
            &self.bytes[at..at + before_wrap],
            &self.bytes[..length - before_wrap],
        )
    }

    fn position(&self, offset: u64) -> usize {
        (offset % self.capacity() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable_across_the_wrap() {
        let mut ring = ByteRing::new(10);
        ring.push(b"abcdefg");
        ring.forget_before(5);
        ring.push(b"hijklmn");
        assert_eq!(ring.pieces(5, 14), (&b"fghij"[..], &b"klmn"[..]));
        assert_eq!(ring.pieces(10, 12), (&b"kl"[..], &b""[..]));
        assert_eq!(ring.free(), 1);
    }

    #[test]
    #[should_panic(expected = "makes room")]
    fn a_push_without_room_panics() {
        let mut ring = ByteRing::new(10);
        ring.push(b"abcdefg");
        ring.push(b"hijk");
    }
}
