//! The queue of `queue.storage: disk`: accepted records survive the process.
//!
//! A record is written before its sender gets a 2xx, and removed when its last receipt is settled. Meanwhile it is
//! processed from memory, as long as there is memory for it. Other records stay on disk only and are read later, oldest
//! first, as are all records of an earlier process. So an outage of the downstream costs disk and not memory.
//!
//! In the directory:
//!
//! | file | what |
//! |---|---|
//! | `segment-….log` | the [`log`]: [segments](segment) of [frames](frame) that hold [records](record) |
//! | `segment-….new` | a segment in preparation |
//! | `newest-…` | empty; its name has the number of the newest segment, so that a start notices when that is gone |
//! | `queue.lock` | locked by the process that owns the directory |
//! | `segment-….log.damaged-…`, `record.damaged-…` | unreadable data, set aside |
//!
//! The directory and its files are accessible only to their owner.

mod open;

mod shared;

mod writer;

mod notes;

mod log;

mod recovery;

mod segment;

mod frame;

mod record;

mod index;

mod backlog;

mod files;

use std::fs::TryLockError;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tracing::error;

use self::backlog::Backlog;
use self::files::{Directory, Files};
use self::index::RecordReader;
use self::log::Log;
use self::notes::Notes;
use self::record::Encoded;
use self::shared::{Live, LogState, Reservation, Shared};
use self::writer::{Writer, WriterCommand};
use super::{MemoryLimits, OfferError, Offered, Record, Stored};
use crate::config::QueueConfig;
use crate::event::QueueState;
use crate::telemetry::Metrics;

pub(crate) use open::OpenError;
pub use record::{decode_frame, encode_frame};

/// Largest body that is compressed in place: compressing more takes so long that it would delay other requests.
const ENCODE_IN_PLACE_BYTES: usize = 64 * 1024;
/// Delay before the next attempt to read a record after a read error.
const REREAD_DELAY: Duration = Duration::from_secs(1);

/// A queue in a directory of its own.
pub(crate) struct DiskQueue {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

// === impl DiskQueue ===

impl DiskQueue {
    /// Opens the queue in its directory, including the records of an earlier process. Reads through all of it.
    pub(crate) fn open(
        config: &QueueConfig,
        memory: MemoryLimits,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let directory = Directory::new(&config.directory);
        match directory.claim() {
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { directory: config.directory.clone() });
            }
            // The first start on a full disk: there is nothing to read, and the writer tries again.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(TryLockError::Error(_)) if config.directory.is_file() => {
                return Err(OpenError::NotADirectory { directory: config.directory.clone() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Directory { directory: config.directory.clone(), source });
            }
            Ok(()) => {}
        }
        Self::open_files(Arc::new(directory), config, memory, metrics)
    }

    fn open_files(
        files: Arc<dyn Files>,
        config: &QueueConfig,
        memory: MemoryLimits,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let mut recovered = recovery::recover(&*files, &config.directory, config.sync, &metrics)?;
        let (next_id, kept_bytes) = (recovered.next_id, recovered.bytes);
        let backlog = Backlog::new(std::mem::take(&mut recovered.ids).into_vec(), recovered.since);
        let log = Log::new(Arc::clone(&files), config.sync, config.max_size, recovered);
        let (commands, incoming) = channel();
        let shared = Arc::new(Shared {
            reader: RecordReader::new(Arc::clone(&files), log.index()),
            files,
            capacity_bytes: config.max_size,
            memory,
            metrics,
            first_id: next_id,
            state: Mutex::new(LogState { kept_bytes, backlog, ..LogState::default() }),
            changed: Notify::new(),
            notes: Notes::default(),
            commands,
        });
        let writer = Writer::new(log, config.sync, Arc::clone(&shared), incoming, next_id);
        let thread =
            std::thread::Builder::new().name("queue".to_owned()).spawn(move || writer.run_to_its_end());
        let failed = |source| OpenError::Directory { directory: config.directory.clone(), source };
        Ok(Self { shared, writer: Mutex::new(Some(thread.map_err(failed)?)) })
    }

    /// Accepts the record if there is room for it. Once this returns, the record is as safe as `queue.sync` says.
    pub(crate) async fn offer(&self, record: Record) -> Result<Offered, OfferError> {
        let memory_bytes = record.body.len() as u64;
        let received = record.received;
        let record = encode(record).await.map_err(|error| unwritable(&error.to_string()))?;
        let reservation = Reservation::new(&self.shared, record.payload_bytes())?;
        let (reply, answer) = oneshot::channel();
        let closed = || unwritable("the queue is closed");
        self.shared.commands.send(WriterCommand::Put { record, reply }).map_err(|_| closed())?;
        let id = answer.await.map_err(|_| closed())?.map_err(|reason| OfferError::Unwritable { reason })?;
        let live = Live { stored_bytes: reservation.keep(), memory_bytes, received, is_idle: false };
        Ok(self.shared.admit(id, live))
    }

    pub(crate) fn state(&self) -> QueueState {
        let state = self.shared.lock();
        QueueState {
            kept_bytes: state.kept_bytes,
            capacity_bytes: self.shared.capacity_bytes,
            oldest: state.since().and_then(|received| received.elapsed().ok()).unwrap_or_default(),
            failure: state.failure.clone(),
            full: state.full,
        }
    }

    /// Returns the time until a tenth of the queue is free, at the recent drain rate.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        let room = self.shared.capacity_bytes / 10;
        self.shared.lock().drain_rate.seconds_until(Instant::now(), room)
    }

    /// Returns the next record that is only on disk, oldest first, once there is memory for it.
    pub(crate) async fn next_stored(&self) -> Stored {
        loop {
            let changed = self.shared.changed.notified();
            let Some(id) = self.shared.next_to_read() else {
                changed.await;
                continue;
            };
            let shared = Arc::clone(&self.shared);
            match spawn_blocking(move || shared.read(id)).await {
                Ok(Ok(Some(stored))) => return stored,
                Ok(Ok(None)) => {}
                Ok(Err(_)) => {
                    self.shared.put_back(id);
                    tokio::time::sleep(REREAD_DELAY).await;
                }
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        }
    }

    /// Notes the memory of held spans and log records, in bytes.
    pub(crate) fn holds(&self, bytes: u64) {
        self.shared.holds(bytes);
    }

    /// Stores what is settled and closes the log.
    pub(crate) async fn close(&self) {
        // The writer may have ended already.
        drop(self.shared.commands.send(WriterCommand::Close));
        let writer = self.writer.lock().expect("nothing panics while it holds the lock").take();
        if let Some(writer) = writer
            && spawn_blocking(move || writer.join()).await.is_ok_and(|joined| joined.is_err())
        {
            error!("queue writer panicked");
        }
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        // Without `close` nothing waits for the writer; what is settled and not yet stored is delivered again.
        drop(self.shared.commands.send(WriterCommand::Close));
    }
}

async fn encode(record: Record) -> io::Result<Encoded> {
    if record.body.len() <= ENCODE_IN_PLACE_BYTES {
        return record::encode(&record);
    }
    match spawn_blocking(move || record::encode(&record)).await {
        Ok(encoded) => encoded,
        Err(failure) => Err(io::Error::other(failure)),
    }
}

fn unwritable(reason: &str) -> OfferError {
    OfferError::Unwritable { reason: reason.into() }
}

#[cfg(test)]
mod tests;
