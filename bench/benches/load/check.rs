//! Self-check of the bench: the sink must detect each deliberate fault, and nothing else.
//!
//! Measures nothing, so the result is the same on every machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use spanrelay_bench::{encode_protobuf, lines};

use super::batch::{Batch, Expectation, Shape};
use super::contestant::{BROKERS, Who};
use super::floor::Floor;
use super::generator::{Load, Pace};
use super::grpc;
use super::sink::Sink;
use super::tally::Counts;

/// Number of lines per fault. The last batch is refused, so none of its lines must arrive.
const SPANS: u64 = 5;

/// A deliberate fault and the expected finding.
struct Fault {
    name: &'static str,
    arrives: fn() -> Vec<String>,
    counts: Counts,
}

/// Protocol by which the faults reach the sink.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http,
    Grpc,
}

const RIGHT: Counts = Counts { lost: 0, duplicates: 0, wrong_joins: 0, unknown: 0 };

const FAULTS: &[Fault] = &[
    Fault { name: "no fault", arrives: all, counts: RIGHT },
    Fault { name: "a lost line", arrives: || without(2), counts: Counts { lost: 2, ..RIGHT } },
    Fault {
        name: "a duplicate line",
        arrives: || with(joined(2, &[2])),
        counts: Counts { duplicates: 2, ..RIGHT },
    },
    Fault {
        name: "two swapped events",
        arrives: || [joined(0, &[1]), joined(1, &[0]), joined(2, &[2]), joined(3, &[3])].into(),
        counts: Counts { lost: 2, wrong_joins: 2, ..RIGHT },
    },
    Fault {
        name: "a lost event",
        arrives: || [without(2), vec![joined(2, &[])]].concat(),
        counts: Counts { lost: 1, ..RIGHT },
    },
    Fault {
        name: "a duplicate event",
        arrives: || [without(2), vec![joined(2, &[2, 2])]].concat(),
        counts: Counts { duplicates: 1, ..RIGHT },
    },
    Fault {
        name: "a span in another trace",
        arrives: || [without(2), vec![in_trace_of(2, 3)]].concat(),
        counts: Counts { lost: 2, unknown: 1, ..RIGHT },
    },
    Fault {
        name: "a span that was never sent",
        arrives: || with(joined(SPANS, &[])),
        counts: Counts { unknown: 1, ..RIGHT },
    },
    Fault {
        name: "a refused span",
        arrives: || with(joined(SPANS - 1, &[])),
        counts: Counts { unknown: 1, ..RIGHT },
    },
    Fault {
        name: "a cut-off request",
        arrives: || with("{\"resourceSpans\":[{".to_owned()),
        counts: Counts { unknown: 1, ..RIGHT },
    },
];

/// Faults of log records, which are of access-log lines.
const LOG_FAULTS: &[Fault] = &[
    Fault { name: "no fault of a log record", arrives: || records(&[0, 1, 2, 3]), counts: RIGHT },
    Fault { name: "a lost log record", arrives: || records(&[0, 1, 3]), counts: Counts { lost: 1, ..RIGHT } },
    Fault {
        name: "a duplicate log record",
        arrives: || records(&[0, 1, 2, 2, 3]),
        counts: Counts { duplicates: 1, ..RIGHT },
    },
    Fault {
        name: "a span instead of a log record",
        arrives: || [records(&[0, 1, 3]), vec![joined(2, &[])]].concat(),
        counts: Counts { lost: 1, unknown: 1, ..RIGHT },
    },
];

/// Returns the exported log records of these access-log lines.
fn records(numbers: &[u64]) -> Vec<String> {
    let record = |number: &u64| {
        let (trace, span) = lines::ids(*number);
        let path = format!("{}{trace:032x}/{span:016x}", lines::PATH);
        format!(
            "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{{\"stringValue\":\"GET {path} 200\"}}}}]}}]}}]}}"
        )
    };
    numbers.iter().map(record).collect()
}

/// Returns an exported span with the events of these lines.
fn joined(number: u64, events: &[u64]) -> String {
    let event = |of: &u64| format!("{{\"timeUnixNano\":\"{}\",\"name\":\"fetch\"}}", lines::event_time(*of));
    let events = events.iter().map(event).collect::<Vec<_>>().join(",");
    lines::canonical(number).replace("\"links\":[]", &format!("\"links\":[],\"events\":[{events}]"))
}

fn in_trace_of(number: u64, other: u64) -> String {
    let trace = |number| format!("{:032x}", lines::ids(number).0);
    joined(number, &[number]).replace(&trace(number), &trace(other))
}

fn without(number: u64) -> Vec<String> {
    (0..SPANS - 1).filter(|one| *one != number).map(|one| joined(one, &[one])).collect()
}

fn all() -> Vec<String> {
    without(SPANS)
}

fn with(line: String) -> Vec<String> {
    [all(), vec![line]].concat()
}

