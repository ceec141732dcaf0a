//! The real Collector beside the relay: an OTLP receiver, and an exporter that sends JSON.
//!
//! `.ci/provide` builds it with Go, at the version of the tests among the real programs.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it logs when it takes data.
pub(crate) const READY: &str = "Everything is ready";

const PROGRAM: &str = "otelcol";

/// Builds it, unless that was done before; says why not, when it cannot be had.
pub(crate) fn provide() -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/provide");
    match Command::new(script).arg(PROGRAM).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(".ci/provide {PROGRAM}: {status}")),
        Err(error) => Err(format!(".ci/provide does not run: {error}")),
    }
}

/// Where `.ci/provide` has it.
fn program() -> PathBuf {
    let cache = std::env::var_os("SPANRELAY_STACK_CACHE").map(PathBuf::from);
    let home =
        || Path::new(&std::env::var_os("HOME").expect("there is a home")).join(".cache/spanrelay-stack");
    cache.unwrap_or_else(home).join("bin").join(PROGRAM)
}

/// One that sends to this address, with this for its exporter besides; and where it takes data.
pub(crate) fn command(sink: SocketAddr, exporter: &str, directory: &Path) -> (Command, SocketAddr) {
    // It cannot be asked which port it got.
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = free.local_addr().expect("it is bound");
    let configuration = format!(
        "
receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: '{address}' }} }} }} }}
exporters: {{ otlp_http: {{ endpoint: 'http://{sink}', encoding: json, compression: none, {exporter} }} }}
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
