use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::*;
use crate::event::Signal;
use crate::receiver::RECEIVERS;
use crate::receiver::circleci::CircleCiConfig;
use crate::receiver::fastly::FastlyConfig;
use crate::receiver::otlp::OtlpConfig;

mod documents;

mod schema;

const EXAMPLE: &str = include_str!("../../config/spanrelay.example.yaml");

fn environment() -> Environment {
    [
        ("CIRCLECI_HOOK_SECRET", "hunter2"),
        ("CIRCLECI_TOKEN", "hunter2"),
        ("GITHUB_WEBHOOK_SECRET", "hunter2"),
        ("RECEIVER_TOKEN", "Bearer hunter2"),
        ("HONEYCOMB_KEY", "hunter2"),
        ("HOSTNAME", "worker-0"),
        ("KAFKA_PASSWORD", "hunter2"),
        ("YES", "yes"),
        ("PORT", "4000"),
    ]
    .into_iter()
    .collect()
}

fn config(yaml: &str) -> Config {
    Config::from_yaml(yaml, &environment(), RECEIVERS).unwrap_or_else(|error| panic!("{error}"))
}

/// Adds a valid receiver to a configuration.
fn with_receivers(yaml: &str) -> String {
    format!("receivers: {{fastly: }}\n{yaml}")
}

fn problems(yaml: &str) -> Vec<String> {
    let error = Config::from_yaml(yaml, &environment(), RECEIVERS).expect_err("there are problems");
    error.to_string().lines().map(str::to_owned).collect()
}

fn only_problem(yaml: &str) -> String {
    let mut problems = problems(yaml);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

fn notes(yaml: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.yaml");
    std::fs::write(&file, yaml).unwrap();
    let sources = Sources { files: vec![file], set: Vec::new(), environment: environment() };
    Config::load(&sources, RECEIVERS).unwrap().notes.join("\n")
}

#[test]
fn a_receiver_without_a_value_is_enabled_and_everything_else_has_its_default() {
    let Config { server, receivers, processors, queue, exporters, telemetry } =
        config("receivers: {fastly: }\n");
    let (span_events, exporter) = (processors.span_events, exporters.otlp_http);
    assert_eq!(server.endpoint, SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)));
    assert_eq!(server.max_request_body_size, 104_857_600);
    assert_eq!(server.max_line_size, 1_048_576);
    assert_eq!(server.max_concurrent_requests, 1024);
    assert_eq!(server.header_timeout, Duration::from_secs(10));
    assert_eq!(server.body_timeout, Duration::from_secs(60));
    assert_eq!(server.request_timeout, Duration::from_secs(9));
    assert_eq!(receivers.all::<FastlyConfig>().len(), 1);
    assert_eq!(receivers.all::<FastlyConfig>()[0].endpoint.id, "fastly");
    assert_eq!(receivers.all::<FastlyConfig>()[0].endpoint.path, "/fastly");
    assert_eq!(receivers.all::<FastlyConfig>()[0].service_ids, ["*"]);
    assert_eq!(receivers.all::<FastlyConfig>()[0].auth, None);
    assert!(receivers.all::<FastlyConfig>()[0].repair);
    assert!(receivers.all::<CircleCiConfig>().is_empty());
    assert_eq!(span_events.wait, Duration::from_secs(10));
    assert_eq!(span_events.max_held_bytes, 67_108_864);
    assert_eq!(span_events.unmatched, Unmatched::ForwardLog);
    assert!(!span_events.keep_logs);
    assert_eq!(queue.directory, PathBuf::from("spanrelay-data"));
    assert_eq!(queue.max_size, 1_073_741_824);
    assert_eq!(queue.sync, Sync::Always);
    assert_eq!(exporter.traces_endpoint, "http://localhost:4318/v1/traces");
    assert_eq!(exporter.logs_endpoint, "http://localhost:4318/v1/logs");
    assert_eq!(exporter.metrics_endpoint, "http://localhost:4318/v1/metrics");
    assert_eq!((exporter.encoding, exporter.settings.delivery), (Encoding::Json, DeliveryMode::Single));
    assert_eq!(exporter.settings.batch.max_events, 512);
    assert_eq!(exporter.settings.batch.max_bytes, 4_194_304);
    assert_eq!(exporter.settings.batch.timeout, Duration::from_millis(200));
    assert_eq!(exporter.settings.compression, Compression::None);
    assert!(exporter.settings.headers.is_empty());
    assert_eq!(exporter.settings.timeout, Duration::from_secs(10));
    assert_eq!(exporter.settings.max_in_flight, 32);
    let retry = exporter.settings.retry_on_failure;
    assert_eq!(retry.initial_interval, Duration::from_secs(1));
    assert_eq!(retry.max_interval, Duration::from_secs(30));
    assert!((retry.multiplier, retry.randomization_factor) == (1.5, 0.5));
    assert_eq!(retry.max_elapsed_time, Duration::ZERO);
    assert_eq!(exporter.permanent_status_codes, [400, 413, 422]);
    assert_eq!(exporter.settings.tls, TlsClientConfig::default());
    assert_eq!(telemetry.endpoint, SocketAddr::from((Ipv4Addr::LOCALHOST, 13133)));
    assert_eq!(telemetry.logs.level, tracing::Level::INFO);
    assert_eq!(telemetry.logs.format, LogFormat::Text);
}

