//! Configuration as users see it: deployments are replaced with their environment unchanged, and an invalid configuration
//! is reported before anything is served. The unit tests of `src/config` cover the single keys.

use std::io::Write;

use spanrelay::RECEIVERS;
use spanrelay::config::{Config, Environment, Sources};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::harness::{
    Answer, Ask, Child, Collector, Ended, House, Relay, eventually, log, names, sign, span, spanrelay,
};

const PING: &str =
    r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;

/// Starts a relay without a file, with these variables; only its addresses differ from the defaults.
async fn deployed(variables: &[(&str, &str)]) -> Relay {
    let sources = Sources {
        files: Vec::new(),
        set: vec![
            "server.endpoint=127.0.0.1:0".into(),
            "telemetry.endpoint=127.0.0.1:0".into(),
            "processors.span_events.wait=0s".into(),
        ],
        environment: variables.iter().copied().collect(),
    };
    Relay::configured(sources).await
}

#[tokio::test]
async fn a_circleci_hook_environment_works_unchanged() {
    let collector = Collector::start([]).await;
    let relay = deployed(&[
        ("PORT", "3000"),
        ("CIRCLECI_HOOK_SECRET", "hunter2"),
        ("CIRCLECI_HOOK_SERVICE", "builds"),
        ("CIRCLECI_OTLP_ENDPOINT", &collector.url()),
        ("CIRCLECI_OTLP_X_HONEYCOMB_TEAM", "team-key"),
    ])
    .await;
    let house = House { relay, collector };
    assert_eq!(house.ask(Ask::post("/", PING).with("circleci-event-type", "ping")).await.status, 401);
    let signed = Ask::post("/", PING).with("circleci-signature", &sign("hunter2", PING.as_bytes()));
    assert_eq!(house.ask(signed).await.status, 204);
    let left = house.left_one().await;
    assert_eq!((left.path.as_str(), left.header("x-honeycomb-team")), ("/v1/traces", "team-key"));
    let service = &left.json()["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(
        (&service["key"], &service["value"]["stringValue"]),
        (&"service.name".into(), &"builds".into())
    );
    house.close().await;
}

#[tokio::test]
async fn a_fastly_example_proxy_environment_works_unchanged() {
    let collector = Collector::start([]).await;
    let url = format!("{}/v1/traces", collector.url());
    let relay = deployed(&[("PORT", "3000"), ("OTEL_HTTP_COLLECTOR_URL", &url)]).await;
    let house = House { relay, collector };
    assert_eq!(house.ask(Ask::get("/.well-known/fastly/logging/challenge")).await.text(), "*\n");
    assert_eq!(house.ask(Ask::post("/", format!("{}\n{}", span(1, "a"), log(1, "event")))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["a: event"]);
    // Reachable from anywhere, without a secret.
    assert_eq!(house.ask(Ask::post("/circleci", PING)).await.status, 404);
    house.close().await;
}

#[tokio::test]
async fn the_opentelemetry_variables_are_supported() {
    let collector = Collector::start([]).await;
    let relay = deployed(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{}/base/", collector.url())),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,x-other=c"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("FASTLY_SERVICE_IDS", "abc def"),
    ])
    .await;
    let house = House { relay, collector };
    house.batch(span(1, "a")).await;
    let left = house.left_one().await;
    assert_eq!(
        (left.path.as_str(), left.header("x-tenant"), left.header("x-other")),
        ("/base/v1/traces", "a b", "c")
    );
    assert_eq!(left.header("content-encoding"), "gzip");
    let challenge = house.ask(Ask::get("/.well-known/fastly/logging/challenge")).await.text();
    assert_eq!(challenge.lines().count(), 2);
    house.close().await;
}

#[tokio::test]
async fn without_configuration_the_relay_accepts_fastly_and_circleci_on_loopback() {
    let collector = Collector::start([]).await;
    let relay = deployed(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]).await;
    let house = House { relay, collector };
    house.batch(span(1, "a")).await;
    assert_eq!(house.ask(Ask::post("/circleci", PING)).await.status, 204);
    assert_eq!(house.left_names(2).await, ["a", "ping"]);
    house.close().await;
}

// --- the process ---

