//! The endpoint and the headers of each signal's requests, by OTLP/HTTP or OTLP/gRPC.
//!
//! In: bodies. Out: POSTs. Promises: the URL's path and query are kept as configured. Leaves to the configuration: turning user
//! information in a URL into a header, and rejecting headers that only the relay may set.

use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::{self, BoxFuture, MapOk};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Error as ClientError, ResponseFuture};
use tokio::time::{Instant, timeout};
use tower::timeout::error::Elapsed;
use tower::{BoxError, Service};

use super::client::{self, HttpClient};
use super::proxy::Proxies;
use super::slices::Slices;
use super::{ExporterError, grpc, response};
use crate::config::{Compression, Encoding, ExporterConfig, Protocol, SignalExport};
use crate::event::Signal;
use crate::grpc::{CONTENT_TYPE, ENCODING, method};

pub(super) const USER_AGENT: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"));

/// The innermost service: one POST, which resolves when the headers of the response arrive; with gRPC, when its status does.
#[derive(Clone)]
pub(super) struct Post {
    /// Shared, because the stack is cloned for every export, and the client is expensive to clone. A reload replaces it.
    shared: Arc<RwLock<Arc<PostState>>>,
}

struct PostState {
    client: HttpClient,
    target: Target,
}

/// Body of a response: one that is still being received, or one that was read with its gRPC status.
type ResponseBody = Either<Incoming, Full<Bytes>>;

/// A response that is awaited. Without a box for OTLP/HTTP, which makes one for every line.
type Responding = future::Either<
    MapOk<ResponseFuture, fn(Response<Incoming>) -> Response<ResponseBody>>,
    BoxFuture<'static, Result<Response<ResponseBody>, ClientError>>,
>;

/// Endpoint and headers of one signal's requests.
#[derive(Debug, Clone)]
struct Target {
    protocol: Protocol,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

/// Returns the innermost service of each signal. Reads certificates, without connecting.
pub(super) fn posts(config: &ExporterConfig) -> Result<[Post; Signal::ALL.len()], ExporterError> {
    let exports = Signal::ALL.map(|signal| config.of(signal));
    let clients = client::clients(&exports, config.settings.max_in_flight)?;
    let post = |signal: Signal| -> Result<Post, ExporterError> {
        let client = clients[signal as usize].clone();
        let target = Target::new(signal, &exports[signal as usize])?;
        Ok(Post::new(client, target))
    };
    let [traces, logs, metrics] = Signal::ALL.map(post);
    Ok([traces?, logs?, metrics?])
}

/// Returns the part of an address that may be logged. The path may be a vendor's secret.
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

        let no_address = ExporterError::Address { section: export.protocol.section(), signal };

        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.ok_or(no_address)?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(export.headers.clone());
        let mut uri = address.clone();
        let coding_name = match export.protocol {
            Protocol::Http => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(export.encoding)));
                header::CONTENT_ENCODING
            }
            Protocol::Grpc => {
                // The URL becomes `:authority`.
                if !export.headers.contains_key(header::HOST) {
                    headers.remove(header::HOST);
                }
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                let mut parts = uri.into_parts();
                parts.path_and_query = Some(PathAndQuery::from_static(method(signal)));
                uri = Uri::from_parts(parts).expect("a URL with another path is one");
                ENCODING
            }
        };
        if let Some(coding) = content_encoding(export.compression) {
            headers.insert(coding_name, HeaderValue::from_static(coding));
        }
        if let Some(authorization) = Proxies::new(export.proxy, export.protocol).authorization(address) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(Self { protocol: export.protocol, uri, headers, timeout: export.timeout })
    }

    fn is_compressed(&self) -> bool {
        self.headers.contains_key(ENCODING)
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
    /// Returns a service with its own client.
    pub(super) fn standalone(signal: Signal, export: &SignalExport<'_>) -> Result<Self, ExporterError> {
        let (client, target) = (client::standalone(signal, export)?, Target::new(signal, export)?);
        Ok(Self::new(client, target))
    }

    /// Sends later requests as `other` does, of which this and all clones take the client, the headers and the certificates.
    pub(super) fn replace(&self, other: &Self) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = other.current();
    }

    fn new(client: HttpClient, target: Target) -> Self {
        Self { shared: Arc::new(RwLock::new(Arc::new(PostState { client, target }))) }
    }

    fn current(&self) -> Arc<PostState> {
        Arc::clone(&self.shared.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends one request and reads its response to the end, within `limit`. A body that cannot be read is empty.
    pub(super) async fn exchange(
        &self,
        body: Slices,
        limit: Duration,
    ) -> Result<(http::response::Parts, Vec<u8>), BoxError> {
        let exchange = async {
            let (parts, body) = self.clone().call(body).await?.into_parts();
            // To the end, so that the connection can be used again.
            let body = response::read_body(body).await.unwrap_or_default();
            Ok::<_, ClientError>((parts, body))
        };
        match timeout(limit, exchange).await {
            Ok(end) => Ok(end?),
            Err(_) => Err(Elapsed::new().into()),
        }
    }
}

impl Service<Slices> for Post {
    type Response = Response<ResponseBody>;
    type Error = ClientError;
    type Future = Responding;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, body: Slices) -> Self::Future {
        let shared = self.current();
        let PostState { client, target } = &*shared;
        match target.protocol {
            Protocol::Http => {
                let response = client.request(target.request(body));
                future::Either::Left(response.map_ok(|response| response.map(Either::Left)))
            }
            Protocol::Grpc => {
                let message = grpc::frame(&body, target.is_compressed());
                let response = client.request(target.request(message));
                let deadline = Instant::now() + target.timeout;
                let read = async move { Ok(grpc::read(response.await?, deadline).await.map(Either::Right)) };
                future::Either::Right(Box::pin(read))
            }
        }
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
    fn the_address_is_kept_and_host_has_a_port_only_if_the_address_has_one() {
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
    fn configured_headers_replace_all_defaults_except_those_of_the_body() {
        let target = target("http://localhost:4318/v1/traces", |config| {
            for (name, value) in [("user-agent", "fleet/2"), ("host", "inside.example"), ("x-tenant", "a")] {
                config
                    .settings
                    .headers
                    .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            config.settings.compression = Compression::Zstd;
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
    fn an_invalid_address_fails_the_start() {
        for address in ["localhost:4318", "/v1/traces", "ftp://localhost/v1/traces"] {
            let error = target(address, |_| {}).unwrap_err();
            assert!(
                matches!(error, ExporterError::Address { signal: Signal::Traces, .. }),
                "{address}: {error}"
            );
        }
    }
}
