//! The thread of a worker that reads the topic.
//!
//! In: the records of the partitions that the group assigns. Out: [`ReaderEvent`]s, in the order of each partition; and commits of
//! what is resolved.
//! Promises: the thread polls at all times, so that the worker stays a member of its group: when too much is unresolved it
//! pauses the partitions instead; a revoked partition is given back and then committed, before its next owner reads it, and
//! given back without a commit if another worker owns it already.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::client::{FETCH_WAIT, log, reason_of};
use super::committer::{Committer, has_crossed_a_rebalance, log_refusal};
use super::health::Health;
use super::message::{Headers, is_probe, millis};
use super::offsets::Offsets;
use super::partitions::{Partitions, Read, Sent};
use crate::otlp::{Line, LineReader};
use crate::queue::{Progress, Taken};
use crate::telemetry::Metrics;

/// Longest time between two looks at commands, commits and the window.
const POLL: Duration = Duration::from_millis(50);
/// Maximum number of records that are sent together.
const MAX_RECORDS: usize = 64;
/// Interval of commits: what a worker delivered in it before it was killed is delivered again; during a rebalance, commits wait.
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of records on their way to the downstream, beyond which no more are read.
const MAX_EXPORTING_BYTES: u64 = 16 << 20;
/// Time that exports of a revoked partition have to end; what ends later is delivered a second time by its next owner.
const REVOKE_WAIT: Duration = Duration::from_secs(3);
/// Time that requests to the brokers have while a partition is assigned or revoked.
const BROKER_WAIT: Duration = Duration::from_secs(10);
/// A broker that was silent for longer may have data that was not read.
const MAX_SILENCE: Duration = Duration::from_millis(600);

/// A record that was read, or a demand to the processors.
pub(crate) enum ReaderEvent {
    /// Records that were read one after the other.
    Records(Vec<Fetched>),
    /// Partitions were read to their ends: all records that were written before this time are read. In milliseconds since 1970.
    Clock { partitions: Vec<i32>, time: i64 },
    /// Demand to give partitions back: to drop whatever is held of them.
    GiveBack {
        partitions: Vec<i32>,
        /// Dropped when that is done.
        done: blocking::Sender<()>,
    },
}

/// A record of the topic.
pub(crate) struct Fetched {
    pub(crate) partition: i32,
    /// Timestamp of the record, in milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) value: Bytes,
    /// Headers and contents of the value; `None` for a record that no relay wrote. Parsed on the thread that copied the value,
    /// while it is in the cache of that processor.
    pub(crate) contents: Option<(Headers, Line)>,
    pub(crate) taken: Taken,
    pub(crate) progress: Progress,
    /// An earlier owner had read it.
    pub(crate) is_redelivered: bool,
}

/// State that the thread and its callbacks share.
pub(super) struct ReaderState {
    pub(super) topic: String,
    pub(super) partitions: Arc<Partitions>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Metrics,
    pub(super) events: mpsc::Sender<ReaderEvent>,
    /// Records to be sent together, because waking the processors costs more than reading a record.
    pub(super) fetched: Mutex<Vec<Fetched>>,
    pub(super) wall_clock: fn() -> SystemTime,
    /// `queue.kafka.session_timeout`, which bounds the last commits.
    pub(super) session_timeout: Duration,
    /// Set once the relay drains, and no more is to be read.
    pub(super) stopped: AtomicBool,
    pub(super) closed: AtomicBool,
    /// A commit that was sent and not acknowledged.
    pub(super) sent: Mutex<Option<Sent>>,
    /// The assignment has changed, so that partitions must be paused again.
    pub(super) is_reassigned: AtomicBool,
}

/// Context of the consumer. Its callbacks run on the thread that polls.
pub(super) struct Callbacks(pub(super) Arc<ReaderState>);

/// Reads until the queue is closed, then commits and leaves the group. When it panics, the relay is not ready any more.
pub(super) fn run_to_its_end(
    consumer: &BaseConsumer<Callbacks>,
    committer: Committer,
    reading: &ReaderState,
) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(consumer, committer, reading))) {
        let reason = "the thread that reads the topic has stopped; see the log, then restart the relay";
        reading.health.reading(Some(reason.to_owned()));
        resume_unwind(panic);
    }
}

fn run(consumer: &BaseConsumer<Callbacks>, mut committer: Committer, reading: &ReaderState) {
    let mut lines = LineReader::default();
    let mut is_paused = false;
    let mut last_commit = Instant::now();
    while !reading.closed.load(Ordering::Acquire) {
        is_paused = pause(consumer, reading, is_paused);
        reading.poll(consumer, &mut lines);
        if let Some(result) = committer.ended() {
            reading.commit_ended(result);
        }
        if last_commit.elapsed() >= COMMIT_INTERVAL && !committer.is_busy() {
            last_commit = Instant::now();
            reading.commit(&mut committer);
        }
    }
    committer.commit_the_rest(consumer, reading, &mut lines);
    // Dropping the consumer revokes its partitions and leaves the group.
}

