//! The environment table: configuration by variables when there is no file, so that the relay replaces a circleci-hook
//! or a Fastly example-proxy deployment with its environment unchanged.
//!
//! In: the tree of `config/local.yaml` and the environment. Out: the tree with the table written into it. Values are
//! validated with those of all other sources; problems name the variable.
//!
//! Precedence: variables for one signal over variables for all signals; then those of the replaced program
//! (`CIRCLECI_…`, `OTEL_HTTP_COLLECTOR_URL`) over `OTEL_EXPORTER_OTLP_…`, because a platform sets the latter for every
//! program that it runs. A note names an endpoint that is overridden. `--set` overrides everything.
//!
//! An empty variable counts as unset, as the OpenTelemetry specification requires; but an empty `CIRCLECI_HOOK_SECRET`
//! is a problem, because it was meant to enable verification.
//!
//! `PORT` listens on `0.0.0.0`, because `[::]` fails on a host without IPv6.

use super::Config;
use super::endpoint::{Endpoint, percent_decode};
use super::env::{Environment, Variable};
use super::problem::{Problem, ValueOrigin};
use super::receivers::{ReceiverKind, SectionVariable, VariableForm};
use super::sections::GRPC_PORT;
use super::yaml::{Node, YamlValue};
use crate::event::Signal;

const PORT: &str = "PORT";
const HOOK_PREFIX: &str = "CIRCLECI_OTLP_";
const HOOK_ENDPOINT: &str = "CIRCLECI_OTLP_ENDPOINT";
const PROXY_URL: &str = "OTEL_HTTP_COLLECTOR_URL";
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

const HTTP: [&str; 2] = ["exporters", "otlp_http"];
const GRPC: [&str; 2] = ["exporters", "otlp_grpc"];
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const RECEIVERS: &str = "receivers";
const ALLOW_UNSIGNED: &str = "allow_unsigned";

/// State of applying the table.
struct Table<'a> {
    environment: &'a Environment,
    root: &'a mut Node,
    /// Path of the exporter's section.
    exporter: [&'static str; 2],
    problems: &'a mut Vec<Problem>,
}

/// Applies the environment to `root`.
pub(super) fn apply(
    root: &mut Node,
    environment: &Environment,
    receivers: &[ReceiverKind],
    problems: &mut Vec<Problem>,
) {
    let exporter = if wants_grpc(environment) { GRPC } else { HTTP };
    let mut table = Table { environment, root, exporter, problems };
    if exporter == GRPC {
        let origin = ValueOrigin::Variable(PROTOCOL.to_owned());
        table.put_node(&GRPC, Node { origin, value: YamlValue::Map(Vec::new()) });
    }
    table.exporter(None);
    table.circleci_exporter();
    for signal in Signal::ALL {
        table.exporter(Some(signal));
    }
    table.proxy_url();
    for kind in receivers {
        kind.variables().iter().for_each(|variable| table.receiver(kind.name(), *variable));
    }
    table.port();
}

/// Asks for signatures as soon as secrets are mentioned, wherever they come from: the built-in `allow_unsigned: true` is for
/// a relay that was given none. An `allow_unsigned` of the operator's own stays.
pub(super) fn require_signatures(root: &mut Node, receivers: &[ReceiverKind]) {
    for (kind, secret) in secrets(receivers) {
        let Some(section) = root.get(RECEIVERS).and_then(|receivers| receivers.get(kind)) else { continue };
        let is_explicit = section.get(ALLOW_UNSIGNED).is_some_and(|node| node.origin == ValueOrigin::Set);
        if section.get(secret.key).is_some() && !is_explicit {
            root.remove(&[RECEIVERS, kind], ALLOW_UNSIGNED);
        }
    }
}

/// Returns the variables of secrets, with the kinds of their receivers.
fn secrets(receivers: &[ReceiverKind]) -> impl Iterator<Item = (&'static str, SectionVariable)> {
    receivers.iter().flat_map(|kind| {
        let secrets = kind.variables().iter().filter(|variable| variable.form == VariableForm::Secret);
        secrets.map(|secret| (kind.name(), *secret))
    })
}

