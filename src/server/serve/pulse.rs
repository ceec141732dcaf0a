//! The pulse of a connection: is it busy, is a request head on its way, or is it silent, and since when?
//!
//! In: bytes read, behind TLS where there is any ([`Watched`]), requests begun and done ([`Busy`]). Out: a [`Silence`] when it lasted too long.
//!
//! States of a connection:
//! - *fresh*: nothing was asked yet. Ends after `header_timeout`, for HTTP/1 and h2 alike.
//! - *busy*: requests are in progress, or unread bodies are drained. Both have bounds of their own.
//! - *idle*: between requests. Ends after `idle_timeout`.
//! - *head*: the first byte of the next request has come. Ends after `header_timeout`. HTTP/1 only: on h2 a ping
//!   between requests is no request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// The type of a TLS record that begins a handshake (RFC 8446, section 5.1). No request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// One connection's state, shared by its socket and its requests.
#[derive(Debug)]
pub(super) struct Pulse {
    header_timeout: Duration,
    idle_timeout: Duration,
    state: Mutex<State>,
}

/// As long as one of these lives the connection is busy.
#[derive(Debug)]
pub(crate) struct Busy {
    pulse: Arc<Pulse>,
}

/// A stream that tells the pulse when it read something.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

/// How a connection was silent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// No request came at all.
    Fresh,
    /// A request began and its head did not end.
    Head,
    /// No next request came.
    Idle,
}

#[derive(Debug)]
struct State {
    requests: usize,
    waiting_for: Silence,
    since: Instant,
    multiplexed: bool,
    /// Whether the first byte that came begins a TLS handshake; nothing before there was one.
    begins_with_tls: Option<bool>,
}

// === impl Pulse ===

impl Pulse {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let state = State {
            requests: 0,
            waiting_for: Silence::Fresh,
            since: Instant::now(),
            multiplexed: false,
            begins_with_tls: None,
        };
        Self { header_timeout, idle_timeout, state: Mutex::new(state) }
    }

    /// A request head is complete.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Arc<Busy> {
        let mut state = self.state();
        state.requests += 1;
        state.multiplexed |= version == Version::HTTP_2;
        Arc::new(Busy { pulse: Arc::clone(self) })
    }

    /// Waits until the connection has been silent for too long. To be polled after the connection itself: what that
    /// did moves the deadline.
    pub(super) async fn silence(&self) -> Silence {
        let mut alarm = std::pin::pin!(sleep_until(self.deadline().0));
        std::future::poll_fn(|cx| {
            loop {
                let (deadline, kind) = self.deadline();
                if deadline <= Instant::now() {
                    return Poll::Ready(kind);
                }
                // Most deadlines only move back; then the alarm rings early and is set again.
                if alarm.is_elapsed() || deadline < alarm.deadline() {
                    alarm.as_mut().reset(deadline);
                }
                ready!(alarm.as_mut().poll(cx));
            }
        })
        .await
    }

    /// The peer was told that the connection ends; it has as long to go as it had to say its first word.
    pub(super) fn said_goodbye(&self) {
        let mut state = self.state();
        state.waiting_for = Silence::Fresh;
        state.since = Instant::now();
    }

    /// When the connection must be silent no longer, and what it then was.
    fn deadline(&self) -> (Instant, Silence) {
        let state = self.state();
        let kind = state.waiting_for;
        if state.requests > 0 {
            return (Instant::now() + self.idle_timeout, kind);
        }
        let patience = match kind {
            Silence::Fresh | Silence::Head => self.header_timeout,
            Silence::Idle => self.idle_timeout,
        };
        (state.since + patience, kind)
    }

    /// Whether the other side began a TLS handshake where HTTP was expected.
    pub(super) fn begins_with_tls(&self) -> bool {
        self.state().begins_with_tls == Some(true)
    }

    /// Bytes were read, and this is the first of them.
    fn heard(&self, byte: u8) {
        let mut state = self.state();
        state.begins_with_tls.get_or_insert(byte == TLS_HANDSHAKE);
        if state.requests == 0 && state.waiting_for == Silence::Idle && !state.multiplexed {
            state.waiting_for = Silence::Head;
            state.since = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        state.requests -= 1;
        state.waiting_for = Silence::Idle;
        state.since = Instant::now();
    }
}

// === impl Silence ===

impl Silence {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "no request came",
            Self::Head => "a request head did not end",
            Self::Idle => "no further request came",
        }
    }
}

// === impl Watched ===

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
        Arc::new(Pulse::new(HEADER_TIMEOUT, IDLE_TIMEOUT))
    }

    async fn silence(pulse: &Arc<Pulse>) -> (Silence, Duration) {
        let started = Instant::now();
        (pulse.silence().await, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_has_the_header_timeout() {
        let pulse = pulse();
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Silence::Fresh, HEADER_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_a_connection_may_be_silent_for_longer() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_11));
        assert_eq!(silence(&pulse).await, (Silence::Idle, IDLE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_of_a_next_head_starts_the_header_timeout() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_11));
        pulse.heard(b'P');
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Silence::Head, HEADER_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_between_requests_of_h2_are_no_head() {
        let pulse = pulse();
        drop(pulse.begin(Version::HTTP_2));
        pulse.heard(b'P');
        assert_eq!(silence(&pulse).await, (Silence::Idle, IDLE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_never_silent() {
        let pulse = pulse();
        let first = pulse.begin(Version::HTTP_11);
        let second = pulse.begin(Version::HTTP_11);
        drop(first);
        let long = 10 * IDLE_TIMEOUT;
        assert!(tokio::time::timeout(long, pulse.silence()).await.is_err());
        drop(second);
        assert_eq!(silence(&pulse).await, (Silence::Idle, IDLE_TIMEOUT));
    }
}
