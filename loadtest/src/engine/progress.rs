//! Progress of a measurement on a terminal: one line that is redrawn. Nothing if stderr is no terminal.
//!
//! All of it goes to stderr, so that stdout holds only results.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of one measurement.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Names the measurement.
    pub fn new(label: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            let style = ProgressStyle::with_template("{prefix} {bar:20} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(label.to_owned());
            bar
        });
        Progress { bar }
    }

    /// Whether there is a terminal.
    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Updates the progress; `share` is from 0 to 1.
    pub fn update(&mut self, share: f64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((share.clamp(0.0, 1.0) * 1000.0) as u64);
            bar.set_message(text.to_owned());
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
