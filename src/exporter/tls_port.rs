//! Asks a port whether it speaks TLS.
//!
//! A TLS port that gets plain HTTP answers with an alert, closes the connection, or sends a 400 in words of its own. The
//! first two look like an outage and the last one like bad data. A handshake tells: only a TLS port answers it with TLS.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client;
use super::otlp_http::host_and_port;

/// Longer than a round trip. A server that speaks something else may wait for the rest of a request.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Content types of the records that a TLS server can begin with: alert and handshake (RFC 8446, section 5.1).
const FIRST_RECORDS: [u8; 2] = [21, 22];
/// First byte of the version in a record, the same in every version of TLS.
const MAJOR_VERSION: u8 = 3;

/// Reports whether the port of a plain HTTP address answers a TLS handshake.
pub(super) async fn speaks_tls(address: &Uri) -> bool {
    match timeout(MAX_WAIT, first_bytes(address)).await {
        Ok(Some([record, version])) => FIRST_RECORDS.contains(&record) && version == MAJOR_VERSION,
        _ => false,
    }
}

/// The beginning of the answer to a handshake.
async fn first_bytes(address: &Uri) -> Option<[u8; 2]> {
    let host = address.host()?.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut hello = Vec::new();
    let mut handshake = ClientConnection::new(Arc::new(client::tls_config(None).ok()?), name).ok()?;
    handshake.write_tls(&mut hello).ok()?;

    let mut stream = TcpStream::connect(host_and_port(address)).await.ok()?;
    stream.write_all(&hello).await.ok()?;
    let mut first = [0; 2];
    stream.read_exact(&mut first).await.ok()?;
    Some(first)
}
