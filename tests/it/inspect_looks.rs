//! The look of the inspector's page: contrast, signs next to colours, and the waterfall.

use serde_json::json;

use crate::harness::browser::{Browser, DESK, PHONE, Screen};
use crate::harness::{Ask, House, TRACE, log, request_of, span_with};
use crate::inspect_page::{ends_well, leaves_well, look, timed};
use crate::inspect_problems::Downstream;

/// Returns every text and graphic of the page whose contrast is below WCAG's minimum: 4.5 for text (1.4.3), 3 for graphics
/// and the edges of controls (1.4.11). A graphic that is missing is returned, too.
const LOW_CONTRAST: &str = r#"(() => {
  const rgba = colour => { const n = colour.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const luminance = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
  const ratio = (one, other) => { const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b); return (high + .05) / (low + .05); };
  const behind = node => { for (let n = node; n; n = n.parentElement) { const colour = rgba(getComputedStyle(n).backgroundColor); if (colour[3] === 1) return colour; } throw new Error('no background'); };
  const low = [];
  const check = (what, colour, ground, least) => { const found = ratio(rgba(colour), ground); if (!(found >= least)) low.push(what + ': ' + found.toFixed(2)); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const parent = text.parentElement;
    if (!text.data.trim() || !parent.checkVisibility() || parent.closest('option, optgroup')) continue;
    texts++;
    check('text ' + text.data.trim().slice(0, 40), getComputedStyle(parent).color, behind(parent), 4.5);
  }
  if (texts < 40) low.push('only ' + texts + ' texts');
  for (const [selector, pseudo, property, outside] of [
    ['.bar:not(.held):not(.error)', null, 'backgroundColor', true], ['.bar.held:not(.error)', null, 'borderTopColor', true],
    ['.bar.error', null, 'outlineColor', true], ['.tick', null, 'backgroundColor', true], ['.meter i', null, 'backgroundColor', true],
    ['svg.spark path', null, 'stroke', true], ['.banner', null, 'borderLeftColor', true],
    ['input, select', null, 'borderTopColor', false], ['button:not(.link):not([role=tab])', null, 'borderTopColor', true],
    ['#state', '::before', 'backgroundColor', true], ['pre mark', null, 'backgroundColor', true],
    ['.tag.bad', '::before', 'color', false], ['.tag.good', '::before', 'color', false], ['.tag.warn', '::before', 'color', false],
  ]) {
    const nodes = [...document.querySelectorAll(selector)].filter(node => node.checkVisibility());
    if (!nodes.length) low.push('none of ' + selector);
    for (const node of nodes) check(selector, getComputedStyle(node, pseudo)[property], behind(outside && !pseudo ? node.parentElement : node), 3);
  }
  return low;
})()"#;

/// A span of a service, with a start and an end in nanoseconds.
fn in_service(service: &str, id: u64, members: &str) -> String {
    span_with(TRACE, id, members).replace(
        "{\"scopeSpans\"",
        &format!(r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans""#),
    )
}

fn times(name: &str, start: u64, end: u64) -> String {
    format!("\"name\":\"{name}\",\"startTimeUnixNano\":\"{start}\",\"endTimeUnixNano\":\"{end}\"")
}

/// Returns a ping of CircleCI, which is never held.
fn ping(first: &str) -> String {
    format!(
        r#"{{"type":"ping","id":"{first}e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}}"#
    )
}

/// Fills the page with everything that has a colour: bars of each kind, tags of each mood, an excerpt, a banner.
async fn fill(browser: &Browser, house: &House, downstream: &Downstream) {
    assert_eq!(house.ask(Ask::webhook(&ping("11"))).await.status, 204);
    browser.until("document.querySelector('#request-list').innerText.includes('delivered')").await;
    downstream.set_status(401);
    let rest = r#""status":{"code":2},"events":[{"name":"retry","timeUnixNano":"5000"}]"#;
    let error = format!("{},{rest}", times("POST /pay", 1_000, 9_000));
    let lines = [
        timed(TRACE, 1, "held", ""),
        log(1, "cache miss"),
        in_service("shop", 2, &error),
        timed(TRACE, 3, "comma", "").replace("}}]}]}", "}},]}]}"),
        "plain text".to_owned(),
    ];
    assert_eq!(house.ask(Ask::post("/fastly", request_of(&lines))).await.status, 200);
    assert_eq!(house.ask(Ask::webhook(&ping("22"))).await.status, 204);
    browser.until("document.querySelectorAll('#request-list > details').length === 3").await;
    browser.until("document.querySelectorAll('#trace-list > article').length === 3").await;
    browser.until("!document.querySelector('#banner').hidden").await;
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)").await;
    browser.until("document.querySelector('pre mark') !== null").await;
}

