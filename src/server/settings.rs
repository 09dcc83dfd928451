//! The shards' part of the configuration.
//!
//! Used by `server` at the start. Never checks a value: `config` has done so.

use std::sync::Arc;

use crate::config::{AllowOrigins, Config};
use crate::http::{Access, AllowOrigin};
use crate::limits::{LOG_BYTES_MIN, held_bytes_max};
use crate::shard::Settings;
use crate::shard::guesses::Guesses;
use crate::tokens::TokenKeys;

pub(super) fn of(config: &Config, token_keys: Option<Arc<TokenKeys>>) -> Settings {
    Settings {
        heartbeat_interval: config.heartbeat_interval,
        keep_alive: config.keep_alive,
        body_bytes_max: config.body_bytes_max,
        shards: config.shards,
        held_bytes_max: held_bytes_max(config.shards, config.body_bytes_max),
        drain: config.drain,
        fanout_life: config.fanout_life,
        compress_streams: config.compress_streams,
        log_bytes_min: LOG_BYTES_MIN,
        access: access(config, token_keys),
        guesses: Arc::new(Guesses::new(config.auth_failures_max)),
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

fn access(config: &Config, token_keys: Option<Arc<TokenKeys>>) -> Access {
    let secret = config.secret.as_ref();
    let access = Access::new(secret.map(|secret| secret.expose().as_bytes()));
    let access = match (token_keys, &config.tokens) {
        (Some(keys), Some(tokens)) => access.with_tokens(keys, tokens.is_required),
        _ => access,
    };
    match config.fanout_life {
        Some(_) => access.fanned_out(),
        None => access,
    }
}
