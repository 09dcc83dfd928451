//! The Prometheus text format, version 0.0.4: families of samples, a line each.
//!
//! Names, labels and help are constants of this crate that need no escaping.
//! Source: the "Exposition formats" page of the Prometheus documentation.

use std::fmt::{Display, Write};

/// What a family's samples mean.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The samples of one name.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl<'a> Family<'a> {
    /// Begins a family: its help and its type.
    pub(crate) fn new(text: &'a mut String, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text, name }
    }

    /// Adds a sample; `suffix` is for the parts of a histogram, `labels` are `name="value"` joined
    /// by commas, or nothing.
    pub(crate) fn sample(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let name = self.name;
        let _ = match labels {
            "" => writeln!(self.text, "{name}{suffix} {value}"),
            _ => writeln!(self.text, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
}
