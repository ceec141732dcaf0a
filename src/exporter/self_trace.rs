//! Exports self-traces, separately from the data, with the same HTTP client and TLS code.
//!
//! In: bodies. Out: one POST for each, and whether it was accepted. Promises: records no spans and counts nothing as exported;
//! sends none of the exporter's headers.

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use tower::BoxError;

use super::client::ClientTlsError;
use super::otlp_http::{Post, host_and_port};
use super::outcome::classify_status;
use super::{ExporterError, fault, response};
use crate::config::{Compression, Encoding, Protocol, SignalExport, TracesConfig};
use crate::event::{ExportOutcome, Signal};
use crate::telemetry::traces::{Deliver, USER_AGENT_OF_OWN, Undelivered};

/// Exporter for `telemetry.traces.endpoint`. Clones share headers and certificates.
#[derive(Clone)]
pub(crate) struct SelfTraceExporter {
    post: Post,
    /// Host and port.
    endpoint: String,
    /// Timeout of one request, including its response.
    timeout: std::time::Duration,
}

// === impl SelfTraceExporter ===

impl SelfTraceExporter {
    /// Reads certificates, without connecting.
    pub(crate) fn new(config: &TracesConfig) -> Result<Self, SelfTraceExporterError> {
        let mut headers = config.headers.clone();
        // A relay that receives such a request records no spans for it.
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_OF_OWN));
        let export = SignalExport {
            protocol: Protocol::Http,
            endpoint: &config.endpoint,
            encoding: Encoding::Protobuf,
            compression: Compression::None,
            timeout: config.timeout,
            headers,
            tls: config.tls.clone(),
            proxy: &config.proxy,
        };
        let post = Post::standalone(Signal::Traces, &export)?;
        Ok(Self { post, endpoint: host_and_port(&config.endpoint), timeout: config.timeout })
    }

    /// Reads the certificates again, and uses them and the headers of `config` for all later requests.
    pub(crate) fn reload(&self, config: &TracesConfig) -> Result<(), SelfTraceExporterError> {
        self.post.replace(&Self::new(config)?.post);
        Ok(())
    }
}

/// Reason that self-tracing cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfTraceExporterError {
    #[error("telemetry.traces.endpoint: must be http:// or https:// and a host")]
    Address,
    #[error("telemetry.traces.tls: TLS cannot be set up")]
    Tls(#[source] ClientTlsError),
}

impl From<ExporterError> for SelfTraceExporterError {
    fn from(error: ExporterError) -> Self {
        match error {
            ExporterError::Address { .. } => Self::Address,
            ExporterError::Tls { source, .. } => Self::Tls(source),
        }
    }
}

impl Deliver for SelfTraceExporter {
    async fn deliver(&self, body: Bytes) -> Result<(), Undelivered> {
        let no_response = |error: BoxError| {
            let reason = fault::describe(&self.endpoint, self.timeout, &*error);
            Undelivered { outcome: ExportOutcome::Retryable, reason }
        };
        let (parts, body) = self.post.exchange(body.into(), self.timeout).await.map_err(no_response)?;
        match classify_status(parts.status, &[]) {
            ExportOutcome::Sent => Ok(()),
            outcome => {
                Err(Undelivered { outcome, reason: response::failure_reason(&self.endpoint, &parts, &body) })
            }
        }
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
