//! One whole body as the export request of one signal.
//!
//! In: a body, and the signal of the path that it came to. Out: a [`Request`]. It is a line in which only one of the
//! sections means something, and which may hold nothing: empty requests are valid, and so are members that nobody
//! knows, whatever is in them.

use bytes::Bytes;

use super::super::Signal;
use super::super::json::{Cursor, Fault};
use super::super::members::member_ranges;
use super::super::splice::{Edits, Removals};
use super::super::walk::{Walk, signal_of_key};
use super::{Line, read};

/// What an export request holds.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: Line,
    /// The body, without what belongs to other signals.
    pub(crate) text: Bytes,
}

/// Reads a body that holds one request of this signal and nothing else.
pub(crate) fn read_request(signal: Signal, body: &Bytes) -> Result<Request, Fault> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(Fault::shape(error.valid_up_to(), "invalid UTF-8"));
    }
    let start = whitespace(body);
    let request = read_object(signal, &body.slice(start..)).map_err(|mut fault| {
        fault.at += start;
        fault
    })?;
    Ok(match request.text.len() == body.len() - start {
        true => Request { text: body.clone(), ..request },
        false => request,
    })
}

/// The signal of a request, by the key of its section; nothing when it has none.
pub(crate) fn signal_of(body: &Bytes) -> Option<Signal> {
    let members = member_ranges(body, whitespace(body)).ok()?;
    members.into_iter().find_map(|(key, _)| signal_of_key(body, key))
}

/// Reads the object that begins at the start of the text, and may be followed by white space only.
fn read_object(signal: Signal, given: &Bytes) -> Result<Request, Fault> {
    let outcome = read(given, &mut Vec::new());
    let plain =
        outcome.as_ref().is_ok_and(|(text, walk, end)| text.len() == *end && !has_others(walk, signal));
    let (given, (text, walk, end)) = match plain {
        true => (given.clone(), outcome?),
        // What belongs to other signals may be why it cannot be read.
        false => match own_members(signal, given)? {
            Some(own) => {
                let outcome = read(&own, &mut Vec::new())?;
                (own, outcome)
            }
            None => (given.clone(), outcome?),
        },
    };
    let rest = end + whitespace(&given[end..]);
    if rest < given.len() {
        return Err(Fault::shape(rest, "text behind the end of the request"));
    }
    Ok(Request { line: Line::new(text, walk, end)?, text: given })
}

fn has_others(walk: &Walk, signal: Signal) -> bool {
    Signal::ALL.iter().any(|other| *other != signal && walk.sections[*other as usize])
}

/// The text without the sections of other signals; nothing when it has none of them. Of two sections of its own the
/// reader would take one, and whoever wrote both would not learn that the other is lost.
fn own_members(signal: Signal, text: &Bytes) -> Result<Option<Bytes>, Fault> {
    let Ok(members) = member_ranges(text, 0) else { return Ok(None) };
    let mut edits = Edits::default();
    let mut removals = Removals::default();
    let mut own = 0;
    let mut others = 0;
    for (key, range) in members {
        match signal_of_key(text, key) {
            Some(section) if section != signal => {
                others += 1;
                removals.remove(range);
                continue;
            }
            Some(_) => own += 1,
            None => {}
        }
        if own > 1 {
            return Err(Fault::shape(range.start, "a second list of resources in one request"));
        }
        removals.keep(range, &mut edits);
    }
    removals.finish(&mut edits);
    Ok((others > 0).then(|| edits.apply(text)))
}

/// How many bytes of JSON's white space the text begins with.
fn whitespace(text: &[u8]) -> usize {
    let mut cursor = Cursor::new(text, 0);
    cursor.skip_whitespace();
    cursor.at
}
