//! Self-tracing span of a request: by the semantic conventions for HTTP servers, without text that the client chose. So
//! it has no query, and only known paths.

use http::{Request, StatusCode, Version};
use tower_http::request_id::RequestId;

use super::routes::{Route, without_trailing_slash};
use super::stack::method_name;
use crate::telemetry::traces::{OwnSpan, SelfTraces};

/// Begins the span of a request. `scheme` is `http` or `https`.
pub(super) fn begin<B>(
    traces: &SelfTraces,
    route: Route,
    request: &Request<B>,
    scheme: &'static str,
) -> OwnSpan {
    if !traces.is_on() {
        return OwnSpan::Off;
    }
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    let method = match method_name(request.method()) {
        "other" => "_OTHER",
        known => known,
    };
    let path = without_trailing_slash(request.uri().path());
    let (template, path) = match route {
        Route::Index => (Some("/"), Some("/")),
        // The rest of the path is chosen by the client.
        Route::Page(page) if page.is_shell => (Some(page.template), None),
        Route::Page(page) => (Some(page.template), Some(page.template)),
        // The path is the receiver's own, or `/`; otherwise it would not have been routed here.
        Route::Receiver(..) => (Some(path), Some(path)),
        Route::Unknown => (None, None),
    };
    let span = traces.request(id, request.headers(), || {
        let verb = if method == "_OTHER" { "HTTP" } else { method };
        template.map_or_else(|| verb.to_owned(), |template| format!("{verb} {template}"))
    });
    if span.is_recorded() {
        span.text("http.request.method", method);
        span.text("url.scheme", scheme);
        if let Some(template) = template {
            span.text("http.route", template);
        }
        if let Some(path) = path {
            span.text("url.path", path);
        }
        if let Some(version) = protocol_version(request.version()) {
            span.text("network.protocol.version", version);
        }
    }
    span
}

/// Ends the span with the status of the response.
pub(super) fn answered(span: &OwnSpan, status: StatusCode) {
    span.number("http.response.status_code", status.as_u16());
    // Client errors are not errors of the server.
    if status.is_server_error() && span.is_recorded() {
        span.failed(status.as_str(), "");
    }
    span.end();
}

fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}
