//! Checks of a request's headers for ambiguities that a proxy might interpret differently.
//!
//! In: method, version and headers. Out: nothing, or the reason for a 400 or 411 (RFC 9112, sections 3.2 and 6.3).
//! Left to others: contradicting `Content-Length` and `Transfer-Encoding`, which hyper rejects or, where both are
//! present, resolves in favour of the latter.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Version};

/// The reason why headers are rejected, whatever the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MalformedHead {
    #[error("the request has no Host header; HTTP/1.1 needs one")]
    NoHost,
    #[error("the request has more than one Host header; send one")]
    ManyHosts,
    #[error("the Host header is not a host with an optional port")]
    InvalidHost,
}

/// Error for a body of unknown length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the request has neither Content-Length nor Transfer-Encoding; send one, Content-Length: 0 for an empty body"
)]
pub(super) struct LengthRequired;

/// Checks that the request names one host. HTTP/1.0 and HTTP/2 may omit the header.
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), MalformedHead> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err(MalformedHead::NoHost),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(MalformedHead::ManyHosts),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(MalformedHead::InvalidHost),
    }
}

/// Checks that the length of the body is declared. HTTP/2 frames delimit bodies.
pub(super) fn check_length(parts: &Parts) -> Result<(), LengthRequired> {
    let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| parts.headers.contains_key(name));
    if has_length || parts.version == Version::HTTP_2 { Ok(()) } else { Err(LengthRequired) }
}

/// Returns whether the value is a host with an optional port. Empty is allowed: a target without an authority has no
/// host. A comma means that two headers were joined.
fn is_host(value: &[u8]) -> bool {
    if value.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(value) else { return false };
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port =
        |port: &str| port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    !value.contains(&b',') && port.is_some_and(|port| port.is_empty() || is_port(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, hosts: &[&'static str]) -> Result<(), MalformedHead> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        check_host(version, &headers)
    }

    #[test]
    fn one_host_is_needed_in_http_1_1_and_never_more_than_one() {
        assert_eq!(check(Version::HTTP_11, &[]), Err(MalformedHead::NoHost));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(check(version, &["relay"]), Ok(()), "{version:?}");
            for two in [["relay", "relay"], ["relay", "other"], ["", "relay"]] {
                assert_eq!(check(version, &two), Err(MalformedHead::ManyHosts), "{version:?}");
            }
        }
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert_eq!(check(version, &[]), Ok(()), "{version:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for host in ["", "relay", "relay.test:3000", "my_host", "127.0.0.1", "[::1]", "[::1]:3000", "relay:"]
        {
            assert_eq!(check(Version::HTTP_11, &[host]), Ok(()), "{host}");
        }
        for host in [
            "relay, other",
            "relay,other",
            "a b",
            "user@relay",
            "relay/path",
            "relay:port",
            "[::1",
            "http://relay",
        ] {
            assert_eq!(check(Version::HTTP_11, &[host]), Err(MalformedHead::InvalidHost), "{host}");
        }
    }
}
