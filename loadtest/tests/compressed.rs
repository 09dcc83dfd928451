//! Compressed streams of the real hookcast: fewer bytes, the same messages, and an error where they are not compressed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod hookcast;

/// A short fan-out of long messages; `None` if hookcast is missing.
fn fanout(more: &[&str]) -> Option<Output> {
    let words = "fanout --json --streams 40 --rate 100 --message-bytes 5000 --duration 500ms --warmup 100ms";
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(words.split(' '))
        .arg("--server")
        .arg(hookcast::program()?)
        .args(more)
        .output();
    Some(output.expect("the program of this package starts"))
}

/// Bytes of the streams, after a run without faults.
fn stream_bytes(output: &Output) -> f64 {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["deliveries"], json["deliveries_expected"], "{json:#}");
    json["bytes"].as_f64().unwrap()
}

#[test]
fn compressed_streams_get_the_same_messages_in_a_quarter_of_the_bytes() {
    for tls in [&[][..], &["--tls"]] {
        let Some(plain) = fanout(tls) else { return };
        let gzip = fanout(&[tls, &["--gzip"]].concat()).expect("hookcast was there");
        let ratio = stream_bytes(&gzip) / stream_bytes(&plain);
        assert!(ratio < 0.25, "{tls:?}: {ratio}");
    }
}

#[test]
fn several_processes_read_compressed_streams() {
    let Some(output) = fanout(&["--gzip", "--processes", "2"]) else {
        return;
    };
    stream_bytes(&output);
}

/// The figures of a run with `--gzip` are never those of plain streams.
#[test]
fn a_server_that_does_not_compress_is_an_error() {
    let mut floor = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(["floor", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program of this package starts");
    let mut line = String::new();
    let mut stderr = BufReader::new(floor.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line.pointer("/address").or(line.pointer("/fields/address"));
    let url = format!("http://{}", address.unwrap().as_str().unwrap());
    let words = "run --gzip --yes --streams 2 --duration 100ms --url";
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(words.split(' '))
        .arg(url)
        .output()
        .expect("the program of this package starts");
    floor.kill().unwrap();
    floor.wait().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("the stream is not compressed"), "{text}");
}
