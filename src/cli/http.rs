//! Minimal HTTP for commands that talk to a relay: a client for one address, and bounded reading of bodies.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::telemetry::logging::chain;

/// Maximum length of a response body. The relay's responses are a line or two.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// Timeout from the first byte of a request to the last byte of its response; CircleCI's own timeout.
const TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn StdError + Send + Sync>;

/// HTTP client for one address.
pub(super) struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// A response with its whole body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpReply {
    pub(super) status: StatusCode,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

/// Reason that a request has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("invalid request path {path}: {source}")]
    Request { path: String, source: http::Error },
    #[error("cannot connect to {address}; is the relay running there? {}", chain(.source))]
    Unreachable { address: SocketAddr, source: legacy::Error },
    #[error("no response to {path}: {}", chain(.source))]
    Connection { path: String, source: legacy::Error },
    #[error("the response to {path} was cut short: {source}")]
    Response { path: String, source: BodyError },
    #[error("no response to {path} within {} s", TIMEOUT.as_secs())]
    TimedOut { path: String },
}

/// Reason that a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("too large")]
    TooLarge,
    #[error(transparent)]
    Broken(BoxError),
}

// === impl Client ===

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { inner: legacy::Client::builder(TokioExecutor::new()).build_http(), address }
    }

    /// Sends a request and reads its response, whatever the status.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpReply, HttpError> {
        let path = path.to_owned();
        match tokio::time::timeout(TIMEOUT, self.exchange(method, &path, headers, body)).await {
            Ok(reply) => reply,
            Err(_) => Err(HttpError::TimedOut { path }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpReply, HttpError> {
        let path = || path.to_owned();
        let mut request = Request::builder().method(method).uri(format!("http://{}{}", self.address, path()));
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(body)).map_err(|source| HttpError::Request { path: path(), source })?;
        let response = self.inner.request(request).await.map_err(|source| match source.is_connect() {
            true => HttpError::Unreachable { address: self.address, source },
            false => HttpError::Connection { path: path(), source },
        })?;
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read_bounded(response.into_body(), MAX_RESPONSE_BYTES)
            .await
            .map_err(|source| HttpError::Response { path: path(), source })?;
        let retry_after = retry_after.map(Duration::from_secs);
        Ok(HttpReply { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// Returns the address to connect to for an endpoint: loopback where it listens on all interfaces.
pub(super) fn reachable(endpoint: SocketAddr) -> SocketAddr {
    let ip = match endpoint.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, endpoint.port())
}

/// Reads the whole body, up to `max_bytes`.
pub(super) async fn read_bounded<B>(body: B, max_bytes: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > max_bytes {
                return Err(BodyError::TooLarge);
            }
            read.extend_from_slice(data);
        }
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_unreachable_relay_is_named_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error =
            Client::new(address).send(Method::GET, "/", &[], Bytes::new()).await.expect_err("no listener");
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("cannot connect to {address}; is the relay running there? ")),
            "{said}"
        );
        assert!(said.contains("refused"), "{said}");
    }
}
