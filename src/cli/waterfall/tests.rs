use serde_json::{Value, json};

use super::{TraceSet, draw};
use crate::config::terminal::{Charset, Colour, Terminal};

const BASE: u64 = 1_767_225_600_000_000_000;
const MS: u64 = 1_000_000;

fn terminal(columns: usize, charset: Charset) -> Terminal {
    Terminal { columns, colour: Colour::None, charset }
}

/// Returns a span of trace `aa`; times in milliseconds after the base.
fn span(id: &str, parent: &str, name: &str, start: u64, end: u64) -> Value {
    json!({
        "traceId": "aa", "spanId": id, "parentSpanId": parent, "name": name,
        "startTimeUnixNano": (BASE + start * MS).to_string(), "endTimeUnixNano": (BASE + end * MS).to_string(),
    })
}

fn request(service: &str, spans: &[Value]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": spans}],
    }]})
}

fn drawn(requests: &[Value], terminal: &Terminal) -> String {
    let mut traces = TraceSet::new(10);
    requests.iter().for_each(|request| traces.add(request));
    let lines = traces.iter().flat_map(|trace| draw(trace, terminal));
    lines.map(|line| line.render(terminal) + "\n").collect()
}

fn checkout() -> [Value; 2] {
    let mut edge = span("e", "", "edge GET /checkout", 0, 180);
    edge["events"] = json!([
        {"timeUnixNano": (BASE + 12 * MS).to_string(), "name": "cache miss",
         "attributes": [{"key": "fastly.pop", "value": {"stringValue": "FRA"}}]},
        {"timeUnixNano": BASE + 3 * MS, "name": "waf passed"},
    ]);
    let mut shield = span("d", "E", "shield GET /checkout", 20, 170);
    shield["status"] = json!({"code": 2, "message": "origin answered 503"});
    shield["events"] = json!([{"timeUnixNano": (BASE + 200 * MS).to_string(), "name": "retry"}]);
    [request("Fastly www", &[edge]), request("Fastly www", &[shield])]
}

fn requests_of(spans: &[Value]) -> [Value; 1] {
    [request("www", spans)]
}

#[test]
fn a_parent_its_child_and_their_events_are_drawn_to_scale() {
    assert_eq!(
        drawn(&checkout(), &terminal(80, Charset::Unicode)),
        "\
trace aa
  Fastly www, 2 spans, 3 events, 1 error, 180 ms, 2026-01-01 00:00:00.000 UTC
                           0                                      180 ms
edge GET /checkout         ◆██◆█████████████████████████████████████████  180 ms
│  ◆ waf passed  +3 ms
│  ◆ cache miss  +12 ms  fastly.pop=FRA
└─ ! shield GET /checkout       ██████████████████████████████████████ >  150 ms
      ! error: origin answered 503
      ◆ retry  +180 ms
"
    );
}

