//! Damage at every position of a small log, compared with an oracle that only knows the positions of markers.

use super::*;
use crate::queue::disk::frame::HEADER_BYTES;
use crate::queue::disk::segment::{Name, SEGMENT_HEADER_BYTES};

/// A frame as the oracle sees it: the bytes from one marker to the next.
#[derive(Debug, Clone)]
struct Seen {
    range: std::ops::Range<usize>,
    kind: u8,
    id: u64,
}

/// Returns a closed queue of one segment: five records, the third of them settled, the last with progress.
fn small() -> (Sim, String, Vec<Seen>) {
    let disk = Sim::default();
    let mut bench = Bench::on(disk.clone(), |_| {});
    let taken: Vec<Taken> = (0..5).map(|number| bench.live(&format!("body {number}"))).collect();
    for (number, taken) in taken.into_iter().enumerate() {
        match number {
            2 => taken.seal(),
            4 => bench.note_progress(taken.id(), 3),
            _ => {}
        }
    }
    bench.close();
    let [name] = &disk.segments()[..] else { panic!("one segment is enough") };
    let bytes = disk.contents(name);
    let marker = Name::parse(name).unwrap().marker.to_le_bytes();
    // The first marker is in the header of the segment.
    let mut starts: Vec<usize> = memchr::memmem::find_iter(&bytes, &marker).skip(1).collect();
    assert_eq!(starts[0] as u64, SEGMENT_HEADER_BYTES);
    starts.push(bytes.len());
    let seen = starts.windows(2).map(|pair| Seen {
        range: pair[0]..pair[1],
        kind: bytes[pair[0] + 20],
        id: u64::from(bytes[pair[0] + 24]),
    });
    let seen: Vec<Seen> = seen.collect();
    (disk, name.clone(), seen)
}

/// Returns the expected records after the bytes in `damaged` were changed.
fn expected(frames: &[Seen], damaged: &std::ops::Range<usize>) -> Vec<(String, bool)> {
    let whole = |frame: &&Seen| frame.range.end <= damaged.start || damaged.end <= frame.range.start;
    let has = |kind: u8| frames.iter().filter(whole).any(|frame| frame.kind == kind);
    let records = frames.iter().filter(whole).filter(|frame| frame.kind == 1);
    let open = records.filter(|frame| frame.id != 2 || !has(2));
    open.map(|frame| (format!("body {}", frame.id), frame.id == 4 && has(3))).collect()
}

fn read(bench: &Bench) -> Vec<(String, bool)> {
    let read = bench.read().into_iter();
    read.map(|(body, progress, _)| {
        assert!(progress == Progress::default() || progress == super::progress(3));
        (body, progress != Progress::default())
    })
    .collect()
}

fn judge(damage: impl Fn(&mut Vec<u8>, usize) -> std::ops::Range<usize>) {
    let (disk, name, frames) = small();
    let whole = disk.contents(&name);
    for position in 0..whole.len() {
        let disk = disk.after_kill();
        let mut damaged = 0..0;
        disk.change(&name, |bytes| damaged = damage(bytes, position));
        if disk.contents(&name) == whole {
            continue;
        }
        let mut bench = Bench::on(disk.clone(), |_| {});
        let expected = expected(&frames, &damaged);
        assert_eq!(read(&bench), expected, "position {position}");
        assert_eq!(bench.damage_reported(), 1, "position {position}");
        bench.live("new").seal();
        // The damage is reported only once, and the rest is still there.
        bench.metrics = Metrics::new();
        bench.reopen();
        assert_eq!(read(&bench), expected, "position {position}, second start");
        assert_eq!(bench.damage_reported(), 0, "position {position}, second start");
    }
}

#[test]
fn a_flipped_bit_costs_only_its_frame() {
    judge(|bytes, position| {
        bytes[position] ^= 1 << (position % 8);
        position..position + 1
    });
}

#[test]
fn zeros_cost_only_the_frames_that_they_touch() {
    judge(|bytes, position| {
        let end = (position + 40).min(bytes.len());
        let changed: Vec<usize> = (position..end).filter(|at| bytes[*at] != 0).collect();
        bytes[position..end].fill(0);
        changed.first().map_or(0..0, |first| *first..changed.last().unwrap() + 1)
    });
}

#[test]
fn truncation_costs_only_the_frames_after_it() {
    judge(|bytes, position| {
        let end = bytes.len();
        bytes.truncate(position);
        position..end
    });
}

