//! Every route, with its methods, statuses and bodies.

use super::*;
use crate::config::LogFormat;
use crate::event::RejectCode;
use crate::receiver::{Ignored, Rejected, Scope};

const CHALLENGE: &str = "/.well-known/fastly/logging/challenge";

#[tokio::test]
async fn the_challenge_responds_with_text_for_any_query() {
    let house = House::open(Script { asks_authorization: true, ..Script::default() }, config()).await;
    for path in [CHALLENGE, "/.well-known/fastly/logging/challenge?service_id=x"] {
        let seen = house.ask(get(path)).await;
        assert_eq!((seen.status, seen.body.as_str()), (200, "*\n"));
        assert_eq!(seen.header("content-type"), Some("text/plain"));
    }
}

#[tokio::test]
async fn head_gets_the_headers_of_get_and_no_body() {
    let house = House::open(Script::default(), config()).await;
    for (path, status) in [(CHALLENGE, 200), ("/traceparent/w/abc", 200), ("/none", 404)] {
        let of_get = house.ask(get(path)).await;
        let mut client = house.client().await;
        client.write(format!("HEAD {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n")).await;
        let seen = client.read_head().await;
        assert_eq!(seen.status, status, "{path}");
        assert_eq!(seen.header("content-length"), of_get.header("content-length"), "{path}");
        assert!(client.closes().await, "{path}");
    }
}

