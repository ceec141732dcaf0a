use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use ::http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use super::*;
use crate::cli::check::offline::relay_offline;
use crate::config::terminal::{Charset, Colour};
use crate::receiver::{circleci, fastly};

const TERMINAL: Terminal = Terminal { columns: 80, colour: Colour::None, charset: Charset::Unicode };

/// Starts a stand-in for the relay, which reads like it, exports at once and responds like it. Requests to the path
/// `silent` are not exported.
async fn stand_in(collector: SocketAddr, silent: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move {
                Ok::<_, Infallible>(stand_in_response(request, collector, silent).await)
            });
            let connection = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(
                async move { connection.serve_connection(TokioIo::new(stream), service).await.is_ok() },
            );
        }
    });
    address
}

async fn stand_in_response(
    request: Request<Incoming>,
    collector: SocketAddr,
    silent: &str,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let source = match path.as_str() {
        relay::FASTLY_PATH => &fastly::SOURCE,
        relay::CIRCLECI_PATH => &circleci::SOURCE,
        _ => return Response::new(Full::from("*\n")),
    };
    let body = crate::cli::http::read_bounded(request.into_body(), 1 << 20).await.unwrap();
    for outgoing in relay_offline(source, &body).outgoing.into_iter().filter(|_| path != silent) {
        let path = format!("/v1/{}", outgoing.signal);
        Client::new(collector).send(Method::POST, &path, &[], outgoing.json).await.unwrap();
    }
    let status = if path == relay::FASTLY_PATH { 200 } else { 204 };
    Response::builder().status(status).body(Full::default()).unwrap()
}

async fn run(relay: SocketAddr, collector: &Collector, timeout: Duration) -> (Result<(), DemoError>, String) {
    let mut out = Vec::new();
    let result = run_script(&Client::new(relay), collector, timeout, &TERMINAL, &mut out).await;
    (result, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_script_runs_from_the_challenge_to_the_waterfalls() {
    let collector = Collector::start().await.unwrap();
    let relay = stand_in(collector.address(), "").await;
    let (result, text) = run(relay, &collector, ARRIVAL_TIMEOUT).await;
    result.unwrap();
    for part in [
        "\n1. Fastly verifies",
        "\n   200 *\n",
        "\n2. Fastly posts a batch of 6 lines\n",
        "\n3. CircleCI posts 5 webhooks",
        "\n   204 job-completed browser-tests: failed\n",
        "\n   204 workflow-completed build-and-test: failed\n",
        "\n4. The collector received 8 requests: 8 spans with 4 events\n",
        "\n└─ shield GET /checkout ",
        "\n      ◆ origin slow to answer  +82.1 ms  WARN  backend=shop_eu_1",
        "\n└─ ! job: browser-tests ",
        "\nNext steps\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[tokio::test]
async fn a_real_relay_completes_the_script() {
    let mut out = Vec::new();
    demonstrate(&TERMINAL, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(r#"{"accepted":5,"rejected":1,"errors":[{"line":6,"#), "{text}");
    assert!(text.contains("\n4. The collector received 8 requests: 8 spans with 4 events\n"), "{text}");
    assert!(text.contains("\nNext steps\n"), "{text}");
}

#[tokio::test]
async fn missing_spans_are_named_and_fail_the_demonstration() {
    let collector = Collector::start().await.unwrap();
    let relay = stand_in(collector.address(), relay::FASTLY_PATH).await;
    let (result, text) = run(relay, &collector, Duration::ZERO).await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.ends_with("span 0b2c9d1f4a6e8357, span 3f9a1c5e7b2d4860, span eee19b7ec3c1b174"),
        "{error}"
    );
    assert!(!text.contains("Next steps"), "{text}");
}

#[tokio::test]
async fn an_unexpected_response_ends_the_demonstration_and_is_shown() {
    let collector = Collector::start().await.unwrap();
    let (result, _) = run(collector.address(), &collector, ARRIVAL_TIMEOUT).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "the relay responded to the challenge with 404 Not Found instead of 200 OK: {}"
    );
}
