//! The one thread that writes: many requests per commit, and one sync for all that wait.
//!
//! In: [`Command`]s. Out: responses, each after the commit that its record is in.
//! Promises: a record is confirmed only by a commit that succeeded; after a failed one a new segment is begun before
//! anything else is tried; while that fails, senders are told so at once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Shared;
use super::log::{Batch, Log, LogError};
use super::record::Encoded;
use crate::config::Sync;
use crate::event::RecordId;
use crate::queue::Tracker;

/// How long what is settled may wait to be noted, when nothing is written anyway. It only means that more could be
/// delivered twice. As long after the last record a mark vouches for it.
const NOTE_DELAY: Duration = Duration::from_millis(100);
/// `queue.sync: interval`
const SYNC_INTERVAL: Duration = Duration::from_millis(500);
/// Between attempts to begin a segment after a failure.
const RECOVER_DELAY: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };
/// One commit: enough to share a sync among all who wait, not so much that the first of them waits for long.
const MAX_GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Records that one commit settles at most.
const MAX_DONE: usize = 4096;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a record and say when it is safe, or why it is not.
    Put { record: Encoded, reply: Reply },
    /// Items of the record are settled.
    Progress(RecordId, Arc<Tracker>),
    /// The record is settled; `bytes` is its stored size.
    Done { id: RecordId, bytes: u64 },
    /// Note what is settled and end.
    Close,
}

type Reply = oneshot::Sender<Result<RecordId, Arc<str>>>;

/// What the thread knows.
pub(super) struct Writer {
    log: Log,
    sync: Sync,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    next_id: u64,
    schedule: Schedule,
    /// Settled, and not yet noted.
    done: Vec<(u64, u64)>,
    /// Partly settled, and not yet noted.
    progress: BTreeMap<u64, Arc<Tracker>>,
    /// The size of the commit that failed last.
    wanted_bytes: u64,
}

/// When something is to be done without being asked.
#[derive(Debug, Default)]
struct Schedule {
    /// Note what is settled.
    note: Option<Instant>,
    /// Make commits durable that were confirmed before.
    sync: Option<Instant>,
    /// Vouch for the last records.
    mark: Option<Instant>,
    /// Begin a segment after a failure.
    recover: Option<Instant>,
    /// Move records out of the oldest segment.
    move_records: Option<Instant>,
}

/// The commands that one commit answers.
#[derive(Default)]
struct Group {
    records: Vec<(u64, Encoded)>,
    replies: Vec<Reply>,
    bytes: u64,
    closing: bool,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        log: Log,
        sync: Sync,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        next_id: u64,
    ) -> Self {
        let (schedule, done, progress) = (Schedule::default(), Vec::new(), BTreeMap::new());
        let mut writer =
            Self { log, sync, shared, commands, next_id, schedule, done, progress, wanted_bytes: 0 };
        writer.begin();
        writer
    }

    /// Begins the first segment of this process. The queue is read even when that fails.
    fn begin(&mut self) {
        match self.log.roll(0, self.next_id) {
            Ok(()) => self.free_segments(),
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// Runs until it is told to close, or nobody is left who could. Should it panic, senders and probes are told: what
    /// is kept stays for the next process.
    pub(super) fn run_to_its_end(self) {
        let shared = Arc::clone(&self.shared);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            shared.set_failure(Some("its writer has died, only a restart helps".into()));
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
            warn!(%error, "the queue could not be closed; the next start does it");
        }
        // Whatever else is in the channel finds its reply dropped, which says that the queue is closed.
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
            Command::Put { record, reply } => {
                group.bytes += record.frame_bytes();
                group.records.push((self.next_id, record));
                group.replies.push(reply);
                self.next_id += 1;
            }
            Command::Progress(id, progress) => {
                self.progress.insert(id.0, progress);
                self.note_soon();
            }
            Command::Done { id, bytes } => {
                self.progress.remove(&id.0);
                self.done.push((id.0, bytes));
                self.note_soon();
            }
            Command::Close => group.closing = true,
        }
    }

    fn note_soon(&mut self) {
        self.schedule.note.get_or_insert_with(|| Instant::now() + NOTE_DELAY);
    }

    /// One commit, if there is anything to commit, and the replies.
    fn write(&mut self, mut group: Group) {
        if let Some(failure) = self.shared.failure()
            && !group.records.is_empty()
        {
            // Not even tried: the sender keeps its data and comes again.
            return group.refuse(&failure);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        let many = self.done.len() >= MAX_DONE && self.shared.failure().is_none();
        let note = group.closing || due(self.schedule.note) || many;
        let sync = group.closing || due(self.schedule.sync);
        let mark = due(self.schedule.mark);
        if group.records.is_empty() && !note && !sync && !mark {
            return;
        }
        if !self.log.is_open() {
            // Noted when a segment could be begun. What stayed due until then would spin.
            self.schedule = Schedule { recover: self.schedule.recover, ..Schedule::default() };
            return group.refuse(&Arc::from("the queue is not open"));
        }
        match self.commit(&mut group, sync, mark) {
            Ok(()) => group.confirm(&self.shared),
            Err(error) => {
                self.wanted_bytes = group.bytes;
                let reason = self.fail(&error);
                group.refuse(&reason);
            }
        }
    }

    fn commit(&mut self, group: &mut Group, sync: bool, mark: bool) -> Result<(), LogError> {
        let mut batch = Batch {
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

    /// The progress of records that are not acknowledged, as it is now.
    fn progress(&self) -> Vec<(u64, Vec<u8>)> {
        let progress = self.progress.iter();
        progress.filter_map(|(id, tracker)| tracker.encode().map(|bytes| (*id, bytes))).collect()
    }

    fn free_segments(&mut self) {
        if let Err(error) = self.log.free_segments() {
            warn!(%error, "settled segments of the queue could not be removed");
        }
        self.schedule.move_records = self.log.wants_to_move().then(Instant::now);
    }

    /// The log did not take it: nothing is written any more until a new segment could be begun.
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

    /// What is to be done without being asked, besides committing.
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

    /// Begins a segment after a failure and notes what was settled meanwhile.
    fn recover(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.log.roll(self.wanted_bytes, self.next_id) {
            let settled = self.shared.kept_bytes() == 0 && matches!(error, LogError::DiskFull);
            if !settled {
                return Err(error);
            }
            // It may be the queue itself that fills the disk, with segments of which nothing is open.
            self.log.clear()?;
            self.done.clear();
            self.log.roll(self.wanted_bytes, self.next_id)?;
        }
        self.commit(&mut Group::default(), true, false)
    }
}

// === impl Schedule ===

impl Schedule {
    fn next(&self) -> Option<Instant> {
        [self.note, self.sync, self.mark, self.recover, self.move_records].into_iter().flatten().min()
    }
}

// === impl Group ===

impl Group {
    fn confirm(self, shared: &Shared) {
        for ((id, _), reply) in self.records.into_iter().zip(self.replies) {
            // First: whoever asked may be slow to take it over, and until then nobody else knows it.
            shared.confirmed(RecordId(id));
            // Whoever asked may be gone; the record is in the log all the same, and the next start finds it.
            drop(reply.send(Ok(RecordId(id))));
        }
    }

    fn refuse(self, reason: &Arc<str>) {
        for reply in self.replies {
            drop(reply.send(Err(Arc::clone(reason))));
        }
    }
}