#[tokio::test]
async fn the_index_names_program_and_version_in_one_line() {
    let house = House::open(Script::default(), config()).await;
    let seen = house.ask(get("/?x=y")).await;
    assert_eq!((seen.status, seen.body), (200, format!("spanrelay {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn batches_are_accepted_by_post_and_put_and_webhooks_by_post() {
    let house = House::open(Script::default(), config()).await;
    for (method, path) in [("POST", "/fastly"), ("PUT", "/www"), ("POST", "/circleci?x")] {
        let seen = house.ask(request(method, path, "{}")).await;
        assert_eq!((seen.status, seen.body.as_str()), (204, ""), "{method} {path}");
    }
    let paths: Vec<_> = house.taken().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/fastly", "/www", "/circleci"]);
}

#[tokio::test]
async fn an_empty_body_is_accepted() {
    let house = House::open(Script::default(), config()).await;
    assert_eq!(house.ask(post("/fastly", "")).await.status, 204);
    let chunked = "POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(house.ask(chunked).await.status, 204);
}

#[tokio::test]
async fn a_body_of_undeclared_length_is_a_411_that_ends_the_connection() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let script = Script { asks_authorization: true, ..Script::default() };
    let house = House::open(script, config()).await;
    for (method, path) in [("POST", "/fastly"), ("PUT", "/fastly"), ("POST", "/"), ("POST", "/circleci")] {
        let mut client = house.client().await;
        // Following bytes are not a second request.
        let body = "POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 0\r\n\r\n";
        let head = format!("{method} {path} HTTP/1.1\r\nhost: relay\r\nauthorization: yes\r\n\r\n{body}");
        client.write(head).await;
        let seen = client.read().await;
        assert_eq!((seen.status, seen.header("connection")), (411, Some("close")), "{method} {path}");
        assert!(seen.reason().contains("Content-Length: 0"), "{seen:?}");
        assert!(client.closes().await);
    }
    assert_eq!(causes(&captured), ["length_required"; 4]);
    // Missing credentials take precedence, and a request without data needs no length.
    assert_eq!(house.ask("POST /fastly HTTP/1.1\r\nhost: relay\r\n\r\n").await.status, 401);
    assert_eq!(house.ask("POST /none HTTP/1.1\r\nhost: relay\r\n\r\n").await.status, 404);
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn a_request_that_does_not_name_one_host_is_a_400_on_every_route() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let house = House::open(Script::default(), config()).await;
    for hosts in ["", "host: relay\r\nhost: relay\r\n", "host: relay\r\nhost: other\r\n", "host: a, b\r\n"] {
        for request in ["POST /fastly", "POST /none", "GET /", "GET http://relay/"] {
            let seen = house.ask(format!("{request} HTTP/1.1\r\n{hosts}content-length: 0\r\n\r\n")).await;
            assert_eq!((seen.status, seen.header("connection")), (400, Some("close")), "{request} {hosts}");
            assert!(seen.reason().contains("Host"), "{seen:?}");
        }
        let seen = house.ask(format!("GET /traceparent/w/abc HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!((seen.status, seen.body.as_str()), (400, ""), "{hosts}");
    }
    assert!(causes(&captured).iter().all(|cause| cause == "malformed_head"));
    assert_eq!((house.counted(400, "fastly"), house.counted(400, "none")), (Some(4), Some(16)));
    assert!(house.taken().is_empty());

    assert_eq!(house.ask("GET / HTTP/1.0\r\n\r\n").await.status, 200);
    // RFC 9112, section 3.2.2: the host of the target takes precedence.
    assert_eq!(house.ask("GET http://other/ HTTP/1.1\r\nhost: relay\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn contradicting_lengths_are_a_400() {
    let house = House::open(Script::default(), config()).await;
    for lengths in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 2\r\n",
        "content-length: +2\r\n",
        "content-length: 2 2\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, identity\r\n",
    ] {
        let seen = house.ask(format!("POST /fastly HTTP/1.1\r\nhost: relay\r\n{lengths}\r\n{{}}")).await;
        assert_eq!(seen.status, 400, "{lengths}");
    }
    assert!(house.taken().is_empty());
    assert_eq!(house.counted(400, "none"), Some(6), "responses of hyper are counted, too");
}

#[tokio::test]
async fn every_response_is_counted_by_receiver_and_code() {
    let script = Script { asks_authorization: true, tokens: 3, ..Script::default() };
    let house = House::open(script, ServerConfig { max_request_body_size: 4, ..config() }).await;
    let authorized = "authorization: yes\r\n";
    for (request, code, receiver) in [
        (get("/").into_bytes(), 200, "none"),
        (get(CHALLENGE).into_bytes(), 200, "none"),
        (get("/traceparent/w/abc").into_bytes(), 200, "none"),
        (get("/traceparent/x/abc").into_bytes(), 400, "none"),
        (get("/none").into_bytes(), 404, "none"),
        (post("/none", "{}").into_bytes(), 404, "none"),
        (request("DELETE", "/", "").into_bytes(), 405, "none"),
        (get("/fastly").into_bytes(), 405, "fastly"),
        (post("/fastly", "{}").into_bytes(), 401, "fastly"),
        (post_with("/fastly", authorized, b"{}"), 204, "fastly"),
        (post_with("/", authorized, b"{}"), 204, "fastly"),
        (post_with("/www", authorized, b"large"), 413, "fastly/www"),
        (post_with("/www", authorized, b"{}"), 429, "fastly/www"),
        (b"\x00 no HTTP\r\n\r\n".to_vec(), 400, "none"),
    ] {
        let before = house.counted(code, receiver).unwrap_or_default();
        assert_eq!(house.ask(request).await.status, code);
        assert_eq!(house.counted(code, receiver), Some(before + 1), "{code} {receiver}");
    }
}

#[tokio::test]
async fn a_trailing_slash_is_tolerated_on_every_route() {
    let script = Script { receivers: "{fastly: {}, fastly/slash: {path: /slash/}}", ..Script::default() };
    let house = House::open(script, config()).await;
    assert_eq!(house.ask(get(&format!("{CHALLENGE}/"))).await.status, 200);
    assert_eq!(house.ask(get("/traceparent/w/abc/")).await.body, "export TRACEPARENT=abc\n");
    for path in ["/fastly", "/fastly/", "/fastly/?query", "/slash/"] {
        assert_eq!(house.ask(post(path, "{}")).await.status, 204, "{path}");
    }
    for path in ["/fastly//", "//", "//fastly", "/slash", "/slash//"] {
        assert_eq!(house.ask(post(path, "{}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn post_to_the_root_is_a_webhook_or_a_batch_by_its_headers() {
    let house = House::open(Script::default(), config()).await;
    for headers in ["circleci-signature: v1=00\r\n", "Circleci-Event-Type: ping\r\n", ""] {
        assert_eq!(house.ask(post_with("/", headers, b"{}")).await.status, 204);
    }
    let paths: Vec<_> = house.taken().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/circleci", "/circleci", "/fastly"]);
}

/// A relay with these receivers.
fn only(receivers: &'static str) -> Script {
    Script { receivers, ..Script::default() }
}

#[tokio::test]
async fn post_to_the_root_is_not_found_when_its_receiver_is_off() {
    let house = House::open(only("{circleci: {allow_unsigned: true}}"), config()).await;
    assert_eq!(house.ask(post("/", "{}")).await.status, 404);
    let house = House::open(only("{fastly: {}}"), config()).await;
    let webhook = post_with("/", "circleci-event-type: ping\r\n", b"{}");
    assert_eq!(house.ask(webhook).await.status, 404);
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn traceparent_is_the_line_or_a_status_without_a_body() {
    let house = House::open(Script::default(), config()).await;
    let seen = house.ask(get("/traceparent/w/abc?x")).await;
    assert_eq!((seen.status, seen.body.as_str()), (200, "export TRACEPARENT=abc\n"));
    assert_eq!(seen.header("content-type"), Some("text/plain"));

    let wrong = ["/traceparent/x/abc", "/traceparent/w", "/traceparent/", "/traceparent"];
    for request in wrong.map(get) {
        let seen = house.ask(request).await;
        assert_eq!((seen.status, seen.header("content-length")), (400, Some("0")), "{seen:?}");
    }
    let seen = house.ask(post("/traceparent/w/abc", "")).await;
    assert_eq!((seen.status, seen.body.as_str(), seen.header("allow")), (405, "", Some("get, head")));
}

#[tokio::test]
async fn a_page_below_another_has_its_own_paths_even_while_its_source_is_off() {
    const BELOW: Page = Page {
        path: "/traceparent/below",
        text: PageText::Shell(|_| Some("below\n".to_owned())),
        ..TRACEPARENT
    };
    for (is_on, below) in [(true, (200, "below\n")), (false, (404, ""))] {
        let pages = pages([(&TRACEPARENT, true), (&BELOW, is_on)]);
        let house = Setup { pages, ..Setup::new(Script::default(), config()) }.open().await;
        for path in ["/traceparent/below/1/2/3", "/traceparent/below/"] {
            let seen = house.ask(get(path)).await;
            let expected = if is_on && path.ends_with("below/") { (400, "") } else { below };
            assert_eq!((seen.status, seen.body.as_str()), expected, "{path}");
        }
        assert_eq!(house.ask(get("/traceparent/w/abc")).await.status, 200);
        assert_eq!(house.ask(get("/traceparent/belows/abc")).await.status, 400);
    }
}

#[tokio::test]
async fn traceparent_and_challenge_are_not_found_while_their_receivers_are_off() {
    let pages = pages([(&TRACEPARENT, false), (&PROOF, false)]);
    let house = Setup { pages, ..Setup::new(Script::default(), config()) }.open().await;
    let seen = house.ask(get("/traceparent/w/abc")).await;
    assert_eq!((seen.status, seen.body.as_str()), (404, ""));
    assert_eq!(house.ask(get(CHALLENGE)).await.status, 404);
}

#[tokio::test]
async fn wrong_methods_get_the_allowed_ones() {
    let house = House::open(Script::default(), config()).await;
    let table = [
        ("GET", "/fastly", "post, put"),
        ("PUT", "/circleci", "post"),
        ("DELETE", "/circleci", "post"),
        ("POST", CHALLENGE, "get, head"),
        ("PUT", "/", "get, head, post"),
        ("BREW", "/", "get, head, post"),
    ];
    for (method, path, allow) in table {
        let seen = house.ask(request(method, path, "")).await;
        assert_eq!((seen.status, seen.header("allow")), (405, Some(allow)), "{method} {path}");
        assert!(!seen.reason().is_empty());
    }
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let house = House::open(Script::default(), config()).await;
    for path in ["/none", "/fastly//", "/fastlyx", "/v1/traces", "/traceparents", "//"] {
        let seen = house.ask(post(path, "{}")).await;
        assert_eq!(seen.status, 404, "{path}");
        assert!(!seen.reason().is_empty());
    }
}

#[tokio::test]
async fn a_request_without_the_right_header_is_rejected_before_its_body_is_read() {
    let house = House::open(Script { asks_authorization: true, ..Script::default() }, config()).await;
    let mut client = house.client().await;
    client.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 10\r\n\r\n").await;
    let seen = client.read().await;
    assert_eq!((seen.status, seen.header("www-authenticate").is_some()), (401, true));
    assert_eq!(seen.reason(), "the header with the token is missing");
    assert_eq!(house.ask(post_with("/fastly", "authorization: yes\r\n", b"{}")).await.status, 204);
}

#[tokio::test]
async fn requests_beyond_the_rate_limit_get_retry_after_before_their_bodies_are_read() {
    let script = Script { asks_authorization: true, tokens: 1, ..Script::default() };
    let house = House::open(script, config()).await;
    // Rejected by its headers: this request takes no token.
    assert_eq!(house.ask(post("/fastly", "{}")).await.status, 401);
    let authorized = post_with("/fastly", "authorization: yes\r\n", b"{}");
    assert_eq!(house.ask(&authorized).await.status, 204);
    let mut client = house.client().await;
    client
        .write("POST /fastly HTTP/1.1\r\nhost: relay\r\nauthorization: yes\r\ncontent-length: 10\r\n\r\n")
        .await;
    let seen = client.read().await;
    assert_eq!((seen.status, seen.header("retry-after")), (429, Some("7")));
    assert_eq!(seen.reason(), "rate limit of this receiver exceeded; retry in 7 s");
    // Requests without a body are never limited.
    for path in [CHALLENGE, "/", "/traceparent/w/abc"] {
        assert_eq!(house.ask(get(path)).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_does_not_verify_is_rejected_before_it_is_decoded() {
    let house = House::open(Script::default(), config()).await;
    let seen = house.ask(post_with("/circleci", "content-encoding: zstd\r\n", b"forged")).await;
    assert_eq!((seen.status, seen.reason().as_str()), (401, "the signature is missing or wrong"));
    assert!(house.taken().is_empty());
}

fn rejected(lines: u32) -> Vec<Rejected> {
    let one = |line| Rejected {
        scope: Scope::Unit,
        line,
        column: 812,
        code: RejectCode::CutOff,
        at: 811,
        reason: "cut off".into(),
        input: Bytes::from("echo"),
        scrubbed: None,
    };
    (1..=lines).map(one).collect()
}

#[tokio::test]
async fn a_partly_usable_batch_gets_the_report() {
    let partial = || Reading { rejected: rejected(1), ..accepted(9) };
    let house = House::open(Script::reading(partial), config()).await;
    let seen = house.ask(post("/fastly", "{}")).await;
    let report = r#"{"accepted":9,"rejected":1,"errors":[{"line":1,"column":812,"reason":"cut off"}]}"#;
    assert_eq!((seen.status, seen.body.as_str()), (200, report));
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn an_unusable_batch_gets_the_report_of_its_first_lines_and_a_reason() {
    let house =
        House::open(Script::reading(|| Reading { rejected: rejected(25), ..Reading::default() }), config())
            .await;
    let seen = house.ask(post("/fastly", "{}")).await;
    assert_eq!((seen.status, seen.reason().as_str()), (400, "nothing in the body could be used: cut off"));
    let report: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!((&report["accepted"], &report["rejected"]), (&0.into(), &25.into()));
    assert_eq!(report["errors"].as_array().unwrap().len(), 20);
    assert!(!seen.body.contains("echo"));
}

#[tokio::test]
async fn an_ignored_webhook_is_a_202_with_the_reason() {
    let ignored = || Reading { ignored: Some(Ignored::UNKNOWN_EVENT_TYPE), ..Reading::default() };
    let house = House::open(Script::reading(ignored), config()).await;
    let seen = house.ask(post("/circleci", "{}")).await;
    assert_eq!((seen.status, seen.reason().as_str()), (202, "unknown event type"));
}

#[tokio::test]
async fn a_full_queue_and_a_request_too_large_for_it_have_their_statuses() {
    let script = Script { queue_bytes: 2, ..Script::reading(|| accepted(1)) };
    let house = House::open(script, config()).await;
    assert_eq!(house.ask(post("/fastly", "{}")).await.status, 204);
    let seen = house.ask(post("/fastly", "{}")).await;
    // Nothing leaves the queue.
    assert_eq!((seen.status, seen.header("retry-after")), (503, Some("60")));
    assert_eq!(seen.reason(), "the queue is full; retry the same request later");

    let seen = house.ask(post("/fastly", "{ }")).await;
    let reason = "the request is larger than the whole queue (queue.max_size)";
    assert_eq!((seen.status, seen.reason().as_str()), (413, reason));
}

#[tokio::test]
async fn every_response_has_an_id_that_the_client_did_not_choose() {
    let house = House::open(Script::default(), config()).await;
    let seen = house.ask(post_with("/fastly", "x-request-id: mine\r\n", b"{}")).await;
    assert!(seen.header("x-request-id").is_some_and(|id| id != "mine"), "{seen:?}");
}

#[tokio::test]
async fn a_panic_affects_one_request() {
    let panics = std::sync::atomic::AtomicBool::new(true);
    let once = move || {
        assert!(!panics.swap(false, std::sync::atomic::Ordering::SeqCst), "secret in a panic");
        Reading::default()
    };
    let house = House::open(Script::reading(once), config()).await;
    let mut client = house.client().await;
    client.write(post("/fastly", "{}")).await;
    let seen = client.read().await;
    assert_eq!((seen.status, seen.reason().contains("secret")), (500, false));
    client.write(post("/fastly", "{}")).await;
    assert_eq!(client.read().await.status, 204);
}

#[tokio::test]
async fn a_panic_sends_a_shell_no_body() {
    const BROKEN: Page = Page { text: PageText::Shell(|_| panic!("no line")), ..TRACEPARENT };
    let pages = pages([(&BROKEN, true)]);
    let house = Setup { pages, ..Setup::new(Script::default(), config()) }.open().await;
    let seen = house.ask(get("/traceparent/w/abc")).await;
    assert_eq!((seen.status, seen.header("content-length")), (500, Some("0")));
    assert_eq!(house.counted(500, "none"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_requests_the_next_is_shed_and_the_challenge_still_responds() {
    let gate = Gate::default();
    let house =
        House::open(Script::waiting_at(&gate), ServerConfig { max_concurrent_requests: 1, ..config() }).await;
    let mut first = house.client().await;
    first.write(post("/fastly", "{}")).await;
    gate.entered.notified().await;

    // None of its body has arrived, so that the server does not wait for it.
    let seen = house.ask("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 5\r\n\r\n").await;
    assert_eq!((seen.status, seen.header("retry-after")), (503, Some("2")));
    assert!(!seen.reason().is_empty());
    for path in [CHALLENGE, "/", "/traceparent/w/abc"] {
        assert_eq!(house.ask(get(path)).await.status, 200);
    }

    gate.open.notify_one();
    assert_eq!(first.read().await.status, 204);
    gate.open.notify_one();
    assert_eq!(house.ask(post("/fastly", "{}")).await.status, 204);
    assert_eq!(house.shed("fastly"), Some(1));
}

/// Sends headers without the body. 100 Continue shows that the request has its permit.
async fn hold_a_permit(house: &House, path: &str) -> Client {
    let mut client = house.client().await;
    let head = "host: relay\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    client.write(format!("POST {path} HTTP/1.1\r\n{head}")).await;
    assert_eq!(client.read_head().await.status, 100);
    client
}

#[tokio::test]
async fn slow_unsigned_webhooks_leave_half_of_the_permits_to_batches() {
    let house = House::open(Script::default(), ServerConfig { max_concurrent_requests: 4, ..config() }).await;
    let slow = [hold_a_permit(&house, "/circleci").await, hold_a_permit(&house, "/circleci").await];
    assert_eq!(house.ask(post("/circleci", "{}")).await.status, 503);
    let batch = hold_a_permit(&house, "/fastly").await;
    assert_eq!(house.ask(post("/fastly", "{}")).await.status, 204);
    assert_eq!(house.shed("circleci"), Some(1));
    assert_eq!(house.counted(503, "circleci"), Some(1));

    for mut client in slow.into_iter().chain([batch]) {
        client.write("{\n\n\n}").await;
        assert_eq!(client.read().await.status, 204);
    }
    assert_eq!(house.ask(post("/circleci", "{}")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_rejected_by_its_headers_takes_no_permit() {
    let gate = Gate::default();
    let script = Script { asks_authorization: true, ..Script::waiting_at(&gate) };
    let house = House::open(script, ServerConfig { max_concurrent_requests: 1, ..config() }).await;
    let mut first = house.client().await;
    first.write(post_with("/fastly", "authorization: yes\r\n", b"{}")).await;
    gate.entered.notified().await;
    assert_eq!(house.ask(post("/fastly", "{}")).await.status, 401, "not 503");
    assert_eq!(house.shed("fastly"), None);
    gate.open.notify_one();
    assert_eq!(first.read().await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_takes_too_long_is_a_503() {
    let short = ServerConfig { request_timeout: Duration::from_millis(20), ..config() };
    let gate = Gate::default();
    let house = House::open(Script::waiting_at(&gate), short).await;
    let seen = house.ask(post("/circleci", &large())).await;
    assert_eq!((seen.status, seen.header("retry-after")), (503, Some("2")));
    assert!(!seen.reason().is_empty());
}

#[tokio::test]
async fn the_log_shows_the_route_and_no_text_of_the_client() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let house = House::open(Script { asks_authorization: true, ..Script::default() }, config()).await;
    house.ask(post_with("/www?secret", "authorization: secret\r\nx-request-id: secret\r\n", b"secret")).await;
    house.ask(post_with("/circleci?secret", "authorization: yes\r\nsecret: secret\r\n", b"secret")).await;
    house.ask(get("/secret")).await;
    // It is logged before the last byte of the response is sent.
    let text = captured.text();
    assert!(!text.contains("secret"), "{text}");
    let answered: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["message"] == "answered")
        .collect();
    let table = [("fastly", 401), ("circleci", 204), ("unknown", 404)];
    assert_eq!(answered.len(), table.len());
    for (line, (route, status)) in answered.iter().zip(table) {
        let span = &line["span"];
        assert_eq!((&span["route"], &line["status"]), (&route.into(), &status.into()), "{line}");
        assert!(line["took_ms"].is_number() && span["request_id"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn an_unread_body_is_reported_with_its_cause_and_key() {
    let small = ServerConfig { max_request_body_size: 4, ..config() };
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let house = House::open(Script::default(), small).await;
    house.ask(post("/fastly", "large")).await;
    house.ask(post_with("/fastly", "content-encoding: zstd\r\n", b"{}")).await;
    house.ask(post_with("/fastly", "content-encoding: secret\r\n", b"{}")).await;
    house.ask(post("/secret", "{}")).await;
    let declined = declined(&captured);
    let told: Vec<_> =
        declined.iter().map(|line| (line["cause"].as_str().unwrap(), line["key"].as_str())).collect();
    assert_eq!(
        told,
        [
            ("too_large", Some("server.max_request_body_size")),
            ("corrupt_encoding", None),
            ("unknown_encoding", None),
            ("unknown_path", None),
        ]
    );
    assert_eq!(declined[0]["reason"], "the body is larger than 4 bytes");
    assert!(
        declined[1]["reason"].as_str().unwrap().starts_with("the body is not valid zstd"),
        "{declined:?}"
    );
    // The path is shown by the inspector only.
    assert!(!captured.text().contains("secret"), "{declined:?}");
}
