//! A ledger: what was sent, what was acknowledged, and whether the outcomes are right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::downstream::Delivery;

/// Kind of a sent item, which determines its expected outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Span,
    /// Exported as a log, or as an event of this span and no other.
    Log {
        span: String,
    },
    Metric,
    Webhook,
    /// A span that the downstream permanently rejects.
    Poison,
    /// Input that no receiver accepts: a truncated line, a webhook of an unknown type.
    Unusable,
}

/// Knowledge of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// The connection ended before the response.
    Nothing,
    Acknowledged,
    Refused,
}

/// Everything that was sent, by its id.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<String, (Kind, Answered)>,
}

/// Number of deliveries of each id.
#[derive(Default)]
struct Outcome {
    /// Deliveries per process of the relay.
    taken: BTreeMap<String, BTreeMap<String, u32>>,
    kept: BTreeMap<String, u32>,
    faults: Vec<String>,
}

// === impl Ledger ===

impl Ledger {
    /// Adds ids before they are sent.
    pub(super) fn sends(&mut self, ids: &[(String, Kind)]) {
        for (id, kind) in ids {
            let before = self.entries.insert(id.clone(), (kind.clone(), Answered::Nothing));
            assert_eq!(before, None, "{id} was sent before");
        }
    }

    pub(super) fn acknowledged(&mut self, ids: &[(String, Kind)]) {
        self.answered(ids, Answered::Acknowledged);
    }

    pub(super) fn refused(&mut self, ids: &[(String, Kind)]) {
        self.answered(ids, Answered::Refused);
    }

    fn answered(&mut self, ids: &[(String, Kind)], answered: Answered) {
        for (id, _) in ids {
            self.entries.get_mut(id).expect("it was sent").1 = answered;
        }
    }

    /// Returns the numbers of acknowledged ids and of ids without a response.
    pub(super) fn counts(&self) -> (usize, usize) {
        let count = |wanted| self.entries.values().filter(|(_, answered)| *answered == wanted).count();
        (count(Answered::Acknowledged), count(Answered::Nothing))
    }

    /// Checks the outcome of every id, and returns all violations.
    pub(super) fn judge(&self, deliveries: &[Delivery], rejected: &[Value], processes: u32) -> Vec<String> {
        let mut outcome = Outcome::default();
        for delivery in deliveries {
            for name in &delivery.names {
                self.note_taken(&mut outcome, &delivery.process, name);
            }
        }
        for entry in rejected {
            self.note_kept(&mut outcome, entry);
        }
        for (id, (kind, answered)) in &self.entries {
            outcome.check(id, kind, *answered, processes);
        }
        outcome.faults
    }

    fn note_taken(&self, outcome: &mut Outcome, process: &str, name: &str) {
        let plain = ["log ", "metric ", "job: "].iter().find_map(|prefix| name.strip_prefix(prefix));
        let (id, events) = match plain {
            Some(id) => (id, ""),
            None => name.split_once(": ").unwrap_or((name, "")),
        };
        let events = events.split(", ").filter(|event| !event.is_empty());
        for event in events.clone() {
            let belongs = matches!(self.entries.get(event), Some((Kind::Log { span }, _)) if span == id);
            if !belongs {
                outcome.faults.push(format!("{event} is an event of {id}"));
            }
        }
        for id in events.chain([id]) {
            if !self.entries.contains_key(id) {
                outcome.faults.push(format!("{id} was delivered and never sent"));
            }
            *outcome.taken.entry(id.to_owned()).or_default().entry(process.to_owned()).or_default() += 1;
        }
    }

    fn note_kept(&self, outcome: &mut Outcome, entry: &Value) {
        let input = entry["input"].as_str().unwrap_or_default();
        let words: BTreeSet<&str> = input.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let known: Vec<&str> = words.into_iter().filter(|word| self.entries.contains_key(*word)).collect();
        if known.is_empty() {
            outcome.faults.push(format!("in the rejected-lines file, and never sent: {entry}"));
        }
        for id in known {
            *outcome.kept.entry(id.to_owned()).or_default() += 1;
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn check(&mut self, id: &str, kind: &Kind, answered: Answered, processes: u32) {
        let empty = BTreeMap::new();
        let by_process = self.taken.get(id).unwrap_or(&empty);
        let taken: u32 = by_process.values().sum();
        let kept = self.kept.get(id).copied().unwrap_or_default();
        let acknowledged = answered == Answered::Acknowledged;
        let fault = match kind {
            _ if answered == Answered::Refused && taken + kept > 0 => {
                "came out though its sender was refused"
            }
            Kind::Unusable | Kind::Poison if taken > 0 => "was taken",
            Kind::Unusable if acknowledged && kept == 0 => {
                "was acknowledged, and is not in the rejected-lines file"
            }
            Kind::Unusable if kept > 1 => "is in the rejected-lines file more than once",
            Kind::Poison if acknowledged && kept == 0 => "was refused by the downstream and not kept",
            // Recorded for the whole request, like a delivery.
            Kind::Poison if kept > processes => "was refused and kept more often than there were processes",
            Kind::Unusable | Kind::Poison => return,
            _ if kept > 0 => "is in the rejected-lines file",
            _ if acknowledged && taken == 0 => "was acknowledged and is lost",
            _ if by_process.values().any(|times| *times > 1) => "was delivered twice by one process",
            _ => return,
        };
        self.faults.push(format!("{id} ({answered:?}) {fault}: taken {by_process:?}, kept {kept} times"));
    }
}