/// Sends each request separately, and waits until the sink has checked all of them.
fn deliver(requests: &[String], by: Protocol, sink: &Sink) {
    match by {
        Protocol::Http => post(requests, sink.address),
        Protocol::Grpc => call(requests, sink.address),
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while sink.tally().requests() < requests.len() as u64 {
        assert!(Instant::now() < deadline, "the sink checks what it received");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn call(requests: &[String], to: SocketAddr) {
    let mut connection = grpc::Connection::new(to);
    for request in requests {
        // A request that is not JSON is not protobuf either.
        let message = encode_protobuf(request.as_bytes()).unwrap_or_else(|| request.clone().into_bytes());
        assert_eq!(connection.call(&grpc::framed(&message)).expect("the sink answers"), 200);
    }
}

fn post(requests: &[String], to: SocketAddr) {
    let mut stream = TcpStream::connect(to).expect("the sink listens");
    for request in requests {
        write!(stream, "POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\n\r\n{request}", request.len())
            .expect("the sink reads");
        let read = stream.read(&mut [0; 1024]).expect("the sink answers");
        assert!(read > 0, "the sink answers");
    }
}

/// Returns the findings for each fault that was not detected as expected.
fn undetected_faults(faults: &[Fault], expectation: Expectation, by: Protocol) -> Vec<String> {
    let mut wrong = Vec::new();
    for Fault { name, arrives, counts } in faults {
        let sink = Sink::open();
        let first = sink.tally().send(&[expectation; SPANS as usize], Instant::now());
        assert_eq!(first, 0, "numbers begin at 0");
        sink.tally().refused(SPANS - 1, &[expectation]);
        deliver(&arrives(), by, &sink);
        let found = sink.tally().counts(true);
        println!("{name}, {by:?}: {found:?}");
        if found != *counts {
            wrong.push(format!("{name}, {by:?}: {found:?} instead of {counts:?}"));
        }
    }
    wrong
}

/// Runs a short load of each shape through the whole bench: the relay must pass, and one that attaches nothing must fail.
fn loads() -> Vec<String> {
    let mut wrong = Vec::new();
    let load = |shape, spans| Load {
        batch: Batch::new(shape, spans),
        connections: 2,
        pace: Pace::PerSecond(500.0),
        sending: Duration::from_millis(250),
        held: Duration::ZERO,
    };
    let access_logs = "receivers.fastly.access_logs.preset=auto";
    let batch = "exporters.otlp_http.delivery=batch";
    let mut relays = vec![
        ("in memory, single", Who::relay(&[access_logs])),
        ("on disk, batch", Who::relay(&[access_logs, "queue.storage=disk", batch])),
        ("wait: 300ms", Who::relay(&[access_logs, "processors.span_events.wait=300ms"])),
        ("gRPC", Who::relay(&[access_logs, "exporters.otlp_grpc.delivery=batch"])),
    ];
    if let Ok(brokers) = std::env::var(BROKERS) {
        // A span and its event are in different records, which `wait: 0s` does not match.
        let settings = [access_logs, batch, "processors.span_events.wait=1s"].map(str::to_owned).to_vec();
        relays.push(("Kafka, front and worker", Who::Shared(brokers, settings)));
    }
    for (name, who) in relays {
        let relay = who.start(name);
        // The sink reads log records only as JSON.
        let is_read =
            |shape: &Shape| name != "gRPC" || !matches!(shape, Shape::AccessJson | Shape::AccessNcsa);
        for shape in Shape::ALL.into_iter().filter(is_read) {
            relay.run(&load(shape, if shape == Shape::Webhook { 1 } else { 100 }));
        }
        let sink = relay.sink.clone();
        let counts = relay.end();
        let (arrived, logs) = {
            let tally = sink.tally();
            (tally.arrived(), tally.logs())
        };
        println!("the relay, {name}: {arrived} items, {counts:?}");
        if arrived == 0 || logs > 0 || !counts.are_right() {
            wrong.push(format!("the relay, {name}: {arrived} items, {logs} logs, {counts:?}"));
        }
    }
    for floor in Floor::ALL {
        let forwards = Who::Floor(floor).start(floor.name());
        forwards.run(&load(Shape::CanonicalWithEvents, 50));
        let tally = forwards.sink.tally();
        let (as_forwarded, as_joined) = (tally.counts(false), tally.counts(true));
        println!("{}, which joins nothing: {as_joined:?}", floor.name());
        if !as_forwarded.are_right() || as_joined.lost != tally.arrived() || tally.logs() != tally.arrived() {
            wrong.push(format!("{}: {as_forwarded:?}, {as_joined:?}", floor.name()));
        }
    }
    wrong
}

/// Returns the faults of the bench itself, or of the relay.
pub(crate) fn check() -> Vec<String> {
    [
        undetected_faults(FAULTS, Expectation::SpanWithEvent, Protocol::Http),
        undetected_faults(FAULTS, Expectation::SpanWithEvent, Protocol::Grpc),
        undetected_faults(LOG_FAULTS, Expectation::LogRecord, Protocol::Http),
        loads(),
    ]
    .concat()
}
