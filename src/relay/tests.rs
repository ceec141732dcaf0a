mod declined;
mod otlp;
mod rereading;

use super::RequestForm;
use crate::config::Encoding;
use crate::event::Transport;

impl From<Encoding> for RequestForm {
    fn from(encoding: Encoding) -> Self {
        Self { encoding, transport: Transport::Http }
    }
}
