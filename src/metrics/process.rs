//! The kernel's figures of this process, under the names that Prometheus clients use.
//!
//! Called by [`Metrics::gather`](super::Metrics::gather) at every scrape. Never guesses: a figure that
//! cannot be read is left out.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{MetricFamily, counter_of_seconds, float, gauge};

/// The figures as families. `started_s` is the start of the process, in seconds since the Unix epoch.
pub(super) fn families(started_s: u64) -> Vec<MetricFamily> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut families = vec![
        counter_of_seconds(
            "process_cpu_seconds_total",
            "Processor time used, of user and kernel, in seconds.",
            cpu_seconds(),
        ),
        gauge(
            "process_start_time_seconds",
            "Start of the process in seconds since the Unix epoch.",
            float(started_s),
        ),
    ];
    #[rustfmt::skip]
    let known = [
        ("process_open_fds", "Open file descriptors.", open_files()),
        ("process_max_fds", "Most file descriptors that may be open.", getrlimit(Resource::Nofile).current),
        ("process_threads", "Threads.", number_of(&status, "Threads:")),
        ("process_resident_memory_bytes", "Resident memory in bytes.", number_of(&status, "VmRSS:").map(|kib| kib * 1024)),
        ("process_virtual_memory_bytes", "Virtual memory in bytes.", number_of(&status, "VmSize:").map(|kib| kib * 1024)),
    ];
    for (name, help, number) in known {
        families.extend(number.map(|number| gauge(name, help, float(number))));
    }
    families
}

/// `clock_gettime(2)`, `CLOCK_PROCESS_CPUTIME_ID`.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    float(seconds) + f64::from(nanoseconds) / 1e9
}

/// Open file descriptors, without the one that is used to count them (proc(5), `/proc/self/fd`).
fn open_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(files.saturating_sub(1) as u64)
}

/// The number in a line of `/proc/self/status` (proc(5)), in that file's unit.
fn number_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> f64 {
        let families = families(1_700_000_000);
        let family = families.iter().find(|family| family.name() == name);
        let metric = &family.unwrap_or_else(|| panic!("{name}")).get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }

    #[test]
    fn the_figures_of_the_process_are_plausible() {
        let before = value("process_open_fds");
        let held: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        assert!(value("process_open_fds") > 50.0 && before > 0.0);
        assert!(value("process_open_fds") < value("process_max_fds"));
        drop(held);
        let resident = value("process_resident_memory_bytes");
        assert!(resident > 100_000.0 && resident < value("process_virtual_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!((value("process_start_time_seconds") - 1.7e9).abs() < 1.0);
        let cpu_s = value("process_cpu_seconds_total");
        let mut sum = 0_u64;
        while value("process_cpu_seconds_total") <= cpu_s {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
