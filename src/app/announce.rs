//! Start-up summary in the log: enabled parts, their addresses, and risks.
//!
//! In: the configuration and the bound addresses. Out: an `info` for each enabled part, a `warn` with the key for each
//! risk, and `started` as the last line. Promises: no secrets, and only host and port of downstream endpoints.

use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::config::{Config, Storage, Sync, TracesConfig, format_duration, is_loopback};
use crate::event::Signal;

/// Bound addresses of the relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) server: SocketAddr,
    pub(super) telemetry: SocketAddr,
}

// === impl Addresses ===

impl Addresses {
    /// Reads the addresses of the listeners.
    ///
    /// # Panics
    /// Panics if a socket is no longer valid.
    pub(super) fn of(front_door: &TcpListener, telemetry: &TcpListener) -> Self {
        let address = |listener: &TcpListener| listener.local_addr().expect("the listener is bound");
        Self { server: address(front_door), telemetry: address(telemetry) }
    }
}

/// A risk in the configuration that an operator should be aware of.
#[derive(Debug, PartialEq, Eq)]
struct Risk {
    key: String,
    what: &'static str,
}

/// Writes the summary.
pub(super) fn announce(config: &Config, addresses: Addresses, max_connections: usize) {
    let Config { server, receivers, queue, .. } = config;
    let (span_events, exporter) = (&config.processors.span_events, &config.exporters.otlp_http);
    receivers.iter().for_each(|receiver| receiver.announce());
    info!(wait = format_duration(span_events.wait), "span_events enabled");
    match queue.storage {
        Storage::Disk => {
            let directory = queue.directory.display();
            info!(storage = "disk", %directory, max_size_bytes = queue.max_size, "queue enabled");
        }
        Storage::Memory => info!(storage = "memory", max_size_bytes = queue.max_size, "queue enabled"),
        Storage::Kafka => {
            if let Some(kafka) = &queue.kafka {
                let (topic, group, role) = (&kafka.topic, &kafka.group_id, kafka.role.as_str());
                info!(storage = "kafka", topic, group, role, "queue enabled");
            }
        }
    }
    for signal in Signal::ALL {
        let downstream = host_of(exporter.of(signal).endpoint);
        info!(signal = signal.as_str(), downstream, "exporter enabled");
    }
    if let Some(TracesConfig { endpoint, sampling_ratio, .. }) = &config.telemetry.traces {
        info!(endpoint = host_of(endpoint), sampling_ratio, "self-tracing enabled");
    }
    for Risk { key, what } in risks(config, addresses) {
        warn!(key, "{what}");
    }
    let Addresses { server: address, telemetry } = addresses;
    let downstream = exporter.traces_endpoint.authority().map_or("", |authority| host_and_port(authority));
    let (tls, version) = (server.tls.is_some(), env!("CARGO_PKG_VERSION"));
    info!(server.address = %address, tls, max_connections, telemetry.address = %telemetry, downstream, version, "started");
}

/// Returns scheme, host and port only: path, user and password may be secrets.
pub(super) fn host_of(endpoint: &Uri) -> String {
    let host = endpoint.authority().map_or("", host_and_port);
    format!("{}://{host}", endpoint.scheme_str().unwrap_or("http"))
}

fn host_and_port(authority: &http::uri::Authority) -> &str {
    let whole = authority.as_str();
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}

fn risks(config: &Config, addresses: Addresses) -> Vec<Risk> {
    let mut risks = Vec::new();
    let mut risk = |key: &str, what: &'static str| risks.push(Risk { key: key.to_owned(), what });
    let Config { server, receivers, queue, telemetry, .. } = config;
    let exporter = &config.exporters.otlp_http;
    let is_public = !addresses.server.ip().is_loopback();
    let asks_for_certificates = server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let takes_anyone = is_public && !asks_for_certificates;
    for receiver in receivers.iter() {
        if let Some((key, what)) = receiver.risk(takes_anyone) {
            risk(&format!("receivers.{}.{key}", receiver.id()), what);
        }
    }
    if is_public && server.tls.is_none() {
        risk(
            "server.tls",
            "TLS is off: requests and tokens arrive in plaintext unless a proxy terminates TLS",
        );
    }
    if !addresses.telemetry.ip().is_loopback() {
        risk(
            "telemetry.endpoint",
            match telemetry.inspect.show_values {
                true => {
                    "no authentication: anyone who can reach this port can see requests at /inspect, with all values"
                }
                false => {
                    "no authentication: anyone who can reach this port can see health, metrics, and requests at /inspect, without values"
                }
            },
        );
    }
    match (queue.storage, queue.sync) {
        (Storage::Memory, _) => {
            risk("queue.storage", "in-memory queue: undelivered data is lost on exit");
        }
        (Storage::Disk, Sync::Always) | (Storage::Kafka, _) => {}
        (Storage::Disk, Sync::Interval | Sync::Never) => {
            risk("queue.sync", "a power loss can lose accepted data: queue.sync is not always");
        }
    }
    let in_the_clear = Signal::ALL.into_iter().map(|signal| exporter.of(signal)).any(|export| {
        let carries_secrets = !export.headers.is_empty() || export.endpoint.authority().is_some_and(has_user);
        export.endpoint.scheme() == Some(&Scheme::HTTP) && carries_secrets && !is_loopback(export.endpoint)
    });
    if in_the_clear {
        risk(
            &format!("{}.endpoint", exporter.protocol.section()),
            "headers or a password are sent in plaintext: the endpoint uses http",
        );
    }
    if let Some(TracesConfig { endpoint, headers, .. }) = &telemetry.traces
        && endpoint.scheme() == Some(&Scheme::HTTP)
        && !headers.is_empty()
        && !is_loopback(endpoint)
    {
        risk("telemetry.traces.endpoint", "headers are sent in plaintext: the endpoint uses http");
    }
    risks
}

