//! A relay that is stopped delivers what it can in the drain time, and always ends.

use super::harness::api::{Api, cloud, fixture};
use super::harness::{
    Answer, Ask, Child, Collector, Gate, House, Recorded, SECRET, eventually, in_time, log, names,
    nobody_listens_at, process_id, request_of, sign, signal_named, span,
};

/// Longer than any test, so that held data is exported because of the drain.
const HOLDS: &str = "processors.span_events.wait: 1h";

fn all_names(requests: &[Recorded]) -> Vec<String> {
    let mut names: Vec<String> = requests.iter().flat_map(names).collect();
    names.sort();
    names
}

#[tokio::test]
async fn held_spans_and_logs_are_exported_by_the_drain() {
    let house = House::open(HOLDS).await;
    house.batch(request_of(&[span(1, "a"), log(1, "event"), span(2, "b"), log(9, "alone")])).await;
    assert_eq!(house.collector.waiting(), 0);
    assert_eq!(all_names(&house.drained().await), ["a: event", "b", "log alone"]);
}

#[tokio::test]
async fn an_incomplete_batch_is_exported_by_the_drain() {
    let house =
        House::open("exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch: {timeout: 1h}").await;
    house.batch(request_of(&[span(1, "a"), span(2, "b")])).await;
    assert_eq!(all_names(&house.drained().await), ["a", "b"]);
}

#[tokio::test]
async fn a_request_in_progress_is_read_to_its_end_and_delivered() {
    let mut house = House::open(HOLDS).await;
    let line = span(1, "on its way");
    let mut sender = house.connect().await;
    let head = format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", line.len());
    sender.write(format!("POST /fastly HTTP/1.1\r\nhost: relay\r\n{head}")).await;
    // 100 Continue shows that the headers were read.
    assert_eq!(sender.read().await.status, 100);
    let idle = house.connect().await;
    house.relay.tell_to_stop();
    // An idle connection is closed at once, which shows that the drain has begun.
    idle.closes().await;
    sender.write(line).await;
    let reply = sender.read().await;
    assert_eq!((reply.status, reply.header("connection")), (204, Some("close")));
    assert_eq!(all_names(&house.drained().await), ["on its way"]);
}

#[tokio::test]
async fn a_response_in_progress_is_awaited() {
    let gate = Gate::new();
    let mut house = House::with_answers("", [Answer::WaitAt(gate.clone())]).await;
    house.batch(span(1, "a")).await;
    house.left_one().await;
    house.relay.tell_to_stop();
    let telemetry = house.relay.telemetry("/healthz").await;
    assert_eq!(telemetry.status, 200, "health and metrics stay until the end");
    gate.open();
    assert!(house.drained().await.is_empty(), "not sent twice");
}

#[tokio::test]
async fn after_the_drain_nothing_listens() {
    let house = House::open("").await;
    let (front_door, telemetry) = (house.relay.address, house.relay.telemetry);
    house.close().await;
    for address in [front_door, telemetry] {
        nobody_listens_at(address).await;
    }
}

#[tokio::test]
async fn failed_exports_are_retried_during_the_drain() {
    let house = House::with_answers(HOLDS, [Answer::status(503), Answer::Close, Answer::status(429)]).await;
    house.batch(span(1, "a")).await;
    assert_eq!(all_names(&house.drained().await), ["a"; 4]);
}

/// A stop that hangs is as bad as one that loses data. This one takes the whole drain time.
#[tokio::test]
async fn a_collector_that_never_responds_does_not_delay_the_end() {
    let gate = Gate::new();
    // Longer than the drain: an attempt that timed out during the drain would be repeated, and possibly be seen here.
    let patient = "exporters.otlp_http.timeout: 1h";
    let house = House::with_answers(patient, [Answer::WaitAt(gate.clone())]).await;
    house.batch(span(1, "a")).await;
    house.left_one().await;
    assert!(house.drained().await.is_empty());
    gate.open();
}

/// Returns the settings of an API whose responses are awaited for longer than any test.
fn api_at(url: &str) -> String {
    format!("receivers.circleci.api: {{ token: a-token, endpoint: \"{url}\", timeout: 1h }}")
}

/// Number of spans of the steps of the job of `proto-fixtures`, and of the time before it.
const STEPS: usize = 9;

