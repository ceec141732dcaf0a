//! Values that a rule removes are nowhere, whatever becomes of the data that they came in.
//!
//! The requests of [`privacy`](crate::privacy) in a random order, some of them damaged, for each exporter: the relay is killed
//! while the downstream is away, then the downstream rejects everything, then what was rejected is replayed.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::calls::METHODS;
use super::downstream::{Downstream, Mood};
use super::home::at_rest;
use super::kills::BATCHES;
use crate::github::event;
use crate::grpc::{call, framed};
use crate::harness::otlp::encoded;
use crate::harness::random::{Random, seed};
use crate::harness::{Ask, Child, Ended, spanrelay};
use crate::privacy::{Planted, configuration, workflow, written};

/// Writes a value with an escape, or removes one character of the syntax or the end of a text.
fn damaged(text: String, random: &mut Random) -> String {
    match random.below(6) {
        0 => text.replace("planted", r"\u0070lanted"),
        1 => {
            let places: Vec<usize> =
                text.match_indices(['{', '}', '[', ']', ',', '"', ':']).map(|(at, _)| at).collect();
            let Some(at) = places.get(random.below(places.len().max(1) as u64) as usize) else { return text };
            format!("{}{}", &text[..*at], &text[at + 1..])
        }
        2 => {
            let characters = text.chars().count();
            text.chars().take(random.below(characters as u64) as usize).collect()
        }
        _ => text,
    }
}

/// Returns a request of each kind with each place that can hold a value, in a random order.
fn asks(planted: &mut Planted, random: &mut Random) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    for (_, body) in planted.fastly() {
        asks.push(Ask::post("/fastly", damaged(body, random)));
    }
    for line in planted.access_logs() {
        asks.push(Ask::post("/logs", damaged(line, random)));
    }
    for (path, request) in planted.requests("otlp") {
        let mut message = encoded(path, &request);
        asks.push(Ask::post(path, message.clone()).with("content-type", "application/x-protobuf"));
        message.truncate(random.below(message.len() as u64) as usize);
        asks.push(Ask::post(path, message).with("content-type", "application/x-protobuf"));
        let text = damaged(request.to_string(), random);
        asks.push(Ask::post(path, text).with("content-type", "application/json"));
    }
    for kind in ["workflow-completed", "someday-completed"] {
        let text = workflow(&planted.value("branch of a workflow"), kind, kind);
        asks.push(Ask::webhook(&format!("[{text}]")));
        asks.push(Ask::webhook(&damaged(text, random)));
    }
    let run = json!({ "action": "completed", "workflow_run": {
        "id": 7, "run_attempt": 1, "name": "CI", "updated_at": "2026-03-02T09:07:00Z",
        "head_branch": planted.value("branch of a run"),
    } });
    asks.push(event("workflow_run", "d", &damaged(run.to_string(), random)));
    for at in 1..asks.len() {
        asks.swap(at, random.below(at as u64 + 1) as usize);
    }
    asks
}

async fn nothing_leaks(exporter: &str, reject: Mood, random: &mut Random) {
    let downstream = Downstream::start(Mood::Down).await;
    let directory = TempDir::new().unwrap();
    let is_grpc = matches!(reject, Mood::Code(_));
    let named = |text: &str| if is_grpc { text.replace("otlp_http", "otlp_grpc") } else { text.to_owned() };
    let configuration = named(&configuration(&downstream.url(), false));
    let mut arguments = vec!["--set".to_owned(), format!("queue.directory={}", directory.path().display())];
    for setting in exporter.lines() {
        arguments.extend(["--set".to_owned(), named(setting).replacen(": ", "=", 1)]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut planted = Planted::default();
    let mut asks = asks(&mut planted, random);
    let mut responses = Vec::new();
    let mut relay = Child::start(&configuration, &arguments).await;
    for mood in [Mood::Down, reject] {
        downstream.set(mood).await;
        // The inspector keeps what passes while it is in use.
        written(&relay, directory.path()).await;
        for ask in asks.drain(..asks.len().div_ceil(2)) {
            responses.extend(relay.ask(ask).await.body);
        }
        for (path, request) in planted.requests("grpc") {
            let (_, method) = METHODS.into_iter().find(|(signal, _)| *signal == path).unwrap();
            let status = call(relay.address, method, framed(&encoded(path, &request), false), &[]).await;
            responses.extend(format!("{status:?}").into_bytes());
        }
        planted.assert_nowhere(&written(&relay, directory.path()).await);
        if mood == Mood::Down {
            relay.kill().await;
            relay = Child::start(&configuration, &arguments).await;
        }
    }
    at_rest(&relay).await;
    planted.assert_nowhere(&written(&relay, directory.path()).await);

    downstream.set(Mood::Up).await;
    let [settings, kept] = ["relay.yaml", "kept.ndjson"].map(|name| directory.path().join(name));
    fs::write(&settings, &configuration).unwrap();
    fs::rename(directory.path().join("rejected.ndjson"), &kept).unwrap();
    let [settings, kept] = [&settings, &kept].map(|path| path.to_str().unwrap());
    let to = relay.address.to_string();
    let replayed = Ended::of(&mut spanrelay(&["replay", "--config", settings, "--to", &to, kept])).await;
    at_rest(&relay).await;
    let mut written = written(&relay, directory.path()).await;
    written.insert("the metrics".to_owned(), relay.telemetry("/metrics").await.body.to_vec());
    written.insert("the responses".to_owned(), responses);
    written.insert("the report of the replay".to_owned(), [replayed.out, replayed.err].concat().into_bytes());
    written.insert("the exports".to_owned(), downstream.bodies());
    planted.assert_nowhere(&written);
    // Rejected at first, exported by the replay.
    assert!(memchr::memmem::find(&written["the exports"], b"p.new").is_some());
    assert!(!downstream.taken().is_empty() && !downstream.refused().is_empty());
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_with_a_rule_is_nowhere_whatever_becomes_of_the_data() {
    let mut random = Random::new(seed());
    for (exporter, reject) in [
        ("exporters.otlp_http.encoding: json", Mood::Status(400)),
        (&format!("{BATCHES}\nexporters.otlp_http.encoding: protobuf"), Mood::Status(400)),
        (BATCHES, Mood::Code(3)),
    ] {
        nothing_leaks(exporter, reject, &mut random).await;
    }
}
