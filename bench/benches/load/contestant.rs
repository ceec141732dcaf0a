//! A measured process with its own sink, which runs until it is dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::batch::SECRET;
use super::floor::Floor;
use super::generator::{Load, Sent};
use super::peers;
use super::process::Process;
use super::sink::Sink;
use super::tally::Counts;

/// Timeout for the start.
const START: Duration = Duration::from_secs(30);
/// Timeout for draining: the relay's drain time and a margin.
const DRAIN: Duration = Duration::from_secs(15);

/// Environment variable with the address of a Kafka broker, which `.ci/with-kafka` sets.
pub(crate) const BROKERS: &str = "SPANRELAY_KAFKA_BROKERS";

/// Kind of contestant.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// The relay, with these settings (`key=value`) in addition to [`SETTINGS`].
    Relay(Vec<String>),
    /// A front and a worker that share a topic of these brokers, with these settings in addition to [`SETTINGS`].
    Shared(String, Vec<String>),
    Floor(Floor),
    /// A Collector, with these extra settings for its exporter.
    Collector(&'static str),
    /// Rotel, which exports protobuf in batches, as gzip.
    Rotel,
}

/// Settings of the relay: a user's, but with free ports, an in-memory queue and no `wait`.
const SETTINGS: &[&str] = &[
    "server.endpoint=127.0.0.1:0",
    "telemetry.endpoint=127.0.0.1:0",
    "telemetry.logs.format=json",
    "processors.span_events.wait=0s",
    "queue.storage=memory",
];

pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) sink: Sink,
    joins: bool,
    /// The first receives the load.
    children: Vec<Running>,
    address: SocketAddr,
    telemetry: Option<SocketAddr>,
    _directory: TempDir,
}

/// A process that is killed on drop.
struct Running(Child);

/// Measurements of one load.
pub(crate) struct Run {
    pub(crate) sent: Sent,
    pub(crate) processor_time: Duration,
    /// Resident memory in bytes, after everything arrived.
    pub(crate) resident: u64,
    /// Bytes written to the disk.
    pub(crate) written: u64,
}

// === impl Who ===

impl Who {
    pub(crate) fn relay(settings: &[&str]) -> Self {
        Self::Relay(settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    pub(crate) fn start(&self, name: &str) -> Contestant {
        self.start_before(name, Sink::open())
    }

    /// Starts the contestant in front of a sink.
    pub(crate) fn start_before(&self, name: &str, sink: Sink) -> Contestant {
        // On the disk of the project, because the temporary directory may be in memory.
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("there is a place for files");
        let (children, address, telemetry) = match self {
            Self::Relay(settings) => {
                let (child, address, telemetry) = relay(settings, sink.address, &directory);
                (vec![child], address, Some(telemetry))
            }
            Self::Shared(brokers, settings) => {
                let topic = directory.path().file_name().expect("it has a name").to_string_lossy();
                let topic = topic.trim_start_matches('.');
                let shared = [
                    "queue.storage=kafka".to_owned(),
                    format!(
                        "queue.kafka={{brokers: [\"{brokers}\"], topic: \"{topic}\", group_id: \"{topic}\"}}"
                    ),
                    "queue.kafka.create_topic={replication_factor: 1}".to_owned(),
                ];
                let [front, worker] = ["front", "worker"].map(|role| {
                    let role = [format!("queue.kafka.role={role}")];
                    relay(&[settings, &shared[..], &role[..]].concat(), sink.address, &directory)
                });
                (vec![front.0, worker.0], front.1, Some(front.2))
            }
            Self::Floor(floor) => {
                let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
                command.args(["--role", floor.name(), &sink.address.to_string()]);
                let mut child = started(command.stdout(Stdio::piped()));
                let address = line(child.0.stdout.take(), |line| line.trim().parse().ok());
                (vec![child], address, None)
            }
            Self::Collector(exporter) => {
                let (child, address) = collector(sink.address, exporter, &directory);
                (vec![child], address, None)
            }
            Self::Rotel => {
                let (child, address) = rotel(sink.address, &directory);
                (vec![child], address, None)
            }
        };
        Contestant {
            name: name.to_owned(),
            sink,
            joins: telemetry.is_some(),
            children,
            address,
            telemetry,
            _directory: directory,
        }
    }
}

fn collector(sink: SocketAddr, exporter: &str, directory: &TempDir) -> (Running, SocketAddr) {
    let (mut command, address) = peers::collector(sink, exporter, directory.path());
    let mut child = started(command.stderr(Stdio::piped()));
    line(child.0.stderr.take(), |line| line.contains(peers::COLLECTOR_READY).then_some(()));
    (child, address)
}

fn rotel(sink: SocketAddr, directory: &TempDir) -> (Running, SocketAddr) {
    let (mut command, address) = peers::rotel(sink, directory.path());
    let child = started(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let start = Instant::now();
    // It does not say when it is ready.
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < START, "Rotel does not start");
        thread::sleep(Duration::from_millis(20));
    }
    (child, address)
}

fn relay(
    settings: &[String],
    downstream: SocketAddr,
    directory: &TempDir,
) -> (Running, SocketAddr, SocketAddr) {
    let exporter = settings.iter().find_map(|setting| setting.strip_prefix("exporters.")?.split('.').next());
    let exporter = exporter.unwrap_or("otlp_http");
    let configuration = format!(
        "receivers: {{ fastly: {{}}, circleci: {{ secrets: [\"{SECRET}\"] }}, otlp: {{}} }}\n\
         queue: {{ directory: \"{}\" }}\n\
         exporters: {{ {exporter}: {{ endpoint: \"http://{}\" }} }}\n",
        directory.path().join("queue").display(),
        downstream,
    );
    let file = directory.path().join("relay.yaml");
    std::fs::write(&file, configuration).expect("the file can be written");
    let mut command = Command::new(relay_program());
    command.arg("run").arg("--config").arg(file).env_clear();
    for setting in SETTINGS.iter().copied().chain(settings.iter().map(String::as_str)) {
        command.args(["--set", setting]);
    }
    let mut child = started(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let (address, telemetry) = line(child.0.stderr.take(), |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let address = |key: &str| line[key].as_str()?.parse().ok();
        Some((address("server.address")?, address("telemetry.address")?))
    });
    (child, address, telemetry)
}

/// Builds the relay with the profile of this program, once, and returns its path. With brokers to measure with, it has Kafka.
fn relay_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = std::env::current_exe().expect("this program has a file");
        let folder = here.ancestors().nth(2).expect("it is in the folder of a profile");
        let target = folder.parent().expect("profiles are in the target folder");
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "spanrelay", "--bin", "spanrelay", "--target-dir"]);
        command.arg(target);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        if std::env::var_os(BROKERS).is_some() {
            command.args(["--features", "kafka"]);
        }
        let status = command.status().expect("cargo runs");
        assert!(status.success(), "the relay cannot be built: {status}");
        folder.join("spanrelay")
    });
    &PROGRAM
}

