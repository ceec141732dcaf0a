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

/// Peak of the resident memory of a process, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Far more than the relay may hold at once, while the downstream is away: senders get 503 with `Retry-After`,
/// what is accepted goes to the disk, and memory stays within three times the limit plus what the process itself takes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn many_large_bodies_together_stay_within_the_memory_that_is_documented() {
    const MIB: usize = 1 << 20;
    let limit = 32 * MIB;
    let settings = [
        "server.max_request_body_size=16MiB",
        "server.max_inflight_bytes=32MiB",
        "queue.storage=disk",
        "queue.sync=never",
    ];
    let arguments = settings.map(|setting| ["--set", setting]);
    let child = Child::start(&House::configuration("http://127.0.0.1:9"), arguments.as_flattened()).await;
    let line = span(1, &"x".repeat(1000));
    let body = bytes::Bytes::from([line.as_bytes(), b"\n"].concat().repeat(15 * MIB / (line.len() + 1)));
    let before = peak_memory(child.id());
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let posts = (0..6).map(|_| child.ask(Ask::post("/fastly", body.clone())));
        for reply in futures_util::future::join_all(posts).await {
            *statuses.entry(reply.status).or_insert(0) += 1;
            assert!(reply.status == 204 || reply.retry_after() > 0, "{}", reply.text());
        }
    }
    assert!(statuses.keys().all(|status| [204, 503].contains(status)), "{statuses:?}");
    assert!(statuses[&204] >= 4, "one in each round at least: {statuses:?}");
    let grown = peak_memory(child.id()) - before;
    let itself = 96 * MIB;
    assert!(grown <= (3 * limit + itself) as u64, "{} MiB; {statuses:?}", grown / MIB as u64);
    child.kill().await;
}
