//! The page at `/inspect`, and the JSON that its script polls.
//!
//! In: requests for either. Out: one HTML file, with a policy that allows only its own script and style; and the changes
//! since the last poll.
//! Promises: only a poll starts reporting; loading the page alone does not.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HOST;
use http::{HeaderValue, Request};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::store::News;
use super::view::{Downstream, ReceiverSetting, Values};
use crate::event::{QueueState, Signal};
use crate::telemetry::Metrics;
use crate::telemetry::flow::{Flow, Obstacle};

pub(crate) const PATH: &str = "/inspect";
pub(crate) const DATA_PATH: &str = "/inspect/data";
pub(crate) const HTML: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/style.css"),
    "</style>\n</head>\n",
    include_str!("page/body.html"),
    "<script>\n\"use strict\";\n(() => {\n",
    include_str!("page/text.js"),
    include_str!("page/requests.js"),
    include_str!("page/traces.js"),
    include_str!("page/cards.js"),
    include_str!("page/main.js"),
    "})();\n</script>\n</body>\n</html>\n",
);

/// Clients that can reach the telemetry endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Clients on this machine only; pages of other sites must not reach it through a browser.
    Loopback,
    Network,
}

/// Response to a poll.
#[derive(Serialize)]
struct Data<'a> {
    version: &'static str,
    /// Identity of this process; it changes with a restart.
    process: u64,
    now_ms: u64,
    show_values: bool,
    /// Maximum time that a span is held.
    wait_ms: u64,
    receivers: &'a [ReceiverSetting],
    downstream: &'a [Downstream],
    server: &'a str,
    trace_link: Option<&'a str>,
    flow: Vec<SignalFlowView>,
    held: HeldView,
    queue: Option<QueueView>,
    rejected: RejectedInput,
    #[serde(flatten)]
    news: News<'a>,
}

#[derive(Serialize)]
struct HeldView {
    spans: i64,
    bytes: i64,
}

#[derive(Serialize)]
struct QueueView {
    bytes: u64,
    capacity_bytes: u64,
    oldest_ms: u64,
    /// Reason that the queue cannot write.
    failure: Option<String>,
    is_full: bool,
    /// Time since which the queue is known to accept nothing.
    stopped_ms: Option<u64>,
}

/// Rejected input since the start of the process, and the part of it that is kept.
#[derive(Serialize)]
struct RejectedInput {
    /// Size of the file; `None` if rejected input is kept elsewhere.
    bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    discarded: u64,
}

/// Flow of one signal's data to the downstream.
#[derive(Serialize)]
struct SignalFlowView {
    signal: &'static str,
    last_success_ms: Option<u64>,
    obstacle: Option<ObstacleView>,
}

#[derive(Serialize)]
struct ObstacleView {
    since_ms: u64,
    reason: String,
    /// Change that ends it; `None` if the relay retries.
    remedy: Option<String>,
}

/// Returns the content security policy. It uses hashes instead of a nonce, because the page is static.
pub(crate) fn policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash_of("script"),
            hash_of("style"),
        );
        HeaderValue::try_from(policy).expect("Base64 and the words above are visible ASCII")
    });
    POLICY.clone()
}

