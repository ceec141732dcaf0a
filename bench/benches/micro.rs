//! Cost of each processing step of a line, next to a minimal baseline: `cargo bench -p spanrelay-bench --bench micro`.
//!
//! Every group contains a baseline whose name begins with `floor`: the least that any implementation must do with the
//! same bytes. Times are per line of a batch of a thousand. They are comparable within a run, not between machines;
//! the tests of the package check the allocations per line, which do not depend on the machine.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde::de::IgnoredAny;
use spanrelay_bench::{Processor, Receivers, decode_protobuf, encode_protobuf, lines, read_lines};

/// Allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of lines per batch.
const LINES: u64 = 1_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn batch(line: fn(u64) -> String) -> (Bytes, Vec<Bytes>) {
    let lines: Vec<String> = (0..LINES).map(line).collect();
    let each = lines.iter().map(|line| Bytes::from(line.clone())).collect();
    (lines::body(lines), each)
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(LINES));
    group
}

/// Baseline for reading JSON: validation only.
fn validate(group: &mut Group<'_>, lines: &[Bytes]) {
    group.bench_function("floor: validate with serde_json", |bencher| {
        bencher.iter(|| {
            for line in lines {
                black_box(serde_json::from_slice::<IgnoredAny>(black_box(line)).expect("it is JSON"));
            }
        });
    });
}

fn copy(group: &mut Group<'_>, lines: &[Bytes]) {
    group.bench_function("floor: copy", |bencher| {
        bencher.iter(|| {
            for line in lines {
                black_box(black_box(line).to_vec());
            }
        });
    });
}

fn read_each(group: &mut Group<'_>, name: &str, lines: &[Bytes]) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| read_lines(black_box(lines)));
    });
}

fn read_body(group: &mut Group<'_>, name: &str, body: &Bytes) {
    let receivers = Receivers::new();
    group.bench_function(name, |bencher| bencher.iter(|| receivers.fastly(black_box(body))));
}

/// Reads, attaches and releases, with `wait: 0s`.
fn from_body_to_exports(group: &mut Group<'_>, name: &str, body: &Bytes) {
    let receivers = Receivers::new();
    let mut processor = Processor::new(Duration::ZERO);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let read = receivers.fastly(black_box(body));
            processor.accept(read, Duration::ZERO, |request| {
                black_box(request);
            });
        });
    });
}

fn splitting(criterion: &mut Criterion) {
    let (body, each) = batch(lines::canonical);
    let mut group = group(criterion, "splitting");
    group.bench_function("floor: memchr for line ends", |bencher| {
        bencher.iter(|| memchr::memchr_iter(b'\n', black_box(&body)).count());
    });
    group.bench_function("floor: UTF-8 check", |bencher| {
        bencher.iter(|| std::str::from_utf8(black_box(&body)).is_ok());
    });
    read_each(&mut group, "lines that are split already", &each);
    read_body(&mut group, "the body", &body);
}

fn reading(criterion: &mut Criterion) {
    let (_, each) = batch(lines::canonical);
    let mut group = group(criterion, "reading");
    validate(&mut group, &each);
    read_each(&mut group, "canonical", &each);
    let (_, logs) = batch(lines::log);
    read_each(&mut group, "log event", &logs);
}

fn renaming(criterion: &mut Criterion) {
    let (body, each) = batch(lines::legacy);
    let mut group = group(criterion, "renaming");
    validate(&mut group, &each);
    copy(&mut group, &each);
    read_each(&mut group, "reading alone", &each);
    from_body_to_exports(&mut group, "from the body to what leaves", &body);
}

fn attaching(criterion: &mut Criterion) {
    let body = lines::body((0..LINES).flat_map(|number| [lines::canonical(number), lines::log(number)]));
    let (_, each) = batch(lines::canonical);
    let (spans, _) = batch(lines::canonical);
    let mut group = group(criterion, "attaching events");
    copy(&mut group, &each);
    read_body(&mut group, "floor: reading alone", &body);
    from_body_to_exports(&mut group, "from the body to what leaves", &body);
    from_body_to_exports(&mut group, "without the events", &spans);
}

/// Cost of a line by the number of held spans, on which it must not depend.
fn holding(criterion: &mut Criterion) {
    let receivers = Receivers::new();
    let mut group = group(criterion, "holding");
    for held in [1_000, 10_000, 100_000, 1_000_000] {
        // One request arrives per second, and leaves once the target number of spans has arrived after it.
        let mut processor = Processor::new(Duration::from_secs(held / LINES));
        let second = Duration::from_secs(1);
        let mut next = 0;
        let mut body = || {
            next += LINES;
            lines::body((next - LINES..next).map(short_line))
        };
        while processor.held_spans() < held as usize {
            processor.accept(receivers.fastly(&body()), second, |_| {});
        }
        group.bench_function(format!("{held} spans"), |bencher| {
            bencher.iter_batched(
                || receivers.fastly(&body()),
                |read| {
                    processor.accept(read, second, |request| {
                        black_box(request);
                    });
                },
                BatchSize::PerIteration,
            );
        });
    }
}

/// Returns a short line, so that a million of them fit into memory.
fn short_line(number: u64) -> String {
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{:032x}\",\"spanId\":\"{:016x}\"}}]}}]}}]}}",
        number + 1,
        number + 1
    )
}

fn repairing(criterion: &mut Criterion) {
    let (body, each) = batch(lines::broken);
    let mut group = group(criterion, "repair");
    let (good, _) = batch(lines::legacy);
    read_body(&mut group, "floor: the same lines unbroken", &good);
    read_each(&mut group, "floor: reading up to the fault", &each);
    read_body(&mut group, "the body", &body);
}

fn protobuf(criterion: &mut Criterion) {
    let (_, each) = batch(lines::canonical);
    let requests: Vec<Bytes> =
        each.iter().map(|line| encode_protobuf(line).expect("it is canonical").into()).collect();
    let decoded: Vec<ExportTraceServiceRequest> = requests
        .iter()
        .map(|request| ExportTraceServiceRequest::decode(request.clone()).expect("it is protobuf"))
        .collect();
    {
        let mut group = group(criterion, "writing protobuf");
        validate(&mut group, &each);
        group.bench_function("floor: prost, from its model", |bencher| {
            bencher.iter(|| {
                for request in &decoded {
                    black_box(black_box(request).encode_to_vec());
                }
            });
        });
        group.bench_function("from canonical JSON", |bencher| {
            bencher.iter(|| {
                for line in &each {
                    black_box(encode_protobuf(black_box(line)));
                }
            });
        });
    }
    let receivers = Receivers::new();
    let mut group = group(criterion, "reading protobuf");
    group.bench_function("floor: prost, to its model", |bencher| {
        bencher.iter(|| {
            for request in &requests {
                black_box(ExportTraceServiceRequest::decode(black_box(request).clone()).is_ok());
            }
        });
    });
    group.bench_function("to canonical JSON", |bencher| {
        bencher.iter(|| {
            for request in &requests {
                black_box(decode_protobuf(black_box(request)));
            }
        });
    });
    group.bench_function("to canonical JSON, and read", |bencher| {
        bencher.iter(|| {
            for request in &requests {
                black_box(receivers.otlp_protobuf(black_box(request)));
            }
        });
    });
    group.bench_function("kept as protobuf", |bencher| {
        bencher.iter(|| {
            for request in &requests {
                black_box(receivers.otlp_protobuf_kept(black_box(request)));
            }
        });
    });
}

criterion_group! {
    name = micro;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = splitting, reading, renaming, attaching, holding, repairing, protobuf
}
criterion_main!(micro);
