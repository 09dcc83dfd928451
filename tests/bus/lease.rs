//! KV beside the bus: the node that mirrors, by a lease of the engine.

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::support::kv::Kv;

/// A call to KV may last longer than the lease (`--kv-timeout`). The node that has lost the lease must not go on with
/// what it has read, or write over what the next one has written.
#[test]
fn a_call_to_kv_ends_before_the_lease_does() {
    let engine = Engine::start(Persistence::None);
    let kv = Kv::start();
    let mut cluster = Cluster::empty(engine.address);
    let flags = [
        "--kv-timeout",
        "60s",
        "--kv-poll",
        "1s",
        "--kv-write-interval",
        "1s",
    ];
    for nth in 0..2 {
        let proxy = crate::proxy::Proxy::to(engine.address);
        let url = format!("redis://{}/{}", proxy.address, crate::cluster::NAME);
        let flags = [&["--bus", &url], &flags[..]].concat();
        cluster.launch_on(proxy, &flags, |setup| kv.configured(setup));
        cluster.node(nth).wait_until_ready();
    }
    cluster.publish(0, "shared");
    kv.wait_until("a write", |state| {
        Kv::contents(state).contains(&"shared".to_owned())
    });
    kv.hang(1);
    kv.wait_until("a hanging call", |state| state.hanging > 0);
    // It ends by itself, or another node calls KV meanwhile.
    let calls = kv.lock().calls;
    kv.wait_until("the end", |state| state.hanging == 0 || state.calls > calls);
    let state = kv.lock();
    assert_eq!(
        state.hanging, 0,
        "another node mirrors while the call hangs"
    );
    drop(state);
    cluster.publish(1, "shared later");
    kv.wait_until("a later write", |state| {
        Kv::contents(state).contains(&"shared later".to_owned())
    });
}
