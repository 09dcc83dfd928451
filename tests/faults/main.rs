//! What the kernel, the disk, the clock and hostile clients can do to the running server.
//!
//! `strace` makes system calls fail in the real process, while it runs or from its start;
//! `libfaketime` sets its clock; a small tmpfs is a full disk, `bindfs` one without memory maps;
//! `slowhttptest` judges the server's patience. In each case the server lives (or says in one line why it does not start), goes on
//! serving those it can, does not spin, and recovers when the fault ends.
//!
//! `tests/run faults` installs the tools and runs this. Nothing here depends on how fast it is.

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
