//! A sender that keeps its connection, as Fastly and CircleCI do, and that outlives the relay.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Ask, Reply, in_time};

/// One connection, for sequential requests.
pub(crate) struct Sender {
    requests: SendRequest<Full<Bytes>>,
    conversation: JoinHandle<()>,
}

// === impl Sender ===

impl Sender {
    /// Connects; `None` when nothing listens.
    pub(crate) async fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let conversation = tokio::spawn(async {
            // The relay may be killed at any moment.
            connection.await.ok();
        });
        Some(Self { requests, conversation })
    }

    /// Sends a request; `None` when the connection ended before the complete response: the sender does not know the
    /// outcome then.
    pub(crate) async fn send(&mut self, ask: Ask) -> Option<Reply> {
        in_time("an answer, or the end of the connection", self.exchange(ask)).await
    }

    async fn exchange(&mut self, ask: Ask) -> Option<Reply> {
        self.requests.ready().await.ok()?;
        let (head, body) = self.requests.send_request(ask.into_request()).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.conversation.abort();
    }
}
