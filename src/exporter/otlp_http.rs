//! OTLP/HTTP: where a signal goes and what every request carries.
//!
//! In: bodies. Out: POSTs. Promises: the URL's path and query are kept as configured. Leaves to others: user
//! information in a URL, which the configuration makes a header of, and headers that only the relay may write, which
//! it refuses.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::{Error as ClientError, ResponseFuture};
use tokio::time::timeout;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Service};

use super::client::{self, HttpClient};
use super::slices::Slices;
use super::{ExporterError, response};
use crate::config::{Compression, Encoding, ExporterConfig, SignalExport};
use crate::otlp::Signal;

const USER_AGENT: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"));

/// The innermost service: one POST, answered when the head of the response is there.
#[derive(Clone)]
pub(super) struct Post {
    /// The stack is cloned for every export; the client is a large value of many parts.
    shared: Arc<Shared>,
}

struct Shared {
    client: HttpClient,
    target: Target,
}

/// Where a signal goes and what its requests carry.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    headers: HeaderMap,
}

/// Returns the innermost service of each signal. Reads certificates; connects to nothing yet.
pub(super) fn posts(config: &ExporterConfig) -> Result<[Post; Signal::ALL.len()], ExporterError> {
    let exports = Signal::ALL.map(|signal| config.of(signal));
    let clients = client::clients(&exports, config.max_in_flight)?;
    let post = |signal: Signal| -> Result<Post, ExporterError> {
        let client = clients[signal as usize].clone();
        let target = Target::new(signal, &exports[signal as usize])?;
        Ok(Post { shared: Arc::new(Shared { client, target }) })
    };
    let [traces, logs, metrics] = Signal::ALL.map(post);
    Ok([traces?, logs?, metrics?])
}

/// What the log shows of an address. Not its path, which may be a secret of the vendor's.
pub(super) fn host_and_port(address: &Uri) -> String {
    let default_port = if address.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let port = address.port_u16().unwrap_or(default_port);
    format!("{}:{port}", address.host().unwrap_or_default())
}

// === impl Target ===

impl Target {
    fn new(signal: Signal, export: &SignalExport<'_>) -> Result<Self, ExporterError> {
        let address = export.endpoint;
        let is_http = address.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        let host = address.authority().filter(|_| is_http).map(|authority| authority.as_str());
        let host = host.and_then(|host| HeaderValue::from_str(host).ok());

        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.ok_or(ExporterError::Address { signal })?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(export.headers.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(export.encoding)));
        if let Some(coding) = content_encoding(export.compression) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Ok(Self { uri: address.clone(), headers })
    }

    fn request(&self, body: Slices) -> Request<Full<Slices>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/x-protobuf",
    }
}

fn content_encoding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

// === impl Post ===

impl Post {
    /// With a client of its own.
    pub(super) fn alone(signal: Signal, export: &SignalExport<'_>) -> Result<Self, ExporterError> {
        let (client, target) = (client::alone(signal, export)?, Target::new(signal, export)?);
        Ok(Self { shared: Arc::new(Shared { client, target }) })
    }

    /// Sends one request and reads its response to the end, within `limit`. A body that cannot be read is empty.
    pub(super) async fn exchange(
        &self,
        body: Slices,
        limit: Duration,
    ) -> Result<(http::response::Parts, Vec<u8>), BoxError> {
        let exchange = async {
            let (head, body) = self.clone().call(body).await?.into_parts();
            // To the end, so that the connection can be used again.
            let body = response::read_body(body).await.unwrap_or_default();
            Ok::<_, ClientError>((head, body))
        };
        match timeout(limit, exchange).await {
            Ok(end) => Ok(end?),
            Err(_) => Err(Elapsed::new().into()),
        }
    }
}

impl Service<Slices> for Post {
    type Response = Response<hyper::body::Incoming>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, body: Slices) -> ResponseFuture {
        let Shared { client, target } = &*self.shared;
        client.request(target.request(body))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::tests::config_for;
    use super::*;

    fn target(address: &str, adjust: impl FnOnce(&mut ExporterConfig)) -> Result<Target, ExporterError> {
        let mut config = config_for("http://localhost:4318");
        config.traces_endpoint = address.parse().unwrap();
        adjust(&mut config);
        Target::new(Signal::Traces, &config.of(Signal::Traces))
    }

    #[test]
    fn the_address_is_kept_and_host_has_its_port_only_when_it_was_written() {
        for (address, host, shown) in [
            ("https://collector.example/otlp//v1/?x=1", "collector.example", "collector.example:443"),
            ("http://collector.example/", "collector.example", "collector.example:80"),
            ("http://[::1]:4318/v1/traces", "[::1]:4318", "[::1]:4318"),
        ] {
            let target = target(address, |_| {}).unwrap();
            assert_eq!(target.uri, address);
            assert_eq!(target.headers["host"], host);
            assert_eq!(host_and_port(&target.uri), shown);
        }
    }

    #[test]
    fn configured_headers_replace_those_that_are_not_about_the_body() {
        let target = target("http://localhost:4318/v1/traces", |config| {
            for (name, value) in [("user-agent", "fleet/2"), ("host", "inside.example"), ("x-tenant", "a")] {
                config.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            config.compression = Compression::Zstd;
        });
        let headers = target.unwrap().headers;
        for (name, value) in [
            ("user-agent", "fleet/2"),
            ("host", "inside.example"),
            ("x-tenant", "a"),
            ("content-type", "application/json"),
            ("content-encoding", "zstd"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert_eq!(headers.len(), 5);
    }

    #[test]
    fn an_address_that_cannot_work_fails_the_start() {
        for address in ["localhost:4318", "/v1/traces", "ftp://localhost/v1/traces"] {
            let error = target(address, |_| {}).unwrap_err();
            assert!(matches!(error, ExporterError::Address { signal: Signal::Traces }), "{address}: {error}");
        }
    }
}
