//! Known traps, each with its proof: a test here with its number, or a test or a fixture elsewhere that proves exactly
//! that. `tidy` checks that none is missing and that every proof exists.
//!
//! `trap` numbers are those of the list of facts about CircleCI, Fastly and OTLP that the relay was designed from; `d`
//! numbers are defects of other collectors.

use std::process::Stdio;

use serde_json::Value;
use spanrelay::RECEIVERS;
use spanrelay::config::{Config, Environment};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::harness::text::compact;
use super::harness::{
    Answer, Ask, Ended, Gate, House, TRACE, log, names, request_of, span, span_with, spanrelay,
};

/// Proofs elsewhere: a file and the name of a test in it, or a fixture.
pub(crate) const PROVEN: &[(&str, &str, &str)] = &[
    // CircleCI
    (
        "trap_02",
        "src/receiver/circleci/signature/tests.rs",
        "rejects_a_missing_header_and_a_list_without_a_readable_v1",
    ),
    ("trap_02", "src/receiver/circleci/signature/tests.rs", "finds_the_v1_among_other_and_broken_elements"),
    ("trap_03", "tests/it/config.rs", "a_circleci_receiver_without_a_secret_does_not_start"),
    (
        "trap_03",
        "src/receiver/circleci/signature/tests.rs",
        "any_of_several_secrets_is_accepted_during_rotation",
    ),
    ("trap_04", "tests/it/config.rs", "the_log_contains_no_secret_signature_body_or_header"),
    ("trap_06", "tests/it/circleci.rs", "an_event_that_the_queue_rejected_is_accepted_when_redelivered"),
    ("trap_06", "src/relay/seen.rs", "memory_is_bounded_for_any_number_of_events"),
    ("trap_07", "proto-fixtures/circleci/job-stopped-at-null", ""),
    ("trap_07", "proto-fixtures/circleci/workflow-stopped-at-absent", ""),
    ("trap_07", "proto-fixtures/circleci/job-canceled-before-start", ""),
    ("trap_07", "proto-fixtures/circleci/tag-build-without-tag", ""),
    ("trap_07", "proto-fixtures/circleci/github-app-job", ""),
    ("trap_08", "proto-fixtures/circleci/job-unknown-status", ""),
    ("trap_08", "proto-fixtures/circleci/unknown-event-type", ""),
    ("trap_08", "proto-fixtures/circleci/job-unknown-fields-everywhere", ""),
    ("trap_09", "proto-fixtures/circleci/gitlab-job", ""),
    ("trap_10", "tests/it/circleci.rs", "a_job_is_a_child_of_its_workflow_and_matches_traceparent"),
    ("trap_11", "proto-fixtures/circleci/workflow-id-nil", ""),
    ("trap_11", "proto-fixtures/circleci/workflow-id-zero-prefix", ""),
    ("trap_12", "proto-fixtures/circleci/job-end-before-start", ""),
    (
        "trap_12",
        "src/receiver/circleci/spans/tests.rs",
        "a_workflow_starts_when_it_was_created_not_when_its_pipeline_was",
    ),
    ("trap_13", "proto-fixtures/circleci/job-times-0-and-9-digits", ""),
    ("trap_13", "proto-fixtures/circleci/workflow-times-3-and-6-digits-offset", ""),
    ("trap_14", "proto-fixtures/circleci/workflow-canceled", ""),
    ("trap_14", "proto-fixtures/circleci/job-unauthorized", ""),
    (
        "trap_14",
        "src/receiver/circleci/spans/tests.rs",
        "every_status_has_its_result_and_failures_an_error_type",
    ),
    ("trap_16", "tests/it/circleci.rs", "the_signed_event_type_is_used_and_not_the_header"),
    (
        "trap_17",
        "src/receiver/circleci/tests.rs",
        "no_e_mail_address_and_no_credential_of_any_fixture_is_exported",
    ),
    // Fastly
    ("trap_18", "tests/it/front_door.rs", "challenge_lists_the_digest_of_every_service_id_and_a_star"),
    ("trap_18", "tests/it/front_door.rs", "challenge_needs_no_token_no_collector_and_no_room_in_the_queue"),
    ("trap_19", "tests/it/fastly.rs", "any_method_and_content_type_of_a_sender_are_accepted"),
    ("trap_20", "tests/it/fastly.rs", "a_batch_is_accepted_in_every_form_that_fastly_and_its_users_write"),
    ("trap_20", "tests/it/fastly.rs", "an_empty_body_is_accepted_and_exports_nothing"),
    ("trap_21", "proto-fixtures/fastly/prefix-classic", ""),
    ("trap_21", "proto-fixtures/fastly/prefix-loggly", ""),
    ("trap_21", "proto-fixtures/fastly/prefix-logplex", ""),
    ("trap_22", "tests/it/fastly.rs", "a_batch_with_bad_lines_gets_a_report_and_its_good_lines_are_accepted"),
    ("trap_23", "tests/it/fastly.rs", "ten_thousand_lines_at_once_are_all_exported"),
    ("trap_23", "tests/it/front_door.rs", "a_body_over_the_limit_is_413_as_sent_and_as_decompressed"),
    ("trap_24", "tests/it/front_door.rs", "a_batch_may_be_compressed_with_or_without_a_header"),
    ("trap_25", "tests/it/fastly.rs", "invalid_utf_8_is_repaired_in_its_own_line"),
    ("trap_26", "tests/it/fastly.rs", "an_unescaped_quote_with_two_readings_is_never_repaired"),
    ("trap_26", "proto-fixtures/fastly/vcl-trailing-comma", ""),
    ("trap_26", "proto-fixtures/fastly/vcl-cstr-escape", ""),
    ("trap_26", "proto-fixtures/fastly/vcl-cut-off", ""),
    ("trap_28", "tests/it/fastly.rs", "names_of_earlier_versions_are_renamed_and_yield_to_todays_names"),
    ("trap_28", "proto-fixtures/fastly/vcl-edge", ""),
    ("trap_29", "tests/it/fastly.rs", "a_bad_span_is_rejected_and_its_neighbours_are_not"),
    ("trap_29", "proto-fixtures/fastly/compute-js-quirks", ""),
    ("trap_29", "proto-fixtures/fastly/compute-js-bytes-as-object", ""),
    ("trap_30", "proto-fixtures/fastly/vcl-parents-that-are-none", ""),
    ("trap_30", "proto-fixtures/fastly/vcl-ids-of-a-client", ""),
    ("trap_30", "proto-fixtures/fastly/vcl-null-words", ""),
    ("trap_33", "tests/it/fastly.rs", "a_line_may_have_any_number_of_resources_scopes_traces_and_signals"),
    ("trap_33", "proto-fixtures/fastly/mixed-signals", ""),
    ("trap_33", "proto-fixtures/fastly/compute-js-metrics", ""),
    ("trap_33", "proto-fixtures/fastly/compute-js-diagnostics", ""),
    ("trap_34", "tests/it/span_events.rs", "edge_and_shield_are_two_spans_and_each_keeps_its_own_event"),
    (
        "trap_35",
        "tests/it/span_events.rs",
        "a_span_and_a_log_match_across_batches_and_connections_in_either_order",
    ),
    ("trap_35", "tests/it/span_events.rs", "above_the_limit_the_oldest_are_exported_at_once"),
    (
        "trap_35",
        "src/processor/span_events/tests/leaving.rs",
        "later_lines_and_events_do_not_extend_the_wait",
    ),
    ("trap_36", "tests/it/span_events.rs", "an_unmatched_log_is_forwarded_as_a_log"),
    (
        "trap_36",
        "tests/it/span_events.rs",
        "with_keep_logs_an_attached_log_is_also_exported_as_a_log_and_counted_once",
    ),
    ("trap_37", "proto-fixtures/fastly/logs-named-in-every-way", ""),
    // Downstream
    ("trap_38", "tests/it/delivery.rs", "retryable_responses_are_retried_until_delivery"),
    ("trap_38", "tests/it/delivery.rs", "any_other_error_keeps_the_data_until_it_is_delivered"),
    ("trap_38", "tests/it/delivery.rs", "retry_after_is_a_lower_bound_in_seconds_and_as_a_date"),
    (
        "trap_38",
        "tests/it/delivery.rs",
        "a_partial_success_is_a_delivery_and_its_rejected_count_is_in_the_metrics",
    ),
    ("trap_38", "src/exporter/retry.rs", "caps_a_retry_after_that_would_stop_the_relay"),
    (
        "trap_39",
        "tests/it/delivery.rs",
        "a_base_endpoint_is_joined_with_one_slash_and_a_signal_s_own_is_unchanged",
    ),
    ("trap_40", "tests/it/delivery.rs", "only_the_data_of_a_request_is_exported"),
    (
        "trap_41",
        "tests/it/front_door.rs",
        "a_full_queue_is_503_with_retry_after_and_accepts_the_same_request_later",
    ),
    ("trap_41", "tests/it/shutdown.rs", "held_spans_and_logs_are_exported_by_the_drain"),
    // Defects of others
    ("d02", "proto-fixtures/fastly/fastly-default-json", ""),
    ("d03", "tests/it/front_door.rs", "a_body_over_the_limit_is_413_as_sent_and_as_decompressed"),
    ("d04", "src/exporter/response.rs", "finds_the_message_of_an_error_in_each_format"),
    ("d04", "tests/it/delivery.rs", "a_2xx_with_any_body_is_a_delivery"),
    (
        "d04",
        "tests/it/delivery.rs",
        "a_partial_success_is_a_delivery_and_its_rejected_count_is_in_the_metrics",
    ),
    (
        "d05",
        "tests/it/front_door.rs",
        "a_full_queue_is_503_with_retry_after_and_accepts_the_same_request_later",
    ),
    ("d10", "tests/it/shutdown.rs", "held_spans_and_logs_are_exported_by_the_drain"),
    ("d10", "tests/it/shutdown.rs", "a_collector_that_never_responds_does_not_delay_the_end"),
    (
        "d06",
        "tests/it/durability/drains.rs",
        "with_a_downstream_that_is_down_held_spans_are_matched_in_the_next_process",
    ),
    (
        "d06",
        "tests/it/durability/drains.rs",
        "with_a_hanging_downstream_it_ends_in_time_and_the_next_process_delivers",
    ),
    ("d07", "tests/it/durability/starts.rs", "the_relay_starts_with_every_kind_of_damage"),
    ("d07", "tests/it/durability/starts.rs", "a_queue_file_that_cannot_be_opened_fails_the_start"),
    ("d07", "src/queue/disk/tests.rs", "a_damaged_record_that_cannot_be_set_aside_stays_in_its_segment"),
    ("d08", "tests/it/durability/starts.rs", "damage_is_set_aside_and_counted_and_costs_only_its_request"),
    ("d08", "src/queue/disk/tests.rs", "sync_always_syncs_before_confirming_and_sync_never_survives_a_kill"),
    ("d08", "src/queue/disk/tests.rs", "a_failed_sync_confirms_nothing_and_the_queue_recovers"),
    ("d09", "tests/it/durability/restarts.rs", "undelivered_data_is_exported_after_kills_oldest_first"),
    ("d09", "src/queue/disk/tests.rs", "a_confirmed_record_survives_a_failure_before_its_response"),
    ("d09", "src/queue/disk/tests.rs", "a_record_that_is_being_read_survives_a_failure"),
    (
        "d10",
        "tests/it/durability/drains.rs",
        "senders_that_continue_during_the_drain_lose_nothing_acknowledged",
    ),
    (
        "d12",
        "tests/it/durability/kills.rs",
        "every_acknowledged_id_survives_kills_under_load_and_is_exported_once_per_process",
    ),
    ("d12", "tests/it/durability/successors.rs", "a_response_that_never_ends_counts_by_its_status"),
    ("d19", "tests/it/durability/starts.rs", "the_relay_starts_with_every_kind_of_damage"),
    ("d19", "tests/it/durability/kills.rs", "batches_lose_nothing_and_only_their_bad_events_are_rejected"),
    ("d19", "src/queue/disk/tests.rs", "a_damaged_record_is_set_aside_and_counted_and_blocks_nothing"),
    ("d26", "tests/it/durability/restarts.rs", "a_held_span_and_its_log_match_after_a_kill"),
    ("d27", "src/queue/disk/tests.rs", "a_panic_of_the_writer_is_reported_and_loses_nothing"),
    ("d27", "src/relay/tests/otlp.rs", "a_relay_whose_processor_has_ended_is_not_ready"),
    ("d27", "src/processor/driver.rs", "ends_when_the_exporter_is_gone"),
    ("d27", "src/exporter/tests/in_virtual_time.rs", "a_worker_that_panics_loses_nothing_and_stops_nobody"),
    ("d21", "tests/it/front_door.rs", "no_response_repeats_input"),
    (
        "d22",
        "src/exporter/tests/in_virtual_time.rs",
        "an_export_that_is_throttled_several_times_is_delivered_once",
    ),
    ("d23", "tests/it/delivery.rs", "any_other_error_keeps_the_data_until_it_is_delivered"),
    ("d23", "proto-fixtures/fastly/vcl-edge", ""),
    ("d24", "tests/it/fastly.rs", "any_method_and_content_type_of_a_sender_are_accepted"),
    (
        "d28",
        "src/server/tests/connections.rs",
        "shutdown_finishes_a_request_in_progress_and_closes_idle_connections",
    ),
    ("d28", "tests/it/shutdown.rs", "a_collector_that_never_responds_does_not_delay_the_end"),
    (
        "d29",
        "tests/it/delivery.rs",
        "a_partial_success_is_a_delivery_and_its_rejected_count_is_in_the_metrics",
    ),
];

