//! The real program as a process, tested by what its user sees: arguments, output, signals, exit code.
//!
//! When a relay has ended, or its test has, both its outputs are searched for the secrets that it was given.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::given::Given;
use super::{Ask, Reply, Samples, in_time};

/// Output and exit code of a program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running relay in its own process, which is ready. Killed when it is dropped.
pub(crate) struct Child {
    process: tokio::process::Child,
    log: Arc<Log>,
    out: Arc<Mutex<Vec<u8>>>,
    /// Tasks that read both outputs to their ends.
    readers: Vec<JoinHandle<()>>,
    given: Mutex<Given>,
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

/// Returns the program with these arguments and an empty environment: the one that was built with the tests, or another
/// one that `SPANRELAY_BINARY` names.
pub(crate) fn spanrelay(arguments: &[&str]) -> Command {
    let built = || env!("CARGO_BIN_EXE_spanrelay").into();
    let mut command = Command::new(std::env::var_os("SPANRELAY_BINARY").unwrap_or_else(built));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Converts a process id to the type of the system calls.
pub(crate) fn process_id(id: u32) -> Pid {
    Pid::from_raw(id.try_into().unwrap()).expect("a process has an id")
}

pub(crate) fn signal_named(name: &str) -> Signal {
    match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        other => panic!("no test sends {other}"),
    }
}

// === impl Ended ===

impl Ended {
    /// Runs a command to its end.
    pub(crate) async fn of(command: &mut Command) -> Self {
        let output = in_time("the program ends", command.output()).await.unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command to its end with this standard input.
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
    /// Starts the relay with this configuration, in its own directory unless the arguments name one, and waits until it
    /// is ready.
    pub(crate) async fn start(configuration: &str, arguments: &[&str]) -> Self {
        Self::configured(spanrelay, configuration, arguments).await
    }

    /// Starts the relay in a shell after this command, which limits what it may use.
    pub(crate) async fn limited(limit: &str, configuration: &str) -> Self {
        let program = |arguments: &[&str]| {
            let program = spanrelay(&[]);
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("{limit}; exec \"$0\" \"$@\""));
            shell.arg(program.as_std().get_program()).args(arguments);
            shell.env_clear().kill_on_drop(true).stdin(Stdio::null());
            shell
        };
        Self::configured(program, configuration, &[]).await
    }

    async fn configured(
        program: impl FnOnce(&[&str]) -> Command,
        configuration: &str,
        arguments: &[&str],
    ) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(configuration.as_bytes()).unwrap();
        let command = program(&["run", "--config", file.path().to_str().unwrap()]);
        let mut given = Given::default();
        given.in_configuration(configuration);
        Self::started(command, file, arguments, given).await
    }

    /// Starts the relay without a file and with these variables, on free ports.
    pub(crate) async fn deployed(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = spanrelay(&["run"]);
        command.envs(environment.iter().copied());
        command.args(["--set", "server.endpoint=127.0.0.1:0", "--set", "telemetry.endpoint=127.0.0.1:0"]);
        let mut given = Given::default();
        environment.iter().for_each(|(name, value)| given.in_variable(name, value));
        Self::started(command, NamedTempFile::new().unwrap(), arguments, given).await
    }

    async fn started(
        mut command: Command,
        file: NamedTempFile,
        arguments: &[&str],
        mut given: Given,
    ) -> Self {
        arguments.iter().for_each(|argument| given.in_setting(argument));
        let directory = TempDir::new().unwrap();
        let queue = format!("queue.directory={}", directory.path().display());
        command.args(["--set", "telemetry.logs.format=json", "--set", &queue]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, out) = (Arc::new(Log::default()), Arc::default());
        let readers = vec![
            tokio::spawn(read_log(process.stderr.take().unwrap(), Arc::clone(&log))),
            tokio::spawn(read_out(process.stdout.take().unwrap(), Arc::clone(&out))),
        ];
        let started = log.line("started").await;
        let address = |key: &str| started[key].as_str().unwrap().parse().unwrap();
        let (address, telemetry) = (address("server.address"), address("telemetry.address"));
        let given = Mutex::new(given);
        Self {
            process,
            log,
            out,
            readers,
            given,
            address,
            telemetry,
            configuration: file,
            _directory: directory,
        }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        ask.to(self.address).await
    }

    /// Waits for the first log line with this message.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.log.line(message).await
    }

    /// Returns everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// Overwrites the configuration that the relay was started with.
    pub(crate) fn configure(&self, configuration: &str) {
        self.given.lock().unwrap().in_configuration(configuration);
        std::fs::write(self.configuration.path(), configuration).unwrap();
    }

    pub(crate) async fn telemetry(&self, path: &str) -> Reply {
        Ask::get(path).to(self.telemetry).await
    }

    pub(crate) async fn metrics(&self) -> Samples {
        Samples::parse(&self.telemetry("/metrics").await.text())
    }

    /// Sends SIGKILL and waits until the process has ended.
    pub(crate) async fn kill(mut self) {
        in_time("the process is gone", self.process.kill()).await.unwrap();
        self.read_to_its_end().await;
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.process.id().expect("the process has not ended");
        rustix::process::kill_process(process_id(id), signal_named(name)).unwrap();
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it has not ended")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the process, and returns its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let code = in_time("the process ends", self.process.wait()).await.unwrap().code();
        self.read_to_its_end().await;
        code
    }

    async fn read_to_its_end(&mut self) {
        for reader in self.readers.drain(..) {
            in_time("its outputs end with it", reader).await.unwrap();
        }
        self.tells_no_secret();
    }

    fn tells_no_secret(&self) {
        let given = self.given.lock().unwrap();
        let out = String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned();
        for (name, text) in [("log", self.log()), ("standard output", out)] {
            if let Some(secret) = given.found_in(&text) {
                panic!("the secret {secret} is in its {name}:\n{text}");
            }
        }
    }
}

impl Drop for Child {
    /// Checks the output so far, if the test did not wait for the end.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tells_no_secret();
        }
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

async fn read_log(stderr: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.lines.lock().unwrap().push(line);
        log.grew.notify_waiters();
    }
}

async fn read_out(mut stdout: impl AsyncRead + Unpin, out: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stdout.read(&mut bytes).await {
        out.lock().unwrap().extend_from_slice(&bytes[..count]);
    }
}

/// The log contains `started`: a relay with that secret fails its test, however the test ends.
#[tokio::test]
async fn a_relay_that_logs_a_secret_fails_its_test() {
    let configuration = super::House::configuration("http://127.0.0.1:9").replace(super::SECRET, "started");
    for is_awaited in [true, false] {
        let configuration = configuration.clone();
        let test = tokio::spawn(async move {
            let mut child = Child::start(&configuration, &[]).await;
            if is_awaited {
                child.signal("TERM").await;
                child.ended().await;
            }
        });
        let failed = test.await.expect_err("the test fails").into_panic();
        let words = failed.downcast_ref::<String>().unwrap();
        assert!(words.starts_with("the secret started is in its log"), "{words}");
    }
}
