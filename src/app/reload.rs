//! A configuration that was read anew comes into force while the relay runs.
//!
//! In: a whole configuration that is valid. Out: receivers with new secrets, tokens and service ids, and certificates
//! that are in their files now. Promises: no connection is dropped and no request in progress is disturbed; a
//! change that cannot be made without a restart is named in the log and not made, be it in the configuration or in the
//! certificate files of connections that go out.

use std::sync::Arc;

use tracing::{info, warn};

use super::files::FilesDownstream;
use super::{challenge_text, receivers};
use crate::config::Config;
use crate::config::reload::Reloaded;
use crate::relay::Relay;
use crate::server::{Challenge, Tls};

/// The parts that can be given something new.
pub(super) struct Reloads {
    pub(super) config: Config,
    pub(super) relay: Arc<Relay>,
    pub(super) challenge: Option<Challenge>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) files_downstream: Arc<FilesDownstream>,
}

// === impl Reloads ===

impl Reloads {
    pub(super) async fn reload(&mut self, new: &Config) {
        let Reloaded { config, needs_restart } = self.config.reloaded(new);
        if !needs_restart.is_empty() {
            warn!(keys = needs_restart.join(", "), "these changes need a restart and were not made");
        }
        let changed = config.receivers != self.config.receivers;
        if changed {
            self.relay.replace(receivers(&config));
            if let Some(challenge) = &self.challenge {
                challenge.replace(challenge_text(&config));
            }
        }
        self.config = config;
        if let Some(tls) = &self.tls {
            // What comes of it is in the log.
            drop(tls.reload().await);
        }
        self.warn_of_files_downstream().await;
        info!(receivers.changed = changed, "configuration reloaded");
    }

    /// Connections that go out keep the certificates of the start.
    async fn warn_of_files_downstream(&self) {
        let files = Arc::clone(&self.files_downstream);
        // The files may be on a network, and must hold up nobody.
        let looked = tokio::task::spawn_blocking(move || files.changed().join(", ")).await;
        let keys = looked.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        if !keys.is_empty() {
            warn!(keys, "these files hold something else by now, which needs a restart");
        }
    }
}
