//! Golden tests: every folder of `proto-fixtures` has a request as a sender writes it, and the expected exports.
//!
//! `<receiver>/<case>/` has `request.<anything>`, the body; `headers.json`; and the expectations: for each signal
//! `expected.<signal>.json`, the exports in order, as one JSON array (or the only one by itself); and
//! `expected.answer.json`, status and body of the response, unless it is an empty 204 (without `body`, only the status
//! is compared). A missing file means that nothing is expected: a case without `expected.logs.json` must not export
//! logs.
//!
//! Texts are compared without white space between tokens, so that the order of members and the digits of numbers
//! matter. Each case runs twice: as JSON, and with `encoding: protobuf`, where the same data must arrive.
//!
//! `UPDATE_FIXTURES=1 cargo test --test it golden` rewrites expectations that differ. Review the diff.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::harness::text::{compact, pretty};
use super::harness::{Ask, House, Recorded, Reply, otlp};

/// Folders, and the paths of their requests.
const DOORS: [(&str, &str); 3] = [("circleci", "/circleci"), ("fastly", "/fastly"), ("github", "/github")];

/// The receiver that the tests' usual configuration does not have.
const GITHUB: &str = "receivers.github: {secrets: [fixture-secret]}";

const SIGNALS: [&str; 3] = ["traces", "logs", "metrics"];

/// One case.
struct Case {
    folder: PathBuf,
    /// Name such as `fastly/vcl-edge`.
    name: String,
    door: &'static str,
    request: Bytes,
    headers: BTreeMap<String, String>,
}

/// Result of a request: the texts of the exports of each signal, and the response.
#[derive(Debug)]
struct Outcome {
    left: BTreeMap<&'static str, Vec<String>>,
    status: u16,
    /// `None` where only the status is expected.
    body: Option<String>,
}

