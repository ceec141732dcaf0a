//! The store: ids to stored records, in one file.
//!
//! redb keeps it. Measured against fjall 3.1 on records of whole requests (four senders, one commit and one sync for
//! all who wait, records acknowledged behind them; two virtual cores, ext4, 2026-11-23; lines of 1.6 KB):
//!
//! | lines per record | zstd | redb 4.6: lines/s, CPU per line, p50, p99 | fjall 3.1: the same |
//! |---|---|---|---|
//! | 10 | yes | 103 k, 7.0 us, 0.38 ms, 0.54 ms | 121 k, 5.7 us, 0.31 ms, 0.45 ms |
//! | 10 | no | 109 k, 5.5 us, 0.31 ms, 0.94 ms | 108 k, 5.8 us, 0.34 ms, 0.71 ms |
//! | 100 | yes | 840 k, 1.3 us, 0.43 ms, 0.99 ms | 773 k, 1.3 us, 0.51 ms, 0.65 ms |
//! | 100 | no | 533 k, 1.2 us, 0.61 ms, 4.2 ms | 337 k, 2.5 us, 1.1 ms, 4.6 ms |
//! | 1000 | yes | 1.37 M, 1.2 us, 2.6 ms, 4.9 ms | 1.51 M, 1.0 us, 1.6 ms, 6.3 ms |
//! | 1000 | no | 273 k, 3.2 us, 7.3 ms, 35 ms | 480 k, 2.2 us, 7.5 ms, 14 ms |
//!
//! With compression they are equals. redb gives the disk back after an outage (its file shrinks to nothing when it is
//! compacted; fjall's journal stays at 64 MiB and more), checks every page, and is one package where fjall is 28.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::file::QueueFile;
use crate::config::Sync;

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// The progress of records that are partly resolved.
const PROGRESS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("progress");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION_KEY: &str = "version";
/// Of what is in the tables. Whoever changes their meaning counts it up.
const VERSION: u64 = 1;
/// Records are written once and mostly never read, so that there is little to cache.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// How a store is opened.
#[derive(Debug, Clone)]
pub(super) struct StoreFile {
    pub(super) path: PathBuf,
    pub(super) sync: Sync,
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<super::file::Faults>,
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    db: Database,
    path: PathBuf,
}

/// The ids in a store, and how much their records take.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) ids: Vec<Range<u64>>,
    pub(super) bytes: u64,
}

/// Why the store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// What is in the file cannot be trusted.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A version that is not ours to judge.
    #[error("it was written by a newer version of spanrelay")]
    Newer,
    /// Another process has it.
    #[error("another process has it open")]
    InUse,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The disk did not do it.
    #[error("{0}")]
    Io(String),
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    Durable,
    /// Seen by readers at once, on disk with the next durable one.
    Visible,
}

// === impl StoreFile ===

impl StoreFile {
    /// Opens the store, or makes a new one where there is no file. Every page of an existing one is checked.
    pub(super) fn open(&self) -> Result<Store, StoreError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        // redb reports damage, but where a checksum happens to hold it may also panic over it.
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Database, redb::Error> {
            let file = QueueFile::new(FileBackend::new(file)?, self.sync);
            #[cfg(test)]
            let file = file.with_faults(std::sync::Arc::clone(&self.faults));
            Ok(Database::builder()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(file)?)
        }));
        let db = match opened {
            Ok(result) => result?,
            Err(_) => return Err(StoreError::Damaged("reading it failed".to_owned())),
        };
        let store = Store { db, path: self.path.clone() };
        store.check_version()?;
        sync_directory(&self.path)?;
        Ok(store)
    }
}

// === impl Store ===

impl Store {
    fn check_version(&self) -> Result<(), StoreError> {
        match self.version()? {
            Some(version) if version > VERSION => Err(StoreError::Newer),
            Some(_) => Ok(()),
            None => Ok(self.make_tables()?),
        }
    }

    fn version(&self) -> Result<Option<u64>, redb::Error> {
        match self.db.begin_read()?.open_table(META) {
            Ok(meta) => Ok(meta.get(VERSION_KEY)?.map(|version| version.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.db.begin_write()?;
        transaction.open_table(META)?.insert(VERSION_KEY, VERSION)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(PROGRESS)?;
        Ok(transaction.commit()?)
    }

    /// Writes and removes, all of it or nothing.
    pub(super) fn commit(
        &self,
        records: &[(u64, Vec<u8>)],
        progress: &[(u64, Vec<u8>)],
        done: &[u64],
        commit: Commit,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(match commit {
            Commit::Durable => Durability::Immediate,
            Commit::Visible => Durability::None,
        })?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            let mut of_records = transaction.open_table(PROGRESS)?;
            for (id, stored) in records {
                table.insert(id, stored.as_slice())?;
            }
            for (id, stored) in progress {
                of_records.insert(id, stored.as_slice())?;
            }
            for id in done {
                table.remove(id)?;
                of_records.remove(id)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// A stored record and its stored progress, which is empty when there is none.
    pub(super) fn get(&self, id: u64) -> Result<Option<(Vec<u8>, Vec<u8>)>, redb::Error> {
        let transaction = self.db.begin_read()?;
        let progress = match transaction.open_table(PROGRESS) {
            Ok(table) => table.get(id)?.map(|stored| stored.value().to_vec()).unwrap_or_default(),
            Err(redb::TableError::TableDoesNotExist(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let table = transaction.open_table(RECORDS)?;
        Ok(table.get(id)?.map(|stored| (stored.value().to_vec(), progress)))
    }

    /// Reads through all of it.
    pub(super) fn contents(&self) -> Result<Contents, redb::Error> {
        let table = self.db.begin_read()?.open_table(RECORDS)?;
        let mut contents = Contents::default();
        for entry in table.iter()? {
            let (id, stored) = entry?;
            let id = id.value();
            contents.bytes += stored.value().len() as u64;
            match contents.ids.last_mut() {
                Some(range) if range.end == id => range.end += 1,
                _ => contents.ids.push(id..id + 1),
            }
        }
        Ok(contents)
    }

    /// What the file takes on disk.
    pub(super) fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// What the disk has really given for it: a file may be longer than that.
    pub(super) fn allocated_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Gives free space back to the disk.
    pub(super) fn compact(&mut self) -> Result<(), redb::Error> {
        Ok(self.db.compact().map(drop)?)
    }
}

// === impl StoreError ===

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::UpgradeRequired(version) => {
                Self::Damaged(format!("file format {version} is not known"))
            }
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::InUse,
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("it ends too early".to_owned())
            }
            redb::Error::Io(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// A new file is safe only when its name is.
pub(super) fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
