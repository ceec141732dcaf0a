//! Why no answer came: the error of an attempt becomes a sentence that an operator can act on.
//!
//! In: whatever the HTTP client failed with. Out: one line that names host and port, and nothing that could be
//! secret: no header, no body, no user information.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tower::timeout::error::Elapsed;

use super::pipelining::Failure;
use super::response::printable;

/// How hyper puts it that a server said something before it was asked, as HTTP/2 servers do. It has no other way to
/// tell.
const SPOKE_FIRST: &str = "unexpected message from connection";

/// What went wrong with `endpoint` (host and port), and what to look at.
pub(super) fn describe(endpoint: &str, timeout: Duration, error: &(dyn Error + 'static)) -> String {
    if find::<Elapsed>(error).is_some() {
        return format!("no answer from {endpoint} within {timeout:?}");
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return format!("TLS with {endpoint} failed: {}{}", printable(&error.to_string()), tls_advice(error));
    }
    if let Some(error) = find::<hyper::Error>(error) {
        if error.is_incomplete_message() {
            return closed_without_an_answer(endpoint);
        }
        if error.is_parse() || chain(error).contains(SPOKE_FIRST) {
            return not_http(endpoint);
        }
    }
    match find::<Failure>(error) {
        Some(Failure::Closed) => return closed_without_an_answer(endpoint),
        Some(Failure::Strange) => return not_http(endpoint),
        _ => {}
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("connection refused by {endpoint}: is a Collector listening there?")
        }
        _ => format!("cannot reach {endpoint}: {}", printable(&chain(error))),
    }
}

fn closed_without_an_answer(endpoint: &str) -> String {
    format!("{endpoint} closed the connection without an answer")
}

fn not_http(endpoint: &str) -> String {
    format!(
        "{endpoint} does not answer in HTTP/1.1: is this its OTLP/HTTP port (usually 4318), not the one for gRPC \
         (4317) or for TLS?"
    )
}

fn tls_advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ": if its certificate has an authority of its own, name that in tls.ca_file"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ": it asks for a client certificate, set tls.cert_file and tls.key_file"
        }
        rustls::Error::InvalidMessage(_) => {
            ": does it speak TLS on this port, or should the endpoint be http://?"
        }
        _ => "",
    }
}

/// The first error of this type in the chain, inside `io::Error`s too: their `source` skips what they wrap.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The chain in one line, outermost first, without the client's own wrapping and without repetition.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let is_wrapping = error.is::<hyper_util::client::legacy::Error>() || error.is::<Failure>();
        let says_nothing = is_wrapping && error.source().is_some();
        if !says_nothing && !causes.iter().any(|earlier| earlier.contains(&text)) {
            causes.push(text);
        }
        next = error.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn described(error: &(dyn Error + 'static)) -> String {
        describe("localhost:4318", TIMEOUT, error)
    }

    #[test]
    fn a_refused_connection_names_the_place_and_the_likely_cause() {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "os error 111");
        assert_eq!(
            described(&error),
            "connection refused by localhost:4318: is a Collector listening there?"
        );
    }

    #[test]
    fn a_timeout_names_the_time_that_was_allowed() {
        assert_eq!(described(&Elapsed::new()), "no answer from localhost:4318 within 10s");
    }

    #[test]
    fn tls_failures_are_found_below_io_errors_and_come_with_advice() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let said = described(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown)));
        assert!(said.starts_with("TLS with localhost:4318 failed: invalid peer certificate"), "{said}");
        assert!(said.ends_with("name that in tls.ca_file"), "{said}");
    }

    #[test]
    fn anything_else_is_told_once_with_its_causes() {
        let error = io::Error::new(io::ErrorKind::HostUnreachable, "no route to host");
        assert_eq!(described(&error), "cannot reach localhost:4318: no route to host");
    }
}
