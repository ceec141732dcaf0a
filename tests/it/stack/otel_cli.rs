//! otel-cli as a CircleCI job runs it: the two steps of `config/circleci/config.yml`, in the shell that CircleCI uses.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::{Program, kit, program, spans};
use crate::harness::{Ask, Collector, House, Relay, in_time};

pub(super) const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
pub(super) const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
/// Span ids that result from them.
pub(super) const TRACE: &str = "cedf175cc53749f89b5c95892f0b2407";
pub(super) const JOB_SPAN: &str = "3f6a7c4a0bb6463a";
pub(super) const WORKFLOW_SPAN: &str = "cedf175cc53749f8";

/// Returns the webhook about the completed job.
pub(super) fn job_completed() -> String {
    format!(
        r#"{{"type":"job-completed","id":"3888f21b-eaa7-38e3-8f3d-75a63bba8895","happened_at":"2026-09-01T22:49:34.317Z","webhook":{{"id":"cf8c4fdd-0587-4da1-b4ca-4846e9640af9","name":"w"}},"workflow":{{"id":"{WORKFLOW}","name":"build"}},"job":{{"id":"{JOB}","name":"test","number":136,"status":"success","started_at":"2026-09-01T22:49:00.000Z","stopped_at":"2026-09-01T22:49:34.000Z"}}}}"#
    )
}

/// Returns the shell commands of the two steps, as CircleCI passes them to bash.
fn commands() -> [String; 2] {
    let kit = kit("config/circleci/config.yml");
    let line = |start: &str| {
        let line =
            kit.lines().map(str::trim).find(|line| line.trim_start_matches("command: ").starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in the kit")).trim_start_matches("command: ").to_owned()
    };
    let exec = line("otel-cli exec").replace("<< parameters.name >>", "unit tests");
    [format!("{}\n{}", line("curl "), line("source ")), exec]
}

/// Runs both steps against a relay with an OTLP receiver, with the job's `command`; returns the exit codes.
pub(super) async fn run_job(relay: SocketAddr, command: &str) -> [Option<i32>; 2] {
    let bash_env = NamedTempFile::new().unwrap();
    let mut codes = [None, None];
    for (step, code) in commands().iter().zip(&mut codes) {
        let directory = program::path("otel-cli").parent().unwrap().to_owned();
        let mut shell = Command::new("bash");
        shell
            .args(["-eo", "pipefail", "-c", step])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", directory.display()))
            .env("BASH_ENV", bash_env.path())
            .env("SPANRELAY_URL", format!("http://{relay}"))
            .env("CIRCLE_WORKFLOW_ID", WORKFLOW)
            .env("CIRCLE_WORKFLOW_JOB_ID", JOB)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{relay}"))
            .env("SPANRELAY_COMMAND", command)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        *code = in_time("the step ends", shell.status()).await.unwrap().code();
    }
    codes
}

/// Returns the configuration of a relay that accepts the spans of otel-cli.
pub(super) fn configuration(endpoint: &str) -> String {
    House::configuration(endpoint).replace("fastly:\n", "fastly:\n              otlp: {}\n")
}

#[tokio::test]
#[ignore = "needs otel-cli: .ci/steps.d/50-stack"]
async fn the_span_of_a_step_is_a_child_of_its_jobs_span() {
    let sink = Collector::start([]).await;
    let collector = Program::collector(&sink.url()).await;
    let relay = Relay::start(&configuration(&collector.url()), "").await;
    assert_eq!(run_job(relay.address, "true && test -n \"$TRACEPARENT\"").await, [Some(0), Some(0)]);
    assert_eq!(Ask::webhook(&job_completed()).to(relay.address).await.status, 204);
    let came: Vec<Value> = sink.take(2).await.iter().map(|request| request.json()).collect();
    let find = |name: &str| came.iter().flat_map(spans).find(|span| span["name"] == name).unwrap();
    let (step, job) = (find("unit tests"), find("job: test"));
    assert_eq!(job["spanId"], JOB_SPAN);
    assert_eq!(job["parentSpanId"], WORKFLOW_SPAN);
    assert_eq!(step["traceId"], TRACE);
    assert_eq!(step["parentSpanId"], JOB_SPAN);
    relay.stopped().await;
    sink.finish();
}

#[tokio::test]
#[ignore = "needs otel-cli: .ci/steps.d/50-stack"]
async fn a_span_of_otel_cli_arrives_by_grpc() {
    let sink = Collector::start([]).await;
    let relay = Relay::start(&configuration(&sink.url()), "").await;
    let mut otel_cli = Command::new(program::path("otel-cli"));
    otel_cli
        .args(["span", "--name", "by gRPC", "--service", "ci", "--protocol", "grpc", "--insecure", "--fail"])
        .args(["--endpoint", &relay.address.to_string(), "--force-span-id", "00000000000000e1"])
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let status = in_time("otel-cli ends", otel_cli.status()).await.unwrap();
    assert!(status.success(), "{status}");
    let came = sink.take(1).await.remove(0).json();
    assert_eq!(spans(&came)[0]["name"], "by gRPC");
    assert_eq!(spans(&came)[0]["spanId"], "00000000000000e1");
    relay.stopped().await;
    sink.finish();
}

#[tokio::test]
#[ignore = "needs otel-cli: .ci/steps.d/50-stack"]
async fn a_step_that_fails_fails_the_job() {
    let sink = Collector::start([]).await;
    let relay = Relay::start(&configuration(&sink.url()), "").await;
    assert_eq!(run_job(relay.address, "exit 3").await, [Some(0), Some(3)]);
    let came = sink.take(1).await.remove(0).json();
    assert_eq!(spans(&came)[0]["parentSpanId"], JOB_SPAN);
    relay.stopped().await;
    sink.finish();
}

#[tokio::test]
#[ignore = "needs otel-cli: .ci/steps.d/50-stack"]
async fn without_a_relay_the_job_continues_untraced() {
    let nobody = program::free_address();
    assert_eq!(run_job(nobody, "true").await, [Some(0), Some(0)]);
}
