use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use redb::{Database, TableDefinition};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::file::Faults;
use super::*;
use crate::config::{Storage, Sync};
use crate::otlp::Signal;
use crate::queue::Taken;

const PLENTY: u64 = 1 << 30;

/// A queue in a directory that outlives it.
struct Bench {
    runtime: Runtime,
    directory: TempDir,
    config: QueueConfig,
    faults: Arc<Faults>,
    metrics: Metrics,
    memory_bytes: u64,
    queue: Option<DiskQueue>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut QueueConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = QueueConfig {
            storage: Storage::Disk,
            directory: directory.path().join("queue"),
            max_size: PLENTY,
            sync: Sync::Always,
            rejected_max_size: PLENTY,
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (faults, metrics) = (Arc::default(), Metrics::new());
        let mut bench =
            Self { runtime, directory, config, faults, metrics, memory_bytes: PLENTY, queue: None };
        bench.open().unwrap();
        bench
    }

    fn open(&mut self) -> Result<(), OpenError> {
        fs::create_dir_all(&self.config.directory).unwrap();
        let lock = lock(&self.config.directory).expect("the directory is free");
        let file = StoreFile { path: self.store(), sync: self.config.sync, faults: Arc::clone(&self.faults) };
        let queue = DiskQueue::open_store(file, lock, &self.config, self.memory_bytes, self.metrics.clone())?;
        self.queue = Some(queue);
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.config.directory.join(STORE)
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

    /// Everything that is on disk only, in the order in which it is read.
    fn stored(&self) -> Vec<(String, Taken)> {
        let mut all = Vec::new();
        self.runtime.block_on(async {
            while !self.queue().shared.lock().backlog.is_empty() {
                let Stored { record, taken, .. } = self.queue().next_stored().await;
                all.push((String::from_utf8(record.body.to_vec()).unwrap(), taken));
            }
        });
        all
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

    /// As after `kill -9`: the files as they are at this moment, and another process.
    fn crash(&mut self) {
        let next =
            self.directory.path().join(format!("after-{}", fs::read_dir(&self.directory).unwrap().count()));
        fs::create_dir_all(&next).unwrap();
        fs::copy(self.store(), next.join(STORE)).unwrap();
        self.close();
        self.config.directory = next;
        self.open().unwrap();
    }

    fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.metrics.render()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Lets it go as far as it goes without waiting.
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

fn record(body: &str) -> Record {
    Record {
        receiver: Arc::from("fastly"),
        received: UNIX_EPOCH + Duration::from_secs(1),
        reading: Bytes::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn what_was_taken_and_not_settled_is_read_again_oldest_first() {
    let mut bench = Bench::new();
    let taken: Vec<Taken> = ["a", "b", "c"].map(|body| bench.live(body)).into();
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a", "b", "c"]);
    drop(taken);
}

#[test]
fn what_was_settled_does_not_come_back_after_an_orderly_end() {
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
fn what_has_no_room_in_memory_waits_on_disk_for_its_turn() {
    let mut bench = Bench::new();
    bench.memory_bytes = 10;
    bench.reopen();
    let first = bench.live("0123456789");
    for body in ["second", "third"] {
        assert!(matches!(bench.offer(body).unwrap(), Offered::Stored));
    }
    assert!(bench.queue().shared.next_to_read().is_none(), "there is no room yet");
    first.seal();
    assert_eq!(bench.stored_bodies(), ["second", "third"]);
}

#[test]
fn new_records_leave_half_of_the_memory_to_those_that_wait_on_disk() {
    let mut bench = Bench::new();
    bench.memory_bytes = 10;
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
fn a_full_queue_says_so_before_it_takes_anything() {
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
fn a_directory_has_one_owner() {
    let bench = Bench::new();
    let second = DiskQueue::open(&bench.config, PLENTY, Metrics::new());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
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
fn always_syncs_before_it_confirms_and_never_leaves_it_to_the_machine() {
    let bench = Bench::new();
    let before = bench.faults.syncs.load(Ordering::SeqCst);
    bench.live("a").seal();
    assert!(bench.faults.syncs.load(Ordering::SeqCst) > before);

    let mut bench = Bench::with(|config| config.sync = Sync::Never);
    let taken = bench.live("a");
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a"]);
    drop(taken);
}

#[test]
fn interval_confirms_at_once_and_syncs_soon() {
    let mut bench = Bench::with(|config| config.sync = Sync::Interval);
    let before = bench.faults.syncs.load(Ordering::SeqCst);
    let taken = bench.live("a");
    let faults = Arc::clone(&bench.faults);
    bench.wait_until(|_| faults.syncs.load(Ordering::SeqCst) > before);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["a"]);
    drop(taken);
}

/// The disk fails one offer, then works again by itself.
fn fails_and_recovers(fault: impl Fn(&Faults) -> &AtomicBool) {
    let mut bench = Bench::new();
    let before = bench.live("before");
    fault(&bench.faults).store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("refused"), Err(OfferError::Unwritable { .. })));
    assert!(bench.queue().state().failure.is_some());
    assert!(matches!(bench.offer("refused too"), Err(OfferError::Unwritable { .. })));
    // Settled while it cannot be noted.
    before.seal();
    fault(&bench.faults).store(false, Ordering::SeqCst);
    bench.wait_until(|queue| queue.state().failure.is_none());
    let after = bench.live("after");
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["after"]);
    drop(after);
}

#[test]
fn a_failed_sync_is_never_called_good_and_passes() {
    fails_and_recovers(|faults| &faults.sync_fails);
}

#[test]
fn a_full_disk_refuses_and_passes() {
    fails_and_recovers(|faults| &faults.full);
}

/// Makes one offer fail, and waits until the store was opened anew.
fn fail_and_recover(bench: &Bench) {
    bench.faults.full.store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("refused"), Err(OfferError::Unwritable { .. })));
    bench.faults.full.store(false, Ordering::SeqCst);
    bench.wait_until(|queue| queue.state().failure.is_none());
}

#[test]
fn a_confirmed_record_survives_a_failure_before_its_sender_is_told() {
    let mut bench = Bench::new();
    let mut slow = Box::pin(bench.queue().offer(record("slow")));
    assert!(bench.begin(slow.as_mut()).is_none());
    // The writer takes one after the other: the first is on disk when the second is confirmed.
    let quick = bench.live("quick");
    fail_and_recover(&bench);
    let Ok(Offered::Live(taken)) = bench.runtime.block_on(slow.as_mut()) else { panic!("it was confirmed") };
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
        let _slow_disk = bench.queue().shared.store.write().unwrap();
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
fn a_writer_that_dies_is_told_and_loses_nothing() {
    let mut bench = Bench::new();
    let taken = bench.live("kept");
    bench.faults.panics.store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("refused"), Err(OfferError::Unwritable { .. })));
    bench.wait_until(|queue| queue.state().failure.is_some());
    assert!(matches!(bench.offer("refused"), Err(OfferError::Unwritable { .. })));
    bench.faults.panics.store(false, Ordering::SeqCst);
    bench.crash();
    assert_eq!(bench.stored_bodies(), ["kept"]);
    drop(taken);
}

#[test]
fn space_is_given_back_after_an_outage() {
    let bench = Bench::new();
    let mut seed = 7_u64;
    let taken: Vec<Taken> = (0..40)
        .map(|_| {
            let noise: String = (0..1_000_000)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from((seed >> 57) as u8 & 0x3f | 0x40)
                })
                .collect();
            bench.live(&noise)
        })
        .collect();
    let size_bytes = || fs::metadata(bench.store()).unwrap().len();
    assert!(size_bytes() > 20_000_000, "{}", size_bytes());
    for taken in taken {
        taken.seal();
    }
    bench.wait_until(|_| size_bytes() < 2_000_000);
    bench.live("and it still works").seal();
}

