//! Property: every accepted item is exported exactly once, over random spans and logs in random requests, on concurrent
//! connections, in any order and truncated anywhere.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::harness::{Answer, Ask, Collector, Connection, House, Recorded, log, names, span};

/// Number of stories; each is a relay, a collector and some requests.
const STORIES: u32 = 24;

/// Maximum number of spans in a story; a log may name a span that is not in it.
const SPANS: u64 = 8;

/// Contents of one line.
#[derive(Debug, Clone)]
enum Line {
    Span(u64),
    /// A log event about that span.
    Log(u64),
    Bad,
}

/// Separator of the lines of a body.
#[derive(Debug, Clone, Copy)]
enum Form {
    Lines(&'static str),
    Array,
}

#[derive(Debug, Clone)]
struct Story {
    /// The spans of a story have different ids; logs are numbered.
    requests: Vec<Vec<Line>>,
    form: Form,
    /// Requests are concurrent.
    at_once: bool,
    waits: bool,
    keep_logs: bool,
    batch: bool,
    disk: bool,
}

/// Name of a line's item in the export.
type Name = String;

fn story() -> impl Strategy<Value = Story> {
    let spans = (0..=SPANS).prop_map(|count| (1..=count).map(Line::Span).collect::<Vec<_>>());
    let logs = prop::collection::vec((1..=SPANS).prop_map(Line::Log), 0..10);
    let bad = prop::collection::vec(Just(Line::Bad), 0..3);
    let lines = (spans, logs, bad).prop_map(|(spans, logs, bad)| [spans, logs, bad].concat()).prop_shuffle();
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    let form = prop_oneof![
        Just(Form::Lines("\n")),
        Just(Form::Lines("\r\n")),
        Just(Form::Lines("\n\n \t\n")),
        Just(Form::Array)
    ];
    (lines, cuts, form, any::<[bool; 5]>()).prop_map(
        |(lines, cuts, form, [at_once, waits, keep_logs, batch, disk])| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(lines.len() + 1)).collect();
            cuts.extend([0, lines.len()]);
            cuts.sort_unstable();
            let requests = cuts.windows(2).map(|cut| lines[cut[0]..cut[1]].to_vec()).collect();
            Story { requests, form, at_once, waits, keep_logs, batch, disk }
        },
    )
}

/// Runs a story for each of many random values; a panic fails the test with the smallest such value.
fn for_all<S: Strategy>(strategy: S, tell: impl AsyncFn(S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: STORIES, failure_persistence: None, ..Config::default() };
    let told = TestRunner::new(config).run(&strategy, |value| {
        runtime.block_on(tell(value));
        Ok(())
    });
    told.unwrap_or_else(|failure| panic!("{failure}"));
}

// === impl Story ===

impl Story {
    /// Returns the bodies of the requests; each log has its number and the index of its request.
    fn bodies(&self) -> Vec<String> {
        let mut number = 0;
        let mut text = |line: &Line| match line {
            Line::Span(id) => span(*id, &format!("s{id}")),
            Line::Log(id) => {
                number += 1;
                log(*id, &format!("e{number}-of-s{id}"))
            }
            Line::Bad => "{\"message\":\"something else\"}".to_owned(),
        };
        let mut body = |lines: &Vec<Line>| {
            let lines: Vec<String> = lines.iter().map(&mut text).collect();
            match self.form {
                Form::Lines(separator) => lines.join(separator),
                Form::Array => format!("[{}]", lines.join(",")),
            }
        };
        self.requests.iter().map(&mut body).collect()
    }

    fn settings(&self) -> String {
        format!(
            "processors.span_events.wait: {}\nprocessors.span_events.keep_logs: {}\nexporters.otlp_http.delivery: {}\nqueue.storage: {}",
            if self.waits { "1h" } else { "0s" },
            self.keep_logs,
            if self.batch { "batch" } else { "single" },
            if self.disk { "disk" } else { "memory" },
        )
    }

    /// Returns the expected export: each span with its events, and each log that is exported as a log.
    fn expected(&self) -> (BTreeMap<Name, Vec<Name>>, Vec<Name>) {
        let request_of_span = |id: u64| {
            let holds =
                |lines: &Vec<Line>| lines.iter().any(|line| matches!(line, Line::Span(span) if *span == id));
            self.requests.iter().position(holds)
        };
        let mut spans: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        let mut logs = Vec::new();
        let mut number = 0;
        for (place, line) in self
            .requests
            .iter()
            .enumerate()
            .flat_map(|(place, lines)| lines.iter().map(move |line| (place, line)))
        {
            match line {
                Line::Span(id) => drop(spans.entry(format!("s{id}")).or_default()),
                Line::Log(id) => {
                    number += 1;
                    let name = format!("e{number}-of-s{id}");
                    let meets = request_of_span(*id).is_some_and(|request| self.waits || request == place);
                    if meets {
                        spans.entry(format!("s{id}")).or_default().push(name.clone());
                    }
                    if !meets || self.keep_logs {
                        logs.push(name);
                    }
                }
                Line::Bad => {}
            }
        }
        spans.values_mut().for_each(|events| events.sort());
        logs.sort();
        (spans, logs)
    }

