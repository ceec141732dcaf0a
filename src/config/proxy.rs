//! The proxies of the environment, for exporters: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, upper case first.
//!
//! They apply with a configuration file, too: they describe the network of the host, and no key of the file sets them.

use http::Uri;

use super::env::{Environment, Variable};
use super::kind::derived;
use super::problem::{Problem, ValueOrigin};
use super::secret::Secret;

/// Proxies by the scheme of the destination, and the hosts that are reached without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProxySettings {
    /// A URL, which may hold a password.
    pub(crate) http: Option<Secret>,
    pub(crate) https: Option<Secret>,
    pub(crate) no: String,
}

// === impl ProxySettings ===

impl ProxySettings {
    /// Reads the environment. A proxy that cannot be used is a problem: without it, data would take another way.
    pub(super) fn read(environment: &Environment, problems: &mut Vec<Problem>) -> Self {
        let mut proxy = |names: [&'static str; 2]| {
            let (name, url) = variable(environment, names)?;
            if let Err(what) = check(url) {
                problems.push(Problem::new(&ValueOrigin::Variable(name.to_owned()), "", what));
            }
            Some(Secret::new(url))
        };
        let http = proxy(["HTTP_PROXY", "http_proxy"]);
        let https = proxy(["HTTPS_PROXY", "https_proxy"]);
        let no = variable(environment, ["NO_PROXY", "no_proxy"]).map_or("", |(_, hosts)| hosts);
        Self { http, https, no: no.to_owned() }
    }
}

// The environment sets it.
derived!(ProxySettings);

/// Returns the first of these variables that is set to something.
fn variable<'a>(environment: &'a Environment, names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
    names.into_iter().find_map(|name| match environment.get(name) {
        Variable::Text(text) if !text.trim().is_empty() => Some((name, text.trim())),
        _ => None,
    })
}

/// Checks a proxy's URL, whose scheme may be missing. The error does not repeat it.
fn check(url: &str) -> Result<(), &'static str> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only proxies with http:// are supported"),
        None => url,
    };
    let uri: Uri = format!("http://{rest}").parse().map_err(|_| "is not a URL")?;
    if uri.host().is_some_and(|host| !host.is_empty()) { Ok(()) } else { Err("names no host") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (ProxySettings, Vec<String>) {
        let environment = variables.iter().map(|(name, value)| (*name, *value)).collect();
        let mut problems = Vec::new();
        let settings = ProxySettings::read(&environment, &mut problems);
        (
            settings,
            problems.into_iter().map(|problem| format!("{:?}: {}", problem.origin, problem.what)).collect(),
        )
    }

    #[test]
    fn upper_case_comes_first_and_empty_variables_are_absent() {
        let (settings, problems) = read(&[
            ("HTTP_PROXY", "http://a:3128"),
            ("http_proxy", "http://b:3128"),
            ("HTTPS_PROXY", " "),
            ("https_proxy", "c:3128"),
            ("no_proxy", "d,.e"),
        ]);
        let expected = ProxySettings {
            http: Some(Secret::new("http://a:3128")),
            https: Some(Secret::new("c:3128")),
            no: "d,.e".to_owned(),
        };
        assert_eq!((settings, problems), (expected, Vec::new()));
        assert_eq!(read(&[]).0, ProxySettings::default());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_a_problem_that_does_not_repeat_its_password() {
        for url in
            ["https://u:hunter2@p:1", "socks5://u:hunter2@p:1", "http://u:hunter2@", "http://u:hunter2@a b"]
        {
            let (settings, problems) = read(&[("HTTPS_PROXY", url)]);
            assert_eq!(problems.len(), 1, "{url}");
            assert!(problems[0].contains("HTTPS_PROXY") && !problems[0].contains("hunter2"), "{problems:?}");
            assert!(!format!("{settings:?}").contains("hunter2"));
        }
    }
}
