//! Cost of durability: a measurement, not a test. It prints a table for the documentation.
//!
//! `cargo build --release && SPANRELAY_BINARY=target/release/spanrelay cargo test --test it durability::cost --
//! --ignored --nocapture`
//!
//! Four senders on persistent connections send the next request as soon as they have the response to the last. The
//! downstream responds at once and reads nothing. Everything runs on the same machine and shares its processors.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::load::job;
use crate::harness::random::Random;
use crate::harness::{Ask, Child, House, Sender, eventually};

const SENDERS: u64 = 4;
const STORAGES: [&str; 4] = [
    "{storage: memory}",
    "{storage: disk, sync: never}",
    "{storage: disk, sync: interval}",
    "{storage: disk, sync: always}",
];

/// Kind of requests.
#[derive(Debug, Clone, Copy)]
enum Work {
    Batches { lines: u64, requests: u64 },
    Webhooks { requests: u64 },
}

/// Accepts everything without reading it.
async fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async {
                let mut body = request.into_body();
                while body.frame().await.transpose()?.is_some() {}
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from("{}")))
            });
            // The relay is killed in the end.
            tokio::spawn(async move {
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok()
            });
        }
    });
    address
}

/// Returns the fixture of an edge with its own ids and times.
fn line(random: &mut Random) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-fixtures/fastly/vcl-edge/request.ndjson");
    let line = std::fs::read_to_string(path).unwrap();
    let line = line.replace("2f5a9d1c07b34e68a1d4c3b2e5f60718", &random.hex(32));
    let line = line.replace("8c1f0e7a5b3d4926", &random.hex(16));
    line.replace("1655990400", &format!("16559{:05}", random.below(99_999)))
}

impl Work {
    fn requests(self) -> u64 {
        match self {
            Self::Batches { requests, .. } | Self::Webhooks { requests } => requests,
        }
    }

    fn lines(self) -> u64 {
        match self {
            Self::Batches { lines, .. } => lines,
            Self::Webhooks { .. } => 1,
        }
    }

    /// Returns different bodies for one sender; webhooks differ every time.
    fn bodies(self, random: &mut Random) -> Vec<Bytes> {
        match self {
            Self::Batches { lines, requests } => {
                let different = (20_000 / lines).min(requests);
                (0..different).map(|_| (0..lines).map(|_| line(random)).collect::<String>().into()).collect()
            }
            Self::Webhooks { requests } => {
                (0..requests).map(|_| job(random.below(1 << 28), "measured").into()).collect()
            }
        }
    }

    fn ask(self, body: &Bytes) -> Ask {
        match self {
            Self::Batches { .. } => Ask::post("/fastly", body.clone()),
            Self::Webhooks { .. } => Ask::webhook(std::str::from_utf8(body).unwrap()),
        }
    }
}

async fn send(address: SocketAddr, work: Work, bodies: Vec<Bytes>) -> Vec<Duration> {
    let mut sender = Sender::open(address).await.unwrap();
    let mut took = Vec::new();
    for body in bodies.iter().cycle().take(usize::try_from(work.requests()).unwrap()) {
        let ask = work.ask(body);
        let asked = Instant::now();
        let reply = sender.send(ask).await.unwrap();
        took.push(asked.elapsed());
        assert_eq!(reply.status, 204, "{}", reply.text());
    }
    took
}

async fn measure(storage: &str, work: Work) {
    let mut random = Random::new(7);
    let bodies: Vec<Vec<Bytes>> = (0..SENDERS).map(|_| work.bodies(&mut random)).collect();
    let sink = sink().await;
    let directory = tempfile::tempdir().unwrap();
    let configuration = House::configuration(&format!("http://{sink}"));
    let queue = format!("queue={}", storage.replacen('}', ", max_size: 8GiB}", 1));
    let directory = format!("queue.directory={}", directory.path().display());
    let quiet = "telemetry.logs.level=info";
    let batch = "exporters.otlp_http.delivery=batch";
    let arguments = ["--set", &queue, "--set", &directory, "--set", quiet, "--set", batch];
    let relay = Child::start(&configuration, &arguments).await;

    let began = Instant::now();
    let senders: Vec<_> =
        bodies.into_iter().map(|bodies| tokio::spawn(send(relay.address, work, bodies))).collect();
    let mut took = Vec::new();
    for sender in senders {
        took.extend(sender.await.unwrap());
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort();
    let part = |part: f64| took[(took.len() as f64 * part) as usize].as_secs_f64() * 1e3;
    let rate = (SENDERS * work.requests() * work.lines()) as f64 / seconds;
    eventually("all of it is delivered", async || relay.metrics().await.are_at_rest().then_some(())).await;
    let delivered = (SENDERS * work.requests() * work.lines()) as f64 / began.elapsed().as_secs_f64();
    println!(
        "| {work:?} | {storage} | {rate:.0} | {delivered:.0} | {:.2} ms | {:.2} ms |",
        part(0.5),
        part(0.99)
    );
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of a minute, of a release build"]
async fn of_each_storage() {
    println!("| requests | queue | accepted/s | delivered/s | p50 | p99 |\n|---|---|---|---|---|---|");
    for work in [
        Work::Batches { lines: 1000, requests: 100 },
        Work::Batches { lines: 10, requests: 3000 },
        Work::Webhooks { requests: 4000 },
    ] {
        for storage in STORAGES {
            measure(storage, work).await;
        }
    }
}
