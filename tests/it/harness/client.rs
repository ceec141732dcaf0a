//! A client: single requests on their own connections, or raw bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::in_time;

/// A request to send.
pub(crate) struct Ask(Request<Full<Bytes>>);

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection for raw bytes.
pub(crate) struct Connection(TcpStream);

/// Returns the value of `circleci-signature` for a body.
pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let signed = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    let hex: String = signed.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

// === impl Ask ===

impl Ask {
    pub(crate) fn new(method: &str, path: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        // hyper omits it for an empty body, so that the presence of a body is undeclared.
        let length = (!matches!(method, "GET" | "HEAD")).then(|| body.len().to_string());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        let ask = Self(request).with("host", "relay.test");
        match length {
            Some(length) => ask.with("content-length", &length),
            None => ask,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, "")
    }

    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", path, body)
    }

    /// Creates a webhook with a signature as CircleCI makes it.
    pub(crate) fn webhook(body: &str) -> Self {
        let signature = sign(super::SECRET, body.as_bytes());
        Self::post("/circleci", body.to_owned()).with("circleci-signature", &signature)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    pub(super) fn into_request(self) -> Request<Full<Bytes>> {
        self.0
    }

    pub(crate) async fn to(self, address: SocketAddr) -> Reply {
        in_time("an answer", self.exchange(address)).await
    }

    async fn exchange(self, address: SocketAddr) -> Reply {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let conversation = tokio::spawn(connection);
        let response = sender.send_request(self.0).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        conversation.abort();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the reason in an error body, which must be JSON.
    pub(crate) fn reason(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let reason = self.json()["reason"].as_str().map(str::to_owned);
        reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| panic!("no reason: {self:?}"))
    }

    /// Returns the seconds of the Retry-After header.
    pub(crate) fn retry_after(&self) -> u64 {
        self.header("retry-after").unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Shuts down writing; responses can still be read.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Reads the next response, whose length must be declared.
    pub(crate) async fn read(&mut self) -> Reply {
        in_time("an answer", self.read_one()).await
    }

    async fn read_one(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a response and not the end of the connection"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse::<StatusCode>().unwrap();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers: HeaderMap =
            fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let length =
            headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Reply { status: status.as_u16(), headers, body: body.into() }
    }

    /// Waits until the peer closes the connection; a reset counts, too.
    pub(crate) async fn closes(mut self) {
        let mut rest = Vec::new();
        let ended = in_time("the end of the connection", self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_err() || rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
