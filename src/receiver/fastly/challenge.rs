//! Fastly's challenge: a host that wants a service's logs responds with the SHA-256 of the service id on a line, or `*`
//! for any service (Fastly documentation, "Log streaming: HTTPS").

use sha2::{Digest, Sha256};

use super::FastlyConfig;
use crate::otlp::encode_hex;
use crate::receiver::{Page, PageText};

/// The route of the challenge.
pub(super) const PAGE: Page = Page {
    name: "challenge",
    path: PATH,
    template: PATH,
    text: PageText::Fixed(|receivers| {
        let receivers = receivers.all::<FastlyConfig>().into_iter();
        challenge(receivers.flat_map(|fastly| &fastly.service_ids).map(String::as_str))
    }),
};

const PATH: &str = "/.well-known/fastly/logging/challenge";

/// Returns the response for all service ids of all receivers, each once.
fn challenge<'a>(service_ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for id in service_ids {
        // Digest of the id alone: with a trailing newline it would differ.
        let line = if id == "*" { "*\n".to_owned() } else { encode_hex(&Sha256::digest(id)) + "\n" };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_a_lower_case_digest_on_its_own_line_and_any_service_a_star() {
        assert_eq!(
            challenge(["abc", "*", "abc"]),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n*\n"
        );
    }
}
