//! Oracles: the rules applied to values, and to the messages of protobuf.

use std::net::{IpAddr, Ipv6Addr};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::AttributesConfig;
use crate::event::Signal;

fn has(keys: &[String], key: &str) -> bool {
    keys.iter().any(|other| other == key)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Truncates one of the generated texts.
fn truncated(text: &str) -> Option<String> {
    let one = |text: &str| -> Option<String> {
        let text = text.trim();
        if let Some((host, port)) = text.rsplit_once(':')
            && host.contains('.')
            && !host.contains(':')
            && port.parse::<u16>().is_ok()
        {
            return truncated(host);
        }
        match text.parse().ok()? {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Some(format!("{a}.{b}.{c}.0"))
            }
            IpAddr::V6(address) => match address.segments() {
                [0, 0, 0, 0, 0, 0xffff, high, low] => {
                    let ([a, b], [c, _]) = (high.to_be_bytes(), low.to_be_bytes());
                    Some(format!("::ffff:{a}.{b}.{c}.0"))
                }
                [a, b, c, ..] => Some(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()),
            },
        }
    };
    text.split(',').map(one).collect::<Option<Vec<_>>>().map(|list| list.join(", "))
}

/// Applies the rules to a value of the JSON mapping.
pub(super) fn json(value: &Value, rules: &AttributesConfig) -> Value {
    match value {
        Value::Object(members) => {
            let mut new = serde_json::Map::new();
            for (name, member) in members {
                let mut member = json(member, rules);
                if name == "logRecords" {
                    member.as_array_mut().unwrap().iter_mut().for_each(|record| of_record(record, rules));
                }
                new.insert(name.clone(), member);
            }
            Value::Object(new)
        }
        Value::Array(values) => {
            let pairs = values.iter().filter_map(|value| match value.get("key").and_then(Value::as_str) {
                None => Some((json(value, rules), false)),
                Some(key) => {
                    let new = json_value(json(&value["value"], rules), key, rules)?;
                    match rules.rename.iter().find(|(old, _)| old == key) {
                        Some((_, new_key)) => Some((json!({ "key": new_key, "value": new }), true)),
                        None => Some((json!({ "key": key, "value": new }), false)),
                    }
                }
            });
            let pairs: Vec<(Value, bool)> = pairs.collect();
            Value::Array(unique(pairs, |pair| pair.get("key").map(ToString::to_string)))
        }
        other => other.clone(),
    }
}

/// Keeps of several pairs with one key the one that was renamed last, if any was.
fn unique<T>(pairs: Vec<(T, bool)>, key: impl Fn(&T) -> Option<String>) -> Vec<T> {
    let renamed: Vec<(usize, String)> = pairs
        .iter()
        .enumerate()
        .filter(|(_, (_, is_renamed))| *is_renamed)
        .filter_map(|(index, (pair, _))| Some((index, key(pair)?)))
        .collect();
    let wins = |index: usize, pair: &T| {
        let last = renamed.iter().rev().find(|(_, new_key)| Some(new_key) == key(pair).as_ref());
        last.is_none_or(|(last, _)| *last == index)
    };
    pairs
        .into_iter()
        .enumerate()
        .filter(|(index, (pair, _))| wins(*index, pair))
        .map(|(_, (pair, _))| pair)
        .collect()
}

fn json_value(mut value: Value, key: &str, rules: &AttributesConfig) -> Option<Value> {
    if has(&rules.drop, key) {
        return None;
    }
    if has(&rules.truncate_ip, key) {
        let text =
            |value: &Value| Some(json!({ "stringValue": truncated(value.get("stringValue")?.as_str()?)? }));
        value = match value.get("arrayValue") {
            None => text(&value)?,
            Some(array) => {
                let values: Option<Vec<Value>> =
                    array["values"].as_array().unwrap().iter().map(text).collect();
                json!({ "arrayValue": { "values": values? } })
            }
        };
    }
    if has(&rules.hash, key) {
        let (name, content) = value.as_object().unwrap().iter().next().unwrap();
        let hash = match (&**name, content) {
            ("stringValue", Value::String(text)) if !text.is_empty() => hex(text.as_bytes()),
            ("boolValue", Value::Bool(value)) => hex(&[u8::from(*value)]),
            ("intValue", Value::String(number)) => hex(&number.parse::<i64>().unwrap().to_le_bytes()),
            ("doubleValue", number) => hex(&number.as_f64().unwrap().to_le_bytes()),
            _ => String::new(),
        };
        value = json!({ "stringValue": hash });
    }
    Some(value)
}

/// Applies the rules to the members of a log record that become attributes of an event.
fn of_record(record: &mut Value, rules: &AttributesConfig) {
    let record = record.as_object_mut().unwrap();
    let number = "log.severity_number";
    if [&rules.drop, &rules.truncate_ip, &rules.hash].into_iter().any(|keys| has(keys, number)) {
        record.remove("severityNumber");
    }
    if let Some(body) = record.remove("body")
        && let Some(new) = json_value(body, "log.body", rules)
    {
        record.insert("body".to_owned(), new);
    }
    if let Some(text) = record.remove("severityText")
        && let Some(new) = json_value(json!({ "stringValue": text }), "log.severity_text", rules)
    {
        record.insert("severityText".to_owned(), new["stringValue"].clone());
    }
}

/// An export request of any signal.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

