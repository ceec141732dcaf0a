//! The downstream: a server of HTTP/1.1 and gRPC that accepts everything, responds at once and checks what it received.
//!
//! In: OTLP requests on any path, as JSON or protobuf, gzip or not. Out: their [`Tally`]. Promises: the time of a request is that of its last byte,
//! and the response precedes the check.
//! One thread, and no library for HTTP/1.1, to leave the processor to the contestants.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::grpc;
use super::tally::Tally;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const READ_BYTES: usize = 256 * 1024;

/// Sink of one contestant.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
}

// === impl Sink ===

impl Sink {
    pub(crate) fn open() -> Self {
        let sink = Self::closed();
        sink.listen();
        sink
    }

    /// Returns a sink whose port refuses connections until it [listens](Self::listen).
    pub(crate) fn closed() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        Self { address, tally: Arc::new(Mutex::new(Tally::new())) }
    }

    pub(crate) fn listen(&self) {
        let listener = std::net::TcpListener::bind(self.address).expect("the port is still free");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let tally = Arc::clone(&self.tally);
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime can be built");
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the runtime takes it");
                while let Ok((connection, _)) = listener.accept().await {
                    connection.set_nodelay(true).expect("a socket can be without delay");
                    tokio::spawn(serve(connection, Arc::clone(&tally)));
                }
            });
        });
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("nobody panicked with it")
    }
}

/// Serves a connection of HTTP/1.1 or gRPC until it is closed.
async fn serve(connection: TcpStream, tally: Arc<Mutex<Tally>>) -> io::Result<()> {
    if grpc::is_spoken(&connection).await? {
        grpc::serve(connection, tally).await;
        return Ok(());
    }
    serve_http(connection, tally).await
}

/// Serves a connection of HTTP/1.1. Requests that are read together are responded to together.
async fn serve_http(mut connection: TcpStream, tally: Arc<Mutex<Tally>>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut bodies = Vec::new();
    let mut answers = Vec::new();
    loop {
        buffer.reserve(READ_BYTES);
        if connection.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let now = Instant::now();
        while let Some(body) = next_body(&mut buffer) {
            bodies.push(body);
            answers.extend_from_slice(ANSWER);
        }
        if bodies.is_empty() {
            continue;
        }
        connection.write_all(&answers).await?;
        answers.clear();
        let mut tally = tally.lock().expect("nobody panicked with it");
        for body in bodies.drain(..) {
            tally.take(&inflated(body), now);
        }
    }
}

/// Returns the body of the first request, if it is complete.
fn next_body(buffer: &mut BytesMut) -> Option<Bytes> {
    let head = memmem::find(buffer, b"\r\n\r\n")? + 4;
    let length = content_length(&buffer[..head]).expect("every request says how long it is");
    if buffer.len() < head + length {
        return None;
    }
    let mut request = buffer.split_to(head + length).freeze();
    Some(request.split_off(head))
}

/// Returns the content of a body that may be gzip. Neither JSON nor protobuf of OTLP begins like it.
fn inflated(body: Bytes) -> Bytes {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return body;
    }
    let mut content = Vec::new();
    MultiGzDecoder::new(&body[..]).read_to_end(&mut content).expect("the contestant compresses with gzip");
    content.into()
}

pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}
