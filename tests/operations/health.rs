//! `hookcast health` as the health check of a container: in the server's environment.

use std::net::TcpListener;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::Setup;

fn health(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .arg("health")
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn assert_health(output: &Output, expected: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(expected), "{output:?}");
    assert!(text.contains(words), "{output:?}");
    assert_eq!(text.lines().count(), 1, "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_server_is_healthy_until_it_ends() {
    let setup = Setup::new(&["--admin", "127.0.0.1:0", "--drain", "0s"]);
    let mut server = setup.start();
    let admin = server.wait_for_log("metrics and health")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let address = server.address.to_string();
    // On all interfaces, as in a container. The check needs no secret.
    let everywhere = format!("0.0.0.0:{}", server.address.port());
    let by_listen = [("HOOKCAST_LISTEN", everywhere.as_str())];
    let by_admin = [("HOOKCAST_ADMIN", admin.as_str())];
    let url = format!("http://{address}");
    assert_health(&health(&[], &by_listen), 0, &format!("{url}/api/webhook"));
    assert_health(&health(&[], &by_admin), 0, &format!("{admin}/readyz"));
    assert_health(&health(&[&url], &[]), 0, "answers");
    server.signal(Signal::TERM);
    server.wait();
    for variables in [by_listen, by_admin] {
        assert_health(&health(&[], &variables), 1, "FAILED");
    }
}

/// A server that accepts connections and sends no answer.
#[test]
fn a_server_that_hangs_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    assert_health(&health(&[&url], &[]), 1, "FAILED");
}
