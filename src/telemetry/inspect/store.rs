//! Bounded store of the latest requests and exports, and of counts since reporting started.
//!
//! Promises: at most [`MAX_REQUESTS`] and [`MAX_EXPORTS`], in [`MAX_BYTES`] each; a limited number per second in detail,
//! so that an open page does not slow down a busy relay. Omitted entries are counted, and the page knows which requests
//! have omitted exports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::ExportKey;
use super::view::{AttemptView, Counts, ExportState, ExportView, RequestView};
use crate::event::{RequestOutcome, Signal};

const MAX_REQUESTS: usize = 500;
const MAX_EXPORTS: usize = 2000;
/// Maximum size of all requests, and of all exports, as JSON.
const MAX_BYTES: usize = 8 << 20;
/// Maximum size of one response to the page, unless a single entry is larger.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Maximum number of requests in detail per second; the rest is only counted.
const REQUESTS_PER_SECOND: u32 = 50;
const EXPORTS_PER_SECOND: u32 = 200;
/// Maximum number of records tracked individually as having omitted exports.
const MAX_NOT_FOLLOWED: usize = MAX_REQUESTS;
/// Maximum number of attempts kept per export: the first ones and the last.
const MAX_ATTEMPTS: usize = 12;

/// The kept requests, exports and counts.
#[derive(Default)]
pub(super) struct Store {
    /// Number of the last change.
    change: u64,
    requests: VecDeque<KeptRequest>,
    request_bytes: usize,
    exports: VecDeque<KeptExport>,
    export_bytes: usize,
    /// Time since which requests and attempts are counted.
    counting_since_ms: u64,
    receivers: BTreeMap<String, ReceiverCounts>,
    requests_room: Room,
    exports_room: Room,
    not_followed: NotFollowed,
    retries: u64,
    answers: [Option<LastResponse>; Signal::ALL.len()],
}

/// A request as JSON, serialized before the store is locked.
pub(super) struct RequestJson {
    at_ms: u64,
    json: Box<RawValue>,
}

#[derive(Serialize)]
struct KeptRequest {
    id: u64,
    at_ms: u64,
    request: Box<RawValue>,
}

#[derive(Serialize)]
struct KeptExport {
    /// Number of the change that added it.
    id: u64,
    #[serde(skip)]
    change: u64,
    #[serde(skip)]
    key: ExportKey,
    #[serde(skip)]
    records: Vec<u64>,
    state: ExportState,
    attempts: Vec<KeptAttempt>,
    more_attempts: u64,
    export: Box<RawValue>,
}

#[derive(Clone, Serialize)]
struct KeptAttempt {
    at_ms: u64,
    #[serde(flatten)]
    attempt: AttemptView,
}

/// Counts of one receiver since reporting started.
#[derive(Debug, Default, Serialize)]
pub(super) struct ReceiverCounts {
    requests: BTreeMap<RequestOutcome, u64>,
    items: Counts,
    bytes: u64,
}

/// Last downstream response for a signal.
#[derive(Clone, Serialize)]
pub(super) struct LastResponse {
    signal: &'static str,
    at_ms: u64,
    outcome: &'static str,
    answer: String,
}

/// Limit on detailed entries per second.
#[derive(Default)]
struct Room {
    second: u64,
    taken: u32,
    left_out: u64,
}

/// Records with omitted exports, whose outcome the page cannot know.
#[derive(Default, Serialize)]
pub(super) struct NotFollowed {
    records: BTreeSet<u64>,
    /// First record that is tracked individually; every earlier one counts as having omitted exports.
    before: u64,
}

/// Part of the response to a poll that comes from the store.
#[derive(Serialize)]
pub(super) struct News<'a> {
    /// Value of `since` for the next poll.
    cursor: u64,
    /// `true` if more changes are available immediately.
    more: bool,
    counting_since_ms: u64,
    counts: &'a BTreeMap<String, ReceiverCounts>,
    retries: u64,
    requests_left_out: u64,
    exports_left_out: u64,
    not_followed: &'a NotFollowed,
    on_the_way: OnTheWay,
    answers: Vec<&'a LastResponse>,
    requests: Vec<&'a KeptRequest>,
    exports: Vec<&'a KeptExport>,
    /// Oldest change that is still kept.
    oldest_request: u64,
    oldest_export: u64,
}

