//! Detects whether a port that receives plain HTTP speaks TLS.
//!
//! A TLS port that receives plain HTTP sends an alert, closes the connection, or sends a 400 with a message of its own. The
//! first two look like an outage, the last one like bad data. A handshake decides: only a TLS port responds to it with TLS.
//!
//! In: responses, and queries. Out: whether the port speaks TLS now, and whether it was plain when a request began: the port
//! may have been corrected between the response and the handshake.

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

/// Timeout of the handshake, far longer than a round trip.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Content types of the records that a TLS server can begin with: alert and handshake (RFC 8446, section 5.1).
const FIRST_RECORDS: [u8; 2] = [21, 22];
/// First byte of the version in a record, the same in every version of TLS.
const MAJOR_VERSION: u8 = 3;
/// Ends the handshake as a request for a plain HTTP server, so that it does not wait for more.
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";

/// Port that receives plain HTTP.
pub(super) struct PlainPort {
    address: Uri,
    /// Time of the first evidence of plain HTTP since the last evidence of TLS.
    plain_since: Mutex<Option<Instant>>,
}

// === impl PlainPort ===

impl PlainPort {
    pub(super) fn new(address: Uri) -> Self {
        Self { address, plain_since: Mutex::default() }
    }

    /// Records that the port has accepted plain HTTP.
    pub(super) fn accepted_plain_http(&self) {
        self.plain_since().get_or_insert_with(Instant::now);
    }

    /// Reports whether the port was known to speak plain HTTP at that time, without evidence of TLS since.
    pub(super) fn was_plain(&self, at: Instant) -> bool {
        self.plain_since().is_some_and(|since| since <= at)
    }

    /// Begins a TLS handshake, and reports whether the port responds with one.
    pub(super) async fn speaks_tls(&self) -> bool {
        match timeout(MAX_WAIT, responds_to_handshake(&self.address)).await {
            Ok(Some(true)) => {
                *self.plain_since() = None;
                true
            }
            Ok(Some(false)) => {
                self.accepted_plain_http();
                false
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn plain_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.plain_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports whether the port responds to a TLS handshake; `None` if unknown, for example if the connection is refused.
async fn responds_to_handshake(address: &Uri) -> Option<bool> {
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
