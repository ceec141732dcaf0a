//! Turns the error of an attempt without a response into a typed [`ConnectionFault`] and a sentence that an operator can act on.
//!
//! In: any error of the HTTP client. Out: one line that names host and port, and nothing that could be secret: no header, no
//! body, no user information. Promises: decides by the types and codes of errors, never by their text.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tower::timeout::error::Elapsed;

use super::response::printable;

/// Kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionFault {
    /// No response in time.
    Timeout,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// The server does not speak HTTP/1.1.
    NotHttp,
    /// The server does not speak HTTP/2, which was sent to it.
    NotHttp2,
    /// The connection ended without a response.
    Closed,
    /// Connection refused: no process listens on the port.
    Refused,
    Unreachable,
}

/// An attempt without a response.
#[derive(Debug)]
pub(super) struct NoResponse {
    pub(super) fault: ConnectionFault,
    /// The failure in one line.
    pub(super) reason: String,
    /// Advice for the operator; empty if there is none.
    pub(super) advice: &'static str,
}

/// Describes a failure of `endpoint` (host and port) with its advice.
pub(super) fn describe(endpoint: &str, timeout: Duration, error: &(dyn Error + 'static)) -> String {
    let NoResponse { reason, advice, .. } = classify(endpoint, timeout, error);
    if advice.is_empty() { reason } else { format!("{reason}: {advice}") }
}

/// Classifies a failure of `endpoint` (host and port).
pub(super) fn classify(endpoint: &str, timeout: Duration, error: &(dyn Error + 'static)) -> NoResponse {
    let fault = fault_of(error);
    let (reason, advice) = match fault {
        ConnectionFault::Timeout => (format!("no response from {endpoint} within {timeout:?}"), ""),
        ConnectionFault::Tls => {
            let cause = find::<rustls::Error>(error);
            let text = cause.map_or_else(|| chain(error), ToString::to_string);
            (format!("TLS with {endpoint} failed: {}", printable(&text)), cause.map_or("", tls_advice))
        }
        ConnectionFault::NotHttp => (
            format!("{endpoint} does not respond in HTTP/1.1"),
            "is this its OTLP/HTTP port (usually 4318), not the one for gRPC (4317) or for TLS?",
        ),
        ConnectionFault::NotHttp2 => (
            format!("{endpoint} does not respond in HTTP/2"),
            "is this its OTLP/gRPC port (usually 4317), not the one for OTLP/HTTP (4318) or for TLS?",
        ),
        ConnectionFault::Closed if io_kind(error).is_none() => {
            (format!("{endpoint} closed the connection without a response"), "")
        }
        ConnectionFault::Refused => {
            (format!("connection refused by {endpoint}"), "is a Collector listening there?")
        }
        ConnectionFault::Closed | ConnectionFault::Unreachable => {
            (format!("cannot reach {endpoint}: {}", printable(&chain(error))), "")
        }
    };
    NoResponse { fault, reason, advice }
}

fn fault_of(error: &(dyn Error + 'static)) -> ConnectionFault {
    if find::<Elapsed>(error).is_some() {
        return ConnectionFault::Timeout;
    }
    if find::<rustls::Error>(error).is_some() {
        return ConnectionFault::Tls;
    }
    let of_hyper = find::<hyper::Error>(error).map(innermost);
    if let Some(error) = of_hyper {
        if error.is_incomplete_message() {
            return ConnectionFault::Closed;
        }
        // Reported by this side, about what it has read.
        if find::<h2::Error>(error).is_some_and(|error| error.is_go_away() && error.is_library()) {
            return ConnectionFault::NotHttp2;
        }
        if error.is_parse() || spoke_first(error) {
            return ConnectionFault::NotHttp;
        }
    }
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => ConnectionFault::Refused,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => ConnectionFault::Closed,
        // The connection was open, and ended before it took the request.
        None if of_hyper.is_some_and(|error| error.is_canceled() || error.is_closed()) => {
            ConnectionFault::Closed
        }
        _ => ConnectionFault::Unreachable,
    }
}

/// Returns the innermost error of hyper: a request that was canceled because its connection failed has the failure as source.
fn innermost(mut error: &hyper::Error) -> &hyper::Error {
    while let Some(cause) = error.source().and_then(<dyn Error>::downcast_ref) {
        error = cause;
    }
    error
}

/// Reports whether a server sent data before a request, as HTTP/2 servers do. hyper has no predicate for that error: it is the
/// only one that matches none of the others and has no source.
fn spoke_first(error: &hyper::Error) -> bool {
    let is_other = error.is_user()
        || error.is_canceled()
        || error.is_closed()
        || error.is_body_write_aborted()
        || error.is_shutdown()
        || error.is_timeout();
    !is_other && error.source().is_none()
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    find::<io::Error>(error).map(io::Error::kind)
}

fn tls_advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "if its certificate is from a private authority, set tls.ca_file"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it requires a client certificate; set tls.cert_file and tls.key_file"
        }
        rustls::Error::InvalidMessage(_) => {
            "does it speak TLS on this port, or should the endpoint be http://?"
        }
        _ => "",
    }
}

/// Returns the first error of this type in the chain, also inside `io::Error`s, whose `source` skips the error they wrap.
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

/// Joins the chain in one line, outermost first, without the client's own wrapper and without repetition.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let is_wrapper = error.is::<hyper_util::client::legacy::Error>() && error.source().is_some();
        if !is_wrapper && !causes.iter().any(|earlier| earlier.contains(&text)) {
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
    fn a_refused_connection_names_the_endpoint_and_the_likely_cause() {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "os error 111");
        assert_eq!(
            described(&error),
            "connection refused by localhost:4318: is a Collector listening there?"
        );
    }

    #[test]
    fn a_timeout_names_its_duration() {
        assert_eq!(described(&Elapsed::new()), "no response from localhost:4318 within 10s");
    }

    #[test]
    fn tls_failures_are_found_below_io_errors_and_come_with_advice() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let said = described(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown)));
        assert!(said.starts_with("TLS with localhost:4318 failed: invalid peer certificate"), "{said}");
        assert!(said.ends_with("set tls.ca_file"), "{said}");
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_it_takes_the_request_was_closed() {
        let (near, _far) = tokio::io::duplex(1024);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
        drop(connection);
        let error = sender.send_request(http::Request::new(String::new())).await.unwrap_err();
        assert_eq!(described(&error), "localhost:4318 closed the connection without a response");
    }

    #[test]
    fn other_errors_are_described_once_with_their_causes() {
        let error = io::Error::new(io::ErrorKind::HostUnreachable, "no route to host");
        assert_eq!(described(&error), "cannot reach localhost:4318: no route to host");
    }
}
