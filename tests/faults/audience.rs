//! Connections that exist when a fault begins: the fault must not affect them.

use serde_json::json;

use crate::support::{Connection, EventStream, Server};

/// Connections and streams on every shard of a server with two.
pub struct Audience {
    connections: Vec<Connection>,
    streams: Vec<EventStream>,
    /// Contents that were published through this audience, in order.
    pub published: Vec<String>,
}

impl Audience {
    /// Connects. Each connection goes to the shard with the fewest, so four of them reach both shards.
    pub fn of(server: &Server) -> Audience {
        let mut streams = Vec::new();
        for _ in 0..4 {
            let mut stream = server.stream("", "");
            stream.connected();
            streams.push(stream);
        }
        let mut audience = Audience {
            connections: (0..4).map(|_| server.connect()).collect(),
            streams,
            published: Vec::new(),
        };
        audience.expect_service();
        audience
    }

    /// Checks that every connection is answered, and that its message reaches every stream.
    pub fn expect_service(&mut self) {
        for connection in &mut self.connections {
            let message = format!("message {}", self.published.len());
            let body = json!({ "message": message }).to_string();
            connection.send_request("POST", "/api/webhook", "", body.as_bytes());
            let answer = connection.read_response();
            assert_eq!(answer.status, 200, "{answer:?}");
            for stream in &mut self.streams {
                assert_eq!(stream.next().content(), message);
            }
            self.published.push(message);
        }
    }

    /// Posts once and returns the status. An acknowledged message must reach every stream, and a refused one
    /// none.
    pub fn try_to_publish(&mut self) -> u16 {
        let message = format!("message {}", self.published.len());
        let body = json!({ "message": message }).to_string();
        let connection = &mut self.connections[0];
        connection.send_request("POST", "/api/webhook", "", body.as_bytes());
        let answer = connection.read_response();
        if answer.status == 200 {
            for stream in &mut self.streams {
                assert_eq!(stream.next().content(), message);
            }
            self.published.push(message);
        }
        answer.status
    }

    /// Skips a message that was published elsewhere.
    pub fn skip(&mut self, message: &str) {
        for stream in &mut self.streams {
            assert_eq!(stream.next().content(), message);
        }
    }

    /// Checks that the history holds the last hundred published messages.
    pub fn expect_history(&self, server: &Server) {
        let mut stream = server.stream("", "");
        let replay = usize::try_from(stream.connected()).unwrap();
        let expected = &self.published[self.published.len().saturating_sub(100)..];
        assert_eq!(stream.contents(replay), expected);
    }
}
