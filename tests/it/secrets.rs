//! No output of the program contains a secret.
//!
//! The real program is configured with every kind of secret and provoked into every kind of error, with its logs at the
//! most detailed level, in both formats. Then everything that it wrote is searched for the secrets: both outputs of every
//! command, every response, the telemetry endpoint, and the files of the queue, which contain bodies and nothing else. The
//! test reads outputs from their first byte and blocks while waiting, so it has its own process and collector.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tempfile::TempDir;

use crate::harness::{process_id, signal_named};

/// Secrets in the configuration or the environment.
const GIVEN: [&str; 14] = [
    "fastly-token-Kq7w",
    "rotated-fastly-token-Zb2x",
    "hook-secret-Vn4t",
    "next-hook-secret-Hd9s",
    "otlp-token-Mf3r",
    "circleci-api-token-Xw6h",
    "header-value-Xp8y",
    "logs-header-value-Tc5u",
    "endpoint-password-Qj6k",
    "metrics-password-Wg1e",
    "own-header-value-Ck2v",
    "own-password-Sm7d",
    "misplaced-secret-Rl0a",
    "environment-secret-Yd7i",
];

/// Credentials sent by unauthorized clients, which may be secrets of someone else.
const GUESSED: [&str; 3] = ["guessed-token-Bs2m", "guessed-coding-Nz8v", "guessed-request-id-Oe4h"];

/// Data in bodies and URLs, which may be stored but not shown.
const CONFIDED: [&str; 3] = ["confided-body-Jx5c", "confided-query-Fu9p", "confided-path-Ia3g"];

/// Timeout far beyond the duration of the test, so that a defect fails instead of hanging.
const TIME_LIMIT: Duration = Duration::from_secs(60);

const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"confided-body-Jx5c"}]}]}]}"#;
const LOG: &str =
    r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"confided-body-Jx5c"}}]}]}]}"#;
const POINT: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}"#;

/// Everything that the program wrote, by kind.
#[derive(Default)]
struct Written(Vec<(String, Vec<u8>)>);

/// Files with keys, and a configuration with everything in it.
struct Desk {
    directory: TempDir,
    /// Lines of the private key files.
    key_lines: Vec<String>,
}

/// A downstream with various responses that reports each request.
struct Downstream {
    address: SocketAddr,
    requests: Receiver<String>,
}

/// A running relay.
struct Relay {
    process: Child,
    /// Lines of its log.
    lines: Receiver<Vec<u8>>,
    log: Vec<u8>,
    server: SocketAddr,
    telemetry: SocketAddr,
}

// === impl Written ===

impl Written {
    fn add(&mut self, what: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((what.into(), text.into()));
    }

    fn output(&mut self, what: &str, output: Output) {
        self.add(format!("{what}, standard output"), output.stdout);
        self.add(format!("{what}, standard error"), output.stderr);
    }

    fn holds(&self, what: &str, text: &str) -> bool {
        self.0.iter().any(|(of, written)| of.starts_with(what) && find(written, text.as_bytes()))
    }

