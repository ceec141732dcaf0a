use std::fs;
use std::path::PathBuf;

use super::*;
use crate::receiver::RECEIVERS;
use crate::receiver::fastly::FastlyConfig;

fn load(bytes: &[u8], set: &[&str]) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.yaml");
    fs::write(&file, bytes).unwrap();
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    let sources = Sources { files: vec![file.clone()], set, environment: Environment::empty() };
    Config::load(&sources, RECEIVERS)
        .map_err(|error| error.to_string().replace(&file.display().to_string(), "relay.yaml"))
}

#[test]
fn a_file_that_is_not_utf8_is_reported_with_the_line() {
    assert_eq!(
        load(b"receivers:\n  fastly:\n    path: /\xff\n", &[]).unwrap_err(),
        "relay.yaml: is not UTF-8: invalid bytes in line 3"
    );
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert!(load("\u{feff}receivers: {fastly: }\n".as_bytes(), &[]).is_ok());
}

#[test]
fn reading_stops_at_the_maximum_file_size() {
    let problem = load(&vec![b'#'; usize::try_from(MAX_FILE_SIZE).unwrap() + 1], &[]).unwrap_err();
    assert!(problem.contains("is larger than 1024 KiB"), "{problem}");
}

#[test]
fn a_missing_file_is_named() {
    let files = vec![PathBuf::from("/nowhere/relay.yaml")];
    let error = Config::load(&Sources { files, ..Sources::default() }, RECEIVERS).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/relay.yaml: cannot read: "), "{error}");
}

#[test]
fn the_variable_names_the_file_and_the_argument_overrides_it() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.yaml"), directory.path().join("two.yaml"));
    fs::write(&one, "receivers: {fastly: {path: /one}}\n").unwrap();
    fs::write(&two, "receivers: {fastly: {path: /two}}\n").unwrap();
    let environment: Environment = [(FILE_VARIABLE, one.as_os_str())].into_iter().collect();
    let named = Sources { environment, ..Sources::default() };
    assert_eq!(
        Config::load(&named, RECEIVERS).unwrap().config.receivers.all::<FastlyConfig>()[0].endpoint.path,
        "/one"
    );
    let both = Sources { files: vec![two], ..named };
    assert_eq!(
        Config::load(&both, RECEIVERS).unwrap().config.receivers.all::<FastlyConfig>()[0].endpoint.path,
        "/two"
    );
}

#[test]
fn an_empty_variable_names_no_file() {
    let environment = [(FILE_VARIABLE, "")].into_iter().collect();
    assert!(Config::load(&Sources { environment, ..Sources::default() }, RECEIVERS).is_ok());
}

#[test]
fn the_command_line_overrides_the_file_and_later_arguments_override_earlier_ones() {
    let set =
        ["exporters.otlp_http.timeout=4s", "exporters.otlp_http.timeout=3s", "receivers.fastly/www.path=/x"];
    let config =
        load(b"receivers: {fastly: }\nexporters: {otlp_http: {timeout: 5s}}\n", &set).unwrap().config;
    assert_eq!(config.exporters.otlp_http.settings.timeout, std::time::Duration::from_secs(3));
    assert_eq!(config.receivers.all::<FastlyConfig>()[1].endpoint.path, "/x");
}

#[test]
fn problems_of_the_command_line_are_listed_with_those_of_the_file() {
    let problems = load(b"receivers:\n  fastly:\n  x:\n", &["queue.snyc=never", "nonsense"]).unwrap_err();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 3, "{problems}");
    assert!(lines[0].starts_with("relay.yaml:3: receivers.x: unknown receiver"), "{problems}");
    assert!(lines[1].starts_with("--set: write KEY=VALUE"), "{problems}");
    assert!(lines[2].starts_with("--set: queue.snyc: unknown key; did you mean \"sync\"?"), "{problems}");
}

#[test]
fn a_syntax_error_has_a_position() {
    let problem = load(b"receivers:\n  fastly: {path: /x\n", &[]).unwrap_err();
    assert!(problem.starts_with("relay.yaml:"), "{problem}");
    assert!(problem.contains("not valid YAML at column"), "{problem}");
}

#[test]
fn with_a_file_the_environment_table_does_not_apply() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.yaml");
    fs::write(&file, "receivers: {fastly: }\n").unwrap();
    let environment =
        [("PORT", "4000"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere")].into_iter().collect();
    let config =
        Config::load(&Sources { files: vec![file], set: Vec::new(), environment }, RECEIVERS).unwrap().config;
    assert_eq!(config.server.endpoint.port(), 3000);
    assert_eq!(config.exporters.otlp_http.traces_endpoint, "http://localhost:4318/v1/traces");
}

/// Returns the receivers' paths and the timeout of the exporter, or the problems, of files with these texts.
fn merged(texts: &[&str], set: &[&str]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (1..=texts.len()).map(|n| directory.path().join(format!("{n}.yaml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    let sources = Sources { files, set, environment: Environment::empty() };
    let shown = format!("{}/", directory.path().display());
    let loaded = Config::load(&sources, RECEIVERS).map_err(|error| error.to_string().replace(&shown, ""))?;
    Ok(loaded.config)
}

#[test]
fn several_files_are_merged_key_by_key_and_later_ones_win() {
    let common = "receivers: {fastly: {path: /a, service_ids: [x, y]}, circleci: {secrets: [s]}}\nqueue: {max_size: 1GiB}\n";
    let own = "receivers: {fastly: {service_ids: [z]}, circleci: , otlp: }\nqueue: {max_size: 2GiB}\n";
    let config = merged(&[common, own, "queue: {max_size: 3GiB}\n"], &[]).unwrap();
    let fastly = config.receivers.all::<FastlyConfig>()[0];
    assert_eq!(
        (fastly.endpoint.path.as_str(), fastly.service_ids.as_slice()),
        ("/a", ["z".to_owned()].as_slice())
    );
    assert_eq!((config.receivers.iter().count(), config.queue.max_size), (3, 3 << 30));
}

#[test]
fn a_problem_in_one_of_several_files_names_that_file() {
    let problems =
        merged(&["receivers: {fastly: }\n", "queue:\n  max_size: x\n", "server:\n  port: 1\n"], &[]);
    let problems = problems.unwrap_err();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 2, "{problems}");
    assert!(lines[0].starts_with("2.yaml:2: queue.max_size: "), "{problems}");
    assert!(lines[1].starts_with("3.yaml:2: server.port: unknown key"), "{problems}");
    assert!(merged(&["receivers: {fastly: }\n", "a: [\n"], &[]).unwrap_err().starts_with("2.yaml:"));
    assert!(
        merged(&["receivers: {fastly: }\n", "# nothing\n"], &[]).unwrap_err().starts_with("2.yaml: is empty")
    );
}

#[test]
fn an_unset_variable_that_is_replaced_is_no_problem() {
    let text = "receivers: {fastly: {path: \"/${env:ABSENT}\", auth: {values: [\"${env:ABSENT}\"]}}}\n";
    assert_eq!(merged(&[text], &[]).unwrap_err().matches("ABSENT is not set").count(), 2);
    let other = "receivers: {fastly: {auth: {values: [b]}}}\n";
    assert!(merged(&[text, other], &["receivers.fastly.path=/a"]).is_ok());
    let problem = merged(&[text], &["receivers.fastly.path=/a"]).unwrap_err();
    assert_eq!(problem.matches("ABSENT is not set").count(), 1, "{problem}");
}
