//! The cost of processes and threads, read from `/proc` (proc(5)): CPU time, resident memory, open
//! descriptors, and the kernel's own memory.
//!
//! Used by `measurement`, `window` and `overload`. A process that has ended reads as zero; other modules
//! notice its end.

use std::fs;

/// The processes of a server: the started one and all its descendants.
pub fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut at = 0;
    while let Some(&parent) = pids.get(at) {
        for task in tasks(parent) {
            let path = format!("/proc/{parent}/task/{task}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    pids
}

/// Whether a process with this id exists and has not ended. A zombie has ended.
pub fn is_running(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// CPU time of processes in nanoseconds, user and system: from the scheduler's count if the kernel has it,
/// otherwise in clock ticks of 10 ms.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    pids.iter().map(|&pid| process_cpu_ns(pid)).sum()
}

/// Time in which threads of processes were ready to run and had no CPU, in nanoseconds.
pub fn waiting_ns(pids: &[u32]) -> u64 {
    let of_task = |pid: u32, task: u32| {
        schedstat(&format!("/proc/{pid}/task/{task}/schedstat")).map_or(0, |stat| stat.wait_ns)
    };
    let of_process = |&pid: &u32| {
        tasks(pid)
            .into_iter()
            .map(|task| of_task(pid, task))
            .sum::<u64>()
    };
    pids.iter().map(of_process).sum()
}

fn process_cpu_ns(pid: u32) -> u64 {
    let times: Option<u64> = tasks(pid)
        .into_iter()
        .map(|task| {
            schedstat(&format!("/proc/{pid}/task/{task}/schedstat")).map(|stat| stat.run_ns)
        })
        .sum();
    times
        .filter(|&ns| ns > 0)
        .unwrap_or_else(|| tick_cpu_ns(pid))
}

/// `utime + stime` of `/proc/pid/stat`, fields 14 and 15, in ticks of 1/100 s (the kernel's `USER_HZ`, 100 on
/// every supported architecture).
fn tick_cpu_ns(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    ticks * 10_000_000
}

fn tasks(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The scheduler's figures of one thread.
#[derive(Debug, Default, Clone, Copy)]
pub struct SchedStat {
    /// Time on a CPU in nanoseconds.
    pub run_ns: u64,
    /// Time runnable but waiting for a CPU in nanoseconds.
    pub wait_ns: u64,
}

impl SchedStat {
    /// The difference from `earlier`.
    pub fn since(self, earlier: SchedStat) -> SchedStat {
        SchedStat {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
        }
    }
}

/// The figures of a thread of this process.
pub fn thread(tid: i32) -> SchedStat {
    schedstat(&format!("/proc/self/task/{tid}/schedstat")).unwrap_or_default()
}

fn schedstat(path: &str) -> Option<SchedStat> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.split_whitespace().map(str::parse);
    Some(SchedStat {
        run_ns: fields.next()?.ok()?,
        wait_ns: fields.next()?.ok()?,
    })
}

/// Memory of processes in bytes: resident for one, proportional shares for several, so that shared pages count
/// once.
pub fn memory_bytes(pids: &[u32]) -> u64 {
    match pids {
        [pid] => field_kib(&format!("/proc/{pid}/status"), "VmRSS:"),
        several => several
            .iter()
            .map(|pid| field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
            .sum(),
    }
}

fn field_kib(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    value
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Descriptors open in processes.
pub fn descriptors(pids: &[u32]) -> u64 {
    let count = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    pids.iter().map(|pid| count(pid) as u64).sum()
}

/// The kernel's memory for sockets in bytes: slab and socket buffers of the whole machine, with both ends of
/// each loopback connection.
pub fn kernel_bytes() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = sockstat
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .unwrap_or_default();
    let pages = tcp
        .rsplit_once("mem ")
        .and_then(|(_, pages)| pages.trim().parse::<u64>().ok());
    field_kib("/proc/meminfo", "Slab:") + pages.unwrap_or(0) * 4096
}

/// Busy time of the whole machine in nanoseconds over all CPUs. It includes work such as softirqs, which
/// counts for no process.
pub fn machine_busy_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal.
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&at| ticks.get(at))
        .sum::<u64>();
    busy * 10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let pids = [std::process::id()];
        let before = cpu_ns(&pids);
        let mut sum = 0_u64;
        while cpu_ns(&pids) < before + 20_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(memory_bytes(&pids) > 100_000);
        assert!(descriptors(&pids) >= 3);
        assert!(kernel_bytes() > 0 && machine_busy_ns() > 0);
    }

    #[test]
    fn a_family_is_a_process_and_its_descendants() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pids = family(std::process::id());
        assert!(pids.contains(&child.id()), "{pids:?}");
        assert!(is_running(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
        assert_eq!(cpu_ns(&[child.id()]), 0);
    }
}
