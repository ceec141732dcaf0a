//! The result for people: the outcomes of the lines, the resulting traces, and a summary.

use std::collections::BTreeSet;
use std::io::{self, Write};

use bytes::Bytes;

use super::excerpt::{Excerpt, Lines};
use super::findings::{CheckReport, Finding, LineOutcome, MAX_LOG_RECORDS};
use crate::cli::waterfall::{Paint, StyledLine, draw, harmless};
use crate::config::terminal::Terminal;

/// Number of entries of each outcome that are written; the JSON format has all of them.
const MAX_ENTRIES: usize = 100;
/// Indentation of excerpts.
const INDENT: usize = 4;

/// Adjacent findings with the same outcome.
struct FindingRun<'a> {
    first: &'a Finding,
    last_line: u32,
    findings: usize,
}

/// Writes the whole report.
pub(super) fn write(
    report: &CheckReport,
    body: &Bytes,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    write_lines(report, body, terminal, out)?;
    for trace in report.traces.iter() {
        writeln!(out)?;
        for line in draw(trace, terminal) {
            writeln!(out, "{}", line.render(terminal))?;
        }
    }
    if report.traces.beyond() > 0 {
        writeln!(
            out,
            "\nand {} (--format json has all of them)",
            count(report.traces.beyond(), "more trace")
        )?;
    }
    write_logs(report, terminal, out)?;
    write_summary(report, terminal, out)
}

fn write_lines(
    report: &CheckReport,
    body: &Bytes,
    terminal: &Terminal,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut lines = Lines::new(body);
    let mut written = [0; 4];
    let mut left_out = 0;
    let mut given = BTreeSet::new();
    for run in runs(&report.findings) {
        let entries = &mut written[run.rank()];
        *entries += 1;
        if *entries > MAX_ENTRIES {
            left_out += run.findings;
            continue;
        }
        writeln!(out, "{}", run.line(terminal).render(&uncut(terminal)))?;
        if let LineOutcome::Rejected { column, .. } = run.first.outcome
            && let Some(line) = lines.seek(run.first.line)
        {
            write_excerpt(line, column, terminal, out)?;
        }
        // Written once, however many lines have the same cause.
        for advice in run.first.outcome.advice().into_iter().filter(|advice| given.insert(*advice)) {
            let line = StyledLine::new()
                .with(Paint::Plain, " ".repeat(INDENT))
                .with(Paint::Event, "help: ")
                .with(Paint::Plain, harmless(advice, terminal.charset));
            writeln!(out, "{}", line.render(&uncut(terminal)))?;
        }
    }
    if left_out > 0 {
        writeln!(out, "and {left_out} more (--format json has all of them)")?;
    }
    Ok(())
}

fn write_excerpt(line: &[u8], column: u32, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    let excerpt = Excerpt::new(line, column, terminal.columns.saturating_sub(INDENT), terminal.charset);
    for (paint, text) in [(Paint::Plain, excerpt.text), (Paint::Error, excerpt.caret)] {
        let line = StyledLine::new().with(Paint::Plain, " ".repeat(INDENT)).with(paint, text);
        writeln!(out, "{}", line.render(terminal))?;
    }
    Ok(())
}

/// Writes the log records that are exported as logs, with the reason.
fn write_logs(report: &CheckReport, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    if report.logs.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for log in &report.logs {
        let why = match &log.span {
            Some(span) => format!("span {span} is not in this input"),
            None => "names no span".to_owned(),
        };
        let line = StyledLine::new()
            .with(Paint::Plain, format!("log record {}", harmless(&log.name, terminal.charset)))
            .with(Paint::Aside, format!(": {}, exported as a log", harmless(&why, terminal.charset)));
        writeln!(out, "{}", line.render(&uncut(terminal)))?;
    }
    let more = report.totals.log_records.saturating_sub(MAX_LOG_RECORDS);
    if more > 0 {
        writeln!(out, "and {}", count(more, "more log record"))?;
    }
    Ok(())
}

