//! Processing of a partitioned queue: each partition has processors and a clock of its own.
//!
//! In: records of partitions, the times up to which partitions were read, and demands to give partitions back. Out: the
//! export requests that are ready.
//! Promises: a held span expires by the time of the log, so that an outage or a rebalance does not part it from events that
//! were accepted within `wait`; a partition that is given back takes along everything that is held of it, unresolved; all
//! partitions together hold at most `max_held_bytes`; an event that its sender delivered again is superseded.

mod clock;

mod redeliveries;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::clock::LogClock;
use self::redeliveries::Redeliveries;
use super::driver::send;
use super::{Settling, SpanEvents, Work};
use crate::config::SpanEventsConfig;
use crate::event::Settled;
use crate::exporter::{Export, RejectSink, RejectedExport};
use crate::otlp::Line;
use crate::queue::{Fetched, Headers, KafkaReader, Progress, ReaderEvent, Taken, millis};
use crate::receiver::{Item, Passage, Supersede, SupersedeKey};
use crate::telemetry::{Inspector, Metrics};

/// Processors of all partitions, and their shared state.
pub(crate) struct Lanes {
    config: SpanEventsConfig,
    lanes: BTreeMap<i32, PartitionLane>,
    /// Memory of everything that is held, in bytes.
    held_bytes: usize,
    redeliveries: Redeliveries,
    rejects: Arc<dyn RejectSink>,
    metrics: Metrics,
}

/// Processors of one partition.
struct PartitionLane {
    clock: LogClock,
    settling: Settling,
    span_events: SpanEvents,
}

/// Runs until `drain`, then gives back what is held and closes the channel to the exporter. `work` brings nothing; it shows
/// the relay that its processor is alive.
pub(crate) async fn run_lanes(
    mut lanes: Lanes,
    mut reader: KafkaReader,
    work: UnboundedReceiver<Vec<Work>>,
    exports: UnboundedSender<Vec<Export>>,
    inspector: Inspector,
    drain: CancellationToken,
) {
    let _alive = work;
    let mut out = Vec::new();
    loop {
        tokio::select! {
            () = drain.cancelled() => break,
            event = reader.next() => match event {
                Some(event) => lanes.handle(event, &mut out),
                None => break,
            },
        }
        reader.hold(lanes.held_bytes);
        send(&mut out, &exports, &inspector);
        if exports.is_closed() {
            return;
        }
    }
    reader.give_back();
}

// === impl Lanes ===

impl Lanes {
    pub(crate) fn new(config: &SpanEventsConfig, rejects: Arc<dyn RejectSink>, metrics: Metrics) -> Self {
        Self {
            config: config.clone(),
            lanes: BTreeMap::new(),
            held_bytes: 0,
            redeliveries: Redeliveries::default(),
            rejects,
            metrics,
        }
    }

    fn handle(&mut self, event: ReaderEvent, out: &mut Vec<Export>) {
        match event {
            ReaderEvent::Records(fetched) => {
                for record in fetched {
                    self.record(record, out);
                    self.release_excess(out);
                }
            }
            ReaderEvent::Clock { partitions, time } => {
                for partition in partitions {
                    let Some(lane) = self.lanes.get_mut(&partition) else { continue };
                    lane.clock.advance(time);
                    lane.expire(out);
                }
                self.held_bytes = self.held_in_lanes();
            }
            ReaderEvent::GiveBack { partitions, done } => {
                self.lanes.retain(|partition, _| !partitions.contains(partition));
                self.held_bytes = self.held_in_lanes();
                self.redeliveries.forget(&partitions);
                drop(done);
            }
        }
    }

    fn held_in_lanes(&self) -> usize {
        self.lanes.values().map(PartitionLane::held_bytes).sum()
    }

