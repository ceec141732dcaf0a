use std::path::PathBuf;
use std::time::Duration;

use crate::config::{
    Compression, Config, Encoding, Environment, ExporterConfig, Loaded, Protocol, Secret, SignalExport,
    Sources,
};
use crate::event::Signal;
use crate::receiver::RECEIVERS;
use crate::receiver::circleci::CircleCiConfig;
use crate::receiver::fastly::FastlyConfig;

fn load(variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment: Environment = variables.iter().copied().collect();
    Config::load(&Sources { environment, ..Sources::default() }, RECEIVERS).map_err(|error| error.to_string())
}

fn loaded(variables: &[(&str, &str)]) -> Loaded {
    load(variables).unwrap_or_else(|problems| panic!("{problems}"))
}

fn exporter(variables: &[(&str, &str)]) -> ExporterConfig {
    loaded(variables).config.exporters.otlp_http
}

fn headers(export: &SignalExport<'_>) -> Vec<String> {
    let headers = export.headers.iter();
    let mut headers: Vec<String> =
        headers.map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    headers.sort();
    headers
}

#[test]
fn without_variables_everything_is_on_loopback_without_authentication() {
    let Loaded { config, notes, .. } = loaded(&[]);
    assert_eq!(config.server.endpoint.to_string(), "127.0.0.1:3000");
    assert!(config.telemetry.endpoint.ip().is_loopback());
    assert_eq!(config.receivers.all::<FastlyConfig>()[0].service_ids, ["*"]);
    assert!(config.receivers.all::<CircleCiConfig>()[0].allow_unsigned);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_circleci_hook_environment_works_unchanged() {
    let Loaded { config, notes, .. } = loaded(&[
        ("PORT", "8080"),
        ("CIRCLECI_HOOK_SECRET", "hunter2"),
        ("CIRCLECI_HOOK_SERVICE", "builds"),
        ("CIRCLECI_OTLP_ENDPOINT", "https://api.honeycomb.io:443"),
        ("CIRCLECI_OTLP_X_HONEYCOMB_TEAM", "team-key"),
        ("CIRCLECI_OTLP_X_HONEYCOMB_DATASET", "ci"),
        ("PATH", "/usr/bin"),
        ("HOME", "/root"),
    ]);
    assert_eq!(config.server.endpoint.to_string(), "0.0.0.0:8080");
    let circleci = &config.receivers.all::<CircleCiConfig>()[0];
    assert_eq!(circleci.secrets, [Secret::new("hunter2")]);
    assert!(!circleci.allow_unsigned);
    assert_eq!(circleci.service_name, "builds");
    let traces = config.exporters.otlp_http.of(Signal::Traces);
    assert_eq!(*traces.endpoint, "https://api.honeycomb.io:443/v1/traces");
    assert_eq!(headers(&traces), ["x-honeycomb-dataset=ci", "x-honeycomb-team=team-key"]);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_fastly_example_proxy_environment_works_unchanged() {
    let Loaded { config, notes, .. } =
        loaded(&[("PORT", "8080"), ("OTEL_HTTP_COLLECTOR_URL", "http://collector:4318/v1/traces")]);
    assert_eq!(config.server.endpoint.to_string(), "0.0.0.0:8080");
    assert_eq!(config.receivers.all::<FastlyConfig>()[0].service_ids, ["*"]);
    assert_eq!(config.exporters.otlp_http.traces_endpoint, "http://collector:4318/v1/traces");
    assert_eq!(config.exporters.otlp_http.logs_endpoint, "http://collector:4318/v1/logs");
    assert!(config.receivers.all::<CircleCiConfig>().is_empty());
    assert_eq!(notes, ["circleci receiver disabled: PORT is set and CIRCLECI_HOOK_SECRET is not"]);
}

#[test]
fn a_collector_url_without_the_traces_path_applies_to_traces_only_with_a_note() {
    let Loaded { config, notes, .. } =
        loaded(&[("OTEL_HTTP_COLLECTOR_URL", "http://collector:9411/ingest?a=b")]);
    assert_eq!(config.exporters.otlp_http.traces_endpoint, "http://collector:9411/ingest?a=b");
    assert_eq!(config.exporters.otlp_http.logs_endpoint, "http://localhost:4318/v1/logs");
    assert!(
        notes
            .iter()
            .any(|note| note.contains("logs and metrics are exported to http://localhost:4318/v1/logs")),
        "{notes:?}"
    );
}

#[test]
fn without_port_the_relay_listens_on_loopback_only_with_a_note() {
    let Loaded { config, notes, .. } = loaded(&[("CIRCLECI_HOOK_SECRET", "hunter2")]);
    assert_eq!(config.server.endpoint.to_string(), "127.0.0.1:3000");
    assert_eq!(
        notes,
        ["CIRCLECI_HOOK_SECRET is set and PORT is not: listening on 127.0.0.1:3000 only; \
          set PORT to listen on all interfaces"]
    );
}

#[test]
fn an_empty_secret_is_a_problem_and_never_disables_verification() {
    for port in [("PORT", "8080"), ("OTHER", "")] {
        let problem = load(&[("CIRCLECI_HOOK_SECRET", ""), port]).unwrap_err();
        assert_eq!(
            problem,
            "environment variable CIRCLECI_HOOK_SECRET: is empty; set it to the webhook's signing secret, or unset it"
        );
    }
}

#[test]
fn the_command_line_can_enable_circleci_again() {
    let environment: Environment = [("PORT", "8080")].into_iter().collect();
    let set = vec!["receivers.circleci.secrets=[hunter2]".to_owned()];
    let Loaded { config, notes, .. } =
        Config::load(&Sources { files: Vec::new(), set, environment }, RECEIVERS).unwrap();
    assert_eq!(config.receivers.all::<CircleCiConfig>()[0].secrets, [Secret::new("hunter2")]);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn service_ids_are_separated_by_commas_or_spaces() {
    let config =
        loaded(&[("FASTLY_SERVICE_IDS", " SU1Z0isxPaozGVKXdv0eY, 7i6HN3TK9wS159v2gPAZ8A  abc,")]).config;
    assert_eq!(
        config.receivers.all::<FastlyConfig>()[0].service_ids,
        ["SU1Z0isxPaozGVKXdv0eY", "7i6HN3TK9wS159v2gPAZ8A", "abc"]
    );
}

#[test]
fn signal_paths_are_appended_to_a_base_endpoint_only() {
    let exporter = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/otlp/"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:4318/"),
    ]);
    assert_eq!(exporter.traces_endpoint, "http://collector:4318/otlp/v1/traces");
    assert_eq!(exporter.logs_endpoint, "http://logs:4318/");
    assert_eq!(exporter.metrics_endpoint, "http://collector:4318/otlp/v1/metrics");
}