fn hash_of(element: &str) -> String {
    let (_, rest) = HTML.split_once(&format!("<{element}>")).expect("the page has one of each");
    let (text, _) = rest.split_once(&format!("</{element}>")).expect("and it ends");
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Returns the JSON for a page that has all changes up to `since` in the query.
pub(crate) fn data(metrics: &Metrics, query: Option<&str>) -> Vec<u8> {
    let since = query
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("since=")))
        .and_then(|since| since.parse().ok())
        .unwrap_or(0);
    let inspector = &metrics.inspector;
    inspector.look();
    let queue = metrics.queue_state();
    let stopped = queue.as_ref().and_then(|state| metrics.flow.queue(state.accepts()));
    let rejected = metrics.flow.rejected();
    let setting = inspector.shared.setting.get();
    let now_ms = inspector.now_millis();
    let store = inspector.store();
    let data = Data {
        version: env!("CARGO_PKG_VERSION"),
        process: inspector.shared.began_unix_millis(),
        now_ms,
        show_values: setting.is_some_and(|setting| setting.values == Values::Shown),
        wait_ms: setting.map_or(0, |setting| millis(setting.wait)),
        receivers: setting.map(|setting| setting.receivers.as_slice()).unwrap_or_default(),
        downstream: setting.map(|setting| setting.downstream.as_slice()).unwrap_or_default(),
        server: setting.map(|setting| setting.server.as_str()).unwrap_or_default(),
        trace_link: setting.and_then(|setting| setting.trace_link.as_deref()),
        flow: Signal::ALL.map(|signal| SignalFlowView::new(signal, &metrics.flow, now_ms)).into(),
        held: HeldView { spans: metrics.held_spans.get(), bytes: metrics.held_bytes.get() },
        queue: queue.map(|state| QueueView::new(state, stopped.map(|time| before(now_ms, time)))),
        rejected: RejectedInput {
            bytes: rejected.map(|rejected| rejected.kept_bytes),
            capacity_bytes: rejected.map(|rejected| rejected.capacity_bytes),
            discarded: metrics.rejected_discarded.get(),
        },
        news: store.news(since),
    };
    serde_json::to_vec(&data).expect("strings, numbers and lists serialize")
}

/// Returns `true` if the `Host` of the request is this machine. Prevents DNS rebinding: another site can point its own
/// name here, but it cannot make the browser send a different one.
pub(crate) fn is_own_name<B>(request: &Request<B>, reach: Reach) -> bool {
    if reach == Reach::Network {
        return true;
    }
    let host = request.uri().authority().map(|authority| authority.as_str());
    let host = host.or_else(|| request.headers().get(HOST)?.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

// === impl QueueView ===

impl QueueView {
    fn new(state: QueueState, stopped_ms: Option<u64>) -> Self {
        let is_full = state.is_full();
        let QueueState { kept_bytes, capacity_bytes, oldest, failure, .. } = state;
        Self {
            is_full,
            stopped_ms,
            bytes: kept_bytes,
            capacity_bytes,
            oldest_ms: millis(oldest),
            failure: failure.map(|why| why.to_string()),
        }
    }
}

// === impl SignalFlowView ===

impl SignalFlowView {
    fn new(signal: Signal, flow: &Flow, now_ms: u64) -> Self {
        let obstacle = flow.obstacle(signal).map(|Obstacle { since, reason, remedy }| ObstacleView {
            since_ms: before(now_ms, since.elapsed()),
            reason,
            remedy,
        });
        let last_success_ms = flow.since_success(signal).map(|time| before(now_ms, time));
        Self { signal: signal.as_str(), last_success_ms, obstacle }
    }
}

/// Returns the time that was `time` before `now_ms`.
fn before(now_ms: u64, time: Duration) -> u64 {
    now_ms.saturating_sub(millis(time))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_as(host: &str, reach: Reach) -> bool {
        is_own_name(&Request::builder().uri("/inspect").header(HOST, host).body(()).unwrap(), reach)
    }

    #[test]
    fn foreign_host_names_are_rejected_on_loopback() {
        for host in ["localhost:13133", "127.0.0.1:13133", "[::1]:13133", "LOCALHOST", "10.0.0.7:80"] {
            assert!(asked_as(host, Reach::Loopback), "{host}");
        }
        for host in
            ["evil.example", "evil.example:13133", "127.0.0.1.evil.example", "localhost.evil.example", ""]
        {
            assert!(!asked_as(host, Reach::Loopback), "{host}");
            assert!(asked_as(host, Reach::Network), "{host}");
        }
    }

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
        let policy = policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
        assert_eq!(policy.matches("'sha256-").count(), 2);
    }

    #[test]
    fn the_page_loads_nothing_else_and_never_creates_markup_from_data() {
        for forbidden in [
            "http://",
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            // An XML namespace; nothing is loaded from it.
            assert!(!HTML.replace("http://www.w3.org/2000/svg", "").contains(forbidden), "{forbidden}");
        }
        assert_eq!(HTML.matches("<script>").count(), 1);
        assert_eq!(HTML.matches("<style>").count(), 1);
    }
}
