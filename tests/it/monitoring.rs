//! Monitoring: the dashboard and the alerts in `config/` use existing metrics, and the dashboard omits none.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{House, skipped};

const DASHBOARD: &str = include_str!("../../config/grafana/spanrelay.json");
const LOGS: &str = include_str!("../../docs/logs.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const RULES: &str = include_str!("../../config/prometheus/spanrelay.rules.yml");
const RULES_TEST: &str = include_str!("../../config/prometheus/spanrelay.rules.test.yml");

/// Suffixes of a histogram's name.
const HISTOGRAM_ENDS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Returns every word in a text that can be one of the relay's metrics, without histogram suffixes.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("spanrelay_") || word.starts_with("otelcol_"))
        .map(|word| HISTOGRAM_ENDS.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned())
        .collect()
}

/// Returns every metric of a relay that has just started.
async fn real_metrics() -> BTreeSet<String> {
    // With a certificate, because there is a metric for each.
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let tls = format!("server.tls: {{cert_file: {}, key_file: {}}}", certificate.display(), key.display());
    let house = House::open(&tls).await;
    let exposition = house.relay.telemetry("/metrics").await.text();
    house.close().await;
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Returns every log line from `info` on in the source: its message, up to the first variable part, and its fields.
fn log_lines() -> Vec<(String, Vec<String>)> {
    let sources = super::tidy::program_text();
    let calls = ["info!(", "warn!(", "error!("].into_iter().flat_map(|call| {
        let is_whole = |at: &usize| !sources.as_bytes()[at - 1].is_ascii_alphanumeric();
        let begins = sources.match_indices(call).map(|(at, _)| at).filter(is_whole);
        begins.map(|at| arguments(&sources[at + call.len()..])).collect::<Vec<_>>()
    });
    calls.map(|arguments| line_of(&arguments)).collect()
}

/// Splits the arguments of a call at its own commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0, false, false);
    for c in text.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        arguments.last_mut().unwrap().push(c);
    }
    arguments
        .iter()
        .map(|argument| argument.trim().to_owned())
        .filter(|argument| !argument.is_empty())
        .collect()
}

fn line_of(arguments: &[String]) -> (String, Vec<String>) {
    let message = arguments.iter().position(|argument| argument.starts_with('"')).expect("a message");
    let text = arguments[message].trim_matches('"');
    let field = |argument: &String| {
        let name = argument.split('=').next().unwrap().trim();
        name.trim_start_matches(['%', '?']).to_owned()
    };
    let fields = arguments[..message].iter().filter(|argument| !argument.starts_with("parent:")).map(field);
    (text.split('{').next().unwrap().trim().to_owned(), fields.collect())
}

#[test]
fn the_reference_names_every_log_message_and_every_field_of_it() {
    let lines = log_lines();
    assert!(lines.len() > 50, "only {} lines found", lines.len());
    let mut missing = BTreeSet::new();
    for (message, fields) in &lines {
        // The end of a long message can be omitted.
        let named = LOGS.split('`').any(|named| {
            let begin = named.split('…').next().unwrap().trim();
            begin.len() > 3 && (message == begin || (named.contains('…') && message.starts_with(begin)))
        });
        // The messages of risks are self-explanatory.
        if !named && !message.is_empty() {
            missing.insert(message.clone());
        }
        missing.extend(fields.iter().filter(|field| !LOGS.contains(&format!("`{field}`"))).cloned());
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[tokio::test]
async fn the_reference_names_every_metric() {
    let named = |metric: &&String| {
        let of_signal = ["_log_records", "_metric_points"].iter().find(|end| metric.ends_with(**end));
        METRICS.contains(&format!("`{metric}`"))
            || of_signal.is_some_and(|end| METRICS.contains(&format!("`…{end}`")))
    };
    let real = real_metrics().await;
    let missing: Vec<_> = real.iter().filter(|metric| !named(metric)).collect();
    assert!(missing.is_empty(), "{missing:?}");
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
                // Debian has it in the package prometheus.
                return skipped("the_alerts_fire_when_they_should", "promtool", "SPANRELAY_REQUIRE_PROMTOOL");
            }
            Err(error) => panic!("promtool: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
