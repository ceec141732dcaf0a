//! The code that a pipeline ran on: repository, branch or tag, and commit.
//!
//! In: refs and addresses as a sender writes them. Out: a [`Vcs`], whose values are those of the semantic conventions.
//! Promises: the address of a repository never contains credentials.

use std::borrow::Cow;

/// Repository, branch or tag, and commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::receiver) struct Vcs<'a> {
    /// Value of `vcs.provider.name`: `github`, `gitlab`, `bitbucket`, …
    pub(in crate::receiver) provider: Option<Cow<'a, str>>,
    /// Address for a browser: http or https, no credentials, no query, no `.git`.
    pub(in crate::receiver) repository_url: Option<String>,
    pub(in crate::receiver) head: Option<Head<'a>>,
    /// Id of the commit.
    pub(in crate::receiver) revision: Option<Cow<'a, str>>,
}

/// The ref that was built.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::receiver) struct Head<'a> {
    pub(in crate::receiver) name: Cow<'a, str>,
    /// Value of `vcs.ref.head.type`; `None` if the sender does not tell a branch from a tag.
    pub(in crate::receiver) kind: Option<&'static str>,
}

// === impl Head ===

impl<'a> Head<'a> {
    pub(in crate::receiver) fn branch(name: Cow<'a, str>) -> Self {
        Self { name, kind: Some("branch") }
    }

    pub(in crate::receiver) fn tag(name: Cow<'a, str>) -> Self {
        Self { name, kind: Some("tag") }
    }

    /// Reads `refs/heads/…` or `refs/tags/…`.
    pub(in crate::receiver) fn of_full_ref(full: &str) -> Option<Self> {
        let named = |name: &str| (!name.is_empty()).then(|| Cow::Owned(name.to_owned()));
        match full.strip_prefix("refs/heads/") {
            Some(name) => named(name).map(Self::branch),
            None => full.strip_prefix("refs/tags/").and_then(named).map(Self::tag),
        }
    }
}

/// Returns the address of a repository for a browser, from any address that git accepts: `https://`, `ssh://` and the short
/// `git@host:path`.
pub(in crate::receiver) fn repository_url(address: &str) -> Option<String> {
    let (scheme, host, path) = match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let (name, port) = host.split_once(':').unwrap_or((host, ""));
            // Part of a password with a slash, which must not be mistaken for a host.
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            match scheme.to_ascii_lowercase().as_str() {
                "https" => ("https", host, path),
                "http" => ("http", host, path),
                // The port is the SSH server's.
                "ssh" | "git+ssh" => ("https", name, path),
                _ => return None,
            }
        }
        None => {
            let (user_and_host, path) = address.split_once(':')?;
            let (_, host) = user_and_host.rsplit_once('@')?;
            ("https", host, path)
        }
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_name = !host.is_empty() && !host.contains(['/', '?', '#', ' ']);
    (is_name && !path.is_empty()).then(|| format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_address_is_for_browsers_and_has_no_credentials() {
        for (address, url) in [
            ("https://github.com/acme/web", Some("https://github.com/acme/web")),
            ("https://github.com/acme/web.git", Some("https://github.com/acme/web")),
            ("https://github.com/acme/web/", Some("https://github.com/acme/web")),
            (
                "HTTPS://x-access-token:ghs_s3cret@github.com/acme/web.git",
                Some("https://github.com/acme/web"),
            ),
            ("https://ann@mail:s3cret@git.acme.io:8443/a/b", Some("https://git.acme.io:8443/a/b")),
            ("http://git.acme.io/a?private_token=s3cret", Some("http://git.acme.io/a")),
            ("git@gitlab.com:acme/tools/web.git", Some("https://gitlab.com/acme/tools/web")),
            ("ssh://git@bitbucket.acme.io:7999/web/app.git", Some("https://bitbucket.acme.io/web/app")),
            ("https://ann:s3/cret@github.com/acme/web", None),
            ("https://github.com", None),
            ("https://github.com/", None),
            ("https:///acme/web", None),
            ("file:///srv/web.git", None),
            ("/srv/web.git", None),
            ("C:\\web", None),
            ("@:x", None),
            ("web", None),
        ] {
            assert_eq!(repository_url(address).as_deref(), url, "{address}");
        }
    }
}
