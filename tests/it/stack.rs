//! The relay with real programs: a Collector, Jaeger, otel-cli, and Fastly's VCL in a simulator.
//!
//! `.ci/steps.d/50-stack` builds those programs at pinned versions and runs these tests; without it they are reported as
//! ignored. Each module needs one program besides the Collector, and is named after it.

mod collector;

mod falco;

mod jaeger;

mod otel_cli;

mod program;

use std::fs;
use std::path::Path;

use program::Program;

/// Reads a file of the repository.
fn kit(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the items of a request, flattened over three levels.
fn items<'json>(json: &'json serde_json::Value, path: [&str; 3]) -> Vec<&'json serde_json::Value> {
    let list = |value: &'json serde_json::Value, key: &str| {
        value[key].as_array().map(Vec::as_slice).unwrap_or_default().iter()
    };
    list(json, path[0]).flat_map(|one| list(one, path[1])).flat_map(|one| list(one, path[2])).collect()
}

/// Returns the spans of a trace request.
fn spans(json: &serde_json::Value) -> Vec<&serde_json::Value> {
    items(json, ["resourceSpans", "scopeSpans", "spans"])
}
