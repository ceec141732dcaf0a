//! Detection of export endpoints that are the relay itself.
//!
//! Checked for the names in a configuration, and again at start-up for the addresses that they resolve to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;
use http::uri::Scheme;
use rustix::system::uname;

/// Returns `true` if `target` names `own`, without resolving names.
pub(crate) fn is_named(target: &Uri, own: SocketAddr) -> bool {
    let host = target.host().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => is_at(address, port_of(target), own, IpAddr::is_loopback),
        Err(_) => is_this_machine(host) && port_of(target) == own.port(),
    }
}

/// Returns `true` if a connection to `address` and `port` reaches `own`. `is_local` recognises addresses of this machine.
pub(crate) fn is_at(address: IpAddr, port: u16, own: SocketAddr, is_local: impl Fn(&IpAddr) -> bool) -> bool {
    // A connection to an unspecified address reaches this machine.
    let address = address.to_canonical();
    let address = if address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address };
    let own_address = own.ip().to_canonical();
    // Loopback has more than one address, in two families.
    let alike = address == own_address || (address.is_loopback() && own_address.is_loopback());
    port == own.port() && (alike || (own_address.is_unspecified() && is_local(&address)))
}

/// Returns the port of a URL, or the default of its scheme.
pub(crate) fn port_of(target: &Uri) -> u16 {
    let default_port = if target.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    target.port_u16().unwrap_or(default_port)
}

/// Returns `true` if a URL names a loopback address, or `localhost`.
pub(crate) fn is_loopback(target: &Uri) -> bool {
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let own_name = uname();
    let own_name = own_name.nodename().to_string_lossy();
    host == "localhost" || host.ends_with(".localhost") || own_name.eq_ignore_ascii_case(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(target: &str, own: &str) -> bool {
        is_named(&target.parse().unwrap(), own.parse().unwrap())
    }

    #[test]
    fn every_notation_for_this_machine_is_recognised() {
        let own_name = uname().nodename().to_string_lossy().to_uppercase();
        for host in ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "localhost"]
        {
            assert!(named(&format!("http://{host}:3000/v1/traces"), "127.0.0.1:3000"), "{host}");
            assert!(named(&format!("http://{host}:3000/"), "0.0.0.0:3000"), "{host}");
            assert!(named(&format!("https://{host}:3000/"), "[::]:3000"), "{host}");
            assert!(!named(&format!("http://{host}:4318/v1/traces"), "127.0.0.1:3000"), "{host}");
        }
        for host in ["LocalHost", "localhost.", "relay.localhost", own_name.as_str()] {
            assert!(named(&format!("http://{host}:3000/"), "127.0.0.1:3000"), "{host}");
        }
    }

    #[test]
    fn the_scheme_implies_the_port() {
        assert!(named("https://localhost/", "0.0.0.0:443"));
        assert!(named("http://localhost/", "0.0.0.0:80"));
        assert!(!named("http://localhost/", "0.0.0.0:443"));
    }

    #[test]
    fn another_machine_or_another_address_of_this_one_is_not_the_relay() {
        assert!(!named("http://collector.example:3000/", "127.0.0.1:3000"));
        assert!(!named("http://192.0.2.7:3000/", "0.0.0.0:3000"));
        assert!(named("http://192.0.2.7:3000/", "192.0.2.7:3000"));
        let at = |own: &str| is_at("192.0.2.7".parse().unwrap(), 3000, own.parse().unwrap(), |_| true);
        assert!(at("0.0.0.0:3000") && at("[::]:3000"));
        assert!(!at("127.0.0.1:3000") && !at("0.0.0.0:3001"));
    }
}
