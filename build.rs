//! Sets `SPANRELAY_VERSION`: the version, and the commit where it is known.
//!
//! The commit comes from `SPANRELAY_COMMIT` or the variables of CI, else from git for release builds. Others do not ask git: they
//! would be built again after every commit. Without either, the version stands alone.

#![allow(clippy::disallowed_methods, reason = "a build script has no configuration but its environment")]

use std::env;
use std::process::Command;

/// Variables that name the commit, in the order in which they are read.
const VARIABLES: [&str; 3] = ["SPANRELAY_COMMIT", "GITHUB_SHA", "CIRCLE_SHA1"];
/// Shown length of a commit.
const SHOWN: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let named =
        VARIABLES.iter().find_map(|variable| env::var(variable).ok().filter(|value| is_commit(value)));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = named.or_else(|| if is_release { commit_of_git() } else { None });
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit {
        Some(commit) => format!("{version} ({})", commit.chars().take(SHOWN).collect::<String>()),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=SPANRELAY_VERSION={version}");
}

/// Returns the commit that is checked out, if this is a git repository. The file that names it is watched.
fn commit_of_git() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
