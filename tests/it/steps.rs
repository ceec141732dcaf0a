//! Step spans of CircleCI's jobs: looked up after the webhook was answered, and never in its way.

use serde_json::Value;

use super::harness::api::{Api, cloud, fixture, server};
use super::harness::{
    Answer, Ask, Child, Collector, Ended, Gate, House, Recorded, Reserved, eventually, names, spanrelay,
};

const TOKEN: &str = "circleci-token-Gn5q";

/// Returns settings for an API at this address.
fn api(url: &str) -> String {
    format!("receivers.circleci.api: {{ token: {TOKEN}, endpoint: \"{url}\" }}")
}

/// Opens a house whose relay asks this API.
async fn house(api_of: &Api) -> House {
    House::open(&api(&api_of.url())).await
}

/// Posts the event of the job, which must be accepted.
async fn job_ends(house: &House) {
    assert_eq!(house.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
}

fn spans(request: &Recorded) -> Vec<Value> {
    request.json()["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

/// Takes the export of the job, and that of its steps.
async fn job_and_steps(house: &House) -> [Recorded; 2] {
    let mut left: [Recorded; 2] = house.left(2).await.try_into().unwrap();
    left.sort_by_key(|request| spans(request).len());
    assert_eq!(names(&left[0]), ["job: test"]);
    left
}

fn expected(file: &str) -> Value {
    serde_json::from_str(&fixture(file)).unwrap()
}

async fn lookups(house: &House, outcome: &str) -> f64 {
    house.metric("spanrelay_step_lookups_total", &[("outcome", outcome)]).await
}

#[tokio::test]
async fn the_steps_of_a_job_are_its_children_and_the_time_before_it_is_next_to_it() {
    for storage in ["memory", "disk"] {
        let api_of = Api::start(cloud).await;
        let house = House::open(&format!("{}\nqueue.storage: {storage}", api(&api_of.url()))).await;
        job_ends(&house).await;
        let [job, steps] = job_and_steps(&house).await;
        assert_eq!(steps.json(), expected("expected.steps.v3.json"));
        let job = spans(&job).remove(0);
        for span in spans(&steps) {
            assert_eq!(span["traceId"], job["traceId"]);
            let is_before = span["name"] == "waiting: test" || span["name"] == "queued: test";
            let parent = if is_before { &job["parentSpanId"] } else { &job["spanId"] };
            assert_eq!(&span["parentSpanId"], parent, "{span}");
        }
        let [of_steps, of_queue] = <[Recorded; 2]>::try_from(api_of.requests()).unwrap();
        assert_eq!(of_steps.header("authorization"), format!("Bearer {TOKEN}"));
        assert_eq!(of_queue.header("circle-token"), TOKEN);
        let samples = house.at_rest().await;
        assert_eq!(samples.sum("otelcol_receiver_accepted_spans", &[("receiver", "circleci")]), 10.0);
        assert_eq!(samples.sum("spanrelay_webhooks_total", &[("outcome", "accepted")]), 1.0);
        for (api, count) in [("v3", 1.0), ("v2", 1.0), ("v1.1", 0.0)] {
            assert_eq!(samples.sum("spanrelay_step_requests_total", &[("api", api)]), count);
        }
        assert_eq!(samples.sum("spanrelay_step_lookups_pending", &[]), 0.0);
        assert_eq!(lookups(&house, "found").await, 1.0);
        house.close().await;
    }
}

#[tokio::test]
async fn circleci_server_has_an_older_api() {
    let api_of = Api::start(server).await;
    let house = house(&api_of).await;
    job_ends(&house).await;
    let [_, steps] = job_and_steps(&house).await;
    assert_eq!(steps.json(), expected("expected.steps.v1.1.json"));
    assert_eq!(api_of.requests().len(), 2);
    assert_eq!(api_of.requests()[1].header("circle-token"), TOKEN);
    house.close().await;
}

#[tokio::test]
async fn neither_the_response_nor_the_span_of_the_job_waits_for_the_api() {
    let gate = Gate::new();
    let api_of = Api::with_answers([Answer::WaitAt(gate.clone())], cloud).await;
    let house = House::open(&format!("{}\nreceivers.circleci.api.timeout: 1h", api(&api_of.url()))).await;
    job_ends(&house).await;
    assert_eq!(names(&house.left_one().await), ["job: test"]);
    api_of.has_seen(1).await;
    assert_eq!(house.metric("spanrelay_step_lookups_pending", &[]).await, 1.0);
    gate.open();
    assert_eq!(house.left_one().await.json(), expected("expected.steps.v3.json"));
    house.close().await;
}

#[tokio::test]
async fn every_failure_of_the_api_is_counted_and_retried() {
    for (answer, outcome) in [
        (Answer::status(401), "unauthorized"),
        (Answer::retry_after(429, "1"), "throttled"),
        (Answer::status(503), "unavailable"),
        (Answer::json(200, "<html>down for maintenance</html>"), "unexpected"),
        (Answer::json(200, &fixture("steps.v3.json").replace("\"ended\"", "\"started\"")), "incomplete"),
        (Answer::BreakOff, "unavailable"),
        (Answer::Close, "unavailable"),
        (Answer::WaitAt(Gate::new()), "unavailable"),
        // More than the relay reads of a response.
        (Answer::json(200, &"x".repeat(17 << 20)), "unavailable"),
    ] {
        let api_of = Api::with_answers([answer], cloud).await;
        let house =
            House::open(&format!("{}\nreceivers.circleci.api.timeout: 300ms", api(&api_of.url()))).await;
        job_ends(&house).await;
        let [_, steps] = job_and_steps(&house).await;
        assert_eq!(steps.json(), expected("expected.steps.v3.json"), "{outcome}");
        let of_outcome = [("api", "v3"), ("outcome", outcome)];
        assert_eq!(house.metric("spanrelay_step_requests_total", &of_outcome).await, 1.0, "{outcome}");
        house.close().await;
    }
}

#[tokio::test]
async fn an_api_that_is_down_costs_nothing_else_and_its_return_brings_the_steps() {
    let reserved = Reserved::on_loopback();
    let house = House::open(&api(&format!("http://{}", reserved.address))).await;
    job_ends(&house).await;
    assert_eq!(names(&house.left_one().await), ["job: test"]);
    let failed = [("api", "v3"), ("outcome", "unavailable")];
    eventually("a request failed", async || {
        (house.metric("spanrelay_step_requests_total", &failed).await > 0.0).then_some(())
    })
    .await;
    let _api = Api::at(reserved.address, cloud).await;
    assert_eq!(house.left_one().await.json(), expected("expected.steps.v3.json"));
    house.close().await;
}

#[tokio::test]
async fn a_redelivery_is_looked_up_once_and_another_relay_makes_the_same_spans() {
    let api_of = Api::start(cloud).await;
    let first = house(&api_of).await;
    for _ in 0..3 {
        job_ends(&first).await;
    }
    let [_, steps] = job_and_steps(&first).await;
    first.at_rest().await;
    assert_eq!(api_of.requests().len(), 2);
    first.close().await;
    let second = house(&api_of).await;
    job_ends(&second).await;
    assert_eq!(job_and_steps(&second).await[1].json(), steps.json());
    second.close().await;
}

#[tokio::test]
async fn only_jobs_are_looked_up() {
    let api_of = Api::start(cloud).await;
    let house = house(&api_of).await;
    let event = fixture("request.json");
    let workflow = event.replace("job-completed", "workflow-completed");
    assert_eq!(house.ask(Ask::webhook(&workflow)).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["workflow: build-test-deploy"]);
    house.at_rest().await;
    assert_eq!(api_of.requests().len(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_job_without_steps_ends_its_lookup() {
    let api_of = Api::start(|request| {
        let empty = r#"{"data":{"attributes":{"phase":"ended","parallel_executions":[]}}}"#;
        request.path.starts_with("/api/v3/").then(|| Answer::json(200, empty))
    })
    .await;
    let house = house(&api_of).await;
    // Without times, nothing is known about the time before the job.
    let event = fixture("request.json").replace("\"created_at\":\"2026-03-02T09:14:07.616Z\",", "");
    assert_eq!(house.ask(Ask::webhook(&event)).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["job: test"]);
    house.at_rest().await;
    assert_eq!(lookups(&house, "empty").await, 1.0);
    house.close().await;
}

#[tokio::test]
async fn a_job_that_the_api_does_not_know_is_given_up() {
    let api_of = Api::start(|_| None).await;
    let house = house(&api_of).await;
    job_ends(&house).await;
    assert_eq!(names(&house.left_one().await), ["job: test"]);
    house.at_rest().await;
    assert_eq!(lookups(&house, "given_up").await, 1.0);
    // Five attempts, each with both versions of the API.
    assert_eq!(api_of.requests().len(), 10);
    house.close().await;
}

/// Returns the event of another job of the same workflow.
fn event_of_job(number: usize) -> String {
    fixture("request.json")
        .replace("31baebba-6803-355a-b8fc-d50b94a6ebc6", &format!("event {number}"))
        .replace("79b8e7b5-f308-48cc-849a-bf804eb08389", &format!("79b8e7b5-f308-48cc-849a-{number:012x}"))
        .replace("79b8e7b5-f308", &format!("{number:08x}-f308"))
}

#[tokio::test]
async fn lookups_beyond_their_memory_are_dropped_and_delay_nothing() {
    let gate = Gate::new();
    let closed = gate.clone();
    let api_of = Api::start(move |_| Some(Answer::WaitAt(closed.clone()))).await;
    let small =
        "server.max_inflight_bytes: 256KiB\nserver.max_request_body_size: 64KiB\nserver.max_line_size: 16KiB";
    let patient = "receivers.circleci.api.timeout: 1h";
    let house = House::open(&format!("{}\n{patient}\n{small}", api(&api_of.url()))).await;
    for number in 1..=10 {
        assert_eq!(house.ask(Ask::webhook(&event_of_job(number))).await.status, 204);
    }
    for job in house.left(10).await {
        assert_eq!(names(&job), ["job: test"]);
    }
    let pending = eventually("every lookup is pending or dropped", async || {
        let pending = house.metric("spanrelay_step_lookups_pending", &[]).await;
        (pending + lookups(&house, "dropped").await == 10.0).then_some(pending)
    })
    .await;
    assert!((1.0..10.0).contains(&pending), "{pending}");
    api_of.set(|request| {
        request.path.starts_with("/api/v3/").then(|| Answer::json(200, &fixture("steps.v3.json")))
    });
    gate.open();
    house.awaits_metric("spanrelay_step_lookups_total", &[("outcome", "found")], pending).await;
    house.left(pending as usize).await;
    house.close().await;
}

#[tokio::test]
async fn nothing_is_sent_before_the_retry_after_of_an_api_is_over() {
    let api_of = Api::with_answers([Answer::retry_after(429, "3600")], cloud).await;
    let house = house(&api_of).await;
    job_ends(&house).await;
    house.awaits_metric("spanrelay_step_requests_total", &[("outcome", "throttled")], 1.0).await;
    assert_eq!(house.ask(Ask::webhook(&event_of_job(2))).await.status, 204);
    house.left(2).await;
    house.awaits_metric("spanrelay_step_lookups_pending", &[], 2.0).await;
    house.drained().await;
    assert_eq!(api_of.requests().len(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed_and_the_token_stays_with_the_endpoint() {
    let elsewhere = Api::start(cloud).await;
    let redirect = Answer::Say {
        status: 302,
        headers: vec![(
            "location",
            format!("{}/api/v3/jobs/79b8e7b5-f308-48cc-849a-bf804eb08389", elsewhere.url()),
        )],
        body: "".into(),
    };
    let api_of = Api::with_answers([redirect], cloud).await;
    let house = house(&api_of).await;
    job_ends(&house).await;
    job_and_steps(&house).await;
    assert_eq!(elsewhere.requests().len(), 0);
    house.close().await;
}

/// Returns the configuration of a relay in its own process.
fn configuration(downstream: &str, api_url: &str, token: &str, directory: &std::path::Path) -> String {
    let on_disk = format!("queue: {{ storage: disk, directory: {} }}", directory.display());
    House::configuration(downstream).replace("queue: { storage: memory }", &on_disk).replace(
        "cancel_settle: 0s",
        &format!("cancel_settle: 0s, api: {{ endpoint: \"{api_url}\", token: {token} }}"),
    )
}

#[tokio::test]
async fn a_new_token_applies_after_a_reload() {
    let api_of = Api::start(|request| match request.headers.get("authorization") {
        Some(token) if *token == "Bearer old-token-Bq8w" => Some(Answer::status(401)),
        _ => cloud(request),
    })
    .await;
    let collector = Collector::start([]).await;
    let directory = tempfile::tempdir().unwrap();
    let configuration =
        |token: &str| configuration(&collector.url(), &api_of.url(), token, &directory.path().join("queue"));
    let mut relay = Child::start(&configuration("old-token-Bq8w"), &[]).await;
    assert_eq!(relay.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
    let line = relay.logged("step lookup failed, retrying").await;
    assert!(line["remedy"].as_str().unwrap().contains("receivers.circleci.api.token"), "{line}");
    relay.configure(&configuration("new-token-Ld3v"));
    relay.signal("HUP").await;
    let mut left: Vec<String> = collector.take(2).await.iter().flat_map(names).collect();
    left.sort();
    assert!(left.contains(&"Unit tests".to_owned()) && left.contains(&"job: test".to_owned()), "{left:?}");
    relay.logged("step lookups succeed again").await;
    relay.signal("TERM").await;
    assert_eq!(relay.ended().await, Some(0));
    collector.finish();
}

#[tokio::test]
async fn no_command_and_no_token_is_in_any_output() {
    for rule in [cloud as fn(&Recorded) -> Option<Answer>, server] {
        let api_of = Api::start(rule).await;
        // Rejects the steps, so that they are in the rejected lines, too.
        let collector = Collector::judging(|request| match request.text().contains("Unit tests") {
            true => Answer::status(400),
            false => Answer::json(200, "{}"),
        })
        .await;
        let directory = tempfile::tempdir().unwrap();
        let queue = directory.path().join("queue");
        let configuration = configuration(&collector.url(), &api_of.url(), TOKEN, &queue);
        let queue_argument = format!("queue.directory={}", queue.display());
        let arguments = [
            "--set",
            "telemetry.logs.level=trace",
            "--set",
            "telemetry.inspect.show_values=true",
            "--set",
            &queue_argument,
        ];
        let mut relay = Child::start(&configuration, &arguments).await;
        let inspected = async || {
            let ask = Ask::get("/inspect/data?since=0").with("host", "localhost");
            ask.to(relay.telemetry).await.text()
        };
        let mut written = vec![inspected().await];
        assert_eq!(relay.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
        eventually("all is settled", async || {
            let samples = relay.metrics().await;
            (samples.sum("spanrelay_settled_items_total", &[]) >= 7.0 && samples.are_at_rest()).then_some(())
        })
        .await;
        written.push(inspected().await);
        assert!(written[1].contains("Unit tests") && written[1].contains("\"steps\""), "{}", written[1]);
        written.push(relay.telemetry("/metrics").await.text());
        relay.signal("TERM").await;
        assert_eq!(relay.ended().await, Some(0));
        written.push(relay.log());
        for entry in std::fs::read_dir(&queue).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            written.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        assert!(
            written.iter().any(|text| text.contains("\"reason\"") && text.contains("Unit tests")),
            "rejected lines"
        );
        let sent = collector.take_rest();
        written.extend(sent.iter().map(Recorded::text));
        for text in written {
            for secret in ["hunter2", TOKEN, "make report", "acme.example/report", "output.example"] {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
        collector.finish();
    }
}

#[tokio::test]
async fn validation_names_what_is_missing_or_not_supported() {
    let validate = async |receiver: &str, more: &[&str]| {
        let set = format!("receivers.circleci={receiver}");
        let mut arguments = vec!["validate", "--set", &set];
        arguments.extend(more.iter().flat_map(|set| ["--set", set]));
        let ended = Ended::of(&mut spanrelay(&arguments)).await;
        assert!(!ended.err.contains(TOKEN), "{}", ended.err);
        (ended.code, ended.err)
    };
    let with = |api: &str| format!("{{ secrets: [a-secret], api: {{ {api} }} }}");
    let (code, text) = validate(&with(""), &[]).await;
    assert!(code == Some(1) && text.contains("api: needs token"), "{text}");
    let (code, text) = validate(&with(&format!("token: {TOKEN}, endpoint: \"https://h/?a=b\"")), &[]).await;
    assert!(code == Some(1) && text.contains("endpoint") && text.contains("query"), "{text}");
    let (code, text) =
        validate(&with(&format!("token: {TOKEN}, endpoint: \"http://ci.example.com\"")), &[]).await;
    assert!(code == Some(0) && text.contains("the token is sent in plaintext"), "{text}");
    let (code, text) =
        validate(&with(&format!("token: {TOKEN}, endpoint: \"http://localhost:1\"")), &[]).await;
    assert_eq!((code, text.as_str()), (Some(0), ""));
    let unsigned = format!("{{ allow_unsigned: true, api: {{ token: {TOKEN} }} }}");
    let (code, text) = validate(&unsigned, &[]).await;
    assert!(code == Some(0) && text.contains("look up jobs with the token"), "{text}");
    let kafka = ["queue.storage=kafka", "queue.kafka={ brokers: [\"localhost:1\"] }"];
    let (code, text) = validate(&with(&format!("token: {TOKEN}")), &kafka).await;
    assert!(code == Some(1) && text.contains("not supported with queue.storage: kafka"), "{text}");
}

#[tokio::test]
async fn validate_connect_tries_the_token() {
    let api_of = Api::start(|request| match (request.path.as_str(), request.headers.get("circle-token")) {
        ("/api/v2/me", Some(token)) if *token == TOKEN => Some(Answer::json(200, "{}")),
        ("/api/v2/me", _) => Some(Answer::status(401)),
        _ => None,
    })
    .await;
    let collector = Collector::start([]).await;
    let validate = async |token: &str, url: &str| {
        let api = format!(
            "receivers.circleci={{ secrets: [a-secret], api: {{ token: {token}, endpoint: \"{url}\" }} }}"
        );
        let endpoint = format!("exporters.otlp_http.endpoint={}", collector.url());
        let ended =
            Ended::of(&mut spanrelay(&["validate", "--connect", "--set", &api, "--set", &endpoint])).await;
        (ended.code, ended.err)
    };
    assert_eq!(validate(TOKEN, &api_of.url()).await, (Some(0), String::new()));
    let (code, text) = validate("another-token", &api_of.url()).await;
    assert!(code == Some(1) && text.contains("set receivers.circleci.api.token"), "{text}");
    assert!(!text.contains("another-token"), "{text}");
    let (code, text) = validate(TOKEN, &format!("{}/elsewhere", api_of.url())).await;
    assert!(
        code == Some(0) && text.contains("returned 404") && text.contains("receivers.circleci.api.endpoint"),
        "{text}"
    );
    let nobody = Reserved::on_loopback();
    let (code, text) = validate(TOKEN, &format!("http://{}", nobody.address)).await;
    assert!(code == Some(1) && text.contains("connection refused"), "{text}");
    collector.forget_answers();
    collector.finish();
}
