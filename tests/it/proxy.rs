//! The proxies of the environment, between the relay and its downstream.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::harness::{Ask, Child, Collector, Ended, in_time, names, span, spanrelay};

/// A name that only the proxy could resolve.
const ENDPOINT: &str = "exporters.otlp_http.endpoint=http://collector.invalid:4318";

#[tokio::test]
async fn exports_to_http_go_to_the_proxy_with_its_credentials_and_the_whole_url() {
    let proxy = Collector::start([]).await;
    let url = proxy.url().replace("http://", "http://user:proxy-password@");
    let child = Child::deployed(&[("HTTP_PROXY", &url)], &["--set", ENDPOINT]).await;
    assert_eq!(child.ask(Ask::post("/fastly", span(1, "a"))).await.status, 204);
    let request = proxy.take(1).await.remove(0);
    assert_eq!((names(&request), request.header("host")), (vec!["a".to_owned()], "collector.invalid:4318"));
    assert_eq!(request.header("proxy-authorization"), "Basic dXNlcjpwcm94eS1wYXNzd29yZA==");
    assert!(!child.log().contains("proxy-password"), "{}", child.log());
    proxy.finish();
}

#[tokio::test]
async fn exports_to_https_go_through_a_tunnel() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:pass@{}", proxy.local_addr().unwrap());
    let set = ENDPOINT.replace("http://", "https://");
    let mut command = spanrelay(&["validate", "--connect", "--set", &set]);
    let validated = tokio::spawn(async move { Ended::of(command.env("https_proxy", url)).await });

    let (mut connection, _) = in_time("a connection", proxy.accept()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time("a request", connection.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect collector.invalid:4318 http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{head}");
    connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let handshake = 0x16;
    assert_eq!(in_time("the first byte of TLS", connection.read_u8()).await.unwrap(), handshake);
    drop((connection, proxy));
    let ended = validated.await.unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(!ended.err.contains("pass"), "{}", ended.err);
}

#[tokio::test]
async fn no_proxy_and_this_machine_are_reached_directly_and_other_proxies_are_refused() {
    let collector = Collector::start([]).await;
    let endpoint = format!("exporters.otlp_http.endpoint={}", collector.url());
    // Nobody listens at the proxy's address.
    let mut command = spanrelay(&["validate", "--connect", "--set", &endpoint]);
    let ended = Ended::of(command.env("HTTP_PROXY", "http://127.0.0.1:9")).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    collector.take(3).await;
    collector.finish();

    let ended = Ended::of(spanrelay(&["validate"]).env("HTTPS_PROXY", "socks5://u:secret@p:1")).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("environment variable HTTPS_PROXY: only proxies with http://"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("secret"), "{}", ended.err);
}
