//! Meanings of the fields of an access log, by their names.

use super::super::super::Withheld;

/// Meaning of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldRole<'a> {
    Time,
    EndTime,
    /// Duration in microseconds.
    Duration,
    /// Duration in milliseconds, or in microseconds if the end of the request says so.
    RequestTime,
    Method,
    /// A target (path and query) or a whole URL.
    Url,
    Host,
    /// Protocol and version, such as `HTTP/1.1`.
    Protocol,
    Status,
    Referer,
    Traceparent,
    Attribute(&'a str),
}

/// Attributes that fields with the meanings of these names become.
const URL: &[&str] = &["url.path", "url.query", "url.scheme"];
const HOST: &[&str] = &["server.address", "server.port"];
const PROTOCOL: &[&str] = &["network.protocol.name", "network.protocol.version"];

/// Returns the meaning of a field in the formats of Fastly's and the vendors' guides.
pub(super) fn role(name: &str) -> Option<FieldRole<'static>> {
    Some(match name.strip_prefix("json.").unwrap_or(name) {
        "timestamp" | "dt" | "date" | "time_start" | "time.start" | "@timestamp" => FieldRole::Time,
        "time_end" | "time.end" => FieldRole::EndTime,
        "time_elapsed" | "time.elapsed" => FieldRole::Duration,
        // Datadog's guide filled it from `%D`, which is in microseconds, before it did from `time.elapsed.msec`.
        "http.request_time_ms" => FieldRole::RequestTime,
        "request_method" | "request.method" | "request" | "method" | "http.method" => FieldRole::Method,
        "url" | "http.url" | "request.url" | "request_url" => FieldRole::Url,
        "host" | "request.host" | "request_host" => FieldRole::Host,
        "request_protocol" | "request.protocol" | "protocol" | "http.protocol" => FieldRole::Protocol,
        "response_status" | "response.status" | "status" | "status_code" | "http.status_code" => {
            FieldRole::Status
        }
        "request_referer" | "request.referer" | "referer" | "http.referer" => FieldRole::Referer,
        "traceparent" | "request_traceparent" | "http.traceparent" => FieldRole::Traceparent,
        "client_ip" | "client.ip" | "request.client_ip" | "network.client.ip" => {
            FieldRole::Attribute("client.address")
        }
        "request_user_agent" | "request.user_agent" | "user_agent" | "http.useragent" => {
            FieldRole::Attribute("user_agent.original")
        }
        _ => return None,
    })
}

/// Returns the meaning that `access_logs.map` gives a field with this key.
pub(super) fn mapped_role(key: &str) -> FieldRole<'_> {
    match key {
        "timestamp" => FieldRole::Time,
        "traceparent" => FieldRole::Traceparent,
        "http.request.method" => FieldRole::Method,
        "url.path" => FieldRole::Url,
        "http.response.status_code" => FieldRole::Status,
        "server.address" => FieldRole::Host,
        "network.protocol.version" => FieldRole::Protocol,
        "http.request.header.referer" => FieldRole::Referer,
        name => FieldRole::Attribute(name),
    }
}
// === impl FieldRole ===

impl FieldRole<'_> {
    /// Returns whether only spans have a member for a field with this meaning.
    pub(super) fn is_of_spans(self) -> bool {
        matches!(self, Self::EndTime | Self::Duration | Self::RequestTime)
    }

    /// Returns whether a field with this meaning can become one of these attributes.
    pub(super) fn is_withheld(self, withheld: &Withheld) -> bool {
        let any = |groups: &[&[&str]]| groups.iter().any(|group| withheld.contains_any(group));
        match self {
            Self::Time | Self::EndTime | Self::Duration | Self::RequestTime | Self::Traceparent => false,
            // A whole request line is a method, too.
            Self::Method => any(&[&["http.request.method"], URL, HOST, PROTOCOL]),
            Self::Url => any(&[URL, HOST]),
            Self::Host => any(&[HOST]),
            Self::Protocol => any(&[PROTOCOL]),
            Self::Status => withheld.contains("http.response.status_code"),
            Self::Referer => withheld.contains("http.request.header.referer"),
            Self::Attribute(name) => withheld.contains(name),
        }
    }
}
