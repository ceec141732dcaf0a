//! The topic: does it exist, can it be written, and do its settings keep what is accepted?

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::Timeout;

use super::client::{Reporting, reason_of, reason_of_code};
use super::health::Health;
use crate::config::KafkaConfig;

/// Data is at risk when the topic deletes it before this age: a downstream may be away for a day.
const SHORTEST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Size that a record takes in the log beyond its own.
const BATCH_OVERHEAD: u64 = 1024;

/// State of the topic, as its metadata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicState {
    pub(super) partitions: usize,
    /// Least number of replicas of a partition.
    pub(super) replicas: usize,
    /// Least number of in-sync replicas of a partition.
    pub(super) in_sync: usize,
    pub(super) without_leader: usize,
}

/// A setting of the topic that can lose accepted data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRisk {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) remedy: String,
}

/// Settings of the topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TopicSettings {
    pub(super) min_in_sync: usize,
    /// Size of the largest record that the topic accepts, if that is less than the configured one.
    pub(super) largest: Option<u64>,
    pub(super) risks: Vec<TopicRisk>,
    /// Reason that the topic must not be used.
    pub(super) refusal: Option<String>,
}

/// Reads the state of a topic. Blocks.
pub(super) fn state<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<TopicState, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), Timeout::After(timeout))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let found = found.ok_or_else(unknown)?;
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let partitions = found.partitions();
    Ok(TopicState {
        partitions: partitions.len(),
        replicas: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or_default(),
        in_sync: partitions.iter().map(|partition| partition.isr().len()).min().unwrap_or_default(),
        without_leader: partitions.iter().filter(|partition| partition.leader() < 0).count(),
    })
}

/// Returns `true` if the error says that the topic does not exist.
pub(super) fn is_missing(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic))
}

// === impl TopicSettings ===

impl TopicSettings {
    /// Settings of which nothing is known, because they may not be read.
    pub(super) fn unknown() -> Self {
        Self { min_in_sync: 1, ..Self::default() }
    }
}

// === impl TopicState ===

impl TopicState {
    /// Returns the reason that nothing can be written now.
    pub(super) fn failure(&self, min_in_sync: usize) -> Option<String> {
        if self.without_leader > 0 {
            return Some(format!("{} of {} partitions have no leader", self.without_leader, self.partitions));
        }
        (self.in_sync < min_in_sync).then(|| {
            format!("{} replicas are in sync, and min.insync.replicas is {min_in_sync}", self.in_sync)
        })
    }
}

/// The administrator's client.
pub(super) struct Administrator {
    client: AdminClient<Reporting>,
    options: AdminOptions,
}

// === impl Administrator ===

impl Administrator {
    pub(super) fn new(
        config: &ClientConfig,
        health: std::sync::Arc<Health>,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let client = config.create_with_context(Reporting(health))?;
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        Ok(Self { client, options })
    }

    /// Creates a topic, if the configuration says so and it does not exist.
    pub(super) async fn create(&self, name: &str, config: &KafkaConfig) -> Result<(), String> {
        let Some(create) = &config.create_topic else { return Ok(()) };
        let (Ok(partitions), Ok(replicas)) =
            (i32::try_from(create.partitions), i32::try_from(create.replication_factor))
        else {
            return Ok(());
        };
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", "delete")
            .set("unclean.leader.election.enable", "false");
        if replicas >= 3 {
            topic = topic.set("min.insync.replicas", "2");
        }
        let largest = (config.producer.max_message_bytes + BATCH_OVERHEAD).max(1_048_588).to_string();
        topic = topic.set("max.message.bytes", &largest);
        let created = self.client.create_topics([&topic], &self.options).await;
        match created.map_err(|error| reason_of(&error))?.pop() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                Err(format!("the topic {name} cannot be created: not authorised, Create is needed"))
            }
            Some(Err((_, code))) => Err(format!("the topic cannot be created: {}", reason_of_code(code))),
        }
    }

    /// Reads the settings of the topic and judges them.
    pub(super) async fn settings(
        &self,
        config: &KafkaConfig,
        state: &TopicState,
    ) -> Result<TopicSettings, String> {
        let resource = ResourceSpecifier::Topic(&config.topic);
        let described = self.client.describe_configs([&resource], &self.options).await;
        let described = described.map_err(|error| reason_of(&error))?;
        let Some(Ok(resource)) = described.into_iter().next() else {
            return Err("the settings of the topic cannot be read".to_owned());
        };
        let settings = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        Ok(judge(&settings.collect(), state, config.producer.max_message_bytes))
    }
}

