//! A load of spans and their log events, and the verdict over what was delivered.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::fleet::{event_of, span_of};
use crate::harness::{Ask, Collector, Sender, any_moment_within, eventually, names};

/// Interval of looks at what was delivered.
const POLL: Duration = Duration::from_millis(5);

/// Lost spans and events that a verdict shows.
const SHOWN: usize = 20;

/// Time without a delivery after which what is missing is lost.
const STALL: Duration = Duration::from_secs(60);

/// Strength of a load.
#[derive(Clone, Copy)]
pub(super) struct Strength {
    pub(super) senders: usize,
    /// Pairs of a span and its event in two bodies, one of the spans and one of the events.
    pub(super) pairs: u64,
    pub(super) pace: Pace,
}

#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// Lines of all senders in each second, if the relays accept them as fast.
    LinesPerSecond(u32),
    /// Maximum speed, with at most this many pairs sent and not delivered.
    Window(u64),
}

/// Senders that post until they are told to stop, each body until it is accepted.
pub(super) struct Load {
    state: Arc<State>,
    senders: Vec<JoinHandle<()>>,
    seen: Seen,
    began: Instant,
}

struct State {
    strength: Strength,
    /// Addresses of the fronts; a front that is away refuses connections.
    fronts: Mutex<Vec<SocketAddr>>,
    next: AtomicU64,
    /// Pairs that were delivered.
    delivered: AtomicU64,
    stopped: AtomicBool,
    refused: AtomicU64,
}

/// Deliveries of a load.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) sent: u64,
    /// Some of the spans and events of which nothing was delivered.
    pub(super) lost: Vec<String>,
    /// Spans that were delivered with their event, at least once.
    pub(super) joined: u64,
    /// Deliveries of spans and events beyond the first.
    pub(super) repeated: u64,
    /// Deliveries of spans and events, all of them.
    pub(super) delivered: u64,
    /// Bodies that no front accepted at first.
    pub(super) refused: u64,
    /// Time in which they were sent.
    pub(super) took: Duration,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, joined, repeated, delivered, refused, took } = self;
        let (lines, seconds) = (2 * sent, took.as_secs_f64());
        write!(
            f,
            "{lines} lines in {seconds:.0} s ({:.0}/s), {} lost, {joined} of {sent} pairs joined, {delivered} deliveries of \
             which {repeated} are repeated, {refused} bodies refused at first",
            lines as f64 / seconds,
            lost.len()
        )
    }
}

// === impl Load ===

