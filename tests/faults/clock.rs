//! The wall clock is set while the server runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::audience::Audience;
use crate::support::Setup;

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Back by an hour, back by years, ahead by years, and right again. Only timestamps follow the clock. Order,
/// heartbeats, deadlines and connections do not change.
#[test]
fn set_back_and_forth() {
    assert!(
        Path::new(FAKETIME).exists(),
        "{FAKETIME} (Debian package libfaketime)"
    );
    let control = tempfile::NamedTempFile::new().unwrap();
    let set = |offset: &str| fs::write(control.path(), offset).unwrap();
    set("+0");
    let setup = Setup::new(&["--shards", "2", "--heartbeat", "100ms"])
        .variable("LD_PRELOAD", FAKETIME)
        .variable("FAKETIME_TIMESTAMP_FILE", control.path().to_str().unwrap())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1");
    let mut server = setup.start();
    let mut audience = Audience::of(&server);
    let mut stream = server.stream("", "");
    let replay = usize::try_from(stream.connected()).unwrap();
    stream.contents(replay);

    for (offset, shift_s) in [
        ("-1h", -3_600_i64),
        ("-10y", -315_360_000),
        ("+3y", 94_608_000),
        ("+0", 0),
    ] {
        set(offset);
        // The answer's date and the message's time follow the clock within a quarter of an hour, far less than
        // any of the steps.
        let answer = server.post(&serde_json::json!({ "message": offset }));
        assert_eq!(answer.status, 200, "{answer:?}");
        audience.published.push(offset.to_owned());
        let expected = unix_s(SystemTime::now()) + shift_s;
        let timestamp_s = answer.json()["timestamp"].as_i64().unwrap() / 1000;
        assert!(
            (timestamp_s - expected).abs() < 900,
            "{offset}: {timestamp_s} instead of {expected}"
        );
        let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
        assert!((unix_s(date) - expected).abs() < 900, "{offset}: {date:?}");

        assert_eq!(stream.next().content(), offset);
        for _ in 0..3 {
            assert!(stream.next_event().unwrap().is_heartbeat());
        }
        audience.skip(offset);
        audience.expect_service();
        for expected in &audience.published[audience.published.len() - 4..] {
            assert_eq!(stream.next().content(), *expected);
        }
    }
    audience.expect_history(&server);
    server.kill();
    audience.expect_history(&server.restart());
}

fn unix_s(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or(Duration::ZERO).as_secs()).unwrap()
}
