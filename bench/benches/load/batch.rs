//! One POST of a client: built once and reused with new ids, so that the generator costs little.
//!
//! In: a [`Shape`] and a number of spans. Out: the bytes of a whole request, and the expected result.

use hmac::{Hmac, KeyInit as _, Mac as _};
use memchr::memmem;
use sha2::Sha256;
use spanrelay_bench::{encode_protobuf, lines};

use super::grpc;

/// Secret that signs the webhooks.
pub(crate) const SECRET: &str = "a secret to measure with";

/// Interval of bad lines.
const BAD: u64 = 100;

const WEBHOOK: &str = include_str!("../../../proto-fixtures/circleci/github-oauth-job/request.json");

/// Content of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Canonical lines.
    Canonical,
    /// Lines as the template's VCL writes them.
    Legacy,
    /// Canonical lines, each followed by a log event about it.
    CanonicalWithEvents,
    /// Legacy lines, each followed by a log event about it.
    LegacyWithEvents,
    /// Canonical lines, one in a hundred of which is cut off.
    OneBadInAHundred,
    /// Legacy lines, one in a hundred of which needs repair.
    OneBrokenInAHundred,
    /// Spans of canonical lines in one OTLP request, as OpenTelemetry SDKs send them.
    Otlp,
    /// Spans of canonical lines in one OTLP request as protobuf.
    OtlpProtobuf,
    /// Lines with a span's ids and nothing else.
    Short,
    /// One signed CircleCI webhook.
    Webhook,
    /// The request of [`OtlpProtobuf`](Self::OtlpProtobuf) as a call of gRPC.
    OtlpGrpc,
    /// Access-log lines in Fastly's JSON format.
    AccessJson,
    /// Access-log lines in NCSA's Combined Log Format.
    AccessNcsa,
}

/// Expected result of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    Span,
    SpanWithEvent,
    LogRecord,
    Nothing,
}

/// A request that can be sent repeatedly with new ids.
#[derive(Clone)]
pub(crate) struct Batch {
    request: Vec<u8>,
    body_at: usize,
    positions: Vec<Position>,
    signature_at: Option<usize>,
    is_call: bool,
    expectations: Vec<Expectation>,
    lines: u64,
}

/// Position of an id in the request.
#[derive(Clone, Copy)]
struct Position {
    at: usize,
    index: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Trace,
    TraceBytes,
    SpanBytes,
    Span,
    Time,
    /// UUID of CircleCI: a workflow's is the trace id, the start of a job's is the span id.
    Workflow,
    Job,
}

// === impl Shape ===

impl Shape {
    pub(crate) const ALL: [Self; 13] = [
        Self::Canonical,
        Self::Legacy,
        Self::CanonicalWithEvents,
        Self::LegacyWithEvents,
        Self::OneBadInAHundred,
        Self::OneBrokenInAHundred,
        Self::Otlp,
        Self::OtlpProtobuf,
        Self::Short,
        Self::Webhook,
        Self::OtlpGrpc,
        Self::AccessJson,
        Self::AccessNcsa,
    ];

