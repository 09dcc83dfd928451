//! Sources of a text, for shards without a server.

use std::path::Path;
use std::sync::Arc;

use crate::shard::judging::SourceTable;
use crate::sources::Sources;

/// Two sources, as a shard needs them: `small` takes bodies of 2 KiB, `large` of 128 KiB. Both verify nothing.
pub fn source_table() -> Arc<SourceTable> {
    source_table_of("128KiB")
}

/// The same with another bound of the bodies of `large`.
pub fn source_table_of(large: &str) -> Arc<SourceTable> {
    let table = |name: &str, max_body: &str| {
        format!("[{name}]\npreset = \"alertmanager\"\nverify = false\nmax_body = \"{max_body}\"\n")
    };
    let text = table("small", "2KiB") + &table("large", large);
    match Sources::parse(&text, Path::new("sources.toml"), 4000) {
        Ok(loaded) => Arc::new(SourceTable::new(Arc::new(loaded.sources))),
        Err(error) => panic!("{error}"),
    }
}
