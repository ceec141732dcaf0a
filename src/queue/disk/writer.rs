//! The thread that writes the log: it groups many requests into one commit with one sync.
//!
//! In: [`WriterCommand`]s. Out: responses, each after the commit that holds its record.
//! Promises: a record is confirmed only by a commit that succeeded; after a failed commit, a new segment is begun
//! before anything else is written; while that fails, requests are rejected at once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Shared;
use super::log::{CommitBatch, Log, LogError};
use super::notes::Noted;
use super::record::Encoded;
use crate::config::Sync;
use crate::event::RecordId;
use crate::queue::Tracker;

/// Longest delay before settled items are stored when no record is written. A longer one only means that more could be
/// delivered twice. After the same delay, a mark confirms the last records.
const NOTE_DELAY: Duration = Duration::from_millis(100);
/// Period of `queue.sync: interval`.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);
/// Delay between attempts to begin a segment after a failure.
const RECOVER_DELAY: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };
/// Largest commit: many requests share its sync, but the first of them does not wait for long.
const MAX_GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Number of settled records that are stored at once, without waiting for [`NOTE_DELAY`].
pub(super) const MAX_DONE: usize = 4096;

/// Request to the writer.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Writes a record and responds when it is safe, or with the failure.
    Put { record: Encoded, reply: CommitReply },
    /// There are [notes](super::notes) of what was settled.
    Noted,
    /// Stores what is settled and ends the thread.
    Close,
}

type CommitReply = oneshot::Sender<Result<RecordId, Arc<str>>>;

/// State of the writer thread.
pub(super) struct Writer {
    log: Log,
    sync: Sync,
    shared: Arc<Shared>,
    commands: Receiver<WriterCommand>,
    next_id: u64,
    schedule: Schedule,
    /// Records that are settled, and not yet stored as such.
    done: Vec<(u64, u64)>,
    /// Records with progress that is not yet stored.
    progress: BTreeMap<u64, Arc<Tracker>>,
    /// Size of the last commit that failed.
    wanted_bytes: u64,
}

/// Times at which the writer acts without a command.
#[derive(Debug, Default)]
struct Schedule {
    /// Store what is settled.
    note: Option<Instant>,
    /// Sync commits that were confirmed without a sync.
    sync: Option<Instant>,
    /// Write a mark that confirms the last records.
    mark: Option<Instant>,
    /// Begin a segment after a failure.
    recover: Option<Instant>,
    /// Move records out of the oldest segment.
    move_records: Option<Instant>,
}

