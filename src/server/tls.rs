//! TLS on the front door, with certificates that are read again when their files change.
//!
//! In: a connection that was just accepted. Out: the same, encrypted, or nothing when the sender could not be agreed
//! with.
//! Promises: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN; with `client_ca_file` nobody comes in who shows no
//! certificate of these authorities; files that cannot be used leave the old certificates in place and are logged.
//! Leaves to others: how long a handshake may take ([`serve`](mod@super::serve)).

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
use self::files::Files;
pub(crate) use self::files::TlsError;
use crate::config::TlsServerConfig;
use crate::telemetry::logging::chain;

/// How often the files are looked at, when connections come.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What the front door shows of itself and asks of others.
pub(crate) struct Tls {
    paths: TlsServerConfig,
    current: Mutex<Arc<ServerConfig>>,
    /// What the files held when they were last tried, whether or not it could be used.
    tried: Mutex<Tried>,
    checked: Mutex<Instant>,
    check_interval: Duration,
    complaints: Complaints,
}

/// The content of the files by its digest, or why they could not be read.
type Tried = Result<files::Digest, String>;

/// What became of looking at the files once more.
#[derive(Debug)]
pub(crate) enum Reload {
    /// They hold what was tried before.
    Unchanged,
    /// New connections get what they hold now.
    Done,
    /// They cannot be used; what was in use still is.
    Failed(TlsError),
}

// === impl Tls ===

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which of them, with the key that names it.
    pub(crate) fn load(paths: &TlsServerConfig) -> Result<Self, TlsError> {
        let files = Files::read(paths)?;
        let config = files.to_config(paths)?;
        Ok(Self {
            paths: paths.clone(),
            current: Mutex::new(Arc::new(config)),
            tried: Mutex::new(Ok(files.digest())),
            checked: Mutex::new(Instant::now()),
            check_interval: CHECK_INTERVAL,
            complaints: Complaints::default(),
        })
    }

    /// Looks at the files for each connection.
    #[cfg(test)]
    pub(super) fn looking_always(self) -> Self {
        Self { check_interval: Duration::ZERO, ..self }
    }

    /// The handshake. Nothing when it failed, which is on record then.
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

    /// Looks at the files now, and tells the log what came of it.
    pub(crate) async fn reload(self: &Arc<Self>) -> Reload {
        let this = Arc::clone(self);
        // The files may be on a network, and must hold up nobody.
        let looked = tokio::task::spawn_blocking(move || this.look());
        let reload = looked.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        match &reload {
            Reload::Unchanged => {}
            Reload::Done => info!("certificates were read again: server.tls"),
            Reload::Failed(error) => {
                warn!(error = %chain(error), "changed certificates cannot be used, the old ones stay");
            }
        }
        reload
    }

    fn look(&self) -> Reload {
        let mut tried = match self.tried.try_lock() {
            Ok(tried) => tried,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is at it, perhaps for long: no second thread has to wait for a disk.
            Err(TryLockError::WouldBlock) => return Reload::Unchanged,
        };
        let files = Files::read(&self.paths);
        let now = files.as_ref().map(Files::digest).map_err(|error| chain(error).to_string());
        if *tried == now {
            return Reload::Unchanged;
        }
        *tried = now;
        match files.and_then(|files| files.to_config(&self.paths)) {
            Ok(config) => {
                *lock(&self.current) = Arc::new(config);
                Reload::Done
            }
            Err(error) => Reload::Failed(error),
        }
    }

    /// True for one caller in every interval.
    fn is_check_due(&self, now: Instant) -> bool {
        let mut checked = lock(&self.checked);
        let is_due = now.saturating_duration_since(*checked) >= self.check_interval;
        if is_due {
            *checked = now;
        }
        is_due
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
