//! Secrets that a relay was given, so that its output can be searched for them.
//!
//! They are found by the keys that hold secrets (`values`, `secrets`, `headers`, `token`), by the password in a URL, and by the
//! names of variables. Values shorter than [`SHORTEST`] may occur in a log by chance and are ignored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser};

const SHORTEST: usize = 6;

/// Secrets, in the order in which they were given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Given(Vec<String>);

/// A list or a map that is being read.
struct Open {
    /// The contents are secret.
    is_secret: bool,
    /// The next scalar is a key of a map.
    key_is_next: Option<bool>,
    /// The value of the last key is secret.
    is_value_secret: bool,
}

// === impl Given ===

impl Given {
    pub(crate) fn in_configuration(&mut self, yaml: &str) {
        self.read(yaml, false);
    }

    /// Adds the secrets of `KEY=VALUE`, as after `--set`.
    pub(crate) fn in_setting(&mut self, setting: &str) {
        if let Some((key, value)) = setting.split_once('=') {
            let last = key.rsplit('.').next().unwrap_or(key);
            self.read(value, holds_secrets(last) || key.contains(".headers."));
        }
    }

    pub(crate) fn in_variable(&mut self, name: &str, value: &str) {
        if name.ends_with("_HEADERS") {
            for (_, value) in value.split(',').filter_map(|header| header.split_once('=')) {
                self.add(value);
            }
        } else if name.contains("SECRET")
            || name.starts_with("CIRCLECI_OTLP_") && !name.ends_with("_ENDPOINT")
        {
            self.add(value);
        } else {
            self.add_password(value);
        }
    }

    /// Returns the first secret that is in this text, unchanged or in base64.
    pub(crate) fn found_in(&self, text: &str) -> Option<&str> {
        let is_in = |secret: &&String| text.contains(&***secret) || text.contains(&STANDARD.encode(secret));
        self.0.iter().find(is_in).map(String::as_str)
    }

    fn read(&mut self, yaml: &str, is_secret: bool) {
        let mut open = vec![Open { is_secret, key_is_next: None, is_value_secret: false }];
        // Some configurations are invalid on purpose, from some point on.
        for event in Parser::new_from_str(yaml).map_while(Result::ok) {
            let Some(holder) = open.last_mut() else { return };
            let is_secret = holder.is_secret || holder.is_value_secret;
            match event.0 {
                Event::Scalar(text, ..) => match holder.key_is_next {
                    Some(true) => {
                        holder.is_value_secret = holds_secrets(&text);
                        holder.key_is_next = Some(false);
                        continue;
                    }
                    _ if is_secret => self.add(&text),
                    _ => self.add_password(&text),
                },
                Event::SequenceStart(..) => {
                    open.push(Open { is_secret, key_is_next: None, is_value_secret: false });
                    continue;
                }
                Event::MappingStart(..) => {
                    open.push(Open { is_secret, key_is_next: Some(true), is_value_secret: false });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                _ => continue,
            }
            // A value is complete.
            if let Some(Open { key_is_next: Some(key_is_next), .. }) = open.last_mut() {
                *key_is_next = true;
            }
        }
    }

    fn add(&mut self, secret: &str) {
        // The scheme before a token is not secret.
        let secret = secret.strip_prefix("Bearer ").unwrap_or(secret);
        if secret.len() >= SHORTEST && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
        }
    }

    fn add_password(&mut self, address: &str) {
        let authority = address.split_once("://").and_then(|(_, rest)| rest.split('/').next());
        let user = authority.and_then(|authority| authority.rsplit_once('@'));
        if let Some((_, password)) = user.and_then(|(user, _)| user.split_once(':')) {
            self.add(password);
        }
    }
}

fn holds_secrets(key: &str) -> bool {
    matches!(key, "values" | "secrets" | "headers" | "token")
}

#[test]
fn the_secrets_of_a_configuration_are_found_everywhere() {
    let mut given = Given::default();
    given.in_configuration(
        "receivers:\n  fastly: { path: /long-path, auth: { header: x-long-name, values: [\"Bearer token-1\", short] } }\n  \
         circleci:\n    secrets:\n      - secret-1\n      - secret-2\n    service_name: long-service-name\n\
         exporters:\n  otlp_http:\n    endpoint: \"http://user:password-1@host:4318/long-path\"\n    \
         headers: { x-key: header-1, x-other: header-2 }\n    timeout: 10000000ms\n  \
         broken: { headers: { a: \"header-3\" }, [",
    );
    given.in_setting("receivers.fastly.auth={values: [setting-1]}");
    given.in_setting("exporters.otlp_http.headers={x-key: setting-2}");
    given.in_setting("receivers.circleci.secrets=setting-3");
    given.in_setting("queue.directory=/long-path");
    given.in_variable("CIRCLECI_HOOK_SECRET", "variable-1");
    given.in_variable("CIRCLECI_OTLP_X_KEY", "variable-2");
    given.in_variable("CIRCLECI_OTLP_ENDPOINT", "https://u:password-2@h");
    given.in_variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=variable-3,b=variable-4");
    given.in_variable("FASTLY_SERVICE_IDS", "long-service-id");
    let expected = [
        "token-1",
        "secret-1",
        "secret-2",
        "password-1",
        "header-1",
        "header-2",
        "header-3",
        "setting-1",
        "setting-2",
        "setting-3",
        "variable-1",
        "variable-2",
        "password-2",
        "variable-3",
        "variable-4",
    ];
    assert_eq!(given.0, expected);
    assert_eq!(given.found_in("a secret-2 in the log"), Some("secret-2"));
    assert_eq!(given.found_in(&STANDARD.encode("secret-1")), Some("secret-1"));
    assert_eq!(given.found_in("nothing of it"), None);
}