/// Returns notes for the operator about the resulting configuration.
pub(super) fn notes(config: &Config, environment: &Environment, receivers: &[ReceiverKind]) -> Vec<String> {
    let is_set = |name: &str| is_set(environment, name);
    let mut notes = Vec::new();
    for (kind, SectionVariable { name, .. }) in secrets(receivers) {
        if is_set(PORT) && !is_set(name) && !config.receivers.has(kind) {
            notes.push(format!("{kind} receiver disabled: {PORT} is set and {name} is not"));
        }
    }
    if is_set(HOOK_ENDPOINT) && is_set(OTLP_ENDPOINT) {
        notes.push(format!("{HOOK_ENDPOINT} overrides {OTLP_ENDPOINT}"));
    }
    if is_set(PROXY_URL) && is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        notes.push(format!("{PROXY_URL} overrides OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    }
    // A name of the service alone does not ask for requests from elsewhere.
    let of_receivers = receivers.iter().flat_map(ReceiverKind::variables);
    let of_receivers = of_receivers.filter(|variable| variable.form != VariableForm::Text);
    let mut of_predecessors = of_receivers.map(|variable| variable.name).chain([HOOK_ENDPOINT, PROXY_URL]);
    if let Some(name) = of_predecessors.find(|name| is_set(name))
        && config.server.endpoint.ip().is_loopback()
    {
        notes.push(format!(
            "{name} is set and {PORT} is not: listening on {} only; set {PORT} to listen on all interfaces",
            config.server.endpoint
        ));
    }
    let (traces, logs) = (
        config.exporters.otlp_http.traces_endpoint.authority(),
        config.exporters.otlp_http.logs_endpoint.authority(),
    );
    if is_set(PROXY_URL) && traces != logs {
        notes.push(format!(
            "{PROXY_URL} applies to traces only; logs and metrics are exported to {}; set {OTLP_ENDPOINT} to change that",
            config.exporters.otlp_http.logs_endpoint
        ));
    }
    notes
}

/// Reports whether the environment asks for OTLP/gRPC: by the protocol, for all signals or for one, or by the port of the
/// endpoint where no protocol is given.
fn wants_grpc(environment: &Environment) -> bool {
    let of_signal =
        |signal: &Signal| format!("OTEL_EXPORTER_OTLP_{}_PROTOCOL", signal.as_str().to_uppercase());
    let names = std::iter::once(PROTOCOL.to_owned()).chain(Signal::ALL.iter().map(of_signal));
    let mut protocols = names.filter(|name| is_set(environment, name)).peekable();
    if protocols.peek().is_some() {
        return protocols.any(|name| matches!(environment.get(&name), Variable::Text("grpc")));
    }
    let endpoint = [HOOK_ENDPOINT, OTLP_ENDPOINT].into_iter().find(|name| is_set(environment, name));
    let Some(Variable::Text(url)) = endpoint.map(|name| environment.get(name)) else { return false };
    Endpoint::parse(url).is_ok_and(|endpoint| endpoint.uri.port_u16() == Some(GRPC_PORT))
}

fn is_set(environment: &Environment, name: &str) -> bool {
    !matches!(environment.get(name), Variable::Unset | Variable::Text(""))
}

// === impl Table ===

impl<'a> Table<'a> {
    /// Applies `OTEL_EXPORTER_OTLP_…`, for all signals or for one.
    fn exporter(&mut self, signal: Option<Signal>) {
        let infix = signal.map_or_else(String::new, |signal| format!("{}_", signal.as_str().to_uppercase()));
        let name = |suffix: &str| format!("OTEL_EXPORTER_OTLP_{infix}{suffix}");
        let endpoint = signal.map_or_else(|| "endpoint".to_owned(), |signal| format!("{signal}_endpoint"));
        let mut section = self.exporter.to_vec();
        section.extend(signal.map(Signal::as_str));
        let at = |path: &[&'static str]| [section.as_slice(), path].concat();

        self.copy(&name("ENDPOINT"), &[self.exporter.as_slice(), &[endpoint.as_str()]].concat());
        self.copy(&name("COMPRESSION"), &at(&["compression"]));
        self.copy(&name("CERTIFICATE"), &at(&["tls", "ca_file"]));
        self.copy(&name("CLIENT_CERTIFICATE"), &at(&["tls", "cert_file"]));
        self.copy(&name("CLIENT_KEY"), &at(&["tls", "key_file"]));
        self.protocol(&name("PROTOCOL"), &at(&["encoding"]));
        self.timeout(&name("TIMEOUT"), &at(&["timeout"]));
        self.headers(&name("HEADERS"), &at(&["headers"]));
    }

    fn protocol(&mut self, name: &str, path: &[&str]) {
        let Some(text) = self.text(name) else { return };
        match text {
            "grpc" if self.exporter == GRPC => {}
            "http/json" | "http/protobuf" if self.exporter == GRPC => {
                self.problem(name, "another variable asks for grpc, and all signals have one protocol");
            }
            "http/json" => self.put(name, path, "json"),
            "http/protobuf" => self.put(name, path, "protobuf"),
            _ => self.problem(name, "must be grpc, http/json or http/protobuf"),
        }
    }

    /// Applies a timeout in milliseconds.
    fn timeout(&mut self, name: &str, path: &[&str]) {
        let Some(text) = self.text(name) else { return };
        match text.parse::<u64>() {
            Ok(0) => self
                .problem(name, "0 (no limit) is not supported: give a number of milliseconds, such as 10000"),
            Ok(milliseconds) => self.put(name, path, &format!("{milliseconds}ms")),
            Err(_) => self.problem(name, "must be a whole number of milliseconds, such as 10000"),
        }
    }

    /// Applies headers, written as the OpenTelemetry specification says: `key=value,key2=value2`, values percent-encoded.
    fn headers(&mut self, name: &str, path: &[&str]) {
        let Some(text) = self.text(name) else { return };
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let header = pair.split_once('=').and_then(|(key, value)| {
                Some((key.trim().to_ascii_lowercase(), percent_decode(value.trim())?))
            });
            match header {
                Some((key, value)) => self.put(name, &[path, &[key.as_str()]].concat(), &value),
                None => {
                    self.problem(
                        name,
                        "must be key=value pairs joined by commas, with percent-encoded values",
                    );
                    return;
                }
            }
        }
    }

    /// Applies circleci-hook's variables: an endpoint, and a header for every other name.
    fn circleci_exporter(&mut self) {
        self.copy(HOOK_ENDPOINT, &[self.exporter.as_slice(), &["endpoint"]].concat());
        let environment = self.environment;
        for (name, _) in environment.iter() {
            let Some(header) = name.strip_prefix(HOOK_PREFIX) else { continue };
            if name != HOOK_ENDPOINT && !header.is_empty() {
                let header = header.to_ascii_lowercase().replace('_', "-");
                self.copy(name, &[self.exporter.as_slice(), &["headers", header.as_str()]].concat());
            }
        }
    }

    /// Applies the example proxy's collector URL. The proxy sent logs to the same collector as traces, so the URL also sets
    /// the base endpoint, unless another variable does or the URL does not end in the traces path.
    fn proxy_url(&mut self) {
        let Some(url) = self.text(PROXY_URL) else { return };
        self.copy(PROXY_URL, &[self.exporter.as_slice(), &["traces_endpoint"]].concat());
        let another = is_set(self.environment, HOOK_ENDPOINT) || is_set(self.environment, OTLP_ENDPOINT);
        if let Some(base) = url.strip_suffix("/v1/traces")
            && !another
        {
            self.put(PROXY_URL, &[self.exporter.as_slice(), &["endpoint"]].concat(), base);
        }
    }

    /// Applies a variable of the program that a kind of receiver replaces.
    fn receiver(&mut self, kind: &'static str, SectionVariable { name, key, form }: SectionVariable) {
        let path = [RECEIVERS, kind, key];
        match form {
            VariableForm::Text => self.copy(name, &path),
            VariableForm::List => {
                let Some(text) = self.text(name) else { return };
                let words = text.split(|c: char| c == ',' || c.is_whitespace());
                self.put_list(name, &path, words.filter(|word| !word.is_empty()));
            }
            VariableForm::Secret => match self.environment.get(name) {
                Variable::Text("") => {
                    self.problem(name, "is empty; set it to the webhook's signing secret, or unset it");
                }
                Variable::Text(secret) => self.put_list(name, &path, std::iter::once(secret)),
                Variable::NotUtf8 => self.problem(name, "is not UTF-8"),
                // On all interfaces, anyone could send unsigned webhooks.
                Variable::Unset if is_set(self.environment, PORT) => self.root.remove(&[RECEIVERS], kind),
                Variable::Unset => {}
            },
        }
    }

    fn port(&mut self) {
        let Some(text) = self.text(PORT) else { return };
        match text.parse::<u16>() {
            Ok(port) => self.put(PORT, &["server", "endpoint"], &format!("0.0.0.0:{port}")),
            Err(_) => self.problem(PORT, "must be a port: a number from 0 to 65535"),
        }
    }

    /// Returns the value of a variable that is set and not empty.
    fn text(&mut self, name: &str) -> Option<&'a str> {
        match self.environment.get(name) {
            Variable::Unset | Variable::Text("") => None,
            Variable::Text(text) => Some(text),
            Variable::NotUtf8 => {
                self.problem(name, "is not UTF-8");
                None
            }
        }
    }

    /// Writes the value of a variable to `path` unchanged.
    fn copy(&mut self, name: &str, path: &[&str]) {
        if let Some(text) = self.text(name) {
            self.put(name, path, text);
        }
    }

    fn put(&mut self, name: &str, path: &[&str], text: &str) {
        self.put_node(path, Node::text(text, ValueOrigin::Variable(name.to_owned())));
    }

    fn put_list<'b>(&mut self, name: &str, path: &[&str], texts: impl Iterator<Item = &'b str>) {
        let origin = ValueOrigin::Variable(name.to_owned());
        let texts = texts.map(|text| Node::text(text, origin.clone())).collect();
        self.put_node(path, Node { origin, value: YamlValue::List(texts) });
    }

    fn put_node(&mut self, path: &[&str], node: Node) {
        self.root.put(path, node).expect("the built-in configuration has maps where the table writes");
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(Problem::new(&ValueOrigin::Variable(name.to_owned()), "", what));
    }
}

#[cfg(test)]
mod tests;
