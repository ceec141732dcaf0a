//! Writes records: each is acknowledged by all in-sync replicas, or has failed within the time allowed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use tokio::sync::oneshot;

use super::client::{log, reason_of, reason_of_code};
use super::health::Health;
use super::topic::{self, TopicState};

/// Longest wait for a report, and so for the end of the thread that waits. rust-rdkafka 0.39 waits for whole milliseconds and then
/// spins until the rest has passed. While nothing is reported, the system wakes the thread later than this rest ends.
const REPORT_WAIT: Duration = Duration::from_micros(100_050);

/// A record that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// The brokers will never accept it.
    TooLarge,
    Unavailable(Arc<str>),
}

/// A record as librdkafka needs it.
pub(super) struct OutgoingRecord<'a> {
    pub(super) topic: &'a str,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) headers: OwnedHeaders,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
}

/// A producer, replaced when an error was fatal for it.
pub(super) struct TopicWriter {
    config: Mutex<ClientConfig>,
    producer: RwLock<Arc<PolledProducer>>,
    health: Arc<Health>,
}

/// A producer, with a thread that receives its reports. Replaces rust-rdkafka's `ThreadedProducer`, which spins for up to one of each
/// 100 milliseconds.
struct PolledProducer {
    producer: Arc<BaseProducer<Deliveries>>,
    is_dropped: Arc<AtomicBool>,
    /// Present until the producer is dropped.
    thread: Option<JoinHandle<()>>,
}

/// Records that are written together.
struct RecordBatch {
    /// Records without a report, and one while records are being added.
    left: AtomicUsize,
    failures: Mutex<Vec<(usize, WriteError)>>,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

/// A record's place in its batch.
struct Ticket {
    batch: Arc<RecordBatch>,
    index: usize,
}

struct Deliveries(Arc<Health>);

// === impl TopicWriter ===

impl TopicWriter {
    pub(super) fn new(config: ClientConfig, health: Arc<Health>) -> KafkaResult<Self> {
        let producer = RwLock::new(Arc::new(PolledProducer::start(&config, &health)?));
        Ok(Self { config: Mutex::new(config), producer, health })
    }

    /// Writes records and waits for all reports. Returns the failures by the index of the record.
    pub(super) async fn write<'a>(
        &self,
        records: impl ExactSizeIterator<Item = OutgoingRecord<'a>>,
    ) -> Vec<(usize, WriteError)> {
        let (done, ended) = oneshot::channel();
        let batch = Arc::new(RecordBatch {
            left: AtomicUsize::new(records.len() + 1),
            failures: Mutex::default(),
            done: Mutex::new(Some(done)),
        });
        match self.producer() {
            Ok(polled) => send(&polled.producer, &batch, records),
            Err(error) => {
                let failure = WriteError::Unavailable(reason_of(&error).into());
                (0..records.len()).for_each(|index| batch.ended(index, Some(failure.clone())));
            }
        }
        batch.one_less();
        // The sender lives in the batch until it is used.
        ended.await.ok();
        std::mem::take(&mut *batch.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the state of a topic. Blocks.
    pub(super) fn topic_state(&self, topic: &str, timeout: Duration) -> KafkaResult<TopicState> {
        topic::state(self.producer()?.producer.client(), topic, timeout)
    }

    fn producer(&self) -> KafkaResult<Arc<PolledProducer>> {
        if self.health.take_fatal() {
            self.replace()?;
        }
        Ok(Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Bounds batches, which a topic accepts or rejects as a whole.
    pub(super) fn limit_batches(&self, bytes: u64) -> KafkaResult<()> {
        self.config().set("batch.size", bytes.to_string());
        self.replace()
    }

    fn replace(&self) -> KafkaResult<()> {
        let fresh = Arc::new(PolledProducer::start(&self.config(), &self.health)?);
        *self.producer.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn config(&self) -> MutexGuard<'_, ClientConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the reports of all records. Blocks.
    pub(super) fn flush(&self, timeout: Duration) {
        let producer = Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner));
        // What is not acknowledged by then was not confirmed to its sender either.
        producer.producer.flush(timeout).ok();
    }
}

fn send<'a>(
    producer: &BaseProducer<Deliveries>,
    batch: &Arc<RecordBatch>,
    records: impl ExactSizeIterator<Item = OutgoingRecord<'a>>,
) {
    let mut full = None;
    for (index, OutgoingRecord { topic, key, value, headers, timestamp }) in records.enumerate() {
        if let Some(failure) = &full {
            batch.ended(index, Some(WriteError::clone(failure)));
            continue;
        }
        let ticket = Box::new(Ticket { batch: Arc::clone(batch), index });
        let mut record =
            BaseRecord::with_opaque_to(topic, ticket).payload(value).headers(headers).timestamp(timestamp);
        record.key = key;
        if let Err((error, _)) = producer.send(record) {
            let failure = failure_of(&error);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                full = Some(failure.clone());
            }
            batch.ended(index, Some(failure));
        }
    }
}

fn failure_of(error: &KafkaError) -> WriteError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => WriteError::TooLarge,
        Some(code) => WriteError::Unavailable(reason_of_code(code).into()),
        None => WriteError::Unavailable(error.to_string().into()),
    }
}

// === impl PolledProducer ===

impl PolledProducer {
    fn start(config: &ClientConfig, health: &Arc<Health>) -> KafkaResult<Self> {
        let producer: BaseProducer<_> = config.create_with_context(Deliveries(Arc::clone(health)))?;
        let (producer, is_dropped) = (Arc::new(producer), Arc::<AtomicBool>::default());
        let (polled, is_ending) = (Arc::clone(&producer), Arc::clone(&is_dropped));
        let thread = Builder::new().name("kafka-reports".to_owned()).spawn(move || {
            while !is_ending.load(Ordering::Acquire) {
                polled.poll(REPORT_WAIT);
            }
        });
        let thread = thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { producer, is_dropped, thread: Some(thread) })
    }
}

impl Drop for PolledProducer {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            thread.join().ok();
        }
    }
}

// === impl RecordBatch ===

impl RecordBatch {
    fn ended(&self, index: usize, failure: Option<WriteError>) {
        if let Some(failure) = failure {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((index, failure));
        }
        self.one_less();
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // Nobody waits for a batch whose request was given up.
            done.send(()).ok();
        }
    }
}

// === impl Deliveries ===

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.reported(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let failure = result.as_ref().err().map(|(error, _)| failure_of(error));
        ticket.batch.ended(ticket.index, failure);
    }
}
