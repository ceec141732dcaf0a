//! Detects when the content of files changes: secrets that the configuration reads from files, and certificates.
//!
//! In: paths. Out: the news that one of them holds something else. Promises: content counts, not times or names, so that a mounted
//! secret whose symbolic link is replaced is detected; a file that cannot be read is different from one that can.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

/// Time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(5);

/// Files, each with a digest of its content; `None` if it could not be read.
pub(super) struct Watch(BTreeMap<PathBuf, Option<[u8; 32]>>);

// === impl Watch ===

impl Watch {
    /// Reads the files.
    pub(super) async fn new(paths: Vec<PathBuf>) -> Self {
        Self(read(paths).await)
    }

    /// Waits until one of the files holds something else.
    pub(super) async fn changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        loop {
            sleep(INTERVAL).await;
            let now = read(self.0.keys().cloned().collect()).await;
            if now != self.0 {
                self.0 = now;
                return;
            }
        }
    }

    /// Reads the files again, so that what they hold now is no change.
    pub(super) async fn refresh(&mut self) {
        self.0 = read(self.0.keys().cloned().collect()).await;
    }

    /// Watches these files from now on. What a file held when it was read last is kept, so that a change since then is detected.
    pub(super) async fn follow(&mut self, paths: Vec<PathBuf>) {
        let mut now = read(paths).await;
        for (path, digest) in &mut now {
            if let Some(known) = self.0.get(path) {
                *digest = *known;
            }
        }
        self.0 = now;
    }
}

async fn read(paths: Vec<PathBuf>) -> BTreeMap<PathBuf, Option<[u8; 32]>> {
    let digest = |path: &PathBuf| std::fs::read(path).ok().map(|content| Sha256::digest(content).into());
    // The files may be on a slow network file system.
    let read = tokio::task::spawn_blocking(move || {
        paths.into_iter().map(|path| (path.clone(), digest(&path))).collect()
    });
    read.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_of_content_is_detected_through_symbolic_links_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "a").unwrap();
        fs::write(path("two"), "b").unwrap();
        std::os::unix::fs::symlink(path("one"), path("current")).unwrap();
        let mut watch = Watch::new(vec![path("current"), path("absent")]).await;

        fs::write(path("one"), "a").unwrap();
        assert!(tokio::time::timeout(10 * INTERVAL, watch.changed()).await.is_err());
        fs::remove_file(path("current")).unwrap();
        std::os::unix::fs::symlink(path("two"), path("current")).unwrap();
        watch.changed().await;
        fs::write(path("absent"), "").unwrap();
        watch.changed().await;

        // A change between the last look and `follow` is detected; what was refreshed is none.
        fs::write(path("two"), "c").unwrap();
        watch.follow(vec![path("current"), path("one")]).await;
        watch.changed().await;
        fs::write(path("one"), "d").unwrap();
        watch.refresh().await;
        assert!(tokio::time::timeout(10 * INTERVAL, watch.changed()).await.is_err());
    }
}