#[tokio::test]
async fn every_fixture_is_exported_as_its_files_expect() {
    let mut wrong = Vec::new();
    for case in cases() {
        let outcome = case.run().await;
        if updating() {
            case.update(&outcome);
        }
        let expected = case.expected();
        if !outcome.is(&expected) {
            wrong.push(format!("{}\nexpected {expected:#?}\ncame     {outcome:#?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} fixtures are wrong", wrong.join("\n\n"), wrong.len());
}

#[tokio::test]
async fn every_fixture_has_the_same_data_in_protobuf() {
    if updating() {
        // Expectations are being rewritten.
        return;
    }
    for case in cases() {
        let expected = case.expected();
        let (left, reply) = case.send("exporters.otlp_http.encoding: protobuf").await;
        assert_eq!(reply.status, expected.status, "{}", case.name);
        for signal in SIGNALS {
            let path = format!("/v1/{signal}");
            let came: Vec<Vec<u8>> = of_path(&left, &path)
                .inspect(|request| assert_eq!(request.header("content-type"), "application/x-protobuf"))
                .map(|request| otlp::reencoded(&path, &request.body))
                .collect();
            let texts = expected.left.get(signal).map(Vec::as_slice).unwrap_or_default();
            let same: Vec<Vec<u8>> =
                texts.iter().map(|text| otlp::encoded(&path, &serde_json::from_str(text).unwrap())).collect();
            assert!(came == same, "{}: {signal} differ between JSON and protobuf", case.name);
        }
    }
}

fn updating() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures")
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for receiver in folders(&root()) {
        let name = receiver.file_name().unwrap().to_str().unwrap();
        let door = DOORS.iter().find(|(known, _)| *known == name);
        let (_, door) = door.unwrap_or_else(|| panic!("no test sends what is in proto-fixtures/{name}"));
        let cases_of = folders(&receiver).into_iter().filter(|path| path.is_dir());
        cases.extend(cases_of.map(|folder| Case::load(&folder, door)));
    }
    assert!(!cases.is_empty());
    cases
}

fn of_path<'a>(left: &'a [Recorded], path: &'a str) -> impl Iterator<Item = &'a Recorded> {
    left.iter().filter(move |request| request.path == path)
}

// === impl Case ===

impl Case {
    fn load(folder: &Path, door: &'static str) -> Self {
        let name = folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let files: Vec<String> = folders(folder)
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        let is_expectation = |file: &str| {
            file == "expected.answer.json"
                || SIGNALS.iter().any(|signal| file == format!("expected.{signal}.json"))
        };
        for file in &files {
            // Responses of an API to the lookups that an event results in; the receiver's own tests read them.
            let is_of_api = file.starts_with("steps.") || file.starts_with("expected.steps.");
            let known =
                file == "headers.json" || file.starts_with("request.") || is_expectation(file) || is_of_api;
            assert!(known, "{name}: no test reads {file}");
        }
        let [request] = &files.iter().filter(|file| file.starts_with("request.")).collect::<Vec<_>>()[..]
        else {
            panic!("{name}: exactly one request is needed");
        };
        assert!(updating() || files.iter().any(|file| is_expectation(file)), "{name}: nothing is expected");
        Self {
            request: fs::read(folder.join(request)).unwrap().into(),
            headers: serde_json::from_slice(&fs::read(folder.join("headers.json")).unwrap()).unwrap(),
            folder: folder.to_owned(),
            name,
            door,
        }
    }

    /// Sends the request to its own relay: in another one, a second event with the same id would be a duplicate.
    async fn send(&self, settings: &str) -> (Vec<Recorded>, Reply) {
        // One at a time, so that they are in order.
        let house = House::open(&format!("exporters.otlp_http.max_in_flight: 1\n{GITHUB}\n{settings}")).await;
        let mut ask = Ask::post(self.door, self.request.clone());
        for (name, value) in &self.headers {
            ask = ask.with(name, value);
        }
        let reply = house.ask(ask).await;
        house.at_rest().await;
        let left = house.collector.take_rest();
        house.close().await;
        for Recorded { path, .. } in &left {
            assert!(SIGNALS.iter().any(|signal| *path == format!("/v1/{signal}")), "{}: {path}", self.name);
        }
        (left, reply)
    }

    async fn run(&self) -> Outcome {
        let (left, reply) = self.send("").await;
        let of_signal = |signal| {
            let path = format!("/v1/{signal}");
            of_path(&left, &path).map(|request| compact(&request.text())).collect::<Vec<_>>()
        };
        let left = SIGNALS.map(|signal| (signal, of_signal(signal)));
        Outcome {
            left: left.into_iter().filter(|(_, requests)| !requests.is_empty()).collect(),
            status: reply.status,
            body: Some(reply.text()),
        }
    }

    fn expected(&self) -> Outcome {
        let read = |file: String| fs::read_to_string(self.folder.join(file)).ok();
        let requests = |text: String| match text.starts_with('[') {
            true => {
                let raw: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
                raw.iter().map(|request| compact(request.get())).collect()
            }
            false => vec![compact(&text)],
        };
        let left = SIGNALS
            .iter()
            .filter_map(|signal| Some((*signal, requests(read(format!("expected.{signal}.json"))?))))
            .collect();
        let Some(answer) = read("expected.answer.json".to_owned()) else {
            return Outcome { left, status: 204, body: Some(String::new()) };
        };
        let answer: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&answer).unwrap();
        let status = answer["status"].get().parse().unwrap();
        Outcome { left, status, body: answer.get("body").map(|body| compact(body.get())) }
    }

    /// Rewrites the expectations that differ.
    fn update(&self, outcome: &Outcome) {
        if outcome.is(&self.expected()) {
            return;
        }
        let write = |file: &str, text: Option<String>| {
            let path = self.folder.join(file);
            match text {
                Some(text) => fs::write(path, pretty(&text)).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        };
        for signal in SIGNALS {
            let requests = outcome.left.get(signal).map(|requests| format!("[{}]", requests.join(",")));
            write(&format!("expected.{signal}.json"), requests);
        }
        let answer = match (outcome.status, outcome.body.as_deref().unwrap_or_default()) {
            (204, "") if outcome.left.is_empty() => Some("{\"status\":204}".to_owned()),
            (204, "") => None,
            (status, body) => Some(format!("{{\"status\":{status},\"body\":{body}}}")),
        };
        write("expected.answer.json", answer);
    }
}

// === impl Outcome ===

impl Outcome {
    fn is(&self, expected: &Self) -> bool {
        let body_is = expected.body.is_none() || self.body == expected.body;
        self.left == expected.left && self.status == expected.status && body_is
    }
}