/// Number of exports by state.
#[derive(Default, Serialize)]
struct OnTheWay {
    queued: usize,
    sending: usize,
    retrying: usize,
}

// === impl RequestJson ===

impl RequestJson {
    pub(super) fn new(at_ms: u64, request: &RequestView) -> Self {
        Self { at_ms, json: raw(request) }
    }
}

// === impl Store ===

impl Store {
    pub(super) fn has_room_for_request(&mut self, now_ms: u64) -> bool {
        self.requests_room.take(now_ms, REQUESTS_PER_SECOND)
    }

    pub(super) fn has_room_for_export(&mut self, now_ms: u64) -> bool {
        self.exports_room.take(now_ms, EXPORTS_PER_SECOND)
    }

    /// Sets all counts to zero.
    pub(super) fn restart_counts(&mut self, now_ms: u64) {
        self.counting_since_ms = now_ms;
        self.receivers.clear();
        self.retries = 0;
    }

    /// Counts a request.
    pub(super) fn count(&mut self, request: &RequestView) {
        self.receivers.entry(request.receiver.clone().unwrap_or_default()).or_default().add(request);
    }

    pub(super) fn keep(&mut self, kept: RequestJson) {
        let id = self.next_change();
        self.request_bytes += kept.json.get().len();
        self.requests.push_back(KeptRequest { id, at_ms: kept.at_ms, request: kept.json });
        while self.requests.len() > MAX_REQUESTS || self.request_bytes > MAX_BYTES {
            let Some(oldest) = self.requests.pop_front() else { break };
            self.request_bytes -= oldest.request.get().len();
        }
    }

    /// Records that an export of these records was omitted.
    pub(super) fn leave_out(&mut self, records: impl IntoIterator<Item = u64>) {
        self.not_followed.add(records);
    }

    pub(super) fn left(&mut self, key: ExportKey, export: &ExportView) {
        let records = export.records.clone();
        let export = raw(export);
        let id = self.next_change();
        self.export_bytes += export.get().len();
        self.exports.push_back(KeptExport {
            id,
            change: id,
            key,
            records,
            state: ExportState::Queued,
            attempts: Vec::new(),
            more_attempts: 0,
            export,
        });
        while self.exports.len() > MAX_EXPORTS || self.export_bytes > MAX_BYTES {
            let Some(oldest) = self.exports.pop_front() else { break };
            self.export_bytes -= oldest.export.get().len();
            self.not_followed.add(oldest.records);
        }
    }

    pub(super) fn sending(&mut self, keys: &[ExportKey]) {
        self.each(keys, |export| export.state = ExportState::Sending);
    }

    pub(super) fn attempt(&mut self, signal: Signal, keys: &[ExportKey], at_ms: u64, attempt: &AttemptView) {
        self.answers[signal as usize] = Some(LastResponse {
            signal: signal.as_str(),
            at_ms,
            outcome: attempt.outcome,
            answer: attempt.answer.clone(),
        });
        self.retries += u64::from(!attempt.is_final);
        self.each(keys, |export| {
            if !attempt.is_final {
                export.state = ExportState::Retrying;
            }
            if export.attempts.len() == MAX_ATTEMPTS {
                export.attempts.remove(MAX_ATTEMPTS / 2);
                export.more_attempts += 1;
            }
            export.attempts.push(KeptAttempt { at_ms, attempt: attempt.clone() });
        });
    }

    pub(super) fn ended(&mut self, keys: &[ExportKey], state: ExportState) {
        self.each(keys, |export| export.state = state);
    }

