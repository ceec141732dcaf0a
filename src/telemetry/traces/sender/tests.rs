//! The sender in virtual time, with an endpoint whose responses are scripted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tracing::Level;

use super::*;
use crate::config::LogFormat;
use crate::telemetry::Metrics;
use crate::telemetry::logging::tests::Captured;

/// An endpoint that counts the spans of each request, with scripted responses; later requests are accepted.
#[derive(Clone, Default)]
struct Endpoint {
    came: Arc<Mutex<Vec<usize>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

#[derive(Clone, Copy)]
enum Answer {
    ForNow,
    ForGood,
    Never,
}

struct Bench {
    endpoint: Endpoint,
    spans: mpsc::Sender<Span>,
    counts: OwnSpanCounts,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn undelivered(outcome: ExportOutcome, reason: &str) -> Undelivered {
    Undelivered { outcome, reason: reason.to_owned() }
}

impl Deliver for Endpoint {
    async fn deliver(&self, body: Bytes) -> Result<(), Undelivered> {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        self.came.lock().unwrap().push(request.resource_spans[0].scope_spans[0].spans.len());
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            None => Ok(()),
            Some(Answer::ForNow) => Err(undelivered(ExportOutcome::Retryable, "not now")),
            Some(Answer::ForGood) => Err(undelivered(ExportOutcome::Permanent, "never ever")),
            Some(Answer::Never) => std::future::pending().await,
        }
    }

    fn endpoint(&self) -> &str {
        "collector:4318"
    }
}

impl Bench {
    fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let endpoint = Endpoint::default();
        endpoint.answers.lock().unwrap().extend(answers);
        let (spans, waiting) = mpsc::channel(2048);
        let (counts, stop) = (Metrics::new().own_spans(), CancellationToken::new());
        let sender = SpanSender::new(endpoint.clone(), waiting, counts.clone(), stop.clone());
        Self { endpoint, spans, counts, stop, running: tokio::spawn(sender.run()) }
    }

    fn span(&self, count: usize) {
        for _ in 0..count {
            self.spans.try_send(Span::default()).unwrap();
        }
    }

    fn came(&self) -> Vec<usize> {
        self.endpoint.came.lock().unwrap().clone()
    }

    /// Returns the numbers of sent and dropped spans.
    fn counts(&self) -> (u64, u64) {
        (self.counts.sent.get(), self.counts.dropped.get())
    }

    /// Advances the time and runs everything that is due.
    async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    async fn stopped(&mut self) {
        self.stop.cancel();
        (&mut self.running).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn spans_are_batched() {
    let mut bench = Bench::start([]);
    bench.span(2);
    bench.pass(MAX_DELAY / 2).await;
    bench.span(1);
    assert_eq!(bench.came(), [0; 0]);
    bench.pass(MAX_DELAY).await;
    assert_eq!((bench.came(), bench.counts()), (vec![3], (3, 0)));
    bench.span(MAX_BATCH + 1);
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(bench.came(), [3, MAX_BATCH], "a full batch is sent at once");
    bench.stopped().await;
    assert_eq!((bench.came(), bench.counts()), (vec![3, MAX_BATCH, 1], (516, 0)));
}

#[tokio::test(start_paused = true)]
async fn temporary_failures_are_retried_with_growing_pauses() {
    let mut bench = Bench::start([Answer::ForNow; 10]);
    bench.span(1);
    bench.pass(MAX_DELAY + FIRST_PAUSE / 2).await;
    let mut tries = Vec::new();
    for _ in 0..8 {
        tries.push(bench.came().len());
        bench.pass(FIRST_PAUSE).await;
    }
    assert_eq!(tries, [1, 2, 2, 3, 3, 3, 3, 4]);
    bench.pass(10 * MAX_PAUSE).await;
    assert_eq!((bench.came().len(), bench.counts()), (11, (1, 0)));
    bench.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn permanent_failures_are_dropped_and_the_next_batch_is_sent() {
    let mut bench = Bench::start([Answer::ForGood]);
    bench.span(3);
    bench.pass(2 * MAX_DELAY).await;
    bench.span(1);
    bench.pass(2 * MAX_DELAY).await;
    assert_eq!((bench.came(), bench.counts()), (vec![3, 1], (1, 3)));
    bench.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_its_end_are_logged_once() {
    let (log, _guard) = Captured::start(Level::INFO, LogFormat::Text);
    let mut bench = Bench::start([Answer::ForNow, Answer::ForNow, Answer::ForNow]);
    bench.span(1);
    bench.pass(MAX_PAUSE).await;
    bench.stopped().await;
    let text = log.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("self-trace export failing") && lines[0].contains("not now"), "{text}");
    assert!(lines[1].contains("self-trace export recovered"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_sender_tries_once_more_and_counts_the_rest_as_dropped() {
    let mut bench = Bench::start([Answer::ForNow; 10]);
    bench.span(3);
    bench.pass(MAX_DELAY + FIRST_PAUSE / 2).await;
    assert_eq!(bench.came(), [3]);
    bench.span(2);
    bench.stopped().await;
    assert_eq!((bench.came(), bench.counts()), (vec![3, 3, 2], (0, 5)));
}

#[tokio::test(start_paused = true)]
async fn the_current_batch_of_an_aborted_sender_is_counted_as_dropped() {
    let mut bench = Bench::start([Answer::Never]);
    bench.span(3);
    bench.pass(2 * MAX_DELAY).await;
    bench.span(2);
    bench.running.abort();
    assert!((&mut bench.running).await.is_err());
    assert_eq!((bench.came(), bench.counts()), (vec![3], (0, 5)));
}
