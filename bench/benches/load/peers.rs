//! Real programs for comparison: a Collector and Rotel, each with an OTLP receiver and an exporter over HTTP.
//!
//! `.ci/provide` has them: it builds the Collector with Go, at the version of the tests among the real programs, and gets
//! Rotel from a package for Python.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Log message of a Collector that is ready.
pub(crate) const COLLECTOR_READY: &str = "Everything is ready";

const COLLECTOR: &str = "otelcol";
const ROTEL: &str = "rotel";

/// Provides the Collector unless it exists, and returns whether it is available. Prints why it is not.
pub(crate) fn has_collector() -> bool {
    has(COLLECTOR)
}

/// Provides Rotel unless it exists, and returns whether it is available. Prints why it is not.
pub(crate) fn has_rotel() -> bool {
    has(ROTEL)
}

fn has(program: &str) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/provide");
    let why = match Command::new(script).arg(program).status() {
        Ok(status) if status.success() => return true,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    println!("\nThere is no {program} to measure: .ci/provide: {why}");
    false
}

/// Returns the path at which `.ci/provide` puts the program.
fn path_of(program: &str) -> PathBuf {
    let cache = std::env::var_os("SPANRELAY_STACK_CACHE").map(PathBuf::from);
    let home =
        || Path::new(&std::env::var_os("HOME").expect("there is a home")).join(".cache/spanrelay-stack");
    cache.unwrap_or_else(home).join("bin").join(program)
}

/// Returns the configuration of a Collector that exports to this address with these extra settings, and its own address.
pub(crate) fn collector(sink: SocketAddr, exporter: &str, directory: &Path) -> (Command, SocketAddr) {
    let [address] = free_addresses();
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
    let mut command = Command::new(path_of(COLLECTOR));
    command.arg("--config").arg(file);
    (command, address)
}

/// Returns the command of a Rotel that exports protobuf to this address, and its own address. It compresses with gzip, whatever
/// its arguments say.
pub(crate) fn rotel(sink: SocketAddr, directory: &Path) -> (Command, SocketAddr) {
    let [address, unused] = free_addresses();
    let mut command = Command::new(path_of(ROTEL));
    command.args(["start", "--otlp-exporter-protocol", "http"]);
    command.args(["--otlp-exporter-endpoint", &format!("http://{sink}")]);
    command.args(["--otlp-http-endpoint", &address.to_string(), "--otlp-grpc-endpoint", &unused.to_string()]);
    command.current_dir(directory);
    (command, address)
}

/// Returns free addresses: the programs do not report the ports that they bind.
fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let free: [TcpListener; COUNT] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    free.map(|listener| listener.local_addr().expect("it is bound"))
}
