use proptest::prelude::*;

use super::*;

fn problems_of(text: &str) -> Vec<(ValueOrigin, String)> {
    let mut problems = Vec::new();
    let _node = parse(text, &mut problems);
    problems
        .into_iter()
        .map(|problem| (problem.origin, format!("{}: {}", problem.path, problem.what)))
        .collect()
}

fn only_problem_of(text: &str) -> (ValueOrigin, String) {
    let problems = problems_of(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn every_value_has_its_line() {
    let root = parse("a:\n  b: 1\n  c:\n  - x\n  - y\n", &mut Vec::new()).unwrap();
    assert_eq!(root.get("a").unwrap().get("b").unwrap().origin, ValueOrigin::Line(2));
    let YamlValue::List(items) = &root.get("a").unwrap().get("c").unwrap().value else {
        panic!("not a list")
    };
    assert_eq!(items[1].origin, ValueOrigin::Line(5));
}

#[test]
fn a_duplicate_key_is_a_problem_that_names_both_lines() {
    let (origin, what) = only_problem_of("a:\n  b: 1\n  c: 2\n  b: 3\n");
    assert_eq!(origin, ValueOrigin::Line(4));
    assert_eq!(what, "a.b: duplicate key (first on line 2)");
}

#[test]
fn a_tab_in_the_indentation_is_named() {
    let (origin, what) = only_problem_of("server:\n\tendpoint: 127.0.0.1:1\n");
    assert_eq!(origin, ValueOrigin::Line(2));
    assert!(what.contains("tab"), "{what}");
}

#[test]
fn a_syntax_error_has_a_line_and_a_column() {
    let (origin, what) = only_problem_of("a: 1\nb: [1, 2\nc: 3\n");
    assert!(matches!(origin, ValueOrigin::Line(2..=4)), "{origin:?}");
    assert!(what.contains("not valid YAML at column"), "{what}");
}

#[test]
fn a_syntax_error_says_what_to_look_for() {
    let (origin, what) = only_problem_of("receivers:\n  fastly:\n    path: /x\n   repair: true\n");
    assert_eq!(origin, ValueOrigin::Line(4));
    assert!(what.contains("indentation"), "{what}");
}

#[test]
fn an_alias_repeats_its_anchor() {
    let root = parse("a: &x [1, 2]\nb: *x\n", &mut Vec::new()).unwrap();
    assert!(matches!(&root.get("b").unwrap().value, YamlValue::List(items) if items.len() == 2));
}

#[test]
fn multiplying_aliases_are_stopped() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    let (_, what) = only_problem_of(&text);
    assert!(what.contains("too many values"), "{what}");
}

#[test]
fn an_alias_of_its_own_collection_is_stopped() {
    let (_, what) = only_problem_of("a: &x [*x]\n");
    assert!(what.contains("refers to the value that contains it"), "{what}");
}

#[test]
fn nesting_is_bounded() {
    for text in ["[".repeat(5_000), "{a: ".repeat(5_000), "- ".repeat(5_000)] {
        let (_, what) = only_problem_of(&text);
        assert!(what.contains("nested too deeply") || what.contains("recursion limit"), "{what}");
    }
}

#[test]
fn rejects_valid_yaml_that_an_operator_cannot_have_meant() {
    for text in [
        "a: 1\n---\nb: 2\n",
        "a: !secret x\n",
        "? [a]\n: b\n",
        "<<: {a: 1}\n",
        "a: *nowhere\n",
        "a: !!map {}\n",
    ] {
        assert_eq!(problems_of(text).len(), 1, "{text}");
    }
}

#[test]
fn an_empty_document_is_not_a_problem() {
    for text in ["", "\n\n", "# only a comment\n"] {
        let mut problems = Vec::new();
        assert!(parse(text, &mut problems).is_none(), "{text:?}");
        assert!(problems.is_empty(), "{text:?}");
    }
}

#[test]
fn quoted_text_is_never_null() {
    let root = parse("a: ''\nb: \"null\"\nc: ~\nd:\n", &mut Vec::new()).unwrap();
    for key in ["a", "b"] {
        assert!(matches!(root.get(key).unwrap().value, YamlValue::Scalar(_)), "{key}");
    }
    for key in ["c", "d"] {
        assert!(matches!(root.get(key).unwrap().value, YamlValue::Null), "{key}");
    }
}

proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "[a-c0 :\\-\\[\\]{}\"'\n\t,&*!|>#%?<~.$]{0,60}") {
        let _node = parse(&text, &mut Vec::new());
    }
}
