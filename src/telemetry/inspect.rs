//! The inspector: a live view of requests, their outcomes and exports, at `/inspect`.
//!
//! In: reports of the front door, the relay, the processor's driver and the exporter.
//! Out: one page, and the JSON that it polls every second.
//! Promises: while no page is open, a report costs one load of an atomic, and nothing is copied or kept; kept data is
//! bounded in number and in bytes ([`store`]); attribute values, log bodies and the text of lines are hidden unless
//! `telemetry.inspect.show_values` is true; received data is never markup on the page ([`page`]).
//! Leaves to others: the handling of the data. Nothing waits for the inspector or depends on it.

pub(crate) mod view;

mod store;

mod summary;

mod excerpt;

pub(crate) mod page;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use self::store::Store;
use self::view::{AttemptView, Departure, Downstream, ExportState, RequestView, Values};
use crate::event::{RecordId, Signal};

/// Time after the last poll at which reporting stops. Browsers run the timers of a hidden page once a minute.
const STILL_LOOKING: Duration = Duration::from_secs(75);

/// Recipient of reports. Clones report to the same page.
#[derive(Clone)]
pub(crate) struct Inspector {
    shared: Arc<InspectorState>,
}

struct InspectorState {
    began: Instant,
    /// Wall clock time of `began`; zero until the page is configured.
    began_unix_millis: AtomicU64,
    /// End of the current observation, in milliseconds since `began`; zero if no page is open.
    looking_until: AtomicU64,
    setting: OnceLock<Setting>,
    store: Mutex<Store>,
}

/// Configuration shown on the page.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) values: Values,
    /// Maximum time that the processor holds a span.
    pub(crate) wait: Duration,
    pub(crate) receivers: Vec<view::ReceiverSetting>,
    /// Host and port of each signal's endpoint.
    pub(crate) downstream: Vec<Downstream>,
    /// URL of the front door.
    pub(crate) server: String,
    /// URL of a trace elsewhere, with `{trace_id}` in place of its id.
    pub(crate) trace_link: Option<String>,
}

/// Handle for reporting while a page is open.
pub(crate) struct Watching<'a> {
    inspector: &'a Inspector,
}

/// Reports the exports of one downstream request, attempt by attempt.
#[derive(Clone)]
pub(crate) struct ExportWatch {
    inspector: Inspector,
    /// Keys of the exports; `None` if no page was open at the start.
    exports: Option<Arc<[ExportKey]>>,
}

/// Identity of an export in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportKey(u64);

// === impl Inspector ===

impl Inspector {
    pub(crate) fn new() -> Self {
        let shared = InspectorState {
            began: Instant::now(),
            began_unix_millis: AtomicU64::new(0),
            looking_until: AtomicU64::new(0),
            setting: OnceLock::new(),
            store: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the configuration to show, and the wall clock time. Only the first call has an effect.
    pub(crate) fn configure(&self, setting: Setting, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis);
        let began = now.saturating_sub(self.shared.elapsed_millis());
        self.shared.began_unix_millis.store(began, Ordering::Relaxed);
        drop(self.shared.setting.set(setting));
    }

    /// Returns a handle for reporting, if a page is open.
    pub(crate) fn watching(&self) -> Option<Watching<'_>> {
        let until = self.shared.looking_until.load(Ordering::Relaxed);
        // Called several times per export, so the clock is read only if necessary.
        if until == 0 {
            return None;
        }
        if until > self.shared.elapsed_millis() {
            return Some(Watching { inspector: self });
        }
        // A page that opens at this moment polls again within a second.
        self.shared.looking_until.store(0, Ordering::Relaxed);
        None
    }

