//! What was built: repository, branch or tag, and commit.
//!
//! In:  `pipeline.vcs` (GitHub OAuth app, Bitbucket Cloud) and `pipeline.trigger_parameters` (GitLab, GitHub App,
//! Bitbucket Data Center). Out: one [`Vcs`], whichever of them said it.
//! Promises: nothing of a person is read, so that no commit author's name or e-mail address can leave; a repository's
//! address leaves without credentials.
//!
//! The trigger parameters are free-form: the reference names a key `gitlab` for all three, while GitHub App events
//! have `github_app`; what is not known is `""`.

use std::borrow::Cow;

use super::members::{Member, members, text};

/// What an event says about the code that it ran on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Vcs<'a> {
    /// `github`, `gitlab`, `bitbucket`, …: the words of the semantic conventions.
    pub(super) provider: Option<Cow<'a, str>>,
    /// For a browser: http or https, no credentials, no query, no `.git`.
    pub(super) repository_url: Option<String>,
    pub(super) head: Option<Head<'a>>,
    /// The commit's id.
    pub(super) revision: Option<Cow<'a, str>>,
}

/// The ref that was built.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) name: Cow<'a, str>,
    /// The value of `vcs.ref.head.type`.
    pub(super) kind: &'static str,
}

// === impl Vcs ===

impl<'a> Vcs<'a> {
    pub(super) fn of(vcs: Member<'a>, trigger_parameters: Member<'a>) -> Self {
        let vcs = Self::of_vcs(vcs);
        let triggered = Self::of_trigger_parameters(trigger_parameters);
        Self {
            provider: vcs.provider.or(triggered.provider),
            repository_url: vcs.repository_url.or(triggered.repository_url),
            head: vcs.head.or(triggered.head),
            revision: vcs.revision.or(triggered.revision),
        }
    }

    /// The origin differs from the target for forks only, and the target is where the pipeline belongs.
    fn of_vcs(vcs: Member<'a>) -> Self {
        let [provider, target, origin, revision, branch, tag] = members(
            vcs,
            ["provider_name", "target_repository_url", "origin_repository_url", "revision", "branch", "tag"],
        );
        Self {
            provider: text(provider).map(lower_case),
            repository_url: first_repository_url([target, origin]),
            head: Head::of(tag, branch, []),
            revision: text(revision),
        }
    }

    fn of_trigger_parameters(trigger_parameters: Member<'a>) -> Self {
        let [git, gitlab, github_app, circleci] =
            members(trigger_parameters, ["git", "gitlab", "github_app", "circleci"]);
        let [trigger_type] = members(circleci, ["trigger_type"]);
        let [tag, branch, git_ref, checkout_sha, checkout_url, git_repo_url] =
            members(git, ["tag", "branch", "ref", "checkout_sha", "checkout_url", "repo_url"]);
        let [forge_branch, forge_ref, full_ref, forge_checkout_sha, commit_sha, web_url, repo_url] = members(
            github_app.or(gitlab),
            ["branch", "ref", "full_ref", "checkout_sha", "commit_sha", "web_url", "repo_url"],
        );
        Self {
            provider: provider(text(trigger_type).as_deref(), github_app, gitlab).map(Cow::Borrowed),
            repository_url: first_repository_url([web_url, repo_url, git_repo_url, checkout_url]),
            head: Head::of(tag, branch, [git_ref, full_ref, forge_ref])
                .or_else(|| Head::of(None, forge_branch, [])),
            revision: text(checkout_sha).or_else(|| text(forge_checkout_sha)).or_else(|| text(commit_sha)),
        }
    }
}

fn lower_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text }
}

/// The trigger's type is the better witness: the reference lets GitHub App events come with the key `gitlab`.
fn provider(trigger_type: Option<&str>, github_app: Member<'_>, gitlab: Member<'_>) -> Option<&'static str> {
    let named = ["github", "gitlab", "bitbucket"];
    let from_type = trigger_type.and_then(|kind| named.into_iter().find(|name| kind.starts_with(name)));
    from_type.or(github_app.map(|_| "github")).or(gitlab.map(|_| "gitlab"))
}

// === impl Head ===

