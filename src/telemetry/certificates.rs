//! Expiry of the relay's certificates, as a metric.
//!
//! In: the end of validity of each certificate, by its configuration key. Out: the remaining time whenever metrics are rendered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, Opts, Registry};

/// Certificates in use, by configuration key. Clones are the same set.
#[derive(Clone)]
pub(crate) struct Certificates {
    in_use: Arc<Mutex<Option<InUse>>>,
    remaining: GaugeVec,
}

struct InUse {
    /// Unix time.
    ends: BTreeMap<String, i64>,
    wall_clock: fn() -> SystemTime,
}

// === impl Certificates ===

impl Certificates {
    pub(super) fn new(registry: &Registry) -> Self {
        let opts = Opts::new(
            "spanrelay_certificate_expiry_seconds",
            "Time until the certificate of a configuration key expires, in seconds; negative once it has expired.",
        );
        let remaining = GaugeVec::new(opts, &["key"]).expect("name and label are constants");
        registry.register(Box::new(remaining.clone())).expect("metric names are unique");
        Self { in_use: Arc::default(), remaining }
    }

    /// Sets the certificates, each with the end of its validity in Unix time.
    pub(crate) fn set(&self, ends: BTreeMap<String, i64>, wall_clock: fn() -> SystemTime) {
        self.remaining.reset();
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = Some(InUse { ends, wall_clock });
    }

    pub(super) fn observe(&self) {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(InUse { ends, wall_clock }) = &*in_use else { return };
        let now = wall_clock().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        for (key, end) in ends {
            self.remaining.with_label_values(&[key.as_str()]).set(*end as f64 - now);
        }
    }
}
