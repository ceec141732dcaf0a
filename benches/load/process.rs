//! A process seen from outside: the processor time that it took, and the memory that it has.

use std::fs;
use std::time::Duration;

/// By its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

// === impl Process ===

impl Process {
    /// In user and kernel mode, by all of its threads that still run: to the nanosecond, and not in ticks. Threads that
    /// ended meanwhile are not in it, so it is for programs that keep theirs.
    pub(crate) fn processor_time(self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let path = task.ok()?.path().join("schedstat");
            let text = fs::read_to_string(path).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(of_task).sum())
    }

    /// In memory now, in bytes.
    pub(crate) fn resident(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kibibytes * 1024
    }
}