/// Damages the file of a closed queue that keeps one record, and opens it again.
fn damage(change: impl FnOnce(&Path)) -> (Bench, Result<(), OpenError>) {
    let mut bench = Bench::new();
    let taken = bench.live("kept");
    bench.close();
    drop(taken);
    change(&bench.store());
    let opened = bench.open();
    (bench, opened)
}

fn set_aside(bench: &Bench) -> bool {
    bench.config.directory.join(format!("{STORE}.damaged-1")).exists()
}

#[test]
fn a_damaged_file_is_set_aside_counted_and_a_new_one_begun() {
    let overwrite = |path: &Path, from: u64, to: u64| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&vec![0x5a; usize::try_from(to - from).unwrap()], from).unwrap();
    };
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let truncate =
        |path: &Path, to: u64| File::options().write(true).open(path).unwrap().set_len(to).unwrap();
    type Change = Box<dyn Fn(&Path)>;
    let changes: [Change; 5] = [
        Box::new(move |path| overwrite(path, 0, 4096)),
        Box::new(move |path| overwrite(path, 0, length(path))),
        Box::new(move |path| overwrite(path, 4096, length(path))),
        Box::new(move |path| truncate(path, 0)),
        Box::new(move |path| truncate(path, 100)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (bench, opened) = damage(change);
        opened.unwrap_or_else(|error| panic!("{number}: {error}"));
        assert!(set_aside(&bench), "{number}");
        assert_eq!(bench.metric("spanrelay_queue_damaged_total{what=\"file\"}"), 1, "{number}");
        bench.live("new").seal();
    }
}

