//! The inspector: what arrives, what became of it and where it went, for whoever looks at `/inspect`.
//!
//! In: reports of those who do the work: the front door, the relay, the processor's driver, the exporter.
//! Out: one page, and the JSON that it asks for every second.
//! Promises: while nobody looks a report costs one load of an atomic, and nothing is copied or kept; what is kept is
//! bounded in number and in bytes ([`store`]); values of attributes, bodies of logs and the text of lines are hidden
//! unless `telemetry.inspect.show_values` is true; nothing that arrived is markup on the page ([`page`]).
//! Leaves to others: what happens to the data. Nothing waits for the inspector, and nothing is decided by it.

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
use self::view::{Attempt, Departure, Downstream, ExportEnd, Request, Values};
use crate::otlp::Signal;
use crate::queue::RecordId;

/// After the last time that the page asked. Browsers let the timers of a page that is not seen run once a minute.
const STILL_LOOKING: Duration = Duration::from_secs(75);

/// Where reports go. Clones report to the same page.
#[derive(Clone)]
pub(crate) struct Inspector {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    /// The same moment by the wall clock; zero until the page is configured.
    began_unix_millis: AtomicU64,
    /// In milliseconds since `began`; until then somebody is looking. Zero: nobody is.
    looking_until: AtomicU64,
    setting: OnceLock<Setting>,
    store: Mutex<Store>,
}

/// What the operator configured, as far as the page shows it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) values: Values,
    /// How long the processor holds anything at most.
    pub(crate) wait: Duration,
    pub(crate) receivers: Vec<view::ReceiverSetting>,
    /// Host and port that each signal goes to.
    pub(crate) downstream: Vec<Downstream>,
}

/// Proof that somebody is looking.
pub(crate) struct Watching<'a> {
    inspector: &'a Inspector,
}

/// Follows the exports of one request downstream, from attempt to attempt.
#[derive(Clone)]
pub(crate) struct Watch {
    inspector: Inspector,
    /// None when nobody was looking as it began.
    exports: Option<Arc<[ExportKey]>>,
}

/// Tells one export from another while both are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportKey(u64);

// === impl Inspector ===

impl Inspector {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            began: Instant::now(),
            began_unix_millis: AtomicU64::new(0),
            looking_until: AtomicU64::new(0),
            setting: OnceLock::new(),
            store: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What the page is to show of the configuration, and what time it is; the first setting stays.
    pub(crate) fn configure(&self, setting: Setting, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis);
        let began = now.saturating_sub(self.shared.elapsed_millis());
        self.shared.began_unix_millis.store(began, Ordering::Relaxed);
        drop(self.shared.setting.set(setting));
    }

    /// The way to report, when somebody is looking.
    pub(crate) fn watching(&self) -> Option<Watching<'_>> {
        let until = self.shared.looking_until.load(Ordering::Relaxed);
        // Asked several times for every export: the clock only when it matters.
        if until == 0 {
            return None;
        }
        if until > self.shared.elapsed_millis() {
            return Some(Watching { inspector: self });
        }
        // Whoever begins to look at this very moment asks again within a second.
        self.shared.looking_until.store(0, Ordering::Relaxed);
        None
    }

    /// A watch over exports that are about to be sent. `exports` is asked only when somebody is looking.
    pub(crate) fn sending<'a, I>(&self, exports: impl FnOnce() -> I) -> Watch
    where
        I: Iterator<Item = (Option<RecordId>, &'a Bytes)>,
    {
        let exports = self.watching().map(|_| exports().map(|(record, json)| key(record, json)).collect());
        let watch = Watch { inspector: self.clone(), exports };
        if let Some(keys) = &watch.exports {
            self.store().sending(keys);
        }
        watch
    }

    /// Somebody is looking, from now on and for a while.
    fn look(&self) {
        let until = self.shared.elapsed_millis() + millis(STILL_LOOKING);
        self.shared.looking_until.store(until, Ordering::Relaxed);
    }

    fn now_millis(&self) -> u64 {
        self.shared.began_unix_millis() + self.shared.elapsed_millis()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A report that panicked half-way leaves at worst one entry that is not whole.
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
    /// Whether values may be shown.
    pub(crate) fn values(&self) -> Values {
        self.inspector.shared.setting.get().map_or(Values::Hidden, |setting| setting.values)
    }

    /// Whether there is room in this second for another request in detail; without, it is only counted.
    pub(crate) fn has_room_for_request(&self) -> bool {
        self.inspector.store().has_room_for_request(self.inspector.shared.elapsed_millis())
    }

    /// A request was answered, for which there was room.
    pub(crate) fn request(&self, request: &Request) {
        let kept = store::Kept::new(self.inspector.now_millis(), request);
        let mut store = self.inspector.store();
        store.count(request);
        store.keep(kept);
    }

    /// A request was answered, for which there was no room.
    pub(crate) fn count(&self, request: &Request) {
        self.inspector.store().count(request);
    }

    /// The processor let an export go.
    pub(crate) fn left(&self, departure: Departure<'_>) {
        let now = self.inspector.shared.elapsed_millis();
        {
            let mut store = self.inspector.store();
            if !store.has_room_for_export(now) {
                store.leave_out(departure.records.iter().map(|record| record.0));
                return;
            }
        }
        let key = key(departure.records.first().copied(), departure.json);
        let view = summary::export(self.inspector.now_millis(), &departure, self.values());
        self.inspector.store().left(key, &view);
    }

    /// What a document of a line holds, as the page shows it.
    pub(crate) fn summary(&self, signal: Signal, json: &Bytes) -> view::Contents {
        summary::contents(signal, json, self.values())
    }

    /// The surroundings of a column of a line.
    pub(crate) fn excerpt(&self, line: &[u8], column: u32) -> view::Excerpt {
        excerpt::excerpt(line, column, self.values())
    }
}

// === impl Watch ===

impl Watch {
    /// One attempt was answered, or was not. `attempt` is asked only when somebody is looking.
    pub(crate) fn attempt(&self, signal: Signal, attempt: impl FnOnce() -> Attempt) {
        if self.inspector.watching().is_some() {
            let attempt = attempt();
            let at = self.inspector.now_millis();
            let keys = self.exports.as_deref().unwrap_or_default();
            self.inspector.store().attempt(signal, keys, at, &attempt);
        }
    }

    /// The exports have met their end, or are about to be sent in halves.
    pub(crate) fn ended(&self, end: ExportEnd) {
        if let Some(keys) = &self.exports {
            self.inspector.store().ended(keys, end);
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn began_unix_millis(&self) -> u64 {
        self.began_unix_millis.load(Ordering::Relaxed)
    }

    fn elapsed_millis(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

/// Two exports with one key have the same content out of the same request: whichever is meant, the other is the same.
fn key(record: Option<RecordId>, json: &Bytes) -> ExportKey {
    let mut hasher = DefaultHasher::new();
    (record, json).hash(&mut hasher);
    ExportKey(hasher.finish())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
