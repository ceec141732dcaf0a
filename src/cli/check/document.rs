//! The result for scripts: one JSON document. `spanrelay check --help` describes its fields, whose meaning does not
//! change.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::findings::{CheckReport, Finding, LineOutcome};

#[derive(Serialize)]
struct JsonDocument<'a> {
    source: &'static str,
    lines: Vec<LineEntry<'a>>,
    summary: Summary,
    requests: Vec<RequestEntry<'a>>,
}

#[derive(Serialize)]
struct LineEntry<'a> {
    line: u32,
    outcome: &'static str,
    repairs: Vec<&'static str>,
    column: Option<u32>,
    reason: Option<&'a str>,
    mistake: Option<&'static str>,
    advice: Vec<&'static str>,
}

#[derive(Serialize)]
struct Summary {
    accepted: usize,
    repaired: usize,
    rejected: usize,
    rejected_items: usize,
    ignored: usize,
    spans: usize,
    span_events: usize,
    log_records: usize,
    requests: RequestCounts,
}

#[derive(Serialize)]
struct RequestCounts {
    traces: usize,
    logs: usize,
    metrics: usize,
}

#[derive(Serialize)]
struct RequestEntry<'a> {
    signal: &'static str,
    /// Raw, so that numbers and the order of members are as exported.
    json: &'a RawValue,
}

/// Writes the document and a line end.
pub(super) fn write(report: &CheckReport, out: &mut impl Write) -> io::Result<()> {
    let requests = report
        .outgoing
        .iter()
        .map(|request| {
            Ok(RequestEntry { signal: request.signal.as_str(), json: serde_json::from_slice(&request.json)? })
        })
        .collect::<Result<_, serde_json::Error>>()?;
    let totals = &report.totals;
    let document = JsonDocument {
        source: report.source.name(),
        lines: report.findings.iter().map(LineEntry::new).collect(),
        summary: Summary {
            accepted: totals.accepted,
            repaired: totals.repaired,
            rejected: totals.rejected,
            rejected_items: totals.rejected_items,
            ignored: totals.ignored,
            spans: report.traces.span_count(),
            span_events: report.traces.event_count(),
            log_records: totals.log_records,
            requests: RequestCounts {
                traces: totals.trace_requests,
                logs: totals.log_requests,
                metrics: totals.metric_requests,
            },
        },
        requests,
    };
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}

// === impl LineEntry ===

impl<'a> LineEntry<'a> {
    fn new(finding: &'a Finding) -> Self {
        let mut entry = Self {
            line: finding.line,
            outcome: finding.outcome.as_str(),
            repairs: Vec::new(),
            column: None,
            reason: None,
            mistake: None,
            advice: finding.outcome.advice(),
        };
        match &finding.outcome {
            LineOutcome::Accepted => {}
            LineOutcome::Repaired(repairs) => {
                entry.repairs = repairs.iter().map(|repair| repair.as_str()).collect();
                let diagnosis = repairs.iter().find_map(|repair| repair.diagnosis());
                entry.mistake = diagnosis.map(|diagnosis| diagnosis.mistake);
            }
            LineOutcome::Rejected { column, reason, diagnosis, .. } => {
                entry.mistake = diagnosis.map(|diagnosis| diagnosis.mistake);
                entry.column = Some(*column);
                entry.reason = Some(reason);
            }
            LineOutcome::Ignored(why) => entry.reason = Some(why.as_str()),
        }
        entry
    }
}
