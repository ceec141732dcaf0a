//! The composition root: a configuration becomes parts that run.

use crate::config::Config;

/// A relay that is bound to its addresses.
pub struct App {}

/// Why the relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {}

#[allow(unused_variables, clippy::todo, missing_docs)] // replaced by the real root
impl App {
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        todo!()
    }

    /// Where senders reach it.
    pub fn local_addr(&self) -> std::net::SocketAddr {
        todo!()
    }

    /// Where health and metrics are.
    pub fn telemetry_addr(&self) -> std::net::SocketAddr {
        todo!()
    }

    /// Runs until `shutdown` resolves, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        todo!()
    }
}
