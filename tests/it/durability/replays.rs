//! `spanrelay replay`: rejected input is resubmitted once its cause is fixed.

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
async fn an_export_that_the_downstream_rejected_is_delivered_by_a_later_replay() {
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
async fn input_rejected_again_is_kept_again_and_a_torn_entry_affects_no_other() {
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

#[tokio::test]
async fn a_rejected_export_reaches_the_downstream_with_only_circleci_enabled() {
    let mut home = Home::new(Mood::Up, "receivers: { circleci: { allow_unsigned: true } }").await;
    let relay = home.start().await;
    let event = format!(
        r#"{{"type":"workflow-completed","id":"1","workflow":{{"id":"cedf175c-c537-49f8-9b5c-95892f0b2407","name":"{POISON}"}}}}"#
    );
    assert_eq!(relay.ask(Ask::post("/circleci", event)).await.status, 204);
    at_rest(&relay).await;
    let kept = home.directory.join("kept.ndjson");
    std::fs::rename(home.directory.join("rejected.ndjson"), &kept).unwrap();

    let refused = replay(&home, &relay, kept.to_str().unwrap()).await;
    assert_eq!(refused.code, Some(1), "{}{}", refused.out, refused.err);
    assert!(refused.out.contains("0 accepted, 1 rejected again, 0 not sent"), "{}", refused.out);
    home.downstream.set(Mood::TakesPoison).await;
    let ended = replay(&home, &relay, kept.to_str().unwrap()).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert_eq!(home.downstream.taken_names(), [format!("workflow: {POISON}")]);
    stopped(relay).await;
}

#[tokio::test]
async fn entries_do_not_affect_each_other_and_each_is_reported() {
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start().await;
    let entry = |receiver: &str, input: &str| {
        serde_json::json!({"time": "t", "receiver": receiver, "reason": "r", "input": input}).to_string()
    };
    // Without separation, these would consume or complete each other.
    let given = [
        r#"{"resourceLogs":["#,
        &span(1, "one"),
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"cut"#,
        &span(2, "two"),
        "]}",
    ];
    let mut lines: Vec<String> = given.iter().map(|input| entry("fastly", input)).collect();
    lines.push("[\"no\", \"entry\"]".to_owned());
    lines.push(entry("gone", &span(3, "three")));
    lines.extend((4..200).map(|id| entry("fastly", &span(id, "many"))));
    let kept = home.directory.join("kept.ndjson");
    std::fs::write(&kept, lines.join("\n")).unwrap();

    let ended = replay(&home, &relay, kept.to_str().unwrap()).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    for text in [
        "198 accepted, 3 rejected again, 2 not sent",
        "line 6 not sent: not an entry",
        "line 7 not sent: receiver",
    ] {
        assert!(ended.out.contains(text), "{text}: {}", ended.out);
    }
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names().len(), 198);
    let rejected = home.rejected();
    let mut again = inputs(&rejected);
    again.sort_unstable();
    assert_eq!(again, [given[4], given[0], given[2]]);
}