    /// Returns the changes after `since`.
    pub(super) fn news(&self, since: u64) -> News<'_> {
        let mut requests: Vec<_> = self.requests.iter().filter(|request| request.id > since).collect();
        let mut exports: Vec<_> = self.exports.iter().filter(|export| export.change > since).collect();
        // Both in the order of their changes, up to the size of one response.
        let mut sizes: Vec<(u64, usize)> = requests
            .iter()
            .map(|request| (request.id, request.request.get().len()))
            .chain(exports.iter().map(|export| (export.change, export.export.get().len())))
            .collect();
        sizes.sort_unstable();
        let mut bytes = 0;
        let beyond = sizes.iter().enumerate().find(|(place, (_, size))| {
            bytes += size;
            *place > 0 && bytes > MAX_ANSWER_BYTES
        });
        let cursor = beyond.map_or(self.change, |(_, (change, _))| change - 1);
        requests.retain(|request| request.id <= cursor);
        exports.retain(|export| export.change <= cursor);
        News {
            cursor,
            more: cursor < self.change,
            counting_since_ms: self.counting_since_ms,
            counts: &self.receivers,
            retries: self.retries,
            requests_left_out: self.requests_room.left_out,
            exports_left_out: self.exports_room.left_out,
            not_followed: &self.not_followed,
            on_the_way: self.on_the_way(),
            answers: self.answers.iter().flatten().collect(),
            requests,
            exports,
            oldest_request: self.requests.front().map_or(self.change, |oldest| oldest.id),
            oldest_export: self.exports.front().map_or(self.change, |oldest| oldest.id),
        }
    }

    fn on_the_way(&self) -> OnTheWay {
        let mut on_the_way = OnTheWay::default();
        for export in &self.exports {
            match export.state {
                ExportState::Queued => on_the_way.queued += 1,
                ExportState::Sending => on_the_way.sending += 1,
                ExportState::Retrying => on_the_way.retrying += 1,
                ExportState::Delivered | ExportState::Rejected => {}
            }
        }
        on_the_way
    }

    /// Applies `change` to the oldest unfinished export of each key.
    fn each(&mut self, keys: &[ExportKey], mut change: impl FnMut(&mut KeptExport)) {
        for key in keys {
            let number = self.change + 1;
            let export = self.exports.iter_mut().find(|export| export.key == *key && !export.has_ended());
            if let Some(export) = export {
                change(export);
                export.change = number;
                self.change = number;
            }
        }
    }

    fn next_change(&mut self) -> u64 {
        self.change += 1;
        self.change
    }
}

// === impl KeptExport ===

impl KeptExport {
    fn has_ended(&self) -> bool {
        matches!(self.state, ExportState::Delivered | ExportState::Rejected)
    }
}

// === impl NotFollowed ===

impl NotFollowed {
    fn add(&mut self, records: impl IntoIterator<Item = u64>) {
        self.records.extend(records.into_iter().filter(|record| *record >= self.before));
        while self.records.len() > MAX_NOT_FOLLOWED {
            self.before = self.records.pop_first().map_or(self.before, |first| first + 1);
        }
    }
}

// === impl ReceiverCounts ===

impl ReceiverCounts {
    fn add(&mut self, request: &RequestView) {
        *self.requests.entry(request.outcome).or_default() += 1;
        self.bytes += request.size_bytes as u64;
        self.items.accepted += request.counts.accepted;
        self.items.repaired += request.counts.repaired;
        self.items.rejected += request.counts.rejected;
        self.items.spans += request.counts.spans;
        self.items.log_records += request.counts.log_records;
        self.items.metric_points += request.counts.metric_points;
    }
}

// === impl Room ===

impl Room {
    fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        let second = now_ms / 1000;
        if second != self.second {
            (self.second, self.taken) = (second, 0);
        }
        let has_room = self.taken < per_second;
        self.taken = self.taken.saturating_add(1);
        self.left_out += u64::from(!has_room);
        has_room
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings, numbers and lists serialize")
}

#[cfg(test)]
mod tests;
