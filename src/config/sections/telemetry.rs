//! `telemetry`: the relay's own health, metrics, log, inspector and traces.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderMap;
use http::header::USER_AGENT;
use serde_json::json;

use super::super::declare::{choice, section};
use super::super::field::Field;
use super::super::kind::{Fraction, Headers, Positive, Url, authorize, kind, text};
use super::super::proxy::ProxySettings;
use super::super::section::Section;
use super::exporters::{TlsClientConfig, authorization, check_pair, note_grpc_port};

/// Placeholder in `trace_link`.
const TRACE_ID: &str = "{trace_id}";

/// Default path for traces of a Collector.
const USUAL_PATH: &str = "/v1/traces";

section! {
    /// `telemetry`
    pub(crate) struct TelemetryConfig {
        /// IP address and port of health, metrics and the inspector: never the public port. By default the Collector's health
        /// check port.
        endpoint: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 13133));
        /// The relay's log.
        logs: LogsConfig;
        /// Self-tracing: spans about the relay's own work. Disabled without this section.
        traces: Option<TracesConfig>, partly_live;
        /// The live page at `/inspect` of this endpoint.
        inspect: InspectConfig;
    }
}

section! {
    /// `telemetry.logs`
    pub(crate) struct LogsConfig {
        /// Least severity: `error`, `warn`, `info`, `debug` or `trace`.
        level: tracing::Level = tracing::Level::INFO;
        /// Form of a line: `text` or `json`.
        format: LogFormat = LogFormat::Text;
    }
}

choice! {
    /// `telemetry.logs.format`
    pub(crate) enum LogFormat {
        Text = "text",
        Json = "json",
    }
}

section! {
    /// `telemetry.traces`: self-tracing, as opposed to the relayed traces.
    pub(crate) struct TracesConfig => check_traces {
        /// Complete URL, used unchanged; not the relay itself.
        endpoint: Url, required("http://localhost:4318/v1/traces");
        /// Headers of each request. The exporter's headers are not sent there.
        headers: Headers, sample("{}"), live;
        /// Fraction of the requests that are traced, 0 to 1.
        sampling_ratio: Fraction = 1.0;
        /// Timeout of one request.
        timeout: Positive = Duration::from_secs(10);
        /// PEM files for HTTPS.
        tls: TlsClientConfig;
        /// Proxies of the environment.
        proxy: ProxySettings;
    }
}

section! {
    /// `telemetry.inspect`
    pub(crate) struct InspectConfig {
        /// Shows attribute values and the text of rejected lines, too, to anyone who can reach the endpoint.
        show_values: bool = false;
        /// Address of a trace in Jaeger or at a vendor, to which the page links; `{trace_id}` stands for the id.
        trace_link: Option<TraceLink>, sample("http://localhost:16686/trace/{trace_id}");
    }
}

kind! {
    /// URL with a placeholder for the id of a trace.
    TraceLink: String, trace_link, text, json!({ "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://.*\\{trace_id\\}" })
}

/// Reads the address of a trace. Browsers open it, so that it must be HTTP.
fn trace_link(field: &Field<'_>) -> Option<String> {
    let link = field.text()?;
    let is_http = ["http://", "https://"]
        .into_iter()
        .any(|scheme| link.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let problem = if !is_http {
        "must begin with http:// or https://"
    } else if !link.contains(TRACE_ID) {
        "does not contain {trace_id}, which stands for the id of the trace"
    } else if link.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "contains white space"
    } else {
        return Some(link.to_owned());
    };
    field.problem(format!("{} {problem}", field.shown()));
    None
}

fn check_traces(traces: &mut TracesConfig, section: &Section<'_>) {
    if traces.headers.contains_key(USER_AGENT) {
        section.problem_at(
            "headers",
            "user-agent is set by the relay, which recognises self-tracing requests by it",
        );
    }
    check_pair(section, "tls", &traces.tls);
    let Some(field) = section.value("endpoint") else {
        // An absent section disables self-tracing; an empty one was meant to enable it.
        section.missing("needs an endpoint, such as http://localhost:4318/v1/traces");
        return;
    };
    let remedy = "self-traces are exported by OTLP/HTTP, whose default is 4318";
    note_grpc_port(section, &traces.endpoint, "endpoint has", remedy);
    if traces.endpoint.path() == "/" {
        section.note(format!("endpoint is used unchanged and has no path; a Collector's is {USUAL_PATH}"));
    }
    authorize(&mut traces.headers, authorization(&field).as_deref(), &HeaderMap::new());
}
