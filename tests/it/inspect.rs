//! The inspector's data: visible and hidden information.

use serde_json::Value;

use crate::harness::{
    Answer, Ask, Collector, House, Reply, TRACE, eventually, log, request_of, span, span_with,
};

/// Polls the changes after `since`, like the page.
pub(crate) async fn data(house: &House, since: u64) -> Value {
    let reply = ask(house, &format!("/inspect/data?since={since}"), "localhost").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

async fn ask(house: &House, path: &str, host: &str) -> Reply {
    Ask::get(path).with("host", host).to(house.relay.telemetry).await
}

/// Waits until the data satisfies the condition.
pub(crate) async fn told(house: &House, condition: impl Fn(&Value) -> bool) -> Value {
    eventually("the inspector's data", async || {
        let data = data(house, 0).await;
        condition(&data).then_some(data)
    })
    .await
}

fn states(data: &Value) -> Vec<&str> {
    data["exports"].as_array().unwrap().iter().map(|export| export["state"].as_str().unwrap()).collect()
}

/// Returns `true` if an export of the request was only counted.
pub(crate) fn is_not_followed(data: &Value, request: &Value) -> bool {
    let records = data["not_followed"]["records"].as_array().unwrap();
    records.contains(&request["record"])
        || request["record"].as_u64() < data["not_followed"]["before"].as_u64()
}

#[tokio::test]
async fn keeps_nothing_while_no_page_is_open() {
    let house = House::open("").await;
    house.batch(span(1, "unseen")).await;
    house.left_one().await;
    let before = data(&house, 0).await;
    assert_eq!((before["requests"].as_array().unwrap().len(), states(&before).len()), (0, 0));
    house.batch(span(2, "seen")).await;
    house.left_one().await;
    let after = told(&house, |data| states(data) == ["delivered"]).await;
    assert_eq!(after["requests"][0]["request"]["lines"][0]["contents"]["spans"][0]["name"], "seen");
    house.close().await;
}

#[tokio::test]
async fn shows_the_export_of_a_line_and_the_response_of_the_downstream() {
    let house = House::with_answers("", [Answer::status(503), Answer::json(200, "{}")]).await;
    data(&house, 0).await;
    house.batch(request_of(&[span(1, "GET /"), log(1, "cache miss")])).await;
    house.left(2).await;
    let data = told(&house, |data| states(data) == ["delivered"]).await;

    let request = &data["requests"][0]["request"];
    assert_eq!((&request["receiver"], &request["outcome"]), (&"fastly".into(), &"accepted".into()));
    assert_eq!(request["lines"][1]["contents"]["logs"][0]["span"], "0000000000000001");
    let export = &data["exports"][0];
    assert_eq!(export["export"]["records"][0], request["record"]);
    assert_eq!(export["export"]["contents"]["spans"][0]["events"][0]["name"], "cache miss");
    let outcomes: Vec<_> = export["attempts"].as_array().unwrap().iter().map(|a| &a["outcome"]).collect();
    assert_eq!(outcomes, ["retryable", "sent"]);
    assert!(export["attempts"][0]["answer"].as_str().unwrap().contains("503"));
    assert_eq!(data["retries"], 1);
    assert_eq!(data["downstream"][0]["endpoint"], house.collector.url().as_str());
    house.close().await;
}

#[tokio::test]
async fn hides_values_bodies_and_the_text_of_lines_by_default() {
    let secret = "hunter2secret";
    let span = span_with(
        TRACE,
        1,
        &format!(
            "\"name\":\"n\",\"attributes\":[{{\"key\":\"token\",\"value\":{{\"stringValue\":\"{secret}\"}}}}]"
        ),
    );
    let orphan = log(7, secret);
    let cut = &span[..span.len() - 20];
    let body = request_of(&[span.clone(), orphan, cut.to_owned(), format!("plain {secret}")]);
    for (setting, is_shown) in [("", false), ("telemetry.inspect.show_values: true", true)] {
        let house = House::open(setting).await;
        data(&house, 0).await;
        assert_eq!(house.ask(Ask::post("/fastly", body.clone())).await.status, 200);
        house.left(2).await;
        let data = told(&house, |data| states(data) == ["delivered", "delivered"]).await;
        assert_eq!(data["show_values"], is_shown);
        assert_eq!(data.to_string().contains(secret), is_shown, "{data:#}");
        assert!(data.to_string().contains("\"token\""), "keys are no secrets");
        house.close().await;
    }
}

#[tokio::test]
async fn a_poll_returns_only_changes() {
    let house = House::open("").await;
    let cursor = data(&house, 0).await["cursor"].as_u64().unwrap();
    house.batch(span(1, "one")).await;
    house.left_one().await;
    let first = told(&house, |data| states(data) == ["delivered"]).await;
    let seen = first["cursor"].as_u64().unwrap();
    assert!(seen > cursor);
    let nothing = data(&house, seen).await;
    assert_eq!((nothing["requests"].as_array().unwrap().len(), states(&nothing).len()), (0, 0));
    house.batch(span(2, "two")).await;
    house.left_one().await;
    let second = data(&house, seen).await;
    assert_eq!(second["requests"].as_array().unwrap().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn the_page_is_served_to_this_machine_only_and_loads_nothing_else() {
    let house = House::open("").await;
    let page = ask(&house, "/inspect", "127.0.0.1:13133").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    for path in ["/inspect", "/inspect/data"] {
        assert_eq!(ask(&house, path, "evil.example").await.status, 421);
        let posted = Ask::post(path, "").with("host", "localhost").to(house.relay.telemetry).await;
        assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    }
    assert_eq!(house.ask(Ask::get("/inspect")).await.status, 404, "never on the public port");
    house.close().await;
}

#[tokio::test]
async fn a_flood_is_counted_and_not_kept() {
    let collector = Collector::judging(|_| Answer::json(200, "{}")).await;
    let house = House::before(collector, "").await;
    data(&house, 0).await;
    let lines: Vec<String> = (1..=3000).map(|id| span(id, "flood")).collect();
    house.batch(request_of(&lines)).await;
    for _ in 0..100 {
        house.ask(Ask::post("/fastly", "plain text")).await;
    }
    house.left(3000).await;
    let data = told(&house, |data| data["counts"]["fastly"]["requests"]["rejected"] == 100).await;
    let request = &data["requests"][0]["request"];
    assert_eq!(request["counts"]["spans"], 3000);
    assert!(request["lines"].as_array().unwrap().len() < 100);
    assert!(data["exports"].as_array().unwrap().len() < 3000);
    assert!(data["exports_left_out"].as_u64().unwrap() > 0, "{data:#}");
    assert!(is_not_followed(&data, request), "{data:#}");
    house.close().await;
}
