//! The bound on connections: which of them is closed for a new one.

use super::*;
use crate::config::LogFormat;
use crate::telemetry::logging::tests::Captured;

const BOUND: usize = 4;

async fn bounded_house() -> House {
    let terms = Terms::plain(AGES, BOUND);
    House::with_terms(route_state(Fake::default()), config(), terms, AGES).await
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

#[tokio::test]
async fn a_connection_with_a_request_in_progress_is_never_closed() {
    let gate = Gate::default();
    let house =
        House::with_terms(route_state(Fake::waiting_at(&gate)), config(), Terms::plain(AGES, BOUND), AGES)
            .await;
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
