//! Meanings of the fields of an access log, by their names.

use super::super::super::Withheld;

/// Meaning of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    Time,
    EndTime,
    /// Duration in microseconds.
    Duration,
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
pub(super) fn role(name: &str) -> Option<Role<'static>> {
    Some(match name.strip_prefix("json.").unwrap_or(name) {
        "timestamp" | "dt" | "date" | "time_start" | "time.start" | "@timestamp" => Role::Time,
        "time_end" | "time.end" => Role::EndTime,
        // Datadog's guide fills the field that it calls milliseconds from `%D`, which is in microseconds.
        "time_elapsed" | "time.elapsed" | "http.request_time_ms" => Role::Duration,
        "request_method" | "request.method" | "request" | "method" | "http.method" => Role::Method,
        "url" | "http.url" | "request.url" | "request_url" => Role::Url,
        "host" | "request.host" | "request_host" => Role::Host,
        "request_protocol" | "request.protocol" | "protocol" | "http.protocol" => Role::Protocol,
        "response_status" | "response.status" | "status" | "status_code" | "http.status_code" => Role::Status,
        "request_referer" | "request.referer" | "referer" | "http.referer" => Role::Referer,
        "traceparent" | "request_traceparent" | "http.traceparent" => Role::Traceparent,
        "client_ip" | "client.ip" | "request.client_ip" | "network.client.ip" => {
            Role::Attribute("client.address")
        }
        "request_user_agent" | "request.user_agent" | "user_agent" | "http.useragent" => {
            Role::Attribute("user_agent.original")
        }
        _ => return None,
    })
}

/// Returns the meaning that `access_logs.map` gives a field with this key.
pub(super) fn mapped_role(key: &str) -> Role<'_> {
    match key {
        "timestamp" => Role::Time,
        "traceparent" => Role::Traceparent,
        "http.request.method" => Role::Method,
        "url.path" => Role::Url,
        "http.response.status_code" => Role::Status,
        "server.address" => Role::Host,
        "network.protocol.version" => Role::Protocol,
        "http.request.header.referer" => Role::Referer,
        name => Role::Attribute(name),
    }
}
// === impl Role ===

impl Role<'_> {
    /// Returns whether a field with this meaning can become one of these attributes.
    pub(super) fn is_withheld(self, withheld: &Withheld) -> bool {
        let any = |groups: &[&[&str]]| groups.iter().any(|group| withheld.contains_any(group));
        match self {
            Self::Time | Self::EndTime | Self::Duration | Self::Traceparent => false,
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
