//! The dashboard and the alerts in `config/` speak of metrics that exist, and leave none out.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::House;

const DASHBOARD: &str = include_str!("../../config/grafana/spanrelay.json");
const RULES: &str = include_str!("../../config/prometheus/spanrelay.rules.yml");
const RULES_TEST: &str = include_str!("../../config/prometheus/spanrelay.rules.test.yml");

/// What a histogram adds to its name.
const HISTOGRAM_ENDS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Every word in a text that can be a metric of ours, without what a histogram adds.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("spanrelay_") || word.starts_with("otelcol_"))
        .map(|word| HISTOGRAM_ENDS.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned())
        .collect()
}

/// Every metric of a relay that has just started.
async fn real_metrics() -> BTreeSet<String> {
    let house = House::open("").await;
    let exposition = house.relay.telemetry("/metrics").await.text();
    house.close().await;
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let shown = metrics_in(&expressions(&dashboard).join("\n"));
    assert_eq!(shown, real_metrics().await);
    assert!(metrics_in(DASHBOARD).is_subset(&shown), "in the variables too");
}

#[tokio::test]
async fn the_alerts_ask_for_metrics_that_exist() {
    let real = real_metrics().await;
    let rules_asked = RULES.lines().filter(|line| !line.trim_start().starts_with('#'));
    let asked = metrics_in(&rules_asked.collect::<Vec<_>>().join("\n"));
    assert!(asked.len() > 8, "{asked:?}");
    for text in [RULES, RULES_TEST] {
        let missing: Vec<_> = metrics_in(text).difference(&real).cloned().collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn every_alert_has_a_test() {
    let alerts: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10);
    for alert in alerts {
        assert!(RULES_TEST.contains(alert), "{alert}");
    }
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/prometheus");
    for arguments in
        [["check", "rules", "spanrelay.rules.yml"], ["test", "rules", "spanrelay.rules.test.yml"]]
    {
        let output = match Command::new("promtool").args(arguments).current_dir(&rules).output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let required = std::env::var_os("SPANRELAY_REQUIRE_PROMTOOL").is_some();
                assert!(!required, "promtool is not installed (Debian: prometheus)");
                // Not the macro, whose words are kept back when a test passes.
                let mut stderr = io::stderr();
                writeln!(stderr, "skipped: the_alerts_fire_when_they_should (promtool is not installed)")
                    .unwrap();
                return;
            }
            Err(error) => panic!("promtool: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
