use super::*;

pub(super) fn config_for(base: &str) -> ExporterConfig {
    todo!("{base}")
}
