//! A relay in this process, on free ports.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;

use serde_json::Value;
use spanrelay::App;
use spanrelay::RECEIVERS;
use spanrelay::config::{Config, Environment, Sources};
use tempfile::{NamedTempFile, TempDir};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::metrics::Samples;
use super::{Ask, Reply, in_time};

/// A running relay.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) telemetry: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ran: JoinHandle<()>,
    directory: TempDir,
}

// === impl Relay ===

impl Relay {
    /// Starts a relay. `yaml` is the configuration; `settings` has one `key: value` per line, which override it.
    pub(crate) async fn start(yaml: &str, settings: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        Self::configured(Sources {
            files: vec![file.path().to_owned()],
            set: settings_of(settings),
            environment: Environment::empty(),
        })
        .await
    }

    /// Starts a relay with any sources of configuration; only its directory is its own.
    pub(crate) async fn configured(mut sources: Sources) -> Self {
        let directory = TempDir::new().unwrap();
        sources.set.push(format!("queue.directory={}", directory.path().display()));
        let config = Config::load(&sources, RECEIVERS).unwrap_or_else(|problems| panic!("{problems}")).config;
        let app = App::bind(config).await.unwrap();
        let (address, telemetry) = (app.local_addr(), app.telemetry_addr());
        let (stop, stopped) = oneshot::channel();
        let ran = tokio::spawn(app.run(async {
            // Dropped with the relay, when a test has failed.
            stopped.await.ok();
        }));
        Self { address, telemetry, stop: Some(stop), ran, directory }
    }

    /// Starts the drain without waiting for it.
    pub(crate) fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    /// Waits until the relay has drained.
    pub(crate) async fn stopped(mut self) {
        self.tell_to_stop();
        in_time("the relay drains", self.ran).await.expect("the relay does not panic");
    }

    pub(crate) async fn metrics(&self) -> Samples {
        Samples::parse(&Ask::get("/metrics").to(self.telemetry).await.text())
    }

    /// Returns the rejected input that the relay has kept, oldest first.
    pub(crate) fn rejected(&self) -> Vec<Value> {
        let kept = fs::read_to_string(self.directory.path().join("rejected.ndjson")).unwrap_or_default();
        kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn telemetry(&self, path: &str) -> Reply {
        Ask::get(path).to(self.telemetry).await
    }
}

/// Converts a block of `key: value` lines to arguments of `--set`.
fn settings_of(block: &str) -> Vec<String> {
    let setting = |line: &str| {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("not a setting: {line}"));
        format!("{key}={}", value.trim())
    };
    block.lines().map(str::trim).filter(|line| !line.is_empty()).map(setting).collect()
}