#[test]
fn damaged_bytes_are_copied_to_a_file_of_their_own() {
    let (disk, name, frames) = small();
    let record = frames.iter().filter(|frame| frame.kind == 1).nth(1).unwrap().range.clone();
    disk.change(&name, |bytes| bytes[record.start + 40] ^= 0xff);
    let damaged = disk.contents(&name)[record].to_vec();
    let bench = Bench::on(disk, |_| {});
    assert_eq!(bench.disk.contents(&format!("{name}.damaged-1")), damaged);
}

#[test]
fn bytes_missing_in_the_middle_are_reported_once() {
    let bench = Bench::new();
    let taken: Vec<Taken> = (0..4).map(|number| bench.live(&format!("body {number}"))).collect();
    let disk = bench.disk.after_kill();
    drop(taken);
    let name = disk.segments().remove(0);
    disk.change(&name, |bytes| {
        let second = memchr::memmem::find_iter(&bytes[..], &marker(&name)).nth(2).unwrap();
        bytes.drain(second + HEADER_BYTES + 2..second + HEADER_BYTES + 12);
    });
    let bench = Bench::on(disk, |_| {});
    let names = bench.disk.names().unwrap();
    assert_eq!(names.iter().filter(|name| name.contains(".damaged-")).count(), 1);
    assert_eq!((bench.damage_reported(), bench.stored_bodies().len()), (1, 3));
}

#[test]
fn a_file_without_a_frame_is_set_aside_completely() {
    for contents in [&b""[..], b"text of another program", &[0; 5000]] {
        let (disk, name, _) = small();
        disk.change(&name, |bytes| *bytes = contents.to_vec());
        let bench = Bench::on(disk, |_| {});
        assert_eq!(bench.disk.contents(&format!("{name}.damaged-1")), contents);
        assert_eq!((bench.damage_reported(), bench.stored_bodies().len()), (1, 0));
        bench.live("new").seal();
    }
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = Sim::default();
    let mut bench = Bench::on(disk.clone(), |_| {});
    let mut random = Random(3);
    let taken: Vec<Taken> = (0..6).map(|_| bench.live(&random.text(100_000))).collect();
    bench.crash();
    drop(taken);
    let names = bench.disk.segments();
    assert!(names.len() > 3);
    bench.close();
    bench.disk.remove(&names[1]).unwrap();
    bench.open().unwrap();
    assert_eq!(bench.damage_reported(), 1);
    assert!(!bench.stored_bodies().is_empty());
}

/// A queue with records in several segments, the bodies of the records, and those of the newest segment.
fn with_segments() -> (Bench, Vec<String>, Vec<String>) {
    let mut bench = Bench::new();
    let mut random = Random(5);
    let mut bodies: Vec<String> = (0..6).map(|_| random.text(100_000)).collect();
    let taken: Vec<Taken> = bodies.iter().map(|body| bench.live(body)).collect();
    bench.reopen();
    drop(taken);
    let newest: Vec<String> = (0..2).map(|number| format!("newest {number}")).collect();
    let taken: Vec<Taken> = newest.iter().map(|body| bench.live(body)).collect();
    bodies.extend(newest.iter().cloned());
    bench.close();
    drop(taken);
    assert!(bench.disk.segments().len() > 3);
    (bench, bodies, newest)
}

#[test]
fn a_missing_newest_segment_is_reported_once() {
    let (mut bench, bodies, newest) = with_segments();
    let name = bench.disk.segments().pop().unwrap();
    let contents = bench.disk.contents(&name);
    bench.disk.remove(&name).unwrap();
    bench.open().unwrap();
    assert_eq!((bench.damage_reported(), bench.stored_bodies()), (1, bodies[..6].to_vec()));
    let new = bench.live("new");
    bench.reopen();
    drop(new);
    assert_eq!(bench.damage_reported(), 1);

    // It is put back.
    bench.close();
    bench.disk.put(&name, &contents);
    bench.open().unwrap();
    let expected = [&bodies[..6], &newest, &["new".to_owned()]].concat();
    assert_eq!((bench.damage_reported(), bench.stored_bodies()), (1, expected));
}

#[test]
fn a_start_without_any_of_the_segments_is_reported() {
    let (mut bench, ..) = with_segments();
    for name in bench.disk.segments() {
        bench.disk.remove(&name).unwrap();
    }
    bench.open().unwrap();
    assert_eq!((bench.damage_reported(), bench.stored_bodies().len()), (1, 0));
    bench.live("new").seal();
    bench.reopen();
    assert_eq!(bench.damage_reported(), 1);
}

