//! A process seen from outside: the processor time that it took, and the memory that it has.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// By its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// In user and kernel mode, of each thread: to the nanosecond, and not in ticks.
#[derive(Debug)]
pub(crate) struct ProcessorTime(BTreeMap<String, u64>);

// === impl Process ===

impl Process {
    pub(crate) fn processor_time(self) -> ProcessorTime {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        // A thread may end meanwhile.
        let of_thread = |task: std::io::Result<fs::DirEntry>| {
            let path = task.ok()?.path();
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            Some((path.display().to_string(), text.split(' ').next()?.parse().ok()?))
        };
        ProcessorTime(tasks.filter_map(of_thread).collect())
    }

    /// In memory now, in bytes.
    pub(crate) fn resident(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kibibytes * 1024
    }
}

// === impl ProcessorTime ===

impl ProcessorTime {
    /// What threads took that have ended since is not in it: those of the relay, the floors and the Collector stay.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let of_thread = |(thread, now): (&String, &u64)| now - before.0.get(thread).unwrap_or(&0);
        Duration::from_nanos(self.0.iter().map(of_thread).sum())
    }
}
