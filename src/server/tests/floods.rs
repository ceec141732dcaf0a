//! Requests and connections beyond the limits. HTTP/2 frames are written by hand, because no client library sends what
//! these clients do.

use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::server::serve::protocol::{
    H1_MAX_HEAD_BYTES, H1_MAX_HEADERS, H2_MAX_CONCURRENT_STREAMS, H2_MAX_ERROR_RESETS,
    H2_MAX_HEADER_LIST_BYTES, H2_MAX_PENDING_RESETS,
};

/// Frame types, RFC 9113 section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Flag of a ping that acknowledges another.
const ACK: u8 = 1;

/// Error codes, RFC 9113 section 7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A client that writes raw HTTP/2 frames.
struct Raw(Client);

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

// === impl Raw ===

impl Raw {
    async fn connect(house: &House) -> Self {
        let mut raw = Self(house.client().await);
        raw.0.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.0.write(frame(SETTINGS, 0, 0, b"")).await;
        raw
    }

    /// Writes frames; ignores errors, because the server may have closed the connection.
    async fn write(&mut self, frames: &[u8]) {
        self.0.0.write_all(frames).await.ok();
    }

    /// Reads up to the next frame of this kind.
    async fn read(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("a frame and not the end of the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads the next frame; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, _, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes(stream), payload })
    }

    /// Returns the error code with which the server ends the connection.
    async fn goodbye(&mut self) -> u32 {
        let goodbye = self.read(GOAWAY).await;
        // After the last processed stream id.
        u32::from_be_bytes(goodbye.payload[4..8].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the headers of a request with a body.
fn open(stream: u32) -> Vec<u8> {
    // POST and http from the static table, `:path` and `:authority` written out (RFC 7541).
    frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x04\x07/fastly\x01\x05relay")
}

/// Returns a complete request.
fn index(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x86\x84\x01\x05relay")
}

/// Returns an invalid request: without a path.
fn malformed(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x01\x05relay")
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// Returns the ids of streams that a client opens.
fn streams(count: usize) -> impl Iterator<Item = u32> {
    (1..).step_by(2).take(count)
}

fn roomy() -> ServerConfig {
    ServerConfig { max_concurrent_requests: 10_000, ..config() }
}

#[tokio::test]
async fn an_h2_connection_has_a_limit_of_streams_and_the_next_is_refused() {
    let house = House::open(Script::default(), roomy()).await;
    let mut raw = Raw::connect(&house).await;
    let most = H2_MAX_CONCURRENT_STREAMS as usize;
    raw.write(&streams(most + 1).flat_map(open).collect::<Vec<_>>()).await;
    let refused = raw.read(RST_STREAM).await;
    let last = streams(most + 1).last().unwrap();
    assert_eq!((refused.stream, refused.payload), (last, REFUSED_STREAM.to_be_bytes().to_vec()));
}

#[tokio::test]
async fn streams_reset_right_after_opening_close_the_connection() {
    let house = House::open(Script::default(), roomy()).await;
    let mut raw = Raw::connect(&house).await;
    let opened_and_reset = |stream| [open(stream), reset(stream)].concat();
    raw.write(&streams(20 * H2_MAX_PENDING_RESETS).flat_map(opened_and_reset).collect::<Vec<_>>()).await;
    assert_eq!(raw.goodbye().await, ENHANCE_YOUR_CALM);
    assert_eq!(house.ask(get("/")).await.status, 200);
}

#[tokio::test]
async fn too_many_invalid_streams_close_the_connection() {
    let house = House::open(Script::default(), roomy()).await;
    let mut raw = Raw::connect(&house).await;
    raw.write(&streams(H2_MAX_ERROR_RESETS).flat_map(malformed).collect::<Vec<_>>()).await;
    for stream in streams(H2_MAX_ERROR_RESETS) {
        assert_eq!(raw.read(RST_STREAM).await.stream, stream);
    }
    raw.write(&malformed(2 * u32::try_from(H2_MAX_ERROR_RESETS).unwrap() + 1)).await;
    assert_eq!(raw.goodbye().await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn an_endless_header_block_closes_the_connection() {
    let house = House::open(Script::default(), roomy()).await;
    let mut raw = Raw::connect(&house).await;
    // A header of 100 bytes, many times.
    let filler = [b"\x00\x01a\x64".as_slice(), &[b'x'; 100]].concat().repeat(100);
    raw.write(&frame(HEADERS, 0, 1, &filler)).await;
    for _ in 0..100 {
        raw.write(&frame(CONTINUATION, 0, 1, &filler)).await;
    }
    assert_eq!(raw.goodbye().await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_header_list_above_the_limit_on_h2_is_a_431() {
    let house = House::open(Script::default(), roomy()).await;
    let stream = TokioIo::new(TcpStream::connect(house.addr).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let ask = |bytes: usize| {
        let request = Request::get("http://relay/").header("x", "y".repeat(bytes));
        client.send_request(request.body(Full::<Bytes>::default()).unwrap())
    };
    let statuses = [H2_MAX_HEADER_LIST_BYTES as usize / 2, H2_MAX_HEADER_LIST_BYTES as usize].map(ask);
    let [within, beyond] = statuses.map(|answer| async { answer.await.unwrap().status().as_u16() });
    assert_eq!((within.await, beyond.await), (200, 431));
}

#[tokio::test]
async fn headers_above_the_limits_on_http_1_are_a_431() {
    let house = House::open(Script::default(), config()).await;
    let with_headers = |count: usize, bytes: usize| {
        // In addition to the host.
        let headers = (1..count).map(|n| format!("x{n}: {}\r\n", "y".repeat(bytes)));
        format!("GET / HTTP/1.1\r\nhost: relay\r\n{}\r\n", headers.collect::<String>())
    };
    let table = [
        (with_headers(H1_MAX_HEADERS, 1), 200),
        (with_headers(H1_MAX_HEADERS + 1, 1), 431),
        (with_headers(10, H1_MAX_HEAD_BYTES / 11), 200),
        (with_headers(10, H1_MAX_HEAD_BYTES / 9), 431),
    ];
    for (request, status) in table {
        assert_eq!(house.ask(&request).await.status, status, "{} bytes", request.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_until_another_ends() {
    let gate = Gate::default();
    let terms = Terms { max_connections: 2, ..Terms::plain(AGES, 8) };
    let house = Setup { terms, ..Setup::new(Script::waiting_at(&gate), config()) }.open().await;
    let mut first = house.client().await;
    first.write(post_with("/fastly", "connection: close\r\n", b"1")).await;
    gate.entered.notified().await;
    let mut second = house.client().await;
    second.write(post("/fastly", "2")).await;
    gate.entered.notified().await;
    let mut third = house.client().await;
    third.write(post("/fastly", "3")).await;
    assert_eq!(house.taken().len(), 2);

    gate.open.notify_one();
    assert_eq!(first.read().await.status, 204);
    gate.entered.notified().await;
    assert_eq!(house.taken()[2].1, "3");

    // A connection that becomes idle makes room, too.
    let mut fourth = house.client().await;
    fourth.write(post("/fastly", "4")).await;
    gate.open.notify_one();
    assert_eq!(second.read().await.status, 204);
    assert!(second.closes().await);
    gate.entered.notified().await;
    assert_eq!(house.taken()[3].1, "4");
    gate.open.notify_one();
    assert_eq!(third.read().await.status, 204);
    gate.open.notify_one();
    assert_eq!(fourth.read().await.status, 204);
}

async fn house_with_timeouts(header_timeout: Duration) -> House {
    let terms = Terms { idle_timeout: Duration::from_millis(30), ..Terms::plain(header_timeout, 8) };
    Setup { terms, ..Setup::new(Script::default(), config()) }.open().await
}

#[tokio::test]
async fn a_connection_that_is_idle_between_requests_is_closed() {
    let house = house_with_timeouts(AGES).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        client.write(get("/")).await;
        assert_eq!(client.read().await.status, 200);
    }
    assert!(client.closes().await);
}

#[tokio::test]
async fn an_idle_h2_connection_gets_goaway_and_is_closed_once_it_is_acknowledged() {
    let house = house_with_timeouts(AGES).await;
    let mut raw = Raw::connect(&house).await;
    raw.write(&index(1)).await;
    assert_eq!(raw.read(HEADERS).await.stream, 1);
    assert_eq!(raw.goodbye().await, NO_ERROR);
    // No request sent before the GOAWAY arrived is lost: the last stream id follows only after the ping is acknowledged.
    let ping = raw.read(PING).await;
    raw.write(&[index(3), frame(PING, ACK, 0, &ping.payload)].concat()).await;
    let (mut answered, mut last) = (0, Vec::new());
    while let Some(frame) = raw.next().await {
        match frame.kind {
            HEADERS => answered = frame.stream,
            GOAWAY => last = frame.payload[..4].to_vec(),
            _ => {}
        }
    }
    assert_eq!((answered, last), (3, 3u32.to_be_bytes().to_vec()));
}

#[tokio::test]
async fn an_idle_h2_connection_that_acknowledges_no_goaway_is_closed_anyway() {
    let house = house_with_timeouts(Duration::from_secs(1)).await;
    let mut raw = Raw::connect(&house).await;
    raw.write(&index(1)).await;
    assert_eq!(raw.goodbye().await, NO_ERROR);
    raw.0.ends().await;
}
