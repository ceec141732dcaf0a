//! Version control of a pipeline: repository, branch or tag, and commit.
//!
//! In: `pipeline.vcs` (GitHub OAuth app, Bitbucket Cloud) and `pipeline.trigger_parameters` (GitLab, GitHub App,
//! Bitbucket Data Center). Out: one [`Vcs`], from either of them.
//! Promises: nothing about a person is read, so that no author's name or e-mail address can be exported; a repository's
//! address is exported without credentials.
//!
//! The trigger parameters are free-form: the reference names a key `gitlab` for all three, while GitHub App events have
//! `github_app`; unknown values are `""`.

use std::borrow::Cow;

use crate::receiver::webhook::payload::{Member, members, text};
use crate::receiver::webhook::vcs::{Head, Vcs, repository_url};

/// Reads both sources; `vcs` takes precedence.
pub(super) fn read<'a>(vcs: Member<'a>, trigger_parameters: Member<'a>) -> Vcs<'a> {
    let vcs = of_vcs(vcs);
    let triggered = of_trigger_parameters(trigger_parameters);
    Vcs {
        provider: vcs.provider.or(triggered.provider),
        repository_url: vcs.repository_url.or(triggered.repository_url),
        head: vcs.head.or(triggered.head),
        revision: vcs.revision.or(triggered.revision),
    }
}

/// Reads `vcs`. The origin differs from the target for forks only, and the pipeline belongs to the target.
fn of_vcs(vcs: Member<'_>) -> Vcs<'_> {
    let [provider, target, origin, revision, branch, tag] = members(
        vcs,
        ["provider_name", "target_repository_url", "origin_repository_url", "revision", "branch", "tag"],
    );
    Vcs {
        provider: text(provider).map(lower_case),
        repository_url: first_repository_url([target, origin]),
        head: head(tag, branch, []),
        revision: text(revision),
    }
}

fn of_trigger_parameters(trigger_parameters: Member<'_>) -> Vcs<'_> {
    let [git, gitlab, github_app, circleci] =
        members(trigger_parameters, ["git", "gitlab", "github_app", "circleci"]);
    let [trigger_type] = members(circleci, ["trigger_type"]);
    let [tag, branch, git_ref, checkout_sha, checkout_url, git_repo_url] =
        members(git, ["tag", "branch", "ref", "checkout_sha", "checkout_url", "repo_url"]);
    let [forge_branch, forge_ref, full_ref, forge_checkout_sha, commit_sha, web_url, repo_url] = members(
        github_app.or(gitlab),
        ["branch", "ref", "full_ref", "checkout_sha", "commit_sha", "web_url", "repo_url"],
    );
    Vcs {
        provider: provider(text(trigger_type).as_deref(), github_app, gitlab).map(Cow::Borrowed),
        repository_url: first_repository_url([web_url, repo_url, git_repo_url, checkout_url]),
        head: head(tag, branch, [git_ref, full_ref, forge_ref]).or_else(|| head(None, forge_branch, [])),
        revision: text(checkout_sha).or_else(|| text(forge_checkout_sha)).or_else(|| text(commit_sha)),
    }
}

fn lower_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text }
}

/// Returns the provider. The trigger's type is more reliable: by the reference, GitHub App events may have the key
/// `gitlab`.
fn provider(trigger_type: Option<&str>, github_app: Member<'_>, gitlab: Member<'_>) -> Option<&'static str> {
    let named = ["github", "gitlab", "bitbucket"];
    let from_type = trigger_type.and_then(|kind| named.into_iter().find(|name| kind.starts_with(name)));
    from_type.or(github_app.map(|_| "github")).or(gitlab.map(|_| "gitlab"))
}

/// Returns branch or tag. A tag build may name a branch as well, but not vice versa. The short form of a ref is
/// ambiguous, so that only full ones (`refs/heads/…`, `refs/tags/…`) are used.
fn head<'a, const N: usize>(tag: Member<'a>, branch: Member<'a>, refs: [Member<'a>; N]) -> Option<Head<'a>> {
    let branch = || text(branch).map(Head::branch);
    let full_ref = || refs.into_iter().filter_map(text).find_map(|full| Head::of_full_ref(&full));
    text(tag).map(Head::tag).or_else(branch).or_else(full_ref)
}

fn first_repository_url<const N: usize>(members: [Member<'_>; N]) -> Option<String> {
    members.into_iter().filter_map(text).find_map(|url| repository_url(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vcs(vcs: &str, trigger_parameters: &str) -> String {
        let vcs = read(
            Some(serde_json::from_str(vcs).unwrap()),
            Some(serde_json::from_str(trigger_parameters).unwrap()),
        );
        format!(
            "{} {} {} {}",
            vcs.provider.as_deref().unwrap_or("-"),
            vcs.repository_url.as_deref().unwrap_or("-"),
            vcs.head.map_or("-".to_owned(), |head| format!("{}={}", head.kind.unwrap(), head.name)),
            vcs.revision.as_deref().unwrap_or("-"),
        )
    }

    #[test]
    fn reads_both_sources_and_the_first_with_a_leaf_wins() {
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
    fn a_fork_belongs_to_the_repository_of_its_pipeline() {
        let fork = r#"{"target_repository_url":"https://h/us","origin_repository_url":"https://h/them"}"#;
        assert_eq!(vcs(fork, "null"), "- https://h/us - -");
        let origin_only = r#"{"target_repository_url":null,"origin_repository_url":"https://h/them"}"#;
        assert_eq!(vcs(origin_only, "null"), "- https://h/them - -");
    }

    #[test]
    fn a_tag_is_recognised_by_its_leaf_or_by_its_full_ref() {
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
    fn the_provider_follows_from_the_triggers_type_or_from_the_key() {
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
}
