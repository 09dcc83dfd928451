//! Power failures: each page, or each sector, is on disk in some version since the last sync,
//! independently of the others.
//!
//! A random sequence of opens, appends, commits, closes and rewrites runs on a disk in memory and is
//! cut off. From the last sync and the writes since, many images are made that the kernel and the disk
//! could leave. Each is recovered. `POWER_IMAGES` sets their number, `SEED` the random seed.

use std::collections::HashMap;

use super::super::layout::PAGE_BYTES;
use super::super::{Epoch, Found, Medium, Recovered, Ring};
use super::{CONTENT_BYTES_MAX, disk_with, last_100, message, nth, numbers};
use crate::limits::HISTORY_MESSAGES;
use crate::testkit::{MemoryMedium, SECTOR_BYTES, Write};

const IMAGES_DEFAULT: usize = 10_000;

/// More epochs than one sequence draws.
const EPOCHS_BEFORE: u64 = 100;

/// Images per cut. They share the writes, and differ in which of them are on disk.
const IMAGES_PER_CUT: usize = 20;

/// A ring on its disk, and the messages that it should hold.
struct Life {
    random: fastrand::Rng,
    medium: MemoryMedium,
    ring: Ring,
    bytes_max: usize,
    unsynced_max: usize,
    /// The length of each message.
    lengths: HashMap<u64, usize>,
    appended: u64,
    synced: u64,
}

fn open(medium: &MemoryMedium, bytes_max: usize, unsynced_max: usize) -> (Ring, Recovered) {
    Ring::open_with(Box::new(medium.clone()), bytes_max, unsynced_max).unwrap()
}

impl Life {
    fn begin(seed: u64) -> Life {
        let mut random = fastrand::Rng::with_seed(seed);
        // Slots of one, two and three pages.
        let bytes_max = *random.choice(&[4000, 8000, 12_000]).unwrap();
        let unsynced_max = *random.choice(&[1, 1, 7, 128]).unwrap();
        let medium = MemoryMedium::default();
        let (ring, _) = open(&medium, bytes_max, unsynced_max);
        let mut life = Life {
            random,
            medium,
            ring,
            bytes_max,
            unsynced_max,
            lengths: HashMap::new(),
            appended: 0,
            synced: 0,
        };
        let before = *life.random.choice(&[0, 3, 99, 150, 260]).unwrap();
        life.append(before);
        life.sync();
        for _ in 0..life.random.usize(0..4) {
            life.take_step();
        }
        life.finish();
        life
    }

    fn append(&mut self, messages: u64) {
        for _ in 0..messages {
            self.appended += 1;
            let bytes = match self.random.u8(..8) {
                0 => self.bytes_max - 16,
                1 => self.random.usize(1..self.bytes_max - 16),
                _ => self.random.usize(1..700),
            };
            self.lengths.insert(self.appended, bytes);
            self.ring.append(&message(self.appended, bytes)).unwrap();
        }
    }

    fn sync(&mut self) {
        self.ring.commit().unwrap();
        self.synced = self.appended;
    }

    /// One random operation before the cut.
    fn take_step(&mut self) {
        match self.random.u8(..5) {
            0 => {
                let messages = self.random.u64(..150);
                self.append(messages);
            }
            1 => self.sync(),
            2 => {
                self.ring.sync().unwrap();
                self.synced = self.appended;
            }
            // A kill and a start.
            3 => {
                let epoch = self.ring.epoch();
                self.ring = open(&self.medium, self.bytes_max, self.unsynced_max).0;
                assert_eq!(self.ring.epoch(), epoch);
                self.synced = self.appended;
            }
            // Another program deletes the file.
            _ => {
                self.medium.remove();
                let history = last_100(self.appended).into_iter();
                let history = history.map(|nth| message(nth, self.lengths[&nth]));
                let history = history.collect::<Vec<_>>();
                self.ring.repair(&history).unwrap();
                self.synced = self.appended;
            }
        }
    }

    /// The last appends before the cut. Mostly they fit into one commit, so that all synced messages
    /// must survive.
    fn finish(&mut self) {
        let messages = match self.random.u8(..4) {
            0 => self.random.u64(..300),
            _ => self
                .random
                .u64(..=self.unsynced_max as u64)
                .saturating_sub(self.appended - self.synced),
        };
        self.append(messages);
        if self.random.u8(..8) == 0 {
            // The power fails during the close.
            self.medium.fail_in(self.random.u64(..4));
            if self.ring.sync().is_ok() {
                self.synced = self.appended;
            }
            self.medium.heal();
        }
    }

