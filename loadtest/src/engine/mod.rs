//! One measurement: opens streams, publishes messages, checks every message on every stream.
//!
//! `measurement` runs a `load` against a `target` and makes an `outcome`: `streams` reads on one thread,
//! `publisher` writes on another. With several processes, `reading` starts and merges what `streams` reads in each.
//! Without I/O: `protocol` and its `template`s, `payload`, `check`,
//! `schedule`, `latency`, and `scanner` with `event`, `observed` and `recent`. Used by `runs`. Never starts a server.

pub mod answer;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod ending;
pub mod epoll;
pub mod event;
pub mod gzip;
pub mod latency;
pub mod load;
pub mod machine;
pub mod measurement;
pub mod number_set;
pub mod observed;
pub mod outcome;
pub mod patience;
pub mod payload;
pub mod proc_stats;
pub mod progress;
pub mod protocol;
pub mod publisher;
pub mod reading;
pub mod recent;
pub mod record;
pub mod replay;
pub mod scanner;
pub mod schedule;
pub mod stream;
pub mod streams;
pub mod streams_outcome;
pub mod target;
pub mod template;
pub mod tls;
pub mod tokens;
pub mod window;
