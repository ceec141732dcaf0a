mod sim;

mod power;

mod damage;

mod space;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use self::sim::{Faults, Random, Sim};
use super::*;
use crate::config::{Storage, Sync};
use crate::event::{KeptHeaders, RecordId, Settled, Signal};
use crate::queue::{MemoryLimits, Progress, Taken, Tracker};

const PLENTY: MemoryLimits = up_to(1 << 30);
/// A queue of this size has the smallest segments.
const MAX_SIZE: u64 = 16 << 20;

const fn up_to(bytes: u64) -> MemoryLimits {
    MemoryLimits { all_bytes: bytes, exporting_bytes: bytes }
}

/// A queue on a simulated disk that outlives it.
struct Bench {
    runtime: Runtime,
    disk: Sim,
    config: QueueConfig,
    metrics: Metrics,
    memory: MemoryLimits,
    queue: Option<DiskQueue>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut QueueConfig)) -> Self {
        Self::on(Sim::default(), change)
    }

    fn on(disk: Sim, change: impl FnOnce(&mut QueueConfig)) -> Self {
        let mut bench = Self::closed_on(disk, change);
        bench.open().unwrap();
        bench
    }

    fn closed_on(disk: Sim, change: impl FnOnce(&mut QueueConfig)) -> Self {
        let mut config = QueueConfig {
            storage: Storage::Disk,
            directory: "queue".into(),
            max_size: MAX_SIZE,
            sync: Sync::Always,
            rejected_max_size: MAX_SIZE,
            keep_unparsed: true,
            max_memory_bytes: 0,
            kafka: None,
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { runtime, disk, config, metrics: Metrics::new(), memory: PLENTY, queue: None }
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let files = Arc::new(self.disk.clone());
        self.queue = Some(DiskQueue::open_files(files, &self.config, self.memory, self.metrics.clone())?);
        Ok(())
    }

    fn queue(&self) -> &DiskQueue {
        self.queue.as_ref().unwrap()
    }

    fn offer(&self, body: &str) -> Result<Offered, OfferError> {
        self.runtime.block_on(self.queue().offer(record(body)))
    }

    fn live(&self, body: &str) -> Taken {
        match self.offer(body).unwrap() {
            Offered::Live(taken) => taken,
            Offered::Stored => panic!("there is room in memory"),
        }
    }

    /// Returns all records that are only on disk and fit into memory, in the order in which they are read.
    fn read(&self) -> Vec<(String, Progress, Taken)> {
        let shared = &self.queue().shared;
        let mut all = Vec::new();
        while let Some(id) = shared.next_to_read() {
            // A damaged record is skipped.
            if let Some(Stored { record, progress, taken, .. }) = shared.read(id).unwrap() {
                all.push((String::from_utf8(record.body.to_vec()).unwrap(), progress, taken));
            }
        }
        all
    }

    fn since(&self) -> Option<SystemTime> {
        self.queue().shared.lock().since()
    }

    /// Stores progress that can be recognised by its number.
    fn note_progress(&self, id: RecordId, number: u64) {
        let tracker = Tracker::default();
        tracker.resume(progress(number));
        let shared = &self.queue().shared;
        shared.notes.progress(id, Arc::new(tracker), &shared.commands);
    }

    fn stored(&self) -> Vec<(String, Taken)> {
        self.read().into_iter().map(|(body, _, taken)| (body, taken)).collect()
    }

    fn stored_bodies(&self) -> Vec<String> {
        self.stored().into_iter().map(|(body, _)| body).collect()
    }

    fn close(&mut self) {
        let queue = self.queue.take().unwrap();
        self.runtime.block_on(queue.close());
    }

    fn reopen(&mut self) {
        self.close();
        self.open().unwrap();
    }

    /// Simulates `kill -9`: another process finds the files as they are at this moment.
    fn crash(&mut self) {
        self.continue_with(self.disk.after_kill());
    }

    fn continue_with(&mut self, disk: Sim) {
        self.close();
        self.disk = disk;
        self.open().unwrap();
    }

    fn damage_reported(&self) -> u64 {
        self.metric("spanrelay_queue_damaged_total{what=\"file\"}")
    }

    fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.metrics.render()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Polls a future once.
    fn begin<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { future.now_or_never() })
    }

    fn wait_until(&self, condition: impl Fn(&DiskQueue) -> bool) {
        self.runtime.block_on(async {
            while !condition(self.queue()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
}

fn progress(number: u64) -> Progress {
    let mut progress = Progress::new(number);
    progress.insert(Signal::Traces, 0..1);
    progress
}

fn record(body: &str) -> Record {
    record_received(1, body)
}

fn record_received(seconds: u64, body: &str) -> Record {
    Record {
        receiver: Arc::from("fastly"),
        received: UNIX_EPOCH + Duration::from_secs(seconds),
        reading: Bytes::new(),
        headers: KeptHeaders::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn accepted_unsettled_records_are_read_again_oldest_first() {
    let mut bench = Bench::new();
    let taken: Vec<Taken> = ["a", "b", "c"].map(|body| bench.live(body)).into();
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a", "b", "c"]);
    drop(taken);
}

#[test]
fn settled_records_are_gone_after_a_clean_stop() {
    let mut bench = Bench::new();
    bench.live("done").seal();
    let open = bench.live("open");
    bench.reopen();
    drop(open);
    let stored = bench.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].0, "open");
    for (_, taken) in stored {
        taken.seal();
    }
    assert_eq!(bench.queue().state().kept_bytes, 0);
    bench.reopen();
    assert!(bench.stored().is_empty());
}

#[test]
fn records_without_room_in_memory_are_read_from_disk_in_order() {
    let mut bench = Bench::new();
    bench.memory = up_to(10);
    bench.reopen();
    let first = bench.live("0123456789");
    for body in ["two", "three"] {
        assert!(matches!(bench.offer(body).unwrap(), Offered::Stored));
    }
    assert!(bench.queue().shared.next_to_read().is_none(), "there is no room yet");
    first.seal();
    assert_eq!(bench.stored_bodies(), ["two", "three"]);
}

#[test]
fn held_bodies_leave_the_memory_of_exports_to_others() {
    let mut bench = Bench::new();
    bench.memory = MemoryLimits { all_bytes: 25, exporting_bytes: 10 };
    bench.reopen();
    let held = bench.live("0123456789");
    assert!(matches!(bench.offer("later").unwrap(), Offered::Stored));
    bench.queue().holds(10);
    assert_eq!(bench.stored_bodies(), ["later"]);
    let exporting = bench.live("0123456789");
    assert!(matches!(bench.offer("exceeds").unwrap(), Offered::Stored));
    bench.queue().holds(20);
    assert!(bench.stored().is_empty(), "all of them together are limited, too");
    held.seal();
    assert_eq!(bench.stored_bodies(), ["exceeds"]);
    drop(exporting);
}

#[test]
fn a_large_record_waits_for_room_and_neither_later_nor_new_ones_pass_it() {
    let mut bench = Bench::new();
    bench.memory = up_to(10);
    bench.reopen();
    let full = bench.live("0123456789");
    for body in ["1", "larger than all", "2"] {
        assert!(matches!(bench.offer(body).unwrap(), Offered::Stored));
    }
    full.seal();
    let mut first = bench.stored();
    assert_eq!(first.len(), 1);
    assert!(matches!(bench.offer("3").unwrap(), Offered::Stored));
    assert!(bench.stored().is_empty());
    first.remove(0).1.seal();
    let large = bench.stored();
    assert_eq!((large.len(), large[0].0.as_str()), (1, "larger than all"));
    drop(large);
    assert_eq!(bench.stored_bodies(), ["2", "3"]);
}

#[test]
fn new_records_leave_half_of_the_memory_to_records_on_disk() {
    let mut bench = Bench::new();
    bench.memory = up_to(10);
    bench.reopen();
    let full = bench.live("0123456789");
    assert!(matches!(bench.offer("waits").unwrap(), Offered::Stored));
    full.seal();
    let new = bench.live("12345");
    assert!(matches!(bench.offer("new").unwrap(), Offered::Stored));
    new.seal();
    assert_eq!(bench.stored_bodies(), ["waits", "new"]);
}

#[test]
fn a_full_queue_rejects_a_record_and_keeps_nothing_of_it() {
    let mut bench = Bench::with(|config| config.max_size = 100);
    let one = bench.live("one");
    let kept_bytes = bench.queue().state().kept_bytes;
    assert!(kept_bytes > 0);
    let mut taken = vec![one];
    let refusal = loop {
        match bench.offer("more") {
            Ok(Offered::Live(more)) => taken.push(more),
            Ok(Offered::Stored) => panic!("there is room in memory"),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, OfferError::Full { capacity_bytes: 100, .. }), "{refusal}");
    let noise: String = (0..200_u8).map(|n| char::from(n.wrapping_mul(89) % 64 + 32)).collect();
    assert!(matches!(bench.offer(&noise), Err(OfferError::NeverFits { .. })));
    assert!(bench.queue().state().kept_bytes <= 100);
    for taken in taken {
        taken.seal();
    }
    assert_eq!(bench.queue().state(), QueueState { capacity_bytes: 100, ..QueueState::default() });
    bench.live("again").seal();
    bench.close();
}

#[test]
fn a_directory_has_one_owner_and_only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let mut bench =
        Bench::closed_on(Sim::default(), |config| config.directory = directory.path().join("queue"));
    bench.queue = Some(DiskQueue::open(&bench.config, PLENTY, Metrics::new()).unwrap());
    let taken = bench.live("kept");
    let second = DiskQueue::open(&bench.config, PLENTY, Metrics::new());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.config.directory), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(&bench.config.directory).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 3, "the lock, a segment and its number");
    assert!(files.iter().all(|file| mode(&file.path()) == 0o600));
    bench.close();
    drop(taken);
    bench.queue = Some(DiskQueue::open(&bench.config, PLENTY, Metrics::new()).unwrap());
    assert_eq!(bench.stored_bodies(), ["kept"]);
}

