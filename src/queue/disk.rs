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

mod backlog;

mod file;

mod record;

mod reserve;

mod store;

mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use self::backlog::Backlog;
use self::reserve::Reserve;
use self::store::{Contents, Store, StoreError, StoreFile};
use self::writer::{Command, Writer};
use super::drain_rate::DrainRate;
use super::{Ledger, OfferError, Offered, QueueState, Record, RecordId, Settled, Taken};
use crate::config::QueueConfig;
use crate::otlp::Signal;
use crate::telemetry::Metrics;

const STORE: &str = "queue.redb";
const LOCK: &str = "queue.lock";
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

/// A record that was read from disk.
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) taken: Taken,
    pub(crate) origin: Origin,
}

/// Who wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    EarlierProcess,
    ThisProcess,
}

/// Why the queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("queue.directory {directory:?} cannot be used")]
    Directory { directory: PathBuf, source: io::Error },
    #[error("queue.directory {directory:?} is in use by another process; each relay needs one of its own")]
    InUse { directory: PathBuf },
    #[error(
        "{file:?} was written by a newer version of spanrelay; start that version, or name another queue.directory"
    )]
    Newer { file: PathBuf },
    #[error("{file:?} cannot be opened: {reason}")]
    Store { file: PathBuf, reason: String },
}

/// What the front door, the feeder and the writer share.
struct Shared {
    directory: PathBuf,
    capacity_bytes: u64,
    /// Of bodies in memory.
    memory_bytes: u64,
    metrics: Metrics,
    /// Of this process; smaller ids were written by earlier ones.
    first_id: u64,
    state: Mutex<State>,
    /// There is room in memory, or something to read.
    changed: Notify,
    /// Needs no bound: every put is a request that waits for its reply, every other one a record that is kept.
    commands: Sender<Command>,
    /// `None` while it is opened anew or compacted.
    store: RwLock<Option<Store>>,
}

#[derive(Default)]
struct State {
    /// Stored and promised: an offer counts from before it is written.
    kept_bytes: u64,
    live: BTreeMap<RecordId, Live>,
    live_bytes: u64,
    backlog: Backlog,
    /// Left for the next start.
    parked: BTreeSet<RecordId>,
    /// Neither live nor in the backlog for the moment: confirmed by the writer and not yet seen by who offered it, or
    /// being read.
    in_transit: BTreeSet<RecordId>,
    drain_rate: DrainRate,
    failure: Option<Arc<str>>,
    /// A record found no room, and nothing has left since.
    full: bool,
}

/// A record that is on its way in memory.
struct Live {
    stored_bytes: u64,
    memory_bytes: u64,
    received: SystemTime,
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
                Ok(Ok(stored)) => {
                    if let Some(stored) = self.shared.revive(id, &stored) {
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

/// Bytes of the queue that an offer has taken, and gives back when it comes to nothing.
struct Reservation<'a> {
    shared: &'a Shared,
    bytes: u64,
}

// === impl Reservation ===

impl<'a> Reservation<'a> {
    fn new(shared: &'a Shared, bytes: u64) -> Result<Self, OfferError> {
        let capacity_bytes = shared.capacity_bytes;
        if bytes > capacity_bytes {
            return Err(OfferError::NeverFits { record_bytes: bytes, capacity_bytes });
        }
        let mut state = shared.lock();
        if let Some(reason) = &state.failure {
            return Err(OfferError::Unwritable { reason: Arc::clone(reason) });
        }
        if bytes > capacity_bytes.saturating_sub(state.kept_bytes) {
            state.full = true;
            return Err(OfferError::Full { kept_bytes: state.kept_bytes, capacity_bytes });
        }
        state.kept_bytes += bytes;
        Ok(Self { shared, bytes })
    }

    /// The record is written: its bytes are given back when it is acknowledged.
    fn keep(mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.lock().kept_bytes -= self.bytes;
        }
    }
}

/// Why a record could not be read.
enum ReadFailure {
    /// It may be there later.
    Unavailable,
    Missing,
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.lock().failure.clone()
    }

    fn set_failure(&self, failure: Option<Arc<str>>) {
        self.lock().failure = failure;
        self.changed.notify_one();
    }

    fn kept_bytes(&self) -> u64 {
        self.lock().kept_bytes
    }

    /// Whether the record was confirmed to its sender and is not settled.
    fn knows(&self, id: RecordId) -> bool {
        let state = self.lock();
        state.live.contains_key(&id)
            || state.parked.contains(&id)
            || state.in_transit.contains(&id)
            || state.backlog.contains(id.0)
    }

    /// A record is safe; its sender is about to be told.
    fn confirmed(&self, id: RecordId) {
        self.lock().in_transit.insert(id);
    }

    /// A record could not be read now; it stays first.
    fn put_back(&self, id: RecordId) {
        let mut state = self.lock();
        state.in_transit.remove(&id);
        state.backlog.put_back(id.0);
    }

