//! The relay's own traces, put together: the way out that they take, and the proof that it does not lead back in.

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
use crate::exporter::{Aside, AsideError};
use crate::telemetry::Metrics;
use crate::telemetry::traces::Sender;

/// What a start waits for a name server. A name that is not known by then may be known later: it is no reason not to
/// start, and requests with own spans make none at whatever relay they come to.
const LOOKUP: Duration = Duration::from_secs(2);

/// Own traces that can start.
pub(super) struct OwnTraces {
    way: Aside,
    sampling_ratio: f64,
}

/// Why they cannot.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnTracesError {
    #[error(transparent)]
    Aside(#[from] AsideError),
    #[error(
        "telemetry.traces.endpoint: {host} port {port} is {key} of this relay: its own traces never go through itself"
    )]
    Itself { host: String, port: u16, key: &'static str },
}

// === impl OwnTraces ===

impl OwnTraces {
    /// Nothing when they are off.
    pub(super) async fn prepare(
        config: &Config,
        addresses: Addresses,
    ) -> Result<Option<Self>, OwnTracesError> {
        let Some(TracesConfig { endpoint, sampling_ratio, .. }) = &config.telemetry.traces else {
            return Ok(None);
        };
        let Addresses { server, telemetry } = addresses;
        for (key, own) in [("server.endpoint", server), ("telemetry.endpoint", telemetry)] {
            if leads_to(endpoint, own).await {
                let host = endpoint.host().unwrap_or_default().to_owned();
                return Err(OwnTracesError::Itself { host, port: port_of(endpoint), key });
            }
        }
        let way = config.telemetry.traces.as_ref().map(Aside::new).transpose()?;
        Ok(way.map(|way| Self { way, sampling_ratio: *sampling_ratio }))
    }

    /// From now on spans are made, and sent until `stop`.
    pub(super) fn start(self, metrics: &Metrics, stop: CancellationToken) -> JoinHandle<()> {
        let counts = metrics.own_spans();
        let spans = metrics.traces.start(self.sampling_ratio, counts.clone());
        tokio::spawn(Sender::new(self.way, spans, counts, stop).run())
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
    let found = timeout(LOOKUP, lookup_host((host, own.port()))).await;
    let Ok(Ok(addresses)) = found else { return false };
    addresses.into_iter().any(|address| is_at(address.ip(), address.port(), own, is_local))
}

/// Only an address of this machine can be bound. Without a packet, and without asking for its interfaces.
fn is_local(address: &IpAddr) -> bool {
    UdpSocket::bind((*address, 0)).is_ok()
}
