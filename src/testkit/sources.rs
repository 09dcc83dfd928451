//! Sources of a text, and requests to sources, for tests without a server.

use std::path::Path;
use std::sync::Arc;

use crate::http::RequestReader;
use crate::shard::judging::{SourceRequest, SourceTable, Ticket};
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

/// The first request of a shard to the source `name`, with a body of so many bytes.
pub fn source_request(name: &str, body_bytes: usize) -> SourceRequest {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body_bytes}\r\n\r\n");
    let bytes = [head.into_bytes(), vec![b'x'; body_bytes]].concat();
    let mut reader = RequestReader::resume(bytes, body_bytes);
    reader.poll().unwrap();
    SourceRequest {
        ticket: Ticket::FIRST,
        name: name.into(),
        request: reader.take().unwrap(),
    }
}
