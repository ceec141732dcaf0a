//! The commands as processes: their output and their exit codes.

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::harness::{
    Answer, Collector, Ended, House, TRACE, log, request_of, skipped, span, span_with, spanrelay,
};

/// Prints what bash would offer for the words of `$2` after sourcing the script `$1`.
const COMPLETE: &str = r#"
    source "$1"
    COMP_WORDS=($2)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _spanrelay spanrelay "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[@]}""#;

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

async fn run(arguments: &[&str]) -> Ended {
    Ended::of(&mut spanrelay(arguments)).await
}

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[tokio::test]
async fn every_command_has_help_and_an_unknown_flag_exits_with_2() {
    for command in ["run", "validate", "check", "traceparent", "demo"] {
        let ended = run(&[command, "--help"]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{command}");
        assert!(ended.out.contains("Usage"), "{command}: {}", ended.out);
        let ended = run(&[command, "--frobnicate"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{command}");
        assert!(ended.err.contains("--frobnicate"), "{command}: {}", ended.err);
    }
    let ended = run(&["--set", "queue.storage=memory", "validate"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("put --config and --set after the subcommand"), "{}", ended.err);
    let ended = run(&["--version"]).await;
    assert_eq!((ended.code, ended.out), (Some(0), format!("spanrelay {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn traceparent_prints_the_line_of_the_route_or_nothing() {
    let ended = run(&["traceparent", WORKFLOW, JOB]).await;
    let line = "export TRACEPARENT=00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01\n";
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), line, ""));
    for job in ["x;id", "00000000-0000-0000-0000-000000000000", WORKFLOW] {
        let ended = run(&["traceparent", WORKFLOW, job]).await;
        assert_ne!(ended.code, Some(0), "{job}");
        assert_eq!(ended.out, "", "a shell executes it");
    }
}

#[tokio::test]
async fn validate_exits_with_0_or_with_1_and_every_problem() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/spanrelay.example.yaml");
    let mut command = spanrelay(&["validate", "--config", example.to_str().unwrap()]);
    command.env("CIRCLECI_HOOK_SECRET", "x").env("GITHUB_WEBHOOK_SECRET", "x");
    let ended = Ended::of(&mut command).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);

    let wrong =
        file(b"receivers:\n  fastly:\n    repair: perhaps\n    colour: red\nqueu:\n  max_size: 1MiB\n");
    let ended = run(&["validate", "--config", path(&wrong)]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    for word in ["receivers.fastly.repair", "true", "receivers.fastly.colour", "queu", "\"queue\""] {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    assert_eq!(ended.err.lines().count(), 3, "{}", ended.err);
}

#[tokio::test]
async fn validate_notes_likely_mistakes_and_can_deny_them() {
    let small = file(b"receivers: { fastly: }\nqueue: { max_size: 1MiB }\n");
    let noted = run(&["validate", "--config", path(&small)]).await;
    assert_eq!(noted.code, Some(0), "{}", noted.err);
    let denied = run(&["validate", "--deny-warnings", "--config", path(&small)]).await;
    assert_eq!((denied.code, denied.out.as_str()), (Some(1), ""));
    for ended in [noted, denied] {
        assert!(ended.err.starts_with("note: queue: max_size is smaller"), "{}", ended.err);
    }
    let clean = file(b"receivers: { fastly: }\n");
    let ended = run(&["validate", "--deny-warnings", "--config", path(&clean)]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[tokio::test]
async fn validate_writes_json_for_programs() {
    let wrong = file(b"receivers:\n  fastly:\n    repair: perhaps\nqueue: { max_size: 1MiB }\n");
    let ended = run(&["validate", "--format", "json", "--config", path(&wrong), "--set", "x=1"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&report["valid"], report["problems"].as_array().unwrap().len()), (&false.into(), 2));
    let first = &report["problems"][0];
    assert_eq!((&first["source"], &first["line"]), (&path(&wrong).into(), &3.into()));
    assert_eq!(first["key"], "receivers.fastly.repair");
    assert_eq!(report["problems"][1]["source"], "--set");

    let small = file(b"receivers: { fastly: }\nqueue: { max_size: 1MiB }\n");
    for (arguments, code) in [(&[] as &[&str], 0), (&["--deny-warnings"], 1)] {
        let all = [&["validate", "--format=json", "--config", path(&small)], arguments].concat();
        let ended = run(&all).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((&report["valid"], report["notes"].as_array().unwrap().len()), (&(code == 0).into(), 1));
    }
}

#[tokio::test]
async fn validate_connect_sends_an_empty_request_and_says_what_is_wrong() {
    let connect = async |endpoint: &str, more: &[&str]| {
        let set = format!("exporters.otlp_http.endpoint={endpoint}");
        run(&[&["validate", "--connect", "--set", &set], more].concat()).await
    };
    let collector = Collector::start([]).await;
    let ended = connect(&collector.url(), &[]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
    let sent = collector.take(3).await;
    let paths: std::collections::BTreeSet<_> = sent.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/logs", "/v1/metrics", "/v1/traces"].into());
    assert!(sent.iter().all(|request| request.text() == "{}"), "{sent:?}");
    collector.finish();

    let collector = Collector::judging(|_| Answer::status(401)).await;
    let ended = connect(&collector.url(), &[]).await;
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 3), "{}", ended.err);
    assert!(ended.err.contains("traces: downstream returned 401"), "{}", ended.err);
    assert!(ended.err.contains("set exporters.otlp_http.headers"), "{}", ended.err);
    collector.take(3).await;
    collector.finish();

    // A backend of traces alone: the other signals are noted.
    let collector =
        Collector::judging(|request| Answer::status(if request.path == "/v1/traces" { 200 } else { 404 }));
    let collector = collector.await;
    let ended = connect(&collector.url(), &[]).await;
    assert_eq!((ended.code, ended.err.lines().count()), (Some(0), 2), "{}", ended.err);
    assert!(ended.err.lines().all(|line| line.starts_with("note: exporters.otlp_http: ")), "{}", ended.err);
    let denied = connect(&collector.url(), &["--deny-warnings"]).await;
    assert_eq!(denied.code, Some(1));
    collector.take(6).await;
    collector.finish();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for endpoint in [nobody.as_str(), "http://no-such-host.invalid:4318"] {
        let ended = connect(endpoint, &[]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.out);
        let host = endpoint.trim_start_matches("http://");
        assert!(ended.err.contains(host), "{}", ended.err);
    }
}

#[tokio::test]
async fn several_files_are_merged_and_a_set_replaces_an_unset_variable() {
    let common = file(b"receivers: { fastly: { path: '/${env:ABSENT}' } }\nqueue: { max_size: 2GiB }\n");
    let own = file(b"queue: { max_size: 3GiB }\n");
    let files = ["validate", "--print", "-c", path(&common), "-c", path(&own)];
    let ended = run(&[&files[..], &["--set", "receivers.fastly.path=/here"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("max_size: 3GiB") && ended.out.contains("\"/here\""), "{}", ended.out);
    let ended = run(&files).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("ABSENT is not set"), "{}", ended.err);
}

#[tokio::test]
async fn a_queue_directory_that_is_a_file_is_named_as_one() {
    let taken = file(b"x");
    let directory = format!("queue.directory={}", path(&taken));
    let ended = run(&[
        "--set",
        &directory,
        "--set",
        "server.endpoint=127.0.0.1:0",
        "--set",
        "telemetry.endpoint=127.0.0.1:0",
    ])
    .await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("is a file; name a directory"), "{}", ended.err);
}

#[tokio::test]
async fn validate_also_reads_the_certificate_files() {
    let missing = file(
        b"receivers: { fastly: }
server: { tls: { cert_file: /nowhere/cert.pem, key_file: /nowhere/key.pem } }
exporters: { otlp_http: { endpoint: 'https://localhost:1', tls: { ca_file: /nowhere/ca.pem } } }
",
    );
    let ended = run(&["validate", "--config", path(&missing)]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
    for word in
        ["server.tls.cert_file: /nowhere/cert.pem", "exporters.otlp_http", "tls.ca_file: /nowhere/ca.pem"]
    {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    assert_eq!(ended.err.lines().count(), 2, "{}", ended.err);
}

#[tokio::test]
async fn the_printed_configuration_is_complete_valid_and_without_secrets() {
    let mut command =
        spanrelay(&["validate", "--print", "--set", "receivers.fastly.auth={values: [canary]}"]);
    command.env("CIRCLECI_HOOK_SECRET", "canary").env("CIRCLECI_OTLP_X_KEY", "canary");
    let ended = Ended::of(&mut command).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.out.contains("canary") && !ended.err.contains("canary"), "{}", ended.out);
    for section in ["server:", "receivers:", "processors:", "queue:", "exporters:", "telemetry:"] {
        assert!(ended.out.contains(section), "{section}");
    }
    let printed = file(ended.out.as_bytes());
    let again = run(&["validate", "--config", path(&printed)]).await;
    assert_eq!(again.code, Some(0), "{}", again.err);
}

#[tokio::test]
async fn the_schema_describes_the_keys_of_each_receiver() {
    let ended = run(&["schema"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let receivers = &schema["$defs"]["ReceiversConfig"];
    assert!(receivers["patternProperties"]["^fastly/[A-Za-z0-9_-]+$"].is_object(), "{receivers}");
    assert_eq!(receivers["additionalProperties"], false);
}

#[tokio::test]
async fn the_completions_of_bash_offer_the_commands_and_their_options() {
    let ended = run(&["completions", "bash"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let script = file(ended.out.as_bytes());
    for (words, expected) in [
        ("spanrelay val", "validate"),
        ("spanrelay check --f", "--from --format"),
        ("spanrelay check --from c", "circleci"),
        ("spanrelay --ver", "--version"),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-c", COMPLETE, "complete", path(&script), words]);
        if bash.output().await.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return skipped("the_completions_of_bash", "bash", "SPANRELAY_REQUIRE_BASH");
        }
        assert_eq!(Ended::of(&mut bash).await.out.trim(), expected, "{words}");
    }
}

#[tokio::test]
async fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(&["completions", shell]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{shell}");
        assert!(ended.out.contains("traceparent"), "{shell}: {}", ended.out);
    }
}

#[tokio::test]
async fn check_reports_the_outcome_of_every_line() {
    let batch = request_of(&[
        span(1, "fine"),
        log(1, "event"),
        span_with(TRACE, 2, "\"name\":\"repaired\","),
        "plain text".into(),
    ]);
    let input = file(batch.as_bytes());
    let ended = run(&["check", path(&input)]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    for word in [
        "line 3: repaired: removed a trailing comma",
        "line 4, column 1: rejected: not a JSON object",
        "fine",
        "event",
        "repaired",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }

    let ended =
        Ended::with_input(&mut spanrelay(&["check", "--format", "json", "-"]), batch.as_bytes()).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let outcomes: Vec<&str> =
        document["lines"].as_array().unwrap().iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["accepted", "accepted", "repaired", "rejected"]);
    assert_eq!(document["requests"].as_array().unwrap().len(), 2);
    assert_eq!(document["lines"][3]["column"], 1);
}

#[tokio::test]
async fn check_exits_with_0_when_all_is_accepted_and_with_2_when_nothing_can_be_read() {
    let good = file(span(1, "fine").as_bytes());
    assert_eq!(run(&["check", path(&good)]).await.code, Some(0));
    let webhook = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/circleci/ping/request.json");
    let ended = run(&["check", "--from", "circleci", webhook.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("92e0554a837f4086913b0dc7665d2a84"), "{}", ended.out);
    let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/github/workflow-job/request.json");
    for arguments in [&["check", "--from", "github"][..], &["check"]] {
        let ended = run(&[arguments, &[job.to_str().unwrap()]].concat()).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(ended.out.contains("a1df8684f776584794a3bb0ee4858e91"), "{}", ended.out);
    }
    let ended = run(&["check", "/nowhere/at/all"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("/nowhere/at/all"), "{}", ended.err);
    assert_eq!(run(&["check", "--from", "nobody", path(&good)]).await.code, Some(2));
}

#[tokio::test]
async fn demo_shows_a_fastly_request_and_a_circleci_workflow_in_a_narrow_terminal_without_colour() {
    for columns in [40, 100] {
        let mut command = spanrelay(&["demo"]);
        let ended = Ended::of(command.env("COLUMNS", columns.to_string()).env("NO_COLOR", "1")).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(!ended.out.contains('\u{1b}'), "no colours were asked for");
        // Commands are never wrapped; waterfalls always fit.
        let mut bars = ended.out.lines().filter(|line| line.contains('█'));
        assert!(bars.all(|line| line.chars().count() <= columns), "{columns} columns: {}", ended.out);
        assert!(ended.out.contains('█'));
        for word in ["edge", "shield", "workflow", "browser-tests", "204"] {
            assert!(ended.out.contains(word), "{columns} columns, {word}: {}", ended.out);
        }
    }
}

#[tokio::test]
async fn demo_needs_no_temporary_directory_and_leaves_nothing_in_the_current_one() {
    let current = tempfile::tempdir().unwrap();
    let mut demo = spanrelay(&["demo"]);
    let ended = Ended::of(demo.env("TMPDIR", "/nonexistent").current_dir(current.path())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("\ntrace "), "{}", ended.out);
    assert_eq!(std::fs::read_dir(current.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn health_exits_with_0_while_the_relay_is_ready_else_with_1_and_the_reason() {
    let house = House::open("").await;
    let telemetry = format!("telemetry.endpoint={}", house.relay.telemetry);
    let healthy = run(&["--health", "--set", &telemetry]).await;
    assert_eq!((healthy.code, healthy.out.as_str(), healthy.err.as_str()), (Some(0), "", ""));
    house.close().await;
    let gone = run(&["--health", "--set", &telemetry]).await;
    assert_eq!((gone.code, gone.out.as_str()), (Some(1), ""));
    assert!(gone.err.contains("is the relay running there?"), "{}", gone.err);
    let unusable = run(&["--health", "--set", "telemetry.endpont=x"]).await;
    assert_eq!(unusable.code, Some(1));
    assert!(unusable.err.contains("telemetry.endpont"), "{}", unusable.err);
}

#[tokio::test]
async fn check_handles_megabytes_of_one_trace_with_log_events_and_rejected_lines() {
    // Enough lines for quadratic work to exceed the timeout of the test.
    const LINES: u64 = 30_000;
    let (mut body, name) = (String::new(), "x".repeat(700));
    for id in 1..=LINES {
        body += &request_of(&[span(id, &name), log(id, "cache miss"), format!("no line {id}")]);
    }
    assert!(body.len() > 28 << 20, "{}", body.len());
    for format in ["text", "json"] {
        let checked =
            Ended::with_input(&mut spanrelay(&["check", "--format", format]), body.as_bytes()).await;
        assert_eq!(checked.code, Some(1), "{}", checked.err);
        let says = [LINES.to_string(), format!("\"spans\":{LINES},\"span_events\":{LINES}")];
        assert!(checked.out.contains(&says[usize::from(format == "json")]));
    }
}
