//! Processor time, memory and written bytes of a process.

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
        self.memory("VmRSS:")
    }

    /// Returns the maximum of the resident memory since the process started, in bytes.
    pub(crate) fn peak_resident(self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Returns the number of bytes that the process caused to be written to the disk, in whole pages.
    pub(crate) fn written(self) -> u64 {
        self.number("io", "write_bytes:")
    }

    fn memory(self, name: &str) -> u64 {
        self.number("status", name) * 1024
    }

    fn number(self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("the process runs");
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("the file has the line");
        value.trim().trim_end_matches(" kB").parse().expect("it is a number")
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
