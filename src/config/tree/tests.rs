use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use crate::config::{Config, Environment, Sources};
use crate::receiver::RECEIVERS;
use crate::receiver::circleci::CircleCiConfig;

fn reloaded(config: &Config) -> Config {
    let yaml = config.to_yaml();
    Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS)
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// Returns the configuration with `[redacted]` for every header value, as after printing.
fn redacted(mut config: Config) -> Config {
    let exporter = &mut config.exporters.otlp_http;
    let own = [&mut exporter.traces, &mut exporter.logs, &mut exporter.metrics];
    own.into_iter().for_each(|signal| redact(&mut signal.settings.headers));
    redact(&mut exporter.settings.headers);
    if let Some(traces) = &mut config.telemetry.traces {
        redact(&mut traces.headers);
    }
    config
}

fn redact(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        *value = HeaderValue::from_static(super::REDACTED);
    }
}

pub(in crate::config) const EVERYTHING: &str = r#"
server: { endpoint: "[::]:3000", max_request_body_size: 500MB, max_inflight_bytes: 1GiB, max_line_size: 1000, header_timeout: 1m30s, tls: { cert_file: "c$$", key_file: k, client_ca_file: "a b" } }
receivers:
  fastly: { service_ids: [a1, b2], repair: false, auth: { header: X-Key, values: ["hunter2", "hunter2$${env:X}"] } }
  fastly/www: { path: "/w/$$1", rate_limit: { requests_per_second: 0.5 } }
  otlp: { auth: { values: ["hunter2"] }, rate_limit: { requests_per_second: 10 } }
  circleci/app: { secrets: ["hunter2"], service_name: "it's \"quoted\" \\ $$HOME # no\tcomment\n: ü" }
  circleci: { allow_unsigned: true, service_name: "null", rate_limit: { requests_per_second: 3, burst: 7 } }
processors: { span_events: { wait: 0s, max_held_bytes: 1KiB, unmatched: carrier_span, keep_logs: true } }
queue: { storage: disk, directory: "/var/lib/$${x}/y", max_size: 3GiB, sync: never }
exporters:
  otlp_http:
    endpoint: https://user:hunter2@h/base/
    logs_endpoint: https://h:1/l?a=$$b
    encoding: protobuf
    delivery: batch
    batch: { max_events: 7, max_bytes: 7, timeout: 7ms }
    compression: zstd
    headers: { x-a: "hunter2" }
    timeout: 1500us
    max_in_flight: 1
    retry_on_failure: { initial_interval: 2s, max_interval: 1h, multiplier: 1, randomization_factor: 0.1, max_elapsed_time: 5m }
    permanent_status_codes: [400, 501]
    tls: { ca_file: "a b" }
    traces: { timeout: 1s, compression: gzip, encoding: json, headers: { x-b: "hunter2" }, tls: { cert_file: c, key_file: k } }
    metrics: { headers: { x-c: "hunter2" } }
telemetry:
  endpoint: "127.0.0.1:1"
  logs: { level: trace, format: json }
  traces: { endpoint: "https://user:hunter2@t:1/x?a=$$b", headers: { x-d: "hunter2" }, sampling_ratio: 0.25, timeout: 2s, tls: { ca_file: c } }
"#;

#[test]
fn the_printed_configuration_loads_as_the_same_one() {
    let yaml = EVERYTHING.replace("hunter2$${env:X}", "hunter2").replace("hunter2", super::REDACTED);
    let config =
        Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(redacted(reloaded(&config)), redacted(config));
}

#[test]
fn the_printed_built_in_configuration_loads() {
    let config = Config::load(&Sources::default(), RECEIVERS).unwrap().config;
    assert_eq!(reloaded(&config), config);
}

#[test]
fn no_secret_is_printed() {
    let yaml = Config::from_yaml(EVERYTHING, &Environment::empty(), RECEIVERS).unwrap().to_yaml();
    assert!(!yaml.contains("hunter2"), "{yaml}");
    assert!(!yaml.contains("user"), "{yaml}");
    assert!(!yaml.contains("Basic"), "{yaml}");
    // Two values of auth for fastly and one for otlp, one secret, x-a to x-d, and the user of the endpoint for traces, metrics
    // and self-tracing.
    assert_eq!(yaml.matches(super::REDACTED).count(), 11, "{yaml}");
}

proptest! {
    #[test]
    fn any_text_survives_quoting(text in "\\PC{1,20}|[\u{0}-\u{ff}]{1,20}") {
        let yaml = format!("receivers: {{circleci: {{allow_unsigned: true, service_name: {}}}}}\n", super::quote(&text));
        let config = Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        prop_assert_eq!(&config.receivers.all::<CircleCiConfig>()[0].service_name, &text);
    }
}

#[test]
fn names_are_quoted_where_yaml_requires_it() {
    let yaml = r##"
receivers: { fastly/null: { path: /b }, fastly/1: { path: /c } }
exporters: { otlp_http: { endpoint: "http://h:1", headers: { "*a": x, "&b": x, "#c": x, "!d": x, "|e": x, "%f": x, "$g": x, "'h": x, "-": x, "1": x } } }
"##;
    let config = Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).unwrap();
    assert_eq!(reloaded(&config), redacted(config));
}