#[test]
fn the_example_equals_the_defaults() {
    let minimal = "receivers:\n  fastly:\n  circleci: {secrets: [\"${env:CIRCLECI_HOOK_SECRET}\"]}\n  \
                   github: {secrets: [\"${env:GITHUB_WEBHOOK_SECRET}\"]}\n  otlp:\n";
    assert_eq!(config(EXAMPLE), config(minimal));
}

/// Returns the example with the commented-out keys, which have no default.
fn whole_example() -> String {
    // Keys are `#key: …`, and `#  key: …` below it; prose is `# Words`, with one space.
    let uncomment = |line: &str| {
        let mut line = line.to_owned();
        while let Some(content) = line.trim_start().strip_prefix('#')
            && (!content.starts_with(' ') || content.starts_with("  "))
        {
            line = line.replacen('#', "", 1);
        }
        line + "\n"
    };
    EXAMPLE.lines().skip_while(|line| line.starts_with('#')).map(uncomment).collect()
}

#[test]
fn the_example_is_valid_with_every_key() {
    let whole = whole_example();
    let (before, exporters) = whole.split_once("  otlp_http:\n").unwrap();
    let (http, rest) = exporters.split_once("  otlp_grpc:\n").unwrap();
    let (grpc, after) = rest.split_at(rest.find("\ntelemetry:").unwrap());
    let over_http = config(&format!("{before}  otlp_http:\n{http}{after}"));
    assert!(over_http.receivers.all::<FastlyConfig>()[0].auth.is_some());
    assert!(over_http.telemetry.traces.is_some());
    assert!(over_http.exporters.otlp_http.metrics.settings.tls.key_file.is_some());
    let over_grpc = config(&format!("{before}  otlp_grpc:\n{grpc}{after}"));
    assert!(over_grpc.exporters.otlp_http.metrics.settings.tls.key_file.is_some());
    assert!(only_problem(&whole).contains("exporters.otlp_grpc: replaces otlp_http; remove one of the two"));
}

