//! Replaces `${env:NAME}` and `${env:NAME:-default}` inside values, as the Collector does.
//!
//! Works on the parsed tree, value by value, so that the value of a variable is text and never becomes structure. `$$` is a
//! literal `$`. `$NAME` without braces is a problem rather than text: taken literally, it would be a secret that everyone
//! can read in the documentation. A `$` that no name and no brace follows stands for itself.

use super::env::{Environment, Variable};
use super::problem::Problem;
use super::yaml::{Node, Value};

/// Replaces variables in every value below `node`. A value that fails is a problem and becomes [`Value::Broken`].
pub(super) fn interpolate(
    node: &mut Node,
    path: &str,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.text.contains('$') => match expand(&scalar.text, environment) {
            Ok(Expanded { text, from_environment }) => {
                scalar.text = text;
                scalar.from_environment |= from_environment;
            }
            Err(what) => {
                problems.push(Problem::new(&node.origin, path, what));
                node.value = Value::Broken;
            }
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), environment, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                interpolate(&mut entry.node, &path, environment, problems);
            }
        }
        Value::Scalar(_) | Value::Null | Value::Broken => {}
    }
}

struct Expanded {
    text: String,
    from_environment: bool,
}

/// Expands the variables in `text`. The error is meant for the operator and repeats nothing but names of variables.
fn expand(text: &str, environment: &Environment) -> Result<Expanded, String> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), from_environment: false };
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
            expanded.text.push_str(resolve(reference, environment)?);
            expanded.from_environment = true;
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
fn resolve<'a>(reference: &'a str, environment: &'a Environment) -> Result<&'a str, String> {
    let Some(reference) = reference.strip_prefix("env:") else {
        return Err(if is_name(reference) {
            format!("write ${{env:{reference}}}; ${{{reference}}} is not supported")
        } else {
            "only ${env:NAME} and ${env:NAME:-default} are supported; $${ is a literal ${".to_owned()
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
        (Variable::Text(text), _) => Ok(text),
        (Variable::Unset, Some(default)) => Ok(default),
        (Variable::Unset, None) => Err(format!(
            "environment variable {name} is not set; set it, or provide a default with ${{env:{name}:-default}}"
        )),
        (Variable::NotUtf8, _) => Err(format!("environment variable {name} is not UTF-8")),
    }
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
        let mut problems = Vec::new();
        let mut root = crate::config::yaml::parse("a: [\"${env:STRUCTURE}\"]\n", &mut problems).unwrap();
        interpolate(&mut root, "", &environment, &mut problems);
        let Value::List(items) = &root.get("a").unwrap().value else { panic!("not a list") };
        assert_eq!(items.len(), 1);
        assert!(root.get("b").is_none() && problems.is_empty());
    }
}
