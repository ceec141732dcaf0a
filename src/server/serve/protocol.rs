//! What both versions of HTTP may do on one connection.
//!
//! Every bound is written down here, also where hyper or h2 would have one of the same size by themselves: what keeps
//! floods out must not change with a library.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

/// Of a request line with its headers in HTTP/1, which is answered with 431 beyond it. Also what is read at once of a
/// body.
pub(in super::super) const H1_MAX_HEAD_BYTES: usize = 64 * 1024;
/// 431 beyond it.
pub(in super::super) const H1_MAX_HEADERS: usize = 100;
/// Bytes in flight of one h2 request body. The protocol's 64 KiB would cost a round trip for each of them.
const H2_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes in flight of one h2 connection.
const H2_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// More are refused, for the sender to try again.
pub(in super::super) const H2_MAX_CONCURRENT_STREAMS: u32 = 128;
/// 431 beyond it; as the protocol counts, names and values and 32 bytes for each.
pub(in super::super) const H2_MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Streams that were reset before anyone looked at them (CVE-2023-44487). The connection ends beyond it.
pub(in super::super) const H2_MAX_PENDING_RESETS: usize = 20;
/// Streams that had to be reset for what they sent (CVE-2025-8671). The connection ends beyond it.
pub(in super::super) const H2_MAX_ERROR_RESETS: usize = 128;
/// Bytes of answers that wait for one peer to read them. Answers are small.
const H2_MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How often a silent h2 peer is pinged; one that went away would keep its connection open otherwise.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Settings for every connection of a server.
pub(super) fn protocol(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        // A body cut short by shutdown(SHUT_WR) still gets its 408.
        .half_close(true)
        .max_buf_size(H1_MAX_HEAD_BYTES)
        .max_headers(H1_MAX_HEADERS)
        // The pulse does it: hyper's clock also runs between requests, and a connection that is closed
        // the moment its sender uses it again loses a batch.
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
        // A peer that is stuck in the middle of a header block cannot answer a ping either.
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(header_timeout);
    protocol
}
