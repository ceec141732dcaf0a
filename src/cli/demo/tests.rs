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
use crate::cli::check::{Source, relay_offline};
use crate::config::terminal::{Charset, Colour};

const TERMINAL: Terminal = Terminal { columns: 80, colour: Colour::None, charset: Charset::Unicode };

/// A stand-in for the relay: reads like it, sends at once, answers in its words. What it is sent for `silent` goes
/// nowhere.
async fn stand_in(collector: SocketAddr, silent: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move {
                Ok::<_, Infallible>(stand_in_answer(request, collector, silent).await)
            });
            let connection = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(
                async move { connection.serve_connection(TokioIo::new(stream), service).await.is_ok() },
            );
        }
    });
    address
}

async fn stand_in_answer(
    request: Request<Incoming>,
    collector: SocketAddr,
    silent: &str,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let source = match path.as_str() {
        stage::FASTLY_PATH => Source::Fastly,
        stage::CIRCLECI_PATH => Source::CircleCi,
        _ => return Response::new(Full::from("*\n")),
    };
    let body = crate::cli::http::read_bounded(request.into_body(), 1 << 20).await.unwrap();
    for outgoing in relay_offline(source, &body).outgoing.into_iter().filter(|_| path != silent) {
        let path = format!("/v1/{}", outgoing.signal);
        Client::new(collector).send(Method::POST, &path, &[], outgoing.json).await.unwrap();
    }
    let status = if source == Source::Fastly { 200 } else { 204 };
    Response::builder().status(status).body(Full::default()).unwrap()
}

async fn played(
    relay: SocketAddr,
    collector: &Collector,
    patience: Duration,
) -> (Result<(), DemoError>, String) {
    let mut out = Vec::new();
    let result = play(&Client::new(relay), collector, patience, &TERMINAL, &mut out).await;
    (result, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_play_goes_from_the_challenge_to_the_waterfalls() {
    let collector = Collector::start().await.unwrap();
    let relay = stand_in(collector.address(), "").await;
    let (result, told) = played(relay, &collector, PATIENCE).await;
    result.unwrap();
    for part in [
        "\n1. Fastly asks",
        "\n   200 *\n",
        "\n2. Fastly posts a batch of 6 lines\n",
        "\n3. CircleCI posts 5 webhooks",
        "\n   204 job-completed browser-tests: failed\n",
        "\n   204 workflow-completed build-and-test: failed\n",
        "\n4. The collector got 8 requests: 8 spans with 4 events\n",
        "\n└─ shield GET /checkout ",
        "\n      ◆ origin slow to answer  +82.1 ms  WARN  backend=shop_eu_1",
        "\n└─ ! job: browser-tests ",
        "\nWhat next\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

#[tokio::test]
async fn a_real_relay_plays_it_to_its_end() {
    let mut out = Vec::new();
    demonstrate(&TERMINAL, &mut out).await.unwrap();
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains(r#"{"accepted":5,"rejected":1,"errors":[{"line":6,"#), "{told}");
    assert!(told.contains("\n4. The collector got 8 requests: 8 spans with 4 events\n"), "{told}");
    assert!(told.contains("\nWhat next\n"), "{told}");
}

#[tokio::test]
async fn spans_that_do_not_arrive_are_named_and_fail_it() {
    let collector = Collector::start().await.unwrap();
    let relay = stand_in(collector.address(), stage::FASTLY_PATH).await;
    let (result, told) = played(relay, &collector, Duration::ZERO).await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.ends_with("span 0b2c9d1f4a6e8357, span 3f9a1c5e7b2d4860, span eee19b7ec3c1b174"),
        "{error}"
    );
    assert!(!told.contains("What next"), "{told}");
}

#[tokio::test]
async fn an_answer_that_is_not_due_ends_it_with_that_answer() {
    let collector = Collector::start().await.unwrap();
    let (result, _) = played(collector.address(), &collector, PATIENCE).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "the relay answered 404 Not Found to the challenge, where 200 OK was due: {}"
    );
}