    /// Returns the path of the receiver.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Otlp | Self::OtlpProtobuf => "/v1/traces",
            Self::OtlpGrpc => grpc::METHOD,
            Self::Webhook => "/circleci",
            _ => "/fastly",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Otlp | Self::Webhook => "application/json",
            Self::OtlpProtobuf => "application/x-protobuf",
            Self::OtlpGrpc => grpc::CONTENT_TYPE_VALUE,
            _ => "application/x-ndjson",
        }
    }

    fn body(self, spans: u64) -> Vec<u8> {
        let protobuf = || encode_protobuf(Self::Otlp.text(spans).as_bytes()).expect("it is canonical");
        match self {
            Self::OtlpProtobuf => protobuf(),
            Self::OtlpGrpc => grpc::framed(&protobuf()),
            _ => self.text(spans).into_bytes(),
        }
    }

    fn text(self, spans: u64) -> String {
        let joined = |line: fn(u64) -> String| (0..spans).map(line).map(|line| line + "\n").collect();
        match self {
            Self::Canonical => joined(lines::canonical),
            Self::Legacy => joined(lines::legacy),
            Self::Short => joined(short),
            Self::CanonicalWithEvents => {
                joined(|number| lines::canonical(number) + "\n" + &lines::log(number))
            }
            Self::LegacyWithEvents => joined(|number| lines::legacy(number) + "\n" + &lines::log(number)),
            Self::OneBadInAHundred => {
                joined(|number| if is_bad(number) { lines::cut(number) } else { lines::canonical(number) })
            }
            Self::OneBrokenInAHundred => {
                joined(|number| if is_bad(number) { lines::broken(number) } else { lines::legacy(number) })
            }
            Self::AccessJson => joined(lines::access_json),
            Self::AccessNcsa => joined(lines::access_ncsa),
            Self::Otlp | Self::OtlpProtobuf | Self::OtlpGrpc => {
                let resource = |number| {
                    let line = lines::canonical(number);
                    let inner =
                        line.strip_prefix("{\"resourceSpans\":[").and_then(|rest| rest.strip_suffix("]}"));
                    inner.expect("a line is a request").to_owned()
                };
                format!("{{\"resourceSpans\":[{}]}}", (0..spans).map(resource).collect::<Vec<_>>().join(","))
            }
            Self::Webhook => WEBHOOK.trim_end().to_owned(),
        }
    }

    fn expectation(self, number: u64) -> Expectation {
        match self {
            Self::CanonicalWithEvents | Self::LegacyWithEvents => Expectation::SpanWithEvent,
            Self::AccessJson | Self::AccessNcsa => Expectation::LogRecord,
            Self::OneBadInAHundred if is_bad(number) => Expectation::Nothing,
            _ => Expectation::Span,
        }
    }
}

fn is_bad(number: u64) -> bool {
    number % BAD == BAD / 2
}

/// Returns a line so short that a million of them fit into memory.
fn short(number: u64) -> String {
    let (trace, span) = lines::ids(number);
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{trace:032x}\",\"spanId\":\"{span:016x}\"}}]}}]}}]}}"
    )
}

// === impl Batch ===

impl Batch {
    pub(crate) fn new(shape: Shape, spans: u64) -> Self {
        assert!(shape != Shape::Webhook || spans == 1, "a webhook is one event");
        let body = shape.body(spans);
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: relay\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            shape.path(),
            shape.content_type(),
            body.len()
        );
        let mut signature_at = None;
        if shape == Shape::Webhook {
            head += "circleci-event-type: job-completed\r\ncircleci-signature: v1=";
            signature_at = Some(head.len());
            head += &"0".repeat(64);
            head += "\r\n";
        }
        head += "\r\n";
        let positions = match shape {
            Shape::Webhook => positions_in_webhook(&body),
            Shape::OtlpProtobuf | Shape::OtlpGrpc => positions_in_protobuf(&body, spans),
            Shape::AccessJson | Shape::AccessNcsa => positions_in_paths(&body),
            _ => positions_in_lines(&body),
        };
        let positions =
            positions.into_iter().map(|place| Position { at: head.len() + place.at, ..place }).collect();
        Self {
            body_at: head.len(),
            request: [head.as_bytes(), &body].concat(),
            positions,
            signature_at,
            is_call: shape == Shape::OtlpGrpc,
            expectations: (0..spans).map(|number| shape.expectation(number)).collect(),
            lines: match shape {
                Shape::CanonicalWithEvents | Shape::LegacyWithEvents => 2 * spans,
                _ => spans,
            },
        }
    }

    /// Returns the number of spans, good or bad.
    pub(crate) fn spans(&self) -> u64 {
        self.expectations.len() as u64
    }

    /// Returns the length of the body.
    pub(crate) fn body_bytes(&self) -> u64 {
        (self.request.len() - self.body_at) as u64
    }

    /// Returns whether the body is sent as a call of gRPC.
    pub(crate) fn is_call(&self) -> bool {
        self.is_call
    }

    /// Returns the number of lines, log events included.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Returns the same request with the ids of other lines; for a call of gRPC only its body.
    pub(crate) fn renumbered(&mut self, first: u64) -> &[u8] {
        for Position { at, index, what } in &self.positions {
            let number = first + index;
            let (trace, span) = lines::ids(number);
            match what {
                What::Trace => write_hex(&mut self.request[*at..*at + 32], trace),
                What::Span => write_hex(&mut self.request[*at..*at + 16], span.into()),
                What::TraceBytes => self.request[*at..*at + 16].copy_from_slice(&trace.to_be_bytes()),
                What::SpanBytes => self.request[*at..*at + 8].copy_from_slice(&span.to_be_bytes()),
                What::Time => write_decimal(&mut self.request[*at..*at + 19], lines::event_time(number)),
                What::Workflow => write_uuid(&mut self.request[*at..*at + 36], trace),
                What::Job => write_uuid(&mut self.request[*at..*at + 36], u128::from(span) << 64 | 1),
            }
        }
        if let Some(at) = self.signature_at {
            let mut hmac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
            hmac.update(&self.request[self.body_at..]);
            for (index, byte) in hmac.finalize().into_bytes().into_iter().enumerate() {
                write_hex(&mut self.request[at + 2 * index..at + 2 * index + 2], byte.into());
            }
        }
        if self.is_call { &self.request[self.body_at..] } else { &self.request }
    }
}

