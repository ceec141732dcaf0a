//! The man pages, `docs/man`: generated from the definitions of the arguments.
//!
//! `UPDATE=1 cargo test --lib cli::tests::manual` writes them; without it the test fails where they differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

/// Returns each page by the name of its file.
fn generated() -> BTreeMap<String, String> {
    // Without the commit, which would change the pages with each commit.
    let command = Cli::command().version(env!("CARGO_PKG_VERSION"));
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(command, folder.path()).unwrap();
    pages(folder.path())
}

fn pages(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let page = |file: fs::DirEntry| {
        (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())
    };
    files.map(page).collect()
}

#[test]
fn the_man_pages_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let wanted = generated();
    if Environment::of_process().get_os("UPDATE").is_some() {
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        wanted.iter().for_each(|(name, page)| fs::write(folder.join(name), page).unwrap());
    }
    let found = pages(&folder);
    let advice = "run UPDATE=1 cargo test --lib cli::tests::manual";
    assert!(found.keys().eq(wanted.keys()), "{advice}: {:?} for {:?}", found.keys(), wanted.keys());
    for (name, page) in &wanted {
        let differing = page.lines().zip(found[name].lines()).find(|(new, old)| new != old);
        assert!(*page == found[name], "{name} is not current; {advice}: {differing:?}");
    }
}

#[test]
fn every_command_has_a_man_page_and_hidden_options_have_none() {
    let pages = generated();
    for command in Cli::command().get_subcommands() {
        assert!(pages.contains_key(&format!("spanrelay-{}.1", command.get_name())), "{command}");
    }
    assert_eq!(pages.len(), 1 + Cli::command().get_subcommands().count());
    assert!(pages.values().all(|page| !page.contains("health")), "--health is hidden");
}