/// Pauses or resumes all partitions, so that no more is unresolved than the window allows.
pub(super) fn pause(consumer: &BaseConsumer<Callbacks>, reading: &ReaderState, is_paused: bool) -> bool {
    let limit = if is_paused { MAX_EXPORTING_BYTES / 4 * 3 } else { MAX_EXPORTING_BYTES };
    let is_full = reading.partitions.exporting_bytes() > limit || reading.stopped.load(Ordering::Acquire);
    let is_reassigned = reading.is_reassigned.swap(false, Ordering::AcqRel);
    if is_full == is_paused && !(is_full && is_reassigned) {
        return is_paused;
    }
    let Ok(assignment) = consumer.assignment() else { return is_paused };
    let done = match is_full {
        true => consumer.pause(&assignment),
        false => consumer.resume(&assignment),
    };
    if is_full {
        reading.partitions.set_at_end(None, false);
    }
    if done.is_ok() { is_full } else { is_paused }
}

// === impl ReaderState ===

impl ReaderState {
    /// Waits for what comes next, and handles it.
    pub(super) fn poll(&self, consumer: &BaseConsumer<Callbacks>, lines: &mut LineReader) {
        let wait = if self.fetched().is_empty() { POLL } else { Duration::ZERO };
        match consumer.poll(wait) {
            Some(Ok(message)) => self.message(consumer, &message, lines),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.health.reading(None);
                self.partitions.set_at_end(Some(partition), true);
            }
            Some(Err(error)) => self.failed(&error),
            None => self.send_fetched(),
        }
    }

    fn message(
        &self,
        consumer: &BaseConsumer<Callbacks>,
        message: &BorrowedMessage<'_>,
        lines: &mut LineReader,
    ) {
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let (partition, Ok(offset)) = (message.partition(), u64::try_from(message.offset())) else { return };
        self.health.reading(None);
        if self.partitions.position(partition).is_some_and(|position| position < offset) {
            self.send_fetched();
            let low =
                consumer.fetch_watermarks(&self.topic, partition, BROKER_WAIT).map_or(0, |(low, _)| low);
            self.skip_deleted(partition, u64::try_from(low).unwrap_or_default().min(offset));
        }
        let value = message.payload().unwrap_or_default();
        // A writer whose clock is ahead must not take the partition's time along: what is held would never expire.
        let time = message.timestamp().to_millis().unwrap_or_default().min(millis((self.wall_clock)()));
        let size = value.len() as u64;
        let Read::New { taken, progress, is_redelivered } =
            self.partitions.read(partition, offset, time, size)
        else {
            return;
        };
        if value.is_empty() && is_probe(message.headers()) {
            return taken.seal();
        }
        if is_redelivered {
            self.metrics.kafka.redelivered.inc();
        }
        let value = Bytes::copy_from_slice(value);
        let headers = Headers::decode(message.headers());
        let contents = headers.and_then(|headers| Some((headers, lines.read(&value).ok()?)));
        let fetched = Fetched { partition, time, value, contents, taken, progress, is_redelivered };
        let is_full = {
            let mut waiting = self.fetched();
            waiting.push(fetched);
            waiting.len() >= MAX_RECORDS
        };
        if is_full {
            self.send_fetched();
        }
    }

    /// Sends the records that were read. Whatever else is sent comes after them.
    fn send_fetched(&self) {
        let fetched = std::mem::take(&mut *self.fetched());
        if !fetched.is_empty() {
            // The other side is gone when the relay drains: the records are released, and their next owner reads them.
            self.events.blocking_send(ReaderEvent::Records(fetched)).ok();
        }
    }

    fn fetched(&self) -> MutexGuard<'_, Vec<Fetched>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts records that retention deleted before they were read.
    fn skip_deleted(&self, partition: i32, low: u64) {
        let lost = self.partitions.skip_to(partition, low);
        if lost > 0 {
            self.metrics.kafka.lost.inc_by(lost);
            error!(
                partition,
                lost,
                remedy = "raise retention.ms of the topic above the longest outage of the downstream",
                "kafka deleted records before they were read"
            );
        }
    }

    fn failed(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            // Reported again, and repaired, by librdkafka itself.
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve,
            ) => {}
            _ => {
                let reason = reason_of(error);
                self.health.reading(Some(
                    self.health.last_reason().map_or(reason.clone(), |last| format!("{reason} ({last})")),
                ));
            }
        }
    }

    /// Sends a commit of what has changed.
    pub(super) fn commit(&self, committer: &mut Committer) {
        let next = self.partitions.to_commit(None);
        if !next.is_empty() {
            committer.commit(self.list(&next));
            *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        }
    }

    /// Records the end of a commit that was sent. Returns `true` if the next one may be accepted.
    pub(super) fn commit_ended(&self, result: KafkaResult<()>) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (&result, sent) {
            (Ok(()), Some(sent)) => self.partitions.committed(sent),
            (Err(error), _) => log_refusal(error),
            // A later commit has replaced it.
            (Ok(()), None) => {}
        }
        result.as_ref().err().is_none_or(has_crossed_a_rebalance)
    }

    /// Commits what has changed of these partitions and waits for it.
    fn commit_now(&self, consumer: &BaseConsumer<Callbacks>, partitions: &[i32]) {
        // A commit on its way is older than this one; its end means nothing any more.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).take();
        let next = self.partitions.to_commit(Some(partitions));
        if next.is_empty() {
            return;
        }
        match consumer.commit(&self.list(&next), CommitMode::Sync) {
            Ok(()) => self.partitions.committed(next),
            Err(error) => log_refusal(&error),
        }
    }

    fn list(&self, sent: &Sent) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, commit) in sent.commits() {
            let mut element = list.add_partition(&self.topic, partition);
            // The offset is never negative, which is all that can be wrong with it.
            element.set_offset(Offset::Offset(commit.offset)).ok();
            element.set_metadata(&commit.metadata);
        }
        list
    }

    /// Has everything dropped that is held of these partitions.
    fn give_back(&self, partitions: &[i32]) {
        self.fetched().retain(|record| !partitions.contains(&record.partition));
        self.send_fetched();
        let (done, given_back) = blocking::channel();
        let event = ReaderEvent::GiveBack { partitions: partitions.to_vec(), done };
        if self.events.blocking_send(event).is_ok() {
            // Nothing is sent: the other side drops its end.
            given_back.recv_timeout(REVOKE_WAIT).ok();
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Callbacks>, partitions: &[i32]) {
        self.give_back(partitions);
        if consumer.assignment_lost() {
            warn!(
                partitions = partitions.len(),
                "kafka partitions lost; what was not committed is delivered again"
            );
        } else {
            let deadline = Instant::now() + REVOKE_WAIT;
            while self.partitions.are_in_progress(partitions) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.commit_now(consumer, partitions);
        }
        partitions.iter().for_each(|partition| self.partitions.revoke(*partition));
    }

    fn assigned(&self, consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) {
        self.send_fetched();
        let committed = consumer.committed_offsets(list.clone(), Timeout::After(BROKER_WAIT));
        if let Err(error) = &committed {
            warn!(reason = reason_of(error), "kafka offsets not read; records may be delivered twice");
        }
        for element in list.elements() {
            let partition = element.partition();
            let offsets = committed.as_ref().ok().and_then(|committed| {
                let known = committed.find_partition(&self.topic, partition)?;
                let Offset::Offset(offset) = known.offset() else { return None };
                Some(Offsets::resume(u64::try_from(offset).ok(), known.metadata()))
            });
            self.partitions.assign(partition, offsets.unwrap_or_default());
        }
        self.health.reading(None);
    }

    fn statistics(&self, statistics: &Statistics) {
        // Sending may wait, and what is written meanwhile is not read.
        let read_by = millis((self.wall_clock)() - MAX_SILENCE - FETCH_WAIT);
        self.send_fetched();
        let mut lag = 0;
        let mut read_to_end = Vec::new();
        let known = statistics.topics.get(&self.topic);
        for partition in self.partitions.numbers() {
            let Some(state) = known.and_then(|topic| topic.partitions.get(&partition)) else { continue };
            if let Ok(end) = u64::try_from(state.hi_offset) {
                lag += self.partitions.lag(partition, end);
            }
            if !self.partitions.is_at_end(partition) {
                continue;
            }
            let position = self.partitions.position(partition);
            if let (Some(position), Ok(low)) = (position, u64::try_from(state.lo_offset))
                && position < low
            {
                self.skip_deleted(partition, low);
            }
            let leader = statistics.brokers.values().find(|broker| broker.nodeid == state.leader);
            let is_fresh = leader.is_some_and(|broker| {
                broker.state == "UP"
                    && u128::try_from(broker.rxidle).is_ok_and(|idle| idle < MAX_SILENCE.as_micros())
            });
            if is_fresh {
                read_to_end.push(partition);
            }
        }
        if !read_to_end.is_empty() {
            // A clock that is missed is followed by another.
            self.events.try_send(ReaderEvent::Clock { partitions: read_to_end, time: read_by }).ok();
        }
        self.metrics.kafka.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }
}

// === impl Callbacks ===

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.health.reported(&error, reason);
    }
}

impl ConsumerContext for Callbacks {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let reading = &self.0;
        match rebalance {
            Rebalance::Assign(list) if list.count() > 0 => reading.assigned(consumer, list),
            Rebalance::Revoke(list) if list.count() > 0 => {
                let partitions: Vec<i32> =
                    list.elements().iter().map(|element| element.partition()).collect();
                reading.revoked(consumer, &partitions);
            }
            Rebalance::Assign(_) | Rebalance::Revoke(_) | Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let reading = &self.0;
        reading.is_reassigned.store(true, Ordering::Release);
        let owned = reading.partitions.numbers().len();
        reading.metrics.kafka.assigned.set(i64::try_from(owned).unwrap_or(i64::MAX));
        reading.metrics.kafka.rebalances.inc();
        if let Rebalance::Error(error) = rebalance {
            reading.failed(error);
        }
        info!(partitions = owned, "kafka partitions assigned");
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(POLL)
    }
}
