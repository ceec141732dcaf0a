//! Replaces `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` inside values, as the Collector does.
//!
//! Works on the parsed tree, value by value, so that the value of a variable or the content of a file is text and never
//! becomes structure. `$$` is a literal `$`. `$NAME` without braces is a problem rather than text: taken literally, it
//! would be a secret that everyone can read in the documentation. A `$` without a name or a brace after it is literal.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use super::env::{Environment, Variable};
use super::problem::Problem;
use super::yaml::{Node, YamlValue};

/// Maximum size of a file in bytes: far above any secret, a bound for reading the wrong file.
const MAX_FILE_SIZE: u64 = 64 << 10;

/// Problems, and the files that values were replaced with.
#[derive(Default)]
pub(super) struct Interpolated {
    pub(super) problems: Vec<Problem>,
    pub(super) files: Vec<PathBuf>,
}

/// Replaces variables in every value below `node`. A value that fails is a problem and becomes [`YamlValue::Broken`].
pub(super) fn interpolate(node: &mut Node, path: &str, environment: &Environment, found: &mut Interpolated) {
    match &mut node.value {
        YamlValue::Scalar(scalar) if scalar.text.contains('$') => match expand(&scalar.text, environment) {
            Ok(Expanded { text, from_environment, files }) => {
                found.files.extend(files);
                scalar.text = text;
                scalar.from_environment |= from_environment;
            }
            Err(what) => {
                found.problems.push(Problem::new(&node.origin, path, what));
                node.value = YamlValue::Broken;
            }
        },
        YamlValue::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), environment, found);
            }
        }
        YamlValue::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                interpolate(&mut entry.node, &path, environment, found);
            }
        }
        YamlValue::Scalar(_) | YamlValue::Null | YamlValue::Broken => {}
    }
}

struct Expanded {
    text: String,
    from_environment: bool,
    files: Vec<PathBuf>,
}

/// Expands the variables in `text`. The error is meant for the operator and repeats nothing but names of variables.
fn expand(text: &str, environment: &Environment) -> Result<Expanded, String> {
    let text_bytes = text.len();
    let mut expanded =
        Expanded { text: String::with_capacity(text_bytes), from_environment: false, files: Vec::new() };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(reference) = after.strip_prefix('{') {
            let (reference, after) = reference
                .split_once('}')
                .ok_or("\"${\" without \"}\": write ${env:NAME}, or $${ for a literal ${")?;
            expanded.text.push_str(&resolve(reference, environment)?);
            expanded.from_environment = true;
            expanded.files.extend(reference.strip_prefix("file:").map(PathBuf::from));
            rest = after;
        } else if after.starts_with(begins_name) {
            // Not repeated: it may be the end of a password.
            return Err("\"$NAME\" without braces is not replaced: write ${env:NAME}, or $$ for a literal $"
                .to_owned());
        } else {
            expanded.text.push('$');
            rest = after;
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// Returns the value of `${reference}`.
fn resolve<'a>(reference: &'a str, environment: &'a Environment) -> Result<Cow<'a, str>, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        return content(path).map(Cow::Owned);
    }
    let Some(reference) = reference.strip_prefix("env:") else {
        return Err(if is_name(reference) {
            format!("write ${{env:{reference}}}; ${{{reference}}} is not supported")
        } else {
            "only ${env:NAME}, ${env:NAME:-default} and ${file:PATH} are supported; $${ is a literal ${"
                .to_owned()
        });
    };
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_name(name) {
        return Err("the name in ${env:NAME} must consist of letters, digits and _".to_owned());
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of ${{env:{name}:-…}} cannot contain another ${{…}}"));
    }
    match (environment.get(name), default) {
        (Variable::Text(text), _) => Ok(text.into()),
        (Variable::Unset, Some(default)) => Ok(default.into()),
        (Variable::Unset, None) => Err(format!(
            "environment variable {name} is not set; set it, or provide a default with ${{env:{name}:-default}}"
        )),
        (Variable::NotUtf8, _) => Err(format!("environment variable {name} is not UTF-8")),
    }
}

/// Returns the text of a file without a trailing newline. The error does not repeat the path, which may be a misplaced secret.
fn content(path: &str) -> Result<String, String> {
    // Opening a pipe would wait for its writer.
    let is_file = fs::metadata(path).map(|metadata| metadata.is_file());
    if !is_file.map_err(|error| format!("cannot read the file in ${{file:PATH}}: {error}"))? {
        return Err("the path in ${file:PATH} is not a file".to_owned());
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read the file in ${{file:PATH}}: {error}"))?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(format!("the file in ${{file:PATH}} is larger than {} KiB", MAX_FILE_SIZE >> 10));
    }
    let end =
        text.strip_suffix('\n').map_or(text.len(), |text| text.strip_suffix('\r').unwrap_or(text).len());
    text.truncate(end);
    Ok(text)
}