    fn read_store(&self) -> RwLockReadGuard<'_, Option<Store>> {
        self.store.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn replace_store(&self, store: Option<Store>) -> Option<Store> {
        let mut current = self.store.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *current, store)
    }

    /// A record that was just written: it goes on in memory if there is room.
    fn admit(self: &Arc<Self>, id: RecordId, live: Live) -> Offered {
        let mut state = self.lock();
        // With older ones waiting on disk, half of the memory is theirs, or new ones would always be first.
        let room = if state.backlog.is_empty() { self.memory_bytes } else { self.memory_bytes / 2 };
        if state.live_bytes < room {
            return Offered::Live(self.insert_live(&mut state, id, live));
        }
        state.in_transit.remove(&id);
        state.backlog.push(id.0, live.received);
        drop(state);
        self.changed.notify_one();
        Offered::Stored
    }

    fn insert_live(self: &Arc<Self>, state: &mut State, id: RecordId, live: Live) -> Taken {
        let stored_bytes = live.stored_bytes;
        state.live_bytes += live.memory_bytes;
        state.in_transit.remove(&id);
        state.live.insert(id, live);
        Taken::new(id, stored_bytes, Arc::clone(self) as Arc<dyn Ledger>)
    }

    fn next_to_read(&self) -> Option<RecordId> {
        let mut state = self.lock();
        if state.live_bytes >= self.memory_bytes {
            return None;
        }
        let id = state.backlog.pop().map(RecordId)?;
        state.in_transit.insert(id);
        Some(id)
    }

    fn read(&self, id: RecordId) -> Result<Vec<u8>, ReadFailure> {
        let store = self.read_store();
        let store = store.as_ref().ok_or(ReadFailure::Unavailable)?;
        match store.get(id.0) {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) => Err(ReadFailure::Missing),
            Err(error) => {
                warn!(record = id.0, reason = %StoreError::from(error), "a record could not be read");
                Err(ReadFailure::Unavailable)
            }
        }
    }

    fn revive(self: &Arc<Self>, id: RecordId, stored: &[u8]) -> Option<Stored> {
        match record::decode(stored) {
            Ok(record) => {
                let live = Live {
                    stored_bytes: stored.len() as u64,
                    memory_bytes: record.body.len() as u64,
                    received: record.received,
                };
                let mut state = self.lock();
                state.backlog.popped(record.received);
                let taken = self.insert_live(&mut state, id, live);
                let origin = match id.0 < self.first_id {
                    true => Origin::EarlierProcess,
                    false => Origin::ThisProcess,
                };
                Some(Stored { record, taken, origin })
            }
            Err(error) => {
                self.give_up(id, Some(stored), &crate::telemetry::logging::chain(&error).to_string());
                None
            }
        }
    }

    /// A record that cannot be read is set aside, where a person can look at it, so that it is not in the way.
    fn give_up(&self, id: RecordId, stored: Option<&[u8]>, reason: &str) {
        self.metrics.damaged_record();
        let file = self.directory.join(format!("record.damaged-{}", id.0));
        let bytes = stored.unwrap_or_default();
        let kept = stored.is_some_and(|stored| fs::write(&file, stored).is_ok());
        error!(record = id.0, reason, ?file, kept, "a record in the queue is damaged and was set aside");
        let mut state = self.lock();
        state.in_transit.remove(&id);
        if !kept {
            // There is no other copy: the next start may have more luck with it.
            state.parked.insert(id);
            return;
        }
        state.kept_bytes = state.kept_bytes.saturating_sub(bytes.len() as u64);
        drop(self.commands.send(Command::Done(id)));
    }
}

impl Ledger for Shared {
    fn settled(&self, signal: Signal, fate: Settled, items: u32) {
        self.metrics.settled(signal, fate, items);
    }

    fn acknowledge(&self, record: RecordId, bytes: u64) {
        let mut state = self.lock();
        if let Some(live) = state.live.remove(&record) {
            state.live_bytes -= live.memory_bytes;
        }
        state.kept_bytes -= bytes;
        state.full = false;
        state.drain_rate.released(Instant::now(), bytes);
        drop(state);
        // After `close` the writer is gone, and the record is delivered again.
        drop(self.commands.send(Command::Done(record)));
        self.changed.notify_one();
    }

    fn release(&self, record: RecordId, _bytes: u64) {
        // It stays on disk for the next start. Whatever it failed over now, it would fail over again at once.
        let mut state = self.lock();
        if let Some(live) = state.live.remove(&record) {
            state.live_bytes -= live.memory_bytes;
            state.parked.insert(record);
        }
        drop(state);
        self.changed.notify_one();
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

fn lock(directory: &Path) -> Result<File, TryLockError> {
    let file = File::options().write(true).create(true).truncate(false).open(directory.join(LOCK));
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Opens the store and reads through it. One that is damaged is set aside, loudly, and a new one begins.
fn open_or_set_aside(file: &StoreFile, metrics: &Metrics) -> Result<(Store, Contents), OpenError> {
    // redb takes an empty file for a new one.
    let emptied = fs::metadata(&file.path).is_ok_and(|metadata| metadata.len() == 0);
    let opened = match emptied {
        true => Err(StoreError::Damaged("it is empty".to_owned())),
        false => open_and_read(file),
    };
    let failed = |error: StoreError| match error {
        StoreError::Newer => OpenError::Newer { file: file.path.clone() },
        error => OpenError::Store { file: file.path.clone(), reason: error.to_string() },
    };
    let StoreError::Damaged(reason) = (match opened {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    }) else {
        return open_and_read(file).map_err(failed);
    };
    let aside = free_name(&file.path);
    fs::rename(&file.path, &aside).map_err(|source| failed(source.into()))?;
    metrics.damaged_file();
    error!(file = ?file.path, reason, set_aside = ?aside, "the queue file is damaged; what it held is not delivered");
    open_and_read(file).map_err(failed)
}

fn open_and_read(file: &StoreFile) -> Result<(Store, Contents), StoreError> {
    let store = file.open()?;
    let contents = store.contents()?;
    Ok((store, contents))
}

/// `queue.redb.damaged-1`, or the next number that is free.
fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    (1..).map(name).find(|name| !name.exists()).expect("there are more numbers than files")
}

#[cfg(test)]
mod tests;
