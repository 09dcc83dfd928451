//! The exposition of the metrics, judged by Prometheus's own tool.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hookcast::metrics::{Counter, Endpoint, Gauge, Metrics, Tally, Timing, encode};

/// `tests/run` installs the tool and sets `REQUIRE_TOOLS`, so that there this test cannot pass
/// without it.
#[test]
fn promtool_finds_nothing_to_criticise() {
    let metrics = Metrics::new(Arc::new(AtomicU64::new(0)));
    let mut tally = Tally::new();
    tally.count(Counter::Accepts, 3);
    tally.shift(Gauge::Streams, 2);
    tally.count_request(Endpoint::Webhook, 200);
    tally.count_request(Endpoint::None, 999);
    tally.observe(Timing::Publish, Duration::from_millis(3));
    tally.flush(&metrics);

    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("REQUIRE_TOOLS").is_none() => {
            eprintln!("not checked: promtool (Debian package prometheus) cannot be run: {error}");
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(encode(&metrics.gather()).as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}
