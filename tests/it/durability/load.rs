//! Load: batches of every kind of line, and webhooks, on persistent connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::downstream::POISON;
use super::ledger::{Kind, Ledger};
use crate::harness::random::Random;
use crate::harness::{Ask, Reply, Sender, log, logs_only, span};

/// Address of the relay, and the number of requests that each sender may make there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) requests: u64,
}

/// Several senders with one ledger.
pub(super) struct Load {
    target: watch::Sender<Option<Target>>,
    senders: Vec<JoinHandle<()>>,
    ledger: Arc<Mutex<Ledger>>,
}

/// One of the senders.
struct Source {
    random: Random,
    numbers: Arc<AtomicU64>,
    ledger: Arc<Mutex<Ledger>>,
}

/// A request, and the ids in it.
struct Message {
    ask: Ask,
    ids: Vec<(String, Kind)>,
}

// === impl Load ===

impl Load {
    pub(super) fn start(senders: usize, random: &mut Random) -> Self {
        let target = watch::Sender::new(None);
        let (numbers, ledger) = (Arc::new(AtomicU64::new(1)), Arc::new(Mutex::new(Ledger::default())));
        let senders = (0..senders).map(|_| {
            let source = Source {
                random: Random::new(random.below(u64::MAX)),
                numbers: Arc::clone(&numbers),
                ledger: Arc::clone(&ledger),
            };
            tokio::spawn(source.run(target.subscribe()))
        });
        Self { senders: senders.collect(), target, ledger }
    }

    /// Directs the senders to a relay.
    pub(super) fn goes_to(&self, address: SocketAddr, requests: u64) {
        self.target.send_replace(Some(Target { address, requests }));
    }

    /// Lets the senders finish their requests.
    pub(super) async fn finish(self) -> Ledger {
        drop(self.target);
        for sender in self.senders {
            sender.await.unwrap();
        }
        Arc::into_inner(self.ledger).expect("every sender has ended").into_inner().unwrap()
    }
}

// === impl Source ===

impl Source {
    async fn run(mut self, mut target: watch::Receiver<Option<Target>>) {
        while target.changed().await.is_ok() {
            let now = *target.borrow_and_update();
            if let Some(Target { address, requests }) = now {
                self.send_to(address, requests).await;
            }
        }
    }

    /// Sends until all is sent, or the relay is gone.
    async fn send_to(&mut self, address: SocketAddr, requests: u64) {
        let Some(mut sender) = Sender::open(address).await else { return };
        for _ in 0..requests {
            let Message { ask, ids } = self.message();
            self.ledger.lock().unwrap().sends(&ids);
            let Some(reply) = sender.send(ask).await else { return };
            self.answered(&reply, &ids);
        }
    }

    fn answered(&self, reply: &Reply, ids: &[(String, Kind)]) {
        let mut ledger = self.ledger.lock().unwrap();
        match reply.status {
            200 | 202 | 204 => ledger.acknowledged(ids),
            503 => ledger.refused(ids),
            _ => panic!("{reply:?}"),
        }
        if reply.status == 200 {
            let unusable = ids.iter().filter(|(_, kind)| *kind == Kind::Unusable).count();
            assert_eq!(reply.json()["rejected"], unusable, "{}", reply.text());
        }
    }

    fn message(&mut self) -> Message {
        match self.random.below(10) {
            0 | 1 => self.webhook(),
            2 => self.unknown_webhook(),
            _ => self.batch(),
        }
    }

    /// Returns a unique id.
    fn id(&self, what: &str) -> (u64, String) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        (number, format!("{what}{number}"))
    }

    fn batch(&mut self) -> Message {
        let (mut lines, mut ids, mut last) = (Vec::new(), Vec::new(), None);
        for _ in 0..=self.random.below(8) {
            let (line, id, kind) = self.line(&mut last);
            lines.push(line);
            ids.push((id, kind));
        }
        // A batch without any usable line would be a 400, which acknowledges nothing.
        let (number, id) = self.id("span");
        lines.push(span(number, &id));
        ids.push((id, Kind::Span));
        Message { ask: Ask::post("/fastly", lines.join("\n")), ids }
    }

    /// Returns a line. `last` is the last span of the batch.
    fn line(&mut self, last: &mut Option<(u64, String)>) -> (String, String, Kind) {
        match self.random.below(12) {
            0 => {
                let (number, id) = self.id("venom");
                let poison = format!("\"attributes\":[{{\"key\":\"{POISON}\"}}],\"name\"");
                (span(number, &id).replace("\"name\"", &poison), id, Kind::Poison)
            }
            1 => {
                let (_, id) = self.id("cut");
                (format!("{{\"resourceSpans\":[{{\"{id}"), id, Kind::Unusable)
            }
            2 => {
                let (_, id) = self.id("gauge");
                let line = format!(
                    r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{id}","gauge":{{"dataPoints":[{{"asInt":"1"}}]}}}}]}}]}}]}}"#
                );
                (line, id, Kind::Metric)
            }
            3 => {
                let (_, id) = self.id("note");
                let line = logs_only(&format!(r#"{{"body":{{"stringValue":"{id}"}}}}"#));
                (line, id, Kind::Log { span: String::new() })
            }
            4..=7 if last.is_some() => {
                let (span_number, span) = last.clone().expect("it is some");
                let (_, id) = self.id("event");
                (log(span_number, &id), id, Kind::Log { span })
            }
            _ => {
                let (number, id) = self.id("span");
                *last = Some((number, id.clone()));
                (span(number, &id), id, Kind::Span)
            }
        }
    }

    fn webhook(&mut self) -> Message {
        let (number, id) = self.id("hook");
        Message { ask: Ask::webhook(&job(number, &id)), ids: vec![(id, Kind::Webhook)] }
    }

    fn unknown_webhook(&mut self) -> Message {
        let (number, id) = self.id("odd");
        let body = job(number, &id).replace("job-completed", "job-reopened");
        Message { ask: Ask::webhook(&body), ids: vec![(id, Kind::Unusable)] }
    }
}

/// Returns a webhook about the completion of a job with this number and name.
pub(super) fn job(number: u64, name: &str) -> String {
    let uuid = |kind: u32| format!("{kind:08x}-0000-4000-8000-{number:012x}");
    let (event, workflow, job) = (uuid(1), uuid(2), uuid(0x1000_0000 + u32::try_from(number).unwrap()));
    format!(
        r#"{{"type":"job-completed","id":"{event}","happened_at":"2026-03-02T09:16:31.317Z","workflow":{{"id":"{workflow}","name":"build"}},"job":{{"id":"{job}","name":"{name}","status":"success","started_at":"2026-03-02T09:14:07Z","stopped_at":"2026-03-02T09:16:31Z"}}}}"#
    )
}