#[test]
fn ascii_is_supported() {
    assert_eq!(
        drawn(&checkout(), &terminal(60, Charset::Ascii)),
        "\
trace aa
  Fastly www, 2 spans, 3 events, 1 error, 180 ms,
  2026-01-01 00:00:00.000 UTC
                          0                   180 ms
edge GET /checkout        **========================  180 ms
|  * waf passed  +3 ms
|  * cache miss  +12 ms  fastly.pop=FRA
`- ! shield GET /checko~    =======================>  150 ms
      ! error: origin answered 503
      * retry  +180 ms
"
    );
}

#[test]
fn a_narrow_terminal_still_has_bars_and_a_narrower_one_a_list() {
    assert_eq!(
        drawn(&checkout(), &terminal(40, Charset::Unicode)),
        "\
trace aa
  Fastly www, 2 spans, 3 events,
  1 error, 180 ms,
  2026-01-01 00:00:00.000 UTC
                  0       180 ms
edge GET /check…  ◆█████████████  180 ms
│  ◆ waf passed  +3 ms
│  ◆ cache miss  +12 ms  fastly.pop=FRA
└─ ! shield GET…   ████████████>  150 ms
      ! error: origin answered 503
      ◆ retry  +180 ms
"
    );
    assert_eq!(
        drawn(&checkout(), &terminal(24, Charset::Unicode)),
        "\
trace aa
  Fastly www, 2 spans,
  3 events, 1 error,
  180 ms,
  2026-01-01 00:00:00.0…
edge GET /check…  180 ms
│  ◆ waf passed  +3 ms
│  ◆ cache miss  +12 ms…
└─ ! shield GET…  150 ms
      ! error: origin a…
      ◆ retry  +180 ms
"
    );
}

#[test]
fn services_have_a_column_or_a_line_of_their_own_by_width() {
    let requests = [
        request("shop", &[span("1", "", "root", 0, 100), span("2", "1", "child", 5, 50)]),
        request("db", &[span("4", "1", "query", 60, 90)]),
    ];
    assert_eq!(
        drawn(&requests, &terminal(72, Charset::Unicode)),
        "\
trace aa
  3 spans, 100 ms, 2026-01-01 00:00:00.000 UTC
                0                                         100 ms
root      shop  ████████████████████████████████████████████████  100 ms
├─ child          ██████████████████████                           45 ms
└─ query  db                                ████████████████       30 ms
"
    );
    assert_eq!(
        drawn(&requests, &terminal(40, Charset::Unicode)),
        "\
trace aa
  3 spans, 100 ms,
  2026-01-01 00:00:00.000 UTC
          0               100 ms
root      ██████████████████████  100 ms
│  in shop
├─ child   ██████████              45 ms
└─ query               ███████     30 ms
      in db
"
    );
}

#[test]
fn siblings_are_sorted_by_start_in_any_input_order() {
    let spans = [
        span("3", "1", "later", 50, 60),
        span("4", "2", "grandchild", 12, 18),
        span("2", "1", "sooner", 10, 20),
        span("1", "", "root", 0, 100),
    ];
    assert_eq!(
        drawn(&requests_of(&spans), &terminal(60, Charset::Unicode)),
        "\
trace aa
  www, 4 spans, 100 ms, 2026-01-01 00:00:00.000 UTC
                  0                           100 ms
root              ██████████████████████████████████  100 ms
├─ sooner            ████                              10 ms
│  └─ grandchild      ███                               6 ms
└─ later                           ████                10 ms
"
    );
}

#[test]
fn orphans_cycles_and_duplicate_ids_are_marked() {
    let spans = [
        span("1", "ff", "orphan", 0, 100),
        span("2", "3", "hen", 10, 20),
        span("3", "2", "egg", 12, 18),
        span("4", "4", "own parent", 15, 16),
        span("1", "ff", "again", 30, 40),
        span("5", "1", "child", 31, 39),
    ];
    assert_eq!(
        drawn(&requests_of(&spans), &terminal(60, Charset::Ascii)),
        "\
trace aa
  www, 6 spans, 100 ms, 2026-01-01 00:00:00.000 UTC
              0                               100 ms
? orphan      ======================================  100 ms
`- child                 ====                           8 ms
= again                  =====                         10 ms
@ hen            =====                                 10 ms
`- egg            ===                                   6 ms
@ own parent       ==                                   1 ms
  ? parent span missing
  @ parent spans form a cycle
  = same id as an earlier span
"
    );
}

#[test]
fn zero_lengths_backward_ends_and_missing_times_are_drawn() {
    let mut no_end = span("3", "1", "no end", 50, 0);
    no_end["endTimeUnixNano"] = json!(0);
    let mut no_start = span("4", "1", "no start", 0, 0);
    no_start.as_object_mut().unwrap().remove("startTimeUnixNano");
    let spans = [
        span("1", "", "root", 0, 100),
        span("2", "1", "point", 100, 100),
        span("5", "1", "backward", 40, 10),
        no_end,
        no_start,
    ];
    assert_eq!(
        drawn(&requests_of(&spans), &terminal(50, Charset::Unicode)),
        "\
trace aa
  www, 5 spans, 100 ms,
  2026-01-01 00:00:00.000 UTC
             0                    100 ms
root         ███████████████████████████    100 ms
├─ backward            ▏                    -30 ms
├─ no end                 ▏                 no end
├─ point                               ▏       0 s
└─ no start                               no start
"
    );
}

#[test]
fn a_trace_of_zero_length_is_drawn() {
    assert_eq!(
        drawn(&requests_of(&[span("1", "", "ping", 0, 0)]), &terminal(40, Charset::Unicode)),
        "\
trace aa
  www, 1 span, 0 s,
  2026-01-01 00:00:00.000 UTC
ping  ▏                              0 s
"
    );
}

#[test]
fn wide_characters_keep_the_columns_aligned() {
    let spans = [span("1", "", "購入 🛒", 0, 100), span("2", "1", "größe", 50, 100)];
    assert_eq!(
        drawn(&requests_of(&spans), &terminal(40, Charset::Unicode)),
        "\
trace aa
  www, 2 spans, 100 ms,
  2026-01-01 00:00:00.000 UTC
          0               100 ms
購入 🛒   ██████████████████████  100 ms
└─ größe             ███████████   50 ms
"
    );
}

#[test]
fn foreign_text_never_controls_the_terminal() {
    let mut spans = [span("1", "", "a\u{1b}[2J\u{202e}b\nc", 0, 100)];
    spans[0]["status"] = json!({"code": 2, "message": "\u{1b}]0;title\u{7}"});
    spans[0]["events"] = json!([{"name": "\r\u{9b}31m", "timeUnixNano": "x", "attributes": [
        {"key": "k\u{8}", "value": {"stringValue": "\u{2066}v"}}]}]);
    spans[0]["traceId"] = json!("\u{1b}[31m");
    let requests = [request("s\u{1b}[0m\u{200b}", &spans)];
    for charset in [Charset::Unicode, Charset::Ascii] {
        for columns in [1, 7, 30, 40, 200] {
            let drawing = drawn(&requests, &terminal(columns, charset));
            let hostile = drawing.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(hostile, None, "{drawing}");
            assert!(drawing.lines().all(|line| super::width(line) <= columns), "{drawing}");
        }
    }
    assert!(drawn(&requests, &terminal(200, Charset::Unicode)).contains("a\\u{1b}[2J\\u{202e}b\\nc"));
}

#[test]
fn deep_nesting_is_shown_as_a_number_and_does_not_recurse() {
    let spans: Vec<Value> = (0..20_000)
        .map(|depth: u64| span(&format!("{}", depth + 1), &format!("{depth}"), "step", depth, 20_000))
        .collect();
    let drawing = drawn(&requests_of(&spans), &terminal(80, Charset::Unicode));
    assert!(drawing.contains("\n199> step"), "{drawing}");
    assert!(drawing.contains("\n  and 19800 more spans\n"), "{drawing}");
}

#[test]
fn a_cycle_of_thousands_of_spans_ends() {
    let spans: Vec<Value> = (0..20_000)
        .map(|index: u64| span(&format!("{index}"), &format!("{}", (index + 1) % 20_000), "x", index, 20_000))
        .collect();
    assert!(
        drawn(&requests_of(&spans), &terminal(80, Charset::Ascii)).contains("@ parent spans form a cycle")
    );
}

#[test]
fn input_of_any_other_shape_is_ignored() {
    let mut traces = TraceSet::new(10);
    for odd in [
        json!(null),
        json!([]),
        json!({"resourceSpans": {}}),
        json!({"resourceSpans": [null, {"resource": 7, "scopeSpans": [{"spans": [null, 7]}]}]}),
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 5, "events": [3], "status": []}]}]}]}),
    ] {
        traces.add(&odd);
    }
    let terminal = terminal(40, Charset::Ascii);
    let lines: Vec<String> =
        traces.iter().flat_map(|trace| draw(trace, &terminal)).map(|line| line.render(&terminal)).collect();
    assert_eq!(lines[0], "trace without an id");
    assert_eq!(traces.span_count(), 3);
}

#[test]
fn traces_beyond_the_limit_are_counted() {
    let mut traces = TraceSet::new(2);
    for id in ["a", "b", "c", "a", "d", "c"] {
        let mut span = span("1", "", "x", 0, 1);
        span["traceId"] = json!(id);
        traces.add(&request("www", &[span]));
    }
    assert_eq!((traces.iter().count(), traces.beyond(), traces.span_count()), (2, 2, 6));
}

#[test]
fn colours_never_carry_meaning_alone() {
    let plain = drawn(&checkout(), &terminal(80, Charset::Unicode));
    let coloured = drawn(&checkout(), &Terminal { colour: Colour::Ansi, ..terminal(80, Charset::Unicode) });
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    assert_ne!(coloured, plain);
    assert_eq!(stripped + rest, plain);
}
