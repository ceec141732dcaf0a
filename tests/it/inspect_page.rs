//! The inspector's page in a real browser: it shows the requests, and their content never acts on it.

use serde_json::json;

use crate::harness::browser::{Browser, DESK, PHONE, Screen};
use crate::harness::{Answer, Ask, Gate, House, TRACE, eventually, log, request_of, span, span_with};
use crate::inspect::{data, is_not_followed, told};

/// A second trace id.
pub(crate) const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const HOSTILE: [&str; 4] = [
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "<a href='javascript:window.pwned=1'>x</a>",
    "${window.pwned=1}{{constructor.constructor('window.pwned=1')()}}",
];

/// Opens the page of this relay and waits until it is live. Every test opens the browser first, so that nothing is left
/// unfinished without one.
pub(crate) async fn look(browser: &Browser, house: &House) {
    browser.go_to(&format!("http://localhost:{}/inspect", house.relay.telemetry.port())).await;
    browser.until("document.querySelector('#state').dataset.state === 'live'").await;
}

/// Checks that the page had no errors and sent requests to the relay only, then closes everything.
pub(crate) async fn ends_well(browser: Browser, house: House) {
    leaves_well(browser, &house).await;
    house.close().await;
}

/// Checks like [`ends_well`], for a relay that still holds spans.
pub(crate) async fn leaves_well(browser: Browser, house: &House) {
    assert_eq!(browser.console().await, Vec::<String>::new());
    assert_eq!(browser.value("window.pwned === undefined").await, true);
    let own = format!("http://localhost:{}/inspect", house.relay.telemetry.port());
    let addresses = browser.addresses().await;
    assert!(addresses.len() > 1, "the page asks for its data: {addresses:?}");
    let others: Vec<_> =
        addresses.iter().filter(|address| !address.starts_with(&own) && *address != "data:,").collect();
    assert!(others.is_empty(), "{others:?}");
    browser.close().await;
}

/// Returns a script that selects an option like a user; it evaluates to the value if the option exists.
pub(crate) fn choose(id: &str, value: &str) -> String {
    format!(
        "(() => {{ const s = document.querySelector('{id}'); s.value = '{value}'; \
         s.dispatchEvent(new Event('input', {{ bubbles: true }})); return s.value; }})()"
    )
}

/// Counts the requests that pass the filters.
pub(crate) const SHOWN: &str =
    "[...document.querySelectorAll('#request-list > details:not([hidden])')].length";

pub(crate) fn timed(trace: &str, id: u64, name: &str, parent: &str) -> String {
    let parent = if parent.is_empty() { String::new() } else { format!(",\"parentSpanId\":\"{parent}\"") };
    let members = format!(
        "\"name\":\"{name}\",\"startTimeUnixNano\":\"1655990400000000000\",\"endTimeUnixNano\":\"1655990400500000000\"\
         {parent},\"attributes\":[{{\"key\":\"user.email\",\"value\":{{\"stringValue\":\"jo@example.org\"}}}}]"
    );
    span_with(trace, id, &members)
}

