//! Prints the effective configuration as YAML, for `spanrelay validate --print`.
//!
//! Promises: the output holds every key that has a value, but no secret; apart from secrets it loads as the same
//! configuration. An endpoint is printed as the three URLs that result from it.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::path::PathBuf;

use http::HeaderMap;

use super::names::name_of;
use super::units::{format_duration, format_size};
use super::{
    AuthConfig, CircleCiConfig, Compression, Config, Delivery, Encoding, ExporterConfig, FastlyConfig,
    LogFormat, LogsConfig, OtlpConfig, QueueConfig, RateLimitConfig, ReceiversConfig, ServerConfig,
    SignalOverride, SpanEventsConfig, Storage, Sync, TelemetryConfig, TlsClientConfig, TracesConfig,
    Unmatched,
};

/// Placeholder for a secret.
const REDACTED: &str = "[redacted]";

/// YAML writer.
struct Printer {
    text: String,
    depth: usize,
}

// === impl Config ===

impl Config {
    /// Returns the configuration as YAML, without its secrets.
    pub fn to_yaml(&self) -> String {
        let mut printer = Printer { text: String::new(), depth: 0 };
        printer.section("server", |p| p.server(&self.server));
        printer.section("receivers", |p| p.receivers(&self.receivers));
        printer.section("processors", |p| p.section("span_events", |p| p.span_events(&self.span_events)));
        printer.section("queue", |p| p.queue(&self.queue));
        printer.section("exporters", |p| p.section("otlp_http", |p| p.exporter(&self.exporter)));
        printer.section("telemetry", |p| p.telemetry(&self.telemetry));
        printer.text
    }
}

// === impl Printer ===

impl Printer {
    fn server(&mut self, server: &ServerConfig) {
        self.quoted("endpoint", server.endpoint);
        self.value("max_request_body_size", format_size(server.max_request_body_size));
        self.value("max_line_size", format_size(server.max_line_size));
        self.value("max_concurrent_requests", server.max_concurrent_requests);
        self.value("header_timeout", format_duration(server.header_timeout));
        self.value("body_timeout", format_duration(server.body_timeout));
        self.value("request_timeout", format_duration(server.request_timeout));
        if let Some(tls) = &server.tls {
            self.section("tls", |p| {
                p.file("cert_file", Some(&tls.cert_file));
                p.file("key_file", Some(&tls.key_file));
                p.file("client_ca_file", tls.client_ca_file.as_ref());
            });
        }
    }

    fn receivers(&mut self, receivers: &ReceiversConfig) {
        for fastly in &receivers.fastly {
            self.section(&fastly.id, |p| p.fastly(fastly));
        }
        for circleci in &receivers.circleci {
            self.section(&circleci.id, |p| p.circleci(circleci));
        }
        if let Some(OtlpConfig { auth, rate_limit }) = &receivers.otlp {
            self.section(OtlpConfig::ID, |p| {
                p.auth(auth.as_ref());
                p.rate_limit(*rate_limit);
            });
        }
    }

    fn fastly(&mut self, fastly: &FastlyConfig) {
        self.quoted("path", &fastly.path);
        self.list("service_ids", &fastly.service_ids);
        self.auth(fastly.auth.as_ref());
        self.value("repair", fastly.repair);
        self.rate_limit(fastly.rate_limit);
    }

    fn auth(&mut self, auth: Option<&AuthConfig>) {
        let Some(AuthConfig { header, values }) = auth else { return };
        self.section("auth", |p| {
            p.quoted("header", header);
            p.list("values", values.iter().map(|_| REDACTED));
        });
    }

    fn circleci(&mut self, circleci: &CircleCiConfig) {
        self.quoted("path", &circleci.path);
        self.list("secrets", circleci.secrets.iter().map(|_| REDACTED));
        self.value("allow_unsigned", circleci.allow_unsigned);
        self.quoted("service_name", &circleci.service_name);
        self.value("cancel_settle", format_duration(circleci.cancel_settle));
        self.rate_limit(circleci.rate_limit);
    }

    fn rate_limit(&mut self, limit: Option<RateLimitConfig>) {
        let Some(RateLimitConfig { requests_per_second, burst }) = limit else { return };
        self.section("rate_limit", |p| {
            p.value("requests_per_second", requests_per_second);
            p.value("burst", burst);
        });
    }

    fn span_events(&mut self, span_events: &SpanEventsConfig) {
        self.value("wait", format_duration(span_events.wait));
        self.value("max_held_bytes", format_size(span_events.max_held_bytes));
        self.value("unmatched", name_of(&Unmatched::NAMES, &span_events.unmatched));
        self.value("keep_logs", span_events.keep_logs);
    }

    fn queue(&mut self, queue: &QueueConfig) {
        self.value("storage", name_of(&Storage::NAMES, &queue.storage));
        self.quoted("directory", queue.directory.display());
        self.value("max_size", format_size(queue.max_size));
        self.value("sync", name_of(&Sync::NAMES, &queue.sync));
        self.value("rejected_max_size", format_size(queue.rejected_max_size));
    }