#[test]
fn a_receipt_that_is_dropped_leaves_its_record_for_the_next_start() {
    let mut bench = Bench::new();
    let taken = bench.live("a");
    let part = taken.part(Signal::Traces, 0..1);
    taken.seal();
    drop(part);
    assert_eq!(bench.queue().shared.lock().live_bytes, 0);
    assert!(bench.queue().state().kept_bytes > 0);
    bench.reopen();
    assert_eq!(bench.stored_bodies(), ["a"]);
}

#[test]
fn sync_always_syncs_before_confirming_and_sync_never_survives_a_kill() {
    let bench = Bench::new();
    let before = bench.disk.syncs();
    bench.live("a").seal();
    assert!(bench.disk.syncs() > before);

    let mut bench = Bench::with(|config| config.sync = Sync::Never);
    let taken = bench.live("a");
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a"]);
    drop(taken);
}

#[test]
fn sync_interval_confirms_at_once_and_syncs_soon() {
    let mut bench = Bench::with(|config| config.sync = Sync::Interval);
    let before = bench.disk.syncs();
    let taken = bench.live("a");
    bench.wait_until(|_| bench.disk.syncs() > before);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a"]);
    drop(taken);
}

/// Has the disk fail one offer and then recover.
fn fails_and_recovers(fault: impl Fn(&Faults) -> &AtomicBool) {
    let mut bench = Bench::new();
    let before = bench.live("before");
    fault(bench.disk.faults()).store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    assert!(bench.queue().state().failure.is_some());
    assert!(matches!(bench.offer("rejected too"), Err(OfferError::Unwritable { .. })));
    // Settled while that cannot be stored.
    before.seal();
    fault(bench.disk.faults()).store(false, Ordering::SeqCst);
    bench.wait_until(|queue| queue.state().failure.is_none());
    let after = bench.live("after");
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["after"]);
    drop(after);
}

