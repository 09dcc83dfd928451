//! Servers of which the program knows nothing but its flags: a small one of this test, with its own protocol, that
//! loses, repeats and disorders messages on command. The checks notice each.

#[path = "../schema/mod.rs"]
mod schema;
mod server;

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use server::{Fault, KEY, Server};

/// Exit codes, as `hookcast-load --help` lists them.
const EXIT_FAILED: i32 = 1;
const EXIT_WRONG: i32 = 2;
const EXIT_UNCLEAN: i32 = 3;
const EXIT_THRESHOLD: i32 = 6;
const EXIT_CUT_OFF: i32 = 130;

const STREAMS: u64 = 8;

fn load(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast-load"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Runs 25 messages to all streams of servers.
fn run(servers: &[&Server], more: &str) -> (Value, i32) {
    let mut arguments =
        words("run --yes --json --rate 50 --warmup 100ms --duration 400ms --message-bytes 200");
    arguments.extend(["--streams".into(), STREAMS.to_string()]);
    for (at, server) in servers.iter().enumerate() {
        let flags = server.flags();
        // What describes all servers is given once.
        arguments.extend(if at == 0 { flags } else { flags[..4].to_vec() });
    }
    arguments.extend(words(more));
    result(&load(&arguments).output().unwrap())
}

fn watch(server: &Server, more: &str) -> (Value, i32) {
    let address = server.address;
    let mut arguments = words("watch --json --warmup 200ms --duration 800ms --time-in /pub/at");
    arguments.extend(["--streams".into(), STREAMS.to_string()]);
    arguments.extend(words(&format!(
        "--stream-url http://{address}/events/x {more}"
    )));
    result(&load(&arguments).output().unwrap())
}

/// The report, which keeps to its schema, and the exit status.
fn result(output: &Output) -> (Value, i32) {
    let error = String::from_utf8_lossy(&output.stderr);
    let shown = format!("{error}{}", String::from_utf8_lossy(&output.stdout));
    assert!(!shown.contains("top-secret"), "{shown}");
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    schema::assert_holds(&json);
    assert!(
        error.is_empty() || error.contains("streams open"),
        "quiet without a terminal: {error}"
    );
    (json, output.status.code().unwrap_or(-1))
}

fn count(json: &Value, path: &str) -> u64 {
    let value = json.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} in {json:#}"))
}

/// The faults of a report: missing, duplicate, out of order.
fn faults(json: &Value) -> [u64; 3] {
    ["/missing", "/duplicate", "/out_of_order"].map(|path| count(json, path))
}

#[test]
fn flags_alone_describe_a_server() {
    let server = Server::start(Fault::None);
    let (json, status) = run(&[&server], "");
    assert_eq!((faults(&json), status), ([0; 3], 0), "{json:#}");
    assert_eq!(count(&json, "/messages"), 25);
    assert_eq!(count(&json, "/acked"), 25);
    assert_eq!(count(&json, "/deliveries"), 25 * STREAMS);
    assert!(
        count(&json, "/delivery/p50_us") < 60_000_000,
        "the clock of {{time}}"
    );
    let state = server.state();
    let sessions = (0..STREAMS).filter(|at| {
        let request = format!("GET /events/session-{at:08x} ");
        state.requests.iter().any(|head| head.starts_with(&request))
    });
    assert_eq!(
        sessions.count() as u64,
        STREAMS,
        "a session of its own for each stream"
    );
}

#[test]
fn every_fault_of_a_server_is_noticed() {
    for (fault, expected) in [
        (Fault::Lose, [1, 0, 0]),
        (Fault::LoseAll, [25, 0, 0]),
        (Fault::Repeat, [0, 1, 0]),
        (Fault::Disorder, [0, 0, 1]),
        (Fault::Drop, [STREAMS, 0, 0]),
    ] {
        let (json, status) = run(&[&Server::start(fault)], "");
        assert_eq!(
            (faults(&json), status),
            (expected, EXIT_UNCLEAN),
            "{fault:?}"
        );
    }
    let (json, status) = run(&[&Server::start(Fault::Change)], "");
    assert_eq!(
        count(&json, "/errors/a message arrived with changed bytes"),
        1
    );
    assert_eq!(status, EXIT_UNCLEAN);
    let (json, status) = run(&[&Server::start(Fault::None)], "--message-in {time},{id}");
    assert_eq!(
        (faults(&json), status),
        ([25 * STREAMS, 0, 0], EXIT_UNCLEAN)
    );
    assert!(
        json["notes"].to_string().contains("--message-in"),
        "{json:#}"
    );
    let (json, status) = run(&[&Server::start(Fault::Refuse)], "");
    assert_eq!(count(&json, "/errors/a message was answered with 403"), 25);
    assert_eq!((faults(&json), status), ([0; 3], EXIT_UNCLEAN));
}

/// Arguments are visible to all users of a machine.
#[test]
fn headers_from_a_file_are_in_no_argument() {
    let server = Server::start(Fault::None);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\nX-Other: 1\n")).unwrap();
    let mut arguments = words("run --yes --json --rate 50 --warmup 1ms --duration 60s --streams 2");
    let flags = server.flags().into_iter();
    let named = format!("@{}", file.path().display());
    arguments.extend(flags.map(|flag| if flag == KEY { named.clone() } else { flag }));
    arguments.extend(words("--processes 2"));
    let run = start(&arguments);
    while server.state().messages < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", run.id())).unwrap();
    let children: Vec<String> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| words(&children))
        .collect();
    assert_eq!(children.len(), 2, "two reading processes");
    for pid in children.iter().chain([&run.id().to_string()]) {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&arguments).contains("top-secret"));
    }
    interrupt(&run);
    let output = run.wait_with_output().unwrap();
    assert_eq!(faults(&result(&output).0), [0; 3]);
}