#[test]
fn an_exporter_by_grpc_has_the_settings_of_its_section_and_is_printed_as_such() {
    let yaml = with_receivers(
        "exporters: { otlp_grpc: { endpoint: 'https://user:x@c:1', logs_endpoint: 'http://l', logs: { timeout: 1s } } }\n",
    );
    let config = config(&yaml);
    let (traces, logs) =
        (config.exporters.otlp_http.of(Signal::Traces), config.exporters.otlp_http.of(Signal::Logs));
    assert_eq!((traces.protocol, traces.encoding), (Protocol::Grpc, Encoding::Protobuf));
    assert_eq!(traces.endpoint, "https://c:1/");
    assert!(traces.headers.contains_key("authorization"));
    assert_eq!((logs.endpoint, logs.timeout), (&"http://l/".parse().unwrap(), Duration::from_secs(1)));
    let printed = config.to_yaml();
    assert!(printed.contains("otlp_grpc:") && !printed.contains("otlp_http:"), "{printed}");
    for (grpc, problem) in [
        ("{ endpoint: 'http://c:4317/v1/traces' }", "has a path"),
        ("{ encoding: json }", "unknown key"),
        ("{ tls: { cert_file: a } }", "belong together"),
    ] {
        let found = only_problem(&with_receivers(&format!("exporters: {{ otlp_grpc: {grpc} }}\n")));
        assert!(found.contains(problem), "{grpc}: {found}");
    }
}

#[test]
fn self_tracing_needs_an_endpoint_that_is_not_the_relay() {
    let with = |traces: &str| with_receivers(&format!("telemetry:\n  traces: {traces}\n"));
    let on = config(&with("{ endpoint: 'http://user:secret@t:4318/a/?b' }")).telemetry.traces.unwrap();
    assert_eq!(on.endpoint, "http://t:4318/a/?b", "used unchanged");
    assert_eq!(on.headers["authorization"], "Basic dXNlcjpzZWNyZXQ=");
    assert_eq!((on.sampling_ratio, on.timeout), (1.0, Duration::from_secs(10)));
    for (traces, problem) in [
        ("", "telemetry.traces: needs an endpoint"),
        ("{ sampling_ratio: 1 }", "telemetry.traces: needs an endpoint"),
        ("{ endpoint: 'http://localhost:3000/v1/traces' }", "endpoint: is server.endpoint of this relay"),
        ("{ endpoint: 'https://[::1]:13133' }", "endpoint: is telemetry.endpoint of this relay"),
        ("{ endpoint: 't:4318' }", "has no scheme"),
        ("{ endpoint: 'http://t/v1/traces', sampling_ratio: 2 }", "it must be from 0 to 1"),
        ("{ endpoint: 'http://t/v1/traces', timeout: 0s }", "it must be more than 0s"),
        ("{ endpoint: 'http://t/v1/traces', headers: { User-Agent: me } }", "user-agent is set by the relay"),
        ("{ endpoint: 'http://t/v1/traces', tls: { cert_file: a } }", "belong together"),
        ("{ endpont: 'http://t/v1/traces', endpoint: 'http://t/' }", "did you mean \"endpoint\"?"),
    ] {
        let found = only_problem(&with(traces));
        assert!(found.contains(problem), "{traces}: {found}");
    }
}

