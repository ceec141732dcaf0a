//! The result: the outcome of every line, in the order of the input, and the exports.

use bytes::Bytes;
use serde_json::Value;

use super::offline::Offline;
use crate::cli::waterfall::TraceSet;
use crate::event::{Repair, Signal};
use crate::receiver::{Diagnosis, Ignored, Scope, Source};

/// Number of traces that are kept for drawing.
pub(super) const MAX_TRACES: usize = 20;
/// Number of log records that are listed.
pub(super) const MAX_LOG_RECORDS: usize = 20;

/// Data for both formats.
#[derive(Debug)]
pub(super) struct CheckReport {
    pub(super) source: &'static Source,
    /// Findings by line; accepted parts of a line before rejected ones.
    pub(super) findings: Vec<Finding>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) traces: TraceSet,
    /// The first log records that are exported as logs.
    pub(super) logs: Vec<LeftLog>,
    pub(super) totals: Totals,
}

/// Outcome of one line, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Number of the line, from 1.
    pub(super) line: u32,
    pub(super) outcome: LineOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LineOutcome {
    Accepted,
    Repaired(Vec<Repair>),
    /// Rejected; the column is in bytes from the start of the line, from 1.
    Rejected {
        scope: Scope,
        column: u32,
        reason: String,
        /// Cause of the rejection, where it is known.
        diagnosis: Option<Diagnosis>,
    },
    Ignored(Ignored),
}

/// One export.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) signal: Signal,
    pub(crate) json: Bytes,
}

/// A log record that did not become an event of a span.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftLog {
    pub(super) name: String,
    /// The span that the log record names.
    pub(super) span: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) accepted: usize,
    pub(super) repaired: usize,
    pub(super) rejected: usize,
    /// Number of parts of units that are counted separately.
    pub(super) rejected_items: usize,
    pub(super) ignored: usize,
    pub(super) log_records: usize,
    pub(super) trace_requests: usize,
    pub(super) log_requests: usize,
    pub(super) metric_requests: usize,
}

// === impl CheckReport ===

impl CheckReport {
    pub(super) fn new(source: &'static Source, offline: Offline) -> Self {
        let Offline { mut findings, outgoing } = offline;
        findings.sort_by_key(|finding| (finding.line, finding.outcome.is_rejected()));
        let mut report = Self {
            source,
            findings,
            outgoing: Vec::new(),
            traces: TraceSet::new(MAX_TRACES),
            logs: Vec::new(),
            totals: Totals::default(),
        };
        for finding in &report.findings {
            report.totals.count(&finding.outcome);
        }
        for request in &outgoing {
            report.add(request);
        }
        report.outgoing = outgoing;
        report
    }

    pub(super) fn all_accepted(&self) -> bool {
        self.totals.rejected == 0 && self.totals.rejected_items == 0 && self.totals.ignored == 0
    }

    fn add(&mut self, request: &Outgoing) {
        // Exports are JSON; if one ever is not, the JSON format shows it, and there is nothing to draw.
        let json = || serde_json::from_slice(&request.json).unwrap_or(Value::Null);
        match request.signal {
            Signal::Traces => {
                self.totals.trace_requests += 1;
                self.traces.add(&json());
            }
            Signal::Logs => {
                self.totals.log_requests += 1;
                self.add_logs(&json());
            }
            Signal::Metrics => self.totals.metric_requests += 1,
        }
    }

    fn add_logs(&mut self, request: &Value) {
        let list = |value: &'_ Value, key: &str| value.get(key).and_then(Value::as_array).cloned();
        for resource in list(request, "resourceLogs").unwrap_or_default() {
            for scope in list(&resource, "scopeLogs").unwrap_or_default() {
                for record in list(&scope, "logRecords").unwrap_or_default() {
                    self.totals.log_records += 1;
                    if self.logs.len() < MAX_LOG_RECORDS {
                        self.logs.push(LeftLog::read(&record));
                    }
                }
            }
        }
    }
}

// === impl LeftLog ===

impl LeftLog {
    fn read(record: &Value) -> Self {
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let body = record.get("body").and_then(|body| body.get("stringValue"));
        Self {
            name: text(record.get("eventName")).or_else(|| text(body)).unwrap_or_else(|| "log".to_owned()),
            span: text(record.get("spanId")),
        }
    }
}

// === impl Totals ===

impl Totals {
    fn count(&mut self, outcome: &LineOutcome) {
        let (counter, count) = match outcome {
            LineOutcome::Accepted => (&mut self.accepted, 1),
            LineOutcome::Repaired(_) => (&mut self.repaired, 1),
            LineOutcome::Rejected { scope, .. } => match scope {
                Scope::Item | Scope::Items { .. } | Scope::Section => {
                    (&mut self.rejected_items, scope.count())
                }
                Scope::Unit | Scope::Units { .. } => (&mut self.rejected, scope.count()),
            },
            LineOutcome::Ignored(_) => (&mut self.ignored, 1),
        };
        *counter += count;
    }
}

// === impl LineOutcome ===

impl LineOutcome {
    /// Returns the word for the outcome in both formats.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repaired(_) => "repaired",
            Self::Rejected { .. } => "rejected",
            Self::Ignored(_) => "ignored",
        }
    }

    /// Returns advice about the VCL or the logging endpoint.
    pub(super) fn advice(&self) -> Vec<&'static str> {
        match self {
            Self::Repaired(repairs) => {
                repairs.iter().filter_map(|repair| Some(repair.diagnosis()?.advice)).collect()
            }
            Self::Rejected { diagnosis, .. } => diagnosis.iter().map(|diagnosis| diagnosis.advice).collect(),
            Self::Accepted | Self::Ignored(_) => Vec::new(),
        }
    }

    fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }
}
