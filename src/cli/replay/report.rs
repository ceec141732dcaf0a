//! Report of the outcome of every entry of a rejected-lines file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;

use crate::exporter::Resent;

/// Outcomes of all entries.
#[derive(Debug, Default)]
pub(super) struct ReplayReport {
    accepted: usize,
    rejected: BTreeMap<String, LineSet>,
    not_sent: BTreeMap<String, LineSet>,
    interrupted: Option<Rest>,
}

/// Entries without an outcome.
#[derive(Debug)]
struct Rest {
    under_way: LineSet,
    /// Number of the first unread line.
    from: Option<u64>,
}

/// Set of line numbers.
#[derive(Debug, Default)]
struct LineSet(BTreeSet<u64>);

// === impl ReplayReport ===

impl ReplayReport {
    /// Adds the result of the last attempt to send an entry.
    pub(super) fn add(&mut self, line: u64, resent: Resent) {
        match resent {
            Resent::Accepted => self.accepted += 1,
            Resent::Rejected(reason) => drop(self.rejected.entry(reason).or_default().0.insert(line)),
            Resent::Failed { reason, .. } => drop(self.not_sent.entry(reason).or_default().0.insert(line)),
        }
    }

    /// Notes the entries that an interrupt left: those in flight, which may or may not have been accepted, and those
    /// from the line `from` on.
    pub(super) fn interrupted(&mut self, under_way: BTreeSet<u64>, from: Option<u64>) {
        self.interrupted = Some(Rest { under_way: LineSet(under_way), from });
    }

    /// Returns true if every entry was accepted.
    pub(super) fn is_complete(&self) -> bool {
        self.rejected.is_empty() && self.not_sent.is_empty() && self.interrupted.is_none()
    }

    /// Returns true if every entry arrived, whether it was accepted or rejected again.
    #[cfg(feature = "kafka")]
    pub(super) fn is_sent(&self) -> bool {
        self.not_sent.is_empty() && self.interrupted.is_none()
    }

    pub(super) fn text(&self, source: impl Display, address: SocketAddr) -> String {
        let count =
            |ends: &BTreeMap<String, LineSet>| ends.values().map(|lines| lines.0.len()).sum::<usize>();
        let mut text = format!(
            "{source} to {address}: {} accepted, {} rejected again, {} not sent\n",
            self.accepted,
            count(&self.rejected),
            count(&self.not_sent)
        );
        for (what, ends) in [("rejected again", &self.rejected), ("not sent", &self.not_sent)] {
            for (reason, lines) in ends {
                writeln!(text, "  {lines} {what}: {reason}").expect("writing to a string cannot fail");
            }
        }
        if let Some(Rest { under_way, from }) = &self.interrupted {
            if !under_way.0.is_empty() {
                text.push_str(&format!("  {under_way} unknown: interrupted before the response came\n"));
            }
            if let Some(from) = from {
                text.push_str(&format!("  line {from} and all after it not sent: interrupted\n"));
            }
        }
        text
    }
}

// === impl LineSet ===

impl Display for LineSet {
    /// Formats `line 3`, or `lines 3-5, 9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "line " } else { "lines " })?;
        let mut lines = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = lines.next() {
            let mut last = first;
            while let Some(next) = lines.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(report: &ReplayReport) -> String {
        report.text("f", "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn every_entry_is_in_the_report_once_with_its_line_unless_accepted() {
        let mut report = ReplayReport::default();
        report.add(1, Resent::Accepted);
        assert!(report.is_complete());
        assert_eq!(text(&report), "f to 127.0.0.1:1: 1 accepted, 0 rejected again, 0 not sent\n");
        for line in [9, 3, 5, 4] {
            report.add(line, Resent::Rejected("cut off".to_owned()));
        }
        report.add(7, Resent::failed("no relay".to_owned()));
        assert!(!report.is_complete());
        assert_eq!(
            text(&report),
            "f to 127.0.0.1:1: 1 accepted, 4 rejected again, 1 not sent\n  \
             lines 3-5, 9 rejected again: cut off\n  line 7 not sent: no relay\n"
        );
    }

    #[test]
    fn an_interrupted_run_lists_the_rest() {
        let mut report = ReplayReport::default();
        report.add(1, Resent::Accepted);
        report.interrupted([2, 3].into(), Some(4));
        assert!(!report.is_complete());
        assert_eq!(
            text(&report),
            "f to 127.0.0.1:1: 1 accepted, 0 rejected again, 0 not sent\n  \
             lines 2-3 unknown: interrupted before the response came\n  line 4 and all after it not sent: interrupted\n"
        );
    }
}
