//! `queue`: accepted data that is not delivered yet, and rejected input.

use std::path::PathBuf;

use super::super::declare::{choice, section};
use super::super::kind::{File, Size};
use super::super::section::Section;
use super::kafka::{KafkaConfig, Role};

section! {
    /// `queue`
    pub(crate) struct QueueConfig => check {
        /// Medium: `disk` survives restarts and crashes, `memory` is lost when the process ends, `kafka` is shared by several
        /// relays (see `kafka`; part of the packages and the image of a release, and not of its archive).
        storage: Storage = Storage::Disk;
        /// Directory of the on-disk queue and of the rejected-lines file; one relay per directory.
        directory: File = PathBuf::from("spanrelay-data");
        /// Capacity. When it is reached, requests are rejected with 503 and `Retry-After`. Should be at least
        /// `server.max_request_body_size`, or the largest bodies never fit. With `storage: memory` at most half of
        /// `server.max_inflight_bytes`.
        max_size: Size = 1 << 30;
        /// Maximum size of the bodies that are kept in memory for their export, with `storage: disk`: all that an outage of the
        /// downstream takes there, the rest is read from the disk later. Held spans (`max_held_bytes`) come on top; both
        /// together take at most half of `server.max_inflight_bytes`.
        max_memory_bytes: Size = 64 << 20;
        /// Sync to disk, which protects from power loss: `always` (before the response), `interval` (every 500 ms) or `never` (as
        /// the system decides).
        sync: Sync = Sync::Always;
        /// Maximum size of `rejected.ndjson`. Further rejects are only counted and logged, until the file is moved away.
        rejected_max_size: Size = 1 << 30;
        /// Keeps the bytes of rejected input that cannot be parsed, and so cannot be scrubbed by `processors.attributes`. `false`
        /// keeps only its position, reason and length.
        keep_unparsed: bool = true, live;
        /// The shared queue, for `storage: kafka`. `max_size` and `sync` do not apply to it.
        kafka: Option<KafkaConfig>;
    }
}

choice! {
    /// `queue.storage`
    pub(crate) enum Storage {
        Disk = "disk",
        Memory = "memory",
        Kafka = "kafka",
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

// === impl QueueConfig ===

impl QueueConfig {
    /// Returns the settings of the shared queue, if it is the one in use.
    pub(crate) fn shared(&self) -> Option<&KafkaConfig> {
        self.kafka.as_ref().filter(|_| self.storage == Storage::Kafka)
    }

    /// Returns the part of this relay.
    pub(crate) fn role(&self) -> Role {
        self.shared().map_or(Role::Both, |kafka| kafka.role)
    }
}

fn check(queue: &mut QueueConfig, section: &Section<'_>) {
    if queue.storage != Storage::Kafka {
        if queue.kafka.is_some() {
            section.note("kafka is not used, because storage is not kafka");
        }
        return;
    }
    if queue.kafka.is_none() {
        section.problem_at("storage", "kafka needs the section queue.kafka with brokers");
    }
    if !cfg!(feature = "kafka") {
        section.problem_at(
            "storage",
            "this program was built without Kafka; use the Debian or RPM package or the image of a release, or build it with \
             --features kafka",
        );
    }
}
