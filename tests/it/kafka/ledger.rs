//! A load of spans and their log events, and the verdict over what was delivered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::fleet::{event_of, span_of};
use crate::harness::{Ask, Collector, Sender, any_moment_within, eventually, names};

/// Pairs in one body.
const PAIRS: u64 = 10;

/// Senders that post until they are told to stop, each body until it is accepted.
pub(super) struct Load {
    state: Arc<State>,
    senders: Vec<JoinHandle<()>>,
}

struct State {
    /// Addresses of the fronts; a front that is away refuses connections.
    fronts: Mutex<Vec<SocketAddr>>,
    next: AtomicU64,
    stopped: AtomicBool,
    refused: AtomicU64,
}

/// Deliveries of a load.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) sent: u64,
    /// Spans or events of which nothing was delivered.
    pub(super) lost: Vec<String>,
    /// Spans that were delivered with their event, at least once.
    pub(super) joined: u64,
    /// Deliveries of spans and events beyond the first.
    pub(super) repeated: u64,
    /// Bodies that no front accepted at first.
    pub(super) refused: u64,
}

// === impl Load ===

impl Load {
    /// Starts senders that post a body of spans to one front and their events to another, every `pause`.
    pub(super) fn start(fronts: &[SocketAddr], senders: usize, pause: Duration) -> Self {
        let state = Arc::new(State {
            fronts: Mutex::new(fronts.to_vec()),
            next: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        let senders = (0..senders).map(|_| {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                while !state.stopped.load(Ordering::SeqCst) {
                    let first = state.next.fetch_add(PAIRS, Ordering::SeqCst);
                    let numbers = first..first + PAIRS;
                    let spans: Vec<String> = numbers.clone().map(span_of).collect();
                    let events: Vec<String> = numbers.map(event_of).collect();
                    state.accepted(&spans, first).await;
                    state.accepted(&events, first + 1).await;
                    any_moment_within(pause).await;
                }
            })
        });
        Self { senders: senders.collect(), state }
    }

    /// A front has another address, because it is another process.
    pub(super) fn replace(&self, old: SocketAddr, new: SocketAddr) {
        let mut fronts = self.state.fronts.lock().unwrap();
        fronts.iter_mut().filter(|front| **front == old).for_each(|front| *front = new);
    }

    /// Pairs that were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.state.next.load(Ordering::SeqCst) - 1
    }

    /// Stops the senders, waits until all that they sent has arrived, and judges it.
    pub(super) async fn judge(self, collector: &Collector) -> Verdict {
        self.state.stopped.store(true, Ordering::SeqCst);
        for sender in self.senders {
            sender.await.unwrap();
        }
        let mut seen = Seen::default();
        let sent = self.state.next.load(Ordering::SeqCst) - 1;
        eventually("everything that was accepted is delivered", async || {
            collector
                .take_rest()
                .iter()
                .for_each(|request| names(request).iter().for_each(|name| seen.note(name)));
            seen.lost(sent).is_empty().then_some(())
        })
        .await;
        seen.judge(sent, self.state.refused.load(Ordering::SeqCst))
    }
}

// === impl State ===

impl State {
    /// Posts a body to one front after the other until one accepts it.
    async fn accepted(&self, lines: &[String], turn: u64) {
        let body = lines.join("\n");
        for attempt in turn.. {
            let front = {
                let fronts = self.fronts.lock().unwrap();
                fronts[usize::try_from(attempt).unwrap() % fronts.len()]
            };
            if let Some(mut sender) = Sender::open(front).await
                && let Some(reply) = sender.send(Ask::post("/fastly", body.clone())).await
                && reply.status == 204
            {
                return;
            }
            self.refused.fetch_add(1, Ordering::SeqCst);
            any_moment_within(Duration::from_millis(20)).await;
        }
    }
}

/// Deliveries by the number of the pair.
#[derive(Default)]
struct Seen(BTreeMap<u64, Counts>);

#[derive(Default, Clone, Copy)]
struct Counts {
    spans: u64,
    events: u64,
    joined: u64,
}

// === impl Seen ===

impl Seen {
    fn note(&mut self, name: &str) {
        let number = |name: &str| name.rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
        if let Some(log) = name.strip_prefix("log ") {
            self.0.entry(number(log)).or_default().events += 1;
            return;
        }
        let (span, events) = name.split_once(": ").unwrap_or((name, ""));
        let counts = self.0.entry(number(span)).or_default();
        counts.spans += 1;
        for event in events.split(", ").filter(|event| !event.is_empty()) {
            assert_eq!(number(event), number(span), "an event is on another span");
            counts.events += 1;
            counts.joined += 1;
        }
    }

    fn lost(&self, sent: u64) -> Vec<String> {
        let of = |number: u64| {
            let Counts { spans, events, .. } = self.0.get(&number).copied().unwrap_or_default();
            let missing = [(spans, "span"), (events, "event")];
            missing
                .into_iter()
                .filter(|(count, _)| *count == 0)
                .map(move |(_, what)| format!("{what}-{number}"))
        };
        (1..=sent).flat_map(of).collect()
    }

    fn judge(&self, sent: u64, refused: u64) -> Verdict {
        let all = || self.0.values();
        Verdict {
            sent,
            lost: self.lost(sent),
            joined: all().filter(|counts| counts.joined > 0).count() as u64,
            repeated: all().map(|counts| counts.spans.max(1) - 1 + counts.events.max(1) - 1).sum(),
            refused,
        }
    }
}
