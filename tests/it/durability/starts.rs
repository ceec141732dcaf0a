//! Starts with unusable files in the directory: the relay reports them or sets them aside. It never silently starts
//! empty, and never crashes repeatedly.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::downstream::Mood;
use super::home::{Home, at_rest, batch, stopped};
use super::small_disk::{SmallDisk, am_root};
use crate::harness::{Ask, Ended, eventually, span, spanrelay};

/// Runs the relay, which must not start, and returns its output.
async fn does_not_start(home: &Home) -> String {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(home.configuration().as_bytes()).unwrap();
    let ended = Ended::of(&mut spanrelay(&["run", "--config", file.path().to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    ended.err
}

async fn names_the_directory(home: &Home) -> String {
    let said = does_not_start(home).await;
    assert!(said.contains("queue.directory"), "{said}");
    assert!(said.contains(home.directory.to_str().unwrap()), "{said}");
    said
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_named() {
    let home = Home::new(Mood::Up, "").await;
    fs::write(&home.directory, "not a directory").unwrap();
    names_the_directory(&home).await;
    assert_eq!(fs::read_to_string(&home.directory).unwrap(), "not a directory");
}

#[tokio::test]
async fn a_directory_on_a_read_only_file_system_is_named() {
    let Some(disk) = SmallDisk::mount("a_directory_on_a_read_only_file_system_is_named", "16m") else {
        return;
    };
    let home = Home::at(disk.directory(), Mood::Up, "").await;
    disk.make_read_only();
    names_the_directory(&home).await;
}

#[tokio::test]
async fn a_directory_without_permission_is_named() {
    if am_root() {
        eprintln!("SKIPPED a_directory_without_permission_is_named: root may write everywhere");
        return;
    }
    let home = Home::new(Mood::Up, "").await;
    fs::create_dir(&home.directory).unwrap();
    fs::set_permissions(&home.directory, fs::Permissions::from_mode(0o500)).unwrap();
    names_the_directory(&home).await;
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_fails_and_the_first_continues() {
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start().await;
    let said = names_the_directory(&home).await;
    assert!(said.contains("in use by another process"), "{said}");
    batch(&relay, span(1, "undisturbed")).await;
    at_rest(&relay).await;
    // The lock is released with its process, however that ends.
    relay.kill().await;
    stopped(home.start().await).await;
    // Its last delivery may not have been stored yet.
    assert!(home.downstream.taken_names().iter().all(|name| name == "undisturbed"));
}

/// Creates a home whose queue keeps one span.
async fn with_one_queued_span(name: &str) -> Home {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    batch(&relay, span(1, name)).await;
    relay.kill().await;
    home
}

/// Returns the files of the queue itself, oldest first.
fn segments(home: &Home) -> Vec<PathBuf> {
    let files = fs::read_dir(&home.directory).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|it| it == "log")).collect();
    segments.sort();
    segments
}

fn set_aside(home: &Home) -> Vec<PathBuf> {
    let files = fs::read_dir(&home.directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.to_string_lossy().contains(".damaged-")).collect()
}

#[tokio::test]
async fn damage_is_set_aside_and_counted_and_costs_only_its_request() {
    let mut home = Home::new(Mood::Down, "exporters.otlp_http.max_in_flight: 1").await;
    let relay = home.start().await;
    for (id, name) in [(1, "first"), (2, "lost"), (3, "third")] {
        batch(&relay, span(id, name)).await;
    }
    relay.kill().await;
    let segment = segments(&home).remove(0);
    let at = memchr::memmem::find(&fs::read(&segment).unwrap(), b"lost").unwrap();
    File::options().write(true).open(&segment).unwrap().write_all_at(b"LOST", at as u64).unwrap();

    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    let samples = at_rest(&relay).await;
    assert_eq!(samples.sum("spanrelay_queue_damaged_total", &[("what", "file")]), 1.0);
    assert!(relay.log().contains("damaged part of the queue set aside"), "{}", relay.log());
    batch(&relay, span(4, "goes on")).await;
    at_rest(&relay).await;
    relay.kill().await;
    let [aside] = &set_aside(&home)[..] else { panic!("not set aside once") };
    assert!(
        memchr::memmem::find(&fs::read(aside).unwrap(), b"LOST").is_some(),
        "what is left of it is there"
    );

    // Only once: the next start finds no damage.
    let relay = home.start().await;
    assert_eq!(relay.metrics().await.sum("spanrelay_queue_damaged_total", &[]), 0.0);
    stopped(relay).await;
    assert_eq!(set_aside(&home).len(), 1);
    let mut names = home.downstream.taken_names();
    names.dedup();
    assert_eq!(names, ["first", "third", "goes on"]);
}

#[tokio::test]
async fn the_relay_starts_with_every_kind_of_damage() {
    let home = with_one_queued_span("perhaps").await;
    let segment = segments(&home).remove(0);
    let name = segment.file_name().unwrap().to_owned();
    let good = fs::read(&segment).unwrap();
    let cut = |part: usize| good[..good.len() / 8 * part].to_vec();
    let overwritten = |place: usize| {
        let mut bytes = good.clone();
        let place = good.len() / 8 * place;
        bytes[place..place + 512].fill(0xff);
        bytes
    };
    let no_segment = b"text of another program".to_vec();
    let damages =
        [vec![], no_segment, vec![0; good.len()], cut(1), cut(4), cut(7), overwritten(0), overwritten(1)];
    for (number, damaged) in damages.into_iter().enumerate() {
        let mut home = Home::new(Mood::Up, "").await;
        fs::create_dir(&home.directory).unwrap();
        fs::write(home.directory.join(&name), &damaged).unwrap();
        let relay = home.start().await;
        let samples = at_rest(&relay).await;
        let damages = samples.sum("spanrelay_queue_damaged_total", &[("what", "file")]);
        let delivered = home.downstream.taken_names().len();
        assert!(damages == 1.0 || delivered == 1, "{number}: {damages} damages, {delivered} delivered");
        assert_eq!(set_aside(&home).len() as f64, damages, "{number}");
        batch(&relay, span(2, "goes on")).await;
        at_rest(&relay).await;
        stopped(relay).await;
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_fails_the_start_and_is_not_changed() {
    let mut home = with_one_queued_span("of the future").await;
    let segment = segments(&home).remove(0);
    let good = fs::read(&segment).unwrap();
    let mut newer = good.clone();
    newer[8] = 200;
    let crc = crc32fast::hash(&newer[..12]);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&segment, &newer).unwrap();
    for _ in 0..2 {
        let said = does_not_start(&home).await;
        assert!(said.contains("newer version"), "{said}");
        assert!(said.contains(segment.to_str().unwrap()), "{said}");
    }
    assert!(set_aside(&home).is_empty());
    assert_eq!(fs::read(&segment).unwrap(), newer);

    fs::write(&segment, &good).unwrap();
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["of the future"]);
}

#[tokio::test]
async fn the_queue_of_version_0_1_fails_the_start_and_is_not_changed() {
    let home = Home::new(Mood::Up, "").await;
    fs::create_dir_all(&home.directory).unwrap();
    let store = home.directory.join("queue.redb");
    fs::write(&store, "records of version 0.1").unwrap();
    let said = does_not_start(&home).await;
    assert!(said.contains(store.to_str().unwrap()) && said.contains("run version 0.1"), "{said}");
    assert_eq!(fs::read_to_string(&store).unwrap(), "records of version 0.1");
}

/// An unreadable segment is never treated as an empty one.
#[tokio::test]
async fn a_queue_file_that_cannot_be_opened_fails_the_start() {
    let home = Home::new(Mood::Up, "").await;
    let segment = home.directory.join("segment-0000000001-00000000000000ff.log");
    fs::create_dir_all(&segment).unwrap();
    let said = does_not_start(&home).await;
    assert!(said.contains(segment.to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_is_reported_and_recovers_with_space() {
    let name = "a_first_start_on_a_full_disk_is_reported_and_recovers_with_space";
    let Some(disk) = SmallDisk::mount(name, "16m") else { return };
    let mut home = Home::at(disk.directory(), Mood::Up, "").await;
    disk.fill();
    for _ in 0..3 {
        let relay = home.start().await;
        let ready = relay.telemetry("/readyz").await;
        assert_eq!(ready.status, 503, "{}", ready.text());
        assert!(ready.reason().contains("the disk is full"), "{}", ready.text());
        assert_eq!(relay.ask(Ask::post("/fastly", span(1, "refused"))).await.status, 503);
        assert!(!relay.log().contains("damaged"), "{}", relay.log());
        relay.kill().await;
    }
    let relay = home.start().await;
    disk.free();
    eventually("it is ready", async || (relay.telemetry("/readyz").await.status == 200).then_some(())).await;
    batch(&relay, span(2, "after")).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["after"]);
    assert!(set_aside(&home).is_empty());
}
