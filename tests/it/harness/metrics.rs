//! Metrics of a relay, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt;

/// Signals, with the Collector's words for their items.
const SIGNALS: [(&str, &str); 3] =
    [("traces", "spans"), ("logs", "log_records"), ("metrics", "metric_points")];

/// All samples of one exposition.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Samples ===

impl Samples {
    pub(crate) fn parse(exposition: &str) -> Self {
        let lines = exposition.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(lines.map(Sample::parse).collect())
    }

    /// Returns the sum over all series with this name and these labels; zero when there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|given| given == value))
        };
        self.0.iter().filter(wanted).map(|sample| sample.value).sum()
    }

    /// Returns whether nothing is queued, held or in flight.
    pub(crate) fn are_at_rest(&self) -> bool {
        self.sum("otelcol_exporter_queue_size", &[]) == 0.0 && self.sum("spanrelay_held_spans", &[]) == 0.0
    }

    /// Checks that every item that this process accepted, or found in its queue, has exactly one outcome.
    pub(crate) fn assert_conserved(&self) {
        for (signal, items) in SIGNALS {
            let accepted = self.sum(&format!("otelcol_receiver_accepted_{items}"), &[]);
            let recovered = self.sum("spanrelay_recovered_items_total", &[("signal", signal)]);
            let settled = self.sum("spanrelay_settled_items_total", &[("signal", signal)]);
            assert_eq!(
                accepted + recovered,
                settled,
                "{signal}: {accepted} accepted, {recovered} recovered\n{self}"
            );
        }
    }

    /// Returns whether there is a series with this name.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// Returns all values of a label in series with this name.
    pub(crate) fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|sample| sample.name == name);
        of_name.filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sample { name, labels, value } in &self.0 {
            writeln!(f, "{name} {labels:?} {value}")?;
        }
        Ok(())
    }
}

// === impl Sample ===

impl Sample {
    /// Parses `name{key="value",…} 1`; no value of the relay's has a quote or a comma.
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (key, value) = label.split_once('=').unwrap();
            (key.to_owned(), value.trim_matches('"').to_owned())
        };
        Self { name: name.to_owned(), labels: labels.map(label).collect(), value: value.parse().unwrap() }
    }
}
