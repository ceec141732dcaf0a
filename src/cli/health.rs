//! `spanrelay --health`: queries the health of the relay that runs with the same configuration.
//!
//! Out: exit code 0 when `/healthz` responds with 200, else 1 with the reason on standard error. Not `/readyz`: whoever asks would
//! stop the only relay, or take it out of the network, because its queue is full. The flag serves the health checks of container
//! images, which have neither a shell nor an HTTP client; `--help` does not list it.

use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::http::{Client, reachable};
use crate::config::{Config, Sources};
use crate::receiver::RECEIVERS;

/// Queries the relay and returns the exit code of the process.
pub(super) fn run(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources, RECEIVERS) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            super::print_error(problems);
            return ExitCode::FAILURE;
        }
    };
    let client = Client::new(reachable(config.telemetry.endpoint));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::print_error(format_args!("spanrelay: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(client.send(Method::GET, "/healthz", &[], Bytes::new())) {
        Ok(reply) if reply.status == StatusCode::OK => ExitCode::SUCCESS,
        Ok(reply) => {
            super::print_error(format_args!("spanrelay: {}: {}", reply.status, reply.body.trim_end()));
            ExitCode::FAILURE
        }
        Err(error) => {
            super::print_error(format_args!("spanrelay: {error}"));
            ExitCode::FAILURE
        }
    }
}
