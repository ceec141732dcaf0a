//! The table of allowed edges in `src/lib.rs`, compared with what the modules really use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::tidy::{root, sources};

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Modules that no row describes, with the reason.
const WITHOUT_ROW: &[&str] = &[
    // The map itself, and the process that calls it.
    "lib",
    "main",
    // For the packages of fuzz targets and benchmarks.
    "internals",
];

/// Returns the module names that a cell of the table links to.
fn linked(cell: &str) -> impl Iterator<Item = String> {
    cell.split("[`").skip(1).filter_map(|rest| rest.split_once("`]")).map(|(name, _)| name.to_owned())
}

/// Reads the rows of the table: which modules a module may use.
fn allowed(docs: &str) -> Edges {
    let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.map(|row| {
        let (module, cells) = row.split_once("`]").expect("a row begins with a link");
        let uses = cells.split('|').nth(1).expect("a row has three cells");
        (module.to_owned(), linked(uses).collect())
    })
    .collect()
}

/// Returns the modules that a piece of code names with `crate::`.
fn used(code: &str) -> impl Iterator<Item = String> {
    code.split("crate::").skip(1).map(|rest| {
        assert!(!rest.starts_with('{'), "`use crate::{{` hides its modules from this test");
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // The only type at the root.
        if name == "App" { "app".to_owned() } else { name }
    })
}

/// Returns the edges of the program's own code.
fn real() -> Edges {
    let mut edges = Edges::new();
    for source in sources() {
        let module = source.name.split(['/', '.']).next().expect("a file has a name").to_owned();
        if WITHOUT_ROW.contains(&module.as_str()) {
            continue;
        }
        let uses = edges.entry(module.clone()).or_default();
        uses.extend(used(&source.code).filter(|other| *other != module));
    }
    edges
}

/// Returns the modules that are part of a cycle, or use one that is.
fn unordered(mut edges: Edges) -> Vec<String> {
    loop {
        let leaf = edges.iter().find(|(_, uses)| uses.is_empty()).map(|(module, _)| module.clone());
        let Some(leaf) = leaf else { return edges.into_keys().collect() };
        edges.remove(&leaf);
        edges.values_mut().for_each(|uses| uses.retain(|used| *used != leaf));
    }
}

fn table() -> Edges {
    allowed(&fs::read_to_string(root().join("src/lib.rs")).unwrap())
}

#[test]
fn every_module_has_a_row_and_every_row_a_module() {
    let (table, real) = (table(), real());
    assert_eq!(table.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
    let unknown: Vec<_> = table.values().flatten().filter(|used| !real.contains_key(*used)).collect();
    assert!(unknown.is_empty(), "the table allows modules that do not exist: {unknown:?}");
}

#[test]
fn a_module_uses_only_what_its_row_allows() {
    let table = table();
    for (module, uses) in real() {
        let allowed = table.get(&module).cloned().unwrap_or_default();
        let others: Vec<_> = uses.difference(&allowed).collect();
        assert!(others.is_empty(), "{module} uses {others:?}, which its row in src/lib.rs does not allow");
    }
}

#[test]
fn the_table_allows_no_more_than_is_used() {
    let real = real();
    for (module, allowed) in table() {
        let unused: Vec<_> = allowed.difference(&real[&module]).collect();
        assert!(unused.is_empty(), "{module} does not use {unused:?}, which its row in src/lib.rs allows");
    }
}

#[test]
fn no_module_is_in_a_cycle() {
    assert_eq!(unordered(table()), Vec::<String>::new(), "in the table");
    assert_eq!(unordered(real()), Vec::<String>::new(), "in the code");
}

#[test]
fn an_edge_outside_the_table_and_a_cycle_are_recognised() {
    let table =
        allowed("//! | [`a`] | [`b`] (values), [`c`] | [`d`] |\n//! | [`b`] | | every other module |");
    assert_eq!(table["a"], BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    assert_eq!(table["b"], BTreeSet::new());
    let code = "use crate::config::Config;\nfn f() -> crate::App { $crate::otlp::read() }";
    assert_eq!(used(code).collect::<Vec<_>>(), ["config", "app", "otlp"]);
    let edge = |from: &str, to: &str| (from.to_owned(), BTreeSet::from([to.to_owned()]));
    let cycle = Edges::from([edge("a", "b"), edge("b", "a"), ("c".to_owned(), BTreeSet::new())]);
    assert_eq!(unordered(cycle), ["a", "b"]);
}
