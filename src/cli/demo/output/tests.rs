use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::cli::demo::script::Script;
use crate::config::terminal::{Charset, Colour};

fn terminal(columns: usize) -> Terminal {
    Terminal { columns, colour: Colour::None, charset: Charset::Ascii }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn reply(status: StatusCode, body: &str) -> HttpReply {
    HttpReply { status, retry_after: None, body: body.to_owned() }
}

#[test]
fn the_report_is_shown_with_the_position_that_it_names() {
    let script = Script::ending_at(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1_800_000_000));
    let cut_off = script.batch.split(|&byte| byte == b'\n').nth(5).unwrap();
    let report = json!({"accepted": 5, "rejected": 1, "errors": [
        {"line": 6, "column": cut_off.len() + 1, "reason": "cut off"}]});
    let reply = reply(StatusCode::OK, &report.to_string());
    let text = written(|out| batch(&script.batch, &reply, &terminal(60), out));
    assert!(text.starts_with("\n2. Fastly posts a batch of 6 lines\n   line 1: two log events"), "{text}");
    assert!(text.contains("\n   POST /fastly, "), "{text}");
    let (before, caret) = text.strip_suffix('\n').unwrap().rsplit_once('\n').unwrap();
    let excerpt = before.rsplit_once('\n').unwrap().1;
    assert!(excerpt.ends_with("Linux x86_64; rv:140.0) Gecko/20"), "{text}");
    assert_eq!(caret.find('^'), Some(excerpt.len()), "{text}");
}

#[test]
fn paragraphs_wrap_between_words_and_break_only_longer_words() {
    let text =
        written(|out| paragraph(Paint::Plain, "one two three 12345678901234567", 2, &terminal(16), out));
    assert_eq!(text, "  one two three\n  12345678901234\n  567\n");
    let text = written(|out| paragraph(Paint::Plain, "ab", 5, &terminal(1), out));
    assert!(text.lines().all(|line| line.len() <= 1), "{text}");
}

#[test]
fn everything_but_the_commands_to_copy_fits_into_a_narrow_terminal() {
    let relay = "127.0.0.1:40123".parse().unwrap();
    let text = written(|out| {
        let terminal = terminal(40);
        opening(relay, relay, &terminal, out)?;
        challenge("/.well-known/fastly/logging/challenge", &reply(StatusCode::OK, "*\n"), &terminal, out)?;
        webhooks(5, &terminal, out)?;
        next_steps(&terminal, out)
    });
    let wide: Vec<&str> = text.lines().filter(|line| line.len() > 40).collect();
    assert!(
        wide.iter().all(|line| line.starts_with("   spanrelay ") || line.starts_with("   curl ")),
        "{wide:?}"
    );
    assert!(text.contains("   200 *\n"), "{text}");
}

#[test]
fn received_spans_are_counted_and_drawn() {
    let span = json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        {"traceId": "aa", "spanId": "1", "name": "ping", "startTimeUnixNano": "5", "endTimeUnixNano": "9"}]}]}]});
    let requests = [
        ReceivedExport { signal: Signal::Traces, json: span },
        ReceivedExport { signal: Signal::Logs, json: json!({"resourceLogs": []}) },
    ];
    let text = written(|out| received(&requests, &terminal(60), out));
    assert!(
        text.starts_with("\n4. The collector received 2 requests: 1 spans with 0 events\ntrace aa\n"),
        "{text}"
    );
    assert!(text.contains("\nping  ="), "{text}");
}
