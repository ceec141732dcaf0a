//! OTLP requests of each signal, in protobuf and JSON, compared with prost as the oracle.
//!
//! The input is a byte that selects the signal, followed by the body.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanrelay::internals::protobuf::{decode, encode};
use spanrelay::internals::{
    Encoding, Item, KeptHeaders, Reading, Received, Receiver, Scope, Signal, signal_of,
};

use super::forwarded::{Forwarded, check_reading, section_of};
use super::json::Json;
use super::meant::{Meant, is_hollow, meant, section};
use super::messages::field;
use super::receivers;

/// Limit of the receiver, too.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Checks a request: a signal and a body.
pub fn protobuf(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else { return };
    let signal = Signal::ALL[usize::from(choice) % Signal::ALL.len()];
    says_the_same(signal, body);
    let body = Bytes::copy_from_slice(body);
    let receivers = receivers::all("server: {max_request_body_size: 1MiB}\nreceivers: {otlp: {}}");
    let receiver = receivers.iter().find(|receiver| receiver.signal() == Some(signal));
    let receiver = &**receiver.expect("each signal has a receiver");
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let received = receiver.receive(&body, encoding, &KeptHeaders::default());
        let json = match encoding {
            Encoding::Json => Some(as_text(&body)),
            Encoding::Protobuf => decode(signal, &body, MAX_BODY_BYTES).ok().map(|it| it.json),
        };
        passes_on(signal, receiver, &received, json.as_deref());
    }
    let kept = receivers::all(
        "server: {max_request_body_size: 1MiB}\nreceivers: {otlp: {}}\nexporters: {otlp_http: {encoding: protobuf}}",
    );
    let keeping = kept.iter().find(|receiver| receiver.signal() == Some(signal));
    stays_protobuf(signal, &body, receiver, &**keeping.expect("each signal has a receiver"));
}

/// Checks that a request that is exported as protobuf says the same as by way of JSON: its exports, its rejected parts and
/// repairs, any part of its items, and when it is read again.
fn stays_protobuf(signal: Signal, body: &Bytes, decoding: &dyn Receiver, keeping: &dyn Receiver) {
    let headers = KeptHeaders::default();
    let decoded = decoding.receive(body, Encoding::Protobuf, &headers);
    let kept = keeping.receive(body, Encoding::Protobuf, &headers);
    let notes = |reading: &Reading| {
        let items: Vec<_> = reading.items.iter().map(|item| (item.counts(), item.repairs.clone())).collect();
        // The column is that of the request in the form in which it is kept.
        let rejected: Vec<_> =
            reading.rejected.iter().map(|it| (it.scope, it.reason.clone(), it.input.clone())).collect();
        (items, rejected)
    };
    assert_eq!(notes(&kept.reading), notes(&decoded.reading));
    let [Item { protobuf: Some(request), .. }] = &kept.reading.items[..] else {
        return;
    };
    assert_eq!(&kept.kept, body, "the bytes are not those of the sender");
    let [item] = &decoded.reading.items[..] else { unreachable!("both have the same items") };
    let by_way_of_json = match signal {
        Signal::Traces => item.traces.clone().map(|traces| traces.into_request()),
        Signal::Logs => item.logs.clone().and_then(|logs| logs.into_request(|_| true)),
        Signal::Metrics => item.metrics.clone().map(|metrics| metrics.into_request()),
    }
    .expect("both have the same items");
    // Protobuf has no empty lists.
    let normal = |json: &[u8]| {
        let protobuf = encode(signal, json).expect("it was exported");
        decode(signal, &protobuf, usize::MAX).expect("it was just encoded").json
    };
    assert_eq!(request.to_json(), normal(by_way_of_json.bytes()), "the exports differ");
    for half in 0..2 {
        let selected = request.select(|item| item % 2 == half);
        let of_json = by_way_of_json.select(signal, |item| item % 2 == half);
        assert_eq!(
            selected.map(|selected| selected.to_json()),
            of_json.map(|selected| normal(selected.bytes())),
            "the selections differ"
        );
    }
    let again = keeping.read_as(&kept.kept, &kept.parameters, &headers);
    assert_eq!(notes(&again), notes(&kept.reading), "read differently after a restart");
}

