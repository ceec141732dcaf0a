//! The limits of `server`: what many clients together cannot do to the relay.

use super::harness::{Ask, Child, Collector, Connection, House, span};

/// More connections than the process may open files: each is served, and the relay itself keeps working.
#[tokio::test]
async fn idle_connections_beyond_the_limit_on_open_files_stop_nothing() {
    let collector = Collector::start([]).await;
    let child = Child::limited("ulimit -n 128", &House::configuration(&collector.url())).await;
    let started = child.logged("started").await;
    assert_eq!(started["max_connections"], 16);

    let mut idle = Vec::new();
    for address in [child.address; 150].into_iter().chain([child.telemetry; 50]) {
        let mut connection = Connection::open(address).await;
        connection.write("GET / HTTP/1.1\r\nhost: relay\r\n\r\n").await;
        assert_eq!(connection.read().await.status, 200);
        idle.push(connection);
    }
    assert_eq!(child.ask(Ask::post("/fastly", span(1, "a"))).await.status, 204);
    assert_eq!(child.ask(Ask::get("/.well-known/fastly/logging/challenge")).await.text(), "*\n");
    assert_eq!(child.telemetry("/healthz").await.status, 200);
    assert_eq!(collector.take(1).await.len(), 1);
    let log = child.log();
    assert!(!log.contains("could not accept"), "{log}");
    assert!(collector.take_rest().is_empty());
    collector.finish();
    // One of each port.
    assert_eq!(log.matches("connection limit reached").count(), 2, "{log}");
}
