//! Settings of librdkafka, and what its clients report.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::debug;

use super::health::Health;
use crate::config::{
    GroupProtocol, KafkaAuthConfig, KafkaCompression, KafkaConfig, SaslMechanism, TlsClientConfig,
};

/// Bytes of records that librdkafka may hold before they are acknowledged, in KiB.
const WRITE_BUFFER_KIB: u32 = 64 * 1024;
/// Bytes of records that librdkafka may read ahead, in KiB.
const READ_BUFFER_KIB: u32 = 4 * 1024;
/// Interval of the statistics, by which the clocks of partitions that were read to their ends advance.
pub(super) const STATISTICS_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time for which a broker withholds a response because there is nothing to read.
pub(super) const FETCH_WAIT: Duration = Duration::from_millis(100);

/// Context of a client that only reports errors.
pub(super) struct Reporting(pub(super) Arc<Health>);

/// Settings that all clients share.
pub(super) fn common(config: &KafkaConfig) -> ClientConfig {
    let KafkaConfig { brokers, client_id, tls, auth, .. } = config;
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", brokers.join(","))
        .set("client.id", client_id)
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true")
        .set("topic.metadata.refresh.interval.ms", "10000")
        // A broker that creates a topic because it was asked for gives it its own defaults: one partition, one replica.
        .set("allow.auto.create.topics", "false")
        .set("security.protocol", protocol(tls.is_some(), auth));
    client.set_log_level(RDKafkaLogLevel::Warning);
    if let Some(TlsClientConfig { ca_file, cert_file, key_file }) = tls {
        match ca_file {
            Some(file) => client.set("ssl.ca.location", file.to_string_lossy()),
            None => client.set("ssl.ca.location", "probe"),
        };
        if let (Some(cert), Some(key)) = (cert_file, key_file) {
            client.set("ssl.certificate.location", cert.to_string_lossy());
            client.set("ssl.key.location", key.to_string_lossy());
        }
    }
    if let Some(sasl) = &auth.sasl {
        let password = sasl.password.as_ref().map_or("", |password| password.expose());
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        client
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", password);
    }
    client
}

fn protocol(tls: bool, auth: &KafkaAuthConfig) -> &'static str {
    match (tls, auth.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    }
}

/// Settings of the producer. A record that is not acknowledged within `write_timeout` has failed.
pub(super) fn of_producer(config: &KafkaConfig, write_timeout: Duration) -> ClientConfig {
    let producer = &config.producer;
    let compression = match producer.compression {
        KafkaCompression::None => "none",
        KafkaCompression::Lz4 => "lz4",
        KafkaCompression::Snappy => "snappy",
        KafkaCompression::Zstd => "zstd",
    };
    let timeout = write_timeout.as_millis().to_string();
    let mut client = common(config);
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", &timeout)
        .set("request.timeout.ms", &timeout)
        .set("socket.timeout.ms", &timeout)
        .set("linger.ms", producer.linger.as_millis().to_string())
        .set("compression.type", compression)
        // The relay itself rejects units that are too large, and its dead letters may be larger.
        .set("message.max.bytes", "1000000000")
        .set("batch.size", producer.max_message_bytes.to_string())
        .set("queue.buffering.max.kbytes", WRITE_BUFFER_KIB.to_string())
        .set("queue.buffering.max.messages", "1000000")
        // As Java's clients: other programs that write to the topic agree about the partition of a key.
        .set("partitioner", "murmur2_random")
        // Only what failed is reported one by one; everything else is needed too, to know that it is safe.
        .set("delivery.report.only.error", "false");
    client
}

/// Settings of the consumer.
pub(super) fn of_consumer(config: &KafkaConfig) -> ClientConfig {
    let mut client = common(config);
    client
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", FETCH_WAIT.as_millis().to_string())
        .set("queued.max.messages.kbytes", READ_BUFFER_KIB.to_string())
        // Wait before the next fetch when that buffer is full. The default, a second, is longer than the buffer lasts.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.max.bytes", (8 << 20).to_string())
        .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string());
    if let Some(name) = &config.group_instance_id {
        client.set("group.instance.id", name);
    }
    match config.group_protocol {
        GroupProtocol::Classic => client
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
            .set(
                "heartbeat.interval.ms",
                (config.session_timeout.as_millis() / 5).clamp(100, 3000).to_string(),
            ),
        GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
    };
    let largest = config.producer.max_message_bytes.max(1 << 20);
    client.set("fetch.message.max.bytes", largest.to_string());
    if largest > 8 << 20 {
        client.set("fetch.max.bytes", largest.to_string());
    }
    // At least the largest response and its headers.
    client
        .set("receive.message.max.bytes", (largest.max(8 << 20) + (64 << 20)).min(2_147_483_647).to_string());
    client
}

/// Returns the reason of an error, in words that lead to its remedy.
pub(super) fn reason_of(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => reason_of_code(code),
        None => error.to_string(),
    }
}

pub(super) fn reason_of_code(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            "the topic does not exist; create it, or configure queue.kafka.create_topic".to_owned()
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "not authorised for the topic; fronts need Write, workers Read, both Describe".to_owned()
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "not authorised for the consumer group; workers need Read on it".to_owned()
        }
        RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas of the topic".to_owned()
        }
        RDKafkaErrorCode::QueueFull => "the brokers accept data more slowly than it arrives".to_owned(),
        RDKafkaErrorCode::MessageTimedOut => "the brokers did not acknowledge in time".to_owned(),
        other => other.to_string(),
    }
}

// === impl Reporting ===

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.reported(&error, reason);
    }
}

impl ConsumerContext for Reporting {}

/// Logs a line of librdkafka. What an operator must know of it is logged where it is acted upon.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    debug!(?level, facility, message, "librdkafka");
}
