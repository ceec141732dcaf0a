//! `server`: the front door.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::declare::section;
use super::super::kind::{Count, CountOrAuto, File, Positive, Size};
use super::super::section::Section;

section! {
    /// `server`
    pub(crate) struct ServerConfig => check {
        /// IP address and port. 127.0.0.1 is this machine only; 0.0.0.0 is every IPv4 interface, `"[::]:3000"` IPv6 too.
        endpoint: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000));
        /// Maximum size of a request body, as sent and again after decompression. Fastly sends up to 100 MB at once.
        max_request_body_size: Size = 100 << 20;
        /// Maximum size of an OTLP/gRPC message, as sent and again after decompression. Collectors and gRPC libraries have the same default.
        max_grpc_message_size: Size = 4 << 20;
        /// Maximum size of one unit (an OTLP object, on one line or several); at most `max_request_body_size`.
        max_line_size: Size = 1 << 20;
        /// Maximum number of concurrent requests with a body. More are rejected with 503 before their bodies are read.
        /// Webhooks can use at most half of it: anyone can send them, because their signature covers the body.
        max_concurrent_requests: Count = 1024;
        /// Maximum number of open connections. `auto`: what the limit on open files allows, less a reserve for the telemetry
        /// endpoint, the exporter and the queue; at most 8192. Beyond it the longest idle connection is closed for the new one.
        max_connections: CountOrAuto = None;
        /// Maximum size of all request bodies together that are being read, decoded or processed, or queued in memory. More are
        /// rejected with 503 and `Retry-After`. At least twice `max_request_body_size`, because a body is in memory as sent and
        /// decompressed at the same time. Webhooks can use at most half of it. The whole process takes up to four times as much.
        max_inflight_bytes: Size = 256 << 20;
        /// Timeout for the headers of a request.
        header_timeout: Positive = Duration::from_secs(10);
        /// Timeout for the whole body.
        body_timeout: Positive = Duration::from_secs(60);
        /// Timeout from the last byte of the body to the response. CircleCI's own timeout is 10 s.
        request_timeout: Positive = Duration::from_secs(9);
        /// HTTPS and HTTP/2. Without `tls` the relay serves plain HTTP, for use behind a proxy that terminates TLS. The files
        /// are PEM and are reloaded when they change. Fastly requires the host name in the certificate's subject alternative
        /// names.
        tls: Option<TlsServerConfig>;
    }
}

section! {
    /// `server.tls`
    pub(crate) struct TlsServerConfig => check_tls {
        /// Certificate of the relay, with its intermediates.
        cert_file: File, required("/etc/spanrelay/server.pem");
        /// Private key of the certificate.
        key_file: File, required("/etc/spanrelay/server.key");
        /// Authorities for client certificates. If set, clients must present a certificate of one of them, such as Fastly's
        /// `tls_client_cert`. CircleCI cannot present one.
        client_ca_file: Option<File>, sample("/etc/spanrelay/client-ca.pem");
    }
}

fn check(server: &mut ServerConfig, section: &Section<'_>) {
    if server.max_line_size > server.max_request_body_size {
        let what = "must be at most server.max_request_body_size: a line cannot be longer than a body";
        section.problem_at("max_line_size", what);
    }
    if server.max_inflight_bytes / 2 < server.max_request_body_size {
        let what = "must be at least twice server.max_request_body_size: a body is in memory as sent and decompressed at the same time";
        section.problem_at("max_inflight_bytes", what);
    }
}

fn check_tls(_: &mut TlsServerConfig, section: &Section<'_>) {
    if section.is_unset("cert_file") || section.is_unset("key_file") {
        section.missing("needs cert_file and key_file, the paths of two PEM files");
    }
}
