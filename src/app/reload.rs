//! Applies a reloaded configuration while the relay runs.
//!
//! In: a complete, valid configuration. Out: receivers with new secrets, tokens and service ids, and reloaded server
//! certificates. Promises: no connection is dropped and no request in progress is affected; a change that needs a
//! restart, in the configuration or in the exporter's certificate files, is logged and not applied.

use std::sync::Arc;

use tracing::{info, warn};

use super::files::ExporterFiles;
use super::receivers;
use crate::config::{Config, Reloaded};
use crate::relay::Relay;
use crate::server::{Pages, Tls};

/// The parts that can be reconfigured.
pub(super) struct Reloads {
    pub(super) config: Config,
    pub(super) relay: Arc<Relay>,
    pub(super) pages: Pages,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) exporter_files: Arc<ExporterFiles>,
}

// === impl Reloads ===

impl Reloads {
    pub(super) async fn reload(&mut self, new: &Config) {
        let Reloaded { config, needs_restart } = self.config.reloaded(new);
        if !needs_restart.is_empty() {
            warn!(keys = needs_restart.join(", "), "changes not applied; restart to apply");
        }
        let changed = config.receivers != self.config.receivers;
        if changed {
            self.relay.replace(receivers(&config));
            self.pages.reload(&config.receivers);
        }
        self.config = config;
        if let Some(tls) = &self.tls {
            // Logs its own outcome.
            drop(tls.reload().await);
        }
        self.warn_about_exporter_files().await;
        info!(receivers.changed = changed, "configuration reloaded");
    }

    /// Warns about changed files of the exporter, which keeps the certificates of the start.
    async fn warn_about_exporter_files(&self) {
        let files = Arc::clone(&self.exporter_files);
        // The files may be on a slow network file system.
        let looked = tokio::task::spawn_blocking(move || files.changed().join(", ")).await;
        let keys = looked.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        if !keys.is_empty() {
            warn!(keys, "certificate files changed on disk; restart to apply");
        }
    }
}
