//! One access-log line as OTLP: the meaning of its fields, and their encoding.
//!
//! Attributes have the names of the stable semantic conventions for HTTP; a field without one keeps its own name.
//! Nothing is written that is not in the line.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::super::super::Withheld;
use super::config::{AccessLogForm, AccessLogsConfig};
use super::fields::{FieldValue, LineField};
use super::ncsa;
use super::role::FieldRole;
use super::time;
use super::value::{any_value, push_quoted, quoted};

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Key of the length of a response's body.
const BODY_SIZE: &str = "http.response.body.size";

/// A line that is being read.
#[derive(Default)]
pub(super) struct LineRecord<'n> {
    time: Option<u64>,
    end: Option<u64>,
    duration: Option<u64>,
    request_time: Option<u64>,
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    /// Trace id and parent's span id, in hexadecimal.
    parent: Option<(String, String)>,
    /// JSON of the attributes, each followed by a comma.
    attributes: String,
    /// Names of attributes that further fields must not get. They are those that a field can have by its meaning, so that there are few.
    claimed: Vec<&'n str>,
}

// === impl LineRecord ===

impl<'n> LineRecord<'n> {
    /// Returns the fields of a line in one of NCSA's formats that are not numbers.
    pub(super) fn fields_of_ncsa<'a>(line: &ncsa::NcsaLine<'a>) -> [(&'a str, FieldRole<'static>); 9] {
        [
            (line.time, FieldRole::Time),
            (line.virtual_host, FieldRole::Host),
            (line.client, FieldRole::Attribute("client.address")),
            (line.user, FieldRole::Attribute("user.name")),
            (line.request, FieldRole::Method),
            (line.status, FieldRole::Status),
            (line.bytes, FieldRole::Attribute(BODY_SIZE)),
            (line.referer, FieldRole::Referer),
            (line.user_agent, FieldRole::Attribute("user_agent.original")),
        ]
    }

    /// Creates the record of a line of this length, in bytes.
    pub(super) fn of_length(length: usize) -> Self {
        // The attributes of most lines are about twice as long.
        Self { attributes: String::with_capacity(2 * length), ..Self::default() }
    }

    /// Adds the fields of a line in one of NCSA's formats. Those that are invalid have a name of their own.
    pub(super) fn ncsa(line: &ncsa::NcsaLine<'_>, withheld: &Withheld) -> Self {
        let mut record = Self::default();
        for (text, role) in Self::fields_of_ncsa(line) {
            match role {
                FieldRole::Attribute(BODY_SIZE) if text.is_empty() => {}
                FieldRole::Attribute(BODY_SIZE) => record.attribute(BODY_SIZE, FieldValue::Number(text)),
                _ if record.take(role, text) || role.is_withheld(withheld) => {}
                FieldRole::Time => record.text_attribute("time", text),
                FieldRole::Status => record.text_attribute("status", text),
                _ => record.text_attribute("request", text),
            }
        }
        record
    }

    /// Returns whether a method, a URL or a status was found.
    pub(super) fn is_access_log(&self) -> bool {
        self.method.is_some() || self.path.is_some() || self.status.is_some()
    }

    /// Returns whether a time was found.
    pub(super) fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// Adds a field with this meaning. One that is invalid, or whose attribute there is already, keeps its own name, unless the attribute
    /// is withheld.
    pub(super) fn add(&mut self, field: &LineField<'_>, role: Option<FieldRole<'n>>, withheld: &Withheld) {
        let is_taken = match (role, field.value.text()) {
            (Some(FieldRole::Attribute(name)), Some(text)) => {
                let is_new = self.claim(name);
                if is_new {
                    self.typed(name, field.value, &text);
                }
                is_new
            }
            // A log record has no other place for the end and the duration.
            (Some(role), Some(text)) => self.take(role, &text) && !role.is_of_spans(),
            // Words that mean no value are left out.
            (Some(_), None) => matches!(field.value, FieldValue::Plain(_) | FieldValue::Escaped(_)),
            (None, _) => field.value == FieldValue::Plain("(null)"),
        };
        let is_withheld = || role.is_some_and(|role| role.is_withheld(withheld));
        if !is_taken && !is_withheld() {
            self.attribute(&field.name, field.value);
        }
    }

    /// Parses the text of a field. Returns whether it is valid for its meaning; an empty one is.
    fn take(&mut self, role: FieldRole<'_>, text: &str) -> bool {
        if text.is_empty() {
            return true;
        }
        match role {
            FieldRole::Time => set(&mut self.time, time::nanoseconds(text)),
            FieldRole::EndTime => set(&mut self.end, time::nanoseconds(text)),
            FieldRole::Duration => set(&mut self.duration, time::microseconds(text)),
            FieldRole::RequestTime => set(&mut self.request_time, time::microseconds(text)),
            FieldRole::Traceparent => set(&mut self.parent, traceparent(text)),
            FieldRole::Method => self.take_method(text),
            FieldRole::Url => self.take_url(text),
            FieldRole::Host => self.take_host(text),
            FieldRole::Protocol => self.take_protocol(text),
            FieldRole::Status => {
                let status = text.parse::<u16>().ok().filter(|status| (100..1000).contains(status));
                let is_taken = set(&mut self.status, status);
                if is_taken {
                    self.attribute("http.response.status_code", FieldValue::Number(text));
                }
                is_taken
            }
            FieldRole::Referer if !self.claim("http.request.header.referer") => false,
            FieldRole::Referer => {
                self.key("http.request.header.referer");
                self.attributes.push_str("\"arrayValue\":{\"values\":[{\"stringValue\":");
                push_quoted(&mut self.attributes, text);
                self.attributes.push_str("}]}}},");
                true
            }
            FieldRole::Attribute(name) => {
                self.text_attribute(name, text);
                true
            }
        }
    }

    /// Parses a method, or a whole request line: method, target and protocol.
    fn take_method(&mut self, text: &str) -> bool {
        let (method, rest) = text.split_once(' ').unwrap_or((text, ""));
        if self.method.is_some() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return false;
        }
        if !rest.is_empty() {
            let (target, protocol) = match rest.rsplit_once(' ') {
                Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, protocol),
                _ => (rest, ""),
            };
            self.take(FieldRole::Url, target);
            self.take(FieldRole::Protocol, protocol);
        }
        self.text_attribute("http.request.method", method);
        self.method = Some(method.to_owned());
        true
    }

    fn take_url(&mut self, text: &str) -> bool {
        if self.path.is_some() {
            return false;
        }
        let mut target = text;
        if let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") {
            let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            // Without a user name and password.
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            self.text_attribute("url.scheme", scheme);
            self.take_host(host);
            target = path;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.text_attribute("url.path", path);
        if !query.is_empty() {
            self.text_attribute("url.query", query);
        }
        self.path = Some(path.to_owned());
        true
    }

    fn take_host(&mut self, text: &str) -> bool {
        if !self.claim("server.address") {
            return false;
        }
        let (host, port) = match text.rsplit_once(':') {
            // Only the last colon after an IPv6 address in brackets can precede a port.
            Some((host, port))
                if !port.is_empty()
                    && port.bytes().all(|byte| byte.is_ascii_digit())
                    && (host.ends_with(']') || !host.contains(':')) =>
            {
                (host, port)
            }
            _ => (text, ""),
        };
        self.text_attribute("server.address", host);
        if !port.is_empty() {
            self.attribute("server.port", FieldValue::Number(port));
        }
        true
    }

    fn take_protocol(&mut self, text: &str) -> bool {
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name.to_ascii_lowercase(), version),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => (String::new(), text),
            None => return false,
        };
        if !self.claim("network.protocol.version") {
            return false;
        }
        // HTTP is what the convention assumes without a name.
        if !matches!(&*name, "" | "http") {
            self.text_attribute("network.protocol.name", &name);
        }
        // The conventions write 1.0 and 1.1, but 2 and 3.
        let version = if version == "1.0" { version } else { version.strip_suffix(".0").unwrap_or(version) };
        self.text_attribute("network.protocol.version", version);
        true
    }

    /// Adds an attribute by its own type; words that mean no value are left out.
    fn typed(&mut self, name: &str, value: FieldValue<'_>, text: &str) {
        match value {
            FieldValue::Plain(_) | FieldValue::Escaped(_) => self.text_attribute(name, text),
            _ => self.attribute(name, value),
        }
    }

    fn text_attribute(&mut self, name: &str, text: &str) {
        self.key(name);
        self.attributes.push_str("\"stringValue\":");
        push_quoted(&mut self.attributes, text);
        self.attributes.push_str("}},");
    }

    /// Adds an attribute whose value is already JSON.
    fn attribute(&mut self, name: &str, value: FieldValue<'_>) {
        self.key(name);
        any_value(&mut self.attributes, value);
        self.attributes.push_str("}},");
    }

    /// Keeps the name for the field at hand, and returns whether no field had it.
    fn claim(&mut self, name: &'n str) -> bool {
        let is_free = !self.claimed.contains(&name);
        if is_free {
            self.claimed.push(name);
        }
        is_free
    }

    fn key(&mut self, name: &str) {
        for part in ["{\"key\":\"", name, "\",\"value\":{"] {
            self.attributes.push_str(part);
        }
    }

    /// Writes the record as an OTLP/JSON object. Missing ids are derived from `line`.
    pub(super) fn write(&self, config: &AccessLogsConfig, withheld: &Withheld, line: &[u8]) -> String {
        let AccessLogsConfig { r#as: form, service_name, .. } = config;
        let form = *form;
        let mut out = String::with_capacity(2 * self.attributes.len() + 512);
        out.push('{');
        if form != AccessLogForm::Logs {
            self.scope(&mut out, ["resourceSpans", "scopeSpans", "spans"], service_name);
            self.span(&mut out, withheld, line);
            out.push_str("}]}]}]");
        }
        if form == AccessLogForm::Both {
            out.push(',');
        }
        if form != AccessLogForm::Spans {
            self.scope(&mut out, ["resourceLogs", "scopeLogs", "logRecords"], service_name);
            self.log_record(&mut out, form, withheld, line);
            out.push_str("}]}]}]");
        }
        out.push('}');
        out
    }

    fn scope(&self, out: &mut String, [resource, scope, list]: [&str; 3], service_name: &str) {
        let service_name = quoted(service_name);
        write!(
            out,
            r#""{resource}":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":{service_name}}}}}]}},"{scope}":[{{"{list}":[{{"#
        )
        .expect("writing to a string never fails");
    }

    fn span(&self, out: &mut String, withheld: &Withheld, line: &[u8]) {
        let (trace_id, span_id) = self.ids(line);
        let start = self.time.unwrap_or_default();
        let end = match (self.duration.or_else(|| self.request_time(start)), self.end) {
            (Some(duration), _) => start.saturating_add(duration),
            (None, Some(end)) => end.max(start),
            (None, None) => start,
        };
        let method = self.method.as_deref().filter(|_| !withheld.contains("http.request.method"));
        let name = quoted(method.unwrap_or("HTTP"));
        write!(out, r#""traceId":"{trace_id}","spanId":"{span_id}","#)
            .expect("writing to a string never fails");
        if let Some((_, parent)) = &self.parent {
            write!(out, r#""parentSpanId":"{parent}","#).expect("writing to a string never fails");
        }
        write!(out, r#""name":{name},"kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}","#)
            .expect("writing to a string never fails");
        let status = self.status.filter(|_| !withheld.contains("http.response.status_code"));
        if let Some(status) = status.filter(|status| *status >= 500) {
            write!(out, r#""status":{{"code":2}},"attributes":[{{"key":"error.type","value":{{"stringValue":"{status}"}}}},"#)
                .expect("writing to a string never fails");
        } else {
            out.push_str("\"attributes\":[");
        }
        self.close_attributes(out);
    }

    /// Returns the duration that [`FieldRole::RequestTime`] gives. The times next to it are in seconds.
    fn request_time(&self, start: u64) -> Option<u64> {
        let in_micros = self.request_time?;
        let in_millis = in_micros.saturating_mul(1000);
        let is_right = |end: u64| in_millis.abs_diff(end.saturating_sub(start)) < SECOND;
        Some(if self.end.is_none_or(is_right) { in_millis } else { in_micros })
    }

    fn log_record(&self, out: &mut String, form: AccessLogForm, withheld: &Withheld, line: &[u8]) {
        if let Some(time) = self.time {
            write!(out, r#""timeUnixNano":"{time}","#).expect("writing to a string never fails");
        }
        match (form, &self.parent) {
            // With a span of its own, a record names only the trace: with the span's id it would become an event of the
            // span.
            (AccessLogForm::Both, _) => {
                let (trace_id, _) = self.ids(line);
                write!(out, r#""traceId":"{trace_id}","#).expect("writing to a string never fails");
            }
            (_, Some((trace_id, span_id))) => {
                write!(out, r#""traceId":"{trace_id}","spanId":"{span_id}","#)
                    .expect("writing to a string never fails");
            }
            (_, None) => {}
        }
        let status = self.status.map(|status| status.to_string());
        let words = [
            (self.method.as_deref(), "http.request.method"),
            (self.path.as_deref(), "url.path"),
            (status.as_deref(), "http.response.status_code"),
        ];
        let words = words.into_iter().filter(|(_, attribute)| !withheld.contains(attribute));
        let body: Vec<&str> = words.filter_map(|(word, _)| word).collect();
        if !body.is_empty() {
            let body = quoted(&body.join(" "));
            write!(out, r#""body":{{"stringValue":{body}}},"#).expect("writing to a string never fails");
        }
        out.push_str("\"attributes\":[");
        self.close_attributes(out);
    }

    fn close_attributes(&self, out: &mut String) {
        out.push_str(&self.attributes);
        if out.ends_with(',') {
            out.pop();
        }
        out.push(']');
    }

    /// Returns the trace id and span id of the line's span: the same for the same line.
    fn ids(&self, line: &[u8]) -> (String, String) {
        let digest = Sha256::digest(line);
        let hash = |range: std::ops::Range<usize>| {
            digest[range].iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("writing to a string never fails");
                hex
            })
        };
        match &self.parent {
            Some((trace_id, _)) => (trace_id.clone(), hash(16..24)),
            None => (hash(0..16), hash(16..24)),
        }
    }
}

/// Sets a value unless there is one already. Returns whether it was set.
fn set<T>(target: &mut Option<T>, value: Option<T>) -> bool {
    let is_new = target.is_none() && value.is_some();
    if is_new {
        *target = value;
    }
    is_new
}

/// Reads a `traceparent` header: trace id and span id, which must be valid.
fn traceparent(text: &str) -> Option<(String, String)> {
    let mut parts = text.trim().split('-');
    let (version, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |id: &str, digits: usize| {
        id.len() == digits
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0')
    };
    let is_valid = version.len() == 2 && version != "ff" && is_id(trace_id, 32) && is_id(span_id, 16);
    (is_valid && parts.next().is_some()).then(|| (trace_id.to_owned(), span_id.to_owned()))
}
