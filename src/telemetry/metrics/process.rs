//! Metrics of the process: memory, CPU time and file descriptors, as far as the system reports them.

use std::fs;

use prometheus::{Counter, IntGauge, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::register;

/// Metrics that are read from the system when they are rendered.
#[derive(Clone)]
pub(super) struct ProcessMetrics {
    memory_rss: IntGauge,
    cpu_seconds: Counter,
    open_files: IntGauge,
    max_open_files: IntGauge,
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let cpu_help = "CPU time of the process, user and system, in seconds.";
        Self {
            memory_rss: gauge("otelcol_process_memory_rss", "Resident memory of the process, in bytes."),
            cpu_seconds: register(registry, Counter::new("otelcol_process_cpu_seconds", cpu_help)),
            open_files: gauge("spanrelay_process_open_fds", "Open file descriptors of the process."),
            max_open_files: gauge(
                "spanrelay_process_max_fds",
                "Limit on open file descriptors of the process.",
            ),
        }
    }

    pub(super) fn observe(&self) {
        if let Some(bytes) = resident_bytes() {
            self.memory_rss.set(bytes);
        }
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
        // A counter never decreases, also when two requests for metrics overlap.
        self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Without the descriptor of the directory itself.
            self.open_files.set(i64::try_from(open.count().saturating_sub(1)).unwrap_or(i64::MAX));
        }
        let limit = getrlimit(Resource::Nofile).current;
        self.max_open_files.set(limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX));
    }
}

/// Returns the resident memory; `None` except on Linux.
fn resident_bytes() -> Option<i64> {
    const PAGE_BYTES: i64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}