/// Finds the positions of ids; each trace id starts the section of another line.
fn positions_in_lines(body: &[u8]) -> Vec<Position> {
    const TRACE: &str = "\"traceId\":\"";
    const SPAN: &str = "\"spanId\":\"";
    const TIME: &str = "\"timeUnixNano\":\"";
    let mut positions = Vec::new();
    for at in memmem::find_iter(body, TRACE) {
        let trace_at = at + TRACE.len();
        let span_at = trace_at + 32 + 2 + SPAN.len();
        let span = std::str::from_utf8(&body[span_at..span_at + 16]).expect("ids are hex");
        let index = lines::number(u64::from_str_radix(span, 16).expect("ids are hex"));
        positions.push(Position { at: trace_at, index, what: What::Trace });
        positions.push(Position { at: span_at, index, what: What::Span });
        let time_at = span_at + 16 + 2;
        if body[time_at..].starts_with(TIME.as_bytes()) {
            positions.push(Position { at: time_at + TIME.len(), index, what: What::Time });
        }
    }
    positions
}

/// Finds the positions of ids in the paths of access-log lines.
fn positions_in_paths(body: &[u8]) -> Vec<Position> {
    let of_line = |(index, at): (usize, usize)| {
        let (trace_at, index) = (at + lines::PATH.len(), index as u64);
        let trace = Position { at: trace_at, index, what: What::Trace };
        [trace, Position { at: trace_at + 32 + 1, index, what: What::Span }]
    };
    memmem::find_iter(body, lines::PATH).enumerate().flat_map(of_line).collect()
}

/// Finds the positions of ids in a protobuf request, in which no other bytes are equal to them.
fn positions_in_protobuf(body: &[u8], spans: u64) -> Vec<Position> {
    let find = |id: &[u8]| memmem::find(body, id).expect("the request has the ids");
    let of_span = |index| {
        let (trace, span) = lines::ids(index);
        [
            Position { at: find(&trace.to_be_bytes()), index, what: What::TraceBytes },
            Position { at: find(&span.to_be_bytes()), index, what: What::SpanBytes },
        ]
    };
    (0..spans).flat_map(of_span).collect()
}

/// Finds the positions of ids in a webhook; the id of the event is derived from the job's.
fn positions_in_webhook(body: &[u8]) -> Vec<Position> {
    let webhook: serde_json::Value = serde_json::from_slice(body).expect("it is a fixture");
    let all = |id: &serde_json::Value, what| {
        let id = id.as_str().expect("it has one").to_owned();
        let at: Vec<usize> = memmem::find_iter(body, &id).collect();
        at.into_iter().map(move |at| Position { at, index: 0, what })
    };
    all(&webhook["id"], What::Job)
        .chain(all(&webhook["job"]["id"], What::Job))
        .chain(all(&webhook["workflow"]["id"], What::Workflow))
        .collect()
}

fn write_hex(to: &mut [u8], mut value: u128) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn write_decimal(to: &mut [u8], mut value: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn write_uuid(to: &mut [u8], mut value: u128) {
    for (index, digit) in to.iter_mut().enumerate().rev() {
        if !matches!(index, 8 | 13 | 18 | 23) {
            *digit = b"0123456789abcdef"[(value & 15) as usize];
            value >>= 4;
        }
    }
}
