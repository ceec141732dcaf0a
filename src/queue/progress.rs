//! Progress within a record: its resolved items.
//!
//! In: ranges of item ordinals, in any order. Out: [`Progress`], a compact value that the queue stores with the record,
//! so that rereading the record leaves out the items that are resolved. A log record that is exported both as an event
//! and as a log has two *halves*, each with a receipt; it is resolved when both are settled, even if a restart is in
//! between.
//! Promises: an item is resolved once, however many receipts it has; encoding and decoding are linear in the number of
//! runs; bytes that are not an encoding decode to `None`.
//!
//! The encoding, all numbers as LEB128:
//!
//! | what | bytes |
//! |---|---|
//! | version: 1 without the halves below, 2 with them | 1 |
//! | fingerprint of the reading that the ordinals belong to, little-endian | 8 |
//! | for traces, logs, metrics: the number of runs | 1 to 5 |
//! | for each run: gap since the end of the previous run, then number of items | 2 to 10 |
//! | for each [`Half`] and outcome that log records have: the half, the outcome, their runs as above | 4 or more |

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use smallvec::{SmallVec, smallvec};

use crate::event::{Settled, Signal};

const WITHOUT_HALVES: u8 = 1;
const WITH_HALVES: u8 = 2;

/// Outcomes by their stored numbers.
const OUTCOMES: [Settled; 5] =
    [Settled::Rejected, Settled::Dropped, Settled::Superseded, Settled::Delivered, Settled::Attached];

/// Set of ordinals, as runs that neither overlap nor touch. A run maps its first ordinal to the one after its last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<u32, u32>);

/// The resolved items of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Fingerprint of the reading that gave the items their ordinals.
    pub(crate) reading: u64,
    resolved: [Runs; Signal::ALL.len()],
    /// Log records of which one half is settled, by that half and its outcome. Entries stay here after the log record
    /// is resolved.
    halves: BTreeMap<(Half, Settled), Runs>,
}

/// The two forms in which a log record is exported when it is kept as a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Half {
    /// A span event.
    Event,
    /// A log record. Receipts of all other items are of this half, too.
    Log,
}

/// Progress of a record that has open receipts, shared by the receipts and the queue.
#[derive(Debug, Default)]
pub(crate) struct Tracker(Mutex<Tracked>);

/// Ranges of items and their outcomes.
pub(crate) type Outcomes = SmallVec<[(Range<u32>, Settled); 1]>;

#[derive(Debug, Default)]
struct Tracked {
    progress: Progress,
    /// Log records with one receipt per half.
    shared: Runs,
    /// The queue has been notified that there is progress to store.
    claimed: bool,
    /// The record is acknowledged, so that its progress is meaningless.
    closed: bool,
}

// === impl Runs ===

