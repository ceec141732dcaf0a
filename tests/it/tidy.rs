//! House rules that a text search can check: known words of a module, the only place of a word, forbidden words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum length of a file without its tests, above which it should be split.
const MAX_LINES: usize = 460;

/// Longer files, with their maximum length. Split them when you change them.
const LONGER: &[(&str, usize)] = &[];

/// Maximum number of names of types that are declared in more than one file. Lower it when there are fewer.
const MAX_SHARED_NAMES: usize = 3;

/// Modules, and words that their code must not contain. `edges` checks which modules they may use.
const STRANGERS: &[(&str, &[&str])] = &[
    ("receiver", &["tokio", "hyper", "SystemTime::now", "Instant::now"]),
    ("otlp", &["tokio", "hyper", "SystemTime::now", "Instant::now"]),
    ("processor", &["hyper", "SystemTime::now"]),
    ("processor/settling", &["tokio", "Instant::now"]),
    ("processor/span_events", &["tokio", "Instant::now"]),
    ("queue", &["hyper", "http::"]),
    ("relay", &["hyper", "TcpStream", "TcpListener"]),
];

/// Words that the program's code contains only in these files and folders.
const AT_HOME: &[(&str, &[&str])] = &[
    (
        "StatusCode::",
        &[
            "server/reply.rs",
            "exporter/grpc.rs",
            "exporter/outcome.rs",
            "exporter/remedy.rs",
            "cli/demo",
            "cli/replay",
            "cli/health.rs",
        ],
    ),
    ("std::env::var", &["config/"]),
    ("std::env::set_var", &[]),
    (
        "SystemTime::now",
        &["app.rs", "relay.rs", "telemetry/inspect.rs", "telemetry/traces/span.rs", "cli/demo", "cli/check"],
    ),
    ("unbounded_channel", &["app.rs"]),
    ("process::exit", &["cli/"]),
];

/// Words that the program's code never contains.
const NOWHERE: &[&str] = &[
    ".unwrap()",
    "todo!",
    "unimplemented!",
    "dbg!",
    "TODO",
    "FIXME",
    "XXX",
    "allow(dead_code)",
    "println!",
    "mod utils",
    "mod helpers",
    "mod common",
];

/// Folders whose text is held to the rules of plain English below.
const PLAIN_FOLDERS: &[&str] = &["bench", "fuzz", "src", "tests"];

/// File that names the words that the others must not contain.
const OWN_NAME: &str = "tests/it/tidy.rs";

/// Openings that make a doc comment a clause or a fragment, which cannot be understood without its neighbour.
const DANGLING_OPENINGS: &[&str] = &[
    "and",
    "anybody",
    "as",
    "at",
    "because",
    "behind",
    "beside",
    "but",
    "by",
    "for",
    "from",
    "how",
    "if",
    "in",
    "it",
    "its",
    "nobody",
    "nothing",
    "of",
    "on",
    "or",
    "so",
    "somebody",
    "something",
    "such",
    "that",
    "the same",
    "their",
    "then",
    "these",
    "they",
    "this",
    "those",
    "to",
    "until",
    "what",
    "when",
    "where",
    "whether",
    "which",
    "who",
    "whoever",
    "whose",
    "why",
    "with",
    "without",
];

/// Words for which there is a standard term, in comments, messages and identifiers.
const UNIDIOMATIC: &[&str] = &[
    "anew",
    "anybody",
    "as many as may be",
    "beside",
    "come again",
    "fate",
    "handed on",
    "impostor",
    "impostors",
    "is told",
    "mend",
    "mended",
    "mends",
    "of late",
    "one too many",
    "patience",
    "somebody",
    "stranger",
    "strangers",
    "the way out",
    "turned away",
    "turns away",
    "was told",
    "what became of",
];

/// Starts of paths whose files need one of the words above: it is the label of a metric.
const NEEDED_WORDS: &[(&str, &str)] =
    &[("src/relay/tests/", "fate"), ("src/telemetry/metrics.rs", "fate"), ("tests/it/", "fate")];

/// A source file of the program.
pub(crate) struct Source {
    /// Path such as `server/reply.rs`.
    pub(crate) name: String,
    /// The code without tests and comments.
    pub(crate) code: String,
    /// Number of lines with comments, without tests.
    lines: usize,
    whole: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
}

/// Returns the program's own files: those that only contain tests are left out.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let is_test = |name: &str| name.split('/').any(|part| matches!(part, "tests" | "tests.rs"));
    found
        .iter()
        .filter(|path| is_source(path))
        .map(|path| Source::read(path))
        .filter(|source| !is_test(&source.name))
        .collect()
}

