//! Access logs: ordinary log lines, as JSON or in NCSA's formats, turned into OTLP/JSON.
//!
//! In: the text of one line that is not OTLP. Out: an OTLP object on one line for the strict reader.
//! Promises: the result holds nothing that the line does not; the same bytes give the same result, ids included; one pass.
//! Left to others: the bounds of a line ([`super::framing`]), repairing its JSON ([`super::repair`]).

mod config;
mod fields;
mod ncsa;
mod record;
mod role;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;

use self::fields::LeftOut;
use self::record::LineRecord;
use self::role::{FieldRole, mapped_role, role};
use super::super::Withheld;
use super::framing::RESOURCE_KEYS;
use crate::otlp::json::Fault;

pub(crate) use config::{AccessLogForm, AccessLogPreset, AccessLogsConfig};

/// Fields of a JSON line by which the format is recognized: all fields of a row. The first matching row wins.
const MARKS: [(AccessLogPreset, &[&str]); 7] = [
    (AccessLogPreset::Datadog, &["ddsource"]),
    (AccessLogPreset::Coralogix, &["applicationName", "subsystemName"]),
    (AccessLogPreset::BetterStack, &["dt"]),
    (AccessLogPreset::NewRelic, &["timestamp", "time_elapsed", "cache_status"]),
    (AccessLogPreset::SumoLogic, &["service_id", "time_start"]),
    (AccessLogPreset::Fastly, &["timestamp", "request_method"]),
    (AccessLogPreset::Fastly, &["response_status", "request_method"]),
];

/// A line as OTLP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Converted {
    pub(super) json: String,
    /// Length of the text that was used.
    pub(super) length: usize,
    /// The format that was recognized.
    pub(super) preset: AccessLogPreset,
}

/// Returns the format of a line, if it is one of an access log.
pub(super) fn recognize(text: &[u8]) -> Option<AccessLogPreset> {
    let text = std::str::from_utf8(text).ok()?;
    convert(text, &AccessLogsConfig::default(), &Withheld::default()).ok().map(|converted| converted.preset)
}

/// Converts the line at the start of `text` to OTLP. An object ends with its braces, other lines with the text.
/// The values of attributes that are `withheld` are in no other place of the result.
pub(super) fn convert(
    text: &str,
    config: &AccessLogsConfig,
    withheld: &Withheld,
) -> Result<Converted, Fault> {
    let is_json = text.starts_with('{');
    let (record, length, preset) = match config.preset {
        AccessLogPreset::Ncsa if is_json => return Err(fault("not in one of NCSA's formats")),
        AccessLogPreset::Ncsa | AccessLogPreset::Auto if !is_json => from_ncsa(text, withheld)?,
        _ if !is_json => return Err(fault("not a JSON object")),
        _ => from_json(text, config, withheld)?,
    };
    if config.r#as != AccessLogForm::Logs && !record.has_time() {
        return Err(fault("access log without a time, which a span needs"));
    }
    let json = record.write(config, withheld, &text.as_bytes()[..length]);
    Ok(Converted { json, length, preset })
}

fn from_ncsa(
    text: &str,
    withheld: &Withheld,
) -> Result<(LineRecord<'static>, usize, AccessLogPreset), Fault> {
    let line = ncsa::read(text).ok_or_else(|| fault("neither a JSON object nor in one of NCSA's formats"))?;
    Ok((LineRecord::ncsa(&line, withheld), text.len(), AccessLogPreset::Ncsa))
}

fn from_json<'n>(
    text: &str,
    config: &'n AccessLogsConfig,
    withheld: &Withheld,
) -> Result<(LineRecord<'n>, usize, AccessLogPreset), Fault> {
    let is_withheld = |name: &str, is_object: bool| {
        withheld.contains(name) || withholds(name, is_object, &config.map, withheld)
    };
    let is_left_out: Option<LeftOut<'_>> = if withheld.is_empty() { None } else { Some(&is_withheld) };
    let (mut fields, length) = fields::read(text, is_left_out)?;
    let is_otlp = |name: &str| {
        let name = fields::unescaped(name);
        name.starts_with("resource")
            && RESOURCE_KEYS.contains(&name.split('.').next().unwrap_or_default().as_bytes())
    };
    if fields.iter().any(|field| is_otlp(&field.name)) {
        return Err(fault("OTLP, but not valid"));
    }
    let mut record = LineRecord::of_length(length);
    let mut is_mapped = false;
    let mapped = |name: &str| config.map.iter().find(|(_, own)| own == name);
    if !config.map.is_empty() {
        // Of several fields for an attribute the first counts, which is to be the one that the map names.
        fields.sort_by_cached_key(|field| mapped(&fields::unescaped(&field.name)).is_none());
    }
    for field in &fields {
        let name = fields::unescaped(&field.name);
        let mapped = mapped(&name);
        is_mapped |= mapped.is_some();
        let by_name = || if config.preset == AccessLogPreset::None { None } else { role(&name) };
        let role = mapped.map(|(key, _)| mapped_role(key)).or_else(by_name);
        // A rule for the field's own name: its attribute has another one.
        if role.is_none() || !withheld.contains(&name) {
            record.add(field, role, withheld);
        }
    }
    if !is_mapped && !record.is_access_log() {
        return Err(fault("neither OTLP nor an access log: no field holds a method, a URL or a status"));
    }
    let has = |name: &&str| fields.iter().any(|field| field.name == *name);
    let recognized = MARKS.iter().find(|(_, marks)| marks.iter().all(has));
    let preset = match config.preset {
        AccessLogPreset::Auto => recognized.map_or(AccessLogPreset::None, |(preset, _)| *preset),
        preset => preset,
    };
    Ok((record, length, preset))
}

/// Returns whether a field of this name can become one of these attributes, by the map or by its name. The fields of an object have
/// meanings of their own, unless the object stands for one attribute.
pub(super) fn withholds(name: &str, is_object: bool, map: &[(String, String)], withheld: &Withheld) -> bool {
    let is_withheld = |role: FieldRole<'_>| {
        role.is_withheld(withheld)
            && (!is_object || matches!(role, FieldRole::Attribute(_) | FieldRole::Host))
    };
    map.iter().any(|(key, own)| own == name && is_withheld(mapped_role(key)))
        || role(name).is_some_and(is_withheld)
}

/// Returns the ranges of a line in one of NCSA's formats that become one of these attributes; `None` for another line.
pub(super) fn withheld_in(line: &str, withheld: &Withheld) -> Option<Vec<Range<usize>>> {
    let fields = LineRecord::fields_of_ncsa(&ncsa::read(line)?);
    let withheld = fields.into_iter().filter(|(text, role)| !text.is_empty() && role.is_withheld(withheld));
    // The fields are parts of the line.
    let start = |text: &str| (text.as_ptr() as usize).checked_sub(line.as_ptr() as usize);
    withheld.map(|(text, _)| start(text).map(|start| start..start + text.len())).collect()
}

fn fault(reason: &'static str) -> Fault {
    Fault::shape(0, reason)
}