#[test]
fn a_failed_sync_confirms_nothing_and_the_queue_recovers() {
    fails_and_recovers(|faults| &faults.syncs_fail);
}

#[test]
fn a_failed_write_confirms_nothing_and_the_queue_recovers() {
    fails_and_recovers(|faults| &faults.writes_fail);
}

/// Makes one offer fail and waits until a new segment is begun.
fn fail_and_recover(bench: &Bench) {
    bench.disk.faults().writes_fail.store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    bench.disk.faults().writes_fail.store(false, Ordering::SeqCst);
    bench.wait_until(|queue| queue.state().failure.is_none());
}

#[test]
fn a_confirmed_record_survives_a_failure_before_its_response() {
    let mut bench = Bench::new();
    let mut slow = Box::pin(bench.queue().offer(record("slow")));
    {
        let _slow_disk = bench.disk.lock();
        assert!(bench.begin(slow.as_mut()).is_none());
    }
    // Writes are in order: the first record is on disk when the second is confirmed.
    let quick = bench.live("quick");
    fail_and_recover(&bench);
    let Ok(Offered::Live(taken)) = bench.runtime.block_on(slow.as_mut()) else { panic!("not confirmed") };
    drop(slow);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["slow", "quick"]);
    drop((taken, quick));
}

#[test]
fn a_record_that_is_being_read_survives_a_failure() {
    let mut bench = Bench::new();
    drop(bench.live("a"));
    bench.reopen();
    let mut reading = Box::pin(bench.queue().next_stored());
    {
        let _slow_disk = bench.disk.lock();
        assert!(bench.begin(reading.as_mut()).is_none());
    }
    fail_and_recover(&bench);
    let Stored { record: read, taken, .. } = bench.runtime.block_on(reading.as_mut());
    assert_eq!(read.body, "a");
    drop(reading);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a"]);
    drop(taken);
}

