//! Applies a reloaded configuration while the relay runs.
//!
//! In: a complete, valid configuration. Out: receivers with new secrets, tokens and service ids, the exporter and self-tracing with
//! new headers and certificates, and reloaded server certificates. Promises: no connection of a client is dropped and no request in
//! progress is affected; a change that needs a restart is logged and not applied.

use std::sync::Arc;

use tracing::{info, warn};

use super::files::ClientFiles;
use super::{certificates, receivers, wall_clock};
use crate::config::{Config, Reloaded};
use crate::exporter::{ExporterSettings, SelfTraceExporter};
use crate::relay::{Privacy, Relay};
use crate::server::{Pages, Tls};
use crate::telemetry::Metrics;
use crate::telemetry::logging::chain;

/// The parts that can be reconfigured.
pub(super) struct Reloads {
    pub(super) config: Config,
    pub(super) relay: Arc<Relay>,
    pub(super) pages: Pages,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) exporter: Arc<ExporterSettings>,
    /// Files of the exporter that were read last, usable or not.
    pub(super) exporter_files: Arc<ClientFiles>,
    /// Present if self-tracing is enabled.
    pub(super) self_trace_exporter: Option<SelfTraceExporter>,
    pub(super) self_tracing_files: Arc<ClientFiles>,
    pub(super) metrics: Metrics,
}

// === impl Reloads ===

impl Reloads {
    /// Applies a configuration; absent if it was invalid.
    pub(super) async fn reload(&mut self, new: Option<&Config>) {
        let Some(new) = new else {
            self.metrics.reloaded(None);
            return;
        };
        let Reloaded { config, needs_restart } = self.config.reloaded(new);
        if !needs_restart.is_empty() {
            warn!(keys = needs_restart.join(", "), "changes not applied; restart to apply");
        }
        let changed = config.receivers != self.config.receivers;
        let new_rules = config.processors.attributes != self.config.processors.attributes;
        if changed || new_rules {
            // Before the rules: what a receiver must not copy depends on them.
            self.relay.replace(receivers(&config));
            self.pages.reload(&config.receivers);
        }
        self.relay.set_privacy(Privacy::new(&config));
        let new_headers = config.exporters != self.config.exporters;
        let new_own_headers = config.telemetry != self.config.telemetry;
        self.config = config;
        self.reload_exporter(new_headers).await;
        self.reload_self_tracing(new_own_headers).await;
        if let Some(tls) = &self.tls {
            // Logs its own outcome.
            drop(tls.reload().await);
        }
        let (config, metrics) = (self.config.clone(), self.metrics.clone());
        blocking(move || certificates::report(&config, &metrics, wall_clock)).await;
        self.metrics.reloaded(Some(wall_clock()));
        info!(receivers.changed = changed, attributes.changed = new_rules, "configuration reloaded");
    }

    /// Gives the exporter its headers, and the certificates of its files, if one of them has changed.
    async fn reload_exporter(&mut self, new_headers: bool) {
        let (exporter, old) = (Arc::clone(&self.exporter), Arc::clone(&self.exporter_files));
        let config = self.config.clone();
        let reloaded = blocking(move || {
            let files = ClientFiles::of_exporter(&config);
            let is_due = new_headers || files != *old;
            (is_due.then(|| exporter.reload(&config.exporters.otlp_http)), files)
        });
        let (reloaded, files) = reloaded.await;
        self.exporter_files = Arc::new(files);
        match reloaded {
            None => {}
            Some(Ok(())) => info!("exporter headers and certificates reloaded"),
            Some(Err(error)) => {
                warn!(error = %chain(&error), "new certificates of the exporter are invalid; keeping the current ones");
            }
        }
    }

    /// Gives self-tracing its headers, and the certificates of its files, if one of them has changed.
    async fn reload_self_tracing(&mut self, new_headers: bool) {
        let Some(exporter) = self.self_trace_exporter.clone() else { return };
        let (old, config) = (Arc::clone(&self.self_tracing_files), self.config.clone());
        let reloaded = blocking(move || {
            let files = ClientFiles::of_self_tracing(&config);
            let is_due = new_headers || files != *old;
            let traces = config.telemetry.traces.as_ref().filter(|_| is_due);
            (traces.map(|traces| exporter.reload(traces)), files)
        });
        let (reloaded, files) = reloaded.await;
        self.self_tracing_files = Arc::new(files);
        match reloaded {
            None => {}
            Some(Ok(())) => info!("self-tracing headers and certificates reloaded"),
            Some(Err(error)) => {
                warn!(error = %chain(&error), "new certificates of self-tracing are invalid; keeping the current ones");
            }
        }
    }
}

/// Reads files on a thread of their own: they may be on a slow network file system.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
}
