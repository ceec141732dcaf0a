//! The one thread that writes: many requests per commit, and one sync for all who wait.
//!
//! In: [`Command`]s. Out: replies, each after the commit that its record is in.
//! Promises: a record is confirmed only by a commit that succeeded; after a failed one the store is opened anew before
//! anything else is tried, since nobody knows what of it is on disk; while that fails, senders are told so at once.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Shared;
use super::reserve::{self, Reserve};
use super::store::{Commit, Store, StoreError, StoreFile};
use crate::config::Sync;
use crate::queue::{RecordId, Tracker};

/// How long what is done may wait to be noted, when nothing is written anyway. It only means that more could be
/// delivered twice.
const NOTE_DELAY: Duration = Duration::from_millis(100);
/// `queue.sync: interval`
const SYNC_INTERVAL: Duration = Duration::from_millis(500);
/// Between tries to open a store that failed.
const REOPEN_DELAY: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };
/// An empty queue is compacted when nothing has happened for so long.
const IDLE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(1) };
/// Compacting a file that is not larger than this gains nothing.
const SMALL_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// One commit: enough to share a sync among all who wait, not so much that the first of them waits for long.
const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Ids that one commit removes at most.
const MAX_DONE: usize = 4096;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a record and say when it is safe, or why it is not.
    Put { stored: Vec<u8>, reply: Reply },
    /// The record is settled.
    Done(RecordId),
    /// Items of the record are settled.
    Progress(RecordId, Arc<Tracker>),
    /// Note what is settled and end.
    Close,
}

type Reply = oneshot::Sender<Result<RecordId, Arc<str>>>;

/// What the thread knows.
pub(super) struct Writer {
    file: StoreFile,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    reserve: Reserve,
    next_id: u64,
    schedule: Schedule,
    /// Settled, and not yet noted.
    done: Vec<u64>,
    /// Partly settled, and not yet noted.
    progress: BTreeMap<u64, Arc<Tracker>>,
}

/// When something is to be done without being asked.
#[derive(Debug, Default)]
struct Schedule {
    /// Note what is settled.
    note: Option<Instant>,
    /// Make visible commits durable.
    sync: Option<Instant>,
    /// Try to open the store again, or to take the reserve again.
    recover: Option<Instant>,
    /// Look whether space can be given back.
    compact: Option<Instant>,
}

