//! The request for an entry of a rejected-lines file.
//!
//! In: the configuration and one entry. Out: a [`Resubmission`], or the reason why the entry cannot be sent.

use bytes::Bytes;

use crate::config::{Config, Resubmit};
use crate::event::Signal;
use crate::otlp::signal_of;
use crate::rejected::{self, Entry};

/// The request for an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resubmission {
    /// A request to a receiver of the relay.
    Relay(RelayPost),
    /// An export request to the downstream.
    Downstream(Signal, Bytes),
}

/// A request to the relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RelayPost {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// Plans the request for one entry, which contains no data of other entries.
pub(super) fn plan(config: &Config, entry: &Entry) -> Result<Resubmission, String> {
    if entry.cut {
        return Err("only the beginning of its input was kept".to_owned());
    }
    if entry.length.is_some() && entry.bytes().is_none() {
        return Err("it holds no bytes: only their position, reason and length were kept".to_owned());
    }
    let input = Bytes::from(entry.bytes().ok_or("it has no input")?);
    if input.trim_ascii().is_empty() {
        // A receiver would accept an empty body without relaying anything.
        return Err("its input is empty".to_owned());
    }
    if entry.receiver == rejected::DOWNSTREAM {
        let signal = signal_of(&input).ok_or("its input is not an export request")?;
        return Ok(Resubmission::Downstream(signal, input));
    }
    if let Some(receiver) = config.receivers.get(&entry.receiver) {
        let Resubmit { path, headers } = receiver.resubmit(&input);
        return Ok(Resubmission::Relay(RelayPost { path, headers, body: input }));
    }
    Err(format!(
        "receiver {:?} is not configured: enable it, or name its configuration with --config",
        entry.receiver
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::receiver::RECEIVERS;

    fn planned(receiver: &str, input: &str) -> Result<Resubmission, String> {
        let yaml = "receivers:\n  fastly: { auth: { header: x-token, values: [t0, t1] } }\n  fastly/www: { path: /www }\n  \
                    circleci: { secrets: [secret, other] }\n  otlp: { auth: { values: [t] } }\n";
        let config = Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).unwrap();
        let entry = serde_json::json!({"time": "t", "receiver": receiver, "reason": "r", "input": input});
        plan(&config, &serde_json::from_value(entry).unwrap())
    }

    fn post(path: &str, headers: &[(&str, &str)], body: &'static str) -> Result<Resubmission, String> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(Resubmission::Relay(RelayPost {
            path: path.to_owned(),
            headers,
            body: Bytes::from_static(body.as_bytes()),
        }))
    }

    #[test]
    fn an_entry_goes_to_its_receiver_with_the_token() {
        assert_eq!(planned("fastly", "a\n b"), post("/fastly", &[("x-token", "t0")], "a\n b"));
        assert_eq!(planned("fastly/www", "c"), post("/www", &[], "c"));
        let json = [("authorization", "t"), ("content-type", "application/json")];
        assert_eq!(
            planned("otlp", r#"{"resourceLogs":[]}"#),
            post("/v1/logs", &json, r#"{"resourceLogs":[]}"#)
        );
    }

    #[test]
    fn a_webhook_is_signed_again() {
        let signature = "v1=734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a";
        assert_eq!(
            planned("circleci", "hello world"),
            post("/circleci", &[("circleci-signature", signature)], "hello world")
        );
    }

    #[test]
    fn a_rejected_export_goes_to_the_downstream() {
        for (json, signal) in [
            (r#"{"resourceLogs":[]}"#, Signal::Logs),
            (r#"{"resourceSpans":[]}"#, Signal::Traces),
            (r#"{"resourceMetrics":[]}"#, Signal::Metrics),
        ] {
            assert_eq!(planned("otlp_http", json), Ok(Resubmission::Downstream(signal, json.into())));
        }
        assert_eq!(planned("otlp_http", "{}"), Err("its input is not an export request".to_owned()));
    }

    #[test]
    fn an_entry_that_cannot_be_sent_has_a_reason() {
        assert!(planned("gone", "x").unwrap_err().starts_with("receiver \"gone\" is not configured"));
        assert_eq!(planned("fastly", " \n").unwrap_err(), "its input is empty");
        let config = Config::from_yaml("receivers: { fastly: }", &Environment::empty(), RECEIVERS).unwrap();
        for (json, reason) in [
            (r#"{"time":"t","receiver":"fastly","reason":"r"}"#, "it has no input"),
            (
                r#"{"time":"t","receiver":"fastly","line":1,"column":2,"reason":"r","length":17}"#,
                "it holds no bytes: only their position, reason and length were kept",
            ),
            (r#"{"time":"t","receiver":"fastly","reason":"r","input_base64":"%"}"#, "it has no input"),
            (
                r#"{"time":"t","receiver":"fastly","reason":"r","input":"x","cut":true}"#,
                "only the beginning of its input was kept",
            ),
        ] {
            assert_eq!(plan(&config, &serde_json::from_str(json).unwrap()).unwrap_err(), reason);
        }
    }
}
