//! The check of the check: a sink that is told lies has to notice each of them, and nothing else.
//!
//! Measures nothing, so that it says the same on every machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use spanrelay::internals::bench::lines;

use super::batch::{Batch, Fate, Shape};
use super::contestant::Who;
use super::floor::Floor;
use super::generator::{Load, Pace};
use super::sink::Sink;
use super::tally::Counts;

/// Of each lie. The last of them is refused, so nothing of it is to come.
const SPANS: u64 = 5;

/// What arrives instead of what was sent, and what has to be said of it.
struct Lie {
    name: &'static str,
    arrives: fn() -> Vec<String>,
    counts: Counts,
}

const RIGHT: Counts = Counts { lost: 0, duplicates: 0, wrong_joins: 0, unknown: 0 };

const LIES: &[Lie] = &[
    Lie { name: "nothing is wrong", arrives: all, counts: RIGHT },
    Lie { name: "a line is lost", arrives: || without(2), counts: Counts { lost: 2, ..RIGHT } },
    Lie {
        name: "a line arrives twice",
        arrives: || with(joined(2, &[2])),
        counts: Counts { duplicates: 2, ..RIGHT },
    },
    Lie {
        name: "two events are on each other's spans",
        arrives: || [joined(0, &[1]), joined(1, &[0]), joined(2, &[2]), joined(3, &[3])].into(),
        counts: Counts { lost: 2, wrong_joins: 2, ..RIGHT },
    },
    Lie {
        name: "an event is lost",
        arrives: || [without(2), vec![joined(2, &[])]].concat(),
        counts: Counts { lost: 1, ..RIGHT },
    },
    Lie {
        name: "an event is on its span twice",
        arrives: || [without(2), vec![joined(2, &[2, 2])]].concat(),
        counts: Counts { duplicates: 1, ..RIGHT },
    },
    Lie {
        name: "a span is in another trace",
        arrives: || [without(2), vec![in_trace_of(2, 3)]].concat(),
        counts: Counts { lost: 2, unknown: 1, ..RIGHT },
    },
    Lie {
        name: "what was never sent arrives",
        arrives: || with(joined(SPANS, &[])),
        counts: Counts { unknown: 1, ..RIGHT },
    },
    Lie {
        name: "what was refused arrives",
        arrives: || with(joined(SPANS - 1, &[])),
        counts: Counts { unknown: 1, ..RIGHT },
    },
    Lie {
        name: "a request is cut off",
        arrives: || with("{\"resourceSpans\":[{".to_owned()),
        counts: Counts { unknown: 1, ..RIGHT },
    },
];

/// A span as it leaves, with the events of these lines.
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

/// Posts each on its own, and waits until the sink has looked at all of them.
fn deliver(requests: &[String], to: SocketAddr, sink: &Sink) {
    let mut stream = TcpStream::connect(to).expect("the sink listens");
    for request in requests {
        write!(stream, "POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\n\r\n{request}", request.len())
            .expect("the sink reads");
        let read = stream.read(&mut [0; 1024]).expect("the sink answers");
        assert!(read > 0, "the sink answers");
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while sink.tally().requests() < requests.len() as u64 {
        assert!(Instant::now() < patience, "the sink looks at what it got");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What was found, for each lie that was not noticed as it should have been.
fn lies() -> Vec<String> {
    let mut wrong = Vec::new();
    for Lie { name, arrives, counts } in LIES {
        let sink = Sink::open();
        let first = sink.tally().send(&[Fate::SpanWithEvent; SPANS as usize], Instant::now());
        assert_eq!(first, 0, "numbers begin at 0");
        sink.tally().refused(SPANS - 1, &[Fate::SpanWithEvent]);
        deliver(&arrives(), sink.address, &sink);
        let found = sink.tally().counts(true);
        println!("{name}: {found:?}");
        if found != *counts {
            wrong.push(format!("{name}: {found:?} instead of {counts:?}"));
        }
    }
    wrong
}

/// A short load of each shape through the whole bench: the relay makes no mistake, and one that joins nothing would be
/// found out.
fn loads() -> Vec<String> {
    let mut wrong = Vec::new();
    let load = |shape, spans| Load {
        batch: Batch::new(shape, spans),
        connections: 2,
        pace: Pace::PerSecond(500.0),
        sending: Duration::from_millis(250),
        held: Duration::ZERO,
    };
    let disk = ["queue.storage=disk", "exporters.otlp_http.delivery=batch"];
    let relays = [Who::relay(&[]), Who::relay(&disk), Who::relay(&["processors.span_events.wait=300ms"])];
    for (who, name) in relays.iter().zip(["in memory, single", "on disk, batch", "wait: 300ms"]) {
        let relay = who.start(name);
        for shape in Shape::ALL {
            relay.run(&load(shape, if shape == Shape::Webhook { 1 } else { 100 }));
        }
        let sink = relay.sink.clone();
        let counts = relay.end();
        let (arrived, logs) = {
            let tally = sink.tally();
            (tally.arrived(), tally.logs())
        };
        println!("the relay, {name}: {arrived} spans, {counts:?}");
        if arrived == 0 || logs > 0 || !counts.are_right() {
            wrong.push(format!("the relay, {name}: {arrived} spans, {logs} logs, {counts:?}"));
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

/// What is wrong with the bench itself, or with the relay.
pub(crate) fn check() -> Vec<String> {
    [lies(), loads()].concat()
}
