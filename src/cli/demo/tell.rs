//! What the demonstration says.

use std::io::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

use super::collector::Received;
use super::script::{FASTLY_LINES, Script, Webhook};
use super::stage::{CIRCLECI_PATH, FASTLY_PATH};
use crate::cli::check::{Excerpt, Lines};
use crate::cli::http::Reply;
use crate::cli::waterfall::{Line, Paint, Traces, draw, harmless, width};
use crate::config::terminal::Terminal;
use crate::otlp::Signal;

/// More than the script has.
const MAX_TRACES: usize = 20;
/// How far text stands in below a heading.
const INDENT: usize = 3;
/// What goes on below something stands in further.
const DEEP_INDENT: usize = 7;

/// What is about to happen.
pub(super) fn opening(
    relay: SocketAddr,
    collector: SocketAddr,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let text = format!(
        "A relay listens on http://{relay}, a small collector on http://{collector}, both in this process. \
         Everything below went over HTTP; the times of the samples were moved to now."
    );
    paragraph(Paint::Plain, &text, 0, terminal, out)
}

pub(super) fn challenge(
    path: &str,
    reply: &Reply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    heading("1. Fastly asks whether it may send logs here", terminal, out)?;
    paragraph(Paint::Plain, &format!("GET {path}"), INDENT, terminal, out)?;
    answer(reply, terminal, out)
}

/// The batch line by line, the answer, and the place that the relay's report points at.
pub(super) fn batch(
    batch: &Bytes,
    reply: &Reply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    heading(&format!("2. Fastly posts a batch of {} lines", FASTLY_LINES.len()), terminal, out)?;
    for (place, what) in FASTLY_LINES.iter().enumerate() {
        paragraph(Paint::Aside, &format!("line {}: {what}", place + 1), INDENT, terminal, out)?;
    }
    paragraph(Paint::Plain, &format!("POST {FASTLY_PATH}, {} bytes", batch.len()), INDENT, terminal, out)?;
    answer(reply, terminal, out)?;

    let report: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let mut lines = Lines::new(batch);
    for error in report["errors"].as_array().into_iter().flatten() {
        let number = |key: &str| error[key].as_u64().and_then(|number| u32::try_from(number).ok());
        let (Some(line), Some(column)) = (number("line"), number("column")) else { continue };
        let Some(text) = lines.seek(line) else { continue };
        let columns = terminal.columns.saturating_sub(DEEP_INDENT);
        let excerpt = Excerpt::new(text, column, columns, terminal.charset);
        for (paint, text) in [(Paint::Aside, excerpt.text), (Paint::Error, excerpt.caret)] {
            let line = Line::new().with(Paint::Plain, " ".repeat(DEEP_INDENT)).with(paint, text);
            writeln!(out, "{}", line.render(terminal))?;
        }
    }
    Ok(())
}

pub(super) fn webhooks(count: usize, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    heading(&format!("3. CircleCI posts {count} webhooks, signed with HMAC-SHA256"), terminal, out)?;
    paragraph(Paint::Plain, &format!("POST {CIRCLECI_PATH}"), INDENT, terminal, out)
}

pub(super) fn webhook(
    webhook: &Webhook,
    reply: &Reply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let line = Line::new()
        .with(Paint::Plain, " ".repeat(INDENT))
        .with(status_paint(reply), reply.status.as_str())
        .with(Paint::Plain, format!(" {} ", webhook.event))
        .with(Paint::Aside, webhook.about.as_str());
    writeln!(out, "{}", line.render(terminal))
}

/// The traces, as the collector got them.
pub(super) fn received(received: &[Received], terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    let mut traces = Traces::new(MAX_TRACES);
    for request in received.iter().filter(|request| request.signal == Signal::Traces) {
        traces.add(&request.json);
    }
    let counts = format!(
        "4. The collector got {} requests: {} spans with {} events",
        received.len(),
        traces.span_count(),
        traces.event_count()
    );
    heading(&counts, terminal, out)?;
    // Requests overtake each other; the same demonstration should look the same every time.
    let mut in_order: Vec<_> = traces.iter().collect();
    in_order.sort_by_key(|trace| Script::place_of(trace.id()));
    for (place, trace) in in_order.into_iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        for line in draw(trace, terminal) {
            writeln!(out, "{}", line.render(terminal))?;
        }
    }
    Ok(())
}

/// How to go on with a relay of one's own.
pub(super) fn what_next(terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    const STEPS: [(&str, &str); 3] = [
        (
            "spanrelay --set exporters.otlp_http.endpoint=http://localhost:4318",
            "the same relay on 127.0.0.1:3000, before your own Collector",
        ),
        (
            "curl --data-binary @batch.ndjson http://127.0.0.1:3000/fastly",
            "a batch of your own, posted as Fastly posts it",
        ),
        (
            "spanrelay check batch.ndjson",
            "what the relay makes of it, line by line, without sending anything",
        ),
    ];
    heading("What next", terminal, out)?;
    for (command, what) in STEPS {
        // Not broken into lines: it is there to be copied.
        let line = Line::new().with(Paint::Plain, " ".repeat(INDENT)).with(Paint::Good, command);
        writeln!(out, "{}", line.render(&Terminal { columns: usize::MAX, ..*terminal }))?;
        paragraph(Paint::Aside, what, DEEP_INDENT, terminal, out)?;
    }
    Ok(())
}

fn answer(reply: &Reply, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    let body = harmless(reply.body.trim_end(), terminal.charset);
    paragraph(status_paint(reply), &format!("{} {body}", reply.status.as_str()), INDENT, terminal, out)
}

fn status_paint(reply: &Reply) -> Paint {
    if reply.status.is_success() { Paint::Good } else { Paint::Error }
}

fn heading(text: &str, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    paragraph(Paint::Title, text, 0, terminal, out)
}

/// Text broken between words; a word that is longer than a line is broken where the line ends.
fn paragraph(
    paint: Paint,
    text: &str,
    indent: usize,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    // Where there is next to no room, none of it is for looks.
    let indent = indent.min(terminal.columns / 8);
    let room = terminal.columns.saturating_sub(indent).max(1);
    let mut line = String::new();
    let mut write = |line: &str| {
        let line = Line::new().with(Paint::Plain, " ".repeat(indent)).with(paint, line);
        writeln!(out, "{}", line.render(terminal))
    };
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > room {
            write(&line)?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if width(&line) + width(character.encode_utf8(&mut [0; 4])) > room {
                write(&line)?;
                line.clear();
            }
            line.push(character);
        }
    }
    write(&line)
}

#[cfg(test)]
mod tests;
