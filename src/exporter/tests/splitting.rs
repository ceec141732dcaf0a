//! Condemned data is split until the bad item is alone: the others are delivered, each once and unaltered, and every
//! receipt follows its item. In virtual time; a reader that shares no code with the exporter checks what arrives.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use tower::service_fn;

use super::in_virtual_time::{answer, config};
use super::*;

/// Number of items in a scope, and of scopes in a resource.
const BRANCHES: usize = 2;

/// Structure of the test units of one signal.
#[derive(Debug, Clone, Copy)]
struct Shape {
    signal: Signal,
    /// Lists from the request down to the items; a dot descends into an object first.
    lists: [&'static str; 3],
}

const SHAPES: [Shape; 3] = [
    Shape { signal: Signal::Traces, lists: ["resourceSpans", "scopeSpans", "spans"] },
    Shape { signal: Signal::Logs, lists: ["resourceLogs", "scopeLogs", "logRecords"] },
    Shape { signal: Signal::Metrics, lists: ["resourceMetrics", "scopeMetrics", "metrics"] },
];

/// An item with its resource and scope.
type Leaf = (String, String, String);

impl Shape {
    fn item(self, name: &str) -> Value {
        match self.signal {
            Signal::Traces => json!({ "name": name, "events": [{ "name": format!("event of {name}") }] }),
            Signal::Logs => json!({ "body": { "stringValue": name } }),
            // One point each, so that an item is an element of the innermost list here, too.
            Signal::Metrics => {
                json!({ "name": name, "gauge": { "dataPoints": [{ "asInt": "1", "timeUnixNano": "7" }] } })
            }
        }
    }

    /// Returns a unit with these items, in order, in several resources and scopes.
    fn unit(self, names: &[String]) -> String {
        let [resources, scopes, items] = self.lists;
        let scope = |names: &[String]| {
            let list: Vec<Value> = names.iter().map(|name| self.item(name)).collect();
            json!({ "scope": { "name": format!("scope of {}", number(&names[0])) }, items: list })
        };
        let resource = |names: &[String]| {
            let list: Vec<Value> = names.chunks(BRANCHES).map(scope).collect();
            json!({ "resource": { "attributes": [{ "key": "first", "value": { "stringValue": number(&names[0]) } }] }, scopes: list })
        };
        let list: Vec<Value> = names.chunks(BRANCHES * BRANCHES).map(resource).collect();
        json!({ resources: list }).to_string()
    }

    /// Returns the items of a request, in order.
    fn leaves(self, request: &str) -> Vec<Leaf> {
        let [resources, scopes, items] = self.lists;
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let request: Value = serde_json::from_str(request).unwrap();
        let mut leaves = Vec::new();
        for resource in list(&request, resources) {
            for scope in list(&resource, scopes) {
                for item in list(&scope, items) {
                    leaves.push((
                        resource["resource"].to_string(),
                        scope["scope"].to_string(),
                        item.to_string(),
                    ));
                }
            }
        }
        leaves
    }
}

fn names(unit: usize, bad: &[bool]) -> Vec<String> {
    let name =
        |(item, bad): (usize, &bool)| format!("{unit:02} {item:03} {}", if *bad { "bad" } else { "good" });
    bad.iter().enumerate().map(name).collect()
}

/// Returns the number in an item's name.
fn number(name: &str) -> &str {
    name.rsplit_once(' ').map_or(name, |(number, _)| number)
}

fn depth(of: usize) -> usize {
    of.max(1).next_power_of_two().ilog2() as usize
}

/// Outcomes of some units.
struct Came {
    /// Bodies of accepted requests, in order.
    accepted: Vec<String>,
    requests: usize,
    ended: Ended,
}

/// Sends units of items, of which some are bad, to a downstream that condemns every request with a bad one.
async fn sent(shape: Shape, units: &[Vec<bool>], delivery: DeliveryMode, status: u16) -> Came {
    let seen = Arc::new(Mutex::new((Vec::new(), 0)));
    let noted = Arc::clone(&seen);
    let post = service_fn(move |body: Bytes| {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let is_bad = text.contains("bad\"");
        let mut seen = noted.lock().unwrap();
        seen.1 += 1;
        if !is_bad {
            seen.0.push(text);
        }
        async move { answer(if is_bad { status } else { 200 }, r#"{"message":"bad item"}"#) }
    });
    let mut config = config();
    (config.settings.delivery, config.settings.max_in_flight) = (delivery, 1);
    let rig = Rig::with_post(&config, post);
    for (number, unit) in units.iter().enumerate() {
        let items = u32::try_from(unit.len()).unwrap();
        rig.export(shape.signal, &shape.unit(&names(number, unit)), items);
    }
    let ended = rig.drained().await;
    let (accepted, requests) = std::mem::take(&mut *seen.lock().unwrap());
    Came { accepted, requests, ended }
}

fn check(shape: Shape, units: &[Vec<bool>], came: &Came) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (number, unit) in units.iter().enumerate() {
        let leaves = shape.leaves(&shape.unit(&names(number, unit)));
        for (leaf, is_bad) in leaves.into_iter().zip(unit) {
            if *is_bad { bad.push(leaf) } else { good.push(leaf) }
        }
    }
    let accepted: Vec<Leaf> = came.accepted.iter().flat_map(|body| shape.leaves(body)).collect();
    assert_eq!(accepted, good, "each good item once, unaltered and in its order");
    let rejected: Vec<Vec<Leaf>> = came.ended.rejects.iter().map(|(json, _)| shape.leaves(json)).collect();
    assert!(rejected.iter().all(|alone| alone.len() == 1), "{rejected:?}");
    assert_eq!(rejected.concat(), bad, "each bad item alone");

    let items_settled_as = |expected| -> u32 {
        came.ended
            .settled_receipts
            .iter()
            .filter(|(_, outcome, _)| *outcome == expected)
            .map(|(.., items)| items)
            .sum()
    };
    assert_eq!(items_settled_as(Settled::Delivered) as usize, good.len());
    assert_eq!(items_settled_as(Settled::Rejected) as usize, bad.len());

    let longest = units.iter().map(Vec::len).max().unwrap_or_default();
    let per_bad_item = 2 * (depth(units.len()) + depth(longest));
    let at_most = units.len() + bad.len() * per_bad_item;
    assert!(came.requests <= at_most, "{} requests for {} bad items", came.requests, bad.len());
}

fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn only_the_bad_items_of_any_units_are_rejected(
        shape in proptest::sample::select(&SHAPES[..]),
        units in proptest::collection::vec(proptest::collection::vec(proptest::bool::weighted(0.1), 1..20), 1..8),
        is_batch in any::<bool>(),
        status in proptest::sample::select(&[400_u16, 413, 422][..]),
    ) {
        let delivery = if is_batch { DeliveryMode::Batch } else { DeliveryMode::Single };
        let came = in_virtual_time(sent(shape, &units, delivery, status));
        check(shape, &units, &came);
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_span_of_a_thousand_costs_twenty_more_requests() {
    let mut unit = vec![false; 1024];
    unit[700] = true;
    let came = sent(SHAPES[0], &[unit.clone()], DeliveryMode::Single, 400).await;
    check(SHAPES[0], &[unit], &came);
    assert_eq!(came.requests, 21);
    assert_eq!(came.ended.rejects[0].1, "downstream returned 400: bad item");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_too_large_is_split_until_it_fits() {
    let post = service_fn(|body: Bytes| async move { answer(if body.len() > 2000 { 413 } else { 200 }, "") });
    let rig = Rig::with_post(&config(), post);
    let unit = SHAPES[0].unit(&names(0, &[false; 64]));
    assert!(unit.len() > 4000);
    rig.export(Signal::Traces, &unit, 64);
    let ended = rig.drained().await;
    assert_eq!((ended.sent_spans(), ended.rejects.len()), (64, 0));
}

#[tokio::test(start_paused = true)]
async fn a_data_point_is_split_from_the_others_of_its_metric() {
    let post = service_fn(|body: Bytes| async move {
        let text = String::from_utf8(body.to_vec()).unwrap();
        answer(if text.contains("666") { 400 } else { 200 }, "")
    });
    let rig = Rig::with_post(&config(), post);
    let metric = |points: &[&str]| {
        let points: Vec<Value> = points.iter().map(|point| json!({ "asInt": point })).collect();
        json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [
            { "name": "m", "unit": "1", "sum": { "isMonotonic": true, "dataPoints": points } }
        ] }] }] })
        .to_string()
    };
    rig.export(Signal::Metrics, &metric(&["1", "2", "666", "4"]), 4);
    let ended = rig.drained().await;
    let [(rejected, _)] = &ended.rejects[..] else { panic!("{:?}", ended.rejects) };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(json(rejected), json(&metric(&["666"])));
    assert_eq!(ended.count(Settled::Rejected), 1);
}

