//! Notes of what was settled and is not yet stored as such.
//!
//! In: acknowledged records and progress within records, from the tasks that settle them. Out: both, to the writer.
//! Promises: the writer is woken for the first note after it took the others, and when there are many, not for each: what is
//! settled is stored with the next commit, and only the first note decides when that is.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use super::writer::{MAX_DONE, WriterCommand};
use crate::event::RecordId;
use crate::queue::Tracker;

/// Notes for the writer.
#[derive(Default)]
pub(super) struct Notes(Mutex<Noted>);

/// Settled records, and records with new progress.
#[derive(Default)]
pub(super) struct Noted {
    /// Acknowledged records and their stored sizes.
    pub(super) done: Vec<(u64, u64)>,
    /// Records with new progress.
    pub(super) progress: BTreeMap<u64, Arc<Tracker>>,
    is_announced: bool,
}

// === impl Notes ===

impl Notes {
    /// Notes that a record was settled; `bytes` is its stored size.
    pub(super) fn done(&self, id: RecordId, bytes: u64, writer: &Sender<WriterCommand>) {
        let mut noted = self.lock();
        noted.progress.remove(&id.0);
        noted.done.push((id.0, bytes));
        noted.announce(writer);
    }

    /// Notes that items of a record were settled.
    pub(super) fn progress(&self, id: RecordId, progress: Arc<Tracker>, writer: &Sender<WriterCommand>) {
        let mut noted = self.lock();
        noted.progress.insert(id.0, progress);
        noted.announce(writer);
    }

    /// Takes all notes.
    pub(super) fn take(&self) -> Noted {
        std::mem::take(&mut self.lock())
    }

    /// Returns whether there are so many that they should be stored at once.
    pub(super) fn are_many(&self) -> bool {
        self.lock().done.len() >= MAX_DONE
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

// === impl Noted ===

impl Noted {
    fn announce(&mut self, writer: &Sender<WriterCommand>) {
        if !std::mem::replace(&mut self.is_announced, true) || self.done.len() == MAX_DONE {
            // After `close` the writer is gone, and the items are delivered again.
            drop(writer.send(WriterCommand::Noted));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_writer_is_woken_for_the_first_note_and_for_many() {
        let (writer, commands) = channel();
        let notes = Notes::default();
        let woken = || commands.try_iter().count();
        for id in 0..MAX_DONE as u64 - 1 {
            notes.done(RecordId(id), 1, &writer);
        }
        assert_eq!((woken(), notes.are_many()), (1, false));
        notes.done(RecordId(5000), 1, &writer);
        assert_eq!((woken(), notes.are_many()), (1, true));
        assert_eq!(notes.take().done.len(), MAX_DONE);
        notes.progress(RecordId(1), Arc::default(), &writer);
        notes.progress(RecordId(2), Arc::default(), &writer);
        assert_eq!(woken(), 1, "those were taken");
    }

    #[test]
    fn a_settled_record_has_no_progress() {
        let (writer, _commands) = channel();
        let notes = Notes::default();
        [1, 2].iter().for_each(|id| notes.progress(RecordId(*id), Arc::default(), &writer));
        notes.done(RecordId(1), 10, &writer);
        let Noted { done, progress, .. } = notes.take();
        assert_eq!((done, progress.into_keys().collect::<Vec<_>>()), (vec![(1, 10)], vec![2]));
    }
}