#[test]
fn thresholds_decide_what_fails() {
    let server = Server::start(Fault::Lose);
    let status = |more: &str| run(&[&server], more).1;
    assert_eq!(
        status("--fail-if lost>30"),
        0,
        "a named fault is judged by its threshold"
    );
    let server = Server::start(Fault::None);
    let (json, status) = run(&[&server], "--fail-if max<1us --fail-if p99>0us");
    assert_eq!(status, EXIT_THRESHOLD);
    let crossed = |at: usize| json["thresholds"][at]["crossed"].as_bool().unwrap();
    assert_eq!([crossed(0), crossed(1)], [false, true]);
    assert_eq!(
        json["thresholds"][1]["value"],
        json["delivery"]["p99_us"].as_f64().unwrap()
    );
}

#[test]
fn wrong_flags_and_unreachable_servers_have_their_own_status() {
    let status = |arguments: &[String]| {
        let output = load(arguments).output().unwrap();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(status(&words("run --fail-if p99>50")).0, EXIT_WRONG);
    let (code, error) = status(&words("run --streams 1 --stream-url http://127.0.0.1:1/x"));
    assert_eq!(code, EXIT_WRONG, "{error}");
    let (code, error) = status(&words("watch --time-in /at"));
    assert_eq!(code, EXIT_WRONG, "{error}");
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, error) = status(&words(&format!(
        "watch --url http://{free} --time-in /pub/at"
    )));
    assert_eq!(code, EXIT_FAILED, "{error}");
}

#[test]
fn messages_of_another_publisher_are_checked_by_their_own_fields() {
    for id in ["", "--id-in /pub/n", "--number-in /pub/n"] {
        let server = Server::start(Fault::None);
        server.publish_by_itself(Duration::ZERO);
        let (json, status) = watch(&server, id);
        assert_eq!((faults(&json), status), ([0; 3], 0), "{id} {json:#}");
        let messages = count(&json, "/observed/messages");
        assert!(messages > 20, "{messages}");
        assert!(count(&json, "/delivery/count") > 10 * STREAMS);
        assert!(count(&json, "/delivery/max_us") < 60_000_000);
        assert!(count(&json, "/observed/earliest_us") < 60_000_000);
        assert!(json["rate"].is_null());
    }
}

#[test]
fn faults_of_another_publishers_server_are_noticed() {
    for (fault, at) in [
        (Fault::Lose, 0),
        (Fault::LoseAll, 0),
        (Fault::Repeat, 1),
        (Fault::Disorder, 2),
    ] {
        for id in ["--id-in /pub/n", "--number-in /pub/n"] {
            let server = Server::start(fault);
            server.publish_by_itself(Duration::ZERO);
            let (json, status) = watch(&server, id);
            let found = faults(&json);
            assert!(
                found[at] > 0 && status == EXIT_UNCLEAN,
                "{fault:?} {id} {json:#}"
            );
            assert_eq!(
                found.iter().sum::<u64>(),
                found[at],
                "{fault:?} {id} {found:?}"
            );
        }
    }
    // A loss on all streams shows only in the publisher's numbers.
    for (id, is_noticed) in [("--id-in /pub/n", false), ("--number-in /pub/n", true)] {
        let server = Server::start(Fault::Drop);
        server.publish_by_itself(Duration::ZERO);
        assert_eq!(faults(&watch(&server, id).0)[0] > 0, is_noticed, "{id}");
    }
}

