//! OTLP/gRPC on both sides of a contestant: the connection of a sender, and the service of the sink.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::tally::Tally;

/// Path of the call that exports spans.
pub(crate) const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub(crate) const CONTENT_TYPE_VALUE: &str = "application/grpc";

const STATUS: &str = "grpc-status";
/// Length of the header of a message: a flag for compression, and four bytes of length.
const PREFIX_BYTES: usize = 5;
/// Status of a call that succeeded, in terms of HTTP.
const OK: u16 = 200;

/// A connection that is reopened when it breaks. It makes progress only during a call.
pub(crate) struct Connection {
    to: SocketAddr,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Returns a message with its header.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("it is shorter than 4 GiB");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Returns whether the peer starts with the preface of HTTP/2, without reading it.
pub(crate) async fn is_spoken(connection: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    let mut start = [0; PREFACE.len()];
    loop {
        let length = connection.peek(&mut start).await?;
        if length == 0 || start[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        tokio::task::yield_now().await;
    }
}

/// Serves a connection until it is closed. The response to a call precedes the check of its message.
pub(crate) async fn serve(connection: TcpStream, tally: Arc<Mutex<Tally>>) {
    let service = service_fn(move |request| respond(request, Arc::clone(&tally)));
    let serving =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service);
    // The contestant may have been killed.
    drop(serving.await);
}

async fn respond(
    request: Request<Incoming>,
    tally: Arc<Mutex<Tally>>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let now = Instant::now();
    tokio::spawn(async move {
        let message = body.get(PREFIX_BYTES..).unwrap_or_default();
        tally.lock().expect("nobody panicked with it").take(message, now);
    });
    let trailers = HeaderMap::from_iter([(STATUS.parse().expect("it is a name"), HeaderValue::from(0))]);
    let body = Full::new(Bytes::from(framed(&[]))).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_VALUE));
    Ok(response)
}

/// Returns the code of a call, which follows the message, or is in the headers if there is none.
async fn status(response: Response<Incoming>) -> Option<u16> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok()?;
    let code = parts.headers.get(STATUS).or_else(|| body.trailers()?.get(STATUS))?;
    code.to_str().ok()?.parse().ok()
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        Self { to, runtime, sender: None }
    }

    /// Sends a message with its header. Returns 200, or the code of gRPC.
    pub(crate) fn call(&mut self, framed: &[u8]) -> io::Result<u16> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.runtime.block_on(open(self.to))?,
        };
        let request = Request::post(format!("http://{}{METHOD}", self.to))
            .header(CONTENT_TYPE, CONTENT_TYPE_VALUE)
            .header("te", "trailers")
            .body(Full::new(Bytes::copy_from_slice(framed)))
            .expect("it is complete");
        let mut sender = sender;
        let code = self.runtime.block_on(async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            status(response).await.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        })?;
        self.sender = Some(sender);
        Ok(if code == 0 { OK } else { code })
    }
}

async fn open(to: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
