//! `queue`: accepted data that is not delivered yet, and rejected input.

use std::path::PathBuf;

use super::super::declare::{choice, section};
use super::super::kind::{File, Size};

section! {
    /// `queue`
    pub(crate) struct QueueConfig {
        /// Medium: `disk` survives restarts and crashes, `memory` is lost when the process ends.
        storage: Storage = Storage::Disk;
        /// Directory of the on-disk queue and of the rejected-lines file; one relay per directory.
        directory: File = PathBuf::from("spanrelay-data");
        /// Capacity. When it is reached, requests are rejected with 503 and `Retry-After`. Should be at least
        /// `server.max_request_body_size`, or the largest bodies never fit.
        max_size: Size = 1 << 30;
        /// Sync to disk, which protects from power loss: `always` (before the response), `interval` (every 500 ms) or `never` (as
        /// the system decides).
        sync: Sync = Sync::Always;
        /// Maximum size of `rejected.ndjson`. Further rejects are only counted and logged, until the file is moved away.
        rejected_max_size: Size = 1 << 30;
    }
}

choice! {
    /// `queue.storage`
    pub(crate) enum Storage {
        Disk = "disk",
        Memory = "memory",
    }
}

choice! {
    /// `queue.sync`
    pub(crate) enum Sync {
        Always = "always",
        Interval = "interval",
        Never = "never",
    }
}
