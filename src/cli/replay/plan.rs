//! Which requests the entries of a rejected-lines file make.
//!
//! In: the configuration and the text of the file. Out: [`Post`]s in the order of the file, and what cannot be
//! replayed, with the reason.

use bytes::Bytes;

use crate::config::{AuthConfig, CircleCiConfig, Config, FastlyConfig};
use crate::otlp::{Signal, signal_of};
use crate::receiver::circleci::sign;
use crate::rejected::Entry;

/// Lines for one fastly receiver go together, as Fastly would send them.
const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What the downstream refused is not a receiver's.
const DOWNSTREAM: &str = "otlp_http";

/// The requests to send.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) posts: Vec<Post>,
    pub(super) unusable: Vec<String>,
}

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Post {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Entries of the file in it.
    pub(super) entries: usize,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(config: &Config, text: &str) -> Self {
        let mut plan = Self::default();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let planned = serde_json::from_str::<Entry>(line)
                .map_err(|_| "not an entry of a rejected-lines file".to_owned())
                .and_then(|entry| plan.add(config, &entry));
            if let Err(reason) = planned {
                plan.unusable.push(format!("line {number}: {reason}"));
            }
        }
        plan
    }

    fn add(&mut self, config: &Config, entry: &Entry) -> Result<(), String> {
        if entry.cut {
            return Err("only the beginning of its input was kept".to_owned());
        }
        let input = entry.bytes().ok_or("it has no input")?;
        let receivers = &config.receivers;
        if let Some(fastly) = receivers.fastly.iter().find(|one| one.id == entry.receiver) {
            self.add_line(fastly, &input);
        } else if let Some(circleci) = receivers.circleci.iter().find(|one| one.id == entry.receiver) {
            self.posts.push(webhook(circleci, input));
        } else if let Some(otlp) = receivers.otlp.as_ref().filter(|_| is_otlp(&entry.receiver)) {
            let input = Bytes::from(input);
            let signal = signal_of(&input).unwrap_or(Signal::Traces);
            let mut headers = token(otlp.auth.as_ref());
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
            self.posts.push(Post { path: format!("/v1/{signal}"), headers, body: input, entries: 1 });
        } else if let Some(fastly) = receivers.fastly.first().filter(|_| is_otlp(&entry.receiver)) {
            // An export request is a line like any other.
            self.add_line(fastly, &input);
        } else {
            return Err(format!("receiver {} is not configured", entry.receiver));
        }
        Ok(())
    }

    fn add_line(&mut self, fastly: &FastlyConfig, input: &[u8]) {
        if let Some(last) = self.posts.last_mut()
            && last.path == fastly.path
            && last.entries < MAX_LINES
            && last.body.len() + input.len() < MAX_BYTES
        {
            last.body = [&last.body, input, b"\n"].concat().into();
            last.entries += 1;
            return;
        }
        self.posts.push(Post {
            path: fastly.path.clone(),
            headers: token(fastly.auth.as_ref()),
            body: [input, b"\n"].concat().into(),
            entries: 1,
        });
    }
}

fn is_otlp(receiver: &str) -> bool {
    matches!(receiver, DOWNSTREAM | "otlp")
}

/// The header that a receiver asks for.
fn token(auth: Option<&AuthConfig>) -> Vec<(String, String)> {
    auth.and_then(|auth| {
        let value = auth.values.first()?;
        Some((auth.header.as_str().to_owned(), value.expose().to_owned()))
    })
    .into_iter()
    .collect()
}

fn webhook(circleci: &CircleCiConfig, input: Vec<u8>) -> Post {
    let signature = circleci.secrets.first().map(|secret| {
        ("circleci-signature".to_owned(), format!("v1={}", sign(secret.expose().as_bytes(), &input)))
    });
    let headers = signature.into_iter().collect();
    Post { path: circleci.path.clone(), headers, body: input.into(), entries: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn config() -> Config {
        let yaml = "receivers:\n  fastly: { auth: { header: x-token, values: [t0, t1] } }\n  fastly/www: { path: /www }\n  \
                    circleci: { secrets: [secret, other] }\n";
        Config::from_yaml(yaml, &Environment::empty()).unwrap()
    }

    fn entry(receiver: &str, input: &str) -> String {
        serde_json::json!({"time": "2026-01-01T00:00:00Z", "receiver": receiver, "reason": "r", "input": input}).to_string()
    }

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_of_one_receiver_go_together_with_its_token() {
        let text =
            [entry("fastly", "a"), entry("fastly", "b"), entry("fastly/www", "c"), entry("fastly", "d")]
                .join("\n");
        let plan = Plan::new(&config(), &text);
        assert_eq!(plan.unusable, [""; 0]);
        let posts: Vec<_> =
            plan.posts.iter().map(|post| (&*post.path, &post.body[..], post.entries)).collect();
        assert_eq!(posts, [("/fastly", &b"a\nb\n"[..], 2), ("/www", b"c\n", 1), ("/fastly", b"d\n", 1)]);
        assert_eq!(plan.posts[0].headers, [header("x-token", "t0")]);
    }

    #[test]
    fn a_webhook_is_signed_anew() {
        let plan = Plan::new(&config(), &entry("circleci", "hello world"));
        let signature = "v1=734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a";
        assert_eq!(
            plan.posts,
            [Post {
                path: "/circleci".to_owned(),
                headers: vec![header("circleci-signature", signature)],
                body: Bytes::from_static(b"hello world"),
                entries: 1,
            }]
        );
    }

    #[test]
    fn what_the_downstream_refused_goes_where_otlp_is_taken() {
        let logs = entry("otlp_http", r#"{"resourceLogs":[]}"#);
        assert_eq!(Plan::new(&config(), &logs).posts[0].path, "/fastly");
        let config =
            Config::from_yaml("receivers: { otlp: { auth: { values: [t] } } }", &Environment::empty())
                .unwrap();
        let post = &Plan::new(&config, &logs).posts[0];
        assert_eq!(post.path, "/v1/logs");
        assert_eq!(post.headers, [header("authorization", "t"), header("content-type", "application/json")]);
    }

    #[test]
    fn what_cannot_be_replayed_is_named_by_its_line() {
        let cut = entry("fastly", "x").replace('}', r#","cut":true}"#);
        let nothing = entry("fastly", "x").replace("input", "output");
        let text =
            format!("{}\n\nno entry\n{cut}\n{nothing}\n{}", entry("gone", "x"), entry("fastly", "good"));
        let plan = Plan::new(&config(), &text);
        assert_eq!(plan.posts.len(), 1);
        assert_eq!(
            plan.unusable,
            [
                "line 1: receiver gone is not configured",
                "line 3: not an entry of a rejected-lines file",
                "line 4: only the beginning of its input was kept",
                "line 5: it has no input",
            ]
        );
    }

    #[test]
    fn a_request_has_a_bound() {
        let text = vec![entry("fastly", "x"); MAX_LINES + 1].join("\n");
        let plan = Plan::new(&config(), &text);
        assert_eq!(plan.posts.iter().map(|post| post.entries).collect::<Vec<_>>(), [MAX_LINES, 1]);
    }
}