#[tokio::test]
async fn the_page_shows_requests_exports_and_responses() {
    let Some(browser) = Browser::open("the_page_shows_what_was_sent", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let good = timed(TRACE, 1, "GET /checkout", "");
    let child = timed(TRACE, 2, "fetch backend", "0000000000000001");
    let bad = good.replace("jo@example.org", "cut off h").split_at(250).0.to_owned();
    let lines = [good, child, log(1, "cache miss"), log(1, "deliver"), bad];
    let reply = house.ask(Ask::post("/fastly", request_of(&lines))).await;
    assert_eq!(reply.status, 200);
    house.left(2).await;
    browser.until("document.querySelectorAll('#request-list details').length === 1").await;
    browser.until("document.querySelectorAll('.tag')[0] && document.querySelector('#request-list').innerText.includes('delivered')").await;

    browser.click("#request-list summary").await;
    browser.until("document.querySelector('#request-list').innerText.includes('ends too early')").await;
    let shown = browser.text("#request-list").await;
    let target = house.collector.url();
    for expected in [
        "fastly",
        "partial",
        "GET /checkout",
        "2 events: ",
        "cache miss",
        "deliver",
        "attached to its span",
        "line 5, column 251",
        "the line ends too early",
        "the line was truncated",
        &format!("→ traces to {target}: accepted after"),
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    assert!(
        !browser.value("document.documentElement.outerHTML.includes('example.org')").await.as_bool().unwrap()
    );

    let trace = format!("[data-trace='{TRACE}']");
    assert!(browser.text(&trace).await.contains("2 spans, 2 events"));
    assert_eq!(browser.value(&format!("document.querySelectorAll({trace:?} + ' .bar').length")).await, 2);
    assert_eq!(browser.value(&format!("document.querySelectorAll({trace:?} + ' .tick').length")).await, 2);
    let order = format!("[...document.querySelectorAll({trace:?} + ' .label')].map(l => l.textContent)");
    assert_eq!(browser.value(&order).await, json!(["GET /checkout", "fetch backend"]));
    browser.click(&format!("{trace} summary")).await;
    let inside = browser.text(&format!("{trace} details[open]")).await;
    assert!(inside.contains("user.email") && inside.contains("•••"), "{inside}");
    assert!(browser.text("[data-receiver=fastly]").await.contains("1 line rejected"));
    ends_well(browser, house).await;
}

#[tokio::test]
async fn hostile_strings_stay_text_even_if_values_are_shown() {
    let refuse = |request: &crate::harness::Recorded| match request.text().contains("refuse-me") {
        true => Answer::json(400, &json!({"message": HOSTILE[0]}).to_string()),
        false => Answer::json(200, "{}"),
    };
    let Some(browser) = Browser::open("hostile_strings_stay_text", DESK).await else { return };
    let collector = crate::harness::Collector::judging(refuse).await;
    let house = House::before(collector, "telemetry.inspect.show_values: true").await;
    look(&browser, &house).await;
    let mut lines = Vec::new();
    for (id, hostile) in HOSTILE.iter().enumerate() {
        let text = serde_json::Value::from(*hostile);
        let members = format!(
            "\"name\":{text},\"startTimeUnixNano\":\"5\",\"endTimeUnixNano\":\"9\",\"attributes\":[{{\"key\":{text},\"value\":{{\"stringValue\":{text}}}}}],\
             \"events\":[{{\"name\":{text},\"timeUnixNano\":\"7\"}}]"
        );
        lines.push(span_with(OTHER, id as u64 + 1, &members));
        lines.push(format!("plain {hostile}"));
    }
    lines.push(span(9, "refuse-me"));
    assert_eq!(house.ask(Ask::post("/fastly", request_of(&lines))).await.status, 200);
    house.left(5).await;
    assert_eq!(house.ask(Ask::post("/%3Cimg%20src=x%3E", "x")).await.status, 404);
    browser.until("document.querySelectorAll('#request-list details').length === 2").await;
    browser.until("document.querySelector('#request-list').innerText.includes('rejected downstream')").await;
    // Open everything.
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)").await;
    browser
        .until("document.querySelector('#request-list').innerText.includes('no receiver has this path')")
        .await;
    let shown = browser.text("main").await;
    for hostile in HOSTILE {
        assert!(shown.matches(hostile).count() >= 3, "{hostile}\n{shown}");
    }
    assert_eq!(browser.value("document.querySelectorAll('main img, main script, main a').length").await, 0);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn filters_select_requests_and_pause_freezes_the_page() {
    let Some(browser) = Browser::open("filters_and_pause", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let shown = SHOWN;
    let traces = "[...document.querySelectorAll('#trace-list > article')].map(t => t.dataset.trace)";
    house.batch(timed(TRACE, 1, "one", "")).await;
    house.batch(timed(OTHER, 2, "two", "")).await;
    house.left(2).await;
    assert_eq!(house.ask(Ask::post("/fastly", "plain text")).await.status, 400);
    assert_eq!(house.ask(Ask::post("/circleci", "{}").with("circleci-signature", "v1=00")).await.status, 401);
    browser.until(&format!("{shown} === 4")).await;

    // By keyboard only: the slash focuses the trace id, escape clears it.
    browser.press(&["/"]).await;
    browser.press(&["4", "b", "f", "9"]).await;
    browser.until(&format!("{shown} === 1")).await;
    assert_eq!(browser.value(traces).await, json!([OTHER]));
    browser.press(&["\u{e00c}"]).await;
    browser.until(&format!("{shown} === 4")).await;

    for (id, value, expected) in [
        ("#by-receiver", "circleci", 1),
        ("#by-receiver", "fastly", 3),
        ("#by-receiver", "", 4),
        ("#by-outcome", "unauthorized", 1),
        ("#by-outcome", "rejected", 1),
        ("#by-outcome", "out:delivered", 2),
        ("#by-outcome", "", 4),
    ] {
        assert_eq!(browser.value(&choose(id, value)).await, value);
        browser.until(&format!("{shown} === {expected}")).await;
    }

    browser.click("h1").await;
    browser.press(&["p"]).await;
    assert_eq!(browser.value("document.querySelector('#pause').getAttribute('aria-pressed')").await, "true");
    assert!(browser.text("#pause").await.starts_with("Resume"));
    house.batch(timed(TRACE, 3, "while paused", "")).await;
    house.left_one().await;
    // The relay has reported it by now; a page that is not paused would show it after the next poll.
    let asked = "fetch('/inspect/data?since=0').then(r => r.json()).then(d => d.requests.length)";
    browser.until(&format!("{asked}.then(n => n === 5)")).await;
    assert_eq!(browser.value(shown).await, 4);
    browser.press(&["p"]).await;
    browser.until(&format!("{shown} === 5")).await;
    ends_well(browser, house).await;
}

#[tokio::test]
async fn fits_a_phone_and_follows_the_colour_scheme() {
    let Some(browser) = Browser::open("fits_a_phone", PHONE).await else { return };
    let house = House::open("telemetry.inspect.show_values: true").await;
    look(&browser, &house).await;
    let long = "unbroken".repeat(14);
    house.batch(timed(TRACE, 1, &long, "").replace("jo@example.org", &"x".repeat(900))).await;
    house.left_one().await;
    house.ask(Ask::post("/fastly", format!("{{\"{}", "y".repeat(4000)))).await;
    browser.until("document.querySelectorAll('#request-list details').length === 2").await;
    browser.until("document.querySelectorAll('#trace-list article').length === 1").await;
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)").await;
    browser.until("document.querySelector('#request-list').innerText.includes('ends too early')").await;
    assert_eq!(browser.value("innerWidth").await, PHONE.width);
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, PHONE.width);

    let background = "getComputedStyle(document.body).backgroundColor";
    let light = browser.value(background).await;
    browser.show_on(Screen { scheme: "dark", ..PHONE }).await;
    assert_ne!(browser.value(background).await, light);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_policy_blocks_foreign_scripts() {
    let Some(browser) = Browser::open("the_policy_stops_a_script", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let plant = "(() => { const s = document.createElement('script'); s.textContent = 'window.planted = 1'; \
                 document.body.append(s); return window.planted === undefined; })()";
    assert_eq!(browser.value(plant).await, true);
    let console = browser.console().await;
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:?}");
    browser.close().await;
    house.close().await;
}

#[tokio::test]
async fn exports_that_were_only_counted_are_shown_as_not_followed() {
    let Some(browser) = Browser::open("what_is_only_counted", DESK).await else { return };
    let collector = crate::harness::Collector::judging(|_| Answer::json(200, "{}")).await;
    // With this `wait`, spans could still be held at their age, if they fitted.
    let setting = "processors.span_events.wait: 600s\nprocessors.span_events.max_held_bytes: 1B";
    let house = House::before(collector, setting).await;
    look(&browser, &house).await;
    // More exports per second than the page shows, until all exports of one request are omitted.
    let id = eventually("a request is not followed at all", async || {
        for request in 0..2 {
            let lines: Vec<String> = (1..=300).map(|id| span(300 * request + id, "flood")).collect();
            house.batch(request_of(&lines)).await;
        }
        house.left(600).await;
        let data = data(&house, 0).await;
        let is_seen = |request: &serde_json::Value| {
            let exports = data["exports"].as_array().unwrap();
            exports.iter().any(|export| export["export"]["records"][0] == request["record"])
        };
        let requests = data["requests"].as_array().unwrap();
        let unseen = requests.iter().find(|entry| !is_seen(&entry["request"]))?;
        assert!(is_not_followed(&data, &unseen["request"]), "{data:#}");
        Some(unseen["id"].clone())
    })
    .await;

    let entry = format!("#request-list [data-id=\"{id}\"]");
    browser
        .until(&format!("document.querySelector('{entry} summary')?.innerText.includes('not followed')"))
        .await;
    browser.click(&format!("{entry} summary")).await;
    let tags = format!("[...document.querySelectorAll('{entry} .item .tag')].map(t => t.textContent)");
    browser.until(&format!("{tags}.length === 60 && {tags}.every(t => t === 'not followed')")).await;
    browser.until("[...document.querySelectorAll('main .tag')].every(t => t.textContent !== 'held')").await;
    assert_eq!(browser.value(&choose("#by-outcome", "out:waiting")).await, "out:waiting");
    browser.until(&format!("{SHOWN} === 0")).await;
    ends_well(browser, house).await;
}

#[tokio::test]
async fn a_log_event_waits_for_its_span_unless_it_was_dropped() {
    let Some(browser) = Browser::open("a_log_event_waits", DESK).await else { return };
    let waiting = House::open("processors.span_events.wait: 600s").await;
    look(&browser, &waiting).await;
    waiting.batch(log(1, "early")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert_eq!(browser.value(&choose("#by-outcome", "out:waiting")).await, "out:waiting");
    browser.until(&format!("{SHOWN} === 1")).await;
    assert!(browser.text("#request-list summary").await.contains("held"));
    leaves_well(browser, &waiting).await;
    assert_eq!(waiting.drained().await.len(), 1, "as a log");

    let Some(browser) = Browser::open("a_log_event_waits", DESK).await else { return };
    let dropping = House::open("processors.span_events.unmatched: drop").await;
    look(&browser, &dropping).await;
    dropping.batch(log(1, "late")).await;
    browser.until("document.querySelector('#request-list').innerText.includes('not followed')").await;
    browser.value(&choose("#by-outcome", "out:waiting")).await;
    browser.until(&format!("{SHOWN} === 0")).await;
    ends_well(browser, dropping).await;
}

#[tokio::test]
async fn requests_refused_by_the_queue_are_not_in_the_pipeline() {
    let Some(browser) = Browser::open("what_the_queue_refused", DESK).await else { return };
    let house = House::open("queue.max_size: 64KiB").await;
    look(&browser, &house).await;
    let large: Vec<String> = (1..=1000).map(|id| span(id, "large")).collect();
    let reply = house.ask(Ask::post("/fastly", request_of(&large))).await;
    assert!(reply.status >= 400, "{}", reply.status);
    browser.until(&format!("{SHOWN} === 1")).await;
    browser.click("#request-list summary").await;
    browser.until("document.querySelectorAll('#request-list .item').length === 60").await;
    assert_eq!(browser.value("document.querySelectorAll('#request-list .item .tag').length").await, 0);
    browser.value(&choose("#by-outcome", "out:waiting")).await;
    browser.until(&format!("{SHOWN} === 0")).await;
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_focus_is_kept_when_a_trace_changes() {
    let Some(browser) = Browser::open("the_keyboard_stays", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    house.batch(timed(TRACE, 1, "first", "")).await;
    house.left_one().await;
    let of_span = format!("[data-trace='{TRACE}'] [data-span='0000000000000001'] summary");
    let of_trace = format!("[data-trace='{TRACE}'] button.link");
    browser
        .until(&format!("document.querySelector(\"{of_span}\")?.parentElement.innerText.includes('first')"))
        .await;
    for (id, place) in (2..).zip([&of_span, &of_trace]) {
        let is_focused = format!("document.activeElement === document.querySelector(\"{place}\")");
        browser.value(&format!("document.querySelector(\"{place}\").focus()")).await;
        assert_eq!(browser.value(&is_focused).await, true);
        // One trace that is drawn above it, and one span that redraws it.
        house.batch(timed(OTHER, id, "elsewhere", "")).await;
        house.batch(timed(TRACE, id, "second", "")).await;
        house.left(2).await;
        browser.until(&format!("document.querySelector(\"[data-span='{id:016x}']\") !== null")).await;
        browser
            .until(&format!(
                "document.querySelectorAll(\"[data-trace='{TRACE}'] [data-span]\").length === {id}"
            ))
            .await;
        assert_eq!(browser.value(&is_focused).await, true);
    }
    // Keyboard navigation continues from there.
    browser.value(&format!("document.querySelector(\"{of_span}\").focus()")).await;
    browser.press(&["\u{e007}"]).await;
    browser.until(&format!("document.querySelector(\"{of_span}\").parentElement.open")).await;
    ends_well(browser, house).await;
}

/// Returns the text of a card of the pipeline.
async fn card(browser: &Browser, name: &str) -> String {
    browser.text(&format!("[data-way={name}]")).await
}

#[tokio::test]
async fn a_repaired_line_shows_the_repair_and_the_advice() {
    let Some(browser) = Browser::open("a_repaired_line", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let good = timed(TRACE, 1, "GET /", "");
    let null = timed(TRACE, 2, "no parent", "(null)").replace("\"(null)\"", "(null)");
    let comma = timed(TRACE, 3, "comma", "").replace("}}]}]}", "}},]}]}");
    let reply = house.ask(Ask::post("/fastly", request_of(&[good, null, comma]))).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    house.left(3).await;
    let told = told(&house, |data| data["counts"]["fastly"]["items"]["repaired"] == 2).await;
    let lines = &told["requests"][0]["request"]["lines"];
    assert_eq!((&lines[0]["verdict"], &lines[1]["verdict"]), (&"accepted".into(), &"repaired".into()));
    assert_eq!(lines[1]["repairs"][0]["what"], "read (null) as no value");

    browser.until(&format!("{SHOWN} === 1")).await;
    browser.click("#request-list summary").await;
    browser.until("document.querySelectorAll('#request-list [data-verdict=repaired]').length === 2").await;
    for (line, what, advice) in [
        (0, "read (null) as no value", "leave the member out"),
        (1, "removed a trailing comma", "remove the comma before"),
    ] {
        let text = format!("document.querySelectorAll('[data-verdict=repaired]')[{line}].innerText");
        let text = browser.value(&text).await;
        let text = text.as_str().unwrap();
        assert!(text.contains("repaired") && text.contains(what) && text.contains(advice), "{text}");
    }
    assert!(browser.text("#request-list summary").await.contains("2 repaired"));
    assert!(browser.text("[data-receiver=fastly]").await.contains("2 lines repaired"));
    browser.value(&choose("#by-outcome", "repaired")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_cards_show_held_queued_and_exporting_data_and_the_last_response() {
    let Some(browser) = Browser::open("the_cards_say", DESK).await else { return };
    let house = House::open("processors.span_events.wait: 600s").await;
    look(&browser, &house).await;
    browser.until("document.querySelector('[data-way=held]')?.innerText.includes('0 spans')").await;
    assert!(card(&browser, "queue").await.contains("empty"));
    house.batch(request_of(&[span(1, "one"), span(2, "two")])).await;
    browser.until("document.querySelector('[data-way=held]').innerText.includes('2 spans')").await;
    let told = told(&house, |data| data["held"]["spans"] == 2).await;
    assert!(
        told["held"]["bytes"].as_u64().unwrap() > 0 && told["queue"]["bytes"].as_u64().unwrap() > 0,
        "{told:#}"
    );
    browser.until("document.querySelector('[data-way=queue]').innerText.includes('oldest')").await;
    // A queue in memory may take half of server.max_inflight_bytes.
    let queue = card(&browser, "queue").await;
    assert!(queue.contains(" of 128.0 MiB"), "{queue}");
    assert!(card(&browser, "out").await.contains("0 requests"));
    browser.value(&choose("#by-outcome", "out:waiting")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert!(browser.text("#request-list summary").await.contains("held"));
    browser.value(&choose("#by-outcome", "out:delivered")).await;
    browser.until(&format!("{SHOWN} === 0")).await;
    leaves_well(browser, &house).await;
    assert_eq!(house.drained().await.len(), 2);

    let (first, later) = (Gate::new(), Gate::new());
    let answers = [
        Answer::WaitAt(first.clone()),
        Answer::status(503),
        Answer::WaitAt(later.clone()),
        Answer::status(400),
    ];
    let Some(browser) = Browser::open("the_cards_say", DESK).await else { return };
    let house = House::with_answers("exporters.otlp_http.max_in_flight: 1", answers).await;
    look(&browser, &house).await;
    house.batch(span(1, "one")).await;
    house.batch(span(2, "two")).await;
    let ways = async |browser: &Browser, expected: [&str; 4]| {
        let holds = expected.map(|word| format!("text.includes('{word}')")).join(" && ");
        let text = "document.querySelector('[data-way=out]').innerText";
        browser.until(&format!("(text => {holds})({text})")).await;
    };
    ways(&browser, ["2 requests", "1 sending", "1 queued", "0 retrying"]).await;
    browser.value(&choose("#by-outcome", "out:waiting")).await;
    browser.until(&format!("{SHOWN} === 2")).await;
    browser.value(&choose("#by-outcome", "out:retrying")).await;
    browser.until(&format!("{SHOWN} === 0")).await;

    // The first is delivered, and the second is retried.
    first.open();
    ways(&browser, ["1 request", "0 queued", "1 retrying", "1 attempt failed"]).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert!(browser.text("#request-list > details:not([hidden]) summary").await.contains("retrying"));
    assert!(card(&browser, "downstream").await.contains("503"), "{}", card(&browser, "downstream").await);
    later.open();
    browser.until(&format!("{SHOWN} === 0")).await;
    browser.value(&choose("#by-outcome", "out:delivered")).await;
    browser.until(&format!("{SHOWN} === 2")).await;
    house.batch(span(3, "three")).await;
    browser.value(&choose("#by-outcome", "out:rejected")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    ways(&browser, ["0 requests", "0 queued", "0 sending", "0 retrying"]).await;
    assert!(card(&browser, "downstream").await.contains("400"));
    house.left(4).await;
    ends_well(browser, house).await;
}
