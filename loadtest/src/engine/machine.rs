//! The machine of a measurement: figures mean nothing without it.

use std::fs;
use std::time::SystemTime;

use serde::Serialize;

/// The machine and the time.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Time, in UTC.
    pub date: String,
}

impl Machine {
    /// This machine, now.
    pub fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let meminfo = read("/proc/meminfo");
        let memory = meminfo
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<u64>().ok());
        Machine {
            cpu: model
                .unwrap_or("unknown CPU")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gibibytes = self.memory as f64 / f64::from(1 << 30);
        write!(
            f,
            "{}, {} CPUs of {}, {gibibytes:.0} GiB, Linux {}",
            self.date, self.cpus, self.cpu, self.kernel
        )
    }
}