impl<'a> Head<'a> {
    /// A tag build may name a branch as well, never the other way round. The short form of a ref does not tell what it
    /// is, so only full ones (`refs/heads/…`, `refs/tags/…`) count.
    fn of<const N: usize>(tag: Member<'a>, branch: Member<'a>, refs: [Member<'a>; N]) -> Option<Self> {
        let tag = text(tag).map(|name| Self { name, kind: "tag" });
        let branch = || text(branch).map(|name| Self { name, kind: "branch" });
        tag.or_else(branch).or_else(|| refs.into_iter().filter_map(text).find_map(Self::of_full_ref))
    }

    fn of_full_ref(full: Cow<'a, str>) -> Option<Self> {
        [("refs/heads/", "branch"), ("refs/tags/", "tag")].into_iter().find_map(|(prefix, kind)| {
            let name = full.strip_prefix(prefix).filter(|name| !name.is_empty())?;
            Some(Self { name: Cow::Owned(name.to_owned()), kind })
        })
    }
}

fn first_repository_url<const N: usize>(members: [Member<'_>; N]) -> Option<String> {
    members.into_iter().filter_map(text).find_map(|url| repository_url(&url))
}

/// The address of a repository in a browser, from any address that git takes: `https://`, `ssh://` and the short
/// `git@host:path`.
fn repository_url(address: &str) -> Option<String> {
    let (scheme, host, path) = match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let (name, port) = host.split_once(':').unwrap_or((host, ""));
            // A password with a slash in it ends up here, and must not be taken for a host.
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

    fn vcs(vcs: &str, trigger_parameters: &str) -> String {
        let vcs = Vcs::of(
            Some(serde_json::from_str(vcs).unwrap()),
            Some(serde_json::from_str(trigger_parameters).unwrap()),
        );
        format!(
            "{} {} {} {}",
            vcs.provider.as_deref().unwrap_or("-"),
            vcs.repository_url.as_deref().unwrap_or("-"),
            vcs.head.map_or("-".to_owned(), |head| format!("{}={}", head.kind, head.name)),
            vcs.revision.as_deref().unwrap_or("-"),
        )
    }

    #[test]
    fn reads_either_source_and_the_first_that_knows_a_leaf_wins() {
        assert_eq!(vcs("null", "null"), "- - - -");
        assert_eq!(vcs("[]", "\"x\""), "- - - -");
        assert_eq!(
            vcs(
                r#"{"provider_name":"Bitbucket","branch":"","revision":"1"}"#,
                r#"{"gitlab":{},"git":{"checkout_url":"https://h/r.git","branch":"main","checkout_sha":"2"}}"#
            ),
            "bitbucket https://h/r branch=main 1"
        );
    }

    #[test]
    fn a_fork_belongs_to_the_repository_that_builds_it() {
        let fork = r#"{"target_repository_url":"https://h/us","origin_repository_url":"https://h/them"}"#;
        assert_eq!(vcs(fork, "null"), "- https://h/us - -");
        let origin_only = r#"{"target_repository_url":null,"origin_repository_url":"https://h/them"}"#;
        assert_eq!(vcs(origin_only, "null"), "- https://h/them - -");
    }

    #[test]
    fn a_tag_is_known_by_its_leaf_or_by_its_full_ref() {
        assert_eq!(vcs(r#"{"branch":null,"tag":"v1"}"#, "null"), "- - tag=v1 -");
        assert_eq!(vcs(r#"{"branch":null}"#, "null"), "- - - -");
        assert_eq!(vcs("null", r#"{"git":{"tag":"v1","branch":"v1"}}"#), "- - tag=v1 -");
        assert_eq!(
            vcs("null", r#"{"git":{"tag":"","branch":"","ref":"refs/tags/v1/rc"}}"#),
            "- - tag=v1/rc -"
        );
        assert_eq!(vcs("null", r#"{"gitlab":{"ref":"refs/heads/main"}}"#), "gitlab - branch=main -");
        for unclear in ["main", "refs/heads/", "refs/merge-requests/7/head"] {
            let parameters = format!(r#"{{"git":{{"ref":"{unclear}"}}}}"#);
            assert_eq!(vcs("null", &parameters), "- - - -", "{unclear}");
        }
    }

    #[test]
    fn the_provider_is_known_by_the_triggers_type_or_by_the_key() {
        for (parameters, provider) in [
            (r#"{"github_app":{}}"#, "github"),
            (r#"{"gitlab":{}}"#, "gitlab"),
            (r#"{"gitlab":{},"github_app":null}"#, "gitlab"),
            (r#"{"gitlab":{},"circleci":{"trigger_type":"github_app"}}"#, "github"),
            (r#"{"gitlab":{},"circleci":{"trigger_type":"bitbucket_dc"}}"#, "bitbucket"),
            (r#"{"gitlab":{},"circleci":{"trigger_type":"schedule"}}"#, "gitlab"),
            (r#"{"git":{},"circleci":{"trigger_type":""}}"#, "-"),
        ] {
            assert_eq!(vcs("null", parameters), format!("{provider} - - -"), "{parameters}");
        }
    }

    #[test]
    fn a_repository_address_is_a_browsers_and_holds_no_credentials() {
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
