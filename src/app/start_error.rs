//! Why a relay does not start, in words that name the key of the configuration and what helps.

use std::io;
use std::net::SocketAddr;

use super::own_traces::OwnTracesError;
use crate::exporter::ExporterError;
use crate::queue::OpenError;
use crate::server::TlsError;
use crate::telemetry::logging::chain;

/// Why the relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}{}", advice(.source))]
    Listen {
        /// The key of the configuration that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The way to the downstream cannot be built.
    #[error("{0}")]
    Exporter(String),
    /// The front door cannot offer TLS.
    #[error("{0}")]
    Tls(String),
    /// The relay's own traces cannot leave as they are configured.
    #[error("{0}")]
    OwnTraces(String),
    /// The queue cannot be opened.
    #[error("{0}")]
    Queue(String),
}

// === impl StartError ===

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

impl From<OwnTracesError> for StartError {
    fn from(error: OwnTracesError) -> Self {
        Self::OwnTraces(chain(&error).to_string())
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(chain(&error).to_string())
    }
}

/// What to do about an address that cannot be had, where the system's words do not say it.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            " (another program, or another spanrelay, has this port; name a free one)"
        }
        io::ErrorKind::AddrNotAvailable => {
            " (no interface of this machine has that address; 0.0.0.0 stands for all of them)"
        }
        io::ErrorKind::PermissionDenied => " (a port below 1024 needs a privilege; name a higher one)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_had_comes_with_its_key_and_advice() {
        let cases = [
            (io::ErrorKind::AddrInUse, "name a free one"),
            (io::ErrorKind::AddrNotAvailable, "0.0.0.0"),
            (io::ErrorKind::PermissionDenied, "below 1024"),
        ];
        for (kind, advice) in cases {
            let (key, address) = ("server.endpoint", SocketAddr::from(([127, 0, 0, 1], 80)));
            let said = StartError::Listen { key, address, source: kind.into() }.to_string();
            assert!(said.starts_with("server.endpoint: cannot listen on 127.0.0.1:80 ("), "{said}");
            assert!(said.contains(advice), "{said}");
        }
    }
}
