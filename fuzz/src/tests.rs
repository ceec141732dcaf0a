//! Runs the targets without a fuzzer: with every fixture, every earlier finding, and reproducible mutations of both.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::random::Random;

/// Mutations per target. In an unoptimised build they take one or two seconds.
const MUTATIONS: u64 = 2_000;

/// Mutations of bodies, each of which is read many times.
const FEW_MUTATIONS: u64 = 1_000;

impl Random {
    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Returns a range of the input, usually a short one.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let longest = if self.below(4) == 0 { input.len() } else { 12 };
        let start = self.below(input.len() + 1);
        start..(start + self.below(longest + 1)).min(input.len())
    }

    /// Changes the input in one position.
    fn changed(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[String]) {
        let range = self.range(input);
        let with = match self.below(8) {
            0 => Vec::new(),
            1 => vec![self.next() as u8],
            2 => input[range.clone()].iter().map(|byte| byte ^ 1 << self.below(8)).collect(),
            3 => input[range.clone()].repeat(2),
            4 => {
                let other = self.one_of(seeds);
                other[self.range(other)].to_vec()
            }
            5 => {
                let other = self.range(input);
                input[other].to_vec()
            }
            _ => self.one_of(words).as_bytes().to_vec(),
        };
        // Half of the insertions replace bytes, the others are added.
        let range = if self.below(2) == 0 { range.start..range.start } else { range };
        input.splice(range, with);
    }
}

/// Runs a target, and names the input that it fails for.
fn run(name: &str, target: Target, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} does not hold for {} (as above)", input.escape_ascii());
}

fn holds(name: &str, mutations: u64) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let seeds = corpus::seeds(name);
    assert!(!seeds.is_empty());
    for seed in &seeds {
        run(name, target, seed);
    }
    let words = corpus::words(name);
    for number in 0..mutations {
        let mut random = Random(number);
        let mut input = random.one_of(&seeds).clone();
        for _ in 0..=random.below(4) {
            random.changed(&mut input, &seeds, &words);
        }
        input.truncate(corpus::MAX_BYTES);
        run(name, target, &input);
    }
}

#[test]
fn every_line_of_any_body_has_one_outcome_and_keeps_its_meaning() {
    holds("body", FEW_MUTATIONS);
}

#[test]
fn expecting_access_logs_changes_nothing_for_otlp() {
    holds("access_log", FEW_MUTATIONS);
}

#[test]
fn every_unit_of_a_body_is_framed_once_and_everything_else_is_counted() {
    holds("framing", FEW_MUTATIONS / 4);
}

proptest! {
    #[test]
    fn any_body_is_framed_as_the_naive_framer_says(recipe in proptest::collection::vec(any::<u8>(), 0..160)) {
        framing(&recipe);
    }
}

#[test]
fn any_line_that_is_accepted_keeps_its_meaning() {
    holds("line", MUTATIONS);
}

#[test]
fn no_signature_is_valid_that_a_naive_check_rejects() {
    holds("signature", MUTATIONS);
}

#[test]
fn any_webhook_results_in_one_span_or_none() {
    holds("webhook", MUTATIONS);
}

#[test]
fn any_github_event_results_in_the_spans_of_one_event_or_none() {
    holds("github", MUTATIONS);
}

#[test]
fn any_response_of_circlecis_api_makes_the_spans_of_a_naive_reading() {
    holds("steps", MUTATIONS);
}

#[test]
fn an_otlp_request_is_exported_as_prost_reads_it() {
    holds("protobuf", MUTATIONS);
}

#[test]
fn no_damaged_record_is_read_as_a_different_one() {
    holds("queue_record", MUTATIONS);
}

#[test]
fn any_configuration_is_rejected_or_printed_unchanged() {
    holds("config", MUTATIONS);
}

#[test]
fn every_target_has_a_binary_and_is_run() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(read("run").contains(&format!("TARGETS=({})", names.join(" "))));
    for name in names {
        assert!(read(&format!("fuzz_targets/{name}.rs")).contains(&format!("target!({name})")));
        assert!(read("Cargo.toml").contains(&format!("name = \"{name}\"")));
    }
}

#[test]
#[ignore = "writes files: fuzz/run calls it"]
fn writes_the_corpus_of_libfuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, _) in TARGETS {
        let folder = root.join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in corpus::seeds(target).iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:04}")), seed).unwrap();
        }
        let escaped = |word: &String| word.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let words = corpus::words(target);
        let lines: String = words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
        fs::write(root.join(format!("{target}.dict")), lines).unwrap();
    }
}
