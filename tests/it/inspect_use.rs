//! Using the inspector's page: search, shared addresses, copying, links, tabs, and what to do while nothing arrives.

use serde_json::json;

use crate::harness::browser::{Browser, DESK, PHONE};
use crate::harness::{Ask, House, TRACE, request_of, span, span_with};
use crate::inspect::told;
use crate::inspect_page::{OTHER, SHOWN, choose, ends_well, look, timed};

const TRACES_SHOWN: &str =
    "[...document.querySelectorAll('#trace-list > article')].map(t => t.dataset.trace)";

/// Returns a script that writes into the search field like a user.
fn search(text: &str) -> String {
    choose("#by-text", text)
}

/// Returns the address of the page with this query.
fn address(house: &House, query: &str) -> String {
    format!("http://localhost:{}/inspect{query}", house.relay.telemetry.port())
}

#[tokio::test]
async fn the_search_finds_ids_names_services_attributes_and_reasons() {
    let Some(browser) = Browser::open("the_search", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let in_service = timed(TRACE, 1, "GET /checkout", "").replace(
        "{\"scopeSpans\"",
        r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans""#,
    );
    house.batch(in_service).await;
    house.batch(span_with(OTHER, 2, "\"name\":\"PUT /cart\"")).await;
    house.left(2).await;
    assert_eq!(house.ask(Ask::post("/fastly", "plain text")).await.status, 400);
    browser.until(&format!("{SHOWN} === 3")).await;
    for (text, requests, traces) in [
        ("shop", 1, vec![TRACE]),
        ("CHECKOUT", 1, vec![TRACE]),
        ("user.email", 1, vec![TRACE]),
        (&OTHER[..9], 1, vec![OTHER]),
        ("0000000000000002", 1, vec![OTHER]),
        ("shop get", 1, vec![TRACE]),
        ("shop cart", 0, vec![]),
        ("not a json object", 1, vec![]),
        // Values are hidden, so that they cannot be found.
        ("example.org", 0, vec![]),
        ("", 3, vec![OTHER, TRACE]),
    ] {
        browser.value(&search(text)).await;
        browser.until(&format!("{SHOWN} === {requests}")).await;
        assert_eq!(browser.value(TRACES_SHOWN).await, json!(traces), "{text}");
    }
    // A trace is selected by its id.
    browser.click(&format!("[data-trace='{OTHER}'] button.link")).await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert_eq!(browser.value("document.querySelector('#by-text').value").await, OTHER);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn filters_and_tab_are_in_the_address_and_come_from_it() {
    let Some(browser) = Browser::open("filters_in_the_address", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    house.batch(span(1, "one")).await;
    house.left_one().await;
    assert_eq!(house.ask(Ask::post("/circleci", "{}")).await.status, 401);
    browser.until(&format!("{SHOWN} === 2")).await;
    assert_eq!(browser.value("location.search").await, "");
    browser.value(&search("a & b=c")).await;
    browser.value(&choose("#by-receiver", "circleci")).await;
    browser.value(&choose("#by-outcome", "unauthorized")).await;
    let written = browser.value("location.search").await;
    assert_eq!(written, "?q=a+%26+b%3Dc&receiver=circleci&outcome=unauthorized");
    browser.value(&search("")).await;
    let shared = browser.value("location.search").await;
    let shared = shared.as_str().unwrap().to_owned();
    browser.click("#clear").await;
    browser.until("location.search === ''").await;
    browser.until(&format!("{SHOWN} === 2")).await;

    browser.go_to(&address(&house, &format!("{shared}&tab=traces"))).await;
    browser.until("document.querySelector('#state').dataset.state === 'live'").await;
    browser.until(&format!("{SHOWN} === 1")).await;
    assert_eq!(browser.value("document.querySelector('#by-receiver').value").await, "circleci");
    assert_eq!(browser.value("document.querySelector('#by-outcome').value").await, "unauthorized");
    assert_eq!(browser.value("document.body.dataset.tab").await, "traces");

    // Values that do not exist are ignored, and content of the address is text.
    let odd = "?q=%3Cimg%20src=x%20onerror=window.pwned=1%3E&receiver=none-such&outcome=odd&tab=odd";
    browser.go_to(&address(&house, odd)).await;
    browser.until("document.querySelector('#state').dataset.state === 'live'").await;
    browser.until("document.querySelector('#by-receiver').value === ''").await;
    assert_eq!(browser.value("document.querySelector('#by-outcome').value").await, "");
    assert_eq!(browser.value("document.body.dataset.tab").await, "requests");
    assert_eq!(browser.value("document.querySelectorAll('img').length").await, 0);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn ids_excerpts_and_commands_are_copied() {
    let Some(browser) = Browser::open("ids_are_copied", DESK).await else { return };
    browser.allow_clipboard().await;
    let house = House::open("").await;
    look(&browser, &house).await;
    let copied = "navigator.clipboard.readText()";
    browser.until("document.querySelector('#start button.copy') !== null").await;
    browser.click("#start button.copy").await;
    browser.until("document.querySelector('#start button.copy').textContent === 'Copied'").await;
    let command = browser.value("document.querySelector('#start pre').textContent").await;
    assert_eq!(browser.value(copied).await, command);

    let bad = timed(TRACE, 2, "cut", "");
    let bad = bad[..bad.len() - 20].to_owned();
    let reply = house.ask(Ask::post("/fastly", request_of(&[timed(TRACE, 1, "one", ""), bad]))).await;
    assert_eq!(reply.status, 200);
    house.left_one().await;
    browser.until(&format!("document.querySelector(\"[data-trace='{TRACE}'] button.copy\") !== null")).await;
    browser.click(&format!("[data-trace='{TRACE}'] button.copy")).await;
    browser.until(&format!("{copied}.then(text => text === '{TRACE}')")).await;

    browser.click("#request-list summary").await;
    browser.click("#request-list pre + div button.copy").await;
    browser.until(&format!("{copied}.then(text => text.includes('\"key\":\"user.email\",\"value\"'))")).await;
    let excerpt = browser.value(copied).await;
    assert!(!excerpt.as_str().unwrap().contains("example"), "{excerpt}");
    ends_well(browser, house).await;
}

#[tokio::test]
async fn a_trace_links_to_the_configured_page_and_to_none_without_it() {
    let Some(browser) = Browser::open("a_trace_links", DESK).await else { return };
    let link = "telemetry.inspect.trace_link: \"https://traces.example/t/{trace_id}?of={trace_id}\"";
    let house = House::open(link).await;
    look(&browser, &house).await;
    house.batch(timed(TRACE, 1, "one", "")).await;
    house.left_one().await;
    let anchor = format!("document.querySelector(\"[data-trace='{TRACE}'] a\")");
    browser.until(&format!("{anchor} !== null")).await;
    let href = browser.value(&format!("{anchor}.getAttribute('href')")).await;
    assert_eq!(href, format!("https://traces.example/t/{TRACE}?of={TRACE}"));
    assert_eq!(browser.value(&format!("{anchor}.rel")).await, "noopener noreferrer");
    assert_eq!(browser.text(&format!("[data-trace='{TRACE}'] a")).await, "Open in traces.example");
    ends_well(browser, house).await;

    let Some(browser) = Browser::open("a_trace_links", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    house.batch(timed(TRACE, 1, "one", "")).await;
    house.left_one().await;
    browser.until(&format!("{TRACES_SHOWN}.length === 1")).await;
    assert_eq!(browser.value("document.querySelectorAll('main a').length").await, 0);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn on_a_phone_traces_are_one_tap_away() {
    let Some(browser) = Browser::open("on_a_phone", PHONE).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    for id in 1..=30 {
        house.batch(timed(TRACE, id, "one of many", "")).await;
    }
    house.left(30).await;
    browser.until(&format!("{SHOWN} === 30")).await;
    let is_visible = |id: &str| format!("document.querySelector('{id}').checkVisibility()");
    assert_eq!(browser.value(&is_visible("#requests")).await, true);
    assert_eq!(browser.value(&is_visible("#traces")).await, false);
    browser.click("#tabs [data-of=traces]").await;
    assert_eq!(browser.value(&is_visible("#requests")).await, false);
    // On the first screen, without scrolling.
    let top =
        browser.value("document.querySelector('#trace-list > article').getBoundingClientRect().top").await;
    assert!(top.as_f64().unwrap() < f64::from(PHONE.height) / 2.0, "{top}");
    assert_eq!(browser.value("scrollY").await, 0);
    assert_eq!(browser.value("location.search").await, "?tab=traces");

    // By keyboard: the arrows move between the tabs.
    browser.value("document.querySelector('#tabs [data-of=traces]').focus()").await;
    browser.press(&["\u{e014}"]).await;
    let focused = "document.activeElement.dataset.of";
    assert_eq!(browser.value(focused).await, "overview");
    assert_eq!(browser.value(&is_visible("#overview")).await, true);
    browser.press(&["\u{e012}"]).await;
    assert_eq!(browser.value(focused).await, "traces");
    assert_eq!(browser.value("document.activeElement.getAttribute('aria-selected')").await, "true");
    browser.show_on(DESK).await;
    for section in ["#overview", "#requests", "#traces"] {
        assert_eq!(browser.value(&is_visible(section)).await, true, "{section}");
    }
    assert_eq!(browser.value(&is_visible("#tabs")).await, false);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_empty_page_has_a_command_that_makes_it_show_a_trace() {
    let Some(browser) = Browser::open("the_empty_page", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    browser.until("document.querySelector('#start pre') !== null").await;
    let command = browser.text("#start pre").await;
    let url = format!("http://{}/fastly", house.relay.address);
    let [start, json, end] = command.rsplitn(4, '\'').collect::<Vec<_>>()[..3] else { panic!("{command}") };
    assert_eq!((start.trim(), end.ends_with("--data-binary ")), (url.as_str(), true), "{command}");
    house.batch(json.to_owned()).await;
    house.left_one().await;
    browser.until(&format!("{TRACES_SHOWN}.length === 1")).await;
    assert_eq!(browser.value("document.querySelector('#start').hidden").await, true);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_command_names_the_header_of_a_receiver_with_authentication_and_not_its_token() {
    let house = House::open("receivers.fastly.auth: { header: x-fastly-token, values: [hunter2] }").await;
    let data = told(&house, |data| data["receivers"][0]["id"] == "fastly").await;
    assert_eq!(data["receivers"][0]["headers"], json!(["x-fastly-token"]));
    assert!(!data.to_string().contains("hunter2"));
    if let Some(browser) = Browser::open("the_command", DESK).await {
        look(&browser, &house).await;
        browser.until("document.querySelector('#start pre') !== null").await;
        let command = browser.text("#start pre").await;
        assert!(command.contains(" -H \"x-fastly-token: $TOKEN\""), "{command}");
        browser.close().await;
    }
    house.close().await;
}

#[tokio::test]
async fn counts_say_since_when() {
    let Some(browser) = Browser::open("counts_say", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let data = told(&house, |data| data["counting_since_ms"].as_u64() > Some(0)).await;
    let since = data["counting_since_ms"].as_u64().unwrap();
    let clock = format!("new Date({since}).toLocaleTimeString('en-GB')");
    let clock = browser.value(&clock).await.as_str().unwrap().to_owned();
    assert_eq!(
        browser.text("#receivers-since").await,
        format!("counts since {clock}, rates over 10 s, curves over 60 s")
    );
    assert_eq!(browser.text("#way-since").await, format!("now; failed attempts since {clock}"));
    ends_well(browser, house).await;
}