fn is_name(text: &str) -> bool {
    text.starts_with(begins_name) && text.chars().all(|c| begins_name(c) || c.is_ascii_digit())
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment: Environment =
            [("HOST", "collector"), ("EMPTY", ""), ("STRUCTURE", "x, y]\nb: 1")].into_iter().collect();
        expand(text, &environment).map(|expanded| expanded.text)
    }

    #[test]
    fn replaces_a_variable_anywhere_in_a_value() {
        assert_eq!(expanded("${env:HOST}").unwrap(), "collector");
        assert_eq!(
            expanded("http://${env:HOST}:${env:PORT:-4318}/otlp").unwrap(),
            "http://collector:4318/otlp"
        );
    }

    #[test]
    fn a_default_replaces_only_an_unset_variable() {
        assert_eq!(expanded("${env:ABSENT:-x:-y}").unwrap(), "x:-y");
        assert_eq!(expanded("${env:ABSENT:-}").unwrap(), "");
        assert_eq!(expanded("${env:EMPTY:-x}").unwrap(), "");
    }

    #[test]
    fn a_file_is_replaced_with_its_text_without_one_trailing_newline() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        for (content, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("$b\n", "$b"), ("", "")]
        {
            std::fs::write(&file, content).unwrap();
            let text = format!("<${{file:{}}}>", file.display());
            assert_eq!(expanded(&text).unwrap(), format!("<{expected}>"), "{content:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("${{file:{}}}", directory.path().join(name).display());
        assert!(expanded(&at("absent")).unwrap_err().contains("cannot read the file"));
        assert!(expanded(&at("")).unwrap_err().contains("is not a file"));
        std::fs::write(directory.path().join("binary"), [0xff]).unwrap();
        assert!(expanded(&at("binary")).unwrap_err().contains("cannot read the file"));
        std::fs::write(directory.path().join("large"), vec![b'a'; 65 << 10]).unwrap();
        assert!(expanded(&at("large")).unwrap_err().contains("larger than 64 KiB"));
    }

    #[test]
    fn two_dollars_are_a_literal_one() {
        assert_eq!(expanded("$${env:HOST}").unwrap(), "${env:HOST}");
        assert_eq!(expanded("$$$${").unwrap(), "$${");
        assert_eq!(expanded("$$${env:HOST}").unwrap(), "$collector");
        assert_eq!(expanded("$$HOST a$$b").unwrap(), "$HOST a$b");
        assert_eq!(expanded("a$ $5 $").unwrap(), "a$ $5 $");
    }

    #[test]
    fn an_unset_variable_without_default_is_a_problem_that_names_it() {
        assert!(expanded("x${env:ABSENT}").unwrap_err().contains("ABSENT is not set"));
    }

    #[test]
    fn the_error_for_the_short_form_names_the_long_form() {
        assert!(expanded("${HOST}").unwrap_err().starts_with("write ${env:HOST}"));
    }

    #[test]
    fn a_name_without_braces_is_answered_with_the_form_that_is_replaced() {
        for text in ["$HOST", "x$HOST", "$_", "$$$HOST", "pa$hunter2", "${env:HOST}$hunter2"] {
            let problem = expanded(text).unwrap_err();
            assert!(problem.contains("write ${env:NAME}, or $$"), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn errors_for_other_forms_do_not_repeat_the_value() {
        for text in [
            "${file:/hunter2}",
            "pa${hunter2",
            "${env:hunter2!}",
            "${}",
            "${env:}",
            "${env:A:-${env:hunter2}}",
        ] {
            let problem = expanded(text).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn a_variable_cannot_add_structure() {
        let environment: Environment = [("STRUCTURE", "x, y]\nb: 1")].into_iter().collect();
        let mut found = Interpolated::default();
        let mut root =
            crate::config::yaml::parse("a: [\"${env:STRUCTURE}\"]\n", &mut found.problems).unwrap();
        interpolate(&mut root, "", &environment, &mut found);
        let YamlValue::List(items) = &root.get("a").unwrap().value else { panic!("not a list") };
        assert_eq!(items.len(), 1);
        assert!(root.get("b").is_none() && found.problems.is_empty());
    }
}
