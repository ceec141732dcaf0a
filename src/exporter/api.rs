//! Client of a sender's API, with the exporter's connections, proxies and TLS.
//!
//! In: paths and headers. Out: one `GET` for each, and its response, or one line about why there is none. Promises: sends nothing to
//! another host, because redirects are not followed; reads at most [`MAX_RESPONSE_BYTES`]; the line contains no header and no body.
//! Leaves to others: retrying, and what a response means.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Request, Uri};
use http_body_util::Full;
use tokio::time::timeout;
use tower::BoxError;
use tower::timeout::error::Elapsed;

use super::client::{self, ClientTlsError, HttpClient};
use super::otlp_http::{self, host_and_port};
use super::proxy::Proxies;
use super::retry::retry_after;
use super::{fault, response};
use crate::config::{Protocol, ProxySettings, TlsClientConfig};

/// Maximum size of a response: several times that of a job with a hundred parallel executions.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Client of one API.
pub(crate) struct ApiClient {
    client: HttpClient,
    endpoint: Uri,
    proxies: Proxies,
    wall_clock: fn() -> SystemTime,
}

/// Response of an API.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    /// Time that the API asks to wait for.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// Reason that the client of an API cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the endpoint must be http:// or https:// and a host")]
    Address,
    #[error("TLS cannot be set up")]
    Tls(#[source] ClientTlsError),
}

// === impl ApiClient ===

impl ApiClient {
    /// Reads certificates, by default the system's, without connecting. `max_idle` connections are kept open.
    pub(crate) fn new(
        endpoint: &Uri,
        ca_file: Option<&Path>,
        proxy: &ProxySettings,
        max_idle: usize,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, ApiError> {
        if endpoint.authority().is_none() {
            return Err(ApiError::Address);
        }
        let tls = TlsClientConfig { ca_file: ca_file.map(Path::to_owned), ..TlsClientConfig::default() };
        let client = client::of_api(endpoint, &tls, proxy, max_idle).map_err(ApiError::Tls)?;
        let proxies = Proxies::new(proxy, Protocol::Http);
        Ok(Self { client, endpoint: endpoint.clone(), proxies, wall_clock })
    }

    /// Sends one request and reads its response to the end, within `limit`. `path` is appended to that of the endpoint.
    pub(crate) async fn get(
        &self,
        path: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<ApiResponse, String> {
        let exchange = async {
            let request = self.request(path, headers)?;
            let (parts, body) = self.client.request(request).await?.into_parts();
            let body = response::read_within(body, MAX_RESPONSE_BYTES).await;
            let body = body.ok_or("the response broke off or is too large")?;
            let retry_after = retry_after(&parts.headers, (self.wall_clock)());
            Ok::<_, BoxError>(ApiResponse { status: parts.status.as_u16(), retry_after, body })
        };
        let result = timeout(limit, exchange).await.unwrap_or_else(|_| Err(Elapsed::new().into()));
        result.map_err(|error| fault::classify(&host_and_port(&self.endpoint), limit, &*error).reason)
    }

    fn request(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Request<Full<super::slices::Slices>>, BoxError> {
        let mut parts = self.endpoint.clone().into_parts();
        parts.path_and_query = Some(format!("{}{path}", self.endpoint.path().trim_end_matches('/')).parse()?);
        let uri = Uri::from_parts(parts)?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::new(Full::new(Bytes::new().into()));
        let all = request.headers_mut();
        all.insert(HOST, HeaderValue::from_str(host)?);
        all.insert(USER_AGENT, HeaderValue::from_static(otlp_http::USER_AGENT));
        all.insert(ACCEPT, HeaderValue::from_static("application/json"));
        all.extend(headers);
        if let Some(authorization) = self.proxies.authorization(&uri) {
            all.insert(PROXY_AUTHORIZATION, authorization);
        }
        *request.uri_mut() = uri;
        Ok(request)
    }
}
