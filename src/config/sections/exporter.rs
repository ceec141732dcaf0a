//! `exporters.otlp_http`: endpoints and how to export to them.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::endpoint::Endpoint;
use super::super::field::Field;
use super::super::section::Section;
use super::super::{
    BatchConfig, Compression, Delivery, Encoding, ExporterConfig, RetryConfig, SignalHeaders, SignalOverride,
    SignalOverrides, TlsClientConfig, defaults,
};
use crate::otlp::Signal;

/// Headers that the relay sets itself.
const OWN_HEADERS: [HeaderName; 8] =
    [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Port of OTLP/gRPC, which the relay does not support.
pub(super) const GRPC_PORT: u16 = 4317;

/// Statuses that OTLP/HTTP defines as retryable.
const ALWAYS_RETRIED: [u16; 4] = [429, 502, 503, 504];

/// Statuses about the endpoint, the credentials or the format, independent of the data.
const OF_THE_DESTINATION: [u16; 6] = [401, 403, 404, 405, 407, 415];

/// Maximum backoff multiplier; a larger one would make retries pointless.
const MAX_MULTIPLIER: f64 = 100.0;

pub(super) fn read(mut section: Section<'_>) -> Option<ExporterConfig> {
    let mut base = base(&mut section);
    let traces = signal_endpoint(&mut section, "traces_endpoint", Signal::Traces, &mut base);
    let logs = signal_endpoint(&mut section, "logs_endpoint", Signal::Logs, &mut base);
    let metrics = signal_endpoint(&mut section, "metrics_endpoint", Signal::Metrics, &mut base);
    let (mut encoding, mut delivery, mut compression) = (Encoding::Json, Delivery::Single, Compression::None);
    section.set("encoding", &mut encoding, |field| field.one_of(&Encoding::NAMES));
    section.set("delivery", &mut delivery, |field| field.one_of(&Delivery::NAMES));
    let batch = batch(section.section("batch"));
    section.set("compression", &mut compression, |field| field.one_of(&Compression::NAMES));
    let headers = headers(section.section("headers"));
    let mut timeout = defaults::EXPORT_TIMEOUT;
    section.set("timeout", &mut timeout, Field::positive_duration);
    let mut max_in_flight = defaults::MAX_IN_FLIGHT;
    section.set("max_in_flight", &mut max_in_flight, Field::count);
    let retry_on_failure = retry(section.section("retry_on_failure"));
    let permanent_status_codes = permanent_status_codes(&mut section);
    let tls = tls(section.section("tls"));
    let (traces_headers, traces_override) = signal_override(section.section("traces"));
    let (logs_headers, logs_override) = signal_override(section.section("logs"));
    let (metrics_headers, metrics_override) = signal_override(section.section("metrics"));
    check_pair(&section, "tls", &tls);
    for (key, own) in [("traces", &traces_override), ("logs", &logs_override), ("metrics", &metrics_override)]
    {
        if own.tls.cert_file.is_some() || own.tls.key_file.is_some() {
            check_pair(&section, key, &own.tls.clone().or(&tls));
        }
    }
    section.finish();

    let (traces, logs, metrics) = (traces?, logs?, metrics?);
    let signal_headers = SignalHeaders {
        traces: with_authorization(traces_headers, &traces, &headers),
        logs: with_authorization(logs_headers, &logs, &headers),
        metrics: with_authorization(metrics_headers, &metrics, &headers),
    };
    Some(ExporterConfig {
        traces_endpoint: traces.uri,
        logs_endpoint: logs.uri,
        metrics_endpoint: metrics.uri,
        encoding,
        delivery,
        batch,
        compression,
        headers,
        signal_headers,
        signals: SignalOverrides { traces: traces_override, logs: logs_override, metrics: metrics_override },
        timeout,
        max_in_flight,
        retry_on_failure,
        permanent_status_codes,
        tls,
    })
}

/// Reads `endpoint`, or returns the default. `None` if it is invalid.
fn base(section: &mut Section<'_>) -> Option<Endpoint> {
    let field = section.field("endpoint");
    let base = match &field {
        Some(field) => endpoint(field)?,
        None => Endpoint::parse(defaults::ENDPOINT).ok()?,
    };
    let path = base.uri.path().trim_end_matches('/');
    if Signal::ALL.iter().any(|signal| path.ends_with(&format!("/v1/{signal}"))) {
        section.note("endpoint ends in a signal path, which is appended once more; use traces_endpoint, logs_endpoint or metrics_endpoint for complete URLs");
    }
    Some(base)
}

/// Returns the URL of one signal: its own key unchanged, or the base with the signal's path.
fn signal_endpoint(
    section: &mut Section<'_>,
    name: &'static str,
    signal: Signal,
    base: &mut Option<Endpoint>,
) -> Option<Endpoint> {
    let endpoint = match section.field(name) {
        Some(field) => endpoint(&field)?,
        None => match base.as_ref()?.join(signal) {
            Ok(endpoint) => endpoint,
            Err(what) => {
                section.problem_at("endpoint", what);
                // Reported once, although several signals share the base.
                *base = None;
                return None;
            }
        },
    };
    if endpoint.uri.port_u16() == Some(GRPC_PORT) {
        section.note(format!(
            "{signal} are exported to port {GRPC_PORT}, the default of OTLP/gRPC; the relay exports OTLP/HTTP, whose default is 4318"
        ));
    }
    Some(endpoint)
}

pub(super) fn endpoint(field: &Field<'_>) -> Option<Endpoint> {
    let url = field.text()?;
    match Endpoint::parse(url) {
        Ok(endpoint) => Some(endpoint),
        Err(what) => {
            // A URL with a user contains a password.
            let shown = if url.contains('@') { field.hidden().shown() } else { field.shown() };
            field.problem(format!("{shown} {what}"));
            None
        }
    }
}

fn batch(mut section: Section<'_>) -> BatchConfig {
    let mut batch = BatchConfig::default();
    section.set("max_events", &mut batch.max_events, Field::count);
    section.set("max_bytes", &mut batch.max_bytes, Field::size);
    section.set("timeout", &mut batch.timeout, Field::positive_duration);
    section.finish();
    batch
}

fn retry(mut section: Section<'_>) -> RetryConfig {
    let mut retry = RetryConfig::default();
    section.set("initial_interval", &mut retry.initial_interval, Field::positive_duration);
    section.set("max_interval", &mut retry.max_interval, Field::positive_duration);
    section.set("multiplier", &mut retry.multiplier, |field| field.number(1.0..=MAX_MULTIPLIER));
    section.set("randomization_factor", &mut retry.randomization_factor, |field| field.number(0.0..=1.0));
    section.set("max_elapsed_time", &mut retry.max_elapsed_time, Field::duration);
    if retry.max_interval < retry.initial_interval {
        section.problem_at("max_interval", "must be at least initial_interval");
    }
    section.finish();
    retry
}

fn permanent_status_codes(section: &mut Section<'_>) -> Vec<u16> {
    let mut codes = defaults::PERMANENT_STATUS_CODES.to_vec();
    section.set("permanent_status_codes", &mut codes, |field| field.list(permanent_status_code));
    for code in codes.iter().filter(|code| OF_THE_DESTINATION.contains(code)) {
        section.note(format!(
            "permanent_status_codes has {code}, so a wrong endpoint or credential will reject data instead of \
             keeping it in the queue"
        ));
    }
    codes
}

fn permanent_status_code(field: &Field<'_>) -> Option<u16> {
    let code = field.error_status()?;
    if ALWAYS_RETRIED.contains(&code) {
        field.problem(format!("{code} cannot be permanent: OTLP defines 429, 502, 503 and 504 as retryable"));
        return None;
    }
    Some(code)
}

pub(super) fn tls(mut section: Section<'_>) -> TlsClientConfig {
    let mut tls = TlsClientConfig::default();
    section.set("ca_file", &mut tls.ca_file, |field| field.file().map(Some));
    section.set("cert_file", &mut tls.cert_file, |field| field.file().map(Some));
    section.set("key_file", &mut tls.key_file, |field| field.file().map(Some));
    section.finish();
    tls
}

/// Checks the effective settings: a signal may combine the common certificate with its own key.
pub(super) fn check_pair(section: &Section<'_>, key: &str, tls: &TlsClientConfig) {
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        section.problem_at(key, "cert_file and key_file belong together; give both or neither");
    }
}

