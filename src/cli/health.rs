//! `spanrelay --health`: asks the relay that runs with the same configuration whether it takes data.
//!
//! Out: exit code 0 when `/readyz` says so, else 1 with the reason on standard error. For health checks of containers, which
//! have neither a shell nor an HTTP client to ask with; hence a flag that `--help` does not show.

use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::http::{Client, reachable};
use crate::config::{Config, Sources};

/// Asks and answers with the exit code of the process.
pub(super) fn run(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            super::complain(problems);
            return ExitCode::FAILURE;
        }
    };
    let client = Client::new(reachable(config.telemetry.endpoint));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(format_args!("spanrelay: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(client.send(Method::GET, "/readyz", &[], Bytes::new())) {
        Ok(reply) if reply.status == StatusCode::OK => ExitCode::SUCCESS,
        Ok(reply) => {
            super::complain(format_args!("spanrelay: {}: {}", reply.status, reply.body.trim_end()));
            ExitCode::FAILURE
        }
        Err(error) => {
            super::complain(format_args!("spanrelay: {error}"));
            ExitCode::FAILURE
        }
    }
}
