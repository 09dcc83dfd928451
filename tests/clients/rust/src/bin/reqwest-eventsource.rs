//! reqwest-eventsource: reconnects by itself.

use futures::StreamExt as _;
use hookcast_clients_tests as report;
use reqwest_eventsource::{Event, EventSource};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, last_event_id) = report::arguments();
    let mut request = reqwest::Client::new().get(url);
    if !last_event_id.is_empty() {
        request = request.header("Last-Event-ID", last_event_id);
    }
    let mut source = EventSource::new(request).expect("a GET can be cloned");
    while let Some(event) = source.next().await {
        match event {
            Ok(Event::Open) => {}
            Ok(Event::Message(message)) => report::event(&message.data, &message.id),
            Err(error) => report::error(&error),
        }
    }
}