#[test]
fn a_record_has_its_age_from_its_confirmation_to_its_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.since(), None);
    let received = Some(UNIX_EPOCH + Duration::from_secs(1));
    let mut slow = Box::pin(bench.queue().offer(record("a")));
    {
        let _slow_disk = bench.disk.lock();
        assert!(bench.begin(slow.as_mut()).is_none());
    }
    bench.wait_until(|queue| !queue.shared.lock().in_transit.is_empty());
    assert_eq!(bench.since(), received, "confirmed and not yet seen by the request");
    let Ok(Offered::Live(taken)) = bench.runtime.block_on(slow.as_mut()) else { panic!("it was confirmed") };
    drop(slow);
    assert_eq!(bench.since(), received, "on its way in memory");
    bench.reopen();
    drop(taken);
    assert_eq!(bench.since(), received, "left by an earlier process, not yet read");
    let shared = Arc::clone(&bench.queue().shared);
    let id = shared.next_to_read().unwrap();
    assert_eq!(bench.since(), received, "being read");
    shared.put_back(id);
    assert_eq!(bench.since(), received, "not readable for the moment");
    let (_, taken) = bench.stored().remove(0);
    assert_eq!(bench.since(), received, "on its way in memory again");
    let part = taken.part(Signal::Traces, 0..1);
    taken.seal();
    drop(part);
    assert_eq!(bench.since(), received, "left for the next start");
    bench.reopen();
    bench.stored().remove(0).1.seal();
    assert_eq!(bench.since(), None);
}

#[test]
fn a_held_record_stays_without_an_age_and_is_read_again_after_a_crash() {
    let mut bench = Bench::new();
    let taken = bench.live("held");
    let hold = taken.hold();
    let part = taken.part(Signal::Traces, 0..1);
    taken.seal();
    assert!(bench.since().is_some());
    part.into_receipts().remove(0).settle(Settled::Delivered);
    assert_eq!(bench.since(), None, "only the hold keeps it");
    assert_eq!(bench.stored_bodies(), [""; 0], "it is in memory");
    bench.crash();
    drop(hold);
    let (body, taken) = bench.stored().remove(0);
    assert_eq!(body, "held");
    let hold = taken.hold();
    taken.seal();
    assert_eq!(bench.since(), None);
    hold.release();
    bench.reopen();
    assert_eq!(bench.stored_bodies(), [""; 0]);
}

#[test]
fn a_panic_of_the_writer_is_reported_and_loses_nothing() {
    let mut bench = Bench::new();
    let taken = bench.live("kept");
    bench.disk.faults().panics.store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    bench.wait_until(|queue| queue.state().failure.is_some());
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    bench.disk.faults().panics.store(false, Ordering::SeqCst);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["kept"]);
    drop(taken);
}

#[test]
fn the_last_progress_is_read_and_removed_with_its_record() {
    let mut bench = Bench::new();
    let (one, other) = (bench.live("one"), bench.live("other"));
    bench.note_progress(one.id(), 1);
    bench.note_progress(one.id(), 2);
    bench.note_progress(other.id(), 9);
    other.seal();
    bench.reopen();
    drop(one);
    for _ in 0..2 {
        let found: Vec<_> = bench.read().into_iter().map(|(body, progress, _)| (body, progress)).collect();
        assert_eq!(found, [("one".to_owned(), progress(2))]);
        bench.reopen();
    }
}