#[tokio::test]
async fn lookups_that_no_queue_keeps_end_during_the_drain() {
    let rules = "queue.storage: disk\nprocessors.attributes.drop: [http.request.method]";
    for settings in ["queue.storage: memory", rules] {
        let gate = Gate::new();
        let api = Api::with_answers([Answer::WaitAt(gate.clone())], cloud).await;
        let mut house = House::open(&format!("{}\n{settings}", api_at(&api.url()))).await;
        assert_eq!(house.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
        assert_eq!(names(&house.left_one().await), ["job: test"]);
        api.has_seen(1).await;
        let idle = house.connect().await;
        house.relay.tell_to_stop();
        // It is closed when the drain has begun.
        idle.closes().await;
        gate.open();
        let steps = house.left_one().await;
        assert_eq!(names(&steps).len(), STEPS, "{settings}");
        assert!(house.drained().await.is_empty(), "{settings}");
    }
}

#[tokio::test]
async fn a_webhook_that_arrives_during_the_drain_has_its_steps() {
    let api = Api::start(cloud).await;
    let mut house = House::open(&api_at(&api.url())).await;
    let event = fixture("request.json");
    let mut sender = house.connect().await;
    let signature = sign(SECRET, event.as_bytes());
    let head = format!("expect: 100-continue\r\ncontent-length: {}\r\n", event.len());
    let signed = format!("circleci-event-type: job-completed\r\ncircleci-signature: {signature}\r\n");
    sender.write(format!("POST /circleci HTTP/1.1\r\nhost: relay\r\n{head}{signed}\r\n")).await;
    assert_eq!(sender.read().await.status, 100);
    let idle = house.connect().await;
    house.relay.tell_to_stop();
    idle.closes().await;
    sender.write(event).await;
    assert_eq!(sender.read().await.status, 204);
    let left = house.drained().await;
    assert_eq!(all_names(&left).len(), 1 + STEPS);
}

/// An API that never responds takes the whole time for requests in progress, and costs only the steps.
#[tokio::test]
async fn lookups_that_do_not_end_during_the_drain_are_counted() {
    let gate = Gate::new();
    let api = Api::with_answers([Answer::WaitAt(gate.clone())], cloud).await;
    let collector = Collector::start([]).await;
    let configuration = House::configuration(&collector.url()).replace(
        "cancel_settle: 0s",
        &format!("cancel_settle: 0s, api: {{ token: a-token, endpoint: \"{}\", timeout: 1h }}", api.url()),
    );
    let mut relay = Child::start(&configuration, &[]).await;
    assert_eq!(relay.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
    assert_eq!(names(&collector.take(1).await[0]), ["job: test"]);
    api.has_seen(1).await;
    relay.signal("TERM").await;
    let line = relay.logged("step lookups stopped; steps of these jobs left out").await;
    assert_eq!((&line["level"], &line["pending"]), (&"WARN".into(), &1.into()));
    assert_eq!(relay.ended().await, Some(0), "{}", relay.log());
    gate.open();
    collector.finish();
}

// --- the process ---

#[tokio::test]
async fn sigterm_and_sigint_drain_and_exit_with_0() {
    for signal in ["TERM", "INT"] {
        let collector = Collector::start([]).await;
        let held = House::configuration(&collector.url()).replace("wait: 0s", "wait: 1h");
        let mut child = Child::start(&held, &[]).await;
        assert_eq!(child.ask(Ask::post("/fastly", span(1, "held"))).await.status, 204);
        child.signal(signal).await;
        assert_eq!(child.ended().await, Some(0), "{signal}: {}", child.log());
        assert_eq!(names(&collector.take(1).await[0]), ["held"]);
        collector.finish();
        child.logged("drained").await;
    }
}

#[tokio::test]
async fn two_signals_at_once_are_one_and_do_not_skip_the_drain() {
    let collector = Collector::start([]).await;
    let held = House::configuration(&collector.url()).replace("wait: 0s", "wait: 1h");
    let mut child = Child::start(&held, &[]).await;
    assert_eq!(child.ask(Ask::post("/fastly", span(1, "held"))).await.status, 204);
    child.signal("INT").await;
    child.signal("TERM").await;
    assert_eq!(child.ended().await, Some(0), "{}", child.log());
    assert_eq!(names(&collector.take(1).await[0]), ["held"]);
    collector.finish();
}

#[tokio::test]
async fn a_second_signal_after_a_second_exits_at_once() {
    let gate = Gate::new();
    let collector = Collector::start([Answer::WaitAt(gate.clone())]).await;
    let mut child = Child::start(&House::configuration(&collector.url()), &[]).await;
    assert_eq!(child.ask(Ask::post("/fastly", span(1, "a"))).await.status, 204);
    collector.take(1).await;
    child.signal("TERM").await;
    child.logged("stopping; another signal after a second exits at once").await;
    let process = process_id(child.id());
    eventually("the process ends", async || {
        rustix::process::kill_process(process, signal_named("TERM")).ok();
        child.has_ended().then_some(())
    })
    .await;
    assert_eq!(child.ended().await, Some(128 + 15), "{}", child.log());
    gate.open();
    collector.finish();
}

/// Stands in for systemd, with a service of `Type=notify`.
#[tokio::test]
async fn a_service_manager_is_notified_of_the_start_and_of_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let next = async || {
        let mut bytes = [0; 64];
        let length = in_time("a notification", socket.recv(&mut bytes)).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut child = Child::deployed(&[("NOTIFY_SOCKET", path.to_str().unwrap())], &[]).await;
    assert_eq!(next().await, "READY=1");
    child.signal("TERM").await;
    assert_eq!(next().await, "STOPPING=1");
    assert_eq!(child.ended().await, Some(0));
}
