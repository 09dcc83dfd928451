//! Faults of a cluster: their names, and when they happen.
//!
//! Used by `runs`, which injects them. Knows no processes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a node, and a restart.
    KillNode,
    /// SIGTERM of a node, and a restart.
    EndNode,
    /// SIGUSR2 of a node: it hands over to a new process.
    HandOver,
    /// SIGKILL of the engine, and a restart.
    KillEngine,
    /// SIGSTOP of the engine for a time.
    StopEngine(Duration),
    /// FLUSHALL.
    FlushAll,
    /// Deletion of the bus's log.
    DeleteLog,
    /// Deletion of the bus's record.
    DeleteRecord,
    /// SIGKILL of the primary; its replica takes over with everything.
    Promote,
    /// The same, and the replica lacks the last half second.
    PromoteWithLoss,
    /// A node's connections to the engine break.
    Cut,
    /// Requests of a node vanish for half a second, then its connections break.
    CutRequests,
    /// Answers to a node vanish for half a second, then its connections break.
    CutAnswers,
    /// A node gets half an answer.
    HalveAnswer,
    /// A request of a node reaches the engine a second after its connection broke.
    DelayRequest,
}

const NAMES: [(&str, Fault); 14] = [
    ("kill-node", Fault::KillNode),
    ("end-node", Fault::EndNode),
    ("hand-over", Fault::HandOver),
    ("kill-engine", Fault::KillEngine),
    ("flush-all", Fault::FlushAll),
    ("delete-log", Fault::DeleteLog),
    ("delete-record", Fault::DeleteRecord),
    ("promote", Fault::Promote),
    ("promote-with-loss", Fault::PromoteWithLoss),
    ("cut", Fault::Cut),
    ("cut-requests", Fault::CutRequests),
    ("cut-answers", Fault::CutAnswers),
    ("halve-answer", Fault::HalveAnswer),
    ("delay-request", Fault::DelayRequest),
];

impl Fault {
    /// Whether it needs a replica.
    pub fn needs_replica(self) -> bool {
        matches!(self, Fault::Promote | Fault::PromoteWithLoss)
    }

    /// Whether it concerns the engine or the connections to it.
    pub fn needs_engine(self) -> bool {
        !self.moves_streams()
    }

    /// Whether streams of its node go to others.
    pub fn moves_streams(self) -> bool {
        matches!(self, Fault::KillNode | Fault::EndNode | Fault::HandOver)
    }

    /// Whether it concerns one node.
    pub fn has_node(self) -> bool {
        matches!(
            self,
            Fault::KillNode
                | Fault::EndNode
                | Fault::HandOver
                | Fault::Cut
                | Fault::CutRequests
                | Fault::CutAnswers
                | Fault::HalveAnswer
                | Fault::DelayRequest
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Fault::StopEngine(time) = self {
            return write!(f, "stop-engine {}", humantime::format_duration(*time));
        }
        let name = NAMES.iter().find(|(_, fault)| fault == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        if name == "stop-engine" {
            let time = humantime::parse_duration(&rest.join(" "));
            return time
                .map(Fault::StopEngine)
                .map_err(|_| format!("{text}: a time is missing, as in stop-engine 1s"));
        }
        let found = NAMES
            .iter()
            .find(|(known, _)| *known == name && rest.is_empty());
        found.map(|&(_, fault)| fault).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "{text}: no such fault; there are stop-engine TIME, {}",
                names.join(", ")
            )
        })
    }
}

/// The full plan: of each three faults one kills a node and one the engine. In ten minutes these are twenty of
/// each, and every other fault at least once.
const FULL: &str = "every 10s: \
    kill-node, kill-engine, stop-engine 1s, \
    kill-node, kill-engine, hand-over, \
    kill-node, kill-engine, promote, \
    kill-node, kill-engine, cut-answers, \
    kill-node, kill-engine, flush-all, \
    kill-node, kill-engine, promote-with-loss, \
    kill-node, kill-engine, cut-requests, \
    kill-node, kill-engine, end-node, \
    kill-node, kill-engine, delay-request, \
    kill-node, kill-engine, stop-engine 5s, \
    kill-node, kill-engine, halve-answer, \
    kill-node, kill-engine, delete-log, \
    kill-node, kill-engine, cut, \
    kill-node, kill-engine, delete-record";

/// Faults at an interval, in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    /// Time between two.
    pub interval: Duration,
    /// The faults, in their order.
    pub faults: Vec<Fault>,
}

impl FromStr for FaultPlan {
    type Err = String;

    /// Parses `every 10s: kill-node, stop-engine 1s`, or `full`.
    fn from_str(text: &str) -> Result<FaultPlan, String> {
        if text == "full" {
            return FULL.parse();
        }
        let (interval, faults) = text
            .split_once(':')
            .and_then(|(interval, faults)| Some((interval.trim().strip_prefix("every ")?, faults)))
            .ok_or("neither 'full' nor like 'every 10s: kill-node, kill-engine'")?;
        let interval = humantime::parse_duration(interval.trim())
            .map_err(|error| format!("{interval}: {error}"))?;
        let faults = faults.split(',').map(|fault| fault.trim().parse());
        Ok(FaultPlan {
            interval,
            faults: faults.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_an_interval_and_faults() {
        let plan: FaultPlan = "every 10s: kill-node,stop-engine 500ms, promote-with-loss"
            .parse()
            .unwrap();
        let stop = Fault::StopEngine(Duration::from_millis(500));
        assert_eq!(plan.interval, Duration::from_secs(10));
        assert_eq!(plan.faults, [Fault::KillNode, stop, Fault::PromoteWithLoss]);
    }

    #[test]
    fn every_fault_is_parsed_from_its_name() {
        for (name, fault) in NAMES {
            assert_eq!(name.parse(), Ok(fault));
            assert_eq!(fault.to_string(), name);
        }
        let stop = Fault::StopEngine(Duration::from_secs(30));
        assert_eq!(stop.to_string().parse(), Ok(stop));
    }

    #[test]
    fn the_full_plan_has_every_fault_and_twenty_kills_of_each_in_ten_minutes() {
        let full: FaultPlan = "full".parse().unwrap();
        for (name, fault) in NAMES {
            assert!(full.faults.contains(&fault), "{name}");
        }
        // The last fault of ten minutes is due 10 s before their end.
        let in_turn: Vec<_> = full.faults.iter().cycle().take(59).collect();
        for kill in [Fault::KillNode, Fault::KillEngine] {
            let kills = in_turn.iter().filter(|fault| ***fault == kill);
            assert!(kills.count() >= 20, "{kill}");
        }
        let all = full.faults.iter().all(|fault| in_turn.contains(&fault));
        assert!(all && full.interval == Duration::from_secs(10));
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let error = |text: &str| text.parse::<FaultPlan>().unwrap_err();
        assert!(error("kill-node").contains("every"));
        assert!(error("every x: kill-node").contains('x'));
        assert!(error("every 1s: nonsense").contains("kill-node"));
        assert!(error("every 1s: stop-engine").contains("a time"));
        assert!(error("every 1s:").contains("no such fault"));
    }
}