    /// Returns the status of the response to a request.
    fn status(lines: &[Line]) -> u16 {
        let bad = lines.iter().filter(|line| matches!(line, Line::Bad)).count();
        match (bad, lines.len()) {
            (0, _) => 204,
            (bad, all) if bad == all => 400,
            _ => 200,
        }
    }
}

/// Returns the exported spans with their events, and the exported logs. A span that was exported twice fails.
fn came_out(left: &[Recorded]) -> (BTreeMap<Name, Vec<Name>>, Vec<Name>) {
    let mut spans = BTreeMap::new();
    let mut logs = Vec::new();
    for name in left.iter().flat_map(names) {
        if let Some(log) = name.strip_prefix("log ") {
            logs.push(log.to_owned());
            continue;
        }
        let (span, events) = name.split_once(": ").unwrap_or((&name, ""));
        let mut events: Vec<Name> =
            events.split(", ").filter(|event| !event.is_empty()).map(str::to_owned).collect();
        events.sort();
        assert!(spans.insert(span.to_owned(), events).is_none(), "{span} came out twice");
    }
    logs.sort();
    (spans, logs)
}

async fn tell(story: Story) {
    let house = House::open(&story.settings()).await;
    let send = async |body: String| house.ask(Ask::post("/fastly", body)).await.status;
    let bodies = story.bodies();
    let mut statuses = Vec::new();
    if story.at_once {
        statuses = join_all(bodies.into_iter().map(send)).await;
    } else {
        for body in bodies {
            statuses.push(send(body).await);
        }
    }
    let expected: Vec<u16> = story.requests.iter().map(|lines| Story::status(lines)).collect();
    assert_eq!(statuses, expected);

    let left = if story.waits {
        house.drained().await
    } else {
        house.at_rest().await;
        let left = house.collector.take_rest();
        house.close().await;
        left
    };
    assert_eq!(came_out(&left), story.expected());
    if !story.batch {
        let spans = left.iter().filter(|request| request.path == "/v1/traces").count();
        assert_eq!(spans, story.expected().0.len(), "each line with spans is one request");
    }
}

#[test]
fn every_item_is_exported_exactly_once_in_any_order_and_any_requests() {
    for_all(story(), tell);
}

#[test]
fn a_body_may_be_truncated_anywhere() {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..12);
    for_all(cuts, async |cuts| {
        let house = House::open("").await;
        let body: String = (1..=4).map(|id| span(id, &format!("s{id} é")) + "\n").collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        places.dedup();
        let mut sender: Connection = house.connect().await;
        sender.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for piece in places.windows(2).map(|cut| &body.as_bytes()[cut[0]..cut[1]]) {
            sender.write(format!("{:x}\r\n", piece.len())).await;
            sender.write(piece).await;
            sender.write("\r\n").await;
        }
        sender.write("0\r\n\r\n").await;
        assert_eq!(sender.read().await.status, 204);
        drop(sender);
        assert_eq!(house.left_names(4).await, ["s1 é", "s2 é", "s3 é", "s4 é"]);
        house.close().await;
    });
}

#[test]
fn every_good_event_of_a_batch_is_delivered_once_and_every_bad_one_rejected() {
    let lines = prop::collection::vec(prop::bool::weighted(0.2), 1..30);
    for_all((lines, 1..12_usize), async |(lines, max_events)| {
        let is_bad = |request: &Recorded| names(request).iter().any(|name| name.starts_with("bad"));
        let judge = move |request: &Recorded| {
            if is_bad(request) { Answer::status(400) } else { Answer::json(200, "{}") }
        };
        let settings = format!(
            "exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch: {{max_events: {max_events}, timeout: 5ms}}"
        );
        let house = House::before(Collector::judging(judge).await, &settings).await;
        let line = |(index, bad): (usize, &bool)| {
            span(index as u64 + 1, &format!("{} {index}", if *bad { "bad" } else { "good" }))
        };
        let body: Vec<String> = lines.iter().enumerate().map(line).collect();
        house.batch(body.join("\n")).await;
        let samples = house.at_rest().await;
        let bad = lines.iter().filter(|bad| **bad).count();
        let fate = |fate| samples.sum("spanrelay_settled_items_total", &[("fate", fate)]);
        assert_eq!((fate("rejected"), fate("delivered")), (bad as f64, (lines.len() - bad) as f64));
        let taken: Vec<Recorded> =
            house.collector.take_rest().into_iter().filter(|request| !is_bad(request)).collect();
        let (good, _) = came_out(&taken);
        assert_eq!(good.len(), lines.len() - bad);
        house.close().await;
    });
}
