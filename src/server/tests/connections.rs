//! Connections: both versions of HTTP, idle connections, and shutdown.

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::config::LogFormat;

const SHORT: Duration = Duration::from_millis(30);

async fn h2_client(house: &House) -> http2::SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(house.addr).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn speaks_h2_without_tls() {
    let house = House::open(Script::default(), config()).await;
    let mut client = h2_client(&house).await;
    let body = Bytes::from(vec![b'x'; MIB]);
    let request = Request::post("http://relay/fastly").body(Full::new(body.clone())).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 204);
    assert_eq!(house.taken(), [("/fastly", body)]);
}

#[tokio::test]
async fn a_large_body_on_h2_gets_its_413_and_head_gets_no_body() {
    let house = House::open(Script::default(), config()).await;
    let mut client = h2_client(&house).await;
    let body = Full::new(Bytes::from(vec![b'x'; 4 * MIB]));
    let request = Request::post("http://relay/fastly").body(body).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(
        (response.status(), response.headers().get("connection")),
        (http::StatusCode::PAYLOAD_TOO_LARGE, None)
    );

    // A body of unknown length ends with a frame of HTTP/2.
    let request = Request::post("http://relay/fastly").body(Full::default()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 204);
    let request = Request::post("http://relay/fastly").header("host", "a").header("host", "b");
    let response = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), response.headers().get("connection")),
        (http::StatusCode::BAD_REQUEST, None)
    );

    let request = Request::head("http://relay/").body(Full::default()).unwrap();
    let mut response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test]
async fn a_connection_without_a_first_request_in_time_is_closed() {
    let house = House::open(Script::default(), ServerConfig { header_timeout: SHORT, ..config() }).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let beginnings: [&[u8]; 5] =
        [b"", b"PRI", b"POST /fastly HT", b"POST /fastly HTTP/1.1\r\nhost: relay\r\n", preface];
    for beginning in beginnings {
        let mut client = house.client().await;
        client.write(beginning).await;
        let mut rest = Vec::new();
        // On h2 the server's settings may arrive first; the test waits for the end.
        client.0.read_to_end(&mut rest).await.ok();
        assert!(!rest.starts_with(b"HTTP"), "{beginning:?}");
    }
}

#[tokio::test]
async fn the_headers_of_a_later_request_have_the_same_timeout() {
    let house = House::open(Script::default(), ServerConfig { header_timeout: SHORT, ..config() }).await;
    let mut client = house.client().await;
    client.write(post("/fastly", "{}")).await;
    assert_eq!(client.read().await.status, 204);
    client.write("POST /fastly HTTP/1.1\r\n").await;
    assert!(client.closes().await);
}

#[tokio::test]
async fn a_connection_that_the_client_ends_between_requests_is_closed() {
    let house = House::open(Script::default(), config()).await;
    let mut client = house.client().await;
    client.write(post("/fastly", "{}")).await;
    assert_eq!(client.read().await.status, 204);
    client.0.shutdown().await.unwrap();
    assert!(client.closes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_a_request_in_progress_and_closes_idle_connections() {
    let gate = Gate::default();
    let house = House::open(Script::waiting_at(&gate), config()).await;
    let fresh = house.client().await;
    let mut idle = house.client().await;
    idle.write(get("/")).await;
    assert_eq!(idle.read().await.status, 200);
    let mut idle_h2 = h2_client(&house).await;
    let index = Request::get("http://relay/").body(Full::default()).unwrap();
    assert_eq!(idle_h2.send_request(index).await.unwrap().status(), 200);
    let mut busy = house.client().await;
    busy.write(post("/fastly", "{}")).await;
    gate.entered.notified().await;

    house.shutdown.cancel();
    assert!(idle.closes().await);
    assert!(fresh.closes().await);
    assert!(!house.served.is_finished());
    gate.open.notify_one();
    // The response has `connection: close` only if the connection learned of the shutdown before it was written.
    assert_eq!(busy.read().await.status, 204);
    assert!(busy.closes().await);
    house.served.await.unwrap();
    assert!(TcpStream::connect(house.addr).await.is_err());
}

#[tokio::test]
async fn shutdown_reads_a_body_in_progress_to_its_end() {
    let house = House::open(Script::default(), config()).await;
    let mut client = house.client().await;
    // 100 Continue shows that the server has read the headers.
    client
        .write("POST /fastly HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status, 100);
    house.shutdown.cancel();
    client.write("{\n}\n").await;
    assert_eq!(client.read().await.status, 204);
    house.served.await.unwrap();
    assert_eq!(house.taken.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_grace_time_busy_connections_are_dropped() {
    let gate = Gate::default();
    let house = Setup { grace: SHORT, ..Setup::new(Script::waiting_at(&gate), config()) }.open().await;
    let mut busy = house.client().await;
    busy.write(post("/fastly", &large())).await;
    gate.entered.notified().await;
    house.shutdown.cancel();
    house.served.await.unwrap();
    assert!(busy.closes().await);
}

#[tokio::test]
async fn tls_to_a_plain_port_is_logged_once_with_the_key_for_it() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
    let house = House::open(Script::default(), config()).await;
    for _ in 0..3 {
        let mut client = house.client().await;
        // A record with a handshake in it, with the version of all first records.
        client.write(b"\x16\x03\x01\x00\x05hello").await;
        client.ends().await;
    }
    let mut client = house.client().await;
    client.write(b"\x17\x03\x01\x00\x05hello").await;
    client.ends().await;
    let text = captured.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("TLS handshake on a plain HTTP port") && text.contains("server.tls"), "{text}");
    assert!(text.contains(&house.addr.to_string()), "{text}");
}
