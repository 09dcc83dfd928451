//! Kills the server under load repeatedly, and compares its history with the acknowledged messages. `KILLS`
//! sets the number of kills in each durability mode, `SEED` their times.

use std::collections::HashMap;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Connection, Server};

const KILLS_DEFAULT: usize = 500;
/// After this many kills the next start is killed, too.
const KILLED_STARTS_IN: u8 = 6;
/// Connections that publish in rounds: a round begins on all once the last one has ended on all.
const PUBLISHERS: usize = 4;
/// Pipelined webhooks of each connection in a round.
const PIPELINED: usize = 4;
/// This many of the last rounds, with the interrupted one, are certainly among the last 100 messages.
const ROUNDS_SAFE: usize = 100 / (PUBLISHERS * PIPELINED) - 1;

/// A message as its sender knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    content: String,
    /// Set once it was acknowledged.
    id: Option<String>,
}

/// Sends `rounds` complete rounds, then one that the kill interrupts. Returns the messages of each round, by
/// publisher.
fn publish_and_kill(
    server: &mut Server,
    random: &mut fastrand::Rng,
    round_us: u64,
    next_number: &mut u64,
) -> Vec<Vec<Sent>> {
    let mut connections: Vec<Connection> = (0..PUBLISHERS).map(|_| server.connect()).collect();
    let rounds = random.usize(0..12);
    let mut history = Vec::new();
    for round in 0..=rounds {
        let mut sent = Vec::new();
        for (publisher, connection) in connections.iter_mut().enumerate() {
            let mut requests = Vec::new();
            for _ in 0..PIPELINED {
                let filler = "x".repeat(random.usize(0..3000));
                let content = format!("{publisher} {next_number} {filler}");
                *next_number += 1;
                let body = json!({ "message": content }).to_string();
                requests.extend(
                    format!(
                        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .into_bytes(),
                );
                sent.push(Sent { content, id: None });
            }
            connection.send(&requests);
        }
        let is_last = round == rounds;
        if is_last {
            // Between the arrival of the first webhook and the answer to the last.
            wait_exactly(Duration::from_micros(random.u64(0..round_us)));
            server.kill();
        }
        for (connection, sent) in connections.iter_mut().zip(sent.chunks_mut(PIPELINED)) {
            acknowledge(connection, sent, is_last);
        }
        history.push(sent);
    }
    history
}

/// A sleep is too coarse to hit the middle of a round.
fn wait_exactly(time: Duration) {
    let moment = Instant::now() + time;
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// Starts the server on its ring and kills it, most likely during recovery.
fn kill_a_start(server: &Server, random: &mut fastrand::Rng) {
    let mut child: Child = server.setup().command().spawn().unwrap();
    wait_exactly(Duration::from_micros(random.u64(0..6000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Reads the answers. In an interrupted round they may be missing from some point on.
fn acknowledge(connection: &mut Connection, sent: &mut [Sent], may_end: bool) {
    let answers = if may_end {
        let bytes = connection.read_to_end();
        let text = String::from_utf8(bytes).unwrap();
        text.split("HTTP/1.1 ")
            .skip(1)
            .filter_map(id_in_answer)
            .collect()
    } else {
        let ids = sent.iter().map(|_| {
            connection.read_response().json()["messageId"]
                .as_str()
                .unwrap()
                .to_owned()
        });
        ids.collect::<Vec<String>>()
    };
    for (sent, id) in sent.iter_mut().zip(answers) {
        sent.id = Some(id);
    }
}

/// The message id of a complete answer.
fn id_in_answer(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    assert!(head.starts_with("200 "), "{answer}");
    Some(json["messageId"].as_str().unwrap().to_owned())
}

/// Event id, message id and content of the whole history, oldest first.
fn history(server: &Server) -> Vec<(String, String, String)> {
    let mut stream = server.stream("", "");
    let replay = stream.connected();
    (0..replay)
        .map(|_| {
            let event = stream.next();
            let id = event.json()["id"].as_str().unwrap().to_owned();
            (event.id.clone().unwrap(), id, event.content())
        })
        .collect()
}

#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    kill_again_and_again("process", 400);
}

/// The sync widens the time between an append and its acknowledgement, in which a kill can hit.
#[test]
fn nothing_acknowledged_is_lost_by_kill_while_commits_wait_for_the_disk() {
    kill_again_and_again("disk", 10_000);
}

/// `round_us`: the approximate duration of a round in microseconds.
fn kill_again_and_again(durability: &str, round_us: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let kills = number("KILLS").map_or(KILLS_DEFAULT, |kills: u64| kills as usize);
    println!("seed {seed}; SEED={seed} runs the same rounds");
    let mut random = fastrand::Rng::with_seed(seed);
    let begin = Instant::now();
    let mut server = Server::start(&["--shards", "2", "--durability", durability]);
    let mut number = 0;
    let mut known: Vec<(String, String, String)> = Vec::new();
    let mut killed_rounds_acknowledged = 0;
    let mut killed_starts = 0;
    for kill in 0..kills {
        let rounds = publish_and_kill(&mut server, &mut random, round_us, &mut number);
        if random.u8(..KILLED_STARTS_IN) == 0 {
            kill_a_start(&server, &mut random);
            killed_starts += 1;
        }
        server = server.restart();
        let found = history(&server);
        check(&known, &rounds, &found, &format!("kill {kill}"));
        killed_rounds_acknowledged += rounds
            .last()
            .unwrap()
            .iter()
            .filter(|sent| sent.id.is_some())
            .count();
        known = found;
    }
    let in_killed_rounds = kills * PUBLISHERS * PIPELINED;
    println!(
        "{durability}: {kills} kills and {killed_starts} of starts in {:?}, {number} messages sent, \
         {killed_rounds_acknowledged} of {in_killed_rounds} acknowledged in the killed rounds",
        begin.elapsed(),
    );
    // Without a kill in the middle of a round the test would not test what it claims.
    assert!((1..in_killed_rounds).contains(&killed_rounds_acknowledged) || kills < 100);
}

fn check(
    known: &[(String, String, String)],
    rounds: &[Vec<Sent>],
    found: &[(String, String, String)],
    case: &str,
) {
    // Consecutive seqs, at most a hundred.
    assert!(found.len() <= 100, "{case}: {}", found.len());
    let seq = |event_id: &str| event_id.split_once('-').unwrap().1.parse::<u64>().unwrap();
    for pair in found.windows(2) {
        assert_eq!(seq(&pair[0].0) + 1, seq(&pair[1].0), "{case}");
    }
    // Messages of the old history come first, unchanged, as far as they are among the last hundred.
    let positions: HashMap<&str, usize> = found
        .iter()
        .enumerate()
        .map(|(position, (_, id, _))| (id.as_str(), position))
        .collect();
    assert_eq!(
        positions.len(),
        found.len(),
        "{case}: a message is repeated"
    );
    let still_known = known.iter().position(|entry| Some(entry) == found.first());
    let kept = still_known.map_or(0, |first| known.len() - first);
    assert_eq!(found[..kept], known[known.len() - kept..], "{case}");
    assert!(
        kept > 0 || known.is_empty() || found.len() == 100,
        "{case}: the old history vanished"
    );
    // All later messages were sent since then, and are complete.
    let sent: HashMap<&str, &Sent> = rounds
        .iter()
        .flatten()
        .map(|sent| (sent.content.as_str(), sent))
        .collect();
    for (_, id, content) in &found[kept..] {
        let sent = sent
            .get(content.as_str())
            .unwrap_or_else(|| panic!("{case}: {content:?} was not sent"));
        assert!(
            sent.id.is_none() || sent.id.as_deref() == Some(id),
            "{case}: another id"
        );
    }
    // Every acknowledged message of the last rounds is there, in the order of its publisher.
    let safe = rounds.len().saturating_sub(ROUNDS_SAFE);
    for publisher in 0..PUBLISHERS {
        let own = rounds[safe..]
            .iter()
            .flat_map(|round| &round[publisher * PIPELINED..][..PIPELINED]);
        let mut last = None;
        for sent in own {
            let Some(id) = &sent.id else { continue };
            let position = positions.get(id.as_str());
            assert!(
                position.is_some(),
                "{case}: lost {:?} of {:?}",
                id,
                sent.content.get(..12)
            );
            assert!(position > last, "{case}: out of order");
            last = position;
        }
    }
}
