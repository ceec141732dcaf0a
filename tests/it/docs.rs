//! The documentation: its size, its links, and the files that it names.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of the README: more belongs on a page of its own.
const README_MAX_LINES: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect::<Vec<_>>()
    };
    [in_folder(""), in_folder("docs")].concat()
}

/// Targets of the links in a page: `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.match_indices("](").map(|(at, _)| text[at + 2..].split(')').next().unwrap()).collect()
}

/// Anchors of a page as GitHub makes them: lower case, spaces to dashes, punctuation dropped.
fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let headings = text.lines().filter(move |line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_MAX_LINES, "{lines} lines");
}

#[test]
fn a_page_that_lists_its_sections_lists_all_of_them() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let listed = text
            .split("\n## ")
            .next()
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("- [")?.split_once("](#"));
        let listed: Vec<&str> = listed.map(|(section, _)| section).collect();
        let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert!(listed.is_empty() || listed == sections, "{}: {listed:?} {sections:?}", page.display());
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.starts_with("http")) {
            seen += 1;
            let (file, anchor) =
                link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let has_heading = |anchor: &str| {
                fs::read_to_string(&target).is_ok_and(|text| anchors(&text).iter().any(|have| have == anchor))
            };
            if !target.exists() || !anchor.is_none_or(has_heading) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 30, "only {seen} links found");
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().to_str().unwrap();
        assert!(name == "README.md" || readme.contains(&format!("({name}")), "{name} is not linked");
    }
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let page = root().join("docs/guarantees.md");
    let text = fs::read_to_string(&page).unwrap();
    let (mut file, mut seen, mut missing) = (String::new(), 0, Vec::new());
    // Names follow the link to their file, in the same item of a list.
    for part in text.split("](").skip(1) {
        let (target, names) = part.split_once(')').unwrap();
        let is_file = target.ends_with(".rs");
        file = if is_file { fs::read_to_string(page.parent().unwrap().join(target)).unwrap() } else { file };
        let quoted = names.split('`').skip(1).step_by(2);
        let is_test = |name: &&str| {
            name.contains('_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        for name in quoted.take_while(|_| is_file).filter(is_test) {
            seen += 1;
            if !file.contains(&format!("fn {name}(")) {
                missing.push(format!("{target}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 60, "only {seen} tests are named");
}
