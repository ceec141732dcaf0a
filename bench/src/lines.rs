//! Lines for measurements: field for field those of the VCL template that Fastly published (five resource attributes,
//! eighteen span attributes; 2.2 KB), each with its own ids, times and values.
//!
//! [`legacy`] has the form of the template: an old key, times as bare numbers, `fastly.server_role` twice.
//! [`canonical`] is the same line as exported, [`log`] a log event about it, [`broken`] one whose user agent is not
//! escaped, [`cut`] one that is truncated. [`access_json`] and [`access_ncsa`] are ordinary access-log lines.
//!
//! The number of a line follows from its span's id ([`number`]), and from the number its trace's id ([`ids`]) and the
//! time of its log event ([`event_time`]).

use bytes::Bytes;

/// Returns the line of the template as strict receivers accept it.
pub fn canonical(number: u64) -> String {
    span_line(number, &Form { scopes: "scopeSpans", quote: "\"", twin: "", agent: AGENT })
}

/// Returns the line of the template as its VCL writes it.
pub fn legacy(number: u64) -> String {
    span_line(number, &Form { scopes: "instrumentationLibrarySpans", quote: "", twin: ROLE, agent: AGENT })
}

/// Returns [`legacy`] with quotes in the user agent and a comma after the last attribute's list.
pub fn broken(number: u64) -> String {
    let agent = AGENT.replace("KHTML, like Gecko", "\"KHTML\" like \"Gecko\"");
    span_line(number, &Form { scopes: "instrumentationLibrarySpans", quote: "", twin: ROLE, agent: &agent })
}

/// Returns [`canonical`] without its last third, which cannot be repaired.
pub fn cut(number: u64) -> String {
    let mut line = canonical(number);
    line.truncate(line.len() / 3 * 2);
    line
}

/// Returns a log event about the span of the line with this number, as `config/fastly/spanrelay.vcl` writes it.
pub fn log(number: u64) -> String {
    let (trace, span) = ids(number);
    format!(
        "{{\"resourceLogs\":[{{\"resource\":{{{RESOURCE}}},\"scopeLogs\":[{{\"scope\":{{\"name\":\"spanrelay.vcl\"}},\
         \"logRecords\":[{{\"traceId\":\"{trace:032x}\",\"spanId\":\"{span:016x}\",\"timeUnixNano\":\"{time}\",\
         \"severityNumber\":9,\"severityText\":\"INFO\",\"eventName\":\"fetch\",\"attributes\":[\
         {{\"key\":\"fastly.backend\",\"value\":{{\"stringValue\":\"F_origin_{backend}\"}}}},\
         {{\"key\":\"network.peer.address\",\"value\":{{\"stringValue\":\"203.0.113.7\"}}}},\
         {{\"key\":\"http.response.status_code\",\"value\":{{\"intValue\":\"200\"}}}},\
         {{\"key\":\"fastly.cacheable\",\"value\":{{\"boolValue\":true}}}},\
         {{\"key\":\"fastly.ttl\",\"value\":{{\"stringValue\":\"120.000\"}}}}]}}]}}]}}]}}",
        time = event_time(number),
        backend = number % 4,
    )
}

/// Returns an access-log line in the JSON format that Fastly's web interface suggests. Its path holds the ids of the line.
pub fn access_json(number: u64) -> String {
    format!(
        "{{\"timestamp\":\"2022-06-23T13:20:00.{fraction:06}Z\",\"client_ip\":\"203.0.113.{host}\",\
         \"geo_country\":\"germany\",\"geo_city\":\"berlin\",\"host\":\"www.shop.example\",\"url\":\"{path}{QUERY}\",\
         \"request_method\":\"GET\",\"request_protocol\":\"HTTP/2\",\"request_referer\":\"https://www.shop.example/\",\
         \"request_user_agent\":\"{AGENT}\",\"response_state\":\"HIT-CLUSTER\",\"response_status\":200,\
         \"response_reason\":\"OK\",\"response_body_size\":{size},\"fastly_server\":\"cache-fra-eddf8230123-FRA\",\
         \"fastly_is_edge\":true}}",
        fraction = number % 1_000_000,
        host = number % 256,
        path = path(number),
        size = 1_000 + number % 10_000,
    )
}

/// Returns an access-log line in NCSA's Combined Log Format. Its path holds the ids of the line.
pub fn access_ncsa(number: u64) -> String {
    format!(
        "203.0.113.{host} - - [23/Jun/2022:13:20:00 +0000] \"GET {path}{QUERY} HTTP/1.1\" 200 {size} \
         \"https://www.shop.example/\" \"{AGENT}\"",
        host = number % 256,
        path = path(number),
        size = 1_000 + number % 10_000,
    )
}

/// Start of the path of an access-log line, which its ids follow.
pub const PATH: &str = "/products/";

fn path(number: u64) -> String {
    let (trace, span) = ids(number);
    format!("{PATH}{trace:032x}/{span:016x}")
}

