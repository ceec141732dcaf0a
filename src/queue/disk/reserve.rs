//! A file that only takes space: when the disk is full it makes room for noting what is done.
//!
//! Removing a record from the store writes before it frees. On a disk without a single free block nothing could be
//! noted as delivered any more, so that the queue would never empty.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

/// Several times what the store writes to remove a thousand records.
pub(super) const BYTES: usize = 4 * 1024 * 1024;

/// The file, by its path.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

// === impl Reserve ===

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Takes the space, if it is not taken already.
    pub(super) fn take(&self) -> io::Result<()> {
        if self.is_taken() {
            return Ok(());
        }
        self.write(1)
    }

    /// Takes the space, if it is not taken already and the disk has as much to spare besides. Else the next request
    /// would find it full again at once.
    pub(super) fn take_with_room(&self) -> io::Result<()> {
        if self.is_taken() {
            return Ok(());
        }
        self.write(2)?;
        File::options().write(true).open(&self.path)?.set_len(BYTES as u64)
    }

    fn is_taken(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == BYTES as u64)
    }

    fn write(&self, times: usize) -> io::Result<()> {
        let written = File::create(&self.path).and_then(|mut file| {
            for _ in 0..times {
                // Not zeros, which a file system might not store at all.
                file.write_all(&[0xa5; BYTES])?;
            }
            file.sync_all()
        });
        if written.is_err() {
            self.release();
        }
        written
    }

    /// Gives the space to whoever needs it.
    pub(super) fn release(&self) {
        // What cannot be removed was not there, or is of no use.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}