    /// An image that a power failure may leave now.
    fn torn_image(&mut self) -> Vec<u8> {
        let writes = self.medium.unsynced();
        let unit = *self.random.choice(&[PAGE_BYTES, SECTOR_BYTES]).unwrap() / SECTOR_BYTES;
        let random = &mut self.random;
        // In two of three images most sectors are new, or most are old. With random ages alone, few
        // slots would be whole.
        let bias = random.u8(..3);
        let age = |random: &mut fastrand::Rng, writes: usize| match (bias, random.u8(..8)) {
            (1, 1..) => writes,
            (2, 1..) => 0,
            _ => random.usize(..=writes),
        };
        let mut moments = Vec::new();
        let image = self.medium.image_without_power(|sector, writes| {
            if sector.is_multiple_of(unit) {
                moments.push(age(random, writes));
            }
            moments[sector / unit]
        });
        tear_one_write(image, &writes, &moments, unit * SECTOR_BYTES, random)
    }

    /// Checks a start on an image that a power failure has left.
    fn check(&mut self, image: &[u8], epoch: Epoch) -> Outcome {
        let mut medium = MemoryMedium::default();
        medium.lose_power_to(image.to_vec());
        // Epochs are drawn from a counter: skip those that the sequence has drawn.
        while medium.random().unwrap() < EPOCHS_BEFORE {}
        let (ring, recovered) = open(&medium, self.bytes_max, self.unsynced_max);
        let found = self.numbers(&recovered);
        assert!(found.len() <= HISTORY_MESSAGES);
        assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
        assert!(found.last().is_none_or(|newest| *newest <= self.appended));
        let unsynced = self.appended - self.synced;
        let kept_back_to = if unsynced <= self.ring.unsynced_max() as u64 {
            self.synced
        } else {
            self.appended
        };
        for nth in last_100(kept_back_to) {
            // Newer messages on disk may have pushed this one out of the last 100.
            let is_pushed_out = found.len() == HISTORY_MESSAGES && nth < found[0];
            let is_there = nth > self.synced || is_pushed_out || found.contains(&nth);
            assert!(is_there, "{nth} was on disk: {found:?}");
        }
        if found.last().copied().unwrap_or(0) < self.appended {
            let continues_epoch = ring.epoch() == epoch;
            assert!(
                !continues_epoch,
                "seqs are given out twice: {}",
                recovered.report
            );
        }
        let outcome = Outcome::of(&recovered.report.found);

        // The recovered ring is intact, and stays so after a second failure.
        let (mut again, second) = open(&medium, self.bytes_max, self.unsynced_max);
        assert!(matches!(second.report.found, Found::Intact));
        assert_eq!(second.messages, recovered.messages);
        assert_eq!(again.epoch(), ring.epoch());
        let seq = again.append(&message(1_000_000, 40)).unwrap();
        assert_eq!(
            seq,
            recovered.messages.last().map_or(seq, |last| last.0 + 1)
        );
        let after_kill = open(&medium, self.bytes_max, self.unsynced_max).1;
        assert_eq!(after_kill.messages.last().unwrap().0, seq);
        assert_eq!(after_kill.messages.len(), (found.len() + 1).min(100));
        outcome
    }

    /// The numbers of the messages, after checking every byte of each.
    fn numbers(&self, recovered: &Recovered) -> Vec<u64> {
        let number = |(_, found): &(u64, crate::message::Message)| {
            let nth = nth(found);
            assert_eq!(Some(&found.content.len()), self.lengths.get(&nth));
            nth
        };
        recovered.messages.iter().map(number).collect()
    }
}

/// Tears one write, as if its page were written back in the middle of the copy. One random unit of
/// the image gets a part of the first write that it lacks.
fn tear_one_write(
    mut image: Vec<u8>,
    writes: &[Write],
    moments: &[usize],
    unit_bytes: usize,
    random: &mut fastrand::Rng,
) -> Vec<u8> {
    let unit = random.usize(..moments.len());
    let Some(write) = writes.get(moments[unit]).filter(|write| !write.is_word) else {
        return image;
    };
    for (at, byte) in (write.offset..).zip(&write.bytes) {
        // A copy writes words in any order.
        if at / unit_bytes == unit && (at / 8).wrapping_mul(0x9E37_79B9) & 0x100 == 0 {
            image[at] = *byte;
        }
    }
    image
}

