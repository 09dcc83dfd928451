//! Faults of the kernel, the disk and the clock, and hostile clients, against a running server.
//!
//! `strace` makes system calls fail in the real process, from its start or later. `libfaketime` sets its
//! clock. A small tmpfs is a full disk, `bindfs` one without memory maps. `slowhttptest` opens slow
//! connections. In each case the server lives, or says in one line why it does not start. It serves all
//! clients that it can, does not spin, and recovers when the fault ends.
//!
//! `tests/run faults` installs the tools and runs this. No result depends on speed.

mod accept;
mod audience;
mod calls;
mod clock;
mod durability;
mod place;
mod ring;
mod slow;
#[path = "../support/mod.rs"]
mod support;
mod tracer;
