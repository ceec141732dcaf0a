//! The files of `config/deploy` and other examples: the relay accepts them, and they are consistent.

use std::fs;
use std::path::Path;

use saphyr_parser::{Event, Parser};

use super::harness::{Ended, spanrelay};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns every scalar of a valid YAML file.
fn scalars(path: &str) -> Vec<String> {
    let text = file(path);
    let events = Parser::new_from_str(&text);
    let scalar = |event| match event {
        Event::Scalar(text, ..) => Some(text.into_owned()),
        _ => None,
    };
    events.filter_map(|event| scalar(event.unwrap_or_else(|error| panic!("{path}: {error}")).0)).collect()
}

#[tokio::test]
async fn the_relay_accepts_the_configuration_of_the_examples() {
    let mut validate = spanrelay(&["validate", "--config", "config/deploy/spanrelay.yaml"]);
    validate.current_dir(env!("CARGO_MANIFEST_DIR"));
    let without = Ended::of(&mut validate).await;
    assert_eq!(without.code, Some(1), "secrets have no default");
    for secret in ["FASTLY_TOKEN", "CIRCLECI_HOOK_SECRET", "OTLP_TOKEN"] {
        assert!(without.err.contains(secret), "{}", without.err);
        validate.env(secret, "a-secret");
    }
    let with = Ended::of(&mut validate).await;
    assert_eq!((with.code, with.err.as_str()), (Some(0), ""), "{}", with.out);
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn the_relay_accepts_the_configuration_of_the_shared_queue_in_each_role() {
    for role in ["front", "worker", "both"] {
        let mut validate = spanrelay(&["validate", "--config", "config/deploy/kafka/spanrelay.yaml"]);
        validate.current_dir(env!("CARGO_MANIFEST_DIR"));
        validate
            .env("SPANRELAY_ROLE", role)
            .env("CIRCLECI_HOOK_SECRET", "a-secret")
            .env("HOSTNAME", "worker-0");
        let ended = Ended::of(&mut validate).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{role}: {}", ended.out);
    }
}

#[tokio::test]
async fn the_configuration_of_the_packages_is_valid_without_secrets_and_listens_on_loopback_only() {
    let mut validate =
        spanrelay(&["validate", "--print", "--config", "config/deploy/packages/spanrelay.yaml"]);
    let printed = Ended::of(validate.current_dir(env!("CARGO_MANIFEST_DIR"))).await;
    assert_eq!(printed.code, Some(0), "{}{}", printed.out, printed.err);
    assert!(printed.out.contains("endpoint: \"127.0.0.1:3000\""), "{}", printed.out);
    assert!(printed.out.contains("directory: \"/var/lib/spanrelay\""), "{}", printed.out);
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = file("config/deploy/helm/Chart.yaml");
    for key in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    }
}

#[test]
fn the_yaml_files_are_valid() {
    for (path, expected) in [
        ("docker-compose.yml", "otel-collector.yaml"),
        ("otel-collector.yaml", "http://jaeger:4318"),
        ("config/deploy/kubernetes.yaml", "/healthz"),
        ("config/deploy/kubernetes-several.yaml", "/readyz"),
        ("config/deploy/kubernetes-monitoring.yaml", "ServiceMonitor"),
        ("config/deploy/kafka/kubernetes.yaml", "/readyz"),
        ("config/deploy/kafka/compose.yaml", "kafka-3"),
        ("config/circleci/config.yml", "spanrelay/connect"),
        ("tests/stack/collector/manifest.yaml", "otelcol"),
    ] {
        let found = scalars(path);
        assert!(found.iter().any(|scalar| scalar.contains(expected)), "{path}: {expected} in {found:?}");
    }
}

/// A full queue must not take the only relay out of the network: senders would lose `Retry-After`, and Fastly's challenge fail.
#[test]
fn single_relays_are_checked_for_health_and_several_for_readiness() {
    for (path, several) in [
        ("config/deploy/kubernetes.yaml", false),
        ("config/deploy/kubernetes-several.yaml", true),
        ("config/deploy/fly.toml", false),
    ] {
        let checks: Vec<String> = file(path)
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        assert_eq!(checks.iter().any(|line| line.contains("/readyz")), several, "{path}");
        assert!(checks.iter().any(|line| line.contains("/healthz")), "{path}");
    }
}

#[test]
fn every_example_sets_the_required_variables_and_leaves_time_to_drain() {
    let configuration = file("config/deploy/spanrelay.yaml");
    assert!(configuration.contains("/var/lib/spanrelay"));
    for path in ["config/deploy/kubernetes.yaml", "config/deploy/fly.toml", "config/deploy/spanrelay.service"]
    {
        let example = file(path);
        for part in
            ["/var/lib/spanrelay", "FASTLY_TOKEN", "CIRCLECI_HOOK_SECRET", "OTLP_TOKEN", "ten seconds"]
        {
            assert!(example.contains(part), "{path} lacks {part}");
        }
    }
    assert!(file("Dockerfile").contains("VOLUME /var/lib/spanrelay"));
}

#[test]
fn the_readme_and_the_fastly_files_use_the_same_endpoint_name() {
    for path in
        ["config/fastly/spanrelay.vcl", "config/fastly/terraform/main.tf", "config/fastly/fastly-cli.sh"]
    {
        assert!(file(path).contains("spanrelay"), "{path}");
    }
    let vcl = file("config/fastly/spanrelay.vcl");
    let logs = vcl.matches("log {\"syslog \"}").count();
    assert_eq!(logs, vcl.matches("{\" spanrelay :: \"}").count(), "every line goes to the endpoint");
    let terraform = file("config/fastly/terraform/main.tf");
    let cli = file("config/fastly/fastly-cli.sh");
    for (block, flag) in [
        ("name = \"spanrelay\"", "--name spanrelay"),
        ("message_type = \"blank\"", "--message-type blank"),
        ("json_format = \"2\"", "--json-format 2"),
        ("placement = \"none\"", "--placement none"),
        ("header_name  = \"Authorization\"", "--header-name Authorization"),
    ] {
        assert!(terraform.contains(block), "{block}");
        assert!(cli.contains(flag), "{flag}");
    }
}