#[test]
fn every_truncation_is_either_whole_or_set_aside() {
    let whole = {
        let (bench, _) = damage(|_| {});
        fs::metadata(bench.store()).unwrap().len()
    };
    for part in 1..16 {
        let (bench, opened) = damage(|path| {
            File::options().write(true).open(path).unwrap().set_len(whole * part / 16).unwrap()
        });
        opened.unwrap_or_else(|error| panic!("{part}/16: {error}"));
        let kept = bench.stored_bodies() == ["kept"];
        assert!(kept != set_aside(&bench), "{part}/16: kept: {kept}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_left_alone_and_the_start_refused() {
    let (bench, opened) = damage(|path| {
        let db = Database::open(path).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction
            .open_table(TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("version", 2)
            .unwrap();
        transaction.commit().unwrap();
    });
    assert!(matches!(opened, Err(OpenError::Newer { .. })));
    assert!(!set_aside(&bench));
}

/// A store with a damaged record and a good one behind it.
fn with_damaged_record() -> Bench {
    let (bench, opened) = damage(|path| {
        let db = Database::open(path).unwrap();
        let transaction = db.begin_write().unwrap();
        let table = TableDefinition::<u64, &[u8]>::new("records");
        transaction.open_table(table).unwrap().insert(0, &b"not a record"[..]).unwrap();
        transaction
            .open_table(table)
            .unwrap()
            .insert(1, &*record::encode(&super::tests::record("good")).unwrap())
            .unwrap();
        transaction.commit().unwrap();
    });
    opened.unwrap();
    bench
}

#[test]
fn a_damaged_record_that_cannot_be_set_aside_stays_where_it_is() {
    let mut bench = with_damaged_record();
    let aside = bench.config.directory.join("record.damaged-0");
    fs::create_dir(&aside).unwrap();
    assert_eq!(bench.stored_bodies(), ["good"]);
    bench.close();
    fs::remove_dir(&aside).unwrap();
    bench.open().unwrap();
    assert_eq!(bench.stored_bodies(), ["good"]);
    assert_eq!(fs::read(aside).unwrap(), b"not a record");
}

#[test]
fn a_damaged_record_is_set_aside_counted_and_not_in_the_way() {
    let bench = with_damaged_record();
    assert_eq!(bench.stored_bodies(), ["good"]);
    assert_eq!(bench.metric("spanrelay_queue_damaged_total{what=\"record\"}"), 1);
    assert_eq!(fs::read(bench.config.directory.join("record.damaged-0")).unwrap(), b"not a record");
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u16),
    /// One of those that are open, by place.
    Settle(u8),
    Reopen,
    Crash,
    /// The disk fails from here until it is repaired.
    Fail,
    Repair,
    /// Read what is on disk only.
    Feed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u16..2000).prop_map(Step::Offer),
        5 => any::<u8>().prop_map(Step::Settle),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
        1 => Just(Step::Fail),
        2 => Just(Step::Repair),
        2 => Just(Step::Feed),
    ]
}

