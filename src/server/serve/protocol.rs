//! Protocol limits of HTTP/1.1 and HTTP/2 connections.
//!
//! Every limit is set explicitly, even where it equals the default of hyper or h2: protection against floods must not
//! change with a library.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

/// Maximum size of an HTTP/1 request line and headers; 431 beyond it. Also the size of the read buffer for a body.
pub(in super::super) const H1_MAX_HEAD_BYTES: usize = 64 * 1024;
/// Maximum number of headers of an HTTP/1 request; 431 beyond it.
pub(in super::super) const H1_MAX_HEADERS: usize = 100;
/// Flow control window of an h2 stream. The protocol's default of 64 KiB would cost a round trip per 64 KiB.
const H2_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Flow control window of an h2 connection.
const H2_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Maximum number of concurrent streams of an h2 connection; the client may retry refused ones.
pub(in super::super) const H2_MAX_CONCURRENT_STREAMS: u32 = 128;
/// Maximum size of an h2 header list; 431 beyond it. As the protocol counts: names, values and 32 bytes for each.
pub(in super::super) const H2_MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Maximum number of streams reset before they were accepted (CVE-2023-44487); the connection is closed beyond it.
pub(in super::super) const H2_MAX_PENDING_RESETS: usize = 20;
/// Maximum number of streams reset because of invalid frames (CVE-2025-8671); the connection is closed beyond it.
pub(in super::super) const H2_MAX_ERROR_RESETS: usize = 128;
/// Maximum size of buffered responses per h2 connection. Responses are small.
const H2_MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Interval of pings on a silent h2 connection, to detect a peer that is gone.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Returns the settings for every connection of a server.
pub(super) fn protocol(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        // Lets a body cut short by shutdown(SHUT_WR) receive its 408.
        .half_close(true)
        .max_buf_size(H1_MAX_HEAD_BYTES)
        .max_headers(H1_MAX_HEADERS)
        // The pulse enforces it: hyper's timer also runs between requests, and closing a connection at
        // the moment its client reuses it loses a batch.
        .header_read_timeout(None);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(H2_MAX_CONCURRENT_STREAMS)
        .max_header_list_size(H2_MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(H2_MAX_PENDING_RESETS)
        .max_local_error_reset_streams(H2_MAX_ERROR_RESETS)
        .max_send_buf_size(H2_MAX_SEND_BUFFER_BYTES)
        // A peer that is stuck in the middle of a header block cannot respond to a ping either.
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(header_timeout);
    protocol
}
