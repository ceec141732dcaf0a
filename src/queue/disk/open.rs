//! Reasons why a queue cannot be opened.

use std::io;
use std::path::PathBuf;

/// The reason why a queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("queue.directory {directory:?} cannot be used")]
    Directory { directory: PathBuf, source: io::Error },
    #[error(
        "queue.directory {directory:?} is a file; name a directory, which is created if it does not exist"
    )]
    NotADirectory { directory: PathBuf },
    #[error("queue.directory {directory:?} is in use by another process; each relay needs one of its own")]
    InUse { directory: PathBuf },
    #[error(
        "{file:?} was written by a newer version of spanrelay; start that version, or set another queue.directory"
    )]
    Newer { file: PathBuf },
    #[error(
        "{file:?} is the queue of version 0.1, which this version cannot read; run version 0.1 until its queue is empty, or move the file away"
    )]
    VersionOne { file: PathBuf },
    #[error("queue.storage: this program was built without Kafka")]
    WithoutKafka,
    #[error("{file:?} cannot be opened: {reason}")]
    Store { file: PathBuf, reason: String },
}
