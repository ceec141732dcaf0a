//! A way out beside that of the data: for the relay's own traces, with the same client and the same TLS.
//!
//! In: bodies. Out: one POST for each, taken or not and why. Promises: it makes no spans and counts nothing as exported;
//! none of the exporter's headers goes along.

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use tower::BoxError;

use super::client::TlsError;
use super::otlp_http::{Post, host_and_port};
use super::outcome::{Meaning, meaning_of};
use super::{ExporterError, fault, response};
use crate::config::{Compression, Encoding, SignalExport, TracesConfig};
use crate::otlp::Signal;
use crate::telemetry::traces::{Deliver, USER_AGENT_OF_OWN, Undelivered};

/// Posts to `telemetry.traces.endpoint`.
pub(crate) struct Aside {
    post: Post,
    /// Host and port.
    endpoint: String,
    /// Of one request, its answer included.
    timeout: std::time::Duration,
}

// === impl Aside ===

impl Aside {
    /// Reads certificates; connects to nothing yet.
    pub(crate) fn new(config: &TracesConfig) -> Result<Self, AsideError> {
        let mut headers = config.headers.clone();
        // By this the front door of a relay knows requests that are to make no spans.
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_OF_OWN));
        let export = SignalExport {
            endpoint: &config.endpoint,
            encoding: Encoding::Protobuf,
            compression: Compression::None,
            timeout: config.timeout,
            headers,
            tls: config.tls.clone(),
        };
        let post = Post::alone(Signal::Traces, &export)?;
        Ok(Self { post, endpoint: host_and_port(&config.endpoint), timeout: config.timeout })
    }
}

/// Why own traces cannot be sent as they are configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AsideError {
    #[error("telemetry.traces.endpoint: must be http:// or https:// and a host")]
    Address,
    #[error("telemetry.traces.tls: TLS cannot be set up")]
    Tls(#[source] TlsError),
}

impl From<ExporterError> for AsideError {
    fn from(error: ExporterError) -> Self {
        match error {
            ExporterError::Address { .. } => Self::Address,
            ExporterError::Tls { source, .. } => Self::Tls(source),
        }
    }
}

impl Deliver for Aside {
    async fn deliver(&self, body: Bytes) -> Result<(), Undelivered> {
        let unanswered =
            |error: BoxError| Undelivered::ForNow(fault::describe(&self.endpoint, self.timeout, &*error));
        let (head, body) = self.post.exchange(body.into(), self.timeout).await.map_err(unanswered)?;
        let reason = || response::refusal(&self.endpoint, head.status, &head.headers, &body);
        match meaning_of(head.status, &[]) {
            Meaning::Sent => Ok(()),
            Meaning::Throttled | Meaning::Retryable => Err(Undelivered::ForNow(reason())),
            Meaning::Blocked | Meaning::Permanent => Err(Undelivered::ForGood(reason())),
        }
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
