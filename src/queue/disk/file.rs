//! The file under the store: redb's own, with the operator's word on syncing, and faults where a test wants them.

use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::config::Sync;

/// A file that is synced as `queue.sync` says.
#[derive(Debug)]
pub(super) struct QueueFile {
    file: FileBackend,
    sync: Sync,
    #[cfg(test)]
    faults: std::sync::Arc<Faults>,
}

/// What a test makes the disk do.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) full: std::sync::atomic::AtomicBool,
    pub(super) sync_fails: std::sync::atomic::AtomicBool,
    pub(super) syncs: std::sync::atomic::AtomicU64,
    pub(super) panics: std::sync::atomic::AtomicBool,
}

// === impl QueueFile ===

impl QueueFile {
    pub(super) fn new(file: FileBackend, sync: Sync) -> Self {
        Self {
            file,
            sync,
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_faults(mut self, faults: std::sync::Arc<Faults>) -> Self {
        self.faults = faults;
        self
    }

    #[cfg(test)]
    fn check_writable(&self) -> io::Result<()> {
        assert!(!self.faults.panics.load(std::sync::atomic::Ordering::SeqCst), "as redb does over damage");
        match self.faults.full.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    #[cfg(not(test))]
    fn check_writable(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn check_sync(&self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match self.faults.sync_fails.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(io::Error::other("the sync failed")),
            false => Ok(()),
        }
    }

    #[cfg(not(test))]
    fn check_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageBackend for QueueFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_sync()?;
        match self.sync {
            // Commits that need no sync do not ask for one, so that the two differ in the writer only.
            Sync::Always | Sync::Interval => self.file.sync_data(),
            Sync::Never => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
