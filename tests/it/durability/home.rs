//! A home: a directory that outlives its relays, and the relays that use it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::downstream::{Downstream, Mood, PROCESS};
use crate::harness::{Ask, Child, House, Samples, eventually, spanrelay};

/// A queue directory, its downstream, and the number of processes so far.
pub(super) struct Home {
    /// Removed with the home, unless the test provided the directory.
    _temporary: Option<TempDir>,
    /// Value of `queue.directory`.
    pub(super) directory: PathBuf,
    pub(super) downstream: Arc<Downstream>,
    settings: Vec<String>,
    processes: u32,
    exporter: Protocol,
}

/// Protocol of the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

// === impl Home ===

impl Home {
    /// Creates a home. `settings` has one `key: value` per line, on top of [`House::configuration`] with a queue on
    /// disk.
    pub(super) async fn new(mood: Mood, settings: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("queue");
        Self { _temporary: Some(temporary), ..Self::at(directory, mood, settings).await }
    }

    /// Creates a home with its queue in a directory that the test has prepared.
    pub(super) async fn at(directory: PathBuf, mood: Mood, settings: &str) -> Self {
        let settings = settings.lines().map(str::trim).filter(|line| !line.is_empty());
        Self {
            directory,
            downstream: Arc::new(Downstream::start(mood).await),
            settings: settings.map(|line| line.replacen(": ", "=", 1)).collect(),
            processes: 0,
            exporter: Protocol::Http,
            _temporary: None,
        }
    }

    /// Exports by this protocol, with the settings of `exporters.otlp_http` that both have.
    pub(super) fn by(self, exporter: Protocol) -> Self {
        Self { exporter, ..self }
    }

    /// Adds settings for all further processes.
    pub(super) fn with_settings(mut self, settings: &str) -> Self {
        self.settings.extend(settings.lines().map(|line| line.replacen(": ", "=", 1)));
        self
    }

    /// Returns the whole configuration, for a process that is not expected to start.
    pub(super) fn configuration(&self) -> String {
        let on_disk = format!("queue: {{ storage: disk, directory: {} }}", self.directory.display());
        let configuration = House::configuration(&self.downstream.url());
        self.exporter.named(&configuration.replace("queue: { storage: memory }", &on_disk))
    }

    /// Returns the arguments of the next process.
    fn arguments(&mut self) -> Vec<String> {
        self.processes += 1;
        let process = format!("exporters.otlp_http.headers={{{PROCESS}: \"{}\"}}", self.processes);
        let directory = format!("queue.directory={}", self.directory.display());
        self.settings
            .iter()
            .chain([&process, &directory])
            .flat_map(|set| ["--set".to_owned(), self.exporter.named(set)])
            .collect()
    }

    /// Starts the next process and waits until it is ready.
    pub(super) async fn start(&mut self) -> Child {
        self.start_with("").await
    }

    /// Starts the next process with an additional setting.
    pub(super) async fn start_with(&mut self, setting: &str) -> Child {
        let mut arguments = self.arguments();
        if !setting.is_empty() {
            arguments.extend(["--set".to_owned(), setting.replacen(": ", "=", 1)]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Child::start(&self.configuration(), &arguments).await
    }

    /// Starts the next process without waiting for it.
    pub(super) fn launch(&mut self, configuration: &Path) -> tokio::process::Child {
        let mut command = spanrelay(&["run", "--config", configuration.to_str().unwrap()]);
        command
            .args(self.arguments())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    }

    /// Returns the number of processes so far.
    pub(super) fn processes(&self) -> u32 {
        self.processes
    }

    /// Returns every entry of both rejected-lines files. An invalid entry is a defect.
    pub(super) fn rejected(&self) -> Vec<Value> {
        let text: String = ["rejected.1.ndjson", "rejected.ndjson"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(self.directory.join(name)).ok())
            .collect();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

// === impl Protocol ===

impl Protocol {
    pub(super) const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// Returns settings of the exporter as those of this protocol.
    fn named(self, settings: &str) -> String {
        match self {
            Self::Http => settings.to_owned(),
            Self::Grpc => settings.replace("otlp_http", "otlp_grpc"),
        }
    }
}

/// Posts a Fastly batch that must be accepted completely.
pub(super) async fn batch(child: &Child, body: impl Into<bytes::Bytes>) {
    let reply = child.ask(Ask::post("/fastly", body)).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

/// Waits until nothing is held, queued or in flight, and checks that every item has one outcome.
pub(super) async fn at_rest(child: &Child) -> Samples {
    let samples = eventually("nothing is queued", async || {
        let samples = child.metrics().await;
        samples.are_at_rest().then_some(samples)
    })
    .await;
    samples.assert_conserved();
    samples
}

/// Stops the process and waits for its end.
pub(super) async fn stopped(mut child: Child) {
    child.signal("TERM").await;
    assert_eq!(child.ended().await, Some(0), "{}", child.log());
}

/// Returns the number of items that this process found in its queue.
pub(super) async fn recovered(child: &Child) -> f64 {
    child.metrics().await.sum("spanrelay_recovered_items_total", &[])
}