    /// Checks that it contains no secret in any encoding that a program could produce.
    fn assert_without(&self, secrets: &[&str]) {
        for secret in secrets {
            for form in forms(secret) {
                for (what, text) in &self.0 {
                    let shown = String::from_utf8_lossy(text);
                    assert!(!find(text, form.as_bytes()), "{form} ({secret}) is in {what}:\n{shown}");
                }
            }
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(text, wanted).is_some()
}

/// Returns the secret unchanged, in base64 at each alignment, in hexadecimal, and as a list of bytes.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let mut forms = vec![secret.to_owned(), hex, list.trim_matches(['[', ']']).to_owned()];
    for shift in 0..3 {
        let encoded = STANDARD.encode([&vec![b'.'; shift], bytes].concat());
        // Without the characters that depend on adjacent bytes.
        forms.push(encoded.get(4..encoded.len() - 4).unwrap().to_owned());
    }
    forms
}

// === impl Desk ===

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = certified.signing_key.serialize_pem();
        let key_lines: Vec<String> = key.lines().filter(|line| line.len() > 20).map(str::to_owned).collect();
        assert!(!key_lines.iter().any(|line| line.starts_with("-----")) || key_lines.len() > 1);
        let key_lines = key_lines.into_iter().filter(|line| !line.starts_with("-----")).collect();
        for (name, content) in [
            ("cert.pem", certified.cert.pem()),
            ("key.pem", key.clone()),
            // As if pasted into an environment variable.
            ("one-line.pem", key.replace('\n', "\\n")),
            ("encrypted.pem", key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
            ("cut.pem", key.lines().take(2).collect::<Vec<_>>().join("\n")),
        ] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        Self { directory, key_lines }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Returns a configuration with a secret in every key that can have one. `downstream` is the endpoint for traces, `own`
    /// the one for self-tracing, `nobody` an address without a listener.
    fn configuration(&self, downstream: SocketAddr, own: SocketAddr, nobody: SocketAddr) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
server: {{ endpoint: "127.0.0.1:0", max_request_body_size: 64KiB, max_line_size: 4KiB }}
receivers:
  fastly: {{ auth: {{ values: ["Bearer fastly-token-Kq7w", "Bearer rotated-fastly-token-Zb2x"] }} }}
  fastly/slow:
    auth: {{ header: x-key, values: ["fastly-token-Kq7w"] }}
    rate_limit: {{ requests_per_second: 0.001 }}
  circleci:
    secrets: ["hook-secret-Vn4t", "next-hook-secret-Hd9s", "${{env:HOOK_SECRET}}"]
    api: {{ token: circleci-api-token-Xw6h, endpoint: "http://{nobody}" }}
  otlp: {{ auth: {{ values: ["Bearer otlp-token-Mf3r"] }} }}
processors: {{ span_events: {{ wait: 0s }} }}
queue: {{ storage: disk, directory: "{queue}" }}
exporters:
  otlp_http:
    traces_endpoint: "http://user:endpoint-password-Qj6k@{downstream}/v1/traces"
    logs_endpoint: "http://{nobody}/v1/logs"
    metrics_endpoint: "https://user:metrics-password-Wg1e@{downstream}/v1/metrics"
    headers: {{ x-vendor-key: header-value-Xp8y }}
    logs: {{ headers: {{ x-logs-key: logs-header-value-Tc5u }} }}
    tls: {{ ca_file: "{cert}", cert_file: "{cert}", key_file: "{key}" }}
    retry_on_failure: {{ initial_interval: 50ms, max_interval: 500ms }}
telemetry:
  endpoint: "127.0.0.1:0"
  logs: {{ level: trace }}
  inspect: {{ show_values: true }}
  traces: {{ endpoint: "http://user:own-password-Sm7d@{own}/v1/traces", headers: {{ x-own-key: own-header-value-Ck2v }} }}
"#,
            queue = path("queue"),
            cert = path("cert.pem"),
            key = path("key.pem"),
        )
    }
}

/// Returns the program with these arguments and a secret in its environment.
fn spanrelay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanrelay"));
    command.args(arguments).env_clear().env("HOOK_SECRET", "environment-secret-Yd7i").stdin(Stdio::null());
    command
}

// === impl Downstream ===

impl Downstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let tell = tell.clone();
                thread::spawn(move || answer_all(stream.unwrap(), &tell));
            }
        });
        Self { address, requests }
    }

    fn next(&self) -> String {
        self.requests.recv_timeout(TIME_LIMIT).expect("a request comes")
    }
}

/// Responds to each request of a connection; permanently rejects those marked so.
fn answer_all(stream: TcpStream, tell: &Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader) {
        let answer = if request.contains("refuse me") {
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nbad thing\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        };
        if writer.write_all(answer.as_bytes()).is_err() || tell.send(request).is_err() {
            return;
        }
    }
    // Response to a TLS handshake.
    writer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
}