#[tokio::test(start_paused = true)]
async fn the_receipt_of_an_attached_log_record_follows_its_span() {
    let post = service_fn(|body: Bytes| async move {
        let text = String::from_utf8(body.to_vec()).unwrap();
        answer(if text.contains("bad\"") { 400 } else { 200 }, "")
    });
    let rig = Rig::with_post(&config(), post);
    let bad = [false, false, true, false, false];
    // Log records of the same record: two on the first span, one on the bad one, one on the last.
    rig.spans_with_logs(&SHAPES[0].unit(&names(0, &bad)), 5, &[0, 2, 0, 4]);
    let ended = rig.drained().await;
    let of_logs: Vec<Settled> = ended
        .settled_receipts
        .iter()
        .filter(|(signal, ..)| *signal == Signal::Logs)
        .map(|(_, outcome, _)| *outcome)
        .collect();
    let count = |outcome| of_logs.iter().filter(|settled| **settled == outcome).count();
    assert_eq!((count(Settled::Attached), count(Settled::Rejected), of_logs.len()), (3, 1, 4));
    assert_eq!((ended.sent_spans(), ended.failed_spans()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn protobuf_is_split_as_well() {
    for compression in [Compression::None, Compression::Gzip] {
        let names_of = move |body: &[u8]| -> Vec<String> {
            let plain = if compression == Compression::Gzip { gunzipped(body) } else { body.to_vec() };
            let request = ExportTraceServiceRequest::decode(&plain[..]).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
        };
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&accepted);
        let post = service_fn(move |body: Bytes| {
            let names = names_of(&body);
            let is_bad = names.iter().any(|name| name.ends_with("bad"));
            if !is_bad {
                noted.lock().unwrap().extend(names);
            }
            async move { answer(if is_bad { 400 } else { 200 }, "") }
        });
        let mut config = config();
        (config.encoding, config.settings.compression) = (Encoding::Protobuf, compression);
        let rig = Rig::with_post(&config, post);
        let mut bad = [false; 16];
        (bad[3], bad[4]) = (true, true);
        rig.export(Signal::Traces, &SHAPES[0].unit(&names(0, &bad)), 16);
        let ended = rig.drained().await;
        assert_eq!((ended.sent_spans(), ended.failed_spans(), ended.rejects.len()), (14, 2, 2));
        let accepted: BTreeSet<String> = accepted.lock().unwrap().drain(..).collect();
        assert_eq!(accepted.len(), 14);
    }
}
