//! Disk usage of the log, and its behaviour on a full disk.

use super::*;
use crate::queue::disk::log::{CommitBatch, Log};
use crate::queue::disk::recovery::Recovered;

/// Size of a segment with the `max_size` of the test.
const SEGMENT_BYTES: u64 = 256 * 1024;

/// Returns the bytes written for each accepted byte when groups of `records` records share a commit, and another commit
/// settles them.
fn amplification(records: u64, body_bytes: usize) -> f64 {
    let disk = Sim::default();
    let mut log = Log::new(Arc::new(disk.clone()), Sync::Always, 1 << 30, Recovered::default());
    log.roll(0, 0).unwrap();
    let mut random = Random(1);
    let (before, mut accepted, mut next_id) = (disk.written_bytes(), 0, 0);
    for _ in 0..10 {
        let mut batch = CommitBatch::default();
        for _ in 0..records {
            let body = random.text(body_bytes);
            accepted += body.len();
            batch.records.push((next_id, record::encode(&record(&body)).unwrap()));
            next_id += 1;
        }
        log.commit(&mut batch, true, next_id).unwrap();
        let done = (next_id - records..next_id).map(|id| (id, 0)).collect();
        log.commit(&mut CommitBatch { done, ..CommitBatch::default() }, true, next_id).unwrap();
    }
    (disk.written_bytes() - before) as f64 / accepted as f64
}

#[test]
fn little_more_is_written_than_was_accepted() {
    assert!(amplification(16, 2200) <= 1.2);
    assert!(amplification(4, 1700) <= 2.5);
    assert!(amplification(1, 1700) <= 5.0);
}

#[test]
fn one_commit_is_one_write_and_one_sync() {
    let disk = Sim::default();
    let mut log = Log::new(Arc::new(disk.clone()), Sync::Always, 1 << 30, Recovered::default());
    log.roll(0, 0).unwrap();
    let records = (0..100).map(|id| (id, record::encode(&record("body")).unwrap())).collect();
    let mut batch =
        CommitBatch { records, progress: vec![(1, vec![1])], done: vec![(2, 4), (7, 4)], mark: false };
    let (operations, syncs) = (disk.operations(), disk.syncs());
    log.commit(&mut batch, true, 0).unwrap();
    assert_eq!((disk.operations() - operations, disk.syncs() - syncs), (2, 1));
}

#[test]
fn segments_are_removed_when_they_and_all_older_ones_are_settled() {
    let mut bench = Bench::new();
    let mut random = Random(2);
    let mut held: Vec<Taken> = (0..40).map(|_| bench.live(&random.text(100_000))).collect();
    assert!(bench.disk.used_bytes() > 3_000_000);
    held.drain(..).for_each(Taken::seal);
    bench.wait_until(|_| bench.disk.used_bytes() <= SEGMENT_BYTES);
    bench.live("and it still works").seal();
    bench.reopen();
    assert_eq!(bench.stored_bodies(), [""; 0]);
}

/// One record stays open while a hundred times as much is accepted and settled.
#[test]
fn an_old_record_does_not_pin_the_disk() {
    let mut bench = Bench::new();
    let mut random = Random(4);
    let old = bench.live("old");
    bench.note_progress(old.id(), 5);
    let mut most = 0;
    for _ in 0..300 {
        bench.live(&random.text(100_000)).seal();
        most = most.max(bench.disk.used_bytes());
    }
    assert!(most <= 8 * SEGMENT_BYTES, "{most} bytes");
    let other = bench.live("young");
    for _ in 0..2 {
        bench.crash();
        let found: Vec<_> = bench.read().into_iter().map(|(body, progress, _)| (body, progress)).collect();
        assert_eq!(found, [("old".to_owned(), progress(5)), ("young".to_owned(), Progress::default())]);
    }
    drop((old, other));
    for (_, taken) in {
        bench.reopen();
        bench.stored()
    } {
        taken.seal();
    }
    bench.reopen();
    assert_eq!(bench.stored_bodies(), [""; 0], "a moved record is settled at its new position");
}