fn judge(settings: &HashMap<String, String>, state: &TopicState, max_message_bytes: u64) -> TopicSettings {
    let text = |name: &str| settings.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse::<i64>().ok();
    let mut risks = Vec::new();
    let mut risk = |setting: &'static str, value: String, remedy: String| {
        risks.push(TopicRisk { setting, value, remedy })
    };
    let min_in_sync =
        number("min.insync.replicas").and_then(|number| usize::try_from(number).ok()).unwrap_or(1);
    if min_in_sync < 2 {
        let remedy = "set min.insync.replicas of the topic to 2: with 1, a 2xx means that a single broker has the data";
        risk("min.insync.replicas", min_in_sync.to_string(), remedy.to_owned());
    }
    if state.replicas < 3 {
        let remedy = "give the topic a replication factor of 3, so that one broker can be away";
        risk("replication.factor", state.replicas.to_string(), remedy.to_owned());
    }
    if text("unclean.leader.election.enable") == "true" {
        let remedy = "set unclean.leader.election.enable of the topic to false: a replica that was not in sync loses data";
        risk("unclean.leader.election.enable", "true".to_owned(), remedy.to_owned());
    }
    let shortest = i64::try_from(SHORTEST_RETENTION.as_millis()).unwrap_or(i64::MAX);
    if let Some(millis) = number("retention.ms").filter(|millis| (0..shortest).contains(millis)) {
        let remedy = "set retention.ms of the topic to more than the longest outage of the downstream";
        risk("retention.ms", millis.to_string(), remedy.to_owned());
    }
    if let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0) {
        let remedy =
            "unset retention.bytes of the topic, or let it cover the longest outage of the downstream";
        risk("retention.bytes", bytes.to_string(), remedy.to_owned());
    }
    let least = max_message_bytes.saturating_add(BATCH_OVERHEAD);
    let largest = number("max.message.bytes")
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes < least);
    if let Some(bytes) = largest {
        let remedy = format!(
            "set max.message.bytes of the topic to at least {least}, or lower queue.kafka.producer.max_message_bytes"
        );
        risk("max.message.bytes", bytes.to_string(), remedy);
    }
    let largest = largest.map(|bytes| bytes.saturating_sub(BATCH_OVERHEAD));
    let is_compacted = text("cleanup.policy").split(',').any(|policy| policy.trim() == "compact");
    let refusal = is_compacted.then(|| {
        "cleanup.policy of the topic is compact, which deletes records with the same key, the trace id: set it to delete"
            .to_owned()
    });
    TopicSettings { min_in_sync, largest, risks, refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: TopicState = TopicState { partitions: 3, replicas: 3, in_sync: 3, without_leader: 0 };

    fn judged(changes: &[(&str, &str)], state: &TopicState) -> TopicSettings {
        let mut settings: HashMap<String, String> = [
            ("cleanup.policy", "delete"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "-1"),
            ("max.message.bytes", "1048588"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        settings.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        judge(&settings, state, 1_000_000)
    }

    #[test]
    fn a_topic_that_keeps_everything_has_no_risks() {
        assert_eq!(judged(&[], &STATE), TopicSettings { min_in_sync: 2, ..TopicSettings::default() });
        assert_eq!(judged(&[("retention.ms", "-1")], &STATE).risks, []);
    }

    #[test]
    fn each_setting_that_can_lose_data_is_named_and_compaction_is_refused() {
        for (name, value) in [
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
            ("retention.ms", "3600000"),
            ("retention.bytes", "1000000"),
            ("max.message.bytes", "1000000"),
        ] {
            let risks = judged(&[(name, value)], &STATE).risks;
            assert_eq!(
                risks.iter().map(|risk| (risk.setting, &*risk.value)).collect::<Vec<_>>(),
                [(name, value)]
            );
        }
        let alone = TopicState { replicas: 1, in_sync: 1, ..STATE };
        assert_eq!(judged(&[], &alone).risks[0].setting, "replication.factor");
        for policy in ["compact", "compact,delete", "delete, compact"] {
            assert!(judged(&[("cleanup.policy", policy)], &STATE).refusal.unwrap().contains("compact"));
        }
    }

    #[test]
    fn a_topic_without_enough_replicas_or_leaders_cannot_be_written() {
        assert_eq!(STATE.failure(2), None);
        assert!(TopicState { in_sync: 1, ..STATE }.failure(2).unwrap().contains("min.insync.replicas"));
        assert_eq!(TopicState { in_sync: 1, ..STATE }.failure(1), None);
        assert!(TopicState { without_leader: 1, ..STATE }.failure(1).unwrap().contains("no leader"));
    }
}
