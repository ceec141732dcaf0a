//! The reader of lines and repair: an accepted line is exported with its meaning, and a canonical line is accepted.

use bytes::Bytes;
use spanrelay::internals::{Fault, Item, Line, LineReader, Passage, Signal};

use super::forwarded::{Forwarded, check_reading, points, records, section_of, spans};
use super::json::Json;
use super::meant::{Meant, meant, section};
use super::receivers::fastly;
use super::{forwarded, strict};

/// Checks an object followed by anything.
pub fn line(input: &[u8]) {
    let text = Bytes::copy_from_slice(input);
    if std::str::from_utf8(&text).is_ok() && text.starts_with(b"{") {
        match LineReader::default().read(&text) {
            Ok(line) => accepted(&text, line),
            Err(fault) => refused(&text, &fault),
        }
    }
    let as_it_is = fastly("repair: false").read(&text);
    let left = check_reading(&text, &as_it_is);
    let repairing = fastly("repair: true").read(&text);
    let left_repairing = check_reading(&text, &repairing);
    if as_it_is.rejected.is_empty() {
        // There was nothing to repair.
        assert!(repairing.rejected.is_empty());
        let say = |left: &Vec<Vec<Forwarded>>| -> Vec<Json> {
            left.iter().flatten().map(|forwarded| forwarded.says.clone()).collect()
        };
        assert_eq!(say(&left), say(&left_repairing), "repair changes a line that needs none");
    }
}

fn accepted(text: &Bytes, line: Line) {
    let object = &text[..line.end];
    let shown = String::from_utf8_lossy(object);
    let says = Json::parse(object).unwrap_or_else(|| panic!("accepted, and not JSON: {shown}"));
    let Meant { line: canonical, dropped } =
        meant(&says).unwrap_or_else(|| panic!("accepted, and not OTLP: {shown}"));
    assert_eq!(line.dropped.len(), dropped, "different spans are dropped from {shown}");
    if strict::read(&says).is_ok() {
        assert_eq!(says, canonical, "a canonical line changes");
        assert!(line.repairs.is_empty(), "{:?} in a canonical line: {shown}", line.repairs);
    }
    let Line { traces, logs, metrics, repairs, .. } = line;
    let item = Item { line: 1, traces, logs, metrics, protobuf: None, repairs, passage: Passage::Joined };
    let left = forwarded::check_item(&item);
    for signal in Signal::ALL {
        let count = match signal {
            Signal::Traces => spans(&canonical).len(),
            Signal::Logs => records(&canonical).len(),
            Signal::Metrics => points(&canonical),
        };
        let left = left.iter().find(|forwarded| forwarded.signal == signal);
        assert_eq!(left.is_some(), count > 0, "{count} of {signal} in {shown}");
        if let Some(left) = left {
            assert_eq!(left.says, section(&canonical, section_of(signal)), "{signal} of {shown}");
        }
    }
}

fn refused(text: &[u8], fault: &Fault) {
    assert!(fault.at <= text.len() && !fault.reason.is_empty(), "{fault:?}");
    let Some(says) = Json::parse(text) else { return };
    let holds_something = spans(&says).len() + records(&says).len() + points(&says) > 0;
    // Limits are not about the form.
    let is_bound = ["nested", "more than"].iter().any(|word| fault.reason.contains(word));
    if holds_something && !is_bound {
        let refusal = strict::read(&says).expect_err("a canonical line is rejected");
        assert!(!refusal.is_empty());
    }
}
