//! `queue.storage: disk`: what was taken survives the process.
//!
//! A record is written before its sender gets a 2xx, and removed when its last receipt is settled. Meanwhile it goes on
//! in memory, as long as there is room for it there; what there is no room for is left on disk and read again in its
//! turn, oldest first, as is everything that an earlier process left behind. So an outage of the downstream costs disk
//! and not memory.
//!
//! In the directory:
//!
//! | file | what |
//! |---|---|
//! | `queue.redb` | the [`store`]: ids to [records](record) |
//! | `queue.lock` | held by the process that owns the directory |
//! | `queue.reserve` | [space](reserve) that is given up when the disk is full |
//! | `queue.redb.damaged-…`, `record.damaged-…` | what could not be read, set aside |

mod open;

mod shared;

mod backlog;

mod file;

mod record;

mod reserve;

mod store;

mod writer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use self::backlog::Backlog;
use self::open::{lock, open_or_set_aside};
use self::reserve::Reserve;
use self::shared::{Live, ReadFailure, Reservation, Shared, State};
use self::store::StoreFile;
use self::writer::{Command, Writer};
use super::{OfferError, Offered, QueueState, Record, Stored};
use crate::config::QueueConfig;
use crate::telemetry::Metrics;

pub(crate) use open::OpenError;
#[cfg(any(test, feature = "internals"))]
pub(crate) use record::{decode as decode_record, encode as encode_record};

const STORE: &str = "queue.redb";
const RESERVE: &str = "queue.reserve";

/// Compressing more than this takes so long that other requests would notice.
const ENCODE_IN_PLACE_BYTES: usize = 64 * 1024;
/// Between tries to read a record that the disk did not give.
const REREAD_DELAY: Duration = Duration::from_secs(1);

/// A queue in a directory of its own.
pub(crate) struct DiskQueue {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the queue: the lock goes with it.
    _lock: File,
}

// === impl DiskQueue ===

impl DiskQueue {
    /// Opens the queue in its directory, with whatever an earlier process left there. Reads through all of it.
    pub(crate) fn open(config: &QueueConfig, memory_bytes: u64, metrics: Metrics) -> Result<Self, OpenError> {
        let directory = &config.directory;
        let unusable = |source| OpenError::Directory { directory: directory.clone(), source };
        fs::create_dir_all(directory).map_err(unusable)?;
        let lock = lock(directory).map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { directory: directory.clone() },
            TryLockError::Error(source) => unusable(source),
        })?;
        let file = StoreFile {
            path: directory.join(STORE),
            sync: config.sync,
            #[cfg(test)]
            faults: Arc::default(),
        };
        Self::open_store(file, lock, config, memory_bytes, metrics)
    }

    fn open_store(
        file: StoreFile,
        lock: File,
        config: &QueueConfig,
        memory_bytes: u64,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let (store, contents) = open_or_set_aside(&file, &metrics)?;
        let reserve = Reserve::new(config.directory.join(RESERVE));
        if let Err(error) = reserve.take() {
            warn!(%error, "there is no space for a reserve: a full disk will be harder to leave");
        }
        let next_id = contents.ids.last().map_or(0, |range| range.end);
        let (commands, incoming) = channel();
        let state =
            State { kept_bytes: contents.bytes, backlog: Backlog::new(contents.ids), ..State::default() };
        let shared = Arc::new(Shared {
            directory: config.directory.clone(),
            capacity_bytes: config.max_size,
            memory_bytes,
            metrics,
            first_id: next_id,
            state: Mutex::new(state),
            changed: Notify::new(),
            commands,
            store: RwLock::new(Some(store)),
        });
        let writer = Writer::new(file.clone(), Arc::clone(&shared), incoming, reserve, next_id);
        let thread =
            std::thread::Builder::new().name("queue".to_owned()).spawn(move || writer.run_to_its_end());
        let thread =
            thread.map_err(|source| OpenError::Store { file: file.path, reason: source.to_string() })?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)), _lock: lock })
    }

    /// Takes the record, if there is room for it. When this returns, it is as safe as `queue.sync` says.
    pub(crate) async fn offer(&self, record: Record) -> Result<Offered, OfferError> {
        let memory_bytes = record.body.len() as u64;
        let received = record.received;
        let stored = encode(record).await.map_err(|error| unwritable(&error.to_string()))?;
        let reservation = Reservation::new(&self.shared, stored.len() as u64)?;
        let (reply, answer) = oneshot::channel();
        let closed = || unwritable("it is closed");
        self.shared.commands.send(Command::Put { stored, reply }).map_err(|_| closed())?;
        let id = answer.await.map_err(|_| closed())?.map_err(|reason| OfferError::Unwritable { reason })?;
        let live = Live { stored_bytes: reservation.keep(), memory_bytes, received };
        Ok(self.shared.admit(id, live))
    }

    pub(crate) fn state(&self) -> QueueState {
        let state = self.shared.lock();
        let oldest = state.live.first_key_value().map(|(_, live)| live.received);
        let oldest = [oldest, state.backlog.since()].into_iter().flatten().min();
        QueueState {
            kept_bytes: state.kept_bytes,
            capacity_bytes: self.shared.capacity_bytes,
            oldest: oldest.and_then(|received| received.elapsed().ok()).unwrap_or_default(),
            failure: state.failure.clone(),
            full: state.full,
        }
    }

    /// Until a tenth of the queue is free, at the rate of late.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        let room = self.shared.capacity_bytes / 10;
        self.shared.lock().drain_rate.seconds_until(Instant::now(), room)
    }

    /// The next record that is on disk only, oldest first, once there is room for it in memory.
    pub(crate) async fn next_stored(&self) -> Stored {
        loop {
            let changed = self.shared.changed.notified();
            let Some(id) = self.shared.next_to_read() else {
                changed.await;
                continue;
            };
            let shared = Arc::clone(&self.shared);
            match spawn_blocking(move || shared.read(id)).await {
                Ok(Ok((stored, progress))) => {
                    if let Some(stored) = self.shared.revive(id, &stored, progress) {
                        return stored;
                    }
                }
                Ok(Err(ReadFailure::Unavailable)) => {
                    self.shared.put_back(id);
                    tokio::time::sleep(REREAD_DELAY).await;
                }
                Ok(Err(ReadFailure::Missing)) => {
                    error!(
                        record = id.0,
                        "a record is missing from the queue: it was lost with a failed disk"
                    );
                    self.shared.lock().in_transit.remove(&id);
                    self.shared.metrics.damaged_record();
                }
                // redb panics over some kinds of damage.
                Err(_) => self.shared.give_up(id, None, "reading it failed"),
            }
        }
    }

    /// Notes what is settled and closes the store.
    pub(crate) async fn close(&self) {
        // The other side may have ended already.
        drop(self.shared.commands.send(Command::Close));
        let writer = self.writer.lock().expect("nothing panics while it holds the lock").take();
        if let Some(writer) = writer
            && spawn_blocking(move || writer.join()).await.is_ok_and(|joined| joined.is_err())
        {
            error!("the writer of the queue has died");
        }
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        // Without `close` nothing waits for the writer; what is settled and not noted is delivered again.
        drop(self.shared.commands.send(Command::Close));
    }
}

async fn encode(record: Record) -> io::Result<Vec<u8>> {
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
