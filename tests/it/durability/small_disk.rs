//! A file system of a few megabytes, made for one test. It requires root; otherwise the test reports that it is
//! skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs, unmounted when it is dropped.
pub(super) struct SmallDisk {
    place: TempDir,
}

/// Returns whether the test runs as root.
pub(super) fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

// === impl SmallDisk ===

impl SmallDisk {
    /// Mounts a file system; `size` is in the form that `mount` accepts. `None`, with a report, where mounting is not
    /// permitted.
    pub(super) fn mount(test: &str, size: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { place }),
            _ => {
                eprintln!("SKIPPED {test}: a file system can be mounted by root only");
                None
            }
        }
    }

    /// Returns a path for a queue.
    pub(super) fn directory(&self) -> PathBuf {
        self.place.path().join("queue")
    }

    fn ballast(&self) -> PathBuf {
        self.place.path().join("ballast")
    }

    /// Fills the file system completely.
    pub(super) fn fill(&self) {
        let mut ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for block in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![0xa5; block]).is_ok() {}
        }
    }

    pub(super) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Makes the file system read-only.
    pub(super) fn make_read_only(&self) {
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(self.place.path()).status();
        assert!(remount.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a relay that is being killed may still have open files.
        Command::new("umount").arg("-l").arg(self.place.path()).status().unwrap();
    }
}