#[test]
fn headers_are_percent_decoded_pairs() {
    let exporter = exporter(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b%3D%2C , X-Other=1=2,"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-other=traces"),
    ]);
    assert_eq!(headers(&exporter.of(Signal::Traces)), ["api-key=a b=,", "x-other=traces"]);
    assert_eq!(headers(&exporter.of(Signal::Logs)), ["api-key=a b=,", "x-other=1=2"]);
}

#[test]
fn timeouts_are_milliseconds_and_can_differ_by_signal() {
    let exporter =
        exporter(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "100")]);
    assert_eq!(exporter.of(Signal::Traces).timeout, Duration::from_millis(2500));
    assert_eq!(exporter.of(Signal::Metrics).timeout, Duration::from_millis(100));
}

#[test]
fn protocol_compression_and_certificates_apply_to_all_signals_or_to_one() {
    let exporter = exporter(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "cert.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "metrics-ca.pem"),
    ]);
    let (traces, logs, metrics) =
        (exporter.of(Signal::Traces), exporter.of(Signal::Logs), exporter.of(Signal::Metrics));
    assert_eq!((traces.encoding, logs.encoding), (Encoding::Protobuf, Encoding::Json));
    assert_eq!((traces.compression, logs.compression), (Compression::None, Compression::Gzip));
    assert_eq!(traces.tls.ca_file, Some(PathBuf::from("ca.pem")));
    assert_eq!(metrics.tls.ca_file, Some(PathBuf::from("metrics-ca.pem")));
    assert_eq!(metrics.tls.cert_file, Some(PathBuf::from("cert.pem")));
    assert_eq!(metrics.tls.key_file, Some(PathBuf::from("key.pem")));
}

