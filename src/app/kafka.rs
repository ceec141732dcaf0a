//! Wiring of `queue.storage: kafka`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{StartError, wall_clock};
use crate::config::{Config, QueueConfig};
use crate::exporter::{Export, RejectSink};
use crate::processor::{Lanes, Work, run_lanes};
use crate::queue::{KafkaOpenError, KafkaQueue, KafkaReader, Queue, TopicCheck};
use crate::rejected::{DeadLetter, DeadLetters, RejectedLines};
use crate::telemetry::Metrics;

/// Part of `server.request_timeout` that is left for the response after a write has failed.
const RESPOND: Duration = Duration::from_secs(1);

/// The shared queue before the relay starts.
pub(super) struct SharedQueue {
    queue: Arc<KafkaQueue>,
    /// Present if the relay exports.
    reader: Option<KafkaReader>,
}

// === impl SharedQueue ===

impl SharedQueue {
    /// Creates the clients, if this is the queue that is configured.
    pub(super) fn new(config: &Config, metrics: Metrics) -> Result<Option<Self>, StartError> {
        let Some(kafka) = config.queue.shared() else { return Ok(None) };
        let queue = KafkaQueue::open(kafka, write_timeout(config), wall_clock, metrics)?;
        Ok(Some(Self { queue: Arc::new(queue), reader: None }))
    }

    /// Returns the store of rejected input: the dead-letter topic, if there is one, else the file.
    pub(super) fn rejected(&self, config: &Config, metrics: &Metrics) -> RejectedLines {
        let QueueConfig { directory, rejected_max_size, .. } = &config.queue;
        let file = || RejectedLines::new(directory, *rejected_max_size, metrics.clone());
        match config.queue.shared().and_then(|kafka| kafka.dead_letter_topic.as_ref()) {
            Some(_) => {
                file().in_topic(DeadLetterTopic { queue: Arc::clone(&self.queue), file: Arc::new(file()) })
            }
            None => file(),
        }
    }

    /// Checks the topic and joins the consumer group.
    pub(super) async fn open(&mut self, config: &Config) -> Result<(), StartError> {
        if let TopicCheck::Refused(reason) = self.queue.check_topic().await {
            return Err(KafkaOpenError::Refused(reason).into());
        }
        // The relay starts without brokers, too, and is ready when they are.
        self.reader = config.queue.role().exports().then(|| self.queue.read()).transpose()?;
        Ok(())
    }

    pub(super) fn queue(&self) -> Queue {
        Queue::Kafka(Arc::clone(&self.queue))
    }

    /// Starts the processors of the partitions, or a task that only waits for the drain.
    pub(super) fn start(
        self,
        config: &Config,
        (work, exports): (UnboundedReceiver<Vec<Work>>, UnboundedSender<Vec<Export>>),
        rejects: Arc<dyn RejectSink>,
        metrics: &Metrics,
        drain: CancellationToken,
    ) -> JoinHandle<()> {
        let Self { queue, reader } = self;
        tokio::spawn(queue.watch());
        let Some(reader) = reader else {
            return tokio::spawn(async move {
                drain.cancelled().await;
                drop((work, exports));
            });
        };
        let lanes = Lanes::new(&config.processors.span_events, rejects, metrics.clone());
        tokio::spawn(run_lanes(lanes, reader, work, exports, metrics.inspector.clone(), drain))
    }
}

/// Returns the reason that the topic cannot be used, after trying.
pub(crate) async fn unreachable(config: &Config) -> Option<String> {
    let kafka = config.queue.shared()?;
    match KafkaQueue::open(kafka, write_timeout(config), wall_clock, Metrics::new()) {
        Err(error) => Some(error.to_string()),
        Ok(queue) => match queue.check_topic().await {
            TopicCheck::Usable => None,
            TopicCheck::Refused(reason) | TopicCheck::Unavailable(reason) => {
                Some(format!("queue.kafka: {reason}"))
            }
        },
    }
}

/// Returns the time for a write, which fails early enough for a response within `server.request_timeout`.
fn write_timeout(config: &Config) -> Duration {
    let whole = config.server.request_timeout;
    whole.saturating_sub(RESPOND.min(whole / 4)).max(Duration::from_millis(10))
}

/// Writes rejected input to the topic; what cannot be written to it, to the file.
struct DeadLetterTopic {
    queue: Arc<KafkaQueue>,
    file: Arc<RejectedLines>,
}

// === impl DeadLetterTopic ===

impl DeadLetters for DeadLetterTopic {
    fn keep(&self, time: SystemTime, entries: Vec<DeadLetter>) -> JoinHandle<()> {
        let (queue, file) = (Arc::clone(&self.queue), Arc::clone(&self.file));
        // From now on, and not only from when the task runs.
        let written = queue.dead_letter_in_progress();
        tokio::spawn(async move {
            let mut left = Vec::new();
            for entry in entries {
                if !queue.write_dead_letter(&entry.headers(time), &entry.input, time).await {
                    left.push(entry);
                }
            }
            let append = move || drop(file.write(time, left.iter().map(DeadLetter::as_rejection)));
            if let Err(failure) = tokio::task::spawn_blocking(append).await {
                std::panic::resume_unwind(failure.into_panic());
            }
            drop(written);
        })
    }
}
