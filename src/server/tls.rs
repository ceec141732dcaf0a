//! TLS on the front door, with certificates that are reloaded when their files change.
//!
//! In: an accepted connection. Out: the encrypted connection, or nothing if the handshake failed.
//! Promises: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN; with `client_ca_file` only clients with a certificate of
//! these authorities are accepted; unusable files are logged and leave the current certificates in place.
//! Leaves to others: the handshake timeout ([`serve`](mod@super::serve)).

mod complaints;

mod files;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use self::complaints::Complaints;
pub(crate) use self::files::ServerTlsError;
use self::files::TlsFiles;
use crate::config::TlsServerConfig;
use crate::telemetry::logging::chain;

/// Minimum interval between checks of the files; connections trigger them.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// TLS configuration of the front door, with reloading.
pub(crate) struct Tls {
    paths: TlsServerConfig,
    current: Mutex<Arc<ServerConfig>>,
    /// Digest of the files at the last check, usable or not.
    tried: Mutex<LastCheck>,
    checked: Mutex<Instant>,
    check_interval: Duration,
    complaints: Complaints,
}

/// Digest of the files, or the reason that they could not be read.
type LastCheck = Result<files::FilesDigest, String>;

// === impl Tls ===

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Returns the problem of the first unusable file, with its key.
    pub(crate) fn load(paths: &TlsServerConfig) -> Result<Self, ServerTlsError> {
        Self::checked_every(CHECK_INTERVAL, paths)
    }

    /// Reads the files, and checks them for changes at this interval when connections come.
    ///
    /// # Errors
    /// Returns the problem of the first unusable file, with its key.
    pub(super) fn checked_every(
        check_interval: Duration,
        paths: &TlsServerConfig,
    ) -> Result<Self, ServerTlsError> {
        let files = TlsFiles::read(paths)?;
        let config = files.to_config(paths)?;
        Ok(Self {
            paths: paths.clone(),
            current: Mutex::new(Arc::new(config)),
            tried: Mutex::new(Ok(files.digest())),
            checked: Mutex::new(Instant::now()),
            check_interval,
            complaints: Complaints::default(),
        })
    }

    /// Performs the handshake. Returns `None` if it failed, which is logged.
    pub(super) async fn accept(self: &Arc<Self>, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        if self.is_check_due(Instant::now()) {
            self.reload().await;
        }
        let config = Arc::clone(&lock(&self.current));
        match TlsAcceptor::from(config).accept(tcp).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.complaints.note(&error, Instant::now());
                None
            }
        }
    }

    /// Checks the files now, and logs the result: `None` if they have not changed since the last check. If they are unusable, the
    /// current certificates stay in use.
    pub(crate) async fn reload(self: &Arc<Self>) -> Option<Result<(), ServerTlsError>> {
        let this = Arc::clone(self);
        // The files may be on a slow network file system.
        let looked = tokio::task::spawn_blocking(move || this.look());
        let reload = looked.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        match &reload {
            None => {}
            Some(Ok(())) => info!("reloaded TLS certificates"),
            Some(Err(error)) => {
                warn!(error = %chain(error), "new TLS certificates are invalid; keeping the current ones");
            }
        }
        reload
    }

    fn look(&self) -> Option<Result<(), ServerTlsError>> {
        let mut tried = match self.tried.try_lock() {
            Ok(tried) => tried,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is checking; a second one need not wait for a slow disk.
            Err(TryLockError::WouldBlock) => return None,
        };
        let files = TlsFiles::read(&self.paths);
        let now = files.as_ref().map(TlsFiles::digest).map_err(|error| chain(error).to_string());
        if *tried == now {
            return None;
        }
        *tried = now;
        let config = files.and_then(|files| files.to_config(&self.paths));
        Some(config.map(|config| *lock(&self.current) = Arc::new(config)))
    }

    /// Returns `true` for one caller per interval.
    fn is_check_due(&self, now: Instant) -> bool {
        let mut checked = lock(&self.checked);
        let is_due = now.saturating_duration_since(*checked) >= self.check_interval;
        if is_due {
            *checked = now;
        }
        is_due
    }
}

/// Locks a mutex and ignores poisoning: the guarded values are always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
