//! What a client may see, and the requests by which it asks for that.

use std::collections::BTreeSet;
use std::time::SystemTime;

use hookcast::testkit::sign_token_with;
use serde_json::{Value, json};

/// The key of all tokens.
pub const KEY: &str = "a key of thirty-two bytes or more";

/// The messages that a stream shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum View {
    /// Those for everyone.
    Public,
    /// Those of these sessions, and those for everyone.
    Sessions(BTreeSet<String>),
    #[default]
    Everything,
}

impl View {
    pub fn of(sessions: &[String]) -> View {
        View::Sessions(sessions.iter().cloned().collect())
    }

    /// Whether it shows a message for this session.
    pub fn includes(&self, session: Option<&str>) -> bool {
        match (self, session) {
            (View::Everything, _) | (_, None) => true,
            (View::Public, Some(_)) => false,
            (View::Sessions(own), Some(session)) => own.contains(session),
        }
    }

    /// The claims that open it.
    fn rights(&self) -> Value {
        match self {
            View::Public => json!({}),
            View::Sessions(own) => json!({ "sessions": own, "everything": false }),
            View::Everything => json!({ "everything": true }),
        }
    }
}

/// How a client asks for its view.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub view: View,
    /// Empty, or begins with `?`.
    query: String,
    tokens: Option<Tokens>,
}

/// A client with tokens makes a new one for each connection.
#[derive(Debug, Clone)]
struct Tokens {
    rights: Value,
    /// `exp` is in so many whole seconds from the present one.
    life_s: u64,
    /// It is sent in `Authorization`, not in the query.
    is_field: bool,
}

/// A request for a stream.
pub struct Request {
    pub query: String,
    /// Further fields.
    pub fields: String,
    /// When its token ends, in Unix milliseconds.
    pub expires_ms: Option<u64>,
}

impl Access {
    /// Without a token, at nodes without keys: the sessions of the query, or else everything.
    pub fn of_query(query: &str) -> Access {
        let parameters = query.trim_start_matches('?').split('&');
        let sessions = parameters.filter_map(|parameter| parameter.strip_prefix("sessionId="));
        let sessions: Vec<String> = sessions.map(str::to_owned).collect();
        Access {
            view: if sessions.is_empty() {
                View::Everything
            } else {
                View::of(&sessions)
            },
            query: query.to_owned(),
            tokens: None,
        }
    }

    /// Tokens that open this view.
    pub fn of_tokens(view: View, life_s: u64, is_field: bool) -> Access {
        Access {
            query: String::new(),
            tokens: Some(Tokens {
                rights: view.rights(),
                life_s,
                is_field,
            }),
            view,
        }
    }

    /// Names these sessions in the URL. If there are tokens, they open more.
    pub fn naming(self, sessions: &[String]) -> Access {
        let names: Vec<String> = sessions
            .iter()
            .map(|session| format!("sessionId={session}"))
            .collect();
        Access {
            view: View::of(sessions),
            query: format!("?{}", names.join("&")),
            ..self
        }
    }

    /// The next request, with a new token.
    pub fn request(&self) -> Request {
        let mut request = Request {
            query: self.query.clone(),
            fields: String::new(),
            expires_ms: None,
        };
        if let Some(tokens) = &self.tokens {
            let exp = now_ms() / 1_000 + tokens.life_s;
            let claims = json!({ "exp": exp, "hookcast": tokens.rights });
            let header = r#"{"alg":"HS256","typ":"JWT"}"#;
            let token = sign_token_with(KEY.as_bytes(), header, &claims.to_string());
            if tokens.is_field {
                request.fields = format!("Authorization: Bearer {token}\r\n");
            } else {
                let separator = if self.query.is_empty() { '?' } else { '&' };
                request.query = format!("{}{separator}token={token}", self.query);
            }
            request.expires_ms = Some(exp * 1_000);
        }
        request
    }
}

/// Unix time in milliseconds, rounded down as that of the nodes is.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("a clock after 1970").as_millis() as u64
}