#[test]
fn the_queue_of_version_0_1_is_rejected_and_not_changed() {
    let disk = Sim::default();
    disk.put("queue.redb", b"records of version 0.1");
    let rejected = Bench::closed_on(disk.clone(), |_| {}).open().unwrap_err().to_string();
    assert!(rejected.contains("queue.redb") && rejected.contains("run version 0.1"), "{rejected}");
    assert_eq!(disk.names().unwrap(), ["queue.redb"]);
    assert_eq!(disk.contents("queue.redb"), b"records of version 0.1");
}

fn with_a_record_damaged_while_running() -> Bench {
    let mut bench = Bench::new();
    let taken = ["bad", "good"].map(|body| bench.live(body));
    bench.reopen();
    drop(taken);
    let name = bench.disk.segments().remove(0);
    bench.disk.change(&name, |bytes| {
        let at = memchr::memmem::find(bytes, b"bad").unwrap();
        bytes[at] = b'B';
    });
    bench
}

#[test]
fn a_damaged_record_that_cannot_be_set_aside_stays_in_its_segment() {
    let mut bench = with_a_record_damaged_while_running();
    let name = bench.disk.segments().remove(0);
    bench.disk.set_capacity(Some(0));
    assert_eq!(bench.stored_bodies(), ["good"]);
    // The next start cannot set it aside either.
    for reported in 1..=2 {
        bench.reopen();
        assert_eq!((bench.stored_bodies(), bench.damage_reported()), (vec!["good".to_owned()], reported));
        assert!(memchr::memmem::find(&bench.disk.contents(&name), b"Bad").is_some());
        assert_eq!(bench.disk.named("damaged"), [""; 0]);
    }
    bench.disk.set_capacity(None);
    bench.reopen();
    let aside = bench.disk.contents(&format!("{name}.damaged-1"));
    assert!(memchr::memmem::find(&aside, b"Bad").is_some());
}

#[test]
fn a_damaged_record_that_stays_has_its_age() {
    let bench = with_a_record_damaged_while_running();
    bench.disk.set_capacity(Some(0));
    bench.stored().remove(0).1.seal();
    assert_eq!(bench.since(), Some(UNIX_EPOCH + Duration::from_secs(1)));
}

#[test]
fn a_damaged_record_is_set_aside_and_counted_and_blocks_nothing() {
    let mut bench = with_a_record_damaged_while_running();
    assert_eq!(bench.stored_bodies(), ["good"]);
    assert_eq!(bench.metric("spanrelay_queue_damaged_total{what=\"record\"}"), 1);
    assert!(bench.disk.contents("record.damaged-0").ends_with(b"Bad"));
    bench.reopen();
    assert_eq!(bench.stored_bodies(), ["good"]);
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u32),
    /// Settles one of the open records, by index.
    Settle(u8),
    Progress(u8),
    Reopen,
    Kill,
    LosePower(u64),
    /// The disk fails until it is repaired.
    Fail,
    Repair,
    /// Reads the records that are only on disk.
    Feed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop_oneof![0_u32..2000, 0_u32..100_000].prop_map(Step::Offer),
        6 => any::<u8>().prop_map(Step::Settle),
        3 => any::<u8>().prop_map(Step::Progress),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::LosePower),
        1 => Just(Step::Fail),
        2 => Just(Step::Repair),
        2 => Just(Step::Feed),
    ]
}

/// Model of the queue: the records that must be and those that may be in it, by body.
#[derive(Default)]
struct Model {
    /// Confirmed and not settled.
    open: BTreeMap<String, Option<Taken>>,
    /// Settled, but possibly not stored as such before the process ended.
    settled: Vec<String>,
    /// Stored progress of each record, latest last.
    progress: BTreeMap<String, Vec<u64>>,
}

impl Model {
    fn held(&self, place: u8) -> Option<String> {
        let held: Vec<&String> =
            self.open.iter().filter(|(_, taken)| taken.is_some()).map(|(body, _)| body).collect();
        (!held.is_empty()).then(|| held[usize::from(place) % held.len()].clone())
    }

    /// Checks the age of the queue: exactly that of the oldest record, unless some are on disk only.
    fn check_age(&self, since: Option<SystemTime>) {
        let received =
            |body: &String| UNIX_EPOCH + Duration::from_secs(body.get(..4).unwrap().parse().unwrap());
        let oldest = self.open.keys().next().map(received);
        let all_in_memory = self.open.values().all(Option::is_some);
        assert!(
            since == oldest || !all_in_memory && since.is_some() && since <= oldest,
            "{since:?}, {oldest:?}"
        );
    }

