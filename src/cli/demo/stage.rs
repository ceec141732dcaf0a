//! A relay for one demonstration: on free loopback ports, in memory, in front of the given collector.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::script::SECRET;
use crate::app::{App, StartError};
use crate::config::{Config, ConfigError, Environment};

pub(super) const FASTLY_PATH: &str = "/fastly";
pub(super) const CIRCLECI_PATH: &str = "/circleci";

/// Names for the temporary directory that are tried.
const MAX_ATTEMPTS: u32 = 100;

/// A relay that is bound, and what it leaves on disk.
pub(super) struct Stage {
    app: App,
    _scratch: Scratch,
}

/// A directory of our own, gone with the value.
struct Scratch(PathBuf);

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error("cannot make a temporary directory: {0}")]
    Scratch(io::Error),
    #[error("the demonstration's own configuration is wrong: {0}")]
    Config(#[from] ConfigError),
    #[error("the relay cannot start: {0}")]
    Start(#[from] StartError),
}

// === impl Stage ===

impl Stage {
    pub(super) async fn set(collector: SocketAddr) -> Result<Self, StageError> {
        let scratch = Scratch::new().map_err(StageError::Scratch)?;
        // Nobody's environment changes a demonstration.
        let config = Config::from_yaml(&yaml(collector, &scratch.0), &Environment::empty())?;
        Ok(Self { app: App::bind(config).await?, _scratch: scratch })
    }

    pub(super) fn relay_address(&self) -> SocketAddr {
        self.app.local_addr()
    }

    /// Runs the relay until the curtain falls, lets it drain, and clears the stage.
    pub(super) async fn run_until(self, curtain: impl Future<Output = ()>) {
        self.app.run(curtain).await;
    }
}

/// What an operator would write; `wait` is short because nobody wants to watch a terminal for ten seconds.
fn yaml(collector: SocketAddr, directory: &Path) -> String {
    // A JSON string is a YAML string, and a doubled dollar sign is not the start of a variable.
    let directory = serde_json::Value::from(directory.to_string_lossy().replace('$', "$$"));
    format!(
        r#"server:
  endpoint: 127.0.0.1:0
receivers:
  fastly:
    path: {FASTLY_PATH}
    service_ids: ["*"]
  circleci:
    path: {CIRCLECI_PATH}
    secrets: ["{SECRET}"]
processors:
  span_events:
    wait: 300ms
queue:
  storage: memory
  directory: {directory}
exporters:
  otlp_http:
    endpoint: http://{collector}
telemetry:
  endpoint: 127.0.0.1:0
"#
    )
}

// === impl Scratch ===

impl Scratch {
    fn new() -> io::Result<Self> {
        let base = format!("spanrelay-demo-{}", std::process::id());
        let mut attempt = 0;
        let directory = loop {
            let directory = std::env::temp_dir().join(format!("{base}-{attempt}"));
            // Only a directory that was not there is ours.
            match std::fs::create_dir(&directory) {
                Ok(()) => break directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An empty directory below the system's temporary one harms nobody if it stays.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Storage;

    #[test]
    fn the_configuration_names_the_collector_and_keeps_odd_directories_intact() {
        let yaml = yaml("127.0.0.1:4318".parse().unwrap(), Path::new("/tmp/a \"b\" ${HOME}"));
        assert!(yaml.contains("    endpoint: http://127.0.0.1:4318\n"), "{yaml}");
        assert!(yaml.contains("  directory: \"/tmp/a \\\"b\\\" $${HOME}\"\n"), "{yaml}");
    }

    #[test]
    fn the_configuration_is_valid() {
        let yaml = yaml("127.0.0.1:4318".parse().unwrap(), Path::new("/tmp/demo"));
        let config = Config::from_yaml(&yaml, &Environment::empty()).unwrap();
        assert_eq!(config.exporter.traces_endpoint, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(config.receivers.fastly[0].path, FASTLY_PATH);
        assert_eq!(config.receivers.circleci[0].path, CIRCLECI_PATH);
        assert!(!config.receivers.circleci[0].allow_unsigned);
        assert_eq!(config.queue.storage, Storage::Memory);
    }

    #[test]
    fn the_scratch_directory_goes_with_its_value() {
        let (scratch, other) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        assert_ne!(scratch.0, other.0);
        let directory = scratch.0.clone();
        std::fs::write(directory.join("rejected.ndjson"), "{}").unwrap();
        drop(scratch);
        assert!(!directory.exists());
    }
}
