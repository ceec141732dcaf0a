//! Settings that the inspector shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::announce::{Addresses, host_of};
use crate::config::Config;
use crate::event::Signal;
use crate::relay::Instance;
use crate::telemetry::inspect::{Setting, view};

/// Returns the part of the configuration that the inspector shows.
pub(super) fn setting(config: &Config, addresses: Addresses, receivers: &[Instance]) -> Setting {
    let (span_events, exporter) = (&config.processors.span_events, &config.exporters.otlp_http);
    // The receivers of one section have one id.
    let sections = receivers.chunk_by(|one, other| one.receiver.id() == other.receiver.id());
    let receivers = sections.map(|section| {
        let id = section[0].receiver.id();
        let path = section.iter().map(|one| one.receiver.path()).collect::<Vec<_>>().join(" ");
        view::ReceiverSetting { id: id.to_owned(), path, headers: credentials(config, id) }
    });
    let downstream = Signal::ALL.map(|signal| {
        let endpoint = exporter.of(signal).endpoint;
        view::Downstream { signal: signal.as_str(), endpoint: host_of(endpoint) }
    });
    let inspect = &config.telemetry.inspect;
    let values = match inspect.show_values {
        true => view::Values::Shown,
        false => view::Values::Hidden,
    };
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    Setting {
        values,
        wait: span_events.wait,
        receivers: receivers.collect(),
        downstream: downstream.into(),
        server: format!("{scheme}://{}", reachable(addresses.server)),
        trace_link: inspect.trace_link.clone(),
    }
}

/// Returns the names of the headers that requests to a receiver need. Their values are secrets.
fn credentials(config: &Config, id: &str) -> Vec<String> {
    let section = config.receivers.get(id);
    let headers = section.map(|section| section.resubmit(&Bytes::new()).headers);
    headers.into_iter().flatten().map(|(name, _)| name).collect()
}

/// Returns an address of this machine for a socket that listens on all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_all_addresses_is_reached_by_loopback() {
        for (bound, shown) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.7:3000", "10.0.0.7:3000"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), shown);
        }
    }
}