/// The commands that one commit answers.
#[derive(Default)]
struct Group {
    records: Vec<(u64, Vec<u8>)>,
    replies: Vec<Reply>,
    bytes: usize,
    closing: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        file: StoreFile,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        reserve: Reserve,
        next_id: u64,
    ) -> Self {
        let schedule = Schedule { compact: Some(Instant::now() + IDLE), ..Schedule::default() };
        Self {
            file,
            shared,
            commands,
            reserve,
            next_id,
            schedule,
            done: Vec::new(),
            progress: BTreeMap::new(),
        }
    }

    /// Runs until it is told to close, or nobody is left who could. Should it panic, as redb does over some kinds of
    /// damage, senders and probes are told: what is kept stays for the next process.
    pub(super) fn run_to_its_end(self) {
        let shared = Arc::clone(&self.shared);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            shared.set_failure(Some("its writer has died, only a restart helps".into()));
            // Its locks are poisoned: closing it would panic again.
            std::mem::forget(shared.replace_store(None));
            resume_unwind(panic);
        }
    }

    fn run(mut self) {
        loop {
            let group = self.next_group();
            let closing = group.closing;
            self.write(group);
            if closing {
                break;
            }
            self.keep_up();
        }
        // Whatever else is in the channel finds its reply dropped, which says that the queue is closed.
        self.shared.replace_store(None);
    }

    /// Waits for commands and takes all that are there.
    fn next_group(&mut self) -> Group {
        let mut group = Group::default();
        let next = match self.schedule.next() {
            Some(due) => self.commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => self.commands.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(command) => self.sort(command, &mut group),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => group.closing = true,
        }
        while group.bytes < MAX_GROUP_BYTES && self.done.len() < MAX_DONE && !group.closing {
            match self.commands.try_recv() {
                Ok(command) => self.sort(command, &mut group),
                Err(_) => break,
            }
        }
        group
    }

    fn sort(&mut self, command: Command, group: &mut Group) {
        match command {
            Command::Put { stored, reply } => {
                group.bytes += stored.len();
                group.records.push((self.next_id, stored));
                group.replies.push(reply);
                self.next_id += 1;
            }
            Command::Done(id) => {
                self.done.push(id.0);
                self.note_soon();
            }
            Command::Progress(id, progress) => {
                self.progress.insert(id.0, progress);
                self.note_soon();
            }
            Command::Close => group.closing = true,
        }
    }

    fn note_soon(&mut self) {
        self.schedule.note.get_or_insert_with(|| Instant::now() + NOTE_DELAY);
    }

    /// One commit, if there is anything to commit, and the replies.
    fn write(&mut self, group: Group) {
        if let Some(failure) = self.shared.failure()
            && !group.records.is_empty()
        {
            // Not even tried: the sender keeps its data and comes again.
            return group.refuse(&failure);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        let note = group.closing || due(self.schedule.note) || self.done.len() >= MAX_DONE;
        let sync = group.closing || due(self.schedule.sync);
        if group.records.is_empty() && !note && !sync {
            return;
        }
        let commit = match self.file.sync {
            Sync::Interval if !sync => Commit::Visible,
            _ => Commit::Durable,
        };
        let result = match &*self.shared.read_store() {
            Some(store) => {
                let progress = self.progress();
                store.commit(&group.records, &progress, &self.done, commit).map_err(StoreError::from)
            }
            None => {
                // To be opened anew, and that notes what is settled. What stayed due until then would spin.
                self.schedule.note = None;
                return group.refuse(&Arc::from("the queue is not open"));
            }
        };
        match result {
            Ok(()) => {
                self.noted();
                self.schedule.sync = match commit {
                    Commit::Durable => None,
                    Commit::Visible => self.schedule.sync.or(Some(Instant::now() + SYNC_INTERVAL)),
                };
                self.schedule.compact = Some(Instant::now() + IDLE);
                group.confirm(&self.shared);
            }
            Err(error) => {
                let reason = self.fail(&error);
                group.refuse(&reason);
            }
        }
    }

    /// The store did not take it. What of the commit is on disk nobody knows: it is opened anew.
    fn fail(&mut self, error: &StoreError) -> Arc<str> {
        let reason: Arc<str> = error.to_string().into();
        error!(reason = %reason, "the queue cannot write; senders are told to come again until it can");
        if matches!(error, StoreError::DiskFull) {
            self.reserve.release();
        }
        self.shared.set_failure(Some(Arc::clone(&reason)));
        self.shared.replace_store(None);
        self.schedule =
            Schedule { recover: Some(Instant::now()), note: self.schedule.note, ..Schedule::default() };
        reason
    }

    /// What is to be done without being asked, besides committing.
    fn keep_up(&mut self) {
        let now = Instant::now();
        if self.schedule.recover.is_some_and(|at| at <= now) {
            self.schedule.recover = self.recover().err().map(|error| {
                self.shared.set_failure(Some(error.to_string().into()));
                Instant::now() + REOPEN_DELAY
            });
            if self.schedule.recover.is_none() {
                self.shared.set_failure(None);
                info!("the queue can write again");
            }
        }
        if self.schedule.compact.is_some_and(|at| at <= now) {
            self.schedule.compact = None;
            self.compact();
        }
    }

    /// Opens the store after a failure, notes what was settled meanwhile, and takes the reserve again.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.shared.read_store().is_none() {
            let store = self.file.open()?;
            self.done.extend(self.strangers(&store)?);
            store.commit(&[], &self.progress(), &self.done, Commit::Durable)?;
            self.noted();
            self.shared.replace_store(Some(store));
        } else if !self.done.is_empty() {
            self.note_done()?;
        }
        let mut taken = self.take_reserve();
        if taken.is_err() && self.is_empty() {
            // It may be the store itself that fills the disk, with pages that are free.
            self.shrink();
            taken = self.take_reserve();
        }
        Ok(taken?)
    }

    fn take_reserve(&self) -> io::Result<()> {
        match self.has_room_inside() {
            true => self.reserve.take(),
            false => self.reserve.take_with_room(),
        }
    }

    /// Whether so much was delivered that there is room where it was. A record takes up to twice its size there.
    fn has_room_inside(&self) -> bool {
        let kept_bytes = self.shared.kept_bytes();
        let store = self.shared.read_store();
        store.as_ref().is_some_and(|store| store.allocated_bytes() / 2 >= kept_bytes + reserve::BYTES as u64)
    }

    fn note_done(&mut self) -> Result<(), StoreError> {
        if let Some(store) = &*self.shared.read_store() {
            store.commit(&[], &self.progress(), &self.done, Commit::Durable)?;
        }
        self.noted();
        Ok(())
    }

    /// The progress of records that are not acknowledged, as it is now.
    fn progress(&self) -> Vec<(u64, Vec<u8>)> {
        let progress = self.progress.iter();
        progress.filter_map(|(id, tracker)| tracker.encode().map(|bytes| (*id, bytes))).collect()
    }

    /// All that is settled is in the store.
    fn noted(&mut self) {
        self.done.clear();
        self.progress.clear();
        self.schedule.note = None;
    }

    /// Records in the store that were never confirmed: a commit that was reported as failed had reached the disk. Their
    /// senders were told to come again.
    fn strangers(&self, store: &Store) -> Result<Vec<u64>, StoreError> {
        let contents = store.contents()?;
        Ok(contents.ids.into_iter().flatten().filter(|id| !self.shared.knows(RecordId(*id))).collect())
    }

    fn is_empty(&self) -> bool {
        self.shared.kept_bytes() == 0 && self.done.is_empty()
    }

    /// Gives the disk back what an empty queue takes of it.
    fn compact(&mut self) {
        let large =
            self.shared.read_store().as_ref().is_some_and(|store| store.file_bytes() > SMALL_FILE_BYTES);
        if large && self.is_empty() {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        // Compacting needs the store for itself: readers wait at the lock.
        let Some(mut store) = self.shared.replace_store(None) else { return };
        if let Err(error) = store.compact() {
            warn!(reason = %StoreError::from(error), "the queue file could not be made smaller");
        }
        self.shared.replace_store(Some(store));
    }
}

// === impl Schedule ===

impl Schedule {
    fn next(&self) -> Option<Instant> {
        [self.note, self.sync, self.recover, self.compact].into_iter().flatten().min()
    }
}

// === impl Group ===

impl Group {
    fn confirm(self, shared: &Shared) {
        for ((id, _), reply) in self.records.into_iter().zip(self.replies) {
            // First: whoever asked may be slow to take it over, and until then nobody else knows it.
            shared.confirmed(RecordId(id));
            // Whoever asked may be gone; the record is in the store all the same, and the next start finds it.
            drop(reply.send(Ok(RecordId(id))));
        }
    }

    fn refuse(self, reason: &Arc<str>) {
        for reply in self.replies {
            drop(reply.send(Err(Arc::clone(reason))));
        }
    }
}
