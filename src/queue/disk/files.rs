//! File operations that the log needs: the only interface between the queue and the file system.
//!
//! The interface is small so that tests can replace the disk by one that loses power, fails and counts.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

const LOCK: &str = "queue.lock";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A directory of files.
pub(super) trait Files: Send + Sync {
    /// Returns the names of all files; none when the directory does not exist.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file that only its owner can read. Replaces a file of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created, renamed and removed names durable.
    fn sync_directory(&self) -> io::Result<()>;
}

/// An open file.
pub(super) trait LogFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Extends the file with zeros and reserves disk space for them where the file system can.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes contents and size durable.
    fn sync(&self) -> io::Result<()>;
}

/// The queue directory. The first operation that needs it creates and locks it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Held as long as the queue exists: closing the file releases the lock.
    lock: OnceLock<File>,
}

// === impl Directory ===

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: OnceLock::new() }
    }

    /// Creates the directory if necessary and locks it for this process.
    pub(super) fn claim(&self) -> Result<(), TryLockError> {
        if self.lock.get().is_some() {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(&self.path).map_err(TryLockError::Error)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(self.path.join(LOCK)).map_err(TryLockError::Error)?;
        file.try_lock()?;
        // Only recovery and then the writer thread call this, never both at once.
        self.lock.set(file).unwrap_or_default();
        Ok(())
    }
}

impl Files for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // The queue's own names are ASCII, so that a lossy conversion does not affect them.
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        // At the start, the queue is opened without the lock when the disk is too full to create it.
        self.claim().map_err(io::Error::from)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(File::options().read(true).write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl LogFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // Not every file system supports it.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.set_len(bytes),
            allocated => Ok(allocated?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
