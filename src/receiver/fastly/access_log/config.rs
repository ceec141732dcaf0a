//! `receivers.fastly.access_logs`

use crate::config::declare::{choice, section};
use crate::config::kind::{Renames, Text};
use crate::config::section::Section;

section! {
    /// `access_logs` of `receivers.fastly`: lines that are not OTLP but ordinary access logs, as flat JSON objects or in NCSA's
    /// formats.
    pub(crate) struct AccessLogsConfig => check {
        /// Result of a line: a log record, a span, or both. With `both`, the log record has the trace id of the span.
        r#as: AccessLogForm = AccessLogForm::Logs;
        /// Format of the lines. `auto` recognizes all of them; `none` reads only what `map` names.
        preset: AccessLogPreset = AccessLogPreset::Auto;
        /// Fields of your own format: an OpenTelemetry attribute, `timestamp` or `traceparent`, and the name of the line's
        /// field. Dots descend into objects.
        map: Renames, sample("{ timestamp: ts, http.request.method: verb }");
        /// `service.name` of their resource.
        service_name: Text = "fastly".to_owned();
    }
}

choice! {
    /// Result of a line of an access log.
    pub(crate) enum AccessLogForm {
        Logs = "logs",
        Spans = "spans",
        Both = "both",
    }
}

choice! {
    /// Format of access logs.
    pub(crate) enum AccessLogPreset {
        Auto = "auto",
        /// The format that Fastly's web interface suggests for JSON.
        Fastly = "fastly",
        Datadog = "datadog",
        NewRelic = "newrelic",
        BetterStack = "betterstack",
        Coralogix = "coralogix",
        SumoLogic = "sumologic",
        /// NCSA's Common and Combined Log Format.
        Ncsa = "ncsa",
        None = "none",
    }
}

// === impl AccessLogsConfig ===

impl AccessLogsConfig {
    /// Returns the settings as bytes.
    pub(in super::super) fn encode(&self) -> Vec<u8> {
        let words = (self.r#as.as_str(), self.preset.as_str());
        serde_json::to_vec(&(words, &self.service_name, &self.map)).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(in super::super) fn decode(bytes: &[u8]) -> Option<Self> {
        let ((form, preset), service_name, map): ((String, String), _, _) =
            serde_json::from_slice(bytes).ok()?;
        let form = AccessLogForm::WORDS.iter().find(|(word, _)| *word == form)?.1;
        let preset = AccessLogPreset::WORDS.iter().find(|(word, _)| *word == preset)?.1;
        Some(Self { r#as: form, preset, map, service_name })
    }
}

fn check(access_logs: &mut AccessLogsConfig, section: &Section<'_>) {
    let map = &access_logs.map;
    for (index, (key, own)) in map.iter().enumerate() {
        if let Some((other, _)) = map[..index].iter().find(|(_, earlier)| earlier == own) {
            section
                .problem_at("map", format!("{own} is the field of {other} and of {key}; it can be only one"));
        }
    }
}

// === impl AccessLogPreset ===

impl AccessLogPreset {
    /// Returns the value in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, preset)| *preset == self).map_or("", |(word, _)| word)
    }
}

// === impl AccessLogForm ===

impl AccessLogForm {
    fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, form)| *form == self).map_or("", |(word, _)| word)
    }
}