/// Commands that one commit covers.
#[derive(Default)]
struct CommandGroup {
    records: Vec<(u64, Encoded)>,
    replies: Vec<CommitReply>,
    bytes: u64,
    closing: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        log: Log,
        sync: Sync,
        shared: Arc<Shared>,
        commands: Receiver<WriterCommand>,
        next_id: u64,
    ) -> Self {
        let (schedule, done, progress) = (Schedule::default(), Vec::new(), BTreeMap::new());
        let mut writer =
            Self { log, sync, shared, commands, next_id, schedule, done, progress, wanted_bytes: 0 };
        writer.begin();
        writer
    }

    /// Begins the first segment of this process. The queue can be read even when that fails.
    fn begin(&mut self) {
        match self.log.roll(0, self.next_id) {
            Ok(()) => self.free_segments(),
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// Runs until the queue is closed or dropped. When it panics, requests are rejected and the health check fails; the
    /// records stay for the next process.
    pub(super) fn run_to_its_end(self) {
        let shared = Arc::clone(&self.shared);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            shared.set_failure(Some("the writer thread panicked; restart the relay".into()));
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
        if let Err(error) = self.log.close() {
            warn!(%error, "closing the queue failed; the next start closes it");
        }
        // Puts that are still in the channel find their reply dropped, which means that the queue is closed.
    }

    /// Waits for a command and takes all that are available.
    fn next_group(&mut self) -> CommandGroup {
        let mut group = CommandGroup::default();
        let next = match self.schedule.next() {
            Some(due) => self.commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => self.commands.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(command) => self.sort(command, &mut group),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => group.closing = true,
        }
        while group.bytes < MAX_GROUP_BYTES && !group.closing {
            match self.commands.try_recv() {
                Ok(command) => self.sort(command, &mut group),
                Err(_) => break,
            }
        }
        group
    }

    fn sort(&mut self, command: WriterCommand, group: &mut CommandGroup) {
        match command {
            WriterCommand::Put { record, reply } => {
                group.bytes += record.frame_bytes();
                group.records.push((self.next_id, record));
                group.replies.push(reply);
                self.next_id += 1;
            }
            WriterCommand::Noted => self.note_soon(),
            WriterCommand::Close => group.closing = true,
        }
    }

    fn note_soon(&mut self) {
        self.schedule.note.get_or_insert_with(|| Instant::now() + NOTE_DELAY);
    }

    /// Commits the group if there is anything to commit, and sends the responses.
    fn write(&mut self, mut group: CommandGroup) {
        if let Some(failure) = self.shared.failure()
            && !group.records.is_empty()
        {
            // Not even tried: the sender keeps its data and retries.
            return group.reject(&failure);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        let many = self.shared.notes.are_many() && self.shared.failure().is_none();
        let note = group.closing || due(self.schedule.note) || many;
        let sync = group.closing || due(self.schedule.sync);
        let mark = due(self.schedule.mark);
        if group.records.is_empty() && !note && !sync && !mark {
            return;
        }
        if !self.log.is_open() {
            // Stored once a new segment is begun. Entries that stay due until then would make the thread spin.
            self.schedule = Schedule { recover: self.schedule.recover, ..Schedule::default() };
            return group.reject(&Arc::from("the queue is not open"));
        }
        match self.commit(&mut group, sync, mark) {
            Ok(()) => group.confirm(&self.shared),
            Err(error) => {
                self.wanted_bytes = group.bytes;
                let reason = self.fail(&error);
                group.reject(&reason);
            }
        }
    }

    fn commit(&mut self, group: &mut CommandGroup, sync: bool, mark: bool) -> Result<(), LogError> {
        self.take_notes();
        let mut batch = CommitBatch {
            records: std::mem::take(&mut group.records),
            progress: self.progress(),
            done: std::mem::take(&mut self.done),
            mark,
        };
        let sync = sync || self.sync == Sync::Always;
        // Smaller ids belong to older segments.
        let first_free_id = batch.records.first().map_or(self.next_id, |(id, _)| *id);
        let committed = match batch.is_empty() {
            true => self.log.sync(),
            false => self.log.commit(&mut batch, sync, first_free_id),
        };
        if let Err(error) = committed {
            self.done = batch.done;
            return Err(error);
        }
        self.progress.clear();
        self.schedule.note = None;
        self.schedule.mark = match batch.records.is_empty() {
            true => None,
            false => Some(Instant::now() + NOTE_DELAY),
        };
        self.schedule.sync = match sync || self.sync == Sync::Never {
            true => None,
            false => self.schedule.sync.or(Some(Instant::now() + SYNC_INTERVAL)),
        };
        if !batch.done.is_empty() {
            self.free_segments();
        }
        group.records = batch.records;
        Ok(())
    }

    /// Takes what was settled since the last commit.
    fn take_notes(&mut self) {
        let Noted { mut done, mut progress, .. } = self.shared.notes.take();
        done.iter().for_each(|(id, _)| drop(self.progress.remove(id)));
        self.done.append(&mut done);
        self.progress.append(&mut progress);
    }

    /// Returns the current progress of records that are not acknowledged.
    fn progress(&self) -> Vec<(u64, Vec<u8>)> {
        let progress = self.progress.iter();
        progress.filter_map(|(id, tracker)| tracker.encode().map(|bytes| (*id, bytes))).collect()
    }

    fn free_segments(&mut self) {
        if let Err(error) = self.log.free_segments() {
            warn!(%error, "removing settled queue segments failed");
        }
        self.schedule.move_records = self.log.wants_to_move().then(Instant::now);
    }

    /// Stops writing after a failed operation, until a new segment is begun. Returns the reason.
    fn fail(&mut self, error: &LogError) -> Arc<str> {
        let reason: Arc<str> = error.to_string().into();
        if self.shared.failure().is_none() {
            error!(reason = %reason, "queue write failed; rejecting requests until writes succeed");
        }
        self.shared.set_failure(Some(Arc::clone(&reason)));
        let now = Instant::now();
        let note = self.schedule.note.map(|_| now + RECOVER_DELAY);
        let recover = self.schedule.recover.or(Some(now));
        self.schedule = Schedule { note, recover, ..Schedule::default() };
        reason
    }

    /// Performs scheduled work other than commits.
    fn keep_up(&mut self) {
        let now = Instant::now();
        if self.schedule.recover.is_some_and(|at| at <= now) {
            self.schedule.recover = self.recover().err().map(|error| {
                self.shared.set_failure(Some(error.to_string().into()));
                Instant::now() + RECOVER_DELAY
            });
            if self.schedule.recover.is_none() {
                self.wanted_bytes = 0;
                self.shared.set_failure(None);
                info!("queue writes succeed again");
            }
        }
        if self.schedule.move_records.is_some_and(|at| at <= now) {
            self.schedule.move_records = None;
            let moved = self.log.move_some(|id| self.shared.knows(RecordId(id)), self.next_id);
            match moved {
                Ok(()) => self.free_segments(),
                Err(error) => drop(self.fail(&error)),
            }
        }
    }

    /// Begins a segment after a failure and stores what was settled meanwhile.
    fn recover(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.log.roll(self.wanted_bytes, self.next_id) {
            let settled = self.shared.kept_bytes() == 0 && matches!(error, LogError::DiskFull);
            if !settled {
                return Err(error);
            }
            // The queue itself may fill the disk, with segments that have no open records.
            self.log.clear()?;
            self.take_notes();
            self.done.clear();
            self.log.roll(self.wanted_bytes, self.next_id)?;
        }
        self.commit(&mut CommandGroup::default(), true, false)
    }
}

// === impl Schedule ===

impl Schedule {
    fn next(&self) -> Option<Instant> {
        [self.note, self.sync, self.mark, self.recover, self.move_records].into_iter().flatten().min()
    }
}

// === impl CommandGroup ===

impl CommandGroup {
    fn confirm(self, shared: &Shared) {
        for ((id, record), reply) in self.records.into_iter().zip(self.replies) {
            // First: the caller may be slow to insert the record, and until then nothing else knows it.
            shared.confirmed(RecordId(id), record.received());
            // The caller may be gone; the record is in the log all the same, and the next start finds it.
            drop(reply.send(Ok(RecordId(id))));
        }
    }

    fn reject(self, reason: &Arc<str>) {
        for reply in self.replies {
            drop(reply.send(Err(Arc::clone(reason))));
        }
    }
}
