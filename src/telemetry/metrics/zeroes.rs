//! Creation of series before their first count, so that a rate or an alert over them sees the first increment.

use super::{Metrics, NO_RECEIVER, SUPERSEDED};
use crate::event::{LogEventOutcome, RequestOutcome, Signal, Transport, UnitOutcome, WebhookEvent};

/// Usual statuses of requests that reached a receiver.
const RECEIVER_CODES: [&str; 11] =
    ["200", "202", "204", "400", "401", "405", "408", "413", "415", "500", "503"];

/// Usual statuses of all other requests.
const OTHER_CODES: [&str; 5] = ["200", "400", "404", "405", "500"];

// === impl Metrics ===

impl Metrics {
    /// Creates every series that these receivers, and any exporter, can count in. Receivers of webhooks come with their events.
    pub(crate) fn expect<'a>(
        &self,
        receivers: impl IntoIterator<Item = (&'a str, Option<&'static [WebhookEvent]>)>,
    ) {
        for (receiver, events) in receivers {
            match events {
                Some(events) => self.expect_webhooks(events),
                None => UnitOutcome::ALL.into_iter().for_each(|outcome| self.lines(receiver, outcome, 0)),
            }
            for code in RECEIVER_CODES {
                self.requests.with_label_values(&[receiver, code]);
            }
            self.throttled.with_label_values(&[receiver]);
            self.overloaded.with_label_values(&[receiver]);
            self.expect_items([receiver, Transport::Http.as_str()]);
        }
        for code in OTHER_CODES {
            self.requests.with_label_values(&[NO_RECEIVER, code]);
        }
        LogEventOutcome::ALL.into_iter().for_each(|outcome| self.log_events(outcome, 0));
        for what in ["file", "record"] {
            self.queue_damaged.with_label_values(&[what]);
        }
        self.own_spans();
        for signal in Signal::ALL {
            self.recovered(signal, 0);
        }
    }

    /// Creates the series of items of a receiver and the transport that they come by.
    pub(crate) fn expect_items(&self, origin: [&str; 2]) {
        for signal in Signal::ALL {
            self.accepted(origin, signal, 0);
            self.refused(origin, signal, 0);
        }
    }

    fn expect_webhooks(&self, events: &[WebhookEvent]) {
        for event in events.iter().chain([&WebhookEvent::UNKNOWN]) {
            let outcomes = RequestOutcome::OF_WEBHOOKS.map(RequestOutcome::as_str);
            for outcome in outcomes.into_iter().chain([SUPERSEDED]) {
                self.webhooks.with_label_values(&[event.as_str(), outcome]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_exist_before_their_first_count() {
        let metrics = Metrics::new();
        const EVENTS: &[WebhookEvent] = &[WebhookEvent::new("ping")];
        metrics.expect([("fastly/www", None), ("circleci", Some(EVENTS))]);
        let text = String::from_utf8(metrics.render()).unwrap();
        for series in [
            "spanrelay_requests_total{code=\"401\",receiver=\"fastly/www\"} 0",
            "spanrelay_requests_total{code=\"404\",receiver=\"none\"} 0",
            "spanrelay_lines_total{outcome=\"rejected\",receiver=\"fastly/www\"} 0",
            "spanrelay_webhooks_total{event=\"ping\",outcome=\"duplicate\"} 0",
            "spanrelay_webhooks_total{event=\"unknown\",outcome=\"unauthorized\"} 0",
            "otelcol_receiver_refused_spans{receiver=\"circleci\",transport=\"http\"} 0",
            "spanrelay_throttled_requests_total{receiver=\"fastly/www\"} 0",
            "spanrelay_overloaded_requests_total{receiver=\"circleci\"} 0",
            "spanrelay_log_events_total{outcome=\"attached\"} 0",
            "spanrelay_export_requests_total{outcome=\"retryable\",signal=\"logs\"} 0",
            "spanrelay_export_duration_seconds_count{signal=\"traces\"} 0",
        ] {
            assert!(text.contains(series), "{series}\n{text}");
        }
        assert!(!text.contains("lines_total{outcome=\"accepted\",receiver=\"circleci\"}"), "{text}");
    }
}
