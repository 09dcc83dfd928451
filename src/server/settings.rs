//! The shards' part of the configuration.
//!
//! Used by `server` at the start. Never checks a value: `config` has done so.

use crate::config::{AllowOrigins, Config};
use crate::http::{Access, AllowOrigin};
use crate::limits::{LOG_BYTES_MIN, held_bytes_max};
use crate::shard::Settings;

pub(super) fn of(config: &Config) -> Settings {
    Settings {
        heartbeat_interval: config.heartbeat_interval,
        keep_alive: config.keep_alive,
        body_bytes_max: config.body_bytes_max,
        held_bytes_max: held_bytes_max(config.shards, config.body_bytes_max),
        drain: config.drain,
        fanout_life: config.fanout_life,
        log_bytes_min: LOG_BYTES_MIN,
        access: access(config),
        allow_origin: match &config.allow_origins {
            AllowOrigins::Any => AllowOrigin::Any,
            AllowOrigins::Exactly(origins) => AllowOrigin::Listed(
                origins
                    .iter()
                    .map(|origin| origin.as_str().into())
                    .collect(),
            ),
        },
    }
}

fn access(config: &Config) -> Access {
    let secret = config.secret.as_ref();
    let access = Access::new(secret.map(|secret| secret.expose().as_bytes()));
    match config.fanout_life {
        Some(_) => access.fanned_out(),
        None => access,
    }
}
