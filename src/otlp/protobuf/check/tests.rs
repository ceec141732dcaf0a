use bytes::Bytes;
use proptest::prelude::*;

use super::super::tests::random::Random;
use super::super::{ProtobufRequest, ReadProtobuf, bytes, decode};
use super::*;

use crate::otlp::{ExportRequest, Request, read_request};

const NO_LIMIT: usize = usize::MAX;

/// Returns a message with one field with this content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(number, content, &mut out);
    out
}

/// Returns a request with one span that has these fields.
fn span(fields: &[&[u8]]) -> Vec<u8> {
    field(1, &field(2, &field(2, &fields.concat())))
}

/// Returns an attribute of a span.
fn attribute(key: &[u8], value: &[u8]) -> Vec<u8> {
    field(9, &[field(1, key), field(2, &field(1, value))].concat())
}

/// Returns the valid ids of a span.
fn ids() -> Vec<u8> {
    [field(1, &[7; 16]), field(2, &[8; 8])].concat()
}

/// Returns the number of items of a request that needs no change.
fn check(signal: Signal, body: &[u8]) -> Option<u32> {
    super::check(signal, body).map(|contents| contents.items)
}

fn any_signal() -> impl Strategy<Value = Signal> {
    proptest::sample::select(&Signal::ALL[..])
}

