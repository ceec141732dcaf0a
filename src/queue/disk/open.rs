//! Opening the store: one owner, nothing trusted unread, and what is damaged is set aside.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tracing::error;

use super::store::{Contents, Store, StoreError, StoreFile};
use crate::telemetry::Metrics;

const LOCK: &str = "queue.lock";

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

pub(super) fn lock(directory: &Path) -> Result<File, TryLockError> {
    let file = File::options().write(true).create(true).truncate(false).open(directory.join(LOCK));
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Opens the store and reads through it. One that is damaged is set aside, loudly, and a new one begins.
pub(super) fn open_or_set_aside(file: &StoreFile, metrics: &Metrics) -> Result<(Store, Contents), OpenError> {
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
