//! `queue.storage: kafka`: a queue that several relays share.
//!
//! In: [`TopicMessage`]s of a front, each the items of one unit with the same trace and signal. Out: [`ReaderEvent`]s of a worker: the
//! records of the partitions that the consumer group assigns to it. A trace is in one partition, so that its spans and log
//! events meet in one worker, whichever fronts accepted them.
//!
//! # Promises
//!
//! - A message that was written without an error is acknowledged by all in-sync replicas.
//! - An offset is committed when the record, and all records before it, are resolved. What is resolved above it is in the
//!   metadata of the commit, and its next reader skips it.
//! - A partition that is revoked, and all of them when the relay drains, is given back: what is held of it is dropped
//!   unresolved, and its next owner reads it again.
//! - What is read and not resolved is bounded in bytes; so is what is written and not acknowledged.
//!
//! This module is the port to the client library: [`KafkaQueue::write`], [`KafkaReader::next`],
//! [`KafkaReader::give_back`], [`KafkaQueue::state`], [`KafkaQueue::check_topic`], and commits, which follow from
//! receipts. No other module names the library.

mod client;

mod committer;

mod dead_letters;

mod health;

mod message;

mod offsets;

mod partitions;

mod reader;

mod topic;

mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::client::reason_of;
use self::committer::Committer;
use self::health::Health;
use self::message::{owned_headers, probe_headers};
use self::partitions::Partitions;
use self::reader::{Callbacks, ReaderState};
use self::topic::{Administrator, TopicSettings, TopicState};
use self::writer::{OutgoingRecord, TopicWriter};
use crate::config::KafkaConfig;
use crate::event::QueueState;
use crate::telemetry::Metrics;

pub(crate) use self::dead_letters::{DeadLetterEntry, DeadLetterReader};
pub(crate) use self::message::{EncodedHeaders, Headers, TopicMessage, millis};
pub(crate) use self::reader::{Fetched, ReaderEvent};
pub(crate) use self::writer::WriteError;

/// Events that are read ahead of their consumer; one has up to `reader::MAX_RECORDS` records.
const EVENTS: usize = 16;
/// Time that a look at the topic may take.
const LOOK: Duration = Duration::from_secs(3);
/// Interval of looks at the topic.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Suggested to senders while nothing can be written.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The shared queue.
pub(crate) struct KafkaQueue {
    config: KafkaConfig,
    writer: Arc<TopicWriter>,
    health: Arc<Health>,
    partitions: Arc<Partitions>,
    metrics: Metrics,
    wall_clock: fn() -> SystemTime,
    write_timeout: Duration,
    /// Settings of the topic, once they were read.
    settings: OnceLock<TopicSettings>,
    /// The dead-letter topic cannot be used, so that rejected input goes to the file.
    has_no_dead_letters: AtomicBool,
    /// Present once the relay reads.
    reading: Mutex<Option<(Arc<ReaderState>, JoinHandle<()>)>>,
    stop: CancellationToken,
}

/// The reading side of a worker.
pub(crate) struct KafkaReader {
    events: mpsc::Receiver<ReaderEvent>,
    partitions: Arc<Partitions>,
    reading: Arc<ReaderState>,
}

/// A rejected record that is being kept.
pub(crate) struct DeadLetterInProgress(Arc<Partitions>);

/// Reason that the queue cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KafkaOpenError {
    #[error("queue.kafka: {0}")]
    Client(String),
    #[error("queue.kafka.topic: {0}")]
    Refused(String),
}

/// Outcome of a look at the topic.
pub(crate) enum TopicCheck {
    Usable,
    /// The topic must not be used as it is configured.
    Refused(String),
    /// The topic cannot be used now.
    Unavailable(String),
}

// === impl KafkaQueue ===

