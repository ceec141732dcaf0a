//! The HTTP client: pooled HTTP/1.1 connections, or one of HTTP/2 for gRPC, plain or TLS.
//!
//! In: the export settings of each signal. Out: a client for each; signals with the same TLS settings share a client and its
//! connections. Reads certificates at the start, and only for https endpoints.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::ExporterError;
use super::proxy::{Proxies, ProxyConnector};
use super::slices::Slices;
use crate::config::{Protocol, ProxySettings, SignalExport, TlsClientConfig};
use crate::event::Signal;
use crate::pem::{self, PemError};

/// Shorter than the time for which a Collector keeps an idle connection (60 s), so that the relay closes it first: a request on
/// a connection that the server is closing would have to be sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval of the pings on an HTTP/2 connection with calls in progress. Servers of gRPC close connections that ping more often
/// than every 10 s.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of connecting to an API, whose own timeout may change while connections are being made.
const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type HttpClient = Client<Connector, Full<Slices>>;

/// Connector to an address or a proxy, with TLS for https.
type Connector = HttpsConnector<ProxyConnector>;

/// Reason that TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientTlsError {
    #[error("{key}: {}", path.display())]
    File {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: PemError,
    },
    #[error("tls.cert_file and tls.key_file belong together, but {missing} is not set")]
    Incomplete { missing: &'static str },
    #[error("the system has no root certificates: install its ca-certificates package, or set tls.ca_file")]
    NoRoots(#[source] io::Error),
    #[error("the client certificate (tls.cert_file, tls.key_file) cannot be used")]
    Client(#[source] rustls::Error),
    #[error("the TLS library has no protocol version")]
    Provider(#[source] rustls::Error),
}

/// Settings that the connections of all clients share.
struct Connections {
    /// Timeout of connecting, the longest of all attempt timeouts: ends connections that outlive the attempt that began them.
    connect_timeout: Duration,
    max_idle: usize,
    proxies: Proxies,
}

/// Returns a client for each signal, which keeps up to `max_idle` idle connections to each address.
pub(super) fn clients(
    exports: &[SignalExport<'_>; Signal::ALL.len()],
    max_idle: usize,
) -> Result<[HttpClient; Signal::ALL.len()], ExporterError> {
    let connect_timeout = exports.iter().map(|export| export.timeout).max().unwrap_or(Duration::MAX);
    let proxies = Proxies::new(exports[0].proxy, exports[0].protocol);
    let connections = Connections { connect_timeout, max_idle, proxies };
    let mut built: Vec<(Option<&TlsClientConfig>, HttpClient)> = Vec::new();
    let [traces, logs, metrics] = Signal::ALL.map(|signal| -> Result<_, ExporterError> {
        // All signals have the protocol of their section.
        let protocol = exports[signal as usize].protocol;
        let tls = tls_of(&exports[signal as usize]);
        if let Some((_, client)) = built.iter().find(|(other, _)| *other == tls) {
            return Ok(client.clone());
        }
        let client = connections.client(tls, protocol).map_err(|source| ExporterError::Tls {
            section: protocol.section(),
            signal,
            source,
        })?;
        built.push((tls, client.clone()));
        Ok(client)
    });
    Ok([traces?, logs?, metrics?])
}

/// Returns the problems that prevent building the clients, once for signals with the same TLS settings.
pub(super) fn tls_problems(exports: &[SignalExport<'_>; Signal::ALL.len()]) -> Vec<ExporterError> {
    let mut seen: Vec<Option<&TlsClientConfig>> = Vec::new();
    let mut problems = Vec::new();
    for signal in Signal::ALL {
        let tls = tls_of(&exports[signal as usize]);
        if seen.contains(&tls) {
            continue;
        }
        seen.push(tls);
        if let Err(source) = tls_config(tls) {
            let section = exports[signal as usize].protocol.section();
            problems.push(ExporterError::Tls { section, signal, source });
        }
    }
    problems
}

/// Returns a client for one endpoint that is used by one task.
pub(super) fn standalone(signal: Signal, export: &SignalExport<'_>) -> Result<HttpClient, ExporterError> {
    let proxies = Proxies::new(export.proxy, export.protocol);
    let connections = Connections { connect_timeout: export.timeout, max_idle: 1, proxies };
    connections.client(tls_of(export), export.protocol).map_err(|source| ExporterError::Tls {
        section: export.protocol.section(),
        signal,
        source,
    })
}

/// Returns a client for the API at `endpoint`, with up to `max_idle` idle connections.
pub(super) fn of_api(
    endpoint: &Uri,
    tls: &TlsClientConfig,
    proxy: &ProxySettings,
    max_idle: usize,
) -> Result<HttpClient, ClientTlsError> {
    let proxies = Proxies::new(proxy, Protocol::Http);
    let connections = Connections { connect_timeout: API_CONNECT_TIMEOUT, max_idle, proxies };
    connections.client((endpoint.scheme() == Some(&Scheme::HTTPS)).then_some(tls), Protocol::Http)
}

/// Returns the TLS settings, or `None` if the endpoint is plain http.
fn tls_of<'a>(export: &'a SignalExport<'_>) -> Option<&'a TlsClientConfig> {
    (export.endpoint.scheme() == Some(&Scheme::HTTPS)).then_some(&export.tls)
}

// === impl Connections ===

impl Connections {
    fn client(
        &self,
        tls: Option<&TlsClientConfig>,
        protocol: Protocol,
    ) -> Result<HttpClient, ClientTlsError> {
        let connector = self.connector(tls, protocol)?;
        let mut builder = Client::builder(TokioExecutor::new());
        if protocol == Protocol::Grpc {
            // One connection carries all calls: a ping detects that it died silently.
            builder
                .http2_only(true)
                .timer(TokioTimer::new())
                .http2_adaptive_window(true)
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(PING_TIMEOUT);
        }
        Ok(builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.max_idle)
            // A request that was not sent because its idle connection had just been closed is sent on another one.
            .retry_canceled_requests(true)
            .build(connector))
    }

    fn connector(
        &self,
        tls: Option<&TlsClientConfig>,
        protocol: Protocol,
    ) -> Result<Connector, ClientTlsError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // The TLS connector above it handles https.
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.connect_timeout));

        let connector = ProxyConnector::new(tcp, self.proxies.clone());
        let builder =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls_config(tls)?).https_or_http();
        Ok(match protocol {
            // Not h2: the pool holds one h2 connection, and if that dies silently, exports time out on it. A dead HTTP/1.1
            // connection costs one attempt.
            Protocol::Http => builder.enable_http1().wrap_connector(connector),
            Protocol::Grpc => builder.enable_http2().wrap_connector(connector),
        })
    }
}

