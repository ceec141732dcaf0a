//! Activity tracking of a connection, for its idle and header timeouts.
//!
//! In: bytes read, after decryption ([`Observed`]), and the start and end of requests ([`Busy`]). Out: an [`Expired`] when
//! a timeout expires, or when the connection must give way to a new one ([`IdleConnections`]).
//!
//! States of a connection:
//! - *fresh*: before the first request. Ends after `header_timeout`, for HTTP/1 and h2 alike.
//! - *busy*: requests are in progress, or unread bodies are drained. Both have bounds of their own.
//! - *idle*: between requests. Ends after `idle_timeout`.
//! - *head*: the first byte of the next request has arrived. Ends after `header_timeout`. HTTP/1 only: an h2 ping
//!   between requests is not a request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::idle::IdleConnections;

/// First byte of a TLS handshake record (RFC 8446, section 5.1). No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// State of one connection, shared by its socket and its requests.
#[derive(Debug)]
pub(super) struct Pulse {
    header_timeout: Duration,
    idle_timeout: Duration,
    state: Mutex<PulseState>,
    idle: Arc<IdleConnections>,
    /// Notified when the connection must be closed, unless a request has begun meanwhile.
    evict: Notify,
}

/// Guard that keeps the connection busy.
#[derive(Debug)]
pub(crate) struct Busy {
    pulse: Arc<Pulse>,
}

/// A stream that reports reads to the pulse.
#[derive(Debug)]
pub(super) struct Observed<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

/// Timeout of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// No request arrived at all.
    Fresh,
    /// The headers of a request did not complete.
    Head,
    /// No further request arrived.
    Idle,
}

#[derive(Debug)]
struct PulseState {
    requests: usize,
    /// Number of times that the connection became idle.
    idle_periods: u64,
    waiting_for: Expired,
    since: Instant,
    multiplexed: bool,
    /// `true` if the first byte starts a TLS handshake; `None` before it arrived.
    begins_with_tls: Option<bool>,
}

// === impl Pulse ===

impl Pulse {
    /// Creates the state of a new connection, which is idle until its first request.
    pub(super) fn new(
        header_timeout: Duration,
        idle_timeout: Duration,
        idle: &Arc<IdleConnections>,
    ) -> Arc<Self> {
        let state = PulseState {
            requests: 0,
            idle_periods: 0,
            waiting_for: Expired::Fresh,
            since: Instant::now(),
            multiplexed: false,
            begins_with_tls: None,
        };
        let (state, idle) = (Mutex::new(state), Arc::clone(idle));
        let pulse = Arc::new(Self { header_timeout, idle_timeout, state, idle, evict: Notify::new() });
        pulse.idle.add(&pulse, 0);
        pulse
    }

    /// Records that the headers of a request are complete.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Arc<Busy> {
        let mut state = self.state();
        state.requests += 1;
        state.multiplexed |= version == Version::HTTP_2;
        Arc::new(Busy { pulse: Arc::clone(self) })
    }

    /// Waits until a timeout expires. Must be polled after the connection itself, whose activity moves the deadline.
    pub(super) async fn silence(&self) -> Expired {
        let mut alarm = std::pin::pin!(sleep_until(self.deadline().0));
        std::future::poll_fn(|cx| {
            loop {
                let (deadline, kind) = self.deadline();
                if deadline <= Instant::now() {
                    return Poll::Ready(kind);
                }
                // Most deadlines only move later; the timer then fires early and is set again.
                if alarm.is_elapsed() || deadline < alarm.deadline() {
                    alarm.as_mut().reset(deadline);
                }
                ready!(alarm.as_mut().poll(cx));
            }
        })
        .await
    }

    /// Records that the peer was notified of the end of the connection, and restarts the first timeout.
    pub(super) fn said_goodbye(&self) {
        let mut state = self.state();
        state.waiting_for = Expired::Fresh;
        state.since = Instant::now();
    }

    /// Returns the next idle or header deadline, and which of the two it is.
    fn deadline(&self) -> (Instant, Expired) {
        let state = self.state();
        let kind = state.waiting_for;
        if state.requests > 0 {
            return (Instant::now() + self.idle_timeout, kind);
        }
        let timeout = match kind {
            Expired::Fresh | Expired::Head => self.header_timeout,
            Expired::Idle => self.idle_timeout,
        };
        (state.since + timeout, kind)
    }

    /// Asks the connection to close if it is still in this idle period. Returns `false` if it is not.
    pub(super) fn evict(&self, idle_period: u64) -> bool {
        let is_idle = self.is_idle_since(idle_period);
        if is_idle {
            self.evict.notify_one();
        }
        is_idle
    }

    /// Returns `true` if no request has begun since the start of this idle period.
    pub(super) fn is_idle_since(&self, idle_period: u64) -> bool {
        let state = self.state();
        state.requests == 0 && state.idle_periods == idle_period
    }

    /// Waits until the connection must close for a new one. Must be polled after the connection itself, so that it is idle
    /// when this completes.
    pub(super) async fn evicted(&self) {
        loop {
            self.evict.notified().await;
            if self.state().requests == 0 {
                return;
            }
            // A request was faster: another connection must go.
            self.idle.missed();
        }
    }

    /// Returns `true` if the peer started a TLS handshake where HTTP was expected.
    pub(super) fn begins_with_tls(&self) -> bool {
        self.state().begins_with_tls == Some(true)
    }

    /// Records that bytes were read; `byte` is the first of them.
    fn heard(&self, byte: u8) {
        let mut state = self.state();
        state.begins_with_tls.get_or_insert(byte == TLS_HANDSHAKE);
        if state.requests == 0 && state.waiting_for == Expired::Idle && !state.multiplexed {
            state.waiting_for = Expired::Head;
            state.since = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, PulseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.requests -= 1;
        state.waiting_for = Expired::Idle;
        state.since = Instant::now();
        if state.requests > 0 {
            return;
        }
        state.idle_periods += 1;
        let idle_period = state.idle_periods;
        drop(state);
        self.pulse.idle.add(&self.pulse, idle_period);
    }
}

// === impl Expired ===

impl Expired {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "no request came",
            Self::Head => "a request head did not end",
            Self::Idle => "no further request came",
        }
    }
}

// === impl Observed ===

impl<S> Observed<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if let Some(byte) = buffer.filled().get(before) {
            this.pulse.heard(*byte);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
    const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

    fn pulse() -> Arc<Pulse> {
        Pulse::new(HEADER_TIMEOUT, IDLE_TIMEOUT, &Arc::default())
    }

    async fn silence(pulse: &Arc<Pulse>) -> (Expired, Duration) {
        let started = Instant::now();
        (pulse.silence().await, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_has_the_header_timeout() {
        let pulse = pulse();
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Expired::Fresh, HEADER_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_a_connection_has_the_idle_timeout() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_11));
        assert_eq!(silence(&pulse).await, (Expired::Idle, IDLE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_of_the_next_request_starts_the_header_timeout() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_11));
        pulse.heard(b'P');
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Expired::Head, HEADER_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_between_h2_requests_do_not_start_the_header_timeout() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_2));
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Expired::Idle, IDLE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_has_no_timeout() {
        let pulse = pulse();
        let first = pulse.begin(Version::HTTP_11);
        let second = pulse.begin(Version::HTTP_11);
        drop(first);
        let long = 10 * IDLE_TIMEOUT;
        assert!(tokio::time::timeout(long, pulse.silence()).await.is_err());
        drop(second);
        assert_eq!(silence(&pulse).await, (Expired::Idle, IDLE_TIMEOUT));
    }
}
