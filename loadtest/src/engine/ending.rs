//! An early end of a run: a signal cut it off, or the server was lost.
//!
//! Plain data of an `outcome`. `measurement` fills it in, `single` adds the state of the process, the table
//! and the charts show it.

use serde::Serialize;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Publishing messages for the history.
    History,
    /// Opening streams.
    Opening,
    /// Under load, before the window.
    WarmUp,
    /// In the measured window.
    Window,
    /// After the window, waiting for messages in flight.
    Drain,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::History => "while the history was published",
            Phase::Opening => "while streams were opened",
            Phase::WarmUp => "in the warm-up",
            Phase::Window => "in the window",
            Phase::Drain => "after the window, while the last messages arrived",
        })
    }
}

/// A moment in a run.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Seconds since the window began, below zero before; absent if the window was not known yet.
    pub window_at_s: Option<f64>,
    /// The phase at that moment.
    pub phase: Phase,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after {:.2} s, {}", self.at_s, self.phase)?;
        match self.window_at_s {
            Some(at_s) if self.phase == Phase::Window => write!(f, " (at {at_s:.2} s of it)"),
            _ => Ok(()),
        }
    }
}

/// A signal ended the run. Messages in flight do not count as lost.
#[derive(Debug, Clone, Serialize)]
pub struct CutOff {
    /// The time of the signal.
    #[serde(flatten)]
    pub moment: Moment,
    /// Messages sent whose answer had not arrived.
    pub unanswered: u64,
    /// Deliveries of acknowledged messages that had not arrived.
    pub in_flight: u64,
}

/// The server was lost in the middle of the run.
#[derive(Debug, Clone, Serialize)]
pub struct Lost {
    /// The time of the loss.
    #[serde(flatten)]
    pub moment: Moment,
    /// The server's address.
    pub address: String,
    /// The symptom.
    pub how: String,
    /// Streams that ended.
    pub streams_cut: u64,
    /// Messages sent and never answered.
    pub unanswered: u64,
    /// Deliveries of acknowledged messages that did not arrive.
    pub deliveries_missing: u64,
    /// The state of the process, if it is known.
    pub process: Option<String>,
    /// The last lines that it wrote to stderr, if this program started it.
    pub last_lines: Vec<String>,
}

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "by a signal {}", self.moment)
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the server at {} was lost {}: {}",
            self.address, self.moment, self.how
        )?;
        match &self.process {
            Some(process) => write!(f, "; {process}"),
            None => Ok(()),
        }
    }
}
