//! The bound on connections: which of them is closed for a new one.

use super::*;
use crate::config::LogFormat;

const BOUND: usize = 4;

async fn bounded_house() -> House {
    let terms = Terms::plain(AGES, BOUND);
    Setup { terms, ..Setup::new(Script::default(), config()) }.open().await
}

async fn served(client: &mut Client) {
    client.write(get("/")).await;
    assert_eq!(client.read().await.status, 200);
}

/// The naive model is a list of the open connections: one that is served moves to the end, and a new one pushes out the first.
#[tokio::test]
async fn at_the_bound_the_longest_idle_connection_is_closed_and_the_new_one_served() {
    let house = bounded_house().await;
    let mut open: Vec<Client> = Vec::new();
    // A linear congruential generator: the same steps in every run.
    let mut state = 7_usize;
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = state >> 33;
        if !choice.is_multiple_of(3) && !open.is_empty() {
            let mut again = open.remove((choice / 3) % open.len());
            served(&mut again).await;
            open.push(again);
            continue;
        }
        let mut new = house.client().await;
        served(&mut new).await;
        open.push(new);
        if open.len() > BOUND {
            assert!(open.remove(0).closes().await);
        }
    }
    for mut client in open {
        served(&mut client).await;
    }
}

#[tokio::test]
async fn connections_that_never_send_a_request_give_way() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
    let house = bounded_house().await;
    let mut silent = Vec::new();
    for beginning in [b"".as_slice(), b"PRI", b"POST /fastly HT", b"\x16\x03\x01", b"", b"", b"", b"GET"] {
        let mut client = house.client().await;
        client.write(beginning).await;
        silent.push(client);
    }
    assert_eq!(house.ask(get("/.well-known/fastly/logging/challenge")).await.body, "*\n");
    let text = captured.text();
    assert_eq!(text.matches("connection limit reached").count(), 1, "{text}");
    assert!(text.contains("max_connections=4"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_request_in_progress_is_never_closed() {
    let gate = Gate::default();
    let terms = Terms::plain(AGES, BOUND);
    let house = Setup { terms, ..Setup::new(Script::waiting_at(&gate), config()) }.open().await;
    let mut busy = house.client().await;
    busy.write(post("/fastly", "{}")).await;
    gate.entered.notified().await;
    // Its body is incomplete.
    let mut sending = house.client().await;
    let expecting =
        "POST /fastly HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    sending.write(expecting).await;
    assert_eq!(sending.read_head().await.status, 100);
    for _ in 0..3 * BOUND {
        assert_eq!(house.ask(get("/")).await.status, 200);
    }
    sending.write("{}").await;
    gate.entered.notified().await;
    gate.open.notify_one();
    gate.open.notify_one();
    assert_eq!((busy.read().await.status, sending.read().await.status), (204, 204));
}

// --- bytes of all bodies ---

/// Sends bodies of one MiB until so many of them wait in the relay.
async fn filled(house: &House, gate: &Gate, path: &str, bodies: usize) -> Vec<Client> {
    let mut waiting = Vec::new();
    for _ in 0..bodies {
        let mut client = house.client().await;
        client.write(post_with(path, "", &vec![b'x'; MIB])).await;
        gate.entered.notified().await;
        waiting.push(client);
    }
    waiting
}

async fn answered(gate: &Gate, waiting: Vec<Client>) {
    for mut client in waiting {
        gate.open.notify_one();
        assert_eq!(client.read().await.status, 204);
    }
}

#[tokio::test]
async fn beyond_max_inflight_bytes_bodies_get_a_503_and_small_requests_are_served() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let gate = Gate::default();
    let house = House::open(Script::waiting_at(&gate), config()).await;
    let waiting = filled(&house, &gate, "/fastly", 4).await;
    for headers in ["", "expect: 100-continue\r\n"] {
        let seen = house.ask(post_with("/www", headers, b"{}")).await;
        assert_eq!((seen.status, seen.header("retry-after")), (503, Some("2")));
        assert!(seen.reason().contains("in memory"), "{seen:?}");
    }
    let declined = declined(&captured);
    let keys = declined.iter().map(|line| (line["cause"].as_str().unwrap(), line["key"].as_str().unwrap()));
    assert_eq!(keys.collect::<Vec<_>>(), [("inflight_full", "server.max_inflight_bytes"); 2]);
    assert_eq!(house.ask(get("/.well-known/fastly/logging/challenge")).await.status, 200);
    answered(&gate, waiting).await;
    answered(&gate, filled(&house, &gate, "/www", 4).await).await;
}

#[tokio::test]
async fn webhooks_leave_half_of_the_bytes_to_others() {
    let gate = Gate::default();
    let house = House::open(Script::waiting_at(&gate), config()).await;
    let mut waiting = filled(&house, &gate, "/circleci", 2).await;
    assert_eq!(house.ask(post("/circleci", "{}")).await.status, 503);
    waiting.extend(filled(&house, &gate, "/fastly", 2).await);
    answered(&gate, waiting).await;
}

/// A body that alone takes more than all together may is not worth sending again.
#[tokio::test]
async fn a_body_that_can_never_be_decompressed_within_the_bytes_is_too_large() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let inflight = Budget::new(MIB as u64);
    let house = Setup { inflight, ..Setup::new(Script::default(), config()) }.open().await;
    let body = encoders::gzip(&vec![b'x'; MIB]);
    assert_eq!(house.ask(post_with("/fastly", "", &body)).await.status, 413);
    assert_eq!(causes(&captured), ["too_large"]);
    let body = encoders::gzip(&vec![b'x'; MIB / 4]);
    assert_eq!(house.ask(post_with("/fastly", "", &body)).await.status, 204);
}
