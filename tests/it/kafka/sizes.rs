//! Units that are too large for a record.

use super::broker::shared;
use super::fleet::{Complete, Fleet, assigned, delivered, span_of, stopped, try_post};
use crate::harness::{Child, Collector, Ended, eventually, spanrelay};
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Headers as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_is_too_large_is_rejected_alone_and_goes_to_the_dead_letters() {
    let Some(brokers) = shared("a_unit_that_is_too_large").await else { return };
    let collector = Collector::start([]).await;
    // The topic itself exists, the one of dead letters is created.
    let settings = "queue.kafka.producer.max_message_bytes: 20000\nqueue.kafka.dead_letter_topic: rejected-units\n\
                    queue.kafka.create_topic: {partitions: 1, replication_factor: 1}";
    let fleet = Fleet::new(brokers, &collector, settings).await;
    let relay = fleet.start("both").await;
    assigned(&[&relay]).await;
    let mut lines: Vec<String> = (1..=10).map(span_of).collect();
    lines[4] = span_of(5).replace("span-5", &"x".repeat(20_001));
    let reply = try_post(&relay, &lines).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let report = reply.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&9.into(), &1.into()));
    assert_eq!(report["errors"][0]["line"], 5);
    assert!(report["errors"][0]["reason"].as_str().unwrap().contains("max_message_bytes"), "{report}");
    assert_eq!(delivered(&collector, 9).await.len(), 9);

    let dead = fleet.brokers.consumer("reader-of-dead-letters");
    dead.subscribe(&["rejected-units"]).unwrap();
    let letter = eventually("the dead letter is there", async || {
        tokio::task::block_in_place(|| dead.poll(std::time::Duration::from_millis(50)))
            .and_then(Result::ok)
            .map(|letter| letter.detach())
    })
    .await;
    assert_eq!(letter.payload().unwrap(), lines[4].as_bytes());
    let headers = letter.headers().unwrap();
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(found.value.unwrap().to_vec()).unwrap()
    };
    assert_eq!(
        (header("receiver").as_str(), header("line").as_str(), header("column").as_str()),
        ("fastly", "5", "1")
    );
    assert!(header("reason").contains("max_message_bytes") && header("time").starts_with("20"));
    assert_eq!(fleet.is_balanced(&[&relay], Complete::BOTH).await, 9);
    stopped(vec![relay]).await;

    // With a higher limit it gets through.
    let settings =
        "queue.kafka.producer.max_message_bytes: 100000\nqueue.kafka.dead_letter_topic: rejected-units";
    let fleet = fleet.with_settings(settings);
    let relay = fleet.start("both").await;
    let replayed = replay(&fleet, &relay).await;
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.out, replayed.err);
    assert!(replayed.out.contains("1 accepted, 0 rejected again, 0 not sent"), "{}", replayed.out);
    let names = delivered(&collector, 1).await;
    assert!(names[0].1.starts_with("xxx"), "{names:?}");
    let replayed = replay(&fleet, &relay).await;
    assert!(replayed.out.contains("0 accepted, 0 rejected again, 0 not sent"), "{}", replayed.out);
    assert_eq!(fleet.is_balanced(&[&relay], Complete::NEITHER).await, 10);
    stopped(vec![relay]).await;
    collector.finish();
}

/// Replays the dead letters into a relay.
async fn replay(fleet: &Fleet, relay: &Child) -> Ended {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), fleet.configuration("both")).unwrap();
    let (file, address) = (file.path().to_str().unwrap().to_owned(), relay.address.to_string());
    let mut command = spanrelay(&["replay", "--from-topic", "--to", &address, "--config", &file]);
    Ended::of(command.args(fleet.arguments())).await
}
