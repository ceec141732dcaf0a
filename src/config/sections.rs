//! Keys of the configuration, section by section: how each is read, and the constraints between them.
//!
//! In: the finished tree. Out: a [`Config`], which is not used if there are problems among the diagnostics.
//! Every key that is read here is a known key; there is no other list of them.

mod receivers;

mod exporter;

mod traces;

use super::field::{Diagnostics, Field};
use super::section::Section;
use super::yaml::Node;
use super::{
    Config, InspectConfig, LogFormat, LogsConfig, QueueConfig, ServerConfig, SpanEventsConfig, Storage, Sync,
    TelemetryConfig, TlsServerConfig, Unmatched,
};

/// Reads the whole tree. Returns `None` only if a part without a default is invalid.
pub(super) fn read(root: &Node, diagnostics: &Diagnostics) -> Option<Config> {
    let mut root = Section::root(diagnostics, root);
    let server = server(root.section("server"));
    let receivers = receivers::read(root.section("receivers"), &server);
    let span_events = processors(root.section("processors"));
    let queue = queue(root.section("queue"), &server);
    let exporter = exporters(root.section("exporters"));
    let telemetry = telemetry(root.section("telemetry"), &server);
    root.finish();
    Some(Config { server, receivers, span_events, queue, exporter: exporter?, telemetry })
}

fn server(mut section: Section<'_>) -> ServerConfig {
    let mut server = ServerConfig::default();
    section.set("endpoint", &mut server.endpoint, Field::socket_address);
    section.set("max_request_body_size", &mut server.max_request_body_size, Field::size);
    section.set("max_line_size", &mut server.max_line_size, Field::size);
    section.set("max_concurrent_requests", &mut server.max_concurrent_requests, Field::count);
    section.set("header_timeout", &mut server.header_timeout, Field::positive_duration);
    section.set("body_timeout", &mut server.body_timeout, Field::positive_duration);
    section.set("request_timeout", &mut server.request_timeout, Field::positive_duration);
    let tls = section.given("tls").map(Section::of);
    server.tls = tls.and_then(self::tls);
    if server.max_line_size > server.max_request_body_size {
        let what = "must be at most server.max_request_body_size: a line cannot be longer than a body";
        section.problem_at("max_line_size", what);
    }
    section.finish();
    server
}

/// Reads `tls`. An absent section means plain HTTP; an empty one is a problem, since it was meant to enable TLS.
fn tls(mut section: Section<'_>) -> Option<TlsServerConfig> {
    let (cert_file, key_file) = (section.field("cert_file"), section.field("key_file"));
    let client_ca_file = section.field("client_ca_file");
    if cert_file.is_none() || key_file.is_none() {
        section.missing("needs cert_file and key_file, the paths of two PEM files");
    }
    section.finish();
    Some(TlsServerConfig {
        cert_file: cert_file?.file()?,
        key_file: key_file?.file()?,
        client_ca_file: match client_ca_file {
            Some(field) => Some(field.file()?),
            None => None,
        },
    })
}

fn processors(mut section: Section<'_>) -> SpanEventsConfig {
    let span_events = span_events(section.section("span_events"));
    section.finish();
    span_events
}

fn span_events(mut section: Section<'_>) -> SpanEventsConfig {
    let mut span_events = SpanEventsConfig::default();
    section.set("wait", &mut span_events.wait, Field::duration);
    section.set("max_held_bytes", &mut span_events.max_held_bytes, Field::size);
    section.set("unmatched", &mut span_events.unmatched, |field| field.one_of(&Unmatched::NAMES));
    section.set("keep_logs", &mut span_events.keep_logs, Field::boolean);
    section.finish();
    span_events
}

fn queue(mut section: Section<'_>, server: &ServerConfig) -> QueueConfig {
    let mut queue = QueueConfig::default();
    section.set("storage", &mut queue.storage, |field| field.one_of(&Storage::NAMES));
    section.set("directory", &mut queue.directory, Field::file);
    section.set("max_size", &mut queue.max_size, Field::size);
    section.set("sync", &mut queue.sync, |field| field.one_of(&Sync::NAMES));
    section.set("rejected_max_size", &mut queue.rejected_max_size, Field::size);
    if queue.max_size < server.max_request_body_size {
        section.note(
            "max_size is smaller than server.max_request_body_size: the largest bodies never fit and are always rejected with 413",
        );
    }
    section.finish();
    queue
}

fn exporters(mut section: Section<'_>) -> Option<super::ExporterConfig> {
    let exporter = exporter::read(section.section("otlp_http"));
    section.finish();
    exporter
}

fn telemetry(mut section: Section<'_>, server: &ServerConfig) -> TelemetryConfig {
    let mut telemetry = TelemetryConfig::default();
    section.set("endpoint", &mut telemetry.endpoint, Field::socket_address);
    telemetry.logs = logs(section.section("logs"));
    let traces = section.given("traces").map(Section::of);
    telemetry.inspect = inspect(section.section("inspect"));
    let (own, public) = (telemetry.endpoint, server.endpoint);
    let same_host = own.ip() == public.ip() || own.ip().is_unspecified() || public.ip().is_unspecified();
    if own.port() == public.port() && own.port() != 0 && same_host {
        section
            .problem_at("endpoint", "the same address as server.endpoint; health and metrics need their own");
    }
    telemetry.traces = traces.and_then(|section| traces::read(section, public, own));
    section.finish();
    telemetry
}

fn inspect(mut section: Section<'_>) -> InspectConfig {
    let mut inspect = InspectConfig::default();
    section.set("show_values", &mut inspect.show_values, Field::boolean);
    section.finish();
    inspect
}

fn logs(mut section: Section<'_>) -> LogsConfig {
    let mut logs = LogsConfig::default();
    section.set("level", &mut logs.level, |field| field.one_of(&LogsConfig::LEVELS));
    section.set("format", &mut logs.format, |field| field.one_of(&LogFormat::NAMES));
    section.finish();
    logs
}
