//! OTLP/HTTP: where each signal goes, what every request carries, and the tower stack that sends it.
//!
//! In: [`ExportRequest`]s. Out: POSTs. Promises: the URL's path and query are kept as configured; user information in
//! it becomes an `authorization` header and is shown nowhere; the body's own headers cannot be configured away.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use hyper_util::client::legacy::{Error as ClientError, ResponseFuture};
use tokio::sync::Semaphore;
use tower::{BoxError, Service, ServiceBuilder};

use super::attempt::{Attempt, Judge};
use super::client::{self, HttpClient, TlsError};
use super::outcome::Outcome;
use super::retry::Backoff;
use crate::config::{Compression, Encoding, ExporterConfig};
use crate::otlp::Signal;
use crate::telemetry::metrics::Metrics;

/// Headers that describe the body or the connection. They are ours: a configured one would contradict what is sent.
const OWN_HEADERS: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
];

/// One request, ready to be sent as often as it takes: clones share the body.
#[derive(Debug, Clone)]
pub(super) struct ExportRequest {
    pub(super) signal: Signal,
    pub(super) body: Bytes,
}

/// Where one signal goes and what its requests carry.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    headers: HeaderMap,
    /// Host and port, for the log.
    endpoint: String,
}

/// Why requests could not be sent at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{signal} endpoint: an address must begin with http:// or https://")]
    Scheme { signal: Signal },
    #[error("{signal} endpoint: the address names no host")]
    Host { signal: Signal },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The innermost service: one POST, answered when the head of the response is there.
#[derive(Clone)]
pub(super) struct Post {
    client: HttpClient,
    targets: Arc<[Target; Signal::ALL.len()]>,
}

/// What the stack is to those above it: every request ends in an outcome.
pub(super) trait SendExports:
    Service<ExportRequest, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// The way out, outermost first. `observe` stands around it, where the receipts are. `endpoints` are for the log.
pub(super) fn stack<S, B>(
    post: S,
    endpoints: [String; Signal::ALL.len()],
    config: &ExporterConfig,
    metrics: Metrics,
    wall_clock: fn() -> SystemTime,
) -> impl SendExports
where
    S: Service<ExportRequest, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    // as in the Collector, no time-out is one that never comes
    let timeout = Some(config.timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(Duration::MAX);
    let judge = Arc::new(Judge::new(timeout, endpoints, metrics, wall_clock));
    let on_the_wire = Arc::new(Semaphore::new(config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)));

    ServiceBuilder::new()
        // above all that can fail: sends again until an attempt ends for good
        .retry(Backoff::new(config.retry_on_failure.clone()))
        // below retry: an export that pauses between attempts takes no place on the wire from another signal
        .layer(tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(on_the_wire))
        // below the limit, so that waiting for a place is not measured; above the timeout, whose error is an outcome too
        .layer_fn(move |inner| Attempt::new(inner, Arc::clone(&judge)))
        // bounds one attempt up to the head of its answer: connecting, sending, waiting
        .timeout(timeout)
        .service(post)
}

impl<S> SendExports for S where
    S: Service<ExportRequest, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

// === impl Target ===

impl Target {
    fn new(signal: Signal, config: &ExporterConfig) -> Result<Self, TargetError> {
        let (address, signal_headers) = match signal {
            Signal::Traces => (&config.traces_endpoint, &config.signal_headers.traces),
            Signal::Logs => (&config.logs_endpoint, &config.signal_headers.logs),
            Signal::Metrics => (&config.metrics_endpoint, &config.signal_headers.metrics),
        };
        let default_port = match address.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => 80,
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            _ => return Err(TargetError::Scheme { signal }),
        };
        let no_host = || TargetError::Host { signal };
        let host = address.host().filter(|host| !host.is_empty()).ok_or_else(no_host)?;
        let authority = match address.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };

        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| no_host())?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(authorization) = address.authority().and_then(basic_authorization) {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        for (name, value) in config.headers.iter().chain(signal_headers.iter()) {
            headers.insert(name, value.clone());
        }
        describe_body(&mut headers, config);

        let mut parts = address.clone().into_parts();
        parts.authority = Some(authority.parse().map_err(|_| no_host())?);
        let uri = Uri::from_parts(parts).map_err(|_| no_host())?;
        let endpoint = format!("{host}:{}", address.port_u16().unwrap_or(default_port));
        Ok(Self { uri, headers, endpoint })
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

const USER_AGENT: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"));

fn describe_body(headers: &mut HeaderMap, config: &ExporterConfig) {
    for own in OWN_HEADERS {
        headers.remove(own);
    }
    let content_type = match config.encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/x-protobuf",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let content_encoding = match config.compression {
        Compression::None => return,
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(content_encoding));
}

