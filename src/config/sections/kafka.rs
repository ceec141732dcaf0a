//! `queue.kafka`: the queue that several relays share.

use std::time::Duration;

use super::super::declare::{choice, section};
use super::super::kind::{Count, Positive, SecretText, Size, Text, Time};
use super::super::section::Section;
use super::exporters::{TlsClientConfig, check_pair};

/// Maximum of `session_timeout` that a broker accepts by default (`group.max.session.timeout.ms`).
const MAX_SESSION: Duration = Duration::from_secs(30 * 60);

section! {
    /// `queue.kafka`
    pub(crate) struct KafkaConfig => check {
        /// Addresses of some brokers, each `host:port`; the others are found through them.
        brokers: Vec<Text>, required("[\"kafka-1:9092\", \"kafka-2:9092\"]");
        /// Topic of accepted data: one topic and one consumer group per deployment. Must not be compacted.
        topic: Text = "spanrelay".to_owned();
        /// Consumer group of the workers.
        group_id: Text = "spanrelay".to_owned();
        /// Name of this client in the brokers' logs and quotas.
        client_id: Text = "spanrelay".to_owned();
        /// Static membership: a name of this worker that stays the same when it restarts, so that a restart within
        /// `session_timeout` moves no partition.
        group_instance_id: Option<Text>, sample("${env:HOSTNAME}");
        /// Part of this relay: `front` accepts requests and writes them to the topic, `worker` reads, matches and exports them,
        /// `both` does both.
        role: Role = Role::Both;
        /// Creates the topic, and the one of `dead_letter_topic`, at the start if they do not exist. Without this section they must exist.
        create_topic: Option<CreateTopicConfig>;
        /// Topic of rejected input. By default each relay keeps its own in `rejected.ndjson`.
        dead_letter_topic: Option<Text>, sample("spanrelay_rejected");
        /// Settings of writes.
        producer: ProducerConfig;
        /// Time without a heartbeat after which a worker's partitions move to others.
        session_timeout: Positive = Duration::from_secs(10);
        /// Rebalance protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848, brokers from 4.0).
        group_protocol: GroupProtocol = GroupProtocol::Classic;
        /// TLS to the brokers; `tls: {}` trusts the system's authorities. Without this section connections are plaintext.
        tls: Option<TlsClientConfig>;
        /// Credentials.
        auth: KafkaAuthConfig;
    }
}

section! {
    /// `queue.kafka.create_topic`
    pub(crate) struct CreateTopicConfig {
        /// Number of partitions, which bounds the number of workers that share the load. More can be added to a topic, but then
        /// spans and log events in flight may part.
        partitions: Count = 24;
        /// Number of replicas of each partition. With 3 or more, `min.insync.replicas` of the topic is 2.
        replication_factor: Count = 3;
    }
}

section! {
    /// `queue.kafka.producer`
    pub(crate) struct ProducerConfig => check_producer {
        /// Compression of batches: `none`, `lz4`, `snappy` or `zstd`.
        compression: KafkaCompression = KafkaCompression::None;
        /// Maximum size of one record; a unit that needs a larger one is rejected alone. The topic's `max.message.bytes` must be
        /// larger by about 1 KiB.
        max_message_bytes: Size = 1_000_000;
        /// Time to wait for more records for a batch.
        linger: Time = Duration::from_millis(5);
    }
}

section! {
    /// `queue.kafka.auth`
    pub(crate) struct KafkaAuthConfig {
        /// User name and password.
        sasl: Option<SaslConfig>;
    }
}

section! {
    /// `queue.kafka.auth.sasl`
    pub(crate) struct SaslConfig => check_sasl {
        /// Mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: SaslMechanism = SaslMechanism::ScramSha512;
        /// User name.
        username: Text, required("spanrelay");
        /// Password.
        password: Option<SecretText>, required("${env:KAFKA_PASSWORD}");
    }
}

choice! {
    /// `queue.kafka.role`
    pub(crate) enum Role {
        Both = "both",
        Front = "front",
        Worker = "worker",
    }
}

choice! {
    /// `queue.kafka.producer.compression`
    pub(crate) enum KafkaCompression {
        None = "none",
        Lz4 = "lz4",
        Snappy = "snappy",
        Zstd = "zstd",
    }
}

choice! {
    /// `queue.kafka.group_protocol`
    pub(crate) enum GroupProtocol {
        Classic = "classic",
        Consumer = "consumer",
    }
}

choice! {
    /// `queue.kafka.auth.sasl.mechanism`
    pub(crate) enum SaslMechanism {
        Plain = "PLAIN",
        ScramSha256 = "SCRAM-SHA-256",
        ScramSha512 = "SCRAM-SHA-512",
    }
}

// === impl Role ===

impl Role {
    /// Returns its name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, role)| *role == self).map_or("", |(word, _)| *word)
    }

    /// Returns `true` if the relay accepts requests.
    pub(crate) fn accepts(self) -> bool {
        self != Self::Worker
    }

    /// Returns `true` if the relay exports.
    #[cfg(feature = "kafka")]
    pub(crate) fn exports(self) -> bool {
        self != Self::Front
    }
}

fn check(kafka: &mut KafkaConfig, section: &Section<'_>) {
    if section.is_unset("brokers") {
        section.missing("needs brokers, a list of addresses such as [\"kafka-1:9092\"]");
    }
    let is_address = |broker: &&String| {
        let port =
            broker.rsplit_once(':').map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        port == Some(true) && !broker.contains("://") && !broker.contains(',')
    };
    if let Some(broker) = kafka.brokers.iter().find(|broker| !is_address(broker)) {
        let shown = if broker.contains('@') { "an entry" } else { broker };
        section.problem_at("brokers", format!("{shown} is not an address; write it like kafka-1:9092"));
    }
    if kafka.dead_letter_topic.as_ref() == Some(&kafka.topic) {
        section.problem_at("dead_letter_topic", "must differ from topic");
    }
    if kafka.session_timeout > MAX_SESSION {
        section.problem_at("session_timeout", "must be at most 30m, which is the default limit of brokers");
    }
    if let Some(tls) = &kafka.tls {
        check_pair(section, "tls", tls);
    } else if kafka.auth.sasl.is_some() {
        section.note("auth.sasl without tls: credentials and data cross the network in plaintext");
    }
}

fn check_producer(producer: &mut ProducerConfig, section: &Section<'_>) {
    // librdkafka's limits of message.max.bytes.
    if !(1000..=1_000_000_000).contains(&producer.max_message_bytes) {
        section.problem_at("max_message_bytes", "must be from 1000 to 1000000000");
    }
    if producer.linger > Duration::from_secs(1) {
        section.problem_at("linger", "must be at most 1s: every response waits for it");
    }
}

fn check_sasl(_: &mut SaslConfig, section: &Section<'_>) {
    if section.is_unset("username") || section.is_unset("password") {
        section.missing("needs username and password");
    }
}
