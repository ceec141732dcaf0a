//! A program of the stack as a process: found in the cache, started on free ports, stopped with the test.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::harness::{eventually, in_time};

/// Log message of a Collector, or of a program built from its components, that accepts data.
const READY: &str = "Everything is ready";

/// A running program with its own directory.
pub(super) struct Program {
    _process: Child,
    _directory: TempDir,
    /// Address for data or requests.
    pub(super) address: SocketAddr,
}

/// Returns the path of a program that `.ci/steps.d/50-stack` built.
pub(super) fn path(name: &str) -> PathBuf {
    let cache = env::var_os("SPANRELAY_STACK_CACHE").map_or_else(
        || {
            Path::new(&env::var_os("HOME").expect("a home, or SPANRELAY_STACK_CACHE"))
                .join(".cache/spanrelay-stack")
        },
        PathBuf::from,
    );
    let path = cache.join("bin").join(name);
    assert!(path.is_file(), "{} is not there: .ci/steps.d/50-stack builds it", path.display());
    path
}

/// Returns a port that was free a moment ago, because these programs do not report the port that they bind.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

// === impl Program ===

impl Program {
    /// Starts a Collector that exports everything to this address, as JSON.
    pub(super) async fn collector(sink: &str) -> Self {
        Self::collector_at(free_address(), "http", sink).await
    }

    /// Starts such a Collector that receives OTLP by this protocol, at this address.
    pub(super) async fn collector_at(address: SocketAddr, protocol: &str, sink: &str) -> Self {
        let exporter = format!(
            "
  otlp_http:
    endpoint: {sink}
    encoding: json
    compression: none
    retry_on_failure: {{ enabled: false }}"
        );
        Self::collector_of(address, protocol, "otlp_http", &exporter).await
    }

    /// Starts a Collector that exports everything to this address by gRPC. A request that is not accepted is repeated, and that of
    /// its client is in progress meanwhile.
    pub(super) async fn collector_by_grpc(sink: SocketAddr, compression: &str) -> Self {
        let exporter = format!(
            "
  otlp_grpc:
    endpoint: {sink}
    tls: {{ insecure: true }}
    compression: {compression}
    retry_on_failure: {{ initial_interval: 10ms, max_interval: 20ms }}"
        );
        Self::collector_of(free_address(), "http", "otlp_grpc", &exporter).await
    }

    async fn collector_of(address: SocketAddr, protocol: &str, exporter: &str, settings: &str) -> Self {
        let pipeline = format!("{{ receivers: [otlp], exporters: [{exporter}] }}");
        let configuration = format!(
            "
receivers: {{ otlp: {{ protocols: {{ {protocol}: {{ endpoint: '{address}' }} }} }} }}
exporters:{settings}
    sending_queue: {{ enabled: false }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ traces: {pipeline}, logs: {pipeline}, metrics: {pipeline} }}
"
        );
        Self::configured("otelcol", &configuration, address).await
    }

    /// Starts Jaeger with an in-memory store. `query` is the address of its API.
    pub(super) async fn jaeger(query: SocketAddr) -> Self {
        let address = free_address();
        let grpc = free_address();
        let configuration = format!(
            "
extensions:
  jaeger_storage: {{ backends: {{ memory: {{ memory: {{ max_traces: 1000 }} }} }} }}
  jaeger_query:
    storage: {{ traces: memory }}
    http: {{ endpoint: '{query}' }}
    grpc: {{ endpoint: '{grpc}' }}
receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: '{address}' }} }} }} }}
exporters: {{ jaeger_storage_exporter: {{ trace_storage: memory }} }}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }} }}
"
        );
        Self::configured("jaeger", &configuration, address).await
    }

    /// Starts the simulator of Fastly's VCL with this main file. `include` is the directory of included files.
    pub(super) async fn falco(main: &str, include: &Path) -> Self {
        let address = free_address();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("main.vcl"), main).unwrap();
        // The port cannot be passed as an argument.
        let configuration = format!("simulator:\n  port: {}\n", address.port());
        std::fs::write(directory.path().join(".falco.yaml"), configuration).unwrap();
        let mut command = Command::new(path("falco"));
        command.current_dir(directory.path()).arg("simulate").arg("-I").arg(include).arg("main.vcl");
        let process = started(command.stdout(Stdio::null()).stderr(Stdio::null()));
        eventually("the simulator listens", async || TcpStream::connect(address).await.ok()).await;
        Self { _process: process, _directory: directory, address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn configured(name: &str, configuration: &str, address: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new(path(name));
        command.arg("--config").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = started(&mut command);
        let log = process.stderr.take().expect("it is piped");
        in_time(&format!("{name} is ready"), ready(name, log)).await;
        Self { _process: process, _directory: directory, address }
    }
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

/// Waits for the message in the log, and continues to read the log so that the program never blocks.
async fn ready(name: &str, log: impl AsyncRead + Unpin + Send + 'static) {
    let mut lines = BufReader::new(log).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(READY) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return;
        }
        said.push(line);
    }
    panic!("{name} has ended: {}", said.join("\n"));
}
