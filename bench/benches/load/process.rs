//! Processor time and memory of a process.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// Processor time of each thread, user and kernel, in nanoseconds instead of ticks.
#[derive(Debug)]
pub(crate) struct ProcessorTime(BTreeMap<String, u64>);

// === impl Process ===

impl Process {
    pub(crate) fn processor_time(self) -> ProcessorTime {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        // A thread may end while it is read.
        let of_thread = |task: std::io::Result<fs::DirEntry>| {
            let path = task.ok()?.path();
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            Some((path.display().to_string(), text.split(' ').next()?.parse().ok()?))
        };
        ProcessorTime(tasks.filter_map(of_thread).collect())
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kibibytes * 1024
    }
}

// === impl ProcessorTime ===

impl ProcessorTime {
    /// Returns the processor time since an earlier measurement, without threads that have ended; the threads of all
    /// contestants are permanent.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let of_thread = |(thread, now): (&String, &u64)| now - before.0.get(thread).unwrap_or(&0);
        Duration::from_nanos(self.0.iter().map(of_thread).sum())
    }
}