    /// Checks a start: all open records are on disk, and otherwise only records that were settled too late to be
    /// stored.
    fn check_after_start(&mut self, found: Vec<(String, Progress, Taken)>, orderly: bool) {
        let bodies: Vec<&String> = found.iter().map(|(body, ..)| body).collect();
        for body in self.open.keys() {
            assert!(bodies.contains(&body), "{body:.8} was confirmed, and lost");
        }
        assert!(bodies.is_sorted(), "not oldest first: {bodies:?}");
        for (body, progress, taken) in found {
            let known = self.open.contains_key(&body) || (!orderly && self.settled.contains(&body));
            assert!(known, "{body:.8} was never confirmed, or stored as settled");
            let noted = self.progress.get(&body).map_or(&[][..], Vec::as_slice);
            let found = (progress != Progress::default()).then_some(progress.reading);
            let right = match (orderly, found) {
                (true, found) => found == noted.last().copied(),
                (false, Some(found)) => noted.contains(&found),
                (false, None) => true,
            };
            assert!(right, "{body:.8}: {found:?} of {noted:?}");
            // Earlier progress can no longer be found.
            self.progress.insert(body.clone(), found.into_iter().collect());
            self.open.insert(body, Some(taken));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Compares offers, settling in any order, progress, clean stops, kills, power loss and disk failures with a model.
    #[test]
    fn the_queue_keeps_every_confirmed_record(steps in proptest::collection::vec(step(), 1..60), memory in 100_u64..400_000) {
        let mut bench = Bench::new();
        bench.memory = up_to(memory);
        bench.reopen();
        let mut model = Model::default();
        let mut random = Random(memory);
        let repair = |bench: &Bench| {
            bench.disk.faults().syncs_fail.store(false, Ordering::SeqCst);
            bench.wait_until(|queue| queue.state().failure.is_none());
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Offer(size) => {
                    // The number comes first so that sorting by body sorts by age.
                    let body = format!("{number:04}{}", random.text(size as usize));
                    let offer = bench.queue().offer(record_received(number as u64, &body));
                    match bench.runtime.block_on(offer) {
                        Ok(Offered::Live(taken)) => drop(model.open.insert(body, Some(taken))),
                        Ok(Offered::Stored) => drop(model.open.insert(body, None)),
                        Err(refusal) => prop_assert!(matches!(refusal, OfferError::Unwritable { .. }), "{}", refusal),
                    }
                }
                Step::Settle(place) => {
                    if let Some(body) = model.held(place) {
                        model.open.remove(&body).unwrap().unwrap().seal();
                        model.settled.push(body);
                    }
                }
                Step::Progress(place) => {
                    if let Some(body) = model.held(place) {
                        let id = model.open[&body].as_ref().unwrap().id();
                        bench.note_progress(id, number as u64);
                        model.progress.entry(body).or_default().push(number as u64);
                    }
                }
                Step::Feed => {
                    for (body, _, taken) in bench.read() {
                        let slot = model.open.get_mut(&body);
                        prop_assert!(slot.is_some(), "{:.8} was not only on disk", body);
                        *slot.unwrap() = Some(taken);
                    }
                }
                Step::Fail => bench.disk.faults().syncs_fail.store(true, Ordering::SeqCst),
                Step::Repair => repair(&bench),
                Step::Reopen | Step::Kill | Step::LosePower(_) => {
                    repair(&bench);
                    // Records in memory are lost with the process.
                    for taken in model.open.values_mut() {
                        *taken = None;
                    }
                    let memory = std::mem::replace(&mut bench.memory, PLENTY);
                    match step {
                        Step::LosePower(seed) => bench.continue_with(bench.disk.after_power_loss(seed)),
                        Step::Kill => bench.crash(),
                        _ => bench.reopen(),
                    }
                    bench.memory = memory;
                    // A record that was settled too late to be stored may be older.
                    prop_assert!(model.open.is_empty() || bench.since().is_some());
                    let found = bench.read();
                    model.check_after_start(found, matches!(step, Step::Reopen));
                    prop_assert_eq!(bench.damage_reported(), 0);
                }
            }
            model.check_age(bench.since());
        }
    }
}
