//! The flags that name a running server and describe its protocol.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::engine::protocol::Preset;

/// Options for a server that was not started for the run.
#[derive(Debug, Args)]
#[command(next_help_heading = "A running server")]
#[group(skip)]
#[command(group = ArgGroup::new("running").multiple(true))]
pub struct RemoteArgs {
    /// Load this running server, as http://host:port[/base]; several times: streams are spread over the
    /// servers, and each message is posted to all
    #[arg(long, group = "running", conflicts_with = "target")]
    pub url: Vec<String>,
    /// Its protocol [default: hookcast; with --stream-url alone: only what other flags say]
    #[arg(long, value_enum, requires = "running")]
    pub preset: Option<Preset>,
    /// Channel or topic, for presets that have them
    #[arg(long, value_name = "NAME", default_value = "hookcast-load", value_parser = channel)]
    pub channel: String,
    /// URL of a stream; {session} is the stream's session
    #[arg(long, value_name = "URL", group = "running", conflicts_with = "target")]
    pub stream_url: Vec<String>,
    /// Header of a stream request, as 'Name: value' or @FILE with one on each line
    #[arg(long, value_name = "HEADER", requires = "running")]
    pub stream_header: Vec<String>,
    /// URL of a publish request; fields as in --publish-body
    #[arg(long, value_name = "URL", requires = "running")]
    pub publish_url: Vec<String>,
    /// Method of a publish request [default: POST]
    #[arg(long, value_name = "METHOD", requires = "running", value_parser = method)]
    pub publish_method: Option<String>,
    /// Header of a publish request, as 'Name: value' or @FILE with one on each line
    #[arg(long, value_name = "HEADER", requires = "running")]
    pub publish_header: Vec<String>,
    /// Body of a publish request, or @FILE; {message}, or {id}, {time} and {filler} apart; {session}
    #[arg(long, value_name = "TEMPLATE", requires = "running")]
    pub publish_body: Option<String>,
    /// Send a publish request before the last one is answered: the server must keep their order
    #[arg(long, requires = "running")]
    pub publish_pipelining: bool,
    /// How a message stands in an event, byte by byte: text with {id}, {time} and {filler}
    /// [default: as in the body]
    #[arg(long, value_name = "TEMPLATE", requires = "running")]
    pub message_in: Option<String>,
    /// Process id of the server, to measure its CPU and memory
    #[arg(long, requires = "running")]
    pub pid: Vec<u32>,
    /// Allow a server beyond this machine: load only servers that you own
    #[arg(long)]
    pub i_own_this_host: bool,
    /// hookcast's --admin address, as http://host:port: for the number of open streams before the run
    #[arg(long, requires = "running")]
    pub admin: Option<String>,
    /// Load the server without asking, whatever streams and messages it has
    #[arg(long, requires = "running")]
    pub yes: bool,
    /// Value of X-Webhook-Secret (presets hookcast and pages)
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// File with the token of all streams; posts use the secret (presets hookcast and pages)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// Whether the server runs already.
    pub fn is_running(&self) -> bool {
        !self.url.is_empty() || !self.stream_url.is_empty()
    }
}

fn channel(text: &str) -> Result<String, String> {
    let is_plain = |c: char| !c.is_control() && !"\"\\{}".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("a channel has no quotes, backslashes, braces or control characters".into());
    }
    Ok(text.to_owned())
}

fn method(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err("a method is upper-case letters, such as PUT".into());
    }
    Ok(text.to_owned())
}