/// Returns the trace id and span id of the line with this number, which are unique as in real traffic.
pub fn ids(number: u64) -> (u128, u64) {
    let mixed = (number + 1).wrapping_mul(MIX);
    (u128::from(mixed.rotate_left(32)) << 64 | u128::from(mixed), mixed ^ MASK)
}

/// Returns the number of the line whose span has this id. For other ids the result is arbitrary, and the trace id does
/// not match.
pub fn number(span: u64) -> u64 {
    (span ^ MASK).wrapping_mul(UNMIX).wrapping_sub(1)
}

/// Returns the time of the log event about the line with this number, in nanoseconds: the start of its span.
pub fn event_time(number: u64) -> u64 {
    START + number * 1_000
}

/// Returns a body with one line after another, as Fastly batches them.
pub fn body(lines: impl IntoIterator<Item = String>) -> Bytes {
    lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect::<String>().into()
}

const START: u64 = 1_655_990_400_123_457_000;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplicative inverse of [`MIX`].
const UNMIX: u64 = 0xf1de_83e1_9937_733d;

const MASK: u64 = 0xa5a5;

const AGENT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 15_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                     Mobile/15E148 Instagram 239.2.0.17.109 (iPhone13,2; iOS 15_5; en_US; en-US; scale=3.00; \
                     1170x2532; 376668393)";

const QUERY: &str = "?utm_source=newsletter&utm_medium=email&utm_campaign=summer&sort=price";

const RESOURCE: &str = "\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"Fastly www\"}},\
    {\"key\":\"telemetry.sdk.language\",\"value\":{\"stringValue\":\"vcl\"}},\
    {\"key\":\"telemetry.sdk.name\",\"value\":{\"stringValue\":\"opentelemetry\"}},\
    {\"key\":\"telemetry.sdk.version\",\"value\":{\"stringValue\":\"1.0.1\"}},\
    {\"key\":\"host.name\",\"value\":{\"stringValue\":\"cache-fra-eddf8230123-FRA\"}}],\"droppedAttributesCount\":0";

/// Attribute that the template has twice; a canonical line has a different attribute in its first position.
const ROLE: &str = "{\"key\":\"fastly.server_role\",\"value\":{\"stringValue\":\"edge\"}},";

struct Form<'a> {
    scopes: &'a str,
    /// Quote around times.
    quote: &'a str,
    /// Attribute that is repeated.
    twin: &'a str,
    agent: &'a str,
}

fn span_line(number: u64, form: &Form<'_>) -> String {
    let Form { scopes, quote, twin, agent } = form;
    let (trace, span) = ids(number);
    let start = event_time(number);
    let end = start + 63_865_000 + number % 1_000;
    let attributes: String = [
        ("http.method", "GET".to_owned()),
        ("http.target", format!(
                "/products/outdoor/jackets?utm_source=newsletter&utm_medium=email&utm_campaign=summer&sort=price&id={}",
                number % 10_000
            )),
        ("http.host", "www.shop.example".to_owned()),
        ("http.protocol", "https".to_owned()),
        ("http.client_ip", format!("203.0.113.{}", number % 256)),
        ("fastly.restarts", "0".to_owned()),
        ("fastly.visits_this_service", "0".to_owned()),
    ]
    .map(|(key, value)| attribute(key, &value))
    .concat();
    let others: String = [
        ("fastly.server_ip", "157.52.80.23".to_owned()),
        ("fastly.server_id", "cache-fra-eddf8230123-FRA".to_owned()),
        ("fastly.server_role", "edge".to_owned()),
        ("fastly.vcl_version", "17".to_owned()),
        ("fastly.pop", "FRA".to_owned()),
        ("fastly.workspace.overflowed", "0".to_owned()),
        ("fastly.workspace.bytes_total", "129328".to_owned()),
        ("fastly.workspace.bytes_free", (127_056 - number % 1_000).to_string()),
        ("http.user_agent", (*agent).to_owned()),
    ]
    .map(|(key, value)| attribute(key, &value))
    .concat();
    format!(
        "{{\"resourceSpans\":[{{\"resource\":{{{RESOURCE}}},\"{scopes}\":[{{\"spans\":[{{\"traceId\":\"{trace:032x}\",\
         \"spanId\":\"{span:016x}\",\"name\":\"GET /products\",\"kind\":1,\"startTimeUnixNano\":{quote}{start}{quote},\
         \"endTimeUnixNano\":{quote}{end}{quote},\"attributes\":[{attributes}{twin}{others}\
         {{\"key\":\"http.status_code\",\"value\":{{\"stringValue\":\"200\"}}}}],\"droppedAttributesCount\":0,\
         \"links\":[],\"droppedLinksCount\":0,\"status\":{{\"code\":0}}}}]}}]}}]}}"
    )
}

fn attribute(key: &str, value: &str) -> String {
    format!("{{\"key\":\"{key}\",\"value\":{{\"stringValue\":\"{value}\"}}}},")
}