fn has_user(authority: &http::uri::Authority) -> bool {
    authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, LogFormat};
    use crate::receiver::RECEIVERS;
    use crate::telemetry::logging::tests::Captured;

    fn keys(yaml: &str, server: &str, telemetry: &str) -> Vec<String> {
        let config = Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).unwrap();
        let addresses = Addresses { server: server.parse().unwrap(), telemetry: telemetry.parse().unwrap() };
        risks(&config, addresses).into_iter().map(|risk| risk.key).collect()
    }

    const LOCAL: &str = "127.0.0.1:1";
    const PUBLIC: &str = "0.0.0.0:1";

    #[test]
    fn a_relay_on_loopback_with_an_on_disk_queue_has_no_risks() {
        let yaml = "receivers: { fastly: , otlp: }\nqueue: { storage: disk }\n";
        assert_eq!(keys(yaml, LOCAL, LOCAL), Vec::<String>::new());
    }

    #[test]
    fn a_public_port_without_authentication_and_tls_is_a_risk() {
        let yaml = "receivers: { fastly/www: , circleci: { allow_unsigned: true }, otlp: }\nqueue: { storage: memory }\n";
        assert_eq!(
            keys(yaml, PUBLIC, PUBLIC),
            [
                "receivers.fastly/www.auth",
                "receivers.circleci.allow_unsigned",
                "receivers.otlp.auth",
                "server.tls",
                "telemetry.endpoint",
                "queue.storage"
            ]
        );
    }

    #[test]
    fn secrets_sent_in_plaintext_are_a_risk_unless_they_stay_on_the_machine() {
        let with = |endpoint: &str| {
            let yaml = format!(
                "receivers: {{ fastly: }}\nqueue: {{ storage: disk, sync: never }}\n\
                 exporters: {{ otlp_http: {{ endpoint: \"{endpoint}\", headers: {{ x-key: a }} }} }}\n"
            );
            keys(&yaml, LOCAL, LOCAL)
        };
        assert_eq!(with("http://collector.example:4318"), ["queue.sync", "exporters.otlp_http.endpoint"]);
        assert_eq!(with("https://collector.example:4318"), ["queue.sync"]);
        assert_eq!(with("http://[::1]:4318"), ["queue.sync"]);
    }

    #[test]
    fn self_tracing_headers_sent_in_plaintext_are_a_risk() {
        let with = |endpoint: &str| {
            let yaml = format!(
                "receivers: {{ fastly: }}\n\
                 telemetry: {{ traces: {{ endpoint: \"{endpoint}\", headers: {{ x-key: a }} }} }}\n"
            );
            keys(&yaml, LOCAL, LOCAL)
        };
        assert_eq!(with("http://collector.example:4318/v1/traces"), ["telemetry.traces.endpoint"]);
        assert_eq!(with("https://collector.example/v1/traces"), [""; 0]);
        assert_eq!(with("http://localhost:4318/v1/traces"), [""; 0]);
    }

    #[test]
    fn only_scheme_host_and_port_of_an_endpoint_are_logged() {
        let endpoint = "https://user:secret@vendor.example:4318/v1/traces?key=secret".parse().unwrap();
        assert_eq!(host_of(&endpoint), "https://vendor.example:4318");
    }

    #[test]
    fn durations_are_formatted_as_in_the_configuration() {
        let (captured, _guard) = Captured::start(tracing::Level::INFO, LogFormat::Text);
        let yaml = "receivers: { fastly: }\nprocessors: { span_events: { wait: 0s } }\n";
        let config = Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).unwrap();
        let address: SocketAddr = LOCAL.parse().unwrap();
        announce(&config, Addresses { server: address, telemetry: address }, 1);
        let text = captured.text();
        assert!(text.contains("span_events enabled wait=\"0s\""), "{text}");
    }
}