/// What must be and what may be in the queue, by body.
#[derive(Default)]
struct Model {
    /// Confirmed and not settled.
    open: BTreeMap<String, Option<Taken>>,
    /// Settled, but perhaps not noted before the crash.
    settled: Vec<String>,
}

impl Model {
    /// After a start: all that is open is on disk, and nothing else but what was settled too late to be noted.
    fn check_after_start(&mut self, found: Vec<(String, Taken)>) {
        let bodies: Vec<&String> = found.iter().map(|(body, _)| body).collect();
        for body in self.open.keys() {
            assert!(bodies.contains(&body), "{body} was confirmed and is lost");
        }
        assert!(bodies.is_sorted(), "not oldest first: {bodies:?}");
        for (body, taken) in found {
            assert!(
                self.open.contains_key(&body) || self.settled.contains(&body),
                "{body} was never confirmed"
            );
            self.open.insert(body, Some(taken));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Offers, settling, orderly ends, crashes and a disk that fails, against a model that only remembers.
    #[test]
    fn the_queue_keeps_what_it_confirmed_whatever_happens(steps in proptest::collection::vec(step(), 1..40), memory in 100_u64..4000) {
        let mut bench = Bench::new();
        bench.memory_bytes = memory;
        bench.reopen();
        let mut model = Model::default();
        let repair = |bench: &Bench| {
            bench.faults.sync_fails.store(false, Ordering::SeqCst);
            bench.wait_until(|queue| queue.state().failure.is_none());
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Offer(size) => {
                    // Sorted by number is sorted by age.
                    let body = format!("{number:04}{}", "x".repeat(size.into()));
                    match bench.offer(&body) {
                        Ok(Offered::Live(taken)) => drop(model.open.insert(body, Some(taken))),
                        Ok(Offered::Stored) => drop(model.open.insert(body, None)),
                        Err(refusal) => prop_assert!(matches!(refusal, OfferError::Unwritable { .. }), "{}", refusal),
                    }
                }
                Step::Settle(place) => {
                    let held: Vec<String> =
                        model.open.iter().filter(|(_, taken)| taken.is_some()).map(|(body, _)| body.clone()).collect();
                    if !held.is_empty() {
                        let body = held[usize::from(place) % held.len()].clone();
                        model.open.remove(&body).unwrap().unwrap().seal();
                        model.settled.push(body);
                    }
                }
                Step::Feed => {
                    // Only as much as fits into memory.
                    while let Some(id) = bench.queue().shared.next_to_read() {
                        let shared = Arc::clone(&bench.queue().shared);
                        match shared.read(id) {
                            Ok(stored) => {
                                let Stored { record, taken, .. } = shared.revive(id, &stored.0, stored.1).unwrap();
                                let body = String::from_utf8(record.body.to_vec()).unwrap();
                                let slot = model.open.get_mut(&body);
                                prop_assert!(slot.is_some(), "{} was not waiting", body);
                                *slot.unwrap() = Some(taken);
                            }
                            Err(_) => {
                                shared.lock().backlog.put_back(id.0);
                                break;
                            }
                        }
                    }
                }
                Step::Fail => bench.faults.sync_fails.store(true, Ordering::SeqCst),
                Step::Repair => repair(&bench),
                Step::Reopen | Step::Crash => {
                    repair(&bench);
                    let orderly = matches!(step, Step::Reopen);
                    // What is in memory dies with the process.
                    for taken in model.open.values_mut() {
                        *taken = None;
                    }
                    if orderly {
                        model.settled.clear();
                    }
                    let memory = std::mem::replace(&mut bench.memory_bytes, PLENTY);
                    if orderly { bench.reopen() } else { bench.crash() }
                    let found = bench.stored();
                    bench.memory_bytes = memory;
                    model.check_after_start(found);
                }
            }
        }
    }
}