#[test]
fn segments_under_other_names_are_read_under_their_own() {
    let (mut bench, bodies, _) = with_segments();
    let names = bench.disk.segments();
    let contents: Vec<Vec<u8>> = names.iter().map(|name| bench.disk.contents(name)).collect();
    // The first two are swapped, the third is renamed, the last is copied.
    bench.disk.put(&names[0], &contents[1]);
    bench.disk.put(&names[1], &contents[0]);
    bench.disk.rename(&names[2], "segment-0000000077-00000000000000ab.log").unwrap();
    let copy = "segment-0000000078-00000000000000ab.log";
    bench.disk.put(copy, contents.last().unwrap());
    bench.open().unwrap();
    assert_eq!((bench.damage_reported(), bench.stored_bodies()), (4, bodies));
    assert_eq!(bench.disk.named("damaged"), [format!("{copy}.damaged-1")]);
    assert_eq!(bench.disk.contents(&names[0]), contents[0]);
    bench.reopen();
    assert_eq!(bench.damage_reported(), 4);
}

/// The last confirmed record is known to be damaged once a mark follows it.
#[test]
fn damage_to_the_last_record_is_distinguished_from_an_interrupted_write() {
    let bench = Bench::new();
    let taken = bench.live("kept");
    let name = bench.disk.segments().remove(0);
    // The segment's header, the record, the mark.
    let is_marked =
        |disk: &Sim| memchr::memmem::find_iter(&disk.contents(&name), &marker(&name)).count() == 3;
    let unmarked = bench.disk.after_kill();
    bench.wait_until(|_| is_marked(&bench.disk));
    let marked = bench.disk.after_kill();
    drop(taken);
    for disk in [unmarked, marked] {
        // On a slow machine there may be two marks.
        let reported = u64::from(is_marked(&disk));
        disk.change(&name, |bytes| bytes[SEGMENT_HEADER_BYTES as usize + HEADER_BYTES + 5] ^= 1);
        let bench = Bench::on(disk, |_| {});
        assert_eq!((bench.damage_reported(), bench.stored_bodies().len()), (reported, 0));
    }
}

fn marker(name: &str) -> [u8; 8] {
    Name::parse(name).unwrap().marker.to_le_bytes()
}

/// The body holds complete frames that are valid except for the marker, which no sender knows.
#[test]
fn bodies_are_never_searched_for_frames() {
    let bench = Bench::new();
    let inner = record::encode_frame(&super::record("inner")).unwrap();
    let body = inner.repeat(3);
    let offered = Record { body: body.into(), ..super::record("") };
    let Ok(Offered::Live(taken)) = bench.runtime.block_on(bench.queue().offer(offered)) else {
        panic!("no room")
    };
    let other = bench.live("other");
    let disk = bench.disk.after_kill();
    drop((taken, other));
    disk.change(&disk.segments()[0], |bytes| bytes[SEGMENT_HEADER_BYTES as usize + 16] ^= 1);
    let bench = Bench::on(disk, |_| {});
    assert_eq!((bench.stored_bodies(), bench.damage_reported()), (vec!["other".to_owned()], 1));
}

#[test]
fn a_newer_layout_is_rejected_and_not_changed() {
    let (disk, name, _) = small();
    disk.change(&name, |bytes| {
        bytes[8] += 1;
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes[20..].fill(0xff);
    });
    let before = disk.contents(&name);
    let rejected = Bench::closed_on(disk.clone(), |_| {}).open();
    assert!(matches!(rejected, Err(OpenError::Newer { .. })));
    assert_eq!((disk.contents(&name), disk.segments().len()), (before, 1));
}

proptest! {
    /// Any bytes as a segment: no panic, no invented record, and the queue works.
    #[test]
    fn any_file_results_in_a_queue_that_works(bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0_usize..200) {
        let (disk, name, _) = small();
        disk.change(&name, |content| {
            content.truncate(keep);
            content.extend_from_slice(&bytes);
        });
        let bench = Bench::on(disk, |_| {});
        let stored = bench.stored_bodies();
        prop_assert!(stored.iter().all(|body| body.starts_with("body ")), "{:?}", stored);
        bench.live("new").seal();
    }
}
