//! `telemetry.traces`: self-tracing, never exported to the relay itself.

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::USER_AGENT;

use super::super::field::Field;
use super::super::section::Section;
use super::super::{TracesConfig, defaults, own_address};
use super::exporter;

/// Default path for traces of a Collector.
const USUAL_PATH: &str = "/v1/traces";

/// Reads the section. `front_door` and `telemetry` are the configured addresses; their ports may still be 0.
pub(super) fn read(
    mut section: Section<'_>,
    front_door: SocketAddr,
    telemetry: SocketAddr,
) -> Option<TracesConfig> {
    let field = section.field("endpoint");
    if field.is_none() {
        // An absent section disables self-tracing; an empty one was meant to enable it.
        section.missing("needs an endpoint, such as http://localhost:4318/v1/traces");
    }
    let endpoint = field.as_ref().and_then(exporter::endpoint);
    let own_headers = section.field("headers").is_some();
    let headers = exporter::headers(section.section("headers"));
    if own_headers && headers.contains_key(USER_AGENT) {
        section.problem_at(
            "headers",
            "user-agent is set by the relay, which recognises self-tracing requests by it",
        );
    }
    let (mut sampling_ratio, mut timeout) = (defaults::SAMPLING_RATIO, defaults::EXPORT_TIMEOUT);
    section.set("sampling_ratio", &mut sampling_ratio, |field| field.number(0.0..=1.0));
    section.set("timeout", &mut timeout, Field::positive_duration);
    let tls = exporter::tls(section.section("tls"));
    exporter::check_pair(&section, "tls", &tls);
    if let Some(endpoint) = &endpoint {
        let own = [("server.endpoint", front_door), ("telemetry.endpoint", telemetry)];
        for (key, _) in own.iter().filter(|(_, own)| own_address::is_named(&endpoint.uri, *own)) {
            let what = format!("is {key} of this relay; self-tracing cannot be exported to the relay itself");
            section.problem_at("endpoint", what);
        }
        if endpoint.uri.port_u16() == Some(exporter::GRPC_PORT) {
            section.note(format!(
                "endpoint has port {}, the default of OTLP/gRPC; the relay exports OTLP/HTTP, whose default is 4318",
                exporter::GRPC_PORT
            ));
        }
        if endpoint.uri.path() == "/" {
            section
                .note(format!("endpoint is used unchanged and has no path; a Collector's is {USUAL_PATH}"));
        }
    }
    section.finish();
    let endpoint = endpoint?;
    let mut all = exporter::with_authorization(HeaderMap::new(), &endpoint, &headers);
    all.extend(headers);
    Some(TracesConfig { endpoint: endpoint.uri, headers: all, sampling_ratio, timeout, tls })
}