fn file(yaml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn a_typo_exits_with_64_and_the_message_is_enough_to_fix_it() {
    let file = file("receivers:\n  fastly:\n    pathh: /x\nexporters:\n  otlp_http:\n    timeout: soon\n");
    let path = file.path().to_str().unwrap();
    for arguments in [&["run", "--config", path][..], &["--config", path]] {
        let ended = Ended::of(&mut spanrelay(arguments)).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""));
        for word in [
            &format!("{path}:3"),
            "receivers.fastly.pathh",
            "did you mean \"path\"",
            &format!("{path}:6"),
            "\"soon\"",
            "500ms",
        ] {
            assert!(ended.err.contains(word), "{word}: {}", ended.err);
        }
    }
    let ended = Ended::of(spanrelay(&[]).env("SPANRELAY_CONFIG", path)).await;
    assert_eq!(ended.code, Some(64));
}

#[tokio::test]
async fn an_unset_variable_and_a_missing_file_exit_with_64_and_are_named() {
    let file = file("receivers:\n  circleci:\n    secrets: [\"${env:NOT_SET_ANYWHERE}\"]\n");
    let ended = Ended::of(&mut spanrelay(&["--config", file.path().to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(64));
    assert!(ended.err.contains("NOT_SET_ANYWHERE") && ended.err.contains(":3"), "{}", ended.err);
    let ended = Ended::of(&mut spanrelay(&["--config", "/nowhere/at/all.yaml"])).await;
    assert_eq!(ended.code, Some(64));
    assert!(ended.err.contains("/nowhere/at/all.yaml"), "{}", ended.err);
}

#[tokio::test]
async fn a_circleci_receiver_without_a_secret_does_not_start() {
    let file = file("receivers:\n  circleci:\n");
    let ended = Ended::of(&mut spanrelay(&["--config", file.path().to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(64));
    assert!(
        ended.err.contains("receivers.circleci.secrets") && ended.err.contains("allow_unsigned"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn an_address_in_use_exits_with_1_and_names_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let configuration = file(&House::configuration("http://127.0.0.1:9"));
    for key in ["server.endpoint", "telemetry.endpoint"] {
        let setting = format!("{key}={address}");
        let path = configuration.path().to_str().unwrap();
        let ended = Ended::of(&mut spanrelay(&["run", "--config", path, "--set", &setting])).await;
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains(key) && ended.err.contains(&address), "{}", ended.err);
    }
}

#[tokio::test]
async fn without_a_downstream_the_log_names_the_endpoint() {
    let nothing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nothing.local_addr().unwrap();
    drop(nothing);
    let child = Child::start(&House::configuration(&format!("http://{address}")), &[]).await;
    assert_eq!(child.ask(Ask::post("/fastly", span(1, "canary"))).await.status, 204);
    eventually("the log names the address", async || {
        child.log().contains(&format!("{address}: ")).then_some(())
    })
    .await;
    let log = child.log();
    assert!(log.contains("refused") && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn the_log_contains_no_secret_signature_body_or_header() {
    let collector = Collector::start([Answer::status(400)]).await;
    let configuration = House::configuration(&collector.url()).replace("fixture-secret", "canary-secret");
    let arguments = [
        "--set",
        "telemetry.logs.level=trace",
        "--set",
        "receivers.fastly.auth={values: [canary-token]}",
        "--set",
        "exporters.otlp_http.headers={x-key: canary-key}",
    ];
    let mut child = Child::start(&configuration, &arguments).await;
    let batch = || Ask::post("/fastly?canary-query", format!("{}\ncanary line", span(1, "canary-name")));
    assert_eq!(child.ask(batch().with("authorization", "canary-guess")).await.status, 401);
    assert_eq!(child.ask(batch().with("authorization", "canary-token")).await.status, 200);
    collector.take(1).await;
    let wrong = Ask::post("/circleci", "{\"canary\":1}").with("circleci-signature", "v1=ca11a9");
    assert_eq!(child.ask(wrong.with("x-canary", "canary-header")).await.status, 401);
    let body = r#"{"type":"canary-type","id":"canary-id"}"#;
    let signature = sign("canary-secret", body.as_bytes());
    assert_eq!(
        child.ask(Ask::post("/circleci", body).with("circleci-signature", &signature)).await.status,
        202
    );
    child.signal("TERM").await;
    assert_eq!(child.ended().await, Some(0));
    child.logged("drained").await;
    let log = child.log();
    for secret in ["canary", "ca11a9", &signature[3..]] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(log.contains("unauthorized") && log.contains("webhook ignored"), "{log}");
    collector.finish();
}

#[test]
fn a_path_without_a_leading_slash_is_a_problem_and_not_a_panic() {
    let problem =
        Config::from_yaml("receivers:\n  fastly:\n    path: fastly\n", &Environment::empty(), RECEIVERS)
            .unwrap_err();
    let problem = problem.to_string();
    assert!(problem.contains("receivers.fastly.path") && problem.contains("must begin with /"), "{problem}");
}
