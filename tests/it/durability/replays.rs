//! `spanrelay replay`: what was rejected goes through the relay again, once whatever was wrong is mended.

use std::io::Write;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::downstream::{Mood, POISON};
use super::home::{Home, at_rest, batch, stopped};
use crate::harness::{Ask, Child, Ended, span, spanrelay};

async fn replay(home: &Home, relay: &Child, file: &str) -> Ended {
    let mut configuration = NamedTempFile::new().unwrap();
    configuration.write_all(home.configuration().as_bytes()).unwrap();
    let to = relay.address.to_string();
    let configuration = configuration.path().to_str().unwrap();
    Ended::of(&mut spanrelay(&["replay", "--config", configuration, "--to", &to, file])).await
}

fn inputs(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["input"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_the_downstream_refused_is_delivered_by_a_replay_when_it_takes_it() {
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start().await;
    let refused = span(1, POISON);
    batch(&relay, refused.clone()).await;
    batch(&relay, span(2, "fine")).await;
    let samples = at_rest(&relay).await;
    assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "rejected")]), 1.0);
    assert_eq!(inputs(&home.rejected()), [refused.as_str()]);

    home.downstream.set(Mood::TakesPoison).await;
    let file = home.directory.join("rejected.ndjson");
    let kept = home.directory.join("kept.ndjson");
    std::fs::rename(file, &kept).unwrap();
    let ended = replay(&home, &relay, kept.to_str().unwrap()).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["fine", POISON]);
    assert_eq!(inputs(&home.rejected()), [""; 0]);
}

#[tokio::test]
async fn what_is_rejected_again_is_kept_again_and_a_torn_entry_costs_only_itself() {
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start().await;
    let cut = r#"{"resourceSpans":[{"é"#;
    let reply = relay.ask(Ask::post("/fastly", format!("{cut}\n{}", span(1, "fine")))).await;
    assert_eq!(reply.status, 200);
    let entry = std::fs::read(home.directory.join("rejected.ndjson")).unwrap();
    let torn = entry.iter().position(|byte| *byte == 0xc3).unwrap();
    let kept = home.directory.join("kept.ndjson");
    std::fs::write(&kept, [&entry[..=torn], b"\n", &entry].concat()).unwrap();

    let ended = replay(&home, &relay, kept.to_str().unwrap()).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("line 1"), "{}{}", ended.out, ended.err);
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(inputs(&home.rejected()), [cut, cut]);
}