impl KafkaQueue {
    /// Creates the clients, without connecting. A record has `write_timeout` to be acknowledged.
    pub(crate) fn open(
        config: &KafkaConfig,
        write_timeout: Duration,
        wall_clock: fn() -> SystemTime,
        metrics: Metrics,
    ) -> Result<Self, KafkaOpenError> {
        let health = Arc::<Health>::default();
        let settings = client::of_producer(config, write_timeout);
        let writer = TopicWriter::new(settings, Arc::clone(&health)).map_err(|error| unusable(&error))?;
        Ok(Self {
            config: config.clone(),
            writer: Arc::new(writer),
            health,
            partitions: Partitions::new(metrics.clone()),
            metrics,
            wall_clock,
            write_timeout,
            settings: OnceLock::new(),
            has_no_dead_letters: AtomicBool::new(false),
            reading: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Creates the topics if they are to be created, checks the settings, and logs those that can lose data.
    pub(crate) async fn check_topic(&self) -> TopicCheck {
        let checked = match self.settings.get() {
            None => match self.look().await {
                Ok(settings) => {
                    if let Some(refusal) = &settings.refusal {
                        self.health.refused(refusal);
                        return TopicCheck::Refused(refusal.clone());
                    }
                    let limited = settings.largest.map_or(Ok(()), |bytes| self.writer.limit_batches(bytes));
                    drop(self.settings.set(settings));
                    limited.map_err(|error| reason_of(&error))
                }
                Err(reason) => Err(reason),
            },
            Some(settings) => match self.topic_state(&self.config.topic).await {
                Ok(state) => state.failure(settings.min_in_sync).map_or(Ok(()), Err),
                Err(error) => Err(reason_of(&error)),
            },
        };
        let checked = match checked {
            Ok(()) if self.health.is_unproven() => self.probe().await,
            other => other,
        };
        match checked {
            Ok(()) => {
                self.health.works();
                TopicCheck::Usable
            }
            Err(reason) => {
                self.health.failed(&reason);
                TopicCheck::Unavailable(self.health.failure().map_or(reason, |reason| reason.to_string()))
            }
        }
    }

    /// Writes an empty record, which workers pass over.
    async fn probe(&self) -> Result<(), String> {
        let record = OutgoingRecord {
            topic: &self.config.topic,
            key: None,
            value: b"",
            headers: probe_headers(),
            timestamp: millis((self.wall_clock)()),
        };
        match self.writer.write(std::iter::once(record)).await.pop() {
            Some((_, WriteError::Unavailable(reason))) => Err(reason.to_string()),
            Some((_, WriteError::TooLarge)) | None => Ok(()),
        }
    }

    /// Looks at the topic again and again, so that an outage is known before it costs a request, and its end without one.
    pub(crate) async fn watch(self: Arc<Self>) {
        let watching = async {
            loop {
                self.check_topic().await;
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        self.stop.run_until_cancelled(watching).await;
    }

    async fn topic_state(&self, topic: &str) -> Result<TopicState, KafkaError> {
        let (writer, topic) = (Arc::clone(&self.writer), topic.to_owned());
        match spawn_blocking(move || writer.topic_state(&topic, LOOK)).await {
            Ok(state) => state,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }

    /// Looks at a topic. One that is missing is created first, if the configuration says so.
    async fn existing(&self, topic: &str, administrator: &Administrator) -> Result<TopicState, String> {
        match self.topic_state(topic).await {
            Err(error) if topic::is_missing(&error) && self.config.create_topic.is_some() => {
                administrator.create(topic, &self.config).await?;
                self.topic_state(topic).await.map_err(|error| reason_of(&error))
            }
            state => state.map_err(|error| reason_of(&error)),
        }
    }

    /// Looks at the topics and their settings.
    async fn look(&self) -> Result<TopicSettings, String> {
        let administrator = Administrator::new(&client::common(&self.config), Arc::clone(&self.health), LOOK);
        let administrator = administrator.map_err(|error| reason_of(&error))?;
        let state = self.existing(&self.config.topic, &administrator).await?;
        let settings = administrator.settings(&self.config, &state).await.unwrap_or_else(|reason| {
            warn!(reason, "kafka topic settings not checked");
            TopicSettings::unknown()
        });
        for risk in &settings.risks {
            let (setting, value, remedy) = (risk.setting, &risk.value, &risk.remedy);
            warn!(setting, value, remedy, "kafka topic can lose data");
        }
        if let Some(reason) = state.failure(settings.min_in_sync)
            && settings.refusal.is_none()
        {
            return Err(reason);
        }
        if let Some(topic) = &self.config.dead_letter_topic
            && let Err(reason) = self.existing(topic, &administrator).await
        {
            let remedy = "create it, or configure queue.kafka.create_topic, and restart the relay";
            warn!(
                topic,
                reason, remedy, "kafka dead-letter topic unavailable; rejected input goes to rejected.ndjson"
            );
            self.has_no_dead_letters.store(true, Ordering::Release);
        }
        Ok(settings)
    }

    /// Joins the consumer group. To be called once.
    pub(crate) fn read(&self) -> Result<KafkaReader, KafkaOpenError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let reading = Arc::new(ReaderState {
            topic: self.config.topic.clone(),
            partitions: Arc::clone(&self.partitions),
            health: Arc::clone(&self.health),
            metrics: self.metrics.clone(),
            events: sender,
            fetched: Mutex::default(),
            wall_clock: self.wall_clock,
            session_timeout: self.config.session_timeout,
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            sent: Mutex::default(),
            is_reassigned: AtomicBool::new(false),
        });
        let settings = client::of_consumer(&self.config);
        let consumer: BaseConsumer<Callbacks> = settings
            .create_with_context(Callbacks(Arc::clone(&reading)))
            .map_err(|error| unusable(&error))?;
        consumer.subscribe(&[&self.config.topic]).map_err(|error| unusable(&error))?;
        let not_started = |error: std::io::Error| KafkaOpenError::Client(error.to_string());
        let consumer = Arc::new(consumer);
        let committer = Committer::start(Arc::clone(&consumer)).map_err(not_started)?;
        let for_thread = Arc::clone(&reading);
        let thread = std::thread::Builder::new().name("kafka".to_owned());
        let thread = thread
            .spawn(move || reader::run_to_its_end(&consumer, committer, &for_thread))
            .map_err(not_started)?;
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&reading), thread));
        Ok(KafkaReader { events, partitions: Arc::clone(&self.partitions), reading })
    }

    /// Maximum size of a message.
    pub(crate) fn max_message_bytes(&self) -> usize {
        let largest = self.settings.get().and_then(|settings| settings.largest);
        usize::try_from(largest.unwrap_or(self.config.producer.max_message_bytes)).unwrap_or(usize::MAX)
    }

    /// Writes messages and waits until each is acknowledged or has failed. Returns the failures, by the index of the message.
    pub(crate) async fn write(&self, messages: &[TopicMessage]) -> Vec<(usize, WriteError)> {
        if let Some(reason) = self.health.write_failure() {
            let failure = WriteError::Unavailable(reason);
            return (0..messages.len()).map(|index| (index, failure.clone())).collect();
        }
        let records = messages.iter().map(|message| OutgoingRecord {
            topic: &self.config.topic,
            key: message.key.as_ref().map(String::as_bytes),
            value: &message.value,
            headers: message.headers.encoded.clone(),
            timestamp: message.headers.timestamp,
        });
        let failures = self.writer.write(records).await;
        let unavailable = failures.iter().find_map(|(_, failure)| match failure {
            WriteError::Unavailable(reason) => Some(reason),
            WriteError::TooLarge => None,
        });
        if let Some(reason) = unavailable {
            self.health.write_failed(reason);
        }
        failures
    }

    /// Holds commits back until the returned guard is dropped.
    pub(crate) fn dead_letter_in_progress(&self) -> DeadLetterInProgress {
        self.partitions.dead_letters.fetch_add(1, Ordering::AcqRel);
        DeadLetterInProgress(Arc::clone(&self.partitions))
    }

    /// Writes an entry to the dead-letter topic. Returns `false` if it was not written.
    pub(crate) async fn write_dead_letter(
        &self,
        headers: &[(&str, String)],
        value: &[u8],
        time: SystemTime,
    ) -> bool {
        let Some(topic) = &self.config.dead_letter_topic else { return false };
        // A write to a topic that is missing would only fail after the whole time for a write, and hold commits back for so long.
        if self.has_no_dead_letters.load(Ordering::Acquire) || self.health.write_failure().is_some() {
            return false;
        }
        let record = OutgoingRecord {
            topic,
            key: None,
            value,
            headers: owned_headers(headers.iter().map(|(key, value)| (*key, value.as_bytes()))),
            timestamp: millis(time),
        };
        self.writer.write(std::iter::once(record)).await.is_empty()
    }

    pub(crate) fn state(&self) -> QueueState {
        let age = |time: i64| millis((self.wall_clock)()).saturating_sub(time);
        let oldest = self.partitions.oldest().map_or(0, |time| u64::try_from(age(time)).unwrap_or_default());
        QueueState {
            kept_bytes: self.partitions.open_bytes(),
            // The log is the brokers', and so is its bound.
            capacity_bytes: i64::MAX.unsigned_abs(),
            oldest: Duration::from_millis(oldest),
            failure: self.health.failure(),
            full: false,
        }
    }

    #[expect(clippy::unused_self, reason = "as the other queues")]
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        RETRY_AFTER_SECONDS
    }

    /// Commits what is resolved, leaves the group, and waits for the last acknowledgements. Takes as long as the members of the group
    /// need to join again, if a rebalance is in progress.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (writer, write_timeout) = (Arc::clone(&self.writer), self.write_timeout);
        let closed = spawn_blocking(move || {
            writer.flush(write_timeout);
            reading.is_none_or(|(reading, thread)| {
                reading.stopped.store(true, Ordering::Release);
                reading.closed.store(true, Ordering::Release);
                thread.join().is_ok()
            })
        });
        if !closed.await.unwrap_or(false) {
            warn!("kafka reader panicked");
        }
    }
}

// === impl KafkaReader ===

impl KafkaReader {
    /// Returns the next event; `None` after the reading has ended.
    pub(crate) async fn next(&mut self) -> Option<ReaderEvent> {
        self.events.recv().await
    }

    /// Says how many bytes of what was read are held for their counterparts.
    pub(crate) fn hold(&self, bytes: usize) {
        self.partitions.held_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Stops reading; what was read and is not resolved stays in the topic. The worker stays a member of its group, so that
    /// exports in progress can still be committed.
    pub(crate) fn give_back(self) {
        self.reading.stopped.store(true, Ordering::Release);
    }
}

impl Drop for DeadLetterInProgress {
    fn drop(&mut self) {
        self.0.dead_letters.fetch_sub(1, Ordering::AcqRel);
    }
}

fn unusable(error: &KafkaError) -> KafkaOpenError {
    KafkaOpenError::Client(reason_of(error))
}