#[test]
fn a_publishers_clock_is_reported_and_a_wrong_pointer_fails() {
    let server = Server::start(Fault::None);
    server.publish_by_itself(Duration::from_secs(3_600));
    let (json, status) = watch(&server, "");
    assert_eq!(status, 0);
    let earliest_us = json["observed"]["earliest_us"].as_i64().unwrap();
    assert!(
        (-3_600_000_000..-3_500_000_000).contains(&earliest_us),
        "{earliest_us}"
    );
    assert!(
        json["notes"].to_string().contains("clock is ahead"),
        "{json:#}"
    );
    let (json, status) = watch(&server, "--id-in /nothing");
    assert_eq!(status, EXIT_UNCLEAN);
    assert!(
        json["errors"].to_string().contains("no event had"),
        "{json:#}"
    );
}

#[test]
fn several_processes_report_as_one_and_each_apart() {
    let servers = [Server::start(Fault::None), Server::start(Fault::Lose)];
    let (json, status) = run(&[&servers[0], &servers[1]], "--processes 4");
    assert_eq!(
        (faults(&json), status),
        ([1, 0, 0], EXIT_UNCLEAN),
        "{json:#}"
    );
    assert_eq!(count(&json, "/messages"), 25);
    assert_eq!(
        count(&json, "/acked"),
        50,
        "each message is posted to each server"
    );
    assert_eq!(count(&json, "/deliveries"), 25 * STREAMS - 1);
    assert_eq!(count(&json, "/open/count"), STREAMS);
    let processes = json["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4);
    let sum = |field: &str| {
        processes
            .iter()
            .map(|one| one[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum("deliveries"), count(&json, "/deliveries"));
    assert_eq!(
        (sum("streams"), sum("opened"), sum("missing")),
        (STREAMS, STREAMS, 1)
    );
    for process in processes.iter().filter(|one| one["missing"] == 1) {
        assert_eq!(process["server"], servers[1].address.to_string());
    }
    let max_us = processes
        .iter()
        .filter_map(|one| one["max_us"].as_u64())
        .max();
    assert_eq!(max_us, json["delivery"]["max_us"].as_u64());
    for server in &servers {
        let heads = server.state().requests.clone();
        let streams = heads.iter().filter(|head| head.starts_with("GET /events/"));
        // One more looked at the server before the run.
        assert_eq!(streams.count() as u64, STREAMS / 2 + 1);
    }
}

fn start(arguments: &[String]) -> Child {
    let mut command = load(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn interrupt(run: &Child) {
    let pid = Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

#[test]
fn a_signal_ends_a_run_of_several_processes_with_its_figures() {
    let server = Server::start(Fault::None);
    let mut arguments = words("run --yes --json --rate 50 --warmup 1ms --duration 60s --streams 4");
    arguments.extend(server.flags());
    arguments.extend(words("--processes 2"));
    let run = start(&arguments);
    while server.state().messages < 20 {
        thread::sleep(Duration::from_millis(5));
    }
    interrupt(&run);
    let output = run.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_holds(&json);
    assert_eq!(output.status.code(), Some(EXIT_CUT_OFF));
    assert_eq!(faults(&json), [0; 3], "{json:#}");
    assert!(count(&json, "/deliveries") >= 4 * 15 && json["cut_off"].is_object());
    assert_eq!(json["processes"].as_array().unwrap().len(), 2);
}

/// `script` (bsdutils, on every Debian) gives a program a terminal.
#[test]
fn a_terminal_shows_rate_latency_and_faults_while_a_run_goes_on() {
    let server = Server::start(Fault::Repeat);
    let quoted = |word: &String| format!("'{word}'");
    let mut arguments =
        words("run --yes --rate 50 --warmup 1ms --duration 2s --streams 4 --message-bytes 200");
    arguments.extend(server.flags());
    arguments.extend(words("--processes 2"));
    let command = std::iter::once(env!("CARGO_BIN_EXE_hookcast-load").to_owned());
    let command: Vec<String> = command.chain(arguments).map(|word| quoted(&word)).collect();
    let output = Command::new("script")
        .args(["-qec", &command.join(" "), "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = |line: &&str| line.contains("/s, p50 ") && line.contains("ms, p99 ");
    let lines: Vec<&str> = text.split('\r').filter(shown).collect();
    assert!(
        lines.iter().any(|line| !line.contains(" 0 faults")),
        "{text}"
    );
    assert!(text.contains("fanout on server"), "{text}");
    assert_eq!(output.status.code(), Some(EXIT_UNCLEAN));
}
