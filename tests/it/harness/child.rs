//! The real program as a process, where what counts is what a user of it sees: arguments, output, signals, exit code.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::Notify;

use super::{Ask, Reply, Samples, in_time};

/// What a program left when it had ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A relay as a process of its own, which is ready. Killed when it is dropped.
pub(crate) struct Child {
    process: tokio::process::Child,
    log: Arc<Log>,
    pub(crate) address: SocketAddr,
    pub(crate) telemetry: SocketAddr,
    configuration: NamedTempFile,
    _directory: TempDir,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Notify,
}

/// The program with these arguments and nothing in its environment: the one that was built with the tests, or another
/// that `SPANRELAY_BINARY` names.
pub(crate) fn spanrelay(arguments: &[&str]) -> Command {
    let built = || env!("CARGO_BIN_EXE_spanrelay").into();
    let mut command = Command::new(std::env::var_os("SPANRELAY_BINARY").unwrap_or_else(built));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

// === impl Ended ===

impl Ended {
    /// Runs it to its end.
    pub(crate) async fn of(command: &mut Command) -> Self {
        let output = in_time("the program ends", command.output()).await.unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) async fn with_input(command: &mut Command, input: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
        drop(stdin);
        let output = in_time("the program ends", process.wait_with_output()).await.unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

// === impl Child ===

impl Child {
    /// Starts the relay with this configuration, in a directory of its own if the arguments name none, and waits until
    /// it is ready.
    pub(crate) async fn start(configuration: &str, arguments: &[&str]) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(configuration.as_bytes()).unwrap();
        let command = spanrelay(&["run", "--config", file.path().to_str().unwrap()]);
        Self::started(command, file, arguments).await
    }

    /// Starts the relay without a file and with these variables, on free ports.
    pub(crate) async fn deployed(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = spanrelay(&["run"]);
        command.envs(environment.iter().copied());
        command.args(["--set", "server.endpoint=127.0.0.1:0", "--set", "telemetry.endpoint=127.0.0.1:0"]);
        Self::started(command, NamedTempFile::new().unwrap(), arguments).await
    }

    async fn started(mut command: Command, file: NamedTempFile, arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let queue = format!("queue.directory={}", directory.path().display());
        command.args(["--set", "telemetry.logs.format=json", "--set", &queue]).args(arguments);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        tokio::spawn(read(process.stderr.take().unwrap(), Arc::clone(&log)));
        let started = log.line("started").await;
        let address = |key: &str| started[key].as_str().unwrap().parse().unwrap();
        let (address, telemetry) = (address("server.address"), address("telemetry.address"));
        Self { process, log, address, telemetry, configuration: file, _directory: directory }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        ask.to(self.address).await
    }

    /// The first line of its log with this message.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.log.line(message).await
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// Writes another configuration over the one that it was started with.
    pub(crate) fn configure(&self, configuration: &str) {
        std::fs::write(self.configuration.path(), configuration).unwrap();
    }

    pub(crate) async fn telemetry(&self, path: &str) -> Reply {
        Ask::get(path).to(self.telemetry).await
    }

    pub(crate) async fn metrics(&self) -> Samples {
        Samples::parse(&self.telemetry("/metrics").await.text())
    }

    /// `kill -9`: nothing of it runs any more.
    pub(crate) async fn kill(mut self) {
        in_time("the process is gone", self.process.kill()).await.unwrap();
    }

    /// Sends it a signal, as `kill` does.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.process.id().expect("it has not ended").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        in_time("the process ends", self.process.wait()).await.unwrap().code()
    }
}

// === impl Log ===

impl Log {
    async fn line(&self, message: &str) -> Value {
        let found = async {
            loop {
                let grew = self.grew.notified();
                let known: Vec<String> = self.lines.lock().unwrap().clone();
                let lines = known.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                if let Some(line) = lines.into_iter().find(|line| line["message"] == message) {
                    return line;
                }
                grew.await;
            }
        };
        in_time(&format!("a log line: {message}"), found).await
    }
}

async fn read(stderr: ChildStderr, log: Arc<Log>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.lines.lock().unwrap().push(line);
        log.grew.notify_waiters();
    }
}
