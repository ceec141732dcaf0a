//! Finds out whether a port that gets plain HTTP speaks TLS.
//!
//! A TLS port that gets plain HTTP answers with an alert, closes the connection, or sends a 400 in words of its own. The
//! first two look like an outage and the last one like bad data. A handshake tells: only a TLS port answers it with TLS.
//!
//! In: responses, and the question. Out: whether it speaks TLS now, and whether it was plain when a request began: between
//! the response and the handshake somebody may have corrected the port.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client;
use super::otlp_http::host_and_port;

/// Far longer than a round trip.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Content types of the records that a TLS server can begin with: alert and handshake (RFC 8446, section 5.1).
const FIRST_RECORDS: [u8; 2] = [21, 22];
/// First byte of the version in a record, the same in every version of TLS.
const MAJOR_VERSION: u8 = 3;
/// Ends the request, as a server for plain HTTP reads it, so that it does not wait for the rest.
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";

/// A port that plain HTTP is sent to.
pub(super) struct PlainPort {
    address: Uri,
    /// The first evidence that it is one for plain HTTP, since the last that it is one for TLS.
    plain_since: Mutex<Option<Instant>>,
}

// === impl PlainPort ===

impl PlainPort {
    pub(super) fn new(address: Uri) -> Self {
        Self { address, plain_since: Mutex::default() }
    }

    /// Notes that the port has accepted plain HTTP.
    pub(super) fn answered(&self) {
        self.plain_since().get_or_insert_with(Instant::now);
    }

    /// Reports whether the port was known to be one for plain HTTP at that time, and nothing has shown otherwise since.
    pub(super) fn was_plain(&self, at: Instant) -> bool {
        self.plain_since().is_some_and(|since| since <= at)
    }

    /// Asks the port for a TLS handshake, and reports whether it answers with one.
    pub(super) async fn speaks_tls(&self) -> bool {
        match timeout(MAX_WAIT, answers_handshake(&self.address)).await {
            Ok(Some(true)) => {
                *self.plain_since() = None;
                true
            }
            Ok(Some(false)) => {
                self.answered();
                false
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn plain_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.plain_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing when that cannot be said, such as for a port that nobody listens on.
async fn answers_handshake(address: &Uri) -> Option<bool> {
    let host = address.host()?.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut hello = Vec::new();
    let mut handshake = ClientConnection::new(Arc::new(client::tls_config(None).ok()?), name).ok()?;
    handshake.write_tls(&mut hello).ok()?;
    hello.extend_from_slice(END_OF_REQUEST);

    let mut stream = TcpStream::connect(host_and_port(address)).await.ok()?;
    stream.write_all(&hello).await.ok()?;
    let mut first = [0; 2];
    match stream.read_exact(&mut first).await {
        Ok(_) => Some(FIRST_RECORDS.contains(&first[0]) && first[1] == MAJOR_VERSION),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(false),
        Err(_) => None,
    }
}
