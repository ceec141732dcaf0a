//! A real Collector for comparison: an OTLP receiver, and an exporter that sends JSON.
//!
//! `.ci/provide` builds it with Go, at the version of the tests among the real programs.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Log message of a Collector that is ready.
pub(crate) const READY: &str = "Everything is ready";

const PROGRAM: &str = "otelcol";

/// Builds the Collector unless it exists; the error is the reason that it is not available.
pub(crate) fn provide() -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/provide");
    match Command::new(script).arg(PROGRAM).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(".ci/provide {PROGRAM}: {status}")),
        Err(error) => Err(format!(".ci/provide does not run: {error}")),
    }
}

/// Returns the path at which `.ci/provide` puts it.
fn program() -> PathBuf {
    let cache = std::env::var_os("SPANRELAY_STACK_CACHE").map(PathBuf::from);
    let home =
        || Path::new(&std::env::var_os("HOME").expect("there is a home")).join(".cache/spanrelay-stack");
    cache.unwrap_or_else(home).join("bin").join(PROGRAM)
}

/// Returns the configuration of a Collector that exports to this address with these extra settings, and its own address.
pub(crate) fn command(sink: SocketAddr, exporter: &str, directory: &Path) -> (Command, SocketAddr) {
    // The Collector does not report the port that it binds.
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = free.local_addr().expect("it is bound");
    let configuration = format!(
        "
receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: '{address}' }} }} }} }}
exporters: {{ otlp_http: {{ endpoint: 'http://{sink}', compression: none, {exporter} }} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [otlp_http] }} }}
"
    );
    let file = directory.join("collector.yaml");
    std::fs::write(&file, configuration).expect("the file can be written");
    let mut command = Command::new(program());
    command.arg("--config").arg(file);
    (command, address)
}
