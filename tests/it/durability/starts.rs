//! What a start finds in its directory that it cannot use: it says so, or sets it aside; never does it begin from
//! nothing in silence, never does it die again and again.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};

use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::NamedTempFile;

use super::downstream::Mood;
use super::home::{Home, at_rest, batch, stopped};
use super::small_disk::{SmallDisk, am_root};
use crate::harness::{Ended, span, spanrelay};

/// Runs the relay, which must not start, and returns what it says.
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
async fn a_file_in_the_place_of_the_directory_is_named() {
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
async fn a_second_process_on_the_same_directory_is_told_and_the_first_goes_on() {
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start().await;
    let said = names_the_directory(&home).await;
    assert!(said.contains("in use by another process"), "{said}");
    batch(&relay, span(1, "undisturbed")).await;
    at_rest(&relay).await;
    // The lock goes with its process, however that ends.
    relay.kill().await;
    stopped(home.start().await).await;
    // Its last delivery may not have been noted yet.
    assert!(home.downstream.taken_names().iter().all(|name| name == "undisturbed"));
}

/// A home whose queue keeps one span.
async fn with_one_waiting(name: &str) -> Home {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    batch(&relay, span(1, name)).await;
    relay.kill().await;
    home
}

#[tokio::test]
async fn a_damaged_queue_file_is_set_aside_counted_and_the_relay_runs() {
    let mut home = with_one_waiting("lost").await;
    let store = home.directory.join("queue.redb");
    let file = File::options().write(true).open(&store).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    // All but the first page, so that it is still a file of the store's.
    file.write_all_at(&vec![0x5a; length - 4096], 4096).unwrap();

    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    assert_eq!(relay.metrics().await.sum("spanrelay_queue_damaged_total", &[("what", "file")]), 1.0);
    assert!(relay.log().contains("the queue file is damaged"), "{}", relay.log());
    assert!(relay.log().contains("queue.redb.damaged-1"), "{}", relay.log());
    batch(&relay, span(2, "goes on")).await;
    at_rest(&relay).await;
    relay.kill().await;
    let set_aside = fs::read(home.directory.join("queue.redb.damaged-1")).unwrap();
    assert_eq!((set_aside.len(), set_aside[length / 2]), (length, 0x5a), "what is left of it is there");

    // Once only: the next start finds a good file.
    let relay = home.start().await;
    assert_eq!(relay.metrics().await.sum("spanrelay_queue_damaged_total", &[]), 0.0);
    stopped(relay).await;
    assert!(!home.directory.join("queue.redb.damaged-2").exists());
    assert_eq!(home.downstream.taken_names().last().map(String::as_str), Some("goes on"));
}

#[tokio::test]
async fn every_kind_of_damage_ends_in_a_relay_that_runs() {
    let home = with_one_waiting("perhaps").await;
    let good = fs::read(home.directory.join("queue.redb")).unwrap();
    let cut = |part: usize| good[..good.len() / 8 * part].to_vec();
    let overwritten = |place: usize| {
        let mut bytes = good.clone();
        let place = good.len() / 8 * place;
        bytes[place..place + 512].fill(0xff);
        bytes
    };
    let no_store = b"a text that somebody put here".to_vec();
    let damages =
        [vec![], no_store, vec![0; good.len()], cut(1), cut(4), cut(7), overwritten(0), overwritten(1)];
    for (number, damaged) in damages.into_iter().enumerate() {
        let mut home = Home::new(Mood::Up, "").await;
        fs::create_dir(&home.directory).unwrap();
        fs::write(home.directory.join("queue.redb"), &damaged).unwrap();
        let relay = home.start().await;
        let samples = at_rest(&relay).await;
        let set_aside = samples.sum("spanrelay_queue_damaged_total", &[("what", "file")]);
        let delivered = home.downstream.taken_names().len();
        assert!(
            (set_aside == 1.0) != (delivered == 1),
            "{number}: set aside {set_aside}, delivered {delivered}"
        );
        assert_eq!(home.directory.join("queue.redb.damaged-1").exists(), set_aside == 1.0, "{number}");
        batch(&relay, span(2, "goes on")).await;
        at_rest(&relay).await;
        stopped(relay).await;
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone_and_the_start_refused() {
    let mut home = with_one_waiting("of the future").await;
    let store = home.directory.join("queue.redb");
    let meta = TableDefinition::<&str, u64>::new("meta");
    let set_version = |version: u64| {
        let db = Database::open(&store).unwrap();
        let transaction = db.begin_write().unwrap();
        let before =
            transaction.open_table(meta).unwrap().insert("version", version).unwrap().unwrap().value();
        transaction.commit().unwrap();
        before
    };
    let version = set_version(1000);
    for _ in 0..2 {
        let said = does_not_start(&home).await;
        assert!(said.contains("newer version"), "{said}");
        assert!(said.contains("queue.redb"), "{said}");
    }
    assert!(!home.directory.join("queue.redb.damaged-1").exists());
    let db = Database::open(&store).unwrap();
    let kept = db.begin_read().unwrap().open_table(meta).unwrap().get("version").unwrap().unwrap().value();
    assert_eq!(kept, 1000);
    drop(db);

    set_version(version);
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["of the future"]);
}

/// A store that is there and cannot be read is never taken for an empty one.
#[tokio::test]
async fn a_queue_file_that_cannot_be_opened_refuses_the_start() {
    let home = Home::new(Mood::Up, "").await;
    fs::create_dir_all(home.directory.join("queue.redb")).unwrap();
    let said = does_not_start(&home).await;
    assert!(said.contains("queue.redb"), "{said}");
}