/// Returns the texts and graphics with too little contrast, and what was in no view of the page.
async fn low_contrast(browser: &Browser) -> Vec<String> {
    let (mut low, mut missing) = (Vec::new(), None::<Vec<String>>);
    // On a phone one tab is visible at a time, on a desk everything.
    for tab in ["overview", "requests", "traces"] {
        browser.value(&format!("document.querySelector('#tabs [data-of={tab}]').click()")).await;
        let found: Vec<String> = serde_json::from_value(browser.value(LOW_CONTRAST).await).unwrap();
        let (absent, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|text| text.starts_with("none of"));
        low.extend(found);
        missing = Some(match missing {
            None => absent,
            Some(before) => before.into_iter().filter(|what| absent.contains(what)).collect(),
        });
    }
    low.into_iter().chain(missing.unwrap_or_default()).collect()
}

#[tokio::test]
async fn every_text_and_graphic_has_enough_contrast_in_light_and_dark() {
    for screen in [DESK, PHONE] {
        let Some(browser) = Browser::open("contrast", screen).await else { return };
        let (downstream, collector) = Downstream::with_status(200).await;
        let house = House::before(collector, "processors.span_events.wait: 600s").await;
        look(&browser, &house).await;
        fill(&browser, &house, &downstream).await;
        for scheme in ["light", "dark"] {
            browser.show_on(Screen { scheme, ..screen }).await;
            assert_eq!(low_contrast(&browser).await, Vec::<String>::new(), "{scheme}, {} px", screen.width);
        }
        pictures(&browser, screen, "blocked").await;
        downstream.set_status(200);
        leaves_well(browser, &house).await;
        house.drained().await;
    }
}

#[tokio::test]
async fn errors_have_signs_and_not_only_colours() {
    let Some(browser) = Browser::open("errors_have_signs", DESK).await else { return };
    let (downstream, collector) = Downstream::with_status(200).await;
    let house = House::before(collector, "processors.span_events.wait: 600s").await;
    look(&browser, &house).await;
    fill(&browser, &house, &downstream).await;
    let signs = |mood: &str| {
        format!(
            "[...new Set([...document.querySelectorAll('.tag.{mood}')].map(t => getComputedStyle(t, '::before').content))]"
        )
    };
    for (mood, sign) in [("good", "\"✓ \""), ("warn", "\"△ \""), ("bad", "\"✕ \"")] {
        assert_eq!(browser.value(&signs(mood)).await, json!([sign]));
    }
    let error = format!("document.querySelector(\"[data-trace='{TRACE}'] [data-span='0000000000000002']\")");
    assert_eq!(browser.value(&format!("{error}.querySelector('.wrong').textContent")).await, "!");
    let pattern =
        browser.value(&format!("getComputedStyle({error}.querySelector('.bar')).backgroundImage")).await;
    assert!(pattern.as_str().unwrap().starts_with("repeating-linear-gradient"), "{pattern}");
    let plain = format!(
        "getComputedStyle(document.querySelector(\"[data-trace='{TRACE}'] [data-span='0000000000000001'] .bar\"))"
    );
    assert_eq!(browser.value(&format!("{plain}.borderTopStyle")).await, "dashed", "held");
    assert_eq!(
        browser.value("getComputedStyle(document.querySelector('.banner h3'), '::before').content").await,
        "\"⚠ \""
    );
    downstream.set_status(200);
    leaves_well(browser, &house).await;
    house.drained().await;
}