    /// Starts reporting exports that are about to be sent. Calls `exports` only if a page is open.
    pub(crate) fn sending<'a, I>(&self, exports: impl FnOnce() -> I) -> ExportWatch
    where
        I: Iterator<Item = (Option<RecordId>, &'a Bytes)>,
    {
        let exports = self.watching().map(|_| exports().map(|(record, bytes)| key(record, bytes)).collect());
        let watch = ExportWatch { inspector: self.clone(), exports };
        if let Some(keys) = &watch.exports {
            self.store().sending(keys);
        }
        watch
    }

    /// Records a poll of the page. Counts begin with the first one, and again with the first one after a pause, because
    /// nothing was counted in between.
    fn look(&self) {
        let now = self.shared.elapsed_millis();
        let until = self.shared.looking_until.swap(now + millis(STILL_LOOKING), Ordering::Relaxed);
        if until <= now {
            self.store().restart_counts(self.now_millis());
        }
    }

    fn now_millis(&self) -> u64 {
        self.shared.began_unix_millis() + self.shared.elapsed_millis()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A report that panicked leaves at worst one incomplete entry.
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

// === impl Watching ===

impl Watching<'_> {
    /// Returns the visibility of values.
    pub(crate) fn values(&self) -> Values {
        self.inspector.shared.setting.get().map_or(Values::Hidden, |setting| setting.values)
    }

    /// Returns `true` if another request can be shown in detail in this second; else it is only counted.
    pub(crate) fn has_room_for_request(&self) -> bool {
        self.inspector.store().has_room_for_request(self.inspector.shared.elapsed_millis())
    }

    /// Reports a completed request in detail.
    pub(crate) fn request(&self, request: &RequestView) {
        let kept = store::RequestJson::new(self.inspector.now_millis(), request);
        let mut store = self.inspector.store();
        store.count(request);
        store.keep(kept);
    }

    /// Counts a completed request without details.
    pub(crate) fn count(&self, request: &RequestView) {
        self.inspector.store().count(request);
    }

    /// Reports an export released by the processor.
    pub(crate) fn left(&self, departure: Departure<'_>) {
        let now = self.inspector.shared.elapsed_millis();
        {
            let mut store = self.inspector.store();
            if !store.has_room_for_export(now) {
                store.leave_out(departure.records.iter().map(|record| record.0));
                return;
            }
        }
        let key = key(departure.records.first().copied(), departure.bytes);
        let view = summary::export(self.inspector.now_millis(), &departure, self.values());
        self.inspector.store().left(key, &view);
    }

    /// Summarises a document for the page.
    pub(crate) fn summary(&self, signal: Signal, json: &Bytes) -> view::ContentsView {
        summary::contents(signal, json, self.values())
    }

    /// Returns an excerpt of a line around a column.
    pub(crate) fn excerpt(&self, line: &[u8], column: u32) -> view::ExcerptView {
        excerpt::excerpt(line, column, self.values())
    }
}

// === impl ExportWatch ===

impl ExportWatch {
    /// Reports the outcome of one attempt. Calls `attempt` only if a page is open.
    pub(crate) fn attempt(&self, signal: Signal, attempt: impl FnOnce() -> AttemptView) {
        if self.inspector.watching().is_some() {
            let attempt = attempt();
            let at = self.inspector.now_millis();
            let keys = self.exports.as_deref().unwrap_or_default();
            self.inspector.store().attempt(signal, keys, at, &attempt);
        }
    }

    /// Reports the state in which the exports end; those that are split are queued again.
    pub(crate) fn ended(&self, state: ExportState) {
        if let Some(keys) = &self.exports {
            self.inspector.store().ended(keys, state);
        }
    }
}

impl std::fmt::Debug for ExportWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportWatch").finish_non_exhaustive()
    }
}

// === impl InspectorState ===

impl InspectorState {
    fn began_unix_millis(&self) -> u64 {
        self.began_unix_millis.load(Ordering::Relaxed)
    }

    fn elapsed_millis(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

/// Returns the key of an export. Exports with equal keys have the same content from the same request, so they are
/// interchangeable.
fn key(record: Option<RecordId>, request: &Bytes) -> ExportKey {
    let mut hasher = DefaultHasher::new();
    (record, request).hash(&mut hasher);
    ExportKey(hasher.finish())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