pub(super) fn decoded(signal: Signal, bytes: &[u8]) -> Request {
    match signal {
        Signal::Traces => Request::Traces(Message::decode(bytes).unwrap()),
        Signal::Logs => Request::Logs(Message::decode(bytes).unwrap()),
        Signal::Metrics => Request::Metrics(Message::decode(bytes).unwrap()),
    }
}

/// Applies the rules to a request in protobuf.
pub(super) fn protobuf(signal: Signal, bytes: &[u8], rules: &AttributesConfig) -> Request {
    let list = |pairs: &mut Vec<KeyValue>| pairs_of(pairs, rules);
    let resource = |resource: &mut Option<Resource>| list(&mut resource.as_mut().unwrap().attributes);
    let scope = |scope: &mut Option<InstrumentationScope>| list(&mut scope.as_mut().unwrap().attributes);
    let mut request = decoded(signal, bytes);
    match &mut request {
        Request::Traces(request) => {
            for group in &mut request.resource_spans {
                resource(&mut group.resource);
                for group in &mut group.scope_spans {
                    scope(&mut group.scope);
                    for span in &mut group.spans {
                        list(&mut span.attributes);
                        span.events.iter_mut().for_each(|event| list(&mut event.attributes));
                        span.links.iter_mut().for_each(|link| list(&mut link.attributes));
                    }
                }
            }
        }
        Request::Logs(request) => {
            for group in &mut request.resource_logs {
                resource(&mut group.resource);
                for group in &mut group.scope_logs {
                    scope(&mut group.scope);
                    for record in &mut group.log_records {
                        list(&mut record.attributes);
                        record.body = record
                            .body
                            .take()
                            .and_then(|body| value_of(nested(body, rules), "log.body", rules));
                        let text = AnyValue {
                            value: Some(Any::StringValue(std::mem::take(&mut record.severity_text))),
                        };
                        if let Some(AnyValue { value: Some(Any::StringValue(text)) }) =
                            value_of(text, "log.severity_text", rules)
                        {
                            record.severity_text = text;
                        }
                        let number = AnyValue { value: Some(Any::StringValue("no address".to_owned())) };
                        let changed = value_of(number.clone(), "log.severity_number", rules);
                        if changed != Some(number) {
                            record.severity_number = 0;
                        }
                    }
                }
            }
        }
        Request::Metrics(request) => {
            for group in &mut request.resource_metrics {
                resource(&mut group.resource);
                for group in &mut group.scope_metrics {
                    scope(&mut group.scope);
                    for metric in &mut group.metrics {
                        list(&mut metric.metadata);
                        match metric.data.as_mut().unwrap() {
                            Data::Gauge(gauge) => {
                                for point in &mut gauge.data_points {
                                    list(&mut point.attributes);
                                    point
                                        .exemplars
                                        .iter_mut()
                                        .for_each(|one| list(&mut one.filtered_attributes));
                                }
                            }
                            Data::Histogram(data) => {
                                data.data_points.iter_mut().for_each(|point| list(&mut point.attributes))
                            }
                            Data::Summary(data) => {
                                data.data_points.iter_mut().for_each(|point| list(&mut point.attributes))
                            }
                            other => panic!("not generated: {other:?}"),
                        }
                    }
                }
            }
        }
    }
    request
}

fn pairs_of(pairs: &mut Vec<KeyValue>, rules: &AttributesConfig) {
    let kept = pairs.drain(..).filter_map(|pair| {
        let value = nested(pair.value.unwrap_or_default(), rules);
        let value = Some(value_of(value, &pair.key, rules)?);
        Some(match rules.rename.iter().find(|(old, _)| *old == pair.key) {
            Some((_, new)) => (KeyValue { key: new.clone(), value, ..pair }, true),
            None => (KeyValue { value, ..pair }, false),
        })
    });
    let kept: Vec<(KeyValue, bool)> = kept.collect();
    *pairs = unique(kept, |pair| Some(pair.key.clone()));
}

/// Applies the rules to the maps in a value.
fn nested(mut value: AnyValue, rules: &AttributesConfig) -> AnyValue {
    match &mut value.value {
        Some(Any::KvlistValue(list)) => pairs_of(&mut list.values, rules),
        Some(Any::ArrayValue(array)) => {
            array.values = array.values.drain(..).map(|value| nested(value, rules)).collect();
        }
        _ => {}
    }
    value
}

fn value_of(mut value: AnyValue, key: &str, rules: &AttributesConfig) -> Option<AnyValue> {
    if has(&rules.drop, key) {
        return None;
    }
    let text = |text: String| AnyValue { value: Some(Any::StringValue(text)) };
    if has(&rules.truncate_ip, key) {
        let truncate = |value: AnyValue| match value.value {
            Some(Any::StringValue(old)) => truncated(&old).map(text),
            _ => None,
        };
        value = match value.value {
            Some(Any::ArrayValue(mut array)) => {
                array.values = array.values.into_iter().map(truncate).collect::<Option<Vec<_>>>()?;
                AnyValue { value: Some(Any::ArrayValue(array)) }
            }
            _ => truncate(value)?,
        };
    }
    if has(&rules.hash, key) {
        value = text(match value.value {
            Some(Any::StringValue(text)) if !text.is_empty() => hex(text.as_bytes()),
            Some(Any::BoolValue(value)) => hex(&[u8::from(value)]),
            Some(Any::IntValue(number)) => hex(&number.to_le_bytes()),
            Some(Any::DoubleValue(number)) => hex(&number.to_le_bytes()),
            _ => String::new(),
        });
    }
    Some(value)
}
