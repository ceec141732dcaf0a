//! OTLP/HTTP: where each signal goes and what every request carries.
//!
//! In: [`ExportRequest`]s. Out: POSTs. Promises: the URL's path and query are kept as configured; user information in
//! it becomes an `authorization` header and is shown nowhere; the body's own headers cannot be configured away.

mod basic_auth;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::{Error as ClientError, ResponseFuture};
use tower::Service;

use super::client::{self, HttpClient, TlsError};
use super::stack::ExportRequest;
use crate::config::{Compression, Encoding, ExporterConfig};
use crate::otlp::Signal;

use basic_auth::basic_authorization;

const USER_AGENT: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"));
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
    #[error("exporters.otlp_http: the {signal} endpoint must begin with http:// or https://")]
    Scheme { signal: Signal },
    #[error("exporters.otlp_http: the {signal} endpoint names no host")]
    Host { signal: Signal },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The innermost service: one POST, answered when the head of the response is there.
#[derive(Clone)]
pub(super) struct Post {
    /// The stack is cloned for every export; the client is a large value of many parts.
    shared: Arc<Shared>,
}

struct Shared {
    client: HttpClient,
    targets: [Target; Signal::ALL.len()],
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

// === impl Post ===

impl Post {
    pub(super) fn new(config: &ExporterConfig) -> Result<Self, TargetError> {
        let [traces, logs, metrics] = Signal::ALL.map(|signal| Target::new(signal, config));
        let targets = [traces?, logs?, metrics?];
        let client = client::client(config, &targets.each_ref().map(|target| &target.uri))?;
        Ok(Self { shared: Arc::new(Shared { client, targets }) })
    }

    /// Host and port for each signal.
    pub(super) fn endpoints(&self) -> [String; Signal::ALL.len()] {
        self.shared.targets.each_ref().map(|target| target.endpoint.clone())
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
        let Shared { client, targets } = &*self.shared;
        client.request(targets[request.signal as usize].request(request.body))
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
