//! A second reading of the descriptions of a job, member by member.

use super::super::json::Json;

const SECOND: u64 = 1_000_000_000;
/// 2026-03-02T09:00:00Z, when the workflow of the event was created.
const CREATED: u64 = 1_772_442_000 * SECOND;
const STARTED: u64 = CREATED + 60 * SECOND;
/// End of the job of the event.
pub(super) const JOB_ENDED: u64 = CREATED + 120 * SECOND;

/// A value, as far as the naive reading understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen<T> {
    Absent,
    Is(T),
    /// A form that this reading does not know.
    Unclear,
}

/// A job.
#[derive(Debug)]
pub(super) struct Described {
    queued: Seen<u64>,
    started: Seen<u64>,
    pub(super) is_final: bool,
    pub(super) steps: Vec<Step>,
}

/// One step of one execution.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) execution: Seen<i64>,
    pub(super) number: Seen<i64>,
    pub(super) rerun: Seen<i64>,
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) exit_code: Seen<i64>,
    pub(super) background: Option<bool>,
    pub(super) command: Option<String>,
    pub(super) start: Seen<u64>,
    pub(super) end: Seen<u64>,
}

/// Reads a response of v3; `None` if it describes no job.
pub(super) fn v3(response: &Json) -> Option<Described> {
    let attributes = response.get("data")?.get("attributes")?;
    let Json::Object(_) = attributes else { return None };
    let mut steps = Vec::new();
    let mut is_final = text(attributes, "phase").is_none_or(|phase| phase == "ended");
    for (index, execution) in (0..).zip(attributes.list("parallel_executions")) {
        for step in execution.list("steps") {
            is_final &= text(step, "phase").is_none_or(|phase| phase == "ended");
            steps.push(Step {
                execution: Seen::Is(index),
                number: integer(step, "num"),
                rerun: Seen::Absent,
                name: text(step, "name"),
                kind: text(step, "type"),
                outcome: text(step, "outcome"),
                exit_code: integer(step, "exit_code"),
                background: flag(step, "background"),
                command: text(step, "command"),
                start: time(step, "started_at"),
                end: time(step, "ended_at"),
            });
        }
    }
    Some(Described {
        queued: time(attributes, "queued_at"),
        started: time(attributes, "started_at"),
        is_final,
        steps,
    })
}

/// Reads a response of v1.1; `None` if it describes no job.
pub(super) fn v1_1(response: &Json) -> Option<Described> {
    let has = |key: &str| response.get(key).is_some_and(|value| *value != Json::Null);
    if !has("lifecycle") && !has("steps") && !has("build_num") {
        return None;
    }
    let mut steps = Vec::new();
    let mut is_final = text(response, "lifecycle").is_none_or(|word| word == "finished" || word == "not_run");
    for group in response.list("steps") {
        for action in group.list("actions") {
            let status = text(action, "status");
            is_final &= !["running", "queued", "scheduled", "not_running"]
                .iter()
                .any(|word| status.as_deref() == Some(*word));
            let raised = ["infrastructure_fail", "timedout", "failed"]
                .into_iter()
                .find(|key| flag(action, key) == Some(true));
            steps.push(Step {
                execution: match integer(action, "index") {
                    Seen::Absent => Seen::Is(0),
                    index => index,
                },
                number: integer(action, "step"),
                rerun: integer(action, "auto_rerun_number"),
                name: text(action, "name").or_else(|| text(group, "name")),
                kind: text(action, "type"),
                outcome: status.or(raised.map(str::to_owned)),
                exit_code: integer(action, "exit_code"),
                background: flag(action, "background"),
                command: text(action, "bash_command"),
                start: time(action, "start_time"),
                end: time(action, "end_time"),
            });
        }
    }
    Some(Described {
        queued: time(response, "queued_at"),
        started: time(response, "start_time"),
        is_final,
        steps,
    })
}