// === impl Source ===

impl Source {
    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        let whole = fs::read_to_string(path).unwrap();
        let program = without_tests(&whole);
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        Self {
            code: program.lines().filter(is_code).collect::<Vec<_>>().join("\n"),
            lines: program.lines().count(),
            name,
            whole,
        }
    }

    /// Returns whether the file is the room's own, or in its folder.
    fn is_in(&self, room: &str) -> bool {
        self.name == format!("{room}.rs") || self.name.starts_with(&format!("{room}/"))
    }

    fn lines_with(&self, word: &str) -> Vec<String> {
        let found = self.code.lines().filter(|line| line.contains(word));
        found.map(|line| format!("{}: {}", self.name, line.trim())).collect()
    }
}

/// Returns everything before the module of tests at the end of a file.
fn without_tests(text: &str) -> &str {
    let end = text
        .find("\n#[cfg(test)]\nmod tests {")
        .or_else(|| text.find("\n#[cfg(test)]\npub(crate) mod tests {"));
    &text[..end.unwrap_or(text.len())]
}

/// Returns the program's code as one text, without tests and comments.
pub(crate) fn program_text() -> String {
    sources().iter().map(|source| source.code.as_str()).collect::<Vec<_>>().join("\n")
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn modules_contain_no_forbidden_words() {
    let sources = sources();
    for (room, strangers) in STRANGERS {
        assert!(sources.iter().any(|source| source.is_in(room)), "there is no room {room}");
        for stranger in *strangers {
            let found: Vec<String> = sources
                .iter()
                .filter(|source| source.is_in(room))
                .flat_map(|source| source.lines_with(stranger))
                .collect();
            assert_none(&found, &format!("{room} must not know {stranger}"));
        }
    }
}

#[test]
fn words_with_one_place_occur_nowhere_else() {
    for (word, homes) in AT_HOME {
        let elsewhere = |source: &&Source| !homes.iter().any(|home| source.name.starts_with(home));
        let found: Vec<String> =
            sources().iter().filter(elsewhere).flat_map(|source| source.lines_with(word)).collect();
        assert_none(&found, &format!("{word} belongs into {homes:?}"));
    }
}

#[test]
fn no_unfinished_or_sloppy_code_is_left() {
    for word in NOWHERE {
        let found: Vec<String> = sources().iter().flat_map(|source| source.lines_with(word)).collect();
        assert_none(&found, &format!("{word} has no place in the program"));
    }
    let unfinished = |source: &Source| source.whole.contains("TODO") || source.whole.contains("FIXME");
    let found: Vec<String> =
        sources().iter().filter(|source| unfinished(source)).map(|source| source.name.clone()).collect();
    assert_none(&found, "unfinished");
}

#[test]
fn every_file_has_a_module_comment_and_a_limited_length() {
    for source in sources() {
        assert!(source.whole.starts_with("//!"), "{} does not say what it is", source.name);
        let longer = LONGER.iter().find(|(name, _)| *name == source.name);
        let most = longer.map_or(MAX_LINES, |(_, most)| *most);
        assert!(source.lines <= most, "{} has {} lines without its tests", source.name, source.lines);
        assert!(!source.name.ends_with("/mod.rs"), "{}: use thing.rs instead of thing/mod.rs", source.name);
    }
}

/// Returns the name of the type that a line declares; associated types have no name of their own.
fn declared_type(line: &str) -> Option<&str> {
    let item = line.trim_start();
    let item = item.strip_prefix("pub").map_or(item, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or(scope, |(_, rest)| rest),
        None => rest,
    });
    let (keyword, rest) = item.trim_start().split_once(' ')?;
    let is_type =
        matches!(keyword, "struct" | "enum" | "trait") || keyword == "type" && !line.starts_with(' ');
    let name = rest.split(|c: char| !c.is_alphanumeric()).next()?;
    (is_type && name.starts_with(char::is_uppercase)).then_some(name)
}

#[test]
fn declarations_of_types_are_recognised() {
    let names = [
        "struct A;",
        "pub(in crate::x) enum B {",
        "    pub trait C: D {",
        "type E<'a> = u8;",
        "pub struct F(u8);",
    ];
    assert_eq!(names.map(declared_type), ["A", "B", "C", "E", "F"].map(Some));
    for line in ["    type Future = Ready<()>;", "let struct_ = 1;", "/// enum of words", "fn enum_of() {}"] {
        assert_eq!(declared_type(line), None, "{line}");
    }
}

