//! Tokens: reads the files of their keys.
//!
//! Called by `server` at the start, and by `control` on SIGHUP. Never verifies a token: `http` does.

use std::sync::Arc;

use super::in_use;
use crate::config::{Config, TokenConfig};
use crate::control::ReloadTokenKeys;
use crate::net::handle::ShardHandle;
use crate::tokens::{KeyFileError, LoadedKeys, TokenKeys};

/// Reads the files, if the configuration names some.
pub(super) fn load(config: &Config) -> Result<Option<LoadedKeys>, KeyFileError> {
    config.tokens.as_ref().map(read).transpose()
}

fn read(config: &TokenConfig) -> Result<LoadedKeys, KeyFileError> {
    TokenKeys::load(&config.key_files, config.audience.as_deref())
}

/// What SIGHUP does: reads the files again, and returns once all shards use their keys.
pub(super) fn reloader(config: &TokenConfig, shards: Vec<ShardHandle>) -> ReloadTokenKeys {
    let config = config.clone();
    Box::new(move || {
        let LoadedKeys { keys, notes } = read(&config).map_err(|error| error.to_string())?;
        for note in notes {
            tracing::warn!("{note}");
        }
        let count = keys.count();
        let keys = Arc::new(keys);
        in_use::by_all(&shards, |shard, in_use| {
            shard.use_token_keys(Arc::clone(&keys), in_use);
        });
        Ok(count)
    })
}
