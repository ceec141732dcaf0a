//! Loads a configuration from its sources.
//!
//! In: any number of files, `--set` arguments, the environment. Out: [`Loaded`], or the problems of all sources at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::env::Environment;
use super::field::{Diagnostics, Field};
use super::interpolate::{Interpolated, interpolate};
use super::kind::Kind as _;
use super::merge;
use super::problem::{Problem, ValueOrigin};
use super::proxy::ProxySettings;
use super::yaml::{self, Node};
use super::{Config, ConfigError, ReceiverKind, deployment, overrides};

/// Built-in configuration, used without a file.
const LOCAL: &str = include_str!("../../config/local.yaml");

/// Environment variable that names the file when the command line does not.
const FILE_VARIABLE: &str = "SPANRELAY_CONFIG";

/// Maximum size of a file in bytes: far above any configuration, a bound for reading the wrong file.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Sources of a configuration.
///
/// Not `Debug`, because a `--set` may contain a secret.
#[derive(Clone, Default)]
pub struct Sources {
    /// Values of `--config`, which are merged; later ones win. Without any, `SPANRELAY_CONFIG` in `environment` applies, else the
    /// built-in configuration.
    pub files: Vec<PathBuf>,
    /// Arguments of `--set`, in order; later ones win.
    pub set: Vec<String>,
    /// Values of variables.
    pub environment: Environment,
}

/// A configuration with notes about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Validated configuration.
    pub config: Config,
    /// Notes that are worth a log line each, but not errors. They contain no secrets.
    pub notes: Vec<String>,
    /// Files that values were replaced with (`${file:PATH}`).
    pub files: Vec<PathBuf>,
}

// === impl Config ===

impl Config {
    /// Loads and validates the configuration of a relay with these kinds of receivers.
    ///
    /// # Errors
    /// Returns every problem with its position.
    pub fn load(sources: &Sources, receivers: &'static [ReceiverKind]) -> Result<Loaded, ConfigError> {
        let Sources { files, set, environment } = sources;
        let named = environment.get_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let named: Vec<PathBuf> = named.into_iter().collect();
        let paths = if files.is_empty() { &named } else { files };
        if paths.is_empty() {
            return built_in(set, environment, receivers);
        }
        let texts = paths.iter().map(|path| {
            let name = path.display().to_string();
            let text = read(path).map_err(|what| whole(&name, what))?;
            Ok((name, text))
        });
        let texts = texts.collect::<Result<Vec<_>, ConfigError>>()?;
        from_texts(&texts, set, environment, receivers)
    }

    /// Reads a configuration from YAML, as if it were a file.
    ///
    /// # Errors
    /// Returns every problem with its line.
    pub fn from_yaml(
        yaml: &str,
        environment: &Environment,
        receivers: &'static [ReceiverKind],
    ) -> Result<Self, ConfigError> {
        let texts = [("config.yaml".to_owned(), yaml.to_owned())];
        from_texts(&texts, &[], environment, receivers).map(|loaded| loaded.config)
    }
}

/// Reads the texts of files, which are merged in this order. There is at least one.
fn from_texts(
    texts: &[(String, String)],
    set: &[String],
    environment: &Environment,
    receivers: &'static [ReceiverKind],
) -> Result<Loaded, ConfigError> {
    let (mut root, mut found, mut is_whole) = (Node::null(ValueOrigin::File), Interpolated::default(), true);
    let first = texts.first().map_or("", |(name, _)| name);
    for (index, (name, text)) in texts.iter().enumerate() {
        let mut problems = Vec::new();
        let mut parsed = yaml::parse(text, &mut problems);
        if parsed.is_none() && problems.is_empty() {
            return Err(whole(name, "is empty; at least one receiver is needed".to_owned()));
        }
        if index > 0 {
            merge::name_file(name, parsed.as_mut(), &mut problems);
        }
        found.problems.extend(problems);
        match parsed {
            Some(node) => merge::merge(&mut root, node),
            None => is_whole = false,
        }
    }
    if !is_whole {
        return Err(ConfigError::new(first, found.problems));
    }
    // What a `--set` replaces may name a variable that is not set.
    for argument in set {
        overrides::clear(&mut root, argument);
    }
    interpolate(&mut root, "", environment, &mut found);
    set_all(&mut root, set, environment, &mut found);
    finish(first, &root, found, environment, receivers)
}

fn built_in(
    set: &[String],
    environment: &Environment,
    receivers: &'static [ReceiverKind],
) -> Result<Loaded, ConfigError> {
    let mut found = Interpolated::default();
    let mut root = yaml::parse(LOCAL, &mut found.problems).unwrap_or_else(|| Node::null(ValueOrigin::File));
    deployment::apply(&mut root, environment, receivers, &mut found.problems);
    set_all(&mut root, set, environment, &mut found);
    deployment::require_signatures(&mut root, receivers);
    let mut loaded = finish("built-in config/local.yaml", &root, found, environment, receivers)?;
    loaded.notes.extend(deployment::notes(&loaded.config, environment, receivers));
    Ok(loaded)
}

/// Applies the command line to the parsed tree.
fn set_all(root: &mut Node, set: &[String], environment: &Environment, found: &mut Interpolated) {
    for argument in set {
        overrides::apply(root, argument, environment, found);
    }
}

/// Reads the complete tree.
fn finish(
    name: &str,
    root: &Node,
    found: Interpolated,
    environment: &Environment,
    receivers: &'static [ReceiverKind],
) -> Result<Loaded, ConfigError> {
    let diagnostics = Diagnostics::new(receivers);
    let field = Field::new(&diagnostics, String::new(), &root.origin, root);
    let config = Config::read(&field);
    let Interpolated { mut problems, files } = found;
    let (more, notes) = diagnostics.into_parts();
    problems.extend(more);
    let proxy = ProxySettings::read(environment, &mut problems);
    match config {
        Some(mut config) if problems.is_empty() => {
            if let Some(traces) = &mut config.telemetry.traces {
                traces.proxy = proxy.clone();
            }
            config.exporters.otlp_http.proxy = proxy;
            Ok(Loaded { config, notes, files })
        }
        _ => Err(ConfigError::new(name, problems)),
    }
}

/// Reads the text of a file.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_end(bytes)
    };
    read(&mut bytes).map_err(|error| format!("cannot read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(format!("is larger than {} KiB; is it the right file?", MAX_FILE_SIZE >> 10));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        format!("is not UTF-8: invalid bytes in line {line}")
    })
}

/// Returns an error about the file as a whole.
fn whole(name: &str, what: String) -> ConfigError {
    ConfigError::new(name, vec![Problem::new(&ValueOrigin::File, "", what)])
}

#[cfg(test)]
mod tests;