/// The kinds of outcome. A run must meet each of them, except an empty ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Intact,
    Rebooted,
    Damaged,
    Nothing,
}

impl Outcome {
    fn of(found: &Found) -> Outcome {
        match found {
            Found::Intact => Outcome::Intact,
            Found::Rebooted => Outcome::Rebooted,
            Found::Damaged(_) => Outcome::Damaged,
            Found::Nothing => Outcome::Nothing,
            Found::Grown => panic!("the file had the wanted size"),
        }
    }
}

fn images_and_seed() -> (usize, u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let images = number("POWER_IMAGES").map_or(IMAGES_DEFAULT, |images: u64| images as usize);
    (images, number("SEED").unwrap_or_else(|| fastrand::u64(..)))
}

#[test]
fn every_image_that_a_power_failure_can_leave_is_recovered() {
    let (images, seed) = images_and_seed();
    println!("{images} images; SEED={seed} makes the same ones");
    let mut outcomes: HashMap<Outcome, usize> = HashMap::new();
    for cut in 0..images.div_ceil(IMAGES_PER_CUT) {
        let cut_seed = seed.wrapping_add(cut as u64);
        let mut life = Life::begin(cut_seed);
        let epoch = life.ring.epoch();
        for nth in 0..IMAGES_PER_CUT {
            let image = life.torn_image();
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                life.check(&image, epoch)
            }));
            match checked {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(panic) => {
                    println!("image {nth} of the cut with SEED={cut_seed} POWER_IMAGES=1");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    println!("{outcomes:?}");
    if images >= 1000 {
        for outcome in [Outcome::Intact, Outcome::Rebooted, Outcome::Damaged] {
            assert!(outcomes.contains_key(&outcome), "never {outcome:?}");
        }
    }
}

/// A file whose creation a power failure has interrupted: each piece is written or zero, and the file
/// may be shorter.
fn half_made(whole: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let pages = whole.chunks(SECTOR_BYTES * random.usize(1..=8));
    let mut half: Vec<u8> = pages
        .flat_map(|page| {
            if random.bool() {
                page.to_vec()
            } else {
                vec![0; page.len()]
            }
        })
        .collect();
    if random.u8(..4) == 0 {
        half.truncate(random.usize(..half.len()));
    }
    half
}

/// The incomplete file is beside the path, where it was to replace the old ring. On a file system that
/// does not order data before renames it is at the path.
#[test]
fn an_incomplete_new_file_costs_no_other_message() {
    let seed = images_and_seed().1;
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    for case in 0..200 {
        let path = directory.path().join(format!("{case}.ring"));
        let open = || Ring::open(&path, CONTENT_BYTES_MAX).unwrap();
        let before = *random.choice(&[0, 1, 120]).unwrap();
        let (medium, _) = disk_with(before);
        let half = half_made(&medium.image(), &mut random);
        let expected = match random.u8(..3) {
            0 => {
                std::fs::write(path.with_extension("ring.new"), &half).unwrap();
                Vec::new()
            }
            1 => {
                let (mut ring, _) = open();
                for nth in 1..=before {
                    ring.append(&message(nth, 40)).unwrap();
                }
                ring.sync().unwrap();
                drop(ring);
                std::fs::write(path.with_extension("ring.new"), &half).unwrap();
                last_100(before)
            }
            _ => {
                std::fs::write(&path, &half).unwrap();
                let (_, recovered) = open();
                let found = numbers(&recovered);
                assert!(found.iter().all(|nth| *nth <= before), "{found:?}");
                found
            }
        };
        let (mut ring, recovered) = open();
        assert_eq!(numbers(&recovered), expected, "case {case}");
        assert!(!path.with_extension("ring.new").exists());
        ring.append(&message(500, 40)).unwrap();
        drop(ring);
        let (_, recovered) = open();
        assert!(matches!(recovered.report.found, Found::Intact));
        assert_eq!(recovered.messages.len(), (expected.len() + 1).min(100));
        std::fs::remove_file(&path).unwrap();
    }
}
