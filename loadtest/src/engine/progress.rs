//! Progress of a measurement: a bar on a terminal, plain lines otherwise.
//!
//! All of it goes to stderr, so that stdout holds only results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one measurement.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    line_due: Instant,
}

impl Progress {
    /// Names the measurement.
    pub fn new(label: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            let style = ProgressStyle::with_template("{prefix:32} {bar:30} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(label.to_owned());
            bar
        });
        Progress {
            bar,
            label: label.to_owned(),
            line_due: Instant::now() + LINE_INTERVAL,
        }
    }

    /// Updates the progress; `share` is from 0 to 1.
    pub fn update(&mut self, share: f64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((share.clamp(0.0, 1.0) * 1000.0) as u64);
            bar.set_message(text.to_owned());
        } else if Instant::now() >= self.line_due {
            self.line_due = Instant::now() + LINE_INTERVAL;
            eprintln!("{}: {text}", self.label);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