#[test]
fn few_types_share_their_name_with_a_type_of_another_file() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        for name in source.code.lines().filter_map(declared_type) {
            files.entry(name.to_owned()).or_default().insert(source.name.clone());
        }
    }
    assert!(files.len() > 500, "only {} types were found", files.len());
    files.retain(|_, files| files.len() > 1);
    assert!(files.len() <= MAX_SHARED_NAMES, "names that say too little: {files:#?}");
}

/// Returns lower-case words, separated and surrounded by single spaces, without punctuation and underscores.
fn words(text: &str) -> String {
    let separated: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '\'' { c.to_ascii_lowercase() } else { ' ' })
        .collect();
    format!(" {} ", separated.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the first lines of the doc comments in a text, each with its line number.
fn doc_openings(text: &str) -> Vec<(usize, &str)> {
    let doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let mut openings = Vec::new();
    let mut in_doc = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim_start)) {
        if doc(line) && !in_doc {
            openings.push((number, line[3..].trim()));
        }
        in_doc = doc(line);
    }
    openings
}

fn dangles(opening: &str) -> bool {
    let opening = words(opening);
    DANGLING_OPENINGS.iter().any(|dangling| opening.starts_with(&format!(" {dangling} ")))
}

#[test]
fn dangling_openings_and_unidiomatic_words_are_recognised() {
    let text = "//! How it works.\n\n/// Returns it.\n/// What else.\nfn it() {}\n    /// The same, again.\n";
    let openings = doc_openings(text);
    assert_eq!(openings, [(1, "How it works."), (3, "Returns it."), (6, "The same, again.")]);
    assert_eq!(openings.iter().map(|(_, opening)| dangles(opening)).collect::<Vec<_>>(), [true, false, true]);
    assert!(words("warn!(x, \"it was one-too-many\")").contains(" one too many "));
    assert!(!words("recommended").contains(" mend "));
}

#[test]
fn doc_comments_open_with_a_verb_or_a_noun_phrase() {
    let mut paths = Vec::new();
    PLAIN_FOLDERS.iter().for_each(|folder| files(&root().join(folder), &mut paths));
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        let openings = doc_openings(&text).into_iter().filter(|(_, opening)| dangles(opening));
        found.extend(openings.map(|(line, opening)| format!("{name}:{line}: {opening}")));
        if name == OWN_NAME {
            continue;
        }
        let text = words(&text);
        let is_needed =
            |odd: &str| NEEDED_WORDS.iter().any(|(start, word)| *word == odd && name.starts_with(start));
        let odd = UNIDIOMATIC.iter().filter(|odd| text.contains(&format!(" {odd} ")) && !is_needed(odd));
        found.extend(odd.map(|odd| format!("{name}: \"{odd}\"")));
    }
    assert_none(&found, "not plain English");
}

#[test]
fn a_lint_is_silenced_only_with_a_reason() {
    let silent = |source: &Source| {
        // An attribute may be written over several lines.
        let code = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
        let attributes =
            code.split("#[").skip(1).map(|rest| rest.split(")]").next().unwrap_or_default().to_owned());
        let unreasoned = attributes.filter(|text| {
            (text.starts_with("allow(") || text.starts_with("expect(")) && !text.contains("reason")
        });
        unreasoned.map(|text| format!("{}: {text}", source.name)).collect::<Vec<_>>()
    };
    assert_none(
        &sources().iter().flat_map(silent).collect::<Vec<_>>(),
        "a lint is silenced without a reason",
    );
}

#[test]
fn tests_await_conditions_and_never_just_time() {
    let mut found = Vec::new();
    files(&root().join("tests"), &mut found);
    let in_harness =
        |path: &Path| path.ends_with("tests/it/harness.rs") || path.ends_with("tests/it/tidy.rs");
    for path in found.iter().filter(|path| !in_harness(path)) {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("sleep("), "{} waits for time to pass", path.display());
        assert!(!text.contains("127.0.0.1:4318"), "{} needs a port to be free", path.display());
    }
}

#[test]
fn every_module_of_tests_is_part_of_the_binary() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    let mut found = Vec::new();
    files(&root().join("tests/it"), &mut found);
    let names: BTreeSet<&str> = found
        .iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("it")))
        .map(|path| path.file_stem().unwrap().to_str().unwrap())
        .filter(|name| *name != "main")
        .collect();
    for name in names {
        assert!(main.contains(&format!("mod {name};")), "tests/it/{name}.rs is not compiled");
    }
}