#[test]
fn grpc_is_selected_by_the_protocol_or_by_the_port_where_no_protocol_is_given() {
    for (variables, protocol, endpoint) in [
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")][..], Protocol::Grpc, "http://localhost:4317/"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")], Protocol::Grpc, "http://localhost:4317/"),
        (&[("CIRCLECI_OTLP_ENDPOINT", "http://c:4317")], Protocol::Grpc, "http://c:4317/"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317")], Protocol::Grpc, "https://c:4317/"),
        (&[("CIRCLECI_OTLP_ENDPOINT", "http://c:4318")], Protocol::Http, "http://c:4318/v1/traces"),
        (
            &[("CIRCLECI_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")],
            Protocol::Http,
            "http://c:4317/v1/traces",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1")],
            Protocol::Grpc,
            "http://t:1/",
        ),
    ] {
        let exporter = exporter(variables);
        assert_eq!((exporter.protocol, exporter.traces_endpoint.to_string().as_str()), (protocol, endpoint));
    }
    let headers_and_timeout = [
        ("CIRCLECI_OTLP_ENDPOINT", "http://c:4317"),
        ("CIRCLECI_OTLP_X_TEAM", "a"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
    ];
    let exporter = exporter(&headers_and_timeout);
    assert_eq!(headers(&exporter.of(Signal::Traces)), ["x-team=a"]);
    assert_eq!(exporter.settings.timeout, Duration::from_millis(7));
    let mixed =
        load(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json")]);
    assert!(mixed.unwrap_err().contains("all signals have one protocol"));
}

#[test]
fn variables_of_the_replaced_programs_take_precedence() {
    let Loaded { config, notes, .. } = loaded(&[
        ("PORT", "1"),
        ("CIRCLECI_HOOK_SECRET", "x"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=all,b=all"),
        ("CIRCLECI_OTLP_ENDPOINT", "http://hook"),
        ("CIRCLECI_OTLP_A", "hook"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://all-traces/x"),
        ("OTEL_HTTP_COLLECTOR_URL", "http://proxy/v1/traces"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "a=logs"),
    ]);
    assert_eq!(config.exporters.otlp_http.traces_endpoint, "http://proxy/v1/traces");
    assert_eq!(config.exporters.otlp_http.logs_endpoint, "http://hook/v1/logs");
    assert_eq!(headers(&config.exporters.otlp_http.of(Signal::Traces)), ["a=hook", "b=all"]);
    assert_eq!(headers(&config.exporters.otlp_http.of(Signal::Logs)), ["a=logs", "b=all"]);
    let expected = [
        "CIRCLECI_OTLP_ENDPOINT overrides OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_HTTP_COLLECTOR_URL overrides OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_HTTP_COLLECTOR_URL applies to traces only; logs and metrics are exported to http://hook/v1/logs; \
         set OTEL_EXPORTER_OTLP_ENDPOINT to change that",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn empty_variables_count_as_unset() {
    let empty = [
        "PORT",
        "CIRCLECI_HOOK_SERVICE",
        "CIRCLECI_OTLP_ENDPOINT",
        "CIRCLECI_OTLP_X",
        "FASTLY_SERVICE_IDS",
        "OTEL_HTTP_COLLECTOR_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    let variables: Vec<_> = empty.iter().map(|name| (*name, "")).collect();
    assert_eq!(loaded(&variables).config, loaded(&[]).config);
}

#[test]
fn a_problem_names_the_variable_and_does_not_repeat_its_value() {
    for (name, value, expected) in [
        ("PORT", "hunter2", "must be a port"),
        ("CIRCLECI_OTLP_ENDPOINT", "hunter2:443", "exporters.otlp_http.endpoint: this value has no scheme"),
        (
            "OTEL_HTTP_COLLECTOR_URL",
            "http://:hunter2",
            "exporters.otlp_http.traces_endpoint: this value has no host",
        ),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "hunter2", "must be grpc, http/json or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "whole number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "0 (no limit) is not supported"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "hunter2", "this value is not one of none, gzip, zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "key=value pairs"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%zz", "key=value pairs"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a", "invalid header value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2 b=c", "not a valid header name"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "hunter2", "belong together"),
        ("CIRCLECI_OTLP_X", "hunter2\n", "invalid header value"),
        ("FASTLY_SERVICE_IDS", "hunter2-", "this value is not a service id"),
        ("FASTLY_SERVICE_IDS", " , ", "is empty"),
    ] {
        let problem = load(&[(name, value)]).unwrap_err();
        assert!(problem.contains(expected), "{name}={value}: {problem}");
        assert!(problem.starts_with(&format!("environment variable {name}: ")), "{problem}");
        assert!(!problem.contains("hunter2") && !problem.contains('\n'), "{problem}");
    }
}

#[test]
fn secrets_from_anywhere_refuse_unsigned_webhooks_unless_those_were_asked_for() {
    let load = |variables: &[(&str, &str)], set: &[&str]| {
        let environment: Environment = variables.iter().copied().collect();
        let set = set.iter().map(|argument| (*argument).to_owned()).collect();
        Config::load(&Sources { environment, set, ..Sources::default() }, RECEIVERS).map(|loaded| {
            let circleci = &loaded.config.receivers.all::<CircleCiConfig>()[0];
            (circleci.secrets.len(), circleci.allow_unsigned)
        })
    };
    let allowed = "receivers.circleci.allow_unsigned=true";
    let of_set = "receivers.circleci.secrets=[\"hunter2\", other]";
    let of_variable = "receivers.circleci.secrets=[\"${env:S}\"]";
    let of_map = "receivers.circleci={secrets: [hunter2]}";
    let hook = ("CIRCLECI_HOOK_SECRET", "hunter2");
    for (variables, set, expected) in [
        (&[][..], &[][..], (0, true)),
        (&[], &[of_set], (2, false)),
        (&[("S", "hunter2")], &[of_variable], (1, false)),
        (&[], &[of_map], (1, false)),
        (&[hook], &[], (1, false)),
        (&[hook], &["receivers.circleci.service_name=builds"], (1, false)),
        (&[("PORT", "0")], &[of_set], (2, false)),
        (&[], &[of_set, allowed], (2, true)),
        (&[], &[allowed, of_set], (2, true)),
        (&[hook], &[allowed], (1, true)),
    ] {
        assert_eq!(load(variables, set).unwrap(), expected, "{variables:?} {set:?}");
    }
    // Secrets that are none are a slip, and must not leave the door open.
    for set in ["receivers.circleci.secrets=[]", "receivers.circleci.secrets=", of_variable] {
        assert!(load(&[("S", "")], &[set]).is_err(), "{set}");
    }
    for set in ["receivers.circleci.secrets=[\"$HOOK_SECRET\"]", "receivers.circleci.secrets=[$HOOK_SECRET]"]
    {
        let problems = load(&[("HOOK_SECRET", "hunter2")], &[set]).unwrap_err().to_string();
        assert!(problems.contains("write ${env:NAME}, or $$ for a literal $"), "{problems}");
    }
}
