//! eventsource-client: reconnects by itself, unless configured otherwise.

use eventsource_client::{Client as _, ClientBuilder, SSE};
use futures::StreamExt as _;
use hookcast_clients_tests as report;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, last_event_id) = report::arguments();
    let mut builder = ClientBuilder::for_url(&url).expect("a URL");
    if !last_event_id.is_empty() {
        builder = builder.last_event_id(last_event_id);
    }
    let mut stream = builder.build_http().stream();
    while let Some(event) = stream.next().await {
        match event {
            Ok(SSE::Event(event)) => report::event(&event.data, event.id.as_deref().unwrap_or("")),
            Ok(SSE::Connected(_) | SSE::Comment(_)) => {}
            Err(error) => report::error(&error),
        }
    }
}
