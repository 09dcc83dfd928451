use super::*;

const SMALL: usize = SMALL_REQUEST_BYTES_MAX;

fn client(number: u8) -> ClientKey {
    ClientKey::V4([192, 0, 2, number])
}

/// Room for ten connections of 10,000 bytes.
fn shares() -> Shares {
    Shares::new(10 * (10_000 + SHARE_ENTRY_BYTES))
}

#[test]
fn the_client_that_holds_most_loses_its_longest_stalled_connection() {
    let mut shares = shares();
    for slot in 0..7 {
        shares.hold(slot, client(1), 10_000, 0);
    }
    for slot in 7..10 {
        shares.hold(slot, client(2), 10_000, 0);
    }
    assert!(!shares.has_room_for(10_000) && shares.has_room_for(SMALL));
    shares.note_progress(0, 1);
    for other in [2, 3] {
        assert_eq!(shares.first_to_end(client(other), 10_000, 1), Some(1));
    }
    // The client would hold more than any other.
    assert_eq!(shares.first_to_end(client(2), 50_000, 1), None);
    shares.release(1);
    assert!(shares.has_room_for(10_000));
}

#[test]
fn a_client_that_holds_most_is_refused_until_a_connection_of_it_has_stalled() {
    let mut shares = shares();
    for slot in 0..10 {
        shares.hold(slot, client(1), 10_000, 0);
    }
    let stalled_ms = SHARE_STALLED_MS_MIN;
    assert_eq!(shares.first_to_end(client(1), 10_000, stalled_ms - 1), None);
    assert_eq!(shares.first_to_end(client(1), 10_000, stalled_ms), Some(0));
    for slot in 0..10 {
        shares.note_progress(slot, stalled_ms);
    }
    assert_eq!(shares.first_to_end(client(1), 10_000, stalled_ms + 1), None);
}

#[test]
fn clients_with_equal_shares_do_not_end_each_others_connections() {
    let mut shares = shares();
    for slot in 0..10 {
        shares.hold(slot, client(slot as u8), 10_000, 0);
    }
    assert_eq!(shares.first_to_end(client(10), 10_000, u64::MAX), None);
    // A client that would hold less ends one of theirs.
    assert!(shares.first_to_end(client(10), 9_000, 0).is_some());
}

#[test]
fn small_holdings_are_not_in_the_table() {
    let mut shares = shares();
    shares.hold(1, client(1), SMALL, 0);
    assert_eq!((shares.connections(), shares.bytes), (0, 0));
    shares.hold(1, client(1), SMALL + 1, 0);
    shares.resize(1, SMALL);
    assert_eq!((shares.connections(), shares.bytes), (0, 0));
    assert!(shares.clients.is_empty() && shares.ranking.is_empty() && shares.stalls.is_empty());
}

/// A plain list with the same rules. An entry has a slot, a client, its bytes and the time of its
/// progress. The longest stalled is first.
#[derive(Default)]
struct Model(Vec<(u32, ClientKey, usize, u64)>);

impl Model {
    fn held(&self, client: ClientKey) -> usize {
        let own = self.0.iter().filter(|hold| hold.1 == client);
        own.map(|hold| hold.2 + SHARE_ENTRY_BYTES).sum()
    }

    fn first_of(&self, client: ClientKey) -> Option<(u32, u64)> {
        let hold = self.0.iter().find(|hold| hold.1 == client)?;
        Some((hold.0, hold.3))
    }

    fn remove(&mut self, slot: u32) -> Option<(u32, ClientKey, usize, u64)> {
        let index = self.0.iter().position(|hold| hold.0 == slot)?;
        Some(self.0.remove(index))
    }
}

#[test]
fn the_table_agrees_with_a_linear_search_after_random_changes() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let mut shares = shares();
        let mut model = Model::default();
        for now_ms in 0..300 {
            let slot = rng.u32(..20);
            let bytes = rng.usize(..3 * SMALL);
            match rng.u8(..4) {
                0 | 1 => {
                    let of = client(rng.u8(..5));
                    shares.hold(slot, of, bytes, now_ms);
                    model.remove(slot);
                    if bytes > SMALL {
                        model.0.push((slot, of, bytes, now_ms));
                    }
                }
                2 => {
                    shares.note_progress(slot, now_ms);
                    if let Some(hold) = model.remove(slot) {
                        model.0.push((hold.0, hold.1, hold.2, now_ms));
                    }
                }
                _ => {
                    shares.resize(slot, bytes);
                    if let Some(hold) = model.0.iter_mut().find(|hold| hold.0 == slot) {
                        hold.2 = bytes;
                    }
                    model.0.retain(|hold| hold.2 > SMALL);
                }
            }
            assert_eq!(shares.connections(), model.0.len());
            let total: usize = (0..5).map(|number| model.held(client(number))).sum();
            assert_eq!(shares.bytes, total);
            let asking = client(rng.u8(..6));
            let own = model.held(asking) + bytes + SHARE_ENTRY_BYTES;
            let others = (0..5).map(client).filter(|other| *other != asking);
            let most = others.clone().map(|other| model.held(other)).max().unwrap();
            match shares.first_to_end(asking, bytes, now_ms) {
                Some(slot) if most > own => {
                    let mut firsts = others
                        .filter(|other| model.held(*other) == most)
                        .filter_map(|other| model.first_of(other));
                    assert!(firsts.any(|first| first.0 as usize == slot));
                }
                Some(slot) => {
                    let (first, progress_ms) = model.first_of(asking).unwrap();
                    assert_eq!(first as usize, slot);
                    assert!(now_ms >= progress_ms + SHARE_STALLED_MS_MIN);
                }
                None => assert!(most <= own),
            }
        }
    }
}
