//! Start-up errors, with the configuration key and advice.

use std::io;
use std::net::SocketAddr;

use super::self_tracing::SelfTracingError;
use crate::exporter::ExporterError;
#[cfg(feature = "kafka")]
use crate::queue::KafkaOpenError;
use crate::queue::OpenError;
use crate::server::ServerTlsError;
use crate::steps::StepsError;
use crate::telemetry::logging::chain;

/// Reason that the relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Listening on an address failed.
    #[error("{key}: cannot listen on {address}{}", advice(.address, .source))]
    Listen {
        /// Configuration key of the address.
        key: &'static str,
        /// Address to listen on.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The exporter cannot be set up.
    #[error("{0}")]
    Exporter(String),
    /// The API of a receiver cannot be used.
    #[error("{0}")]
    Api(String),
    /// TLS of the front door cannot be set up.
    #[error("{0}")]
    Tls(String),
    /// Self-tracing cannot be set up.
    #[error("{0}")]
    SelfTracing(String),
    /// The queue cannot be opened.
    #[error("{0}")]
    Queue(String),
    /// The queue must not be used as it is configured.
    #[error("{0}")]
    Refused(String),
}

// === impl StartError ===

#[cfg(feature = "kafka")]
impl From<KafkaOpenError> for StartError {
    fn from(error: KafkaOpenError) -> Self {
        match error {
            KafkaOpenError::Refused(_) => Self::Refused(error.to_string()),
            KafkaOpenError::Client(_) => Self::Queue(error.to_string()),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Queue(chain(&error).to_string())
    }
}

impl From<ExporterError> for StartError {
    fn from(error: ExporterError) -> Self {
        Self::Exporter(chain(&error).to_string())
    }
}

impl From<StepsError> for StartError {
    fn from(error: StepsError) -> Self {
        Self::Api(chain(&error).to_string())
    }
}

impl From<SelfTracingError> for StartError {
    fn from(error: SelfTracingError) -> Self {
        Self::SelfTracing(chain(&error).to_string())
    }
}

impl From<ServerTlsError> for StartError {
    fn from(error: ServerTlsError) -> Self {
        Self::Tls(chain(&error).to_string())
    }
}

/// Default port of the telemetry endpoint, and of the health check extension in the Collector's packages.
const HEALTH_CHECK_PORT: u16 = 13133;

/// Returns advice for an address that cannot be bound, where the system's error lacks it.
fn advice(address: &SocketAddr, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse if address.port() == HEALTH_CHECK_PORT => {
            " (this is the port of the health check in the Collector's packages, too; set telemetry.endpoint to another port)"
        }
        io::ErrorKind::AddrInUse => {
            " (another process, possibly another spanrelay, uses this port; choose a free one)"
        }
        io::ErrorKind::AddrNotAvailable => {
            " (no interface of this machine has this address; use 0.0.0.0 for all interfaces)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges; choose a higher one)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_bound_is_reported_with_its_key_and_advice() {
        let cases = [
            (io::ErrorKind::AddrInUse, "choose a free one"),
            (io::ErrorKind::AddrNotAvailable, "0.0.0.0"),
            (io::ErrorKind::PermissionDenied, "below 1024"),
        ];
        for (kind, advice) in cases {
            let (key, address) = ("server.endpoint", SocketAddr::from(([127, 0, 0, 1], 80)));
            let said = StartError::Listen { key, address, source: kind.into() }.to_string();
            assert!(said.starts_with("server.endpoint: cannot listen on 127.0.0.1:80 ("), "{said}");
            assert!(said.contains(advice), "{said}");
        }
        let (key, address) = ("telemetry.endpoint", SocketAddr::from(([127, 0, 0, 1], 13133)));
        let said = StartError::Listen { key, address, source: io::ErrorKind::AddrInUse.into() }.to_string();
        assert!(said.contains("health check in the Collector's packages"), "{said}");
        assert!(said.contains("set telemetry.endpoint to another port"), "{said}");
    }
}
