//! Declarations of the sections, and the checks within each.

mod server;

mod receiver;

mod processors;

mod attributes;

mod queue;

mod kafka;

mod exporters;

mod grpc;

mod telemetry;

pub(crate) use attributes::AttributesConfig;
pub use exporters::Encoding;
pub(crate) use exporters::{
    BatchConfig, Compression, DeliveryMode, ExporterConfig, ExportersConfig, GRPC_PORT, Protocol,
    RetryConfig, SignalExport, TlsClientConfig,
};
#[cfg(feature = "kafka")]
pub(crate) use kafka::{GroupProtocol, KafkaAuthConfig, KafkaCompression, KafkaConfig, SaslMechanism};
pub(crate) use processors::{ProcessorsConfig, SpanEventsConfig, Unmatched};
pub(crate) use queue::{QueueConfig, Storage, Sync};
pub(crate) use receiver::{AuthConfig, HeaderSecret, RateLimitConfig, ReceiverEndpoint};
pub(crate) use server::{ServerConfig, TlsServerConfig};
pub(crate) use telemetry::{LogFormat, LogsConfig, TelemetryConfig, TracesConfig};