    fn record(&mut self, fetched: Fetched, out: &mut Vec<Export>) {
        let Fetched { partition, time, value, contents, taken, progress, is_redelivered } = fetched;
        let lane =
            self.lanes.entry(partition).or_insert_with(|| PartitionLane::new(&self.config, &self.metrics));
        lane.clock.advance(time);
        let Some((headers, line)) = contents else {
            warn!(
                partition,
                offset = taken.id().offset(),
                "kafka record unreadable, kept in the rejected lines"
            );
            let reason = "the record was not written by a relay, or by a later version";
            let rejected =
                RejectedExport { signal: crate::event::Signal::Traces, items: 0, json: &value, reason };
            self.rejects.reject(rejected);
            taken.seal();
            return;
        };
        let is_known = self.redeliveries.is_known(&headers, &taken, partition);
        let work = works(line, &headers, taken, progress, &self.redeliveries);
        if is_known {
            work.into_iter().for_each(|work| work.settle(Settled::Superseded));
            return;
        }
        let work = work.into_iter().map(|mut work| {
            work.supersede = supersede(&work, &headers).map(|mut supersede| {
                supersede.arrived(lane.clock.age(millis(headers.received)), is_redelivered);
                supersede
            });
            work
        });
        let (before, now) = (lane.held_bytes(), lane.clock.now());
        let ready = lane.settling.accept(now, work.collect());
        lane.span_events.accept(now, ready, out);
        self.held_bytes = self.held_bytes - before + lane.held_bytes();
    }

    /// Releases the oldest of the fullest lane until the bound is kept.
    fn release_excess(&mut self, out: &mut Vec<Export>) {
        while self.held_bytes as u64 > self.config.max_held_bytes
            && let Some(fullest) = self.lanes.values_mut().max_by_key(|lane| lane.held_bytes())
            && fullest.release_oldest(out)
        {
            self.held_bytes = self.held_in_lanes();
        }
    }
}

/// Makes work of a record: one document, with its part of the record.
fn works(
    line: Line,
    headers: &Headers,
    mut taken: Taken,
    progress: Progress,
    known: &Redeliveries,
) -> Vec<Work> {
    let passage = if headers.bypasses_matching { Passage::Straight } else { Passage::Joined };
    let Line { traces, logs, metrics, .. } = line;
    let mut item = Item { line: 1, traces, logs, metrics, protobuf: None, repairs: Vec::new(), passage };
    item.set_arrival(headers.received);
    taken.resume(progress);
    if headers.event_id.is_some() {
        known.forget_when_rejected(headers, &mut taken);
    }
    let work = Work::of(&taken, vec![item]);
    taken.seal();
    work
}

fn supersede(work: &Work, headers: &Headers) -> Option<Supersede> {
    let text = headers.supersede.as_ref()?;
    let (trace_id, _) = work.traces.as_ref()?.0.spans().next()?;
    Supersede::from_text(text, SupersedeKey { receiver: headers.receiver.clone(), trace_id })
}

// === impl PartitionLane ===

impl PartitionLane {
    fn new(config: &SpanEventsConfig, metrics: &Metrics) -> Self {
        Self {
            clock: LogClock::start(),
            settling: Settling::durable(metrics.clone()),
            span_events: SpanEvents::new(config, metrics.clone()),
        }
    }

    fn held_bytes(&self) -> usize {
        self.settling.held_bytes() + self.span_events.held_bytes()
    }

    fn expire(&mut self, out: &mut Vec<Export>) {
        let now = self.clock.now();
        let ready = self.settling.expire(now);
        self.span_events.expire(now, out);
        self.span_events.accept(now, ready, out);
    }

    /// Releases what is held longest. Returns `false` if nothing is held.
    fn release_oldest(&mut self, out: &mut Vec<Export>) -> bool {
        if self.span_events.release_oldest(out) {
            return true;
        }
        let Some(work) = self.settling.release_first() else { return false };
        self.span_events.accept(self.clock.now(), vec![work], out);
        true
    }
}

#[cfg(test)]
mod tests;
