//! Sends export requests one by one and reports how the downstream responds, for `spanrelay replay` and `validate --connect`.
//!
//! In: OTLP/JSON of one signal. Out: the result of one attempt. Promises: uses the endpoint, the encoding, the headers and the
//! TLS settings of the relay. Leaves to others: retrying, and reporting to the operator.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::response::Parts;
use http::uri::Scheme;

use super::compress::Compressors;
use super::encode::Encoder;
use super::otlp_http::{self, Post, host_and_port};
use super::outcome::classify_status;
use super::remedy::Remedies;
use super::retry::retry_after;
use super::tls_port::PlainPort;
use super::{ExporterError, fault, response};
use crate::config::{ExporterConfig, SignalExport};
use crate::event::{ExportOutcome, Signal};

/// Sends export requests of each signal to its endpoint.
pub(crate) struct Resender {
    lanes: [ResendLane; Signal::ALL.len()],
    permanent_status_codes: Vec<u16>,
    wall_clock: fn() -> SystemTime,
}

struct ResendLane {
    post: Post,
    encoder: Encoder,
    /// Host and port.
    endpoint: String,
    timeout: Duration,
    remedies: Remedies,
    /// `None` if the endpoint is https.
    port: Option<PlainPort>,
}

/// Result of one attempt to send rejected data again, to the downstream or to the relay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resent {
    Accepted,
    /// The data was rejected for this reason.
    Rejected(String),
    /// Result that says nothing about the data; another attempt after the pause may help, if there is a pause.
    Failed {
        reason: String,
        retry_after: Option<Duration>,
        /// Advice, if the destination is at fault.
        remedy: Option<String>,
    },
}

// === impl Resent ===

impl Resent {
    /// Returns the result of a failure after which another attempt does not help.
    pub(crate) fn failed(reason: String) -> Self {
        Self::Failed { reason, retry_after: None, remedy: None }
    }
}

// === impl Resender ===

impl Resender {
    /// Reads certificates, without connecting.
    pub(crate) fn new(
        config: &ExporterConfig,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, ExporterError> {
        let posts = otlp_http::posts(config)?;
        let compressors = Arc::new(Compressors::new());
        let lanes = Signal::ALL.map(|signal| {
            ResendLane::new(
                signal,
                posts[signal as usize].clone(),
                &config.of(signal),
                Arc::clone(&compressors),
            )
        });
        Ok(Self { lanes, permanent_status_codes: config.permanent_status_codes.clone(), wall_clock })
    }

    /// Makes one attempt.
    pub(crate) async fn send(&self, signal: Signal, json: Bytes) -> Resent {
        let lane = &self.lanes[signal as usize];
        let body = match lane.encoder.clone().body(lane.encoder.plain_json(json)).await {
            Ok(body) => body,
            Err(error) => return Resent::Rejected(error.to_string()),
        };
        match lane.post.exchange(body, lane.timeout).await {
            Ok((parts, body)) => self.classify(signal, &parts, &body),
            Err(error) => Resent::failed(fault::describe(&lane.endpoint, lane.timeout, &*error)),
        }
    }

    /// Sends an empty export request. The error is the reason that it was not accepted, with a remedy where one is known.
    pub(crate) async fn probe(&self, signal: Signal) -> Result<(), String> {
        let lane = &self.lanes[signal as usize];
        let (reason, remedy) = match self.send(signal, Bytes::from_static(b"{}")).await {
            Resent::Accepted => return Ok(()),
            Resent::Rejected(reason) => (reason, None),
            Resent::Failed { reason, remedy, .. } => (reason, remedy),
        };
        let speaks_tls = match &lane.port {
            Some(port) => port.speaks_tls().await,
            None => false,
        };
        let remedy = if speaks_tls { Some(lane.remedies.tls_port()) } else { remedy };
        Err(match remedy {
            Some(remedy) => format!("{reason}; {remedy}"),
            None => reason,
        })
    }

    fn classify(&self, signal: Signal, parts: &Parts, body: &[u8]) -> Resent {
        let headers = &parts.headers;
        let reason = || response::failure_reason("downstream", parts, body);
        match classify_status(parts.status, &self.permanent_status_codes) {
            ExportOutcome::Sent => match response::partial_success(headers, body) {
                Some(partial) if partial.rejected_items > 0 => Resent::Rejected(partial.message),
                _ => Resent::Accepted,
            },
            ExportOutcome::Permanent => Resent::Rejected(reason()),
            ExportOutcome::Throttled | ExportOutcome::Retryable => {
                let pause = retry_after(headers, (self.wall_clock)()).unwrap_or(Duration::from_secs(1));
                Resent::Failed { reason: reason(), retry_after: Some(pause), remedy: None }
            }
            ExportOutcome::Blocked => {
                let remedy = Some(self.lanes[signal as usize].remedies.of(parts.status));
                Resent::Failed { reason: reason(), retry_after: None, remedy }
            }
        }
    }
}

// === impl ResendLane ===

impl ResendLane {
    fn new(signal: Signal, post: Post, export: &SignalExport<'_>, compressors: Arc<Compressors>) -> Self {
        Self {
            post,
            encoder: Encoder::new(signal, export, compressors),
            endpoint: host_and_port(export.endpoint),
            timeout: export.timeout,
            remedies: Remedies::new(signal, export),
            port: (export.endpoint.scheme() == Some(&Scheme::HTTP))
                .then(|| PlainPort::new(export.endpoint.clone())),
        }
    }
}
