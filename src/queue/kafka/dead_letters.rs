//! Reading the dead-letter topic, for `spanrelay replay`.
//!
//! In: the entries that no earlier run has committed, up to the end of the topic at the start. Out: batches of them, each of
//! which is committed once it was sent. Promises: an entry is not committed before its batch is; what is appended meanwhile
//! is left for the next run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::KafkaOpenError;
use super::client::{of_consumer, reason_of};
use super::message::readable;
use crate::config::KafkaConfig;

/// Size at which a batch is complete, in bytes.
const BATCH_BYTES: usize = 16 << 20;
/// Time without a record after which the brokers count as away.
const SILENCE: Duration = Duration::from_secs(30);
/// Time for one request to the brokers.
const WAIT: Duration = Duration::from_secs(10);

/// Entries of the dead-letter topic.
pub(crate) struct DeadLetterReader {
    consumer: BaseConsumer,
    topic: String,
    /// Next offset of each partition that has more, and where it ends.
    left: BTreeMap<i32, (i64, i64)>,
    /// Offsets after the last batch.
    read: BTreeMap<i32, i64>,
}

/// An entry: its headers and its value.
pub(crate) type DeadLetterEntry = (BTreeMap<String, String>, Vec<u8>);

// === impl DeadLetterReader ===

impl DeadLetterReader {
    /// Finds out what is in the topic. Blocks.
    pub(crate) fn open(config: &KafkaConfig) -> Result<Self, KafkaOpenError> {
        let unusable = |error: KafkaError| KafkaOpenError::Client(reason_of(&error));
        let Some(topic) = config.dead_letter_topic.clone() else {
            return Err(KafkaOpenError::Client("dead_letter_topic is not set".to_owned()));
        };
        let mut settings = of_consumer(config);
        settings.set("group.id", format!("{}-replay", config.group_id)).remove("group.instance.id");
        let consumer: BaseConsumer = settings.remove("statistics.interval.ms").create().map_err(unusable)?;
        let metadata = consumer.fetch_metadata(Some(&topic), WAIT).map_err(unusable)?;
        let partitions = metadata.topics().iter().flat_map(|known| known.partitions());
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted.add_partition(&topic, partition.id());
        }
        let committed = consumer.committed_offsets(wanted.clone(), WAIT).map_err(unusable)?;
        let mut left = BTreeMap::new();
        for element in committed.elements() {
            let partition = element.partition();
            let (first, end) = consumer.fetch_watermarks(&topic, partition, WAIT).map_err(unusable)?;
            let next = element.offset().to_raw().unwrap_or(first).max(first);
            if next < end {
                left.insert(partition, (next, end));
                let set = wanted.set_partition_offset(&topic, partition, Offset::Offset(next));
                set.map_err(unusable)?;
            }
        }
        consumer.assign(&wanted).map_err(unusable)?;
        Ok(Self { consumer, topic, left, read: BTreeMap::new() })
    }

    /// Returns the next entries; none at the end. Blocks.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<DeadLetterEntry>, KafkaOpenError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut last = Instant::now();
        while !self.left.is_empty() && bytes < BATCH_BYTES {
            let message = match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // Its last offsets hold no records.
                    self.left.remove(&partition);
                    continue;
                }
                _ if last.elapsed() > SILENCE => {
                    return Err(KafkaOpenError::Client("the brokers do not respond".to_owned()));
                }
                _ => continue,
            };
            last = Instant::now();
            let (partition, offset) = (message.partition(), message.offset());
            let Some(&(_, end)) = self.left.get(&partition) else { continue };
            if offset + 1 >= end {
                self.left.remove(&partition);
            }
            if offset < end {
                self.read.insert(partition, offset + 1);
                let value = message.payload().unwrap_or_default().to_vec();
                bytes += value.len();
                let text =
                    |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                let headers = readable(|| {
                    let headers = message.headers()?.iter();
                    Some(headers.map(|header| (header.key.to_owned(), text(header.value))).collect())
                });
                batch.push((headers.unwrap_or_default(), value));
            }
        }
        Ok(batch)
    }

    /// Has the next run begin after the last batch. Blocks.
    pub(crate) fn commit(&self) -> Result<(), KafkaOpenError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &self.read {
            // The offset is never negative, which is all that can be wrong with it.
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).ok();
        }
        let committed = self.consumer.commit(&list, CommitMode::Sync);
        committed.map_err(|error| KafkaOpenError::Client(reason_of(&error)))
    }
}