fn signal_override(mut section: Section<'_>) -> (HeaderMap, SignalOverride) {
    let mut own = SignalOverride::default();
    section.set("encoding", &mut own.encoding, |field| field.one_of(&Encoding::NAMES).map(Some));
    section.set("compression", &mut own.compression, |field| field.one_of(&Compression::NAMES).map(Some));
    let headers = headers(section.section("headers"));
    section.set("timeout", &mut own.timeout, |field| field.positive_duration().map(Some));
    own.tls = tls(section.section("tls"));
    section.finish();
    (headers, own)
}

/// Reads header names and values. Neither is repeated in a problem: a typo may have turned the value into a name.
pub(super) fn headers(section: Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (entry, field) in section.entries() {
        let Ok(name) = entry.key.parse::<HeaderName>() else {
            section.problem_by(entry, "contains a key that is not a valid header name");
            continue;
        };
        if OWN_HEADERS.contains(&name) {
            field.problem("the relay sets this header itself");
            continue;
        }
        let Some(text) = field.hidden().text() else { continue };
        let Ok(mut value) = HeaderValue::from_str(text) else {
            field.problem("invalid header value: it contains a line break or another control character");
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            field.problem("duplicate header; header names are case-insensitive");
        }
    }
    headers
}

/// Adds the `authorization` header from an endpoint's URL, unless one is configured.
pub(super) fn with_authorization(mut own: HeaderMap, endpoint: &Endpoint, common: &HeaderMap) -> HeaderMap {
    if let Some(authorization) = &endpoint.authorization
        && !own.contains_key(&AUTHORIZATION)
        && !common.contains_key(&AUTHORIZATION)
        && let Ok(mut value) = HeaderValue::from_str(authorization)
    {
        value.set_sensitive(true);
        own.insert(AUTHORIZATION, value);
    }
    own
}