    fn exporter(&mut self, exporter: &ExporterConfig) {
        self.quoted("traces_endpoint", &exporter.traces_endpoint);
        self.quoted("logs_endpoint", &exporter.logs_endpoint);
        self.quoted("metrics_endpoint", &exporter.metrics_endpoint);
        self.value("encoding", name_of(&Encoding::NAMES, &exporter.encoding));
        self.value("delivery", name_of(&Delivery::NAMES, &exporter.delivery));
        self.section("batch", |p| {
            p.value("max_events", exporter.batch.max_events);
            p.value("max_bytes", format_size(exporter.batch.max_bytes));
            p.value("timeout", format_duration(exporter.batch.timeout));
        });
        self.value("compression", name_of(&Compression::NAMES, &exporter.compression));
        self.headers(&exporter.headers);
        self.value("timeout", format_duration(exporter.timeout));
        self.value("max_in_flight", exporter.max_in_flight);
        let retry = &exporter.retry_on_failure;
        self.section("retry_on_failure", |p| {
            p.value("initial_interval", format_duration(retry.initial_interval));
            p.value("max_interval", format_duration(retry.max_interval));
            p.value("multiplier", retry.multiplier);
            p.value("randomization_factor", retry.randomization_factor);
            p.value("max_elapsed_time", format_duration(retry.max_elapsed_time));
        });
        self.value("permanent_status_codes", format_args!("{:?}", exporter.permanent_status_codes));
        self.tls(&exporter.tls);
        let (headers, own) = (&exporter.signal_headers, &exporter.signals);
        self.signal("traces", &headers.traces, &own.traces);
        self.signal("logs", &headers.logs, &own.logs);
        self.signal("metrics", &headers.metrics, &own.metrics);
    }

    fn signal(&mut self, name: &str, headers: &HeaderMap, own: &SignalOverride) {
        if headers.is_empty() && *own == SignalOverride::default() {
            return;
        }
        self.section(name, |p| {
            if let Some(encoding) = &own.encoding {
                p.value("encoding", name_of(&Encoding::NAMES, encoding));
            }
            if let Some(compression) = &own.compression {
                p.value("compression", name_of(&Compression::NAMES, compression));
            }
            if let Some(timeout) = own.timeout {
                p.value("timeout", format_duration(timeout));
            }
            p.headers(headers);
            p.tls(&own.tls);
        });
    }

    fn headers(&mut self, headers: &HeaderMap) {
        if headers.is_empty() {
            self.value("headers", "{}");
            return;
        }
        self.section("headers", |p| {
            for name in headers.keys() {
                p.quoted(name.as_str(), REDACTED);
            }
        });
    }

    fn tls(&mut self, tls: &TlsClientConfig) {
        if *tls == TlsClientConfig::default() {
            return;
        }
        self.section("tls", |p| {
            p.file("ca_file", tls.ca_file.as_ref());
            p.file("cert_file", tls.cert_file.as_ref());
            p.file("key_file", tls.key_file.as_ref());
        });
    }

    fn telemetry(&mut self, telemetry: &TelemetryConfig) {
        self.quoted("endpoint", telemetry.endpoint);
        self.section("logs", |p| {
            p.value("level", name_of(&LogsConfig::LEVELS, &telemetry.logs.level));
            p.value("format", name_of(&LogFormat::NAMES, &telemetry.logs.format));
        });
        if let Some(TracesConfig { endpoint, headers, sampling_ratio, timeout, tls }) = &telemetry.traces {
            self.section("traces", |p| {
                p.quoted("endpoint", endpoint);
                p.headers(headers);
                p.value("sampling_ratio", sampling_ratio);
                p.value("timeout", format_duration(*timeout));
                p.tls(tls);
            });
        }
        self.section("inspect", |p| p.value("show_values", telemetry.inspect.show_values));
    }

    fn section(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.line(name, "");
        self.depth += 1;
        content(self);
        self.depth -= 1;
    }

    /// Writes a value that needs no quotes in YAML.
    fn value(&mut self, name: &str, value: impl Display) {
        self.line(name, &format!(" {value}"));
    }

    /// Writes any text in quotes.
    fn quoted(&mut self, name: &str, value: impl Display) {
        self.line(name, &format!(" {}", quote(&value.to_string())));
    }

    fn list<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<String> = items.into_iter().map(|item| quote(&item.to_string())).collect();
        self.value(name, format!("[{}]", items.join(", ")));
    }

    fn file(&mut self, name: &str, file: Option<&PathBuf>) {
        if let Some(file) = file {
            self.quoted(name, file.display());
        }
    }

    /// Writes a line; `value` is empty, or a space and the value.
    fn line(&mut self, name: &str, value: &str) {
        let indent = self.depth * 2;
        let name = key(name);
        writeln!(self.text, "{:indent$}{name}:{value}", "").expect("writing to a string never fails");
    }
}

/// Quotes a key where YAML would misread it. Header names can begin with `*`, `&` or `#`.
fn key(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_plain) {
        return name.into();
    }
    // Variables are not replaced in keys, so a `$` stands for itself.
    quote(name).replace("$$", "$").into()
}

/// Returns a double-quoted YAML scalar without variable references.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '$' => quoted.push_str("$$"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