/// Reads headers and body; returns `None` at the end of the connection, or for TLS instead of HTTP.
fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut request = String::new();
    if reader.fill_buf().ok()?.first() != Some(&b'P') {
        return None;
    }
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
    }
    let length = request.to_ascii_lowercase().lines().find_map(|line| {
        let length = line.strip_prefix("content-length: ")?;
        length.parse::<usize>().ok()
    });
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some(request + &String::from_utf8_lossy(&body))
}

// === impl Relay ===

impl Drop for Relay {
    /// Stops the process when a test fails.
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Relay {
    fn start(configuration: &Path, format: &str) -> Self {
        let format = format!("telemetry.logs.format={format}");
        let mut command = spanrelay(&["run", "--config", configuration.to_str().unwrap(), "--set", &format]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // Read continuously, because a relay with a full log pipe blocks.
        thread::spawn(move || stderr.split(b'\n').map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut relay = Self { process, lines, log: Vec::new(), server: nowhere, telemetry: nowhere };
        let started = relay.read_until("started");
        (relay.server, relay.telemetry) =
            (address(&started, "server.address"), address(&started, "telemetry.address"));
        relay
    }

    /// Reads its log up to a line that contains this text.
    fn read_until(&mut self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            let line = self.lines.recv_timeout(TIME_LIMIT.saturating_sub(begun.elapsed()));
            let Ok(line) = line else {
                panic!("no {wanted} in {}", String::from_utf8_lossy(&self.log));
            };
            self.log.extend_from_slice(&line);
            self.log.push(b'\n');
            if find(&line, wanted.as_bytes()) {
                return String::from_utf8(line).unwrap();
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = process_id(self.process.id());
        rustix::process::kill_process(id, signal_named(name)).unwrap();
    }

    /// Drains it without waiting for undeliverable data.
    fn end(mut self, written: &mut Written) {
        self.signal("TERM");
        self.read_until("draining");
        self.signal("TERM");
        for line in self.lines.iter() {
            self.log.extend_from_slice(&line);
            self.log.push(b'\n');
        }
        let mut stdout = Vec::new();
        let mut taken: ChildStdout = self.process.stdout.take().unwrap();
        taken.read_to_end(&mut stdout).unwrap();
        self.process.wait().unwrap();
        written.add("run, standard output", stdout);
        written.add("run, log", std::mem::take(&mut self.log));
    }
}

/// Parses `key=127.0.0.1:1234` or `"key":"127.0.0.1:1234"`.
fn address(line: &str, key: &str) -> SocketAddr {
    let (_, rest) = line.split_once(key).unwrap();
    let rest = rest.trim_start_matches(['"', ':', '=']);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest.split_at(end).0.parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Sends one request on a new connection; returns the status and the whole response.
fn ask(to: SocketAddr, request_line: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(TIME_LIMIT)).unwrap();
    let length = body.len();
    let head = format!(
        "{request_line} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The relay may close the connection of an early rejected request before reading all of it.
    stream.write_all(body).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

fn sign(secret: &str, body: &str) -> String {
    let signed = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    signed.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn webhook(id: &str) -> String {
    format!(
        r#"{{"type":"ping","id":"{id}","happened_at":"2022-09-19T15:59:36.507435Z","webhook":{{"id":"d4ab06bc-eb79-463d-8aa4-47d066382d3b","name":"confided-body-Jx5c"}}}}"#
    )
}

/// Returns requests of every kind: request line, headers, body and expected status.
fn requests() -> Vec<(&'static str, String, Vec<u8>, u16)> {
    let good = webhook("92e0554a-837f-4086-913b-0dc7665d2a84");
    let (no_json, unknown) = ("confided-body-Jx5c", r#"{"type":"confided-body-Jx5c","id":"x"}"#);
    let signed = |secret: &str, body: &str| format!("circleci-signature: v1={}\r\n", sign(secret, body));
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let fastly = || bearer("fastly-token-Kq7w");
    let otlp = || bearer("otlp-token-Mf3r") + "content-type: application/json\r\n";
    let refused = SPAN.replace("Jx5c\"", "Jx5c refuse me\"");
    let with = |headers: &str, more: &str| format!("{headers}{more}\r\n");
    vec![
        ("POST /fastly", fastly(), SPAN.into(), 204),
        ("POST /fastly?k=confided-query-Fu9p", bearer("rotated-fastly-token-Zb2x"), LOG.into(), 204),
        ("POST /fastly", fastly(), refused.into(), 204),
        ("POST /fastly", with(&fastly(), "x-request-id: guessed-request-id-Oe4h"), SPAN.into(), 204),
        ("POST /fastly", bearer("guessed-token-Bs2m"), SPAN.into(), 401),
        ("POST /fastly", String::new(), SPAN.into(), 401),
        ("POST /fastly", fastly(), b"confided-body-Jx5c\n{\"confided-body-Jx5c\":".to_vec(), 400),
        ("POST /fastly", with(&fastly(), "content-encoding: guessed-coding-Nz8v"), SPAN.into(), 415),
        ("POST /fastly", with(&fastly(), "content-encoding: gzip"), b"confided-body-Jx5c".to_vec(), 400),
        ("POST /fastly", fastly(), vec![b'x'; 128 * 1024], 413),
        ("GET /fastly", fastly(), Vec::new(), 405),
        ("POST /fastly/slow", "x-key: fastly-token-Kq7w\r\n".into(), SPAN.into(), 204),
        ("POST /fastly/slow", "x-key: fastly-token-Kq7w\r\n".into(), SPAN.into(), 429),
        ("POST /circleci", signed("hook-secret-Vn4t", &good), good.clone().into(), 204),
        ("POST /circleci", signed("environment-secret-Yd7i", &good), good.clone().into(), 204),
        ("POST /circleci", signed("guessed-token-Bs2m", &good), good.clone().into(), 401),
        ("POST /circleci", "circleci-signature: guessed-token-Bs2m\r\n".into(), good.into(), 401),
        ("POST /circleci", signed("next-hook-secret-Hd9s", no_json), no_json.into(), 400),
        ("POST /circleci", signed("hook-secret-Vn4t", unknown), unknown.into(), 202),
        ("POST /v1/traces", otlp(), SPAN.into(), 200),
        ("POST /v1/metrics", otlp(), POINT.into(), 200),
        ("POST /v1/traces", bearer("guessed-token-Bs2m"), SPAN.into(), 401),
        ("POST /v1/traces", otlp(), b"confided-body-Jx5c".to_vec(), 400),
        (
            "POST /v1/logs",
            with(&bearer("otlp-token-Mf3r"), "content-type: text/guessed-coding-Nz8v"),
            LOG.into(),
            415,
        ),
        ("GET /confided-path-Ia3g?k=confided-query-Fu9p", fastly(), Vec::new(), 404),
        ("GET /traceparent/confided-path-Ia3g/x", String::new(), Vec::new(), 400),
        ("guessed-token-Bs2m /", String::new(), Vec::new(), 405),
    ]
}

fn lead_through_everything(desk: &Desk, format: &str, written: &mut Written) {
    let (downstream, own) = (Downstream::start(), Downstream::start());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration =
        desk.write("relay.yaml", &desk.configuration(downstream.address, own.address, nobody));
    let mut relay = Relay::start(&configuration, format);
    // A core dump would contain the memory and the environment.
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.process.id())).unwrap_or_default();
    for limit in limits.lines().filter(|limit| limit.starts_with("Max core file size")) {
        assert_eq!(limit.split_whitespace().nth(4), Some("0"), "{limit}");
    }
    // From here on the inspector is open.
    ask(relay.telemetry, "GET /inspect/data", "", b"");
    for (request_line, headers, body, status) in requests() {
        let (answered, answer) = ask(relay.server, request_line, &headers, &body);
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answered, status, "{request_line} {headers} {shown}");
        written.add(format!("answer to {request_line}"), answer);
    }
    // Not HTTP at all, and the start of a TLS handshake.
    for bytes in [&b"guessed-token-Bs2m\r\n\r\n"[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(relay.server).unwrap();
        stream.write_all(bytes).unwrap();
    }

    // The secrets were actually used.
    let came = downstream.next();
    let basic = STANDARD.encode("user:endpoint-password-Qj6k");
    assert!(came.contains("header-value-Xp8y") && came.contains(&basic), "{came}");
    let came = own.next();
    let (head, spans) = came.split_once("\r\n\r\n").unwrap();
    let basic = STANDARD.encode("user:own-password-Sm7d");
    assert!(head.contains("own-header-value-Ck2v") && head.contains(&basic), "{head}");
    assert!(spans.contains("POST /fastly"));
    written.add("own traces", spans);
    // Every downstream failure: permanent rejection, no listener, no TLS.
    let mut failures = vec!["export rejected", "connection refused by", "TLS with"];
    while !failures.is_empty() {
        let line = relay.read_until("");
        failures.retain(|failure| !line.contains(failure));
    }
    for endpoint in ["/metrics", "/healthz", "/readyz", "/inspect", "/confided-path-Ia3g"] {
        let (_, answer) = ask(relay.telemetry, &format!("GET {endpoint}"), "", b"");
        written.add(format!("telemetry {endpoint}"), answer);
    }
    // It shows the content of bodies, but no credentials of requests.
    let (status, shown) = ask(relay.telemetry, "GET /inspect/data", "", b"");
    assert_eq!((status, find(&shown, b"confided-body-Jx5c")), (200, true));
    let mut inspector = Written::default();
    inspector.add("inspector", shown);
    inspector.assert_without(&[&GIVEN[..], &GUESSED].concat());

    ask_the_relay_that_runs(desk, &relay, &configuration, nobody, written);

    // An invalid file with secrets in the wrong places.
    for (_, text) in broken_configurations(desk) {
        fs::write(&configuration, text).unwrap();
        relay.signal("HUP");
        // A valid file that partly needs a restart.
        relay.read_until("reloaded");
    }
    relay.end(written);
    fs::remove_file(configuration).unwrap();
}

/// Runs the commands that talk to a relay, with tokens, signatures and address from its configuration.
fn ask_the_relay_that_runs(
    desk: &Desk,
    relay: &Relay,
    configuration: &Path,
    nobody: SocketAddr,
    written: &mut Written,
) {
    let rejected = desk.path("queue").join("rejected.ndjson");
    let (rejected, configuration) = (rejected.to_str().unwrap(), configuration.to_str().unwrap());
    let replay = |configuration: &str, to: SocketAddr| {
        let to = to.to_string();
        spanrelay(&["replay", "--config", configuration, "--to", &to, rejected]).output().unwrap()
    };
    let says = |output: &Output, words: &str| {
        assert!(
            find(&[&output.stdout[..], &output.stderr].concat(), words.as_bytes()),
            "{words}: {output:?}"
        );
    };
    // Its requests carry the required credentials, so none of them is unauthorized.
    let replayed = replay(configuration, relay.server);
    says(&replayed, " rejected again, 0 not sent");
    assert!(!find(&replayed.stdout, b": 401"), "{replayed:?}");
    written.output("replay", replayed);
    let text = fs::read_to_string(configuration).unwrap();
    let other = ["fastly-token-Kq7w", "hook-secret-Vn4t", "otlp-token-Mf3r"]
        .iter()
        .fold(text, |text, secret| text.replace(secret, "misplaced-secret-Rl0a"));
    let other = desk.write("other.yaml", &other);
    let wrong_secrets = replay(other.to_str().unwrap(), relay.server);
    for path in ["/fastly: 401", "/circleci: 401", "/v1/traces: 401"] {
        says(&wrong_secrets, path);
    }
    written.output("replay with other secrets", wrong_secrets);
    let in_vain = replay(configuration, nobody);
    says(&in_vain, "cannot connect");
    written.output("replay to nobody", in_vain);

    for (what, address, code) in [("health", relay.telemetry, 0), ("health of nobody", nobody, 1)] {
        let endpoint = format!("telemetry.endpoint={address}");
        let output =
            spanrelay(&["--health", "--config", configuration, "--set", &endpoint]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
        written.output(what, output);
    }
}

/// Runs the commands without a configuration, which do not show the environment. `check` shows its own input.
fn look_at_a_body(desk: &Desk, written: &mut Written) {
    let body = desk.write("body", &format!("{SPAN}\nconfided-body-Jx5c\n{{\"confided-body-Jx5c\":\n"));
    let hook = desk.write("hook", &webhook("92e0554a-837f-4086-913b-0dc7665d2a84"));
    let alone = |arguments: &[&str]| {
        let mut command = spanrelay(arguments);
        command
            .env("CIRCLECI_HOOK_SECRET", "hook-secret-Vn4t")
            .env("CIRCLECI_OTLP_X_KEY", "header-value-Xp8y");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=header-value-Xp8y").output().unwrap()
    };
    let mut checked = Written::default();
    for format in ["text", "json"] {
        for (file, code) in [(&body, 1), (&hook, 0), (&desk.path("nowhere"), 2)] {
            let output = alone(&["check", "--format", format, file.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            checked.output("check", output);
        }
    }
    assert!(checked.holds("check", "confided-body-Jx5c"), "what is wrong is shown");
    checked.assert_without(&[&GIVEN[..], &GUESSED].concat());
    let demo = alone(&["demo"]);
    assert!(demo.status.success(), "{demo:?}");
    written.output("demo", demo);
}

/// Returns configurations with secrets in the wrong places, and with invalid files.
fn broken_configurations(desk: &Desk) -> BTreeMap<&'static str, String> {
    let secret = "misplaced-secret-Rl0a";
    let of = |text: &str| format!("receivers: {{ fastly: }}\n{text}");
    let file = |name: &str| desk.path(name).display().to_string();
    let server = |key: &str| {
        of(&format!(
            "server: {{ endpoint: \"127.0.0.1:0\", tls: {{ cert_file: \"{}\", key_file: \"{}\" }} }}",
            file("cert.pem"),
            file(key)
        ))
    };
    let exporter = |key: &str| {
        let tls = format!("cert_file: \"{}\", key_file: \"{}\"", file("cert.pem"), file(key));
        of(&format!("exporters: {{ otlp_http: {{ endpoint: \"https://localhost\", tls: {{ {tls} }} }} }}"))
    };
    BTreeMap::from([
        ("auth is no map", format!("receivers: {{ fastly: {{ auth: {secret} }} }}")),
        ("values is no list", format!("receivers: {{ fastly: {{ auth: {{ values: {secret} }} }} }}")),
        (
            "a line break in a token",
            format!("receivers: {{ fastly: {{ auth: {{ values: [\"{secret}\\n\"] }} }} }}"),
        ),
        ("secrets is no list", format!("receivers: {{ circleci: {{ secrets: {secret} }} }}")),
        ("a secret is a map", format!("receivers: {{ circleci: {{ secrets: [{{ {secret}: }}] }} }}")),
        ("a token is a list", format!("receivers: {{ circleci: {{ api: {{ token: [{secret}] }} }} }}")),
        ("circleci is no map", format!("receivers: {{ circleci: {secret} }}")),
        (
            "a line break in a header",
            of(&format!("exporters: {{ otlp_http: {{ headers: {{ a: \"{secret}\\n\" }} }} }}")),
        ),
        (
            "a header without a name",
            of(&format!("exporters: {{ otlp_http: {{ headers: {{ \"a: {secret}\": }} }} }}")),
        ),
        ("headers is no map", of(&format!("exporters: {{ otlp_http: {{ headers: {secret} }} }}"))),
        (
            "a password in a wrong address",
            of(&format!("exporters: {{ otlp_http: {{ endpoint: \"ftp://u:{secret}@h\" }} }}")),
        ),
        ("a variable in a duration", of("exporters: { otlp_http: { timeout: \"${env:HOOK_SECRET}\" } }")),
        ("a variable for a port", of("server: { endpoint: \"127.0.0.1:${env:HOOK_SECRET}\" }")),
        ("no end of a string", of(&format!("exporters: {{ otlp_http: {{ headers: {{ a: \"{secret}"))),
        ("server key in one line", server("one-line.pem")),
        ("server key encrypted", server("encrypted.pem")),
        ("server key cut off", server("cut.pem")),
        ("exporter key in one line", exporter("one-line.pem")),
        ("exporter key encrypted", exporter("encrypted.pem")),
        ("exporter key cut off", exporter("cut.pem")),
    ])
}

/// Adds the content of all files below a directory.
fn stored(directory: &Path, written: &mut Written) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => stored(&path, written),
            false => written.add(path.display().to_string(), fs::read(&path).unwrap()),
        }
    }
}

#[test]
fn no_output_of_the_program_contains_a_secret() {
    let desk = Desk::new();
    let mut written = Written::default();
    for format in ["text", "json"] {
        lead_through_everything(&desk, format, &mut written);
    }
    look_at_a_body(&desk, &mut written);

    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let configuration = desk.write("relay.yaml", &desk.configuration(nobody, nobody, nobody));
    let path = configuration.to_str().unwrap();
    written.output("validate", spanrelay(&["validate", "--config", path]).output().unwrap());
    let print = spanrelay(&["validate", "--print", "--config", path]).output().unwrap();
    assert!(print.status.success() && find(&print.stdout, b"[redacted]"), "{print:?}");
    written.output("print", print);
    let set = "receivers.circleci.secrets=misplaced-secret-Rl0a";
    written.output("set", spanrelay(&["validate", "--config", path, "--set", set]).output().unwrap());
    for (what, text) in broken_configurations(&desk) {
        let file = desk.write("broken.yaml", &text);
        // Some problems are visible to `run` only.
        for command in ["validate", "run"] {
            let output = spanrelay(&[command, "--config", file.to_str().unwrap()]).output().unwrap();
            assert!(command == "validate" || !output.status.success(), "{what}: it must not start");
            written.output(&format!("{command} where {what}"), output);
        }
    }
    for port in ["0", "misplaced-secret-Rl0a"] {
        let mut bare = spanrelay(&["validate", "--print"]);
        bare.env("PORT", port).env("CIRCLECI_HOOK_SECRET", "hook-secret-Vn4t");
        bare.env("CIRCLECI_OTLP_X_KEY", "header-value-Xp8y")
            .env("FASTLY_SERVICE_IDS", "misplaced-secret-Rl0a");
        bare.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=header-value-Xp8y,misplaced-secret-Rl0a");
        written.output("without a file", bare.output().unwrap());
    }

    let keys: Vec<&str> = desk.key_lines.iter().map(String::as_str).collect();
    assert!(!keys.is_empty());
    written.assert_without(&[&GIVEN[..], &GUESSED, &CONFIDED, &keys].concat());

    // Bodies are stored on disk for the next start and for operators; credentials of requests are not.
    let mut files = Written::default();
    stored(&desk.path("queue"), &mut files);
    assert!(files.holds("", "confided-body-Jx5c"), "what was rejected is kept");
    files.assert_without(&[&GIVEN[..], &GUESSED, &keys].concat());
}