fn started(command: &mut Command) -> Running {
    let started = command.stdin(Stdio::null()).spawn();
    Running(started.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
}

/// Returns the first value that `says` finds in a line. Later output of the process is read and discarded.
fn line<T: Send + 'static>(
    from: Option<impl Read + Send + 'static>,
    says: impl Fn(&str) -> Option<T> + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let from = from.expect("it is a pipe");
    thread::spawn(move || {
        let mut sender = Some(sender);
        let mut before = String::new();
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            match (&sender, says(&line)) {
                (Some(waits), Some(said)) => {
                    if waits.send(Ok(said)).is_err() {
                        return;
                    }
                    sender = None;
                }
                (Some(_), None) => before = before + &line + "\n",
                (None, _) => {}
            }
        }
        if let Some(waits) = sender {
            // The receiver may be gone.
            drop(waits.send(Err(before)));
        }
    });
    match receiver.recv_timeout(START) {
        Ok(Ok(said)) => said,
        Ok(Err(before)) => panic!("it ended instead of starting:\n{before}"),
        Err(_) => panic!("it did not start in {START:?}"),
    }
}

// === impl Contestant ===

impl Contestant {
    pub(crate) fn run(&self, load: &Load) -> Run {
        let processes = || self.children.iter().map(|child| Process(child.0.id()));
        let before: Vec<_> =
            processes().map(|process| (process.processor_time(), process.written())).collect();
        let sent = load.run(self.address, &self.sink);
        let since = || processes().zip(&before);
        Run {
            sent,
            processor_time: since().map(|(process, (time, _))| process.processor_time().since(time)).sum(),
            resident: processes().map(Process::resident).sum(),
            written: since().map(|(process, (_, written))| process.written() - written).sum(),
        }
    }

    pub(crate) fn is_relay(&self) -> bool {
        self.telemetry.is_some()
    }

    /// Returns the process that receives the load.
    pub(crate) fn process(&self) -> Process {
        Process(self.children[0].0.id())
    }

    /// Returns the value of a metric with a single series.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(self.telemetry?).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Drains the contestant if possible; returns everything that arrived.
    pub(crate) fn end(mut self) -> Counts {
        if self.telemetry.is_some() {
            let deadline = Instant::now() + DRAIN;
            for child in &mut self.children {
                let id = rustix::process::Pid::from_child(&child.0);
                rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
                while child.0.try_wait().expect("it can be waited for").is_none() {
                    assert!(Instant::now() < deadline, "the relay does not drain in {DRAIN:?}");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        self.sink.tally().counts(self.joins)
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
