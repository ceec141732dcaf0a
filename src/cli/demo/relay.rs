//! The demonstration's relay: on free loopback ports, with an in-memory queue, in front of the given collector.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::script::SECRET;
use crate::app::{App, StartError};
use crate::config::{Config, ConfigError, Environment};
use crate::receiver::RECEIVERS;

pub(super) const FASTLY_PATH: &str = "/fastly";
pub(super) const CIRCLECI_PATH: &str = "/circleci";

/// Maximum number of names to try for the temporary directory.
const MAX_ATTEMPTS: u32 = 100;

/// A bound relay and its temporary directory.
pub(super) struct DemoRelay {
    app: App,
    _directory: TemporaryDirectory,
}

/// A temporary directory, removed on drop.
struct TemporaryDirectory(PathBuf);

/// Reason that the relay could not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error("cannot create a temporary directory: {0}")]
    TemporaryDirectory(io::Error),
    #[error("the demonstration's own configuration is invalid: {0}")]
    Config(#[from] ConfigError),
    #[error("the relay cannot start: {0}")]
    Start(#[from] StartError),
}

// === impl DemoRelay ===

impl DemoRelay {
    pub(super) async fn bind(collector: SocketAddr) -> Result<Self, RelayError> {
        let directory = TemporaryDirectory::new().map_err(RelayError::TemporaryDirectory)?;
        // The demonstration ignores the user's environment.
        let config = Config::from_yaml(&yaml(collector, &directory.0), &Environment::empty(), RECEIVERS)?;
        Ok(Self { app: App::bind(config).await?, _directory: directory })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.app.local_addr()
    }

    /// Runs the relay until `shutdown` completes, lets it drain, and removes the temporary directory.
    pub(super) async fn run_until(self, shutdown: impl Future<Output = ()>) {
        self.app.run(shutdown).await;
    }
}

/// Returns the configuration, as an operator would write it, with a short `wait`.
fn yaml(collector: SocketAddr, directory: &Path) -> String {
    // A JSON string is a YAML string; `$$` is a literal dollar sign.
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

// === impl TemporaryDirectory ===

impl TemporaryDirectory {
    /// Creates it below the system's temporary directory, or in the current directory: a container image that holds only
    /// this program has no `/tmp`.
    fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir()).or_else(|error| Self::below(Path::new(".")).map_err(|_| error))
    }

    fn below(parent: &Path) -> io::Result<Self> {
        let base = format!("spanrelay-demo-{}", std::process::id());
        let mut attempt = 0;
        let directory = loop {
            let directory = parent.join(format!("{base}-{attempt}"));
            // Never reuse an existing directory: this one is removed at the end.
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

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Best effort: a leftover temporary directory is harmless.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Storage;
    use crate::receiver::circleci::CircleCiConfig;
    use crate::receiver::fastly::FastlyConfig;

    #[test]
    fn the_configuration_names_the_collector_and_keeps_unusual_directory_names_intact() {
        let yaml = yaml("127.0.0.1:4318".parse().unwrap(), Path::new("/tmp/a \"b\" ${HOME}"));
        assert!(yaml.contains("    endpoint: http://127.0.0.1:4318\n"), "{yaml}");
        assert!(yaml.contains("  directory: \"/tmp/a \\\"b\\\" $${HOME}\"\n"), "{yaml}");
    }

    #[test]
    fn the_configuration_is_valid() {
        let yaml = yaml("127.0.0.1:4318".parse().unwrap(), Path::new("/tmp/demo"));
        let config = Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap();
        assert_eq!(config.exporters.otlp_http.traces_endpoint, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(config.receivers.all::<FastlyConfig>()[0].endpoint.path, FASTLY_PATH);
        assert_eq!(config.receivers.all::<CircleCiConfig>()[0].endpoint.path, CIRCLECI_PATH);
        assert!(!config.receivers.all::<CircleCiConfig>()[0].allow_unsigned);
        assert_eq!(config.queue.storage, Storage::Memory);
    }

    #[test]
    fn the_temporary_directory_is_removed_on_drop() {
        let (directory, other) = (TemporaryDirectory::new().unwrap(), TemporaryDirectory::new().unwrap());
        assert_ne!(directory.0, other.0);
        let path = directory.0.clone();
        std::fs::write(path.join("rejected.ndjson"), "{}").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
