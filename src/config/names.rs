//! Names of enum values, for parsing and printing.

use tracing::Level;

use super::{Compression, Delivery, Encoding, LogFormat, LogsConfig, Storage, Sync, Unmatched};

impl Unmatched {
    pub(super) const NAMES: [(&str, Self); 3] =
        [("forward_log", Self::ForwardLog), ("carrier_span", Self::CarrierSpan), ("drop", Self::Drop)];
}

impl Storage {
    pub(super) const NAMES: [(&str, Self); 2] = [("disk", Self::Disk), ("memory", Self::Memory)];
}

impl Sync {
    pub(super) const NAMES: [(&str, Self); 3] =
        [("always", Self::Always), ("interval", Self::Interval), ("never", Self::Never)];
}

impl Encoding {
    pub(super) const NAMES: [(&str, Self); 2] = [("json", Self::Json), ("protobuf", Self::Protobuf)];
}

impl Delivery {
    pub(super) const NAMES: [(&str, Self); 2] = [("single", Self::Single), ("batch", Self::Batch)];
}

impl Compression {
    pub(super) const NAMES: [(&str, Self); 3] =
        [("none", Self::None), ("gzip", Self::Gzip), ("zstd", Self::Zstd)];
}

impl LogsConfig {
    pub(super) const LEVELS: [(&str, Level); 5] = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
}

impl LogFormat {
    pub(super) const NAMES: [(&str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

/// Returns the name of `value`; each table above names every value of its type.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| *name)
}