/// Returns the times before a job started, with their names; `None` if one of them is not understood.
pub(super) fn before_the_job(
    described: &Described,
    of_v2: &[u8],
    is_v3: bool,
    is_bare: bool,
) -> Option<Vec<(&'static str, (u64, u64))>> {
    let (created, own_start) = if is_bare { (None, None) } else { (Some(CREATED), Some(STARTED)) };
    let Some(started) = own_start.or(described.started.known()?) else { return Some(Vec::new()) };
    let mut queued = described.queued.known()?;
    if queued.is_none() && is_v3 && described.is_final {
        // Another response is asked for the time of queueing.
        queued = time(&Json::parse(of_v2)?, "queued_at").known()?;
    }
    let queued = queued.filter(|queued| *queued <= started);
    let mut times = Vec::new();
    if let Some(created) = created
        && created < queued.unwrap_or(started)
    {
        times.push(("waiting", (created, queued.unwrap_or(started))));
    }
    if let Some(queued) = queued
        && queued < started
    {
        times.push(("queued", (queued, started)));
    }
    Some(times)
}

/// Decides whether a name is that of a command: all of its text, a line of it, or the beginning of either if the name has several
/// words or was cut off.
pub(super) fn is_made_of(name: &str, command: &str) -> bool {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = name.trim_end();
    let uncut = end.trim_end_matches('…');
    let uncut = uncut.strip_suffix("...").unwrap_or(uncut);
    let (is_cut, name) = (uncut != end, squeezed(uncut));
    let rest = command.split_once('\n').map(|(_, rest)| rest);
    let texts = [command].into_iter().chain(rest).chain(command.lines());
    !name.is_empty()
        && texts
            .map(squeezed)
            .any(|text| if is_cut || name.contains(' ') { text.starts_with(&name) } else { text == name })
}

fn text(object: &Json, key: &str) -> Option<String> {
    object.get(key)?.text().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn flag(object: &Json, key: &str) -> Option<bool> {
    match object.get(key)? {
        Json::Bool(flag) => Some(*flag),
        _ => None,
    }
}

/// Reads a whole number in its usual form.
fn integer(object: &Json, key: &str) -> Seen<i64> {
    let digits = match object.get(key) {
        Some(Json::Number(digits)) => digits,
        Some(Json::Text(text)) if !text.is_empty() => text,
        _ => return Seen::Absent,
    };
    match digits.parse::<i64>() {
        Ok(number) if number.to_string() == *digits => Seen::Is(number),
        _ => Seen::Unclear,
    }
}

/// Reads a time such as `2026-03-02T09:00:00.123Z`, of the years from 1971 to 2500.
fn time(object: &Json, key: &str) -> Seen<u64> {
    match text(object, key) {
        None => Seen::Absent,
        Some(written) => nanoseconds(&written).map_or(Seen::Unclear, Seen::Is),
    }
}

fn nanoseconds(written: &str) -> Option<u64> {
    let (date, clock) = written.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let number = |text: &str, length: usize, range: std::ops::RangeInclusive<u64>| {
        let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number))
    };
    let [year, month, day] = <[&str; 3]>::try_from(date.split('-').collect::<Vec<_>>()).ok()?;
    let [hour, minute, second] = <[&str; 3]>::try_from(clock.split(':').collect::<Vec<_>>()).ok()?;
    let (year, month) = (number(year, 4, 1971..=2500)?, number(month, 2, 1..=12)?);
    let day = number(day, 2, 1..=days(year, month))?;
    let clock =
        number(hour, 2, 0..=23)? * 3600 + number(minute, 2, 0..=59)? * 60 + number(second, 2, 0..=59)?;
    let before: u64 = (1970..year).flat_map(|year| (1..=12).map(move |month| days(year, month))).sum();
    let days = before + (1..month).map(|month| days(year, month)).sum::<u64>() + day - 1;
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((days * 86_400 + clock) * SECOND + number(&nine, 9, 0..=SECOND)?)
        .filter(|_| fraction.bytes().all(|byte| byte.is_ascii_digit()))
}

fn days(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// === impl Seen ===

impl<T: Copy> Seen<T> {
    /// Returns the value, or its absence; `None` if it is unclear.
    pub(super) fn known(&self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Is(value) => Some(Some(*value)),
            Self::Unclear => None,
        }
    }
}