#[tokio::test]
async fn durations_are_those_of_the_terminal() {
    let Some(browser) = Browser::open("durations", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    // The expectations of the unit test of the terminal's durations.
    let expected = [
        (0, "0 s"),
        (850, "850 ns"),
        (1_250, "1.2 us"),
        (1_200_000, "1.2 ms"),
        (2_000_000, "2 ms"),
        (182_400_000, "182 ms"),
        (999_999_999, "999 ms"),
        (59_999_999_999, "59.9 s"),
        (192_000_000_000, "3m 12s"),
        (7_500_000_000_000, "2h 5m"),
        (90_061_000_000_000, "1d 1h"),
        (u64::MAX - 1, "213503d 23h"),
    ];
    for (id, (nanoseconds, _)) in (1..).zip(expected) {
        house.batch(span_with(TRACE, id, &times("a", 1, nanoseconds + 1))).await;
    }
    house.left(expected.len()).await;
    let shown =
        format!("[...document.querySelectorAll(\"[data-trace='{TRACE}'] .took\")].map(t => t.textContent)");
    browser.until(&format!("{shown}.length === {}", expected.len())).await;
    let mut shown: Vec<String> = serde_json::from_value(browser.value(&shown).await).unwrap();
    shown.sort();
    let mut expected = expected.map(|(_, text)| text.to_owned()).to_vec();
    expected.sort();
    assert_eq!(shown, expected);
    ends_well(browser, house).await;
}

#[tokio::test]
async fn the_waterfall_has_services_a_start_time_and_a_ruler() {
    const MS: u64 = 1_000_000;
    const START: u64 = 1_655_990_400_123 * MS;
    for screen in [DESK, PHONE] {
        let Some(browser) = Browser::open("the_waterfall", screen).await else { return };
        let house = House::open("").await;
        look(&browser, &house).await;
        let child = format!(
            "{},\"parentSpanId\":\"0000000000000001\"",
            times("origin fetch", START + 50 * MS, START + 150 * MS)
        );
        let lines = [
            in_service("edge", 1, &times("GET /", START, START + 200 * MS)),
            in_service("shop", 2, &child),
            in_service("shop", 3, &child.replace("origin fetch", "second fetch")),
        ];
        house.batch(request_of(&lines)).await;
        house.left(3).await;
        browser.value("document.querySelector('#tabs [data-of=traces]').click()").await;
        let trace = format!("[data-trace='{TRACE}']");
        browser.until(&format!("document.querySelectorAll(\"{trace} .bar\").length === 3")).await;
        let texts = |class: &str| {
            format!("[...document.querySelectorAll(\"{trace} {class}\")].map(n => n.textContent)")
        };
        // As in the terminal, a service is named where it changes.
        assert_eq!(browser.value(&texts(".service")).await, json!(["edge", "shop"]));
        let facts = browser.text(&format!("{trace} .facts")).await;
        assert!(facts.starts_with("edge, shop · 3 spans · 200 ms · "), "{facts}");
        let start = format!("document.querySelector(\"{trace} .facts time\").dateTime");
        assert_eq!(browser.value(&start).await, "2022-06-23T13:20:00.123Z");
        assert_eq!(browser.value(&texts(".scale span")).await, json!(["0", "50 ms", "100 ms", "200 ms"]));
        // A mark of the ruler is where the time is in the bars.
        let left = |selector: &str| {
            format!("Math.round(document.querySelector(\"{trace} {selector}\").getBoundingClientRect().left)")
        };
        let mark = browser.value(&left(".scale span:nth-child(3)")).await.as_i64().unwrap();
        let grid =
            browser.value(&left("[data-span='0000000000000001'] .grid:nth-child(2)")).await.as_i64().unwrap();
        assert!(screen.width != DESK.width || (mark - grid).abs() <= 1, "{mark} {grid}");
        let (bar, first) =
            (left("[data-span='0000000000000002'] .bar"), left("[data-span='0000000000000002'] .grid"));
        let (bar, first) =
            (browser.value(&bar).await.as_i64().unwrap(), browser.value(&first).await.as_i64().unwrap());
        assert!((bar - first).abs() <= 1, "{bar} {first}");
        let width = browser.value("document.documentElement.scrollWidth").await;
        assert!(width.as_u64() <= Some(screen.width.into()), "{width}");
        ends_well(browser, house).await;
    }
}

/// The samples of `spanrelay demo`; the README's picture is made here.
#[tokio::test]
async fn the_samples_of_the_demo_are_shown_as_traces() {
    const FASTLY: &str = include_str!("../../src/cli/demo/fastly.ndjson");
    const CIRCLECI: &str = include_str!("../../src/cli/demo/circleci.ndjson");
    for screen in [DESK, PHONE] {
        let Some(browser) = Browser::open("the_samples", screen).await else { return };
        let house =
            House::open("telemetry.inspect.trace_link: \"http://localhost:16686/trace/{trace_id}\"").await;
        look(&browser, &house).await;
        browser.until("!document.querySelector('#start').hidden").await;
        pictures(&browser, screen, "empty").await;
        for webhook in CIRCLECI.lines() {
            assert_eq!(house.ask(Ask::webhook(webhook)).await.status, 204);
        }
        assert_eq!(house.ask(Ask::post("/fastly", FASTLY)).await.status, 200);
        browser
            .until(&format!("document.querySelectorAll('.bar').length === {}", CIRCLECI.lines().count() + 3))
            .await;
        browser.until("document.querySelector('#request-list').innerText.includes('delivered')").await;
        let traces = browser.text("#trace-list").await;
        for part in
            ["edge GET /checkout", "shield GET /checkout", "186 ms", "circleci", "Open in localhost:16686"]
        {
            assert!(traces.contains(part) || screen.width == PHONE.width, "{part}\n{traces}");
        }
        pictures(&browser, screen, "flowing").await;
        house.at_rest().await;
        house.collector.take_rest();
        ends_well(browser, house).await;
    }
}

/// Writes pictures of every tab in both schemes.
async fn pictures(browser: &Browser, screen: Screen, name: &str) {
    for scheme in ["light", "dark"] {
        browser.show_on(Screen { scheme, ..screen }).await;
        for tab in ["overview", "traces", "requests"] {
            browser.value(&format!("document.querySelector('#tabs [data-of={tab}]').click()")).await;
            browser.picture(&format!("{name}-{}-{scheme}-{tab}", screen.width)).await;
        }
    }
}