fn write_summary(report: &CheckReport, terminal: &Terminal, out: &mut impl Write) -> io::Result<()> {
    let totals = &report.totals;
    let item_word = if totals.rejected_items == 1 { "item rejected" } else { "items rejected" };
    let outcomes = [
        (totals.accepted, "accepted", Paint::Good),
        (totals.repaired, "repaired", Paint::Good),
        (totals.rejected, "rejected", Paint::Error),
        (totals.rejected_items, item_word, Paint::Error),
        (totals.ignored, "ignored", Paint::Event),
    ];
    let mut line = StyledLine::new().with(Paint::Title, report.source.name()).with(Paint::Plain, ": ");
    let mut separator = "";
    for (number, word, paint) in outcomes.into_iter().filter(|&(number, ..)| number > 0) {
        line = line.with(Paint::Plain, separator).with(paint, format!("{number} {word}"));
        separator = ", ";
    }
    if report.findings.is_empty() {
        line.push(Paint::Plain, "empty");
    }
    if !report.findings.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "{}", line.render(&uncut(terminal)))?;

    let traces = &report.traces;
    let leaving = [
        (totals.trace_requests, "/v1/traces", {
            let spans = count(traces.span_count(), "span");
            if traces.event_count() > 0 {
                format!(" ({spans} with {})", count(traces.event_count(), "event"))
            } else {
                format!(" ({spans})")
            }
        }),
        (totals.log_requests, "/v1/logs", format!(" ({})", count(totals.log_records, "log record"))),
        (totals.metric_requests, "/v1/metrics", String::new()),
    ];
    for (requests, path, what) in leaving.into_iter().filter(|(requests, ..)| *requests > 0) {
        writeln!(out, "{} to {path}{what}", count(requests, "request"))?;
    }
    Ok(())
}

/// Groups adjacent findings with the same outcome.
fn runs(findings: &[Finding]) -> impl Iterator<Item = FindingRun<'_>> {
    findings.chunk_by(|one, next| one.outcome == next.outcome).filter_map(|run| {
        Some(FindingRun { first: run.first()?, last_line: run.last()?.line, findings: run.len() })
    })
}

/// Disables truncation, because findings may be wrapped by the terminal.
fn uncut(terminal: &Terminal) -> Terminal {
    Terminal { columns: usize::MAX, ..*terminal }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

// === impl FindingRun ===

impl FindingRun<'_> {
    /// Formats `line 4: accepted`, `lines 7-9, column 1: rejected: why`, `line 1: accepted, 9 times`.
    fn line(&self, terminal: &Terminal) -> StyledLine {
        let first = self.first.line;
        let lines = u64::from(self.last_line - first) + 1;
        let place =
            if lines == 1 { format!("line {first}") } else { format!("lines {first}-{}", self.last_line) };
        let (column, paint, detail) = match &self.first.outcome {
            LineOutcome::Accepted => (String::new(), Paint::Good, String::new()),
            LineOutcome::Repaired(repairs) => {
                let repairs: Vec<&str> = repairs.iter().map(|repair| repair.as_str()).collect();
                (String::new(), Paint::Good, format!(": {}", repairs.join(", ")))
            }
            LineOutcome::Rejected { column, reason, .. } => {
                (format!(", column {column}"), Paint::Error, format!(": {reason}"))
            }
            LineOutcome::Ignored(why) => (String::new(), Paint::Event, format!(": {}", why.as_str())),
        };
        // Several objects on one line, or empty lines in between.
        let times = if self.findings as u64 == lines {
            String::new()
        } else {
            format!(" ({} in all)", self.findings)
        };
        StyledLine::new()
            .with(Paint::Plain, format!("{place}{column}: "))
            .with(paint, self.first.outcome.as_str())
            .with(Paint::Plain, format!("{times}{}", harmless(&detail, terminal.charset)))
    }

    fn rank(&self) -> usize {
        match self.first.outcome {
            LineOutcome::Accepted => 0,
            LineOutcome::Repaired(_) => 1,
            LineOutcome::Rejected { .. } => 2,
            LineOutcome::Ignored(_) => 3,
        }
    }
}
