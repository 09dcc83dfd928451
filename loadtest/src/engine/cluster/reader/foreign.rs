//! Messages that a stream may not see.
//!
//! Used by `reader` for each message that it parses.

use crate::engine::cluster::order::Entry;
use crate::engine::cluster::trail::Tally;
use crate::engine::cluster::views::Views;

/// Whether a stream may see a message. Counts it, if not.
pub(super) fn check_view(views: Views, stream: usize, entry: &Entry, tally: &mut Tally) -> bool {
    let sees = views.sees(views.of_stream(stream), entry.number);
    if !sees {
        tally.foreign += 1;
        let (number, place) = (entry.number, entry.place);
        tally.note(format!(
            "stream {stream} got message {number} ({place}), which is for another session"
        ));
    }
    sees
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::order::{Order, Place, frame};
    use crate::engine::cluster::views::FIRST_NUMBER;
    use crate::engine::payload::Stamp;

    #[test]
    fn a_message_of_another_session_is_foreign() {
        let views = Views::new(3, 6, 2);
        let mut order = Order::default();
        let (mut tally, mut seen) = (Tally::default(), 0);
        for number in FIRST_NUMBER..FIRST_NUMBER + 80 {
            let place = Place {
                epoch: 1,
                seq: number.into(),
            };
            let frame = frame(place, number, number.into());
            let stamp = Stamp { number, sent_ns: 0 };
            let at = order.meet(stamp, &frame, None).unwrap();
            let is_own = check_view(views, 4, order.get(at), &mut tally);
            assert_eq!(is_own, views.sees(1, number), "stream 4 has view 1");
            seen += u64::from(is_own);
        }
        // A quarter is for everyone, and two of six sessions are its own.
        assert_eq!(seen + tally.foreign, 80);
        assert!((35..=45).contains(&seen), "{seen}");
        assert!(tally.details[0].contains("stream 4 got message"));
    }
}
