//! A comparison: cases, the servers of each, rounds of measurements, and figures as medians and as medians of
//! ratios within a round.
//!
//! Pure data and arithmetic. `compare` fills it, `compare_report` renders it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::engine::load::Load;
use crate::engine::machine::Machine;
use crate::engine::outcome::Outcome;
use crate::servers::ServerKind;

/// One figure of an outcome.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Heading of its column.
    pub name: &'static str,
    /// Decimal digits shown.
    pub digits: usize,
    /// Takes it from an outcome.
    pub of: fn(&Outcome) -> Option<f64>,
}

/// One load for the comparison of servers.
pub struct Case {
    /// Short name, as in `--only`.
    pub key: &'static str,
    /// One line that describes it.
    pub title: String,
    /// The servers, each with its load; the floor's may differ.
    pub entries: Vec<(ServerKind, Load)>,
    /// Threads that serve streams; 0: the command line decides.
    pub shards: usize,
    /// Heartbeat interval; `None`: the command line decides.
    pub heartbeat: Option<Duration>,
    /// Streams over TLS.
    pub tls: bool,
    /// Compressed streams.
    pub gzip: bool,
    /// Columns; ratios are of the first.
    pub metrics: &'static [Metric],
}

/// All rounds of one server in one case.
#[derive(Serialize)]
pub struct Row {
    /// Name of the server.
    pub server: &'static str,
    /// One for each round in which it was measured, with the round's number.
    pub rounds: BTreeMap<usize, Outcome>,
}

/// The results of a case.
#[derive(Serialize)]
pub struct CaseResult {
    /// See [`Case::key`].
    pub key: &'static str,
    /// See [`Case::title`].
    pub title: String,
    /// In the order of the case's servers.
    pub rows: Vec<Row>,
    /// See [`Case::metrics`].
    #[serde(skip)]
    pub metrics: &'static [Metric],
}

/// All results.
#[derive(Serialize)]
pub struct Comparison {
    /// The machine and the time.
    pub machine: Machine,
    /// The servers and their versions.
    pub versions: BTreeMap<&'static str, String>,
    /// The command that repeats it.
    pub command: String,
    /// The cases in order.
    pub cases: Vec<CaseResult>,
    /// Peers left out, and the reason.
    pub notes: Vec<String>,
}

impl CaseResult {
    /// The row of a server.
    pub fn row(&self, server: ServerKind) -> Option<&Row> {
        self.rows.iter().find(|row| row.server == server.name())
    }
}

impl Row {
    /// The median of a figure over the rounds.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        median(self.rounds.values().filter_map(metric.of).collect())
    }

    /// The median ratio of this row's figure to another's, over their common rounds.
    pub fn ratio(&self, metric: Metric, other: &Row) -> Option<f64> {
        let ratios = self.rounds.iter().filter_map(|(round, outcome)| {
            let own = (metric.of)(outcome)?;
            let others = (metric.of)(other.rounds.get(round)?)?;
            (others > 0.0).then(|| own / others)
        });
        median(ratios.collect())
    }
}

impl Comparison {
    /// A case by its key.
    pub fn case(&self, key: &str) -> Option<&CaseResult> {
        self.cases.iter().find(|case| case.key == key)
    }

    /// The median of a server's figure.
    pub fn median(&self, (key, server): (&str, ServerKind), metric: Metric) -> Option<f64> {
        self.case(key)?.row(server)?.median(metric)
    }

    /// The median ratio of two rows, of one case or of two.
    pub fn ratio(
        &self,
        (key, server): (&str, ServerKind),
        (other_key, other): (&str, ServerKind),
        metric: Metric,
    ) -> Option<f64> {
        let other = self.case(other_key)?.row(other)?;
        self.case(key)?.row(server)?.ratio(metric, other)
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACKS: Metric = Metric {
        name: "acks",
        digits: 0,
        of: |outcome| Some(outcome.acks_per_second),
    };

    fn row(server: &'static str, rounds: &[(usize, f64)]) -> Row {
        let outcome = |acks: f64| Outcome {
            acks_per_second: acks,
            ..Outcome::default()
        };
        Row {
            server,
            rounds: rounds
                .iter()
                .map(|&(round, acks)| (round, outcome(acks)))
                .collect(),
        }
    }

    #[test]
    fn a_median_is_the_middle_value() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_within_a_round_and_over_common_rounds() {
        let own = row("own", &[(0, 10.0), (1, 40.0), (2, 9.0)]);
        let other = row("other", &[(0, 5.0), (1, 10.0)]);
        assert_eq!(own.median(ACKS), Some(10.0));
        assert_eq!(own.ratio(ACKS, &other), Some(3.0));
        assert_eq!(own.ratio(ACKS, &row("none", &[(2, 0.0)])), None);
    }
}