/// Returns the debug form of prost's reading, which distinguishes -0.0 from 0.0 and represents NaN.
fn by_prost(signal: Signal, body: &[u8]) -> Option<String> {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
        Signal::Logs => ExportLogsServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
    }
}

fn says_the_same(signal: Signal, body: &[u8]) {
    let meant = by_prost(signal, body);
    let json = match decode(signal, body, MAX_BODY_BYTES) {
        Ok(decoded) => decoded.json,
        Err(error) => {
            assert!(error.at <= body.len(), "{error} is after the end");
            return assert!(
                meant.is_none() || error.is_limit(),
                "rejected for {error}, and prost accepts it"
            );
        }
    };
    let text = String::from_utf8_lossy(&json);
    assert!(Json::parse(&json).is_some(), "decoded to invalid JSON: {text}");
    // The reader of JSON, which has reasons for them, rejects ids of another length.
    let Ok(back) = encode(signal, &json) else { return };
    let again = decode(signal, &back, MAX_BODY_BYTES);
    assert_eq!(
        again.map(|it| it.json).as_deref().ok(),
        Some(&json[..]),
        "JSON and protobuf do not become each other"
    );
    // Indexes into the dictionary of profiles are meaningless in the other signals.
    let is_foreign =
        |meant: &String| meant.replace("key_strindex: 0", "").to_lowercase().contains("strindex");
    if let Some(meant) = meant.filter(|meant| !is_foreign(meant)) {
        assert_eq!(by_prost(signal, &back), Some(meant), "another request: {text}");
    }
}

/// Replaces invalid UTF-8 in a body by U+FFFD.
fn as_text(body: &[u8]) -> Vec<u8> {
    let text: Vec<char> = String::from_utf8_lossy(body).chars().collect();
    let unit = |at: usize| -> Option<u32> {
        let escape: String = text.get(at..at + 6)?.iter().collect();
        let digits =
            escape.strip_prefix("\\u").filter(|it| it.chars().all(|digit| digit.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::new();
    let mut at = 0;
    while at < text.len() {
        let length = match (text[at], unit(at), unit(at + 6)) {
            ('\\', Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            ('\\', Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            ('\\', ..) => 2,
            _ => 1,
        };
        out.extend(&text[at..text.len().min(at + length)]);
        at += length;
    }
    out.into_bytes()
}

/// Returns the number of sections of other signals that are not empty.
fn foreign(says: &Json, signal: Signal) -> usize {
    let Json::Object(members) = says else { return 0 };
    let is_foreign = |(key, value): &&(String, Json)| {
        field("Line", key).is_some_and(|(field, _)| field.name != section_of(signal)) && !is_hollow(value)
    };
    members.iter().filter(is_foreign).count()
}

/// Checks the receiver's reading of a request, whose text is `json`.
fn passes_on(signal: Signal, receiver: &dyn Receiver, received: &Received, json: Option<&[u8]>) {
    let Received { kept, reading, .. } = received;
    assert!(reading.items.len() <= 1, "a request is one item");
    let left = check_reading(kept, reading);
    let Some(says) = json.and_then(Json::parse) else {
        return assert!(left.is_empty(), "an invalid request is exported");
    };
    if let Some([forwarded]) = left.first().map(Vec::as_slice) {
        assert_eq!(forwarded.signal, signal);
        let own = section(&says, section_of(signal));
        let Meant { line, dropped } =
            meant(&own).unwrap_or_else(|| panic!("exported, and not OTLP: {own:?}"));
        let of = |scope: Scope| reading.rejected.iter().filter(|part| part.scope == scope).count();
        let counts = [Scope::Unit, Scope::Item, Scope::Section].map(of);
        assert_eq!(counts, [0, dropped, foreign(&says, signal)]);
        assert_eq!(forwarded.says, line);
    } else {
        assert!(left.is_empty(), "a request is of one signal: {left:?}");
    }

    // Rereads the body as the queue returns it after a restart.
    if signal_of(kept) == Some(signal) {
        let again = check_reading(kept, &receiver.read(kept));
        let say = |left: &[Vec<Forwarded>]| -> Vec<Json> {
            left.iter().flatten().map(|forwarded| forwarded.says.clone()).collect()
        };
        assert_eq!(say(&again), say(&left), "the queued body is read differently");
    }
}