/// Returns what the decoder and the reader of JSON make of a request: the text, and the number of its items if nothing
/// was changed, rejected or reported.
fn by_way_of_json(signal: Signal, body: &[u8]) -> (Bytes, Option<u32>) {
    let Ok(decoded) = decode(signal, body, NO_LIMIT) else { return (Bytes::new(), None) };
    let json = Bytes::from(decoded.json);
    let Ok(Request { line, text, sections, mismatch }) = read_request(signal, &json) else {
        return (json, None);
    };
    let changed = decoded.is_repaired
        || decoded.is_foreign
        || text != json
        || mismatch.is_some()
        || !(line.dropped.is_empty() && line.repairs.is_empty() && sections.is_empty());
    let (request, items) = match signal {
        Signal::Traces => line.traces.map(|it| (it.span_count(), it.into_request())),
        Signal::Logs => line.logs.and_then(|it| Some((it.record_count(), it.into_request(|_| true)?))),
        Signal::Metrics => {
            // Unknown content of an otherwise empty request is reported.
            let holds_something = |it: &crate::otlp::Metrics| !(decoded.has_unknown && it.is_bare());
            line.metrics.filter(holds_something).map(|it| (it.point_count(), it.into_request()))
        }
    }
    .map_or((None, None), |(items, request)| (Some(request.into_json()), Some(items)));
    let is_same = request.as_ref() == Some(&json) && !changed;
    (json, items.filter(|_| is_same))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_request_as_encoders_write_it_passes_with_all_its_items(signal in any_signal(), seed: u64) {
        let body = Random(seed).proper_request(signal);
        let (json, items) = by_way_of_json(signal, &body);
        prop_assert_eq!(check(signal, &body), items, "{}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn what_passes_would_not_be_changed_by_way_of_json(
        signal in any_signal(), seed: u64, flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let mut random = Random(seed);
        for mut body in [random.request(signal), random.proper_request(signal)] {
            for (place, bits) in &flips {
                let place = place % body.len();
                body[place] ^= bits;
            }
            if let Some(items) = check(signal, &body) {
                prop_assert_eq!(by_way_of_json(signal, &body).1, Some(items));
            }
        }
    }

    #[test]
    fn a_truncated_request_passes_only_where_it_is_a_request(seed: u64, signal in any_signal()) {
        let body = Random(seed).proper_request(signal);
        for end in 0..body.len().min(400) {
            if let Some(items) = check(signal, &body[..end]) {
                prop_assert_eq!(by_way_of_json(signal, &body[..end]).1, Some(items));
            }
        }
    }

    #[test]
    fn a_selection_says_what_the_selection_of_the_same_json_says(signal in any_signal(), seed: u64, mask: u64) {
        let body = Bytes::from(Random(seed).proper_request(signal));
        let keep = |item: u32| mask >> (item % 64) & 1 == 1;
        if let Some(ReadProtobuf { request, .. }) = ProtobufRequest::read(signal, &body) {
            let kept = (0..request.item_count()).filter(|item| keep(*item)).count();
            let selected = request.select(keep);
            prop_assert_eq!(selected.as_ref().map_or(0, ProtobufRequest::item_count) as usize, kept);
            let of_json = ExportRequest::parse(signal, request.to_json().into()).unwrap().select(signal, keep);
            let text = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap();
            prop_assert_eq!(
                selected.as_ref().map(|it| text(&it.to_json())),
                of_json.map(|it| text(it.bytes()))
            );
            if let Some(selected) = selected
                && let Some(items) = check(signal, selected.bytes())
            {
                prop_assert_eq!(items, selected.item_count());
            }
        }
    }

    #[test]
    fn equal_keys_are_found_in_a_list_of_any_length(
        count in 0..200_usize, twins in any::<(usize, usize)>(), long: bool,
    ) {
        let key = |number: usize| match long {
            true => format!("a.key.of.which.the.middle.{number:04}.differs.from.all.others").into_bytes(),
            false => number.to_string().into_bytes(),
        };
        let attributes = |number: usize| attribute(&key(number), b"v");
        let mut list: Vec<Vec<u8>> = (0..count).map(attributes).collect();
        let request = |list: &[Vec<u8>]| span(&[&ids(), &list.concat()]);
        prop_assert_eq!(check(Signal::Traces, &request(&list)), Some(1));
        if count > 0 {
            list.insert(twins.0 % (count + 1), attributes(twins.1 % count));
            prop_assert_eq!(check(Signal::Traces, &request(&list)), None);
        }
    }
}

#[test]
fn a_span_that_needs_a_change_does_not_pass() {
    let ids = ids();
    let name = field(5, b"n");
    let nested = |levels: usize| (0..levels).fold(field(1, b"v"), |inner, _| field(5, &field(1, &inner)));
    let deep = |levels: usize| field(9, &[field(1, b"k"), field(2, &nested(levels))].concat());
    let good: [&[&[u8]]; 8] = [
        &[&ids],
        &[&ids, &field(4, b"")],
        &[&ids, &field(4, &[9; 8]), &field(99, b"\xff")],
        &[&name, &field(2, &[1; 8]), &field(1, &[1; 16])],
        &[&ids, &attribute(b"a", b"1"), &name, &attribute(b"b", b"2")],
        &[&ids, &attribute(b"a", b"1"), &field(11, &field(3, &attribute(b"a", b"1")[2..]))],
        &[&ids, &deep(30)],
        // A group of unknown fields.
        &[&ids, b"\xbb\x06\x0a\x01x\xbc\x06"],
    ];
    for fields in good {
        assert_eq!(check(Signal::Traces, &span(fields)), Some(1), "{fields:?}");
    }
    let bad: [&[&[u8]]; 22] = [
        &[],
        &[&field(1, &[7; 16])],
        &[&field(2, &[7; 8])],
        &[&field(1, &[0; 16]), &field(2, &[7; 8])],
        &[&field(1, &[7; 16]), &field(2, &[0; 8])],
        &[&field(1, &[7; 15]), &field(2, &[7; 8])],
        &[&field(1, &[7; 16]), &field(2, &[7; 9])],
        &[&ids, &ids],
        &[&ids, &field(4, &[0; 8])],
        &[&ids, &field(4, &[8; 8])],
        &[&ids, &field(4, &[9; 7])],
        &[&ids, &field(5, b"\xff")],
        &[&ids, &attribute(b"\xc3", b"v")],
        &[&ids, &attribute(b"k", b"v\xe2\x82")],
        &[&ids, &attribute(b"a", b"1"), &name, &attribute(b"a", b"2")],
        &[&ids, &attribute(b"", b"1"), &field(9, b"")],
        // A link without ids.
        &[&ids, &field(13, b"")],
        // A status in two parts.
        &[&ids, &field(15, b"\x18\x01"), &field(15, b"\x12\x01m")],
        // A value of two kinds.
        &[&ids, &field(9, &field(2, b"\x0a\x00\x10\x01"))],
        // A name with the wrong wire type.
        &[&ids, b"\x28\x01"],
        &[&ids, &deep(40)],
        &[&ids, b"\x2a\x05n"],
    ];
    for fields in bad {
        assert_eq!(check(Signal::Traces, &span(fields)), None, "{fields:?}");
    }
}

#[test]
fn requests_without_content_for_their_signal_do_not_pass() {
    for (signal, body) in [
        (Signal::Traces, &b""[..]),
        (Signal::Traces, b"\x0a\x00"),
        (Signal::Traces, b"\x12\x00"),
        (Signal::Metrics, b"\x0a\x00\x12\x00"),
        // Field 13 of a metric.
        (Signal::Metrics, b"\x0a\x07\x12\x05\x12\x03\x6a\x01x"),
    ] {
        assert_eq!(check(signal, body), None, "{body:?}");
    }
    // A metric with nothing in it is an item.
    assert_eq!(check(Signal::Metrics, b"\x0a\x04\x12\x02\x12\x00"), Some(1));
}

#[test]
fn the_bytes_of_a_kept_item_are_those_of_the_request() {
    // A length in two bytes where one would do, and unknown fields at every level.
    let item = [&ids()[..], &field(99, b"x")].concat();
    let overlong = [b"\x12".as_slice(), &[item.len() as u8 | 0x80, 0], &item].concat();
    let scope = [&overlong[..], &overlong, &field(98, b"y")].concat();
    let resource = [&field(2, &scope)[..], &field(97, b"z")].concat();
    let body = Bytes::from([&field(1, &resource)[..], &field(96, b"w")].concat());
    let ReadProtobuf { request, .. } = ProtobufRequest::read(Signal::Traces, &body).unwrap();
    assert_eq!(request.item_count(), 2);
    assert_eq!(request.select(|_| true).unwrap().bytes(), &body);
    let second = request.select(|item| item == 1).unwrap();
    let scope = [&overlong[..], &field(98, b"y")].concat();
    let resource = [&field(2, &scope)[..], &field(97, b"z")].concat();
    assert_eq!(second.bytes()[..], [&field(1, &resource)[..], &field(96, b"w")].concat());
}
