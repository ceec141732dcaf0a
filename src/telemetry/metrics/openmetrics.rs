//! The OpenMetrics 1.0 form of the metrics.
//!
//! In: the Prometheus text form. Out: the same samples, under the same names. Counters whose name does not end in `_total` are
//! the Collector's; OpenMetrics has no counters of such names, so their type is `unknown`, which changes no query.

use std::fmt::Write;

/// Suffix of the samples of a counter, which the name of its family does not have.
const TOTAL: &str = "_total";

/// Converts metrics from the Prometheus text form.
pub(super) fn from_prometheus(text: &str) -> String {
    let mut converted = String::with_capacity(text.len() + 64);
    // The help of a family comes before its type, on which its name depends.
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let (name, kind) = match (kind, name.strip_suffix(TOTAL)) {
                ("counter", Some(family)) => (family, kind),
                ("counter", None) => (name, "unknown"),
                _ => (name, kind),
            };
            // Writing to a string cannot fail.
            writeln!(converted, "# TYPE {name} {kind}").ok();
            if let Some(help) = help.take() {
                writeln!(converted, "# HELP {name} {}", help.replace('"', "\\\"")).ok();
            }
        } else {
            converted.push_str(line);
            converted.push('\n');
        }
    }
    converted.push_str("# EOF\n");
    converted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::Metrics;

    /// Checks every sample against the rules for the names of its family, and the whole against the Prometheus form.
    #[test]
    fn every_sample_keeps_its_name_and_fits_its_family() {
        let metrics = Metrics::new();
        metrics.expect([("fastly", None)]);
        let text = String::from_utf8(metrics.render()).unwrap();
        let converted = from_prometheus(&text);
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(&converted), samples(&text));
        assert!(converted.ends_with("\n# EOF\n") && converted.matches("# EOF").count() == 1);

        let (mut family, mut kind, mut kinds) = (String::new(), String::new(), BTreeSet::new());
        for line in converted.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["#", "TYPE", name, typed] => {
                    assert_ne!(family, name, "one type for each family");
                    (family, kind) = (name.to_owned(), typed.to_owned());
                    kinds.insert(typed.to_owned());
                }
                ["#", "HELP", name, ..] => assert_eq!(family, name),
                ["#", ..] => {}
                [sample, ..] => {
                    let name = sample.split('{').next().unwrap();
                    let end =
                        name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} is not of {family}"));
                    let allowed: &[&str] = match kind.as_str() {
                        "counter" => &["_total"],
                        "histogram" => &["_bucket", "_sum", "_count"],
                        _ => &[""],
                    };
                    assert!(allowed.contains(&end), "{name} of {kind} {family}");
                }
                [] => unreachable!("a line has a word"),
            }
        }
        assert_eq!(kinds, ["counter", "gauge", "histogram", "unknown"].map(str::to_owned).into());
    }

    #[test]
    fn quotes_in_a_help_text_are_escaped() {
        let text = "# HELP a_total Says \"a\".\n# TYPE a_total counter\na_total 1\n";
        assert_eq!(from_prometheus(text), "# TYPE a counter\n# HELP a Says \\\"a\\\".\na_total 1\n# EOF\n");
    }
}