#[test]
fn starts_do_not_accumulate_segments() {
    let mut bench = Bench::new();
    let taken = bench.live("old");
    for _ in 0..250 {
        bench.reopen();
    }
    drop(taken);
    bench.wait_until(|_| bench.disk.segments().len() < 200);
    bench.reopen();
    assert_eq!(bench.stored_bodies(), ["old"]);
}

fn assert_reports_a_full_disk(bench: &Bench) {
    assert_eq!(bench.queue().state().failure.as_deref(), Some("the disk is full"));
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    assert_eq!(bench.damage_reported(), 0);
}

#[test]
fn a_first_start_on_a_full_disk_is_reported_and_recovers_with_space() {
    for capacity in [0, 1000] {
        let disk = Sim::default();
        disk.set_capacity(Some(capacity));
        for _ in 0..3 {
            let mut bench = Bench::on(disk.clone(), |_| {});
            assert_reports_a_full_disk(&bench);
            bench.close();
            assert_eq!(disk.named("damaged"), [""; 0]);
        }
        let mut bench = Bench::on(disk.clone(), |_| {});
        disk.set_capacity(None);
        bench.wait_until(|queue| queue.state().failure.is_none());
        let taken = bench.live("kept");
        bench.crash();
        assert_eq!(bench.stored_bodies(), ["kept"]);
        drop(taken);
    }
}

#[test]
fn on_a_full_disk_deliveries_are_stored_and_free_space() {
    for capacity in [200_000, 600_000, 1_000_000, 3_000_000] {
        let disk = Sim::default();
        disk.set_capacity(Some(capacity));
        let mut bench = Bench::on(disk.clone(), |_| {});
        let (mut random, mut held) = (Random(6), Vec::new());
        while let Ok(Offered::Live(taken)) = bench.offer(&random.text(10_000)) {
            held.push(taken);
        }
        assert!(held.len() as u64 > capacity / 20_000, "{} of {capacity}", held.len());
        assert_reports_a_full_disk(&bench);
        let open = held.pop().unwrap();
        held.drain(..).for_each(Taken::seal);
        bench.wait_until(|queue| queue.state().kept_bytes < 20_000);
        bench.close();
        bench.open().unwrap();
        assert_eq!(bench.stored_bodies().len(), 1, "{capacity}");
        drop(open);
        bench.reopen();
        bench.stored().into_iter().for_each(|(_, taken)| taken.seal());
        bench.wait_until(|queue| queue.state().failure.is_none());
        bench.live("again").seal();
    }
}

#[test]
fn a_start_on_a_full_disk_serves_stored_records() {
    let mut bench = Bench::new();
    let taken = bench.live("kept");
    let disk = bench.disk.after_kill();
    bench.close();
    drop(taken);
    disk.set_capacity(Some(0));
    let bench = Bench::on(disk.clone(), |_| {});
    assert_reports_a_full_disk(&bench);
    assert_eq!(bench.stored_bodies(), ["kept"]);
    disk.set_capacity(None);
    bench.wait_until(|queue| queue.state().failure.is_none());
    bench.live("new").seal();
}

/// Fills the disk below the size of a segment, as happens where preallocation is not possible.
#[test]
fn a_write_that_fails_on_a_full_disk_is_not_part_of_the_log() {
    let mut bench = Bench::new();
    let kept = bench.live("kept");
    bench.disk.faults().writes_fail.store(true, Ordering::SeqCst);
    assert!(matches!(bench.offer("rejected"), Err(OfferError::Unwritable { .. })));
    bench.disk.faults().writes_fail.store(false, Ordering::SeqCst);
    bench.wait_until(|queue| queue.state().failure.is_none());
    bench.crash();
    assert_eq!((bench.stored_bodies(), bench.damage_reported()), (vec!["kept".to_owned()], 0));
    drop(kept);
}
