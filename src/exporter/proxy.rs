//! Connections to the downstream, through a proxy where the environment names one.
//!
//! In: the URL of an endpoint. Out: a connection to its host, or to the proxy: for https and for gRPC a tunnel (CONNECT), for http
//! the proxy itself, which the client then sends the whole URL. Promises: hosts of `NO_PROXY` and this machine are reached directly, as
//! in the Collector. Leaves to others: TLS to the destination.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceExt};

use crate::config::{Protocol, ProxySettings, Secret, is_loopback};

/// Connector that chooses between a direct connection and a proxy.
#[derive(Clone)]
pub(super) struct ProxyConnector {
    tcp: HttpConnector,
    proxies: Proxies,
}

/// Proxies of the environment.
#[derive(Clone)]
pub(super) struct Proxies {
    matcher: Option<Arc<Matcher>>,
    /// Set if every destination is reached through a tunnel, as that of https is: no proxy forwards gRPC.
    always_tunnel: bool,
}

/// Connection to the destination or to a proxy.
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    /// Set if requests go to a proxy that forwards them.
    is_proxied: bool,
}

// === impl Proxies ===

impl Proxies {
    pub(super) fn new(settings: &ProxySettings, protocol: Protocol) -> Self {
        let ProxySettings { http, https, no } = settings;
        let always_tunnel = protocol == Protocol::Grpc;
        let http = if always_tunnel { https } else { http };
        if http.is_none() && https.is_none() {
            return Self { matcher: None, always_tunnel };
        }
        let url = |proxy: &Option<Secret>| proxy.as_ref().map_or("", Secret::expose).to_owned();
        let matcher = Matcher::builder().http(url(http)).https(url(https)).no(no.as_str()).build();
        Self { matcher: Some(Arc::new(matcher)), always_tunnel }
    }

    fn tunnels(&self, destination: &Uri) -> bool {
        self.always_tunnel || destination.scheme() == Some(&Scheme::HTTPS)
    }

    fn intercept(&self, destination: &Uri) -> Option<Intercept> {
        let matcher = self.matcher.as_ref()?;
        // Whatever `NO_PROXY` says.
        if is_loopback(destination) { None } else { matcher.intercept(destination) }
    }

    /// Returns the `proxy-authorization` header of requests to this destination. That of a tunnel is sent by the connector.
    pub(super) fn authorization(&self, destination: &Uri) -> Option<HeaderValue> {
        if self.tunnels(destination) {
            return None;
        }
        self.intercept(destination)?.basic_auth().cloned()
    }
}

// === impl ProxyConnector ===

impl ProxyConnector {
    pub(super) fn new(tcp: HttpConnector, proxies: Proxies) -> Self {
        Self { tcp, proxies }
    }
}

impl Service<Uri> for ProxyConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let tcp = self.tcp.clone();
        let proxy = self.proxies.intercept(&destination);
        let tunnels = self.proxies.tunnels(&destination);
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Stream { io: tcp.oneshot(destination).await?, is_proxied: false });
            };
            if !tunnels {
                return Ok(Stream { io: tcp.oneshot(proxy.uri().clone()).await?, is_proxied: true });
            }
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            Ok(Stream { io: tunnel.oneshot(destination).await?, is_proxied: false })
        })
    }
}

// === impl Stream ===

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_depends_on_the_scheme_and_on_the_host() {
        let settings = ProxySettings {
            http: Some(Secret::new("http://user:pass@plain.example:3128")),
            https: Some(Secret::new("tunnel.example:3129")),
            no: "direct.example,.inside.example,10.0.0.0/8".to_owned(),
        };
        let proxies = Proxies::new(&settings, Protocol::Http);
        for (destination, proxy) in [
            ("http://collector.example:4318/v1/traces", Some("plain.example:3128")),
            ("https://collector.example/v1/traces", Some("tunnel.example:3129")),
            ("http://direct.example:4318/", None),
            ("https://a.inside.example/", None),
            ("http://10.1.2.3:4318/", None),
            ("http://localhost:4318/", None),
            ("http://127.0.0.2:4318/", None),
            ("http://[::1]:4318/", None),
        ] {
            let found = proxies.intercept(&destination.parse().unwrap());
            let found = found.as_ref().map(|found| found.uri().authority().unwrap().as_str().to_owned());
            let found = found.map(|found| found.rsplit('@').next().unwrap().to_owned());
            assert_eq!(found.as_deref(), proxy, "{destination}");
        }
        let authorization = |destination: &str| proxies.authorization(&destination.parse().unwrap());
        assert_eq!(authorization("http://collector.example/").unwrap(), "Basic dXNlcjpwYXNz");
        assert_eq!(authorization("https://collector.example/"), None);
        let grpc = Proxies::new(&settings, Protocol::Grpc);
        let plain: Uri = "http://collector.example:4317".parse().unwrap();
        assert_eq!(grpc.intercept(&plain).unwrap().uri().host(), Some("tunnel.example"));
        assert!(grpc.tunnels(&plain) && !proxies.tunnels(&plain));
        assert!(
            Proxies::new(&ProxySettings::default(), Protocol::Http)
                .intercept(&"http://a/".parse().unwrap())
                .is_none()
        );
    }
}
