//! The text of the demonstration.

use std::io::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

use super::collector::ReceivedExport;
use super::relay::{CIRCLECI_PATH, FASTLY_PATH};
use super::script::{FASTLY_LINES, Script, SignedWebhook};
use crate::cli::check::{Excerpt, Lines};
use crate::cli::http::HttpReply;
use crate::cli::waterfall::{Paint, StyledLine, TraceSet, draw, harmless, width};
use crate::config::terminal::Terminal;
use crate::event::Signal;

/// Maximum number of traces to draw; the script has fewer.
const MAX_TRACES: usize = 20;
/// Indentation of text below a heading.
const INDENT: usize = 3;
/// Indentation of details below such text.
const DEEP_INDENT: usize = 7;

/// Writes the introduction.
pub(super) fn opening(
    relay: SocketAddr,
    collector: SocketAddr,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let text = format!(
        "A relay is listening on http://{relay} and a small collector on http://{collector}, both in this process. \
         Everything below was sent over HTTP; sample timestamps were shifted to now."
    );
    paragraph(Paint::Plain, &text, 0, terminal, out)
}

pub(super) fn challenge(
    path: &str,
    reply: &HttpReply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    heading("1. Fastly verifies that it may send logs here", terminal, out)?;
    paragraph(Paint::Plain, &format!("GET {path}"), INDENT, terminal, out)?;
    answer(reply, terminal, out)
}

/// Writes the batch line by line, the response, and the position that the relay's report names.
pub(super) fn batch(
    batch: &Bytes,
    reply: &HttpReply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    heading(&format!("2. Fastly posts a batch of {} lines", FASTLY_LINES.len()), terminal, out)?;
    for (position, what) in FASTLY_LINES.iter().enumerate() {
        paragraph(Paint::Aside, &format!("line {}: {what}", position + 1), INDENT, terminal, out)?;
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
            let line = StyledLine::new().with(Paint::Plain, " ".repeat(DEEP_INDENT)).with(paint, text);
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
    webhook: &SignedWebhook,
    reply: &HttpReply,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let line = StyledLine::new()
        .with(Paint::Plain, " ".repeat(INDENT))
        .with(status_paint(reply), reply.status.as_str())
        .with(Paint::Plain, format!(" {} ", webhook.event))
        .with(Paint::Aside, webhook.about.as_str());
    writeln!(out, "{}", line.render(terminal))
}

/// Draws the traces that the collector received.
pub(super) fn received(
    received: &[ReceivedExport],
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut traces = TraceSet::new(MAX_TRACES);
    for request in received.iter().filter(|request| request.signal == Signal::Traces) {
        traces.add(&request.json);
    }
    let counts = format!(
        "4. The collector received {} requests: {} spans with {} events",
        received.len(),
        traces.span_count(),
        traces.event_count()
    );
    heading(&counts, terminal, out)?;
    // Requests can arrive in any order; the output should not depend on it.
    let mut in_order: Vec<_> = traces.iter().collect();
    in_order.sort_by_key(|trace| Script::position_of(trace.id()));
    for (position, trace) in in_order.into_iter().enumerate() {
        if position > 0 {
            writeln!(out)?;
        }
        for line in draw(trace, terminal) {
            writeln!(out, "{}", line.render(terminal))?;
        }
    }
    Ok(())
}

/// Writes the commands to continue with.
pub(super) fn next_steps(terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    const STEPS: [(&str, &str); 3] = [
        (
            "spanrelay --set exporters.otlp_http.endpoint=http://localhost:4318",
            "the same relay on 127.0.0.1:3000, in front of your own Collector",
        ),
        (
            "curl --data-binary @batch.ndjson http://127.0.0.1:3000/fastly",
            "posts a batch of your own, as Fastly would",
        ),
        (
            "spanrelay check batch.ndjson",
            "dry-run: shows how the relay would handle it, line by line, without sending anything",
        ),
    ];
    heading("Next steps", terminal, out)?;
    for (command, what) in STEPS {
        // Never wrapped: the command is meant to be copied.
        let line = StyledLine::new().with(Paint::Plain, " ".repeat(INDENT)).with(Paint::Good, command);
        writeln!(out, "{}", line.render(&Terminal { columns: usize::MAX, ..*terminal }))?;
        paragraph(Paint::Aside, what, DEEP_INDENT, terminal, out)?;
    }
    Ok(())
}

fn answer(reply: &HttpReply, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    let body = harmless(reply.body.trim_end(), terminal.charset);
    paragraph(status_paint(reply), &format!("{} {body}", reply.status.as_str()), INDENT, terminal, out)
}

fn status_paint(reply: &HttpReply) -> Paint {
    if reply.status.is_success() { Paint::Good } else { Paint::Error }
}

fn heading(text: &str, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    paragraph(Paint::Title, text, 0, terminal, out)
}

/// Writes text wrapped between words; a word that is longer than a line is broken at its end.
fn paragraph(
    paint: Paint,
    text: &str,
    indent: usize,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    // A very narrow terminal has no room for indentation.
    let indent = indent.min(terminal.columns / 8);
    let room = terminal.columns.saturating_sub(indent).max(1);
    let mut line = String::new();
    let mut write = |line: &str| {
        let line = StyledLine::new().with(Paint::Plain, " ".repeat(indent)).with(paint, line);
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
