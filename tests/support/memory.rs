//! The memory of a server process, as the kernel counts it.

use std::time::Instant;

use super::loopback::unread_bytes;
use super::{PATIENCE, Server};

/// Anonymous memory of the process in bytes: without files and shared pages.
pub fn own_bytes(server: &Server) -> u64 {
    server.proc_status("RssAnon:") * 1024
}

/// The peak memory of the process in bytes, files and shared pages included.
pub fn peak_bytes(server: &Server) -> u64 {
    server.proc_status("VmHWM:") * 1024
}

/// The growth of the process in bytes from before `attack` to the peak during it (proc(5), `clear_refs`: 5
/// resets the peak).
pub fn growth_bytes(server: &Server, attack: impl FnOnce()) -> u64 {
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let before = server.proc_status("VmRSS:") * 1024;
    attack();
    peak_bytes(server).saturating_sub(before)
}

/// Waits until the server has read everything that was sent to a port; returns its peak memory meanwhile.
pub fn wait_for_reads(server: &Server, port: u16) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut most = 0;
    loop {
        let unread = unread_bytes(port);
        most = most.max(own_bytes(server));
        if unread == 0 {
            return most;
        }
        assert!(Instant::now() < deadline, "{unread} bytes are not read");
    }
}
