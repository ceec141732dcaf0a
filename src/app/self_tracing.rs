//! Set-up of self-tracing: its exporter, and the check that its endpoint is not the relay itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use http::Uri;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::announce::Addresses;
use crate::config::own_address::{is_at, is_named, port_of};
use crate::config::{Config, TracesConfig};
use crate::exporter::{SelfTraceExporter, SelfTraceExporterError};
use crate::telemetry::Metrics;
use crate::telemetry::traces::SpanSender;

/// Timeout for resolving the endpoint's name at the start. A name that does not resolve does not prevent the start: it
/// may resolve later, and self-tracing requests are never traced by a relay that receives them.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Self-tracing, ready to start.
pub(super) struct SelfTracing {
    exporter: SelfTraceExporter,
    sampling_ratio: f64,
}

/// Reason that self-tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelfTracingError {
    #[error(transparent)]
    Exporter(#[from] SelfTraceExporterError),
    #[error(
        "telemetry.traces.endpoint: {host} port {port} is {key} of this relay; self-tracing cannot be exported to the relay itself"
    )]
    Itself { host: String, port: u16, key: &'static str },
}

// === impl SelfTracing ===

impl SelfTracing {
    /// Prepares self-tracing; returns `None` if it is disabled.
    pub(super) async fn prepare(
        config: &Config,
        addresses: Addresses,
    ) -> Result<Option<Self>, SelfTracingError> {
        let Some(TracesConfig { endpoint, sampling_ratio, .. }) = &config.telemetry.traces else {
            return Ok(None);
        };
        let Addresses { server, telemetry } = addresses;
        for (key, own) in [("server.endpoint", server), ("telemetry.endpoint", telemetry)] {
            if leads_to(endpoint, own).await {
                let host = endpoint.host().unwrap_or_default().to_owned();
                return Err(SelfTracingError::Itself { host, port: port_of(endpoint), key });
            }
        }
        let exporter = config.telemetry.traces.as_ref().map(SelfTraceExporter::new).transpose()?;
        Ok(exporter.map(|exporter| Self { exporter, sampling_ratio: *sampling_ratio }))
    }

    /// Returns the exporter, to reload it.
    pub(super) fn exporter(&self) -> SelfTraceExporter {
        self.exporter.clone()
    }

    /// Starts recording spans, and exports them until `stop`.
    pub(super) fn start(self, metrics: &Metrics, stop: CancellationToken) -> JoinHandle<()> {
        let counts = metrics.own_spans();
        let spans = metrics.traces.start(self.sampling_ratio, counts.clone());
        tokio::spawn(SpanSender::new(self.exporter, spans, counts, stop).run())
    }
}

async fn leads_to(target: &Uri, own: SocketAddr) -> bool {
    if is_named(target, own) {
        return true;
    }
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']);
    if port_of(target) != own.port() {
        return false;
    }
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((host, own.port()))).await;
    let Ok(Ok(addresses)) = found else { return false };
    addresses.into_iter().any(|address| is_at(address.ip(), address.port(), own, is_local))
}

/// Returns `true` for an address of this machine, by binding to it: no packet is sent and no interface is enumerated.
fn is_local(address: &IpAddr) -> bool {
    UdpSocket::bind((*address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::receiver::RECEIVERS;

    #[tokio::test]
    async fn the_bound_port_is_compared() {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let to = async |host: &str, port: u16| {
            leads_to(&format!("http://{host}:{port}/v1/traces").parse().unwrap(), own).await
        };
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            assert!(to(host, own.port()).await, "{host}");
            assert!(!to(host, own.port() ^ 1).await, "{host}");
        }
        // Reserved for documentation (RFC 5737, RFC 6761).
        assert!(!to("192.0.2.7", own.port()).await);
        assert!(!to("collector.invalid", own.port()).await);
    }

    #[test]
    fn addresses_of_this_machine_are_recognised() {
        assert!(is_local(&"127.0.0.1".parse().unwrap()));
        assert!(!is_local(&"192.0.2.7".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_the_relay_itself_prevents_the_start() {
        let yaml = "receivers: { fastly: }\nserver: { endpoint: '127.0.0.1:0' }\n\
                    telemetry: { traces: { endpoint: 'http://127.0.0.1:4318/v1/traces' } }\n";
        let config = Config::from_yaml(yaml, &crate::config::Environment::empty(), RECEIVERS).unwrap();
        let at = |server: &str| Addresses {
            server: server.parse().unwrap(),
            telemetry: "127.0.0.1:1".parse().unwrap(),
        };
        assert!(SelfTracing::prepare(&config, at("127.0.0.1:4317")).await.is_ok_and(|on| on.is_some()));
        let refused = SelfTracing::prepare(&config, at("127.0.0.1:4318")).await.err().unwrap().to_string();
        assert!(refused.contains("port 4318 is server.endpoint of this relay"), "{refused}");
    }
}
