//! Endpoint URLs of the downstream.
//!
//! In: URLs as operators write them. Out: complete URLs of the three signals, without user names and passwords: URLs are
//! logged and header values are not, so `user:password@` becomes an `authorization` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Authority;

use crate::event::Signal;

/// A validated endpoint URL.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    /// `Basic …`, if the URL contained a user.
    pub(super) authorization: Option<String>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Parses a URL. The error does not repeat the URL, which may contain a password.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) =
            url.split_once("://").ok_or("has no scheme; write http://HOST:PORT or https://HOST:PORT")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err("must begin with http:// or https://; the relay speaks OTLP/HTTP");
        }
        if rest.contains('#') {
            return Err("has a fragment (#); remove it");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err("has no host");
        }
        let host: Authority = host.parse().map_err(|_| "has an invalid host")?;
        if has_bad_port(&host) {
            return Err("has a port that is not a number from 1 to 65535");
        }
        let authorization = match user {
            Some(user) => {
                Some(basic(user).ok_or("has a user name or password that is not percent-encoded UTF-8")?)
            }
            None => None,
        };
        let uri = Uri::builder()
            .scheme(scheme.to_ascii_lowercase().as_str())
            .authority(host)
            .path_and_query(if path.is_empty() { "/" } else { path })
            .build()
            .map_err(|_| "is not a valid URL")?;
        Ok(Self { uri, authorization })
    }

    /// Appends the path of a signal (`v1/traces` and so on) after exactly one slash.
    pub(super) fn join(&self, signal: Signal) -> Result<Self, &'static str> {
        if self.uri.query().is_some() {
            return Err(
                "has a query (?), so no signal path can be appended; use traces_endpoint, logs_endpoint and metrics_endpoint",
            );
        }
        let base = self.uri.path().trim_end_matches('/');
        let mut parts = self.uri.clone().into_parts();
        let path = format!("{base}/v1/{signal}").parse().map_err(|_| "is not a valid URL")?;
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| "is not a valid URL")?;
        Ok(Self { uri, authorization: self.authorization.clone() })
    }
}

/// Decodes `%XX` escapes. Returns `None` for an invalid escape or if the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// Encodes `user[:password]` of a URL as the value of an `authorization` header (RFC 7617).
fn basic(user: &str) -> Option<String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let credentials = format!("{}:{}", percent_decode(name)?, percent_decode(password)?);
    Some(format!("Basic {}", STANDARD.encode(credentials)))
}

/// Checks the port, because the `http` crate accepts any text after the host's colon.
fn has_bad_port(authority: &Authority) -> bool {
    let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    match after_host.strip_prefix(':') {
        None => !after_host.is_empty(),
        Some(port) => {
            !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().unwrap_or(0) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces_at(base: &str) -> String {
        Endpoint::parse(base).unwrap().join(Signal::Traces).unwrap().uri.to_string()
    }

    #[test]
    fn a_base_and_the_path_of_a_signal_are_joined_with_one_slash() {
        assert_eq!(traces_at("http://localhost:4318"), "http://localhost:4318/v1/traces");
        assert_eq!(traces_at("http://localhost:4318/"), "http://localhost:4318/v1/traces");
        assert_eq!(traces_at("http://h/otlp/"), "http://h/otlp/v1/traces");
        assert_eq!(traces_at("HTTPS://h/a/b"), "https://h/a/b/v1/traces");
        assert_eq!(traces_at("http://[::1]:4318"), "http://[::1]:4318/v1/traces");
    }

    #[test]
    fn a_signal_url_is_kept_unchanged() {
        let url = "https://ingest.example.com:8443/custom//path/?dataset=a%20b";
        assert_eq!(Endpoint::parse(url).unwrap().uri.to_string(), url);
    }

    #[test]
    fn a_user_in_the_url_becomes_a_header_and_is_removed_from_the_url() {
        let endpoint = Endpoint::parse("https://Aladdin:open%20sesame@h:1/x").unwrap();
        assert_eq!(endpoint.uri.to_string(), "https://h:1/x");
        assert_eq!(endpoint.authorization.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(endpoint.join(Signal::Logs).unwrap().authorization, endpoint.authorization);
    }

    #[test]
    fn rejects_urls_that_are_not_endpoints() {
        for url in [
            "",
            "localhost:4318",
            "grpc://h:4317",
            "http://",
            "http://:4318",
            "http:///v1/traces",
            "http://h:0",
            "http://h:99999",
            "http://h:x",
            "http://h o",
            "http://h/a b",
            "http://h/#x",
            "http://@",
            "http://[::1",
            "http://u%zz@h",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        assert!(Endpoint::parse("http://h/?a=b").unwrap().join(Signal::Traces).is_err());
    }

    #[test]
    fn percent_escapes_are_decoded_or_rejected() {
        assert_eq!(percent_decode("a%20b%3D+").as_deref(), Some("a b=+"));
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}