const PING: &str =
    r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;

// --- CircleCI ---

#[tokio::test]
async fn trap_01_the_signature_covers_the_raw_bytes_and_the_size_is_limited_first() {
    let house = House::open("server.max_request_body_size: 2KiB\nserver.max_line_size: 1KiB").await;
    // Parsing and serialising this would result in other bytes.
    let odd = format!(" {}\r\n", PING.replace(',', " ,\t").replace("ping", "p\\u0069ng"));
    assert_eq!(house.ask(Ask::webhook(&odd)).await.status, 204);
    house.left_one().await;
    let large = format!("{PING}{}", " ".repeat(2048));
    assert_eq!(
        house.ask(Ask::post("/circleci", large).with("circleci-signature", "v1=00")).await.status,
        413
    );
    house.close().await;
}

#[tokio::test]
async fn trap_05_a_webhook_gets_its_response_while_the_collector_is_down() {
    let gate = Gate::new();
    let house = House::with_answers("", [Answer::WaitAt(gate.clone())]).await;
    assert_eq!(house.ask(Ask::webhook(PING)).await.status, 204);
    house.left_one().await;
    // An event that could never be processed is accepted, too.
    assert_eq!(house.ask(Ask::webhook(r#"{"type":"job-reopened","id":"1"}"#)).await.status, 202);
    assert_eq!(house.ask(Ask::webhook(r#"{"type":"job-completed","id":"2"}"#)).await.status, 202);
    gate.open();
    house.close().await;
}

#[tokio::test]
async fn trap_11_an_event_results_in_the_same_bytes_before_and_after_a_restart() {
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let house = House::open("").await;
        assert_eq!(house.ask(Ask::webhook(PING)).await.status, 204);
        bodies.push(house.left_one().await.body);
        house.close().await;
    }
    assert_eq!(bodies[0], bodies[1]);
}

// --- Fastly ---

#[tokio::test]
async fn trap_23_a_large_batch_is_exported_in_requests_that_a_collector_accepts() {
    let settings = "exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch.max_bytes: 64KiB";
    let house = House::open(settings).await;
    let lines: Vec<String> = (1..=1000).map(|id| span(id, &"x".repeat(500))).collect();
    house.batch(request_of(&lines)).await;
    house.at_rest().await;
    let left = house.collector.take_rest();
    assert_eq!(left.iter().map(|request| names(request).len()).sum::<usize>(), 1000);
    assert!(left.iter().all(|request| request.body.len() <= 64 * 1024));
    house.close().await;
}

#[tokio::test]
async fn trap_26_attributes_injected_by_a_user_agent_never_replace_those_of_the_vcl() {
    let house = House::open("").await;
    let line =
        std::fs::read_to_string(fixture("fastly/vcl-user-agent-injects-attribute/request.ndjson")).unwrap();
    house.batch(line).await;
    let json = house.left_one().await.json();
    let codes: Vec<Value> =
        attributes(&json).into_iter().filter(|a| a["key"] == "http.status_code").collect();
    assert_eq!(codes.len(), 1);
    assert_eq!(codes[0]["value"]["stringValue"], "200", "the one that VCL wrote after it");
    house.close().await;
}

#[tokio::test]
async fn trap_27_bare_numbers_beyond_two_to_the_53_stay_exact() {
    let house = House::open("").await;
    for (written, exact) in [
        ("1655990400123457001", "\"1655990400123457001\""),
        ("\"1655990400123457001\"", "\"1655990400123457001\""),
        ("18446744073709551615", "\"18446744073709551615\""),
        ("9007199254740993", "\"9007199254740993\""),
        ("1.5e18", "\"1500000000000000000\""),
    ] {
        house.batch(span_with(TRACE, 1, &format!("\"startTimeUnixNano\":{written}"))).await;
        let exact = span_with(TRACE, 1, &format!("\"startTimeUnixNano\":{exact}"));
        assert_eq!(house.left_one().await.text(), exact);
    }
    house.close().await;
}

#[tokio::test]
async fn trap_31_of_a_duplicate_attribute_the_last_is_kept() {
    let house = House::open("").await;
    let line = std::fs::read_to_string(fixture("fastly/vcl-edge/request.ndjson")).unwrap();
    assert_eq!(line.matches("fastly.server_role").count(), 2);
    house.batch(line.replacen("\"edge\"", "\"first\"", 1)).await;
    let left = house.left_one().await;
    let json = left.json();
    let roles: Vec<Value> =
        attributes(&json).into_iter().filter(|a| a["key"] == "fastly.server_role").collect();
    assert_eq!(roles.len(), 1);
    assert_eq!(roles[0]["value"]["stringValue"], "edge");
    house.close().await;
}

#[tokio::test]
async fn trap_32_values_kind_and_status_stay_as_the_vcl_wrote_them() {
    let house = House::open("").await;
    let members = r#""kind":1,"attributes":[{"key":"http.status_code","value":{"stringValue":"503"}}],"status":{"code":0}"#;
    house.batch(span_with(TRACE, 1, members)).await;
    assert_eq!(house.left_one().await.text(), span_with(TRACE, 1, members));
    house.close().await;
}

#[tokio::test]
async fn trap_35_the_default_wait_is_longer_than_the_period_of_batches() {
    let ended = Ended::of(&mut spanrelay(&["validate", "--print"])).await;
    let wait = ended.out.lines().find_map(|line| line.trim().strip_prefix("wait: ")).unwrap();
    let seconds: u64 = wait.strip_suffix('s').unwrap().parse().unwrap();
    assert!(seconds >= 2 * 5, "Fastly's default period is 5 s: {wait}");
}

#[tokio::test]
async fn trap_35_a_log_matches_its_own_span_and_not_the_first_of_its_line() {
    let house = House::open("").await;
    let ids = |id: u64| format!("{{\"traceId\":\"{TRACE}\",\"spanId\":\"{id:016x}\",\"name\":\"s{id}\"}}");
    let line = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}},{{\"spans\":[{},{}]}}]}}]}}",
        ids(1),
        ids(2),
        ids(3)
    );
    house.batch(request_of(&[log(3, "third"), line, log(2, "second")])).await;
    assert_eq!(names(&house.left_one().await), ["s1", "s2: second", "s3: third"]);
    house.close().await;
}

// --- downstream ---

#[tokio::test]
async fn trap_40_ids_are_exported_in_lower_case_large_numbers_as_text_and_enums_as_numbers() {
    let house = House::open("").await;
    let line = span_with(&TRACE.to_uppercase(), 0xab, r#""kind":"SPAN_KIND_SERVER","endTimeUnixNano":1655990400123457001,"status":{"code":"STATUS_CODE_ERROR"}"#)
        .replace("00000000000000ab", "00000000000000AB");
    house.batch(line).await;
    let leaves =
        span_with(TRACE, 0xab, r#""kind":2,"endTimeUnixNano":"1655990400123457001","status":{"code":2}"#);
    assert_eq!(compact(&house.left_one().await.text()), leaves);
    house.close().await;
}

#[tokio::test]
async fn trap_42_the_relay_exports_no_telemetry_of_its_own_work() {
    let house = House::open("").await;
    for id in 1..=5 {
        house.batch(span(id, "a")).await;
        house.ask(Ask::get("/none")).await;
    }
    for request in house.left(5).await {
        assert_eq!(names(&request), ["a"]);
        assert!(!request.headers.contains_key("traceparent"));
    }
    // Closing fails if there are further exports.
    house.close().await;
}

// --- others ---

#[tokio::test]
async fn trap_43_every_response_of_the_traceparent_route_is_safe_to_run() {
    let house = House::open("receivers: {circleci: {secrets: [fixture-secret]}, fastly: }").await;
    let (workflow, job) = ("cedf175c-c537-49f8-9b5c-95892f0b2407", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34");
    for (method, path) in [
        ("GET", format!("/traceparent/{workflow}/{job}")),
        (
            "GET",
            format!("/traceparent/{workflow}/$(echo${{IFS}}canary)").replace('{', "%7B").replace('}', "%7D"),
        ),
        ("GET", "/traceparent/;echo%20canary;/x".to_owned()),
        ("GET", "/traceparent".to_owned()),
        ("POST", format!("/traceparent/{workflow}/{job}")),
    ] {
        let body = house.ask(Ask::new(method, &path, "")).await.text();
        let mut shell = Command::new("/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(format!("{body}echo \"[$TRACEPARENT]\"\n").as_bytes()).await.unwrap();
        drop(stdin);
        let ran = shell.wait_with_output().await.unwrap();
        let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
        let succeeded = body.starts_with("export TRACEPARENT=00-");
        let expected =
            if succeeded { "[00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01]\n" } else { "[]\n" };
        assert_eq!((out.as_str(), err.as_str()), (expected, ""), "{method} {path}: {body}");
    }
    house.close().await;
}

// --- defects of others ---

#[tokio::test]
async fn d01_nothing_after_the_first_value_is_silently_lost() {
    let house = House::open("").await;
    house.batch(request_of(&[span(1, "a"), span(2, "b"), span(3, "c")])).await;
    assert_eq!(house.left_names(3).await, ["a", "b", "c"]);
    let reply = house.ask(Ask::post("/fastly", format!("{} garbage", span(1, "a")))).await;
    assert_eq!((reply.status, &reply.json()["rejected"]), (200, &1.into()));
    house.left_one().await;
    for nothing in ["{}", r#"{"":{"resourceSpans":[]}}"#, r#"{"someday":[]}"#] {
        let reply = house.ask(Ask::post("/fastly", nothing)).await;
        assert_eq!(reply.status, 400, "{nothing}");
    }
    house.close().await;
}

#[tokio::test]
async fn d13_lines_and_webhooks_of_more_than_64_kib_are_exported_completely() {
    let house = House::open("").await;
    let long = "x".repeat(300_000);
    house.batch(request_of(&[span(1, &long), span(2, "behind it")])).await;
    assert_eq!(house.left_names(2).await, ["behind it", &long]);
    let body = PING.replace("\"type\"", &format!("\"padding\":\"{long}\",\"type\""));
    assert_eq!(house.ask(Ask::webhook(&body)).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    house.close().await;
}

#[test]
fn d14_a_path_without_a_leading_slash_is_a_problem_and_not_a_panic() {
    let problem =
        Config::from_yaml("receivers:\n  fastly:\n    path: fastly\n", &Environment::empty(), RECEIVERS)
            .unwrap_err();
    let problem = problem.to_string();
    assert!(problem.contains("receivers.fastly.path") && problem.contains("must begin with /"), "{problem}");
}

#[tokio::test]
async fn d20_a_collector_that_hangs_does_not_stall_the_senders() {
    let gate = Gate::new();
    let house =
        House::with_answers("exporters.otlp_http.max_in_flight: 1", [Answer::WaitAt(gate.clone())]).await;
    for id in 1..=100 {
        house.batch(span(id, "a")).await;
    }
    assert!(house.metric("spanrelay_queue_oldest_seconds", &[]).await > 0.0, "it shows");
    gate.open();
    house.left(100).await;
    house.close().await;
}

#[tokio::test]
async fn d24_a_webhook_needs_no_content_type_and_may_name_a_charset() {
    let house = House::open("").await;
    let other = PING.replace("92e0554a", "11111111");
    assert_eq!(house.ask(Ask::webhook(PING)).await.status, 204);
    let with_charset = Ask::webhook(&other).with("content-type", "application/json; charset=utf-8");
    assert_eq!(house.ask(with_charset).await.status, 204);
    assert_eq!(house.left_names(2).await, ["ping", "ping"]);
    house.close().await;
}

fn fixture(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures").join(path)
}

fn attributes(request: &Value) -> Vec<Value> {
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap().clone()
}