/// `user:password@` of a URL, as curl and the SDKs understand it.
fn basic_authorization(authority: &Authority) -> Option<HeaderValue> {
    let (user_information, _) = authority.as_str().rsplit_once('@')?;
    let credentials = base64(&percent_decoded(user_information));
    let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 3986, section 2.1. What is no escape stays as it is.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex_pair(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                decoded.push(byte);
                rest = after;
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0u32, |group, n| group << 8 | u32::from(chunk.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let sextet = (group >> (18 - 6 * n)) & 63;
            let digit = if n <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' };
            text.write_char(digit).expect("writing to memory cannot fail");
        }
    }
    text
}

// === impl Post ===

impl Post {
    pub(super) fn new(config: &ExporterConfig) -> Result<Self, TargetError> {
        let [traces, logs, metrics] = Signal::ALL.map(|signal| Target::new(signal, config));
        let targets = [traces?, logs?, metrics?];
        let client = client::client(config, &targets.each_ref().map(|target| &target.uri))?;
        Ok(Self { client, targets: Arc::new(targets) })
    }

    /// Host and port for each signal.
    pub(super) fn endpoints(&self) -> [String; Signal::ALL.len()] {
        self.targets.each_ref().map(|target| target.endpoint.clone())
    }
}

impl Service<ExportRequest> for Post {
    type Response = Response<hyper::body::Incoming>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ExportRequest) -> ResponseFuture {
        self.client.request(self.targets[request.signal as usize].request(request.body))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config_for;
    use super::*;

    fn target(address: &str, adjust: impl FnOnce(&mut ExporterConfig)) -> Target {
        let mut config = config_for("http://localhost:4318");
        config.traces_endpoint = address.parse().unwrap();
        adjust(&mut config);
        Target::new(Signal::Traces, &config).unwrap()
    }

    #[test]
    fn base64_pads_as_the_rfc_shows() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn user_information_becomes_a_header_and_is_shown_nowhere() {
        let target = target("https://me:p%40ss%2@collector.example/otlp/v1/traces?x=1", |_| {});
        assert_eq!(target.headers["authorization"], "Basic bWU6cEBzcyUy");
        assert_eq!(target.uri, "https://collector.example/otlp/v1/traces?x=1");
        assert_eq!(target.headers["host"], "collector.example");
        assert_eq!(target.endpoint, "collector.example:443");
        assert!(!format!("{target:?}").contains("bWU6"), "{target:?}");
    }

    #[test]
    fn host_keeps_a_port_that_is_there_and_an_ipv6_address_its_brackets() {
        let target = target("http://[::1]:4318/v1/traces", |_| {});
        assert_eq!(target.headers["host"], "[::1]:4318");
        assert_eq!(target.endpoint, "[::1]:4318");
    }

    #[test]
    fn a_signal_s_own_headers_win_and_the_body_s_cannot_be_configured_away() {
        let target = target("http://u:p@localhost:4318/v1/traces", |config| {
            for (name, value) in [
                ("x-tenant", "all"),
                ("authorization", "Bearer t"),
                ("content-type", "text/plain"),
                ("content-length", "0"),
                ("transfer-encoding", "chunked"),
            ] {
                config.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            config
                .signal_headers
                .traces
                .insert(HeaderName::from_static("x-tenant"), HeaderValue::from_static("traces"));
            config.compression = Compression::Zstd;
        });
        assert_eq!(target.headers["x-tenant"], "traces");
        assert_eq!(target.headers["authorization"], "Bearer t");
        assert_eq!(target.headers["content-type"], "application/json");
        assert_eq!(target.headers["content-encoding"], "zstd");
        assert_eq!(target.headers["user-agent"], USER_AGENT);
        assert!(!target.headers.contains_key("content-length"));
        assert!(!target.headers.contains_key("transfer-encoding"));
    }

    #[test]
    fn an_address_that_cannot_work_fails_the_start() {
        for address in ["localhost:4318", "/v1/traces", "ftp://localhost/v1/traces"] {
            let mut config = config_for("http://localhost:4318");
            config.traces_endpoint = address.parse().unwrap();
            let error = Target::new(Signal::Traces, &config).unwrap_err();
            assert!(matches!(error, TargetError::Scheme { .. }), "{address}: {error}");
        }
    }
}