/// Returns the TLS configuration. Without TLS settings it reads no file and no system store, so that a container without
/// root certificates can still export over http.
pub(super) fn tls_config(config: Option<&TlsClientConfig>) -> Result<ClientConfig, ClientTlsError> {
    // Explicit, so that the process-wide default provider does not matter.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientTlsError::Provider)?;
    let Some(config) = config else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let builder = match &config.ca_file {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None => builder.with_native_roots().map_err(ClientTlsError::NoRoots)?,
    };
    match (&config.cert_file, &config.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) => Err(ClientTlsError::Incomplete { missing: "tls.key_file" }),
        (None, Some(_)) => Err(ClientTlsError::Incomplete { missing: "tls.cert_file" }),
        (Some(cert), Some(key)) => {
            let chain = pem::certificates_in(cert).map_err(file("tls.cert_file", cert))?;
            let key = pem::private_key_in(key).map_err(file("tls.key_file", key))?;
            builder.with_client_auth_cert(chain, key).map_err(ClientTlsError::Client)
        }
    }
}

fn roots(path: &Path) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let found = pem::certificates_in(path).map_err(file("tls.ca_file", path))?;
    // System bundles contain certificates that no library accepts.
    let (usable, _) = roots.add_parsable_certificates(found);
    if usable == 0 {
        return Err(file("tls.ca_file", path)(PemError::NoCertificate));
    }
    Ok(roots)
}

fn file(key: &'static str, path: &Path) -> impl FnOnce(PemError) -> ClientTlsError {
    let path = path.to_owned();
    move |source| ClientTlsError::File { key, path, source }
}