impl Runs {
    /// Adds a range, which may overlap ranges in the set.
    pub(crate) fn insert(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.0.range(start + 1..=end).next() {
            end = end.max(next_end);
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    /// Returns the ranges within `range` that are not in the set, in order.
    pub(crate) fn gaps(&self, range: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
        let before = self.0.range(..=range.start).next_back().map(|(_, &end)| end);
        let mut from = before.map_or(range.start, |end| end.max(range.start));
        let mut runs = self.0.range(range.start..range.end);
        std::iter::from_fn(move || {
            while from < range.end {
                let gap = match runs.next() {
                    Some((&start, &end)) => {
                        let gap = from..start;
                        from = from.max(end);
                        gap
                    }
                    None => std::mem::replace(&mut from, range.end)..range.end,
                };
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// The ranges, in order.
    #[cfg(feature = "kafka")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Keeps only the first `runs` runs.
    pub(crate) fn truncate(&mut self, runs: usize) {
        if let Some(&first) = self.0.keys().nth(runs) {
            self.0.split_off(&first);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, ordinal: u32) -> bool {
        self.0.range(..=ordinal).next_back().is_some_and(|(_, &end)| ordinal < end)
    }

    /// Appends the encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        push_number(out, u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        let mut last = 0;
        for (&start, &end) in &self.0 {
            push_number(out, start - last);
            push_number(out, end - start);
            last = end;
        }
    }

    /// Reads an encoding from the front of `bytes`.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = take_number(bytes)?;
        let mut runs = BTreeMap::new();
        let mut last = 0_u32;
        for index in 0..count {
            let gap = take_number(bytes)?;
            let items = take_number(bytes)?;
            if items == 0 || (gap == 0 && index > 0) {
                return None;
            }
            let start = last.checked_add(gap)?;
            last = start.checked_add(items)?;
            runs.insert(start, last);
        }
        Some(Self(runs))
    }
}

// === impl Progress ===

impl Progress {
    /// Returns empty progress for this reading.
    pub(crate) fn new(reading: u64) -> Self {
        Self { reading, ..Self::default() }
    }

    /// Marks items of one signal as resolved.
    pub(crate) fn insert(&mut self, signal: Signal, items: Range<u32>) {
        self.resolved[signal as usize].insert(items);
    }

    /// Returns the items in the range that are not resolved, as ranges in order.
    pub(crate) fn open(&self, signal: Signal, items: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
        self.resolved[signal as usize].gaps(items)
    }

    /// Returns the half of a log record that is settled, and its outcome.
    fn half(&self, log: u32) -> Option<(Half, Settled)> {
        self.halves.iter().find_map(|(&half, logs)| logs.contains(log).then_some(half))
    }

    /// Returns the stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![if self.halves.is_empty() { WITHOUT_HALVES } else { WITH_HALVES }];
        out.extend_from_slice(&self.reading.to_le_bytes());
        self.resolved.iter().for_each(|runs| runs.encode(&mut out));
        for (&(half, outcome), logs) in &self.halves {
            out.extend([half as u8, outcome as u8]);
            logs.encode(&mut out);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (reading, mut rest) = rest.split_first_chunk()?;
        let mut progress = Self::new(u64::from_le_bytes(*reading));
        for runs in &mut progress.resolved {
            *runs = Runs::decode(&mut rest)?;
        }
        while version == WITH_HALVES
            && let [half, outcome, logs @ ..] = rest
        {
            let half = *[Half::Event, Half::Log].get(usize::from(*half))?;
            let outcome = *OUTCOMES.get(usize::from(*outcome))?;
            rest = logs;
            progress.halves.insert((half, outcome), Runs::decode(&mut rest)?);
        }
        ([WITHOUT_HALVES, WITH_HALVES].contains(&version) && rest.is_empty()).then_some(progress)
    }
}

// === impl Tracker ===

impl Tracker {
    /// Starts from earlier progress.
    pub(crate) fn resume(&self, progress: Progress) {
        self.lock().progress = progress;
    }

    /// Returns the items in the range that are not resolved, as ranges in order.
    pub(crate) fn open(&self, signal: Signal, items: Range<u32>) -> SmallVec<[Range<u32>; 1]> {
        self.lock().progress.open(signal, items).collect()
    }

    /// Announces one receipt per half of a log record: it is resolved when both are settled.
    pub(crate) fn share(&self, log: u32) {
        self.lock().shared.insert(log..log + 1);
    }

    /// Returns the settled half of an unresolved log record.
    pub(crate) fn half(&self, log: u32) -> Option<Half> {
        self.lock().progress.half(log).map(|(half, _)| half)
    }

    /// Settles items and returns those that are resolved by it, with their outcomes.
    pub(crate) fn settle(&self, signal: Signal, half: Half, items: Range<u32>, outcome: Settled) -> Outcomes {
        let mut tracked = self.lock();
        if signal != Signal::Logs || (tracked.shared.is_empty() && tracked.progress.halves.is_empty()) {
            tracked.progress.insert(signal, items.clone());
            return smallvec![(items, outcome)];
        }
        let mut outcomes = Outcomes::new();
        for item in items {
            let Some(outcome) = tracked.settle_log(half, item, outcome) else { continue };
            tracked.progress.insert(signal, item..item + 1);
            match outcomes.last_mut() {
                Some((range, same)) if range.end == item && *same == outcome => range.end += 1,
                _ => outcomes.push((item..item + 1, outcome)),
            }
        }
        outcomes
    }

    /// Returns whether the caller must have the progress stored: true once until it is [encoded](Self::encode).
    pub(crate) fn claim(&self) -> bool {
        let mut tracked = self.lock();
        !tracked.closed && !std::mem::replace(&mut tracked.claimed, true)
    }

    /// Returns the progress to store; `None` when the record is acknowledged.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut tracked = self.lock();
        tracked.claimed = false;
        (!tracked.closed).then(|| tracked.progress.encode())
    }

    /// Marks the record as acknowledged.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Tracked> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

// === impl Tracked ===

impl Tracked {
    /// Settles one half of a log record and returns the outcome if the log record is now resolved.
    fn settle_log(&mut self, half: Half, log: u32, outcome: Settled) -> Option<Settled> {
        match self.progress.half(log) {
            Some((_, first)) => Some(first.better(outcome)),
            None if self.shared.contains(log) => {
                self.progress.halves.entry((half, outcome)).or_default().insert(log..log + 1);
                None
            }
            None => Some(outcome),
        }
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    /// Ranges of items, each of one signal.
    fn ranges() -> impl Strategy<Value = Vec<(usize, Range<u32>)>> {
        let range = (0_u32..60, 0_u32..12).prop_map(|(start, items)| start..start + items);
        proptest::collection::vec((0..Signal::ALL.len(), range), 0..40)
    }

    proptest! {
        #[test]
        fn progress_is_the_set_of_the_items_inserted(ranges in ranges(), asked in (0_u32..70, 0_u32..30)) {
            let mut progress = Progress::new(7);
            let mut model = [const { BTreeSet::new() }; 3];
            for (signal, range) in ranges {
                progress.insert(Signal::ALL[signal], range.clone());
                model[signal].extend(range);
            }
            let asked = asked.0..asked.0 + asked.1;
            for signal in Signal::ALL {
                let model = &model[signal as usize];
                let open: Vec<u32> = progress.open(signal, asked.clone()).flatten().collect();
                let expected: Vec<u32> = asked.clone().filter(|item| !model.contains(item)).collect();
                prop_assert_eq!(open, expected);
                for item in 0..80 {
                    prop_assert_eq!(progress.resolved[signal as usize].contains(item), model.contains(&item));
                }
            }
            prop_assert_eq!(Progress::decode(&progress.encode()), Some(progress));
        }

        #[test]
        fn runs_that_touch_are_one(order in Just((0_u32..50).collect::<Vec<_>>()).prop_shuffle()) {
            let mut runs = Runs::default();
            order.into_iter().for_each(|item| runs.insert(item..item + 1));
            prop_assert_eq!(runs.0, BTreeMap::from([(0, 50)]));
        }

        #[test]
        fn no_bytes_panic_and_decoded_progress_encodes_in_no_more_bytes(bytes: Vec<u8>) {
            if let Some(progress) = Progress::decode(&bytes) {
                prop_assert!(progress.encode().len() <= bytes.len());
            }
        }

        #[test]
        fn an_item_with_two_receipts_is_resolved_by_its_second_receipt(order in Just(vec![0_u32, 0, 1, 2, 2, 3]).prop_shuffle()) {
            let tracker = Tracker::default();
            tracker.share(0);
            tracker.share(2);
            let mut left = BTreeMap::from([(0, 2), (1, 1), (2, 2), (3, 1)]);
            for item in order {
                let more = left.get_mut(&item).unwrap();
                let half = if *more == 2 { Half::Event } else { Half::Log };
                let resolved = tracker.settle(Signal::Logs, half, item..item + 1, Settled::Delivered);
                *more -= 1;
                prop_assert_eq!(resolved.is_empty(), *more > 0);
            }
            prop_assert!(tracker.open(Signal::Logs, 0..4).is_empty());
        }

        #[test]
        fn halves_are_resolved_across_restarts_with_the_better_outcome(
            steps in proptest::collection::vec((0_u32..8, any::<bool>(), 0..OUTCOMES.len(), any::<bool>()), 0..40),
        ) {
            let mut tracker = Tracker::default();
            let mut settled: BTreeMap<u32, Vec<(Half, Settled)>> = BTreeMap::new();
            (0..8).for_each(|log| tracker.share(log));
            for (log, event, outcome, restart) in steps {
                if restart {
                    // A log record with a settled half gets only one more receipt, so that its halves are not announced
                    // again.
                    let stored = Progress::decode(&tracker.encode().unwrap()).unwrap();
                    tracker = Tracker::default();
                    (0..8).filter(|log| stored.half(*log).is_none()).for_each(|log| tracker.share(log));
                    tracker.resume(stored);
                }
                let (half, outcome) = (if event { Half::Event } else { Half::Log }, OUTCOMES[outcome]);
                let known = settled.entry(log).or_default();
                if known.len() == 2 || known.iter().any(|(one, _)| *one == half) {
                    continue;
                }
                known.push((half, outcome));
                let resolved = tracker.settle(Signal::Logs, half, log..log + 1, outcome);
                match known[..] {
                    [_] => prop_assert!(resolved.is_empty()),
                    [(_, one), ..] => prop_assert_eq!(&resolved[..], &[(log..log + 1, one.max(outcome))]),
                    [] => unreachable!(),
                }
                for (log, known) in &settled {
                    let is_open = !tracker.open(Signal::Logs, *log..*log + 1).is_empty();
                    prop_assert_eq!(is_open, known.len() < 2);
                    if let [(half, _)] = known[..] {
                        prop_assert_eq!(tracker.half(*log), Some(half));
                    }
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let mut progress = Progress::new(u64::MAX);
        progress.insert(Signal::Traces, 3..500);
        progress.insert(Signal::Metrics, 70_000..u32::MAX);
        let bytes = progress.encode();
        for end in 0..bytes.len() {
            assert_eq!(Progress::decode(&bytes[..end]), None);
        }
        progress.halves.entry((Half::Log, Settled::Rejected)).or_default().insert(4..9);
        let with_halves = progress.encode();
        for end in bytes.len() + 1..with_halves.len() {
            assert_eq!(Progress::decode(&with_halves[..end]), None);
        }
    }

    #[test]
    fn progress_of_an_earlier_version_is_read_and_of_a_later_one_is_not() {
        let mut progress = Progress::new(1);
        progress.insert(Signal::Logs, 2..5);
        let mut stored = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0];
        assert_eq!((Progress::decode(&stored), progress.encode()), (Some(progress), stored.clone()));
        stored[0] = 3;
        assert_eq!(Progress::decode(&stored), None);
    }

    #[test]
    fn outcomes_have_their_stored_numbers() {
        for (number, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
    }

    #[test]
    fn a_log_rejected_as_an_event_and_delivered_as_a_log_is_delivered() {
        for (one, other, outcome) in [
            (Settled::Rejected, Settled::Delivered, Settled::Delivered),
            (Settled::Attached, Settled::Delivered, Settled::Attached),
            (Settled::Attached, Settled::Rejected, Settled::Attached),
            (Settled::Rejected, Settled::Rejected, Settled::Rejected),
        ] {
            assert_eq!((one.better(other), other.better(one)), (outcome, outcome));
        }
    }

    #[test]
    fn progress_is_claimed_once_until_it_is_encoded_and_never_after_it_is_closed() {
        let tracker = Tracker::default();
        assert!(tracker.claim() && !tracker.claim());
        assert!(tracker.encode().is_some() && tracker.claim());
        tracker.close();
        assert_eq!(tracker.encode(), None);
        assert!(!tracker.claim());
    }
}
