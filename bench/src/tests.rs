//! Allocations per line, and memory per held span: counted rather than timed, so that they are the same on every
//! machine.

use allocation_counter::measure;

use super::*;

/// Number of lines in a batch.
const LINES: u64 = 1_000;

/// Allocations of a batch in addition to those of its lines: lists that double as they grow, and buffers that are
/// reused.
const PER_BATCH: u64 = 100;

fn batch(line: fn(u64) -> String) -> Bytes {
    lines::body((0..LINES).map(line))
}

/// Returns the allocations per line; the remainder must be within [`PER_BATCH`].
fn per_line(work: impl FnOnce()) -> u64 {
    let allocations = measure(work).count_total;
    assert!(allocations % LINES <= PER_BATCH, "{allocations} allocations for {LINES} lines");
    allocations / LINES
}

fn reading(body: &Bytes) -> u64 {
    let receivers = Receivers::new();
    per_line(|| drop(receivers.fastly(body)))
}

/// Processes a body up to its exports, with `wait: 0s`.
fn from_body_to_exports(body: &Bytes) -> u64 {
    let receivers = Receivers::new();
    let mut processor = Processor::new(Duration::ZERO);
    let mut left = 0;
    let allocations = per_line(|| processor.accept(receivers.fastly(body), Duration::ZERO, |_| left += 1));
    assert_eq!(left, LINES, "every line was exported");
    allocations
}

#[test]
fn the_number_of_a_line_follows_from_its_span() {
    for number in [0, 1, 999, 1 << 40] {
        let (trace, span) = lines::ids(number);
        assert_eq!(lines::number(span), number);
        assert!(lines::canonical(number).contains(&format!("\"{trace:032x}\",\"spanId\":\"{span:016x}\"")));
    }
}

#[test]
fn a_truncated_line_is_rejected() {
    let read = Receivers::new().fastly(&batch(lines::cut));
    assert_eq!((read.accepted(), read.rejected()), (0, LINES as usize));
}

#[test]
fn reading_a_canonical_line_allocates_nothing() {
    assert_eq!(reading(&batch(lines::canonical)), 0);
}

#[test]
fn reading_a_log_event_allocates_nothing() {
    assert_eq!(reading(&batch(lines::log)), 0);
}

#[test]
fn a_line_with_edits_allocates_for_their_list_and_its_place() {
    assert_eq!(reading(&batch(lines::legacy)), 2);
}

#[test]
fn any_number_of_attributes_allocates_nothing() {
    let attributes = |count: u64| {
        let list: Vec<String> = (0..count)
            .map(|number| format!("{{\"key\":\"{number}\",\"value\":{{\"intValue\":\"{number}\"}}}}"))
            .collect();
        let members = format!("\"traceId\":\"{:032x}\",\"spanId\":\"{:016x}\"", 1, 1);
        let span = format!("{{{members},\"attributes\":[{}]}}", list.join(","));
        format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{span}]}}]}}]}}")
    };
    for count in [0, 1, 30] {
        let line = attributes(count);
        assert_eq!(reading(&lines::body((0..LINES).map(|_| line.clone()))), 0, "{count} attributes");
    }
}

#[test]
fn a_canonical_line_is_exported_as_a_slice_of_its_body() {
    let (body, receivers) = (batch(lines::canonical), Receivers::new());
    let within = body.as_ptr_range();
    let mut processor = Processor::new(Duration::ZERO);
    processor.accept(receivers.fastly(&body), Duration::ZERO, |request| {
        assert!(within.contains(&request.as_ptr()));
    });
}

#[test]
fn a_line_allocates_for_its_entry_and_receipts_and_with_edits_for_its_copy() {
    assert_eq!(from_body_to_exports(&batch(lines::canonical)), 2);
    // The list of edits, its place, and the resulting text.
    assert_eq!(from_body_to_exports(&batch(lines::legacy)), 5);
}

#[test]
fn an_attached_event_allocates_for_its_text_its_receipt_and_the_copy_of_the_line() {
    let pairs = lines::body((0..LINES).flat_map(|number| [lines::canonical(number), lines::log(number)]));
    assert_eq!(from_body_to_exports(&pairs), 9);
}

#[test]
fn a_repaired_line_allocates_for_its_copy_and_list_of_repairs() {
    let (body, receivers) = (batch(lines::broken), Receivers::new());
    let read = receivers.fastly(&body);
    assert_eq!((read.repaired() as u64, read.rejected()), (LINES, 0));
    let allocations = reading(&body);
    assert!(allocations <= 12, "{allocations}");
}

#[test]
fn encoding_protobuf_allocates_once_and_decoding_once_per_id_and_number() {
    let line = lines::canonical(1);
    assert_eq!(measure(|| drop(encode_protobuf(line.as_bytes()))).count_total, 1);
    let request: Bytes = encode_protobuf(line.as_bytes()).expect("canonical OTLP").into();
    assert_eq!(measure(|| drop(decode_protobuf(&request))).count_total, 10);
}

/// Returns the memory of held spans, as the allocator counts it and as `max_held_bytes` counts it. Both exclude the
/// bodies that the spans are slices of.
fn holding(spans: u64, line: fn(u64) -> String) -> [u64; 2] {
    let receivers = Receivers::new();
    let bodies: Vec<Bytes> =
        (0..spans / LINES).map(|batch| lines::body((batch * LINES..(batch + 1) * LINES).map(line))).collect();
    let text: usize = bodies.iter().map(|body| body.len() - LINES as usize).sum();
    let mut processor = Processor::new(Duration::from_secs(10));
    let measured = measure(|| {
        for body in &bodies {
            processor.accept(receivers.fastly(body), Duration::ZERO, |_| {});
        }
    });
    assert_eq!(processor.held_spans() as u64, spans);
    [measured.bytes_current as u64, (processor.held_bytes() - text) as u64]
}

#[test]
fn a_held_span_takes_little_memory_besides_its_bytes_and_is_counted_with_no_less() {
    for spans in [10_000, 100_000] {
        // A line with edits also holds their list. 16 bytes are the range of its list, which is then not searched again
        // for the export; 8 are the ordinals of its items.
        for (line, most) in [(lines::canonical as fn(u64) -> String, 312), (lines::legacy, 472)] {
            let [taken, counted] = holding(spans, line);
            assert!(taken < most * spans, "{} bytes for each of {spans}", taken / spans);
            assert!((taken..2 * taken).contains(&counted), "{counted} bytes are counted, {taken} are taken");
        }
    }
}