impl Load {
    /// Starts senders that post a body of spans to one front and their events to another.
    pub(super) fn start(fronts: &[SocketAddr], strength: Strength) -> Self {
        let state = Arc::new(State {
            strength,
            fronts: Mutex::new(fronts.to_vec()),
            next: AtomicU64::new(1),
            delivered: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        let senders = (0..strength.senders).map(|_| tokio::spawn(Arc::clone(&state).send()));
        Self { senders: senders.collect(), state, seen: Seen::default(), began: Instant::now() }
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

    /// Takes what was delivered. A long load calls it again and again, so that the collector does not keep everything.
    pub(super) fn note(&mut self, collector: &Collector) {
        for request in collector.take_rest() {
            names(&request).iter().for_each(|name| self.seen.note(name));
        }
        self.state.delivered.store(self.seen.whole, Ordering::SeqCst);
    }

    /// Waits until this many more pairs were sent.
    pub(super) async fn more(&mut self, collector: &Collector, pairs: u64) {
        let goal = self.sent() + pairs;
        eventually("the load goes on", async || {
            self.note(collector);
            (self.sent() >= goal).then_some(())
        })
        .await;
    }

    /// Stops the senders, waits until all that they sent has arrived, or nothing arrives any more, and judges it.
    pub(super) async fn judge(mut self, collector: &Collector) -> Verdict {
        self.state.stopped.store(true, Ordering::SeqCst);
        for sender in std::mem::take(&mut self.senders) {
            while !sender.is_finished() {
                self.note(collector);
                any_moment_within(POLL).await;
            }
            sender.await.unwrap();
        }
        let took = self.began.elapsed();
        let sent = self.sent();
        let mut last = (0, Instant::now());
        while self.seen.whole < sent && last.1.elapsed() < STALL {
            self.note(collector);
            if self.seen.whole > last.0 {
                last = (self.seen.whole, Instant::now());
            }
            any_moment_within(POLL).await;
        }
        self.note(collector);
        let refused = self.state.refused.load(Ordering::SeqCst);
        Verdict { took, refused, ..self.seen.judge(sent) }
    }
}

// === impl State ===

impl State {
    /// Posts bodies at the pace of the load until it is stopped.
    async fn send(self: Arc<Self>) {
        let Strength { senders, pairs, pace } = self.strength;
        let mut due = match pace {
            Pace::LinesPerSecond(lines) => {
                let together = senders as f64 * 2.0 * pairs as f64;
                tokio::time::interval(Duration::from_secs_f64(together / f64::from(lines)))
            }
            Pace::Window(_) => tokio::time::interval(POLL),
        };
        while !self.stopped.load(Ordering::SeqCst) {
            match pace {
                Pace::LinesPerSecond(_) => drop(due.tick().await),
                Pace::Window(most) if self.open() >= most => {
                    due.tick().await;
                    continue;
                }
                Pace::Window(_) => {}
            }
            let first = self.next.fetch_add(pairs, Ordering::SeqCst);
            let numbers = first..first + pairs;
            let spans: Vec<String> = numbers.clone().map(span_of).collect();
            let events: Vec<String> = numbers.map(event_of).collect();
            self.accepted(&spans, first).await;
            self.accepted(&events, first + 1).await;
        }
    }

    /// Pairs that were sent and not delivered.
    fn open(&self) -> u64 {
        self.next.load(Ordering::SeqCst) - 1 - self.delivered.load(Ordering::SeqCst)
    }

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
struct Seen {
    counts: BTreeMap<u64, Counts>,
    /// Pairs of which both were delivered.
    whole: u64,
}

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
            return self.count(number(log), Counts { events: 1, ..Counts::default() });
        }
        let (span, events) = name.split_once(": ").unwrap_or((name, ""));
        let mut counts = Counts { spans: 1, ..Counts::default() };
        for event in events.split(", ").filter(|event| !event.is_empty()) {
            assert_eq!(number(event), number(span), "an event is on another span");
            counts.events += 1;
            counts.joined += 1;
        }
        self.count(number(span), counts);
    }

    fn count(&mut self, number: u64, more: Counts) {
        let counts = self.counts.entry(number).or_default();
        let was_whole = counts.is_whole();
        counts.spans += more.spans;
        counts.events += more.events;
        counts.joined += more.joined;
        self.whole += u64::from(counts.is_whole() && !was_whole);
    }

    fn lost(&self, sent: u64) -> Vec<String> {
        let of = |number: u64| {
            let Counts { spans, events, .. } = self.counts.get(&number).copied().unwrap_or_default();
            let missing = [(spans, "span"), (events, "event")];
            missing
                .into_iter()
                .filter(|(count, _)| *count == 0)
                .map(move |(_, what)| format!("{what}-{number}"))
        };
        (1..=sent).flat_map(of).take(SHOWN).collect()
    }

    fn judge(&self, sent: u64) -> Verdict {
        let all = || self.counts.values();
        Verdict {
            sent,
            lost: self.lost(sent),
            joined: all().filter(|counts| counts.joined > 0).count() as u64,
            repeated: all().map(|counts| counts.spans.max(1) - 1 + counts.events.max(1) - 1).sum(),
            delivered: all().map(|counts| counts.spans + counts.events).sum(),
            ..Verdict::default()
        }
    }
}

// === impl Counts ===

impl Counts {
    fn is_whole(self) -> bool {
        self.spans > 0 && self.events > 0
    }
}