#[test]
fn the_link_to_a_trace_is_a_web_address_with_a_place_for_its_id() {
    let with = |link: &str| {
        format!("receivers: {{ fastly: }}\ntelemetry: {{ inspect: {{ trace_link: \"{link}\" }} }}\n")
    };
    let jaeger = "HTTPS://jaeger.example/trace/{trace_id}?uiFind={trace_id}";
    assert_eq!(config(&with(jaeger)).telemetry.inspect.trace_link.as_deref(), Some(jaeger));
    for (link, problem) in [
        ("javascript:alert('{trace_id}')", "must begin with http:// or https://"),
        ("jaeger.example/{trace_id}", "must begin with http:// or https://"),
        ("https://jaeger.example/trace/{traceID}", "does not contain {trace_id}"),
        ("https://jaeger.example/ {trace_id}", "contains white space"),
    ] {
        let reported = only_problem(&with(link));
        assert!(
            reported.contains("telemetry.inspect.trace_link") && reported.contains(problem),
            "{reported}"
        );
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let problem = only_problem("receivers:\n  fastly:\n    pth: /x\n");
    let expected = "config.yaml:3: receivers.fastly.pth: unknown key; did you mean \"path\"? \
                    allowed here: path, rate_limit, service_ids, auth, repair, access_logs";
    assert_eq!(problem, expected);
    let problem = only_problem(&with_receivers("colour:\n  red: {}\n"));
    assert!(
        problem.starts_with("config.yaml:2: colour: unknown key; allowed here: server, receivers"),
        "{problem}"
    );
    let problem = only_problem(&with_receivers("exporters:\n  otlphttp: {}\n"));
    assert!(problem.contains("did you mean \"otlp_http\"?"), "{problem}");
    let problem = only_problem("receivers:\n  fastly:\n  fastley/www:\n");
    assert!(problem.contains("receivers.fastley/www: unknown receiver; "), "{problem}");
}

#[test]
fn every_problem_is_reported_and_not_only_the_first() {
    let problems = problems(
        "server:\n  endpoint: nowhere\n  max_line_size: 1M\nreceivers:\n  fastly:\n    repair: yes\n  circleci:\n\
         queue:\n  sync: sometimes\nexporters:\n  otlp_http:\n    timeout: 10\n    endpoint: collector:4318\n",
    );
    let places: Vec<&str> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    let lines = [2, 3, 6, 7, 9, 12, 13].map(|line| format!("config.yaml:{line}"));
    assert_eq!(places, lines, "{problems:#?}");
}

#[test]
fn a_problem_says_what_is_allowed() {
    let cases = [
        ("queue: {sync: sometimes}", "\"sometimes\" is not one of always, interval, never"),
        ("queue: {max_size: 1G}", "\"1G\" is not a size; write it like 64KiB"),
        ("queue: {max_size: 0}", "\"0\" is out of range: it must be from 1"),
        ("exporters: {otlp_http: {timeout: 10}}", "\"10\" is not a duration; write it like 500ms"),
        ("exporters: {otlp_http: {timeout: 0s}}", "must be more than 0s"),
        ("exporters: {otlp_http: {timeout: 9000h}}", "must be at most 8760h"),
        ("exporters: {otlp_http: {max_in_flight: 0}}", "must be from 1 to"),
        ("exporters: {otlp_http: {retry_on_failure: {multiplier: 0.5}}}", "must be from 1 to 100"),
        ("exporters: {otlp_http: {retry_on_failure: {randomization_factor: .nan}}}", "is not a number"),
        ("exporters: {otlp_http: {retry_on_failure: {randomization_factor: 1.1}}}", "must be from 0 to 1"),
        ("exporters: {otlp_http: {retry_on_failure: {max_interval: 1ms}}}", "at least initial_interval"),
        ("exporters: {otlp_http: {permanent_status_codes: 400}}", "write it in [ ]"),
        ("exporters: {otlp_http: {permanent_status_codes: [200]}}", "must be from 400 to 599"),
        ("exporters: {otlp_http: {permanent_status_codes: [600]}}", "must be from 400 to 599"),
        ("exporters: {otlp_http: {permanent_status_codes: [bad]}}", "is not an HTTP status code"),
        ("exporters: {otlp_http: {permanent_status_codes: [400, 503]}}", "503 cannot be permanent"),
        (
            "exporters: {otlp_http: {permanent_status_codes: [429]}}",
            "defines 429, 502, 503 and 504 as retryable",
        ),
        ("exporters: {otlp_http: {endpoint: \"collector:4318\"}}", "has no scheme; write http://"),
        ("exporters: {otlp_http: {endpoint: \"http://h/?a=b\"}}", "has a query"),
        ("exporters: {otlp_http: {tls: {cert_file: a}}}", "belong together"),
        ("exporters: {otlp_http: {headers: {content-type: a}}}", "sets this header itself"),
        ("exporters: {otlp_http: {headers: {X-A: a, x-a: b}}}", "duplicate header"),
        ("exporters: {otlp_http: {headers: [a]}}", "expected a mapping, found a list"),
        ("processors: {span_events: {keep_logs: yes}}", "\"yes\" is not true or false; write true"),
        ("processors: {span_events: {keep_logs: Off}}", "write false"),
        ("processors: {span_events: {wait: [1s]}}", "expected a duration"),
        ("server: {endpoint: \":3000\"}", "is not an IP address and a port; write it like"),
        ("server: {max_line_size: 200MiB}", "at most server.max_request_body_size"),
        ("server: {max_request_body_size: 200MiB}", "at least twice server.max_request_body_size"),
        ("server: {max_inflight_bytes: 199MiB}", "at least twice server.max_request_body_size"),
        ("processors: {memory_limiter: {limit_mib: 512}}", "bounded, by server.max_inflight_bytes"),
        ("processors: {batch: }", "exporters.otlp_http.delivery: batch"),
        ("exporters: {otlp_http: {sending_queue: {queue_size: 1000}}}", "write queue, with max_size"),
        ("service: {pipelines: }", "every receiver exports to the exporter"),
        ("extensions: {health_check: }", "on telemetry.endpoint"),
        ("server: {max_connections: 0}", "auto, or from 1 to"),
        ("server: {max_connections: many}", "is not auto or a whole number"),
        ("server: {tls: }", "needs cert_file"),
        ("server: {tls: {cert_file: a}}", "needs cert_file and key_file"),
        ("server: {tls: {key_file: a, client_ca_file: b}}", "needs cert_file and key_file"),
        ("server: 3", "expected a mapping, found a scalar"),
        ("telemetry: {endpoint: \"0.0.0.0:3000\"}", "the same address as server.endpoint"),
        ("telemetry: {logs: {level: loud}}", "one of error, warn, info, debug, trace"),
    ];
    for (yaml, expected) in cases {
        let problem = only_problem(&with_receivers(yaml));
        assert!(problem.contains(expected), "{yaml}: {problem}");
        assert!(problem.starts_with("config.yaml:2: "), "{problem}");
    }
}

#[test]
fn problems_of_receivers_are_explained() {
    let cases = [
        ("otlp: {protocols: {http: {endpoint: \"0.0.0.0:4318\"}}}", "write `otlp: {}`"),
        ("otlp: {endpoint: \"0.0.0.0:4318\"}", "write server.endpoint"),
        ("fastly: {path: fastly}", "must begin with /"),
        ("fastly: {path: \"/a?b\"}", "is not a path"),
        ("fastly: {path: \"/a b\"}", "is not a path"),
        ("fastly: {service_ids: []}", "challenge would fail"),
        ("fastly: {service_ids: x}", "write it in [ ]"),
        ("fastly: {service_ids: [\"a b\"]}", "is not a service id"),
        ("fastly: {access_logs: {map: {a: x, b: x}}}", "x is the field of a and of b"),
        ("fastly: {auth: }", "needs at least one allowed header value"),
        ("fastly: {auth: {header: authorization}}", "needs at least one allowed header value"),
        ("fastly: {auth: {values: []}}", "needs at least one allowed header value"),
        ("fastly: {auth: {values: [\"\"]}}", "is empty"),
        ("fastly: {auth: {values: [\"x\\n\"]}}", "invalid header value"),
        ("fastly: {auth: {header: \"a b\", values: [x]}}", "is not a valid header name"),
        ("fastly: {rate_limit: }", "needs requests_per_second"),
        ("fastly: {rate_limit: {burst: 3}}", "needs requests_per_second"),
        ("fastly: {rate_limit: {requests_per_second: 0}}", "must be from 0.0003 to"),
        ("fastly: {rate_limit: {requests_per_second: 1, burst: 0}}", "must be from 1 to"),
        ("fastly/: {}", "must consist of letters, digits, - and _"),
        ("fastly/a.b: {}", "must consist of letters, digits, - and _"),
        ("circleci: ", "set allow_unsigned: true"),
        ("circleci: {secrets: }", "set allow_unsigned: true"),
        ("circleci: {secrets: []}", "set allow_unsigned: true"),
        ("circleci: {secrets: [\"\"]}", "is empty"),
        ("circleci: {secrets: [~]}", "found nothing"),
        ("circleci: {secrets: [\"${env:ABSENT:-}\"]}", "is empty"),
        ("circleci: {secret: x, allow_unsigned: true}", "did you mean \"secrets\"?"),
        ("circleci: {secrets: [x], service_name: \"\"}", "is empty"),
    ];
    for (receiver, expected) in cases {
        let problem = only_problem(&format!("receivers: {{{receiver}}}\n"));
        assert!(problem.contains(expected), "{receiver}: {problem}");
    }
}

#[test]
fn paths_of_the_relay_itself_are_reserved() {
    for path in ["/", "/.well-known/x", "/traceparent/a/b", "/v1/traces", "/v1"] {
        let problem = only_problem(&format!("receivers: {{fastly: {{path: {path}}}}}\n"));
        assert!(problem.contains("is reserved for the relay itself"), "{problem}");
    }
    config("receivers: {fastly: {path: /v1x}}\n");
}

#[test]
fn two_receivers_on_one_path_are_a_problem_that_names_both() {
    let problem =
        only_problem("receivers:\n  fastly:\n  circleci/app:\n    allow_unsigned: true\n    path: /fastly\n");
    let expected = "config.yaml:5: receivers.circleci/app.path: receivers.fastly already uses /fastly; each receiver needs its own path";
    assert_eq!(problem, expected);
    let slash =
        only_problem("receivers: {fastly: {path: /a}, circleci: {path: /a/, allow_unsigned: true}}\n");
    assert!(slash.contains("receivers.fastly already uses /a/"), "{slash}");
}

#[test]
fn a_base_that_cannot_be_joined_is_reported_whichever_signals_need_it() {
    for own in [
        "",
        ", traces_endpoint: 'http://h/p'",
        ", traces_endpoint: 'http://h/p', logs_endpoint: 'http://h/p'",
    ] {
        let yaml = format!(
            "receivers: {{fastly: }}\nexporters: {{otlp_http: {{endpoint: 'http://h/?a=b'{own}}}}}\n"
        );
        let problem = only_problem(&yaml);
        assert!(problem.contains("exporters.otlp_http.endpoint"), "{problem}");
    }
}

#[test]
fn named_instances_have_their_own_path_and_keep_the_order_of_the_file() {
    let config = config(
        "receivers:\n  fastly/www: {service_ids: [abc]}\n  fastly:\n  circleci/app: {secrets: [a, b]}\n",
    );
    let paths: Vec<&str> =
        config.receivers.all::<FastlyConfig>().iter().map(|fastly| fastly.endpoint.path.as_str()).collect();
    assert_eq!(paths, ["/fastly/www", "/fastly"]);
    assert_eq!(config.receivers.all::<FastlyConfig>()[0].service_ids, ["abc"]);
    assert_eq!(config.receivers.all::<CircleCiConfig>()[0].endpoint.id, "circleci/app");
    assert_eq!(config.receivers.all::<CircleCiConfig>()[0].secrets, [Secret::new("a"), Secret::new("b")]);
}

#[test]
fn otlp_is_one_receiver_without_a_path_of_its_own() {
    assert_eq!(
        config("receivers: {fastly: }\n").receivers.all::<OtlpConfig>(),
        Vec::<&OtlpConfig>::new(),
        "disabled, like any receiver that is not configured"
    );
    assert_eq!(config("receivers: {otlp: }\n").receivers.all::<OtlpConfig>(), [&OtlpConfig::default()]);
    let config = config("receivers: {otlp: {auth: {header: x-key, values: [a, b]}}}\n");
    assert_eq!(
        config.receivers.all::<OtlpConfig>()[0].auth.clone().unwrap(),
        AuthConfig { header: "x-key".parse().unwrap(), values: vec![Secret::new("a"), Secret::new("b")] }
    );

    assert!(
        only_problem("receivers: {otlp: , otlp/b: }\n").contains("receivers.otlp/b: named instances are not")
    );
    assert!(only_problem("receivers: {otlp: {path: /x}}\n").contains("allowed here: auth"));
    assert!(
        only_problem("receivers: {otlp: {auth: }}\n")
            .contains("receivers.otlp.auth.values: needs at least one")
    );
    assert!(only_problem("receivers: {oltp: }\n").contains("did you mean \"otlp\"?"));
}

#[test]
fn a_configuration_without_receivers_is_a_problem() {
    for yaml in ["server: {}\n", "receivers:\n", "receivers: {}\n"] {
        assert!(only_problem(yaml).contains("no receiver is enabled"), "{yaml}");
    }
    assert!(only_problem("").contains("config.yaml: is empty"));
    assert!(only_problem("- a\n").contains("expected a mapping, found a list"));
}

#[test]
fn a_variable_can_be_a_number_or_a_part_of_a_value() {
    let config = config(&with_receivers(
        "server: {endpoint: \"127.0.0.1:${env:PORT}\", max_concurrent_requests: \"${env:PORT}\"}\n",
    ));
    assert_eq!(config.server.endpoint.port(), 4000);
    assert_eq!(config.server.max_concurrent_requests, 4000);
}

#[test]
fn tls_and_rate_limits_are_off_by_default_and_the_default_burst_is_one_second() {
    let off = config("receivers: {fastly: , circleci: {secrets: [a]}}\n");
    assert_eq!(off.server.tls, None);
    assert_eq!(
        (
            off.receivers.all::<FastlyConfig>()[0].endpoint.rate_limit,
            off.receivers.all::<CircleCiConfig>()[0].endpoint.rate_limit
        ),
        (None, None)
    );
    let on = config(
        "receivers:\n  fastly: {rate_limit: {requests_per_second: 2.5}}\n  \
         circleci: {secrets: [a], rate_limit: {requests_per_second: 2, burst: 9}}\n\
         server: {tls: {cert_file: c, key_file: k}}\n",
    );
    let limit = |requests_per_second, burst| Some(RateLimitConfig { requests_per_second, burst });
    assert_eq!(on.receivers.all::<FastlyConfig>()[0].endpoint.rate_limit, limit(2.5, 3));
    assert_eq!(on.receivers.all::<CircleCiConfig>()[0].endpoint.rate_limit, limit(2.0, 9));
    let files = TlsServerConfig { cert_file: "c".into(), key_file: "k".into(), client_ca_file: None };
    assert_eq!(on.server.tls, Some(files));
}

#[test]
fn an_unset_variable_is_a_problem_with_its_line_and_no_second_problem_follows() {
    let problem = only_problem("receivers:\n  circleci:\n    secrets:\n    - ${env:ABSENT}\n");
    assert!(
        problem.starts_with(
            "config.yaml:4: receivers.circleci.secrets[0]: environment variable ABSENT is not set"
        ),
        "{problem}"
    );
}

#[test]
fn values_that_may_be_secrets_are_never_repeated() {
    let cases = [
        "receivers: {fastly: {auth: hunter2}}",
        "receivers: {fastly: {auth: {values: hunter2}}}",
        "receivers: {fastly: {auth: {values: [\"hunter2\\n\"]}}}",
        "receivers: {otlp: {auth: {values: [{hunter2: }]}}}",
        "receivers: {circleci: {secrets: hunter2}}",
        "receivers: {circleci: {secrets: {hunter2: }}}",
        "receivers: {circleci: {secrets: [\"${env:hunter2 }\"]}}",
        "receivers: {circleci: {secrets: [\"a${hunter2 b}\"]}}",
        "receivers: {circleci: hunter2}",
        "receivers: {fastly: }\nexporters: {otlp_http: {headers: {a: \"hunter2\\n\"}}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {headers: {\"a: hunter2\": }}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {headers: hunter2}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {endpoint: \"grpc://user:hunter2@host\"}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {timeout: \"${env:CIRCLECI_HOOK_SECRET}\"}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {timeout: \"hunter2",
    ];
    for yaml in cases {
        let problems = problems(yaml).join("\n");
        assert!(!problems.contains("hunter2"), "{yaml}: {problems}");
    }
}

#[test]
fn debugging_a_configuration_shows_no_secrets() {
    let config = config(
        "receivers: {circleci: {secrets: [hunter2]}, fastly: {auth: {values: [hunter2]}}}\n\
         exporters: {otlp_http: {endpoint: \"http://user:hunter2@host\", headers: {x-key: hunter2}}}\n",
    );
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn a_user_in_an_endpoint_becomes_a_header_unless_one_is_configured() {
    let with_user = config(&with_receivers("exporters: {otlp_http: {endpoint: \"https://u:p@h/otlp/\"}}\n"))
        .exporters
        .otlp_http;
    let traces = with_user.of(Signal::Traces);
    assert_eq!(*traces.endpoint, "https://h/otlp/v1/traces");
    assert_eq!(traces.headers[AUTHORIZATION], "Basic dTpw");
    let written_out = config(&with_receivers(
        "exporters: {otlp_http: {endpoint: \"https://u:p@h\", headers: {Authorization: Bearer x}}}\n",
    ))
    .exporters
    .otlp_http;
    assert_eq!(written_out.of(Signal::Logs).headers[AUTHORIZATION], "Bearer x");
}

#[test]
fn header_values_are_marked_sensitive() {
    let exporter =
        config(&with_receivers("exporters: {otlp_http: {headers: {x-key: v}}}\n")).exporters.otlp_http;
    assert!(exporter.settings.headers.values().all(HeaderValue::is_sensitive));
}

#[test]
fn settings_of_one_signal_override_the_common_ones() {
    let exporter = config(&with_receivers(
        "exporters:\n  otlp_http:\n    timeout: 3s\n    compression: gzip\n    headers: {a: all, b: all}\n    \
         tls: {ca_file: all.pem}\n    logs_endpoint: http://logs/ingest\n    \
         logs: {timeout: 1s, encoding: protobuf, headers: {b: logs}, tls: {cert_file: c, key_file: k}}\n",
    ))
    .exporters
    .otlp_http;
    let logs = exporter.of(Signal::Logs);
    assert_eq!(*logs.endpoint, "http://logs/ingest");
    assert_eq!(
        (logs.timeout, logs.encoding, logs.compression),
        (Duration::from_secs(1), Encoding::Protobuf, Compression::Gzip)
    );
    assert_eq!(
        (&logs.headers["a"], &logs.headers["b"]),
        (&HeaderValue::from_static("all"), &HeaderValue::from_static("logs"))
    );
    assert_eq!(logs.tls.ca_file, Some(PathBuf::from("all.pem")));
    assert_eq!(logs.tls.key_file, Some(PathBuf::from("k")));
    let traces = exporter.of(Signal::Traces);
    assert_eq!((traces.timeout, traces.encoding), (Duration::from_secs(3), Encoding::Json));
    assert_eq!(traces.headers["b"], "all");
}

#[test]
fn likely_mistakes_that_are_valid_are_notes() {
    for (yaml, expected) in [
        ("receivers: {circleci: {secrets: [a], allow_unsigned: true}}\n", "allow_unsigned is true"),
        ("receivers: {circleci: {secrets: [\"a\\n\"]}}\n", "whitespace"),
        (
            "receivers: {circleci: {secrets: [a]}}\nserver: {request_timeout: 10s}\n",
            "CircleCI's timeout of 10s",
        ),
        ("receivers: {fastly: }\nqueue: {max_size: 1MiB}\n", "never fit"),
        (
            "receivers: {fastly: }\nexporters: {otlp_http: {endpoint: \"http://h:4317\"}}\n",
            "the default of OTLP/gRPC",
        ),
        (
            "receivers: {fastly: }\nexporters: {otlp_http: {endpoint: \"http://h/v1/traces\"}}\n",
            "appended once more",
        ),
    ] {
        assert!(notes(yaml).contains(expected), "{yaml}: {}", notes(yaml));
    }
    assert_eq!(notes(EXAMPLE), "");
}
